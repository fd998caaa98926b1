#define _GNU_SOURCE /* memmem */
/* equality - the split model against the unsplit one, bit for bit on the CPU (issue: "must show 2").
 *
 *   equality MODEL.gguf... | --made ARCH... | --made all
 *
 * Each model is split; cmif-server runs the server half; the client half's rows go over the wire as f32. Logits of
 * every step, and the greedy ids, must equal those of cmif-plain, which feeds ids to the unsplit file with llama.h
 * alone. Encoders: the vector. Where the server has the table, the looping stream must give the same bits as the fed
 * one. --made makes models of random weights. Without arguments: the small models of the shared folder and a few made
 * ones. */
#include "rig.h"

#include "dp/released_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char    work[] = "/tmp/cmif-equality-XXXXXX";
static char    client[128], server[128], logits_path[128], ids_path[128], made_path[128];
static float  *logits; /* of the split: steps x vocab */
static size_t  steps, vocab;
static int32_t tokens[64];
static int     passed, failed;
static int     passed, failed;

static bool keep_logits(void *context, int32_t id, float margin, const float *step)
{
    (void) context;
    (void) margin;
    memcpy(logits + steps * vocab, step, vocab * sizeof *logits);
    tokens[steps++] = id;
    return true;
}

static void make_prompt(cmif_ids *ids, size_t count, size_t vocab_size)
{
    uint32_t state = 7;
    for (size_t i = 0; i < count; i++) {
        state      = state * 1664525u + 1013904223u;
        int32_t id = (int32_t) (3 + ((uint64_t) state * (vocab_size - 3) >> 32));
        if (cmif_ids_append(ids, &id, 1, NULL) != CMIF_OK) {
            abort();
        }
    }
}

/* What cmif-plain makes of the same ids: floats written (steps x vocab, or the vector), malloc'd. */
static float *plain(const char *model, const cmif_ids *prompt, bool embed, size_t *count)
{
    FILE *f = fopen(ids_path, "w");
    for (size_t i = 0; f && i < prompt->count; i++) {
        fprintf(f, "%d ", (int) prompt->at[i]);
    }
    if (!f || fclose(f) != 0) {
        return NULL;
    }
    const char *generate[] = {model,       "--ids-file", ids_path, "-n",        "64",  "--logits",
                              logits_path, "--threads",  "1",      "--context", "512", NULL};
    const char *encode[] = {model, "--ids-file", ids_path, "--embed", "--logits", logits_path, "--threads", "1", NULL};
    if (rig_run("libexec/cmif/cmif-plain", embed ? encode : generate) != 0 || !(f = fopen(logits_path, "rb"))) {
        return NULL;
    }
    fseek(f, 0, SEEK_END);
    size_t size   = (size_t) ftell(f);
    float *floats = malloc(size + 1);
    rewind(f);
    *count = floats && fread(floats, 1, size, f) == size ? size / sizeof *floats : 0;
    fclose(f);
    return floats;
}

static size_t first_difference(const float *a, const float *b, size_t count)
{
    size_t i = 0;
    while (i < count && memcmp(&a[i], &b[i], sizeof *a) == 0) {
        i++;
    }
    return i;
}

/* Split over the wire, fed or looping, against the floats of the plain run. */
static bool generates_equal(rig *r, const cmif_ids *prompt, bool loop, const float *expected, size_t expected_count)
{
    cmif_session   *session = NULL;
    cmif_ids        ids     = {0};
    cmif_err        err     = {0};
    cmif_generation how     = {
            .sampling = {.top_p = 1}, .max_tokens = 64, .flags = CMIF_BEGIN_LOGITS, .on_token = keep_logits};
    bool ok            = false;
    steps              = 0;
    r->options.no_loop = !loop;
    vocab              = 0;
    if (cmif_ids_append(&ids, prompt->at, prompt->count, &err) == CMIF_OK &&
        cmif_session_open(&r->options, r->table, &session, &err) == CMIF_OK) {
        vocab  = cmif_session_server(session)->vocab;
        logits = malloc(64 * vocab * sizeof *logits);
        if (loop && !(cmif_session_server(session)->flags & CMIF_WELCOME_TABLE)) {
            ok = true; /* nothing to compare: the server cannot */
        } else if (logits && cmif_session_generate(session, &ids, false, &how, NULL, &err) == CMIF_OK) {
            size_t same =
                first_difference(logits, expected, steps * vocab < expected_count ? steps * vocab : expected_count);
            ok = steps == 64 && expected_count == steps * vocab && same == expected_count;
            if (!ok) {
                printf("  %s: %zu steps, floats equal up to %zu of %zu\n", loop ? "looping" : "fed", steps, same,
                       expected_count);
            }
        }
        free(logits);
    }
    if (!ok && err.text[0]) {
        printf("  %s\n", err.text);
    }
    cmif_session_free(session);
    cmif_ids_free(&ids);
    return ok;
}

static bool encodes_equal(rig *r, const cmif_ids *prompt, const float *expected, size_t expected_count)
{
    cmif_session *session = NULL;
    cmif_err      err     = {0};
    bool          ok      = false;
    float        *vector  = calloc(65536, sizeof *vector);
    if (vector && cmif_session_open(&r->options, r->table, &session, &err) == CMIF_OK &&
        cmif_session_encode(session, prompt, vector, NULL, &err) == CMIF_OK) {
        size_t count = cmif_session_server(session)->outputs;
        ok           = count == expected_count && first_difference(vector, expected, count) == count;
    }
    if (!ok) {
        printf("  vector: %s\n", err.text[0] ? err.text : "other bits");
    }
    cmif_session_free(session);
    free(vector);
    return ok;
}

static bool is_equal(const char *model, const char *name)
{
    const char *split[]        = {"split", model, "-o", work, NULL};
    const char *arguments[]    = {"--max-sessions", "1", "--max-context", "512", "--threads", "1", NULL};
    rig         r              = {0};
    cmif_err    err            = {0};
    cmif_ids    prompt         = {0};
    float      *expected       = NULL;
    size_t      expected_count = 0;
    bool        ok             = false;
    cmif_str    arch           = {0};

    if (rig_run("libexec/cmif/cmif-model", split) != 0) {
        printf("FAILED %s: cannot be split\n", name);
        return false;
    }
    if (rig_open(&r, client, &err) != CMIF_OK ||
        cmif_gguf_get_str(r.file, "general.architecture", &arch, &err) != CMIF_OK ||
        rig_start(&r, server, arguments, &err) != CMIF_OK) {
        printf("FAILED %s: %s\n", name, err.text);
        rig_stop(&r);
        return false;
    }
    bool encoder = arch.size >= 4 && memmem(arch.data, arch.size, "bert", 4);
    make_prompt(&prompt, 37, cmif_embed_vocab(r.table));
    expected = plain(model, &prompt, encoder, &expected_count);
    if (!expected || !expected_count) {
        printf("  cmif-plain failed\n");
    } else if (encoder) {
        ok = encodes_equal(&r, &prompt, expected, expected_count);
    } else {
        ok = generates_equal(&r, &prompt, false, expected, expected_count) &&
             generates_equal(&r, &prompt, true, expected, expected_count);
    }
    printf("%s %s (%.*s): %zu floats bit for bit\n", ok ? "ok    " : "FAILED", name, (int) arch.size, arch.data,
           expected_count);
    fflush(stdout);
    free(expected);
    cmif_ids_free(&prompt);
    rig_stop(&r);
    return ok;
}

/* name: an architecture, or one with options of make-model, as in "llama --shape 1b" */
static bool is_made_equal(const char *name)
{
    char        words[128];
    const char *make[12] = {0};
    size_t      count    = 0;
    snprintf(words, sizeof words, "%s", name);
    for (char *word = strtok(words, " "); word && count < 8; word = strtok(NULL, " ")) {
        make[count++] = word;
    }
    make[count++] = "-o";
    make[count++] = made_path;
    if (rig_run("tests/make-model", make) != 0) {
        printf("FAILED %s: make-model failed\n", name);
        return false;
    }
    bool ok = is_equal(made_path, name);
    unlink(made_path);
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const all[] = {"llama --tied",
                                      "llama --untied",
                                      "llama --shape llama2-7b --layers 1",
                                      "llama --shape llama3-8b --layers 1",
                                      "qwen2",
                                      "qwen3",
                                      "phi3",
                                      "gpt2",
                                      "gemma",
                                      "gemma2",
                                      "gemma3",
                                      "granite",
                                      "olmo2",
                                      "starcoder2",
                                      "stablelm",
                                      "falcon",
                                      "command-r",
                                      "bert"};
    if (!mkdtemp(work)) {
        return 1;
    }
    snprintf(client, sizeof client, "%s/client.gguf", work);
    snprintf(server, sizeof server, "%s/server.gguf", work);
    snprintf(logits_path, sizeof logits_path, "%s/logits", work);
    snprintf(ids_path, sizeof ids_path, "%s/ids", work);
    snprintf(made_path, sizeof made_path, "%s/made.gguf", work);

    bool made = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--made") == 0) {
            made = true;
        } else if (made && strcmp(argv[i], "all") == 0) {
            for (size_t m = 0; m < sizeof all / sizeof *all; m++) {
                *(is_made_equal(all[m]) ? &passed : &failed) += 1;
            }
        } else {
            *((made ? is_made_equal(argv[i]) : is_equal(argv[i], argv[i])) ? &passed : &failed) += 1;
        }
    }
    if (argc == 1) {
        static const char *const shared[] = {CMIF_SOURCE_DIR "/../shared/models/stories260K/stories260K.gguf",
                                             CMIF_SOURCE_DIR "/../shared/models/minilm-sst2/minilm-sst2-f16.gguf"};
        for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
            if (access(shared[i], R_OK) == 0) {
                *(is_equal(shared[i], strrchr(shared[i], '/') + 1) ? &passed : &failed) += 1;
            } else {
                printf("skipped: no %s\n", shared[i]);
            }
        }
        static const char *const few[] = {"llama --untied", "gemma3", "granite", "bert"};
        for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
            *(is_made_equal(few[i]) ? &passed : &failed) += 1;
        }
    }
    const char *const leftovers[] = {client, server, logits_path, ids_path, made_path};
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++) {
        unlink(leftovers[i]);
    }
    rmdir(work);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
