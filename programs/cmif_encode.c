#include "cmif_commands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cmif_client_options where = CMIF_CLIENT_DEFAULTS;
static bool                normalize;

static const cmif_option classify_options[] = {CMIF_CLIENT_OPTIONS(where), CMIF_COMMON_OPTIONS};
static const cmif_option embed_options[]    = {
       CMIF_CLIENT_OPTIONS(where),
       {0, "normalize", NULL, CMIF_OPTION_FLAG, &normalize, 0, 0, "scale each vector to length 1"},
       CMIF_COMMON_OPTIONS,
};
static const cmif_command classify_command = {
    .name         = "classify",
    .args         = "[options] -m MODEL [TEXT ...]    (no TEXT: lines of stdin)",
    .summary      = "label texts with a classifier, most likely label first",
    .options      = classify_options,
    .option_count = sizeof classify_options / sizeof *classify_options,
    .notes        = CMIF_CLIENT_NOTES,
};
static const cmif_command embed_command = {
    .name         = "embed",
    .args         = "[options] -m MODEL [TEXT ...]    (no TEXT: lines of stdin)",
    .summary      = "turn texts into vectors, one line each",
    .options      = embed_options,
    .option_count = sizeof embed_options / sizeof *embed_options,
    .notes        = CMIF_CLIENT_NOTES,
};

typedef struct encoding {
    cmif_client  client;
    cmif_account account;
    cmif_str    *labels; /* NULL: embed */
    size_t       outputs;
    float       *vector;  /* (outputs) */
    json_t      *results; /* --json: an array */
} encoding;

static cmif_code read_labels(encoding *e, cmif_err *err)
{
    char   key[128];
    size_t count = 0;

    snprintf(key, sizeof key, "%.*s.classifier.output_labels",
             (int) (e->client.arch.size < 64 ? e->client.arch.size : 64), e->client.arch.data);
    if (!cmif_gguf_find(e->client.file, key)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the model has no labels, so it classifies nothing: use 'cmif embed'");
    }
    cmif_code rc = cmif_gguf_get_strs(e->client.file, key, &e->labels, &count, err);
    if (rc == CMIF_OK && count != e->outputs) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the model has %zu labels, the server gives %zu numbers", count, e->outputs);
    }
    return rc;
}

static void softmax(const float *logits, double *out, size_t count)
{
    double most = logits[0], sum = 0;
    for (size_t i = 1; i < count; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = exp(logits[i] - most);
        sum += out[i];
    }
    for (size_t i = 0; i < count; i++) {
        out[i] /= sum;
    }
}

static cmif_code print_labels(encoding *e, const cmif_released *released, cmif_err *err)
{
    double *p = calloc(e->outputs, sizeof *p);
    if (!p) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu probabilities", e->outputs);
    }
    softmax(e->vector, p, e->outputs);
    if (cmif_json) {
        size_t  best          = 0;
        json_t *probabilities = json_object(), *logits = json_array();
        for (size_t i = 0; i < e->outputs; i++) {
            char name[256];
            best = p[i] > p[best] ? i : best;
            snprintf(name, sizeof name, "%.*s", (int) (e->labels[i].size < 255 ? e->labels[i].size : 255),
                     e->labels[i].data);
            json_object_set_new(probabilities, name, json_real(p[i]));
            json_array_append_new(logits, json_real(e->vector[i]));
        }
        json_t *result = json_pack("{s:s%, s:o, s:o}", "label", e->labels[best].data, e->labels[best].size,
                                   "probabilities", probabilities, "logits", logits);
        if (result && e->client.guard.kind != CMIF_GUARD_NONE) { /* what left, for the person to see */
            size_t         size;
            const uint8_t *bytes = cmif_released_bytes(released, &size);
            json_object_set_new(result, "released", json_stringn((const char *) bytes, size));
        }
        json_array_append_new(e->results, result);
    } else {
        for (size_t n = 0; n < e->outputs; n++) { /* most likely first; a printed one is marked by -1 */
            size_t best = 0;
            for (size_t i = 1; i < e->outputs; i++) {
                best = p[i] > p[best] ? i : best;
            }
            fputs(n ? "\t" : "", stdout);
            cmif_put_clean(stdout, e->labels[best].data, e->labels[best].size); /* the model's own text */
            printf(" %.4f", p[best]);
            p[best] = -1;
        }
        putchar('\n');
    }
    free(p);
    return CMIF_OK;
}

static void print_vector(encoding *e)
{
    double length = 0;
    for (size_t i = 0; i < e->outputs; i++) {
        length += (double) e->vector[i] * (double) e->vector[i];
    }
    length = normalize && length > 0 ? sqrt(length) : 1;
    if (cmif_json) {
        json_t *vector = json_array();
        for (size_t i = 0; i < e->outputs; i++) {
            json_array_append_new(vector, json_real((double) e->vector[i] / length));
        }
        json_array_append_new(e->results, vector);
        return;
    }
    for (size_t i = 0; i < e->outputs; i++) {
        printf("%s%.9g", i ? " " : "", (double) e->vector[i] / length);
    }
    putchar('\n');
}

static cmif_code encode(encoding *e, cmif_secret *text, cmif_err *err)
{
    cmif_client   *c        = &e->client;
    cmif_released *released = NULL;
    cmif_ids       ids      = {0};
    cmif_usage     usage    = {0};
    cmif_code      rc       = text->size ? CMIF_OK : cmif_fail(err, CMIF_E_FORMAT, "it is empty");

    if (rc == CMIF_OK) {
        rc = cmif_guard_release(&c->guard, text, &released, NULL, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_tokenizer_put_start(c->tokenizer, &ids, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_encode(c, released, &ids, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_tokenizer_put_end(c->tokenizer, &ids, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_fits(c, ids.count, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_session_encode(c->session, &ids, e->vector, &usage, err);
        cmif_account_add(&e->account, c, &usage);
    }
    if (usage.sent) { /* also for no answer */
        cmif_err  more = {0}, *why = rc == CMIF_OK ? err : &more;
        cmif_code end = cmif_guard_receipt(&c->guard, c->model_id, e->vector,
                                           rc == CMIF_OK ? e->outputs * sizeof *e->vector : 0, why);
        rc            = rc == CMIF_OK ? end : rc;
    }
    if (rc == CMIF_OK && e->labels) {
        rc = print_labels(e, released, err);
    } else if (rc == CMIF_OK) {
        print_vector(e);
    }
    cmif_released_free(released);
    cmif_ids_free(&ids);
    if (rc == CMIF_OK && fflush(stdout) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write the result: is the disk full, or the pipe closed?");
    }
    return rc;
}

static cmif_code encode_all(encoding *e, int count, char **argv, cmif_err *err)
{
    bool      lines = count == 0 || (count == 1 && !strcmp(argv[0], "-"));
    bool      more  = true;
    cmif_code rc    = CMIF_OK;

    for (int i = 0; rc == CMIF_OK && (lines || i < count); i++) {
        cmif_secret text = {0};
        rc               = lines ? cmif_read_line(&text, &more, err) : cmif_take_argument(argv[i], &text, err);
        if (rc == CMIF_OK && !more) {
            cmif_secret_wipe(&text);
            return i ? CMIF_OK
                     : cmif_fail(err, CMIF_E_FORMAT, "no text came: give it as an argument, or as lines of stdin");
        }
        if (rc == CMIF_OK) {
            rc = encode(e, &text, err);
            if (rc != CMIF_OK && rc != CMIF_E_CANCELLED) {
                cmif_err_context(err, "text %d", i + 1);
            }
        }
        cmif_secret_wipe(&text);
    }
    return rc;
}

static cmif_code finish(encoding *e, cmif_err *err)
{
    if (!cmif_json) {
        if (!cmif_quiet) {
            cmif_account_print(&e->account, &e->client);
        }
        return CMIF_OK;
    }
    json_t *object = cmif_account_json(&e->account, &e->client);
    if (object) {
        json_object_set(object, "results", e->results);
    }
    return cmif_print_json(object, err);
}

static int encode_command(const cmif_command *command, bool labels, int argc, char **argv)
{
    encoding e    = {0};
    cmif_err err  = {0};
    int      rest = 0, exit_code;

    cmif_code rc = cmif_options_parse(command, argc, argv, &rest, &err);
    if (rc == CMIF_OK) {
        rc = cmif_client_check(&where, &err);
    }
    if (rc == CMIF_OK && rest == 0 && isatty(STDIN_FILENO)) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "no text: give it as an argument, or as lines of stdin");
    }
    if (rc != CMIF_OK) {
        exit_code = cmif_report_usage(&err);
        goto done;
    }
    rc = cmif_client_open(&where, &e.client, &err);
    if (rc == CMIF_OK && !(cmif_session_server(e.client.session)->flags & CMIF_WELCOME_ENCODER)) {
        rc = cmif_fail(&err, CMIF_E_UNSUPPORTED, "the model (%.*s) generates text: use 'cmif run' or 'cmif chat'",
                       (int) (e.client.arch.size < 32 ? e.client.arch.size : 32), e.client.arch.data);
    }
    if (rc == CMIF_OK) {
        e.outputs = cmif_session_server(e.client.session)->outputs;
        e.vector  = calloc(e.outputs, sizeof *e.vector);
        e.results = json_array();
        rc = e.vector && e.results ? CMIF_OK : cmif_fail(&err, CMIF_E_MEMORY, "no memory for %zu numbers", e.outputs);
    }
    if (rc == CMIF_OK && labels) {
        rc = read_labels(&e, &err);
    }
    if (rc == CMIF_OK) {
        rc = encode_all(&e, rest, argv, &err);
    }
    if (rc == CMIF_OK) {
        rc = finish(&e, &err);
    }
    exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    free(e.labels);
    free(e.vector);
    json_decref(e.results);
    cmif_client_close(&e.client);
    return exit_code;
}

int cmif_classify(int argc, char **argv)
{
    return encode_command(&classify_command, true, argc, argv);
}

int cmif_embed_command(int argc, char **argv)
{
    return encode_command(&embed_command, false, argc, argv);
}
