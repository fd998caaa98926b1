/* json - JSON as signed collateral has it: every value by its exact bytes, and nothing that could be read two ways.
 *
 * Refused: a key twice in one object, an escape in a key, bytes outside ASCII, more than 16 levels, text after the value. No recursion; memory
 * grows with what was read, never with what is claimed. A value is a node: a number that the caller keeps and asks about. Nodes lie in text
 * order, an object's members as key, value, key, value.
 *
 * Sees    collateral of others.
 * Source  RFC 8259. */
#ifndef CMIF_ATTEST_JSON_H
#define CMIF_ATTEST_JSON_H

#include "side.h"

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_json_type { CMIF_JSON_OBJECT = 1, CMIF_JSON_ARRAY, CMIF_JSON_STRING, CMIF_JSON_NUMBER, CMIF_JSON_WORD } cmif_json_type;

typedef struct cmif_json_node {
    uint32_t start, size; /* in the text; a string's without its quotes */
    uint32_t next;        /* the node after this value and all that is in it */
    uint16_t type;
    uint16_t escaped;     /* a string that has a backslash: its bytes are not its meaning, and text() refuses it */
} cmif_json_node;

typedef struct cmif_json {
    const uint8_t  *text; /* borrowed */
    cmif_json_node *nodes;
    uint32_t        count;
} cmif_json;

enum { CMIF_JSON_DEPTH = 16, CMIF_JSON_MEMBERS = 64, CMIF_JSON_NODES = 1 << 18 };
#define CMIF_JSON_NONE UINT32_MAX /* not a node: every question about it is answered with no */

/* Node 0 is the whole value. Errors: FORMAT (what was expected at which offset), RANGE, MEMORY. Untouched on failure. */
CMIF_MUST_USE cmif_code cmif_json_parse(const uint8_t *text, size_t size, cmif_json *out, cmif_err *err);
void                    cmif_json_wipe(cmif_json *json);

uint32_t cmif_json_get(const cmif_json *json, uint32_t object, const char *key);
/* for (i = cmif_json_first(j, array); i != CMIF_JSON_NONE; i = cmif_json_after(j, array, i)) */
uint32_t cmif_json_first(const cmif_json *json, uint32_t array);
uint32_t cmif_json_after(const cmif_json *json, uint32_t array, uint32_t element);
bool     cmif_json_text(const cmif_json *json, uint32_t node, const char **text, size_t *size);
bool     cmif_json_is(const cmif_json *json, uint32_t node, const char *text);
bool     cmif_json_uint(const cmif_json *json, uint32_t node, uint64_t most, uint64_t *number); /* digits only: no sign, point or exponent */
bool     cmif_json_hex(const cmif_json *json, uint32_t node, uint8_t *bytes, size_t size);      /* exactly size bytes, either case */
bool     cmif_json_time(const cmif_json *json, uint32_t node, int64_t *seconds);                /* "2025-06-19T10:01:18Z" and no other form */

#endif
