/* cmif policy - what is done with each kind of word, for a person to read, check and begin to write. */
#include "cmif_commands.h"
#include "cmif_guard.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const base_names[] = {"names", "topics", "words"};
enum { BASES = 3 };

const char *cmif_class_about(cmif_span_class class)
{
    static const char *const about[CMIF_SPAN_CLASSES] = {
        [CMIF_SPAN_OTHER]        = "white space and punctuation",
        [CMIF_SPAN_STOP]         = "function words: the, of, not",
        [CMIF_SPAN_WORD]         = "ordinary words of the public vocabulary",
        [CMIF_SPAN_TOPIC]        = "words of health, money, law, religion, sex, politics, crime, ethnicity, family",
        [CMIF_SPAN_COUNT_NUMBER] = "small numbers that count things: 3 apples",
        [CMIF_SPAN_EMAIL]        = "e-mail addresses",
        [CMIF_SPAN_URL]          = "web addresses",
        [CMIF_SPAN_HOST]         = "names of machines and domains",
        [CMIF_SPAN_IP]           = "addresses of machines",
        [CMIF_SPAN_PHONE]        = "phone numbers",
        [CMIF_SPAN_CARD]         = "payment cards",
        [CMIF_SPAN_IBAN]         = "bank accounts (IBAN)",
        [CMIF_SPAN_ACCOUNT]      = "account and customer numbers",
        [CMIF_SPAN_ID]           = "passport, identity and social security numbers",
        [CMIF_SPAN_SECRET]       = "passwords, API keys, tokens",
        [CMIF_SPAN_CRYPTO]       = "addresses of crypto currencies",
        [CMIF_SPAN_GPS]          = "coordinates",
        [CMIF_SPAN_DATE]         = "dates",
        [CMIF_SPAN_TIME]         = "times of day",
        [CMIF_SPAN_MONEY]        = "amounts of money",
        [CMIF_SPAN_NUMBER]       = "other numbers",
        [CMIF_SPAN_PERCENT]      = "percentages",
        [CMIF_SPAN_ADDRESS]      = "postal addresses",
        [CMIF_SPAN_POSTCODE]     = "postal codes",
        [CMIF_SPAN_PERSON]       = "names of people",
        [CMIF_SPAN_PLACE]        = "places: cities, regions, countries",
        [CMIF_SPAN_ORGANISATION] = "companies and organisations",
        [CMIF_SPAN_UNKNOWN]      = "words outside the public vocabulary; they can never pass",
    };
    return (unsigned) class < CMIF_SPAN_CLASSES ? about[class] : "";
}

cmif_code cmif_write_new(const char *path, const void *bytes, size_t size, unsigned mode, cmif_err *err)
{
    char      part[PATH_MAX];
    cmif_code rc = CMIF_OK;
    int       fd = -1;

    if (snprintf(part, sizeof part, "%s.part.%d", path, (int) getpid()) >= (int) sizeof part) {
        return cmif_fail(err, CMIF_E_IO, "the name of the file is too long");
    }
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot write beside '%s': %s", path, strerror(errno));
    }
    for (size_t at = 0; rc == CMIF_OK && at < size;) {
        ssize_t n = write(fd, (const char *) bytes + at, size - at);
        if (n < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", path, strerror(errno));
        }
        at += n > 0 ? (size_t) n : 0;
    }
    if (rc == CMIF_OK && (fchmod(fd, mode) < 0 || fsync(fd) < 0)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", path, strerror(errno));
    }
    if (rc == CMIF_OK && link(part, path) < 0) { /* unlike rename, never over another */
        rc = errno == EEXIST
                 ? cmif_fail(err, CMIF_E_IO, "'%s' is there: it is not written over; choose another name", path)
                 : cmif_fail(err, CMIF_E_IO, "cannot make '%s': %s", path, strerror(errno));
    }
    unlink(part);
    close(fd);
    return rc;
}

static cmif_code flush(cmif_err *err)
{
    return fflush(stdout) == 0 && !ferror(stdout)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

static const cmif_option common_options[] = {CMIF_COMMON_OPTIONS};
enum { COMMON = sizeof common_options / sizeof *common_options };

/* ---- show ---- */

static const char       *channel_option;
static const cmif_option show_options[] = {
    {0, "channel", "FILE", CMIF_OPTION_TEXT, &channel_option, 0, 0, "with this table (default: of 'cmif setup')"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command show_command = {
    .name         = "policy show",
    .args         = "[NAME | FILE]",
    .summary      = "what a policy does with each class, and what may be claimed",
    .options      = show_options,
    .option_count = sizeof show_options / sizeof *show_options,
    .notes        = "Default: topics. What it prints is a policy file, in full.\n",
};

static cmif_code open_policy(const char *name, cmif_policy **out, cmif_err *err)
{
    for (size_t i = 0; i < BASES; i++) {
        if (!strcmp(name, base_names[i])) {
            return cmif_policy_named(name, out, err);
        }
    }
    if (!strcmp(name, "none") || !strcmp(name, "channel")) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' is no policy with classes: it %s", name,
                         !strcmp(name, "none") ? "sends the text as it is" : "draws every word, whatever it is");
    }
    if (!strchr(name, '/') && access(name, F_OK) != 0) {
        const char *near = cmif_nearest(name, base_names, BASES);
        return cmif_fail(err, CMIF_E_RANGE, "there is no such policy, and no such file%s%s%s",
                         near ? ": did you mean '" : ": names, topics, words, or a file", near ? near : "",
                         near ? "'?" : "");
    }
    return cmif_policy_open(name, out, err);
}

/* The canonical text, each class with what it is: still the same policy. */
static void print_policy(const cmif_policy *p, const char *text)
{
    for (const char *line = text, *end; *line; line = *end ? end + 1 : end) {
        cmif_span_class class;
        const char *about = NULL;
        char        name[32];
        end = line + strcspn(line, "\n");
        if (sscanf(line, "class %31s", name) == 1 && cmif_span_class_find(name, &class)) {
            about = cmif_class_about(class);
        } else if (!strncmp(line, "stop-words ", 11)) {
            about = cmif_class_about(CMIF_SPAN_STOP);
        }
        if (about) {
            printf("%-32.*s # %s\n", (int) (end - line), line, about);
        } else {
            printf("%.*s\n", (int) (end - line), line);
        }
    }
    static const char *const means[] = {
        "leaves as it is written, counted", "drawn from the certified table, not put back",
        "a made-up value of the same type, put back in answers", "the request is refused"};
    printf("\n");
    for (cmif_action a = CMIF_ACTION_PASS; a <= CMIF_ACTION_REFUSE; a++) {
        bool used = false;
        for (size_t c = CMIF_SPAN_STOP; c < CMIF_SPAN_CLASSES; c++) {
            used = used || p->actions[c] == a;
        }
        if (used) {
            printf("# %-10s %s\n", cmif_action_name(a), means[a]);
        }
    }
}

static json_t *number_json(double value)
{
    return isinf(value) ? json_null() : json_real(value);
}

static json_t *names_json(const cmif_named *list, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(
            array, json_pack("{s:s, s:s}", "name", list[i].text, "class", cmif_span_class_name(list[i].class)));
    }
    return array;
}

static json_t *policy_json(const cmif_policy *p, const char *text, const char *hash, const char *sentence)
{
    json_t *classes = json_object();
    for (size_t i = CMIF_SPAN_STOP; i < CMIF_SPAN_CLASSES; i++) {
        json_object_set_new(classes, cmif_span_class_name((cmif_span_class) i),
                            json_string(cmif_action_name(p->actions[i])));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:{s:o, s:o, s:o}, s:s?}", "policy", p->base, "policy_sha256",
                     hash, "text", text, "classes", classes, "allow", names_json(p->allow, p->allow_count), "deny",
                     names_json(p->deny, p->deny_count), "budgets", "request", number_json(p->budget_request), "day",
                     number_json(p->budget_day), "key", number_json(p->budget_key), "guarantee", sentence);
}

/* What may be claimed is of policy and channel together. false: the files for it are not there. */
static bool find_sentence(const char *name, char sentence[static 1024], cmif_err *err)
{
    cmif_guard         guard   = {0};
    cmif_guard_options options = {.policy = name, .channel = channel_option};
    cmif_code          rc      = cmif_guard_open(&options, false, &guard, err);
    if (rc == CMIF_OK) {
        cmif_guard_sentence(&guard, sentence, 1024);
    }
    cmif_guard_close(&guard);
    return rc == CMIF_OK;
}

static int show_main(int argc, char **argv)
{
    const char  *name           = "topics";
    cmif_policy *policy         = NULL;
    char        *text           = NULL;
    char         sentence[1024] = "", hash[65] = "";
    bool         usage = true, known = false;
    cmif_err     err = {0}, why = {0};
    int          rest = 0;
    cmif_code    rc   = cmif_options_parse(&show_command, argc, argv, &rest, &err);

    if (rc == CMIF_OK && rest > 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "policy show takes one name or file");
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    name  = rest ? argv[0] : name;
    rc    = open_policy(name, &policy, &err);
    usage = rc == CMIF_E_RANGE;
    if (rc != CMIF_OK) {
        goto done;
    }
    known = find_sentence(name, sentence, &why);
    if (!known && channel_option) { /* asked for: an error */
        err   = why;
        rc    = why.code;
        usage = rc == CMIF_E_RANGE;
        goto done;
    }
    text = cmif_policy_text(policy);
    if (!text) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for a policy");
        goto done;
    }
    cmif_hex(policy->hash, sizeof policy->hash, hash);
    if (cmif_json) {
        rc = cmif_print_json(policy_json(policy, text, hash, known ? sentence : NULL), &err);
        goto done;
    }
    print_policy(policy, text);
    printf("# hash       %s\n# guarantee  %s\n", hash, known ? sentence : "not known yet");
    if (!known) {
        printf("#            %s\n", why.text);
    }
    rc = flush(&err);
done:
    if (text) {
        cmif_wipe(text, strlen(text));
        free(text);
    }
    cmif_policy_free(policy);
    return rc == CMIF_OK ? CMIF_EXIT_OK : usage ? cmif_report_usage(&err) : cmif_report(&err);
}

/* ---- check ---- */

static const cmif_command check_command = {
    .name         = "policy check",
    .args         = "FILE...",
    .summary      = "whether files are right, and what they loosen",
    .options      = common_options,
    .option_count = COMMON,
    .notes        = "Exit code 1 when a file is wrong: its line, what was expected, what was found.\n"
                    "What is looser lets out what the base would not. The hash is that of receipts.\n",
};

typedef struct loosened {
    const cmif_policy *base, *policy;
    json_t            *list; /* NULL: print */
    size_t             names;
} loosened;

static void add_loosened(void *context, const char *what, const char *name)
{
    loosened *l        = context;
    char      text[96] = "";
    cmif_span_class class;

    if (!strcmp(what, "allow")) { /* a person's own names: how many is enough here */
        l->names++;
        return;
    }
    if (!strcmp(what, "class") && cmif_span_class_find(name, &class)) {
        snprintf(text, sizeof text, "class %s: %s, not %s", name, cmif_action_name(l->policy->actions[class]),
                 cmif_action_name(l->base->actions[class]));
    } else {
        snprintf(text, sizeof text, "%s %s: not that of the base", what, name);
    }
    if (l->list) {
        json_array_append_new(l->list, json_string(text));
    } else {
        printf("  looser  %s\n", text);
    }
}

static cmif_code check_file(const char *path, json_t *list, cmif_err *err)
{
    cmif_policy *policy = NULL, *base = NULL;
    char         hash[65] = "", text[96];
    cmif_code    rc       = cmif_policy_open(path, &policy, err);
    if (rc == CMIF_OK) {
        rc = cmif_policy_named(policy->base, &base, err);
    }
    if (rc == CMIF_OK) {
        loosened l = {.base = base, .policy = policy, .list = cmif_json ? json_array() : NULL};
        cmif_hex(policy->hash, sizeof policy->hash, hash);
        if (!cmif_json) {
            printf("%s: good, from %s, hash %s\n", path, policy->base, hash);
        }
        size_t count = cmif_policy_loosens(base, policy, add_loosened, &l);
        if (l.names) {
            snprintf(text, sizeof text, "allow: %zu name%s pass%s", l.names, l.names > 1 ? "s" : "",
                     l.names > 1 ? "" : "es");
            if (cmif_json) {
                json_array_append_new(l.list, json_string(text));
            } else {
                printf("  looser  %s\n", text);
            }
        }
        if (cmif_json) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:o}", "file", path, "policy", policy->base,
                                                  "policy_sha256", hash, "looser", l.list));
        } else if (!count) {
            printf("  lets out nothing that %s does not\n", policy->base);
        }
    }
    cmif_policy_free(policy);
    cmif_policy_free(base);
    return rc;
}

static int check_main(int argc, char **argv)
{
    json_t   *list = json_array();
    cmif_err  err  = {0};
    int       rest = 0, code;
    cmif_code rc   = cmif_options_parse(&check_command, argc, argv, &rest, &err);

    if (rc == CMIF_OK && !rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "which file? 'cmif policy show' shows the policies that have names");
    }
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report_usage(&err);
    for (int i = 0; rc == CMIF_OK && i < rest; i++) {
        if (check_file(argv[i], list, &err) != CMIF_OK) {
            fflush(stdout);
            code = cmif_report(&err);
        }
    }
    if (rc == CMIF_OK) {
        rc   = cmif_json ? cmif_print_json(json_pack("{s:O}", "policies", list), &err) : flush(&err);
        code = rc == CMIF_OK ? code : cmif_report(&err);
    }
    json_decref(list);
    return code;
}

/* ---- init ---- */

static const char       *out_option;
static const cmif_option init_options[] = {
    {'o', "output", "FILE", CMIF_OPTION_TEXT, &out_option, 0, 0, "a new file; one that is there is not written over"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command init_command = {
    .name         = "policy init",
    .args         = "[NAME] -o FILE",
    .summary      = "begin a policy file, with every choice in comments",
    .options      = init_options,
    .option_count = sizeof init_options / sizeof *init_options,
    .notes        = "\n  cmif policy init topics -o my.policy\n  cmif run --policy my.policy -m MODEL ...\n",
};

static cmif_code write_file(const cmif_policy *p, cmif_err *err)
{
    char  *text = NULL;
    size_t size = 0;
    FILE  *f    = open_memstream(&text, &size);
    if (!f) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy");
    }
    fprintf(f,
            "# What is done with each kind of word before it leaves. Check it with: cmif policy check FILE\n"
            "# Use it with: cmif run --policy FILE. A line counts when no # is in front of it.\n\n"
            "policy %s            # names, topics or words: what everything starts from\n\n"
            "# Function words: pass, or protect (through the channel).\n#stop-words pass\n\n"
            "# By class: surrogate (made up, put back in answers), channel (drawn; stop, word and topic only), pass, "
            "or refuse\n"
            "# (the request is refused). What stands here is what the base does.\n",
            p->base);
    for (size_t i = CMIF_SPAN_WORD; i < CMIF_SPAN_CLASSES; i++) {
        fprintf(f, "#class %-13s %-10s # %s\n", cmif_span_class_name((cmif_span_class) i),
                cmif_action_name(p->actions[i]), cmif_class_about((cmif_span_class) i));
    }
    fputs(
        "\n# Names that pass wherever they stand, and names that never do (person, place, organisation or unknown).\n"
        "#allow \"Acme\"\n#deny \"Project Halcyon\" organisation\n\n"
        "# The most epsilon to spend: for a request (words beyond it leave as one fixed word), a day (UTC), or ever.\n"
        "#budget request 50\n#budget day 200\n#budget key 5000\n"
        "# Words of heavier topics are drawn first, while a request's budget lasts; 1 is what words of no topic "
        "weigh.\n"
        "#weight health 2\n",
        f);
    bool      bad = ferror(f) || fclose(f) != 0;
    cmif_code rc  = bad ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a policy")
                        : cmif_write_new(out_option, text, size, 0600, err);
    free(text);
    return rc;
}

static int init_main(int argc, char **argv)
{
    cmif_policy *policy = NULL;
    cmif_err     err    = {0};
    int          rest   = 0;
    bool         usage  = true;
    cmif_code    rc     = cmif_options_parse(&init_command, argc, argv, &rest, &err);

    if (rc == CMIF_OK && rest > 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "policy init takes one name: names, topics or words");
    }
    if (rc == CMIF_OK && !out_option) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "where to? Give -o FILE");
    }
    if (rc == CMIF_OK) {
        rc = cmif_policy_named(rest ? argv[0] : "topics", &policy, &err);
    }
    if (rc == CMIF_OK) {
        usage = false;
        rc    = write_file(policy, &err);
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:s}", "file", out_option, "policy", policy->base), &err);
    } else if (rc == CMIF_OK && !cmif_quiet) {
        printf("%s: %s, to be edited; 'cmif policy check %s' checks it\n", out_option, policy->base, out_option);
        rc = flush(&err);
    }
    cmif_policy_free(policy);
    return rc == CMIF_OK ? CMIF_EXIT_OK : usage ? cmif_report_usage(&err) : cmif_report(&err);
}

int cmif_policy_command(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } parts[]                = {{"show", show_main}, {"check", check_main}, {"init", init_main}};
    static const char help[] = "usage: cmif policy show [NAME|FILE]     what it does, and what may be claimed\n"
                               "       cmif policy check FILE...        whether it is right; what it loosens\n"
                               "       cmif policy init [NAME] -o FILE  begin a file of one's own\n";
    cmif_err          err    = {0};

    for (size_t i = 0; argc > 0 && i < sizeof parts / sizeof *parts; i++) {
        if (!strcmp(argv[0], parts[i].name)) {
            return parts[i].run(argc - 1, argv + 1);
        }
    }
    if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        fputs(help, stdout);
        return CMIF_EXIT_OK;
    }
    (void) cmif_fail(&err, CMIF_E_RANGE, "policy takes show, check or init: 'cmif policy --help' tells more");
    return cmif_report_usage(&err);
}
