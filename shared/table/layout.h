/* layout - where the sections of a .cmifch file begin; of table.c and table_write.c alone. docs/channel.md tells the rest. */
#ifndef CMIF_TABLE_LAYOUT_H
#define CMIF_TABLE_LAYOUT_H

#include "table/table.h"

enum { TABLE_VERSION = 1, TABLE_HEADER_SIZE = 256, TABLE_HASH_SIZE = 32, TABLE_ALIGNMENT = 64 };

typedef struct table_layout { /* offsets from the start of the file, each a multiple of 64 */
    uint64_t sizes;           /* [words] u8, bytes of each word */
    uint64_t text;
    uint64_t prior;
    uint64_t row_of; /* equal to block_of where every word has a row of its own */
    uint64_t block_of;
    uint64_t block_at;
    uint64_t outputs;
    uint64_t thresholds;
    uint64_t hash;
    uint64_t end; /* bytes of the file */
    uint32_t text_size;
    bool     rows_shared;
} table_layout;

static inline uint64_t table_padded(uint64_t size)
{
    return (size + TABLE_ALIGNMENT - 1) & ~(uint64_t) (TABLE_ALIGNMENT - 1);
}

/* Counts have been checked: nothing here can wrap. */
static inline table_layout table_lay_out(const cmif_table *table, uint32_t text_size, bool rows_shared)
{
    table_layout l = {.text_size = text_size, .rows_shared = rows_shared};
    l.sizes      = TABLE_HEADER_SIZE;
    l.text       = table_padded(l.sizes + table->word_count);
    l.prior      = table_padded(l.text + text_size);
    l.row_of     = table_padded(l.prior + 4 * (uint64_t) table->word_count);
    l.block_of   = table_padded(l.row_of + (rows_shared ? 4 * (uint64_t) table->word_count : 0));
    l.block_at   = table_padded(l.block_of + 4 * (uint64_t) table->row_count);
    l.outputs    = table_padded(l.block_at + 4 * ((uint64_t) table->block_count + 1));
    l.thresholds = table_padded(l.outputs + 4 * (uint64_t) table->output_total);
    l.hash       = table_padded(l.thresholds +
                                (table->weight_bits == 32 ? 4ull : 8ull) * table->row_count * (uint64_t) table->stride);
    l.end        = l.hash + TABLE_HASH_SIZE;
    return l;
}

/* Bounds of every count and of the whole, before anything is computed or allocated from them. */
CMIF_MUST_USE cmif_code table_check_counts(const cmif_table *table, uint32_t text_size, bool rows_shared, cmif_err *err);

/* SHA-256. Errors: MEMORY. */
CMIF_MUST_USE cmif_code table_hash(const void *bytes, size_t size, uint8_t hash[TABLE_HASH_SIZE], cmif_err *err);

/* certify.c: the claim against the certificate of its own adjacency. Errors: TRUST. */
CMIF_MUST_USE cmif_code table_judge(const cmif_table *table, const cmif_certificate *certificate, cmif_err *err);

#endif
