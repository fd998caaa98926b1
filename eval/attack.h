/* attack - what somebody who has the public table, and reads what was released, finds out about what was written.
 *
 * The attacker knows everything but the originals and the noise: table, prior, language model, embedding rows. An attack names
 * one word for each word that was drawn; it recovered the word if that is the one that was written. Words that pass are known to
 * anybody and are never counted; words that are not in the table ("something") are told apart, because no attack of these can name them.
 *
 * Sees    originals. Part of the evaluation only; nothing here is linked into cmif.
 * Source  research note on privacy, sections 3.1 and 5; Tong et al. 2025 (Bayes), Chen et al. 2023 (query attack), Rabiner 1989
 *         (forward-backward), Ding et al. 2018 and Jagielski et al. 2020 (lower bounds of epsilon). docs/evaluation.md. */
#ifndef CMIF_EVAL_ATTACK_H
#define CMIF_EVAL_ATTACK_H

#include "side.h"

#include "dp/release.h"
#include "embed/lm.h"
#include "sanitizer/sanitizer.h"
#include "table/table.h"

/* ---- the table, as an attacker reads it ---- */
typedef struct cmif_attack cmif_attack;

/* table must outlive it. Errors: MEMORY, IO (no random bytes). */
CMIF_MUST_USE cmif_code cmif_attack_new(const cmif_table *table, cmif_attack **out, cmif_err *err);
void                    cmif_attack_free(cmif_attack *attack); /* NULL is welcome */

/* Is the word drawn? Not word 0, and it does not pass. Only such words count. */
bool cmif_attack_counts(const cmif_attack *attack, uint32_t word);
/* Can it leave in some word's place? */
bool cmif_attack_leaves(const cmif_attack *attack, uint32_t word);

/* What draws: the shipped cmif_dp_draw with a cmif_noise, or a test's. */
typedef struct cmif_sampler {
    cmif_code (*draw)(void *context, const uint32_t *words, size_t count, uint32_t *outputs, cmif_err *err);
    void *context;
} cmif_sampler;

typedef struct cmif_noise_and_table {
    const cmif_table  *table;
    struct cmif_noise *noise;
} cmif_noise_and_table;
cmif_sampler cmif_attack_shipped(cmif_noise_and_table *of); /* cmif_dp_draw; of is borrowed */

/* ---- texts ---- */
typedef enum cmif_attack_kind {
    CMIF_ATTACK_DRAWN = 0, /* through the table */
    CMIF_ATTACK_CLEAR,     /* as it was */
    CMIF_ATTACK_HIDDEN     /* not in the table, or made up: no attack on words names it */
} cmif_attack_kind;

typedef struct cmif_attack_word {
    uint32_t original, released; /* ids of the table; 0: none of its words */
    uint8_t  kind;
    bool     begins;             /* the first of a sentence */
} cmif_attack_word;

typedef struct cmif_attack_texts { /* {0} is none */
    cmif_attack_word *words;
    size_t            count, capacity;
} cmif_attack_texts;

/* Add one text as it was written and as it was released.
 *   spans  what a policy did (cmif_conversation_take); NULL: all of it went through the channel
 * Errors: MEMORY, RANGE (the two have other numbers of words: not that text, or another table), IO. */
CMIF_MUST_USE cmif_code cmif_attack_add(const cmif_attack *attack, cmif_attack_texts *texts, const void *text, size_t size,
                                        const cmif_released *released, const cmif_released_span *spans, size_t span_count,
                                        cmif_err *err);
/* Add a sentence of ids, for tests: kinds follow from the table. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_attack_add_ids(const cmif_attack *attack, cmif_attack_texts *texts, const uint32_t *original,
                                            const uint32_t *released, size_t count, cmif_err *err);
void cmif_attack_texts_wipe(cmif_attack_texts *texts);

typedef struct cmif_attack_score {
    uint64_t drawn, drawn_hits;     /* words that were drawn, and those of them that were named */
    uint64_t changed, changed_hits; /* of these, words that left as another */
} cmif_attack_score;

/* guess  (texts->count) ids, CMIF_NO_WORD: none; only those of drawn words are looked at */
cmif_attack_score cmif_attack_judge(const cmif_attack_texts *texts, const uint32_t *guess);

/* ---- Bayes, without context ---- */

/* pi of every word, for the attacks below: uniform, the table's prior, or 0.8 of the language model's unigrams and 0.2 of the prior.
 * prior  (word_count) the caller's */
void cmif_attack_prior_uniform(const cmif_attack *attack, double *prior);
void cmif_attack_prior_table(const cmif_attack *attack, double *prior);
void cmif_attack_prior_lm(const cmif_attack *attack, const cmif_lm *lm, double *prior);

/* sum over y of max over x of pi(x) P(y|x), over the words that count, pi scaled to sum to 1 over them. 0 where no word counts.
 * best  (word_count) the x that attains the maximum for each output y, lowest id first; CMIF_NO_WORD: no word that counts gives y */
double cmif_attack_bayes(const cmif_attack *attack, const double *prior, uint32_t *best);
/* The same by drawing: x from the prior, y from the sampler, best[y]. Errors: as the sampler's; MEMORY. */
CMIF_MUST_USE cmif_code cmif_attack_simulate(const cmif_attack *attack, const double *prior, const uint32_t *best,
                                             cmif_sampler sampler, uint64_t count, uint64_t seed, uint64_t *hits, cmif_err *err);

/* ---- Bayes in context: forward-backward over each sentence ---- */

enum { CMIF_ATTACK_CANDIDATES = 1024 }; /* of a released word; of more, the likeliest without context */

/* guess  (texts->count) the most probable word of each, given the whole released sentence. posterior: (texts->count), its probability; may be NULL
 * Errors: FORMAT (lm is of another lexicon), MEMORY. */
CMIF_MUST_USE cmif_code cmif_attack_hmm(const cmif_attack *attack, const cmif_lm *lm, const cmif_attack_texts *texts,
                                        uint32_t *guess, double *posterior, cmif_err *err);

/* ---- repetition, queries ---- */

/* One word seen several times with fresh noise: likelihoods multiply.
 *   words     (count) words that count, as often as an attacker meets them
 *   releases  (steps) ascending numbers of draws
 *   hits      (steps) of the count words, named after so many draws */
CMIF_MUST_USE cmif_code cmif_attack_repeat(const cmif_attack *attack, const double *prior, const uint32_t *words, size_t count,
                                           const uint32_t *releases, size_t steps, cmif_sampler sampler, uint64_t *hits,
                                           cmif_err *err);

/* Queries until the posterior of `word` (all words that can give its outputs alike likely before) reaches `confidence`.
 * Closed form: the least N for which sum over x' of exp(-N D(x')) <= (1 - confidence) / confidence. D is KL(P_word || P_x') where x' can give
 * every output of the word; outputs that it lacks rule it out. INFINITY: another word has the same row, so never. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_attack_query(const cmif_attack *attack, uint32_t word, double confidence, double *queries, cmif_err *err);
/* The same by drawing, at most `most` times: queries is most + 1 where that was not enough. */
CMIF_MUST_USE cmif_code cmif_attack_query_simulate(const cmif_attack *attack, uint32_t word, double confidence, uint64_t most,
                                                   cmif_sampler sampler, uint64_t *queries, cmif_err *err);

/* ---- nearest rows ---- */

enum { CMIF_ATTACK_NEAR = 3, CMIF_ATTACK_ROWS = 1024 };
extern const uint32_t cmif_attack_near[CMIF_ATTACK_NEAR]; /* 1, 5, 10 */

/* Is the word among the k whose rows have the largest cosine with the row that was sent? As many words of the texts are looked at, from
 * the first on, as have CMIF_ATTACK_ROWS different releases.
 *   rows  (word_count, width) of the words: cmif_bayes_row of cmif_attack_itself()
 *   sent  (word_count, width) of the released ones; rows itself: plain rows */
CMIF_MUST_USE cmif_code cmif_attack_nearest(const cmif_attack *attack, const float *rows, const float *sent, size_t width,
                                            const cmif_attack_texts *texts, cmif_attack_score out[CMIF_ATTACK_NEAR], cmif_err *err);
/* A table with the same words, of which each passes. Lives as long as the attack. */
const cmif_table *cmif_attack_itself(const cmif_attack *attack);

/* ---- a lower bound of epsilon ---- */
typedef struct cmif_attack_bound {
    double   epsilon;     /* at least this with the confidence asked for, over all pairs; -INFINITY: nothing can be said */
    uint32_t word, other; /* the pair that it was found for */
    uint32_t pairs;
} cmif_attack_bound;

/* Half of the draws choose a set of outputs for each pair, the other half bounds the ratio of its probabilities (Clopper and
 * Pearson, Bonferroni over pairs and directions). The two words of a pair are drawn in one call, a call for each pair of draws, as a person's requests are.
 *   first  a pair to try before random ones (that of the certificate), or two CMIF_NO_WORD
 *   any    pairs may be of different blocks */
CMIF_MUST_USE cmif_code cmif_attack_epsilon(const cmif_attack *attack, cmif_sampler sampler, const uint32_t first[static 2], bool any,
                                            uint32_t pairs, uint64_t draws, double confidence, uint64_t seed,
                                            cmif_attack_bound *out, cmif_err *err);

/* ---- entities ---- */
typedef struct cmif_attack_entity {
    uint32_t from, size; /* bytes of the text */
} cmif_attack_entity;

/* What names somebody or something in a text, of 3 bytes and more. Where people marked it, [[class|words]]: the marks are taken out of the text. Else by a rule
 * of its own, which knows nothing of the sanitizer's: runs of words with a digit or '@', or with a capital that does not begin a sentence.
 *   size  of text; smaller where there were marks
 *   out   (*count) owned by the caller
 * Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_attack_entities(char *text, size_t *size, cmif_attack_entity **out, size_t *count, cmif_err *err);

typedef struct cmif_attack_found {
    uint64_t entities, whole, part; /* those that stand in the release as they were; those of which a word of 4 letters or digits does */
    uint64_t surrogates, mapped;    /* made-up names and numbers by occurrence, and those that frequency maps back */
    double   chance;                /* of these: what one gets who maps at random */
} cmif_attack_found;

/* Which entities stand in what was released, upper or lower case? Adds to out. */
void cmif_attack_verbatim(cmif_attack_found *out, const char *text, const cmif_attack_entity *entities, size_t count,
                          const char *released, size_t released_size);

/* Surrogates of one conversation. The attacker is told more than anybody is: every original, and how often each is written; of each
 * class the i-th most frequent surrogate is taken for the i-th most frequent original. */
typedef struct cmif_attack_book cmif_attack_book;
CMIF_MUST_USE cmif_code cmif_attack_book_new(cmif_attack_book **out, cmif_err *err);
void                    cmif_attack_book_free(cmif_attack_book *book); /* NULL is welcome; wiped */
CMIF_MUST_USE cmif_code cmif_attack_book_add(cmif_attack_book *book, uint8_t class, const char *original, size_t size,
                                             const char *surrogate, size_t surrogate_size, cmif_err *err);
void                    cmif_attack_book_map(cmif_attack_book *book, cmif_attack_found *out); /* adds to out, and forgets */

#endif
