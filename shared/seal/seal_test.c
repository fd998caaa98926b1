/* Sealed files: whoever has the key reads them, and whatever was changed is noticed. */
#define _GNU_SOURCE /* memfd_create */
#include "seal/seal.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/check_memory.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = CMIF_SEAL_CHUNK_MIN, ROOM = 16 * CHUNK };

static const uint8_t key[32] = {1, 2, 3}, other_key[32] = {1, 2, 4}, model[32] = {77};
static char          folder[] = "/tmp/cmif-seal-XXXXXX";

typedef struct sealed {
    uint8_t bytes[ROOM];
    size_t  size;
} sealed;

static cmif_code collect(void *to, const uint8_t *bytes, size_t size, cmif_err *err)
{
    sealed *s = to;
    if (size > sizeof s->bytes - s->size) {
        return cmif_fail(err, CMIF_E_IO, "the disk is full");
    }
    memcpy(s->bytes + s->size, bytes, size);
    s->size += size;
    return CMIF_OK;
}

/* Seal so many bytes 0, 1, 2, ..., given in pieces of some sizes. */
static sealed seal(size_t size, size_t piece)
{
    static uint8_t plain[ROOM];
    sealed         s      = {.size = 0};
    cmif_sealer   *sealer = NULL;
    for (size_t i = 0; i < sizeof plain; i++) {
        plain[i] = (uint8_t) (i % 251);
    }
    CHECK(cmif_sealer_new(key, model, size, CHUNK, &sealer, NULL) == CMIF_OK);
    for (size_t at = 0; at < size || at == 0; at += piece) {
        CHECK(cmif_sealer_put(sealer, plain + at, size - at < piece ? size - at : piece, collect, &s, NULL) == CMIF_OK);
    }
    CHECK(cmif_sealer_put(sealer, plain, 1, collect, &s, NULL) == CMIF_E_RANGE);
    cmif_sealer_free(sealer);
    return s;
}

/* What opening and reading these bytes as a file gives; the plaintext is looked at when that is OK, and must be zeros
 * when reading failed. */
static cmif_code opened(const uint8_t *bytes, size_t size, const uint8_t *with, cmif_err *err)
{
    char       path[32];
    uint8_t    plain[ROOM];
    cmif_seal *file = NULL;
    int        fd   = memfd_create("sealed", MFD_CLOEXEC);
    CHECK(write(fd, bytes, size) == (ssize_t) size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    cmif_code rc = cmif_seal_open(path, &file, err);
    if (rc == CMIF_OK) {
        const size_t plain_size = (size_t) cmif_seal_about(file)->plain_size;
        CHECK(plain_size < size && plain_size <= sizeof plain);
        memset(plain, 0xee, sizeof plain);
        rc = cmif_seal_read(file, with, plain, plain_size, err);
        for (size_t i = 0; i < sizeof plain; i++) {
            if (plain[i] != (i >= plain_size ? 0xee : rc == CMIF_OK ? i % 251 : 0)) {
                CHECK(!"the plaintext is what was sealed, or zeros");
                break;
            }
        }
    } else {
        CHECK(!file);
    }
    cmif_seal_free(file);
    close(fd);
    return rc;
}

static void what_was_sealed_opens_at_every_size_and_in_any_pieces(void)
{
    static const size_t sizes[] =
        {0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK - 1},
                        pieces[] = {1, 7, CHUNK - 1, CHUNK, CHUNK + 1, ROOM};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t j = 0; j < sizeof pieces / sizeof *pieces; j++) {
            sealed       s      = seal(sizes[i], pieces[j]);
            const size_t chunks = sizes[i] ? (sizes[i] + CHUNK - 1) / CHUNK : 1;
            CHECK(s.size == 128 + sizes[i] + 16 * chunks);
            CHECK(opened(s.bytes, s.size, key, NULL) == CMIF_OK);
        }
    }
}

/* HKDF by hand, nonce and associated data as the header tells: the layout is what is written there. */
static void a_file_is_laid_out_as_its_header_tells(void)
{
    static const char label[] = "CMIF-seal-file-v1", id_label[] = "CMIF-seal-key-id-v1";
    sealed            s = seal(2 * CHUNK + 5, 100);
    uint8_t           id[32], text[51], prk[32], info[17 + 128 + 1], subkey[32], aad[41], plain[CHUNK], nonce[12];
    unsigned          n;
    int               done;
    memcpy(text, id_label, 19);
    memcpy(text + 19, key, 32);
    EVP_Digest(text, sizeof text, id, NULL, EVP_sha256(), NULL);
    CHECK(!memcmp(s.bytes, "CMIFSEAL\1\0\0\0\0\4\0\0\5\10\0\0\0\0\0\0", 24) && !memcmp(s.bytes + 24, id, 32) &&
          !memcmp(s.bytes + 88, model, 32) && !memcmp(s.bytes + 120, "\0\0\0\0\0\0\0\0", 8));
    memcpy(info, label, 17);
    memcpy(info + 17, s.bytes, 128);
    info[17 + 128] = 1;
    HMAC(EVP_sha256(), s.bytes + 56, 32, key, 32, prk, &n);
    HMAC(EVP_sha256(), prk, 32, info, sizeof info, subkey, &n);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    for (uint8_t i = 0; i < 3; i++) {
        const size_t   size  = i == 2 ? 5 : CHUNK;
        const uint8_t *chunk = s.bytes + 128 + i * (CHUNK + 16);
        memset(aad, 0, sizeof aad);
        memset(nonce, 0, sizeof nonce);
        EVP_Digest(s.bytes, 128, aad, NULL, EVP_sha256(), NULL);
        aad[32] = nonce[0] = i;
        aad[40]            = i == 2;
        EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, subkey, nonce);
        EVP_DecryptUpdate(ctx, NULL, &done, aad, sizeof aad);
        EVP_DecryptUpdate(ctx, plain, &done, chunk, (int) size);
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, (void *) (uintptr_t) (chunk + size));
        CHECK(EVP_DecryptFinal_ex(ctx, plain, &done) == 1 && plain[4] == (i * CHUNK + 4) % 251);
    }
    EVP_CIPHER_CTX_free(ctx);
}

static void the_same_text_is_never_sealed_the_same_way_twice(void)
{
    sealed a = seal(100, 100), b = seal(100, 100);
    CHECK(memcmp(a.bytes + 56, b.bytes + 56, 32) != 0 && memcmp(a.bytes + 128, b.bytes + 128, 100) != 0);
    CHECK(!memcmp(a.bytes, b.bytes, 56));
}

/* Chunks of equal text differ, so that no two were encrypted with one nonce. */
static void equal_chunks_do_not_look_equal(void)
{
    static uint8_t zeros[3 * CHUNK];
    sealed         s      = {.size = 0};
    cmif_sealer   *sealer = NULL;
    CHECK(cmif_sealer_new(key, model, sizeof zeros, CHUNK, &sealer, NULL) == CMIF_OK);
    CHECK(cmif_sealer_put(sealer, zeros, sizeof zeros, collect, &s, NULL) == CMIF_OK);
    CHECK(memcmp(s.bytes + 128, s.bytes + 128 + CHUNK + 16, CHUNK) != 0);
    CHECK(memcmp(s.bytes + 128, s.bytes + 128 + 2 * (CHUNK + 16), CHUNK) != 0);
    cmif_sealer_free(sealer);
}

static void every_changed_bit_is_noticed(void)
{
    sealed   s   = seal(2 * CHUNK + 3, ROOM);
    cmif_err err = {0};
    for (size_t at = 0; at < s.size; at++) {
        const uint8_t bit = (uint8_t) (1 << at % 8);
        s.bytes[at] ^= bit;
        CHECK(opened(s.bytes, s.size, key, &err) ==
              (at < 24 || (at >= 120 && at < 128) ? CMIF_E_FORMAT : CMIF_E_TRUST));
        CHECK(at < 128 ? err.text[0] : strstr(err.text, "was changed") != NULL);
        s.bytes[at] ^= bit;
    }
    for (size_t at = 0; at < 128; at++) { /* and the whole header, bit by bit */
        for (unsigned bit = 0; bit < 8; bit++) {
            s.bytes[at] ^= (uint8_t) (1 << bit);
            CHECK(opened(s.bytes, s.size, key, NULL) != CMIF_OK);
            s.bytes[at] ^= (uint8_t) (1 << bit);
        }
    }
    CHECK(opened(s.bytes, s.size, key, NULL) == CMIF_OK);
}

static void every_shorter_and_longer_file_is_refused(void)
{
    sealed s = seal(2 * CHUNK, ROOM);
    for (size_t size = 0; size < s.size; size++) {
        CHECK(opened(s.bytes, size, key, NULL) == CMIF_E_FORMAT);
    }
    CHECK(opened(s.bytes, s.size + 1, key, NULL) == CMIF_E_FORMAT);
    CHECK(opened(s.bytes, s.size + CHUNK + 16, key, NULL) == CMIF_E_FORMAT);
}

/* The attacker also writes the size that fits, which changes the header; so let the header be an honest one of that
 * size and key. */
static void no_file_is_made_of_the_chunks_of_another(void)
{
    enum { ONE = CHUNK + 16 };
    sealed a = seal(3 * CHUNK, ROOM), b = seal(3 * CHUNK, ROOM), c = seal(2 * CHUNK, ROOM), mixed;
    CHECK(opened(a.bytes, a.size, key, NULL) == CMIF_OK && opened(b.bytes, b.size, key, NULL) == CMIF_OK);

    mixed = a; /* two of its own changed places */
    memcpy(mixed.bytes + 128, a.bytes + 128 + ONE, ONE);
    memcpy(mixed.bytes + 128 + ONE, a.bytes + 128, ONE);
    CHECK(opened(mixed.bytes, mixed.size, key, NULL) == CMIF_E_TRUST);
    mixed = a; /* one twice */
    memcpy(mixed.bytes + 128 + ONE, a.bytes + 128, ONE);
    CHECK(opened(mixed.bytes, mixed.size, key, NULL) == CMIF_E_TRUST);
    for (size_t i = 0; i < 3; i++) { /* one of another file, at the same place */
        mixed = a;
        memcpy(mixed.bytes + 128 + i * ONE, b.bytes + 128 + i * ONE, ONE);
        CHECK(opened(mixed.bytes, mixed.size, key, NULL) == CMIF_E_TRUST);
    }
    mixed = a; /* another header of the same sizes */
    memcpy(mixed.bytes, b.bytes, 128);
    CHECK(opened(mixed.bytes, mixed.size, key, NULL) == CMIF_E_TRUST);
    memcpy(c.bytes + 128, a.bytes + 128, 2 * ONE); /* a shorter file's header in front */
    CHECK(opened(c.bytes, c.size, key, NULL) == CMIF_E_TRUST);
}

/* With header, key and number right, only the mark of the last chunk tells a file that goes on from one that ends. A
 * file whose header is the same but whose end was cut cannot have that header's size; this seals chunks by hand as the
 * last or not, and wants the reader to look. */
static void a_chunk_that_is_not_the_last_cannot_end_a_file(void)
{
    sealed   s = seal(2 * CHUNK, ROOM);
    uint8_t  prk[32], info[17 + 128 + 1], subkey[32], aad[41] = {0}, nonce[12] = {1}, plain[CHUNK];
    unsigned n;
    int      done;
    for (size_t i = 0; i < CHUNK; i++) {
        plain[i] = (uint8_t) ((CHUNK + i) % 251);
    }
    memcpy(info, "CMIF-seal-file-v1", 17);
    memcpy(info + 17, s.bytes, 128);
    info[17 + 128] = 1;
    HMAC(EVP_sha256(), s.bytes + 56, 32, key, 32, prk, &n);
    HMAC(EVP_sha256(), prk, 32, info, sizeof info, subkey, &n);
    EVP_Digest(s.bytes, 128, aad, NULL, EVP_sha256(), NULL);
    aad[32]             = 1;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    for (uint8_t last = 0; last < 2; last++) {
        uint8_t *chunk = s.bytes + 128 + CHUNK + 16;
        aad[40]        = last;
        EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, subkey, nonce);
        EVP_EncryptUpdate(ctx, NULL, &done, aad, sizeof aad);
        EVP_EncryptUpdate(ctx, chunk, &done, plain, CHUNK);
        EVP_EncryptFinal_ex(ctx, chunk, &done);
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, chunk + CHUNK);
        CHECK(opened(s.bytes, s.size, key, NULL) == (last ? CMIF_OK : CMIF_E_TRUST));
    }
    EVP_CIPHER_CTX_free(ctx);
}

static void a_wrong_key_is_told_from_a_damaged_file(void)
{
    sealed   s   = seal(100, ROOM);
    cmif_err err = {0};
    CHECK(opened(s.bytes, s.size, other_key, &err) == CMIF_E_TRUST && strstr(err.text, "sealed with another key"));
    s.bytes[200] ^= 1;
    CHECK(opened(s.bytes, s.size, key, &err) == CMIF_E_TRUST && strstr(err.text, "chunk 1 of 1 was changed"));
}

/* Nothing is made of the size that a header claims but a comparison with the file's. */
static void a_header_that_claims_much_costs_nothing(void)
{
    sealed                s        = seal(100, ROOM);
    cmif_err              err      = {0};
    static const uint64_t claims[] = {
        101, 99, 1 << 20, INT64_MAX, UINT64_MAX, UINT64_MAX - 127, 1ull << 63, (1ull << 63) - 144};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        cmif_writer w = cmif_writer_over(s.bytes + 16, 8);
        cmif_write_u64(&w, claims[i]);
        CHECK(opened(s.bytes, s.size, key, &err) == CMIF_E_FORMAT &&
              strstr(err.text, "at offset 16 do not fit a file of 244"));
    }
    static const uint32_t chunks[] = {0, 1, 512, 1023, 1025, 3 << 10, 1 << 25, 1u << 31, UINT32_MAX};
    s                              = seal(100, ROOM);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        cmif_writer w = cmif_writer_over(s.bytes + 12, 4);
        cmif_write_u32(&w, chunks[i]);
        CHECK(opened(s.bytes, s.size, key, &err) == CMIF_E_FORMAT &&
              strstr(err.text, "at offset 12, expected a power of two"));
    }
    cmif_sealer *sealer = NULL;
    CHECK(cmif_sealer_new(key, model, 1, 1000, &sealer, NULL) == CMIF_E_RANGE && !sealer);
}

static void a_full_disk_ends_it(void)
{
    static uint8_t plain[2 * ROOM];
    sealed         s      = {.size = 0};
    cmif_sealer   *sealer = NULL;
    cmif_err       err    = {0};
    CHECK(cmif_sealer_new(key, model, sizeof plain, CHUNK, &sealer, NULL) == CMIF_OK);
    CHECK(cmif_sealer_put(sealer, plain, sizeof plain, collect, &s, &err) == CMIF_E_IO &&
          strstr(err.text, "disk is full"));
    cmif_sealer_free(sealer);
}

static void what_cannot_be_opened_is_said(void)
{
    cmif_seal *file = NULL;
    cmif_err   err  = {0};
    CHECK(cmif_seal_open("/nowhere/at/all", &file, &err) == CMIF_E_IO &&
          strstr(err.text, "cannot open '/nowhere/at/all'"));
    CHECK(cmif_seal_open("/tmp", &file, &err) == CMIF_E_IO && strstr(err.text, "no regular file"));
    CHECK(cmif_seal_open("/dev/null", &file, &err) == CMIF_E_IO && !file);
    CHECK(!cmif_seal_is("/dev/null") && !cmif_seal_is("/nowhere") && !cmif_seal_is("/tmp"));
}

/* ---- key files ---- */

static const char *in_folder(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *path, const char *text, size_t size, mode_t mode)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK(fd >= 0 && write(fd, text, size) == (ssize_t) size && fchmod(fd, mode) == 0);
    close(fd);
}

static void a_key_file_is_made_once_and_read_back(void)
{
    const char *path = in_folder("a.key");
    uint8_t     made[32], again[32], more[32];
    struct stat info;
    mode_t      old = umask(0);
    CHECK(cmif_seal_key_make(path, made, NULL) == CMIF_OK && cmif_seal_key_read(path, again, NULL) == CMIF_OK);
    umask(old);
    CHECK(!memcmp(made, again, 32) && stat(path, &info) == 0 && (info.st_mode & 07777) == 0600 && info.st_size == 65);
    CHECK(cmif_seal_key_make(path, more, NULL) == CMIF_E_IO); /* never written over */
    CHECK(cmif_seal_key_read(path, again, NULL) == CMIF_OK && !memcmp(made, again, 32));
    CHECK(cmif_seal_key_make(in_folder("b.key"), more, NULL) == CMIF_OK && memcmp(made, more, 32) != 0);
    CHECK(cmif_seal_key_make(in_folder("no/such/folder.key"), more, NULL) == CMIF_E_IO && !more[0] &&
          !memcmp(more, more + 1, 31));
}

static void a_key_file_that_others_can_read_is_refused(void)
{
    static const mode_t modes[] = {0640, 0604, 0610, 0601, 0620, 0602, 0666};
    static const char   text[]  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
    uint8_t             read[32];
    cmif_err            err  = {0};
    const char         *path = in_folder("c.key");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        put(path, text, 65, modes[i]);
        memset(read, 1, 32);
        CHECK(cmif_seal_key_read(path, read, &err) == CMIF_E_TRUST && strstr(err.text, "chmod 600") && !read[0]);
        CHECK(!strstr(err.text, "0011"));
    }
    put(path, text, 65, 0400);
    CHECK(cmif_seal_key_read(path, read, &err) == CMIF_OK && read[1] == 0x11);
}

static void what_is_no_key_is_refused_and_not_shown(void)
{
    static const char good[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n\n";
    uint8_t           read[32];
    cmif_err          err  = {0};
    const char       *path = in_folder("d.key");
    for (size_t size = 0; size <= 66; size++) {
        put(path, good, size, 0600);
        CHECK(cmif_seal_key_read(path, read, &err) == (size == 65 ? CMIF_OK : CMIF_E_FORMAT));
        CHECK(size == 65 || (strstr(err.text, "64 hexadecimal digits") && !strstr(err.text, "0011")));
    }
    for (size_t at = 0; at < 65; at++) {
        static const char bad[] = {'A', 'g', ' ', '\n', '\0', '/', ':'};
        char              text[66];
        memcpy(text, good, 66);
        text[at] = bad[at % sizeof bad] == '\n' && at == 64 ? 'a' : bad[at % sizeof bad];
        put(path, text, 65, 0600);
        CHECK(cmif_seal_key_read(path, read, &err) == CMIF_E_FORMAT && !read[0] && !memcmp(read, read + 1, 31));
    }
    CHECK(cmif_seal_key_read("/nowhere.key", read, &err) == CMIF_E_IO);
    CHECK(cmif_seal_key_read(folder, read, &err) == CMIF_E_FORMAT);
}

static void no_memory_is_an_error(void)
{
    sealed       s = seal(100, ROOM);
    cmif_sealer *sealer;
    cmif_seal   *file;
    put(in_folder("e.sealed"), (const char *) s.bytes, s.size, 0600);
    long n = 0;
    for (cmif_code rc = CMIF_E_MEMORY; rc != CMIF_OK && n < 100; n++) {
        sealer           = NULL;
        allocations_left = n;
        rc               = cmif_sealer_new(key, model, 10, CHUNK, &sealer, NULL);
        allocations_left = -1;
        CHECK(rc == CMIF_OK ? sealer != NULL : rc == CMIF_E_MEMORY && !sealer);
        cmif_sealer_free(sealer);
    }
    CHECK(n > 3 && n < 100);
    n = 0;
    for (cmif_code rc = CMIF_E_MEMORY; rc != CMIF_OK && n < 100; n++) {
        uint8_t plain[100];
        file             = NULL;
        allocations_left = n;
        rc               = cmif_seal_open(in_folder("e.sealed"), &file, NULL);
        rc               = rc ? rc : cmif_seal_read(file, key, plain, sizeof plain, NULL);
        allocations_left = -1;
        CHECK(rc == CMIF_OK || rc == CMIF_E_MEMORY);
        cmif_seal_free(file);
    }
    CHECK(n > 2 && n < 100);
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    RUN(what_was_sealed_opens_at_every_size_and_in_any_pieces);
    RUN(a_file_is_laid_out_as_its_header_tells);
    RUN(the_same_text_is_never_sealed_the_same_way_twice);
    RUN(equal_chunks_do_not_look_equal);
    RUN(every_changed_bit_is_noticed);
    RUN(every_shorter_and_longer_file_is_refused);
    RUN(no_file_is_made_of_the_chunks_of_another);
    RUN(a_chunk_that_is_not_the_last_cannot_end_a_file);
    RUN(a_wrong_key_is_told_from_a_damaged_file);
    RUN(a_header_that_claims_much_costs_nothing);
    RUN(a_full_disk_ends_it);
    RUN(what_cannot_be_opened_is_said);
    RUN(a_key_file_is_made_once_and_read_back);
    RUN(a_key_file_that_others_can_read_is_refused);
    RUN(what_is_no_key_is_refused_and_not_shown);
    RUN(no_memory_is_an_error);
    static const char *const names[] = {"a.key", "b.key", "c.key", "d.key", "e.sealed"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(in_folder(names[i]));
    }
    rmdir(folder);
    return check_report();
}
