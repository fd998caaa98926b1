/* split - one model file into two: the client's (table, tokenizer, chat pieces) and the server's (all other tensors).
 *
 * Sees    a public model file, and nothing of any person.
 * Source  design.md section 5; keys in docs/model.md. */
#ifndef CMIF_MODEL_SPLIT_H
#define CMIF_MODEL_SPLIT_H

#include "base/err.h"
#include "gguf/gguf.h"
#include "model/arch.h"
#include "rows/rows.h"

#include <stdbool.h>
#include <stdint.h>

/* What splitting a model means, found from its header alone. */
typedef struct cmif_split_plan {
    const cmif_arch *arch;
    uint32_t         width, vocab, layers, context; /* layers and context 0: the file does not say */
    float            row_scale;
    bool             tied;         /* the output matrix is the table */
    bool             server_table; /* the server's file holds the table: tied, or asked for */
    uint32_t         stored_type;  /* of the table, as ggml numbers types */
    cmif_row_type    table_type;   /* of the table in the client's file */
    uint32_t         stub_type;    /* of token_embd.weight in the server's file, where the table is not there */
    uint64_t         client_size, server_size; /* bytes of tensors */
    /* cmif_split only: of the client's file, which cannot be read again when it is sealed */
    char             model_id[65];          /* hex */
    char             chat_refused[256];     /* why it has no chat pieces; empty: it has */
} cmif_split_plan;

typedef struct cmif_split_options {
    bool          keep_embeddings; /* leave the table on the server */
    cmif_row_type table;           /* write the client's table in this type; CMIF_ROWS_ID: exactly as it is */
    const uint8_t *seal;           /* [32] the key to seal the client's file with (seal/seal.h); NULL: it is not sealed */
} cmif_split_options;

/* What: "reading", "writing client.gguf", ...; done of total bytes of the whole work. Return false to stop. */
typedef bool (*cmif_split_progress)(void *context, const char *what, uint64_t done, uint64_t total);

/* Errors: UNSUPPORTED (the model cannot be split: why), FORMAT (not a whole model: what is missing). */
CMIF_MUST_USE cmif_code cmif_split_plan_init(const cmif_gguf *model, const cmif_split_options *options,
                                             cmif_split_plan *out, cmif_err *err);

#define CMIF_SPLIT_CLIENT "client.gguf"
#define CMIF_SPLIT_SEALED "client.gguf.sealed"
#define CMIF_SPLIT_SERVER "server.gguf"

/* Write folder/client.gguf (sealed: folder/client.gguf.sealed) and folder/server.gguf; the folder is made if need be. Files of these names are replaced only
 * when both new ones are complete on disk; then the client's file of the other kind is removed, too. What is sealed was never on disk in the clear.
 *   plan  filled on success; NULL is welcome
 * Errors: as above, IO (disk, folder), CANCELLED, MEMORY. */
CMIF_MUST_USE cmif_code cmif_split(const char *path, const char *folder, const cmif_split_options *options,
                                   cmif_split_progress progress, void *context, cmif_split_plan *plan, cmif_err *err);

#endif
