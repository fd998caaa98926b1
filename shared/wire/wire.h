/* wire - the frames of protocol cmif/1: one encoder and one decoder for both sides, and the table of which frame is
 * allowed when. docs/wire.md is the same in prose, for whoever writes another implementation.
 *
 * A frame is an 8-byte header { u32 size, u16 kind, u16 pad } and `size` payload bytes, little-endian; the last `pad`
 * of them are zeros that only hide lengths. The client speaks first. One connection serves one session at a time.
 *
 *   client                                server
 *   HELLO                                 WELCOME             who is there: model, shape, limits
 *   OPEN handle or zeros                  OPENED              a session: its cache may have survived
 *   BEGIN position, hash, rows, sampling  (RESET)             RESET: no such prefix here, replay from 0
 *   ROWS ... (any number of chunks)       PROGRESS            prefill starts on the first chunk
 *                                         LOGITS?, TOKEN      generate: one per token
 *                                         VECTOR              encode: one
 *   ROWS (1, the token's row)                                 unless the server loops by itself
 *   CANCEL                                DONE                end of this BEGIN; next BEGIN or CLOSE
 *   CLOSE                                                     drop the cache, also in mid-stream; the server closes
 *   PING                                  PONG                at any time after WELCOME
 *                                         ERROR               then the server closes
 *   CHALLENGE nonce                       EVIDENCE ...        first of all, or between two BEGINs: who is there, proved
 *
 * A key server speaks the same frames, and these only:
 *   UNSEAL key id                         CHALLENGE nonce     who wants the key?
 *   EVIDENCE ...                          KEY                 or ERROR; then the server closes
 *
 * Sees    what may leave the machine. */
#ifndef CMIF_WIRE_WIRE_H
#define CMIF_WIRE_WIRE_H

#include "base/bytes.h"
#include "base/err.h"
#include "rows/rows.h"

#define CMIF_WIRE_VERSION      1
#define CMIF_WIRE_ALPN         "cmif/1"
#define CMIF_WIRE_HEADER_SIZE  8
#define CMIF_WIRE_PAYLOAD_MAX  (1u << 20) /* bytes after the header, padding included */
#define CMIF_WIRE_STOPS_MAX    64
#define CMIF_WIRE_TEXT_MAX     200
#define CMIF_WIRE_HASH_SIZE    32
#define CMIF_WIRE_HANDLE_SIZE  16
#define CMIF_WIRE_LOGITS_MAX   65536 /* floats in one LOGITS frame */
#define CMIF_WIRE_POSITIONS    (1u << 30) /* no session is longer; bounds positions, contexts, vocabularies and counts */
#define CMIF_WIRE_PINGS_MAX    64 /* PINGs without their PONG */
#define CMIF_WIRE_TEMPERATURE_MAX 1e6f
#define CMIF_WIRE_ROW_LIMIT    1e4f  /* no element of a row is larger in size: the engine would not notice */
#define CMIF_WIRE_NONCE_SIZE   32
#define CMIF_WIRE_KEY_SIZE     32
#define CMIF_WIRE_PROOF_MAX    ((1u << 20) + 4096) /* bytes of a proof (evidence/evidence.h): claims and bundle */
#define CMIF_WIRE_EXPORTER     "EXPORTER-CMIF-attest-v1" /* RFC 8446 7.5, no context, 32 bytes */

typedef enum cmif_frame_kind {
    CMIF_FRAME_HELLO = 1, CMIF_FRAME_OPEN, CMIF_FRAME_BEGIN, CMIF_FRAME_ROWS, CMIF_FRAME_CANCEL, CMIF_FRAME_CLOSE,
    CMIF_FRAME_PING, CMIF_FRAME_UNSEAL,                                                    /* client to server */
    CMIF_FRAME_WELCOME = 64, CMIF_FRAME_OPENED, CMIF_FRAME_RESET, CMIF_FRAME_PROGRESS, CMIF_FRAME_TOKEN,
    CMIF_FRAME_LOGITS, CMIF_FRAME_VECTOR, CMIF_FRAME_DONE, CMIF_FRAME_PONG, CMIF_FRAME_ERROR,
    CMIF_FRAME_KEY,                                                                        /* server to client */
    CMIF_FRAME_CHALLENGE = 128, CMIF_FRAME_EVIDENCE                                        /* either way */
} cmif_frame_kind;

typedef enum cmif_mode { CMIF_MODE_GENERATE = 0, CMIF_MODE_ENCODE } cmif_mode;
enum { /* cmif_frame_begin.flags */
    CMIF_BEGIN_LOOP   = 1, /* the server feeds its own tokens (needs CMIF_WELCOME_TABLE) */
    CMIF_BEGIN_MARGIN = 2, /* TOKEN says how close the choice was: greedy, the gap between the two best logits; drawn, how far
                            * logits could move before another token came, to first order. Else 0 */
    CMIF_BEGIN_LOGITS = 4  /* LOGITS frames (all vocab floats) before each TOKEN */
};
enum { /* cmif_frame_welcome.flags */
    CMIF_WELCOME_TABLE   = 1, /* the server holds an embedding table: ids are welcome, and it can loop */
    CMIF_WELCOME_ENCODER = 2  /* encode only: no generation, no cache */
};
typedef enum cmif_done_reason { CMIF_DONE_STOP = 0, CMIF_DONE_LENGTH, CMIF_DONE_CONTEXT, CMIF_DONE_CANCELLED } cmif_done_reason;
typedef enum cmif_reset_reason { CMIF_RESET_ENGINE = 0, CMIF_RESET_EVICTED, CMIF_RESET_MISMATCH } cmif_reset_reason;
typedef enum cmif_wire_error { /* in ERROR frames */
    CMIF_WIRE_E_PROTOCOL = 1, /* a frame that is malformed, too long, or not allowed now */
    CMIF_WIRE_E_VERSION,      /* no common version */
    CMIF_WIRE_E_ROWS,         /* wrong width, count or position; a value that is not finite, or too large */
    CMIF_WIRE_E_CONTEXT,      /* longer than the context */
    CMIF_WIRE_E_BUSY,         /* every session is in use: come back later */
    CMIF_WIRE_E_IDLE,         /* too slow, or silent for too long */
    CMIF_WIRE_E_UNSUPPORTED,  /* ids without a table, generate on an encoder, ... */
    CMIF_WIRE_E_ENGINE,       /* the engine cannot do it, or keeps failing */
    CMIF_WIRE_E_SHUTDOWN      /* the server is going away */
} cmif_wire_error;

typedef struct cmif_sampling {
    float    temperature; /* 0: greedy; at most CMIF_WIRE_TEMPERATURE_MAX */
    float    top_p;       /* (0, 1]; 1: off */
    float    min_p;       /* [0, 1); 0: off */
    uint32_t top_k;       /* 0: off */
    uint64_t seed;        /* each token's draw depends on seed and on the token's number alone, so that a replay agrees */
} cmif_sampling;

typedef struct cmif_frame_welcome {
    uint16_t version, flags;
    uint8_t  model_id[32];  /* key cmif.model_id of both halves of a split */
    uint32_t width;         /* floats of a row */
    uint32_t vocab;         /* logits */
    uint32_t context;       /* rows of one session */
    uint32_t outputs;       /* floats of a VECTOR; 0 for a decoder */
    uint32_t rows_max;      /* rows of one ROWS frame */
    uint32_t idle_seconds;  /* a session without a BEGIN for longer may be dropped */
    uint8_t  arch_size;     /* at most 63 */
    char     arch[64];      /* "llama": for messages only; decoded it ends with a NUL */
} cmif_frame_welcome;

typedef struct cmif_frame_begin {
    uint8_t       mode;     /* cmif_mode */
    uint8_t       row_type; /* cmif_row_type of all ROWS until DONE */
    uint16_t      flags;
    uint32_t      position; /* rows [0, position) are in the cache already ... */
    uint8_t       hash[CMIF_WIRE_HASH_SIZE]; /* ... and this is their running hash */
    uint32_t      row_count;  /* prompt rows that follow, >= 1 */
    uint32_t      max_tokens; /* of this BEGIN, >= 1; an ENCODE uses none of this, step, sampling, stops */
    uint32_t      step;       /* number of the first token: > 0 in a replay, whose last `step` rows were tokens */
    cmif_sampling sampling;
    uint16_t      stop_count;
    uint32_t      stops[CMIF_WIRE_STOPS_MAX]; /* ids that end the stream; the stop token is sent, its row is not */
} cmif_frame_begin;

typedef struct cmif_frame {
    uint16_t kind;
    uint16_t pad;
    union {
        struct { uint16_t version, version_min; uint32_t features; } hello; /* after the magic "CMIF" */
        cmif_frame_welcome welcome;
        struct { uint8_t handle[CMIF_WIRE_HANDLE_SIZE]; } open; /* zeros: a new session */
        struct { uint8_t handle[CMIF_WIRE_HANDLE_SIZE]; uint32_t position; uint8_t hash[CMIF_WIRE_HASH_SIZE]; } opened;
        cmif_frame_begin begin;
        struct { uint32_t first; uint16_t count; const uint8_t *bytes; size_t size; } rows; /* bytes borrowed */
        struct { uint8_t reason; } reset;
        struct { uint32_t rows; } progress; /* rows in the cache: sent at least every 2 s while the engine works */
        struct { uint32_t position, id; float margin; } token; /* position that the token's row will have */
        struct { uint32_t position, offset, count; const uint8_t *bytes; } logits; /* f32 LE, borrowed */
        struct { uint32_t count; const uint8_t *bytes; } vector;                   /* f32 LE, borrowed */
        struct { uint8_t reason; uint32_t position, tokens, prefill_us, decode_us; uint8_t hash[CMIF_WIRE_HASH_SIZE]; } done;
        struct { uint32_t value; } ping; /* and pong */
        struct { uint8_t nonce[CMIF_WIRE_NONCE_SIZE]; } challenge;
        struct { uint32_t total, offset; const uint8_t *bytes; size_t size; } evidence; /* a piece of a proof, >= 1 byte, borrowed */
        struct { uint8_t id[32]; } unseal;          /* of the sealed file's key (seal/seal.h) */
        struct { uint8_t key[CMIF_WIRE_KEY_SIZE]; } key; /* wipe it */
        struct { uint16_t code; uint8_t size; char text[CMIF_WIRE_TEXT_MAX]; } error;
    };
} cmif_frame;

/* Bytes that frame takes on the wire, header and padding included. */
size_t cmif_frame_size(const cmif_frame *frame);

/* Encode into bytes (size >= cmif_frame_size). *used is set on success only. Errors: RANGE (a field outside its bounds,
 * no room). */
CMIF_MUST_USE cmif_code cmif_frame_encode(const cmif_frame *frame, void *bytes, size_t size, size_t *used, cmif_err *err);

/* How many bytes the frame that starts here takes, once 8 of its bytes are there: 0 means "read more". A header that can
 * be no good (unknown kind, too long) is a FORMAT error at once, before its payload is waited for. */
CMIF_MUST_USE cmif_code cmif_frame_peek(const void *bytes, size_t size, size_t *frame_size, cmif_err *err);

/* Decode one whole frame. Borrowed pointers point into bytes. Every field is checked against its bounds; padding is zero;
 * nothing is left over. What decodes encodes back to the same bytes.
 * Errors: FORMAT. *frame and *used change on success only. */
CMIF_MUST_USE cmif_code cmif_frame_decode(const void *bytes, size_t size, cmif_frame *frame, size_t *used, cmif_err *err);

const char *cmif_frame_name(unsigned kind); /* "BEGIN"; NULL: unknown */

/* An ERROR frame with as much of text as fits; what is not printable ASCII becomes '?'. */
void cmif_frame_set_error(cmif_frame *frame, cmif_wire_error code, const char *text);

/* ---- states: both sides keep one machine per connection and tell it every frame, in the order of their own events:
 * before it is sent, after it was received. The order of frames that cross on the way differs between the sides: after
 * the server has ended a BEGIN (DONE or RESET), ROWS and one CANCEL of that BEGIN may still come in. They are
 * late, and to be ignored: the server's machine takes them and stays READY. Every BEGIN has exactly one end (or the
 * connection ends), so the end that a client gets after its CANCEL answers that BEGIN, whatever its reason says. ---- */
typedef enum cmif_wire_state {
    CMIF_WIRE_START = 0, /* nothing yet: HELLO */
    CMIF_WIRE_GREETED,   /* HELLO was: WELCOME */
    CMIF_WIRE_KNOWN,     /* OPEN */
    CMIF_WIRE_OPENING,   /* OPENED */
    CMIF_WIRE_READY,     /* BEGIN; at the server also late ROWS and CANCEL, to be ignored */
    CMIF_WIRE_PROMPT,    /* ROWS until row_count, CANCEL; PROGRESS, RESET */
    CMIF_WIRE_STREAM,    /* PROGRESS, LOGITS, TOKEN, VECTOR, DONE, RESET; CANCEL, and a ROWS per TOKEN without LOOP */
    CMIF_WIRE_CANCELLING,/* CANCEL was: what the server had under way, then DONE or RESET */
    CMIF_WIRE_UNSEALING, /* UNSEAL was: the server's CHALLENGE, EVIDENCE of the client, KEY */
    CMIF_WIRE_ENDED      /* after ERROR, CLOSE or KEY: nothing */
} cmif_wire_state;

typedef struct cmif_wire {      /* all zeros but for: */
    bool            server;     /* which side this is; set it before the first frame */
    cmif_wire_state state;      /* read these two; the rest is for wire_state.c */
    uint32_t        rows_left;  /* rows that the client still owes: of the prompt, then of the last TOKEN */
    uint32_t        first;      /* position of the BEGIN */
    uint32_t        next;       /* position of the next row */
    uint32_t        tokens_left, vocab, logits_next;
    uint16_t        flags;      /* of the BEGIN, as is mode */
    uint8_t         mode, pings;
    bool            may_cancel; /* no CANCEL yet since the BEGIN */
    struct { bool open; uint32_t next, total; } proofs[2]; /* that the server, the client owes: EVIDENCE of one CHALLENGE, in order */
} cmif_wire;

/* Is this frame allowed now, from this side? Then the machine moves on; else it stays as it was.
 * Looks at order, counts and positions: whoever may send the kind; rows.first and token.position are the next position;
 * no more rows than promised; LOGITS cover the vocabulary in order before their TOKEN; no more tokens than asked for.
 * What depends on the model (width, context, table) is for the caller to check.
 * Errors: FORMAT naming state and frame. */
CMIF_MUST_USE cmif_code cmif_wire_sent(cmif_wire *wire, const cmif_frame *frame, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_wire_received(cmif_wire *wire, const cmif_frame *frame, cmif_err *err);

const char *cmif_wire_state_name(cmif_wire_state state); /* "READY" */

/* ---- running hash: h(0) = zeros, h(p + 1) = SHA-256(h(p) || u8 row type || row bytes as sent; a looped token: type 0
 * and u32 id). ---- */
void cmif_wire_hash(uint8_t hash[CMIF_WIRE_HASH_SIZE], cmif_row_type type, const void *row, size_t row_size);

#endif
