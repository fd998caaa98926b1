#include "attest/cases.h"
#include "attest/dcap_rig.h"

#include "base/check_memory.h"
#include <openssl/crypto.h>

/* The n-th allocation fails, ours or OpenSSL's, for every n of a call (argument "full"; else a sample): what is bad
 * stays refused, and what is good is accepted, INTERNAL or refused (where OpenSSL says only that something did not
 * verify). */

static bool  full;
static world w;

static void *openssl_malloc(size_t size, const char *file, int line)
{
    (void) file, (void) line;
    return malloc(size);
}

static void *openssl_realloc(void *memory, size_t size, const char *file, int line)
{
    (void) file, (void) line;
    return realloc(memory, size);
}

static void openssl_free(void *memory, const char *file, int line)
{
    (void) file, (void) line;
    free(memory);
}

static void each_allocation_fails_once(bool good)
{
    static cmif_verdict v;
    size_t              accepted = 0, internal = 0, refused = 0;
    bool                more = true;
    world_judge(&w, &v);
    CHECK((v.outcome == CMIF_ACCEPTED) == good);
    for (long n = 0; more; n += full ? 1 : 13) {
        allocations_left = n;
        world_judge(&w, &v);
        more             = allocations_left < 0; /* it was reached */
        allocations_left = -1;
        accepted += v.outcome == CMIF_ACCEPTED;
        internal += v.outcome == CMIF_ATTEST_INTERNAL;
        refused += v.outcome != CMIF_ACCEPTED && v.outcome != CMIF_ATTEST_INTERNAL;
        CHECK(good || v.outcome != CMIF_ACCEPTED);
        CHECK(v.outcome == CMIF_ACCEPTED || v.reason_count || v.sentence.text[0]);
    }
    CHECK(internal > 0);
    world_judge(&w, &v);
    CHECK((v.outcome == CMIF_ACCEPTED) == good); /* nothing is left behind */
    printf("  accepted %zu, internal %zu, refused %zu\n", accepted, internal, refused);
}

static void good_evidence_survives_any_failure(void)
{
    world_new(&w, 5, 3);
    world_make(&w);
    each_allocation_fails_once(true);
}

static void a_revoked_certificate_is_never_accepted(void)
{
    world_new(&w, 5, 3);
    w.crls[RIG_PCK_CRL].revoked[1] = 3;
    w.policy.loosened.no_crl       = true; /* a list that is lost may be forgiven; one that could not be read may not */
    world_make(&w);
    each_allocation_fails_once(false);
}

static void a_forged_quote_is_never_accepted(void)
{
    world_new(&w, 3, 1);
    w.body_signed_by = RIG_STRANGER;
    world_make(&w);
    each_allocation_fails_once(false);
}

static void an_old_platform_is_never_accepted(void)
{
    world_new(&w, 4, 2);
    w.pcesvn--;
    world_make(&w);
    each_allocation_fails_once(false);
}

int main(int argc, char **argv)
{
    full = argc > 1 && !strcmp(argv[1], "full");
    if (!CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free)) {
        return check_skip("OpenSSL does not let its allocations be counted");
    }
    rig_open();
    RUN(good_evidence_survives_any_failure);
    RUN(a_revoked_certificate_is_never_accepted);
    RUN(a_forged_quote_is_never_accepted);
    RUN(an_old_platform_is_never_accepted);
    rig_close();
    return check_report();
}
