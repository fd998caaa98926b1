#define _GNU_SOURCE /* pipe2 */
#include "cmif_child.h"

#include "cmif_terminal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READY_SECONDS 600 /* a model of many gigabytes from a slow disk */
#define STOP_SECONDS 5

/* ---- finding ---- */

cmif_code cmif_child_find(const char *name, char path[static PATH_MAX], cmif_err *err)
{
    static const char *const beside[] = {"../libexec/cmif/", "", "../../bin/"}; /* from bin/ and from libexec/cmif/ */
    const char              *libexec  = getenv("CMIF_LIBEXEC");
    char                     self[PATH_MAX];
    ssize_t                  size = readlink("/proc/self/exe", self, sizeof self - 1);

    if (libexec && *libexec && snprintf(path, PATH_MAX, "%s/%s", libexec, name) < PATH_MAX && access(path, X_OK) == 0) {
        return CMIF_OK;
    }
    if (size <= 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot tell where cmif lies: %s; set CMIF_LIBEXEC", strerror(errno));
    }
    self[size]            = '\0';
    strrchr(self, '/')[1] = '\0';
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        if (snprintf(path, PATH_MAX, "%s%s%s", self, beside[i], name) < PATH_MAX && access(path, X_OK) == 0) {
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_IO, "the program %s is missing: build or install it again, or set CMIF_LIBEXEC", name);
}

cmif_code cmif_child_become(const char *name, char **argv, cmif_err *err)
{
    char      path[PATH_MAX];
    cmif_code rc = cmif_child_find(name, path, err);
    if (rc == CMIF_OK) {
        argv[0] = path;
        signal(SIGPIPE, SIG_DFL); /* the one thing of ours that would be inherited */
        execv(path, argv);
        rc = cmif_fail(err, CMIF_E_IO, "cannot start %s: %s", name, strerror(errno));
    }
    return rc;
}

/* ---- starting ---- */

/* own_group keeps a Ctrl-C on the terminal from the child. in, out and errors become 0, 1 and 2; -1: nothing, ours. */
static cmif_code spawn(const char *name, char **argv, bool own_group, const int in_out_errors[static 3], pid_t *pid,
                       cmif_err *err)
{
    char                       path[PATH_MAX];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t          attr;
    sigset_t                   all, none;
    cmif_code                  rc = cmif_child_find(name, path, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    if (in_out_errors[0] < 0) { /* stdin may be the prompt: it is ours */
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    }
    for (int i = 0; i < 3; i++) {
        if (in_out_errors[i] >= 0) {
            posix_spawn_file_actions_adddup2(&files, in_out_errors[i], i);
        }
    }
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(
        &attr, (short) (POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | (own_group ? POSIX_SPAWN_SETPGROUP : 0)));
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setsigmask(&attr, &none);
    argv[0]   = path;
    int error = posix_spawn(pid, path, &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    argv[0] = NULL;
    return error ? cmif_fail(err, CMIF_E_IO, "cannot start %s: %s", name, strerror(error)) : CMIF_OK;
}

cmif_code cmif_child_run(const char *name, char **argv, char *output, size_t output_size, cmif_err *err)
{
    int       ends[2] = {-1, -1}, status = 0;
    size_t    used = 0;
    pid_t     pid;
    cmif_code rc = CMIF_OK;

    if (output && pipe2(ends, O_CLOEXEC) < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make a pipe: %s", strerror(errno));
    }
    if (!output) {
        ends[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
    }
    rc = spawn(name, argv, false, (int[3]){-1, ends[1], -1}, &pid, err);
    if (ends[1] >= 0) {
        close(ends[1]);
    }
    if (output) {
        for (ssize_t n = 1;
             rc == CMIF_OK && n != 0 && used < output_size - 1 && (n > 0 || (errno == EINTR && !cmif_interrupted));) {
            n = read(ends[0], output + used, output_size - 1 - used);
            used += n > 0 ? (size_t) n : 0;
        }
        output[used] = '\0';
        close(ends[0]);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    for (bool told = false; waitpid(pid, &status, WNOHANG) == 0;) {
        if (cmif_interrupted && !told) { /* a Ctrl-C reached it, too, but not a signal to us alone */
            told = kill(pid, SIGTERM) == 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    if (cmif_interrupted || (WIFEXITED(status) && WEXITSTATUS(status) == CMIF_EXIT_INTERRUPTED)) {
        return cmif_fail(err, CMIF_E_CANCELLED, "%s was stopped", name);
    }
    if (WIFSIGNALED(status)) {
        return cmif_fail(err, CMIF_E_IO, "%s was ended by signal %d", name, WTERMSIG(status));
    }
    cmif_code failed = WEXITSTATUS(status) == CMIF_EXIT_USAGE ? CMIF_E_RANGE : CMIF_E_IO;
    return WEXITSTATUS(status) ? cmif_fail(err, failed, "%s", "") : CMIF_OK;
}

/* ---- the private server ---- */

struct cmif_private_server {
    pid_t pid;   /* 0: not started, or collected */
    int   ready; /* its stdout */
    int   alive; /* its stdin: once we are gone, by whatever end, it sees that and ends too */
    int   lock;  /* the folder, locked for as long as we live */
    char  folder[PATH_MAX - 32], socket[PATH_MAX], log[PATH_MAX];
};

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"server.sock", "server.log"};
    char                     path[PATH_MAX + 16];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* Folders of runs that were killed: ours by owner, and no longer locked by anybody. */
static void sweep(const char *parent)
{
    DIR *dir = opendir(parent);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char        path[PATH_MAX];
        struct stat info;
        if (strncmp(entry->d_name, "cmif-run-", 9) ||
            snprintf(path, sizeof path, "%s/%s", parent, entry->d_name) >= (int) sizeof path) {
            continue;
        }
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        /* a folder of this very second may not be locked yet */
        if (fd >= 0 && fstat(fd, &info) == 0 && info.st_uid == geteuid() && info.st_mtime + 10 < time(NULL) &&
            flock(fd, LOCK_EX | LOCK_NB) == 0) {
            remove_folder(path);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static cmif_code make_folder(cmif_private_server *s, cmif_err *err)
{
    const char *run    = getenv("XDG_RUNTIME_DIR");
    const char *parent = run && *run && strlen(run) < 64 && access(run, W_OK | X_OK) == 0 ? run : "/tmp";

    sweep(parent);
    snprintf(s->folder, sizeof s->folder, "%s/cmif-run-XXXXXX", parent); /* short: sun_path holds 108 bytes */
    if (!mkdtemp(s->folder)) {                                           /* mode 0700 */
        s->folder[0] = '\0';
        return cmif_fail(err, CMIF_E_IO, "cannot make a folder in %s: %s", parent, strerror(errno));
    }
    s->lock = open(s->folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->lock < 0 || flock(s->lock, LOCK_EX | LOCK_NB) < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot lock %s: %s", s->folder, strerror(errno));
    }
    snprintf(s->socket, sizeof s->socket, "%s/server.sock", s->folder);
    snprintf(s->log, sizeof s->log, "%s/server.log", s->folder);
    return CMIF_OK;
}

cmif_code cmif_private_server_start(const char *path, uint32_t slots, uint32_t context, uint32_t threads,
                                    cmif_private_server **out, cmif_err *err)
{
    int                  ready[2] = {-1, -1}, alive[2] = {-1, -1}, log = -1;
    char                 numbers[3][16], listen[PATH_MAX + 8];
    char                *argv[20] = {NULL};
    int                  count    = 1;
    cmif_private_server *s        = calloc(1, sizeof *s);
    if (!s) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a server");
    }
    s->ready = s->alive = s->lock = -1;
    cmif_code rc                  = make_folder(s, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    log = open(s->log, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0600);
    if (log < 0 || pipe2(ready, O_CLOEXEC) < 0 || pipe2(alive, O_CLOEXEC) < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot make %s: %s", s->log, strerror(errno));
        goto done;
    }
    snprintf(listen, sizeof listen, "unix:%s", s->socket);
    snprintf(numbers[0], sizeof numbers[0], "%u", slots);
    snprintf(numbers[1], sizeof numbers[1], "%u", context);
    snprintf(numbers[2], sizeof numbers[2], "%u", threads);
    argv[count++] = "--model";
    argv[count++] = (char *) (uintptr_t) path;
    argv[count++] = "--listen";
    argv[count++] = listen;
    argv[count++] = "--die-with-parent";
    if (slots) {
        argv[count++] = "--max-sessions";
        argv[count++] = numbers[0];
    }
    if (context) {
        argv[count++] = "--max-context";
        argv[count++] = numbers[1];
    }
    if (threads) {
        argv[count++] = "--threads";
        argv[count++] = numbers[2];
    }
    rc = spawn("cmif-server", argv, true, (int[3]){alive[0], ready[1], log}, &s->pid, err);
    if (rc != CMIF_OK) {
        s->pid = 0;
        goto done;
    }
    s->ready = ready[0];
    s->alive = alive[1];
    ready[0] = alive[1] = -1;
    *out                = s;
    s                   = NULL;
done:
    cmif_private_server_stop(s);
    const int fds[] = {ready[0], ready[1], alive[0], alive[1], log};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    return rc;
}

/* The last line that the server wrote: its reason. */
static void last_line(const char *path, char line[static 256])
{
    static const char prefix[] = "cmif-server: ";
    char              text[256];
    FILE             *file = fopen(path, "re");
    line[0]                = '\0';
    while (file && fgets(text, sizeof text, file)) {
        text[strcspn(text, "\n")] = '\0';
        if (text[0]) {
            memcpy(line, text, sizeof text);
        }
    }
    if (!strncmp(line, prefix, sizeof prefix - 1)) {
        memmove(line, line + sizeof prefix - 1, 256 - (sizeof prefix - 1));
    }
    if (file) {
        fclose(file);
    }
}

cmif_code cmif_private_server_wait(cmif_private_server *s, cmif_err *err)
{
    char   line[64];
    size_t used = 0;
    char   why[256];

    for (int tenths = 0; tenths < READY_SECONDS * 10; tenths++) {
        struct pollfd fd = {.fd = s->ready, .events = POLLIN};
        int           n  = poll(&fd, 1, 100);
        if (cmif_interrupted) {
            return cmif_fail(err, CMIF_E_CANCELLED, "stopped while the server was loading");
        }
        if (n <= 0) {
            cmif_status("loading the model");
            continue;
        }
        ssize_t got = read(s->ready, line + used, sizeof line - 1 - used);
        if (got <= 0) {
            int status = 0;
            waitpid(s->pid, &status, 0);
            s->pid = 0;
            last_line(s->log, why);
            return cmif_fail(err, CMIF_E_IO, "the private server did not start: %s",
                             why[0] ? why : "it wrote no reason");
        }
        used += (size_t) got;
        if (memchr(line, '\n', used)) { /* the one line it writes to stdout says that it listens */
            return CMIF_OK;
        }
        if (used == sizeof line - 1) {
            used = 0;
        }
    }
    return cmif_fail(err, CMIF_E_IO, "the private server was not ready within %d seconds", READY_SECONDS);
}

const char *cmif_private_server_socket(const cmif_private_server *s)
{
    return s->socket;
}

int cmif_private_server_pid(const cmif_private_server *s)
{
    return s->pid;
}

void cmif_private_server_stop(cmif_private_server *s)
{
    if (!s) {
        return;
    }
    if (s->pid) {
        kill(s->pid, SIGTERM);
        for (int i = 0; i < STOP_SECONDS * 100 && s->pid; i++) {
            if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
                s->pid = 0;
            } else {
                nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
            }
        }
        if (s->pid) {
            kill(s->pid, SIGKILL);
            waitpid(s->pid, NULL, 0);
        }
    }
    if (s->folder[0]) {
        remove_folder(s->folder);
    }
    if (s->ready >= 0) {
        close(s->ready);
    }
    if (s->alive >= 0) {
        close(s->alive);
    }
    if (s->lock >= 0) {
        close(s->lock);
    }
    free(s);
}
