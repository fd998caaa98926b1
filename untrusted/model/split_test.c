/* Split models give what whole models give, bit for bit; models that cannot be split are refused with the reason;
 * nothing half-written is ever left. Random-weight models come from make-model; real ones are used where they are
 * found. */
#define _GNU_SOURCE /* memmem */
#include "model/split.h"

#include "base/check.h"

#include <dirent.h>
#include <fcntl.h>
#include <llama.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/cmif-split-test-XXXXXX";
static char model[sizeof folder + 32], halves[sizeof folder + 32], client[sizeof folder + 64],
    server[sizeof folder + 64];

static const cmif_split_options plain = {0};

/* ---- helpers ---- */

/* Run a program of the build; its exit code, or -1. */
static int run(const char *program, const char *const *arguments)
{
    char  path[1024];
    char *argv[16] = {path};
    pid_t pid;
    int   status;
    snprintf(path, sizeof path, "%s/%s", CMIF_BUILD_DIR, program);
    for (size_t i = 0; arguments[i] && i < 14; i++) {
        argv[i + 1] = (char *) (uintptr_t) arguments[i];
    }
    if (posix_spawn(&pid, path, NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) < 0) {
        return -1;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool make(const char *arch, const char *option, const char *value)
{
    const char *arguments[] = {arch, "-o", model, option, value, NULL};
    return run("tests/make-model", arguments) == 0;
}

static void clean(void)
{
    DIR *list = opendir(halves);
    for (struct dirent *e; list && (e = readdir(list));) {
        unlinkat(dirfd(list), e->d_name, 0); /* "." and ".." stay */
    }
    if (list) {
        closedir(list);
    }
    rmdir(halves);
}

/* Files in the folder of halves, 0 when there is no such folder. */
static int entries(void)
{
    int  count = 0;
    DIR *list  = opendir(halves);
    if (!list) {
        return 0;
    }
    for (struct dirent *e; (e = readdir(list));) {
        count += e->d_name[0] != '.';
    }
    closedir(list);
    return count;
}

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void) context;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

/* ---- the engine, as plainly as it goes ---- */

typedef struct engine {
    struct llama_model   *model;
    struct llama_context *context;
    int32_t               vocab, width;
} engine;

static bool engine_open(engine *e, const char *path, bool encoder)
{
    struct llama_model_params   mp = llama_model_default_params();
    struct llama_context_params cp = llama_context_default_params();
    mp.progress_callback           = NULL;
    cp.n_ctx                       = 128;
    cp.n_batch = cp.n_ubatch = 128;
    cp.n_threads = cp.n_threads_batch = 1;
    cp.embeddings                     = encoder;
    *e                                = (engine){.model = llama_model_load_from_file(path, mp)};
    e->context                        = e->model ? llama_init_from_model(e->model, cp) : NULL;
    if (e->context) {
        e->vocab = llama_vocab_n_tokens(llama_model_get_vocab(e->model));
        e->width = llama_model_n_embd(e->model);
    }
    return e->context != NULL;
}

static void engine_close(engine *e)
{
    llama_free(e->context);
    llama_model_free(e->model);
}

/* Feed count positions from `at` on, as ids or (ids NULL) as rows; every position gives logits. */
static bool feed(engine *e, const int32_t *ids, const float *rows, int32_t count, int32_t at)
{
    struct llama_batch batch = llama_batch_init(128, ids ? 0 : e->width, 1);
    batch.n_tokens           = count;
    for (int32_t i = 0; i < count; i++) {
        if (ids) {
            batch.token[i] = ids[i];
        }
        batch.pos[i]       = at + i;
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i]    = 1;
    }
    if (!ids) {
        memcpy(batch.embd, rows, (size_t) (count * e->width) * sizeof *rows);
    }
    bool ok = llama_decode(e->context, batch) == 0;
    llama_batch_free(batch);
    return ok;
}

/* ---- the client half, as trusted/embed does it ---- */

typedef struct half {
    cmif_gguf              *file;
    const cmif_gguf_tensor *table;
    cmif_row_type           type;
    float                   scale;
} half;

static bool half_open(half *h)
{
    static const uint32_t types[] = {UINT32_MAX, CMIF_GGML_F32, CMIF_GGML_F16, CMIF_GGML_BF16, CMIF_GGML_Q8_0};
    *h                            = (half){.type = CMIF_ROWS_ID};
    if (cmif_gguf_open(client, &h->file, NULL) != CMIF_OK ||
        cmif_gguf_get_f32(h->file, "cmif.row_scale", &h->scale, NULL) != CMIF_OK ||
        !(h->table = cmif_gguf_find_tensor(h->file, "token_embd.weight"))) {
        return false;
    }
    for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_Q8_0; type++) {
        h->type = types[type] == h->table->type ? type : h->type;
    }
    return h->type != CMIF_ROWS_ID;
}

static void half_row(const half *h, int32_t id, float *out)
{
    size_t width = (size_t) h->table->shape[0];
    cmif_row_decode(h->type, h->table->data + (size_t) id * cmif_row_size(h->type, width), out, width);
    for (size_t i = 0; i < width; i++) {
        out[i] *= h->scale;
    }
}

/* ---- equality ---- */

enum { PROMPT = 12, STEPS = 16 };

static int32_t argmax(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

/* Logits of every prompt position, then of 16 greedy steps. Returns how many distinct ids were written, 0 on a
 * difference. */
static int decoders_agree(engine *whole, engine *split, const half *h)
{
    int32_t ids[PROMPT], written[STEPS];
    int     distinct = 0;
    float  *rows     = malloc(sizeof *rows * PROMPT * (size_t) whole->width);
    size_t  size     = sizeof(float) * (size_t) whole->vocab;
    bool    equal    = whole->vocab == split->vocab && whole->width == split->width;
    for (int32_t i = 0; i < PROMPT; i++) {
        ids[i] = (i * 7919 + 290) % whole->vocab;
        half_row(h, ids[i], rows + i * whole->width);
    }
    equal = equal && feed(whole, ids, NULL, PROMPT, 0) && feed(split, NULL, rows, PROMPT, 0);
    for (int32_t i = 0; i < PROMPT && equal; i++) {
        equal = memcmp(llama_get_logits_ith(whole->context, i), llama_get_logits_ith(split->context, i), size) == 0;
    }
    for (int32_t step = 0; step < STEPS && equal; step++) {
        int32_t id    = argmax(llama_get_logits_ith(whole->context, -1), whole->vocab);
        bool    found = false;
        equal         = id == argmax(llama_get_logits_ith(split->context, -1), split->vocab);
        for (int32_t i = 0; i < step; i++) {
            found |= written[i] == id;
        }
        written[step] = id;
        distinct += !found;
        half_row(h, id, rows);
        equal = equal && feed(whole, &id, NULL, 1, PROMPT + step) && feed(split, NULL, rows, 1, PROMPT + step);
        equal = equal &&
                memcmp(llama_get_logits_ith(whole->context, -1), llama_get_logits_ith(split->context, -1), size) == 0;
    }
    free(rows);
    return equal ? distinct : 0;
}

static bool encoders_agree(engine *whole, engine *split, const half *h)
{
    int32_t ids[PROMPT];
    float  *rows  = malloc(sizeof *rows * PROMPT * (size_t) whole->width);
    bool    equal = whole->width == split->width;
    for (int32_t i = 0; i < PROMPT; i++) {
        ids[i] = (i * 7919 + 290) % whole->vocab;
        half_row(h, ids[i], rows + i * whole->width);
    }
    equal              = equal && feed(whole, ids, NULL, PROMPT, 0) && feed(split, NULL, rows, PROMPT, 0);
    const float *a     = equal ? llama_get_embeddings_seq(whole->context, 0) : NULL;
    const float *b     = equal ? llama_get_embeddings_seq(split->context, 0) : NULL;
    bool         ranks = llama_pooling_type(whole->context) == LLAMA_POOLING_TYPE_RANK;
    size_t       count = ranks ? llama_model_n_cls_out(whole->model) : (size_t) whole->width;
    equal              = a && b && memcmp(a, b, count * sizeof *a) == 0 && a[0] != 0;
    free(rows);
    return equal;
}

/* Split the model at path, open both halves, and compare. */
static bool split_equals_whole(const char *path, const char *name, const cmif_split_options *options)
{
    cmif_split_plan plan;
    cmif_err        err   = {0};
    engine          whole = {0}, split = {0};
    half            h        = {0};
    bool            equal    = false;
    int             distinct = 0;
    if (cmif_split(path, halves, options, NULL, NULL, &plan, &err) != CMIF_OK) {
        printf("%s: %s\n", name, err.text);
        return false;
    }
    bool encoder = plan.arch->output == CMIF_OUTPUT_NONE;
    if (!engine_open(&whole, path, encoder) || !engine_open(&split, server, encoder) || !half_open(&h)) {
        printf("%s: one of the three files does not open\n", name);
    } else if (encoder) {
        equal = encoders_agree(&whole, &split, &h);
    } else {
        distinct = decoders_agree(&whole, &split, &h);
        equal    = distinct > 0;
    }
    printf("  %-24s %s, rows %s, server %s%s%s", name, equal ? "equal" : "DIFFERENT",
           cmif_row_type_name(plan.table_type), plan.server_table ? "with table" : "without table",
           plan.tied ? ", tied" : "", plan.row_scale != 1 ? ", scaled" : "");
    printf(encoder ? "\n" : ", %d distinct ids\n", distinct);
    cmif_gguf_free(h.file);
    engine_close(&whole);
    engine_close(&split);
    clean();
    return equal;
}

static void random_models_of_every_architecture_are_equal(void)
{
    static const char *const archs[] = {
        "llama",   "qwen2",     "qwen3",      "qwen3moe", "phi3",      "phi2",    "gpt2",    "gptneox", "mpt",
        "bloom",   "falcon",    "starcoder2", "stablelm", "gemma",     "gemma2",  "gemma3",  "granite", "minicpm",
        "smollm3", "internlm2", "olmo",       "olmo2",    "command-r", "cohere2", "openelm", "bert",    "nomic-bert"};
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        CHECK(make(archs[i], NULL, NULL) && split_equals_whole(model, archs[i], &plain));
    }
}

static void other_options_are_equal_too(void)
{
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0"};
    const cmif_split_options keep    = {.keep_embeddings = true};
    const cmif_split_options floats  = {.table = CMIF_ROWS_F32};
    for (size_t i = 0; i < 4; i++) {
        CHECK(make("llama", "--type", types[i]) && split_equals_whole(model, types[i], &plain));
        CHECK(split_equals_whole(model, "table as f32", &floats));
        CHECK(split_equals_whole(model, "table kept", &keep));
    }
    CHECK(make("llama", "--tied", NULL) && split_equals_whole(model, "llama, tied", &plain));
    CHECK(split_equals_whole(model, "llama, tied, kept", &keep));
    CHECK(make("gemma3", "--untied", NULL) && split_equals_whole(model, "gemma3, untied", &plain));
    CHECK(make("bert", "--labels", "3") && split_equals_whole(model, "bert, 3 labels", &plain));
    CHECK(split_equals_whole(model, "bert, table kept", &keep));
    static const char *const widths[] = {"320", "416"}; /* stubs of other types; 352 would not suit 4 heads */
    for (size_t i = 0; i < 2; i++) {
        CHECK(make("llama", "--width", widths[i]) && split_equals_whole(model, widths[i], &plain));
    }
}

static void large_shapes_are_equal(void)
{
    static const char *const llama2[] = {"llama", "-o",      model,  "--shape", "llama2-7b", "--layers",
                                         "1",     "--vocab", "1000", "--type",  "q8_0",      NULL};
    static const char *const llama3[] = {"llama", "-o",      model,  "--shape", "llama3-8b", "--layers",
                                         "1",     "--vocab", "1000", "--type",  "q8_0",      NULL};
    CHECK(run("tests/make-model", llama2) == 0 && split_equals_whole(model, "llama2-7b, 1 layer", &plain));
    CHECK(run("tests/make-model", llama3) == 0 && split_equals_whole(model, "llama3-8b, 1 layer", &plain));
}

static void real_models_are_equal(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char        paths[4][1024];
    snprintf(paths[0], sizeof *paths, "%s/../shared/models/stories260K/stories260K.gguf", CMIF_SOURCE_DIR);
    snprintf(paths[1], sizeof *paths, "%s/../shared/models/minilm-sst2/minilm-sst2-f16.gguf", CMIF_SOURCE_DIR);
    for (int i = 0; i < 2; i++) {
        snprintf(paths[2 + i], sizeof *paths, "%s%s/cmif/models/%s.gguf",
                 cache  ? cache
                 : home ? home
                        : "",
                 cache ? "" : "/.cache", i ? "minilm" : "smollm2");
    }
    for (int i = 0; i < 4; i++) {
        if (access(paths[i], R_OK) == 0) {
            CHECK(split_equals_whole(paths[i], strrchr(paths[i], '/') + 1, &plain));
        } else {
            printf("  not here, so not compared: %s\n", strrchr(paths[i], '/') + 1);
        }
    }
}

/* ---- what is in the halves ---- */

/* How many of 16 rows of the client's table, in each type they are stored or sent in, are somewhere in the file. */
static int rows_found(const half *h, const char *path)
{
    int   found = 0;
    FILE *file  = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    size_t size = (size_t) ftell(file), width = (size_t) h->table->shape[0];
    char  *bytes = malloc(size);
    rewind(file);
    CHECK(fread(bytes, 1, size, file) == size);
    fclose(file);
    float   *floats = malloc(width * sizeof *floats);
    uint8_t *row    = malloc(width * sizeof *floats);
    for (int i = 0; i < 16; i++) {
        cmif_row_decode(h->type,
                        h->table->data + (uint64_t) i * h->table->shape[1] / 16 * cmif_row_size(h->type, width), floats,
                        width);
        for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_Q8_0; type++) {
            cmif_row_encode(type, floats, row, width);
            found += memmem(bytes, size, row, cmif_row_size(type, width)) != NULL;
        }
    }
    free(bytes);
    free(floats);
    free(row);
    return found;
}

static void the_server_of_an_untied_model_holds_no_row(void)
{
    static const char *const types[] = {"f32", "f16", "bf16", "q8_0"};
    const cmif_split_options keep    = {.keep_embeddings = true};
    for (int i = 0; i < 4; i++) {
        half h;
        CHECK(make("llama", "--type", types[i]));
        CHECK(cmif_split(model, halves, &plain, NULL, NULL, NULL, NULL) == CMIF_OK && half_open(&h));
        CHECK(rows_found(&h, server) == 0);
        CHECK(rows_found(&h, client) >= 16);
        cmif_gguf_free(h.file);
        CHECK(cmif_split(model, halves, &keep, NULL, NULL, NULL, NULL) == CMIF_OK && half_open(&h));
        CHECK(rows_found(&h, server) >= 16); /* the same search finds what is there */
        cmif_gguf_free(h.file);
        clean();
    }
}

static bool is_str(const cmif_gguf *file, const char *key, const char *text)
{
    cmif_str s;
    return cmif_gguf_get_str(file, key, &s, NULL) == CMIF_OK && cmif_str_is(s, text);
}

static void each_half_has_its_keys_and_tensors_and_no_others(void)
{
    cmif_gguf *whole = NULL, *c = NULL, *s = NULL;
    uint32_t   number = 0;
    bool       truth  = true;
    cmif_str   a, b;
    CHECK(make("llama", NULL, NULL) && cmif_split(model, halves, &plain, NULL, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(model, &whole, NULL) == CMIF_OK && cmif_gguf_open(client, &c, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(server, &s, NULL) == CMIF_OK);
    if (!whole || !c || !s) {
        return;
    }
    CHECK(is_str(c, "cmif.role", "client") && is_str(s, "cmif.role", "server"));
    CHECK(is_str(c, "tokenizer.ggml.model", "llama") && is_str(s, "tokenizer.ggml.model", "no_vocab"));
    CHECK(cmif_gguf_get_uint(s, "llama.vocab_size", &number, NULL) == CMIF_OK && number == 512);
    CHECK(cmif_gguf_get_bool(s, "cmif.has_table", &truth, NULL) == CMIF_OK && !truth);
    CHECK(cmif_gguf_get_bool(c, "cmif.keeps_table", &truth, NULL) == CMIF_OK && !truth);
    CHECK(cmif_gguf_get_str(c, "cmif.model_id", &a, NULL) == CMIF_OK && a.size == 64);
    CHECK(cmif_gguf_get_str(s, "cmif.model_id", &b, NULL) == CMIF_OK && b.size == 64 &&
          memcmp(a.data, b.data, 64) == 0);
    for (size_t i = 0; i < cmif_gguf_value_count(s); i++) {
        cmif_str key = cmif_gguf_value_at(s, i)->key;
        CHECK(key.size < 10 || memcmp(key.data, "tokenizer.", 10) != 0 || cmif_str_is(key, "tokenizer.ggml.model"));
    }
    CHECK(cmif_gguf_tensor_count(c) == 1 && cmif_gguf_tensor_count(s) == cmif_gguf_tensor_count(whole));
    for (size_t i = 0; i < cmif_gguf_tensor_count(whole); i++) {
        const cmif_gguf_tensor *from = cmif_gguf_tensor_at(whole, i), *to = cmif_gguf_tensor_at(s, i);
        CHECK(from->name.size == to->name.size && memcmp(from->name.data, to->name.data, to->name.size) == 0);
        CHECK(memcmp(from->shape, to->shape, sizeof to->shape) == 0);
        if (cmif_str_is(to->name, "token_embd.weight")) {
            CHECK(to->size == from->shape[0] * from->shape[1] / 128 * 18); /* q1_0 */
            for (size_t at = 0; at < to->size; at++) {
                CHECK(to->data[at] == 0);
            }
        } else {
            CHECK(to->type == from->type && to->size == from->size && memcmp(to->data, from->data, to->size) == 0);
        }
    }
    cmif_gguf_free(whole);
    cmif_gguf_free(c);
    cmif_gguf_free(s);
    clean();
}

/* The table of another type than ours is written as the very floats that the engine makes of it. */
static cmif_code q4_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context, (void) err;
    for (size_t i = 0; i < size; i++) {
        size_t at = (size_t) offset + i;
        buffer[i] = at % 18 == 1 ? 0x2c : (uint8_t) (at * 37 + at / 18); /* scales near 1/16 */
    }
    return CMIF_OK;
}

static void exotic_tables_become_exact_floats(void)
{
    cmif_gguf_out *out  = NULL;
    cmif_gguf     *file = NULL, *whole = NULL;
    float          expected[64];
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){"llama", 5}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "llama.embedding_length", 64, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", 2, 2, (uint64_t[4]){64, 30000}, q4_bytes, NULL, NULL) ==
          CMIF_OK);
    CHECK(cmif_gguf_write(out, model, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_split(model, halves, &plain, NULL, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_open(client, &file, NULL) == CMIF_OK && cmif_gguf_open(model, &whole, NULL) == CMIF_OK);
    const cmif_gguf_tensor *to = cmif_gguf_find_tensor(file, "token_embd.weight");
    CHECK(to->type == CMIF_GGML_F32);
    for (size_t row = 0; row < 30000; row++) { /* 7.7 MB: two pieces */
        ggml_get_type_traits(GGML_TYPE_Q4_0)->to_float(cmif_gguf_tensor_at(whole, 0)->data + row * 36, expected, 64);
        CHECK(memcmp(to->data + row * 256, expected, 256) == 0);
    }
    cmif_gguf_free(file);
    cmif_gguf_free(whole);
    cmif_gguf_out_free(out);
    clean();
}

/* ---- what is refused ---- */

static const char *splits(const char *path)
{
    static cmif_err err;
    err.text[0]  = 0;
    cmif_code rc = cmif_split(path, halves, &plain, NULL, NULL, NULL, &err);
    CHECK(rc != CMIF_OK && entries() == 0 && strlen(err.text) < sizeof err.text - 1);
    return err.text;
}

/* A model of nothing but a header: architecture, width, and a table. */
static cmif_gguf_out *header(const char *arch)
{
    cmif_gguf_out *out = NULL;
    char           key[96];
    snprintf(key, sizeof key, "%s.embedding_length", arch);
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){arch, strlen(arch)}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, key, 64, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", CMIF_GGML_F16, 2, (uint64_t[4]){64, 300}, NULL, NULL, NULL) ==
          CMIF_OK);
    return out;
}

static const char *splits_written(cmif_gguf_out *out)
{
    CHECK(cmif_gguf_write(out, model, NULL, NULL, NULL) == CMIF_OK);
    cmif_gguf_out_free(out);
    return splits(model);
}

static void every_architecture_is_split_or_refused_with_its_reason(void)
{
    CHECK(cmif_arch_allowed() >= 40);
    for (size_t i = 0; i < cmif_arch_count(); i++) {
        const cmif_arch *arch = cmif_arch_at(i), *found = NULL;
        cmif_err         err  = {0};
        cmif_gguf       *file = NULL;
        cmif_gguf_out   *out  = header(arch->name);
        CHECK(cmif_gguf_write(out, model, NULL, NULL, NULL) == CMIF_OK &&
              cmif_gguf_open(model, &file, NULL) == CMIF_OK);
        cmif_code rc = cmif_arch_find(file, &found, &err);
        if (arch->refused) {
            CHECK(rc == CMIF_E_UNSUPPORTED && !found && strstr(err.text, arch->refused) &&
                  strstr(err.text, arch->name));
        } else {
            CHECK(rc == CMIF_OK && found == arch);
        }
        for (size_t j = 0; j < i; j++) {
            CHECK(strcmp(arch->name, cmif_arch_at(j)->name) != 0);
        }
        cmif_gguf_free(file);
        cmif_gguf_out_free(out);
    }
    CHECK(strstr(splits_written(header("nosuch")), "'nosuch' is not among"));
}

static void models_of_a_good_architecture_that_rows_cannot_feed_are_refused(void)
{
    cmif_gguf_out *out = header("gemma4");
    CHECK(cmif_gguf_put_uint(out, "gemma4.embedding_length_per_layer_input", 256, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "token ids"));
    out = header("granite");
    CHECK(cmif_gguf_put_array(out, "granite.deepstack_mapping", CMIF_GGUF_I32, (int32_t[]){0}, 1, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "deepstack"));
    out = header("llama");
    CHECK(cmif_gguf_put_array(out, "llama.rope.dimension_sections", CMIF_GGUF_I32, (int32_t[4]){8, 8, 8, 0}, 4, NULL) ==
          CMIF_OK);
    CHECK(strstr(splits_written(out), "M-RoPE"));
}

static void files_that_are_no_whole_model_are_refused(void)
{
    CHECK(strstr(splits_written(header("olmo2")), "output.weight"));
    cmif_gguf_out *out = header("llama");
    CHECK(cmif_gguf_put_uint(out, "split.count", 3, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "--merge"));
    out = header("llama");
    CHECK(cmif_gguf_put_str(out, "general.type", (cmif_str){"adapter", 7}, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "'adapter'"));
    out = header("llama");
    CHECK(cmif_gguf_put_str(out, "cmif.role", (cmif_str){"client", 6}, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "half of a split"));
    out = header("llama");
    CHECK(cmif_gguf_put_uint(out, "llama.embedding_length", 128, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "does not fit"));
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){"llama", 5}, NULL) == CMIF_OK);
    CHECK(strstr(splits_written(out), "vocabulary only"));
    CHECK(strstr(splits("/no/such/file"), "No such file"));
    CHECK(strstr(splits("/etc/passwd"), "not a GGUF file"));
    CHECK(make("llama", NULL, NULL));
    struct stat info;
    CHECK(stat(model, &info) == 0 && truncate(model, info.st_size - 1000) == 0);
    CHECK(strstr(splits(model), "cut off"));
    const cmif_split_options q8 = {.table = CMIF_ROWS_Q8_0};
    out                         = header("llama");
    cmif_err err                = {0};
    CHECK(cmif_gguf_put_uint(out, "llama.embedding_length", 40, NULL) == CMIF_OK);
    cmif_gguf_out_free(out);
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){"llama", 5}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "llama.embedding_length", 40, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", CMIF_GGML_F16, 2, (uint64_t[4]){40, 300}, NULL, NULL, NULL) ==
          CMIF_OK);
    CHECK(cmif_gguf_write(out, model, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_split(model, halves, &q8, NULL, NULL, NULL, &err) == CMIF_E_UNSUPPORTED && strstr(err.text, "--table"));
    cmif_gguf_out_free(out);
}

/* ---- disks, folders, signals ---- */

static void put_old_files(void)
{
    mkdir(halves, 0700);
    const char *paths[] = {client, server};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(paths[i], "w");
        fputs("old", file);
        fclose(file);
    }
}

static bool old_files_are_there(void)
{
    struct stat a, b;
    return entries() == 2 && stat(client, &a) == 0 && stat(server, &b) == 0 && a.st_size == 3 && b.st_size == 3;
}

static const char *stop_at;

static bool stop(void *context, const char *what, uint64_t done, uint64_t total)
{
    (void) context;
    return !(done <= total && strcmp(what, stop_at) == 0);
}

static void old_halves_stay_until_both_new_ones_are_complete(void)
{
    static const char *const stages[] = {"reading", "writing client.gguf", "writing server.gguf"};
    CHECK(make("llama", NULL, NULL));
    put_old_files();
    for (size_t i = 0; i < 3; i++) {
        stop_at = stages[i];
        CHECK(cmif_split(model, halves, &plain, stop, NULL, NULL, NULL) == CMIF_E_CANCELLED && old_files_are_there());
    }
    struct rlimit old, limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    limit          = old;
    limit.rlim_cur = 600000; /* the client's half fits, the server's does not */
    setrlimit(RLIMIT_FSIZE, &limit);
    cmif_err  err = {0};
    cmif_code rc  = cmif_split(model, halves, &plain, NULL, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(rc == CMIF_E_IO && strstr(err.text, "needs") && old_files_are_there());
    CHECK(cmif_split(model, halves, &plain, NULL, NULL, NULL, &err) == CMIF_OK && !old_files_are_there() &&
          entries() == 2);
    clean();
}

static void a_full_disk_leaves_nothing(void)
{
    mkdir(halves, 0700);
    if (mount("cmif", halves, "tmpfs", 0, "size=512k") != 0) {
        printf("  cannot mount a small disk here, so not tried\n");
        rmdir(halves);
        return;
    }
    CHECK(make("llama", NULL, NULL));
    const char *text = splits(model);
    CHECK(strstr(text, "server.gguf") && strstr(text, "needs") && strstr(text, "free") && strstr(text, "make room"));
    CHECK(umount(halves) == 0);
    rmdir(halves);
}

static void folders_are_made_or_refused(void)
{
    char     deep[sizeof halves + 32], file[sizeof halves + 32];
    cmif_err err = {0};
    CHECK(make("llama", NULL, NULL));
    snprintf(deep, sizeof deep, "%s/a/b/", halves);
    CHECK(cmif_split(model, deep, &plain, NULL, NULL, NULL, &err) == CMIF_OK);
    snprintf(file, sizeof file, "%s/a/b/client.gguf", halves);
    CHECK(cmif_split(model, file, &plain, NULL, NULL, NULL, &err) == CMIF_E_IO && strstr(err.text, "Not a directory"));
    CHECK(unlink(file) == 0);
    snprintf(file, sizeof file, "%s/a/b/server.gguf", halves);
    CHECK(unlink(file) == 0 && rmdir(deep) == 0);
    snprintf(deep, sizeof deep, "%s/a", halves);
    CHECK(rmdir(deep) == 0 && rmdir(halves) == 0);

    put_old_files(); /* a model that lies where its half would go */
    CHECK(rename(model, server) == 0);
    CHECK(cmif_split(server, halves, &plain, NULL, NULL, NULL, &err) == CMIF_E_RANGE &&
          strstr(err.text, "the model itself"));
    CHECK(rename(server, model) == 0);
    clean();

    pid_t pid = fork(); /* a folder that one may not write in: not as root */
    if (pid == 0) {
        bool able = mkdir(halves, 0555) == 0 && chmod(folder, 0755) == 0 && chmod(model, 0644) == 0 &&
                    (geteuid() != 0 || setuid(65534) == 0);
        cmif_code rc = able ? cmif_split(model, halves, &plain, NULL, NULL, NULL, &err) : CMIF_OK;
        _exit(rc == CMIF_E_IO && strstr(err.text, "Permission denied") ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(rmdir(halves) == 0);
}

/* Start `split` on the model, its words to nowhere. */
static pid_t start_split(void)
{
    char                       program[1024], out[] = "-o", command[] = "split";
    char                      *argv[] = {program, command, model, out, halves, NULL};
    pid_t                      pid    = -1;
    posix_spawn_file_actions_t actions;
    snprintf(program, sizeof program, "%s/libexec/cmif/cmif-model", CMIF_BUILD_DIR);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    CHECK(posix_spawn(&pid, program, &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static long nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A half that is there opens, and is what its name says. */
static bool half_is_whole(const char *path, const char *role)
{
    cmif_gguf *file  = NULL;
    cmif_str   found = {0};
    if (access(path, F_OK) != 0) {
        return true;
    }
    bool whole = cmif_gguf_open(path, &file, NULL) == CMIF_OK &&
                 cmif_gguf_get_str(file, "cmif.role", &found, NULL) == CMIF_OK && cmif_str_is(found, role);
    cmif_gguf_free(file);
    return whole;
}

/* Interrupted at any moment, `split` leaves both halves or none, and nothing else. Killed while it gives the two names,
 * it may leave one, or one as `.partial-N`: what has its own name is whole. */
static void a_killed_split_leaves_nothing_half_written(void)
{
    enum { KILLS = 40 };
    static const char *const wide[] = {"llama", "-o", model, "--width", "1024", "--layers", "4", NULL};
    int                      killed = 0, between = 0, status = -1;
    CHECK(run("tests/make-model", wide) == 0);
    long  start = nanoseconds();
    pid_t pid   = start_split();
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && entries() == 2);
    long whole = nanoseconds() - start;
    clean();
    for (int i = 0; i < KILLS && pid > 0; i++) {
        struct timespec wait = {whole * i / KILLS / 1000000000, whole * i / KILLS % 1000000000};
        pid                  = start_split();
        nanosleep(&wait, NULL);
        kill(pid, i & 1 ? SIGKILL : SIGINT);
        CHECK(waitpid(pid, &status, 0) == pid);
        bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        CHECK(done || WIFSIGNALED(status) || WEXITSTATUS(status) == 130);
        int left = entries();
        if (WIFSIGNALED(status) && left != 0) {
            between += left != 2;
            CHECK(half_is_whole(client, "client") && half_is_whole(server, "server"));
        } else {
            CHECK(left == (done ? 2 : 0));
        }
        killed += !done;
        clean();
    }
    printf("  %d of %d killed before they were done\n", killed, KILLS);
    CHECK(between <= 2); /* three system calls of a whole split */
    CHECK(killed > 0);   /* the first at once; how many more depends on what else the machine does */
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(model, sizeof model, "%s/model.gguf", folder);
    snprintf(halves, sizeof halves, "%s/halves", folder);
    snprintf(client, sizeof client, "%s/client.gguf", halves);
    snprintf(server, sizeof server, "%s/server.gguf", halves);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    RUN(every_architecture_is_split_or_refused_with_its_reason);
    RUN(models_of_a_good_architecture_that_rows_cannot_feed_are_refused);
    RUN(files_that_are_no_whole_model_are_refused);
    RUN(each_half_has_its_keys_and_tensors_and_no_others);
    RUN(exotic_tables_become_exact_floats);
    RUN(the_server_of_an_untied_model_holds_no_row);
    RUN(old_halves_stay_until_both_new_ones_are_complete);
    RUN(a_full_disk_leaves_nothing);
    RUN(folders_are_made_or_refused);
    RUN(a_killed_split_leaves_nothing_half_written);
    RUN(random_models_of_every_architecture_are_equal);
    RUN(other_options_are_equal_too);
    RUN(large_shapes_are_equal);
    RUN(real_models_are_equal);
    llama_backend_free();
    unlink(model);
    rmdir(folder);
    return check_report();
}
