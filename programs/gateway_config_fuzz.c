/* Any bytes are a file for the gateway or are refused with a line that is there; what is taken is within its limits,
 * and is the same when it is read again. */
#include "cmif_gateway_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check(bool good)
{
    if (!good) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    cmif_gateway_config one = {0}, two = {0};
    cmif_err            err = {0};
    unsigned            line, lines = 1;
    for (size_t i = 0; i < size; i++) {
        lines += bytes[i] == '\n';
    }
    const cmif_code rc = cmif_gateway_config_parse(bytes, size, &one, &err);
    if (rc != CMIF_OK) {
        check(*err.text && !one.text && (sscanf(err.text, "line %u:", &line) != 1 || (line >= 1 && line <= lines)));
        return 0;
    }
    check(one.upstream_count >= 1 && one.upstream_count <= CMIF_CONFIG_UPSTREAMS_MAX);
    check(one.policy_count <= CMIF_CONFIG_POLICIES_MAX && one.conversations >= 1 && one.silence >= 1 && one.idle >= 1);
    check(!one.tls_cert == !one.tls_key && !one.check && !one.fields && !memchr(bytes, 0, size));
    for (size_t i = 0; i < one.upstream_count; i++) {
        const cmif_config_upstream *u = &one.upstreams[i];
        check(u->there.model && u->weight >= 1 && u->weight <= 1000 && u->line <= lines);
        check(u->kind == CMIF_KIND_CMIF ? !u->url : u->url != NULL);
        check(!strcmp(u->there.guard.policy, "none") && (!u->name || strlen(u->name) <= 255));
    }
    check(cmif_gateway_config_parse(bytes, size, &two, &err) == CMIF_OK);
    check(!cmif_gateway_config_fixed(&one, &two) && one.policy_count == two.policy_count);
    for (size_t i = 0; i < one.policy_count; i++) {
        check(!strcmp(one.policies[i].name, two.policies[i].name) &&
              !strcmp(one.policies[i].what, two.policies[i].what));
    }
    cmif_gateway_config_wipe(&one);
    cmif_gateway_config_wipe(&two);
    return 0;
}
