#include "cmif_gateway_config.h"

#include "cmif_systemd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 3, OPTIONS_MAX = 48, WEIGHT_MAX = 1000 };

static const char *const kinds[] = {"cmif", "openai", "vllm", "sglang"};

const char *cmif_config_kind_name(cmif_config_kind kind)
{
    return kinds[kind];
}

/* ---- options ---- */

typedef struct told { /* by whatever was read so far */
    const char         *config, *listen, *keys, *tls_cert, *tls_key, *url, *kind, *name, *served, *key_file;
    cmif_client_options there; /* guard, and what is an upstream's */
    uint32_t            conversations, idle, silence;
    bool                fields, check, any_version;
} told;

static const told defaults = {.listen        = "127.0.0.1:8800",
                              .there         = {.rows = "plain", .peer_fresh = CMIF_CLIENT_FRESH, .sessions = 4},
                              .conversations = 1000,
                              .idle          = 3600,
                              .silence       = 120};
static told       o;

/* What a section may have is between model and threads. */
static const cmif_option options[] = {
    {0, "config", "FILE", CMIF_OPTION_TEXT, &o.config, 0, 0, "a file of these, more models; try it only"},
    {0, "check-config", NULL, CMIF_OPTION_FLAG, &o.check, 0, 0, NULL},
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &o.there.model, 0, 0, "a split model, as in cmif run; or the upstream's"},
    {0, "name", "NAME", CMIF_OPTION_TEXT, &o.name, 0, 0, "what programs call it here, and the upstream there"},
    {0, "served", "NAME", CMIF_OPTION_TEXT, &o.served, 0, 0, NULL},
    {0, "server", "ADDR", CMIF_OPTION_TEXT, &o.there.server, 0, 0,
     "HOST:PORT or unix:PATH (default: a private server)"},
    {0, "upstream", "URL", CMIF_OPTION_TEXT, &o.url, 0, 0, "instead: http://...; openai, vllm or sglang"},
    {0, "kind", "KIND", CMIF_OPTION_TEXT, &o.kind, 0, 0, NULL},
    {0, "any-version", NULL, CMIF_OPTION_FLAG, &o.any_version, 0, 0, "old ones, too; its API key, one line"},
    {0, "key-file", "FILE", CMIF_OPTION_TEXT, &o.key_file, 0, 0, NULL},
    {0, "pin", "sha256:HEX", CMIF_OPTION_TEXT, &o.there.pin, 0, 0, "either's certificate, or who signed it"},
    {0, "ca", "FILE", CMIF_OPTION_TEXT, &o.there.ca, 0, 0, NULL},
    {0, "cert", "FILE", CMIF_OPTION_TEXT, &o.there.cert, 0, 0, "our own certificate and key, if the server asks"},
    {0, "key", "FILE", CMIF_OPTION_TEXT, &o.there.key, 0, 0, NULL},
    {0, "peer-policy", "FILE", CMIF_OPTION_TEXT, &o.there.peer_policy, 0, 0, "what it must prove, how often"},
    {0, "peer-fresh", "MINUTES", CMIF_OPTION_COUNT, &o.there.peer_fresh, 0, 10080, NULL},
    {0, "sessions", "N", CMIF_OPTION_COUNT, &o.there.sessions, 1, 256, "answers at once (4); tokens; cores"},
    {0, "context", "N", CMIF_OPTION_COUNT, &o.there.context, 8, 1 << 24, NULL},
    {0, "threads", "N", CMIF_OPTION_COUNT, &o.there.threads, 1, 1024, NULL},
    CMIF_GUARD_OPTIONS(o.there.guard),
    {0, "listen", "HOST:PORT", CMIF_OPTION_TEXT, &o.listen, 0, 0, "for programs (127.0.0.1:8800); who may come"},
    {0, "keys", "FILE", CMIF_OPTION_TEXT, &o.keys, 0, 0, NULL},
    {0, "tls-cert", "FILE", CMIF_OPTION_TEXT, &o.tls_cert, 0, 0, "https for programs: certificate and key, PEM"},
    {0, "tls-key", "FILE", CMIF_OPTION_TEXT, &o.tls_key, 0, 0, NULL},
    {0, "conversations", "N", CMIF_OPTION_COUNT, &o.conversations, 1, 100000, "kept (1000), while used (3600)"},
    {0, "idle", "SECONDS", CMIF_OPTION_COUNT, &o.idle, 1, 1 << 30, NULL},
    {0, "silence", "SECONDS", CMIF_OPTION_COUNT, &o.silence, 1, 86400, "give up what says nothing (120); tell api.md"},
    {0, "fields", NULL, CMIF_OPTION_FLAG, &o.fields, 0, 0, NULL},
};
enum { OPTION_COUNT = sizeof options / sizeof *options };
_Static_assert((int) OPTION_COUNT <= (int) OPTIONS_MAX, "sources have a place for every option");

static const cmif_command command = {
    .name         = "cmif-gateway",
    .args         = "-m MODEL [--server ADDR | --upstream URL] | --config FILE",
    .summary      = "OpenAI's API here, in front of a server that sees sanitized text",
    .options      = options,
    .option_count = OPTION_COUNT,
    .notes        = "Each may be in the environment (CMIF_PEER_POLICY) or the file; flags come first.\n"
                    "Programs need base_url http://127.0.0.1:8800/v1. SIGTERM: running answers end;\n"
                    "SIGHUP: keys, certificate, policies again. Exit: 0 ended, 1 failed, 2 usage.\n"};

static bool is_upstreams(size_t option)
{
    const char *name = option < OPTION_COUNT ? options[option].name : "";
    return option >= cmif_options_find(&command, "model") && option <= cmif_options_find(&command, "threads") &&
           strcmp(name, "name") != 0;
}

/* ---- one upstream ---- */

static cmif_code find_kind(const char *name, bool has_url, cmif_config_kind *out, cmif_err *err)
{
    size_t i = 0;
    if (!name) {
        *out = has_url ? CMIF_KIND_OPENAI : CMIF_KIND_CMIF;
        return CMIF_OK;
    }
    while (i < 4 && strcmp(name, kinds[i]) != 0) {
        i++;
    }
    if (i == 4) {
        const char *word = cmif_printable_word(name), *near = word ? cmif_nearest(word, kinds, 4) : NULL;
        return cmif_fail(err, CMIF_E_RANGE, "--kind takes cmif, openai, vllm or sglang%s%s%s",
                         near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    *out = (cmif_config_kind) i;
    return CMIF_OK;
}

/* What belongs to one kind is not silently ignored with another. */
static cmif_code check_upstream(const cmif_config_upstream *u, cmif_err *err)
{
    const cmif_client_options *c = &u->there;
    if (!c->model) {
        return cmif_fail(err, CMIF_E_RANGE, "which model? Give -m MODEL, with --upstream URL the name of one there");
    }
    if (u->name && (!*u->name || strlen(u->name) > 255)) {
        return cmif_fail(err, CMIF_E_RANGE, "--name takes a name of at most 255 bytes");
    }
    if (u->any_version && u->kind < CMIF_KIND_VLLM) {
        return cmif_fail(err, CMIF_E_RANGE, "--any-version is for --kind vllm and sglang");
    }
    if (u->served && u->kind < CMIF_KIND_VLLM) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--served is a model's name on vLLM or SGLang: it needs --kind vllm or sglang");
    }
    if (u->kind == CMIF_KIND_CMIF) {
        return u->url        ? cmif_fail(err, CMIF_E_RANGE, "--kind cmif takes --server ADDR, and no --upstream")
               : u->key_file ? cmif_fail(err, CMIF_E_RANGE, "--key-file is an upstream's: it needs --upstream URL")
                             : cmif_client_check(c, err);
    }
    if (!u->url) {
        return cmif_fail(err, CMIF_E_RANGE, "--kind %s needs --upstream URL", kinds[u->kind]);
    }
    return c->server || c->cert || c->key || c->peer_policy || c->context || c->threads
               ? cmif_fail(err, CMIF_E_RANGE,
                           "--upstream takes no --server, --cert, --key, --peer-policy, --context or --threads: those "
                           "are for a split model's server")
               : CMIF_OK;
}

/* What was told so far, as the next upstream. */
static cmif_code add_upstream(cmif_gateway_config *config, const char *name, uint32_t weight, unsigned line,
                              cmif_err *err)
{
    cmif_config_upstream u = {.name        = name,
                              .url         = o.url,
                              .key_file    = o.key_file,
                              .served      = o.served,
                              .there       = o.there,
                              .weight      = weight,
                              .any_version = o.any_version,
                              .line        = line};
    u.there.guard          = (cmif_guard_options){.policy = "none"}; /* policies are opened by themselves */
    cmif_code rc           = find_kind(o.kind, o.url != NULL, &u.kind, err);
    rc                     = rc == CMIF_OK ? check_upstream(&u, err) : rc;
    if (rc == CMIF_OK) {
        config->upstreams[config->upstream_count++] = u;
    }
    return rc;
}

/* ---- the file ---- */

/* The fields of a line, cut apart in place: bytes up to white space, or what is between quotes; # ends the line. */
static cmif_code cut(char *line, char *fields[FIELDS_MAX], size_t *count, cmif_err *err)
{
    char *at = line;
    for (*count = 0;; (*count)++) {
        at += strspn(at, " \t\r");
        if (!*at || *at == '#') {
            return CMIF_OK;
        }
        if (*count == FIELDS_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "more than a name and its value; put \" around what has spaces");
        }
        const bool quoted = *at == '"';
        char      *end    = quoted ? strchr(at + 1, '"') : at + strcspn(at, " \t\r");
        if (!end || (quoted && end[1] && !strchr(" \t\r", end[1]))) {
            return cmif_fail(err, CMIF_E_FORMAT, "a \" without the one that ends the value");
        }
        fields[*count] = at + quoted;
        at             = *end ? end + 1 : end;
        *end           = '\0';
    }
}

typedef struct reading {
    cmif_gateway_config *config;
    cmif_option_source   above[OPTIONS_MAX], sources[OPTIONS_MAX]; /* above: the first section */
    bool                 seen[OPTIONS_MAX];                        /* in this section */
    told                 base;
    const char          *section; /* its name; NULL: we are above the first */
    uint32_t             weight;
    unsigned             line, section_line;
} reading;

static cmif_code end_section(reading *r, cmif_err *err)
{
    cmif_code rc =
        r->section ? add_upstream(r->config, r->section, r->weight ? r->weight : 1, r->section_line, err) : CMIF_OK;
    r->line = rc == CMIF_OK ? r->line : r->section_line; /* where the fault is */
    return rc;
}

static cmif_code begin_section(reading *r, const char *name, cmif_err *err)
{
    cmif_code rc = end_section(r, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (!*name || strlen(name) > 255) {
        return cmif_fail(err, CMIF_E_FORMAT, "upstream takes a name of at most 255 bytes");
    }
    if (r->config->upstream_count == CMIF_CONFIG_UPSTREAMS_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "more than %d upstreams", CMIF_CONFIG_UPSTREAMS_MAX);
    }
    if (!r->section) {
        r->base = o;
        memcpy(r->above, r->sources, sizeof r->above);
    }
    o = r->base;
    memcpy(r->sources, r->above, sizeof r->sources);
    memset(r->seen, 0, sizeof r->seen);
    r->weight       = 0;
    r->section      = name;
    r->section_line = r->line;
    return CMIF_OK;
}

static cmif_code add_policy(cmif_gateway_config *config, const char *name, const char *what, cmif_err *err)
{
    static const char *const ours[] = {"names", "topics", "words", "none", "channel"};
    if (config->policy_count == CMIF_CONFIG_POLICIES_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "more than %d policies", CMIF_CONFIG_POLICIES_MAX);
    }
    if (!cmif_printable_word(name) || strlen(name) > CMIF_CONFIG_NAME_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "a policy's name is letters, digits and any of - _ . and at most %d of them",
                         CMIF_CONFIG_NAME_MAX);
    }
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (!strcmp(name, ours[i])) {
            return cmif_fail(err, CMIF_E_FORMAT, "'%s' has a meaning already: choose another name", name);
        }
    }
    for (size_t i = 0; i < config->policy_count; i++) {
        if (!strcmp(name, config->policies[i].name)) {
            return cmif_fail(err, CMIF_E_FORMAT, "the policy '%s' was given before", name);
        }
    }
    config->policies[config->policy_count++] = (cmif_config_policy){name, what};
    return CMIF_OK;
}

static cmif_code take_weight(reading *r, const char *value, cmif_err *err)
{
    char      *end;
    const long weight = strtol(value, &end, 10);
    if (!r->section || r->weight) {
        return cmif_fail(err, CMIF_E_FORMAT, r->section ? "weight was given before" : "weight is an upstream's");
    }
    if (*value < '0' || *value > '9' || *end || weight < 1 || weight > WEIGHT_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "weight takes a whole number from 1 to %d", WEIGHT_MAX);
    }
    r->weight = (uint32_t) weight;
    return CMIF_OK;
}

static cmif_code take_line(reading *r, char *line, cmif_err *err)
{
    char     *f[FIELDS_MAX];
    size_t    count;
    cmif_code rc = cut(line, f, &count, err);
    if (rc != CMIF_OK || count == 0) {
        return rc;
    }
    if (count == 1) {
        return cmif_fail(err, CMIF_E_FORMAT, "expected a name and its value");
    }
    if (!strcmp(f[0], "policy") && count == 3 && !r->section) {
        return add_policy(r->config, f[1], f[2], err);
    }
    if (count == 3) {
        return cmif_fail(err, CMIF_E_FORMAT, "expected one value; put \" around one that has spaces");
    }
    if (!strcmp(f[0], "upstream")) {
        return begin_section(r, f[1], err);
    }
    if (!strcmp(f[0], "weight")) {
        return take_weight(r, f[1], err);
    }
    const char  *name = !strcmp(f[0], "url") ? "upstream" : f[0];
    const size_t i    = cmif_options_find(&command, name);
    if (i < OPTION_COUNT &&
        (options[i].value == &o.config || options[i].value == &o.check || options[i].value == &o.fields)) {
        return cmif_fail(err, CMIF_E_FORMAT, "'%s' belongs on the command line", name);
    }
    if (r->section && i < OPTION_COUNT && !is_upstreams(i)) {
        return cmif_fail(err, CMIF_E_FORMAT, "'%s' is no upstream's: it belongs above the first upstream", name);
    }
    if (i < OPTION_COUNT && r->seen[i]) {
        return cmif_fail(err, CMIF_E_FORMAT, "'%s' was given before", f[0]);
    }
    rc = cmif_options_line(&command, name, f[1], r->sources, err);
    if (rc == CMIF_OK) {
        r->seen[i] = true;
    }
    return rc;
}

static cmif_code take_text(reading *r, size_t size, cmif_err *err)
{
    char     *at = r->config->text, *end = at + size;
    cmif_code rc = CMIF_OK;
    if (memchr(at, 0, size)) {
        return cmif_fail(err, CMIF_E_FORMAT, "it is no text: it has a zero byte");
    }
    for (r->line = 1; at < end; r->line++) {
        char *stop = memchr(at, '\n', (size_t) (end - at));
        stop       = stop ? stop : end; /* there is a zero behind the text */
        *stop      = '\0';
        rc         = take_line(r, at, err);
        at         = stop + 1;
        if (rc != CMIF_OK) {
            break;
        }
    }
    rc = rc == CMIF_OK ? end_section(r, err) : rc;
    if (rc != CMIF_OK) {
        cmif_err_context(err, "line %u", r->line);
        return rc;
    }
    if (r->section && r->above[cmif_options_find(&command, "name")] != CMIF_FROM_DEFAULT) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "'name' is for one upstream: with several, a name stands behind 'upstream'");
    }
    o = r->section ? r->base : o; /* what is nobody's in particular */
    return CMIF_OK;
}

static cmif_code read_file(const char *path, char **out, size_t *size, cmif_err *err)
{
    FILE     *file = fopen(path, "re");
    char     *text = file ? malloc(CMIF_CONFIG_SIZE_MAX + 2) : NULL;
    cmif_code rc   = CMIF_OK;
    if (!file) {
        return cmif_fail(err, CMIF_E_IO, "cannot read it: %s", strerror(errno));
    }
    *size = text ? fread(text, 1, CMIF_CONFIG_SIZE_MAX + 1, file) : 0;
    if (!text) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a file");
    } else if (ferror(file)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read it: is it a file?");
    } else if (*size > CMIF_CONFIG_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "it is larger than %d bytes", CMIF_CONFIG_SIZE_MAX);
    }
    fclose(file);
    if (rc == CMIF_OK) {
        text[*size] = '\0';
        *out        = text;
        text        = NULL;
    }
    free(text);
    return rc;
}

/* ---- all of it ---- */

/* Where a secret lies: systemd's credentials go before the folder that we were started in. */
static cmif_code find_secret(cmif_gateway_config *c, const char **path, cmif_err *err)
{
    char        buffer[PATH_MAX];
    const char *found = cmif_systemd_credential(*path, buffer);
    if (found != *path) {
        char *kept = c->path_count < CMIF_CONFIG_PATHS_MAX ? strdup(found) : NULL;
        if (!kept) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for the path of a secret");
        }
        *path = c->paths[c->path_count++] = kept;
    }
    return CMIF_OK;
}

static cmif_code find_secrets(cmif_gateway_config *c, cmif_err *err)
{
    const char **of_all[] = {&c->keys, &c->tls_cert, &c->tls_key};
    cmif_code    rc       = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < 3; i++) {
        rc = find_secret(c, of_all[i], err);
    }
    for (size_t u = 0; u < c->upstream_count; u++) {
        const char **of_one[] = {&c->upstreams[u].key_file, &c->upstreams[u].there.cert, &c->upstreams[u].there.key};
        for (size_t i = 0; rc == CMIF_OK && i < 3; i++) {
            rc = find_secret(c, of_one[i], err);
        }
    }
    return rc;
}

static cmif_code finish(cmif_gateway_config *c, cmif_err *err)
{
    c->listen        = o.listen;
    c->keys          = o.keys;
    c->tls_cert      = o.tls_cert;
    c->tls_key       = o.tls_key;
    c->guard         = o.there.guard;
    c->conversations = o.conversations;
    c->idle          = o.idle;
    c->silence       = o.silence;
    if (!o.tls_cert != !o.tls_key) {
        return cmif_fail(err, CMIF_E_RANGE, "--tls-cert and --tls-key belong together");
    }
    if (c->guard.policy && !strcmp(c->guard.policy, "channel")) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--policy channel is for measuring: choose names, topics, words, none, or a file");
    }
    cmif_code rc = c->upstream_count ? CMIF_OK : add_upstream(c, o.name, 1, 0, err);
    return rc == CMIF_OK ? find_secrets(c, err) : rc;
}

static cmif_code parse(cmif_gateway_config *c, size_t size, cmif_option_source *sources, cmif_err *err)
{
    reading r = {.config = c};
    memcpy(r.sources, sources, sizeof r.sources);
    return take_text(&r, size, err);
}

cmif_code cmif_gateway_config_parse(const void *text, size_t size, cmif_gateway_config *out, cmif_err *err)
{
    cmif_option_source  sources[OPTIONS_MAX] = {0};
    cmif_gateway_config c                    = {.text = malloc(size + 1)};
    if (!c.text) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a file");
    }
    if (size) {
        memcpy(c.text, text, size);
    }
    c.text[size] = '\0';
    o            = defaults;
    cmif_code rc = parse(&c, size, sources, err);
    rc           = rc == CMIF_OK ? finish(&c, err) : rc;
    if (rc == CMIF_OK) {
        *out = c;
    } else {
        cmif_gateway_config_wipe(&c);
    }
    return rc;
}

cmif_code cmif_gateway_config_read(int argc, char **argv, cmif_gateway_config *out, cmif_err *err)
{
    cmif_option_source  sources[OPTIONS_MAX] = {0};
    cmif_gateway_config c                    = {0};
    int                 rest                 = 0;
    size_t              size                 = 0;

    o            = defaults;
    cmif_code rc = cmif_options_take(&command, argc, argv, &rest, sources, err);
    if (rc == CMIF_OK && rest > 0) {
        rc = cmif_fail(err, CMIF_E_RANGE, "the gateway takes options only");
    }
    if (rc == CMIF_OK) {
        rc = cmif_options_environment(&command, sources, err);
    }
    c.fields = o.fields;
    if (rc == CMIF_OK && c.fields) {
        *out = c;
        return CMIF_OK;
    }
    c.check = o.check;
    c.file  = o.config;
    if (rc == CMIF_OK && c.file) {
        rc = read_file(c.file, &c.text, &size, err);
        rc = rc == CMIF_OK ? parse(&c, size, sources, err) : rc;
        if (rc != CMIF_OK) {
            cmif_err_context(err, "'%s'", c.file);
        }
    }
    rc = rc == CMIF_OK ? finish(&c, err) : rc;
    if (rc == CMIF_OK) {
        *out = c;
    } else {
        cmif_gateway_config_wipe(&c);
    }
    return rc;
}

void cmif_gateway_config_wipe(cmif_gateway_config *c)
{
    for (size_t i = 0; i < c->path_count; i++) {
        free(c->paths[i]);
    }
    free(c->text);
    *c = (cmif_gateway_config){0};
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_upstream(const cmif_config_upstream *a, const cmif_config_upstream *b)
{
    const cmif_client_options *x = &a->there, *y = &b->there;
    return a->kind == b->kind && a->weight == b->weight && a->any_version == b->any_version && same(a->name, b->name) &&
           same(a->url, b->url) && same(a->key_file, b->key_file) && same(a->served, b->served) &&
           same(x->model, y->model) && same(x->server, y->server) && same(x->pin, y->pin) && same(x->ca, y->ca) &&
           same(x->cert, y->cert) && same(x->key, y->key) && same(x->peer_policy, y->peer_policy) &&
           x->peer_fresh == y->peer_fresh && x->sessions == y->sessions && x->context == y->context &&
           x->threads == y->threads;
}

const char *cmif_gateway_config_fixed(const cmif_gateway_config *a, const cmif_gateway_config *b)
{
    if (a->upstream_count != b->upstream_count) {
        return "upstream";
    }
    for (size_t i = 0; i < a->upstream_count; i++) {
        if (!same_upstream(&a->upstreams[i], &b->upstreams[i])) {
            return "upstream";
        }
    }
    return !same(a->listen, b->listen)            ? "listen"
           : a->silence != b->silence             ? "silence"
           : a->conversations != b->conversations ? "conversations"
           : a->idle != b->idle                   ? "idle"
                                                  : NULL;
}
