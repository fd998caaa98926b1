#include "attest/attest.h"

#include "attest/part.h"
#include "attest/policy.h"
#include "attest/x509.h"
#include "base/bytes.h"

#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[CMIF_TCB_STATUSES] = {
    [CMIF_TCB_NONE]                      = "none",
    [CMIF_TCB_UP_TO_DATE]                = "UpToDate",
    [CMIF_TCB_SW_HARDENING]              = "SWHardeningNeeded",
    [CMIF_TCB_CONFIGURATION]             = "ConfigurationNeeded",
    [CMIF_TCB_CONFIGURATION_AND_SW]      = "ConfigurationAndSWHardeningNeeded",
    [CMIF_TCB_OUT_OF_DATE]               = "OutOfDate",
    [CMIF_TCB_OUT_OF_DATE_CONFIGURATION] = "OutOfDateConfigurationNeeded",
    [CMIF_TCB_RELAUNCH]                  = "TDRelaunchAdvised",
    [CMIF_TCB_RELAUNCH_CONFIGURATION]    = "TDRelaunchAdvisedConfigurationNeeded",
    [CMIF_TCB_NOT_SUPPORTED]             = "TcbNotSupported",
    [CMIF_TCB_REVOKED]                   = "Revoked",
};

const char *cmif_tcb_status_name(cmif_tcb_status status)
{
    return (unsigned) status < CMIF_TCB_STATUSES ? status_names[status] : "none";
}

void cmif_attest_policy_init(cmif_attest_policy *policy)
{
    *policy = (cmif_attest_policy){
        .statuses         = 1u << CMIF_TCB_UP_TO_DATE,
        .minimum_tcb_date = INT64_MIN,
        .td_required      = (uint64_t) 1 << 28, /* SEPT_VE_DISABLE */
        .td_forbidden     = (uint64_t) 1 << 29, /* MIGRATABLE */
        .snp_forbidden    = (uint64_t) 1 << 18, /* MIGRATE_MA: the host may bind an agent that reads the guest out */
        .sgx_isvprodid    = -1,
    };
}

/* ---- words into the verdict ---- */

/* Add to a list of words, once; false: it is full. */
static bool list_add(char *list, size_t word_size, size_t room, size_t *count, const char *text, size_t size)
{
    size_t length = size < word_size - 1 ? size : word_size - 1;
    for (size_t i = 0; i < *count; i++) {
        if (strlen(list + i * word_size) == length && !memcmp(list + i * word_size, text, length)) {
            return true;
        }
    }
    if (*count == room) {
        return false;
    }
    memcpy(list + *count * word_size, text, length);
    list[*count * word_size + length] = 0;
    (*count)++;
    return true;
}

void cmif_verdict_outcome(cmif_verdict *verdict, cmif_outcome outcome, cmif_code code, const char *where,
                          const char *format, ...)
{
    static const uint8_t rank[] = {[CMIF_ACCEPTED]        = 0,
                                   [CMIF_ATTEST_INTERNAL] = 4,
                                   [CMIF_REJECTED]        = 1,
                                   [CMIF_UNSUPPORTED]     = 2,
                                   [CMIF_MALFORMED]       = 3};
    if (rank[outcome] > rank[verdict->outcome] || !verdict->sentence.text[0]) {
        char    text[sizeof verdict->sentence.text];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        cmif_err_set(&verdict->sentence, code, where, "%s", text);
    }
    if (rank[outcome] > rank[verdict->outcome]) {
        verdict->outcome = outcome;
    }
}

void cmif_verdict_reason(cmif_verdict *verdict, const char *reason)
{
    if (!list_add(verdict->reasons[0], CMIF_REASON_SIZE, CMIF_REASONS_MAX, &verdict->reason_count, reason,
                  strlen(reason))) {
        cmif_verdict_worse(verdict, CMIF_ATTEST_INTERNAL, CMIF_E_RANGE, "more than %d reasons", CMIF_REASONS_MAX);
    }
}

void cmif_verdict_reasonf(cmif_verdict *verdict, const char *format, ...)
{
    char    text[CMIF_REASON_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cmif_verdict_reason(verdict, text);
}

static void verdict_error(cmif_verdict *verdict, const char *reason, const char *error)
{
    cmif_verdict_reason(verdict, reason);
    list_add(verdict->errors[0], CMIF_REASON_SIZE, CMIF_REASONS_MAX, &verdict->error_count, error, strlen(error));
}

void cmif_verdict_invalid(cmif_verdict *verdict, const char *error)
{
    verdict_error(verdict, "invalid-evidence", error);
}

void cmif_verdict_invalid_collateral(cmif_verdict *verdict, const char *error)
{
    verdict_error(verdict, "invalid-collateral", error);
}

void cmif_verdict_unchecked(cmif_verdict *verdict, const char *what, bool loosened)
{
    if (!list_add(verdict->unchecked[0], CMIF_REASON_SIZE, CMIF_REASONS_MAX, &verdict->unchecked_count, what,
                  strlen(what)) ||
        !loosened) {
        cmif_verdict_reason(verdict, what);
    }
}

void cmif_verdict_advisory(cmif_verdict *verdict, const char *text, size_t size)
{
    if (!list_add(verdict->advisories[0], sizeof verdict->advisories[0], CMIF_ADVISORIES_MAX, &verdict->advisory_count,
                  text, size)) {
        cmif_verdict_reason(verdict, "too-many-advisories");
    }
}

static char *field_new(cmif_verdict *verdict, const char *name)
{
    if (verdict->field_count == CMIF_FIELDS_MAX) {
        cmif_verdict_worse(verdict, CMIF_ATTEST_INTERNAL, CMIF_E_RANGE, "more than %d fields", CMIF_FIELDS_MAX);
        return NULL;
    }
    cmif_attest_field *field = &verdict->fields[verdict->field_count++];
    snprintf(field->name, sizeof field->name, "%s", name);
    return field->value;
}

void cmif_verdict_hex(cmif_verdict *verdict, const char *name, const uint8_t *bytes, size_t size)
{
    char *value = field_new(verdict, name);
    if (value) {
        cmif_hex(bytes, size < (CMIF_FIELD_SIZE - 1) / 2 ? size : (CMIF_FIELD_SIZE - 1) / 2, value);
    }
}

void cmif_verdict_crl(cmif_verdict *verdict, const cmif_seen_crl *used)
{
    size_t i = 0;
    while (i < verdict->crl_count && memcmp(verdict->crls[i].issuer, used->issuer, sizeof used->issuer) != 0) {
        i++;
    }
    if (i == CMIF_CRLS_USED_MAX) {
        cmif_verdict_worse(verdict, CMIF_ATTEST_INTERNAL, CMIF_E_RANGE, "CRLs of more than %d issuers",
                           CMIF_CRLS_USED_MAX);
        return;
    }
    if (i == verdict->crl_count || verdict->crls[i].update < used->update) {
        verdict->crls[i]   = *used;
        verdict->crl_count = i == verdict->crl_count ? i + 1 : verdict->crl_count;
    }
}

void cmif_verdict_number(cmif_verdict *verdict, const char *name, uint64_t number)
{
    cmif_verdict_text(verdict, name, "%llu", (unsigned long long) number);
}

void cmif_verdict_text(cmif_verdict *verdict, const char *name, const char *format, ...)
{
    char *value = field_new(verdict, name);
    if (value) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(value, CMIF_FIELD_SIZE, format, arguments);
        va_end(arguments);
    }
}

const char *cmif_verdict_field(const cmif_verdict *verdict, const char *name)
{
    for (size_t i = 0; i < verdict->field_count; i++) {
        if (!strcmp(verdict->fields[i].name, name)) {
            return verdict->fields[i].value;
        }
    }
    return NULL;
}

/* ---- what the policy says of any technology ---- */

const cmif_item *cmif_call_one(cmif_attest_call *call, cmif_item_kind kind)
{
    const cmif_item *found = NULL;
    for (size_t i = 0; i < call->count; i++) {
        if (call->items[i].kind == kind) {
            if (found) {
                cmif_verdict_worse(call->verdict, CMIF_MALFORMED, CMIF_E_FORMAT,
                                   "items %zu and %zu are of one kind (%d), of which there may be one only",
                                   (size_t) (found - call->items), i, (int) kind);
                cmif_verdict_reason(call->verdict, "item-twice");
                return NULL;
            }
            found = &call->items[i];
        }
    }
    return found;
}

void cmif_call_measured(cmif_attest_call *call, cmif_tee tee)
{
    const cmif_attest_policy *policy = call->policy;
    cmif_verdict             *v      = call->verdict;
    bool                      any    = false;

    if (!(policy->tees & 1u << tee)) {
        cmif_verdict_reason(v, "technology-not-accepted");
    }
    for (size_t i = 0; i < policy->measured_count; i++) {
        const cmif_measured *want = &policy->measured[i];
        if (want->tee != tee) {
            continue;
        }
        any               = true;
        bool        holds = false;
        const char *have  = cmif_verdict_field(v, want->name);
        for (size_t k = 0; k < policy->measured_count; k++) { /* one of those with this name */
            const cmif_measured *other = &policy->measured[k];
            char                 text[2 * sizeof other->value + 1];
            if (have && other->tee == tee && !strcmp(other->name, want->name) && other->size &&
                other->size <= sizeof other->value) {
                cmif_hex(other->value, other->size, text);
                holds = holds || !strcmp(have, text);
            }
        }
        if (!holds) {
            cmif_verdict_reasonf(v, "measurement-%s", want->name);
        }
    }
    if (!any) {
        cmif_verdict_unchecked(v, "no-measurement-policy", policy->loosened.any_measurement);
    }
}

void cmif_call_report_data(cmif_attest_call *call, const uint8_t report_data[static 64])
{
    const cmif_attest_policy *policy   = call->policy;
    uint8_t                   want[64] = {0};
    if (!policy->report_data) {
        cmif_verdict_unchecked(call->verdict, "report-data", policy->loosened.no_report_data);
        return;
    }
    if (policy->report_data_size - 1 < sizeof want) {
        memcpy(want, policy->report_data, policy->report_data_size);
        if (!CRYPTO_memcmp(want, report_data, sizeof want)) {
            return;
        }
    }
    cmif_verdict_reason(call->verdict, "report-data");
}

/* ---- the call ---- */

static bool call_has(const cmif_attest_call *call, cmif_item_kind kind)
{
    bool has = false;
    for (size_t i = 0; i < call->count; i++) {
        has = has || call->items[i].kind == kind;
    }
    return has;
}

/* Roots that this evidence can lead to: what OpenSSL need not decode takes no time. A TPM's key may hang on any. */
static int root_kinds(const cmif_attest_call *call)
{
    return call_has(call, CMIF_ITEM_TPM_ATTEST)                                 ? CMIF_ROOT_PINNED
           : call_has(call, CMIF_ITEM_QUOTE) || call_has(call, CMIF_ITEM_RATLS) ? CMIF_ROOT_INTEL
                                                                                : CMIF_ROOT_PINNED & ~CMIF_ROOT_INTEL;
}

/* Certificates and CRLs of the items into the pool; false: not all could be read. */
static bool call_pool(cmif_attest_call *call)
{
    cmif_verdict *v   = call->verdict;
    cmif_err      err = {0};
    cmif_code     rc  = cmif_pool_init(call->pool, root_kinds(call), call->policy, &err);
    if (rc != CMIF_OK) {
        cmif_err_context(&err, "roots of the policy");
    }
    for (size_t i = 0; rc == CMIF_OK && i < call->count; i++) {
        const cmif_item *item = &call->items[i];
        if (item->kind == CMIF_ITEM_CERTIFICATES) {
            rc = cmif_pool_add_certificates(call->pool, item->data, item->size, &err);
        } else if (item->kind == CMIF_ITEM_CRL) {
            rc = cmif_pool_add_crls(call->pool, item->data, item->size, &err);
        }
        if (rc != CMIF_OK) {
            cmif_err_context(&err, "item %zu", i);
        }
    }
    if (rc == CMIF_E_MEMORY) {
        cmif_verdict_worse(v, CMIF_ATTEST_INTERNAL, rc, "%s", err.text);
    } else if (rc != CMIF_OK) {
        cmif_verdict_worse(v, CMIF_MALFORMED, rc, "%s", err.text);
        cmif_verdict_invalid_collateral(v, "certificates");
    }
    return rc == CMIF_OK;
}

static bool call_items_good(const cmif_attest_call *call)
{
    if (call->count > CMIF_ITEMS_MAX) {
        cmif_verdict_worse(call->verdict, CMIF_MALFORMED, CMIF_E_RANGE, "%zu items, at most %d are looked at",
                           call->count, CMIF_ITEMS_MAX);
        return false;
    }
    for (size_t i = 0; i < call->count; i++) {
        const cmif_item *item = &call->items[i];
        size_t           most = item->kind == CMIF_ITEM_EVENT_LOG ? CMIF_EVENT_LOG_SIZE_MAX : CMIF_ITEM_SIZE_MAX;
        if (!item->data || item->size == 0 || item->size > most) {
            cmif_verdict_worse(call->verdict, CMIF_MALFORMED, CMIF_E_RANGE, "item %zu has %zu bytes, not 1 to %zu", i,
                               item->size, most);
            return false;
        }
    }
    return true;
}

static void call_dispatch(cmif_attest_call *call)
{
    const bool tpm = call_has(call, CMIF_ITEM_TPM_ATTEST), snp = call_has(call, CMIF_ITEM_SNP_REPORT);
    const bool intel = call_has(call, CMIF_ITEM_QUOTE) || call_has(call, CMIF_ITEM_RATLS);
    const bool sim   = call_has(call, CMIF_ITEM_SIM);
    if (tpm && !sim) {
        cmif_tpm_check(call); /* the evidence of a TEE beside it is proof of the AK */
    } else if (tpm + snp + intel + sim > 1) {
        cmif_verdict_worse(call->verdict, CMIF_MALFORMED, CMIF_E_FORMAT,
                           "evidence of more than one technology, and a verdict is about one");
        cmif_verdict_invalid(call->verdict, "items");
    } else if (intel) {
        cmif_dcap_check(call);
    } else if (snp) {
        cmif_snp_check(call);
#ifdef CMIF_SIMULATOR
    } else if (sim) {
        cmif_sim_check(call);
#endif
    } else {
        cmif_verdict_worse(call->verdict, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED,
                           "no evidence of a kind that this verifier knows");
        cmif_verdict_reason(call->verdict, "no-evidence");
    }
    if (call_has(call, CMIF_ITEM_EVENT_LOG)) {
        cmif_event_log_check(call);
    }
}

void cmif_attest(const cmif_item *items, size_t count, const cmif_attest_policy *policy, int64_t time,
                 cmif_verdict *verdict)
{
    cmif_pool        pool = {0};
    cmif_attest_call call = {
        .items = items, .count = count, .policy = policy, .time = time, .verdict = verdict, .pool = &pool};

    memset(verdict, 0, sizeof *verdict);
    verdict->outcome = CMIF_REJECTED;
    verdict->time    = time;
    verdict->loosened_count =
        cmif_attest_policy_loosened(policy, verdict->loosened, sizeof verdict->loosened / sizeof verdict->loosened[0]);
    if (policy->tees == 0) {
        cmif_verdict_reason(verdict, "empty-policy");
    }
    if (policy->tolerance < 0 || policy->tolerance > 86400) {
        cmif_verdict_reason(verdict, "policy-tolerance");
    } else if (!call_items_good(&call)) {
        cmif_verdict_invalid(verdict, "items");
    } else if (call_pool(&call)) {
        call_dispatch(&call);
    }
    cmif_pool_wipe(&pool);

    if (verdict->outcome == CMIF_REJECTED && call.proved && verdict->reason_count == 0) {
        verdict->outcome = CMIF_ACCEPTED;
    } else if (verdict->outcome == CMIF_REJECTED && verdict->reason_count == 0) {
        cmif_verdict_worse(verdict, CMIF_ATTEST_INTERNAL, CMIF_E_TRUST,
                           "the checks did not come to their end, and gave no reason");
    } else if (!verdict->sentence.text[0]) {
        cmif_verdict_worse(verdict, CMIF_REJECTED, CMIF_E_TRUST, "refused: %s%s%s", verdict->reasons[0],
                           verdict->error_count ? ": " : "", verdict->error_count ? verdict->errors[0] : "");
    }
}
