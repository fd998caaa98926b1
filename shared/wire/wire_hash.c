/* The low-level interface keeps its state on the stack: no allocation for each row, and nothing that can fail. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "wire/wire.h"

#include <openssl/sha.h>

void cmif_wire_hash(uint8_t hash[CMIF_WIRE_HASH_SIZE], cmif_row_type type, const void *row, size_t row_size)
{
    const uint8_t kind = (uint8_t) type;
    SHA256_CTX    sha;
    SHA256_Init(&sha);
    SHA256_Update(&sha, hash, CMIF_WIRE_HASH_SIZE);
    SHA256_Update(&sha, &kind, 1);
    SHA256_Update(&sha, row, row_size);
    SHA256_Final(hash, &sha);
}
