#include "server/child.h"

#include "server/pipe.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_MAX (4u << 20) /* bytes read between two steps */

typedef struct child {
    int            fd;
    uint32_t       slots;
    cmif_engine   *engine;
    uint32_t      *runs;                       /* (slots) the run that each slot works on ... */
    cmif_row_type *types;                      /* ... and the type of its rows */
    uint8_t        in[2 * CMIF_PIPE_SIZE_MAX]; /* received, not yet understood */
    size_t         in_size;
    uint8_t        out[2 * CMIF_PIPE_SIZE_MAX]; /* to be sent after this step */
    size_t         out_size;
    uint8_t        little[CMIF_WIRE_LOGITS_MAX * 4]; /* floats as the wire has them */
    cmif_err       send_err;                         /* the sink cannot return one */
} child;

static cmif_code child_flush(child *c, cmif_err *err)
{
    size_t at = 0;
    while (at < c->out_size) {
        ssize_t n = write(c->fd, c->out + at, c->out_size - at);
        if (n < 0 && errno != EINTR) {
            return cmif_fail(err, CMIF_E_IO, "engine pipe: %s", strerror(errno));
        }
        at += n > 0 ? (size_t) n : 0;
    }
    c->out_size = 0;
    return CMIF_OK;
}

static cmif_code child_send(child *c, const cmif_pipe_message *message, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    size_t    used = 0;

    if (cmif_pipe_size(message) > sizeof c->out - c->out_size) {
        rc = child_flush(c, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_pipe_encode(message, c->out + c->out_size, sizeof c->out - c->out_size, &used, err);
        c->out_size += used;
    }
    return rc;
}

static cmif_code child_send_error(child *c, uint32_t slot, uint32_t flags, unsigned code, const char *text,
                                  cmif_err *err)
{
    cmif_pipe_message m = {.slot = slot, .run = c->runs ? c->runs[slot] : 0, .flags = flags};

    cmif_frame_set_error(&m.frame, (cmif_wire_error) code, text);
    return child_send(c, &m, err);
}

static const uint8_t *child_little(child *c, const float *floats, size_t count)
{
    cmif_writer w = cmif_writer_over(c->little, sizeof c->little);
    for (size_t i = 0; i < count; i++) {
        cmif_write_f32(&w, floats[i]);
    }
    return c->little;
}

static cmif_code child_send_logits(child *c, cmif_pipe_message *m, const cmif_engine_event *e, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t at = 0; rc == CMIF_OK && at < e->count;) {
        size_t count             = e->count - at < CMIF_WIRE_LOGITS_MAX ? e->count - at : CMIF_WIRE_LOGITS_MAX;
        m->frame.logits.position = e->position;
        m->frame.logits.offset   = (uint32_t) at;
        m->frame.logits.count    = (uint32_t) count;
        m->frame.logits.bytes    = child_little(c, e->floats + at, count);
        rc                       = child_send(c, m, err);
        at += count;
    }
    return rc;
}

static void child_sink(void *context, const cmif_engine_event *e)
{
    child            *c  = context;
    cmif_code         rc = CMIF_OK;
    cmif_pipe_message m  = {.slot = e->slot, .run = c->runs[e->slot], .frame.kind = e->kind};

    if (c->send_err.code != CMIF_OK) {
        return;
    }
    switch (e->kind) {
    case CMIF_FRAME_TOKEN:
        m.flags                = e->looped ? CMIF_PIPE_LOOPED : 0;
        m.frame.token.position = e->position;
        m.frame.token.id       = e->id;
        m.frame.token.margin   = e->margin;
        rc                     = child_send(c, &m, &c->send_err);
        break;
    case CMIF_FRAME_LOGITS:
        rc = child_send_logits(c, &m, e, &c->send_err);
        break;
    case CMIF_FRAME_VECTOR:
        if (e->count > CMIF_WIRE_LOGITS_MAX) {
            rc = cmif_fail(&c->send_err, CMIF_E_RANGE, "engine pipe: a vector of %zu floats", e->count);
            break;
        }
        m.frame.vector.count = (uint32_t) e->count;
        m.frame.vector.bytes = child_little(c, e->floats, e->count);
        rc                   = child_send(c, &m, &c->send_err);
        break;
    case CMIF_FRAME_PROGRESS:
        m.frame.progress.rows = e->position;
        rc                    = child_send(c, &m, &c->send_err);
        break;
    case CMIF_FRAME_DONE:
        m.frame.done.reason     = e->reason;
        m.frame.done.position   = e->position;
        m.frame.done.tokens     = e->tokens;
        m.frame.done.prefill_us = e->prefill_us;
        m.frame.done.decode_us  = e->decode_us;
        rc                      = child_send(c, &m, &c->send_err);
        break;
    case CMIF_FRAME_ERROR:
        rc = child_send_error(c, e->slot, 0, e->reason, "the engine could not compute this prompt", &c->send_err);
        break;
    default:
        rc = cmif_fail(&c->send_err, CMIF_E_RANGE, "engine: an event of kind %u", e->kind);
    }
    (void) rc; /* kept in send_err: looked at after the step */
}

static cmif_code child_put_rows(child *c, const cmif_pipe_message *m, cmif_err *err)
{
    const uint32_t width = cmif_engine_welcome(c->engine)->width;
    const size_t   size  = cmif_row_size(c->types[m->slot], width);

    if (m->frame.rows.size != m->frame.rows.count * size) {
        return cmif_fail(err, CMIF_E_FORMAT, "a chunk of %u rows of %zu bytes in %zu bytes", m->frame.rows.count, size,
                         m->frame.rows.size);
    }
    return cmif_engine_put_rows(c->engine, m->slot, c->types[m->slot], m->frame.rows.bytes, m->frame.rows.count, err);
}

static cmif_code child_message(child *c, const cmif_pipe_message *m, cmif_err *err)
{
    cmif_code rc  = CMIF_OK;
    cmif_err  why = {0};

    if (m->frame.kind != CMIF_FRAME_PING && m->frame.kind != CMIF_FRAME_BEGIN && m->run != c->runs[m->slot]) {
        return cmif_fail(err, CMIF_E_FORMAT, "engine pipe: run %u on slot %u, which is at run %u", m->run, m->slot,
                         c->runs[m->slot]);
    }
    switch (m->frame.kind) {
    case CMIF_FRAME_BEGIN:
        c->runs[m->slot]  = m->run;
        c->types[m->slot] = (cmif_row_type) m->frame.begin.row_type;
        if (cmif_engine_begin(c->engine, m->slot, &m->frame.begin, &why) != CMIF_OK) {
            bool refused = why.code == CMIF_E_RANGE;
            rc           = child_send_error(c, m->slot, refused ? CMIF_PIPE_REFUSED : 0,
                                  refused ? CMIF_WIRE_E_CONTEXT : CMIF_WIRE_E_UNSUPPORTED, why.text, err);
        }
        break;
    case CMIF_FRAME_ROWS:
        if (child_put_rows(c, m, &why) != CMIF_OK) {
            cmif_engine_drop(c->engine, m->slot);
            rc = child_send_error(c, m->slot, 0, CMIF_WIRE_E_ROWS, why.text, err);
        }
        break;
    case CMIF_FRAME_CANCEL:
        cmif_engine_cancel(c->engine, m->slot);
        break;
    case CMIF_FRAME_CLOSE:
        cmif_engine_drop(c->engine, m->slot);
        break;
    default:
        rc = child_send(c, &(cmif_pipe_message){.frame = {.kind = CMIF_FRAME_PONG}}, err);
    }
    return rc;
}

/* Handle the whole messages of c->in. */
static cmif_code child_messages(child *c, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    size_t    at = 0, size = 0;

    for (;; at += size) {
        cmif_pipe_message m;
        rc = cmif_pipe_peek(c->in + at, c->in_size - at, &size, err);
        if (rc != CMIF_OK || size == 0 || size > c->in_size - at) {
            break;
        }
        rc = cmif_pipe_decode(CMIF_PIPE_SERVER, c->slots, c->in + at, size, &m, err);
        if (rc == CMIF_OK) {
            rc = child_message(c, &m, err);
        }
        if (rc != CMIF_OK) {
            break;
        }
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
    return rc;
}

/* Read what is there, within reason: a step must not wait for a client that keeps sending. Wait for the first byte when
 * there is nothing to compute. *open is false once the server is gone. */
static cmif_code child_receive(child *c, bool wait, bool *open, cmif_err *err)
{
    cmif_code     rc = CMIF_OK;
    struct pollfd p  = {.fd = c->fd, .events = POLLIN};

    for (size_t total = 0; rc == CMIF_OK && *open && total < READ_MAX;) {
        if (poll(&p, 1, wait && total == 0 ? -1 : 0) <= 0) {
            break; /* nothing there, or a signal: look again after the next step */
        }
        ssize_t n = read(c->fd, c->in + c->in_size, sizeof c->in - c->in_size);
        if (n < 0 && errno != EINTR && errno != ECONNRESET) {
            return cmif_fail(err, CMIF_E_IO, "engine pipe: %s", strerror(errno));
        }
        *open = n > 0 || (n < 0 && errno == EINTR);
        c->in_size += n > 0 ? (size_t) n : 0;
        total += n > 0 ? (size_t) n : 0;
        rc = child_messages(c, err);
    }
    return rc;
}

cmif_code cmif_child_run(int fd, const cmif_engine_options *options, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    bool      open = true;
    child    *c    = calloc(1, sizeof *c);

    if (!c) {
        return cmif_fail(err, CMIF_E_MEMORY, "engine: no memory for the pipe's buffers");
    }
    c->fd    = fd;
    c->slots = options->slots;
    rc       = cmif_engine_open(options, &c->engine, err);
    if (rc != CMIF_OK) {
        cmif_err ignored;
        if (child_send_error(c, 0, 0, CMIF_WIRE_E_ENGINE, err->text, &ignored) == CMIF_OK) {
            (void) !child_flush(c, &ignored);
        }
        goto done;
    }
    c->runs  = calloc(c->slots, sizeof *c->runs);
    c->types = calloc(c->slots, sizeof *c->types);
    if (!c->runs || !c->types) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "engine: no memory for %u slots", c->slots);
        goto done;
    }
    cmif_pipe_message hello      = {.frame = {.kind = CMIF_FRAME_WELCOME, .welcome = *cmif_engine_welcome(c->engine)}};
    hello.frame.welcome.version  = CMIF_WIRE_VERSION;
    hello.frame.welcome.rows_max = 1; /* the server says these two */
    rc                           = child_send(c, &hello, err);
    while (rc == CMIF_OK && open) {
        rc = child_flush(c, err);
        if (rc == CMIF_OK) {
            rc = child_receive(c, !cmif_engine_has_work(c->engine), &open, err);
        }
        if (rc == CMIF_OK && open && cmif_engine_has_work(c->engine)) {
            rc = cmif_engine_step(c->engine, child_sink, c, err);
        }
        if (rc == CMIF_OK && c->send_err.code != CMIF_OK) {
            rc   = c->send_err.code;
            *err = c->send_err;
        }
    }
done:
    cmif_engine_free(c->engine);
    free(c->runs);
    free(c->types);
    free(c);
    return rc;
}
