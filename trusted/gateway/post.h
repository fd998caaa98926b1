/* post - HTTP to an upstream: where it is, who it must be, our key; one request there, and what comes of it.
 *
 * https:// is checked by a pin, or by CAs and the host's name; http:// is for this machine only. What the body of an answer other than 200 says is not looked
 * at: it could repeat what was sent.
 *
 * Sees    released text or rows, generated text, the upstream's API key. */
#ifndef CMIF_GATEWAY_POST_H
#define CMIF_GATEWAY_POST_H

#include "gateway/upstream.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>

typedef struct cmif_there cmif_there; /* an address */
typedef struct cmif_post  cmif_post;  /* a request */

/* Errors: RANGE (an address, a pin: how it looks), IO, FORMAT (a key file), MEMORY. Posts must be over, or cancelled, before it is freed. */
CMIF_MUST_USE cmif_code cmif_there_new(struct event_base *base, const cmif_openai_options *options, cmif_there **out, cmif_err *err);
void                    cmif_there_free(cmif_there *there);       /* NULL is welcome */
const char             *cmif_there_path(const cmif_there *there); /* of the address, without a slash at its end: "", "/v1" */

typedef struct cmif_post_hooks { /* all on the loop, none inside of cmif_post_start */
    cmif_code (*on_bytes)(void *context, const void *bytes, size_t size, cmif_err *err); /* of the body of a 200; an error ends the post (LIED) with its text */
    void (*on_end)(void *context, cmif_call_end end, const char *sentence, uint32_t retry_seconds); /* once; not after a cancel. DONE: the body is whole */
    void (*on_gone)(void *context); /* last, also after a cancel: nothing is called any more, the post is freed */
    void *context;
} cmif_post_hooks;

/* body: NULL is a GET; else JSON, which is taken out of it. path: what follows the host. A server that says nothing for (seconds) is given up; 0: as the
 * address says. On an error no hook is called. Errors: IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_post_start(cmif_there *there, const char *path, struct evbuffer *body, uint32_t seconds, const cmif_post_hooks *hooks, cmif_post **out,
                                        cmif_err *err);
void                    cmif_post_cancel(cmif_post *post);

/* What bev has to write goes to the kernel now, as far as that takes it, and not when the loop comes round, behind what others are waiting for. TLS: nothing
 * is done. bev must be connected. */
void cmif_write_now(struct bufferevent *bev);

#endif
