#define _GNU_SOURCE /* accept4 */
#include "channel/listen.h"

#include "serve/serve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct cmif_listener {
    int      fd;
    SSL_CTX *ctx;
    char     pin[CMIF_SERVE_PIN_SIZE], address[CMIF_LISTEN_ADDRESS_SIZE];
};

static cmif_code tls_open(cmif_listener *listener, const cmif_listen_options *o, cmif_err *err)
{
    cmif_code rc = o->cert ? CMIF_OK : cmif_serve_own(o->own, "cmif", err);
    if (rc == CMIF_OK) {
        rc = cmif_serve_tls(o->cert ? o->cert : o->own, o->cert ? o->key : o->own, &listener->ctx, listener->pin, err);
    }
    if (rc == CMIF_OK) {
        SSL_CTX_set_mode(listener->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    return rc;
}

/* ---- the socket ---- */

static void say_address(const struct sockaddr_storage *from, socklen_t size, char out[static CMIF_LISTEN_ADDRESS_SIZE])
{
    char host[48], port[8];
    if (getnameinfo((const struct sockaddr *) from, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, CMIF_LISTEN_ADDRESS_SIZE, "unknown");
    } else {
        snprintf(out, CMIF_LISTEN_ADDRESS_SIZE, from->ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    }
}

static cmif_code socket_open(cmif_listener *listener, const cmif_listen_options *o, cmif_err *err)
{
    const struct addrinfo   hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo        *found = NULL;
    struct sockaddr_storage here  = {0};
    socklen_t               size  = sizeof here;
    const int               one   = 1;
    const int               bad   = getaddrinfo(o->host, o->port, &hints, &found);
    if (bad) {
        return cmif_fail(err, CMIF_E_IO, "cannot look up %s:%s: %s", o->host, o->port, gai_strerror(bad));
    }
    listener->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok      = listener->fd >= 0 && setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
              bind(listener->fd, found->ai_addr, found->ai_addrlen) == 0 && listen(listener->fd, 64) == 0 &&
              getsockname(listener->fd, (struct sockaddr *) &here, &size) == 0;
    freeaddrinfo(found);
    if (!ok) {
        return cmif_fail(err, CMIF_E_IO, "cannot listen on %s:%s: %s", o->host, o->port, strerror(errno));
    }
    say_address(&here, size, listener->address);
    return CMIF_OK;
}

cmif_code cmif_listener_open(const cmif_listen_options *options, cmif_listener **out, cmif_err *err)
{
    cmif_listener *listener = calloc(1, sizeof *listener);
    if (!listener) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to listen");
    }
    listener->fd = -1;
    cmif_code rc = tls_open(listener, options, err);
    rc           = rc ? rc : socket_open(listener, options, err);
    if (rc == CMIF_OK) {
        *out     = listener;
        listener = NULL;
    }
    cmif_listener_free(listener);
    return rc;
}

void cmif_listener_free(cmif_listener *listener)
{
    if (listener) {
        if (listener->fd >= 0) {
            close(listener->fd);
        }
        SSL_CTX_free(listener->ctx);
    }
    free(listener);
}

const char *cmif_listener_pin(const cmif_listener *listener)
{
    return listener->pin;
}

const char *cmif_listener_address(const cmif_listener *listener)
{
    return listener->address;
}

cmif_code cmif_listener_wait(cmif_listener *listener, int wake, int *fd, char address[static CMIF_LISTEN_ADDRESS_SIZE],
                             cmif_err *err)
{
    const int one = 1;
    for (;;) {
        struct sockaddr_storage from = {0};
        socklen_t               size = sizeof from;
        struct pollfd           p[2] = {{.fd = listener->fd, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
        if (poll(p, 2, -1) < 0) {
            if (errno == EINTR && wake >= 0) {
                continue;
            }
            return cmif_fail(err, errno == EINTR ? CMIF_E_CANCELLED : CMIF_E_IO, "waiting for a connection: %s",
                             strerror(errno));
        }
        if (p[1].revents) {
            return cmif_fail(err, CMIF_E_CANCELLED, "asked to end");
        }
        const int taken = accept4(listener->fd, (struct sockaddr *) &from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (taken >= 0) {
            (void) setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            say_address(&from, size, address);
            *fd = taken;
            return CMIF_OK;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) { /* others will end: look again soon */
            (void) poll(&p[1], 1, 100);
        } else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EOPNOTSUPP) {
            return cmif_fail(err, CMIF_E_IO, "cannot take a connection: %s", strerror(errno));
        }
    }
}

cmif_code cmif_listener_greet(cmif_listener *listener, int fd, int seconds, cmif_channel **out, cmif_err *err)
{
    return cmif_channel_accept(fd, listener->ctx, seconds, out, err);
}
