#include "channel/pin.h"

#include "base/bytes.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>

bool cmif_pin_parse(const char *text, cmif_pin *out)
{
    char digits[CMIF_PIN_TEXT];
    if (strncmp(text, "sha256:", 7) != 0 || strlen(text + 7) != CMIF_PIN_TEXT - 1) {
        return false;
    }
    for (size_t i = 0; i < CMIF_PIN_TEXT; i++) {
        digits[i] = (char) (text[7 + i] >= 'A' && text[7 + i] <= 'F' ? text[7 + i] + ('a' - 'A') : text[7 + i]);
    }
    return cmif_unhex(digits, CMIF_PIN_SIZE, out->wanted);
}

int cmif_pin_check(X509_STORE_CTX *store, void *context)
{
    cmif_pin  *pin  = context;
    X509      *cert = X509_STORE_CTX_get0_cert(store);
    unsigned   size = 0;
    const bool same = cert && X509_digest(cert, EVP_sha256(), pin->found, &size) == 1 && size == CMIF_PIN_SIZE &&
                      CRYPTO_memcmp(pin->found, pin->wanted, CMIF_PIN_SIZE) == 0;
    pin->asked = true;
    X509_STORE_CTX_set_error(store, same ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return same;
}
