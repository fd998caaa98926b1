/* cmif_cache - from what a person calls a model to the two halves of its split, made once and kept.
 *
 * Sees    names of files. */
#ifndef CMIF_PROGRAMS_CMIF_CACHE_H
#define CMIF_PROGRAMS_CMIF_CACHE_H

#include "cmif_folders.h"

typedef struct cmif_halves {
    char client[PATH_MAX], server[PATH_MAX];
    bool made; /* the split was made by this call */
} cmif_halves;

/* The two halves of a model: themselves when model is a client half (sealed or not) or a folder with one, else a split in
 * $XDG_CACHE_HOME/cmif/split, made now by cmif-model unless it is there (two programs at once make it once).
 *   make  false: only look; the paths are filled in, and access() tells whether they are there
 * Errors: IO, CANCELLED. */
CMIF_MUST_USE cmif_code cmif_cache_halves(const char *model, bool make, cmif_halves *out, cmif_err *err);

#endif
