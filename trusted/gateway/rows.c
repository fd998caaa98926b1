#include "gateway/rows.h"

#include "base/bytes.h"
#include "gateway/ask.h"
#include "gateway/events.h"
#include "gateway/post.h"
#include "gateway/tensor.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    ANSWER_MAX    = 4 << 20, /* bytes of what a server says of itself */
    ANSWER_WAIT   = 10,      /* seconds */
    FRESH_SECONDS = 60,      /* what it said holds for so long */
    AGAIN_SECONDS = 5,       /* while it is not well */
    WAITING_MAX   = 256,     /* calls; one more is told to come back later */
    SLICE         = 3 << 18, /* bytes of work between two looks at other calls; 3 bytes are 4 digits */
    SALT_SIZE     = 16
};

typedef struct rows rows;

struct cmif_call { /* waiting: in the upstream's list; then rows are made of its ids, slice by slice; then it is posted
                    */
    rows             *of;
    struct cmif_call *next;
    cmif_call_hooks   hooks;
    cmif_ask          ask;
    bool              refused; /* it never gets its turn */
    struct event     *work;    /* the next slice is due */
    cmif_tensor       tensor;
    size_t            rows_made, bytes_written;
    float            *floats; /* (width) */
    struct evbuffer  *body;
    cmif_post        *post;
    cmif_events       events;
};

struct rows {
    cmif_upstream     upstream; /* first */
    cmif_rows_options options;
    cmif_ask_model    model;
    cmif_there       *there;
    char              name[256], root[512]; /* the model's name there; what its paths begin with */
    char              salt[2 * SALT_SIZE + 1];
    size_t            width;
    cmif_row_type     type;    /* of rows that leave */
    struct cmif_call *waiting; /* oldest first */
    size_t            waiting_count;

    /* what the server says of itself */
    cmif_post          *asking; /* NULL: it is not asked just now */
    unsigned            step;   /* of the questions below */
    cmif_secret         answer;
    cmif_upstream_state state;
    cmif_call_end       ending; /* of calls, while it is DOWN */
    char                why[192];
    bool                pieces;   /* SGLang was told to stream pieces */
    int64_t             asked_us; /* 0: what it said does not hold any more */
    struct event       *tick;
};

/* ---- the end of a call ---- */

static void call_free(struct cmif_call *c)
{
    cmif_ask_wipe(&c->ask);
    cmif_tensor_free(&c->tensor);
    cmif_events_wipe(&c->events);
    if (c->work) {
        event_free(c->work);
    }
    if (c->body) {
        evbuffer_free(c->body);
    }
    free(c->floats);
    free(c);
}

static void end_call(struct cmif_call *c, cmif_call_end end, const char *sentence, uint32_t retry)
{
    c->hooks.on_end(c->hooks.context, end, sentence, retry);
    call_free(c);
}

static void put_waiting(rows *u, struct cmif_call *c)
{
    struct cmif_call **at = &u->waiting;
    while (*at) {
        at = &(*at)->next;
    }
    *at = c;
    u->waiting_count++;
}

static struct cmif_call *take_waiting(rows *u, struct cmif_call *c)
{
    struct cmif_call **at = &u->waiting;
    while (*at && *at != c) {
        at = &(*at)->next;
    }
    if (*at) {
        *at     = c->next;
        c->next = NULL;
        u->waiting_count--;
    }
    return c;
}

/* ---- a call that was posted ---- */

static void on_gone(void *context)
{
    call_free(context);
}

static cmif_code on_bytes(void *context, const void *bytes, size_t size, cmif_err *err)
{
    struct cmif_call *c = context;
    return cmif_events_feed(&c->events, bytes, size, err);
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    struct cmif_call *c   = context;
    rows             *u   = c->of;
    cmif_err          err = {0};
    if (end == CMIF_CALL_UNREACHABLE || end == CMIF_CALL_UNTRUSTED) { /* it may come back as another one */
        u->asked_us = 0;
        u->state    = CMIF_UPSTREAM_DOWN;
        u->ending   = end;
        snprintf(u->why, sizeof u->why, "%s", sentence);
    }
    if (end == CMIF_CALL_DONE && cmif_events_end(&c->events, &err) != CMIF_OK) {
        c->hooks.on_end(c->hooks.context, CMIF_CALL_LIED, err.text, 0);
    } else {
        c->hooks.on_end(c->hooks.context, end, sentence, retry);
    }
}

/* ---- the body ---- */

static json_t *put_new(json_t *object, const char *key, json_t *value)
{
    return object && json_object_set_new(object, key, value) == 0 ? object : NULL;
}

/* What is asked for beside the rows: these fields and no others, as other ones can end a server. Penalties are off by a
 * word, since a model's own settings may have one. */
static json_t *make_head(const rows *u, const cmif_ask *ask)
{
    const bool     vllm = u->options.kind == CMIF_ROWS_VLLM;
    json_t        *head = json_object(), *how = vllm ? json_incref(head) : json_object();
    json_t        *stops = json_array(), *ends = json_array();
    const uint64_t seed  = ask->sampling.seed;
    const int32_t *ids   = NULL;
    const size_t   count = cmif_tokenizer_stops(u->model.tokenizer, &ids);
    bool           good  = stops && ends;
    for (size_t i = 0; i < ask->stop_count; i++) {
        good = good &&
               json_array_append_new(stops, json_stringn((const char *) ask->stops[i].bytes, ask->stops[i].size)) == 0;
    }
    for (size_t i = 0; i < count; i++) {
        good = good && json_array_append_new(ends, json_integer(ids[i])) == 0;
    }
    good = good && put_new(how, vllm ? "max_tokens" : "max_new_tokens", json_integer(ask->max_tokens)) &&
           put_new(how, "temperature", json_real((double) ask->sampling.temperature)) &&
           put_new(how, "top_p", json_real((double) ask->sampling.top_p)) &&
           put_new(how, "top_k", json_integer(ask->sampling.top_k ? (json_int_t) ask->sampling.top_k : -1)) &&
           put_new(how, "min_p", json_real((double) ask->sampling.min_p)) &&
           put_new(how, "repetition_penalty", json_real(1)) && put_new(how, "stop_token_ids", json_incref(ends)) &&
           (!ask->stop_count || put_new(how, "stop", json_incref(stops))) && put_new(head, "stream", json_true());
    if (vllm) {
        good = good && put_new(head, "model", json_string(u->name)) &&
               put_new(head, "stream_options", json_pack("{s:b}", "include_usage", 1)) &&
               put_new(head, "cache_salt", json_string(u->salt)) &&
               (!ask->seeded || put_new(how, "seed", json_integer((json_int_t) seed)));
    } else { /* there it is a number of 31 bits */
        good = good && put_new(head, "sampling_params", json_incref(how)) &&
               (!ask->seeded ||
                put_new(how, "sampling_seed", json_integer((json_int_t) ((seed ^ seed >> 31) & 0x7fffffff))));
    }
    json_decref(stops);
    json_decref(ends);
    json_decref(how);
    if (!good) {
        json_decref(head);
    }
    return good ? head : NULL;
}

/* The body up to its rows. */
static cmif_code put_head(struct cmif_call *c, cmif_err *err)
{
    const bool vllm = c->of->options.kind == CMIF_ROWS_VLLM;
    json_t    *head = make_head(c->of, &c->ask);
    char      *text = head ? json_dumps(head, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    c->body         = evbuffer_new();
    const bool good = text && c->body &&
                      evbuffer_add_printf(c->body, "%.*s,\"%s\":%s", (int) strlen(text) - 1, text,
                                          vllm ? "prompt_embeds" : "input_embeds", vllm ? "\"" : "[") > 0;
    free(text);
    json_decref(head);
    return good ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
}

/* The next rows into the tensor: from the table, as they leave, and proved: finite, and no larger than a row can be. */
static cmif_code make_rows(struct cmif_call *c, cmif_err *err)
{
    const rows     *u    = c->of;
    const cmif_ids *ids  = &c->ask.inputs[0];
    const size_t    size = cmif_row_size(u->type, u->width), left = ids->count - c->rows_made,
                 some = size < SLICE ? SLICE / size : 1, n = left < some ? left : some;
    uint8_t  *at = c->tensor.rows + c->rows_made * size;
    cmif_code rc = cmif_embed_rows(u->options.embed, ids, c->rows_made, n, u->type, at, err);
    for (size_t i = 0; i < n && rc == CMIF_OK; i++) {
        cmif_row_decode(u->type, at + i * size, c->floats, u->width);
        if (!cmif_row_is_sane(c->floats, u->width, CMIF_WIRE_ROW_LIMIT)) {
            rc = cmif_fail(err, CMIF_E_FORMAT,
                           "a row of the model's table is not finite, or too large: nothing was sent");
        }
    }
    if (rc == CMIF_OK) {
        c->rows_made += n;
        cmif_tensor_filled(&c->tensor, c->rows_made * size);
    }
    return rc;
}

/* The next bytes of the container, as base64. */
static cmif_code write_container(struct cmif_call *c, cmif_err *err)
{
    const cmif_tensor    *t    = &c->tensor;
    const size_t          left = t->size - c->bytes_written, n = left < SLICE ? left : SLICE, digits = (n + 2) / 3 * 4;
    struct evbuffer_iovec room;
    if (evbuffer_reserve_space(c->body, (ev_ssize_t) digits + 1, &room, 1) != 1) { /* and a zero byte */
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    EVP_EncodeBlock(room.iov_base, t->bytes + c->bytes_written, (int) n);
    room.iov_len = digits;
    c->bytes_written += n;
    return evbuffer_commit_space(c->body, &room, 1) == 0 ? CMIF_OK
                                                         : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
}

/* The next row as a list of numbers: nine digits are enough for every float. */
static cmif_code write_row(struct cmif_call *c, cmif_err *err)
{
    const rows           *u    = c->of;
    const size_t          size = cmif_row_size(u->type, u->width);
    size_t                at   = 0;
    struct evbuffer_iovec room;
    if (evbuffer_reserve_space(c->body, (ev_ssize_t) (20 * u->width + 4), &room, 1) != 1) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    char *text = room.iov_base;
    cmif_row_decode(u->type, c->tensor.rows + c->bytes_written, c->floats, u->width);
    for (size_t i = 0; i < u->width; i++) {
        at += (size_t) snprintf(text + at, room.iov_len - at, "%s%.9g",
                                i                  ? ","
                                : c->bytes_written ? ",["
                                                   : "[",
                                (double) c->floats[i]);
    }
    text[at++]   = ']';
    room.iov_len = at;
    c->bytes_written += size;
    return evbuffer_commit_space(c->body, &room, 1) == 0 ? CMIF_OK
                                                         : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
}

static bool is_written(const struct cmif_call *c)
{
    return c->bytes_written == (c->of->options.kind == CMIF_ROWS_VLLM ? c->tensor.size : c->tensor.rows_size);
}

static cmif_code post(struct cmif_call *c, cmif_err *err)
{
    rows                 *u     = c->of;
    const bool            vllm  = u->options.kind == CMIF_ROWS_VLLM;
    const cmif_post_hooks hooks = {.on_bytes = on_bytes, .on_end = on_end, .on_gone = on_gone, .context = c};
    char                  path[600];
    if (evbuffer_add_printf(c->body, vllm ? "\"}" : "]}") < 0) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    cmif_tensor_free(&c->tensor);
    c->events.endpoint = CMIF_ENDPOINT_COMPLETIONS; /* whatever the client asked, this is what was asked for */
    c->events.form     = vllm ? CMIF_EVENTS_OPENAI : u->pieces ? CMIF_EVENTS_PIECES : CMIF_EVENTS_WHOLE;
    c->events.hooks    = &c->hooks;
    snprintf(path, sizeof path, "%s%s", u->root, vllm ? "/v1/completions" : "/generate");
    return cmif_post_start(u->there, path, c->body, 0, &hooks, &c->post, err);
}

/* One slice; the next is made once others had their turn. Nothing leaves before all rows are made. */
static void on_work(evutil_socket_t fd, short what, void *context)
{
    static const struct timeval now  = {0};
    struct cmif_call           *c    = context;
    cmif_err                    err  = {0};
    cmif_code                   rc   = CMIF_OK;
    const size_t                from = c->body ? evbuffer_get_length(c->body) : 0;
    (void) fd, (void) what;
    if (c->refused) {
        end_call(c, CMIF_CALL_BUSY, "too many calls wait for the upstream: try again later", AGAIN_SECONDS);
        return;
    }
    if (c->rows_made < c->ask.inputs[0].count) {
        rc = make_rows(c, &err);
    } else if (c->of->options.kind == CMIF_ROWS_VLLM) {
        rc = write_container(c, &err);
    } else {
        while (rc == CMIF_OK && !is_written(c) && evbuffer_get_length(c->body) - from < SLICE / 8) {
            rc = write_row(c, &err);
        }
    }
    if (rc == CMIF_OK && is_written(c)) {
        rc = post(c, &err);
    } else if (rc == CMIF_OK && event_add(c->work, &now) != 0) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for a call");
    }
    if (rc != CMIF_OK) {
        end_call(c, rc == CMIF_E_FORMAT || rc == CMIF_E_RANGE ? CMIF_CALL_REFUSED : CMIF_CALL_UNREACHABLE, err.text, 0);
    }
}

/* ---- what the server says of itself ---- */

static const struct least { /* by kind */
    const char *name;
    unsigned    version[3];
    const char *why;
} leasts[] = {
    {"vLLM", {0, 26, 0}, "older ones can be taken over by a prompt in rows (CVE-2026-73557 and before)"},
    {"SGLang", {0, 5, 23}, "older ones have holes (CVE-2026-7301 and before) or were not tried"},
};
static const char *const questions[][2] = {{"/version", "/server_info"}, {"/v1/models", "/v1/models"}}; /* by kind */
enum { QUESTIONS = 2, SGLANG_KEEPS = 6 /* of its context, for itself */ };

/* The number that a version begins with; *done: it is that, or a build made after it, and not a candidate for it
 * (0.26.0rc1). */
static bool read_version(const char *text, unsigned out[static 3], bool *done)
{
    const char *at = text ? text : "";
    for (int i = 0; i < 3; i++) {
        const size_t digits = strspn(at, "0123456789");
        if (digits == 0 || digits > 6) {
            return false;
        }
        out[i] = (unsigned) strtoul(at, NULL, 10);
        at += digits;
        if (i < 2 && *at++ != '.') {
            return false;
        }
    }
    *done = !*at || *at == '+' || !strncmp(at, ".post", 5);
    return true;
}

static cmif_code check_version(const rows *u, const char *text, cmif_err *err)
{
    const struct least *least = &leasts[u->options.kind];
    const unsigned     *want  = least->version;
    unsigned            v[3]  = {0};
    bool                done  = false;
    int                 order = 0;
    if (u->options.any_version) {
        return CMIF_OK;
    }
    if (!read_version(text, v, &done)) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "the upstream does not say which version of %s it is: expected %u.%u.%u or later", least->name,
                         want[0], want[1], want[2]);
    }
    for (int i = 0; i < 3 && order == 0; i++) {
        order = v[i] < want[i] ? -1 : v[i] > want[i];
    }
    return order > 0 || (order == 0 && done)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_TRUST, "the upstream is %s %u.%u.%u, expected %u.%u.%u or later: %s: update it",
                           least->name, v[0], v[1], v[2], want[0], want[1], want[2], least->why);
}

/* How SGLang was started: what would refuse rows, or die of them, is told before any are sent. */
static cmif_code check_start(rows *u, const json_t *said, cmif_err *err)
{
    const char *type = json_string_value(json_object_get(said, "dtype"));
    if (!json_is_true(json_object_get(said, "disable_radix_cache"))) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the upstream takes no rows: start SGLang with --disable-radix-cache");
    }
    if (!type || (strcmp(type, "bfloat16") != 0 && strcmp(type, "auto") != 0)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "rows would end the upstream: start SGLang with --dtype bfloat16");
    }
    u->pieces = json_is_true(json_object_get(said, "incremental_streaming_output")) ||
                json_is_true(json_object_get(said, "stream_output"));
    return CMIF_OK;
}

static cmif_code check_model(rows *u, const json_t *said, cmif_err *err)
{
    const json_t *list = json_object_get(said, "data"), *one;
    size_t        i;
    json_array_foreach(list, i, one)
    {
        const char      *name    = json_string_value(json_object_get(one, "id"));
        const json_int_t context = json_integer_value(json_object_get(one, "max_model_len"));
        const uint32_t   kept    = u->options.kind == CMIF_ROWS_VLLM ? 1 : SGLANG_KEEPS; /* rows that do not fit */
        if (name && !strcmp(name, u->name)) {
            u->model.context =
                context > kept && context < CMIF_WIRE_POSITIONS ? (uint32_t) context - kept : CMIF_WIRE_POSITIONS;
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_UNSUPPORTED,
                     "the upstream has no model of that name: look at what GET /v1/models says there");
}

static cmif_code take_answer(rows *u, cmif_err *err)
{
    json_t   *said = json_loadb(u->answer.size ? (const char *) u->answer.data : "", u->answer.size, 0, NULL);
    cmif_code rc   = said ? CMIF_OK : cmif_fail(err, CMIF_E_PEER, "what the upstream says of itself is no JSON");
    if (rc == CMIF_OK && u->step == 0) {
        rc = check_version(u, json_string_value(json_object_get(said, "version")), err);
        rc = rc == CMIF_OK && u->options.kind == CMIF_ROWS_SGLANG ? check_start(u, said, err) : rc;
    } else if (rc == CMIF_OK) {
        rc = check_model(u, said, err);
    }
    json_decref(said);
    return rc;
}

static cmif_code begin(struct cmif_call *c, cmif_err *err);

/* What it said is known: calls that waited for that go on, or end. */
static void settle(rows *u, cmif_upstream_state state, cmif_call_end end, const char *why)
{
    cmif_err err = {0};
    u->state     = state;
    u->ending    = end;
    u->asked_us  = state == CMIF_UPSTREAM_READY ? cmif_now_us() : 0;
    snprintf(u->why, sizeof u->why, "%s", why);
    for (size_t n = u->waiting_count; n && u->waiting; n--) { /* not those that a hook adds meanwhile */
        struct cmif_call *c = take_waiting(u, u->waiting);
        if (state != CMIF_UPSTREAM_READY) {
            end_call(c, end, why, 0);
        } else if (begin(c, &err) != CMIF_OK) {
            end_call(c, CMIF_CALL_UNREACHABLE, err.text, 0);
        }
    }
}

static cmif_code on_said(void *context, const void *bytes, size_t size, cmif_err *err)
{
    rows *u = context;
    return u->answer.size + size <= ANSWER_MAX
               ? cmif_secret_append(&u->answer, bytes, size, err)
               : cmif_fail(err, CMIF_E_PEER, "what the upstream says of itself has no end");
}

static cmif_code ask(rows *u, cmif_err *err);

static void on_answered(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    static const cmif_call_end ends[] = {[CMIF_E_TRUST]       = CMIF_CALL_UNTRUSTED,
                                         [CMIF_E_UNSUPPORTED] = CMIF_CALL_UNTRUSTED,
                                         [CMIF_E_PEER]        = CMIF_CALL_LIED};
    rows                      *u      = context;
    cmif_err                   err    = {0};
    cmif_code                  rc     = CMIF_OK;
    (void) retry;
    u->asking = NULL;
    if (end == CMIF_CALL_REFUSED) { /* 404: it does not know the question */
        rc = u->step ? cmif_fail(&err, CMIF_E_UNSUPPORTED, "the upstream does not say which models it has")
                     : cmif_fail(&err, CMIF_E_TRUST, "the upstream does not say which version of %s it is",
                                 leasts[u->options.kind].name);
    } else if (end == CMIF_CALL_DONE) {
        rc = take_answer(u, &err);
    }
    if (end != CMIF_CALL_DONE && end != CMIF_CALL_REFUSED) {
        settle(u, CMIF_UPSTREAM_DOWN, end, sentence);
    } else if (rc != CMIF_OK) {
        settle(u, CMIF_UPSTREAM_DOWN, ends[rc], err.text);
    } else if (++u->step == QUESTIONS) {
        settle(u, CMIF_UPSTREAM_READY, CMIF_CALL_DONE, "");
    } else if (ask(u, &err) != CMIF_OK) {
        settle(u, CMIF_UPSTREAM_DOWN, CMIF_CALL_UNREACHABLE, err.text);
    }
}

static void on_nothing(void *context)
{
    (void) context;
}

/* The question of this step. */
static cmif_code ask(rows *u, cmif_err *err)
{
    const cmif_post_hooks hooks = {.on_bytes = on_said, .on_end = on_answered, .on_gone = on_nothing, .context = u};
    char                  path[600];
    cmif_secret_wipe(&u->answer);
    snprintf(path, sizeof path, "%s%s", u->root, questions[u->step][u->options.kind]);
    return cmif_post_start(u->there, path, NULL, ANSWER_WAIT, &hooks, &u->asking, err);
}

static cmif_code ask_all(rows *u, cmif_err *err)
{
    if (u->asking) {
        return CMIF_OK; /* what it will say is new enough */
    }
    u->step = u->options.any_version && u->options.kind == CMIF_ROWS_VLLM ? 1 : 0;
    return ask(u, err);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    rows *u = context;
    (void) fd, (void) what;
    if (u->state != CMIF_UPSTREAM_READY) {
        (void) ask_all(u, NULL); /* else at the next tick */
    }
}

/* ---- the kinds ---- */

static cmif_code begin(struct cmif_call *c, cmif_err *err)
{
    static const struct timeval now = {0};
    rows                       *u   = c->of;
    cmif_code                   rc  = cmif_tensor_new(u->type, c->ask.inputs[0].count, u->width, &c->tensor, err);
    rc                              = rc == CMIF_OK ? put_head(c, err) : rc;
    c->floats                       = malloc(u->width * sizeof *c->floats);
    return rc != CMIF_OK                            ? rc
           : c->floats && !event_add(c->work, &now) ? CMIF_OK
                                                    : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
}

static cmif_code rows_check(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err)
{
    const rows *u = (const rows *) (const void *) upstream;
    return cmif_ask_check(request, &u->model, err);
}

static cmif_code rows_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                            cmif_call **out, cmif_err *err)
{
    static const struct timeval now = {0};
    rows                       *u   = (rows *) (void *) upstream;
    struct cmif_call           *c   = calloc(1, sizeof *c);
    cmif_code                   rc =
        c ? cmif_ask_read(request, &u->model, &c->ask, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    if (rc == CMIF_OK && c->ask.prompt > CMIF_TENSOR_MAX / cmif_row_size(u->type, u->width)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%s: %zu tokens make more than %zu MiB of rows: shorten it",
                       c->ask.chat ? "messages" : "prompt", (size_t) c->ask.prompt, CMIF_TENSOR_MAX >> 20);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    c->of      = u;
    c->hooks   = *hooks;
    c->refused = u->waiting_count >= WAITING_MAX;
    c->work    = evtimer_new(upstream->base, on_work, c);
    if (!c->work || (c->refused && event_add(c->work, &now) != 0)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    } else if (!c->refused && u->asked_us && cmif_now_us() - u->asked_us < (int64_t) FRESH_SECONDS * 1000000) {
        rc = begin(c, err);
    } else if (!c->refused) {
        rc = ask_all(u, err);
        if (rc == CMIF_OK) {
            put_waiting(u, c);
        }
    }
done:
    if (rc == CMIF_OK) {
        *out = c;
    } else if (c) {
        call_free(c);
    }
    return rc;
}

static void rows_cancel(struct cmif_call *c)
{
    if (c->post) {
        cmif_post_cancel(c->post);
    } else {
        call_free(take_waiting(c->of, c));
    }
}

static cmif_upstream_state rows_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    const rows *u = (const rows *) (const void *) upstream;
    snprintf(sentence, room, "%s", u->why);
    return u->state;
}

static void rows_free(cmif_upstream *upstream)
{
    rows *u = (rows *) (void *) upstream;
    if (u->asking) {
        cmif_post_cancel(u->asking);
    }
    while (u->waiting) {
        call_free(take_waiting(u, u->waiting));
    }
    if (u->tick) {
        event_free(u->tick);
    }
    cmif_secret_wipe(&u->answer);
    cmif_there_free(u->there);
    free(u);
}

static const cmif_upstream_kind kinds[] = {{.name   = "vllm",
                                            .start  = rows_start,
                                            .cancel = rows_cancel,
                                            .free   = rows_free,
                                            .state  = rows_state,
                                            .check  = rows_check},
                                           {.name   = "sglang",
                                            .start  = rows_start,
                                            .cancel = rows_cancel,
                                            .free   = rows_free,
                                            .state  = rows_state,
                                            .check  = rows_check}};

/* The server's cache of prompts answers faster what it has met: with a salt of ours, what others send there tells
 * nothing about it (CVE-2025-46570). It is one salt for all who share this gateway. */
static cmif_code draw_salt(rows *u, cmif_err *err)
{
    uint8_t salt[SALT_SIZE];
    if (getrandom(salt, sizeof salt, 0) != sizeof salt) {
        return cmif_fail(err, CMIF_E_IO, "cannot draw a salt: %s", strerror(errno));
    }
    cmif_hex(salt, sizeof salt, u->salt);
    return CMIF_OK;
}

/* Architectures in which rows of the table enter as they are. Others multiply them first (Gemma, Granite, MiniCPM), and
 * who does so differs from server to server: answers would be wrong without a word. */
static bool takes_plain_rows(cmif_str arch)
{
    static const char *const plain[] = {"llama",    "qwen2",      "qwen2moe",  "qwen3",   "qwen3moe",
                                        "phi3",     "gptneox",    "gpt-oss",   "olmo2",   "olmoe",
                                        "stablelm", "starcoder2", "internlm2", "smollm3", "deepseek2"};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (cmif_str_is(arch, plain[i])) {
            return true;
        }
    }
    return false;
}

cmif_code cmif_rows_new(struct event_base *base, const cmif_rows_options *options, cmif_upstream **out, cmif_err *err)
{
    const struct timeval again = {.tv_sec = AGAIN_SECONDS};
    const char          *name  = options->there.name ? options->there.name : options->there.model;
    rows                *u     = calloc(1, sizeof *u);
    cmif_code            rc    = u ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
    if (rc != CMIF_OK) {
        goto done;
    }
    if (strlen(options->there.model) >= sizeof u->name || strlen(name) >= sizeof u->upstream.model) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a model's name is too long");
        goto done;
    }
    if (!takes_plain_rows(options->arch)) {
        rc =
            cmif_fail(err, CMIF_E_UNSUPPORTED,
                      "rows of this model's architecture are for our own server only: vLLM and SGLang may want others");
        goto done;
    }
    u->upstream = (cmif_upstream){.kind = &kinds[options->kind], .base = base};
    u->options  = *options;
    u->model    = (cmif_ask_model){.tokenizer = options->tokenizer,
                                   .chat      = options->chat,
                                   .no_chat   = options->no_chat,
                                   .context   = CMIF_WIRE_POSITIONS};
    u->width    = cmif_embed_width(options->embed);
    u->type     = cmif_embed_exact_type(options->embed);
    u->type     = u->type == CMIF_ROWS_Q8_0 ? CMIF_ROWS_F32 : u->type; /* the same floats */
    memcpy(u->upstream.model_id, options->model_id, sizeof u->upstream.model_id);
    strcpy(u->name, options->there.model);
    strcpy(u->upstream.model, name);
    rc = draw_salt(u, err);
    rc = rc == CMIF_OK ? cmif_there_new(base, &options->there, &u->there, err) : rc;
    if (rc != CMIF_OK) {
        goto done;
    }
    const char  *path = cmif_there_path(u->there);
    const size_t size = strlen(path), root = size >= 3 && !strcmp(path + size - 3, "/v1") ? size - 3 : size;
    snprintf(u->root, sizeof u->root, "%.*s", (int) root, path);
    u->tick = event_new(base, -1, EV_PERSIST, on_tick, u);
    if (!u->tick || event_add(u->tick, &again) != 0) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
        goto done;
    }
    rc = ask_all(u, err);
    if (rc == CMIF_OK) {
        u->options.there = (cmif_openai_options){0}; /* borrowed no longer */
        *out             = &u->upstream;
        u                = NULL;
    }
done:
    if (u) {
        rows_free(&u->upstream);
    }
    return rc;
}
