#include "attest/json.h"

#include <stdlib.h>
#include <string.h>

typedef struct parser {
    const uint8_t  *text;
    size_t          size, at;
    cmif_json_node *nodes;
    uint32_t        count, room;
    cmif_err       *err;
} parser;

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(int c)
{
    return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int peek(const parser *p)
{
    return p->at < p->size ? p->text[p->at] : -1;
}

static void skip_space(parser *p)
{
    while (peek(p) == ' ' || peek(p) == '\t' || peek(p) == '\n' || peek(p) == '\r') {
        p->at++;
    }
}

static cmif_code expected(const parser *p, const char *what)
{
    if (p->at >= p->size) {
        return cmif_fail(p->err, CMIF_E_FORMAT, "JSON: %s expected at byte %zu, which is the end", what, p->at);
    }
    return cmif_fail(p->err, CMIF_E_FORMAT, "JSON: %s expected at byte %zu, found byte 0x%02x", what, p->at,
                     p->text[p->at]);
}

static cmif_code node_new(parser *p, cmif_json_type type)
{
    if (p->count == p->room) {
        if (p->room == CMIF_JSON_NODES) {
            return cmif_fail(p->err, CMIF_E_RANGE, "JSON: more than %d values", CMIF_JSON_NODES);
        }
        uint32_t        room  = p->room ? 2 * p->room : 1024;
        cmif_json_node *nodes = realloc(p->nodes, room * sizeof *nodes);
        if (!nodes) {
            return cmif_fail(p->err, CMIF_E_MEMORY, "JSON: no memory for %u values", (unsigned) room);
        }
        p->nodes = nodes;
        p->room  = room;
    }
    p->nodes[p->count] = (cmif_json_node){.start = (uint32_t) p->at, .next = p->count + 1, .type = (uint16_t) type};
    p->count++;
    return CMIF_OK;
}

static cmif_code parse_string(parser *p)
{
    if (peek(p) != '"') {
        return expected(p, "a string");
    }
    p->at++;
    cmif_code rc = node_new(p, CMIF_JSON_STRING);
    if (rc != CMIF_OK) {
        return rc;
    }
    cmif_json_node *node = &p->nodes[p->count - 1];
    for (; peek(p) != '"'; p->at++) {
        if (peek(p) < 0x20 || peek(p) > 0x7e) {
            return expected(p, "a printable ASCII character or '\"'");
        }
        if (peek(p) == '\\') {
            node->escaped = 1;
            p->at++;
            if (peek(p) == 'u') {
                for (int i = 0; i < 4; i++) {
                    p->at++;
                    if (hex_digit(peek(p)) < 0) {
                        return expected(p, "a hexadecimal digit");
                    }
                }
            } else if (peek(p) <= 0 || !strchr("\"\\/bfnrt", peek(p))) {
                return expected(p, "an escape");
            }
        }
    }
    node->size = (uint32_t) p->at - node->start;
    p->at++;
    return CMIF_OK;
}

static cmif_code parse_digits(parser *p)
{
    if (!is_digit(peek(p))) {
        return expected(p, "a digit");
    }
    while (is_digit(peek(p))) {
        p->at++;
    }
    return CMIF_OK;
}

static cmif_code parse_number(parser *p)
{
    cmif_code rc   = CMIF_OK;
    uint32_t  node = p->count - 1;
    p->at += peek(p) == '-';
    if (peek(p) == '0') {
        p->at++;
    } else {
        rc = parse_digits(p);
    }
    if (rc == CMIF_OK && peek(p) == '.') {
        p->at++;
        rc = parse_digits(p);
    }
    if (rc == CMIF_OK && (peek(p) == 'e' || peek(p) == 'E')) {
        p->at++;
        p->at += peek(p) == '+' || peek(p) == '-';
        rc = parse_digits(p);
    }
    p->nodes[node].size = (uint32_t) p->at - p->nodes[node].start;
    return rc;
}

static cmif_code parse_word(parser *p)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if (p->size - p->at >= n && !memcmp(p->text + p->at, words[i], n)) {
            p->nodes[p->count - 1].size = (uint32_t) n;
            p->at += n;
            return CMIF_OK;
        }
    }
    return expected(p, "a value");
}

/* A key of the object; it must be new there. */
static cmif_code parse_key(parser *p, uint32_t object, unsigned members)
{
    uint32_t  key = p->count;
    cmif_code rc  = parse_string(p);
    if (rc != CMIF_OK) {
        return rc;
    }
    const cmif_json_node *new = &p->nodes[key];
    if (members == CMIF_JSON_MEMBERS) {
        return cmif_fail(p->err, CMIF_E_RANGE, "JSON: more than %d members in the object at byte %u", CMIF_JSON_MEMBERS,
                         (unsigned) p->nodes[object].start);
    }
    if (new->escaped) {
        return cmif_fail(p->err, CMIF_E_FORMAT, "JSON: a key with an escape at byte %u", (unsigned) new->start);
    }
    for (uint32_t k = object + 1; k < key; k = p->nodes[k + 1].next) {
        if (p->nodes[k].size == new->size && !memcmp(p->text + p->nodes[k].start, p->text + new->start, new->size)) {
            return cmif_fail(p->err, CMIF_E_FORMAT, "JSON: the key at byte %u is also at byte %u of the same object",
                             (unsigned) new->start, (unsigned) p->nodes[k].start);
        }
    }
    skip_space(p);
    if (peek(p) != ':') {
        return expected(p, "':'");
    }
    p->at++;
    skip_space(p);
    return CMIF_OK;
}

/* The values, with the open objects and arrays on a stack of our own. */
static cmif_code parse_all(parser *p)
{
    uint32_t  open[CMIF_JSON_DEPTH];
    unsigned  members[CMIF_JSON_DEPTH];
    unsigned  depth = 0;
    cmif_code rc;
    skip_space(p);
    for (;;) { /* a value starts here */
        int  c       = peek(p);
        bool enclose = c == '{' || c == '[';
        if (c == '"') {
            rc = parse_string(p);
        } else {
            rc = node_new(p, c == '{'                  ? CMIF_JSON_OBJECT
                             : c == '['                ? CMIF_JSON_ARRAY
                             : c == '-' || is_digit(c) ? CMIF_JSON_NUMBER
                                                       : CMIF_JSON_WORD);
            if (rc == CMIF_OK && !enclose) {
                rc = p->nodes[p->count - 1].type == CMIF_JSON_NUMBER ? parse_number(p) : parse_word(p);
            }
        }
        if (rc == CMIF_OK && enclose) {
            if (depth == CMIF_JSON_DEPTH) {
                return cmif_fail(p->err, CMIF_E_RANGE, "JSON: more than %d levels at byte %zu", CMIF_JSON_DEPTH, p->at);
            }
            open[depth]      = p->count - 1;
            members[depth++] = 0;
            p->at++;
            skip_space(p);
            int end = c == '{' ? '}' : ']';
            if (peek(p) != end) {
                rc = c == '{' ? parse_key(p, open[depth - 1], 0) : CMIF_OK;
                if (rc != CMIF_OK) {
                    return rc;
                }
                continue;
            }
        }
        while (rc == CMIF_OK) { /* after a value, or at the end of an empty one: ends, or a comma and the next value */
            skip_space(p);
            if (depth == 0) {
                return p->at == p->size ? CMIF_OK : expected(p, "the end");
            }
            cmif_json_node *outer  = &p->nodes[open[depth - 1]];
            bool            object = outer->type == CMIF_JSON_OBJECT;
            if (peek(p) == (object ? '}' : ']')) {
                p->at++;
                outer->size = (uint32_t) p->at - outer->start;
                outer->next = p->count;
                depth--;
                continue;
            }
            if (peek(p) != ',') {
                return expected(p, object ? "',' or '}'" : "',' or ']'");
            }
            p->at++;
            skip_space(p);
            rc = object ? parse_key(p, open[depth - 1], ++members[depth - 1]) : CMIF_OK;
            break;
        }
        if (rc != CMIF_OK) {
            return rc;
        }
    }
}

cmif_code cmif_json_parse(const uint8_t *text, size_t size, cmif_json *out, cmif_err *err)
{
    parser p = {.text = text, .size = size, .err = err};
    if (size > UINT32_MAX / 2) {
        return cmif_fail(err, CMIF_E_RANGE, "JSON: %zu bytes are too many", size);
    }
    cmif_code rc = parse_all(&p);
    if (rc != CMIF_OK) {
        free(p.nodes);
        return rc;
    }
    *out = (cmif_json){.text = text, .nodes = p.nodes, .count = p.count};
    return CMIF_OK;
}

void cmif_json_wipe(cmif_json *json)
{
    free(json->nodes);
    *json = (cmif_json){0};
}

static bool is_type(const cmif_json *json, uint32_t node, cmif_json_type type)
{
    return node < json->count && json->nodes[node].type == type;
}

uint32_t cmif_json_get(const cmif_json *json, uint32_t object, const char *key)
{
    if (is_type(json, object, CMIF_JSON_OBJECT)) {
        for (uint32_t k = object + 1; k < json->nodes[object].next; k = json->nodes[k + 1].next) {
            if (cmif_json_is(json, k, key)) {
                return k + 1;
            }
        }
    }
    return CMIF_JSON_NONE;
}

uint32_t cmif_json_first(const cmif_json *json, uint32_t array)
{
    return is_type(json, array, CMIF_JSON_ARRAY) && json->nodes[array].next > array + 1 ? array + 1 : CMIF_JSON_NONE;
}

uint32_t cmif_json_after(const cmif_json *json, uint32_t array, uint32_t element)
{
    uint32_t next = json->nodes[element].next;
    return next < json->nodes[array].next ? next : CMIF_JSON_NONE;
}

bool cmif_json_text(const cmif_json *json, uint32_t node, const char **text, size_t *size)
{
    if (!is_type(json, node, CMIF_JSON_STRING) || json->nodes[node].escaped) {
        return false;
    }
    *text = (const char *) json->text + json->nodes[node].start;
    *size = json->nodes[node].size;
    return true;
}

bool cmif_json_is(const cmif_json *json, uint32_t node, const char *text)
{
    const char *found;
    size_t      size;
    return cmif_json_text(json, node, &found, &size) && size == strlen(text) && !memcmp(found, text, size);
}

bool cmif_json_uint(const cmif_json *json, uint32_t node, uint64_t most, uint64_t *number)
{
    uint64_t value = 0;
    if (!is_type(json, node, CMIF_JSON_NUMBER)) {
        return false;
    }
    for (uint32_t i = 0; i < json->nodes[node].size; i++) {
        int c = json->text[json->nodes[node].start + i];
        if (!is_digit(c) || value > most / 10 || value * 10 > most - (unsigned) (c - '0')) {
            return false;
        }
        value = value * 10 + (unsigned) (c - '0');
    }
    *number = value;
    return true;
}

bool cmif_json_hex(const cmif_json *json, uint32_t node, uint8_t *bytes, size_t size)
{
    const char *text;
    size_t      length;
    if (!cmif_json_text(json, node, &text, &length) || length != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        bytes[i] = (uint8_t) (high << 4 | low);
    }
    return true;
}

bool cmif_json_time(const cmif_json *json, uint32_t node, int64_t *seconds)
{
    static const char    form[]      = "dddd-dd-ddTdd:dd:ddZ";
    static const uint8_t last[2][13] = {{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31},
                                        {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}};
    const char          *text;
    size_t               size;
    int                  part[6] = {0}, n = 0; /* year, month, day, hour, minute, second */
    if (!cmif_json_text(json, node, &text, &size) || size != sizeof form - 1) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (form[i] == 'd' ? !is_digit(text[i]) : text[i] != form[i]) {
            return false;
        }
        if (form[i] == 'd') {
            part[n] = part[n] * 10 + (text[i] - '0');
        } else {
            n++;
        }
    }
    int leap = part[0] % 4 == 0 && (part[0] % 100 != 0 || part[0] % 400 == 0);
    if (part[0] < 1970 || part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > last[leap][part[1]] || part[3] > 23 ||
        part[4] > 59 || part[5] > 59) {
        return false;
    }
    int64_t before = part[0] - 1,
            days   = before * 365 + before / 4 - before / 100 + before / 400 - 719162; /* 1970-01-01 is day 719162 */
    for (int m = 1; m < part[1]; m++) {
        days += last[leap][m];
    }
    *seconds = ((days + part[2] - 1) * 24 + part[3]) * 3600 + part[4] * 60 + part[5];
    return true;
}
