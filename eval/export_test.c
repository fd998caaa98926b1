#include "export.h"

#include "base/check.h"
#include "gguf/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 5, TEXTS = 3000 };

static const uint8_t model[32] = {0xab, 1};
static char          path[64];

/* Rows of which many are alike: row k is k in every place, and 1/3 in its last one. */
static void make_row(uint32_t k, float *row)
{
    for (size_t i = 0; i < WIDTH; i++) {
        row[i] = i + 1 < WIDTH ? (float) k : 1.0f / 3;
    }
}

static uint32_t kind_of(size_t text, size_t token)
{
    return (uint32_t) (text * 7 + token * token * 13) % 2111;
}

static int32_t item(const cmif_gguf *file, const char *name, size_t index)
{
    const cmif_gguf_tensor *t = cmif_gguf_find_tensor(file, name);
    int32_t                 value;
    memcpy(&value, t->data + index * sizeof value, sizeof value);
    return value;
}

static void every_token_of_every_text_finds_its_row(void)
{
    cmif_export *e    = NULL;
    cmif_gguf   *file = NULL;
    float        rows[16 * WIDTH];
    cmif_str     of;
    uint8_t      id[32];
    size_t       tokens = 0, wrong = 0;
    CHECK(cmif_export_new(WIDTH, &e, NULL) == CMIF_OK);
    CHECK(cmif_export_write(e, model, "nothing", path, NULL) == CMIF_E_RANGE && access(path, F_OK) != 0);
    for (size_t t = 0; t < TEXTS; t++) {
        size_t count = t % 16; /* a text of no token, too */
        for (size_t i = 0; i < count; i++) {
            make_row(kind_of(t, i), rows + i * WIDTH);
        }
        CHECK(cmif_export_put(e, rows, count, (uint8_t) (t % 3), NULL) == CMIF_OK);
        tokens += count;
    }
    CHECK(cmif_export_rows(e) <= 2111 && cmif_export_rows(e) > 2000);
    CHECK(cmif_export_write(e, model, "bayes rows of a table", path, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(path, &file, NULL) == CMIF_OK);
    CHECK(cmif_gguf_get_str(file, "cmif.rows.of", &of, NULL) == CMIF_OK && cmif_str_is(of, "bayes rows of a table"));
    CHECK(cmif_gguf_get_hash(file, "cmif.rows.model", id, NULL) == CMIF_OK && !memcmp(id, model, 32));
    const cmif_gguf_tensor *all = cmif_gguf_find_tensor(file, "rows");
    CHECK(all && all->shape[0] == WIDTH && all->shape[1] == cmif_export_rows(e));
    CHECK(cmif_gguf_find_tensor(file, "tokens")->shape[0] == tokens);
    CHECK(cmif_gguf_find_tensor(file, "offsets")->shape[0] == TEXTS + 1);
    CHECK(cmif_gguf_find_tensor(file, "labels")->shape[0] == TEXTS);
    for (size_t t = 0; t < TEXTS; t++) {
        int32_t from = item(file, "offsets", t), to = item(file, "offsets", t + 1);
        wrong += to - from != (int32_t) (t % 16) || item(file, "labels", t) != (int32_t) (t % 3);
        for (int32_t i = from; i < to; i++) {
            float row[WIDTH];
            make_row(kind_of(t, (size_t) (i - from)), row);
            size_t number = (size_t) item(file, "tokens", (size_t) i);
            wrong += number >= cmif_export_rows(e) || memcmp(all->data + number * sizeof row, row, sizeof row) != 0;
        }
    }
    CHECK(wrong == 0);
    cmif_gguf_free(file);
    cmif_export_free(e);
    unlink(path);
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/cmif-export-test-%d.gguf", (int) getpid());
    RUN(every_token_of_every_text_finds_its_row);
    return check_report();
}
