/* cmif_folders - where files of ours lie, and what a person calls a model: for the trusted program and for its helpers.
 *
 * Sees    names of files. */
#ifndef CMIF_PROGRAMS_CMIF_FOLDERS_H
#define CMIF_PROGRAMS_CMIF_FOLDERS_H

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>

/* $XDG_CACHE_HOME/cmif, or ~/.cache/cmif: at most PATH_MAX / 2 bytes. */
CMIF_MUST_USE cmif_code cmif_cache_folder(char path[static PATH_MAX], cmif_err *err);
/* $XDG_DATA_HOME/cmif, or ~/.local/share/cmif: what must not be lost, the ledger (ledger.db) and receipts (receipts/). */
CMIF_MUST_USE cmif_code cmif_data_folder(char path[static PATH_MAX], cmif_err *err);
/* A file of the cache folder. name: at most 256 bytes; make: its folders are made, for the user alone. */
CMIF_MUST_USE cmif_code cmif_cache_file(const char *name, bool make, char path[static PATH_MAX], cmif_err *err);

/* The file that model means: a path, or the name of a model that `cmif pull` brought.
 * Errors: IO (neither; says what to do). */
CMIF_MUST_USE cmif_code cmif_cache_model(const char *model, char path[static PATH_MAX], cmif_err *err);

/* Make path and the folders above it that are not there, for the user alone. Errors: IO. */
CMIF_MUST_USE cmif_code cmif_make_folders(char *path, cmif_err *err);

#endif
