#include "dp/noise.h"

#include "secret/secret.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    KEY_SIZE    = 32,
    BUFFER_SIZE = 4096,
    FRESH_AFTER = 1 << 22 /* bytes: 2^20 words of 32 bits */
};

/* Lives in secret memory, which the kernel hands to a child of fork() as zeros: `alive` is false there. */
typedef struct noise_state {
    bool    alive;
    size_t  at;            /* first byte of buffer that was not taken */
    size_t  since;         /* bytes made since the system gave a key */
    uint8_t key[KEY_SIZE]; /* for the next buffer; made by the same stream, just before it */
    uint8_t buffer[BUFFER_SIZE];
} noise_state;
_Static_assert(offsetof(noise_state, buffer) == offsetof(noise_state, key) + KEY_SIZE, "one stream fills both");

struct cmif_noise {
    cmif_secret     memory; /* a noise_state */
    EVP_CIPHER     *cipher;
    EVP_CIPHER_CTX *context; /* holds a key only inside noise_refill */
    pid_t           owner;   /* for kernels that do not know MADV_WIPEONFORK */
};

static cmif_code noise_key(uint8_t key[static KEY_SIZE], cmif_err *err)
{
    for (size_t at = 0; at < KEY_SIZE;) {
        ssize_t got = getrandom(key + at, KEY_SIZE - at, 0);
        if (got < 0 && errno != EINTR) {
            return cmif_fail(err, CMIF_E_IO, "the system gives no random bytes: %s", strerror(errno));
        }
        at += got > 0 ? (size_t) got : 0;
    }
    return CMIF_OK;
}

/* Encrypt zeros under a key that is used once; the first bytes are the next key. So nothing that lies in memory
 * afterwards tells what was drawn before. */
static cmif_code noise_refill(cmif_noise *noise, cmif_err *err)
{
    static const uint8_t zero_counter[16];

    noise_state *state = (noise_state *) noise->memory.data;
    cmif_code    rc    = CMIF_OK;
    int          made  = 0;

    if (!state->alive || state->since >= FRESH_AFTER) {
        rc = noise_key(state->key, err);
        if (rc != CMIF_OK) {
            goto done;
        }
        state->since = 0;
    }
    state->alive = false; /* until all of it is there */
    if (EVP_EncryptInit_ex2(noise->context, noise->cipher, state->key, zero_counter, NULL) != 1) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "OpenSSL cannot start AES-256-CTR");
        goto done;
    }
    memset(state->key, 0, KEY_SIZE + BUFFER_SIZE);
    if (EVP_EncryptUpdate(noise->context, state->key, &made, state->key, KEY_SIZE + BUFFER_SIZE) != 1 ||
        made != KEY_SIZE + BUFFER_SIZE) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "OpenSSL's AES-256-CTR gave %d of %d bytes", made, KEY_SIZE + BUFFER_SIZE);
        goto done;
    }
    state->at    = 0;
    state->alive = true;
    state->since += BUFFER_SIZE;
    noise->owner = getpid();
done:
    (void) EVP_CIPHER_CTX_reset(noise->context); /* OpenSSL wipes its key schedule */
    return rc;
}

cmif_code cmif_noise_new(cmif_noise **out, cmif_err *err)
{
    cmif_code   rc    = CMIF_OK;
    cmif_noise *noise = calloc(1, sizeof *noise);
    if (!noise) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a noise generator");
        goto done;
    }
    rc = cmif_secret_reserve(&noise->memory, sizeof(noise_state), err);
    if (rc != CMIF_OK) {
        goto done;
    }
    noise->cipher  = EVP_CIPHER_fetch(NULL, "AES-256-CTR", NULL);
    noise->context = EVP_CIPHER_CTX_new();
    if (!noise->cipher || !noise->context) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "OpenSSL has no AES-256-CTR, or no memory for it");
        goto done;
    }
    rc = noise_refill(noise, err); /* a system without random bytes shows here, not in the first sentence */
    if (rc != CMIF_OK) {
        goto done;
    }
    *out  = noise;
    noise = NULL;
done:
    cmif_noise_free(noise);
    return rc;
}

void cmif_noise_free(cmif_noise *noise)
{
    if (noise) {
        cmif_secret_wipe(&noise->memory);
        EVP_CIPHER_CTX_free(noise->context);
        EVP_CIPHER_free(noise->cipher);
        free(noise);
    }
}

cmif_code cmif_noise_take(cmif_noise *noise, void *out, size_t size, cmif_err *err)
{
    noise_state *state = (noise_state *) noise->memory.data;
    uint8_t     *to    = out;

    if (noise->owner != getpid()) {
        state->alive = false; /* what the parent has in its buffer is the parent's */
    }
    for (size_t left = size; left;) {
        if (!state->alive || state->at == BUFFER_SIZE) {
            cmif_code rc = noise_refill(noise, err);
            if (rc != CMIF_OK) {
                cmif_wipe(out, size);
                return rc;
            }
        }
        size_t n = left < BUFFER_SIZE - state->at ? left : BUFFER_SIZE - state->at;
        memcpy(to, state->buffer + state->at, n);
        cmif_wipe(state->buffer + state->at, n);
        state->at += n;
        to += n;
        left -= n;
    }
    return CMIF_OK;
}
