#include "engine/engine.h"

#include "gguf/gguf.h"
#include "model/arch.h"
#include "rows/rows.h"
#include "sampler.h"

#include "ggml-backend.h"
#include "llama.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS_MAX           = 256,  /* LLAMA_MAX_SEQ */
    CONTEXT_DEFAULT_MAX = 4096, /* rows, when nobody says how many */
    BATCH_DEFAULT       = 512,
    BATCH_MAX           = 8192,
    BESIDE_STREAMS      = 128, /* prompt rows of one step while others stream: what their next token waits for */
    WIDE_ROWS           = 64,  /* the tile of queries of the library's flash attention: see plan_narrow */
    THREADS_MAX         = 512,
    CELL_PAD            = 256, /* the cache of a slot is a multiple of this */
};

typedef enum slot_state { SLOT_IDLE = 0, SLOT_PROMPT, SLOT_STREAM } slot_state;

typedef struct slot {
    slot_state       state;
    bool             cancelled;
    cmif_frame_begin begin;
    uint32_t         cached;  /* rows in the cache */
    uint32_t         arrived; /* prompt rows that came; of a stream, 1 when the next row is here */
    uint32_t         fed;     /* prompt rows that were computed */
    uint32_t         take;    /* rows in the batch of this step */
    cmif_row_type    type;    /* of the queued rows */
    uint8_t         *queue;   /* rows as they came; the next row of a stream is the first */
    size_t           queue_size;
    uint32_t         tokens;
    cmif_sampler    *sampler;
    int64_t          began_us, streamed_us;
} slot;

struct cmif_engine {
    cmif_frame_welcome    welcome;
    uint32_t              slot_count, batch_rows;
    uint32_t              slice; /* prompt rows between two boundaries */
    bool                  encoder;
    uint32_t              sequence_count;    /* slots, or 1: encoders with a cache work on one sequence at a time */
    uint32_t              next, next_narrow; /* slots whose prompts go first */
    slot                 *slots;
    struct llama_model   *model;
    struct llama_context *context;
    llama_memory_t        memory; /* NULL: an encoder without a cache */
    ggml_threadpool_t     pool;   /* NULL: the library makes threads as it needs them */
    void (*pool_free)(ggml_threadpool_t);
    struct llama_batch      batch; /* our arrays, batch_rows long */
    llama_seq_id           *sequences;
    float                  *row; /* one row, to look at */
    cmif_gguf              *file;
    const cmif_gguf_tensor *table; /* NULL: none */
    size_t                  table_row_size;
    const cmif_arch        *arch;
    float                   row_scale; /* of rows that are looked up here; 0 until known */
};

/* The library has one log for the whole process. Its first complaint says why something failed, the later ones only
 * that it did; they name files, tensors and sizes, never payload. */
static char complaint[200];

static void keep_complaint(enum ggml_log_level level, const char *text, void *context)
{
    (void) context;
    if (level == GGML_LOG_LEVEL_ERROR && !complaint[0]) {
        const char *said = strstr(text, ": "); /* after the name of a function */
        snprintf(complaint, sizeof complaint, "%s", said ? said + 2 : text);
        complaint[strcspn(complaint, "\n")] = 0;
    }
}

static uint32_t us_fit(int64_t us)
{
    return us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t) us;
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint32_t min2(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- opening ---- */

/* What the file itself says: its architecture, its name, and the table it holds, if any. */
static cmif_code read_file(cmif_engine *engine, const char *path, cmif_err *err)
{
    cmif_code rc        = CMIF_OK;
    bool      has_table = true, tied = false;
    cmif_str  text = {0};

    rc = cmif_gguf_open(path, &engine->file, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_gguf_get_str(engine->file, "general.architecture", &text, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    if (text.size == 0 || text.size >= sizeof engine->welcome.arch) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "general.architecture has %zu bytes, expected 1 to %zu", text.size,
                       sizeof engine->welcome.arch - 1);
        goto done;
    }
    memcpy(engine->welcome.arch, text.data, text.size);
    engine->welcome.arch_size = (uint8_t) text.size;
    rc = cmif_arch_find(engine->file, &engine->arch, err); /* others would abort the process, or answer nonsense */
    if (rc != CMIF_OK) {
        goto done;
    }
    if (cmif_gguf_get_str(engine->file, "cmif.role", &text, NULL) == CMIF_OK && cmif_str_is(text, "client")) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "this is the client's half of a split: the server takes server.gguf");
        goto done;
    }
    if (cmif_gguf_find(engine->file, "cmif.model_id")) { /* a half made by `cmif split`: its own keys must be there */
        rc = cmif_gguf_get_hash(engine->file, "cmif.model_id", engine->welcome.model_id, err);
        if (rc == CMIF_OK) {
            rc = cmif_gguf_get_bool(engine->file, "cmif.has_table", &has_table, err);
        }
        if (rc == CMIF_OK && cmif_gguf_find(engine->file, "cmif.tied")) {
            rc = cmif_gguf_get_bool(engine->file, "cmif.tied", &tied, err);
        }
        if (rc != CMIF_OK) {
            goto done;
        }
    }
    if (cmif_gguf_find(engine->file, "cmif.row_scale")) {
        rc = cmif_gguf_get_f32(engine->file, "cmif.row_scale", &engine->row_scale, err);
        if (rc != CMIF_OK) {
            goto done;
        }
    }
    if (has_table) { /* a tied split keeps the one copy as output.weight, or as token_embd where the architecture wants
                      */
        engine->table = tied ? cmif_gguf_find_tensor(engine->file, "output.weight") : NULL;
        if (!engine->table) {
            engine->table = cmif_gguf_find_tensor(engine->file, "token_embd.weight");
        }
        if (!engine->table) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "no tensor token_embd.weight");
            goto done;
        }
    }
done:
    return rc;
}

/* The table must be what looking up an id in it expects. */
static cmif_code check_table(cmif_engine *engine, cmif_err *err)
{
    const cmif_gguf_tensor *t = engine->table;

    if (t->shape[0] != engine->welcome.width || t->shape[1] < engine->welcome.vocab || t->shape[2] * t->shape[3] != 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "the table has shape %" PRIu64 " x %" PRIu64 ", expected %u x %u",
                         t->shape[0], t->shape[1], engine->welcome.width, engine->welcome.vocab);
    }
    if (t->type != CMIF_GGML_F32 && !ggml_get_type_traits((enum ggml_type) t->type)->to_float) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "the table is of type %s, which cannot be read row by row",
                         cmif_ggml_type_name(t->type));
    }
    if (!(engine->row_scale > 0)) { /* a whole model */
        engine->row_scale = engine->arch->scale == CMIF_SCALE_ROOT_WIDTH ? sqrtf((float) engine->welcome.width) : 1;
    }
    engine->table_row_size = ggml_row_size((enum ggml_type) t->type, (int64_t) engine->welcome.width);
    return CMIF_OK;
}

/* A key of the architecture, "llama.context_length"; absent or of another type: otherwise. */
static uint32_t arch_uint(const cmif_engine *engine, const char *key, uint32_t otherwise)
{
    char     name[sizeof engine->welcome.arch + 64];
    uint32_t value;
    snprintf(name, sizeof name, "%s.%s", engine->welcome.arch, key);
    return cmif_gguf_get_uint(engine->file, name, &value, NULL) == CMIF_OK ? value : otherwise;
}

/* Key-value heads of all layers together: one number for all, or an array (hybrids have zeros in it). */
static uint64_t cache_heads(const cmif_engine *engine)
{
    char           name[sizeof engine->welcome.arch + 64];
    const uint8_t *items;
    size_t         count;
    const uint32_t layers = (uint32_t) llama_model_n_layer(engine->model);

    snprintf(name, sizeof name, "%s.attention.head_count_kv", engine->welcome.arch);
    for (cmif_gguf_type type = CMIF_GGUF_U32; type <= CMIF_GGUF_I32; type++) {
        if (cmif_gguf_get_array(engine->file, name, type, &items, &count, NULL) == CMIF_OK) {
            uint64_t sum = 0;
            for (size_t i = 0; i < count; i++) {
                uint32_t heads;
                memcpy(&heads, items + i * sizeof heads, sizeof heads);
                sum += heads;
            }
            return sum;
        }
    }
    return (uint64_t) layers * (uint32_t) llama_model_n_head_kv(engine->model);
}

/* Bytes that can be had where the cache will live; UINT64_MAX when nobody says. */
static uint64_t memory_free(int32_t gpu_layers)
{
    uint64_t free_bytes = 0;

    for (size_t i = 0; gpu_layers && i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_GPU) {
            size_t here, total;
            ggml_backend_dev_memory(device, &here, &total);
            free_bytes += here;
        }
    }
    if (free_bytes) {
        return free_bytes;
    }
    FILE              *info = fopen("/proc/meminfo", "re");
    char               line[128];
    unsigned long long kib = 0;
    while (info && !kib && fgets(line, sizeof line, info)) {
        (void) sscanf(line, "MemAvailable: %llu", &kib);
    }
    if (info) {
        fclose(info);
    }
    return kib ? (uint64_t) kib * 1024 : UINT64_MAX;
}

static uint32_t padded(uint32_t rows)
{
    return (rows + CELL_PAD - 1) / CELL_PAD * CELL_PAD;
}

/* The library aborts, or is killed later, when the cache does not fit: 16 bits for each number of each key and value.
 * In double: nothing wraps, and nobody needs the last byte. */
static cmif_code check_memory(const cmif_engine *engine, int32_t gpu_layers, cmif_err *err)
{
    const uint32_t heads  = (uint32_t) llama_model_n_head(engine->model);
    const uint32_t size   = heads ? engine->welcome.width / heads : 0;
    const double   floats = (double) arch_uint(engine, "attention.key_length", size) +
                          (double) arch_uint(engine, "attention.value_length", size);
    const double cells  = (double) engine->slot_count * padded(engine->welcome.context);
    const double queues = (double) engine->slot_count * engine->welcome.context * engine->welcome.width * 4;
    const double needed = (double) cache_heads(engine) * floats * 2 * cells + queues; /* prompts, until computed */
    const double left   = (double) memory_free(gpu_layers);

    if (needed > left || cells > INT32_MAX) { /* cells are counted in 32 bits */
        return cmif_fail(
            err, CMIF_E_MEMORY,
            "the cache of %u sessions of %u rows takes %.0f MB and %.0f MB are free: ask for fewer sessions "
            "or a smaller context",
            engine->slot_count, engine->welcome.context, needed / 1e6, left / 1e6);
    }
    return CMIF_OK;
}

/* A decoder: every slot has a cache of its own. tests/plain.c uses the same parameters with one slot. */
static struct llama_context_params decoder_params(const cmif_engine *engine)
{
    struct llama_context_params p = llama_context_default_params();

    p.n_seq_max     = engine->slot_count;
    p.n_ctx         = engine->slot_count * padded(engine->welcome.context);
    p.n_batch       = engine->batch_rows;
    p.n_ubatch      = engine->batch_rows;
    p.n_outputs_max = engine->slot_count; /* one row of a slot has logits; the default reserves a whole batch of them */
    return p;
}

/* An encoder: a sequence is computed whole, in one step, and pooled. */
static struct llama_context_params encoder_params(const cmif_engine *engine, enum llama_pooling_type pooling)
{
    struct llama_context_params p = llama_context_default_params();

    p.n_seq_max    = engine->sequence_count;
    p.n_ctx        = padded(engine->batch_rows);
    p.n_batch      = engine->batch_rows;
    p.n_ubatch     = engine->batch_rows;
    p.embeddings   = true;
    p.pooling_type = pooling;
    return p;
}

/* Some facts about a model are only known once it has a context: make one, ask, and make a better one. */
static cmif_code open_context(cmif_engine *engine, uint32_t threads, int32_t gpu_layers, cmif_err *err)
{
    enum llama_pooling_type pooling = LLAMA_POOLING_TYPE_UNSPECIFIED;
    bool                    again   = true;

    engine->encoder        = engine->arch->output == CMIF_OUTPUT_NONE || arch_uint(engine, "pooling_type", 0) != 0;
    engine->sequence_count = engine->slot_count;
    while (again) {
        /* an encoder takes a whole sequence in one step, and a step has room for one row of every slot */
        engine->batch_rows = engine->slice > engine->slot_count ? engine->slice : engine->slot_count;
        if (engine->encoder && engine->batch_rows < engine->welcome.context) {
            engine->batch_rows = engine->welcome.context;
        }
        struct llama_context_params p = engine->encoder ? encoder_params(engine, pooling) : decoder_params(engine);

        cmif_code rc = engine->encoder ? CMIF_OK : check_memory(engine, gpu_layers, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        p.n_threads       = (int32_t) threads;
        p.n_threads_batch = (int32_t) threads;
        complaint[0]      = 0;
        engine->context   = llama_init_from_model(engine->model, p);
        if (!engine->context) {
            return cmif_fail(err, CMIF_E_MEMORY, "the engine cannot make a context of %u x %u rows: %s",
                             engine->slot_count, engine->welcome.context, complaint);
        }
        engine->memory = llama_get_memory(engine->context);
        again          = false;
        if (!engine->memory && !engine->encoder) {
            engine->encoder = again = true;
        } else if (engine->encoder && llama_pooling_type(engine->context) == LLAMA_POOLING_TYPE_NONE) {
            pooling = LLAMA_POOLING_TYPE_MEAN;
            again   = true;
        } else if (engine->encoder && engine->memory && engine->sequence_count > 1) {
            /* an embedding model made from a decoder: with several sequences in a batch the library would cut each into
             * pieces and pool the pieces */
            engine->sequence_count = 1;
            again                  = true;
        }
        if (again) {
            llama_free(engine->context);
            engine->context = NULL;
        }
    }
    return CMIF_OK;
}

/* Threads that stay: without, the library starts new ones for every step. They wait awake for a moment after each. */
static void attach_threads(cmif_engine *engine, uint32_t threads)
{
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_reg_t reg = cpu ? ggml_backend_dev_backend_reg(cpu) : NULL;
    ggml_threadpool_t (*pool_new)(struct ggml_threadpool_params *) =
        reg ? (ggml_threadpool_t(*)(struct ggml_threadpool_params *)) ggml_backend_reg_get_proc_address(
                  reg, "ggml_threadpool_new")
            : NULL;
    engine->pool_free =
        reg ? (void (*)(ggml_threadpool_t)) ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_free") : NULL;
    if (pool_new && engine->pool_free) {
        struct ggml_threadpool_params p = ggml_threadpool_params_default((int) threads);
        engine->pool                    = pool_new(&p);
    }
    if (engine->pool) {
        llama_attach_threadpool(engine->context, engine->pool, engine->pool);
    }
}

static cmif_code open_model(cmif_engine *engine, const cmif_engine_options *options, cmif_err *err)
{
    struct llama_model_params p       = llama_model_default_params();
    cmif_frame_welcome       *welcome = &engine->welcome;

    p.n_gpu_layers = options->gpu_layers < 0 ? -1 : options->gpu_layers;
    complaint[0]   = 0;
    engine->model  = llama_model_load_from_file(options->path, p);
    if (!engine->model) {
        return cmif_fail(err, CMIF_E_FORMAT, "the engine cannot load it: %s", complaint);
    }
    const int32_t              width   = llama_model_n_embd(engine->model);
    const int32_t              vocab   = llama_vocab_n_tokens(llama_model_get_vocab(engine->model));
    const int32_t              trained = llama_model_n_ctx_train(engine->model);
    const enum llama_rope_type rope    = llama_model_rope_type(engine->model);

    if (llama_model_n_embd_inp(engine->model) != width || rope == LLAMA_ROPE_TYPE_MROPE ||
        rope == LLAMA_ROPE_TYPE_IMROPE || rope == LLAMA_ROPE_TYPE_VISION || llama_model_is_diffusion(engine->model)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "models of architecture '%s' need more than one row and one position per token",
                         welcome->arch);
    }
    if (width < 1 || width > 65536 || vocab < 1 || trained < 1) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "width %d, vocabulary %d, context %d: expected 1 to 65536, and positive numbers", width, vocab,
                         trained);
    }
    welcome->width   = (uint32_t) width;
    welcome->vocab   = (uint32_t) vocab;
    welcome->context = options->context;
    if (!welcome->context) {
        welcome->context = (uint32_t) trained < CONTEXT_DEFAULT_MAX ? (uint32_t) trained : CONTEXT_DEFAULT_MAX;
    }
    if (welcome->context > (uint32_t) trained) { /* learned positions beyond it do not exist: the process would abort */
        return cmif_fail(err, CMIF_E_RANGE, "a context of %u rows is asked for, the model has %d", welcome->context,
                         trained);
    }
    return engine->table ? check_table(engine, err) : CMIF_OK;
}

static cmif_code make_room(cmif_engine *engine, cmif_err *err)
{
    const size_t        rows = engine->batch_rows;
    struct llama_batch *b    = &engine->batch;

    engine->slots     = calloc(engine->slot_count, sizeof *engine->slots);
    engine->sequences = calloc(engine->slot_count, sizeof *engine->sequences);
    engine->row       = malloc(engine->welcome.width * sizeof *engine->row);
    b->embd           = malloc(rows * engine->welcome.width * sizeof *b->embd);
    b->pos            = malloc(rows * sizeof *b->pos);
    b->n_seq_id       = malloc(rows * sizeof *b->n_seq_id);
    b->seq_id         = malloc(rows * sizeof *b->seq_id);
    b->logits         = malloc(rows * sizeof *b->logits);
    if (!engine->slots || !engine->sequences || !engine->row || !b->embd || !b->pos || !b->n_seq_id || !b->seq_id ||
        !b->logits) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows of %u floats", rows, engine->welcome.width);
    }
    for (uint32_t i = 0; i < engine->slot_count; i++) {
        engine->sequences[i] = (llama_seq_id) (engine->sequence_count == 1 ? 0 : i);
    }
    return CMIF_OK;
}

cmif_code cmif_engine_open(const cmif_engine_options *options, cmif_engine **out, cmif_err *err)
{
    cmif_code    rc      = CMIF_OK;
    cmif_engine *engine  = NULL;
    uint32_t     threads = options->threads;

    if (options->slots < 1 || options->slots > SLOTS_MAX || options->batch > BATCH_MAX || threads > THREADS_MAX) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%u sessions, batch %u, %u threads: expected 1 to %d, at most %d, at most %d",
                       options->slots, options->batch, threads, SLOTS_MAX, BATCH_MAX, THREADS_MAX);
        goto done;
    }
    if (!threads) {
        const long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads          = cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (uint32_t) cores;
    }
    setenv("GGML_NO_BACKTRACE", "1", /* overwrite= */ 1); /* an abort would start a debugger */
    llama_log_set(keep_complaint, NULL);
    llama_backend_init();

    engine = calloc(1, sizeof *engine);
    if (!engine) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for an engine");
        goto done;
    }
    engine->slot_count = options->slots;
    engine->slice      = options->batch ? options->batch : BATCH_DEFAULT;
    rc                 = read_file(engine, options->path, err);
    if (rc == CMIF_OK) {
        rc = open_model(engine, options, err);
    }
    if (rc == CMIF_OK) {
        rc = open_context(engine, threads, options->gpu_layers, err);
    }
    if (rc == CMIF_OK) {
        attach_threads(engine, threads);
        rc = make_room(engine, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "model '%s'", options->path);
        goto done;
    }
    if (engine->encoder) {
        engine->welcome.flags |= CMIF_WELCOME_ENCODER;
        engine->welcome.outputs = llama_pooling_type(engine->context) == LLAMA_POOLING_TYPE_RANK
                                      ? llama_model_n_cls_out(engine->model)
                                      : (uint32_t) llama_model_n_embd_out(engine->model);
    }
    if (engine->table) {
        engine->welcome.flags |= CMIF_WELCOME_TABLE;
    }
    *out   = engine;
    engine = NULL;
done:
    cmif_engine_free(engine);
    return rc;
}

static void slot_stop(slot *s);

void cmif_engine_free(cmif_engine *engine)
{
    if (!engine) {
        return;
    }
    for (uint32_t i = 0; engine->slots && i < engine->slot_count; i++) {
        slot_stop(&engine->slots[i]);
    }
    if (engine->context) {
        llama_free(engine->context);
    }
    if (engine->pool) {
        engine->pool_free(engine->pool);
    }
    if (engine->model) {
        llama_model_free(engine->model);
    }
    cmif_gguf_free(engine->file);
    free(engine->slots);
    free(engine->sequences);
    free(engine->row);
    free(engine->batch.embd);
    free(engine->batch.pos);
    free(engine->batch.n_seq_id);
    free(engine->batch.seq_id);
    free(engine->batch.logits);
    free(engine);
}

const cmif_frame_welcome *cmif_engine_welcome(const cmif_engine *engine)
{
    return &engine->welcome;
}

/* ---- slots ---- */

/* Work on the slot ends; what is in its cache stays. */
static void slot_stop(slot *s)
{
    cmif_sampler_free(s->sampler);
    free(s->queue);
    s->sampler    = NULL;
    s->queue      = NULL;
    s->queue_size = 0;
    s->state      = SLOT_IDLE;
    s->cancelled  = false;
    s->take       = 0;
}

static void slot_drop(cmif_engine *engine, slot *s)
{
    slot_stop(s);
    s->cached = 0;
    if (engine->memory) {
        llama_memory_seq_rm(engine->memory, engine->sequences[s - engine->slots], -1, -1);
    }
}

/* Keep rows [0, position) of the cache. Recurrent models cannot go back: then nothing is kept. */
static cmif_code slot_keep(cmif_engine *engine, slot *s, uint32_t position, cmif_err *err)
{
    const llama_seq_id sequence = engine->sequences[s - engine->slots];

    if (!engine->memory || position == s->cached) {
        return CMIF_OK;
    }
    if (position == 0) {
        slot_drop(engine, s);
        return CMIF_OK;
    }
    if (!llama_memory_seq_rm(engine->memory, sequence, (llama_pos) position, -1) ||
        llama_memory_seq_pos_max(engine->memory, sequence) != (llama_pos) position - 1) {
        slot_drop(engine, s);
        return cmif_fail(err, CMIF_E_RANGE, "the cache of this model cannot be cut at row %u: begin at 0", position);
    }
    s->cached = position;
    return CMIF_OK;
}

cmif_code cmif_engine_begin(cmif_engine *engine, uint32_t slot_index, const cmif_frame_begin *begin, cmif_err *err)
{
    const cmif_frame_welcome *w       = &engine->welcome;
    const bool                encode  = begin->mode == CMIF_MODE_ENCODE;
    const bool                ids     = begin->row_type == CMIF_ROWS_ID || (begin->flags & CMIF_BEGIN_LOOP);
    cmif_sampler             *sampler = NULL;
    cmif_code                 rc      = CMIF_OK;

    if (slot_index >= engine->slot_count || engine->slots[slot_index].state != SLOT_IDLE) {
        return cmif_fail(err, CMIF_E_RANGE, "session %u of %u does not exist or is at work", slot_index,
                         engine->slot_count);
    }
    slot *s = &engine->slots[slot_index];
    if (begin->mode > CMIF_MODE_ENCODE || begin->row_type >= CMIF_ROW_TYPES || begin->row_count < 1 ||
        begin->max_tokens < 1 || begin->stop_count > CMIF_WIRE_STOPS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "mode %u, row type %u, %u rows, %u tokens, %u stops: out of bounds",
                         begin->mode, begin->row_type, begin->row_count, begin->max_tokens, begin->stop_count);
    }
    if (encode != engine->encoder) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "this model can only %s", engine->encoder ? "encode" : "generate");
    }
    if (ids && !engine->table) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "this server holds no embedding table: send rows, not ids");
    }
    if (!cmif_row_size((cmif_row_type) begin->row_type, w->width)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "rows of %u floats cannot be sent as %s", w->width,
                         cmif_row_type_name(begin->row_type));
    }
    if (begin->position > s->cached) {
        return cmif_fail(err, CMIF_E_RANGE, "begin at row %u, the cache has %u", begin->position, s->cached);
    }
    if (begin->row_count > w->context - begin->position) {
        return cmif_fail(err, CMIF_E_RANGE, "%u rows after row %u, the context has %u", begin->row_count,
                         begin->position, w->context);
    }
    if (!encode) {
        rc = cmif_sampler_new(&begin->sampling, w->vocab, &sampler, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    rc = slot_keep(engine, s, begin->position, err);
    if (rc != CMIF_OK) {
        cmif_sampler_free(sampler);
        return rc;
    }
    s->state    = SLOT_PROMPT;
    s->begin    = *begin;
    s->type     = (cmif_row_type) begin->row_type;
    s->sampler  = sampler;
    s->arrived  = 0;
    s->fed      = 0;
    s->tokens   = 0;
    s->began_us = now_us();
    return CMIF_OK;
}

/* Rows are finite and of a sane size, ids are in the vocabulary: the library would compute with anything. */
static cmif_code check_rows(cmif_engine *engine, cmif_row_type type, const uint8_t *rows, size_t count, cmif_err *err)
{
    const size_t size = cmif_row_size(type, engine->welcome.width);

    for (size_t i = 0; i < count; i++) {
        if (type == CMIF_ROWS_ID) {
            uint32_t id;
            memcpy(&id, rows + i * size, sizeof id);
            if (id >= engine->welcome.vocab) {
                return cmif_fail(err, CMIF_E_RANGE, "id %zu of this chunk is outside the vocabulary of %u", i,
                                 engine->welcome.vocab);
            }
            continue;
        }
        cmif_row_decode(type, rows + i * size, engine->row, engine->welcome.width);
        if (!cmif_row_is_sane(engine->row, engine->welcome.width, CMIF_WIRE_ROW_LIMIT)) {
            return cmif_fail(err, CMIF_E_RANGE, "row %zu of this chunk holds a number that is not finite or above %g",
                             i, (double) CMIF_WIRE_ROW_LIMIT);
        }
    }
    return CMIF_OK;
}

cmif_code cmif_engine_put_rows(cmif_engine *engine, uint32_t slot_index, cmif_row_type type, const void *rows,
                               size_t count, cmif_err *err)
{
    slot *s = slot_index < engine->slot_count ? &engine->slots[slot_index] : NULL;

    if (!s || s->state == SLOT_IDLE) {
        return cmif_fail(err, CMIF_E_RANGE, "session %u expects no rows", slot_index);
    }
    if (s->cancelled) {
        return CMIF_OK; /* they were under way */
    }
    const size_t size     = cmif_row_size((cmif_row_type) s->begin.row_type, engine->welcome.width);
    const bool   loop     = s->begin.flags & CMIF_BEGIN_LOOP;
    const size_t expected = s->state == SLOT_PROMPT ? s->begin.row_count - s->arrived : loop ? 0 : 1 - s->arrived;
    if (type != s->begin.row_type || count < 1 || count > expected) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu rows of type %d, expected at most %zu of type %d", count, (int) type,
                         expected, (int) s->begin.row_type);
    }
    cmif_code rc = check_rows(engine, type, rows, count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const size_t needed = (s->arrived + count) * size; /* below context rows: no overflow */
    if (needed > s->queue_size) {
        const size_t all   = s->begin.row_count * size;
        const size_t more  = 2 * needed < all ? 2 * needed : needed > all ? needed : all;
        uint8_t     *queue = realloc(s->queue, more + sizeof(uint32_t)); /* room for the id of a looped token */
        if (!queue) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows of a prompt", s->arrived + count);
        }
        s->queue      = queue;
        s->queue_size = more;
    }
    memcpy(s->queue + s->arrived * size, rows, count * size);
    s->arrived += (uint32_t) count;
    return CMIF_OK;
}

void cmif_engine_cancel(cmif_engine *engine, uint32_t slot_index)
{
    if (slot_index < engine->slot_count && engine->slots[slot_index].state != SLOT_IDLE) {
        engine->slots[slot_index].cancelled = true;
    }
}

void cmif_engine_drop(cmif_engine *engine, uint32_t slot_index)
{
    if (slot_index < engine->slot_count) {
        slot_drop(engine, &engine->slots[slot_index]);
    }
}

/* Where the slice ends that the slot's next row is in: a multiple of `slice` from where it began, or the end of what
 * comes as a prompt. The last `step` rows of a replay were tokens, computed one by one: they make slices of their own.
 */
static uint32_t slice_end(const cmif_engine *engine, const slot *s)
{
    const uint32_t steps  = s->begin.step < s->begin.row_count ? s->begin.step : s->begin.row_count;
    const uint32_t prompt = s->begin.row_count - steps;

    return s->fed < prompt ? min2(s->fed - s->fed % engine->slice + engine->slice, prompt)
                           : min2(min2(s->fed + engine->slice, s->fed + WIDE_ROWS - 1), s->begin.row_count);
}

/* Is that slice WIDE_ROWS long? Then no piece of it may be shorter, and if not, no piece gets longer: see plan. */
static bool slot_is_wide(const cmif_engine *engine, const slot *s)
{
    return s->state == SLOT_PROMPT && !engine->encoder &&
           slice_end(engine, s) - s->fed / engine->slice * engine->slice >= WIDE_ROWS &&
           s->fed + s->begin.step < s->begin.row_count;
}

/* Rows of the slot that may be computed now. Of a prompt: up to the end of the slice, and only once all its rows have
 * come; so what is computed together does not depend on when rows arrive. */
static uint32_t slot_ready(const cmif_engine *engine, const slot *s)
{
    if (s->state == SLOT_IDLE || s->cancelled) {
        return 0;
    }
    if (s->state == SLOT_STREAM) {
        return s->arrived;
    }
    const uint32_t end = engine->encoder ? s->begin.row_count : slice_end(engine, s);
    return s->arrived >= end ? end - s->fed : 0;
}

bool cmif_engine_has_work(const cmif_engine *engine)
{
    for (uint32_t i = 0; i < engine->slot_count; i++) {
        if (engine->slots[i].cancelled || slot_ready(engine, &engine->slots[i])) {
            return true;
        }
    }
    return false;
}

/* ---- a step ---- */

/* Which rows are computed together. The CPU kernels compute attention for WIDE_ROWS rows of a sequence and more in
 * another order than for fewer, with other last bits; which rows of other sequences are beside them makes no
 * difference. So each row stays in its class: a narrow batch holds every stream that has its next row, and prompts,
 * ends of prompts and replayed tokens of few rows; a wide batch holds one piece of one longer prompt. Then a stream's
 * numbers do not depend on who else is there, nor does a replay's (as far as matrix products are computed alike for one
 * row and for many, which holds for some types of weights only: docs/architecture.md, "Exactness"). */
static uint32_t plan_narrow(cmif_engine *engine)
{
    uint32_t rows = 0, budget = engine->batch_rows;

    for (uint32_t i = 0; i < engine->slot_count; i++) {
        slot *s = &engine->slots[i];
        s->take = s->state == SLOT_STREAM ? slot_ready(engine, s) : 0;
        rows += s->take;
    }
    budget -= rows;
    if (rows && budget > BESIDE_STREAMS) {
        budget = BESIDE_STREAMS; /* the next token of a stream must not be far */
    }
    const uint32_t first = engine->next_narrow;
    for (uint32_t i = 0; budget && i < engine->slot_count; i++) {
        slot *s = &engine->slots[(first + i) % engine->slot_count];
        if (s->state == SLOT_PROMPT && !slot_is_wide(engine, s)) {
            s->take = min2(min2(slot_ready(engine, s), WIDE_ROWS - 1), budget);
            rows += s->take;
            budget -= s->take;
            engine->next_narrow = s->take ? (first + i + 1) % engine->slot_count : engine->next_narrow;
        }
    }
    return rows;
}

/* One piece of the next long prompt. While others stream it is short, but what it leaves of a slice is not too short.
 */
static uint32_t plan_wide(cmif_engine *engine)
{
    const uint32_t first   = engine->next;
    uint32_t       rows    = 0;
    bool           streams = false;

    for (uint32_t i = 0; i < engine->slot_count; i++) {
        engine->slots[i].take = 0;
        streams |= engine->slots[i].state == SLOT_STREAM;
    }
    for (uint32_t i = 0; !rows && i < engine->slot_count; i++) {
        const uint32_t at    = (first + i) % engine->slot_count;
        slot          *s     = &engine->slots[at];
        const uint32_t ready = s->state == SLOT_PROMPT && slot_is_wide(engine, s) ? slot_ready(engine, s) : 0;
        if (ready) {
            rows = streams && ready > BESIDE_STREAMS ? BESIDE_STREAMS : ready;
            if (ready - rows && ready - rows < WIDE_ROWS) {
                rows = ready - WIDE_ROWS >= WIDE_ROWS ? ready - WIDE_ROWS : ready;
            }
            s->take      = rows;
            engine->next = (at + 1) % engine->slot_count;
        }
    }
    return rows;
}

/* Encoders: whole sequences, in turn, as many as fit. */
static uint32_t plan_encoder(cmif_engine *engine)
{
    const uint32_t first = engine->next;
    uint32_t       rows = 0, sequences = 0, next = engine->slot_count;

    for (uint32_t i = 0; i < engine->slot_count; i++) {
        const uint32_t at    = (first + i) % engine->slot_count;
        slot          *s     = &engine->slots[at];
        const uint32_t ready = slot_ready(engine, s);
        s->take              = 0;
        if (ready && ready <= engine->batch_rows - rows && sequences < engine->sequence_count) {
            s->take = ready;
            rows += ready;
            sequences++;
        } else if (ready && next == engine->slot_count) {
            next = at; /* the first that had to wait is the first of the next step */
        }
    }
    engine->next = next < engine->slot_count ? next : first;
    return rows;
}

/* One row as the model takes it: decoded, or looked up exactly as the client would have. */
static void row_put(const cmif_engine *engine, cmif_row_type type, const uint8_t *bytes, float *row)
{
    const uint32_t width = engine->welcome.width;

    if (type != CMIF_ROWS_ID) {
        cmif_row_decode(type, bytes, row, width);
        return;
    }
    uint32_t id;
    memcpy(&id, bytes, sizeof id);
    const uint8_t *stored = engine->table->data + id * engine->table_row_size;
    if (engine->table->type == CMIF_GGML_F32) {
        memcpy(row, stored, width * sizeof *row);
    } else {
        ggml_get_type_traits((enum ggml_type) engine->table->type)->to_float(stored, row, (int64_t) width);
    }
    for (uint32_t i = 0; engine->row_scale != 1 && i < width; i++) {
        row[i] *= engine->row_scale;
    }
}

/* Fill the batch from the plan, slots in order: the library computes together only sequences whose numbers follow each
 * other. Of a prompt the last row wants an output, of an encoder all do. */
static void batch_fill(cmif_engine *engine)
{
    struct llama_batch *b = &engine->batch;

    b->n_tokens = 0;
    for (uint32_t i = 0; i < engine->slot_count; i++) {
        const slot  *s    = &engine->slots[i];
        const size_t size = cmif_row_size(s->type, engine->welcome.width);
        for (uint32_t r = 0; r < s->take; r++) {
            const size_t at   = (size_t) b->n_tokens++;
            const size_t from = s->state == SLOT_PROMPT ? s->fed + r : 0;
            const bool   ends = s->state == SLOT_STREAM || from + 1 == s->begin.row_count;
            row_put(engine, s->type, s->queue + from * size, b->embd + at * engine->welcome.width);
            b->pos[at]      = (llama_pos) (s->cached + r);
            b->n_seq_id[at] = 1;
            b->seq_id[at]   = &engine->sequences[i];
            b->logits[at]   = engine->encoder || ends;
        }
    }
}

static void done_emit(cmif_engine *engine, slot *s, cmif_done_reason reason, cmif_engine_sink sink, void *context)
{
    const int64_t     now   = now_us();
    const int64_t     mid   = s->state == SLOT_STREAM ? s->streamed_us : now;
    cmif_engine_event event = {.slot       = (uint32_t) (s - engine->slots),
                               .kind       = CMIF_FRAME_DONE,
                               .position   = s->cached,
                               .reason     = (uint8_t) reason,
                               .tokens     = s->tokens,
                               .prefill_us = us_fit(mid - s->began_us),
                               .decode_us  = us_fit(now - mid)};
    slot_stop(s);
    sink(context, &event);
}

/* The slot cannot go on, and what is in its cache is of no use. */
static void error_emit(cmif_engine *engine, slot *s, cmif_wire_error code, cmif_engine_sink sink, void *context)
{
    cmif_engine_event event = {
        .slot = (uint32_t) (s - engine->slots), .kind = CMIF_FRAME_ERROR, .reason = (uint8_t) code};
    slot_drop(engine, s);
    sink(context, &event);
}

/* The vector of a whole sequence. */
static void vector_emit(cmif_engine *engine, slot *s, cmif_engine_sink sink, void *context)
{
    cmif_engine_event event = {
        .slot = (uint32_t) (s - engine->slots), .kind = CMIF_FRAME_VECTOR, .count = engine->welcome.outputs};

    event.floats = llama_get_embeddings_seq(engine->context, engine->sequences[event.slot]);
    if (!event.floats || !cmif_row_is_sane(event.floats, event.count, FLT_MAX)) {
        error_emit(engine, s, CMIF_WIRE_E_ENGINE, sink, context);
        return;
    }
    sink(context, &event);
    done_emit(engine, s, CMIF_DONE_STOP, sink, context);
    slot_drop(engine, s);
}

/* The next token of a stream, and what follows from it. */
static void token_emit(cmif_engine *engine, slot *s, const float *logits, cmif_engine_sink sink, void *context)
{
    const cmif_frame_begin *begin = &s->begin;
    cmif_engine_event       event = {.slot     = (uint32_t) (s - engine->slots),
                                     .kind     = CMIF_FRAME_LOGITS,
                                     .position = s->cached,
                                     .floats   = logits,
                                     .count    = engine->welcome.vocab};
    bool                    stop  = false;

    if (!logits || !cmif_sampler_pick(s->sampler, logits, begin->step + s->tokens, &event.id,
                                      begin->flags & CMIF_BEGIN_MARGIN ? &event.margin : NULL)) {
        error_emit(engine, s, CMIF_WIRE_E_ENGINE, sink, context);
        return;
    }
    if (begin->flags & CMIF_BEGIN_LOGITS) {
        sink(context, &event);
    }
    for (uint16_t i = 0; i < begin->stop_count; i++) {
        stop |= begin->stops[i] == event.id;
    }
    s->tokens++;
    const bool last = stop || s->tokens == begin->max_tokens || s->cached == engine->welcome.context;
    event.kind      = CMIF_FRAME_TOKEN;
    event.floats    = NULL;
    event.count     = 0;
    event.looped    = !last && (begin->flags & CMIF_BEGIN_LOOP);
    if (event.looped) { /* its row is an id now; the queue has room for one, as the prompt had at least one row */
        s->type    = CMIF_ROWS_ID;
        s->arrived = 1;
        memcpy(s->queue, &event.id, sizeof event.id);
    }
    sink(context, &event);
    if (last) {
        done_emit(engine, s,
                  stop                             ? CMIF_DONE_STOP
                  : s->tokens == begin->max_tokens ? CMIF_DONE_LENGTH
                                                   : CMIF_DONE_CONTEXT,
                  sink, context);
    }
}

/* A stream queues one row; a long prompt's memory goes back. */
static void queue_shrink(const cmif_engine *engine, slot *s)
{
    const size_t size  = cmif_row_size(s->type, engine->welcome.width);
    uint8_t     *queue = realloc(s->queue, size + sizeof(uint32_t));
    if (queue) {
        s->queue      = queue;
        s->queue_size = size;
    }
}

/* The rows of the slot were computed; its last one is number `last` of that batch. */
static void slot_deliver(cmif_engine *engine, slot *s, int32_t last, cmif_engine_sink sink, void *context)
{
    if (engine->encoder) {
        vector_emit(engine, s, sink, context);
        return;
    }
    s->cached += s->take;
    if (s->state == SLOT_PROMPT) {
        s->fed += s->take;
        if (s->fed < s->begin.row_count) {
            cmif_engine_event event = {
                .slot = (uint32_t) (s - engine->slots), .kind = CMIF_FRAME_PROGRESS, .position = s->cached};
            sink(context, &event);
            return;
        }
        s->state       = SLOT_STREAM;
        s->streamed_us = now_us();
        queue_shrink(engine, s);
    }
    s->arrived = 0;
    token_emit(engine, s, llama_get_logits_ith(engine->context, last), sink, context);
}

/* Rows [first, first + count) of the batch. 0: computed; 1: refused, the caches are as before; else the engine is lost.
 */
static int compute(cmif_engine *engine, int32_t first, int32_t count)
{
    struct llama_batch part = engine->batch;

    part.n_tokens = count;
    part.embd += (size_t) first * engine->welcome.width;
    part.pos += first;
    part.n_seq_id += first;
    part.seq_id += first;
    part.logits += first;
    complaint[0] = 0;
    const int rc = llama_decode(engine->context, part);
    return rc == -1 ? 1 : rc;
}

/* Compute what was planned, and hand out what came of it. */
static cmif_code run_batch(cmif_engine *engine, cmif_engine_sink sink, void *context, cmif_err *err)
{
    batch_fill(engine);
    int     rc    = compute(engine, 0, engine->batch.n_tokens);
    bool    alone = rc == 1; /* somebody's rows do not go: all by themselves, to see whose */
    int32_t first = 0;
    for (uint32_t i = 0; i < engine->slot_count; i++) {
        slot         *s    = &engine->slots[i];
        const int32_t take = (int32_t) s->take;
        if (!take) {
            continue;
        }
        if (alone) {
            rc = compute(engine, first, take);
        }
        if (rc != 0 && rc != 1) {
            return cmif_fail(err, CMIF_E_IO, "the engine failed with code %d: %s", rc, complaint);
        }
        if (rc == 1) {
            error_emit(engine, s, CMIF_WIRE_E_ENGINE, sink, context);
        } else {
            slot_deliver(engine, s, alone ? take - 1 : first + take - 1, sink, context);
        }
        first += take;
    }
    return CMIF_OK;
}

cmif_code cmif_engine_step(cmif_engine *engine, cmif_engine_sink sink, void *context, cmif_err *err)
{
    cmif_code rc = CMIF_OK;

    for (uint32_t i = 0; i < engine->slot_count; i++) {
        if (engine->slots[i].cancelled) {
            done_emit(engine, &engine->slots[i], CMIF_DONE_CANCELLED, sink, context);
        }
    }
    if (engine->encoder) {
        return plan_encoder(engine) ? run_batch(engine, sink, context, err) : CMIF_OK;
    }
    if (plan_narrow(engine)) {
        rc = run_batch(engine, sink, context, err);
    }
    if (rc == CMIF_OK && plan_wide(engine)) {
        rc = run_batch(engine, sink, context, err);
    }
    return rc;
}
