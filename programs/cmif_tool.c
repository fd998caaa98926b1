#include "cmif_tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

bool                  tool_json;
volatile sig_atomic_t tool_interrupted;

static void on_signal(int number)
{
    tool_interrupted = number;
}

void tool_signals_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &action, NULL); /* a file that grows too large is an error of the write */
    sigaction(SIGPIPE, &action, NULL);
}

int tool_report(const cmif_err *err, int exit_code)
{
    if (tool_json) {
        json_t *object = json_pack("{s:{s:s, s:s}}", "error", "code", cmif_code_name(err->code), "message", err->text);
        char   *text   = object ? json_dumps(object, JSON_COMPACT) : NULL;
        fprintf(stderr, "%s\n",
                text ? text : "{\"error\":{\"code\":\"format\",\"message\":\"a name that is not UTF-8\"}}");
        free(text);
        json_decref(object);
    } else {
        fprintf(stderr, "cmif: %s\n", err->text);
    }
    return err->code == CMIF_E_CANCELLED && tool_interrupted ? 128 + tool_interrupted : exit_code;
}

int tool_end(cmif_err *err)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }
    (void) !cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
    return tool_report(err, 1);
}

int tool_print_json(json_t *object, cmif_err *err)
{
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    json_decref(object);
    if (!text) {
        (void) !cmif_fail(err, CMIF_E_FORMAT, "cannot make JSON: a name is not UTF-8");
        return tool_report(err, 1);
    }
    puts(text);
    free(text);
    return tool_end(err);
}

const char *tool_size(uint64_t bytes)
{
    static char texts[4][32];
    static int  next;
    char       *text = texts[next++ & 3];
    if (bytes < 1000) {
        snprintf(text, sizeof texts[0], "%u bytes", (unsigned) bytes);
    } else if (bytes < 1000000) {
        snprintf(text, sizeof texts[0], "%.1f kB", (double) bytes / 1e3);
    } else if (bytes < 1000000000) {
        snprintf(text, sizeof texts[0], "%.1f MB", (double) bytes / 1e6);
    } else {
        snprintf(text, sizeof texts[0], "%.2f GB", (double) bytes / 1e9);
    }
    return text;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double) time.tv_sec + 1e-9 * (double) time.tv_nsec;
}

tool_bar tool_bar_new(void)
{
    const char *term = getenv("TERM");
    return (tool_bar){.shown = !tool_json && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0};
}

bool tool_bar_draw(void *context, const char *what, uint64_t done, uint64_t total)
{
    tool_bar *b = context;
    if (b->shown && now() >= b->next) {
        enum { WIDTH = 30 };
        int full = total ? (int) (done * WIDTH / total) : WIDTH;
        fprintf(stderr, "\r\033[K%-20s [%.*s%*s] %3d %%", what, full < WIDTH ? full : WIDTH,
                "##############################", full < WIDTH ? WIDTH - full : 0, "",
                total ? (int) (done * 100 / total) : 100);
        b->next = now() + 0.1;
    }
    return !tool_interrupted;
}

void tool_bar_end(const tool_bar *b)
{
    if (b->shown) {
        fputs("\r\033[K", stderr);
    }
}
