/* cmif budget - what was spent, what is left, and how much may be: the ledger as a person sees it. */
#include "cmif_commands.h"

#include "base/bytes.h"
#include "ledger/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { DAY = 86400 };

static const char *ledger_option;

#define LEDGER_OPTION                                                                                                  \
    {                                                                                                                  \
        0, "ledger", "FILE", CMIF_OPTION_TEXT, &ledger_option, 0, 0, "another ledger than one's own"                   \
    }

/* The ledger that the options mean; *out stays NULL, and it is OK, when make is false and there is none. */
static cmif_code open_ledger(bool make, char path[static PATH_MAX], cmif_ledger **out, cmif_err *err)
{
    struct stat info;
    cmif_code   rc = CMIF_OK;
    if (ledger_option) {
        if (snprintf(path, PATH_MAX, "%s", ledger_option) >= PATH_MAX) {
            return cmif_fail(err, CMIF_E_IO, "the ledger's name is too long");
        }
    } else {
        char folder[PATH_MAX];
        rc = cmif_data_folder(folder, err);
        if (rc == CMIF_OK) {
            snprintf(path, PATH_MAX, "%.*s/ledger.db", PATH_MAX / 2, folder);
        }
    }
    if (rc == CMIF_OK && !make && stat(path, &info) < 0 && errno == ENOENT) {
        return CMIF_OK;
    }
    return rc == CMIF_OK ? cmif_ledger_open(path, out, err) : rc;
}

static double epsilon_of(uint64_t micro)
{
    return (double) micro / 1e6;
}

static void write_time(int64_t when, char out[static 32])
{
    time_t    seconds = (time_t) when;
    struct tm parts   = {0};
    gmtime_r(&seconds, &parts);
    strftime(out, 32, "%Y-%m-%d %H:%M UTC", &parts);
}

static cmif_code flush(cmif_err *err)
{
    return fflush(stdout) == 0
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

static int parse(const cmif_command *command, int argc, char **argv, int most, int *rest, cmif_err *err)
{
    cmif_code rc = cmif_options_parse(command, argc, argv, rest, err);
    if (rc == CMIF_OK && *rest > most) {
        rc = cmif_fail(err, CMIF_E_RANGE, "%s takes %s: 'cmif %s --help' tells more", command->name,
                       most ? "one key at most" : "options only", command->name);
    }
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report_usage(err);
}

/* ---- show ---- */

typedef struct key_list {
    char   names[256][CMIF_LEDGER_KEY_MAX + 1];
    size_t count;
} key_list;

static bool add_key(void *context, const char *key)
{
    key_list *list = context;
    snprintf(list->names[list->count++], sizeof list->names[0], "%s", key);
    return list->count < sizeof list->names / sizeof list->names[0];
}

typedef struct key_state {
    cmif_budgets budgets;
    cmif_spent   ever, today;
    int64_t      renews;
} key_state;

static cmif_code get_state(cmif_ledger *ledger, const char *key, key_state *s, cmif_err *err)
{
    const int64_t now = (int64_t) time(NULL);
    cmif_code     rc  = cmif_ledger_get(ledger, key, &s->budgets, err);
    rc                = rc == CMIF_OK ? cmif_ledger_sum(ledger, key, 0, &s->ever, err) : rc;
    if (rc == CMIF_OK) {
        const int64_t day = (s->ever.last > now ? s->ever.last : now) / DAY; /* as the ledger counts */
        s->renews         = (day + 1) * DAY;
        rc                = cmif_ledger_sum(ledger, key, day * DAY, &s->today, err);
    }
    return rc;
}

static void print_budget(const char *name, uint64_t spent, double budget, const char *note)
{
    const double used = epsilon_of(spent);
    if (isinf(budget)) {
        printf("  %-9s epsilon %.10g spent, no limit\n", name, used);
    } else {
        printf("  %-9s epsilon %.10g of %.10g spent, %.10g left%s\n", name, used, budget,
               used < budget ? budget - used : 0, note);
    }
}

static void print_state(const char *key, const key_state *s)
{
    char when[32], note[64];
    write_time(s->renews, when);
    snprintf(note, sizeof note, "; renews %s", when);
    printf("%s\n", key);
    if (isinf(s->budgets.request)) {
        printf("  request   no limit\n");
    } else {
        printf("  request   epsilon %.10g at most\n", s->budgets.request);
    }
    print_budget("day", s->today.epsilon_micro, s->budgets.day, note);
    print_budget("ever", s->ever.epsilon_micro, s->budgets.key, "; does not renew");
    printf("  %" PRIu64 " requests, %" PRIu64 " draws, %" PRIu64 " surrogates, %" PRIu64 " words passed",
           s->ever.requests, s->ever.draws, s->ever.surrogates, s->ever.passed);
    write_time(s->ever.first, when);
    printf(s->ever.requests ? ", since %s\n" : "\n", when);
}

static json_t *limit_json(double budget)
{
    return isinf(budget) ? json_null() : json_real(budget);
}

static json_t *state_json(const char *key, const key_state *s)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:f, s:f, s:I, s:I, s:I, s:I, s:I}", "key", key, "request_budget",
                     limit_json(s->budgets.request), "day_budget", limit_json(s->budgets.day), "key_budget",
                     limit_json(s->budgets.key), "day_epsilon", epsilon_of(s->today.epsilon_micro), "epsilon",
                     epsilon_of(s->ever.epsilon_micro), "requests", (json_int_t) s->ever.requests, "draws",
                     (json_int_t) s->ever.draws, "surrogates", (json_int_t) s->ever.surrogates, "passed",
                     (json_int_t) s->ever.passed, "renews", (json_int_t) s->renews);
}

static const cmif_option  show_options[] = {LEDGER_OPTION, CMIF_COMMON_OPTIONS};
static const cmif_command show_command   = {
      .name         = "budget show",
      .args         = "[KEY]",
      .summary      = "what was spent and what is left, by key",
      .options      = show_options,
      .option_count = sizeof show_options / sizeof *show_options,
      .notes        = "The whole ledger is checked first. A day is one of UTC. Your own programs spend\n"
                        "from the key 'local'.\n",
};

static int show_main(int argc, char **argv)
{
    char         path[PATH_MAX];
    key_list    *list   = calloc(1, sizeof *list);
    json_t      *keys   = json_array();
    cmif_ledger *ledger = NULL;
    cmif_err     err    = {0};
    int          rest   = 0;
    cmif_code    rc     = CMIF_OK;
    int          code   = parse(&show_command, argc, argv, 1, &rest, &err);

    if (code != CMIF_EXIT_OK || err.code == CMIF_E_CANCELLED) {
        goto done;
    }
    if (!list || !keys) {
        rc = cmif_fail(&err, CMIF_E_MEMORY, "no memory for a list of keys");
    }
    rc = rc == CMIF_OK ? open_ledger(false, path, &ledger, &err) : rc;
    if (rc == CMIF_OK && ledger) {
        rc = cmif_ledger_check(ledger, &err);
        if (rest) {
            snprintf(list->names[list->count++], sizeof list->names[0], "%s", argv[0]);
        } else if (rc == CMIF_OK) {
            rc = cmif_ledger_keys(ledger, add_key, list, &err);
        }
    }
    for (size_t i = 0; rc == CMIF_OK && i < list->count; i++) {
        key_state state = {0};
        rc              = get_state(ledger, list->names[i], &state, &err);
        if (rc == CMIF_OK && cmif_json) {
            json_array_append_new(keys, state_json(list->names[i], &state));
        } else if (rc == CMIF_OK) {
            print_state(list->names[i], &state);
        }
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:O}", "ledger", path, "keys", keys), &err);
    } else if (rc == CMIF_OK) {
        if (!list->count) {
            printf("nothing has been spent, and no budget is set: %s\n", path);
        }
        rc = flush(&err);
    }
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    cmif_ledger_free(ledger);
    json_decref(keys);
    free(list);
    return code;
}

/* ---- set ---- */

static const char       *set_request, *set_day, *set_key;
static const cmif_option set_options[] = {
    {0, "request", "EPSILON", CMIF_OPTION_TEXT, &set_request, 0, 0, "at most for one request; 'none': no limit"},
    {0, "day", "EPSILON", CMIF_OPTION_TEXT, &set_day, 0, 0, "at most for a day (UTC)"},
    {0, "ever", "EPSILON", CMIF_OPTION_TEXT, &set_key, 0, 0, "at most for all time; does not renew"},
    LEDGER_OPTION,
    CMIF_COMMON_OPTIONS,
};
static const cmif_command set_command = {
    .name         = "budget set",
    .args         = "[KEY] [options]",
    .summary      = "limit what may be spent with a key (default: local)",
    .options      = set_options,
    .option_count = sizeof set_options / sizeof *set_options,
    .notes        = "What is not named stays as it is; what was spent stays spent. A request that\n"
                    "would spend more is refused.\n"
                    "\n  cmif budget set --day 200\n",
};

static cmif_code take_budget(const char *text, double *budget, cmif_err *err)
{
    char *end = NULL;
    if (!text) {
        return CMIF_OK;
    }
    double value = strcmp(text, "none") ? strtod(text, &end) : (double) INFINITY;
    if (end && (end == text || *end || !(value >= 0 && value <= 1e12))) {
        return cmif_fail(err, CMIF_E_RANGE, "a budget is a number from 0 to 1e12, or 'none'");
    }
    *budget = value;
    return CMIF_OK;
}

static int set_main(int argc, char **argv)
{
    char         path[PATH_MAX];
    const char  *key     = "local";
    cmif_ledger *ledger  = NULL;
    cmif_budgets budgets = {INFINITY, INFINITY, INFINITY}, checked = {0};
    cmif_err     err  = {0};
    int          rest = 0;
    int          code = parse(&set_command, argc, argv, 1, &rest, &err);
    cmif_code    rc   = CMIF_OK;

    if (code != CMIF_EXIT_OK || err.code == CMIF_E_CANCELLED) {
        return code;
    }
    if (!set_request && !set_day && !set_key) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "which budget? Name one or more: --request, --day, --ever");
    }
    rc = rc == CMIF_OK ? take_budget(set_request, &checked.request, &err) : rc;
    rc = rc == CMIF_OK ? take_budget(set_day, &checked.day, &err) : rc;
    rc = rc == CMIF_OK ? take_budget(set_key, &checked.key, &err) : rc;
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    key = rest ? argv[0] : key;
    rc  = open_ledger(true, path, &ledger, &err);
    rc  = rc == CMIF_OK ? cmif_ledger_get(ledger, key, &budgets, &err) : rc;
    if (rc == CMIF_OK) {
        budgets = (cmif_budgets){set_request ? checked.request : budgets.request, set_day ? checked.day : budgets.day,
                                 set_key ? checked.key : budgets.key};
        rc = cmif_ledger_set(ledger, key, &budgets, &err);
    }
    key_state state = {0};
    rc              = rc == CMIF_OK ? get_state(ledger, key, &state, &err) : rc;
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(state_json(key, &state), &err);
    } else if (rc == CMIF_OK) {
        print_state(key, &state);
        rc = flush(&err);
    }
    cmif_ledger_free(ledger);
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}

/* ---- history ---- */

static uint32_t          history_count     = 20;
static const cmif_option history_options[] = {
    {'n', "count", "N", CMIF_OPTION_COUNT, &history_count, 1, 1 << 24, "the newest N requests (default 20)"},
    LEDGER_OPTION,
    CMIF_COMMON_OPTIONS,
};
static const cmif_command history_command = {
    .name         = "budget history",
    .args         = "[options]",
    .summary      = "the newest requests, one a line",
    .options      = history_options,
    .option_count = sizeof history_options / sizeof *history_options,
};

static bool print_entry(void *context, uint64_t id, int64_t when, const cmif_spend *what)
{
    json_t *entries = context;
    char    time_text[32], conversation[33];
    write_time(when, time_text);
    cmif_hex(what->conversation, sizeof what->conversation, conversation);
    if (cmif_json) {
        return json_array_append_new(
                   entries, json_pack("{s:I, s:I, s:s, s:s, s:I, s:f, s:f, s:f, s:I, s:I}", "id", (json_int_t) id,
                                      "time", (json_int_t) when, "key", what->key, "conversation", conversation,
                                      "draws", (json_int_t) what->draws, "epsilon", epsilon_of(what->epsilon_micro),
                                      "delta", what->delta, "epsilon_at_delta", what->epsilon_at_delta, "surrogates",
                                      (json_int_t) what->surrogates, "passed", (json_int_t) what->passed)) == 0;
    }
    printf("%" PRIu64 "  %s  %s  conversation %.8s  %" PRIu64 " draws, epsilon %.10g", id, time_text, what->key,
           conversation, what->draws, epsilon_of(what->epsilon_micro));
    if (what->delta > 0) {
        printf(" (%.6g at delta %g)", what->epsilon_at_delta, what->delta);
    }
    printf("  %" PRIu64 " surrogates, %" PRIu64 " passed\n", what->surrogates, what->passed);
    return true;
}

static int history_main(int argc, char **argv)
{
    char         path[PATH_MAX];
    json_t      *entries = json_array();
    cmif_ledger *ledger  = NULL;
    cmif_err     err     = {0};
    int          rest    = 0;
    cmif_code    rc      = CMIF_OK;
    int          code    = parse(&history_command, argc, argv, 0, &rest, &err);

    if (code != CMIF_EXIT_OK || err.code == CMIF_E_CANCELLED) {
        goto done;
    }
    rc = open_ledger(false, path, &ledger, &err);
    if (rc == CMIF_OK && ledger) {
        rc = cmif_ledger_history(ledger, history_count, print_entry, entries, &err);
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:O}", "ledger", path, "entries", entries), &err);
    } else if (rc == CMIF_OK) {
        rc = flush(&err);
    }
    code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    cmif_ledger_free(ledger);
    json_decref(entries);
    return code;
}

int cmif_budget_command(int argc, char **argv)
{
    static const char help[] = "usage: cmif budget show [KEY]        what was spent and what is left\n"
                               "       cmif budget set [KEY] ...     limit a request, a day, or all time\n"
                               "       cmif budget history [-n N]    the newest requests\n";
    cmif_err          err    = {0};

    if (argc > 0 && !strcmp(argv[0], "show")) {
        return show_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "set")) {
        return set_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "history")) {
        return history_main(argc - 1, argv + 1);
    }
    if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        fputs(help, stdout);
        return CMIF_EXIT_OK;
    }
    (void) cmif_fail(&err, CMIF_E_RANGE, "budget takes show, set or history: 'cmif budget --help' tells more");
    return cmif_report_usage(&err);
}
