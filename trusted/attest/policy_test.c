#define _GNU_SOURCE /* mkdtemp */
#include "attest/policy.h"
#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MRTD "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
#define HASH32 "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
#define HEAD "attestation-policy 1\n"
#define TDX HEAD "accept tdx\nmeasure tdx mrtd " MRTD "\n"

static cmif_code parse(const char *text, cmif_attest_policy_file **out, cmif_err *err)
{
    return cmif_attest_policy_parse(text, strlen(text), out, err);
}

/* Refused, at this line, and the sentence has these words. */
static void refused(const char *text, unsigned line, const char *words)
{
    cmif_attest_policy_file *file = NULL;
    cmif_err                 err  = {0};
    char                     place[32];
    snprintf(place, sizeof place, "line %u: ", line);
    cmif_code rc = parse(text, &file, &err);
    CHECK(rc == CMIF_E_FORMAT && !file);
    CHECK(!strncmp(err.text, place, strlen(place)));
    CHECK(strstr(err.text, words));
    if (rc != CMIF_E_FORMAT || strncmp(err.text, place, strlen(place)) != 0 || !strstr(err.text, words)) {
        fprintf(stderr, "  of: %s  it said: %s\n", text, err.text);
    }
    cmif_attest_policy_free(file);
}

static void a_policy_that_accepts_any_program_is_refused(void)
{
    refused("", 1, "attestation-policy 1");
    refused("# nothing\n\n", 2, "attestation-policy 1");
    refused(HEAD, 1, "without accepting anything");
    refused(HEAD "accept tdx\n", 2, "without a measurement for tdx");
    refused(HEAD "accept tdx\nmeasure tdx mrconfigid " MRTD "\n", 3, "without a measurement for tdx");
    refused(TDX "accept sgx\n", 4, "without a measurement for sgx");
    refused(HEAD "accept snp\nmeasure snp id_key_digest " MRTD "\n", 3, "without a measurement for snp");

    cmif_attest_policy_file *file = NULL;
    CHECK(parse(HEAD "accept tdx\nloosen any-measurement\n", &file, NULL) == CMIF_OK);
    if (file) {
        char words[4][CMIF_LOOSENED_SIZE];
        CHECK(cmif_attest_policy_loosened(&file->policy, words, 4) == 1 && !strcmp(words[0], "any-measurement"));
    }
    cmif_attest_policy_free(file);
}

static void what_is_not_known_is_refused_with_its_line(void)
{
    refused("accept tdx\n", 1, "attestation-policy 1");
    refused("attestation-policy 2\n", 1, "no other version");
    refused(HEAD HEAD, 2, "given before");
    refused(HEAD "acccept tdx\n", 2, "not known");
    refused(HEAD "accept nitro\n", 2, "expected sgx");
    refused(HEAD "accept none\n", 2, "expected sgx");
    refused(HEAD "accept tdx\naccept tdx\n", 3, "before");
    refused(HEAD "accept tdx sgx\n", 2, "end of the line");
    refused(HEAD "accept\n", 2, "expected a value");
    refused(TDX "measure tdx mrtd " MRTD "\n", 4, "before");
    refused(TDX "measure tdx mrtd " HASH32 "\n", 4, "expected 96");
    refused(TDX "measure tdx mrtd " MRTD "00\n", 4, "expected 96");
    refused(TDX "measure tdx mrtd\n", 4, "expected 'measure'");
    refused(TDX "measure tdx mrenclave " HASH32 "\n", 4, "expected mrtd");
    refused(TDX "measure tpm pcr24 " HASH32 "\n", 4, "expected pcr0");
    refused(TDX "measure tpm pcr01 " HASH32 "\n", 4, "expected pcr0");
    refused(TDX "measure sgx mrenclave " HASH32 "\n", 4, "sgx is measured but not accepted");
    refused(TDX "status Good\n", 4, "as Intel writes them");
    refused(TDX "status UpToDate UpToDate\n", 4, "before");
    refused(TDX "status\n", 4, "one or more");
    refused(TDX "status UpToDate\nstatus OutOfDate\n", 5, "before");
    refused(TDX "minimum-tcb-date 2024-02-30\n", 4, "a date like");
    refused(TDX "minimum-tcb-date 24-02-03\n", 4, "a date like");
    refused(TDX "minimum-tcb-evaluation 017\n", 4, "expected a number");
    refused(TDX "minimum-tcb-evaluation 4294967296\n", 4, "expected a number");
    refused(TDX "minimum-tcb-evaluation -1\n", 4, "expected a number");
    refused(TDX "deny-advisory SA-1\n", 4, "INTEL-SA-");
    refused(TDX "deny-advisory INTEL-SA-00615\ndeny-advisory INTEL-SA-00615\n", 5, "before");
    refused(TDX "td-require debug\n", 4, "forbidden anyway");
    refused(TDX "td-require\n", 4, "expected names");
    refused(TDX "td-require pks none\n", 4, "expected none, or");
    refused(TDX "td-forbid sept-ve-disable\n", 4, "both required and forbidden");
    refused(TDX "snp-minimum-tcb 0a\n", 4, "16 hexadecimal");
    refused(TDX "snp-vmpl-max 4\n", 4, "0, 1, 2 or 3");
    refused(TDX "snp-mitigations 0,64\n", 4, "from 0 to 63");
    refused(TDX "pcrs 0,0\n", 4, "each once");
    refused(TDX "pcrs ,\n", 4, "expected numbers");
    refused(TDX "sgx-isvprodid 65536\n", 4, "ISVPRODID");
    refused(TDX "report-data 0\n", 4, "1 to 64 bytes");
    refused(TDX "report-data 00\nloosen no-report-data\n", 5, "take one of the two away");
    refused(TDX "tolerance 86401\n", 4, "86400");
    refused(TDX "loosen everything\n", 4, "expected debug");
    refused(TDX "loosen debug\nloosen debug\n", 5, "before");
    refused(TDX "loosen ak-pinned\n", 4, "without any ak-pin");
    refused(TDX "loosen simulator\n", 4, "takes both");
    refused(HEAD "accept sim\nmeasure sim measurement " MRTD "\n", 3, "expected 64 hexadecimal digits");
    refused(HEAD "accept sim\nmeasure sim measurement " HASH32 "\n", 3, "takes both");
    refused(HEAD "accept tpm\npcrs 1\nmeasure tpm pcr0 " HASH32 "\n", 4, "not among 'pcrs'");
    refused(TDX "accept \x01\n", 4, "printable ASCII");
    refused(TDX "accept sgx\0\n", 4, "without a measurement for sgx");
    refused(TDX "root\n", 4, "without its last line");
    refused(TDX "root\nMIIB\n", 5, "-----BEGIN CERTIFICATE-----");
    refused(TDX "root\n-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", 6, "no certificate");
    refused(TDX "root\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 7, "no certificate");
}

static void revoked_is_never_accepted(void)
{
    refused(TDX "status UpToDate Revoked\n", 4, "Revoked can never");
    refused(TDX "status TcbNotSupported\n", 4, "can never be accepted");
}

static void what_stands_in_the_file_is_in_the_policy(void)
{
    static const char text[] =
        HEAD "accept tdx   # the one we run on\naccept tpm\n"
             "measure tdx mrtd " MRTD "\nmeasure tpm pcr7 " HASH32 "\r\n\tmeasure tpm pcr12 " MRTD "\n"
             "status UpToDate SWHardeningNeeded\nminimum-tcb-date 2024-03-13\nminimum-tcb-evaluation 17\n"
             "deny-advisory INTEL-SA-00615\ntd-require none\ntd-forbid perfmon\nsnp-require smt\nsnp-forbid "
             "single-socket\nsnp-minimum-tcb "
             "0A00000000001754\n"
             "snp-platform alias-check-complete\nsnp-mitigations 0,63\nsgx-isvprodid 0\nsgx-minimum-isvsvn 3\n"
             "snp-vmpl-max 1\nreport-data 0102\npcrs 7,12\nak-pin " HASH32
             "\ntolerance 60\nloosen no-crl\nloosen ak-pinned\n";
    cmif_attest_policy_file *file = NULL;
    cmif_err                 err  = {0};
    CHECK(parse(text, &file, &err) == CMIF_OK);
    if (!file) {
        fprintf(stderr, "%s\n", err.text);
        return;
    }
    const cmif_attest_policy *p = &file->policy;
    CHECK(p->tees == (1U << CMIF_TEE_TDX | 1U << CMIF_TEE_TPM));
    CHECK(p->measured_count == 3 && p->measured[0].tee == CMIF_TEE_TDX && p->measured[0].size == 48 &&
          p->measured[0].value[0] == 0x91);
    CHECK(!strcmp(p->measured[1].name, "pcr7") && p->measured[1].size == 32);
    CHECK(!strcmp(p->measured[2].name, "pcr12") && p->measured[2].size == 48);
    CHECK(p->statuses == (1U << CMIF_TCB_UP_TO_DATE | 1U << CMIF_TCB_SW_HARDENING));
    CHECK(p->minimum_tcb_date == 1710288000 && p->minimum_tcb_evaluation == 17);
    CHECK(!strcmp(p->denied_advisories[0], "INTEL-SA-00615") && !p->denied_advisories[1]);
    CHECK(p->td_required == 0 && p->td_forbidden == 1ULL << 63 && p->snp_required == 1U << 16 &&
          p->snp_forbidden == 1U << 20);
    CHECK(p->snp_minimum_tcb[0] == 10 && p->snp_minimum_tcb[7] == 0x54 && p->snp_vmpl_max == 1);
    CHECK(p->snp_platform_required == 1U << 5 && p->snp_mit_required == (1ULL << 63 | 1));
    CHECK(p->sgx_isvprodid == 0 && p->sgx_minimum_isvsvn == 3);
    CHECK(p->report_data_size == 2 && p->report_data[1] == 2 && p->pcr_mask == (1U << 7 | 1U << 12));
    CHECK(p->ak_pin_count == 1 && p->ak_pins[0] == 0x33 && p->tolerance == 60 && p->root_count == 0);
    CHECK(p->loosened.no_crl && p->loosened.ak_pinned && !p->loosened.debug && !p->loosened.simulator);

    char   words[16][CMIF_LOOSENED_SIZE];
    size_t count = cmif_attest_policy_loosened(p, words, 16);
    CHECK(count == 7);
    CHECK(!strcmp(words[0], "no-crl") && !strcmp(words[1], "ak-pinned") &&
          !strcmp(words[2], "status-SWHardeningNeeded"));
    CHECK(!strcmp(words[3], "td-sept-ve-disable") && !strcmp(words[4], "td-migratable") &&
          !strcmp(words[5], "snp-migrate-ma") && !strcmp(words[6], "snp-vmpl-1"));
    cmif_attest_policy_free(file);
}

static void the_defaults_are_strict(void)
{
    cmif_attest_policy_file *file = NULL;
    CHECK(parse(TDX, &file, NULL) == CMIF_OK);
    if (file) {
        char                      words[1][CMIF_LOOSENED_SIZE];
        const cmif_attest_policy *p = &file->policy;
        CHECK(cmif_attest_policy_loosened(p, words, 1) == 0);
        CHECK(p->statuses == 1U << CMIF_TCB_UP_TO_DATE && p->td_required == 1U << 28 && p->td_forbidden == 1U << 29);
        CHECK(p->snp_vmpl_max == 0 && p->tolerance == 0 && !p->roots && !p->ak_pins && !p->report_data &&
              p->sgx_isvprodid == -1);
    }
    cmif_attest_policy_free(file);
}

/* The order and the way it is written change nothing; what is meant changes the hash. */
static void one_policy_has_one_text_and_one_hash(void)
{
    static const char *const same[] = {
        HEAD "accept sgx\naccept tdx\nmeasure sgx mrenclave " HASH32 "\nmeasure tdx mrtd " MRTD "\n",
        HEAD "accept tdx\n\n# why\nmeasure tdx mrtd " MRTD "\naccept sgx\nmeasure  sgx\tmrenclave " HASH32
             "\nstatus UpToDate\nsnp-vmpl-max 0\ntolerance 0",
    };
    cmif_attest_policy_file *a = NULL, *b = NULL, *again = NULL;
    CHECK(parse(same[0], &a, NULL) == CMIF_OK && parse(same[1], &b, NULL) == CMIF_OK);
    if (a && b) {
        CHECK(!memcmp(a->hash, b->hash, sizeof a->hash));
        char *text = cmif_attest_policy_text(&b->policy);
        CHECK(text && parse(text, &again, NULL) == CMIF_OK && again && !memcmp(a->hash, again->hash, sizeof a->hash));
        free(text);
    }
    cmif_attest_policy_free(b);
    b = NULL;
    CHECK(parse(HEAD "accept sgx\naccept tdx\nmeasure sgx mrenclave " HASH32 "\nmeasure tdx mrtd " MRTD
                     "\ntolerance 1\n",
                &b, NULL) == CMIF_OK);
    CHECK(a && b && memcmp(a->hash, b->hash, sizeof a->hash) != 0);
    cmif_attest_policy_free(a);
    cmif_attest_policy_free(b);
    cmif_attest_policy_free(again);
}

/* Every prefix of a good policy is refused or is a policy of its own: never one that accepts any program. */
static void no_prefix_is_looser(void)
{
    static const char text[] = TDX "accept sgx\nmeasure sgx mrsigner " HASH32 "\nstatus UpToDate\n";
    for (size_t size = 0; size < sizeof text; size++) {
        cmif_attest_policy_file *file = NULL;
        if (cmif_attest_policy_parse(text, size, &file, NULL) == CMIF_OK) {
            CHECK(file->policy.measured_count >= 1 &&
                  (file->policy.tees == 1U << CMIF_TEE_TDX || file->policy.measured_count == 2));
        }
        cmif_attest_policy_free(file);
    }
}

static const char *read_root(void)
{
    static char text[8192];
    FILE       *from = fopen(CMIF_SOURCE_DIR "/../shared/attestation/roots/intel_sgx_root_ca.pem", "r");
    size_t      head = (size_t) snprintf(text, sizeof text, TDX "root\n"), size;
    if (!from) {
        return NULL;
    }
    size              = fread(text + head, 1, sizeof text - head - 1, from);
    text[head + size] = '\0';
    fclose(from);
    return text;
}

static void a_root_stands_in_the_policy_itself(void)
{
    const char              *text = read_root();
    cmif_attest_policy_file *file = NULL, *again = NULL;
    char                     words[1][CMIF_LOOSENED_SIZE], twice[16384];
    if (!text) {
        printf("  without the captures: the certificate of a root is not read\n");
        return;
    }
    CHECK(parse(text, &file, NULL) == CMIF_OK && file && file->policy.root_count == 1 &&
          file->policy.roots[0].data[0] == 0x30);
    if (file) {
        CHECK(cmif_attest_policy_loosened(&file->policy, words, 1) == 1 && !strcmp(words[0], "roots"));
        char *canonical = cmif_attest_policy_text(&file->policy);
        CHECK(canonical && parse(canonical, &again, NULL) == CMIF_OK && again && !memcmp(file->hash, again->hash, 32));
        free(canonical);
    }
    snprintf(twice, sizeof twice, "%s%s", text, strstr(text, "root\n"));
    CHECK(parse(twice, &again, NULL) == CMIF_E_FORMAT); /* untouched, so freed once below */
    cmif_attest_policy_free(file);
    cmif_attest_policy_free(again);
}

/* Each technology has makers of its own: who replaces one of them does not mean the others. */
static void a_root_is_for_one_technology(void)
{
    const char              *text = read_root(), *pem = text ? strstr(text, "-----BEGIN") : NULL;
    cmif_attest_policy_file *file = NULL, *again = NULL;
    static char              line[32768];
    if (!text) {
        return;
    }
    snprintf(line, sizeof line, TDX "root\n%s\nroot tdx\n%s", pem, pem);
    CHECK(parse(line, &file, NULL) == CMIF_E_FORMAT); /* the same, said twice */
    snprintf(line, sizeof line, TDX "root sgx\n%s", pem);
    refused(line, 4, "a root for sgx, which is not accepted");
    snprintf(line, sizeof line, TDX "root gpu\n%s", pem);
    refused(line, 4, "expected sgx, tdx, snp or tpm");
    snprintf(line, sizeof line,
             HEAD "root\n%saccept sgx\nmeasure sgx mrenclave " HASH32 "\naccept tdx\nmeasure tdx mrtd " MRTD "\n", pem);
    refused(line, 2, "say which this root is for: 'root sgx', 'root tdx'");
    snprintf(line, sizeof line, HEAD "accept sim\nloosen simulator\nmeasure sim measurement " HASH32 "\nroot\n%s", pem);
    refused(line, 5, "a key of its own");
    snprintf(line, sizeof line,
             HEAD "accept sgx\nmeasure sgx mrenclave " HASH32 "\naccept tdx\nmeasure tdx mrtd " MRTD
                  "\nroot tdx\n%sroot sgx\n%s",
             pem, pem);
    CHECK(parse(line, &file, NULL) == CMIF_OK && file->policy.root_count == 2 &&
          file->policy.root_tees[0] == CMIF_TEE_SGX && file->policy.root_tees[1] == CMIF_TEE_TDX);
    char *canonical = file ? cmif_attest_policy_text(&file->policy) : NULL;
    CHECK(canonical && strstr(canonical, "\nroot sgx\n") && parse(canonical, &again, NULL) == CMIF_OK &&
          !memcmp(file->hash, again->hash, 32));
    free(canonical);
    cmif_attest_policy_free(file);
    cmif_attest_policy_free(again);
    file = again = NULL;
    CHECK(parse(text, &file, NULL) == CMIF_OK &&
          file->policy.root_tees[0] == CMIF_TEE_TDX); /* the only one that there is */
    cmif_attest_policy_free(file);
    file = NULL;
    snprintf(line, sizeof line,
             HEAD "accept tpm\nmeasure tpm pcr0 " HASH32 "\nmeasure snp measurement " MRTD "\nroot snp\n%s", pem);
    CHECK(parse(line, &file, NULL) == CMIF_OK && file->policy.root_tees[0] == CMIF_TEE_SNP); /* what vouches for it */
    cmif_attest_policy_free(file);
}

/* A pipe that nobody writes to would be waited for. */
static void a_pipe_is_no_policy(void)
{
    char                     folder[] = "/tmp/cmif-policy-XXXXXX", pipe[64];
    cmif_attest_policy_file *file     = NULL;
    cmif_err                 err      = {0};
    CHECK(mkdtemp(folder));
    snprintf(pipe, sizeof pipe, "%s/pipe", folder);
    CHECK(mkfifo(pipe, 0600) == 0);
    (void) alarm(20);
    CHECK(cmif_attest_policy_open(pipe, &file, &err) == CMIF_E_IO && strstr(err.text, "is no file"));
    CHECK(cmif_attest_policy_open(folder, &file, &err) == CMIF_E_IO && strstr(err.text, "is no file"));
    (void) alarm(0);
    (void) unlink(pipe);
    (void) rmdir(folder);
}

static void a_file_that_is_not_there_is_an_io_error(void)
{
    cmif_attest_policy_file *file = NULL;
    cmif_err                 err  = {0};
    CHECK(cmif_attest_policy_open("/nonexistent/policy", &file, &err) == CMIF_E_IO && !file);
    CHECK(strstr(err.text, "/nonexistent/policy"));
}

int main(void)
{
    RUN(a_policy_that_accepts_any_program_is_refused);
    RUN(what_is_not_known_is_refused_with_its_line);
    RUN(revoked_is_never_accepted);
    RUN(what_stands_in_the_file_is_in_the_policy);
    RUN(the_defaults_are_strict);
    RUN(one_policy_has_one_text_and_one_hash);
    RUN(no_prefix_is_looser);
    RUN(a_root_stands_in_the_policy_itself);
    RUN(a_root_is_for_one_technology);
    RUN(a_pipe_is_no_policy);
    RUN(a_file_that_is_not_there_is_an_io_error);
    return check_report();
}
