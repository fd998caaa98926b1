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

int main(void)
{
    if (access(STORIES, R_OK) != 0 || access(MINILM, R_OK) != 0) {
        return check_skip("no shared/models beside the repository");
    }
    CHECK(table_open(STORIES));
    RUN(rows_give_the_golden_generations);
    cmif_gguf_free(file);
    return check_report();
}
