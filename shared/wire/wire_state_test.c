#include "base/check.h"
#include "wire/wire_samples.h"

#include <stdlib.h>

enum { VOCAB = 2 };

/* ---- a conversation, led to each state ---- */

static cmif_frame simple(cmif_frame_kind kind)
{
    return (cmif_frame){.kind = (uint16_t) kind};
}

static cmif_frame welcome(void)
{
    cmif_frame f    = simple(CMIF_FRAME_WELCOME);
    f.welcome.vocab = VOCAB;
    return f;
}

static cmif_frame begin(uint8_t mode, uint16_t flags, uint32_t position, uint32_t rows, uint32_t tokens)
{
    return (cmif_frame){
        .kind  = CMIF_FRAME_BEGIN,
        .begin = {.mode = mode, .flags = flags, .position = position, .row_count = rows, .max_tokens = tokens}};
}

static cmif_frame rows(uint32_t first, uint16_t count)
{
    return (cmif_frame){.kind = CMIF_FRAME_ROWS, .rows = {.first = first, .count = count}};
}

static cmif_frame token(uint32_t position, uint32_t id)
{
    return (cmif_frame){.kind = CMIF_FRAME_TOKEN, .token = {.position = position, .id = id}};
}

static cmif_frame logits(uint32_t position, uint32_t offset, uint32_t count)
{
    return (cmif_frame){.kind = CMIF_FRAME_LOGITS, .logits = {.position = position, .offset = offset, .count = count}};
}

static cmif_frame done(uint8_t reason, uint32_t position)
{
    return (cmif_frame){.kind = CMIF_FRAME_DONE, .done = {.reason = reason, .position = position}};
}

static cmif_frame evidence(uint32_t total, uint32_t offset, size_t size)
{
    return (cmif_frame){.kind = CMIF_FRAME_EVIDENCE, .evidence = {.total = total, .offset = offset, .size = size}};
}

static cmif_frame progress(uint32_t rows_done)
{
    return (cmif_frame){.kind = CMIF_FRAME_PROGRESS, .progress = {.rows = rows_done}};
}

/* One frame of this side as w sees it: sent when w is that side, else received. */
static cmif_code happens_by(cmif_wire *w, cmif_frame f, bool server)
{
    cmif_err        err    = {0};
    const cmif_wire before = *w;
    const cmif_code rc     = server == w->server ? cmif_wire_sent(w, &f, &err) : cmif_wire_received(w, &f, &err);
    CHECK(rc == CMIF_OK || (rc == CMIF_E_FORMAT && err.text[0] && memcmp(w, &before, sizeof before) == 0));
    return rc;
}

static bool is_mutual(unsigned kind)
{
    return kind >= CMIF_FRAME_CHALLENGE;
}

/* The same for kinds that one side only may send. */
static cmif_code happens(cmif_wire *w, cmif_frame f)
{
    CHECK(!is_mutual(f.kind));
    return happens_by(w, f, f.kind >= CMIF_FRAME_WELCOME);
}

#define YES(w, frame) CHECK(happens(w, frame) == CMIF_OK)
#define CLIENT_MAY(w, frame) CHECK(happens_by(w, frame, false) == CMIF_OK)
#define CLIENT_MAY_NOT(w, frame) CHECK(happens_by(w, frame, false) == CMIF_E_FORMAT)
#define SERVER_MAY(w, frame) CHECK(happens_by(w, frame, true) == CMIF_OK)
#define SERVER_MAY_NOT(w, frame) CHECK(happens_by(w, frame, true) == CMIF_E_FORMAT)
#define NO(w, frame) CHECK(happens(w, frame) == CMIF_E_FORMAT)

static cmif_wire ready(bool server)
{
    cmif_wire w;
    memset(&w, 0, sizeof w);
    w.server = server;
    YES(&w, simple(CMIF_FRAME_HELLO));
    YES(&w, welcome());
    YES(&w, simple(CMIF_FRAME_OPEN));
    YES(&w, simple(CMIF_FRAME_OPENED));
    return w;
}

static cmif_wire in_state(bool server, cmif_wire_state state)
{
    cmif_wire w;
    memset(&w, 0, sizeof w);
    w.server = server;
    if (state == CMIF_WIRE_UNSEALING) {
        YES(&w, simple(CMIF_FRAME_UNSEAL));
    } else if (state >= CMIF_WIRE_READY) {
        w = ready(server);
        if (state > CMIF_WIRE_READY && state < CMIF_WIRE_ENDED) {
            YES(&w, begin(CMIF_MODE_GENERATE, 0, 5, 2, 3));
        }
        if (state == CMIF_WIRE_STREAM || state == CMIF_WIRE_CANCELLING) {
            YES(&w, rows(5, 2));
        }
        if (state == CMIF_WIRE_CANCELLING) {
            YES(&w, simple(CMIF_FRAME_CANCEL));
        }
        if (state == CMIF_WIRE_ENDED) {
            YES(&w, simple(CMIF_FRAME_CLOSE));
        }
    } else {
        static const cmif_frame_kind greeting[] = {CMIF_FRAME_HELLO, CMIF_FRAME_WELCOME, CMIF_FRAME_OPEN};
        for (unsigned i = 0; i < state; i++) {
            YES(&w, i == 1 ? welcome() : simple(greeting[i]));
        }
    }
    CHECK(w.state == state);
    return w;
}

/* The line of the table in docs/wire.md for this frame: y, L (late, at the server only), c, s (that side alone) or -
 * for each of the states. */
static void documented(const char *text, const char *name, char states[static CMIF_WIRE_ENDED + 1])
{
    char start[32];
    snprintf(start, sizeof start, "\n%s ", name);
    const char *at = strstr(text, "\n            START GREETED");
    at             = at ? strstr(at, start) : NULL;
    CHECK(at != NULL);
    at = at ? at + strlen(start) : "";
    for (size_t i = 0; i <= CMIF_WIRE_ENDED; i++) {
        at += strspn(at, " ");
        states[i] = *at;
        CHECK(*at && strchr("yLcs-", *at));
        at += *at != '\0';
    }
}

static void each_state_takes_the_frames_of_the_documented_table_and_no_other(void)
{
    const char *text = wire_document();
    for (unsigned kind = 0; kind < 256; kind++) {
        char states[CMIF_WIRE_ENDED + 1];
        if (!cmif_frame_name(kind)) {
            continue;
        }
        documented(text, cmif_frame_name(kind), states);
        for (unsigned state = CMIF_WIRE_START; state <= CMIF_WIRE_ENDED; state++) {
            for (int server = 0; server < 2; server++) {
                cmif_wire  w = in_state(server, state);
                cmif_frame f = simple((cmif_frame_kind) kind);
                char       e = states[state];
                if ((kind == CMIF_FRAME_LOGITS || kind == CMIF_FRAME_VECTOR) && e == 'y') {
                    continue; /* must be asked for: below */
                }
                switch (f.kind) {
                case CMIF_FRAME_BEGIN:
                    f = begin(CMIF_MODE_GENERATE, 0, 0, 1, 1);
                    break;
                case CMIF_FRAME_ROWS:
                    f = rows(5, 1);
                    if (state == CMIF_WIRE_STREAM) {
                        YES(&w, token(7, 0)); /* whose row it is then */
                        f = rows(7, 1);
                    }
                    break;
                case CMIF_FRAME_TOKEN:
                    f = token(7, 0);
                    break;
                case CMIF_FRAME_DONE:
                    f = done(CMIF_DONE_STOP, 5);
                    break;
                case CMIF_FRAME_PONG:
                    if (state >= CMIF_WIRE_KNOWN && state < CMIF_WIRE_UNSEALING) {
                        YES(&w, simple(CMIF_FRAME_PING));
                    }
                    break;
                default:
                    break;
                }
                if (is_mutual(f.kind)) {
                    for (int by_server = 0; by_server < 2; by_server++) {
                        w = in_state(server, state);
                        if (f.kind == CMIF_FRAME_EVIDENCE) { /* whoever can be asked was asked, and owes it */
                            f                = evidence(1, 0, 1);
                            w.proofs[0].open = by_server;
                            w.proofs[1].open = !by_server;
                        }
                        CHECK(happens_by(&w, f, by_server) == (e == (by_server ? 's' : 'c') ? CMIF_OK : CMIF_E_FORMAT));
                    }
                    continue;
                }
                if (f.kind == CMIF_FRAME_KEY && state == CMIF_WIRE_UNSEALING) {
                    SERVER_MAY(&w, simple(CMIF_FRAME_CHALLENGE));
                    CLIENT_MAY(&w, evidence(1, 0, 1));
                }
                if (state == CMIF_WIRE_READY && e == 'L') { /* READY because a BEGIN was reset */
                    YES(&w, begin(CMIF_MODE_GENERATE, 0, 5, 2, 3));
                    YES(&w, simple(CMIF_FRAME_RESET));
                }
                CHECK(happens(&w, f) == (e == 'y' || (e == 'L' && server) ? CMIF_OK : CMIF_E_FORMAT));
            }
        }
    }
}

/* A client that sends the server's frames must not lead the server's machine along, and the other way round. */
static void nobody_may_send_the_frames_of_the_other_side(void)
{
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        for (unsigned state = CMIF_WIRE_START; state <= CMIF_WIRE_ENDED; state++) {
            for (int server = 0; server < 2; server++) {
                cmif_wire         w = in_state(server, state), before = w;
                const cmif_frame *f   = &wire_samples[i].frame;
                bool              own = (f->kind >= CMIF_FRAME_WELCOME) == w.server;
                if (is_mutual(f->kind)) {
                    continue;
                }
                CHECK((own ? cmif_wire_received(&w, f, NULL) : cmif_wire_sent(&w, f, NULL)) == CMIF_E_FORMAT);
                CHECK(memcmp(&w, &before, sizeof w) == 0);
            }
        }
    }
    for (unsigned kind = 0; kind < 65536; kind++) {
        cmif_frame unknown = simple((cmif_frame_kind) kind);
        cmif_wire  w       = in_state(true, CMIF_WIRE_START);
        CHECK(cmif_frame_name(kind) || cmif_wire_received(&w, &unknown, NULL) == CMIF_E_FORMAT);
    }
}

/* ---- what the table cannot say; each for both sides ---- */

static void rows_come_in_order_and_in_the_number_promised(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 10, 5, 8));
        NO(&w, rows(0, 1));
        NO(&w, rows(11, 1));
        NO(&w, rows(10, 6));
        YES(&w, rows(10, 3));
        NO(&w, rows(10, 1));
        NO(&w, rows(13, 3));
        NO(&w, progress(14));
        YES(&w, progress(13));
        NO(&w, token(13, 0)); /* the prompt is not complete */
        NO(&w, done(CMIF_DONE_LENGTH, 13));
        CHECK(w.state == CMIF_WIRE_PROMPT && w.rows_left == 2);
        YES(&w, rows(13, 2));
        CHECK(w.state == CMIF_WIRE_STREAM && w.rows_left == 0);
        NO(&w, rows(15, 1)); /* nobody asked */
    }
}

static void a_token_waits_for_the_row_of_the_one_before(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 3));
        YES(&w, rows(0, 1));
        NO(&w, token(0, 0)); /* wrong positions, an id beyond the vocabulary */
        NO(&w, token(2, 0));
        NO(&w, token(1, VOCAB));
        YES(&w, token(1, 1));
        NO(&w, token(1, 1)); /* row 1 is missing */
        NO(&w, token(2, 1));
        NO(&w, rows(1, 2));
        YES(&w, rows(1, 1));
        NO(&w, rows(2, 1));
        YES(&w, token(2, 0));
        YES(&w, rows(2, 1));
        YES(&w, token(3, 0));
        YES(&w, rows(3, 1));
        NO(&w, token(4, 0)); /* three were asked for */
        NO(&w, done(CMIF_DONE_LENGTH, 5));
        NO(&w, done(CMIF_DONE_CANCELLED, 3)); /* nobody cancelled */
        YES(&w, done(CMIF_DONE_LENGTH, 3));
        CHECK(w.state == CMIF_WIRE_READY);
    }
}

static void a_server_that_loops_takes_no_rows(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, CMIF_BEGIN_LOOP, 4, 1, 8));
        YES(&w, rows(4, 1));
        YES(&w, token(5, 0));
        NO(&w, rows(5, 1));
        NO(&w, token(5, 0));
        YES(&w, token(6, 0));
        NO(&w, done(CMIF_DONE_STOP, 3)); /* before the BEGIN's position; beyond the last token */
        NO(&w, done(CMIF_DONE_STOP, 8));
        YES(&w, done(CMIF_DONE_STOP, 6));
    }
}

static void logits_are_complete_and_in_order_before_their_token(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, CMIF_BEGIN_LOOP | CMIF_BEGIN_LOGITS, 0, 1, 2));
        NO(&w, logits(0, 0, 1));
        YES(&w, rows(0, 1));
        NO(&w, token(1, 0));
        NO(&w, logits(1, 1, 1));
        NO(&w, logits(1, 0, VOCAB + 1));
        NO(&w, logits(0, 0, 1));
        YES(&w, logits(1, 0, 1));
        NO(&w, logits(1, 0, 1));
        NO(&w, token(1, 0));
        NO(&w, logits(1, 1, VOCAB));
        YES(&w, logits(1, 1, VOCAB - 1));
        NO(&w, logits(1, VOCAB, 1));
        YES(&w, token(1, 0));
        NO(&w, token(2, 0)); /* the next one has its own */
        YES(&w, logits(2, 0, VOCAB));
        YES(&w, token(2, 0));
        YES(&w, done(CMIF_DONE_LENGTH, 2));

        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 2));
        YES(&w, rows(0, 1));
        NO(&w, logits(1, 0, VOCAB)); /* not asked for */
        YES(&w, simple(CMIF_FRAME_RESET));

        YES(&w, begin(CMIF_MODE_GENERATE, CMIF_BEGIN_LOGITS, 0, 1, 2));
        YES(&w, rows(0, 1));
        YES(&w, logits(1, 0, 1));
        YES(&w, simple(CMIF_FRAME_RESET)); /* in the middle; the next BEGIN starts afresh */
        YES(&w, begin(CMIF_MODE_GENERATE, CMIF_BEGIN_LOGITS, 0, 1, 2));
        YES(&w, rows(0, 1));
        YES(&w, logits(1, 0, VOCAB));
    }
}

static void an_encode_ends_with_one_vector_and_a_done(void)
{
    cmif_frame vector = simple(CMIF_FRAME_VECTOR);
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_ENCODE, 0, 0, 2, 1));
        NO(&w, vector);
        YES(&w, rows(0, 1));
        NO(&w, vector);
        YES(&w, rows(1, 1));
        NO(&w, token(2, 0));
        NO(&w, done(CMIF_DONE_STOP, 0));
        YES(&w, vector);
        NO(&w, vector);
        YES(&w, done(CMIF_DONE_STOP, 0));

        YES(&w, begin(CMIF_MODE_ENCODE, 0, 0, 2, 1));
        YES(&w, simple(CMIF_FRAME_CANCEL));
        NO(&w, done(CMIF_DONE_STOP, 0));
        YES(&w, done(CMIF_DONE_CANCELLED, 0));

        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 1));
        YES(&w, rows(0, 1));
        NO(&w, vector);
    }
}

static void after_an_end_the_server_ignores_what_was_under_way_and_nothing_more(void)
{
    cmif_wire w = ready(true);
    NO(&w, rows(0, 1)); /* there was no BEGIN yet */
    NO(&w, simple(CMIF_FRAME_CANCEL));
    YES(&w, begin(CMIF_MODE_GENERATE, 0, 7, 4, 9));
    YES(&w, rows(7, 1));
    YES(&w, simple(CMIF_FRAME_RESET));
    YES(&w, rows(8, 2));
    CHECK(w.state == CMIF_WIRE_READY);
    NO(&w, rows(8, 1));
    YES(&w, simple(CMIF_FRAME_CANCEL));
    NO(&w, simple(CMIF_FRAME_CANCEL));
    YES(&w, rows(10, 1)); /* a cancelling client sends no rows, but the count is what matters here */
    NO(&w, rows(11, 1));
    CHECK(w.state == CMIF_WIRE_READY);
    YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 9));
    CHECK(w.state == CMIF_WIRE_PROMPT && w.rows_left == 1);

    YES(&w, rows(0, 1));
    YES(&w, token(1, 0));
    YES(&w, done(CMIF_DONE_CONTEXT, 1));
    YES(&w, rows(1, 1)); /* the row of that token */
    NO(&w, rows(2, 1));
    YES(&w, simple(CMIF_FRAME_CANCEL));
    YES(&w, simple(CMIF_FRAME_CLOSE));

    cmif_wire c = ready(false); /* the client knows better */
    YES(&c, begin(CMIF_MODE_GENERATE, 0, 7, 4, 9));
    YES(&c, simple(CMIF_FRAME_RESET));
    NO(&c, rows(7, 1));
    NO(&c, simple(CMIF_FRAME_CANCEL));
}

static void after_a_cancel_the_client_sends_no_rows_and_no_other_cancel(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 4, 9));
        YES(&w, rows(0, 1));
        YES(&w, simple(CMIF_FRAME_CANCEL));
        NO(&w, rows(1, 1));
        NO(&w, simple(CMIF_FRAME_CANCEL));
        NO(&w, token(1, 0)); /* the prompt never was complete */
        YES(&w, done(CMIF_DONE_CANCELLED, 1));
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 9));
    }
}

static void every_pong_answers_a_ping(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = ready(server);
        NO(&w, simple(CMIF_FRAME_PONG));
        for (int i = 0; i < CMIF_WIRE_PINGS_MAX; i++) {
            YES(&w, simple(CMIF_FRAME_PING));
        }
        NO(&w, simple(CMIF_FRAME_PING));
        for (int i = 0; i < CMIF_WIRE_PINGS_MAX; i++) {
            YES(&w, simple(CMIF_FRAME_PONG));
        }
        NO(&w, simple(CMIF_FRAME_PONG));
    }
}

/* ---- proofs ---- */

#define CHALLENGE simple(CMIF_FRAME_CHALLENGE)

static void a_proof_is_shown_whole_and_in_order_by_the_side_that_owes_it(void)
{
    static const cmif_wire_state askable[] = {CMIF_WIRE_START, CMIF_WIRE_READY};
    for (int n = 0; n < 4; n++) {
        const cmif_wire_state state = askable[n / 2];
        cmif_wire             w     = in_state(n % 2, state);
        SERVER_MAY_NOT(&w, evidence(9, 0, 9)); /* nobody asked */
        CLIENT_MAY_NOT(&w, evidence(9, 0, 9));
        SERVER_MAY_NOT(&w, CHALLENGE);
        CLIENT_MAY(&w, CHALLENGE);
        CLIENT_MAY_NOT(&w, CHALLENGE); /* one is open */
        CLIENT_MAY_NOT(&w, evidence(9, 0, 9));
        SERVER_MAY_NOT(&w, evidence(9, 1, 8));
        SERVER_MAY_NOT(&w, evidence(9, 0, 10));
        SERVER_MAY_NOT(&w, evidence(9, 0, 0));
        SERVER_MAY(&w, evidence(9, 0, 4));
        SERVER_MAY_NOT(&w, evidence(9, 0, 4)); /* again; with a gap; another total; beyond it */
        SERVER_MAY_NOT(&w, evidence(9, 5, 4));
        SERVER_MAY_NOT(&w, evidence(8, 4, 4));
        SERVER_MAY_NOT(&w, evidence(10, 4, 4));
        SERVER_MAY_NOT(&w, evidence(9, 4, 6));
        SERVER_MAY_NOT(&w, evidence(9, 4, SIZE_MAX));
        CLIENT_MAY_NOT(&w, CHALLENGE);
        CHECK(w.proofs[0].open && !w.proofs[1].open && w.state == state);
        SERVER_MAY(&w, evidence(9, 4, 5));
        CHECK(!w.proofs[0].open && w.proofs[0].next == 9);
        SERVER_MAY_NOT(&w, evidence(9, 0, 9));
        SERVER_MAY_NOT(&w, evidence(10, 9, 1));
        CLIENT_MAY(&w, CHALLENGE); /* and so anew */
        SERVER_MAY_NOT(&w, evidence(9, 9, 1));
        SERVER_MAY(&w, evidence(3, 0, 3));
        CHECK(!w.proofs[0].open && w.state == state);
    }
}

static void nothing_goes_on_while_the_server_owes_a_proof(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = in_state(server, CMIF_WIRE_START);
        CLIENT_MAY(&w, CHALLENGE);
        for (int piece = 0; piece < 2; piece++) {
            NO(&w, simple(CMIF_FRAME_HELLO));
            NO(&w, simple(CMIF_FRAME_UNSEAL));
            NO(&w, simple(CMIF_FRAME_PING));
            NO(&w, simple(CMIF_FRAME_CLOSE));
            SERVER_MAY(&w, evidence(2, (uint32_t) piece, 1));
        }
        YES(&w, simple(CMIF_FRAME_HELLO));

        w = ready(server);
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 7, 4, 9));
        YES(&w, simple(CMIF_FRAME_RESET)); /* rows and a CANCEL of this BEGIN could be late now */
        CLIENT_MAY(&w, CHALLENGE);
        for (int piece = 0; piece < 2; piece++) {
            NO(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 1));
            NO(&w, rows(7, 1));
            NO(&w, simple(CMIF_FRAME_CANCEL));
            YES(&w, simple(CMIF_FRAME_PING));
            YES(&w, simple(CMIF_FRAME_PONG));
            SERVER_MAY(&w, evidence(2, (uint32_t) piece, 1));
        }
        NO(&w, rows(7, 1)); /* the CHALLENGE came after all that was late */
        NO(&w, simple(CMIF_FRAME_CANCEL));
        YES(&w, begin(CMIF_MODE_GENERATE, 0, 0, 1, 1));
        CLIENT_MAY_NOT(&w, CHALLENGE); /* not in a prompt */

        w = ready(server);
        CLIENT_MAY(&w, CHALLENGE);
        cmif_wire other = w;
        YES(&w, simple(CMIF_FRAME_CLOSE));
        SERVER_MAY_NOT(&w, evidence(1, 0, 1));
        YES(&other, simple(CMIF_FRAME_ERROR));
        CHECK(w.state == CMIF_WIRE_ENDED && other.state == CMIF_WIRE_ENDED);
    }
}

static void a_key_comes_after_the_clients_whole_proof_only(void)
{
    for (int server = 0; server < 2; server++) {
        cmif_wire w = in_state(server, CMIF_WIRE_START);
        CLIENT_MAY(&w, CHALLENGE); /* who is the key server? */
        SERVER_MAY(&w, evidence(5, 0, 5));
        NO(&w, simple(CMIF_FRAME_KEY));
        YES(&w, simple(CMIF_FRAME_UNSEAL));
        NO(&w, simple(CMIF_FRAME_UNSEAL));
        NO(&w, simple(CMIF_FRAME_HELLO));
        NO(&w, simple(CMIF_FRAME_PING));
        NO(&w, simple(CMIF_FRAME_KEY));
        CLIENT_MAY_NOT(&w, CHALLENGE);
        CLIENT_MAY_NOT(&w, evidence(5, 0, 5));
        SERVER_MAY(&w, CHALLENGE);
        SERVER_MAY_NOT(&w, CHALLENGE);
        SERVER_MAY_NOT(&w, evidence(5, 0, 5));
        NO(&w, simple(CMIF_FRAME_KEY));
        CLIENT_MAY_NOT(&w, evidence(5, 1, 4));
        CLIENT_MAY(&w, evidence(5, 0, 4));
        SERVER_MAY_NOT(&w, CHALLENGE);
        NO(&w, simple(CMIF_FRAME_KEY));
        CLIENT_MAY(&w, evidence(5, 4, 1));
        SERVER_MAY_NOT(&w, CHALLENGE); /* once */
        CLIENT_MAY_NOT(&w, evidence(5, 0, 5));
        CHECK(w.state == CMIF_WIRE_UNSEALING && strcmp(cmif_wire_state_name(w.state), "UNSEALING") == 0);
        cmif_wire other = w;
        YES(&w, simple(CMIF_FRAME_KEY));
        NO(&w, simple(CMIF_FRAME_KEY));
        YES(&other, simple(CMIF_FRAME_ERROR));
        CHECK(w.state == CMIF_WIRE_ENDED && other.state == CMIF_WIRE_ENDED);
    }
}

/* ---- both sides and the line between them: every interleaving of a small conversation ----
 *
 * Each side may do at any moment whatever its own machine lets it; frames arrive in order, any time later. Then for
 * every reachable moment: the receiver's machine takes what the sender's let out; what belongs to one BEGIN is never
 * taken for another's; and once nothing is under way both sides are in the same state. */

enum { LINE_MAX = 4, BEGINS_MAX = 2, ROW_COUNT = 2, TOKEN_COUNT = 2, PROOF_SIZE = 2 };

typedef struct in_flight {
    cmif_frame_kind kind;
    uint8_t         epoch; /* number of BEGINs that the sender had seen */
    uint32_t        a, b, c;
} in_flight;

typedef struct moment {
    cmif_wire side[2];          /* client, server */
    uint8_t   epoch[2], pinged; /* BEGINs sent or received; PINGs sent */
    uint8_t   challenged;       /* CHALLENGEs that the client sent */
    uint8_t   count[2];         /* of line[i]: what side i has sent and the other has not received */
    in_flight line[2][LINE_MAX];
} moment;

typedef struct config {
    uint8_t  mode;
    uint16_t flags;
    uint8_t  challenges; /* of the client; UNSEAL is tried, too, when there are any */
} config;

static config  model_config;
static moment *moments; /* all that were ever reached; the search goes through them in order */
static size_t  moments_count, moments_capacity, agreements, lates;
static size_t *table; /* open hash: index + 1 */
static size_t  table_size;

static cmif_frame frame_of(const in_flight *f)
{
    switch (f->kind) {
    case CMIF_FRAME_WELCOME:
        return welcome();
    case CMIF_FRAME_BEGIN:
        return begin(model_config.mode, model_config.flags, f->a, ROW_COUNT, TOKEN_COUNT);
    case CMIF_FRAME_ROWS:
        return rows(f->a, (uint16_t) f->b);
    case CMIF_FRAME_TOKEN:
        return token(f->a, f->b);
    case CMIF_FRAME_LOGITS:
        return logits(f->a, f->b, f->c);
    case CMIF_FRAME_PROGRESS:
        return progress(f->a);
    case CMIF_FRAME_EVIDENCE:
        return evidence(PROOF_SIZE, f->a, f->b);
    case CMIF_FRAME_DONE:
        return done((uint8_t) f->a, f->b);
    default:
        return simple(f->kind);
    }
}

/* The fields alone: padding bytes are nobody's. */
static size_t moment_key(const moment *m, uint32_t key[static 128])
{
    size_t n = 0;
    for (int s = 0; s < 2; s++) {
        const cmif_wire *w = &m->side[s];
        key[n++] =
            (uint32_t) w->state | (uint32_t) w->may_cancel << 8 | (uint32_t) w->pings << 16 | (uint32_t) w->mode << 24;
        key[n++] = w->rows_left | w->tokens_left << 8 | w->logits_next << 16 | w->vocab << 24;
        key[n++] = w->first | w->next << 16;
        key[n++] = (uint32_t) (m->epoch[s] | m->count[s] << 8 | m->pinged << 16 | m->challenged << 24);
        for (int p = 0; p < 2; p++) {
            key[n++] = (uint32_t) w->proofs[p].open | w->proofs[p].next << 8 | w->proofs[p].total << 16;
        }
        for (int i = 0; i < m->count[s]; i++) {
            const in_flight *f = &m->line[s][i];
            key[n++]           = (uint32_t) f->kind | (uint32_t) f->epoch << 8;
            key[n++]           = f->a | f->b << 8 | f->c << 16;
        }
    }
    return n;
}

static void reach(const moment *m)
{
    uint32_t key[128], other[128];
    size_t   n    = moment_key(m, key);
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ key[i]) * 1099511628211u;
    }
    for (size_t at = (hash ^ hash >> 29) % table_size;; at = (at + 1) % table_size) {
        if (table[at] == 0) {
            table[at] = moments_count + 1;
            break;
        }
        if (moment_key(&moments[table[at] - 1], other) == n && memcmp(key, other, n * sizeof *key) == 0) {
            return;
        }
    }
    if (moments_count == moments_capacity || 2 * moments_count > table_size) {
        fprintf(stderr, "the model is larger than expected\n");
        abort();
    }
    moments[moments_count++] = *m;
}

static void send_it(const moment *from, int side, in_flight f)
{
    moment     m     = *from;
    cmif_frame frame = frame_of(&f);
    if (m.count[side] == LINE_MAX || cmif_wire_sent(&m.side[side], &frame, NULL) != CMIF_OK) {
        return;
    }
    m.epoch[side]                 = (uint8_t) (m.epoch[side] + (f.kind == CMIF_FRAME_BEGIN));
    m.pinged                      = (uint8_t) (m.pinged + (f.kind == CMIF_FRAME_PING));
    m.challenged                  = (uint8_t) (m.challenged + (side == 0 && f.kind == CMIF_FRAME_CHALLENGE));
    f.epoch                       = m.epoch[side];
    m.line[side][m.count[side]++] = f;
    reach(&m);
}

static void shows_a_piece(const moment *m, int side)
{
    const uint32_t next = m->side[side].proofs[side ? 0 : 1].next;
    send_it(m, side, (in_flight){.kind = CMIF_FRAME_EVIDENCE, .a = next, .b = 1});
    send_it(m, side, (in_flight){.kind = CMIF_FRAME_EVIDENCE, .a = next, .b = PROOF_SIZE});
}

static void client_acts(const moment *m)
{
    const cmif_wire *w = &m->side[0];
    if (m->challenged < model_config.challenges) {
        send_it(m, 0, (in_flight){.kind = CMIF_FRAME_CHALLENGE});
    }
    if (model_config.challenges) {
        send_it(m, 0, (in_flight){.kind = CMIF_FRAME_UNSEAL});
        shows_a_piece(m, 0);
    }
    send_it(m, 0, (in_flight){.kind = CMIF_FRAME_HELLO});
    send_it(m, 0, (in_flight){.kind = CMIF_FRAME_OPEN});
    if (m->epoch[0] < BEGINS_MAX) {
        send_it(m, 0, (in_flight){.kind = CMIF_FRAME_BEGIN, .a = m->epoch[0]});
    }
    send_it(m, 0, (in_flight){.kind = CMIF_FRAME_ROWS, .a = w->next, .b = 1});
    if (w->rows_left > 1) {
        send_it(m, 0, (in_flight){.kind = CMIF_FRAME_ROWS, .a = w->next, .b = w->rows_left});
    }
    send_it(m, 0, (in_flight){.kind = CMIF_FRAME_CANCEL});
    send_it(m, 0, (in_flight){.kind = CMIF_FRAME_CLOSE});
    if (m->pinged < 1) {
        send_it(m, 0, (in_flight){.kind = CMIF_FRAME_PING});
    }
}

static void server_acts(const moment *m)
{
    const cmif_wire *w = &m->side[1];
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_WELCOME});
    if (model_config.challenges) {
        send_it(m, 1, (in_flight){.kind = CMIF_FRAME_CHALLENGE});
        shows_a_piece(m, 1);
        send_it(m, 1, (in_flight){.kind = CMIF_FRAME_KEY});
    }
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_OPENED});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_PROGRESS, .a = w->next});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_LOGITS, .a = w->next, .b = w->logits_next, .c = 1});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_TOKEN, .a = w->next});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_VECTOR});
    for (uint32_t reason = 0; reason <= CMIF_DONE_CANCELLED; reason += CMIF_DONE_CANCELLED) {
        send_it(m, 1, (in_flight){.kind = CMIF_FRAME_DONE, .a = reason, .b = w->first});
        send_it(m, 1, (in_flight){.kind = CMIF_FRAME_DONE, .a = reason, .b = w->next});
    }
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_RESET});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_PONG});
    send_it(m, 1, (in_flight){.kind = CMIF_FRAME_ERROR});
}

/* The oldest frame that side `from` has under way arrives. */
static bool arrives(const moment *before, int from)
{
    moment    m    = *before;
    const int to   = !from;
    in_flight f    = m.line[from][0];
    cmif_err  err  = {0};
    bool      good = true;

    m.count[from]--;
    memmove(&m.line[from][0], &m.line[from][1], m.count[from] * sizeof f);
    if (m.side[to].state != CMIF_WIRE_ENDED) { /* who has ended reads no more */
        cmif_frame frame = frame_of(&f);
        bool       late  = to == 1 && m.side[to].state == CMIF_WIRE_READY &&
                    (f.kind == CMIF_FRAME_ROWS || f.kind == CMIF_FRAME_CANCEL);
        good = cmif_wire_received(&m.side[to], &frame, &err) == CMIF_OK;
        if (!good) {
            fprintf(stderr, "refused: %s\n", err.text);
        }
        m.epoch[to] = (uint8_t) (m.epoch[to] + (f.kind == CMIF_FRAME_BEGIN));
        good &= f.epoch == m.epoch[to] || f.kind == CMIF_FRAME_PING || f.kind == CMIF_FRAME_PONG ||
                f.kind == CMIF_FRAME_ERROR; /* all others are of the BEGIN that the receiver is at */
        good &= !late || m.side[to].state == CMIF_WIRE_READY;
        lates += late;
    }
    reach(&m);
    return good;
}

static bool both_agree(const moment *m)
{
    const cmif_wire *c = &m->side[0], *s = &m->side[1];
    agreements++;
    if (c->state != s->state || c->state == CMIF_WIRE_ENDED) {
        return c->state == s->state;
    }
    if (m->epoch[0] != m->epoch[1] || c->pings != s->pings) {
        return false;
    }
    for (int p = 0; p < 2; p++) {
        if (c->proofs[p].open != s->proofs[p].open || c->proofs[p].next != s->proofs[p].next) {
            return false;
        }
    }
    return c->state <= CMIF_WIRE_READY ||
           (c->rows_left == s->rows_left && c->next == s->next && c->tokens_left == s->tokens_left &&
            c->logits_next == s->logits_next && c->may_cancel == s->may_cancel);
}

static void both_sides_agree_whatever_crosses_on_the_line(void)
{
    static const config configs[] = {
        {CMIF_MODE_GENERATE, 0, 0},
        {CMIF_MODE_GENERATE, CMIF_BEGIN_LOOP, 0},
        {CMIF_MODE_GENERATE, CMIF_BEGIN_LOGITS, 0},
        {CMIF_MODE_GENERATE, CMIF_BEGIN_LOGITS | CMIF_BEGIN_LOOP, 0},
        {CMIF_MODE_ENCODE, 0, 0},
        {CMIF_MODE_ENCODE, 0, 3},
    };
    moments_capacity = 1 << 19;
    table_size       = 1 << 21;
    moments          = malloc(moments_capacity * sizeof *moments);
    table            = malloc(table_size * sizeof *table);
    CHECK(moments && table);
    for (size_t i = 0; moments && table && i < sizeof configs / sizeof *configs; i++) {
        moment start;
        memset(&start, 0, sizeof start);
        memset(table, 0, table_size * sizeof *table);
        start.side[1].server = true;
        model_config         = configs[i];
        moments_count = agreements = lates = 0;
        reach(&start);
        size_t faults = 0;
        for (size_t at = 0; at < moments_count && faults < 5; at++) {
            const moment m = moments[at];
            client_acts(&m);
            server_acts(&m);
            for (int from = 0; from < 2; from++) {
                faults += m.count[from] && !arrives(&m, from);
            }
            bool quiet = m.count[0] == 0 && m.count[1] == 0;
            faults += quiet && !both_agree(&m);
        }
        CHECK(faults == 0);
        CHECK(moments_count > 10000 && agreements > 50 && lates > 100);
        printf("       mode %u flags %u challenges %u: %zu moments, %zu of them quiet, %zu late frames\n",
               model_config.mode, model_config.flags, model_config.challenges, moments_count, agreements, lates);
    }
    free(moments);
    free(table);
}

int main(void)
{
    RUN(each_state_takes_the_frames_of_the_documented_table_and_no_other);
    RUN(nobody_may_send_the_frames_of_the_other_side);
    RUN(rows_come_in_order_and_in_the_number_promised);
    RUN(a_token_waits_for_the_row_of_the_one_before);
    RUN(a_server_that_loops_takes_no_rows);
    RUN(logits_are_complete_and_in_order_before_their_token);
    RUN(an_encode_ends_with_one_vector_and_a_done);
    RUN(after_an_end_the_server_ignores_what_was_under_way_and_nothing_more);
    RUN(after_a_cancel_the_client_sends_no_rows_and_no_other_cancel);
    RUN(every_pong_answers_a_ping);
    RUN(a_proof_is_shown_whole_and_in_order_by_the_side_that_owes_it);
    RUN(nothing_goes_on_while_the_server_owes_a_proof);
    RUN(a_key_comes_after_the_clients_whole_proof_only);
    RUN(both_sides_agree_whatever_crosses_on_the_line);
    return check_report();
}
