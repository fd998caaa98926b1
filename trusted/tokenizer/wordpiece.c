#include "internal.h"

#include <stdlib.h>

size_t tok_split_wordpiece(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    size_t   at   = from;
    unsigned what = 0, first = 0;
    while (at < end) {
        size_t size;
        what = tok_class(s->classes, tok_code_point(s->text + at, &size));
        if (at == from) {
            first = what;
            at += size;
            if (first & CLASS_ALONE) {
                break;
            }
        } else if ((first & CLASS_SPACE) != (what & CLASS_SPACE) || (what & CLASS_ALONE)) {
            break;
        } else {
            at += size;
        }
    }
    return at;
}

/* The longest token that text[at..size) begins with; its end, or `at`. */
static size_t longest(const cmif_tokenizer *t, const uint8_t *text, size_t at, size_t size, int32_t *id)
{
    size_t   end  = at;
    uint32_t node = 0;
    for (size_t i = at; i < size && (node = tok_trie_step(&t->trie, node, text[i])) != TOK_NONE; i++) {
        if (t->trie.values[node] >= 0) {
            *id = t->trie.values[node];
            end = i + 1;
        }
    }
    return end;
}

cmif_code tok_word_wordpiece(cmif_tokenizer *t, const uint8_t *word, size_t size, tok_out *out)
{
    cmif_code rc = CMIF_OK;
    uint8_t   small[256], *text = small;
    int32_t   few[256], *ids    = few;
    size_t    used, put = 3, count = 0;
    if (size > (sizeof small - 3) / 4) {
        /* one code point gives one, of at most 4 bytes; at most a token for each byte */
        text = malloc(size * 4 + 3);
        ids  = malloc((size * 4 + 3) * sizeof *ids);
        if (!text || !ids) {
            rc = cmif_fail(out->err, CMIF_E_MEMORY, "no memory for a word of %zu bytes", size);
            goto done;
        }
    }
    memcpy(text, "\xe2\x96\x81", 3); /* words begin with U+2581 in the file */
    for (size_t at = 0; at < size; at += used) {
        uint32_t c = tok_code_point(word + at, &used);
        if (tok_class(&t->classes, c) & (CLASS_DROP | CLASS_SPACE)) {
            continue;
        }
        if (c >= 0x80) {
            c = t->strip_accents ? tok_without_accent(c) : c;
            c = t->lowercase ? tok_lower(c) : c;
        } else if (t->lowercase && c >= 'A' && c <= 'Z') {
            c += 'a' - 'A';
        }
        put += tok_put_utf8(c, text + put);
    }
    if (put == 3) {
        goto done; /* white space, or nothing that counts */
    }
    for (size_t at = 0; at < put; count++) {
        size_t end = longest(t, text, at, put, &ids[count]);
        if (end == at) {
            count = 0; /* one part unknown: the whole word is */
            break;
        }
        at = end;
    }
    if (count == 0) {
        ids[count++] = t->unk;
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = tok_out_put(out, ids[i]);
    }
done:
    if (text != small) {
        free(text);
    }
    if (ids != few) {
        free(ids);
    }
    return rc;
}
