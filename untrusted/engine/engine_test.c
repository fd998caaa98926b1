#include "engine/engine.h"

#include "base/check.h"
#include "gguf/gguf.h"
#include "rows/rows.h"

#include "llama.h"

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
    size_t   tokens, logits_count, vector_count, progress, done, errors;
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
    cmif_gguf_free(file);
    return check_report();
}
