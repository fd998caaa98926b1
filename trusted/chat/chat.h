/* chat - a conversation as token ids, from the literal pieces that `cmif split` cut out of the model's own template.
 *
 * There is no template language on the trusted side: pieces are concatenated. Only pieces make special tokens.
 *
 * Sees    released text and the model file's public pieces.
 * Source  GGUF keys cmif.chat.* (docs/chat.md). */
#ifndef CMIF_CHAT_CHAT_H
#define CMIF_CHAT_CHAT_H

#include "side.h"

#include "dp/release.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

typedef enum cmif_role { CMIF_ROLE_SYSTEM = 0, CMIF_ROLE_USER, CMIF_ROLE_ASSISTANT } cmif_role;

typedef struct cmif_message {
    cmif_role            role;
    const cmif_released *text;
} cmif_message;

typedef struct cmif_chat cmif_chat;

/* Both must outlive the chat.
 * Errors: UNSUPPORTED (the model has no chat pieces: the reason that split stored is in the text), FORMAT, MEMORY. */
CMIF_MUST_USE cmif_code cmif_chat_open(const cmif_gguf *file, cmif_tokenizer *tokenizer, cmif_chat **out, cmif_err *err);
void                    cmif_chat_free(cmif_chat *chat);

/* Append the ids of the whole conversation, one BOS in front where the model wants one, and of the piece that asks for the
 * next answer. At most one system message, the first; then user and assistant in turn, a user last. White space that the
 * template would strip, and thinking that it would drop from earlier answers, is left out.
 * Errors: RANGE (another order), UNSUPPORTED (the template takes no system message: why), MEMORY. ids is as it was then. */
CMIF_MUST_USE cmif_code cmif_chat_render(const cmif_chat *chat, const cmif_message *messages, size_t count,
                                         cmif_ids *ids, cmif_err *err);

#endif
