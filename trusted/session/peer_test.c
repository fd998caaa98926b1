/* A proof of the simulator's, and everything by which it could be somebody else's, another time's or another
 * connection's: each alone refuses it. */
#include "session/peer.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/check_memory.h"

#include <stdlib.h>
#include <string.h>

#define IDENTITY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ANOTHER "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define BEGIN "attestation-policy 1\n"
#define SIM BEGIN "accept sim\nloosen simulator\nmeasure sim measurement "
#define MRTD IDENTITY "00112233445566778899aabbccddeeff"

static const cmif_claims        claims = {.program = "cmif-server 0.1.0", .model_id = {1, 2, 3}, .policy_hash = {4}};
static const cmif_peer_binding  here   = {.role = 's', .nonce = {1}, .exporter = {2}, .shown_key = {3}, .own_key = {4}};
static cmif_attest_policy_file *policy;
static cmif_maker              *maker;
static cmif_peer_verdict        out;
static cmif_err                 err;
static uint8_t                 *proof;
static size_t                   proof_size;

static cmif_attest_policy_file *policy_of(const char *text)
{
    cmif_attest_policy_file *file = NULL;
    CHECK(cmif_attest_policy_parse(text, strlen(text), &file, &err) == CMIF_OK);
    return file;
}

/* As who is asked makes it; the caller's. */
static uint8_t *proof_for(const cmif_peer_binding *b, const cmif_claims *what, size_t *size)
{
    uint8_t           *bytes   = NULL;
    const cmif_binding binding = {
        .role = b->role, .nonce = b->nonce, .exporter = b->exporter, .own_key = b->shown_key, .other_key = b->own_key};
    CHECK(cmif_proof_make(maker, what, &binding, &bytes, size, NULL) == CMIF_OK);
    return bytes;
}

static cmif_code judge_as(const cmif_attest_policy_file *file, const cmif_peer_binding *b, const void *bytes,
                          size_t size)
{
    const cmif_peer_rule rule = {.policy = file, .time = 1750000000};
    err                       = (cmif_err){0};
    memset(&out, 0x55, sizeof out);
    return cmif_peer_judge(&rule, b, bytes, size, &out, &err);
}

static bool has_reason(const char *word)
{
    bool has = false;
    for (size_t i = 0; i < out.verdict.reason_count; i++) {
        has = has || !strcmp(out.verdict.reasons[i], word);
    }
    return has;
}

/* Refused, not accepted, in a sentence that a terminal does not obey and that has this in it. */
static bool refused(cmif_code rc, cmif_code code, const char *part)
{
    bool good = rc == code && err.code == code && strstr(err.text, part) &&
                !(out.judged && out.verdict.outcome == CMIF_ACCEPTED);
    for (const char *c = err.text; *c; c++) {
        good = good && *c >= ' ' && *c <= '~';
    }
    if (!good) {
        fprintf(stderr, "expected %s with '%s', found %s: %s\n", cmif_code_name(code), part, cmif_code_name(rc),
                err.text);
    }
    return good;
}

static void a_proof_for_this_connection_is_accepted(void)
{
    CHECK(judge_as(policy, &here, proof, proof_size) == CMIF_OK);
    CHECK(out.judged && out.verdict.outcome == CMIF_ACCEPTED && out.verdict.tee == CMIF_TEE_SIM &&
          out.verdict.time == 1750000000);
    CHECK(!memcmp(&out.claims, &claims, sizeof claims));
    CHECK(out.verdict.loosened_count && !strcmp(out.verdict.loosened[out.verdict.loosened_count - 1], "no-store"));
    const cmif_peer_rule now = {.policy = policy, .time = INT64_MIN};
    CHECK(cmif_peer_judge(&now, &here, proof, proof_size, &out, &err) == CMIF_OK && out.verdict.time > 1790000000);
}

/* Each part of the binding alone; what was shown elsewhere, before, or by us, comes down to one of these. */
static void a_proof_of_any_other_connection_time_or_side_is_refused(void)
{
    cmif_peer_binding other[7] = {here, here, here, here, here, here, here};
    other[0].nonce[31]++;                         /* a replay */
    other[1].exporter[31]++;                      /* of another connection: a relay */
    other[2].shown_key[31]++;                     /* by another certificate */
    other[3].own_key[31]++;                       /* for another client */
    other[4].role = 'c';                          /* our own proof, shown back to us as it is */
    memcpy(other[5].shown_key, here.own_key, 32); /* and with the keys as we would have said them */
    memcpy(other[5].own_key, here.shown_key, 32);
    other[5].role = 'c';
    memset(other[6].own_key, 0, 32); /* to one without a certificate */
    for (size_t i = 0; i < 7; i++) {
        size_t   size;
        uint8_t *bytes = proof_for(&other[i], &claims, &size);
        CHECK(judge_as(policy, &other[i], bytes, size) == CMIF_OK); /* good where it belongs */
        CHECK(refused(judge_as(policy, &here, bytes, size), CMIF_E_TRUST, "made for another connection"));
        CHECK(has_reason("report-data") && out.verdict.reason_count == 1 && out.judged);
        CHECK(strstr(err.text, "the server's evidence (INSECURE sim) is refused: report-data"));
        CHECK(refused(judge_as(policy, &other[i], proof, proof_size), CMIF_E_TRUST,
                      other[i].role == 'c' ? "the client's" : "the server's"));
        free(bytes);
    }
}

static void claims_that_were_changed_or_exchanged_are_refused(void)
{
    size_t      size;
    cmif_claims other = claims;
    other.model_id[0] = 9;
    uint8_t   *bytes  = proof_for(&here, &other, &size);
    cmif_proof p = {.bundle = NULL}, q = {.bundle = NULL};
    const bool same = size == proof_size && cmif_proof_read(bytes, size, &p, NULL) == CMIF_OK &&
                      cmif_proof_read(proof, proof_size, &q, NULL) == CMIF_OK && p.bundle_size == q.bundle_size;
    CHECK(same);
    if (same) { /* evidence that is good for other claims */
        memcpy(bytes + (p.bundle - bytes), q.bundle, q.bundle_size);
    }
    CHECK(refused(judge_as(policy, &here, bytes, size), CMIF_E_TRUST, "report-data"));
    free(bytes);
}

static void whatever_bit_is_turned_and_wherever_it_is_cut_a_proof_is_refused(void)
{
    uint8_t *bytes = malloc(proof_size + 1);
    for (size_t bit = 0; bit < 8 * proof_size; bit++) {
        memcpy(bytes, proof, proof_size);
        bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
        const cmif_code rc = judge_as(policy, &here, bytes, proof_size);
        CHECK(refused(rc, rc == CMIF_E_FORMAT ? CMIF_E_FORMAT : CMIF_E_TRUST, "the server's evidence"));
    }
    free(bytes);
    for (size_t size = 0; size < proof_size; size++) {
        bytes = malloc(size ? size : 1); /* exact, so that a sanitizer sees a byte too far */
        memcpy(bytes, proof, size);
        CHECK(refused(judge_as(policy, &here, bytes, size), CMIF_E_FORMAT, "the server's evidence cannot be read"));
        CHECK(!out.judged && out.verdict.outcome == CMIF_MALFORMED);
        free(bytes);
    }
    bytes = malloc(proof_size + 1);
    memcpy(bytes, proof, proof_size);
    bytes[proof_size] = 0;
    CHECK(refused(judge_as(policy, &here, bytes, proof_size + 1), CMIF_E_FORMAT, "1 more bytes"));
    free(bytes);
}

static void what_the_policy_does_not_name_is_refused(void)
{
    static const struct {
        const char *text, *part;
    } cases[] = {{SIM ANOTHER "\n", "refused: measurement-measurement"},
                 {BEGIN "accept tdx\nmeasure tdx mrtd " MRTD "\n", "technology-not-accepted"},
                 {BEGIN "accept tpm\nak-pin " IDENTITY "\nloosen ak-pinned\nmeasure tpm pcr0 " IDENTITY "\n",
                  "technology-not-accepted"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cmif_attest_policy_file *file = policy_of(cases[i].text);
        CHECK(refused(judge_as(file, &here, proof, proof_size), CMIF_E_TRUST, cases[i].part));
        CHECK(out.judged && out.verdict.outcome == CMIF_REJECTED);
        cmif_attest_policy_free(file);
    }
}

/* In a connection it is known what the report data must be: neither a line of the policy's nor one that loosens it
 * counts. */
static void no_policy_gives_the_binding_away(void)
{
    cmif_attest_policy_file *file = policy_of(SIM IDENTITY "\nreport-data 00\n");
    CHECK(refused(judge_as(file, &here, proof, proof_size), CMIF_E_RANGE, "report-data") && !out.judged);
    cmif_attest_policy_free(file);

    cmif_peer_binding other = here;
    other.nonce[0]++;
    file = policy_of(SIM IDENTITY "\nloosen no-report-data\n");
    CHECK(judge_as(file, &here, proof, proof_size) == CMIF_OK);
    for (size_t i = 0; i < out.verdict.loosened_count; i++) {
        CHECK(strcmp(out.verdict.loosened[i], "no-report-data") != 0);
    }
    CHECK(refused(judge_as(file, &other, proof, proof_size), CMIF_E_TRUST, "report-data"));
    cmif_attest_policy_free(file);
}

/* A proof of these claims with whatever bundle. */
static cmif_code judge_bundle(const cmif_evidence *bundle)
{
    cmif_proof p = {.bundle = NULL};
    CHECK(cmif_proof_read(proof, proof_size, &p, NULL) == CMIF_OK);
    const size_t head  = (size_t) (p.bundle - proof);
    uint8_t     *bytes = malloc(head + bundle->size);
    memcpy(bytes, proof, head);
    memcpy(bytes + head, bundle->bytes, bundle->size);
    const cmif_code rc = judge_as(policy, &here, bytes, head + bundle->size);
    free(bytes);
    return rc;
}

/* The bundle's own kinds count: a guess from the bytes would accept what says that it is something else. */
static void an_item_is_what_its_bundle_says_and_nothing_else(void)
{
    cmif_proof         p     = {.bundle = NULL};
    cmif_evidence_item sim   = {0};
    size_t             count = 1;
    CHECK(cmif_proof_read(proof, proof_size, &p, NULL) == CMIF_OK &&
          cmif_evidence_read(p.bundle, p.bundle_size, &sim, &count, NULL) == CMIF_OK);
    for (unsigned kind = 1; kind <= CMIF_EVIDENCE_KIND_MAX; kind++) {
        cmif_evidence bundle = {0};
        CHECK(cmif_evidence_put(&bundle, (uint8_t) kind, sim.data, sim.size, NULL) == CMIF_OK);
        const cmif_code rc = judge_bundle(&bundle);
        CHECK(kind == CMIF_EVIDENCE_SIM ? rc == CMIF_OK : refused(rc, CMIF_E_TRUST, "the server's evidence"));
        cmif_evidence_free(&bundle);
    }
    cmif_evidence two = {0};
    CHECK(cmif_evidence_put(&two, sim.kind, sim.data, sim.size, NULL) == CMIF_OK &&
          cmif_evidence_put(&two, CMIF_EVIDENCE_QUOTE, "\x1b[2J\xff", 5, NULL) == CMIF_OK);
    CHECK(refused(judge_bundle(&two), CMIF_E_TRUST, "more than one technology"));
    cmif_evidence_free(&two);
}

/* Garbage of each kind, that a terminal would obey, alone and beside good evidence. */
static void no_byte_of_others_reaches_the_terminal(void)
{
    static const char *const garbage[] = {"\x1b]0;\a\x1b[31m\x80\xff", "{\"tcbInfo\":\"\x1b[31m\x9b\"}",
                                          "-----BEGIN CERTIFICATE-----\n\x1b[31m\n-----END CERTIFICATE-----\n"};
    for (unsigned kind = 1; kind <= CMIF_EVIDENCE_KIND_MAX; kind++) {
        for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
            cmif_evidence bundle = {0};
            CHECK(cmif_evidence_put(&bundle, (uint8_t) kind, garbage[i], strlen(garbage[i]), NULL) == CMIF_OK);
            CHECK(refused(judge_bundle(&bundle), CMIF_E_TRUST, "the server's evidence"));
            cmif_evidence_free(&bundle);
        }
    }
}

static void a_store_that_cannot_be_read_accepts_nothing(void)
{
    cmif_peer_rule rule = {.policy = policy, .store = CMIF_SOURCE_DIR "/README.md", .time = 1750000000};
    out                 = (cmif_peer_verdict){0};
    const cmif_code rc  = cmif_peer_judge(&rule, &here, proof, proof_size, &out, &err);
    CHECK(refused(rc, CMIF_E_FORMAT, "the server's evidence cannot be judged") && !out.judged);
    rule.store = CMIF_SOURCE_DIR "/none.db"; /* nothing was ever brought */
    CHECK(cmif_peer_judge(&rule, &here, proof, proof_size, &out, &err) == CMIF_OK);
    for (size_t i = 0; i < out.verdict.loosened_count; i++) {
        CHECK(strcmp(out.verdict.loosened[i], "no-store") != 0);
    }
}

static void no_failing_allocation_accepts_anything(void)
{
    long n = 0;
    for (cmif_code rc = CMIF_E_MEMORY; rc != CMIF_OK && n < 1000; n++) {
        allocations_left = n;
        rc               = judge_as(policy, &here, proof, proof_size);
        const bool all   = allocations_left >= 0; /* and so none failed */
        allocations_left = -1;
        CHECK(rc == CMIF_OK ? all : refused(rc, rc, ""));
    }
    CHECK(n > 1 && n < 1000);
}

int main(void)
{
    const cmif_maker_options options = {.kind = CMIF_MAKER_SIM, .identity = IDENTITY, .insecure = 1};
    if (cmif_maker_open(&options, &maker, NULL) != CMIF_OK) {
        return check_skip("this build has no simulator");
    }
    policy = policy_of(SIM IDENTITY "\n");
    proof  = proof_for(&here, &claims, &proof_size);
    RUN(a_proof_for_this_connection_is_accepted);
    RUN(a_proof_of_any_other_connection_time_or_side_is_refused);
    RUN(claims_that_were_changed_or_exchanged_are_refused);
    RUN(whatever_bit_is_turned_and_wherever_it_is_cut_a_proof_is_refused);
    RUN(what_the_policy_does_not_name_is_refused);
    RUN(no_policy_gives_the_binding_away);
    RUN(an_item_is_what_its_bundle_says_and_nothing_else);
    RUN(no_byte_of_others_reaches_the_terminal);
    RUN(a_store_that_cannot_be_read_accepts_nothing);
    RUN(no_failing_allocation_accepts_anything);
    free(proof);
    cmif_attest_policy_free(policy);
    cmif_maker_free(maker);
    return check_report();
}
