/* report_test [FILE]: with FILE, only write the report of eval/report_sample.json there, to be looked at. */
#include "report.h"

#include "base/check.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLE CMIF_SOURCE_DIR "/eval/report_sample.json"

static char folder[64];

static char *read_all(const char *path)
{
    FILE  *file = fopen(path, "r");
    char  *text = NULL;
    size_t room = 0;
    if (file && getdelim(&text, &room, '\0', file) < 0) {
        free(text);
        text = NULL;
    }
    if (file) {
        fclose(file);
    }
    return text;
}

/* The report of a document in JSON; NULL and err where it is refused. */
static char *report_of(const char *json, cmif_err *err)
{
    char path[128];
    snprintf(path, sizeof path, "%s/report.html", folder);
    unlink(path);
    json_t *document = json_loads(json, JSON_DECODE_ANY, NULL);
    CHECK(document != NULL);
    cmif_code rc   = cmif_report_write(document, path, err);
    char     *html = rc == CMIF_OK ? read_all(path) : NULL;
    CHECK((rc == CMIF_OK) == (access(path, F_OK) == 0));
    json_decref(document);
    return html;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part)) {
        count++;
    }
    return count;
}

/* Every element that is opened is closed, in order; what HTML leaves open is known. Gives the number of elements. */
static size_t balanced(const char *html)
{
    static char names[64][16];
    size_t      depth = 0, elements = 0;
    for (const char *at = html; (at = strchr(at, '<')) != NULL; at++) {
        char        name[16] = "";
        bool        closes   = at[1] == '/';
        const char *begin = at + 1 + closes, *end = strchr(at, '>');
        if (!end || strncmp(at, "<!DOCTYPE", 9) == 0) {
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int) strcspn(begin, " />"), begin);
        if (closes) {
            if (depth == 0 || strcmp(names[depth - 1], name) != 0) {
                fprintf(stderr, "</%s> closes <%s>\n", name, depth ? names[depth - 1] : "nothing");
                return 0;
            }
            depth--;
        } else if (end[-1] != '/' && strcmp(name, "meta") != 0) {
            memcpy(names[depth++], name, sizeof name);
            elements++;
        }
    }
    return depth == 0 ? elements : 0;
}

static void the_sample_is_one_page_that_fetches_and_runs_nothing(void)
{
    char *json = read_all(SAMPLE);
    char *html = report_of(json, NULL);
    CHECK(html != NULL);
    if (html) {
        CHECK(balanced(html) > 300);
        CHECK(count_of(html, "<script") == 0 && count_of(html, "<link") == 0 && count_of(html, "<img") == 0);
        CHECK(count_of(html, "//") == 0 && count_of(html, "@import") == 0 && count_of(html, "src=") == 0);
        CHECK(count_of(html, "url(") == count_of(html, "url(#h") && count_of(html, "<a ") == 0);
        CHECK(strstr(html, "default-src 'none'") != NULL);
        CHECK(count_of(html, "nan") == 0 && count_of(html, "inf\"") == 0 && count_of(html, "inf,") == 0);
        CHECK(count_of(html, "<svg viewBox=\"0 0 480") == 3 && count_of(html, "role=\"img\"") == 3);
        CHECK(count_of(html, "class=\"ring\" r=\"9\"") == 2);
        CHECK(strstr(html, "&lt; sensitive &amp; protected &gt;") != NULL);
        CHECK(strstr(html, "<b>Table 1.</b>") != NULL && strstr(html, "<b>Figure 3.</b>") != NULL);
    }
    free(html);
    free(json);
}

#define DOCUMENT(members) "{\"title\": \"t\", \"made\": \"m\", \"sections\": [{\"heading\": \"h\", " members "}]}"
#define TABLE(align, rows)                                                                                             \
    DOCUMENT("\"table\": {\"columns\": [\"a\", \"b\"], \"align\": \"" align "\", \"rows\": " rows "}")
#define PLOT(kind, series)                                                                                             \
    DOCUMENT("\"plot\": {\"kind\": \"" kind                                                                            \
             "\", \"x\": {\"label\": \"x\"}, \"y\": {\"label\": \"y\"}, \"series\": " series "}")

/* Whatever the place, text cannot become markup. */
static void text_is_text_everywhere(void)
{
#define EVIL "\\u003cscript\\u003e'\\\"\\u0026\\u0001"
    static const char json[] = "{\"title\": \"" EVIL "\", \"made\": \"" EVIL "\", \"command\": \"" EVIL
                               "\", \"facts\": [[\"" EVIL "\", \"" EVIL "\"]],"
                               "\"sections\": [{\"heading\": \"" EVIL "\", \"text\": [\"" EVIL "\"],"
                               "\"table\": {\"columns\": [\"" EVIL "\"], \"align\": \"l\", \"caption\": \"" EVIL "\","
                               "  \"rows\": [[\"" EVIL "\"], [{\"text\": \"" EVIL "\", \"note\": \"" EVIL "\"}]]},"
                               "\"plot\": {\"kind\": \"line\", \"x\": {\"label\": \"" EVIL
                               "\"}, \"y\": {\"label\": \"" EVIL "\"}, \"mark\": \"" EVIL "\","
                               "  \"caption\": \"" EVIL "\", \"series\": [{\"name\": \"" EVIL
                               "\", \"points\": [[1, 2]], \"labels\": [\"" EVIL "\"],"
                               "  \"marked\": [0]}]}},"
                               "{\"heading\": \"h\", \"plot\": {\"kind\": \"bars\", \"x\": {\"label\": \"" EVIL
                               "\"}, \"y\": {\"label\": \"" EVIL "\"},"
                               "  \"series\": [{\"name\": \"" EVIL "\", \"points\": [[\"" EVIL
                               "\", 2]]}, {\"name\": \"" EVIL "\", \"points\": [[\"" EVIL "\", 3]]}]}}]}";
    char *html = report_of(json, NULL);
    CHECK(html && balanced(html) > 40 && count_of(html, "<script") == 0 && strchr(html, '\x01') == NULL);
    CHECK(html && count_of(html, "&lt;script&gt;&#39;&quot;&amp;\xef\xbf\xbd") >= 30);
    free(html);
}

static void numbers_are_typeset(void)
{
    char *html =
        report_of(TABLE("lr", "[[\"p\", 1234567], [\"q\", -0.82651], [\"r\", 1e-12], [\"s\", null], [\"u\", 0], "
                              "[\"v\", 9.97e-7], [\"w\", {\"text\": 0.5, \"strong\": true}], [\"x\", 1e-310]]"),
                  NULL);
    CHECK(html && strstr(html, ">1\u202f234\u202f567.0000<") != NULL);
    CHECK(html && strstr(html, ">\u22120.8265<") != NULL &&
          strstr(html, ">1.0\u2009\u00d7\u200910<sup>\u221212</sup><") != NULL);
    CHECK(html && strstr(html, ">\u2013<") != NULL && strstr(html, ">0.0000<") != NULL);
    CHECK(html && strstr(html, ">1.0\u2009\u00d7\u200910<sup>\u22126</sup><") != NULL &&
          strstr(html, "<strong>0.5000</strong>") != NULL);
    CHECK(html && strstr(html, "&lt; 10<sup>\u2212300</sup>") != NULL);
    free(html);
    html = report_of(TABLE("lr", "[[\"p\", 0.5], [\"q\", 0.25], [\"r\", 12]]"), NULL);
    CHECK(html && strstr(html, ">0.50<") != NULL && strstr(html, ">0.25<") != NULL && strstr(html, ">12.00<") != NULL);
    free(html);
}

/* Points that are one, far apart, equal or huge are drawn within the picture. */
static void axes_hold_any_numbers(void)
{
    static const char *const series[] = {
        "[{\"name\": \"s\", \"points\": [[0, 0]]}]",
        "[{\"name\": \"s\", \"points\": [[5, 0.8265], [5, 0.8265]]}]",
        "[{\"name\": \"s\", \"points\": [[-1e300, 1e-9], [1e300, 3e-9]]}]",
        "[{\"name\": \"s\", \"points\": [[1, -5], [2, 1e15]]}]",
        "[{\"name\": \"s\", \"points\": [[1, 1], [1.0000000000001, 1.0000000000001]]}]",
    };
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        char json[512];
        snprintf(json, sizeof json, PLOT("scatter", "%s"), series[i]);
        char *html = report_of(json, NULL);
        CHECK(html && balanced(html) > 20 && count_of(html, "nan") == 0 && count_of(html, "inf") == 0);
        CHECK(html && count_of(html, "class=\"grid\"") >= 3);
        for (const char *at = html; at && (at = strstr(at, "translate(")) != NULL; at++) {
            double x = 0, y = 0;
            CHECK(sscanf(at, "translate(%lf,%lf)", &x, &y) == 2 && x >= 12 && x <= 468 && y >= 10 && y <= 288);
        }
        free(html);
    }
}

static void a_wrong_document_is_refused_in_a_sentence(void)
{
    static const struct {
        const char *json, *says;
    } wrong[] = {
        {"7", "document: is a number, an object is expected"},
        {"{\"made\": \"m\", \"sections\": []}", "\"title\" is absent, it must be a text"},
        {"{\"title\": 5, \"made\": \"m\", \"sections\": []}", "\"title\" is a number, it must be a text"},
        {"{\"title\": \"t\", \"made\": \"m\", \"sections\": [], \"section\": []}", "has a member \"section\""},
        {"{\"title\": \"t\", \"made\": \"m\", \"sections\": [], \"facts\": [[\"a\"]]}", "facts[0] must be two"},
        {DOCUMENT("\"text\": [1]"), "sections[0]: paragraph 0 of \"text\" is a number"},
        {TABLE("l", "[]"), "sections[0].table: 2 columns and 1 letters"},
        {TABLE("lx", "[]"), "l, c or r for each"},
        {TABLE("lr", "[[\"a\", 1], [\"a\"]]"), "sections[0].table.rows[1]: 1 cells, the table has 2 columns"},
        {TABLE("lr", "[[\"a\", []]]"), "a cell is a text, a number, null"},
        {TABLE("lr", "[[\"a\", {\"txt\": 1}]]"), "has a member \"txt\", it may have: text strong note"},
        {TABLE("lr", "[[\"a\", {\"strong\": true}]]"), "a cell is a text, a number, null"},
        {PLOT("pie", "[]"), "\"kind\" must be scatter, line or bars"},
        {PLOT("line", "[]"), "0 series, 1 to 8 can be told apart"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": []}]"), "there is no point to draw"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[1, 2, 3]]}]"), "series[0]: point 0 must be [x, y] or"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[1, 2, 3, 4]]}]"), "low <= y <= high"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[\"a\", 2]]}]"), "point 0 must be"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[1, 2]], \"marked\": [1]}]"), "indices of its 1 points"},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[1, 2]], \"labels\": []}]"), NULL},
        {PLOT("line", "[{\"name\": \"s\", \"points\": [[1, 2]], \"labels\": [\"a\", \"b\"]}]"),
         "one for each of 1 points"},
        {PLOT("bars", "[{\"name\": \"s\", \"points\": [[1, 2]]}]"), "point 0 must be"},
        {PLOT("bars", "[{\"name\": \"s\", \"points\": [[\"a\", 2]]}, {\"name\": \"t\", \"points\": [[\"b\", 2]]}]"),
         "series[1]: bars of every series must have the x of the first"},
        {DOCUMENT("\"plot\": {\"kind\": \"line\", \"x\": {\"label\": \"x\", \"log\": true}, \"y\": {\"label\": \"y\"}, "
                  "\"series\": "
                  "[{\"name\": \"s\", \"points\": [[0, 2]]}]}"),
         "point 0 has no logarithm: x is 0"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cmif_err err  = {0};
        char    *html = report_of(wrong[i].json, &err);
        bool refused  = !html && err.code == CMIF_E_FORMAT && wrong[i].says && strstr(err.text, wrong[i].says) != NULL;
        if (refused != (wrong[i].says != NULL)) {
            fprintf(stderr, "expected: %s\nfound:    %s\n", wrong[i].says, html ? "a report" : err.text);
        }
        CHECK(refused == (wrong[i].says != NULL));
        free(html);
    }
}

/* An old report stays until the new one is whole, and nothing else is left in the folder. */
static void a_refused_or_failed_report_leaves_the_old_one(void)
{
    char    path[128];
    json_t *good = json_loads(DOCUMENT("\"text\": [\"new\"]"), 0, NULL), *bad = json_loads("[]", 0, NULL);
    snprintf(path, sizeof path, "%s/old.html", folder);
    FILE *file = fopen(path, "w");
    fputs("old", file);
    fclose(file);
    CHECK(cmif_report_write(bad, path, NULL) == CMIF_E_FORMAT);
    char *text = read_all(path);
    CHECK(text && strcmp(text, "old") == 0);
    free(text);
    CHECK(cmif_report_write(good, path, NULL) == CMIF_OK);
    text = read_all(path);
    CHECK(text && strstr(text, "<p>new</p>") != NULL);
    free(text);
    cmif_err err = {0};
    CHECK(cmif_report_write(good, "/nowhere/at/all.html", &err) == CMIF_E_IO);
    CHECK(strstr(err.text, "cannot write the report '/nowhere/at/all.html': No such file") != NULL);
    CHECK(cmif_report_write(good, folder, &err) ==
          CMIF_E_IO); /* a folder has this name: the temporary file goes again */
    size_t entries = 0;
    char   beside[160];
    snprintf(beside, sizeof beside, "%s/..", folder);
    DIR *dir = opendir(beside);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        entries += strncmp(entry->d_name, folder + strlen("/tmp/"), strlen(folder) - strlen("/tmp/")) == 0;
    }
    CHECK(entries == 1);
    closedir(dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/report.html", folder);
    unlink(path);
    CHECK(rmdir(folder) == 0);
    json_decref(good);
    json_decref(bad);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        json_t  *sample = json_load_file(argc > 2 ? argv[2] : SAMPLE, 0, NULL);
        cmif_err err    = {0};
        int      failed = cmif_report_write(sample, argv[1], &err) != CMIF_OK;
        fputs(err.text, stderr);
        json_decref(sample);
        return failed;
    }
    snprintf(folder, sizeof folder, "/tmp/cmif-report-XXXXXX");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    RUN(the_sample_is_one_page_that_fetches_and_runs_nothing);
    RUN(text_is_text_everywhere);
    RUN(numbers_are_typeset);
    RUN(axes_hold_any_numbers);
    RUN(a_wrong_document_is_refused_in_a_sentence);
    RUN(a_refused_or_failed_report_leaves_the_old_one);
    return check_report();
}
