#include "evidence/evidence.h"

#include "base/bytes.h"

static const uint8_t magic[8] = {'C', 'M', 'I', 'F', 'C', 'L', '0', '1'};

cmif_code cmif_proof_read(const void *bytes, size_t size, cmif_proof *out, cmif_err *err)
{
    enum { FIXED = sizeof magic + 1 + sizeof out->claims.model_id + sizeof out->claims.policy_hash };
    cmif_proof     proof       = {0};
    cmif_reader    r           = cmif_reader_over(bytes, size);
    const uint32_t claims_size = cmif_read_u32(&r);
    const size_t   claims_at   = r.at;
    if (r.failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "proof: expected the size of its claims at offset 0, found %zu bytes",
                         size);
    }
    if (claims_size <= FIXED || claims_size >= FIXED + sizeof proof.claims.program || claims_size > size - claims_at) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "proof: expected %d to %zu bytes of claims at offset 0, found a size of %u before %zu bytes",
                         FIXED + 1, FIXED + sizeof proof.claims.program - 1, claims_size, size - claims_at);
    }
    proof.claims_size       = claims_size;
    proof.claims_bytes      = (const uint8_t *) bytes + claims_at;
    const uint8_t *begin    = cmif_read_bytes(&r, sizeof magic);
    const size_t   program  = cmif_read_u8(&r);
    const size_t   expected = claims_size - FIXED;
    if (memcmp(begin, magic, sizeof magic) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "proof: expected 'CMIFCL01' at offset %zu, found something else",
                         claims_at);
    }
    if (program != expected) {
        return cmif_fail(err, CMIF_E_FORMAT, "proof: expected a program's name of %zu bytes at offset %zu, found %zu",
                         expected, claims_at + sizeof magic, program);
    }
    for (size_t i = 0; i < program; i++) {
        const uint8_t c = cmif_read_u8(&r);
        if (c < ' ' || c > '~') {
            return cmif_fail(err, CMIF_E_FORMAT, "proof: expected printable ASCII at offset %zu, found byte 0x%02x",
                             r.at - 1, c);
        }
        proof.claims.program[i] = (char) c;
    }
    memcpy(proof.claims.model_id, cmif_read_bytes(&r, 32), 32); /* inside the claims, by their size */
    memcpy(proof.claims.policy_hash, cmif_read_bytes(&r, 32), 32);
    proof.bundle      = (const uint8_t *) bytes + r.at;
    proof.bundle_size = size - r.at;
    if (proof.bundle_size == 0 || proof.bundle_size > CMIF_EVIDENCE_SIZE_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "proof: expected 1 to %d bytes of evidence at offset %zu, found %zu",
                         CMIF_EVIDENCE_SIZE_MAX, r.at, proof.bundle_size);
    }
    *out = proof;
    return CMIF_OK;
}
