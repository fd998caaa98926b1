/* ledger_test [--full] [--kills N]: --full is 64 threads of 1,000 requests each; N children are killed (default 20). */
#include "ledger/ledger.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOON (20000 * (int64_t) 86400 + 43200)

static char   folder[64], path[128];
static int    requests_each = 4, kills = 20;
static double unlimited = INFINITY;

static cmif_spend spend_of(const char *key, uint64_t epsilon_micro)
{
    return (cmif_spend){.key              = key,
                        .conversation     = {1, 2, 3},
                        .table_hash       = {4},
                        .policy_hash      = {5},
                        .draws            = 7,
                        .epsilon_micro    = epsilon_micro,
                        .delta            = 1e-5,
                        .epsilon_at_delta = 0.5,
                        .surrogates       = 2,
                        .passed           = 11};
}

static cmif_ledger *open_ledger(void)
{
    cmif_ledger *l   = NULL;
    cmif_err     err = {0};
    if (cmif_ledger_open(path, &l, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    return l;
}

static void forget(void)
{
    char other[140];
    unlink(path);
    snprintf(other, sizeof other, "%s-wal", path);
    unlink(other);
    snprintf(other, sizeof other, "%s-shm", path);
    unlink(other);
}

static cmif_code spend(cmif_ledger *l, const char *key, double epsilon, const cmif_budgets *budgets, int64_t now,
                       cmif_err *err)
{
    cmif_spend what = spend_of(key, (uint64_t) llround(epsilon * 1e6));
    uint64_t   id   = 0;
    return cmif_ledger_spend(l, &what, budgets, now, &id, NULL, err);
}

static bool says(const cmif_err *err, const char *text)
{
    if (!strstr(err->text, text)) {
        fprintf(stderr, "no '%s' in: %s\n", text, err->text);
        return false;
    }
    return true;
}

/* ---- what is entered stays ---- */

static bool see(void *context, uint64_t id, int64_t when, const cmif_spend *what)
{
    cmif_spend right = spend_of("local", 1000 * id);
    uint64_t  *next  = context;
    CHECK(id == *next && when == NOON + (int64_t) id && !strcmp(what->key, "local"));
    CHECK(what->draws == right.draws && what->epsilon_micro == right.epsilon_micro && what->passed == right.passed);
    CHECK(what->delta == right.delta && what->epsilon_at_delta == right.epsilon_at_delta);
    CHECK(!memcmp(what->conversation, right.conversation, 16) && !memcmp(what->table_hash, right.table_hash, 32) &&
          !memcmp(what->policy_hash, right.policy_hash, 32) && what->surrogates == right.surrogates);
    return --*next > 2;
}

static void entries_are_there_when_it_is_opened_again(void)
{
    cmif_spent   sum  = {0};
    uint64_t     next = 5;
    struct stat  info;
    cmif_ledger *l = open_ledger();
    for (uint64_t i = 1; i <= 5 && l; i++) {
        cmif_spend what = spend_of("local", 1000 * i);
        uint64_t   id   = 0;
        CHECK(cmif_ledger_spend(l, &what, NULL, NOON + (int64_t) i, &id, NULL, NULL) == CMIF_OK && id == i);
    }
    cmif_ledger_free(l);
    CHECK(stat(path, &info) == 0 && (info.st_mode & 07777) == 0600);

    l = open_ledger();
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK);
    CHECK(sum.requests == 5 && sum.draws == 35 && sum.epsilon_micro == 15000 && sum.surrogates == 10 &&
          sum.passed == 55 && sum.first == NOON + 1 && sum.last == NOON + 5);
    CHECK(cmif_ledger_sum(l, "local", NOON + 4, &sum, NULL) == CMIF_OK && sum.requests == 2 &&
          sum.epsilon_micro == 9000 && sum.first == NOON + 4 && sum.last == NOON + 5);
    CHECK(cmif_ledger_sum(l, "nobody", 0, &sum, NULL) == CMIF_OK && sum.requests == 0 && sum.last == 0);
    CHECK(spend(l, "other", 1, NULL, NOON, NULL) == CMIF_OK);
    CHECK(cmif_ledger_sum(l, NULL, 0, &sum, NULL) == CMIF_OK && sum.requests == 6 && sum.epsilon_micro == 1015000);
    CHECK(cmif_ledger_sum(l, NULL, NOON + 5, &sum, NULL) == CMIF_OK && sum.requests == 1);
    CHECK(cmif_ledger_check(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);

    forget();
    l = open_ledger();
    for (uint64_t i = 1; i <= 5; i++) {
        cmif_spend what = spend_of("local", 1000 * i);
        uint64_t   id   = 0;
        CHECK(cmif_ledger_spend(l, &what, NULL, NOON + (int64_t) i, &id, NULL, NULL) == CMIF_OK);
    }
    CHECK(cmif_ledger_history(l, 100, see, &next, NULL) == CMIF_OK && next == 2); /* see() stopped it */
    next = 5;
    CHECK(cmif_ledger_history(l, 1, see, &next, NULL) == CMIF_OK && next == 4);
    cmif_ledger_free(l);
    forget();
}

/* ---- budgets ---- */

static void a_spent_budget_refuses_and_says_what_is_left(void)
{
    cmif_ledger *l       = open_ledger();
    cmif_budgets request = {2, unlimited, unlimited}, day = {unlimited, 3, unlimited}, key = {unlimited, unlimited, 4};
    cmif_spent   sum = {0};
    cmif_err     err = {0};

    CHECK(spend(l, "local", 2.000001, &request, NOON, &err) == CMIF_E_BUDGET);
    CHECK(says(&err, "of the request") && says(&err, "epsilon 2.000001, and 2 of 2") && says(&err, "shorten the text"));
    CHECK(spend(l, "local", 2, &request, NOON, &err) == CMIF_OK); /* all of it may be spent */
    CHECK(spend(l, "local", 1.25, &day, NOON, &err) == CMIF_E_BUDGET);
    CHECK(says(&err, "of the day") && says(&err, "epsilon 1.25, and 1 of 3") &&
          says(&err, "renews at 2024-10-05 00:00 UTC"));
    CHECK(spend(l, "local", 1, &day, NOON, &err) == CMIF_OK);
    CHECK(spend(l, "local", 1.5, &key, NOON, &err) == CMIF_E_BUDGET);
    CHECK(says(&err, "of the key") && says(&err, "1 of 4 is left") && says(&err, "does not renew"));
    CHECK(spend(l, "local", 1, &key, NOON, &err) == CMIF_OK);
    CHECK(spend(l, "local", 0.000001, &key, NOON + 86400, &err) == CMIF_E_BUDGET);
    CHECK(spend(l, "local", 0, &key, NOON, &err) == CMIF_OK);
    CHECK(spend(l, "other", 4, &key, NOON, &err) == CMIF_OK); /* each key has its own */
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.epsilon_micro == 4000000 && sum.requests == 4);
    cmif_ledger_free(l);
    forget();
}

static void a_new_day_renews_and_a_clock_set_back_does_not(void)
{
    cmif_ledger *l   = open_ledger();
    cmif_budgets day = {unlimited, 3, unlimited};
    cmif_err     err = {0};
    cmif_spent   sum;

    CHECK(spend(l, "local", 3, &day, NOON, &err) == CMIF_OK);
    CHECK(spend(l, "local", 1, &day, NOON + 43199, &err) == CMIF_E_BUDGET);
    CHECK(spend(l, "local", 2, &day, NOON + 43200, &err) == CMIF_OK); /* midnight */
    CHECK(spend(l, "local", 2, &day, NOON, &err) == CMIF_E_BUDGET);   /* back to a day, spent or not, gives nothing */
    CHECK(spend(l, "local", 2, &day, NOON - 10 * 86400, &err) == CMIF_E_BUDGET);
    CHECK(says(&err, "1 of 3 is left") && says(&err, "2024-10-06"));
    CHECK(spend(l, "local", 1, &day, NOON - 10 * 86400, &err) == CMIF_OK);
    CHECK(spend(l, "local", 1, &day, NOON + 43200, &err) == CMIF_E_BUDGET);
    CHECK(cmif_ledger_sum(l, "local", NOON + 43200, &sum, NULL) == CMIF_OK && sum.epsilon_micro == 3000000);
    CHECK(cmif_ledger_check(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    forget();
}

static bool list_key(void *context, const char *key)
{
    strncat(context, key, 8);
    strncat(context, ",", 2);
    return true;
}

static void budgets_are_kept_and_the_smaller_one_counts(void)
{
    cmif_ledger *l    = open_ledger();
    cmif_budgets kept = {1.5, 0.3, unlimited}, got = {0}, large = {9, 9, 9}, small = {9, 0.1, 9};
    char         keys[32] = "";

    CHECK(cmif_ledger_get(l, "local", &got, NULL) == CMIF_OK);
    CHECK(isinf(got.request) && isinf(got.day) && isinf(got.key));
    CHECK(cmif_ledger_set(l, "local", &kept, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    l = open_ledger();
    CHECK(cmif_ledger_get(l, "local", &got, NULL) == CMIF_OK);
    CHECK(got.request == 1.5 && got.day == 0.3 && isinf(got.key));
    CHECK(spend(l, "local", 0.2, &small, NOON, NULL) == CMIF_E_BUDGET);
    CHECK(spend(l, "local", 0.2, NULL, NOON, NULL) == CMIF_OK);
    CHECK(spend(l, "local", 0.2, NULL, NOON, NULL) == CMIF_E_BUDGET);
    CHECK(spend(l, "local", 0.2, &large, NOON, NULL) == CMIF_E_BUDGET);
    kept.day = 0.4;
    CHECK(cmif_ledger_set(l, "local", &kept, NULL) == CMIF_OK); /* what was spent stays spent */
    CHECK(spend(l, "local", 0.200001, &large, NOON, NULL) == CMIF_E_BUDGET);
    CHECK(spend(l, "local", 0.2, &large, NOON, NULL) == CMIF_OK);
    CHECK(spend(l, "bob", 0.2, &large, NOON, NULL) == CMIF_OK);
    CHECK(cmif_ledger_keys(l, list_key, keys, NULL) == CMIF_OK && !strcmp(keys, "bob,local,"));
    CHECK(cmif_ledger_check(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    forget();
}

static void nonsense_is_refused_and_not_entered(void)
{
    cmif_ledger *l = open_ledger();
    cmif_spent   sum;
    char         name[80];
    uint64_t     id  = 77;
    cmif_budgets bad = {-1, 1, 1}, nan_day = {1, NAN, 1};

    memset(name, 'k', sizeof name);
    name[65]               = '\0';
    const char *const no[] = {"", name, "a\"b", "a\\b", "a\nb", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        CHECK(spend(l, no[i], 1, NULL, NOON, NULL) == CMIF_E_RANGE);
    }
    name[64] = '\0';
    CHECK(spend(l, name, 1, NULL, NOON, NULL) == CMIF_OK);
    CHECK(spend(l, "local", 1, &bad, NOON, NULL) == CMIF_E_RANGE);
    CHECK(spend(l, "local", 1, &nan_day, NOON, NULL) == CMIF_E_RANGE);
    CHECK(cmif_ledger_set(l, "local", &bad, NULL) == CMIF_E_RANGE);
    CHECK(spend(l, "local", 1, NULL, -1, NULL) == CMIF_E_RANGE);
    cmif_spend what = spend_of("local", UINT64_MAX);
    CHECK(cmif_ledger_spend(l, &what, NULL, NOON, &id, NULL, NULL) == CMIF_E_RANGE && id == 77);
    what.epsilon_micro = INT64_MAX;
    CHECK(cmif_ledger_spend(l, &what, NULL, NOON, &id, NULL, NULL) == CMIF_OK);
    CHECK(cmif_ledger_spend(l, &what, NULL, NOON, &id, NULL, NULL) == CMIF_E_RANGE); /* sums do not wrap */
    what       = spend_of("local", 1);
    what.delta = NAN;
    CHECK(cmif_ledger_spend(l, &what, NULL, NOON, &id, NULL, NULL) == CMIF_E_RANGE);
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 1 && sum.epsilon_micro == INT64_MAX);
    cmif_ledger_free(l);
    forget();
}

/* ---- many at once ---- */

static void *spend_many(void *context)
{
    int         *done   = context;
    cmif_budgets budget = {unlimited, unlimited, (double) (16 * requests_each)}; /* a quarter of what is asked */
    cmif_ledger *l      = open_ledger();
    for (int i = 0; l && i < requests_each; i++) {
        cmif_err err = {0};
        if (spend(l, "open", 1, NULL, NOON + i, &err) != CMIF_OK) {
            fprintf(stderr, "%s\n", err.text);
        } else {
            done[0]++;
        }
        done[1] += spend(l, "tight", 1, &budget, NOON + i, NULL) == CMIF_OK;
        if (i % 8 == 7) { /* opening checks it while others write */
            cmif_ledger_free(l);
            l = open_ledger();
        }
    }
    cmif_ledger_free(l);
    return NULL;
}

static void *open_once(void *context)
{
    cmif_ledger *l = open_ledger();
    *(int *) context += l != NULL;
    cmif_ledger_free(l);
    return NULL;
}

static void many_that_make_it_at_once_make_one(void)
{
    for (int round = 0; round < 30; round++) {
        pthread_t threads[64];
        int       opened[64] = {0};
        for (size_t i = 0; i < 64; i++) {
            CHECK(pthread_create(&threads[i], NULL, open_once, &opened[i]) == 0);
        }
        for (size_t i = 0; i < 64; i++) {
            CHECK(pthread_join(threads[i], NULL) == 0 && opened[i]);
        }
        forget();
    }
}

static void sixty_four_threads_count_every_request_once(void)
{
    pthread_t       threads[64];
    int             done[64][2] = {{0}}, open = 0, tight = 0;
    cmif_spent      sum = {0};
    struct timespec from, to;

    clock_gettime(CLOCK_MONOTONIC, &from);
    for (size_t i = 0; i < 64; i++) {
        CHECK(pthread_create(&threads[i], NULL, spend_many, done[i]) == 0);
    }
    for (size_t i = 0; i < 64; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        open += done[i][0];
        tight += done[i][1];
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double) (to.tv_sec - from.tv_sec) + 1e-9 * (double) (to.tv_nsec - from.tv_nsec);
    printf("       64 threads x %d x 2 requests: %.1f s, %.0f entries a second\n", requests_each, seconds,
           (open + tight) / seconds);
    cmif_ledger *l = open_ledger();
    CHECK(open == 64 * requests_each && tight == 16 * requests_each);
    CHECK(cmif_ledger_sum(l, "open", 0, &sum, NULL) == CMIF_OK && sum.requests == (uint64_t) open);
    CHECK(sum.epsilon_micro == (uint64_t) open * 1000000 && sum.draws == (uint64_t) open * 7);
    CHECK(cmif_ledger_sum(l, "tight", 0, &sum, NULL) == CMIF_OK && sum.requests == (uint64_t) tight);
    CHECK(cmif_ledger_check(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    forget();
}

/* Enter requests of epsilon 1 until killed. A byte for each entry that is on disk; several at once where they wait for
 * each other. */
static void spend_until_killed(int pipe, bool gathers)
{
    static const uint8_t done[8] = {0};
    cmif_ledger         *l       = NULL;
    if (cmif_ledger_open(path, &l, NULL) != CMIF_OK) {
        _exit(2);
    }
    if (gathers) {
        cmif_ledger_gather(l);
    }
    for (size_t i = 0;; i++) {
        const size_t together = gathers ? i % sizeof done + 1 : 1;
        for (size_t k = 0; k < together; k++) {
            if (spend(l, "local", 1, NULL, NOON, NULL) != CMIF_OK) {
                _exit(3);
            }
        }
        if (cmif_ledger_settle(l, NULL) != CMIF_OK || write(pipe, done, together) != (ssize_t) together) {
            _exit(4);
        }
        if (gathers && i % 5 == 4 && cmif_ledger_look_ahead(l, NULL) != CMIF_OK) {
            _exit(5);
        }
    }
}

static void killed_at_any_moment_it_never_under_counts(void)
{
    uint64_t acknowledged = 0, over = 0;

    srand(1);
    for (int i = 0; i < kills; i++) {
        int     ends[2];
        uint8_t bytes[256];
        ssize_t got;
        CHECK(pipe(ends) == 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            spend_until_killed(ends[1], i % 2);
        }
        close(ends[1]);
        struct timespec moment = {.tv_nsec = rand() % 60000 * 1000L}; /* also while it opens */
        nanosleep(&moment, NULL);
        int status = 0;
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        while ((got = read(ends[0], bytes, sizeof bytes)) > 0) {
            acknowledged += (uint64_t) got;
        }
        close(ends[0]);
        if (i % 4 != 3 && i + 1 < kills) {
            continue; /* the next one goes on with what this one left */
        }
        cmif_spent   sum = {0};
        cmif_ledger *l   = open_ledger(); /* which checks it whole */
        CHECK(l && cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && cmif_ledger_check(l, NULL) == CMIF_OK);
        cmif_ledger_free(l);
        over = sum.requests - acknowledged;
        CHECK(sum.requests >= acknowledged &&
              over <= (8 + 80) * ((uint64_t) i + 1)); /* of each kill those that waited at most, or were made ahead */
        CHECK(sum.epsilon_micro == sum.requests * 1000000);
    }
    printf("       %d killed, %llu acknowledged, %llu counted beyond\n", kills, (unsigned long long) acknowledged,
           (unsigned long long) over);
    CHECK(acknowledged > 0);
    forget();
}

static void a_ledger_is_refused_after_a_fork(void)
{
    cmif_ledger *l      = open_ledger();
    int          status = 0;
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    pid_t child = fork();
    if (child == 0) {
        cmif_code rc = spend(l, "local", 1, NULL, NOON, NULL);
        cmif_ledger_free(l);
        _exit(rc == CMIF_E_IO ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    forget();
}

/* ---- disks and files that fail ---- */

static void fill_the_disk(bool gathers)
{
    int          ends[2], status = 0;
    uint64_t     told[2] = {0};
    cmif_spent   sum     = {0};
    cmif_ledger *l       = open_ledger();

    for (int i = 0; i < 5; i++) {
        CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    }
    cmif_ledger_free(l);
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit   = {100000, 100000}; /* no file grows beyond */
        cmif_err      err     = {0};
        uint64_t      done[2] = {0};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || cmif_ledger_open(path, &l, NULL) != CMIF_OK) {
            _exit(2);
        }
        if (gathers) {
            cmif_ledger_gather(l);
        }
        while (done[0] < 10000 && spend(l, "local", 1, NULL, NOON, &err) == CMIF_OK &&
               (!gathers || spend(l, "local", 1, NULL, NOON, &err) == CMIF_OK) &&
               cmif_ledger_settle(l, &err) == CMIF_OK) {
            done[0] += gathers ? 2 : 1;
            (void) !(done[0] % 8 == 0 && cmif_ledger_look_ahead(l, NULL));
        }
        if (cmif_ledger_settle(l, &err) == CMIF_OK) {
            done[1] = 0;
        }
        for (int i = 0; i < 3; i++) { /* and it goes on refusing */
            cmif_code rc      = spend(l, "local", 1, NULL, NOON, &err);
            cmif_code settled = cmif_ledger_settle(l, &err);
            done[1] +=
                (rc == CMIF_E_IO || settled == CMIF_E_IO) && says(&err, "the disk is full") && says(&err, "make room");
        }
        _exit(write(ends[1], done, sizeof done) == sizeof done ? 0 : 3);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(read(ends[0], told, sizeof told) == sizeof told);
    close(ends[0]);
    close(ends[1]);
    l = open_ledger();
    printf("       %llu entries until the disk was full, then %llu of 3 refused\n", (unsigned long long) told[0],
           (unsigned long long) told[1]);
    CHECK(told[0] > 0 && told[0] < 10000 && told[1] == 3);
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests >= 5 + told[0]);
    CHECK(gathers || sum.requests == 5 + told[0]);            /* those that were made ahead stay */
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK); /* there is room again */
    cmif_ledger_free(l);
    forget();
}

/* What opening it, or else spending, says to somebody who may only read. */
static cmif_code as_nobody(cmif_err *err)
{
    struct {
        cmif_code code;
        cmif_err  err;
    } told = {CMIF_OK, {0}};
    int ends[2], status = 0;
    if (pipe(ends) < 0) {
        return CMIF_OK;
    }
    pid_t child = fork();
    if (child == 0) {
        cmif_ledger *l = NULL;
        if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0)) {
            _exit(1);
        }
        told.code = cmif_ledger_open(path, &l, &told.err);
        told.code = told.code == CMIF_OK ? spend(l, "local", 1, NULL, NOON, &told.err) : told.code;
        cmif_ledger_free(l); /* the -wal file goes */
        _exit(write(ends[1], &told, sizeof told) == sizeof told ? 0 : 1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(read(ends[0], &told, sizeof told) == sizeof told);
    close(ends[0]);
    close(ends[1]);
    *err = told.err;
    return told.code;
}

static void a_full_disk_refuses_and_loses_nothing(void)
{
    fill_the_disk(false);
    fill_the_disk(true);
}

/* Entries that wait for each other: nobody sees one before all are on disk. */
static void gathered_entries_are_there_together_or_not_at_all(void)
{
    cmif_spent         sum    = {0};
    const cmif_budgets budget = {.request = unlimited, .day = unlimited, .key = 5};
    cmif_ledger       *l = open_ledger(), *other = open_ledger();
    cmif_err           err = {0};

    cmif_ledger_gather(l);
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK); /* nothing */
    for (int i = 0; i < 3; i++) {
        CHECK(spend(l, "local", 1, &budget, NOON, NULL) == CMIF_OK);
    }
    CHECK(spend(l, "local", 3, &budget, NOON, &err) == CMIF_E_BUDGET && says(&err, "2 of 5 is left"));
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 3);
    CHECK(cmif_ledger_sum(other, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 0);
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK);
    CHECK(cmif_ledger_sum(other, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 3);
    CHECK(spend(other, "local", 1, &budget, NOON, NULL) == CMIF_OK);
    CHECK(spend(l, "local", 1, &budget, NOON, NULL) == CMIF_OK && spend(l, "x", 1, NULL, NOON, NULL) == CMIF_OK);
    cmif_ledger_free(l); /* never settled */
    CHECK(cmif_ledger_sum(other, NULL, 0, &sum, NULL) == CMIF_OK && sum.requests == 4);
    CHECK(spend(other, "local", 1, &budget, NOON, NULL) == CMIF_OK && cmif_ledger_check(other, NULL) == CMIF_OK);
    cmif_ledger_free(other);
    forget();
}

/* One that fails half-way takes with it those that wait, and they are told. */
static void what_waits_beside_one_that_fails_is_lost_and_told(void)
{
    cmif_ledger *l    = open_ledger();
    cmif_spend   most = spend_of("most", INT64_MAX);
    uint64_t     id   = 0;
    cmif_spent   sum  = {0};
    cmif_err     err  = {0};
    cmif_ledger_gather(l);
    CHECK(cmif_ledger_spend(l, &most, NULL, NOON, &id, NULL, NULL) == CMIF_OK &&
          cmif_ledger_settle(l, NULL) == CMIF_OK);
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    CHECK(cmif_ledger_spend(l, &most, NULL, NOON, &id, NULL, NULL) == CMIF_E_RANGE);
    CHECK(spend(l, "local", 1, NULL, NOON, &err) == CMIF_E_RANGE && says(&err, "2^63"));
    CHECK(cmif_ledger_settle(l, &err) == CMIF_E_RANGE && says(&err, "2^63"));
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 0);
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK && cmif_ledger_settle(l, NULL) == CMIF_OK);
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 1);
    cmif_ledger_free(l);
    forget();
}

/* ---- entries made ahead ---- */

static cmif_ledger *open_busy(const char *key, double epsilon, const cmif_budgets *budgets, int requests)
{
    cmif_ledger *l = open_ledger();
    cmif_ledger_gather(l);
    for (int i = 0; i < requests; i++) {
        CHECK(spend(l, key, epsilon, budgets, NOON, NULL) == CMIF_OK);
    }
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_look_ahead(l, NULL) == CMIF_OK);
    return l;
}

static bool waits(cmif_ledger *l, const char *key, double epsilon, const cmif_budgets *budgets, int64_t now)
{
    CHECK(spend(l, key, epsilon, budgets, now, NULL) == CMIF_OK);
    return cmif_ledger_waits(l);
}

static cmif_spent sum_of(cmif_ledger *l, const char *key)
{
    cmif_spent sum = {0};
    CHECK(cmif_ledger_sum(l, key, 0, &sum, NULL) == CMIF_OK);
    return sum;
}

/* What another program sees, and what is there after a kill: never less than what was given out. */
static void who_comes_in_numbers_finds_an_entry_on_disk(void)
{
    cmif_ledger *l = open_busy("local", 2, NULL, 8), *other = open_ledger();
    uint64_t     ids[17] = {0};
    CHECK(sum_of(other, "local").requests == 8 + 16 && sum_of(other, "local").epsilon_micro == 48000000);
    CHECK(sum_of(other, "local").draws == 24 * 7);
    CHECK(sum_of(l, "local").requests == 8 && sum_of(l, "local").epsilon_micro == 16000000);
    for (int i = 0; i < 17; i++) {
        cmif_spend what = spend_of("local", i % 2 ? 2000000 : 500000);
        CHECK(cmif_ledger_spend(l, &what, NULL, NOON + i % 2, &ids[i], NULL, NULL) == CMIF_OK);
        CHECK(cmif_ledger_waits(l) == (i == 16)); /* the last one finds none */
        for (int k = 0; k < i; k++) {
            CHECK(ids[k] != ids[i]);
        }
        cmif_spent seen = sum_of(other, "local"), mine = sum_of(l, "local");
        CHECK(seen.requests >= 8 + (uint64_t) (i < 16 ? i + 1 : 16) &&
              seen.epsilon_micro >= mine.epsilon_micro - 500000);
        CHECK(mine.requests == 9 + (uint64_t) i && mine.surrogates == 2 * mine.requests &&
              mine.passed == 11 * mine.requests);
        CHECK(mine.day_epsilon_micro == mine.epsilon_micro && mine.draws == 7 * mine.requests);
    }
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK); /* which settles that one */
    CHECK(cmif_ledger_check(other, NULL) == CMIF_OK);
    CHECK(sum_of(l, "local").epsilon_micro == 16000000 + 8 * 500000 + 8 * 2000000 + 500000);
    cmif_ledger_free(l); /* those that nobody took go */
    CHECK(cmif_ledger_check(other, NULL) == CMIF_OK && sum_of(other, "local").requests == 25);
    CHECK(sum_of(other, "local").epsilon_micro == 36500000 && sum_of(other, "local").passed == 25 * 11);
    cmif_ledger_free(other);
    forget();
}

static bool see_details(void *context, uint64_t id, int64_t when, const cmif_spend *what)
{
    const cmif_spend right = spend_of("local", 0);
    int             *left  = context;
    CHECK(id && when == NOON && what->epsilon_micro == 1000000 && what->delta == right.delta);
    CHECK(!memcmp(what->conversation, right.conversation, 16) && !memcmp(what->table_hash, right.table_hash, 32));
    return --*left > 0;
}

static void where_few_come_none_are_made_and_the_last_ones_go(void)
{
    cmif_ledger *l = open_busy("local", 1, NULL, 7), *other = open_ledger();
    int          left = 9;
    CHECK(sum_of(other, "local").requests == 7 && waits(l, "local", 1, NULL, NOON)); /* 7 are few */
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_look_ahead(l, NULL) == CMIF_OK);
    CHECK(sum_of(other, "local").requests == 8);
    cmif_ledger_free(l);
    l = open_busy("local", 1, NULL, 8);
    CHECK(sum_of(other, "local").requests == 32 && !waits(l, "local", 1, NULL, NOON + 1));
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK); /* one since the last look */
    CHECK(sum_of(other, "local").requests == 17 && cmif_ledger_check(other, NULL) == CMIF_OK);
    CHECK(cmif_ledger_history(other, 9, see_details, &left, NULL) == CMIF_OK && left == 0);
    CHECK(waits(l, "local", 1, NULL, NOON) && cmif_ledger_settle(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    l = open_busy("local", 1, NULL, 1000); /* so many, and no more */
    CHECK(sum_of(other, "local").requests == 18 + 1000 + 256);
    for (int i = 0; i < 9; i++) { /* more keys than places: who has none waits, as ever */
        char key[2] = {(char) ('a' + i)};
        CHECK(waits(l, key, 1, NULL, NOON));
    }
    cmif_ledger_free(l);
    CHECK(sum_of(other, NULL).requests == 18 + 1000);
    cmif_ledger_free(other);
    forget();
}

static void who_does_not_fit_an_entry_waits_for_its_own(void)
{
    const cmif_budgets wide  = {.request = 9, .day = 1000, .key = unlimited};
    const cmif_budgets tight = {.request = 1, .day = 1000, .key = unlimited};
    cmif_ledger       *l = open_busy("local", 2, &wide, 8), *other = open_ledger();
    cmif_spend         more = spend_of("local", 1000000);
    uint64_t           id   = 0;
    double             left = 0;
    CHECK(waits(l, "local", 3, &wide, NOON));  /* it costs more */
    CHECK(waits(l, "local", 1, &tight, NOON)); /* other budgets */
    CHECK(!waits(l, "local", 2, &wide, NOON));
    CHECK(cmif_ledger_spend(l, &more, &wide, NOON, &id, &left, NULL) == CMIF_OK && !cmif_ledger_waits(l));
    CHECK(fabs(left - (1000 - 8 * 2 - 3 - 1 - 2 - 1)) <
          1e-9); /* what was spent beside counts, what nobody took does not */
    more.draws = 8;
    CHECK(cmif_ledger_spend(l, &more, &wide, NOON, &id, &left, NULL) == CMIF_OK && cmif_ledger_waits(l));
    CHECK(fabs(left - (1000 - 8 * 2 - 3 - 1 - 2 - 1 - 1)) < 1e-9);
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_check(other, NULL) == CMIF_OK);
    pid_t child = fork();
    if (child == 0) { /* a copy of us must not take what we take */
        more.draws = 7;
        _exit(cmif_ledger_spend(l, &more, &wide, NOON, &id, NULL, NULL) == CMIF_E_IO ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(waits(l, "local", 1, &wide, NOON + 2) && !waits(l, "local", 1, &wide, NOON + 2));
    CHECK(waits(l, "local", 2, &wide, NOON + 86400)); /* another day, */
    CHECK(waits(l, "local", 2, &wide, NOON));         /* which has begun */
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK && cmif_ledger_check(other, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    CHECK(cmif_ledger_check(other, NULL) == CMIF_OK);
    CHECK(sum_of(other, "local").requests == 8 + 9 && sum_of(other, "local").epsilon_micro == 30000000);
    CHECK(sum_of(other, "local").day_epsilon_micro == 4000000);
    cmif_ledger_free(other);
    forget();
}

/* Also where all of them find one. */
static void times_go_on(void)
{
    cmif_ledger *l     = open_busy("local", 1, NULL, 8);
    int          found = 0;
    for (int second = 1; second <= 60; second++) {
        for (int i = 0; i < 10; i++) {
            found += !waits(l, "local", 1, NULL, NOON + second);
        }
        CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_look_ahead(l, NULL) == CMIF_OK);
    }
    CHECK(found >= 560 && sum_of(l, "local").last >= NOON + 58);
    cmif_ledger_free(l);
    forget();
}

static bool disk_fails;

int fdatasync(int fd) /* SQLite's, too */
{
    return disk_fails ? (errno = EIO, -1) : (int) syscall(SYS_fdatasync, fd);
}

/* A commit that fails may be found on disk after a crash: entries that it takes away are given to nobody. */
static void after_a_look_that_failed_nobody_takes_what_may_be_gone(void)
{
    int status = 1;
    if (fork() == 0) {
        cmif_ledger *l    = open_busy("local", 1, NULL, 8);
        bool         well = !waits(l, "local", 1, NULL, NOON) && !waits(l, "local", 1, NULL, NOON);
        disk_fails        = true;
        well              = well && cmif_ledger_look_ahead(l, NULL) == CMIF_E_IO;
        for (int i = 0; i < 12; i++) {
            well = waits(l, "local", 1, NULL, NOON) && cmif_ledger_settle(l, NULL) == CMIF_E_IO && well;
        }
        _exit(well ? 0 : 2);
    }
    CHECK(wait(&status) > 0 && status == 0);
    cmif_ledger *l = open_ledger();
    CHECK(sum_of(l, "local").requests >= 10);
    cmif_ledger_free(l);
    forget();

    l = open_ledger(); /* and nothing is made for a key whose requests were all lost */
    cmif_ledger_gather(l);
    for (int i = 0; i < 8; i++) {
        CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    }
    disk_fails = true;
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_E_IO);
    disk_fails = false;
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK && waits(l, "local", 1, NULL, NOON));
    CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_look_ahead(l, NULL) == CMIF_OK);
    CHECK(sum_of(l, "local").requests == 1 && cmif_ledger_check(l, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    forget();
}

static void a_look_does_not_wait_for_others_for_long(void)
{
    sqlite3        *db = NULL;
    struct timespec begin, end;
    cmif_ledger    *l = open_busy("local", 1, NULL, 8);
    CHECK(sqlite3_open(path, &db) == SQLITE_OK && sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_E_IO);
    for (int i = 0; i < 8; i++) { /* and leaves them alone for a while */
        CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK && !waits(l, "local", 1, NULL, NOON));
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    CHECK((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000 < 1000);
    sqlite3_close(db);
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK && sum_of(l, "local").requests == 16);
    cmif_ledger_free(l);
    forget();
}

/* They hold no more than an eighth of what is left, and give it back to who needs it. */
static void entries_made_ahead_never_go_beyond_a_budget(void)
{
    const cmif_budgets day = {.request = unlimited, .day = 100, .key = unlimited};
    const cmif_budgets key = {.request = unlimited, .day = unlimited, .key = 100};
    cmif_err           err = {0};
    for (int which = 0; which < 2; which++) {
        const cmif_budgets *budgets = which ? &key : &day;
        cmif_ledger        *l = open_busy("local", 1, budgets, 8), *other = open_ledger();
        CHECK(sum_of(other, "local").requests == 8 + 11);
        CHECK(spend(other, "local", 82, budgets, NOON, &err) == CMIF_E_BUDGET && says(&err, "81 of 100 is left"));
        CHECK(!waits(l, "local", 1, budgets, NOON));
        CHECK(waits(l, "local", 2, budgets, NOON));
        CHECK(waits(l, "local", 88, budgets,
                    NOON)); /* 89 are left once 10 are given back; it waits alone: they took the other one with them */
        CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_check(other, NULL) == CMIF_OK);
        CHECK(sum_of(other, "local").epsilon_micro == 99000000);
        CHECK(spend(l, "local", 3, budgets, NOON, &err) == CMIF_E_BUDGET && says(&err, "1 of 100 is left"));
        CHECK(spend(l, "local", 1, budgets, NOON, NULL) == CMIF_OK);
        CHECK(spend(l, "local", 1, budgets, NOON, NULL) == CMIF_E_BUDGET);
        CHECK(cmif_ledger_settle(l, NULL) == CMIF_OK && cmif_ledger_look_ahead(l, NULL) == CMIF_OK);
        CHECK(sum_of(other, "local").epsilon_micro == 100000000);
        cmif_ledger_free(l);
        cmif_ledger_free(other);
        forget();
    }
    cmif_ledger       *l = open_busy("local", 1, NULL, 8), *other = open_ledger();
    const cmif_budgets small = {.request = 0.5, .day = unlimited, .key = unlimited};
    for (int i = 0; i < 8; i++) {
        CHECK(!waits(l, "local", 1, NULL, NOON));
    }
    CHECK(cmif_ledger_set(other, "local", &small, NULL) == CMIF_OK); /* holds from the next look on */
    CHECK(cmif_ledger_look_ahead(l, NULL) == CMIF_OK && sum_of(other, "local").requests == 16);
    CHECK(spend(l, "local", 1, NULL, NOON, &err) == CMIF_E_BUDGET && says(&err, "0.5 of 0.5 is left"));
    cmif_ledger_free(l);
    cmif_ledger_free(other);
    forget();
}

/* A gateway and `cmif run` at the same time: one budget, and no entry of either is lost. */
static void two_processes_share_a_budget_to_its_end(void)
{
    const cmif_budgets budget = {.request = unlimited, .day = unlimited, .key = 300};
    int                ends[2];
    uint64_t           entered[2] = {0}, got = 0;
    cmif_spent         sum = {0};
    CHECK(pipe(ends) == 0);
    for (int who = 0; who < 2; who++) {
        if (fork() == 0) {
            cmif_ledger *l    = open_ledger();
            uint64_t     mine = 0;
            cmif_code    rc   = l ? CMIF_OK : CMIF_E_IO;
            if (l && who) {
                cmif_ledger_gather(l);
            }
            while (rc == CMIF_OK) {
                uint64_t waiting = 0;
                for (int i = 0; i < (who ? 7 : 1) && rc == CMIF_OK; i++) {
                    rc = spend(l, "local", 1, &budget, NOON, NULL);
                    waiting += rc == CMIF_OK;
                }
                mine += cmif_ledger_settle(l, NULL) == CMIF_OK ? waiting : 0;
                rc = rc == CMIF_OK && who && mine % 14 == 0 ? cmif_ledger_look_ahead(l, NULL) : rc;
                nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); /* the other's turn */
            }
            cmif_ledger_free(l);
            _exit(rc == CMIF_E_BUDGET && write(ends[1], &mine, sizeof mine) == sizeof mine ? 0 : 1);
        }
    }
    for (int who = 0; who < 2; who++) {
        int status = 1;
        CHECK(wait(&status) > 0 && status == 0);
        CHECK(read(ends[0], &got, sizeof got) == sizeof got);
        entered[who] = got;
    }
    close(ends[0]);
    close(ends[1]);
    cmif_ledger *l = open_ledger();
    CHECK(l && cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK);
    printf("       %llu and %llu entries of two processes\n", (unsigned long long) entered[0],
           (unsigned long long) entered[1]);
    CHECK(sum.requests == 300 && entered[0] + entered[1] == 300 && entered[0] && entered[1]);
    cmif_ledger_free(l);
    forget();
}

static void a_read_only_file_or_folder_is_an_error_that_says_so(void)
{
    cmif_err     err = {0};
    cmif_spent   sum;
    cmif_ledger *l = open_ledger();
    CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    if (getuid() == 0) {
        CHECK(chown(folder, 65534, 65534) == 0 && chown(path, 65534, 65534) == 0);
    }
    CHECK(as_nobody(&err) == CMIF_OK);
    CHECK(chmod(path, 0400) == 0);
    CHECK(as_nobody(&err) == CMIF_E_IO && says(&err, "read-only") && says(&err, "allow writing"));
    CHECK(chmod(path, 0600) == 0 && chmod(folder, 0500) == 0);
    CHECK(as_nobody(&err) == CMIF_E_IO && says(&err, "allow "));
    CHECK(chmod(path, 0000) == 0 && chmod(folder, 0700) == 0);
    CHECK(as_nobody(&err) == CMIF_E_IO && says(&err, "allow "));
    CHECK(chmod(path, 0666) == 0);
    CHECK(as_nobody(&err) == CMIF_OK);
    struct stat info;
    CHECK(stat(path, &info) == 0 && (info.st_mode & 07777) == 0600); /* and was hidden */
    l = open_ledger();
    CHECK(cmif_ledger_sum(l, "local", 0, &sum, NULL) == CMIF_OK && sum.requests == 3);
    cmif_ledger_free(l);
    forget();
}

static void sql(const char *text)
{
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK && sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
}

static void what_is_no_ledger_is_refused_and_left_alone(void)
{
    cmif_ledger *l   = NULL;
    cmif_err     err = {0};
    struct stat  before, after;

    sql("CREATE TABLE mine(x); INSERT INTO mine VALUES (1)");
    CHECK(stat(path, &before) == 0);
    CHECK(cmif_ledger_open(path, &l, &err) == CMIF_E_FORMAT && says(&err, "another program"));
    CHECK(stat(path, &after) == 0 && before.st_size == after.st_size && before.st_mtime == after.st_mtime);
    forget();
    cmif_ledger_free(open_ledger());
    sql("PRAGMA user_version = 2");
    CHECK(cmif_ledger_open(path, &l, &err) == CMIF_E_FORMAT && says(&err, "newer cmif"));
    forget();
    FILE *file = fopen(path, "w");
    for (int i = 0; file && i < 1000; i++) {
        fputs("this is no database\n", file);
    }
    fclose(file);
    CHECK(cmif_ledger_open(path, &l, &err) == CMIF_E_FORMAT && says(&err, "is not a ledger"));
    forget();
    CHECK(cmif_ledger_open(folder, &l, &err) == CMIF_E_IO && says(&err, "cannot open"));
    CHECK(cmif_ledger_open("/proc/no/ledger", &l, &err) == CMIF_E_IO && says(&err, "cannot make the folder"));
    CHECK(l == NULL);
}

/* A row, a sum or an index that was changed or lost behind our back. */
static void a_changed_or_lost_row_is_seen(void)
{
    static const char *const changes[] = {
        "UPDATE total SET epsilon = 0",
        "UPDATE total SET day_epsilon = 0",
        "UPDATE total SET budget_key = 100",
        "DELETE FROM total",
        "DELETE FROM entry WHERE id = (SELECT max(id) FROM entry)",
        "UPDATE entry SET epsilon = 0 WHERE id = 2",
        "UPDATE entry SET epsilon_at_delta = 0 WHERE id = 2",
        "DELETE FROM entry WHERE id = 2",
        "DELETE FROM entry; DELETE FROM total WHERE key = 'local'",
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        cmif_ledger *l   = open_ledger();
        cmif_err     err = {0};
        for (int k = 0; k < 3; k++) {
            CHECK(spend(l, "local", 1, NULL, NOON, NULL) == CMIF_OK);
        }
        CHECK(spend(l, "other", 1, NULL, NOON, NULL) == CMIF_OK);
        cmif_ledger_free(l);
        l = NULL;
        sql(changes[i]);
        CHECK(cmif_ledger_open(path, &l, &err) == CMIF_E_FORMAT && says(&err, "is damaged") &&
              says(&err, "move it away"));
        cmif_ledger_free(l);
        forget();
    }
}

static void a_damaged_page_is_refused_or_counts_the_same(void)
{
    static uint8_t whole[1 << 17];
    cmif_spent     right   = {0};
    cmif_ledger   *l       = open_ledger();
    int            refused = 0, same = 0;

    for (int i = 0; i < 40; i++) {
        CHECK(spend(l, i % 3 ? "local" : "other", 1, NULL, NOON + i, NULL) == CMIF_OK);
    }
    CHECK(cmif_ledger_sum(l, NULL, 0, &right, NULL) == CMIF_OK);
    cmif_ledger_free(l);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0);
    ssize_t size = read(fd, whole, sizeof whole);
    close(fd);
    CHECK(size > 4096 && (size_t) size < sizeof whole);
    srand(2);
    for (int i = 0; i < 600; i++) {
        const size_t  at   = (size_t) rand() % (size_t) size;
        const uint8_t flip = (uint8_t) (1u << rand() % 8);
        const size_t  span = i % 5 ? 1 : 512; /* a byte, or a sector of zeros */
        cmif_spent    sum  = {0};
        cmif_err      err  = {0};
        forget();
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        CHECK(write(fd, whole, (size_t) size) == size);
        if (span == 1) {
            uint8_t byte = whole[at] ^ flip;
            CHECK(pwrite(fd, &byte, 1, (off_t) at) == 1);
        } else {
            static const uint8_t zeros[512];
            CHECK(pwrite(fd, zeros, 512, (off_t) (at / 512 * 512)) == 512);
        }
        close(fd);
        l            = NULL;
        cmif_code rc = cmif_ledger_open(path, &l, &err);
        rc           = rc == CMIF_OK ? cmif_ledger_sum(l, NULL, 0, &sum, &err) : rc;
        if (rc != CMIF_OK) {
            refused++;
            CHECK(rc == CMIF_E_FORMAT || rc == CMIF_E_IO);
            CHECK(err.text[0]);
        } else {
            same++;
            CHECK(memcmp(&sum, &right, sizeof sum) == 0);
        }
        cmif_ledger_free(l);
    }
    printf("       %d damages refused, %d harmless\n", refused, same);
    CHECK(refused > 100);
    forget();
}

/* Somebody was killed, so that requests are in the -wal file only; then a byte of that changes. */
static void a_damaged_log_is_refused_or_lacks_the_newest_request_at_most(void)
{
    static char    whole[1 << 20], log[1 << 20];
    char           log_path[140];
    static uint8_t byte;
    int            status = 0, refused = 0, shorter = 0;

    snprintf(log_path, sizeof log_path, "%s-wal", path);
    pid_t child = fork();
    if (child == 0) {
        cmif_ledger *l = open_ledger();
        for (int i = 0; i < 30; i++) {
            if (spend(l, "local", 1, NULL, NOON, NULL) != CMIF_OK) {
                _exit(1);
            }
        }
        _exit(0); /* without closing it */
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    int           fd = open(path, O_RDONLY), log_fd = open(log_path, O_RDONLY);
    const ssize_t size = read(fd, whole, sizeof whole), log_size = read(log_fd, log, sizeof log);
    close(fd);
    close(log_fd);
    CHECK(log_size > 30 * 4096 && (size_t) log_size < sizeof log);
    srand(3);
    for (int i = 0; i < 300; i++) {
        const ssize_t at  = i < 64 ? i : rand() % log_size; /* all of the header and of the first frame's */
        cmif_spent    sum = {0};
        cmif_err      err = {0};
        cmif_ledger  *l   = NULL;
        forget();
        fd     = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        CHECK(write(fd, whole, (size_t) size) == size && write(log_fd, log, (size_t) log_size) == log_size);
        byte = (uint8_t) log[at] ^ (uint8_t) (1u << i % 8);
        CHECK(pwrite(log_fd, &byte, 1, at) == 1);
        close(fd);
        close(log_fd);
        cmif_code rc = cmif_ledger_open(path, &l, &err);
        rc           = rc == CMIF_OK ? cmif_ledger_sum(l, NULL, 0, &sum, &err) : rc;
        cmif_ledger_free(l);
        refused += rc != CMIF_OK;
        shorter += rc == CMIF_OK && sum.requests == 29;
        CHECK(rc == CMIF_E_FORMAT ? says(&err, "is damaged") || says(&err, "first page") : rc == CMIF_OK);
        CHECK(rc != CMIF_OK || sum.requests >= 29);
    }
    printf("       %d damages refused, %d lost the newest request\n", refused, shorter);
    CHECK(refused > 200 && shorter < 30);
    forget();
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--full")) {
            requests_each = 500; /* of each of two keys */
        } else if (!strcmp(argv[i], "--kills") && i + 1 < argc) {
            kills = atoi(argv[++i]);
        }
    }
    snprintf(folder, sizeof folder, "/tmp/cmif-ledger-XXXXXX");
    if (!mkdtemp(folder)) {
        return check_skip("no folder in /tmp");
    }
    snprintf(path, sizeof path, "%s/ledger.db", folder);
    RUN(entries_are_there_when_it_is_opened_again);
    RUN(a_spent_budget_refuses_and_says_what_is_left);
    RUN(a_new_day_renews_and_a_clock_set_back_does_not);
    RUN(budgets_are_kept_and_the_smaller_one_counts);
    RUN(nonsense_is_refused_and_not_entered);
    RUN(many_that_make_it_at_once_make_one);
    RUN(sixty_four_threads_count_every_request_once);
    RUN(gathered_entries_are_there_together_or_not_at_all);
    RUN(what_waits_beside_one_that_fails_is_lost_and_told);
    RUN(who_comes_in_numbers_finds_an_entry_on_disk);
    RUN(where_few_come_none_are_made_and_the_last_ones_go);
    RUN(who_does_not_fit_an_entry_waits_for_its_own);
    RUN(times_go_on);
    RUN(after_a_look_that_failed_nobody_takes_what_may_be_gone);
    RUN(a_look_does_not_wait_for_others_for_long);
    RUN(entries_made_ahead_never_go_beyond_a_budget);
    RUN(two_processes_share_a_budget_to_its_end);
    RUN(killed_at_any_moment_it_never_under_counts);
    RUN(a_ledger_is_refused_after_a_fork);
    RUN(a_full_disk_refuses_and_loses_nothing);
    RUN(a_read_only_file_or_folder_is_an_error_that_says_so);
    RUN(what_is_no_ledger_is_refused_and_left_alone);
    RUN(a_changed_or_lost_row_is_seen);
    RUN(a_damaged_page_is_refused_or_counts_the_same);
    RUN(a_damaged_log_is_refused_or_lacks_the_newest_request_at_most);
    rmdir(folder);
    return check_report();
}
