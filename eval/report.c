#include "report_page.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_COLUMNS 64

/* Fonts are the reader's own: nothing is fetched, and the policy in <head> would not let it. Colours are apart in
 * lightness too, and never the only difference. */
/* clang-format off */
static const char head[] =
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<style>\n"
    ":root { --ink: #1a1a18; --quiet: #5a5a54; --paper: #fffffc; --hair: #cbcac2; --grid: #e8e7e0; --s0: #0a558f;\n"
    "  --s1: #c04a00;\n"
    "  --s2: #00785a; --s3: #a3457c; --s4: #8a6500; --s5: #2b83b8; --s6: #5b4bb0; --s7: #555; }\n"
    "@media screen and (prefers-color-scheme: dark) { :root { --ink: #e9e7e1; --quiet: #aaa79e; --paper: #171716;\n"
    "  --hair: #4a4944;\n"
    "  --grid: #2b2a28; --s0: #6fb4ec; --s1: #f58a4b; --s2: #45c49d; --s3: #e693c3; --s4: #e0b33c; --s5: #9fd3f2;\n"
    "  --s6: #b3a7f5;\n"
    "  --s7: #bbb; } }\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0 auto; max-width: 44rem; padding: 2.5rem 1rem 4rem; background: var(--paper); color: var(--ink);\n"
    "  font: 1.0625rem/1.5 'Iowan Old Style', Palatino, 'Palatino Linotype', 'URW Palladio L', Georgia,\n"
    "    'DejaVu Serif', serif;\n"
    "  font-variant-numeric: lining-nums; text-wrap: pretty; overflow-wrap: break-word; }\n"
    "h1 { margin: 0 0 .25rem; font-size: 1.75rem; line-height: 1.2; font-weight: 600; text-wrap: balance; }\n"
    "h2 { margin: 2.5rem 0 .5rem; font-size: 1.25rem; line-height: 1.3; font-weight: 600; text-wrap: balance; }\n"
    "p { margin: 0 0 .75rem; hyphens: auto; }\n"
    ".made { color: var(--quiet); }\n"
    "code { display: block; margin: 0 0 1rem; padding: .5rem .75rem; border: 1px solid var(--hair); white-space:\n"
    "  pre-wrap;\n"
    "  overflow-wrap: anywhere; font: .8125rem/1.5 ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }\n"
    "code span { display: inline-block; max-width: 100%; }\n"
    "dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 0 0 1rem;\n"
    "  font-size: .9375rem; }\n"
    "dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }\n"
    "figure { margin: 1.5rem 0 2rem; }\n"
    "figcaption { margin: 0 0 .5rem; font-size: .9375rem; line-height: 1.4; } figcaption b { font-weight: 600; }\n"
    ".plot figcaption { margin: .6rem 0 0; }\n"
    ".wide { overflow-x: auto; }\n"
    "@media screen and (min-width: 46rem) { .broad .wide { width: max-content; min-width: 100%; max-width:\n"
    "  min(100vw - 3rem, 68rem);\n"
    "  position: relative; left: 50%; transform: translateX(-50%); } }\n"
    "table { border-collapse: separate; border-spacing: 0; font-size: .9375rem; line-height: 1.35;\n"
    "  font-variant-numeric: lining-nums tabular-nums; }\n"
    "th, td { padding: .22rem .6rem; text-align: left; vertical-align: top; font-weight: 400; }\n"
    "thead th { border-block: 1.5px solid var(--ink); border-bottom-width: .75px; vertical-align: bottom;\n"
    "  text-wrap: balance;\n"
    "  max-width: 6.5rem; }\n"
    "tbody tr:last-child > * { border-bottom: 1.5px solid var(--ink); }\n"
    "tr > :first-child { padding-left: .15rem; position: sticky; left: 0; background: var(--paper); }\n"
    "tr > :last-child { padding-right: .15rem; }\n"
    ".broad table { min-width: 100%; } .broad tbody th { min-width: 7.5rem; }\n"
    ".c { text-align: center; } .r { text-align: right; } td.r, td.c { white-space: nowrap; }\n"
    "strong { font-weight: 700; } sup { font-size: .75em; line-height: 0; }\n"
    "small { display: block; color: var(--quiet); font-size: .8125rem; white-space: nowrap; }\n"
    ".plot { max-width: 36rem; margin-inline: auto; } .plot > svg { display: block; width: 100%; height: auto; }\n"
    ".axis { font-size: .875rem; color: var(--quiet); line-height: 1.3; } .x.axis { text-align: center; }\n"
    ".legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .4rem 0 0; padding: 0; list-style: none;\n"
    "  font-size: .875rem; line-height: 1.35; } .legend svg { width: 1.75rem; height: .875rem; vertical-align:\n"
    "  -.1em; }\n"
    "details { margin-top: .4rem; font-size: .875rem; color: var(--quiet); }\n"
    "details table { margin-top: .4rem; color: var(--ink); font-size: .8125rem; }\n"
    "svg text { font: 12px/1 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif; fill: var(--ink); }\n"
    ".k0 { --k: var(--s0); } .k1 { --k: var(--s1); } .k2 { --k: var(--s2); } .k3 { --k: var(--s3); }\n"
    ".k4 { --k: var(--s4); } .k5 { --k: var(--s5); } .k6 { --k: var(--s6); } .k7 { --k: var(--s7); }\n"
    ".grid, .line { fill: none; stroke: var(--grid); stroke-width: 1; } .line { stroke: var(--ink); }\n"
    ".e { stroke: var(--k); stroke-width: 1.2; } path.e, .l { fill: none; } .l { stroke: var(--k); stroke-width:\n"
    "  1.8; }\n"
    ".m { fill: var(--k); stroke: var(--paper); stroke-width: 1; } .h { fill: var(--paper); stroke: var(--k);\n"
    "  stroke-width: 1.8; }\n"
    ".whisker { fill: none; stroke: var(--ink); stroke-width: 1.2; }\n"
    ".under { fill: none; stroke: var(--paper); stroke-width: 3; }\n"
    ".ring { fill: none; stroke: var(--ink); stroke-width: 1.6; }\n"
    ".halo { stroke: var(--paper); stroke-width: 3.5px; paint-order: stroke; stroke-linejoin: round; }\n"
    "@media (max-width: 34rem) { body { font-size: 1rem; padding-top: 1.25rem; } svg text { font-size: 16px; }\n"
    "  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; }\n"
    "  table { width: max-content; } th, td { max-width: 13rem; } tr > :first-child { max-width: 8.5rem; } }\n"
    "@media print { html { font-size: 9.5pt; } body { max-width: none; padding: 0; } .wide { overflow: visible; }\n"
    "  tr > :first-child { position: static; background: none; } svg text { font-size: 12px; }\n"
    "  .broad table { font-size: .8rem; } .broad tbody th { min-width: 0; white-space: nowrap; }\n"
    "  .broad th, .broad td { padding-inline: .3rem; }\n"
    "  figure, tr { break-inside: avoid; } figure.long { break-inside: auto; } h2 { break-after: avoid; }\n"
    "  details { display: none; } @page { margin: 20mm 18mm; } }\n"
    "</style>\n";
/* clang-format on */

bool cmif_page_refuse(page *p, const char *format, ...)
{
    char    text[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    (void) cmif_fail(p->err, CMIF_E_FORMAT, "report, %s: %s (eval/report.h says what a document is)", p->at, text);
    return false;
}

static const char *name_of(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a truth value";
    case JSON_NULL:
        break;
    }
    return "null";
}

bool cmif_page_object(page *p, const json_t *value, const char *keys)
{
    if (!json_is_object(value)) {
        return cmif_page_refuse(p, "is %s, an object is expected", value ? name_of(json_typeof(value)) : "absent");
    }
    void *iterator = json_object_iter((json_t *) value); /* reads only */
    for (; iterator; iterator = json_object_iter_next((json_t *) value, iterator)) {
        const char *key  = json_object_iter_key(iterator);
        size_t      size = strlen(key);
        const char *at   = keys;
        while (at && !(strncmp(at, key, size) == 0 && size > 0 && (at[size] == ' ' || at[size] == '\0'))) {
            at = strchr(at, ' ');
            at = at ? at + 1 : NULL;
        }
        if (!at) {
            return cmif_page_refuse(p, "has a member \"%.40s\", it may have: %s", key, keys);
        }
    }
    return true;
}

bool cmif_page_member(page *p, const json_t *object, const char *key, json_type type, bool needed, const json_t **out)
{
    const json_t *value = json_object_get(object, key);
    *out                = value;
    if (!value) {
        return !needed || cmif_page_refuse(p, "\"%s\" is absent, it must be %s", key, name_of(type));
    }
    if (json_typeof(value) != type && !(type == JSON_TRUE && json_is_boolean(value))) {
        return cmif_page_refuse(p, "\"%s\" is %s, it must be %s", key, name_of(json_typeof(value)), name_of(type));
    }
    return true;
}

void cmif_page_text(page *p, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", p->out);
            break;
        case '>':
            fputs("&gt;", p->out);
            break;
        case '&':
            fputs("&amp;", p->out);
            break;
        case '"':
            fputs("&quot;", p->out);
            break;
        case '\'':
            fputs("&#39;", p->out);
            break;
        case ' ': /* 95 % on one line */
            fputs(text[1] == '%' ? "&nbsp;" : " ", p->out);
            break;
        default: /* control characters are no text of a page */
            if ((unsigned char) *text >= 0x20 ? *text != 0x7f : *text == '\n' || *text == '\t') {
                fputc(*text, p->out);
            } else {
                fputs("\xef\xbf\xbd", p->out);
            }
        }
    }
}

int cmif_page_decimals(const json_t *number)
{
    if (!json_is_real(number)) {
        return 0;
    }
    double value = json_real_value(number), scale = 1;
    for (int decimals = 0; decimals < 4; decimals++, scale *= 10) {
        if (fabs(value) > 1e9 || fabs(round(value * scale) - value * scale) < 1e-7) {
            return decimals;
        }
    }
    return 4;
}

void cmif_page_caption(page *p, const json_t *caption)
{
    fputs(caption ? ".</b> " : "</b>", p->out);
    cmif_page_text(p, caption ? json_string_value(caption) : "");
    fputs("</figcaption>\n", p->out);
}

void cmif_page_number(page *p, double value, int decimals)
{
    char text[400];
    if (value != 0 && fabs(value) < 5e-5) {
        int    power = (int) floor(log10(fabs(value)));
        double front = value / pow(10, power);
        if (power < -300) { /* a p-value beyond what doubles hold well */
            fputs(value < 0 ? "&gt; \xe2\x88\x92"
                              "10<sup>\xe2\x88\x92"
                              "300</sup>"
                            : "&lt; 10<sup>\xe2\x88\x92"
                              "300</sup>",
                  p->out);
            return;
        }
        if (fabs(round(front * 10)) >= 100) { /* 9.97 is 1.0 of the next */
            front /= 10;
            power++;
        }
        fprintf(p->out,
                "%s%.1f\xe2\x80\x89\xc3\x97\xe2\x80\x89"
                "10<sup>\xe2\x88\x92%d</sup>",
                value < 0 ? "\xe2\x88\x92" : "", fabs(front), -power);
        return;
    }
    snprintf(text, sizeof text, "%.*f", decimals, fabs(value));
    size_t whole = strcspn(text, ".");
    bool   zero  = strspn(text, "0.") == strlen(text);
    fputs(value < 0 && !zero ? "\xe2\x88\x92" : "", p->out);
    for (size_t i = 0; text[i]; i++) {
        if (whole > 4 && i > 0 && i < whole && (whole - i) % 3 == 0) {
            fputs("\xe2\x80\xaf", p->out); /* 67 339, with a narrow space that does not break */
        }
        fputc(text[i], p->out);
    }
}

/* ---------------------------------------------------------------------------------------------- tables */

static bool is_cell(const json_t *value)
{
    return json_is_string(value) || json_is_number(value) || json_is_null(value);
}

static void put_value(page *p, const json_t *value, int decimals)
{
    if (json_is_string(value)) {
        cmif_page_text(p, json_string_value(value));
    } else if (json_is_number(value)) {
        cmif_page_number(p, json_number_value(value), decimals);
    } else {
        fputs("\xe2\x80\x93", p->out);
    }
}

/* What a cell shows: itself, or its "text". */
static const json_t *shown(const json_t *cell)
{
    return json_is_object(cell) ? json_object_get(cell, "text") : cell;
}

static bool put_cell(page *p, const json_t *cell, char align, int decimals, bool names_row)
{
    const json_t *strong = NULL, *note = NULL;
    if (json_is_object(cell)) {
        if (!cmif_page_object(p, cell, "text strong note") ||
            !cmif_page_member(p, cell, "strong", JSON_TRUE, false, &strong) ||
            !cmif_page_member(p, cell, "note", JSON_STRING, false, &note)) {
            return false;
        }
    }
    if (!is_cell(shown(cell))) {
        return cmif_page_refuse(p, "a cell is a text, a number, null, or an object with such a \"text\"");
    }
    const char *tag = names_row ? "th" : "td";
    fprintf(p->out, names_row ? "<th scope=\"row\"" : "<td");
    fprintf(p->out, align == 'l' ? ">" : " class=\"%c\">", align);
    fputs(json_is_true(strong) ? "<strong>" : "", p->out);
    put_value(p, shown(cell), decimals);
    fputs(json_is_true(strong) ? "</strong>" : "", p->out);
    if (note) {
        fputs("<small>", p->out);
        cmif_page_text(p, json_string_value(note));
        fputs("</small>", p->out);
    }
    fprintf(p->out, "</%s>", tag);
    return true;
}

static bool put_table(page *p, const json_t *table)
{
    const json_t *columns, *align, *rows, *caption;
    char          at[sizeof p->at];
    int           decimals[MOST_COLUMNS] = {0};
    if (!cmif_page_object(p, table, "columns align rows caption") ||
        !cmif_page_member(p, table, "columns", JSON_ARRAY, true, &columns) ||
        !cmif_page_member(p, table, "align", JSON_STRING, true, &align) ||
        !cmif_page_member(p, table, "rows", JSON_ARRAY, true, &rows) ||
        !cmif_page_member(p, table, "caption", JSON_STRING, false, &caption)) {
        return false;
    }
    size_t      count  = json_array_size(columns);
    const char *letter = json_string_value(align);
    if (count == 0 || count > MOST_COLUMNS || strlen(letter) != count || strspn(letter, "lcr") != count) {
        return cmif_page_refuse(p, "%zu columns and %zu letters in \"align\": 1 to %d columns, and l, c or r for each",
                                count, strlen(letter), MOST_COLUMNS);
    }
    fprintf(p->out, "<figure class=\"table%s%s\">\n<figcaption><b>Table %u", count > 6 ? " broad" : "",
            json_array_size(rows) > 25 ? " long" : "", ++p->tables);
    cmif_page_caption(p, caption);
    fprintf(p->out, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Table %u\"><table>\n<thead><tr>",
            p->tables);
    for (size_t i = 0; i < count; i++) {
        const json_t *name = json_array_get(columns, i);
        if (!json_is_string(name)) {
            return cmif_page_refuse(p, "column %zu has no name that is a text", i);
        }
        fprintf(p->out, letter[i] == 'l' ? "<th scope=\"col\">" : "<th scope=\"col\" class=\"%c\">", letter[i]);
        cmif_page_text(p, json_string_value(name));
        fputs("</th>", p->out);
    }
    fputs("</tr></thead>\n<tbody>\n", p->out);
    memcpy(at, p->at, sizeof at);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        const json_t *row = json_array_get(rows, r);
        snprintf(p->at, sizeof p->at, "%.60s.rows[%zu]", at, r);
        if (json_array_size(row) != count) {
            return cmif_page_refuse(p, "%zu cells, the table has %zu columns", json_array_size(row), count);
        }
        for (size_t i = 0; i < count; i++) { /* every number of a column with the decimals of the one that needs most */
            const json_t *value = shown(json_array_get(row, i));
            if (json_is_number(value) && fabs(json_number_value(value)) >= 5e-5) {
                int needs   = cmif_page_decimals(value);
                decimals[i] = needs > decimals[i] ? needs : decimals[i];
            }
        }
    }
    for (size_t r = 0; r < json_array_size(rows); r++) {
        snprintf(p->at, sizeof p->at, "%.60s.rows[%zu]", at, r);
        fputs("<tr>", p->out);
        for (size_t i = 0; i < count; i++) {
            if (!put_cell(p, json_array_get(json_array_get(rows, r), i), letter[i], decimals[i], i == 0)) {
                return false;
            }
        }
        fputs("</tr>\n", p->out);
    }
    fputs("</tbody></table></div>\n</figure>\n", p->out);
    return true;
}

/* ---------------------------------------------------------------------------------------------- the page */

static bool put_section(page *p, const json_t *section, size_t index)
{
    const json_t *heading, *text, *table, *plot;
    snprintf(p->at, sizeof p->at, "sections[%zu]", index);
    if (!cmif_page_object(p, section, "heading text table plot") ||
        !cmif_page_member(p, section, "heading", JSON_STRING, true, &heading) ||
        !cmif_page_member(p, section, "text", JSON_ARRAY, false, &text) ||
        !cmif_page_member(p, section, "table", JSON_OBJECT, false, &table) ||
        !cmif_page_member(p, section, "plot", JSON_OBJECT, false, &plot)) {
        return false;
    }
    fprintf(p->out, "<section>\n<h2>%zu&ensp;", index + 1);
    cmif_page_text(p, json_string_value(heading));
    fputs("</h2>\n", p->out);
    for (size_t i = 0; i < json_array_size(text); i++) {
        const json_t *paragraph = json_array_get(text, i);
        if (!json_is_string(paragraph)) {
            return cmif_page_refuse(p, "paragraph %zu of \"text\" is %s, it must be a text", i,
                                    name_of(json_typeof(paragraph)));
        }
        fputs("<p>", p->out);
        cmif_page_text(p, json_string_value(paragraph));
        fputs("</p>\n", p->out);
    }
    if (table) {
        snprintf(p->at, sizeof p->at, "sections[%zu].table", index);
        if (!put_table(p, table)) {
            return false;
        }
    }
    if (plot) {
        snprintf(p->at, sizeof p->at, "sections[%zu].plot", index);
        if (!cmif_page_plot(p, plot)) {
            return false;
        }
    }
    fputs("</section>\n", p->out);
    return true;
}

static bool put_document(page *p, const json_t *document)
{
    const json_t *title, *made, *command, *facts, *sections;
    snprintf(p->at, sizeof p->at, "document");
    if (!cmif_page_object(p, document, "title made command facts sections") ||
        !cmif_page_member(p, document, "title", JSON_STRING, true, &title) ||
        !cmif_page_member(p, document, "made", JSON_STRING, true, &made) ||
        !cmif_page_member(p, document, "command", JSON_STRING, false, &command) ||
        !cmif_page_member(p, document, "facts", JSON_ARRAY, false, &facts) ||
        !cmif_page_member(p, document, "sections", JSON_ARRAY, true, &sections)) {
        return false;
    }
    fprintf(p->out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n%s<title>", head);
    cmif_page_text(p, json_string_value(title));
    fputs("</title>\n</head>\n<body>\n<main>\n<h1>", p->out);
    cmif_page_text(p, json_string_value(title));
    fputs("</h1>\n<p class=\"made\">", p->out);
    cmif_page_text(p, json_string_value(made));
    fputs("</p>\n", p->out);
    if (command) {
        fputs("<code><span>", p->out); /* a line may end after an argument, and not after the hyphen of one */
        for (const char *at = json_string_value(command); *at;) {
            char word[256];
            snprintf(word, sizeof word, "%.*s", (int) fmin((double) strcspn(at, " "), 200), at);
            at += strlen(word);
            cmif_page_text(p, word);
            if (*at == ' ') {
                fputs("</span> <span>", p->out);
                at++;
            }
        }
        fputs("</span>", p->out);
        fputs("</code>\n", p->out);
    }
    if (json_array_size(facts) > 0) {
        fputs("<dl>\n", p->out);
        for (size_t i = 0; i < json_array_size(facts); i++) {
            const json_t *fact = json_array_get(facts, i);
            const json_t *name = json_array_get(fact, 0), *value = json_array_get(fact, 1);
            if (json_array_size(fact) != 2 || !json_is_string(name) || !is_cell(value)) {
                return cmif_page_refuse(p, "facts[%zu] must be two: a name, and a text or number", i);
            }
            fputs("<dt>", p->out);
            cmif_page_text(p, json_string_value(name));
            fputs("</dt><dd>", p->out);
            put_value(p, value, cmif_page_decimals(value));
            fputs("</dd>\n", p->out);
        }
        fputs("</dl>\n", p->out);
    }
    for (size_t i = 0; i < json_array_size(sections); i++) {
        if (!put_section(p, json_array_get(sections, i), i)) {
            return false;
        }
    }
    fputs("</main>\n</body>\n</html>\n", p->out);
    return true;
}

cmif_code cmif_report_write(const json_t *document, const char *path, cmif_err *err)
{
    cmif_code rc        = CMIF_OK;
    char     *html      = NULL;
    size_t    size      = 0;
    char     *temporary = NULL;
    int       fd        = -1;
    cmif_err  refusal   = {0};
    page      p         = {.out = open_memstream(&html, &size), .err = &refusal};
    if (!p.out) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the report '%s'", path);
    }
    bool fine   = put_document(&p, document);
    bool memory = !ferror(p.out);
    memory      = fclose(p.out) == 0 && memory;
    if (!fine || !memory) {
        rc = fine ? cmif_fail(err, CMIF_E_MEMORY, "no memory for the report '%s'", path)
                  : cmif_err_set(err, refusal.code, refusal.where, "%s", refusal.text);
        goto done;
    }
    size_t room = strlen(path) + sizeof ".XXXXXX";
    temporary   = malloc(room);
    if (!temporary) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the name of the report '%s'", path);
        goto done;
    }
    snprintf(temporary, room, "%s.XXXXXX", path);
    fd = mkstemp(temporary); /* for this person only: a report may be of their own texts */
    for (size_t done = 0; fd >= 0 && done < size;) {
        ssize_t wrote = write(fd, html + done, size - done);
        if (wrote < 0 && errno != EINTR) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot write the report '%s': %s", path, strerror(errno));
            goto done;
        }
        done += wrote > 0 ? (size_t) wrote : 0;
    }
    if (fd < 0 || fsync(fd) != 0 || rename(temporary, path) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the report '%s': %s", path, strerror(errno));
        goto done;
    }
    close(fd);
    fd = -1;
done:
    if (fd >= 0) {
        close(fd);
        unlink(temporary);
    }
    free(temporary);
    free(html);
    return rc;
}
