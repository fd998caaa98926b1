/* cmif-bench - what `cmif bench split` runs: the split, through session, wire and server, beside the unsplit model
 * (cmif-plain) and, where one is given, llama-server of the same source. All in one run, alternating, medians; what is
 * printed is ratios. A program of its own: nobody needs to trust it. */
#include "cmif_commands.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RUNS_MAX = 99, STREAMS_MAX = 16 };

static cmif_client_options where = {.guard.policy = "none",
                                    .peer_fresh   = CMIF_CLIENT_FRESH}; /* its prompts are nobody's words */
static uint32_t            runs = 5, prompt_count = 128, token_count = 128;
static const char         *llama_server;

static const cmif_option options[] = {
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &where.model, 0, 0, "GGUF file, or name of a pulled model"},
    {0, "runs", "N", CMIF_OPTION_COUNT, &runs, 1, RUNS_MAX, "runs of each side; medians are shown (default 5)"},
    {0, "prompt", "N", CMIF_OPTION_COUNT, &prompt_count, 1, 65536, "tokens of the prompt (default 128)"},
    {'n', "tokens", "N", CMIF_OPTION_COUNT, &token_count, 2, 65536, "tokens to generate (default 128)"},
    {0, "threads", "N", CMIF_OPTION_COUNT, &where.threads, 1, 1024, "of each engine (default: all cores)"},
    {0, "rows", "TYPE", CMIF_OPTION_TEXT, &where.rows, 0, 0, "f32, f16, bf16, q8_0, ids (default f32)"},
    {0, "llama-server", "PATH", CMIF_OPTION_TEXT, &llama_server, 0, 0, "measure throughput beside this program"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "bench split",
    .args         = "[options] -m MODEL",
    .summary      = "measure the split against the plain model",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_size);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- the prompt: the same ids for all ---- */

static cmif_code make_prompt(const cmif_client *c, cmif_ids *ids, cmif_err *err)
{
    static const char *const words[] = {" the", " river", " and", " a", " small", " house", " was", " there"};
    cmif_code                rc      = cmif_tokenizer_put_start(c->tokenizer, ids, err);
    for (size_t i = 0; rc == CMIF_OK && ids->count < prompt_count; i++) {
        const char *word = words[(i * i + i / 3) % (sizeof words / sizeof *words)];
        cmif_part   part = {.literal = {word, strlen(word)}};
        rc               = cmif_tokenizer_encode(c->tokenizer, &part, 1, ids, err);
    }
    return rc;
}

/* "1 2 3", for the other programs; the caller frees it. */
static char *ids_text(const cmif_ids *ids, const char *between)
{
    char  *text = malloc(ids->count * 14 + 1);
    size_t used = 0;
    for (size_t i = 0; text && i < ids->count; i++) {
        used += (size_t) sprintf(text + used, "%s%d", i ? between : "", ids->at[i]);
    }
    return text;
}

/* ---- one run of each side ---- */

typedef struct sample {
    double first_ms, rate; /* time to first token; tokens/s after it */
} sample;

static cmif_code run_split(const cmif_client *c, const cmif_ids *prompt, sample *out, cmif_usage *usage, cmif_err *err)
{
    cmif_session   *session = NULL;
    cmif_ids        ids     = *prompt; /* keep is false: it is only read */
    cmif_generation how     = {.sampling = {.top_p = 1}, .max_tokens = token_count};
    cmif_code       rc      = cmif_client_session(c, &session, err);
    if (rc == CMIF_OK) {
        rc = cmif_session_generate(session, &ids, false, &how, usage, err);
    }
    if (rc == CMIF_OK) {
        out->first_ms = (double) usage->first_us / 1e3;
        out->rate     = (double) (usage->tokens - 1) * 1e6 / (double) (usage->total_us - usage->first_us);
    }
    cmif_session_free(session); /* its cache goes: the next run starts from nothing, as the plain one does */
    return rc;
}

static cmif_code run_plain(char *model, char *ids, sample *out, cmif_err *err)
{
    char tokens[16], context[16], threads[16], text[512];
    snprintf(tokens, sizeof tokens, "%u", token_count);
    snprintf(context, sizeof context, "%u", where.context);
    snprintf(threads, sizeof threads, "%u", where.threads);
    char     *argv[] = {NULL,    model,       "--ids", ids,       "-n", tokens, "--context",
                        context, "--threads", threads, "--bench", "1",  NULL};
    cmif_code rc     = cmif_child_run("cmif-plain", argv, text, sizeof text, err);
    if (rc != CMIF_OK) {
        return err->text[0] ? rc : cmif_fail(err, CMIF_E_IO, "cmif-plain failed");
    }
    json_t *result = json_loads(text, 0, NULL);
    int     good =
        result ? json_unpack(result, "{s:F, s:F}", "ttft_ms", &out->first_ms, "tokens_per_second", &out->rate) : -1;
    json_decref(result);
    return good == 0 ? CMIF_OK : cmif_fail(err, CMIF_E_FORMAT, "cmif-plain did not print what was expected");
}

/* ---- throughput ---- */

typedef struct stream {
    const cmif_client *client;
    const cmif_ids    *prompt;
    const char        *socket, *ids; /* llama-server */
    cmif_code          rc;
    cmif_err           err;
} stream;

static void *one_split(void *context)
{
    stream    *s = context;
    sample     ignored;
    cmif_usage usage;
    s->rc = run_split(s->client, s->prompt, &ignored, &usage, &s->err);
    return NULL;
}

/* One HTTP request over llama-server's unix socket; the whole answer is read and only its end is kept. */
static cmif_code ask(const char *socket_path, const char *head, const char *body, bool *good, cmif_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char               text[4096];
    ssize_t            n    = 0;
    size_t             used = 0;
    int                fd   = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *good = false;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
        dprintf(fd,
                "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
                "Content-Length: %zu\r\n\r\n%s",
                head, strlen(body), body) < 0) {
        int error = errno;
        if (fd >= 0) {
            close(fd);
        }
        return cmif_fail(err, CMIF_E_IO, "cannot ask llama-server: %s", strerror(error));
    }
    while ((n = read(fd, text + (used < 16 ? used : 16), sizeof text - 16)) > 0) {
        used += (size_t) n;
    }
    close(fd);
    *good = used > 12 && !memcmp(text, "HTTP/1.1 200", 12);
    return CMIF_OK;
}

static void *one_llama(void *context)
{
    stream *s    = context;
    size_t  size = strlen(s->ids) + 256;
    char   *body = malloc(size);
    bool    good = false;
    if (!body) {
        s->rc = cmif_fail(&s->err, CMIF_E_MEMORY, "no memory for a request");
        return NULL;
    }
    snprintf(
        body, size,
        "{\"prompt\":[%s],\"n_predict\":%u,\"temperature\":0,\"top_k\":1,\"ignore_eos\":true,\"cache_prompt\":false}",
        s->ids, token_count);
    s->rc = ask(s->socket, "POST /completion", body, &good, &s->err);
    if (s->rc == CMIF_OK && !good) {
        s->rc = cmif_fail(&s->err, CMIF_E_PEER, "llama-server refused the request");
    }
    free(body);
    return NULL;
}

/* Tokens per second of `count` streams at once, prompts included. */
static cmif_code throughput(void *(*one)(void *), const stream *like, size_t count, double *out, cmif_err *err)
{
    stream    streams[STREAMS_MAX];
    pthread_t threads[STREAMS_MAX];
    double    began = now();
    cmif_code rc    = CMIF_OK;

    for (size_t i = 0; i < count; i++) {
        streams[i] = *like;
        if (pthread_create(&threads[i], NULL, one, &streams[i]) != 0) {
            rc    = cmif_fail(err, CMIF_E_IO, "cannot start a thread");
            count = i;
        }
    }
    for (size_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        if (rc == CMIF_OK && streams[i].rc != CMIF_OK) {
            *err = streams[i].err;
            rc   = streams[i].rc;
        }
    }
    *out = (double) (count * token_count) / (now() - began);
    return rc;
}

/* llama-server with as many slots and as much room; *pid is 0 on failure. */
static cmif_code start_llama(const char *model, const char *socket_path, size_t slots, pid_t *pid, cmif_err *err)
{
    char context[16], threads[16], parallel[16];
    snprintf(context, sizeof context, "%u", (uint32_t) (where.context * slots));
    snprintf(threads, sizeof threads, "%u", where.threads);
    snprintf(parallel, sizeof parallel, "%zu", slots);
    *pid = fork();
    if (*pid == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) {
            _exit(127);
        }
        execl(llama_server, llama_server, "-m", model, "--host", socket_path, "-c", context, "-np", parallel, "-t",
              threads, "-tb", threads, "-b", "512", "-ub", "512", "--no-webui", (char *) NULL);
        _exit(127);
    }
    if (*pid < 0) {
        *pid = 0;
        return cmif_fail(err, CMIF_E_IO, "cannot start llama-server: %s", strerror(errno));
    }
    for (int i = 0; i < 600 && !cmif_interrupted; i++) {
        bool good = false;
        int  status;
        if (waitpid(*pid, &status, WNOHANG) == *pid) {
            *pid = 0;
            return cmif_fail(err, CMIF_E_IO, "'%s' ended at once: is it llama-server?", llama_server);
        }
        if (ask(socket_path, "GET /health", "", &good, err) == CMIF_OK && good) {
            return CMIF_OK;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    kill(*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    *pid = 0;
    return cmif_fail(err, CMIF_E_IO, "llama-server was not ready within a minute");
}

/* ---- memory ---- resident bytes of this process that are not pages of the client half. */
static double memory_beyond_table(const char *client)
{
    char               line[PATH_MAX + 128];
    unsigned long long kib = 0, sum = 0, from, to;
    bool               table = false;
    FILE              *file  = fopen("/proc/self/smaps", "re");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%llx-%llx ", &from, &to) == 2) { /* a mapping begins; its file ends the line */
            table = strstr(line, client) != NULL;
        } else if (!table && sscanf(line, "Rss: %llu", &kib) == 1) {
            sum += kib;
        }
    }
    if (file) {
        fclose(file);
    }
    return (double) sum * 1024;
}

/* ---- all of it ---- */

typedef struct results {
    double   split_first, plain_first, split_rate, plain_rate; /* medians */
    double   memory;
    uint64_t sent, received;
    size_t   prompt;
    double   streams[3], llama[3]; /* tokens/s; llama 0: not measured */
    char     name[64];
} results;

static const size_t stream_counts[3] = {1, 4, 16};

static cmif_code latency(char *model, results *r, cmif_err *err)
{
    cmif_client client = {0};
    cmif_ids    ids    = {0};
    cmif_usage  usage  = {0};
    sample      split, plain;
    double      first[2][RUNS_MAX], rate[2][RUNS_MAX];
    char       *text = NULL, status[64];

    where.sessions = 1;
    cmif_code rc   = cmif_client_open(&where, &client, err);
    if (rc == CMIF_OK && (cmif_session_server(client.session)->flags & CMIF_WELCOME_ENCODER)) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "the model is an encoder: there is no stream of tokens to measure");
    }
    if (rc == CMIF_OK) {
        cmif_signals_watch(NULL);
        cmif_session_free(client.session); /* each run has its own */
        client.session = NULL;
        snprintf(r->name, sizeof r->name, "%.*s", (int) (client.name.size < 63 ? client.name.size : 63),
                 client.name.data);
        rc = make_prompt(&client, &ids, err);
    }
    if (rc == CMIF_OK && !(text = ids_text(&ids, " "))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the prompt");
    }
    r->prompt = ids.count;
    for (uint32_t i = 0; rc == CMIF_OK && i <= runs; i++) { /* the first does not count */
        snprintf(status, sizeof status, i ? "split and plain, run %u of %u" : "warming up", i, runs);
        cmif_status(status);
        bool split_first = i % 2;
        if (split_first) {
            rc = run_split(&client, &ids, &split, &usage, err);
        }
        if (rc == CMIF_OK) {
            rc = run_plain(model, text, &plain, err);
        }
        if (rc == CMIF_OK && !split_first) {
            rc = run_split(&client, &ids, &split, &usage, err);
        }
        if (rc == CMIF_OK && i) {
            first[0][i - 1] = split.first_ms;
            first[1][i - 1] = plain.first_ms;
            rate[0][i - 1]  = split.rate;
            rate[1][i - 1]  = plain.rate;
        }
        if (cmif_interrupted) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped");
        }
    }
    if (rc == CMIF_OK) {
        r->split_first = median(first[0], runs);
        r->plain_first = median(first[1], runs);
        r->split_rate  = median(rate[0], runs);
        r->plain_rate  = median(rate[1], runs);
        r->sent        = usage.sent;
        r->received    = usage.received;
        r->memory      = memory_beyond_table(client.halves.client);
    }
    free(text);
    cmif_ids_free(&ids);
    cmif_client_close(&client);
    return rc;
}

static cmif_code streams(const char *model, results *r, cmif_err *err)
{
    cmif_client client = {0};
    cmif_ids    ids    = {0};
    char        socket_path[64], status[64], *text = NULL;
    double      split[3][RUNS_MAX], llama[3][RUNS_MAX];
    pid_t       pid   = 0;
    uint32_t    times = runs < 3 ? runs : 3;

    snprintf(socket_path, sizeof socket_path, "/tmp/cmif-bench-%d.sock", (int) getpid());
    where.sessions = STREAMS_MAX;
    cmif_code rc   = cmif_client_open(&where, &client, err);
    if (rc == CMIF_OK) {
        cmif_signals_watch(NULL);
        cmif_session_free(client.session);
        client.session = NULL;
        rc             = make_prompt(&client, &ids, err);
    }
    if (rc == CMIF_OK && !(text = ids_text(&ids, ","))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the prompt");
    }
    if (rc == CMIF_OK && llama_server) {
        rc = start_llama(model, socket_path, STREAMS_MAX, &pid, err);
    }
    stream like = {.client = &client, .prompt = &ids, .socket = socket_path, .ids = text};
    for (size_t n = 0; rc == CMIF_OK && n < 3; n++) {
        for (uint32_t i = 0; rc == CMIF_OK && i < times; i++) {
            snprintf(status, sizeof status, "%zu streams, run %u of %u", stream_counts[n], i + 1, times);
            cmif_status(status);
            rc = throughput(one_split, &like, stream_counts[n], &split[n][i], err);
            if (rc == CMIF_OK && pid) {
                rc = throughput(one_llama, &like, stream_counts[n], &llama[n][i], err);
            }
            if (cmif_interrupted) {
                rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped");
            }
        }
        if (rc == CMIF_OK) {
            r->streams[n] = median(split[n], times);
            r->llama[n]   = pid ? median(llama[n], times) : 0;
        }
    }
    if (pid) {
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
        unlink(socket_path);
    }
    free(text);
    cmif_ids_free(&ids);
    cmif_client_close(&client);
    return rc;
}

static void print_text(const results *r)
{
    const char *dim = cmif_style_of(stdout, CMIF_DIM), *plain = cmif_style_of(stdout, CMIF_PLAIN);
    cmif_status(NULL);
    printf("%s: prompt of %zu, %u tokens, %u threads, medians of %u alternating runs\n\n", r->name, r->prompt,
           token_count, where.threads, runs);
    printf("%s                          split       plain       ratio   goal%s\n", dim, plain);
    printf("time to first token  %8.1f ms %8.1f ms   %9.3f   <= 1.05\n", r->split_first, r->plain_first,
           r->split_first / r->plain_first);
    printf("time per token       %8.2f ms %8.2f ms   %9.3f   <= 1.02\n\n", 1e3 / r->split_rate, 1e3 / r->plain_rate,
           r->plain_rate / r->split_rate);
    printf("%sstreams at once           split llama-server       ratio   goal%s\n", dim, plain);
    for (size_t i = 0; i < 3; i++) {
        if (r->llama[i] > 0) {
            printf("%-2zu                  %7.1f t/s %8.1f t/s   %9.3f   >= 0.98\n", stream_counts[i], r->streams[i],
                   r->llama[i], r->streams[i] / r->llama[i]);
        } else {
            printf("%-2zu                  %7.1f t/s            -   %8.2fx   of one stream\n", stream_counts[i],
                   r->streams[i], r->streams[i] / r->streams[0]);
        }
    }
    if (!llama_server) {
        printf("%sllama-server was not measured: --llama-server PATH names one%s\n", dim, plain);
    }
    printf("\nwire                 %.1f KiB sent (%s rows), %.1f KiB received\n", (double) r->sent / 1024,
           where.rows ? where.rows : "f32", (double) r->received / 1024);
    printf("trusted memory       %.1f MB beyond the table (goal <= 50)\n", r->memory / 1e6);
}

static cmif_code print_json(const results *r, cmif_err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < 3; i++) {
        json_t *one = json_pack("{s:i, s:f, s:f}", "streams", (int) stream_counts[i], "split_tokens_per_second",
                                r->streams[i], "over_one_stream", r->streams[i] / r->streams[0]);
        if (r->llama[i] > 0) {
            json_object_set_new(one, "llama_server_tokens_per_second", json_real(r->llama[i]));
            json_object_set_new(one, "ratio", json_real(r->streams[i] / r->llama[i]));
        }
        json_array_append_new(list, one);
    }
    return cmif_print_json(
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:{s:f, s:f, s:f}, s:{s:f, s:f, s:f}, s:o, s:I, s:I, s:f}", "model",
                  r->name, "prompt", (int) r->prompt, "tokens", (int) token_count, "runs", (int) runs, "threads",
                  (int) where.threads, "first_token_ms", "split", r->split_first, "plain", r->plain_first, "ratio",
                  r->split_first / r->plain_first, "token_ms", "split", 1e3 / r->split_rate, "plain",
                  1e3 / r->plain_rate, "ratio", r->plain_rate / r->split_rate, "throughput", list, "sent_bytes",
                  (json_int_t) r->sent, "received_bytes", (json_int_t) r->received, "trusted_memory_bytes", r->memory),
        err);
}

int main(int argc, char **argv)
{
    results  r    = {0};
    cmif_err err  = {0};
    int      rest = 0;
    char     model[PATH_MAX];

    cmif_signals_install();
    if (argc > 1 && !strcmp(argv[1], "verify")) {
        return cmif_bench_verify(argc - 2, argv + 2);
    }
    cmif_code rc =
        argc > 1 && !strcmp(argv[1], "split") ? cmif_options_parse(&command, argc - 2, argv + 2, &rest, &err)
        : argc > 1 && !strcmp(argv[1], "--help")
            ? cmif_options_parse(&command, argc - 1, argv + 1, &rest, &err)
            : cmif_fail(&err, CMIF_E_RANGE,
                        "bench measures split or verify: 'cmif bench split -m MODEL', 'cmif bench verify EVIDENCE'");
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "bench split takes only options: the model goes behind -m");
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_check(&where, &err);
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    if (!where.rows) {
        where.rows = "f32";
    }
    if (!where.threads) {
        where.threads = (uint32_t) sysconf(_SC_NPROCESSORS_ONLN);
    }
    where.context = (prompt_count + token_count + 16 + 255) / 256 * 256; /* words of more than one token */
    rc            = cmif_cache_model(where.model, model, &err);
    if (rc == CMIF_OK) {
        rc = latency(model, &r, &err);
    }
    if (rc == CMIF_OK) {
        rc = streams(model, &r, &err);
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = print_json(&r, &err);
    } else if (rc == CMIF_OK) {
        print_text(&r);
    }
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}
