#include "lexicon/sources.h"

#include "base/bytes.h"
#include "lexicon/map.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { SIZE_LIMIT = 1 << 30 };

static const double centibel = 0.97723722095581068270; /* 10^-0.01 */

cmif_code cmif_source_read(const char *path, cmif_source *out, cmif_err *err)
{
    cmif_code rc       = CMIF_OK;
    size_t    capacity = 0;

    *out       = (cmif_source){0};
    FILE *file = fopen(path, "rbe");
    if (!file) {
        return cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
    }
    out->path = strdup(path);
    if (!out->path) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the name of a file");
        goto done;
    }
    do {
        if (!cmif_grow(&out->data, &capacity, out->size + 1, 1)) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for '%s'", path);
            goto done;
        }
        out->size += fread(out->data + out->size, 1, capacity - out->size - 1, file);
        if (out->size > SIZE_LIMIT) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is larger than 1 GiB", path);
            goto done;
        }
    } while (!feof(file) && !ferror(file));
    if (ferror(file)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        goto done;
    }
    out->data[out->size] = 0;
    if (!EVP_Digest(out->data, out->size, out->digest, NULL, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
        goto done;
    }
    cmif_hex(out->digest, sizeof out->digest, out->hash);
done:
    fclose(file);
    return rc;
}

cmif_code cmif_source_read_in(const char *folder, const char *name, cmif_source *out, cmif_err *err)
{
    *out        = (cmif_source){0};
    size_t size = strlen(folder) + strlen(name) + 2;
    char  *path = malloc(size);
    if (!path) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the name of a file");
    }
    snprintf(path, size, "%s/%s", folder, name);
    cmif_code rc = cmif_source_read(path, out, err);
    free(path);
    return rc;
}

cmif_code cmif_source_read_gzip(const char *path, cmif_source *out, cmif_err *err)
{
    char    *plain    = NULL;
    size_t   capacity = 0, size = 0;
    z_stream stream = {0};
    int      status = Z_OK;

    cmif_code rc = cmif_source_read(path, out, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (inflateInit2(&stream, 15 + 16) != Z_OK) { /* gzip only */
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to unpack '%s'", path);
    }
    stream.next_in  = (Bytef *) out->data;
    stream.avail_in = (uInt) out->size;
    while (status == Z_OK && size <= SIZE_LIMIT) {
        if (!cmif_grow(&plain, &capacity, size + 1, 1)) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to unpack '%s'", path);
            goto done;
        }
        stream.next_out  = (Bytef *) plain + size;
        stream.avail_out = (uInt) (capacity - size - 1);
        status           = inflate(&stream, Z_NO_FLUSH);
        size             = (size_t) (stream.next_out - (Bytef *) plain);
    }
    if (status != Z_STREAM_END || stream.avail_in) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is not a whole gzip file: %s after %lu of %zu bytes", path,
                       status == Z_STREAM_END ? "more data"
                       : stream.msg           ? stream.msg
                                              : "it ends early or is too large",
                       stream.total_in, out->size);
        goto done;
    }
    plain[size] = 0;
    free(out->data);
    out->data = plain;
    out->size = size;
    plain     = NULL;
done:
    inflateEnd(&stream);
    free(plain);
    return rc;
}

void cmif_source_free(cmif_source *source)
{
    free(source->path);
    free(source->data);
    *source = (cmif_source){0};
}

bool cmif_lines_next(cmif_lines *lines)
{
    const char *from = lines->source->data + lines->at;
    size_t      left = lines->source->size - lines->at;
    if (left == 0) {
        return false;
    }
    const char *end = memchr(from, '\n', left);
    lines->line     = (cmif_str){from, end ? (size_t) (end - from) : left};
    lines->at += lines->line.size + (end != NULL);
    lines->number++;
    if (lines->line.size && from[lines->line.size - 1] == '\r') {
        lines->line.size--;
    }
    return true;
}

double cmif_centibels(uint32_t centibels)
{
    double share = 1;
    for (uint32_t i = 0; i < centibels / 100 && share > 0; i++) {
        share /= 10;
    }
    for (uint32_t i = 0; i < centibels % 100; i++) {
        share *= centibel;
    }
    return share;
}

/* ---- the few kinds of MessagePack that wordfreq writes ---- */

static uint64_t read_be(cmif_reader *r, size_t n)
{
    const uint8_t *p     = cmif_read_bytes(r, n);
    uint64_t       value = 0;
    for (size_t i = 0; p && i < n; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static uint64_t read_array(cmif_reader *r)
{
    uint8_t kind = cmif_read_u8(r);
    if (kind >> 4 == 9) {
        return kind & 15;
    }
    r->failed |= kind != 0xdc && kind != 0xdd;
    return read_be(r, kind == 0xdc ? 2 : 4);
}

static cmif_str read_str(cmif_reader *r)
{
    uint8_t kind = cmif_read_u8(r);
    size_t  size = kind & 31;
    if (kind >> 5 != 5) {
        r->failed |= kind < 0xd9 || kind > 0xdb;
        size = (size_t) read_be(r, kind == 0xd9 ? 1 : kind == 0xda ? 2 : 4);
    }
    const uint8_t *p = cmif_read_bytes(r, size);
    return p ? (cmif_str){(const char *) p, size} : (cmif_str){"", 0};
}

cmif_code cmif_frequencies_parse(const cmif_source *source, cmif_frequency **list, size_t *count, cmif_err *err)
{
    static const char head[] = "\x82\xa6"
                               "format"
                               "\xa2"
                               "cB"
                               "\xa7"
                               "version"
                               "\x01";

    cmif_frequency *words = NULL;
    size_t          n = 0, capacity = 0;
    cmif_reader     r       = cmif_reader_over(source->data, source->size);
    uint64_t        buckets = read_array(&r);
    const uint8_t  *begin   = cmif_read_bytes(&r, sizeof head - 1);

    if (!begin || memcmp(begin, head, sizeof head - 1) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "'%s' is not a frequency list of wordfreq (format cB, version 1)",
                         source->path);
    }
    for (uint64_t bucket = 0; bucket + 1 < buckets && !r.failed; bucket++) {
        uint64_t members = read_array(&r);
        for (uint64_t i = 0; i < members && !r.failed; i++) {
            cmif_str word = read_str(&r);
            if (!cmif_grow(&words, &capacity, n, sizeof *words)) {
                free(words);
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of '%s'", source->path);
            }
            words[n++] = (cmif_frequency){word, (uint32_t) (bucket < UINT32_MAX ? bucket : UINT32_MAX)};
        }
    }
    if (r.failed || r.at != r.size) {
        free(words);
        return cmif_fail(err, CMIF_E_FORMAT, "'%s': unpacked byte %zu of %zu is not part of a list of lists of words",
                         source->path, r.at, r.size);
    }
    *list  = words;
    *count = n;
    return CMIF_OK;
}
