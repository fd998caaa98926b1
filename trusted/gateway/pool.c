#include "gateway/pool.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { FAILURES = 3, PAUSE_SECONDS = 1, PAUSE_MOST = 60, HEAD_MAX = 1024 };
static const int64_t SECOND = 1000000;

typedef struct member {
    cmif_upstream *upstream;
    uint32_t       weight;
    uint32_t       failures, pauses; /* in a row, since it last answered */
    uint64_t       round;            /* counts pauses: what began before one says nothing about what comes after */
    int64_t        until_us;         /* it is left alone until then */
    bool           doubtful, trying; /* it comes back from a pause: one call goes first; that one is under way */
    uint64_t       calls, failed;
} member;

typedef struct pool {
    cmif_upstream upstream; /* first */
    member       *members;
    size_t        count;
} pool;

struct cmif_call {
    pool               *of;
    const cmif_request *request;
    cmif_call_hooks     hooks;
    uint64_t            key;   /* of its conversation */
    member             *at;    /* whose call this is */
    cmif_call          *inner; /* that one's */
    uint64_t            round; /* of that one, when the call began */
    bool                trial, begun;
    uint32_t            tried; /* bits of members */
    cmif_call_end       worst; /* what those said; DONE: nothing yet */
    uint32_t            retry;
    char                sentence[256];
    struct event       *later; /* NULL, unless nobody could be asked */
};

/* ---- which member: weighted rendezvous ---- */

/* Of the begin of the conversation as it leaves: all up to the first message of a user (`first`), which stays the same
 * from turn to turn. Of what has no messages, the first bytes. */
static bool is_head(const cmif_request *request, const cmif_request_text *text, size_t first)
{
    return text->released && (request->message_count ? text->message <= first : text == request->texts);
}

static cmif_code conversation(const cmif_request *request, uint64_t *key, cmif_err *err)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    uint8_t     digest[EVP_MAX_MD_SIZE];
    bool        good  = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
    size_t      first = 0;
    while (first + 1 < request->message_count && request->messages[first].speaker != CMIF_SPEAKER_USER) {
        first++;
    }
    for (size_t i = 0; i < request->text_count && good; i++) {
        size_t size;
        if (is_head(request, &request->texts[i], first)) {
            const uint8_t *bytes = cmif_released_bytes(request->texts[i].released, &size);
            size                 = !request->message_count && size > HEAD_MAX ? HEAD_MAX : size;
            good = EVP_DigestUpdate(hash, &size, sizeof size) == 1 && EVP_DigestUpdate(hash, bytes, size) == 1;
        }
    }
    good = good && EVP_DigestFinal_ex(hash, digest, NULL) == 1;
    EVP_MD_CTX_free(hash);
    if (good) {
        memcpy(key, digest, sizeof *key);
    }
    return good ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
}

/* The larger, the more this member's. Who has weight w gets the share w / (all weights) of conversations, and when one
 * goes, only its own move (Thaler and Ravishankar, 1998; Wang, 1999: weights as w / -ln(u)). */
static double score(uint64_t key, size_t index, uint32_t weight)
{
    uint64_t x =
        key + (index + 1) * UINT64_C(0x9e3779b97f4a7c15); /* the finaliser of SplitMix64 (Steele and others, 2014) */
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return weight / -log(((double) (x >> 11) + 0.5) / 0x1p53);
}

/* ---- how members are ---- */

static bool is_starting(const member *m)
{
    char why[160];
    return m->upstream->kind->state(m->upstream, why, sizeof why) == CMIF_UPSTREAM_STARTING;
}

/* The best that was not tried and is not left alone; one that is only starting comes last. NULL: none. */
static member *choose(const struct cmif_call *c)
{
    const int64_t now  = cmif_now_us();
    member       *best = NULL;
    double        most = 0;
    for (size_t i = 0; i < c->of->count; i++) {
        member *m = &c->of->members[i];
        if (!(c->tried >> i & 1) && now >= m->until_us && !m->trying) {
            const double mine = score(c->key, i, m->weight) * (is_starting(m) ? 1e-30 : 1);
            if (mine > most) {
                best = m;
                most = mine;
            }
        }
    }
    return best;
}

static void leave_alone(member *m, bool longest)
{
    uint32_t chance = 0; /* without it nothing is lost but the spread */
    (void) !getrandom(&chance, sizeof chance, GRND_NONBLOCK);
    const uint32_t doubled = m->pauses < 6 ? (uint32_t) PAUSE_SECONDS << m->pauses : PAUSE_MOST;
    const int64_t  pause   = (longest || doubled > PAUSE_MOST ? PAUSE_MOST : doubled) * SECOND;
    m->until_us            = cmif_now_us() + pause + pause / 4 * (chance >> 16) / 65536;
    m->doubtful            = true;
    m->pauses++;
    m->round++;
}

/* It has said something: whatever comes, it is there. */
static void is_there(struct cmif_call *c)
{
    if (c->round == c->at->round) {
        c->at->doubtful = false;
    }
    if (c->trial) {
        c->at->trying = c->trial = false;
    }
}

static void judge(struct cmif_call *c, cmif_call_end end, uint32_t retry)
{
    member *m = c->at;
    if (c->trial) {
        m->trying = c->trial = false;
    }
    const bool now = c->round == m->round; /* else it began before the last pause */
    switch (end) {
    case CMIF_CALL_CANCELLED:
        break;
    case CMIF_CALL_DONE:
    case CMIF_CALL_REFUSED:
    case CMIF_CALL_BUSY:
        if (now) {
            m->failures = m->pauses = 0;
            m->doubtful             = false;
        }
        if (end == CMIF_CALL_BUSY && cmif_now_us() + retry * SECOND > m->until_us) {
            m->until_us = cmif_now_us() + retry * SECOND;
        }
        break;
    default:
        m->failed++;
        m->failures += now;
        if (now && (m->failures >= FAILURES || m->doubtful || end == CMIF_CALL_UNTRUSTED)) {
            leave_alone(m, end == CMIF_CALL_UNTRUSTED);
        }
    }
}

/* ---- a call ---- */

/* Of what several members said the client hears what helps most: that waiting helps; that somebody is not who they must
 * be. */
static void keep_worst(struct cmif_call *c, cmif_call_end end, const char *sentence, uint32_t retry)
{
    static const uint8_t ranks[] = {[CMIF_CALL_UNREACHABLE] = 1,
                                    [CMIF_CALL_LIED]        = 2,
                                    [CMIF_CALL_LATE]        = 3,
                                    [CMIF_CALL_UNTRUSTED]   = 4,
                                    [CMIF_CALL_BUSY]        = 5};
    if (end == CMIF_CALL_BUSY && c->worst == CMIF_CALL_BUSY) {
        c->retry = retry < c->retry ? retry : c->retry;
    } else if (ranks[end] > ranks[c->worst]) {
        c->worst = end;
        c->retry = retry;
        snprintf(c->sentence, sizeof c->sentence, "%s", sentence);
    }
}

static void call_free(struct cmif_call *c)
{
    if (c->later) {
        event_free(c->later);
    }
    free(c);
}

static void finish(struct cmif_call *c, cmif_call_end end, const char *sentence, uint32_t retry)
{
    c->hooks.on_end(c->hooks.context, end, sentence, retry);
    call_free(c);
}

static void begun(struct cmif_call *c)
{
    if (!c->begun) {
        c->begun = true;
        is_there(c);
    }
}

static void on_text(void *context, uint32_t choice, const char *bytes, size_t size)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_text(c->hooks.context, choice, bytes, size);
}

static void on_refusal(void *context, uint32_t choice, const char *bytes, size_t size)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_refusal(c->hooks.context, choice, bytes, size);
}

static void on_tool(void *context, uint32_t choice, uint32_t index, const char *name, size_t name_size,
                    const char *arguments, size_t size)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_tool(c->hooks.context, choice, index, name, name_size, arguments, size);
}

static void on_logprobs(void *context, uint32_t choice, const json_t *logprobs)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_logprobs(c->hooks.context, choice, logprobs);
}

static void on_vector(void *context, uint32_t index, const float *values, size_t count)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_vector(c->hooks.context, index, values, count);
}

static void on_finish(void *context, uint32_t choice, cmif_finish reason)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_finish(c->hooks.context, choice, reason);
}

static void on_usage(void *context, const cmif_call_usage *usage)
{
    struct cmif_call *c = context;
    begun(c);
    c->hooks.on_usage(c->hooks.context, usage);
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry);

/* Ask the next member, until one takes it. RANGE: none can do this; IO: none is left. */
static cmif_code next(struct cmif_call *c, cmif_err *err)
{
    const cmif_call_hooks hooks = {.on_text     = on_text,
                                   .on_refusal  = on_refusal,
                                   .on_tool     = on_tool,
                                   .on_logprobs = on_logprobs,
                                   .on_vector   = on_vector,
                                   .on_finish   = on_finish,
                                   .on_usage    = on_usage,
                                   .on_end      = on_end,
                                   .context     = c};
    cmif_code             last  = CMIF_E_IO;
    while ((c->at = choose(c))) {
        member *m = c->at;
        c->tried |= UINT32_C(1) << (m - c->of->members);
        c->round           = m->round;
        c->trial           = m->doubtful;
        m->trying          = c->trial;
        const cmif_code rc = cmif_upstream_start(m->upstream, c->request, &hooks, &c->inner, err);
        if (rc == CMIF_OK) {
            m->calls++;
            return CMIF_OK;
        }
        const bool unable = rc == CMIF_E_RANGE; /* another kind of member may be able to: nothing was sent */
        judge(c, unable || rc == CMIF_E_MEMORY ? CMIF_CALL_CANCELLED : CMIF_CALL_UNREACHABLE, 0);
        if (rc == CMIF_E_MEMORY) {
            return rc;
        }
        if (!unable) {
            keep_worst(c, CMIF_CALL_UNREACHABLE, err->text, 0);
        }
        last = unable ? rc : last;
    }
    return last;
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    struct cmif_call *c   = context;
    cmif_err          err = {0};
    c->inner              = NULL;
    judge(c, end, retry);
    if (c->begun || end == CMIF_CALL_DONE || end == CMIF_CALL_REFUSED || end == CMIF_CALL_CANCELLED) {
        finish(c, end, sentence, retry);
        return;
    }
    keep_worst(c, end, sentence, retry);
    if (next(c, &err) != CMIF_OK) {
        finish(c, c->worst, c->sentence, c->retry);
    }
}

/* Hooks are not called inside of a start. */
static void end_unasked(evutil_socket_t fd, short what, void *context)
{
    struct cmif_call *c     = context;
    const int64_t     now   = cmif_now_us();
    int64_t           first = INT64_MAX;
    (void) fd, (void) what;
    for (size_t i = 0; i < c->of->count; i++) {
        const member *m = &c->of->members[i];
        if (!(c->tried >> i & 1) && m->until_us < first) {
            first = m->until_us;
        }
    }
    const int64_t wait = first > now ? (first - now + SECOND - 1) / SECOND : 1;
    finish(c, CMIF_CALL_BUSY,
           "every upstream of this model is busy, or failed and is left alone for a while: try again later",
           (uint32_t) wait);
}

static cmif_code pool_check(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err)
{
    const pool *p  = (const pool *) (const void *) upstream;
    cmif_code   rc = CMIF_E_RANGE;
    for (size_t i = 0; i < p->count && rc == CMIF_E_RANGE; i++) {
        rc = cmif_upstream_check(p->members[i].upstream, request, err);
    }
    return rc;
}

static cmif_code pool_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                            cmif_call **out, cmif_err *err)
{
    static const struct timeval at_once = {0};
    pool                       *p       = (pool *) (void *) upstream;
    struct cmif_call           *c       = calloc(1, sizeof *c);
    cmif_err                    why     = {0};
    if (!c) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    *c           = (struct cmif_call){.of = p, .request = request, .hooks = *hooks};
    cmif_code rc = conversation(request, &c->key, &why);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = next(c, &why);
    if (rc != CMIF_OK && rc != CMIF_E_MEMORY && c->tried != UINT32_MAX >> (32 - p->count)) { /* some are left alone */
        c->later = event_new(p->upstream.base, -1, 0, end_unasked, c);
        rc       = c->later && event_add(c->later, &at_once) == 0 ? CMIF_OK
                                                                  : cmif_fail(&why, CMIF_E_MEMORY, "no memory for a call");
    }
    if (rc == CMIF_OK) {
        *out = c;
        c    = NULL;
    }
done:
    if (c) {
        call_free(c);
    }
    if (rc != CMIF_OK && err) {
        *err = why;
    }
    return rc;
}

static void pool_cancel(struct cmif_call *c)
{
    if (c->inner) {
        judge(c, CMIF_CALL_CANCELLED, 0);
        c->at->upstream->kind->cancel(c->inner);
    }
    call_free(c);
}

static bool may_be_asked(const member *m)
{
    return cmif_now_us() >= m->until_us && !m->trying;
}

static cmif_upstream_state pool_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    const pool         *p     = (const pool *) (const void *) upstream;
    cmif_upstream_state state = CMIF_UPSTREAM_DOWN;
    char                why[160];
    for (size_t i = 0; i < p->count && state != CMIF_UPSTREAM_READY; i++) {
        const member             *m   = &p->members[i];
        const cmif_upstream_state its = m->upstream->kind->state(m->upstream, why, sizeof why);
        if (its == CMIF_UPSTREAM_STARTING || (its == CMIF_UPSTREAM_READY && may_be_asked(m))) {
            state = its;
        }
    }
    snprintf(sentence, room, "%s",
             state == CMIF_UPSTREAM_READY      ? ""
             : state == CMIF_UPSTREAM_STARTING ? "no member of the pool is ready yet"
                                               : "no member of the pool can be reached now");
    return state;
}

static bool pool_member(const cmif_upstream *upstream, size_t index, cmif_upstream_member *out)
{
    const pool *p = (const pool *) (const void *) upstream;
    char        why[160];
    if (index >= p->count) {
        return false;
    }
    const member *m = &p->members[index];
    *out            = (cmif_upstream_member){.kind = m->upstream->kind->name,
                                             .up   = !m->doubtful &&
                                                   m->upstream->kind->state(m->upstream, why, sizeof why) == CMIF_UPSTREAM_READY,
                                             .calls  = m->calls,
                                             .failed = m->failed};
    return true;
}

static void pool_free(cmif_upstream *upstream)
{
    pool *p = (pool *) (void *) upstream;
    for (size_t i = 0; i < p->count; i++) {
        p->members[i].upstream->kind->free(p->members[i].upstream);
    }
    free(p->members);
    free(p);
}

static const cmif_upstream_kind kind = {.name   = "pool",
                                        .check  = pool_check,
                                        .start  = pool_start,
                                        .cancel = pool_cancel,
                                        .free   = pool_free,
                                        .state  = pool_state,
                                        .member = pool_member};

cmif_code cmif_pool_new(struct event_base *base, const char *name, const cmif_pool_member *members, size_t count,
                        cmif_upstream **out, cmif_err *err)
{
    pool *p = NULL;
    if (count == 0 || count > CMIF_POOL_MEMBERS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "a pool has 1 to %d members, not %zu", CMIF_POOL_MEMBERS_MAX, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (members[i].weight < 1 || members[i].weight > CMIF_POOL_WEIGHT_MAX) {
            return cmif_fail(err, CMIF_E_RANGE, "the weight of a pool's member is 1 to %d, not %u",
                             CMIF_POOL_WEIGHT_MAX, members[i].weight);
        }
    }
    if (strlen(name) >= sizeof p->upstream.model) {
        return cmif_fail(err, CMIF_E_RANGE, "a model's name is too long");
    }
    p           = calloc(1, sizeof *p);
    member *all = calloc(count, sizeof *all);
    if (!p || !all) {
        free(p);
        free(all);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a pool");
    }
    *p = (pool){.upstream = {.kind = &kind, .base = base}, .members = all, .count = count};
    strcpy(p->upstream.model, name);
    bool same = true; /* a receipt names the model where it is one, whoever answered */
    for (size_t i = 0; i < count; i++) {
        all[i] = (member){.upstream = members[i].upstream, .weight = members[i].weight};
        same   = same && !memcmp(all[i].upstream->model_id, all[0].upstream->model_id, sizeof p->upstream.model_id);
    }
    if (same) {
        memcpy(p->upstream.model_id, all[0].upstream->model_id, sizeof p->upstream.model_id);
    }
    *out = &p->upstream;
    return CMIF_OK;
}
