/* engine - llama.cpp behind one narrow door: rows in, tokens, logits and vectors out.
 *
 * One thread owns an engine. Slots are sequences with a cache of their own. A step serves all slots that have work: one
 * batch with a row of each running stream and with short prompts, and one with a piece of a longer prompt, in turn. All
 * batches are rows, never ids, so that one batch can serve everybody. Everything that makes the library abort is refused
 * here first.
 *
 * Slices  Prompt rows are computed in slices that end at multiples of `batch` rows from where BEGIN said, and at the
 *         prompt's end; a slice starts when all its rows are there. So a stream that is alone computes in the same shapes
 *         whenever its rows arrive: bit for bit what a plain program computes (tests/plain.c). While others stream, a step
 *         takes pieces of about 128 rows of prompts in turn, so that the next token of a stream never waits for much more.
 * Classes Slices of 64 rows and more, and all other rows, are computed in batches of their own, and the last `step` rows of
 *         a replay as the tokens that they were: the kernels differ (engine.c, plan_narrow).
 * Order   The library computes sequences together only when their slot numbers follow each other: give out low numbers
 *         first.
 *
 * Source  llama.h of the pinned engine; docs/architecture.md. */
#ifndef CMIF_ENGINE_ENGINE_H
#define CMIF_ENGINE_ENGINE_H

#include "base/err.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cmif_engine cmif_engine;

typedef struct cmif_engine_options {
    const char *path;        /* a server file of `cmif split`, or any GGUF the engine loads */
    uint32_t    slots;       /* sequences at once, 1..256 */
    uint32_t    context;     /* rows of one slot, at most what the model has; 0: that, at most 4096 */
    uint32_t    batch;       /* rows of one step, at most 8192; 0: 512 */
    uint32_t    threads;     /* 0: all cores */
    int32_t     gpu_layers;  /* < 0: all */
} cmif_engine_options;

/* Encoders pool as the model says; one that does not say is averaged.
 * Errors: IO, FORMAT, RANGE, UNSUPPORTED, MEMORY (the cache would not fit: both numbers). */
CMIF_MUST_USE cmif_code cmif_engine_open(const cmif_engine_options *options, cmif_engine **out, cmif_err *err);
void                    cmif_engine_free(cmif_engine *engine);
/* What a WELCOME says, except version, rows_max and idle_seconds. */
const cmif_frame_welcome *cmif_engine_welcome(const cmif_engine *engine);

/* Start work on a slot: keep the cache up to begin->position, drop the rest, expect begin->row_count rows.
 * Errors: RANGE (slot at work, position beyond the cache, does not fit the context, a field out of bounds; or a model
 * whose cache cannot be cut: then it is empty now), UNSUPPORTED (encode on a decoder, ids without a table, ...), MEMORY. */
CMIF_MUST_USE cmif_code cmif_engine_begin(cmif_engine *engine, uint32_t slot, const cmif_frame_begin *begin, cmif_err *err);
/* Queue count rows as they travel (cmif_row_size bytes each), of the type that BEGIN named. After each TOKEN of a stream
 * that does not loop the slot waits for exactly one. All or nothing; rows for a slot that is being cancelled are ignored.
 * Errors: RANGE (nobody waits for them, too many, another type, not finite or above CMIF_WIRE_ROW_LIMIT, no such id),
 * MEMORY. */
CMIF_MUST_USE cmif_code cmif_engine_put_rows(cmif_engine *engine, uint32_t slot, cmif_row_type type, const void *rows,
                                             size_t count, cmif_err *err);
void cmif_engine_cancel(cmif_engine *engine, uint32_t slot); /* stop; the cache stays; a DONE follows */
void cmif_engine_drop(cmif_engine *engine, uint32_t slot);   /* stop; the cache goes; nothing follows */

/* Of one slot, in this order: PROGRESS*, then (LOGITS? TOKEN)+ or VECTOR, then DONE. An ERROR ends it too, its cache is
 * dropped, and other slots do not notice. After DONE the slot is free for the next BEGIN. */
typedef struct cmif_engine_event {
    uint32_t     slot;
    uint16_t     kind;         /* CMIF_FRAME_TOKEN, _LOGITS, _VECTOR, _PROGRESS, _DONE, _ERROR */
    uint32_t     position;     /* TOKEN, LOGITS: that the token's row will have; PROGRESS, DONE: rows in the cache */
    uint32_t     id;           /* TOKEN */
    float        margin;       /* TOKEN */
    bool         looped;       /* TOKEN: the engine feeds it itself */
    const float *floats;       /* LOGITS, VECTOR; borrowed until the callback returns */
    size_t       count;
    uint8_t      reason;       /* DONE: cmif_done_reason; ERROR: cmif_wire_error */
    uint32_t     tokens, prefill_us, decode_us; /* DONE: from BEGIN to the prompt's last row, and from there to now */
} cmif_engine_event;

/* Must not call the engine. */
typedef void (*cmif_engine_sink)(void *context, const cmif_engine_event *event);

bool cmif_engine_has_work(const cmif_engine *engine); /* a step would do something */
/* One batch. Errors: only what ends the engine (the process should exit and be restarted). */
CMIF_MUST_USE cmif_code cmif_engine_step(cmif_engine *engine, cmif_engine_sink sink, void *context, cmif_err *err);

#endif
