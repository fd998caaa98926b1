/* cmif_cache - from what a person calls a model to the two halves of its split, made once and kept.
 *
 * Sees    names of files. */
#ifndef CMIF_PROGRAMS_CMIF_CACHE_H
#define CMIF_PROGRAMS_CMIF_CACHE_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>

typedef struct cmif_halves {
    char client[PATH_MAX], server[PATH_MAX];
    bool made; /* the split was made by this call */
} cmif_halves;

/* The file that model means: a path, or the name of a model that `cmif pull` brought.
 * Errors: IO (neither; says what to do). */
CMIF_MUST_USE cmif_code cmif_cache_model(const char *model, char path[static PATH_MAX], cmif_err *err);

/* Its two halves: themselves when model is a client half or a folder with one, else a split in
 * $XDG_CACHE_HOME/cmif/split, made now by cmif-model unless it is there (two programs at once make it once).
 *   make  false: only look; the paths are filled in, and access() tells whether they are there
 * Errors: IO, CANCELLED. */
CMIF_MUST_USE cmif_code cmif_cache_halves(const char *model, bool make, cmif_halves *out, cmif_err *err);

/* $XDG_CACHE_HOME/cmif, or ~/.cache/cmif. */
CMIF_MUST_USE cmif_code cmif_cache_folder(char path[static PATH_MAX], cmif_err *err);
/* $XDG_DATA_HOME/cmif, or ~/.local/share/cmif: what must not be lost, the ledger (ledger.db) and receipts (receipts/). */
CMIF_MUST_USE cmif_code cmif_data_folder(char path[static PATH_MAX], cmif_err *err);

#endif
