/* Any bytes are a task or are refused, as TSV and as JSON lines; a task's texts are there, and its labels are its own.
 */
#include "task.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const ends[] = {"tsv", "jsonl"};
    for (int json = 0; json < 2; json++) {
        char path[64];
        snprintf(path, sizeof path, "/dev/shm/cmif-task-fuzz-%ld.%s", (long) getpid(), ends[json]);
        FILE *file = fopen(path, "w");
        if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
            abort();
        }
        cmif_task task = {0};
        if (cmif_task_open(path, size % 5, size, &task, NULL) == CMIF_OK) {
            for (size_t i = 0; i < task.count; i++) {
                const cmif_example *e = &task.examples[i];
                if (strlen(e->text) == 0 ||
                    (json ? task.label_count != 0 || strlen(e->reference) == 0
                          : e->label >= task.label_count || strlen(task.labels[e->label]) == 0)) {
                    abort();
                }
            }
            if (task.count == 0 || (size % 5 > 0 && task.count > size % 5)) {
                abort();
            }
        }
        cmif_task_wipe(&task);
        unlink(path);
    }
    return 0;
}
