/* bytes - bounded cursors over byte arrays, size arithmetic that cannot wrap, and bytes as hexadecimal digits.
 *
 * A reader that ran out stays failed and gives zeros: read everything, then ask `failed` once. */
#ifndef CMIF_BASE_BYTES_H
#define CMIF_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct cmif_reader {
    const uint8_t *data;   /* borrowed */
    size_t         size;
    size_t         at;     /* next byte; at <= size always */
    bool           failed; /* something was asked for that is not there */
} cmif_reader;

static inline cmif_reader cmif_reader_over(const void *data, size_t size)
{
    return (cmif_reader){.data = data, .size = size};
}

/* The next n bytes, or NULL when fewer are left. */
static inline const uint8_t *cmif_read_bytes(cmif_reader *r, size_t n)
{
    if (r->failed || n > r->size - r->at) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->at;
    r->at += n;
    return p;
}

static inline uint64_t cmif_read_le(cmif_reader *r, size_t n)
{
    const uint8_t *p     = cmif_read_bytes(r, n);
    uint64_t       value = 0;
    for (size_t i = n; p && i-- > 0;) {
        value = value << 8 | p[i];
    }
    return value;
}

static inline uint8_t  cmif_read_u8(cmif_reader *r) { return (uint8_t) cmif_read_le(r, 1); }
static inline uint16_t cmif_read_u16(cmif_reader *r) { return (uint16_t) cmif_read_le(r, 2); }
static inline uint32_t cmif_read_u32(cmif_reader *r) { return (uint32_t) cmif_read_le(r, 4); }
static inline uint64_t cmif_read_u64(cmif_reader *r) { return cmif_read_le(r, 8); }
static inline float    cmif_read_f32(cmif_reader *r)
{
    uint32_t bits = cmif_read_u32(r);
    float    value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

typedef struct cmif_writer {
    uint8_t *data; /* borrowed */
    size_t   size;
    size_t   at;
    bool     failed; /* room ran out; nothing after that was written */
} cmif_writer;

static inline cmif_writer cmif_writer_over(void *data, size_t size)
{
    return (cmif_writer){.data = data, .size = size};
}

/* Room for the next n bytes, to be filled by the caller; NULL when there is none. */
static inline uint8_t *cmif_write_room(cmif_writer *w, size_t n)
{
    if (w->failed || n > w->size - w->at) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->data + w->at;
    w->at += n;
    return p;
}

static inline void cmif_write_bytes(cmif_writer *w, const void *bytes, size_t n)
{
    uint8_t *p = cmif_write_room(w, n);
    if (p && n) {
        memcpy(p, bytes, n);
    }
}

static inline void cmif_write_le(cmif_writer *w, uint64_t value, size_t n)
{
    uint8_t *p = cmif_write_room(w, n);
    for (size_t i = 0; p && i < n; i++) {
        p[i] = (uint8_t) (value >> (8 * i));
    }
}

static inline void cmif_write_u8(cmif_writer *w, uint8_t value) { cmif_write_le(w, value, 1); }
static inline void cmif_write_u16(cmif_writer *w, uint16_t value) { cmif_write_le(w, value, 2); }
static inline void cmif_write_u32(cmif_writer *w, uint32_t value) { cmif_write_le(w, value, 4); }
static inline void cmif_write_u64(cmif_writer *w, uint64_t value) { cmif_write_le(w, value, 8); }
static inline void cmif_write_f32(cmif_writer *w, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    cmif_write_u32(w, bits);
}

/* *out = a * b, or a + b; false (and *out untouched) when it does not fit. */
static inline bool cmif_size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *out = product;
    return true;
}

static inline bool cmif_size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *out = sum;
    return true;
}

/* 2 * count hexadecimal digits in lower case, and a zero byte. */
static inline void cmif_hex(const uint8_t *bytes, size_t count, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        out[2 * i]     = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * count] = '\0';
}

/* The other way, from 2 * count digits in lower case; false (and out untouched) when text does not begin with so many. */
static inline bool cmif_unhex(const char *text, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < 2 * count; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) {
            return false;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t high = (uint8_t) text[2 * i], low = (uint8_t) text[2 * i + 1];
        out[i] = (uint8_t) ((high <= '9' ? high - '0' : high - 'a' + 10) << 4 | (low <= '9' ? low - '0' : low - 'a' + 10));
    }
    return true;
}

#endif
