#include "cmif_options.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How a person calls it, for "%s%s". */
#define CALLED(command) (strncmp((command)->name, "cmif-", 5) != 0 ? "cmif " : ""), (command)->name

#define WORD_MAX 32

const char *cmif_printable_word(const char *word)
{
    size_t size = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return size && size <= WORD_MAX && !word[size] ? word : NULL;
}

/* Edit distance (Levenshtein); both words are at most WORD_MAX long. */
static size_t distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1];
    size_t b_size = strlen(b);

    for (size_t j = 0; j <= b_size; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0]          = i + 1;
        for (size_t j = 0; j < b_size; j++) {
            size_t change = diagonal + (a[i] != b[j]);
            size_t insert = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal      = row[j + 1];
            row[j + 1]    = change < insert ? change : insert;
        }
    }
    return row[b_size];
}

const char *cmif_nearest(const char *word, const char *const *candidates, size_t count)
{
    const char *best          = NULL;
    size_t      best_distance = 3; /* more than two slips is another word */

    if (strlen(word) > WORD_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, candidates[i]);
        /* what one of them begins with the other was cut from or grew out of: --temperature for --temp */
        size_t shorter = strlen(word) < strlen(candidates[i]) ? strlen(word) : strlen(candidates[i]);
        if (shorter >= 3 && !strncmp(word, candidates[i], shorter)) {
            d = 1;
        }
        if (d < best_distance && d < strlen(candidates[i])) {
            best          = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

static cmif_code unknown_option(const cmif_command *command, const char *name, cmif_err *err)
{
    const char *names[64];
    size_t      count = 0;

    if (!cmif_printable_word(name)) {
        return cmif_fail(
            err, CMIF_E_RANGE,
            "an argument begins with '-' but is no option; put '--' in front of text that begins with '-'");
    }
    for (; count < command->option_count && count < 64; count++) {
        names[count] = command->options[count].name;
    }
    const char *near = cmif_nearest(name, names, count);
    return near
               ? cmif_fail(err, CMIF_E_RANGE, "unknown option '--%s': did you mean '--%s'?", name, near)
               : cmif_fail(err, CMIF_E_RANGE, "unknown option '--%s': '%s%s --help' lists them", name, CALLED(command));
}

/* shown: what the value stands behind, for messages. */
static cmif_code take_value(const cmif_option *option, const char *shown, const char *text, cmif_err *err)
{
    char  *end  = NULL;
    double real = 0;

    errno = 0;
    switch (option->kind) {
    case CMIF_OPTION_FLAG: {
        const bool yes = !text || !strcmp(text, "yes") || !strcmp(text, "1");
        if (!yes && strcmp(text, "no") != 0 && strcmp(text, "0") != 0) {
            return cmif_fail(err, CMIF_E_RANGE, "%s takes yes or no", shown);
        }
        *(bool *) option->value = yes;
        return CMIF_OK;
    }
    case CMIF_OPTION_TEXT:
        *(const char **) option->value = text;
        return CMIF_OK;
    case CMIF_OPTION_SEED: {
        unsigned long long seed = strtoull(text, &end, 10);
        if (errno || end == text || *end || *text < '0' || *text > '9') {
            return cmif_fail(err, CMIF_E_RANGE, "%s takes a whole number from 0 to 2^64 - 1", shown);
        }
        *(uint64_t *) option->value = seed;
        return CMIF_OK;
    }
    case CMIF_OPTION_COUNT: {
        long long count = strtoll(text, &end, 10);
        if (errno || end == text || *end || (double) count < option->min || (double) count > option->max) {
            return cmif_fail(err, CMIF_E_RANGE, "%s takes a whole number from %.0f to %.0f", shown, option->min,
                             option->max);
        }
        *(uint32_t *) option->value = (uint32_t) count;
        return CMIF_OK;
    }
    case CMIF_OPTION_REAL:
        real = strtod(text, &end);
        if (errno || end == text || *end || !isfinite(real) || real < option->min || real > option->max) {
            return cmif_fail(err, CMIF_E_RANGE, "%s takes a number from %g to %g", shown, option->min, option->max);
        }
        *(float *) option->value = (float) real;
        return CMIF_OK;
    }
    return cmif_fail(err, CMIF_E_RANGE, "%s is broken", shown); /* not reached: every kind returned */
}

static const cmif_option *find(const cmif_command *command, char letter, const char *name, size_t name_size)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const cmif_option *option = &command->options[i];
        if (name ? strlen(option->name) == name_size && !memcmp(option->name, name, name_size)
                 : letter && option->letter == letter) {
            return option;
        }
    }
    return NULL;
}

cmif_code cmif_options_parse(const cmif_command *command, int argc, char **argv, int *rest, cmif_err *err)
{
    return cmif_options_take(command, argc, argv, rest, NULL, err);
}

cmif_code cmif_options_take(const cmif_command *command, int argc, char **argv, int *rest, cmif_option_source *sources,
                            cmif_err *err)
{
    int kept = 0;

    for (int i = 0; i < argc; i++) {
        const char        *word   = argv[i];
        const char        *value  = NULL;
        const cmif_option *option = NULL;

        if (word[0] != '-' || !word[1]) {
            argv[kept++] = argv[i];
            continue;
        }
        if (!strcmp(word, "--")) {
            while (++i < argc) {
                argv[kept++] = argv[i];
            }
            break;
        }
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            cmif_options_help(command);
            return cmif_fail(err, CMIF_E_CANCELLED, "help was asked for");
        }
        if (word[1] == '-') {
            size_t size = strcspn(word + 2, "=");
            option      = find(command, 0, word + 2, size);
            value       = word[2 + size] ? word + 2 + size + 1 : NULL;
            if (!option) {
                char name[WORD_MAX + 2];
                snprintf(name, sizeof name, "%.*s", (int) (size < sizeof name ? size : sizeof name - 1), word + 2);
                return unknown_option(command, name, err);
            }
        } else {
            option = find(command, word[1], NULL, 0);
            value  = word[2] ? word + 2 : NULL;
            if (!option && value && cmif_printable_word(word)) { /* -temp for --temp */
                return unknown_option(command, word + 1, err);
            }
            if (!option) {
                return cmif_fail(err, CMIF_E_RANGE,
                                 "unknown option; '%s%s --help' lists them, and '--' goes in front of text that "
                                 "begins with '-'",
                                 CALLED(command));
            }
        }
        if (option->kind == CMIF_OPTION_FLAG && value) {
            return cmif_fail(err, CMIF_E_RANGE, "--%s takes no value", option->name);
        }
        if (option->kind != CMIF_OPTION_FLAG && !value) {
            if (i + 1 == argc) {
                return cmif_fail(err, CMIF_E_RANGE, "--%s needs a value: %s", option->name, option->arg);
            }
            value = argv[++i];
        }
        char shown[48];
        if (option->letter) {
            snprintf(shown, sizeof shown, "-%c", option->letter);
        } else {
            snprintf(shown, sizeof shown, "--%s", option->name);
        }
        cmif_code rc = take_value(option, shown, value, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        if (sources) {
            sources[option - command->options] = CMIF_FROM_FLAG;
        }
    }
    *rest = kept;
    return CMIF_OK;
}

/* ---- environment and file ---- */

static void twin(const char *name, char out[static 64])
{
    size_t used = (size_t) snprintf(out, 64, "CMIF_");
    for (; *name && used < 63; name++) {
        out[used++] = *name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? (char) (*name - 'a' + 'A') : *name;
    }
    out[used] = '\0';
}

cmif_code cmif_options_environment(const cmif_command *command, cmif_option_source *sources, cmif_err *err)
{
    char      shown[64];
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; i < command->option_count && rc == CMIF_OK; i++) {
        twin(command->options[i].name, shown);
        const char *value = getenv(shown);
        if (value && *value && sources[i] < CMIF_FROM_ENVIRONMENT) {
            rc         = take_value(&command->options[i], shown, value, err);
            sources[i] = CMIF_FROM_ENVIRONMENT;
        }
    }
    return rc;
}

size_t cmif_options_find(const cmif_command *command, const char *name)
{
    const cmif_option *option = find(command, 0, name, strlen(name));
    return option ? (size_t) (option - command->options) : command->option_count;
}

cmif_code cmif_options_line(const cmif_command *command, const char *name, const char *value,
                            cmif_option_source *sources, cmif_err *err)
{
    const char  *names[64];
    size_t       count = 0;
    const size_t i     = cmif_options_find(command, name);
    if (i < command->option_count) {
        if (sources[i] > CMIF_FROM_FILE) {
            return CMIF_OK;
        }
        sources[i] = CMIF_FROM_FILE;
        return take_value(&command->options[i], name, value, err);
    }
    for (; count < command->option_count && count < 64; count++) {
        names[count] = command->options[count].name;
    }
    const char *word = cmif_printable_word(name), *near = word ? cmif_nearest(word, names, count) : NULL;
    return cmif_fail(err, CMIF_E_RANGE, "no option is called %s%s%s%s%s%s", word ? "'" : "so", word ? word : "",
                     word ? "'" : "", near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

void cmif_options_help(const cmif_command *command)
{
    printf("%s%s: %s\n\nusage: %s%s %s\n\n", CALLED(command), command->summary, CALLED(command), command->args);
    for (size_t i = 0; i < command->option_count; i++) {
        const cmif_option *option = &command->options[i];
        char               left[80];
        int                used = 0;

        used = option->letter ? snprintf(left, sizeof left, "-%c, --%s", option->letter, option->name)
                              : snprintf(left, sizeof left, "--%s", option->name);
        used += snprintf(left + used, sizeof left - (size_t) used, "%s%s", option->arg ? " " : "",
                         option->arg ? option->arg : "");
        while (i + 1 < command->option_count && !command->options[i + 1].help) { /* shares this line */
            option = &command->options[++i];
            used += snprintf(left + used, sizeof left - (size_t) used, ", --%s%s%s", option->name,
                             option->arg ? " " : "", option->arg ? option->arg : "");
            option = &command->options[i];
        }
        const cmif_option *first = option;
        while (!first->help) {
            first--;
        }
        printf("  %-24s %s\n", left, first->help);
    }
    if (command->notes) {
        printf("\n%s", command->notes);
    }
}
