#define _GNU_SOURCE /* memrchr */
#include "receipt/receipt.h"

#include "receipt/line.h"
#include "secret/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEED_SIZE = 32, FOLDER_MAX = PATH_MAX - 32 };

typedef struct chain_end { /* what the next receipt follows */
    line    last;          /* zeros: there is none */
    uint8_t hash[32];
    off_t   size; /* of the file up to there */
} chain_end;

struct cmif_receipts {
    char      folder[FOLDER_MAX];
    int       folder_fd, file; /* receipts.jsonl; its lock is the chain's */
    EVP_PKEY *key;
    uint8_t   signer[32];
    pid_t     owner; /* the lock of a descriptor is shared over a fork */
    bool      gathers;
    chain_end gathered; /* what we wrote last, and no head vouches for yet; size 0: nothing */
};

/* ---- files ---- */

static cmif_code cannot(const cmif_receipts *r, const char *what, const char *name, cmif_err *err)
{
    const char *advice = errno == ENOSPC || errno == EDQUOT || errno == EFBIG  ? "make room, then try again"
                         : errno == EROFS || errno == EACCES || errno == EPERM ? "allow reading and writing there"
                                                                               : "does the disk work?";
    return cmif_fail(err, CMIF_E_IO, "cannot %s %s/%s: %s; %s", what, r->folder, name, strerror(errno), advice);
}

static cmif_code write_all(int fd, const void *bytes, size_t size, off_t at)
{
    const char *from = bytes;
    while (size) {
        ssize_t wrote = pwrite(fd, from, size, at);
        if (wrote < 0 && errno != EINTR) {
            return CMIF_E_IO;
        }
        if (wrote > 0) {
            from += wrote;
            at += wrote;
            size -= (size_t) wrote;
        }
    }
    return CMIF_OK;
}

/* A small file of the folder; *size -1: it is not there. */
static cmif_code read_small(const cmif_receipts *r, const char *name, void *bytes, size_t room, ssize_t *size,
                            mode_t *mode, cmif_err *err)
{
    struct stat info;
    cmif_code   rc = CMIF_OK;
    int         fd = openat(r->folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *size          = -1;
    if (fd < 0) {
        return errno == ENOENT ? CMIF_OK : cannot(r, "open", name, err);
    }
    *size = pread(fd, bytes, room, 0);
    if (*size < 0 || fstat(fd, &info) < 0) {
        rc = cannot(r, "read", name, err);
    } else if (mode) {
        *mode = info.st_mode;
    }
    close(fd);
    return rc;
}

/* All of it or nothing; its name is on disk after fsync(folder_fd) only. Others of the chain are locked out. */
static cmif_code write_small(const cmif_receipts *r, const char *name, const void *bytes, size_t size, cmif_err *err)
{
    static const char fresh[] = "new";
    cmif_code         rc      = CMIF_OK;
    int               fd      = unlinkat(r->folder_fd, fresh, 0) < 0 && errno != ENOENT
                                    ? -1
                                    : openat(r->folder_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write_all(fd, bytes, size, 0) != CMIF_OK || fsync(fd) < 0 ||
        renameat(r->folder_fd, fresh, r->folder_fd, name) < 0) {
        rc = cannot(r, "write", name, err);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static cmif_code lock(const cmif_receipts *r, cmif_err *err)
{
    if (r->owner != getpid()) {
        return cmif_fail(err, CMIF_E_IO, "the receipts in %s were opened before a fork: open them again", r->folder);
    }
    while (flock(r->file, LOCK_EX) < 0) {
        if (errno != EINTR) {
            return cannot(r, "lock", "receipts.jsonl", err);
        }
    }
    return CMIF_OK;
}

/* ---- the key ---- */

static cmif_code no_crypto(cmif_err *err)
{
    return cmif_fail(err, CMIF_E_MEMORY, "OpenSSL cannot make a key: is there memory, and Ed25519 in its provider?");
}

static cmif_code take_key(cmif_receipts *r, const uint8_t seed[static SEED_SIZE], cmif_err *err)
{
    size_t size = sizeof r->signer;
    r->key      = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED_SIZE);
    return r->key && EVP_PKEY_get_raw_public_key(r->key, r->signer, &size) == 1 ? CMIF_OK : no_crypto(err);
}

static cmif_code make_key(cmif_receipts *r, uint8_t seed[static SEED_SIZE], cmif_err *err)
{
    size_t    size = SEED_SIZE;
    cmif_code rc   = CMIF_OK;
    EVP_PKEY *key  = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!key || EVP_PKEY_get_raw_private_key(key, seed, &size) != 1 || size != SEED_SIZE) {
        rc = no_crypto(err);
    }
    EVP_PKEY_free(key);
    rc = rc == CMIF_OK ? write_small(r, "key", seed, SEED_SIZE, err) : rc;
    if (rc == CMIF_OK && fsync(r->folder_fd) < 0) {
        rc = cannot(r, "write", "key", err);
    }
    return rc;
}

/* The key of the folder; *found false: there is none. */
static cmif_code load_key(cmif_receipts *r, uint8_t seed[static SEED_SIZE + 1], bool *found, cmif_err *err)
{
    ssize_t   size = -1;
    mode_t    mode = 0;
    cmif_code rc   = read_small(r, "key", seed, SEED_SIZE + 1, &size, &mode, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    *found = size >= 0;
    if (*found && size != SEED_SIZE) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the key %s/key is damaged: bring back a copy, or move the folder away to begin a new chain",
                         r->folder);
    }
    if (*found && (mode & 077)) {
        return cmif_fail(
            err, CMIF_E_TRUST,
            "others can read the key %s/key: move the folder away, as they could have signed, or chmod 600", r->folder);
    }
    return *found ? take_key(r, seed, err) : CMIF_OK;
}

static cmif_code get_key(cmif_receipts *r, cmif_err *err)
{
    uint8_t     seed[SEED_SIZE + 1] = {0};
    bool        found               = false;
    struct stat info;
    cmif_code   rc = load_key(r, seed, &found, err);
    if (rc == CMIF_OK && !found) {
        if (fstat(r->file, &info) < 0 || info.st_size || faccessat(r->folder_fd, "receipts.jsonl.head", F_OK, 0) == 0) {
            rc = cmif_fail(err, CMIF_E_TRUST,
                           "there are receipts in %s but their key is gone: bring it back, or move the folder away to "
                           "begin a new chain",
                           r->folder);
        } else {
            rc = make_key(r, seed, err);
            rc = rc == CMIF_OK ? take_key(r, seed, err) : rc;
        }
    }
    cmif_wipe(seed, sizeof seed);
    return rc;
}

/* ---- the end of the chain ---- */

static cmif_code get_head(const cmif_receipts *r, line_head *head, bool *found, cmif_err *err)
{
    char      text[LINE_SIZE_MAX];
    ssize_t   size = -1;
    cmif_code rc   = read_small(r, "receipts.jsonl.head", text, sizeof text, &size, NULL, err);
    *found         = rc == CMIF_OK && size >= 0;
    if (*found) {
        rc = size && text[size - 1] == '\n'
                 ? line_read_head(text, (size_t) size - 1, head, err)
                 : cmif_fail(err, CMIF_E_FORMAT, "it does not end with a newline: it was changed");
        if (rc != CMIF_OK) {
            cmif_err_context(err, "receipts.jsonl.head");
        }
    }
    return rc;
}

/* The last whole line of the file, checked; a part of a line after it is cut off if nothing vouches for it. */
static cmif_code find_end(cmif_receipts *r, chain_end *end, cmif_err *err)
{
    char        text[2 * LINE_SIZE_MAX];
    struct stat info;
    line_head   head  = {0};
    bool        found = false;
    cmif_code   rc    = CMIF_OK;

    *end = (chain_end){0};
    if (fstat(r->file, &info) < 0) {
        return cannot(r, "read", "receipts.jsonl", err);
    }
    const off_t   start = info.st_size > (off_t) sizeof text ? info.st_size - (off_t) sizeof text : 0;
    const ssize_t size  = pread(r->file, text, sizeof text, start);
    if (size != info.st_size - start) {
        return cannot(r, "read", "receipts.jsonl", err);
    }
    const char *newline = memrchr(text, '\n', (size_t) size);
    if (!newline && start) {
        return cmif_fail(err, CMIF_E_FORMAT, "it does not end with a receipt");
    }
    if (newline) {
        const char *before = memrchr(text, '\n', (size_t) (newline - text));
        const char *from   = before ? before + 1 : text;
        if (!before && start) {
            return cmif_fail(err, CMIF_E_FORMAT, "its last line is no receipt");
        }
        rc        = line_read(from, (size_t) (newline - from), &end->last, err);
        rc        = rc == CMIF_OK ? line_hash(from, (size_t) (newline - from), end->hash, err) : rc;
        end->size = start + (newline + 1 - text);
    }
    rc = rc == CMIF_OK ? get_head(r, &head, &found, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    if (end->last.number && memcmp(end->last.signer, r->signer, sizeof r->signer) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "another key than the one beside it signed its last receipt");
    }
    if (found && (end->last.number < head.count || memcmp(head.signer, r->signer, sizeof r->signer) != 0 ||
                  (end->last.number == head.count && memcmp(head.hash, end->hash, sizeof head.hash) != 0))) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "its head file vouches for %" PRIu64 " receipts, and %" PRIu64 " are there or they are others",
                         head.count, end->last.number);
    }
    if (end->size < info.st_size && (ftruncate(r->file, end->size) < 0 || fsync(r->file) < 0)) {
        return cannot(r, "write", "receipts.jsonl", err);
    }
    return CMIF_OK;
}

/* find_end, and what to do when the chain is broken. */
static cmif_code get_end(cmif_receipts *r, chain_end *end, cmif_err *err)
{
    cmif_code rc = find_end(r, end, err);
    if (rc == CMIF_E_TRUST || rc == CMIF_E_FORMAT) {
        cmif_err_context(
            err, "the receipts in %s are broken ('cmif audit' says where; move the folder away to begin a new chain)",
            r->folder);
    }
    return rc;
}

/* ---- open, put ---- */

static cmif_code make_folder(cmif_receipts *r, cmif_err *err)
{
    for (char *slash = strchr(r->folder + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash) {
            *slash = '\0';
        }
        if (mkdir(r->folder, 0700) < 0 && errno != EEXIST && access(r->folder, F_OK) != 0) {
            return cmif_fail(err, CMIF_E_IO, "cannot make the folder %s for receipts: %s", r->folder, strerror(errno));
        }
        if (!slash) {
            return CMIF_OK;
        }
        *slash = '/';
    }
}

cmif_code cmif_receipts_open(const char *folder, cmif_receipts **out, cmif_err *err)
{
    chain_end      end;
    cmif_code      rc = CMIF_OK;
    cmif_receipts *r  = calloc(1, sizeof *r);

    if (!r) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for receipts");
    }
    r->file = r->folder_fd = -1;
    r->owner               = getpid();
    if (!folder[0] || snprintf(r->folder, sizeof r->folder, "%s", folder) >= (int) sizeof r->folder) {
        rc = cmif_fail(err, CMIF_E_IO, "the name of the folder of receipts is empty or too long");
        goto done;
    }
    rc = make_folder(r, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    r->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    r->file =
        r->folder_fd < 0 ? -1 : openat(r->folder_fd, "receipts.jsonl", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->file < 0) {
        rc = cannot(r, "open", "receipts.jsonl", err);
        goto done;
    }
    rc = lock(r, err);
    rc = rc == CMIF_OK ? get_key(r, err) : rc;
    rc = rc == CMIF_OK ? get_end(r, &end, err) : rc;
    (void) flock(r->file, LOCK_UN);
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = r;
    r    = NULL;
done:
    cmif_receipts_free(r);
    return rc;
}

void cmif_receipts_free(cmif_receipts *r)
{
    if (r) {
        if (r->owner == getpid()) {
            (void) !cmif_receipts_settle(r, NULL); /* failing, an older head vouches for less */
        }
        EVP_PKEY_free(r->key); /* wiped by OpenSSL */
        if (r->file >= 0) {
            close(r->file);
        }
        if (r->folder_fd >= 0) {
            close(r->folder_fd);
        }
        free(r);
    }
}

/* NULL is "", which is written as null. */
static cmif_code set_text(char out[static LINE_TEXT_MAX + 1], const char *text, cmif_err *err)
{
    if (text && strlen(text) > LINE_TEXT_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "a text in a receipt has at most %d bytes", LINE_TEXT_MAX);
    }
    snprintf(out, LINE_TEXT_MAX + 1, "%s", text ? text : "");
    return CMIF_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const line_class *) a)->name, ((const line_class *) b)->name);
}

static cmif_code set_classes(line *l, const cmif_receipt *receipt, cmif_err *err)
{
    for (size_t i = 0; i < CMIF_RECEIPT_CLASSES && receipt->class_names[i]; i++) {
        line_class *c = &l->classes[l->class_count];
        memcpy(c->counts, receipt->by_class[i], sizeof c->counts);
        if (!c->counts[0] && !c->counts[1] && !c->counts[2] && !c->counts[3]) {
            continue;
        }
        cmif_code rc = set_text(c->name, receipt->class_names[i], err);
        if (rc != CMIF_OK) {
            return rc;
        }
        l->class_count++;
    }
    qsort(l->classes, l->class_count, sizeof *l->classes, by_name);
    for (size_t i = 1; i < l->class_count; i++) {
        if (!strcmp(l->classes[i - 1].name, l->classes[i].name)) {
            return cmif_fail(err, CMIF_E_RANGE, "two classes of a receipt have the same name");
        }
    }
    return CMIF_OK;
}

static cmif_code to_line(const cmif_receipt *receipt, line *l, cmif_err *err)
{
    const cmif_spend *s = &receipt->spend;
    /* rounded up: never less than it was */
    const double delta = ceil(s->delta * 1e15), epsilon = ceil(s->epsilon_at_delta * 1e6);

    if (!(delta >= 0 && delta <= 1e15) || !(epsilon >= 0 && epsilon < 9e18) || receipt->when < 0 || !s->key ||
        !s->key[0]) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "a receipt needs a key, a time after 1970 and a guarantee that is a number");
    }
    *l = (line){.delta_femto            = (uint64_t) delta,
                .epsilon_at_delta_micro = (uint64_t) epsilon,
                .draws                  = s->draws,
                .epsilon_micro          = s->epsilon_micro,
                .ledger_id              = receipt->ledger_id,
                .passed                 = s->passed,
                .surrogates             = s->surrogates,
                .time                   = (uint64_t) receipt->when,
                .version                = 1};
    memcpy(l->answer_hash, receipt->answer_hash, sizeof l->answer_hash);
    memcpy(l->conversation, s->conversation, sizeof l->conversation);
    memcpy(l->model_id, receipt->model_id, sizeof l->model_id);
    memcpy(l->policy_hash, s->policy_hash, sizeof l->policy_hash);
    memcpy(l->released_hash, receipt->released_hash, sizeof l->released_hash);
    memcpy(l->table_hash, s->table_hash, sizeof l->table_hash);
    cmif_code rc = set_text(l->adjacency, receipt->adjacency, err);
    rc           = rc == CMIF_OK ? set_text(l->key, s->key, err) : rc;
    rc           = rc == CMIF_OK ? set_text(l->mechanism, receipt->mechanism, err) : rc;
    rc           = rc == CMIF_OK ? set_text(l->peer, receipt->peer, err) : rc;
    return rc == CMIF_OK ? set_classes(l, receipt, err) : rc;
}

static cmif_code put_head(cmif_receipts *r, uint64_t count, const uint8_t hash[static 32], cmif_err *err)
{
    char      text[LINE_SIZE_MAX];
    size_t    size = 0;
    line_head head = {.count = count};
    memcpy(head.signer, r->signer, sizeof head.signer);
    memcpy(head.hash, hash, sizeof head.hash);
    cmif_code rc = line_write_head(&head, r->key, text, &size, err);
    if (rc == CMIF_OK) {
        text[size++] = '\n';
        rc           = write_small(r, "receipts.jsonl.head", text, size, err);
        (void) fsync(r->folder_fd); /* an older head vouches for less, and the next receipt brings it up to date */
    }
    return rc;
}

/* The receipt after the end of the chain, and a head that vouches for it; when either fails neither is there. Where
 * receipts are gathered the head comes later, once what it vouches for is on disk. */
static cmif_code append(cmif_receipts *r, const chain_end *end, line *l, cmif_err *err)
{
    char    text[LINE_SIZE_MAX];
    size_t  size = 0;
    uint8_t hash[32];

    l->number = end->last.number + 1;
    memcpy(l->previous, end->hash, sizeof l->previous);
    memcpy(l->signer, r->signer, sizeof l->signer);
    if (__builtin_add_overflow(end->last.sum_draws, l->draws, &l->sum_draws) ||
        __builtin_add_overflow(end->last.sum_epsilon_micro, l->epsilon_micro, &l->sum_epsilon_micro)) {
        return cmif_fail(err, CMIF_E_RANGE, "the sums of a chain end at 2^64: move the folder away to begin a new one");
    }
    cmif_code rc = line_write(l, r->key, text, &size, err);
    rc           = rc == CMIF_OK ? line_hash(text, size, hash, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    text[size++] = '\n';
    if (write_all(r->file, text, size, end->size) != CMIF_OK || (!r->gathers && fsync(r->file) < 0)) {
        rc = cannot(r, "write", "receipts.jsonl", err);
    } else if (!r->gathers) {
        rc = put_head(r, l->number, hash, err);
    } else {
        r->gathered = (chain_end){.last = *l, .size = end->size + (off_t) size};
        memcpy(r->gathered.hash, hash, sizeof hash);
    }
    if (rc != CMIF_OK && ftruncate(r->file, end->size) == 0) {
        (void) fsync(r->file); /* failing, it is a receipt too many, and never one too few */
    }
    return rc;
}

/* The end of the chain; what we wrote ourselves is not read again while nobody has written behind it. */
static cmif_code know_end(cmif_receipts *r, chain_end *end, cmif_err *err)
{
    struct stat info;
    if (r->gathered.size && fstat(r->file, &info) == 0 && info.st_size == r->gathered.size) {
        *end = r->gathered;
        return CMIF_OK;
    }
    return get_end(r, end, err);
}

cmif_code cmif_receipts_put(cmif_receipts *r, const cmif_receipt *receipt, uint64_t *number, cmif_err *err)
{
    line      l;
    chain_end end;
    cmif_code rc = to_line(receipt, &l, err);
    rc           = rc == CMIF_OK ? lock(r, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = know_end(r, &end, err);
    rc = rc == CMIF_OK ? append(r, &end, &l, err) : rc;
    (void) flock(r->file, LOCK_UN);
    if (rc == CMIF_OK) {
        *number = l.number;
    }
    return rc;
}

void cmif_receipts_gather(cmif_receipts *r)
{
    r->gathers = true;
}

cmif_code cmif_receipts_settle(cmif_receipts *r, cmif_err *err)
{
    chain_end end;
    if (!r->gathered.size) {
        return CMIF_OK;
    }
    cmif_code rc = lock(r, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = get_end(r, &end, err);
    if (rc == CMIF_OK && fsync(r->file) < 0) {
        rc = cannot(r, "write", "receipts.jsonl", err);
    }
    rc = rc == CMIF_OK ? put_head(r, end.last.number, end.hash, err) : rc;
    (void) flock(r->file, LOCK_UN);
    if (rc == CMIF_OK) {
        r->gathered = (chain_end){0};
    }
    return rc;
}

/* ---- audit ---- */

/* The head file beside path, if there is one. */
static cmif_code open_head(const char *path, line_head *head, bool *found, cmif_err *err)
{
    char   name[PATH_MAX + 8], text[LINE_SIZE_MAX];
    size_t size = 0;
    snprintf(name, sizeof name, "%s.head", path);
    FILE *file = fopen(name, "re");
    if (!file) {
        *found = false;
        return errno == ENOENT ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot open %s: %s", name, strerror(errno));
    }
    cmif_code rc = line_get(file, text, &size, err);
    rc           = rc == CMIF_OK ? line_read_head(text, size, head, err) : rc;
    if (rc == CMIF_OK && getc(file) != EOF) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "there is more in it than a head");
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "%s", name);
    }
    *found = rc == CMIF_OK;
    fclose(file);
    return rc;
}

cmif_code cmif_receipts_audit(const char *path, const uint8_t *head, cmif_audit *out, cmif_err *err)
{
    cmif_receipts r                   = {.folder_fd = -1, .file = -1};
    uint8_t       seed[SEED_SIZE + 1] = {0};
    char          name[PATH_MAX];
    line_head     head_file = {0};
    bool          found_key = false, found_head = false;
    struct stat   info;
    FILE         *file = NULL;
    cmif_code     rc   = CMIF_OK;

    if (stat(path, &info) < 0 || strlen(path) >= FOLDER_MAX) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open %s: %s", path, strerror(errno));
        goto done;
    }
    snprintf(name, sizeof name, "%s%s", path, S_ISDIR(info.st_mode) ? "/receipts.jsonl" : "");
    if (S_ISDIR(info.st_mode)) {
        snprintf(r.folder, sizeof r.folder, "%s", path);
        r.folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (r.folder_fd >= 0 && faccessat(r.folder_fd, "key", R_OK, 0) == 0) { /* an auditor has no private key */
            rc = load_key(&r, seed, &found_key, err);
        }
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    file = fopen(name, "re");
    if (!file) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open %s: %s", name, strerror(errno));
        goto done;
    }
    while (flock(fileno(file), LOCK_SH) < 0 && errno == EINTR) { /* file systems without locks are read as they are */
    }
    rc = open_head(name, &head_file, &found_head, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = line_audit(file, found_head ? &head_file : NULL, found_key ? r.signer : NULL, head, out, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "%s", name);
    }
done:
    if (file) {
        fclose(file);
    }
    if (r.folder_fd >= 0) {
        close(r.folder_fd);
    }
    EVP_PKEY_free(r.key);
    cmif_wipe(seed, sizeof seed);
    return rc;
}
