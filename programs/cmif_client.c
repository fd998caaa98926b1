#include "cmif_client.h"

#include "cmif_folders.h"
#include "cmif_verdict.h"

#include "base/bytes.h"
#include "seal/seal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_SECONDS 20 /* a server elsewhere may be restarted by whoever looks after it; nobody restarts ours */
#define CONNECT_SECONDS 10

/* ---- the client half ---- */

cmif_code cmif_client_load(const char *path, cmif_client *c, cmif_err *err)
{
    cmif_code rc;
    if (c->options.unseal.from || cmif_seal_is(path)) {
        rc = cmif_unseal(path, &c->options.unseal, &c->plain, err);
        rc = rc ? rc : cmif_gguf_open_memory(c->plain.data, c->plain.size, &c->file, err);
    } else {
        rc = cmif_gguf_open(path, &c->file, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    if (!cmif_gguf_find(c->file, "cmif.model_id")) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "it is no client half of a split: make one with 'cmif split'");
    } else {
        rc = cmif_gguf_get_hash(c->file, "cmif.model_id", c->model_id, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(c->file, "general.architecture", &c->arch, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_tokenizer_open(c->file, &c->tokenizer, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_embed_open(c->file, &c->embed, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "model half '%s'", path);
        return rc;
    }
    if (cmif_gguf_get_str(c->file, "general.name", &c->name, NULL) != CMIF_OK) {
        c->name = c->arch;
    }
    rc = cmif_chat_open(c->file, c->tokenizer, &c->chat, &c->no_chat);
    if (rc != CMIF_OK && rc != CMIF_E_UNSUPPORTED) {
        *err = c->no_chat;
        return rc;
    }
    return CMIF_OK;
}

/* ---- the server ---- */

cmif_code cmif_client_peer(const cmif_client_options *o, char buffer[static PATH_MAX], cmif_peer *out, cmif_err *err)
{
    cmif_peer peer = {.pin = o->pin, .ca = o->ca, .cert = o->cert, .key = o->key, .connect_seconds = CONNECT_SECONDS};

    if (snprintf(buffer, PATH_MAX, "%s", o->server) >= PATH_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "--server is too long");
    }
    if (!strncmp(buffer, "unix:", 5)) {
        peer.path = buffer + 5;
    } else {
        char *colon = strrchr(buffer, ':');
        char *host  = buffer;
        if (!colon || colon == buffer || !colon[1]) {
            return cmif_fail(err, CMIF_E_RANGE, "--server takes HOST:PORT or unix:PATH");
        }
        *colon = '\0';
        if (host[0] == '[' && colon[-1] == ']') { /* [::1]:7490 */
            colon[-1] = '\0';
            host++;
        } else if (strchr(host, ':')) {
            return cmif_fail(err, CMIF_E_RANGE, "--server: put an IPv6 address in brackets, [::1]:PORT");
        }
        peer.host = host;
        peer.port = colon + 1;
        if (!o->pin && !o->ca) {
            return cmif_fail(
                err, CMIF_E_RANGE,
                "--server HOST:PORT needs --pin sha256:... (cmif-server prints it when it starts) or --ca FILE");
        }
    }
    if (!o->cert != !o->key) {
        return cmif_fail(err, CMIF_E_RANGE, "--cert and --key belong together");
    }
    *out = peer;
    return CMIF_OK;
}

/* Evidence is bound to TLS: a private server and a socket of this machine have none, and need none. */
static cmif_code check_evidence(const cmif_client_options *o, cmif_err *err)
{
    if (!o->peer_policy && o->peer_fresh != CMIF_CLIENT_FRESH) {
        return cmif_fail(err, CMIF_E_RANGE, "--peer-fresh is how often evidence is asked for: it needs --peer-policy");
    }
    if (o->peer_policy && (!o->server || !strncmp(o->server, "unix:", 5))) {
        return cmif_fail(err, CMIF_E_RANGE, "--peer-policy: evidence needs --server HOST:PORT, found %s",
                         o->server ? "a unix socket" : "no server, so a private one");
    }
    return CMIF_OK;
}

cmif_code cmif_client_rule(cmif_client *c, cmif_err *err)
{
    char      folder[PATH_MAX];
    cmif_code rc = check_evidence(&c->options, err);
    if (rc != CMIF_OK || !c->options.peer_policy) {
        return rc;
    }
    rc = cmif_attest_policy_open(c->options.peer_policy, &c->peer_policy, err);
    if (rc == CMIF_OK && c->peer_policy->policy.report_data) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "the policy '%s' says what the report data must be, and in a connection that is never the same: "
                       "take its line 'report-data' away",
                       c->options.peer_policy);
    }
    rc = rc == CMIF_OK ? cmif_data_folder(folder, err) : rc;
    if (rc == CMIF_OK) {
        snprintf(c->store, sizeof c->store, "%.*s/collateral.db", PATH_MAX / 2, folder);
        c->rule = (cmif_peer_rule){
            .policy = c->peer_policy, .store = c->store, .minutes = c->options.peer_fresh, .time = INT64_MIN};
    }
    return rc;
}

bool cmif_client_evidence(const cmif_client *c, char *out, size_t room)
{
    if (!c->rule.policy || !c->session) {
        return false;
    }
    cmif_verdict_peer_line(cmif_session_peer(c->session), &c->rule.policy->policy, out, room);
    return true;
}

static bool find_meaning(const char *name, cmif_meaning *out)
{
    static const char *const names[] = {"plain", "bayes", "context"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(name, names[i])) {
            *out = (cmif_meaning) i;
            return true;
        }
    }
    return false;
}

cmif_code cmif_client_check(const cmif_client_options *o, cmif_err *err)
{
    static const char *const names[] = {"f32", "f16", "bf16", "q8_0", "ids", "auto", "plain", "bayes", "context"};
    char                     buffer[PATH_MAX];
    cmif_row_type            type;
    cmif_meaning             meaning;
    cmif_peer                peer;

    if (!o->model) {
        return cmif_fail(err, CMIF_E_RANGE, "which model? Give -m FILE, or -m NAME after 'cmif pull NAME'");
    }
    if (o->rows && !cmif_row_type_find(o->rows, &type) && strcmp(o->rows, "auto") != 0 &&
        !find_meaning(o->rows, &meaning)) {
        const char *near = cmif_nearest(o->rows, names, sizeof names / sizeof *names);
        return cmif_fail(err, CMIF_E_RANGE, "--rows takes f32, f16, bf16, q8_0, ids, auto, plain, bayes or context%s%s",
                         near ? ": did you mean " : "", near ? near : "");
    }
    bool means = o->rows && find_meaning(o->rows, &meaning) && meaning != CMIF_MEANING_PLAIN;
    if (means && o->guard.policy && !strcmp(o->guard.policy, "none")) {
        return cmif_fail(err, CMIF_E_RANGE, "--rows %s is about words that were drawn: --policy none draws none",
                         o->rows);
    }
    if (means && meaning == CMIF_MEANING_CONTEXT && !o->lm) {
        return cmif_fail(err, CMIF_E_RANGE, "--rows context needs --lm FILE: 'cmif lexicon lm build' makes one");
    }
    if (o->lm && o->rows && strcmp(o->rows, "auto") != 0 && !(means && meaning == CMIF_MEANING_CONTEXT)) {
        return cmif_fail(err, CMIF_E_RANGE, "--lm is for --rows context, found --rows %s", o->rows);
    }
    cmif_code rc = cmif_guard_check(&o->guard, err);
    rc           = rc == CMIF_OK ? cmif_unseal_check(&o->unseal, err) : rc;
    rc           = rc == CMIF_OK ? check_evidence(o, err) : rc;
    return rc == CMIF_OK && o->server ? cmif_client_peer(o, buffer, &peer, err) : rc;
}

/* Default: nothing is lost. f32 costs nothing on one machine; over a network the table's own type says the same in
 * fewer bytes, unless the rows are scaled. */
static cmif_row_type choose_rows(const cmif_client *c)
{
    cmif_row_type type;

    if (c->options.rows && cmif_row_type_find(c->options.rows, &type)) {
        return type;
    }
    if (c->guard.table) { /* means of rows fit no narrower type exactly */
        return CMIF_ROWS_F32;
    }
    bool near = !c->options.server || !strncmp(c->options.server, "unix:", 5);
    return near ? CMIF_ROWS_F32 : cmif_embed_exact_type(c->embed);
}

/* ---- rows ---- */

/* Which rows a drawn word gets: averaged ones help encoders; a decoder had no use for them (design.md, section 4). */
static cmif_code open_rows(cmif_client *c, cmif_err *err)
{
    cmif_row_type type;
    bool          encoder = cmif_session_server(c->session)->flags & CMIF_WELCOME_ENCODER;
    const char   *rows    = c->options.rows;

    if (rows && cmif_row_type_find(rows, &type)) {
        return CMIF_OK;
    }
    if (!c->guard.table) {
        bool asked = c->lm || (rows && find_meaning(rows, &c->meaning) && c->meaning != CMIF_MEANING_PLAIN);
        return asked ? cmif_fail(err, CMIF_E_RANGE,
                                 "--rows and --lm are about words that were drawn: the policy draws none")
                     : CMIF_OK;
    }
    if (!rows || !find_meaning(rows, &c->meaning)) {
        c->meaning = c->lm ? CMIF_MEANING_CONTEXT : encoder ? CMIF_MEANING_BAYES : CMIF_MEANING_PLAIN;
    }
    return c->meaning == CMIF_MEANING_PLAIN
               ? CMIF_OK
               : cmif_bayes_new(c->guard.table, c->lm, c->tokenizer, c->embed, &c->bayes, err);
}

cmif_code cmif_client_encode(cmif_client *c, const cmif_released *text, cmif_ids *ids, cmif_err *err)
{
    cmif_part part = {.text = text};
    if (c->bayes) {
        size_t   words;
        uint32_t context = cmif_session_server(c->session)->context;
        (void) cmif_released_words(text, &words);
        if (words > context) { /* before rows are made for them */
            return cmif_fail(err, CMIF_E_RANGE, "the text has %zu words, the context holds %u tokens: shorten it",
                             words, context);
        }
        return cmif_bayes_encode(c->bayes, text, ids, err);
    }
    (void) cmif_released_bytes(text, &part.size);
    return cmif_tokenizer_encode(c->tokenizer, &part, 1, ids, err);
}

cmif_code cmif_client_chats(const cmif_client *c, cmif_err *err)
{
    return c->bayes ? cmif_fail(err, CMIF_E_UNSUPPORTED,
                                "--rows %s: a chat format takes plain rows only; 'cmif run --raw' "
                                "takes any",
                                c->meaning == CMIF_MEANING_BAYES ? "bayes" : "context")
                    : CMIF_OK;
}

/* ---- session ---- */

cmif_code cmif_client_session(const cmif_client *c, cmif_session **out, cmif_err *err)
{
    char                 buffer[PATH_MAX];
    cmif_session_options options = {.model_id         = c->model_id,
                                    .row_type         = c->row_type,
                                    .no_loop          = c->options.no_loop,
                                    .rule             = c->rule.policy ? &c->rule : NULL,
                                    .patience_seconds = c->server ? 0 : PATIENCE_SECONDS};
    cmif_code            rc      = CMIF_OK;

    if (c->server) {
        options.peer = (cmif_peer){.path = cmif_private_server_socket(c->server), .connect_seconds = CONNECT_SECONDS};
    } else {
        rc = cmif_client_peer(&c->options, buffer, &options.peer, err);
    }
    return rc == CMIF_OK ? cmif_session_open(&options, c->embed, out, err) : rc;
}

cmif_code cmif_client_open(const cmif_client_options *options, cmif_client *c, cmif_err *err)
{
    cmif_code rc = CMIF_OK;

    *c = (cmif_client){.options = *options};
    rc = cmif_client_rule(c, err);
    if (rc == CMIF_OK) {
        rc = cmif_guard_open(&options->guard, true, &c->guard,
                             err); /* before a server is started: a refusal costs no time */
    }
    if (rc == CMIF_OK && options->lm) {
        rc = cmif_lm_open(options->lm, &c->lm, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_cache_halves(options->model, true, &c->halves, err);
    }
    if (rc == CMIF_OK && !options->server) {
        if (access(c->halves.server, R_OK) != 0) {
            return cmif_fail(err, CMIF_E_IO,
                             "'%s' is missing: name the server that has it with --server, or split again",
                             c->halves.server);
        }
        rc = cmif_private_server_start(c->halves.server, options->sessions ? options->sessions : 1, options->context,
                                       options->threads, &c->server, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_load(c->halves.client, c, err);
    }
    if (rc == CMIF_OK) {
        c->row_type = choose_rows(c);
    }
    if (rc == CMIF_OK && c->server) {
        rc = cmif_private_server_wait(c->server, err);
    }
    cmif_status(NULL);
    if (rc == CMIF_OK) {
        rc = cmif_client_session(c, &c->session, err);
    }
    if (rc == CMIF_OK) {
        rc = open_rows(c, err);
    }
    if (rc == CMIF_OK) {
        cmif_signals_watch(c->session);
    }
    return rc;
}

void cmif_client_close(cmif_client *c)
{
    cmif_status(NULL);
    cmif_signals_watch(NULL);
    cmif_session_free(c->session);
    cmif_private_server_stop(c->server);
    cmif_chat_free(c->chat);
    cmif_bayes_free(c->bayes);
    cmif_lm_free(c->lm);
    cmif_guard_close(&c->guard);
    cmif_embed_free(c->embed);
    cmif_tokenizer_free(c->tokenizer);
    cmif_gguf_free(c->file);
    cmif_secret_wipe(&c->plain);
    cmif_attest_policy_free(c->peer_policy);
    *c = (cmif_client){0};
}

cmif_code cmif_client_fits(const cmif_client *c, size_t count, cmif_err *err)
{
    uint32_t context = cmif_session_server(c->session)->context;
    if (count <= context || !c->server) { /* the session says it for other people's servers */
        return CMIF_OK;
    }
    return cmif_fail(err, CMIF_E_RANGE,
                     "the text has %zu tokens, the context holds %u: shorten it, or give a larger --context", count,
                     context);
}

cmif_known_table cmif_client_table(const cmif_client *c)
{
    bool tied = false;
    if (cmif_gguf_get_bool(c->file, "cmif.tied", &tied, NULL) == CMIF_OK && tied) {
        return CMIF_TABLE_TIED;
    }
    return c->session && (cmif_session_server(c->session)->flags & CMIF_WELCOME_TABLE) ? CMIF_TABLE_KEPT
                                                                                       : CMIF_TABLE_NONE;
}

bool cmif_client_loops(const cmif_client *c)
{
    return !c->options.no_loop && (cmif_session_server(c->session)->flags & CMIF_WELCOME_TABLE);
}

/* ---- the account ---- */

void cmif_account_add(cmif_account *a, const cmif_client *c, const cmif_usage *u)
{
    a->prompt_rows += u->prompt_rows;
    a->reused_rows += u->reused_rows;
    a->token_rows += !cmif_client_loops(c) && u->tokens ? u->tokens - 1 : 0;
    a->tokens += u->tokens;
    a->replays += u->replays;
    a->sent += u->sent;
    a->received += u->received;
    a->first_us = u->first_us;
    a->total_us += u->total_us;
    if (u->tokens > 1) {
        a->decode_us += u->total_us - u->first_us;
        a->decoded += u->tokens - 1;
    }
    a->calls++;
    a->reason = u->reason;
}

double cmif_account_speed(const cmif_account *a)
{
    return a->decode_us ? (double) a->decoded * 1e6 / (double) a->decode_us : 0;
}

static const char *reason_name(cmif_done_reason reason)
{
    static const char *const names[] = {"stop", "length", "context", "cancelled"};
    return (unsigned) reason < 4 ? names[reason] : "unknown";
}

static const char *reason_text(cmif_done_reason reason)
{
    static const char *const texts[] = {"the model ended", "-n was reached", "the context is full", "stopped"};
    return (unsigned) reason < 4 ? texts[reason] : "ended";
}

static void print_size(char *out, size_t room, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    double                   size    = (double) bytes;
    int                      unit    = 0;
    for (; size >= 1024 && unit < 3; unit++) {
        size /= 1024;
    }
    snprintf(out, room, unit ? "%.1f %s" : "%.0f %s", size, units[unit]);
}

static void line(const char *label, const char *text)
{
    fprintf(stderr, "%s%-10s%s %s\n", cmif_style_of(stderr, CMIF_DIM), label, cmif_style_of(stderr, CMIF_PLAIN), text);
}

static void print_unit(char *out, size_t room, const cmif_client *c)
{
    if (c->row_type == CMIF_ROWS_ID) {
        snprintf(out, room, "token ids");
    } else {
        snprintf(out, room, "rows of %u %s", cmif_session_server(c->session)->width, cmif_row_type_name(c->row_type));
    }
}

/* A file's text is not obeyed by the terminal. */
static void copy_clean(char *out, size_t room, cmif_str text)
{
    size_t used = 0;
    for (; used < text.size && used + 1 < room; used++) {
        out[used] = text.data[used] >= 0x20 && text.data[used] < 0x7f ? text.data[used] : '?';
    }
    out[used] = '\0';
}

void cmif_client_describe(const cmif_client *c, char *out, size_t room)
{
    char name[64], arch[33], id[13];
    copy_clean(name, sizeof name, c->name);
    copy_clean(arch, sizeof arch, c->arch);
    cmif_hex(c->model_id, 6, id);
    snprintf(out, room, "%s (%s), id %s", name, arch, id);
}

/* What was done to the person's words, and what may be said of it. */
static void print_guard(const cmif_client *c)
{
    static const char *const meanings[] = {"of the drawn words", "that say what a drawn word may have been",
                                           "that say what a drawn word may have been, from the whole released text"};
    const cmif_guard        *g          = &c->guard;
    const cmif_guard_totals *t          = &g->totals;
    char                     text[1024], made[320], drawn[160];

    if (g->kind == CMIF_GUARD_NONE) {
        fprintf(stderr, "%ssanitizer%s  %snone%s: the text went as it is, as %s\n", cmif_style_of(stderr, CMIF_DIM),
                cmif_style_of(stderr, CMIF_PLAIN), cmif_style_of(stderr, CMIF_BOLD), cmif_style_of(stderr, CMIF_PLAIN),
                c->row_type == CMIF_ROWS_ID ? "token ids" : "rows of the embedding table");
        return;
    }
    cmif_guard_counts(g, CMIF_ACTION_SURROGATE, made, sizeof made);
    cmif_guard_counts(g, CMIF_ACTION_CHANNEL, drawn, sizeof drawn);
    if (g->kind == CMIF_GUARD_CHANNEL) {
        snprintf(text, sizeof text,
                 "%" PRIu64 " drawn, %" PRIu64 " passed as they are, %" PRIu64 " unknown left as \"something\"",
                 t->draws, t->passed, t->unknown);
    } else {
        snprintf(text, sizeof text, "made up: %s; drawn: %s; as written: %" PRIu64 " words", *made ? made : "nothing",
                 *drawn ? drawn : "nothing", t->passed);
    }
    line("changed", text);
    if (g->conversation && !(cmif_session_server(c->session)->flags & CMIF_WELCOME_ENCODER)) {
        if (t->left) {
            snprintf(text, sizeof text, "%" PRIu64 " in the answer; %" PRIu64 " that look like one were left",
                     t->restored, t->left);
        } else {
            snprintf(text, sizeof text, "%" PRIu64 " in the answer", t->restored);
        }
        line("restored", text);
    }
    if (g->table) {
        bool known      = cmif_books_micro(&g->certificate) < CMIF_BOOKS_MICRO_MOST;
        char beyond[96] = "";
        if (t->constants) {
            snprintf(beyond, sizeof beyond, "; %" PRIu64 " words beyond the budget left as their block's own word",
                     t->constants);
        }
        snprintf(text, sizeof text, "epsilon %.6g in all%s, entered in the ledger ('cmif budget show')%s",
                 (double) t->epsilon_micro / 1e6, known ? "" : " (32 a word stands for no guarantee)", beyond);
        line("spent", text);
        if (c->row_type != CMIF_ROWS_ID && c->meaning != CMIF_MEANING_PLAIN) {
            line("rows", meanings[c->meaning]);
        }
    }
    cmif_guard_sentence(g, text, sizeof text);
    line("guarantee", text);
}

/* Who the server has proved to be; what proves nothing is not said quietly. */
static void print_evidence(const cmif_client *c)
{
    char text[1024];
    if (cmif_client_evidence(c, text, sizeof text)) {
        const bool nothing = cmif_session_peer(c->session)->verdict.tee == CMIF_TEE_SIM;
        fprintf(stderr, "%sevidence%s   %s%s%s\n", cmif_style_of(stderr, CMIF_DIM), cmif_style_of(stderr, CMIF_PLAIN),
                nothing ? cmif_style_of(stderr, CMIF_RED) : "", text, cmif_style_of(stderr, CMIF_PLAIN));
    }
}

static json_t *evidence_json(const cmif_client *c)
{
    const cmif_peer_verdict *peer = cmif_session_peer(c->session);
    char                     hash[65], model_id[65], policy_hash[65];
    if (!c->rule.policy) {
        return json_null();
    }
    json_t *object = cmif_verdict_json(&peer->verdict);
    cmif_hex(c->rule.policy->hash, 32, hash);
    cmif_hex(peer->claims.model_id, 32, model_id);
    cmif_hex(peer->claims.policy_hash, 32, policy_hash);
    json_object_set_new(object, "policy",
                        json_pack("{s:o, s:s}", "file", cmif_text_json(c->options.peer_policy), "sha256", hash));
    json_object_set_new(object, "claims",
                        json_pack("{s:s, s:s, s:s}", "program", peer->claims.program, "model_id", model_id,
                                  "policy_sha256", policy_hash));
    return object;
}

void cmif_account_print(const cmif_account *a, const cmif_client *c)
{
    char               text[256], size[32], more[96], unit[64];
    unsigned long long new_rows = a->prompt_rows - a->reused_rows;
    bool               encoder  = cmif_session_server(c->session)->flags & CMIF_WELCOME_ENCODER;

    print_guard(c);

    print_size(size, sizeof size, a->sent);
    print_unit(unit, sizeof unit, c);
    more[0] = '\0';
    if (a->reused_rows) {
        snprintf(more, sizeof more, " (%llu were still there)", (unsigned long long) a->reused_rows);
    }
    if (encoder) {
        snprintf(text, sizeof text, "%llu %s; %s in all", new_rows, unit, size);
    } else {
        snprintf(text, sizeof text, "%llu %s for the prompt%s, %llu for the answer; %s in all", new_rows, unit, more,
                 (unsigned long long) a->token_rows, size);
    }
    line("sent", text);
    print_size(size, sizeof size, a->received);
    snprintf(text, sizeof text, "%s: %s", size,
             encoder ? "the vectors, which the server computed" : "the answer's token ids, which the server chose");
    line("received", text);

    switch (cmif_client_table(c)) {
    case CMIF_TABLE_TIED:
        line("table", "tied: the server's output.weight is the table; it can read the rows");
        break;
    case CMIF_TABLE_KEPT:
        line("table", "on the server, left there by choice; it can read the rows");
        break;
    case CMIF_TABLE_NONE:
        line("table", "not on the server; whoever has the model's file can read the rows");
        break;
    }
    if (encoder) {
        snprintf(text, sizeof text, "%llu texts in %.0f ms", (unsigned long long) a->calls, (double) a->total_us / 1e3);
    } else {
        more[0] = '\0';
        if (cmif_account_speed(a) > 0) {
            snprintf(more, sizeof more, ", then %.1f tokens/s", cmif_account_speed(a));
        }
        snprintf(text, sizeof text, "first token after %.0f ms%s; %llu tokens, %s", (double) a->first_us / 1e3, more,
                 (unsigned long long) a->tokens, reason_text(a->reason));
    }
    line("time", text);
    if (a->replays) {
        snprintf(text, sizeof text, "%llu: the server's cache was lost and everything sent again",
                 (unsigned long long) a->replays);
        line("replays", text);
    }
    line("server", c->server ? "private, on this machine; it ends with this program" : c->options.server);
    print_evidence(c);
    cmif_client_describe(c, text, sizeof text);
    line("model", text);
}

json_t *cmif_account_json(const cmif_account *a, const cmif_client *c)
{
    static const char *const tables[] = {"none", "tied", "kept"};
    char                     id[65];
    bool                     encoder = cmif_session_server(c->session)->flags & CMIF_WELCOME_ENCODER;
    cmif_hex(c->model_id, 32, id);
    json_t *object =
        json_pack("{s:s, s:{s:s, s:I, s:I, s:I, s:I}, s:I, s:f, s:I, s:{s:s, s:s}, s:{s:s%, s:s%, s:s}}", "sanitizer",
                  c->guard.kind == CMIF_GUARD_NONE      ? "none"
                  : c->guard.kind == CMIF_GUARD_CHANNEL ? "channel"
                                                        : c->guard.policy->base,
                  "left_the_machine", "as", cmif_row_type_name(c->row_type), "prompt_rows",
                  (json_int_t) (a->prompt_rows - a->reused_rows), "reused_rows", (json_int_t) a->reused_rows,
                  "answer_rows", (json_int_t) a->token_rows, "bytes", (json_int_t) a->sent, "received_bytes",
                  (json_int_t) a->received, "total_ms", (double) a->total_us / 1e3, "replays", (json_int_t) a->replays,
                  "server", "address", c->server ? "private" : c->options.server, "table", tables[cmif_client_table(c)],
                  "model", "name", c->name.data, c->name.size, "arch", c->arch.data, c->arch.size, "id", id);
    if (object) {
        static const char *const meanings[] = {"plain", "bayes", "context"};
        json_t                  *guard      = cmif_guard_json(&c->guard);
        if (guard && c->guard.table) {
            json_object_set_new(guard, "rows", json_string(meanings[c->meaning]));
        }
        json_object_set_new(object, "guard", guard);
        json_object_set_new(object, "evidence", evidence_json(c));
    }
    if (object && !encoder) {
        json_t *more =
            json_pack("{s:I, s:s, s:f, s:f}", "tokens", (json_int_t) a->tokens, "stop", reason_name(a->reason),
                      "first_token_ms", (double) a->first_us / 1e3, "tokens_per_second", cmif_account_speed(a));
        json_object_update_missing(object, more);
        json_decref(more);
    }
    return object;
}

cmif_code cmif_print_json(json_t *object, cmif_err *err)
{
    bool bad = !object || json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0 ||
               fputc('\n', stdout) == EOF || fflush(stdout) != 0;
    json_decref(object);
    return bad ? cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?") : CMIF_OK;
}
