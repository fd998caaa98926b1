#include "server/conn.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX (CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX)
#define EVIDENCE_PIECE (1u << 16)

/* What may wait for a client: plenty of tokens, or the logits of a few of them. */
static size_t output_max(const conn *c)
{
    return (4u << 20) + 8 * sizeof(float) * (size_t) c->server->welcome.vocab;
}

static void conn_log(const conn *c, const char *text)
{
    fprintf(stderr,
            "cmif-server: connection %" PRIu64 ": %s (%" PRIu64 " prompts, %" PRIu64 " rows, %" PRIu64 " tokens)\n",
            c->number, text, c->begins, c->rows, c->tokens);
}

static void engine_send(server *s, const cmif_seat *seat, unsigned kind)
{
    if (seat->slot != CMIF_SEAT_NONE) {
        cmif_worker_send(
            s->worker, &(cmif_pipe_message){.slot = seat->slot, .run = seat->run, .frame = {.kind = (uint16_t) kind}});
    }
}

/* Let go of the session. It stays for its client to come back, if there is anything worth it. */
static void conn_detach(conn *c)
{
    cmif_seat *seat = c->seat;

    c->seat    = NULL;
    c->waiting = false;
    c->opening = false;
    if (c->proving) {
        cmif_prover_drop(c->server->prover, c->number);
        c->proving = false;
    }
    if (!seat) {
        return;
    }
    seat->conn = NULL;
    if (seat->busy) {
        engine_send(c->server, seat, CMIF_FRAME_CANCEL); /* its DONE says what the cache holds then */
    } else if (seat->slot == CMIF_SEAT_NONE) {
        cmif_seats_remove(&c->server->seats, seat);
    }
}

void conn_kill(conn *c, const char *why)
{
    if (c->dead) {
        return;
    }
    if (why) {
        conn_log(c, why);
    }
    c->dead = true;
    bufferevent_disable(c->bev, EV_READ | EV_WRITE);
    conn_detach(c);
    event_active(c->server->sweep, EV_TIMEOUT, 0); /* we may be deep inside one of its callbacks */
}

void conn_free(conn *c)
{
    bufferevent_free(c->bev); /* closes, and frees the SSL */
    free(c);
}

/* Everything is said: the client sees the end, and has a moment to read what is on its way. */
static void conn_finish(conn *c)
{
    if (c->ssl) {
        SSL_shutdown(c->ssl);
    }
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
}

static void conn_close(conn *c)
{
    c->closing    = true;
    c->closing_ms = cmif_server_now_ms();
    conn_detach(c);
    if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0) {
        conn_finish(c);
    }
}

static bool conn_send(conn *c, const cmif_frame *frame)
{
    struct evbuffer      *out  = bufferevent_get_output(c->bev);
    cmif_err              err  = {0};
    size_t                size = cmif_frame_size(frame), used = 0;
    struct evbuffer_iovec room;

    cmif_code rc = cmif_wire_sent(&c->wire, frame, &err);
    if (rc == CMIF_OK && evbuffer_reserve_space(out, (ev_ssize_t) size, &room, 1) != 1) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for a frame");
    }
    if (rc == CMIF_OK) {
        rc = cmif_frame_encode(frame, room.iov_base, size, &used, &err);
    }
    room.iov_len = used;
    if (rc != CMIF_OK || evbuffer_commit_space(out, &room, 1) != 0) {
        fprintf(stderr, "cmif-server: cannot send: %s\n", err.text);
        conn_kill(c, "closed: internal error");
        return false;
    }
    c->queued += size;
    c->sent_ms = cmif_server_now_ms();
    if (evbuffer_get_length(out) > output_max(c)) {
        conn_kill(c, "closed: too much waits for the client to read it");
        return false;
    }
    return true;
}

void conn_fail(conn *c, cmif_wire_error code, const char *format, ...)
{
    char       text[CMIF_WIRE_TEXT_MAX + 1];
    char       line[CMIF_WIRE_TEXT_MAX + 16];
    cmif_frame frame;
    va_list    args;

    if (c->dead || c->closing) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!c->secured) {
        conn_kill(c, text);
        return;
    }
    snprintf(line, sizeof line, "closed: %s", text);
    conn_log(c, line);
    cmif_frame_set_error(&frame, code, text);
    if (conn_send(c, &frame)) {
        conn_close(c);
    }
}

bool conn_is_working(const conn *c)
{
    return c->wire.state == CMIF_WIRE_PROMPT || c->wire.state == CMIF_WIRE_STREAM ||
           c->wire.state == CMIF_WIRE_CANCELLING;
}

/* ---- the frames of a client ---- */

/* Clients beyond the limit are let in as far as HELLO, so that they can be told, over TLS, too. */
static bool server_is_full(const server *s)
{
    size_t greeted = 0;
    for (const conn *c = s->conns; c; c = c->next) {
        greeted += c->greeted_ms && !c->closing && !c->dead;
    }
    return greeted >= s->options->max_connections;
}

static void conn_on_hello(conn *c, const cmif_frame *f)
{
    cmif_frame welcome = {.kind = CMIF_FRAME_WELCOME, .welcome = c->server->welcome};

    if (f->hello.version_min > CMIF_WIRE_VERSION || f->hello.version < CMIF_WIRE_VERSION) {
        conn_fail(c, CMIF_WIRE_E_VERSION, "this server speaks version %d, the client %u to %u: use the same release",
                  CMIF_WIRE_VERSION, f->hello.version_min, f->hello.version);
        return;
    }
    if (server_is_full(c->server)) {
        conn_fail(c, CMIF_WIRE_E_BUSY, "the server has %u connections already: try again later",
                  c->server->options->max_connections);
        return;
    }
    c->greeted_ms = cmif_server_now_ms();
    conn_send(c, &welcome);
}

static void conn_send_opened(conn *c)
{
    cmif_frame opened = {.kind = CMIF_FRAME_OPENED, .opened.position = c->seat->rows};

    memcpy(opened.opened.handle, c->seat->handle, sizeof opened.opened.handle);
    memcpy(opened.opened.hash, cmif_seat_hash(c->seat), sizeof opened.opened.hash);
    conn_send(c, &opened);
}

static void conn_on_open(conn *c, const cmif_frame *f)
{
    server    *s    = c->server;
    cmif_seat *seat = cmif_seats_find(&s->seats, f->open.handle, c->owner);
    cmif_err   err  = {0};

    if (!seat) {
        /* sessions that nobody uses are bounded, too: each connection can leave one behind */
        cmif_seat *oldest = s->seats.count >= s->options->max_connections + s->seats.slot_count
                                ? cmif_seats_oldest(&s->seats, /* with_slot= */ false, /* with_conn= */ false)
                                : NULL;
        if (oldest) {
            cmif_seats_remove(&s->seats, oldest);
        }
        if (cmif_seats_add(&s->seats, c->owner, cmif_server_now_ms(), &seat, &err) != CMIF_OK) {
            conn_fail(c, CMIF_WIRE_E_BUSY, "%s", err.text);
            return;
        }
    } else if (seat->conn) {
        conn *before = seat->conn;
        /* hold on to the session while the old connection lets go of it */
        seat->conn      = c;
        before->seat    = NULL;
        before->waiting = before->opening = false;
        conn_fail(before, CMIF_WIRE_E_PROTOCOL, "the session was taken up by another connection");
        if (seat->busy) {
            engine_send(s, seat, CMIF_FRAME_CANCEL);
        }
    }
    seat->conn = c;
    c->seat    = seat;
    if (seat->busy) {
        c->opening = true; /* until the DONE of what it did before */
    } else {
        conn_send_opened(c);
    }
}

/* What this model, this server and this cache can do. */
static bool conn_may_begin(conn *c, const cmif_frame_begin *b)
{
    const cmif_frame_welcome *w       = &c->server->welcome;
    const bool                table   = w->flags & CMIF_WELCOME_TABLE;
    const bool                encoder = w->flags & CMIF_WELCOME_ENCODER;

    if (c->server->shutting_ms) {
        conn_fail(c, CMIF_WIRE_E_SHUTDOWN, "the server is going away: try again later");
    } else if (c->server->broken[0]) {
        conn_fail(c, CMIF_WIRE_E_ENGINE, "the server's engine keeps failing: %s", c->server->broken);
    } else if ((b->mode == CMIF_MODE_ENCODE) != encoder) {
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED,
                  encoder ? "this model is an encoder: it gives vectors and generates nothing"
                          : "this model generates: it gives no vectors");
    } else if (!table && (b->row_type == CMIF_ROWS_ID || b->flags & CMIF_BEGIN_LOOP)) {
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED,
                  "this server holds no embedding table: send rows, not ids, and feed each token");
    } else if (!cmif_row_size((cmif_row_type) b->row_type, w->width)) {
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED, "rows of %u floats cannot travel as %s", w->width,
                  cmif_row_type_name(b->row_type));
    } else if (b->row_count > w->context || b->position > w->context - b->row_count) {
        conn_fail(c, CMIF_WIRE_E_CONTEXT, "%u rows after position %u: the context has %u", b->row_count, b->position,
                  w->context);
    } else if (b->position == 0 && !cmif_seat_match(c->seat, 0, b->hash)) {
        conn_fail(c, CMIF_WIRE_E_PROTOCOL, "BEGIN at position 0 with a hash that is not zeros");
    } else {
        return true;
    }
    return false;
}

static void conn_on_begin(conn *c, const cmif_frame_begin *b)
{
    cmif_seat *seat = c->seat;

    if (!conn_may_begin(c, b)) {
        return;
    }
    c->begins++;
    if (!cmif_seat_match(seat, b->position, b->hash)) {
        unsigned reason = seat->slot == CMIF_SEAT_NONE ? seat->lost : CMIF_RESET_MISMATCH;
        conn_send(c, &(cmif_frame){.kind = CMIF_FRAME_RESET, .reset.reason = (uint8_t) reason});
        return;
    }
    c->begin      = *b;
    c->progress   = b->position;
    c->waiting    = true;
    c->waiting_ms = c->rows_ms = cmif_server_now_ms();
    cmif_server_serve_waiting(c->server);
}

bool conn_start(conn *c)
{
    server    *s    = c->server;
    cmif_seat *seat = c->seat;

    if (seat->slot == CMIF_SEAT_NONE && !cmif_seats_sit(&s->seats, seat)) {
        return false;
    }
    seat->busy = true;
    seat->run  = ++s->seats.runs[seat->slot];
    cmif_seat_cut(seat, c->begin.position);
    cmif_worker_send(s->worker, &(cmif_pipe_message){.slot  = seat->slot,
                                                     .run   = seat->run,
                                                     .frame = {.kind = CMIF_FRAME_BEGIN, .begin = c->begin}});
    c->waiting = false;
    c->rows_ms = cmif_server_now_ms();
    return true;
}

/* Each row is looked at before the engine sees it, and hashed as it was sent. */
static void conn_on_rows(conn *c, const cmif_frame *f)
{
    server             *s     = c->server;
    const cmif_row_type type  = (cmif_row_type) c->begin.row_type;
    const uint32_t      width = s->welcome.width;
    const size_t        size  = cmif_row_size(type, width);
    cmif_err            err   = {0};

    if (f->rows.size != f->rows.count * size) {
        conn_fail(c, CMIF_WIRE_E_ROWS, "%u rows in %zu bytes: a row of %u floats as %s has %zu", f->rows.count,
                  f->rows.size, width, cmif_row_type_name(type), size);
        return;
    }
    for (size_t i = 0; i < f->rows.count; i++) {
        const uint8_t *row = f->rows.bytes + i * size;
        if (type == CMIF_ROWS_ID) {
            cmif_reader r  = cmif_reader_over(row, size);
            uint32_t    id = cmif_read_u32(&r);
            if (id >= s->welcome.vocab) {
                conn_fail(c, CMIF_WIRE_E_ROWS, "row %zu: an id beyond the vocabulary of %u", f->rows.first + i,
                          s->welcome.vocab);
                return;
            }
        } else {
            cmif_row_decode(type, row, s->row, width);
            if (!cmif_row_is_sane(s->row, width, CMIF_WIRE_ROW_LIMIT)) {
                conn_fail(c, CMIF_WIRE_E_ROWS, "row %zu: a number that is not finite, or above %g", f->rows.first + i,
                          (double) CMIF_WIRE_ROW_LIMIT);
                return;
            }
        }
        if (cmif_seat_append(c->seat, type, row, size, &err) != CMIF_OK) {
            conn_fail(c, CMIF_WIRE_E_BUSY, "%s", err.text);
            return;
        }
    }
    cmif_pipe_message m = {.slot = c->seat->slot, .run = c->seat->run, .frame = *f};
    m.frame.pad         = 0;
    cmif_worker_send(s->worker, &m);
    c->rows_ms = cmif_server_now_ms();
    c->rows += f->rows.count;
}

static void conn_send_done(conn *c, const cmif_frame *done)
{
    cmif_frame f = *done;
    f.pad        = 0;
    memcpy(f.done.hash, cmif_seat_hash(c->seat), sizeof f.done.hash);
    conn_send(c, &f);
}

static void conn_on_cancel(conn *c)
{
    if (c->waiting) {
        c->waiting = false;
        cmif_seat_cut(c->seat, c->begin.position);
        conn_send_done(c, &(cmif_frame){.kind = CMIF_FRAME_DONE,
                                        .done = {.reason = CMIF_DONE_CANCELLED, .position = c->begin.position}});
    } else {
        engine_send(c->server, c->seat, CMIF_FRAME_CANCEL);
    }
}

static void conn_on_close(conn *c)
{
    server    *s    = c->server;
    cmif_seat *seat = c->seat;

    c->seat    = NULL;
    c->waiting = false;
    engine_send(s, seat, CMIF_FRAME_CLOSE); /* the cache goes now, not when somebody needs the slot */
    cmif_seats_remove(&s->seats, seat);
    conn_log(c, "closed by the client");
    conn_close(c);
    cmif_server_serve_waiting(s);
}

/* ---- proofs ---- */

/* Does a client wait for EVIDENCE? */
static bool conn_owes_proof(const conn *c)
{
    return c->wire.proofs[0].open;
}

/* Hand the open CHALLENGE to the prover, when the pace allows it. */
static void conn_prove(conn *c, uint64_t now)
{
    server          *s    = c->server;
    cmif_err         err  = {0};
    cmif_prover_task task = {.number = c->number, .claims.program = "cmif-server " CMIF_VERSION};

    if (c->proving || c->paced_ms > now + CMIF_PROOF_BURST * CMIF_PROOF_PACE_MS) {
        return;
    }
    if (cmif_tls_exporter(c->ssl, task.exporter, &err) != CMIF_OK) {
        conn_fail(c, CMIF_WIRE_E_ENGINE, "%s", err.text);
        return;
    }
    memcpy(task.nonce, c->nonce, sizeof task.nonce);
    memcpy(task.own_key, s->own_key, sizeof task.own_key);
    memcpy(task.other_key, c->owner, sizeof task.other_key);
    memcpy(task.claims.model_id, s->welcome.model_id, sizeof task.claims.model_id);
    c->proving = cmif_prover_ask(s->prover, &task);
    if (!c->proving) {
        conn_fail(c, CMIF_WIRE_E_BUSY, "too many wait for this server's evidence: try again later");
    }
}

static void conn_on_challenge(conn *c, const cmif_frame *f)
{
    const uint64_t now = cmif_server_now_ms();

    if (!c->ssl) {
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED, "evidence needs TLS");
    } else if (!c->server->prover) {
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED, "this server shows no evidence: start it with --evidence KIND");
    } else {
        memcpy(c->nonce, f->challenge.nonce, sizeof c->nonce);
        c->challenge_ms = now;
        c->paced_ms     = (c->paced_ms > now ? c->paced_ms : now) + CMIF_PROOF_PACE_MS;
        conn_prove(c, now);
    }
}

void conn_on_proof(conn *c, const uint8_t *proof, size_t size, const cmif_err *why)
{
    c->proving = false;
    if (!proof) {
        fprintf(stderr, "cmif-server: connection %" PRIu64 ": no evidence: %s\n", c->number, why->text);
        conn_fail(c, CMIF_WIRE_E_ENGINE, "the server could not make its evidence; its log says why");
        return;
    }
    c->proofs++;
    if (c->proofs == 1) {
        c->start_ms = cmif_server_now_ms(); /* the first proof took time from the HELLO; no other one does */
    }
    for (size_t at = 0; at < size && !c->dead; at += EVIDENCE_PIECE) {
        const size_t piece = size - at < EVIDENCE_PIECE ? size - at : EVIDENCE_PIECE;
        conn_send(c, &(cmif_frame){
                         .kind     = CMIF_FRAME_EVIDENCE,
                         .evidence = {
                             .total = (uint32_t) size, .offset = (uint32_t) at, .bytes = proof + at, .size = piece}});
    }
}

/* false: not now; the frame stays where it is. */
static bool conn_frame(conn *c, const cmif_frame *f)
{
    const bool working = conn_is_working(c);
    cmif_err   err     = {0};

    if (f->kind == CMIF_FRAME_ROWS && working && (c->waiting || cmif_worker_is_full(c->server->worker))) {
        return false;
    }
    if (cmif_wire_received(&c->wire, f, &err) != CMIF_OK) {
        conn_fail(c, CMIF_WIRE_E_PROTOCOL, "%s", err.text);
        return true;
    }
    switch (f->kind) {
    case CMIF_FRAME_HELLO:
        conn_on_hello(c, f);
        break;
    case CMIF_FRAME_OPEN:
        conn_on_open(c, f);
        break;
    case CMIF_FRAME_BEGIN:
        conn_on_begin(c, &f->begin);
        break;
    case CMIF_FRAME_ROWS:
        if (working) { /* else it is late: the client does not know yet that its BEGIN is over */
            conn_on_rows(c, f);
        }
        break;
    case CMIF_FRAME_CANCEL:
        if (working) {
            conn_on_cancel(c);
        }
        break;
    case CMIF_FRAME_CLOSE:
        conn_on_close(c);
        break;
    case CMIF_FRAME_CHALLENGE:
        conn_on_challenge(c, f);
        break;
    case CMIF_FRAME_UNSEAL:
        conn_fail(c, CMIF_WIRE_E_UNSUPPORTED, "this server runs a model and holds no keys: ask a key server");
        break;
    default: /* PING */
        conn_send(c, &(cmif_frame){.kind = CMIF_FRAME_PONG, .ping.value = f->ping.value});
    }
    return true;
}

/* When the input was full, libevent may have stopped in the middle of a TLS record. Its rest is in OpenSSL by then,
 * where no event tells of it: take it ourselves. */
static bool conn_take_pending(conn *c, struct evbuffer *in)
{
    uint8_t bytes[16384]; /* a record */
    int     n = 0;

    if (c->ssl && SSL_pending(c->ssl) > 0) {
        n = SSL_read(c->ssl, bytes, sizeof bytes);
    }
    if (n > 0) {
        evbuffer_unfreeze(in, /* at_front= */ 0);
        n = evbuffer_add(in, bytes, (size_t) n) == 0 ? n : 0;
        evbuffer_freeze(in, /* at_front= */ 0);
    }
    return n > 0;
}

void conn_process(conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);

    c->paused = false;
    while (!c->dead && !c->closing) {
        uint8_t    head[CMIF_WIRE_HEADER_SIZE];
        cmif_frame frame;
        cmif_err   err  = {0};
        size_t     size = 0, used;
        ev_ssize_t got  = evbuffer_copyout(in, head, sizeof head);

        if (cmif_frame_peek(head, got > 0 ? (size_t) got : 0, &size, &err) != CMIF_OK) {
            conn_fail(c, CMIF_WIRE_E_PROTOCOL, "%s", err.text);
            return;
        }
        if (size == 0 || size > evbuffer_get_length(in)) {
            if (conn_take_pending(c, in)) {
                continue;
            }
            if (got <= 0) {
                c->frame_ms = 0;
            } else if (!c->frame_ms) {
                c->frame_ms = cmif_server_now_ms();
            }
            return;
        }
        const unsigned char *bytes = evbuffer_pullup(in, (ev_ssize_t) size);
        if (!bytes) {
            conn_fail(c, CMIF_WIRE_E_BUSY, "no memory for a frame");
            return;
        }
        if (cmif_frame_decode(bytes, size, &frame, &used, &err) != CMIF_OK) {
            conn_fail(c, CMIF_WIRE_E_PROTOCOL, "%s", err.text);
            return;
        }
        if (!conn_frame(c, &frame)) {
            c->paused = true;
            return;
        }
        c->frame_ms = 0;
        evbuffer_drain(in, size);
    }
}

/* ---- what the engine says ---- */

static void run_end(server *s, cmif_seat *seat)
{
    conn *c = seat->conn;

    seat->busy    = false;
    seat->used_ms = cmif_server_now_ms();
    if (c && c->opening) {
        c->opening = false;
        conn_send_opened(c);
    } else if (c && s->shutting_ms) {
        conn_fail(c, CMIF_WIRE_E_SHUTDOWN, "the server is going away");
    } else if (!c && seat->slot == CMIF_SEAT_NONE) {
        cmif_seats_remove(&s->seats, seat);
    }
    cmif_server_serve_waiting(s);
}

/* The engine gave up this run, and what its cache holds is of no use. */
static void run_failed(server *s, cmif_seat *seat, conn *c, const cmif_pipe_message *m)
{
    const cmif_frame *f = &m->frame;

    cmif_seats_stand(&s->seats, seat, CMIF_RESET_MISMATCH);
    if (c && m->flags & CMIF_PIPE_REFUSED && c->begin.position > 0) {
        conn_send(c, &(cmif_frame){.kind = CMIF_FRAME_RESET, .reset.reason = CMIF_RESET_MISMATCH});
    } else if (c) {
        conn_fail(c, (cmif_wire_error) f->error.code, "%.*s", f->error.size, f->error.text);
    }
    run_end(s, seat);
}

void conn_on_message(server *s, cmif_seat *seat, const cmif_pipe_message *m)
{
    conn             *c   = seat->conn && !seat->conn->opening ? seat->conn : NULL;
    const cmif_frame *f   = &m->frame;
    cmif_err          err = {0};
    uint8_t           id[4];
    cmif_writer       w = cmif_writer_over(id, sizeof id);

    switch (f->kind) {
    case CMIF_FRAME_PROGRESS:
        cmif_worker_praise(s->worker);
        if (c) {
            c->progress = f->progress.rows;
            conn_send(c, f);
        }
        break;
    case CMIF_FRAME_TOKEN:
        cmif_worker_praise(s->worker);
        if (c) {
            c->tokens++;
            c->progress = f->token.position;
            c->rows_ms  = cmif_server_now_ms();
            conn_send(c, f);
        }
        cmif_write_u32(&w, f->token.id);
        if (m->flags & CMIF_PIPE_LOOPED && cmif_seat_append(seat, CMIF_ROWS_ID, id, sizeof id, &err) != CMIF_OK) {
            if (c) {
                conn_fail(c, CMIF_WIRE_E_BUSY, "%s", err.text);
            }
        }
        break;
    case CMIF_FRAME_LOGITS:
    case CMIF_FRAME_VECTOR:
        cmif_worker_praise(s->worker);
        if (c) {
            conn_send(c, f);
        }
        break;
    case CMIF_FRAME_DONE:
        if (f->done.position > seat->rows) { /* a row that we know nothing of: its hash is gone for lack of memory */
            cmif_seats_stand(&s->seats, seat, CMIF_RESET_MISMATCH);
        } else {
            cmif_seat_cut(seat, f->done.position);
        }
        if (c) {
            conn_send_done(c, f);
        }
        run_end(s, seat);
        break;
    case CMIF_FRAME_ERROR:
        run_failed(s, seat, c, m);
        break;
    default:
        break;
    }
}

void conn_on_down(conn *c)
{
    if (c->dead || c->closing) {
        return;
    }
    if (c->opening) {
        c->opening = false;
        conn_send_opened(c);
    } else if (conn_is_working(c) && !c->waiting) {
        conn_send(c, &(cmif_frame){.kind = CMIF_FRAME_RESET, .reset.reason = CMIF_RESET_ENGINE});
        conn_process(c); /* what is left of its rows is late now */
    }
}

/* ---- time ---- */

void conn_on_tick(conn *c, uint64_t now)
{
    server  *s      = c->server;
    size_t   output = evbuffer_get_length(bufferevent_get_output(c->bev));
    uint64_t sent   = c->queued - output;

    if (c->dead) {
        return;
    }
    if (sent != c->drained || output == 0) {
        c->drained    = sent;
        c->drained_ms = now;
    }
    if (c->closing) {
        if (now - c->closing_ms > (s->shutting_ms ? CMIF_LINGER_MS / 4 : CMIF_LINGER_MS)) {
            conn_kill(c, NULL);
        }
        return;
    }
    if (c->paused || c->waiting || s->shutting_ms) {
        c->frame_ms = c->frame_ms ? now : 0; /* it is we who are slow */
        c->rows_ms  = now;
    }
    const bool working = conn_is_working(c);
    const bool owing   = conn_owes_proof(c);
    if (owing) {
        conn_prove(c, now);
    }
    if (now - c->drained_ms > CMIF_UNREAD_MS) {
        conn_kill(c, "closed: the client does not read");
    } else if (c->frame_ms && now - c->frame_ms > CMIF_FRAME_MS) {
        conn_fail(c, CMIF_WIRE_E_IDLE, "a frame was begun and not ended within %d s", CMIF_FRAME_MS / 1000);
    } else if (owing && now - c->challenge_ms > CMIF_PROOF_MS) {
        conn_fail(c, CMIF_WIRE_E_BUSY, "no evidence within %d s: try again later", CMIF_PROOF_MS / 1000);
    } else if (c->wire.state == CMIF_WIRE_START && !(owing && c->proofs == 0) && now - c->start_ms > CMIF_HELLO_MS) {
        conn_fail(c, CMIF_WIRE_E_IDLE, "no HELLO within %d s", CMIF_HELLO_MS / 1000);
    } else if (c->wire.state == CMIF_WIRE_KNOWN && now - c->greeted_ms > CMIF_HELLO_MS) {
        conn_fail(c, CMIF_WIRE_E_IDLE, "no OPEN within %d s", CMIF_HELLO_MS / 1000);
    } else if (working && c->wire.rows_left && c->wire.state != CMIF_WIRE_CANCELLING &&
               now - c->rows_ms > CMIF_FRAME_MS) {
        conn_fail(c, CMIF_WIRE_E_IDLE, "%u rows are missing, and none came for %d s", c->wire.rows_left,
                  CMIF_FRAME_MS / 1000);
    } else if (c->waiting && s->ready_ms && now - c->waiting_ms > CMIF_BUSY_MS && now - s->ready_ms > CMIF_BUSY_MS) {
        conn_fail(c, CMIF_WIRE_E_BUSY, "all %u sessions are at work: try again later", s->seats.slot_count);
    } else if (c->wire.state == CMIF_WIRE_READY &&
               now - c->seat->used_ms > (uint64_t) s->options->idle_seconds * 1000) {
        conn_fail(c, CMIF_WIRE_E_IDLE, "the session was idle for more than %u s", s->options->idle_seconds);
    } else if (working && now - c->sent_ms > CMIF_PROGRESS_MS) {
        conn_send(c, &(cmif_frame){.kind = CMIF_FRAME_PROGRESS, .progress.rows = c->progress});
    }
}

/* ---- coming in ---- */

static void conn_on_read(struct bufferevent *bev, void *context)
{
    conn *c = context;

    if (c->closing || c->dead) {
        evbuffer_drain(bufferevent_get_input(bev), SIZE_MAX);
    } else if (!c->paused) {
        conn_process(c);
    }
}

static void conn_on_write(struct bufferevent *bev, void *context)
{
    conn *c = context;
    (void) bev;
    if (c->closing && !c->dead) {
        conn_finish(c);
    }
}

static void conn_on_event(struct bufferevent *bev, short what, void *context)
{
    conn    *c   = context;
    cmif_err err = {0};
    (void) bev;

    if (what & BEV_EVENT_CONNECTED) { /* TLS only */
        if (cmif_tls_peer(c->ssl, c->owner, &err) != CMIF_OK) {
            conn_kill(c, err.text);
        }
        c->secured = true;
    } else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
        conn_kill(c, c->closing ? NULL : c->secured ? "lost" : "refused: no TLS 1.3 handshake");
    }
}

void conn_accept(server *s, evutil_socket_t fd, bool local)
{
    conn *c  = calloc(1, sizeof *c);
    int   on = 1;

    if (!c) {
        goto fail;
    }
    c->server     = s;
    c->number     = ++s->conn_number;
    c->secured    = local;
    c->wire       = (cmif_wire){.server = true};
    c->drained_ms = c->sent_ms = c->start_ms = cmif_server_now_ms();
    if (s->conn_count >= s->options->max_connections + CMIF_TURNED_AWAY || (local && !cmif_door_peer_is_us(fd))) {
        fprintf(stderr, "cmif-server: connection %" PRIu64 ": refused: %s\n", c->number,
                s->conn_count >= s->options->max_connections ? "too many connections" : "another user");
        goto fail;
    }
    if (local) {
        c->bev = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    } else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        c->ssl = SSL_new(s->tls);
        c->bev = c->ssl ? bufferevent_openssl_socket_new(s->base, fd, c->ssl, BUFFEREVENT_SSL_ACCEPTING,
                                                         BEV_OPT_CLOSE_ON_FREE)
                        : NULL;
        if (!c->bev) {
            SSL_free(c->ssl);
            goto fail;
        }
        bufferevent_openssl_set_allow_dirty_shutdown(c->bev, 1);
    }
    if (!c->bev) {
        goto fail;
    }
    bufferevent_setcb(c->bev, conn_on_read, conn_on_write, conn_on_event, c);
    bufferevent_setwatermark(c->bev, EV_READ, 0, INPUT_MAX);
    bufferevent_set_max_single_read(c->bev, 1 << 18);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    c->next  = s->conns;
    s->conns = c;
    s->conn_count++;
    return;
fail:
    free(c);
    close(fd);
}
