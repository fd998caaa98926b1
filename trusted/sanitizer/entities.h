/* entities - what each piece of a text is: typed entities, words of sensitive topics, other words, function words.
 *
 * Patterns with checksums, public lists, and rules of context ("Dr", "Inc", "born in", a capital inside a sentence). Default-deny: what
 * looks like a name or a code and is not known to be an ordinary word is an entity.
 *
 * Sees    plaintext.
 * Source  ISO 7812 (Luhn), ISO 13616 (IBAN, mod 97), ITU E.164, RFC 5322/3986 in their everyday forms; docs/sanitizer.md. */
#ifndef CMIF_SANITIZER_ENTITIES_H
#define CMIF_SANITIZER_ENTITIES_H

#include "side.h"

#include "sanitizer/lists.h"
#include "sanitizer/scan.h"

typedef enum cmif_span_class {
    CMIF_SPAN_OTHER = 0, /* punctuation and white space */
    CMIF_SPAN_STOP,      /* function words and negations */
    CMIF_SPAN_WORD,      /* an ordinary word of the public vocabulary */
    CMIF_SPAN_TOPIC,     /* one of a sensitive topic */
    CMIF_SPAN_COUNT_NUMBER, /* a small number in plain counting context */
    CMIF_SPAN_EMAIL, CMIF_SPAN_URL, CMIF_SPAN_HOST, CMIF_SPAN_IP, CMIF_SPAN_PHONE, CMIF_SPAN_CARD, CMIF_SPAN_IBAN,
    CMIF_SPAN_ACCOUNT, CMIF_SPAN_ID, CMIF_SPAN_SECRET, CMIF_SPAN_CRYPTO, CMIF_SPAN_GPS, CMIF_SPAN_DATE, CMIF_SPAN_TIME,
    CMIF_SPAN_MONEY, CMIF_SPAN_NUMBER, CMIF_SPAN_PERCENT, CMIF_SPAN_ADDRESS, CMIF_SPAN_POSTCODE,
    CMIF_SPAN_PERSON, CMIF_SPAN_PLACE, CMIF_SPAN_ORGANISATION,
    CMIF_SPAN_UNKNOWN,   /* a word outside the public vocabulary, or a broken character */
    CMIF_SPAN_CLASSES
} cmif_span_class;

const char *cmif_span_class_name(cmif_span_class class); /* "email"; stable words for policies, receipts and --json */
bool        cmif_span_class_find(const char *name, cmif_span_class *out);

typedef enum cmif_person_part { CMIF_PART_FULL = 0, CMIF_PART_GIVEN, CMIF_PART_FAMILY, CMIF_PART_TITLE } cmif_person_part;

typedef struct cmif_span {
    uint32_t from, size;   /* bytes of the text; spans are in order, do not overlap, and cover the text whole */
    uint32_t first, count; /* its tokens */
    uint8_t  class;
    uint8_t  part;         /* PERSON: which part of a name (cmif_person_part) this span is */
    uint16_t topics;       /* TOPIC: bits of the lexicon's topics */
    uint32_t link;         /* PERSON: the first span about the same person ("Maria Lopez" ... "Ms Lopez"); others: itself */
} cmif_span;

typedef struct cmif_spans {
    cmif_secret room;
    cmif_span  *at;
    size_t      count;
} cmif_spans;

/* Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_find_entities(const cmif_scan *scan, const cmif_lists *lists, cmif_spans *out, cmif_err *err);
void                    cmif_spans_wipe(cmif_spans *spans);

#endif
