#include "cmif_cache.h"

#include "cmif_child.h"
#include "cmif_terminal.h"

#include "gguf/gguf.h"
#include "seal/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file of this name in path's folder. */
static bool beside(const char *path, const char *name, char out[static PATH_MAX])
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    return snprintf(out, PATH_MAX, "%s/%s", dirname(copy), name) < PATH_MAX;
}

/* A name for the split of this very file: another size, time or place is another split. */
static uint64_t fingerprint(const char *path, const struct stat *info)
{
    uint64_t numbers[] = {(uint64_t) info->st_dev, (uint64_t) info->st_ino, (uint64_t) info->st_size,
                          (uint64_t) info->st_mtim.tv_sec, (uint64_t) info->st_mtim.tv_nsec};
    uint64_t hash      = 0xcbf29ce484222325u; /* FNV-1a: names, not secrets; the key in the files is what is checked */
    for (size_t i = 0; i < sizeof numbers; i++) {
        hash = (hash ^ (uint8_t) (numbers[i / 8] >> i % 8 * 8)) * 0x100000001b3u;
    }
    for (const char *c = path; *c; c++) {
        hash = (hash ^ (uint8_t) *c) * 0x100000001b3u;
    }
    for (const char *c = CMIF_VERSION; *c; c++) { /* a new version may split differently */
        hash = (hash ^ (uint8_t) *c) * 0x100000001b3u;
    }
    return hash;
}

static bool both_there(const cmif_halves *halves)
{
    return access(halves->client, R_OK) == 0 && access(halves->server, R_OK) == 0;
}

/* Wait for whoever is splitting the same file. */
static cmif_code lock_split(const char *folder, int *lock, cmif_err *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s.lock", folder) >= PATH_MAX) {
        return cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
    }
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make %s: %s", path, strerror(errno));
    }
    while (flock(*lock, LOCK_EX) < 0) {
        if (cmif_interrupted) {
            return cmif_fail(err, CMIF_E_CANCELLED, "stopped while another cmif splits the model");
        }
    }
    return CMIF_OK;
}

/* Look into a file that no split is known of: a sentence now is better than one after a copy. *client: it is a half. */
static cmif_code look_into(const char *path, bool *client, cmif_err *err)
{
    cmif_gguf *file = NULL;
    cmif_str   role = {0};
    *client         = cmif_seal_is(path);
    if (*client) {
        return CMIF_OK;
    }
    cmif_code rc = cmif_gguf_open(path, &file, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (cmif_gguf_find(file, "cmif.role")) {
        rc = cmif_gguf_get_str(file, "cmif.role", &role, err);
        if (rc == CMIF_OK && !cmif_str_is(role, "client")) {
            rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "'%s' is the server's half: name the client.gguf of the same split",
                           path);
        }
        *client = rc == CMIF_OK;
    }
    cmif_gguf_free(file);
    return rc;
}

cmif_code cmif_cache_halves(const char *model, bool make, cmif_halves *out, cmif_err *err)
{
    char        path[PATH_MAX], cache[PATH_MAX], folder[PATH_MAX], name[64], *base;
    struct stat info;
    bool        client = false;
    int         lock   = -1;
    cmif_code   rc     = cmif_cache_model(model, path, err);

    *out = (cmif_halves){0};
    if (rc != CMIF_OK) {
        return rc;
    }
    if (stat(path, &info) < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot look at '%s': %s", model, strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) {
        bool there = false;
        for (size_t i = 0; i < 2 && !there; i++) { /* the one of the two that 'cmif split' left */
            there =
                snprintf(out->client, sizeof out->client, "%s/client.gguf%s", path, i ? ".sealed" : "") < PATH_MAX &&
                access(out->client, R_OK) == 0;
        }
        if (!there) {
            return cmif_fail(err, CMIF_E_IO,
                             "the folder '%s' has no client.gguf: name a model file, or a folder that "
                             "'cmif split' wrote",
                             model);
        }
        (void) beside(out->client, "server.gguf", out->server);
        return CMIF_OK;
    }
    base = strrchr(path, '/') + 1;
    rc   = cmif_cache_folder(cache, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    snprintf(name, sizeof name, "%.*s", (int) strcspn(base, "."), base);
    if (snprintf(folder, sizeof folder, "%s/split/%s-%016llx", cache, name,
                 (unsigned long long) fingerprint(path, &info)) >= PATH_MAX - 16) {
        return cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
    }
    snprintf(out->client, sizeof out->client, "%.*s/client.gguf", PATH_MAX - 16, folder);
    snprintf(out->server, sizeof out->server, "%.*s/server.gguf", PATH_MAX - 16, folder);
    if (both_there(out)) {
        return CMIF_OK;
    }
    rc = look_into(path, &client, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (client) {
        memcpy(out->client, path, sizeof path);
        (void) beside(path, "server.gguf", out->server);
    }
    if (client || !make) {
        return CMIF_OK;
    }
    rc = cmif_make_folders(folder, err);
    if (rc == CMIF_OK) {
        rc = lock_split(folder, &lock, err);
    }
    if (rc == CMIF_OK && !both_there(out)) {
        char *argv[] = {NULL, "split", path, "-o", folder, cmif_json ? "--json" : NULL, NULL};
        if (!cmif_quiet && !cmif_json) {
            fprintf(stderr, "cmif: splitting %s (once; the halves are kept in %s)\n", base, folder);
        }
        rc = cmif_child_run("cmif-model", argv, NULL, 0, err);
        if (rc != CMIF_OK) {
            rmdir(folder); /* only if nothing is in it */
        }
        out->made = rc == CMIF_OK;
    }
    if (lock >= 0) {
        close(lock);
    }
    return rc;
}
