/* cmif - the program a person runs: the trusted side of split inference, and a few tools for models.
 *
 * It never links an engine. What needs one (split, inspect), or the network for public data (pull), or
 * no person's text (bench) is another program. */
#include "cmif_commands.h"

#include <string.h>

static int become(const char *name, const char *command, int argc, char **argv)
{
    char    *args[64] = {NULL};
    int      count    = 1;
    cmif_err err      = {0};

    if (argc > 60) {
        (void) cmif_fail(&err, CMIF_E_RANGE, "too many arguments");
        return cmif_report_usage(&err);
    }
    if (command) {
        args[count++] = (char *) (uintptr_t) command;
    }
    for (int i = 0; i < argc; i++) {
        args[count++] = argv[i];
    }
    (void) cmif_child_become(name, args, &err); /* on success this never returns */
    return cmif_report(&err);
}

static int split(int argc, char **argv)
{
    return become("cmif-model", "split", argc, argv);
}
static int inspect(int argc, char **argv)
{
    return become("cmif-model", "inspect", argc, argv);
}
static int pull(int argc, char **argv)
{
    return become("fetch", NULL, argc, argv);
}
static int setup(int argc, char **argv)
{
    return become("cmif-build", "setup", argc, argv);
}
static int bench(int argc, char **argv)
{
    return become("cmif-bench", NULL, argc, argv);
}

static int eval(int argc, char **argv)
{
    return become("cmif-eval", "eval", argc, argv);
}
static int leak_test(int argc, char **argv)
{
    return become("cmif-eval", "leak-test", argc, argv);
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help; /* NULL: named in one line with others */
} commands[] = {
    {"run", cmif_run, "answer one prompt"},
    {"chat", cmif_chat_command, "talk with a model"},
    {"classify", cmif_classify, "label texts with a classifier"},
    {"embed", cmif_embed_command, NULL},
    {"sanitize", cmif_sanitize, "write a text as it may leave, and put originals back"},
    {"policy", cmif_policy_command, "what is done with each kind of word"},
    {"channel", cmif_channel_command, "certified tables that words are drawn from"},
    {"lexicon", cmif_lexicon_command, NULL},
    {"budget", cmif_budget_command, "what was spent, what is left, and how much may be"},
    {"audit", cmif_audit_command, NULL},
    {"setup", setup, "make what sanitizing needs, once: words, names, the default table"},
    {"verify", cmif_verify_command, "what evidence of a TEE or a TPM proves"},
    {"collateral", cmif_collateral_command, NULL},
    {"keyserver", cmif_keyserver_command, NULL},
    {"pull", pull, "bring a small model, smollm2 or minilm, or public words"},
    {"split", split, "write the two halves of a model file"},
    {"inspect", inspect, NULL},
    {"eval", eval, "measure what is left of a task under each mechanism"},
    {"leak-test", leak_test, "attack what would leave, and say what comes back"},
    {"doctor", cmif_doctor, "check machine, programs, model and server; say what to do"},
    {"bench", bench, NULL},
};

static void help(FILE *to)
{
    fputs("cmif: ask a language model on a machine that holds only half of it\n\n"
          "usage: cmif COMMAND [options]\n\n",
          to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (commands[i].help) {
            fprintf(to, "  %-10s%s\n", commands[i].name, commands[i].help);
        }
    }
    fputs("  also:    ", to);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!commands[i].help) {
            fprintf(to, " %s", commands[i].name);
        }
    }
    fputs("\n\n  cmif setup && cmif pull smollm2\n"
          "  cmif run -m smollm2 \"Write a two-line thank-you note to my nurse.\"\n\n"
          "'cmif COMMAND --help' lists its options; 'man cmif' tells more.\n",
          to);
}

static int unknown(const char *word)
{
    const char *names[sizeof commands / sizeof *commands];
    cmif_err    err = {0};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        names[i] = commands[i].name;
    }
    const char *near = cmif_nearest(word, names, sizeof commands / sizeof *commands);
    if (near && cmif_printable_word(word)) {
        (void) cmif_fail(&err, CMIF_E_RANGE, "there is no command '%s': did you mean '%s'?", word, near);
    } else {
        (void) cmif_fail(&err, CMIF_E_RANGE, "there is no such command: 'cmif --help' lists them");
    }
    return cmif_report_usage(&err);
}

/* Other users can read a command line: it is copied into secret memory and blanked before anything slow happens. */
static cmif_code hide_arguments(int argc, char **argv, cmif_secret *copy, cmif_err *err)
{
    size_t    size = 0;
    cmif_code rc   = CMIF_OK;
    for (int i = 2; i < argc; i++) {
        size += strlen(argv[i]) + 1;
    }
    rc = cmif_secret_reserve(copy, size, err); /* so that it does not move below */
    for (int i = 2; rc == CMIF_OK && i < argc; i++) {
        char *there = (char *) copy->data + copy->size;
        size        = strlen(argv[i]);
        rc          = cmif_secret_append(copy, argv[i], size + 1, err);
        cmif_wipe(argv[i], size);
        argv[i] = there;
    }
    return rc;
}

int main(int argc, char **argv)
{
    static cmif_secret arguments; /* as long as the program */
    cmif_err           err = {0};

    cmif_secret_harden_process();
    if (hide_arguments(argc, argv, &arguments, &err) != CMIF_OK) {
        return cmif_report(&err);
    }
    cmif_signals_install();
    cmif_output_install();

    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) { /* a usage error must already know */
        cmif_json = cmif_json || !strcmp(argv[i], "--json");
    }
    if (argc < 2) {
        help(stderr);
        return CMIF_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help(stdout);
        return CMIF_EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("cmif %s\n", CMIF_VERSION);
        return CMIF_EXIT_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(argv[1], commands[i].name)) {
            int exit_code = commands[i].run(argc - 2, argv + 2);
            cmif_output_forget();
            return exit_code;
        }
    }
    return unknown(argv[1]);
}
