/* api - which fields a request of an OpenAI program may have, and what becomes of each: one table, which is also docs/api.md.
 *
 * What is not in the table is refused by name: a field that nobody thought of could carry a person's words past the sanitizer.
 *
 * Sees    nothing: names of fields only.
 * Source  the OpenAI API reference (chat, completions, embeddings); extras of vLLM and llama-server that are numbers. */
#ifndef CMIF_GATEWAY_API_H
#define CMIF_GATEWAY_API_H

#include "side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum cmif_endpoint { CMIF_ENDPOINT_CHAT = 0, CMIF_ENDPOINT_COMPLETIONS, CMIF_ENDPOINT_EMBEDDINGS, CMIF_ENDPOINTS } cmif_endpoint;

typedef enum cmif_field_kind {
    CMIF_FIELD_OBJECT = 0, /* its fields have lines of their own */
    CMIF_FIELD_ARRAY,      /* of what the line "PATH[]" says */
    CMIF_FIELD_TEXT,       /* a person's words: sanitized */
    CMIF_FIELD_JSON,       /* a string that is JSON, or text that may be none: every string in it is sanitized, names too; numbers as text */
    CMIF_FIELD_SCHEMA,     /* a JSON schema: its words are structure, every other string in it is sanitized, names of properties as names */
    CMIF_FIELD_NAME,       /* an identifier that the model uses: sanitized as the words it is made of */
    CMIF_FIELD_ID,         /* ties a tool's result to its call: leaves as call_1, call_2 ... */
    CMIF_FIELD_WORD,       /* one of the words listed, as it is */
    CMIF_FIELD_NUMBER,     /* within its range, as it is */
    CMIF_FIELD_COUNT,      /* a whole number within its range, as it is */
    CMIF_FIELD_FLAG,       /* true or false, as it is */
    CMIF_FIELD_LOCAL,      /* for the gateway, or for nobody: anything, never sent */
    CMIF_FIELD_REFUSED     /* known, and not taken: the line says why */
} cmif_field_kind;

typedef struct cmif_field {
    unsigned        endpoints; /* bits 1 << cmif_endpoint */
    const char     *path;      /* "messages[].content" */
    cmif_field_kind kind;
    double          low, high; /* NUMBER, COUNT; of an ARRAY how many items */
    const char     *about;     /* WORD: the words, with spaces between; REFUSED: what to do; LOCAL: what becomes of it */
    bool            required;
} cmif_field;

extern const cmif_field cmif_fields[];
extern const size_t     cmif_field_count;

/* The line of this path, which is `name` (size) below `parent` (a line's path, "" at the top); NULL: there is none. */
const cmif_field *cmif_field_find(cmif_endpoint endpoint, const char *parent, const char *name, size_t size);
const char       *cmif_endpoint_path(cmif_endpoint endpoint); /* "/v1/chat/completions" */
/* The table for people, as Markdown: docs/api.md has it word by word, and a test compares. */
void              cmif_fields_print(FILE *out);

#endif
