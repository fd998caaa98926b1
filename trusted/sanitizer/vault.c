#include "sanitizer/surrogates.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- hashes, under a seed that nobody knows: no text can be made to collide ---- */

static uint64_t hash_add(uint64_t hash, uint8_t byte)
{
    hash = (hash ^ byte) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 29;
}

uint64_t vault_hash(const cmif_vault *vault, const void *bytes, size_t size)
{
    const uint8_t *p    = bytes;
    uint64_t       hash = vault->seed;
    for (size_t i = 0; i < size; i++) {
        hash = hash_add(hash, p[i]);
    }
    return hash;
}

static uint64_t compact_add(uint64_t hash, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t c = bytes[i];
        if (vault_is_alnum(c) || c >= 0x80) {
            hash = hash_add(hash, c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
    }
    return hash;
}

uint64_t vault_compact_hash(const cmif_vault *vault, const void *bytes, size_t size)
{
    return compact_add(vault->seed, bytes, size);
}

/* ---- sets ---- open addressing, at most half full. */

static vault_slot *set_slot(const vault_set *set, uint64_t hash)
{
    vault_slot *slots = (vault_slot *) (void *) set->room.data;
    size_t      i     = hash & (set->capacity - 1);
    while (slots[i].value != 0 && slots[i].hash != hash) {
        i = (i + 1) & (set->capacity - 1);
    }
    return &slots[i];
}

bool vault_has(const vault_set *set, uint64_t hash)
{
    return set->capacity > 0 && set_slot(set, hash)->value != 0;
}

/* Room for count more, so that as many puts cannot fail. */
static cmif_code set_reserve(vault_set *set, size_t count, cmif_err *err)
{
    size_t capacity = set->capacity ? set->capacity : 256;
    while ((set->count + count) * 2 > capacity) {
        capacity *= 2;
    }
    if (capacity == set->capacity) {
        return CMIF_OK;
    }
    vault_set fresh = {.capacity = capacity, .count = set->count};
    cmif_code rc    = cmif_secret_reserve(&fresh.room, capacity * sizeof(vault_slot), err); /* zeros */
    for (size_t i = 0; rc == CMIF_OK && i < set->capacity; i++) {
        const vault_slot *old = (const vault_slot *) (const void *) set->room.data + i;
        if (old->value != 0) {
            *set_slot(&fresh, old->hash) = *old;
        }
    }
    if (rc == CMIF_OK) {
        cmif_secret_wipe(&set->room);
        *set = fresh;
    }
    return rc;
}

static void set_put(vault_set *set, uint64_t hash, uint64_t value) /* the first value stays */
{
    vault_slot *slot = set_slot(set, hash);
    if (slot->value == 0) {
        *slot = (vault_slot){hash, value};
        set->count++;
    }
}

static cmif_code saw_hash(cmif_vault *vault, uint64_t hash, cmif_err *err)
{
    cmif_code rc = set_reserve(&vault->seen, 1, err);
    if (rc == CMIF_OK) {
        set_put(&vault->seen, hash, 1);
    }
    return rc;
}

cmif_code vault_saw(cmif_vault *vault, const void *bytes, size_t size, cmif_err *err)
{
    return saw_hash(vault, vault_compact_hash(vault, bytes, size), err);
}

/* ---- the vault ---- */

cmif_code cmif_vault_new(const cmif_lists *lists, cmif_vault **out, cmif_err *err)
{
    cmif_secret self  = {0};
    cmif_vault *vault = NULL;
    cmif_code   rc    = cmif_secret_reserve(&self, sizeof *vault, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    vault        = (cmif_vault *) (void *) self.data;
    vault->self  = self;
    vault->lists = lists;

    rc = cmif_noise_new(&vault->noise, err);
    if (rc == CMIF_OK) {
        rc = cmif_noise_take(vault->noise, &vault->seed, sizeof vault->seed, err);
    }
    if (rc == CMIF_OK) {
        *out  = vault;
        vault = NULL;
    }
done:
    cmif_vault_free(vault);
    return rc;
}

void cmif_vault_free(cmif_vault *vault)
{
    if (vault) {
        cmif_noise_free(vault->noise);
        cmif_secret_wipe(&vault->bytes);
        cmif_secret_wipe(&vault->entries);
        cmif_secret_wipe(&vault->key);
        cmif_secret_wipe(&vault->written);
        cmif_secret_wipe(&vault->keys.room);
        cmif_secret_wipe(&vault->taken.room);
        cmif_secret_wipe(&vault->seen.room);
        cmif_secret self = vault->self;
        cmif_secret_wipe(&self);
    }
}

size_t cmif_vault_count(const cmif_vault *vault)
{
    return vault_entry_count(vault);
}

size_t cmif_vault_size(const cmif_vault *v)
{
    const cmif_secret *all[] = {&v->self,    &v->bytes,     &v->entries,    &v->key,
                                &v->written, &v->keys.room, &v->taken.room, &v->seen.room};
    size_t             size  = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size += all[i]->capacity;
    }
    return size;
}

bool cmif_vault_holds(const cmif_vault *vault, cmif_str fold)
{
    return vault->taken.count > 0 && vault_has(&vault->taken, vault_compact_hash(vault, fold.data, fold.size));
}

/* What a text holds: its tokens, its runs without white space, and its runs of numbers with and without spaces between,
 * all in compact form. */
cmif_code cmif_vault_see(cmif_vault *vault, const cmif_scan *scan, cmif_err *err)
{
    enum { RUN, NUMBERS, SPACED, RUNS, SEEN_MAX = 4096 /* room that is made at once */ };
    uint64_t  hash[RUNS] = {vault->seed, vault->seed, vault->seed};
    cmif_code rc         = set_reserve(&vault->seen, scan->count < SEEN_MAX ? scan->count : SEEN_MAX, err);
    for (size_t i = 0; rc == CMIF_OK && i <= scan->count; i++) {
        const cmif_token *t    = &scan->tokens[i];
        unsigned          kind = i < scan->count ? t->kind : CMIF_TOKEN_LINE;
        bool              ends[RUNS], word = kind == CMIF_TOKEN_WORD || kind == CMIF_TOKEN_NUMBER;
        ends[RUN]     = kind == CMIF_TOKEN_SPACE || kind == CMIF_TOKEN_LINE;
        ends[SPACED]  = kind == CMIF_TOKEN_LINE || kind == CMIF_TOKEN_WORD || kind == CMIF_TOKEN_BROKEN;
        ends[NUMBERS] = ends[SPACED] || kind == CMIF_TOKEN_SPACE;
        cmif_str fold = i < scan->count ? cmif_token_fold(scan, t) : (cmif_str){"", 0};
        uint64_t own  = word ? vault_compact_hash(vault, fold.data, fold.size) : 0;
        for (size_t k = 0; rc == CMIF_OK && k < RUNS; k++) {
            if (ends[k] && hash[k] != vault->seed) {
                rc      = saw_hash(vault, hash[k], err);
                hash[k] = vault->seed;
            } else if (!ends[k]) {
                hash[k] =
                    word && hash[k] == vault->seed ? own : compact_add(hash[k], (const uint8_t *) fold.data, fold.size);
            }
        }
        rc = rc == CMIF_OK && word ? saw_hash(vault, own, err) : rc;
    }
    return rc;
}

cmif_code cmif_vault_put(cmif_vault *vault, const cmif_scan *scan, const cmif_spans *spans, size_t span,
                         cmif_secret *out, cmif_err *err)
{
    if (span >= spans->count) {
        return cmif_fail(err, CMIF_E_RANGE, "span %zu of %zu", span, spans->count);
    }
    size_t    size = out->size;
    cmif_code rc   = vault_surrogate(vault, scan, &spans->at[span], out, err);
    if (rc != CMIF_OK) {
        out->size = size;
        cmif_err_context(err, "a surrogate for the %s at byte %u", cmif_span_class_name(spans->at[span].class),
                         spans->at[span].from);
    }
    return rc;
}

const vault_entry *vault_find(const cmif_vault *vault)
{
    uint64_t hash = vault_hash(vault, vault->key.data, vault->key.size);
    if (!vault_has(&vault->keys, hash)) {
        return NULL;
    }
    const vault_entry *e = &vault_entries(vault)[set_slot(&vault->keys, hash)->value - 1];
    return e->key_size == vault->key.size && memcmp(vault->bytes.data + e->key, vault->key.data, e->key_size) == 0
               ? e
               : NULL;
}

cmif_code vault_add(cmif_vault *vault, vault_entry entry, const void *original, size_t original_size,
                    const void *surrogate, size_t surrogate_size, cmif_err *err)
{
    size_t    old = vault->bytes.size, all = vault->key.size + original_size + surrogate_size;
    cmif_code rc = CMIF_OK;
    if (all > UINT32_MAX - old) {
        return cmif_fail(err, CMIF_E_MEMORY, "the vault of this conversation is full: start a new one");
    }
    entry.key            = (uint32_t) old;
    entry.key_size       = (uint32_t) vault->key.size;
    entry.original       = (uint32_t) (old + vault->key.size);
    entry.original_size  = (uint32_t) original_size;
    entry.surrogate      = (uint32_t) (old + vault->key.size + original_size);
    entry.surrogate_size = (uint32_t) surrogate_size;

    rc = cmif_secret_reserve(&vault->bytes, old + all, err);
    if (rc == CMIF_OK) {
        rc = set_reserve(&vault->keys, 1, err);
    }
    if (rc == CMIF_OK) {
        rc = set_reserve(&vault->taken, 1, err);
    }
    if (rc == CMIF_OK) {
        rc = set_reserve(&vault->seen, 1, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_secret_append(&vault->entries, &entry, sizeof entry, err);
    }
    if (rc == CMIF_OK) {
        uint8_t *to = vault->bytes.data + old;
        memcpy(to, vault->key.data, vault->key.size);
        memcpy(to + vault->key.size, original, original_size);
        memcpy(to + vault->key.size + original_size, surrogate, surrogate_size);
        vault->bytes.size += all;
        set_put(&vault->keys, vault_hash(vault, to, vault->key.size), vault_entry_count(vault));
        set_put(&vault->taken, vault_compact_hash(vault, surrogate, surrogate_size), 1);
        set_put(&vault->seen, vault_compact_hash(vault, original, original_size), 1);
    }
    return rc;
}

/* ---- the map on a person's disk ---- written and read by hand: a JSON library would leave copies of every original in
 * memory that is neither locked nor wiped. One array of flat objects, its members always in this order; what differs is
 * refused. */

static cmif_code put_string(cmif_secret *out, const uint8_t *p, size_t size, cmif_err *err)
{
    cmif_code rc = cmif_secret_append(out, "\"", 1, err);
    for (size_t i = 0; rc == CMIF_OK && i < size;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p + i, (utf8proc_ssize_t) (size - i), &c);
        char             escaped[8];
        if (n < 1) { /* JSON has no way to write it */
            rc = cmif_secret_append(out, "\xef\xbf\xbd", 3, err);
            n  = 1;
        } else if (c < 0x20 || c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned) c);
            rc = cmif_secret_append(out, escaped, 6, err);
        } else {
            rc = cmif_secret_append(out, p + i, (size_t) n, err);
        }
        i += (size_t) n;
    }
    return rc == CMIF_OK ? cmif_secret_append(out, "\"", 1, err) : rc;
}

static cmif_code put_text(cmif_secret *out, const char *text, cmif_err *err)
{
    return cmif_secret_append(out, text, strlen(text), err);
}

static const char *const member_names[]             = {"class", "key", "original", "surrogate"};
static const char *const match_names[VAULT_MATCHES] = {"words", "exact", "code", "number"};

cmif_code cmif_vault_write(const cmif_vault *vault, cmif_secret *out, cmif_err *err)
{
    size_t    size = out->size;
    char      line[96];
    cmif_code rc;
    snprintf(line, sizeof line, "{\"cmif-vault\": 1, \"shift\": %d, \"entries\": [", (int) vault->shift);
    rc = put_text(out, line, err);
    for (size_t i = 0; rc == CMIF_OK && i < vault_entry_count(vault); i++) {
        const vault_entry *e     = &vault_entries(vault)[i];
        const uint8_t     *bytes = vault->bytes.data;
        const char *class        = cmif_span_class_name(e->class);
        const cmif_str values[]  = {{class, strlen(class)},
                                    {(const char *) bytes + e->key, e->key_size},
                                    {(const char *) bytes + e->original, e->original_size},
                                    {(const char *) bytes + e->surrogate, e->surrogate_size}};
        for (size_t k = 0; rc == CMIF_OK && k < 4; k++) {
            snprintf(line, sizeof line, "%s\"%s\": ", k > 0 ? ", " : i > 0 ? ",\n{" : "\n{", member_names[k]);
            rc = put_text(out, line, err);
            if (rc == CMIF_OK) {
                rc = put_string(out, (const uint8_t *) values[k].data, values[k].size, err);
            }
        }
        if (rc == CMIF_OK) {
            snprintf(line, sizeof line, ", \"match\": \"%s\", \"from\": %u, \"to\": %u}", match_names[e->match],
                     e->from, e->to);
            rc = put_text(out, line, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = put_text(out, "]}\n", err);
    }
    if (rc != CMIF_OK) {
        out->size = size;
    }
    return rc;
}

static void skip_space(cmif_reader *r)
{
    while (r->at < r->size && memchr(" \t\r\n", r->data[r->at], 4)) {
        r->at++;
    }
}

/* The next things between white space must be these bytes. */
static bool take(cmif_reader *r, const char *text)
{
    skip_space(r);
    size_t         n = strlen(text);
    const uint8_t *p = cmif_read_bytes(r, n);
    r->failed        = !p || memcmp(p, text, n) != 0;
    return !r->failed;
}

static bool peek(cmif_reader *r, char c)
{
    skip_space(r);
    return !r->failed && r->at < r->size && r->data[r->at] == (uint8_t) c;
}

static uint32_t take_number(cmif_reader *r)
{
    skip_space(r);
    uint64_t value = 0;
    size_t   from  = r->at;
    while (r->at < r->size && vault_is_digit(r->data[r->at]) && r->at - from < 9) {
        value = value * 10 + r->data[r->at++] - '0';
    }
    r->failed = r->failed || r->at == from;
    return (uint32_t) value;
}

static uint32_t take_hex(cmif_reader *r)
{
    const uint8_t *p     = cmif_read_bytes(r, 4);
    uint32_t       value = 0;
    for (size_t i = 0; p && i < 4; i++) {
        static const char hex[] = "0123456789abcdef";
        const char       *digit = strchr(hex, p[i] >= 'A' && p[i] <= 'F' ? p[i] + 32 : p[i]);
        r->failed               = r->failed || p[i] == 0 || !digit;
        value                   = value << 4 | (digit ? (uint32_t) (digit - hex) : 0);
    }
    return value;
}

/* A string, appended to out. */
static cmif_code take_string(cmif_reader *r, cmif_secret *out, cmif_err *err)
{
    cmif_code rc    = CMIF_OK;
    size_t    start = out->size;
    take(r, "\"");
    while (rc == CMIF_OK && !r->failed) {
        uint8_t           bytes[4] = {cmif_read_u8(r)};
        size_t            n        = 1;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        if (bytes[0] == '"' || r->failed) {
            break;
        }
        if (bytes[0] < 0x20) {
            r->failed = true;
        } else if (bytes[0] == '\\') {
            uint8_t     kind = cmif_read_u8(r);
            const char *at   = kind ? strchr(from, kind) : NULL;
            if (kind == 'u') {
                uint32_t c = take_hex(r);
                if (c >= 0xd800 && c < 0xdc00) { /* the first half of a pair */
                    const uint8_t *next = cmif_read_bytes(r, 2);
                    uint32_t       low  = next && memcmp(next, "\\u", 2) == 0 ? take_hex(r) : 0;
                    r->failed           = r->failed || low < 0xdc00 || low > 0xdfff;
                    c                   = 0x10000 + ((c - 0xd800) << 10) + (low & 0x3ff);
                }
                r->failed = r->failed || !utf8proc_codepoint_valid((utf8proc_int32_t) c);
                n         = r->failed ? 0 : (size_t) utf8proc_encode_char((utf8proc_int32_t) c, bytes);
            } else if (at) {
                bytes[0] = (uint8_t) to[at - from];
            } else {
                r->failed = true;
            }
        }
        rc = cmif_secret_append(out, bytes, n, err);
        cmif_wipe(bytes, sizeof bytes);
    }
    for (size_t i = start; rc == CMIF_OK && i < out->size && !r->failed;) { /* JSON is UTF-8 */
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(out->data + i, (utf8proc_ssize_t) (out->size - i), &c);
        r->failed          = n < 1;
        i += n < 1 ? 1 : (size_t) n;
    }
    return rc;
}

/* One object of the array: its four strings, end to end in vault->written, with their ends; then the rest. */
/* yyyymmdd as surrogate.c makes it: a year or none, a month, a day or none. */
static bool is_date(uint32_t date)
{
    uint32_t month = date / 100 % 100;
    return month >= 1 && month <= 12 && date % 100 <= 31 && date < 100000000;
}

static cmif_code take_entry(cmif_vault *vault, cmif_reader *r, cmif_err *err)
{
    cmif_code   rc      = CMIF_OK;
    size_t      ends[5] = {0};
    vault_entry entry   = {0};
    vault->written.size = 0;
    for (size_t k = 0; rc == CMIF_OK && !r->failed && k < 5; k++) {
        if (take(r, k > 0 ? "," : "{") && take(r, "\"") && take(r, k < 4 ? member_names[k] : "match") &&
            take(r, "\"") && take(r, ":")) {
            rc = take_string(r, &vault->written, err);
        }
        ends[k] = vault->written.size;
    }
    if (rc != CMIF_OK || r->failed) {
        return rc;
    }
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int) (ends[4] - ends[3]), (const char *) vault->written.data + ends[3]);
    while (entry.match < VAULT_MATCHES && strcmp(name, match_names[entry.match]) != 0) {
        entry.match++;
    }
    snprintf(name, sizeof name, "%.*s", (int) ends[0], (const char *) vault->written.data);
    cmif_span_class class = CMIF_SPAN_OTHER;
    r->failed             = entry.match == VAULT_MATCHES || !cmif_span_class_find(name, &class) || ends[1] == ends[0] ||
                ends[3] == ends[2] || ends[3] - ends[2] > VAULT_TEXT_MAX;
    entry.class = (uint8_t) class;
    if (!r->failed && take(r, ",") && take(r, "\"from\"") && take(r, ":")) {
        entry.from = take_number(r);
    }
    if (!r->failed && take(r, ",") && take(r, "\"to\"") && take(r, ":")) {
        entry.to  = take_number(r);
        r->failed = r->failed || ((entry.from || entry.to) && (!is_date(entry.from) || !is_date(entry.to)));
    }
    vault->key.size = 0;
    if (!r->failed && take(r, "}")) {
        const uint8_t *bytes = vault->written.data;
        rc                   = cmif_secret_append(&vault->key, bytes + ends[0], ends[1] - ends[0], err);
        r->failed            = rc == CMIF_OK && vault_find(vault) != NULL;
        if (rc == CMIF_OK && !r->failed) {
            rc = vault_add(vault, entry, bytes + ends[1], ends[2] - ends[1], bytes + ends[2], ends[3] - ends[2], err);
        }
    }
    return rc;
}

cmif_code cmif_vault_read(cmif_vault *vault, const void *json, size_t size, cmif_err *err)
{
    cmif_reader r     = cmif_reader_over(json, size);
    cmif_vault *fresh = NULL;
    cmif_code   rc    = cmif_vault_new(vault->lists, &fresh, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (take(&r, "{") && take(&r, "\"cmif-vault\"") && take(&r, ":") && take(&r, "1") && take(&r, ",") &&
        take(&r, "\"shift\"") && take(&r, ":")) {
        bool     negative = peek(&r, '-') && take(&r, "-");
        uint32_t shift    = take_number(&r);
        r.failed          = r.failed || shift > 4000 || shift % 7 != 0;
        fresh->shift      = negative ? -(int32_t) shift : (int32_t) shift;
    }
    if (!r.failed && take(&r, ",") && take(&r, "\"entries\"") && take(&r, ":") && take(&r, "[") && !peek(&r, ']')) {
        do {
            rc = take_entry(fresh, &r, err);
        } while (rc == CMIF_OK && !r.failed && peek(&r, ',') && take(&r, ","));
    }
    if (rc == CMIF_OK && !r.failed && take(&r, "]") && take(&r, "}")) {
        skip_space(&r);
    }
    if (rc == CMIF_OK && (r.failed || r.at != r.size)) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "not a vault as `cmif sanitize` writes it: byte %zu of %zu is not what was expected; give the "
                       "file that was saved with the text",
                       r.at, r.size);
    }
    if (rc == CMIF_OK) {
        cmif_vault swap = *vault;
        *vault          = *fresh;
        *fresh          = swap;
        swap.self       = vault->self; /* each block stays in its own memory */
        vault->self     = fresh->self;
        fresh->self     = swap.self;
        cmif_wipe(&swap, sizeof swap);
    }
    cmif_vault_free(fresh);
    return rc;
}
