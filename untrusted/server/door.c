#include "server/door.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

/* Is a server there? A file whose server died refuses connections. */
static cmif_code clear_the_way(const struct sockaddr_un *address, cmif_err *err)
{
    cmif_code   rc   = CMIF_OK;
    const char *path = address->sun_path;
    struct stat st;

    if (lstat(path, &st) != 0) {
        return CMIF_OK; /* nothing there; bind says the rest */
    }
    if (!S_ISSOCK(st.st_mode)) {
        return cmif_fail(err, CMIF_E_IO, "'%s' exists and is not a socket: choose another --listen unix:PATH", path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make a unix socket: %s", strerror(errno));
    }
    if (connect(fd, (const struct sockaddr *) address, sizeof *address) == 0 || errno == EAGAIN) {
        rc = cmif_fail(err, CMIF_E_IO, "a server is already listening on 'unix:%s': stop it, or choose another path",
                       path);
    } else if (errno == ECONNREFUSED && unlink(path) != 0 && errno != ENOENT) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot remove '%s', which a dead server left: %s", path, strerror(errno));
    }
    close(fd);
    return rc;
}

static cmif_code open_unix(const char *path, cmif_door *door, cmif_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat        st;

    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path) {
        return cmif_fail(err, CMIF_E_RANGE, "the path of a unix socket has 1 to %zu bytes, this one has %zu",
                         sizeof address.sun_path - 1, strlen(path));
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    cmif_code rc = clear_the_way(&address, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    door->local = true;
    snprintf(door->name, sizeof door->name, "unix:%s", path);
    door->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* mode 0600 from its first moment on; the peer's user is checked at accept, too */
    mode_t before = umask(0177);
    bool   bound  = door->fd >= 0 && bind(door->fd, (struct sockaddr *) &address, sizeof address) == 0;
    int    why    = errno;
    umask(before);
    if (!bound || listen(door->fd, BACKLOG) != 0 || stat(path, &st) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot listen on 'unix:%s': %s", path, strerror(bound ? errno : why));
    }
    door->dev = st.st_dev;
    door->ino = st.st_ino;
    return CMIF_OK;
}

static cmif_code open_tcp(const char *spec, cmif_door *door, cmif_err *err)
{
    cmif_code        rc    = CMIF_OK;
    struct addrinfo *found = NULL;
    struct addrinfo  hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    const char      *colon = strrchr(spec, ':');
    const char      *start = spec;
    const char      *end   = colon;
    int              on    = 1;

    if (colon && colon > spec && spec[0] == '[' && colon[-1] == ']') {
        start++;
        end--;
    }
    if (!colon || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) || end <= start ||
        (size_t) (end - start) >= sizeof door->host || (start == spec && memchr(spec, ':', (size_t) (end - spec)))) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' is no address: expected unix:PATH, HOST:PORT or [V6ADDRESS]:PORT",
                         spec);
    }
    memcpy(door->host, start, (size_t) (end - start));
    door->host[end - start] = '\0';

    int failed = getaddrinfo(door->host, colon + 1, &hints, &found);
    if (failed) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot listen on '%s': %s", spec, gai_strerror(failed));
        goto done;
    }
    door->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->fd < 0 || setsockopt(door->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(door->fd, found->ai_addr, found->ai_addrlen) != 0 || listen(door->fd, BACKLOG) != 0) {
        rc = cmif_fail(err, CMIF_E_IO,
                       errno == EADDRINUSE ? "cannot listen on '%s': %s; stop the other program, or choose "
                                             "another port with --listen"
                                           : "cannot listen on '%s': %s",
                       spec, strerror(errno));
        goto done;
    }
    struct sockaddr_storage bound;
    socklen_t               size = sizeof bound;
    char                    port[16];
    if (getsockname(door->fd, (struct sockaddr *) &bound, &size) != 0 ||
        getnameinfo((struct sockaddr *) &bound, size, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot tell the port of '%s'", spec);
        goto done;
    }
    bool v6 = strchr(door->host, ':') != NULL;
    snprintf(door->name, sizeof door->name, v6 ? "[%s]:%s" : "%s:%s", door->host, port);
done:
    if (found) {
        freeaddrinfo(found);
    }
    return rc;
}

cmif_code cmif_door_open(const char *spec, cmif_door *out, cmif_err *err)
{
    cmif_door door = {.fd = -1};
    cmif_code rc   = strncmp(spec, "unix:", 5) == 0 ? open_unix(spec + 5, &door, err) : open_tcp(spec, &door, err);

    if (rc != CMIF_OK) {
        if (door.fd >= 0) {
            close(door.fd);
        }
        return rc;
    }
    *out = door;
    return CMIF_OK;
}

void cmif_door_close(cmif_door *door)
{
    struct stat st;
    const char *path = door->name + sizeof "unix:" - 1;

    if (door->fd < 0) {
        return;
    }
    close(door->fd);
    door->fd = -1;
    if (door->local && lstat(path, &st) == 0 && st.st_dev == door->dev && st.st_ino == door->ino) {
        unlink(path);
    }
}

bool cmif_door_peer_is_us(int fd)
{
    struct credentials {
        pid_t pid;
        uid_t uid;
        gid_t gid;
    } peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}
