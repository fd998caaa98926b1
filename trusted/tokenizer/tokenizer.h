/* tokenizer - released text <-> token ids, exactly as the engine's own library does it.
 *
 * SentencePiece ("llama"), byte-level BPE ("gpt2" with the pre-tokenizers listed in tokenizer.c), WordPiece ("bert").
 * Linear in the text. Text never makes special tokens: "<|im_end|>" in a person's words becomes ordinary tokens. Tokens
 * that a file calls user-defined are found in text, as the library finds them, unless they look like markup ("<...>",
 * "[...]"): some files mark turns of a conversation with those.
 *
 * One thread at a time: words already met are cached in the tokenizer.
 *
 * Sees    released text only.
 * Source  GGUF keys tokenizer.ggml.*; design.md sections 1 and 5. */
#ifndef CMIF_TOKENIZER_TOKENIZER_H
#define CMIF_TOKENIZER_TOKENIZER_H

#include "side.h"

#include "base/err.h"
#include "dp/release.h"
#include "gguf/gguf.h"

#include <stdbool.h>

typedef struct cmif_tokenizer cmif_tokenizer;

/* Build from the keys of file, which must outlive the tokenizer.
 * Errors: FORMAT (keys missing or contradictory), UNSUPPORTED (a model or pre-tokenizer we do not have), MEMORY. */
CMIF_MUST_USE cmif_code cmif_tokenizer_open(const cmif_gguf *file, cmif_tokenizer **out, cmif_err *err);
void                    cmif_tokenizer_free(cmif_tokenizer *tokenizer);

/* A piece of a prompt: released text, or a literal of the model file, which is public. */
typedef struct cmif_part {
    const cmif_released *text;       /* NULL: literal is meant */
    size_t               from, size; /* the bytes of text that are meant */
    cmif_str             literal;
} cmif_part;

/* Append the ids of all parts, read as one text. Special tokens (control and user-defined, longest first, as the engine's
 * library finds them with parse_special) are recognised only where they lie wholly inside one literal; ordinary text is
 * joined across parts between two special tokens. Adds no BOS, EOS, CLS or SEP by itself.
 * Invalid UTF-8 is taken as the engine's library takes it.
 * Errors: MEMORY, RANGE (more than 2^30 bytes, a part outside its text). ids is as it was on any error. */
CMIF_MUST_USE cmif_code cmif_tokenizer_encode(cmif_tokenizer *tokenizer, const cmif_part *parts, size_t count,
                                              cmif_ids *ids, cmif_err *err);

/* Append what the model wants in front of (BOS, CLS) or after (EOS, SEP) a whole prompt; nothing if it wants none. */
CMIF_MUST_USE cmif_code cmif_tokenizer_put_start(const cmif_tokenizer *tokenizer, cmif_ids *ids, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_tokenizer_put_end(const cmif_tokenizer *tokenizer, cmif_ids *ids, cmif_err *err);

/* Bytes of one token, as they appear in text: byte pieces are bytes, SentencePiece's U+2581 is a space, control
 * tokens are empty unless show_special. out has room for 512 bytes at least; returns the size. A piece longer than room is
 * cut there (the longest of the vocabularies we know has 512). Ids outside the vocabulary give 0. */
size_t cmif_tokenizer_decode(const cmif_tokenizer *tokenizer, int32_t id, bool show_special, char *out, size_t room);

size_t cmif_tokenizer_vocab(const cmif_tokenizer *tokenizer);
/* Ids that end a generation (eos, eot, eom, and the control tokens the engine's library counts as such).
 * *ids is borrowed. */
size_t cmif_tokenizer_stops(const cmif_tokenizer *tokenizer, const int32_t **ids);
bool   cmif_tokenizer_is_special(const cmif_tokenizer *tokenizer, int32_t id); /* control or unknown */

#endif
