/* cmif_gateway_config - what cmif-gateway is told: by flags, the environment and a file, in this order of weight.
 *
 *     listen 127.0.0.1:8800          # any option, without its dashes; one line each, "quoted" where a value has spaces
 *     policy topics
 *     policy strict /etc/cmif/strict.policy     # one more, by a name that keys and requests can ask for
 *     upstream chat                  # a model as clients call it; from here on lines are this upstream's
 *       kind vllm
 *       url https://10.0.0.7:8000    # --upstream
 *       weight 3                     # several with one name share its requests out
 *
 * Sees    names of files. */
#ifndef CMIF_PROGRAMS_CMIF_GATEWAY_CONFIG_H
#define CMIF_PROGRAMS_CMIF_GATEWAY_CONFIG_H

#include "cmif_client.h"

enum { CMIF_CONFIG_UPSTREAMS_MAX = 64, CMIF_CONFIG_POLICIES_MAX = 32, CMIF_CONFIG_SIZE_MAX = 1 << 20, CMIF_CONFIG_NAME_MAX = 32,
       CMIF_CONFIG_PATHS_MAX = 3 + 3 * CMIF_CONFIG_UPSTREAMS_MAX };

typedef enum cmif_config_kind { CMIF_KIND_CMIF = 0, CMIF_KIND_OPENAI, CMIF_KIND_VLLM, CMIF_KIND_SGLANG } cmif_config_kind;

typedef struct cmif_config_upstream {
    const char         *name;    /* for clients; NULL: the model's */
    const char         *url, *key_file, *served;
    cmif_config_kind    kind;
    cmif_client_options there;   /* model; of kind cmif all of them, of others pin and ca */
    uint32_t            weight;
    bool                any_version;
    unsigned            line;    /* of its section; 0: there is none */
} cmif_config_upstream;

typedef struct cmif_config_policy {
    const char *name, *what; /* what: as --policy takes it */
} cmif_config_policy;

typedef struct cmif_gateway_config { /* strings are borrowed from argv, the environment and text */
    const char          *file; /* NULL: there is none */
    const char          *listen, *keys, *tls_cert, *tls_key;
    cmif_guard_options   guard; /* of every policy; guard.policy: of keys that name none, NULL: topics */
    uint32_t             conversations, idle, silence;
    bool                 check, fields;
    cmif_config_upstream upstreams[CMIF_CONFIG_UPSTREAMS_MAX];
    size_t               upstream_count;
    cmif_config_policy   policies[CMIF_CONFIG_POLICIES_MAX];
    size_t               policy_count;
    char                *text;  /* of the file */
    char                *paths[CMIF_CONFIG_PATHS_MAX]; /* of credentials */
    size_t               path_count;
} cmif_gateway_config;

/* argv: without the program's name; its order may change. *out: {0}; the caller's (cmif_gateway_config_wipe). Errors: CANCELLED (help was printed), RANGE, FORMAT
 * (the file: line), IO, MEMORY. A sentence names the flag, the variable, or file and line. */
CMIF_MUST_USE cmif_code cmif_gateway_config_read(int argc, char **argv, cmif_gateway_config *out, cmif_err *err);
/* The same, with the text of a file and nothing else. */
CMIF_MUST_USE cmif_code cmif_gateway_config_parse(const void *text, size_t size, cmif_gateway_config *out, cmif_err *err);
void                    cmif_gateway_config_wipe(cmif_gateway_config *config); /* {0} is welcome */
/* The name of something that only a new start changes, and in which they differ; NULL: there is none. */
const char             *cmif_gateway_config_fixed(const cmif_gateway_config *a, const cmif_gateway_config *b);
const char             *cmif_config_kind_name(cmif_config_kind kind);

#endif
