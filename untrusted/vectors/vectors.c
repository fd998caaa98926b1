/* The low-level interface keeps its state on the stack: nothing that can fail. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "vectors/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_MAX = 65536 };

/* Keys of the file that keeps vectors. */
static const char architecture[] = "cmif-vectors";
static const char key_lexicon[]  = "cmif-vectors.lexicon"; /* [32 x u8] meaning_hash of the lexicon */
static const char key_recipe[]   = "cmif-vectors.recipe";  /* str */
static const char key_sum[]      = "cmif-vectors.sum"; /* [32 x u8] SHA-256 over cmif_vectors.hash and the valences */

cmif_code cmif_vectors_new(uint32_t count, uint32_t width, cmif_vectors **out, cmif_err *err)
{
    if (count == 0 || width == 0 || width > WIDTH_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "vectors of %u words and width %u: expected words, and a width of 1 to %d",
                         count, width, WIDTH_MAX);
    }
    cmif_vectors *vectors = calloc(1, sizeof *vectors);
    if (vectors) {
        *vectors = (cmif_vectors){.count = count,
                                  .width = width,
                                  .rows  = calloc((size_t) count * width, sizeof(float)),
                                  .known = calloc(count, 1)};
    }
    if (!vectors || !vectors->rows || !vectors->known) {
        cmif_vectors_free(vectors);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for vectors of %u words and width %u", count, width);
    }
    *out = vectors;
    return CMIF_OK;
}

void cmif_vectors_free(cmif_vectors *vectors)
{
    if (vectors) {
        free(vectors->rows);
        free(vectors->known);
        free(vectors);
    }
}

static void put_u32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t) (value >> 8 * i);
    }
}

cmif_code cmif_vectors_seal(cmif_vectors *vectors, cmif_err *err)
{
    uint8_t    head[8];
    SHA256_CTX sha;

    for (uint32_t word = 0; word < vectors->count; word++) {
        float *row = vectors->rows + (size_t) word * vectors->width;
        if (!vectors->known[word]) {
            memset(row, 0, vectors->width * sizeof *row);
            continue;
        }
        for (uint32_t i = 0; i < vectors->width; i++) {
            if (!isfinite(row[i])) {
                return cmif_fail(err, CMIF_E_RANGE, "vector of word %u: number %u is not finite", word, i);
            }
        }
    }
    put_u32(head, vectors->count);
    put_u32(head + 4, vectors->width);
    SHA256_Init(&sha);
    SHA256_Update(&sha, head, sizeof head);
    SHA256_Update(&sha, vectors->rows, (size_t) vectors->count * vectors->width * sizeof *vectors->rows);
    SHA256_Update(&sha, vectors->known, vectors->count);
    SHA256_Final(vectors->hash, &sha);
    return CMIF_OK;
}

/* ---- text files ---- */

/* Word 0 is none; 0 also means that the word is not there. */
static uint32_t find_word(const cmif_lexicon *lexicon, const char *word, size_t size)
{
    uint32_t low = 1, high = lexicon->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const cmif_str s      = lexicon->words[middle];
        const size_t   common = s.size < size ? s.size : size;
        const int      order  = memcmp(s.data, word, common);
        if (order == 0 && s.size == size) {
            return middle;
        }
        if (order < 0 || (order == 0 && s.size < size)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return 0;
}

/* The field at *at, which moves behind it; false: none is left. A field ends at a space or a tab. */
static bool next_field(char **at, char **field, size_t *size)
{
    char *p = *at + strspn(*at, " \t");
    *size   = strcspn(p, " \t");
    *field  = p;
    *at     = p + *size;
    return *size != 0;
}

static bool read_count(const char *field, size_t size, uint64_t *out)
{
    uint64_t value = 0;
    if (size == 0 || size > 18) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (field[i] < '0' || field[i] > '9') {
            return false;
        }
        value = 10 * value + (uint64_t) (field[i] - '0');
    }
    *out = value;
    return true;
}

/* "count width": two whole numbers and nothing else. */
static bool read_header(char *line, uint64_t *count, uint64_t *width)
{
    char  *at = line, *a, *b, *c;
    size_t a_size, b_size, c_size;
    return next_field(&at, &a, &a_size) && next_field(&at, &b, &b_size) && !next_field(&at, &c, &c_size) &&
           read_count(a, a_size, count) && read_count(b, b_size, width);
}

static uint64_t count_fields(char *at)
{
    char    *field;
    size_t   size;
    uint64_t fields = 0;
    while (next_field(&at, &field, &size)) {
        fields++;
    }
    return fields;
}

/* Numbers of one line into row (width floats), or checked only when row is NULL. */
static cmif_code read_numbers(char *at, uint64_t line, uint64_t width, float *row, cmif_err *err)
{
    char    *field, *end;
    size_t   size;
    uint64_t found = 0;
    for (; next_field(&at, &field, &size); found++) {
        const float value = strtof(field, &end);
        if (found < width && (end != field + size || !isfinite(value))) {
            return cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 ": number %" PRIu64 " is not a finite number", line,
                             found + 1);
        }
        if (row && found < width) {
            row[found] = value;
        }
    }
    if (found != width) {
        return cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 " has %" PRIu64 " numbers, the lines before have %" PRIu64,
                         line, found, width);
    }
    return CMIF_OK;
}

static cmif_code read_file(FILE *file, const cmif_lexicon *lexicon, cmif_vectors **out, cmif_err *err)
{
    cmif_code     rc       = CMIF_OK;
    cmif_vectors *vectors  = NULL;
    char         *text     = NULL;
    size_t        capacity = 0;
    uint64_t      line = 0, lines = 0, claimed = 0, width = 0;
    bool          header = false;
    ssize_t       got;

    while ((got = getline(&text, &capacity, file)) >= 0) {
        line++;
        while (got > 0 && (text[got - 1] == '\n' || text[got - 1] == '\r')) {
            text[--got] = 0;
        }
        if (strlen(text) != (size_t) got) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 " holds a zero byte: this is not a text file", line);
            goto done;
        }
        if (line == 1 && read_header(text, &claimed, &width)) {
            header = true;
            continue;
        }
        char  *at = text, *word;
        size_t size;
        if (!next_field(&at, &word, &size)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 " is empty", line);
            goto done;
        }
        if (!vectors) {
            width = header ? width : count_fields(at);
            if (width == 0 || width > WIDTH_MAX) {
                rc = cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 ": vectors of width %" PRIu64 ", expected 1 to %d",
                               line, width, WIDTH_MAX);
                goto done;
            }
            rc = cmif_vectors_new(lexicon->count, (uint32_t) width, &vectors, err);
            if (rc != CMIF_OK) {
                goto done;
            }
        }
        lines++;
        const uint32_t id = find_word(lexicon, word, size);
        if (id && vectors->known[id]) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "line %" PRIu64 ": the word '%.*s' is there twice", line, (int) size,
                           word);
            goto done;
        }
        rc = read_numbers(at, line, width, id ? vectors->rows + id * width : NULL, err);
        if (rc != CMIF_OK) {
            goto done;
        }
        vectors->known[id] = id != 0;
    }
    if (ferror(file)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot be read after line %" PRIu64 ": %s", line, strerror(errno));
    } else if (!vectors) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "holds no vectors");
    } else if (header && lines != claimed) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the first line says %" PRIu64 " words, the file has %" PRIu64, claimed,
                       lines);
    } else {
        rc = cmif_vectors_seal(vectors, err);
    }
    if (rc == CMIF_OK) {
        *out    = vectors;
        vectors = NULL;
    }
done:
    free(text);
    cmif_vectors_free(vectors);
    return rc;
}

cmif_code cmif_vectors_of_file(const cmif_lexicon *lexicon, const char *path, cmif_vectors **out, cmif_err *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    const cmif_code rc = read_file(file, lexicon, out, err);
    fclose(file);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "vectors '%s'", path);
    }
    return rc;
}

/* ---- keeping ---- */

static void sum_up(const cmif_vectors *vectors, const void *valence, uint8_t out[static 32])
{
    SHA256_CTX sha;
    SHA256_Init(&sha);
    SHA256_Update(&sha, vectors->hash, sizeof vectors->hash);
    if (valence) {
        SHA256_Update(&sha, valence, vectors->count * sizeof(float));
    }
    SHA256_Final(out, &sha);
}

static cmif_code copy_from(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    memcpy(buffer, (const uint8_t *) context + offset, size);
    return CMIF_OK;
}

cmif_code cmif_vectors_save(const cmif_vectors *vectors, const float *valence, const cmif_lexicon *lexicon,
                            const char *recipe, const char *path, cmif_err *err)
{
    enum { GGML_I8 = 24 };
    cmif_code      rc   = CMIF_OK;
    cmif_gguf_out *file = NULL;
    uint8_t        sum[32];
    const uint64_t rows_shape[4] = {vectors->width, vectors->count, 1, 1}, word_shape[4] = {vectors->count, 1, 1, 1};

    if (vectors->count != lexicon->count) {
        return cmif_fail(err, CMIF_E_RANGE, "vectors of %u words, the lexicon has %u", vectors->count, lexicon->count);
    }
    sum_up(vectors, valence, sum);
    rc = cmif_gguf_out_new(&file, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(file, "general.architecture", (cmif_str){architecture, sizeof architecture - 1}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(file, key_recipe, (cmif_str){recipe, strlen(recipe)}, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(file, key_lexicon, CMIF_GGUF_U8, lexicon->meaning_hash, sizeof lexicon->meaning_hash,
                                 err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_array(file, key_sum, CMIF_GGUF_U8, sum, sizeof sum, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_tensor(file, "rows", CMIF_GGML_F32, 2, rows_shape, copy_from, vectors->rows, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_tensor(file, "known", GGML_I8, 1, word_shape, copy_from, vectors->known, err);
    }
    if (rc == CMIF_OK && valence) {
        rc = cmif_gguf_put_tensor(file, "valence", CMIF_GGML_F32, 1, word_shape, copy_from,
                                  (void *) (uintptr_t) valence, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(file, path, NULL, NULL, err);
    }
    cmif_gguf_out_free(file);
    return rc;
}

static cmif_code get_hash(const cmif_gguf *file, const char *key, const uint8_t **hash, cmif_err *err)
{
    size_t    count = 0;
    cmif_code rc    = cmif_gguf_get_array(file, key, CMIF_GGUF_U8, hash, &count, err);
    if (rc == CMIF_OK && count != 32) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' has %zu bytes, expected 32", key, count);
    }
    return rc;
}

static cmif_code take(const cmif_gguf *file, const cmif_lexicon *lexicon, const char *recipe, cmif_vectors **out,
                      float *valence, cmif_err *err)
{
    cmif_code               rc;
    cmif_vectors           *vectors = NULL;
    cmif_str                name, made_by;
    const uint8_t          *lexicon_hash = NULL, *sum = NULL;
    uint8_t                 found[32];
    const cmif_gguf_tensor *rows = cmif_gguf_find_tensor(file, "rows"), *known = cmif_gguf_find_tensor(file, "known"),
                           *values = cmif_gguf_find_tensor(file, "valence");

    rc = cmif_gguf_get_str(file, "general.architecture", &name, err);
    if (rc == CMIF_OK && !cmif_str_is(name, architecture)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "is a '%.*s' file, expected '%s'", (int) (name.size < 64 ? name.size : 64),
                       name.data, architecture);
    }
    if (rc == CMIF_OK) {
        rc = get_hash(file, key_lexicon, &lexicon_hash, err);
    }
    if (rc == CMIF_OK && memcmp(lexicon_hash, lexicon->meaning_hash, 32) != 0) {
        rc =
            cmif_fail(err, CMIF_E_FORMAT, "was made for another lexicon (%02x%02x%02x..., this one is %02x%02x%02x...)",
                      lexicon_hash[0], lexicon_hash[1], lexicon_hash[2], lexicon->meaning_hash[0],
                      lexicon->meaning_hash[1], lexicon->meaning_hash[2]);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(file, key_recipe, &made_by, err);
    }
    if (rc == CMIF_OK && !cmif_str_is(made_by, recipe)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "was made by the recipe '%.*s', expected '%s'",
                       (int) (made_by.size < 64 ? made_by.size : 64), made_by.data, recipe);
    }
    if (rc == CMIF_OK) {
        rc = get_hash(file, key_sum, &sum, err);
    }
    if (rc == CMIF_OK && (!rows || rows->type != CMIF_GGML_F32 || rows->dims != 2 || rows->shape[0] > WIDTH_MAX ||
                          rows->shape[1] != lexicon->count || !known || known->size != lexicon->count)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "expected tensors 'rows' (width, %u) of f32 and 'known' (%u) of i8",
                       lexicon->count, lexicon->count);
    }
    if (rc == CMIF_OK &&
        (values ? values->type != CMIF_GGML_F32 || values->size != lexicon->count * sizeof(float) : valence != NULL)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "expected a tensor 'valence' (%u) of f32", lexicon->count);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(lexicon->count, (uint32_t) rows->shape[0], &vectors, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    memcpy(vectors->rows, rows->data, rows->size);
    memcpy(vectors->known, known->data, known->size);
    rc = cmif_vectors_seal(vectors, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    sum_up(vectors, values ? values->data : NULL, found);
    if (memcmp(sum, found, 32) != 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "damaged: its contents have the hash %02x%02x%02x..., it says %02x%02x%02x...; make it again",
                       found[0], found[1], found[2], sum[0], sum[1], sum[2]);
        goto done;
    }
    if (valence) {
        memcpy(valence, values->data, values->size);
    }
    *out    = vectors;
    vectors = NULL;
done:
    cmif_vectors_free(vectors);
    return rc;
}

cmif_code cmif_vectors_open(const char *path, const cmif_lexicon *lexicon, const char *recipe, cmif_vectors **out,
                            float *valence, cmif_err *err)
{
    cmif_gguf *file = NULL;
    cmif_code  rc   = cmif_gguf_open(path, &file, err);
    if (rc == CMIF_OK) {
        rc = take(file, lexicon, recipe, out, valence, err);
        if (rc != CMIF_OK) {
            cmif_err_context(err, "vectors '%s'", path);
        }
    }
    cmif_gguf_free(file);
    return rc;
}
