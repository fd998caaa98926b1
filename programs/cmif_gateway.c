/* cmif-gateway - OpenAI's API on this machine: what a program sends is sanitized before it leaves, what comes back is
 * restored. */
#include "cmif_gateway_config.h"
#include "cmif_gateway_models.h"
#include "cmif_gateway_policies.h"
#include "cmif_systemd.h"

#include "gateway/access.h"
#include "secret/secret.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DRAIN_SECONDS = 30, EVENTS_MAX = 6 };

static struct {
    int                 argc;
    char              **argv;
    cmif_gateway_config config; /* what we were started with */
    struct event_base  *base;
    cmif_policies      *policies; /* of now */
    cmif_models        *models;
    cmif_gateway       *gateway;
    struct event       *events[EVENTS_MAX], *drain_tick; /* the last: NULL: nobody has asked us to end */
    size_t              event_count;
    int                 drain_ticks;
    bool                server_ended; /* a private one */
} the;

/* ---- the end ---- */

static void on_drain(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    if (cmif_gateway_busy(the.gateway) == 0 || ++the.drain_ticks > 10 * DRAIN_SECONDS) {
        event_base_loopbreak(the.base);
    }
}

static void drain(void)
{
    static const struct timeval tick  = {.tv_usec = 100000};
    const bool                  again = the.drain_tick != NULL;
    the.drain_tick                    = again ? the.drain_tick : event_new(the.base, -1, EV_PERSIST, on_drain, NULL);
    cmif_systemd_say("STOPPING=1");
    cmif_gateway_drain(the.gateway);
    if (again || !the.drain_tick || event_add(the.drain_tick, &tick) != 0) {
        event_base_loopbreak(the.base); /* the second signal does not wait */
    }
}

static void on_end(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    drain();
}

/* Nobody but us can start a private server again, and whoever looks after us starts both. */
static void on_child(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    if (!the.server_ended && cmif_models_server_ended(the.models)) {
        the.server_ended = true;
        drain();
    }
}

static void on_second(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    cmif_gateway_settle(the.gateway);
    cmif_policies_sweep(the.policies);
}

static void on_watchdog(evutil_socket_t fd, short what, void *context)
{
    (void) fd, (void) what, (void) context;
    cmif_systemd_say("WATCHDOG=1");
}

/* ---- keys, certificate and policies, once more ---- */

static void rules_of(const cmif_gateway_config *config, cmif_policies *policies, cmif_gateway_rules *rules)
{
    *rules = (cmif_gateway_rules){.keys_file = config->keys, .tls_cert = config->tls_cert, .tls_key = config->tls_key};
    cmif_policies_rules(policies, rules);
}

static void warn_of_plain(const char *cert)
{
    const char *address = cmif_gateway_address(the.gateway);
    if (!cert && !cmif_access_loopback(address)) {
        fprintf(stderr,
                "cmif-gateway: on %s without TLS: keys and what people write cross the network as they are; give "
                "--tls-cert and --tls-key, or keep that network private\n",
                address);
    }
}

/* All of it or nothing. */
static cmif_code reload(const char **waits, cmif_err *err)
{
    cmif_gateway_config config = {0};
    cmif_gateway_rules  rules;
    cmif_policies      *policies = NULL;
    cmif_code           rc       = cmif_gateway_config_read(the.argc, the.argv, &config, err);
    if (rc == CMIF_OK) {
        rc = cmif_policies_open(&config, the.policies, &policies, err);
    }
    if (rc == CMIF_OK) {
        rules_of(&config, policies, &rules);
        rc = cmif_gateway_reload(the.gateway, &rules, err);
    }
    if (rc == CMIF_OK) {
        *waits = cmif_gateway_config_fixed(&the.config, &config);
        cmif_policies_succeed(policies, the.policies);
        cmif_policies *of = the.policies;
        the.policies      = policies;
        policies          = of;
        warn_of_plain(config.tls_cert);
    }
    cmif_policies_free(policies);
    cmif_gateway_config_wipe(&config);
    return rc;
}

static void on_reload(evutil_socket_t fd, short what, void *context)
{
    cmif_err        err   = {0};
    const char     *waits = NULL;
    char            state[64];
    struct timespec now;
    (void) fd, (void) what, (void) context;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000);
    cmif_systemd_say(state);
    if (reload(&waits, &err) != CMIF_OK) {
        fprintf(stderr, "cmif-gateway: all stays as it was: %s\n", err.text);
    } else {
        fprintf(stderr, "cmif-gateway: keys, certificate and policies were read again%s%s%s\n", waits ? "; '" : "",
                waits ? waits : "", waits ? "' has changed, too, which takes a new start" : "");
    }
    cmif_systemd_say("READY=1");
}

/* Told to read again before there is what would, or while it ends, it waits, and does not end the program. Children
 * do not inherit that (cmif_child.c). */
static void hold_reloads(bool hold)
{
    sigset_t hangup;
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    (void) sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &hangup, NULL);
}

/* ---- the start ---- */

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

static void add_event(int number, event_callback_fn call, uint64_t every_us, cmif_code *rc, cmif_err *err)
{
    const struct timeval every = {.tv_sec  = (time_t) (every_us / 1000000),
                                  .tv_usec = (suseconds_t) (every_us % 1000000)};
    if (*rc == CMIF_OK) {
        struct event *e = event_new(the.base, number, number < 0 ? EV_PERSIST : EV_SIGNAL | EV_PERSIST, call, NULL);
        if (!e || event_add(e, number < 0 ? &every : NULL) != 0) {
            *rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for signals");
        }
        the.events[the.event_count++] = e;
    }
}

static void print_ready(void)
{
    const char          *address = cmif_gateway_address(the.gateway);
    cmif_gateway_options about;
    cmif_gateway_rules   rules;
    cmif_models_list(the.models, &about);
    rules_of(&the.config, the.policies, &rules);
    printf("ready http%s://%s%s%s:%u/v1 model ", the.config.tls_cert ? "s" : "", strchr(address, ':') ? "[" : "",
           address, strchr(address, ':') ? "]" : "", cmif_gateway_port(the.gateway));
    for (size_t i = 0; i < about.upstream_count; i++) {
        printf("%s%s", i ? ", " : "", about.upstreams[i]->model);
    }
    printf(" policy %s\n", rules.policies[0]->name);
    fflush(stdout);
    warn_of_plain(the.config.tls_cert);
}

static cmif_code listen_and_serve(cmif_gateway_options *about, cmif_err *err)
{
    const uint64_t watchdog = cmif_systemd_watchdog();
    cmif_code      rc       = cmif_gateway_new(about, &the.gateway, err);
    add_event(SIGTERM, on_end, 0, &rc, err);
    add_event(SIGINT, on_end, 0, &rc, err);
    add_event(SIGHUP, on_reload, 0, &rc, err);
    add_event(SIGCHLD, on_child, 0, &rc, err);
    add_event(-1, on_second, 1000000, &rc, err);
    if (watchdog) {
        add_event(-1, on_watchdog, watchdog / 3 + 1, &rc, err);
    }
    if (rc == CMIF_OK) {
        hold_reloads(false);
        print_ready();
        cmif_systemd_say("READY=1");
        if (event_base_dispatch(the.base) < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "the event loop failed");
        } else if (the.server_ended) {
            rc = cmif_fail(err, CMIF_E_IO, "the private server has ended, and so does the gateway: start it again");
        }
    }
    return rc;
}

static void print_config(const cmif_gateway_options *about)
{
    printf("listen http%s://%s port %u%s%s\n", the.config.tls_cert ? "s" : "", about->address, about->port,
           the.config.keys ? ", keys " : ", for programs of this machine", the.config.keys ? the.config.keys : "");
    cmif_policies_print(the.policies);
    cmif_models_print(the.models);
}

static cmif_code run(cmif_err *err)
{
    char                 address[256], receipts[PATH_MAX];
    cmif_gateway_options about = {.request_seconds = the.config.silence};
    cmif_code            rc    = CMIF_OK;

    if (snprintf(address, sizeof address, "%s", the.config.listen) >= (int) sizeof address) {
        return cmif_fail(err, CMIF_E_RANGE, "--listen is too long");
    }
    rc = split_address(address, &about.address, &about.port, err);
    if (rc == CMIF_OK) {
        rc = cmif_policies_open(&the.config, NULL, &the.policies, err);
    }
    the.base = about.base = event_base_new();
    if (rc == CMIF_OK && !the.base) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no event loop");
    }
    if (rc == CMIF_OK) {
        rules_of(&the.config, the.policies, &about.rules);
        rc = cmif_gateway_check(&about, err); /* before a server is started: a refusal costs no time */
    }
    if (rc == CMIF_OK && !the.config.check) {
        rc = cmif_systemd_socket(&about.listening, err); /* before a private server is there, which must not have it */
    }
    if (rc == CMIF_OK) {
        rc = cmif_models_open(the.base, &the.config, !the.config.check, &the.models, err);
    }
    if (rc == CMIF_OK && the.config.check) {
        print_config(&about);
        return CMIF_OK;
    }
    if (rc == CMIF_OK) {
        rc = cmif_data_folder(receipts, err); /* at most PATH_MAX / 2 bytes */
        strcat(receipts, "/receipts/receipts.jsonl");
    }
    if (rc == CMIF_OK) {
        cmif_models_list(the.models, &about);
        about.receipts = about.rules.policies[0]->books->ledger ? receipts : NULL;
        rc             = listen_and_serve(&about, err);
    }
    return rc;
}

static void end(void)
{
    hold_reloads(true);
    cmif_gateway_free(the.gateway);
    cmif_models_free(the.models);
    cmif_policies_free(the.policies);
    cmif_policies_sweep(NULL);
    for (size_t i = 0; i < the.event_count; i++) {
        if (the.events[i]) {
            event_free(the.events[i]);
        }
    }
    if (the.drain_tick) {
        event_free(the.drain_tick);
    }
    if (the.base) {
        event_base_free(the.base);
    }
    cmif_gateway_config_wipe(&the.config);
}

int main(int argc, char **argv)
{
    cmif_err err = {0};

    hold_reloads(true);
    cmif_secret_harden_process();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a disk with a limit is a full one */
    the.argc     = argc - 1;
    the.argv     = argv + 1;
    cmif_code rc = cmif_gateway_config_read(the.argc, the.argv, &the.config, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && the.config.fields) {
        cmif_fields_print(stdout);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    const bool told  = rc == CMIF_OK; /* what we were told makes sense */
    const bool check = told && the.config.check;
    if (told) {
        rc = run(&err);
    }
    end();
    if (rc == CMIF_OK && fflush(stdout) != 0) {
        rc = cmif_fail(&err, CMIF_E_IO, "cannot write to standard output");
    }
    if (rc != CMIF_OK && *err.text) {
        fprintf(stderr, "cmif-gateway: %s\n", err.text);
    }
    return rc == CMIF_OK ? 0 : !told || check || rc == CMIF_E_RANGE ? 2 : 1;
}
