#define _GNU_SOURCE /* memmem */
#include "gateway/rows.h"

#include "base/bytes.h"
#include "base/check.h"
#include "gateway/tensor.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORIES CMIF_SOURCE_DIR "/../shared/models/stories260K/stories260K.gguf"
#define CANARY "Marisol zebra"

static struct event_base *base;
static cmif_gguf         *file;
static cmif_tokenizer    *tokenizer;
static cmif_embed        *embed;

/* ---- the container ---- */

static void digest(const cmif_tensor *t, char out[static 65])
{
    uint8_t  bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    CHECK(EVP_Digest(t->bytes, t->size, bytes, &size, EVP_sha256(), NULL) == 1 && size == 32);
    cmif_hex(bytes, 32, out);
}

/* Hashes of containers that torch.load took, made by another writer (shared/research/vllm.md, section 5). */
static void the_container_is_byte_by_byte_what_torch_reads(void)
{
    static const struct {
        size_t      count, width;
        const char *hash;
    } golden[] = {{3, 4, "25ad486d4855741f974edfc7a73572a2b61ce07dc57455e33fc1c0a1ccb9871e"},
                  {2, 3, "fa690ea46a05b749391174ba5f060039a7c00026f8710b391b8b9ca5b8eeb337"}};
    char hash[65];
    for (size_t i = 0; i < 2; i++) {
        for (size_t piece = 4; piece <= 48; piece += 44) { /* filled in pieces, and at once */
            const size_t n = golden[i].count * golden[i].width;
            cmif_tensor  t = {0};
            CHECK(cmif_tensor_new(CMIF_ROWS_F32, golden[i].count, golden[i].width, &t, NULL) == CMIF_OK);
            CHECK(t.size == 718 && t.rows_size == 4 * n && (t.rows - t.bytes) % 64 == 0);
            for (size_t k = 0; k < n; k++) {
                const float value = (float) k;
                memcpy(t.rows + 4 * k, &value, 4);
            }
            for (size_t at = piece < 4 * n ? piece : 4 * n; at <= 4 * n; at += piece) {
                cmif_tensor_filled(&t, at);
            }
            digest(&t, hash);
            CHECK(!strcmp(hash, golden[i].hash));
            cmif_tensor_free(&t);
        }
    }
}

static void a_container_says_which_type_its_values_have(void)
{
    static const struct {
        cmif_row_type type;
        const char   *name;
    } types[] = {{CMIF_ROWS_F32, "torch\nFloatStorage\n"},
                 {CMIF_ROWS_F16, "torch\nHalfStorage\n"},
                 {CMIF_ROWS_BF16, "torch\nBFloat16Storage\n"}};
    for (size_t i = 0; i < 3; i++) {
        cmif_tensor t = {0};
        CHECK(cmif_tensor_new(types[i].type, 300, 70000 / 2, &t, NULL) ==
              CMIF_OK); /* counts of one, two and four bytes */
        CHECK(t.rows_size == 300 * 35000 * (i ? 2 : 4) && memmem(t.bytes, 256, types[i].name, strlen(types[i].name)));
        CHECK(
            memmem(t.bytes, 256, "K\0M\x2c\x01M\xb8\x88\x86M\xb8\x88K\x01\x86", 15)); /* 0, (300, 35000), (35000, 1) */
        CHECK(memmem(t.bytes, 256, "J\xa0\x37\xa0\x00tQ", 7));
        cmif_tensor_free(&t);
    }
}

static void what_is_no_tensor_is_refused(void)
{
    cmif_tensor t = {0};
    CHECK(cmif_tensor_new(CMIF_ROWS_F32, 0, 4, &t, NULL) == CMIF_E_RANGE);
    CHECK(cmif_tensor_new(CMIF_ROWS_F32, 3, 0, &t, NULL) == CMIF_E_RANGE);
    CHECK(cmif_tensor_new(CMIF_ROWS_Q8_0, 3, 32, &t, NULL) == CMIF_E_RANGE);
    CHECK(cmif_tensor_new(CMIF_ROWS_ID, 3, 32, &t, NULL) == CMIF_E_RANGE);
    CHECK(cmif_tensor_new(CMIF_ROWS_F32, CMIF_TENSOR_MAX / 64 + 1, 16, &t, NULL) == CMIF_E_RANGE && !t.bytes);
}

/* ---- a server ---- */

static struct {
    struct evhttp *http;
    int            port;
    const char    *version, *about, *models, *events; /* what it answers; version NULL: 404; "-": {} */
    int            status;                            /* of a call; 0: 200 */
    unsigned       asked, called;
    char           path[64], *body; /* of the last call */
    size_t         size;
} there;

static void say(struct evhttp_request *http, int status, const char *text)
{
    struct evbuffer *out = evbuffer_new();
    evbuffer_add_printf(out, "%s", text);
    evhttp_send_reply(http, status, "x", out);
    evbuffer_free(out);
}

static void on_request(struct evhttp_request *http, void *context)
{
    struct evbuffer *in   = evhttp_request_get_input_buffer(http);
    const char      *path = evhttp_request_get_uri(http);
    char             text[256];
    (void) context;
    if (!strcmp(path, "/version") || !strcmp(path, "/server_info")) {
        there.asked++;
        snprintf(text, sizeof text, "{\"version\": \"%s\"%s}", there.version ? there.version : "",
                 there.about ? there.about : "");
        say(http, there.version ? 200 : 404, there.version && *there.version == '-' ? "{}" : text);
    } else if (!strcmp(path, "/v1/models")) {
        there.asked++;
        say(http, 200, there.models);
    } else {
        there.called++;
        snprintf(there.path, sizeof there.path, "%s", path);
        free(there.body);
        there.size = evbuffer_get_length(in);
        there.body = calloc(1, there.size + 1);
        evbuffer_remove(in, there.body, there.size);
        say(http, there.status ? there.status : 200, there.events);
    }
}

#define CHUNK(text, finish)                                                                                            \
    "data: {\"model\": \"m\", \"choices\": [{\"index\": 0, \"text\": \"" text "\", \"finish_reason\": " finish "}]}"   \
    "\n\n"
#define USAGE "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": 2}}\n\n"
#define DONE "data: [DONE]\n\n"
#define GENERATED(text, finish)                                                                                        \
    "data: {\"text\": \"" text "\", \"meta_info\": {\"finish_reason\": " finish                                        \
    ", \"prompt_tokens\": 5, \"completion_tokens\": 2, \"cached_tokens\": 0}}\n\n"

static void listens(void)
{
    there.http = evhttp_new(base);
    evhttp_set_max_body_size(there.http, 64 << 20);
    evhttp_set_gencb(there.http, on_request, NULL);
    struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(there.http, "127.0.0.1", (uint16_t) there.port);
    CHECK(bound);
    struct sockaddr_in name;
    socklen_t          size = sizeof name;
    CHECK(getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *) &name, &size) == 0);
    there.port = ntohs(name.sin_port);
}

static void is_vllm(void)
{
    there.version = "0.32.0";
    there.about   = NULL;
    there.models  = "{\"data\": [{\"id\": \"other\"}, {\"id\": \"m\", \"max_model_len\": 512}]}";
    there.events  = CHUNK("Once", "null") CHUNK(" upon", "\"length\"") USAGE DONE;
    there.status  = 0;
    there.asked = there.called = 0;
}

static void is_sglang(void)
{
    is_vllm();
    there.version = "0.5.23";
    there.about   = ", \"disable_radix_cache\": true, \"dtype\": \"bfloat16\"";
    there.events  = GENERATED("Once", "null") GENERATED("Once upon", "{\"type\": \"length\"}") DONE;
}

/* ---- a call ---- */

typedef struct run {
    cmif_request *request;
    cmif_call    *call;
    cmif_code     rc;
    char          text[256], sentence[256];
    cmif_finish   finish;
    uint64_t      prompt;
    unsigned      finishes, ends;
    cmif_call_end end;
    cmif_err      err;
} run;

static void on_text(void *context, uint32_t choice, const char *bytes, size_t size)
{
    run *r = context;
    CHECK(choice == 0 && r->ends == 0 && strlen(r->text) + size < sizeof r->text);
    strncat(r->text, bytes, size);
}

static void on_finish(void *context, uint32_t choice, cmif_finish reason)
{
    run *r = context;
    CHECK(choice == 0);
    r->finish = reason;
    r->finishes++;
}

static void on_usage(void *context, const cmif_call_usage *usage)
{
    ((run *) context)->prompt = usage->prompt;
}

static void on_end(void *context, cmif_call_end end, const char *sentence, uint32_t retry)
{
    run *r = context;
    (void) retry;
    r->end = end;
    r->ends++;
    r->call = NULL;
    snprintf(r->sentence, sizeof r->sentence, "%s", sentence);
}

static void begin(run *r, cmif_upstream *u, const char *json)
{
    static const cmif_call_hooks hooks = {
        .on_text = on_text, .on_finish = on_finish, .on_usage = on_usage, .on_end = on_end};
    cmif_request_problem problem;
    cmif_call_hooks      ours = hooks;
    *r                        = (run){0};
    ours.context              = r;
    CHECK(cmif_request_parse(strstr(json, "messages") ? CMIF_ENDPOINT_CHAT
                             : strstr(json, "input")  ? CMIF_ENDPOINT_EMBEDDINGS
                                                      : CMIF_ENDPOINT_COMPLETIONS,
                             json, strlen(json), &r->request, &problem, &r->err) == CMIF_OK);
    for (size_t i = 0; i < r->request->text_count; i++) {
        cmif_request_text *t = &r->request->texts[i];
        CHECK(cmif_dp_release_identity(t->text.data, t->text.size, &t->released, NULL) == CMIF_OK);
    }
    r->rc = u->kind->check(u, r->request, &r->err);
    r->rc = r->rc == CMIF_OK ? cmif_upstream_start(u, r->request, &ours, &r->call, &r->err) : r->rc;
    CHECK(r->ends == 0); /* none inside of the start */
}

static void turn(void)
{
    CHECK(event_base_loop(base, EVLOOP_ONCE) == 0);
}

static void finish(run *r)
{
    for (int i = 0; i < 10000 && r->rc == CMIF_OK && !r->ends; i++) {
        turn();
    }
    cmif_request_free(r->request);
    r->request = NULL;
}

static run answer(cmif_upstream *u, const char *json)
{
    run r;
    begin(&r, u, json);
    finish(&r);
    return r;
}

static cmif_str arch = {"llama", 5};

static cmif_code open_with(cmif_rows_kind kind, const cmif_embed *table, bool any, cmif_upstream **out, cmif_err *err)
{
    static const uint8_t id[32] = {1};
    char                 url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", there.port);
    const cmif_rows_options options = {.there       = {.url = url, .model = "m", .name = "here", .silence_seconds = 5},
                                       .kind        = kind,
                                       .any_version = any,
                                       .model_id    = id,
                                       .arch        = arch,
                                       .tokenizer   = tokenizer,
                                       .no_chat     = "the model has no chat format",
                                       .embed       = table};
    return cmif_rows_new(base, &options, out, err);
}

static cmif_upstream *opened(cmif_rows_kind kind)
{
    cmif_upstream *u = NULL;
    CHECK(open_with(kind, embed, false, &u, NULL) == CMIF_OK);
    return u;
}

/* Until its state is not STARTING. */
static cmif_upstream_state settled(cmif_upstream *u, char sentence[static 256])
{
    cmif_upstream_state state = CMIF_UPSTREAM_STARTING;
    for (int i = 0; i < 1000 && state == CMIF_UPSTREAM_STARTING; i++) {
        turn();
        state = u->kind->state(u, sentence, 256);
    }
    return state;
}

/* ---- what leaves ---- */

static bool has_only(const json_t *object, const char *const *names)
{
    const char *key;
    json_t     *value;
    size_t      found = 0, count = 0;
    json_object_foreach((json_t *) object, key, value)
    {
        bool known = false;
        for (const char *const *name = names; *name; name++) {
            known = known || !strcmp(*name, key);
        }
        found += known;
        count++;
    }
    while (*names++) {
        count -= count > 0;
    }
    return count == 0 && found == json_object_size(object);
}

static cmif_ids ids_of(const char *text)
{
    cmif_released *released;
    cmif_ids       ids = {0};
    CHECK(cmif_dp_release_identity(text, strlen(text), &released, NULL) == CMIF_OK);
    cmif_part part = {.text = released, .size = strlen(text)};
    CHECK(cmif_tokenizer_put_start(tokenizer, &ids, NULL) == CMIF_OK);
    CHECK(cmif_tokenizer_encode(tokenizer, &part, 1, &ids, NULL) == CMIF_OK);
    cmif_released_free(released);
    return ids;
}

static void vllm_gets_rows_and_a_few_numbers(void)
{
    static const char *const names[] = {"model",  "max_tokens",         "temperature",    "top_p",         "top_k",
                                        "min_p",  "repetition_penalty", "stop_token_ids", "stop",          "seed",
                                        "stream", "stream_options",     "cache_salt",     "prompt_embeds", NULL};
    is_vllm();
    cmif_upstream *u = opened(CMIF_ROWS_VLLM);
    run            r = answer(u, "{\"model\": \"here\", \"prompt\": \"" CANARY
                                 "\", \"max_tokens\": 7, \"temperature\": 0.7, \"seed\": -3, \"stop\": \"x\\\"y\"}");
    CHECK(r.rc == CMIF_OK && r.end == CMIF_CALL_DONE && !strcmp(r.text, "Once upon") &&
          r.finish == CMIF_FINISH_LENGTH && r.prompt == 5);
    CHECK(there.called == 1 && !strcmp(there.path, "/v1/completions"));
    CHECK(there.body && !memmem(there.body, there.size, "arisol", 6) && !memmem(there.body, there.size, "zebra", 5));
    json_t *body = json_loads(there.body ? there.body : "", 0, NULL);
    CHECK(body && has_only(body, names));
    CHECK(json_integer_value(json_object_get(body, "max_tokens")) == 7 &&
          json_integer_value(json_object_get(body, "seed")) == -3);
    CHECK(fabs(json_real_value(json_object_get(body, "temperature")) - 0.7) < 1e-9 &&
          json_is_true(json_object_get(body, "stream")));
    CHECK(json_real_value(json_object_get(body, "repetition_penalty")) == 1);
    CHECK(!strcmp(json_string_value(json_array_get(json_object_get(body, "stop"), 0)), "x\"y"));
    CHECK(json_string_length(json_object_get(body, "cache_salt")) == 32);

    const char  *text  = json_string_value(json_object_get(body, "prompt_embeds"));
    const size_t size  = text ? strlen(text) : 0;
    uint8_t     *bytes = calloc(1, size + 1);
    cmif_ids     ids   = ids_of(CANARY);
    cmif_tensor  t     = {0};
    CHECK(size % 4 == 0 && EVP_DecodeBlock(bytes, (const uint8_t *) text, (int) size) > 0);
    CHECK(cmif_tensor_new(CMIF_ROWS_F32, ids.count, cmif_embed_width(embed), &t, NULL) == CMIF_OK);
    CHECK(cmif_embed_rows(embed, &ids, 0, ids.count, CMIF_ROWS_F32, t.rows, NULL) == CMIF_OK);
    cmif_tensor_filled(&t, t.rows_size);
    CHECK(ids.count > 3 && size == (t.size + 2) / 3 * 4 && !memcmp(bytes, t.bytes, t.size));
    cmif_tensor_free(&t);
    cmif_ids_free(&ids);
    free(bytes);
    json_decref(body);
    u->kind->free(u);
}

static void sglang_gets_rows_and_a_few_numbers(void)
{
    static const char *const        names[] = {"sampling_params", "stream", "input_embeds", NULL},
                             *const how[] = {"max_new_tokens",     "temperature",    "top_p",         "top_k", "min_p",
                                             "repetition_penalty", "stop_token_ids", "sampling_seed", NULL};
    is_sglang();
    cmif_upstream *u = opened(CMIF_ROWS_SGLANG);
    run            r =
        answer(u, "{\"model\": \"here\", \"prompt\": \"" CANARY "\", \"max_tokens\": 7, \"seed\": 9007199254740991}");
    CHECK(r.rc == CMIF_OK && r.end == CMIF_CALL_DONE && !strcmp(r.text, "Once upon") &&
          r.finish == CMIF_FINISH_LENGTH && r.prompt == 5);
    CHECK(there.called == 1 && !strcmp(there.path, "/generate") && there.body &&
          !memmem(there.body, there.size, "arisol", 6));
    json_t       *body = json_loads(there.body ? there.body : "", 0, NULL);
    const json_t *list = json_object_get(body, "input_embeds"), *params = json_object_get(body, "sampling_params");
    cmif_ids      ids   = ids_of(CANARY);
    const size_t  width = cmif_embed_width(embed);
    float        *rows  = calloc(ids.count * width, sizeof *rows);
    CHECK(body && has_only(body, names) && has_only(params, how));
    CHECK(json_integer_value(json_object_get(params, "sampling_seed")) <= INT32_MAX &&
          json_integer_value(json_object_get(params, "sampling_seed")) >= 0);
    CHECK(cmif_embed_rows(embed, &ids, 0, ids.count, CMIF_ROWS_F32, rows, NULL) == CMIF_OK);
    CHECK(json_array_size(list) == ids.count);
    bool same = true;
    for (size_t i = 0; i < ids.count; i++) {
        same = same && json_array_size(json_array_get(list, i)) == width;
        for (size_t k = 0; k < width && same; k++) {
            same = (float) json_number_value(json_array_get(json_array_get(list, i), k)) == rows[i * width + k];
        }
    }
    CHECK(same);
    free(rows);
    cmif_ids_free(&ids);
    json_decref(body);
    u->kind->free(u);
}

/* A prompt of many slices is the same as one of one. */
static void a_long_prompt_is_made_in_slices(void)
{
    enum { TOKENS = 9000 };
    is_vllm();
    there.models = "{\"data\": [{\"id\": \"m\", \"max_model_len\": 100000}]}";
    char *json = calloc(1, 2 * TOKENS + 100), *text = calloc(1, 2 * TOKENS + 1);
    for (size_t i = 0; i < TOKENS; i++) {
        memcpy(text + 2 * i, i % 7 ? "a " : "b ", 2);
    }
    sprintf(json, "{\"model\": \"here\", \"prompt\": \"%s\"}", text);
    for (cmif_rows_kind kind = CMIF_ROWS_VLLM; kind <= CMIF_ROWS_SGLANG; kind++) {
        kind == CMIF_ROWS_VLLM ? (void) 0 : is_sglang();
        there.models       = "{\"data\": [{\"id\": \"m\", \"max_model_len\": 100000}]}";
        cmif_upstream *u   = opened(kind);
        run            r   = answer(u, json);
        cmif_ids       ids = ids_of(text);
        CHECK(r.end == CMIF_CALL_DONE && !strcmp(r.text, "Once upon") && ids.count > TOKENS);
        json_t *body = json_loads(there.body ? there.body : "", 0, NULL);
        if (kind == CMIF_ROWS_VLLM) {
            cmif_tensor t     = {0};
            const char *b64   = json_string_value(json_object_get(body, "prompt_embeds"));
            uint8_t    *bytes = calloc(1, strlen(b64) + 1);
            CHECK(cmif_tensor_new(CMIF_ROWS_F32, ids.count, cmif_embed_width(embed), &t, NULL) == CMIF_OK);
            CHECK(cmif_embed_rows(embed, &ids, 0, ids.count, CMIF_ROWS_F32, t.rows, NULL) == CMIF_OK);
            cmif_tensor_filled(&t, t.rows_size);
            CHECK(EVP_DecodeBlock(bytes, (const uint8_t *) b64, (int) strlen(b64)) >= (int) t.size &&
                  !memcmp(bytes, t.bytes, t.size));
            cmif_tensor_free(&t);
            free(bytes);
        } else {
            CHECK(json_array_size(json_object_get(body, "input_embeds")) == ids.count);
        }
        json_decref(body);
        cmif_ids_free(&ids);
        u->kind->free(u);
    }
    free(text);
    free(json);
}

/* ---- what never leaves ---- */

static uint8_t table_bytes[512 * 64 * 4];

static cmif_code give_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context, (void) err;
    memcpy(buffer, table_bytes + offset, size);
    return CMIF_OK;
}

/* A row with one bad number, at the last element of the last token of the prompt, ends the call, and nothing was sent.
 */
static void a_row_that_would_harm_others_is_not_sent(void)
{
    static const float bad[]  = {NAN, INFINITY, -INFINITY, 1e30f, -2e4f, 0.5f};
    char               path[] = "/tmp/cmif-rows-test-XXXXXX";
    cmif_ids           ids    = ids_of("Lily");
    is_vllm();
    CHECK(close(mkstemp(path)) == 0);
    for (cmif_row_type type = CMIF_ROWS_F32; type <= CMIF_ROWS_BF16; type++) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            static const uint32_t ggml[]  = {0, CMIF_GGML_F32, CMIF_GGML_F16, CMIF_GGML_BF16};
            const size_t          size    = cmif_row_size(type, 64);
            float                 row[64] = {[63] = bad[i]};
            cmif_gguf_out        *out     = NULL;
            cmif_gguf            *made    = NULL;
            cmif_embed           *table   = NULL;
            cmif_upstream        *u       = NULL;
            memset(table_bytes, 0, sizeof table_bytes);
            cmif_row_encode(type, row, table_bytes + (size_t) ids.at[ids.count - 1] * size, 64);
            CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
            CHECK(cmif_gguf_put_tensor(out, "token_embd.weight", ggml[type], 2, (uint64_t[4]){64, 512}, give_bytes,
                                       NULL, NULL) == CMIF_OK);
            CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK &&
                  cmif_gguf_open(path, &made, NULL) == CMIF_OK);
            CHECK(cmif_embed_open(made, &table, NULL) == CMIF_OK &&
                  open_with(CMIF_ROWS_VLLM, table, false, &u, NULL) == CMIF_OK);
            there.called = 0;
            run r        = answer(u, "{\"model\": \"here\", \"prompt\": \"Lily\"}");
            if (i == 5) {
                CHECK(r.end == CMIF_CALL_DONE && there.called == 1);
            } else {
                CHECK(r.ends == 1 && r.end == CMIF_CALL_REFUSED && strstr(r.sentence, "not finite, or too large") &&
                      there.called == 0);
            }
            u->kind->free(u);
            cmif_embed_free(table);
            cmif_gguf_free(made);
            cmif_gguf_out_free(out);
        }
    }
    unlink(path);
    cmif_ids_free(&ids);
}

static void what_rows_cannot_do_is_refused_by_name(void)
{
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"{\"model\": \"here\", \"input\": \"x\"}", "model: it makes text and no vectors"},
        {"{\"model\": \"here\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
         "messages: the model has no chat format"},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"echo\": true}", "echo: "},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"suffix\": \"y\"}", "suffix: "},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"logprobs\": 1}", "logprobs: "},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"n\": 2}", "n: "},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"presence_penalty\": 1}", "presence_penalty: "},
        {"{\"model\": \"here\", \"prompt\": \"x\", \"repetition_penalty\": 1.1}", "repetition_penalty: "},
        {"{\"model\": \"here\", \"prompt\": [\"x\", \"y\"]}", "prompt: one at a time"},
    };
    is_vllm();
    cmif_upstream *u = opened(CMIF_ROWS_VLLM);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run r = answer(u, cases[i].json);
        CHECK(r.rc == CMIF_E_RANGE && !strncmp(r.err.text, cases[i].says, strlen(cases[i].says)));
    }
    CHECK(there.called == 0);
    u->kind->free(u);
}

/* Longer than what the server said of its context: refused here, with both numbers. */
static void the_servers_context_is_known(void)
{
    char json[4096] = "{\"model\": \"here\", \"prompt\": \"", sentence[256];
    is_vllm();
    for (int i = 0; i < 600; i++) {
        strcat(json, "a ");
    }
    strcat(json, "\"}");
    cmif_upstream *u = opened(CMIF_ROWS_VLLM);
    CHECK(settled(u, sentence) == CMIF_UPSTREAM_READY);
    run r = answer(u, json);
    CHECK(r.rc == CMIF_E_RANGE && strstr(r.err.text, "the context holds 511") && there.called == 0);
    r            = answer(u, "{\"model\": \"here\", \"prompt\": \"a\", \"max_tokens\": 100000}");
    json_t *body = json_loads(there.body ? there.body : "", 0, NULL);
    CHECK(r.end == CMIF_CALL_DONE && json_integer_value(json_object_get(body, "max_tokens")) < 512);
    json_decref(body);
    u->kind->free(u);
}

/* ---- who the server is ---- */

static void versions_with_holes_are_refused(void)
{
    static const struct {
        cmif_rows_kind kind;
        const char    *version;
        bool           good;
    } cases[] = {{CMIF_ROWS_VLLM, "0.26.0", true},
                 {CMIF_ROWS_VLLM, "0.32.0+cpu", true},
                 {CMIF_ROWS_VLLM, "1.0.0", true},
                 {CMIF_ROWS_VLLM, "0.27.0rc1", true},
                 {CMIF_ROWS_VLLM, "0.26.0.post1", true},
                 {CMIF_ROWS_VLLM, "0.25.9", false},
                 {CMIF_ROWS_VLLM, "0.26.0rc1", false},
                 {CMIF_ROWS_VLLM, "0.26.0.dev3", false},
                 {CMIF_ROWS_VLLM, "0.3.0", false},
                 {CMIF_ROWS_VLLM, "0.1.dev1+g1", false},
                 {CMIF_ROWS_VLLM, "", false},
                 {CMIF_ROWS_VLLM, "latest", false},
                 {CMIF_ROWS_VLLM, NULL, false},
                 {CMIF_ROWS_VLLM, "-", false} /* it says something else */,
                 {CMIF_ROWS_VLLM, "99999999.0.0", false},
                 {CMIF_ROWS_SGLANG, "0.5.23", true},
                 {CMIF_ROWS_SGLANG, "0.5.10", false},
                 {CMIF_ROWS_SGLANG, "0.6.0", true},
                 {CMIF_ROWS_SGLANG, NULL, false}};
    char sentence[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i].kind == CMIF_ROWS_VLLM ? is_vllm() : is_sglang();
        there.version    = cases[i].version;
        cmif_upstream *u = opened(cases[i].kind);
        CHECK(u->kind->state(u, sentence, sizeof sentence) == CMIF_UPSTREAM_STARTING);
        run r =
            answer(u, "{\"model\": \"here\", \"prompt\": \"" CANARY "\"}"); /* it waits until the server has said it */
        CHECK(r.ends == 1 && (r.end == CMIF_CALL_DONE) == cases[i].good && there.called == (cases[i].good ? 1 : 0));
        CHECK(u->kind->state(u, sentence, sizeof sentence) ==
              (cases[i].good ? CMIF_UPSTREAM_READY : CMIF_UPSTREAM_DOWN));
        if (!cases[i].good) {
            CHECK(r.end == CMIF_CALL_UNTRUSTED &&
                  (strstr(r.sentence, "or later") || strstr(r.sentence, "does not say which version")));
        }
        u->kind->free(u);
    }
    for (cmif_rows_kind kind = CMIF_ROWS_VLLM; kind <= CMIF_ROWS_SGLANG; kind++) { /* unless somebody answers for it */
        cmif_upstream *u = NULL;
        kind == CMIF_ROWS_VLLM ? is_vllm() : is_sglang();
        there.version = kind == CMIF_ROWS_VLLM ? NULL : "0.0.1";
        CHECK(open_with(kind, embed, true, &u, NULL) == CMIF_OK);
        run r = answer(u, "{\"model\": \"here\", \"prompt\": \"x\"}");
        CHECK(r.end == CMIF_CALL_DONE && there.called == 1);
        u->kind->free(u);
    }
}

static void a_start_that_rows_would_harm_is_refused(void)
{
    static const struct {
        const char *about, *says;
    } cases[] = {{", \"dtype\": \"bfloat16\"", "--disable-radix-cache"},
                 {", \"dtype\": \"bfloat16\", \"disable_radix_cache\": false", "--disable-radix-cache"},
                 {", \"dtype\": \"float32\", \"disable_radix_cache\": true", "--dtype bfloat16"},
                 {", \"disable_radix_cache\": true", "--dtype bfloat16"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        is_sglang();
        there.about      = cases[i].about;
        cmif_upstream *u = opened(CMIF_ROWS_SGLANG);
        run            r = answer(u, "{\"model\": \"here\", \"prompt\": \"x\"}");
        CHECK(r.end == CMIF_CALL_UNTRUSTED && strstr(r.sentence, cases[i].says) && there.called == 0);
        u->kind->free(u);
    }
    is_vllm();
    there.models     = "{\"data\": [{\"id\": \"other\"}]}";
    cmif_upstream *u = opened(CMIF_ROWS_VLLM);
    run            r = answer(u, "{\"model\": \"here\", \"prompt\": \"x\"}");
    CHECK(r.end == CMIF_CALL_UNTRUSTED && strstr(r.sentence, "no model of that name") && there.called == 0);
    u->kind->free(u);
}

/* It goes, calls fail; it comes back, and is asked again before anything is sent: an old one in its place is refused.
 */
static void a_server_that_comes_back_is_asked_again(void)
{
    static const char *const json = "{\"model\": \"here\", \"prompt\": \"x\"}";
    char                     sentence[256];
    is_vllm();
    cmif_upstream *u = opened(CMIF_ROWS_VLLM);
    CHECK(answer(u, json).end == CMIF_CALL_DONE && there.asked == 2);
    CHECK(answer(u, json).end == CMIF_CALL_DONE && there.asked == 2); /* not before every call */
    evhttp_free(there.http);
    CHECK(answer(u, json).end == CMIF_CALL_UNREACHABLE);
    CHECK(u->kind->state(u, sentence, sizeof sentence) == CMIF_UPSTREAM_DOWN && *sentence);
    CHECK(answer(u, json).end == CMIF_CALL_UNREACHABLE);
    is_vllm();
    there.version = "0.11.0";
    listens();
    CHECK(answer(u, json).end == CMIF_CALL_UNTRUSTED && there.called == 0);
    there.version = "0.32.0";
    CHECK(answer(u, json).end == CMIF_CALL_DONE && there.called == 1);
    CHECK(u->kind->state(u, sentence, sizeof sentence) == CMIF_UPSTREAM_READY);
    u->kind->free(u);
}

/* A call that comes between two questions does not disturb them. */
static void a_call_may_come_at_any_moment_of_the_questions(void)
{
    for (cmif_rows_kind kind = CMIF_ROWS_VLLM; kind <= CMIF_ROWS_SGLANG; kind++) {
        for (int turns = 0; turns < 12; turns++) {
            kind == CMIF_ROWS_VLLM ? is_vllm() : is_sglang();
            cmif_upstream *u = opened(kind);
            for (int i = 0; i < turns && there.asked < 2; i++) {
                turn();
            }
            run r = answer(u, "{\"model\": \"here\", \"prompt\": \"x\"}");
            CHECK(r.end == CMIF_CALL_DONE && there.asked == 2);
            u->kind->free(u);
        }
    }
}

static void a_model_whose_rows_others_scale_is_refused(void)
{
    static const char *const names[] = {"gemma", "gemma3", "granite", "minicpm", "bert", "llama-embed", "llam", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cmif_upstream *u = NULL;
        arch             = (cmif_str){names[i], strlen(names[i])};
        CHECK(open_with(CMIF_ROWS_VLLM, embed, true, &u, NULL) == CMIF_E_UNSUPPORTED && !u);
    }
    arch = (cmif_str){"llama", 5};
}

static void what_is_not_this_machine_is_not_asked_in_the_clear(void)
{
    static const struct {
        const char *url;
        bool        good;
    } cases[] = {{"http://127.0.0.1:1", true},
                 {"http://localhost:1/v1/", true},
                 {"http://[::1]:1", true},
                 {"http://127.evil.example", false},
                 {"http://192.0.2.1:8000", false},
                 {"http://localhost.example", false},
                 {"https://192.0.2.1:8000/api/v1", true},
                 {"ftp://127.0.0.1", false},
                 {"127.0.0.1:8000", false},
                 {"http://me:secret@127.0.0.1:1", false},
                 {"http://127.0.0.1:1/?key=x", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cmif_openai_options options = {.url = cases[i].url, .model = "m"};
        cmif_upstream            *u       = NULL;
        CHECK(cmif_openai_new(base, &options, &u, NULL) == (cases[i].good ? CMIF_OK : CMIF_E_RANGE));
        if (u) {
            u->kind->free(u);
        }
    }
    const cmif_openai_options pinned = {.url   = "https://127.0.0.1:1",
                                        .model = "m",
                                        .pin =
                                            "sha256:00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff"};
    cmif_upstream            *u      = NULL;
    CHECK(cmif_openai_new(base, &pinned, &u, NULL) == CMIF_OK); /* capitals are welcome */
    u ? u->kind->free(u) : (void) 0;
}

static void what_a_server_says_in_an_error_is_not_passed_on(void)
{
    static const struct {
        int           status;
        cmif_call_end end;
    } cases[] = {{400, CMIF_CALL_REFUSED}, {401, CMIF_CALL_UNTRUSTED},   {404, CMIF_CALL_REFUSED},
                 {429, CMIF_CALL_BUSY},    {500, CMIF_CALL_UNREACHABLE}, {503, CMIF_CALL_BUSY}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        is_vllm();
        there.status     = cases[i].status;
        there.events     = "{\"error\": {\"message\": \"you said: " CANARY "\"}}";
        cmif_upstream *u = opened(CMIF_ROWS_VLLM);
        run            r = answer(u, "{\"model\": \"here\", \"prompt\": \"" CANARY "\"}");
        CHECK(r.ends == 1 && r.end == cases[i].end && *r.sentence && !strstr(r.sentence, "arisol") && !*r.text);
        u->kind->free(u);
    }
}

/* ---- answers ---- */

static void an_answer_of_sglang_is_taken_apart(void)
{
    static const struct {
        const char   *about, *events, *text;
        cmif_call_end end;
    } cases[] = {
        {"",
         GENERATED("a", "null") GENERATED("a", "null") GENERATED("ab\\u00e9", "{\"type\": \"stop\", \"matched\": 2}")
             DONE,
         "ab\xc3\xa9", CMIF_CALL_DONE},
        {"", GENERATED("a b", "null") GENERATED("a", "{\"type\": \"stop\"}") DONE, "a b",
         CMIF_CALL_DONE}, /* the begin of a stop */
        {", \"incremental_streaming_output\": true",
         GENERATED("a", "null") GENERATED("a", "null") GENERATED("b", "{\"type\": \"stop\"}") DONE, "aab",
         CMIF_CALL_DONE},
        {"", GENERATED("ab", "null") GENERATED("ac", "null") DONE, "ab", CMIF_CALL_LIED},
        {"", GENERATED("ab", "null") GENERATED("a", "null") DONE, "ab", CMIF_CALL_LIED},
        {"", GENERATED("ab", "null") GENERATED("a", "{\"type\": \"length\"}") DONE, "ab", CMIF_CALL_LIED},
        {"", GENERATED("ab", "{\"type\": \"abort\", \"message\": \"" CANARY "\"}") DONE, "", CMIF_CALL_LIED},
        {"", GENERATED("ab", "null"), "ab", CMIF_CALL_LIED}, /* it broke off */
        {"", "data: {\"error\": {\"message\": \"" CANARY "\"}}\n\n" DONE, "", CMIF_CALL_LIED},
        {"", "data: {\"text\": 5, \"meta_info\": {}}\n\n" DONE, "", CMIF_CALL_LIED},
        {"", "data: {\"text\": \"a\"}\n\n" DONE, "", CMIF_CALL_LIED},
        {"", CHUNK("a", "\"stop\"") DONE, "", CMIF_CALL_LIED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char about[200];
        is_sglang();
        snprintf(about, sizeof about, "%s%s", there.about, cases[i].about);
        there.about      = about;
        there.events     = cases[i].events;
        cmif_upstream *u = opened(CMIF_ROWS_SGLANG);
        run            r = answer(u, "{\"model\": \"here\", \"prompt\": \"x\"}");
        CHECK(r.ends == 1 && r.end == cases[i].end && !strcmp(r.text, cases[i].text) && !strstr(r.sentence, "arisol"));
        CHECK(r.end != CMIF_CALL_DONE || r.finishes == 1);
        u->kind->free(u);
    }
}

/* After a cancel nothing is heard of a call, wherever it was; others go on. */
static void a_cancel_ends_a_call_wherever_it_is(void)
{
    static const char *const json = "{\"model\": \"here\", \"prompt\": \"Once upon a time there was a cat\"}";
    for (int turns = 0; turns < 30; turns++) {
        run a, b;
        is_vllm();
        cmif_upstream *u = opened(CMIF_ROWS_VLLM);
        begin(&a, u, json);
        begin(&b, u, json);
        for (int i = 0; i < turns && !a.ends; i++) {
            turn();
        }
        if (a.call) {
            u->kind->cancel(a.call);
        }
        finish(&b);
        CHECK(b.end == CMIF_CALL_DONE && !strcmp(b.text, "Once upon") && (a.call == NULL || a.ends == 0));
        cmif_request_free(a.request);
        u->kind->free(u);
    }
    cmif_upstream *u = opened(CMIF_ROWS_VLLM); /* freed while it is asked */
    u->kind->free(u);
}

int main(void)
{
    if (access(STORIES, R_OK) != 0) {
        return check_skip("no shared/models/stories260K");
    }
    base = event_base_new();
    CHECK(cmif_gguf_open(STORIES, &file, NULL) == CMIF_OK && cmif_tokenizer_open(file, &tokenizer, NULL) == CMIF_OK);
    CHECK(cmif_embed_open(file, &embed, NULL) == CMIF_OK);
    listens();
    RUN(the_container_is_byte_by_byte_what_torch_reads);
    RUN(a_container_says_which_type_its_values_have);
    RUN(what_is_no_tensor_is_refused);
    RUN(vllm_gets_rows_and_a_few_numbers);
    RUN(sglang_gets_rows_and_a_few_numbers);
    RUN(a_long_prompt_is_made_in_slices);
    RUN(a_row_that_would_harm_others_is_not_sent);
    RUN(what_rows_cannot_do_is_refused_by_name);
    RUN(the_servers_context_is_known);
    RUN(versions_with_holes_are_refused);
    RUN(a_start_that_rows_would_harm_is_refused);
    RUN(a_server_that_comes_back_is_asked_again);
    RUN(a_call_may_come_at_any_moment_of_the_questions);
    RUN(a_model_whose_rows_others_scale_is_refused);
    RUN(what_is_not_this_machine_is_not_asked_in_the_clear);
    RUN(what_a_server_says_in_an_error_is_not_passed_on);
    RUN(an_answer_of_sglang_is_taken_apart);
    RUN(a_cancel_ends_a_call_wherever_it_is);
    evhttp_free(there.http);
    free(there.body);
    cmif_embed_free(embed);
    cmif_tokenizer_free(tokenizer);
    cmif_gguf_free(file);
    event_base_free(base);
    return check_report();
}
