#include "embed/embed.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 256 }; /* floats of a row at once: whole q8_0 blocks, and no allocation for a look-up */

struct cmif_embed {
    const uint8_t *rows; /* borrowed from the file */
    size_t         row_size;
    cmif_row_type  type; /* as stored */
    size_t         width, vocab;
    float          scale;

    cmif_embed_more more; /* NULL: there are no rows beside the table */
    void           *more_context;
};

static cmif_row_type stored_type(uint32_t ggml_type)
{
    switch (ggml_type) {
    case CMIF_GGML_F32:
        return CMIF_ROWS_F32;
    case CMIF_GGML_F16:
        return CMIF_ROWS_F16;
    case CMIF_GGML_BF16:
        return CMIF_ROWS_BF16;
    case CMIF_GGML_Q8_0:
        return CMIF_ROWS_Q8_0;
    default:
        return CMIF_ROWS_ID;
    }
}

cmif_code cmif_embed_open(const cmif_gguf *file, cmif_embed **out, cmif_err *err)
{
    const cmif_gguf_tensor *tensor = cmif_gguf_find_tensor(file, "token_embd.weight");
    if (!tensor) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "no embedding table (tensor 'token_embd.weight'): is this the client file of a split?");
    }
    cmif_row_type type = stored_type(tensor->type);
    if (type == CMIF_ROWS_ID) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the embedding table has type %s, only f32, f16, bf16 and q8_0 are read: "
                         "`cmif split` writes one of these",
                         cmif_ggml_type_name(tensor->type));
    }
    size_t row_size = cmif_row_size(type, tensor->shape[0]);
    if (tensor->dims != 2 || row_size == 0 || tensor->shape[1] > INT32_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the embedding table has %u dimensions, %llu x %llu; expected 2, a width of at most 65536",
                         tensor->dims, (unsigned long long) tensor->shape[0], (unsigned long long) tensor->shape[1]);
    }
    float scale = 1;
    if (cmif_gguf_find(file, "cmif.row_scale")) {
        cmif_code rc = cmif_gguf_get_f32(file, "cmif.row_scale", &scale, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (!isfinite(scale) || scale <= 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "key 'cmif.row_scale' is not a positive number");
        }
    }
    cmif_embed *table = calloc(1, sizeof *table);
    if (!table) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the embedding table's header");
    }
    *table = (cmif_embed){.rows     = tensor->data,
                          .row_size = row_size,
                          .type     = type,
                          .width    = (size_t) tensor->shape[0],
                          .vocab    = (size_t) tensor->shape[1],
                          .scale    = scale};
    *out   = table;
    return CMIF_OK;
}

void cmif_embed_free(cmif_embed *table)
{
    free(table);
}

size_t cmif_embed_width(const cmif_embed *table)
{
    return table->width;
}

cmif_row_type cmif_embed_exact_type(const cmif_embed *table)
{
    return table->scale == 1 ? table->type : CMIF_ROWS_F32;
}

size_t cmif_embed_vocab(const cmif_embed *table)
{
    return table->vocab;
}

void cmif_embed_set_more(cmif_embed *table, cmif_embed_more more, void *context)
{
    table->more         = more;
    table->more_context = context;
}

void cmif_embed_get(const cmif_embed *table, size_t id, float *row)
{
    cmif_row_decode(table->type, table->rows + id * table->row_size, row, table->width);
}

/* One row, converted piece by piece. The product is rounded once, to a float, as the engine does it. */
static void convert_row(const cmif_embed *table, const uint8_t *row, cmif_row_type type, uint8_t *out)
{
    float floats[PIECE];
    for (size_t at = 0; at < table->width; at += PIECE) {
        size_t width = table->width - at < PIECE ? table->width - at : PIECE;
        cmif_row_decode(table->type, row, floats, width);
        for (size_t i = 0; i < width; i++) {
            floats[i] *= table->scale;
        }
        cmif_row_encode(type, floats, out, width);
        row += cmif_row_size(table->type, width);
        out += cmif_row_size(type, width);
    }
}

/* The rows of ids beyond the vocabulary, scaled, in order: asked for before anything is written. NULL if there are
 * none. */
static cmif_code ask_more(const cmif_embed *table, const int32_t *ids, size_t count, float **out, cmif_err *err)
{
    cmif_code rc     = CMIF_OK;
    float    *floats = NULL, *row;
    size_t    beyond = 0, size;

    for (size_t i = 0; i < count; i++) {
        beyond += ids[i] >= 0 && (size_t) ids[i] >= table->vocab;
    }
    if (beyond == 0 || !table->more) {
        return CMIF_OK;
    }
    if (!cmif_size_mul(beyond, table->width * sizeof *floats, &size) || !(floats = malloc(size))) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows beside the table", beyond);
    }
    row = floats;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t) ids[i] < table->vocab) {
            continue;
        }
        if (!table->more(table->more_context, (size_t) ids[i] - table->vocab, row)) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "token %zu stands for a row that is not there any more: encode the text again", i);
            goto done;
        }
        for (size_t j = 0; j < table->width; j++) {
            row[j] *= table->scale;
        }
        row += table->width;
    }
    *out   = floats;
    floats = NULL;
done:
    free(floats);
    return rc;
}

cmif_code cmif_embed_rows(const cmif_embed *table, const cmif_ids *ids, size_t first, size_t count, cmif_row_type type,
                          void *out, cmif_err *err)
{
    size_t size = type == CMIF_ROWS_ID ? 0 : cmif_row_size(type, table->width);
    if (size == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "rows of %zu numbers cannot be sent as %s: choose another row type",
                         table->width, cmif_row_type_name(type) ? cmif_row_type_name(type) : "that type");
    }
    if (first > ids->count || count > ids->count - first) {
        return cmif_fail(err, CMIF_E_RANGE, "tokens %zu to %zu were asked for, there are %zu", first, first + count,
                         ids->count);
    }
    for (size_t i = first; i < first + count; i++) {
        if (ids->at[i] < 0 || ((size_t) ids->at[i] >= table->vocab && !table->more)) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "token %zu is not in the table of %zu: tokenizer and table do not belong together", i,
                             table->vocab);
        }
    }
    float    *beyond = NULL;
    cmif_code rc     = ask_more(table, ids->at ? ids->at + first : NULL, count, &beyond, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    bool         same = type == table->type && table->scale == 1;
    uint8_t     *to   = out;
    const float *next = beyond;
    for (size_t i = first; i < first + count; i++, to += size) {
        if ((size_t) ids->at[i] >= table->vocab) {
            cmif_row_encode(type, next, to, table->width);
            next += table->width;
            continue;
        }
        const uint8_t *row = table->rows + (size_t) ids->at[i] * table->row_size;
        if (same) {
            memcpy(to, row, size);
        } else {
            convert_row(table, row, type, to);
        }
    }
    free(beyond);
    return CMIF_OK;
}
