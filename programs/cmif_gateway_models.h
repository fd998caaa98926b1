/* cmif_gateway_models - the models of a gateway: their client halves, servers and upstreams, several of one name as a pool.
 *
 * Sees    released text. */
#ifndef CMIF_PROGRAMS_CMIF_GATEWAY_MODELS_H
#define CMIF_PROGRAMS_CMIF_GATEWAY_MODELS_H

#include "cmif_gateway_config.h"

#include "gateway/http.h"

typedef struct cmif_models cmif_models;

/* Open what config names; it must outlive the models. start false: files are read, and nothing is started or asked.
 * *out is the caller's also when this failed. Errors: as cmif_client_open, cmif_openai_new, cmif_rows_new; in front of them the model. */
CMIF_MUST_USE cmif_code cmif_models_open(struct event_base *base, const cmif_gateway_config *config, bool start, cmif_models **out, cmif_err *err);
void                    cmif_models_free(cmif_models *models); /* NULL is welcome; after the gateway */
void                    cmif_models_list(const cmif_models *models, cmif_gateway_options *options);
bool                    cmif_models_server_ended(const cmif_models *models); /* a private one */
void                    cmif_models_print(const cmif_models *models);

#endif
