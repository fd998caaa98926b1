/* upstream - where answers come from: our own server, or an OpenAI-compatible one. One narrow interface, on libevent's loop.
 *
 * A call takes a request whose texts were all released, and gives events, each on the loop, on_end last and once. Nothing of what an upstream says in an
 * error is passed on: it could repeat what it was sent.
 *
 * Sees    released text, generated text. */
#ifndef CMIF_GATEWAY_UPSTREAM_H
#define CMIF_GATEWAY_UPSTREAM_H

#include "gateway/request.h"

#include <event2/event.h>
#include <time.h>

static inline int64_t cmif_now_us(void) /* a clock that only goes on */
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

typedef enum cmif_finish { CMIF_FINISH_STOP = 0, CMIF_FINISH_LENGTH, CMIF_FINISH_TOOLS, CMIF_FINISH_FILTER } cmif_finish;

typedef struct cmif_call_usage { uint64_t prompt, cached, completion; } cmif_call_usage;

typedef enum cmif_call_end {
    CMIF_CALL_DONE = 0,
    CMIF_CALL_REFUSED,     /* the upstream will not do this: 400 */
    CMIF_CALL_BUSY,        /* 429 or 503 of the upstream: come back later */
    CMIF_CALL_UNREACHABLE, /* 502: cannot be reached, or broke off */
    CMIF_CALL_UNTRUSTED,   /* 502: certificate, pin or evidence */
    CMIF_CALL_LIED,        /* 502: what came is not what it should be (no JSON, another model, without end) */
    CMIF_CALL_LATE,        /* 504 */
    CMIF_CALL_CANCELLED
} cmif_call_end;

typedef struct cmif_call_hooks { /* bytes are borrowed for the call of the hook; text is whole UTF-8 characters */
    void (*on_text)(void *context, uint32_t choice, const char *bytes, size_t size);
    void (*on_refusal)(void *context, uint32_t choice, const char *bytes, size_t size);
    /* A tool call: first its name (size > 0), then its arguments in pieces. */
    void (*on_tool)(void *context, uint32_t choice, uint32_t index, const char *name, size_t name_size, const char *arguments, size_t size);
    void (*on_logprobs)(void *context, uint32_t choice, const json_t *logprobs); /* as OpenAI writes them */
    void (*on_vector)(void *context, uint32_t index, const float *values, size_t count);
    void (*on_finish)(void *context, uint32_t choice, cmif_finish reason);
    void (*on_usage)(void *context, const cmif_call_usage *usage);
    void (*on_end)(void *context, cmif_call_end end, const char *sentence, uint32_t retry_seconds);
    void *context;
} cmif_call_hooks;

typedef struct cmif_upstream cmif_upstream;
typedef struct cmif_call     cmif_call;

typedef enum cmif_upstream_state { CMIF_UPSTREAM_STARTING = 0, CMIF_UPSTREAM_READY, CMIF_UPSTREAM_DOWN } cmif_upstream_state;

typedef struct cmif_upstream_member { /* of a pool, for /status and /metrics */
    const char *kind;
    bool        up;            /* as far as its last call tells */
    uint64_t    calls, failed; /* since the start; failed: no answer, or half of one */
} cmif_upstream_member;

typedef struct cmif_upstream_kind { /* what each kind has; call through the functions below */
    const char *name; /* "cmif", "openai" */
    cmif_code (*start)(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks, cmif_call **out, cmif_err *err);
    void (*cancel)(cmif_call *call);
    void (*free)(cmif_upstream *upstream);
    cmif_upstream_state (*state)(const cmif_upstream *upstream, char *sentence, size_t room);
    cmif_code (*check)(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err); /* NULL: takes everything */
    bool (*member)(const cmif_upstream *upstream, size_t index, cmif_upstream_member *out); /* false: no such one; NULL: it is no pool */
} cmif_upstream_kind;

struct cmif_upstream { /* the first member of each kind's own */
    const cmif_upstream_kind *kind;
    struct event_base        *base;
    char                      model[256];   /* its name for clients */
    uint8_t                   model_id[32]; /* for receipts; zeros where it is not known */
};

/* Errors: RANGE (something that this upstream cannot do: which field), IO, MEMORY; then there is no call, and no hook is called. Nor is one called inside of
 * this. After cancel no hook is called any more. on_end frees the call. The request must outlive the call. */
static inline CMIF_MUST_USE cmif_code cmif_upstream_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                                                          cmif_call **out, cmif_err *err)
{
    return upstream->kind->start(upstream, request, hooks, out, err);
}

/* Before any text is released, so that what this upstream cannot do spends nothing. Errors: RANGE (which field, and why). */
static inline CMIF_MUST_USE cmif_code cmif_upstream_check(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err)
{
    return upstream->kind->check ? upstream->kind->check(upstream, request, err) : CMIF_OK;
}

/* ---- kinds ---- */
typedef struct cmif_openai_options { /* borrowed strings are copied */
    const char *url;        /* "http://127.0.0.1:8000" or "https://host/v1": paths are added to it */
    const char *model;      /* its name there */
    const char *name;       /* for clients; NULL: model */
    const char *key_file;   /* Authorization: Bearer; NULL: none */
    const char *pin, *ca;   /* https: as cmif_peer; both NULL: the system's CAs */
    uint32_t    silence_seconds; /* an upstream that says nothing for longer is given up (0: 120) */
} cmif_openai_options;
CMIF_MUST_USE cmif_code cmif_openai_new(struct event_base *base, const cmif_openai_options *options, cmif_upstream **out, cmif_err *err);

#endif
