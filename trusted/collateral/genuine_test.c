/* genuine_test - what is added is its maker's or is refused, and what cannot be told neither displaces nor bars what
 * can: an Intel of our own is pinned. */
#define _GNU_SOURCE /* mkdtemp */
#include "attest/dcap_rig.h"
#include "base/check.h"
#include "collateral/store.h"

#include <unistd.h>

/* These come before those of the library. */
static char            pinned[8192];
const cmif_pinned_root cmif_pinned_roots[]    = {{CMIF_ROOT_INTEL, "Intel", NULL, pinned}};
const size_t           cmif_pinned_root_count = 1;
static world           w;
static char            folder[] = "/tmp/cmif-genuine-XXXXXX", path[64];
static cmif_store     *store;
static cmif_kept       kept;
static cmif_store_done done;
static cmif_err        err;

/* A world whose root is pinned, and a store with nothing in it. */
static void begin(void)
{
    cmif_store_free(store);
    store = NULL;
    (void) unlink(path);
    world_new(&w, 4, 2);
    X509  *root  = rig_make_certificate(&w, RIG_ROOT);
    size_t size  = rig_pem(root, NULL, (uint8_t *) pinned, sizeof pinned - 1);
    pinned[size] = 0;
    X509_free(root);
    CHECK(cmif_store_open(path, true, &store, NULL) == CMIF_OK);
}

static cmif_code add(cmif_item_kind kind, const uint8_t *data, size_t size)
{
    const cmif_item item = {kind, data, size};
    err                  = (cmif_err){0};
    return cmif_store_add(store, &item, 1, &kept, &done, &err);
}

static cmif_code add_certificate(int which)
{
    uint8_t  *der  = NULL;
    X509     *c    = rig_make_certificate(&w, which);
    int       size = i2d_X509(c, &der);
    cmif_code rc   = add(CMIF_ITEM_CERTIFICATES, der, (size_t) size);
    OPENSSL_free(der);
    X509_free(c);
    return rc;
}

static cmif_code add_crl(int which)
{
    uint8_t  *der  = NULL;
    X509_CRL *c    = rig_make_crl(&w, which);
    int       size = i2d_X509_CRL(c, &der);
    cmif_code rc   = add(CMIF_ITEM_CRL, der, (size_t) size);
    OPENSSL_free(der);
    X509_CRL_free(c);
    return rc;
}

/* The TCB info of the world as it is now. */
static cmif_code add_info(void)
{
    world_make(&w);
    return add(CMIF_ITEM_TCB_INFO, w.items[1].data, w.items[1].size);
}

static bool take_numbers(void *context, const cmif_kept *one, const cmif_item *item)
{
    char *text = context;
    (void) item;
    snprintf(text + strlen(text), 256 - strlen(text), "%s%s %d", *text ? ", " : "", one->about,
             one->kind == CMIF_ITEM_CRL ? (int) ((RIG_TIME - one->starts) / 3600) : (int) one->number);
    return true;
}

/* What is kept: names with numbers, of CRLs how many hours old. */
static bool holds(const char *want)
{
    char text[256] = "";
    CHECK(cmif_store_all(store, take_numbers, text, NULL) == CMIF_OK);
    if (strcmp(text, want) != 0) {
        fprintf(stderr, "  kept: %s\n", text);
    }
    return !strcmp(text, want);
}

static void forged_collateral_that_calls_itself_newer_is_refused(void)
{
    begin();
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(add_info() == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":99");
    w.signed_by[RIG_INFO] = RIG_STRANGER;
    CHECK(add_info() == CMIF_E_TRUST && strstr(err.text, "not signed by whom it names"));
    world_edit(&w, RIG_INFO, "DataNumber\":99", "DataNumber\":18");
    w.signed_by[RIG_INFO] = RIG_SIGNING;
    CHECK(add_info() == CMIF_OK && done == CMIF_STORE_REPLACED);
    CHECK(holds("TDX 00a0b0c0d0e0 18, Intel SGX TCB Signing 0"));
}

/* The forged one was here first, when nobody could tell. */
static void what_could_not_be_checked_bars_nothing(void)
{
    begin();
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":99");
    w.signed_by[RIG_INFO] = RIG_STRANGER;
    CHECK(add_info() == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN);
    world_edit(&w, RIG_INFO, "DataNumber\":99", "DataNumber\":17");
    w.signed_by[RIG_INFO] = RIG_SIGNING;
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK);
    CHECK(add_info() == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(holds("TDX 00a0b0c0d0e0 17, Intel SGX TCB Signing 0")); /* now it is known for what it is */
}

/* A list in the issuer's name as people read it, and in nobody's as it is written. */
static cmif_code add_list_of_a_stranger(int64_t from)
{
    uint8_t   *der  = NULL;
    X509_NAME *name = X509_NAME_new();
    ASN1_TIME *when = ASN1_TIME_set(NULL, from);
    X509_CRL  *c    = rig_make_crl(&w, RIG_ROOT_CRL);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *) "Intel SGX Root CA", -1, -1, 0) &&
          X509_CRL_set_issuer_name(c, name) && X509_CRL_set1_lastUpdate(c, when) &&
          X509_CRL_sign(c, rig_keys[RIG_STRANGER], EVP_sha256()));
    int       size = i2d_X509_CRL(c, &der);
    cmif_code rc   = add(CMIF_ITEM_CRL, der, (size_t) size);
    OPENSSL_free(der);
    X509_CRL_free(c);
    X509_NAME_free(name);
    ASN1_TIME_free(when);
    return rc;
}

static void what_cannot_be_checked_stays_beside_what_was(void)
{
    begin();
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(add_list_of_a_stranger(RIG_TIME - 7200) == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN &&
          done == CMIF_STORE_ADDED);
    CHECK(holds("Intel SGX Root CA 24, Intel SGX Root CA 2"));
    CHECK(add_list_of_a_stranger(RIG_TIME - 86400 * 2) == CMIF_E_TRUST);
    w.crls[RIG_ROOT_CRL].from = RIG_TIME - 3600 * 5; /* older than the stranger's, newer than its own */
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(holds("Intel SGX Root CA 5, Intel SGX Root CA 2"));
    w.crls[RIG_ROOT_CRL].from = RIG_TIME - 3600;
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_OK && holds("Intel SGX Root CA 1"));
}

static void lists_are_of_who_issued_them(void)
{
    begin();
    w.crls[RIG_ROOT_CRL].signed_by = RIG_STRANGER;
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_E_TRUST);
    w.crls[RIG_ROOT_CRL].signed_by = -1;
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_OK);
    w.crls[RIG_ROOT_CRL].from -= 3600;
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_E_TRUST && strstr(err.text, "is here already"));
    CHECK(add_crl(RIG_PCK_CRL) == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN); /* its CA is not here */
    begin();                                                                        /* two CAs of one name */
    CHECK(add_certificate(RIG_CA) == CMIF_OK && add_crl(RIG_PCK_CRL) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    w.certificates[RIG_CA].key = RIG_STRANGER;
    w.crls[RIG_PCK_CRL].from -= 3600;
    CHECK(add_certificate(RIG_CA) == CMIF_OK && add_crl(RIG_PCK_CRL) == CMIF_OK && done == CMIF_STORE_ADDED);
    CHECK(holds("Intel SGX PCK Platform CA 0, Intel SGX PCK Platform CA 0, Intel SGX PCK Platform CA 25, "
                "Intel SGX PCK Platform CA 24"));
}

static void a_certificate_is_of_the_issuer_that_it_names(void)
{
    begin();
    CHECK(add_certificate(RIG_PCK) == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN);
    CHECK(add_certificate(RIG_CA) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(add_certificate(RIG_PCK) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES); /* now that its issuer is here */
    w.certificates[RIG_PCK].signed_by = RIG_STRANGER;
    CHECK(add_certificate(RIG_PCK) == CMIF_E_TRUST);
    w.certificates[RIG_SIGNING].signed_by = RIG_STRANGER;
    CHECK(add_certificate(RIG_SIGNING) == CMIF_E_TRUST);
    w.certificates[RIG_SIGNING].signed_by = RIG_PCK; /* who issues nothing */
    w.certificates[RIG_SIGNING].issuer    = RIG_PCK;
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN);
    CHECK(add_info() == CMIF_OK && kept.genuine == CMIF_GENUINE_UNKNOWN);
    CHECK(holds(
        "TDX 00a0b0c0d0e0 17, Intel SGX PCK Certificate 0, Intel SGX PCK Certificate 0, Intel SGX PCK Platform CA 0, "
        "Intel SGX TCB Signing 0"));
}

static void what_a_revoked_key_has_signed_is_refused(void)
{
    begin();
    w.crls[RIG_ROOT_CRL].revoked[0] = w.certificates[RIG_SIGNING].serial;
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK && add_crl(RIG_ROOT_CRL) == CMIF_OK);
    CHECK(add_info() == CMIF_E_TRUST);
}

/* Of the lists, by who issued them. */
static void what_was_believed_bars_what_is_older(void)
{
    cmif_seen_crl seen = {.update = RIG_TIME - 3600}, *list = NULL;
    unsigned      size  = 0;
    size_t        count = 0;
    char          name[96];
    X509         *root = NULL;
    begin();
    root = rig_make_certificate(&w, RIG_ROOT);
    CHECK(X509_pubkey_digest(root, EVP_sha256(), seen.issuer, &size) == 1);
    X509_free(root);
    cmif_store_crl_name(seen.issuer, name);
    CHECK(cmif_store_saw(store, name, 0, RIG_TIME - 7200, NULL) == CMIF_OK);
    CHECK(cmif_store_saw(store, name, 0, seen.update, NULL) == CMIF_OK);
    CHECK(cmif_store_saw(store, "tcb TDX 000000000000", 1, 1, NULL) == CMIF_OK);
    CHECK(cmif_store_seen_crls(store, RIG_TIME, &list, &count, NULL) == CMIF_OK && count == 1 &&
          !memcmp(list, &seen, sizeof seen));
    free(list);
    CHECK(cmif_store_seen_crls(store, RIG_TIME - 5000, &list, &count, NULL) == CMIF_OK && count == 1 &&
          list->update == RIG_TIME - 7200);
    free(list);
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_E_TRUST && strstr(err.text, "was believed before"));
    w.crls[RIG_ROOT_CRL].from = RIG_TIME - 3600;
    CHECK(add_crl(RIG_ROOT_CRL) == CMIF_OK);
}

static void what_is_removed_is_gone_but_not_forgotten(void)
{
    char   text[256] = "";
    size_t count     = 9;
    begin();
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK && add_info() == CMIF_OK && add_crl(RIG_ROOT_CRL) == CMIF_OK);
    CHECK(cmif_store_saw(store, "tcb TDX 00a0b0c0d0e0", 17, 1748736000, NULL) == CMIF_OK);
    CHECK(cmif_store_remove(store, "TDX", NULL, NULL, &count, NULL) == CMIF_OK && count == 0);
    CHECK(cmif_store_remove(store, "TDX 00a0b0c0d0e0", take_numbers, text, &count, NULL) == CMIF_OK && count == 1 &&
          !strcmp(text, "TDX 00a0b0c0d0e0 17"));
    CHECK(holds("Intel SGX TCB Signing 0, Intel SGX Root CA 24"));
    world_edit(&w, RIG_INFO, "DataNumber\":17", "DataNumber\":16");
    CHECK(add_info() == CMIF_E_TRUST && strstr(err.text, "was believed before"));
    CHECK(cmif_store_remove(store, NULL, NULL, NULL, &count, NULL) == CMIF_OK && count == 2 && holds(""));
}

/* Junk of nobody finds an end, and leaves room for the rest. */
static void what_cannot_be_checked_does_not_fill_the_store(void)
{
    size_t kept_count = 0;
    begin();
    w.certificates[RIG_SIGNING].issuer = RIG_SIGNING;
    for (long i = 0; i < 40; i++) {
        w.certificates[RIG_SIGNING].serial = 100 + i;
        const cmif_code rc                 = add_certificate(RIG_SIGNING);
        CHECK(rc == CMIF_OK || (rc == CMIF_E_RANGE && strstr(err.text, "collateral remove")));
        kept_count += rc == CMIF_OK;
    }
    CHECK(kept_count == 32);
    w.certificates[RIG_SIGNING].issuer = RIG_ROOT;
    CHECK(add_certificate(RIG_SIGNING) == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
    CHECK(add_info() == CMIF_OK && kept.genuine == CMIF_GENUINE_YES);
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/collateral.db", folder);
    rig_open();
    RUN(forged_collateral_that_calls_itself_newer_is_refused);
    RUN(what_could_not_be_checked_bars_nothing);
    RUN(what_cannot_be_checked_stays_beside_what_was);
    RUN(lists_are_of_who_issued_them);
    RUN(a_certificate_is_of_the_issuer_that_it_names);
    RUN(what_a_revoked_key_has_signed_is_refused);
    RUN(what_was_believed_bars_what_is_older);
    RUN(what_is_removed_is_gone_but_not_forgotten);
    RUN(what_cannot_be_checked_does_not_fill_the_store);
    cmif_store_free(store);
    (void) unlink(path);
    (void) rmdir(folder);
    rig_close();
    return check_report();
}
