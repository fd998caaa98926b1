/* sanitizer_bench LISTS TABLE [TEXT] - what sanitizing costs on one core, and that no text costs more than linear time.
 *
 * Real text (tests/texts, SST-2 where it is at hand, the same without its entities) and texts made to be slow, each
 * through the channel alone and through the three policies: words per second and ns per byte at 1 MB (the best of
 * three), the peak of memory as a multiple of the text, and time per byte at 4 MB over that at 256 KB. Then how long a
 * person waits for a prompt of 500 words in a fresh conversation. Exit 1 when some text takes 1.6 times as long per
 * byte at 4 MB: a time that grows with the square would take 16 times as long. TEXT: only texts whose name has this. */
#include "dp/release.h"
#include "sanitizer/sanitizer.h"
#include "sanitizer/scan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SMALL = 1 << 18, MIDDLE = 1 << 20, LARGE = 1 << 22, RUNS = 3, PROMPTS = 100, PROMPT_WORDS = 500, PATHS = 4 };

static const char *const paths[PATHS] = {"channel", "names", "topics", "words"};
static const cmif_lists *lists;
static const cmif_table *table;
static cmif_policy      *policies[PATHS];
static const char       *only; /* NULL: all */
static const double      SLOWER_MAX = 1.6;

static void stop(const char *what, const cmif_err *err)
{
    fprintf(stderr, "sanitizer_bench: %s%s%s\n", what, err ? ": " : "", err ? err->text : "");
    exit(2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* ---- memory ---- a line of /proc/self/status, in bytes; 0: this system does not tell */

static double memory_of(const char *name)
{
    char   line[128];
    double bytes = 0;
    FILE  *file  = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, name, strlen(name)) == 0) {
            bytes = 1024 * strtod(line + strlen(name) + 1, NULL);
        }
    }
    if (file) {
        fclose(file);
    }
    return bytes;
}

static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

/* ---- one text through one path ---- */

static double seconds_for(int path, const char *text, size_t size)
{
    cmif_err           err          = {0};
    cmif_sanitizer    *sanitizer    = NULL;
    cmif_conversation *conversation = NULL;
    cmif_released     *released     = NULL;
    cmif_sanitized     what         = {0};
    cmif_code          rc;
    if (path == 0) {
        rc = cmif_sanitizer_new(table, false, &sanitizer, &err);
    } else {
        rc = cmif_conversation_new(
            &(cmif_conversation_options){.policy = policies[path], .lists = lists, .table = table}, &conversation,
            &err);
    }
    double from = now();
    if (rc == CMIF_OK) {
        rc = path == 0 ? cmif_dp_release_channel(sanitizer, text, size, NULL, &released, &err)
                       : cmif_conversation_prepare(conversation, text, size, &what, &err);
    }
    double seconds = now() - from;
    if (rc != CMIF_OK) {
        stop(paths[path], &err);
    }
    cmif_released_free(released);
    cmif_sanitizer_free(sanitizer);
    cmif_conversation_free(conversation);
    return seconds;
}

static double best_for(int path, const char *text, size_t size)
{
    double best = 1e9;
    for (int run = 0; run < RUNS; run++) {
        double seconds = seconds_for(path, text, size);
        best           = seconds < best ? seconds : best;
    }
    return best;
}

static size_t words_in(const char *text, size_t size)
{
    cmif_scan scan  = {0};
    size_t    words = 0;
    cmif_err  err   = {0};
    if (cmif_scan_text(text, size, &scan, &err) != CMIF_OK) {
        stop("scan", &err);
    }
    for (size_t i = 0; i < scan.count; i++) {
        words += scan.tokens[i].kind == CMIF_TOKEN_WORD || scan.tokens[i].kind == CMIF_TOKEN_NUMBER;
    }
    cmif_scan_wipe(&scan);
    return words;
}

/* A text made to be slow goes through the channel and the last policy only. */
static bool measure(const char *name, const char *text, bool made)
{
    bool   linear = true;
    size_t words  = !only || strstr(name, only) ? words_in(text, MIDDLE) : 0;
    for (int path = !only || strstr(name, only) ? 0 : PATHS; path < PATHS; path += made ? PATHS - 1 : 1) {
        forget_peak();
        double before = memory_of("VmRSS"), seconds = best_for(path, text, MIDDLE);
        double memory = (memory_of("VmHWM") - before) / MIDDLE;
        double small = best_for(path, text, SMALL) / SMALL, large = best_for(path, text, LARGE) / LARGE;
        bool   good = large <= SLOWER_MAX * small;
        printf("%-22s %-8s %9.2f %9.1f %9.1f %9.2f%s\n", path ? "" : name, paths[path], (double) words / seconds * 1e-6,
               seconds / MIDDLE * 1e9, memory, large / small, good ? "" : "  NOT LINEAR");
        fflush(stdout);
        linear &= good;
    }
    return linear;
}

/* ---- texts ---- */

static char text[LARGE + 1];

/* Repeat the first `size` bytes up to the end. */
static void fill(size_t size)
{
    for (size_t at = size; at < LARGE; at++) {
        text[at] = text[at - size];
    }
}

static size_t append(size_t at, const char *bytes, size_t size)
{
    size = size < LARGE - at ? size : LARGE - at;
    memcpy(text + at, bytes, size);
    return at + size;
}

/* A file behind `at`, without the marks of tests/texts ([[class|words]]) or what follows a tab. */
static size_t append_file(size_t at, const char *path)
{
    char  *line = NULL;
    size_t room = 0;
    FILE  *file = fopen(path, "r");
    while (file && getline(&line, &room, file) > 0) {
        for (const char *c = line; *c && *c != '\t'; c++) {
            size_t mark = c[0] == '[' && c[1] == '[' ? 2 + strspn(c + 2, "abcdefghijklmnopqrstuvwxyz") : 0;
            if (mark && c[mark] == '|') {
                c += mark;
            } else if (c[0] == ']' && c[1] == ']') {
                c++;
            } else {
                at = append(at, c, 1);
            }
        }
        at = strchr(line, '\t') ? append(at, "\n", 1) : at;
    }
    if (file) {
        fclose(file);
    }
    free(line);
    return at;
}

static size_t append_folder(size_t at, const char *folder)
{
    struct dirent **names = NULL;
    int             count = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
        at = names[i]->d_name[0] == '.' ? at : append_file(at, path);
        free(names[i]);
    }
    free(names);
    return at;
}

/* Take all that would become a surrogate out of the first `size` bytes. */
static size_t without_entities(size_t size)
{
    cmif_scan  scan  = {0};
    cmif_spans spans = {0};
    cmif_err   err   = {0};
    char      *copy  = malloc(size);
    size_t     at    = 0;
    if (!copy || cmif_scan_text(memcpy(copy, text, size), size, &scan, &err) != CMIF_OK ||
        cmif_find_entities(&scan, lists, &spans, &err) != CMIF_OK) {
        stop("a text without entities", &err);
    }
    for (size_t i = 0; i < spans.count; i++) {
        at = spans.at[i].class < CMIF_SPAN_EMAIL ? append(at, copy + spans.at[i].from, spans.at[i].size) : at;
    }
    cmif_spans_wipe(&spans);
    cmif_scan_wipe(&scan);
    free(copy);
    return at;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static void measure_prompt(void)
{
    size_t size = 0;
    while (words_in(text, size) < PROMPT_WORDS || text[size - 1] != ' ') {
        size++;
    }
    for (int path = 1; path < PATHS; path++) {
        double seconds[PROMPTS];
        for (int i = 0; i < PROMPTS; i++) {
            seconds[i] = seconds_for(path, text, size);
        }
        qsort(seconds, PROMPTS, sizeof *seconds, compare);
        printf("a prompt of %d words (%zu bytes of tests/texts), %-6s: %.2f ms, at most %.2f ms\n", PROMPT_WORDS, size,
               paths[path], 1e3 * seconds[PROMPTS / 2], 1e3 * seconds[PROMPTS - 1]);
    }
}

int main(int argc, char **argv)
{
    static const char *const units[] = {"a",
                                        "A",
                                        "7",
                                        "a.b.c.d@",
                                        "Aa ",
                                        "([{`",
                                        "`",
                                        "Dr. ",
                                        "-",
                                        "\u200b",
                                        "a\u200b",
                                        "\u00e9",
                                        "\xff",
                                        "Maria Lopez ",
                                        "x7 ",
                                        "01234 56789 ",
                                        "12.05.2024 ",
                                        "Bank of ",
                                        "a,",
                                        "aaaaaaaaaaaaaaaaa=",
                                        "-----BEGIN A -",
                                        "password is "};
    cmif_err                 err     = {0};
    cmif_lists              *opened  = NULL;
    cmif_table              *channel = NULL;
    bool                     linear  = true;
    size_t                   size    = 0;
    if (argc != 3 && argc != 4) {
        stop("usage: sanitizer_bench LISTS TABLE [TEXT]", NULL);
    }
    only = argc == 4 ? argv[3] : NULL;
    if (cmif_lists_open(argv[1], &opened, &err) != CMIF_OK ||
        cmif_table_open(argv[2], &channel, NULL, &err) != CMIF_OK) {
        stop("cannot begin", &err);
    }
    lists = opened;
    table = channel;
    for (int path = 1; path < PATHS; path++) {
        if (cmif_policy_named(paths[path], &policies[path], &err) != CMIF_OK) {
            stop("policy", &err);
        }
    }
    printf("%-22s %-8s %9s %9s %9s %9s\n", "text", "path", "million/s", "ns/byte", "memory", "4 MB/256K");

    size = append_folder(0, CMIF_SOURCE_DIR "/tests/texts/seen");
    fill(append_folder(size, CMIF_SOURCE_DIR "/tests/texts/held"));
    linear &= measure("tests/texts", text, false);
    measure_prompt();
    size = append_file(0, CMIF_SOURCE_DIR "/../shared/data/sst2/train.tsv");
    if (size) {
        fill(size);
        linear &= measure("SST-2", text, false);
        fill(without_entities(size));
        linear &= measure("SST-2 without entities", text, false);
    } else {
        printf("SST-2: skipped, it is not at hand\n");
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        char name[32];
        fill(append(0, units[i], strlen(units[i])));
        snprintf(name, sizeof name, "\"%s\"",
                 strcmp(units[i], "\u200b") == 0 ? "(zero width)"
                 : units[i][0] == '\xff'         ? "(no UTF-8)"
                                                 : units[i]);
        linear &= measure(name, text, true);
    }
    for (int path = 1; path < PATHS; path++) {
        cmif_policy_free(policies[path]);
    }
    cmif_table_free(channel);
    cmif_lists_free(opened);
    printf("%s\n",
           linear ? "ok: no text takes more than linear time" : "FAILED: some text takes more than linear time");
    return linear ? 0 : 1;
}
