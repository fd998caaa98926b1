/* events - what an upstream answers, taken apart: server-sent events as OpenAI or SGLang write them, or one JSON object with vectors.
 *
 * Strict and bounded: a line, a whole answer and numbers of choices have limits, and what is not as it should be ends the call. Nothing of it is repeated
 * in an error.
 *
 * Sees    generated text.
 * Source  WHATWG server-sent events; the OpenAI API reference; SGLang's native API (/generate). */
#ifndef CMIF_GATEWAY_EVENTS_H
#define CMIF_GATEWAY_EVENTS_H

#include "gateway/upstream.h"

enum { CMIF_EVENTS_LINE_MAX = 4 << 20, CMIF_EVENTS_TOTAL_MAX = 256 << 20, CMIF_EVENTS_WIDTH_MAX = 65536 /* of a vector */ };

typedef enum cmif_events_form {
    CMIF_EVENTS_OPENAI = 0,
    CMIF_EVENTS_WHOLE, /* SGLang: each event has the whole text so far */
    CMIF_EVENTS_PIECES /* SGLang: each event has what is new */
} cmif_events_form;

typedef struct cmif_events { /* set these four, the rest {0}; end with cmif_events_wipe */
    cmif_endpoint          endpoint;
    size_t                 inputs;     /* texts to be embedded: so many vectors must come */
    cmif_events_form       form;
    const cmif_call_hooks *hooks;
    cmif_secret            line, data; /* unfinished ones */
    cmif_secret            said;       /* WHOLE: the text so far */
    char                   model[256]; /* that answers: it may not change on the way */
    uint64_t               total;
    bool                   done;       /* "[DONE]" came */
    bool                   any;        /* a choice or vector came */
    struct { size_t count, width; unsigned depth; bool string, escaped, list, item; } vectors; /* where in their JSON we are */
} cmif_events;

/* Feed bytes of the body; hooks are called, but for on_end. Errors: PEER (what is wrong), MEMORY. */
CMIF_MUST_USE cmif_code cmif_events_feed(cmif_events *events, const void *bytes, size_t size, cmif_err *err);
/* The body is over. Errors: PEER (it broke off), MEMORY. */
CMIF_MUST_USE cmif_code cmif_events_end(cmif_events *events, cmif_err *err);
void                    cmif_events_wipe(cmif_events *events);

#endif
