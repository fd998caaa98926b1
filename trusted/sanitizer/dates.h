/* dates - a date as people write it, found in a text and written again with other numbers in the same form.
 *
 * 2024-05-03, 2024/5/3, 03.05.2024, 5/3/24, 3 May 2024, 3rd of May, May 3rd, 2024, May 2024, 3. Mai 2024, 3 de mayo de 2024, 3-May-2024.
 * Months in English, German, French, Spanish and Italian.
 *
 * Sees    plaintext. */
#ifndef CMIF_SANITIZER_DATES_H
#define CMIF_SANITIZER_DATES_H

#include "side.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Character number index of a text, 0 behind its end. */
typedef uint32_t (*cmif_date_char)(void *context, size_t index);

typedef enum cmif_date_what { CMIF_DATE_YEAR, CMIF_DATE_MONTH, CMIF_DATE_MONTH_NAME, CMIF_DATE_DAY, CMIF_DATE_ORDINAL } cmif_date_what;

typedef struct cmif_date {
    uint32_t date;  /* yyyymmdd; a part that is absent is 0 */
    uint32_t other; /* the same numbers with day and month changed, where both orders can be meant; or 0 */
    size_t   size;  /* characters */
    size_t   pieces;
    struct cmif_date_piece {
        uint8_t from, size, what; /* characters */
    } piece[4];
    uint8_t language;
    bool    short_month, padded;
} cmif_date;

/* The longest date that begins with character 0; false: there is none. */
bool cmif_date_read(cmif_date_char at, void *context, cmif_date *out);
/* What stands at a piece when the date is another: bytes written to out (at most 16, ASCII or UTF-8). first: the character that it
 * replaces, whose casing a month's name keeps; second: the one after. */
size_t cmif_date_piece_write(const cmif_date *form, size_t piece, uint32_t date, uint32_t first, uint32_t second, uint8_t out[static 16]);

int32_t  cmif_date_days(uint32_t date);       /* days since 1970-01-01 of a whole date */
uint32_t cmif_date_of_days(int32_t days);     /* and back; 0: before year 1 or after 9999 */
bool     cmif_date_is(uint32_t date);         /* whether there is such a day, month or year */

#endif
