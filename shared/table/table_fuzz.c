/* Property: what opens, written again from what it holds, gives the same bytes; its certificate is within its claim;
 * and what is refused says why and leaves the output alone. The hash is made to fit, or no change would get past it:
 * the first byte says whether, and whether header sizes are. */
#include "table/layout.h"
#include "table/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_write_again(const cmif_table *t, const uint8_t *bytes, size_t size)
{
    static char path[64];
    snprintf(path, sizeof path, "/dev/shm/table-fuzz-%ld", (long) getpid());
    cmif_str *words = calloc(t->word_count, sizeof *words);
    uint64_t *w     = calloc((size_t) t->row_count * (t->stride + 1), sizeof *w);
    uint8_t  *again = malloc(size + 1);
    MUST(words && w && again);
    for (uint32_t i = 0; i < t->word_count; i++) {
        words[i] = cmif_table_word(t, i);
        MUST(cmif_table_find(t, words[i]) == i);
    }
    for (uint32_t r = 0; r < t->row_count; r++) {
        uint64_t sum = 0;
        for (uint32_t j = 0; j < t->block_at[t->block_of[r] + 1] - t->block_at[t->block_of[r]]; j++) {
            sum += w[(size_t) r * (t->stride + 1) + j] = cmif_table_weight(t, r, j);
        }
        MUST(sum == (uint64_t) 1 << t->weight_bits);
    }
    const cmif_table_draft d = {.claim         = t->claim,
                                .weight_bits   = t->weight_bits,
                                .word_count    = t->word_count,
                                .row_count     = t->row_count,
                                .block_count   = t->block_count,
                                .words         = words,
                                .prior         = t->prior,
                                .row_of        = t->row_of,
                                .block_of      = t->block_of,
                                .block_at      = t->block_at,
                                .outputs       = t->outputs,
                                .weights       = w,
                                .weight_stride = t->stride + 1};
    MUST(cmif_table_write(&d, path, NULL) == CMIF_OK);
    FILE *file = fopen(path, "rb");
    MUST(file && fread(again, 1, size + 1, file) == size && memcmp(again, bytes, size) == 0);
    fclose(file);
    unlink(path);
    free(again);
    free(w);
    free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_table      *table = (cmif_table *) 8;
    cmif_certificate c     = {0};
    cmif_err         err   = {0};
    if (size == 0) {
        return 0;
    }
    const uint8_t mend  = *data++;
    uint8_t      *bytes = aligned_alloc(TABLE_ALIGNMENT, (size_t) table_padded(--size + 1));
    MUST(bytes);
    memcpy(bytes, data, size);
    if (mend & 1 && size > TABLE_HEADER_SIZE + TABLE_HASH_SIZE) {
        const uint64_t whole = size;
        if (mend & 2) {
            memcpy(bytes + 176, &whole, sizeof whole);
        }
        MUST(table_hash(bytes, size - TABLE_HASH_SIZE, bytes + size - TABLE_HASH_SIZE, NULL) == CMIF_OK);
    }
    const cmif_code rc = cmif_table_open_memory(bytes, size, &table, &c, &err);
    if (rc == CMIF_OK) {
        MUST(table->claim.adjacency == CMIF_ADJACENT_NONE ||
             (c.pure && cmif_loss_within(c.high, c.low, table->claim.epsilon_num, table->claim.epsilon_den)));
        must_write_again(table, bytes, size);
        cmif_table_free(table);
    } else {
        MUST(table == (cmif_table *) 8 && err.code == rc && memchr(err.text, 0, sizeof err.text) && err.text[0]);
    }
    free(bytes);
    return 0;
}
