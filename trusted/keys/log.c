#include "base/bytes.h"
#include "keys/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct cmif_key_log {
    int     fd;
    off_t   size;
    uint8_t chain[32]; /* of the last line */
    bool    broken;    /* takes nothing any more */
    char   *path;
};

static const char first[] = "CMIF-key-log-v1", mark[] = " chain=";

enum { MARK = sizeof mark - 1, TAIL = MARK + 64 }; /* " chain=" and 64 digits end a line */

/* *chain becomes that of this line; size: without its tail. */
static bool advance(uint8_t chain[static 32], const char *line, size_t size)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(hash, chain, 32) == 1 &&
              EVP_DigestUpdate(hash, line, size) == 1 && EVP_DigestFinal_ex(hash, chain, NULL) == 1;
    EVP_MD_CTX_free(hash);
    return ok;
}

static bool begin(uint8_t chain[static 32])
{
    return EVP_Digest(first, sizeof first - 1, chain, NULL, EVP_sha256(), NULL) == 1;
}

/* ---- reading ---- */

/* One line, without its newline. */
static cmif_code audit_line(const char *line, size_t size, cmif_key_summary *s, cmif_err *err)
{
    uint8_t     claimed[32];
    const char *tail     = line + size - TAIL;
    const char *word     = memchr(line, ' ', size < 40 ? size : 40);
    const bool  released = word && !strncmp(word, " released ", 10), refused = word && !strncmp(word, " refused ", 9);
    if (size < TAIL + 40 || memcmp(tail, mark, MARK) != 0 || !cmif_unhex(tail + MARK, 32, claimed) ||
        released == refused) {
        return cmif_fail(err, CMIF_E_FORMAT, "line %llu is none that a key server wrote",
                         (unsigned long long) s->lines + 1);
    }
    if (!advance(s->chain, line, size - TAIL)) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to hash a line");
    }
    if (memcmp(s->chain, claimed, 32) != 0) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "line %llu: it was changed, or one before it was put in, taken out or moved",
                         (unsigned long long) s->lines + 1);
    }
    s->lines++;
    s->released += released;
    s->refused += refused;
    return CMIF_OK;
}

/* size: bytes up to the end of the last whole line. */
static cmif_code audit(FILE *file, cmif_key_summary *out, off_t *whole, cmif_err *err)
{
    cmif_key_summary s    = {.lines = 0};
    cmif_code        rc   = begin(s.chain) ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory to hash a line");
    off_t            at   = 0;
    char            *line = malloc(CMIF_KEY_LINE_MAX + 2);
    if (!line) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a line");
    }
    while (rc == CMIF_OK) {
        size_t size = 0;
        int    c    = EOF;
        while (size <= CMIF_KEY_LINE_MAX && (c = getc_unlocked(file)) != EOF && c != '\n') {
            line[size++] = (char) c;
        }
        if (size > CMIF_KEY_LINE_MAX) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "line %llu is longer than any that a key server writes",
                           (unsigned long long) s.lines + 1);
        } else if (c == EOF) {
            s.torn = size;
            rc     = ferror(file) ? cmif_fail(err, CMIF_E_IO, "cannot read: %s", strerror(errno)) : CMIF_OK;
            break;
        } else {
            rc = audit_line(line, size, &s, err);
            at += (off_t) size + 1;
        }
    }
    free(line);
    if (rc == CMIF_OK) {
        *out   = s;
        *whole = at;
    }
    return rc;
}

cmif_code cmif_key_audit(const char *path, cmif_key_summary *out, cmif_err *err)
{
    off_t     whole;
    FILE     *file = fopen(path, "re");
    cmif_code rc = file ? audit(file, out, &whole, err) : cmif_fail(err, CMIF_E_IO, "cannot open: %s", strerror(errno));
    if (rc != CMIF_OK) {
        cmif_err_context(err, "key log '%s'", path);
    }
    if (file) {
        fclose(file);
    }
    return rc;
}

/* ---- writing ---- */

static bool sync_folder(const char *path)
{
    const char *slash  = strrchr(path, '/');
    char       *folder = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
    const int   fd     = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    const bool  ok     = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    free(folder);
    return ok;
}

cmif_code cmif_key_log_open(const char *path, cmif_key_log **out, cmif_err *err)
{
    cmif_code        rc   = CMIF_OK;
    cmif_key_log    *log  = calloc(1, sizeof *log);
    FILE            *file = NULL;
    int              copy = -1;
    cmif_key_summary s;

    if (!log || !(log->path = strdup(path))) {
        free(log);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the key log");
    }
    log->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log->fd < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open the key log '%s': %s", path, strerror(errno));
        goto done;
    }
    if (flock(log->fd, LOCK_EX | LOCK_NB) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "the key log '%s' is in use: each key server needs a log of its own", path);
        goto done;
    }
    copy = fcntl(log->fd, F_DUPFD_CLOEXEC, 0);
    file = copy >= 0 ? fdopen(copy, "r") : NULL;
    if (!file) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read the key log '%s': %s", path, strerror(errno));
        goto done;
    }
    rc = audit(file, &s, &log->size, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "key log '%s'", path);
        goto done;
    }
    memcpy(log->chain, s.chain, 32);
    if ((s.torn && ftruncate(log->fd, log->size) != 0) || fsync(log->fd) != 0 || !sync_folder(path)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the key log '%s': %s", path, strerror(errno));
        goto done;
    }
    *out = log;
    log  = NULL;
done:
    if (file) {
        fclose(file);
    } else if (copy >= 0) {
        close(copy);
    }
    cmif_key_log_free(log);
    return rc;
}

void cmif_key_log_free(cmif_key_log *log)
{
    if (log) {
        if (log->fd >= 0) {
            close(log->fd);
        }
        free(log->path);
    }
    free(log);
}

/* Words of others go into the line: nothing in them can end it or begin another field. */
static void put_word(cmif_writer *w, const char *name, const char *word)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:,[]+";
    cmif_write_bytes(w, name, strlen(name));
    for (const char *c = *word ? word : "-"; *c; c++) {
        cmif_write_u8(w, strchr(good, *c) ? (uint8_t) *c : '_');
    }
}

static void put_hex(cmif_writer *w, const char *name, const uint8_t bytes[static 32])
{
    char digits[65];
    cmif_hex(bytes, 32, digits);
    put_word(w, name, digits);
}

/* The file is still the one that its name means, and as long as we left it. */
static bool is_ours(const cmif_key_log *log)
{
    struct stat here, there;
    return fstat(log->fd, &here) == 0 && stat(log->path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino && here.st_size == log->size;
}

cmif_code cmif_key_log_put(cmif_key_log *log, const cmif_key_entry *e, char line[CMIF_KEY_LINE_MAX], cmif_err *err)
{
    char        text[CMIF_KEY_LINE_MAX], when[32] = "-";
    uint8_t     chain[32];
    cmif_writer w    = cmif_writer_over(text, sizeof text);
    time_t      time = (time_t) e->time;
    struct tm   utc;

    if (log->broken || !is_ours(log)) {
        log->broken = true;
        return cmif_fail(
            err, CMIF_E_IO,
            "the key log '%s' was moved, or written to by others: end the key server, look at it, begin a new one",
            log->path);
    }
    if (gmtime_r(&time, &utc)) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    put_word(&w, "", when);
    put_word(&w, e->released ? " released " : " refused ", e->address);
    put_hex(&w, " key=", e->key_id);
    put_word(&w, " tee=", e->tee);
    put_word(&w, " measured=", e->measured);
    put_hex(&w, " policy=", e->policy);
    put_word(&w, " why=", e->why);
    const size_t size = w.at;
    memcpy(chain, log->chain, 32);
    if (!advance(chain, text, size)) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to hash a line");
    }
    put_hex(&w, mark, chain);
    cmif_write_u8(&w, '\n');
    if (w.failed) {
        return cmif_fail(err, CMIF_E_RANGE, "a line of the key log would have more than %d bytes", CMIF_KEY_LINE_MAX);
    }
    const ssize_t n = write(log->fd, text, w.at);
    if (n != (ssize_t) w.at || fdatasync(log->fd) != 0) {
        const int why = n < 0 || n == (ssize_t) w.at ? errno : ENOSPC;
        log->broken   = ftruncate(log->fd, log->size) != 0 || fsync(log->fd) != 0; /* no half line, or no more lines */
        return cmif_fail(err, CMIF_E_IO, "cannot write the key log '%s': %s", log->path, strerror(why));
    }
    log->size += n;
    memcpy(log->chain, chain, 32);
    if (line) {
        memcpy(line, text, w.at);
        line[w.at - 1] = '\0';
    }
    return CMIF_OK;
}
