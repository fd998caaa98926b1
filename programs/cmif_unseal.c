#include "cmif_unseal.h"

#include "cmif_terminal.h"

#include "keys/keys.h"
#include "seal/seal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static cmif_code find_kind(const char *name, cmif_maker_kind *out, cmif_err *err)
{
    static const char *const names[] = {[CMIF_MAKER_TDX] = "tdx",
                                        [CMIF_MAKER_SNP] = "snp",
                                        [CMIF_MAKER_SGX] = "sgx",
                                        [CMIF_MAKER_TPM] = "tpm",
                                        [CMIF_MAKER_SIM] = "sim"};
    for (size_t i = CMIF_MAKER_TDX; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(name, names[i])) {
            *out = (cmif_maker_kind) i;
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_RANGE, "--evidence takes tdx, snp, sgx, tpm or sim");
}

cmif_code cmif_split_address(const char *option, char *text, const char **host, const char **port, cmif_err *err)
{
    char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1]) {
        return cmif_fail(err, CMIF_E_RANGE, "%s takes HOST:PORT", option);
    }
    *colon = '\0';
    if (text[0] == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        text++;
    } else if (strchr(text, ':')) {
        return cmif_fail(err, CMIF_E_RANGE, "%s: put an IPv6 address in brackets, [::1]:PORT", option);
    }
    *host = text;
    *port = colon + 1;
    return CMIF_OK;
}

cmif_code cmif_unseal_check(const cmif_unseal_options *o, cmif_err *err)
{
    cmif_maker_kind kind = 0;
    const char     *host, *port;
    char            address[PATH_MAX];
    cmif_code       rc = CMIF_OK;

    if (o->pin && !o->from) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--unseal-pin is the certificate of a key server: name it with --unseal HOST:PORT");
    }
    if (o->pin && !o->evidence) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "a key server wants evidence: say which with --evidence tdx, snp, sgx, tpm or sim");
    }
    if (!o->pin && (o->evidence || o->device || o->insecure)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--evidence is for a key server: name it with --unseal HOST:PORT and --unseal-pin sha256:...");
    }
    if (o->pin) {
        snprintf(address, sizeof address, "%s", o->from);
        rc = cmif_split_address("--unseal, with --unseal-pin,", address, &host, &port, err);
        rc = rc ? rc : find_kind(o->evidence, &kind, err);
    }
    if (rc == CMIF_OK && kind == CMIF_MAKER_SIM && !o->insecure) {
        rc = cmif_fail(err, CMIF_E_RANGE,
                       "--evidence sim is INSECURE, it proves nothing: say --insecure-simulator if you mean it");
    }
    if (rc == CMIF_OK && kind && kind != CMIF_MAKER_SIM && o->insecure) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--insecure-simulator is for --evidence sim: take it away");
    }
    return rc;
}

static cmif_code fetch_key(const cmif_unseal_options *o, const cmif_seal_header *about, cmif_secret *key, cmif_err *err)
{
    char               address[PATH_MAX];
    cmif_maker        *maker = NULL;
    cmif_maker_options how   = {.path = o->device, .insecure = o->insecure};
    cmif_key_ask ask = {.peer = {.pin = o->pin}, .claims = {.program = "cmif " CMIF_VERSION}, .key_id = about->key_id};
    memcpy(ask.claims.model_id, about->model_id, sizeof ask.claims.model_id);
    snprintf(address, sizeof address, "%s", o->from);
    cmif_code rc = cmif_split_address("--unseal", address, &ask.peer.host, &ask.peer.port, err);
    rc           = rc ? rc : find_kind(o->evidence, &how.kind, err);
    rc           = rc ? rc : cmif_maker_open(&how, &maker, err);
    ask.maker    = maker;
    rc           = rc ? rc : cmif_key_fetch(&ask, key, err);
    cmif_maker_free(maker);
    return rc;
}

static cmif_code read_key(const cmif_unseal_options *o, cmif_secret *key, cmif_err *err)
{
    cmif_code rc = cmif_secret_reserve(key, CMIF_SEAL_KEY_SIZE, err);
    rc           = rc ? rc : cmif_seal_key_read(o->from, key->data, err);
    if (rc == CMIF_E_IO && strchr(o->from, ':')) {
        cmif_err_context(err, "--unseal (a key server would need --unseal-pin)");
    }
    key->size = rc == CMIF_OK ? CMIF_SEAL_KEY_SIZE : 0;
    return rc;
}

cmif_code cmif_unseal(const char *path, const cmif_unseal_options *o, cmif_secret *plain, cmif_err *err)
{
    const bool  were_locked = !cmif_secret_unlocked();
    cmif_seal  *file        = NULL;
    cmif_secret key         = {0};
    cmif_code   rc          = CMIF_OK;

    if (!cmif_seal_is(path)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--unseal was given, but '%s' is not sealed: it may be anybody's, so it is not used", path);
    }
    if (!o->from) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "'%s' is sealed: run, chat, classify, embed and doctor take its key with --unseal KEYFILE, or "
                         "name a key server",
                         path);
    }
    rc = cmif_seal_open(path, &file, err);
    rc = rc ? rc : o->pin ? fetch_key(o, cmif_seal_about(file), &key, err) : read_key(o, &key, err);
    rc = rc ? rc : cmif_secret_reserve(plain, (size_t) cmif_seal_about(file)->plain_size, err);
    if (rc == CMIF_OK) {
        plain->size = (size_t) cmif_seal_about(file)->plain_size;
        rc          = cmif_seal_read(file, key.data, plain->data, plain->size, err);
    }
    cmif_secret_wipe(&key);
    cmif_seal_free(file);
    if (rc != CMIF_OK) {
        cmif_secret_wipe(plain);
        cmif_err_context(err, "sealed file '%s'", path);
    } else if (were_locked && cmif_secret_unlocked() && !cmif_json && !cmif_quiet) {
        fprintf(stderr, "cmif: note: the system lets us lock less memory than the opened half needs (ulimit -l): it "
                        "may be swapped to disk\n");
    }
    return rc;
}
