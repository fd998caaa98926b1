/* Linked with --wrap for getrandom, madvise and getpid: a system without random bytes, a kernel that does not wipe on
 * fork, a child that cannot be told by its id. */
#include "dp/noise.h"

#include "base/check.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t keys_asked;
static bool   no_random, no_wipe_on_fork, same_pid;

ssize_t __real_getrandom(void *to, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *to, size_t size, unsigned flags)
{
    keys_asked++;
    if (no_random) {
        errno = ENOSYS;
        return -1;
    }
    if (keys_asked % 3 == 1) {
        errno = EINTR; /* a signal in between costs nothing but a second try */
        return -1;
    }
    return __real_getrandom(to, size > 20 ? 20 : size, flags); /* nor does getting less than was asked for */
}

int __real_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice);
int __wrap_madvise(void *at, size_t size, int advice)
{
    if (advice == MADV_WIPEONFORK && no_wipe_on_fork) {
        errno = EINVAL;
        return -1;
    }
    return __real_madvise(at, size, advice);
}

pid_t __real_getpid(void);
pid_t __wrap_getpid(void);
pid_t __wrap_getpid(void)
{
    return same_pid ? 1 : __real_getpid();
}

static cmif_noise *fresh(void)
{
    cmif_noise *noise = NULL;
    CHECK(cmif_noise_new(&noise, NULL) == CMIF_OK);
    return noise;
}

static void any_size_can_be_taken(void)
{
    static uint8_t bytes[40000];
    cmif_noise    *noise = fresh();
    for (size_t size = 0; size < 9000; size += size < 20 ? 1 : 997) {
        memset(bytes, 0, sizeof bytes);
        CHECK(cmif_noise_take(noise, bytes, size, NULL) == CMIF_OK);
        CHECK(bytes[size] == 0 && bytes[size + 1] == 0);
        size_t zeros = 0;
        for (size_t i = 0; i < size; i++) {
            zeros += bytes[i] == 0;
        }
        CHECK(zeros <= 4 + size / 64);
    }
    CHECK(cmif_noise_take(noise, bytes, sizeof bytes, NULL) == CMIF_OK);
    cmif_noise_free(noise);
    cmif_noise_free(NULL);
}

/* Bits, bytes, neighbours: a smoke test, not a proof. Limits are six standard deviations. */
static void what_is_taken_looks_uniform(void)
{
    enum { COUNT = 1 << 22 };
    uint8_t    *bytes          = malloc(COUNT);
    uint32_t    byte_seen[256] = {0}, bit_seen[8] = {0};
    double      pairs = 0, chi = 0;
    cmif_noise *noise = fresh();
    CHECK(bytes && cmif_noise_take(noise, bytes, COUNT, NULL) == CMIF_OK);
    for (size_t i = 0; bytes && i < COUNT; i++) {
        byte_seen[bytes[i]]++;
        for (int bit = 0; bit < 8; bit++) {
            bit_seen[bit] += bytes[i] >> bit & 1;
        }
        pairs += i ? (bytes[i] - 127.5) * (bytes[i - 1] - 127.5) : 0;
    }
    for (int i = 0; i < 256; i++) {
        double expected = COUNT / 256.0, off = byte_seen[i] - expected;
        chi += off * off / expected;
    }
    CHECK(fabs(chi - 255) < 6 * sqrt(2 * 255.0));
    for (int bit = 0; bit < 8; bit++) {
        CHECK(fabs(bit_seen[bit] - COUNT / 2.0) < 6 * sqrt(COUNT) / 2);
    }
    CHECK(fabs(pairs) < 6 * sqrt(COUNT) * (256 * 256 - 1) / 12);
    free(bytes);
    cmif_noise_free(noise);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return (x > y) - (x < y);
}

/* No 64 bits come twice: not in one buffer, not over a new key, not from two generators. */
static void nothing_comes_twice(void)
{
    enum { COUNT = 1 << 21 }; /* 16 MiB: four keys of the system; a collision by chance: 10^-7 */
    uint64_t   *words = malloc(COUNT * sizeof *words);
    cmif_noise *one = fresh(), *other = fresh();
    CHECK(words != NULL);
    CHECK(cmif_noise_take(one, words, COUNT / 2 * sizeof *words, NULL) == CMIF_OK);
    CHECK(cmif_noise_take(other, words + COUNT / 2, COUNT / 2 * sizeof *words, NULL) == CMIF_OK);
    qsort(words, COUNT, sizeof *words, by_value);
    size_t twice = 0;
    for (size_t i = 1; i < COUNT; i++) {
        twice += words[i] == words[i - 1];
    }
    CHECK(twice == 0);
    free(words);
    cmif_noise_free(one);
    cmif_noise_free(other);
}

static void the_system_is_asked_for_a_key_every_2_to_the_20_words(void)
{
    uint32_t    words[1024];
    cmif_noise *noise  = fresh();
    size_t      before = keys_asked, changes = 0;
    for (size_t taken = 0; taken < 3u << 20; taken += 1024) {
        CHECK(cmif_noise_take(noise, words, sizeof words, NULL) == CMIF_OK);
        changes += keys_asked != before;
        before = keys_asked;
    }
    CHECK(changes == 2); /* the first key came with the generator */
    cmif_noise_free(noise);
}

/* What child and parent take after a fork, and what the child of the child takes: all different. */
static void fork_and_compare(void)
{
    uint64_t    words[4][64];
    int         ends[2];
    cmif_noise *noise = fresh();
    CHECK(cmif_noise_take(noise, words[0], sizeof words[0], NULL) == CMIF_OK); /* the buffer is half full now */
    CHECK(pipe(ends) == 0);
    for (int child = 0; child < 2; child++) {
        pid_t id = fork();
        if (id == 0) {
            bool good = cmif_noise_take(noise, words[1], sizeof words[1], NULL) == CMIF_OK;
            good      = good && write(ends[1], words[1], sizeof words[1]) == (ssize_t) sizeof words[1];
            if (child == 1) { /* a generator that the child has used, and handed on */
                pid_t inner = fork();
                if (inner == 0) {
                    good = cmif_noise_take(noise, words[1], sizeof words[1], NULL) == CMIF_OK;
                    good = good && write(ends[1], words[1], sizeof words[1]) == (ssize_t) sizeof words[1];
                } else {
                    int status;
                    good = waitpid(inner, &status, 0) == inner && status == 0;
                }
            }
            _exit(good ? 0 : 1);
        }
        int status = 1;
        CHECK(waitpid(id, &status, 0) == id && status == 0);
    }
    uint64_t all[5][64];
    memcpy(all[0], words[0], sizeof words[0]);
    CHECK(cmif_noise_take(noise, all[1], sizeof all[1], NULL) == CMIF_OK);
    for (int i = 2; i < 5; i++) {
        CHECK(read(ends[0], all[i], sizeof all[i]) == (ssize_t) sizeof all[i]);
    }
    qsort(all, 5 * 64, sizeof(uint64_t), by_value);
    size_t twice = 0;
    for (size_t i = 1; i < 5 * 64; i++) {
        twice += all[i / 64][i % 64] == all[(i - 1) / 64][(i - 1) % 64];
    }
    CHECK(twice == 0);
    close(ends[0]);
    close(ends[1]);
    cmif_noise_free(noise);
}

static void a_child_never_draws_its_parents_words(void)
{
    fork_and_compare();
}

static void nor_where_the_kernel_does_not_wipe(void)
{
    int         status = 1;
    const pid_t child  = fork(); /* which asks for memory of its own: what is kept here would be wiped */
    if (child == 0) {
        no_wipe_on_fork = true;
        fork_and_compare();
        _exit(check_failed_here != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void nor_where_its_id_is_its_parents(void)
{
    same_pid = true;
    fork_and_compare();
    same_pid = false;
}

static void without_random_bytes_there_is_no_noise(void)
{
    static const uint8_t zeros[64];
    cmif_err             err  = {0};
    cmif_noise          *none = NULL, *noise = fresh();
    uint8_t             *bytes = malloc(5 << 20);

    no_random = true;
    CHECK(cmif_noise_new(&none, &err) == CMIF_E_IO && !none && strstr(err.text, "random"));
    /* runs dry in the middle: all of it is wiped, not only what is missing */
    memset(bytes, 0x55, 5 << 20);
    CHECK(cmif_noise_take(noise, bytes, 5 << 20, &err) == CMIF_E_IO);
    CHECK(memcmp(bytes, zeros, sizeof zeros) == 0 && bytes[(5 << 20) - 1] == 0);
    CHECK(cmif_noise_take(noise, bytes, 1, &err) == CMIF_E_IO && bytes[0] == 0);
    no_random = false;
    CHECK(cmif_noise_take(noise, bytes, 64, &err) == CMIF_OK && memcmp(bytes, zeros, 64) != 0);
    free(bytes);
    cmif_noise_free(noise);
}

int main(void)
{
    RUN(any_size_can_be_taken);
    RUN(what_is_taken_looks_uniform);
    RUN(nothing_comes_twice);
    RUN(the_system_is_asked_for_a_key_every_2_to_the_20_words);
    RUN(a_child_never_draws_its_parents_words);
    RUN(nor_where_the_kernel_does_not_wipe);
    RUN(nor_where_its_id_is_its_parents);
    RUN(without_random_bytes_there_is_no_noise);
    return check_report();
}
