/* A file of keys and three headers, apart by NUL bytes: who is let in without keys came under a name of loopback and of
 * no other origin; who is let in with keys has a name of the file. */
#define _GNU_SOURCE
#include "gateway/access.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_strangers(const char *host, const char *origin)
{
    cmif_access     *open = NULL;
    cmif_access_key *key  = NULL;
    if (cmif_access_open(NULL, "127.0.0.1", &open, NULL) != CMIF_OK) {
        abort();
    }
    if (cmif_access_check(open, NULL, host, origin, 0, &key) == CMIF_ACCESS_YES) {
        static const char *const names[] = {"localhost", "127.0.0.1", "[::1]", "::1"};
        bool                     good    = false;
        for (size_t i = 0; i < 4; i++) {
            const size_t n = strlen(names[i]);
            good           = good || (!strncmp(host, names[i], n) && (!host[n] || host[n] == ':'));
        }
        if (!good) {
            abort();
        }
        if (*origin && !strstr(origin, host)) {
            abort();
        }
    }
    cmif_access_free(open);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char            *text  = malloc(size + 4), *parts[4], path[32];
    cmif_access     *keyed = NULL;
    cmif_access_key *key   = NULL;
    if (!text) {
        return 0;
    }
    memcpy(text, bytes, size);
    memset(text + size, 0, 4);
    parts[0] = text;
    for (size_t i = 1; i < 4; i++) {
        parts[i] = parts[i - 1] + strlen(parts[i - 1]);
        parts[i] += parts[i] < text + size;
    }
    check_strangers(parts[2], parts[3]);

    int fd = memfd_create("keys", MFD_CLOEXEC);
    if (fd < 0 || write(fd, parts[0], strlen(parts[0])) < 0) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (cmif_access_open(path, "0.0.0.0", &keyed, NULL) == CMIF_OK) {
        if (cmif_access_check(keyed, parts[1], parts[2], parts[3], 0, &key) == CMIF_ACCESS_YES &&
            (!key || !strstr(parts[0], key->name) || !strstr(parts[0], key->policy) ||
             key->rate > CMIF_ACCESS_RATE_MAX)) {
            abort();
        }
    }
    cmif_access_free(keyed);
    close(fd);
    free(text);
    return 0;
}
