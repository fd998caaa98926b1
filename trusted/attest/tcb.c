#include "attest/tcb.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

/* ---- what every signed document has ---- */

static bool malformed(cmif_attest_call *call, const char *what, const char *field)
{
    char error[CMIF_REASON_SIZE];
    snprintf(error, sizeof error, "%s-format", what);
    cmif_verdict_invalid_collateral(call->verdict, error);
    cmif_verdict_worse(call->verdict, CMIF_MALFORMED, CMIF_E_FORMAT, "%s: '%s' is missing or not of its form", what,
                       field);
    return false;
}

bool cmif_tcb_dates(cmif_attest_call *call, const cmif_json *json, uint32_t node, const char *what, cmif_tcb_age seen,
                    cmif_tcb_age *found)
{
    const cmif_attest_policy *policy = call->policy;
    int64_t                   next;
    uint64_t                  number;
    if (!cmif_json_time(json, cmif_json_get(json, node, "issueDate"), &found->issue)) {
        return malformed(call, what, "issueDate");
    }
    if (!cmif_json_time(json, cmif_json_get(json, node, "nextUpdate"), &next)) {
        return malformed(call, what, "nextUpdate");
    }
    if (!cmif_json_uint(json, cmif_json_get(json, node, "tcbEvaluationDataNumber"), UINT32_MAX, &number)) {
        return malformed(call, what, "tcbEvaluationDataNumber");
    }
    found->evaluation = (uint32_t) number;
    if (call->time < found->issue - policy->tolerance) {
        cmif_verdict_reasonf(call->verdict, "%s-not-yet-valid", what);
    }
    if (call->time > next + policy->tolerance) {
        cmif_verdict_reasonf(call->verdict, "%s-expired", what);
    }
    if (found->evaluation < policy->minimum_tcb_evaluation) {
        cmif_verdict_reasonf(call->verdict, "%s-evaluation", what);
    }
    if (found->evaluation < seen.evaluation || found->issue < seen.issue) {
        cmif_verdict_reasonf(call->verdict, "%s-rollback", what);
    }
    return true;
}

/* A status that Intel may write; modules and enclaves know three of them. */
static bool read_status(const cmif_json *json, uint32_t node, bool platform, cmif_tcb_status *status)
{
    static const cmif_tcb_status known[] = {CMIF_TCB_UP_TO_DATE,
                                            CMIF_TCB_OUT_OF_DATE,
                                            CMIF_TCB_REVOKED,
                                            CMIF_TCB_SW_HARDENING,
                                            CMIF_TCB_CONFIGURATION,
                                            CMIF_TCB_CONFIGURATION_AND_SW,
                                            CMIF_TCB_OUT_OF_DATE_CONFIGURATION};
    for (size_t i = 0; i < (platform ? sizeof known / sizeof known[0] : 3); i++) {
        if (cmif_json_is(json, node, cmif_tcb_status_name(known[i]))) {
            *status = known[i];
            return true;
        }
    }
    return false;
}

/* tcbDate, tcbStatus and advisoryIDs of a level. */
typedef struct level_says {
    cmif_tcb_status status;
    int64_t         date;
    uint32_t        advisories;
} level_says;

static bool read_level(cmif_attest_call *call, const cmif_json *json, uint32_t level, const char *what, bool platform,
                       level_says *out)
{
    const char *text;
    size_t      size;
    if (!read_status(json, cmif_json_get(json, level, "tcbStatus"), platform, &out->status)) {
        return malformed(call, what, "tcbStatus");
    }
    if (!cmif_json_time(json, cmif_json_get(json, level, "tcbDate"), &out->date)) {
        return malformed(call, what, "tcbDate");
    }
    out->advisories = cmif_json_get(json, level, "advisoryIDs");
    if (out->advisories != CMIF_JSON_NONE && json->nodes[out->advisories].type != CMIF_JSON_ARRAY) {
        return malformed(call, what, "advisoryIDs");
    }
    for (uint32_t i = cmif_json_first(json, out->advisories); i != CMIF_JSON_NONE;
         i          = cmif_json_after(json, out->advisories, i)) {
        if (!cmif_json_text(json, i, &text, &size) || size == 0 || size >= sizeof call->verdict->advisories[0]) {
            return malformed(call, what, "advisoryIDs");
        }
    }
    return true;
}

static void tell_advisories(cmif_attest_call *call, const cmif_json *json, uint32_t advisories)
{
    const char *text;
    size_t      size;
    for (uint32_t i = cmif_json_first(json, advisories); i != CMIF_JSON_NONE;
         i          = cmif_json_after(json, advisories, i)) {
        if (cmif_json_text(json, i, &text, &size)) {
            cmif_verdict_advisory(call->verdict, text, size);
            for (const char *const *denied = call->policy->denied_advisories; denied && *denied; denied++) {
                if (strlen(*denied) == size && !memcmp(*denied, text, size)) {
                    cmif_verdict_reasonf(call->verdict, "advisory-%s", *denied);
                }
            }
        }
    }
}

/* The minimum date is for the platform, and for a module or enclave that Intel has a newer one of. */
static void check_date(cmif_attest_call *call, const char *reason, int64_t date)
{
    if (date < call->policy->minimum_tcb_date) {
        cmif_verdict_reason(call->verdict, reason);
    }
}

/* Levels of one security version: the highest that isvsvn reaches, and the highest of all. false: malformed. */
typedef struct svn_levels {
    bool       found;
    level_says says;
    uint64_t   highest;
} svn_levels;

static bool read_svn_levels(cmif_attest_call *call, const cmif_json *json, uint32_t owner, const char *what,
                            uint64_t isvsvn, svn_levels *out)
{
    uint32_t levels = cmif_json_get(json, owner, "tcbLevels");
    uint64_t best   = 0;
    *out            = (svn_levels){0};
    if (cmif_json_first(json, levels) == CMIF_JSON_NONE) {
        return malformed(call, what, "tcbLevels");
    }
    for (uint32_t i = cmif_json_first(json, levels); i != CMIF_JSON_NONE; i = cmif_json_after(json, levels, i)) {
        level_says says;
        uint64_t   svn;
        if (!cmif_json_uint(json, cmif_json_get(json, cmif_json_get(json, i, "tcb"), "isvsvn"), 65535, &svn)) {
            return malformed(call, what, "isvsvn");
        }
        if (!read_level(call, json, i, what, false, &says)) {
            return false;
        }
        out->highest = svn > out->highest ? svn : out->highest;
        if (svn <= isvsvn && (!out->found || svn > best)) {
            out->found = true;
            out->says  = says;
            best       = svn;
        }
    }
    return true;
}

/* ---- quoting enclave ---- */

/* bytes & mask == want, each of size bytes as hexadecimal digits in the document. */
static bool masked(cmif_attest_call *call, const cmif_json *json, uint32_t owner, const char *what, const char *name,
                   const uint8_t *bytes, size_t size, bool *equal)
{
    uint8_t want[16], mask[16];
    char    mask_name[32];
    snprintf(mask_name, sizeof mask_name, "%sMask", name);
    if (!cmif_json_hex(json, cmif_json_get(json, owner, name), want, size) ||
        !cmif_json_hex(json, cmif_json_get(json, owner, mask_name), mask, size)) {
        return malformed(call, what, name);
    }
    *equal = true;
    for (size_t i = 0; i < size; i++) {
        *equal = *equal && (bytes[i] & mask[i]) == want[i];
    }
    return true;
}

void cmif_tcb_qe(cmif_attest_call *call, const cmif_json *json, uint32_t identity, const cmif_quote *quote)
{
    static const char what[] = "qe-identity";
    cmif_verdict     *v      = call->verdict;
    const uint8_t    *report = quote->qe_report;
    uint8_t           signer[32];
    uint64_t          version, product, isvsvn = report[CMIF_SGX_ISVSVN] | (uint64_t) report[CMIF_SGX_ISVSVN + 1] << 8;
    bool              misc, attributes;
    svn_levels        levels;
    if (!cmif_json_uint(json, cmif_json_get(json, identity, "version"), 99, &version) || version != 2) {
        malformed(call, what, "version");
        return;
    }
    if (!masked(call, json, identity, what, "miscselect", report + CMIF_SGX_MISCSELECT, 4, &misc) ||
        !masked(call, json, identity, what, "attributes", report + CMIF_SGX_ATTRIBUTES, 16, &attributes)) {
        return;
    }
    if (!cmif_json_hex(json, cmif_json_get(json, identity, "mrsigner"), signer, sizeof signer)) {
        malformed(call, what, "mrsigner");
        return;
    }
    if (!cmif_json_uint(json, cmif_json_get(json, identity, "isvprodid"), 65535, &product)) {
        malformed(call, what, "isvprodid");
        return;
    }
    if (!read_svn_levels(call, json, identity, what, isvsvn, &levels)) {
        return;
    }
    const struct {
        bool        good;
        const char *reason;
    } checks[] = {
        {cmif_json_is(json, cmif_json_get(json, identity, "id"), quote->tee == CMIF_TEE_SGX ? "QE" : "TD_QE"),
         "qe-identity-tee"},
        {misc, "qe-miscselect"},
        {attributes, "qe-attributes"},
        {!memcmp(report + CMIF_SGX_MRSIGNER, signer, sizeof signer), "qe-mrsigner"},
        {product == (report[CMIF_SGX_ISVPRODID] | (uint64_t) report[CMIF_SGX_ISVPRODID + 1] << 8), "qe-isvprodid"},
    };
    bool good = true;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (!checks[i].good) {
            cmif_verdict_reason(v, checks[i].reason);
            good = false;
        }
    }
    if (!good) {
        return; /* the identity of another enclave says nothing about the version of this one */
    }
    v->qe_status = levels.found ? levels.says.status : CMIF_TCB_NOT_SUPPORTED;
    if (levels.found) {
        tell_advisories(call, json, levels.says.advisories);
        if (levels.says.status != CMIF_TCB_UP_TO_DATE) {
            check_date(call, "tcb-date-qe", levels.says.date);
        }
    }
}

/* ---- platform ---- */

typedef struct level {
    uint8_t    sgx[16], tdx[16];
    uint16_t   pcesvn;
    level_says says;
} level;

static bool read_components(const cmif_json *json, uint32_t array, uint8_t out[static 16])
{
    size_t n = 0;
    for (uint32_t i = cmif_json_first(json, array); i != CMIF_JSON_NONE; i = cmif_json_after(json, array, i)) {
        uint64_t svn;
        if (n == 16 || !cmif_json_uint(json, cmif_json_get(json, i, "svn"), 255, &svn)) {
            return false;
        }
        out[n++] = (uint8_t) svn;
    }
    return n == 16;
}

static bool read_platform_level(cmif_attest_call *call, const cmif_json *json, uint32_t node, uint64_t version,
                                bool tdx, level *out)
{
    static const char what[] = "tcb-info";
    uint32_t          tcb    = cmif_json_get(json, node, "tcb");
    uint64_t          number;
    *out = (level){0};
    if (version == 2) { /* sixteen members instead of an array */
        for (unsigned i = 0; i < 16; i++) {
            char name[32];
            snprintf(name, sizeof name, "sgxtcbcomp%02usvn", i + 1);
            if (!cmif_json_uint(json, cmif_json_get(json, tcb, name), 255, &number)) {
                return malformed(call, what, name);
            }
            out->sgx[i] = (uint8_t) number;
        }
    } else if (!read_components(json, cmif_json_get(json, tcb, "sgxtcbcomponents"), out->sgx)) {
        return malformed(call, what, "sgxtcbcomponents");
    }
    if (tdx && !read_components(json, cmif_json_get(json, tcb, "tdxtcbcomponents"), out->tdx)) {
        return malformed(call, what, "tdxtcbcomponents");
    }
    if (!cmif_json_uint(json, cmif_json_get(json, tcb, "pcesvn"), 65535, &number)) {
        return malformed(call, what, "pcesvn");
    }
    out->pcesvn = (uint16_t) number;
    return read_level(call, json, node, what, true, &out->says);
}

/* Intel keeps levels in descending order of (SGX components, PCESVN, TDX components); the first that a platform reaches
 * counts. */
static bool higher(const level *a, const level *b)
{
    int sgx = memcmp(a->sgx, b->sgx, sizeof a->sgx);
    return sgx != 0                 ? sgx > 0
           : a->pcesvn != b->pcesvn ? a->pcesvn > b->pcesvn
                                    : memcmp(a->tdx, b->tdx, sizeof a->tdx) > 0;
}

static bool reaches(const uint8_t *have, const uint8_t *want, size_t from)
{
    bool all = true;
    for (size_t i = from; i < 16; i++) {
        all = all && have[i] >= want[i];
    }
    return all;
}

typedef struct matches {
    bool  any, sgx, full;
    level newest, sgx_level, level; /* of all; reached in SGX terms; reached in all terms */
} matches;

static bool match_levels(cmif_attest_call *call, const cmif_json *json, uint32_t info, uint64_t version,
                         const cmif_quote *quote, const cmif_pck *pck, matches *m)
{
    const bool     tdx    = quote->tee == CMIF_TEE_TDX;
    const uint8_t *svn    = quote->body + CMIF_TD_TCB_SVN;
    uint32_t       levels = cmif_json_get(json, info, "tcbLevels");
    *m                    = (matches){0};
    for (uint32_t i = cmif_json_first(json, levels); i != CMIF_JSON_NONE; i = cmif_json_after(json, levels, i)) {
        level l;
        if (!read_platform_level(call, json, i, version, tdx, &l)) {
            return false;
        }
        if (!m->any || higher(&l, &m->newest)) {
            m->newest = l;
        }
        m->any   = true;
        bool sgx = reaches(pck->components, l.sgx, 0) && pck->pcesvn >= l.pcesvn;
        if (sgx && (!m->sgx || higher(&l, &m->sgx_level))) {
            m->sgx_level = l;
        }
        m->sgx = m->sgx || sgx;
        /* components 0 and 1 are the TDX module's: where it has an identity of its own they are judged by that */
        bool full = sgx && (!tdx || reaches(svn, l.tdx, svn[1] > 0 ? 2 : 0));
        if (full && (!m->full || higher(&l, &m->level))) {
            m->level = l;
        }
        m->full = m->full || full;
    }
    return m->any || malformed(call, "tcb-info", "tcbLevels");
}

/* A TDX module as TCB info describes it. TDX 1.0 has the one of `tdxModule`, without levels; later ones have an
 * identity each. */
typedef struct module {
    bool       found;
    uint8_t    signer[48], attributes[8], mask[8];
    svn_levels levels; /* for the ISVSVN that was asked about */
} module;

static bool read_module(cmif_attest_call *call, const cmif_json *json, uint32_t node, module *out)
{
    out->found = true;
    return (cmif_json_hex(json, cmif_json_get(json, node, "mrsigner"), out->signer, sizeof out->signer) &&
            cmif_json_hex(json, cmif_json_get(json, node, "attributes"), out->attributes, sizeof out->attributes) &&
            cmif_json_hex(json, cmif_json_get(json, node, "attributesMask"), out->mask, sizeof out->mask)) ||
           malformed(call, "tcb-info", "mrsigner or attributes of a TDX module");
}

/* The module of this version (TEE_TCB_SVN[1]) and its levels for this ISVSVN. All identities are read, since they are
 * what Intel writes or none of them is; the identity's "TDX_" and two hexadecimal digits may be of either case. false:
 * malformed. */
static bool find_module(cmif_attest_call *call, const cmif_json *json, uint32_t info, unsigned version, uint64_t isvsvn,
                        module *out)
{
    uint32_t list = cmif_json_get(json, info, "tdxModuleIdentities");
    char     want[8];
    snprintf(want, sizeof want, "TDX_%02X", version & 0xff);
    *out = (module){0};
    if (!read_module(call, json, cmif_json_get(json, info, "tdxModule"), out)) {
        return false;
    }
    out->found = version == 0;
    for (uint32_t i = cmif_json_first(json, list); i != CMIF_JSON_NONE; i = cmif_json_after(json, list, i)) {
        const char *id;
        size_t      size;
        char        upper[8] = "";
        module      m        = {0};
        if (!cmif_json_text(json, cmif_json_get(json, i, "id"), &id, &size)) {
            return malformed(call, "tcb-info", "tdxModuleIdentities id");
        }
        for (size_t k = 0; size < sizeof upper && k < size; k++) {
            upper[k] = (char) (id[k] >= 'a' && id[k] <= 'z' ? id[k] - 32 : id[k]);
        }
        if (!read_module(call, json, i, &m) || !read_svn_levels(call, json, i, "tcb-info", isvsvn, &m.levels)) {
            return false;
        }
        if (version > 0 && !strcmp(upper, want)) {
            if (out->found) {
                return malformed(call, "tcb-info", "tdxModuleIdentities (one twice)");
            }
            *out = m;
        }
    }
    if (!out->found) {
        cmif_verdict_reason(call->verdict, "tdx-module-unknown");
    }
    return true;
}

/* Who signed the module that the TD was started on, and with what attributes: as described, and no bit outside of the
 * mask. */
static bool check_module(cmif_attest_call *call, const cmif_quote *quote, const module *m)
{
    const uint8_t *attributes = quote->body + CMIF_TD_SEAMATTRIBUTES;
    bool           same = true, signer = !memcmp(quote->body + CMIF_TD_MRSIGNERSEAM, m->signer, sizeof m->signer);
    for (size_t i = 0; i < sizeof m->attributes; i++) {
        same = same && (attributes[i] & m->mask[i]) == m->attributes[i] && !(attributes[i] & ~m->mask[i]);
    }
    if (!same) {
        cmif_verdict_reason(call->verdict, "tdx-module-attributes");
    }
    if (!signer) {
        cmif_verdict_reason(call->verdict, "tdx-module-mrsigner");
    }
    return same && signer;
}

/* What a part (module, QE) makes of the platform's status. */
static cmif_tcb_status converge(cmif_tcb_status platform, cmif_tcb_status part)
{
    if (platform == CMIF_TCB_REVOKED || part == CMIF_TCB_REVOKED) {
        return CMIF_TCB_REVOKED;
    }
    if (platform == CMIF_TCB_NOT_SUPPORTED || part == CMIF_TCB_NOT_SUPPORTED) {
        return CMIF_TCB_NOT_SUPPORTED;
    }
    if (part == CMIF_TCB_OUT_OF_DATE && (platform == CMIF_TCB_UP_TO_DATE || platform == CMIF_TCB_SW_HARDENING)) {
        return CMIF_TCB_OUT_OF_DATE;
    }
    if (part == CMIF_TCB_OUT_OF_DATE &&
        (platform == CMIF_TCB_CONFIGURATION || platform == CMIF_TCB_CONFIGURATION_AND_SW)) {
        return CMIF_TCB_OUT_OF_DATE_CONFIGURATION;
    }
    return platform;
}

static bool needs_configuration(cmif_tcb_status status)
{
    return status == CMIF_TCB_CONFIGURATION || status == CMIF_TCB_CONFIGURATION_AND_SW ||
           status == CMIF_TCB_OUT_OF_DATE_CONFIGURATION;
}

/* A TD that was started on an old module and runs on a new one: out of date only until it is started again. */
static cmif_tcb_status relaunch(cmif_attest_call *call, const cmif_json *json, uint32_t info, const cmif_quote *quote,
                                const matches *m, cmif_tcb_status status)
{
    const cmif_verdict *v    = call->verdict;
    const uint8_t      *svn2 = quote->body + CMIF_TD_TCB_SVN2;
    const unsigned      fine = 1u << CMIF_TCB_UP_TO_DATE | 1u << CMIF_TCB_SW_HARDENING | 1u << CMIF_TCB_CONFIGURATION |
                          1u << CMIF_TCB_CONFIGURATION_AND_SW;
    const unsigned late    = 1u << CMIF_TCB_OUT_OF_DATE | 1u << CMIF_TCB_OUT_OF_DATE_CONFIGURATION;
    uint64_t       newest0 = m->newest.tdx[0];
    if (!(fine >> m->sgx_level.says.status & 1) || !(late >> status & 1) || v->module_status != CMIF_TCB_OUT_OF_DATE ||
        v->qe_status == CMIF_TCB_OUT_OF_DATE || v->qe_status == CMIF_TCB_REVOKED ||
        v->qe_status == CMIF_TCB_NOT_SUPPORTED) {
        return status;
    }
    if (svn2[1] > 0) {
        module m2;
        if (!find_module(call, json, info, svn2[1], svn2[0], &m2) || !m2.found) {
            return status;
        }
        newest0 = m2.levels.highest;
    }
    if (svn2[0] < newest0 || svn2[2] < m->newest.tdx[2]) {
        return status;
    }
    return needs_configuration(m->sgx_level.says.status) || needs_configuration(status)
               ? CMIF_TCB_RELAUNCH_CONFIGURATION
               : CMIF_TCB_RELAUNCH;
}

void cmif_tcb_platform(cmif_attest_call *call, const cmif_json *json, uint32_t info, const cmif_quote *quote,
                       const cmif_pck *pck)
{
    static const char what[] = "tcb-info";
    cmif_verdict     *v      = call->verdict;
    const bool        tdx    = quote->tee == CMIF_TEE_TDX;
    uint8_t           fmspc[6], pceid[2];
    uint64_t          version, type;
    matches           m;
    module            mod = {0};
    if (!cmif_json_uint(json, cmif_json_get(json, info, "version"), 99, &version) || version < 2 || version > 3) {
        malformed(call, what, "version");
        return;
    }
    if (!cmif_json_uint(json, cmif_json_get(json, info, "tcbType"), 99, &type) || type != 0) {
        malformed(call, what, "tcbType");
        return;
    }
    if (!cmif_json_hex(json, cmif_json_get(json, info, "fmspc"), fmspc, sizeof fmspc)) {
        malformed(call, what, "fmspc");
        return;
    }
    if (!cmif_json_hex(json, cmif_json_get(json, info, "pceId"), pceid, sizeof pceid)) {
        malformed(call, what, "pceId");
        return;
    }
    uint32_t id = cmif_json_get(json, info, "id"); /* version 2 has none and is about SGX */
    if (version == 2 ? tdx || (id != CMIF_JSON_NONE && !cmif_json_is(json, id, "SGX"))
                     : !cmif_json_is(json, id, tdx ? "TDX" : "SGX")) {
        cmif_verdict_reason(v, "tcb-info-tee");
        return;
    }
    bool same_fmspc = !memcmp(fmspc, pck->fmspc, sizeof fmspc), same_pceid = !memcmp(pceid, pck->pceid, sizeof pceid);
    if (!same_fmspc) {
        cmif_verdict_reason(v, "tcb-info-fmspc");
    }
    if (!same_pceid) {
        cmif_verdict_reason(v, "tcb-info-pceid");
    }
    if (!same_fmspc || !same_pceid) {
        return; /* levels of another platform say nothing about this one */
    }
    if (!match_levels(call, json, info, version, quote, pck, &m)) {
        return;
    }
    if (tdx) {
        const uint8_t *svn = quote->body + CMIF_TD_TCB_SVN;
        if (!find_module(call, json, info, svn[1], svn[0], &mod) || !mod.found || !check_module(call, quote, &mod)) {
            return; /* a platform under a module that is not Intel's has no status */
        }
    }

    v->platform_status     = m.full ? m.level.says.status : CMIF_TCB_NOT_SUPPORTED;
    cmif_tcb_status status = v->platform_status;
    if (m.full) {
        v->tcb_date = m.level.says.date;
        check_date(call, "tcb-date", v->tcb_date);
        tell_advisories(call, json, m.level.says.advisories);
    }
    if (tdx && quote->body[CMIF_TD_TCB_SVN + 1] > 0) {
        const svn_levels *levels = &mod.levels;
        cmif_verdict_text(v, "tdx_module_identity", "TDX_%02X", quote->body[CMIF_TD_TCB_SVN + 1]);
        v->module_status = levels->found ? levels->says.status : CMIF_TCB_NOT_SUPPORTED;
        if (levels->found) {
            tell_advisories(call, json, levels->says.advisories);
            if (levels->says.status != CMIF_TCB_UP_TO_DATE) {
                check_date(call, "tcb-date-module", levels->says.date);
            }
        }
        status = converge(status, v->module_status);
    }
    if (m.full && quote->body_size == CMIF_TD_REPORT15_SIZE) {
        status = relaunch(call, json, info, quote, &m, status);
    }
    v->tcb_status = converge(status, v->qe_status);
}
