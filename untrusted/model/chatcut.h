/* chatcut - cut a model's chat template into literal pieces, so that the trusted side needs no template language.
 *
 * The template is rendered by the engine's own Jinja for conversations of sentinel words; what stands between the
 * sentinels are the pieces. They are checked on 20 further conversations: where putting pieces and contents together does
 * not give exactly what the template gives, the template is refused with the reason, and the model is for raw text only.
 *
 * Source  docs/chat.md. */
#ifndef CMIF_MODEL_CHATCUT_H
#define CMIF_MODEL_CHATCUT_H

#include "base/err.h"
#include "gguf/gguf.h"

/* Cut the template of model and put the keys cmif.chat.* (docs/chat.md) into client: the pieces, or cmif.chat.refused
 * with the reason ("the model has no chat template", ...). A refusal is a success of this call.
 * Errors: MEMORY, and what the gguf writer says. */
CMIF_MUST_USE cmif_code cmif_chat_pieces_put(const cmif_gguf *model, cmif_gguf_out *client, cmif_err *err);

#endif
