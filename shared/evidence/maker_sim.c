/* INSECURE: evidence that proves nothing, for trying things out where there is no such hardware. Its key is printed
 * below; whoever reads this can sign with it. trusted/attest/sim.c reads it, and only under a policy that says `accept
 * sim` and `loosen simulator`. */
#include "evidence/maker.h"

#include "base/bytes.h"

#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>

#ifdef CMIF_SIMULATOR

static const uint8_t root_key[] = {
    /* ECPrivateKey, P-256 */
    0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20, 0x44, 0xc4, 0x6e, 0xba, 0x7a, 0x6c, 0xdf, 0x4d, 0x94, 0x38, 0x11,
    0xbe, 0x7d, 0x60, 0x9c, 0xd0, 0x20, 0xe4, 0x7d, 0x39, 0xa6, 0xce, 0xc8, 0xba, 0x05, 0xc1, 0x40, 0x0c, 0x2d,
    0x9c, 0xc0, 0xef, 0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0xa1, 0x44, 0x03,
    0x42, 0x00, 0x04, 0x74, 0x9f, 0x99, 0xff, 0xbe, 0xce, 0xa3, 0x48, 0x6b, 0xd9, 0x16, 0x71, 0xba, 0x25, 0x25,
    0x97, 0xd9, 0xca, 0x8a, 0x3d, 0xbd, 0x41, 0xfa, 0x94, 0xd2, 0x75, 0xb1, 0x7d, 0x8a, 0xf6, 0x6a, 0xda, 0x50,
    0xf6, 0xe5, 0x7c, 0x8b, 0x38, 0x40, 0xbf, 0xe1, 0x88, 0xd9, 0x39, 0x11, 0x4c, 0x2b, 0x08, 0x6a, 0x9d, 0x63,
    0xd3, 0xaa, 0x1d, 0x17, 0xc0, 0xfc, 0x05, 0x2f, 0xc0, 0x23, 0xf1, 0x58, 0xe2,
};

cmif_code cmif_sim_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err)
{
    if (!options->insecure) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "the simulator's evidence is INSECURE, it proves nothing: ask for that by its own flag if you mean it");
    }
    if (options->identity && (strlen(options->identity) != 2 * sizeof maker->identity ||
                              !cmif_unhex(options->identity, sizeof maker->identity, maker->identity))) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "the simulator's identity: expected %zu hexadecimal digits in lower case, found %zu characters",
            2 * sizeof maker->identity, strlen(options->identity));
    }
    fprintf(stderr, "INSECURE: simulated evidence. It proves nothing about this machine; never show it to anyone who "
                    "relies on it.\n");
    return CMIF_OK;
}

static bool sign(const uint8_t *message, size_t size, uint8_t out[static 64])
{
    const unsigned char *at = root_key, *sig_at;
    uint8_t              der[80];
    size_t               der_size = sizeof der;
    EVP_PKEY            *key      = d2i_PrivateKey(EVP_PKEY_EC, NULL, &at, sizeof root_key);
    EVP_MD_CTX          *ctx      = EVP_MD_CTX_new();
    ECDSA_SIG           *s        = NULL;
    bool                 good     = key && ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestSign(ctx, der, &der_size, message, size) == 1;
    sig_at = der;
    s      = good ? d2i_ECDSA_SIG(NULL, &sig_at, (long) der_size) : NULL;
    good =
        s && BN_bn2binpad(ECDSA_SIG_get0_r(s), out, 32) == 32 && BN_bn2binpad(ECDSA_SIG_get0_s(s), out + 32, 32) == 32;
    ECDSA_SIG_free(s);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return good;
}

cmif_code cmif_sim_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    uint8_t     body[8 + 4 + 32 + CMIF_REPORT_DATA_SIZE + 64];
    cmif_writer w = cmif_writer_over(body, sizeof body);
    cmif_write_bytes(&w, "CMIFSIM1", 8);
    cmif_write_u32(&w, 1);
    cmif_write_bytes(&w, maker->identity, sizeof maker->identity);
    cmif_write_bytes(&w, report_data, CMIF_REPORT_DATA_SIZE);
    return sign(body, w.at, body + w.at) ? cmif_evidence_put(out, CMIF_EVIDENCE_SIM, body, sizeof body, err)
                                         : cmif_fail(err, CMIF_E_MEMORY, "simulator: OpenSSL could not sign");
}

#else

static cmif_code absent(cmif_err *err)
{
    return cmif_fail(
        err, CMIF_E_UNSUPPORTED,
        "the simulator is not in this build (cmake -DCMIF_SIMULATOR=ON), and its evidence would prove nothing");
}

cmif_code cmif_sim_open(cmif_maker *maker, const cmif_maker_options *options, cmif_err *err)
{
    (void) maker, (void) options;
    return absent(err);
}

cmif_code cmif_sim_make(cmif_maker *maker, const uint8_t *report_data, cmif_evidence *out, cmif_err *err)
{
    (void) maker, (void) report_data, (void) out;
    return absent(err);
}

#endif
