/* pcr - values of Platform Configuration Registers, as they come beside a TPM quote. Worth nothing until their hash is the quote's pcrDigest.
 *
 * Forms that are read, told apart by their bytes:
 *   serialized  tpm2_quote -F serialized: TPML_PCR_SELECTION as the C struct (u32 count, 16 x {u16 bank, u8 size, u8[4] bitmap, u8 0}), u32 lists, then per
 *               list u32 count and 8 x {u16 size, u8[64]}; all little-endian. Its selection must be the quote's, and what is unused must be zero
 *   values      tpm2_quote -F values: the selected values one after the other, ascending, nothing else
 *   JSON        {"000b": {"0": "hex", ...}, ...}: bank as four hex digits, then register. Registers that the quote does not select are not read
 *
 * Source  TCG TPM 2.0 Part 2 (10.6, 10.9); tpm2-tools 5 (lib/pcr.c, behaviour only). */
#ifndef CMIF_ATTEST_PCR_H
#define CMIF_ATTEST_PCR_H

#include "side.h"

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { CMIF_PCRS = 24 };
enum { CMIF_TPM_SHA1 = 0x0004, CMIF_TPM_SHA256 = 0x000b, CMIF_TPM_SHA384 = 0x000c, CMIF_TPM_SHA512 = 0x000d }; /* TPM_ALG_ID */

size_t      cmif_tpm_hash_size(unsigned alg); /* 0: not one of the four */
const char *cmif_tpm_hash_name(unsigned alg); /* "sha256": also what EVP_get_digestbyname takes; NULL: not one of the four */

typedef struct cmif_pcrs { /* one bank */
    uint16_t bank;
    uint32_t mask;
    uint8_t  value[CMIF_PCRS][64]; /* cmif_tpm_hash_size(bank) of each register in mask */
} cmif_pcrs;

/* Read the values of exactly the registers in out->mask of out->bank; the caller fills both from the quote. Values are written only on success. */
CMIF_MUST_USE cmif_code cmif_pcrs_read(const uint8_t *data, size_t size, cmif_pcrs *out, cmif_err *err);

/* digest = hash_alg(values of mask, ascending); the caller gives cmif_tpm_hash_size(hash_alg) bytes of room. MEMORY: OpenSSL failed. */
CMIF_MUST_USE cmif_code cmif_pcrs_digest(const cmif_pcrs *pcrs, unsigned hash_alg, uint8_t digest[64], cmif_err *err);

#endif
