#include "session/session.h"

#include "dp/released_ids.h"
#include "secret/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SESSION_SEND_SECONDS 60    /* a server that takes nothing for so long is dead */
#define SESSION_RECEIVE_SECONDS 30 /* it sends PROGRESS every 2 s while it works */
#define SESSION_CANCEL_SECONDS 10
#define SESSION_CHUNK_BYTES (1 << 17) /* small enough that prefill starts early, large enough to be cheap */
#define SESSION_TRIES 8               /* takings-up in a row without a new token that are no reason to worry */

struct cmif_session {
    cmif_session_options options; /* strings: our own copies, in `strings` */
    char                *strings[7];
    const cmif_embed    *table;
    cmif_row_type        row_type;
    size_t               row_size;

    cmif_channel      *channel; /* NULL: to be connected */
    cmif_wire          wire;
    cmif_frame_welcome welcome;
    uint8_t            handle[CMIF_WIRE_HANDLE_SIZE];
    uint64_t           past_sent, past_received; /* by channels that are gone */

    cmif_peer_verdict peer;    /* of the last proof */
    uint64_t          peer_us; /* when it was judged, by a clock that goes on while the machine sleeps */
    bool              peer_refused;

    cmif_ids fed;    /* ids whose rows the server's cache holds, as far as we know */
    uint8_t *hashes; /* running hash of fed[0 .. i), for i in [0, fed.count] */
    size_t   hashes_capacity;

    uint8_t *in; /* bytes received: [in_at, in_end) are not decoded yet */
    size_t   in_at, in_end;
    uint8_t *out;
    float   *logits; /* (vocab), made when first asked for */

    int         wake; /* eventfd, readable once cancel was asked for */
    atomic_bool cancelled;
};

enum {
    IN_SIZE  = 2 * (CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX),
    OUT_SIZE = CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX
};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

/* ---- frames ---- */

static cmif_code send_frame(cmif_session *s, const cmif_frame *frame, cmif_err *err)
{
    size_t    size;
    cmif_code rc = cmif_wire_sent(&s->wire, frame, err);
    if (rc == CMIF_OK) {
        rc = cmif_frame_encode(frame, s->out, OUT_SIZE, &size, err);
    }
    if (rc == CMIF_OK) {
        /* no wake descriptor: half a frame would leave the connection useless */
        rc = cmif_channel_send(s->channel, s->out, size, SESSION_SEND_SECONDS, -1, err);
    }
    return rc;
}

static uint64_t in_seconds(int seconds)
{
    return now_us() + (uint64_t) seconds * 1000000;
}

/* The next frame, whole before the deadline; what it borrows stays until the next call. A frame that may not come now
 * is a FORMAT error; ERROR frames become PEER errors. */
static cmif_code receive_frame(cmif_session *s, cmif_frame *frame, uint64_t deadline_us, int wake, cmif_err *err)
{
    for (;;) {
        size_t    have = s->in_end - s->in_at, whole = 0;
        cmif_code rc = have ? cmif_frame_peek(s->in + s->in_at, have, &whole, err) : CMIF_OK;
        if (rc == CMIF_OK && whole && whole <= have) {
            size_t used;
            rc = cmif_frame_decode(s->in + s->in_at, have, frame, &used, err);
            if (rc == CMIF_OK) {
                s->in_at += used;
                rc = cmif_wire_received(&s->wire, frame, err);
            }
            if (rc != CMIF_OK) {
                cmif_err_context(err, "the server does not speak " CMIF_WIRE_ALPN " as it should");
            }
            if (rc == CMIF_OK && frame->kind == CMIF_FRAME_ERROR) {
                /* one that goes away may come back: IO is what patience is for */
                rc = cmif_fail(err, frame->error.code == CMIF_WIRE_E_SHUTDOWN ? CMIF_E_IO : CMIF_E_PEER,
                               "the server says: %.*s", frame->error.size, frame->error.text);
            }
            return rc;
        }
        if (rc != CMIF_OK) {
            cmif_err_context(err, "the server does not speak " CMIF_WIRE_ALPN " as it should");
            return rc;
        }
        if (s->in_at) {
            memmove(s->in, s->in + s->in_at, have);
            s->in_at  = 0;
            s->in_end = have;
        }
        const uint64_t now = now_us();
        size_t         more;
        if (now >= deadline_us) {
            return cmif_fail(err, CMIF_E_IO, "the server is too slow: a frame did not come in time");
        }
        rc = cmif_channel_receive(s->channel, s->in + s->in_end, IN_SIZE - s->in_end, &more,
                                  (int) ((deadline_us - now) / 1000000) + 1, wake, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        s->in_end += more;
    }
}

static void disconnect(cmif_session *s)
{
    if (s->channel) {
        s->past_sent += cmif_channel_sent(s->channel);
        s->past_received += cmif_channel_received(s->channel);
        cmif_channel_free(s->channel);
        s->channel = NULL;
    }
    s->wire  = (cmif_wire){0};
    s->in_at = s->in_end = 0;
}

/* ---- who is there ---- */

static uint64_t awake_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

/* The answer to a CHALLENGE: a proof, whole. *proof is the caller's. */
static cmif_code receive_proof(cmif_session *s, uint8_t **proof, size_t *size, cmif_err *err)
{
    const uint64_t deadline_us = in_seconds(SESSION_RECEIVE_SECONDS);
    cmif_code      rc          = CMIF_OK;
    uint8_t       *bytes       = NULL;
    size_t         have = 0, total = 0;
    do {
        cmif_frame frame;
        rc = receive_frame(s, &frame, deadline_us, s->wake, err);
        if (rc == CMIF_OK && (frame.kind != CMIF_FRAME_EVIDENCE || frame.evidence.offset != have ||
                              (bytes && frame.evidence.total != total) ||
                              frame.evidence.size > frame.evidence.total - frame.evidence.offset)) {
            rc = cmif_fail(err, CMIF_E_FORMAT,
                           "the server was asked for evidence; expected it from byte %zu on, found %s", have,
                           frame.kind == CMIF_FRAME_EVIDENCE ? "another piece" : cmif_frame_name(frame.kind));
        }
        if (rc == CMIF_OK && !bytes) {
            total = frame.evidence.total;
            bytes = total <= CMIF_WIRE_PROOF_MAX ? malloc(total) : NULL;
            rc    = bytes ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of evidence", total);
        }
        if (rc == CMIF_OK) {
            memcpy(bytes + have, frame.evidence.bytes, frame.evidence.size);
            have += frame.evidence.size;
        }
    } while (rc == CMIF_OK && have < total);
    if (rc == CMIF_OK) {
        *proof = bytes;
        *size  = total;
        bytes  = NULL;
    }
    free(bytes);
    return rc;
}

/* Ask for evidence over a nonce of ours and judge it. Whatever else is to be sent waits for that; after any error
 * nothing more may be. */
static cmif_code know_peer(cmif_session *s, cmif_err *err)
{
    cmif_peer_binding binding   = {.role = 's'};
    cmif_frame        challenge = {.kind = CMIF_FRAME_CHALLENGE};
    const uint64_t    now       = awake_us();
    uint8_t          *proof     = NULL;
    size_t            size      = 0;
    cmif_code         rc = cmif_channel_binding(s->channel, binding.exporter, binding.own_key, binding.shown_key, err);
    if (rc == CMIF_OK && getrandom(binding.nonce, sizeof binding.nonce, 0) != sizeof binding.nonce) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot draw a nonce: %s", strerror(errno));
    }
    if (rc == CMIF_OK) {
        memcpy(challenge.challenge.nonce, binding.nonce, sizeof binding.nonce);
        rc = send_frame(s, &challenge, err);
    }
    if (rc == CMIF_OK) {
        rc = receive_proof(s, &proof, &size, err);
    }
    if (rc == CMIF_OK) {
        rc              = cmif_peer_judge(s->options.rule, &binding, proof, size, &s->peer, err);
        s->peer_refused = rc != CMIF_OK;
    }
    if (rc == CMIF_OK && memcmp(s->peer.claims.model_id, s->options.model_id, 32) != 0) {
        s->peer_refused = true;
        rc              = cmif_fail(err, CMIF_E_TRUST,
                                    "the server's evidence speaks of another model (id %02x%02x%02x%02x) than the client file (id "
                                                 "%02x%02x%02x%02x)",
                                    s->peer.claims.model_id[0], s->peer.claims.model_id[1], s->peer.claims.model_id[2],
                                    s->peer.claims.model_id[3], s->options.model_id[0], s->options.model_id[1],
                                    s->options.model_id[2], s->options.model_id[3]);
    }
    s->peer_us = now;
    free(proof);
    return rc;
}

/* Before a BEGIN: a verdict is good for so long, and never longer than the connection. */
static bool must_know_again(const cmif_session *s)
{
    const cmif_peer_rule *rule = s->options.rule;
    return rule && (rule->minutes == 0 || awake_us() - s->peer_us >= (uint64_t) rule->minutes * 60000000);
}

/* ---- what the server's cache holds ---- */

static uint8_t *hash_at(const cmif_session *s, size_t position)
{
    return s->hashes + position * CMIF_WIRE_HASH_SIZE;
}

/* One more row is (or will be) in the cache: row bytes as sent, or the id itself where the server loops. */
static cmif_code fed_append(cmif_session *s, int32_t id, cmif_row_type type, const void *row, size_t size,
                            cmif_err *err)
{
    if (s->fed.count + 2 > s->hashes_capacity) {
        size_t   capacity = 2 * s->hashes_capacity;
        uint8_t *grown    = realloc(s->hashes, capacity * CMIF_WIRE_HASH_SIZE);
        if (!grown) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for the hashes of %zu rows", capacity);
        }
        s->hashes          = grown;
        s->hashes_capacity = capacity;
    }
    cmif_code rc = cmif_ids_append(&s->fed, &id, 1, err);
    if (rc == CMIF_OK) {
        uint8_t *hash = hash_at(s, s->fed.count);
        memcpy(hash, hash_at(s, s->fed.count - 1), CMIF_WIRE_HASH_SIZE);
        cmif_wire_hash(hash, type, row, size);
    }
    return rc;
}

static void put_id(uint8_t bytes[static 4], int32_t id)
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (uint8_t) ((uint32_t) id >> (8 * i));
    }
}

/* Send the rows of ids[first .. first + count), first being the next position of the cache. */
static cmif_code send_rows(cmif_session *s, const cmif_ids *ids, size_t first, size_t count, cmif_err *err)
{
    uint8_t  *rows = malloc(count * s->row_size);
    cmif_code rc   = CMIF_OK;
    if (!rows) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu rows", count);
    }
    if (s->row_type != CMIF_ROWS_ID) {
        rc = cmif_embed_rows(s->table, ids, first, count, s->row_type, rows, err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        uint8_t *row = rows + i * s->row_size;
        if (s->row_type == CMIF_ROWS_ID) {
            put_id(row, ids->at[first + i]);
        }
        rc = fed_append(s, ids->at[first + i], s->row_type, row, s->row_size, err);
    }
    if (rc == CMIF_OK) {
        cmif_frame frame = {
            .kind = CMIF_FRAME_ROWS,
            .rows = {.first = (uint32_t) first, .count = (uint16_t) count, .bytes = rows, .size = count * s->row_size}};
        rc = send_frame(s, &frame, err);
    }
    free(rows);
    return rc;
}

/* ---- connecting ---- */

static cmif_code check_welcome(const cmif_session *s, const cmif_frame_welcome *w, cmif_err *err)
{
    if (memcmp(w->model_id, s->options.model_id, sizeof w->model_id) != 0) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the server has another model (%.*s, id %02x%02x%02x%02x) than the client file (id "
                         "%02x%02x%02x%02x): start it with the server.gguf of the same `cmif split`",
                         w->arch_size, w->arch, w->model_id[0], w->model_id[1], w->model_id[2], w->model_id[3],
                         s->options.model_id[0], s->options.model_id[1], s->options.model_id[2],
                         s->options.model_id[3]);
    }
    if (w->width != cmif_embed_width(s->table)) {
        return cmif_fail(err, CMIF_E_FORMAT, "the server wants rows of %u floats, the client file's have %zu", w->width,
                         cmif_embed_width(s->table));
    }
    const cmif_frame_welcome *first = &s->welcome; /* zeros before the first one; rows_max never is */
    if (first->rows_max && (w->vocab != first->vocab || w->outputs != first->outputs || w->context != first->context ||
                            w->flags != first->flags)) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the server came back with other numbers than before (vocabulary %u, %u "
                         "outputs, context %u): begin again",
                         w->vocab, w->outputs, w->context);
    }
    if (s->row_type == CMIF_ROWS_ID && !(w->flags & CMIF_WELCOME_TABLE)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the server has no embedding table, so ids mean nothing to it: choose --rows f16, or split "
                         "the model with --keep-embeddings");
    }
    return CMIF_OK;
}

/* A channel, greetings, and the session of s->handle or a new one. */
static cmif_code connect_session(cmif_session *s, cmif_err *err)
{
    cmif_frame frame = {.kind = CMIF_FRAME_HELLO, .hello = {CMIF_WIRE_VERSION, CMIF_WIRE_VERSION, 0}};
    cmif_code  rc    = cmif_channel_open(&s->options.peer, &s->channel, err);
    if (rc == CMIF_OK && s->options.rule) {
        rc = know_peer(s, err);
    }
    if (rc == CMIF_OK) {
        rc = send_frame(s, &frame, err);
    }
    if (rc == CMIF_OK) {
        rc = receive_frame(s, &frame, in_seconds(SESSION_RECEIVE_SECONDS), s->wake, err);
    }
    if (rc == CMIF_OK) {
        rc = check_welcome(s, &frame.welcome, err);
    }
    if (rc == CMIF_OK) {
        s->welcome = frame.welcome;
        frame      = (cmif_frame){.kind = CMIF_FRAME_OPEN};
        memcpy(frame.open.handle, s->handle, sizeof s->handle);
        rc = send_frame(s, &frame, err);
    }
    if (rc == CMIF_OK) {
        rc = receive_frame(s, &frame, in_seconds(SESSION_RECEIVE_SECONDS), s->wake, err);
    }
    if (rc == CMIF_OK) {
        memcpy(s->handle, frame.opened.handle, sizeof s->handle);
        if (frame.opened.position < s->fed.count) {
            cmif_ids_truncate(&s->fed, frame.opened.position); /* rows under way when the line broke, or all of them */
        }
        return CMIF_OK;
    }
    disconnect(s);
    return rc;
}

static char *copy_string(cmif_session *s, size_t index, const char *text)
{
    return text ? s->strings[index] = strdup(text) : NULL;
}

cmif_code cmif_session_open(const cmif_session_options *options, const cmif_embed *table, cmif_session **out,
                            cmif_err *err)
{
    cmif_code     rc = CMIF_OK;
    cmif_session *s  = calloc(1, sizeof *s);
    if (!s) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a session");
    }
    s->wake     = -1;
    s->table    = table;
    s->options  = *options;
    s->row_type = options->row_type;
    s->row_size = cmif_row_size(options->row_type, cmif_embed_width(table));

    cmif_peer *peer = &s->options.peer;
    peer->path      = copy_string(s, 0, peer->path);
    peer->host      = copy_string(s, 1, peer->host);
    peer->port      = copy_string(s, 2, peer->port);
    peer->pin       = copy_string(s, 3, peer->pin);
    peer->ca        = copy_string(s, 4, peer->ca);
    peer->cert      = copy_string(s, 5, peer->cert);
    peer->key       = copy_string(s, 6, peer->key);

    if (s->row_size == 0) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "rows of %zu floats cannot travel as %s: choose --rows f16",
                       cmif_embed_width(table), cmif_row_type_name(options->row_type));
        goto done;
    }
    uint8_t *id         = malloc(32);
    s->in               = malloc(IN_SIZE);
    s->out              = malloc(OUT_SIZE);
    s->hashes_capacity  = 1024;
    s->hashes           = calloc(s->hashes_capacity, CMIF_WIRE_HASH_SIZE);
    s->options.model_id = id;
    if (!id || !s->in || !s->out || !s->hashes) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a session");
        goto done;
    }
    memcpy(id, options->model_id, 32);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot make an event descriptor: %s", strerror(errno));
        goto done;
    }
    rc = connect_session(s, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    *out = s;
    s    = NULL;
done:
    cmif_session_free(s);
    return rc;
}

void cmif_session_free(cmif_session *s)
{
    if (!s) {
        return;
    }
    if (s->channel && s->wire.state == CMIF_WIRE_READY) {
        cmif_frame frame = {.kind = CMIF_FRAME_CLOSE};
        (void) !send_frame(s, &frame, NULL); /* best effort: an idle session is dropped anyway */
    }
    disconnect(s);
    cmif_ids_free(&s->fed);
    for (size_t i = 0; i < sizeof s->strings / sizeof *s->strings; i++) {
        free(s->strings[i]);
    }
    free((uint8_t *) (uintptr_t) (s->in ? s->options.model_id : NULL));
    free(s->hashes);
    free(s->in);
    free(s->out);
    free(s->logits);
    if (s->wake >= 0) {
        close(s->wake);
    }
    free(s);
}

const cmif_frame_welcome *cmif_session_server(const cmif_session *s)
{
    return &s->welcome;
}

const cmif_peer_verdict *cmif_session_peer(const cmif_session *s)
{
    return &s->peer;
}

void cmif_session_cancel(cmif_session *s)
{
    uint64_t one = 1;
    atomic_store(&s->cancelled, true);
    (void) !write(s->wake, &one, sizeof one);
}

void cmif_session_forget_cancel(cmif_session *s)
{
    if (!s) {
        return;
    }
    uint64_t count;
    (void) !read(s->wake, &count, sizeof count);
    atomic_store(&s->cancelled, false);
}

/* ---- one BEGIN, from BEGIN to DONE, RESET or a dead connection ---- */

typedef struct run {               /* of one generate or encode call, over all its tries */
    const cmif_generation *how;    /* NULL: encode */
    cmif_ids               all;    /* prompt, then what was generated */
    size_t                 prompt; /* of all */
    float                 *vector;
    cmif_usage             usage;
    uint64_t               start_us;
    bool                   reset; /* the try ended because the server's cache is gone */
} run;

static bool is_stop(const run *r, int32_t id)
{
    for (size_t i = 0; i < r->how->stop_count; i++) {
        if (r->how->stops[i] == id) {
            return true;
        }
    }
    return false;
}

/* One TOKEN frame: feed its row where that is ours to do, then hand it on. */
static cmif_code take_token(cmif_session *s, run *r, const cmif_frame *frame, cmif_err *err)
{
    int32_t  id       = (int32_t) frame->token.id;
    size_t   position = r->all.count;
    uint32_t number   = (uint32_t) (position - r->prompt) + 1;
    if (frame->token.id >= cmif_embed_vocab(s->table)) { /* ids from there on are rows that we make ourselves */
        return cmif_fail(err, CMIF_E_FORMAT, "the server chose token %u, the model has %zu: it runs another one",
                         frame->token.id, cmif_embed_vocab(s->table));
    }
    cmif_code rc = cmif_ids_append(&r->all, &id, 1, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (r->usage.tokens == 0) {
        r->usage.first_us = now_us() - r->start_us;
    }
    r->usage.tokens = number;

    /* The last token's row is never fed: the same rule on both sides (docs/wire.md). */
    bool last = is_stop(r, id) || number == r->how->max_tokens || position >= s->welcome.context;
    bool loop = !s->options.no_loop && (s->welcome.flags & CMIF_WELCOME_TABLE);
    if (!last && s->wire.state == CMIF_WIRE_STREAM) {
        uint8_t bytes[4];
        put_id(bytes, id);
        rc = loop ? fed_append(s, id, CMIF_ROWS_ID, bytes, sizeof bytes, err) : send_rows(s, &r->all, position, 1, err);
    }
    if (rc == CMIF_OK && r->how->on_token &&
        !r->how->on_token(r->how->context, id, frame->token.margin,
                          r->how->flags & CMIF_BEGIN_LOGITS ? s->logits : NULL) &&
        !last) {
        cmif_session_cancel(s);
    }
    return rc;
}

static cmif_code take_logits(cmif_session *s, const cmif_frame *frame, cmif_err *err)
{
    if (!s->logits && !(s->logits = calloc(s->welcome.vocab, sizeof *s->logits))) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %u logits", s->welcome.vocab);
    }
    cmif_reader reader = cmif_reader_over(frame->logits.bytes, frame->logits.count * sizeof(float));
    for (uint32_t i = 0; i < frame->logits.count; i++) {
        s->logits[frame->logits.offset + i] = cmif_read_f32(&reader);
    }
    return CMIF_OK;
}

/* What the wire's state machine has let through: order, positions and ids below the vocabulary are as they must be. */
static cmif_code take_frame(cmif_session *s, run *r, const cmif_frame *frame, bool *done, cmif_err *err)
{
    bool cancelling = atomic_load(&s->cancelled);
    switch (frame->kind) {
    case CMIF_FRAME_TOKEN:
        return cancelling ? CMIF_OK : take_token(s, r, frame, err);
    case CMIF_FRAME_LOGITS:
        return cancelling ? CMIF_OK : take_logits(s, frame, err);
    case CMIF_FRAME_VECTOR: {
        if (frame->vector.count != s->welcome.outputs) {
            return cmif_fail(err, CMIF_E_FORMAT, "the server sent a vector of %u floats; expected %u",
                             frame->vector.count, s->welcome.outputs);
        }
        cmif_reader reader = cmif_reader_over(frame->vector.bytes, frame->vector.count * sizeof(float));
        for (uint32_t i = 0; i < frame->vector.count; i++) {
            r->vector[i] = cmif_read_f32(&reader);
        }
        r->usage.tokens = 1;
        return CMIF_OK;
    }
    case CMIF_FRAME_DONE:
        *done           = true;
        r->usage.reason = (cmif_done_reason) frame->done.reason;
        if (frame->done.position < s->fed.count) {
            cmif_ids_truncate(&s->fed, frame->done.position); /* what a cancel found not computed yet */
        }
        return CMIF_OK;
    case CMIF_FRAME_RESET:
        *done    = true;
        r->reset = true;
        return CMIF_OK;
    default: /* PROGRESS, PONG: a sign of life */
        return CMIF_OK;
    }
}

static cmif_code begin(cmif_session *s, run *r, uint32_t *row_count, cmif_err *err)
{
    size_t kept = 0;
    while (kept < s->fed.count && kept + 1 < r->all.count && s->fed.at[kept] == r->all.at[kept]) {
        kept++; /* at least one row is sent: the cache alone gives no logits */
    }
    kept = r->how ? kept : 0;
    cmif_ids_truncate(&s->fed, kept);
    if (r->usage.replays == 0) {
        r->usage.reused_rows = (uint32_t) kept;
    }
    cmif_frame frame = {.kind  = CMIF_FRAME_BEGIN,
                        .begin = {.mode       = CMIF_MODE_ENCODE,
                                  .row_type   = (uint8_t) s->row_type,
                                  .position   = (uint32_t) kept,
                                  .row_count  = (uint32_t) (r->all.count - kept),
                                  .max_tokens = 1,
                                  .sampling   = {.top_p = 1}}};
    memcpy(frame.begin.hash, hash_at(s, kept), CMIF_WIRE_HASH_SIZE);
    if (r->how) {
        bool loop              = !s->options.no_loop && (s->welcome.flags & CMIF_WELCOME_TABLE);
        frame.begin.mode       = CMIF_MODE_GENERATE;
        frame.begin.flags      = (uint16_t) (r->how->flags | (loop ? CMIF_BEGIN_LOOP : 0));
        frame.begin.step       = (uint32_t) (r->all.count - r->prompt);
        frame.begin.max_tokens = r->how->max_tokens - frame.begin.step;
        frame.begin.sampling   = r->how->sampling;
        frame.begin.stop_count = (uint16_t) r->how->stop_count;
        for (size_t i = 0; i < r->how->stop_count; i++) {
            frame.begin.stops[i] = (uint32_t) r->how->stops[i];
        }
    }
    *row_count = frame.begin.row_count;
    return send_frame(s, &frame, err);
}

static cmif_code send_cancel(cmif_session *s, cmif_err *err)
{
    cmif_frame frame = {.kind = CMIF_FRAME_CANCEL};
    return send_frame(s, &frame, err);
}

/* One try: CMIF_OK with r->reset unset means that it is over and well. */
static cmif_code attempt(cmif_session *s, run *r, cmif_err *err)
{
    uint32_t  left      = 0;
    uint64_t  cancel_us = 0;
    bool      done = false, asked = false;
    size_t    chunk = SESSION_CHUNK_BYTES / s->row_size;
    cmif_code rc    = must_know_again(s) ? know_peer(s, err) : CMIF_OK;
    if (rc == CMIF_OK) {
        rc = begin(s, r, &left, err);
    }

    chunk = chunk < 1 ? 1 : chunk > s->welcome.rows_max ? s->welcome.rows_max : chunk;
    while (rc == CMIF_OK && !done) {
        cmif_frame frame;
        if (!asked && atomic_load(&s->cancelled)) {
            asked     = true;
            left      = 0;
            cancel_us = in_seconds(SESSION_CANCEL_SECONDS); /* for all that may still come before its end */
            rc        = send_cancel(s, err);
        } else if (left && !cmif_channel_ready(s->channel) && s->in_at == s->in_end) {
            size_t count = left < chunk ? left : chunk;
            rc           = send_rows(s, &r->all, r->all.count - left, count, err);
            left -= (uint32_t) count;
        } else {
            rc = receive_frame(s, &frame, asked ? cancel_us : in_seconds(SESSION_RECEIVE_SECONDS), asked ? -1 : s->wake,
                               err);
            if (rc == CMIF_E_CANCELLED) {
                rc = CMIF_OK; /* woken: the next turn says CANCEL */
            } else if (rc == CMIF_OK) {
                rc = take_frame(s, r, &frame, &done, err);
            }
        }
    }
    return rc;
}

static bool has_everything(const run *r)
{
    return r->how && r->usage.tokens &&
           (r->usage.tokens == r->how->max_tokens || is_stop(r, r->all.at[r->all.count - 1]));
}

/* Try until it is over and well, or until it is no use: the server does not come back within the person's patience, or
 * its engine dies again and again without a token between. */
static cmif_code try_until_done(cmif_session *s, run *r, cmif_err *err)
{
    int      tries         = 0;
    uint64_t dead_since_us = 0, token_us = now_us();
    for (;; r->usage.replays++) {
        uint32_t  before = r->usage.tokens;
        cmif_code rc     = s->channel ? CMIF_OK : connect_session(s, err);
        bool      there  = rc == CMIF_OK;
        r->reset         = false;
        if (there) {
            dead_since_us = 0;
            rc            = attempt(s, r, err);
            if (rc == CMIF_OK && !r->reset) {
                return CMIF_OK;
            }
            token_us = r->usage.tokens > before ? now_us() : token_us;
            tries    = r->usage.tokens > before ? 1 : tries + 1;
        }
        if (r->reset) {
            cmif_ids_truncate(&s->fed, 0);
        } else {
            disconnect(s);
        }
        if (atomic_load(&s->cancelled) || has_everything(r)) {
            return CMIF_OK; /* the person wanted out, or only the DONE got lost */
        }
        if (!r->reset && (rc != CMIF_E_IO || s->peer_refused)) {
            return rc;
        }
        const uint64_t now      = now_us();
        const uint64_t patience = (uint64_t) s->options.patience_seconds * 1000000;
        if (tries >= SESSION_TRIES && now - token_us >= patience) {
            return cmif_fail(err, CMIF_E_PEER, "the server failed %d times without a token between: look at its log",
                             tries);
        }
        if (!there) {
            dead_since_us = dead_since_us ? dead_since_us : now;
            if (now - dead_since_us >= patience) {
                return rc;
            }
        }
        if (!there || tries >= SESSION_TRIES) {
            struct pollfd wake = {.fd = s->wake, .events = POLLIN};
            (void) poll(&wake, 1, 250);
        }
    }
}

static cmif_code run_all(cmif_session *s, run *r, cmif_err *err)
{
    uint64_t sent     = s->past_sent + (s->channel ? cmif_channel_sent(s->channel) : 0);
    uint64_t received = s->past_received + (s->channel ? cmif_channel_received(s->channel) : 0);

    r->start_us     = now_us();
    s->peer_refused = false;
    cmif_code rc    = try_until_done(s, r, err);
    if (s->channel && rc != CMIF_OK) {
        disconnect(s); /* in an unknown state: the next call starts afresh */
    }
    r->usage.prompt_rows = (uint32_t) r->prompt;
    r->usage.total_us    = now_us() - r->start_us;
    r->usage.sent        = s->past_sent + (s->channel ? cmif_channel_sent(s->channel) : 0) - sent;
    r->usage.received    = s->past_received + (s->channel ? cmif_channel_received(s->channel) : 0) - received;
    return rc;
}

static cmif_code check_ids(const cmif_session *s, const cmif_ids *ids, const char *what, cmif_err *err)
{
    const size_t count = ids->count;
    if (count == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "the %s is empty: give some text", what);
    }
    if (count > s->welcome.context) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "the %s has %zu tokens, the server's context holds %u: shorten it, or start the server with a "
                         "larger --max-context",
                         what, count, s->welcome.context);
    }
    for (size_t i = 0; s->row_type == CMIF_ROWS_ID && i < count; i++) {
        if (ids->at[i] < 0 || (size_t) ids->at[i] >= cmif_embed_vocab(s->table)) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "token %zu of the %s is a row of its own, not one of the %zu of the vocabulary, so it "
                             "cannot travel as an id: choose another row type, f16 for one",
                             i, what, cmif_embed_vocab(s->table));
        }
    }
    return CMIF_OK;
}

cmif_code cmif_session_generate(cmif_session *s, cmif_ids *prompt, bool keep, const cmif_generation *how,
                                cmif_usage *usage, cmif_err *err)
{
    run       r  = {.how = how, .prompt = prompt->count};
    cmif_code rc = check_ids(s, prompt, "prompt", err);
    if (rc == CMIF_OK && (s->welcome.flags & CMIF_WELCOME_ENCODER)) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                       "the server's model (%.*s) is an encoder and generates nothing: use "
                       "`cmif classify` or `cmif embed`",
                       s->welcome.arch_size, s->welcome.arch);
    }
    if (rc == CMIF_OK && (how->max_tokens == 0 || how->stop_count > CMIF_WIRE_STOPS_MAX)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%u tokens and %zu stop ids asked for; expected at least 1 and at most %d",
                       how->max_tokens, how->stop_count, CMIF_WIRE_STOPS_MAX);
    }
    if (rc == CMIF_OK) {
        rc = cmif_ids_append(&r.all, prompt->at, prompt->count, err);
    }
    if (rc == CMIF_OK) {
        rc = run_all(s, &r, err);
    }
    if (rc == CMIF_OK && atomic_load(&s->cancelled)) {
        rc             = cmif_fail(err, CMIF_E_CANCELLED, "stopped after %u tokens", r.usage.tokens);
        r.usage.reason = CMIF_DONE_CANCELLED;
    }
    if (keep && (rc == CMIF_OK || rc == CMIF_E_CANCELLED)) {
        cmif_err  full = {0};
        cmif_code kept = cmif_ids_append(prompt, r.all.at + r.prompt, r.all.count - r.prompt, &full);
        if (kept != CMIF_OK) {
            rc = kept;
            if (err) {
                *err = full;
            }
        }
    }
    cmif_session_forget_cancel(s);
    cmif_ids_free(&r.all);
    if (usage) {
        *usage = r.usage;
    }
    return rc;
}

cmif_code cmif_session_encode(cmif_session *s, const cmif_ids *ids, float *out, cmif_usage *usage, cmif_err *err)
{
    run       r  = {.prompt = ids->count};
    cmif_code rc = check_ids(s, ids, "text", err);
    if (rc == CMIF_OK && !(s->welcome.flags & CMIF_WELCOME_ENCODER)) {
        rc =
            cmif_fail(err, CMIF_E_UNSUPPORTED, "the server's model (%.*s) is no encoder: use `cmif run` or `cmif chat`",
                      s->welcome.arch_size, s->welcome.arch);
    }
    if (rc == CMIF_OK && !(r.vector = calloc(s->welcome.outputs, sizeof *r.vector))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a vector of %u floats", s->welcome.outputs);
    }
    if (rc == CMIF_OK) {
        rc = cmif_ids_append(&r.all, ids->at, ids->count, err);
    }
    if (rc == CMIF_OK) {
        rc = run_all(s, &r, err);
    }
    if (rc == CMIF_OK && atomic_load(&s->cancelled)) {
        rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped");
    } else if (rc == CMIF_OK && r.usage.tokens == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the server ended without a vector");
    }
    if (rc == CMIF_OK) {
        memcpy(out, r.vector, s->welcome.outputs * sizeof *out);
    }
    cmif_session_forget_cancel(s);
    free(r.vector);
    cmif_ids_free(&r.all);
    if (usage) {
        *usage = r.usage;
    }
    return rc;
}
