/* recall LISTS FOLDER... - how much of what people marked by hand in texts the entity finder protects.
 *
 * A text marks what is sensitive as [[class|words]]. The marks are taken out, the finder runs, and each mark is
 * protected if every word and number in it lies in a span that becomes a surrogate, whatever its class, but for
 * function words. Precision: how many of the spans that become surrogates touch a mark. Prints both by class and by
 * kind of text ("letter" of letter-1.txt); exit 1 when a goal is missed.
 *
 *   --misses  print what was missed, and what was found without a mark */
#include "sanitizer/entities.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARKS_MAX = 4096, TYPES_MAX = 64 };

typedef struct mark {
    size_t from, to;
    cmif_span_class class;
} mark;

typedef struct score {
    size_t marks, kept, exact, found, right;
} score;

static score by_class[CMIF_SPAN_CLASSES], all_patterns, all_names, total;
static struct {
    char  name[32];
    score score;
} types[TYPES_MAX];
static size_t type_count;
static bool   show_misses;

static bool is_surrogate(cmif_span_class class)
{
    return class >= CMIF_SPAN_EMAIL;
}
static bool is_name(cmif_span_class class)
{
    return class == CMIF_SPAN_PERSON || class == CMIF_SPAN_PLACE || class == CMIF_SPAN_ORGANISATION;
}

static void stop(const char *what, const char *name)
{
    fprintf(stderr, "recall: %s: %s\n", name, what);
    exit(2);
}

/* Take the marks out of text, in place. */
static size_t read_marks(char *text, size_t size, const char *name, mark *marks)
{
    size_t count = 0, out = 0, open = 0;
    for (size_t at = 0; at < size;) {
        size_t letters = 0;
        while (text[at] == '[' && text[at + 1] == '[' && text[at + 2 + letters] >= 'a' &&
               text[at + 2 + letters] <= 'z') {
            letters++;
        }
        if (!open && letters && text[at + 2 + letters] == '|') {
            char word[32] = "";
            memcpy(word, text + at + 2, letters < 31 ? letters : 31);
            marks[count].from = out;
            if (!cmif_span_class_find(word, &marks[count].class)) {
                stop(word, name);
            }
            open = 1;
            at += letters + 3;
        } else if (open && text[at] == ']' && text[at + 1] == ']') {
            marks[count++].to = out;
            open              = 0;
            at += 2;
            if (count == MARKS_MAX) {
                stop("too many marks", name);
            }
        } else {
            text[out++] = text[at++];
        }
    }
    if (open) {
        stop("a mark does not end", name);
    }
    text[out] = '\0';
    return count;
}

static void add(score *s, bool kept, bool exact)
{
    s->marks++;
    s->kept += kept;
    s->exact += exact;
}

static score *type_of(const char *name)
{
    char   type[32] = "";
    size_t n        = strcspn(name, "-.");
    memcpy(type, name, n < 31 ? n : 31);
    for (size_t i = 0; i < type_count; i++) {
        if (strcmp(types[i].name, type) == 0) {
            return &types[i].score;
        }
    }
    if (type_count == TYPES_MAX) {
        stop("too many kinds of text", name);
    }
    memcpy(types[type_count].name, type, sizeof type);
    return &types[type_count++].score;
}

static void measure(const cmif_lists *lists, const char *path, const char *name)
{
    static mark marks[MARKS_MAX];
    static char text[1 << 20];
    cmif_scan   scan  = {0};
    cmif_spans  spans = {0};
    score      *type  = type_of(name);
    FILE       *file  = fopen(path, "rb");
    size_t      size  = file ? fread(text, 1, sizeof text - 64, file) : 0;
    if (!file || size == 0) {
        stop("cannot be read", path);
    }
    fclose(file);
    memset(text + size, 0, 64);
    size_t   count = read_marks(text, size, name, marks);
    cmif_err err   = {0};
    if (cmif_scan_text(text, strlen(text), &scan, &err) != CMIF_OK ||
        cmif_find_entities(&scan, lists, &spans, &err) != CMIF_OK) {
        stop(err.text, name);
    }
    for (size_t m = 0; m < count; m++) {
        bool kept = true, exact = false;
        for (size_t s = 0; s < spans.count; s++) {
            const cmif_span *span = &spans.at[s];
            if (span->from >= marks[m].to || span->from + span->size <= marks[m].from) {
                continue;
            }
            bool open = span->class == CMIF_SPAN_WORD || span->class == CMIF_SPAN_TOPIC ||
                        span->class == CMIF_SPAN_COUNT_NUMBER;
            kept &= !open;
            exact |= span->class == marks[m].class;
            for (uint32_t t = span->first; span->class == CMIF_SPAN_OTHER && t < span->first + span->count; t++) {
                kept &= scan.tokens[t].kind != CMIF_TOKEN_WORD && scan.tokens[t].kind != CMIF_TOKEN_NUMBER;
            }
        }
        if (!kept && show_misses) {
            printf("%s: missed %s '%.*s'\n", name, cmif_span_class_name(marks[m].class),
                   (int) (marks[m].to - marks[m].from), text + marks[m].from);
        }
        bool unmarked = marks[m].class == CMIF_SPAN_UNKNOWN;
        add(&by_class[marks[m].class], kept, exact);
        add(type, kept, exact);
        add(&total, kept, exact);
        add(is_name(marks[m].class) || unmarked ? &all_names : &all_patterns, kept, exact);
    }
    for (size_t s = 0; s < spans.count; s++) {
        bool right = false;
        for (size_t m = 0; m < count; m++) {
            right |= spans.at[s].from < marks[m].to && spans.at[s].from + spans.at[s].size > marks[m].from;
        }
        if (is_surrogate(spans.at[s].class)) {
            score *scores[] = {&by_class[spans.at[s].class], type, &total};
            for (size_t k = 0; k < 3; k++) {
                scores[k]->found++;
                scores[k]->right += right;
            }
            if (!right && show_misses) {
                printf("%s: found %s '%.*s'\n", name, cmif_span_class_name(spans.at[s].class), (int) spans.at[s].size,
                       text + spans.at[s].from);
            }
        }
    }
    cmif_spans_wipe(&spans);
    cmif_scan_wipe(&scan);
}

static double share(size_t part, size_t whole)
{
    return whole ? 100. * (double) part / (double) whole : 100.;
}

static void print(const char *name, const score *s)
{
    printf("%-14s %5zu  %6.1f %%  %6.1f %%  %6zu  %6.1f %%\n", name, s->marks, share(s->kept, s->marks),
           share(s->exact, s->marks), s->found, share(s->right, s->found));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int main(int argc, char **argv)
{
    cmif_err    err   = {0};
    cmif_lists *lists = NULL;
    bool        good  = true;
    int         first = 1;
    if (argc > 1 && strcmp(argv[1], "--misses") == 0) {
        show_misses = true;
        first++;
    }
    if (argc < first + 2) {
        fprintf(stderr, "usage: recall [--misses] LISTS FOLDER...\n");
        return 2;
    }
    FILE *there = fopen(argv[first], "rb");
    if (!there) {
        printf("skipped: no lists of names here; `tools/fetch names` and a build of them bring them\n");
        return 77;
    }
    fclose(there);
    if (cmif_lists_open(argv[first], &lists, &err) != CMIF_OK) {
        stop(err.text, argv[first]);
    }
    for (int i = first + 1; i < argc; i++) {
        struct dirent **files = NULL;
        int             count = scandir(argv[i], &files, NULL, by_name);
        for (int k = 0; k < count; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], files[k]->d_name);
            if (files[k]->d_name[0] != '.') {
                measure(lists, path, files[k]->d_name);
            }
            free(files[k]);
        }
        free(files);
    }
    printf("%-14s %5s  %8s  %8s  %6s  %8s\n", "class", "marks", "recall", "as such", "found", "precise");
    for (int c = CMIF_SPAN_EMAIL; c < CMIF_SPAN_CLASSES; c++) {
        if (by_class[c].marks || by_class[c].found) {
            print(cmif_span_class_name((cmif_span_class) c), &by_class[c]);
        }
    }
    printf("\n");
    for (size_t i = 0; i < type_count; i++) {
        print(types[i].name, &types[i].score);
        good &= share(types[i].score.kept, types[i].score.marks) >= 90;
    }
    printf("\npatterns: recall %.1f %% of %zu (goal 98); names: recall %.1f %% of %zu (goal 95); all: recall %.1f %% "
           "of %zu, precision %.1f %%\n",
           share(all_patterns.kept, all_patterns.marks), all_patterns.marks, share(all_names.kept, all_names.marks),
           all_names.marks, share(total.kept, total.marks), total.marks, share(total.right, total.found));
    good &= total.marks > 0 && share(all_patterns.kept, all_patterns.marks) >= 98 &&
            share(all_names.kept, all_names.marks) >= 95;
    cmif_lists_free(lists);
    return good ? 0 : 1;
}
