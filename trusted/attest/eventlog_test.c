#include "attest/eventlog.h"

#include "attest/cases.h"

#include <openssl/evp.h>

/* SHA-256 over (index byte, value) of every register that the log extends. */
static void registers_digest(const cmif_replay *replay, size_t bank, char hex[65])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t     digest[32];
    CHECK(EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
    for (uint8_t i = 0; i < CMIF_PCRS; i++) {
        if (replay->extended[i]) {
            CHECK(EVP_DigestUpdate(ctx, &i, 1) == 1 &&
                  EVP_DigestUpdate(ctx, replay->bank[bank].value[i], replay->bank[bank].size) == 1);
        }
    }
    CHECK(EVP_DigestFinal_ex(ctx, digest, NULL) == 1);
    EVP_MD_CTX_free(ctx);
    cmif_hex(digest, 32, hex);
}

/* The figures are of another program, written in Python from the specification. */
static void captured_logs_replay_as_another_program_says(void)
{
    static const struct {
        const char *name;
        unsigned    events, told;
        struct {
            unsigned    alg;
            const char *digest;
        } bank[3];
    } all[] = {
        {"CCEL_AAEL_alibabacloud.bin",
         87,
         14,
         {{CMIF_TPM_SHA384, "3cb4b8b09cebab775f392901a52d720c254731bbaf7027884d9e366e94cea4ca"}}},
        {"CCEL_data_grub.bin",
         37,
         16,
         {{CMIF_TPM_SHA384, "1b59d0bf1d33c8f7dcffcad815c0a830766d3399a74366919f2ed25c7786fb1c"}}},
        {"arch-linux-workstation.bin",
         24,
         19,
         {{CMIF_TPM_SHA1, "ce2ac2a84fbe96d01c3693845a67f20272ef13e03fc039f78a3b070974db7f1a"},
          {CMIF_TPM_SHA256, "0c69dd3f4fba448189317cbfdda3f351b74317154571ba8612fa5280b0a4acb2"}}},
        {"ubuntu-2404-amd-sevsnp.bin",
         116,
         21,
         {{CMIF_TPM_SHA1, "9cd8f4a7e0c692d46a30ae0cceeff494aa34f931236179424b5776348bc46590"},
          {CMIF_TPM_SHA256, "d8546b7aaf0e1134bf820601de20ab680d765f3802cbaeae860a68cd8869ec7e"},
          {CMIF_TPM_SHA384, "8e09abf42a80a9107dcccece344aa4e946495292e68f0c6961dbf63187745050"}}},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        case_file   file = case_read("eventlog", all[i].name);
        cmif_replay replay;
        cmif_err    err      = {0};
        unsigned    extended = 0, told = 0;
        CHECK(file.data && cmif_event_log_replay(file.data, file.size, &replay, &err) == CMIF_OK);
        for (unsigned k = 0; k < CMIF_PCRS; k++) {
            extended += replay.extended[k];
            told += replay.told[k];
        }
        CHECK(replay.event_count == all[i].events && extended == all[i].events && told == all[i].told);
        for (size_t b = 0; b < 3 && all[i].bank[b].alg; b++) {
            char hex[65];
            CHECK(b < replay.bank_count && replay.bank[b].alg == all[i].bank[b].alg);
            registers_digest(&replay, b, hex);
            CHECK(!strcmp(hex, all[i].bank[b].digest));
        }
        free(file.data);
    }
}

/* The one capture that has both: a TD quote and the log of the same boot. */
typedef struct td {
    case_file          file[8];
    cmif_item          items[8];
    case_expected      expected;
    cmif_measured      measured;
    cmif_attest_policy policy;
} td;

static void open_td(td *t)
{
    static const char *const names[] = {"quote.bin",   "tcb_info.json",   "qe_identity.json", "tcb_signing_chain.pem",
                                        "pck_crl.der", "root_ca_crl.der", "ccel.bin"};
    static const cmif_item_kind kinds[] = {CMIF_ITEM_QUOTE,        CMIF_ITEM_TCB_INFO, CMIF_ITEM_QE_IDENTITY,
                                           CMIF_ITEM_CERTIFICATES, CMIF_ITEM_CRL,      CMIF_ITEM_CRL,
                                           CMIF_ITEM_EVENT_LOG};
    const char                 *folder  = "tdx/v4-gcp-ccel-uptodate";
    CHECK(case_open(folder, &t->expected));
    for (size_t i = 0; i < 7; i++) {
        t->file[i]  = case_read(folder, names[i]);
        t->items[i] = (cmif_item){kinds[i], t->file[i].data, t->file[i].size};
    }
    t->file[7] = case_read(folder, "nonce.bin");
    cmif_attest_policy_init(&t->policy);
    t->measured                = (cmif_measured){.tee = CMIF_TEE_TDX, .name = "mrtd"};
    t->measured.size           = case_bytes(&t->expected, "quote_fields", "mrtd", t->measured.value);
    t->policy.tees             = 1u << CMIF_TEE_TDX;
    t->policy.measured         = &t->measured;
    t->policy.measured_count   = 1;
    t->policy.report_data      = t->file[7].data;
    t->policy.report_data_size = t->file[7].size;
}

static void close_td(td *t)
{
    for (size_t i = 0; i < 8; i++) {
        free(t->file[i].data);
    }
    case_close(&t->expected);
}

static void log_of_a_td_replays_to_its_quote(void)
{
    td           t = {0};
    cmif_verdict v;
    open_td(&t);
    cmif_attest(t.items, 7, &t.policy, case_time(&t.expected), &v);
    CHECK(case_verdict_is("tdx with log", &t.expected, &v, "tdx"));
    const char *events = cmif_verdict_field(&v, "log_events"), *told = cmif_verdict_field(&v, "log_events_with_data");
    CHECK(events && !strcmp(events, "43") && told && !strcmp(told, "13"));
    close_td(&t);
}

/* A digest or an event changed, left out, or of another machine: refused. Data alone changed: the log is believed, that
 * data is not counted. */
static void log_that_is_not_of_the_quote_is_refused(void)
{
    td             t = {0};
    cmif_verdict   v;
    cmif_event_log log;
    cmif_event     event;
    cmif_err       err;
    bool           end     = false;
    unsigned       changed = 0;
    open_td(&t);
    CHECK(cmif_event_log_open(&log, t.items[6].data, t.items[6].size, &err) == CMIF_OK);
    while (cmif_event_log_next(&log, &event, &end, &err) == CMIF_OK && !end) {
        uint8_t *digest = t.file[6].data + (event.digest[0] - t.items[6].data),
                *data   = t.file[6].data + (event.data - t.items[6].data);
        digest[47] ^= 1;
        cmif_attest(t.items, 7, &t.policy, case_time(&t.expected), &v);
        CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "event-log"));
        digest[47] ^= 1;
        if (event.data_size && changed++ < 8) {
            const char *told;
            data[0] ^= 1;
            cmif_attest(t.items, 7, &t.policy, case_time(&t.expected), &v);
            told = cmif_verdict_field(&v, "log_events_with_data");
            CHECK(v.outcome == CMIF_ACCEPTED && told && (!strcmp(told, "13") || !strcmp(told, "12")));
            data[0] ^= 1;
        }
    }
    CHECK(end && changed > 8);
    t.items[6].size -= 4711; /* in the middle of a record */
    cmif_attest(t.items, 7, &t.policy, case_time(&t.expected), &v);
    CHECK(v.outcome == CMIF_MALFORMED && case_has_error(&v, "event-log"));
    case_file other = case_read("eventlog", "CCEL_data_grub.bin");
    t.items[6]      = (cmif_item){CMIF_ITEM_EVENT_LOG, other.data, other.size};
    cmif_attest(t.items, 7, &t.policy, case_time(&t.expected), &v);
    CHECK(v.outcome == CMIF_REJECTED && case_has_reason(&v, "event-log") && !cmif_verdict_field(&v, "log_events"));
    free(other.data);
    close_td(&t);
}

/* ---- made logs ---- */
enum { HEADER = 32 + 37 };
static const uint8_t header[HEADER] = {
    0,   0,   0,   0,   3,   0,   0,   0,   0,   0,    0,   0,   0,   0,    0,   0,  0, 0, 0,
    0,   0,   0,   0,   0,   0,   0,   0,   0,   37,   0,   0,   0, /* PCR 0, EV_NO_ACTION, 20 zeros, 37 bytes */
    'S', 'p', 'e', 'c', ' ', 'I', 'D', ' ', 'E', 'v',  'e', 'n', 't', '0',  '3', 0,  0, 0, 0,
    0,   0,   2,   0,   2,   2,   0,   0,   0,   0x0b, 0,   32,  0,   0x0c, 0,   48, 0, 0};

typedef struct made {
    uint8_t     bytes[4096];
    cmif_writer w;
} made;

static void begin(made *m)
{
    m->w = cmif_writer_over(m->bytes, sizeof m->bytes);
    cmif_write_bytes(&m->w, header, sizeof header);
}

static void add(made *m, uint32_t index, uint32_t type, const char *data, size_t size)
{
    uint8_t digest[48];
    cmif_write_u32(&m->w, index);
    cmif_write_u32(&m->w, type);
    cmif_write_u32(&m->w, 2);
    cmif_write_u16(&m->w, CMIF_TPM_SHA256);
    CHECK(EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1);
    cmif_write_bytes(&m->w, digest, 32);
    cmif_write_u16(&m->w, CMIF_TPM_SHA384);
    CHECK(EVP_Digest(data, size, digest, NULL, EVP_sha384(), NULL) == 1);
    cmif_write_bytes(&m->w, digest, 48);
    cmif_write_u32(&m->w, (uint32_t) size);
    cmif_write_bytes(&m->w, data, size);
    CHECK(!m->w.failed);
}

static cmif_code replay(const made *m, cmif_replay *out)
{
    cmif_err err;
    return cmif_event_log_replay(m->bytes, m->w.at, out, &err);
}

static void padding_may_be_zeros_or_ones_and_nothing_else(void)
{
    made        m;
    cmif_replay r;
    for (unsigned pad = 0; pad < 256; pad++) {
        begin(&m);
        add(&m, 4, 13, "event", 5);
        memset(cmif_write_room(&m.w, 100), (int) pad, 100);
        CHECK((replay(&m, &r) == CMIF_OK) == (pad == 0 || pad == 0xff));
    }
    begin(&m);
    add(&m, 4, 13, "event", 5);
    memset(cmif_write_room(&m.w, 100), 0, 100);
    m.bytes[m.w.at - 1] = 1; /* zeros that are not to the end: read as records, of which the last does not end */
    CHECK(replay(&m, &r) == CMIF_E_FORMAT);
}

static void startup_locality_is_where_pcr0_begins(void)
{
    made        with, without;
    cmif_replay a, b;
    uint8_t     old[32] = {[31] = 3}, digest[32], want[32];
    EVP_MD_CTX *ctx     = EVP_MD_CTX_new();
    begin(&with);
    add(&with, 0, CMIF_EV_NO_ACTION, "StartupLocality\0\3", 17);
    add(&with, 0, 13, "event", 5);
    begin(&without);
    add(&without, 0, 13, "event", 5);
    CHECK(replay(&with, &a) == CMIF_OK && replay(&without, &b) == CMIF_OK &&
          memcmp(a.bank[0].value[0], b.bank[0].value[0], 32) != 0);
    CHECK(EVP_Digest("event", 5, digest, NULL, EVP_sha256(), NULL) == 1 &&
          EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(ctx, old, 32) == 1 &&
          EVP_DigestUpdate(ctx, digest, 32) == 1 && EVP_DigestFinal_ex(ctx, want, NULL) == 1);
    CHECK(!memcmp(a.bank[0].value[0], want, 32) && a.extended[0] == 1 && a.told[0] == 1);
    EVP_MD_CTX_free(ctx);
    add(&with, 0, CMIF_EV_NO_ACTION, "StartupLocality\0\3", 17); /* too late */
    CHECK(replay(&with, &a) == CMIF_E_FORMAT);
}

static void odd_logs_are_refused(void)
{
    made        m;
    cmif_replay r;
    for (uint32_t index = 22; index < 26; index++) { /* registers end at 23; what extends nothing may name any */
        begin(&m);
        add(&m, index, 13, "event", 5);
        CHECK((replay(&m, &r) == CMIF_OK) == (index < CMIF_PCRS));
        begin(&m);
        add(&m, index + 0xfffffff0u, CMIF_EV_NO_ACTION, "event", 5);
        CHECK(replay(&m, &r) == CMIF_OK && r.event_count == 1);
    }
    static const struct {
        size_t  at;
        uint8_t value;
    } changes[] = {{4, 4} /* first record's type */,
                   {28, 36},
                   {28, 38},
                   {46, '4'} /* Event04 */,
                   {HEADER - 13, 0} /* no algorithm */,
                   {HEADER - 13, 3},
                   {HEADER - 7, 31} /* SHA-256 of 31 bytes */,
                   {HEADER - 5, 0x0b} /* twice */,
                   {HEADER - 1, 1} /* vendor info that is not there */,
                   {HEADER + 8, 3} /* three digests of two */,
                   {HEADER + 12, 0x0d} /* one that the log does not name */,
                   {HEADER + 46, 0x0b} /* twice */,
                   {HEADER + 99, 1} /* data size: 65541 */};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        begin(&m);
        add(&m, 4, 13, "event", 5);
        CHECK(replay(&m, &r) == CMIF_OK);
        m.bytes[changes[i].at] = changes[i].value;
        CHECK(replay(&m, &r) != CMIF_OK);
    }
    begin(&m);
    memcpy(m.bytes + 32, "Spec ID Event02", 16);
    CHECK(replay(&m, &r) == CMIF_E_UNSUPPORTED);
    cmif_err err;
    CHECK(cmif_event_log_replay(m.bytes, (size_t) CMIF_EVENT_LOG_SIZE_MAX + 1, &r, &err) ==
          CMIF_E_RANGE); /* refused before a byte is read */
}

/* A bank of which one event lacks the digest says nothing about its registers; the other bank still does. */
static void bank_with_a_gap_proves_nothing(void)
{
    made        m;
    cmif_replay r;
    uint8_t     digest[32] = {1};
    begin(&m);
    add(&m, 4, 13, "event", 5);
    cmif_write_u32(&m.w, 5);
    cmif_write_u32(&m.w, 13);
    cmif_write_u32(&m.w, 1);
    cmif_write_u16(&m.w, CMIF_TPM_SHA256);
    cmif_write_bytes(&m.w, digest, 32);
    cmif_write_u32(&m.w, 0);
    CHECK(replay(&m, &r) == CMIF_OK && r.bank[0].size == 32 && r.bank[1].size == 0);
}

static void every_truncation_is_an_error_or_whole_records(void)
{
    static const char *const names[] = {"CCEL_AAEL_alibabacloud.bin", "arch-linux-workstation.bin"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        case_file   file = case_read("eventlog", names[i]);
        cmif_replay all, r;
        cmif_err    err;
        size_t      whole = 0;
        CHECK(cmif_event_log_replay(file.data, file.size, &all, &err) == CMIF_OK);
        for (size_t size = 0; size < file.size; size++) {
            uint8_t *copy = malloc(size + !size); /* so that a read past it is seen by ASan */
            memcpy(copy, file.data, size);
            if (cmif_event_log_replay(copy, size, &r, &err) == CMIF_OK) {
                whole++;
                CHECK(r.event_count <= all.event_count);
            }
            free(copy);
        }
        CHECK(whole >= all.event_count && whole <= all.event_count + 16); /* after each record, and inside padding */
        free(file.data);
    }
}

int main(void)
{
    if (cases_absent()) {
        return check_skip("the captures (shared/attestation) are not beside the repository");
    }
    RUN(captured_logs_replay_as_another_program_says);
    RUN(log_of_a_td_replays_to_its_quote);
    RUN(log_that_is_not_of_the_quote_is_refused);
    RUN(padding_may_be_zeros_or_ones_and_nothing_else);
    RUN(startup_locality_is_where_pcr0_begins);
    RUN(odd_logs_are_refused);
    RUN(bank_with_a_gap_proves_nothing);
    RUN(every_truncation_is_an_error_or_whole_records);
    return check_report();
}
