#include "gateway/front.h"

#include "gateway/page.h"

#include <event2/buffer.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *model_json(const cmif_upstream *u)
{
    return json_pack("{s:s, s:s, s:i, s:s}", "id", u->model, "object", "model", "created", 0, "owned_by",
                     u->kind->name);
}

void cmif_front_json(cmif_gateway *g, struct evhttp_request *http, int status, json_t *tree)
{
    char *text = tree ? json_dumps(tree, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    if (text) {
        cmif_front_answer(g, http, status, "application/json", text, strlen(text));
    } else {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
    }
    free(text);
    json_decref(tree);
}

void cmif_front_models(cmif_gateway *g, struct evhttp_request *http, const char *id)
{
    json_t *list = json_array();
    for (size_t i = 0; i < g->options.upstream_count; i++) {
        const cmif_upstream *u = g->options.upstreams[i];
        if (id && !strcmp(id, u->model)) {
            json_decref(list);
            cmif_front_json(g, http, 200, model_json(u));
            return;
        }
        json_array_append_new(list, model_json(u));
    }
    if (id) {
        json_decref(list);
        cmif_front_error(g, http, 404, "model_not_found", "model", "no such model here: GET /v1/models lists them", 0);
    } else {
        cmif_front_json(g, http, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
    }
}

/* Live: this program answers. Ready: so would an upstream. */
void cmif_front_ready(cmif_gateway *g, struct evhttp_request *http, bool reason)
{
    char why[160] = "there is no upstream";
    bool ready    = false;
    for (size_t i = 0; i < g->options.upstream_count && !ready; i++) {
        const cmif_upstream *u = g->options.upstreams[i];
        ready                  = u->kind->state(u, why, sizeof why) == CMIF_UPSTREAM_READY;
    }
    ready = ready && !g->draining;
    cmif_front_json(g, http, ready ? 200 : 503,
                    json_pack("{s:s, s:s*}", "status", ready ? "ok" : "unavailable", "reason",
                              ready || !reason ? NULL
                              : g->draining    ? "shutting down"
                                               : why));
}

/* Of a pool its members; another is a member of itself. By number: addresses and names tell more than a scraper needs.
 */
static bool member_of(const cmif_upstream *u, size_t index, cmif_upstream_member *out)
{
    char why[160];
    if (u->kind->member) {
        return u->kind->member(u, index, out);
    }
    *out =
        (cmif_upstream_member){.kind = u->kind->name, .up = u->kind->state(u, why, sizeof why) == CMIF_UPSTREAM_READY};
    return index == 0;
}

static void metrics_of_upstreams(const cmif_gateway *g, struct evbuffer *body)
{
    static const char *const names[] = {"cmif_upstream_up", "cmif_upstream_calls_total",
                                        "cmif_upstream_failures_total"};
    cmif_upstream_member     about;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        evbuffer_add_printf(body, "# TYPE %s %s\n", names[n], n ? "counter" : "gauge");
        for (size_t i = 0; i < g->options.upstream_count; i++) {
            const cmif_upstream *u = g->options.upstreams[i];
            for (size_t m = 0; (n == 0 || u->kind->member) && member_of(u, m, &about); m++) {
                evbuffer_add_printf(body, "%s{upstream=\"%zu\",member=\"%zu\"} %" PRIu64 "\n", names[n], i, m,
                                    n == 0   ? (uint64_t) about.up
                                    : n == 1 ? about.calls
                                             : about.failed);
            }
        }
    }
}

void cmif_front_metrics(cmif_gateway *g, struct evhttp_request *http)
{
    static const char *const endpoints[] = {"chat", "completions", "embeddings"};
    struct evbuffer         *body        = evbuffer_new();
    size_t                   talks       = 0;
    for (size_t i = 0; i < g->options.rules.policy_count; i++) {
        talks += cmif_talks_count(g->options.rules.policies[i]->talks);
    }
    if (!body) {
        evhttp_send_reply(http, 500, "Internal Server Error", NULL);
        return;
    }
    evbuffer_add_printf(body, "# TYPE cmif_requests_total counter\n");
    for (size_t e = 0; e < CMIF_ENDPOINTS; e++) {
        for (size_t s = 2; s < 6; s++) {
            evbuffer_add_printf(body, "cmif_requests_total{endpoint=\"%s\",code=\"%zuxx\"} %" PRIu64 "\n", endpoints[e],
                                s, g->requests[e][s]);
        }
    }
    evbuffer_add_printf(body,
                        "# TYPE cmif_requests_running gauge\ncmif_requests_running %zu\n# TYPE cmif_conversations "
                        "gauge\ncmif_conversations %zu\n",
                        g->busy, talks);
    evbuffer_add_printf(body, "# TYPE cmif_words_replaced_total counter\n");
    for (size_t c = CMIF_SPAN_OTHER + 1; c < CMIF_SPAN_CLASSES; c++) {
        evbuffer_add_printf(body, "cmif_words_replaced_total{class=\"%s\"} %" PRIu64 "\n",
                            cmif_span_class_name((cmif_span_class) c), g->words[c]);
    }
    evbuffer_add_printf(body,
                        "# TYPE cmif_draws_total counter\ncmif_draws_total %" PRIu64
                        "\n# TYPE cmif_epsilon_spent_total counter\ncmif_epsilon_spent_total %.6f\n",
                        g->draws, (double) g->epsilon_micro / 1e6);
    metrics_of_upstreams(g, body);
    cmif_front_headers(g, http);
    cmif_front_header(http, "Content-Type", "text/plain; version=0.0.4");
    evhttp_send_reply(http, 200, "OK", body);
    evbuffer_free(body);
}

/* What the page shows: whose key it is, what is promised, what is spent. */
void cmif_front_status(cmif_gateway *g, struct evhttp_request *http, const cmif_access_key *key)
{
    const cmif_gateway_policy *policy = cmif_front_key_policy(g, key);
    const char                *owner  = cmif_front_owner(key);
    double                     spent = 0, budget = INFINITY;
    char                       why[160];
    cmif_err                   err;
    json_t                    *list = json_array();
    if (cmif_books_today(policy->books, owner, &spent, &budget, &err) != CMIF_OK) {
        json_decref(list);
        cmif_front_error(g, http, 500, "server_error", NULL, err.text, 0);
        return;
    }
    for (size_t i = 0; i < g->options.upstream_count; i++) {
        const cmif_upstream      *u     = g->options.upstreams[i];
        const cmif_upstream_state state = (why[0] = '\0', u->kind->state(u, why, sizeof why));
        json_t                   *all   = json_array();
        cmif_upstream_member      about;
        for (size_t m = 0; member_of(u, m, &about); m++) {
            json_array_append_new(all, json_pack("{s:s, s:b}", "kind", about.kind, "up", about.up));
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:o}", "model", u->model, "kind", u->kind->name,
                                              "ready", state == CMIF_UPSTREAM_READY, "says", why, "members", all));
    }
    cmif_front_json(g, http, 200,
                    json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:f, s:o}, s:b}", "version", CMIF_VERSION, "policy",
                              policy->name, "guarantee", policy->guarantee ? policy->guarantee : "", "key", owner,
                              "upstreams", list, "today", "epsilon", spent, "budget",
                              isfinite(budget) ? json_real(budget) : json_null(), "receipts",
                              g->options.receipts && !cmif_access_needed(g->access)));
}

/* The signed chain, which holds counts of all keys: for the person's own machine only. */
void cmif_front_receipts(cmif_gateway *g, struct evhttp_request *http)
{
    const bool       ours = g->options.receipts && !cmif_access_needed(g->access);
    const int        fd   = ours ? open(g->options.receipts, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct stat      about;
    struct evbuffer *body = fd >= 0 ? evbuffer_new() : NULL;
    if (body && fstat(fd, &about) == 0 && about.st_size > 0 && evbuffer_add_file(body, fd, 0, about.st_size) == 0) {
        cmif_front_headers(g, http);
        cmif_front_header(http, "Content-Type", "application/x-ndjson");
        cmif_front_header(http, "Content-Disposition", "attachment; filename=\"receipts.jsonl\"");
        evhttp_send_reply(http, 200, "OK", body); /* the buffer closes fd */
    } else {
        if (fd >= 0) {
            close(fd);
        }
        cmif_front_error(g, http, 404, NULL, NULL,
                         "there is no receipt yet, or they are not given out here: only where the gateway needs no key",
                         0);
    }
    if (body) {
        evbuffer_free(body);
    }
}

/* The page and its parts: nobody's words are in them, so that a browser may load them before it has a key. */
bool cmif_front_page(cmif_gateway *g, struct evhttp_request *http, const char *path)
{
    for (size_t i = 0; i < cmif_page_count; i++) {
        const cmif_page *p = &cmif_pages[i];
        if (!strcmp(path, p->path)) {
            cmif_front_header(
                http, "Content-Security-Policy",
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
            cmif_front_header(http, "Referrer-Policy", "no-referrer");
            cmif_front_header(http, "Cross-Origin-Opener-Policy", "same-origin");
            cmif_front_answer(g, http, 200, p->type, p->bytes, p->size);
            return true;
        }
    }
    return false;
}
