/* chatcut - cut a model's chat template into literal pieces, so that the trusted side needs no template language.
 *
 * The template is rendered by the engine's own Jinja for conversations of sentinel words; what stands between the
 * sentinels are the pieces. They are checked on 20 further conversations: where putting pieces and contents together does
 * not give exactly what the template gives, the template is refused with the reason, and the model is for raw text only.
 *
 * All of that runs in a child process with limits, because a template is a program out of a stranger's file. The calls
 * below fork: make them before starting threads.
 *
 * Source  docs/chat.md. */
#ifndef CMIF_MODEL_CHATCUT_H
#define CMIF_MODEL_CHATCUT_H

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* What stands between two neighbours: the start of the text, messages by role, and the point where the answer begins. */
typedef enum cmif_chat_piece {
    CMIF_PIECE_START_USER = 0,
    CMIF_PIECE_START_SYSTEM,
    CMIF_PIECE_SYSTEM_USER,
    CMIF_PIECE_USER_ASSISTANT,
    CMIF_PIECE_ASSISTANT_USER,
    CMIF_PIECE_USER_END,
    CMIF_PIECE_COUNT
} cmif_chat_piece;

/* "start_user", ...: the key is "cmif.chat." and this. */
extern const char *const cmif_chat_piece_names[CMIF_PIECE_COUNT];

enum { CMIF_CHAT_REASON = 256 };

/* What a template strips from one side of a content. cmif.chat.trim holds left + 4 * right for each role, the system's
 * in its lowest four bits, then the user's, then the assistant's. */
typedef enum cmif_chat_trim {
    CMIF_TRIM_NOTHING = 0,
    CMIF_TRIM_SPACE, /* blanks, tabs, line feeds, carriage returns, \v and \f: `| trim` */
    CMIF_TRIM_LINES, /* line feeds: `.strip('\n')` */
    CMIF_TRIM_COUNT
} cmif_chat_trim;

typedef struct cmif_chat_cut {
    char     refused[CMIF_CHAT_REASON];   /* not empty: why there are no pieces; nothing else is filled */
    char     no_system[CMIF_CHAT_REASON]; /* not empty: why a system message cannot be given; its two pieces are empty */
    cmif_str pieces[CMIF_PIECE_COUNT];    /* owned */
    uint32_t trim;                        /* as above */
    bool     dated;                       /* the pieces hold the time at which they were cut */
    bool     drops_thinking;              /* an earlier answer is given without what is before its last "</think>" */
} cmif_chat_cut;

/* Cut a template. bos and eos are the texts of the two tokens (empty: none), now the time that the template sees.
 *   out  the caller's to wipe; untouched on failure. A refusal is a success of this call.
 * Errors: MEMORY, IO (no child process). */
CMIF_MUST_USE cmif_code cmif_chat_cut_init(cmif_str source, cmif_str bos, cmif_str eos, time_t now, cmif_chat_cut *out,
                                           cmif_err *err);
void                    cmif_chat_cut_wipe(cmif_chat_cut *cut);

/* Cut the template of model and put the keys cmif.chat.* (docs/chat.md) into client: the pieces, or cmif.chat.refused
 * with the reason ("the model has no chat template", ...). A refusal is a success of this call.
 * Errors: FORMAT (the tokenizer's keys), MEMORY, IO, and what the gguf writer says. */
CMIF_MUST_USE cmif_code cmif_chat_pieces_put(const cmif_gguf *model, cmif_gguf_out *client, cmif_err *err);


#endif
