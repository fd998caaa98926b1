/* ask - what a request asks of a split model: token ids, how to draw, where to stop.
 *
 * What the server cannot do is refused by the field's name, unless the field asks for what it does anyway.
 *
 * Sees    released text. */
#ifndef CMIF_GATEWAY_ASK_H
#define CMIF_GATEWAY_ASK_H

#include "gateway/request.h"

#include "chat/chat.h"
#include "wire/wire.h"

enum { CMIF_ASK_STOPS_MAX = 4 };

typedef struct cmif_ask_model { /* who is asked; all of it is borrowed */
    cmif_tokenizer  *tokenizer;
    const cmif_chat *chat;    /* NULL: the model has no chat format, and why: */
    const char      *no_chat;
    bool             encoder; /* it makes vectors, of (outputs) numbers, and no text */
    uint32_t         outputs;
    uint32_t         context; /* rows */
} cmif_ask_model;

typedef struct cmif_ask {
    cmif_ids     *inputs; /* the prompt; of embeddings one for each text */
    size_t        input_count;
    uint64_t      prompt; /* ids of all inputs */
    cmif_sampling sampling;
    bool          seeded; /* the seed is the request's; else it was drawn here */
    uint32_t      max_tokens;
    bool          chat;
    struct cmif_ask_stop { uint8_t *bytes; size_t size; } stops[CMIF_ASK_STOPS_MAX]; /* text that ends the answer, and is no part of it */
    size_t        stop_count;
} cmif_ask;

/* Whether the request can be asked at all, as far as it is seen before its texts are released. Errors: RANGE (which field, and why). */
CMIF_MUST_USE cmif_code cmif_ask_check(const cmif_request *request, const cmif_ask_model *model, cmif_err *err);
/* Every text of the request must have been released. *out: end with cmif_ask_wipe. Errors: RANGE (which field, and why), MEMORY, IO. */
CMIF_MUST_USE cmif_code cmif_ask_read(const cmif_request *request, const cmif_ask_model *model, cmif_ask *out, cmif_err *err);
void                    cmif_ask_wipe(cmif_ask *ask); /* {0} again; {0} is welcome */

#endif
