/* Tokens and spans of any text cover it in order, without a gap; folded forms lie where tokens say; links point to
 * firsts. */
#include "sanitizer/entities.h"

#include "sanitizer/entities_rig.h"

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cmif_lists *lists;
    cmif_scan          scan  = {0};
    cmif_spans         spans = {0};
    size_t             at = 0, token = 0, fold = 0;

    lists = lists ? lists : rig_lists();
    must(cmif_scan_text(data, size, &scan, NULL) == CMIF_OK, "the scan failed");
    for (size_t i = 0; i < scan.count; i++) {
        const cmif_token *t = &scan.tokens[i];
        must(t->from == at && t->size > 0 && t->fold_from == fold && t->kind <= CMIF_TOKEN_BROKEN &&
                 t->casing <= CMIF_CASE_MIXED,
             "a token");
        must(t->kind != CMIF_TOKEN_NUMBER || t->fold_size > 0, "a number without digits");
        at += t->size;
        fold += t->fold_size;
    }
    must(at == size && fold == scan.fold.size, "tokens do not cover the text");
    must(cmif_find_entities(&scan, lists, &spans, NULL) == CMIF_OK, "the finder failed");
    at = 0;
    for (size_t i = 0; i < spans.count; i++) {
        const cmif_span *s = &spans.at[i];
        must(s->from == at && s->first == token && s->size > 0 && s->count > 0 && s->class < CMIF_SPAN_CLASSES,
             "a span");
        must(s->link <= i && spans.at[s->link].link == s->link && (s->class == CMIF_SPAN_PERSON || s->link == i),
             "a link");
        for (uint32_t k = 0; k < s->count; k++) {
            const cmif_token *t = &scan.tokens[token + k];
            bool word = t->kind == CMIF_TOKEN_WORD || t->kind == CMIF_TOKEN_NUMBER || t->kind == CMIF_TOKEN_BROKEN;
            must(!(word && s->class == CMIF_SPAN_OTHER), "a word passes as white space");
            must(!(t->kind == CMIF_TOKEN_BROKEN && s->class < CMIF_SPAN_EMAIL), "a broken character passes");
        }
        at += s->size;
        token += s->count;
    }
    must(at == size && token == scan.count, "spans do not cover the text");
    cmif_spans_wipe(&spans);
    cmif_scan_wipe(&scan);
    return 0;
}
