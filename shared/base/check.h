/* check - the whole test library: a test program calls RUN on each promise, and ends with `return check_report();`.
 * With CMIF_FIRST_FAILURE in the environment it ends at the first CHECK that is false, at once (tools/breaks). */
#ifndef CMIF_BASE_CHECK_H
#define CMIF_BASE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

static int check_passed, check_failed, check_failed_here;

static inline void check_false(const char *file, int line, const char *what)
{
    check_failed_here++;
    fprintf(stderr, "%s:%d: CHECK(%s) is false\n", file, line, what);
    if (getenv("CMIF_FIRST_FAILURE")) {
        fflush(stdout);
        _Exit(1);
    }
}

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            check_false(__FILE__, __LINE__, #condition);                                                               \
        }                                                                                                              \
    } while (0)

#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        check_failed_here = 0;                                                                                         \
        test();                                                                                                        \
        printf("%s %s\n", check_failed_here ? "FAILED" : "ok    ", #test);                                             \
        check_failed += check_failed_here != 0;                                                                        \
        check_passed += check_failed_here == 0;                                                                        \
    } while (0)

static inline int check_report(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0 || check_passed == 0;
}

/* A test whose data is absent says so and ends with this: ctest shows it as skipped. */
#define CHECK_SKIP_CODE 77
static inline int check_skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return CHECK_SKIP_CODE;
}

#endif
