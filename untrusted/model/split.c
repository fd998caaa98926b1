#include "model/split.h"

#include "base/bytes.h"
#include "model/chatcut.h"
#include "seal/seal.h"

#include <errno.h>
#include <ggml.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char table_name[] = "token_embd.weight", output_name[] = "output.weight";

/* ---- the plan ---- */

static cmif_code arch_uint(const cmif_gguf *model, const cmif_arch *arch, const char *key, uint32_t *out, cmif_err *err)
{
    char whole[128];
    snprintf(whole, sizeof whole, "%s.%s", arch->name, key);
    return cmif_gguf_get_uint(model, whole, out, err);
}

/* The smallest type of which a row of this width is whole blocks; its zero bytes are zero weights. */
static uint32_t smallest_type(uint64_t width)
{
    enum { F16 = CMIF_GGML_F16, Q4_0 = 2, Q1_0 = 41, Q2_0 = 42 };
    return width % 128 == 0 ? Q1_0 : width % 64 == 0 ? Q2_0 : width % 32 == 0 ? Q4_0 : F16;
}

static uint32_t ggml_type_of(cmif_row_type type)
{
    static const uint32_t types[] = {UINT32_MAX, CMIF_GGML_F32, CMIF_GGML_F16, CMIF_GGML_BF16, CMIF_GGML_Q8_0};
    return types[type];
}

static cmif_row_type row_type_of(uint32_t ggml_type)
{
    cmif_row_type found = CMIF_ROWS_ID;
    for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_Q8_0; type++) {
        found = ggml_type_of(type) == ggml_type ? type : found;
    }
    return found;
}

/* Which type the client's table gets: the one asked for, the stored one where the client reads it, else exact floats.
 */
static cmif_code choose_table_type(const cmif_gguf_tensor *table, const cmif_split_options *options,
                                   cmif_split_plan *plan, cmif_err *err)
{
    cmif_row_type stored = row_type_of(table->type);
    plan->table_type     = options->table != CMIF_ROWS_ID ? options->table
                           : stored != CMIF_ROWS_ID       ? stored
                                                          : CMIF_ROWS_F32;
    if (stored == CMIF_ROWS_ID && !ggml_get_type_traits((enum ggml_type) table->type)->to_float) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "its embedding table is of type %s, which cannot be read as numbers",
                         cmif_ggml_type_name(table->type));
    }
    if (cmif_row_size(plan->table_type, table->shape[0]) == 0) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "rows of %llu numbers cannot be stored as %s: choose another --table type",
                         (unsigned long long) table->shape[0], cmif_row_type_name(plan->table_type));
    }
    return CMIF_OK;
}

static cmif_code check_whole(const cmif_gguf *model, cmif_err *err)
{
    uint32_t parts;
    if (cmif_gguf_find(model, "cmif.role")) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "this is one half of a split already: give the model it was made from");
    }
    if (cmif_gguf_get_uint(model, "split.count", &parts, NULL) == CMIF_OK && parts > 1) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the model is in %u files: make it one with `llama-gguf-split --merge` first", parts);
    }
    cmif_str type;
    if (cmif_gguf_get_str(model, "general.type", &type, NULL) == CMIF_OK && !cmif_str_is(type, "model")) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "this is no model, but a file of type '%.*s' that belongs to one",
                         type.size < 40 ? (int) type.size : 40, type.data);
    }
    if (cmif_gguf_tensor_count(model) == 0) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "the file holds a vocabulary only, no weights: give the whole model");
    }
    return CMIF_OK;
}

cmif_code cmif_split_plan_init(const cmif_gguf *model, const cmif_split_options *options, cmif_split_plan *out,
                               cmif_err *err)
{
    cmif_split_plan plan = {0};
    cmif_code       rc   = check_whole(model, err);
    if (rc == CMIF_OK) {
        rc = cmif_arch_find(model, &plan.arch, err);
    }
    if (rc == CMIF_OK) {
        rc = arch_uint(model, plan.arch, "embedding_length", &plan.width, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    (void) !arch_uint(model, plan.arch, "block_count", &plan.layers, NULL);
    (void) !arch_uint(model, plan.arch, "context_length", &plan.context, NULL);

    const cmif_gguf_tensor *table = cmif_gguf_find_tensor(model, table_name);
    if (!table || table->dims != 2 || table->shape[0] != plan.width || table->shape[1] > INT32_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "%s, so the model is damaged or incomplete",
                         table ? "the shape of 'token_embd.weight' does not fit the header"
                               : "no tensor 'token_embd.weight'");
    }
    plan.vocab       = (uint32_t) table->shape[1];
    plan.stored_type = table->type;
    plan.stub_type   = smallest_type(table->shape[0]);
    plan.row_scale   = plan.arch->scale == CMIF_SCALE_ROOT_WIDTH ? sqrtf((float) plan.width) : 1;

    bool has_output = cmif_gguf_find_tensor(model, output_name);
    if (plan.arch->output == CMIF_OUTPUT_OWN && !has_output) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "no tensor 'output.weight', which architecture '%s' needs: the model is incomplete",
                         plan.arch->name);
    }
    plan.tied = plan.arch->output == CMIF_OUTPUT_TABLE || (plan.arch->output == CMIF_OUTPUT_OPTIONAL && !has_output);
    plan.server_table = plan.tied || options->keep_embeddings;
    rc                = choose_table_type(table, options, &plan, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    plan.client_size = (uint64_t) cmif_row_size(plan.table_type, plan.width) * plan.vocab;
    for (size_t i = 0; i < cmif_gguf_tensor_count(model); i++) {
        const cmif_gguf_tensor *tensor = cmif_gguf_tensor_at(model, i);
        plan.server_size += tensor != table || plan.server_table ? tensor->size : 0;
    }
    *out = plan;
    return CMIF_OK;
}

/* ---- progress over the three passes: read for the hash, write one file, write the other ---- */

typedef struct work {
    cmif_split_progress progress;
    void               *context;
    const char         *what;
    uint64_t            before, total;
} work;

static bool report(void *context, uint64_t done, uint64_t total)
{
    work *w = context;
    (void) total;
    return !w->progress || w->progress(w->context, w->what, w->before + done, w->total);
}

/* ---- the id: SHA-256 of the file ---- */

static cmif_code hash_file(const char *path, work *w, char hex[static 65], uint64_t *size, cmif_err *err)
{
    enum { PIECE = 1 << 20 };
    cmif_code     rc     = CMIF_OK;
    uint8_t      *buffer = malloc(PIECE);
    EVP_MD_CTX   *hash   = EVP_MD_CTX_new();
    FILE         *file   = fopen(path, "rbe");
    uint8_t       digest[32];
    size_t        n;
    uint64_t      done = 0;
    unsigned char ok   = buffer && hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    if (!file) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!ok) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to hash '%s'", path);
        goto done;
    }
    while ((n = fread(buffer, 1, PIECE, file)) > 0) {
        EVP_DigestUpdate(hash, buffer, n);
        done += n;
        if (!report(w, done, 0)) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped; nothing was written");
            goto done;
        }
    }
    if (ferror(file)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        goto done;
    }
    EVP_DigestFinal_ex(hash, digest, NULL);
    cmif_hex(digest, sizeof digest, hex);
    *size = done;
done:
    if (file) {
        fclose(file);
    }
    EVP_MD_CTX_free(hash);
    free(buffer);
    return rc;
}

/* ---- tensors ---- */

/* A tensor's bytes as they are. context: the tensor. */
static cmif_code copy_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    memcpy(buffer, ((const cmif_gguf_tensor *) context)->data + offset, size);
    return CMIF_OK;
}

typedef struct conversion {
    const cmif_gguf_tensor *table;
    size_t                  width, from_size, to_size; /* numbers and bytes of a row */
    cmif_row_type           to;
    ggml_to_float_t         to_float; /* NULL: floats already */
    float                  *floats;   /* one row */
    uint8_t                *row;      /* one row, for the two ends of a piece */
} conversion;

static void convert_row(const conversion *c, uint64_t row, uint8_t *out)
{
    const uint8_t *from = c->table->data + row * c->from_size;
    if (c->to_float) {
        c->to_float(from, c->floats, (int64_t) c->width);
    } else {
        memcpy(c->floats, from, c->width * sizeof(float));
    }
    cmif_row_encode(c->to, c->floats, out, c->width);
}

/* Bytes of the table in another type; pieces begin and end anywhere in a row. */
static cmif_code convert_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    const conversion *c = context;
    (void) err;
    while (size > 0) {
        size_t skip = (size_t) (offset % c->to_size);
        size_t take = c->to_size - skip < size ? c->to_size - skip : size;
        if (take == c->to_size) {
            convert_row(c, offset / c->to_size, buffer);
        } else {
            convert_row(c, offset / c->to_size, c->row);
            memcpy(buffer, c->row + skip, take);
        }
        buffer += take;
        offset += take;
        size -= take;
    }
    return CMIF_OK;
}

/* ---- keys ---- */

static bool begins(cmif_str key, const char *prefix)
{
    size_t size = strlen(prefix);
    return key.size >= size && memcmp(key.data, prefix, size) == 0;
}

static cmif_code put_own_keys(cmif_gguf_out *out, const cmif_split_plan *plan, const char *role, const char *id,
                              cmif_err *err)
{
    cmif_code rc = cmif_gguf_put_uint(out, "cmif.version", 1, err);
    rc           = rc ? rc : cmif_gguf_put_str(out, "cmif.role", (cmif_str){role, strlen(role)}, err);
    rc           = rc ? rc : cmif_gguf_put_str(out, "cmif.model_id", (cmif_str){id, strlen(id)}, err);
    rc           = rc ? rc : cmif_gguf_put_f32(out, "cmif.row_scale", plan->row_scale, err);
    rc           = rc ? rc : cmif_gguf_put_bool(out, "cmif.tied", plan->tied, err);
    return rc;
}

static cmif_code put_client(cmif_gguf_out *out, const cmif_gguf *model, const cmif_split_plan *plan, const char *id,
                            conversion *c, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    char      arch_prefix[64];
    snprintf(arch_prefix, sizeof arch_prefix, "%s.", plan->arch->name);
    for (size_t i = 0; i < cmif_gguf_value_count(model) && rc == CMIF_OK; i++) {
        const cmif_gguf_value *value = cmif_gguf_value_at(model, i);
        if (begins(value->key, "general.") || begins(value->key, "tokenizer.") || begins(value->key, arch_prefix)) {
            rc = cmif_gguf_put_value(out, value, err);
        }
    }
    rc = rc ? rc : put_own_keys(out, plan, "client", id, err);
    rc = rc ? rc : cmif_gguf_put_bool(out, "cmif.keeps_table", plan->server_table, err);
    rc = rc ? rc : cmif_chat_pieces_put(model, out, err);

    const cmif_gguf_tensor *table  = c->table;
    uint32_t                type   = ggml_type_of(plan->table_type);
    bool                    copied = type == table->type;
    return rc ? rc
              : cmif_gguf_put_tensor(out, table_name, type, table->dims, table->shape,
                                     copied ? copy_bytes : convert_bytes, copied ? (void *) (uintptr_t) table : c, err);
}

/* The engine wants: a tokenizer (no_vocab will do), the size of the vocabulary, and for BERT the number of token types.
 */
static cmif_code put_server(cmif_gguf_out *out, const cmif_gguf *model, const cmif_split_plan *plan, const char *id,
                            cmif_err *err)
{
    static const char types[] = "tokenizer.ggml.token_type_count";
    char              key[128];
    cmif_code         rc = CMIF_OK;
    for (size_t i = 0; i < cmif_gguf_value_count(model) && rc == CMIF_OK; i++) {
        const cmif_gguf_value *value = cmif_gguf_value_at(model, i);
        if (!begins(value->key, "tokenizer.") || cmif_str_is(value->key, types)) {
            rc = cmif_gguf_put_value(out, value, err);
        }
    }
    snprintf(key, sizeof key, "%s.vocab_size", plan->arch->name);
    rc = rc ? rc : cmif_gguf_put_uint(out, key, plan->vocab, err);
    rc = rc ? rc : cmif_gguf_put_str(out, "tokenizer.ggml.model", (cmif_str){"no_vocab", 8}, err);
    rc = rc ? rc : put_own_keys(out, plan, "server", id, err);
    rc = rc ? rc : cmif_gguf_put_bool(out, "cmif.has_table", plan->server_table, err);

    const cmif_gguf_tensor *table = cmif_gguf_find_tensor(model, table_name);
    bool as_output = plan->tied && plan->arch->output == CMIF_OUTPUT_OPTIONAL; /* the engine takes it under this name */
    bool as_table  = plan->server_table && !as_output;
    for (size_t i = 0; i < cmif_gguf_tensor_count(model) && rc == CMIF_OK; i++) {
        const cmif_gguf_tensor *tensor = cmif_gguf_tensor_at(model, i);
        char                    name[64];
        snprintf(name, sizeof name, "%.*s", (int) tensor->name.size, tensor->name.data);
        if (tensor == table && !as_table) {
            rc = cmif_gguf_put_tensor(out, name, plan->stub_type, tensor->dims, tensor->shape, NULL, NULL, err);
        } else {
            rc = cmif_gguf_put_tensor(out, name, tensor->type, tensor->dims, tensor->shape, copy_bytes,
                                      (void *) (uintptr_t) tensor, err);
        }
    }
    if (rc == CMIF_OK && as_output) {
        rc = cmif_gguf_put_tensor(out, output_name, table->type, table->dims, table->shape, copy_bytes,
                                  (void *) (uintptr_t) table, err);
    }
    return rc;
}

/* ---- files ---- */

/* Make the folder and those above it. */
static cmif_code make_folder(const char *folder, cmif_err *err)
{
    cmif_code rc   = CMIF_OK;
    char     *path = strdup(folder);
    if (!path) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a path");
    }
    for (char *at = path + 1; rc == CMIF_OK && *path; at++) {
        char end = *at;
        if (end != '/' && end) {
            continue;
        }
        *at = 0;
        struct stat info;
        if (mkdir(path, 0777) != 0 && (errno != EEXIST || stat(path, &info) != 0 || !S_ISDIR(info.st_mode))) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot make folder '%s': %s", path,
                           strerror(errno == EEXIST ? ENOTDIR : errno));
        }
        *at = end;
        if (!end) {
            break;
        }
    }
    free(path);
    return rc;
}

static cmif_code refuse_to_overwrite(const char *model, const char *output, cmif_err *err)
{
    struct stat a, b;
    if (stat(model, &a) == 0 && stat(output, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' is the model itself and would be overwritten: choose another folder",
                         output);
    }
    return CMIF_OK;
}

static char *path_in(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char  *path = malloc(size);
    if (path) {
        snprintf(path, size, "%s/%s", folder, name);
    }
    return path;
}

static cmif_code conversion_init(conversion *c, const cmif_gguf_tensor *table, const cmif_split_plan *plan,
                                 cmif_err *err)
{
    c->table     = table;
    c->width     = plan->width;
    c->from_size = (size_t) (table->size / plan->vocab);
    c->to        = plan->table_type;
    c->to_size   = cmif_row_size(plan->table_type, plan->width);
    c->to_float  = ggml_get_type_traits((enum ggml_type) table->type)->to_float;
    c->floats    = malloc(c->width * sizeof(float));
    c->row       = malloc(c->to_size);
    return c->floats && c->row ? CMIF_OK
                               : cmif_fail(err, CMIF_E_MEMORY, "no memory for a row of %zu numbers", c->width);
}

/* ---- sealing ---- */

typedef struct sealing {
    const uint8_t *key;
    uint8_t        model_id[32];
    cmif_sealer   *sealer; /* made when the size is known */
} sealing;

static cmif_code seal(void *context, uint64_t total, const uint8_t *bytes, size_t size, cmif_gguf_emit emit, void *to,
                      cmif_err *err)
{
    sealing  *s  = context;
    cmif_code rc = s->sealer ? CMIF_OK : cmif_sealer_new(s->key, s->model_id, total, 0, &s->sealer, err);
    return rc ? rc : cmif_sealer_put(s->sealer, bytes, size, emit, to, err);
}

/* The client's file of an earlier split, of the other kind: it is of no use with the new server's file, and in the
 * clear it would be what sealing is against. */
static cmif_code remove_old(const char *path, cmif_err *err)
{
    return unlink(path) == 0 || errno == ENOENT
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "the split is done, but the earlier '%s' cannot be removed: %s", path,
                           strerror(errno));
}

cmif_code cmif_split(const char *path, const char *folder, const cmif_split_options *options,
                     cmif_split_progress progress, void *context, cmif_split_plan *out, cmif_err *err)
{
    cmif_code         rc     = CMIF_OK;
    cmif_gguf        *model  = NULL;
    cmif_gguf_out    *client = NULL, *server = NULL;
    cmif_gguf_staged *files[2]    = {NULL, NULL}; /* the server's, the client's */
    char             *client_path = path_in(folder, options->seal ? CMIF_SPLIT_SEALED : CMIF_SPLIT_CLIENT);
    char             *server_path = path_in(folder, CMIF_SPLIT_SERVER);
    char             *old_path    = path_in(folder, options->seal ? CMIF_SPLIT_CLIENT : CMIF_SPLIT_SEALED);
    conversion        c           = {0};
    work              w           = {.progress = progress, .context = context, .what = "reading"};
    sealing           sealed      = {.key = options->seal};
    uint64_t          size        = 0;
    cmif_split_plan   plan;

    if (!client_path || !server_path || !old_path) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a path");
        goto done;
    }
    rc = cmif_gguf_open(path, &model, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_split_plan_init(model, options, &plan, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "'%s'", path);
        goto done;
    }
    struct stat info;
    w.total = plan.client_size + plan.server_size + (stat(path, &info) == 0 ? (uint64_t) info.st_size : 0);
    rc      = rc ? rc : make_folder(folder, err);
    rc      = rc ? rc : refuse_to_overwrite(path, client_path, err);
    rc      = rc ? rc : refuse_to_overwrite(path, server_path, err);
    rc      = rc ? rc : refuse_to_overwrite(path, old_path, err);
    rc      = rc ? rc : hash_file(path, &w, plan.model_id, &size, err);
    rc      = rc ? rc : conversion_init(&c, cmif_gguf_find_tensor(model, table_name), &plan, err);
    rc      = rc ? rc : cmif_gguf_out_new(&client, err);
    rc      = rc ? rc : put_client(client, model, &plan, plan.model_id, &c, err);
    rc      = rc ? rc : cmif_gguf_out_new(&server, err);
    rc      = rc ? rc : put_server(server, model, &plan, plan.model_id, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    const cmif_gguf_value *chat = cmif_gguf_out_find(client, "cmif.chat.refused");
    snprintf(plan.chat_refused, sizeof plan.chat_refused, "%.*s", chat ? (int) chat->size : 0,
             chat ? (const char *) chat->data : "");
    (void) cmif_unhex(plan.model_id, 32, sealed.model_id);
    if (options->seal) {
        cmif_gguf_put_through(client, seal, &sealed);
    }
    w.before = size;
    w.what   = options->seal ? "writing " CMIF_SPLIT_SEALED : "writing " CMIF_SPLIT_CLIENT;
    rc       = cmif_gguf_stage(client, client_path, report, &w, &files[1], err);
    w.before += plan.client_size;
    w.what = "writing " CMIF_SPLIT_SERVER;
    rc     = rc ? rc : cmif_gguf_stage(server, server_path, report, &w, &files[0], err);
    rc     = rc ? rc : cmif_gguf_commit(files, 2, err);
    rc     = rc ? rc : remove_old(old_path, err);
    if (rc == CMIF_OK && out) {
        *out = plan;
    }
done:
    cmif_gguf_staged_free(files[0]);
    cmif_gguf_staged_free(files[1]);
    cmif_gguf_out_free(client);
    cmif_gguf_out_free(server);
    cmif_sealer_free(sealed.sealer);
    free(c.floats);
    free(c.row);
    cmif_gguf_free(model);
    free(client_path);
    free(server_path);
    free(old_path);
    return rc;
}
