/* attack_index - what attack*.c share: for each released word, which words can have given it. */
#ifndef CMIF_EVAL_ATTACK_INDEX_H
#define CMIF_EVAL_ATTACK_INDEX_H

#include "attack.h"

typedef struct attack_source { /* a block that gives an output, and which of its outputs that is */
    uint32_t block, index;
} attack_source;

struct cmif_attack {
    const cmif_table *table;
    uint32_t         *member_at, *members; /* words block by block, ascending within one */
    uint32_t         *source_at;           /* [word_count + 1] into sources, by output */
    attack_source    *sources;
    cmif_table        itself;              /* every word passes */
    uint32_t         *ascending;           /* [word_count + 1] 0, 1, 2, ...: what `itself` is made of */
    uint32_t         *ones;                /* [word_count] */
    uint64_t          nothing[8];          /* thresholds of it */
    cmif_sanitizer   *reader;              /* over itself: what it releases are the words that were written */
};

/* Words that can give an output, how likely each gives it, and how likely it is itself: P(y|x) and pi(x). */
typedef struct attack_candidates {
    uint32_t *word;
    double   *gives, *prior;
    size_t    count, capacity;
} attack_candidates;

/* Fill with the candidates of an output, by block and ascending within one; grows. Errors: MEMORY. */
CMIF_MUST_USE cmif_code attack_candidates_of(const cmif_attack *a, uint32_t output, const double *prior, attack_candidates *c,
                                             cmif_err *err);
void                    attack_candidates_wipe(attack_candidates *c);

/* P(output | word); 0 where the word never gives it. */
double attack_gives(const cmif_attack *a, uint32_t word, uint32_t output);

/* Uniform numbers that anybody can repeat: for choosing what to try, never for drawing. */
static inline uint64_t attack_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15); /* splitmix64 (Steele, Lea, Flood 2014) */
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z          = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static inline uint32_t attack_below(uint64_t *state, uint32_t n) { return (uint32_t) ((attack_random(state) >> 32) * n >> 32); }

#endif
