/* cmif keyserver - keys of sealed models, for programs whose evidence a policy accepts; and what was given to whom. */
#include "cmif_commands.h"
#include "cmif_folders.h"
#include "cmif_unseal.h"

#include "base/bytes.h"
#include "channel/listen.h"
#include "keys/keys.h"
#include "secret/secret.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 32, GREET_SECONDS = 10, END_SECONDS = 2 };

static const char *listen_option = "127.0.0.1:7491", *policy_option, *keys_option, *log_option, *cert_option,
                  *key_option, *audit_option;
static const cmif_option options[] = {
    {0, "policy", "FILE", CMIF_OPTION_TEXT, &policy_option, 0, 0,
     "what evidence must show ('cmif verify --write-policy')"},
    {0, "keys", "FOLDER", CMIF_OPTION_TEXT, &keys_option, 0, 0, "key files that 'cmif split --seal' made"},
    {0, "log", "FILE", CMIF_OPTION_TEXT, &log_option, 0, 0, "a line for each request; without one no key is given"},
    {0, "listen", "HOST:PORT", CMIF_OPTION_TEXT, &listen_option, 0, 0, "where (default 127.0.0.1:7491)"},
    {0, "tls-cert", "FILE", CMIF_OPTION_TEXT, &cert_option, 0, 0, "PEM (else one is made, once)"},
    {0, "tls-key", "FILE", CMIF_OPTION_TEXT, &key_option, 0, 0, NULL},
    {0, "audit", "LOG", CMIF_OPTION_TEXT, &audit_option, 0, 0, "only check a log: was it changed, who got what"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "keyserver",
    .args         = "--policy FILE --keys FOLDER --log FILE [options]",
    .summary      = "give keys of sealed models to programs that prove what they are",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "Every line of the log is printed, too: its end, chain=..., kept elsewhere,\n"
                    "shows later whether lines were taken away. One policy for all keys.\n"
                    "\n  cmif keyserver --policy gateway.policy --keys keys/ --log keys.log\n"
                    "  cmif run --unseal HOST:7491 --unseal-pin sha256:... --evidence tdx -m half/\n"
                    "  cmif keyserver --audit keys.log\n",
};

/* ---- the log, afterwards ---- */

static cmif_code audit(cmif_err *err)
{
    cmif_key_summary s;
    char             chain[65];
    cmif_code        rc = cmif_key_audit(audit_option, &s, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    cmif_hex(s.chain, sizeof s.chain, chain);
    if (cmif_json) {
        return cmif_print_json(json_pack("{s:s%, s:I, s:I, s:I, s:I, s:s}", "log", audit_option, strlen(audit_option),
                                         "lines", (json_int_t) s.lines, "released", (json_int_t) s.released, "refused",
                                         (json_int_t) s.refused, "torn_bytes", (json_int_t) s.torn, "chain", chain),
                               err);
    }
    printf("unchanged: %llu requests, %llu keys released, %llu refused\nchain=%s\n", (unsigned long long) s.lines,
           (unsigned long long) s.released, (unsigned long long) s.refused, chain);
    if (s.torn) {
        printf("the last line has no end (%zu bytes): it was being written when something stopped it, and no key was "
               "given for it\n",
               s.torn);
    }
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

/* ---- serving ---- */

static struct keyserver {
    cmif_key_rule            rule;
    cmif_attest_policy_file *policy;
    cmif_listener           *listener;
    pthread_mutex_t          judging, counting;
    pthread_cond_t           fewer;
    size_t                   connections;
} server = {
    .judging = PTHREAD_MUTEX_INITIALIZER, .counting = PTHREAD_MUTEX_INITIALIZER, .fewer = PTHREAD_COND_INITIALIZER};

typedef struct connection {
    int  fd;
    char address[CMIF_LISTEN_ADDRESS_SIZE];
} connection;

static void lock(void *mutex)
{
    pthread_mutex_lock(mutex);
}

static void unlock(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

static atomic_flag said_unlocked = ATOMIC_FLAG_INIT;

static void *serve(void *context)
{
    connection   *c                       = context;
    cmif_channel *channel                 = NULL;
    cmif_err      err                     = {0};
    char          line[CMIF_KEY_LINE_MAX] = "";
    cmif_code     rc                      = cmif_listener_greet(server.listener, c->fd, GREET_SECONDS, &channel, &err);
    if (rc != CMIF_OK) {
        (void) !cmif_fail(&err, rc, "it did not greet as a client with TLS 1.3 and cmif/1 does");
    }
    rc = rc ? rc : cmif_key_release(channel, c->address, &server.rule, line, &err);
    if (*line) {
        flockfile(stdout);
        puts(line);
        fflush(stdout);
        funlockfile(stdout);
    }
    if (rc != CMIF_OK && !cmif_quiet) { /* connections without a request leave no line in the log */
        flockfile(stderr);
        fprintf(stderr, "cmif: %s: ", c->address);
        cmif_put_clean(stderr, err.text, strlen(err.text));
        fputc('\n', stderr);
        funlockfile(stderr);
    }
    if (cmif_secret_unlocked() && !atomic_flag_test_and_set(&said_unlocked)) {
        fputs("cmif: note: the system lets us lock too little memory (ulimit -l): keys may be swapped to disk\n",
              stderr);
    }
    cmif_channel_free(channel);
    free(c);
    pthread_mutex_lock(&server.counting);
    server.connections--;
    pthread_cond_signal(&server.fewer);
    pthread_mutex_unlock(&server.counting);
    return NULL;
}

/* One more connection, if there is room; else it is closed, and whoever it was may come again. */
static void take(int fd, const char *address)
{
    pthread_t   thread;
    connection *c = malloc(sizeof *c);
    pthread_mutex_lock(&server.counting);
    const bool room = c && server.connections < CONNECTIONS_MAX;
    server.connections += room;
    pthread_mutex_unlock(&server.counting);
    if (room) {
        c->fd = fd;
        snprintf(c->address, sizeof c->address, "%s", address);
    }
    if (room && pthread_create(&thread, NULL, serve, c) == 0) {
        pthread_detach(thread);
        return;
    }
    pthread_mutex_lock(&server.counting);
    server.connections -= room;
    pthread_mutex_unlock(&server.counting);
    free(c);
    close(fd);
}

static void wait_for_all(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += END_SECONDS;
    pthread_mutex_lock(&server.counting);
    while (server.connections && pthread_cond_timedwait(&server.fewer, &server.counting, &until) == 0) {
    }
    pthread_mutex_unlock(&server.counting);
}

static cmif_code prepare(char *store, char *own, size_t *keys, cmif_err *err)
{
    char                address[PATH_MAX], folder[PATH_MAX];
    cmif_listen_options where = {.cert = cert_option, .key = key_option, .own = own};
    cmif_code           rc    = cmif_attest_policy_open(policy_option, &server.policy, err);
    if (rc == CMIF_OK && server.policy->policy.report_data) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "the policy '%s' says what the report data must be, and in a connection that is never the same: "
                       "take its line "
                       "'report-data' away",
                       policy_option);
    }
    rc = rc ? rc : cmif_key_count(keys_option, keys, err);
    rc = rc ? rc : cmif_data_folder(folder, err);
    rc = rc ? rc : cmif_make_folders(folder, err);
    if (rc == CMIF_OK) {
        snprintf(store, PATH_MAX, "%.*s/collateral.db", PATH_MAX / 2, folder);
        snprintf(own, PATH_MAX, "%.*s/keyserver.pem", PATH_MAX / 2, folder);
        snprintf(address, sizeof address, "%s", listen_option);
        server.rule = (cmif_key_rule){.peer    = {.policy = server.policy, .store = store, .time = INT64_MIN},
                                      .folder  = keys_option,
                                      .lock    = lock,
                                      .unlock  = unlock,
                                      .context = &server.judging};
        rc          = cmif_split_address("--listen", address, &where.host, &where.port, err);
    }
    rc = rc ? rc : cmif_key_log_open(log_option, &server.rule.log, err);
    return rc ? rc : cmif_listener_open(&where, &server.listener, err);
}

static cmif_code run(cmif_err *err)
{
    static char store[PATH_MAX], own[PATH_MAX];
    size_t      keys = 0;
    sigset_t    ends;
    int         wake = -1;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGHUP);
    cmif_code rc = prepare(store, own, &keys, err);
    if (rc == CMIF_OK &&
        (pthread_sigmask(SIG_BLOCK, &ends, NULL) != 0 || (wake = signalfd(-1, &ends, SFD_CLOEXEC)) < 0)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot wait for signals: %s", strerror(errno));
    }
    if (rc == CMIF_OK) {
        if (server.policy->policy.tees & 1u << CMIF_TEE_SIM) {
            fputs("cmif: INSECURE: the policy accepts the simulator, which proves nothing: anybody gets these keys\n",
                  stderr);
        }
        printf("cmif keyserver: listening on %s, %zu key%s, pin %s\n", cmif_listener_address(server.listener), keys,
               keys == 1 ? "" : "s", cmif_listener_pin(server.listener));
        fflush(stdout);
    }
    while (rc == CMIF_OK) {
        char address[CMIF_LISTEN_ADDRESS_SIZE];
        int  fd;
        rc = cmif_listener_wait(server.listener, wake, &fd, address, err);
        if (rc == CMIF_OK) {
            take(fd, address);
        }
    }
    wait_for_all();
    if (wake >= 0) {
        close(wake);
    }
    if (server.connections) { /* some still use what is below: their end is the process's */
        _exit(rc == CMIF_E_CANCELLED ? CMIF_EXIT_OK : cmif_report(err));
    }
    cmif_listener_free(server.listener);
    cmif_key_log_free(server.rule.log);
    cmif_attest_policy_free(server.policy);
    return rc == CMIF_E_CANCELLED ? CMIF_OK : rc;
}

int cmif_keyserver_command(int argc, char **argv)
{
    cmif_err  err  = {0};
    int       rest = 0;
    cmif_code rc   = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "keyserver takes only options");
    }
    if (rc == CMIF_OK && !audit_option && (!policy_option || !keys_option || !log_option)) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       "keyserver needs --policy FILE, --keys FOLDER and --log FILE (or --audit LOG)");
    }
    if (rc == CMIF_OK && !cert_option != !key_option) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--tls-cert and --tls-key belong together");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    rc = audit_option ? audit(&err) : run(&err);
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}
