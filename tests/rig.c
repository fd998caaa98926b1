#define _GNU_SOURCE /* memmem, pipe2 */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double rig_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

pid_t rig_child_of(pid_t parent)
{
    char path[64];
    int  child = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int) parent, (int) parent);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%d", &child) != 1) {
            child = 0;
        }
        fclose(f);
    }
    return child;
}

cmif_code rig_open(rig *r, const char *client, cmif_err *err)
{
    *r           = (rig){0};
    cmif_code rc = cmif_gguf_open(client, &r->file, err);
    if (rc == CMIF_OK) {
        rc = cmif_embed_open(r->file, &r->table, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_hash(r->file, "cmif.model_id", r->id, err);
    }
    return rc;
}

cmif_code rig_start(rig *r, const char *server, const char *const *arguments, cmif_err *err)
{
    int         out[2];
    char        listen[128];
    const char *argv[32] = {CMIF_BUILD_DIR "/bin/cmif-server", "-m", server, "--listen", listen, "--json"};
    size_t      argc     = 6;

    snprintf(r->folder, sizeof r->folder, "/tmp/cmif-rig-XXXXXX");
    if (!mkdtemp(r->folder) || pipe2(out, O_CLOEXEC) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make a folder in /tmp: %s", strerror(errno));
    }
    snprintf(r->socket, sizeof r->socket, "%s/socket", r->folder);
    snprintf(listen, sizeof listen, "unix:%s", r->socket);
    while (arguments && *arguments && argc < 31) {
        argv[argc++] = *arguments++;
    }
    r->server = fork();
    if (r->server == 0) {
        dup2(out[1], STDOUT_FILENO);
        if (!getenv("CMIF_VERBOSE")) {
            dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        }
        execv(argv[0], (char *const *) (uintptr_t) argv);
        _exit(127);
    }
    close(out[1]);
    char          line[512];
    struct pollfd ready = {.fd = out[0], .events = POLLIN};
    ssize_t       size  = poll(&ready, 1, 120000) > 0 ? read(out[0], line, sizeof line) : -1;
    /* out[0] stays open: the server may print more; it ends with this process */
    if (size <= 0 || !memmem(line, (size_t) size, "ready", 5)) {
        return cmif_fail(err, CMIF_E_IO, "cmif-server did not become ready: run with CMIF_VERBOSE=1 to see why");
    }
    r->options = (cmif_session_options){.peer             = {.path = r->socket, .connect_seconds = 10},
                                        .model_id         = r->id,
                                        .row_type         = CMIF_ROWS_F32,
                                        .patience_seconds = 60};
    return CMIF_OK;
}

bool rig_stop_server(rig *r)
{
    int status = -1;
    if (r->server > 0) {
        kill(r->server, SIGTERM);
        waitpid(r->server, &status, 0);
        r->server = 0;
    }
    if (r->folder[0]) {
        unlink(r->socket);
        rmdir(r->folder);
        r->folder[0] = 0;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void rig_stop(rig *r)
{
    (void) rig_stop_server(r);
    cmif_embed_free(r->table);
    cmif_gguf_free(r->file);
    *r = (rig){0};
}

int rig_run(const char *program, const char *const *arguments)
{
    char        path[512];
    const char *argv[32] = {path};
    size_t      argc     = 1;
    int         status;
    snprintf(path, sizeof path, "%s/%s", CMIF_BUILD_DIR, program);
    while (*arguments && argc < 31) {
        argv[argc++] = *arguments++;
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (!getenv("CMIF_VERBOSE")) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDOUT_FILENO);
            dup2(null, STDERR_FILENO);
        }
        execv(path, (char *const *) (uintptr_t) argv);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
