/* patterns - what is told by its form: e-mail, card, IBAN, phone, date, money, ...; for entities.c.
 *
 * A pattern is matched against a window: the folded text of the next few tokens. It only counts where a token ends, so nothing is cut.
 *
 * Sees    plaintext.
 * Source  ISO 7812 (Luhn), ISO 13616 (IBAN), E.164, RFC 4291, RFC 5322 in their everyday forms; docs/sanitizer.md. */
#ifndef CMIF_SANITIZER_PATTERNS_H
#define CMIF_SANITIZER_PATTERNS_H

#include "side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CMIF_WINDOW_SIZE = 160 };
static const uint32_t CMIF_FORM_WORD = 1u << 31;

typedef struct cmif_window {           /* of one line; zeros behind its end */
    char    text[CMIF_WINDOW_SIZE + 1]; /* folded */
    char    raw[CMIF_WINDOW_SIZE + 1];  /* the same with the case as written, where that has as many bytes */
    uint8_t tokens[CMIF_WINDOW_SIZE + 1]; /* tokens that end at or before this byte; 0: inside a token */
    size_t  size;
    uint32_t begins; /* with a word of letters only: CMIF_FORM_WORD and its keys (keys.h); with anything else: all bits */
} cmif_window;

/* The class (cmif_span_class) of what the window begins with, and its bytes; 0: of no known form.
 *   hint  the class that a word before announces ("phone", "account", ...), or 0 */
int cmif_pattern_match(const cmif_window *window, int hint, size_t *size);

/* Bytes of a secret that the text begins with, of a known prefix or by its mixture of characters; 0: it does not look like one.
 * raw [size] is written without white space. */
size_t cmif_pattern_secret(const char *raw, size_t size);

bool cmif_pattern_luhn(const char *digits, size_t count);

#endif
