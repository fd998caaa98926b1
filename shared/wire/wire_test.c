#include "base/check.h"
#include "wire/wire_samples.h"

#include <math.h>
#include <stdlib.h>

enum { ROOM = CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX };

static uint8_t encoded[ROOM], again[ROOM], scratch[ROOM + 64];

static size_t encode(const cmif_frame *frame)
{
    size_t used = 0;
    CHECK(cmif_frame_encode(frame, encoded, sizeof encoded, &used, NULL) == CMIF_OK);
    CHECK(used == cmif_frame_size(frame));
    return used;
}

/* What decodes must encode back to the very bytes; true if it decoded. */
static bool decodes_to_itself(const uint8_t *bytes, size_t size)
{
    cmif_frame frame = {.kind = 77, .pad = 99};
    size_t     used = 12345, written = 0;
    cmif_err   err = {0};
    if (cmif_frame_decode(bytes, size, &frame, &used, &err) != CMIF_OK) {
        CHECK(err.code == CMIF_E_FORMAT && err.text[0] && frame.kind == 77 && frame.pad == 99 && used == 12345);
        return false;
    }
    CHECK(used <= size && used == cmif_frame_size(&frame));
    CHECK(cmif_frame_encode(&frame, again, sizeof again, &written, NULL) == CMIF_OK);
    CHECK(written == used && memcmp(again, bytes, used) == 0);
    return true;
}

static bool refused(const cmif_frame *frame)
{
    size_t   used = 12345;
    cmif_err err  = {0};
    bool     no   = cmif_frame_encode(frame, encoded, sizeof encoded, &used, &err) == CMIF_E_RANGE;
    CHECK(!no || (used == 12345 && err.text[0]));
    return no;
}

/* ---- docs/wire.md ---- */

/* The hex digits after `label` at the start of a line, and of the lines below it that begin with a space. */
static size_t documented(const char *text, const char *label, uint8_t *bytes, size_t room)
{
    char start[64];
    snprintf(start, sizeof start, "\n%s ", label);
    const char *at = strstr(text, "## Example bytes");
    at             = at ? strstr(at, start) : NULL;
    size_t digits  = 0;
    for (at = at ? at + strlen(start) : ""; *at && (*at != '\n' || at[1] == ' '); at++) {
        const char *found = strchr("0123456789abcdef", *at);
        if (found && digits < 2 * room) {
            unsigned value    = (unsigned) (found - strchr("0123456789abcdef", '0'));
            bytes[digits / 2] = (uint8_t) (digits % 2 ? bytes[digits / 2] * 16u + value : value);
            digits++;
        }
    }
    CHECK(digits % 2 == 0);
    return digits / 2;
}

static void every_frame_has_the_bytes_that_the_documentation_shows(void)
{
    const char *text = wire_document();
    uint8_t     bytes[512];
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        size_t size = documented(text, wire_samples[i].label, bytes, sizeof bytes);
        CHECK(size >= CMIF_WIRE_HEADER_SIZE);
        CHECK(size == encode(&wire_samples[i].frame) && memcmp(bytes, encoded, size) == 0);
        CHECK(decodes_to_itself(bytes, size));
    }
}

static void the_running_hash_is_the_documented_one(void)
{
    static const struct {
        const char   *label;
        cmif_row_type type;
        const uint8_t row[4];
    } steps[]                             = {{"h(1)", CMIF_ROWS_F16, {0x00, 0x3c, 0x00, 0xc0}},
                                             {"h(2)", CMIF_ROWS_F16, {0x00, 0x38, 0x00, 0x00}},
                                             {"h(3)", CMIF_ROWS_ID, {0xd2, 0x04, 0x00, 0x00}}};
    const char *text                      = wire_document();
    uint8_t     hash[CMIF_WIRE_HASH_SIZE] = {0}, expected[CMIF_WIRE_HASH_SIZE];
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        cmif_wire_hash(hash, steps[i].type, steps[i].row, sizeof steps[i].row);
        CHECK(documented(text, steps[i].label, expected, sizeof expected) == sizeof expected);
        CHECK(memcmp(hash, expected, sizeof hash) == 0);
    }
}

/* ---- samples ---- */

static void every_kind_has_a_sample_and_a_name(void)
{
    for (unsigned kind = 0; kind < 65536; kind++) {
        bool        known   = (kind >= 1 && kind <= 8) || (kind >= 64 && kind <= 74) || kind == 128 || kind == 129;
        bool        sampled = false;
        const char *name    = cmif_frame_name(kind);
        for (size_t i = 0; i < WIRE_SAMPLES; i++) {
            sampled |=
                wire_samples[i].frame.kind == kind && name && strncmp(wire_samples[i].label, name, strlen(name)) == 0;
        }
        CHECK(known == (name != NULL) && known == sampled);
    }
}

static void fields_come_back_as_they_were(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        const cmif_frame *s = &wire_samples[i].frame;
        cmif_frame        f = {0};
        size_t            used;
        size_t            size = encode(s);
        CHECK(cmif_frame_decode(encoded, size, &f, &used, NULL) == CMIF_OK && used == size);
        CHECK(f.kind == s->kind && f.pad == s->pad);
        switch (s->kind) { /* the others are plain values, and so covered by their bytes */
        case CMIF_FRAME_WELCOME:
            CHECK(f.welcome.width == 576 && f.welcome.vocab == 49152 && f.welcome.context == 2048);
            CHECK(f.welcome.rows_max == 512 && f.welcome.idle_seconds == 600 && strcmp(f.welcome.arch, "llama") == 0);
            break;
        case CMIF_FRAME_BEGIN:
            CHECK(f.begin.row_type == CMIF_ROWS_F16 && f.begin.position == 3 && f.begin.row_count == 2);
            CHECK(f.begin.sampling.temperature == 0.5f && f.begin.sampling.top_p == 0.75f);
            CHECK(f.begin.sampling.min_p == 0.25f && f.begin.sampling.top_k == 40);
            CHECK(f.begin.sampling.seed == 0x123456789abcdef0 && f.begin.stop_count == 2 && f.begin.stops[1] == 49151);
            break;
        case CMIF_FRAME_ROWS:
            CHECK(f.rows.first == 3 && f.rows.count == 2 && f.rows.size == 8 && f.rows.bytes == encoded + 16);
            break;
        case CMIF_FRAME_LOGITS:
            CHECK(f.logits.position == 5 && f.logits.offset == 65536 && f.logits.count == 2);
            CHECK(f.logits.bytes == encoded + 20);
            break;
        case CMIF_FRAME_VECTOR:
            CHECK(f.vector.count == 2 && f.vector.bytes == encoded + 12);
            break;
        case CMIF_FRAME_TOKEN:
            CHECK(f.token.position == 5 && f.token.id == 1234 && f.token.margin == 0.125f);
            break;
        case CMIF_FRAME_DONE:
            CHECK(f.done.position == 68 && f.done.tokens == 64 && f.done.prefill_us == 70000 &&
                  f.done.hash[31] == 0x9c);
            break;
        case CMIF_FRAME_EVIDENCE:
            CHECK(f.evidence.total == 40000 && f.evidence.offset == 39992 && f.evidence.size == 8);
            CHECK(f.evidence.bytes == encoded + 16);
            break;
        case CMIF_FRAME_ERROR:
            CHECK(f.error.code == CMIF_WIRE_E_BUSY && f.error.size == 19 && memcmp(f.error.text, "every", 5) == 0);
            break;
        default:
            break;
        }
    }
}

static void every_prefix_is_refused(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        size_t size = encode(&wire_samples[i].frame);
        for (size_t prefix = 0; prefix < size; prefix++) {
            uint8_t *exact = malloc(prefix + !prefix); /* so that a sanitizer sees any read beyond */
            size_t   whole = 99;
            memcpy(exact, encoded, prefix);
            CHECK(!decodes_to_itself(exact, prefix));
            CHECK(cmif_frame_peek(exact, prefix, &whole, NULL) == CMIF_OK);
            CHECK(whole == (prefix < CMIF_WIRE_HEADER_SIZE ? 0 : size));
            free(exact);
        }
    }
}

static void every_changed_byte_is_refused_or_means_itself(void)
{
    size_t took = 0, refusals = 0;
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        size_t size = encode(&wire_samples[i].frame);
        memcpy(scratch, encoded, size);
        for (size_t at = 0; at < size; at++) {
            for (unsigned change = 1; change < 256; change++) {
                scratch[at] ^= (uint8_t) change;
                bool good = decodes_to_itself(scratch, size);
                took += good;
                refusals += !good;
                scratch[at] ^= (uint8_t) change;
            }
        }
    }
    CHECK(took > 10000 && refusals > 10000); /* free bytes (hashes, rows) and checked ones */
}

static void every_length_lie_is_refused(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        const cmif_frame *f       = &wire_samples[i].frame;
        size_t            size    = encode(f);
        bool              elastic = f->kind == CMIF_FRAME_ROWS;     /* its length says how many bytes a row has */
        bool              shorter = f->kind == CMIF_FRAME_EVIDENCE; /* a piece may be any; this one is the last */
        memset(scratch, 0, sizeof scratch);
        memcpy(scratch, encoded, size);
        for (uint32_t claim = 0; claim <= 2048; claim++) {
            for (size_t b = 0; b < 4; b++) {
                scratch[b] = (uint8_t) (claim >> (8 * b));
            }
            bool good = decodes_to_itself(scratch, sizeof scratch);
            CHECK(claim == size - 8 ? good : (elastic || (shorter && claim > 8 && claim < size - 8) || !good));
        }
        static const uint32_t large[] = {CMIF_WIRE_PAYLOAD_MAX + 1, 0x7fffffff, 0x80000000, 0xfffffff7, 0xffffffff};
        for (size_t l = 0; l < sizeof large / sizeof *large; l++) {
            size_t whole = 99;
            for (size_t b = 0; b < 4; b++) {
                scratch[b] = (uint8_t) (large[l] >> (8 * b));
            }
            CHECK(cmif_frame_peek(scratch, 8, &whole, NULL) == CMIF_E_FORMAT && whole == 99); /* at once */
        }
    }
}

static void padding_is_zeros_and_within_the_frame(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        cmif_frame f = wire_samples[i].frame;
        for (f.pad = 0; f.pad < 20; f.pad++) {
            size_t size = encode(&f);
            CHECK(size == cmif_frame_size(&wire_samples[i].frame) - wire_samples[i].frame.pad + f.pad);
            memcpy(scratch, encoded, size);
            CHECK(decodes_to_itself(scratch, size));
            for (size_t at = size - f.pad; at < size; at++) {
                scratch[at] = 1;
                CHECK(!decodes_to_itself(scratch, size));
                scratch[at] = 0;
            }
        }
        f.pad = UINT16_MAX;
        memcpy(scratch, encoded, encode(&f));
        CHECK(decodes_to_itself(encoded, cmif_frame_size(&f)));
        scratch[0] = scratch[1] = scratch[2] = scratch[3] = 0; /* more padding than payload */
        scratch[6]                                        = 1;
        scratch[7]                                        = 0;
        CHECK(!decodes_to_itself(scratch, 8));
    }
}

static void a_small_room_is_refused(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        size_t size = cmif_frame_size(&wire_samples[i].frame), used = 99;
        for (size_t room = 0; room < size; room++) {
            uint8_t *exact = malloc(room + !room);
            CHECK(cmif_frame_encode(&wire_samples[i].frame, exact, room, &used, NULL) == CMIF_E_RANGE && used == 99);
            free(exact);
        }
    }
}

/* ---- bounds of fields ---- */

static cmif_frame sample(cmif_frame_kind kind)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        if (wire_samples[i].frame.kind == kind) {
            return wire_samples[i].frame;
        }
    }
    abort();
}

/* With this field at `bad` the frame must be refused, at `good` not. */
#define BOUND(kind_, field, good, bad)                                                                                 \
    do {                                                                                                               \
        cmif_frame f_ = sample(CMIF_FRAME_##kind_);                                                                    \
        f_.field      = (good);                                                                                        \
        CHECK(!refused(&f_));                                                                                          \
        f_.field = (bad);                                                                                              \
        CHECK(refused(&f_));                                                                                           \
    } while (0)

static void every_field_has_its_bounds(void)
{
    BOUND(HELLO, hello.version, 65535, 0);
    BOUND(HELLO, hello.version_min, 1, 0);
    BOUND(HELLO, hello.version_min, 1, 2); /* above version */
    BOUND(WELCOME, welcome.version, 1, 2);
    BOUND(WELCOME, welcome.flags, 1, 4);
    BOUND(WELCOME, welcome.flags, 0, CMIF_WELCOME_ENCODER); /* without outputs */
    BOUND(WELCOME, welcome.width, 65536, 0);
    BOUND(WELCOME, welcome.width, 1, 65537);
    BOUND(WELCOME, welcome.vocab, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(WELCOME, welcome.context, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(WELCOME, welcome.context, 1, 0);
    BOUND(WELCOME, welcome.outputs, 65536, 65537);
    BOUND(WELCOME, welcome.rows_max, 1, 0);
    BOUND(WELCOME, welcome.rows_max, 65535, 65536);
    BOUND(WELCOME, welcome.arch_size, 0, 64);
    BOUND(WELCOME, welcome.arch_size, 5, 255);
    BOUND(WELCOME, welcome.arch[0], '~', 0x7f);
    BOUND(WELCOME, welcome.arch[4], ' ', '\n');
    BOUND(OPENED, opened.position, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(BEGIN, begin.mode, 0, 2);
    BOUND(BEGIN, begin.row_type, CMIF_ROWS_Q8_0, 5);
    BOUND(BEGIN, begin.flags, 7, 8);
    BOUND(BEGIN, begin.position, CMIF_WIRE_POSITIONS - 2, CMIF_WIRE_POSITIONS - 1);
    BOUND(BEGIN, begin.position, 0, 0xffffffff);
    BOUND(BEGIN, begin.row_count, 1, 0);
    BOUND(BEGIN, begin.row_count, 1000000000, 0xffffffff);
    BOUND(BEGIN, begin.max_tokens, 1, 0);
    BOUND(BEGIN, begin.max_tokens, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(BEGIN, begin.step, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(BEGIN, begin.sampling.temperature, 0, -0.5f);
    BOUND(BEGIN, begin.sampling.temperature, 2, NAN);
    BOUND(BEGIN, begin.sampling.temperature, 1e6f, 1.01e6f);
    BOUND(BEGIN, begin.sampling.temperature, 0, INFINITY);
    BOUND(BEGIN, begin.sampling.top_p, 1, 0);
    BOUND(BEGIN, begin.sampling.top_p, 0.001f, 1.001f);
    BOUND(BEGIN, begin.sampling.top_p, 1, NAN);
    BOUND(BEGIN, begin.sampling.min_p, 0, 1);
    BOUND(BEGIN, begin.sampling.min_p, 0.999f, -0.001f);
    BOUND(BEGIN, begin.sampling.min_p, 0, NAN);
    BOUND(BEGIN, begin.stop_count, 64, 65);
    BOUND(BEGIN, begin.stop_count, 0, 65535);
    BOUND(BEGIN, begin.stops[1], CMIF_WIRE_POSITIONS - 1, CMIF_WIRE_POSITIONS);
    BOUND(ROWS, rows.count, 1, 0);
    BOUND(ROWS, rows.count, 4, 3); /* 8 bytes are no 3 rows */
    BOUND(ROWS, rows.size, 2, 0);
    BOUND(ROWS, rows.size, 4, 7);
    BOUND(ROWS, rows.first, CMIF_WIRE_POSITIONS - 2, CMIF_WIRE_POSITIONS - 1);
    BOUND(RESET, reset.reason, 2, 3);
    BOUND(PROGRESS, progress.rows, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(TOKEN, token.position, CMIF_WIRE_POSITIONS, CMIF_WIRE_POSITIONS + 1);
    BOUND(TOKEN, token.position, 1, 0);
    BOUND(TOKEN, token.id, CMIF_WIRE_POSITIONS - 1, CMIF_WIRE_POSITIONS);
    BOUND(TOKEN, token.margin, 0, -1);
    BOUND(TOKEN, token.margin, 1e30f, INFINITY);
    BOUND(TOKEN, token.margin, 1, NAN);
    BOUND(LOGITS, logits.position, 1, 0);
    BOUND(LOGITS, logits.count, 1, 0);
    BOUND(LOGITS, logits.count, 2, 65537);
    BOUND(LOGITS, logits.offset, CMIF_WIRE_POSITIONS - 2, CMIF_WIRE_POSITIONS - 1);
    BOUND(VECTOR, vector.count, 1, 0);
    BOUND(VECTOR, vector.count, 2, 65537);
    BOUND(DONE, done.reason, 3, 4);
    BOUND(DONE, done.position, 0, CMIF_WIRE_POSITIONS + 1);
    BOUND(DONE, done.tokens, 0, CMIF_WIRE_POSITIONS + 1);
    BOUND(EVIDENCE, evidence.total, 40000, 39999);
    BOUND(EVIDENCE, evidence.total, CMIF_WIRE_PROOF_MAX, CMIF_WIRE_PROOF_MAX + 1);
    BOUND(EVIDENCE, evidence.total, 40000, 0);
    BOUND(EVIDENCE, evidence.offset, 0, 39993);
    BOUND(EVIDENCE, evidence.offset, 39992, 0xfffffff8); /* wraps to 0 in 32 bits */
    BOUND(EVIDENCE, evidence.size, 1, 0);
    BOUND(EVIDENCE, evidence.size, 8, 9);
    BOUND(EVIDENCE, evidence.size, 8, SIZE_MAX);
    BOUND(ERROR, error.code, 9, 10);
    BOUND(ERROR, error.code, 1, 0);
    BOUND(ERROR, error.size, 19, 201);
    BOUND(ERROR, error.text[3], 'x', '\x1b');
    BOUND(ERROR, error.text[3], '~', '\x7f');
    BOUND(ERROR, error.text[3], ' ', '\xc3');

    cmif_frame f = sample(CMIF_FRAME_OPENED);
    memset(f.opened.handle, 0, sizeof f.opened.handle);
    CHECK(refused(&f)); /* zeros ask for a new session */
    f                = sample(CMIF_FRAME_BEGIN);
    f.begin.mode     = CMIF_MODE_ENCODE;
    f.begin.flags    = 0;
    f.begin.position = 0;
    CHECK(!refused(&f));
    f.begin.position = 1;
    CHECK(refused(&f));
    f.begin.position = 0;
    f.begin.flags    = CMIF_BEGIN_MARGIN;
    CHECK(refused(&f));
    f.kind = 0;
    CHECK(refused(&f));
}

/* The decoder has the same bounds: whatever the encoder refuses is written by hand into good bytes here. */
static void the_decoder_refuses_what_the_encoder_refuses(void)
{
    static const struct {
        cmif_frame_kind kind;
        size_t          at, size; /* in the payload */
        uint64_t        value;
    } lies[] = {
        {CMIF_FRAME_HELLO, 0, 1, 'c'},
        {CMIF_FRAME_HELLO, 4, 2, 0},
        {CMIF_FRAME_WELCOME, 2, 2, 4},
        {CMIF_FRAME_WELCOME, 36, 4, 65537},
        {CMIF_FRAME_WELCOME, 61, 1, 7},
        {CMIF_FRAME_BEGIN, 0, 1, 2},
        {CMIF_FRAME_BEGIN, 1, 1, 5},
        {CMIF_FRAME_BEGIN, 2, 2, 8},
        {CMIF_FRAME_BEGIN, 40, 4, 0},
        {CMIF_FRAME_BEGIN, 40, 4, 0xffffffff},
        {CMIF_FRAME_BEGIN, 52, 4, 0x7fc00000}, /* temperature: NaN */
        {CMIF_FRAME_BEGIN, 52, 4, 0x7f800000}, /* Inf */
        {CMIF_FRAME_BEGIN, 52, 4, 0xbf800000}, /* -1 */
        {CMIF_FRAME_BEGIN, 56, 4, 0x7f800001}, /* top_p: a signalling NaN */
        {CMIF_FRAME_BEGIN, 60, 4, 0x3f800000}, /* min_p: 1 */
        {CMIF_FRAME_BEGIN, 76, 2, 1},          /* stop count: one is left over */
        {CMIF_FRAME_BEGIN, 76, 2, 3},          /* one is missing */
        {CMIF_FRAME_BEGIN, 76, 2, 65535},
        {CMIF_FRAME_BEGIN, 78, 4, 0x80000000},
        {CMIF_FRAME_ROWS, 4, 2, 0},
        {CMIF_FRAME_ROWS, 4, 2, 3},
        {CMIF_FRAME_ROWS, 4, 2, 65535},
        {CMIF_FRAME_ROWS, 6, 2, 1}, /* constant */
        {CMIF_FRAME_ROWS, 0, 4, 0xffffffff},
        {CMIF_FRAME_LOGITS, 8, 4, 0x40000002}, /* times 4 is 8 in 32 bits */
        {CMIF_FRAME_LOGITS, 8, 4, 1},
        {CMIF_FRAME_LOGITS, 8, 4, 3},
        {CMIF_FRAME_VECTOR, 0, 4, 0x40000002},
        {CMIF_FRAME_VECTOR, 0, 4, 3},
        {CMIF_FRAME_TOKEN, 8, 4, 0xff800000},
        {CMIF_FRAME_DONE, 0, 1, 4},
        {CMIF_FRAME_RESET, 0, 1, 3},
        {CMIF_FRAME_EVIDENCE, 0, 4, 39999},
        {CMIF_FRAME_EVIDENCE, 0, 4, 0},
        {CMIF_FRAME_EVIDENCE, 0, 4, CMIF_WIRE_PROOF_MAX + 1},
        {CMIF_FRAME_EVIDENCE, 4, 4, 39993},
        {CMIF_FRAME_EVIDENCE, 4, 4, 0xfffffff8},
        {CMIF_FRAME_ERROR, 2, 1, 18},
        {CMIF_FRAME_ERROR, 2, 1, 20},
        {CMIF_FRAME_ERROR, 3, 1, 0x1b},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        cmif_frame f    = sample(lies[i].kind);
        size_t     size = encode(&f);
        memcpy(scratch, encoded, size);
        for (size_t b = 0; b < lies[i].size; b++) {
            scratch[8 + lies[i].at + b] = (uint8_t) (lies[i].value >> (8 * b));
        }
        CHECK(!decodes_to_itself(scratch, size));
    }
    cmif_frame f = sample(CMIF_FRAME_OPENED);
    memcpy(scratch, encoded, encode(&f));
    memset(scratch + 8, 0, CMIF_WIRE_HANDLE_SIZE);
    CHECK(!decodes_to_itself(scratch, cmif_frame_size(&f)));
}

/* ---- sizes ---- */

static void the_largest_frame_passes_and_a_larger_one_does_not(void)
{
    static uint8_t rows[CMIF_WIRE_PAYLOAD_MAX];
    cmif_frame f    = {.kind = CMIF_FRAME_ROWS, .rows = {.count = 1, .bytes = rows, .size = CMIF_WIRE_PAYLOAD_MAX - 8}};
    size_t     size = encode(&f);
    CHECK(size == ROOM);
    memcpy(scratch, encoded, size);
    CHECK(decodes_to_itself(scratch, size));
    f.pad = 1;
    CHECK(refused(&f));
    f.pad       = 0;
    f.rows.size = CMIF_WIRE_PAYLOAD_MAX;
    CHECK(refused(&f));
    f.rows.size = SIZE_MAX;
    CHECK(refused(&f));

    f = (cmif_frame){.kind   = CMIF_FRAME_LOGITS,
                     .logits = {.position = 1, .count = CMIF_WIRE_LOGITS_MAX, .bytes = rows}};
    memcpy(scratch, encoded, encode(&f));
    CHECK(decodes_to_itself(scratch, cmif_frame_size(&f)));

    f = (cmif_frame){.kind     = CMIF_FRAME_EVIDENCE,
                     .evidence = {.total = CMIF_WIRE_PROOF_MAX, .bytes = rows, .size = CMIF_WIRE_PAYLOAD_MAX - 8}};
    memcpy(scratch, encoded, encode(&f));
    CHECK(cmif_frame_size(&f) == ROOM && decodes_to_itself(scratch, ROOM));
    f.evidence.size++;
    CHECK(refused(&f));

    f                  = sample(CMIF_FRAME_BEGIN);
    f.begin.stop_count = CMIF_WIRE_STOPS_MAX;
    memcpy(scratch, encoded, encode(&f));
    CHECK(decodes_to_itself(scratch, cmif_frame_size(&f)));

    f                   = sample(CMIF_FRAME_WELCOME);
    f.welcome.arch_size = 63;
    memset(f.welcome.arch, 'x', 63);
    memcpy(scratch, encoded, encode(&f));
    CHECK(decodes_to_itself(scratch, cmif_frame_size(&f)));
}

/* 10^9 rows can be announced, which is 33 bytes of claim and nothing to hold; a frame cannot carry what it has not. */
static void a_claim_of_a_billion_rows_costs_nothing(void)
{
    cmif_frame f = sample(CMIF_FRAME_BEGIN), back = {0};
    size_t     used   = 0;
    f.begin.position  = 0;
    f.begin.row_count = 1000000000;
    size_t size       = encode(&f);
    CHECK(size < 100 && cmif_frame_decode(encoded, size, &back, &used, NULL) == CMIF_OK);
    CHECK(back.begin.row_count == 1000000000); /* for the server to compare with its context */

    cmif_frame rows = {.kind = CMIF_FRAME_ROWS, .rows = {.count = 65535, .bytes = SAMPLE_ROWS, .size = 8}};
    CHECK(refused(&rows));
}

static void an_error_text_is_cut_and_cleaned(void)
{
    cmif_frame f;
    char       text[300];
    memset(text, 'x', sizeof text);
    text[299] = '\0';
    memcpy(text, "\x1b[2J\xc3\xa4\n", 7);
    cmif_frame_set_error(&f, CMIF_WIRE_E_ENGINE, text);
    CHECK(f.kind == CMIF_FRAME_ERROR && f.error.code == CMIF_WIRE_E_ENGINE && f.error.size == CMIF_WIRE_TEXT_MAX);
    CHECK(memcmp(f.error.text, "?[2J???xxx", 10) == 0);
    CHECK(!refused(&f));
    cmif_frame_set_error(&f, CMIF_WIRE_E_IDLE, "");
    CHECK(f.error.size == 0 && !refused(&f));
}

int main(void)
{
    RUN(every_frame_has_the_bytes_that_the_documentation_shows);
    RUN(the_running_hash_is_the_documented_one);
    RUN(every_kind_has_a_sample_and_a_name);
    RUN(fields_come_back_as_they_were);
    RUN(every_prefix_is_refused);
    RUN(every_changed_byte_is_refused_or_means_itself);
    RUN(every_length_lie_is_refused);
    RUN(padding_is_zeros_and_within_the_frame);
    RUN(a_small_room_is_refused);
    RUN(every_field_has_its_bounds);
    RUN(the_decoder_refuses_what_the_encoder_refuses);
    RUN(the_largest_frame_passes_and_a_larger_one_does_not);
    RUN(a_claim_of_a_billion_rows_costs_nothing);
    RUN(an_error_text_is_cut_and_cleaned);
    return check_report();
}
