/* http - the gateway's front: OpenAI's endpoints on libevent, one thread, loopback unless there are keys.
 *
 * A request is read whole, taken apart, released, entered, and only then sent on; what goes wrong is an OpenAI-shaped error with a sentence. A client that
 * goes away takes its call with it. No log line and no metric holds a word.
 *
 * Sees    plaintext. */
#ifndef CMIF_GATEWAY_HTTP_H
#define CMIF_GATEWAY_HTTP_H

#include "gateway/reply.h"

enum { CMIF_GATEWAY_UPSTREAMS_MAX = 32 };

typedef struct cmif_gateway_options { /* all must outlive the gateway */
    struct event_base *base;
    const char        *address; /* 127.0.0.1; another one needs keys */
    uint16_t           port;    /* 0: any free one */
    cmif_talks        *talks;
    cmif_upstream     *upstreams[CMIF_GATEWAY_UPSTREAMS_MAX];
    size_t             upstream_count;
    const char        *keys_file; /* NULL: nobody needs a key */
    const char        *policy;    /* its name, for /v1/models and metrics */
    const char        *guarantee; /* what it promises, one sentence, for /status */
    const cmif_books  *books;     /* the talks' own: what is left today */
    const char        *receipts;  /* receipts.jsonl, given out to programs of this machine; NULL: none */
    size_t             body_max;  /* bytes of a request's body; 0: 32 MiB */
} cmif_gateway_options;

typedef struct cmif_gateway cmif_gateway;

/* Listen. Errors: IO (the address is in use, no permission), RANGE (not loopback, and no keys), FORMAT (the keys), MEMORY. */
CMIF_MUST_USE cmif_code cmif_gateway_new(const cmif_gateway_options *options, cmif_gateway **out, cmif_err *err);
uint16_t                cmif_gateway_port(const cmif_gateway *gateway);
size_t                  cmif_gateway_busy(const cmif_gateway *gateway); /* requests under way */
void                    cmif_gateway_drain(cmif_gateway *gateway);      /* takes nothing new; what is under way goes on */
void                    cmif_gateway_free(cmif_gateway *gateway);

#endif
