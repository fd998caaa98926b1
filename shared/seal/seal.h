/* seal - a file that only the holder of a key can read, and that nobody else can change: AES-256-GCM in chunks.
 *
 * Layout  header (128 bytes), then chunks. Little-endian.
 *           "CMIFSEAL", u32 version 1, u32 chunk size, u64 size of the plaintext, [32] key id, [32] salt, [32] model id, [8] zeros
 *         A chunk is the ciphertext of `chunk size` bytes, less in the last, and a tag of 16. There is always a last one, maybe of no bytes.
 * Keys    key id = SHA-256("CMIF-seal-key-id-v1" || key): tells a wrong key from a damaged file, and ties the file to one key, which GCM alone does not.
 *         Each file has a key of its own: HKDF-SHA256(key, salt, "CMIF-seal-file-v1" || header). The salt is 32 random bytes for each file, so no two files share one.
 * Nonces  the chunk's number, from 0, in 12 bytes: each is used once under the file's key, because a file is written once, front to back.
 * Bound   each chunk is authenticated with SHA-256(header), its number, and whether it is the last: no header can be changed, no chunk moved, left out, added,
 *         or taken from another file, and no end cut off.
 * Hides   neither the size nor which model and key it is of.
 *
 * Sees    keys and plaintext of its callers; keeps no key after a call but the sealer's own, which it wipes. A library on either side: memory that must be
 *         locked is the caller's.
 * Source  RFC 5869, NIST SP 800-38D; the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar, CRYPTO 2015). */
#ifndef CMIF_SEAL_SEAL_H
#define CMIF_SEAL_SEAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CMIF_SEAL_KEY_SIZE = 32, CMIF_SEAL_ID_SIZE = 32, CMIF_SEAL_HEADER_SIZE = 128, CMIF_SEAL_TAG_SIZE = 16,
       CMIF_SEAL_CHUNK_MIN = 1 << 10, CMIF_SEAL_CHUNK = 1 << 20, CMIF_SEAL_CHUNK_MAX = 1 << 24 };

typedef struct cmif_seal_header {
    uint32_t chunk_size; /* a power of two from CMIF_SEAL_CHUNK_MIN to CMIF_SEAL_CHUNK_MAX */
    uint64_t plain_size;
    uint8_t  key_id[CMIF_SEAL_ID_SIZE], salt[32], model_id[32];
} cmif_seal_header;

void cmif_seal_key_id(const uint8_t key[static CMIF_SEAL_KEY_SIZE], uint8_t id[static CMIF_SEAL_ID_SIZE]);

/* ---- reading ---- */
typedef struct cmif_seal cmif_seal;

/* Does the file begin as a sealed one does? false also when it cannot be read. */
bool cmif_seal_is(const char *path);
/* Open a sealed file: the header is checked against the size that the file really has. *out is the caller's (cmif_seal_free).
 * Errors: IO, FORMAT (offset, expected, found), MEMORY. */
CMIF_MUST_USE cmif_code cmif_seal_open(const char *path, cmif_seal **out, cmif_err *err);
const cmif_seal_header *cmif_seal_about(const cmif_seal *file);
/* Decrypt the whole file into plain.
 *   size  must be the header's plain_size (RANGE)
 * On failure plain is all zeros. Errors: TRUST (another key; a chunk that was changed), IO, FORMAT (the file shrank), MEMORY. */
CMIF_MUST_USE cmif_code cmif_seal_read(cmif_seal *file, const uint8_t key[static CMIF_SEAL_KEY_SIZE], uint8_t *plain, size_t size, cmif_err *err);
void                    cmif_seal_free(cmif_seal *file); /* NULL is welcome */

/* ---- writing ---- */
typedef struct cmif_sealer cmif_sealer;

/* Takes each piece of the sealed file in order. */
typedef cmif_code (*cmif_seal_emit)(void *to, const uint8_t *bytes, size_t size, cmif_err *err);

/*   chunk_size  0: CMIF_SEAL_CHUNK. Errors: RANGE, MEMORY, IO (no random bytes). */
CMIF_MUST_USE cmif_code cmif_sealer_new(const uint8_t key[static CMIF_SEAL_KEY_SIZE], const uint8_t model_id[static 32], uint64_t plain_size,
                                        uint32_t chunk_size, cmif_sealer **out, cmif_err *err);
/* The next size bytes of the plaintext; the last of its plain_size bytes end the file. A file of no bytes is ended by a put of none.
 * Errors: RANGE (more than plain_size), MEMORY, and what emit returns; then the sealer is good for cmif_sealer_free only. */
CMIF_MUST_USE cmif_code cmif_sealer_put(cmif_sealer *sealer, const uint8_t *bytes, size_t size, cmif_seal_emit emit, void *to, cmif_err *err);
void                    cmif_sealer_free(cmif_sealer *sealer); /* wiped; NULL is welcome */

/* ---- key files: 64 hexadecimal digits in lower case and a newline, readable by their owner only ---- */

/* On failure key is all zeros. Errors: IO (cannot be read), FORMAT (not a key file), TRUST (others may read it). */
CMIF_MUST_USE cmif_code cmif_seal_key_read(const char *path, uint8_t key[static CMIF_SEAL_KEY_SIZE], cmif_err *err);
/* Draw a key and write it to a new file; it is on disk when this returns. On failure key is all zeros, and there is no file.
 * Errors: IO (there is a file of that name; the disk; no random bytes). */
CMIF_MUST_USE cmif_code cmif_seal_key_make(const char *path, uint8_t key[static CMIF_SEAL_KEY_SIZE], cmif_err *err);

#endif
