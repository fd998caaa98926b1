#include "attest/tpm.h"

#include "base/bytes.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

/* ---- reading; TPM integers are big-endian ---- */
static uint64_t read_be(cmif_reader *r, size_t n)
{
    const uint8_t *p     = cmif_read_bytes(r, n);
    uint64_t       value = 0;
    for (size_t i = 0; p && i < n; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static uint16_t read_be16(cmif_reader *r)
{
    return (uint16_t) read_be(r, 2);
}
static uint32_t read_be32(cmif_reader *r)
{
    return (uint32_t) read_be(r, 4);
}

static cmif_tpm_bytes read_2b(cmif_reader *r)
{
    cmif_tpm_bytes b = {.size = read_be16(r)};
    b.data           = cmif_read_bytes(r, b.size);
    if (!b.data) {
        b.size = 0;
    }
    return b;
}

static cmif_code ends(const cmif_reader *r, const char *what, cmif_err *err)
{
    if (r->failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s: ends at byte %zu, inside its field at offset %zu", what, r->size,
                         r->at);
    }
    if (r->at != r->size) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s: expected its end at offset %zu, found %zu more bytes", what, r->at,
                         r->size - r->at);
    }
    return CMIF_OK;
}

static cmif_code read_selections(cmif_reader *r, cmif_tpm_attest *out, cmif_err *err)
{
    uint32_t count = read_be32(r);
    if (count > CMIF_TPM_SELECTIONS_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "TPMS_ATTEST: %u PCR selections, at most %d are possible", count,
                         CMIF_TPM_SELECTIONS_MAX);
    }
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        struct cmif_tpm_selection *selection = &out->selection[i];
        selection->bank                      = read_be16(r);
        uint8_t        size                  = (uint8_t) read_be(r, 1);
        const uint8_t *bitmap                = cmif_read_bytes(r, size);
        for (uint8_t k = 0; bitmap && k < size; k++) {
            if (k >= CMIF_PCRS / 8 && bitmap[k]) {
                return cmif_fail(err, CMIF_E_UNSUPPORTED, "TPMS_ATTEST: it selects a register above PCR %d",
                                 CMIF_PCRS - 1);
            }
            selection->mask |= k < CMIF_PCRS / 8 ? (uint32_t) bitmap[k] << (8 * k) : 0;
        }
    }
    out->selection_count = count;
    return CMIF_OK;
}

cmif_code cmif_tpm_attest_read(const uint8_t *data, size_t size, cmif_tpm_attest *out, cmif_err *err)
{
    cmif_reader     r     = cmif_reader_over(data, size);
    cmif_tpm_attest a     = {0};
    cmif_code       rc    = CMIF_OK;
    uint32_t        magic = read_be32(&r);
    a.type                = read_be16(&r);
    if (!r.failed && magic != 0xff544347) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "TPMS_ATTEST: expected the magic ff544347 at offset 0, found %08x: no TPM made this", magic);
    }
    if (!r.failed && a.type != CMIF_TPM_QUOTE && a.type != CMIF_TPM_CERTIFY) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "TPMS_ATTEST: type 0x%04x; a quote (0x8018) or a certification (0x8017) is read", a.type);
    }
    a.signer        = read_2b(&r);
    a.extra         = read_2b(&r);
    a.clock         = read_be(&r, 8);
    a.reset_count   = read_be32(&r);
    a.restart_count = read_be32(&r);
    uint8_t safe    = (uint8_t) read_be(&r, 1);
    a.safe          = safe == 1;
    a.firmware      = read_be(&r, 8);
    if (!r.failed && safe > 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "TPMS_ATTEST: expected 0 or 1 for `safe`, found %u", safe);
    }
    if (a.type == CMIF_TPM_QUOTE) {
        rc       = read_selections(&r, &a, err);
        a.digest = read_2b(&r);
    } else {
        a.name           = read_2b(&r);
        a.qualified_name = read_2b(&r);
    }
    rc = rc != CMIF_OK ? rc : ends(&r, "TPMS_ATTEST", err);
    if (rc == CMIF_OK) {
        *out = a;
    }
    return rc;
}

/* TPMT_RSA_SCHEME or TPMT_ECC_SCHEME: each scheme names a hash but NULL and RSAES; ECDAA has a count too. */
static void read_scheme(cmif_reader *r, uint16_t *scheme, uint16_t *hash)
{
    enum { RSAES = 0x0015, ECDAA = 0x001a };
    *scheme = read_be16(r);
    *hash   = CMIF_TPM_NULL;
    if (*scheme != CMIF_TPM_NULL && *scheme != RSAES) {
        *hash = read_be16(r);
    }
    if (*scheme == ECDAA) {
        read_be16(r);
    }
}

cmif_code cmif_tpm_public_read(const uint8_t *data, size_t size, cmif_tpm_public *out, cmif_err *err)
{
    cmif_reader     r     = cmif_reader_over(data, size);
    cmif_tpm_public p     = {0};
    uint16_t        first = read_be16(&r);
    if (r.failed || first != size - 2) {
        r = cmif_reader_over(data, size); /* no length in front */
    }
    size_t start          = r.at;
    p.type                = read_be16(&r);
    p.name_alg            = read_be16(&r);
    p.attributes          = read_be32(&r);
    cmif_tpm_bytes policy = read_2b(&r);
    if (!r.failed && p.type != CMIF_TPM_RSA && p.type != CMIF_TPM_ECC) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "TPM public area: type 0x%04x; RSA (0x0001) or ECC (0x0023) is read",
                         p.type);
    }
    const char *hash = cmif_tpm_hash_name(p.name_alg);
    if (!r.failed && (!hash || p.name_alg == CMIF_TPM_SHA1)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "TPM public area: name algorithm 0x%04x; SHA-256, SHA-384 or SHA-512 is read", p.name_alg);
    }
    if (!r.failed && policy.size != 0 && policy.size != cmif_tpm_hash_size(p.name_alg)) {
        return cmif_fail(err, CMIF_E_FORMAT, "TPM public area: an authPolicy of %zu bytes", policy.size);
    }
    p.symmetric = read_be16(&r);
    if (p.symmetric != CMIF_TPM_NULL) {
        p.symmetric_bits = read_be16(&r);
        p.symmetric_mode = read_be16(&r);
    }
    read_scheme(&r, &p.scheme, &p.scheme_hash);
    if (p.type == CMIF_TPM_RSA) {
        p.bits     = read_be16(&r);
        p.exponent = read_be32(&r);
        p.x        = read_2b(&r);
    } else {
        uint16_t kdf, kdf_hash;
        p.curve = read_be16(&r);
        read_scheme(&r, &kdf, &kdf_hash);
        p.x = read_2b(&r);
        p.y = read_2b(&r);
    }
    cmif_code rc = ends(&r, "TPM public area", err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (p.x.size == 0 || p.x.size > CMIF_TPM_KEY_BYTES_MAX || p.y.size > CMIF_TPM_KEY_BYTES_MAX ||
        (p.type == CMIF_TPM_RSA && p.x.size * 8 != p.bits)) {
        return cmif_fail(err, CMIF_E_FORMAT, "TPM public area: a key of %zu bytes where %u bits are announced",
                         p.x.size, p.bits);
    }
    p.name[0]   = (uint8_t) (p.name_alg >> 8);
    p.name[1]   = (uint8_t) p.name_alg;
    p.name_size = 2 + cmif_tpm_hash_size(p.name_alg);
    if (EVP_Digest(data + start, size - start, p.name + 2, NULL, EVP_get_digestbyname(hash), NULL) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "TPM public area: OpenSSL could not hash");
    }
    *out = p;
    return CMIF_OK;
}

cmif_code cmif_tpm_signature_read(const uint8_t *data, size_t size, size_t rsa_size, cmif_tpm_signature *out,
                                  cmif_err *err)
{
    cmif_reader        r = cmif_reader_over(data, size);
    cmif_tpm_signature s = {0};
    if (rsa_size && size == rsa_size) {
        *out = (cmif_tpm_signature){.scheme = CMIF_TPM_RSASSA, .hash = CMIF_TPM_SHA256, .r = {data, size}};
        return CMIF_OK;
    }
    s.scheme = read_be16(&r);
    s.hash   = read_be16(&r);
    if (!r.failed && s.scheme != CMIF_TPM_RSASSA && s.scheme != CMIF_TPM_RSAPSS && s.scheme != CMIF_TPM_ECDSA) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "TPMT_SIGNATURE: scheme 0x%04x; RSASSA, RSAPSS and ECDSA are read",
                         s.scheme);
    }
    if (!r.failed && !cmif_tpm_hash_size(s.hash)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "TPMT_SIGNATURE: hash 0x%04x; SHA-2 is read", s.hash);
    }
    s.r = read_2b(&r);
    if (s.scheme == CMIF_TPM_ECDSA) {
        s.s = read_2b(&r);
    }
    cmif_code rc = ends(&r, "TPMT_SIGNATURE", err);
    if (rc == CMIF_OK) {
        *out = s;
    }
    return rc;
}

/* ---- keys and signatures ---- */
EVP_PKEY *cmif_tpm_public_key(const cmif_tpm_public *public)
{
    static const struct {
        uint16_t    id;
        const char *name;
        size_t      size;
    } curves[]             = {{3, "P-256", 32}, {4, "P-384", 48}};
    EVP_PKEY       *key    = NULL;
    EVP_PKEY_CTX   *ctx    = NULL;
    OSSL_PARAM_BLD *build  = OSSL_PARAM_BLD_new();
    OSSL_PARAM     *params = NULL;
    BIGNUM         *n = NULL, *e = NULL;
    uint8_t         point[1 + 2 * 48] = {POINT_CONVERSION_UNCOMPRESSED};
    if (!build) {
        return NULL;
    }
    if (public->type == CMIF_TPM_RSA) {
        n = BN_bin2bn(public->x.data, (int) public->x.size, NULL);
        e = BN_new();
        if (n && e && public->bits >= 2048 && BN_num_bits(n) == public->bits && BN_is_odd(n) &&
            BN_set_word(e, public->exponent ? public->exponent : 65537) && BN_is_odd(e) && !BN_is_one(e) &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
            OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e)) {
            params = OSSL_PARAM_BLD_to_param(build);
        }
    } else {
        size_t i = 0;
        while (i < sizeof curves / sizeof *curves && curves[i].id != public->curve) {
            i++;
        }
        if (i < sizeof curves / sizeof *curves && public->x.size <= curves[i].size &&
            public->y.size <= curves[i].size) {
            size_t size = curves[i].size; /* coordinates may come without their leading zeros */
            memcpy(point + 1 + size - public->x.size, public->x.data, public->x.size);
            if (public->y.size) {
                memcpy(point + 1 + 2 * size - public->y.size, public->y.data, public->y.size);
            }
            if (OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, curves[i].name, 0) &&
                OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size)) {
                params = OSSL_PARAM_BLD_to_param(build);
            }
        }
    }
    if (params && (ctx = EVP_PKEY_CTX_new_from_name(NULL, public->type == CMIF_TPM_RSA ? "RSA" : "EC", NULL)) != NULL &&
        (EVP_PKEY_fromdata_init(ctx) != 1 || EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    ERR_clear_error();
    return key;
}

/* r and s as DER. OpenSSL refuses zero and what is not below the order of the curve. */
static uint8_t *ecdsa_der(const cmif_tpm_signature *signature, size_t *size)
{
    uint8_t   *der = NULL;
    int        n   = -1;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM    *r   = BN_bin2bn(signature->r.data, (int) signature->r.size, NULL),
           *s      = BN_bin2bn(signature->s.data, (int) signature->s.size, NULL);
    if (sig && r && s && ECDSA_SIG_set0(sig, r, s)) {
        r = s = NULL;
        n     = i2d_ECDSA_SIG(sig, &der);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    *size = n > 0 ? (size_t) n : 0;
    return der;
}

int cmif_tpm_verify(EVP_PKEY *key, const cmif_tpm_signature *signature, const uint8_t *message, size_t size)
{
    bool ecdsa = signature->scheme == CMIF_TPM_ECDSA;
    if (signature->hash == CMIF_TPM_SHA1 || !EVP_PKEY_is_a(key, ecdsa ? "EC" : "RSA") || signature->r.size == 0 ||
        signature->r.size > (size_t) EVP_PKEY_get_size(key) || signature->s.size > (size_t) EVP_PKEY_get_size(key)) {
        return 0;
    }
    int            good = -1;
    uint8_t       *der  = NULL;
    const uint8_t *raw  = signature->r.data;
    size_t         n    = signature->r.size;
    EVP_PKEY_CTX  *pctx = NULL;
    EVP_MD_CTX    *ctx  = EVP_MD_CTX_new();
    const EVP_MD  *md   = EVP_get_digestbyname(cmif_tpm_hash_name(signature->hash));
    if (ecdsa) {
        raw = der = ecdsa_der(signature, &n);
    }
    if (ctx && md && raw && EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key) == 1 &&
        (signature->scheme != CMIF_TPM_RSAPSS || (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
                                                  EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1))) {
        good = EVP_DigestVerify(ctx, raw, n, message, size) == 1;
    }
    OPENSSL_free(der);
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

bool cmif_tpm_is_restricted_signer(uint32_t attributes)
{
    const uint32_t must =
        CMIF_TPMA_FIXED_TPM | CMIF_TPMA_FIXED_PARENT | CMIF_TPMA_ORIGIN | CMIF_TPMA_RESTRICTED | CMIF_TPMA_SIGN;
    return (attributes & (must | CMIF_TPMA_DECRYPT)) == must;
}

/* ---- credential activation ---- */
/* KDFa (Part 1, 11.4.10.2) with HMAC-SHA-256, for at most 256 bits: one round. */
static bool kdfa(const uint8_t key[static 32], const char *label, const uint8_t *context, size_t context_size,
                 uint32_t bits, uint8_t out[static 32])
{
    uint8_t     block[4 + 16 + CMIF_TPM_NAME_MAX + 4];
    cmif_writer w = cmif_writer_over(block, sizeof block);
    cmif_write_bytes(&w, (const uint8_t[]){0, 0, 0, 1}, 4);
    cmif_write_bytes(&w, label, strlen(label) + 1); /* the zero that ends the label is part of it */
    cmif_write_bytes(&w, context, context_size);
    cmif_write_bytes(&w, (const uint8_t[]){0, 0, (uint8_t) (bits >> 8), (uint8_t) bits}, 4);
    return !w.failed && HMAC(EVP_sha256(), key, 32, block, w.at, out, NULL) != NULL;
}

static bool encrypt_seed(EVP_PKEY *ek, const uint8_t seed[static 32], uint8_t *out, size_t *size)
{
    static const char label[] = "IDENTITY"; /* with its zero */
    bool              good    = false;
    EVP_PKEY_CTX     *ctx     = EVP_PKEY_CTX_new(ek, NULL);
    void             *copy    = OPENSSL_memdup(label, sizeof label); /* owned by the context from set0 on */
    if (ctx && copy && EVP_PKEY_encrypt_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) == 1 &&
        EVP_PKEY_CTX_set0_rsa_oaep_label(ctx, copy, (int) sizeof label) == 1) {
        copy = NULL;
        good = EVP_PKEY_encrypt(ctx, out, size, seed, 32) == 1;
    }
    OPENSSL_free(copy);
    EVP_PKEY_CTX_free(ctx);
    return good;
}

static void write_be16(cmif_writer *w, size_t value)
{
    cmif_write_bytes(w, (const uint8_t[]){(uint8_t) (value >> 8), (uint8_t) value}, 2);
}

/* encIdentity = AES-128-CFB(KDFa(seed, "STORAGE", Name), IV 0, TPM2B(secret)); its HMAC over Name too, so that it opens
 * for this Name alone. */
static bool seal_identity(const uint8_t seed[static 32], const cmif_tpm_public *ak, const uint8_t *secret,
                          uint8_t identity[static 2 + CMIF_TPM_SECRET_SIZE], uint8_t mac[static 32])
{
    uint8_t plain[2 + CMIF_TPM_SECRET_SIZE] = {0, CMIF_TPM_SECRET_SIZE}, storage[32], integrity[32],
                      told[sizeof plain + CMIF_TPM_NAME_MAX];
    const uint8_t   iv[16] = {0};
    int             n = 0, last = 0;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    memcpy(plain + 2, secret, CMIF_TPM_SECRET_SIZE);
    bool good = ctx && kdfa(seed, "STORAGE", ak->name, ak->name_size, 128, storage) &&
                kdfa(seed, "INTEGRITY", NULL, 0, 256, integrity) &&
                EVP_EncryptInit_ex(ctx, EVP_aes_128_cfb128(), NULL, storage, iv) == 1 &&
                EVP_EncryptUpdate(ctx, identity, &n, plain, (int) sizeof plain) == 1 &&
                EVP_EncryptFinal_ex(ctx, identity + n, &last) == 1 && n + last == (int) sizeof plain;
    if (good) {
        memcpy(told, identity, sizeof plain);
        memcpy(told + sizeof plain, ak->name, ak->name_size);
        good = HMAC(EVP_sha256(), integrity, 32, told, sizeof plain + ak->name_size, mac, NULL) != NULL;
    }
    EVP_CIPHER_CTX_free(ctx);
    OPENSSL_cleanse(plain, sizeof plain);
    OPENSSL_cleanse(storage, sizeof storage);
    OPENSSL_cleanse(integrity, sizeof integrity);
    return good;
}

cmif_code cmif_tpm_make_credential(const uint8_t *ek, size_t ek_size, const uint8_t *ak, size_t ak_size,
                                   const uint8_t secret[static CMIF_TPM_SECRET_SIZE], const uint8_t *seed,
                                   uint8_t blob[static CMIF_TPM_CREDENTIAL_MAX], size_t *blob_size,
                                   uint8_t name[static 34], cmif_err *err)
{
    enum { AES = 0x0006, CFB = 0x0043 };
    cmif_tpm_public e, a;
    uint8_t         drawn[32], identity[2 + CMIF_TPM_SECRET_SIZE], mac[32], sealed[CMIF_TPM_KEY_BYTES_MAX],
        out[CMIF_TPM_CREDENTIAL_MAX];
    size_t    sealed_size = sizeof sealed;
    EVP_PKEY *key         = NULL;
    cmif_code rc          = cmif_tpm_public_read(ek, ek_size, &e, err);
    if (rc == CMIF_OK) {
        rc = cmif_tpm_public_read(ak, ak_size, &a, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    const uint32_t must =
        CMIF_TPMA_FIXED_TPM | CMIF_TPMA_FIXED_PARENT | CMIF_TPMA_ORIGIN | CMIF_TPMA_RESTRICTED | CMIF_TPMA_DECRYPT;
    if ((e.attributes & (must | CMIF_TPMA_SIGN)) != must) {
        return cmif_fail(err, CMIF_E_TRUST, "credential: attributes 0x%08x are not those of an endorsement key",
                         e.attributes);
    }
    if (!cmif_tpm_is_restricted_signer(a.attributes)) {
        return cmif_fail(err, CMIF_E_TRUST, "credential: attributes 0x%08x are not those of a restricted signing key",
                         a.attributes);
    }
    if (e.type != CMIF_TPM_RSA || e.name_alg != CMIF_TPM_SHA256 || e.symmetric != AES || e.symmetric_bits != 128 ||
        e.symmetric_mode != CFB || a.name_alg != CMIF_TPM_SHA256) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "credential: expected an RSA endorsement key with SHA-256 and AES-128-CFB (template L-1), and "
                         "an AK with SHA-256");
    }
    key = cmif_tpm_public_key(&e);
    if (!key) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "credential: the endorsement key is not an RSA key of 2048 bits or more");
        goto done;
    }
    if (!seed && RAND_bytes(drawn, sizeof drawn) != 1) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "credential: no random bytes");
        goto done;
    }
    if (seed) {
        memcpy(drawn, seed, sizeof drawn);
    }
    if (!seal_identity(drawn, &a, secret, identity, mac) || !encrypt_seed(key, drawn, sealed, &sealed_size)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "credential: OpenSSL could not encrypt");
        goto done;
    }
    cmif_writer w = cmif_writer_over(out, sizeof out);
    cmif_write_bytes(&w, (const uint8_t[]){0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}, 8);
    write_be16(&w, 2 + sizeof mac + sizeof identity);
    write_be16(&w, sizeof mac);
    cmif_write_bytes(&w, mac, sizeof mac);
    cmif_write_bytes(&w, identity, sizeof identity);
    write_be16(&w, sealed_size);
    cmif_write_bytes(&w, sealed, sealed_size);
    if (w.failed) {
        rc =
            cmif_fail(err, CMIF_E_UNSUPPORTED, "credential: an endorsement key of %zu bytes is too large", sealed_size);
        goto done;
    }
    memcpy(blob, out, w.at);
    *blob_size = w.at;
    memcpy(name, a.name, 34);
done:
    EVP_PKEY_free(key);
    OPENSSL_cleanse(drawn, sizeof drawn);
    ERR_clear_error();
    return rc;
}
