/* A server of a few lines plays the other side: it has a cache and running hashes like a real one, its "model" computes
 * the next token from all ids so far, and it misbehaves on demand. */
#include "session/session.h"

#include "base/check.h"
#include "dp/released_ids.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VOCAB = 64, WIDTH = 4, CONTEXT = 48 };

typedef enum fault {
    NONE,
    RESET_AFTER,    /* RESET(ENGINE) after `when` tokens, once for each of `times` */
    HANG_UP_AFTER,  /* the connection ends after `when` tokens, `times` times; the cache survives */
    FORGET_AFTER,   /* the same, and the cache is gone */
    WRONG_POSITION, /* of the token with number `when` */
    WRONG_ID,
    GARBAGE,
    ANOTHER_MODEL, /* from the second connection on */
    WRONG_LENGTH,  /* of the vector */
    ANOTHER_LENGTH /* of all vectors, from the second connection on; the first one ends before its vector */
} fault;

typedef enum lie { /* in the evidence, from CHALLENGE number `lie_from` on */
                   TRUTH,
                   OLD_NONCE,      /* what the first CHALLENGE had asked for */
                   OLD_CONNECTION, /* what was said in another connection */
                   OTHER_KEY,      /* by another certificate */
                   OTHER_ROLE,     /* what a client would show */
                   OTHER_PROGRAM,  /* one that the policy does not name */
                   OTHER_MODEL,
                   OTHER_PIECE,  /* a piece of the proof twice */
                   HALF_A_PROOF, /* then the connection ends */
                   AN_ERROR,     /* the server has none */
                   A_WELCOME,    /* and goes on as if nothing had been asked */
                   LIES
} lie;

typedef struct mock {
    int       listener;
    pthread_t thread;
    bool      table, encoder, always;
    fault     fault;
    uint32_t  when;
    int       times, connections;
    /* of the one session */
    int32_t  ids[CONTEXT + 1];
    uint8_t  hashes[CONTEXT + 1][CMIF_WIRE_HASH_SIZE];
    uint32_t count;
    uint32_t rows_received, begins;
    uint32_t prompt, wrong_steps; /* rows of the prompt, if the number of the first token is to be checked */
    lie      lie;
    int      lie_from, challenges;
    uint8_t  first_nonce[CMIF_WIRE_NONCE_SIZE];
    char     log[4096]; /* what came: a letter a frame, ROWS after ROWS one, | for each connection */
} mock;

static char        folder[] = "/tmp/cmif-session-XXXXXX", path[64], model_path[64];
static cmif_gguf  *file;
static cmif_embed *table;
static uint8_t     model_id[32] = {1, 2, 3};

static int32_t next_token(const int32_t *ids, uint32_t count)
{
    uint32_t sum = 3;
    for (uint32_t i = 0; i < count; i++) {
        sum = sum * 31 + (uint32_t) ids[i];
    }
    return (int32_t) (sum >> 3) % VOCAB;
}

typedef struct line { /* of one connection */
    mock     *of;
    int       fd;
    cmif_wire wire;
    uint8_t   in[1 << 16];
    size_t    size;
} line;

static bool put(line *l, const cmif_frame *frame)
{
    static _Thread_local uint8_t bytes[1 << 16];
    size_t                       size;
    (void) !cmif_wire_sent(&l->wire, frame, NULL); /* a misbehaving server does as it likes */
    return cmif_frame_encode(frame, bytes, sizeof bytes, &size, NULL) == CMIF_OK &&
           send(l->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t) size;
}

static void note(mock *m, char what)
{
    const size_t used = strlen(m->log);
    if (used + 1 < sizeof m->log && (what != 'R' || !used || m->log[used - 1] != 'R')) {
        m->log[used] = what;
    }
}

static bool get_any(line *l, cmif_frame *frame)
{
    for (;;) {
        size_t whole = 0, used;
        if (l->size && cmif_frame_peek(l->in, l->size, &whole, NULL) != CMIF_OK) {
            return false;
        }
        if (whole && whole <= l->size) {
            static _Thread_local uint8_t kept[1 << 16]; /* what the frame borrows */
            memcpy(kept, l->in, whole);
            memmove(l->in, l->in + whole, l->size - whole);
            l->size -= whole;
            if (cmif_frame_decode(kept, whole, frame, &used, NULL) != CMIF_OK) {
                return false;
            }
            note(l->of, frame->kind == CMIF_FRAME_CHALLENGE ? '?' : cmif_frame_name(frame->kind)[0]);
            return cmif_wire_received(&l->wire, frame, NULL) == CMIF_OK;
        }
        ssize_t more = recv(l->fd, l->in + l->size, sizeof l->in - l->size, 0);
        if (more <= 0) {
            return false;
        }
        l->size += (size_t) more;
    }
}

/* ---- evidence: of the simulator, over what both sides take for their binding (cmif_channel_binding is ours here) ----
 */

#define IDENTITY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static cmif_attest_policy_file *policy;
static cmif_maker              *maker, *other_maker;
static bool                     no_tls;      /* the channel is asked, which is a unix socket */
static int                      connections; /* that the client has made */
static time_t                   later;       /* seconds by which the clock is ahead */
static const uint8_t            server_key[32] = {'s'}, client_key[32] = {'c'};

cmif_code __real_cmif_channel_binding(cmif_channel *channel, uint8_t exporter[static 32], uint8_t own_key[static 32],
                                      uint8_t peer_key[static 32], cmif_err *err);
cmif_code __wrap_cmif_channel_binding(cmif_channel *channel, uint8_t exporter[static 32], uint8_t own_key[static 32],
                                      uint8_t peer_key[static 32], cmif_err *err);
cmif_code __wrap_cmif_channel_binding(cmif_channel *channel, uint8_t exporter[static 32], uint8_t own_key[static 32],
                                      uint8_t peer_key[static 32], cmif_err *err)
{
    if (no_tls) {
        return __real_cmif_channel_binding(channel, exporter, own_key, peer_key, err);
    }
    memset(exporter, connections, 32);
    memcpy(own_key, client_key, 32);
    memcpy(peer_key, server_key, 32);
    return CMIF_OK;
}

cmif_code __real_cmif_channel_open(const cmif_peer *peer, cmif_channel **out, cmif_err *err);
cmif_code __wrap_cmif_channel_open(const cmif_peer *peer, cmif_channel **out, cmif_err *err);
cmif_code __wrap_cmif_channel_open(const cmif_peer *peer, cmif_channel **out, cmif_err *err)
{
    connections++;
    return __real_cmif_channel_open(peer, out, err);
}

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    const int failed = __real_clock_gettime(clock, out);
    out->tv_sec += later;
    return failed;
}

static bool prove(mock *m, line *l, const uint8_t nonce[static CMIF_WIRE_NONCE_SIZE])
{
    const lie    what = ++m->challenges >= m->lie_from ? m->lie : TRUTH;
    uint8_t      exporter[32], *proof = NULL;
    size_t       size   = 0;
    cmif_claims  claims = {.program = "mock 1", .model_id = {0}};
    cmif_binding b      = {.role      = what == OTHER_ROLE ? 'c' : 's',
                           .nonce     = what == OLD_NONCE ? m->first_nonce : nonce,
                           .exporter  = exporter,
                           .own_key   = what == OTHER_KEY ? client_key : server_key,
                           .other_key = client_key};
    memset(exporter, m->connections - (what == OLD_CONNECTION), sizeof exporter);
    memcpy(claims.model_id, model_id, sizeof model_id);
    claims.model_id[31] ^= what == OTHER_MODEL;
    if (m->challenges == 1) {
        memcpy(m->first_nonce, nonce, sizeof m->first_nonce);
        m->first_nonce[0] ^= what == OLD_NONCE; /* there is no older one */
    }
    if (what == AN_ERROR) {
        cmif_frame error;
        cmif_frame_set_error(&error, CMIF_WIRE_E_UNSUPPORTED,
                             "this server shows no evidence: start it with --evidence");
        return put(l, &error);
    }
    if (what == A_WELCOME) {
        return put(
            l, &(cmif_frame){
                   .kind    = CMIF_FRAME_WELCOME,
                   .welcome = {.version = 1, .width = 1, .vocab = 1, .context = 1, .rows_max = 1, .idle_seconds = 1}});
    }
    bool good =
        cmif_proof_make(what == OTHER_PROGRAM ? other_maker : maker, &claims, &b, &proof, &size, NULL) == CMIF_OK;
    for (size_t at = 0, piece; good && at < size; at += piece) {
        piece            = what == HALF_A_PROOF || size - at < 100 ? (size - at + 1) / 2 : 100;
        cmif_frame frame = {
            .kind     = CMIF_FRAME_EVIDENCE,
            .evidence = {.total = (uint32_t) size, .offset = (uint32_t) at, .bytes = proof + at, .size = piece}};
        good = put(l, &frame) && (what != OTHER_PIECE || put(l, &frame)) && what != HALF_A_PROOF;
    }
    free(proof);
    return good;
}

/* The next frame that is not a CHALLENGE; each of these is answered at once. */
static bool get(line *l, cmif_frame *frame)
{
    while (get_any(l, frame)) {
        if (frame->kind != CMIF_FRAME_CHALLENGE) {
            return true;
        }
        if (!prove(l->of, l, frame->challenge.nonce)) {
            return false;
        }
    }
    return false;
}

static void append(mock *m, int32_t id, cmif_row_type type, const void *row, size_t size)
{
    memcpy(m->hashes[m->count + 1], m->hashes[m->count], CMIF_WIRE_HASH_SIZE);
    cmif_wire_hash(m->hashes[m->count + 1], type, row, size);
    m->ids[m->count++] = id;
}

static bool take_rows(mock *m, line *l, uint8_t type, uint32_t count)
{
    for (uint32_t got = 0; got < count;) {
        cmif_frame frame;
        if (!get(l, &frame) || frame.kind != CMIF_FRAME_ROWS) {
            return false;
        }
        size_t size = frame.rows.size / frame.rows.count;
        for (uint32_t i = 0; i < frame.rows.count; i++) {
            const uint8_t *row           = frame.rows.bytes + i * size;
            float          floats[WIDTH] = {row[0]};
            if (type != CMIF_ROWS_ID) {
                cmif_row_decode((cmif_row_type) type, row, floats, WIDTH);
            }
            append(m, (int32_t) floats[0], (cmif_row_type) type, row, size);
        }
        got += frame.rows.count;
        m->rows_received += frame.rows.count;
    }
    return true;
}

static bool stops(const cmif_frame_begin *begin, uint32_t id)
{
    for (size_t i = 0; i < begin->stop_count; i++) {
        if (begin->stops[i] == id) {
            return true;
        }
    }
    return false;
}

/* false: the connection is to end */
static bool generate(mock *m, line *l, const cmif_frame_begin *begin)
{
    cmif_frame done = {.kind = CMIF_FRAME_DONE, .done = {.reason = CMIF_DONE_LENGTH}};
    for (uint32_t n = 0; n < begin->max_tokens; n++) {
        uint32_t number = begin->step + n;
        bool     now    = m->times > 0 && number >= m->when;
        if (now && (m->fault == RESET_AFTER || m->fault == HANG_UP_AFTER || m->fault == FORGET_AFTER)) {
            m->times--;
            m->when += m->always ? 0 : 2;
            m->count = m->fault == HANG_UP_AFTER ? m->count : 0;
            return m->fault == RESET_AFTER && put(l, &(cmif_frame){.kind = CMIF_FRAME_RESET});
        }
        uint32_t   id    = (uint32_t) next_token(m->ids, m->count);
        cmif_frame token = {.kind = CMIF_FRAME_TOKEN, .token = {.position = m->count, .id = id, .margin = 1}};
        token.token.position += now && m->fault == WRONG_POSITION;
        token.token.id = now && m->fault == WRONG_ID ? VOCAB : id;
        if (now && m->fault == GARBAGE) {
            (void) !send(l->fd, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, MSG_NOSIGNAL);
            return false;
        }
        if (!put(l, &token)) {
            return false;
        }
        if (stops(begin, id)) {
            done.done.reason = CMIF_DONE_STOP;
            break;
        }
        if (n + 1 == begin->max_tokens) {
            break;
        }
        if (m->count == CONTEXT) {
            done.done.reason = CMIF_DONE_CONTEXT;
            break;
        }
        if (begin->flags & CMIF_BEGIN_LOOP) {
            uint8_t bytes[4] = {(uint8_t) id};
            append(m, (int32_t) id, CMIF_ROWS_ID, bytes, sizeof bytes);
            usleep(200);
        } else if (!take_rows(m, l, begin->row_type, 1)) {
            if (l->wire.state != CMIF_WIRE_CANCELLING) {
                return false;
            }
            done.done.reason = CMIF_DONE_CANCELLED;
            break;
        }
    }
    done.done.position = m->count;
    memcpy(done.done.hash, m->hashes[m->count], CMIF_WIRE_HASH_SIZE);
    return put(l, &done);
}

static void serve(mock *m, line *l)
{
    cmif_frame frame;
    cmif_frame welcome = {
        .kind    = CMIF_FRAME_WELCOME,
        .welcome = {.version = CMIF_WIRE_VERSION,
                    .flags = (uint16_t) ((m->table ? CMIF_WELCOME_TABLE : 0) | (m->encoder ? CMIF_WELCOME_ENCODER : 0)),
                    .width = WIDTH,
                    .vocab = VOCAB,
                    .context      = CONTEXT,
                    .outputs      = m->fault == ANOTHER_LENGTH && m->connections > 1 ? 9
                                    : m->encoder                                     ? 2
                                                                                     : 0,
                    .rows_max     = 5,
                    .idle_seconds = 60,
                    .arch_size    = 4,
                    .arch         = "mock"}};
    memcpy(welcome.welcome.model_id, model_id, sizeof model_id);
    welcome.welcome.model_id[0] ^= m->fault == ANOTHER_MODEL && m->connections > 1;
    if (!get(l, &frame) || !put(l, &welcome) || !get(l, &frame)) {
        return;
    }
    cmif_frame opened = {.kind = CMIF_FRAME_OPENED, .opened = {.handle = {9}, .position = m->count}};
    memcpy(opened.opened.hash, m->hashes[m->count], CMIF_WIRE_HASH_SIZE);
    if (!put(l, &opened)) {
        return;
    }
    while (get(l, &frame)) {
        if (frame.kind == CMIF_FRAME_CLOSE) {
            m->count = 0;
            return;
        }
        if (frame.kind != CMIF_FRAME_BEGIN) {
            continue; /* late ROWS, a late CANCEL */
        }
        cmif_frame_begin begin = frame.begin;
        m->begins++;
        m->wrong_steps += m->prompt && begin.position + begin.row_count != m->prompt + begin.step;
        if (begin.position > m->count || memcmp(begin.hash, m->hashes[begin.position], CMIF_WIRE_HASH_SIZE) != 0) {
            m->count         = 0;
            cmif_frame reset = {.kind = CMIF_FRAME_RESET, .reset = {CMIF_RESET_MISMATCH}};
            if (!put(l, &reset)) {
                return;
            }
            continue;
        }
        m->count = begin.position;
        if (!take_rows(m, l, begin.row_type, begin.row_count)) {
            return;
        }
        if (m->fault == ANOTHER_LENGTH && m->connections == 1) {
            return;
        }
        if (begin.mode == CMIF_MODE_ENCODE) {
            uint8_t    floats[36] = {0, 0, 0x80, 0x3f, 0, 0, 0, 0x40}; /* 1, 2 */
            cmif_frame vector     = {.kind   = CMIF_FRAME_VECTOR,
                                     .vector = {.count = m->fault == WRONG_LENGTH     ? 3
                                                         : m->fault == ANOTHER_LENGTH ? 9
                                                                                      : 2,
                                                .bytes = floats}};
            cmif_frame done       = {.kind = CMIF_FRAME_DONE, .done = {.position = begin.position}};
            if (!put(l, &vector) || !put(l, &done)) {
                return;
            }
        } else if (!generate(m, l, &begin)) {
            return;
        }
    }
}

static void *mock_main(void *context)
{
    mock *m = context;
    line *l = calloc(1, sizeof *l);
    while (l && (l->fd = accept(m->listener, NULL, NULL)) >= 0) {
        m->connections++;
        l->of   = m;
        l->wire = (cmif_wire){.server = true};
        l->size = 0;
        note(m, '|');
        serve(m, l);
        close(l->fd);
    }
    free(l);
    return NULL;
}

static void mock_start(mock *m)
{
    connections                = 0;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    unlink(path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    m->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(m->listener, (struct sockaddr *) &address, sizeof address) == 0 && listen(m->listener, 4) == 0);
    pthread_create(&m->thread, NULL, mock_main, m);
}

static void mock_stop(mock *m)
{
    shutdown(m->listener, SHUT_RDWR);
    close(m->listener);
    pthread_join(m->thread, NULL);
}

/* ---- the client's side of each test ---- */

typedef struct answer {
    int32_t       ids[CONTEXT + 1];
    uint32_t      count;
    uint32_t      stop_at; /* 0: never */
    cmif_session *session; /* to cancel at stop_at from "another thread" */
} answer;

static bool collect(void *context, int32_t id, float margin, const float *logits)
{
    answer *a = context;
    (void) margin;
    (void) logits;
    a->ids[a->count++] = id;
    if (a->stop_at && a->count == a->stop_at && a->session) {
        cmif_session_cancel(a->session);
    }
    return a->session || a->count != a->stop_at;
}

static cmif_session_options options(cmif_row_type type)
{
    return (cmif_session_options){
        .peer = {.path = path, .connect_seconds = 5}, .model_id = model_id, .row_type = type, .patience_seconds = 2};
}

static void fill(cmif_ids *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int32_t id = (int32_t) (i * 7 + 1) % VOCAB;
        CHECK(cmif_ids_append(ids, &id, 1, NULL) == CMIF_OK);
    }
}

/* The tokens that the mock's model gives to the prompt, computed here. */
static bool is_right(const cmif_ids *prompt, const answer *a)
{
    int32_t ids[2 * CONTEXT];
    for (size_t i = 0; i < prompt->count; i++) {
        ids[i] = prompt->at[i];
    }
    for (uint32_t i = 0; i < a->count; i++) {
        ids[prompt->count + i] = next_token(ids, (uint32_t) prompt->count + i);
        if (ids[prompt->count + i] != a->ids[i]) {
            return false;
        }
    }
    return true;
}

static cmif_code generate_once(mock *m, cmif_row_type type, uint32_t rows, uint32_t tokens, answer *a,
                               cmif_usage *usage, cmif_err *err)
{
    cmif_session        *session = NULL;
    cmif_session_options opts    = options(type);
    cmif_ids             prompt  = {0};
    cmif_generation      how     = {.sampling = {.top_p = 1}, .max_tokens = tokens, .on_token = collect, .context = a};
    mock_start(m);
    fill(&prompt, rows);
    cmif_code rc = cmif_session_open(&opts, table, &session, err);
    if (rc == CMIF_OK) {
        rc = cmif_session_generate(session, &prompt, false, &how, usage, err);
    }
    CHECK(is_right(&prompt, a));
    cmif_session_free(session);
    cmif_ids_free(&prompt);
    mock_stop(m);
    return rc;
}

static void tokens_come_whether_the_server_loops_or_not(void)
{
    static const cmif_row_type types[] = {CMIF_ROWS_ID, CMIF_ROWS_F32, CMIF_ROWS_F16, CMIF_ROWS_BF16};
    for (int with_table = 0; with_table < 2; with_table++) {
        for (size_t t = !with_table; t < sizeof types / sizeof *types; t++) {
            mock       m     = {.table = with_table};
            answer     a     = {0};
            cmif_usage usage = {0};
            CHECK(generate_once(&m, types[t], 12, 9, &a, &usage, NULL) == CMIF_OK);
            CHECK(a.count == 9 && usage.tokens == 9 && usage.prompt_rows == 12 && usage.replays == 0);
            CHECK(m.rows_received == (with_table ? 12 : 12 + 8));
        }
    }
}

static void the_context_ends_a_stream(void)
{
    for (int with_table = 0; with_table < 2; with_table++) {
        mock       m     = {.table = with_table};
        answer     a     = {0};
        cmif_usage usage = {0};
        CHECK(generate_once(&m, CMIF_ROWS_F32, CONTEXT - 3, 40, &a, &usage, NULL) == CMIF_OK);
        CHECK(a.count == 4 && usage.reason == CMIF_DONE_CONTEXT);
    }
}

static void a_second_turn_sends_only_what_is_new(void)
{
    for (int with_table = 0; with_table < 2; with_table++) {
        mock                 m       = {.table = with_table};
        cmif_session        *session = NULL;
        cmif_session_options opts    = options(CMIF_ROWS_F16);
        cmif_ids             prompt  = {0};
        cmif_usage           usage   = {0};
        answer               a = {0}, b = {0};
        cmif_generation      how = {.sampling = {.top_p = 1}, .max_tokens = 6, .on_token = collect, .context = &a};
        mock_start(&m);
        fill(&prompt, 10);
        CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK);
        CHECK(cmif_session_generate(session, &prompt, true, &how, &usage, NULL) == CMIF_OK);
        CHECK(prompt.count == 16 && usage.reused_rows == 0);
        fill(&prompt, 3);
        how.context     = &b;
        m.rows_received = 0;
        CHECK(cmif_session_generate(session, &prompt, false, &how, &usage, NULL) == CMIF_OK);
        CHECK(usage.reused_rows == 15 && b.count == 6 && is_right(&prompt, &b));
        CHECK(m.rows_received == (with_table ? 4 : 4 + 5));
        cmif_ids_free(&prompt);
        cmif_session_free(session);
        mock_stop(&m);
    }
}

static void a_changed_history_is_cut_where_it_differs(void)
{
    mock                 m       = {0};
    cmif_session        *session = NULL;
    cmif_session_options opts    = options(CMIF_ROWS_F32);
    cmif_ids             prompt  = {0};
    cmif_usage           usage   = {0};
    answer               a = {0}, b = {0};
    cmif_generation      how = {.sampling = {.top_p = 1}, .max_tokens = 6, .on_token = collect, .context = &a};
    mock_start(&m);
    fill(&prompt, 10);
    CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK);
    CHECK(cmif_session_generate(session, &prompt, false, &how, &usage, NULL) == CMIF_OK);
    cmif_ids_truncate(&prompt, 4);
    fill(&prompt, 8);
    how.context = &b;
    CHECK(cmif_session_generate(session, &prompt, false, &how, &usage, NULL) == CMIF_OK);
    CHECK(usage.reused_rows == 4 && usage.replays == 0 && b.count == 6 && is_right(&prompt, &b));
    cmif_ids_free(&prompt);
    cmif_session_free(session);
    mock_stop(&m);
}

static void a_stream_is_replayed_and_nothing_is_lost_or_doubled(void)
{
    static const fault faults[] = {RESET_AFTER, HANG_UP_AFTER, FORGET_AFTER};
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        for (int with_table = 0; with_table < 2; with_table++) {
            for (uint32_t when = 0; when < 9; when++) {
                mock       m     = {.table = with_table, .fault = faults[f], .when = when, .times = 3, .prompt = 12};
                answer     a     = {0};
                cmif_usage usage = {0};
                cmif_err   err   = {0};
                CHECK(generate_once(&m, CMIF_ROWS_F32, 12, 16, &a, &usage, &err) == CMIF_OK);
                CHECK(a.count == 16 && usage.tokens == 16 && usage.replays == 3 && m.times == 0);
                CHECK(m.wrong_steps == 0);
            }
        }
    }
}

static void a_server_that_always_fails_is_given_up(void)
{
    mock     m   = {.fault = RESET_AFTER, .always = true, .times = 1000000};
    answer   a   = {0};
    cmif_err err = {0};
    for (int i = 0; i < 2; i++) {
        CHECK(generate_once(&m, CMIF_ROWS_F32, 4, 4, &a, NULL, &err) == CMIF_E_PEER && strstr(err.text, "times"));
        CHECK(a.count == 0 && m.begins < 30);
        m = (mock){.fault = HANG_UP_AFTER, .always = true, .times = 1000000};
    }
}

static void a_lying_server_is_left(void)
{
    static const fault faults[] = {WRONG_POSITION, WRONG_ID, GARBAGE};
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        mock     m   = {.fault = faults[f], .when = 2, .times = 1};
        answer   a   = {0};
        cmif_err err = {0};
        CHECK(generate_once(&m, CMIF_ROWS_F32, 4, 8, &a, NULL, &err) == CMIF_E_FORMAT && a.count == 2 && err.text[0]);
    }
}

static void another_model_is_refused_also_after_a_broken_line(void)
{
    mock     m   = {.fault = ANOTHER_MODEL, .connections = 1};
    answer   a   = {0};
    cmif_err err = {0};
    CHECK(generate_once(&m, CMIF_ROWS_F32, 4, 8, &a, NULL, &err) == CMIF_E_UNSUPPORTED && a.count == 0);
    CHECK(strstr(err.text, "another model"));
}

static void ids_without_a_table_and_odd_widths_are_refused(void)
{
    mock     m   = {0};
    answer   a   = {0};
    cmif_err err = {0};
    CHECK(generate_once(&m, CMIF_ROWS_ID, 4, 8, &a, NULL, &err) == CMIF_E_UNSUPPORTED && strstr(err.text, "--rows"));
    CHECK(generate_once(&m, CMIF_ROWS_Q8_0, 4, 8, &a, NULL, &err) == CMIF_E_UNSUPPORTED && strstr(err.text, "q8_0"));
}

/* A row beside the table has no id that another machine knows. */
static void rows_of_their_own_do_not_travel_as_ids(void)
{
    for (int encoder = 0; encoder < 2; encoder++) {
        mock                 m       = {.table = true, .encoder = encoder};
        cmif_session        *session = NULL;
        cmif_session_options opts    = options(CMIF_ROWS_ID);
        cmif_ids             ids     = {0};
        cmif_generation      how     = {.sampling = {.top_p = 1}, .max_tokens = 1};
        cmif_err             err     = {0};
        float                vector[16];
        int32_t              own = VOCAB;
        mock_start(&m);
        fill(&ids, 5);
        CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK);
        CHECK(cmif_ids_append(&ids, &own, 1, NULL) == CMIF_OK);
        CHECK((encoder ? cmif_session_encode(session, &ids, vector, NULL, &err)
                       : cmif_session_generate(session, &ids, false, &how, NULL, &err)) == CMIF_E_RANGE);
        CHECK(strstr(err.text, "token 5 ") && strstr(err.text, "row type") && m.begins == 0);
        cmif_ids_truncate(&ids, 5);
        CHECK((encoder ? cmif_session_encode(session, &ids, vector, NULL, &err)
                       : cmif_session_generate(session, &ids, false, &how, NULL, &err)) == CMIF_OK);
        cmif_ids_free(&ids);
        cmif_session_free(session);
        mock_stop(&m);
    }
}

static void too_long_and_empty_prompts_name_the_numbers(void)
{
    mock     m   = {0};
    answer   a   = {0};
    cmif_err err = {0};
    CHECK(generate_once(&m, CMIF_ROWS_F32, CONTEXT + 1, 8, &a, NULL, &err) == CMIF_E_RANGE);
    CHECK(strstr(err.text, "49") && strstr(err.text, "48"));
    CHECK(generate_once(&m, CMIF_ROWS_F32, 0, 8, &a, NULL, &err) == CMIF_E_RANGE && strstr(err.text, "empty"));
    CHECK(generate_once(&m, CMIF_ROWS_F32, 3, 0, &a, NULL, &err) == CMIF_E_RANGE);
}

static void cancelling_keeps_what_came_and_the_session_goes_on(void)
{
    for (int way = 0; way < 4; way++) { /* with or without a table; by the callback's answer or from elsewhere */
        mock                 m       = {.table = way & 1};
        cmif_session        *session = NULL;
        cmif_session_options opts    = options(CMIF_ROWS_F32);
        cmif_ids             prompt  = {0};
        cmif_usage           usage   = {0};
        answer               a = {.stop_at = 5}, b = {0};
        cmif_generation      how = {.sampling = {.top_p = 1}, .max_tokens = 20, .on_token = collect, .context = &a};
        mock_start(&m);
        fill(&prompt, 10);
        CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK);
        a.session = way & 2 ? session : NULL;
        CHECK(cmif_session_generate(session, &prompt, true, &how, &usage, NULL) == CMIF_E_CANCELLED);
        CHECK(usage.reason == CMIF_DONE_CANCELLED && a.count == 5 && prompt.count == 15);
        how.context = &b;
        CHECK(cmif_session_generate(session, &prompt, false, &how, &usage, NULL) == CMIF_OK);
        CHECK(b.count == 20 && usage.reused_rows == 14 && is_right(&prompt, &b));
        cmif_ids_free(&prompt);
        cmif_session_free(session);
        mock_stop(&m);
    }
}

static void encoders_give_vectors_and_decoders_do_not(void)
{
    static const fault faults[] = {NONE, WRONG_LENGTH, ANOTHER_LENGTH, NONE}; /* the last: a decoder */
    for (int way = 0; way < 4; way++) {
        mock                 m       = {.encoder = way < 3, .fault = faults[way]};
        cmif_session        *session = NULL;
        cmif_session_options opts    = options(CMIF_ROWS_F32);
        cmif_ids             ids     = {0};
        float                out[3]  = {7, 7, 7};
        cmif_err             err     = {0};
        cmif_generation      how     = {.sampling = {.top_p = 1}, .max_tokens = 2};
        mock_start(&m);
        fill(&ids, 6);
        CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK);
        cmif_code rc = cmif_session_encode(session, &ids, out, NULL, &err);
        CHECK(rc == (way == 0 ? CMIF_OK : way < 3 ? CMIF_E_FORMAT : CMIF_E_UNSUPPORTED));
        CHECK(way ? out[0] == 7 : out[0] == 1 && out[1] == 2);
        if (way == 0) {
            CHECK(cmif_session_generate(session, &ids, false, &how, NULL, &err) == CMIF_E_UNSUPPORTED);
        }
        cmif_ids_free(&ids);
        cmif_session_free(session);
        mock_stop(&m);
    }
}

static void nobody_there_is_said_at_once(void)
{
    cmif_session        *session = NULL;
    cmif_session_options opts    = options(CMIF_ROWS_F32);
    cmif_err             err     = {0};
    unlink(path);
    CHECK(cmif_session_open(&opts, table, &session, &err) == CMIF_E_IO && !session && err.text[0]);
}

/* ---- who is there ---- */

typedef struct talk { /* of a client with a rule */
    cmif_peer_rule rule;
    cmif_session  *session;
    cmif_err       err;
} talk;

static cmif_code talk_open(talk *t, mock *m, uint32_t minutes)
{
    cmif_session_options opts = options(CMIF_ROWS_F32);
    *t                        = (talk){.rule = {.policy = policy, .minutes = minutes, .time = INT64_MIN}};
    opts.rule                 = &t->rule;
    mock_start(m);
    return cmif_session_open(&opts, table, &t->session, &t->err);
}

static cmif_code talk_on(talk *t)
{
    cmif_ids        prompt = {0};
    answer          a      = {0};
    cmif_generation how    = {.sampling = {.top_p = 1}, .max_tokens = 4, .on_token = collect, .context = &a};
    fill(&prompt, 6);
    const cmif_code rc = cmif_session_generate(t->session, &prompt, false, &how, NULL, &t->err);
    CHECK(is_right(&prompt, &a));
    cmif_ids_free(&prompt);
    return rc;
}

/* Did the server hear exactly this? */
static bool talk_end(talk *t, mock *m, const char *log)
{
    cmif_session_free(t->session);
    mock_stop(m);
    later = 0;
    if (strcmp(m->log, log) != 0) {
        fprintf(stderr, "expected %s, the server heard %s\n", log, m->log);
    }
    return !strcmp(m->log, log);
}

static void nothing_is_said_before_the_server_has_proved_itself(void)
{
    mock m = {.table = true};
    talk t;
    CHECK(talk_open(&t, &m, 60) == CMIF_OK);
    const cmif_peer_verdict *peer = cmif_session_peer(t.session);
    CHECK(peer->judged && peer->verdict.outcome == CMIF_ACCEPTED && !strcmp(peer->claims.program, "mock 1"));
    CHECK(talk_on(&t) == CMIF_OK && talk_on(&t) == CMIF_OK);
    CHECK(talk_end(&t, &m, "|?HOBRBRC") && m.challenges == 1);
}

static void who_asks_for_no_evidence_gets_none(void)
{
    cmif_session        *session = NULL;
    cmif_session_options opts    = options(CMIF_ROWS_F32);
    mock                 m       = {0};
    mock_start(&m);
    CHECK(cmif_session_open(&opts, table, &session, NULL) == CMIF_OK && !cmif_session_peer(session)->judged);
    cmif_session_free(session);
    mock_stop(&m);
    CHECK(!strcmp(m.log, "|HOC"));
}

/* Whatever is wrong: the connection ends, and the CHALLENGE was all that the server heard. */
static void a_server_that_lies_hears_nothing_else(void)
{
    static const struct {
        cmif_code   code;
        const char *part;
    } expected[LIES] = {
        [OLD_NONCE]      = {CMIF_E_TRUST, "report-data"},
        [OLD_CONNECTION] = {CMIF_E_TRUST, "report-data"},
        [OTHER_KEY]      = {CMIF_E_TRUST, "report-data"},
        [OTHER_ROLE]     = {CMIF_E_TRUST, "report-data"},
        [OTHER_PROGRAM]  = {CMIF_E_TRUST, "measurement-measurement"},
        [OTHER_MODEL]    = {CMIF_E_TRUST, "speaks of another model"},
        [OTHER_PIECE]    = {CMIF_E_FORMAT, "does not follow"},
        [HALF_A_PROOF]   = {CMIF_E_IO, "closed"},
        [AN_ERROR]       = {CMIF_E_PEER, "the server says: this server shows no evidence: start it with --evidence"},
        [A_WELCOME]      = {CMIF_E_FORMAT, "WELCOME"}};
    for (int what = TRUTH + 1; what < LIES; what++) {
        mock            m = {.table = true, .lie = (lie) what};
        talk            t;
        const cmif_code rc = talk_open(&t, &m, 60);
        CHECK(rc == expected[what].code && strstr(t.err.text, expected[what].part) && !t.session);
        if (!strstr(t.err.text, expected[what].part)) {
            fprintf(stderr, "lie %d: %s\n", what, t.err.text);
        }
        CHECK(talk_end(&t, &m, "|?") && m.connections == 1);
    }
}

static void every_new_connection_is_judged_anew(void)
{
    mock m = {.table = true, .fault = HANG_UP_AFTER, .when = 1, .times = 1};
    talk t;
    CHECK(talk_open(&t, &m, 60) == CMIF_OK && talk_on(&t) == CMIF_OK);
    CHECK(talk_end(&t, &m, "|?HOBR|?HOBRC") && m.challenges == 2);
}

/* Not tried again: who is refused once is not waited for. */
static void a_server_that_comes_back_as_another_is_left_at_once(void)
{
    for (int what = OLD_NONCE; what <= OTHER_MODEL; what++) {
        mock m = {.table = true, .fault = HANG_UP_AFTER, .when = 0, .times = 1, .lie = (lie) what, .lie_from = 2};
        talk t;
        CHECK(talk_open(&t, &m, 60) == CMIF_OK && talk_on(&t) == CMIF_E_TRUST);
        CHECK(talk_end(&t, &m, "|?HOBR|?") && m.connections == 2);
    }
}

static void a_verdict_is_good_for_as_long_as_was_said(void)
{
    mock m = {.table = true};
    talk t;
    CHECK(talk_open(&t, &m, 10) == CMIF_OK);
    later = 595;
    CHECK(talk_on(&t) == CMIF_OK);
    later = 600;
    CHECK(talk_on(&t) == CMIF_OK);
    later = 1195;
    CHECK(talk_on(&t) == CMIF_OK);
    later = 1300;
    CHECK(talk_on(&t) == CMIF_OK);
    CHECK(talk_end(&t, &m, "|?HOBR?BRBR?BRC"));

    m = (mock){.table = true, .fault = RESET_AFTER, .when = 1, .times = 1};
    CHECK(talk_open(&t, &m, 0) == CMIF_OK && talk_on(&t) == CMIF_OK && talk_on(&t) == CMIF_OK);
    CHECK(talk_end(&t, &m, "|?HO?BR?BR?BRC")); /* also where it takes a request up again */
}

static void who_is_refused_between_two_requests_hears_no_other(void)
{
    for (int what = OLD_NONCE; what < LIES; what++) {
        mock m = {.table = true, .lie = (lie) what, .lie_from = 2};
        talk t;
        if (what == OLD_CONNECTION || what == HALF_A_PROOF) {
            continue; /* the first is the same, the second ends the connection: it is made anew */
        }
        CHECK(talk_open(&t, &m, 10) == CMIF_OK && talk_on(&t) == CMIF_OK);
        later              = 1000;
        const cmif_code rc = talk_on(&t);
        CHECK(rc == CMIF_E_TRUST || rc == CMIF_E_FORMAT || rc == CMIF_E_PEER);
        CHECK(cmif_session_peer(t.session)->verdict.outcome != CMIF_ACCEPTED || what >= OTHER_MODEL);
        CHECK(talk_end(&t, &m, "|?HOBR?"));
    }
    mock m = {.table = true, .lie = OTHER_PROGRAM, .lie_from = 2}; /* and if it is good again, all begins anew */
    talk t;
    CHECK(talk_open(&t, &m, 10) == CMIF_OK);
    later = 1000;
    CHECK(talk_on(&t) == CMIF_E_TRUST);
    m.lie = TRUTH;
    CHECK(talk_on(&t) == CMIF_OK);
    CHECK(talk_end(&t, &m, "|?HO?|?HOBRC"));
}

static void without_tls_there_is_no_evidence_and_nothing_is_sent(void)
{
    mock m = {.table = true};
    talk t;
    no_tls = true;
    CHECK(talk_open(&t, &m, 60) == CMIF_E_UNSUPPORTED && strstr(t.err.text, "evidence needs TLS"));
    no_tls = false;
    mock_stop(&m); /* which may not have come to the door */
    CHECK(!strcmp(m.log, "|") || !m.log[0]);
}

static bool make_evidence(void)
{
    static const char text[] =
        "attestation-policy 1\naccept sim\nloosen simulator\nmeasure sim measurement " IDENTITY "\n";
    const cmif_maker_options good  = {.kind = CMIF_MAKER_SIM, .identity = IDENTITY, .insecure = 1},
                             other = {.kind = CMIF_MAKER_SIM, .insecure = 1};
    return cmif_attest_policy_parse(text, sizeof text - 1, &policy, NULL) == CMIF_OK &&
           cmif_maker_open(&good, &maker, NULL) == CMIF_OK && cmif_maker_open(&other, &other_maker, NULL) == CMIF_OK;
}

static cmif_code table_source(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context;
    (void) err;
    for (size_t i = 0; i < size; i += sizeof(float)) {
        size_t element = (offset + i) / sizeof(float);
        size_t id      = element / WIDTH;
        float  value   = element % WIDTH == 0 ? (float) id : 0;
        memcpy(buffer + i, &value, sizeof value);
    }
    return CMIF_OK;
}

static bool make_table(void)
{
    cmif_gguf_out *out      = NULL;
    const uint64_t shape[4] = {WIDTH, VOCAB, 1, 1};
    bool           ok =
        cmif_gguf_out_new(&out, NULL) == CMIF_OK &&
        cmif_gguf_put_tensor(out, "token_embd.weight", CMIF_GGML_F32, 2, shape, table_source, NULL, NULL) == CMIF_OK &&
        cmif_gguf_write(out, model_path, NULL, NULL, NULL) == CMIF_OK &&
        cmif_gguf_open(model_path, &file, NULL) == CMIF_OK && cmif_embed_open(file, &table, NULL) == CMIF_OK;
    cmif_gguf_out_free(out);
    return ok;
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/socket", folder);
    snprintf(model_path, sizeof model_path, "%s/client.gguf", folder);
    if (!make_table()) {
        return 1;
    }
    RUN(tokens_come_whether_the_server_loops_or_not);
    RUN(the_context_ends_a_stream);
    RUN(a_second_turn_sends_only_what_is_new);
    RUN(a_changed_history_is_cut_where_it_differs);
    RUN(a_stream_is_replayed_and_nothing_is_lost_or_doubled);
    RUN(a_server_that_always_fails_is_given_up);
    RUN(a_lying_server_is_left);
    RUN(another_model_is_refused_also_after_a_broken_line);
    RUN(ids_without_a_table_and_odd_widths_are_refused);
    RUN(rows_of_their_own_do_not_travel_as_ids);
    RUN(too_long_and_empty_prompts_name_the_numbers);
    RUN(cancelling_keeps_what_came_and_the_session_goes_on);
    RUN(encoders_give_vectors_and_decoders_do_not);
    RUN(nobody_there_is_said_at_once);
    RUN(who_asks_for_no_evidence_gets_none);
    if (make_evidence()) {
        RUN(nothing_is_said_before_the_server_has_proved_itself);
        RUN(a_server_that_lies_hears_nothing_else);
        RUN(every_new_connection_is_judged_anew);
        RUN(a_server_that_comes_back_as_another_is_left_at_once);
        RUN(a_verdict_is_good_for_as_long_as_was_said);
        RUN(who_is_refused_between_two_requests_hears_no_other);
        RUN(without_tls_there_is_no_evidence_and_nothing_is_sent);
    } else {
        printf("evidence skipped: this build has no simulator to make it with\n");
    }
    cmif_maker_free(maker);
    cmif_maker_free(other_maker);
    cmif_attest_policy_free(policy);
    cmif_embed_free(table);
    cmif_gguf_free(file);
    unlink(path);
    unlink(model_path);
    rmdir(folder);
    return check_report();
}
