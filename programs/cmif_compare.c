#include "cmif_compare.h"

#include "cmif_figures.h"
#include "cmif_options.h"
#include "cmif_tool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SHOWN = 24, TABLES_MAX = 64 };

/* ---- show ---- */

typedef struct chance {
    uint32_t output;
    double   p;
} chance;

static int likelier(const void *a, const void *b)
{
    const chance *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : (x->output > y->output) - (x->output < y->output);
}

/* A word of a table: its letters are checked, its length is bounded, but a terminal obeys more than letters. */
static const char *shown_word(const cmif_table *t, uint32_t word)
{
    static char texts[4][CMIF_TABLE_WORD_SIZE_MAX + 1];
    static int  next;
    cmif_str    s    = cmif_table_word(t, word);
    char       *text = texts[next++ & 3];
    snprintf(text, sizeof texts[0], "%.*s", (int) s.size, s.data);
    return word ? text : "(unknown)";
}

static int show_word(const cmif_table *t, const char *typed, json_t *results, cmif_err *err)
{
    char   word[CMIF_TABLE_WORD_SIZE_MAX + 1];
    size_t size = 0;
    for (; typed[size] && size < CMIF_TABLE_WORD_SIZE_MAX; size++) {
        word[size] = typed[size] >= 'A' && typed[size] <= 'Z' ? (char) (typed[size] + 'a' - 'A') : typed[size];
    }
    word[size]       = '\0';
    uint32_t id      = cmif_table_find(t, (cmif_str){word, size});
    bool     unknown = id == CMIF_NO_WORD;
    id               = unknown ? 0 : id;

    uint32_t row = cmif_table_row(t, id), block = t->block_of[row], from = t->block_at[block];
    uint32_t count = t->block_at[block + 1] - from, members = 0;
    chance  *list = calloc(count, sizeof *list);
    if (!list) {
        (void) !cmif_fail(err, CMIF_E_MEMORY, "no memory for %u outputs", count);
        return tool_report(err, 1);
    }
    for (uint32_t j = 0; j < count; j++) {
        list[j] = (chance){t->outputs[from + j], ldexp((double) cmif_table_weight(t, row, j), -(int) t->weight_bits)};
    }
    qsort(list, count, sizeof *list, likelier);
    json_t *outputs = json_array(), *block_words = json_array();
    for (uint32_t w = 0; w < t->word_count; w++) {
        if (cmif_table_block(t, w) == block) {
            members++;
            json_array_append_new(block_words, json_string(shown_word(t, w)));
        }
    }
    if (tool_json) {
        for (uint32_t j = 0; j < count; j++) {
            json_array_append_new(outputs, json_pack("[s, f]", shown_word(t, list[j].output), list[j].p));
        }
        json_array_append_new(results, json_pack("{s:s, s:b, s:b, s:i, s:O, s:O}", "word", word, "known", !unknown,
                                                 "passes", cmif_table_passes(t, id), "block", (int) block,
                                                 "block_words", block_words, "outputs", outputs));
    } else {
        printf("%s%s: ", word, unknown ? " is not in the table, so it is released as an unknown word" : "");
        if (cmif_table_passes(t, id) && id) {
            printf("passes as it is\n");
        } else {
            printf("block %u of %u words\n ", block, members);
            for (uint32_t i = 0; i < members && i < SHOWN; i++) {
                printf(" %s", json_string_value(json_array_get(block_words, i)));
            }
            printf("%s\n", members > SHOWN ? " ..." : "");
            for (uint32_t j = 0; j < count && j < SHOWN; j++) {
                printf("  %8.6f  %s\n", list[j].p, shown_word(t, list[j].output));
            }
            if (count > SHOWN) {
                printf("  and %u more\n", count - SHOWN);
            }
        }
    }
    json_decref(outputs);
    json_decref(block_words);
    free(list);
    return 0;
}

int cmif_show_main(int argc, char **argv)
{
    const cmif_option  list[]  = {{0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print it as JSON"}};
    const cmif_command command = {
        "channel show", "FILE WORD ...", "a word's block, and what may leave in its place", list, 1, NULL};
    cmif_table *table = NULL;
    cmif_err    err   = {0};
    int         rest = 0, code = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest < 2) {
        rc = cmif_fail(&err, CMIF_E_RANGE,
                       "channel show takes a table and words, as in: cmif channel show words.cmifch film");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    if (cmif_table_open(argv[0], &table, NULL, &err) != CMIF_OK) {
        return tool_report(&err, 1);
    }
    json_t *results = json_array();
    for (int i = 1; code == 0 && i < rest; i++) {
        code = show_word(table, argv[i], results, &err);
    }
    if (code == 0 && tool_json) {
        code    = tool_print_json(results, &err);
        results = NULL;
    } else if (code == 0) {
        code = tool_end(&err);
    }
    json_decref(results);
    cmif_table_free(table);
    return code;
}

/* ---- compare ---- */

typedef struct entry {
    const char      *path;
    cmif_table      *table;
    cmif_certificate certificate;
    cmif_figures     figures;
    char             mechanism[96], nominal[32], certified[96];
    double           epsilon, loss; /* nominal, certified; loss < 0: none */
    uint64_t         size;          /* of the file */
} entry;

static void print_entries(const entry *list, size_t count)
{
    printf("%-34s %9s %12s %8s %8s %8s %8s  %s\n", "mechanism", "nominal", "certified", "attack", "itself", "words",
           "size", "file");
    for (size_t i = 0; i < count; i++) {
        const entry *e = &list[i];
        char         loss[32];
        snprintf(loss, sizeof loss, e->loss < 0 ? "none" : "%.6f", e->loss);
        char attack[16] = "-";
        if (e->figures.blocks) {
            snprintf(attack, sizeof attack, "%.1f%%", 100 * e->figures.attack);
        }
        printf("%-34s %9s %12s %8s %7.1f%% %8u %8s  %s\n", e->mechanism, e->nominal, loss, attack,
               100 * e->figures.itself, e->figures.drawn, tool_size(e->size), e->path);
    }
}

/* ---- the picture ---- */

enum { WIDTH = 960, HEIGHT = 420, PLOT = 320, TOP = 48, LEFT = 64, SECOND = 544 };

static const char *const colours[] = {"#1b6ca8", "#c0392b", "#1e8449", "#7d3c98", "#b9770e", "#2e4053"};

static void put_text(FILE *to, const char *text) /* names of files are anybody's */
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"') {
            fprintf(to, "&#%d;", *text);
        } else if ((unsigned char) *text >= 0x20) {
            fputc(*text, to);
        }
    }
}

static void put_axes(FILE *to, int left, const char *title, const char *across, const char *up, double most_x,
                     double most_y, bool percent)
{
    fprintf(to, "<text x='%d' y='24' class='title'>%s</text>\n", left, title);
    fprintf(to, "<path d='M%d %d v%d h%d' class='axis'/>\n", left, TOP, PLOT, PLOT);
    for (int i = 0; i <= 4; i++) {
        double x = most_x * i / 4, y = most_y * i / 4;
        int    at_x = left + PLOT * i / 4, at_y = TOP + PLOT - PLOT * i / 4;
        fprintf(to, "<text x='%d' y='%d' text-anchor='middle'>%.3g</text>\n", at_x, TOP + PLOT + 18, x);
        fprintf(to,
                percent ? "<text x='%d' y='%d' text-anchor='end'>%.0f %%</text>\n"
                        : "<text x='%d' y='%d' text-anchor='end'>%.3g</text>\n",
                left - 6, at_y + 4, percent ? 100 * y : y);
        fprintf(to, "<path d='M%d %d h%d' class='grid'/>\n", left, at_y, PLOT);
    }
    fprintf(to, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n", left + PLOT / 2, TOP + PLOT + 38, across);
    fprintf(to, "<text x='%d' y='%d' text-anchor='start'>%s</text>\n", left, TOP - 8, up);
}

/* Tables of one mechanism are one line: in the left panel also of one K, in the right one also of one epsilon. */
static bool same_line(const entry *a, const entry *b, bool right)
{
    const cmif_table_claim *x = &a->table->claim, *y = &b->table->claim;
    return x->mechanism == y->mechanism && x->noise == y->noise && x->calibrated == y->calibrated &&
           (right ? a->epsilon == b->epsilon : x->k == y->k);
}

static void put_line(FILE *to, const entry *list, size_t count, size_t first, int left, bool right, double most_x,
                     double most_y, const char *colour, double (*y_of)(const entry *), bool dashed)
{
    const entry *members[TABLES_MAX];
    size_t       member_count = 0;
    for (size_t i = first; i < count; i++) {
        if (same_line(&list[first], &list[i], right) && y_of(&list[i]) >= 0) {
            members[member_count++] = &list[i];
        }
    }
    for (size_t i = 1; i < member_count; i++) { /* by x: few */
        for (size_t j = i; j > 0; j--) {
            double a = right ? members[j - 1]->table->claim.k : members[j - 1]->epsilon;
            double b = right ? members[j]->table->claim.k : members[j]->epsilon;
            if (a > b) {
                const entry *swap = members[j];
                members[j]        = members[j - 1];
                members[j - 1]    = swap;
            }
        }
    }
    fprintf(to, "<path fill='none' stroke='%s'%s d='", colour, dashed ? " stroke-dasharray='4 3'" : "");
    for (size_t i = 0; i < member_count; i++) {
        double x = (right ? members[i]->table->claim.k : members[i]->epsilon) / most_x;
        fprintf(to, "%c%.1f %.1f", i ? 'L' : 'M', left + PLOT * x, TOP + PLOT * (1 - y_of(members[i]) / most_y));
    }
    fputs("'/>\n", to);
    for (size_t i = 0; i < member_count; i++) {
        double x = (right ? members[i]->table->claim.k : members[i]->epsilon) / most_x;
        fprintf(to, "<circle cx='%.1f' cy='%.1f' r='3.5' fill='%s'><title>", left + PLOT * x,
                TOP + PLOT * (1 - y_of(members[i]) / most_y), colour);
        put_text(to, members[i]->path);
        fputs("</title></circle>\n", to);
    }
}

static double loss_of(const entry *e)
{
    return e->loss;
}
static double attack_of(const entry *e)
{
    return e->figures.blocks ? e->figures.attack : -1;
}
static double itself_of(const entry *e)
{
    return e->figures.blocks ? e->figures.itself : -1;
}

static void draw(FILE *to, const entry *list, size_t count)
{
    double most_epsilon = 1, most_k = 20, most_share = 0.1;
    for (size_t i = 0; i < count; i++) {
        most_epsilon = fmax(most_epsilon, fmax(list[i].epsilon, list[i].loss));
        most_k       = fmax(most_k, list[i].table->claim.k);
        most_share   = fmax(most_share, fmax(list[i].figures.attack, list[i].figures.itself));
    }
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='sans-serif' font-size='12'>\n"
            "<style>text{fill:#222}.title{font-size:15px;font-weight:bold}.axis{fill:none;stroke:#222}"
            ".grid{stroke:#ddd}</style>\n<rect width='100%%' height='100%%' fill='white'/>\n",
            WIDTH, HEIGHT + 20 * ((int) count + 1));
    put_axes(to, LEFT, "What a table loses", "nominal epsilon", "certified epsilon", most_epsilon, most_epsilon, false);
    fprintf(to, "<path d='M%d %d L%d %d' stroke='#999' stroke-dasharray='2 3'/>\n", LEFT, TOP + PLOT, LEFT + PLOT, TOP);
    put_axes(to, SECOND, "What it keeps and gives away", "K, words of a block",
             "solid: named by an attacker; dashed: leaves as itself", most_k, most_share, true);
    int left_legend = 0, right_legend = 0;
    for (size_t i = 0; i < count; i++) {
        bool left = true, right = true;
        for (size_t j = 0; j < i; j++) {
            left  = left && !same_line(&list[j], &list[i], false);
            right = right && !same_line(&list[j], &list[i], true);
        }
        const char *colour = colours[i % (sizeof colours / sizeof *colours)];
        if (left) {
            put_line(to, list, count, i, LEFT, false, most_epsilon, most_epsilon, colour, loss_of, false);
            fprintf(to, "<text x='%d' y='%d' style='fill:%s'>%s</text>\n", LEFT, HEIGHT + 20 * ++left_legend, colour,
                    list[i].mechanism);
        }
        if (right) {
            put_line(to, list, count, i, SECOND, true, most_k, most_share, colour, attack_of, false);
            put_line(to, list, count, i, SECOND, true, most_k, most_share, colour, itself_of, true);
            fprintf(to, "<text x='%d' y='%d' style='fill:%s'>%s%s%s, epsilon %s</text>\n", SECOND,
                    HEIGHT + 20 * ++right_legend, colour, cmif_mechanism_name(list[i].table->claim.mechanism),
                    list[i].table->claim.noise ? ", " : "",
                    list[i].table->claim.noise ? cmif_noise_name(list[i].table->claim.noise) : "", list[i].nominal);
        }
    }
    fputs("</svg>\n", to);
}

static cmif_code write_picture(const char *path, const entry *list, size_t count, cmif_err *err)
{
    char      part[4096];
    cmif_code rc = CMIF_OK;
    if (snprintf(part, sizeof part, "%s.partial", path) >= (int) sizeof part) {
        return cmif_fail(err, CMIF_E_RANGE, "the picture's name is too long");
    }
    FILE *to = fopen(part, "w");
    if (!to) {
        return cmif_fail(err, CMIF_E_IO, "cannot write '%s': is the folder there, and yours?", part);
    }
    draw(to, list, count);
    bool bad = ferror(to) != 0;
    bad      = fclose(to) != 0 || bad;
    if (bad || rename(part, path) != 0) {
        remove(part);
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': is the disk full?", path);
    }
    return rc;
}

int cmif_compare_main(int argc, char **argv)
{
    const char       *svg    = NULL;
    const cmif_option list[] = {
        {0, "svg", "FILE", CMIF_OPTION_TEXT, &svg, 0, 0, "a picture: loss over epsilon, utility over K"},
        {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print it as JSON"}};
    const cmif_command command = {"channel compare", "FILE ... [--svg FILE]", "tables side by side", list, 2, NULL};
    entry              entries[TABLES_MAX] = {0};
    cmif_err           err                 = {0};
    int                rest = 0, code = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && (rest < 1 || rest > TABLES_MAX)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "channel compare takes 1 to %d tables, found %d", TABLES_MAX, rest);
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    json_t *results = json_array();
    for (int i = 0; rc == CMIF_OK && i < rest; i++) {
        entry *e = &entries[i];
        e->path  = argv[i];
        rc       = cmif_table_open(argv[i], &e->table, &e->certificate, &err);
        rc       = rc == CMIF_OK ? cmif_figures_get(e->table, &e->figures, &err) : rc;
        if (rc != CMIF_OK) {
            cmif_err_context(&err, "'%s'", argv[i]);
            break;
        }
        cmif_figures_mechanism(&e->table->claim, e->mechanism, sizeof e->mechanism);
        cmif_figures_nominal(&e->table->claim, e->nominal, sizeof e->nominal);
        struct stat info;
        e->size    = stat(argv[i], &info) == 0 ? (uint64_t) info.st_size : 0;
        e->epsilon = (double) e->table->claim.epsilon_num / (double) e->table->claim.epsilon_den;
        e->loss    = e->certificate.pure && e->certificate.epsilon_micro != UINT64_MAX
                         ? (double) e->certificate.epsilon_micro / 1e6
                         : -1;
        if (tool_json) {
            json_t *object = cmif_figures_json(e->table, &e->certificate, &e->figures);
            json_object_set_new(object, "file", json_string(argv[i]));
            json_array_append_new(results, object);
        }
    }
    if (rc == CMIF_OK && svg) {
        rc = write_picture(svg, entries, (size_t) rest, &err);
    }
    if (rc != CMIF_OK) {
        code = tool_report(&err, 1);
    } else if (tool_json) {
        code    = tool_print_json(results, &err);
        results = NULL;
    } else {
        print_entries(entries, (size_t) rest);
        code = tool_end(&err);
    }
    for (int i = 0; i < rest && i < TABLES_MAX; i++) {
        cmif_table_free(entries[i].table);
    }
    json_decref(results);
    return code;
}
