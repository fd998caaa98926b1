/* sim - INSECURE: the simulator's evidence, which proves nothing and says so. In the verifier only where CMIF_SIMULATOR
 * is on; an item kind of its own, that no field of other evidence leads to; accepted only under `accept sim` with
 * `loosen simulator`. Its root is this one key, whose other half is in the open (shared/evidence/maker_sim.c).
 *
 * Layout  "CMIFSIM1", u32 version 1 (little-endian), measurement 32, report data 64, ECDSA P-256 over the SHA-256 of
 * all that: r || s. */
#include "attest/part.h"
#include "attest/x509.h"
#include "base/bytes.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>

static const uint8_t root_point[64] = {
    0x74, 0x9f, 0x99, 0xff, 0xbe, 0xce, 0xa3, 0x48, 0x6b, 0xd9, 0x16, 0x71, 0xba, 0x25, 0x25, 0x97,
    0xd9, 0xca, 0x8a, 0x3d, 0xbd, 0x41, 0xfa, 0x94, 0xd2, 0x75, 0xb1, 0x7d, 0x8a, 0xf6, 0x6a, 0xda,
    0x50, 0xf6, 0xe5, 0x7c, 0x8b, 0x38, 0x40, 0xbf, 0xe1, 0x88, 0xd9, 0x39, 0x11, 0x4c, 0x2b, 0x08,
    0x6a, 0x9d, 0x63, 0xd3, 0xaa, 0x1d, 0x17, 0xc0, 0xfc, 0x05, 0x2f, 0xc0, 0x23, 0xf1, 0x58, 0xe2,
};

/* The last word on any simulator evidence, whatever else was found. */
static void shout(cmif_verdict *v)
{
    char what[sizeof v->sentence.text] = "";
    if (v->sentence.text[0]) {
        snprintf(what, sizeof what, "%s", v->sentence.text);
    } else if (v->reason_count) {
        snprintf(what, sizeof what, "refused: %s", v->reasons[0]);
    }
    if (v->loosened_count < CMIF_LOOSENED_MAX) {
        snprintf(v->loosened[v->loosened_count++], CMIF_LOOSENED_SIZE, "INSECURE");
    }
    cmif_err_set(&v->sentence, CMIF_E_TRUST, CMIF_WHERE(__FILE__, __LINE__),
                 "INSECURE: a simulator, which proves nothing%s%.180s", what[0] ? "; " : "", what);
}

static bool check(cmif_attest_call *call, const cmif_item *item)
{
    cmif_verdict  *v           = call->verdict;
    cmif_reader    r           = cmif_reader_over(item->data, item->size);
    const uint8_t *magic       = cmif_read_bytes(&r, 8);
    uint32_t       version     = cmif_read_u32(&r);
    const uint8_t *measurement = cmif_read_bytes(&r, 32), *report_data = cmif_read_bytes(&r, 64);
    const size_t   signed_size = r.at;
    const uint8_t *signature   = cmif_read_bytes(&r, 64);
    if (r.failed || r.at != r.size || memcmp(magic, "CMIFSIM1", 8) != 0) {
        cmif_verdict_worse(v, CMIF_MALFORMED, CMIF_E_FORMAT, "expected 172 bytes that begin with 'CMIFSIM1', found %zu",
                           item->size);
        cmif_verdict_invalid(v, "sim-format");
        return false;
    }
    if (version != 1) {
        cmif_verdict_worse(v, CMIF_UNSUPPORTED, CMIF_E_UNSUPPORTED, "version %u at offset 8, version 1 is known",
                           version);
        cmif_verdict_invalid(v, "sim-format");
        return false;
    }
    EVP_PKEY *key  = cmif_p256_key(root_point);
    int       good = key ? cmif_ecdsa_verify(key, signature, 64, item->data, signed_size) : -1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (good < 0) {
        cmif_verdict_worse(v, CMIF_ATTEST_INTERNAL, CMIF_E_MEMORY, "OpenSSL has no memory");
    }
    if (good != 1) {
        cmif_verdict_invalid(v, "sim-signature");
    }
    cmif_verdict_hex(v, "measurement", measurement, 32);
    cmif_verdict_hex(v, "report_data", report_data, 64);
    cmif_call_measured(call, CMIF_TEE_SIM);
    cmif_call_report_data(call, report_data);
    return true;
}

void cmif_sim_check(cmif_attest_call *call)
{
    cmif_verdict    *v    = call->verdict;
    const cmif_item *item = cmif_call_one(call, CMIF_ITEM_SIM);
    v->tee                = CMIF_TEE_SIM;
    if (!call->policy->loosened.simulator) {
        cmif_verdict_reason(v, "simulator");
    }
    call->proved = item && check(call, item);
    shout(v);
}
