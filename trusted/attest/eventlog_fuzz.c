/* Any bytes as an event log: records lie inside it, in order, and a replay finds as many as the cursor does. */
#include "attest/eventlog.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_replay replay;
    cmif_event_log     log;
    cmif_event         event = {0};
    cmif_err           err;
    bool               end   = false;
    cmif_code          rc    = cmif_event_log_open(&log, data, size, &err);
    size_t             count = 0, at = 0;
    while (rc == CMIF_OK && (rc = cmif_event_log_next(&log, &event, &end, &err)) == CMIF_OK && !end) {
        if (event.at < at || event.data < data || event.data + event.data_size > data + size) {
            abort();
        }
        at = event.at;
        count++;
    }
    cmif_code replayed = cmif_event_log_replay(data, size, &replay, &err);
    if (replayed == CMIF_OK ? rc != CMIF_OK || replay.event_count != count
                            : rc == CMIF_OK && replayed != CMIF_E_FORMAT) {
        abort();
    }
    return 0;
}
