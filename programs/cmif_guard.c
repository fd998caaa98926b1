#include "cmif_guard.h"

#include "cmif_cache.h"
#include "cmif_figures.h"
#include "cmif_terminal.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define TABLE_FILE "channel.cmifch"
#define LISTS_FILE "lists.gguf"

/* ---- opening ---- */

/* The file of this name that `cmif setup` makes. */
static cmif_code find_made(const char *name, const char *what, char path[static PATH_MAX], cmif_err *err)
{
    char      folder[PATH_MAX];
    cmif_code rc = cmif_cache_folder(folder, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX || access(path, R_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO,
                         "the policy needs %s, and there is none: run 'cmif setup' once, or choose another --policy "
                         "('none' sends the text as it is)",
                         what);
    }
    return CMIF_OK;
}

/* Policies by name: those that trusted/sanitizer/policy.c has come first. */
static const char *const named[] = {"names", "topics", "words", "none", "channel"};
enum { OURS = 3, NAMED = 5, NOT_NAMED = 6 };

static size_t which(const char *name)
{
    size_t i = 0;
    while (i < NAMED && strcmp(name, named[i]) != 0) {
        i++;
    }
    return i < NAMED ? i : NOT_NAMED;
}

cmif_code cmif_guard_check(const cmif_guard_options *o, cmif_err *err)
{
    const char *name = o->policy ? o->policy : "topics";
    if (which(name) == NOT_NAMED && !strchr(name, '/') && !strchr(name, '.') && access(name, F_OK) != 0) {
        const char *near = cmif_nearest(name, named, NAMED);
        return cmif_fail(err, CMIF_E_RANGE, "--policy takes names, topics, words, none, or a file%s%s%s",
                         near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (o->stop_words && strcmp(o->stop_words, "pass") != 0 && strcmp(o->stop_words, "protect") != 0) {
        return cmif_fail(err, CMIF_E_RANGE, "--stop-words takes pass or protect");
    }
    if (o->stop_words && (!strcmp(name, "none") || !strcmp(name, "channel"))) {
        return cmif_fail(err, CMIF_E_RANGE, "--policy %s knows no stop words: leave out --stop-words", name);
    }
    bool protect = o->stop_words && !strcmp(o->stop_words, "protect");
    if (!o->several && (o->channel || o->no_guarantee) &&
        ((!strcmp(name, "names") && !protect) || !strcmp(name, "none"))) {
        return cmif_fail(err, CMIF_E_RANGE, "--policy %s sends nothing through a channel: leave out --%s", name,
                         o->channel ? "channel" : "no-guarantee");
    }
    return CMIF_OK;
}

static bool draws(const cmif_policy *p)
{
    bool any = false;
    for (size_t i = 0; i < CMIF_SPAN_CLASSES; i++) {
        any = any || p->actions[i] == CMIF_ACTION_CHANNEL;
    }
    return any;
}

static cmif_code open_table(const char *path, cmif_guard *g, cmif_err *err)
{
    char      made[PATH_MAX];
    cmif_code rc = path ? CMIF_OK : find_made(TABLE_FILE, "a channel", made, err);
    if (rc == CMIF_OK) {
        rc = cmif_table_open(path ? path : made, &g->table, &g->certificate, err);
    }
    if (rc == CMIF_OK && g->policy && g->policy->actions[CMIF_SPAN_STOP] == CMIF_ACTION_CHANNEL) {
        uint32_t the = cmif_table_find(g->table, (cmif_str){"the", 3});
        if (the != CMIF_NO_WORD && cmif_table_passes(g->table, the)) {
            rc = cmif_fail(err, CMIF_E_RANGE,
                           "the policy protects function words, and this channel lets them pass: build one with 'cmif "
                           "channel build "
                           "--protect-all' and name it with --channel");
        }
    }
    return rc;
}

static cmif_code open_conversation(cmif_guard *g, cmif_err *err)
{
    cmif_conversation_options options = {
        .policy = g->policy, .lists = g->lists, .table = g->table, .no_guarantee = g->no_guarantee};
    return cmif_conversation_new(&options, &g->conversation, err);
}

cmif_code cmif_guard_open(const cmif_guard_options *o, bool books, cmif_guard *g, cmif_err *err)
{
    const char *name = o->policy ? o->policy : "topics";
    char        path[PATH_MAX];
    cmif_code   rc = cmif_guard_check(o, err);

    *g      = (cmif_guard){.no_guarantee = o->no_guarantee};
    g->kind = !strcmp(name, "none")      ? CMIF_GUARD_NONE
              : !strcmp(name, "channel") ? CMIF_GUARD_CHANNEL
                                         : CMIF_GUARD_POLICY;
    if (rc == CMIF_OK && g->kind == CMIF_GUARD_POLICY) {
        rc = which(name) < OURS ? cmif_policy_named(name, &g->policy, err) : cmif_policy_open(name, &g->policy, err);
    }
    if (rc == CMIF_OK && g->policy && o->stop_words) {
        rc = cmif_policy_stop_words(g->policy,
                                    !strcmp(o->stop_words, "protect") ? CMIF_ACTION_CHANNEL : CMIF_ACTION_PASS, err);
    }
    bool drawn = g->kind == CMIF_GUARD_CHANNEL || (rc == CMIF_OK && g->policy && draws(g->policy));
    if (rc == CMIF_OK && !drawn && !o->several && (o->channel || o->no_guarantee)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "this policy sends nothing through a channel: leave out --%s",
                       o->channel ? "channel" : "no-guarantee");
    }
    if (rc == CMIF_OK && g->kind == CMIF_GUARD_POLICY) {
        rc = find_made(LISTS_FILE, "the public lists", path, err);
        if (rc == CMIF_OK) {
            rc = cmif_lists_open(path, &g->lists, err);
        }
    }
    if (rc == CMIF_OK && drawn) {
        rc = open_table(o->channel, g, err);
        if (rc == CMIF_OK && g->kind == CMIF_GUARD_CHANNEL) {
            rc = cmif_sanitizer_new(g->table, o->no_guarantee, &g->sanitizer, err);
        }
        if (rc != CMIF_OK && o->channel && !strstr(err->text, o->channel)) {
            cmif_err_context(err, "channel '%s'", o->channel);
        }
    }
    if (rc == CMIF_OK && g->kind == CMIF_GUARD_POLICY) {
        rc = open_conversation(g, err);
    }
    if (rc == CMIF_OK && books && g->kind != CMIF_GUARD_NONE) {
        rc = cmif_data_folder(path, err);
        if (rc == CMIF_OK) {
            rc = cmif_books_open(&g->books, path, g->table, &g->certificate, g->policy, err);
        }
    }
    return rc == CMIF_OK ? cmif_tab_open(&g->tab, &g->books, "local", err) : rc;
}

void cmif_guard_close(cmif_guard *g)
{
    cmif_tab_close(&g->tab);
    cmif_books_close(&g->books);
    cmif_conversation_free(g->conversation);
    cmif_sanitizer_free(g->sanitizer);
    cmif_table_free(g->table);
    cmif_lists_free(g->lists);
    cmif_policy_free(g->policy);
    *g = (cmif_guard){0};
}

cmif_code cmif_guard_renew(cmif_guard *g, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (g->conversation) {
        cmif_conversation_free(g->conversation);
        g->holds        = false;
        g->conversation = NULL; /* what fails from here on releases nothing more */
        rc              = open_conversation(g, err);
    }
    return rc == CMIF_OK ? cmif_tab_renew(&g->tab, err) : rc;
}

/* ---- releasing ---- */

static void total(cmif_guard *g, const cmif_counts *counts, const cmif_sanitized *what)
{
    cmif_guard_totals *t = &g->totals;
    for (size_t c = CMIF_SPAN_OTHER + 1; c < CMIF_SPAN_CLASSES; c++) {
        for (size_t a = 0; a < 4; a++) {
            t->by_class[c][a] += counts->by_class[c][a];
        }
        t->passed += counts->by_class[c][CMIF_ACTION_PASS];
        t->surrogates += counts->by_class[c][CMIF_ACTION_SURROGATE];
    }
    t->draws += counts->draws;
    t->repeated += what->repeated;
    t->constants += what->constants;
    t->epsilon_micro += counts->draws * cmif_books_micro(&g->certificate);
}

/* held: entered with the next one. */
static cmif_code release_by_policy(cmif_guard *g, const cmif_secret *text, bool held, cmif_released **out,
                                   cmif_left *left, cmif_err *err)
{
    cmif_sanitized what = {0};
    if (!g->conversation) {
        return cmif_fail(err, CMIF_E_IO, "there is no conversation: starting it failed");
    }
    if (g->holds) { /* one budget for all that leaves together */
        cmif_conversation_more(g->conversation);
    }
    cmif_code rc = cmif_conversation_prepare(g->conversation, text->data, text->size, &what, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    cmif_counts counts = {.draws = what.draws};
    memcpy(counts.by_class, what.by_class, sizeof counts.by_class);
    rc = held ? CMIF_OK : cmif_tab_enter(&g->tab, &counts, err);
    if (rc != CMIF_OK) {
        cmif_conversation_drop(g->conversation);
        return rc;
    }
    cmif_left ignored;
    left = left ? left : &ignored;
    *out = cmif_conversation_take(g->conversation, &left->spans, &left->count);
    if (held) {
        cmif_tab_note(&g->tab, &counts, *out);
    } else {
        cmif_tab_seal(&g->tab, *out);
    }
    g->holds = held;
    total(g, &counts, &what);
    return CMIF_OK;
}

static cmif_code release_by_channel(cmif_guard *g, const cmif_secret *text, bool held, cmif_released **out,
                                    cmif_err *err)
{
    cmif_release_counts n        = {0};
    cmif_released      *released = NULL;
    cmif_code           rc       = cmif_dp_release_channel(g->sanitizer, text->data, text->size, &n, &released, err);
    cmif_counts         counts   = {.draws = n.drawn};
    counts.by_class[CMIF_SPAN_WORD][CMIF_ACTION_PASS]       = n.passed;
    counts.by_class[CMIF_SPAN_WORD][CMIF_ACTION_CHANNEL]    = n.drawn;
    counts.by_class[CMIF_SPAN_UNKNOWN][CMIF_ACTION_CHANNEL] = n.unknown;
    if (rc == CMIF_OK && !held) {
        rc = cmif_tab_enter(&g->tab, &counts, err);
    }
    if (rc != CMIF_OK) {
        cmif_released_free(released);
        return rc;
    }
    if (held) {
        cmif_tab_note(&g->tab, &counts, released);
    } else {
        cmif_tab_seal(&g->tab, released);
    }
    total(g, &counts, &(cmif_sanitized){0});
    g->totals.unknown += n.unknown;
    *out = released;
    return CMIF_OK;
}

static cmif_code release(cmif_guard *g, cmif_secret *text, bool held, cmif_released **out, cmif_left *left,
                         cmif_err *err)
{
    cmif_code rc = cmif_check_utf8(text->data, text->size, err);
    if (rc == CMIF_OK) {
        switch (g->kind) {
        case CMIF_GUARD_NONE:
            rc = cmif_dp_release_identity(text->data, text->size, out, err);
            break;
        case CMIF_GUARD_CHANNEL:
            rc = release_by_channel(g, text, held, out, err);
            break;
        case CMIF_GUARD_POLICY:
            rc = release_by_policy(g, text, held, out, left, err);
            break;
        }
    }
    cmif_secret_wipe(text);
    return rc;
}

cmif_code cmif_guard_hold(cmif_guard *g, cmif_secret *text, cmif_released **out, cmif_err *err)
{
    return release(g, text, true, out, NULL, err);
}

cmif_code cmif_guard_release(cmif_guard *g, cmif_secret *text, cmif_released **out, cmif_left *left, cmif_err *err)
{
    if (left) {
        *left = (cmif_left){0};
    }
    return release(g, text, false, out, left, err);
}

/* ---- answers ---- */

cmif_code cmif_guard_restorer(const cmif_guard *g, bool json, cmif_restore **out, cmif_err *err)
{
    const cmif_vault *vault = g->conversation ? cmif_conversation_vault(g->conversation) : NULL;
    *out                    = NULL;
    return vault && cmif_vault_count(vault) > 0 ? cmif_restore_new(vault, json, out, err) : CMIF_OK;
}

void cmif_guard_restored(cmif_guard *g, const cmif_restore_counts *counts)
{
    g->totals.restored += counts->restored;
    g->totals.left += counts->left;
}

cmif_code cmif_guard_receipt(cmif_guard *g, const uint8_t model_id[static 32], const void *answer, size_t size,
                             cmif_err *err)
{
    uint64_t number;
    return cmif_tab_receipt(&g->tab, model_id, answer, size, &number, err);
}

/* ---- what may be said ---- */

/* "certified epsilon 0.8 for each, between any two words of one block". */
static void certified(const cmif_guard *g, char *out, size_t room)
{
    char figure[96];
    if (g->table->claim.adjacency == CMIF_ADJACENT_NONE) {
        snprintf(out, room, "a baseline that guarantees nothing, as you asked");
        return;
    }
    cmif_figures_certified(&g->certificate, g->table, figure, sizeof figure);
    /* a conversation remembers what it drew, so that equal words stay equal */
    bool equal = g->kind == CMIF_GUARD_POLICY && !(g->certificate.pure && g->certificate.epsilon_micro == 0);
    snprintf(out, room, "certified %s for each, between %s%s", figure,
             cmif_adjacency_sentence(g->table->claim.adjacency), equal ? ", and which words are equal" : "");
}

/* What a file tells to leave otherwise than as something made up: ", but date and time do not". */
static void put_exceptions(const cmif_policy *p, char *out, size_t room)
{
    size_t count = 0;
    for (size_t c = CMIF_SPAN_EMAIL; c < CMIF_SPAN_CLASSES; c++) {
        size_t used = strlen(out);
        if (p->actions[c] < CMIF_ACTION_SURROGATE) {
            snprintf(out + used, room - used, "%s%s",
                     count++ ? ", " : " (your file says otherwise of: ", cmif_span_class_name((cmif_span_class) c));
        }
    }
    size_t used = strlen(out);
    if (p->allow_count) {
        snprintf(out + used, room - used, "%s%zu name%s that it allows",
                 count++ ? ", and of " : " (your file says otherwise of: ", p->allow_count,
                 p->allow_count > 1 ? "s" : "");
        used = strlen(out);
    }
    snprintf(out + used, room - used, "%s", count ? ")" : "");
}

void cmif_guard_sentence(const cmif_guard *g, char *out, size_t room)
{
    char channel[256] = "", exceptions[256] = "";
    if (g->kind == CMIF_GUARD_NONE) {
        snprintf(out, room, "none: every word leaves as it is written");
        return;
    }
    if (g->table) {
        certified(g, channel, sizeof channel);
    }
    if (g->kind == CMIF_GUARD_CHANNEL) {
        snprintf(out, room,
                 "words leave through the channel, %s; function words, and all that is no word, leave as written",
                 channel);
        return;
    }
    const cmif_action *a     = g->policy->actions;
    bool               even  = a[CMIF_SPAN_TOPIC] != CMIF_ACTION_PASS;
    const char        *drawn = a[CMIF_SPAN_WORD] == CMIF_ACTION_CHANNEL
                                   ? even ? "ordinary words" : "ordinary words that are of no sensitive topic"
                               : a[CMIF_SPAN_TOPIC] == CMIF_ACTION_CHANNEL ? "words of sensitive topics"
                                                                           : "";
    const char        *stop  = a[CMIF_SPAN_STOP] == CMIF_ACTION_CHANNEL ? "function words" : "";
    put_exceptions(g->policy, exceptions, sizeof exceptions);
    snprintf(
        out, room,
        "names, places, organisations, codes, dates, numbers and unknown words leave as made-up ones, drawn from "
        "nothing but their type and shape%s; %s%s%s%s%s%severy other word leaves as written, and nothing is promised "
        "for it",
        exceptions, drawn, *drawn && *stop ? " and " : "", stop, *channel ? " leave through the channel, " : "",
        channel, *channel ? "; " : "");
}

void cmif_guard_counts(const cmif_guard *g, cmif_action action, char *out, size_t room)
{
    out[0] = '\0';
    for (size_t c = CMIF_SPAN_OTHER + 1; c < CMIF_SPAN_CLASSES; c++) {
        uint64_t n    = g->totals.by_class[c][action];
        size_t   used = strlen(out);
        if (n) {
            snprintf(out + used, room - used, "%s%" PRIu64 " %s", used ? ", " : "", n,
                     cmif_span_class_name((cmif_span_class) c));
        }
    }
}

json_t *cmif_guard_json(const cmif_guard *g)
{
    char sentence[768], hash[65] = "", figure[96], mechanism[96];
    if (g->kind == CMIF_GUARD_NONE) {
        return json_null();
    }
    cmif_guard_sentence(g, sentence, sizeof sentence);
    const cmif_guard_totals *t      = &g->totals;
    json_t                  *object = json_pack(
                         "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I}", "policy", g->policy ? g->policy->base : "channel",
                         "guarantee", sentence, "drawn", (json_int_t) t->draws, "repeated", (json_int_t) t->repeated, "constants",
                         (json_int_t) t->constants, "passed", (json_int_t) t->passed, "unknown", (json_int_t) t->unknown, "surrogates",
                         (json_int_t) t->surrogates, "epsilon", (double) t->epsilon_micro / 1e6, "restored", (json_int_t) t->restored,
                         "look_alikes_left", (json_int_t) t->left);
    json_t *classes = object ? json_object() : NULL;
    for (size_t c = CMIF_SPAN_OTHER + 1; classes && c < CMIF_SPAN_CLASSES; c++) {
        const uint64_t *n      = t->by_class[c];
        json_t         *counts = n[0] | n[1] | n[2] ? json_object() : NULL;
        for (size_t a = 0; counts && a < CMIF_ACTION_REFUSE; a++) {
            if (n[a]) {
                json_object_set_new(counts, cmif_action_name((cmif_action) a), json_integer((json_int_t) n[a]));
            }
        }
        if (counts) {
            json_object_set_new(classes, cmif_span_class_name((cmif_span_class) c), counts);
        }
    }
    if (classes) {
        json_object_set_new(object, "classes", classes);
    }
    if (object && g->policy) {
        cmif_hex(g->policy->hash, 32, hash);
        json_object_set_new(object, "policy_sha256", json_string(hash));
        cmif_hex(cmif_lists_hash(g->lists), 32, hash);
        json_object_set_new(object, "lists_sha256", json_string(hash));
    }
    if (object && g->table) {
        cmif_hex(g->table->hash, 32, hash);
        cmif_figures_mechanism(&g->table->claim, mechanism, sizeof mechanism);
        cmif_figures_certified(&g->certificate, g->table, figure, sizeof figure);
        json_t *channel =
            json_pack("{s:s, s:s, s:s, s:s}", "mechanism", cmif_mechanism_name(g->table->claim.mechanism), "certified",
                      figure, "adjacency", cmif_adjacency_sentence(g->table->claim.adjacency), "table_sha256", hash);
        json_object_set_new(object, "channel", channel);
    }
    return object;
}
