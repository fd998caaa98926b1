#define _GNU_SOURCE /* O_TMPFILE */
#include "table/table.h"

#include "base/bytes.h"
#include "table/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- laying out ---- */

/* Counts of a draft into head, so far as they can be known before its arrays are believed. */
static cmif_code measure(const cmif_table_draft *draft, cmif_table *head, table_layout *layout, cmif_err *err)
{
    uint64_t text_size = 0, outputs = 0;
    uint32_t most   = 1;
    bool     shared = false;
    *head           = (cmif_table){.claim       = draft->claim,
                                   .weight_bits = draft->weight_bits,
                                   .word_count  = draft->word_count,
                                   .row_count   = draft->row_count,
                                   .block_count = draft->block_count};
    if (draft->word_count == 0 || draft->word_count > CMIF_TABLE_WORDS_MAX || draft->row_count == 0 ||
        draft->row_count > draft->word_count || draft->block_count == 0 || draft->block_count > draft->row_count) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%u words, %u rows, %u blocks: each at least 1, each at most the one before, words at most %d",
                         draft->word_count, draft->row_count, draft->block_count, CMIF_TABLE_WORDS_MAX);
    }
    for (uint32_t w = 0; w < draft->word_count; w++) {
        if (draft->words[w].size > CMIF_TABLE_WORD_SIZE_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "word %u has %zu bytes; word 0 has none, the others have 1 to %d", w,
                             draft->words[w].size, CMIF_TABLE_WORD_SIZE_MAX);
        }
        text_size += draft->words[w].size;
        shared |= draft->row_of && draft->row_of[w] != w;
    }
    for (uint32_t b = 0; b < draft->block_count; b++) {
        const uint32_t from = draft->block_at[b], to = draft->block_at[b + 1];
        if (to <= from || to - from > CMIF_TABLE_OUTPUTS_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "block %u has outputs %u to %u; a block has 1 to %d", b, from, to,
                             CMIF_TABLE_OUTPUTS_MAX);
        }
        most    = most > to - from ? most : to - from;
        outputs = to;
    }
    if (most > draft->weight_stride) {
        return cmif_fail(err, CMIF_E_FORMAT, "the largest block has %u outputs, rows of weights have %u", most,
                         draft->weight_stride);
    }
    if (!shared && draft->row_count != draft->word_count) {
        return cmif_fail(err, CMIF_E_FORMAT, "%u rows for %u words, and no row is shared", draft->row_count,
                         draft->word_count);
    }
    head->output_total = (uint32_t) outputs;
    head->stride       = most - 1;
    cmif_code rc       = table_check_counts(head, (uint32_t) text_size, shared, err);
    if (rc == CMIF_OK) {
        *layout = table_lay_out(head, (uint32_t) text_size, shared);
    }
    return rc;
}

static void write_header(cmif_writer *w, const cmif_table *head, const table_layout *layout)
{
    const cmif_table_claim *claim = &head->claim;
    cmif_write_bytes(w, "CMIFCH", 6);
    cmif_write_u16(w, TABLE_VERSION);
    cmif_write_bytes(w, claim->lexicon_hash, 32);
    cmif_write_bytes(w, claim->vectors_hash, 32);
    cmif_write_bytes(w, claim->recipe_hash, 32);
    cmif_write_u32(w, (uint32_t) claim->mechanism);
    cmif_write_u32(w, (uint32_t) claim->noise);
    cmif_write_u32(w, (uint32_t) claim->adjacency);
    cmif_write_u32(w, claim->calibrated);
    cmif_write_u32(w, claim->k);
    cmif_write_u32(w, head->weight_bits);
    cmif_write_u64(w, claim->epsilon_num);
    cmif_write_u64(w, claim->epsilon_den);
    cmif_write_u32(w, head->word_count);
    cmif_write_u32(w, head->row_count);
    cmif_write_u32(w, head->block_count);
    cmif_write_u32(w, head->output_total);
    cmif_write_u32(w, head->stride);
    cmif_write_u32(w, layout->text_size);
    cmif_write_u32(w, layout->rows_shared);
    cmif_write_u32(w, 0);
    cmif_write_u64(w, layout->end);
}

/* Thresholds of a row from its weights, whose sum is checked here because thresholds cannot show it. */
static cmif_code write_row(uint8_t *thresholds, const cmif_table *head, const cmif_table_draft *draft, uint32_t row,
                           cmif_err *err)
{
    const uint32_t  block   = draft->block_of[row];
    const uint64_t  total   = (uint64_t) 1 << head->weight_bits;
    const uint64_t *weights = draft->weights + (size_t) row * draft->weight_stride;
    const size_t    width   = head->weight_bits == 32 ? 4 : 8;
    if (block >= draft->block_count) {
        return cmif_fail(err, CMIF_E_FORMAT, "row %u is of block %u; there are %u", row, block, draft->block_count);
    }
    const uint32_t n   = draft->block_at[block + 1] - draft->block_at[block];
    uint64_t       sum = 0;
    for (uint32_t j = 0; j < n; j++) {
        if (weights[j] == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "row %u: weight %u is 0, it must be at least 1", row, j);
        }
        if (__builtin_add_overflow(sum, weights[j], &sum)) {
            sum = UINT64_MAX;
        }
        if (j < head->stride) {
            const uint64_t threshold = sum - 1;
            memcpy(thresholds + ((size_t) row * head->stride + j) * width, &threshold, width);
        }
    }
    for (uint32_t j = n; j < head->stride; j++) {
        const uint64_t threshold = total - 1;
        memcpy(thresholds + ((size_t) row * head->stride + j) * width, &threshold, width);
    }
    if (sum != total) {
        return cmif_fail(err, CMIF_E_FORMAT, "row %u: its %u weights sum to %llu, they must sum to %llu", row, n,
                         (unsigned long long) sum, (unsigned long long) total);
    }
    return CMIF_OK;
}

static cmif_code fill(uint8_t *bytes, const cmif_table *head, const table_layout *layout, const cmif_table_draft *draft,
                      cmif_err *err)
{
    cmif_writer header = cmif_writer_over(bytes, TABLE_HEADER_SIZE);
    write_header(&header, head, layout);

    const size_t words = head->word_count;
    uint8_t     *text  = bytes + layout->text;
    for (size_t i = 0; i < words; i++) {
        bytes[layout->sizes + i] = (uint8_t) draft->words[i].size;
        if (draft->words[i].size) {
            memcpy(text, draft->words[i].data, draft->words[i].size);
        }
        text += draft->words[i].size;
    }
    memcpy(bytes + layout->prior, draft->prior, 4 * words);
    if (layout->rows_shared) {
        memcpy(bytes + layout->row_of, draft->row_of, 4 * words);
    }
    memcpy(bytes + layout->block_of, draft->block_of, 4 * (size_t) head->row_count);
    memcpy(bytes + layout->block_at, draft->block_at, 4 * ((size_t) head->block_count + 1));
    memcpy(bytes + layout->outputs, draft->outputs, 4 * (size_t) head->output_total);
    for (uint32_t r = 0; r < head->row_count; r++) {
        cmif_code rc = write_row(bytes + layout->thresholds, head, draft, r, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    return table_hash(bytes, (size_t) layout->hash, bytes + layout->hash, err);
}

/* ---- a file beside, then its name ---- */

static cmif_code put_bytes(int fd, const uint8_t *bytes, size_t size, const char *path, cmif_err *err)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = write(fd, bytes + at, size - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return cmif_fail(err, CMIF_E_IO, "cannot write '%s' (%zu bytes): %s", path, size,
                             strerror(n < 0 ? errno : ENOSPC));
        }
        at += (size_t) n;
    }
    if (fsync(fd) != 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot write '%s' (%zu bytes): %s", path, size, strerror(errno));
    }
    return CMIF_OK;
}

/* A file without a name vanishes with us, whatever ends us; where there is none of that, one with a telling name. */
static cmif_code put_file(const char *path, const uint8_t *bytes, size_t size, cmif_err *err)
{
    cmif_code    rc    = CMIF_OK;
    int          fd    = -1;
    bool         named = false; /* temporary exists */
    const char  *slash = strrchr(path, '/');
    const size_t room  = strlen(path) + 32;
    char        *names = malloc(2 * room);
    char         link[32];
    if (!names) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a path");
    }
    char *temporary = names, *folder = names + room;
    if (slash) {
        snprintf(folder, room, "%.*s", slash == path ? 1 : (int) (slash - path), path);
    } else {
        snprintf(folder, room, ".");
    }
    snprintf(temporary, room, "%s.partial-%ld", path, (long) getpid());
    unlink(temporary); /* left by a killed process that had our number */
    fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0) {
        fd    = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        named = fd >= 0;
    }
    if (fd < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write in folder '%s': %s", folder, strerror(errno));
        goto done;
    }
    rc = put_bytes(fd, bytes, size, path, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    named = named || linkat(AT_FDCWD, link, AT_FDCWD, temporary, AT_SYMLINK_FOLLOW) == 0;
    if (!named || rename(temporary, path) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot give '%s' its name: %s", path, strerror(errno));
        goto done;
    }
    named = false;
    close(fd);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the name should last: best effort, the data is safe */
    if (fd >= 0) {
        (void) !fsync(fd);
    }
done:
    if (named) {
        unlink(temporary);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(names);
    return rc;
}

cmif_code cmif_table_write(const cmif_table_draft *draft, const char *path, cmif_err *err)
{
    cmif_table   head = {0}, *table = NULL;
    table_layout layout = {0};
    uint8_t     *bytes  = NULL;
    cmif_code    rc     = measure(draft, &head, &layout, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    const size_t room = (size_t) table_padded(layout.end);
    bytes             = aligned_alloc(TABLE_ALIGNMENT, room);
    if (!bytes) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for its %zu bytes", room);
        goto done;
    }
    memset(bytes, 0, room);
    rc = fill(bytes, &head, &layout, draft, err);
    if (rc == CMIF_OK) {
        rc = cmif_table_open_memory(bytes, (size_t) layout.end, &table, NULL, err);
    }
    if (rc == CMIF_OK) {
        rc = put_file(path, bytes, (size_t) layout.end, err);
    }
done:
    if (rc != CMIF_OK) {
        cmif_err_context(err, "channel '%s'", path);
    }
    cmif_table_free(table);
    free(bytes);
    return rc;
}
