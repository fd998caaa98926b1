#include "collateral/store.h"

#include "attest/json.h"
#include "attest/x509.h"
#include "base/bytes.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x434d4331, /* "CMC1" */
    VERSION        = 1,
    BUSY_MS        = 30000,
    ITEMS_MAX      = 1024,
    UNCHECKED_MAX  = 32, /* items that nobody vouches for */
    NAME_SIZE      = 96,
    CHECKSUM_SIZE  = 8
};

struct cmif_store {
    sqlite3  *db;
    char     *path;
    cmif_pool issuers; /* that are kept, with the roots; roots alone are none yet */
    bool      issuers_ready;
};

static const char schema[] =
    "CREATE TABLE item(hash BLOB PRIMARY KEY, kind INTEGER NOT NULL, about TEXT NOT NULL, starts INTEGER NOT NULL,"
    " ends INTEGER NOT NULL, number INTEGER NOT NULL, added INTEGER NOT NULL, data BLOB NOT NULL,"
    " checksum BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE seen(name TEXT NOT NULL, number INTEGER NOT NULL, issue INTEGER NOT NULL, checksum BLOB NOT NULL,"
    " PRIMARY KEY(name, issue, number)) STRICT, WITHOUT ROWID;";

/* ---- what an item says of itself ---- */

static cmif_code digest(const void *bytes, size_t size, uint8_t out[static 32], cmif_err *err)
{
    unsigned length = 0;
    return EVP_Digest(bytes, size, out, &length, EVP_sha256(), NULL)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_MEMORY, "no memory for SHA-256");
}

static cmif_code read_json(const cmif_item *item, cmif_kept *k, cmif_err *err)
{
    cmif_json   json   = {0};
    const bool  tcb    = item->kind == CMIF_ITEM_TCB_INFO;
    const char *id     = NULL;
    size_t      size   = 0;
    uint64_t    number = 0;
    uint8_t     fmspc[6];
    cmif_code   rc = cmif_json_parse(item->data, item->size, &json, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const uint32_t body = cmif_json_get(&json, 0, tcb ? "tcbInfo" : "enclaveIdentity");
    if (!cmif_json_text(&json, cmif_json_get(&json, body, "id"), &id, &size) || size > 8 ||
        !cmif_json_time(&json, cmif_json_get(&json, body, "issueDate"), &k->starts) ||
        !cmif_json_time(&json, cmif_json_get(&json, body, "nextUpdate"), &k->ends) ||
        !cmif_json_uint(&json, cmif_json_get(&json, body, "tcbEvaluationDataNumber"), UINT32_MAX, &number) ||
        (tcb && !cmif_json_hex(&json, cmif_json_get(&json, body, "fmspc"), fmspc, sizeof fmspc))) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "%s without its id, issueDate, nextUpdate, tcbEvaluationDataNumber%s (version 3 is read)",
                       tcb ? "TCB info" : "QE identity", tcb ? " or fmspc" : "");
        goto done;
    }
    char hex[13] = "";
    if (tcb) {
        cmif_hex(fmspc, sizeof fmspc, hex);
    }
    snprintf(k->about, sizeof k->about, "%.*s%s%s", (int) size, id, tcb ? " " : "", hex);
    k->number = (int64_t) number;
    for (size_t i = 0; k->about[i]; i++) {
        if (!isalnum((unsigned char) k->about[i]) && !strchr(" _", k->about[i])) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "the id of this %s is not one of Intel's",
                           tcb ? "TCB info" : "QE identity");
        }
    }
done:
    cmif_json_wipe(&json);
    return rc;
}

static void common_name(const X509_NAME *name, char *out, size_t room)
{
    char text[48] = "";
    if (!name || X509_NAME_get_text_by_NID(name, NID_commonName, text, sizeof text) <= 0) {
        snprintf(text, sizeof text, "without a name");
    }
    for (char *c = text; *c; c++) {
        *c = *c < ' ' || *c > '~' ? '?' : *c;
    }
    snprintf(out, room, "%s", text);
}

/* DER of a PEM block, or the bytes themselves; free with OPENSSL_free. */
static uint8_t *der_of(const cmif_item *item, long *size)
{
    uint8_t *der  = NULL;
    char    *name = NULL, *header = NULL;
    BIO     *bio = BIO_new_mem_buf(item->data, (int) item->size);
    if (!bio || PEM_read_bio(bio, &name, &header, &der, size) != 1) {
        der   = OPENSSL_memdup(item->data, item->size);
        *size = der ? (long) item->size : 0;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return der;
}

static cmif_code read_crl(const uint8_t *der, long size, cmif_kept *k, cmif_err *err)
{
    const uint8_t *at   = der;
    X509_CRL      *list = der ? d2i_X509_CRL(NULL, &at, size) : NULL;
    if (!list) {
        return cmif_fail(err, CMIF_E_FORMAT, "a CRL that cannot be read");
    }
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(list, NID_crl_number, NULL, NULL);
    int64_t       value  = 0;
    common_name(X509_CRL_get_issuer(list), k->about, sizeof k->about);
    k->starts = cmif_asn1_time(X509_CRL_get0_lastUpdate(list));
    k->ends   = X509_CRL_get0_nextUpdate(list) ? cmif_asn1_time(X509_CRL_get0_nextUpdate(list)) : INT64_MAX;
    k->number = number && ASN1_INTEGER_get_int64(&value, number) && value > 0 ? value : 0;
    ASN1_INTEGER_free(number);
    X509_CRL_free(list);
    return CMIF_OK;
}

static cmif_code read_certificate(const uint8_t *der, long size, cmif_kept *k, cmif_err *err)
{
    static const uint8_t hwid[] = {0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01, 0x04}; /* 1.3.6.1.4.1.3704.1.4 */
    const uint8_t       *at     = der;
    X509                *x      = der ? d2i_X509(NULL, &at, size) : NULL;
    cmif_reader          chip;
    if (!x) {
        return cmif_fail(err, CMIF_E_FORMAT, "a certificate that cannot be read");
    }
    common_name(X509_get_subject_name(x), k->about, 40);
    if (cmif_x509_extension(x, hwid, sizeof hwid, &chip) &&
        chip.size >= 8) { /* a VCEK: many have one name, so tell the chip */
        const size_t nested = chip.size > 64 && chip.data[0] == 4 ? 2 : 0;
        char         hex[17];
        cmif_hex(chip.data + nested, 8, hex);
        snprintf(k->about + strlen(k->about), sizeof k->about - strlen(k->about), " %s", hex);
    }
    k->starts = cmif_asn1_time(X509_get0_notBefore(x));
    k->ends   = cmif_asn1_time(X509_get0_notAfter(x));
    X509_free(x);
    return CMIF_OK;
}

cmif_code cmif_kept_read(const cmif_item *item, cmif_kept *out, cmif_err *err)
{
    cmif_kept k    = {.kind = item->kind, .size = item->size};
    long      size = 0;
    uint8_t  *der  = NULL;
    cmif_code rc   = digest(item->data, item->size, k.hash, err);
    if (rc == CMIF_OK && (item->kind == CMIF_ITEM_TCB_INFO || item->kind == CMIF_ITEM_QE_IDENTITY)) {
        rc = read_json(item, &k, err);
    } else if (rc == CMIF_OK && (item->kind == CMIF_ITEM_CRL || item->kind == CMIF_ITEM_CERTIFICATES)) {
        der = der_of(item, &size);
        rc  = item->kind == CMIF_ITEM_CRL ? read_crl(der, size, &k, err) : read_certificate(der, size, &k, err);
    } else if (rc == CMIF_OK) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "evidence, not collateral");
    }
    if (rc == CMIF_OK && (k.starts == INT64_MIN || k.ends == INT64_MIN)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "a date that cannot be read");
    }
    OPENSSL_free(der);
    if (rc == CMIF_OK) {
        *out = k;
    }
    return rc;
}

/* ---- errors ---- */

static cmif_code damaged(const cmif_store *s, const char *what, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_FORMAT,
                     "the collateral store %s is damaged (%s), so nothing of it is used: move it away, then fill it "
                     "again with 'cmif collateral add'",
                     s->path, what);
}

static cmif_code failed(const cmif_store *s, int code, cmif_err *err)
{
    const int reason = s->db ? sqlite3_system_errno(s->db) : 0;
    switch (code & 0xff) {
    case SQLITE_FULL:
        return cmif_fail(err, CMIF_E_IO,
                         "the collateral store %s cannot be written: the disk is full; make room, then try again",
                         s->path);
    case SQLITE_READONLY:
        return cmif_fail(err, CMIF_E_IO,
                         "the collateral store %s is read-only: allow writing to it and to its folder, or leave it out "
                         "with '--collateral none'",
                         s->path);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return cmif_fail(err, CMIF_E_IO,
                         "cannot open the collateral store %s: %s; allow reading and writing it and its folder",
                         s->path, reason ? strerror(reason) : "not a file that may be opened");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return cmif_fail(err, CMIF_E_IO,
                         "another program has held the collateral store %s for %d seconds: end it, then try again",
                         s->path, BUSY_MS / 1000);
    case SQLITE_NOTADB:
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%s is no collateral store, or its first page is damaged: move it away, then fill it again",
                         s->path);
    case SQLITE_CORRUPT:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* our statements are right: the tables are not */
        return damaged(s, "SQLite cannot read a page", err);
    case SQLITE_NOMEM:
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the collateral store %s", s->path);
    default:
        return cmif_fail(err, CMIF_E_IO, "the collateral store %s cannot be read or written: %s (SQLite %d)", s->path,
                         reason ? strerror(reason) : "the disk fails, or is full", code);
    }
}

/* ---- statements ---- */

static cmif_code run(cmif_store *s, const char *sql, cmif_err *err)
{
    int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? CMIF_OK : failed(s, code, err);
}

static cmif_code prepare(cmif_store *s, const char *sql, sqlite3_stmt **out, cmif_err *err)
{
    int code = sqlite3_prepare_v2(s->db, sql, -1, out, NULL);
    return code == SQLITE_OK ? CMIF_OK : failed(s, code, err);
}

static cmif_code step(cmif_store *s, sqlite3_stmt *statement, bool *there, cmif_err *err)
{
    int code = sqlite3_step(statement);
    *there   = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? CMIF_OK : failed(s, code, err);
}

static cmif_code ask(cmif_store *s, const char *sql, int64_t *out, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc        = prepare(s, sql, &statement, err);
    rc                      = rc == CMIF_OK ? step(s, statement, &there, err) : rc;
    *out                    = rc == CMIF_OK && there ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_finalize(statement);
    return rc;
}

static void roll_back(cmif_store *s)
{
    if (!sqlite3_get_autocommit(s->db)) {
        (void) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    }
}

static cmif_code item_checksum(const cmif_kept *k, int64_t added, uint8_t out[static CHECKSUM_SIZE], cmif_err *err)
{
    uint8_t     bytes[1 + 6 * 8 + 32 + sizeof k->about], hash[32];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_u8(&w, 'I');
    cmif_write_u64(&w, k->kind);
    cmif_write_u64(&w, (uint64_t) k->starts);
    cmif_write_u64(&w, (uint64_t) k->ends);
    cmif_write_u64(&w, (uint64_t) k->number);
    cmif_write_u64(&w, (uint64_t) added);
    cmif_write_u64(&w, k->size);
    cmif_write_bytes(&w, k->hash, sizeof k->hash);
    cmif_write_bytes(&w, k->about, strlen(k->about));
    cmif_code rc = digest(bytes, w.at, hash, err);
    memcpy(out, hash, CHECKSUM_SIZE);
    return rc;
}

static cmif_code seen_checksum(const char *name, int64_t number, int64_t issue, uint8_t out[static CHECKSUM_SIZE],
                               cmif_err *err)
{
    uint8_t     bytes[1 + 2 * 8 + NAME_SIZE], hash[32];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_u8(&w, 'S');
    cmif_write_u64(&w, (uint64_t) number);
    cmif_write_u64(&w, (uint64_t) issue);
    cmif_write_bytes(&w, name, strnlen(name, NAME_SIZE));
    cmif_code rc = digest(bytes, w.at, hash, err);
    memcpy(out, hash, CHECKSUM_SIZE);
    return rc;
}

static bool take_text(sqlite3_stmt *statement, int column, char *out, size_t room)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    const int            size = sqlite3_column_bytes(statement, column);
    if (!text || size < 1 || (size_t) size >= room || strlen((const char *) text) != (size_t) size) {
        return false;
    }
    memcpy(out, text, (size_t) size + 1);
    return true;
}

static bool take_blob(sqlite3_stmt *statement, int column, uint8_t *out, size_t size)
{
    const void *blob = sqlite3_column_blob(statement, column);
    if (!blob || (size_t) sqlite3_column_bytes(statement, column) != size) {
        return false;
    }
    memcpy(out, blob, size);
    return true;
}

#define ITEM_COLUMNS "hash, kind, about, starts, ends, number, added, checksum, data"

/* The row of a statement that asked for ITEM_COLUMNS; its bytes are borrowed until the next step. */
static cmif_code take_item(cmif_store *s, sqlite3_stmt *statement, cmif_kept *k, cmif_item *item, cmif_err *err)
{
    uint8_t kept[CHECKSUM_SIZE], right[CHECKSUM_SIZE], hash[32];
    *k         = (cmif_kept){.kind   = (cmif_item_kind) sqlite3_column_int64(statement, 1),
                             .starts = sqlite3_column_int64(statement, 3),
                             .ends   = sqlite3_column_int64(statement, 4),
                             .number = sqlite3_column_int64(statement, 5)};
    item->kind = k->kind;
    item->data = sqlite3_column_blob(statement, 8);
    item->size = k->size = (size_t) sqlite3_column_bytes(statement, 8);
    if (!item->data || !take_blob(statement, 0, k->hash, sizeof k->hash) ||
        !take_text(statement, 2, k->about, sizeof k->about) || !take_blob(statement, 7, kept, sizeof kept)) {
        return damaged(s, "an item is not whole", err);
    }
    cmif_code rc = item_checksum(k, sqlite3_column_int64(statement, 6), right, err);
    rc           = rc == CMIF_OK ? digest(item->data, item->size, hash, err) : rc;
    if (rc == CMIF_OK && (memcmp(kept, right, sizeof kept) != 0 || memcmp(hash, k->hash, sizeof hash) != 0 ||
                          !cmif_item_is_collateral(k->kind))) {
        rc = damaged(s, "the checksum of an item", err);
    }
    return rc;
}

/* ---- open ---- */

static cmif_code make_folders(const char *path, cmif_err *err)
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int) sizeof folder - 16) {
        return cmif_fail(err, CMIF_E_IO, "the collateral store's name is too long");
    }
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST && access(folder, F_OK) != 0) {
            return cmif_fail(err, CMIF_E_IO, "cannot make the folder %s for the collateral store: %s", folder,
                             strerror(errno));
        }
        *slash = '/';
    }
    return CMIF_OK;
}

static cmif_code identify(cmif_store *s, bool *fresh, cmif_err *err)
{
    int64_t   application = 0, version = 0, tables = 0;
    cmif_code rc = ask(s, "PRAGMA application_id", &application, err);
    rc           = rc == CMIF_OK ? ask(s, "PRAGMA user_version", &version, err) : rc;
    rc           = rc == CMIF_OK ? ask(s, "SELECT count(*) FROM sqlite_schema", &tables, err) : rc;
    *fresh       = !application && !version && !tables;
    if (rc == CMIF_OK && !*fresh && application != APPLICATION_ID) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%s is the database of another program, no collateral store: move it away",
                       s->path);
    } else if (rc == CMIF_OK && !*fresh && version != VERSION) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "the collateral store %s has version %" PRId64 " and this program knows %d: use a newer cmif",
                       s->path, version, VERSION);
    }
    return rc;
}

static cmif_code make_tables(cmif_store *s, cmif_err *err)
{
    char      pragmas[96];
    bool      fresh = false;
    cmif_code rc    = run(s, "BEGIN IMMEDIATE", err);
    rc              = rc == CMIF_OK ? identify(s, &fresh, err) : rc; /* another program may have been faster */
    if (rc == CMIF_OK && fresh) {
        snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                 VERSION);
        rc = run(s, schema, err);
        rc = rc == CMIF_OK ? run(s, pragmas, err) : rc;
    }
    rc = rc == CMIF_OK ? run(s, "COMMIT", err) : rc;
    roll_back(s);
    return rc;
}

/* Every row, and that SQLite finds no damage: the file is small. */
static cmif_code check(cmif_store *s, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc        = prepare(s, "PRAGMA integrity_check(1)", &statement, err);
    rc                      = rc == CMIF_OK ? step(s, statement, &there, err) : rc;
    if (rc == CMIF_OK && (!there || strcmp((const char *) sqlite3_column_text(statement, 0), "ok") != 0)) {
        rc = damaged(s, "SQLite's own check", err);
    }
    sqlite3_finalize(statement);
    statement = NULL;
    rc        = rc == CMIF_OK ? cmif_store_all(s, NULL, NULL, err) : rc;
    rc        = rc == CMIF_OK ? prepare(s, "SELECT name, number, issue, checksum FROM seen", &statement, err) : rc;
    while (rc == CMIF_OK && (rc = step(s, statement, &there, err)) == CMIF_OK && there) {
        char    name[NAME_SIZE];
        uint8_t kept[CHECKSUM_SIZE], right[CHECKSUM_SIZE];
        if (!take_text(statement, 0, name, sizeof name) || !take_blob(statement, 3, kept, sizeof kept)) {
            rc = damaged(s, "what was seen is not whole", err);
            break;
        }
        rc = seen_checksum(name, sqlite3_column_int64(statement, 1), sqlite3_column_int64(statement, 2), right, err);
        if (rc == CMIF_OK && memcmp(kept, right, sizeof kept) != 0) {
            rc = damaged(s, "the checksum of what was seen", err);
        }
    }
    sqlite3_finalize(statement);
    return rc;
}

cmif_code cmif_store_open(const char *path, bool write, cmif_store **out, cmif_err *err)
{
    cmif_code   rc    = CMIF_OK;
    bool        fresh = false;
    cmif_store *s     = calloc(1, sizeof *s);
    struct stat info;

    if (!s || !(s->path = strdup(path))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a collateral store");
        goto done;
    }
    const bool there = stat(path, &info) == 0;
    if (!write && !there && (errno == ENOENT || errno == ENOTDIR)) {
        *out = NULL;
        goto done;
    }
    if (there && !S_ISREG(info.st_mode)) { /* SQLite would wait for a pipe's other end */
        rc = cmif_fail(err, CMIF_E_IO, "the collateral store %s is no file: move it away", path);
        goto done;
    }
    rc = write ? make_folders(path, err) : CMIF_OK;
    if (rc != CMIF_OK) {
        goto done;
    }
    int code = sqlite3_open_v2(
        path, &s->db,
        (write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_EXRESCODE, NULL);
    if (code != SQLITE_OK || (write && sqlite3_db_readonly(s->db, "main") == 1)) {
        rc = failed(s, code != SQLITE_OK ? code : SQLITE_READONLY, err);
        goto done;
    }
    if (write && (stat(path, &info) < 0 || ((info.st_mode & 077) && chmod(path, info.st_mode & 0700) < 0))) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot keep others from writing the collateral store %s: %s", path,
                       strerror(errno));
        goto done;
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc = run(s, "PRAGMA cell_size_check = ON; PRAGMA synchronous = EXTRA", err);
    rc = rc == CMIF_OK ? identify(s, &fresh, err) : rc;
    if (rc == CMIF_OK && fresh && !write) { /* nothing was put into it yet */
        *out = NULL;
        goto done;
    }
    rc = rc == CMIF_OK && fresh ? make_tables(s, err) : rc;
    rc = rc == CMIF_OK ? check(s, err) : rc;
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = s;
    s    = NULL;
done:
    cmif_store_free(s);
    return rc;
}

void cmif_store_free(cmif_store *s)
{
    if (s) {
        sqlite3_close_v2(s->db);
        cmif_pool_wipe(&s->issuers);
        free(s->path);
        free(s);
    }
}

/* ---- items ---- */

void cmif_store_crl_name(const uint8_t issuer[static 32], char name[static NAME_SIZE])
{
    char hex[65];
    cmif_hex(issuer, 32, hex);
    snprintf(name, NAME_SIZE, "crl %s", hex);
}

/* "tcb TDX 90c06f000000", as cmif_store_saw was told; empty: no memory is kept of this kind. */
static void seen_name(const cmif_kept *k, const uint8_t issuer[static 32], char name[static NAME_SIZE])
{
    const bool info = k->kind == CMIF_ITEM_TCB_INFO, identity = k->kind == CMIF_ITEM_QE_IDENTITY;
    snprintf(name, NAME_SIZE, "%s%s", info ? "tcb " : identity ? "qe " : "", info || identity ? k->about : "");
    if (k->kind == CMIF_ITEM_CRL && k->genuine == CMIF_GENUINE_YES) {
        cmif_store_crl_name(issuer, name);
    }
}

static void date(int64_t when, char out[static 24])
{
    time_t    seconds = (time_t) when;
    struct tm parts   = {0};
    if (!gmtime_r(&seconds, &parts) || !strftime(out, 24, "%Y-%m-%d %H:%M", &parts)) {
        snprintf(out, 24, "(no date)");
    }
}

static cmif_code rollback(const cmif_kept *k, int64_t number, int64_t issue, const char *where, cmif_err *err)
{
    char mine[24], theirs[24];
    date(k->starts, mine);
    date(issue, theirs);
    return cmif_fail(err, CMIF_E_TRUST,
                     "collateral-rollback: this one for %s is of %s (number %" PRId64
                     "), and one of %s (number %" PRId64 ") %s: take the newest from its maker",
                     k->about, mine, k->number, theirs, number, where);
}

static cmif_code insert(cmif_store *s, const cmif_kept *k, const cmif_item *item, int64_t now, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    uint8_t       sum[CHECKSUM_SIZE];
    cmif_code     rc = item_checksum(k, now, sum, err);
    rc               = rc == CMIF_OK ? prepare(s, "INSERT INTO item VALUES (?,?,?,?,?,?,?,?,?)", &statement, err) : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_blob(statement, 1, k->hash, sizeof k->hash, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, (int64_t) k->kind);
        sqlite3_bind_text(statement, 3, k->about, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 4, k->starts);
        sqlite3_bind_int64(statement, 5, k->ends);
        sqlite3_bind_int64(statement, 6, k->number);
        sqlite3_bind_int64(statement, 7, now);
        sqlite3_bind_blob64(statement, 8, item->data, item->size, SQLITE_STATIC);
        sqlite3_bind_blob(statement, 9, sum, sizeof sum, SQLITE_STATIC);
        rc = step(s, statement, &there, err);
    }
    sqlite3_finalize(statement);
    return rc;
}

/* ---- who vouches for what is kept ---- */

typedef struct finding {
    cmif_pool *pool;
    bool       news;
} finding;

static bool add_issuer(void *context, const cmif_kept *kept, const cmif_item *item)
{
    finding *f = context;
    (void) kept;
    f->news = cmif_genuine_add(f->pool, item) || f->news;
    return true;
}

static cmif_code find_issuers(cmif_store *s, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (!s->issuers_ready) {
        cmif_pool_wipe(&s->issuers);
        rc = cmif_genuine_pool(&s->issuers, NULL, err);
        for (finding f = {.pool = &s->issuers, .news = true}; rc == CMIF_OK && f.news;) {
            f.news = false;
            rc     = cmif_store_all(s, add_issuer, &f, err);
        }
        s->issuers_ready = rc == CMIF_OK;
    }
    return rc;
}

cmif_code cmif_store_genuine(cmif_store *s, const cmif_item *item, cmif_kept *kept, cmif_err *err)
{
    uint8_t   issuer[32];
    cmif_code rc = find_issuers(s, err);
    if (rc == CMIF_OK) {
        kept->genuine = cmif_genuine_check(&s->issuers, item, issuer);
    }
    return rc;
}

typedef struct counting {
    cmif_store *store;
    size_t      unchecked;
} counting;

static bool count_unchecked(void *context, const cmif_kept *kept, const cmif_item *item)
{
    counting *c = context;
    uint8_t   issuer[32];
    (void) kept;
    c->unchecked += cmif_genuine_check(&c->store->issuers, item, issuer) != CMIF_GENUINE_YES;
    return true;
}

/* Is there room for one more? Junk that nobody vouches for finds an end before everything is full of it. */
static cmif_code find_room(cmif_store *s, const cmif_kept *k, cmif_err *err)
{
    int64_t   count = 0;
    counting  all   = {.store = s};
    cmif_code rc    = ask(s, "SELECT count(*) FROM item", &count, err);
    if (rc == CMIF_OK && count >= ITEMS_MAX) {
        rc =
            cmif_fail(err, CMIF_E_RANGE,
                      "the collateral store holds %d items, and no more: 'cmif collateral remove' what you do not need",
                      ITEMS_MAX);
    }
    if (rc == CMIF_OK && k->genuine != CMIF_GENUINE_YES && count >= UNCHECKED_MAX) {
        rc = cmif_store_all(s, count_unchecked, &all, err);
        if (rc == CMIF_OK && all.unchecked >= UNCHECKED_MAX) {
            rc =
                cmif_fail(err, CMIF_E_RANGE,
                          "the issuer of %s is not here, and of %d more items neither, which is the most that is kept: "
                          "add the certificates of their issuers, or 'cmif collateral remove' them",
                          k->about, UNCHECKED_MAX);
        }
    }
    return rc;
}

/* ---- add ---- */

/* What of the same name gives way to k: old collateral is still validly signed: only newer takes the place of what is
 * as well known as itself. Older than what is well known is a rollback; what nobody vouches for neither displaces nor
 * bars what somebody does. */
typedef struct adding {
    cmif_kept k;
    uint8_t   issuer[32]; /* of a CRL */
    uint8_t   gone[64][32];
    size_t    gone_count;
    bool      there;
} adding;

static cmif_code meet(cmif_store *s, adding *a, const cmif_kept *old, const cmif_item *other, cmif_err *err)
{
    const cmif_kept *k = &a->k;
    uint8_t          issuer[32];
    if (!memcmp(old->hash, k->hash, sizeof k->hash)) {
        a->there = true;
        return CMIF_OK;
    }
    if (k->kind == CMIF_ITEM_CERTIFICATES) {
        return CMIF_OK;
    }
    const cmif_genuine genuine = cmif_genuine_check(&s->issuers, other, issuer);
    const bool         older   = k->starts < old->starts || (k->kind != CMIF_ITEM_CRL && k->number < old->number);
    if (genuine == CMIF_GENUINE_YES && k->genuine == CMIF_GENUINE_YES && memcmp(issuer, a->issuer, 32) != 0) {
        return CMIF_OK; /* two makers of lists that have one name */
    }
    if (older && (genuine == k->genuine || genuine == CMIF_GENUINE_YES)) {
        return rollback(k, old->number, old->starts, "is here already", err);
    }
    const bool gives_way =
        genuine == CMIF_GENUINE_NO || (!older && (genuine == k->genuine || k->genuine == CMIF_GENUINE_YES));
    if (gives_way && a->gone_count < sizeof a->gone / sizeof *a->gone) {
        memcpy(a->gone[a->gone_count++], old->hash, sizeof old->hash);
    }
    return CMIF_OK;
}

static cmif_code delete_items(cmif_store *s, const adding *a, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < a->gone_count; i++) {
        sqlite3_stmt *statement = NULL;
        bool          there     = false;
        rc                      = prepare(s, "DELETE FROM item WHERE hash = ?1", &statement, err);
        if (rc == CMIF_OK) {
            sqlite3_bind_blob(statement, 1, a->gone[i], sizeof a->gone[i], SQLITE_STATIC);
            rc = step(s, statement, &there, err);
        }
        sqlite3_finalize(statement);
    }
    return rc;
}

cmif_code cmif_store_add(cmif_store *s, const cmif_item *item, int64_t now, cmif_kept *kept, cmif_store_done *done,
                         cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    adding        a         = {0};
    cmif_kept    *k = &a.k, old = {0};
    cmif_item     other = {0};
    char          name[NAME_SIZE];
    int64_t       number = 0, issue = 0;
    cmif_code     rc = cmif_kept_read(item, k, err);
    rc               = rc == CMIF_OK ? run(s, "BEGIN IMMEDIATE", err) : rc;
    s->issuers_ready = false; /* another program may have added some */
    rc               = rc == CMIF_OK ? find_issuers(s, err) : rc;
    k->genuine       = rc == CMIF_OK ? cmif_genuine_check(&s->issuers, item, a.issuer) : CMIF_GENUINE_UNKNOWN;
    if (k->genuine == CMIF_GENUINE_NO) {
        rc =
            cmif_fail(err, CMIF_E_TRUST,
                      "%s is not signed by whom it names, so it is not kept: take it from its maker, with the chain of "
                      "its issuer",
                      k->about);
    }
    seen_name(k, a.issuer, name);
    rc = rc == CMIF_OK ? cmif_store_seen(s, name, INT64_MAX, &number, &issue, err) : rc;
    if (rc == CMIF_OK && (k->starts < issue || (k->kind != CMIF_ITEM_CRL && k->number < number))) {
        rc = rollback(k, number, issue, "was believed before", err);
    }
    rc = rc == CMIF_OK ? prepare(s, "SELECT " ITEM_COLUMNS " FROM item WHERE kind = ?1 AND about = ?2", &statement, err)
                       : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_int64(statement, 1, (int64_t) k->kind);
        sqlite3_bind_text(statement, 2, k->about, -1, SQLITE_STATIC);
    }
    while (rc == CMIF_OK && (rc = step(s, statement, &there, err)) == CMIF_OK && there) {
        rc = take_item(s, statement, &old, &other, err);
        rc = rc == CMIF_OK ? meet(s, &a, &old, &other, err) : rc;
    }
    sqlite3_finalize(statement);
    rc = rc == CMIF_OK && !a.there ? delete_items(s, &a, err) : rc;
    rc = rc == CMIF_OK && !a.there ? find_room(s, k, err) : rc;
    rc = rc == CMIF_OK && !a.there ? insert(s, k, item, now, err) : rc;
    rc = rc == CMIF_OK ? run(s, "COMMIT", err) : rc;
    roll_back(s);
    s->issuers_ready = false;
    if (rc == CMIF_OK) {
        *kept = *k;
        *done = a.there ? CMIF_STORE_THERE : a.gone_count ? CMIF_STORE_REPLACED : CMIF_STORE_ADDED;
    }
    return rc;
}

cmif_code cmif_store_remove(cmif_store *s, const char *about, cmif_store_each each, void *context, size_t *count,
                            cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_kept     k;
    cmif_item     item;
    size_t        found = 0;
    cmif_code     rc    = run(s, "BEGIN IMMEDIATE", err);
    rc                  = rc == CMIF_OK ? prepare(s,
                                                  "SELECT " ITEM_COLUMNS
                                                  " FROM item WHERE ?1 IS NULL OR about = ?1 ORDER BY kind, about, starts, hash",
                                                  &statement, err)
                                        : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, about, -1, SQLITE_STATIC);
    }
    while (rc == CMIF_OK && (rc = step(s, statement, &there, err)) == CMIF_OK && there) {
        rc = take_item(s, statement, &k, &item, err);
        found += rc == CMIF_OK;
        if (rc == CMIF_OK && each) {
            (void) each(context, &k, &item);
        }
    }
    sqlite3_finalize(statement);
    statement = NULL;
    rc        = rc == CMIF_OK ? prepare(s, "DELETE FROM item WHERE ?1 IS NULL OR about = ?1", &statement, err) : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, about, -1, SQLITE_STATIC);
        rc = step(s, statement, &there, err);
    }
    sqlite3_finalize(statement);
    rc = rc == CMIF_OK ? run(s, "COMMIT", err) : rc;
    roll_back(s);
    s->issuers_ready = false;
    if (rc == CMIF_OK) {
        *count = found;
    }
    return rc;
}

cmif_code cmif_store_all(cmif_store *s, cmif_store_each each, void *context, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_kept     k;
    cmif_item     item;
    cmif_code     rc =
        s ? prepare(s, "SELECT " ITEM_COLUMNS " FROM item ORDER BY kind, about, starts, hash", &statement, err)
              : CMIF_OK;
    while (s && rc == CMIF_OK && (rc = step(s, statement, &there, err)) == CMIF_OK && there) {
        rc = take_item(s, statement, &k, &item, err);
        if (rc == CMIF_OK && each && !each(context, &k, &item)) {
            break;
        }
    }
    sqlite3_finalize(statement);
    return rc;
}

/* ---- what was believed ---- */

cmif_code cmif_store_seen(cmif_store *s, const char *name, int64_t time, int64_t *number, int64_t *issue, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    cmif_code     rc        = CMIF_OK;
    *number = *issue = 0;
    if (s && *name) {
        rc =
            prepare(s, "SELECT ifnull(max(number), 0), ifnull(max(issue), 0) FROM seen WHERE name = ?1 AND issue <= ?2",
                    &statement, err);
    }
    if (statement) {
        sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, time);
        rc = step(s, statement, &there, err);
    }
    if (rc == CMIF_OK && there) {
        *number = sqlite3_column_int64(statement, 0);
        *issue  = sqlite3_column_int64(statement, 1);
    }
    sqlite3_finalize(statement);
    return rc;
}

cmif_code cmif_store_seen_crls(cmif_store *s, int64_t time, cmif_seen_crl **out, size_t *count, cmif_err *err)
{
    sqlite3_stmt  *statement = NULL;
    bool           there     = false;
    cmif_seen_crl *list      = NULL;
    size_t         used      = 0;
    char           name[NAME_SIZE];
    cmif_code      rc =
        s ? prepare(s, "SELECT name, max(issue) FROM seen WHERE name LIKE 'crl %' AND issue <= ?1 GROUP BY name",
                         &statement, err)
               : CMIF_OK;
    if (statement) {
        sqlite3_bind_int64(statement, 1, time);
    }
    while (statement && rc == CMIF_OK && (rc = step(s, statement, &there, err)) == CMIF_OK && there) {
        cmif_seen_crl *more = realloc(list, (used + 1) * sizeof *list);
        if (!more) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for what was believed");
            break;
        }
        list = more;
        if (take_text(statement, 0, name, sizeof name) && strlen(name) == 4 + 64 &&
            cmif_unhex(name + 4, 32, list[used].issuer)) {
            list[used++].update = sqlite3_column_int64(statement, 1);
        }
    }
    sqlite3_finalize(statement);
    if (rc != CMIF_OK) {
        free(list);
        return rc;
    }
    *out   = list;
    *count = used;
    return CMIF_OK;
}

cmif_code cmif_store_saw(cmif_store *s, const char *name, int64_t number, int64_t issue, cmif_err *err)
{
    sqlite3_stmt *statement = NULL;
    bool          there     = false;
    uint8_t       sum[CHECKSUM_SIZE];
    cmif_code     rc = strlen(name) < NAME_SIZE ? seen_checksum(name, number, issue, sum, err)
                                                : cmif_fail(err, CMIF_E_RANGE, "a name of collateral is too long");
    rc               = rc == CMIF_OK ? prepare(s, "INSERT OR IGNORE INTO seen VALUES (?,?,?,?)", &statement, err) : rc;
    if (rc == CMIF_OK) {
        sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, number);
        sqlite3_bind_int64(statement, 3, issue);
        sqlite3_bind_blob(statement, 4, sum, sizeof sum, SQLITE_STATIC);
        rc = step(s, statement, &there, err);
    }
    sqlite3_finalize(statement);
    return rc;
}
