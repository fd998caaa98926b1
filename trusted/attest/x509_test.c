#include "attest/x509.h"

#include "attest/dcap_rig.h"
#include "base/check.h"

#include <openssl/rsa.h>
#include <time.h>

/* The roots are the ones that their makers publish: by the hash that docs/attestation.md names, each once, self-signed,
 * and a CA. */
static void pinned_roots_are_what_they_say(void)
{
    cmif_pool pool;
    CHECK(cmif_pool_init(&pool, CMIF_ROOT_PINNED, NULL, NULL) == CMIF_OK && pool.root_count == cmif_pinned_root_count &&
          pool.root_count == 6);
    for (size_t i = 0; i < pool.root_count; i++) {
        uint8_t  hash[32] = {0}, *der = NULL;
        char     text[65];
        int      size = i2d_X509(pool.roots[i], &der);
        unsigned done;
        CHECK(size > 0 && EVP_Digest(der, (size_t) size, hash, &done, EVP_sha256(), NULL) && done == 32);
        cmif_hex(hash, 32, text);
        CHECK(!strcmp(text, cmif_pinned_roots[i].sha256));
        CHECK(cmif_x509_has_name(pool.roots[i], cmif_pinned_roots[i].name));
        CHECK(X509_verify(pool.roots[i], X509_get0_pubkey(pool.roots[i])) == 1);
        CHECK(X509_get_extension_flags(pool.roots[i]) & EXFLAG_CA);
        OPENSSL_free(der);
    }
    static const char *const published[] = {"44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
                                            "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
                                            "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
                                            "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
                                            "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95",
                                            "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2"};
    for (size_t i = 0; i < 6; i++) {
        CHECK(!strcmp(cmif_pinned_roots[i].sha256, published[i]));
    }
    cmif_pool_wipe(&pool);
}

static world   w;
static uint8_t bytes[8192];

/* The PCK CA of the rig in DER at bytes. */
static size_t one_certificate(void)
{
    uint8_t *at = bytes;
    world_new(&w, 4, 2);
    X509  *c    = rig_make_certificate(&w, RIG_CA);
    size_t size = (size_t) i2d_X509(c, &at);
    X509_free(c);
    return size;
}

static cmif_code add(size_t size, size_t *count)
{
    cmif_pool pool = {0};
    cmif_code rc   = cmif_pool_add_certificates(&pool, bytes, size, NULL);
    *count         = pool.certificate_count;
    cmif_pool_wipe(&pool);
    return rc;
}

static void certificates_are_read_in_one_form(void)
{
    size_t size = one_certificate(), count;
    CHECK(add(size, &count) == CMIF_OK && count == 1);
    memset(bytes + size, 0, 4096); /* as TPM non-volatile indexes pad */
    CHECK(add(size + 3000, &count) == CMIF_OK && count == 1);
    memcpy(bytes + size, bytes, size);
    CHECK(add(2 * size, &count) == CMIF_OK && count == 2);
    bytes[2 * size] = 1;
    CHECK(add(2 * size + 1, &count) == CMIF_E_FORMAT);
    memset(bytes + size, 0, 4096);
    bytes[size + 99] = 1;
    CHECK(add(size + 100, &count) == CMIF_E_FORMAT);
    for (size_t i = 0; i < size; i++) {
        CHECK(add(i, &count) == CMIF_E_FORMAT);
    }
    /* the unused bits of the signature's BIT STRING are zero in DER, and OpenSSL would not look */
    size_t bits = size - 1;
    while (!(bytes[bits] == 0x03 && bytes[bits + 1] == size - bits - 2)) {
        bits--;
    }
    bytes[bits + 2] = 0;
    CHECK(add(size, &count) == CMIF_OK);
    bytes[size - 1] &= 0xf8;
    bytes[bits + 2] = 3; /* DER by itself, though another certificate: the signature's last byte is masked */
    CHECK(add(size, &count) == CMIF_OK);
    bytes[size - 1] |= 1;
    CHECK(add(size, &count) == CMIF_E_FORMAT);
    size = one_certificate();
    memmove(bytes + 5, bytes + 4, size); /* a length in more bytes than it needs */
    bytes[1] = 0x83;
    bytes[4] = bytes[3];
    bytes[3] = bytes[2];
    bytes[2] = 0;
    CHECK(add(size + 1, &count) == CMIF_E_FORMAT);
    memcpy(bytes, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", 60);
    CHECK(add(59, &count) == CMIF_E_FORMAT);
    memcpy(bytes, "no certificate at all", 21);
    CHECK(add(21, &count) == CMIF_E_FORMAT);
    CHECK(add(0, &count) == CMIF_E_FORMAT);
}

static void a_pool_has_an_end(void)
{
    size_t    size = one_certificate();
    cmif_pool pool = {0};
    for (size_t i = 0; i < CMIF_POOL_CERTIFICATES; i++) {
        CHECK(cmif_pool_add_certificates(&pool, bytes, size, NULL) == CMIF_OK);
    }
    CHECK(cmif_pool_add_certificates(&pool, bytes, size, NULL) == CMIF_E_RANGE);
    cmif_pool_wipe(&pool);
    cmif_pool_wipe(&pool);
}

static void der_has_one_length_and_one_tag(void)
{
    static const struct {
        size_t  size;
        uint8_t bytes[8];
        bool    good;
    } all[] = {{2, {4, 0}, true},
               {3, {4, 1, 9}, true},
               {2, {4, 1}, false},
               {1, {4}, false},
               {0, {0}, false},
               {3, {4, 0x80, 0}, false},    /* indefinite */
               {4, {4, 0x81, 1, 9}, false}, /* longer than need be */
               {5, {4, 0x82, 0, 1, 9}, false},
               {7, {4, 0x84, 0, 0, 0, 1, 9}, false},
               {8, {4, 0xff, 255, 255, 255, 255, 255, 255}, false},
               {3, {0x1f, 1, 0}, false}}; /* a tag of more bytes */
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        cmif_reader r = cmif_reader_over(all[i].bytes, all[i].size), value;
        uint8_t     tag;
        CHECK(cmif_der_next(&r, &tag, &value) == all[i].good);
        CHECK(!all[i].good || (tag == 4 && r.at == r.size && value.size == all[i].size - 2));
    }
}

/* Roots of one maker do not vouch for another's certificates. */
static void a_root_is_of_its_kind(void)
{
    cmif_pool       pool = {0};
    cmif_path       path;
    cmif_path_rules rules = {
        .root_kinds = CMIF_ROOT_INTEL, .keys = CMIF_KEY_P256, .signatures = CMIF_SIG_ECDSA_SHA256, .time = RIG_TIME};
    world_new(&w, 4, 2);
    for (int i = 0; i < 3; i++) {
        X509 *c = rig_make_certificate(&w, i);
        if (i == RIG_ROOT) {
            pool.roots[pool.root_count++] = c;
        } else {
            pool.certificates[pool.certificate_count++] = c;
        }
    }
    pool.root_kinds[0] = CMIF_ROOT_INTEL;
    cmif_path_build(&pool, pool.certificates[1], &rules, &path);
    CHECK(path.problems == 0 && path.count == 3);
    pool.root_kinds[0] = CMIF_ROOT_AMD;
    cmif_path_build(&pool, pool.certificates[1], &rules, &path);
    CHECK(path.problems == CMIF_PATH_UNTRUSTED);
    pool.root_kinds[0] = CMIF_ROOT_OWN << CMIF_TEE_SGX; /* of the policy, for another technology */
    rules.root_kinds   = CMIF_ROOT_OWN << CMIF_TEE_TDX;
    cmif_path_build(&pool, pool.certificates[1], &rules, &path);
    CHECK(path.problems == CMIF_PATH_UNTRUSTED);
    pool.root_kinds[0] = CMIF_ROOT_OWN_ANY;
    cmif_path_build(&pool, pool.certificates[1], &rules, &path);
    CHECK(path.problems == 0);
    cmif_path_build(&pool, pool.roots[0], &rules, &path); /* the root itself is no leaf */
    CHECK(path.problems & CMIF_PATH_CONSTRAINTS);
    cmif_pool_wipe(&pool);
}

/* Certificates that all might have issued each other, and a list of each: who made them also chose how many. What is
 * checked of them has an end, and then nothing is believed. */
static void a_mesh_of_certificates_takes_no_longer_than_it_may(void)
{
    cmif_pool       pool  = {0};
    cmif_path_rules rules = {
        .root_kinds = CMIF_ROOT_INTEL, .keys = CMIF_KEY_P256, .signatures = CMIF_SIG_ECDSA_SHA256, .time = RIG_TIME};
    unsigned work = 0;
    world_new(&w, 4, 2);
    w.certificates[RIG_CA].issuer    = RIG_CA; /* by itself, and so by each of them */
    w.certificates[RIG_CA].until     = RIG_TIME - 1;
    w.certificates[RIG_CA].signed_by = w.certificates[RIG_CA].key;
    w.crls[RIG_PCK_CRL].issuer       = RIG_CA;
    for (long i = 0; i < CMIF_POOL_CERTIFICATES; i++) {
        w.certificates[RIG_CA].serial               = 100 + i;
        pool.certificates[pool.certificate_count++] = rig_make_certificate(&w, RIG_CA);
        w.crls[RIG_PCK_CRL].from                    = RIG_TIME - 1000 - i;
        w.crls[RIG_PCK_CRL].signed_by               = RIG_STRANGER;
        pool.crls[pool.crl_count++]                 = rig_make_crl(&w, RIG_PCK_CRL);
    }
    const clock_t begin = clock();
    for (size_t i = 0; i < pool.certificate_count; i++) {
        cmif_path path;
        cmif_path_build(&pool, pool.certificates[i], &rules, &path);
        cmif_path_check_crls(&pool, &rules, true, &path);
        CHECK(path.problems & CMIF_PATH_UNTRUSTED);
        work += (path.problems & CMIF_PATH_WORK) != 0;
    }
    const double seconds = (double) (clock() - begin) / CLOCKS_PER_SEC;
    CHECK(pool.checks == CMIF_POOL_CHECKS && work > CMIF_POOL_CERTIFICATES / 2);
    CHECK(seconds < 0.2);
    printf("  %u signatures checked, %.3f s\n", pool.checks, seconds);
    cmif_pool_wipe(&pool);
}

/* Where the work ends in the middle of the lists, the one that revokes may not have been seen. */
static void what_could_not_be_checked_for_work_is_not_taken_for_good(void)
{
    cmif_pool       pool = {0};
    cmif_path       path;
    cmif_path_rules rules = {
        .root_kinds = CMIF_ROOT_INTEL, .keys = CMIF_KEY_P256, .signatures = CMIF_SIG_ECDSA_SHA256, .time = RIG_TIME};
    world_new(&w, 4, 2);
    pool.roots[pool.root_count++]               = rig_make_certificate(&w, RIG_ROOT);
    pool.root_kinds[0]                          = CMIF_ROOT_INTEL;
    pool.certificates[pool.certificate_count++] = rig_make_certificate(&w, RIG_SIGNING);
    pool.crls[pool.crl_count++]                 = rig_make_crl(&w, RIG_ROOT_CRL);
    w.crls[RIG_ROOT_CRL].revoked[0]             = w.certificates[RIG_SIGNING].serial;
    pool.crls[pool.crl_count++]                 = rig_make_crl(&w, RIG_ROOT_CRL);
    for (unsigned left = 0; left < 4; left++) {
        pool.checks = CMIF_POOL_CHECKS - left;
        cmif_path_build(&pool, pool.certificates[0], &rules, &path);
        cmif_path_check_crls(&pool, &rules, true, &path);
        CHECK(path.problems & (left < 3 ? CMIF_PATH_WORK : CMIF_PATH_REVOKED));
    }
    cmif_pool_wipe(&pool);
}

/* Keys that are slow on purpose issue nothing. */
static void slow_keys_are_not_asked(void)
{
    static const char *const curves[] = {"sect571r1", "brainpoolP512r1", "P-521"};
    cmif_path_rules          rules    = {.root_kinds = CMIF_ROOT_INTEL, .keys = 7, .signatures = 15, .time = RIG_TIME};
    EVP_PKEY                *own      = rig_keys[RIG_P384];
    for (size_t i = 0; i < 4; i++) {
        cmif_pool     pool = {0};
        cmif_path     path;
        EVP_PKEY     *key  = NULL;
        EVP_PKEY_CTX *make = i < 3 ? NULL : EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        BIGNUM       *e    = NULL;
        if (i < 3) {
            key = EVP_EC_gen(curves[i]);
        } else { /* an exponent as long as the modulus, as a signer would take it */
            CHECK(BN_hex2bn(&e, "100000000000000000000000000000000000000000000000000000051") &&
                  EVP_PKEY_keygen_init(make) == 1 && EVP_PKEY_CTX_set_rsa_keygen_bits(make, 2048) == 1 &&
                  EVP_PKEY_CTX_set1_rsa_keygen_pubexp(make, e) == 1 && EVP_PKEY_generate(make, &key) == 1);
        }
        if (!key) { /* this OpenSSL does not have the curve */
            continue;
        }
        world_new(&w, 4, 2);
        rig_keys[RIG_P384]                          = key;
        w.certificates[RIG_ROOT].key                = RIG_P384;
        pool.roots[pool.root_count++]               = rig_make_certificate(&w, RIG_ROOT);
        pool.root_kinds[0]                          = CMIF_ROOT_INTEL;
        pool.certificates[pool.certificate_count++] = rig_make_certificate(&w, RIG_SIGNING);
        cmif_path_build(&pool, pool.certificates[0], &rules, &path);
        CHECK(pool.checks == (i == 2) && !!(path.problems & CMIF_PATH_UNTRUSTED) == (i != 2));
        rig_keys[RIG_P384] = own;
        EVP_PKEY_free(key);
        EVP_PKEY_CTX_free(make);
        BN_free(e);
        cmif_pool_wipe(&pool);
    }
}

int main(void)
{
    rig_open();
    RUN(pinned_roots_are_what_they_say);
    RUN(certificates_are_read_in_one_form);
    RUN(a_pool_has_an_end);
    RUN(der_has_one_length_and_one_tag);
    RUN(a_root_is_of_its_kind);
    RUN(a_mesh_of_certificates_takes_no_longer_than_it_may);
    RUN(what_could_not_be_checked_for_work_is_not_taken_for_good);
    RUN(slow_keys_are_not_asked);
    rig_close();
    return check_report();
}
