#include "receipt/line.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdlib.h>

enum { HASH_SIZE = 32, SIGNATURE_SIZE = 64 };

/* Before what is signed, so that a signature of one thing is none of another. */
static const char receipt_domain[] = "cmif receipt 1\n", head_domain[] = "cmif receipts head 1\n";

/* ---- fields ---- */

typedef enum field_kind { FIELD_TEXT, FIELD_HEX, FIELD_NUMBER, FIELD_CLASSES } field_kind;

typedef struct field {
    const char *name;
    field_kind  kind;
    size_t      at, size;
} field;

#define TEXT_FIELD(type, name)                                                                                         \
    {                                                                                                                  \
#name, FIELD_TEXT, offsetof(type, name), LINE_TEXT_MAX + 1                                                     \
    }
#define HEX_FIELD(type, name)                                                                                          \
    {                                                                                                                  \
#name, FIELD_HEX, offsetof(type, name), sizeof(((type *) NULL)->name)                                          \
    }
#define NUMBER_FIELD(type, name)                                                                                       \
    {                                                                                                                  \
#name, FIELD_NUMBER, offsetof(type, name), sizeof(uint64_t)                                                    \
    }

static const field receipt_fields[] = {
    /* by name, ascending */
    TEXT_FIELD(line, adjacency),
    HEX_FIELD(line, answer_hash),
    {"by_class", FIELD_CLASSES, 0, 0},
    HEX_FIELD(line, conversation),
    NUMBER_FIELD(line, delta_femto),
    NUMBER_FIELD(line, draws),
    NUMBER_FIELD(line, epsilon_at_delta_micro),
    NUMBER_FIELD(line, epsilon_micro),
    TEXT_FIELD(line, key),
    NUMBER_FIELD(line, ledger_id),
    TEXT_FIELD(line, mechanism),
    HEX_FIELD(line, model_id),
    NUMBER_FIELD(line, number),
    NUMBER_FIELD(line, passed),
    TEXT_FIELD(line, peer),
    HEX_FIELD(line, policy_hash),
    HEX_FIELD(line, previous),
    HEX_FIELD(line, released_hash),
    HEX_FIELD(line, signer),
    NUMBER_FIELD(line, sum_draws),
    NUMBER_FIELD(line, sum_epsilon_micro),
    NUMBER_FIELD(line, surrogates),
    HEX_FIELD(line, table_hash),
    NUMBER_FIELD(line, time),
    NUMBER_FIELD(line, version),
};
static const field head_fields[] = {
    NUMBER_FIELD(line_head, count),
    HEX_FIELD(line_head, hash),
    HEX_FIELD(line_head, signer),
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- writing ---- */

static bool is_text(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\') {
            return false;
        }
    }
    return size <= LINE_TEXT_MAX;
}

static void put_text(cmif_writer *w, const char *text)
{
    cmif_write_bytes(w, text, strlen(text));
}

static void put_number(cmif_writer *w, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    put_text(w, digits);
}

static void put_hex(cmif_writer *w, const uint8_t *bytes, size_t size)
{
    char digits[2 * SIGNATURE_SIZE + 1];
    cmif_hex(bytes, size, digits);
    cmif_write_bytes(w, digits, 2 * size);
}

static void put_quoted(cmif_writer *w, const char *text)
{
    if (!is_text(text, strlen(text))) {
        w->failed = true;
    }
    put_text(w, "\"");
    put_text(w, text);
    put_text(w, "\"");
}

static void put_classes(cmif_writer *w, const line *l)
{
    put_text(w, "{");
    for (size_t i = 0; i < l->class_count; i++) {
        put_text(w, i ? "," : "");
        put_quoted(w, l->classes[i].name);
        for (size_t k = 0; k < 4; k++) {
            put_text(w, k ? "," : ":[");
            put_number(w, l->classes[i].counts[k]);
        }
        put_text(w, "]");
    }
    put_text(w, "}");
}

static void put_object(cmif_writer *w, const void *object, const field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = (const uint8_t *) object + fields[i].at;
        uint64_t       number;
        put_text(w, i ? "," : "{");
        put_quoted(w, fields[i].name);
        put_text(w, ":");
        switch (fields[i].kind) {
        case FIELD_TEXT:
            if (*at) {
                put_quoted(w, (const char *) at);
            } else {
                put_text(w, "null");
            }
            break;
        case FIELD_HEX:
            put_text(w, "\"");
            put_hex(w, at, fields[i].size);
            put_text(w, "\"");
            break;
        case FIELD_NUMBER:
            memcpy(&number, at, sizeof number);
            put_number(w, number);
            break;
        case FIELD_CLASSES:
            put_classes(w, object);
            break;
        }
    }
    put_text(w, "}");
}

static cmif_code no_crypto(cmif_err *err)
{
    return cmif_fail(err, CMIF_E_MEMORY, "OpenSSL cannot sign or hash: is there memory, and Ed25519 in its provider?");
}

cmif_code line_hash(const char *text, size_t size, uint8_t out[static 32], cmif_err *err)
{
    unsigned hash_size = 0;
    return EVP_Digest(text, size, out, &hash_size, EVP_sha256(), NULL) ? CMIF_OK : no_crypto(err);
}

/* {"<name>":OBJECT,"signature":"HEX"} */
static cmif_code write_signed(const char *name, const char *domain, const void *object, const field *fields,
                              size_t count, EVP_PKEY *key, char *text, size_t *size, cmif_err *err)
{
    char        message[LINE_SIZE_MAX];
    cmif_writer w = cmif_writer_over(text, LINE_SIZE_MAX - 1); /* and a newline */
    cmif_writer m = cmif_writer_over(message, sizeof message);
    uint8_t     signature[SIGNATURE_SIZE];
    size_t      room = sizeof signature;
    cmif_code   rc   = CMIF_OK;
    EVP_MD_CTX *context;

    put_text(&m, domain);
    put_object(&m, object, fields, count);
    if (m.failed) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "a receipt cannot hold this: a text has control letters, \" or \\, or more than %d bytes",
                         LINE_TEXT_MAX);
    }
    context = EVP_MD_CTX_new();
    if (!context || EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, signature, &room, (const uint8_t *) message, m.at) != 1 || room != sizeof signature) {
        rc = no_crypto(err);
        goto done;
    }
    put_text(&w, "{\"");
    put_text(&w, name);
    put_text(&w, "\":");
    cmif_write_bytes(&w, message + strlen(domain), m.at - strlen(domain));
    put_text(&w, ",\"signature\":\"");
    put_hex(&w, signature, sizeof signature);
    put_text(&w, "\"}");
    if (w.failed) {
        rc = cmif_fail(err, CMIF_E_RANGE, "a receipt has at most %d bytes", LINE_SIZE_MAX);
        goto done;
    }
    *size = w.at;
done:
    EVP_MD_CTX_free(context);
    return rc;
}

cmif_code line_format(const line *receipt, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err)
{
    cmif_writer w = cmif_writer_over(text, LINE_SIZE_MAX);
    put_object(&w, receipt, receipt_fields, COUNT(receipt_fields));
    if (w.failed) {
        return cmif_fail(err, CMIF_E_RANGE, "this is no receipt that can be written");
    }
    *size = w.at;
    return CMIF_OK;
}

cmif_code line_write(const line *receipt, EVP_PKEY *key, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err)
{
    return write_signed("receipt", receipt_domain, receipt, receipt_fields, COUNT(receipt_fields), key, text, size,
                        err);
}

cmif_code line_write_head(const line_head *head, EVP_PKEY *key, char text[static LINE_SIZE_MAX], size_t *size,
                          cmif_err *err)
{
    return write_signed("head", head_domain, head, head_fields, COUNT(head_fields), key, text, size, err);
}

/* ---- reading: exactly what is written above ---- */

static void expect(cmif_reader *r, const char *text)
{
    const size_t   size = strlen(text);
    const uint8_t *here = cmif_read_bytes(r, size);
    r->failed           = r->failed || memcmp(here, text, size) != 0;
}

static bool next_is(const cmif_reader *r, char c)
{
    return !r->failed && r->at < r->size && r->data[r->at] == (uint8_t) c;
}

static uint64_t get_number(cmif_reader *r)
{
    uint64_t     number = 0;
    const size_t from   = r->at;
    while (!r->failed && r->at < r->size && r->data[r->at] >= '0' && r->data[r->at] <= '9') {
        r->failed = __builtin_mul_overflow(number, (uint64_t) 10, &number) ||
                    __builtin_add_overflow(number, (uint64_t) (r->data[r->at] - '0'), &number);
        r->at++;
    }
    r->failed = r->failed || r->at == from || (r->data[from] == '0' && r->at > from + 1);
    return r->failed ? 0 : number;
}

static void get_hex(cmif_reader *r, uint8_t *out, size_t size)
{
    const uint8_t *digits = cmif_read_bytes(r, 2 * size);
    r->failed             = r->failed || !cmif_unhex((const char *) digits, size, out);
}

static void get_quoted(cmif_reader *r, char out[static LINE_TEXT_MAX + 1])
{
    expect(r, "\"");
    const size_t from = r->at;
    while (!r->failed && r->at < r->size && r->data[r->at] != '"') {
        r->at++;
    }
    const size_t size = r->at - from;
    r->failed         = r->failed || !is_text((const char *) r->data + from, size);
    if (!r->failed) {
        memcpy(out, r->data + from, size);
        out[size] = '\0';
    }
    expect(r, "\"");
}

static void get_classes(cmif_reader *r, line *l)
{
    expect(r, "{");
    while (!next_is(r, '}') && !r->failed) {
        if (l->class_count == CMIF_RECEIPT_CLASSES) {
            r->failed = true;
            return;
        }
        line_class *c = &l->classes[l->class_count];
        expect(r, l->class_count ? "," : "");
        get_quoted(r, c->name);
        for (size_t k = 0; k < 4; k++) {
            expect(r, k ? "," : ":[");
            c->counts[k] = get_number(r);
        }
        expect(r, "]");
        r->failed = r->failed || (l->class_count && strcmp(c[-1].name, c->name) >= 0);
        l->class_count++;
    }
    expect(r, "}");
}

static void get_object(cmif_reader *r, void *object, const field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = (uint8_t *) object + fields[i].at;
        uint64_t number;
        expect(r, i ? ",\"" : "{\"");
        expect(r, fields[i].name);
        expect(r, "\":");
        switch (fields[i].kind) {
        case FIELD_TEXT:
            if (next_is(r, 'n')) {
                expect(r, "null");
            } else {
                get_quoted(r, (char *) at);
                r->failed = r->failed || !*at; /* an empty text is null */
            }
            break;
        case FIELD_HEX:
            expect(r, "\"");
            get_hex(r, at, fields[i].size);
            expect(r, "\"");
            break;
        case FIELD_NUMBER:
            number = get_number(r);
            memcpy(at, &number, sizeof number);
            break;
        case FIELD_CLASSES:
            get_classes(r, object);
            break;
        }
    }
    expect(r, "}");
}

static cmif_code not_one(const char *what, size_t at, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_FORMAT, "this is no %s, or it was changed: byte %zu is not what stands there in one",
                     what, at);
}

static cmif_code read_object(const char *what, const char *text, size_t size, void *object, const field *fields,
                             size_t count, cmif_err *err)
{
    cmif_reader r = cmif_reader_over(text, size);
    get_object(&r, object, fields, count);
    return r.failed || r.at != size ? not_one(what, r.at, err) : CMIF_OK;
}

cmif_code line_parse(const char *text, size_t size, line *out, cmif_err *err)
{
    line      l  = {0};
    cmif_code rc = read_object("receipt", text, size, &l, receipt_fields, COUNT(receipt_fields), err);
    if (rc == CMIF_OK && l.version != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "a receipt of version %" PRIu64 ", and this program knows 1: use a newer cmif", l.version);
    }
    if (rc == CMIF_OK) {
        *out = l;
    }
    return rc;
}

static cmif_code check_signature(const char *domain, const char *inner, size_t size, const uint8_t signer[static 32],
                                 const uint8_t signature[static SIGNATURE_SIZE], cmif_err *err)
{
    char        message[LINE_SIZE_MAX + sizeof head_domain];
    cmif_writer m       = cmif_writer_over(message, sizeof message);
    cmif_code   rc      = CMIF_OK;
    EVP_PKEY   *key     = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, signer, 32);
    EVP_MD_CTX *context = EVP_MD_CTX_new();

    put_text(&m, domain);
    cmif_write_bytes(&m, inner, size);
    if (!key || !context || m.failed || EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1) {
        rc = no_crypto(err);
    } else if (EVP_DigestVerify(context, signature, SIGNATURE_SIZE, (const uint8_t *) message, m.at) != 1) {
        rc = cmif_fail(err, CMIF_E_TRUST, "the signature is not that of the key it names: it was changed or forged");
    }
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    return rc;
}

/* Where the inner object of a signed line is; its signature. */
static cmif_code open_signed(const char *name, const char *text, size_t size, const char **inner, size_t *inner_size,
                             uint8_t signature[static SIGNATURE_SIZE], cmif_err *err)
{
    static const char middle[] = ",\"signature\":\"";
    const size_t      front = strlen(name) + 4, tail = sizeof middle - 1 + 2 * SIGNATURE_SIZE + 2;
    cmif_reader       r = cmif_reader_over(text, size);

    expect(&r, "{\"");
    expect(&r, name);
    expect(&r, "\":");
    r.failed = r.failed || size > LINE_SIZE_MAX || size < front + tail;
    if (!r.failed) {
        *inner      = text + front;
        *inner_size = size - front - tail;
        r.at        = size - tail;
        expect(&r, middle);
        get_hex(&r, signature, SIGNATURE_SIZE);
        expect(&r, "\"}");
    }
    return r.failed ? not_one(name, r.at, err) : CMIF_OK;
}

cmif_code line_read(const char *text, size_t size, line *out, cmif_err *err)
{
    const char *inner      = NULL;
    size_t      inner_size = 0;
    uint8_t     signature[SIGNATURE_SIZE];
    line        l  = {0};
    cmif_code   rc = open_signed("receipt", text, size, &inner, &inner_size, signature, err);
    rc             = rc == CMIF_OK ? line_parse(inner, inner_size, &l, err) : rc;
    rc             = rc == CMIF_OK ? check_signature(receipt_domain, inner, inner_size, l.signer, signature, err) : rc;
    if (rc == CMIF_OK) {
        *out = l;
    }
    return rc;
}

cmif_code line_read_head(const char *text, size_t size, line_head *out, cmif_err *err)
{
    const char *inner      = NULL;
    size_t      inner_size = 0;
    uint8_t     signature[SIGNATURE_SIZE];
    line_head   h  = {0};
    cmif_code   rc = open_signed("head", text, size, &inner, &inner_size, signature, err);
    rc = rc == CMIF_OK ? read_object("head", inner, inner_size, &h, head_fields, COUNT(head_fields), err) : rc;
    rc = rc == CMIF_OK ? check_signature(head_domain, inner, inner_size, h.signer, signature, err) : rc;
    if (rc == CMIF_OK) {
        *out = h;
    }
    return rc;
}

/* ---- a chain of them ---- */

cmif_code line_follows(const line *last, const uint8_t last_hash[static 32], const line *next, cmif_err *err)
{
    uint64_t draws, epsilon;

    if (next->number != last->number + 1) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "it has number %" PRIu64 " where %" PRIu64
                         " must be: receipts were removed, doubled or put in "
                         "another order",
                         next->number, last->number + 1);
    }
    if (memcmp(next->previous, last_hash, HASH_SIZE) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "it was written after another receipt than the one before it");
    }
    if (last->number && memcmp(next->signer, last->signer, HASH_SIZE) != 0) {
        return cmif_fail(err, CMIF_E_TRUST, "another key signed it than those before it");
    }
    if (__builtin_add_overflow(last->sum_draws, next->draws, &draws) ||
        __builtin_add_overflow(last->sum_epsilon_micro, next->epsilon_micro, &epsilon) || draws != next->sum_draws ||
        epsilon != next->sum_epsilon_micro) {
        return cmif_fail(err, CMIF_E_TRUST, "its sums are not those of the receipts up to it");
    }
    return CMIF_OK;
}

cmif_code line_get(FILE *file, char text[static LINE_SIZE_MAX], size_t *size, cmif_err *err)
{
    size_t count = 0;
    int    c;
    while ((c = getc_unlocked(file)) != EOF && c != '\n') {
        if (count == LINE_SIZE_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "a line has more than %d bytes: this is no receipt", LINE_SIZE_MAX);
        }
        text[count++] = (char) c;
    }
    if (ferror(file)) {
        return cmif_fail(err, CMIF_E_IO, "it cannot be read: is it a file, and does the disk work?");
    }
    if (c == EOF && count) {
        return cmif_fail(
            err, CMIF_E_FORMAT,
            "it ends without a newline: it was changed, or a program was killed as it wrote it and the next "
            "receipt will repair that");
    }
    if (c == '\n' && !count) {
        return cmif_fail(err, CMIF_E_FORMAT, "an empty line is no receipt");
    }
    *size = count;
    return CMIF_OK;
}

cmif_code line_audit(FILE *file, const line_head *head_file, const uint8_t *key, const uint8_t *head, cmif_audit *out,
                     cmif_err *err)
{
    char       text[LINE_SIZE_MAX];
    size_t     size  = 0;
    line       last  = {0}, next;
    cmif_audit audit = {0};
    bool       met = !head_file || !head_file->count, met_head = !head;
    cmif_code  rc = CMIF_OK;

    for (;;) {
        rc = line_get(file, text, &size, err);
        if (rc == CMIF_OK && !size) {
            break;
        }
        rc = rc == CMIF_OK ? line_read(text, size, &next, err) : rc;
        rc = rc == CMIF_OK ? line_follows(&last, audit.head, &next, err) : rc;
        if (rc == CMIF_OK && ((key && memcmp(key, next.signer, HASH_SIZE) != 0) ||
                              (head_file && memcmp(head_file->signer, next.signer, HASH_SIZE) != 0))) {
            rc = cmif_fail(err, CMIF_E_TRUST, "another key signed it than the one of this folder");
        }
        rc = rc == CMIF_OK ? line_hash(text, size, audit.head, err) : rc;
        if (rc == CMIF_OK && head_file && head_file->count == next.number) {
            met = memcmp(head_file->hash, audit.head, HASH_SIZE) == 0;
            rc  = met ? CMIF_OK : cmif_fail(err, CMIF_E_TRUST, "it is not the one that the head file vouches for");
        }
        if (rc == CMIF_OK && (__builtin_add_overflow(audit.surrogates, next.surrogates, &audit.surrogates) ||
                              __builtin_add_overflow(audit.passed, next.passed, &audit.passed))) {
            rc = cmif_fail(err, CMIF_E_TRUST, "its sums are beyond 2^64");
        }
        if (rc != CMIF_OK) {
            cmif_err_context(err, "receipt %" PRIu64, last.number + 1);
            return rc;
        }
        met_head    = met_head || memcmp(head, audit.head, HASH_SIZE) == 0;
        audit.first = last.number ? audit.first : (int64_t) next.time;
        audit.last  = (int64_t) next.time;
        last        = next;
    }
    if (!met) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "the chain ends after receipt %" PRIu64 ", and its head file says %" PRIu64 ": it was cut",
                         last.number, head_file->count);
    }
    if (!met_head) {
        return cmif_fail(err, CMIF_E_TRUST,
                         "no receipt of %" PRIu64
                         " has the hash that must be there: the chain was cut, or is another one",
                         last.number);
    }
    if (!last.number) {
        return cmif_fail(err, CMIF_E_RANGE, "there is no receipt in it");
    }
    audit.receipts      = last.number;
    audit.draws         = last.sum_draws;
    audit.epsilon_micro = last.sum_epsilon_micro;
    audit.complete      = head_file || head;
    memcpy(audit.key, last.signer, sizeof audit.key);
    *out = audit;
    return CMIF_OK;
}
