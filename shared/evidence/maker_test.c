/* Makers that go through files, on trees that behave as the kernel and Gramine document: what is done, in which order,
 * and after which errors. */
#include "evidence/maker.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/check_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define CASES CMIF_SOURCE_DIR "/../shared/attestation/"

enum { QUOTE_SIZE = 1000, REPORT_SIZE = 1184, ENTRIES = 32 };

/* configfs-tsm: a write of inblob is taken at its close and counted, one of another size is dropped without a word;
 * outblob without an inblob is EINVAL. Gramine: user_report_data of 64 bytes goes into the next quote. */
static struct fake {
    char        log[4096]; /* what was done, in order */
    char        entries[ENTRIES][CMIF_MAKER_PATH_MAX];
    size_t      entry_count, exists; /* exists: so many names are taken at first */
    bool        nested;              /* a folder was made while another was there */
    unsigned    generation, waits, waited;
    uint8_t     inblob[64];
    bool        has_inblob;
    uint8_t     outblob[2048], auxblob[64];
    size_t      outblob_size, report_data_at, auxblob_size;
    const char *provider, *type;
    /* what goes wrong: the errno, and how often */
    int fail_make, fail_remove, fail_write, fail_outblob, fail_auxblob, fail_generation;
    int busy, dropped, jumped, jumped_late, empty, stale, gibberish;
} fake;

static bool once(int *left)
{
    const bool yes = *left > 0;
    *left -= yes;
    return yes;
}

static void note(const char *what)
{
    const size_t used = strlen(fake.log);
    snprintf(fake.log + used, sizeof fake.log - used, "%s%s", used ? " " : "", what);
}

static int fake_make(void *context, const char *folder)
{
    (void) context;
    note("make");
    if (fake.fail_make) {
        return fake.fail_make;
    }
    if (fake.exists) {
        fake.exists--;
        return EEXIST;
    }
    fake.nested     = fake.nested || fake.entry_count;
    fake.generation = 0;
    fake.has_inblob = false;
    snprintf(fake.entries[fake.entry_count++ % ENTRIES], sizeof fake.entries[0], "%s", folder);
    return 0;
}

static int fake_remove(void *context, const char *folder)
{
    (void) context;
    note("remove");
    if (fake.fail_remove) {
        return fake.fail_remove;
    }
    if (fake.entry_count != 1 || strcmp(fake.entries[0], folder) != 0) {
        return ENOENT;
    }
    fake.entry_count = 0;
    return 0;
}

static const char *name_in(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

static int fake_write(void *context, const char *file, const void *data, size_t size)
{
    (void) context;
    const char *name = name_in(file);
    note(name);
    if (fake.fail_write) {
        return fake.fail_write;
    }
    if (strcmp(name, fake.provider ? "inblob" : "user_report_data") != 0) {
        return EACCES; /* privlevel is left as it is */
    }
    if (once(&fake.dropped) || size != 64) {
        return 0;
    }
    memcpy(fake.inblob, data, 64);
    fake.has_inblob = true;
    fake.generation++;
    if (once(&fake.jumped)) { /* somebody else wrote after us */
        fake.inblob[0] ^= 0xff;
        fake.generation++;
    }
    return 0;
}

static int give(const void *data, size_t size, uint8_t *out, size_t room, size_t *out_size)
{
    if (size > room) {
        return EFBIG;
    }
    memcpy(out, data, size);
    *out_size = size;
    return 0;
}

static int fake_read(void *context, const char *file, uint8_t *out, size_t room, size_t *size)
{
    (void) context;
    const char *name = name_in(file);
    char        text[64];
    note(name);
    *size = 0;
    if (fake.provider && (fake.entry_count != 1 || strncmp(file, fake.entries[0], strlen(fake.entries[0])) != 0)) {
        return ENOENT;
    }
    if (fake.provider && !strcmp(name, "provider")) {
        return give(fake.provider, strlen(fake.provider), out, room, size);
    }
    if (fake.provider && !strcmp(name, "generation")) {
        snprintf(text, sizeof text, fake.gibberish ? "x%u\n" : "%u\n", fake.generation);
        return fake.fail_generation ? fake.fail_generation : give(text, strlen(text), out, room, size);
    }
    if (fake.provider && !strcmp(name, "auxblob")) {
        return fake.fail_auxblob ? fake.fail_auxblob : give(fake.auxblob, fake.auxblob_size, out, room, size);
    }
    if (fake.type && !strcmp(name, "attestation_type")) {
        return give(fake.type, strlen(fake.type), out, room, size);
    }
    if (strcmp(name, fake.provider ? "outblob" : "quote") != 0) {
        return ENOENT;
    }
    if (once(&fake.busy)) {
        return EBUSY;
    }
    if (fake.fail_outblob) {
        return fake.fail_outblob;
    }
    if (!fake.has_inblob) {
        return EINVAL;
    }
    fake.generation += once(&fake.jumped_late); /* somebody wrote while the report was made */
    memcpy(fake.outblob + fake.report_data_at, fake.inblob, 64);
    fake.outblob[fake.report_data_at + 63] ^= once(&fake.stale);
    return give(fake.outblob, once(&fake.empty) ? 0 : fake.outblob_size, out, room, size);
}

static void fake_wait(void *context, unsigned milliseconds)
{
    (void) context;
    fake.waits++;
    fake.waited += milliseconds;
}

static const cmif_maker_files files = {fake_make, fake_remove, fake_write, fake_read, fake_wait, NULL};

/* ---- trees ---- */

static uint8_t report_data[64];

static void put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t) value;
    at[1] = (uint8_t) (value >> 8);
}

static void tree(cmif_maker_kind kind)
{
    memset(&fake, 0, sizeof fake);
    for (size_t i = 0; i < 64; i++) {
        report_data[i] = (uint8_t) (i + 1);
    }
    for (size_t i = 0; i < sizeof fake.outblob; i++) {
        fake.outblob[i] = (uint8_t) i;
    }
    memcpy(fake.auxblob, "table", 5);
    put_u16(fake.outblob, kind == CMIF_MAKER_SGX ? 3 : 4);
    put_u16(fake.outblob + 4, kind == CMIF_MAKER_TDX ? 0x81 : 0);
    put_u16(fake.outblob + 6, 0);
    fake.provider       = kind == CMIF_MAKER_TDX ? "tdx_guest\n" : kind == CMIF_MAKER_SNP ? "sev_guest\n" : NULL;
    fake.type           = kind == CMIF_MAKER_SGX ? "dcap" : NULL;
    fake.outblob_size   = kind == CMIF_MAKER_SNP ? REPORT_SIZE : QUOTE_SIZE;
    fake.report_data_at = kind == CMIF_MAKER_SNP ? 0x50 : kind == CMIF_MAKER_SGX ? 368 : 568;
}

static cmif_code open_it(cmif_maker_kind kind, cmif_maker **maker, cmif_err *err)
{
    const cmif_maker_options options = {.kind = kind, .path = "/tree"};
    return cmif_maker_open_files(&options, &files, maker, err);
}

/* Make evidence on the tree as it is, and see that nothing is left behind in it. */
static cmif_code make_it(cmif_maker_kind kind, cmif_evidence *e, cmif_err *err)
{
    cmif_maker       *maker = NULL;
    const struct fake set   = fake;
    fake.fail_make = fake.fail_remove = 0;
    fake.exists                       = 0;
    cmif_code rc                      = open_it(kind, &maker, err);
    fake                              = set;
    if (rc == CMIF_OK) {
        rc = cmif_maker_make(maker, report_data, e, err);
    }
    CHECK(fake.entry_count == 0 || fake.fail_remove);
    CHECK(!fake.nested);
    cmif_maker_free(maker);
    return rc;
}

static size_t times(const char *word)
{
    size_t count = 0;
    for (const char *at = fake.log; (at = strstr(at, word)); at++) {
        count++;
    }
    return count;
}

/* What was made is the blob with our report data, under this kind. */
static int made(const cmif_evidence *e, uint8_t kind)
{
    cmif_evidence_item items[4];
    size_t             count = 4;
    return cmif_evidence_read(e->bytes, e->size, items, &count, NULL) == CMIF_OK && items[0].kind == kind &&
           items[0].size == fake.outblob_size && !memcmp(items[0].data, fake.outblob, fake.outblob_size) &&
           !memcmp(items[0].data + fake.report_data_at, report_data, 64);
}

static void failed_with(cmif_maker_kind kind, cmif_code code, const char *words)
{
    cmif_evidence e   = {0};
    cmif_err      err = {0};
    CHECK(cmif_evidence_put(&e, 5, "before", 6, NULL) == CMIF_OK);
    const cmif_code rc = make_it(kind, &e, &err);
    if (rc != code || !strstr(err.text, words)) {
        printf("expected '%s', found '%s'\n", words, err.text);
    }
    CHECK(rc == code && strstr(err.text, words));
    CHECK(e.count == 1 && e.size == 12 + 8 + 6 && e.bytes[8] == 1); /* what was there is there, and nothing else */
    cmif_evidence_free(&e);
}

static void goes_well(cmif_maker_kind kind, uint8_t item)
{
    cmif_evidence   e   = {0};
    cmif_err        err = {0};
    const cmif_code rc  = make_it(kind, &e, &err);
    if (rc != CMIF_OK) {
        printf("expected evidence, found '%s'\n", err.text);
    }
    CHECK(rc == CMIF_OK && made(&e, item));
    cmif_evidence_free(&e);
}

/* ---- promises: configfs-tsm ---- */

static void a_td_writes_64_bytes_reads_the_quote_and_cleans_up_in_this_order(void)
{
    tree(CMIF_MAKER_TDX);
    goes_well(CMIF_MAKER_TDX, CMIF_EVIDENCE_QUOTE);
    CHECK(!strcmp(fake.log, "make provider generation inblob generation outblob generation remove") && fake.waits == 0);
}

static void an_snp_guest_reads_the_certificate_table_too_if_there_is_one(void)
{
    cmif_evidence      e = {0};
    cmif_evidence_item items[4];
    size_t             count = 4;
    tree(CMIF_MAKER_SNP);
    fake.auxblob_size = 48;
    CHECK(make_it(CMIF_MAKER_SNP, &e, NULL) == CMIF_OK && made(&e, CMIF_EVIDENCE_SNP_REPORT));
    CHECK(!strcmp(fake.log, "make provider generation inblob generation outblob auxblob generation remove"));
    CHECK(cmif_evidence_read(e.bytes, e.size, items, &count, NULL) == CMIF_OK && count == 2 &&
          items[1].kind == CMIF_EVIDENCE_SNP_TABLE && items[1].size == 48 && !memcmp(items[1].data, fake.auxblob, 48));
    cmif_evidence_free(&e);
    tree(CMIF_MAKER_SNP);
    goes_well(CMIF_MAKER_SNP, CMIF_EVIDENCE_SNP_REPORT); /* empty */
    tree(CMIF_MAKER_SNP);
    fake.fail_auxblob = ENOENT;
    goes_well(CMIF_MAKER_SNP, CMIF_EVIDENCE_SNP_REPORT);
    tree(CMIF_MAKER_SNP);
    fake.fail_auxblob = EIO;
    failed_with(CMIF_MAKER_SNP, CMIF_E_IO, "auxblob");
}

static void what_passes_is_tried_again_each_time_with_a_new_write(void)
{
    int *const passing[] = {&fake.busy, &fake.dropped, &fake.jumped, &fake.jumped_late, &fake.empty, &fake.stale};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        tree(CMIF_MAKER_TDX);
        *passing[i] = 3;
        goes_well(CMIF_MAKER_TDX, CMIF_EVIDENCE_QUOTE);
        CHECK(times("inblob") == 4 && times("make") == 1 && fake.waits == 3 && fake.waited == 20 + 40 + 80);
    }
}

static void what_does_not_pass_is_given_up_after_some_tries(void)
{
    static const struct {
        size_t      at;
        const char *words;
    } passing[] = {{offsetof(struct fake, busy), "it is busy"},
                   {offsetof(struct fake, dropped), "was not taken"},
                   {offsetof(struct fake, jumped), "others write to this entry"},
                   {offsetof(struct fake, jumped_late), "others write to this entry"},
                   {offsetof(struct fake, empty), "quoting service does not answer"},
                   {offsetof(struct fake, stale), "data of another request"}};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) {
        const int always = 1000;
        tree(CMIF_MAKER_TDX);
        memcpy((char *) &fake + passing[i].at, &always, sizeof always);
        failed_with(CMIF_MAKER_TDX, CMIF_E_IO, passing[i].words);
        CHECK(times("inblob") == CMIF_MAKER_TRIES && fake.waits == CMIF_MAKER_TRIES - 1 && fake.waited < 10000);
        CHECK(!strcmp(fake.log + strlen(fake.log) - 6, "remove"));
    }
}

static void errors_end_the_request_and_say_what_to_do(void)
{
    static const struct {
        size_t      at;
        int         failed;
        const char *words;
    } errors[] = {{offsetof(struct fake, fail_make), ENXIO, "load tdx_guest"},
                  {offsetof(struct fake, fail_make), ENOENT, "Linux 6.7"},
                  {offsetof(struct fake, fail_make), EACCES, "only root"},
                  {offsetof(struct fake, fail_write), EACCES, "cannot write"},
                  {offsetof(struct fake, fail_outblob), EINVAL, "driver refused"},
                  {offsetof(struct fake, fail_outblob), EFBIG, "larger"},
                  {offsetof(struct fake, fail_outblob), EIO, "cannot read"},
                  {offsetof(struct fake, fail_generation), EIO, "generation"},
                  {offsetof(struct fake, gibberish), 1, "generation"},
                  {offsetof(struct fake, fail_remove), EBUSY, "cannot remove"}};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        tree(CMIF_MAKER_TDX);
        memcpy((char *) &fake + errors[i].at, &errors[i].failed, sizeof errors[i].failed);
        failed_with(CMIF_MAKER_TDX, CMIF_E_IO, errors[i].words);
        CHECK(times("outblob") <= 1 && times("make") == 1);
        CHECK(times("remove") == (errors[i].at != offsetof(struct fake, fail_make)));
    }
    tree(CMIF_MAKER_TDX);
    fake.fail_outblob = ENOMEM;
    failed_with(CMIF_MAKER_TDX, CMIF_E_MEMORY, "cannot read");
}

static void names_that_are_taken_are_passed_over(void)
{
    tree(CMIF_MAKER_TDX);
    fake.exists = 5;
    goes_well(CMIF_MAKER_TDX, CMIF_EVIDENCE_QUOTE);
    CHECK(times("make") == 6);
    tree(CMIF_MAKER_TDX);
    fake.exists = 1000;
    failed_with(CMIF_MAKER_TDX, CMIF_E_IO, "cannot make");
    CHECK(times("make") == 16);
}

static void another_kind_of_machine_is_refused_at_once(void)
{
    cmif_maker *maker = NULL;
    cmif_err    err   = {0};
    tree(CMIF_MAKER_SNP);
    CHECK(open_it(CMIF_MAKER_TDX, &maker, &err) == CMIF_E_IO && !maker &&
          strstr(err.text, "expected provider 'tdx_guest', found 'sev_guest'"));
    CHECK(fake.entry_count == 0);
    tree(CMIF_MAKER_TDX);
    CHECK(open_it(CMIF_MAKER_SNP, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "found 'tdx_guest'"));
    tree(CMIF_MAKER_TDX);
    fake.fail_make = ENXIO;
    CHECK(open_it(CMIF_MAKER_TDX, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "load tdx_guest"));
}

static void evidence_of_an_unknown_form_is_not_shown(void)
{
    tree(CMIF_MAKER_TDX);
    put_u16(fake.outblob, 6);
    failed_with(CMIF_MAKER_TDX, CMIF_E_UNSUPPORTED, "version 4 or 5");
    tree(CMIF_MAKER_TDX);
    fake.outblob_size = 631; /* a byte too short for its report data */
    failed_with(CMIF_MAKER_TDX, CMIF_E_UNSUPPORTED, "631 bytes");
    tree(CMIF_MAKER_SNP);
    fake.outblob_size = REPORT_SIZE - 1;
    failed_with(CMIF_MAKER_SNP, CMIF_E_UNSUPPORTED, "expected an SNP report of 1184 bytes, found 1183");
}

/* ---- promises: Gramine ---- */

static void a_bundle_without_room_for_all_gets_none(void)
{
    cmif_evidence      e = {0};
    cmif_evidence_item items[CMIF_EVIDENCE_ITEMS_MAX];
    size_t             count = CMIF_EVIDENCE_ITEMS_MAX;
    for (size_t i = 1; i < CMIF_EVIDENCE_ITEMS_MAX; i++) {
        CHECK(cmif_evidence_put(&e, 5, "before", 6, NULL) == CMIF_OK);
    }
    tree(CMIF_MAKER_SNP);
    fake.auxblob_size = 48; /* the report fits, its table does not */
    CHECK(make_it(CMIF_MAKER_SNP, &e, NULL) == CMIF_E_RANGE);
    CHECK(cmif_evidence_read(e.bytes, e.size, items, &count, NULL) == CMIF_OK && count == CMIF_EVIDENCE_ITEMS_MAX - 1 &&
          e.count == count);
    cmif_evidence_free(&e);
    tree(CMIF_MAKER_SNP);
    fake.outblob_size = REPORT_SIZE - 1;
    CHECK(make_it(CMIF_MAKER_SNP, &e, NULL) == CMIF_E_UNSUPPORTED && e.count == 0 && e.size == 0);
    cmif_evidence_free(&e);
}

static void an_enclave_writes_its_data_and_reads_the_quote(void)
{
    tree(CMIF_MAKER_SGX);
    goes_well(CMIF_MAKER_SGX, CMIF_EVIDENCE_QUOTE);
    CHECK(!strcmp(fake.log, "user_report_data quote"));
    tree(CMIF_MAKER_SGX);
    fake.stale = 2;
    goes_well(CMIF_MAKER_SGX, CMIF_EVIDENCE_QUOTE);
    CHECK(!strcmp(fake.log, "user_report_data quote user_report_data quote user_report_data quote") && fake.waits == 2);
}

static void an_enclave_that_cannot_be_attested_says_so(void)
{
    cmif_maker *maker = NULL;
    cmif_err    err   = {0};
    tree(CMIF_MAKER_SGX);
    fake.type = "none";
    CHECK(open_it(CMIF_MAKER_SGX, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "found 'none'"));
    fake.type = NULL;
    CHECK(open_it(CMIF_MAKER_SGX, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "gramine-sgx"));
    tree(CMIF_MAKER_SGX);
    fake.fail_outblob = EACCES;
    failed_with(CMIF_MAKER_SGX, CMIF_E_IO, "AESM");
    tree(CMIF_MAKER_SGX);
    fake.fail_write = EACCES;
    failed_with(CMIF_MAKER_SGX, CMIF_E_IO, "cannot write");
    tree(CMIF_MAKER_SGX);
    fake.stale = 1000;
    failed_with(CMIF_MAKER_SGX, CMIF_E_IO, "others use '/tree' too");
    tree(CMIF_MAKER_SGX);
    put_u16(fake.outblob + 4, 0x81); /* a version 3 quote is never of a TD */
    failed_with(CMIF_MAKER_SGX, CMIF_E_UNSUPPORTED, "SGX quote");
}

/* ---- promises: all ---- */

static void report_data_is_found_where_each_kind_of_quote_has_it(void)
{
    static const struct {
        unsigned version, tee, body;
        size_t   at; /* 0: no such quote */
    } kinds[] = {{3, 0, 0, 368},    {4, 0, 0, 368},  {4, 0x81, 0, 568}, {5, 0, 1, 374},  {5, 0x81, 2, 574},
                 {5, 0x81, 3, 574}, {3, 0x81, 0, 0}, {5, 0, 2, 0},      {5, 0x81, 1, 0}, {5, 0x81, 4, 0},
                 {2, 0, 0, 0},      {6, 0x81, 2, 0}, {4, 0x82, 0, 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint8_t *quote = calloc(1, 1000);
        put_u16(quote, kinds[i].version);
        put_u16(quote + 4, kinds[i].tee);
        put_u16(quote + 48, kinds[i].body);
        CHECK(cmif_maker_report_data(quote, 1000) == (kinds[i].at ? quote + kinds[i].at : NULL));
        for (size_t size = 0; size <= kinds[i].at + 64 && kinds[i].at; size++) {
            uint8_t *exact = malloc(size ? size : 1);
            memcpy(exact, quote, size);
            CHECK(cmif_maker_report_data(exact, size) == (size == kinds[i].at + 64 ? exact + kinds[i].at : NULL));
            free(exact);
        }
        free(quote);
    }
}

static void no_failing_allocation_shows_anything_or_leaves_an_entry(void)
{
    for (cmif_maker_kind kind = CMIF_MAKER_TDX; kind <= CMIF_MAKER_SGX; kind++) {
        cmif_maker   *maker = NULL;
        cmif_evidence e     = {0};
        long          n     = 0;
        for (cmif_code rc = CMIF_E_MEMORY; rc != CMIF_OK && n < 100; n++) {
            tree(kind);
            allocations_left = n;
            rc               = open_it(kind, &maker, NULL);
            if (rc == CMIF_OK) {
                fake.log[0] = '\0';
                rc          = cmif_maker_make(maker, report_data, &e, NULL);
            }
            allocations_left = -1;
            CHECK(rc == CMIF_OK || (rc == CMIF_E_MEMORY && e.count == 0));
            CHECK(fake.entry_count == 0);
            cmif_maker_free(maker);
            maker = NULL;
        }
        CHECK(n > 2 && n < 100 && e.count == 1);
        cmif_evidence_free(&e);
    }
}

/* Where we look in a quote, beside what others decoded of real ones. */
static void report_data_of_real_quotes_is_found(void)
{
    static const char *const cases[] = {"tdx/v4-uptodate", "tdx/v4-tdx10-debug", "tdx/v5-td15-uptodate",
                                        "sgx/v3-occlum-debug-outofdate"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static char    text[1 << 16];
        static uint8_t quote[1 << 16];
        char           path[512], want[129] = "";
        snprintf(path, sizeof path, CASES "%s/expected.json", cases[i]);
        FILE        *f    = fopen(path, "r");
        const size_t used = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[used]        = '\0';
        CHECK(f && fclose(f) == 0);
        snprintf(path, sizeof path, CASES "%s/quote.bin", cases[i]);
        f                 = fopen(path, "rb");
        const size_t size = f ? fread(quote, 1, sizeof quote, f) : 0;
        CHECK(f && fclose(f) == 0);
        const char    *at    = strstr(text, "\"report_data\": \"");
        const uint8_t *found = cmif_maker_report_data(quote, size);
        CHECK(at && found);
        if (at && found) {
            cmif_hex(found, 64, want);
            CHECK(!strncmp(at + strlen("\"report_data\": \""), want, 128));
        }
    }
}

static void what_there_is_no_maker_of_is_refused(void)
{
    const cmif_maker_options none = {0}, no_tree = {.kind = CMIF_MAKER_TDX, .path = "/nowhere/at/all"},
                             no_enclave = {.kind = CMIF_MAKER_SGX, .path = "/nowhere"};
    cmif_maker *maker                   = NULL;
    cmif_err    err                     = {0};
    uint8_t     key[CMIF_MAKER_KEY_SIZE_MAX];
    size_t      size;
    CHECK(cmif_maker_open(&none, &maker, &err) == CMIF_E_RANGE && !maker);
    CHECK(cmif_maker_open(&no_tree, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "Linux 6.7"));
    CHECK(cmif_maker_open(&no_enclave, &maker, &err) == CMIF_E_IO && !maker && strstr(err.text, "gramine-sgx"));
    tree(CMIF_MAKER_SGX);
    CHECK(open_it(CMIF_MAKER_SGX, &maker, &err) == CMIF_OK);
    CHECK(cmif_maker_endorsement(maker, key, &size, &err) == CMIF_E_UNSUPPORTED &&
          cmif_maker_activate(maker, key, 8, key, &err) == CMIF_E_UNSUPPORTED);
    cmif_maker_free(maker);
}

/* The operations that are not replaced, on a folder of this test's own. */
static void real_files_are_read_to_their_end_and_written_at_once(void)
{
    char               folder[] = "/tmp/maker_test.XXXXXX", path[64], entry[80];
    cmif_maker_options o        = {.kind = CMIF_MAKER_SGX, .path = folder};
    cmif_maker        *maker    = NULL;
    uint8_t            out[64];
    size_t             size = 0;
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/attestation_type", folder);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs("dcap\n", f) >= 0 && fclose(f) == 0);
    CHECK(cmif_maker_open(&o, &maker, NULL) == CMIF_OK);
    const cmif_maker_files *real = maker->files;
    CHECK(real->write(NULL, path, "0123456789", 10) == 0 && real->read(NULL, path, out, sizeof out, &size) == 0 &&
          size == 10 && !memcmp(out, "0123456789", 10));
    CHECK(real->read(NULL, path, out, 10, &size) == 0 && size == 10);
    CHECK(real->read(NULL, path, out, 9, &size) == EFBIG && size == 0);
    snprintf(entry, sizeof entry, "%s/entry", folder);
    CHECK(real->make(NULL, entry) == 0 && real->make(NULL, entry) == EEXIST && real->remove(NULL, entry) == 0 &&
          real->remove(NULL, entry) == ENOENT);
    CHECK(real->write(NULL, entry, "x", 1) == ENOENT &&
          real->read(NULL, entry, out, sizeof out, &size) == ENOENT); /* nothing is created */
    cmif_maker_free(maker);
    CHECK(remove(path) == 0 && remove(folder) == 0);
}

int main(void)
{
    RUN(a_td_writes_64_bytes_reads_the_quote_and_cleans_up_in_this_order);
    RUN(an_snp_guest_reads_the_certificate_table_too_if_there_is_one);
    RUN(what_passes_is_tried_again_each_time_with_a_new_write);
    RUN(what_does_not_pass_is_given_up_after_some_tries);
    RUN(errors_end_the_request_and_say_what_to_do);
    RUN(names_that_are_taken_are_passed_over);
    RUN(another_kind_of_machine_is_refused_at_once);
    RUN(evidence_of_an_unknown_form_is_not_shown);
    RUN(a_bundle_without_room_for_all_gets_none);
    RUN(an_enclave_writes_its_data_and_reads_the_quote);
    RUN(an_enclave_that_cannot_be_attested_says_so);
    RUN(report_data_is_found_where_each_kind_of_quote_has_it);
    RUN(no_failing_allocation_shows_anything_or_leaves_an_entry);
    if (access(CASES "cases.json", R_OK) == 0) {
        RUN(report_data_of_real_quotes_is_found);
    } else {
        printf("skipped: the captures are not beside the repository\n");
    }
    RUN(what_there_is_no_maker_of_is_refused);
    RUN(real_files_are_read_to_their_end_and_written_at_once);
    return check_report();
}
