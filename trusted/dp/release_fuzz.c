/* Whatever bytes are released through a channel, no letter of them leaves (audit_property.h). */
#include "audit_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_sanitizer *sanitizer;
    if (!sanitizer && cmif_sanitizer_new(property_table(), false, &sanitizer, NULL) != CMIF_OK) {
        abort();
    }
    const char *broken = property_broken(sanitizer, data, size);
    if (broken) {
        fprintf(stderr, "%s\n", broken);
        abort();
    }
    return 0;
}
