/* session - split inference as the client sees it: released ids in, tokens or a vector out.
 *
 * Keeps the ids of everything the server's cache holds, sends only what is new, feeds each generated token's row where
 * the server has no table, and replays by itself when the server or its engine died.
 *
 * Sees    released ids, generated ids.
 * Source  docs/wire.md. */
#ifndef CMIF_SESSION_SESSION_H
#define CMIF_SESSION_SESSION_H

#include "side.h"

#include "channel/channel.h"
#include "embed/embed.h"
#include "session/peer.h"
#include "wire/wire.h"

typedef struct cmif_session_options {
    cmif_peer     peer;
    const uint8_t *model_id;   /* [32] key cmif.model_id of the client file; the server must have the same */
    cmif_row_type row_type;    /* how prompt rows travel */
    bool          no_loop;     /* feed rows even if the server could loop */
    int           patience_seconds; /* how long a server may stay away, or fail again and again, before we give up */
    const cmif_peer_rule *rule;   /* NULL: no evidence is asked for. Else it is judged on every new connection before HELLO, and again before a BEGIN when the
                                   * last verdict is older than rule->minutes; its claims must name model_id. Borrowed until cmif_session_free */
} cmif_session_options;

typedef struct cmif_generation {
    cmif_sampling  sampling;
    uint32_t       max_tokens;
    const int32_t *stops; /* ids that end the stream */
    size_t         stop_count;
    uint16_t       flags; /* CMIF_BEGIN_MARGIN, CMIF_BEGIN_LOGITS */
    /* Called for each token, in order, once each whatever is replayed. logits (vocab) only with CMIF_BEGIN_LOGITS.
     * Return false to stop. */
    bool (*on_token)(void *context, int32_t id, float margin, const float *logits);
    void *context;
} cmif_generation;

typedef struct cmif_usage { /* of one generate or encode */
    uint32_t         prompt_rows;   /* of the whole prompt */
    uint32_t         reused_rows;   /* that the server still had */
    uint32_t         tokens;
    uint32_t         replays;       /* times the stream was taken up again */
    cmif_done_reason reason;
    uint64_t         sent, received;/* bytes, before TLS */
    uint64_t         first_us;      /* call to first token */
    uint64_t         total_us;
} cmif_usage;

typedef struct cmif_session cmif_session;

/* Connect, greet, check that it is the same model and the same row width, open a session.
 *   table  borrowed until cmif_session_free
 * Errors: IO, TRUST, FORMAT, UNSUPPORTED (another model, ids without a table), MEMORY. */
CMIF_MUST_USE cmif_code cmif_session_open(const cmif_session_options *options, const cmif_embed *table,
                                          cmif_session **out, cmif_err *err);
void                    cmif_session_free(cmif_session *session); /* tells the server to drop the cache */
const cmif_frame_welcome *cmif_session_server(const cmif_session *session);
const cmif_peer_verdict  *cmif_session_peer(const cmif_session *session); /* the last one; not judged where no rule was given */

/* Generate after prompt (all of it, history included). On success, and on CANCELLED, the generated ids are appended to
 * prompt when keep is true. Errors: RANGE (empty, or does not fit the context: both numbers), IO, PEER, FORMAT, ... */
CMIF_MUST_USE cmif_code cmif_session_generate(cmif_session *session, cmif_ids *prompt, bool keep,
                                              const cmif_generation *how, cmif_usage *usage, cmif_err *err);
/* One vector for ids: out (cmif_session_server()->outputs floats). */
CMIF_MUST_USE cmif_code cmif_session_encode(cmif_session *session, const cmif_ids *ids, float *out, cmif_usage *usage,
                                            cmif_err *err);
/* From a signal handler or another thread: the generate or encode under way ends with CANCELLED soon. */
void cmif_session_cancel(cmif_session *session);
/* Between two calls: a cancel that came too late for the last one is not for the next. NULL is welcome. */
void cmif_session_forget_cancel(cmif_session *session);

#endif
