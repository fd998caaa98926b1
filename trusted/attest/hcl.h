/* hcl - the report of Azure's paravisor (HCL, OpenHCL), as its vTPM has it in NV index 0x01400001: a hardware report that hashes runtime claims, and the
 * claims, which name the AK of the vTPM.
 *
 * What ties the AK to a TEE is that REPORTDATA begins with the hash of the claims: of the SNP report inside, or, where the hardware report is a TDREPORT
 * (which only its own machine can verify), of the TD quote that comes beside. The guest's nonce is in the TPM quote alone.
 *
 * Layout  "HCLA", u32 version, u32 size, u32 request, u32 status, 12 zeros; at 32 the hardware report, 1184 bytes; at 1216 u32 size of what follows and
 *         itself, u32 version, u32 type (2 SNP, 4 TDX), u32 hash (1, 2, 3: SHA-256, 384, 512), u32 size of the claims, the claims (JSON); zeros.
 *
 * Source  Microsoft, "Azure confidential VM guest attestation" (runtime data); OpenHCL, attestation report header; captures. */
#ifndef CMIF_ATTEST_HCL_H
#define CMIF_ATTEST_HCL_H

#include "side.h"

#include "base/err.h"

#include <openssl/types.h>
#include <stddef.h>
#include <stdint.h>

enum { CMIF_HCL_SNP = 2, CMIF_HCL_TDX = 4 };

typedef struct cmif_hcl {
    uint32_t       type;
    const uint8_t *report;     /* (1184) borrowed */
    uint8_t        digest[64]; /* of the claims: REPORTDATA must begin with it, and be zero after it */
    size_t         digest_size;
    char           user_data[129]; /* the guest's 64 bytes, as the claims write them; "" when there are none */
    EVP_PKEY      *ak;         /* the claims' key "HCLAkPub" */
} cmif_hcl;

/* Errors: FORMAT, UNSUPPORTED, MEMORY. On success free with cmif_hcl_wipe. */
CMIF_MUST_USE cmif_code cmif_hcl_read(const uint8_t *data, size_t size, cmif_hcl *out, cmif_err *err);
void                    cmif_hcl_wipe(cmif_hcl *hcl);

#endif
