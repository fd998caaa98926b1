#include "gateway/access.h"

#include "base/bytes.h"
#include "ledger/ledger.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 1024, WRONG_MAX = 20 }; /* the last: wrong keys within ten seconds, of everybody together */

struct cmif_access {
    bool needed;
    struct {
        char    name[CMIF_LEDGER_KEY_MAX + 1];
        uint8_t hash[32];
    } keys[KEYS_MAX];
    size_t  count, wrong;
    int64_t wrong_since;
};

static bool loopback(const char *host, size_t size)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]", "::1"};
    for (size_t i = 0; i < 4; i++) {
        if (strlen(names[i]) == size && !memcmp(names[i], host, size)) {
            return true;
        }
    }
    return false;
}

static cmif_code take_line(cmif_access *a, const char *path, size_t number, const char *line, cmif_err *err)
{
    const size_t name = strcspn(line, " ");
    if (!*line || *line == '#' || !strncmp(line, "revoked", 7)) {
        return CMIF_OK;
    }
    if (a->count == KEYS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' has more than %d keys", path, KEYS_MAX);
    }
    if (name == 0 || name > CMIF_LEDGER_KEY_MAX || strncmp(line + name, " sha256:", 8) != 0 ||
        strlen(line + name + 8) != 64 || !cmif_unhex(line + name + 8, 32, a->keys[a->count].hash)) {
        return cmif_fail(err, CMIF_E_FORMAT, "'%s', line %zu: expected NAME sha256:HEX", path, number);
    }
    memcpy(a->keys[a->count].name, line, name);
    a->count++;
    return CMIF_OK;
}

cmif_code cmif_access_open(const char *path, const char *address, cmif_access **out, cmif_err *err)
{
    cmif_code    rc = CMIF_OK;
    char         line[256];
    FILE        *file = path ? fopen(path, "re") : NULL;
    cmif_access *a    = calloc(1, sizeof *a);
    if (!a) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for keys");
    } else if (path && !file) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read the keys '%s'", path);
    } else if (!path && !loopback(address, strlen(address))) {
        rc = cmif_fail(err, CMIF_E_RANGE, "on %s others could use it: a gateway that is not on loopback needs keys",
                       address);
    }
    for (size_t number = 1; rc == CMIF_OK && file && fgets(line, sizeof line, file); number++) {
        line[strcspn(line, "\n")] = '\0';
        rc                        = take_line(a, path, number, line, err);
    }
    if (rc == CMIF_OK && path && a->count == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' holds no key: nobody could use the gateway", path);
    }
    if (file) {
        fclose(file);
    }
    if (rc == CMIF_OK) {
        a->needed = path != NULL;
        *out      = a;
    } else {
        cmif_access_free(a);
    }
    return rc;
}

void cmif_access_free(cmif_access *a)
{
    free(a);
}

bool cmif_access_needed(const cmif_access *a)
{
    return a->needed;
}

/* Every key is looked at, whichever fits. */
static const char *owner_of(const cmif_access *a, const char *key)
{
    uint8_t     hash[32];
    const char *owner = NULL;
    if (EVP_Digest(key, strlen(key), hash, NULL, EVP_sha256(), NULL) != 1) {
        return NULL;
    }
    for (size_t i = 0; i < a->count; i++) {
        owner = CRYPTO_memcmp(hash, a->keys[i].hash, sizeof hash) == 0 ? a->keys[i].name : owner;
    }
    return owner;
}

cmif_access_answer cmif_access_check(cmif_access *a, const char *authorization, const char *host, const char *origin,
                                     int64_t now, const char **owner)
{
    if (!a->needed) {
        const char *bare = origin && strstr(origin, "://") ? strstr(origin, "://") + 3 : origin;
        const bool  ours =
            host &&
            loopback(host,
                     strcspn(host, host[0] == '[' ? "" : ":") -
                         (host[0] == '[' && strrchr(host, ':') > strchr(host, ']') ? strlen(strrchr(host, ':')) : 0));
        return ours && (!bare || (host && !strcmp(bare, host))) ? CMIF_ACCESS_YES : CMIF_ACCESS_STRANGE;
    }
    if (now - a->wrong_since > 10000000) {
        a->wrong       = 0;
        a->wrong_since = now;
    }
    const char *name = authorization && !strncmp(authorization, "Bearer ", 7) ? owner_of(a, authorization + 7) : NULL;
    if (!name && a->wrong >= WRONG_MAX) { /* who has a key is let in all the same */
        return CMIF_ACCESS_TOO_OFTEN;
    }
    a->wrong += name == NULL && authorization;
    *owner = name ? name : *owner;
    return name ? CMIF_ACCESS_YES : CMIF_ACCESS_NO;
}
