#include "embed/embed.h"

#include "base/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 544, VOCAB = 50 }; /* two pieces and a bit; whole q8_0 blocks */

static char path[] = "/tmp/cmif-embed-test-XXXXXX";

typedef struct table {
    cmif_row_type type;
    uint8_t       bytes[VOCAB * WIDTH * 4];
} table;

static cmif_code table_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    memcpy(buffer, ((const table *) context)->bytes + offset, size);
    return CMIF_OK;
}

static uint32_t ggml_type(cmif_row_type type)
{
    static const uint32_t types[] = {24, CMIF_GGML_F32, CMIF_GGML_F16, CMIF_GGML_BF16, CMIF_GGML_Q8_0};
    return types[type];
}

static void fill(table *t, cmif_row_type type)
{
    float    row[WIDTH];
    uint32_t state = 3;
    t->type        = type;
    for (size_t id = 0; id < VOCAB; id++) {
        for (size_t i = 0; i < WIDTH; i++) {
            state  = state * 1664525u + 1013904223u;
            row[i] = (float) (int32_t) state / 0x1p31f;
        }
        cmif_row_encode(type, row, t->bytes + id * cmif_row_size(type, WIDTH), WIDTH);
    }
}

/* A client file with this table; scale 0 leaves the key out. The caller frees. */
static cmif_gguf *client(table *t, uint32_t type, float scale)
{
    cmif_gguf_out *out  = NULL;
    cmif_gguf     *file = NULL;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    if (scale != 0) {
        CHECK(cmif_gguf_put_f32(out, "cmif.row_scale", scale, NULL) == CMIF_OK);
    }
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", type, 2, (uint64_t[4]){WIDTH, VOCAB}, t ? table_bytes : NULL,
                               t, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(path, &file, NULL) == CMIF_OK);
    cmif_gguf_out_free(out);
    return file;
}

static int32_t  id_list[] = {0, 49, 7, 7, 13};
static cmif_ids ids       = {id_list, 5, 5};

static void every_type_comes_out_as_every_type(void)
{
    static table t;
    for (cmif_row_type stored = CMIF_ROWS_F32; stored <= CMIF_ROWS_Q8_0; stored++) {
        for (int scaled = 0; scaled < 2; scaled++) {
            float       scale = scaled ? sqrtf(WIDTH) : 1;
            cmif_embed *embed = NULL;
            fill(&t, stored);
            cmif_gguf *file = client(&t, ggml_type(stored), scaled ? scale : 0);
            CHECK(cmif_embed_open(file, &embed, NULL) == CMIF_OK);
            CHECK(embed && cmif_embed_width(embed) == WIDTH && cmif_embed_vocab(embed) == VOCAB);
            for (cmif_row_type type = CMIF_ROWS_F32; embed && type <= CMIF_ROWS_Q8_0; type++) {
                static uint8_t got[5 * WIDTH * 4], expected[WIDTH * 4];
                size_t         size = cmif_row_size(type, WIDTH), stored_size = cmif_row_size(stored, WIDTH);
                CHECK(cmif_embed_rows(embed, &ids, 1, 4, type, got, NULL) == CMIF_OK);
                for (size_t i = 0; i < 4; i++) {
                    const uint8_t *row = t.bytes + (size_t) id_list[1 + i] * stored_size;
                    if (stored == type && !scaled) { /* the very bytes */
                        CHECK(memcmp(got + i * size, row, size) == 0);
                        continue;
                    }
                    float floats[WIDTH];
                    cmif_row_decode(stored, row, floats, WIDTH);
                    for (size_t j = 0; j < WIDTH; j++) {
                        floats[j] = floats[j] * scale;
                    }
                    cmif_row_encode(type, floats, expected, WIDTH);
                    CHECK(memcmp(got + i * size, expected, size) == 0);
                }
            }
            cmif_embed_free(embed);
            cmif_gguf_free(file);
        }
    }
}

static void ids_outside_the_table_are_refused_before_anything_is_written(void)
{
    static table t;
    fill(&t, CMIF_ROWS_F32);
    cmif_gguf  *file  = client(&t, CMIF_GGML_F32, 0);
    cmif_embed *embed = NULL;
    CHECK(cmif_embed_open(file, &embed, NULL) == CMIF_OK);
    static const int32_t bad[] = {-1, VOCAB, INT32_MAX, INT32_MIN};
    static uint8_t       out[3 * WIDTH * 4], untouched[3 * WIDTH * 4];
    memset(out, 0x55, sizeof out);
    memset(untouched, 0x55, sizeof out);
    for (size_t i = 0; i < 4; i++) {
        int32_t  list[] = {1, 2, bad[i]};
        cmif_ids mixed  = {list, 3, 3};
        cmif_err err    = {0};
        CHECK(cmif_embed_rows(embed, &mixed, 0, 3, CMIF_ROWS_F32, out, &err) == CMIF_E_RANGE);
        CHECK(memcmp(out, untouched, sizeof out) == 0 && strstr(err.text, "token 2 "));
    }
    CHECK(cmif_embed_rows(embed, &ids, 4, 2, CMIF_ROWS_F32, out, NULL) == CMIF_E_RANGE);
    CHECK(cmif_embed_rows(embed, &ids, 6, 0, CMIF_ROWS_F32, out, NULL) == CMIF_E_RANGE);
    CHECK(cmif_embed_rows(embed, &ids, SIZE_MAX, 2, CMIF_ROWS_F32, out, NULL) == CMIF_E_RANGE);
    CHECK(cmif_embed_rows(embed, &ids, 2, SIZE_MAX, CMIF_ROWS_F32, out, NULL) == CMIF_E_RANGE);
    CHECK(cmif_embed_rows(embed, &ids, 0, 1, CMIF_ROWS_ID, out, NULL) == CMIF_E_RANGE);
    CHECK(cmif_embed_rows(embed, &ids, 0, 1, (cmif_row_type) 9, out, NULL) == CMIF_E_RANGE);
    CHECK(memcmp(out, untouched, sizeof out) == 0);
    CHECK(cmif_embed_rows(embed, &ids, 5, 0, CMIF_ROWS_F32, out, NULL) == CMIF_OK);
    cmif_embed_free(embed);
    cmif_gguf_free(file);
}

static void files_without_a_table_we_read_are_refused(void)
{
    cmif_err    err   = {0};
    cmif_embed *embed = NULL;
    cmif_gguf  *file  = client(NULL, 2, 0); /* q4_0 */
    CHECK(cmif_embed_open(file, &embed, &err) == CMIF_E_UNSUPPORTED && strstr(err.text, "q4_0") && !embed);
    cmif_gguf_free(file);
    static const float scales[] = {-1, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++) {
        file = client(NULL, CMIF_GGML_F32, scales[i]);
        CHECK(cmif_embed_open(file, &embed, &err) == CMIF_E_FORMAT && !embed);
        cmif_gguf_free(file);
    }
    cmif_gguf_out *out = NULL;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK && cmif_gguf_open(path, &file, NULL) == CMIF_OK);
    CHECK(cmif_embed_open(file, &embed, &err) == CMIF_E_FORMAT && strstr(err.text, "token_embd.weight") && !embed);
    cmif_gguf_free(file);
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", 0, 1, (uint64_t[4]){64}, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK && cmif_gguf_open(path, &file, NULL) == CMIF_OK);
    CHECK(cmif_embed_open(file, &embed, &err) == CMIF_E_FORMAT && strstr(err.text, "1 dimensions") && !embed);
    cmif_gguf_free(file);
    cmif_gguf_out_free(out);
}

typedef struct beside { /* rows beside the table: the first `have` of them are there */
    size_t have, asked;
} beside;

static bool give_more(void *context, size_t index, float *row)
{
    beside *b = context;
    b->asked++;
    for (size_t i = 0; i < WIDTH; i++) {
        row[i] = (float) (index + 1) + (float) i / WIDTH;
    }
    return index < b->have;
}

static void ids_beyond_the_vocabulary_are_asked_for_and_scaled_and_encoded_like_others(void)
{
    static table   t;
    static uint8_t got[4 * WIDTH * 4], expected[WIDTH * 4], untouched[sizeof got];
    int32_t        list[] = {3, VOCAB, 4, VOCAB + 6};
    cmif_ids       mixed  = {list, 4, 4};
    memset(untouched, 0x55, sizeof untouched);
    for (int scaled = 0; scaled < 2; scaled++) {
        for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_Q8_0; type++) {
            beside      b     = {.have = 7};
            float       scale = scaled ? 1.7f : 1;
            cmif_embed *embed = NULL;
            fill(&t, type);
            cmif_gguf *file = client(&t, ggml_type(type), scale);
            size_t     size = cmif_row_size(type, WIDTH);
            cmif_err   err  = {0};
            CHECK(cmif_embed_open(file, &embed, NULL) == CMIF_OK);
            cmif_embed_set_more(embed, give_more, &b);
            CHECK(cmif_embed_rows(embed, &mixed, 1, 3, type, got, NULL) == CMIF_OK && b.asked == 2);
            for (size_t i = 1; i < 4; i += 2) {
                float floats[WIDTH];
                (void) give_more(&b, (size_t) list[i] - VOCAB, floats);
                for (size_t j = 0; j < WIDTH; j++) {
                    floats[j] = floats[j] * scale;
                }
                cmif_row_encode(type, floats, expected, WIDTH);
                CHECK(memcmp(got + (i - 1) * size, expected, size) == 0);
            }
            CHECK(cmif_embed_rows(embed, &mixed, 2, 1, type, expected, NULL) == CMIF_OK);
            CHECK(memcmp(got + size, expected, size) == 0);

            b.have = 6; /* the last is not there: nothing is written */
            memset(got, 0x55, sizeof got);
            CHECK(cmif_embed_rows(embed, &mixed, 0, 4, type, got, &err) == CMIF_E_RANGE);
            CHECK(memcmp(got, untouched, sizeof got) == 0 && strstr(err.text, "token 3 "));
            CHECK(cmif_embed_rows(embed, &mixed, 0, 1, CMIF_ROWS_ID, got, NULL) == CMIF_E_RANGE);
            list[0] = -1;
            CHECK(cmif_embed_rows(embed, &mixed, 0, 2, type, got, NULL) == CMIF_E_RANGE);
            list[0] = 3;
            cmif_embed_set_more(embed, NULL, NULL);
            CHECK(cmif_embed_rows(embed, &mixed, 0, 2, type, got, NULL) == CMIF_E_RANGE);
            CHECK(memcmp(got, untouched, sizeof got) == 0);
            cmif_embed_free(embed);
            cmif_gguf_free(file);
        }
    }
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0) {
        perror(path);
        return 1;
    }
    close(fd);
    RUN(every_type_comes_out_as_every_type);
    RUN(ids_outside_the_table_are_refused_before_anything_is_written);
    RUN(ids_beyond_the_vocabulary_are_asked_for_and_scaled_and_encoded_like_others);
    RUN(files_without_a_table_we_read_are_refused);
    unlink(path);
    return check_report();
}
