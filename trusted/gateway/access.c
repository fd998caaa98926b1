#include "gateway/access.h"

#include "base/bytes.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS_MAX = 1024, WRONG_MAX = 20 }; /* the last: wrong keys within ten seconds, of everybody together */

struct cmif_access {
    bool            needed;
    cmif_access_key keys[KEYS_MAX];
    size_t          count, wrong;
    int64_t         wrong_since;
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

/* "policy=strict", "rate=60" behind the hash: each once. */
static bool take_more(cmif_access_key *key, const char *at)
{
    while (*at == ' ') {
        const char  *word = at + strspn(at, " ");
        const size_t size = strcspn(word, " ");
        char        *end  = NULL;
        if (!strncmp(word, "policy=", 7) && size > 7 && size - 7 <= CMIF_ACCESS_POLICY_MAX && !*key->policy) {
            memcpy(key->policy, word + 7, size - 7);
        } else if (!strncmp(word, "rate=", 5) && word[5] >= '1' && word[5] <= '9' && !key->rate) {
            const unsigned long rate = strtoul(word + 5, &end, 10);
            if (end != word + size || rate > CMIF_ACCESS_RATE_MAX) {
                return false;
            }
            key->rate = (uint32_t) rate;
        } else if (size) {
            return false;
        }
        at = word + size;
    }
    return !*at;
}

static cmif_code take_line(cmif_access *a, const char *path, size_t number, const char *line, cmif_err *err)
{
    const size_t     name = strcspn(line, " ");
    cmif_access_key *key  = &a->keys[a->count];
    if (!*line || *line == '#' || !strncmp(line, "revoked", 7)) {
        return CMIF_OK;
    }
    if (a->count == KEYS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' has more than %d keys", path, KEYS_MAX);
    }
    if (name == 0 || name > CMIF_LEDGER_KEY_MAX || strncmp(line + name, " sha256:", 8) != 0 ||
        strcspn(line + name + 8, " ") != 64 || !cmif_unhex(line + name + 8, 32, key->hash) ||
        !take_more(key, line + name + 8 + 64)) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "'%s', line %zu: expected NAME sha256:HEX, and then policy=NAME or rate=N (a minute, at most "
                         "%d) or nothing",
                         path, number, CMIF_ACCESS_RATE_MAX);
    }
    memcpy(key->name, line, name);
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
        if (!strchr(line, '\n') && !feof(file)) { /* what follows would be a line of its own */
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%s', line %zu is too long", path, number);
            break;
        }
        line[strcspn(line, "\r\n")] = '\0';
        rc                          = take_line(a, path, number, line, err);
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

bool cmif_access_loopback(const char *address)
{
    return loopback(address, strlen(address));
}

bool cmif_access_needed(const cmif_access *a)
{
    return a->needed;
}

/* Every key is looked at, whichever fits. */
static cmif_access_key *find_key(cmif_access *a, const char *key)
{
    uint8_t          hash[32];
    cmif_access_key *found = NULL;
    if (EVP_Digest(key, strlen(key), hash, NULL, EVP_sha256(), NULL) != 1) {
        return NULL;
    }
    for (size_t i = 0; i < a->count; i++) {
        found = CRYPTO_memcmp(hash, a->keys[i].hash, sizeof hash) == 0 ? &a->keys[i] : found;
    }
    return found;
}

cmif_access_answer cmif_access_check(cmif_access *a, const char *authorization, const char *host, const char *origin,
                                     int64_t now, cmif_access_key **key)
{
    *key = NULL;
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
    *key = authorization && !strncmp(authorization, "Bearer ", 7) ? find_key(a, authorization + 7) : NULL;
    if (!*key && a->wrong >= WRONG_MAX) { /* who has a key is let in all the same */
        return CMIF_ACCESS_TOO_OFTEN;
    }
    a->wrong += !*key && authorization;
    return *key ? CMIF_ACCESS_YES : CMIF_ACCESS_NO;
}

void cmif_access_succeed(cmif_access *a, const cmif_access *before)
{
    a->wrong       = before->wrong;
    a->wrong_since = before->wrong_since;
    for (size_t i = 0; i < a->count; i++) {
        cmif_access_key *key = &a->keys[i];
        for (size_t k = 0; k < before->count; k++) {
            const cmif_access_key *was = &before->keys[k];
            if (!strcmp(was->name, key->name)) {
                key->next = was->next > key->next ? was->next : key->next;
            }
            if (!strcmp(was->name, key->name) && !memcmp(was->hash, key->hash, sizeof key->hash)) {
                key->next = was->next;
                break;
            }
        }
    }
}

uint32_t cmif_access_rate(cmif_access_key *key, int64_t now)
{
    enum { MINUTE = 60000000, SECOND = 1000000 };
    if (!key || !key->rate) {
        return 0;
    }
    const int64_t each = MINUTE / (int64_t) key->rate, from = key->next > now ? key->next : now;
    if (from - now > MINUTE - each) {
        return (uint32_t) ((from - now - (MINUTE - each) + SECOND - 1) / SECOND);
    }
    key->next = from + each;
    return 0;
}

const cmif_access_key *cmif_access_strange_policy(const cmif_access *a, const char *const *names, size_t count)
{
    for (size_t i = 0; i < a->count; i++) {
        bool known = !*a->keys[i].policy;
        for (size_t k = 0; k < count; k++) {
            known = known || !strcmp(a->keys[i].policy, names[k]);
        }
        if (!known) {
            return &a->keys[i];
        }
    }
    return NULL;
}

size_t cmif_access_count(const cmif_access *a)
{
    return a->count;
}
