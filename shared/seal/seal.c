#include "seal/seal.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t magic[8]     = {'C', 'M', 'I', 'F', 'S', 'E', 'A', 'L'};
static const char    id_label[]   = "CMIF-seal-key-id-v1"; /* without their NUL */
static const char    file_label[] = "CMIF-seal-file-v1";

enum { NONCE_SIZE = 12, AAD_SIZE = 32 + 8 + 1, VERSION = 1 };

void cmif_seal_key_id(const uint8_t key[static CMIF_SEAL_KEY_SIZE], uint8_t id[static CMIF_SEAL_ID_SIZE])
{
    uint8_t text[sizeof id_label - 1 + CMIF_SEAL_KEY_SIZE];
    memcpy(text, id_label, sizeof id_label - 1);
    memcpy(text + sizeof id_label - 1, key, CMIF_SEAL_KEY_SIZE);
    if (EVP_Digest(text, sizeof text, id, NULL, EVP_sha256(), NULL) != 1) {
        memset(id, 0, CMIF_SEAL_ID_SIZE); /* no key has this one: nothing opens */
    }
    OPENSSL_cleanse(text, sizeof text);
}

/* ---- the header ---- */

static void header_write(const cmif_seal_header *header, uint8_t bytes[static CMIF_SEAL_HEADER_SIZE])
{
    cmif_writer w = cmif_writer_over(bytes, CMIF_SEAL_HEADER_SIZE);
    cmif_write_bytes(&w, magic, sizeof magic);
    cmif_write_u32(&w, VERSION);
    cmif_write_u32(&w, header->chunk_size);
    cmif_write_u64(&w, header->plain_size);
    cmif_write_bytes(&w, header->key_id, sizeof header->key_id);
    cmif_write_bytes(&w, header->salt, sizeof header->salt);
    cmif_write_bytes(&w, header->model_id, sizeof header->model_id);
    cmif_write_u64(&w, 0);
}

static bool chunk_size_fits(uint32_t size)
{
    return size >= CMIF_SEAL_CHUNK_MIN && size <= CMIF_SEAL_CHUNK_MAX && (size & (size - 1)) == 0;
}

static uint64_t chunk_count(const cmif_seal_header *header)
{
    const uint64_t whole = header->plain_size / header->chunk_size;
    return whole + (whole == 0 || header->plain_size % header->chunk_size != 0);
}

static cmif_code header_read(const uint8_t bytes[static CMIF_SEAL_HEADER_SIZE], uint64_t file_size,
                             cmif_seal_header *out, cmif_err *err)
{
    cmif_reader      r       = cmif_reader_over(bytes + sizeof magic, CMIF_SEAL_HEADER_SIZE - sizeof magic);
    cmif_seal_header header  = {0};
    const uint32_t   version = cmif_read_u32(&r);

    header.chunk_size = cmif_read_u32(&r);
    header.plain_size = cmif_read_u64(&r);
    memcpy(header.key_id, cmif_read_bytes(&r, 32), 32);
    memcpy(header.salt, cmif_read_bytes(&r, 32), 32);
    memcpy(header.model_id, cmif_read_bytes(&r, 32), 32);
    const uint64_t reserved = cmif_read_u64(&r);

    if (memcmp(bytes, magic, sizeof magic) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "expected 'CMIFSEAL' at offset 0: it is no sealed file");
    }
    if (version != VERSION) {
        return cmif_fail(err, CMIF_E_FORMAT, "version %u at offset 8, this program reads version %d", version, VERSION);
    }
    if (!chunk_size_fits(header.chunk_size)) {
        return cmif_fail(err, CMIF_E_FORMAT, "chunks of %u bytes at offset 12, expected a power of two from %d to %d",
                         header.chunk_size, CMIF_SEAL_CHUNK_MIN, CMIF_SEAL_CHUNK_MAX);
    }
    /* the plaintext is smaller than the file: after this no sum below can wrap */
    if (header.plain_size >= file_size || reserved ||
        file_size - header.plain_size != CMIF_SEAL_HEADER_SIZE + CMIF_SEAL_TAG_SIZE * chunk_count(&header)) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         reserved
                             ? "expected zeros at offset 120"
                             : "%llu bytes of content at offset 16 do not fit a file of %llu: it was cut or changed",
                         (unsigned long long) header.plain_size, (unsigned long long) file_size);
    }
    *out = header;
    return CMIF_OK;
}

/* ---- the cipher of one file, either way ---- */

typedef struct chunk_cipher {
    EVP_CIPHER_CTX *ctx;
    uint8_t         aad[AAD_SIZE]; /* SHA-256 of the header, u64 number, u8 last */
} chunk_cipher;

static cmif_code cipher_init(chunk_cipher *c, const uint8_t key[static CMIF_SEAL_KEY_SIZE],
                             const uint8_t bytes[static CMIF_SEAL_HEADER_SIZE], const uint8_t salt[static 32],
                             int encrypt, cmif_err *err)
{
    uint8_t      info[sizeof file_label - 1 + CMIF_SEAL_HEADER_SIZE], subkey[32];
    EVP_KDF     *kdf      = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx      = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    char         sha256[] = "SHA256";
    memcpy(info, file_label, sizeof file_label - 1);
    memcpy(info + sizeof file_label - 1, bytes, CMIF_SEAL_HEADER_SIZE);
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, sha256, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *) (uintptr_t) key, CMIF_SEAL_KEY_SIZE),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *) (uintptr_t) salt, 32),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_construct_end(),
    };
    c->ctx  = EVP_CIPHER_CTX_new();
    bool ok = ctx && c->ctx && EVP_KDF_derive(ctx, subkey, sizeof subkey, parameters) == 1 &&
              EVP_CipherInit_ex(c->ctx, EVP_aes_256_gcm(), NULL, subkey, NULL, encrypt) == 1 &&
              EVP_Digest(bytes, CMIF_SEAL_HEADER_SIZE, c->aad, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(subkey, sizeof subkey);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "OpenSSL cannot set up AES-256-GCM: is there memory?");
}

/* One chunk, in either direction; decrypting, false also says that it was changed. */
static bool cipher_run(chunk_cipher *c, uint64_t number, bool last, const uint8_t *in, size_t size, uint8_t *out,
                       uint8_t tag[static CMIF_SEAL_TAG_SIZE], bool encrypt)
{
    uint8_t     nonce[NONCE_SIZE] = {0};
    int         done              = 0;
    cmif_writer w                 = cmif_writer_over(c->aad + 32, AAD_SIZE - 32);
    cmif_write_u64(&w, number);
    cmif_write_u8(&w, last);
    w = cmif_writer_over(nonce, sizeof nonce);
    cmif_write_u64(&w, number);
    if (EVP_CipherInit_ex(c->ctx, NULL, NULL, NULL, nonce, encrypt) != 1 ||
        EVP_CipherUpdate(c->ctx, NULL, &done, c->aad, AAD_SIZE) != 1 ||
        (size && (EVP_CipherUpdate(c->ctx, out, &done, in, (int) size) != 1 || (size_t) done != size))) {
        return false;
    }
    uint8_t nothing[1];
    if (encrypt) {
        return EVP_CipherFinal_ex(c->ctx, nothing, &done) == 1 && done == 0 &&
               EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_AEAD_GET_TAG, CMIF_SEAL_TAG_SIZE, tag) == 1;
    }
    return EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_AEAD_SET_TAG, CMIF_SEAL_TAG_SIZE, tag) == 1 &&
           EVP_CipherFinal_ex(c->ctx, nothing, &done) == 1 && done == 0;
}

/* ---- reading ---- */

struct cmif_seal {
    int              fd;
    cmif_seal_header header;
    uint8_t          bytes[CMIF_SEAL_HEADER_SIZE];
};

static cmif_code read_at(int fd, uint8_t *bytes, size_t size, uint64_t at, cmif_err *err)
{
    while (size > 0) {
        ssize_t n = pread(fd, bytes, size, (off_t) at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return cmif_fail(err, CMIF_E_IO, "cannot read: %s", strerror(errno));
        }
        if (n == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "%zu bytes are missing at offset %llu: the file was cut", size,
                             (unsigned long long) at);
        }
        bytes += n;
        size -= (size_t) n;
        at += (uint64_t) n;
    }
    return CMIF_OK;
}

bool cmif_seal_is(const char *path)
{
    uint8_t bytes[sizeof magic];
    int     fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool    is =
        fd >= 0 && read_at(fd, bytes, sizeof bytes, 0, NULL) == CMIF_OK && memcmp(bytes, magic, sizeof bytes) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is;
}

cmif_code cmif_seal_open(const char *path, cmif_seal **out, cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    cmif_seal  *file = calloc(1, sizeof *file);
    struct stat info;

    if (!file) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a sealed file's header");
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would be waited for */
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        rc = cmif_fail(err, CMIF_E_IO, "'%s' is no regular file", path);
        goto done;
    }
    if (info.st_size < CMIF_SEAL_HEADER_SIZE + CMIF_SEAL_TAG_SIZE) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "a sealed file has at least %d bytes, this one has %lld",
                       CMIF_SEAL_HEADER_SIZE + CMIF_SEAL_TAG_SIZE, (long long) info.st_size);
        goto done;
    }
    rc = read_at(file->fd, file->bytes, sizeof file->bytes, 0, err);
    rc = rc ? rc : header_read(file->bytes, (uint64_t) info.st_size, &file->header, err);
    if (rc == CMIF_OK) {
        *out = file;
        file = NULL;
    }
done:
    cmif_seal_free(file);
    return rc;
}

const cmif_seal_header *cmif_seal_about(const cmif_seal *file)
{
    return &file->header;
}

cmif_code cmif_seal_read(cmif_seal *file, const uint8_t key[static CMIF_SEAL_KEY_SIZE], uint8_t *plain, size_t size,
                         cmif_err *err)
{
    const cmif_seal_header *header = &file->header;
    cmif_code               rc     = CMIF_OK;
    chunk_cipher            cipher = {0};
    uint8_t                *chunk  = NULL, id[CMIF_SEAL_ID_SIZE];
    const uint64_t          count  = chunk_count(header);
    uint64_t                at     = CMIF_SEAL_HEADER_SIZE;

    if (size != header->plain_size) {
        rc = cmif_fail(err, CMIF_E_RANGE, "the plaintext has %llu bytes, room is for %zu",
                       (unsigned long long) header->plain_size, size);
        goto done;
    }
    cmif_seal_key_id(key, id);
    if (CRYPTO_memcmp(id, header->key_id, sizeof id) != 0) {
        char found[17], wanted[17];
        cmif_hex(id, 8, found);
        cmif_hex(header->key_id, 8, wanted);
        rc = cmif_fail(err, CMIF_E_TRUST,
                       "it was sealed with another key: its key id begins with %s, the id of the key given with %s",
                       wanted, found);
        goto done;
    }
    rc    = cipher_init(&cipher, key, file->bytes, header->salt, 0, err);
    chunk = rc == CMIF_OK ? malloc((size_t) header->chunk_size + CMIF_SEAL_TAG_SIZE) : NULL;
    if (rc == CMIF_OK && !chunk) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a chunk of %u bytes", header->chunk_size);
    }
    for (uint64_t i = 0; rc == CMIF_OK && i < count; i++) {
        const uint64_t done = i * header->chunk_size, left = header->plain_size - done;
        const size_t   take = left < header->chunk_size ? (size_t) left : header->chunk_size;
        rc                  = read_at(file->fd, chunk, take + CMIF_SEAL_TAG_SIZE, at, err);
        if (rc == CMIF_OK &&
            !cipher_run(&cipher, i, i + 1 == count, chunk, take, take ? plain + done : plain, chunk + take, false)) {
            rc =
                cmif_fail(err, CMIF_E_TRUST, "chunk %llu of %llu was changed since it was sealed: do not use this file",
                          (unsigned long long) i + 1, (unsigned long long) count);
        }
        at += take + CMIF_SEAL_TAG_SIZE;
    }
done:
    if (rc != CMIF_OK && size) {
        OPENSSL_cleanse(plain, size);
    }
    EVP_CIPHER_CTX_free(cipher.ctx);
    free(chunk);
    return rc;
}

void cmif_seal_free(cmif_seal *file)
{
    if (file && file->fd >= 0) {
        close(file->fd);
    }
    free(file);
}

/* ---- writing ---- */

struct cmif_sealer {
    chunk_cipher     cipher;
    cmif_seal_header header;
    uint8_t          bytes[CMIF_SEAL_HEADER_SIZE];
    bool             begun, ended;
    uint64_t         number, left; /* the next chunk; plaintext that is still to come */
    size_t           pending;      /* plaintext that waits in chunk */
    uint8_t         *chunk, *sealed;
};

cmif_code cmif_sealer_new(const uint8_t key[static CMIF_SEAL_KEY_SIZE], const uint8_t model_id[static 32],
                          uint64_t plain_size, uint32_t chunk_size, cmif_sealer **out, cmif_err *err)
{
    cmif_code    rc = CMIF_OK;
    cmif_sealer *s  = calloc(1, sizeof *s);
    if (!s) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to seal a file");
    }
    s->header.chunk_size = chunk_size ? chunk_size : CMIF_SEAL_CHUNK;
    s->header.plain_size = s->left = plain_size;
    if (!chunk_size_fits(s->header.chunk_size) || plain_size > INT64_MAX / 2) {
        rc = cmif_fail(err, CMIF_E_RANGE, "chunks of %u bytes for %llu bytes are none that we seal",
                       s->header.chunk_size, (unsigned long long) plain_size);
        goto done;
    }
    s->chunk  = malloc(s->header.chunk_size);
    s->sealed = malloc((size_t) s->header.chunk_size + CMIF_SEAL_TAG_SIZE);
    if (!s->chunk || !s->sealed) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to seal a file");
        goto done;
    }
    if (RAND_bytes(s->header.salt, sizeof s->header.salt) != 1) {
        rc = cmif_fail(err, CMIF_E_IO, "the system gives no random bytes");
        goto done;
    }
    memcpy(s->header.model_id, model_id, sizeof s->header.model_id);
    cmif_seal_key_id(key, s->header.key_id);
    header_write(&s->header, s->bytes);
    rc = cipher_init(&s->cipher, key, s->bytes, s->header.salt, 1, err);
    if (rc == CMIF_OK) {
        *out = s;
        s    = NULL;
    }
done:
    cmif_sealer_free(s);
    return rc;
}

cmif_code cmif_sealer_put(cmif_sealer *s, const uint8_t *bytes, size_t size, cmif_seal_emit emit, void *to,
                          cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (s->ended ? size > 0 : size > s->left) {
        return cmif_fail(err, CMIF_E_RANGE, "%zu bytes are more than the %llu that the sealed file still takes", size,
                         (unsigned long long) s->left);
    }
    if (!s->begun) {
        s->begun = true;
        rc       = emit(to, s->bytes, sizeof s->bytes, err);
    }
    while (rc == CMIF_OK && !s->ended) {
        const size_t room = s->header.chunk_size - s->pending;
        const size_t take = size < room ? size : room;
        if (take) {
            memcpy(s->chunk + s->pending, bytes, take);
            bytes += take;
        }
        size -= take;
        s->pending += take;
        s->left -= take;
        const bool last = s->left == 0;
        if (s->pending < s->header.chunk_size && !last) {
            break;
        }
        if (!cipher_run(&s->cipher, s->number, last, s->chunk, s->pending, s->sealed, s->sealed + s->pending, true)) {
            return cmif_fail(err, CMIF_E_MEMORY, "OpenSSL cannot encrypt: is there memory?");
        }
        rc         = emit(to, s->sealed, s->pending + CMIF_SEAL_TAG_SIZE, err);
        s->ended   = last;
        s->pending = 0;
        s->number++;
    }
    return rc;
}

void cmif_sealer_free(cmif_sealer *s)
{
    if (!s) {
        return;
    }
    EVP_CIPHER_CTX_free(s->cipher.ctx); /* OpenSSL wipes the key schedule */
    if (s->chunk) {
        OPENSSL_cleanse(s->chunk, s->header.chunk_size);
    }
    free(s->chunk);
    free(s->sealed);
    OPENSSL_cleanse(s, sizeof *s);
    free(s);
}

/* ---- key files ---- */

enum { KEY_TEXT = 2 * CMIF_SEAL_KEY_SIZE + 1 }; /* digits and a newline */

cmif_code cmif_seal_key_read(const char *path, uint8_t key[static CMIF_SEAL_KEY_SIZE], cmif_err *err)
{
    cmif_code   rc = CMIF_OK;
    char        text[KEY_TEXT + 1];
    ssize_t     n = -1;
    struct stat info;
    int         fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    memset(key, 0, CMIF_SEAL_KEY_SIZE);
    if (fd < 0 || fstat(fd, &info) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open the key file '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the key file '%s' is no regular file", path);
        goto done;
    }
    if (info.st_mode & 077) {
        rc = cmif_fail(err, CMIF_E_TRUST,
                       "others may read the key file '%s' (mode %03o, expected 600): chmod 600, if they have not yet",
                       path, (unsigned) info.st_mode & 0777);
        goto done;
    }
    n = read(fd, text, sizeof text);
    if (n != KEY_TEXT || text[KEY_TEXT - 1] != '\n' || !cmif_unhex(text, CMIF_SEAL_KEY_SIZE, key)) {
        rc = n < 0 ? cmif_fail(err, CMIF_E_IO, "cannot read the key file '%s': %s", path, strerror(errno))
                   : cmif_fail(err, CMIF_E_FORMAT,
                               "'%s' is no key file: expected 64 hexadecimal digits in lower case and a newline, found "
                               "other text or %lld bytes",
                               path, (long long) info.st_size);
    }
done:
    OPENSSL_cleanse(text, sizeof text);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* The name of a new file lasts only once its folder is on disk. */
static bool sync_folder(const char *path)
{
    const char *slash  = strrchr(path, '/');
    char       *folder = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
    int         fd     = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool        ok     = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    free(folder);
    return ok;
}

cmif_code cmif_seal_key_make(const char *path, uint8_t key[static CMIF_SEAL_KEY_SIZE], cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    char      text[KEY_TEXT + 1];
    int       fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    memset(key, 0, CMIF_SEAL_KEY_SIZE);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make the key file '%s': %s", path, strerror(errno));
    }
    if (RAND_priv_bytes(key, CMIF_SEAL_KEY_SIZE) != 1) {
        rc = cmif_fail(err, CMIF_E_IO, "the system gives no random bytes for a key");
        goto done;
    }
    cmif_hex(key, CMIF_SEAL_KEY_SIZE, text);
    text[KEY_TEXT - 1] = '\n';
    /* whatever the umask left of the mode; a key that is not on disk would be the end of what it sealed */
    if (fchmod(fd, 0600) != 0 || write(fd, text, KEY_TEXT) != KEY_TEXT || fsync(fd) != 0 || !sync_folder(path)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the key file '%s': %s", path, strerror(errno));
    }
done:
    OPENSSL_cleanse(text, sizeof text);
    close(fd);
    if (rc != CMIF_OK) {
        unlink(path);
        OPENSSL_cleanse(key, CMIF_SEAL_KEY_SIZE);
    }
    return rc;
}
