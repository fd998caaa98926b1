/* certify-samples FOLDER COUNT: write COUNT random tables, and print what this checker says of each: for the file's
 * claim "ok" or "refused", then for BLOCK and for ANY adjacency: pure, millionths, high, low, words, output, delta.
 * certify_agree_test.py reads it. One in three is sold below its loss (the writer refuses to, so the claim is changed
 * afterwards). */
#include "table/table.h"
#include "table/table_samples.h"

static void print_certificate(const cmif_table *table, cmif_adjacency adjacency)
{
    cmif_certificate c;
    cmif_table_certify(table, adjacency, &c);
    printf(" %d %lld %llu %llu %lld %lld %lld %llu", c.pure,
           c.epsilon_micro == UINT64_MAX ? -1ll : (long long) c.epsilon_micro, (unsigned long long) c.high,
           (unsigned long long) c.low, c.word_high == CMIF_NO_WORD ? -1ll : c.word_high,
           c.word_low == CMIF_NO_WORD ? -1ll : c.word_low, c.output == CMIF_NO_WORD ? -1ll : c.output,
           (unsigned long long) c.delta_num);
}

/* The claim of a table that was made with none: what it has, what it almost has, or none. */
static void choose_claim(const cmif_table *table, bool common, cmif_table_claim *honest, cmif_table_claim *sold)
{
    const cmif_adjacency adjacency = common ? CMIF_ADJACENT_ANY : CMIF_ADJACENT_BLOCK;
    cmif_certificate     c;
    cmif_table_certify(table, adjacency, &c);
    *honest = *sold = table->claim;
    if (c.pure && c.epsilon_micro != UINT64_MAX) {
        sample_claim(honest, adjacency, c.epsilon_micro);
        sample_claim(sold, adjacency, c.epsilon_micro - (c.epsilon_micro > 0 && sample_below(3) == 0));
    }
}

int main(int argc, char **argv)
{
    static sample s;
    if (argc != 3) {
        return 2;
    }
    const int count = atoi(argv[2]);
    for (int i = 0; i < count; i++) {
        char             path[256];
        cmif_err         err   = {0};
        cmif_table      *table = NULL, *again = NULL;
        size_t           size   = 0;
        const bool       common = i % 2;
        cmif_table_claim honest, sold;
        snprintf(path, sizeof path, "%s/%04d.cmifch", argv[1], i);
        sample_make(&s, common);
        if (cmif_table_write(&s.draft, path, &err) != CMIF_OK || cmif_table_open(path, &table, NULL, &err) != CMIF_OK) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        choose_claim(table, common, &honest, &sold);
        s.draft.claim = honest;
        if (cmif_table_write(&s.draft, path, &err) != CMIF_OK) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        uint8_t *bytes = sample_read(path, &size);
        sample_put(bytes, AT_EPSILON_NUM, sold.epsilon_num, 8);
        sample_put(bytes, AT_EPSILON_DEN, sold.epsilon_den, 8);
        sample_seal(bytes, size);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
            return 1;
        }
        const cmif_code rc = cmif_table_open_memory(bytes, size, &again, NULL, &err);
        if (rc != CMIF_OK && rc != CMIF_E_TRUST) {
            fprintf(stderr, "%s\n", err.text);
            return 1;
        }
        printf("%s %s", path, rc == CMIF_OK ? "ok" : "refused");
        print_certificate(table, CMIF_ADJACENT_BLOCK);
        print_certificate(table, CMIF_ADJACENT_ANY);
        printf("\n");
        cmif_table_free(again);
        cmif_table_free(table);
        free(bytes);
    }
    return 0;
}
