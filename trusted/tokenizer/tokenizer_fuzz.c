/* Two properties. First byte even: the rest is a text, cut into two parts; encoding never faults, cutting changes
 * nothing, and what byte-level BPE makes of valid UTF-8 decodes to the same bytes. First byte odd: the rest is a model
 * file; opening it never faults, nor does using what was opened. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

#define MODELS CMIF_ENGINE_SOURCE "/models/ggml-vocab-"

static const char *const names[] = {"gpt-2", "llama-spm", "bert-bge", "deepseek-coder", "mpt"};
enum { VOCABULARIES = sizeof names / sizeof names[0] };

static cmif_gguf      *files[VOCABULARIES]; /* kept: the tokenizers borrow from them */
static cmif_tokenizer *tokenizers[VOCABULARIES];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void) argc;
    (void) argv;
    for (size_t i = 0; i < VOCABULARIES; i++) {
        char path[512];
        snprintf(path, sizeof path, MODELS "%s.gguf", names[i]);
        if (cmif_gguf_open(path, &files[i], NULL) != CMIF_OK ||
            cmif_tokenizer_open(files[i], &tokenizers[i], NULL) != CMIF_OK) {
            fprintf(stderr, "cannot open %s\n", path);
            exit(1);
        }
    }
    return 0;
}

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static cmif_ids encode(cmif_tokenizer *t, const cmif_released *text, const size_t cuts[], size_t count)
{
    cmif_ids  ids      = {0};
    cmif_part parts[4] = {0};
    for (size_t i = 0; i < count; i++) {
        parts[i] = (cmif_part){.text = text, .from = cuts[i], .size = cuts[i + 1] - cuts[i]};
    }
    require(cmif_tokenizer_encode(t, parts, count, &ids, NULL) == CMIF_OK);
    return ids;
}

static void try_text(cmif_tokenizer *t, const uint8_t *data, size_t size, size_t cut)
{
    cmif_released *text = NULL;
    cut                 = size ? cut % (size + 1) : 0;
    require(cmif_dp_release_identity(data, size, &text, NULL) == CMIF_OK);
    cmif_ids whole = encode(t, text, (size_t[]){0, size}, 1);
    cmif_ids parts = encode(t, text, (size_t[]){0, cut, cut, size}, 3);
    require(whole.count == parts.count &&
            (!whole.count || !memcmp(whole.at, parts.at, whole.count * sizeof whole.at[0])));
    for (size_t i = 0; i < whole.count; i++) {
        require(whole.at[i] >= 0 && (size_t) whole.at[i] < t->vocab);
        require(!(t->attrs[whole.at[i]] & ATTR_CONTROL) || whole.at[i] == t->unk);
    }
    uint8_t *clean = NULL;
    size_t   clean_size;
    require(tok_clean(data, size, &clean, &clean_size, NULL) == CMIF_OK);
    if (t == tokenizers[0] && !clean) {
        char  *back = malloc(size + 512);
        size_t at   = 0;
        require(back != NULL);
        for (size_t i = 0; i < whole.count && at <= size; i++) {
            at += cmif_tokenizer_decode(t, whole.at[i], false, back + at, size + 512 - at);
        }
        require(at == size && (!size || memcmp(back, data, size) == 0));
        free(back);
    }
    free(clean);
    cmif_ids_free(&whole);
    cmif_ids_free(&parts);
    cmif_released_free(text);
}

static void try_file(const uint8_t *data, size_t size)
{
    cmif_gguf      *file = NULL;
    cmif_tokenizer *t    = NULL;
    if (cmif_gguf_open_memory(data, size, &file, NULL) == CMIF_OK && cmif_tokenizer_open(file, &t, NULL) == CMIF_OK) {
        static const char text[] = "ab abab  \xe2\x96\x81 x\xff <s>[SEP]1234 ";
        char              piece[512];
        cmif_ids          ids     = {0};
        cmif_part         parts[] = {{.literal = {text, sizeof text - 1}}};
        require(cmif_tokenizer_encode(t, parts, 1, &ids, NULL) == CMIF_OK);
        for (size_t i = 0; i < ids.count; i++) {
            require(cmif_tokenizer_decode(t, ids.at[i], true, piece, sizeof piece) <= sizeof piece);
        }
        cmif_ids_free(&ids);
    }
    cmif_tokenizer_free(t);
    cmif_gguf_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 2 && data[0] % 2 == 0) {
        try_text(tokenizers[data[0] / 2 % VOCABULARIES], data + 2, size - 2, data[1]);
    } else if (size >= 1) {
        try_file(data + 1, size - 1);
    }
    return 0;
}
