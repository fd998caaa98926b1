/* cmif-gateway - OpenAI's API on this machine: what a program sends is sanitized before it leaves, what comes back is
 * restored. */
#include "cmif_folders.h"
#include "cmif_guard.h"
#include "cmif_options.h"
#include "cmif_terminal.h"

#include "gateway/http.h"
#include "secret/secret.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_SECONDS 30

static struct {
    const char        *listen, *upstream, *name, *key_file, *pin, *ca, *keys;
    const char        *model;
    cmif_guard_options guard;
    uint32_t           conversations, idle, silence;
} o = {.listen = "127.0.0.1:8800", .conversations = 1000, .idle = 3600, .silence = 120};

static const cmif_option options[] = {
    {0, "upstream", "URL", CMIF_OPTION_TEXT, &o.upstream, 0, 0,
     "an OpenAI-compatible server: http://127.0.0.1:8000/v1"},
    {'m', "model", "NAME", CMIF_OPTION_TEXT, &o.model, 0, 0, "its model"},
    {0, "name", "NAME", CMIF_OPTION_TEXT, &o.name, 0, 0, "what programs call it here (default: the same)"},
    {0, "key-file", "FILE", CMIF_OPTION_TEXT, &o.key_file, 0, 0, "the upstream's API key, one line"},
    {0, "pin", "sha256:HEX", CMIF_OPTION_TEXT, &o.pin, 0, 0, "https: its certificate, or who signed it"},
    {0, "ca", "FILE", CMIF_OPTION_TEXT, &o.ca, 0, 0, NULL},
    {0, "listen", "HOST:PORT", CMIF_OPTION_TEXT, &o.listen, 0, 0, "for programs (default 127.0.0.1:8800)"},
    {0, "keys", "FILE", CMIF_OPTION_TEXT, &o.keys, 0, 0, "who may use it: lines NAME sha256:HEX of their keys"},
    CMIF_GUARD_OPTIONS(o.guard),
    {0, "conversations", "N", CMIF_OPTION_COUNT, &o.conversations, 1, 100000, "kept at once (default 1000)"},
    {0, "idle", "SECONDS", CMIF_OPTION_COUNT, &o.idle, 1, 1 << 30, "forget one that is idle for longer (default 3600)"},
    {0, "silence", "SECONDS", CMIF_OPTION_COUNT, &o.silence, 1, 86400,
     "give up an upstream that says nothing (default 120)"},
};
static const cmif_command command = {
    .name         = "gateway",
    .args         = "--upstream URL -m NAME [options]",
    .summary      = "OpenAI's API on this machine, in front of a server that sees sanitized text only",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes = "Set base_url of any OpenAI program to http://127.0.0.1:8800/v1. Which fields are sanitized, passed or "
             "refused: docs/api.md.\n"
             "SIGTERM lets running answers end. Exit code: 0 ended as asked, 1 failed, 2 wrong usage.\n"};

static struct event_base *base;
static cmif_gateway      *gateway;
static int                drain_ticks;

static void on_drain(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    if (cmif_gateway_busy(gateway) == 0 || ++drain_ticks > 10 * DRAIN_SECONDS) {
        event_base_loopbreak(base);
    }
}

static void on_signal(evutil_socket_t fd, short what, void *context)
{
    static const struct timeval tick = {.tv_usec = 100000};
    static bool                 again;
    (void) fd, (void) what, (void) context;
    struct event *drain = again ? NULL : event_new(base, -1, EV_PERSIST, on_drain, NULL);
    again               = true;
    cmif_gateway_drain(gateway);
    if (!drain || event_add(drain, &tick) != 0) {
        event_base_loopbreak(base); /* the second signal does not wait */
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

static cmif_code serve(cmif_guard *guard, cmif_err *err)
{
    char                 address[256], name[24], guarantee[768], receipts[PATH_MAX];
    cmif_gateway_options about   = {.keys_file = o.keys,
                                    .policy    = o.guard.policy ? o.guard.policy : "topics",
                                    .guarantee = guarantee,
                                    .books     = &guard->books,
                                    .receipts  = guard->books.ledger ? receipts : NULL};
    cmif_talks_options   talks   = {.policy       = guard->policy,
                                    .lists        = guard->lists,
                                    .table        = guard->table,
                                    .certificate  = guard->certificate,
                                    .no_guarantee = guard->no_guarantee,
                                    .books        = &guard->books,
                                    .most         = o.conversations,
                                    .idle_seconds = o.idle};
    cmif_openai_options  there   = {.url             = o.upstream,
                                    .model           = o.model,
                                    .name            = o.name,
                                    .key_file        = o.key_file,
                                    .pin             = o.pin,
                                    .ca              = o.ca,
                                    .silence_seconds = o.silence};
    struct event        *ends[2] = {NULL, NULL};
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
        rc = cmif_openai_new(base, &there, &about.upstreams[0], err);
    }
    if (rc == CMIF_OK) {
        about.base           = base;
        about.upstream_count = 1;
        rc                   = cmif_gateway_new(&about, &gateway, err);
    }
    for (int i = 0; i < 2 && rc == CMIF_OK; i++) {
        ends[i] = evsignal_new(base, i ? SIGINT : SIGTERM, on_signal, NULL);
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
        }
    }
    cmif_gateway_free(gateway);
    if (about.upstreams[0]) {
        about.upstreams[0]->kind->free(about.upstreams[0]);
    }
    cmif_talks_free(about.talks);
    for (int i = 0; i < 2; i++) {
        if (ends[i]) {
            event_free(ends[i]);
        }
    }
    if (base) {
        event_base_free(base);
    }
    return rc;
}

int main(int argc, char **argv)
{
    cmif_err   err   = {0};
    cmif_guard guard = {0};
    int        rest  = 0;

    cmif_secret_harden_process();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a disk with a limit is a full one */
    cmif_code rc = cmif_options_parse(&command, argc - 1, argv + 1, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest > 0) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "the gateway takes options only");
    }
    if (rc == CMIF_OK && (!o.upstream || !o.model)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "which server, and which of its models? Give --upstream URL and -m NAME");
    }
    if (rc == CMIF_OK && o.guard.policy && !strcmp(o.guard.policy, "channel")) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       "--policy channel is for measuring: choose names, topics, words, none, or a file");
    }
    if (rc != CMIF_OK) {
        fprintf(stderr, "cmif-gateway: %s\n", err.text);
        return 2;
    }
    rc = cmif_guard_open(&o.guard, true, &guard, &err);
    if (rc == CMIF_OK) {
        rc = serve(&guard, &err);
    }
    cmif_guard_close(&guard);
    if (rc != CMIF_OK) {
        fprintf(stderr, "cmif-gateway: %s\n", err.text);
    }
    return rc == CMIF_OK ? 0 : rc == CMIF_E_RANGE ? 2 : 1;
}
