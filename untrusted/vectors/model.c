/* Vectors out of models: rows of the embedding table, and sentence vectors of an encoder. */
#include "vectors/internal.h"
#include "vectors/matrix.h"

#include "ggml.h"
#include "llama.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECES_MAX      = 128,   /* of one text; what is longer is cut */
    BATCH_PIECES    = 128,   /* attention is computed over a whole batch, so that larger ones are slower */
    BATCH_TEXTS     = 32,    /* divides BATCH_PIECES, which llama.cpp wants */
    REPORT_EVERY    = 16,    /* batches */
    TABLE_WIDTH_MAX = 65536, /* of a row */
};

/* The library has one log for the whole process: its first complaint says why something failed. It names files, tensors
 * and sizes. */
static char complaint[160];

static void keep_complaint(enum ggml_log_level level, const char *text, void *context)
{
    (void) context;
    if (level == GGML_LOG_LEVEL_ERROR && !complaint[0]) {
        const char *said = strstr(text, ": "); /* after the name of a function */
        snprintf(complaint, sizeof complaint, "%s", said ? said + 2 : text);
        complaint[strcspn(complaint, "\n")] = 0;
    }
}

/* On the processor alone: what a graphics card sums depends on the card. */
static cmif_code load(const char *gguf, bool vocabulary_only, struct llama_model **out, cmif_err *err)
{
    ggml_backend_dev_t        none[] = {NULL};
    struct llama_model_params p      = llama_model_default_params();
    p.vocab_only                     = vocabulary_only;
    p.devices                        = none;
    p.n_gpu_layers                   = 0;
    complaint[0]                     = 0;
    llama_log_set(keep_complaint, NULL);
    struct llama_model *model = llama_model_load_from_file(gguf, p);
    if (!model) {
        return cmif_fail(err, CMIF_E_FORMAT, "the engine cannot load '%s': %s", gguf,
                         complaint[0] ? complaint : "no reason");
    }
    *out = model;
    return CMIF_OK;
}

/* Pieces of a text, at most max; the last one of a text that is cut is the one that ends texts. */
static int32_t tokenize(const struct llama_vocab *vocab, cmif_str text, bool special, llama_token *pieces, int32_t max)
{
    enum { ROOM = 4096 };
    llama_token room[ROOM];
    int32_t     count;
    if (text.size > ROOM - 64) { /* a piece has at least a byte */
        text.size = ROOM - 64;
    }
    count = llama_tokenize(vocab, text.data, (int32_t) text.size, room, ROOM, special, /* parse_special= */ false);
    if (count > max) {
        room[max - 1] = special ? room[count - 1] : room[max - 1];
        count         = max;
    }
    if (count > 0) {
        memcpy(pieces, room, (size_t) count * sizeof *pieces);
    }
    return count < 0 ? 0 : count;
}

/* ---- rows of the table ---- */

/* Does the tokenizer itself put the space in front that marks the start of a word? */
static bool puts_space(const struct llama_vocab *vocab, const cmif_gguf *file)
{
    const enum llama_vocab_type type = llama_vocab_type(vocab);
    bool                        says = type == LLAMA_VOCAB_TYPE_SPM || type == LLAMA_VOCAB_TYPE_UGM;
    if (cmif_gguf_find(file, "tokenizer.ggml.add_space_prefix") &&
        cmif_gguf_get_bool(file, "tokenizer.ggml.add_space_prefix", &says, NULL) != CMIF_OK) {
        return false;
    }
    return type == LLAMA_VOCAB_TYPE_WPM || says;
}

/* The piece that stands for what is not in the vocabulary; -1: there is none. WordPiece marks it as any other special
 * piece. */
static llama_token unknown_piece(const struct llama_vocab *vocab, const cmif_gguf *file)
{
    uint32_t id;
    if (cmif_gguf_get_uint(file, "tokenizer.ggml.unknown_token_id", &id, NULL) == CMIF_OK) {
        return (llama_token) id;
    }
    return llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM ? 100 : -1; /* the library's own default */
}

typedef struct table {
    llama_token             unknown;
    const cmif_gguf_tensor *tensor;
    uint32_t                width;
    size_t                  row_size;
    ggml_to_float_t         to_float; /* NULL: they are floats */
} table;

static cmif_code find_table(const cmif_gguf *file, int32_t vocab_count, table *out, cmif_err *err)
{
    const cmif_gguf_tensor *t = cmif_gguf_find_tensor(file, "token_embd.weight");
    if (!t || t->dims != 2 || t->shape[0] > TABLE_WIDTH_MAX || vocab_count < 0 ||
        t->shape[1] < (uint64_t) vocab_count) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "expected a tensor 'token_embd.weight' with a row for each of %d pieces: %s", vocab_count,
                         t ? "it has another shape" : "there is none (is this a whole model?)");
    }
    const struct ggml_type_traits *traits =
        t->type < GGML_TYPE_COUNT ? ggml_get_type_traits((enum ggml_type) t->type) : NULL;
    if (!traits || (t->type != GGML_TYPE_F32 && !traits->to_float)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "the table is of type %s, which cannot be read as floats",
                         traits && traits->type_name ? traits->type_name : "unknown");
    }
    *out = (table){.tensor   = t,
                   .width    = (uint32_t) t->shape[0],
                   .row_size = (size_t) (t->size / t->shape[1]),
                   .to_float = t->type == GGML_TYPE_F32 ? NULL : traits->to_float};
    return CMIF_OK;
}

static void read_row(const table *t, llama_token id, float *row)
{
    const uint8_t *bytes = t->tensor->data + (size_t) id * t->row_size;
    if (t->to_float) {
        t->to_float(bytes, row, t->width);
    } else {
        memcpy(row, bytes, t->width * sizeof *row);
    }
}

/* The mean row of a word's pieces; false: there are none, or one stands for what is not in the vocabulary. */
static bool mean_row(const table *t, const struct llama_vocab *vocab, cmif_str text, float *piece, double *sum,
                     float *out)
{
    llama_token pieces[PIECES_MAX];
    int32_t     count = tokenize(vocab, text, /* special= */ false, pieces, PIECES_MAX);

    memset(sum, 0, t->width * sizeof *sum);
    for (int32_t i = 0; i < count; i++) {
        if (pieces[i] == t->unknown) {
            return false;
        }
        read_row(t, pieces[i], piece);
        for (uint32_t k = 0; k < t->width; k++) {
            sum[k] += (double) piece[k];
        }
    }
    for (uint32_t k = 0; count > 0 && k < t->width; k++) {
        out[k] = (float) (sum[k] / count);
    }
    return count > 0;
}

cmif_code cmif_vectors_of_rows(const cmif_lexicon *lexicon, const char *gguf, cmif_vectors **out, cmif_err *err)
{
    cmif_code           rc      = CMIF_OK;
    cmif_gguf          *file    = NULL;
    struct llama_model *model   = NULL;
    cmif_vectors       *vectors = NULL;
    char               *text    = NULL;
    float              *piece   = NULL;
    double             *sum     = NULL;
    size_t              longest = 0;
    table               t       = {0};

    rc = cmif_gguf_open(gguf, &file, err);
    if (rc == CMIF_OK) {
        rc = load(gguf, /* vocabulary_only= */ true, &model, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    rc                              = find_table(file, llama_vocab_n_tokens(vocab), &t, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(lexicon->count, t.width, &vectors, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "model '%s'", gguf);
        goto done;
    }
    for (uint32_t word = 1; word < lexicon->count; word++) {
        longest = lexicon->words[word].size > longest ? lexicon->words[word].size : longest;
    }
    text  = malloc(longest + 1);
    piece = malloc(t.width * sizeof *piece);
    sum   = malloc(t.width * sizeof *sum);
    if (!text || !piece || !sum) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %u columns", t.width);
        goto done;
    }
    t.unknown         = unknown_piece(vocab, file);
    text[0]           = ' ';
    const size_t skip = puts_space(vocab, file) ? 1 : 0;
    for (uint32_t word = 1; word < lexicon->count; word++) {
        const cmif_str w = lexicon->words[word];
        memcpy(text + 1, w.data, w.size);
        vectors->known[word] = mean_row(&t, vocab, (cmif_str){text + skip, w.size + 1 - skip}, piece, sum,
                                        vectors->rows + (size_t) word * t.width);
    }
    rc = cmif_vectors_seal(vectors, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "model '%s'", gguf);
        goto done;
    }
    *out    = vectors;
    vectors = NULL;
done:
    free(sum);
    free(piece);
    free(text);
    cmif_vectors_free(vectors);
    llama_model_free(model);
    cmif_gguf_free(file);
    return rc;
}

/* ---- sentence vectors ---- */

/* What a batch holds depends on the texts alone, and each is computed by one thread: so the threads change no bit. */
typedef struct worker {
    struct llama_context *context;
    struct llama_batch    batch;
    cmif_err              err;
    cmif_code             rc;
} worker;

typedef struct encoding {
    uint32_t      text_count, batch_count, width;
    uint32_t     *batch_first; /* [batch_count + 1] texts */
    size_t       *text_first;  /* [text_count + 1] pieces */
    llama_token  *pieces;
    worker       *workers;
    uint32_t      worker_count;
    atomic_uint   next, done; /* batches */
    atomic_bool   stop;
    cmif_progress progress;
    void         *context;
    const char   *what;
    bool          labels; /* a classifier's logits as they are; else sentence vectors of length 1 */
    float        *rows;   /* (text_count, width) */
} encoding;

static void put_piece(struct llama_batch *batch, llama_token piece, llama_pos position, llama_seq_id text)
{
    const int32_t k     = batch->n_tokens++;
    batch->token[k]     = piece;
    batch->pos[k]       = position;
    batch->n_seq_id[k]  = 1;
    batch->seq_id[k][0] = text;
    batch->logits[k]    = 1;
}

static cmif_code encode_batch(encoding *e, worker *w, uint32_t batch)
{
    const uint32_t first = e->batch_first[batch], end = e->batch_first[batch + 1];
    w->batch.n_tokens = 0;
    for (uint32_t text = first; text < end; text++) {
        for (size_t at = e->text_first[text]; at < e->text_first[text + 1]; at++) {
            put_piece(&w->batch, e->pieces[at], (llama_pos) (at - e->text_first[text]), (llama_seq_id) (text - first));
        }
    }
    const int32_t failed = llama_encode(w->context, w->batch);
    if (failed) {
        return cmif_fail(&w->err, CMIF_E_FORMAT, "the engine fails on texts %u to %u (code %d): %s", first, end - 1,
                         failed, complaint[0] ? complaint : "no reason");
    }
    for (uint32_t text = first; text < end; text++) {
        const float *x   = llama_get_embeddings_seq(w->context, (llama_seq_id) (text - first));
        float       *row = e->rows + (size_t) text * e->width;
        double       sum = 0;
        for (uint32_t i = 0; x && i < e->width; i++) {
            sum += (double) x[i] * (double) x[i];
        }
        if (!x || (!e->labels && !(sum > 0)) || !isfinite(sum)) {
            return cmif_fail(&w->err, CMIF_E_FORMAT, "the engine gives no vector for text %u", text);
        }
        for (uint32_t i = 0; i < e->width; i++) {
            row[i] = e->labels ? x[i] : (float) ((double) x[i] / sqrt(sum));
        }
    }
    return CMIF_OK;
}

static void encode_work(void *context, uint32_t index)
{
    encoding *e = context;
    worker   *w = &e->workers[index];
    for (uint32_t batch, served = 0; w->rc == CMIF_OK && !atomic_load(&e->stop); served++) {
        if ((batch = atomic_fetch_add(&e->next, 1)) >= e->batch_count) {
            return;
        }
        w->rc               = encode_batch(e, w, batch);
        const uint32_t done = atomic_fetch_add(&e->done, 1) + 1;
        if (w->rc != CMIF_OK) {
            atomic_store(&e->stop, true);
        } else if (index == 0 && e->progress && served % REPORT_EVERY == 0 && /* one thread speaks */
                   !e->progress(e->context, e->what, done < e->batch_count ? e->batch_first[done] : e->text_count,
                                e->text_count)) {
            w->rc = cmif_fail(&w->err, CMIF_E_CANCELLED, "stopped while %s were computed", e->what);
            atomic_store(&e->stop, true);
        }
    }
}

/* All texts to pieces, and into batches. */
static cmif_code plan(encoding *e, const struct llama_vocab *vocab, const cmif_str *texts, int32_t pieces_max,
                      cmif_err *err)
{
    size_t   used = 0, capacity = 0;
    uint32_t in_batch     = 0;
    size_t   batch_pieces = 0;

    e->batch_first = calloc((size_t) e->text_count + 1, sizeof *e->batch_first);
    e->text_first  = calloc((size_t) e->text_count + 1, sizeof *e->text_first);
    if (!e->batch_first || !e->text_first) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %u texts", e->text_count);
    }
    for (uint32_t text = 0; text < e->text_count; text++) {
        if (capacity - used < PIECES_MAX) {
            capacity           = 2 * capacity + 4096;
            llama_token *wider = realloc(e->pieces, capacity * sizeof *wider);
            if (!wider) {
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for the pieces of %u texts", e->text_count);
            }
            e->pieces = wider;
        }
        const int32_t count = tokenize(vocab, texts[text], /* special= */ true, e->pieces + used, pieces_max);
        if (count == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "text %u has no pieces", text);
        }
        if (text && (in_batch == BATCH_TEXTS || batch_pieces + (size_t) count > BATCH_PIECES)) {
            e->batch_first[++e->batch_count] = text;
            in_batch                         = 0;
            batch_pieces                     = 0;
        }
        in_batch++;
        batch_pieces += (size_t) count;
        used += (size_t) count;
        e->text_first[text + 1] = used;
    }
    e->batch_first[++e->batch_count] = e->text_count;
    return CMIF_OK;
}

static cmif_code start_workers(encoding *e, struct llama_model *model, uint32_t threads, cmif_err *err)
{
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = p.n_batch = p.n_ubatch = BATCH_PIECES;
    p.n_seq_max                      = BATCH_TEXTS;
    p.n_threads = p.n_threads_batch = 1;
    p.pooling_type                  = e->labels ? LLAMA_POOLING_TYPE_RANK : LLAMA_POOLING_TYPE_MEAN;
    p.flash_attn_type               = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    p.embeddings                    = true;
    p.no_perf                       = true;

    threads    = cmif_threads(threads);
    threads    = threads < e->batch_count ? threads : e->batch_count;
    e->workers = threads ? calloc(threads, sizeof *e->workers) : NULL;
    if (!e->workers) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %u threads", threads);
    }
    for (; e->worker_count < threads; e->worker_count++) {
        worker *w  = &e->workers[e->worker_count];
        w->context = llama_init_from_model(model, p);
        if (!w->context) {
            return cmif_fail(err, CMIF_E_FORMAT, "the engine cannot start: %s", complaint[0] ? complaint : "no reason");
        }
        w->batch = llama_batch_init(BATCH_PIECES, 0, 1);
        if (llama_get_memory(w->context)) {
            e->worker_count++;
            return cmif_fail(err, CMIF_E_UNSUPPORTED,
                             "this model is no encoder: sentence vectors need one, such as MiniLM");
        }
    }
    return CMIF_OK;
}

/* rows (count, *width), malloc'd; labels: logits of a classifier of two labels */
static cmif_code encode(const char *gguf, bool labels, const cmif_str *texts, uint32_t count, uint32_t threads,
                        const char *what, cmif_progress progress, void *context, float **rows, uint32_t *width,
                        cmif_err *err)
{
    cmif_code           rc    = CMIF_OK;
    struct llama_model *model = NULL;
    encoding e = {.text_count = count, .progress = progress, .context = context, .what = what, .labels = labels};

    rc = load(gguf, /* vocabulary_only= */ false, &model, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const int32_t trained = llama_model_n_ctx_train(model);
    e.width               = labels ? llama_model_n_cls_out(model) : (uint32_t) llama_model_n_embd_out(model);
    e.rows                = calloc((size_t) count * e.width, sizeof *e.rows);
    if (labels && e.width != 2) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                       "it tells %u labels apart; an axis of polarity lies between two: name a classifier that has two",
                       e.width);
    } else if (!e.rows) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %u vectors of width %u", count, e.width);
    }
    if (rc == CMIF_OK) {
        rc = plan(&e, llama_model_get_vocab(model), texts, trained > 2 && trained < PIECES_MAX ? trained : PIECES_MAX,
                  err);
    }
    if (rc == CMIF_OK) {
        rc = start_workers(&e, model, threads, err);
    }
    if (rc == CMIF_OK) {
        cmif_each(e.worker_count, e.worker_count, encode_work, &e);
    }
    for (uint32_t i = 0; e.workers && i < e.worker_count; i++) {
        worker *w = &e.workers[i];
        if (rc == CMIF_OK && w->rc != CMIF_OK) {
            rc = w->rc;
            if (err) {
                *err = w->err;
            }
        }
        llama_batch_free(w->batch);
        llama_free(w->context);
    }
    if (rc == CMIF_OK && progress) {
        (void) progress(context, what, count, count);
    }
    if (rc == CMIF_OK) {
        *rows  = e.rows;
        *width = e.width;
        e.rows = NULL;
    } else {
        cmif_err_context(err, "model '%s'", gguf);
    }
    free(e.rows);
    free(e.workers);
    free(e.pieces);
    free(e.text_first);
    free(e.batch_first);
    llama_model_free(model);
    return rc;
}

cmif_code cmif_vectors_of_words(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads, cmif_progress progress,
                                void *context, cmif_vectors **out, cmif_err *err)
{
    float        *rows    = NULL;
    uint32_t      width   = 0;
    cmif_vectors *vectors = NULL;
    if (lexicon->count < 2) {
        return cmif_fail(err, CMIF_E_RANGE, "the lexicon has no words");
    }
    cmif_code rc = encode(gguf, false, lexicon->words + 1, lexicon->count - 1, threads, "word vectors", progress,
                          context, &rows, &width, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(lexicon->count, width, &vectors, err);
    }
    if (rc == CMIF_OK) {
        memcpy(vectors->rows + width, rows, (size_t) (lexicon->count - 1) * width * sizeof *rows);
        memset(vectors->known + 1, 1, lexicon->count - 1);
        rc = cmif_vectors_seal(vectors, err);
    }
    if (rc == CMIF_OK) {
        *out    = vectors;
        vectors = NULL;
    }
    cmif_vectors_free(vectors);
    free(rows);
    return rc;
}

cmif_code cmif_vectors_of_labels(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads,
                                 cmif_progress progress, void *context, cmif_vectors **out, cmif_err *err)
{
    float        *rows    = NULL;
    uint32_t      width   = 0;
    cmif_vectors *vectors = NULL;
    if (lexicon->count < 2) {
        return cmif_fail(err, CMIF_E_RANGE, "the lexicon has no words");
    }
    cmif_code rc = encode(gguf, true, lexicon->words + 1, lexicon->count - 1, threads, "labels of words", progress,
                          context, &rows, &width, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(lexicon->count, 1, &vectors, err);
    }
    for (uint32_t word = 1; rc == CMIF_OK && word < lexicon->count; word++) {
        const float *logits  = rows + (size_t) (word - 1) * width;
        const float  leans   = logits[1] - logits[0];
        vectors->rows[word]  = leans > 4 ? 4 : leans < -4 ? -4 : leans;
        vectors->known[word] = 1;
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_seal(vectors, err);
    }
    if (rc == CMIF_OK) {
        *out    = vectors;
        vectors = NULL;
    }
    cmif_vectors_free(vectors);
    free(rows);
    return rc;
}

cmif_code cmif_vectors_of_glosses(const cmif_lexicon *lexicon, const char *gguf, uint32_t threads,
                                  cmif_progress progress, void *context, cmif_vectors **out, cmif_err *err)
{
    cmif_code     rc      = CMIF_OK;
    float        *rows    = NULL;
    double       *sum     = NULL;
    uint32_t      width   = 0;
    cmif_vectors *vectors = NULL;
    if (lexicon->gloss_count == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "the lexicon has no glosses");
    }
    rc = encode(gguf, false, lexicon->glosses, lexicon->gloss_count, threads, "gloss vectors", progress, context, &rows,
                &width, err);
    if (rc == CMIF_OK) {
        rc = cmif_vectors_new(lexicon->count, width, &vectors, err);
    }
    if (rc == CMIF_OK && !(sum = malloc(width * sizeof *sum))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %u columns", width);
    }
    for (uint32_t word = 0; rc == CMIF_OK && word < lexicon->count; word++) {
        double length = 0;
        memset(sum, 0, width * sizeof *sum);
        for (uint32_t sense = lexicon->gloss_first[word]; sense < lexicon->gloss_first[word + 1]; sense++) {
            const float *row    = rows + (size_t) lexicon->sense_gloss[sense] * width;
            const double weight = sqrt((double) lexicon->sense_weight[sense]);
            for (uint32_t i = 0; i < width; i++) {
                sum[i] += weight * (double) row[i];
            }
        }
        for (uint32_t i = 0; i < width; i++) {
            length += sum[i] * sum[i];
        }
        for (uint32_t i = 0; length > 0 && i < width; i++) {
            vectors->rows[(size_t) word * width + i] = (float) (sum[i] / sqrt(length));
        }
        vectors->known[word] = length > 0;
    }
    if (rc == CMIF_OK) {
        rc = cmif_vectors_seal(vectors, err);
    }
    if (rc == CMIF_OK) {
        *out    = vectors;
        vectors = NULL;
    }
    cmif_vectors_free(vectors);
    free(sum);
    free(rows);
    return rc;
}
