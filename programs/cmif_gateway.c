/* cmif-gateway - OpenAI's API on this machine: what a program sends is sanitized before it leaves, what comes back is
 * restored. */
#include "cmif_client.h"

#include "gateway/http.h"
#include "gateway/split.h"
#include "secret/secret.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define DRAIN_SECONDS 30

static struct {
    const char         *listen, *upstream, *name, *key_file, *keys;
    cmif_client_options there; /* of a split model; model, pin and ca are an upstream's, too */
    uint32_t            conversations, idle, silence;
    bool                fields;
} o = {.listen        = "127.0.0.1:8800",
       .there         = {.rows = "plain", .peer_fresh = CMIF_CLIENT_FRESH, .sessions = 4},
       .conversations = 1000,
       .idle          = 3600,
       .silence       = 120};

static const cmif_option options[] = {
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &o.there.model, 0, 0, "a split model, as in cmif run; or the upstream's"},
    {0, "name", "NAME", CMIF_OPTION_TEXT, &o.name, 0, 0, "what programs call it here (default: the same)"},
    {0, "server", "ADDR", CMIF_OPTION_TEXT, &o.there.server, 0, 0,
     "HOST:PORT or unix:PATH (default: a private server)"},
    {0, "upstream", "URL", CMIF_OPTION_TEXT, &o.upstream, 0, 0, "instead: OpenAI-compatible, http://127.0.0.1:8000/v1"},
    {0, "key-file", "FILE", CMIF_OPTION_TEXT, &o.key_file, 0, 0, "the upstream's API key, one line"},
    {0, "pin", "sha256:HEX", CMIF_OPTION_TEXT, &o.there.pin, 0, 0, "either's certificate, or who signed it"},
    {0, "ca", "FILE", CMIF_OPTION_TEXT, &o.there.ca, 0, 0, NULL},
    {0, "cert", "FILE", CMIF_OPTION_TEXT, &o.there.cert, 0, 0, "our own certificate and key, if the server asks"},
    {0, "key", "FILE", CMIF_OPTION_TEXT, &o.there.key, 0, 0, NULL},
    {0, "peer-policy", "FILE", CMIF_OPTION_TEXT, &o.there.peer_policy, 0, 0, "what the server must prove, how often"},
    {0, "peer-fresh", "MINUTES", CMIF_OPTION_COUNT, &o.there.peer_fresh, 0, 10080, NULL},
    {0, "sessions", "N", CMIF_OPTION_COUNT, &o.there.sessions, 1, 256,
     "answers at once (default 4); tokens of each; all cores"},
    {0, "context", "N", CMIF_OPTION_COUNT, &o.there.context, 8, 1 << 24, NULL},
    {0, "threads", "N", CMIF_OPTION_COUNT, &o.there.threads, 1, 1024, NULL},
    CMIF_GUARD_OPTIONS(o.there.guard),
    {0, "listen", "HOST:PORT", CMIF_OPTION_TEXT, &o.listen, 0, 0, "for programs (default 127.0.0.1:8800)"},
    {0, "keys", "FILE", CMIF_OPTION_TEXT, &o.keys, 0, 0, "who may use it: lines NAME sha256:HEX of their keys"},
    {0, "conversations", "N", CMIF_OPTION_COUNT, &o.conversations, 1, 100000,
     "kept (default 1000), while used (default 3600)"},
    {0, "idle", "SECONDS", CMIF_OPTION_COUNT, &o.idle, 1, 1 << 30, NULL},
    {0, "silence", "SECONDS", CMIF_OPTION_COUNT, &o.silence, 1, 86400, "give up what says nothing (default 120)"},
    {0, "fields", NULL, CMIF_OPTION_FLAG, &o.fields, 0, 0, "print what becomes of each field of a request"},
};
static const cmif_command command = {
    .name         = "cmif-gateway",
    .args         = "-m MODEL [--server ADDR | --upstream URL] [options]",
    .summary      = "OpenAI's API on this machine, in front of a server that sees sanitized text only",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes = "Set base_url of any OpenAI program to http://127.0.0.1:8800/v1. Which fields are sanitized, passed or "
             "refused: docs/api.md.\n"
             "SIGTERM lets running answers end. Exit code: 0 ended as asked, 1 failed, 2 wrong usage.\n"};

static struct event_base *base;
static cmif_gateway      *gateway;
static struct event      *drain_tick; /* NULL: nobody has asked us to end */
static int                drain_ticks;
static bool               server_gone; /* the private one */

static void on_drain(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    if (cmif_gateway_busy(gateway) == 0 || ++drain_ticks > 10 * DRAIN_SECONDS) {
        event_base_loopbreak(base);
    }
}

static void drain(void)
{
    static const struct timeval tick  = {.tv_usec = 100000};
    const bool                  again = drain_tick != NULL;
    drain_tick                        = again ? drain_tick : event_new(base, -1, EV_PERSIST, on_drain, NULL);
    cmif_gateway_drain(gateway);
    if (again || !drain_tick || event_add(drain_tick, &tick) != 0) {
        event_base_loopbreak(base); /* the second signal does not wait */
    }
}

static void on_signal(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    drain();
}

/* Nobody but us can start a private server again, and whoever looks after us starts both. */
static void on_child(evutil_socket_t fd, short what, void *context)
{
    const cmif_client *client = context;
    siginfo_t          ended  = {0};
    (void) fd, (void) what;
    if (client->server && !server_gone &&
        waitid(P_PID, (id_t) cmif_private_server_pid(client->server), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        ended.si_pid) {
        server_gone = true;
        drain();
    }
}

static cmif_code split_address(char *text, const char **host, uint16_t *port, cmif_err *err)
{
    char      *colon = strrchr(text, ':'), *end = NULL;
    const long number = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || colon == text || !colon[1] || *end || number < 0 || number > 65535) {
        return cmif_fail(err, CMIF_E_RANGE, "--listen takes HOST:PORT");
    }
    *colon = '\0';
    if (text[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        text++;
    }
    *host = text;
    *port = (uint16_t) number;
    return CMIF_OK;
}

static cmif_code open_session(void *client, cmif_session **out, cmif_err *err)
{
    return cmif_client_session(client, out, err);
}

/* What -m says, for programs: the last part of a path, without .gguf. */
static void model_name(char out[static 256])
{
    const char *model = o.there.model, *end = model + strlen(model);
    while (end > model + 1 && end[-1] == '/') {
        end--;
    }
    const char *from = end;
    while (from > model && from[-1] != '/') {
        from--;
    }
    if (end - from > 5 && !strncmp(end - 5, ".gguf", 5)) {
        end -= 5;
    }
    snprintf(out, 256, "%.*s", (int) (end - from), from);
}

static cmif_code open_upstream(cmif_client *client, cmif_upstream **out, cmif_err *err)
{
    char                name[256];
    cmif_openai_options there = {.url             = o.upstream,
                                 .model           = o.there.model,
                                 .name            = o.name,
                                 .key_file        = o.key_file,
                                 .pin             = o.there.pin,
                                 .ca              = o.there.ca,
                                 .silence_seconds = o.silence};
    if (o.upstream) {
        return cmif_openai_new(base, &there, out, err);
    }
    model_name(name);
    const cmif_split_options split = {.name         = o.name ? o.name : name,
                                      .model_id     = client->model_id,
                                      .tokenizer    = client->tokenizer,
                                      .chat         = client->chat,
                                      .no_chat      = client->no_chat.text,
                                      .first        = client->session,
                                      .open         = open_session,
                                      .context      = client,
                                      .sessions     = o.there.sessions,
                                      .wait_seconds = o.silence};
    cmif_code                rc    = cmif_split_new(base, &split, out, err);
    client->session                = rc == CMIF_OK ? NULL : client->session;
    return rc;
}

static cmif_code serve(cmif_client *client, cmif_err *err)
{
    char                 address[256], name[24], guarantee[768], receipts[PATH_MAX];
    const cmif_guard    *guard   = &client->guard;
    cmif_gateway_options about   = {.keys_file = o.keys,
                                    .policy    = o.there.guard.policy ? o.there.guard.policy : "topics",
                                    .guarantee = guarantee,
                                    .books     = &guard->books,
                                    .receipts  = guard->books.ledger ? receipts : NULL};
    cmif_talks_options   talks   = {.policy       = guard->policy,
                                    .lists        = guard->lists,
                                    .table        = guard->table,
                                    .certificate  = guard->certificate,
                                    .no_guarantee = guard->no_guarantee,
                                    .books        = &client->guard.books,
                                    .most         = o.conversations,
                                    .idle_seconds = o.idle};
    struct event        *ends[3] = {NULL, NULL, NULL};
    cmif_code            rc      = CMIF_OK;

    if (snprintf(address, sizeof address, "%s", o.listen) >= (int) sizeof address) {
        return cmif_fail(err, CMIF_E_RANGE, "--listen is too long");
    }
    cmif_guard_sentence(guard, guarantee, sizeof guarantee);
    rc = split_address(address, &about.address, &about.port, err);
    if (rc == CMIF_OK) {
        rc = cmif_data_folder(receipts, err); /* at most PATH_MAX / 2 bytes */
        strcat(receipts, "/receipts/receipts.jsonl");
    }
    base = event_base_new();
    if (rc == CMIF_OK && !base) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no event loop");
    }
    if (rc == CMIF_OK) {
        rc = cmif_talks_new(&talks, &about.talks, err);
    }
    if (rc == CMIF_OK) {
        rc = open_upstream(client, &about.upstreams[0], err);
    }
    if (rc == CMIF_OK) {
        about.base           = base;
        about.upstream_count = 1;
        rc                   = cmif_gateway_new(&about, &gateway, err);
    }
    for (int i = 0; i < 3 && rc == CMIF_OK; i++) {
        static const int signals[] = {SIGTERM, SIGINT, SIGCHLD};
        ends[i]                    = evsignal_new(base, signals[i], i < 2 ? on_signal : on_child, client);
        if (!ends[i] || event_add(ends[i], NULL) != 0) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for signals");
        }
    }
    if (rc == CMIF_OK) {
        snprintf(name, sizeof name, strchr(about.address, ':') ? "[%s]" : "%s", about.address);
        printf("ready http://%s:%u/v1 model %s policy %s\n", name, cmif_gateway_port(gateway),
               about.upstreams[0]->model, about.policy);
        fflush(stdout);
        if (event_base_dispatch(base) < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "the event loop failed");
        } else if (server_gone) {
            rc = cmif_fail(err, CMIF_E_IO, "the private server has ended, and so does the gateway: start it again");
        }
    }
    cmif_gateway_free(gateway);
    if (about.upstreams[0]) {
        about.upstreams[0]->kind->free(about.upstreams[0]);
    }
    cmif_talks_free(about.talks);
    for (int i = 0; i < 3; i++) {
        if (ends[i]) {
            event_free(ends[i]);
        }
    }
    if (drain_tick) {
        event_free(drain_tick);
    }
    if (base) {
        event_base_free(base);
    }
    return rc;
}

/* What belongs to one kind of server is not silently ignored with the other. */
static cmif_code check(int rest, cmif_err *err)
{
    const cmif_client_options *c = &o.there;
    if (rest > 0) {
        return cmif_fail(err, CMIF_E_RANGE, "the gateway takes options only");
    }
    if (!c->model) {
        return cmif_fail(err, CMIF_E_RANGE, "which model? Give -m MODEL, with --upstream URL the name of one there");
    }
    if (c->guard.policy && !strcmp(c->guard.policy, "channel")) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--policy channel is for measuring: choose names, topics, words, none, or a file");
    }
    if (o.name && (!*o.name || strlen(o.name) > 255)) {
        return cmif_fail(err, CMIF_E_RANGE, "--name takes a name of at most 255 bytes");
    }
    if (!o.upstream) {
        return o.key_file ? cmif_fail(err, CMIF_E_RANGE, "--key-file is an upstream's: it needs --upstream URL")
                          : cmif_client_check(c, err);
    }
    return c->server || c->cert || c->key || c->peer_policy || c->context || c->threads
               ? cmif_fail(err, CMIF_E_RANGE,
                           "--upstream takes no --server, --cert, --key, --peer-policy, --context or --threads: those "
                           "are for a split model's server")
               : CMIF_OK;
}

int main(int argc, char **argv)
{
    cmif_err    err    = {0};
    cmif_client client = {0};
    int         rest   = 0;

    cmif_secret_harden_process();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a disk with a limit is a full one */
    cmif_code rc = cmif_options_parse(&command, argc - 1, argv + 1, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && o.fields) {
        cmif_fields_print(stdout);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    rc = rc == CMIF_OK ? check(rest, &err) : rc;
    if (rc != CMIF_OK) {
        fprintf(stderr, "cmif-gateway: %s\n", err.text);
        return 2;
    }
    rc = o.upstream ? cmif_guard_open(&o.there.guard, true, &client.guard, &err)
                    : cmif_client_open(&o.there, &client, &err);
    if (rc == CMIF_OK) {
        rc = serve(&client, &err);
    }
    cmif_client_close(&client);
    if (rc != CMIF_OK && *err.text) {
        fprintf(stderr, "cmif-gateway: %s\n", err.text);
    }
    return rc == CMIF_OK ? 0 : rc == CMIF_E_RANGE ? 2 : 1;
}
