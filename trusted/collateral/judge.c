#include "collateral/judge.h"

#include "collateral/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct judging {
    cmif_sorted       *sorted;
    cmif_verdict      *verdict;
    cmif_attest_policy policy;
    int64_t            time;
    cmif_store        *store;
    char               tcb[32], qe[8], chip[17]; /* what the store calls the collateral of this platform; empty: none */
    bool               leaf_here, pck_here;
    bool   late; /* the store is asked again, for TCB info alone: its PCK certificate has told which platform it is */
    bool   read; /* the evidence could be read, so it has no more certificates than a verifier looks at */
    size_t brought;        /* items before those of the store */
    cmif_kept      own[2]; /* TCB info and QE identity that the store has and that are good; kind 0: none */
    cmif_pool      makers; /* by whom collateral is told from what only says so */
    bool           makers_ready;
    cmif_seen_crl *seen_crls;
    cmif_code      rc;
    cmif_err      *err;
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
    const char *kind = cmif_verdict_field(j->verdict, "cert_data_type");
    snprintf(j->tcb, sizeof j->tcb, "%s%s%.12s",
             !type || !fmspc ? ""
             : td            ? "TDX"
                             : "SGX",
             type && fmspc ? " " : "", type && fmspc ? fmspc : "");
    snprintf(j->qe, sizeof j->qe, "%s", !type ? "" : td ? "TD_QE" : "QE");
    snprintf(j->chip, sizeof j->chip, "%.16s", chip ? chip : "");
    j->pck_here = kind && !strcmp(kind, "5");
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

/* Who has signed it, by every certificate that is here. */
static bool is_genuine(judging *j, const cmif_item *item)
{
    uint8_t issuer[32];
    if (!j->makers_ready) {
        j->rc           = cmif_genuine_pool(&j->makers, &j->policy, j->err);
        j->makers_ready = true;
        for (bool news = j->rc == CMIF_OK; news;) {
            news = false;
            for (size_t i = j->read ? 0 : j->brought; i < j->sorted->count; i++) {
                news = cmif_genuine_add(&j->makers, &j->sorted->items[i].item) || news;
            }
        }
    }
    return cmif_genuine_check(&j->makers, item, issuer) == CMIF_GENUINE_YES;
}

/* Of several pieces of one kind only the newest for this platform is given to the verifier, which would not choose:
 * the newest that its maker has signed, else what says so. Whoever brings the evidence brings collateral that he likes:
 * older is still validly signed, and must not stand for the newer that is here. */
static void leave_others(judging *j, cmif_item_kind kind, const char *want, cmif_kept *own)
{
    bool      fits[CMIF_SORTED_MAX] = {false}, best_genuine = false;
    size_t    count = 0, fit = 0, best = 0;
    cmif_kept kept[CMIF_SORTED_MAX];
    for (size_t i = 0; i < j->sorted->count; i++) {
        const cmif_item *item = &j->sorted->items[i].item;
        if (item->kind == kind) {
            fits[i] = cmif_kept_read(item, &kept[i], NULL) == CMIF_OK && !strcmp(kept[i].about, want);
            count++;
            fit += fits[i];
        }
    }
    for (size_t i = 0, seen = 0; fit && i < j->sorted->count; i++) {
        if (!fits[i]) {
            continue;
        }
        const bool genuine = fit > 1 && is_genuine(j, &j->sorted->items[i].item);
        if (seen++ == 0 || genuine > best_genuine || (genuine == best_genuine && newer(j, &kept[i], &kept[best]))) {
            best         = i;
            best_genuine = genuine;
        }
        if (genuine && i >= j->brought && kept[i].ends >= j->time) {
            *own = kept[i];
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

/* A certificate that was kept until somebody could tell what it is must not stand in the way of one that is good. */
static void leave_strangers(judging *j)
{
    for (size_t i = j->brought; i < j->sorted->count; i++) {
        cmif_sorted_item *one = &j->sorted->items[i];
        if (one->item.kind == CMIF_ITEM_CERTIFICATES && !is_genuine(j, &one->item)) {
            one->item.kind = 0;
            snprintf(one->what, sizeof one->what, "a certificate whose issuer is not here");
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
                      : j->late                             ? false
                      : kept->kind == CMIF_ITEM_QE_IDENTITY ? !strcmp(kept->about, j->qe)
                      : kept->kind == CMIF_ITEM_CRL         ? true
                      : !strcmp(kept->about, "Intel SGX PCK Certificate")
                          ? !j->pck_here /* of some machine; this one's is in its quote */
                          : !leaf || (!j->leaf_here && (ours || strstr(kept->about, "VLEK")));
    if (take) {
        j->rc = cmif_sort_bytes(j->sorted, "(collateral store)", item->data, item->size, j->err);
    }
    return j->rc == CMIF_OK;
}

/* ---- the memory against rollback ---- */

enum { SEEN_TCB, SEEN_QE, SEEN_DOCUMENTS };

/* Names under which the store remembers what this verdict rests on; empty: nothing of that kind. */
static void name_seen(const cmif_verdict *v, char names[static SEEN_DOCUMENTS][96])
{
    const char *type = cmif_verdict_field(v, "tee_type"), *fmspc = cmif_verdict_field(v, "pck_fmspc");
    const bool  td     = type && !strcmp(type, "0x81");
    names[SEEN_TCB][0] = names[SEEN_QE][0] = '\0';
    if (type && fmspc) {
        snprintf(names[SEEN_TCB], 96, "tcb %s %.12s", td ? "TDX" : "SGX", fmspc);
    }
    if (type) {
        snprintf(names[SEEN_QE], 96, "qe %s", td ? "TD_QE" : "QE");
    }
}

/* Is there a memory of those whose roots count here? Under roots of the policy's own other makers have the same names.
 */
static bool remembers(const cmif_attest_policy *policy, cmif_tee tee)
{
    bool own = cmif_root_kinds(policy, tee, 0);
    if (tee == CMIF_TEE_TPM) { /* a TEE may vouch for it */
        own = own || cmif_root_kinds(policy, CMIF_TEE_SNP, 0) || cmif_root_kinds(policy, CMIF_TEE_TDX, 0);
    }
    return !own;
}

static cmif_code recall(judging *j, cmif_err *err)
{
    char      names[SEEN_DOCUMENTS][96];
    int64_t   number = 0;
    cmif_code rc     = CMIF_OK;
    name_seen(j->verdict, names);
    if (!j->seen_crls) {
        rc                  = cmif_store_seen_crls(j->store, j->time, &j->seen_crls, &j->policy.seen_crl_count, err);
        j->policy.seen_crls = j->seen_crls;
    }
    rc = rc == CMIF_OK ? cmif_store_seen(j->store, names[SEEN_TCB], j->time, &number, &j->policy.seen_tcb_issue, err)
                       : rc;
    j->policy.seen_tcb_evaluation = (uint32_t) number;
    rc =
        rc == CMIF_OK ? cmif_store_seen(j->store, names[SEEN_QE], j->time, &number, &j->policy.seen_qe_issue, err) : rc;
    j->policy.seen_qe_evaluation = (uint32_t) number;
    return rc;
}

/* Was the collateral believed? By evidence that was accepted for its measurement, with nothing left unchecked, loosened
 * or not, that the collateral hangs on. Evidence of just anyone does not count, however genuine: whoever has a machine
 * could bring Intel's early set, and have the standard one refused from then on. */
static bool believed(const cmif_verdict *v, const cmif_attest_policy *policy)
{
    static const char *const unknown[] = {"revocation-", "tcb", "qe-identity"};
    for (size_t i = 0; i < v->unchecked_count; i++) {
        for (size_t k = 0; k < sizeof unknown / sizeof *unknown; k++) {
            if (!strncmp(v->unchecked[i], unknown[k], strlen(unknown[k]))) {
                return false;
            }
        }
    }
    return v->outcome == CMIF_ACCEPTED && !policy->loosened.any_measurement;
}

/* Nothing is written when there is no news, and nothing of a later time than now. */
static cmif_code remember_one(judging *j, cmif_store **to, const char *path, const char *name, int64_t number,
                              int64_t issue, cmif_err *err)
{
    int64_t   known = 0, known_issue = 0;
    cmif_code rc = CMIF_OK;
    if (!name[0] || !issue || issue > j->time + j->policy.tolerance) {
        return CMIF_OK;
    }
    rc = cmif_store_seen(j->store, name, issue, &known, &known_issue, err);
    if (rc == CMIF_OK && (known_issue < issue || known < number)) {
        rc = *to ? CMIF_OK : cmif_store_open(path, true, to, err);
        rc = rc == CMIF_OK ? cmif_store_saw(*to, name, number, issue, err) : rc;
    }
    return rc;
}

/* What the store itself has of this platform, and is not over, is what counts as the newest that was believed, also
 * where evidence brings newer: who fills a store chooses between Intel's two sets, and not who brings evidence. */
static cmif_code remember(judging *j, const char *path, cmif_err *err)
{
    const cmif_verdict *v                       = j->verdict;
    int64_t             numbers[SEEN_DOCUMENTS] = {v->tcb_evaluation, v->qe_evaluation},
            issues[SEEN_DOCUMENTS]              = {v->tcb_issue, v->qe_issue};
    char        names[SEEN_DOCUMENTS][96];
    cmif_store *store = NULL;
    cmif_code   rc    = CMIF_OK;
    if (!believed(v, &j->policy)) {
        return CMIF_OK;
    }
    name_seen(v, names);
    for (size_t i = 0; rc == CMIF_OK && i < SEEN_DOCUMENTS; i++) {
        if (j->own[i].kind && issues[i]) {
            numbers[i] = j->own[i].number;
            issues[i]  = j->own[i].starts;
        }
        rc = remember_one(j, &store, path, names[i], numbers[i], issues[i], err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < v->crl_count; i++) {
        char name[96];
        cmif_store_crl_name(v->crls[i].issuer, name);
        rc = remember_one(j, &store, path, name, 0, v->crls[i].update, err);
    }
    cmif_store_free(store);
    return rc;
}

cmif_code cmif_judge(cmif_sorted *sorted, const cmif_attest_policy *policy, int64_t time, const char *store,
                     cmif_verdict *verdict, cmif_err *err)
{
    judging   j  = {.sorted = sorted, .verdict = verdict, .policy = *policy, .time = time, .err = err};
    cmif_code rc = CMIF_OK;
    cmif_sort_settle(sorted);
    look(&j);
    name_wanted(&j);
    j.read            = verdict->outcome != CMIF_MALFORMED;
    const bool memory = store && remembers(policy, verdict->tee);
    rc                = store ? cmif_store_open(store, false, &j.store, err) : CMIF_OK;
    j.brought         = sorted->count;
    if (rc == CMIF_OK && j.store) {
        j.leaf_here = has_kind(sorted, CMIF_ITEM_CERTIFICATES) || has_kind(sorted, CMIF_ITEM_SNP_TABLE);
        rc          = cmif_store_all(j.store, take_kept, &j, err);
        rc          = rc == CMIF_OK ? j.rc : rc;
        cmif_sort_settle(sorted);
        leave_strangers(&j);
        if (rc == CMIF_OK && !j.tcb[0] &&
            cmif_verdict_field(verdict, "tee_type")) { /* its quote names no PCK certificate */
            look(&j);
            name_wanted(&j);
            j.late = true;
            rc     = j.tcb[0] ? cmif_store_all(j.store, take_kept, &j, err) : CMIF_OK;
            rc     = rc == CMIF_OK ? j.rc : rc;
            cmif_sort_settle(sorted);
        }
        rc = rc == CMIF_OK && memory ? recall(&j, err) : rc;
    }
    leave_others(&j, CMIF_ITEM_TCB_INFO, j.tcb, &j.own[SEEN_TCB]);
    leave_others(&j, CMIF_ITEM_QE_IDENTITY, j.qe, &j.own[SEEN_QE]);
    rc = rc == CMIF_OK ? j.rc : rc;
    if (rc == CMIF_OK) {
        look(&j);
    }
    if (rc == CMIF_OK && j.store && memory) { /* a certificate of the store's may have told which platform it is */
        const cmif_attest_policy used = j.policy;
        rc                            = recall(&j, err);
        if (rc == CMIF_OK &&
            (used.seen_tcb_evaluation != j.policy.seen_tcb_evaluation ||
             used.seen_qe_evaluation != j.policy.seen_qe_evaluation || used.seen_tcb_issue != j.policy.seen_tcb_issue ||
             used.seen_qe_issue != j.policy.seen_qe_issue)) {
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
    cmif_pool_wipe(&j.makers);
    free(j.seen_crls);
    return rc;
}
