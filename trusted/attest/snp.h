/* snp - AMD SEV-SNP attestation reports, versions 2 to 5 (Milan, Genoa, Turin), signed by a VCEK or a VLEK.
 *
 * The report's signature key must chain to the ARK of the very product that made it, and its SPL extensions must equal REPORTED_TCB. AMD's ASK and
 * ASVK are built in as hints (ask.c), so that a leaf alone is enough; the certificate table of the host is a hint too.
 *
 * Source  AMD 56860 1.58 (SEV-SNP ABI, 7.3 and table 23), 57230 1.00 (VCEK and KDS), 56421 2.03 (GHCB, 4.1.8.1). */
#ifndef CMIF_ATTEST_SNP_H
#define CMIF_ATTEST_SNP_H

#include "attest/part.h"

enum { CMIF_SNP_REPORT_SIZE = 1184, CMIF_SNP_SIGNED_SIZE = 0x2a0 };

/* A report, by whatever carried it: everything but what the policy says of technology, measurements and REPORTDATA, which is written to report_data for
 * the caller to compare; false: it could not be read that far. */
CMIF_MUST_USE bool cmif_snp_check_report(cmif_attest_call *call, const uint8_t *report, size_t size, uint8_t report_data[static 64]);

/* GHCB certificate table (auxblob): its VCEK, VLEK, ASK and CRLs into the pool; an ARK in it is not looked at. Errors: FORMAT, RANGE, MEMORY. */
CMIF_MUST_USE cmif_code cmif_snp_table_read(const uint8_t *data, size_t size, struct cmif_pool *pool, cmif_err *err);

typedef struct cmif_snp_ca { /* ask.c */
    const char *name, *pem; /* name: its common name */
} cmif_snp_ca;
extern const cmif_snp_ca cmif_snp_cas[];
extern const size_t      cmif_snp_ca_count;

#endif
