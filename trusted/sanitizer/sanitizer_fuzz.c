/* Any bytes leave as valid UTF-8, spans cover both texts, released words lie in order inside; what is dropped costs the
 * same when it comes again, and a text that was released is the same bytes the next time, without a draw. The first
 * byte chooses the policy. */
#include "sanitizer/sanitizer.h"

#include "audit_rig.h"
#include "sanitizer/entities_rig.h"

#include <utf8proc.h>

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void boost(uint32_t row, uint32_t self, uint32_t size, uint64_t total, uint64_t *weights)
{
    (void) row;
    rig_boost(2, self, size, total, weights);
}

/* Every fourth word of the vocabulary is in no table, the others are in blocks of four. */
static cmif_table *make_table(const cmif_lists *lists)
{
    enum { MOST = 1024, K = 4 };
    static cmif_str words[MOST];
    static uint32_t block_of[MOST];
    uint32_t        flags, count = 1;
    words[0] = (cmif_str){"", 0};
    for (size_t i = 0; i < cmif_lists_count(lists, CMIF_LIST_WORD) && count < MOST; i++) {
        words[count]    = cmif_lists_at(lists, CMIF_LIST_WORD, i, &flags);
        block_of[count] = 1 + (count - 1) / K;
        count += i % 4 != 3;
    }
    return rig_blocks(words, block_of, count, 1 + (count - 2 + K) / K, 32, 1, boost);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const texts[] = {"policy names", "policy topics\nallow \"Maria\"\ndeny \"red apple\" unknown",
                                        "policy words\nstop-words protect",
                                        "policy names\nclass email pass\nclass person pass\ndeny \"a b\"",
                                        "policy words\nbudget request 2\nweight health 2\nweight family 0.25"};
    enum { POLICIES = sizeof texts / sizeof *texts };
    static cmif_policy *policies[POLICIES];
    static cmif_lists  *lists;
    static cmif_table  *table;
    cmif_conversation  *c = NULL;
    cmif_sanitized      what, dropped;
    for (size_t i = 0; !lists && i < POLICIES; i++) {
        must(cmif_policy_parse(texts[i], strlen(texts[i]), &policies[i], NULL) == CMIF_OK, "a policy");
    }
    lists = lists ? lists : rig_lists();
    table = table ? table : make_table(lists);
    must(table != NULL, "a table");
    if (size == 0) {
        return 0;
    }
    const cmif_policy *policy = policies[data[0] % POLICIES];
    must(cmif_conversation_new(&(cmif_conversation_options){policy, lists, table, false, NULL}, &c, NULL) == CMIF_OK,
         "a conversation");
    data++;
    size--;
    if (cmif_conversation_prepare(c, data, size, &dropped, NULL) ==
        CMIF_OK) { /* else: no surrogate of some shape is left */
        cmif_conversation_drop(c);
        must(!cmif_conversation_take(c, NULL, NULL), "what was dropped is given out");
        must(cmif_conversation_prepare(c, data, size, &what, NULL) == CMIF_OK, "it cannot be said again");
        must(what.draws == dropped.draws && what.repeated == dropped.repeated && !what.again &&
                 what.constants == dropped.constants,
             "what was dropped counts");
        must(isfinite(policy->budget_request) ? (double) what.draws * .693147 <= policy->budget_request
                                              : what.constants == 0,
             "the budget is exceeded, or there is none and something is a constant");

        const cmif_released_span *spans = NULL;
        size_t                    count = 0, out_size, word_count, from = 0, to = 0, again_size;
        cmif_released            *out   = cmif_conversation_take(c, &spans, &count), *again;
        const uint8_t            *bytes = cmif_released_bytes(out, &out_size);
        for (size_t i = 0; i < count; i++) {
            must(spans[i].from == from && spans[i].out_from == to, "a span");
            from += spans[i].size;
            to += spans[i].out_size;
        }
        must(from == size && to == out_size, "spans do not cover the text");
        for (size_t at = 0; at < out_size;) {
            utf8proc_int32_t code;
            utf8proc_ssize_t used = utf8proc_iterate(bytes + at, (utf8proc_ssize_t) (out_size - at), &code);
            must(used > 0, "what leaves is no UTF-8");
            at += (size_t) used;
        }
        const cmif_released_word *words = cmif_released_words(out, &word_count);
        for (size_t i = 0, at = 0; i < word_count; i++) {
            must(words[i].from >= at && words[i].size > 0 && words[i].from + words[i].size <= out_size,
                 "a released word");
            at = words[i].from + words[i].size;
        }
        must(cmif_conversation_prepare(c, data, size, &what, NULL) == CMIF_OK && what.again && what.draws == 0,
             "again");
        again                      = cmif_conversation_take(c, NULL, NULL);
        const uint8_t *again_bytes = cmif_released_bytes(again, &again_size);
        must(again_size == out_size && (!out_size || memcmp(bytes, again_bytes, out_size) == 0),
             "it is not the same again");
        cmif_released_free(again);
        cmif_released_free(out);
    }
    cmif_conversation_free(c);
    return 0;
}
