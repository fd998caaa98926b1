/* cmif sanitize - a text as it may leave, on stdout; and an answer with the originals put back. */
#include "cmif_commands.h"
#include "cmif_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 65536, MAP_MAX = 1 << 28, SHOWN_MAX = 64 };

static cmif_guard_options guard_options;
static const char        *map_option, *restore_option;
static bool               explain, dry_run, json_text;

static const cmif_option options[] = {
    CMIF_GUARD_OPTIONS(guard_options),
    {0, "stop-words", "pass|protect", CMIF_OPTION_TEXT, &guard_options.stop_words, 0, 0,
     "function words: as they are, or through the channel"},
    {0, "explain", NULL, CMIF_OPTION_FLAG, &explain, 0, 0, "on stderr: what each piece became, and why"},
    {0, "dry-run", NULL, CMIF_OPTION_FLAG, &dry_run, 0, 0, "only explain, on stdout: nothing is entered"},
    {0, "map", "FILE", CMIF_OPTION_TEXT, &map_option, 0, 0, "keep the originals in this new file, for --restore"},
    {0, "restore", "FILE", CMIF_OPTION_TEXT, &restore_option, 0, 0, "stdin is an answer: put back the originals"},
    {0, "json-text", NULL, CMIF_OPTION_FLAG, &json_text, 0, 0, "with --restore: the answer is JSON text, and stays so"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command command = {
    .name         = "sanitize",
    .args         = "[options] [TEXT]    (no TEXT, or -: read stdin)",
    .summary      = "write a text as it may leave",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = "stdout is the released text and nothing else. It may be sent, so it is entered\n"
                    "in the ledger and has a receipt.\n\n"
                    "  cmif sanitize --map letter.map < letter.txt > letter.safe\n"
                    "  cmif sanitize --restore letter.map < answer.txt\n",
};

static cmif_code wrote(cmif_err *err)
{
    return fflush(stdout) == 0 && !ferror(stdout)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
}

/* ---- explaining ---- */

typedef struct view {
    FILE                     *to;
    const char               *text[2]; /* as written, as released */
    const cmif_released_span *spans;
    size_t                    count;
} view;

typedef struct place { /* at: bytes into that span; only where both sides are the same */
    size_t   span;
    uint32_t at;
} place;

/* How a piece is shown. NAMED: left as it is although it is no ordinary word. */
typedef enum mark { MARK_SAME = 0, MARK_SURROGATE, MARK_CHANNEL, MARK_PLAIN, MARK_NAMED, MARKS } mark;

static const struct {
    cmif_style  style;
    const char *open, *close, *colour, *means;
} marks[MARKS] = {[MARK_SURROGATE] = {CMIF_GREEN, "[", "]", "green", "made up, put back in an answer"},
                  [MARK_CHANNEL]   = {CMIF_YELLOW, "{", "}", "yellow", "drawn from the channel, not put back"},
                  [MARK_PLAIN]     = {CMIF_BOLD, "(", ")", "bold", "as it is, in plain letters"},
                  [MARK_NAMED]     = {CMIF_RED, "<", ">", "red", "as it is, by the policy"}};

static const char *bytes_of(const view *v, const cmif_released_span *s, int side)
{
    return v->text[side] + (side ? s->out_from : s->from);
}

static mark mark_of(const view *v, const cmif_released_span *s)
{
    if (s->action == CMIF_ACTION_SURROGATE || s->action == CMIF_ACTION_CHANNEL) {
        return s->action == CMIF_ACTION_CHANNEL ? MARK_CHANNEL : MARK_SURROGATE;
    }
    if (s->size != s->out_size || memcmp(bytes_of(v, s, 0), bytes_of(v, s, 1), s->size) != 0) {
        return MARK_PLAIN;
    }
    return s->class >= CMIF_SPAN_EMAIL ? MARK_NAMED : MARK_SAME;
}

/* Nothing of it is obeyed by the terminal, and it stays on its line. */
static void put_text(FILE *to, const char *text, size_t size)
{
    for (size_t from = 0, at = 0; at <= size; at++) {
        if (at == size || text[at] == '\n' || text[at] == '\t' || text[at] == '\r') {
            cmif_put_clean(to, text + from, at - from);
            fputs(at < size ? " " : "", to);
            from = at + 1;
        }
    }
}

static void put_piece(const view *v, const cmif_released_span *s, int side, mark m)
{
    const char *colour = cmif_style_of(v->to, marks[m].style);
    fputs(*colour ? colour : marks[m].open, v->to);
    put_text(v->to, bytes_of(v, s, side), side ? s->out_size : s->size);
    fputs(*colour ? cmif_style_of(v->to, CMIF_PLAIN) : marks[m].close, v->to);
}

/* The newline that ends the line, or the end of the text. */
static place end_of_line(const view *v, place at, bool *changed)
{
    for (*changed = false; at.span < v->count; at = (place){at.span + 1, 0}) {
        const cmif_released_span *s = &v->spans[at.span];
        mark                      m = mark_of(v, s);
        const char *newline         = m == MARK_SAME ? memchr(bytes_of(v, s, 0) + at.at, '\n', s->size - at.at) : NULL;
        if (newline) {
            at.at = (uint32_t) (newline - bytes_of(v, s, 0));
            return at;
        }
        *changed = *changed || m != MARK_SAME;
    }
    return at;
}

static void put_line(const view *v, place from, place end, int side, const char *sign)
{
    fprintf(v->to, "%s%s%s ", cmif_style_of(v->to, CMIF_DIM), sign, cmif_style_of(v->to, CMIF_PLAIN));
    for (; from.span < end.span || (from.span == end.span && from.at < end.at); from = (place){from.span + 1, 0}) {
        const cmif_released_span *s = &v->spans[from.span];
        mark                      m = mark_of(v, s);
        if (m != MARK_SAME) {
            put_piece(v, s, side, m);
        } else {
            uint32_t to = from.span == end.span ? end.at : s->size;
            put_text(v->to, bytes_of(v, s, 0) + from.at, to - from.at);
        }
    }
    fputc('\n', v->to);
}

/* Lines that changed twice, as they were and as they leave; the others once. */
static void put_lines(const view *v)
{
    for (place at = {0, 0}; at.span < v->count && !cmif_interrupted;) {
        bool  changed;
        place end = end_of_line(v, at, &changed);
        put_line(v, at, end, 0, changed ? "-" : " ");
        if (changed) {
            put_line(v, at, end, 1, "+");
        }
        at = end.span < v->count && end.at + 1 == v->spans[end.span].size ? (place){end.span + 1, 0}
                                                                          : (place){end.span, end.at + 1};
    }
}

static bool same_piece(const view *v, const cmif_released_span *a, const cmif_released_span *b)
{
    return a->size == b->size && a->out_size == b->out_size && !memcmp(bytes_of(v, a, 0), bytes_of(v, b, 0), a->size) &&
           !memcmp(bytes_of(v, a, 1), bytes_of(v, b, 1), a->out_size);
}

/* "person     made up: names of people" and each different piece below. */
static void put_pieces(const view *v, size_t class, mark m)
{
    struct {
        size_t span, times;
    } shown[SHOWN_MAX];
    size_t count = 0, more = 0;
    for (size_t i = 0; i < v->count; i++) {
        const cmif_released_span *s = &v->spans[i];
        if (s->class != class || mark_of(v, s) != m) {
            continue;
        }
        size_t k = 0;
        while (k < count && !same_piece(v, &v->spans[shown[k].span], s)) {
            k++;
        }
        if (k < count) {
            shown[k].times++;
        } else if (count < SHOWN_MAX) {
            shown[count].span    = i;
            shown[count++].times = 1;
        } else {
            more++;
        }
    }
    if (!count) {
        return;
    }
    fprintf(v->to, "%s%s%s  %s: %s\n", cmif_style_of(v->to, CMIF_BOLD), cmif_span_class_name((cmif_span_class) class),
            cmif_style_of(v->to, CMIF_PLAIN),
            m == MARK_SURROGATE && class <= CMIF_SPAN_TOPIC ? "no word that the channel may give, so made up"
                                                            : marks[m].means,
            cmif_class_about((cmif_span_class) class));
    for (size_t k = 0; k < count; k++) {
        const cmif_released_span *s = &v->spans[shown[k].span];
        fputs("    ", v->to);
        put_piece(v, s, 0, m);
        if (m != MARK_NAMED) {
            fputs(" -> ", v->to);
            put_piece(v, s, 1, m);
        }
        if (shown[k].times > 1) {
            fprintf(v->to, "  %zu times", shown[k].times);
        }
        fputc('\n', v->to);
    }
    if (more) {
        fprintf(v->to, "    and %zu more\n", more);
    }
}

static void put_view(const view *v)
{
    bool any = false;
    put_lines(v);
    fputc('\n', v->to);
    for (size_t class = CMIF_SPAN_OTHER + 1; class < CMIF_SPAN_CLASSES; class ++) {
        for (mark m = MARK_SURROGATE; m < MARKS; m++) {
            put_pieces(v, class, m);
        }
    }
    for (mark m = MARK_SURROGATE; m < MARKS; m++) {
        bool here = false;
        for (size_t i = 0; i < v->count && !here; i++) {
            here = mark_of(v, &v->spans[i]) == m;
        }
        if (here) {
            const char *colour = cmif_style_of(v->to, marks[m].style);
            fprintf(v->to, "%s%s%s%s%s: %s", any ? "; " : "\n", colour, *colour ? marks[m].colour : marks[m].open,
                    *colour ? cmif_style_of(v->to, CMIF_PLAIN) : marks[m].close, "", marks[m].means);
            any = true;
        }
    }
    fputs(any ? "\n" : "nothing was changed\n", v->to);
}

/* ---- what was done ---- */

static void put_account_line(FILE *to, const char *label, const char *text)
{
    fprintf(to, "%s%-10s%s %s\n", cmif_style_of(to, CMIF_DIM), label, cmif_style_of(to, CMIF_PLAIN), text);
}

static void put_account(FILE *to, const cmif_guard *g)
{
    static const struct {
        cmif_action action;
        const char *label;
    } lines[] = {{CMIF_ACTION_SURROGATE, "made up"}, {CMIF_ACTION_CHANNEL, "drawn"}, {CMIF_ACTION_PASS, "as written"}};
    char text[1024];
    for (size_t i = 0; i < 3 && g->kind != CMIF_GUARD_NONE; i++) {
        cmif_guard_counts(g, lines[i].action, text, sizeof text);
        if (*text) {
            put_account_line(to, lines[i].label, text);
        }
    }
    if (g->totals.constants) {
        snprintf(text, sizeof text, "%" PRIu64 " words beyond the budget left as their block's own word",
                 g->totals.constants);
        put_account_line(to, "beyond", text);
    }
    if (g->table) {
        snprintf(text, sizeof text, "epsilon %.6g%s", (double) g->totals.epsilon_micro / 1e6,
                 dry_run ? " if it were released" : ", entered in the ledger ('cmif budget show')");
        put_account_line(to, "spent", text);
    }
    cmif_guard_sentence(g, text, sizeof text);
    put_account_line(to, "guarantee", text);
}

/* Pieces one by one: a long text has millions. */
static cmif_code put_json(const cmif_guard *g, const cmif_left *left, const char *text, size_t size, cmif_err *err)
{
    bool    bad    = false;
    json_t *string = dry_run ? json_null() : json_stringn(text, size);
    json_t *rest   = json_pack("{s:b, s:o}", "entered", g->books.ledger != NULL, "sanitizer", cmif_guard_json(g));
    char   *tail   = rest ? json_dumps(rest, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

    if (!string || !tail) {
        bad = true;
        goto done;
    }
    fputs("{\"text\":", stdout);
    bad = json_dumpf(string, stdout, JSON_ENCODE_ANY) != 0;
    fputs(",\"spans\":[", stdout);
    const char *comma = "";
    for (size_t i = 0; i < left->count; i++) {
        const cmif_released_span *s = &left->spans[i];
        if (s->class != CMIF_SPAN_OTHER) {
            printf("%s{\"from\":%" PRIu32 ",\"size\":%" PRIu32 ",\"out_from\":%" PRIu32 ",\"out_size\":%" PRIu32
                   ",\"class\":\"%s\",\"action\":\"%s\"}",
                   comma, s->from, s->size, s->out_from, s->out_size, cmif_span_class_name((cmif_span_class) s->class),
                   cmif_action_name((cmif_action) s->action));
            comma = ",";
        }
    }
    printf("],%s\n", tail + 1);
done:
    json_decref(string);
    json_decref(rest);
    free(tail);
    return bad ? cmif_fail(err, CMIF_E_MEMORY, "no memory for the result") : wrote(err);
}

/* ---- cmif sanitize ---- */

static cmif_code take_text(int count, char **argv, cmif_secret *text, cmif_err *err)
{
    if (count > 1) {
        return cmif_fail(err, CMIF_E_RANGE, "expected one text, found %d arguments: put the text in quotes", count);
    }
    if (count == 1 && strcmp(argv[0], "-") != 0) {
        return cmif_take_argument(argv[0], text, err);
    }
    if (count == 0 && isatty(STDIN_FILENO)) {
        return cmif_fail(err, CMIF_E_RANGE, "no text: give it as an argument, or on stdin");
    }
    return cmif_read_stdin(text, err);
}

static cmif_code write_map(const cmif_guard *g, cmif_err *err)
{
    cmif_secret map = {0};
    cmif_code   rc  = cmif_vault_write(cmif_conversation_vault(g->conversation), &map, err);
    if (rc == CMIF_OK) {
        rc = cmif_write_new(map_option, map.data, map.size, 0600, err);
    }
    if (rc == CMIF_OK && !cmif_json && !cmif_quiet) {
        fprintf(stderr, "cmif: warning: '%s' holds the originals: whoever reads it reads them\n", map_option);
    }
    cmif_secret_wipe(&map);
    return rc;
}

static cmif_code put_result(const cmif_guard *g, const cmif_left *left, const cmif_secret *original,
                            const cmif_released *released, cmif_err *err)
{
    size_t      size;
    const char *bytes = (const char *) cmif_released_bytes(released, &size);

    if (cmif_json) {
        return put_json(g, left, bytes, size, err);
    }
    if (explain || dry_run) {
        const cmif_released_span whole = {0,
                                          (uint32_t) original->size,
                                          0,
                                          (uint32_t) size,
                                          CMIF_SPAN_OTHER,
                                          g->kind == CMIF_GUARD_NONE ? CMIF_ACTION_PASS : CMIF_ACTION_CHANNEL};
        view v = {dry_run ? stdout : stderr, {(const char *) original->data, bytes}, left->spans, left->count};
        if (!v.spans) { /* not by policy: all as one piece */
            v.spans = &whole;
            v.count = size > 0;
        }
        put_view(&v);
    }
    if (!cmif_quiet || dry_run) {
        put_account(dry_run ? stdout : stderr, g);
    }
    if (dry_run) {
        fputs("cmif: nothing was entered in the ledger: do not send this\n", stderr);
        return wrote(err);
    }
    fwrite(bytes, 1, size, stdout);
    if (size && bytes[size - 1] != '\n' && isatty(STDOUT_FILENO)) {
        fputc('\n', stdout);
    }
    return wrote(err);
}

/* *usage: what is wrong was wrong before any text was looked at. */
static cmif_code sanitize(int count, char **argv, bool *usage, cmif_err *err)
{
    static const uint8_t no_model[32];
    cmif_guard           guard = {0};
    cmif_secret          text = {0}, original = {0};
    cmif_released       *released = NULL;
    cmif_left            left     = {0};
    cmif_code            rc       = take_text(count, argv, &text, err);

    if (rc == CMIF_OK && map_option && access(map_option, F_OK) == 0) {
        rc = cmif_fail(err, CMIF_E_IO, "'%s' is there: a map is never written over; nothing was released", map_option);
    }
    if (rc == CMIF_OK) {
        rc = cmif_guard_open(&guard_options, !dry_run, &guard, err);
    }
    if (rc == CMIF_OK && map_option && !guard.conversation) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--map is for policies that put surrogates: this one puts none");
    }
    *usage = rc == CMIF_E_RANGE;
    if (rc == CMIF_OK && (explain || dry_run) && !cmif_json) {
        rc = cmif_secret_append(&original, text.data, text.size, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_guard_release(&guard, &text, &released, &left, err);
    }
    if (rc == CMIF_OK && map_option) {
        rc = write_map(&guard, err);
    }
    if (rc == CMIF_OK && guard.books.ledger) { /* no answer, no model: it may be sent by hand */
        rc = cmif_guard_receipt(&guard, no_model, "", 0, err);
    }
    if (rc == CMIF_OK && cmif_secret_unlocked() && !cmif_json && !cmif_quiet) {
        fputs("cmif: warning: not all of the text could be locked in memory, so parts may have been swapped to disk: "
              "raise 'ulimit -l'\n",
              stderr);
    }
    if (rc == CMIF_OK) {
        rc = put_result(&guard, &left, &original, released, err);
    }
    cmif_released_free(released);
    cmif_secret_wipe(&original);
    cmif_secret_wipe(&text);
    cmif_guard_close(&guard);
    return rc;
}

/* ---- cmif sanitize --restore ---- */

static cmif_code read_map(cmif_vault *vault, cmif_err *err)
{
    cmif_secret map = {0};
    cmif_code   rc  = CMIF_OK;
    int         fd  = open(restore_option, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot open map '%s': %s", restore_option, strerror(errno));
    }
    for (ssize_t n = 1; rc == CMIF_OK && n > 0;) {
        rc = cmif_secret_reserve(&map, map.size + CHUNK, err);
        n  = rc == CMIF_OK ? read(fd, map.data + map.size, CHUNK) : 0;
        if (n < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read map '%s': %s", restore_option, strerror(errno));
        }
        map.size += n > 0 ? (size_t) n : 0;
        if (map.size > MAP_MAX) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "map '%s' is of more than %d bytes", restore_option, MAP_MAX);
        }
    }
    close(fd);
    if (rc == CMIF_OK) {
        rc = cmif_vault_read(vault, map.data, map.size, err);
        if (rc != CMIF_OK) {
            cmif_err_context(err, "map '%s'", restore_option);
        }
    }
    cmif_secret_wipe(&map);
    return rc;
}

/* As it comes: an answer may still be written while we read. */
static cmif_code restore_stdin(cmif_restore *restore, cmif_stream *stream, cmif_restore_counts *counts, cmif_err *err)
{
    cmif_secret in = {0}, out = {0};
    cmif_code   rc = cmif_secret_reserve(&in, CHUNK, err);
    for (ssize_t n = 1; rc == CMIF_OK && n > 0;) {
        n = cmif_interrupted ? -1 : read(STDIN_FILENO, in.data, CHUNK);
        if (cmif_interrupted) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped while reading");
        } else if (n < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read stdin: %s", strerror(errno));
        } else {
            rc = n ? cmif_restore_feed(restore, in.data, (size_t) n, &out, err)
                   : cmif_restore_end(restore, &out, counts, err);
        }
        if (rc == CMIF_OK) {
            rc = cmif_stream_put(stream, out.data, out.size, err);
        }
        cmif_wipe(out.data, out.size);
        out.size = 0;
        if (rc == CMIF_OK && stream->failed) {
            rc = wrote(err);
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_stream_end(stream, err);
    }
    cmif_secret_wipe(&in);
    cmif_secret_wipe(&out);
    return rc;
}

static cmif_code restore(int count, char **argv, bool *usage, cmif_err *err)
{
    cmif_vault         *vault   = NULL;
    cmif_restore       *restore = NULL;
    cmif_restore_counts counts  = {0};
    cmif_stream         stream  = {.to = cmif_json ? NULL : stdout};
    cmif_code           rc      = CMIF_OK;

    *usage = count > 1 || (count == 1 && strcmp(argv[0], "-") != 0);
    if (*usage) {
        return cmif_fail(err, CMIF_E_RANGE, "--restore reads the answer from stdin: leave out the argument");
    }
    rc = cmif_vault_new(NULL, &vault, err);
    if (rc == CMIF_OK) {
        rc = read_map(vault, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_restore_new(vault, json_text, &restore, err);
    }
    if (rc == CMIF_OK) {
        rc = restore_stdin(restore, &stream, &counts, err);
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(
            json_pack("{s:o, s:I, s:I}", "text",
                      json_stringn(stream.kept.data ? (const char *) stream.kept.data : "", stream.kept.size),
                      "restored", (json_int_t) counts.restored, "left", (json_int_t) counts.left),
            err);
    } else if (rc == CMIF_OK) {
        rc = wrote(err);
    }
    if (rc == CMIF_OK && !cmif_json && !cmif_quiet) {
        char text[128];
        snprintf(text, sizeof text, "%" PRIu64 "; %" PRIu64 " that look like one were left as they are",
                 counts.restored, counts.left);
        put_account_line(stderr, "restored", text);
    }
    cmif_stream_wipe(&stream);
    cmif_restore_free(restore);
    cmif_vault_free(vault);
    return rc;
}

static cmif_code check_options(cmif_err *err)
{
    if (json_text && !restore_option) {
        return cmif_fail(err, CMIF_E_RANGE, "--json-text is for --restore: it says that the answer is JSON");
    }
    if (restore_option && (map_option || explain || dry_run || guard_options.policy || guard_options.channel ||
                           guard_options.stop_words || guard_options.no_guarantee)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--restore needs nothing but the map: leave out the options that are for sanitizing");
    }
    if (dry_run && map_option) {
        return cmif_fail(err, CMIF_E_RANGE, "--dry-run releases nothing, so there is nothing to map: leave out --map");
    }
    return restore_option ? CMIF_OK : cmif_guard_check(&guard_options, err);
}

int cmif_sanitize(int argc, char **argv)
{
    cmif_err  err   = {0};
    int       rest  = 0;
    bool      usage = true;
    cmif_code rc    = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK) {
        rc = check_options(&err);
    }
    if (rc == CMIF_OK) {
        rc = restore_option ? restore(rest, argv, &usage, &err) : sanitize(rest, argv, &usage, &err);
    }
    return rc == CMIF_OK ? CMIF_EXIT_OK : usage ? cmif_report_usage(&err) : cmif_report(&err);
}
