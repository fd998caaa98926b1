#include "session/peer.h"

#include "collateral/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* All reasons that fit, in the words of the verdict; where there is no verdict on it (malformed, unsupported): the
 * sentence. */
static void why(const cmif_verdict *v, char *out, size_t room)
{
    size_t used = 0;
    snprintf(out, room, "%s", v->sentence.text);
    for (size_t i = 0; v->outcome == CMIF_REJECTED && i < v->reason_count && used < room; i++) {
        const bool invalid = !strncmp(v->reasons[i], "invalid-", 8) && v->error_count;
        const int  more    = snprintf(out + used, room - used, "%s%s%s%s", i ? ", " : "", v->reasons[i],
                                  invalid ? ": " : "", invalid ? v->errors[0] : "");
        used += more > 0 ? (size_t) more : 0;
    }
    for (char *c = out; *c; c++) { /* some of it was brought by the other side */
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    }
}

static cmif_code refuse(const cmif_verdict *v, const char *who, cmif_err *err)
{
    char text[sizeof v->sentence.text];
    bool unbound = false;
    for (size_t i = 0; i < v->reason_count; i++) {
        unbound = unbound || !strcmp(v->reasons[i], "report-data");
    }
    why(v, text, sizeof text);
    return cmif_fail(err, CMIF_E_TRUST, "%s's evidence (%s%s) is refused: %s%s", who,
                     v->tee == CMIF_TEE_SIM ? "INSECURE " : "", v->tee ? cmif_tee_word(v->tee) : "none that is known",
                     text, unbound ? "; it was made for another connection" : "");
}

cmif_code cmif_peer_judge(const cmif_peer_rule *rule, const cmif_peer_binding *b, const void *proof, size_t size,
                          cmif_peer_verdict *out, cmif_err *err)
{
    const char        *who    = b->role == 'c' ? "the client" : "the server";
    cmif_attest_policy policy = rule->policy->policy;
    const int64_t      now    = rule->time == INT64_MIN ? (int64_t) time(NULL) : rule->time;
    cmif_sorted       *sorted = NULL;
    cmif_proof         p;
    cmif_evidence_item items[CMIF_EVIDENCE_ITEMS_MAX];
    size_t             count = CMIF_EVIDENCE_ITEMS_MAX;
    uint8_t            report_data[CMIF_REPORT_DATA_SIZE];
    cmif_code          rc = CMIF_OK;

    *out = (cmif_peer_verdict){.verdict = {.outcome = CMIF_MALFORMED, .time = now}};
    if (policy.report_data) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "the policy says what the report data must be, and in a connection that is never the same: "
                         "take its line 'report-data' away");
    }
    rc = cmif_proof_read(proof, size, &p, err);
    if (rc == CMIF_OK) { /* sorting would only say that it is none */
        rc = cmif_evidence_read(p.bundle, p.bundle_size, items, &count, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "%s's evidence cannot be read", who);
        goto done;
    }
    out->claims = p.claims;

    const cmif_binding bound = {.role        = b->role,
                                .nonce       = b->nonce,
                                .exporter    = b->exporter,
                                .own_key     = b->shown_key,
                                .other_key   = b->own_key,
                                .claims      = p.claims_bytes,
                                .claims_size = p.claims_size};
    rc                       = cmif_binding_hash(&bound, report_data, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    policy.report_data             = report_data;
    policy.report_data_size        = sizeof report_data;
    policy.loosened.no_report_data = false; /* here it is known what it must be */

    sorted = calloc(1, sizeof *sorted);
    if (!sorted) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to sort %s's evidence", who);
        goto done;
    }
    /* Whole, so that the bundle's own kinds count, and no guess from the bytes. */
    rc = cmif_sort_bytes(sorted, "(connection)", p.bundle, p.bundle_size, err);
    if (rc == CMIF_OK) {
        rc = cmif_judge(sorted, &policy, now, rule->store, &out->verdict, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "%s's evidence cannot be judged", who);
        goto done;
    }
    out->judged = true;
    if (out->verdict.outcome != CMIF_ACCEPTED) {
        rc = refuse(&out->verdict, who, err);
    }
done:
    if (sorted) {
        cmif_sort_wipe(sorted);
    }
    free(sorted);
    return rc;
}
