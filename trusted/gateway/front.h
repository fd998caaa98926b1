/* front - what the parts of the gateway's front share: http.c (who may ask, and for what), exchange.c (a POST from its release to its last byte),
 * about.c (what is there).
 *
 * Sees    plaintext. */
#ifndef CMIF_GATEWAY_FRONT_H
#define CMIF_GATEWAY_FRONT_H

#include "gateway/http.h"

#include "gateway/access.h"

#include <event2/http.h>
#include <openssl/ssl.h>
#include <sys/queue.h>

TAILQ_HEAD(cmif_exchanges, cmif_exchange);

struct cmif_gateway {
    cmif_gateway_options        options; /* with the rules of now, but for their strings */
    char                        address[64];
    SSL_CTX                    *tls; /* NULL: plain HTTP */
    struct evhttp              *http;
    struct evhttp_bound_socket *socket;
    uint16_t                    port;
    cmif_access                *access;
    struct cmif_exchanges       exchanges, waiting; /* all; those whose entry is not on disk, oldest first */
    size_t                      busy, unsent; /* exchanges; answers that are made and not yet with the kernel */
    uint64_t                    number;
    bool                        draining;
    bool                        unfiled; /* receipts do not get to disk, and that was said */
    struct event               *tick;
    unsigned                    ticks;
    uint64_t                    requests[CMIF_ENDPOINTS][6]; /* by hundreds of their status */
    uint64_t                    words[CMIF_SPAN_CLASSES], draws, epsilon_micro, sent;
};

/* ---- http.c: answers without an upstream ---- */
int64_t cmif_front_now_us(void);
void    cmif_front_header(struct evhttp_request *http, const char *name, const char *value);
void    cmif_front_headers(const cmif_gateway *g, struct evhttp_request *http); /* those of every answer */
void    cmif_front_answer(cmif_gateway *g, struct evhttp_request *http, int status, const char *type, const void *bytes, size_t size);
/* code and param may be NULL; retry in seconds, 0: none. */
void    cmif_front_error(cmif_gateway *g, struct evhttp_request *http, int status, const char *code, const char *param, const char *sentence, uint32_t retry);

/* The policy of a key (NULL: nobody needs one), or of a name; NULL: there is none of that name. */
cmif_gateway_policy *cmif_front_policy(const cmif_gateway *g, const char *name);
cmif_gateway_policy *cmif_front_key_policy(const cmif_gateway *g, const cmif_access_key *key);
const char          *cmif_front_owner(const cmif_access_key *key); /* whose budget it is */

/* ---- edge.c: what libevent has no option for ---- */
/* Errors: IO, FORMAT (no certificate, no key, or not of each other), MEMORY. */
CMIF_MUST_USE cmif_code cmif_front_tls(const char *cert, const char *key, SSL_CTX **out, cmif_err *err);
/* A connection for evhttp_set_bevcb, of a gateway: TLS if there is any; a client that does not finish its request in time is cut off, and what libevent says
 * by itself to a request that is none is said as JSON. */
struct bufferevent *cmif_front_connection(struct event_base *base, void *gateway);
void                cmif_front_request_came(struct evhttp_request *http); /* whole */

/* ---- exchange.c ---- */
void cmif_front_post(cmif_gateway *g, struct evhttp_request *http, cmif_endpoint endpoint, cmif_access_key *key);
void cmif_front_end(cmif_gateway *g); /* every exchange, as it is */

/* ---- about.c ---- */
void cmif_front_json(cmif_gateway *g, struct evhttp_request *http, int status, json_t *tree); /* takes the tree */
void cmif_front_models(cmif_gateway *g, struct evhttp_request *http, const char *id);         /* NULL: all */
void cmif_front_ready(cmif_gateway *g, struct evhttp_request *http, bool reason); /* whether it says why not */
void cmif_front_metrics(cmif_gateway *g, struct evhttp_request *http);
void cmif_front_status(cmif_gateway *g, struct evhttp_request *http, const cmif_access_key *key);
void cmif_front_receipts(cmif_gateway *g, struct evhttp_request *http);
bool cmif_front_page(cmif_gateway *g, struct evhttp_request *http, const char *path); /* false: there is none */

#endif
