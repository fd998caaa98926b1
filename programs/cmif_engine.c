/* cmif-engine - the engine process of cmif-server: not for people. Arguments: model slots context batch threads
 * gpu_layers; the server's socket is descriptor 3. */
#include "server/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

static bool number(const char *text, long low, long high, long *out)
{
    char *end;
    errno = 0;
    *out  = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *out >= low && *out <= high;
}

int main(int argc, char **argv)
{
    cmif_err  err = {0};
    long      slots, context, batch, threads, gpu_layers;
    int       type;
    socklen_t size = sizeof type;

    if (argc != 7 || !number(argv[2], 1, 256, &slots) || !number(argv[3], 0, INT32_MAX, &context) ||
        !number(argv[4], 0, INT32_MAX, &batch) || !number(argv[5], 0, 4096, &threads) ||
        !number(argv[6], INT32_MIN, INT32_MAX, &gpu_layers) ||
        getsockopt(CMIF_CHILD_FD, SOL_SOCKET, SO_TYPE, &type, &size) != 0) {
        fprintf(stderr, "cmif-engine: started by cmif-server only\n");
        return 2;
    }
    /* A terminal's Ctrl-C, and a service manager, signal the whole group: the server decides when we end. If it dies,
     * kill -9 included, so do we, even in the middle of a step. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    /* rows stay out of core files, and an abort of the engine does not start a debugger on itself */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setenv("GGML_NO_BACKTRACE", "1", 1);

    cmif_engine_options options = {.path       = argv[1],
                                   .slots      = (uint32_t) slots,
                                   .context    = (uint32_t) context,
                                   .batch      = (uint32_t) batch,
                                   .threads    = (uint32_t) threads,
                                   .gpu_layers = (int32_t) gpu_layers};
    if (cmif_child_run(CMIF_CHILD_FD, &options, &err) != CMIF_OK) {
        fprintf(stderr, "cmif-engine: %s\n", err.text);
        return 1;
    }
    return 0;
}
