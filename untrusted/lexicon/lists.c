/* Lists of names, and of words with their topics, for trusted/sanitizer/lists.h, which says what they hold. Everything
 * is public, and the same sources give the same bytes. */
#include "lexicon/lexicon.h"

#include "base/bytes.h"
#include "lexicon/map.h"
#include "lexicon/sources.h"
#include "lexicon/wordnet.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum list { GIVEN, FAMILY, PLACE, ORGANISATION, PERSON, WORD, LISTS = CMIF_LISTS };

const char *const     cmif_list_names[CMIF_LISTS] = {"given", "family", "place", "organisation", "person", "word"};
static const uint32_t words_max[LISTS]            = {1, 1, 5, 6, 5, 1};

enum {
    GIVEN_FEMALE   = 1,
    GIVEN_MALE     = 2,
    GIVEN_COMMON   = 4, /* of the census */
    FAMILY_COMMON  = 1, /* not only of the census */
    PLACE_COUNTRY  = 1,
    PLACE_CITY     = 2,
    PLACE_REGION   = 4,
    PLACE_ORDINARY = 8,
    WORD_PASSES    = 1 << 16,
    WORD_CAPITAL   = 1 << 17,
    WORD_RARE      = 1 << 18, /* SemCor has it less than three times */
    RARE           = 3,       /* of lower_count */
    NAME_SIZE_MAX  = 256,
    CHUNK_SIZE     = 1 << 20
};

typedef struct entry {
    cmif_str text;
    uint32_t flags;
} entry;

typedef struct entries {
    entry *at;
    size_t count, capacity;
} entries;

typedef struct chunk {
    struct chunk *next;
    size_t        used;
    char          text[CHUNK_SIZE];
} chunk;

typedef struct builder {
    entries      lists[LISTS];
    chunk       *chunks;
    cmif_wordnet net;
    cmif_source  dictionary, names[4];
    uint8_t     *kinds;        /* [synsets] */
    cmif_map     lower;        /* of the dictionary: words in lower case */
    cmif_map     index[LISTS]; /* of the finished lists */
} builder;

/* ---- words chosen by us ---- with a space after each */

/* Ordinary, and too new or too casual for WordNet and the dictionary. */
static const char extra_words[] =
    "lol lmao haha hahaha gonna wanna gotta kinda sorta dont cant wont didnt doesnt isnt "
    "wasnt arent couldnt wouldnt shouldnt im ive "
    "ill id youre youve youll hes shes thats theyre theyve weve lets whats theres heres "
    "ok okay yeah yep nope hi hey hello thx thanks "
    "pls plz omg btw idk imo fyi asap faq etc eg ie vs aka mr mrs ms mx dr prof st jr sr "
    "email emails e-mail online website websites "
    "internet wifi smartphone smartphones app apps blog blogs laptop laptops url urls "
    "http https api apis login logins username "
    "usernames homepage inbox spam selfie emoji emojis hashtag podcast podcasts "
    "unsubscribe fintech covid coronavirus vaping fax pdf "
    "html css json sql csv xml gps usb cpu gpu sim atm pin iban bic vat tv dvd cd dj ceo "
    "cfo cto hr pr qa it ai am pm mum mums ffs wtf "
    "cos cuz til u r ur n re cc bcc ps dob nr tel incl approx qty dept est min max avg "
    "sec mins secs hrs kg km cm mm mg ml lb lbs oz "
    "kb mb gb tb mph kmh bpm mmhg dl mmol iu bp hr wt ht hx rx dx bid tid prn po iv im "
    "icu er gp ecg mri ct hiv aids dna bmi adhd ptsd "
    "def elif int str bool var const func fn struct enum printf println stdout stderr stdin argv argc init impl async "
    "await lambda config "
    "params args kwargs utf npm git sudo ssh bash cmd localhost bin usr tmp lib src dev null nil void len char uint "
    "env curl grep sed awk "
    "auth admin root api auth oauth jwt regex auth backend frontend localhost runtime timestamp boolean tsh "
    "mobile van twins lesbian twin server repo js py passport hotline chemo meds disclosure "
    "copd phd msc bsc mba md ba ma curriculum vitae resume ";

/* Ordinary although they have a capital. */
static const char capital_words[] = "i monday mondays tuesday tuesdays wednesday thursday thursdays friday fridays "
                                    "saturday saturdays sunday sundays mon tue tues wed "
                                    "thu thur thurs fri sat sun january february march april may june july august "
                                    "september october november december jan feb mar apr "
                                    "jun jul aug sep sept oct nov dec christmas easter halloween thanksgiving ramadan "
                                    "hanukkah passover internet english god bible "
                                    "koran quran ok mr mrs ms mx dr prof sir madam dear hello hi phd md msc bsc mba "
                                    "ceo cfo cto vp hr it ai tv pdf faq am pm dob re "
                                    "ps vat pin iban bic gps usb url api gmt utc est pst edt cet dna hiv aids covid "
                                    "mri ct icu er gp bp bmi ecg iv adhd ptsd ";

/* Faiths are words of a sensitive topic, although some bear them as a name and some lists have them as places. */
static const char faith_words[] =
    "muslim muslims islam islamic hindu hindus hinduism jew jews jewish judaism sikh sikhs sikhism "
    "buddhist buddhists buddhism mormon mormons catholic catholics protestant protestants "
    "lutheran lutherans methodist methodists baptist baptists shia sunni quran koran torah ";

/* Names although a rare word has such a form: the maria of the moon. */
static const char only_names[] = "maria ";

/* Of names, and no names. */
static const char particles[] =
    "de la del der den van von di da du las los al el bin ibn ben abu dos das do of the and y i e a st san ";

static bool listed(const char *words, cmif_str word)
{
    for (const char *at = words; *at;) {
        size_t size = strcspn(at, " ");
        if (size == word.size && memcmp(at, word.data, size) == 0) {
            return true;
        }
        at += size + 1;
    }
    return false;
}

/* ---- text ---- */

static cmif_str keep(builder *b, const char *text, size_t size)
{
    if (!b->chunks || b->chunks->used + size > CHUNK_SIZE) {
        chunk *fresh = malloc(sizeof *fresh);
        if (!fresh) {
            return (cmif_str){0};
        }
        fresh->next = b->chunks;
        fresh->used = 0;
        b->chunks   = fresh;
    }
    char *at = b->chunks->text + b->chunks->used;
    memcpy(at, text, size);
    b->chunks->used += size;
    return (cmif_str){at, size};
}

/* Latin letters without a decomposition, as trusted/sanitizer/scan.c bares them. */
static const char *bare_letter(int32_t code)
{
    switch (code) {
    case 0xdf:
        return "ss";
    case 0xe6:
        return "ae";
    case 0xf0:
    case 0x111:
        return "d";
    case 0xf8:
        return "o";
    case 0xfe:
        return "th";
    case 0x127:
        return "h";
    case 0x131:
        return "i";
    case 0x142:
        return "l";
    case 0x153:
        return "oe";
    default:
        return NULL;
    }
}

/* Lower case, NFKC, one space between words, apostrophes inside words kept; up to a bracket or comma. bare: without
 * accents and apostrophes. 0: not a name, or too long. */
static size_t fold(cmif_str name, bool bare, char out[static NAME_SIZE_MAX])
{
    utf8proc_int32_t  codes[NAME_SIZE_MAX];
    size_t            size = 0;
    bool              gap  = false;
    utf8proc_option_t how  = UTF8PROC_STABLE | UTF8PROC_COMPAT | (bare ? UTF8PROC_DECOMPOSE : UTF8PROC_COMPOSE);
    utf8proc_ssize_t  count =
        utf8proc_decompose((const uint8_t *) name.data, (utf8proc_ssize_t) name.size, codes, NAME_SIZE_MAX, how);

    if (count <= 0 || count > NAME_SIZE_MAX) {
        return 0;
    }
    if (!bare) {
        count = utf8proc_normalize_utf32(codes, count, how);
    }
    for (utf8proc_ssize_t i = 0; i < count; i++) {
        int32_t             code     = codes[i];
        utf8proc_category_t category = utf8proc_category(code);
        bool                mark     = category == UTF8PROC_CATEGORY_MN;
        bool                accent   = mark && ((code >= 0x300 && code <= 0x36f) || (code >= 0x483 && code <= 0x489));
        bool                letter   = category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
        uint8_t             bytes[4];
        if (code == '(' || code == ',' || code == '[' || code == '/' || code == '*') {
            break;
        }
        if (category == UTF8PROC_CATEGORY_ND) {
            return 0;
        }
        if ((accent && bare) || (bare && (code == '\'' || code == 0x2019))) {
            continue;
        }
        bool apostrophe = (code == '\'' || code == 0x2019 || code == 0x2bc) && size > 0 && !gap && i + 1 < count &&
                          utf8proc_category(codes[i + 1]) <= UTF8PROC_CATEGORY_LO;
        if (!letter && !mark && !apostrophe && category != UTF8PROC_CATEGORY_MC) {
            gap = size > 0;
            continue;
        }
        if (size + 8 > NAME_SIZE_MAX) {
            return 0;
        }
        if (gap) {
            out[size++] = ' ';
        }
        gap               = false;
        code              = apostrophe ? '\'' : utf8proc_tolower(code);
        const char *latin = bare ? bare_letter(code) : NULL;
        size_t      more  = latin ? strlen(latin) : (size_t) utf8proc_encode_char(code, bytes);
        memcpy(out + size, latin ? latin : (const char *) bytes, more);
        size += more;
    }
    return size;
}

static uint32_t count_words(cmif_str text)
{
    uint32_t count = 1;
    for (size_t i = 0; i < text.size; i++) {
        count += text.data[i] == ' ';
    }
    return count;
}

/* ---- lists ---- */

static cmif_code add_folded(builder *b, enum list which, cmif_str text, uint32_t flags, cmif_err *err)
{
    entries *l = &b->lists[which];
    if (text.size < 2 || count_words(text) > words_max[which] || (which <= FAMILY && listed(particles, text))) {
        return CMIF_OK;
    }
    cmif_str kept = keep(b, text.data, text.size);
    if (!kept.data || !cmif_grow(&l->at, &l->capacity, l->count, sizeof *l->at)) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a list of names");
    }
    l->at[l->count++] = (entry){kept, flags};
    return CMIF_OK;
}

/* A name as it is written, also without its accents. */
static cmif_code add(builder *b, enum list which, cmif_str name, uint32_t flags, cmif_err *err)
{
    char      text[NAME_SIZE_MAX];
    cmif_code rc = CMIF_OK;
    for (int bare = 0; bare < 2 && rc == CMIF_OK; bare++) {
        cmif_str folded = {text, fold(name, bare, text)};
        if (words_max[which] > 1) {
            rc = add_folded(b, which, folded, flags, err);
            continue;
        }
        for (size_t from = 0, to; from < folded.size && rc == CMIF_OK; from = to + 1) { /* each word of it */
            const char *space = memchr(text + from, ' ', folded.size - from);
            to                = space ? (size_t) (space - text) : folded.size;
            rc                = add_folded(b, which, (cmif_str){text + from, to - from}, flags, err);
        }
    }
    return rc;
}

static int compare(const void *a, const void *b)
{
    return cmif_str_compare(((const entry *) a)->text, ((const entry *) b)->text);
}

static cmif_code finish(builder *b, enum list which, cmif_err *err)
{
    entries *l    = &b->lists[which];
    size_t   kept = 0;
    qsort(l->at, l->count, sizeof *l->at, compare);
    for (size_t i = 0; i < l->count; i++) {
        if (kept > 0 && cmif_str_compare(l->at[kept - 1].text, l->at[i].text) == 0) {
            l->at[kept - 1].flags |= l->at[i].flags;
        } else {
            l->at[kept++] = l->at[i];
        }
    }
    l->count = kept;
    for (size_t i = 0; i < kept; i++) {
        if (cmif_map_put(&b->index[which], l->at[i].text, (uint32_t) i) == CMIF_MAP_NONE) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of %zu names", kept);
        }
    }
    return CMIF_OK;
}

static uint32_t flags_in(const builder *b, enum list which, cmif_str text)
{
    uint32_t at = cmif_map_get(&b->index[which], text);
    return at == CMIF_MAP_NONE ? 0 : b->lists[which].at[at].flags | 1u << 31;
}

/* ---- the packages' names: "kind, tab, name" ---- */

static cmif_code read_names(builder *b, const cmif_source *source, bool census, cmif_err *err)
{
    cmif_lines lines = {.source = source};
    cmif_code  rc    = CMIF_OK;

    while (rc == CMIF_OK && cmif_lines_next(&lines)) {
        cmif_str name = {lines.line.data + 2, lines.line.size - 2};
        if (lines.line.size < 3 || lines.line.data[1] != '\t') {
            return cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu is not a letter, a tab and a name; fetch it again",
                             source->path, lines.number);
        }
        switch (lines.line.data[0]) {
        case 'F':
            rc = add(b, GIVEN, name, GIVEN_FEMALE | (census ? GIVEN_COMMON : 0), err);
            break;
        case 'M':
            rc = add(b, GIVEN, name, GIVEN_MALE | (census ? GIVEN_COMMON : 0), err);
            break;
        case 'G':
            rc = add(b, GIVEN, name, GIVEN_FEMALE | GIVEN_MALE, err);
            break;
        case 'S':
            rc = add(b, FAMILY, name, census ? 0 : FAMILY_COMMON, err);
            break;
        case 'C':
            rc = add(b, PLACE, name, PLACE_COUNTRY, err);
            break;
        case 'R':
            rc = add(b, PLACE, name, PLACE_REGION, err);
            break;
        case 'T':
            rc = add(b, PLACE, name, PLACE_CITY, err);
            break;
        default:
            return cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu is of kind '%c', which is none of F, M, G, S, C, R, T",
                             source->path, lines.number, lines.line.data[0]);
        }
    }
    return rc;
}

/* ---- WordNet's names: instances ---- */

enum { IS_PERSON = 1, IS_PLACE = 2, IS_COUNTRY = 4, IS_CITY = 8, IS_ORGANISATION = 16, IS_INHABITANT = 32 };

/* Noun synsets of WordNet 3.0; with a lemma, so that another WordNet gives no names instead of wrong ones. */
static const struct {
    uint32_t    offset;
    const char *lemma;
    uint8_t     kind;
} roots[] = {
    {7846, "person", IS_PERSON},
    {27167, "location", IS_PLACE},
    {9287968, "geological_formation", IS_PLACE},
    {9225146, "body_of_water", IS_PLACE},
    {9334396, "land", IS_PLACE},
    {4341686, "structure", IS_PLACE},
    {8544813, "country", IS_COUNTRY},
    {8168978, "state", IS_COUNTRY},
    {8524735, "city", IS_CITY},
    {8008335, "organization", IS_ORGANISATION},
    {9620078, "inhabitant", IS_INHABITANT},
};

static cmif_code find_kinds(builder *b, cmif_err *err)
{
    const cmif_wordnet *net = &b->net;
    b->kinds                = calloc(net->synset_count + 1, 1);
    if (!b->kinds) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for kinds of names");
    }
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        uint32_t id = cmif_wordnet_find(net, CMIF_POS_NOUN, roots[i].offset);
        for (uint32_t j = 0; id != CMIF_MAP_NONE && j < net->synsets[id].word_count; j++) {
            if (cmif_str_is(net->words[net->synsets[id].first_word + j], roots[i].lemma)) {
                b->kinds[id] |= roots[i].kind;
            }
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < net->synset_count; i++) {
            const cmif_synset *synset = &net->synsets[i];
            uint8_t            kinds  = b->kinds[i];
            for (uint32_t j = 0; synset->pos == CMIF_POS_NOUN && j < synset->pointer_count; j++) {
                const cmif_pointer *pointer = &net->pointers[synset->first_pointer + j];
                kinds |= pointer->symbol[0] == '@' ? b->kinds[pointer->synset] : 0;
            }
            changed |= kinds != b->kinds[i];
            b->kinds[i] = kinds;
        }
    }
    return CMIF_OK;
}

static bool is_instance(const cmif_wordnet *net, const cmif_synset *synset)
{
    for (uint32_t j = 0; j < synset->pointer_count; j++) {
        const cmif_pointer *pointer = &net->pointers[synset->first_pointer + j];
        if (pointer->symbol[0] == '@' && pointer->symbol[1] == 'i') {
            return true;
        }
    }
    return false;
}

static bool is_capital(cmif_str word)
{
    return word.size > 0 && isupper((unsigned char) word.data[0]);
}

/* Mexican: an adjective with a capital, of a place. */
static bool is_of_a_place(const builder *b, const cmif_synset *synset)
{
    for (uint32_t j = 0; synset->pos == CMIF_POS_ADJECTIVE && j < synset->pointer_count; j++) {
        const cmif_pointer *pointer = &b->net.pointers[synset->first_pointer + j];
        if (pointer->symbol[0] == '\\' && b->kinds[pointer->synset] & (IS_PLACE | IS_COUNTRY)) {
            return true;
        }
    }
    return false;
}

static cmif_code add_instances(builder *b, cmif_err *err)
{
    const cmif_wordnet *net = &b->net;
    cmif_code           rc  = CMIF_OK;
    for (size_t i = 0; i < net->synset_count && rc == CMIF_OK; i++) {
        const cmif_synset *synset   = &net->synsets[i];
        uint8_t            kinds    = b->kinds[i];
        bool               instance = is_instance(net, synset), adjective = is_of_a_place(b, synset);
        uint32_t           place = kinds & IS_COUNTRY ? PLACE_COUNTRY : kinds & IS_CITY ? PLACE_CITY : PLACE_REGION;
        for (uint32_t j = 0; j < synset->word_count && rc == CMIF_OK; j++) {
            cmif_str word = net->words[synset->first_word + j];
            if (!is_capital(word)) {
                continue;
            }
            if (instance && kinds & IS_PERSON) {
                rc = add(b, PERSON, word, 0, err);
            } else if (instance && kinds & (IS_PLACE | IS_COUNTRY | IS_CITY)) {
                rc = add(b, PLACE, word, place, err);
            } else if (kinds & IS_ORGANISATION) {
                rc = add(b, ORGANISATION, word, 0, err);
            } else if (adjective || (!instance && kinds & IS_INHABITANT)) {
                rc = add(b, PLACE, word, PLACE_REGION, err);
            }
        }
    }
    return rc;
}

/* ---- words ---- */

/* How often SemCor has the word as what is written in lower case, plus one if WordNet knows it so at all. */
static uint32_t lower_count(const builder *b, cmif_str word)
{
    const cmif_wordnet *net = &b->net;
    cmif_analysis       analyses[CMIF_ANALYSES_MAX];
    uint32_t            count = 0, known = 0;
    size_t              n = cmif_wordnet_analyse(net, word, analyses);
    for (size_t i = 0; i < n; i++) {
        const cmif_lemma *lemma = &net->lemmas[analyses[i].lemma];
        for (uint32_t s = 0; s < lemma->sense_count; s++) {
            const cmif_sense  *sense  = &net->senses[lemma->first_sense + s];
            const cmif_synset *synset = &net->synsets[sense->synset];
            for (uint32_t j = 0; j < synset->word_count; j++) {
                if (cmif_str_compare(net->words[synset->first_word + j], lemma->text) == 0) {
                    known = 1;
                    count += sense->count;
                }
            }
        }
    }
    return known + count;
}

static cmif_code read_dictionary(builder *b, cmif_err *err)
{
    cmif_lines lines = {.source = &b->dictionary};
    while (cmif_lines_next(&lines)) {
        if (lines.line.size && !is_capital(lines.line) && cmif_map_put(&b->lower, lines.line, 1) == CMIF_MAP_NONE) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of '%s'", b->dictionary.path);
        }
    }
    return CMIF_OK;
}

static cmif_code add_words(builder *b, const cmif_lexicon *lex, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (uint32_t i = 1; i < lex->count && rc == CMIF_OK; i++) {
        cmif_str word   = lex->words[i];
        bool     passes = lex->word_class[i] == CMIF_CLASS_PASS || lex->word_class[i] == CMIF_CLASS_NEGATION;
        uint32_t given  = flags_in(b, GIVEN, word);
        uint32_t lower  = lower_count(b, word);
        bool     known  = lower > 0 || cmif_map_get(&b->lower, word) != CMIF_MAP_NONE;
        if (given & GIVEN_COMMON) {
            known = lower > RARE && !listed(only_names, word); /* john is a toilet, too, but rarely */
        }
        bool capital = listed(capital_words, word) || listed(faith_words, word) ||
                       (lex->topics[i] && lower == 0 && lex->word_class[i] != CMIF_CLASS_UNKNOWN && !given &&
                        !flags_in(b, PLACE, word) && !flags_in(b, PERSON, word) && !flags_in(b, ORGANISATION, word));
        if (passes || known || capital || listed(extra_words, word)) {
            uint32_t flags = lex->topics[i] | (passes ? WORD_PASSES : 0) | (capital ? WORD_CAPITAL : 0) |
                             (lower <= RARE && !passes && !capital && !listed(extra_words, word) ? WORD_RARE : 0);
            rc = add_folded(b, WORD, word, flags, err);
        }
    }
    static const char *const more[] = {extra_words, capital_words};
    for (size_t k = 0; k < 2; k++) {
        for (const char *at = more[k]; *at && rc == CMIF_OK;) {
            size_t size = strcspn(at, " ");
            rc          = add_folded(b, WORD, (cmif_str){at, size}, k ? WORD_CAPITAL : 0, err);
            at += size + 1;
        }
    }
    static const char *const letters[] = {"a", "i"};
    for (size_t k = 0; k < 2 && rc == CMIF_OK; k++) { /* one-letter words */
        entries *l = &b->lists[WORD];
        if (!cmif_grow(&l->at, &l->capacity, l->count, sizeof *l->at)) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for words");
        }
        l->at[l->count++] = (entry){{letters[k], 1}, WORD_PASSES | WORD_CAPITAL};
    }
    return rc;
}

/* ---- writing ---- */

static cmif_code write_lists(builder *b, const cmif_lexicon *lex, const char *path, cmif_err *err)
{
    cmif_gguf_out *out     = NULL;
    cmif_str      *strings = NULL;
    uint32_t      *flags   = NULL;
    char           key[64], hex[65], sources[1024];
    size_t         most = 0, at = 0;

    for (int which = 0; which < LISTS; which++) {
        most = b->lists[which].count > most ? b->lists[which].count : most;
    }
    strings = malloc((most + 1) * sizeof *strings);
    flags   = malloc((most + 1) * sizeof *flags);
    cmif_code rc =
        strings && flags ? cmif_gguf_out_new(&out, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory to write lists");
    if (rc != CMIF_OK) {
        goto done;
    }
    cmif_hex(lex->hash, 32, hex);
    at += (size_t) snprintf(sources, sizeof sources, "lexicon %s\ndictionary %s\n", hex, b->dictionary.hash);
    for (size_t i = 0; i < 4; i++) {
        const char *slash = strrchr(b->names[i].path, '/');
        at += (size_t) snprintf(sources + at, sizeof sources - at, "%s %s\n", slash ? slash + 1 : b->names[i].path,
                                b->names[i].hash);
    }
    rc = cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-lists", 10}, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_uint(out, "cmif.lists.version", 1, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_put_str(out, "cmif.lists.sources", (cmif_str){sources, at}, err);
    }
    for (int which = 0; which < LISTS && rc == CMIF_OK; which++) {
        const entries *l = &b->lists[which];
        for (size_t i = 0; i < l->count; i++) {
            strings[i] = l->at[i].text;
            flags[i]   = l->at[i].flags;
        }
        snprintf(key, sizeof key, "cmif.lists.%s", cmif_list_names[which]);
        rc = cmif_gguf_put_strs(out, key, strings, l->count, err);
        if (rc == CMIF_OK) {
            snprintf(key, sizeof key, "cmif.lists.%s.flags", cmif_list_names[which]);
            rc = cmif_gguf_put_array(out, key, CMIF_GGUF_U32, flags, l->count, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_write(out, path, NULL, NULL, err);
    }
done:
    free(strings);
    free(flags);
    cmif_gguf_out_free(out);
    return rc;
}

cmif_code cmif_lists_build(const cmif_lexicon *lexicon, const char *wordnet, const char *names, const char *dictionary,
                           const char *path, cmif_err *err)
{
    static const char *const files[] = {"census.tsv", "faker.tsv", "geonames.tsv", "iso.tsv"};

    builder   b  = {0};
    cmif_code rc = cmif_wordnet_read(wordnet, &b.net, err);
    if (rc == CMIF_OK) {
        rc = cmif_source_read(dictionary, &b.dictionary, err);
    }
    for (size_t i = 0; i < 4 && rc == CMIF_OK; i++) {
        rc = cmif_source_read_in(names, files[i], &b.names[i], err);
        if (rc == CMIF_OK) {
            rc = read_names(&b, &b.names[i], i == 0, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = find_kinds(&b, err);
    }
    if (rc == CMIF_OK) {
        rc = add_instances(&b, err);
    }
    for (int which = 0; which < WORD && rc == CMIF_OK; which++) {
        rc = finish(&b, (enum list) which, err);
    }
    if (rc == CMIF_OK) {
        rc = read_dictionary(&b, err);
    }
    if (rc == CMIF_OK) {
        rc = add_words(&b, lexicon, err);
    }
    if (rc == CMIF_OK) {
        rc = finish(&b, WORD, err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < b.lists[PLACE].count; i++) {
        entry *e = &b.lists[PLACE].at[i];
        e->flags |= flags_in(&b, WORD, e->text) ? PLACE_ORDINARY : 0;
    }
    if (rc == CMIF_OK) {
        rc = write_lists(&b, lexicon, path, err);
    }
    cmif_wordnet_free(&b.net);
    cmif_source_free(&b.dictionary);
    for (size_t i = 0; i < 4; i++) {
        cmif_source_free(&b.names[i]);
    }
    cmif_map_free(&b.lower);
    for (int which = 0; which < LISTS; which++) {
        free(b.lists[which].at);
        cmif_map_free(&b.index[which]);
    }
    while (b.chunks) {
        chunk *next = b.chunks->next;
        free(b.chunks);
        b.chunks = next;
    }
    free(b.kinds);
    return rc;
}
