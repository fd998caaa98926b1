/* sources - files of other people's packages, read whole. Nothing in them is believed; a refusal names the file and the place. */
#ifndef CMIF_LEXICON_SOURCES_H
#define CMIF_LEXICON_SOURCES_H

#include "base/err.h"
#include "gguf/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cmif_source { /* a file's bytes, and one zero byte more that size does not count */
    char  *path;
    char  *data;
    size_t size;
    uint8_t digest[32]; /* SHA-256 of the file as it lies on the disk */
    char   hash[65]; /* the same in hex */
} cmif_source;

/* out: cmif_source_free, also after an error. Errors: IO, FORMAT (more than 1 GiB), MEMORY. */
CMIF_MUST_USE cmif_code cmif_source_read(const char *path, cmif_source *out, cmif_err *err);
/* folder/name */
CMIF_MUST_USE cmif_code cmif_source_read_in(const char *folder, const char *name, cmif_source *out, cmif_err *err);
/* The same for a gzip file: data is what comes out of it, at most 1 GiB. */
CMIF_MUST_USE cmif_code cmif_source_read_gzip(const char *path, cmif_source *out, cmif_err *err);
void                    cmif_source_free(cmif_source *source); /* {0} again */

/* Walk over lines: {.source = s}, then next() until it is false. A final line feed, and a carriage return before one, is no part of a line. */
typedef struct cmif_lines {
    const cmif_source *source;
    size_t             at, number; /* number of the line, from 1 */
    cmif_str           line;
} cmif_lines;
bool cmif_lines_next(cmif_lines *lines);

typedef struct cmif_frequency { cmif_str word; uint32_t centibels; /* the word's share of all text is 10^(-centibels / 100) */ } cmif_frequency;

/* wordfreq's "cB" lists, most frequent first. list: free(); its words lie in source.
 * Errors: FORMAT (not such a list: the offset), MEMORY. */
CMIF_MUST_USE cmif_code cmif_frequencies_parse(const cmif_source *source, cmif_frequency **list, size_t *count, cmif_err *err);

/* 10^(-centibels / 100) by multiplications only, so that it is the same everywhere. */
double cmif_centibels(uint32_t centibels);

#endif
