/* rows - the upstream kinds "vllm" (vLLM and what is made of it, such as NIM) and "sglang": somebody else's server that takes rows instead of a prompt.
 *
 * Tokens, the chat format and rows are made here, from the client half of the very model that the server has; what leaves is rows and a few numbers, and stop
 * texts that were released. vLLM gets them as "prompt_embeds" (tensor.h) of /v1/completions, SGLang as "input_embeds" of /generate.
 * The server is asked for its version and how it was started: before the first call, once a minute, and after a failure. A version with known holes, one that is
 * not said, and a start that would make rows harmful, end calls with a sentence. Rows are proved sane before any leaves: some servers die of others, or answer
 * later people wrongly.
 *
 * Sees    released text, generated text.
 * Source  vLLM: docs/features/prompt_embeds, OpenAI-compatible server. SGLang: native API. */
#ifndef CMIF_GATEWAY_ROWS_H
#define CMIF_GATEWAY_ROWS_H

#include "gateway/upstream.h"

#include "chat/chat.h"
#include "embed/embed.h"

typedef enum cmif_rows_kind { CMIF_ROWS_VLLM = 0, CMIF_ROWS_SGLANG } cmif_rows_kind;

typedef struct cmif_rows_options {
    cmif_openai_options there;       /* url: "http://127.0.0.1:8000", with or without "/v1" */
    cmif_rows_kind      kind;
    bool                any_version; /* the operator answers for it: a server that does not say its version, or an older one, is taken */
    /* of the model's client half; these outlive the upstream */
    const uint8_t      *model_id;    /* [32] */
    cmif_str            arch;        /* "general.architecture": one whose rows are taken as they are in the table */
    cmif_tokenizer     *tokenizer;
    const cmif_chat    *chat;        /* NULL: the model has no chat format, and why: */
    const char         *no_chat;
    const cmif_embed   *embed;       /* rows are plain */
} cmif_rows_options;

/* Errors: RANGE (an option: which), UNSUPPORTED (an architecture), IO, FORMAT (a key file), MEMORY. What the server says of itself comes later: its state is STARTING until then. */
CMIF_MUST_USE cmif_code cmif_rows_new(struct event_base *base, const cmif_rows_options *options, cmif_upstream **out, cmif_err *err);

#endif
