#include "gateway/tensor.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 4, ALIGNMENT = 64, ROOM = 1024 /* for all but the rows */, PICKLE_ROOM = 256 };

/* ---- CRC-32 of ZIP (polynomial 0xedb88320), four bytes at a time ---- */

static uint32_t crc_table[4][256];

static void crc_prepare(void)
{
    if (crc_table[0][1]) {
        return;
    }
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) {
            c = c & 1 ? c >> 1 ^ UINT32_C(0xedb88320) : c >> 1;
        }
        crc_table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 4; k++) {
            crc_table[k][i] = crc_table[k - 1][i] >> 8 ^ crc_table[0][crc_table[k - 1][i] & 0xff];
        }
    }
}

static uint32_t crc_more(uint32_t crc, const uint8_t *at, size_t size)
{
    crc = ~crc;
    for (; size >= 4; size -= 4, at += 4) {
        crc ^= (uint32_t) at[0] | (uint32_t) at[1] << 8 | (uint32_t) at[2] << 16 | (uint32_t) at[3] << 24;
        crc = crc_table[3][crc & 0xff] ^ crc_table[2][crc >> 8 & 0xff] ^ crc_table[1][crc >> 16 & 0xff] ^
              crc_table[0][crc >> 24];
    }
    for (; size; size--, at++) {
        crc = crc >> 8 ^ crc_table[0][(crc ^ *at) & 0xff];
    }
    return ~crc;
}

/* ---- the pickle ---- */

static void put(cmif_writer *w, const char *bytes)
{
    cmif_write_bytes(w, bytes, strlen(bytes));
}

static void put_int(cmif_writer *w, size_t value)
{
    const size_t size = value < 256 ? 1 : value < 65536 ? 2 : 4;
    cmif_write_u8(w, size == 1 ? 'K' : size == 2 ? 'M' : 'J'); /* BININT1, BININT2, BININT */
    cmif_write_le(w, value, size);
}

static void put_text(cmif_writer *w, const char *text)
{
    cmif_write_u8(w, 'X'); /* BINUNICODE */
    cmif_write_u32(w, (uint32_t) strlen(text));
    put(w, text);
}

/* torch._utils._rebuild_tensor_v2(storage, offset 0, shape, stride, requires_grad False, OrderedDict()) */
static void put_pickle(cmif_writer *w, const char *storage, size_t count, size_t width)
{
    put(w, "\x80\x02"
           "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_text(w, "storage");
    put(w, "ctorch\n");
    put(w, storage);
    put(w, "\n");
    put_text(w, "0");
    put_text(w, "cpu");
    put_int(w, count * width);
    put(w, "tQ");
    put_int(w, 0);
    put_int(w, count);
    put_int(w, width);
    put(w, "\x86");
    put_int(w, width);
    put_int(w, 1);
    put(w, "\x86\x89"
           "ccollections\nOrderedDict\n)RtR.");
}

/* ---- the ZIP ---- */

struct entry {
    const char *name;
    const void *data; /* NULL: the rows */
    size_t      size, offset;
    uint8_t    *sum_at;
};

static void put_about(cmif_writer *w, const struct entry *e, uint8_t **sum_at)
{
    cmif_write_u16(w, 20); /* version 2.0 can read it */
    cmif_write_u16(w, 0);  /* flags; method: stored; time; date */
    cmif_write_u16(w, 0);
    cmif_write_u32(w, 0);
    *sum_at = w->data + w->at;
    cmif_write_u32(w, e->data ? crc_more(0, e->data, e->size) : 0);
    cmif_write_u32(w, (uint32_t) e->size);
    cmif_write_u32(w, (uint32_t) e->size);
    cmif_write_u16(w, (uint16_t) strlen(e->name));
}

/* Returns where its bytes are. Values begin at a multiple of 64, as torch.save has it. */
static uint8_t *put_entry(cmif_writer *w, struct entry *e)
{
    const size_t head = w->at + 30 + strlen(e->name) + 4, padding = (ALIGNMENT - head % ALIGNMENT) % ALIGNMENT;
    e->offset = w->at;
    put(w, "PK\x03\x04");
    put_about(w, e, &e->sum_at);
    cmif_write_u16(w, (uint16_t) (4 + padding));
    put(w, e->name);
    put(w, "FB");
    cmif_write_u16(w, (uint16_t) padding);
    uint8_t *room = cmif_write_room(w, padding);
    if (room) {
        memset(room, 'Z', padding);
    }
    room = cmif_write_room(w, e->size);
    if (room && e->data) {
        memcpy(room, e->data, e->size);
    }
    return room;
}

static void put_directory(cmif_writer *w, const struct entry entries[static ENTRIES], cmif_tensor *t)
{
    const size_t begin = w->at;
    uint8_t     *sum_at;
    for (const struct entry *e = entries; e < entries + ENTRIES; e++) {
        put(w, "PK\x01\x02");
        cmif_write_u16(w, 20); /* made by version 2.0 */
        put_about(w, e, &sum_at);
        cmif_write_u16(w, 0); /* extra field, comment, disk, attributes */
        cmif_write_u16(w, 0);
        cmif_write_u16(w, 0);
        cmif_write_u16(w, 0);
        cmif_write_u32(w, 0);
        cmif_write_u32(w, (uint32_t) e->offset);
        put(w, e->name);
        if (!e->data) {
            t->sum_at[0] = e->sum_at;
            t->sum_at[1] = sum_at;
        }
    }
    const size_t size = w->at - begin;
    put(w, "PK\x05\x06");
    cmif_write_u32(w, 0); /* disks */
    cmif_write_u16(w, ENTRIES);
    cmif_write_u16(w, ENTRIES);
    cmif_write_u32(w, (uint32_t) size);
    cmif_write_u32(w, (uint32_t) begin);
    cmif_write_u16(w, 0); /* comment */
}

/* ---- the whole ---- */

cmif_code cmif_tensor_new(cmif_row_type type, size_t count, size_t width, cmif_tensor *out, cmif_err *err)
{
    static const char *const storages[CMIF_ROW_TYPES] = {
        [CMIF_ROWS_F32] = "FloatStorage", [CMIF_ROWS_F16] = "HalfStorage", [CMIF_ROWS_BF16] = "BFloat16Storage"};
    const size_t row_size = storages[type] ? cmif_row_size(type, width) : 0;
    uint8_t      pickle[PICKLE_ROOM];
    cmif_tensor  t = {0};
    if (!row_size || !count) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu rows of width %zu as %s: no tensor", count, width,
                         cmif_row_type_name(type));
    }
    if (count > CMIF_TENSOR_MAX / row_size) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu tokens make more than %zu MiB of rows", count, CMIF_TENSOR_MAX >> 20);
    }
    t.rows_size = count * row_size;
    t.bytes     = malloc(t.rows_size + ROOM);
    if (!t.bytes) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows", count);
    }
    crc_prepare();
    cmif_writer p = cmif_writer_over(pickle, sizeof pickle);
    put_pickle(&p, storages[type], count, width);
    struct entry entries[ENTRIES] = {{.name = "archive/data.pkl", .data = pickle, .size = p.at},
                                     {.name = "archive/byteorder", .data = "little", .size = 6},
                                     {.name = "archive/data/0", .size = t.rows_size},
                                     {.name = "archive/version", .data = "3\n", .size = 2}};
    cmif_writer  w                = cmif_writer_over(t.bytes, t.rows_size + ROOM);
    for (size_t i = 0; i < ENTRIES; i++) {
        uint8_t *at = put_entry(&w, &entries[i]);
        t.rows      = i == 2 ? at : t.rows;
    }
    put_directory(&w, entries, &t);
    if (p.failed || w.failed) { /* the rooms above are for every shape there is */
        free(t.bytes);
        return cmif_fail(err, CMIF_E_MEMORY, "no room for a tensor's frame");
    }
    t.size = w.at;
    *out   = t;
    return CMIF_OK;
}

void cmif_tensor_filled(cmif_tensor *t, size_t size)
{
    t->sum    = crc_more(t->sum, t->rows + t->summed, size - t->summed);
    t->summed = size;
    for (int i = 0; i < 2; i++) {
        cmif_writer w = cmif_writer_over(t->sum_at[i], 4);
        cmif_write_u32(&w, t->sum);
    }
}

void cmif_tensor_free(cmif_tensor *t)
{
    free(t->bytes);
    *t = (cmif_tensor){0};
}
