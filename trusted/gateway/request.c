#include "gateway/request.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LITERAL UINT32_MAX
#define NO_MESSAGE UINT32_MAX

typedef struct request_piece {
    uint32_t text; /* index; LITERAL: bytes [from, from + size) of the literals */
    uint32_t from, size;
    uint8_t  level; /* of a text: 1 in a JSON string, 2 in JSON within a JSON string */
    bool     bare;  /* the quotes are in the literals: it ends a longer string */
} request_piece;

typedef struct builder {
    cmif_request         *r;
    cmif_request_problem *problem;
    cmif_err             *err;
    cmif_code             rc;
    uint8_t               level;
    unsigned              depth;
    uint32_t              message;
    bool                  content;
    json_t               *ids; /* id as it came: number of its call */
} builder;

/* ---- what is wrong ---- */

static cmif_code refuse(builder *b, const char *path, const char *why)
{
    if (b->rc == CMIF_OK) {
        snprintf(b->problem->param, sizeof b->problem->param, "%s", path);
        b->rc = cmif_fail(b->err, CMIF_E_RANGE, "%s: %s", path, why);
    }
    return b->rc;
}

static void no_memory(builder *b)
{
    if (b->rc == CMIF_OK) {
        b->rc = cmif_fail(b->err, CMIF_E_MEMORY, "no memory for a request");
    }
}

/* ---- the template ---- */

static void piece(builder *b, request_piece p)
{
    cmif_request *r = b->r;
    if (b->rc != CMIF_OK) {
        return;
    }
    if ((r->piece_count & (r->piece_count - 1)) == 0) { /* room doubles */
        request_piece *more = realloc(r->pieces, (r->piece_count ? 2 * r->piece_count : 1) * sizeof *more);
        if (!more) {
            no_memory(b);
            return;
        }
        r->pieces = more;
    }
    r->pieces[r->piece_count++] = p;
}

/* Bytes of our own: of the source, or of a number written anew. */
static void literal(builder *b, const char *bytes)
{
    cmif_secret *s    = &b->r->literals;
    const size_t from = s->size;
    for (const char *c = bytes; *c && b->rc == CMIF_OK; c++) {
        if (b->level == 2 && (*c == '"' || *c == '\\')) {
            b->rc = cmif_secret_append(s, "\\", 1, b->err);
        }
        if (b->rc == CMIF_OK) {
            b->rc = cmif_secret_append(s, c, 1, b->err);
        }
    }
    request_piece *last = b->r->piece_count ? &b->r->pieces[b->r->piece_count - 1] : NULL;
    if (last && last->text == LITERAL && last->from + last->size == from) {
        last->size += (uint32_t) (s->size - from);
    } else {
        piece(b, (request_piece){.text = LITERAL, .from = (uint32_t) from, .size = (uint32_t) (s->size - from)});
    }
}

static void number(builder *b, double value, bool whole)
{
    char text[40];
    snprintf(text, sizeof text, whole ? "%.0f" : "%.17g", value);
    literal(b, text);
}

/* A hole for a text. The quotes around it are the hole's, since a number may come without, unless it is bare. */
static void hole_of(builder *b, cmif_str text, cmif_text_form form, bool bare)
{
    cmif_request *r = b->r;
    if (b->rc == CMIF_OK && r->text_count == CMIF_REQUEST_TEXTS_MAX) {
        b->rc = cmif_fail(b->err, CMIF_E_RANGE, "the request has more than %d texts", CMIF_REQUEST_TEXTS_MAX);
    }
    if (b->rc != CMIF_OK) {
        return;
    }
    if ((r->text_count & (r->text_count - 1)) == 0) {
        cmif_request_text *more = realloc(r->texts, (r->text_count ? 2 * r->text_count : 1) * sizeof *more);
        if (!more) {
            no_memory(b);
            return;
        }
        r->texts = more;
    }
    r->texts[r->text_count] =
        (cmif_request_text){.text = text, .form = form, .message = b->message, .content = b->content};
    piece(b, (request_piece){.text = (uint32_t) r->text_count++, .level = b->level, .bare = bare});
}

static void hole(builder *b, cmif_str text, cmif_text_form form)
{
    hole_of(b, text, form, false);
}

static cmif_str string_of(const json_t *value)
{
    return (cmif_str){json_string_value(value), json_string_length(value)};
}

/* ---- any JSON: what a person, a model or a tool put together ---- */

static bool too_deep(builder *b, const char *path)
{
    if (b->depth >= CMIF_REQUEST_DEPTH_MAX) {
        refuse(b, path, "nested too deeply");
        return true;
    }
    return b->rc != CMIF_OK;
}

static void any_json(builder *b, const char *path, json_t *value, cmif_text_form strings)
{
    const char *key;
    json_t     *item;
    size_t      i;
    bool        first = true;

    if (too_deep(b, path)) {
        return;
    }
    b->depth++;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        literal(b, "{");
        json_object_foreach(value, key, item)
        {
            literal(b, first ? "" : ", ");
            hole(b, (cmif_str){key, strlen(key)}, CMIF_FORM_KEY);
            literal(b, ": ");
            any_json(b, path, item, strings);
            first = false;
        }
        literal(b, "}");
        break;
    case JSON_ARRAY:
        literal(b, "[");
        json_array_foreach(value, i, item)
        {
            literal(b, i ? ", " : "");
            any_json(b, path, item, strings);
        }
        literal(b, "]");
        break;
    case JSON_STRING:
        hole(b, string_of(value), strings);
        break;
    case JSON_INTEGER:
    case JSON_REAL: { /* its digits are a person's, too; kept beside the tree, where they are borrowed from */
        char    text[40];
        json_t *written;
        if (json_is_integer(value)) {
            snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        } else {
            snprintf(text, sizeof text, "%.17g", json_real_value(value));
        }
        written = json_string(text);
        if (!written || json_array_append_new(b->r->kept, written) != 0) {
            no_memory(b);
        } else {
            hole(b, string_of(written), CMIF_FORM_NUMBER);
        }
        break;
    }
    case JSON_TRUE:
        literal(b, "true");
        break;
    case JSON_FALSE:
        literal(b, "false");
        break;
    default:
        literal(b, "null");
    }
    b->depth--;
}

/* ---- schemas: JSON Schema 2020-12, as far as structured answers and tools go ---- */

typedef enum keyword_kind {
    KEY_SCHEMA,
    KEY_SCHEMAS,
    KEY_LIST,
    KEY_TYPE,
    KEY_NAMES,
    KEY_TEXT,
    KEY_VALUES,
    KEY_VALUE,
    KEY_EXAMPLE,
    KEY_NUMBER,
    KEY_FLAG,
    KEY_REF,
    KEY_DROP,
    KEY_FORMAT
} keyword_kind;

static const struct keyword {
    const char  *name;
    keyword_kind kind;
} keywords[] = {{"type", KEY_TYPE},
                {"properties", KEY_SCHEMAS},
                {"required", KEY_NAMES},
                {"items", KEY_SCHEMA},
                {"prefixItems", KEY_LIST},
                {"additionalProperties", KEY_SCHEMA},
                {"anyOf", KEY_LIST},
                {"oneOf", KEY_LIST},
                {"allOf", KEY_LIST},
                {"not", KEY_SCHEMA},
                {"$defs", KEY_SCHEMAS},
                {"definitions", KEY_SCHEMAS},
                {"$ref", KEY_REF},
                {"enum", KEY_VALUES},
                {"const", KEY_VALUE},
                {"description", KEY_TEXT},
                {"title", KEY_TEXT},
                {"default", KEY_EXAMPLE},
                {"examples", KEY_EXAMPLE},
                {"format", KEY_FORMAT},
                {"minimum", KEY_NUMBER},
                {"maximum", KEY_NUMBER},
                {"exclusiveMinimum", KEY_NUMBER},
                {"exclusiveMaximum", KEY_NUMBER},
                {"multipleOf", KEY_NUMBER},
                {"minLength", KEY_NUMBER},
                {"maxLength", KEY_NUMBER},
                {"minItems", KEY_NUMBER},
                {"maxItems", KEY_NUMBER},
                {"minProperties", KEY_NUMBER},
                {"maxProperties", KEY_NUMBER},
                {"uniqueItems", KEY_FLAG},
                {"nullable", KEY_FLAG},
                {"deprecated", KEY_FLAG},
                {"readOnly", KEY_FLAG},
                {"writeOnly", KEY_FLAG},
                {"pattern", KEY_DROP},
                {"$schema", KEY_DROP},
                {"$id", KEY_DROP},
                {"$comment", KEY_DROP},
                {"strict", KEY_FLAG}};

/* Is word one of the words in list, which has spaces between them? The list's own bytes, or NULL. */
static const char *word_of(const char *list, cmif_str word, size_t *size)
{
    for (const char *at = list; *at; at += *size + (at[*size] == ' ')) {
        *size = strcspn(at, " ");
        if (*size == word.size && !memcmp(at, word.data, word.size)) {
            return at;
        }
    }
    return NULL;
}

static bool word(builder *b, const char *list, const json_t *value)
{
    char        copy[40];
    size_t      size;
    const char *own = json_is_string(value) ? word_of(list, string_of(value), &size) : NULL;
    if (own) {
        snprintf(copy, sizeof copy, "\"%.*s\"", (int) size, own);
        literal(b, copy);
    }
    return own != NULL;
}

static void schema(builder *b, const char *path, json_t *value);

/* "#", "#/$defs/NAME" or "#/definitions/NAME": the name is one that stands as a key elsewhere. */
static void schema_ref(builder *b, const char *path, cmif_str ref)
{
    static const char *const above[] = {"#/$defs/", "#/definitions/"};
    for (size_t i = 0; i < 2; i++) {
        const size_t n = strlen(above[i]);
        if (ref.size > n && !memcmp(ref.data, above[i], n) && !memchr(ref.data + n, '/', ref.size - n)) {
            literal(b, "\"");
            literal(b, above[i]);
            hole_of(b, (cmif_str){ref.data + n, ref.size - n}, CMIF_FORM_KEY, true);
            literal(b, "\"");
            return;
        }
    }
    if (ref.size == 1 && *ref.data == '#') {
        literal(b, "\"#\"");
    } else {
        refuse(b, path, "a $ref in a schema that is not #/$defs/NAME");
    }
}

static void schema_value(builder *b, const char *path, const struct keyword *k, json_t *value)
{
    static const char types[]   = "string number integer boolean object array null";
    static const char formats[] = "date-time date time duration email hostname ipv4 ipv6 uri uuid";
    const char       *key;
    json_t           *item;
    size_t            i;
    bool              first = true;

    switch (k->kind) {
    case KEY_SCHEMA:
        schema(b, path, value);
        return;
    case KEY_SCHEMAS:
        if (!json_is_object(value)) {
            break;
        }
        literal(b, "{");
        json_object_foreach(value, key, item)
        {
            literal(b, first ? "" : ", ");
            hole(b, (cmif_str){key, strlen(key)}, CMIF_FORM_KEY);
            literal(b, ": ");
            schema(b, path, item);
            first = false;
        }
        literal(b, "}");
        return;
    case KEY_LIST:
    case KEY_NAMES:
    case KEY_TYPE:
        if (k->kind == KEY_TYPE && word(b, types, value)) {
            return;
        }
        if (!json_is_array(value)) {
            break;
        }
        literal(b, "[");
        json_array_foreach(value, i, item)
        {
            literal(b, i ? ", " : "");
            if (k->kind == KEY_LIST) {
                schema(b, path, item);
            } else if (k->kind == KEY_NAMES && json_is_string(item)) {
                hole(b, string_of(item), CMIF_FORM_KEY);
            } else if (k->kind == KEY_NAMES || !word(b, types, item)) {
                refuse(b, path, "a schema with a type, or a required property, that is none");
            }
        }
        literal(b, "]");
        return;
    case KEY_TEXT:
        if (!json_is_string(value)) {
            break;
        }
        hole(b, string_of(value), CMIF_FORM_PROSE);
        return;
    case KEY_VALUES:
    case KEY_VALUE: /* an answer must repeat it */
        any_json(b, path, value, CMIF_FORM_KEY);
        return;
    case KEY_EXAMPLE:
        any_json(b, path, value, CMIF_FORM_PROSE);
        return;
    case KEY_NUMBER:
        if (!json_is_number(value)) {
            break;
        }
        number(b, json_number_value(value), json_is_integer(value));
        return;
    case KEY_FLAG:
        if (!json_is_boolean(value)) {
            break;
        }
        literal(b, json_is_true(value) ? "true" : "false");
        return;
    case KEY_REF:
        schema_ref(b, path, json_is_string(value) ? string_of(value) : (cmif_str){"", 0});
        return;
    case KEY_FORMAT: /* of the known ones; another one would only be a hint */
        if (!word(b, formats, value)) {
            literal(b, "\"\"");
        }
        return;
    default:
        break;
    }
    refuse(b, path, "a schema in which a keyword has a value of another type");
}

static void schema(builder *b, const char *path, json_t *value)
{
    const char *key;
    json_t     *item;
    bool        first = true;

    if (too_deep(b, path)) {
        return;
    }
    if (json_is_boolean(value)) {
        literal(b, json_is_true(value) ? "true" : "false");
        return;
    }
    if (!json_is_object(value)) {
        refuse(b, path, "a schema is an object, true or false");
        return;
    }
    b->depth++;
    literal(b, "{");
    json_object_foreach(value, key, item)
    {
        const struct keyword *k = NULL;
        for (size_t i = 0; i < sizeof keywords / sizeof *keywords && !k; i++) {
            k = strcmp(keywords[i].name, key) == 0 ? &keywords[i] : NULL;
        }
        if (!k) {
            refuse(b, path, "a schema has a keyword that is not known here: leave it out");
            break;
        }
        if (k->kind != KEY_DROP) {
            literal(b, first ? "\"" : ", \"");
            literal(b, k->name);
            literal(b, "\": ");
            schema_value(b, path, k, item);
            first = false;
        }
    }
    literal(b, "}");
    b->depth--;
}

/* ---- fields ---- */

static bool fits(cmif_field_kind kind, const json_t *value)
{
    switch (kind) {
    case CMIF_FIELD_OBJECT:
    case CMIF_FIELD_SCHEMA:
        return json_is_object(value);
    case CMIF_FIELD_ARRAY:
        return json_is_array(value);
    case CMIF_FIELD_NUMBER:
        return json_is_number(value);
    case CMIF_FIELD_COUNT:
        return json_is_integer(value);
    case CMIF_FIELD_FLAG:
        return json_is_boolean(value);
    case CMIF_FIELD_LOCAL:
    case CMIF_FIELD_REFUSED:
        return true;
    default:
        return json_is_string(value);
    }
}

/* A path has lines for each type that it may have. */
static const cmif_field *line_for(cmif_endpoint endpoint, const cmif_field *first, const json_t *value)
{
    for (const cmif_field *f = first; f < cmif_fields + cmif_field_count; f++) {
        if ((f->endpoints & 1u << endpoint) && !strcmp(f->path, first->path) && fits(f->kind, value)) {
            return f;
        }
    }
    return NULL;
}

static void object(builder *b, const char *path, json_t *value);

static void call_id(builder *b, const json_t *value)
{
    const char *id  = json_string_value(value);
    json_t     *was = json_object_get(b->ids, id);
    if (!was) {
        json_t *now = json_integer((json_int_t) json_object_size(b->ids) + 1);
        if (!now || json_object_set_new(b->ids, id, now) != 0) {
            no_memory(b);
            return;
        }
        was = now;
    }
    literal(b, "\"call_");
    number(b, (double) json_integer_value(was), true);
    literal(b, "\"");
}

/* ---- messages ---- */

static void begin_message(builder *b, const cmif_field *f, size_t index)
{
    if (b->rc == CMIF_OK && !strcmp(f->path, "messages")) {
        b->message                  = (uint32_t) index;
        b->r->message_count         = index + 1;
        b->r->messages[index].first = (uint32_t) b->r->text_count;
    }
}

/* What the roles ask for, beside the table. */
static void end_message(builder *b, const cmif_field *f, const json_t *message)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    static const uint8_t who[] = {CMIF_SPEAKER_SYSTEM, CMIF_SPEAKER_SYSTEM, CMIF_SPEAKER_USER, CMIF_SPEAKER_ASSISTANT,
                                  CMIF_SPEAKER_TOOL};
    if (b->rc != CMIF_OK || strcmp(f->path, "messages") != 0) {
        return;
    }
    cmif_request_message *m = &b->r->messages[b->message];
    const json_t *content = json_object_get(message, "content"), *calls = json_object_get(message, "tool_calls");
    const bool    empty = !content || json_is_null(content);
    const bool    none  = !calls || json_is_null(calls);
    for (size_t i = 0; i < 5; i++) {
        if (!strcmp(json_string_value(json_object_get(message, "role")), roles[i])) {
            m->speaker = (cmif_speaker) who[i];
        }
    }
    m->count        = (uint32_t) b->r->text_count - m->first;
    b->message      = NO_MESSAGE;
    b->r->has_tools = b->r->has_tools || !none || m->speaker == CMIF_SPEAKER_TOOL;
    if (empty && (m->speaker != CMIF_SPEAKER_ASSISTANT || none) && !json_object_get(message, "refusal")) {
        refuse(b, "messages[].content", "is missing");
    } else if (!none && m->speaker != CMIF_SPEAKER_ASSISTANT) {
        refuse(b, "messages[].tool_calls", "is for messages of the assistant");
    } else if ((m->speaker == CMIF_SPEAKER_TOOL) != (json_object_get(message, "tool_call_id") != NULL)) {
        refuse(b, "messages[].tool_call_id", "belongs to messages of role tool, each of which needs it");
    }
}

static void json_text(builder *b, json_t *value)
{
    json_t *inner = json_loadb(json_string_value(value), json_string_length(value), JSON_REJECT_DUPLICATES, NULL);
    if (!inner) { /* a model wrote it, and it is none: text like any other */
        hole(b, string_of(value), CMIF_FORM_PROSE);
        return;
    }
    if (json_array_append_new(b->r->kept, inner) != 0) { /* its strings are borrowed */
        no_memory(b);
        return;
    }
    literal(b, "\"");
    b->level = 2;
    any_json(b, "messages[].tool_calls[].function.arguments", inner, CMIF_FORM_PROSE);
    b->level = 1;
    literal(b, "\"");
}

static void field(builder *b, const cmif_field *f, json_t *value)
{
    char    path[CMIF_REQUEST_PARAM_SIZE], why[160];
    json_t *item;
    size_t  i;

    switch (f->kind) {
    case CMIF_FIELD_OBJECT:
        literal(b, "{");
        object(b, f->path, value);
        literal(b, "}");
        break;
    case CMIF_FIELD_ARRAY:
        if (json_array_size(value) < (size_t) f->low || json_array_size(value) > (size_t) f->high) {
            snprintf(why, sizeof why, "has %zu items, expected %.0f to %.0f", json_array_size(value), f->low, f->high);
            refuse(b, f->path, why);
            return;
        }
        snprintf(path, sizeof path, "%s[]", f->path);
        literal(b, "[");
        json_array_foreach(value, i, item)
        {
            begin_message(b, f, i);
            const cmif_field *first = cmif_field_find(b->r->endpoint, "", path, strlen(path));
            const cmif_field *line  = first ? line_for(b->r->endpoint, first, item) : NULL;
            literal(b, i ? ", " : "");
            if (!line) {
                refuse(b, path, "is of another type than expected");
                return;
            }
            field(b, line, item);
            end_message(b, f, item);
        }
        literal(b, "]");
        break;
    case CMIF_FIELD_TEXT:
        b->content = !strncmp(f->path, "messages[].content", 18);
        hole(b, string_of(value), CMIF_FORM_PROSE);
        b->content = false;
        break;
    case CMIF_FIELD_JSON:
        json_text(b, value);
        break;
    case CMIF_FIELD_SCHEMA:
        schema(b, f->path, value);
        break;
    case CMIF_FIELD_NAME:
        hole(b, string_of(value), CMIF_FORM_NAME);
        break;
    case CMIF_FIELD_ID:
        call_id(b, value);
        break;
    case CMIF_FIELD_WORD:
        if (!word(b, f->about, value)) {
            snprintf(why, sizeof why, "is none of: %s", f->about);
            refuse(b, f->path, why);
        }
        break;
    case CMIF_FIELD_NUMBER:
    case CMIF_FIELD_COUNT:
        if (!(json_number_value(value) >= f->low && json_number_value(value) <= f->high)) {
            snprintf(why, sizeof why, "is out of range, expected %.10g to %.10g", f->low, f->high);
            refuse(b, f->path, why);
            return;
        }
        number(b, json_number_value(value), f->kind == CMIF_FIELD_COUNT);
        break;
    case CMIF_FIELD_FLAG:
        literal(b, json_is_true(value) ? "true" : "false");
        break;
    default:
        break;
    }
}

/* The name of a field that is not known may be a person's words: only what looks like the name of one is repeated, to
 * whoever sent it. */
static void unknown_field(builder *b, const char *path, const char *name)
{
    char         param[CMIF_REQUEST_PARAM_SIZE];
    const size_t size = strlen(name);
    bool         good = size > 0 && size <= 40 && strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789") == size;
    refuse(b, *path ? path : "body", "has a field that is not known here, and could carry words: leave it out");
    snprintf(param, sizeof param, "%s%s%s", path, *path ? "." : "", good ? name : "?");
    memcpy(b->problem->param, param, sizeof param);
}

/* The fields of an object, in the order of the table's lines, so that the same request is the same bytes; each behind a
 * comma at the top, since model and stream stand before them. */
static void object(builder *b, const char *path, json_t *value)
{
    const char *key, *name;
    json_t     *item;
    bool        first = *path != '\0';

    json_object_foreach(value, key, item)
    {
        if (!cmif_field_find(b->r->endpoint, path, key, strlen(key))) {
            unknown_field(b, path, key);
            return;
        }
    }
    for (const cmif_field *f = cmif_fields; f < cmif_fields + cmif_field_count && b->rc == CMIF_OK; f++) {
        const size_t above = strlen(path);
        name               = f->path + above + (above > 0);
        if (!(f->endpoints & 1u << b->r->endpoint) || strncmp(f->path, path, above) != 0 ||
            (above && f->path[above] != '.') || strchr(name, '.') || strchr(name, '[')) {
            continue;
        }
        item = json_object_get(value, name);
        if (!item || json_is_null(item)) {
            if (f->required) {
                refuse(b, f->path, "is missing");
            }
            continue;
        }
        if (f->kind == CMIF_FIELD_REFUSED) {
            refuse(b, f->path, f->about);
        } else if (!line_for(b->r->endpoint, cmif_field_find(b->r->endpoint, path, name, strlen(name)), item)) {
            refuse(b, f->path, "is of another type than expected");
        } else if (fits(f->kind, item) && f->kind != CMIF_FIELD_LOCAL) {
            literal(b, first ? "\"" : ", \"");
            literal(b, name);
            literal(b, "\": ");
            field(b, f, item);
            first = false;
        }
    }
}

/* ---- the whole ---- */

/* What is for us: checked here, since the table says only that it is never sent. */
static void local_fields(builder *b)
{
    cmif_request *r     = b->r;
    const json_t *model = json_object_get(r->tree, "model"), *stream = json_object_get(r->tree, "stream");
    const json_t *options = json_object_get(r->tree, "stream_options"), *n = json_object_get(r->tree, "n");
    const json_t *encoding = json_object_get(r->tree, "encoding_format"),
                 *format   = json_object_get(r->tree, "response_format");
    size_t size;
    if (!json_is_string(model)) {
        refuse(b, "model", model ? "is a name" : "is missing");
        return;
    }
    if (stream && !json_is_boolean(stream) && !json_is_null(stream)) {
        refuse(b, "stream", "is true or false");
    }
    if (encoding && !json_is_null(encoding) &&
        !(json_is_string(encoding) && word_of("float base64", string_of(encoding), &size))) {
        refuse(b, "encoding_format", "is float or base64");
    }
    r->model         = string_of(model);
    r->stream        = json_is_true(stream);
    r->include_usage = json_is_true(json_object_get(options, "include_usage"));
    r->obfuscation   = !json_is_false(json_object_get(options, "include_obfuscation"));
    r->base64        = json_is_string(encoding) && !strcmp(json_string_value(encoding), "base64");
    r->n             = json_is_integer(n) ? (uint32_t) json_integer_value(n) : 1;
    r->has_tools     = r->has_tools || json_array_size(json_object_get(r->tree, "tools"));
    r->has_schema = json_is_object(format) && strcmp(json_string_value(json_object_get(format, "type")), "text") != 0;
}

cmif_code cmif_request_parse(cmif_endpoint endpoint, const void *body, size_t size, cmif_request **out,
                             cmif_request_problem *problem, cmif_err *err)
{
    json_error_t wrong;
    builder      b = {.problem = problem, .err = err, .level = 1, .message = NO_MESSAGE};

    problem->param[0] = '\0';
    b.r               = calloc(1, sizeof *b.r);
    b.ids             = json_object();
    if (!b.r || !b.ids || !(b.r->kept = json_array())) {
        no_memory(&b);
        goto done;
    }
    b.r->endpoint = endpoint;
    b.r->tree     = json_loadb(body, size, JSON_REJECT_DUPLICATES, &wrong);
    if (!b.r->tree) { /* jansson's own text repeats what it stands before */
        b.rc = json_error_code(&wrong) == json_error_out_of_memory
                   ? cmif_fail(err, CMIF_E_MEMORY, "no memory for a request")
                   : cmif_fail(err, CMIF_E_FORMAT, "the body is no JSON object in UTF-8: line %d, column %d: %s",
                               wrong.line, wrong.column,
                               json_error_code(&wrong) == json_error_duplicate_key      ? "a key twice"
                               : json_error_code(&wrong) == json_error_invalid_utf8     ? "bytes that are no UTF-8"
                               : json_error_code(&wrong) == json_error_numeric_overflow ? "a number that is too large"
                               : json_error_code(&wrong) == json_error_stack_overflow   ? "nested too deeply"
                                                                                      : "something else was expected");
        goto done;
    }
    if (!json_is_object(b.r->tree)) {
        b.rc = cmif_fail(err, CMIF_E_FORMAT, "the body is JSON, but no object");
        goto done;
    }
    const size_t messages = json_array_size(json_object_get(b.r->tree, "messages"));
    b.r->messages         = messages ? calloc(messages, sizeof *b.r->messages) : NULL;
    if (messages && !b.r->messages) {
        no_memory(&b);
        goto done;
    }
    object(&b, "", b.r->tree);
    if (b.rc == CMIF_OK) {
        local_fields(&b);
    }
done:
    json_decref(b.ids);
    if (b.rc == CMIF_OK) {
        *out = b.r;
    } else {
        cmif_request_free(b.r);
    }
    return b.rc;
}

void cmif_request_free(cmif_request *r)
{
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->text_count; i++) {
        cmif_released_free(r->texts[i].released);
    }
    json_decref(r->tree); /* its memory is wiped where the program's free() does that (programs/cmif_heap.c) */
    json_decref(r->kept);
    json_decref(r->left);
    cmif_secret_wipe(&r->literals);
    free(r->texts);
    free(r->messages);
    free(r->pieces);
    free(r);
}

/* ---- writing ---- */

bool cmif_form_fits(cmif_text_form form, const void *bytes, size_t size)
{
    const char *c = bytes;
    for (size_t i = 0; form == CMIF_FORM_NAME && i < size; i++) {
        if (!(c[i] >= 'a' && c[i] <= 'z') && !(c[i] >= 'A' && c[i] <= 'Z') && !(c[i] >= '0' && c[i] <= '9') &&
            c[i] != '_' && c[i] != '-') {
            return false;
        }
    }
    return form != CMIF_FORM_NAME || (size > 0 && size <= 64);
}

/* Is it a number as JSON writes it? */
static bool is_number(const uint8_t *bytes, size_t size)
{
    char    text[48];
    json_t *value;
    bool    yes = false;
    if (size > 0 && size < sizeof text) {
        memcpy(text, bytes, size);
        text[size] = '\0';
        value      = json_loads(text, JSON_DECODE_ANY, NULL);
        yes        = json_is_number(value);
        json_decref(value);
    }
    return yes;
}

static cmif_code put_escaped(cmif_secret *out, const uint8_t *bytes, size_t size, uint8_t level, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0, run; i < size && rc == CMIF_OK; i += run) {
        for (run = 0; i + run < size && bytes[i + run] >= 0x20 && bytes[i + run] != '"' && bytes[i + run] != '\\';) {
            run++;
        }
        if (run) {
            rc = cmif_secret_append(out, bytes + i, run, err);
            continue;
        }
        char one[16];
        int  n = bytes[i] < 0x20 ? snprintf(one, sizeof one, "%s\\u%04x", level == 2 ? "\\" : "", bytes[i])
                                 : snprintf(one, sizeof one, "%s%c", level == 2 ? "\\\\\\" : "\\", bytes[i]);
        rc     = cmif_secret_append(out, one, (size_t) n, err);
        run    = 1;
    }
    return rc;
}

static cmif_code put_text(const request_piece *p, const cmif_request_text *t, cmif_secret *out, cmif_err *err)
{
    size_t         size;
    const uint8_t *bytes = t->released ? cmif_released_bytes(t->released, &size) : NULL;
    if (!bytes || !cmif_form_fits(t->form, bytes, size)) {
        return cmif_fail(err, CMIF_E_RANGE, bytes ? "a name has become none" : "a text was not released");
    }
    const bool  bare  = p->bare || (t->form == CMIF_FORM_NUMBER && is_number(bytes, size));
    const char *quote = p->level == 2 ? "\\\"" : "\"";
    cmif_code   rc    = bare ? CMIF_OK : cmif_secret_append(out, quote, strlen(quote), err);
    if (rc == CMIF_OK) {
        rc = put_escaped(out, bytes, size, p->level, err);
    }
    return rc != CMIF_OK || bare ? rc : cmif_secret_append(out, quote, strlen(quote), err);
}

cmif_code cmif_request_body(const cmif_request *r, const char *model, cmif_secret *out, cmif_err *err)
{
    static const char streams[] = ", \"stream\": true, \"stream_options\": {\"include_usage\": true}";
    static const char floats[]  = ", \"encoding_format\": \"float\"";
    const char       *more      = r->endpoint == CMIF_ENDPOINT_EMBEDDINGS ? floats : streams;
    const size_t      before    = out->size;

    cmif_code rc = cmif_secret_append(out, "{\"model\": \"", 11, err);
    if (rc == CMIF_OK) {
        rc = put_escaped(out, (const uint8_t *) model, strlen(model), 1, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_append(out, "\"", 1, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_append(out, more, strlen(more), err);
    }
    for (size_t i = 0; i < r->piece_count && rc == CMIF_OK; i++) {
        const request_piece *p = &r->pieces[i];
        rc                     = p->text == LITERAL ? cmif_secret_append(out, r->literals.data + p->from, p->size, err)
                                                    : put_text(p, &r->texts[p->text], out, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_append(out, "}", 1, err);
    }
    if (rc != CMIF_OK) {
        cmif_wipe(out->data + before, out->size - before);
        out->size = before;
    }
    return rc;
}
