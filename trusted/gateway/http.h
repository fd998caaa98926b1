/* http - the gateway's front: OpenAI's endpoints on libevent, one thread, loopback unless there are keys.
 *
 * A request is read whole, taken apart, released, entered, and only then sent on; what goes wrong is an OpenAI-shaped error with a sentence. A client that
 * goes away takes its call with it. No log line and no metric holds a word.
 * A request leaves under the policy of its key, or a tighter one that it asks for; and a conversation that left under a tighter one goes on under that.
 *
 * Sees    plaintext. */
#ifndef CMIF_GATEWAY_HTTP_H
#define CMIF_GATEWAY_HTTP_H

#include "gateway/reply.h"

enum { CMIF_GATEWAY_UPSTREAMS_MAX = 64, CMIF_GATEWAY_POLICIES_MAX = 33 };

typedef struct cmif_gateway_policy { /* its owner's, and there until it is in no rules and users is 0 */
    const char        *name;      /* "topics", "strict": requests ask for it by X-CMIF-Policy */
    const cmif_policy *policy;    /* NULL: text leaves as it is */
    cmif_talks        *talks;
    const cmif_books  *books;     /* the talks' own: what is left today */
    const char        *guarantee; /* what it promises, one sentence, for /status */
    size_t             users;     /* exchanges; the gateway counts them */
    /* Before it was read again: what left under that one does not leave under a looser one than this; NULL. It may change between requests. */
    struct cmif_gateway_policy *was;
} cmif_gateway_policy;

typedef struct cmif_gateway_rules { /* what can be replaced while it runs: strings are borrowed for the call */
    const char          *keys_file;          /* NULL: nobody needs a key */
    const char          *tls_cert, *tls_key; /* PEM; NULL: plain HTTP */
    cmif_gateway_policy *policies[CMIF_GATEWAY_POLICIES_MAX]; /* the first is that of keys that name none */
    size_t               policy_count;
    /* Its was, that one's and so on were taken away: nobody can ask for one, and what left under it does not leave under a looser one; NULL. */
    const cmif_gateway_policy *gone;
} cmif_gateway_rules;

typedef struct cmif_gateway_options { /* all must outlive the gateway */
    struct event_base *base;
    const char        *address;   /* 127.0.0.1; another one needs keys */
    uint16_t           port;      /* 0: any free one */
    int                listening; /* a socket that listens already, taken on success, and what is above does not matter; 0: none */
    cmif_gateway_rules rules;
    cmif_upstream     *upstreams[CMIF_GATEWAY_UPSTREAMS_MAX];
    size_t             upstream_count;
    const char        *receipts;  /* receipts.jsonl, given out to programs of this machine; NULL: none */
    size_t             body_max;  /* bytes of a request's body; 0: 32 MiB */
    uint32_t           request_seconds; /* a client has for its request; 0: 120 */
} cmif_gateway_options;

typedef struct cmif_gateway cmif_gateway;

/* Listen. Errors: IO (the address is in use, no permission, files), RANGE (not loopback, and no keys; a key's policy that is none of the rules'), FORMAT (keys, certificate),
 * MEMORY. */
CMIF_MUST_USE cmif_code cmif_gateway_new(const cmif_gateway_options *options, cmif_gateway **out, cmif_err *err);
/* Whether cmif_gateway_new would take these keys, certificates and policies; nothing is opened. Errors: as its own. */
CMIF_MUST_USE cmif_code cmif_gateway_check(const cmif_gateway_options *options, cmif_err *err);
/* From the next request on; what is under way goes on as it began. On an error nothing has changed. Errors: as above, but for the address. */
CMIF_MUST_USE cmif_code cmif_gateway_reload(cmif_gateway *gateway, const cmif_gateway_rules *rules, cmif_err *err);
/* No entry of a request waits for the disk after this: other books on the same ledger would wait for it. */
void                    cmif_gateway_settle(cmif_gateway *gateway);
const char             *cmif_gateway_address(const cmif_gateway *gateway);
uint16_t                cmif_gateway_port(const cmif_gateway *gateway);
size_t                  cmif_gateway_busy(const cmif_gateway *gateway); /* requests under way, and answers that their clients have not taken */
void                    cmif_gateway_drain(cmif_gateway *gateway);      /* takes nothing new; what is under way goes on */
void                    cmif_gateway_free(cmif_gateway *gateway);

#endif
