#include "tokenizer/tokenizer.h"

#include "base/check.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MODELS CMIF_ENGINE_SOURCE "/models"
#define SHARED CMIF_SOURCE_DIR "/../shared/tokenizers"

/* ---- the n-th allocation fails (linked with --wrap) ---- */

static long allocations_left = -1; /* negative: all succeed */
void       *__real_malloc(size_t size);
void       *__real_calloc(size_t count, size_t size);
void       *__real_realloc(void *memory, size_t size);

static bool is_refused(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_refused() ? NULL : __real_realloc(memory, size);
}

/* ---- helpers ---- */

typedef struct vocabulary {
    cmif_gguf      *file;
    cmif_tokenizer *tokenizer;
} vocabulary;

static bool open_vocabulary(const char *path, vocabulary *v)
{
    cmif_err err = {0};
    *v           = (vocabulary){0};
    if (cmif_gguf_open(path, &v->file, &err) != CMIF_OK || cmif_tokenizer_open(v->file, &v->tokenizer, &err) != CMIF_OK) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        cmif_gguf_free(v->file);
        return false;
    }
    return true;
}

__attribute__((unused)) static bool open_model(const char *name, vocabulary *v)
{
    char path[512];
    snprintf(path, sizeof path, MODELS "/ggml-vocab-%s.gguf", name);
    return open_vocabulary(path, v);
}

static void close_vocabulary(vocabulary *v)
{
    cmif_tokenizer_free(v->tokenizer);
    cmif_gguf_free(v->file);
    *v = (vocabulary){0};
}

static char *read_file(const char *path, size_t *size)
{
    FILE *f    = fopen(path, "rb");
    char *text = NULL;
    *size      = 0;
    if (f && fseek(f, 0, SEEK_END) == 0) {
        long end = ftell(f);
        rewind(f);
        text  = malloc((size_t) end + 1);
        *size = fread(text, 1, (size_t) end, f);
        text[*size] = 0;
    }
    if (f) {
        fclose(f);
    }
    return text;
}

static cmif_ids encode_text(cmif_tokenizer *t, const void *text, size_t size)
{
    cmif_ids       ids = {0};
    cmif_released *released;
    if (cmif_dp_release_identity(text, size, &released, NULL) == CMIF_OK) {
        cmif_part part = {.text = released, .size = size};
        CHECK(cmif_tokenizer_encode(t, &part, 1, &ids, NULL) == CMIF_OK);
        cmif_released_free(released);
    }
    return ids;
}

/* The ids of text are these (written "1 2 3"). */
static bool gives(cmif_tokenizer *t, const char *text, size_t size, const char *expected)
{
    cmif_ids ids   = encode_text(t, text, size);
    bool     equal = true;
    size_t   i     = 0;
    char    *end;
    for (const char *at = expected;; at = end, i++) {
        long id = strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        equal = equal && i < ids.count && ids.at[i] == id;
    }
    equal = equal && i == ids.count;
    cmif_ids_free(&ids);
    return equal;
}

/* ---- vectors ---- */

/* Strings between marker lines in .inp, ids a line in .out. Returns how many are equal; *total of how many. */
static size_t compare_inp_out(const char *name, size_t *total)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char              path[512];
    size_t            in_size, out_size, equal = 0;
    vocabulary        v;
    *total = 0;
    snprintf(path, sizeof path, MODELS "/%s.inp", name);
    char *in = read_file(path, &in_size);
    snprintf(path, sizeof path, MODELS "/%s.out", name);
    char *out = read_file(path, &out_size);
    snprintf(path, sizeof path, MODELS "/%s", name);
    if (in && out && open_vocabulary(path, &v)) {
        char *line = out;
        for (char *text = in; text;) {
            char *next = strstr(text, mark), *line_end = strchr(line, '\n');
            if (!line_end) {
                break;
            }
            *line_end = 0;
            bool same = gives(v.tokenizer, text, next ? (size_t) (next - text) : strlen(text), line);
            if (!same) {
                fprintf(stderr, "%s: string %zu differs\n", name, *total);
            }
            equal += same;
            ++*total;
            line = line_end + 1;
            text = next ? next + sizeof mark - 1 : NULL;
        }
        close_vocabulary(&v);
    }
    free(in);
    free(out);
    return equal;
}

static void every_vector_pair_of_the_engine_is_equal(void)
{
    size_t         pairs = 0;
    DIR           *dir   = opendir(MODELS);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        size_t size = strlen(entry->d_name), total;
        if (size < 4 || strcmp(entry->d_name + size - 4, ".inp") != 0) {
            continue;
        }
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int) size - 4, entry->d_name);
        size_t equal = compare_inp_out(name, &total);
        printf("  %s: %zu of %zu\n", name, equal, total);
        CHECK(equal == total && total >= 40);
        pairs++;
    }
    if (dir) {
        closedir(dir);
    }
    CHECK(pairs == 15);
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void compare_tsv(const char *folder, const char *file, const char *vocabulary_path)
{
    char       path[512];
    size_t     size, equal = 0, total = 0;
    vocabulary v;
    snprintf(path, sizeof path, SHARED "/%s/%s", folder, file);
    char *text = read_file(path, &size);
    CHECK(text);
    if (!text || !open_vocabulary(vocabulary_path, &v)) {
        CHECK(false);
        free(text);
        return;
    }
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end      = 0;
        char *tab = strchr(line, '\t');
        if (!tab) {
            continue;
        }
        size_t count = (size_t) (tab - line) / 2;
        for (size_t i = 0; i < count; i++) {
            line[i] = (char) (hex(line[2 * i]) << 4 | hex(line[2 * i + 1]));
        }
        bool same = gives(v.tokenizer, line, count, tab + 1);
        if (!same) {
            fprintf(stderr, "%s/%s: case %zu differs\n", folder, file, total);
        }
        equal += same;
        total++;
    }
    printf("  %s/%s: %zu of %zu\n", folder, file, equal, total);
    CHECK(equal == total && total > 20);
    close_vocabulary(&v);
    free(text);
}

static void every_vector_of_independent_references_is_equal(void)
{
    static const char *const sets[][2] = {
        {"llama2-spm", SHARED "/llama2-spm/ggml-vocab-llama-spm.gguf"},
        {"llama3-bpe", MODELS "/ggml-vocab-llama-bpe.gguf"},
        {"qwen2-bpe", MODELS "/ggml-vocab-qwen2.gguf"},
        {"gpt2-bpe", SHARED "/gpt2-bpe/ggml-vocab-gpt-2.gguf"},
        {"bert-wordpiece", SHARED "/bert-wordpiece/ggml-vocab-bert-bge.gguf"},
    };
    if (access(SHARED, R_OK) != 0) {
        printf("  skipped: no ../shared/tokenizers beside the repository\n");
        return;
    }
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        compare_tsv(sets[i][0], "llamacpp.tsv", sets[i][1]);
        compare_tsv(sets[i][0], "generated.tsv", sets[i][1]);
    }
}

int main(void)
{
    RUN(every_vector_pair_of_the_engine_is_equal);
    RUN(every_vector_of_independent_references_is_equal);
    return check_report();
}
