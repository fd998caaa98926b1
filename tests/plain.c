/* cmif-plain - the unsplit model, fed with token ids by a program that is nothing but llama.h: what the split is
 * compared with, number for number (tests) and in time (`cmif bench split`).
 *
 *   cmif-plain MODEL (--ids "1 2 3" | --ids-file FILE | --random COUNT) [-n TOKENS] [--embed] [--logits OUT] [--bench
 * RUNS]
 *              [--context ROWS] [--batch ROWS] [--threads N] [--gpu-layers N]
 *
 * Prints the ids of a greedy generation, or with --embed the vector of an encoder. --logits writes the logits of each
 * step, or the vector, as f32. --bench prints the medians of RUNS generations as JSON, after one that does not count.
 * Context and batch are as cmif_engine has them with one session: cache cells = context rounded up to 256, prompts in
 * pieces of n_batch = n_ubatch rows, one output; an encoder gets the whole sequence in one batch. */
#include "ggml-cpu.h"
#include "llama.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS_MAX = 99 };

typedef struct plain {
    const char           *path, *logits_path;
    llama_token          *ids;
    int32_t               id_count, random_count, tokens, runs, context_rows, batch_rows, threads, gpu_layers;
    bool                  embed;
    struct llama_model   *model;
    struct llama_context *context;
    ggml_threadpool_t     pool;
    int32_t               vocab;
    int8_t               *outputs; /* (batch_rows) zeros */
    FILE                 *logits;
} plain;

static const char usage[] =
    "usage: cmif-plain MODEL (--ids \"1 2 3\" | --ids-file FILE | --random COUNT) [-n TOKENS] [--embed]\n"
    "                  [--logits OUT] [--bench RUNS] [--context ROWS] [--batch ROWS] [--threads N] [--gpu-layers N]\n";

static int complain(const char *what, const char *which)
{
    fprintf(stderr, "cmif-plain: %s '%s'\n%s", what, which, usage);
    return 2;
}

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void) context;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static bool parse_ids(plain *p, const char *text)
{
    while (*text) {
        char      *end;
        const long id = strtol(text, &end, 10);
        if (end == text) {
            return text[strspn(text, " \t\r\n")] == 0;
        }
        llama_token *ids = realloc(p->ids, ((size_t) p->id_count + 1) * sizeof *ids);
        if (!ids || id < 0 || id > INT32_MAX) {
            return false;
        }
        p->ids                = ids;
        p->ids[p->id_count++] = (llama_token) id;
        text                  = end;
    }
    return true;
}

static bool parse_ids_file(plain *p, const char *path)
{
    FILE  *file = fopen(path, "re");
    char  *text = NULL;
    size_t size = 0;
    bool   good = file && getdelim(&text, &size, 0, file) >= 0 && parse_ids(p, text);
    free(text);
    if (file) {
        fclose(file);
    }
    return good;
}

static int parse(plain *p, int argc, char **argv)
{
    const struct {
        const char *name;
        int32_t    *value;
    } numbers[]               = {{"-n", &p->tokens},
                                 {"--bench", &p->runs},
                                 {"--context", &p->context_rows},
                                 {"--batch", &p->batch_rows},
                                 {"--threads", &p->threads},
                                 {"--gpu-layers", &p->gpu_layers},
                                 {"--random", &p->random_count}};
    const size_t number_count = sizeof numbers / sizeof numbers[0];

    for (int i = 1; i < argc; i++) {
        size_t n = 0;
        while (n < number_count && strcmp(argv[i], numbers[n].name) != 0) {
            n++;
        }
        if (argv[i][0] != '-') {
            p->path = argv[i];
        } else if (strcmp(argv[i], "--embed") == 0) {
            p->embed = true;
        } else if (i + 1 == argc) {
            return complain("unknown, or its value is missing:", argv[i]);
        } else if (n < number_count) {
            *numbers[n].value = (int32_t) strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--logits") == 0) {
            p->logits_path = argv[++i];
        } else if (strcmp(argv[i], "--ids") == 0        ? !parse_ids(p, argv[i + 1])
                   : strcmp(argv[i], "--ids-file") == 0 ? !parse_ids_file(p, argv[i + 1])
                                                        : true) {
            return complain("cannot read", argv[i]);
        } else {
            i++;
        }
    }
    if (!p->path || (p->id_count == 0 && p->random_count < 1) || p->batch_rows < 1 || p->tokens < 1 ||
        p->runs > RUNS_MAX) {
        return complain("a model, ids and positive numbers are needed; got", p->path ? p->path : "no model");
    }
    return 0;
}

static int open_model(plain *p)
{
    struct llama_model_params   m = llama_model_default_params();
    struct llama_context_params c = llama_context_default_params();

    m.n_gpu_layers = p->gpu_layers;
    p->model       = llama_model_load_from_file(p->path, m);
    if (!p->model) {
        return 1;
    }
    p->vocab = llama_vocab_n_tokens(llama_model_get_vocab(p->model));
    for (int32_t i = 0; i < p->random_count; i++) { /* any ids will do, as long as they are the same every time */
        char text[24];
        snprintf(text, sizeof text, "%" PRId64, (int64_t) i * 7919 % p->vocab);
        if (!parse_ids(p, text)) {
            return 1;
        }
    }
    for (int32_t i = 0; i < p->id_count; i++) {
        if (p->ids[i] >= p->vocab) {
            return complain("an id is outside the vocabulary of", p->path);
        }
    }
    if (p->context_rows < 1) {
        p->context_rows = llama_model_n_ctx_train(p->model) < 4096 ? llama_model_n_ctx_train(p->model) : 4096;
    }
    if (p->id_count + (p->embed ? 0 : p->tokens - 1) > p->context_rows) {
        return complain("ids and tokens do not fit the context of", p->path);
    }
    if (p->embed && p->batch_rows < p->context_rows) {
        p->batch_rows = p->context_rows;
    }
    c.n_ctx           = (uint32_t) ((p->embed ? p->batch_rows : p->context_rows) + 255) / 256 * 256;
    c.n_batch         = (uint32_t) p->batch_rows;
    c.n_ubatch        = (uint32_t) p->batch_rows;
    c.n_outputs_max   = p->embed ? 0 : 1;
    c.embeddings      = p->embed;
    c.n_threads       = p->threads;
    c.n_threads_batch = p->threads;
    p->outputs        = calloc((size_t) p->batch_rows, 1);
    p->context        = p->outputs ? llama_init_from_model(p->model, c) : NULL;
    if (p->context && p->embed && llama_pooling_type(p->context) == LLAMA_POOLING_TYPE_NONE) {
        llama_free(p->context);
        c.pooling_type = LLAMA_POOLING_TYPE_MEAN;
        p->context     = llama_init_from_model(p->model, c);
    }
    if (!p->context) {
        return 1;
    }
    struct ggml_threadpool_params threads = ggml_threadpool_params_default(p->threads);
    p->pool                               = ggml_threadpool_new(&threads);
    if (p->pool) {
        llama_attach_threadpool(p->context, p->pool, p->pool); /* as the server's engine does */
    }
    return 0;
}

/* Compute ids[0 .. count); the last one has an output if the prompt ends here. */
static bool forward(plain *p, llama_token *ids, int32_t count, bool ends)
{
    struct llama_batch batch = llama_batch_get_one(ids, count);

    p->outputs[count - 1] = ends;
    batch.logits          = p->outputs;
    const bool good       = llama_decode(p->context, batch) == 0;
    p->outputs[count - 1] = 0;
    return good;
}

static llama_token best_of(const float *logits, int32_t count)
{
    llama_token best = 0;
    for (llama_token i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* One generation: the ids after the prompt, the seconds to the first of them and of all the others together. */
static int generate(plain *p, llama_token *out, double *first, double *others)
{
    const double began = now();

    llama_memory_clear(llama_get_memory(p->context), /* data= */ false);
    for (int32_t at = 0; at < p->id_count; at += p->batch_rows) {
        const int32_t left = p->id_count - at;
        if (!forward(p, p->ids + at, left < p->batch_rows ? left : p->batch_rows, left <= p->batch_rows)) {
            return 1;
        }
    }
    for (int32_t t = 0; t < p->tokens; t++) {
        const float *logits = llama_get_logits_ith(p->context, -1);
        out[t]              = best_of(logits, p->vocab);
        if (p->logits && fwrite(logits, sizeof *logits, (size_t) p->vocab, p->logits) != (size_t) p->vocab) {
            return complain("cannot write", p->logits_path);
        }
        if (t == 0) {
            *first = now() - began;
        }
        if (t + 1 < p->tokens && !forward(p, out + t, 1, true)) {
            return 1;
        }
    }
    *others = now() - began - *first;
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static int run(plain *p)
{
    llama_token *out = malloc((size_t) p->tokens * sizeof *out);
    double       first[RUNS_MAX + 1], rate[RUNS_MAX + 1], others = 0;
    int          rc = out ? 0 : 1;

    for (int32_t r = 0; rc == 0 && r <= p->runs; r++) { /* the first does not count */
        rc      = generate(p, out, &first[r], &others);
        rate[r] = others > 0 ? (p->tokens - 1) / others : 0;
    }
    if (rc == 0 && p->runs > 0) {
        qsort(first + 1, (size_t) p->runs, sizeof *first, by_size);
        qsort(rate + 1, (size_t) p->runs, sizeof *rate, by_size);
        printf("{\"prompt\": %d, \"tokens\": %d, \"runs\": %d, \"ttft_ms\": %.3f, \"tokens_per_second\": %.3f}\n",
               p->id_count, p->tokens, p->runs, first[1 + (p->runs - 1) / 2] * 1e3, rate[1 + (p->runs - 1) / 2]);
    } else if (rc == 0) {
        for (int32_t t = 0; t < p->tokens; t++) {
            printf("%d%c", out[t], t + 1 < p->tokens ? ' ' : '\n');
        }
    }
    free(out);
    return rc;
}

static int embed(plain *p)
{
    const bool         ranks = llama_pooling_type(p->context) == LLAMA_POOLING_TYPE_RANK;
    const int32_t      count = ranks ? (int32_t) llama_model_n_cls_out(p->model) : llama_model_n_embd_out(p->model);
    struct llama_batch batch = llama_batch_init(p->id_count, 0, 1);

    for (int32_t i = 0; i < p->id_count; i++) {
        batch.token[i]     = p->ids[i];
        batch.pos[i]       = i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = 1;
    }
    batch.n_tokens      = p->id_count;
    int          rc     = llama_decode(p->context, batch);
    const float *vector = rc == 0 ? llama_get_embeddings_seq(p->context, 0) : NULL;
    llama_batch_free(batch);
    if (!vector) {
        return 1;
    }
    for (int32_t i = 0; i < count; i++) {
        printf("%.9g%c", (double) vector[i], i + 1 < count ? ' ' : '\n');
    }
    if (p->logits && fwrite(vector, sizeof *vector, (size_t) count, p->logits) != (size_t) count) {
        return complain("cannot write", p->logits_path);
    }
    return 0;
}

int main(int argc, char **argv)
{
    plain p  = {.tokens = 32, .batch_rows = 512, .threads = 1, .gpu_layers = -1};
    int   rc = parse(&p, argc, argv);

    llama_log_set(quiet, NULL);
    if (rc == 0 && p.logits_path && !(p.logits = fopen(p.logits_path, "we"))) {
        rc = complain("cannot write", p.logits_path);
    }
    if (rc == 0) {
        llama_backend_init();
        rc = open_model(&p);
    }
    if (rc == 0) {
        rc = p.embed ? embed(&p) : run(&p);
    }
    if (p.logits && fclose(p.logits) != 0 && rc == 0) {
        rc = complain("cannot write", p.logits_path);
    }
    if (p.context) {
        llama_free(p.context);
    }
    if (p.pool) {
        ggml_threadpool_free(p.pool);
    }
    if (p.model) {
        llama_model_free(p.model);
    }
    free(p.outputs);
    free(p.ids);
    return rc;
}
