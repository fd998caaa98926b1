/* cmif-model - what `cmif split`, `cmif inspect` and `cmif template` run: work on public model files, with the engine's
 * code, outside the trusted process. */
#include "base/bytes.h"
#include "cmif_options.h"
#include "cmif_tool.h"
#include "model/chatcut.h"
#include "model/split.h"
#include "model/template_main.h"
#include "seal/seal.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is shown ---- */

/* A string of the file, or other; anything that a terminal could obey becomes '?'. Room for four. */
static const char *shown_str(const cmif_gguf *file, const char *key, const char *other)
{
    static char texts[4][100];
    static int  next;
    char       *text = texts[next++ & 3];
    cmif_str    s;
    if (cmif_gguf_get_str(file, key, &s, NULL) != CMIF_OK) {
        return other;
    }
    snprintf(text, sizeof texts[0], "%.*s", s.size < 99 ? (int) s.size : 99, s.data);
    for (char *c = text; *c; c++) {
        *c = *c >= ' ' && *c <= '~' ? *c : '?';
    }
    return text;
}

/* ---- split ---- */

static const char *scale_sentence(const cmif_split_plan *plan)
{
    return plan->row_scale != 1 ? "the client multiplies rows by sqrt(width), as this architecture wants it" : NULL;
}

static const char *table_sentence(const cmif_split_plan *plan, bool asked)
{
    if (plan->arch->output == CMIF_OUTPUT_TABLE) {
        return "this architecture always uses the table as its output matrix, so the server's file holds it "
               "(token_embd.weight)";
    }
    if (plan->tied) {
        return "the model is tied: its output matrix is the table, so the server's file holds it (output.weight)";
    }
    if (asked) {
        return "the table stays on the server (--keep-embeddings): no round trip for each token";
    }
    return plan->arch->output == CMIF_OUTPUT_NONE
               ? "the server's file holds no table"
               : "the server's file holds no table: one round trip for each token written";
}

static json_t *plan_json(const cmif_split_plan *plan)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:b, s:b, s:s, s:s, s:I, s:I}", "architecture", plan->arch->name,
                     "width", plan->width, "vocab", plan->vocab, "layers", plan->layers, "context", plan->context,
                     "row_scale", (double) plan->row_scale, "tied", plan->tied, "server_has_table", plan->server_table,
                     "table_stored", cmif_ggml_type_name(plan->stored_type), "table",
                     cmif_row_type_name(plan->table_type), "client_bytes", (json_int_t) plan->client_size,
                     "server_bytes", (json_int_t) plan->server_size);
}

static int print_split(const char *folder, const cmif_split_options *options, const cmif_split_plan *plan,
                       const char *key_file, bool key_made, cmif_err *err)
{
    const bool  refused = plan->chat_refused[0];
    const char *name    = options->seal ? CMIF_SPLIT_SEALED : CMIF_SPLIT_CLIENT;
    char        key_id[65];
    if (options->seal) {
        uint8_t id[CMIF_SEAL_ID_SIZE];
        cmif_seal_key_id(options->seal, id);
        cmif_hex(id, sizeof id, key_id);
    }
    if (tool_json) {
        json_t *object = plan_json(plan);
        json_object_set_new(object, "folder", json_string(folder));
        json_object_set_new(object, "model_id", json_string(plan->model_id));
        json_object_set_new(object, "chat", json_boolean(!refused));
        json_object_set_new(object, "chat_refused", refused ? json_string(plan->chat_refused) : json_null());
        json_object_set_new(object, "key_id", options->seal ? json_string(key_id) : json_null());
        json_object_set_new(object, "key_made", options->seal ? json_boolean(key_made) : json_null());
        return tool_print_json(object, err);
    }
    const char *scale = scale_sentence(plan);
    printf("%s/%s  %s  embedding table (%s), tokenizer%s\n", folder, name, tool_size(plan->client_size),
           cmif_row_type_name(plan->table_type), refused ? "" : ", chat pieces");
    printf("%s/%s  %s  %u layers of %s\n", folder, CMIF_SPLIT_SERVER, tool_size(plan->server_size), plan->layers,
           plan->arch->name);
    printf("%s\n", table_sentence(plan, options->keep_embeddings));
    if (scale) {
        printf("%s\n", scale);
    }
    if (plan->arch->output == CMIF_OUTPUT_NONE) {
        printf("an encoder: for `cmif classify` and `cmif embed`\n");
    } else if (refused) {
        printf("no chat (%s); text completion works\n", plan->chat_refused);
    }
    if (options->seal) {
        printf(
            "sealed with the key in %s%s, id %s; without it nobody reads the client's file, nor do you: keep a copy\n",
            key_file, key_made ? ", which was made now" : "", key_id);
    }
    return tool_end(err);
}

/* This process holds a key from here on: it leaves no core, is looked into by nobody, and keeps the key out of swap. */
static void keep_secret(const uint8_t *key, size_t size)
{
    const struct rlimit none = {0, 0};
    (void) setrlimit(RLIMIT_CORE, &none);
    (void) prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    if (mlock(key, size) != 0 && !tool_json) {
        fputs("cmif: note: the system does not let us lock memory (ulimit -l), so the key may be swapped to disk\n",
              stderr);
    }
}

/* The key of the file, which is made when there is none. */
static cmif_code take_key(const char *path, uint8_t key[static CMIF_SEAL_KEY_SIZE], bool *made, cmif_err *err)
{
    *made = access(path, F_OK) != 0 && errno == ENOENT;
    return *made ? cmif_seal_key_make(path, key, err) : cmif_seal_key_read(path, key, err);
}

static int split_main(int argc, char **argv)
{
    static uint8_t     key[CMIF_SEAL_KEY_SIZE];
    const char        *folder = NULL, *table = NULL, *key_file = NULL;
    bool               key_made = false;
    cmif_split_options options  = {0};
    const cmif_option  list[]   = {
           {'o', "output", "DIR", CMIF_OPTION_TEXT, &folder, 0, 0, "the folder for both files; made if need be"},
           {0, "table", "TYPE", CMIF_OPTION_TEXT, &table, 0, 0, "f32, f16 or q8_0 rows for the client (else as stored)"},
           {0, "keep-embeddings", NULL, CMIF_OPTION_FLAG, &options.keep_embeddings, 0, 0,
            "leave the table on the server, too"},
           {0, "seal", "KEYFILE", CMIF_OPTION_TEXT, &key_file, 0, 0, "seal the client's file; the key is made if need be"},
           {0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print the result as JSON"},
    };
    const cmif_command command = {
        "split",
        "MODEL -o DIR [options]",
        "cut a model into the half you keep and the half a server runs",
        list,
        sizeof list / sizeof *list,
        "DIR/client.gguf holds the embedding table, the tokenizer and the chat format; "
        "DIR/server.gguf everything else.\n"
        "Files of these names are replaced only when both new ones are complete.\n"
        "A table of another type than f32, f16, bf16 and q8_0 is written as f32, exactly.\n"
        "--seal writes DIR/client.gguf.sealed in place of client.gguf, which is opened with --unseal KEYFILE or by\n"
        "a key server ('cmif keyserver'). The model itself stays where it is, in the clear.\n"};
    cmif_err        err;
    cmif_split_plan plan;
    int             rest = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest != 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "split takes one model file, as in: cmif split model.gguf -o folder");
    }
    if (rc == CMIF_OK && !folder) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "split needs -o DIR, the folder for its two files");
    }
    if (rc == CMIF_OK && table &&
        (!cmif_row_type_find(table, &options.table) || options.table == CMIF_ROWS_ID ||
         options.table == CMIF_ROWS_BF16)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "--table takes f32, f16 or q8_0");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    if (key_file) {
        keep_secret(key, sizeof key);
        rc           = take_key(key_file, key, &key_made, &err);
        options.seal = key;
    }
    if (rc == CMIF_OK) {
        tool_bar bar = tool_bar_new();
        rc           = cmif_split(argv[0], folder, &options, tool_bar_draw, &bar, &plan, &err);
        tool_bar_end(&bar);
    }
    int code = rc == CMIF_OK ? print_split(folder, &options, &plan, key_file, key_made, &err) : tool_report(&err, 1);
    explicit_bzero(key, sizeof key);
    return code;
}

/* ---- inspect ---- */

/* How a template of this model would be cut: the client's keys, put into a file that is never written. */
static cmif_gguf_out *cut_chat(const cmif_gguf *model)
{
    cmif_gguf_out *out = NULL;
    if (cmif_gguf_out_new(&out, NULL) == CMIF_OK && cmif_chat_pieces_put(model, out, NULL) != CMIF_OK) {
        cmif_gguf_out_free(out);
        out = NULL;
    }
    return out;
}

static json_t *str_or_null(const cmif_gguf *file, const char *key)
{
    const char *text = shown_str(file, key, NULL);
    return text ? json_string(text) : json_null();
}

static int inspect_json(const char *path, const cmif_gguf *file, uint64_t size, const cmif_split_plan *plan,
                        const char *refused, const char *chat_refused, cmif_err *err)
{
    json_t *object =
        json_pack("{s:s, s:I, s:I, s:I}", "file", path, "bytes", (json_int_t) size, "keys",
                  (json_int_t) cmif_gguf_value_count(file), "tensors", (json_int_t) cmif_gguf_tensor_count(file));
    json_object_set_new(object, "name", str_or_null(file, "general.name"));
    json_object_set_new(object, "architecture", str_or_null(file, "general.architecture"));
    json_object_set_new(object, "tokenizer", str_or_null(file, "tokenizer.ggml.model"));
    json_object_set_new(object, "pre_tokenizer", str_or_null(file, "tokenizer.ggml.pre"));
    json_object_set_new(object, "role", str_or_null(file, "cmif.role"));
    json_object_set_new(object, "model_id", str_or_null(file, "cmif.model_id"));
    json_object_set_new(object, "chat_refused", chat_refused ? json_string(chat_refused) : json_null());
    json_object_set_new(object, "split", plan ? plan_json(plan) : json_null());
    json_object_set_new(object, "split_refused", refused ? json_string(refused) : json_null());
    return tool_print_json(object, err);
}

static void inspect_half(const cmif_gguf *file)
{
    bool has = false, tied = false;
    bool server = cmif_gguf_get_bool(file, "cmif.has_table", &has, NULL) == CMIF_OK;
    printf("half          the %s's half of a split\n", shown_str(file, "cmif.role", "?"));
    printf("of model      %s\n", shown_str(file, "cmif.model_id", "?"));
    (void) !cmif_gguf_get_bool(file, "cmif.tied", &tied, NULL);
    const cmif_gguf_tensor *table = server && tied ? cmif_gguf_find_tensor(file, "output.weight") : NULL;
    if (!table) {
        table = cmif_gguf_find_tensor(file, "token_embd.weight");
    }
    if (server && !has) {
        printf("table         none (a hole stands in for it)\n");
    } else if (table) {
        printf("table         %llu rows of %llu, %s, %s%s\n", (unsigned long long) table->shape[1],
               (unsigned long long) table->shape[0], cmif_ggml_type_name(table->type), tool_size(table->size),
               server && tied ? ", as the output matrix" : "");
    }
}

static void inspect_model(const cmif_split_plan *plan)
{
    const char *scale = scale_sentence(plan);
    printf("model         %s, %u layers x %u, context %u\n", plan->arch->name, plan->layers, plan->width,
           plan->context);
    printf("table         %u rows, %s%s\n", plan->vocab, cmif_ggml_type_name(plan->stored_type),
           plan->tied ? ", which is the output matrix, too (tied)" : "");
    printf("split         client %s (%s rows), server %s\n", tool_size(plan->client_size),
           cmif_row_type_name(plan->table_type), tool_size(plan->server_size));
    printf("              %s\n", table_sentence(plan, false));
    if (scale) {
        printf("              %s\n", scale);
    }
}

/* What a sealed file says to anybody. */
static int inspect_sealed(const char *path, cmif_err *err)
{
    cmif_seal *file = NULL;
    char       key_id[65], model_id[65];
    if (cmif_seal_open(path, &file, err) != CMIF_OK) {
        cmif_err_context(err, "sealed file '%s'", path);
        return tool_report(err, 1);
    }
    const cmif_seal_header header = *cmif_seal_about(file);
    cmif_seal_free(file);
    cmif_hex(header.key_id, sizeof header.key_id, key_id);
    cmif_hex(header.model_id, sizeof header.model_id, model_id);
    if (tool_json) {
        return tool_print_json(json_pack("{s:s, s:s, s:I, s:s, s:s}", "file", path, "role", "client (sealed)", "bytes",
                                         (json_int_t) header.plain_size, "model_id", model_id, "key_id", key_id),
                               err);
    }
    printf("file          sealed (AES-256-GCM), %s inside\n", tool_size(header.plain_size));
    printf("half          the client's half of a split, as its header says; only the key can tell\n");
    printf("of model      %s\n", model_id);
    printf("key id        %s\n", key_id);
    return tool_end(err);
}

static int inspect_main(int argc, char **argv)
{
    const cmif_option  list[]  = {{0, "json", NULL, CMIF_OPTION_FLAG, &tool_json, 0, 0, "print it as JSON"}};
    const cmif_command command = {
        "inspect", "FILE [--json]", "what is in a GGUF file, and how it would be split", list, 1, NULL};
    const cmif_split_options options = {0};
    cmif_err                 err, why;
    cmif_gguf               *file = NULL;
    cmif_gguf_out           *cut  = NULL;
    cmif_split_plan          plan;
    struct stat              info;
    int                      rest = 0;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc == CMIF_OK && rest != 1) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "inspect takes one file, as in: cmif inspect model.gguf");
    }
    if (rc != CMIF_OK) {
        return tool_report(&err, 2);
    }
    if (cmif_seal_is(argv[0])) {
        return inspect_sealed(argv[0], &err);
    }
    if (cmif_gguf_open(argv[0], &file, &err) != CMIF_OK) {
        return tool_report(&err, 1);
    }
    uint64_t    size    = stat(argv[0], &info) == 0 ? (uint64_t) info.st_size : 0;
    bool        half    = cmif_gguf_find(file, "cmif.role") != NULL;
    bool        splits  = cmif_split_plan_init(file, &options, &plan, &why) == CMIF_OK;
    const char *refused = NULL;
    char        reason[CMIF_CHAT_REASON];
    cut = half ? NULL : cut_chat(file);
    if (half || cut) { /* a half says it itself */
        const cmif_gguf_value *value =
            half ? cmif_gguf_find(file, "cmif.chat.refused") : cmif_gguf_out_find(cut, "cmif.chat.refused");
        snprintf(reason, sizeof reason, "%.*s", value ? (int) value->size : 0, value ? (const char *) value->data : "");
        refused = value ? reason : NULL;
    }
    int code = 0;
    if (tool_json) {
        code = inspect_json(argv[0], file, size, splits ? &plan : NULL, splits ? NULL : why.text, refused, &err);
    } else {
        printf("file          %s, %zu keys, %zu tensors\n", tool_size(size), cmif_gguf_value_count(file),
               cmif_gguf_tensor_count(file));
        printf("name          %s\n", shown_str(file, "general.name", "(none)"));
        printf("tokenizer     %s, %s\n", shown_str(file, "tokenizer.ggml.model", "none"),
               shown_str(file, "tokenizer.ggml.pre", "no pre-tokenizer"));
        if (half) {
            inspect_half(file);
        } else if (splits) {
            inspect_model(&plan);
        } else {
            printf("split         no: %s\n", why.text);
        }
        if (splits && plan.arch->output == CMIF_OUTPUT_NONE) {
            printf("answers       classes or vectors (an encoder)\n");
        } else if (splits || (half && !cmif_gguf_find(file, "cmif.has_table"))) {
            printf("chat          %s%s\n", refused ? "no: " : "the template is cut into pieces",
                   refused ? refused : "");
        }
        code = tool_end(&err);
    }
    cmif_gguf_out_free(cut);
    cmif_gguf_free(file);
    return code;
}

int main(int argc, char **argv)
{
    tool_signals_install();
    static const struct {
        const char *name;
        int (*main)(int argc, char **argv);
    } commands[] = {{"split", split_main}, {"inspect", inspect_main}};
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].main(argc - 2, argv + 2);
        }
    }
    if (argc > 1 && strcmp(argv[1], "template") == 0) {
        return cmif_template_main(argc - 1, argv + 1);
    }
    fputs("usage: cmif split MODEL -o DIR, cmif inspect FILE, or cmif template FILE.jinja; each has --help\n", stderr);
    return 2;
}
