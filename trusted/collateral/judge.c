#include "collateral/judge.h"

#include "collateral/store.h"

#include <stdio.h>
#include <string.h>

typedef struct judging {
    cmif_sorted       *sorted;
    cmif_verdict      *verdict;
    cmif_attest_policy policy;
    int64_t            time;
    cmif_store        *store;
    char               tcb[32], qe[8], chip[17]; /* what the store calls the collateral of this platform; empty: none */
    bool               leaf_here;
    cmif_code          rc;
    cmif_err          *err;
} judging;

static void add_word(char *list, size_t size, size_t room, size_t *count, const char *word)
{
    for (size_t i = 0; i < *count; i++) {
        if (!strcmp(list + i * size, word)) {
            return;
        }
    }
    if (*count < room) {
        snprintf(list + (*count)++ * size, size, "%s", word);
    }
}

void cmif_judge_reason(cmif_verdict *v, const char *word)
{
    add_word(v->reasons[0], CMIF_REASON_SIZE, CMIF_REASONS_MAX, &v->reason_count, word);
}

static bool has_kind(const cmif_sorted *sorted, cmif_item_kind kind)
{
    for (size_t i = 0; i < sorted->count; i++) {
        if (sorted->items[i].item.kind == kind) {
            return true;
        }
    }
    return false;
}

static void look(judging *j)
{
    cmif_item items[CMIF_SORTED_MAX];
    size_t    count = 0;
    for (size_t i = 0; i < j->sorted->count; i++) {
        if (j->sorted->items[i].item.kind) {
            items[count++] = j->sorted->items[i].item;
        }
    }
    cmif_attest(items, count, &j->policy, j->time, j->verdict);
}

/* ---- what belongs to this platform ---- */

static void name_wanted(judging *j)
{
    const char *type = cmif_verdict_field(j->verdict, "tee_type"), *fmspc = cmif_verdict_field(j->verdict, "pck_fmspc");
    const char *chip = cmif_verdict_field(j->verdict, "chip_id");
    const bool  td   = type && !strcmp(type, "0x81");
    snprintf(j->tcb, sizeof j->tcb, type && fmspc ? "%s %.12s" : "", td ? "TDX" : "SGX", fmspc ? fmspc : "");
    snprintf(j->qe, sizeof j->qe, type ? "%s" : "", td ? "TD_QE" : "QE");
    snprintf(j->chip, sizeof j->chip, "%.16s", chip ? chip : "");
}

/* Is a to be judged by rather than b? What is of a later time says nothing now; then the newest. */
static bool newer(const judging *j, const cmif_kept *a, const cmif_kept *b)
{
    const int64_t until = j->time + j->policy.tolerance;
    if ((a->starts <= until) != (b->starts <= until)) {
        return a->starts <= until;
    }
    return a->number != b->number ? a->number > b->number : a->starts > b->starts;
}

/* Of several pieces of one kind only the newest for this platform is given to the verifier, which would not choose.
 * Whoever brings the evidence brings collateral that he likes: older is still validly signed, and must not stand for
 * the newer that is here. */
static void leave_others(judging *j, cmif_item_kind kind, const char *want)
{
    bool      fits[CMIF_SORTED_MAX] = {false};
    size_t    count = 0, fit = 0, best = 0;
    cmif_kept best_kept = {0};
    for (size_t i = 0; i < j->sorted->count; i++) {
        const cmif_item *item = &j->sorted->items[i].item;
        cmif_kept        kept;
        if (item->kind == kind) {
            fits[i] = cmif_kept_read(item, &kept, NULL) == CMIF_OK && !strcmp(kept.about, want);
            count++;
        }
        if (fits[i] && (fit++ == 0 || newer(j, &kept, &best_kept))) {
            best      = i;
            best_kept = kept;
        }
    }
    for (size_t i = 0; count > 1 && fit && i < j->sorted->count; i++) {
        cmif_sorted_item *one = &j->sorted->items[i];
        if (one->item.kind == kind && i != best) {
            one->item.kind = 0;
            snprintf(one->what, sizeof one->what, "%s",
                     fits[i] ? "collateral that there is newer of" : "collateral for another platform");
        }
    }
}

/* What belongs to this platform, also where the evidence brings its own: the newest counts, and every CRL. */
static bool take_kept(void *context, const cmif_kept *kept, const cmif_item *item)
{
    judging   *j    = context;
    const bool leaf = strstr(kept->about, "VCEK") || strstr(kept->about, "VLEK"),
               ours = j->chip[0] && strstr(kept->about, j->chip);
    const bool take = kept->kind == CMIF_ITEM_TCB_INFO      ? !strcmp(kept->about, j->tcb)
                      : kept->kind == CMIF_ITEM_QE_IDENTITY ? !strcmp(kept->about, j->qe)
                      : kept->kind == CMIF_ITEM_CRL         ? true
                                                    : !leaf || (!j->leaf_here && (ours || strstr(kept->about, "VLEK")));
    if (take) {
        j->rc = cmif_sort_bytes(j->sorted, "(collateral store)", item->data, item->size, j->err);
    }
    return j->rc == CMIF_OK;
}

/* ---- the memory against rollback ---- */

/* Names under which the store remembers what this verdict rests on; empty: nothing of that kind. */
static void name_seen(const cmif_verdict *v, char names[static 3][96])
{
    const char *type = cmif_verdict_field(v, "tee_type"), *fmspc = cmif_verdict_field(v, "pck_fmspc");
    const char *issuer = cmif_verdict_field(v, "crl_issuer");
    const bool  td     = type && !strcmp(type, "0x81");
    issuer             = issuer ? issuer : cmif_verdict_field(v, "pck_issuer_cn");
    snprintf(names[0], 96, type && fmspc ? "tcb %s %.12s" : "", td ? "TDX" : "SGX", fmspc ? fmspc : "");
    snprintf(names[1], 96, type ? "qe %s" : "", td ? "TD_QE" : "QE");
    snprintf(names[2], 96, issuer ? "crl %.47s" : "", issuer ? issuer : "");
}

static cmif_code recall(judging *j, cmif_err *err)
{
    char      names[3][96];
    int64_t   number = 0, none = 0;
    cmif_code rc;
    name_seen(j->verdict, names);
    rc = cmif_store_seen(j->store, names[0], j->time, &number, &j->policy.seen_tcb_issue, err);
    j->policy.seen_tcb_evaluation = (uint32_t) number;
    rc = rc == CMIF_OK ? cmif_store_seen(j->store, names[1], j->time, &number, &j->policy.seen_qe_issue, err) : rc;
    j->policy.seen_qe_evaluation = (uint32_t) number;
    return rc == CMIF_OK ? cmif_store_seen(j->store, names[2], j->time, &none, &j->policy.seen_crl, err) : rc;
}

/* Does it begin with one of the words? NULL ends them. */
static bool begins_with(const char *text, const char *const *words)
{
    while (*words && strncmp(text, *words, strlen(*words)) != 0) {
        words++;
    }
    return *words != NULL;
}

/* Is the collateral itself beyond doubt? Reasons that only speak of the platform, the program or the policy leave it
 * so; whatever is not known here does not, and neither does a revocation that was not checked, loosened or not. */
static bool believed(const cmif_verdict *v)
{
    static const char *const harmless[] = {"technology-not-accepted",
                                           "no-measurement-policy",
                                           "measurement-",
                                           "debug",
                                           "tcb-",
                                           "report-data",
                                           "freshness",
                                           "td-",
                                           "sgx-attributes",
                                           "isv",
                                           "advisory-",
                                           "non-zero-trailing-bytes",
                                           "event-log",
                                           "pcr-",
                                           "ak-",
                                           "AK is not",
                                           "vmpl",
                                           "policy-bits",
                                           "alias-check",
                                           "platform-bits",
                                           "mit-vector",
                                           NULL};
    static const char *const doubtful[] = {"tcb-info", "tcb-signing", "tcb-none", "ak-crl", "ak-revoked", NULL};
    static const char *const unknown[]  = {"revocation-", "tcb", "qe-identity", NULL};
    for (size_t i = 0; i < v->reason_count; i++) {
        if (!begins_with(v->reasons[i], harmless) || begins_with(v->reasons[i], doubtful)) {
            return false;
        }
    }
    for (size_t i = 0; i < v->unchecked_count; i++) {
        if (begins_with(v->unchecked[i], unknown)) {
            return false;
        }
    }
    return (v->tcb_issue || v->crl_this_update) && (v->outcome == CMIF_ACCEPTED || v->outcome == CMIF_REJECTED);
}

/* Nothing is written when there is no news. */
static cmif_code remember(judging *j, const char *path, cmif_err *err)
{
    const cmif_verdict *v          = j->verdict;
    const int64_t       numbers[3] = {v->tcb_evaluation, v->qe_evaluation, 0},
                  issues[3]        = {v->tcb_issue, v->qe_issue, v->crl_this_update};
    char        names[3][96];
    cmif_store *store = NULL;
    cmif_code   rc    = CMIF_OK;
    if (!believed(v)) {
        return CMIF_OK;
    }
    name_seen(v, names);
    for (size_t i = 0; rc == CMIF_OK && i < 3; i++) {
        int64_t number = 0, issue = 0;
        if (!names[i][0] || !issues[i]) {
            continue;
        }
        rc = cmif_store_seen(j->store, names[i], issues[i], &number, &issue, err);
        if (rc == CMIF_OK && (issue < issues[i] || number < numbers[i])) {
            rc = store ? CMIF_OK : cmif_store_open(path, true, &store, err);
            rc = rc == CMIF_OK ? cmif_store_saw(store, names[i], numbers[i], issues[i], err) : rc;
        }
    }
    cmif_store_free(store);
    return rc;
}

cmif_code cmif_judge(cmif_sorted *sorted, const cmif_attest_policy *policy, int64_t time, const char *store,
                     cmif_verdict *verdict, cmif_err *err)
{
    judging    j      = {.sorted = sorted, .verdict = verdict, .policy = *policy, .time = time, .err = err};
    const bool memory = store && !policy->root_count;
    cmif_code  rc     = CMIF_OK;
    cmif_sort_settle(sorted);
    look(&j);
    name_wanted(&j);
    rc = store ? cmif_store_open(store, false, &j.store, err) : CMIF_OK;
    if (rc == CMIF_OK && j.store) {
        j.leaf_here = has_kind(sorted, CMIF_ITEM_CERTIFICATES) || has_kind(sorted, CMIF_ITEM_SNP_TABLE);
        rc          = cmif_store_all(j.store, take_kept, &j, err);
        rc          = rc == CMIF_OK ? j.rc : rc;
        cmif_sort_settle(sorted);
        rc = rc == CMIF_OK && memory ? recall(&j, err) : rc;
    }
    leave_others(&j, CMIF_ITEM_TCB_INFO, j.tcb);
    leave_others(&j, CMIF_ITEM_QE_IDENTITY, j.qe);
    if (rc == CMIF_OK) {
        look(&j);
    }
    if (rc == CMIF_OK && j.store && memory) { /* a certificate or CRL of the store's may have told who its maker is */
        const cmif_attest_policy used = j.policy;
        rc                            = recall(&j, err);
        if (rc == CMIF_OK &&
            (used.seen_tcb_evaluation != j.policy.seen_tcb_evaluation ||
             used.seen_qe_evaluation != j.policy.seen_qe_evaluation || used.seen_crl != j.policy.seen_crl ||
             used.seen_tcb_issue != j.policy.seen_tcb_issue || used.seen_qe_issue != j.policy.seen_qe_issue)) {
            look(&j);
        }
    }
    rc = rc == CMIF_OK && memory ? remember(&j, store, err) : rc;
    if (rc == CMIF_OK && !memory) {
        add_word(verdict->unchecked[0], CMIF_REASON_SIZE, CMIF_REASONS_MAX, &verdict->unchecked_count,
                 "collateral-rollback");
    }
    if (rc == CMIF_OK && !store) {
        add_word(verdict->loosened[0], CMIF_LOOSENED_SIZE, CMIF_LOOSENED_MAX, &verdict->loosened_count, "no-store");
    }
    cmif_store_free(j.store);
    return rc;
}
