#include "engine/engine.h"

#include "base/check.h"
#include "gguf/gguf.h"
#include "rows/rows.h"
#include "sampler.h"

#include "llama.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODELS CMIF_SOURCE_DIR "/../shared/models/"
#define STORIES MODELS "stories260K/stories260K.gguf"
#define MINILM MODELS "minilm-sst2/minilm-sst2-f16.gguf"

enum { SLOTS_MAX = 8, TOKENS_MAX = 512, VOCAB_MAX = 512 };

/* What came out of one slot. */
typedef struct outcome {
    uint32_t ids[TOKENS_MAX], positions[TOKENS_MAX];
    float    margins[TOKENS_MAX];
    float    logits[TOKENS_MAX][VOCAB_MAX];
    float    vector[16];
    size_t   tokens, looped, logits_count, vector_count, progress, done, errors;
    uint8_t  reason;
    uint32_t position;
} outcome;

static outcome outcomes[SLOTS_MAX];

static void keep(void *context, const cmif_engine_event *event)
{
    outcome *o = &outcomes[event->slot];
    (void) context;
    switch (event->kind) {
    case CMIF_FRAME_TOKEN:
        if (o->tokens < TOKENS_MAX) {
            o->ids[o->tokens]       = event->id;
            o->margins[o->tokens]   = event->margin;
            o->positions[o->tokens] = event->position;
        }
        o->tokens++;
        o->looped += event->looped;
        break;
    case CMIF_FRAME_LOGITS:
        if (o->logits_count < TOKENS_MAX && event->count == VOCAB_MAX) {
            memcpy(o->logits[o->logits_count], event->floats, sizeof o->logits[0]);
        }
        o->logits_count++;
        break;
    case CMIF_FRAME_VECTOR:
        o->vector_count = event->count;
        memcpy(o->vector, event->floats, (event->count < 16 ? event->count : 16) * sizeof(float));
        break;
    case CMIF_FRAME_PROGRESS:
        o->progress++;
        break;
    case CMIF_FRAME_DONE:
        o->done++;
        o->reason   = event->reason;
        o->position = event->position;
        CHECK(event->tokens == o->tokens);
        break;
    case CMIF_FRAME_ERROR:
        o->errors++;
        o->reason = event->reason;
        break;
    default:
        CHECK(!"an event of another kind");
    }
}

/* ---- a client in a few lines: it has the table, as a client half would ---- */

static cmif_gguf              *file;
static const cmif_gguf_tensor *table;

static bool table_open(const char *path)
{
    cmif_gguf_free(file);
    file = NULL;
    if (cmif_gguf_open(path, &file, NULL) != CMIF_OK) {
        return false;
    }
    table = cmif_gguf_find_tensor(file, "token_embd.weight");
    return table != NULL;
}

static void row_of(uint32_t id, float *row)
{
    const cmif_row_type type = table->type == CMIF_GGML_F32 ? CMIF_ROWS_F32 : CMIF_ROWS_F16;
    cmif_row_decode(type, table->data + id * cmif_row_size(type, table->shape[0]), row, table->shape[0]);
}

static cmif_code put_ids(cmif_engine *engine, uint32_t slot, const uint32_t *ids, size_t count)
{
    float    *rows = malloc(count * table->shape[0] * sizeof *rows);
    cmif_code rc   = CMIF_E_MEMORY;
    for (size_t i = 0; rows && i < count; i++) {
        row_of(ids[i], rows + i * table->shape[0]);
    }
    if (rows) {
        rc = cmif_engine_put_rows(engine, slot, CMIF_ROWS_F32, rows, count, NULL);
    }
    free(rows);
    return rc;
}

static cmif_engine *open_engine(const char *path, uint32_t slots, uint32_t context, uint32_t batch)
{
    cmif_engine_options options = {.path = path, .slots = slots, .context = context, .batch = batch, .threads = 1};
    cmif_engine        *engine  = NULL;
    cmif_err            err     = {0};
    if (cmif_engine_open(&options, &engine, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    CHECK(engine != NULL);
    memset(outcomes, 0, sizeof outcomes);
    return engine;
}

static cmif_frame_begin greedy(uint32_t rows, uint32_t tokens)
{
    return (cmif_frame_begin){.mode       = CMIF_MODE_GENERATE,
                              .row_type   = CMIF_ROWS_F32,
                              .flags      = CMIF_BEGIN_MARGIN,
                              .row_count  = rows,
                              .max_tokens = tokens,
                              .sampling   = {.top_p = 1}};
}

/* Step until nothing is left to do; a stream that does not loop gets the row of its last token. */
static void finish(cmif_engine *engine, uint32_t slots)
{
    static size_t answered[SLOTS_MAX];
    memset(answered, 0, sizeof answered);
    for (uint32_t i = 0; i < slots; i++) {
        answered[i] = outcomes[i].tokens;
    }
    for (int guard = 0; guard < 4000 && cmif_engine_has_work(engine); guard++) {
        CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        for (uint32_t i = 0; i < slots; i++) {
            outcome *o = &outcomes[i];
            if (o->tokens > answered[i]) {
                answered[i] = o->tokens;
                if (!o->done) {
                    CHECK(put_ids(engine, i, &o->ids[o->tokens - 1], 1) == CMIF_OK);
                }
            }
        }
    }
    CHECK(!cmif_engine_has_work(engine));
}

/* ---- stories260K: golden generations of its PROVENANCE.md ---- */

typedef struct golden {
    uint32_t prompt[13];
    size_t   prompt_count;
    uint32_t ids[64];
} golden;

static const golden goldens[] = {
    {{1}, 1, {403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338,
              401, 396, 267, 337, 410, 408, 419, 292, 411, 322, 265, 282, 295, 433, 426, 385,
              328, 432, 358, 394, 261, 370, 432, 352, 266, 268, 388, 426, 338, 391, 266, 267,
              337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333, 415, 426, 13,  438, 310}},
    {{1, 403, 407, 261, 378}, 5, {432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337,
                                  410, 408, 419, 292, 411, 322, 265, 282, 295, 433, 426, 385, 328, 432, 358, 394,
                                  261, 370, 432, 352, 266, 268, 388, 426, 338, 391, 266, 267, 337, 335, 312, 432,
                                  398, 312, 286, 267, 414, 270, 333, 415, 426, 13,  438, 310, 439, 419, 357, 336}},
    {{1, 317, 269, 274, 287, 263, 377, 267, 265, 282, 295, 433, 426},
     13,
     {342, 394, 261, 370, 268, 414, 444, 335, 261, 370, 268, 414, 444, 426, 342, 391, 266, 267, 337, 335, 312, 426,
      342, 391, 266, 267, 337, 335, 265, 268, 414, 444, 426, 342, 391, 266, 267, 337, 335, 265, 268, 414, 444, 426,
      13,  436, 438, 347, 433, 432, 392, 287, 443, 436, 317, 336, 426, 313, 438, 316, 439, 419, 298, 414}},
    {{1, 385, 328, 432, 261, 280, 294, 394, 261, 370, 400, 428, 426},
     13,
     {291, 400, 428, 286, 399, 262, 429, 295, 266, 426, 291, 400, 428, 286, 399, 262, 429, 295, 266, 426, 291, 400,
      428, 391, 266, 267, 281, 421, 427, 265, 400, 428, 426, 291, 400, 428, 391, 266, 267, 281, 421, 427, 265, 400,
      428, 426, 13,  434, 260, 400, 428, 336, 432, 313, 442, 391, 267, 337, 335, 364, 426, 359, 263, 290}},
};

static bool same_ids(const uint32_t *a, const uint32_t *b, size_t count)
{
    return memcmp(a, b, count * sizeof *a) == 0;
}

static void rows_give_the_golden_generations(void)
{
    cmif_engine *engine = open_engine(STORIES, 1, 0, 0);
    for (size_t g = 0; engine && g < 4; g++) {
        memset(outcomes, 0, sizeof outcomes);
        cmif_frame_begin begin = greedy((uint32_t) goldens[g].prompt_count, 64);
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
        CHECK(put_ids(engine, 0, goldens[g].prompt, goldens[g].prompt_count) == CMIF_OK);
        finish(engine, 1);
        CHECK(outcomes[0].tokens == 64 && outcomes[0].done == 1 && outcomes[0].reason == CMIF_DONE_LENGTH);
        CHECK(same_ids(outcomes[0].ids, goldens[g].ids, 64));
        CHECK(outcomes[0].position == goldens[g].prompt_count + 63);
        CHECK(outcomes[0].positions[0] == goldens[g].prompt_count);
    }
    cmif_engine_free(engine);
}

/* ---- small helpers for the tests below ---- */

/* A greedy or sampled stream in one go: all prompt rows at once. */
static void run_stream(cmif_engine *engine, uint32_t slot, const cmif_frame_begin *begin, const uint32_t *prompt)
{
    CHECK(cmif_engine_begin(engine, slot, begin, NULL) == CMIF_OK);
    if (begin->row_type == CMIF_ROWS_ID) {
        CHECK(cmif_engine_put_rows(engine, slot, CMIF_ROWS_ID, prompt, begin->row_count, NULL) == CMIF_OK);
    } else {
        CHECK(put_ids(engine, slot, prompt, begin->row_count) == CMIF_OK);
    }
}

/* A prompt of any length: the golden prompts and their continuations, one after the other. */
static void long_prompt(uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ids[i] = i == 0 ? 1 : goldens[i / 64 % 4].ids[i % 64];
    }
}

/* Equal ids; or the first difference is where two tokens were almost equally good (another batch shape rounds
 * otherwise). */
static bool agrees(const outcome *a, const outcome *b)
{
    for (size_t i = 0; i < a->tokens; i++) {
        if (a->ids[i] != b->ids[i]) {
            return a->margins[i] < 1e-3f;
        }
    }
    return a->tokens == b->tokens;
}

/* What the plain program says: ids and logits of each step. */
static bool plain(const char *arguments, const uint32_t *prompt, size_t prompt_count, size_t tokens, outcome *out)
{
    char  ids_path[] = "/tmp/engine_test_ids_XXXXXX", logits_path[] = "/tmp/engine_test_logits_XXXXXX";
    char  command[1024];
    int   ids_fd = mkstemp(ids_path), logits_fd = mkstemp(logits_path);
    bool  good = ids_fd >= 0 && logits_fd >= 0;
    FILE *ids  = good ? fdopen(ids_fd, "w") : NULL;

    for (size_t i = 0; ids && i < prompt_count; i++) {
        fprintf(ids, "%u ", prompt[i]);
    }
    good = ids && fclose(ids) == 0;
    snprintf(command, sizeof command, "'%s/libexec/cmif/cmif-plain' '%s' --ids-file %s --logits %s -n %zu %s",
             CMIF_BUILD_DIR, STORIES, ids_path, logits_path, tokens, arguments);
    FILE *program = good ? popen(command, "r") : NULL;
    memset(out, 0, sizeof *out);
    while (program && out->tokens < tokens && fscanf(program, "%u", &out->ids[out->tokens]) == 1) {
        out->tokens++;
    }
    good = program && pclose(program) == 0 && out->tokens == tokens;
    for (size_t i = 0; good && i < tokens; i++) {
        good = read(logits_fd, out->logits[i], sizeof out->logits[i]) == (ssize_t) sizeof out->logits[i];
    }
    unlink(ids_path);
    unlink(logits_path);
    close(logits_fd);
    return good;
}

static bool same_logits(const outcome *a, const outcome *b, size_t steps)
{
    return a->logits_count >= steps && memcmp(a->logits, b->logits, steps * sizeof a->logits[0]) == 0;
}

static outcome expected; /* too large for the stack */

/* Rows of F32 through the engine, in one of four slots, against ids through llama.h: every logit of every step, bit for
 * bit, for a prompt of several slices. */
static void logits_equal_the_plain_programs_bit_for_bit(void)
{
    uint32_t prompt[200];
    long_prompt(prompt, 200);
    CHECK(plain("--batch 64", prompt, 200, 64, &expected));
    for (uint32_t slot = 0; slot < 4; slot += 3) {
        cmif_engine     *engine = open_engine(STORIES, 4, 512, 64);
        cmif_frame_begin begin  = greedy(200, 64);
        begin.flags |= CMIF_BEGIN_LOGITS;
        if (engine) {
            run_stream(engine, slot, &begin, prompt);
            finish(engine, 4);
            CHECK(outcomes[slot].progress == 3);
            CHECK(same_ids(outcomes[slot].ids, expected.ids, 64));
            outcomes[slot].logits_count *= outcomes[slot].logits_count == 64;
            CHECK(same_logits(&outcomes[slot], &expected, 64));
        }
        cmif_engine_free(engine);
    }
}

/* Whatever the pieces a prompt comes in, and whatever the engine did meanwhile, it computes the same. */
static void arrival_does_not_change_a_bit(void)
{
    static const size_t pieces[] = {1, 30, 33, 64, 2, 70};
    cmif_engine        *engine   = open_engine(STORIES, 2, 512, 64);
    uint32_t            prompt[200];
    cmif_frame_begin    begin = greedy(200, 8);

    long_prompt(prompt, 200);
    begin.flags |= CMIF_BEGIN_LOGITS;
    CHECK(plain("--batch 64", prompt, 200, 8, &expected));
    CHECK(engine && cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
    for (size_t i = 0, at = 0; engine && i < sizeof pieces / sizeof pieces[0]; i++) {
        CHECK(put_ids(engine, 0, prompt + at, pieces[i]) == CMIF_OK);
        at += pieces[i];
        while (cmif_engine_has_work(engine) && at < 200) {
            CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        }
    }
    if (engine) {
        finish(engine, 1);
    }
    CHECK(same_logits(&outcomes[0], &expected, 8));
    cmif_engine_free(engine);
}

static void ids_and_loop_equal_rows_bit_for_bit(void)
{
    cmif_engine     *engine = open_engine(STORIES, 1, 512, 0);
    cmif_frame_begin begin  = greedy(13, 64);

    CHECK(engine && (cmif_engine_welcome(engine)->flags & CMIF_WELCOME_TABLE));
    begin.flags |= CMIF_BEGIN_LOGITS;
    if (engine) {
        run_stream(engine, 0, &begin, goldens[2].prompt);
        finish(engine, 1);
        expected = outcomes[0];
        memset(outcomes, 0, sizeof outcomes);
        begin.flags |= CMIF_BEGIN_LOOP;
        begin.row_type = CMIF_ROWS_ID;
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
        CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_ID, goldens[2].prompt, 13, NULL) == CMIF_OK);
        while (cmif_engine_has_work(engine)) {
            CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        }
        CHECK(outcomes[0].tokens == 64 && outcomes[0].reason == CMIF_DONE_LENGTH);
        CHECK(expected.logits_count == 64 && same_logits(&outcomes[0], &expected, 64));
        CHECK(expected.looped == 0 && outcomes[0].looped == 63); /* the last one's row is not fed */
    }
    cmif_engine_free(engine);
}

/* Eight streams of mixed lengths at once give what each gives alone. */
static void streams_together_equal_streams_alone(void)
{
    static outcome   alone[SLOTS_MAX];
    cmif_engine     *engine = open_engine(STORIES, SLOTS_MAX, 512, 64);
    cmif_frame_begin begins[SLOTS_MAX];
    uint32_t         prompt[400];

    long_prompt(prompt, 400);
    for (uint32_t i = 0; engine && i < SLOTS_MAX; i++) {
        begins[i] = greedy(1 + i * 50, 20 + 3 * i);
        run_stream(engine, i, &begins[i], prompt);
        finish(engine, SLOTS_MAX);
        alone[i] = outcomes[i];
    }
    memset(outcomes, 0, sizeof outcomes);
    for (uint32_t i = 0; engine && i < SLOTS_MAX; i++) {
        run_stream(engine, i, &begins[i], prompt);
    }
    if (engine) {
        finish(engine, SLOTS_MAX);
    }
    for (uint32_t i = 0; i < SLOTS_MAX; i++) {
        CHECK(outcomes[i].done == 1 && alone[i].tokens == 20 + 3 * i);
        CHECK(agrees(&alone[i], &outcomes[i]));
    }
    cmif_engine_free(engine);
}

/* A stream gets its token in every step while a long prompt comes in beside it, and the prompt still moves. */
static void a_long_prompt_does_not_stop_a_stream(void)
{
    cmif_engine     *engine = open_engine(STORIES, 2, 512, 512);
    cmif_frame_begin stream = greedy(5, 64), prompt_begin = greedy(500, 1);
    uint32_t         prompt[500];
    size_t           steps = 0;

    long_prompt(prompt, 500);
    stream.flags |= CMIF_BEGIN_LOOP;
    if (engine) {
        run_stream(engine, 0, &stream, goldens[1].prompt);
        CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        run_stream(engine, 1, &prompt_begin, prompt);
        while (!outcomes[1].tokens && steps < 100) {
            const size_t before = outcomes[0].tokens;
            CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
            CHECK(outcomes[0].tokens == before + 1);
            steps++;
        }
        CHECK(steps == 4); /* 500 rows, 128 a step */
    }
    cmif_engine_free(engine);
}

static void stop_ids_end_a_stream(void)
{
    cmif_engine     *engine = open_engine(STORIES, 1, 512, 0);
    cmif_frame_begin begin  = greedy(5, 64);
    begin.stop_count        = 2;
    begin.stops[0]          = 7;
    begin.stops[1]          = goldens[1].ids[3];
    if (engine) {
        run_stream(engine, 0, &begin, goldens[1].prompt);
        finish(engine, 1);
        CHECK(outcomes[0].tokens == 4 && outcomes[0].done == 1 && outcomes[0].reason == CMIF_DONE_STOP);
        CHECK(outcomes[0].ids[3] == goldens[1].ids[3] && outcomes[0].position == 5 + 3);
    }
    cmif_engine_free(engine);
}

/* The next BEGIN continues a cache: from its end, and from the middle of it. */
static void a_cache_is_continued_and_cut(void)
{
    cmif_engine     *engine = open_engine(STORIES, 2, 512, 64);
    cmif_frame_begin begin = greedy(128, 10), next = greedy(10, 20);
    uint32_t         prompt[138];

    long_prompt(prompt, 138);
    next.flags |= CMIF_BEGIN_LOGITS;
    if (engine) {
        next.row_count = 138;
        run_stream(engine, 1, &next, prompt); /* from scratch */
        finish(engine, 2);
        expected = outcomes[1];
        run_stream(engine, 0, &begin, prompt);
        finish(engine, 2);
        CHECK(outcomes[0].position == 128 + 9);
        memset(outcomes, 0, sizeof outcomes);
        next.position  = 128; /* cut: the nine rows of the answer go */
        next.row_count = 10;
        run_stream(engine, 0, &next, prompt + 128);
        finish(engine, 2);
        CHECK(same_logits(&outcomes[0], &expected, 20)); /* a slice boundary: the same shapes, the same bits */
        memset(outcomes, 0, sizeof outcomes);
        next.position  = 100;
        next.row_count = 38;
        run_stream(engine, 0, &next, prompt + 100);
        finish(engine, 2);
        CHECK(outcomes[0].tokens == 20 && agrees(&expected, &outcomes[0]));
    }
    cmif_engine_free(engine);
}

static void cancel_keeps_the_cache_and_drop_does_not(void)
{
    cmif_engine     *engine = open_engine(STORIES, 1, 512, 64);
    cmif_frame_begin begin  = greedy(200, 64);
    uint32_t         prompt[200];
    cmif_err         err;

    long_prompt(prompt, 200);
    if (engine) {
        run_stream(engine, 0, &begin, prompt);
        CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        cmif_engine_cancel(engine, 0);
        CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, "", 1, NULL) == CMIF_OK); /* under way: ignored */
        CHECK(cmif_engine_has_work(engine));
        CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
        CHECK(outcomes[0].done == 1 && outcomes[0].reason == CMIF_DONE_CANCELLED && outcomes[0].position == 64);
        CHECK(!cmif_engine_has_work(engine));
        cmif_engine_cancel(engine, 0); /* nothing to cancel */
        CHECK(!cmif_engine_has_work(engine));
        memset(outcomes, 0, sizeof outcomes);
        begin          = greedy(1, 5);
        begin.position = 64;
        run_stream(engine, 0, &begin, prompt + 64);
        finish(engine, 1);
        CHECK(outcomes[0].tokens == 5);
        run_stream(engine, 0, &begin, prompt + 64);
        cmif_engine_drop(engine, 0);
        CHECK(!cmif_engine_has_work(engine));
        CHECK(cmif_engine_begin(engine, 0, &begin, &err) == CMIF_E_RANGE && strstr(err.text, "64") != NULL);
        begin.position = 0;
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
    }
    cmif_engine_free(engine);
}

static void a_full_context_ends_a_stream(void)
{
    cmif_engine     *engine = open_engine(STORIES, 2, 100, 0); /* not a multiple of anything */
    cmif_frame_begin begin  = greedy(90, 64);
    uint32_t         prompt[101];

    long_prompt(prompt, 101);
    if (engine) {
        CHECK(cmif_engine_welcome(engine)->context == 100);
        run_stream(engine, 1, &begin, prompt);
        finish(engine, 2);
        CHECK(outcomes[1].tokens == 11 && outcomes[1].reason == CMIF_DONE_CONTEXT && outcomes[1].position == 100);
        begin = greedy(101, 1);
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_E_RANGE);
        begin.row_count = 100;
        run_stream(engine, 0, &begin, prompt);
        finish(engine, 2);
        CHECK(outcomes[0].tokens == 1 && outcomes[0].reason == CMIF_DONE_LENGTH);
        begin.position  = 100;
        begin.row_count = 1;
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_E_RANGE);
    }
    cmif_engine_free(engine);
}

/* Every way to ask for too much, or for nonsense, is refused, and the engine goes on. */
static void nonsense_is_refused(void)
{
    cmif_engine     *engine = open_engine(STORIES, 2, 512, 0);
    cmif_frame_begin good = greedy(5, 4), bad = good;
    float            row[64] = {0};
    const uint32_t   id      = 512;

    if (!engine) {
        return;
    }
    CHECK(cmif_engine_begin(engine, 2, &good, NULL) == CMIF_E_RANGE);
    bad.row_count = 1000000000;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad.row_count = UINT32_MAX;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad.row_count = 0;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad          = good;
    bad.position = 1;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad          = good;
    bad.position = UINT32_MAX;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad            = good;
    bad.max_tokens = 0;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad          = good;
    bad.row_type = CMIF_ROW_TYPES;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    bad      = good;
    bad.mode = CMIF_MODE_ENCODE;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_UNSUPPORTED);
    bad            = good;
    bad.stop_count = CMIF_WIRE_STOPS_MAX + 1;
    CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    for (int i = 0; i < 5; i++) {
        const float wrong[] = {NAN, -1, 0, NAN, 1};
        bad                 = good;
        float *field[]      = {&bad.sampling.temperature, &bad.sampling.temperature, &bad.sampling.top_p,
                               &bad.sampling.top_p, &bad.sampling.min_p};
        *field[i]           = wrong[i];
        CHECK(cmif_engine_begin(engine, 0, &bad, NULL) == CMIF_E_RANGE);
    }

    CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, row, 1, NULL) == CMIF_E_RANGE); /* before a BEGIN */
    CHECK(cmif_engine_begin(engine, 0, &good, NULL) == CMIF_OK);
    CHECK(cmif_engine_begin(engine, 0, &good, NULL) == CMIF_E_RANGE); /* at work */
    CHECK(cmif_engine_put_rows(engine, 9, CMIF_ROWS_F32, row, 1, NULL) == CMIF_E_RANGE);
    CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F16, row, 1, NULL) == CMIF_E_RANGE);
    CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, row, 0, NULL) == CMIF_E_RANGE);
    CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, row, 6, NULL) == CMIF_E_RANGE);
    CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, row, 1000000000, NULL) == CMIF_E_RANGE);
    for (int i = 0; i < 4; i++) {
        const float wrong[] = {NAN, INFINITY, -INFINITY, 1e30f};
        row[63]             = wrong[i];
        CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, row, 1, NULL) == CMIF_E_RANGE);
    }
    CHECK(put_ids(engine, 0, goldens[1].prompt, 5) == CMIF_OK);
    CHECK(put_ids(engine, 0, goldens[1].prompt, 1) == CMIF_E_RANGE); /* one too many */
    bad          = good;
    bad.row_type = CMIF_ROWS_ID;
    CHECK(cmif_engine_begin(engine, 1, &bad, NULL) == CMIF_OK);
    CHECK(cmif_engine_put_rows(engine, 1, CMIF_ROWS_ID, &id, 1, NULL) == CMIF_E_RANGE); /* outside the vocabulary */
    cmif_engine_drop(engine, 1);
    cmif_engine_cancel(engine, 77);
    cmif_engine_drop(engine, 77);

    finish(engine, 1);
    CHECK(outcomes[0].tokens == 4 && same_ids(outcomes[0].ids, goldens[1].ids, 4));
    cmif_engine_free(engine);
}

/* ---- sampling ---- */

static cmif_frame_begin sampled(uint64_t seed, uint32_t tokens)
{
    cmif_frame_begin begin = greedy(5, tokens);
    begin.sampling = (cmif_sampling){.temperature = 1, .top_p = 0.95f, .min_p = 0.01f, .top_k = 40, .seed = seed};
    return begin;
}

/* A stream that is replayed from token 20 on draws what it would have drawn. */
static void a_replayed_stream_draws_the_same(void)
{
    cmif_engine     *engine = open_engine(STORIES, 1, 512, 0);
    cmif_frame_begin begin  = sampled(42, 60);
    uint32_t         prompt[25];

    if (!engine) {
        return;
    }
    run_stream(engine, 0, &begin, goldens[1].prompt);
    finish(engine, 1);
    expected = outcomes[0];
    CHECK(expected.tokens == 60 && !same_ids(expected.ids, goldens[1].ids, 60));

    memset(outcomes, 0, sizeof outcomes);
    begin = sampled(43, 60);
    run_stream(engine, 0, &begin, goldens[1].prompt);
    finish(engine, 1);
    CHECK(!same_ids(expected.ids, outcomes[0].ids, 60)); /* another seed, another story */

    memcpy(prompt, goldens[1].prompt, 5 * sizeof *prompt);
    memcpy(prompt + 5, expected.ids, 20 * sizeof *prompt);
    memset(outcomes, 0, sizeof outcomes);
    begin           = sampled(42, 40);
    begin.step      = 20;
    begin.row_count = 25;
    run_stream(engine, 0, &begin, prompt);
    finish(engine, 1);
    CHECK(same_ids(expected.ids + 20, outcomes[0].ids, 40));

    memset(outcomes, 0, sizeof outcomes);
    begin      = sampled(42, 40);
    begin.step = 20; /* not the same as starting at 0 */
    run_stream(engine, 0, &begin, goldens[1].prompt);
    finish(engine, 1);
    CHECK(!same_ids(expected.ids, outcomes[0].ids, 40));
    cmif_engine_free(engine);
}

/* What is drawn follows the probabilities: 20,000 draws from eight logits against the closed form, per filter. */
static void draws_follow_the_probabilities(void)
{
    static const float         logits[8] = {0, 1, 2, -1, 0.5f, 3, -4, 2.5f};
    static const cmif_sampling ways[]    = {
           {.temperature = 1, .top_p = 1, .seed = 1},
           {.temperature = 0.5f, .top_p = 1, .seed = 2},
           {.temperature = 2, .top_p = 1, .top_k = 3, .seed = 3},
           {.temperature = 1, .top_p = 0.7f, .seed = 4},
           {.temperature = 1, .top_p = 1, .min_p = 0.3f, .seed = 5},
    };
    static const unsigned kept[] = {0xff, 0xff, 0xa4, 0xa0, 0xa4}; /* who may be drawn: 5, 7, 2 are the largest */

    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        cmif_sampler *sampler  = NULL;
        double        sum      = 0;
        int           drawn[8] = {0};
        CHECK(cmif_sampler_new(&ways[w], 8, &sampler, NULL) == CMIF_OK);
        for (uint32_t n = 0; sampler && n < 20000; n++) {
            uint32_t id = 0;
            CHECK(cmif_sampler_pick(sampler, logits, n, &id, NULL));
            drawn[id]++;
        }
        for (int i = 0; i < 8; i++) {
            sum += kept[w] >> i & 1 ? exp((double) logits[i] / (double) ways[w].temperature) : 0;
        }
        for (int i = 0; i < 8; i++) {
            const double p = kept[w] >> i & 1 ? exp((double) logits[i] / (double) ways[w].temperature) / sum : 0;
            CHECK(fabs(drawn[i] - 20000 * p) <= 5 * sqrt(20000 * p * (1 - p)));
        }
        cmif_sampler_free(sampler);
    }
}

static void a_draw_depends_on_seed_and_number_alone(void)
{
    cmif_sampling way = {.temperature = 1, .top_p = 1, .seed = 7};
    cmif_sampler *a = NULL, *b = NULL;
    float         logits[50] = {0};
    uint32_t      ids[100], id = 0, same = 0;

    CHECK(cmif_sampler_new(&way, 50, &a, NULL) == CMIF_OK);
    CHECK(cmif_sampler_new(&way, 50, &b, NULL) == CMIF_OK);
    for (uint32_t n = 0; a && n < 100; n++) {
        CHECK(cmif_sampler_pick(a, logits, n, &ids[n], NULL));
        same += n > 0 && ids[n] == ids[n - 1];
    }
    CHECK(same < 15);
    for (uint32_t n = 100; b && n-- > 0;) { /* another one, backwards */
        CHECK(cmif_sampler_pick(b, logits, n, &id, NULL) && id == ids[n]);
    }
    cmif_sampler_free(a);
    cmif_sampler_free(b);
}

static void greedy_takes_the_lowest_of_equals_and_refuses_nan(void)
{
    const cmif_sampling way     = {.top_p = 1};
    cmif_sampler       *sampler = NULL;
    float               logits[19], margin = 9;
    uint32_t            id = 99;

    CHECK(cmif_sampler_new(&way, 19, &sampler, NULL) == CMIF_OK);
    for (size_t at = 0; sampler && at < 19; at++) {
        for (size_t i = 0; i < 19; i++) {
            logits[i] = i >= at ? 5 : -INFINITY; /* -inf only says "never this one" */
        }
        CHECK(cmif_sampler_pick(sampler, logits, 0, &id, &margin) && id == at);
        CHECK(margin == (at < 18 ? 0 : FLT_MAX));
        logits[at] = 7.5f;
        CHECK(cmif_sampler_pick(sampler, logits, 0, &id, &margin) && id == at);
        CHECK(margin == (at < 18 ? 2.5f : FLT_MAX));
        for (int bad = 0; bad < 2; bad++) {
            logits[at] = bad ? NAN : INFINITY;
            id         = 99;
            CHECK(!cmif_sampler_pick(sampler, logits, 0, &id, &margin) && id == 99);
        }
    }
    for (size_t i = 0; i < 19; i++) {
        logits[i] = -INFINITY;
    }
    CHECK(sampler && !cmif_sampler_pick(sampler, logits, 0, &id, &margin));
    cmif_sampler_free(sampler);
}

/* ---- minilm-sst2: a classifier ---- */

enum { SENTENCES = 200, WORDS_MAX = 128 };

static struct {
    uint32_t ids[WORDS_MAX];
    size_t   count;
    float    logits[2]; /* what llama.cpp said when the file was made */
} sentences[SENTENCES];

/* The sentences of logits.tsv as ids of the library's own tokenizer. */
static bool sentences_read(void)
{
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only                = true;
    struct llama_model *model        = llama_model_load_from_file(MINILM, params);
    FILE               *tsv          = fopen(MODELS "minilm-sst2/logits.tsv", "r");
    char                line[2048];
    size_t              n = 0;

    while (model && tsv && n < SENTENCES && fgets(line, sizeof line, tsv)) {
        llama_token ids[WORDS_MAX];
        char       *text = strchr(line, '\t'), *end = text ? strchr(text + 1, '\t') : NULL;
        float       torch[2];
        if (end &&
            sscanf(end, "%f %f %f %f", &torch[0], &torch[1], &sentences[n].logits[0], &sentences[n].logits[1]) == 4) {
            const int32_t count = llama_tokenize(llama_model_get_vocab(model), text + 1, (int32_t) (end - text - 1),
                                                 ids, WORDS_MAX, /* add_special= */ true, /* parse_special= */ false);
            for (int32_t i = 0; i < count; i++) {
                sentences[n].ids[i] = (uint32_t) ids[i];
            }
            sentences[n].count = count > 0 ? (size_t) count : 0;
            n += count > 0;
        }
    }
    if (tsv) {
        fclose(tsv);
    }
    llama_model_free(model);
    return n == SENTENCES;
}

static cmif_frame_begin encode(uint32_t rows)
{
    return (cmif_frame_begin){.mode       = CMIF_MODE_ENCODE,
                              .row_type   = CMIF_ROWS_F32,
                              .row_count  = rows,
                              .max_tokens = 1,
                              .sampling   = {.top_p = 1}};
}

/* All 200 sentences, one at a time and eight at a time, against the file: its note says 1e-2 and the sign. */
static void classification_equals_the_recorded_logits(void)
{
    CHECK(table_open(MINILM));
    CHECK(sentences_read());
    for (uint32_t slots = 1; slots <= SLOTS_MAX; slots += SLOTS_MAX - 1) {
        cmif_engine *engine = open_engine(MINILM, slots, 0, 0);
        float        worst  = 0;
        CHECK(engine && cmif_engine_welcome(engine)->outputs == 2 && cmif_engine_welcome(engine)->context == 512);
        CHECK(engine && (cmif_engine_welcome(engine)->flags & CMIF_WELCOME_ENCODER));
        for (size_t first = 0; engine && first < SENTENCES; first += slots) {
            memset(outcomes, 0, sizeof outcomes);
            for (uint32_t i = 0; i < slots && first + i < SENTENCES; i++) {
                const cmif_frame_begin begin = encode((uint32_t) sentences[first + i].count);
                run_stream(engine, i, &begin, sentences[first + i].ids);
            }
            finish(engine, slots);
            for (uint32_t i = 0; i < slots && first + i < SENTENCES; i++) {
                const float *want = sentences[first + i].logits, *got = outcomes[i].vector;
                CHECK(outcomes[i].vector_count == 2 && outcomes[i].done == 1 && outcomes[i].errors == 0);
                CHECK((got[0] < got[1]) == (want[0] < want[1]));
                worst = fmaxf(worst, fmaxf(fabsf(got[0] - want[0]), fabsf(got[1] - want[1])));
            }
        }
        printf("       %u at a time: largest difference %g\n", slots, (double) worst);
        CHECK(worst < 1e-2f);
        cmif_engine_free(engine);
    }
}

static void an_encoder_refuses_what_it_cannot_do(void)
{
    cmif_engine     *engine = open_engine(MINILM, 2, 0, 0);
    cmif_frame_begin begin  = encode(513);
    cmif_frame_begin chat   = greedy(5, 5);

    if (engine) {
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) ==
              CMIF_E_RANGE); /* no position 512: the process would abort */
        CHECK(cmif_engine_begin(engine, 0, &chat, NULL) == CMIF_E_UNSUPPORTED);
        begin.row_count = 12;
        begin.position  = 1; /* there is no cache */
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_E_RANGE);
        begin = encode(512);
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
        for (int i = 0; i < 511; i++) {
            CHECK(put_ids(engine, 0, sentences[0].ids, 1) == CMIF_OK);
        }
        CHECK(!cmif_engine_has_work(engine)); /* not whole yet */
        begin          = encode((uint32_t) sentences[1].count);
        begin.row_type = CMIF_ROWS_ID;
        CHECK(cmif_engine_begin(engine, 1, &begin, NULL) == CMIF_OK);
        CHECK(cmif_engine_put_rows(engine, 1, CMIF_ROWS_ID, sentences[1].ids, begin.row_count, NULL) == CMIF_OK);
        CHECK(put_ids(engine, 0, sentences[0].ids, 1) == CMIF_OK);
        finish(engine, 2); /* 512 and a few rows: two steps */
        CHECK(outcomes[0].done == 1 && outcomes[1].done == 1 && outcomes[1].vector_count == 2);
        CHECK(fabsf(outcomes[1].vector[0] - sentences[1].logits[0]) < 1e-2f); /* ids give the same */
    }
    cmif_engine_free(engine);
    CHECK(table_open(STORIES));
}

/* ---- other files: stories260K with something changed ---- */

static cmif_code tensor_source(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    memcpy(buffer, ((const cmif_gguf_tensor *) context)->data + offset, size);
    return CMIF_OK;
}

typedef struct change {
    const char *key; /* a number */
    uint32_t    value;
    const char *architecture, *role;
    bool        split; /* a server half: a stub of token_embd, output.weight if tied */
    bool        tied;
    float       scale; /* cmif.row_scale; 0: none */
} change;

static char changed_path[64];

static bool write_changed(const change *c)
{
    static const char hex[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    cmif_gguf_out    *out   = NULL;
    cmif_code         rc    = cmif_gguf_out_new(&out, NULL);

    snprintf(changed_path, sizeof changed_path, "/tmp/engine_test_%d.gguf", (int) getpid());
    for (size_t i = 0; rc == CMIF_OK && i < cmif_gguf_value_count(file); i++) {
        rc = cmif_gguf_put_value(out, cmif_gguf_value_at(file, i), NULL);
    }
    if (rc == CMIF_OK && c->key) {
        rc = cmif_gguf_put_uint(out, c->key, c->value, NULL);
    }
    if (rc == CMIF_OK && c->architecture) {
        rc = cmif_gguf_put_str(out, "general.architecture", (cmif_str){c->architecture, strlen(c->architecture)}, NULL);
    }
    if (rc == CMIF_OK && c->role) {
        rc = cmif_gguf_put_str(out, "cmif.role", (cmif_str){c->role, strlen(c->role)}, NULL);
    }
    if (rc == CMIF_OK && c->scale > 0) {
        rc = cmif_gguf_put_f32(out, "cmif.row_scale", c->scale, NULL);
    }
    if (rc == CMIF_OK && c->split) {
        rc = cmif_gguf_put_str(out, "cmif.model_id", (cmif_str){hex, 64}, NULL);
        rc = rc == CMIF_OK ? cmif_gguf_put_bool(out, "cmif.has_table", c->tied, NULL) : rc;
        rc = rc == CMIF_OK ? cmif_gguf_put_bool(out, "cmif.tied", c->tied, NULL) : rc;
    }
    for (size_t i = 0; rc == CMIF_OK && i < cmif_gguf_tensor_count(file); i++) {
        const cmif_gguf_tensor *t    = cmif_gguf_tensor_at(file, i);
        const bool              stub = c->split && cmif_str_is(t->name, "token_embd.weight");
        char                    name[64];
        snprintf(name, sizeof name, "%.*s", (int) t->name.size, t->name.data);
        rc = cmif_gguf_put_tensor(out, name, t->type, t->dims, t->shape, stub ? NULL : tensor_source,
                                  (void *) (uintptr_t) t, NULL);
        if (rc == CMIF_OK && stub) {
            rc = cmif_gguf_put_tensor(out, "output.weight", t->type, t->dims, t->shape, tensor_source,
                                      (void *) (uintptr_t) t, NULL);
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(out, changed_path, NULL, NULL, NULL);
    }
    cmif_gguf_out_free(out);
    return rc == CMIF_OK;
}

static cmif_code open_changed(const change *c, uint32_t context, cmif_engine **engine, cmif_err *err)
{
    cmif_engine_options options = {
        .path = changed_path, .slots = context > 1u << 20 ? 256 : 1, .context = context, .threads = 1};
    *err    = (cmif_err){0};
    *engine = NULL;
    memset(outcomes, 0, sizeof outcomes);
    CHECK(write_changed(c));
    cmif_code rc = cmif_engine_open(&options, engine, err);
    unlink(changed_path);
    return rc;
}

/* A server half works from rows alone, says who it is, and takes ids only when it has the table. */
static void a_server_half_works_from_rows(void)
{
    for (int tied = 0; tied < 2; tied++) {
        const change     c      = {.split = true, .tied = tied};
        cmif_engine     *engine = NULL;
        cmif_err         err;
        cmif_frame_begin begin = greedy(13, 64);
        CHECK(open_changed(&c, 0, &engine, &err) == CMIF_OK);
        if (engine) {
            const cmif_frame_welcome *w = cmif_engine_welcome(engine);
            CHECK(w->model_id[0] == 0 && w->model_id[1] == 0x11 && w->model_id[31] == 0xff);
            CHECK(w->width == 64 && w->vocab == 512 && w->context == 512 && strcmp(w->arch, "llama") == 0 &&
                  w->arch_size == 5);
            CHECK((w->flags & CMIF_WELCOME_TABLE) == (tied ? CMIF_WELCOME_TABLE : 0));
            run_stream(engine, 0, &begin, goldens[3].prompt);
            finish(engine, 1);
            CHECK(same_ids(outcomes[0].ids, goldens[3].ids, 64));
            memset(outcomes, 0, sizeof outcomes);
            begin.flags |= CMIF_BEGIN_LOOP;
            begin.row_type = CMIF_ROWS_ID;
            if (!tied) {
                CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_E_UNSUPPORTED);
                begin.row_type = CMIF_ROWS_F32;
                CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_E_UNSUPPORTED);
            } else {
                run_stream(engine, 0, &begin, goldens[3].prompt);
                while (cmif_engine_has_work(engine)) {
                    CHECK(cmif_engine_step(engine, keep, NULL, NULL) == CMIF_OK);
                }
                CHECK(same_ids(outcomes[0].ids, goldens[3].ids, 64));
            }
        }
        cmif_engine_free(engine);
    }
}

/* Rows that the engine looks up are scaled as the client's would be. */
static void looked_up_rows_are_scaled(void)
{
    const change     c      = {.scale = 1.25f};
    cmif_engine     *engine = NULL;
    cmif_err         err;
    cmif_frame_begin begin = greedy(5, 1);
    float            rows[5 * 64];

    CHECK(open_changed(&c, 0, &engine, &err) == CMIF_OK);
    if (engine) {
        begin.flags |= CMIF_BEGIN_LOGITS;
        for (size_t i = 0; i < 5; i++) {
            row_of(goldens[1].prompt[i], rows + i * 64);
        }
        for (size_t i = 0; i < 5 * 64; i++) {
            rows[i] *= 1.25f;
        }
        CHECK(cmif_engine_begin(engine, 0, &begin, NULL) == CMIF_OK);
        CHECK(cmif_engine_put_rows(engine, 0, CMIF_ROWS_F32, rows, 5, NULL) == CMIF_OK);
        finish(engine, 1);
        expected = outcomes[0];
        memset(outcomes, 0, sizeof outcomes);
        begin.row_type = CMIF_ROWS_ID;
        run_stream(engine, 0, &begin, goldens[1].prompt);
        finish(engine, 1);
        CHECK(same_logits(&outcomes[0], &expected, 1));
    }
    cmif_engine_free(engine);
}

/* A BERT that does not say how to pool is averaged. */
static void an_encoder_without_pooling_is_averaged(void)
{
    float vectors[2][16];
    CHECK(table_open(MINILM));
    for (uint32_t i = 0; i < 2; i++) {
        const change c = {.key = "bert.pooling_type", .value = i ? LLAMA_POOLING_TYPE_MEAN : LLAMA_POOLING_TYPE_NONE};
        const cmif_frame_begin begin  = encode((uint32_t) sentences[0].count);
        cmif_engine           *engine = NULL;
        cmif_err               err;
        CHECK(open_changed(&c, 64, &engine, &err) == CMIF_OK);
        if (engine) {
            CHECK(cmif_engine_welcome(engine)->outputs == 384);
            run_stream(engine, 0, &begin, sentences[0].ids);
            finish(engine, 1);
            CHECK(outcomes[0].vector_count == 384 && outcomes[0].vector[0] != 0);
        }
        memcpy(vectors[i], outcomes[0].vector, sizeof vectors[i]);
        cmif_engine_free(engine);
    }
    CHECK(memcmp(vectors[0], vectors[1], sizeof vectors[0]) == 0);
    CHECK(table_open(STORIES));
}

/* An embedding model made from a decoder: pooled, with a cache, one sequence a step. */
static void a_pooled_decoder_encodes(void)
{
    const change     c      = {.key = "llama.pooling_type", .value = LLAMA_POOLING_TYPE_MEAN};
    cmif_engine     *engine = NULL;
    cmif_err         err;
    cmif_frame_begin begin = encode(13);
    float            first[16];

    CHECK(open_changed(&c, 0, &engine, &err) == CMIF_OK);
    if (engine) {
        CHECK(cmif_engine_welcome(engine)->outputs == 64);
        for (int i = 0; i < 3; i++) {
            memset(outcomes, 0, sizeof outcomes);
            run_stream(engine, 0, &begin, goldens[2].prompt);
            finish(engine, 1);
            CHECK(outcomes[0].done == 1 && outcomes[0].vector_count == 64 && outcomes[0].vector[0] != 0);
            CHECK(i == 0 || memcmp(first, outcomes[0].vector, sizeof first) == 0); /* nothing is left of the last one */
            memcpy(first, outcomes[0].vector, sizeof first);
        }
    }
    cmif_engine_free(engine);
}

static void files_that_cannot_work_are_refused_with_the_reason(void)
{
    static const struct {
        change      change;
        uint32_t    context;
        cmif_code   code;
        const char *words;
    } cases[] = {
        {{.architecture = "glm4"}, 0, CMIF_E_UNSUPPORTED, "glm4"},
        {{.architecture = "gemma3n"}, 0, CMIF_E_UNSUPPORTED, "gemma3n"},
        {{.architecture = "mamba"}, 0, CMIF_E_UNSUPPORTED, "mamba"},
        {{.architecture = "nosuch"}, 0, CMIF_E_UNSUPPORTED, "nosuch"},
        {{.architecture = ""}, 0, CMIF_E_FORMAT, "general.architecture"},
        {{.role = "client"}, 0, CMIF_E_FORMAT, "server.gguf"},
        {{.key = "llama.block_count", .value = 4}, 0, CMIF_E_FORMAT, "tensor"},
        {{.key = "llama.embedding_length", .value = 128}, 0, CMIF_E_FORMAT, "n_rot"},
        {{.key = NULL}, 513, CMIF_E_RANGE, "513"},
        {{.key = "llama.context_length", .value = 1u << 30}, 1u << 30, CMIF_E_MEMORY, "MB"},
    };
    cmif_engine *engine = NULL;
    cmif_err     err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const cmif_code rc = open_changed(&cases[i].change, cases[i].context, &engine, &err);
        CHECK(rc == cases[i].code && engine == NULL);
        CHECK(strstr(err.text, cases[i].words) != NULL);
        if (rc != cases[i].code || !strstr(err.text, cases[i].words)) {
            fprintf(stderr, "case %zu: %s\n", i, err.text);
        }
    }
    cmif_engine_options options = {.path = "/nonexistent.gguf", .slots = 1};
    CHECK(cmif_engine_open(&options, &engine, &err) == CMIF_E_IO && strstr(err.text, "/nonexistent.gguf"));
    options = (cmif_engine_options){.path = STORIES, .slots = 0};
    CHECK(cmif_engine_open(&options, &engine, &err) == CMIF_E_RANGE);
    options.slots = 257;
    CHECK(cmif_engine_open(&options, &engine, &err) == CMIF_E_RANGE);
    CHECK(engine == NULL);
}

int main(void)
{
    if (access(STORIES, R_OK) != 0 || access(MINILM, R_OK) != 0) {
        return check_skip("no shared/models beside the repository");
    }
    CHECK(table_open(STORIES));
    RUN(rows_give_the_golden_generations);
    RUN(logits_equal_the_plain_programs_bit_for_bit);
    RUN(arrival_does_not_change_a_bit);
    RUN(ids_and_loop_equal_rows_bit_for_bit);
    RUN(streams_together_equal_streams_alone);
    RUN(a_long_prompt_does_not_stop_a_stream);
    RUN(stop_ids_end_a_stream);
    RUN(a_cache_is_continued_and_cut);
    RUN(cancel_keeps_the_cache_and_drop_does_not);
    RUN(a_full_context_ends_a_stream);
    RUN(nonsense_is_refused);
    RUN(a_replayed_stream_draws_the_same);
    RUN(draws_follow_the_probabilities);
    RUN(a_draw_depends_on_seed_and_number_alone);
    RUN(greedy_takes_the_lowest_of_equals_and_refuses_nan);
    RUN(classification_equals_the_recorded_logits);
    RUN(an_encoder_refuses_what_it_cannot_do);
    RUN(a_server_half_works_from_rows);
    RUN(looked_up_rows_are_scaled);
    RUN(an_encoder_without_pooling_is_averaged);
    RUN(a_pooled_decoder_encodes);
    RUN(files_that_cannot_work_are_refused_with_the_reason);
    cmif_gguf_free(file);
    return check_report();
}
