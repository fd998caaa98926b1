#include "task.h"

#include "secret/secret.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_COLUMNS 4 /* index, two sentences, label */

/* What is read stays here until it is handed over, or wiped. */
typedef struct reading {
    char         *bytes; /* the file, and after its tabs and line ends became NULs the texts of a TSV */
    size_t        size;
    char         *texts; /* of JSON lines: what the examples point to, no longer than the file */
    size_t        used;
    cmif_example *examples;
    size_t        count, room;
    const char   *labels[CMIF_TASK_LABELS]; /* as they come */
    size_t        label_count;
    cmif_err     *err;
    const char   *path;
    uint32_t      line;
} reading;

static cmif_code refuse(reading *r, const char *what)
{
    return cmif_fail(r->err, CMIF_E_FORMAT, "'%s', line %u %s", r->path, r->line, what);
}

static cmif_code read_file(reading *r)
{
    cmif_code   rc = CMIF_OK;
    struct stat st;
    int         fd = open(r->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        rc = cmif_fail(r->err, CMIF_E_IO, "cannot open '%s': %s", r->path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t) CMIF_TASK_FILE_SIZE) {
        rc = cmif_fail(r->err, CMIF_E_RANGE, "'%s' must be a file of at most %u MiB: take a part of it", r->path,
                       CMIF_TASK_FILE_SIZE >> 20);
        goto done;
    }
    r->size  = (size_t) st.st_size;
    r->bytes = malloc(r->size + 1);
    if (!r->bytes) {
        rc = cmif_fail(r->err, CMIF_E_MEMORY, "no memory for the %zu bytes of '%s'", r->size, r->path);
        goto done;
    }
    for (size_t at = 0; at < r->size;) {
        ssize_t got = read(fd, r->bytes + at, r->size - at);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            rc = cmif_fail(r->err, CMIF_E_IO, "cannot read '%s': %s", r->path,
                           got == 0 ? "it became shorter meanwhile" : strerror(errno));
            goto done;
        }
        at += got > 0 ? (size_t) got : 0;
    }
    r->bytes[r->size] = '\0';
done:
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* UTF-8 without a NUL, without what is longer than it need be, and without surrogates (RFC 3629). */
static bool is_text(const char *text, size_t size)
{
    const uint8_t *s = (const uint8_t *) text;
    for (size_t i = 0; i < size;) {
        size_t   more = s[i] < 0x80 ? 0 : s[i] >> 5 == 6 ? 1 : s[i] >> 4 == 14 ? 2 : s[i] >> 3 == 30 ? 3 : 4;
        uint32_t c    = more == 0 ? s[i] : s[i] & (0x3fu >> more);
        if (more == 4 || more >= size - i || s[i] == 0) {
            return false;
        }
        for (size_t k = 1; k <= more; k++) {
            if (s[i + k] >> 6 != 2) {
                return false;
            }
            c = c << 6 | (s[i + k] & 0x3f);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
            return false;
        }
        i += more + 1;
    }
    return true;
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

static cmif_code add(reading *r, cmif_example example)
{
    if (r->count == r->room) {
        size_t        room = r->room ? 2 * r->room : 1024;
        cmif_example *more = realloc(r->examples, room * sizeof *more);
        if (!more) {
            return cmif_fail(r->err, CMIF_E_MEMORY, "no memory for the %zu examples of '%s'", room, r->path);
        }
        r->examples = more;
        r->room     = room;
    }
    const char *texts[] = {example.text, example.second, example.reference};
    for (size_t i = 0; i < 3; i++) {
        if (texts[i] && is_blank(texts[i])) {
            return refuse(r, "has a text of nothing but blanks: fill it in or take the line out");
        }
        if (texts[i] && strlen(texts[i]) > CMIF_TASK_TEXT_SIZE) {
            return refuse(r, "has a text of more than a MiB: cut it");
        }
    }
    example.line            = r->line;
    r->examples[r->count++] = example;
    return CMIF_OK;
}

/* ---------------------------------------------------------------------------------------------- TSV */

/* Which column is what: of a header, or of how many columns the first line has. */
typedef struct layout {
    size_t columns, text, second, label; /* second is columns where there is none */
} layout;

static bool is_header(char *const *fields, size_t count, layout *out)
{
    layout found = {.columns = count, .text = count, .second = count, .label = count};
    size_t texts = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i], "label") == 0) {
            found.label = i;
        } else if (strcmp(fields[i], "index") != 0 && strcmp(fields[i], "id") != 0) {
            *(texts == 0 ? &found.text : &found.second) = i;
            texts++;
        }
    }
    if (found.label == count || texts < 1 || texts > 2) {
        return false;
    }
    *out = found;
    return true;
}

static cmif_code label_of(reading *r, const char *label, uint32_t *out)
{
    size_t size = strlen(label);
    if (size == 0 || size > CMIF_TASK_LABEL || strcspn(label, " ") != size) {
        return refuse(r,
                      "has no label: one word of at most 64 bytes in the last column, or in the one that a header line "
                      "names label");
    }
    for (size_t i = 0; i < r->label_count; i++) {
        if (strcmp(r->labels[i], label) == 0) {
            *out = (uint32_t) i;
            return CMIF_OK;
        }
    }
    if (r->label_count == CMIF_TASK_LABELS) {
        return refuse(r, "has one label more than 256: is it the label that stands in this column?");
    }
    r->labels[r->label_count] = label;
    *out                      = (uint32_t) r->label_count++;
    return CMIF_OK;
}

static cmif_code read_row(reading *r, char *row, layout *of)
{
    char  *fields[MOST_COLUMNS + 1];
    size_t count = 0;
    for (char *rest = row; rest && count <= MOST_COLUMNS;) {
        fields[count++] = strsep(&rest, "\t");
    }
    if (of->columns == 0) { /* the first line */
        if (count >= 2 && count <= MOST_COLUMNS && is_header(fields, count, of)) {
            return CMIF_OK;
        }
        if (count != 2 && count != 3) {
            return refuse(r, "must be sentence TAB label, sentence TAB sentence TAB label, or name its columns");
        }
        *of = (layout){.columns = count, .text = 0, .second = count == 3 ? 1 : count, .label = count - 1};
    }
    if (count != of->columns) {
        return refuse(r, "has more or fewer columns than the first line");
    }
    cmif_example example = {.text = fields[of->text], .second = of->second < count ? fields[of->second] : NULL};
    cmif_code    rc      = label_of(r, fields[of->label], &example.label);
    return rc == CMIF_OK ? add(r, example) : rc;
}

/* ---------------------------------------------------------------------------------------------- JSON lines */

/* Copy a text to where the examples point: it is shorter than it was as JSON, by its quotes at least. */
static const char *keep(reading *r, const char *text, size_t size)
{
    char *out = r->texts + r->used;
    memcpy(out, text, size);
    out[size] = '\0';
    r->used += size + 1;
    return out;
}

static const char *first_of(const json_t *object, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, keys[i]);
        if (value) {
            return json_string_value(value);
        }
    }
    return NULL;
}

static cmif_code read_json(reading *r, const char *row, size_t size)
{
    static const char *const articles[]  = {"article", "document", "text"};
    static const char *const summaries[] = {"summary_gt", "summary"};

    cmif_code    rc      = CMIF_OK;
    json_t      *object  = json_loadb(row, size, JSON_REJECT_DUPLICATES, NULL);
    const char  *article = first_of(object, articles, 3), *summary = first_of(object, summaries, 2);
    cmif_example example = {0};
    if (!article || !summary) { /* what jansson says of it may hold words of it */
        rc = refuse(
            r, object
                   ? "must have the texts \"article\" (or \"document\", \"text\") and \"summary_gt\" (or \"summary\")"
                   : "is not one JSON object: expected {\"article\": \"...\", \"summary\": \"...\"}");
        goto done;
    }
    /* around an article as it was prompted with */
    static const char before[] = "###\nArticle: ", after[] = "\n\nSummarize the above article";
    article += strncmp(article, before, strlen(before)) == 0 ? strlen(before) : 0;
    const char *end = article + strlen(article), *found = strstr(article, after);
    example.text      = keep(r, article, (size_t) ((found ? found : end) - article));
    example.reference = keep(r, summary, strlen(summary));
    rc                = add(r, example);
done:
    json_decref(object);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- the whole */

static cmif_code read_lines(reading *r, bool json)
{
    static const char mark[] = "\xef\xbb\xbf"; /* some editors begin UTF-8 with it */
    layout            of     = {0};
    size_t            at     = r->size >= 3 && memcmp(r->bytes, mark, 3) == 0 ? 3 : 0;
    while (at < r->size) {
        char  *row  = r->bytes + at;
        char  *stop = memchr(row, '\n', r->size - at);
        size_t size = stop ? (size_t) (stop - row) : r->size - at;
        at += size + 1;
        size -= size > 0 && row[size - 1] == '\r';
        r->line++;
        if (!is_text(row, size)) {
            return refuse(r, "is not UTF-8 text");
        }
        row[size]    = '\0';
        cmif_code rc = is_blank(row) ? refuse(r, "is empty: take it out")
                       : json        ? read_json(r, row, size)
                                     : read_row(r, row, &of);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    if (r->count == 0) {
        return cmif_fail(r->err, CMIF_E_RANGE, "'%s' holds no example", r->path);
    }
    return CMIF_OK;
}

/* The number a label is written as, without a zero in front; -1 for a name. */
static int number_of(const char *label)
{
    size_t size = strlen(label);
    if (size > 3 || strspn(label, "0123456789") != size || (label[0] == '0' && size > 1)) {
        return -1;
    }
    int number = atoi(label);
    return number < CMIF_TASK_LABELS ? number : -1;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Labels in their order, in memory of their own, and the examples' numbers of them. */
static cmif_code order_labels(reading *r, const char ***out, size_t *count)
{
    const char *ordered[CMIF_TASK_LABELS];
    char        digits[CMIF_TASK_LABELS][4];
    uint32_t    now[CMIF_TASK_LABELS] = {0};
    bool        numbers               = true;
    size_t      largest               = 0;
    for (size_t i = 0; i < r->label_count; i++) {
        int number = number_of(r->labels[i]);
        numbers    = numbers && number >= 0;
        largest    = number > (int) largest ? (size_t) number : largest;
        ordered[i] = r->labels[i];
    }
    *count = r->label_count;
    qsort(ordered, *count, sizeof *ordered, by_bytes);
    if (numbers && *count > 0) {
        *count = largest + 1;
        for (size_t i = 0; i < *count; i++) {
            snprintf(digits[i], sizeof digits[i], "%u", (unsigned) i % CMIF_TASK_LABELS);
            ordered[i] = digits[i];
        }
    }
    const char **labels = calloc(*count + 1, sizeof *labels + CMIF_TASK_LABEL + 1);
    if (!labels) {
        return cmif_fail(r->err, CMIF_E_MEMORY, "no memory for the labels of '%s'", r->path);
    }
    char *text = (char *) (labels + *count + 1);
    for (size_t i = 0; i < *count; i++, text += CMIF_TASK_LABEL + 1) {
        memcpy(text, ordered[i], strlen(ordered[i]) + 1);
        labels[i] = text;
        for (size_t k = 0; k < r->label_count; k++) {
            now[k] = strcmp(r->labels[k], ordered[i]) == 0 ? (uint32_t) i : now[k];
        }
    }
    for (size_t i = 0; i < r->count && r->label_count > 0; i++) {
        r->examples[i].label = now[r->examples[i].label];
    }
    *out = labels;
    return CMIF_OK;
}

/* splitmix64 (Steele, Lea, Flood 2014): the same choice on every machine */
static uint64_t next_of(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Keep limit examples, each set of them as likely, in their order: one goes with the chance of the places that are
 * left. */
static void choose(reading *r, size_t limit, uint64_t seed)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->count && kept < limit; i++) {
        uint64_t left = r->count - i, drawn = next_of(&seed);
        while (drawn >= UINT64_MAX - UINT64_MAX % left) {
            drawn = next_of(&seed);
        }
        if (drawn % left < limit - kept) {
            r->examples[kept++] = r->examples[i];
        }
    }
    r->count = kept;
}

cmif_code cmif_task_open(const char *path, size_t limit, uint64_t seed, cmif_task *task, cmif_err *err)
{
    reading      r      = {.path = path, .err = err};
    const char **labels = NULL;
    size_t       count = 0, length = strlen(path);
    bool         json = length > 6 && strcmp(path + length - 6, ".jsonl") == 0;
    cmif_code    rc   = read_file(&r);
    if (rc == CMIF_OK && json && !(r.texts = malloc(r.size + 1))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the texts of '%s'", path);
    }
    if (rc == CMIF_OK) {
        rc = read_lines(&r, json);
    }
    if (rc == CMIF_OK) {
        rc = order_labels(&r, &labels, &count);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    if (limit > 0 && limit < r.count) {
        choose(&r, limit, seed);
    }
    char **kept = json ? &r.texts : &r.bytes;
    *task       = (cmif_task){.examples    = r.examples,
                              .count       = r.count,
                              .labels      = labels,
                              .label_count = count,
                              .memory      = *kept,
                              .memory_size = json ? r.used : r.size};
    *kept       = NULL; /* handed over, as are the examples */
    r.examples  = NULL;
done:
    if (r.bytes) {
        cmif_wipe(r.bytes, r.size);
    }
    if (r.texts) {
        cmif_wipe(r.texts, r.used);
    }
    free(r.bytes);
    free(r.texts);
    free(r.examples);
    return rc;
}

void cmif_task_wipe(cmif_task *task)
{
    if (!task) {
        return;
    }
    if (task->memory) {
        cmif_wipe(task->memory, task->memory_size);
    }
    free(task->memory);
    free(task->examples);
    free(task->labels);
    *task = (cmif_task){0};
}

static int letter_at(const char **at)
{
    while (**at && !isalnum((unsigned char) **at) && !((unsigned char) **at & 0x80)) {
        ++*at;
    }
    return **at ? tolower((unsigned char) *(*at)++) : 0;
}

static bool same_letters(const char *a, const char *b)
{
    int x, y;
    do {
        x = letter_at(&a);
        y = letter_at(&b);
    } while (x && x == y);
    return x == y;
}

size_t cmif_task_drop(cmif_task *task, const cmif_task *other)
{
    size_t kept = 0, before = task->count;
    for (size_t i = 0; i < before; i++) {
        size_t k = 0;
        while (k < other->count && !same_letters(task->examples[i].text, other->examples[k].text)) {
            k++;
        }
        if (k == other->count) {
            task->examples[kept++] = task->examples[i];
        }
    }
    task->count = kept;
    return before - kept;
}
