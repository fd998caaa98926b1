/* A file of receipts from anybody. Properties: what parses is written back as the same bytes; nothing is accepted that
 * no key signed (the corpus has no private key); a refusal leaves the outputs alone and says why. */
#include "receipt/line.h"

#include <stdlib.h>
#include <string.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Our own signature over what the fuzzer made: what follows must hold for a chain that its signer made badly, too. */
static void sign_and_audit(line *l)
{
    static EVP_PKEY *key;
    char             text[LINE_SIZE_MAX], again[LINE_SIZE_MAX];
    size_t           size = 0, again_size = 0, signer_size = sizeof l->signer;
    line             read_back;
    cmif_audit       audit = {.receipts = 77};
    cmif_err         err   = {0};

    if (!key) {
        static const uint8_t seed[32] = {1};
        key                           = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    }
    MUST(key && EVP_PKEY_get_raw_public_key(key, l->signer, &signer_size) == 1);
    MUST(line_write(l, key, text, &size, &err) == CMIF_OK);
    MUST(line_read(text, size, &read_back, &err) == CMIF_OK);
    MUST(line_write(&read_back, key, again, &again_size, &err) == CMIF_OK && size == again_size &&
         !memcmp(text, again, size));
    text[size++] = '\n';
    FILE *file   = fmemopen(text, size, "r");
    MUST(file);
    cmif_code rc = line_audit(file, NULL, NULL, NULL, &audit, &err);
    MUST(rc == CMIF_OK ? audit.receipts == 1 && audit.draws == l->draws && l->sum_draws == l->draws && l->number == 1
                       : rc == CMIF_E_TRUST && audit.receipts == 77 && err.text[0]);
    fclose(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char       text[LINE_SIZE_MAX];
    size_t     written = 0;
    line       l       = {.number = 77};
    line_head  head    = {.count = 77};
    cmif_audit audit   = {.receipts = 77};
    cmif_err   err     = {0};

    if (line_parse((const char *) data, size, &l, &err) == CMIF_OK) {
        MUST(line_format(&l, text, &written, &err) == CMIF_OK && written == size && !memcmp(text, data, size));
        sign_and_audit(&l);
    } else {
        MUST(l.number == 77 && err.text[0]);
    }
    if (line_read_head((const char *) data, size, &head, &err) != CMIF_OK) {
        MUST(head.count == 77 && err.text[0]);
    }
    FILE *file = size ? fmemopen((void *) (uintptr_t) data, size, "r") : NULL;
    if (file) {
        if (line_audit(file, NULL, NULL, NULL, &audit, &err) != CMIF_OK) {
            MUST(audit.receipts == 77 && err.text[0]);
        }
        fclose(file);
    }
    return 0;
}
