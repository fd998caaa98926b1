/* table - a channel as a finite table: for each word that a person may write, integer weights over the words that may
 * leave in its place. The file is `.cmifch`; docs/channel.md has it byte by byte.
 *
 * Words   id 0 is the empty word, which stands for every word that is not in the table; the others follow in ascending
 *         byte order, so a vocabulary has one order only. They are lower case, NFC, without white space.
 * Rows    word -> row -> block. Words of one row are released alike; rows of one block share their outputs. Word weights
 *         of a row are >= 1 and sum to exactly 2^32, or 2^63 where that is too coarse. A block of one word whose only output
 *         is that word passes it as it is.
 * Claims  What the file says of itself (mechanism, nominal epsilon, adjacency) is certified by exact integer arithmetic
 *         whenever a table is opened: a table that loses more than it claims is never opened.
 *
 * Nothing in a table is secret: it is made from public data. Both builder and gateway read it.
 * Source  design.md section 4; Canonne, Kamath, Steinke 2020 for why weights are integers. */
#ifndef CMIF_TABLE_TABLE_H
#define CMIF_TABLE_TABLE_H

#include "base/err.h"
#include "gguf/gguf.h" /* cmif_str */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_mechanism {
    CMIF_MECHANISM_RNM = 1, CMIF_MECHANISM_SUBSET, CMIF_MECHANISM_KRR, CMIF_MECHANISM_GENERAL, CMIF_MECHANISM_METRIC,
    CMIF_MECHANISM_FULL, CMIF_MECHANISM_PAPER, CMIF_MECHANISM_CUSTEXT, CMIF_MECHANISM_CUSTEXT_PLUS,
    CMIF_MECHANISM_SANTEXT, CMIF_MECHANISM_SANTEXT_PLUS
} cmif_mechanism;

typedef enum cmif_noise_kind { CMIF_NOISE_NONE = 0, CMIF_NOISE_LAPLACE, CMIF_NOISE_EXPONENTIAL, CMIF_NOISE_GUMBEL } cmif_noise_kind;

typedef enum cmif_adjacency { /* between which words the claimed epsilon holds */
    CMIF_ADJACENT_NONE = 0,   /* none is claimed: a baseline, refused unless it is asked for by name */
    CMIF_ADJACENT_BLOCK,      /* any two words of one block; the block itself is revealed */
    CMIF_ADJACENT_ANY         /* any two words of the table */
} cmif_adjacency;

const char *cmif_mechanism_name(cmif_mechanism mechanism); /* "custext+"; NULL: no such mechanism */
const char *cmif_noise_name(cmif_noise_kind noise);        /* "laplace"; NULL: no such noise */
/* "any two words of one block": the sentence that the guarantee is about. */
const char *cmif_adjacency_sentence(cmif_adjacency adjacency);

typedef struct cmif_table_claim {
    cmif_mechanism  mechanism;
    cmif_noise_kind noise;
    cmif_adjacency  adjacency;
    bool            calibrated;   /* scaled to the table's exact loss, not to 2 Delta / epsilon */
    uint32_t        k;            /* block size that was asked for; 0 only where it means nothing: metric, full, santext(+) */
    uint64_t        epsilon_num, epsilon_den; /* nominal epsilon, in lowest terms; den in [1, 10^6], epsilon <= 32 */
    uint8_t         lexicon_hash[32], vectors_hash[32], recipe_hash[32]; /* SHA-256 of what it was made from */
} cmif_table_claim;

enum {
    CMIF_TABLE_WORDS_MAX = 1 << 20, CMIF_TABLE_WORD_SIZE_MAX = 64, CMIF_TABLE_OUTPUTS_MAX = 1 << 16, /* of a block */
    CMIF_TABLE_SIZE_MAX = 1 << 30    /* bytes of a file */
};
#define CMIF_NO_WORD UINT32_MAX

/* ---- reading ---- */
typedef struct cmif_table {          /* read freely; all arrays are checked, and are a private copy: nobody can change them later */
    cmif_table_claim claim;
    uint32_t         weight_bits;    /* 32 or 63 */
    uint32_t         word_count, row_count, block_count, output_total;
    uint32_t         stride;         /* thresholds of a row: the largest block's outputs, minus 1 */
    const uint32_t  *word_at;        /* [word_count + 1] into text */
    const char      *text;
    const uint32_t  *prior;          /* [word_count] public counts, each >= 1 */
    const uint32_t  *row_of;         /* [word_count] row of a word; NULL: a row for each word, in order */
    const uint32_t  *block_of;       /* [row_count] block of a row */
    const uint32_t  *block_at;       /* [block_count + 1] into outputs */
    const uint32_t  *outputs;        /* [output_total] word ids, ascending within a block */
    /* [row_count][stride], u32 or u64: threshold j is weight(0) + ... + weight(j) - 1, and 2^weight_bits - 1 after a row's last
     * but one; the output of a uniform u is the number of thresholds below u. */
    const void      *thresholds;
    uint8_t          hash[32];       /* SHA-256 of the file without its last 32 bytes, which hold this */
    /* found when the table was opened: */
    const uint32_t  *first_word;     /* [row_count] lowest word of a row; ascending */
    const uint32_t  *rows_at;        /* [block_count + 1] into rows */
    const uint32_t  *rows;           /* [row_count] rows block by block, ascending within one */
    const uint32_t  *words_in;       /* [block_count] words of a block */
    const uint32_t  *slots;          /* [slot_mask + 1] ids + 1 by hash of the word; 0: empty */
    uint32_t         slot_mask;
    void            *bytes;          /* what the arrays point into; NULL: the caller's */
} cmif_table;

/* Exact worst-case loss over an adjacency. */
typedef struct cmif_certificate {
    bool     pure;           /* false: some output can come from one word of a pair only, so no epsilon holds */
    uint64_t epsilon_micro;  /* certified epsilon in millionths, rounded up; 0 when every pair is alike */
    uint64_t high, low;      /* the two weights of the worst ratio; 1 and 1: every pair is alike; not pure: low is 0 */
    /* The pair and the output that attain it, the first by these three ids; CMIF_NO_WORD: every pair is alike. Not pure: the first
     * word whose outputs are not those of word 0, and word 0; high is word 0 if it has an output that the other lacks. */
    uint32_t word_high, word_low, output;
    uint64_t delta_num;      /* not pure: mass of word_high on outputs that word_low never has, of 2^weight_bits */
    uint32_t alone;          /* words that are adjacent to no other: released as themselves or as a name for themselves */
} cmif_certificate;

/* Open the file at path: check every byte of the layout, then certify the claim. A table with noise for a word that is alone in its
 * block (per-word neighbours) and a claim about blocks is refused too: the claim would be true of nothing.
 *   out  owned by the caller (cmif_table_free); untouched on failure
 *   certificate  may be NULL; filled also when the verdict is TRUST
 * Errors: IO, MEMORY, FORMAT (a rule of the layout is broken: which row, expected and found), TRUST (the table loses more than
 * it claims: both figures, and the words' ids). */
CMIF_MUST_USE cmif_code cmif_table_open(const char *path, cmif_table **out, cmif_certificate *certificate, cmif_err *err);
/* The same over bytes that the caller keeps alive, aligned to 64. */
CMIF_MUST_USE cmif_code cmif_table_open_memory(const void *bytes, size_t size, cmif_table **out,
                                               cmif_certificate *certificate, cmif_err *err);
void                    cmif_table_free(cmif_table *table); /* NULL is welcome */

cmif_str cmif_table_word(const cmif_table *table, uint32_t word);
/* Id of a word, or CMIF_NO_WORD. Not for secrets: it searches. */
uint32_t cmif_table_find(const cmif_table *table, cmif_str word);
static inline uint32_t cmif_table_row(const cmif_table *t, uint32_t word) { return t->row_of ? t->row_of[word] : word; }
static inline uint32_t cmif_table_block(const cmif_table *t, uint32_t word) { return t->block_of[cmif_table_row(t, word)]; }
/* Weight of the j-th output of the row's block. */
uint64_t cmif_table_weight(const cmif_table *table, uint32_t row, uint32_t j);
/* A block of one word whose only output is that word. */
bool     cmif_table_passes(const cmif_table *table, uint32_t word);

/* ---- certifying (certify.c): integers and rationals only on the path to the verdict ---- */
/* The exact loss over an adjacency, whatever the table claims. */
void cmif_table_certify(const cmif_table *table, cmif_adjacency adjacency, cmif_certificate *out);
/* high / low <= e^(num/den), decided with a rational lower bound of e^(num/den): a false "no" is possible only within 2^-60 of
 * equality, a false "yes" never. low >= 1; num/den <= 32. */
bool cmif_loss_within(uint64_t high, uint64_t low, uint64_t num, uint64_t den);
/* The smallest number of millionths for which cmif_loss_within holds; UINT64_MAX above 32. */
uint64_t cmif_loss_micro(uint64_t high, uint64_t low);
/* Upper bound of epsilon at delta after `draws` independent draws from the table, by composing the loss distribution that
 * dominates all pairs of its claimed adjacency (compose.c); never above draws * certified epsilon. For reports, not for verdicts.
 * Errors: RANGE (delta outside (0, 1), draws 0 or above 10^6, a claim of none), MEMORY. */
CMIF_MUST_USE cmif_code cmif_table_compose(const cmif_table *table, uint32_t draws, double delta, double *epsilon,
                                           cmif_err *err);

/* ---- writing ---- */
typedef struct cmif_table_draft {    /* all borrowed */
    cmif_table_claim claim;
    uint32_t         weight_bits;
    uint32_t         word_count, row_count, block_count;
    const cmif_str  *words;          /* [word_count] the empty word first, then ascending */
    const uint32_t  *prior;          /* [word_count] */
    const uint32_t  *row_of;         /* [word_count] or NULL */
    const uint32_t  *block_of;       /* [row_count] */
    const uint32_t  *block_at;       /* [block_count + 1] */
    const uint32_t  *outputs;
    const uint64_t  *weights;        /* [row_count][weight_stride]: first the row's weights, then anything */
    uint32_t         weight_stride;
} cmif_table_draft;

/* Lay out, check and certify exactly as cmif_table_open would, then write beside path and rename: what cannot be opened is never
 * written, and nothing is half-written. Same draft, same bytes. Errors: as cmif_table_open. */
CMIF_MUST_USE cmif_code cmif_table_write(const cmif_table_draft *draft, const char *path, cmif_err *err);

#endif
