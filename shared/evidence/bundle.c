#include "evidence/evidence.h"

#include "base/bytes.h"

#include <stdlib.h>

enum { HEADER_SIZE = 12, ITEM_HEADER_SIZE = 8 };
static const uint8_t magic[8] = {'C', 'M', 'I', 'F', 'E', 'V', '0', '1'};

cmif_code cmif_evidence_put(cmif_evidence *evidence, uint8_t kind, const void *data, size_t size, cmif_err *err)
{
    const size_t at = evidence->size ? evidence->size : HEADER_SIZE;
    if (kind == 0 || kind > CMIF_EVIDENCE_KIND_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "evidence: item of kind %u, the kinds are 1 to %d", kind,
                         CMIF_EVIDENCE_KIND_MAX);
    }
    if (evidence->count == CMIF_EVIDENCE_ITEMS_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "evidence: more than %d items", CMIF_EVIDENCE_ITEMS_MAX);
    }
    if (size == 0 || size > CMIF_EVIDENCE_SIZE_MAX - ITEM_HEADER_SIZE ||
        at > CMIF_EVIDENCE_SIZE_MAX - ITEM_HEADER_SIZE - size) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "evidence: an item of %zu bytes after %zu, a bundle has at most %d and no empty item", size,
                         at, CMIF_EVIDENCE_SIZE_MAX);
    }
    const size_t total = at + ITEM_HEADER_SIZE + size;
    if (total > evidence->capacity) {
        size_t   capacity = total + total / 2;
        uint8_t *bytes    = realloc(evidence->bytes, capacity);
        if (!bytes) {
            return cmif_fail(err, CMIF_E_MEMORY, "evidence: no memory for %zu bytes", capacity);
        }
        evidence->bytes    = bytes;
        evidence->capacity = capacity;
    }
    evidence->count++;
    evidence->size = total;
    cmif_writer w  = cmif_writer_over(evidence->bytes, total);
    cmif_write_bytes(&w, magic, sizeof magic);
    cmif_write_u32(&w, evidence->count);
    w.at = at;
    cmif_write_u32(&w, kind); /* u8 kind, and zeros */
    cmif_write_u32(&w, (uint32_t) size);
    cmif_write_bytes(&w, data, size);
    return CMIF_OK;
}

void cmif_evidence_free(cmif_evidence *evidence)
{
    free(evidence->bytes);
    *evidence = (cmif_evidence){0};
}

cmif_code cmif_evidence_read(const void *bytes, size_t size, cmif_evidence_item *items, size_t *count, cmif_err *err)
{
    cmif_reader    r     = cmif_reader_over(bytes, size);
    const uint8_t *begin = cmif_read_bytes(&r, sizeof magic);
    const uint32_t given = cmif_read_u32(&r);
    const size_t   room  = *count < CMIF_EVIDENCE_ITEMS_MAX ? *count : CMIF_EVIDENCE_ITEMS_MAX;
    if (size > CMIF_EVIDENCE_SIZE_MAX || r.failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected %d to %d bytes, found %zu", HEADER_SIZE,
                         CMIF_EVIDENCE_SIZE_MAX, size);
    }
    if (memcmp(begin, magic, sizeof magic) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected 'CMIFEV01' at offset 0, found something else");
    }
    if (given == 0 || given > room) {
        return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected 1 to %zu items at offset %zu, found %u", room,
                         sizeof magic, given);
    }
    for (uint32_t i = 0; i < given; i++) {
        const size_t   at       = r.at;
        const uint32_t kind     = cmif_read_u32(&r);
        const uint32_t bytes_of = cmif_read_u32(&r);
        if (r.failed) {
            return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected item %u of %u at offset %zu, found the end at %zu",
                             i, given, at, size);
        }
        if (kind == 0 || kind > CMIF_EVIDENCE_KIND_MAX) { /* with what is reserved, which is zero */
            return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected a kind of 1 to %d at offset %zu, found 0x%08x",
                             CMIF_EVIDENCE_KIND_MAX, at, kind);
        }
        const uint8_t *data = cmif_read_bytes(&r, bytes_of);
        if (!data || bytes_of == 0) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "evidence: expected 1 to %zu bytes at offset %zu, found a length of %u",
                             size - at - ITEM_HEADER_SIZE, at + 4, bytes_of);
        }
        items[i] = (cmif_evidence_item){.kind = (uint8_t) kind, .data = data, .size = bytes_of};
    }
    if (r.at != size) {
        return cmif_fail(err, CMIF_E_FORMAT, "evidence: expected the end at offset %zu, found %zu more bytes", r.at,
                         size - r.at);
    }
    *count = given;
    return CMIF_OK;
}
