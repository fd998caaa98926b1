/* split - the upstream kind "cmif": our own server behind the gateway, which gets rows and nothing else.
 *
 * Tokens and the chat format are made here. A session with the server blocks, so each has a thread; hooks are called on the loop. A call gets the session
 * whose rows begin as its own do, so that a conversation that is sent again costs its last turn only; where all are under way it waits for a while.
 *
 * Sees    released text, generated text. */
#ifndef CMIF_GATEWAY_SPLIT_H
#define CMIF_GATEWAY_SPLIT_H

#include "gateway/upstream.h"

#include "chat/chat.h"
#include "session/session.h"

enum { CMIF_SPLIT_WAITING_MAX = 256 }; /* calls; one more is told to come back later */

typedef struct cmif_split_options { /* all must outlive the upstream */
    const char      *name;     /* for clients; at most 255 bytes */
    const uint8_t   *model_id; /* [32] */
    cmif_tokenizer  *tokenizer;
    const cmif_chat *chat;     /* NULL: the model has no chat format, and why: */
    const char      *no_chat;
    cmif_session    *first;    /* open; the upstream's on success */
    cmif_code (*open)(void *context, cmif_session **out, cmif_err *err); /* one more like it; from several threads at once */
    void            *context;
    uint32_t         sessions;     /* streams at once, and conversations that the server is asked to keep */
    uint32_t         wait_seconds; /* a call that waits for longer is told to come back later */
} cmif_split_options;

/* Errors: MEMORY, IO. */
CMIF_MUST_USE cmif_code cmif_split_new(struct event_base *base, const cmif_split_options *options, cmif_upstream **out, cmif_err *err);

#endif
