/* MB/s of our tokenizer and of the engine library's, one core, in one run, alternating.
 *
 *   tokenizer_bench TEXT VOCABULARY.gguf...
 *
 * TEXT is read in pieces of about 16 KB, as prompts come. Prints one line of JSON a vocabulary: medians of 5 rounds,
 * and 1 MB of one letter beside them. */
#include "tokenizer/tokenizer.h"

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 5, PIECE = 16384, LETTERS = 1 << 20, LIBRARY_PART = 1 << 19 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof values[0], by_value);
    return values[ROUNDS / 2];
}

typedef struct subject {
    const struct llama_vocab *vocab;
    cmif_tokenizer           *ours;
    int32_t                  *room;
    size_t                    room_count;
} subject;

static size_t piece_end(const char *text, size_t from, size_t size, size_t piece)
{
    size_t to = from + piece;
    if (to >= size) {
        return size;
    }
    while (to > from && text[to - 1] != '\n') {
        to--;
    }
    return to > from ? to : from + piece;
}

/* Seconds for all of text; *count becomes the number of ids. */
static double run_ours(const subject *s, const char *text, size_t size, size_t piece, size_t *count)
{
    cmif_ids       ids      = {0};
    cmif_released *released = NULL;
    double         seconds  = 0;
    *count                  = 0;
    for (size_t from = 0, to; from < size; from = to) {
        to = piece_end(text, from, size, piece);
        if (cmif_dp_release_identity(text + from, to - from, &released, NULL) != CMIF_OK) {
            exit(1);
        }
        cmif_part part  = {.text = released, .size = to - from};
        double    start = now();
        if (cmif_tokenizer_encode(s->ours, &part, 1, &ids, NULL) != CMIF_OK) {
            exit(1);
        }
        seconds += now() - start;
        cmif_released_free(released);
    }
    *count = ids.count;
    cmif_ids_free(&ids);
    return seconds;
}

static double run_library(const subject *s, const char *text, size_t size, size_t piece, size_t *count)
{
    double start = now();
    *count       = 0;
    for (size_t from = 0, to; from < size; from = to) {
        to          = piece_end(text, from, size, piece);
        int32_t got = llama_tokenize(s->vocab, text + from, (int32_t) (to - from), s->room, (int32_t) s->room_count,
                                     false, false);
        *count += got > 0 ? (size_t) got : 0;
    }
    return now() - start;
}

static void measure(const char *path, const char *text, size_t size)
{
    struct llama_model_params params = llama_model_default_params();
    cmif_gguf                *file   = NULL;
    cmif_err                  err    = {0};
    subject                   s      = {.room_count = 4 * (size_t) LETTERS};
    params.vocab_only                = true;
    struct llama_model *model        = llama_model_load_from_file(path, params);
    double              opened       = now();
    if (!model || cmif_gguf_open(path, &file, &err) != CMIF_OK || cmif_tokenizer_open(file, &s.ours, &err) != CMIF_OK) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        exit(1);
    }
    opened  = now() - opened;
    s.vocab = llama_model_get_vocab(model);
    s.room  = malloc(s.room_count * sizeof *s.room);
    double ours[ROUNDS], theirs[ROUNDS], letters[ROUNDS], mb = (double) size / 1e6;
    size_t our_count = 0, their_count = 0, unused;
    char  *one_letter = malloc(LETTERS);
    if (!s.room || !one_letter) {
        exit(1);
    }
    memset(one_letter, 'a', LETTERS);
    size_t part = size < LIBRARY_PART ? size : LIBRARY_PART;
    for (size_t i = 0; i < ROUNDS; i++) {
        ours[i]    = mb / run_ours(&s, text, size, PIECE, &our_count);
        theirs[i]  = (double) part / 1e6 / run_library(&s, text, part, PIECE, &their_count);
        letters[i] = (double) LETTERS / 1e6 / run_ours(&s, one_letter, LETTERS, LETTERS, &unused);
    }
    (void) run_ours(&s, text, part, PIECE, &our_count);
    const char *name = strrchr(path, '/');
    printf(
        "{\"vocabulary\": \"%s\", \"mb\": %.1f, \"ours\": %.1f, \"library\": %.1f, \"one_letter\": %.1f, \"ids\": %zu, "
        "\"equal\": %s, \"open_ms\": %.0f}\n",
        name ? name + 1 : path, mb, median(ours), median(theirs), median(letters), our_count,
        our_count == their_count ? "true" : "false", opened * 1e3);
    fflush(stdout);
    free(one_letter);
    free(s.room);
    cmif_tokenizer_free(s.ours);
    cmif_gguf_free(file);
    llama_model_free(model);
}

static void be_quiet(enum ggml_log_level level, const char *line, void *context)
{
    (void) level;
    (void) line;
    (void) context;
}

int main(int argc, char **argv)
{
    FILE *f = argc > 2 ? fopen(argv[1], "rb") : NULL;
    if (!f) {
        fprintf(stderr, "usage: tokenizer_bench TEXT VOCABULARY.gguf...\n");
        return 2;
    }
    llama_log_set(be_quiet, NULL);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t) ftell(f);
    rewind(f);
    char *text = malloc(size);
    if (!text || fread(text, 1, size, f) != size) {
        fprintf(stderr, "tokenizer_bench: cannot read '%s'\n", argv[1]);
        return 1;
    }
    fclose(f);
    for (int i = 2; i < argc; i++) {
        measure(argv[i], text, size);
    }
    free(text);
    return 0;
}
