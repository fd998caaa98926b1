/* reply - an answer as OpenAI programs expect it: one JSON object, or server-sent events; originals put back on the way.
 *
 * No network here: bytes go to a sink. Streams hold back no more than the longest surrogate that may still match.
 *
 * Sees    plaintext.
 * Source  the OpenAI API reference; WHATWG server-sent events. */
#ifndef CMIF_GATEWAY_REPLY_H
#define CMIF_GATEWAY_REPLY_H

#include "gateway/talk.h"
#include "gateway/upstream.h"

typedef struct cmif_reply_options { /* all must outlive the reply */
    const cmif_request *request;
    cmif_talk          *talk;
    const char         *model;     /* as clients know it */
    int64_t             created;   /* seconds since 1970 */
    uint64_t            number;    /* of the request: ids are made of it, "chatcmpl-000000000000002a" */
    cmif_code (*sink)(void *context, const void *bytes, size_t size, cmif_err *err);
    void               *context;
} cmif_reply_options;

typedef struct cmif_reply cmif_reply;

CMIF_MUST_USE cmif_code cmif_reply_new(const cmif_reply_options *options, cmif_reply **out, cmif_err *err);
void                    cmif_reply_free(cmif_reply *reply); /* NULL is welcome; wiped */
const char             *cmif_reply_type(const cmif_reply *reply); /* "text/event-stream" or "application/json" */

/* What the hooks of a call say (upstream.h). Errors: MEMORY, and what the sink returns. */
CMIF_MUST_USE cmif_code cmif_reply_text(cmif_reply *reply, uint32_t choice, const char *bytes, size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_reply_refusal(cmif_reply *reply, uint32_t choice, const char *bytes, size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_reply_tool(cmif_reply *reply, uint32_t choice, uint32_t index, const char *name, size_t name_size, const char *arguments,
                                        size_t size, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_reply_logprobs(cmif_reply *reply, uint32_t choice, const json_t *logprobs, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_reply_vector(cmif_reply *reply, uint32_t index, const float *values, size_t count, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_reply_finish(cmif_reply *reply, uint32_t choice, cmif_finish reason, cmif_err *err);
void                    cmif_reply_usage(cmif_reply *reply, const cmif_call_usage *usage);
CMIF_MUST_USE cmif_code cmif_reply_ping(cmif_reply *reply, cmif_err *err); /* ": ping" of a stream; nothing otherwise */

typedef struct cmif_reply_extension { /* member "cmif" of the answer */
    const char             *policy; /* its name */
    const cmif_talk_counts *counts;
    double                  epsilon_left_day; /* INFINITY: no budget */
    uint64_t                receipt;          /* 0: none */
} cmif_reply_extension;

/* The rest: what restorers held back, usage, extension, "[DONE]". The talk is told of the answer. extension may be NULL. */
CMIF_MUST_USE cmif_code cmif_reply_end(cmif_reply *reply, const cmif_reply_extension *extension, cmif_err *err);
/* An error in mid-stream, in place of the end. */
CMIF_MUST_USE cmif_code cmif_reply_fail(cmif_reply *reply, const char *type, const char *code, const char *sentence, cmif_err *err);
/* What came, of all choices, for the receipt. */
const void *cmif_reply_came(const cmif_reply *reply, size_t *size);

/* {"error": {...}} as text, appended; param and code may be NULL. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_reply_error(cmif_secret *out, const char *message, const char *type, const char *param, const char *code, cmif_err *err);

#endif
