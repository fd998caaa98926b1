/* Bundles of evidence, and what binds evidence to a connection. */
#include "evidence/evidence.h"

#include "base/bytes.h"
#include "base/check.h"

#include <stdlib.h>

static const uint8_t wanted[] = {'C', 'M', 'I', 'F', 'E', 'V', '0', '1', 2,   0,   0,   0, /* two items */
                                 7,   0,   0,   0,   3,   0,   0,   0,   'a', 'b', 'c', 16, 0, 0, 0, 1, 0, 0, 0, 'z'};

static void a_bundle_has_the_bytes_that_its_header_tells(void)
{
    cmif_evidence      e = {0};
    cmif_evidence_item items[4];
    size_t             count = 4;
    CHECK(cmif_evidence_put(&e, 7, "abc", 3, NULL) == CMIF_OK && cmif_evidence_put(&e, 16, "z", 1, NULL) == CMIF_OK);
    CHECK(e.size == sizeof wanted && e.count == 2 && !memcmp(e.bytes, wanted, sizeof wanted));
    CHECK(cmif_evidence_read(e.bytes, e.size, items, &count, NULL) == CMIF_OK && count == 2);
    CHECK(items[0].kind == 7 && items[0].size == 3 && items[0].data == e.bytes + 20 && items[1].kind == 16 &&
          items[1].size == 1);
    cmif_evidence_free(&e);
    CHECK(!e.bytes && !e.size && !e.count);
}

static int refused(const uint8_t *bytes, size_t size, const char *why)
{
    cmif_evidence_item items[2];
    size_t             count = 2;
    cmif_err           err   = {0};
    return cmif_evidence_read(bytes, size, items, &count, &err) == CMIF_E_FORMAT && count == 2 && strstr(err.text, why);
}

static void every_shorter_and_longer_bundle_is_refused(void)
{
    uint8_t longer[sizeof wanted + 1] = {0};
    memcpy(longer, wanted, sizeof wanted);
    for (size_t size = 0; size < sizeof wanted; size++) {
        uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees a byte too far */
        memcpy(exact, wanted, size);
        CHECK(refused(exact, size, "evidence: expected"));
        free(exact);
    }
    CHECK(refused(longer, sizeof longer, "expected the end at offset 32, found 1 more"));
}

/* What says what is where: offset, a byte for it, and words of the refusal. */
static void what_is_not_a_bundle_is_refused_with_offset_expected_and_found(void)
{
    static const struct {
        size_t      at;
        uint8_t     byte;
        const char *why;
    } bad[] = {{0, 'c', "'CMIFEV01' at offset 0"},
               {7, '2', "'CMIFEV01' at offset 0"},
               {8, 0, "1 to 2 items at offset 8, found 0"},
               {8, 3, "at offset 8, found 3"},
               {11, 0x80, "at offset 8, found 2147483650"},
               {8, 1, "expected the end at offset 23, found 9 more"},
               {12, 0, "kind of 1 to 16 at offset 12, found 0x00000000"},
               {12, 17, "at offset 12, found 0x00000011"},
               {13, 1, "at offset 12, found 0x00000107"},
               {15, 1, "at offset 12, found 0x01000007"},
               {16, 0, "1 to 12 bytes at offset 16, found a length of 0"},
               {16, 13, "1 to 12 bytes at offset 16, found a length of 13"},
               {19, 0xff, "found a length of 4278190083"},
               {27, 2, "1 to 1 bytes at offset 27, found a length of 2"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t bytes[sizeof wanted];
        memcpy(bytes, wanted, sizeof bytes);
        bytes[bad[i].at] = bad[i].byte;
        CHECK(refused(bytes, sizeof bytes, bad[i].why));
    }
}

static void no_bundle_is_too_large_and_none_has_too_many_items(void)
{
    cmif_evidence e    = {0};
    uint8_t      *much = calloc(1, CMIF_EVIDENCE_SIZE_MAX);
    enum { MOST = CMIF_EVIDENCE_SIZE_MAX - 12 - 8 };
    CHECK(cmif_evidence_put(&e, 1, much, MOST + 1, NULL) == CMIF_E_RANGE &&
          cmif_evidence_put(&e, 1, much, SIZE_MAX - 4, NULL) == CMIF_E_RANGE);
    CHECK(cmif_evidence_put(&e, 0, much, 1, NULL) == CMIF_E_RANGE &&
          cmif_evidence_put(&e, 17, much, 1, NULL) == CMIF_E_RANGE);
    CHECK(cmif_evidence_put(&e, 1, much, 0, NULL) == CMIF_E_RANGE && e.size == 0 && !e.bytes);
    CHECK(cmif_evidence_put(&e, 1, much, MOST, NULL) == CMIF_OK && e.size == CMIF_EVIDENCE_SIZE_MAX);
    CHECK(cmif_evidence_put(&e, 1, much, 1, NULL) == CMIF_E_RANGE && e.count == 1 && e.bytes[8] == 1);
    cmif_evidence_free(&e);
    for (unsigned i = 0; i < CMIF_EVIDENCE_ITEMS_MAX; i++) {
        CHECK(cmif_evidence_put(&e, 1, much, 1, NULL) == CMIF_OK);
    }
    CHECK(cmif_evidence_put(&e, 1, much, 1, NULL) == CMIF_E_RANGE && e.count == CMIF_EVIDENCE_ITEMS_MAX);
    cmif_evidence_free(&e);
    free(much);
}

/* ---- binding: values of Python's hashlib ---- */

static uint8_t      fields[128];
static cmif_binding binding(void)
{
    for (size_t i = 0; i < sizeof fields; i++) {
        fields[i] = (uint8_t) i;
    }
    return (cmif_binding){.role        = 'c',
                          .nonce       = fields,
                          .exporter    = fields + 32,
                          .own_key     = fields + 64,
                          .other_key   = fields + 96,
                          .claims      = "{\"version\":1}",
                          .claims_size = 13};
}

static void a_binding_is_the_hash_that_another_program_computes(void)
{
    const cmif_binding b = binding(), least = {.role = 's', .nonce = fields, .exporter = fields + 32};
    uint8_t            out[64];
    char               text[129];
    CHECK(cmif_binding_hash(&b, out, NULL) == CMIF_OK);
    cmif_hex(out, sizeof out, text);
    CHECK(!strcmp(text, "b1b8bf5a7da500cdb8a98010688aba7972e26f3ffabcb873be5a533c301e0fd90a647220188b19d9aa569b3438a812"
                        "e34ddab7ca5798f1958ff119e56d4100e0"));
    CHECK(cmif_binding_hash(&least, out, NULL) == CMIF_OK);
    cmif_hex(out, sizeof out, text);
    CHECK(!strcmp(text, "eb4923f057f2eb673d8641c7decae093d0f54a38ebd37eeed2c7dc1c01580558533eb140996bf999f719cc04774c9e"
                        "7c33a1ba6c4c606325ec0223cadd08a5c1"));
}

static void a_change_of_any_field_changes_a_binding(void)
{
    uint8_t            hashes[8][64];
    const cmif_binding b    = binding();
    cmif_binding       c[8] = {b, b, b, b, b, b, b, b};
    c[1].role               = 's';
    c[2].nonce              = fields + 1;
    c[3].exporter           = fields + 1;
    c[4].own_key            = fields + 96; /* keys the other way round: shown back to who made it */
    c[4].other_key          = fields + 64;
    c[5].own_key            = NULL;
    c[6].other_key          = NULL;
    c[7].claims_size        = 12;
    for (size_t i = 0; i < 8; i++) {
        CHECK(cmif_binding_hash(&c[i], hashes[i], NULL) == CMIF_OK);
        for (size_t k = 0; k < i; k++) {
            CHECK(memcmp(hashes[i], hashes[k], 64) != 0);
        }
    }
}

static void a_binding_without_role_nonce_or_exporter_is_refused(void)
{
    uint8_t      out[64] = {7};
    cmif_binding b       = binding();
    b.role               = 0;
    CHECK(cmif_binding_hash(&b, out, NULL) == CMIF_E_RANGE);
    b       = binding();
    b.nonce = NULL;
    CHECK(cmif_binding_hash(&b, out, NULL) == CMIF_E_RANGE);
    b          = binding();
    b.exporter = NULL;
    CHECK(cmif_binding_hash(&b, out, NULL) == CMIF_E_RANGE && out[0] == 7);
}

/* ---- proofs: claims and evidence in one piece ---- */

static const cmif_claims claims = {.program = "cmif-server 0.1.0", .model_id = {1, 2, 3}, .policy_hash = {[31] = 9}};
enum { CLAIMS_SIZE = 8 + 1 + 17 + 64, FIRST_BYTE_OF_PROGRAM = 4 + 9, BUNDLE_AT = 4 + CLAIMS_SIZE };

/* Freed by the caller; NULL: this build has no simulator. */
static uint8_t *proof_of(const cmif_claims *what, size_t *size)
{
    const cmif_maker_options o     = {.kind = CMIF_MAKER_SIM, .insecure = 1};
    const cmif_binding       b     = binding(); /* with claims that are not ours */
    cmif_maker              *maker = NULL;
    uint8_t                 *bytes = NULL;
    if (cmif_maker_open(&o, &maker, NULL) == CMIF_OK) {
        CHECK(cmif_proof_make(maker, what, &b, &bytes, size, NULL) == CMIF_OK);
    }
    cmif_maker_free(maker);
    return bytes;
}

static void a_proof_has_the_bytes_that_its_header_tells(void)
{
    static const uint8_t begins[] = {CLAIMS_SIZE, 0, 0, 0, 'C', 'M', 'I', 'F', 'C', 'L', '0', '1', 17, 'c', 'm', 'i'};
    size_t               size = 0, count = 1;
    cmif_evidence_item   item = {0};
    cmif_proof           p    = {.bundle = NULL};
    uint8_t              hash[64], *bytes = proof_of(&claims, &size);
    cmif_binding         b = binding();
    CHECK(bytes && !memcmp(bytes, begins, sizeof begins) && !memcmp(bytes + 30, claims.model_id, 32) &&
          !memcmp(bytes + 62, claims.policy_hash, 32));
    CHECK(cmif_proof_read(bytes, size, &p, NULL) == CMIF_OK && !memcmp(&p.claims, &claims, sizeof claims));
    CHECK(p.claims_bytes == bytes + 4 && p.claims_size == CLAIMS_SIZE && p.bundle == bytes + BUNDLE_AT &&
          p.bundle_size == size - BUNDLE_AT);
    b.claims      = p.claims_bytes;
    b.claims_size = p.claims_size;
    CHECK(cmif_binding_hash(&b, hash, NULL) == CMIF_OK);
    CHECK(cmif_evidence_read(p.bundle, p.bundle_size, &item, &count, NULL) == CMIF_OK && count == 1 &&
          item.kind == CMIF_EVIDENCE_SIM && item.size > 108 && !memcmp(item.data + 44, hash, 64));
    free(bytes);
}

static int no_proof(const uint8_t *bytes, size_t size, const char *why)
{
    cmif_proof p   = {.bundle_size = 7};
    cmif_err   err = {0};
    return cmif_proof_read(bytes, size, &p, &err) == CMIF_E_FORMAT && p.bundle_size == 7 && strstr(err.text, why);
}

static void what_is_not_a_proof_is_refused_with_offset_expected_and_found(void)
{
    static const struct {
        size_t      at;
        uint8_t     byte;
        const char *why;
    } bad[]        = {{0, 73, "74 to 136 bytes of claims at offset 0, found a size of 73"},
                      {0, 137, "found a size of 137"},
                      {3, 0x80, "found a size of 21474837"},
                      {0, CLAIMS_SIZE + 1, "name of 18 bytes at offset 12, found 17"},
                      {4, 'c', "'CMIFCL01' at offset 4"},
                      {11, '2', "'CMIFCL01' at offset 4"},
                      {12, 16, "name of 17 bytes at offset 12, found 16"},
                      {12, 255, "name of 17 bytes at offset 12, found 255"},
                      {FIRST_BYTE_OF_PROGRAM, 0, "printable ASCII at offset 13, found byte 0x00"},
                      {FIRST_BYTE_OF_PROGRAM + 16, 0x7f, "printable ASCII at offset 29, found byte 0x7f"},
                      {FIRST_BYTE_OF_PROGRAM, 0x1b, "0x1b"},
                      {FIRST_BYTE_OF_PROGRAM, 0xc3, "0xc3"}};
    size_t   size  = 0;
    uint8_t *bytes = proof_of(&claims, &size);
    for (size_t i = 0; bytes && i < sizeof bad / sizeof *bad; i++) {
        const uint8_t was = bytes[bad[i].at];
        bytes[bad[i].at]  = bad[i].byte;
        CHECK(no_proof(bytes, size, bad[i].why));
        bytes[bad[i].at] = was;
    }
    for (size_t shorter = 0; bytes && shorter <= BUNDLE_AT; shorter++) {
        uint8_t *exact = malloc(shorter ? shorter : 1);
        memcpy(exact, bytes, shorter);
        CHECK(no_proof(exact, shorter, "proof: expected"));
        free(exact);
    }
    uint8_t *much = bytes ? realloc(bytes, BUNDLE_AT + CMIF_EVIDENCE_SIZE_MAX + 1) : NULL;
    if (much) {
        cmif_proof p;
        CHECK(cmif_proof_read(much, BUNDLE_AT + CMIF_EVIDENCE_SIZE_MAX, &p, NULL) == CMIF_OK);
        CHECK(no_proof(much, BUNDLE_AT + CMIF_EVIDENCE_SIZE_MAX + 1, "1 to 1048576 bytes of evidence at offset 94"));
    }
    free(much);
}

static void claims_that_would_not_be_read_are_not_made(void)
{
    const cmif_maker_options o     = {.kind = CMIF_MAKER_SIM, .insecure = 1};
    const cmif_binding       b     = binding();
    cmif_binding             none  = b;
    cmif_maker              *maker = NULL;
    uint8_t                 *bytes = NULL;
    size_t                   size  = 7;
    cmif_claims              c     = {.program = ""};
    CHECK(cmif_maker_open(&o, &maker, NULL) == CMIF_OK);
    CHECK(cmif_proof_make(maker, &c, &b, &bytes, &size, NULL) == CMIF_E_RANGE);
    c.program[0] = '\n';
    CHECK(cmif_proof_make(maker, &c, &b, &bytes, &size, NULL) == CMIF_E_RANGE);
    memset(c.program, 'a', sizeof c.program);
    CHECK(cmif_proof_make(maker, &c, &b, &bytes, &size, NULL) == CMIF_E_RANGE);
    none.nonce = NULL;
    CHECK(cmif_proof_make(maker, &claims, &none, &bytes, &size, NULL) == CMIF_E_RANGE && !bytes && size == 7);
    c.program[63] = '\0';
    CHECK(cmif_proof_make(maker, &c, &b, &bytes, &size, NULL) == CMIF_OK);
    cmif_proof p;
    CHECK(bytes && cmif_proof_read(bytes, size, &p, NULL) == CMIF_OK && !strcmp(p.claims.program, c.program));
    free(bytes);
    cmif_maker_free(maker);
}

int main(void)
{
    RUN(a_bundle_has_the_bytes_that_its_header_tells);
    RUN(every_shorter_and_longer_bundle_is_refused);
    RUN(what_is_not_a_bundle_is_refused_with_offset_expected_and_found);
    RUN(no_bundle_is_too_large_and_none_has_too_many_items);
    RUN(a_binding_is_the_hash_that_another_program_computes);
    RUN(a_change_of_any_field_changes_a_binding);
    RUN(a_binding_without_role_nonce_or_exporter_is_refused);
    size_t   size;
    uint8_t *any = proof_of(&claims, &size);
    free(any);
    if (any) {
        RUN(a_proof_has_the_bytes_that_its_header_tells);
        RUN(what_is_not_a_proof_is_refused_with_offset_expected_and_found);
        RUN(claims_that_would_not_be_read_are_not_made);
    } else {
        printf("proofs skipped: this build has no simulator to make them with\n");
    }
    return check_report();
}
