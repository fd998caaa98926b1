#include "model/template_main.h"

#include "model/chatcut.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] = "usage: cmif-model template FILE.jinja [--bos TEXT] [--eos TEXT] [--time SECONDS]\n"
                           "\n"
                           "Cut a chat template into the literal pieces that `split` stores, and print them as JSON.\n"
                           "  --bos, --eos TEXT  the texts of the model's two tokens (default: none)\n"
                           "  --time SECONDS     what the template takes for now, since 1970 (default: now)\n"
                           "Exit code: 0 cut, 1 refused (the reason is in \"refused\") or failed, 2 wrong usage.\n";

typedef struct options {
    const char *path, *bos, *eos;
    time_t      now;
} options;

static bool options_read(int argc, char **argv, options *o)
{
    *o = (options){.bos = "", .eos = "", .now = time(NULL)};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--bos") == 0 && has_value) {
            o->bos = argv[++i];
        } else if (strcmp(argv[i], "--eos") == 0 && has_value) {
            o->eos = argv[++i];
        } else if (strcmp(argv[i], "--time") == 0 && has_value) {
            char *end;
            o->now = (time_t) strtoll(argv[++i], &end, 10);
            if (end == argv[i] || *end) {
                return false;
            }
        } else if (argv[i][0] != '-' && !o->path) {
            o->path = argv[i];
        } else {
            return false;
        }
    }
    return o->path != NULL;
}

static cmif_code read_file(const char *path, char **out, size_t *size, cmif_err *err)
{
    enum { ROOM = (1 << 20) + 1 }; /* one more byte than is cut: a larger file is refused, not truncated */
    cmif_code rc   = CMIF_OK;
    char     *text = malloc(ROOM);
    FILE     *file = fopen(path, "rb");

    if (!text) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for '%s'", path);
        goto done;
    }
    if (!file) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    *size = fread(text, 1, ROOM, file);
    if (ferror(file)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        goto done;
    }
    *out = text;
    text = NULL;
done:
    if (file) {
        fclose(file);
    }
    free(text);
    return rc;
}

static json_t *cut_json(const cmif_chat_cut *cut)
{
    json_t *object = json_object();
    if (cut->refused[0]) {
        json_object_set_new(object, "refused", json_string(cut->refused));
        return object;
    }
    for (size_t i = 0; i < CMIF_PIECE_COUNT; i++) {
        json_object_set_new(object, cmif_chat_piece_names[i], json_stringn(cut->pieces[i].data, cut->pieces[i].size));
    }
    if (cut->no_system[0]) {
        json_object_set_new(object, "no_system", json_string(cut->no_system));
    }
    json_object_set_new(object, "trim", json_integer(cut->trim));
    json_object_set_new(object, "dated", json_boolean(cut->dated));
    json_object_set_new(object, "drops_thinking", json_boolean(cut->drops_thinking));
    return object;
}

int cmif_template_main(int argc, char **argv)
{
    cmif_err      err = {0};
    options       o;
    char         *source = NULL;
    size_t        size   = 0;
    cmif_chat_cut cut    = {0};
    int           status = 1;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (!options_read(argc, argv, &o)) {
        fputs(help, stderr);
        return 2;
    }
    cmif_code rc = read_file(o.path, &source, &size, &err);
    if (rc == CMIF_OK) {
        rc = cmif_chat_cut_init((cmif_str){source, size}, (cmif_str){o.bos, strlen(o.bos)},
                                (cmif_str){o.eos, strlen(o.eos)}, o.now, &cut, &err);
    }
    if (rc != CMIF_OK) {
        fprintf(stderr, "cmif-model: %s\n", err.text);
    } else {
        json_t *object = cut_json(&cut);
        json_dumpf(object, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(object);
        status = cut.refused[0] ? 1 : 0;
    }
    cmif_chat_cut_wipe(&cut);
    free(source);
    return status;
}
