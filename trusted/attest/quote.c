#include "attest/quote.h"

#include "attest/part.h"
#include "base/bytes.h"

#include <string.h>

static const uint8_t intel_vendor[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                         0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};

static const struct {
    cmif_tee tee;
    uint32_t size;
} bodies[] = {{CMIF_TEE_NONE, 0}, /* by v5 body type */
              {CMIF_TEE_SGX, CMIF_SGX_REPORT_SIZE},
              {CMIF_TEE_TDX, CMIF_TD_REPORT_SIZE},
              {CMIF_TEE_TDX, CMIF_TD_REPORT15_SIZE}};

static cmif_code quote_header(cmif_reader *r, cmif_quote *q, cmif_err *err)
{
    q->version        = cmif_read_u16(r);
    unsigned key_type = cmif_read_u16(r);
    uint32_t tee_type = cmif_read_u32(r);
    cmif_read_bytes(r, 4);
    const uint8_t *vendor = cmif_read_bytes(r, sizeof intel_vendor);
    cmif_read_bytes(r, 20);
    if (r->failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "quote: header of 48 bytes expected, found %zu bytes", r->size);
    }
    if (q->version < 3 || q->version > 5) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: version %u at byte 0; 3, 4 and 5 are known", q->version);
    }
    if (key_type != 2) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: attestation key type %u at byte 2; 2 (ECDSA P-256) is known",
                         key_type);
    }
    if (tee_type != 0 && (q->version == 3 || tee_type != 0x81)) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: TEE type 0x%x at byte 4 in a quote of version %u",
                         (unsigned) tee_type, q->version);
    }
    if (memcmp(vendor, intel_vendor, sizeof intel_vendor) != 0) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: QE vendor at byte 12 is not Intel");
    }
    q->tee = tee_type ? CMIF_TEE_TDX : CMIF_TEE_SGX;
    return CMIF_OK;
}

static cmif_code quote_body(cmif_reader *r, cmif_quote *q, cmif_err *err)
{
    uint32_t type = q->tee == CMIF_TEE_SGX ? 1 : 2, size;
    if (q->version == 5) {
        q->body_type = cmif_read_u16(r);
        size         = cmif_read_u32(r);
        type         = q->body_type;
        if (!r->failed && (type < 1 || type > 3)) {
            return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: body type %u at byte 48; 1 to 3 are known",
                             (unsigned) type);
        }
        if (!r->failed && (bodies[type].tee != q->tee || bodies[type].size != size)) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "quote: body type %u of %u bytes at byte 48 does not fit TEE type or size %u",
                             (unsigned) type, (unsigned) size, (unsigned) bodies[type].size);
        }
    }
    q->body_size = r->failed ? 0 : bodies[type].size;
    q->body      = cmif_read_bytes(r, q->body_size);
    if (r->failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "quote: the body does not end within %zu bytes", r->size);
    }
    q->signed_bytes = r->data;
    q->signed_size  = r->at;
    return CMIF_OK;
}

cmif_code cmif_quote_parse(const uint8_t *data, size_t size, cmif_quote *out, cmif_err *err)
{
    cmif_quote  q  = {.total = size, .trailing_zero = true};
    cmif_reader r  = cmif_reader_over(data, size);
    cmif_code   rc = quote_header(&r, &q, err);
    if (rc == CMIF_OK) {
        rc = quote_body(&r, &q, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    uint32_t       length = cmif_read_u32(&r);
    size_t         start  = r.at;
    const uint8_t *inside = cmif_read_bytes(&r, length);
    if (r.failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "quote: signature data of %u bytes at byte %zu, the file has %zu",
                         (unsigned) length, start, size);
    }
    q.used = r.at;
    for (size_t i = q.used; i < size; i++) {
        q.trailing_zero = q.trailing_zero && data[i] == 0;
    }

    cmif_reader s = cmif_reader_over(inside, length);
    q.signature   = cmif_read_bytes(&s, 64);
    q.key         = cmif_read_bytes(&s, 64);
    if (q.version >= 4) { /* the QE report and what certifies it lie inside certification data of type 6 */
        unsigned outer      = cmif_read_u16(&s);
        uint32_t outer_size = cmif_read_u32(&s);
        if (!s.failed && outer != 6) {
            return cmif_fail(err, CMIF_E_UNSUPPORTED,
                             "quote: outer certification data of type %u at byte %zu; 6 is known", outer, start + 128);
        }
        if (!s.failed && outer_size != s.size - s.at) {
            return cmif_fail(err, CMIF_E_FORMAT, "quote: certification data of %u bytes at byte %zu, %zu are left",
                             (unsigned) outer_size, start + 130, s.size - s.at);
        }
    }
    q.qe_report          = cmif_read_bytes(&s, CMIF_SGX_REPORT_SIZE);
    q.qe_signature       = cmif_read_bytes(&s, 64);
    q.auth_size          = cmif_read_u16(&s);
    q.auth               = cmif_read_bytes(&s, q.auth_size);
    q.certification_type = cmif_read_u16(&s);
    q.certification_size = cmif_read_u32(&s);
    q.certification      = cmif_read_bytes(&s, q.certification_size);
    if (s.failed || s.at != s.size) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "quote: the parts of the signature data take %s than its %u bytes at byte %zu",
                         s.failed ? "more" : "less", (unsigned) length, start);
    }
    if (q.certification_type < 1 || q.certification_type > 7) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "quote: certification data of type %u; 5 is known",
                         q.certification_type);
    }
    *out = q;
    return CMIF_OK;
}

/* What reports hold: numbers little-endian in decimal, the rest as hexadecimal digits. */
typedef struct field {
    const char *name;
    uint16_t    offset, size;
    bool        number;
} field;

static const field sgx_fields[] = {
    {"cpusvn", 0, 16, false},      {"miscselect", 16, 4, false},    {"isvextprodid", 32, 16, false},
    {"attributes", 48, 16, false}, {"mrenclave", 64, 32, false},    {"mrsigner", 128, 32, false},
    {"configid", 192, 64, false},  {"isvprodid", 256, 2, true},     {"isvsvn", 258, 2, true},
    {"configsvn", 260, 2, true},   {"isvfamilyid", 304, 16, false}, {"report_data", 320, 64, false},
};
static const field td_fields[] = {
    {"tee_tcb_svn", 0, 16, false},     {"mrseam", 16, 48, false},       {"mrsignerseam", 64, 48, false},
    {"seamattributes", 112, 8, false}, {"tdattributes", 120, 8, false}, {"xfam", 128, 8, false},
    {"mrtd", 136, 48, false},          {"mrconfigid", 184, 48, false},  {"mrowner", 232, 48, false},
    {"mrownerconfig", 280, 48, false}, {"rtmr0", 328, 48, false},       {"rtmr1", 376, 48, false},
    {"rtmr2", 424, 48, false},         {"rtmr3", 472, 48, false},       {"report_data", 520, 64, false},
    {"tee_tcb_svn2", 584, 16, false},  {"mrservicetd", 600, 48, false},
};

void cmif_quote_fields(const cmif_quote *q, cmif_verdict *verdict)
{
    const bool   sgx    = q->tee == CMIF_TEE_SGX;
    const field *fields = sgx ? sgx_fields : td_fields;
    size_t       count  = sgx ? sizeof sgx_fields / sizeof *fields : sizeof td_fields / sizeof *fields;

    cmif_verdict_number(verdict, "version", q->version);
    cmif_verdict_text(verdict, "tee_type", "0x%x", sgx ? 0 : 0x81);
    if (q->body_type) {
        cmif_verdict_number(verdict, "body_type", q->body_type);
    }
    cmif_verdict_number(verdict, "total_len", q->total);
    cmif_verdict_number(verdict, "used_len", q->used);
    cmif_verdict_number(verdict, "trailing", q->total - q->used);
    cmif_verdict_text(verdict, "trailing_all_zero", "%s", q->trailing_zero ? "true" : "false");
    cmif_verdict_number(verdict, "cert_data_type", q->certification_type);
    cmif_reader qe = cmif_reader_over(q->qe_report + CMIF_SGX_ISVSVN, 2);
    cmif_verdict_number(verdict, "qe_isvsvn", cmif_read_u16(&qe));
    for (size_t i = 0; i < count; i++) {
        const field *f = &fields[i];
        cmif_reader  r = cmif_reader_over(q->body, q->body_size);
        cmif_read_bytes(&r, f->offset);
        if ((size_t) f->offset + f->size > q->body_size) {
            continue; /* TD report 1.0 ends before it */
        }
        if (f->number) {
            cmif_verdict_number(verdict, f->name, cmif_read_le(&r, f->size));
        } else {
            cmif_verdict_hex(verdict, f->name, q->body + f->offset, f->size);
        }
    }
}

const uint8_t *cmif_quote_report_data(const cmif_quote *q)
{
    return q->body + (q->tee == CMIF_TEE_SGX ? CMIF_SGX_REPORT_DATA : CMIF_TD_REPORT_DATA);
}
