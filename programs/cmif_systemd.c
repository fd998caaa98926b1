#include "cmif_systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_SOCKET = 3 }; /* SD_LISTEN_FDS_START */

/* A variable that is meant for this process: who == NULL or its value is our id. 0: it is not there. */
static uint64_t ours(const char *name, const char *who)
{
    const char *text = getenv(name), *pid = who ? getenv(who) : NULL;
    char       *end;
    if (!text || *text < '0' || *text > '9' || (who && (!pid || strtol(pid, NULL, 10) != (long) getpid()))) {
        return 0;
    }
    const unsigned long long value = strtoull(text, &end, 10);
    return *end ? 0 : value;
}

cmif_code cmif_systemd_socket(int *out, cmif_err *err)
{
    const uint64_t count = ours("LISTEN_FDS", "LISTEN_PID");
    if (count > 1) {
        return cmif_fail(err, CMIF_E_RANGE, "systemd hands over %llu sockets: the gateway takes one",
                         (unsigned long long) count);
    }
    if (count == 1 && fcntl(FIRST_SOCKET, F_SETFD, FD_CLOEXEC) != 0) {
        return cmif_fail(err, CMIF_E_RANGE, "LISTEN_FDS is set, and there is no socket: %s", strerror(errno));
    }
    *out = count == 1 ? FIRST_SOCKET : 0;
    return CMIF_OK;
}

void cmif_systemd_say(const char *state)
{
    const char        *path  = getenv("NOTIFY_SOCKET");
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof there.sun_path) {
        return;
    }
    memcpy(there.sun_path, path, strlen(path));
    if (*path == '@') {
        there.sun_path[0] = '\0'; /* a name that is no file */
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void) !sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *) &there,
                       (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(path)));
        close(fd);
    }
}

uint64_t cmif_systemd_watchdog(void)
{
    return ours("WATCHDOG_USEC", getenv("WATCHDOG_PID") ? "WATCHDOG_PID" : NULL);
}

const char *cmif_systemd_credential(const char *path, char *buffer)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (path && *path && *path != '/' && folder && *folder &&
        snprintf(buffer, PATH_MAX, "%s/%s", folder, path) < PATH_MAX && access(buffer, R_OK) == 0) {
        return buffer;
    }
    return path;
}
