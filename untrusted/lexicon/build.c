#include "lexicon/draft.h"

#include "base/bytes.h"

#include <ctype.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* The study's rule: of wordfreq's first 120,000 words those that are `[a-z]{2,20}`, "i" or "a", at most 80,000 of them;
 * the first 40,000 stay, of the others those that WordNet knows. */
enum { READ_MAX = 120000, PLAIN_MAX = 80000, SURE = 40000 };

#define PRIOR_TOTAL 2147483648.0
#define OUTSIDE .05 /* of lists that do not say what they leave out */

typedef struct candidate {
    cmif_str word;
    double   share; /* of all text; or any count */
    uint8_t  word_class;
} candidate;

typedef struct builder {
    candidate  *words;
    size_t      count, capacity;
    cmif_map    known; /* word -> words */
    cmif_source pass, negations;
} builder;

static cmif_code add_word(builder *b, cmif_str word, double share, uint8_t word_class, uint32_t *id, cmif_err *err)
{
    if (!cmif_grow(&b->words, &b->capacity, b->count, sizeof *b->words)) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
    }
    *id = cmif_map_put(&b->known, word, (uint32_t) b->count);
    if (*id == CMIF_MAP_NONE) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
    }
    if (*id == b->count) {
        b->words[b->count++] = (candidate){word, share, word_class};
    }
    return CMIF_OK;
}

/* ---- the lists of pass words and negations ---- */

static cmif_code add_listed(builder *b, cmif_str word, uint8_t word_class, cmif_err *err)
{
    uint32_t  id;
    cmif_code rc = add_word(b, word, 0, word_class, &id, err);
    if (rc == CMIF_OK) {
        b->words[id].word_class = word_class;
    }
    return rc;
}

static cmif_code add_list(builder *b, const char *path, cmif_source *source, const char *built_in, uint8_t word_class,
                          cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    if (!path) {
        for (const char *at = built_in; *at && rc == CMIF_OK;) {
            const char *space = strchr(at, ' ');
            rc                = add_listed(b, (cmif_str){at, (size_t) (space - at)}, word_class, err);
            at                = space + 1;
        }
        return rc;
    }
    rc               = cmif_source_read(path, source, err);
    cmif_lines lines = {.source = source};
    while (rc == CMIF_OK && cmif_lines_next(&lines)) {
        rc = cmif_word_is_text(lines.line)
                 ? add_listed(b, lines.line, word_class, err)
                 : cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu is not one word in lower case (NFC)", path,
                             lines.number);
    }
    return rc;
}

static cmif_code add_lists(builder *b, const char *pass, const char *negations, cmif_err *err)
{
    cmif_code rc = add_list(b, pass, &b->pass, cmif_pass_words, CMIF_CLASS_PASS, err);
    return rc == CMIF_OK ? add_list(b, negations, &b->negations, cmif_negation_words, CMIF_CLASS_NEGATION, err) : rc;
}

static void builder_free(builder *b)
{
    free(b->words);
    cmif_map_free(&b->known);
    cmif_source_free(&b->pass);
    cmif_source_free(&b->negations);
}

/* ---- from words to a draft ---- */

static int by_word(const void *a, const void *b)
{
    return cmif_str_compare(((const candidate *) a)->word, ((const candidate *) b)->word);
}

static uint32_t prior_of(double share)
{
    double prior = floor(share * PRIOR_TOTAL + .5);
    return prior < 1 ? 1 : prior > UINT32_MAX ? UINT32_MAX : (uint32_t) prior;
}

static void mark_listed_rude(cmif_lexicon *lex)
{
    for (const char *at = cmif_rude_words; *at;) {
        const char *space = strchr(at, ' ');
        cmif_str    word  = {at, (size_t) (space - at)};
        uint32_t    low = 1, high = lex->count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (cmif_str_compare(lex->words[middle], word) < 0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low < lex->count && cmif_str_compare(lex->words[low], word) == 0) {
            lex->rude[low] = lex->word_class[low] > CMIF_CLASS_NEGATION; /* what a person lets pass is their own word */
        }
        at = space + 1;
    }
}

/* total: the shares of all text, what is not in the lexicon included; 0: OUTSIDE of it is not. */
static cmif_code make_draft(builder *b, double total, cmif_lexicon **out, cmif_err *err)
{
    cmif_lexicon *lex = NULL;
    size_t        n   = b->count + 1;
    double        sum = 0;

    cmif_code rc = cmif_draft_new(&lex, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    lex->words      = calloc(n, sizeof *lex->words);
    lex->prior      = calloc(n, sizeof *lex->prior);
    lex->word_class = calloc(n, sizeof *lex->word_class);
    lex->valence    = calloc(n, sizeof *lex->valence);
    lex->topics     = calloc(n, sizeof *lex->topics);
    lex->lemma      = calloc(n, sizeof *lex->lemma);
    lex->rude       = calloc(n, sizeof *lex->rude);
    if (!lex->words || !lex->prior || !lex->word_class || !lex->valence || !lex->topics || !lex->lemma || !lex->rude) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu words", n);
        goto done;
    }
    qsort(b->words, b->count, sizeof *b->words, by_word);
    for (size_t i = 0; i < b->count; i++) {
        sum += b->words[i].share;
    }
    double scale       = total > 0 ? 1 / total : (1 - OUTSIDE) / sum;
    double inside      = total > 0 ? sum / total : 1 - OUTSIDE;
    lex->count         = (uint32_t) n;
    lex->words[0]      = (cmif_str){"", 0};
    lex->prior[0]      = prior_of(1 - inside);
    lex->word_class[0] = CMIF_CLASS_UNKNOWN;
    lex->valence[0]    = NAN;
    for (uint32_t i = 1; i < n; i++) {
        lex->words[i]      = b->words[i - 1].word;
        lex->prior[i]      = prior_of(b->words[i - 1].share * scale);
        lex->word_class[i] = b->words[i - 1].word_class;
        lex->valence[i]    = NAN;
        lex->lemma[i]      = i;
    }
    mark_listed_rude(lex);
    *out = lex;
    lex  = NULL;
done:
    cmif_lexicon_free(lex);
    return rc;
}

/* ---- valence: word TAB mean TAB deviation TAB votes ---- */

static bool parse_valence(cmif_str line, cmif_str *word, double *mean)
{
    const char *tab = memchr(line.data, '\t', line.size); /* a source ends in a zero byte, so strtod stays inside */
    if (!tab) {
        return false;
    }
    char *end = NULL;
    *word     = (cmif_str){line.data, (size_t) (tab - line.data)};
    *mean     = strtod(tab + 1, &end);
    if (end == tab + 1 || *end != '\t' || !(fabs(*mean) <= 4)) {
        return false;
    }
    const char *second    = end + 1;
    double      deviation = strtod(second, &end);
    return end != second && *end == '\t' && deviation >= 0;
}

static cmif_code give_valence(cmif_lexicon *lex, const cmif_source *source, cmif_err *err)
{
    cmif_lines lines = {.source = source};
    cmif_map   ids   = {0};
    cmif_code  rc    = CMIF_OK;
    size_t     given = 0;

    for (uint32_t i = 1; i < lex->count; i++) {
        if (cmif_map_put(&ids, lex->words[i], i) == CMIF_MAP_NONE) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
            goto done;
        }
    }
    while (cmif_lines_next(&lines)) {
        cmif_str word;
        double   mean;
        if (!parse_valence(lines.line, &word, &mean)) {
            rc = cmif_fail(err, CMIF_E_FORMAT,
                           "'%s' line %zu is not a word, its valence from -4 to 4, the deviation and votes",
                           source->path, lines.number);
            goto done;
        }
        uint32_t id = cmif_map_get(&ids, word);
        if (id != CMIF_MAP_NONE) {
            lex->valence[id] = (float) mean;
        }
        given++;
    }
    if (given == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is empty, expected VADER's lexicon", source->path);
    }
done:
    cmif_map_free(&ids);
    return rc;
}

/* ---- the whole lexicon ---- */

static bool is_plain(cmif_str word)
{
    for (size_t i = 0; i < word.size; i++) {
        if (word.data[i] < 'a' || word.data[i] > 'z') {
            return false;
        }
    }
    return (word.size >= 2 && word.size <= 20) || cmif_str_is(word, "i") || cmif_str_is(word, "a");
}

/* wordfreq gives no list of these: their frequencies are made from others. */
static bool has_digits(cmif_str word)
{
    for (size_t i = 0; i + 1 < word.size; i++) {
        if (isdigit((unsigned char) word.data[i]) &&
            (isdigit((unsigned char) word.data[i + 1]) || memchr(".,", word.data[i + 1], 2))) {
            return true;
        }
    }
    return false;
}

static cmif_code choose_words(builder *b, const cmif_frequency *list, size_t count, const cmif_wordnet *net,
                              uint32_t most, double *total, cmif_err *err)
{
    cmif_analysis analyses[CMIF_ANALYSES_MAX];
    uint32_t      read = 0, plain = 0, kept = 0, id;
    double        share = 1;
    uint32_t      level = 0;

    for (size_t i = 0; i < count; i++) {
        if (list[i].centibels != level) {
            level = list[i].centibels;
            share = cmif_centibels(level);
        }
        *total += share;
        uint32_t listed = cmif_map_get(&b->known, list[i].word);
        if (listed != CMIF_MAP_NONE) { /* a pass word or negation, or a word that is there twice */
            if (b->words[listed].share > 0) {
                return cmif_fail(err, CMIF_E_FORMAT, "the frequency list has word %zu twice", i);
            }
            b->words[listed].share = share;
        }
        if (read >= READ_MAX || has_digits(list[i].word)) {
            continue;
        }
        read++;
        if (!is_plain(list[i].word) || plain >= PLAIN_MAX) {
            continue;
        }
        plain++;
        if (kept >= most || (plain > SURE && cmif_wordnet_analyse(net, list[i].word, analyses) == 0)) {
            continue;
        }
        kept++;
        if (listed == CMIF_MAP_NONE) {
            cmif_code rc = add_word(b, list[i].word, share, CMIF_CLASS_UNKNOWN, &id, err);
            if (rc != CMIF_OK) {
                return rc;
            }
        }
    }
    if (kept == 0) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "no word is left: the frequency list has %zu words, none of letters a to z only", count);
    }
    return CMIF_OK;
}

/* "name sha256" lines. */
static cmif_code name_sources(const cmif_source *const *sources, size_t count, char **out, cmif_err *err)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++) {
        size += strlen(sources[i]->path) + 68;
    }
    char *text = malloc(size);
    if (!text) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the names of sources");
    }
    char *at = text;
    *at      = 0;
    for (size_t i = 0; i < count; i++) { /* without folders: they say where somebody keeps files */
        const char *slash = strrchr(sources[i]->path, '/');
        at += sprintf(at, "%s %s\n", slash ? slash + 1 : sources[i]->path, sources[i]->hash);
    }
    *out = text;
    return CMIF_OK;
}

static bool tell(cmif_progress progress, void *context, const char *what, uint64_t done)
{
    return !progress || progress(context, what, done, 5);
}

cmif_code cmif_lexicon_build(const cmif_lexicon_sources *sources, const char *path, cmif_progress progress,
                             void *context, cmif_err *err)
{
    cmif_code          rc          = CMIF_OK;
    cmif_wordnet      *net         = calloc(1, sizeof *net);
    builder            b           = {0};
    cmif_source        frequencies = {0}, valence = {0};
    cmif_frequency    *list  = NULL;
    size_t             count = 0, files = 0;
    double             total = 0;
    cmif_lexicon      *lex   = NULL;
    char              *names = NULL;
    const cmif_source *used[4 + sizeof net->files / sizeof *net->files];
    bool               go = true;

    if (!net) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for WordNet");
    }
    go = tell(progress, context, "reading WordNet", 0);
    rc = cmif_wordnet_read(sources->wordnet, net, err);
    if (rc == CMIF_OK && go) {
        go = tell(progress, context, "reading frequencies", 1);
        rc = cmif_source_read_gzip(sources->frequencies, &frequencies, err);
    }
    if (rc == CMIF_OK && go) {
        rc = cmif_frequencies_parse(&frequencies, &list, &count, err);
    }
    if (rc == CMIF_OK && go) {
        rc = cmif_source_read(sources->valence, &valence, err);
    }
    if (rc == CMIF_OK && go) {
        rc = add_lists(&b, sources->pass, sources->negations, err);
    }
    if (rc == CMIF_OK && go) {
        go = tell(progress, context, "choosing words", 2);
        rc = choose_words(&b, list, count, net, sources->words ? sources->words : UINT32_MAX, &total, err);
        if (rc != CMIF_OK) {
            cmif_err_context(err, "'%s'", sources->frequencies);
        }
    }
    if (rc == CMIF_OK && go) {
        rc = make_draft(&b, total, &lex, err);
    }
    if (rc == CMIF_OK && go) {
        rc = give_valence(lex, &valence, err);
    }
    if (rc == CMIF_OK && go) {
        go = tell(progress, context, "relating words", 3);
        rc = cmif_draft_relate(lex, net, err);
    }
    if (rc == CMIF_OK && go) {
        used[files++] = &frequencies;
        used[files++] = &valence;
        for (size_t i = 0; i < sizeof net->files / sizeof *net->files; i++) {
            used[files++] = &net->files[i];
        }
        if (b.pass.path) {
            used[files++] = &b.pass;
        }
        if (b.negations.path) {
            used[files++] = &b.negations;
        }
        rc = name_sources(used, files, &names, err);
    }
    if (rc == CMIF_OK && go) {
        go = tell(progress, context, "writing", 4);
    }
    if (rc == CMIF_OK && go) {
        rc = cmif_draft_write(lex, names, path, err);
    }
    if (rc == CMIF_OK && go) {
        tell(progress, context, "writing", 5);
    }
    if (rc == CMIF_OK && !go) {
        rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped; no lexicon was written");
    }
    cmif_lexicon_free(lex);
    free(names);
    free(list);
    cmif_source_free(&frequencies);
    cmif_source_free(&valence);
    builder_free(&b);
    cmif_wordnet_free(net);
    free(net);
    return rc;
}

/* ---- without packages ---- */

/* A draft of words alone, written. */
static cmif_code write_plain(builder *b, const char *sources, const char *path, cmif_err *err)
{
    cmif_lexicon *lex = NULL;
    cmif_code     rc  = make_draft(b, 0, &lex, err);
    if (rc == CMIF_OK) {
        lex->gloss_first = calloc((size_t) lex->count + 1, sizeof *lex->gloss_first);
        rc               = lex->gloss_first ? cmif_draft_write(lex, sources, path, err)
                                            : cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
    }
    cmif_lexicon_free(lex);
    return rc;
}

cmif_code cmif_lexicon_build_from_list(const char *list, const char *path, cmif_err *err)
{
    cmif_code   rc     = CMIF_OK;
    builder     b      = {0};
    cmif_source source = {0};
    cmif_lines  lines  = {.source = &source};
    bool        counts = false;
    char       *names  = NULL;
    uint32_t    id;

    const cmif_source *used = &source;

    rc = add_lists(&b, NULL, NULL, err);
    if (rc == CMIF_OK) {
        rc = cmif_source_read(list, &source, err);
    }
    while (rc == CMIF_OK && cmif_lines_next(&lines)) {
        const char *tab   = memchr(lines.line.data, '\t', lines.line.size);
        cmif_str    word  = {lines.line.data, tab ? (size_t) (tab - lines.line.data) : lines.line.size};
        double      share = 1 / ((double) lines.number + 9);
        if (tab) { /* the source ends in a zero byte, so this stays inside */
            char *end = NULL;
            share     = strtod(tab + 1, &end);
            if (!isdigit((unsigned char) tab[1]) || end != lines.line.data + lines.line.size || !(share > 0) ||
                !isfinite(share)) {
                rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu: what is behind the tab is not a count above 0", list,
                               lines.number);
                break;
            }
        }
        if (lines.number > 1 && counts != (tab != NULL)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu has %s count, unlike the lines before it", list,
                           lines.number, tab ? "a" : "no");
            break;
        }
        counts = tab != NULL;
        if (!cmif_word_is_text(word)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu is not one word in lower case (NFC), at most %d bytes",
                           list, lines.number, CMIF_WORD_SIZE_MAX);
            break;
        }
        rc = add_word(&b, word, share, CMIF_CLASS_UNKNOWN, &id, err);
        if (rc == CMIF_OK && b.words[id].share > 0 && b.words[id].word.data != word.data) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu has a word that an earlier line has", list, lines.number);
        }
        if (rc == CMIF_OK) {
            b.words[id].word  = word; /* so that a pass word that comes twice is seen as well */
            b.words[id].share = share;
        }
    }
    if (rc == CMIF_OK && lines.number == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is empty: a lexicon needs at least one word", list);
    }
    if (rc == CMIF_OK) {
        rc = name_sources(&used, 1, &names, err);
    }
    if (rc == CMIF_OK) {
        rc = write_plain(&b, names, path, err);
    }
    free(names);
    builder_free(&b);
    cmif_source_free(&source);
    return rc;
}

/* ---- from a model's vocabulary ---- */

/* The bytes of a token in the letters that stand for bytes (GPT-2): those that are printable for themselves, the others
 * from U+0100 on in their order. Returns the size, 0 when it is no such text. */
static size_t bytes_of_token(cmif_str token, uint8_t room[CMIF_WORD_SIZE_MAX + 1])
{
    size_t size = 0;
    for (size_t at = 0; at < token.size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *) token.data + at, (utf8proc_ssize_t) (token.size - at), &code);
        if (used <= 0 || size > CMIF_WORD_SIZE_MAX) {
            return 0;
        }
        at += (size_t) used;
        int byte = code;
        if (code >= 0x100) {
            int order = code - 0x100; /* among the bytes 0..32, 127..160, 173 */
            byte      = order <= 32 ? order : order <= 66 ? order - 33 + 127 : order == 67 ? 173 : -1;
        }
        if (byte < 0) {
            return 0;
        }
        room[size++] = (uint8_t) byte;
    }
    return size;
}

/* The word in lower case, NFC (malloc'd, *out NULL: none): letters only, at least two of them, or "i" or "a". */
static cmif_code word_of_token(cmif_str token, bool bytes, char **out, cmif_err *err)
{
    static const char block[] = "\xe2\x96\x81"; /* U+2581: a word begins */
    uint8_t           room[CMIF_WORD_SIZE_MAX + 1];
    char              lower[4 * CMIF_WORD_SIZE_MAX + 5];
    size_t            letters = 0, put = 0, from = bytes ? 1 : 3;

    *out = NULL;
    if (bytes) {
        size_t size = bytes_of_token(token, room);
        token       = (cmif_str){(const char *) room, size};
    }
    if (token.size <= from || token.size > from + CMIF_WORD_SIZE_MAX ||
        memcmp(token.data, bytes ? " " : block, from) != 0) {
        return CMIF_OK;
    }
    for (size_t at = from; at < token.size;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used =
            utf8proc_iterate((const uint8_t *) token.data + at, (utf8proc_ssize_t) (token.size - at), &code);
        if (used <= 0 || utf8proc_category(code) < UTF8PROC_CATEGORY_LU ||
            utf8proc_category(code) > UTF8PROC_CATEGORY_LO) {
            return CMIF_OK;
        }
        at += (size_t) used;
        put += (size_t) utf8proc_encode_char(utf8proc_tolower(code), (uint8_t *) lower + put);
        letters++;
    }
    lower[put] = 0;
    if (letters == 1 && strcmp(lower, "i") != 0 && strcmp(lower, "a") != 0) {
        return CMIF_OK;
    }
    char *word = (char *) utf8proc_NFC((const uint8_t *) lower);
    if (!word) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a word");
    }
    if (!cmif_word_is_text((cmif_str){word, strlen(word)})) {
        free(word);
        word = NULL;
    }
    *out = word;
    return CMIF_OK;
}

/* "tokens sha256": of the tokens with a zero byte after each, so that two files of one model give one lexicon. */
static cmif_code hash_tokens(const cmif_str *tokens, size_t count, char line[static 80], cmif_err *err)
{
    uint8_t     digest[32];
    char        hex[65];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool        good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    for (size_t i = 0; i < count && good; i++) {
        good = EVP_DigestUpdate(hash, tokens[i].data, tokens[i].size) && EVP_DigestUpdate(hash, "", 1);
    }
    good = good && EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    if (!good) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
    cmif_hex(digest, sizeof digest, hex);
    snprintf(line, 80, "tokens %s\n", hex);
    return CMIF_OK;
}

cmif_code cmif_lexicon_build_from_model(const char *gguf, const char *path, cmif_err *err)
{
    cmif_code  rc     = CMIF_OK;
    builder    b      = {0};
    cmif_gguf *file   = NULL;
    cmif_str   model  = {0};
    cmif_str  *tokens = NULL;
    char     **words  = NULL;
    size_t     count = 0, found = 0;
    char       sources[80];
    uint32_t   id;

    rc = add_lists(&b, NULL, NULL, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_open(gguf, &file, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(file, "tokenizer.ggml.model", &model, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_strs(file, "tokenizer.ggml.tokens", &tokens, &count, err);
    }
    if (rc == CMIF_OK) {
        words = calloc(count ? count : 1, sizeof *words);
        rc    = words ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu tokens", count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = word_of_token(tokens[i], cmif_str_is(model, "gpt2"), &words[i], err);
        if (rc == CMIF_OK && words[i]) {
            double share = 1 / ((double) found + 10);
            rc           = add_word(&b, (cmif_str){words[i], strlen(words[i])}, share, CMIF_CLASS_UNKNOWN, &id, err);
            if (rc == CMIF_OK &&
                (b.words[id].share == 0 || b.words[id].word.data == words[i])) { /* a pass word, or a new one */
                b.words[id].share = share;
                found++;
            }
        }
    }
    if (rc == CMIF_OK && found == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "none of the %zu tokens of '%s' is a whole word; use --list FILE", count,
                       gguf);
    }
    if (rc == CMIF_OK) {
        rc = hash_tokens(tokens, count, sources, err);
    }
    if (rc == CMIF_OK) {
        rc = write_plain(&b, sources, path, err);
    }
    builder_free(&b);
    for (size_t i = 0; words && i < count; i++) {
        free(words[i]);
    }
    free(words);
    free(tokens);
    cmif_gguf_free(file);
    return rc;
}
