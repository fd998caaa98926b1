/* Any bytes are lists or are refused, and lists answer for each of their strings. */
#include "sanitizer/lists.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char        path[64];
    cmif_lists *lists = NULL;
    int         fd    = memfd_create("lists", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t) size) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (cmif_lists_open(path, &lists, NULL) == CMIF_OK) {
        for (int list = 0; list < CMIF_LIST_COUNT; list++) {
            for (size_t i = 0; i < cmif_lists_count(lists, (cmif_list) list); i++) {
                uint32_t flags, found;
                cmif_str s = cmif_lists_at(lists, (cmif_list) list, i, &flags);
                if (!cmif_lists_find(lists, (cmif_list) list, s, &found) || found != flags) {
                    abort();
                }
            }
        }
        cmif_lists_free(lists);
    }
    close(fd);
    return 0;
}
