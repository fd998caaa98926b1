#include "secret/secret.h"

#include "base/check.h"

#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void growing_keeps_the_text_and_ends_it_with_a_zero(void)
{
    cmif_secret s = {0};
    char        line[100];
    for (int i = 0; i < 1000; i++) {
        memset(line, 'a' + i % 26, sizeof line);
        CHECK(cmif_secret_append(&s, line, sizeof line, NULL) == CMIF_OK);
        CHECK(s.data[s.size] == 0 && s.size < s.capacity);
    }
    CHECK(s.size == 100000);
    bool same = true;
    for (size_t i = 0; i < s.size; i++) {
        same = same && s.data[i] == 'a' + (int) (i / 100) % 26;
    }
    CHECK(same);
    cmif_secret_wipe(&s);
    CHECK(!s.data && !s.size && !s.capacity);
}

/* Is the mapping that holds address left out of core dumps, and locked where the limit allows? */
static void secrets_are_left_out_of_dumps(void)
{
    cmif_secret s = {0};
    char        line[256];
    bool        inside = false, left_out = false;
    CHECK(cmif_secret_append(&s, "secret", 6, NULL) == CMIF_OK);
    FILE *maps = fopen("/proc/self/smaps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            inside = (uintptr_t) s.data >= from && (uintptr_t) s.data < to;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            left_out = strstr(line, " dd") != NULL;
        }
    }
    CHECK(maps && left_out);
    if (maps) {
        fclose(maps);
    }
    cmif_secret_wipe(&s);
}

/* Also where memory of one that ended is used again: of all sizes, more of them than are kept. */
static void memory_of_others_comes_as_zeros(void)
{
    enum { MANY = 400 };
    static cmif_secret s[MANY];
    for (size_t turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < MANY; i++) {
            CHECK(cmif_secret_reserve(&s[i], 1 + i % 5 * 4096, NULL) == CMIF_OK);
            bool zeros = true;
            for (size_t at = 0; at < s[i].capacity; at++) {
                zeros = zeros && !s[i].data[at];
            }
            CHECK(zeros);
            memset(s[i].data, 'x', s[i].capacity);
        }
        for (size_t i = 0; i < MANY; i++) {
            cmif_secret_wipe(&s[i]);
        }
    }
}

/* The lock of memory is not the child's, so it takes none that was locked for its parent. */
static void a_child_takes_fresh_memory(void)
{
    cmif_secret s = {0};
    CHECK(cmif_secret_reserve(&s, 1, NULL) == CMIF_OK);
    const uint8_t *kept = s.data;
    cmif_secret_wipe(&s);
    CHECK(cmif_secret_reserve(&s, 1, NULL) == CMIF_OK && s.data == kept);
    cmif_secret_wipe(&s);
    const pid_t child = fork();
    if (child == 0) {
        _exit(cmif_secret_reserve(&s, 1, NULL) == CMIF_OK && s.data != kept ? 0 : 1);
    }
    int how = 1;
    CHECK(child > 0 && waitpid(child, &how, 0) == child && how == 0);
}

static void absurd_sizes_are_refused(void)
{
    cmif_secret s   = {0};
    cmif_err    err = {0};
    CHECK(cmif_secret_reserve(&s, SIZE_MAX, &err) == CMIF_E_MEMORY && err.text[0]);
    CHECK(cmif_secret_append(&s, "x", SIZE_MAX - 1, NULL) == CMIF_E_MEMORY);
    CHECK(!s.data);
}

static void wiping_leaves_zeros(void)
{
    char text[64];
    memset(text, 'x', sizeof text);
    cmif_wipe(text, sizeof text);
    for (size_t i = 0; i < sizeof text; i++) {
        CHECK(text[i] == 0);
    }
}

static void a_hardened_process_leaves_no_core(void)
{
    struct rlimit limit = {1, 1};
    cmif_secret_harden_process();
    CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
}

int main(void)
{
    RUN(growing_keeps_the_text_and_ends_it_with_a_zero);
    RUN(secrets_are_left_out_of_dumps);
    RUN(memory_of_others_comes_as_zeros);
    RUN(a_child_takes_fresh_memory);
    RUN(absurd_sizes_are_refused);
    RUN(wiping_leaves_zeros);
    RUN(a_hardened_process_leaves_no_core);
    return check_report();
}
