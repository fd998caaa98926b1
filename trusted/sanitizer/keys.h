/* keys - words that say what is next to them: "Dr", "Inc", "Street", "phone". English, and what is common of German, French, Spanish, Italian,
 * Portuguese, Dutch and Polish. A word may say several things. */
#ifndef CMIF_SANITIZER_KEYS_H
#define CMIF_SANITIZER_KEYS_H

#include "side.h"

#include <stdint.h>

enum { /* cmif_known.bits: what the lists say of a string */
    GIVEN         = 1 << 0,
    GIVEN_COMMON  = 1 << 1,
    FAMILY        = 1 << 2,
    COUNTRY       = 1 << 3,
    PLACE         = 1 << 4,
    ORGANISATION  = 1 << 5,
    PERSON        = 1 << 6,
    BEGINS_PLACE  = 1 << 7,  /* a name goes on behind it, with a space */
    BEGINS_ORG    = 1 << 8,
    BEGINS_PERSON = 1 << 9,
    WORD          = 1 << 10, /* of the public vocabulary, and rather a word than a name */
    STOP          = 1 << 11,
    CAPITAL       = 1 << 12, /* its capital says nothing */
    RARE          = 1 << 13, /* an ordinary word that is seldom used */
    LOUD          = 1 << 14, /* said of where it stands, by entities.c: in a line of capitals */
    HEADING       = 1 << 15, /* the same: in a line that is one */
    FOLLOWS       = 1 << 16, /* the second word of some name */
    TOPIC_SHIFT   = 17,      /* 9 bits of topics */
    NAME          = GIVEN | FAMILY | PERSON,
    BEGINS        = BEGINS_PLACE | BEGINS_ORG | BEGINS_PERSON
};

enum {
    KEY_TITLE        = 1 << 0,  /* before a name, whatever follows */
    KEY_KIN          = 1 << 1,  /* before a name if that has a capital */
    KEY_PARTICLE     = 1 << 2,  /* inside a name */
    KEY_SUFFIX       = 1 << 3,  /* after a company */
    KEY_ORG          = 1 << 4,  /* in the name of an organisation */
    KEY_STREET       = 1 << 5,  /* after the name of a street */
    KEY_STREET_SOFT  = 1 << 6,  /* that, if it has a capital */
    KEY_STREET_FIRST = 1 << 7,  /* before the name of a street */
    KEY_UNIT         = 1 << 8,  /* flat 3 */
    KEY_GEO          = 1 << 9,  /* Oak Valley */
    KEY_GEO_FIRST    = 1 << 10, /* Lake Oak */
    KEY_ROLE         = 1 << 11, /* has a capital without being a name */
    KEY_DETERMINER   = 1 << 12,
    KEY_IN           = 1 << 13, /* before a place */
    KEY_OF           = 1 << 14, /* joins the parts of a name */
    KEY_PHONE        = 1 << 15,
    KEY_ACCOUNT      = 1 << 16,
    KEY_ID           = 1 << 17,
    KEY_SECRET       = 1 << 18,
    KEY_POSTCODE     = 1 << 19,
    KEY_CARD         = 1 << 20,
    KEY_FILLER       = 1 << 21, /* between what announces a number and the number */
    KEY_MEASURE      = 1 << 22, /* a number next to it says more than how many */
    KEY_NAME_IS      = 1 << 23, /* what follows is a name */
    KEY_STATE        = 1 << 24, /* two capitals after a town */
    KEY_DATE         = 1 << 25, /* months, seasons, weekdays */
    KEY_CURRENCY     = 1 << 26,
    KEY_COMPANY      = 1 << 28, /* after a company, and nowhere else */
    KEY_NUMERAL      = 1 << 27, /* twelve */
};

typedef struct cmif_key { uint32_t key; const char *words; /* lower case, one space between */ } cmif_key;

extern const cmif_key cmif_keys[];
/* Some of them for patterns.c; a space before and after each. */
extern const char     cmif_key_months[], cmif_key_seasons[], cmif_key_weekdays[], cmif_key_currencies[];
extern const unsigned cmif_keys_count;

#endif
