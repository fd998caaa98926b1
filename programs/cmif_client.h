/* cmif_client - what run, chat, classify, embed and bench share: a model's client half, a server, a session, and the
 * account of what left the machine.
 *
 * Sees    released text, released and generated ids. */
#ifndef CMIF_PROGRAMS_CMIF_CLIENT_H
#define CMIF_PROGRAMS_CMIF_CLIENT_H

#include "cmif_cache.h"
#include "cmif_child.h"
#include "cmif_guard.h"
#include "cmif_options.h"
#include "cmif_terminal.h"
#include "cmif_unseal.h"

#include "chat/chat.h"
#include "embed/bayes.h"
#include "session/session.h"

#include <jansson.h>

typedef struct cmif_client_options {
    const char        *model, *server, *pin, *ca, *cert, *key, *rows, *lm;
    const char        *peer_policy;  /* NULL: no evidence is asked for */
    cmif_unseal_options unseal;      /* of a sealed client half */
    cmif_guard_options guard;
    bool               no_loop;
    uint32_t           context, threads, sessions, peer_fresh;
} cmif_client_options;
#define CMIF_CLIENT_DEFAULTS {.peer_fresh = CMIF_CLIENT_FRESH}
#define CMIF_CLIENT_FRESH 60 /* minutes */

/* The lines of an option table that every such command has; o is a cmif_client_options with static storage. */
#define CMIF_CLIENT_OPTIONS(o)                                                                                         \
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &(o).model, 0, 0, "GGUF file, folder of a split, or a pulled model"}, \
    {0, "server", "ADDR", CMIF_OPTION_TEXT, &(o).server, 0, 0, "HOST:PORT or unix:PATH (default: a private server)"}, \
    {0, "pin", "sha256:HEX", CMIF_OPTION_TEXT, &(o).pin, 0, 0, "the server's certificate, or who signed it"},      \
    {0, "ca", "FILE", CMIF_OPTION_TEXT, &(o).ca, 0, 0, NULL},                                                          \
    {0, "cert", "FILE", CMIF_OPTION_TEXT, &(o).cert, 0, 0, "our own certificate and key, if the server asks"},        \
    {0, "key", "FILE", CMIF_OPTION_TEXT, &(o).key, 0, 0, NULL},                                                        \
    {0, "peer-policy", "FILE", CMIF_OPTION_TEXT, &(o).peer_policy, 0, 0, "what the server must prove, how often"},    \
    {0, "peer-fresh", "MINUTES", CMIF_OPTION_COUNT, &(o).peer_fresh, 0, 10080, NULL},                                  \
    CMIF_UNSEAL_OPTIONS((o).unseal),                                                                                   \
    CMIF_GUARD_OPTIONS((o).guard),                                                                                     \
    {0, "rows", "TYPE", CMIF_OPTION_TEXT, &(o).rows, 0, 0, "f32 f16 bf16 q8_0 ids auto plain bayes context"}, \
    {0, "lm", "FILE", CMIF_OPTION_TEXT, &(o).lm, 0, 0, NULL},                                                        \
    {0, "context", "N", CMIF_OPTION_COUNT, &(o).context, 8, 1 << 24, "room for tokens (default: to 4096); all cores"},         \
    {0, "threads", "N", CMIF_OPTION_COUNT, &(o).threads, 1, 1024, NULL}
#define CMIF_CLIENT_NOTES                                                                                              \
    "Environment: XDG_CACHE_HOME, XDG_RUNTIME_DIR, CMIF_LIBEXEC, NO_COLOR\n"
#define CMIF_COMMON_OPTIONS                                                                                            \
    {0, "json", NULL, CMIF_OPTION_FLAG, &cmif_json, 0, 0, "results and errors as JSON"},                              \
    {'q', "quiet", NULL, CMIF_OPTION_FLAG, &cmif_quiet, 0, 0, "nothing but results and errors"}

typedef enum cmif_known_table { /* what the server knows of the embedding table */
    CMIF_TABLE_NONE = 0, /* nothing that we know of */
    CMIF_TABLE_TIED,     /* output.weight is the table */
    CMIF_TABLE_KEPT      /* it was left there by choice */
} cmif_known_table;

typedef enum cmif_meaning { /* what the row of a drawn word says */
    CMIF_MEANING_PLAIN = 0, /* the released word */
    CMIF_MEANING_BAYES,     /* what it may have been: the posterior mean */
    CMIF_MEANING_CONTEXT    /* the same, over the whole released sequence */
} cmif_meaning;

typedef struct cmif_client {
    cmif_client_options  options;
    cmif_halves          halves;
    cmif_secret          plain; /* what file reads, where the half was sealed */
    cmif_gguf           *file;
    cmif_tokenizer      *tokenizer;
    cmif_embed          *embed;
    cmif_chat           *chat;  /* NULL: no chat format, and why: */
    cmif_err             no_chat;
    cmif_private_server *server; /* NULL: somebody else's */
    cmif_attest_policy_file *peer_policy; /* NULL: no evidence is asked for */
    cmif_peer_rule       rule;
    char                 store[PATH_MAX];
    cmif_session        *session;
    uint8_t              model_id[32];
    cmif_row_type        row_type;
    cmif_guard           guard;     /* what a person's words go through */
    cmif_lm             *lm;
    cmif_bayes          *bayes;     /* NULL: plain rows */
    cmif_meaning         meaning;
    cmif_str             arch, name;
} cmif_client;

/* The client half only: file, tokenizer, table, chat pieces, model id. client is the caller's, zeroed. */
CMIF_MUST_USE cmif_code cmif_client_load(const char *path, cmif_client *client, cmif_err *err);
/* What is wrong with the options, before any work. Errors: RANGE. */
CMIF_MUST_USE cmif_code cmif_client_check(const cmif_client_options *options, cmif_err *err);
/* Everything: halves, server, session. End with cmif_client_close also when this failed. */
CMIF_MUST_USE cmif_code cmif_client_open(const cmif_client_options *options, cmif_client *client, cmif_err *err);
/* One more session with the same server, for bench. */
CMIF_MUST_USE cmif_code cmif_client_session(const cmif_client *client, cmif_session **out, cmif_err *err);
void                    cmif_client_close(cmif_client *client);

/* Where the server is, from --server; strings point into buffer. Errors: RANGE (says how an address looks). */
CMIF_MUST_USE cmif_code cmif_client_peer(const cmif_client_options *options, char buffer[static PATH_MAX],
                                         cmif_peer *out, cmif_err *err);

/* The rule of --peer-policy into client->rule; without the option nothing. Errors: RANGE (no TLS server, a policy that cannot hold in a connection), FORMAT,
 * IO. */
CMIF_MUST_USE cmif_code cmif_client_rule(cmif_client *client, cmif_err *err);
/* What was proved last, as one line; false: no evidence was asked for. */
bool cmif_client_evidence(const cmif_client *client, char *out, size_t room);

/* Append the ids of released text: plain, or of posterior means. Errors: as cmif_tokenizer_encode. */
CMIF_MUST_USE cmif_code cmif_client_encode(cmif_client *client, const cmif_released *text, cmif_ids *ids, cmif_err *err);
/* Refuse rows that a chat format cannot take. Errors: UNSUPPORTED. */
CMIF_MUST_USE cmif_code cmif_client_chats(const cmif_client *client, cmif_err *err);

/* Errors: RANGE (count tokens are more than our private server has room for). */
CMIF_MUST_USE cmif_code cmif_client_fits(const cmif_client *client, size_t count, cmif_err *err);
/* "Name (arch), id 0123456789ab", printable. */
void       cmif_client_describe(const cmif_client *client, char *out, size_t room);
cmif_known_table cmif_client_table(const cmif_client *client);
bool       cmif_client_loops(const cmif_client *client); /* the server feeds its own tokens */

/* ---- the account ---- */
typedef struct cmif_account { /* sums over the generate and encode calls of one command */
    uint64_t         prompt_rows, reused_rows, token_rows, tokens, replays, sent, received;
    uint64_t         first_us; /* of the last call */
    uint64_t         decode_us, total_us;
    uint64_t         decoded;  /* tokens after each first one: what decode_us was for */
    uint64_t         calls;
    cmif_done_reason reason;
} cmif_account;

void    cmif_account_add(cmif_account *account, const cmif_client *client, const cmif_usage *usage);
void    cmif_account_print(const cmif_account *account, const cmif_client *client); /* on stderr */
json_t *cmif_account_json(const cmif_account *account, const cmif_client *client);  /* the caller's */
/* Print object on stdout, one line, and drop it. Errors: MEMORY, IO. */
CMIF_MUST_USE cmif_code cmif_print_json(json_t *object, cmif_err *err);
double                  cmif_account_speed(const cmif_account *account); /* tokens/s after the first; 0: not known */

#endif
