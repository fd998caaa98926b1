/* Drives a real cmif-server process, with its real engine, over its unix socket and TLS, frame by frame. */
#include "base/check.h"
#include "evidence/evidence.h"
#include "gguf/gguf.h"
#include "rows/rows.h"
#include "server/pipe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MODELS CMIF_SOURCE_DIR "/../shared/models/"
#define STORIES MODELS "stories260K/stories260K.gguf"
#define MINILM MODELS "minilm-sst2/minilm-sst2-f16.gguf"
#define SERVER CMIF_BUILD_DIR "/bin/cmif-server"

enum { WIDTH = 64, VOCAB = 512, TOKENS = 64, PATIENCE_MS = 15000 };

/* PROVENANCE.md of the model: greedy ids of an independent implementation. */
static const uint32_t prompt_1[]       = {1, 403, 407, 261, 378};
static const uint32_t golden_1[TOKENS] = {
    432, 383, 286, 261, 376, 298, 315, 421, 395, 317, 426, 338, 401, 396, 267, 337, 410, 408, 419, 292, 411, 322,
    265, 282, 295, 433, 426, 385, 328, 432, 358, 394, 261, 370, 432, 352, 266, 268, 388, 426, 338, 391, 266, 267,
    337, 335, 312, 432, 398, 312, 286, 267, 414, 270, 333, 415, 426, 13,  438, 310, 439, 419, 357, 336};
static const uint32_t prompt_2[]       = {1, 317, 269, 274, 287, 263, 377, 267, 265, 282, 295, 433, 426};
static const uint32_t golden_2[TOKENS] = {
    342, 394, 261, 370, 268, 414, 444, 335, 261, 370, 268, 414, 444, 426, 342, 391, 266, 267, 337, 335, 312, 426,
    342, 391, 266, 267, 337, 335, 265, 268, 414, 444, 426, 342, 391, 266, 267, 337, 335, 265, 268, 414, 444, 426,
    13,  436, 438, 347, 433, 432, 392, 287, 443, 436, 317, 336, 426, 313, 438, 316, 439, 419, 298, 414};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static char         folder[] = "/tmp/cmif-server-test.XXXXXX";
static const float *table; /* (VOCAB, WIDTH) */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long) (ms % 1000) * 1000000}, NULL);
}

/* ---- a server process ---- */
typedef struct process {
    pid_t pid;
    int   input;      /* of the process: holding it keeps the process alive */
    char  ready[512]; /* its first line; "": it ended without one */
    char  log[128];   /* file of its stderr */
    char  socket[128];
    int   port;
    char  pin[80];
} process;

static int process_number;

static void process_start_program(process *p, const char *program, const char *const *extra)
{
    const char *argv[32] = {program, "-m", STORIES, "--threads", "1"};
    size_t      argc     = 5;
    int         in[2], out[2];
    char        listen_on[160];

    *p = (process){.pid = -1};
    snprintf(p->log, sizeof p->log, "%s/log.%d", folder, process_number);
    snprintf(p->socket, sizeof p->socket, "%s/s.%d", folder, process_number++);
    snprintf(listen_on, sizeof listen_on, "unix:%s", p->socket);
    for (; extra && *extra; extra++) {
        argv[argc++] = *extra;
    }
    argv[argc++] = "--listen";
    argv[argc++] = listen_on;
    if (pipe(in) != 0 || pipe(out) != 0) {
        return;
    }
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    fcntl(out[0], F_SETFD, FD_CLOEXEC);
    p->pid = fork();
    if (p->pid == 0) {
        int log = open(p->log, O_CREAT | O_WRONLY | O_APPEND, 0600);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(log, 2);
        close(in[0]);
        close(out[1]);
        close(log);
        execv(program, (char *const *) (uintptr_t) argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p->input           = in[1];
    size_t        used = 0;
    struct pollfd wait = {.fd = out[0], .events = POLLIN};
    while (used + 1 < sizeof p->ready && !memchr(p->ready, '\n', used) && poll(&wait, 1, PATIENCE_MS) == 1) {
        ssize_t n = read(out[0], p->ready + used, sizeof p->ready - 1 - used);
        if (n <= 0) {
            break;
        }
        used += (size_t) n;
    }
    p->ready[used] = '\0';
    close(out[0]);
    const char *tcp = strstr(p->ready, "127.0.0.1:");
    const char *pin = strstr(p->ready, "sha256:");
    p->port         = tcp ? atoi(tcp + 10) : 0;
    if (pin) {
        snprintf(p->pin, sizeof p->pin, "%.71s", pin);
    }
}

static void process_start(process *p, const char *const *extra)
{
    process_start_program(p, SERVER, extra);
}

/* Its exit code; -signal; -1000 when it does not end in time. */
static int process_wait(process *p, unsigned ms)
{
    int status;
    for (uint64_t end = now_ms() + ms; now_ms() < end; pause_ms(5)) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = -1;
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        }
    }
    return -1000;
}

static int process_stop(process *p)
{
    kill(p->pid, SIGTERM);
    int code = process_wait(p, 10000);
    if (code == -1000) {
        kill(p->pid, SIGKILL);
        process_wait(p, 1000);
    }
    close(p->input);
    return code;
}

static bool process_said(const process *p, const char *text)
{
    static char log[1 << 16];
    FILE       *file = fopen(p->log, "r");
    size_t      size = file ? fread(log, 1, sizeof log - 1, file) : 0;
    log[size]        = '\0';
    if (file) {
        fclose(file);
    }
    return strstr(log, text) != NULL;
}

static pid_t child_of(pid_t pid)
{
    char path[64];
    int  child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int) pid, (int) pid);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%d", &child) != 1) {
        child = 0;
    }
    if (file) {
        fclose(file);
    }
    return child;
}

/* ---- a client ---- */
typedef struct client {
    int        fd;
    SSL_CTX   *ctx;
    SSL       *ssl;
    cmif_wire  wire;
    cmif_frame frame; /* the last one received */
    uint8_t    in[1 << 18];
    size_t     in_size, in_used;
    uint8_t    handle[CMIF_WIRE_HANDLE_SIZE];
    uint8_t    hash[CMIF_WIRE_HASH_SIZE]; /* of what we sent, and the server has */
    uint32_t   position;
    uint32_t   opened_position, progress;
    uint8_t    opened_hash[CMIF_WIRE_HASH_SIZE];
    uint64_t   seen; /* frames */
} client;

static void client_close(client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd  = -1;
    c->ssl = NULL;
    c->ctx = NULL;
}

static bool client_write(client *c, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    while (size) {
        ssize_t n = c->ssl ? SSL_write(c->ssl, at, (int) size) : send(c->fd, at, size, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t) n;
    }
    return true;
}

static bool client_send(client *c, const cmif_frame *frame)
{
    static uint8_t bytes[CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX];
    size_t         used;
    cmif_err       err = {0};
    if (cmif_wire_sent(&c->wire, frame, &err) != CMIF_OK ||
        cmif_frame_encode(frame, bytes, sizeof bytes, &used, &err) != CMIF_OK) {
        fprintf(stderr, "client: %s\n", err.text);
        return false;
    }
    return client_write(c, bytes, used);
}

/* The next frame's kind, PROGRESS and PONG counted and skipped; 0: the connection ended, or nothing came in time. */
static unsigned client_next_within(client *c, uint64_t ms)
{
    const uint64_t end = now_ms() + ms;
    for (;;) {
        size_t   size = 0, used;
        cmif_err err  = {0};
        memmove(c->in, c->in + c->in_used, c->in_size - c->in_used);
        c->in_size -= c->in_used;
        c->in_used = 0;
        if (cmif_frame_peek(c->in, c->in_size, &size, &err) != CMIF_OK) {
            fprintf(stderr, "client: %s\n", err.text);
            return 0;
        }
        if (size && size <= c->in_size) {
            if (cmif_frame_decode(c->in, size, &c->frame, &used, &err) != CMIF_OK ||
                cmif_wire_received(&c->wire, &c->frame, &err) != CMIF_OK) {
                fprintf(stderr, "client: %s\n", err.text);
                return 0;
            }
            c->in_used = used; /* borrowed pointers live until the next call */
            c->seen++;
            if (c->frame.kind == CMIF_FRAME_PROGRESS || c->frame.kind == CMIF_FRAME_PONG) {
                c->progress++;
                continue;
            }
            return c->frame.kind;
        }
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int ready = c->ssl && SSL_has_pending(c->ssl) ? 1 : poll(&p, 1, (int) (end > now_ms() ? end - now_ms() : 0));
        if (ready <= 0) {
            return 0;
        }
        ssize_t n = c->ssl ? SSL_read(c->ssl, c->in + c->in_size, (int) (sizeof c->in - c->in_size))
                           : recv(c->fd, c->in + c->in_size, sizeof c->in - c->in_size, 0);
        if (n <= 0) {
            return 0;
        }
        c->in_size += (size_t) n;
    }
}

static unsigned client_next(client *c)
{
    return client_next_within(c, PATIENCE_MS);
}

static bool client_connect_unix(client *c, const process *p)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memset(c, 0, sizeof *c);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", p->socket);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(c->fd, (struct sockaddr *) &address, sizeof address) == 0;
}

static int connect_tcp(const process *p)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t) p->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *) &address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* identity: PEM with certificate and key, or NULL. */
static bool client_connect_tls(client *c, const process *p, const char *alpn, const char *identity)
{
    uint8_t       list[16] = {(uint8_t) strlen(alpn)};
    unsigned char digest[32];
    char          pin[80] = "sha256:";

    memset(c, 0, sizeof *c);
    memcpy(list + 1, alpn, strlen(alpn));
    c->fd  = connect_tcp(p);
    c->ctx = SSL_CTX_new(TLS_client_method());
    if (identity && (SSL_CTX_use_certificate_file(c->ctx, identity, SSL_FILETYPE_PEM) != 1 ||
                     SSL_CTX_use_PrivateKey_file(c->ctx, identity, SSL_FILETYPE_PEM) != 1)) {
        return false;
    }
    c->ssl = SSL_new(c->ctx);
    if (list[0]) {
        SSL_set_alpn_protos(c->ssl, list, 1u + list[0]);
    }
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) {
        return false;
    }
    X509_digest(SSL_get0_peer_certificate(c->ssl), EVP_sha256(), digest, NULL);
    for (size_t i = 0; i < sizeof digest; i++) {
        snprintf(pin + 7 + 2 * i, 3, "%02x", digest[i]);
    }
    CHECK(strcmp(pin, p->pin) == 0);
    return true;
}

static bool client_hello(client *c)
{
    return client_send(c, &(cmif_frame){.kind = CMIF_FRAME_HELLO, .hello = {.version = 1, .version_min = 1}}) &&
           client_next(c) == CMIF_FRAME_WELCOME;
}

/* handle NULL: a new session */
static bool client_open(client *c, const uint8_t *handle)
{
    cmif_frame open_frame = {.kind = CMIF_FRAME_OPEN};
    if (handle) {
        memcpy(open_frame.open.handle, handle, sizeof open_frame.open.handle);
    }
    if (!client_send(c, &open_frame) || client_next(c) != CMIF_FRAME_OPENED) {
        return false;
    }
    memcpy(c->handle, c->frame.opened.handle, sizeof c->handle);
    memcpy(c->opened_hash, c->frame.opened.hash, sizeof c->opened_hash);
    c->opened_position = c->frame.opened.position;
    return true;
}

static bool client_start(client *c, const process *p)
{
    return client_connect_unix(c, p) && client_hello(c) && client_open(c, NULL);
}

static bool client_rows(client *c, cmif_row_type type, const uint32_t *ids, size_t count)
{
    static uint8_t bytes[256 * WIDTH * sizeof(float)];
    size_t         size = cmif_row_size(type, WIDTH);
    cmif_frame     f    = {.kind = CMIF_FRAME_ROWS,
                           .rows = {.first = c->position, .count = (uint16_t) count, .bytes = bytes, .size = count * size}};

    for (size_t i = 0; i < count; i++) {
        uint8_t *row = bytes + i * size;
        if (type == CMIF_ROWS_ID) {
            cmif_writer w = cmif_writer_over(row, size);
            cmif_write_u32(&w, ids[i]);
        } else {
            cmif_row_encode(type, table + ids[i] * WIDTH, row, WIDTH);
        }
        cmif_wire_hash(c->hash, type, row, size);
    }
    c->position += (uint32_t) count;
    return client_send(c, &f);
}

typedef struct task {
    cmif_row_type   type;
    uint16_t        flags;
    const uint32_t *ids;
    size_t          count;
    uint32_t        max_tokens, step;
    cmif_sampling   sampling;
    size_t          pause_at; /* call pause after so many tokens; 0: never */
    void (*pause)(void *context);
    void *context;
} task;

static const cmif_sampling greedy = {.top_p = 1};

static bool client_begin(client *c, const task *t)
{
    cmif_frame f = {.kind  = CMIF_FRAME_BEGIN,
                    .begin = {.row_type   = (uint8_t) t->type,
                              .flags      = t->flags,
                              .position   = c->position,
                              .row_count  = (uint32_t) t->count,
                              .max_tokens = t->max_tokens,
                              .step       = t->step,
                              .sampling   = t->sampling}};
    memcpy(f.begin.hash, c->hash, sizeof c->hash);
    return client_send(c, &f);
}

/* Run a whole BEGIN. Tokens go to out, their number to *count; the kind of the frame that ended it: DONE, RESET, ERROR,
 * or 0. */
static unsigned client_generate(client *c, const task *t, uint32_t *out, size_t *count)
{
    *count = 0;
    if (!client_begin(c, t) || !client_rows(c, t->type, t->ids, t->count)) {
        return client_next(c); /* it was refused: the reason may still be there */
    }
    for (;;) {
        unsigned kind = client_next(c);
        if (kind == CMIF_FRAME_LOGITS) {
            continue;
        }
        if (kind != CMIF_FRAME_TOKEN) {
            return kind;
        }
        uint32_t id     = c->frame.token.id;
        out[(*count)++] = id;
        if (t->pause && *count == t->pause_at) {
            t->pause(t->context);
        }
        if (*count == t->max_tokens) {
            continue; /* its row is not wanted */
        }
        if (t->flags & CMIF_BEGIN_LOOP) {
            uint8_t     bytes[4];
            cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
            cmif_write_u32(&w, id);
            cmif_wire_hash(c->hash, CMIF_ROWS_ID, bytes, sizeof bytes);
            c->position++;
        } else if (!client_rows(c, t->type, &id, 1)) {
            return client_next(c);
        }
    }
}

static bool same_ids(const uint32_t *a, const uint32_t *b, size_t count)
{
    return memcmp(a, b, count * sizeof *a) == 0;
}

/* Golden prompt `which` (1 or 2) from position 0, checked. */
static bool generates_golden(client *c, int which, cmif_row_type type, uint16_t flags)
{
    uint32_t out[TOKENS];
    size_t   count;
    task     t  = {.type       = type,
                   .flags      = flags,
                   .ids        = which == 1 ? prompt_1 : prompt_2,
                   .count      = which == 1 ? COUNT(prompt_1) : COUNT(prompt_2),
                   .max_tokens = TOKENS,
                   .sampling   = greedy};
    c->position = 0;
    memset(c->hash, 0, sizeof c->hash);
    unsigned kind = client_generate(c, &t, out, &count);
    if (kind != CMIF_FRAME_DONE || count != TOKENS) {
        fprintf(stderr, "ended with %s after %zu tokens: %.*s\n", kind ? cmif_frame_name(kind) : "nothing", count,
                kind == CMIF_FRAME_ERROR ? c->frame.error.size : 0, c->frame.error.text);
        return false;
    }
    return same_ids(out, which == 1 ? golden_1 : golden_2, TOKENS) && c->frame.done.position == c->position &&
           memcmp(c->frame.done.hash, c->hash, sizeof c->hash) == 0 && c->frame.done.reason == CMIF_DONE_LENGTH;
}

static bool ends_with_error(client *c, unsigned code)
{
    unsigned kind;
    while ((kind = client_next(c)) == CMIF_FRAME_TOKEN || kind == CMIF_FRAME_LOGITS) {
    }
    if (kind != CMIF_FRAME_ERROR || c->frame.error.code != code) {
        fprintf(stderr, "expected ERROR %u, got %s %u: %.*s\n", code, kind ? cmif_frame_name(kind) : "the end",
                kind == CMIF_FRAME_ERROR ? c->frame.error.code : 0, kind == CMIF_FRAME_ERROR ? c->frame.error.size : 0,
                c->frame.error.text);
        return false;
    }
    return client_next(c) == 0; /* and then the connection ends */
}

/* Does the ERROR that ended it say this? */
static bool was_told(const client *c, const char *text)
{
    char said[CMIF_WIRE_TEXT_MAX + 1] = {0};
    memcpy(said, c->frame.error.text, c->frame.error.size);
    return strstr(said, text) != NULL;
}

/* ---- the tests ---- */

static void golden_tokens_come_through_unix_and_tls(void)
{
    process p;
    client  c;

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--max-context", "256", NULL});
    CHECK(p.port > 0 && strlen(p.pin) == 71);
    CHECK(client_connect_tls(&c, &p, "cmif/1", NULL) && client_hello(&c));
    CHECK(c.frame.welcome.width == WIDTH && c.frame.welcome.vocab == VOCAB && c.frame.welcome.context == 256);
    CHECK(c.frame.welcome.flags == CMIF_WELCOME_TABLE && c.frame.welcome.rows_max > 1000);
    CHECK(client_open(&c, NULL));
    CHECK(generates_golden(&c, 1, CMIF_ROWS_F32, 0));
    CHECK(generates_golden(&c, 2, CMIF_ROWS_F16, CMIF_BEGIN_MARGIN)); /* the same session, another prompt */
    CHECK(generates_golden(&c, 1, CMIF_ROWS_ID, CMIF_BEGIN_LOOP));
    CHECK(generates_golden(&c, 2, CMIF_ROWS_BF16, CMIF_BEGIN_LOGITS));
    CHECK(generates_golden(&c, 2, CMIF_ROWS_F32, CMIF_BEGIN_LOOP));
    client_close(&c);

    CHECK(!client_connect_tls(&c, &p, "http/1.1", NULL)); /* another protocol */
    client_close(&c);
    CHECK(!client_connect_tls(&c, &p, "", NULL) || !client_hello(&c)); /* none at all */
    client_close(&c);
    CHECK(process_stop(&p) == 0);

    process_start(&p, NULL);
    CHECK(strncmp(p.ready, "ready unix:", 11) == 0);
    struct stat st;
    CHECK(stat(p.socket, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(client_start(&c, &p));
    CHECK(generates_golden(&c, 1, CMIF_ROWS_F32, 0));
    client_close(&c);
    CHECK(process_stop(&p) == 0);
    CHECK(access(p.socket, F_OK) != 0);
}

static void a_session_goes_on_where_it_was(void)
{
    process  p;
    client   a, b;
    uint32_t out[TOKENS];
    size_t   count;
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 10, .sampling = greedy};

    process_start(&p, (const char *[]){"--max-context", "256", NULL});
    CHECK(client_start(&a, &p));
    CHECK(client_generate(&a, &t, out, &count) == CMIF_FRAME_DONE && count == 10);
    client_close(&a); /* the line breaks */

    CHECK(client_connect_unix(&b, &p) && client_hello(&b) && client_open(&b, a.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) == 0);
    CHECK(b.opened_position == a.position && memcmp(b.opened_hash, a.hash, sizeof a.hash) == 0);
    b.position = a.position;
    memcpy(b.hash, a.hash, sizeof a.hash);
    t = (task){
        .type = CMIF_ROWS_F32, .ids = &out[9], .count = 1, .max_tokens = TOKENS - 10, .step = 10, .sampling = greedy};
    uint32_t rest[TOKENS];
    CHECK(client_generate(&b, &t, rest, &count) == CMIF_FRAME_DONE && count == TOKENS - 10);
    CHECK(same_ids(out, golden_1, 10) && same_ids(rest, golden_1 + 10, TOKENS - 10));

    /* another client takes the session while it streams: the first one is told, the cache is where the stream was cut
     */
    t          = (task){.type       = CMIF_ROWS_ID,
                        .flags      = CMIF_BEGIN_LOOP,
                        .ids        = prompt_1,
                        .count      = COUNT(prompt_1),
                        .max_tokens = 100000,
                        .sampling   = greedy};
    b.position = 0;
    memset(b.hash, 0, sizeof b.hash);
    CHECK(client_begin(&b, &t) && client_rows(&b, t.type, t.ids, t.count) && client_next(&b) == CMIF_FRAME_TOKEN);
    CHECK(client_connect_unix(&a, &p) && client_hello(&a) && client_open(&a, b.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) == 0 && a.opened_position >= COUNT(prompt_1));
    CHECK(ends_with_error(&b, CMIF_WIRE_E_PROTOCOL));
    client_close(&b);

    /* a prefix that is not what the cache holds, then one that is */
    t          = (task){.type = CMIF_ROWS_F32, .ids = prompt_1, .count = 2, .max_tokens = 3, .sampling = greedy};
    a.position = 3;
    a.hash[5] ^= 1;
    CHECK(client_generate(&a, &t, out, &count) == CMIF_FRAME_RESET && a.frame.reset.reason == CMIF_RESET_MISMATCH);
    a.position = 100000;
    CHECK(client_generate(&a, &t, out, &count) == CMIF_FRAME_ERROR && a.frame.error.code == CMIF_WIRE_E_CONTEXT);
    client_close(&a);

    CHECK(client_connect_unix(&a, &p) && client_hello(&a) && client_open(&a, b.handle));
    memset(a.hash, 0, sizeof a.hash); /* keep three rows of the five: they were sent as ids */
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t     bytes[4];
        cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
        cmif_write_u32(&w, prompt_1[i]);
        cmif_wire_hash(a.hash, CMIF_ROWS_ID, bytes, sizeof bytes);
    }
    a.position = 3;
    t = (task){.type = CMIF_ROWS_F32, .ids = prompt_1 + 3, .count = 2, .max_tokens = TOKENS, .sampling = greedy};
    CHECK(client_generate(&a, &t, out, &count) == CMIF_FRAME_DONE && same_ids(out, golden_1, TOKENS));

    /* CLOSE drops it: the handle is dead */
    CHECK(client_send(&a, &(cmif_frame){.kind = CMIF_FRAME_CLOSE}) && client_next(&a) == 0);
    client_close(&a);
    CHECK(client_connect_unix(&b, &p) && client_hello(&b) && client_open(&b, a.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) != 0 && b.opened_position == 0);
    client_close(&b);
    CHECK(process_stop(&p) == 0);
}

static void a_cancelled_stream_ends_soon_and_keeps_its_cache(void)
{
    process  p;
    client   c;
    uint32_t out[TOKENS];
    size_t   count;
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 400, .sampling = greedy};

    process_start(&p, NULL);
    CHECK(client_start(&c, &p));
    CHECK(client_begin(&c, &t) && client_rows(&c, t.type, t.ids, t.count) && client_next(&c) == CMIF_FRAME_TOKEN);
    CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}));
    CHECK(client_next(&c) == CMIF_FRAME_DONE && c.frame.done.reason == CMIF_DONE_CANCELLED);
    CHECK(c.frame.done.position == COUNT(prompt_1) && memcmp(c.frame.done.hash, c.hash, sizeof c.hash) == 0);
    t.ids        = golden_1;
    t.count      = 1;
    t.max_tokens = TOKENS - 1;
    CHECK(client_generate(&c, &t, out, &count) == CMIF_FRAME_DONE && same_ids(out, golden_1 + 1, TOKENS - 1));

    /* cancelled in the middle of its prompt: the server says how much of it counts, and for what */
    static uint32_t many[256];
    uint8_t         hash[CMIF_WIRE_HASH_SIZE] = {0}, row[WIDTH * 4];
    for (size_t i = 0; i < COUNT(many); i++) {
        many[i] = 300;
    }
    c.position = 0;
    memset(c.hash, 0, sizeof c.hash);
    CHECK(client_begin(&c, &(task){.type = CMIF_ROWS_F32, .count = 500, .max_tokens = 1, .sampling = greedy}));
    CHECK(client_rows(&c, CMIF_ROWS_F32, many, COUNT(many)));
    CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}) && client_next(&c) == CMIF_FRAME_DONE);
    CHECK(c.frame.done.position < 500);
    cmif_row_encode(CMIF_ROWS_F32, table + 300 * WIDTH, row, WIDTH);
    for (uint32_t i = 0; i < c.frame.done.position; i++) {
        cmif_wire_hash(hash, CMIF_ROWS_F32, row, sizeof row);
    }
    CHECK(memcmp(c.frame.done.hash, hash, sizeof hash) == 0);
    client_close(&c);
    CHECK(process_stop(&p) == 0);
}

static void the_longest_idle_session_makes_room(void)
{
    process  p;
    client   c[3];
    uint32_t out[TOKENS];
    size_t   count;
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 3, .sampling = greedy};

    process_start(&p, (const char *[]){"--max-sessions", "2", NULL});
    for (size_t i = 0; i < 3; i++) {
        CHECK(client_start(&c[i], &p));
        CHECK(client_generate(&c[i], &t, out, &count) == CMIF_FRAME_DONE && count == 3);
        pause_ms(5);
    }
    task more = {
        .type = CMIF_ROWS_F32, .ids = &golden_1[2], .count = 1, .max_tokens = 3, .step = 3, .sampling = greedy};
    CHECK(client_generate(&c[1], &more, out, &count) == CMIF_FRAME_DONE && same_ids(out, golden_1 + 3, 3));
    CHECK(client_generate(&c[0], &more, out, &count) == CMIF_FRAME_RESET &&
          c[0].frame.reset.reason == CMIF_RESET_EVICTED);
    CHECK(
        generates_golden(&c[0], 1, CMIF_ROWS_F32, 0)); /* the replay takes the slot of the third, idle longest by now */
    CHECK(client_generate(&c[2], &more, out, &count) == CMIF_FRAME_RESET &&
          c[2].frame.reset.reason == CMIF_RESET_EVICTED);
    for (size_t i = 0; i < 3; i++) {
        client_close(&c[i]);
    }
    CHECK(process_stop(&p) == 0);
}

static void who_finds_all_sessions_at_work_waits_in_turn(void)
{
    process  p;
    client   busy, next;
    uint32_t out[TOKENS];
    size_t   count;
    task     hold = {
            .type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 99, .sampling = greedy};
    task brief = {
        .type = CMIF_ROWS_F32, .ids = prompt_2, .count = COUNT(prompt_2), .max_tokens = 2, .sampling = greedy};

    process_start(&p, (const char *[]){"--max-sessions", "1", NULL});
    CHECK(client_start(&busy, &p) && client_start(&next, &p));
    CHECK(client_begin(&busy, &hold) && client_rows(&busy, hold.type, hold.ids, hold.count));
    CHECK(client_next(&busy) == CMIF_FRAME_TOKEN);
    CHECK(client_begin(&next, &brief) && client_rows(&next, brief.type, brief.ids, brief.count));
    CHECK(client_next_within(&next, 2500) == 0 && next.progress >= 1); /* a sign of life, no token */
    CHECK(client_send(&busy, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}) && client_next(&busy) == CMIF_FRAME_DONE);
    CHECK(client_next(&next) == CMIF_FRAME_TOKEN && next.frame.token.id == golden_2[0]);
    CHECK(client_send(&next, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}) && client_next(&next) == CMIF_FRAME_DONE);

    /* a wait can be cancelled */
    busy.position = 0;
    memset(busy.hash, 0, sizeof busy.hash);
    CHECK(client_begin(&busy, &hold) && client_rows(&busy, hold.type, hold.ids, hold.count));
    CHECK(client_next(&busy) == CMIF_FRAME_TOKEN);
    next.position = 0;
    memset(next.hash, 0, sizeof next.hash);
    CHECK(client_begin(&next, &brief) && client_send(&next, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}));
    CHECK(client_next(&next) == CMIF_FRAME_DONE && next.frame.done.reason == CMIF_DONE_CANCELLED);
    /* a connection that is lost gives its slot back */
    client_close(&busy);
    CHECK(client_generate(&next, &brief, out, &count) == CMIF_FRAME_DONE && same_ids(out, golden_2, 2));
    client_close(&next);
    CHECK(process_stop(&p) == 0);
}

/* A client that waits for its turn has sent more than the server takes in: the rest is read when there is room, to the
 * last byte, wherever in a TLS record the server had stopped. */
static void what_a_waiting_client_sent_is_read_to_its_end(void)
{
    process p;
    client  busy, next;
    task    hold = {
           .type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 400, .sampling = greedy};

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--max-sessions", "1", NULL});
    CHECK(client_start(&busy, &p));
    for (size_t beyond = 500; beyond < 17000; beyond += 5000) {
        busy.position = 0;
        memset(busy.hash, 0, sizeof busy.hash);
        CHECK(client_begin(&busy, &hold) && client_rows(&busy, hold.type, hold.ids, hold.count));
        CHECK(client_next(&busy) == CMIF_FRAME_TOKEN);

        static uint8_t bytes[2 << 20], row[4] = {1, 1, 0, 0};
        size_t         size = 0, used, count = 0;
        for (const size_t goal = (1u << 20) + beyond; size < goal; count++) {
            size_t     left = goal - size;
            cmif_frame f    = {.kind = CMIF_FRAME_ROWS,
                               .pad  = (uint16_t) (left > 60000 ? 60000
                                                   : left > 20  ? left - 20
                                                                : 0),
                               .rows = {.first = (uint32_t) count, .count = 1, .bytes = row, .size = 4}};
            CHECK(cmif_frame_encode(&f, bytes + size, sizeof bytes - size, &used, NULL) == CMIF_OK);
            size += used;
        }
        CHECK(client_connect_tls(&next, &p, "cmif/1", NULL) && client_hello(&next) && client_open(&next, NULL));
        CHECK(client_begin(&next, &(task){.type = CMIF_ROWS_ID, .count = count, .max_tokens = 1, .sampling = greedy}));
        CHECK(client_write(&next, bytes, size));
        pause_ms(100);
        CHECK(client_send(&busy, &(cmif_frame){.kind = CMIF_FRAME_CANCEL}) && client_next(&busy) == CMIF_FRAME_DONE);
        next.wire.state     = CMIF_WIRE_STREAM; /* the rows went past its machine */
        next.wire.rows_left = 0;
        next.wire.next      = (uint32_t) count;
        CHECK(client_next_within(&next, 3000) == CMIF_FRAME_TOKEN && client_next(&next) == CMIF_FRAME_DONE);
        client_close(&next);
    }
    client_close(&busy);
    CHECK(process_stop(&p) == 0);
}

static void crash(void *context)
{
    kill(child_of(*(pid_t *) context), SIGKILL);
}

static void hang(void *context)
{
    kill(child_of(*(pid_t *) context), SIGSTOP);
}

/* Generate with the engine disturbed after `at` tokens; replay as a client does; false when tokens differ from
 * expected. */
static bool survives(client *c, pid_t *server, void (*disturb)(void *), size_t at, cmif_sampling sampling,
                     const uint32_t *expected)
{
    uint32_t ids[COUNT(prompt_1) + TOKENS];
    uint32_t got[TOKENS];
    size_t   done = 0, resets = 0;

    memcpy(ids, prompt_1, sizeof prompt_1);
    while (done < TOKENS) {
        size_t count = 0;
        task   t     = {.type       = CMIF_ROWS_F32,
                        .ids        = ids,
                        .count      = COUNT(prompt_1) + done,
                        .max_tokens = (uint32_t) (TOKENS - done),
                        .step       = (uint32_t) done,
                        .sampling   = sampling,
                        .pause_at   = at,
                        .pause      = resets ? NULL : disturb,
                        .context    = server};
        c->position  = 0;
        memset(c->hash, 0, sizeof c->hash);
        unsigned kind = client_generate(c, &t, got + done, &count);
        memcpy(ids + COUNT(prompt_1) + done, got + done, count * sizeof *got);
        done += count;
        if (kind == CMIF_FRAME_RESET && c->frame.reset.reason == CMIF_RESET_ENGINE) {
            resets++;
        } else if (kind != CMIF_FRAME_DONE) {
            return false;
        }
    }
    return (resets == 1 || !disturb) && same_ids(got, expected, TOKENS);
}

static void a_killed_or_hung_engine_costs_a_replay_and_nothing_else(void)
{
    process             p;
    client              c, idle;
    uint32_t            seeded[TOKENS], out[TOKENS];
    size_t              count;
    const cmif_sampling hot = {.temperature = 0.8f, .top_p = 0.95f, .min_p = 0.01f, .top_k = 40, .seed = 42};
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = TOKENS, .sampling = hot};

    process_start(&p, (const char *[]){"--stall", "1", NULL});
    CHECK(client_start(&c, &p) && client_start(&idle, &p));
    CHECK(client_generate(&c, &t, seeded, &count) == CMIF_FRAME_DONE && count == TOKENS);
    CHECK(!same_ids(seeded, golden_1, TOKENS));
    CHECK(generates_golden(&idle, 2, CMIF_ROWS_F32, 0));
    const pid_t before = child_of(p.pid);
    for (size_t at = 1; at < TOKENS; at += 9) {
        CHECK(survives(&c, &p.pid, crash, at, at % 2 ? greedy : hot, at % 2 ? golden_1 : seeded));
    }
    CHECK(survives(&c, &p.pid, hang, 20, greedy, golden_1));
    CHECK(child_of(p.pid) > 0 && child_of(p.pid) != before);
    CHECK(process_said(&p, "signal 9") && process_said(&p, "no sign of life"));

    /* the session that was idle then has lost its cache, and is told why */
    t = (task){.type = CMIF_ROWS_F32, .ids = prompt_1, .count = 1, .max_tokens = 1, .sampling = greedy};
    CHECK(client_generate(&idle, &t, out, &count) == CMIF_FRAME_RESET && idle.frame.reset.reason == CMIF_RESET_ENGINE);
    CHECK(generates_golden(&idle, 2, CMIF_ROWS_F32, 0));
    client_close(&c);
    client_close(&idle);
    CHECK(process_stop(&p) == 0);
}

static void an_engine_that_keeps_dying_is_given_up(void)
{
    process p;
    client  c;
    pid_t   last = 0;

    process_start(&p, NULL);
    CHECK(client_start(&c, &p));
    for (uint64_t end = now_ms() + 12000; !process_said(&p, "keeps failing") && now_ms() < end; pause_ms(10)) {
        pid_t engine = child_of(p.pid);
        if (engine > 0 && engine != last) {
            kill(engine, SIGKILL);
            last = engine;
        }
    }
    CHECK(process_said(&p, "keeps failing"));
    CHECK(client_begin(&c, &(task){.type = CMIF_ROWS_F32, .count = 1, .max_tokens = 1, .sampling = greedy}));
    CHECK(ends_with_error(&c, CMIF_WIRE_E_ENGINE));
    client_close(&c);
    CHECK(process_stop(&p) == 0);
}

/* A copy of the server beside an engine program of our own. */
static void start_with_engine(process *p, const char *script)
{
    char command[1024], program[256];
    snprintf(program, sizeof program, "%s/fake/bin/cmif-server", folder);
    snprintf(command, sizeof command,
             "mkdir -p %s/fake/bin %s/fake/libexec/cmif && cp %s %s && printf '%%s\\n' '#!/bin/sh' '%s' > "
             "%s/fake/libexec/cmif/cmif-engine && chmod +x %s/fake/libexec/cmif/cmif-engine",
             folder, folder, SERVER, program, script, folder, folder);
    CHECK(system(command) == 0);
    process_start_program(p, program, NULL);
}

static void what_keeps_it_from_starting_is_one_sentence(void)
{
    process p, q;
    char    path[256], spec[300];

    start_with_engine(&p, "kill -9 $$");
    CHECK(process_wait(&p, 5000) == 1 && p.ready[0] == '\0' && process_said(&p, "signal 9") &&
          process_said(&p, "while loading the model"));
    close(p.input);
    start_with_engine(&p, "echo nonsense nonsense nonsense >&3; exec sleep 100");
    CHECK(process_wait(&p, 5000) == 1 && process_said(&p, "makes no sense"));
    close(p.input);

    process_start(&p, (const char *[]){"-m", "/nonexistent/server.gguf", NULL});
    CHECK(process_wait(&p, 5000) == 1 && process_said(&p, "/nonexistent/server.gguf"));
    CHECK(access(p.socket, F_OK) != 0); /* nothing is left behind */
    close(p.input);
    process_start(&p, (const char *[]){"--max-context", "100000", NULL});
    CHECK(process_wait(&p, 5000) == 1 && process_said(&p, "100000"));
    close(p.input);
    process_start(&p, (const char *[]){"--max-sessions", "0", NULL});
    CHECK(process_wait(&p, 5000) == 2 && process_said(&p, "1 to 256"));
    close(p.input);
    process_start(&p, (const char *[]){"--listen", "nowhere", NULL});
    CHECK(process_wait(&p, 5000) == 1 && process_said(&p, "unix:PATH"));
    close(p.input);

    /* somebody is there already: TCP, then unix */
    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", NULL});
    snprintf(spec, sizeof spec, "127.0.0.1:%d", p.port);
    process_start(&q, (const char *[]){"--listen", spec, NULL});
    CHECK(process_wait(&q, 5000) == 1 && process_said(&q, "stop the other program"));
    close(q.input);
    CHECK(process_stop(&p) == 0);
    process_start(&p, NULL);
    snprintf(spec, sizeof spec, "unix:%s", p.socket);
    process_start(&q, (const char *[]){"--listen", spec, NULL});
    CHECK(process_wait(&q, 5000) == 1 && process_said(&q, "already listening"));
    close(q.input);
    client c;
    CHECK(client_start(&c, &p)); /* and the one that was there is still reachable */
    client_close(&c);

    /* the file that a killed server leaves is replaced; a file that is no socket is not */
    kill(p.pid, SIGKILL);
    process_wait(&p, 1000);
    close(p.input);
    CHECK(access(p.socket, F_OK) == 0);
    process_start(&q, (const char *[]){"--listen", spec, NULL});
    CHECK(strncmp(q.ready, "ready unix:", 11) == 0 && process_stop(&q) == 0);
    snprintf(path, sizeof path, "%s/file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(spec, sizeof spec, "unix:%s", path);
    process_start(&q, (const char *[]){"--listen", spec, NULL});
    CHECK(process_wait(&q, 5000) == 1 && process_said(&q, "is not a socket") && access(path, F_OK) == 0);
    close(q.input);
}

static bool is_gone(pid_t pid)
{
    for (int i = 0; i < 1000; i++, pause_ms(5)) {
        char path[64], state = 'Z';
        snprintf(path, sizeof path, "/proc/%d/stat", (int) pid);
        FILE *file = fopen(path, "r");
        if (!file) {
            return true;
        }
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
            state = 'Z';
        }
        fclose(file);
        if (state == 'Z') { /* nobody waits for it, here: it is as dead as it gets */
            return true;
        }
    }
    return false;
}

static void signals_end_it_gracefully(void)
{
    process  p;
    client   idle, loop, feed;
    uint32_t out[TOKENS];
    size_t   count;
    task     hold = {
            .type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 300, .sampling = greedy};
    task brief       = hold;
    brief.max_tokens = TOKENS;
    brief.pause_at   = 5;
    brief.pause      = NULL;

    process_start(&p, NULL);
    const pid_t engine = child_of(p.pid);
    CHECK(client_start(&idle, &p) && client_start(&loop, &p) && client_start(&feed, &p));
    CHECK(client_begin(&feed, &hold) && client_rows(&feed, hold.type, hold.ids, hold.count));
    CHECK(client_next(&feed) == CMIF_FRAME_TOKEN);
    CHECK(client_begin(&loop, &brief) && client_rows(&loop, brief.type, brief.ids, brief.count));
    CHECK(client_next(&loop) == CMIF_FRAME_TOKEN);
    out[0] = loop.frame.token.id;
    kill(p.pid, SIGTERM);
    CHECK(ends_with_error(&idle, CMIF_WIRE_E_SHUTDOWN));
    client_close(&idle);
    CHECK(access(p.socket, F_OK) != 0 && !client_connect_unix(&idle, &p)); /* nobody new comes in */
    client_close(&idle);
    for (count = 1; count < TOKENS && client_rows(&loop, CMIF_ROWS_F32, &out[count - 1], 1); count++) {
        CHECK(client_next(&loop) == CMIF_FRAME_TOKEN);
        out[count] = loop.frame.token.id;
    }
    CHECK(client_next(&loop) == CMIF_FRAME_DONE && same_ids(out, golden_1, TOKENS)); /* who was at work could end */
    CHECK(ends_with_error(&loop, CMIF_WIRE_E_SHUTDOWN));
    client_close(&loop);
    kill(p.pid, SIGTERM); /* but not for ever: asked twice, it goes */
    CHECK(process_wait(&p, 1000) == 0 && is_gone(engine));
    client_close(&feed);
    close(p.input);
}

/* Somebody starts a server and is killed: -9, no last words. */
static void dies_with_its_parent(void)
{
    for (int with_input = 0; with_input < 2; with_input++) {
        int   tell[2];
        pid_t pids[2] = {0, 0};
        CHECK(pipe(tell) == 0);
        pid_t starter = fork();
        if (starter == 0) {
            process p;
            int     out[2], nothing = open("/dev/null", O_RDWR);
            char    byte;
            if (with_input) {
                process_start(&p, (const char *[]){"--die-with-parent", NULL});
            } else { /* as `cmif run` does: standard output is the only pipe */
                char listen_on[160];
                snprintf(listen_on, sizeof listen_on, "unix:%s/parent", folder);
                if (pipe(out) != 0 || fcntl(out[0], F_SETFD, FD_CLOEXEC) != 0 || (p.pid = fork()) == 0) {
                    dup2(nothing, 0);
                    dup2(out[1], 1);
                    dup2(nothing, 2);
                    close(tell[1]);
                    execl(SERVER, SERVER, "-m", STORIES, "--die-with-parent", "--listen", listen_on, (char *) NULL);
                    _exit(127);
                }
                close(out[1]);
                if (read(out[0], &byte, 1) != 1) {
                    _exit(1);
                }
            }
            pids[0] = p.pid;
            pids[1] = child_of(p.pid);
            _exit(write(tell[1], pids, sizeof pids) == sizeof pids ? pause() : 1);
        }
        CHECK(read(tell[0], pids, sizeof pids) == sizeof pids && pids[0] > 0 && pids[1] > 0);
        kill(starter, SIGKILL);
        waitpid(starter, NULL, 0);
        CHECK(pids[0] > 0 && is_gone(pids[0]));
        CHECK(pids[1] > 0 && is_gone(pids[1]));
        close(tell[0]);
        close(tell[1]);
    }
    process p; /* and the engine with a server that is killed */
    process_start(&p, NULL);
    const pid_t engine = child_of(p.pid);
    kill(engine, SIGSTOP); /* as deep in its work as can be: it cannot see that the line is cut */
    kill(p.pid, SIGKILL);
    process_wait(&p, 1000);
    CHECK(engine > 0 && is_gone(engine));
    close(p.input);
}

/* ---- hostile peers ---- */

/* A neighbour in a process of its own: streams until told to stop, and must not notice anything. */
static pid_t neighbour_start(const process *p, int *stop)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        client        c;
        struct pollfd told   = {.fd = ends[0], .events = POLLIN};
        size_t        rounds = 0;
        close(ends[1]);
        bool ok = client_start(&c, p);
        while (ok && poll(&told, 1, 0) == 0) {
            uint64_t began = now_ms();
            ok             = generates_golden(&c, rounds % 2 ? 1 : 2, rounds % 3 ? CMIF_ROWS_F32 : CMIF_ROWS_F16, 0);
            ok             = ok && now_ms() - began < 10000;
            rounds++;
        }
        _exit(ok && rounds > 3 ? 0 : 1);
    }
    close(ends[0]);
    *stop = ends[1];
    return pid;
}

static bool neighbour_was_fine(pid_t pid, int stop)
{
    int status = -1;
    close(stop);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A good conversation up to its first token, as bytes. */
static size_t good_conversation(uint8_t *bytes, size_t room, size_t *starts, size_t *start_count)
{
    static uint8_t   rows[COUNT(prompt_1) * WIDTH * 4];
    size_t           at       = 0, used;
    const cmif_frame frames[] = {
        {.kind = CMIF_FRAME_HELLO, .hello = {.version = 1, .version_min = 1}},
        {.kind = CMIF_FRAME_OPEN},
        {.kind  = CMIF_FRAME_BEGIN,
         .begin = {.row_type = CMIF_ROWS_F32, .row_count = COUNT(prompt_1), .max_tokens = 1, .sampling = {.top_p = 1}}},
        {.kind = CMIF_FRAME_ROWS, .rows = {.count = COUNT(prompt_1), .bytes = rows, .size = sizeof rows}},
    };
    for (size_t i = 0; i < COUNT(prompt_1); i++) {
        cmif_row_encode(CMIF_ROWS_F32, table + prompt_1[i] * WIDTH, rows + i * WIDTH * 4, WIDTH);
    }
    *start_count = 0;
    for (size_t i = 0; i < COUNT(frames); i++) {
        starts[(*start_count)++] = at;
        CHECK(cmif_frame_encode(&frames[i], bytes + at, room - at, &used, NULL) == CMIF_OK);
        at += used;
    }
    return at;
}

/* Send bytes as they are, then read whatever comes. true: the server ended the connection, or answered with a token. */
static bool server_copes(const process *p, const uint8_t *bytes, size_t size, bool half_close)
{
    client c;
    if (!client_connect_unix(&c, p)) {
        return false;
    }
    client_write(&c, bytes, size); /* a server that closed early is fine, too */
    if (half_close) {
        shutdown(c.fd, SHUT_WR);
    }
    bool ended = false;
    for (;;) {
        struct pollfd f = {.fd = c.fd, .events = POLLIN};
        ssize_t       n = poll(&f, 1, 5000) == 1 ? recv(c.fd, c.in + c.in_size, sizeof c.in - c.in_size, 0) : -2;
        if (n == -2) {
            break;
        }
        if (n <= 0) {
            ended = true;
            break;
        }
        c.in_size += (size_t) n;
    }
    client_close(&c);
    return ended;
}

/* Open a session and BEGIN, then send one ROWS frame made by the caller. */
static bool rows_are_refused(const process *p, cmif_row_type type, uint32_t row_count, const cmif_frame *rows,
                             unsigned code)
{
    client  c;
    uint8_t bytes[8192];
    size_t  used = 0;
    task    t    = {.type = type, .count = row_count, .max_tokens = 1, .sampling = greedy};
    bool    ok   = client_start(&c, p) && client_begin(&c, &t);
    ok = ok && cmif_frame_encode(rows, bytes, sizeof bytes, &used, NULL) == CMIF_OK; /* our own machine would refuse */
    ok = ok && client_write(&c, bytes, used) && ends_with_error(&c, code);
    char text[CMIF_WIRE_TEXT_MAX +
              1]; /* the engine would refuse them, too, in its own words: it must not have seen them */
    snprintf(text, sizeof text, "%.*s", c.frame.error.size, c.frame.error.text);
    ok = ok && !strstr(text, "chunk");
    client_close(&c);
    return ok;
}

static void bad_rows_are_refused(const process *p)
{
    uint8_t     bytes[3 * WIDTH * 4] = {0};
    cmif_frame  f = {.kind = CMIF_FRAME_ROWS, .rows = {.first = 0, .count = 2, .bytes = bytes, .size = 2 * WIDTH * 4}};
    const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -1.1e4f};

    for (size_t i = 0; i < COUNT(bad); i++) {
        cmif_writer w = cmif_writer_over(bytes + (WIDTH + 5) * 4, 4);
        cmif_write_f32(&w, bad[i]);
        CHECK(rows_are_refused(p, CMIF_ROWS_F32, 2, &f, CMIF_WIRE_E_ROWS));
    }
    memset(bytes, 0, sizeof bytes);
    bytes[8] = 0, bytes[9] = 0x7c; /* infinity as f16 */
    f.rows.size = 2 * WIDTH * 2;
    CHECK(rows_are_refused(p, CMIF_ROWS_F16, 2, &f, CMIF_WIRE_E_ROWS));
    memset(bytes, 0, sizeof bytes);
    CHECK(rows_are_refused(p, CMIF_ROWS_F32, 2, &f, CMIF_WIRE_E_ROWS)); /* half the width */
    f.rows.size = 2 * (WIDTH + 1) * 4;
    CHECK(rows_are_refused(p, CMIF_ROWS_F32, 2, &f, CMIF_WIRE_E_ROWS)); /* one float too many */
    f.rows.size = 2 * WIDTH * 4;
    CHECK(rows_are_refused(p, CMIF_ROWS_ID, 2, &f, CMIF_WIRE_E_ROWS));      /* rows where ids were promised */
    CHECK(rows_are_refused(p, CMIF_ROWS_F32, 1, &f, CMIF_WIRE_E_PROTOCOL)); /* more than promised */
    f.rows.first = 1;
    CHECK(rows_are_refused(p, CMIF_ROWS_F32, 3, &f, CMIF_WIRE_E_PROTOCOL)); /* a gap */
    f.rows.first       = 0;
    const uint8_t id[] = {0, 2, 0, 0, 1, 0, 0, 0}; /* 512: one beyond */
    f.rows.bytes       = id;
    f.rows.size        = sizeof id;
    CHECK(rows_are_refused(p, CMIF_ROWS_ID, 2, &f, CMIF_WIRE_E_ROWS));
}

static void bad_begins_are_refused(const process *p)
{
    client c;
    const struct {
        cmif_frame_begin begin;
        unsigned         code;
    } cases[] = {
        {{.row_type = CMIF_ROWS_F32, .row_count = CMIF_WIRE_POSITIONS, .max_tokens = 1, .sampling = {.top_p = 1}},
         CMIF_WIRE_E_CONTEXT},
        {{.row_type = CMIF_ROWS_F32, .row_count = 1, .max_tokens = 1, .hash = {1}, .sampling = {.top_p = 1}},
         CMIF_WIRE_E_PROTOCOL},
        {{.mode       = CMIF_MODE_ENCODE,
          .row_type   = CMIF_ROWS_F32,
          .row_count  = 1,
          .max_tokens = 1,
          .sampling   = {.top_p = 1}},
         CMIF_WIRE_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        CHECK(client_start(&c, p));
        CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_BEGIN, .begin = cases[i].begin}));
        CHECK(ends_with_error(&c, cases[i].code));
        client_close(&c);
    }
    CHECK(client_connect_unix(&c, p));
    CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_HELLO, .hello = {.version = 9, .version_min = 9}}));
    CHECK(ends_with_error(&c, CMIF_WIRE_E_VERSION));
    client_close(&c);
}

static void hostile_peers_hurt_nobody_else(void)
{
    process p;
    client  silent, slow, half, greedy_client, deaf;
    int     stop = -1;
    uint8_t bytes[8192], lie[8192];
    size_t  starts[8], start_count;

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--max-sessions", "8", NULL});
    pid_t          neighbour = neighbour_start(&p, &stop);
    const uint64_t began     = now_ms();

    /* these take their time: a client that says nothing, one that sends a byte now and then, one that stops mid-prompt,
     * one that never reads */
    CHECK(client_connect_unix(&silent, &p));
    CHECK(client_start(&slow, &p) && client_write(&slow, "\x60", 1));
    CHECK(client_start(&half, &p) &&
          client_begin(&half, &(task){.type = CMIF_ROWS_F32, .count = 500, .max_tokens = 1, .sampling = greedy}));
    CHECK(client_rows(&half, CMIF_ROWS_F32, prompt_1, 1));
    CHECK(client_start(&deaf, &p));
    task flood = {.type       = CMIF_ROWS_ID,
                  .flags      = CMIF_BEGIN_LOOP | CMIF_BEGIN_LOGITS,
                  .ids        = prompt_1,
                  .count      = COUNT(prompt_1),
                  .max_tokens = 100000,
                  .sampling   = greedy};
    int  small = 2048;
    setsockopt(deaf.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    CHECK(client_begin(&deaf, &flood) && client_rows(&deaf, flood.type, flood.ids, flood.count));

    /* every truncation of a good conversation, then every byte of its headers and fields changed */
    const size_t size = good_conversation(bytes, sizeof bytes, starts, &start_count);
    for (size_t cut = 0; cut < size; cut += cut < starts[3] + 32 ? 1 : 97) {
        CHECK(server_copes(&p, bytes, cut, /* half_close= */ true));
    }
    for (size_t i = 0; i < start_count; i++) {
        size_t header_end = i == 3 ? starts[i] + CMIF_WIRE_HEADER_SIZE + 8 : starts[i + 1];
        for (size_t at = starts[i]; at < header_end; at++) {
            static const uint8_t flips[] = {0x01, 0x80, 0xff};
            for (size_t f = 0; f < COUNT(flips); f++) {
                memcpy(lie, bytes, size);
                lie[at] ^= flips[f];
                CHECK(server_copes(&p, lie, size, /* half_close= */ true));
            }
        }
    }
    /* frames in every wrong order: each frame of the conversation, sent first or twice */
    for (size_t i = 1; i < start_count; i++) {
        CHECK(server_copes(&p, bytes + starts[i], size - starts[i], /* half_close= */ false));
        memcpy(lie, bytes, size);
        size_t end = i + 1 < start_count ? starts[i + 1] : size;
        memcpy(lie + end, bytes + starts[i], end - starts[i]);
        CHECK(server_copes(&p, lie, end + end - starts[i], /* half_close= */ true));
    }
    /* noise, in the clear and on the TLS port */
    srand(7);
    for (int i = 0; i < 30; i++) {
        for (size_t k = 0; k < sizeof lie; k++) {
            lie[k] = (uint8_t) rand();
        }
        CHECK(server_copes(&p, lie, 1 + (size_t) rand() % 4000, /* half_close= */ true));
        int fd = connect_tcp(&p);
        CHECK(fd >= 0 && send(fd, lie, 500, MSG_NOSIGNAL) > 0);
        close(fd);
    }
    bad_rows_are_refused(&p);
    bad_begins_are_refused(&p);

    /* a session's handle is worth something only whole */
    client a, b;
    CHECK(client_start(&a, &p));
    memcpy(lie, a.handle, sizeof a.handle);
    lie[15] ^= 1;
    CHECK(client_connect_unix(&b, &p) && client_hello(&b) && client_open(&b, lie));
    CHECK(memcmp(b.handle, a.handle, sizeof a.handle) != 0 && memcmp(b.handle, lie, sizeof a.handle) != 0);
    client_close(&a);
    client_close(&b);

    /* pings without reading the answers: cut off, not hoarded */
    CHECK(client_connect_unix(&greedy_client, &p) && client_hello(&greedy_client));
    uint8_t pings[12 * 4096];
    for (size_t i = 0; i < sizeof pings; i += 12) {
        memcpy(pings + i, "\x04\0\0\0\x07\0\0\0\1\2\3\4", 12);
    }
    int rounds = 0;
    while (rounds < 4000 && client_write(&greedy_client, pings, sizeof pings)) {
        rounds++;
    }
    CHECK(rounds < 4000);
    client_close(&greedy_client);

    fprintf(stderr, "hostile cases: %d ms\n", (int) (now_ms() - began));

    /* by now the slow ones run out of time */
    CHECK(ends_with_error(&silent, CMIF_WIRE_E_IDLE));
    CHECK(now_ms() - began < 18000);
    for (int i = 0; i < 3 && now_ms() - began < 21000; i++) {
        client_write(&slow, "\0", 1);
        pause_ms(1500);
    }
    CHECK(ends_with_error(&slow, CMIF_WIRE_E_IDLE));
    CHECK(ends_with_error(&half, CMIF_WIRE_E_IDLE));
    CHECK(process_said(&p, "too much waits for the client"));
    while (!process_said(&p, "the client does not read") && now_ms() - began < 30000) {
        pause_ms(50);
    }
    CHECK(process_said(&p, "the client does not read"));
    client_close(&silent);
    client_close(&slow);
    client_close(&half);
    client_close(&deaf);
    CHECK(neighbour_was_fine(neighbour, stop));
    CHECK(!process_said(&p, "engine:")); /* the engine never died */
    fprintf(stderr, "slow cases: %d ms\n", (int) (now_ms() - began));
    CHECK(process_stop(&p) == 0);
}

/* ---- the rest ---- */

static bool make_identity(const char *path)
{
    EVP_PKEY *key  = EVP_EC_gen("P-256");
    X509     *cert = X509_new();
    FILE     *file = fopen(path, "w");
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    unsigned char name[64];
    snprintf((char *) name, sizeof name, "client %s", strrchr(path, '/'));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, name, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_version(cert, 2);
    bool ok = X509_set_pubkey(cert, key) == 1 && X509_sign(cert, key, EVP_sha256()) > 0 &&
              PEM_write_X509(file, cert) == 1 && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1;
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ok;
}

static void a_session_belongs_to_the_client_key(void)
{
    process  p;
    client   a, b;
    uint32_t out[TOKENS];
    size_t   count;
    char     one[256], two[256], ca[256], stranger[256], command[1024];
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 3, .sampling = greedy};

    snprintf(one, sizeof one, "%s/one.pem", folder);
    snprintf(two, sizeof two, "%s/two.pem", folder);
    snprintf(stranger, sizeof stranger, "%s/stranger.pem", folder);
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    CHECK(make_identity(one) && make_identity(two) && make_identity(stranger));
    snprintf(command, sizeof command, "cat %s %s > %s", one, two, ca);
    CHECK(system(command) == 0);
    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--client-ca", ca, NULL});
    CHECK(client_connect_tls(&a, &p, "cmif/1", one) && client_hello(&a) && client_open(&a, NULL));
    CHECK(client_generate(&a, &t, out, &count) == CMIF_FRAME_DONE && count == 3);
    client_close(&a);
    CHECK(client_connect_tls(&b, &p, "cmif/1", two) && client_hello(&b) && client_open(&b, a.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) != 0 && b.opened_position == 0);
    client_close(&b);
    CHECK(client_connect_tls(&b, &p, "cmif/1", one) && client_hello(&b) && client_open(&b, a.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) == 0 && b.opened_position == a.position);
    client_close(&b);
    CHECK(!client_connect_tls(&b, &p, "cmif/1", stranger) || !client_hello(&b));
    client_close(&b);
    CHECK(!client_connect_tls(&b, &p, "cmif/1", NULL) || !client_hello(&b));
    client_close(&b);
    CHECK(process_stop(&p) == 0);
}

static void too_many_clients_are_told_so(void)
{
    process p;
    client  c[4];

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--max-connections", "3", NULL});
    CHECK(client_start(&c[0], &p) && client_start(&c[1], &p) && client_start(&c[2], &p));
    CHECK(client_connect_tls(&c[3], &p, "cmif/1", NULL));
    CHECK(!client_hello(&c[3]) && c[3].frame.kind == CMIF_FRAME_ERROR && c[3].frame.error.code == CMIF_WIRE_E_BUSY);
    client_close(&c[3]);
    CHECK(generates_golden(&c[1], 1, CMIF_ROWS_F32, 0)); /* who was there stays */
    client_close(&c[0]);
    pause_ms(300);
    CHECK(client_start(&c[3], &p)); /* and a place that is free is given */
    for (size_t i = 1; i < COUNT(c); i++) {
        client_close(&c[i]);
    }
    CHECK(process_stop(&p) == 0);
}

static void idle_sessions_are_dropped(void)
{
    process  p;
    client   a, b;
    uint32_t out[TOKENS];
    size_t   count;
    task t = {.type = CMIF_ROWS_F32, .ids = prompt_1, .count = COUNT(prompt_1), .max_tokens = 3, .sampling = greedy};

    process_start(&p, (const char *[]){"--idle", "1", "--json", NULL});
    CHECK(strncmp(p.ready, "{\"ready\":true,\"listen\":[\"unix:", 30) == 0);
    CHECK(client_start(&a, &p) && client_generate(&a, &t, out, &count) == CMIF_FRAME_DONE);
    CHECK(client_start(&b, &p) && client_generate(&b, &t, out, &count) == CMIF_FRAME_DONE);
    client_close(&a);
    CHECK(ends_with_error(&b, CMIF_WIRE_E_IDLE));
    client_close(&b);
    pause_ms(300);
    CHECK(client_connect_unix(&b, &p) && client_hello(&b) && client_open(&b, a.handle));
    CHECK(memcmp(a.handle, b.handle, sizeof a.handle) != 0);
    client_close(&b);
    CHECK(process_stop(&p) == 0);
}

static bool encode(client *c, const uint32_t *ids, size_t count, float *out, size_t out_count)
{
    cmif_frame  begin = {.kind  = CMIF_FRAME_BEGIN,
                         .begin = {.mode       = CMIF_MODE_ENCODE,
                                   .row_type   = CMIF_ROWS_ID,
                                   .row_count  = (uint32_t) count,
                                   .max_tokens = 1,
                                   .sampling   = {.top_p = 1}}};
    uint8_t     bytes[4 * 64];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    for (size_t i = 0; i < count; i++) {
        cmif_write_u32(&w, ids[i]);
    }
    cmif_frame rows = {.kind = CMIF_FRAME_ROWS, .rows = {.count = (uint16_t) count, .bytes = bytes, .size = 4 * count}};
    if (!client_send(c, &begin) || !client_send(c, &rows) || !out) {
        return !out;
    }
    if (client_next(c) != CMIF_FRAME_VECTOR || c->frame.vector.count != out_count) {
        return false;
    }
    cmif_reader r = cmif_reader_over(c->frame.vector.bytes, 4 * out_count);
    for (size_t i = 0; i < out_count; i++) {
        out[i] = cmif_read_f32(&r);
    }
    return client_next(c) == CMIF_FRAME_DONE && c->frame.done.position == 0;
}

static void encoders_answer_many_at_once(void)
{
    static client  c[12];
    process        p;
    const uint32_t good[] = {101, 2009, 2003, 2307, 102}, bad[] = {101, 2009, 2003, 6659, 1998, 11771, 102};
    float          alone[2][2], together[2];

    if (access(MINILM, R_OK) != 0) {
        printf("       (no minilm-sst2 model)\n");
        return;
    }
    process_start(&p, (const char *[]){"-m", MINILM, NULL}); /* four sessions for twelve clients */
    for (size_t i = 0; i < COUNT(c); i++) {
        CHECK(client_start(&c[i], &p));
    }
    CHECK(encode(&c[0], good, COUNT(good), alone[0], 2) && encode(&c[0], bad, COUNT(bad), alone[1], 2));
    CHECK(alone[0][1] > alone[0][0] && alone[1][0] > alone[1][1]); /* "it is great", "it is terrible and boring" */
    for (size_t i = 0; i < COUNT(c); i++) {
        CHECK(encode(&c[i], i % 2 ? bad : good, i % 2 ? COUNT(bad) : COUNT(good), NULL, 2));
    }
    for (size_t i = 0; i < COUNT(c); i++) {
        CHECK(client_next(&c[i]) == CMIF_FRAME_VECTOR && c[i].frame.vector.count == 2);
        cmif_reader r = cmif_reader_over(c[i].frame.vector.bytes, 8);
        together[0]   = cmif_read_f32(&r);
        together[1]   = cmif_read_f32(&r);
        CHECK(fabsf(together[0] - alone[i % 2][0]) < 2e-3f && fabsf(together[1] - alone[i % 2][1]) < 2e-3f);
        CHECK(client_next(&c[i]) == CMIF_FRAME_DONE);
    }
    CHECK(client_begin(&c[0], &(task){.type = CMIF_ROWS_ID, .count = 1, .max_tokens = 1, .sampling = greedy}));
    CHECK(ends_with_error(&c[0], CMIF_WIRE_E_UNSUPPORTED));
    for (size_t i = 0; i < COUNT(c); i++) {
        client_close(&c[i]);
    }
    CHECK(process_stop(&p) == 0);
}

/* ---- evidence ---- */

static bool client_challenge(client *c, uint8_t nonce)
{
    cmif_frame f = {.kind = CMIF_FRAME_CHALLENGE};
    memset(f.challenge.nonce, nonce, sizeof f.challenge.nonce);
    return client_send(c, &f);
}

/* The whole of the answer; 0: something else came. */
static size_t client_proof(client *c, uint8_t *proof, size_t room)
{
    size_t size = 0;
    while (c->wire.proofs[0].open) {
        if (client_next(c) != CMIF_FRAME_EVIDENCE || c->frame.evidence.size > room - size) {
            return 0;
        }
        memcpy(proof + size, c->frame.evidence.bytes, c->frame.evidence.size);
        size += c->frame.evidence.size;
    }
    return size;
}

static void key_hash(const X509 *cert, uint8_t out[static 32])
{
    unsigned char *der  = NULL;
    const int      size = cert ? i2d_PUBKEY(X509_get0_pubkey(cert), &der) : 0;
    memset(out, 0, 32);
    CHECK(!cert || EVP_Digest(der, (size_t) size, out, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
}

/* Does this proof hold the report data that a client computes from its own end of the connection? */
static bool proves(client *c, uint8_t nonce_byte, uint8_t role, const uint8_t *bytes, size_t size,
                   uint8_t data[static 64])
{
    enum { SIM_AT = 8 + 4 + 32, QUOTE_AT = 48 + 320 };
    static const char  label[] = "EXPORTER-CMIF-attest-v1";
    cmif_proof         proof   = {0};
    cmif_evidence_item items[4];
    size_t             count = COUNT(items);
    uint8_t            nonce[32], exporter[32], own[32], other[32], expected[64];

    memset(nonce, nonce_byte, sizeof nonce);
    CHECK(SSL_export_keying_material(c->ssl, exporter, 32, label, sizeof label - 1, NULL, 0, 0) == 1);
    key_hash(SSL_get0_peer_certificate(c->ssl), own);
    key_hash(SSL_get_certificate(c->ssl), other);
    if (cmif_proof_read(bytes, size, &proof, NULL) != CMIF_OK ||
        cmif_evidence_read(proof.bundle, proof.bundle_size, items, &count, NULL) != CMIF_OK || count != 1) {
        return false;
    }
    const cmif_binding   binding = {.role        = role,
                                    .nonce       = nonce,
                                    .exporter    = exporter,
                                    .own_key     = own,
                                    .other_key   = other,
                                    .claims      = proof.claims_bytes,
                                    .claims_size = proof.claims_size};
    static const uint8_t zeros[32];
    CHECK(strcmp(proof.claims.program, "cmif-server " CMIF_VERSION) == 0);
    CHECK(memcmp(proof.claims.policy_hash, zeros, 32) == 0);
    CHECK(cmif_binding_hash(&binding, expected, NULL) == CMIF_OK);
    memcpy(data, items[0].data + (items[0].kind == CMIF_EVIDENCE_SIM ? SIM_AT : QUOTE_AT), 64);
    return memcmp(data, expected, 64) == 0;
}

/* Gramine's files, but for the quote, which is a pipe: who reads it waits until the test gives one. */
static void fake_device(char *path, size_t size)
{
    char file[300], command[1024];
    snprintf(path, size, "%s/device.%d", folder, process_number);
    snprintf(command, sizeof command, "mkdir %s && printf dcap > %s/attestation_type && : > %s/user_report_data", path,
             path, path);
    snprintf(file, sizeof file, "%s/quote", path);
    CHECK(system(command) == 0 && mkfifo(file, 0600) == 0);
}

/* A quote of this size for whoever waits for it now; all zeros instead: it makes no sense. */
static bool give_quote(const char *device, size_t size, bool sense)
{
    static uint8_t quote[200000];
    char           file[300];
    int            fd;

    snprintf(file, sizeof file, "%s/quote", device);
    for (uint64_t end = now_ms() + PATIENCE_MS; (fd = open(file, O_WRONLY | O_NONBLOCK | O_CLOEXEC)) < 0; pause_ms(2)) {
        if (now_ms() > end) {
            return false;
        }
    }
    fcntl(fd, F_SETFL, 0);
    memset(quote, 0, sizeof quote);
    quote[0] = sense ? 3 : 0;
    snprintf(file, sizeof file, "%s/user_report_data", device);
    int  data = open(file, O_RDONLY | O_CLOEXEC);
    bool good = data >= 0 && read(data, quote + 48 + 320, 64) == 64;
    for (size_t at = 0; good && at < size;) {
        ssize_t n = write(fd, quote + at, size - at);
        good      = n > 0;
        at += good ? (size_t) n : 0;
    }
    close(data);
    close(fd);
    pause_ms(50); /* until its reader has closed: the next one would take the same quote */
    return good;
}

static void evidence_is_for_this_connection_only(void)
{
#ifdef CMIF_SIMULATOR
    static uint8_t proof[3][70000];
    uint8_t        data[4][64], model_id[32];
    process        p;
    client         c, d;
    cmif_proof     parts;
    char           one[256];

    snprintf(one, sizeof one, "%s/prover.pem", folder);
    CHECK(make_identity(one));
    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--evidence", "sim", "--insecure-simulator",
                                       "--client-ca", one, NULL});
    CHECK(strstr(p.ready, " evidence sim INSECURE\n") && process_said(&p, "INSECURE"));
    CHECK(client_connect_tls(&c, &p, "cmif/1", one));
    size_t size = client_challenge(&c, 1) ? client_proof(&c, proof[0], sizeof proof[0]) : 0;
    CHECK(proves(&c, 1, 's', proof[0], size, data[0]));
    CHECK(!proves(&c, 2, 's', proof[0], size, data[1]) && !proves(&c, 1, 'c', proof[0], size, data[1]));
    CHECK(cmif_proof_read(proof[0], size, &parts, NULL) == CMIF_OK);
    memcpy(model_id, parts.claims.model_id, sizeof model_id);
    size = client_challenge(&c, 2) ? client_proof(&c, proof[1], sizeof proof[1]) : 0; /* before HELLO, again */
    CHECK(proves(&c, 2, 's', proof[1], size, data[1]) && memcmp(data[0], data[1], 64) != 0);
    CHECK(client_hello(&c) && memcmp(c.frame.welcome.model_id, model_id, sizeof model_id) == 0);
    CHECK(client_open(&c, NULL) && generates_golden(&c, 1, CMIF_ROWS_F32, 0));
    size = client_challenge(&c, 3) ? client_proof(&c, proof[1], sizeof proof[1]) : 0; /* between two BEGINs */
    CHECK(proves(&c, 3, 's', proof[1], size, data[1]));
    CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_CLOSE}));

    CHECK(client_connect_tls(&d, &p, "cmif/1", one));
    size = client_challenge(&d, 1) ? client_proof(&d, proof[2], sizeof proof[2]) : 0;
    CHECK(proves(&d, 1, 's', proof[2], size, data[2]) && memcmp(data[0], data[2], 64) != 0);
    CHECK(!proves(&d, 1, 's', proof[0], size, data[0]));
    client_close(&c);
    client_close(&d);
    CHECK(process_stop(&p) == 0);

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--evidence", "sim", "--insecure-simulator", "--json",
                                       NULL}); /* and for a client without a certificate */
    CHECK(strstr(p.ready, "\"evidence\":\"sim\",\"insecure\":true}") != NULL);
    CHECK(client_connect_tls(&c, &p, "cmif/1", NULL));
    size = client_challenge(&c, 1) ? client_proof(&c, proof[0], sizeof proof[0]) : 0;
    CHECK(proves(&c, 1, 's', proof[0], size, data[0]));
    client_close(&c);
    CHECK(process_stop(&p) == 0);
#else
    printf("       (no simulator in this build)\n");
#endif
}

static void who_cannot_show_evidence_says_why(void)
{
    process p;
    client  c;

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", NULL});
    CHECK(!strstr(p.ready, "evidence"));
    CHECK(client_connect_unix(&c, &p) && client_challenge(&c, 1));
    CHECK(ends_with_error(&c, CMIF_WIRE_E_UNSUPPORTED) && was_told(&c, "evidence needs TLS"));
    client_close(&c);
    CHECK(client_connect_tls(&c, &p, "cmif/1", NULL) && client_challenge(&c, 1));
    CHECK(ends_with_error(&c, CMIF_WIRE_E_UNSUPPORTED));
    CHECK(was_told(&c, "start it with --evidence KIND"));
    client_close(&c);
    CHECK(client_connect_tls(&c, &p, "cmif/1", NULL));
    CHECK(client_send(&c, &(cmif_frame){.kind = CMIF_FRAME_UNSEAL}));
    CHECK(ends_with_error(&c, CMIF_WIRE_E_UNSUPPORTED) && was_told(&c, "key server"));
    client_close(&c);
    CHECK(process_stop(&p) == 0);
}

static void evidence_that_cannot_be_made_keeps_the_server_from_starting(void)
{
    static const struct {
        const char *options[8];
        int         code;
        const char *said;
    } cases[] = {
        {{"--listen", "127.0.0.1:0", "--evidence", "snp", "--evidence-device", "/nonexistent/report"},
         1,
         "/nonexistent"},
        {{"--listen", "127.0.0.1:0", "--evidence", "sgx", "--evidence-device", "/nonexistent"}, 1, "gramine-sgx"},
        {{"--listen", "127.0.0.1:0", "--evidence", "tpm", "--evidence-device", "device:/nonexistent"}, 1, "TPM"},
        {{"--listen", "127.0.0.1:0", "--evidence", "sim"}, 2, "--insecure-simulator"},
        {{"--listen", "127.0.0.1:0", "--evidence", "sev"}, 2, "tdx, snp, sgx, tpm or sim"},
        {{"--evidence-device", "/nonexistent"}, 2, "--evidence KIND"},
        {{"--insecure-simulator"}, 2, "--evidence KIND"},
        {{"--evidence", "tpm", "--insecure-simulator"}, 2, "--insecure-simulator"},
#ifdef CMIF_SIMULATOR
        {{"--evidence", "sim", "--insecure-simulator"}, 1, "bound to TLS"}, /* a unix socket alone */
#endif
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        process p;
        process_start(&p, cases[i].options);
        CHECK(process_wait(&p, 5000) == cases[i].code && p.ready[0] == '\0' && process_said(&p, cases[i].said));
        CHECK(access(p.socket, F_OK) != 0);
        close(p.input);
    }
}

static void a_slow_device_keeps_nobody_else_waiting(void)
{
    enum { CROWD = 64 };
    static client  crowd[CROWD + 1];
    static uint8_t proof[220000];
    uint8_t        data[64];
    process        p;
    client         gone, busy, ready, late, other;
    char           device[256];

    fake_device(device, sizeof device);
    process_start(&p,
                  (const char *[]){"--listen", "127.0.0.1:0", "--evidence", "sgx", "--evidence-device", device, NULL});
    CHECK(strstr(p.ready, " evidence sgx\n") != NULL);
    CHECK(client_connect_tls(&gone, &p, "cmif/1", NULL) && client_challenge(&gone, 1)); /* at work from here on */
    pause_ms(300);
    const uint64_t began = now_ms();
    CHECK(client_connect_tls(&busy, &p, "cmif/1", NULL) && client_challenge(&busy, 2));
    CHECK(client_connect_tls(&ready, &p, "cmif/1", NULL) && client_hello(&ready) && client_open(&ready, NULL));
    CHECK(client_challenge(&ready, 3) && client_send(&ready, &(cmif_frame){.kind = CMIF_FRAME_PING}));
    CHECK(client_connect_tls(&late, &p, "cmif/1", NULL) && client_challenge(&late, 4));
    const uint64_t asked = now_ms();
    CHECK(client_next_within(&ready, 500) == 0 && ready.progress == 1); /* the PONG, no evidence */

    CHECK(client_start(&other, &p) && generates_golden(&other, 1, CMIF_ROWS_F32, 0));
    client_close(&other);
    CHECK(now_ms() - began < 8000);

    /* while a proof is owed nothing else is taken, and only so many may wait */
    CHECK(client_connect_tls(&other, &p, "cmif/1", NULL) && client_challenge(&other, 4));
    other.wire.proofs[0].open = false; /* a client that does not care */
    CHECK(client_challenge(&other, 5) && ends_with_error(&other, CMIF_WIRE_E_PROTOCOL));
    client_close(&other);
    CHECK(client_connect_tls(&other, &p, "cmif/1", NULL) && client_challenge(&other, 4));
    other.wire.proofs[0].open = false;
    CHECK(client_send(&other, &(cmif_frame){.kind = CMIF_FRAME_HELLO, .hello = {.version = 1, .version_min = 1}}));
    CHECK(ends_with_error(&other, CMIF_WIRE_E_PROTOCOL));
    client_close(&other);
    for (size_t i = 0; i < CROWD - 3; i++) { /* and three wait already */
        CHECK(client_connect_tls(&crowd[i], &p, "cmif/1", NULL) && client_challenge(&crowd[i], 6));
    }
    pause_ms(200);
    CHECK(client_connect_tls(&other, &p, "cmif/1", NULL) && client_challenge(&other, 7));
    CHECK(ends_with_error(&other, CMIF_WIRE_E_BUSY));
    client_close(&other);
    for (size_t i = 0; i < CROWD - 3; i++) { /* who leaves gives up its place */
        client_close(&crowd[i]);
    }
    client_close(&gone); /* whose proof is at work */
    pause_ms(300);

    /* HELLO has time while a first proof is made */
    while (now_ms() - began < 11500) {
        pause_ms(50);
    }
    CHECK(give_quote(device, 5000, true)); /* for nobody any more */
    CHECK(give_quote(device, 150000, true));
    size_t size = client_proof(&busy, proof, sizeof proof);
    CHECK(size > 150000 && proves(&busy, 2, 's', proof, size, data));
    CHECK(give_quote(device, 5000, true));
    size = client_proof(&ready, proof, sizeof proof);
    CHECK(size > 5000 && proves(&ready, 3, 's', proof, size, data));
    CHECK(client_hello(&busy) && client_open(&busy, NULL) && generates_golden(&busy, 1, CMIF_ROWS_F32, 0));
    CHECK(generates_golden(&ready, 1, CMIF_ROWS_F32, 0));
    CHECK(client_next_within(&late, 12000) == CMIF_FRAME_ERROR && late.frame.error.code == CMIF_WIRE_E_BUSY);
    CHECK(now_ms() - asked > 19500); /* no answer is waited for for ever */
    client_close(&late);
    CHECK(give_quote(device, 5000, true));

    /* a device that makes no sense, or goes away: told, and tried again for the next one */
    CHECK(client_challenge(&ready, 8) && give_quote(device, 5000, false));
    CHECK(ends_with_error(&ready, CMIF_WIRE_E_ENGINE) &&
          process_said(&p, "no evidence: Gramine: expected an SGX quote"));
    client_close(&ready);
    char file[300], away[300];
    snprintf(file, sizeof file, "%s/user_report_data", device);
    snprintf(away, sizeof away, "%s/away", device);
    CHECK(rename(file, away) == 0 && client_challenge(&busy, 9));
    CHECK(ends_with_error(&busy, CMIF_WIRE_E_ENGINE) && process_said(&p, "no evidence: Gramine: cannot write"));
    client_close(&busy);
    CHECK(rename(away, file) == 0);
    CHECK(client_connect_tls(&busy, &p, "cmif/1", NULL) && client_challenge(&busy, 10));
    CHECK(give_quote(device, 5000, true));
    size = client_proof(&busy, proof, sizeof proof);
    CHECK(proves(&busy, 10, 's', proof, size, data));
    CHECK(client_challenge(&busy, 11)); /* and none holds up the end */
    pause_ms(200);
    const uint64_t ended = now_ms();
    CHECK(process_stop(&p) == 0 && now_ms() - ended < 9000);
    client_close(&busy);
}

static void challenges_have_a_pace_and_keep_nothing_alive(void)
{
#ifdef CMIF_SIMULATOR
    static uint8_t proof[4096];
    process        p;
    client         c, d;

    process_start(&p, (const char *[]){"--listen", "127.0.0.1:0", "--evidence", "sim", "--insecure-simulator", "--idle",
                                       "2", NULL});
    CHECK(client_connect_tls(&c, &p, "cmif/1", NULL) && client_connect_tls(&d, &p, "cmif/1", NULL));
    CHECK(client_hello(&d) && client_open(&d, NULL));
    uint64_t began = now_ms();
    for (uint8_t i = 0; i < 7; i++) {
        CHECK(client_challenge(&d, i));
        if (client_proof(&d, proof, sizeof proof) == 0) {
            break; /* idle, whatever it asks */
        }
        CHECK(i < 4 ? now_ms() - began < 1000 : now_ms() - began >= (uint64_t) (i - 3) * 1000 - 50);
    }
    CHECK(d.frame.kind == CMIF_FRAME_ERROR && d.frame.error.code == CMIF_WIRE_E_IDLE && now_ms() - began < 4000);
    client_close(&d);

    began = now_ms();
    for (uint8_t i = 0; now_ms() - began < 15000; i++) { /* for ever, if it could */
        if (!client_challenge(&c, i) || client_proof(&c, proof, sizeof proof) == 0) {
            break;
        }
    }
    CHECK(c.frame.kind == CMIF_FRAME_ERROR && c.frame.error.code == CMIF_WIRE_E_IDLE);
    CHECK(now_ms() - began > 7000 && now_ms() - began < 12000);
    client_close(&c);
    CHECK(process_stop(&p) == 0);
#endif
}

/* Every log of every server above: one line each, from known programs, and no run of digits that could be a handle or
 * rows. */
static void logs_hold_no_payload(void)
{
    char line[1024];
    for (int i = 0; i < process_number; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/log.%d", folder, i);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            bool known = strncmp(line, "cmif-server: ", 13) == 0 || strncmp(line, "cmif-engine: ", 13) == 0 ||
                         strncmp(line, "INSECURE: ", 10) == 0;
            size_t run = 0;
            if (strstr(line, "on the client") || !known) {
                CHECK(known || strstr(line, "cmif-server: ") != NULL);
                continue;
            }
            for (const char *at = line; *at; at++) {
                run = strchr("0123456789abcdef", *at) ? run + 1 : 0;
                CHECK(run < 13);
            }
        }
        if (file) {
            fclose(file);
        }
    }
}

int main(int argc, char **argv)
{
    cmif_gguf *file = NULL;
    cmif_err   err  = {0};

    if (access(STORIES, R_OK) != 0) {
        return check_skip("no shared/models/stories260K");
    }
    if (cmif_gguf_open(STORIES, &file, &err) != CMIF_OK || !cmif_gguf_find_tensor(file, "token_embd.weight") ||
        !mkdtemp(folder)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    table = (const float *) (const void *) cmif_gguf_find_tensor(file, "token_embd.weight")->data;
    setenv("XDG_STATE_HOME", folder, 1);
    signal(SIGPIPE, SIG_IGN);

    if (argc > 1 && strcmp(argv[1], "evidence") == 0) { /* server_evidence_test */
        RUN(evidence_is_for_this_connection_only);
        RUN(who_cannot_show_evidence_says_why);
        RUN(evidence_that_cannot_be_made_keeps_the_server_from_starting);
        RUN(challenges_have_a_pace_and_keep_nothing_alive);
        RUN(a_slow_device_keeps_nobody_else_waiting);
        RUN(logs_hold_no_payload);
        goto done;
    }
    RUN(golden_tokens_come_through_unix_and_tls);
    RUN(a_session_goes_on_where_it_was);
    RUN(a_cancelled_stream_ends_soon_and_keeps_its_cache);
    RUN(the_longest_idle_session_makes_room);
    RUN(who_finds_all_sessions_at_work_waits_in_turn);
    RUN(what_a_waiting_client_sent_is_read_to_its_end);
    RUN(a_killed_or_hung_engine_costs_a_replay_and_nothing_else);
    RUN(an_engine_that_keeps_dying_is_given_up);
    RUN(what_keeps_it_from_starting_is_one_sentence);
    RUN(signals_end_it_gracefully);
    RUN(dies_with_its_parent);
    RUN(hostile_peers_hurt_nobody_else);
    RUN(a_session_belongs_to_the_client_key);
    RUN(too_many_clients_are_told_so);
    RUN(idle_sessions_are_dropped);
    RUN(encoders_answer_many_at_once);
    RUN(logs_hold_no_payload);
done:
    cmif_gguf_free(file);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0 || check_report();
}
