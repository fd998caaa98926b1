#include "gateway/reply.h"

#include <inttypes.h>
#include <math.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHOICES_MAX = 64,
    TOOLS_MAX   = 128,
    CHUNK_UNIT  = 64, /* sizes of padded chunks are multiples of it */
    PADDING_MAX = 32 + CHUNK_UNIT
};

typedef struct tool { /* arguments are held until they are whole, so that keys that were renamed come back, too */
    char       *name;
    cmif_secret arguments;
} tool;

typedef struct choice {
    bool          begun, finished;
    cmif_finish   reason;
    cmif_restore *text, *refusal, *tokens; /* NULL: not begun */
    cmif_secret   came, shown, refused;    /* content as it came, and as it is shown; the refusal as it is shown */
    tool         *tools;
    size_t        tool_count;
    json_t       *logprobs; /* in a stream the last ones that came: they wait for what they still hold */
    bool          placed;   /* of a completion's tokens: where the next one stands */
    json_int_t    place;
} choice;

struct cmif_reply {
    cmif_reply_options o;
    char               id[48];
    choice             choices[CHOICES_MAX];
    uint32_t           choice_count;
    uint32_t           vectors; /* that were written */
    cmif_call_usage    usage;
    bool               showed;    /* the client was told what left */
    bool        has_usage, whole; /* whole: content is JSON with keys that were renamed: held until it is there */
    cmif_secret all;              /* what came, of all choices */
};

/* ---- errors ---- */

static cmif_code no_memory(cmif_err *err)
{
    return cmif_fail(err, CMIF_E_MEMORY, "no memory for an answer");
}

/* value or null, into object; takes the reference. */
static bool put(json_t *object, const char *key, json_t *value)
{
    return value && json_object_set_new(object, key, value) == 0;
}

static json_t *text_of(const cmif_secret *s)
{
    return json_stringn(s->size ? (const char *) s->data : "", s->size);
}

cmif_code cmif_reply_error(cmif_secret *out, const char *message, const char *type, const char *param, const char *code,
                           cmif_err *err)
{
    json_t   *tree = json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", message, "type", type, "param", param,
                               "code", code);
    char     *text = tree ? json_dumps(tree, JSON_COMPACT) : NULL;
    cmif_code rc   = text ? cmif_secret_append(out, text, strlen(text), err) : no_memory(err);
    free(text);
    json_decref(tree);
    return rc;
}

/* ---- sending ---- */

static bool streams(const cmif_reply *r)
{
    return r->o.request->stream && r->o.request->endpoint != CMIF_ENDPOINT_EMBEDDINGS;
}

static bool chats(const cmif_reply *r)
{
    return r->o.request->endpoint == CMIF_ENDPOINT_CHAT;
}

/* In place of the "}" of an object of size bytes: its size then tells sizes of words in steps only. Its own size; 0: no
 * randomness. */
static size_t pad(char out[static PADDING_MAX], size_t size)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    static const char before[] = ",\"obfuscation\":\"", after[] = "\"}";
    unsigned char     random[CHUNK_UNIT];
    char             *end = stpcpy(out, before);
    const size_t      n   = CHUNK_UNIT - (size + sizeof before - 1 + sizeof after - 2) % CHUNK_UNIT;
    if (RAND_bytes(random, (int) n) != 1) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        *end++ = letters[random[i] % 64];
    }
    return (size_t) (stpcpy(end, after) - out);
}

/* Send object, and drop it: as an event of a stream, or as the whole answer. NULL: no memory was left for it. */
static cmif_code send_object(cmif_reply *r, json_t *object, cmif_err *err)
{
    const bool   event = streams(r), pads = event && r->o.request->obfuscation;
    char         padding[PADDING_MAX];
    char        *text   = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    const size_t size   = text ? strlen(text) : 0;
    const size_t padded = text && pads ? pad(padding, size) : 0;
    cmif_code    rc     = text && (padded || !pads) ? CMIF_OK : no_memory(err);
    if (rc == CMIF_OK && event) {
        rc = r->o.sink(r->o.context, "data: ", 6, err);
    }
    if (rc == CMIF_OK) {
        rc = r->o.sink(r->o.context, text, size - pads, err);
    }
    if (rc == CMIF_OK && pads) {
        rc = r->o.sink(r->o.context, padding, padded, err);
    }
    if (rc == CMIF_OK && event) {
        rc = r->o.sink(r->o.context, "\n\n", 2, err);
    }
    free(text);
    json_decref(object);
    return rc;
}

static json_t *frame(const cmif_reply *r)
{
    const char *object = !chats(r) ? "text_completion" : streams(r) ? "chat.completion.chunk" : "chat.completion";
    return json_pack("{s:s, s:s, s:I, s:s}", "id", r->id, "object", object, "created", (json_int_t) r->o.created,
                     "model", r->o.model);
}

static const char *finish_name(cmif_finish reason)
{
    static const char *const names[] = {"stop", "length", "tool_calls", "content_filter"};
    return (unsigned) reason < 4 ? names[reason] : "stop";
}

/* One chunk of a stream: delta (taken) of a chat, or text of a completion. reason NULL: it goes on. */
static cmif_code send_chunk(cmif_reply *r, uint32_t index, json_t *delta, json_t *logprobs, const char *reason,
                            json_t *extension, cmif_err *err)
{
    json_t *object = frame(r),
           *one    = json_pack("{s:i, s:o, s:o, s:s?}", "index", (int) index, chats(r) ? "delta" : "text", delta,
                               "logprobs", logprobs ? logprobs : json_null(), "finish_reason", reason);
    json_t *list   = one ? json_pack("[o]", one) : NULL;
    bool    good   = object && list && put(object, "choices", list);
    if (good && r->o.request->include_usage) {
        good = put(object, "usage", json_null());
    }
    if (good && extension) {
        good = json_object_set(object, "cmif", extension) == 0;
    } else if (good && r->o.request->left && !r->showed) { /* at once: before the answer is there */
        r->showed = true;
        good      = put(object, "cmif", json_pack("{s:O}", "left", r->o.request->left));
    }
    if (!good) {
        json_decref(object);
        return no_memory(err);
    }
    return send_object(r, object, err);
}

/* ---- choices ---- */

static cmif_code choice_at(cmif_reply *r, uint32_t index, choice **out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (index >= CHOICES_MAX) {
        return cmif_fail(err, CMIF_E_PEER, "the upstream sent choice %u of at most %d", index, CHOICES_MAX);
    }
    choice *c       = &r->choices[index];
    r->choice_count = index >= r->choice_count ? index + 1 : r->choice_count;
    if (!c->begun) {
        c->begun = true;
        rc       = cmif_talk_restorer(r->o.talk, r->o.request->has_schema, &c->text, err);
        if (rc == CMIF_OK && streams(r) && chats(r)) {
            rc = send_chunk(r, index, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL, NULL, NULL,
                            err);
        }
    }
    *out = c;
    return rc;
}

static cmif_code send_text(cmif_reply *r, uint32_t index, const char *member, const uint8_t *bytes, size_t size,
                           json_t *logprobs, cmif_err *err)
{
    json_t *text = json_stringn(size ? (const char *) bytes : "", size);
    return send_chunk(r, index, chats(r) && text ? json_pack("{s:o}", member, text) : text, logprobs, NULL, NULL, err);
}

/* What is certain by now goes on; the last piece with `end`. */
static cmif_code restore(cmif_reply *r, uint32_t index, cmif_restore *restorer, const char *member, const char *bytes,
                         size_t size, bool end, cmif_secret *shown, json_t *logprobs, cmif_err *err)
{
    const size_t        before = shown->size;
    cmif_restore_counts counts;
    cmif_code           rc = size ? cmif_restore_feed(restorer, bytes, size, shown, err) : CMIF_OK;
    if (rc == CMIF_OK && end) {
        rc = cmif_restore_end(restorer, shown, &counts, err);
    }
    if (rc == CMIF_OK && streams(r) && (shown->size > before || logprobs)) {
        rc =
            send_text(r, index, member, shown->data ? shown->data + before : NULL, shown->size - before, logprobs, err);
    } else {
        json_decref(logprobs);
    }
    return rc;
}

cmif_code cmif_reply_text(cmif_reply *r, uint32_t index, const char *bytes, size_t size, cmif_err *err)
{
    choice   *c  = NULL;
    cmif_code rc = choice_at(r, index, &c, err);
    if (rc == CMIF_OK) {
        rc = cmif_secret_append(&c->came, bytes, size, err);
    }
    return rc == CMIF_OK && !r->whole ? restore(r, index, c->text, "content", bytes, size, false, &c->shown, NULL, err)
                                      : rc;
}

cmif_code cmif_reply_refusal(cmif_reply *r, uint32_t index, const char *bytes, size_t size, cmif_err *err)
{
    choice   *c  = NULL;
    cmif_code rc = choice_at(r, index, &c, err);
    if (rc == CMIF_OK && !c->refusal) {
        rc = cmif_talk_restorer(r->o.talk, false, &c->refusal, err);
    }
    return rc == CMIF_OK ? restore(r, index, c->refusal, "refusal", bytes, size, false, &c->refused, NULL, err) : rc;
}

cmif_code cmif_reply_tool(cmif_reply *r, uint32_t index, uint32_t at, const char *name, size_t name_size,
                          const char *arguments, size_t size, cmif_err *err)
{
    choice   *c  = NULL;
    cmif_code rc = choice_at(r, index, &c, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (at >= TOOLS_MAX || at > c->tool_count || (at == c->tool_count) != (name_size > 0)) {
        return cmif_fail(err, CMIF_E_PEER, "the upstream sent tool calls out of order");
    }
    if (at == c->tool_count) {
        tool *more = realloc(c->tools, (c->tool_count + 1) * sizeof *more);
        if (!more) {
            return no_memory(err);
        }
        c->tools      = more;
        c->tools[at]  = (tool){.name = strndup(name, name_size)};
        c->tool_count = at + 1;
        if (!c->tools[at].name) {
            return no_memory(err);
        }
    }
    return cmif_secret_append(&c->tools[at].arguments, arguments, size, err);
}

static size_t characters(const cmif_secret *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->size; i++) {
        n += (text->data[i] & 0xc0) != 0x80;
    }
    return n;
}

/* Tokens of text that was put together anew: what a token's text became stands with the token at which it was certain,
 * so that they still make up the text. Alternatives stay as they came. A chat's are objects in "content"; a
 * completion's strings in "tokens", with their places in "text_offset". */
static json_t *restored_tokens(choice *c, const json_t *logprobs)
{
    json_t     *out = json_deep_copy(logprobs), *list = json_object_get(out, "content"), *token;
    json_t     *plain = json_object_get(out, "tokens"), *places = json_object_get(out, "text_offset");
    cmif_secret text = {0};
    size_t      i;
    bool        good = out != NULL;
    if (!c->placed && json_is_integer(json_array_get(places, 0))) {
        c->placed = true;
        c->place  = json_integer_value(json_array_get(places, 0));
    }
    json_array_foreach(json_is_array(list) ? list : plain, i, token)
    {
        const json_t *came = json_is_array(list) ? json_object_get(token, "token") : token;
        text.size          = 0;
        good               = good && json_is_string(came) &&
               cmif_restore_feed(c->tokens, json_string_value(came), json_string_length(came), &text, NULL) == CMIF_OK;
        if (good && json_is_array(list)) {
            good = put(token, "token", text_of(&text)) && put(token, "bytes", json_null());
        } else if (good) {
            good = json_array_set_new(plain, i, text_of(&text)) == 0 &&
                   (i >= json_array_size(places) || json_array_set_new(places, i, json_integer(c->place)) == 0);
            c->place += (json_int_t) characters(&text);
        }
    }
    cmif_secret_wipe(&text);
    if (!good) {
        json_decref(out);
    }
    return good ? out : NULL;
}

/* What the last token still held is its text. */
static cmif_code end_tokens(choice *c, cmif_err *err)
{
    json_t             *list = json_object_get(c->logprobs, "content"), *plain = json_object_get(c->logprobs, "tokens");
    json_t             *all   = json_is_array(list) ? list : plain;
    const size_t        size  = json_array_size(all);
    json_t             *last  = size ? json_array_get(all, size - 1) : NULL;
    const json_t       *text  = json_is_array(list) ? json_object_get(last, "token") : last;
    cmif_secret         whole = {0};
    cmif_restore_counts counts;
    cmif_code           rc = cmif_secret_append(&whole, json_string_value(text), json_string_length(text), err);
    if (rc == CMIF_OK) {
        rc = cmif_restore_end(c->tokens, &whole, &counts, err);
    }
    if (rc == CMIF_OK && last) {
        const bool good = json_is_array(list) ? put(last, "token", text_of(&whole))
                                              : json_array_set_new(plain, size - 1, text_of(&whole)) == 0;
        rc              = good ? CMIF_OK : no_memory(err);
    }
    cmif_secret_wipe(&whole);
    return rc;
}

cmif_code cmif_reply_logprobs(cmif_reply *r, uint32_t index, const json_t *logprobs, cmif_err *err)
{
    choice   *c  = NULL;
    cmif_code rc = choice_at(r, index, &c, err);
    if (rc == CMIF_OK && !c->tokens) {
        rc = cmif_talk_restorer(r->o.talk, false, &c->tokens, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    json_t *tokens = restored_tokens(c, logprobs);
    if (!tokens) {
        return no_memory(err);
    }
    if (streams(r)) {
        json_t *before = c->logprobs;
        c->logprobs    = tokens;
        return before ? restore(r, index, c->text, "content", "", 0, false, &c->shown, before, err) : CMIF_OK;
    }
    if (!c->logprobs) {
        c->logprobs = tokens;
        return CMIF_OK;
    }
    const char *key;
    json_t     *more;
    int         failed = 0;
    json_object_foreach(tokens, key, more)
    { /* chats have "content" and "refusal", completions lists side by side */
        json_t *have = json_object_get(c->logprobs, key);
        failed |= !json_is_array(more)  ? 0
                  : json_is_array(have) ? json_array_extend(have, more)
                                        : json_object_set(c->logprobs, key, more);
    }
    json_decref(tokens);
    return failed ? no_memory(err) : CMIF_OK;
}

cmif_code cmif_reply_finish(cmif_reply *r, uint32_t index, cmif_finish reason, cmif_err *err)
{
    choice   *c  = NULL;
    cmif_code rc = choice_at(r, index, &c, err);
    if (rc == CMIF_OK) {
        c->finished = true;
        c->reason   = reason;
    }
    return rc;
}

static json_t *usage_json(const cmif_reply *r)
{
    const cmif_call_usage *u = &r->usage;
    if (!r->has_usage) {
        return json_null();
    }
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", (json_int_t) u->prompt, "completion_tokens",
                     (json_int_t) u->completion, "total_tokens", (json_int_t) (u->prompt + u->completion),
                     "prompt_tokens_details", "cached_tokens", (json_int_t) u->cached);
}

/* Written as they come: thousands of them, of thousands of numbers, are ten times as large in a tree. */
static const char vectors_head[] = "{\"object\":\"list\",\"data\":[";

static cmif_code end_vectors(cmif_reply *r, json_t *extension, cmif_err *err)
{
    json_t *object = json_pack("{s:s}", "model", r->o.model);
    char   *text =
        object && put(object, "usage", usage_json(r)) && (!extension || json_object_set(object, "cmif", extension) == 0)
              ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12))
              : NULL;
    cmif_code rc = text ? CMIF_OK : no_memory(err);
    if (rc == CMIF_OK && !r->vectors) {
        rc = r->o.sink(r->o.context, vectors_head, sizeof vectors_head - 1, err);
    }
    if (rc == CMIF_OK) {
        rc = r->o.sink(r->o.context, "],", 2, err);
    }
    if (rc == CMIF_OK) { /* its other members, in place of the begin */
        rc = r->o.sink(r->o.context, text + 1, strlen(text + 1), err);
    }
    free(text);
    json_decref(object);
    return rc;
}

cmif_code cmif_reply_vector(cmif_reply *r, uint32_t index, const float *values, size_t count, cmif_err *err)
{
    json_t *list = NULL;
    if (index != r->vectors) {
        return cmif_fail(err, CMIF_E_PEER, "the upstream sent vectors out of order");
    }
    if (r->o.request->base64) { /* binary32, little-endian */
        uint8_t *bytes = malloc(4 * count + 1), *text = malloc(4 * (4 * count / 3 + 2) + 1);
        for (size_t i = 0; bytes && i < count; i++) {
            uint32_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            for (int k = 0; k < 4; k++) {
                bytes[4 * i + (size_t) k] = (uint8_t) (bits >> 8 * k);
            }
        }
        if (bytes && text) {
            EVP_EncodeBlock(text, bytes, (int) (4 * count));
            list = json_string((const char *) text);
        }
        free(bytes);
        free(text);
    } else {
        list = json_array();
        for (size_t i = 0; list && i < count; i++) {
            if (json_array_append_new(list, json_real((double) values[i])) != 0) {
                json_decref(list);
                list = NULL;
            }
        }
    }
    json_t *one =
        list ? json_pack("{s:s, s:i, s:o}", "object", "embedding", "index", (int) index, "embedding", list) : NULL;
    const char *before = r->vectors++ ? "," : vectors_head;
    cmif_code   rc     = one ? r->o.sink(r->o.context, before, strlen(before), err) : no_memory(err);
    return rc == CMIF_OK ? send_object(r, one, err) : (json_decref(one), rc);
}

void cmif_reply_usage(cmif_reply *r, const cmif_call_usage *usage)
{
    r->usage     = *usage;
    r->has_usage = true;
}

cmif_code cmif_reply_ping(cmif_reply *r, cmif_err *err)
{
    return streams(r) ? r->o.sink(r->o.context, ": ping\n\n", 8, err) : CMIF_OK;
}

/* ---- JSON that a model wrote, with names that we gave it ---- */

enum { VALUES_MAX = 4096 }; /* of one answer's JSON: each is looked through for surrogates by itself */

static json_t *renamed(const cmif_reply *r, const json_t *value, unsigned depth, size_t *left);

static json_t *renamed_object(const cmif_reply *r, const json_t *value, unsigned depth, size_t *left)
{
    json_t     *out = json_object(), *item;
    const char *key;
    json_object_foreach((json_t *) value, key, item)
    {
        cmif_str name = cmif_talk_name(r->o.talk, (cmif_str){key, strlen(key)});
        json_t  *made = renamed(r, item, depth + 1, left);
        if (!out || !made || json_object_setn_new(out, name.data, name.size, made) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static json_t *renamed_string(const cmif_reply *r, const json_t *value)
{
    const cmif_str text = {json_string_value(value), json_string_length(value)}, name = cmif_talk_name(r->o.talk, text);
    cmif_restore  *restorer = NULL;
    cmif_secret    shown    = {0};
    cmif_restore_counts counts;
    json_t             *out = NULL;
    if (name.data != text.data) {
        return json_stringn(name.data, name.size);
    }
    if (cmif_talk_restorer(r->o.talk, false, &restorer, NULL) == CMIF_OK &&
        cmif_restore_feed(restorer, text.data, text.size, &shown, NULL) == CMIF_OK &&
        cmif_restore_end(restorer, &shown, &counts, NULL) == CMIF_OK) {
        out = text_of(&shown);
    }
    cmif_restore_free(restorer);
    cmif_secret_wipe(&shown);
    return out;
}

/* A number may stand for another one. */
static json_t *renamed_number(const cmif_reply *r, const json_t *value)
{
    char               *text     = json_dumps(value, JSON_ENCODE_ANY);
    cmif_restore       *restorer = NULL;
    cmif_secret         shown    = {0};
    cmif_restore_counts counts;
    json_t             *out = NULL;
    if (text && cmif_talk_restorer(r->o.talk, true, &restorer, NULL) == CMIF_OK &&
        cmif_restore_feed(restorer, text, strlen(text), &shown, NULL) == CMIF_OK &&
        cmif_restore_end(restorer, &shown, &counts, NULL) == CMIF_OK && shown.size) {
        out = json_loadb((const char *) shown.data, shown.size, JSON_DECODE_ANY, NULL);
    }
    out = json_is_number(out) ? out : (json_decref(out), json_deep_copy(value));
    free(text);
    cmif_restore_free(restorer);
    cmif_secret_wipe(&shown);
    return out;
}

static json_t *renamed(const cmif_reply *r, const json_t *value, unsigned depth, size_t *left)
{
    json_t *out, *item;
    size_t  i;
    if (depth > CMIF_REQUEST_DEPTH_MAX || *left == 0) {
        return NULL;
    }
    --*left;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return renamed_object(r, value, depth, left);
    case JSON_ARRAY:
        out = json_array();
        json_array_foreach(value, i, item)
        {
            if (!out || json_array_append_new(out, renamed(r, item, depth + 1, left)) != 0) {
                json_decref(out);
                return NULL;
            }
        }
        return out;
    case JSON_STRING:
        return renamed_string(r, value);
    case JSON_INTEGER:
    case JSON_REAL:
        return renamed_number(r, value);
    default:
        return json_deep_copy(value);
    }
}

/* JSON text with everything put back; text that is none, or too much of it, as text. */
static cmif_code restore_json(const cmif_reply *r, const cmif_secret *came, cmif_secret *out, cmif_err *err)
{
    json_t   *tree = json_loadb(came->size ? (const char *) came->data : "", came->size, JSON_DECODE_ANY, NULL);
    size_t    left = VALUES_MAX;
    json_t   *back = tree ? renamed(r, tree, 0, &left) : NULL;
    char     *text = back ? json_dumps(back, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    cmif_code rc;
    if (text) {
        rc = cmif_secret_append(out, text, strlen(text), err);
    } else {
        cmif_restore       *restorer = NULL;
        cmif_restore_counts counts;
        rc = cmif_talk_restorer(r->o.talk, true, &restorer, err);
        if (rc == CMIF_OK) {
            rc = cmif_restore_feed(restorer, came->data, came->size, out, err);
        }
        if (rc == CMIF_OK) {
            rc = cmif_restore_end(restorer, out, &counts, err);
        }
        cmif_restore_free(restorer);
    }
    free(text);
    json_decref(back);
    json_decref(tree);
    return rc;
}

/* ---- the end ---- */

static json_t *tools_json(const cmif_reply *r, uint32_t index, cmif_err *err)
{
    const choice *c    = &r->choices[index];
    json_t       *list = json_array();
    for (size_t i = 0; list && i < c->tool_count; i++) {
        cmif_secret shown = {0};
        char        id[64];
        cmif_str    name = cmif_talk_name(r->o.talk, (cmif_str){c->tools[i].name, strlen(c->tools[i].name)});
        snprintf(id, sizeof id, "call_%" PRIx64 "_%u_%zu", r->o.number, index, i);
        bool    good = restore_json(r, &c->tools[i].arguments, &shown, err) == CMIF_OK;
        json_t *one  = good ? json_pack("{s:i, s:s, s:s, s:{s:s%, s:s%}}", "index", (int) i, "id", id, "type",
                                        "function", "function", "name", name.data, name.size, "arguments",
                                       shown.size ? (const char *) shown.data : "", shown.size)
                            : NULL;
        if (one && !streams(r)) {
            json_object_del(one, "index");
        }
        if (!one || json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
        cmif_secret_wipe(&shown);
    }
    return list;
}

/* What was held back of a choice; the talk is told. */
static cmif_code end_choice(cmif_reply *r, uint32_t index, cmif_err *err)
{
    choice   *c      = &r->choices[index];
    json_t   *tokens = NULL;
    cmif_code rc     = c->tokens && c->logprobs ? end_tokens(c, err) : CMIF_OK;
    if (streams(r)) {
        tokens      = c->logprobs;
        c->logprobs = NULL;
    }
    if (rc == CMIF_OK && r->whole) {
        rc = restore_json(r, &c->came, &c->shown, err);
    }
    if (rc == CMIF_OK && !r->whole) {
        rc = restore(r, index, c->text, "content", "", 0, true, &c->shown, tokens, err);
    } else if (rc == CMIF_OK && streams(r)) {
        rc = send_text(r, index, "content", c->shown.data, c->shown.size, tokens, err);
    } else {
        json_decref(tokens);
    }
    if (rc == CMIF_OK && c->refusal) {
        rc = restore(r, index, c->refusal, "refusal", "", 0, true, &c->refused, NULL, err);
    }
    if (rc == CMIF_OK && c->came.size) {
        cmif_talk_answered(r->o.talk, c->came.data, c->came.size, c->shown.data, c->shown.size);
        rc = cmif_secret_append(&r->all, c->came.data, c->came.size, err);
    }
    for (size_t i = 0; i < c->tool_count && rc == CMIF_OK; i++) {
        rc = cmif_secret_append(&r->all, c->tools[i].name, strlen(c->tools[i].name), err);
        if (rc == CMIF_OK) {
            rc = cmif_secret_append(&r->all, c->tools[i].arguments.data, c->tools[i].arguments.size, err);
        }
    }
    return rc;
}

static json_t *extension_json(const cmif_reply_extension *e)
{
    json_t *classes = json_object();
    for (size_t c = CMIF_SPAN_OTHER + 1; classes && c < CMIF_SPAN_CLASSES; c++) {
        const uint64_t *n       = e->counts->by_class[c];
        const uint64_t  changed = n[CMIF_ACTION_CHANNEL] + n[CMIF_ACTION_SURROGATE];
        if (changed && !put(classes, cmif_span_class_name((cmif_span_class) c), json_integer((json_int_t) changed))) {
            json_decref(classes);
            classes = NULL;
        }
    }
    json_t *left = isfinite(e->epsilon_left_day) ? json_real(e->epsilon_left_day) : json_null();
    return classes ? json_pack("{s:s?, s:o, s:I, s:f, s:o, s:o}", "policy", e->policy, "replaced", classes, "draws",
                               (json_int_t) e->counts->draws, "epsilon", (double) e->counts->epsilon_micro / 1e6,
                               "epsilon_left_today", left, "receipt",
                               e->receipt ? json_integer((json_int_t) e->receipt) : json_null())
                   : NULL;
}

static cmif_code end_stream(cmif_reply *r, json_t *extension, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (uint32_t i = 0; i < r->choice_count && rc == CMIF_OK; i++) {
        choice *c = &r->choices[i];
        if (c->tool_count) {
            json_t *tools = tools_json(r, i, err);
            rc            = tools ? send_chunk(r, i, json_pack("{s:o}", "tool_calls", tools), NULL, NULL, NULL, err)
                                  : no_memory(err);
        }
        if (rc == CMIF_OK) {
            const bool last = i + 1 == r->choice_count && !r->o.request->include_usage;
            rc              = send_chunk(r, i, chats(r) ? json_object() : json_string(""), NULL, finish_name(c->reason),
                            last ? extension : NULL, err);
        }
    }
    if (rc == CMIF_OK && r->o.request->include_usage) {
        json_t *object = frame(r);
        bool    good   = object && put(object, "choices", json_array()) && put(object, "usage", usage_json(r)) &&
                    (!extension || json_object_set(object, "cmif", extension) == 0);
        rc = good ? send_object(r, object, err) : (json_decref(object), no_memory(err));
    }
    return rc == CMIF_OK ? r->o.sink(r->o.context, "data: [DONE]\n\n", 14, err) : rc;
}

static json_t *choice_json(const cmif_reply *r, uint32_t index, cmif_err *err)
{
    const choice *c        = &r->choices[index];
    json_t       *logprobs = c->logprobs ? json_incref(c->logprobs) : json_null();
    if (!chats(r)) {
        return json_pack("{s:o, s:i, s:o, s:s}", "text", text_of(&c->shown), "index", (int) index, "logprobs", logprobs,
                         "finish_reason", finish_name(c->reason));
    }
    json_t *content = c->shown.size || !c->tool_count ? text_of(&c->shown) : json_null();
    json_t *message = json_pack("{s:s, s:o, s:o}", "role", "assistant", "content", content, "refusal",
                                c->refused.size ? text_of(&c->refused) : json_null());
    if (message && c->tool_count && !put(message, "tool_calls", tools_json(r, index, err))) {
        json_decref(message);
        message = NULL;
    }
    return message ? json_pack("{s:i, s:o, s:o, s:s}", "index", (int) index, "message", message, "logprobs", logprobs,
                               "finish_reason", finish_name(c->reason))
                   : (json_decref(logprobs), NULL);
}

static cmif_code end_whole(cmif_reply *r, json_t *extension, cmif_err *err)
{
    if (r->o.request->endpoint == CMIF_ENDPOINT_EMBEDDINGS) {
        return end_vectors(r, extension, err);
    }
    json_t *list = json_array(), *object = frame(r);
    bool    good = list && object;
    for (uint32_t i = 0; good && i < r->choice_count; i++) {
        good = json_array_append_new(list, choice_json(r, i, err)) == 0;
    }
    good = good && json_object_set(object, "choices", list) == 0 && put(object, "usage", usage_json(r)) &&
           (!extension || json_object_set(object, "cmif", extension) == 0);
    json_decref(list);
    if (!good) {
        json_decref(object);
        return no_memory(err);
    }
    return send_object(r, object, err);
}

cmif_code cmif_reply_end(cmif_reply *r, const cmif_reply_extension *e, cmif_err *err)
{
    json_t   *extension = e ? extension_json(e) : NULL;
    cmif_code rc        = e && !extension ? no_memory(err) : CMIF_OK;
    if (rc == CMIF_OK && e && r->o.request->left && !streams(r)) {
        rc = json_object_set(extension, "left", r->o.request->left) == 0 ? CMIF_OK : no_memory(err);
    }
    for (uint32_t i = 0; i < r->choice_count && rc == CMIF_OK; i++) {
        if (!r->choices[i].finished) {
            rc = cmif_fail(err, CMIF_E_PEER, "the upstream did not end what it began");
        } else {
            rc = end_choice(r, i, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = streams(r) ? end_stream(r, extension, err) : end_whole(r, extension, err);
    }
    json_decref(extension);
    return rc;
}

cmif_code cmif_reply_fail(cmif_reply *r, const char *type, const char *code, const char *sentence, cmif_err *err)
{
    cmif_secret out = {0};
    cmif_code   rc  = streams(r) ? cmif_secret_append(&out, "data: ", 6, err) : CMIF_OK;
    if (rc == CMIF_OK) {
        rc = cmif_reply_error(&out, sentence, type, NULL, code, err);
    }
    if (rc == CMIF_OK && streams(r)) {
        rc = cmif_secret_append(&out, "\n\n", 2, err);
    }
    if (rc == CMIF_OK) {
        rc = r->o.sink(r->o.context, out.data, out.size, err);
    }
    cmif_secret_wipe(&out);
    return rc;
}

const void *cmif_reply_came(const cmif_reply *r, size_t *size)
{
    *size = r->all.size;
    return r->all.size ? (const void *) r->all.data : "";
}

/* ---- life ---- */

cmif_code cmif_reply_new(const cmif_reply_options *options, cmif_reply **out, cmif_err *err)
{
    cmif_reply *r = calloc(1, sizeof *r);
    if (!r) {
        return no_memory(err);
    }
    r->o     = *options;
    r->whole = r->o.request->has_schema && cmif_talk_has_names(r->o.talk);
    snprintf(r->id, sizeof r->id, "%s-%016" PRIx64, chats(r) ? "chatcmpl" : "cmpl", r->o.number);
    *out = r;
    return CMIF_OK;
}

const char *cmif_reply_type(const cmif_reply *r)
{
    return streams(r) ? "text/event-stream" : "application/json";
}

void cmif_reply_free(cmif_reply *r)
{
    if (!r) {
        return;
    }
    for (uint32_t i = 0; i < r->choice_count; i++) {
        choice *c = &r->choices[i];
        cmif_restore_free(c->text);
        cmif_restore_free(c->refusal);
        cmif_restore_free(c->tokens);
        cmif_secret_wipe(&c->came);
        cmif_secret_wipe(&c->shown);
        cmif_secret_wipe(&c->refused);
        for (size_t k = 0; k < c->tool_count; k++) {
            free(c->tools[k].name);
            cmif_secret_wipe(&c->tools[k].arguments);
        }
        free(c->tools);
        json_decref(c->logprobs);
    }
    cmif_secret_wipe(&r->all);
    free(r);
}
