#include "wire/wire.h"

#include <math.h>
#include <openssl/crypto.h>

/* Bounds of the payload without its padding, so that a header alone shows most lies. */
typedef struct frame_kind {
    const char *name;
    uint32_t    size_min, size_max;
} frame_kind;

static const frame_kind client_kinds[] = {
    [CMIF_FRAME_HELLO]  = {"HELLO", 12, 12},
    [CMIF_FRAME_OPEN]   = {"OPEN", 16, 16},
    [CMIF_FRAME_BEGIN]  = {"BEGIN", 78, 78 + 4 * CMIF_WIRE_STOPS_MAX},
    [CMIF_FRAME_ROWS]   = {"ROWS", 8 + 1, CMIF_WIRE_PAYLOAD_MAX},
    [CMIF_FRAME_CANCEL] = {"CANCEL", 0, 0},
    [CMIF_FRAME_CLOSE]  = {"CLOSE", 0, 0},
    [CMIF_FRAME_PING]   = {"PING", 4, 4},
    [CMIF_FRAME_UNSEAL] = {"UNSEAL", 32, 32},
};
static const frame_kind server_kinds[] = {
    [CMIF_FRAME_WELCOME - CMIF_FRAME_WELCOME]  = {"WELCOME", 61, 61 + 63},
    [CMIF_FRAME_OPENED - CMIF_FRAME_WELCOME]   = {"OPENED", 52, 52},
    [CMIF_FRAME_RESET - CMIF_FRAME_WELCOME]    = {"RESET", 1, 1},
    [CMIF_FRAME_PROGRESS - CMIF_FRAME_WELCOME] = {"PROGRESS", 4, 4},
    [CMIF_FRAME_TOKEN - CMIF_FRAME_WELCOME]    = {"TOKEN", 12, 12},
    [CMIF_FRAME_LOGITS - CMIF_FRAME_WELCOME]   = {"LOGITS", 12 + 4, 12 + 4 * CMIF_WIRE_LOGITS_MAX},
    [CMIF_FRAME_VECTOR - CMIF_FRAME_WELCOME]   = {"VECTOR", 4 + 4, 4 + 4 * CMIF_WIRE_LOGITS_MAX},
    [CMIF_FRAME_DONE - CMIF_FRAME_WELCOME]     = {"DONE", 49, 49},
    [CMIF_FRAME_PONG - CMIF_FRAME_WELCOME]     = {"PONG", 4, 4},
    [CMIF_FRAME_ERROR - CMIF_FRAME_WELCOME]    = {"ERROR", 3, 3 + CMIF_WIRE_TEXT_MAX},
    [CMIF_FRAME_KEY - CMIF_FRAME_WELCOME]      = {"KEY", CMIF_WIRE_KEY_SIZE, CMIF_WIRE_KEY_SIZE},
};
static const frame_kind mutual_kinds[] = {
    [CMIF_FRAME_CHALLENGE - CMIF_FRAME_CHALLENGE] = {"CHALLENGE", CMIF_WIRE_NONCE_SIZE, CMIF_WIRE_NONCE_SIZE},
    [CMIF_FRAME_EVIDENCE - CMIF_FRAME_CHALLENGE]  = {"EVIDENCE", 8 + 1, CMIF_WIRE_PAYLOAD_MAX},
};

static const frame_kind *kind_find(unsigned kind)
{
    if (kind >= CMIF_FRAME_HELLO && kind <= CMIF_FRAME_UNSEAL) {
        return &client_kinds[kind];
    }
    if (kind >= CMIF_FRAME_WELCOME && kind <= CMIF_FRAME_KEY) {
        return &server_kinds[kind - CMIF_FRAME_WELCOME];
    }
    if (kind >= CMIF_FRAME_CHALLENGE && kind <= CMIF_FRAME_EVIDENCE) {
        return &mutual_kinds[kind - CMIF_FRAME_CHALLENGE];
    }
    return NULL;
}

const char *cmif_frame_name(unsigned kind)
{
    const frame_kind *found = kind_find(kind);
    return found ? found->name : NULL;
}

/* ---- layout: one list of fields serves to read (in), to write (out) and to measure (neither), so that the three
 * cannot disagree ---- */
typedef struct codec {
    cmif_reader *in;
    cmif_writer *out;
    size_t       size;
} codec;

static uint64_t field(codec *c, uint64_t value, size_t size)
{
    c->size += size;
    if (c->out) {
        cmif_write_le(c->out, value, size);
    }
    return c->in ? cmif_read_le(c->in, size) : value;
}

static void field_u8(codec *c, uint8_t *value)
{
    *value = (uint8_t) field(c, *value, 1);
}
static void field_u16(codec *c, uint16_t *value)
{
    *value = (uint16_t) field(c, *value, 2);
}
static void field_u32(codec *c, uint32_t *value)
{
    *value = (uint32_t) field(c, *value, 4);
}
static void field_u64(codec *c, uint64_t *value)
{
    *value = field(c, *value, 8);
}

static void field_f32(codec *c, float *value)
{
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    field_u32(c, &bits);
    memcpy(value, &bits, sizeof bits);
}

static void field_copy(codec *c, void *bytes, size_t size)
{
    c->size += size;
    if (c->out) {
        cmif_write_bytes(c->out, bytes, size);
    }
    const uint8_t *from = c->in ? cmif_read_bytes(c->in, size) : NULL;
    if (from) {
        memcpy(bytes, from, size);
    }
}

/* All that is left of the payload; reading borrows it. */
static size_t field_rest(codec *c, const uint8_t **bytes, size_t size)
{
    if (c->in) {
        size   = c->in->size - c->in->at;
        *bytes = cmif_read_bytes(c->in, size);
    }
    if (c->out) {
        cmif_write_bytes(c->out, *bytes, size);
    }
    c->size += size;
    return size;
}

/* A constant that says nothing; reading anything else fails. */
static void field_constant(codec *c, uint32_t constant, size_t size)
{
    if (field(c, constant, size) != constant) {
        c->in->failed = true;
    }
}

static void layout(codec *c, cmif_frame *f)
{
    switch (f->kind) {
    case CMIF_FRAME_HELLO:
        field_constant(c, 0x46494d43, 4); /* "CMIF" */
        field_u16(c, &f->hello.version);
        field_u16(c, &f->hello.version_min);
        field_u32(c, &f->hello.features);
        break;
    case CMIF_FRAME_WELCOME:
        field_u16(c, &f->welcome.version);
        field_u16(c, &f->welcome.flags);
        field_copy(c, f->welcome.model_id, sizeof f->welcome.model_id);
        field_u32(c, &f->welcome.width);
        field_u32(c, &f->welcome.vocab);
        field_u32(c, &f->welcome.context);
        field_u32(c, &f->welcome.outputs);
        field_u32(c, &f->welcome.rows_max);
        field_u32(c, &f->welcome.idle_seconds);
        field_u8(c, &f->welcome.arch_size);
        if (f->welcome.arch_size < sizeof f->welcome.arch) {
            field_copy(c, f->welcome.arch, f->welcome.arch_size);
        }
        break;
    case CMIF_FRAME_OPEN:
        field_copy(c, f->open.handle, sizeof f->open.handle);
        break;
    case CMIF_FRAME_OPENED:
        field_copy(c, f->opened.handle, sizeof f->opened.handle);
        field_u32(c, &f->opened.position);
        field_copy(c, f->opened.hash, sizeof f->opened.hash);
        break;
    case CMIF_FRAME_BEGIN:
        field_u8(c, &f->begin.mode);
        field_u8(c, &f->begin.row_type);
        field_u16(c, &f->begin.flags);
        field_u32(c, &f->begin.position);
        field_copy(c, f->begin.hash, sizeof f->begin.hash);
        field_u32(c, &f->begin.row_count);
        field_u32(c, &f->begin.max_tokens);
        field_u32(c, &f->begin.step);
        field_f32(c, &f->begin.sampling.temperature);
        field_f32(c, &f->begin.sampling.top_p);
        field_f32(c, &f->begin.sampling.min_p);
        field_u32(c, &f->begin.sampling.top_k);
        field_u64(c, &f->begin.sampling.seed);
        field_u16(c, &f->begin.stop_count);
        for (size_t i = 0; i < f->begin.stop_count && i < CMIF_WIRE_STOPS_MAX; i++) {
            field_u32(c, &f->begin.stops[i]);
        }
        break;
    case CMIF_FRAME_ROWS:
        field_u32(c, &f->rows.first);
        field_u16(c, &f->rows.count);
        field_constant(c, 0, 2); /* so that rows start at byte 16 of the frame */
        f->rows.size = field_rest(c, &f->rows.bytes, f->rows.size);
        break;
    case CMIF_FRAME_RESET:
        field_u8(c, &f->reset.reason);
        break;
    case CMIF_FRAME_PROGRESS:
        field_u32(c, &f->progress.rows);
        break;
    case CMIF_FRAME_TOKEN:
        field_u32(c, &f->token.position);
        field_u32(c, &f->token.id);
        field_f32(c, &f->token.margin);
        break;
    case CMIF_FRAME_LOGITS:
        field_u32(c, &f->logits.position);
        field_u32(c, &f->logits.offset);
        field_u32(c, &f->logits.count);
        if (field_rest(c, &f->logits.bytes, (size_t) f->logits.count * 4) != (size_t) f->logits.count * 4) {
            c->in->failed = true;
        }
        break;
    case CMIF_FRAME_VECTOR:
        field_u32(c, &f->vector.count);
        if (field_rest(c, &f->vector.bytes, (size_t) f->vector.count * 4) != (size_t) f->vector.count * 4) {
            c->in->failed = true;
        }
        break;
    case CMIF_FRAME_DONE:
        field_u8(c, &f->done.reason);
        field_u32(c, &f->done.position);
        field_u32(c, &f->done.tokens);
        field_u32(c, &f->done.prefill_us);
        field_u32(c, &f->done.decode_us);
        field_copy(c, f->done.hash, sizeof f->done.hash);
        break;
    case CMIF_FRAME_PING:
    case CMIF_FRAME_PONG:
        field_u32(c, &f->ping.value);
        break;
    case CMIF_FRAME_CHALLENGE:
        field_copy(c, f->challenge.nonce, sizeof f->challenge.nonce);
        break;
    case CMIF_FRAME_EVIDENCE:
        field_u32(c, &f->evidence.total);
        field_u32(c, &f->evidence.offset);
        f->evidence.size = field_rest(c, &f->evidence.bytes, f->evidence.size);
        break;
    case CMIF_FRAME_UNSEAL:
        field_copy(c, f->unseal.id, sizeof f->unseal.id);
        break;
    case CMIF_FRAME_KEY:
        field_copy(c, f->key.key, sizeof f->key.key);
        break;
    case CMIF_FRAME_ERROR:
        field_u16(c, &f->error.code);
        field_u8(c, &f->error.size);
        if (f->error.size <= sizeof f->error.text) {
            field_copy(c, f->error.text, f->error.size);
        }
        break;
    default: /* CANCEL and CLOSE are empty */
        break;
    }
}

/* ---- bounds: the same for what is written (RANGE) and what was read (FORMAT); the first fault is told ---- */
typedef struct checker {
    cmif_code code; /* what a fault is */
    cmif_code rc;
    cmif_err *err;
} checker;

static void within(checker *c, const char *field_name, uint64_t value, uint64_t min, uint64_t max)
{
    if (c->rc == CMIF_OK && (value < min || value > max)) {
        c->rc = cmif_fail(c->err, c->code, "%s is %llu, %llu to %llu are allowed", field_name,
                          (unsigned long long) value, (unsigned long long) min, (unsigned long long) max);
    }
}

static void must(checker *c, bool good, const char *expected)
{
    if (c->rc == CMIF_OK && !good) {
        c->rc = cmif_fail(c->err, c->code, "%s", expected);
    }
}

static bool is_printable(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < 0x20 || text[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

static void check_begin(checker *c, const cmif_frame_begin *f)
{
    within(c, "BEGIN mode", f->mode, CMIF_MODE_GENERATE, CMIF_MODE_ENCODE);
    within(c, "BEGIN row type", f->row_type, 0, CMIF_ROW_TYPES - 1);
    within(c, "BEGIN flags", f->flags, 0, CMIF_BEGIN_LOOP | CMIF_BEGIN_MARGIN | CMIF_BEGIN_LOGITS);
    within(c, "BEGIN position", f->position, 0, CMIF_WIRE_POSITIONS);
    within(c, "BEGIN row count", f->row_count, 1, CMIF_WIRE_POSITIONS);
    within(c, "BEGIN position + row count", (uint64_t) f->position + f->row_count, 1, CMIF_WIRE_POSITIONS);
    within(c, "BEGIN max tokens", f->max_tokens, 1, CMIF_WIRE_POSITIONS);
    within(c, "BEGIN step", f->step, 0, CMIF_WIRE_POSITIONS);
    must(c, f->sampling.temperature >= 0 && f->sampling.temperature <= CMIF_WIRE_TEMPERATURE_MAX,
         "BEGIN temperature must be from 0 to 1000000");
    must(c, f->sampling.top_p > 0 && f->sampling.top_p <= 1, "BEGIN top_p must be above 0 and at most 1");
    must(c, f->sampling.min_p >= 0 && f->sampling.min_p < 1, "BEGIN min_p must be at least 0 and below 1");
    within(c, "BEGIN stop count", f->stop_count, 0, CMIF_WIRE_STOPS_MAX);
    for (size_t i = 0; c->rc == CMIF_OK && i < f->stop_count; i++) {
        must(c, f->stops[i] < CMIF_WIRE_POSITIONS, "BEGIN has a stop id that no vocabulary has");
    }
    if (f->mode == CMIF_MODE_ENCODE) {
        must(c, f->position == 0 && f->flags == 0, "BEGIN with mode ENCODE has position 0 and no flags");
    }
}

static cmif_code check(const cmif_frame *f, cmif_code code, cmif_err *err)
{
    checker c = {.code = code, .err = err};

    switch (f->kind) {
    case CMIF_FRAME_HELLO:
        within(&c, "HELLO lowest version", f->hello.version_min, 1, f->hello.version);
        break;
    case CMIF_FRAME_WELCOME:
        within(&c, "WELCOME version", f->welcome.version, CMIF_WIRE_VERSION, CMIF_WIRE_VERSION);
        within(&c, "WELCOME flags", f->welcome.flags, 0, CMIF_WELCOME_TABLE | CMIF_WELCOME_ENCODER);
        within(&c, "WELCOME width", f->welcome.width, 1, 65536);
        within(&c, "WELCOME vocab", f->welcome.vocab, 0, CMIF_WIRE_POSITIONS);
        within(&c, "WELCOME context", f->welcome.context, 1, CMIF_WIRE_POSITIONS);
        within(&c, "WELCOME outputs", f->welcome.outputs, f->welcome.flags & CMIF_WELCOME_ENCODER ? 1 : 0,
               CMIF_WIRE_LOGITS_MAX);
        within(&c, "WELCOME rows per frame", f->welcome.rows_max, 1, UINT16_MAX);
        within(&c, "WELCOME architecture length", f->welcome.arch_size, 0, sizeof f->welcome.arch - 1);
        must(&c, c.rc != CMIF_OK || is_printable(f->welcome.arch, f->welcome.arch_size),
             "WELCOME architecture must be printable ASCII");
        break;
    case CMIF_FRAME_OPENED:
        must(&c, !is_zero(f->opened.handle, sizeof f->opened.handle), "OPENED handle must not be all zeros");
        within(&c, "OPENED position", f->opened.position, 0, CMIF_WIRE_POSITIONS);
        break;
    case CMIF_FRAME_BEGIN:
        check_begin(&c, &f->begin);
        break;
    case CMIF_FRAME_ROWS:
        within(&c, "ROWS count", f->rows.count, 1, UINT16_MAX);
        within(&c, "ROWS first + count", (uint64_t) f->rows.first + f->rows.count, 1, CMIF_WIRE_POSITIONS);
        within(&c, "ROWS size", f->rows.size, 1, CMIF_WIRE_PAYLOAD_MAX - 8);
        must(&c, c.rc != CMIF_OK || f->rows.size % f->rows.count == 0, "ROWS size must be a multiple of its count");
        break;
    case CMIF_FRAME_RESET:
        within(&c, "RESET reason", f->reset.reason, CMIF_RESET_ENGINE, CMIF_RESET_MISMATCH);
        break;
    case CMIF_FRAME_PROGRESS:
        within(&c, "PROGRESS rows", f->progress.rows, 0, CMIF_WIRE_POSITIONS);
        break;
    case CMIF_FRAME_TOKEN:
        within(&c, "TOKEN position", f->token.position, 1, CMIF_WIRE_POSITIONS);
        must(&c, f->token.id < CMIF_WIRE_POSITIONS, "TOKEN id is one that no vocabulary has");
        must(&c, isfinite(f->token.margin) && f->token.margin >= 0, "TOKEN margin must be finite and at least 0");
        break;
    case CMIF_FRAME_LOGITS:
        within(&c, "LOGITS position", f->logits.position, 1, CMIF_WIRE_POSITIONS);
        within(&c, "LOGITS count", f->logits.count, 1, CMIF_WIRE_LOGITS_MAX);
        within(&c, "LOGITS offset + count", (uint64_t) f->logits.offset + f->logits.count, 1, CMIF_WIRE_POSITIONS);
        break;
    case CMIF_FRAME_VECTOR:
        within(&c, "VECTOR count", f->vector.count, 1, CMIF_WIRE_LOGITS_MAX);
        break;
    case CMIF_FRAME_DONE:
        within(&c, "DONE reason", f->done.reason, CMIF_DONE_STOP, CMIF_DONE_CANCELLED);
        within(&c, "DONE position", f->done.position, 0, CMIF_WIRE_POSITIONS);
        within(&c, "DONE tokens", f->done.tokens, 0, CMIF_WIRE_POSITIONS);
        break;
    case CMIF_FRAME_EVIDENCE:
        within(&c, "EVIDENCE total", f->evidence.total, 1, CMIF_WIRE_PROOF_MAX);
        within(&c, "EVIDENCE size", f->evidence.size, 1, CMIF_WIRE_PAYLOAD_MAX - 8);
        within(&c, "EVIDENCE offset + size", (uint64_t) f->evidence.offset + f->evidence.size, 1, f->evidence.total);
        break;
    case CMIF_FRAME_ERROR:
        within(&c, "ERROR code", f->error.code, CMIF_WIRE_E_PROTOCOL, CMIF_WIRE_E_SHUTDOWN);
        within(&c, "ERROR text length", f->error.size, 0, sizeof f->error.text);
        must(&c, c.rc != CMIF_OK || is_printable(f->error.text, f->error.size), "ERROR text must be printable ASCII");
        break;
    default: /* OPEN, CANCEL, CLOSE, PING, PONG, CHALLENGE, UNSEAL and KEY can say nothing wrong */
        break;
    }
    return c.rc;
}

/* ---- the three ways in ---- */

/* A copy of ours that holds a key leaves none behind. */
static void forget(cmif_frame *copy)
{
    if (copy->kind == CMIF_FRAME_KEY) {
        OPENSSL_cleanse(copy, sizeof *copy);
    }
}

size_t cmif_frame_size(const cmif_frame *frame)
{
    codec      c    = {0};
    cmif_frame copy = *frame;
    layout(&c, &copy);
    forget(&copy);
    return CMIF_WIRE_HEADER_SIZE + c.size + frame->pad;
}

cmif_code cmif_frame_encode(const cmif_frame *frame, void *bytes, size_t size, size_t *used, cmif_err *err)
{
    if (!kind_find(frame->kind)) {
        return cmif_fail(err, CMIF_E_RANGE, "there is no frame of kind %u", frame->kind);
    }
    cmif_code rc = check(frame, CMIF_E_RANGE, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    const size_t total = cmif_frame_size(frame);
    if (total - CMIF_WIRE_HEADER_SIZE > CMIF_WIRE_PAYLOAD_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "%s of %zu bytes, at most %u are allowed", cmif_frame_name(frame->kind),
                         total - CMIF_WIRE_HEADER_SIZE, CMIF_WIRE_PAYLOAD_MAX);
    }
    if (total > size) {
        return cmif_fail(err, CMIF_E_RANGE, "%s takes %zu bytes, there is room for %zu", cmif_frame_name(frame->kind),
                         total, size);
    }
    cmif_writer out  = cmif_writer_over(bytes, total);
    codec       c    = {.out = &out};
    cmif_frame  copy = *frame; /* layout() wants to be able to write */
    cmif_write_u32(&out, (uint32_t) (total - CMIF_WIRE_HEADER_SIZE));
    cmif_write_u16(&out, frame->kind);
    cmif_write_u16(&out, frame->pad);
    layout(&c, &copy);
    forget(&copy);
    memset(out.data + out.at, 0, frame->pad);
    *used = total;
    return CMIF_OK;
}

cmif_code cmif_frame_peek(const void *bytes, size_t size, size_t *frame_size, cmif_err *err)
{
    if (size < CMIF_WIRE_HEADER_SIZE) {
        *frame_size = 0;
        return CMIF_OK;
    }
    cmif_reader       r       = cmif_reader_over(bytes, CMIF_WIRE_HEADER_SIZE);
    const uint32_t    payload = cmif_read_u32(&r);
    const uint16_t    kind    = cmif_read_u16(&r);
    const uint16_t    pad     = cmif_read_u16(&r);
    const frame_kind *known   = kind_find(kind);
    if (!known) {
        return cmif_fail(err, CMIF_E_FORMAT, "a frame of kind %u, which is none of protocol " CMIF_WIRE_ALPN, kind);
    }
    if (payload > CMIF_WIRE_PAYLOAD_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s claims %u bytes, at most %u are allowed", known->name, payload,
                         CMIF_WIRE_PAYLOAD_MAX);
    }
    if (pad > payload || payload - pad < known->size_min || payload - pad > known->size_max) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s claims %u bytes, %u of them padding; it has %u to %u without padding",
                         known->name, payload, pad, known->size_min, known->size_max);
    }
    *frame_size = CMIF_WIRE_HEADER_SIZE + payload;
    return CMIF_OK;
}

cmif_code cmif_frame_decode(const void *bytes, size_t size, cmif_frame *frame, size_t *used, cmif_err *err)
{
    size_t    total = 0;
    cmif_code rc    = cmif_frame_peek(bytes, size, &total, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (total == 0 || total > size) {
        return cmif_fail(err, CMIF_E_FORMAT, "%zu bytes are not a whole frame, which has %zu", size,
                         total ? total : CMIF_WIRE_HEADER_SIZE);
    }
    cmif_frame  f      = {0};
    cmif_reader header = cmif_reader_over(bytes, CMIF_WIRE_HEADER_SIZE);
    cmif_read_u32(&header);
    f.kind = cmif_read_u16(&header);
    f.pad  = cmif_read_u16(&header);

    const uint8_t *payload = (const uint8_t *) bytes + CMIF_WIRE_HEADER_SIZE;
    cmif_reader    in      = cmif_reader_over(payload, total - CMIF_WIRE_HEADER_SIZE - f.pad);
    codec          c       = {.in = &in};
    layout(&c, &f);
    if (c.in->failed) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%s of %zu bytes: its fields do not fit in, or a constant is wrong",
                       cmif_frame_name(f.kind), in.size);
    } else {
        rc = check(&f, CMIF_E_FORMAT, err);
    }
    if (rc == CMIF_OK && in.at != in.size) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%s has %zu bytes, its fields take %zu", cmif_frame_name(f.kind), in.size,
                       in.at);
    }
    if (rc == CMIF_OK && !is_zero(payload + in.size, f.pad)) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%s has padding that is not zero", cmif_frame_name(f.kind));
    }
    if (rc == CMIF_OK) {
        *frame = f;
        *used  = total;
    }
    forget(&f);
    return rc;
}

void cmif_frame_set_error(cmif_frame *frame, cmif_wire_error code, const char *text)
{
    *frame = (cmif_frame){.kind = CMIF_FRAME_ERROR, .error = {.code = (uint16_t) code}};
    for (; text[frame->error.size] && frame->error.size < sizeof frame->error.text; frame->error.size++) {
        const char *at                       = text + frame->error.size;
        frame->error.text[frame->error.size] = is_printable(at, 1) ? *at : '?';
    }
}
