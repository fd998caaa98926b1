#include "cmif_commands.h"
#include "cmif_figures.h"
#include "cmif_verdict.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define PINGS 9

static cmif_client_options where = CMIF_CLIENT_DEFAULTS;

static const cmif_option  options[] = {CMIF_CLIENT_OPTIONS(where), CMIF_COMMON_OPTIONS};
static const cmif_command command   = {
      .name         = "doctor",
      .args         = "[-m MODEL] [--server ADDR --pin sha256:HEX]",
      .summary      = "check machine, programs, setup, model and server; say what to do",
      .options      = options,
      .option_count = sizeof options / sizeof *options,
      .notes        = CMIF_CLIENT_NOTES,
};

typedef enum verdict { FINE = 0, WARN, FAIL } verdict;

static json_t *checks; /* --json */
static int     failures;

/* One line: what was looked at, what was found; todo (or NULL) is what to do about it. */
static void say(verdict v, const char *what, const char *todo, const char *format, ...) CMIF_PRINTF(4, 5);
static void say(verdict v, const char *what, const char *todo, const char *format, ...)
{
    static const char *const words[]  = {"ok", "warn", "fail"};
    static const cmif_style  styles[] = {CMIF_GREEN, CMIF_YELLOW, CMIF_RED};
    char                     found[1024];
    va_list                  args;
    va_start(args, format);
    vsnprintf(found, sizeof found, format, args);
    va_end(args);

    failures += v == FAIL;
    cmif_status(NULL);
    if (cmif_json) {
        json_t *check = json_pack("{s:s, s:s, s:s}", "check", what, "verdict", words[v], "found", found);
        if (todo) {
            json_object_set_new(check, "todo", json_string(todo));
        }
        json_array_append_new(checks, check);
        return;
    }
    for (char *c = found; *c; c++) { /* names of files and servers are not obeyed by the terminal */
        *c = (unsigned char) *c < 0x20 || *c == 0x7f ? '?' : *c;
    }
    printf("%s%-4s%s  %-10s %s\n", cmif_style_of(stdout, styles[v]), words[v], cmif_style_of(stdout, CMIF_PLAIN), what,
           found);
    if (todo) {
        printf("                 %s%s%s\n", cmif_style_of(stdout, CMIF_BOLD), todo, cmif_style_of(stdout, CMIF_PLAIN));
    }
    fflush(stdout);
}

/* A value of /proc/meminfo in bytes, 0 if it is not there. */
static double meminfo(const char *key)
{
    char               line[128];
    unsigned long long kib  = 0;
    FILE              *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file)) {
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') {
            sscanf(line + strlen(key) + 1, "%llu", &kib);
        }
    }
    if (file) {
        fclose(file);
    }
    return (double) kib * 1024;
}

static void check_machine(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
#if defined __x86_64__
    const char *vector = __builtin_cpu_supports("avx512f") ? "AVX-512"
                         : __builtin_cpu_supports("avx2")  ? "AVX2"
                                                           : "no AVX2";
    say(strcmp(vector, "no AVX2") ? FINE : WARN, "processor",
        strcmp(vector, "no AVX2") ? NULL : "a private server will be slow here: use one elsewhere with --server",
        "%ld cores, %s", cores, vector);
#else
    say(FINE, "processor", NULL, "%ld cores", cores);
#endif
    double total = meminfo("MemTotal"), free_bytes = meminfo("MemAvailable");
    say(free_bytes < 512e6 ? WARN : FINE, "memory", free_bytes < 512e6 ? "close something: models need room" : NULL,
        "%.1f GB, %.1f GB free", total / 1e9, free_bytes / 1e9);

    struct rlimit lock;
    bool          can_lock =
        getrlimit(RLIMIT_MEMLOCK, &lock) == 0 && (lock.rlim_cur == RLIM_INFINITY || lock.rlim_cur >= 1 << 20);
    if (meminfo("SwapTotal") > 0 && !can_lock) {
        say(WARN, "swap", "raise the limit (ulimit -l) or encrypt the swap space",
            "at most %llu KiB of text can be kept out of it", (unsigned long long) lock.rlim_cur / 1024);
    } else {
        say(FINE, "swap", NULL, meminfo("SwapTotal") > 0 ? "text is locked out of it" : "none");
    }
}

static void check_programs(void)
{
    static const struct {
        const char *name, *without;
    } programs[] = {{"cmif-server", "no private server: only --server works"},
                    {"cmif-engine", "cmif-server cannot compute"},
                    {"cmif-model", "models cannot be split or inspected"},
                    {"cmif-build", "'cmif setup' does not work"},
                    {"fetch", "'cmif pull' does not work"}};
    char     path[PATH_MAX];
    cmif_err err  = {0};
    int      here = 0;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        if (cmif_child_find(programs[i].name, path, &err) == CMIF_OK) {
            here++;
        } else {
            say(FAIL, "programs", "build or install CMIF again, or set CMIF_LIBEXEC", "%s is missing: %s",
                programs[i].name, programs[i].without);
        }
    }
    if (here == (int) (sizeof programs / sizeof *programs)) {
        say(FINE, "programs", NULL, "cmif-server, cmif-engine, cmif-model, cmif-build and fetch are here");
    }
}

static void check_cache(void)
{
    char           folder[PATH_MAX], parent[PATH_MAX];
    struct statvfs space;
    cmif_err       err = {0};
    if (cmif_cache_folder(folder, &err) != CMIF_OK) {
        say(FAIL, "cache", "set XDG_CACHE_HOME to a folder of yours", "%s", err.text);
        return;
    }
    snprintf(parent, sizeof parent, "%s", folder);
    while (access(parent, F_OK) != 0 && strlen(parent) > 1) { /* it is made when it is needed */
        *strrchr(parent + 0, '/') = '\0';
        if (!*parent) {
            snprintf(parent, sizeof parent, "/");
        }
    }
    if (access(parent, W_OK | X_OK) != 0 || statvfs(parent, &space) != 0) {
        say(FAIL, "cache", "set XDG_CACHE_HOME to a folder you can write to", "%s cannot be written", folder);
        return;
    }
    double left = (double) space.f_bavail * (double) space.f_frsize;
    say(left < 1e9 ? WARN : FINE, "cache",
        left < 1e9 ? "make room, or set XDG_CACHE_HOME: a split copies the model" : NULL, "%s, %.1f GB free", folder,
        left / 1e9);
}

/* ---- model ---- */

static bool check_model(cmif_client *client)
{
    cmif_halves halves;
    cmif_err    err = {0};
    struct stat info;

    if (cmif_cache_halves(where.model, false, &halves, &err) != CMIF_OK) {
        say(FAIL, "model", NULL, "%s", err.text);
        return false;
    }
    if (access(halves.client, R_OK) != 0) {
        cmif_status("splitting the model");
        if (cmif_cache_halves(where.model, true, &halves, &err) != CMIF_OK) {
            say(FAIL, "model", "'cmif inspect' tells more about the file", "%s",
                err.text[0] ? err.text : "it cannot be split: see above");
            return false;
        }
    }
    if (cmif_client_load(halves.client, client, &err) != CMIF_OK) {
        say(FAIL, "model", "split it again", "%s", err.text);
        return false;
    }
    client->halves = halves;
    say(FINE, "model", NULL, "%.*s, rows of %zu floats, %zu tokens",
        (int) (client->arch.size < 64 ? client->arch.size : 64), client->arch.data, cmif_embed_width(client->embed),
        cmif_embed_vocab(client->embed));
    if (stat(halves.server, &info) == 0) {
        double need = (double) info.st_size, have = meminfo("MemAvailable");
        say(need > have && !where.server ? WARN : FINE, "split",
            need > have && !where.server ? "a private server will be slow: use one elsewhere with --server" : NULL,
            "%s, server half %.1f MB", halves.made ? "made now" : "there", need / 1e6);
    } else {
        say(where.server ? FINE : FAIL, "split", where.server ? NULL : "name the server that has it with --server",
            "server.gguf is not beside client.gguf");
    }
    if (client->chat) {
        say(FINE, "chat", NULL, "the model's chat format is known");
    } else {
        say(WARN, "chat", NULL, "%s", client->no_chat.text);
    }
    bool tied = false;
    if (cmif_gguf_get_bool(client->file, "cmif.tied", &tied, NULL) == CMIF_OK && tied) {
        say(WARN, "table", "if rows must not be turned into words, take an untied model with a private table",
            "tied: the server's output.weight is the embedding table");
    } else {
        say(FINE, "table", NULL, "the server half needs no embedding table");
    }
    return true;
}

/* ---- server: greet it without a model, and measure the way there and back ---- */

#define GREET_MS 30000 /* for evidence, and for all the rest */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

typedef struct greeting {
    cmif_channel *channel;
    double        until_ms; /* what is waited for comes whole by then */
    cmif_wire     wire;
    uint8_t       bytes[CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX];
    size_t        size;
} greeting;

static cmif_code send_frame(greeting *g, const cmif_frame *frame, cmif_err *err)
{
    uint8_t   bytes[256];
    size_t    size;
    cmif_code rc = cmif_wire_sent(&g->wire, frame, err);
    if (rc == CMIF_OK) {
        rc = cmif_frame_encode(frame, bytes, sizeof bytes, &size, err);
    }
    return rc == CMIF_OK ? cmif_channel_send(g->channel, bytes, size, 10, -1, err) : rc;
}

static cmif_code receive_frame(greeting *g, cmif_frame *frame, cmif_err *err)
{
    for (;;) {
        size_t    whole = 0, used = 0, more = 0;
        cmif_code rc = g->size ? cmif_frame_peek(g->bytes, g->size, &whole, err) : CMIF_OK;
        if (rc == CMIF_OK && whole && whole <= g->size) {
            rc = cmif_frame_decode(g->bytes, g->size, frame, &used, err);
            if (rc == CMIF_OK) {
                rc = cmif_wire_received(&g->wire, frame, err);
            }
            if (rc == CMIF_OK && frame->kind == CMIF_FRAME_ERROR) {
                rc = cmif_fail(err, CMIF_E_PEER, "the server says: %.*s", frame->error.size, frame->error.text);
            }
            if (rc == CMIF_OK) {
                memmove(g->bytes, g->bytes + used, g->size - used);
                g->size -= used;
            }
            return rc;
        }
        if (rc == CMIF_OK && now_ms() > g->until_ms) {
            rc = cmif_fail(err, CMIF_E_IO, "the server is too slow");
        }
        if (rc == CMIF_OK) {
            rc = cmif_channel_receive(g->channel, g->bytes + g->size, sizeof g->bytes - g->size, &more, 10, -1, err);
        }
        if (rc != CMIF_OK) {
            return rc;
        }
        g->size += more;
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* As a session does it, before anything else is said; *out also tells of who is refused. */
static cmif_code ask_evidence(greeting *g, const cmif_peer_rule *rule, cmif_peer_verdict *out, cmif_err *err)
{
    cmif_peer_binding binding = {.role = 's'};
    cmif_frame        frame   = {.kind = CMIF_FRAME_CHALLENGE};
    uint8_t          *proof   = NULL;
    size_t            have = 0, total = 0;
    cmif_code         rc = cmif_channel_binding(g->channel, binding.exporter, binding.own_key, binding.shown_key, err);
    if (rc == CMIF_OK && getrandom(binding.nonce, sizeof binding.nonce, 0) != sizeof binding.nonce) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot draw a nonce");
    }
    if (rc == CMIF_OK) {
        memcpy(frame.challenge.nonce, binding.nonce, sizeof binding.nonce);
        rc = send_frame(g, &frame, err);
    }
    while (rc == CMIF_OK && (!proof || have < total)) {
        rc = receive_frame(g, &frame, err); /* that pieces follow each other, the wire's state machine sees */
        if (rc == CMIF_OK && !proof) {
            total = frame.kind == CMIF_FRAME_EVIDENCE ? frame.evidence.total : 0;
            proof = total ? malloc(total) : NULL;
        }
        if (rc == CMIF_OK && (!proof || frame.kind != CMIF_FRAME_EVIDENCE || frame.evidence.size > total - have)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "the server was asked for evidence and sent %s",
                           cmif_frame_name(frame.kind));
        }
        if (rc == CMIF_OK) {
            memcpy(proof + have, frame.evidence.bytes, frame.evidence.size);
            have += frame.evidence.size;
        }
    }
    rc = rc == CMIF_OK ? cmif_peer_judge(rule, &binding, proof, total, out, err) : rc;
    free(proof);
    return rc;
}

static void check_evidence(const cmif_client *client, const cmif_peer_verdict *peer, const cmif_err *err)
{
    char text[900];
    if (!peer->judged) {
        say(FAIL, "evidence", "nothing else was sent; ask the server's owner what it runs on", "%s", err->text);
        return;
    }
    const cmif_verdict *v = &peer->verdict;
    cmif_verdict_peer_line(peer, &client->rule.policy->policy, text, sizeof text);
    say(v->outcome != CMIF_ACCEPTED ? FAIL
        : v->tee == CMIF_TEE_SIM    ? WARN
                                    : FINE,
        "evidence",
        v->outcome != CMIF_ACCEPTED ? "nothing else was sent; ask the server's owner what it runs on"
        : v->tee == CMIF_TEE_SIM    ? "it proves nothing: for tests only"
                                    : NULL,
        "%s", text);
    if (v->outcome == CMIF_ACCEPTED && client->file && memcmp(client->model_id, peer->claims.model_id, 32) != 0) {
        say(FAIL, "evidence", "start the server with the server.gguf of the same split",
            "it speaks of another model than the client half's");
    }
}

static cmif_code greet(const cmif_peer *peer, const cmif_peer_rule *rule, cmif_peer_verdict *proved,
                       cmif_frame_welcome *welcome, double *trip_ms, cmif_err *err)
{
    static greeting g;
    double          trips[PINGS];
    cmif_frame      frame = {.kind = CMIF_FRAME_HELLO, .hello = {CMIF_WIRE_VERSION, CMIF_WIRE_VERSION, 0}};
    cmif_code       rc    = cmif_channel_open(peer, &g.channel, err);
    g.until_ms            = now_ms() + GREET_MS;
    if (rc == CMIF_OK && rule) {
        rc         = ask_evidence(&g, rule, proved, err);
        g.until_ms = now_ms() + GREET_MS;
    }
    if (rc == CMIF_OK) {
        rc = send_frame(&g, &frame, err);
    }
    if (rc == CMIF_OK) {
        rc = receive_frame(&g, &frame, err);
    }
    if (rc == CMIF_OK) {
        *welcome = frame.welcome;
    }
    for (uint32_t i = 0; rc == CMIF_OK && i < PINGS; i++) {
        double began = now_ms();
        frame        = (cmif_frame){.kind = CMIF_FRAME_PING, .ping = {.value = i}};
        rc           = send_frame(&g, &frame, err);
        if (rc == CMIF_OK) {
            rc = receive_frame(&g, &frame, err);
        }
        trips[i] = now_ms() - began;
    }
    if (rc == CMIF_OK) {
        qsort(trips, PINGS, sizeof *trips, by_size);
        *trip_ms = trips[PINGS / 2];
    }
    cmif_channel_free(g.channel);
    return rc;
}

static void check_trips(const cmif_frame_welcome *w, double trip_ms)
{
    double with[2];
    for (int i = 0; i < 2; i++) {
        double alone = i ? 100 : 20; /* tokens/s of a server that need not wait */
        with[i]      = 1e3 / (1e3 / alone + trip_ms);
    }
    if (w->flags & CMIF_WELCOME_ENCODER) {
        say(FINE, "round trip", NULL, "%.2f ms, once for each text", trip_ms);
    } else if (w->flags & CMIF_WELCOME_TABLE) {
        say(FINE, "round trip", NULL, "%.2f ms, once for each answer: the server has the table and goes on by itself",
            trip_ms);
    } else {
        bool slow = with[1] < 50;
        say(slow ? WARN : FINE, "round trip",
            slow ? "'cmif split --keep-embeddings' saves the trips; the server could then turn rows into words, as "
                   "whoever "
                   "has this model's file can"
                 : NULL,
            "%.2f ms, once for each token: 20 tokens/s would be %.1f, 100 would be %.1f", trip_ms, with[0], with[1]);
    }
}

static void check_server(const cmif_client *client)
{
    char                 buffer[PATH_MAX];
    cmif_private_server *server  = NULL;
    cmif_frame_welcome   welcome = {0};
    cmif_peer_verdict   *proved  = calloc(1, sizeof *proved);
    cmif_peer            peer    = {0};
    cmif_err             err     = {0};
    double               trip_ms = 0, began = now_ms();
    cmif_code            rc = proved ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for a verdict");

    if (rc == CMIF_OK && where.server) {
        rc = cmif_client_peer(&where, buffer, &peer, &err);
    } else if (rc == CMIF_OK) {
        rc = cmif_private_server_start(client->halves.server, 1, where.context, where.threads, &server, &err);
        if (rc == CMIF_OK) {
            rc = cmif_private_server_wait(server, &err);
        }
        if (rc == CMIF_OK) {
            peer = (cmif_peer){.path = cmif_private_server_socket(server), .connect_seconds = 10};
        }
    }
    if (rc == CMIF_OK) {
        rc = greet(&peer, client->rule.policy ? &client->rule : NULL, proved, &welcome, &trip_ms, &err);
    }
    if (proved && proved->verdict.time) { /* it came so far */
        check_evidence(client, proved, &err);
        if (!proved->judged || proved->verdict.outcome != CMIF_ACCEPTED) {
            goto done;
        }
    }
    if (rc != CMIF_OK) {
        say(FAIL, "server", where.server ? "is cmif-server running there, and is --pin what it printed?" : NULL, "%s",
            err.text);
        goto done;
    }
    say(FINE, "server", NULL, "%s%.0f ms, %.*s, %u tokens of context, protocol " CMIF_WIRE_ALPN,
        where.server ? "answers after " : "a private one starts in ", now_ms() - began, welcome.arch_size, welcome.arch,
        welcome.context);
    if (client->file && memcmp(client->model_id, welcome.model_id, sizeof welcome.model_id) != 0) {
        say(FAIL, "halves", "start the server with the server.gguf of the same split",
            "the server's model id begins with %02x%02x%02x%02x, the client half's with %02x%02x%02x%02x",
            welcome.model_id[0], welcome.model_id[1], welcome.model_id[2], welcome.model_id[3], client->model_id[0],
            client->model_id[1], client->model_id[2], client->model_id[3]);
    } else if (client->file) {
        say(FINE, "halves", NULL, "server and client have the two halves of one model");
    }
    check_trips(&welcome, trip_ms);
done:
    free(proved);
    cmif_private_server_stop(server);
}

/* ---- what `cmif setup` makes ---- */

static void check_lists(void)
{
    char        path[PATH_MAX];
    cmif_lists *lists = NULL;
    cmif_err    err   = {0};
    size_t      names = 0;
    if (cmif_cache_file("lists.gguf", false, path, &err) != CMIF_OK) {
        return; /* said of the cache already */
    }
    if (access(path, F_OK) != 0) {
        say(WARN, "lists", "run 'cmif setup' once", "none yet: 'cmif run' and 'cmif chat' sanitize with them");
    } else if (cmif_lists_open(path, &lists, &err) != CMIF_OK) {
        say(FAIL, "lists", "make them again with 'cmif setup --again'", "%s", err.text);
    } else {
        for (int i = 0; i < CMIF_LIST_WORD; i++) {
            names += cmif_lists_count(lists, (cmif_list) i);
        }
        say(FINE, "lists", NULL, "%zu public names, %zu words", names, cmif_lists_count(lists, CMIF_LIST_WORD));
    }
    cmif_lists_free(lists);
}

static void check_channel(void)
{
    const char      *path  = where.guard.channel;
    cmif_table      *table = NULL;
    cmif_certificate certificate;
    char             made[PATH_MAX], mechanism[96], certified[96];
    cmif_err         err = {0};
    if (!path && cmif_cache_file("channel.cmifch", false, made, &err) != CMIF_OK) {
        return;
    }
    if (!path && access(made, F_OK) != 0) {
        say(WARN, "channel", "run 'cmif setup' once, or name a table with --channel",
            "none yet: policies draw words from it, all but names and none");
        return;
    }
    if (cmif_table_open(path ? path : made, &table, &certificate, &err) != CMIF_OK) {
        say(FAIL, "channel",
            path ? "build it again with 'cmif channel build'" : "make it again with 'cmif setup --again'", "%s",
            err.text);
        return;
    }
    bool none = table->claim.adjacency == CMIF_ADJACENT_NONE;
    cmif_figures_mechanism(&table->claim, mechanism, sizeof mechanism);
    cmif_figures_certified(&certificate, table, certified, sizeof certified);
    say(none ? WARN : FINE, "channel", none ? "use another: a baseline promises nothing" : NULL, "%s, certified %s",
        mechanism, none ? "nothing" : certified);
    cmif_table_free(table);
}

int cmif_doctor(int argc, char **argv)
{
    cmif_client client = {0};
    cmif_err    err    = {0};
    int         rest   = 0;
    cmif_code   rc     = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "doctor takes only options: a model goes behind -m");
    }
    client.options = where;
    rc             = rc == CMIF_OK ? cmif_client_rule(&client, &err) : rc;
    if (rc != CMIF_OK) {
        cmif_client_close(&client);
        return rc == CMIF_E_RANGE || rc == CMIF_E_CANCELLED ? cmif_report_usage(&err) : cmif_report(&err);
    }
    checks = json_array();
    check_machine();
    check_programs();
    check_cache();
    check_lists();
    check_channel();
    bool model = where.model && check_model(&client);
    if (!where.model) {
        say(WARN, "model", "give -m FILE; or 'cmif pull smollm2', then -m smollm2", "none named, so none was checked");
    }
    if (where.server || (model && access(client.halves.server, R_OK) == 0)) {
        check_server(&client);
    }
    cmif_client_close(&client);
    if (cmif_json) {
        rc = cmif_print_json(json_pack("{s:b, s:O}", "ok", failures == 0, "checks", checks), &err);
        if (rc != CMIF_OK) {
            failures += 1;
        }
    }
    json_decref(checks);
    return cmif_interrupted ? 128 + cmif_interrupted : failures ? CMIF_EXIT_FAILED : CMIF_EXIT_OK;
}
