/* audit_property - what must hold of any bytes that are released through a channel; for release_test and release_fuzz. */
#ifndef CMIF_TESTS_AUDIT_PROPERTY_H
#define CMIF_TESTS_AUDIT_PROPERTY_H

#include "side.h"

#include "dp/release.h"
#include "audit_rig.h"

#include <utf8proc.h>

/* A table of one released word: whatever is written, "x" leaves. */
static inline cmif_table *property_table(void)
{
    static const cmif_str words[] = {{"", 0}, {"x", 1}};
    static const uint32_t one[] = {1, 1}, zero[] = {0, 0}, block_at[] = {0, 1};
    static const uint64_t weights[] = {(uint64_t) 1 << 32};
    return rig_open(&(cmif_table_draft){.claim         = {.mechanism   = CMIF_MECHANISM_GENERAL,
                                                          .adjacency   = CMIF_ADJACENT_ANY,
                                                          .k           = 2,
                                                          .epsilon_den = 1},
                                        .weight_bits   = 32,
                                        .word_count    = 2,
                                        .row_count     = 1,
                                        .block_count   = 1,
                                        .words         = words,
                                        .prior         = one,
                                        .row_of        = zero,
                                        .block_of      = zero,
                                        .block_at      = block_at,
                                        .outputs       = one,
                                        .weights       = weights,
                                        .weight_stride = 1});
}

/* Valid UTF-8 without a letter, mark, number, private or unassigned character, or tag. */
static inline const char *property_of_gap(const uint8_t *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        utf8proc_int32_t code = -1;
        utf8proc_ssize_t used = utf8proc_iterate(text + at, (utf8proc_ssize_t) (size - at), &code);
        if (used <= 0) {
            return "what leaves is no UTF-8";
        }
        const char *category = utf8proc_category_string(code); /* "Lu" */
        bool        variant  = code >= 0xfe00 && code <= 0xfe0f;
        if ((strchr("LMN", category[0]) && !variant) || strcmp(category, "Cn") == 0 || strcmp(category, "Co") == 0) {
            return "a letter, mark or number left undrawn";
        }
        if ((code >= 0xe0000 && code <= 0xe0fff) || (code >= 0x1f1e6 && code <= 0x1f1ff) ||
            (code >= 0x24b6 && code <= 0x24e9)) {
            return "a letter that is called a symbol left undrawn";
        }
        at += (size_t) used;
    }
    return NULL;
}

/* NULL, or what does not hold. The sanitizer is over property_table(). */
static inline const char *property_broken(cmif_sanitizer *sanitizer, const uint8_t *text, size_t size)
{
    cmif_release_counts counts = {0};
    cmif_released      *out    = NULL;
    const char         *broken = NULL;
    if (cmif_dp_release_channel(sanitizer, text, size, &counts, &out, NULL) != CMIF_OK) {
        return "it is not released";
    }
    size_t                    bytes_size, count, at = 0;
    const uint8_t            *bytes = cmif_released_bytes(out, &bytes_size);
    const cmif_released_word *words = cmif_released_words(out, &count);
    for (size_t i = 0; i < count && !broken; i++) {
        if (words[i].from < at || words[i].size != 1 || words[i].from >= bytes_size) {
            broken = "spans do not follow each other";
        } else if ((bytes[words[i].from] | 0x20) != 'x' || words[i].output != 1 || words[i].passed) {
            broken = "a word is not what the table says";
        } else {
            broken = property_of_gap(bytes + at, words[i].from - at);
            at     = words[i].from + 1;
        }
    }
    broken = broken ? broken : property_of_gap(bytes + at, bytes_size - at);
    if (!broken && (counts.passed || counts.drawn + counts.unknown != count)) {
        broken = "the counts are not the words'";
    }
    cmif_released_free(out);
    return broken;
}

#endif
