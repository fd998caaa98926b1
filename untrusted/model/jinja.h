/* jinja - render a chat template with the engine's own Jinja.
 *
 * A template is a program out of a model file, and the Jinja is C++ that trusts it: a hostile one may loop for ever or
 * crash. Whoever renders templates of strangers does it in a process that may die (chatcut.c does).
 *
 * Source  common/jinja of the pinned engine; the variables are those that its common/chat.cpp gives. */
#ifndef CMIF_MODEL_JINJA_H
#define CMIF_MODEL_JINJA_H

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

typedef struct cmif_jinja_message {
    const char *role; /* "system", "user", "assistant" */
    cmif_str    content;
} cmif_jinja_message;

typedef struct cmif_jinja_chat { /* all borrowed */
    const cmif_jinja_message *messages;
    size_t                    count;
    cmif_str                  bos, eos; /* texts of the two tokens; empty: the model has none */
    time_t                    now;      /* what strftime_now says, in the time zone of the process */
    bool                      typed;    /* contents as [{"type": "text", "text": ...}], for templates that want them so */
} cmif_jinja_chat;

typedef struct cmif_jinja cmif_jinja;

/* Errors: FORMAT (not Jinja, or a tag that the engine does not know), MEMORY. */
CMIF_MUST_USE cmif_code cmif_jinja_new(cmif_str source, cmif_jinja **out, cmif_err *err);
void                    cmif_jinja_free(cmif_jinja *jinja); /* NULL is welcome */

/* The text for this conversation, the generation prompt included.
 *   text  malloc'd, zero-terminated, the caller's (free)
 * Errors: UNSUPPORTED (the template raised an exception: its words), MEMORY. */
CMIF_MUST_USE cmif_code cmif_jinja_render(const cmif_jinja *jinja, const cmif_jinja_chat *chat, char **text, size_t *size,
                                          cmif_err *err);

#endif
