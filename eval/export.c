#include "export.h"

#include "base/bytes.h"
#include "gguf/gguf.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST = 1024, GGML_I32 = 26 };

struct cmif_export {
    size_t    width, count, room; /* distinct rows */
    float    *rows;               /* [room][width] */
    uint32_t *slots;              /* [slot_count], a power of two: row + 1; 0: free */
    size_t    slot_count;
    int32_t  *tokens, *offsets, *labels; /* offsets [texts + 1] */
    size_t    token_count, token_room, texts, text_room;
};

cmif_code cmif_export_new(size_t width, cmif_export **out, cmif_err *err)
{
    cmif_export *e = calloc(1, sizeof *e);
    if (e) {
        e->width      = width;
        e->slot_count = 4 * FIRST;
        e->slots      = calloc(e->slot_count, sizeof *e->slots);
    }
    if (!e || !e->slots) {
        cmif_export_free(e);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for rows to train on");
    }
    *out = e;
    return CMIF_OK;
}

void cmif_export_free(cmif_export *e)
{
    if (e) {
        free(e->rows);
        free(e->slots);
        free(e->tokens);
        free(e->offsets);
        free(e->labels);
        free(e);
    }
}

size_t cmif_export_rows(const cmif_export *e)
{
    return e->count;
}

/* Room for `more` items more; false: no memory, nothing lost. */
static bool grow(void *items, size_t count, size_t more, size_t size, size_t *room)
{
    void **at = items;
    if (count + more > *room) {
        size_t wanted = *room ? *room : FIRST;
        while (wanted < count + more) {
            wanted *= 2;
        }
        void *bigger = realloc(*at, wanted * size);
        if (!bigger) {
            return false;
        }
        *at   = bigger;
        *room = wanted;
    }
    return true;
}

static size_t slot_of(const cmif_export *e, const float *row)
{
    const uint8_t *bytes = (const uint8_t *) row;
    uint64_t       hash  = 0xcbf29ce484222325u; /* FNV-1a: rows are compared whole */
    for (size_t i = 0; i < e->width * sizeof *row; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    size_t at = (size_t) (hash ^ hash >> 32) & (e->slot_count - 1);
    while (e->slots[at] && memcmp(e->rows + (e->slots[at] - 1) * e->width, row, e->width * sizeof *row) != 0) {
        at = (at + 1) & (e->slot_count - 1);
    }
    return at;
}

/* The number of a row, a new one where it is not there yet; false: no memory. */
static bool find_row(cmif_export *e, const float *row, int32_t *number)
{
    size_t slot = slot_of(e, row);
    if (e->slots[slot]) {
        *number = (int32_t) (e->slots[slot] - 1);
        return true;
    }
    if (2 * e->count >= e->slot_count) {
        uint32_t *slots = calloc(2 * e->slot_count, sizeof *slots);
        if (!slots) {
            return false;
        }
        free(e->slots);
        e->slots = slots;
        e->slot_count *= 2;
        for (size_t i = 0; i < e->count; i++) {
            e->slots[slot_of(e, e->rows + i * e->width)] = (uint32_t) i + 1;
        }
        slot = slot_of(e, row);
    }
    if (!grow(&e->rows, e->count, 1, e->width * sizeof *row, &e->room)) {
        return false;
    }
    memcpy(e->rows + e->count * e->width, row, e->width * sizeof *row);
    *number        = (int32_t) e->count++;
    e->slots[slot] = (uint32_t) e->count;
    return true;
}

cmif_code cmif_export_put(cmif_export *e, const float *rows, size_t count, uint8_t label, cmif_err *err)
{
    size_t label_room = e->text_room;
    if (count > INT32_MAX - e->token_count || e->texts == INT32_MAX - 1) {
        return cmif_fail(err, CMIF_E_RANGE, "more than 2^31 - 1 tokens to train on: name fewer texts");
    }
    bool ok = grow(&e->tokens, e->token_count, count, sizeof *e->tokens, &e->token_room) &&
              grow(&e->labels, e->texts, 2, sizeof *e->labels, &label_room) &&
              grow(&e->offsets, e->texts, 2, sizeof *e->offsets, &e->text_room);
    for (size_t i = 0; ok && i < count; i++) {
        ok = find_row(e, rows + i * e->width, &e->tokens[e->token_count + i]);
    }
    if (!ok) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for rows to train on");
    }
    e->offsets[e->texts] = (int32_t) e->token_count;
    e->labels[e->texts]  = label;
    e->token_count += count;
    e->offsets[++e->texts] = (int32_t) e->token_count;
    return CMIF_OK;
}

static cmif_code copy(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    memcpy(buffer, (const uint8_t *) context + offset, size);
    return CMIF_OK;
}

cmif_code cmif_export_write(cmif_export *e, const uint8_t model_id[static 32], const char *of, const char *path,
                            cmif_err *err)
{
    char           hex[65];
    cmif_gguf_out *out = NULL;
    if (!e->texts) {
        return cmif_fail(err, CMIF_E_RANGE, "there is no text to train on");
    }
    cmif_hex(model_id, 32, hex);
    const uint64_t rows[4] = {e->width, e->count, 1, 1}, tokens[4] = {e->token_count, 1, 1, 1},
                   offsets[4] = {e->texts + 1, 1, 1, 1}, labels[4] = {e->texts, 1, 1, 1};
    cmif_code rc = cmif_gguf_out_new(&out, err);
    rc           = rc ? rc : cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-rows", 9}, err);
    rc           = rc ? rc : cmif_gguf_put_str(out, "cmif.rows.model", (cmif_str){hex, 64}, err);
    rc           = rc ? rc : cmif_gguf_put_str(out, "cmif.rows.of", (cmif_str){of, strlen(of)}, err);
    rc           = rc ? rc : cmif_gguf_put_tensor(out, "rows", CMIF_GGML_F32, 2, rows, copy, e->rows, err);
    rc           = rc ? rc : cmif_gguf_put_tensor(out, "tokens", GGML_I32, 1, tokens, copy, e->tokens, err);
    rc           = rc ? rc : cmif_gguf_put_tensor(out, "offsets", GGML_I32, 1, offsets, copy, e->offsets, err);
    rc           = rc ? rc : cmif_gguf_put_tensor(out, "labels", GGML_I32, 1, labels, copy, e->labels, err);
    rc           = rc ? rc : cmif_gguf_write(out, path, NULL, NULL, err);
    cmif_gguf_out_free(out);
    return rc;
}
