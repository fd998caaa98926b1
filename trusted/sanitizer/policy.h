/* policy - what is done with each class, and what a person allows or denies by name. A strict file: unknown keys are refused.
 *
 *     policy topics            # names, topics or words: what the rest starts from
 *     stop-words pass          # or protect
 *     class person surrogate   # surrogate, channel, pass or refuse
 *     class number pass
 *     allow "Acme"             # where whole spans say this they pass, counted
 *     deny "Project Halcyon"   # always a surrogate (class organisation, or the one that follows)
 *     budget request 50        # epsilon; also day and key
 *     weight health 0.5        # words of heavier blocks are drawn first, while the request's budget lasts; 1: no topic
 *
 * Names   `names`: typed entities and unknown words become surrogates, ordinary words pass. `topics`: also words of sensitive topics go
 *         through the channel. `words`: every content word goes through the channel.
 * Source  design.md section 4; docs/sanitizer.md has the table of defaults. */
#ifndef CMIF_SANITIZER_POLICY_H
#define CMIF_SANITIZER_POLICY_H

#include "side.h"

#include "sanitizer/entities.h"

enum { CMIF_TOPICS = 9 };

typedef enum cmif_action { CMIF_ACTION_PASS = 0, CMIF_ACTION_CHANNEL, CMIF_ACTION_SURROGATE, CMIF_ACTION_REFUSE } cmif_action;

typedef struct cmif_named { char *text; cmif_span_class class; } cmif_named; /* folded words, one space between, none in front of 's */

typedef struct cmif_policy {
    char        base[8];              /* "names", "topics", "words" */
    cmif_action actions[CMIF_SPAN_CLASSES];
    cmif_named *allow, *deny;
    size_t      allow_count, deny_count;
    double      budget_request, budget_day, budget_key; /* epsilon; INFINITY: none */
    double      weights[16];          /* by topic bit (lists.h); [CMIF_TOPICS] of them */
    uint8_t     hash[32];             /* SHA-256 of the canonical form */
} cmif_policy;

/* One of the three by name. Errors: RANGE (no such policy: the names), MEMORY. */
CMIF_MUST_USE cmif_code cmif_policy_named(const char *name, cmif_policy **out, cmif_err *err);
/* Errors: IO, FORMAT (line, what was expected and found), MEMORY. */
CMIF_MUST_USE cmif_code cmif_policy_open(const char *path, cmif_policy **out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_policy_parse(const char *text, size_t size, cmif_policy **out, cmif_err *err);
void                    cmif_policy_free(cmif_policy *policy); /* NULL is welcome */
/* The canonical text, which parses to the same policy; the caller's to free. NULL: no memory. */
char       *cmif_policy_text(const cmif_policy *policy);
const char *cmif_action_name(cmif_action action);
/* Whether a sorted list holds this text, and where it does or would: what begins with it stands from there on. */
bool cmif_named_find(const cmif_named *list, size_t count, const char *text, size_t *place);
/* What is done with function words ("--stop-words"): pass or channel; the hash follows. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_policy_stop_words(cmif_policy *policy, cmif_action action, cmif_err *err);
/* What b lets out and a does not, one by one: each (context, "class", "person"), ("budget", "day"), ("weight", "health"), ("allow", "acme") or,
 * for a name that b no longer denies, ("deny", "acme"). each may be NULL. Returns how many there are. */
typedef void (*cmif_policy_each)(void *context, const char *what, const char *name);
size_t cmif_policy_loosens(const cmif_policy *a, const cmif_policy *b, cmif_policy_each each, void *context);
/* Whether b lets nothing more out than a does: what a request may ask of a key's policy. */
bool cmif_policy_tightens(const cmif_policy *a, const cmif_policy *b);

#endif
