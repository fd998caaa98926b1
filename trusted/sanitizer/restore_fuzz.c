/* Whatever the answer is and however it is split: the same bytes come out, the same is counted, JSON's quotes stay
 * even, and a text without surrogates is not changed. The first bytes choose the vault: the fixed one, or one read from
 * the input. */
#include "sanitizer/vault.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char fixed[] = "{\"cmif-vault\": 1, \"shift\": 700, \"entries\": ["
                            "{\"class\": \"person\", \"key\": \"pa\", \"original\": \"Ma\\\"ria\", \"surrogate\": "
                            "\"Anna\", \"match\": \"words\", \"from\": 0, \"to\": 0},"
                            "{\"class\": \"address\", \"key\": \"Ab\", \"original\": \"1 B\\nC\", \"surrogate\": \"4 "
                            "Da Db\", \"match\": \"words\", \"from\": 0, \"to\": 0},"
                            "{\"class\": \"number\", \"key\": \"nc\", \"original\": \"1,250.75\", \"surrogate\": "
                            "\"3,481.37\", \"match\": \"number\", \"from\": 0, \"to\": 0},"
                            "{\"class\": \"phone\", \"key\": \"cd\", \"original\": \"+1 (415) 555\", \"surrogate\": "
                            "\"+1 (222) 333\", \"match\": \"code\", \"from\": 0, \"to\": 0},"
                            "{\"class\": \"email\", \"key\": \"ee\", \"original\": \"m@acme.com\", \"surrogate\": "
                            "\"a@b.example.com\", \"match\": \"exact\", \"from\": 0, \"to\": 0},"
                            "{\"class\": \"date\", \"key\": \"df\", \"original\": \"2024-05-03\", \"surrogate\": "
                            "\"2022-06-03\", \"match\": \"exact\", \"from\": 20240503, \"to\": 20220603},"
                            "{\"class\": \"secret\", \"key\": \"sg\", \"original\": \"\\u00e9\\\\\", \"surrogate\": "
                            "\"zz9\", \"match\": \"exact\", \"from\": 0, \"to\": 0}"
                            "]}";

static void expect(bool good)
{
    if (!good) {
        abort();
    }
}

static cmif_secret restored(const cmif_vault *vault, bool json, const uint8_t *p, size_t size, unsigned step,
                            cmif_restore_counts *counts)
{
    cmif_restore *r   = NULL;
    cmif_secret   out = {0};
    expect(cmif_restore_new(vault, json, &r, NULL) == CMIF_OK);
    for (size_t i = 0, n; i < size; i += n) {
        n = step == 0 || size - i < step ? size - i : step;
        expect(cmif_restore_feed(r, p + i, n, &out, NULL) == CMIF_OK);
    }
    expect(cmif_restore_end(r, &out, counts, NULL) == CMIF_OK);
    cmif_restore_free(r);
    return out;
}

static size_t quotes(const uint8_t *p, size_t size)
{
    size_t n         = 0;
    bool   in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (p[i] == '\\' && in_string) {
            i++;
        } else if (p[i] == '"') {
            in_string = !in_string;
            n++;
        }
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    cmif_vault *vault = NULL; /* a new one each time: what only locked memory points to looks like a leak at the end */
    bool        json  = data[0] & 1;
    unsigned    step  = 1 + data[1] % 7;
    expect(cmif_vault_new(NULL, &vault, NULL) == CMIF_OK);
    if (!(data[0] & 2)) {
        expect(cmif_vault_read(vault, fixed, sizeof fixed - 1, NULL) == CMIF_OK);
    } else { /* the rest is a vault, a zero byte, and an answer */
        const uint8_t *end = memchr(data + 2, 0, size - 2);
        if (end && cmif_vault_read(vault, data + 2, (size_t) (end - data) - 2, NULL) == CMIF_OK) {
            cmif_secret saved = {0}, again = {0};
            cmif_vault *copy = NULL;
            expect(cmif_vault_write(vault, &saved, NULL) == CMIF_OK && cmif_vault_new(NULL, &copy, NULL) == CMIF_OK);
            expect(cmif_vault_read(copy, saved.data, saved.size, NULL) == CMIF_OK &&
                   cmif_vault_write(copy, &again, NULL) == CMIF_OK);
            expect(saved.size == again.size && memcmp(saved.data, again.data, saved.size) == 0);
            cmif_secret_wipe(&saved);
            cmif_secret_wipe(&again);
            cmif_vault_free(copy);
            size -= (size_t) (end - data);
            data = end;
        }
    }
    if (size > 2) {
        cmif_restore_counts a = {0}, b = {0};
        cmif_secret         whole = restored(vault, json, data + 2, size - 2, 0, &a),
                    parts         = restored(vault, json, data + 2, size - 2, step, &b);
        expect(whole.size == parts.size && (whole.size == 0 || memcmp(whole.data, parts.data, whole.size) == 0));
        expect(a.restored == b.restored && a.left == b.left);
        expect(a.restored > 0 || (whole.size == size - 2 && memcmp(whole.data, data + 2, whole.size) == 0));
        expect(!json || quotes(whole.data, whole.size) == quotes(data + 2, size - 2));
        cmif_secret_wipe(&whole);
        cmif_secret_wipe(&parts);
    }
    cmif_vault_free(vault);
    return 0;
}
