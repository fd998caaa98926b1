/* arch - the architectures that can be split, what their rows are multiplied by, and where the output matrix comes from.
 *
 * Source  src/models/ of the pinned engine, read one by one: what each applies to rows after they entered, whether it uses
 *         the table a second time, and whether token ids are needed anywhere else in the graph. */
#ifndef CMIF_MODEL_ARCH_H
#define CMIF_MODEL_ARCH_H

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdbool.h>

typedef enum cmif_arch_scale {
    CMIF_SCALE_ONE = 0,   /* rows as they are in the table; where a model scales, the engine does it for rows too */
    CMIF_SCALE_ROOT_WIDTH /* the engine scales looked-up rows only: rows must come multiplied by sqrt(width) */
} cmif_arch_scale;

typedef enum cmif_arch_output {
    CMIF_OUTPUT_OPTIONAL = 0, /* output.weight, or the table where there is none (then the model is tied) */
    CMIF_OUTPUT_OWN,          /* always output.weight */
    CMIF_OUTPUT_TABLE,        /* always the table, under the name token_embd.weight */
    CMIF_OUTPUT_NONE          /* an encoder: vectors come out, no logits */
} cmif_arch_output;

typedef struct cmif_arch {
    const char      *name;
    cmif_arch_scale  scale;
    cmif_arch_output output;
    const char      *refused; /* why it cannot be split; NULL: it can */
} cmif_arch;

size_t           cmif_arch_count(void); /* all that we know, the refused ones too */
const cmif_arch *cmif_arch_at(size_t index);
size_t           cmif_arch_allowed(void);

/* The architecture of a model, if it can be split.
 * Errors: FORMAT (no general.architecture), UNSUPPORTED (the reason is in the text). */
CMIF_MUST_USE cmif_code cmif_arch_find(const cmif_gguf *model, const cmif_arch **out, cmif_err *err);

#endif
