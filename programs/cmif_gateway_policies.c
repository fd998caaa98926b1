#include "cmif_gateway_policies.h"

#include <stdlib.h>
#include <string.h>

enum { SENTENCE = 768 };

typedef struct house { /* a policy's, with all that it needs */
    struct house       *next_retired;
    cmif_gateway_policy about;
    char                name[PATH_MAX]; /* of one without a name of its own what --policy says */
    char                guarantee[SENTENCE];
    cmif_guard          guard;
    struct house       *was;   /* about.was */
    unsigned            lists; /* it is in so many, or was what others are */
    bool                emptied;
} house;

struct cmif_policies {
    house *all[CMIF_GATEWAY_POLICIES_MAX];
    size_t count;
};

static house *retired, gone; /* gone.was is the first one */

static void set_was(house *h, house *was)
{
    h->was       = was;
    h->about.was = was ? &was->about : NULL;
}

static void let_go(house *h)
{
    if (h && --h->lists == 0) {
        h->next_retired = retired;
        retired         = h;
    }
}

static void house_free(house *h)
{
    let_go(h->was);
    cmif_talks_free(h->about.talks);
    cmif_guard_close(&h->guard);
    free(h);
}

/* Of those that are in no list any more what nobody uses. */
static void free_unused(void)
{
    for (house **at = &retired; *at;) {
        house *h = *at;
        if (h->about.users == 0) {
            *at = h->next_retired;
            house_free(h);
        } else {
            at = &h->next_retired;
        }
    }
}

static cmif_code house_open(const char *name, const cmif_guard_options *options, const cmif_gateway_config *c,
                            house **out, cmif_err *err)
{
    house    *h  = calloc(1, sizeof *h);
    cmif_code rc = h ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
    if (rc == CMIF_OK) {
        rc = cmif_guard_open(options, /* books= */ !c->check, &h->guard, err);
    }
    if (rc == CMIF_OK) {
        const cmif_talks_options talks = {.policy       = h->guard.policy,
                                          .lists        = h->guard.lists,
                                          .table        = h->guard.table,
                                          .certificate  = h->guard.certificate,
                                          .no_guarantee = h->guard.no_guarantee,
                                          .books        = &h->guard.books,
                                          .most         = c->conversations,
                                          .idle_seconds = c->idle};
        rc                             = cmif_talks_new(&talks, &h->about.talks, err);
    }
    if (rc == CMIF_OK) {
        snprintf(h->name, sizeof h->name, "%s", name);
        cmif_guard_sentence(&h->guard, h->guarantee, sizeof h->guarantee);
        h->about.name      = h->name;
        h->about.policy    = h->guard.policy;
        h->about.books     = &h->guard.books;
        h->about.guarantee = h->guarantee;
        *out               = h;
        h                  = NULL;
    }
    if (h) {
        house_free(h);
    }
    return rc;
}

/* Would both do the same to a text, and say so? */
static bool same(const house *a, const house *b)
{
    return !strcmp(a->name, b->name) && a->guard.kind == b->guard.kind &&
           a->guard.no_guarantee == b->guard.no_guarantee &&
           (!a->guard.policy || !memcmp(a->guard.policy->hash, b->guard.policy->hash, sizeof a->guard.policy->hash)) &&
           (!a->guard.table || !memcmp(a->guard.table->hash, b->guard.table->hash, sizeof a->guard.table->hash)) &&
           (!a->guard.lists || !memcmp(cmif_lists_hash(a->guard.lists), cmif_lists_hash(b->guard.lists), 32));
}

static house *find(const cmif_policies *p, const char *name)
{
    size_t i = 0;
    while (p && i < p->count && strcmp(p->all[i]->name, name) != 0) {
        i++;
    }
    return p && i < p->count ? p->all[i] : NULL;
}

/* Of one that was before what tells it from others, and by what its conversations are known. */
static void empty(house *h)
{
    cmif_policy *policy = h->guard.policy;
    h->guard.policy     = NULL; /* about.policy */
    cmif_talks_close(h->about.talks);
    cmif_guard_close(&h->guard);
    h->guard.policy = policy;
    h->emptied      = true;
}

/* What it was before is emptied once nobody uses it, and goes with its last conversation. */
static void prune(house *h)
{
    while (h->was) {
        house *was = h->was;
        if (was->about.users == 0 && !was->emptied) {
            empty(was);
        }
        if (cmif_talks_count(was->about.talks) > 0) {
            h = was;
        } else {
            set_was(h, was->was);
            if (h->was) {
                h->was->lists++;
            }
            let_go(was);
        }
    }
}

static cmif_code add(cmif_policies *p, const char *name, const cmif_guard_options *options,
                     const cmif_gateway_config *c, const cmif_policies *before, cmif_err *err)
{
    house    *h  = NULL;
    cmif_code rc = house_open(name, options, c, &h, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "policy '%s'", name);
        return rc;
    }
    bool kept = false;
    for (size_t i = 0; before && i < before->count && !kept; i++) {
        kept = same(h, before->all[i]);
        if (kept) {
            house_free(h);
            h = before->all[i];
        }
    }
    house *was = kept ? NULL : find(before, h->name);
    if (was) {
        set_was(h, was);
        was->lists++;
    }
    h->lists++;
    p->all[p->count++] = h;
    return CMIF_OK;
}

cmif_code cmif_policies_open(const cmif_gateway_config *c, const cmif_policies *before, cmif_policies **out,
                             cmif_err *err)
{
    cmif_policies     *p    = calloc(1, sizeof *p);
    cmif_guard_options each = c->guard;
    size_t             first;
    cmif_code          rc = p ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for policies");

    for (first = 0; c->guard.policy && first < c->policy_count; first++) { /* a name of the file's own */
        if (!strcmp(c->guard.policy, c->policies[first].name)) {
            each.policy = c->policies[first].what;
            break;
        }
    }
    each.several = c->policy_count > 0;
    first        = each.policy == c->guard.policy ? c->policy_count : first;
    if (rc == CMIF_OK) {
        rc = add(p, c->guard.policy ? c->guard.policy : "topics", &each, c, before, err);
    }
    for (size_t i = 0; i < c->policy_count && rc == CMIF_OK; i++) {
        each.policy = c->policies[i].what;
        if (!strcmp(each.policy, "channel")) {
            rc = cmif_fail(err, CMIF_E_RANGE, "policy '%s': channel is for measuring", c->policies[i].name);
        } else if (i != first) {
            rc = add(p, c->policies[i].name, &each, c, before, err);
        }
    }
    if (rc == CMIF_OK) {
        *out = p;
        p    = NULL;
    }
    cmif_policies_free(p);
    return rc;
}

void cmif_policies_free(cmif_policies *p)
{
    for (size_t i = 0; p && i < p->count; i++) {
        let_go(p->all[i]);
    }
    free(p);
    free_unused();
}

void cmif_policies_succeed(const cmif_policies *now, const cmif_policies *before)
{
    for (size_t i = 0; i < before->count; i++) {
        house *h = before->all[i], *last = h;
        if (!find(now, h->name)) {
            while (last->was) {
                last = last->was;
            }
            set_was(last, gone.was);
            set_was(&gone, h);
            h->lists++;
        }
    }
}

void cmif_policies_sweep(const cmif_policies *p)
{
    for (size_t i = 0; p && i < p->count; i++) {
        prune(p->all[i]);
    }
    if (p) {
        prune(&gone);
    } else {
        let_go(gone.was);
        set_was(&gone, NULL);
    }
    free_unused();
}

void cmif_policies_rules(cmif_policies *p, cmif_gateway_rules *rules)
{
    for (size_t i = 0; i < p->count; i++) {
        rules->policies[i] = &p->all[i]->about;
    }
    rules->policy_count = p->count;
    rules->gone         = &gone.about;
}

void cmif_policies_print(const cmif_policies *p)
{
    for (size_t i = 0; i < p->count; i++) {
        printf("policy %s%s: %s\n", p->all[i]->name, i ? "" : " (of keys that name none)", p->all[i]->guarantee);
    }
}
