#define _GNU_SOURCE /* memmem */
#include "receipt/receipt.h"

#include "base/check.h"
#include "receipt/line.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOON (20000 * (int64_t) 86400 + 43200)

static char folder[64], receipts_path[128], head_path[128], key_path[128];

static cmif_receipt receipt_of(uint64_t i)
{
    return (cmif_receipt){
        .ledger_id     = i,
        .when          = NOON + (int64_t) i,
        .spend         = {.key              = "local",
                          .conversation     = {1, 2},
                          .table_hash       = {3},
                          .policy_hash      = {4},
                          .draws            = 10 * i,
                          .epsilon_micro    = 1000 * i,
                          .delta            = 1e-5,
                          .epsilon_at_delta = 1.25,
                          .surrogates       = 2,
                          .passed           = i},
        .model_id      = {5},
        .released_hash = {6, (uint8_t) i},
        .answer_hash   = {7},
        .by_class      = {{1, 0, 0, 0}, {0, 0, 0, 0}, {0, 2, 3, 4}},
        .class_names   = {"person", "place", "account"},
        .mechanism     = "blocks",
        .adjacency     = "word",
    };
}

static void forget(void)
{
    unlink(receipts_path);
    unlink(head_path);
    unlink(key_path);
}

static bool put(uint64_t from, uint64_t to)
{
    cmif_receipts *r   = NULL;
    cmif_err       err = {0};
    bool           ok  = cmif_receipts_open(folder, &r, &err) == CMIF_OK;
    for (uint64_t i = from; ok && i <= to; i++) {
        cmif_receipt receipt = receipt_of(i);
        uint64_t     number  = 0;
        ok                   = cmif_receipts_put(r, &receipt, &number, &err) == CMIF_OK && number == i;
    }
    cmif_receipts_free(r);
    if (!ok) {
        fprintf(stderr, "%s\n", err.text);
    }
    return ok;
}

static cmif_code audit(cmif_audit *out, cmif_err *err)
{
    return cmif_receipts_audit(folder, NULL, out, err);
}

static size_t get_file(const char *path, char *bytes, size_t room)
{
    int     fd   = open(path, O_RDONLY);
    ssize_t size = read(fd, bytes, room);
    close(fd);
    return size < 0 ? 0 : (size_t) size;
}

static void set_file(const char *path, const char *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t) size);
    close(fd);
}

static bool says(const cmif_err *err, const char *text)
{
    if (!strstr(err->text, text)) {
        fprintf(stderr, "no '%s' in: %s\n", text, err->text);
        return false;
    }
    return true;
}

/* ---- writing ---- */

static void a_chain_can_be_audited_and_goes_on_when_opened_again(void)
{
    cmif_audit  sum = {0};
    cmif_err    err = {0};
    struct stat info;
    CHECK(put(1, 3) && put(4, 5));
    CHECK(audit(&sum, &err) == CMIF_OK);
    CHECK(sum.receipts == 5 && sum.draws == 150 && sum.epsilon_micro == 15000 && sum.surrogates == 10 &&
          sum.passed == 15 && sum.first == NOON + 1 && sum.last == NOON + 5 && sum.complete);
    CHECK(cmif_receipts_audit(receipts_path, NULL, &sum, &err) == CMIF_OK && sum.receipts == 5);
    CHECK(stat(key_path, &info) == 0 && (info.st_mode & 07777) == 0600 && info.st_size == 32);
    CHECK(stat(receipts_path, &info) == 0 && (info.st_mode & 07777) == 0600);
    CHECK(stat(folder, &info) == 0 && (info.st_mode & 07777) == 0700);
    forget();
}

static void a_line_is_canonical_json(void)
{
    static char       text[1 << 16];
    static const char right[] =
        "{\"receipt\":{\"adjacency\":\"word\",\"answer_hash\":"
        "\"0700000000000000000000000000000000000000000000000000000000000000\","
        "\"by_class\":{\"account\":[0,2,3,4],\"person\":[1,0,0,0]},\"conversation\":"
        "\"01020000000000000000000000000000\","
        "\"delta_femto\":10000000000,\"draws\":10,\"epsilon_at_delta_micro\":1250000,\"epsilon_micro\":1000,"
        "\"key\":\"local\",\"ledger_id\":1,\"mechanism\":\"blocks\",\"model_id\":\"05";
    CHECK(put(1, 1));
    size_t size = get_file(receipts_path, text, sizeof text);
    CHECK(size > sizeof right && !memcmp(text, right, sizeof right - 1));
    CHECK(memmem(text, size, "\"peer\":null", 11) && !memchr(text, ' ', size) && text[size - 1] == '\n');
    forget();
}

static void what_a_receipt_cannot_hold_is_refused_and_not_written(void)
{
    char           name[80];
    cmif_receipts *r = NULL;
    uint64_t       n = 77;
    cmif_audit     sum;
    CHECK(put(1, 1) && cmif_receipts_open(folder, &r, NULL) == CMIF_OK);
    memset(name, 'a', sizeof name);
    name[65]                = '\0';
    const char *const bad[] = {name, "a\"b", "a\\b", "a\nb", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cmif_receipt receipt = receipt_of(2);
        receipt.peer         = bad[i];
        CHECK(cmif_receipts_put(r, &receipt, &n, NULL) == CMIF_E_RANGE);
        receipt                = receipt_of(2);
        receipt.class_names[0] = bad[i];
        CHECK(cmif_receipts_put(r, &receipt, &n, NULL) == CMIF_E_RANGE);
        receipt           = receipt_of(2);
        receipt.spend.key = bad[i];
        CHECK(cmif_receipts_put(r, &receipt, &n, NULL) == CMIF_E_RANGE);
    }
    cmif_receipt receipt   = receipt_of(2);
    receipt.class_names[2] = "person";
    CHECK(cmif_receipts_put(r, &receipt, &n, NULL) == CMIF_E_RANGE);
    receipt             = receipt_of(2);
    receipt.spend.draws = UINT64_MAX;
    CHECK(cmif_receipts_put(r, &receipt, &n, NULL) == CMIF_E_RANGE && n == 77); /* sums do not wrap */
    cmif_receipts_free(r);
    CHECK(audit(&sum, NULL) == CMIF_OK && sum.receipts == 1 && put(2, 2));
    forget();
}

/* ---- what an audit sees ---- */

static void every_single_byte_that_is_changed_is_seen(void)
{
    static char text[1 << 16];
    cmif_audit  sum, before;
    CHECK(put(1, 5) && audit(&before, NULL) == CMIF_OK);
    const size_t size   = get_file(receipts_path, text, sizeof text);
    size_t       unseen = 0;
    memset(&sum, 0x55, sizeof sum);
    before = sum;
    CHECK(size > 5 * 500 && size < sizeof text);
    for (size_t at = 0; at < size; at++) {
        for (int way = 0; way < 3; way++) {
            const char was = text[at];
            text[at] ^= (char) (way == 0 ? 1 : way == 1 ? 0x20 : 0xff); /* other bit, other case, other everything */
            FILE *file = fmemopen(text, size, "r");
            unseen += line_audit(file, NULL, NULL, NULL, &sum, NULL) == CMIF_OK; /* not even the head file helps */
            fclose(file);
            text[at] = was;
        }
    }
    CHECK(unseen == 0 && !memcmp(&sum, &before, sizeof sum));
    for (size_t at = 0; at < size; at += 97) { /* and as files, with a head */
        text[at] ^= 1;
        set_file(receipts_path, text, size);
        CHECK(audit(&sum, NULL) != CMIF_OK);
        text[at] ^= 1;
    }
    set_file(receipts_path, text, size);
    CHECK(audit(&sum, NULL) == CMIF_OK);
    const size_t head_size = get_file(head_path, text, sizeof text);
    for (size_t at = 0; at < head_size; at++) {
        text[at] ^= 1;
        set_file(head_path, text, head_size);
        CHECK(audit(&sum, NULL) != CMIF_OK);
        text[at] ^= 1;
    }
    forget();
}

/* The chain with its lines in this order ("1245" and so on). */
static void lay(const char *text, const char *order)
{
    static char laid[1 << 16];
    size_t      size = 0;
    const char *lines[8];
    size_t      sizes[8];
    for (size_t i = 0; i < 5; i++) {
        lines[i] = text;
        sizes[i] = (size_t) (strchr(text, '\n') + 1 - text);
        text += sizes[i];
    }
    for (; *order; order++) {
        memcpy(laid + size, lines[*order - '1'], sizes[*order - '1']);
        size += sizes[*order - '1'];
    }
    set_file(receipts_path, laid, size);
}

static void removal_reordering_and_doubling_are_seen(void)
{
    static char              text[1 << 16];
    static const char *const orders[] = {"2345",  "1345",  "1235",  "1234",   "1",          "",     "21345",
                                         "12354", "54321", "11234", "123455", "1234512345", "12344"};
    cmif_audit               sum;
    cmif_err                 err = {0};
    CHECK(put(1, 5));
    CHECK(get_file(receipts_path, text, sizeof text) > 0);
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        lay(text, orders[i]);
        CHECK(audit(&sum, &err) == CMIF_E_TRUST);
    }
    CHECK(says(&err, "receipt 5") && says(&err, "removed, doubled"));
    lay(text, "1234");
    CHECK(audit(&sum, &err) == CMIF_E_TRUST && says(&err, "ends after receipt 4") && says(&err, "it was cut"));
    cmif_receipts *r = NULL;
    CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_E_TRUST && says(&err, "cmif audit")); /* nor does it go on */
    lay(text, "12345");
    CHECK(audit(&sum, &err) == CMIF_OK);
    forget();
}

static void a_cut_chain_with_its_old_head_is_seen_by_who_knows_the_newest_hash(void)
{
    static char text[1 << 16], old_head[4096];
    cmif_audit  sum, now;
    cmif_err    err = {0};
    CHECK(put(1, 4));
    const size_t size     = get_file(receipts_path, text, sizeof text),
                 old_size = get_file(head_path, old_head, sizeof old_head);
    CHECK(audit(&sum, NULL) == CMIF_OK && put(5, 5) && audit(&now, NULL) == CMIF_OK);
    CHECK(cmif_receipts_audit(folder, sum.head, &sum, NULL) == CMIF_OK && sum.receipts == 5); /* known since 4 */
    CHECK(cmif_receipts_audit(folder, now.head, &sum, NULL) == CMIF_OK);
    set_file(receipts_path, text, size);
    set_file(head_path, old_head, old_size);
    CHECK(audit(&sum, NULL) == CMIF_OK && sum.receipts == 4); /* the limit that the header states */
    CHECK(cmif_receipts_audit(folder, now.head, &sum, &err) == CMIF_E_TRUST && says(&err, "the chain was cut"));
    unlink(head_path);
    CHECK(audit(&sum, NULL) == CMIF_OK && !sum.complete); /* and without a head file it is said */
    forget();
}

static void receipts_of_another_key_are_seen(void)
{
    static char text[1 << 16], other_head[4096];
    char        key[32];
    cmif_audit  sum;
    cmif_err    err = {0};
    CHECK(put(1, 3) && get_file(key_path, key, sizeof key) == 32);
    forget();
    CHECK(put(1, 3)); /* with another key */
    CHECK(audit(&sum, NULL) == CMIF_OK);
    const size_t size      = get_file(receipts_path, text, sizeof text),
                 head_size = get_file(head_path, other_head, sizeof other_head);
    set_file(key_path, key, sizeof key);
    CHECK(audit(&sum, &err) == CMIF_E_TRUST && says(&err, "another key"));
    cmif_receipts *r = NULL;
    CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_E_TRUST && says(&err, "another key"));
    unlink(key_path);
    CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_E_TRUST && says(&err, "their key is gone"));
    CHECK(audit(&sum, NULL) == CMIF_OK); /* auditors have no private key: the public one is in the result */
    forget();
    CHECK(put(1, 3));
    set_file(head_path, other_head, head_size);
    CHECK(audit(&sum, NULL) == CMIF_E_TRUST);
    set_file(receipts_path, text, size);
    CHECK(audit(&sum, NULL) == CMIF_E_TRUST); /* the folder's own key is the right one */
    forget();
    CHECK(put(1, 1) && chmod(key_path, 0644) == 0);
    CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_E_TRUST && says(&err, "others can read"));
    set_file(key_path, key, 31);
    CHECK(chmod(key_path, 0600) == 0 && cmif_receipts_open(folder, &r, &err) == CMIF_E_FORMAT && says(&err, "damaged"));
    CHECK(r == NULL);
    forget();
}

/* Signed and chained, and yet wrong: whoever holds the key cannot leave a request out of the sums, or a receipt out
 * of the chain. */
static void what_its_signer_made_wrong_is_seen(void)
{
    static char text[2 * LINE_SIZE_MAX];
    cmif_audit  sum;
    cmif_err    err         = {0};
    size_t      signer_size = 32;
    EVP_PKEY   *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), *other = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

    for (int wrong = 0; wrong < 5; wrong++) {
        static const char *const sentences[] = {"", "its sums", "its sums", "after another receipt", "another key"};

        size_t size = 0, more = 0;
        line   l = {.version = 1, .number = 1, .draws = 5, .sum_draws = 5, .epsilon_micro = 7, .sum_epsilon_micro = 7};
        CHECK(EVP_PKEY_get_raw_public_key(key, l.signer, &signer_size) == 1);
        CHECK(line_write(&l, key, text, &size, NULL) == CMIF_OK && line_hash(text, size, l.previous, NULL) == CMIF_OK);
        text[size++]        = '\n';
        l.number            = 2;
        l.sum_draws         = wrong == 1 ? 9 : 10;
        l.sum_epsilon_micro = wrong == 2 ? 7 : 14;
        l.previous[31] ^= wrong == 3;
        CHECK(EVP_PKEY_get_raw_public_key(wrong == 4 ? other : key, l.signer, &signer_size) == 1);
        CHECK(line_write(&l, wrong == 4 ? other : key, text + size, &more, NULL) == CMIF_OK);
        text[size + more] = '\n';
        FILE     *file    = fmemopen(text, size + more + 1, "r");
        cmif_code rc      = line_audit(file, NULL, NULL, NULL, &sum, &err);
        CHECK(wrong ? rc == CMIF_E_TRUST && says(&err, "receipt 2: ") && says(&err, sentences[wrong])
                    : rc == CMIF_OK && sum.draws == 10);
        fclose(file);
    }
    EVP_PKEY_free(other);
    EVP_PKEY_free(key);
}

/* ---- programs that are killed, or are many ---- */

static void a_line_that_was_not_finished_is_cut_off_and_no_other(void)
{
    static char text[1 << 16];
    cmif_audit  sum;
    cmif_err    err = {0};
    CHECK(put(1, 4));
    const size_t before = get_file(receipts_path, text, sizeof text);
    static char  head[4096];
    const size_t head_size = get_file(head_path, head, sizeof head);
    CHECK(put(5, 5));
    const size_t size = get_file(receipts_path, text, sizeof text);
    for (size_t cut = before + 1; cut < size; cut += 37) { /* killed while it wrote number 5: no head yet */
        set_file(receipts_path, text, cut);
        set_file(head_path, head, head_size);
        CHECK(audit(&sum, &err) == CMIF_E_FORMAT && says(&err, "without a newline"));
        CHECK(put(5, 5) && audit(&sum, &err) == CMIF_OK && sum.receipts == 5);
    }
    memset(text + before, 'x', 8000); /* longer than what comes after it */
    set_file(receipts_path, text, before + 8000);
    set_file(head_path, head, head_size);
    CHECK(put(5, 5) && audit(&sum, &err) == CMIF_OK && sum.receipts == 5);
    CHECK(get_file(receipts_path, text, sizeof text) == size);
    set_file(receipts_path, text, size - 1); /* but the head vouches for 5: that was no kill */
    cmif_receipts *r = NULL;
    CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_E_TRUST && r == NULL);
    CHECK(get_file(receipts_path, text, sizeof text) == size - 1);
    text[size - 1] = '\n';
    set_file(receipts_path, text, size);
    set_file(head_path, head, head_size); /* killed between line and head */
    CHECK(audit(&sum, &err) == CMIF_OK && sum.receipts == 5);
    CHECK(put(6, 6) && audit(&sum, &err) == CMIF_OK && sum.receipts == 6);
    forget();
}

static void put_until_killed(int pipe, bool gather)
{
    cmif_receipts *r       = NULL;
    cmif_receipt   receipt = receipt_of(1);
    uint64_t       number  = 0;
    if (cmif_receipts_open(folder, &r, NULL) != CMIF_OK) {
        _exit(3);
    }
    if (gather) {
        cmif_receipts_gather(r);
    }
    while (cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_OK && write(pipe, "", 1) == 1 &&
           (number % 5 || cmif_receipts_settle(r, NULL) == CMIF_OK)) {
    }
    _exit(4);
}

static void kill_often(bool gather)
{
    uint64_t acknowledged = 0, there = 0;
    srand(1);
    for (int i = 0; i < 20; i++) {
        int     ends[2], status = 0;
        char    bytes[256];
        ssize_t got;
        CHECK(pipe(ends) == 0);
        pid_t child = fork();
        if (child == 0) {
            put_until_killed(ends[1], gather);
        }
        close(ends[1]);
        struct timespec moment = {.tv_nsec = rand() % 60000 * 1000L};
        nanosleep(&moment, NULL);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        while ((got = read(ends[0], bytes, sizeof bytes)) > 0) {
            acknowledged += (uint64_t) got;
        }
        close(ends[0]);
        cmif_receipts *r   = NULL;
        cmif_audit     sum = {0};
        cmif_err       err = {0};
        CHECK(cmif_receipts_open(folder, &r, &err) == CMIF_OK); /* repairs */
        cmif_receipts_free(r);
        cmif_code rc = audit(&sum, &err);
        CHECK(rc == CMIF_OK || (rc == CMIF_E_RANGE && !acknowledged));
        there = rc == CMIF_OK ? sum.receipts : 0;
        CHECK(there >= acknowledged && there <= acknowledged + (uint64_t) i + 1);
        if (rc != CMIF_OK && rc != CMIF_E_RANGE) {
            fprintf(stderr, "%s\n", err.text);
        }
    }
    printf("       20 killed, %llu acknowledged, %llu there\n", (unsigned long long) acknowledged,
           (unsigned long long) there);
    CHECK(acknowledged > 0);
    forget();
}

static void killed_at_any_moment_no_receipt_is_lost(void)
{
    kill_often(false);
    kill_often(true);
}

static uint64_t vouched_for(void)
{
    char         text[1000];
    const size_t size = get_file(head_path, text, sizeof text - 1);
    text[size]        = '\0';
    const char *count = strstr(text, "\"count\":");
    return count ? strtoull(count + 8, NULL, 10) : 0;
}

static void gathered_receipts_are_vouched_for_when_they_are_settled(void)
{
    cmif_receipts *r = NULL, *other = NULL;
    cmif_audit     sum;
    uint64_t       number = 0;
    cmif_receipt   receipt[8];
    for (uint64_t i = 0; i < 8; i++) {
        receipt[i] = receipt_of(i + 1);
    }
    CHECK(cmif_receipts_open(folder, &r, NULL) == CMIF_OK && cmif_receipts_open(folder, &other, NULL) == CMIF_OK);
    CHECK(cmif_receipts_put(r, &receipt[0], &number, NULL) == CMIF_OK && vouched_for() == 1);
    cmif_receipts_gather(r);
    for (uint64_t i = 1; i < 4; i++) {
        CHECK(cmif_receipts_put(r, &receipt[i], &number, NULL) == CMIF_OK && number == i + 1);
    }
    CHECK(vouched_for() == 1 && audit(&sum, NULL) == CMIF_OK && sum.receipts == 4);
    CHECK(cmif_receipts_settle(r, NULL) == CMIF_OK && vouched_for() == 4);
    CHECK(cmif_receipts_put(r, &receipt[4], &number, NULL) == CMIF_OK);
    CHECK(cmif_receipts_put(other, &receipt[5], &number, NULL) == CMIF_OK && number == 6 && vouched_for() == 6);
    CHECK(cmif_receipts_put(r, &receipt[6], &number, NULL) == CMIF_OK && number == 7); /* behind the other's */
    CHECK(cmif_receipts_settle(r, NULL) == CMIF_OK && vouched_for() == 7);
    CHECK(cmif_receipts_put(r, &receipt[7], &number, NULL) == CMIF_OK && vouched_for() == 7);
    cmif_receipts_free(r);
    cmif_receipts_free(other);
    CHECK(vouched_for() == 8 && audit(&sum, NULL) == CMIF_OK && sum.receipts == 8);
    forget();
}

/* Also by somebody who writes behind our back, between two of ours. */
static void a_chain_that_was_changed_takes_no_gathered_receipt(void)
{
    cmif_receipts *r       = NULL;
    uint64_t       number  = 0;
    cmif_receipt   receipt = receipt_of(1);
    char           bytes[8000];
    CHECK(cmif_receipts_open(folder, &r, NULL) == CMIF_OK);
    cmif_receipts_gather(r);
    CHECK(cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_OK &&
          cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_OK);
    size_t size = get_file(receipts_path, bytes, sizeof bytes - 1);
    memcpy(bytes + size, "\n", 1);
    set_file(receipts_path, bytes, size + 1);
    CHECK(cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_E_FORMAT);
    bytes[size / 2 + 100] ^= 1; /* of the last one */
    set_file(receipts_path, bytes, size);
    CHECK(cmif_receipts_settle(r, NULL) != CMIF_OK && vouched_for() == 0);
    cmif_receipts_free(r);
    CHECK(vouched_for() == 0);
    forget();
}

static void *put_ten(void *context)
{
    cmif_receipts *r    = NULL;
    int           *done = context;
    cmif_err       err  = {0};
    if (cmif_receipts_open(folder, &r, &err) == CMIF_OK) {
        for (int i = 0; i < 10; i++) {
            cmif_receipt receipt = receipt_of(1);
            uint64_t     number  = 0;
            *done += cmif_receipts_put(r, &receipt, &number, &err) == CMIF_OK;
        }
    }
    cmif_receipts_free(r);
    return NULL;
}

static void they_are_refused_after_a_fork(void)
{
    cmif_receipts *r       = NULL;
    cmif_receipt   receipt = receipt_of(1);
    uint64_t       number  = 0;
    int            status  = 0;
    CHECK(cmif_receipts_open(folder, &r, NULL) == CMIF_OK);
    pid_t child = fork();
    if (child == 0) {
        _exit(cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_E_IO ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(cmif_receipts_put(r, &receipt, &number, NULL) == CMIF_OK);
    cmif_receipts_free(r);
    forget();
}

static void two_programs_of_threads_make_one_chain(void)
{
    int        done[4] = {0}, status = 0;
    pthread_t  threads[4];
    cmif_audit sum   = {0};
    cmif_err   err   = {0};
    pid_t      child = fork();
    for (int i = 0; i < 4; i++) {
        (void) !pthread_create(&threads[i], NULL, put_ten, &done[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    if (child == 0) {
        _exit(done[0] + done[1] + done[2] + done[3] == 40 ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0 && done[0] + done[1] + done[2] + done[3] == 40);
    CHECK(audit(&sum, &err) == CMIF_OK && sum.receipts == 80 && sum.draws == 800);
    forget();
}

static void a_full_disk_refuses_and_the_chain_stays_whole(void)
{
    int        status = 0;
    cmif_audit sum;
    CHECK(put(1, 3));
    pid_t child = fork();
    if (child == 0) {
        struct rlimit  limit   = {4000, 4000};
        cmif_receipts *r       = NULL;
        cmif_receipt   receipt = receipt_of(1);
        uint64_t       number  = 0;
        cmif_err       err     = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || cmif_receipts_open(folder, &r, NULL) != CMIF_OK) {
            _exit(200);
        }
        while (number < 100 && cmif_receipts_put(r, &receipt, &number, &err) == CMIF_OK) {
        }
        _exit(says(&err, "make room") ? (int) number : 201);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) < 100);
    const uint64_t there = (uint64_t) WEXITSTATUS(status);
    CHECK(audit(&sum, NULL) == CMIF_OK && (sum.receipts == there || (there == 0 && sum.receipts == 3)));
    CHECK(put(sum.receipts + 1, sum.receipts + 2) && audit(&sum, NULL) == CMIF_OK);
    forget();
}

static void folders_that_cannot_be_used_are_errors_that_say_so(void)
{
    cmif_receipts *r   = NULL;
    cmif_audit     sum = {0};
    cmif_err       err = {0};
    CHECK(cmif_receipts_open("/proc/no/folder", &r, &err) == CMIF_E_IO && says(&err, "cannot make the folder"));
    CHECK(cmif_receipts_open("", &r, &err) == CMIF_E_IO);
    CHECK(cmif_receipts_audit("/no/such/file", NULL, &sum, &err) == CMIF_E_IO && says(&err, "cannot open"));
    CHECK(cmif_receipts_audit("/dev/null", NULL, &sum, &err) == CMIF_E_RANGE && says(&err, "no receipt"));
    CHECK(cmif_receipts_audit(folder, NULL, &sum, &err) == CMIF_E_IO); /* nothing in it */
    CHECK(r == NULL && sum.receipts == 0);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/cmif-receipts-XXXXXX");
    if (!mkdtemp(folder)) {
        return check_skip("no folder in /tmp");
    }
    snprintf(receipts_path, sizeof receipts_path, "%s/receipts.jsonl", folder);
    snprintf(head_path, sizeof head_path, "%s/receipts.jsonl.head", folder);
    snprintf(key_path, sizeof key_path, "%s/key", folder);
    RUN(a_chain_can_be_audited_and_goes_on_when_opened_again);
    RUN(a_line_is_canonical_json);
    RUN(what_a_receipt_cannot_hold_is_refused_and_not_written);
    RUN(every_single_byte_that_is_changed_is_seen);
    RUN(removal_reordering_and_doubling_are_seen);
    RUN(a_cut_chain_with_its_old_head_is_seen_by_who_knows_the_newest_hash);
    RUN(receipts_of_another_key_are_seen);
    RUN(what_its_signer_made_wrong_is_seen);
    RUN(a_line_that_was_not_finished_is_cut_off_and_no_other);
    RUN(killed_at_any_moment_no_receipt_is_lost);
    RUN(gathered_receipts_are_vouched_for_when_they_are_settled);
    RUN(a_chain_that_was_changed_takes_no_gathered_receipt);
    RUN(they_are_refused_after_a_fork);
    RUN(two_programs_of_threads_make_one_chain);
    RUN(a_full_disk_refuses_and_the_chain_stays_whole);
    RUN(folders_that_cannot_be_used_are_errors_that_say_so);
    char fresh[80];
    snprintf(fresh, sizeof fresh, "%s/new", folder);
    unlink(fresh);
    rmdir(folder);
    return check_report();
}
