#include "lexicon/wordnet.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *const pos_name[CMIF_POS_COUNT] = {"noun", "verb", "adj", "adv"};

enum {
    DATA       = 0,
    INDEX      = CMIF_POS_COUNT,
    EXCEPTIONS = 2 * CMIF_POS_COUNT,
    COUNTS     = 3 * CMIF_POS_COUNT,
    LEMMA_MAX  = 256
};

/* ---- fields of a line, with single spaces between them; what is not there makes the line bad ---- */

typedef struct fields {
    const char *at, *end;
    bool        bad;
} fields;

static cmif_str next_field(fields *f)
{
    const char *space = f->at < f->end ? memchr(f->at, ' ', (size_t) (f->end - f->at)) : NULL;
    const char *end   = space ? space : f->end;
    cmif_str    field = {f->at, (size_t) (end - f->at)};
    f->bad |= field.size == 0;
    f->at = space ? space + 1 : f->end;
    return field;
}

static uint32_t next_number(fields *f, unsigned base)
{
    cmif_str field = next_field(f);
    uint64_t value = 0;
    f->bad |= field.size > 9;
    for (size_t i = 0; i < field.size && !f->bad; i++) {
        char     c     = field.data[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned) (c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned) (c - 'a' + 10)
                                                : 99;
        f->bad |= digit >= base;
        value = value * base + digit;
    }
    f->bad |= value > UINT32_MAX;
    return f->bad ? 0 : (uint32_t) value;
}

static int pos_of(cmif_str field)
{
    char c = field.size == 1 ? field.data[0] : 0;
    return c == 'n'               ? CMIF_POS_NOUN
           : c == 'v'             ? CMIF_POS_VERB
           : c == 'a' || c == 's' ? CMIF_POS_ADJECTIVE
           : c == 'r'             ? CMIF_POS_ADVERB
                                  : -1;
}

static cmif_code bad_line(const cmif_lines *lines, const char *expected, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_FORMAT, "'%s' line %zu is not %s; is this WordNet 3.0, whole?", lines->source->path,
                     lines->number, expected);
}

static cmif_code no_memory(const cmif_lines *lines, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_MEMORY, "no memory for '%s'", lines->source->path);
}

static bool is_licence(cmif_str line)
{
    return line.size >= 2 && line.data[0] == ' ' && line.data[1] == ' ';
}

/* ---- data.*: offset file type words(hex) word id ... pointers [symbol offset pos fromto] ... | gloss ---- */

static cmif_code read_data(cmif_wordnet *net, int pos, cmif_err *err)
{
    cmif_lines lines = {.source = &net->files[DATA + pos]};
    size_t     begin = 0;

    for (; cmif_lines_next(&lines); begin = lines.at) {
        if (is_licence(lines.line)) {
            continue;
        }
        const char *bar = memchr(lines.line.data, '|', lines.line.size);
        if (!bar || !cmif_grow(&net->synsets, &net->synset_capacity, net->synset_count, sizeof *net->synsets)) {
            return bar ? no_memory(&lines, err) : bad_line(&lines, "a synset with a gloss", err);
        }
        const char *end    = lines.line.data + lines.line.size;
        cmif_synset synset = {.pos           = (uint8_t) pos,
                              .first_word    = (uint32_t) net->word_count,
                              .first_pointer = (uint32_t) net->pointer_count,
                              .gloss         = {bar + 1, (size_t) (end - bar - 1)}};
        while (synset.gloss.size && synset.gloss.data[0] == ' ') {
            synset.gloss.data++;
            synset.gloss.size--;
        }
        while (synset.gloss.size && synset.gloss.data[synset.gloss.size - 1] == ' ') {
            synset.gloss.size--;
        }
        fields f      = {.at = lines.line.data, .end = bar};
        synset.offset = next_number(&f, 10);
        next_number(&f, 10); /* the lexicographer's file */
        cmif_str type = next_field(&f);
        f.bad |= pos_of(type) != pos || synset.offset != begin;
        synset.satellite  = cmif_str_is(type, "s");
        synset.word_count = next_number(&f, 16);
        f.bad |= synset.word_count == 0;
        for (uint32_t i = 0; i < synset.word_count && !f.bad; i++) {
            cmif_str word = next_field(&f);
            next_field(&f);
            const char *marker = memchr(word.data, '(', word.size); /* beautiful(p), galore(ip) */
            if (marker) {
                word.size = (size_t) (marker - word.data);
            }
            if (!cmif_grow(&net->words, &net->word_capacity, net->word_count, sizeof *net->words)) {
                return no_memory(&lines, err);
            }
            net->words[net->word_count++] = word;
        }
        synset.pointer_count = next_number(&f, 10);
        for (uint32_t i = 0; i < synset.pointer_count && !f.bad; i++) {
            cmif_str symbol = next_field(&f);
            uint32_t offset = next_number(&f, 10);
            int      target = pos_of(next_field(&f));
            uint32_t words  = next_number(&f, 16);
            f.bad |= symbol.size == 0 || symbol.size > 2 || target < 0 || words > UINT16_MAX ||
                     words >> 8 > synset.word_count;
            if (!cmif_grow(&net->pointers, &net->pointer_capacity, net->pointer_count, sizeof *net->pointers)) {
                return no_memory(&lines, err);
            }
            /* offsets become synset numbers when all files are read; until then the target's file lies in the top bits
             */
            net->pointers[net->pointer_count++] =
                (cmif_pointer){.symbol = {f.bad ? 0 : symbol.data[0], symbol.size == 2 ? symbol.data[1] : 0},
                               .synset = offset | (uint32_t) target << 30,
                               .from   = (uint16_t) (words >> 8),
                               .to     = words & 255};
            f.bad |= offset >> 30 != 0;
        }
        if (f.bad) {
            return bad_line(&lines, "a synset whose offset is its place in the file, words, pointers, gloss", err);
        }
        net->synsets[net->synset_count++] = synset;
    }
    return CMIF_OK;
}

uint32_t cmif_wordnet_find(const cmif_wordnet *net, int pos, uint32_t offset)
{
    size_t low = net->first_synset[pos], high = net->first_synset[pos + 1];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (net->synsets[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < net->first_synset[pos + 1] && net->synsets[low].offset == offset ? (uint32_t) low : CMIF_MAP_NONE;
}

static cmif_code join_pointers(cmif_wordnet *net, cmif_err *err)
{
    for (size_t i = 0; i < net->synset_count; i++) {
        const cmif_synset *synset = &net->synsets[i];
        for (uint32_t j = 0; j < synset->pointer_count; j++) {
            cmif_pointer *pointer = &net->pointers[synset->first_pointer + j];
            uint32_t      offset  = pointer->synset & 0x3fffffff;
            pointer->synset       = cmif_wordnet_find(net, (int) (pointer->synset >> 30), offset);
            if (pointer->synset == CMIF_MAP_NONE || pointer->to > net->synsets[pointer->synset].word_count) {
                return cmif_fail(err, CMIF_E_FORMAT,
                                 "'%s': the synset at %08u points to %08u, where there is none or too few words",
                                 net->files[DATA + synset->pos].path, synset->offset, offset);
            }
        }
    }
    return CMIF_OK;
}

/* ---- index.*: lemma pos senses pointers [symbol] ... senses tagged offset ... ---- */

static cmif_code read_index(cmif_wordnet *net, int pos, cmif_err *err)
{
    cmif_lines lines = {.source = &net->files[INDEX + pos]};

    while (cmif_lines_next(&lines)) {
        if (is_licence(lines.line)) {
            continue;
        }
        size_t end = lines.line.size;
        while (end && lines.line.data[end - 1] == ' ') {
            end--;
        }
        fields     f     = {.at = lines.line.data, .end = lines.line.data + end};
        cmif_lemma lemma = {.text = next_field(&f), .first_sense = (uint32_t) net->sense_count};
        f.bad |= pos_of(next_field(&f)) != pos;
        lemma.sense_count = next_number(&f, 10);
        uint32_t symbols  = next_number(&f, 10);
        for (uint32_t i = 0; i < symbols && !f.bad; i++) {
            next_field(&f);
        }
        f.bad |= next_number(&f, 10) != lemma.sense_count || lemma.sense_count == 0;
        next_number(&f, 10);
        for (uint32_t i = 0; i < lemma.sense_count && !f.bad; i++) {
            uint32_t synset = cmif_wordnet_find(net, pos, next_number(&f, 10));
            f.bad |= synset == CMIF_MAP_NONE;
            if (!cmif_grow(&net->senses, &net->sense_capacity, net->sense_count, sizeof *net->senses)) {
                return no_memory(&lines, err);
            }
            net->senses[net->sense_count++] = (cmif_sense){.synset = synset};
        }
        if (f.bad || f.at != f.end) {
            return bad_line(&lines, "a lemma with the offsets of its synsets", err);
        }
        if (!cmif_grow(&net->lemmas, &net->lemma_capacity, net->lemma_count, sizeof *net->lemmas)) {
            return no_memory(&lines, err);
        }
        uint32_t id = cmif_map_put(&net->lemma_of[pos], lemma.text, (uint32_t) net->lemma_count);
        if (id == CMIF_MAP_NONE) {
            return no_memory(&lines, err);
        }
        if (id != net->lemma_count) {
            return bad_line(&lines, "a lemma that was not there before", err);
        }
        net->lemmas[net->lemma_count++] = lemma;
    }
    return CMIF_OK;
}

/* ---- *.exc: form lemma [lemma] ... ---- */

static cmif_code read_exceptions(cmif_wordnet *net, int pos, cmif_err *err)
{
    cmif_lines lines = {.source = &net->files[EXCEPTIONS + pos]};

    while (cmif_lines_next(&lines)) {
        fields   f    = {.at = lines.line.data, .end = lines.line.data + lines.line.size};
        cmif_str form = next_field(&f);
        do {
            cmif_exception exception = {.form = form, .lemma = next_field(&f), .next = CMIF_MAP_NONE};
            if (f.bad) {
                return bad_line(&lines, "a form and its lemmas", err);
            }
            if (!cmif_grow(&net->exceptions, &net->exception_capacity, net->exception_count, sizeof *net->exceptions)) {
                return no_memory(&lines, err);
            }
            uint32_t id = cmif_map_put(&net->exception_of[pos], form, (uint32_t) net->exception_count);
            if (id == CMIF_MAP_NONE ||
                (pos == CMIF_POS_VERB && cmif_map_put(&net->irregular, exception.lemma, 1) == CMIF_MAP_NONE)) {
                return no_memory(&lines, err);
            }
            if (id != net->exception_count) {
                exception.next           = net->exceptions[id].next;
                net->exceptions[id].next = (uint32_t) net->exception_count;
            }
            net->exceptions[net->exception_count++] = exception;
        } while (f.at != f.end);
    }
    return CMIF_OK;
}

/* ---- cntlist.rev: lemma%type:... sense count ---- */

static cmif_code read_counts(cmif_wordnet *net, cmif_err *err)
{
    cmif_lines lines = {.source = &net->files[COUNTS]};

    while (cmif_lines_next(&lines)) {
        fields      f       = {.at = lines.line.data, .end = lines.line.data + lines.line.size};
        cmif_str    key     = next_field(&f);
        uint32_t    number  = next_number(&f, 10);
        uint32_t    count   = next_number(&f, 10);
        const char *percent = memchr(key.data, '%', key.size);
        char        type    = percent && percent + 1 < f.end ? percent[1] : 0;
        if (f.bad || f.at != f.end || type < '1' || type > '5') {
            return bad_line(&lines, "a sense key, a sense number and a count", err);
        }
        int      pos = type == '5' ? CMIF_POS_ADJECTIVE : type - '1';
        uint32_t id  = cmif_map_get(&net->lemma_of[pos], (cmif_str){key.data, (size_t) (percent - key.data)});
        if (id != CMIF_MAP_NONE && number &&
            number <= net->lemmas[id].sense_count) { /* 1,056 senses of 3.0's list are older */
            net->senses[net->lemmas[id].first_sense + number - 1].count = count;
        }
    }
    return CMIF_OK;
}

uint32_t cmif_wordnet_lemma(const cmif_wordnet *net, uint32_t synset, uint32_t number)
{
    char               lower[LEMMA_MAX];
    const cmif_synset *of   = &net->synsets[synset];
    cmif_str           word = net->words[of->first_word + number];
    if (word.size > sizeof lower) {
        return CMIF_MAP_NONE;
    }
    for (size_t i = 0; i < word.size; i++) {
        lower[i] = (char) tolower((unsigned char) word.data[i]);
    }
    return cmif_map_get(&net->lemma_of[of->pos], (cmif_str){lower, word.size});
}

/* Every word of a synset is in the index: so an index that was cut off between two lines is seen. */
static cmif_code check_index(const cmif_wordnet *net, cmif_err *err)
{
    for (uint32_t i = 0; i < net->synset_count; i++) {
        for (uint32_t j = 0; j < net->synsets[i].word_count; j++) {
            if (cmif_wordnet_lemma(net, i, j) == CMIF_MAP_NONE) {
                return cmif_fail(err, CMIF_E_FORMAT,
                                 "'%s' lacks word %u of the synset at %08u; is this WordNet 3.0, whole?",
                                 net->files[INDEX + net->synsets[i].pos].path, j + 1, net->synsets[i].offset);
            }
        }
    }
    return CMIF_OK;
}

cmif_code cmif_wordnet_read(const char *folder, cmif_wordnet *out, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    char      name[32];

    *out = (cmif_wordnet){0};
    for (int kind = 0; kind < 3 && rc == CMIF_OK; kind++) {
        for (int pos = 0; pos < CMIF_POS_COUNT && rc == CMIF_OK; pos++) {
            strcpy(name, kind == 0 ? "data." : kind == 1 ? "index." : pos_name[pos]);
            strcat(name, kind == 2 ? ".exc" : pos_name[pos]);
            rc = cmif_source_read_in(folder, name, &out->files[kind * CMIF_POS_COUNT + pos], err);
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_source_read_in(folder, "cntlist.rev", &out->files[COUNTS], err);
    }
    for (int pos = 0; pos < CMIF_POS_COUNT && rc == CMIF_OK; pos++) {
        out->first_synset[pos]     = out->synset_count;
        rc                         = read_data(out, pos, err);
        out->first_synset[pos + 1] = out->synset_count;
    }
    if (rc == CMIF_OK) {
        rc = join_pointers(out, err);
    }
    for (int pos = 0; pos < CMIF_POS_COUNT && rc == CMIF_OK; pos++) {
        rc = read_index(out, pos, err);
        if (rc == CMIF_OK) {
            rc = read_exceptions(out, pos, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = check_index(out, err);
    }
    if (rc == CMIF_OK) {
        rc = read_counts(out, err);
    }
    if (rc == CMIF_OK && out->lemma_count == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "the WordNet in '%s' has no lemmas", folder);
    }
    return rc;
}

void cmif_wordnet_free(cmif_wordnet *net)
{
    for (size_t i = 0; i < sizeof net->files / sizeof *net->files; i++) {
        cmif_source_free(&net->files[i]);
    }
    free(net->synsets);
    free(net->words);
    free(net->pointers);
    free(net->lemmas);
    free(net->senses);
    free(net->exceptions);
    for (int pos = 0; pos < CMIF_POS_COUNT; pos++) {
        cmif_map_free(&net->lemma_of[pos]);
        cmif_map_free(&net->exception_of[pos]);
    }
    cmif_map_free(&net->irregular);
    *net = (cmif_wordnet){0};
}

/* ---- forms ---- */

typedef struct found {
    const cmif_wordnet *net;
    cmif_analysis      *analyses;
    size_t              count;
} found;

static void add(found *f, int pos, cmif_str lemma, int inflection)
{
    uint32_t id = cmif_map_get(&f->net->lemma_of[pos], lemma);
    if (id == CMIF_MAP_NONE) {
        return;
    }
    for (size_t i = 0; i < f->count; i++) {
        if (f->analyses[i].lemma == id && f->analyses[i].inflection == inflection) {
            return;
        }
    }
    if (f->count < CMIF_ANALYSES_MAX) {
        f->analyses[f->count++] = (cmif_analysis){id, (uint8_t) pos, (uint8_t) inflection};
    }
}

static bool ends(cmif_str word, const char *ending)
{
    size_t size = strlen(ending);
    return word.size > size && memcmp(word.data + word.size - size, ending, size) == 0;
}

static bool is_vowel(char c)
{
    return memchr("aeiouy", c, 6) != NULL;
}

/* Words are at most 64 bytes here: longer ones have no analysis. */
static cmif_str respelled(char room[72], cmif_str word, size_t less, const char *more)
{
    size_t size = word.size - less;
    memcpy(room, word.data, size);
    strcpy(room + size, more);
    return (cmif_str){room, size + strlen(more)};
}

/* The stem before an ending that begins with a vowel: as it is, with e, and without a doubled consonant. */
static void add_stems(found *f, int pos, cmif_str word, size_t ending, int inflection)
{
    char     room[72];
    cmif_str stem  = {word.data, word.size - ending};
    bool     vowel = false;
    for (size_t i = 0; i < stem.size; i++) {
        vowel |= is_vowel(stem.data[i]);
    }
    if (!vowel || stem.size < 2) { /* bed, king, thing */
        return;
    }
    add(f, pos, stem, inflection);
    cmif_str with_e = respelled(room, word, ending, "e");
    /* seed is no form of see */
    if (!(inflection == CMIF_CLASS_VERB_D && ends(with_e, "ee") &&
          cmif_map_get(&f->net->irregular, with_e) != CMIF_MAP_NONE)) {
        add(f, pos, with_e, inflection);
    }
    char last = stem.data[stem.size - 1];
    if (stem.size > 2 && last == stem.data[stem.size - 2] && !is_vowel(last)) {
        add(f, pos, (cmif_str){stem.data, stem.size - 1}, inflection);
    }
    if (last == 'i' && inflection != CMIF_CLASS_VERB_G) {
        add(f, pos, respelled(room, word, ending + 1, "y"), inflection);
    }
}

/* plural of a noun, or third person of a verb */
static void add_s(found *f, int pos, cmif_str word, int inflection)
{
    char room[72];
    if (!ends(word, "s") || ends(word, "ss") || word.size < 3) {
        return;
    }
    add(f, pos, (cmif_str){word.data, word.size - 1}, inflection);
    if (ends(word, "ies")) {
        add(f, pos, respelled(room, word, 3, "y"), inflection);
    }
    if (ends(word, "ses") || ends(word, "xes") || ends(word, "zes") || ends(word, "ches") || ends(word, "shes") ||
        ends(word, "oes")) {
        add(f, pos, (cmif_str){word.data, word.size - 2}, inflection);
    }
}

static void add_exceptions(found *f, int pos, cmif_str word)
{
    for (uint32_t i = cmif_map_get(&f->net->exception_of[pos], word); i != CMIF_MAP_NONE;
         i          = f->net->exceptions[i].next) {
        cmif_str lemma      = f->net->exceptions[i].lemma;
        int      inflection = CMIF_CLASS_NOUNS;
        if (pos == CMIF_POS_VERB) {
            inflection = ends(word, "ing") ? CMIF_CLASS_VERB_G
                         : ends(word, "s") ? CMIF_CLASS_VERB_S
                                           : CMIF_CLASS_VERB_D;
        } else if (pos != CMIF_POS_NOUN) {
            inflection = ends(word, "st") ? CMIF_INFLECTION_SUPERLATIVE : CMIF_CLASS_COMPARATIVE;
        }
        if (cmif_str_compare(lemma, word) != 0) { /* "after after" says only that there is no rule */
            add(f, pos, lemma, inflection);
        }
    }
}

size_t cmif_wordnet_analyse(const cmif_wordnet *net, cmif_str word, cmif_analysis analyses[CMIF_ANALYSES_MAX])
{
    static const uint8_t base[CMIF_POS_COUNT] = {CMIF_CLASS_NOUN, CMIF_CLASS_VERB, CMIF_CLASS_ADJECTIVE,
                                                 CMIF_CLASS_ADVERB};

    found f = {.net = net, .analyses = analyses};
    if (word.size == 0 || word.size > 64) {
        return 0;
    }
    for (int pos = 0; pos < CMIF_POS_COUNT; pos++) {
        add(&f, pos, word, base[pos]);
        add_exceptions(&f, pos, word);
    }
    add_s(&f, CMIF_POS_NOUN, word, CMIF_CLASS_NOUNS);
    if (ends(word, "men")) {
        char room[72];
        add(&f, CMIF_POS_NOUN, respelled(room, word, 2, "an"), CMIF_CLASS_NOUNS);
    }
    add_s(&f, CMIF_POS_VERB, word, CMIF_CLASS_VERB_S);
    if (ends(word, "ed")) {
        add_stems(&f, CMIF_POS_VERB, word, 2, CMIF_CLASS_VERB_D);
    } else if (ends(word, "ing")) {
        add_stems(&f, CMIF_POS_VERB, word, 3, CMIF_CLASS_VERB_G);
    } else if (ends(word, "er")) {
        add_stems(&f, CMIF_POS_ADJECTIVE, word, 2, CMIF_CLASS_COMPARATIVE);
    } else if (ends(word, "est")) {
        add_stems(&f, CMIF_POS_ADJECTIVE, word, 3, CMIF_INFLECTION_SUPERLATIVE);
    }
    return f.count;
}
