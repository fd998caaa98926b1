/* What a model file says of its vocabulary. The library completes it by the texts of tokens (which ends a generation,
 * which looks special); the same is done here, in the same order. */
#include "internal.h"

#include "base/bytes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A symbol of the merge table: a token, or the text of a merge that is none. */
enum { VOCAB_MAX = 1 << 24, TOKEN_SIZE_MAX = 1 << 16 };

static cmif_code load_tokens(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_str *texts = NULL;
    size_t    count = 0, empty = 0;
    cmif_code rc = cmif_gguf_get_strs(file, "tokenizer.ggml.tokens", &texts, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (count == 0 || count > VOCAB_MAX) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "tokenizer.ggml.tokens has %zu tokens, expected 1 to %d", count, VOCAB_MAX);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        empty += texts[i].size == 0;
    }
    enum { NAME = 24 };
    t->empty_names = calloc(empty + 1, NAME);
    t->attrs       = calloc(count, 1);
    if (!t->empty_names || !t->attrs) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu tokens", count);
        goto done;
    }
    rc         = tok_pieces_init(&t->pieces, count + 512, err);
    char *name = t->empty_names;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        uint32_t symbol;
        bool     is_new;
        if (texts[i].size == 0) { /* the library's name for it */
            texts[i] = (cmif_str){name, (size_t) snprintf(name, NAME, "[EMPTY_%zu]", i)};
            name += NAME;
        }
        if (texts[i].size > TOKEN_SIZE_MAX) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "token %zu has %zu bytes, at most %d are allowed", i, texts[i].size,
                           TOKEN_SIZE_MAX);
            break;
        }
        rc = tok_pieces_add(&t->pieces, texts[i], &symbol, &is_new, err);
        if (rc == CMIF_OK && !is_new) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "tokens %u and %zu have the same text", symbol, i);
        }
    }
    t->vocab = count;
done:
    free(texts);
    return rc;
}

static cmif_code load_attrs(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    static const uint8_t of_type[] = {0, ATTR_NORMAL, ATTR_UNKNOWN, ATTR_CONTROL, ATTR_USER, ATTR_UNUSED, ATTR_BYTE};
    if (!cmif_gguf_find(file, "tokenizer.ggml.token_type")) {
        memset(t->attrs, ATTR_NORMAL, t->vocab);
        return CMIF_OK;
    }
    const uint8_t *types = NULL;
    size_t         count = 0;
    cmif_code      rc    = cmif_gguf_get_array(file, "tokenizer.ggml.token_type", CMIF_GGUF_I32, &types, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (count < t->vocab) {
        return cmif_fail(err, CMIF_E_FORMAT, "tokenizer.ggml.token_type has %zu items for %zu tokens", count, t->vocab);
    }
    for (size_t i = 0; i < t->vocab; i++) {
        uint32_t type;
        memcpy(&type, types + 4 * i, 4);
        t->attrs[i] = type < sizeof of_type ? of_type[type] : 0;
        if (t->attrs[i] & (ATTR_CONTROL | ATTR_UNKNOWN)) {
            t->attrs[i] |= ATTR_NO_TEXT;
        }
    }
    return CMIF_OK;
}

static int32_t token_of(const cmif_tokenizer *t, const char *text)
{
    uint32_t symbol = tok_pieces_find(&t->pieces, text, strlen(text));
    return symbol < t->vocab ? (int32_t) symbol : -1;
}

/* The id under key where there is a good one, else what *id was, if the vocabulary has that. */
static cmif_code load_id(const cmif_tokenizer *t, const cmif_gguf *file, const char *key, int32_t *id, cmif_err *err)
{
    if (*id >= 0 && (size_t) *id >= t->vocab) {
        *id = -1;
    }
    uint32_t value = 0;
    if (cmif_gguf_find(file, key)) {
        cmif_code rc = cmif_gguf_get_uint(file, key, &value, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        *id = value < t->vocab ? (int32_t) value : *id;
    }
    return CMIF_OK;
}

static cmif_code load_bool(const cmif_gguf *file, const char *key, bool *value, cmif_err *err)
{
    return cmif_gguf_find(file, key) ? cmif_gguf_get_bool(file, key, value, err) : CMIF_OK;
}

/* The first token of these texts, when the file named none; it is a control token whatever the file says. (The library
 * takes the first it meets in a hash table: of several, which one is chance.) */
static void find_control(cmif_tokenizer *t, int32_t *id, const char *const *texts)
{
    for (; *id < 0 && *texts; texts++) {
        *id = token_of(t, *texts);
        if (*id >= 0) {
            t->attrs[*id] |= ATTR_CONTROL | ATTR_NO_TEXT;
        }
    }
}

static void add_stop(cmif_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->stop_count; i++) {
        if (t->stops[i] == id) {
            return;
        }
    }
    if (id >= 0 && t->stop_count < sizeof t->stops / sizeof t->stops[0]) {
        t->stops[t->stop_count++] = id;
    }
}

static bool is_stop(const cmif_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->stop_count; i++) {
        if (id >= 0 && t->stops[i] == id) {
            return true;
        }
    }
    return false;
}

static void remove_stop(cmif_tokenizer *t, int32_t id)
{
    size_t put = 0;
    for (size_t i = 0; i < t->stop_count; i++) {
        if (t->stops[i] != id) {
            t->stops[put++] = t->stops[i];
        }
    }
    t->stop_count = put;
}

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;
    return (x > y) - (x < y);
}

static void find_stops(cmif_tokenizer *t, int32_t pad, int32_t repo, int32_t separator)
{
    static const char *const ends[]     = {"<|eot_id|>",
                                           "<|im_end|>",
                                           "<|end|>",
                                           "<|return|>",
                                           "<|call|>",
                                           "<|flush|>",
                                           "<|calls|>",
                                           "<end_of_turn>",
                                           "<|endoftext|>",
                                           "</s>",
                                           "<|eom_id|>",
                                           "<EOT>",
                                           "_<EOT>",
                                           "[EOT]",
                                           "[EOS]",
                                           "<|end_of_text|>",
                                           "<end_of_utterance>",
                                           "<eos>",
                                           "<turn|>",
                                           "<|tool_response>",
                                           "<｜end▁of▁sentence｜>",
                                           "[e~["};
    static const char *const rendered[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

    add_stop(t, pad);
    add_stop(t, repo);
    add_stop(t, separator);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        int32_t id = token_of(t, ends[i]);
        if (id >= 0) {
            add_stop(t, id);
            t->attrs[id] |= ATTR_CONTROL | ATTR_NO_TEXT;
        }
    }
    for (size_t i = 0; i < sizeof rendered / sizeof rendered[0];
         i++) { /* gpt-oss: shown, yet not for a person to write */
        int32_t id = token_of(t, rendered[i]);
        if (id >= 0) {
            t->attrs[id] = ATTR_USER | ATTR_NO_TEXT;
        }
    }
    add_stop(t, t->eos);
    add_stop(t, t->eot);
    add_stop(t, t->eom);
    int32_t end  = token_of(t, "<|end|>");
    bool    call = is_stop(t, token_of(t, "<|call|>")) || is_stop(t, token_of(t, "<|calls|>"));
    if (is_stop(t, end) && call && (is_stop(t, token_of(t, "<|return|>")) || is_stop(t, token_of(t, "<|flush|>")))) {
        remove_stop(t, end); /* gpt-oss, solar-open: it ends a message, not the answer */
        t->attrs[end] = ATTR_USER | ATTR_NO_TEXT;
    }
    int32_t s = token_of(t, "</s>");
    if (is_stop(t, s) && (is_stop(t, token_of(t, "<|tool_response>")) || is_stop(t, token_of(t, "<|plamo:eos|>")))) {
        remove_stop(t, s); /* gemma 4: markup like any other */
        t->attrs[s] = ATTR_NORMAL;
    }
    qsort(t->stops, t->stop_count, sizeof t->stops[0], by_id);
}

static cmif_code load_ids(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    static const char *const eot[] = {
        "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",         "<|endoftext|>",      "<|end_of_text|>",
        "<EOT>",      "_<EOT>",     "[EOT]",   "<｜end▁of▁sentence｜>", "<end_of_utterance>", NULL};
    static const char *const eom[]    = {"<|eom_id|>", NULL};
    static const char *const prefix[] = {"<|fim_prefix|>",  "<fim-prefix>", "<fim_prefix>",
                                         "<｜fim▁begin｜>", "<PRE>",        "▁<PRE>",
                                         "<|code_prefix|>", "<|prefix|>",   NULL};
    static const char *const suffix[] = {"<|fim_suffix|>",  "<fim-suffix>", "<fim_suffix>",
                                         "<｜fim▁hole｜>",  "<SUF>",        "▁<SUF>",
                                         "<|code_suffix|>", "<|suffix|>",   NULL};
    static const char *const middle[] = {"<|fim_middle|>",  "<fim-middle>", "<fim_middle>",
                                         "<｜fim▁end｜>",   "<MID>",        "▁<MID>",
                                         "<|code_middle|>", "<|middle|>",   NULL};
    static const char *const pad[]    = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", NULL};
    static const char *const repo[]   = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", NULL};
    static const char *const separator[] = {"<|file_sep|>", NULL};

    int32_t fim[6] = {-1, -1, -1, -1, -1, -1};
    struct {
        const char *key;
        int32_t    *id;
    } keys[] = {{"bos", &t->bos},     {"eos", &t->eos},       {"eot", &t->eot},     {"eom", &t->eom},
                {"unknown", &t->unk}, {"seperator", &t->sep}, {"fim_pre", &fim[0]}, {"fim_suf", &fim[1]},
                {"fim_mid", &fim[2]}, {"fim_pad", &fim[3]},   {"fim_rep", &fim[4]}, {"fim_sep", &fim[5]},
                {"prefix", &fim[0]},  {"suffix", &fim[1]},    {"middle", &fim[2]}};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", keys[i].key);
        cmif_code rc = load_id(t, file, key, keys[i].id, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    find_control(t, &t->eot, eot);
    find_control(t, &t->eom, eom);
    find_control(t, &fim[0], prefix);
    find_control(t, &fim[1], suffix);
    find_control(t, &fim[2], middle);
    find_control(t, &fim[3], pad);
    find_control(t, &fim[4], repo);
    find_control(t, &fim[5], separator);
    find_stops(t, fim[3], fim[4], fim[5]);
    return CMIF_OK;
}

static cmif_code load_flags(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    bool      unused = false;
    cmif_code rc     = load_bool(file, "tokenizer.ggml.add_bos_token", &t->add_bos, err);
    rc               = rc == CMIF_OK ? load_bool(file, "tokenizer.ggml.add_eos_token", &t->add_eos, err) : rc;
    rc               = rc == CMIF_OK ? load_bool(file, "tokenizer.ggml.add_sep_token", &unused, err) : rc;
    rc = rc == CMIF_OK ? load_bool(file, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, err) : rc;
    rc = rc == CMIF_OK ? load_bool(file, "tokenizer.ggml.normalizer.lowercase", &t->lowercase, err) : rc;
    t->strip_accents = t->lowercase;
    rc = rc == CMIF_OK ? load_bool(file, "tokenizer.ggml.normalizer.strip_accents", &t->strip_accents, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    t->add_bos = t->model == TOK_WORDPIECE || t->add_bos || (t->pre && t->pre->newlines);
    if (t->add_bos && t->bos < 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "prompts begin with a BOS token, but the file names none");
    }
    if (t->model == TOK_WORDPIECE ? t->sep < 0 || t->unk < 0 : t->add_eos && t->eos < 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "prompts end with a token (EOS or SEP) that the file does not name");
    }
    return CMIF_OK;
}

static bool has(cmif_str text, const char *part, bool any_case)
{
    size_t size = strlen(part);
    for (size_t at = 0; at + size <= text.size; at++) {
        size_t i = 0;
        while (i < size && (text.data[at + i] |
                            (any_case && text.data[at + i] >= 'A' && text.data[at + i] <= 'Z' ? 0x20 : 0)) == part[i]) {
            i++;
        }
        if (i == size) {
            return true;
        }
    }
    return false;
}

/* User-defined tokens are found in ordinary text, as the library does: indents, letters. Those that look like markup
 * ("<|USER_TOKEN|>" is one in some files) could fake a turn of the conversation: only literals make them. */
static bool is_markup(cmif_str text)
{
    char first = text.data[0], last = text.data[text.size - 1];
    return text.size > 1 && ((first == '<' && last == '>') || (first == '[' && last == ']'));
}

static cmif_code load_specials(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_str name = {"", 0}, pre = {"", 0}, arch = {"", 0};
    if (cmif_gguf_find(file, "general.name") && cmif_gguf_get_str(file, "general.name", &name, NULL) != CMIF_OK) {
        name.size = 0;
    }
    if (cmif_gguf_find(file, "tokenizer.ggml.pre") &&
        cmif_gguf_get_str(file, "tokenizer.ggml.pre", &pre, NULL) != CMIF_OK) {
        pre.size = 0;
    }
    if (cmif_gguf_find(file, "general.architecture") &&
        cmif_gguf_get_str(file, "general.architecture", &arch, NULL) != CMIF_OK) {
        arch.size = 0;
    }
    bool jina = has(pre, "jina-v2-de", false) || has(pre, "jina-v2-es", false) || has(pre, "jina-v2-code", false) ||
                has(arch, "nomic-bert-moe", false) || has(arch, "jina-bert-v3", false);
    bool phi3   = !jina && (has(name, "phi-3", true) || has(name, "phi3", true));
    bool modern = !jina && !phi3 && has(name, "modern-bert", true);

    size_t count = 0;
    for (size_t i = 0; i < t->vocab; i++) {
        count += (t->attrs[i] & (ATTR_CONTROL | ATTR_USER | ATTR_UNKNOWN)) != 0;
    }
    t->specials.items = calloc(count ? count : 1, sizeof *t->specials.items);
    if (!t->specials.items) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu special tokens", count);
    }
    for (size_t i = 0; i < t->vocab; i++) {
        cmif_str text = t->pieces.texts[i];
        if (!(t->attrs[i] & (ATTR_CONTROL | ATTR_USER | ATTR_UNKNOWN))) {
            continue;
        }
        if ((t->attrs[i] & (ATTR_CONTROL | ATTR_UNKNOWN)) || is_markup(text)) {
            t->attrs[i] |= ATTR_NO_TEXT;
        }
        t->specials.items[t->specials.count++] = (tok_special){
            .id         = (int32_t) i,
            .size       = (uint32_t) text.size,
            .in_text    = !(t->attrs[i] & ATTR_NO_TEXT),
            .strip_left = (jina && cmif_str_is(text, "<mask>")) || (modern && cmif_str_is(text, "[MASK]")),
            .strip_right =
                phi3 && !cmif_str_is(text, "<unk>") && !cmif_str_is(text, "<s>") && !cmif_str_is(text, "<|endoftext|>"),
        };
    }
    return tok_specials_finish(&t->specials, t->pieces.texts, err);
}

static cmif_code load_model(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_str  model = {"", 0}, pre = {"default", 7};
    cmif_code rc = cmif_gguf_get_str(file, "tokenizer.ggml.model", &model, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    t->bos = t->eos = t->eot = t->eom = t->unk = t->sep = -1;
    t->lowercase = t->strip_accents = true;
    if (cmif_str_is(model, "llama")) {
        t->model   = TOK_SENTENCEPIECE;
        t->add_bos = t->add_space_prefix = t->escape = true;
        t->bos                                       = 1;
        t->eos                                       = 2;
        t->unk                                       = 0;
        return CMIF_OK;
    }
    if (cmif_str_is(model, "bert")) {
        t->model = TOK_WORDPIECE;
        t->bos   = 101;
        t->unk   = 100;
        t->sep   = 102;
        return CMIF_OK;
    }
    if (cmif_str_is(model, "gpt2")) {
        t->bos = t->eos = 11;
        if (cmif_gguf_find(file, "tokenizer.ggml.pre")) {
            rc = cmif_gguf_get_str(file, "tokenizer.ggml.pre", &pre, err);
            if (rc != CMIF_OK) {
                return rc;
            }
        }
    } else if (cmif_str_is(model, "gemma4")) {
        pre = (cmif_str){"gemma4", 6};
    } else {
        return cmif_fail(
            err, CMIF_E_UNSUPPORTED,
            "tokenizer model '%.*s' is not one we have (llama, gpt2, bert, gemma4); use another model file",
            model.size < 64 ? (int) model.size : 64, model.data);
    }
    t->model = TOK_BPE;
    t->pre   = tok_pre_find(pre.size ? pre : (cmif_str){"default", 7});
    if (!t->pre) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "pre-tokenizer '%.*s' is not one we have; use another model file",
                         pre.size < 64 ? (int) pre.size : 64, pre.data);
    }
    t->bos     = t->pre->no_bos ? -1 : t->bos;
    t->add_bos = t->pre->add_bos;
    t->escape  = t->pre->escape;
    return CMIF_OK;
}

cmif_code tok_load(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_code rc = load_model(t, file, err);
    rc           = rc == CMIF_OK ? load_tokens(t, file, err) : rc;
    rc           = rc == CMIF_OK ? load_attrs(t, file, err) : rc;
    rc           = rc == CMIF_OK ? load_ids(t, file, err) : rc;
    rc           = rc == CMIF_OK ? load_flags(t, file, err) : rc;
    rc           = rc == CMIF_OK ? load_specials(t, file, err) : rc;
    return rc;
}

/* ---- merges ---- */

/* The symbol of text, for parts and results: TOK_NONE for a token that ordinary text may not make. */
static cmif_code symbol_of(cmif_tokenizer *t, cmif_str text, uint32_t *symbol, cmif_err *err)
{
    bool      is_new;
    cmif_code rc = tok_pieces_add(&t->pieces, text, symbol, &is_new, err);
    if (rc == CMIF_OK && *symbol < t->vocab && (t->attrs[*symbol] & ATTR_NO_TEXT)) {
        *symbol = TOK_NONE;
    }
    return rc;
}

int32_t tok_text_token(const cmif_tokenizer *t, const void *text, size_t size)
{
    uint32_t symbol = tok_pieces_find(&t->pieces, text, size);
    return symbol < t->vocab && !(t->attrs[symbol] & ATTR_NO_TEXT) ? (int32_t) symbol : -1;
}

/* "a b" of the file: where the two parts are. The library looks for the space from the second byte on. */
static bool cut_merge(cmif_str merge, cmif_str *left, cmif_str *right)
{
    const char *space = merge.size > 1 ? memchr(merge.data + 1, ' ', merge.size - 1) : NULL;
    if (!space) {
        return false;
    }
    *left  = (cmif_str){merge.data, (size_t) (space - merge.data)};
    *right = (cmif_str){space + 1, merge.size - left->size - 1};
    return right->size > 0;
}

static cmif_code load_bpe_merges(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_str *merges = NULL;
    size_t    count = 0, room = 0;
    cmif_code rc = CMIF_OK;
    if (cmif_gguf_find(file, "tokenizer.ggml.merges") || strcmp(t->pre->name, "kimi-k2") != 0) {
        rc = cmif_gguf_get_strs(file, "tokenizer.ggml.merges", &merges, &count, err);
    }
    rc = rc == CMIF_OK ? tok_merges_init(&t->merges, count, err) : rc;
    if (rc != CMIF_OK) {
        goto done;
    }
    if (count >= TOK_NONE) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%zu merges are too many", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) { /* at most this many bytes of results that are no tokens */
        cmif_str left, right;
        if (cut_merge(merges[i], &left, &right)) {
            room += merges[i].size - 1;
        }
    }
    char *made = malloc(room + 1), *put = made;
    t->made_texts = made;
    if (!made) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu merges", count);
        goto done;
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        cmif_str left, right;
        uint32_t l, r, result;
        if (!cut_merge(merges[i], &left, &right)) {
            continue; /* joins nothing */
        }
        size_t before = t->pieces.count;
        memcpy(put, left.data, left.size);
        memcpy(put + left.size, right.data, right.size);
        rc = symbol_of(t, left, &l, err);
        rc = rc == CMIF_OK ? symbol_of(t, right, &r, err) : rc;
        rc = rc == CMIF_OK ? symbol_of(t, (cmif_str){put, left.size + right.size}, &result, err) : rc;
        if (rc == CMIF_OK && t->pieces.count > before) {
            put += left.size + right.size; /* the new result may be it */
        }
        if (rc == CMIF_OK && l != TOK_NONE && r != TOK_NONE && result != TOK_NONE) {
            rc = tok_merges_add(&t->merges, l, r, (uint32_t) i, result, err);
        }
    }
done:
    free(merges);
    return rc;
}

typedef struct ranked {
    float    score;
    uint32_t id;
} ranked;

static int by_score(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

static cmif_code load_scores(const cmif_tokenizer *t, const cmif_gguf *file, uint32_t *ranks, cmif_err *err)
{
    const uint8_t         *scores = NULL;
    size_t                 count  = 0;
    cmif_code              rc     = CMIF_OK;
    ranked                *order  = NULL;
    const cmif_gguf_value *value  = cmif_gguf_find(file, "tokenizer.ggml.scores");
    bool                   whole  = value && value->item_type == CMIF_GGUF_I32;
    if (!value) {
        memset(ranks, 0, t->vocab * sizeof *ranks); /* all alike: the leftmost merge first */
        return CMIF_OK;
    }
    rc =
        cmif_gguf_get_array(file, "tokenizer.ggml.scores", whole ? CMIF_GGUF_I32 : CMIF_GGUF_F32, &scores, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (count < t->vocab) {
        return cmif_fail(err, CMIF_E_FORMAT, "tokenizer.ggml.scores has %zu items for %zu tokens", count, t->vocab);
    }
    order = malloc(t->vocab * sizeof *order);
    if (!order) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", t->vocab);
    }
    for (size_t i = 0; i < t->vocab; i++) {
        int32_t number;
        memcpy(&number, scores + 4 * i, 4);
        memcpy(&order[i].score, scores + 4 * i, 4);
        order[i].score = whole ? (float) number : order[i].score;
        order[i].id    = (uint32_t) i;
        if (isnan(order[i].score)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "the score of token %zu is not a number", i);
            goto done;
        }
    }
    qsort(order, t->vocab, sizeof *order, by_score);
    uint32_t rank = 0;
    for (size_t i = 0; i < t->vocab; i++) {
        rank += i > 0 && order[i].score < order[i - 1].score;
        ranks[order[i].id] = rank;
    }
done:
    free(order);
    return rc;
}

/* SentencePiece has no list of merges: two neighbours merge when their text is a token. Every way to cut every token
 * into two that can arise (a token, or one character) is a pair. */
static cmif_code load_score_merges(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    uint32_t *ranks = malloc(t->vocab * sizeof *ranks);
    cmif_code rc    = CMIF_OK;
    if (!ranks) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu scores", t->vocab);
    }
    rc = load_scores(t, file, ranks, err);
    rc = rc == CMIF_OK ? tok_merges_init(&t->merges, t->vocab * 2, err) : rc;
    for (uint32_t id = 0; rc == CMIF_OK && id < t->vocab; id++) {
        cmif_str text  = t->pieces.texts[id];
        size_t   first = tok_symbol_size((uint8_t) text.data[0]), size;
        if (t->attrs[id] & ATTR_NO_TEXT) {
            continue;
        }
        for (size_t at = first; rc == CMIF_OK && at < text.size; at += size) {
            cmif_str left = {text.data, at}, right = {text.data + at, text.size - at};
            uint32_t l = TOK_NONE, r = TOK_NONE;
            size = tok_symbol_size((uint8_t) text.data[at]);
            rc   = at == first ? symbol_of(t, left, &l, err) : CMIF_OK;
            rc   = rc == CMIF_OK && size >= right.size ? symbol_of(t, right, &r, err) : rc;
            l    = at == first ? l : (uint32_t) tok_text_token(t, left.data, left.size);
            r    = size >= right.size ? r : (uint32_t) tok_text_token(t, right.data, right.size);
            if (rc == CMIF_OK && l != TOK_NONE && r != TOK_NONE) {
                rc = tok_merges_add(&t->merges, l, r, ranks[id], id, err);
            }
        }
    }
    free(ranks);
    return rc;
}

/* Where SentencePiece text may be cut without changing a token: before U+2581, unless some token has it after this
 * byte. */
static void find_cuts(cmif_tokenizer *t)
{
    memset(t->cuts, true, sizeof t->cuts);
    for (size_t i = 0; i < t->pieces.count; i++) {
        cmif_str text = t->pieces.texts[i];
        for (size_t at = 1; at + 3 <= text.size; at++) {
            if (memcmp(text.data + at, "\xe2\x96\x81", 3) == 0 &&
                (at < 3 || memcmp(text.data + at - 3, "\xe2\x96\x81", 3) != 0)) {
                t->cuts[(uint8_t) text.data[at - 1]] = false;
            }
        }
    }
}

/* Byte-level BPE writes the bytes that print in Latin-1 as themselves, the others as U+0100, U+0101, ... */
static void make_byte_chars(cmif_tokenizer *t)
{
    uint16_t next = 256;
    memset(t->char_bytes, 0xff, sizeof t->char_bytes);
    for (unsigned b = 0; b < 256; b++) {
        bool prints                     = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b != 0xad);
        t->byte_chars[b]                = prints ? (uint16_t) b : next++;
        t->char_bytes[t->byte_chars[b]] = (int16_t) b;
    }
}

/* What stands for a byte where no token covers it. */
static void make_fallback(cmif_tokenizer *t)
{
    for (unsigned b = 0; b < 256; b++) {
        uint8_t single = (uint8_t) b, bytes[4];
        char    name[8];
        t->fallback[b][1] = -1;
        if (t->model == TOK_BPE && !t->escape) { /* the library looks up each byte of the written form */
            size_t size       = tok_put_utf8(t->byte_chars[b], bytes);
            t->fallback[b][0] = tok_text_token(t, bytes, 1);
            t->fallback[b][1] = size > 1 ? tok_text_token(t, bytes + 1, 1) : -1;
            continue;
        }
        snprintf(name, sizeof name, "<0x%02X>", b);
        t->fallback[b][0] = tok_text_token(t, name, 6);
        if (t->model == TOK_SENTENCEPIECE && t->fallback[b][0] < 0) {
            int32_t as_text   = tok_text_token(t, &single, 1);
            t->fallback[b][0] = as_text >= 0 ? as_text : t->unk; /* the library throws here */
        }
    }
}

cmif_code tok_load_merges(cmif_tokenizer *t, const cmif_gguf *file, cmif_err *err)
{
    cmif_code rc = t->model == TOK_BPE ? load_bpe_merges(t, file, err) : load_score_merges(t, file, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    make_byte_chars(t);
    make_fallback(t);
    find_cuts(t);
    for (unsigned b = 0; b < 256; b++) {
        uint8_t bytes[4] = {(uint8_t) b};
        size_t  size     = t->escape ? 1 : tok_put_utf8(t->byte_chars[b], bytes);
        t->ascii[b]      = tok_pieces_find(&t->pieces, bytes, size);
        if (t->ascii[b] < t->vocab && (t->attrs[t->ascii[b]] & ATTR_NO_TEXT)) {
            t->ascii[b] = TOK_NONE;
        }
    }
    return CMIF_OK;
}
