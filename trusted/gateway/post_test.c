#include "gateway/post.h"

#include "base/check.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;
static cmif_there        *there;
static int                listener = -1, upstream = -1; /* the connection that came last */

static struct asked { /* a request of ours */
    cmif_post    *post;
    char          got[64];
    size_t        size;
    bool          stops; /* it is cancelled by what comes */
    int           ended, gone;
    cmif_call_end end;
} a, b;

static cmif_code on_bytes(void *context, const void *bytes, size_t size, cmif_err *err)
{
    struct asked *q = context;
    (void) err;
    memcpy(q->got + q->size, bytes, size < sizeof q->got - q->size ? size : 0);
    q->size += size < sizeof q->got - q->size ? size : 0;
    if (q->stops) {
        cmif_post_cancel(q->post);
    }
    return CMIF_OK;
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    struct asked *q = context;
    (void) sentence, (void) retry;
    q->ended++;
    q->end = end;
}

static void on_gone(void *context)
{
    struct asked *q = context;
    q->gone++;
}

static cmif_code ask(struct asked *q)
{
    const cmif_post_hooks hooks = {.on_bytes = on_bytes, .on_end = on_end, .on_gone = on_gone, .context = q};
    memset(q, 0, sizeof *q);
    return cmif_post_start(there, "/", NULL, 1, &hooks, &q->post, NULL);
}

/* What the upstream did has come to our end of its connection; the loop has not been asked. */
static bool has_come(void)
{
    struct sockaddr_in at = {0}, ours = {0};
    socklen_t          size = sizeof at;
    CHECK(!getpeername(upstream, (struct sockaddr *) &at, &size));
    for (int fd = 0; fd < 64; fd++) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (!getsockname(fd, (struct sockaddr *) &ours, &size) && ours.sin_port == at.sin_port) {
            return poll(&wait, 1, 5000) == 1;
        }
    }
    return false;
}

/* The loop goes round until nothing is left to do at once. */
static void turn(void)
{
    for (int i = 0; i < 20; i++) {
        struct pollfd none = {.fd = -1};
        (void) poll(&none, 1, 1);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
}

/* Whether a request comes, and on a connection that is new. */
static bool takes(bool is_new)
{
    char head[512];
    bool came = false, new = false;
    for (int i = 0; i < 100 && !came; i++) {
        turn();
        const int next = new ? -1 : accept(listener, NULL, NULL);
        if (next >= 0) {
            close(upstream);
            upstream = next;
            new      = true;
        }
        came = recv(upstream, head, sizeof head, MSG_DONTWAIT) > 0;
    }
    return came && new == is_new;
}

static void say(const char *word)
{
    char      text[128];
    const int size =
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(word), word);
    CHECK(send(upstream, text, (size_t) size, MSG_NOSIGNAL) == size);
}

static bool has(const struct asked *q, const char *word)
{
    for (int i = 0; i < 100 && !q->gone; i++) {
        turn();
    }
    return q->ended == 1 && q->gone == 1 && q->end == CMIF_CALL_DONE && !strcmp(q->got, word);
}

static void open_both(void)
{
    struct sockaddr_in at   = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          size = sizeof at;
    char               url[64];
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(!bind(listener, (struct sockaddr *) &at, size) && !listen(listener, 9) &&
          !getsockname(listener, (struct sockaddr *) &at, &size));
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(at.sin_port));
    base = event_base_new();
    CHECK(cmif_there_new(base, &(cmif_openai_options){.url = url}, &there, NULL) == CMIF_OK);
}

static void close_both(void)
{
    cmif_there_free(there);
    event_base_free(base);
    close(upstream);
    close(listener);
    upstream = -1;
}

static void forget_all(void)
{
    turn();
    for (int came = accept(listener, NULL, NULL); came >= 0; came = accept(listener, NULL, NULL)) {
        close(came);
    }
}

static void what_came_since_the_loop_looked_is_nobodys_answer(void)
{
    open_both();
    CHECK(ask(&a) == CMIF_OK && takes(true));
    say("one");
    CHECK(has(&a, "one") && ask(&a) == CMIF_OK && takes(false));
    say("two");
    CHECK(has(&a, "two"));
    say("nobody asked");
    CHECK(has_come() && ask(&a) == CMIF_OK && takes(true));
    say("three");
    CHECK(has(&a, "three"));
    shutdown(upstream, SHUT_RDWR);
    CHECK(has_come() && ask(&a) == CMIF_OK && takes(true));
    say("four");
    CHECK(has(&a, "four"));
    close_both();
}

static void a_cancel_is_the_end_at_any_time(void)
{
    open_both();
    CHECK(ask(&a) == CMIF_OK); /* not even connected */
    cmif_post_cancel(a.post);
    CHECK(a.ended == 0 && a.gone == 1);
    forget_all();
    CHECK(ask(&a) == CMIF_OK && ask(&b) == CMIF_OK && takes(true)); /* asked */
    cmif_post_cancel(a.post);
    cmif_post_cancel(b.post);
    CHECK(a.ended == 0 && a.gone == 1 && b.ended == 0 && b.gone == 1);
    forget_all();
    CHECK(ask(&a) == CMIF_OK && takes(true)); /* answered */
    say("one");
    CHECK(has(&a, "one") && ask(&a) == CMIF_OK && takes(false)); /* on a connection that was kept */
    cmif_post_cancel(a.post);
    CHECK(a.ended == 0 && a.gone == 1);
    CHECK(ask(&a) == CMIF_OK && takes(true)); /* inside of what comes */
    a.stops = true;
    say("two");
    CHECK(!has(&a, "two") && a.ended == 0 && a.gone == 1 && !strcmp(a.got, "two"));
    CHECK(ask(&a) == CMIF_OK && ask(&b) == CMIF_OK && takes(true));
    say("three"); /* at the end of all: idle, dead, and at work */
    cmif_post_cancel(a.post);
    cmif_post_cancel(b.post);
    close_both();
}

int main(void)
{
    RUN(what_came_since_the_loop_looked_is_nobodys_answer);
    RUN(a_cancel_is_the_end_at_any_time);
    return check_report();
}
