#include "ledger/ledger.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x434d4c31, /* "CML1" */
    VERSION        = 1,
    BUSY_SECONDS   = 30,      /* how long another program may hold it; */
    BUSY_GATHERING = 3,       /* of who gathers, while everybody that it serves waits, too */
    SMALL_SIZE     = 1 << 20, /* checked whole when opened */
    DAY            = 86400,
    CHECKSUM_SIZE  = 8,
    NO_BUDGET      = -1,
    AHEAD_KEYS     = 8,   /* for so many keys entries are made ahead, */
    AHEAD_MOST     = 256, /* so many at most, and that part */
    AHEAD_SHARE    = 8,   /* of what the budgets leave, */
    AHEAD_BUSY     = 8,   /* where so many requests came between two looks, */
    AHEAD_AGE      = 1,   /* of a time that is so many seconds ago at most, or a little more; */
    AHEAD_WAIT     = 50,  /* milliseconds that a look waits for others, */
    AHEAD_REST     = 8    /* and after a look that failed so many do nothing */
};

enum { BEGIN_READ, BEGIN_WRITE, COMMIT, READ_TOTAL, WRITE_TOTAL, WRITE_ENTRY, KEPT }; /* statements of every request */

typedef struct ahead {                 /* entries of a key that are on disk before the requests that take them */
    char key[CMIF_LEDGER_KEY_MAX + 1]; /* "": free */
    struct {
        size_t       count;
        int64_t      draws, epsilon; /* the most that one cost */
        cmif_budgets budgets;        /* that the last one was given */
    } asked;                         /* since the last look */
    size_t       count, taken;
    bool         closed;      /* none is taken any more: a later day has begun, or what became of them is not known */
    bool         late;        /* a request did not take one, so that the next ones are of a later time */
    int64_t      first, time; /* id of the first, the others follow; of each */
    int64_t      draws, epsilon;    /* of each */
    cmif_budgets budgets;           /* that allowed them */
    int64_t      request;           /* the most that a request may cost; NO_BUDGET */
    int64_t      spare;             /* their epsilon that nobody spent */
    double       left;              /* of the day, were all of it spent */
    cmif_spend   spent[AHEAD_MOST]; /* of those that were taken; without key */
} ahead;

struct cmif_ledger {
    sqlite3      *db;
    sqlite3_stmt *kept[KEPT]; /* NULL: not prepared yet */
    char         *path;
    pid_t         owner;             /* a connection does not survive a fork */
    int64_t       patience;          /* until then we wait for others; milliseconds */
    bool          gathers;           /* entries wait for cmif_ledger_settle, */
    size_t        waiting;           /* so many of them, in a transaction that is open */
    cmif_err      lost;              /* why they are not there */
    bool          waits;             /* the newest of all that were entered does */
    ahead        *ahead[AHEAD_KEYS]; /* NULL: none yet */
    bool          looks;             /* we are in a look, */
    unsigned      rest;              /* or leave out so many */
};

static const char schema[] =
    "CREATE TABLE total(key TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, newest INTEGER NOT NULL,"
    " requests INTEGER NOT NULL, draws INTEGER NOT NULL, epsilon INTEGER NOT NULL, day_epsilon INTEGER NOT NULL,"
    " surrogates INTEGER NOT NULL, passed INTEGER NOT NULL, budget_request INTEGER NOT NULL,"
    " budget_day INTEGER NOT NULL, budget_key INTEGER NOT NULL, checksum BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, time INTEGER NOT NULL, draws INTEGER NOT NULL,"
    " epsilon INTEGER NOT NULL, surrogates INTEGER NOT NULL, passed INTEGER NOT NULL, key TEXT NOT NULL,"
    " delta REAL NOT NULL, epsilon_at_delta REAL NOT NULL, conversation BLOB NOT NULL, table_hash BLOB NOT NULL,"
    " policy_hash BLOB NOT NULL, checksum BLOB NOT NULL) STRICT;"
    "CREATE INDEX entry_by_key ON entry(key);"; /* and by id within a key */

typedef enum total_field { /* columns of total after key */
                           TOTAL_FIRST,
                           TOTAL_LAST,   /* also the latest day seen */
                           TOTAL_NEWEST, /* id of the newest entry */
                           TOTAL_REQUESTS,
                           TOTAL_DRAWS,
                           TOTAL_EPSILON,
                           TOTAL_DAY_EPSILON, /* of the day of last */
                           TOTAL_SURROGATES,
                           TOTAL_PASSED,
                           TOTAL_BUDGET_REQUEST,
                           TOTAL_BUDGET_DAY,
                           TOTAL_BUDGET_KEY,
                           TOTAL_FIELDS
} total_field;

typedef struct total { /* of one key */
    int64_t at[TOTAL_FIELDS];
} total;

typedef enum entry_field {
    ENTRY_ID,
    ENTRY_TIME,
    ENTRY_DRAWS,
    ENTRY_EPSILON,
    ENTRY_SURROGATES,
    ENTRY_PASSED,
    ENTRY_FIELDS
} entry_field;
/* Those come first: */
static const char entry_columns[] = "id, time, draws, epsilon, surrogates, passed, key, delta, epsilon_at_delta,"
                                    " conversation, table_hash, policy_hash, checksum";

typedef struct entry {
    int64_t    at[ENTRY_FIELDS];
    char       key[CMIF_LEDGER_KEY_MAX + 1];
    cmif_spend what; /* its key is the one above */
} entry;

/* ---- errors ---- */

static cmif_code damaged(const cmif_ledger *l, const char *what, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_FORMAT,
                     "the ledger %s is damaged (%s): move it away with its -wal file, bring back a copy or set budgets "
                     "anew; nothing was sent",
                     l->path, what);
}

static cmif_code full(const cmif_ledger *l, cmif_err *err)
{
    return cmif_fail(
        err, CMIF_E_IO,
        "the ledger %s cannot be written and nothing was sent: the disk is full, or fails; make room, then try again",
        l->path);
}

static int busy_seconds(const cmif_ledger *l)
{
    return l->gathers ? BUSY_GATHERING : BUSY_SECONDS;
}

/* What SQLite's code means for a person. */
static cmif_code failed(const cmif_ledger *l, int code, cmif_err *err)
{
    const int reason = l->db ? sqlite3_system_errno(l->db) : 0;

    switch (code & 0xff) {
    case SQLITE_FULL:
        return full(l, err);
    case SQLITE_READONLY:
        return cmif_fail(err, CMIF_E_IO,
                         "the ledger %s is read-only and nothing was sent: allow writing to it and to its folder, then "
                         "try again",
                         l->path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return cmif_fail(err, CMIF_E_IO, "cannot open the ledger %s: %s; allow reading and writing it and its folder",
                         l->path, reason ? strerror(reason) : "not a file that may be opened");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return cmif_fail(
            err, CMIF_E_IO,
            "another program has held the ledger %s for %d seconds: end it, then try again; nothing was sent", l->path,
            busy_seconds(l));
    case SQLITE_NOTADB:
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%s is not a ledger, or its first page is damaged: move it away or name another file",
                         l->path);
    case SQLITE_CORRUPT:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* our statements are right: the tables are not */
        return damaged(l, "SQLite cannot read a page", err);
    case SQLITE_NOMEM:
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the ledger %s", l->path);
    default:
        if (code == SQLITE_IOERR_WRITE || code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_SHMSIZE) {
            return full(l, err);
        }
        return cmif_fail(err, CMIF_E_IO, "the ledger %s cannot be read or written: %s (SQLite %d); nothing was sent",
                         l->path, reason ? strerror(reason) : "the disk fails", code);
    }
}

/* ---- statements ---- */

static int64_t milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Others hold the ledger: wait a little, each a different time, so that nobody starves. */
static int wait_for_others(void *context, int tries)
{
    const cmif_ledger *l = context;
    struct timespec    pause;
    clock_gettime(CLOCK_MONOTONIC, &pause);
    pause = (struct timespec){.tv_nsec = 200000 + (pause.tv_nsec / 64 + tries * 7919) % 4096 * 1000};
    nanosleep(&pause, NULL);
    return milliseconds() < l->patience;
}

static cmif_code run(cmif_ledger *l, const char *sql, cmif_err *err)
{
    int code = sqlite3_exec(l->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? CMIF_OK : failed(l, code, err);
}

static cmif_code prepare(cmif_ledger *l, const char *sql, sqlite3_stmt **out, cmif_err *err)
{
    int code = sqlite3_prepare_v2(l->db, sql, -1, out, NULL);
    return code == SQLITE_OK ? CMIF_OK : failed(l, code, err);
}

/* The next row: *there says whether there is one. */
static cmif_code step(cmif_ledger *l, sqlite3_stmt *statement, bool *there, cmif_err *err)
{
    int code = sqlite3_step(statement);
    *there   = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? CMIF_OK : failed(l, code, err);
}

static cmif_code ask_number(cmif_ledger *l, const char *sql, int64_t *out, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc        = prepare(l, sql, &statement, err);
    rc                      = rc == CMIF_OK ? step(l, statement, &there, err) : rc;
    if (rc == CMIF_OK) {
        *out = there ? sqlite3_column_int64(statement, 0) : 0;
    }
    sqlite3_finalize(statement);
    return rc;
}

/* One of every request, ready to be bound; end with put_back. */
static cmif_code take_kept(cmif_ledger *l, size_t which, const char *sql, sqlite3_stmt **out, cmif_err *err)
{
    int code = l->kept[which] ? SQLITE_OK
                              : sqlite3_prepare_v3(l->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &l->kept[which], NULL);
    *out     = l->kept[which];
    return code == SQLITE_OK ? CMIF_OK : failed(l, code, err);
}

static void put_back(sqlite3_stmt *statement)
{
    if (statement) {
        (void) sqlite3_reset(statement);
        (void) sqlite3_clear_bindings(statement);
    }
}

static cmif_code run_kept(cmif_ledger *l, size_t which, const char *sql, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc        = take_kept(l, which, sql, &statement, err);
    rc                      = rc == CMIF_OK ? step(l, statement, &there, err) : rc;
    put_back(statement);
    return rc;
}

static cmif_code begin(cmif_ledger *l, bool to_write, cmif_err *err)
{
    if (l->owner != getpid()) {
        return cmif_fail(err, CMIF_E_IO, "the ledger %s was opened before a fork: open it again", l->path);
    }
    if (l->waiting &&
        !sqlite3_get_autocommit(l->db)) { /* their transaction is open: it can be read in and written to */
        return CMIF_OK;
    }
    if (l->waiting) { /* SQLite ended it */
        return full(l, err);
    }
    l->patience = milliseconds() + (l->looks ? AHEAD_WAIT : busy_seconds(l) * 1000);
    return to_write ? run_kept(l, BEGIN_WRITE, "BEGIN IMMEDIATE", err) : run_kept(l, BEGIN_READ, "BEGIN", err);
}

static void roll_back_all(cmif_ledger *l)
{
    if (l->owner == getpid() && !sqlite3_get_autocommit(l->db)) {
        (void) sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
    }
}

/* But not what waits. */
static void roll_back(cmif_ledger *l)
{
    if (!l->waiting) {
        roll_back_all(l);
    }
}

/* What waits, and all that was written beside it, is not entered. */
static cmif_code lose(cmif_ledger *l, const cmif_err *why)
{
    roll_back_all(l);
    l->lost    = l->waiting && l->lost.code == CMIF_OK ? *why : l->lost;
    l->waiting = 0;
    return why->code;
}

/* All that waits, and what was written beside it, is on disk; or nothing of it. */
static cmif_code commit(cmif_ledger *l, cmif_err *err)
{
    cmif_err  why = {0};
    cmif_code rc  = run_kept(l, COMMIT, "COMMIT", &why);
    if (rc == CMIF_OK) {
        l->waiting = 0;
    } else {
        (void) lose(l, &why);
        cmif_err_set(err, why.code, why.where, "%s", why.text);
    }
    return rc;
}

/* ---- rows, with their checksums ---- */

static cmif_code checksum(const void *bytes, size_t size, uint8_t out[static CHECKSUM_SIZE], cmif_err *err)
{
    uint8_t  hash[EVP_MAX_MD_SIZE];
    unsigned hash_size = 0;
    if (!EVP_Digest(bytes, size, hash, &hash_size, EVP_sha256(), NULL)) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for SHA-256");
    }
    memcpy(out, hash, CHECKSUM_SIZE);
    return CMIF_OK;
}

static cmif_code total_checksum(const char *key, const total *t, uint8_t out[static CHECKSUM_SIZE], cmif_err *err)
{
    uint8_t     bytes[1 + CMIF_LEDGER_KEY_MAX + 8 * TOTAL_FIELDS];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_u8(&w, 'T');
    for (size_t i = 0; i < TOTAL_FIELDS; i++) {
        cmif_write_u64(&w, (uint64_t) t->at[i]);
    }
    cmif_write_bytes(&w, key, strlen(key));
    return checksum(bytes, w.at, out, err);
}

static cmif_code entry_checksum(const entry *e, uint8_t out[static CHECKSUM_SIZE], cmif_err *err)
{
    const cmif_spend *s = &e->what;
    uint8_t           bytes[1 + 8 * ENTRY_FIELDS + 16 + sizeof s->conversation + 64 + CMIF_LEDGER_KEY_MAX];
    cmif_writer       w = cmif_writer_over(bytes, sizeof bytes);
    uint64_t          reals[2];

    cmif_write_u8(&w, 'E');
    for (size_t i = 0; i < ENTRY_FIELDS; i++) {
        cmif_write_u64(&w, (uint64_t) e->at[i]);
    }
    memcpy(&reals[0], &s->delta, sizeof reals[0]);
    memcpy(&reals[1], &s->epsilon_at_delta, sizeof reals[1]);
    cmif_write_u64(&w, reals[0]);
    cmif_write_u64(&w, reals[1]);
    cmif_write_bytes(&w, s->conversation, sizeof s->conversation);
    cmif_write_bytes(&w, s->table_hash, sizeof s->table_hash);
    cmif_write_bytes(&w, s->policy_hash, sizeof s->policy_hash);
    cmif_write_bytes(&w, e->key, strlen(e->key));
    return checksum(bytes, w.at, out, err);
}

/* Copy a blob of exactly this size; false: it is another. */
static bool take_blob(sqlite3_stmt *statement, int column, uint8_t *out, size_t size)
{
    const void *blob = sqlite3_column_blob(statement, column);
    if (!blob || (size_t) sqlite3_column_bytes(statement, column) != size) {
        return false;
    }
    memcpy(out, blob, size);
    return true;
}

static bool take_key(sqlite3_stmt *statement, int column, char out[static CMIF_LEDGER_KEY_MAX + 1])
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    const int            size = sqlite3_column_bytes(statement, column);
    if (!text || size < 1 || size > CMIF_LEDGER_KEY_MAX || strlen((const char *) text) != (size_t) size) {
        return false;
    }
    memcpy(out, text, (size_t) size + 1);
    return true;
}

/* The entry of a statement that asked for entry_columns. */
static cmif_code take_entry(cmif_ledger *l, sqlite3_stmt *statement, entry *e, cmif_err *err)
{
    uint8_t kept[CHECKSUM_SIZE], right[CHECKSUM_SIZE];

    for (int i = 0; i < ENTRY_FIELDS; i++) {
        e->at[i] = sqlite3_column_int64(statement, i);
    }
    if (!take_key(statement, 6, e->key) || !take_blob(statement, 9, e->what.conversation, 16) ||
        !take_blob(statement, 10, e->what.table_hash, 32) || !take_blob(statement, 11, e->what.policy_hash, 32) ||
        !take_blob(statement, 12, kept, sizeof kept)) {
        return damaged(l, "an entry is not whole", err);
    }
    e->what.key              = e->key;
    e->what.draws            = (uint64_t) e->at[ENTRY_DRAWS];
    e->what.epsilon_micro    = (uint64_t) e->at[ENTRY_EPSILON];
    e->what.surrogates       = (uint64_t) e->at[ENTRY_SURROGATES];
    e->what.passed           = (uint64_t) e->at[ENTRY_PASSED];
    e->what.delta            = sqlite3_column_double(statement, 7);
    e->what.epsilon_at_delta = sqlite3_column_double(statement, 8);
    cmif_code rc             = entry_checksum(e, right, err);
    if (rc == CMIF_OK && memcmp(kept, right, sizeof kept) != 0) {
        rc = damaged(l, "the checksum of an entry", err);
    }
    return rc;
}

/* The row of key, or zeros and no budgets; and the newest entry of all keys (NULL: not asked). What stands beside it
 * must agree: an entry without a row, or a row without its newest entry, is a page that was lost. */
static cmif_code read_total(cmif_ledger *l, const char *key, total *t, int64_t *newest, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    uint8_t       kept[CHECKSUM_SIZE], right[CHECKSUM_SIZE];
    cmif_code     rc = take_kept(l, READ_TOTAL,
                                 "SELECT first, last, newest, requests, draws, epsilon, day_epsilon, surrogates, passed,"
                                     " budget_request, budget_day, budget_key, checksum,"
                                     " (SELECT max(id) FROM entry WHERE key = ?1), (SELECT max(id) FROM entry)"
                                     " FROM (SELECT 1) LEFT JOIN total ON key = ?1",
                                 &statement, err);

    *t = (total){.at = {[TOTAL_BUDGET_REQUEST] = NO_BUDGET, NO_BUDGET, NO_BUDGET}};
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        rc = step(l, statement, &there, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    if (sqlite3_column_type(statement, TOTAL_FIELDS) != SQLITE_NULL) {
        for (int i = 0; i < TOTAL_FIELDS; i++) {
            t->at[i] = sqlite3_column_int64(statement, i);
        }
        rc = total_checksum(key, t, right, err);
        if (rc == CMIF_OK &&
            (!take_blob(statement, TOTAL_FIELDS, kept, sizeof kept) || memcmp(kept, right, sizeof kept))) {
            rc = damaged(l, "the checksum of a sum", err);
        }
    }
    if (rc == CMIF_OK && sqlite3_column_int64(statement, TOTAL_FIELDS + 1) != t->at[TOTAL_NEWEST]) {
        rc = damaged(l, "entries or sums are lost", err);
    }
    if (newest) {
        *newest = sqlite3_column_int64(statement, TOTAL_FIELDS + 2);
    }
done:
    put_back(statement);
    return rc;
}

static cmif_code write_total(cmif_ledger *l, const char *key, const total *t, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    uint8_t       sum[CHECKSUM_SIZE];
    cmif_code     rc = total_checksum(key, t, sum, err);
    rc               = rc == CMIF_OK
                           ? take_kept(l, WRITE_TOTAL, "INSERT OR REPLACE INTO total VALUES (?, ?,?,?,?,?,?,?,?,?,?,?,?, ?)",
                                       &statement, err)
                           : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        for (int i = 0; i < TOTAL_FIELDS; i++) {
            sqlite3_bind_int64(statement, 2 + i, t->at[i]);
        }
        sqlite3_bind_blob(statement, 2 + TOTAL_FIELDS, sum, sizeof sum, SQLITE_STATIC);
        rc = step(l, statement, &there, err);
    }
    put_back(statement);
    return rc;
}

static cmif_code write_entry(cmif_ledger *l, const entry *e, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    uint8_t       sum[CHECKSUM_SIZE];
    cmif_code     rc = entry_checksum(e, sum, err);
    rc               = rc == CMIF_OK
                           ? take_kept(l, WRITE_ENTRY, "INSERT INTO entry VALUES (?,?,?,?,?,?, ?, ?,?, ?,?,?, ?)", &statement, err)
                           : rc;
    if (rc == CMIF_OK) {
        for (int i = 0; i < ENTRY_FIELDS; i++) {
            sqlite3_bind_int64(statement, 1 + i, e->at[i]);
        }
        sqlite3_bind_text(statement, 7, e->key, -1, SQLITE_STATIC);
        sqlite3_bind_double(statement, 8, e->what.delta);
        sqlite3_bind_double(statement, 9, e->what.epsilon_at_delta);
        sqlite3_bind_blob(statement, 10, e->what.conversation, 16, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 11, e->what.table_hash, 32, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 12, e->what.policy_hash, 32, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 13, sum, sizeof sum, SQLITE_STATIC);
        rc = step(l, statement, &there, err);
    }
    put_back(statement);
    return rc;
}

/* ---- open ---- */

static void end_ahead(cmif_ledger *l);

/* The folders of path that are missing, readable by nobody else. */
static cmif_code make_folders(const char *path, cmif_err *err)
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int) sizeof folder - 16) {
        return cmif_fail(err, CMIF_E_IO, "the ledger's name is too long");
    }
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST && access(folder, F_OK) != 0) {
            return cmif_fail(err, CMIF_E_IO, "cannot make the folder %s for the ledger: %s", folder, strerror(errno));
        }
        *slash = '/';
    }
    return CMIF_OK;
}

/* That a new file is in its folder must be on disk, too. */
static cmif_code sync_folder(const char *path, cmif_err *err)
{
    char folder[PATH_MAX] = ".";
    if (strrchr(path, '/')) {
        snprintf(folder, sizeof folder, "%.*s", (int) (strrchr(path, '/') - path + 1), path);
    }
    int       fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cmif_code rc = fd >= 0 && fsync(fd) == 0
                       ? CMIF_OK
                       : cmif_fail(err, CMIF_E_IO, "cannot write the folder %s: %s", folder, strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* WAL, which SQLite may refuse for a moment without asking wait_for_others. */
static cmif_code set_wal(cmif_ledger *l, cmif_err *err)
{
    for (int tries = 0;; tries++) {
        sqlite3_stmt *statement = NULL;
        int           code      = sqlite3_prepare_v2(l->db, "PRAGMA journal_mode = WAL", -1, &statement, NULL);
        bool          wal       = false;
        if (code == SQLITE_OK) {
            code                      = sqlite3_step(statement);
            const unsigned char *mode = code == SQLITE_ROW ? sqlite3_column_text(statement, 0) : NULL;
            wal                       = mode && !strcmp((const char *) mode, "wal");
        }
        sqlite3_finalize(statement);
        if (wal) {
            return CMIF_OK;
        }
        if (code == SQLITE_ROW) {
            return cmif_fail(
                err, CMIF_E_UNSUPPORTED,
                "the folder of %s cannot hold a ledger (no write-ahead log there): take one on a local disk", l->path);
        }
        if ((code & 0xff) != SQLITE_BUSY || !wait_for_others(l, tries)) {
            return failed(l, code, err);
        }
    }
}

/* Ours, of a version that we know? *fresh: there is nothing in it. */
static cmif_code identify(cmif_ledger *l, bool *fresh, cmif_err *err)
{
    int64_t   application = 0, version = 0, tables = 0;
    cmif_code rc = ask_number(l, "PRAGMA application_id", &application, err);
    rc           = rc == CMIF_OK ? ask_number(l, "PRAGMA user_version", &version, err) : rc;
    rc           = rc == CMIF_OK ? ask_number(l, "SELECT count(*) FROM sqlite_schema", &tables, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    *fresh = !application && !version && !tables;
    if (!*fresh && application != APPLICATION_ID) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s is the database of another program, not a ledger: name another file",
                         l->path);
    }
    if (!*fresh && version != VERSION) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the ledger %s has version %" PRId64 " and this program knows %d: use a newer cmif", l->path,
                         version, VERSION);
    }
    return CMIF_OK;
}

enum { WAL_HEADER = 32, WAL_FRAME = 24, WAL_SALTS = 16, WAL_FRAME_SALTS = 8 };

/* Frame, counted from 1, of the last transaction but one of the -wal file, also if SQLite would not read that far; 0:
 * none. Frames of older uses of the file have other salts; one of the two is enough, should the other be what was
 * damaged. */
static int64_t find_last_but_one(int fd, int64_t page_size, const uint8_t salts[static 8])
{
    uint8_t frame[WAL_FRAME];
    int64_t last = 0, last_but_one = 0;
    for (int64_t i = 0;; i++) {
        const off_t at = WAL_HEADER + i * (WAL_FRAME + page_size);
        if (pread(fd, frame, sizeof frame, at) != (ssize_t) sizeof frame) {
            return last_but_one;
        }
        const bool same =
            !memcmp(frame + WAL_FRAME_SALTS, salts, 4) || !memcmp(frame + WAL_FRAME_SALTS + 4, salts + 4, 4);
        const bool commits = frame[4] || frame[5] || frame[6] || frame[7];
        if (same && commits) {
            last_but_one = last;
            last         = i + 1;
        }
    }
}

/* After a crash SQLite takes the -wal file up to the first frame that is not whole, and forgets the rest: right for a
 * transaction that was not finished, but wrong for a damaged page with requests after it. Of the newest transaction the
 * two cannot be told apart. Others may write meanwhile: that makes `read` larger, or the salts new. */
static cmif_code check_wal(cmif_ledger *l, cmif_err *err)
{
    char      path[PATH_MAX];
    uint8_t   salts[8], again[8];
    int64_t   page_size = 0, expected = 0;
    int       read = -1, copied = -1, fd = -1;
    cmif_code rc = ask_number(l, "PRAGMA page_size", &page_size, err);

    snprintf(path, sizeof path, "%s-wal", l->path);
    fd = rc == CMIF_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || pread(fd, salts, sizeof salts, WAL_SALTS) != (ssize_t) sizeof salts) {
        goto done; /* no file, or nothing in it */
    }
    expected = find_last_but_one(fd, page_size, salts);
    int code = sqlite3_wal_checkpoint_v2(l->db, "main", SQLITE_CHECKPOINT_PASSIVE, &read, &copied);
    if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) {
        rc = failed(l, code, err);
    } else if (read >= 0 && read < expected && pread(fd, again, sizeof again, WAL_SALTS) == (ssize_t) sizeof again &&
               !memcmp(salts, again, sizeof salts)) {
        rc = damaged(l, "its write-ahead log", err);
    }
done:
    if (fd >= 0) {
        close(fd); /* SQLite's locks are on other files */
    }
    return rc;
}

static cmif_code make_tables(cmif_ledger *l, cmif_err *err)
{
    char      pragmas[96];
    bool      fresh = false;
    cmif_code rc    = begin(l, true, err);
    rc              = rc == CMIF_OK ? identify(l, &fresh, err) : rc; /* another program may have been faster */
    if (rc == CMIF_OK && fresh) {
        snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                 VERSION);
        rc = run(l, schema, err);
        rc = rc == CMIF_OK ? run(l, pragmas, err) : rc;
    }
    rc = rc == CMIF_OK ? run(l, "COMMIT", err) : rc;
    roll_back(l);
    return rc == CMIF_OK ? sync_folder(l->path, err) : rc;
}

/* SQLite makes files as the umask says, and its -wal file like the ledger: nothing is in it yet. */
static cmif_code hide(const cmif_ledger *l, cmif_err *err)
{
    struct stat info;
    if (stat(l->path, &info) < 0 || ((info.st_mode & 077) && chmod(l->path, info.st_mode & 0700) < 0)) {
        return cmif_fail(err, CMIF_E_IO, "cannot keep others from reading the ledger %s: %s", l->path, strerror(errno));
    }
    return CMIF_OK;
}

cmif_code cmif_ledger_open(const char *path, cmif_ledger **out, cmif_err *err)
{
    cmif_code    rc    = CMIF_OK;
    bool         fresh = false;
    int64_t      pages = 0, page_size = 0;
    cmif_ledger *l = calloc(1, sizeof *l);

    if (!l || !(l->path = strdup(path))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a ledger");
        goto done;
    }
    l->owner    = getpid();
    l->patience = milliseconds() + busy_seconds(l) * 1000;
    rc          = make_folders(path, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    int code = sqlite3_open_v2(
        path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK || sqlite3_db_readonly(l->db, "main") == 1) {
        rc = failed(l, code != SQLITE_OK ? code : SQLITE_READONLY, err);
        goto done;
    }
    rc = hide(l, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    sqlite3_busy_handler(l->db, wait_for_others, l);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc = run(l, "PRAGMA cell_size_check = ON; PRAGMA synchronous = FULL", err);
    /* another program may be making it: we look before or after, and never at half of it */
    rc = rc == CMIF_OK ? begin(l, false, err) : rc;
    rc = rc == CMIF_OK ? identify(l, &fresh, err) : rc;
    roll_back(l);
    rc = rc == CMIF_OK ? set_wal(l, err) : rc;
    rc = rc == CMIF_OK ? check_wal(l, err) : rc;
    rc = rc == CMIF_OK && fresh ? make_tables(l, err) : rc;
    rc = rc == CMIF_OK ? ask_number(l, "PRAGMA page_count", &pages, err) : rc;
    rc = rc == CMIF_OK ? ask_number(l, "PRAGMA page_size", &page_size, err) : rc;
    if (rc == CMIF_OK && pages * page_size <= SMALL_SIZE) {
        rc = cmif_ledger_check(l, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = l;
    l    = NULL;
done:
    cmif_ledger_free(l);
    return rc;
}

void cmif_ledger_free(cmif_ledger *l)
{
    if (l) {
        if (l->owner == getpid()) {
            end_ahead(l);
            for (size_t i = 0; i < KEPT; i++) {
                sqlite3_finalize(l->kept[i]);
            }
            sqlite3_close_v2(l->db);
        }
        for (size_t i = 0; i < AHEAD_KEYS; i++) {
            free(l->ahead[i]);
        }
        free(l->path);
        free(l);
    }
}

/* ---- spending ---- */

static cmif_code check_key(const char *key, cmif_err *err)
{
    const size_t size = strnlen(key, CMIF_LEDGER_KEY_MAX + 1);
    bool         good = size >= 1 && size <= CMIF_LEDGER_KEY_MAX;
    for (size_t i = 0; good && i < size; i++) {
        good = key[i] >= ' ' && key[i] <= '~' && key[i] != '"' && key[i] != '\\';
    }
    return good ? CMIF_OK
                : cmif_fail(err, CMIF_E_RANGE, "the name of a key has 1 to %d printable ASCII letters but \" and \\",
                            CMIF_LEDGER_KEY_MAX);
}

/* In millionths; NO_BUDGET when there is none. */
static cmif_code to_micro(double budget, int64_t *out, cmif_err *err)
{
    if (isnan(budget) || budget < 0) {
        return cmif_fail(err, CMIF_E_RANGE, "a budget of %g: it must be 0 or more", budget);
    }
    *out = budget * 1e6 < 9e18 ? (int64_t) llround(budget * 1e6) : NO_BUDGET;
    return CMIF_OK;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a == NO_BUDGET || (b != NO_BUDGET && b < a) ? b : a;
}

static cmif_code check_spend(const cmif_spend *what, int64_t now, cmif_err *err)
{
    cmif_code rc = check_key(what->key, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (what->draws > INT64_MAX || what->epsilon_micro > INT64_MAX || what->surrogates > INT64_MAX ||
        what->passed > INT64_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "a request counts at most 2^63 - 1 of anything");
    }
    if (!(what->delta >= 0 && what->delta <= 1) || !(what->epsilon_at_delta >= 0) ||
        !isfinite(what->epsilon_at_delta)) {
        return cmif_fail(err, CMIF_E_RANGE, "epsilon %g at delta %g is no guarantee", what->epsilon_at_delta,
                         what->delta);
    }
    if (now < 0 || now > INT64_MAX / 2) {
        return cmif_fail(err, CMIF_E_RANGE, "the clock says %" PRId64 " seconds since 1970: set it", now);
    }
    return CMIF_OK;
}

/* Whether `asked` fits beside `spent`; if not, the sentence that says why. All in millionths. */
static cmif_code check_budget(const char *name, const char *renewal, int64_t budget, int64_t spent, int64_t asked,
                              cmif_err *err)
{
    const int64_t left = budget > spent ? budget - spent : 0;
    if (budget == NO_BUDGET || asked <= left) {
        return CMIF_OK;
    }
    return cmif_fail(err, CMIF_E_BUDGET,
                     "the privacy budget of the %s is spent: this needs epsilon %.10g, and %.10g of %.10g is left; %s; "
                     "nothing was sent",
                     name, (double) asked / 1e6, (double) left / 1e6, (double) budget / 1e6, renewal);
}

/* Of a request, a day and the key: the smaller of what is given and what is kept. */
static cmif_code budgets_of(const total *t, const cmif_budgets *given, int64_t most[static 3], cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    memcpy(most, &t->at[TOTAL_BUDGET_REQUEST], 3 * sizeof *most);
    for (size_t i = 0; i < 3 && rc == CMIF_OK; i++) {
        int64_t micro = NO_BUDGET;
        rc            = to_micro(i == 0 ? given->request : i == 1 ? given->day : given->key, &micro, err);
        most[i]       = smaller(micro, most[i]);
    }
    return rc;
}

static int64_t left_of(int64_t budget, int64_t spent)
{
    return budget == NO_BUDGET ? NO_BUDGET : budget > spent ? budget - spent : 0;
}

static cmif_code check_budgets(const total *t, const cmif_budgets *budgets, int64_t asked, int64_t time, cmif_err *err)
{
    int64_t   most[3];
    char      renewal[64];
    struct tm when  = {0};
    time_t    first = (time_t) ((time / DAY + 1) * DAY);
    cmif_code rc    = budgets_of(t, budgets, most, err);

    if (rc != CMIF_OK) {
        return rc;
    }
    gmtime_r(&first, &when);
    strftime(renewal, sizeof renewal, "it renews at %Y-%m-%d 00:00 UTC", &when);
    const int64_t today = t->at[TOTAL_LAST] / DAY == time / DAY ? t->at[TOTAL_DAY_EPSILON] : 0;
    rc                  = check_budget("request", "shorten the text", most[0], 0, asked, err);
    rc                  = rc == CMIF_OK ? check_budget("day", renewal, most[1], today, asked, err) : rc;
    return rc == CMIF_OK ? check_budget("key", "it does not renew: 'cmif budget set' raises it", most[2],
                                        t->at[TOTAL_EPSILON], asked, err)
                         : rc;
}

/* Of a total whose day is the present one. */
static double left_of_day(const total *t, const cmif_budgets *budgets)
{
    int64_t most[3];
    if (budgets_of(t, budgets, most, NULL) != CMIF_OK) {
        return 0;
    }
    const int64_t left = left_of(most[1], t->at[TOTAL_DAY_EPSILON]);
    return left == NO_BUDGET ? (double) INFINITY : (double) left / 1e6;
}

static cmif_code add_to_total(total *t, const entry *e, cmif_err *err)
{
    static const struct {
        total_field to;
        entry_field from;
    } sums[] = {{TOTAL_DRAWS, ENTRY_DRAWS},
                {TOTAL_EPSILON, ENTRY_EPSILON},
                {TOTAL_DAY_EPSILON, ENTRY_EPSILON},
                {TOTAL_SURROGATES, ENTRY_SURROGATES},
                {TOTAL_PASSED, ENTRY_PASSED}};

    if (t->at[TOTAL_LAST] / DAY != e->at[ENTRY_TIME] / DAY) {
        t->at[TOTAL_DAY_EPSILON] = 0;
    }
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        if (__builtin_add_overflow(t->at[sums[i].to], e->at[sums[i].from], &t->at[sums[i].to])) {
            return cmif_fail(err, CMIF_E_RANGE, "the sums of a key end at 2^63 - 1: take another key");
        }
    }
    t->at[TOTAL_FIRST]  = t->at[TOTAL_REQUESTS] ? t->at[TOTAL_FIRST] : e->at[ENTRY_TIME];
    t->at[TOTAL_LAST]   = e->at[ENTRY_TIME];
    t->at[TOTAL_NEWEST] = e->at[ENTRY_ID];
    t->at[TOTAL_REQUESTS]++;
    return CMIF_OK;
}

static entry to_entry(const cmif_spend *what, const char *key, int64_t time, int64_t id)
{
    entry e = {.what = *what};
    snprintf(e.key, sizeof e.key, "%s", key);
    e.at[ENTRY_ID]         = id;
    e.at[ENTRY_TIME]       = time;
    e.at[ENTRY_DRAWS]      = (int64_t) what->draws;
    e.at[ENTRY_EPSILON]    = (int64_t) what->epsilon_micro;
    e.at[ENTRY_SURROGATES] = (int64_t) what->surrogates;
    e.at[ENTRY_PASSED]     = (int64_t) what->passed;
    return e;
}

/* The row number `id`, its sum. */
static cmif_code enter(cmif_ledger *l, const cmif_spend *what, total *t, int64_t time, int64_t id, cmif_err *err)
{
    const entry e  = to_entry(what, what->key, time, id);
    cmif_code   rc = add_to_total(t, &e, err);
    rc             = rc == CMIF_OK ? write_entry(l, &e, err) : rc;
    return rc == CMIF_OK ? write_total(l, e.key, t, err) : rc;
}

/* ---- entries made ahead ----
 *
 * Where many requests come for one key, each would wait for the disk. So entries are made before anybody asks, each
 * with the most that one of the last requests cost: who fits takes one, which is on disk already, and what it was spent
 * for is written at the next look. Until then, and for ever should we be killed, such an entry says too much and never
 * too little. Their time is that of the newest other entry, so that times still follow ids, and a day's sum is never
 * theirs alone. */

/* The place of key, or a free one. NULL: there is none. */
static ahead *ahead_of(cmif_ledger *l, const char *key)
{
    ahead **free_one = NULL;
    for (size_t i = 0; i < AHEAD_KEYS; i++) {
        if (l->ahead[i] && !strcmp(l->ahead[i]->key, key)) {
            return l->ahead[i];
        }
        free_one = !l->ahead[i] || !l->ahead[i]->key[0] ? &l->ahead[i] : free_one;
    }
    if (free_one && !*free_one) {
        *free_one = malloc(sizeof **free_one);
    }
    if (free_one && *free_one) {
        **free_one = (ahead){0};
        snprintf((*free_one)->key, sizeof(*free_one)->key, "%s", key);
    }
    return free_one ? *free_one : NULL;
}

/* So that the next look knows what is asked for. */
static void note_asked(ahead *a, const cmif_spend *what, const cmif_budgets *budgets)
{
    const int64_t draws = (int64_t) what->draws, epsilon = (int64_t) what->epsilon_micro;
    a->asked.count++;
    a->asked.draws   = draws > a->asked.draws ? draws : a->asked.draws;
    a->asked.epsilon = epsilon > a->asked.epsilon ? epsilon : a->asked.epsilon;
    a->asked.budgets = *budgets;
}

/* false: none fits. */
static bool take_ahead(const cmif_ledger *l, ahead *a, const cmif_spend *what, const cmif_budgets *budgets, int64_t now,
                       uint64_t *id, double *left)
{
    const cmif_budgets *allowed = &a->budgets;
    if (a->taken == a->count || a->closed || l->owner != getpid() || (int64_t) what->draws > a->draws ||
        (int64_t) what->epsilon_micro > a->epsilon || now / DAY > a->time / DAY ||
        budgets->request != allowed->request || budgets->day != allowed->day || budgets->key != allowed->key) {
        return false;
    }
    if (!a->late && now > a->time + AHEAD_AGE) { /* else times would stand still while all fit */
        a->late = true;
        return false;
    }
    *id = (uint64_t) a->first + a->taken;
    a->spare -= (int64_t) what->epsilon_micro;
    a->spent[a->taken]       = *what;
    a->spent[a->taken++].key = NULL;
    if (left) {
        *left = a->left + (double) a->spare / 1e6;
    }
    return true;
}

/* t, which is of its key, as it is once each says what it was spent for, and those that nobody took are gone. */
static void correct(const ahead *a, total *t)
{
    int64_t draws = (int64_t) a->count * a->draws;
    for (size_t i = 0; i < a->taken; i++) {
        draws -= (int64_t) a->spent[i].draws;
        t->at[TOTAL_SURROGATES] += (int64_t) a->spent[i].surrogates;
        t->at[TOTAL_PASSED] += (int64_t) a->spent[i].passed;
    }
    t->at[TOTAL_DRAWS] -= draws;
    t->at[TOTAL_EPSILON] -= a->spare;
    t->at[TOTAL_DAY_EPSILON] -= t->at[TOTAL_LAST] / DAY == a->time / DAY ? a->spare : 0;
    t->at[TOTAL_REQUESTS] -= (int64_t) (a->count - a->taken);
}

/* Those that are there become what they were spent for, or go. */
static cmif_code write_taken(cmif_ledger *l, const ahead *a, total *t, cmif_err *err)
{
    char      sql[160];
    cmif_code rc = CMIF_OK;
    snprintf(sql, sizeof sql, "DELETE FROM entry WHERE id BETWEEN %" PRId64 " AND %" PRId64, a->first,
             a->first + (int64_t) a->count - 1);
    rc = run(l, sql, err);
    if (rc == CMIF_OK && sqlite3_changes(l->db) != (int) a->count) {
        rc = damaged(l, "entries that were made ahead are lost", err);
    }
    for (size_t i = 0; i < a->taken && rc == CMIF_OK; i++) {
        const entry e = to_entry(&a->spent[i], a->key, a->time, a->first + (int64_t) i);
        rc            = write_entry(l, &e, err);
    }
    correct(a, t);
    return rc;
}

/* How many of them the budgets allow: a kill costs a small share of what is left. */
static int64_t allowed_ahead(const total *t, const ahead *a, int64_t wanted, int64_t *request)
{
    const int64_t epsilon = a->asked.epsilon;
    int64_t       most[3];
    if (budgets_of(t, &a->asked.budgets, most, NULL) != CMIF_OK) {
        return 0;
    }
    *request = most[0];
    if (!t->at[TOTAL_REQUESTS] || (*request != NO_BUDGET && epsilon > *request) || epsilon > INT64_MAX / AHEAD_MOST ||
        a->asked.draws > INT64_MAX / AHEAD_MOST) {
        return 0;
    }
    const int64_t left = smaller(left_of(most[1], t->at[TOTAL_DAY_EPSILON]), left_of(most[2], t->at[TOTAL_EPSILON]));
    return left == NO_BUDGET || !epsilon || left / AHEAD_SHARE / epsilon > wanted ? wanted
                                                                                  : left / AHEAD_SHARE / epsilon;
}

/* The newest entry of key, and of all. */
static cmif_code find_newest(cmif_ledger *l, const char *key, int64_t *of_key, int64_t *of_all, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc =
        prepare(l, "SELECT (SELECT max(id) FROM entry WHERE key = ?), (SELECT max(id) FROM entry)", &statement, err);
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
        rc = step(l, statement, &there, err);
    }
    if (rc == CMIF_OK) {
        *of_key = sqlite3_column_int64(statement, 0);
        *of_all = sqlite3_column_int64(statement, 1);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* In a transaction: those of a are written as they were taken, and `next` says what is there in their place. */
static cmif_code replace_ahead(cmif_ledger *l, const ahead *a, int64_t wanted, ahead *next, cmif_err *err)
{
    total     t;
    int64_t   newest = 0;
    cmif_code rc     = read_total(l, a->key, &t, NULL, err);
    rc               = rc == CMIF_OK && a->count ? write_taken(l, a, &t, err) : rc;
    rc               = rc == CMIF_OK ? find_newest(l, a->key, &t.at[TOTAL_NEWEST], &newest, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    const int64_t    count = allowed_ahead(&t, a, wanted, &next->request);
    const cmif_spend most  = {.draws = (uint64_t) a->asked.draws, .epsilon_micro = (uint64_t) a->asked.epsilon};
    next->first            = newest + 1;
    next->time             = t.at[TOTAL_LAST];
    next->draws            = a->asked.draws;
    next->epsilon          = a->asked.epsilon;
    next->budgets          = a->asked.budgets;
    next->spare            = count * a->asked.epsilon;
    for (; rc == CMIF_OK && (int64_t) next->count < count; next->count++) {
        entry e = to_entry(&most, a->key, next->time, next->first + (int64_t) next->count);
        rc      = add_to_total(&t, &e, err);
        rc      = rc == CMIF_OK ? write_entry(l, &e, err) : rc;
    }
    next->left = left_of_day(&t, &next->budgets);
    return rc == CMIF_OK ? write_total(l, a->key, &t, err) : rc;
}

static cmif_code renew_ahead(cmif_ledger *l, ahead *a, int64_t wanted, cmif_err *err)
{
    cmif_err  why  = {0};
    ahead    *next = calloc(1, sizeof *next);
    cmif_code rc   = next ? begin(l, true, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for the ledger %s", l->path);
    if (rc == CMIF_OK && replace_ahead(l, a, wanted, next, &why) != CMIF_OK) {
        rc = cmif_err_set(err, lose(l, &why), why.where, "%s", why.text);
    }
    if (rc == CMIF_OK) {
        a->closed = true; /* a commit that failed may still be found on disk after a crash */
        rc        = commit(l, err);
    }
    if (rc == CMIF_OK) {
        memcpy(next->key, a->key, sizeof next->key);
        *a = *next;
    }
    roll_back(l);
    free(next);
    return rc;
}

cmif_code cmif_ledger_look_ahead(cmif_ledger *l, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (l->rest) {
        l->rest--;
        return CMIF_OK;
    }
    l->looks = true;
    for (size_t i = 0; i < AHEAD_KEYS && rc == CMIF_OK; i++) {
        ahead *a = l->ahead[i];
        if (!a || !a->key[0]) {
            continue;
        }
        const size_t wanted = a->asked.count < AHEAD_BUSY       ? 0
                              : 2 * a->asked.count < AHEAD_MOST ? 2 * a->asked.count
                                                                : AHEAD_MOST;
        if (a->count || wanted) {
            rc = renew_ahead(l, a, (int64_t) wanted, err);
        } else {
            a->key[0] = '\0';
        }
    }
    l->looks = false;
    l->rest  = rc == CMIF_OK ? 0 : AHEAD_REST;
    return rc;
}

/* Failing, what is there says too much, and never too little. */
static void end_ahead(cmif_ledger *l)
{
    if (l->waiting) { /* and was never settled: it is not entered */
        roll_back_all(l);
        l->waiting = 0;
    }
    l->looks = true;
    for (size_t i = 0; i < AHEAD_KEYS; i++) {
        if (l->ahead[i] && l->ahead[i]->count) {
            (void) !renew_ahead(l, l->ahead[i], 0, NULL);
        }
    }
}

/* What was entered beside those of a, at a time. */
static double spent_beside(ahead *a, const cmif_spend *what, int64_t time, double left)
{
    if (!a->count) {
        return left;
    }
    if (time / DAY == a->time / DAY) {
        a->left -= (double) what->epsilon_micro / 1e6;
        return left + (double) a->spare / 1e6;
    }
    a->closed = true;
    return left;
}

/* a: the place of its key; NULL: none. */
static cmif_code spend(cmif_ledger *l, ahead *a, const cmif_spend *what, const cmif_budgets *budgets, int64_t now,
                       uint64_t *id, double *left, cmif_err *err)
{
    total     t;
    int64_t   newest = 0;
    cmif_err  why    = {0};
    cmif_code rc     = begin(l, true, err);
    rc               = rc == CMIF_OK ? read_total(l, what->key, &t, &newest, err) : rc;
    if (rc != CMIF_OK) {
        goto done;
    }
    const int64_t time = now > t.at[TOTAL_LAST] ? now : t.at[TOTAL_LAST];
    rc                 = check_budgets(&t, budgets, (int64_t) what->epsilon_micro, time, err);
    if (rc != CMIF_OK) {
        goto done; /* nothing was written */
    }
    if (enter(l, what, &t, time, newest + 1, &why) != CMIF_OK) {
        rc = cmif_err_set(err, lose(l, &why), why.where, "%s", why.text);
        goto done;
    }
    l->waiting += l->gathers;
    l->waits = l->gathers;
    rc       = l->gathers ? CMIF_OK : commit(l, err);
    if (rc == CMIF_OK) {
        const double rest = left_of_day(&t, budgets), all = a ? spent_beside(a, what, time, rest) : rest;
        *id = (uint64_t) newest + 1;
        if (left) {
            *left = all;
        }
    }
done:
    roll_back(l);
    return rc;
}

cmif_code cmif_ledger_spend(cmif_ledger *l, const cmif_spend *what, const cmif_budgets *budgets, int64_t now,
                            uint64_t *id, double *left, cmif_err *err)
{
    static const cmif_budgets none = {INFINITY, INFINITY, INFINITY};

    budgets      = budgets ? budgets : &none;
    cmif_code rc = check_spend(what, now, err);
    if (rc == CMIF_OK && l->lost.code != CMIF_OK) { /* until those who wait have been told */
        rc = cmif_err_set(err, l->lost.code, l->lost.where, "%s", l->lost.text);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    ahead *a = l->gathers ? ahead_of(l, what->key) : NULL;
    if (a && take_ahead(l, a, what, budgets, now, id, left)) {
        l->waits = false;
    } else {
        rc = spend(l, a, what, budgets, now, id, left, err);
        if (rc == CMIF_E_BUDGET && a && a->spare > 0 &&
            (a->request == NO_BUDGET ||
             (int64_t) what->epsilon_micro <= a->request)) { /* it may be they that hold it */
            rc = renew_ahead(l, a, 0, err);
            rc = rc == CMIF_OK ? spend(l, a, what, budgets, now, id, left, err) : rc;
        }
    }
    if (rc == CMIF_OK && a) {
        note_asked(a, what, budgets);
    }
    return rc;
}

void cmif_ledger_gather(cmif_ledger *l)
{
    l->gathers = true;
}

bool cmif_ledger_waits(const cmif_ledger *l)
{
    return l->waits;
}

cmif_code cmif_ledger_settle(cmif_ledger *l, cmif_err *err)
{
    cmif_code rc = l->waiting ? commit(l, err) : CMIF_OK;
    if (l->lost.code != CMIF_OK) {
        rc = cmif_err_set(err, l->lost.code, l->lost.where, "%s", l->lost.text);
    }
    l->lost = (cmif_err){0};
    return rc;
}

/* ---- asking ---- */

static void add_spent(cmif_spent *sum, const total *t)
{
    if (!t->at[TOTAL_REQUESTS]) {
        return;
    }
    sum->first = !sum->requests || t->at[TOTAL_FIRST] < sum->first ? t->at[TOTAL_FIRST] : sum->first;
    sum->last  = t->at[TOTAL_LAST] > sum->last ? t->at[TOTAL_LAST] : sum->last;
    sum->requests += (uint64_t) t->at[TOTAL_REQUESTS];
    sum->draws += (uint64_t) t->at[TOTAL_DRAWS];
    sum->epsilon_micro += (uint64_t) t->at[TOTAL_EPSILON];
    sum->surrogates += (uint64_t) t->at[TOTAL_SURROGATES];
    sum->passed += (uint64_t) t->at[TOTAL_PASSED];
}

/* Entries of a key never go back in time: the newest first, until one is too old. */
static cmif_code sum_since(cmif_ledger *l, const char *key, int64_t since, cmif_spent *sum, cmif_err *err)
{
    char          sql[256];
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    entry         e;
    total         t;
    cmif_code     rc = read_total(l, key, &t, NULL, err);

    t = (total){0};
    snprintf(sql, sizeof sql, "SELECT %s FROM entry WHERE key = ? ORDER BY id DESC", entry_columns);
    rc = rc == CMIF_OK ? prepare(l, sql, &statement, err) : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
    }
    while (rc == CMIF_OK) {
        rc = step(l, statement, &there, err);
        rc = rc == CMIF_OK && there ? take_entry(l, statement, &e, err) : rc;
        if (rc != CMIF_OK || !there || e.at[ENTRY_TIME] < since) {
            break;
        }
        const int64_t last = t.at[TOTAL_REQUESTS] ? t.at[TOTAL_LAST] : e.at[ENTRY_TIME];
        rc                 = add_to_total(&t, &e, err);
        t.at[TOTAL_FIRST]  = e.at[ENTRY_TIME];
        t.at[TOTAL_LAST]   = last;
    }
    sqlite3_finalize(statement);
    if (rc == CMIF_OK) {
        add_spent(sum, &t);
    }
    return rc;
}

static cmif_code sum_key(cmif_ledger *l, const char *key, int64_t since, cmif_spent *sum, cmif_err *err)
{
    total t;
    if (since > 0) {
        return sum_since(l, key, since, sum, err);
    }
    cmif_code rc = read_total(l, key, &t, NULL, err);
    for (size_t i = 0; i < AHEAD_KEYS && rc == CMIF_OK; i++) {
        if (l->ahead[i] && l->ahead[i]->count && !strcmp(l->ahead[i]->key, key)) {
            correct(l->ahead[i], &t);
        }
    }
    if (rc == CMIF_OK) {
        add_spent(sum, &t);
        sum->day_epsilon_micro = (uint64_t) t.at[TOTAL_DAY_EPSILON];
    }
    return rc;
}

cmif_code cmif_ledger_sum(cmif_ledger *l, const char *key, int64_t since, cmif_spent *out, cmif_err *err)
{
    cmif_spent    sum       = {0};
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    char          name[CMIF_LEDGER_KEY_MAX + 1];
    cmif_code     rc = begin(l, false, err);

    if (rc == CMIF_OK && key) {
        rc = sum_key(l, key, since, &sum, err);
        goto done;
    }
    rc = rc == CMIF_OK ? prepare(l, "SELECT key FROM total ORDER BY key", &statement, err) : rc;
    while (rc == CMIF_OK) {
        rc = step(l, statement, &there, err);
        if (rc != CMIF_OK || !there) {
            break;
        }
        rc = take_key(statement, 0, name) ? sum_key(l, name, since, &sum, err) : damaged(l, "the name of a key", err);
    }
    sqlite3_finalize(statement);
    sum.day_epsilon_micro = 0; /* days of several keys are not one */
done:
    roll_back(l);
    if (rc == CMIF_OK) {
        *out = sum;
    }
    return rc;
}

cmif_code cmif_ledger_set(cmif_ledger *l, const char *key, const cmif_budgets *budgets, cmif_err *err)
{
    total     t;
    int64_t   micro[3];
    cmif_code rc = check_key(key, err);
    rc           = rc == CMIF_OK ? to_micro(budgets->request, &micro[0], err) : rc;
    rc           = rc == CMIF_OK ? to_micro(budgets->day, &micro[1], err) : rc;
    rc           = rc == CMIF_OK ? to_micro(budgets->key, &micro[2], err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = begin(l, true, err);
    rc = rc == CMIF_OK ? read_total(l, key, &t, NULL, err) : rc;
    if (rc == CMIF_OK) {
        memcpy(&t.at[TOTAL_BUDGET_REQUEST], micro, sizeof micro);
        rc = write_total(l, key, &t, err);
    }
    rc = rc == CMIF_OK ? commit(l, err) : rc;
    roll_back(l);
    return rc;
}

cmif_code cmif_ledger_get(cmif_ledger *l, const char *key, cmif_budgets *out, cmif_err *err)
{
    total     t;
    double    budgets[3];
    cmif_code rc = check_key(key, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = begin(l, false, err);
    rc = rc == CMIF_OK ? read_total(l, key, &t, NULL, err) : rc;
    roll_back(l);
    if (rc == CMIF_OK) {
        for (size_t i = 0; i < 3; i++) {
            const int64_t micro = t.at[TOTAL_BUDGET_REQUEST + i];
            budgets[i]          = micro == NO_BUDGET ? (double) INFINITY : (double) micro / 1e6;
        }
        *out = (cmif_budgets){budgets[0], budgets[1], budgets[2]};
    }
    return rc;
}

cmif_code cmif_ledger_keys(cmif_ledger *l, cmif_ledger_key each, void *context, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = true;
    char          key[CMIF_LEDGER_KEY_MAX + 1];
    cmif_code     rc = begin(l, false, err);
    rc               = rc == CMIF_OK ? prepare(l, "SELECT key FROM total ORDER BY key", &statement, err) : rc;
    while (rc == CMIF_OK && there) {
        rc = step(l, statement, &there, err);
        if (rc == CMIF_OK && there) {
            rc    = take_key(statement, 0, key) ? CMIF_OK : damaged(l, "the name of a key", err);
            there = rc == CMIF_OK && each(context, key);
        }
    }
    sqlite3_finalize(statement);
    roll_back(l);
    return rc;
}

cmif_code cmif_ledger_history(cmif_ledger *l, size_t count, cmif_ledger_entry each, void *context, cmif_err *err)
{
    char          sql[256];
    sqlite3_stmt *statement = NULL;
    bool          there     = true;
    entry         e;
    cmif_code     rc = begin(l, false, err);

    snprintf(sql, sizeof sql, "SELECT %s FROM entry ORDER BY id DESC", entry_columns);
    rc = rc == CMIF_OK ? prepare(l, sql, &statement, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && there && i < count; i++) {
        rc = step(l, statement, &there, err);
        if (rc == CMIF_OK && there) {
            rc    = take_entry(l, statement, &e, err);
            there = rc == CMIF_OK && each(context, (uint64_t) e.at[ENTRY_ID], e.at[ENTRY_TIME], &e.what);
        }
    }
    sqlite3_finalize(statement);
    roll_back(l);
    return rc;
}

/* ---- checking ---- */

static cmif_code check_pages(cmif_ledger *l, cmif_err *err)
{
    sqlite3_stmt *statement     = NULL;
    bool          there         = false;
    cmif_code     rc            = prepare(l, "PRAGMA integrity_check(1)", &statement, err);
    rc                          = rc == CMIF_OK ? step(l, statement, &there, err) : rc;
    const unsigned char *answer = rc == CMIF_OK && there ? sqlite3_column_text(statement, 0) : NULL;
    if (rc == CMIF_OK && (!answer || strcmp((const char *) answer, "ok") != 0)) {
        rc = damaged(l, "SQLite finds a broken page", err);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* The sums that are kept for key must be those of its entries. */
static cmif_code check_total(cmif_ledger *l, const char *key, total *right, cmif_err *err)
{
    total     kept;
    cmif_code rc = read_total(l, key, &kept, NULL, err);
    if (rc == CMIF_OK) {
        memcpy(&right->at[TOTAL_BUDGET_REQUEST], &kept.at[TOTAL_BUDGET_REQUEST], 3 * sizeof kept.at[0]);
        rc = memcmp(&kept, right, sizeof kept) == 0 ? CMIF_OK : damaged(l, "sums are not those of the entries", err);
    }
    *right = (total){0};
    return rc;
}

cmif_code cmif_ledger_check(cmif_ledger *l, cmif_err *err)
{
    char          sql[256], key[CMIF_LEDGER_KEY_MAX + 1] = "";
    sqlite3_stmt *statement = NULL;
    bool          there     = true;
    entry         e;
    total         sum  = {0};
    int64_t       keys = 0, totals = 0;
    cmif_code     rc = begin(l, false, err);
    rc               = rc == CMIF_OK ? check_pages(l, err) : rc;

    snprintf(sql, sizeof sql, "SELECT %s FROM entry ORDER BY key, id", entry_columns);
    rc = rc == CMIF_OK ? prepare(l, sql, &statement, err) : rc;
    while (rc == CMIF_OK && there) {
        rc = step(l, statement, &there, err);
        rc = rc == CMIF_OK && there ? take_entry(l, statement, &e, err) : rc;
        if (rc == CMIF_OK && key[0] && (!there || strcmp(key, e.key) != 0)) {
            rc = check_total(l, key, &sum, err);
        }
        if (rc == CMIF_OK && there) {
            keys += strcmp(key, e.key) != 0;
            memcpy(key, e.key, sizeof key);
            rc = add_to_total(&sum, &e, err);
        }
    }
    rc = rc == CMIF_OK ? ask_number(l, "SELECT count(*) FROM total WHERE requests <> 0", &totals, err) : rc;
    if (rc == CMIF_OK && keys != totals) {
        rc = damaged(l, "entries are lost", err);
    }
    sqlite3_finalize(statement);
    roll_back(l);
    return rc;
}
