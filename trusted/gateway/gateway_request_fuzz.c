/* Any body is taken apart or refused; what was taken apart gives a body that is JSON, and holds no text that was not
 * released. */
#include "gateway/request.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    cmif_request        *request = NULL;
    cmif_request_problem problem;
    cmif_secret          out = {0};
    if (size < 1 || cmif_request_parse((cmif_endpoint) (bytes[0] % CMIF_ENDPOINTS), bytes + 1, size - 1, &request,
                                       &problem, NULL) != CMIF_OK) {
        return 0;
    }
    for (size_t i = 0; i < request->text_count; i++) {
        cmif_request_text *t    = &request->texts[i];
        const bool         same = t->form != CMIF_FORM_NAME || cmif_form_fits(t->form, t->text.data, t->text.size);
        if (cmif_dp_release_identity(same ? t->text.data : "n", same ? t->text.size : 1, &t->released, NULL) !=
            CMIF_OK) {
            abort();
        }
    }
    if (cmif_request_body(request, "m", &out, NULL) != CMIF_OK) {
        abort();
    }
    json_error_t wrong;
    json_t      *tree = json_loadb((const char *) out.data, out.size, 0, &wrong);
    if (!tree && json_error_code(&wrong) != json_error_numeric_overflow) {
        abort();
    }
    json_decref(tree);
    cmif_secret_wipe(&out);
    cmif_request_free(request);
    return 0;
}
