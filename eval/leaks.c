#include "leaks.h"

#include "cmif_terminal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const cmif_leak_names[CMIF_LEAK_KINDS] = {"unigram", "unigram, in domain", "hmm", "hmm, in domain"};

static cmif_code release_text(cmif_guard *guard, const cmif_attack *attack, const char *from, cmif_attack_texts *texts,
                              cmif_err *err)
{
    cmif_secret    text     = {0};
    cmif_released *released = NULL;
    cmif_code      rc       = cmif_secret_append(&text, from, strlen(from), err);
    rc = rc == CMIF_OK ? cmif_guard_release(guard, &text, &released, NULL, err) : rc; /* it wipes what it releases */
    rc = rc == CMIF_OK ? cmif_attack_add(attack, texts, from, strlen(from), released, NULL, 0, err) : rc;
    cmif_released_free(released);
    cmif_secret_wipe(&text);
    return rc;
}

static cmif_code release_all(cmif_guard *guard, const cmif_attack *attack, const cmif_task *task,
                             cmif_attack_texts *texts, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < task->count; i++) {
        if (cmif_interrupted) {
            return cmif_fail(err, CMIF_E_CANCELLED, "stopped");
        }
        rc = release_text(guard, attack, task->examples[i].text, texts, err);
        if (rc == CMIF_OK && task->examples[i].second) {
            rc = release_text(guard, attack, task->examples[i].second, texts, err);
        }
        if (rc != CMIF_OK) {
            cmif_err_context(err, "attacking example %zu", i + 1);
        }
    }
    return rc;
}

/* One attack on one release; adds the share that it names. */
static cmif_code attack_one(const cmif_attack *attack, cmif_leak_kind kind, const cmif_lm *lm,
                            const cmif_attack_texts *texts, double *prior, uint32_t *best, uint32_t *guess,
                            double *named, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (kind >= CMIF_LEAK_HMM_OUT) {
        rc = cmif_attack_hmm(attack, lm, texts, guess, NULL, err);
    } else {
        if (kind == CMIF_LEAK_UNIGRAM) {
            cmif_attack_prior_table(attack, prior);
        } else {
            cmif_attack_prior_lm(attack, lm, prior);
        }
        (void) cmif_attack_bayes(attack, prior, best);
        for (size_t i = 0; i < texts->count; i++) {
            guess[i] = best[texts->words[i].released];
        }
    }
    if (rc == CMIF_OK) {
        cmif_attack_score score = cmif_attack_judge(texts, guess);
        *named += score.drawn ? (double) score.drawn_hits / (double) score.drawn : NAN;
    }
    return rc;
}

/* Is the language model about the words of the table? */
static const cmif_lm *fitting(const cmif_lm *lm, const cmif_table *table)
{
    return lm && !memcmp(lm->lexicon_hash, table->claim.lexicon_hash, sizeof lm->lexicon_hash) ? lm : NULL;
}

static cmif_code attack_release(const cmif_attack *attack, const cmif_table *table, cmif_lm *const lms[2],
                                const cmif_attack_texts *texts, cmif_leak *leak, cmif_err *err)
{
    const cmif_lm *out_of = fitting(lms[0], table), *in = fitting(lms[1], table);
    const cmif_lm *with[CMIF_LEAK_KINDS] = {NULL, in, out_of, in};
    double        *prior                 = malloc(table->word_count * sizeof *prior);
    uint32_t      *best = malloc(table->word_count * sizeof *best), *guess = malloc((texts->count + 1) * sizeof *guess);
    cmif_code      rc = prior && best && guess
                            ? CMIF_OK
                            : cmif_fail(err, CMIF_E_MEMORY, "no memory for the prior of %u words", table->word_count);
    for (int kind = 0; rc == CMIF_OK && kind < CMIF_LEAK_KINDS; kind++) {
        if (kind == CMIF_LEAK_UNIGRAM || with[kind]) {
            rc = attack_one(attack, (cmif_leak_kind) kind, with[kind], texts, prior, best, guess, &leak->named[kind],
                            err);
        } else {
            leak->named[kind] = NAN;
        }
    }
    leak->drawn = 0;
    for (size_t i = 0; i < texts->count; i++) {
        leak->drawn += texts->words[i].kind == CMIF_ATTACK_DRAWN;
    }
    free(prior);
    free(best);
    free(guess);
    return rc;
}

cmif_code cmif_leaks_measure(cmif_leaks *l, cmif_guard *guard, const cmif_task *task, cmif_leak *out, cmif_err *err)
{
    const cmif_table *table  = guard->table;
    cmif_leak         leak   = {0};
    cmif_attack      *attack = NULL;
    for (size_t i = 0; i < l->count; i++) {
        if (!memcmp(l->seen[i].table, table->hash, sizeof table->hash)) {
            *out = l->seen[i].leak;
            return CMIF_OK;
        }
    }
    const uint32_t releases = table->stride ? l->releases : 1; /* nothing is random: every release is the same */
    cmif_code      rc       = cmif_attack_new(table, &attack, err);
    for (uint32_t r = 0; rc == CMIF_OK && r < releases; r++) {
        cmif_attack_texts texts = {0};
        cmif_status("attacking what leaves");
        rc = release_all(guard, attack, task, &texts, err);
        rc = rc == CMIF_OK ? attack_release(attack, table, l->lm, &texts, &leak, err) : rc;
        cmif_attack_texts_wipe(&texts);
    }
    cmif_attack_free(attack);
    for (int kind = 0; kind < CMIF_LEAK_KINDS; kind++) {
        leak.named[kind] /= releases;
    }
    void *seen = rc == CMIF_OK ? realloc(l->seen, (l->count + 1) * sizeof *l->seen) : NULL;
    if (rc == CMIF_OK && !seen) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the attacks on %zu tables", l->count + 1);
    }
    if (rc == CMIF_OK) {
        l->seen = seen;
        memcpy(l->seen[l->count].table, table->hash, sizeof table->hash);
        l->seen[l->count++].leak = *out = leak;
    }
    return rc;
}

void cmif_leaks_wipe(cmif_leaks *l)
{
    cmif_lm_free(l->lm[0]);
    cmif_lm_free(l->lm[1]);
    free(l->seen);
    *l = (cmif_leaks){0};
}
