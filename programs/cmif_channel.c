/* cmif channel - certified tables: what the trusted side does with them. Building, showing and comparing are the work
 * of cmif-build, on public data; what it writes is certified here. */
#include "cmif_commands.h"
#include "cmif_figures.h"

#include "base/bytes.h"
#include "embed/bayes.h"

#include <stdlib.h>
#include <string.h>

#define SHA256_HEX 65

/* Certify the table at path and print what it is. */
static int check(const char *path)
{
    cmif_table      *table       = NULL;
    cmif_certificate certificate = {0};
    cmif_figures     figures;
    cmif_err         err = {0};
    cmif_code        rc  = cmif_table_open(path, &table, &certificate, &err);

    if (rc == CMIF_OK) {
        rc = cmif_figures_get(table, &figures, &err);
    }
    if (rc == CMIF_OK && cmif_json) {
        json_t *object = cmif_figures_json(table, &certificate, &figures);
        if (object) {
            json_object_set_new(object, "file", json_string(path));
        }
        rc = cmif_print_json(object, &err);
    } else if (rc == CMIF_OK) {
        printf("%s\n", path);
        cmif_figures_print(table, &certificate, &figures, stdout);
        rc = fflush(stdout) == 0
                 ? CMIF_OK
                 : cmif_fail(&err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
    }
    cmif_table_free(table);
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}

static const cmif_option  check_options[] = {CMIF_COMMON_OPTIONS};
static const cmif_command check_command   = {
      .name         = "channel check",
      .args         = "FILE ...",
      .summary      = "certify tables: the loss that each really has, beside the one it claims",
      .options      = check_options,
      .option_count = sizeof check_options / sizeof *check_options,
      .notes =
          "A table that loses more than it claims is refused with both figures, here and wherever it would be used.\n",
};

static int check_main(int argc, char **argv)
{
    cmif_err  err  = {0};
    int       rest = 0, worst = CMIF_EXIT_OK;
    cmif_code rc = cmif_options_parse(&check_command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && rest == 0) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "which table? Name one, as in: cmif channel check words.cmifch");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    for (int i = 0; i < rest; i++) {
        if (i && !cmif_json) {
            putchar('\n');
        }
        int code = check(argv[i]);
        worst    = code ? code : worst;
    }
    return worst;
}

static int build_main(int argc, char **argv)
{
    char    *args[64] = {NULL, (char *) (uintptr_t) "channel", (char *) (uintptr_t) "build"};
    char     path[PATH_MAX + 1];
    cmif_err err = {0};

    if (argc > 60) {
        (void) cmif_fail(&err, CMIF_E_RANGE, "too many arguments");
        return cmif_report_usage(&err);
    }
    for (int i = 0; i < argc; i++) {
        args[3 + i] = argv[i];
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            args[3 + i + 1] = NULL;
            (void) cmif_child_become("cmif-build", args, &err);
            return cmif_report(&err);
        }
    }
    if (cmif_child_run("cmif-build", args, path, sizeof path, &err) != CMIF_OK) {
        return err.text[0] ? cmif_report(&err) : err.code == CMIF_E_RANGE ? CMIF_EXIT_USAGE : CMIF_EXIT_FAILED;
    }
    path[strcspn(path, "\n")] = '\0';
    return check(path);
}

/* ---- rows ---- */

static const char       *rows_model, *rows_output;
static const cmif_option rows_options[] = {
    {'m', "model", "MODEL", CMIF_OPTION_TEXT, &rows_model, 0, 0, "whose embedding rows: a model, or its client half"},
    {'o', "output", "FILE", CMIF_OPTION_TEXT, &rows_output, 0, 0, "a GGUF file with one row for each released word"},
    CMIF_COMMON_OPTIONS,
};
static const cmif_command rows_command = {
    .name         = "channel rows",
    .args         = "FILE -m MODEL -o ROWS",
    .summary      = "the posterior mean row of each word that a table can release",
    .options      = rows_options,
    .option_count = sizeof rows_options / sizeof *rows_options,
    .notes        = "'cmif classify --channel FILE' computes these by itself; the file is for other programs.\n"
                    "cmif.rows.words are ids in the table, cmif.rows the rows (f32).\n",
};

typedef struct rows_source {
    cmif_bayes     *bayes;
    const uint32_t *words;
    size_t          width;
    float          *row;
} rows_source;

/* Bytes [offset, offset + size) of the rows, one after the other: pieces need not end with a row. */
static cmif_code put_rows(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    rows_source *s   = context;
    size_t       row = s->width * sizeof *s->row;
    while (size) {
        size_t    from = (size_t) (offset % row), part = row - from < size ? row - from : size;
        cmif_code rc = cmif_bayes_row(s->bayes, s->words[offset / row], s->row, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        memcpy(buffer, (const uint8_t *) s->row + from, part);
        offset += part;
        buffer += part;
        size -= part;
    }
    return CMIF_OK;
}

/* Words that the table can release in place of another: ascending, each once. */
static size_t list_released(const cmif_table *t, uint32_t *words, uint8_t *seen)
{
    size_t count = 0;
    for (uint32_t i = 0; i < t->output_total; i++) {
        seen[t->outputs[i]] = !cmif_table_passes(t, t->outputs[i]) || t->outputs[i] == 0;
    }
    for (uint32_t w = 0; w < t->word_count; w++) {
        if (seen[w]) {
            words[count++] = w;
        }
    }
    return count;
}

static cmif_code write_rows(const cmif_table *table, cmif_client *client, size_t *count, cmif_err *err)
{
    size_t         width = cmif_embed_width(client->embed);
    uint32_t      *words = calloc(table->word_count, sizeof *words);
    uint8_t       *seen  = calloc(table->word_count, 1);
    rows_source    s     = {.words = words, .width = width, .row = calloc(width, sizeof(float))};
    cmif_gguf_out *out   = NULL;
    char           hash[SHA256_HEX], model[SHA256_HEX];
    cmif_code      rc = CMIF_OK;

    if (!words || !seen || !s.row) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the list of released words");
        goto done;
    }
    *count = list_released(table, words, seen);
    cmif_hex(table->hash, 32, hash);
    cmif_hex(client->model_id, 32, model);
    const uint64_t shape[4] = {width, *count, 1, 1};
    rc                      = cmif_bayes_new(table, NULL, client->tokenizer, client->embed, &s.bayes, err);
    rc                      = rc == CMIF_OK ? cmif_gguf_out_new(&out, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-rows", 9}, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_put_str(out, "cmif.rows.channel_hash", (cmif_str){hash, 64}, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_put_str(out, "cmif.model_id", (cmif_str){model, 64}, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_put_array(out, "cmif.rows.words", CMIF_GGUF_U32, words, *count, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_put_tensor(out, "cmif.rows", CMIF_GGML_F32, 2, shape, put_rows, &s, err) : rc;
    rc = rc == CMIF_OK ? cmif_gguf_write(out, rows_output, NULL, NULL, err) : rc;
done:
    cmif_gguf_out_free(out);
    cmif_bayes_free(s.bayes);
    free(s.row);
    free(seen);
    free(words);
    return rc;
}

static int rows_main(int argc, char **argv)
{
    cmif_table *table  = NULL;
    cmif_client client = {0};
    cmif_halves halves;
    cmif_err    err   = {0};
    size_t      count = 0;
    int         rest  = 0;

    cmif_code rc = cmif_options_parse(&rows_command, argc, argv, &rest, &err);
    if (rc == CMIF_OK && (rest != 1 || !rows_model || !rows_output)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "channel rows takes a table, -m MODEL and -o FILE");
    }
    if (rc != CMIF_OK) {
        return cmif_report_usage(&err);
    }
    rc = cmif_table_open(argv[0], &table, NULL, &err);
    if (rc == CMIF_OK) {
        rc = cmif_cache_halves(rows_model, true, &halves, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_load(halves.client, &client, &err);
    }
    if (rc == CMIF_OK) {
        rc = write_rows(table, &client, &count, &err);
    }
    if (rc == CMIF_OK && cmif_json) {
        rc = cmif_print_json(json_pack("{s:s, s:I, s:I}", "file", rows_output, "rows", (json_int_t) count, "width",
                                       (json_int_t) cmif_embed_width(client.embed)),
                             &err);
    } else if (rc == CMIF_OK) {
        printf("%s: %zu rows of %zu\n", rows_output, count, cmif_embed_width(client.embed));
    }
    cmif_client_close(&client);
    cmif_table_free(table);
    return rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
}

/* ---- the command ---- */

/* Public work only: cmif-build takes over. */
static int become_build(const char *command, int argc, char **argv)
{
    char    *args[64] = {NULL, (char *) (uintptr_t) command};
    cmif_err err      = {0};
    if (argc > 60) {
        (void) cmif_fail(&err, CMIF_E_RANGE, "too many arguments");
        return cmif_report_usage(&err);
    }
    for (int i = 0; i < argc; i++) {
        args[2 + i] = argv[i];
    }
    (void) cmif_child_become("cmif-build", args, &err);
    return cmif_report(&err);
}

int cmif_channel_command(int argc, char **argv)
{
    static const char help[] =
        "usage: cmif channel build -o FILE [options]   make a table (--help lists them)\n"
        "       cmif channel check FILE ...            certify: the loss it really has\n"
        "       cmif channel show FILE WORD ...        a word's block, and what may leave in its place\n"
        "       cmif channel compare FILE ... [--svg]  tables side by side, also as a picture\n"
        "       cmif channel rows FILE -m MODEL -o F   the rows that tell a model what a word means\n";
    cmif_err err = {0};

    if (argc > 0 && !strcmp(argv[0], "build")) {
        return build_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "check")) {
        return check_main(argc - 1, argv + 1);
    }
    if (argc > 0 && !strcmp(argv[0], "rows")) {
        return rows_main(argc - 1, argv + 1);
    }
    if (argc > 0 && (!strcmp(argv[0], "show") || !strcmp(argv[0], "compare"))) {
        return become_build("channel", argc, argv);
    }
    if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        fputs(help, stdout);
        return CMIF_EXIT_OK;
    }
    (void) cmif_fail(&err, CMIF_E_RANGE,
                     "channel takes build, check, show, compare or rows: 'cmif channel --help' tells more");
    return cmif_report_usage(&err);
}

int cmif_lexicon_command(int argc, char **argv)
{
    cmif_err err = {0};
    bool     two = argc > 1 && (!strcmp(argv[0], "lm") || !strcmp(argv[0], "lists"));
    if (argc > 0 && !strcmp(argv[two], "build")) {
        return become_build("lexicon", argc, argv);
    }
    if (argc > 0 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"))) {
        fputs("usage: cmif lexicon build [options]                  make the list of public words\n"
              "       cmif lexicon lists build [options]            make the lists of names that the sanitizer knows\n"
              "       cmif lexicon lm build [options] [TEXTFILE ...] count pairs of words in public text\n",
              stdout);
        return CMIF_EXIT_OK;
    }
    (void) cmif_fail(&err, CMIF_E_RANGE,
                     "lexicon takes build, lists build or lm build: 'cmif lexicon --help' tells more");
    return cmif_report_usage(&err);
}
