/* chat_vectors - what the engine makes of conversations, for the test of trusted/chat, which may not see the engine.
 *
 *   chat_vectors MODEL.gguf TEMPLATE.jinja OUT.gguf   ("-": the model's own template)
 *
 * Writes OUT.gguf, the keys of MODEL.gguf with the pieces of the template, and prints for each conversation its
 * messages, "message ROLE HEX", and the ids the engine gives for it, "ids N N N ...": the template rendered by its
 * Jinja and read by llama_tokenize as its server does. Contents hold no text of special tokens, which the engine,
 * unlike us, would obey. */
#include "model/chatcut.h"
#include "model/jinja.h"

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CONVERSATIONS = 20, TURNS_MAX = 5, MESSAGES_MAX = 2 * TURNS_MAX, IDS_MAX = 1 << 16 };

static const char *const contents[] = {
    "What is the capital of France?",
    "  blanks before",
    "a line feed after\n",
    "\n\n\t all around \r\n\n",
    "One line.\nAnother.\n\n  A third, indented, with 12345 + 678 = 13023.",
    u8"Gr\u00FC\u00DFe, \u4F60\u597D, \U0001F600, e\u0301",
    "7",
    ":) !!! don't, I'll, we've -- {{ x }} {% y %} [z]",
    "user",
    "assistant: \"yes\"",
};

typedef struct vectors {
    cmif_gguf          *model, *client;
    cmif_jinja         *jinja;
    struct llama_model *engine_model;
    cmif_str            bos, eos;
    bool                no_system;
} vectors;

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void) level, (void) text, (void) context;
}

static cmif_code read_template(const char *path, const cmif_gguf *model, char **out, size_t *size, cmif_err *err)
{
    enum { ROOM = 1 << 20 };
    cmif_str own;
    char    *text = calloc(1, ROOM);
    if (!text) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a template");
    }
    if (strcmp(path, "-") == 0) {
        if (cmif_gguf_get_str(model, "tokenizer.chat_template", &own, err) != CMIF_OK || own.size > ROOM) {
            free(text);
            return cmif_fail(err, CMIF_E_FORMAT, "no template in the model");
        }
        memcpy(text, own.data, own.size);
        *size = own.size;
    } else {
        FILE *file = fopen(path, "rb");
        if (!file) {
            free(text);
            return cmif_fail(err, CMIF_E_IO, "cannot open '%s'", path);
        }
        *size = fread(text, 1, ROOM, file);
        fclose(file);
    }
    *out = text;
    return CMIF_OK;
}

static cmif_code stub_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context, (void) offset, (void) err;
    memset(buffer, 0, size);
    return CMIF_OK;
}

/* The model's keys with this template, then with its pieces: two rounds, because pieces are cut out of a file. */
static cmif_code write_client(cmif_gguf **model, cmif_str template, const char *path, bool pieces, cmif_err *err)
{
    const uint64_t shape[4] = {32, 1, 1, 1};
    cmif_gguf_out *out      = NULL;
    cmif_gguf     *again    = NULL;

    cmif_code rc = cmif_gguf_out_new(&out, err);
    for (size_t i = 0; rc == CMIF_OK && i < cmif_gguf_value_count(*model); i++) {
        rc = cmif_gguf_put_value(out, cmif_gguf_value_at(*model, i), err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, "tokenizer.chat_template", template, err);
    }
    if (rc == CMIF_OK && pieces) {
        rc = cmif_chat_pieces_put(*model, out, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_tensor(out, "stub", CMIF_GGML_F32, 1, shape, stub_bytes, NULL, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(out, path, NULL, NULL, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_open(path, &again, err);
    }
    if (rc == CMIF_OK) {
        cmif_gguf_free(*model);
        *model = again;
    }
    cmif_gguf_out_free(out);
    return rc;
}

/* The engine's server takes the BOS off the rendered text when the tokenizer puts one, and lets it put it. */
static int tokenize(const vectors *v, const char *text, size_t size, llama_token *ids)
{
    const struct llama_vocab *vocab = llama_model_get_vocab(v->engine_model);
    if (llama_vocab_get_add_bos(vocab) && v->bos.size <= size && memcmp(text, v->bos.data, v->bos.size) == 0) {
        text += v->bos.size;
        size -= v->bos.size;
    }
    return llama_tokenize(vocab, text, (int32_t) size, ids, IDS_MAX, /* add_special= */ true,
                          /* parse_special= */ true);
}

static cmif_code print_conversation(const vectors *v, int number, llama_token *ids, cmif_err *err)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    const int                count   = (int) (sizeof contents / sizeof contents[0]);
    cmif_jinja_message       messages[MESSAGES_MAX];
    size_t                   used = 0, size;
    char                    *text = NULL;

    bool system = number % 2 && !v->no_system;
    for (int i = system ? 0 : 1; i < 2 * (1 + number / 2 % TURNS_MAX); i++) {
        int         role    = i == 0 ? 0 : i % 2 ? 1 : 2;
        const char *content = contents[(number * 3 + i * (1 + number / count)) % count];
        messages[used++]    = (cmif_jinja_message){roles[role], {content, strlen(content)}};
        printf("message %d ", role);
        for (const char *c = content; *c; c++) {
            printf("%02x", (unsigned char) *c);
        }
        putchar('\n');
    }
    cmif_jinja_chat chat = {messages, used, v->bos, v->eos, time(NULL), false};
    cmif_code       rc   = cmif_jinja_render(v->jinja, &chat, &text, &size, err);
    if (rc == CMIF_OK) {
        int got = tokenize(v, text, size, ids);
        printf("ids");
        for (int i = 0; i < got; i++) {
            printf(" %d", ids[i]);
        }
        putchar('\n');
    }
    free(text);
    return rc;
}

static cmif_str token_text(const struct llama_vocab *vocab, llama_token id)
{
    const char *text = id == LLAMA_TOKEN_NULL ? "" : llama_vocab_get_text(vocab, id);
    return (cmif_str){text, strlen(text)};
}

int main(int argc, char **argv)
{
    cmif_err     err = {0};
    cmif_code    rc;
    vectors      v    = {0};
    char        *text = NULL;
    size_t       size = 0;
    llama_token *ids  = NULL;

    if (argc != 4) {
        fputs("usage: chat_vectors MODEL.gguf TEMPLATE.jinja|- OUT.gguf\n", stderr);
        return 2;
    }
    setenv("TZ", "UTC", 1);
    llama_log_set(quiet, NULL);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only                = true;
    v.engine_model                   = llama_model_load_from_file(argv[1], params);
    ids                              = malloc(IDS_MAX * sizeof *ids);
    if (!v.engine_model || !ids) {
        rc = cmif_fail(&err, CMIF_E_FORMAT, "the engine cannot load '%s'", argv[1]);
        goto done;
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(v.engine_model);
    v.bos                           = token_text(vocab, llama_vocab_bos(vocab));
    v.eos                           = token_text(vocab, llama_vocab_eos(vocab));

    rc = cmif_gguf_open(argv[1], &v.model, &err);
    if (rc == CMIF_OK) {
        rc = read_template(argv[2], v.model, &text, &size, &err);
    }
    if (rc == CMIF_OK) {
        rc = write_client(&v.model, (cmif_str){text, size}, argv[3], /* pieces= */ false, &err);
    }
    if (rc == CMIF_OK) {
        rc = write_client(&v.model, (cmif_str){text, size}, argv[3], /* pieces= */ true, &err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_jinja_new((cmif_str){text, size}, &v.jinja, &err);
    }
    v.no_system = rc == CMIF_OK && cmif_gguf_find(v.model, "cmif.chat.no_system");
    for (int number = 0; rc == CMIF_OK && number < CONVERSATIONS; number++) {
        rc = print_conversation(&v, number, ids, &err);
    }
done:
    if (rc != CMIF_OK) {
        fprintf(stderr, "chat_vectors: %s\n", err.text);
    }
    cmif_jinja_free(v.jinja);
    free(text);
    cmif_gguf_free(v.model);
    free(ids);
    if (v.engine_model) {
        llama_model_free(v.engine_model);
    }
    return rc == CMIF_OK ? 0 : 1;
}
