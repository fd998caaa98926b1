#include "cmif_gateway_models.h"

#include "gateway/pool.h"
#include "gateway/rows.h"
#include "gateway/split.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct model { /* one upstream of the configuration */
    const cmif_config_upstream *told;
    char                        name[256];
    cmif_client                 client;
    cmif_upstream              *upstream; /* NULL: a pool has it, or nothing was started */
} model;

struct cmif_models {
    model          all[CMIF_CONFIG_UPSTREAMS_MAX];
    size_t         count;
    cmif_upstream *served[CMIF_CONFIG_UPSTREAMS_MAX]; /* one for each name */
    size_t         served_count;
};

/* What -m says, for programs: the last part of a path, without .gguf. */
static void name_of(const char *what, char out[static 256])
{
    const char *end = what + strlen(what);
    while (end > what + 1 && end[-1] == '/') {
        end--;
    }
    const char *from = end;
    while (from > what && from[-1] != '/') {
        from--;
    }
    if (end - from > 5 && !strncmp(end - 5, ".gguf", 5)) {
        end -= 5;
    }
    snprintf(out, 256, "%.*s", (int) (end - from), from);
}

static cmif_code open_session(void *client, cmif_session **out, cmif_err *err)
{
    return cmif_client_session(client, out, err);
}

static cmif_code can_read(const char *path, cmif_err *err)
{
    return !path || access(path, R_OK) == 0 ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "cannot read '%s'", path);
}

/* The client half alone, for rows that go to somebody else's server, or for a look. */
static cmif_code load_half(model *m, bool make, cmif_err *err)
{
    m->client.options = m->told->there;
    cmif_code rc      = cmif_client_rule(&m->client, err);
    rc                = rc == CMIF_OK ? cmif_cache_halves(m->told->there.model, make, &m->client.halves, err) : rc;
    if (rc == CMIF_OK && !make && access(m->client.halves.client, R_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO, "'%s' was not split yet: 'cmif split', or the gateway's first start, does it",
                         m->told->there.model);
    }
    return rc == CMIF_OK ? cmif_client_load(m->client.halves.client, &m->client, err) : rc;
}

static cmif_code check_split(model *m, cmif_err *err)
{
    const cmif_client_options *c  = &m->told->there;
    cmif_code                  rc = load_half(m, false, err);
    if (rc == CMIF_OK && !c->server) {
        rc = can_read(m->client.halves.server, err);
    }
    rc = rc == CMIF_OK ? can_read(c->ca, err) : rc;
    rc = rc == CMIF_OK ? can_read(c->cert, err) : rc;
    return rc == CMIF_OK ? can_read(c->key, err) : rc;
}

static cmif_code open_split(struct event_base *base, model *m, uint32_t silence, cmif_err *err)
{
    cmif_code rc = cmif_client_open(&m->told->there, &m->client, err);
    if (rc == CMIF_OK) {
        const cmif_split_options split = {.name         = m->name,
                                          .model_id     = m->client.model_id,
                                          .tokenizer    = m->client.tokenizer,
                                          .chat         = m->client.chat,
                                          .no_chat      = m->client.no_chat.text,
                                          .first        = m->client.session,
                                          .open         = open_session,
                                          .context      = &m->client,
                                          .sessions     = m->told->there.sessions,
                                          .wait_seconds = silence};
        rc                             = cmif_split_new(base, &split, &m->upstream, err);
        m->client.session              = rc == CMIF_OK ? NULL : m->client.session;
    }
    return rc;
}

static cmif_code open_model(struct event_base *base, model *m, uint32_t silence, bool start, cmif_err *err)
{
    const cmif_config_upstream *u     = m->told;
    const cmif_openai_options   there = {.url             = u->url,
                                         .model           = u->kind == CMIF_KIND_OPENAI ? u->there.model
                                                            : u->served                 ? u->served
                                                                                        : m->name,
                                         .name            = m->name,
                                         .key_file        = u->key_file,
                                         .pin             = u->there.pin,
                                         .ca              = u->there.ca,
                                         .silence_seconds = silence};
    switch (u->kind) {
    case CMIF_KIND_CMIF:
        return start ? open_split(base, m, silence, err) : check_split(m, err);
    case CMIF_KIND_OPENAI:
        return cmif_openai_new(base, &there, &m->upstream, err);
    default:
        break;
    }
    cmif_code rc = load_half(m, start, err);
    if (rc == CMIF_OK) {
        const cmif_rows_options rows = {.there       = there,
                                        .kind        = u->kind == CMIF_KIND_VLLM ? CMIF_ROWS_VLLM : CMIF_ROWS_SGLANG,
                                        .any_version = u->any_version,
                                        .model_id    = m->client.model_id,
                                        .arch        = m->client.arch,
                                        .tokenizer   = m->client.tokenizer,
                                        .chat        = m->client.chat,
                                        .no_chat     = m->client.no_chat.text,
                                        .embed       = m->client.embed};
        rc                           = cmif_rows_new(base, &rows, &m->upstream, err);
    }
    return rc;
}

/* Upstreams of one name become one: by itself, or as a pool, which then has them. */
static cmif_code serve(struct event_base *base, cmif_models *all, size_t first, cmif_err *err)
{
    cmif_pool_member members[CMIF_POOL_MEMBERS_MAX];
    cmif_upstream   *pool  = NULL;
    size_t           count = 0;
    for (size_t i = 0; i < all->count; i++) {
        const bool same = !strcmp(all->all[i].name, all->all[first].name);
        if (same && i < first) {
            return CMIF_OK; /* it was its turn */
        }
        if (same && count == CMIF_POOL_MEMBERS_MAX) {
            return cmif_fail(err, CMIF_E_RANGE, "more than %d upstreams share a name", CMIF_POOL_MEMBERS_MAX);
        }
        if (same) {
            members[count++] = (cmif_pool_member){all->all[i].upstream, all->all[i].told->weight};
        }
    }
    if (count == 1) {
        all->served[all->served_count++] = members[0].upstream;
        all->all[first].upstream         = NULL;
        return CMIF_OK;
    }
    const cmif_code rc = cmif_pool_new(base, all->all[first].name, members, count, &pool, err);
    for (size_t i = 0; rc == CMIF_OK && i < all->count; i++) {
        if (!strcmp(all->all[i].name, all->all[first].name)) {
            all->all[i].upstream = NULL;
        }
    }
    if (rc == CMIF_OK) {
        all->served[all->served_count++] = pool;
    }
    return rc;
}

cmif_code cmif_models_open(struct event_base *base, const cmif_gateway_config *config, bool start, cmif_models **out,
                           cmif_err *err)
{
    cmif_models *all = calloc(1, sizeof *all);
    cmif_code    rc  = all ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for models");
    *out             = all;
    for (size_t i = 0; rc == CMIF_OK && i < config->upstream_count; i++) {
        model *m = &all->all[all->count++];
        m->told  = &config->upstreams[i];
        if (m->told->name) {
            snprintf(m->name, sizeof m->name, "%s", m->told->name);
        } else if (m->told->kind == CMIF_KIND_OPENAI) {
            snprintf(m->name, sizeof m->name, "%s", m->told->there.model);
        } else {
            name_of(m->told->there.model, m->name);
        }
        rc = open_model(base, m, config->silence, start, err);
        if (rc != CMIF_OK && m->told->line) {
            cmif_err_context(err, "'%s', upstream of line %u", config->file, m->told->line);
        }
    }
    for (size_t i = 0; rc == CMIF_OK && start && i < all->count; i++) {
        rc = serve(base, all, i, err);
    }
    return rc;
}

void cmif_models_free(cmif_models *all)
{
    if (!all) {
        return;
    }
    for (size_t i = 0; i < all->served_count; i++) {
        all->served[i]->kind->free(all->served[i]);
    }
    for (size_t i = 0; i < all->count; i++) {
        if (all->all[i].upstream) {
            all->all[i].upstream->kind->free(all->all[i].upstream);
        }
        cmif_client_close(&all->all[i].client);
    }
    free(all);
}

void cmif_models_list(const cmif_models *all, cmif_gateway_options *options)
{
    memcpy(options->upstreams, all->served, all->served_count * sizeof *all->served);
    options->upstream_count = all->served_count;
}

bool cmif_models_server_ended(const cmif_models *all)
{
    for (size_t i = 0; i < all->count; i++) {
        siginfo_t ended = {0};
        if (all->all[i].client.server &&
            waitid(P_PID, (id_t) cmif_private_server_pid(all->all[i].client.server), &ended,
                   WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid) {
            return true;
        }
    }
    return false;
}

void cmif_models_print(const cmif_models *all)
{
    for (size_t i = 0; i < all->count; i++) {
        const model                *m      = &all->all[i];
        const cmif_config_upstream *u      = m->told;
        char                        id[13] = "";
        cmif_hex(m->client.model_id, 6, id);
        printf("model %s: %s at %s", m->name, cmif_config_kind_name(u->kind),
               u->url            ? u->url
               : u->there.server ? u->there.server
                                 : "a private server");
        if (m->client.file) {
            printf(", id %s", id);
        }
        printf(", weight %u\n", u->weight);
    }
}
