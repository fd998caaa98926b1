/* cmif bench verify - how long a verdict takes: everything from bytes to the verdict, again and again, with nothing
 * kept in between. */
#include "cmif_commands.h"
#include "cmif_verdict.h"

#include "collateral/sort.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char       *time_option;
static uint32_t          runs      = 200;
static const cmif_option options[] = {
    {0, "time", "T", CMIF_OPTION_TEXT, &time_option, 0, 0, "judge as of 2025-06-20T00:00:00Z (default: now)"},
    {'n', "runs", "N", CMIF_OPTION_COUNT, &runs, 1, 1 << 20, "verify N times (default 200)"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "bench verify",
    .args         = "[options] EVIDENCE...",
    .summary      = "measure verdicts per second, on one core",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "EVIDENCE as for 'cmif verify'; the collateral store is not used. Reading files is not measured.\n",
};

/* Time that this thread had a core, so that what else the machine does is not counted. */
static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec * 1e6 + (double) t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static long peak_kib(void)
{
    struct rusage use = {0};
    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss;
}

static cmif_code measure(cmif_sorted *sorted, int64_t when, cmif_err *err)
{
    static cmif_verdict verdict;
    cmif_item           items[CMIF_SORTED_MAX];
    cmif_attest_policy  policy;
    size_t              count = 0, evidence = 0, collateral = 0;
    char                line[512];
    double             *took = calloc(runs, sizeof *took);
    if (!took) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %" PRIu32 " figures", runs);
    }
    cmif_sort_settle(sorted);
    for (size_t i = 0; i < sorted->count; i++) {
        const cmif_item *one = &sorted->items[i].item;
        if (one->kind) {
            items[count++] = *one;
            *(cmif_item_is_collateral(one->kind) ? &collateral : &evidence) += one->size;
        }
    }
    cmif_attest_policy_init(&policy);
    policy.tees                     = (1U << CMIF_TEE_COUNT) - 2;
    policy.loosened.any_measurement = policy.loosened.no_report_data = true;
    cmif_attest(items, count, &policy, when, &verdict); /* OpenSSL's own tables are made once in a program */
    const long before = peak_kib();
    for (uint32_t i = 0; i < runs && !cmif_interrupted; i++) {
        const double start = now_us();
        cmif_attest(items, count, &policy, when, &verdict);
        took[i] = now_us() - start;
    }
    qsort(took, runs, sizeof *took, compare);
    const double median = took[runs / 2], least = took[0], most = took[runs - 1 - runs / 20];
    cmif_verdict_line(&verdict, line, sizeof line);
    free(took);
    if (cmif_interrupted) {
        return cmif_fail(err, CMIF_E_CANCELLED, "stopped");
    }
    if (cmif_json) {
        return cmif_print_json(json_pack("{s:s, s:i, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "verdict", line, "runs",
                                         (int) runs, "median_us", median, "least_us", least, "p95_us", most,
                                         "evidence_bytes", (json_int_t) evidence, "collateral_bytes",
                                         (json_int_t) collateral, "peak_kib", (json_int_t) peak_kib(), "grew_kib",
                                         (json_int_t) (peak_kib() - before)),
                               err);
    }
    printf("%s\n  evidence %zu bytes, collateral %zu bytes; %" PRIu32 " verdicts on one core\n", line, evidence,
           collateral, runs);
    printf("  median %.0f us, least %.0f us, 19 of 20 within %.0f us of a core: %.0f a second\n", median, least, most,
           1e6 / median);
    printf("  memory: peak %ld KiB of the program, %ld KiB more after the first verdict\n", peak_kib(),
           peak_kib() - before);
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

int cmif_bench_verify(int argc, char **argv)
{
    cmif_sorted *sorted = calloc(1, sizeof *sorted);
    cmif_err     err    = {0};
    int          rest   = 0, code;
    int64_t      when   = (int64_t) time(NULL);
    cmif_code    rc     = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && (rest < 1 || (time_option && !cmif_time_read(time_option, &when)))) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       rest < 1 ? "bench verify takes evidence: one or more files or folders"
                                : "--time takes a time like 2025-06-20T00:00:00Z");
    }
    if (rc != CMIF_OK) {
        code = cmif_report_usage(&err);
        goto done;
    }
    rc = sorted ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for evidence");
    for (int i = 0; rc == CMIF_OK && i < rest; i++) {
        rc = cmif_sort_path(sorted, argv[i], &err);
    }
    rc   = rc == CMIF_OK ? measure(sorted, when, &err) : rc;
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    if (sorted) {
        cmif_sort_wipe(sorted);
    }
    free(sorted);
    return code;
}
