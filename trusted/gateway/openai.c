#include "gateway/events.h"
#include "gateway/post.h"

#include <stdlib.h>
#include <string.h>

#define DOWN_SECONDS 5 /* after a failure; then who asks only when it is ready may ask again */

typedef struct openai {
    cmif_upstream upstream; /* first */
    cmif_there   *there;
    char          model[256]; /* its name there */
    int64_t       failed_us;  /* when the last call did not get there; 0: it did */
} openai;

struct cmif_call {
    openai         *of;
    cmif_call_hooks hooks;
    cmif_post      *post;
    cmif_events     events;
};

static void on_gone(void *context)
{
    struct cmif_call *c = context;
    cmif_events_wipe(&c->events);
    free(c);
}

static cmif_code on_bytes(void *context, const void *bytes, size_t size, cmif_err *err)
{
    struct cmif_call *c = context;
    return cmif_events_feed(&c->events, bytes, size, err);
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    struct cmif_call *c   = context;
    cmif_err          err = {0};
    const bool        bad = end == CMIF_CALL_UNREACHABLE || end == CMIF_CALL_UNTRUSTED || end == CMIF_CALL_LATE;
    c->of->failed_us      = bad ? cmif_now_us() : 0;
    if (end == CMIF_CALL_DONE && cmif_events_end(&c->events, &err) != CMIF_OK) {
        c->hooks.on_end(c->hooks.context, CMIF_CALL_LIED, err.text, 0);
    } else {
        c->hooks.on_end(c->hooks.context, end, sentence, retry);
    }
}

static cmif_code openai_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                              cmif_call **out, cmif_err *err)
{
    openai               *o    = (openai *) (void *) upstream;
    const char           *root = cmif_there_path(o->there);
    cmif_secret           text = {0};
    struct evbuffer      *body = evbuffer_new();
    struct cmif_call     *c    = calloc(1, sizeof *c);
    const cmif_post_hooks ours = {.on_bytes = on_bytes, .on_end = on_end, .on_gone = on_gone, .context = c};
    char                  path[600];
    cmif_code             rc = c && body ? cmif_request_body(request, o->model, &text, err)
                                         : cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    if (rc == CMIF_OK && evbuffer_add(body, text.data, text.size) != 0) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a call");
    }
    if (rc == CMIF_OK) {
        c->of               = o;
        c->hooks            = *hooks;
        const json_t *input = json_object_get(request->tree, "input");
        c->events           = (cmif_events){.endpoint = request->endpoint,
                                            .inputs   = json_is_array(input) ? json_array_size(input) : 1,
                                            .hooks    = &c->hooks};
        snprintf(path, sizeof path, "%s%s", *root ? root : "/v1",
                 cmif_endpoint_path(request->endpoint) + 3); /* without "/v1" */
        rc           = cmif_post_start(o->there, path, body, 0, &ours, &c->post, err);
        o->failed_us = rc == CMIF_E_IO ? cmif_now_us() : o->failed_us; /* there is no way there */
    }
    if (rc == CMIF_OK) {
        *out = c;
    } else {
        free(c);
    }
    if (body) {
        evbuffer_free(body);
    }
    cmif_secret_wipe(&text);
    return rc;
}

static void openai_cancel(struct cmif_call *c)
{
    cmif_post_cancel(c->post);
}

static cmif_upstream_state openai_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    const openai *o    = (const openai *) (const void *) upstream;
    const bool    down = o->failed_us && cmif_now_us() < o->failed_us + DOWN_SECONDS * INT64_C(1000000);
    snprintf(sentence, room, "%s", o->failed_us ? "the last call did not reach it" : "");
    return down ? CMIF_UPSTREAM_DOWN : CMIF_UPSTREAM_READY;
}

static void openai_free(cmif_upstream *upstream)
{
    openai *o = (openai *) (void *) upstream;
    cmif_there_free(o->there);
    free(o);
}

static const cmif_upstream_kind kind = {
    .name = "openai", .start = openai_start, .cancel = openai_cancel, .free = openai_free, .state = openai_state};

cmif_code cmif_openai_new(struct event_base *base, const cmif_openai_options *options, cmif_upstream **out,
                          cmif_err *err)
{
    const char *name = options->name ? options->name : options->model;
    openai     *o    = calloc(1, sizeof *o);
    cmif_code   rc   = o ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for an upstream");
    if (rc == CMIF_OK && (strlen(options->model) >= sizeof o->model || strlen(name) >= sizeof o->upstream.model)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a model's name is too long");
    }
    rc = rc == CMIF_OK ? cmif_there_new(base, options, &o->there, err) : rc;
    if (rc == CMIF_OK) {
        o->upstream = (cmif_upstream){.kind = &kind, .base = base};
        strcpy(o->model, options->model);
        strcpy(o->upstream.model, name);
        *out = &o->upstream;
        o    = NULL;
    }
    if (o) {
        openai_free(&o->upstream);
    }
    return rc;
}
