#include "sanitizer/lists.h"

#include "base/bytes.h"
#include "sanitizer/keys.h"
#include "secret/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[CMIF_LIST_COUNT]     = {"given", "family", "place", "organisation", "person", "word"};
static const uint32_t    words_max[CMIF_LIST_COUNT] = {1, 1, 5, 6, 5, 1};

enum { FILE_SIZE_MAX = 1 << 28, STRING_SIZE_MAX = 512, FLAGS_MAX = (1 << 29) - 1, SHORT_MAX = 23, LOOK_AHEAD = 32 };

/* A string as it is compared: its bytes, zeros, and its size in the last byte; one that is too long for that has a hash
 * in at[0], its place in the file in at[1], and its size and LONG in at[2]. */
typedef struct string_key {
    uint64_t at[3];
} string_key;
static const uint64_t LONG = (uint64_t) 255 << 56;

/* A string of any list, what one begins with, or a word of keys.h, and all that is known of it. at[2] is 0: empty. */
typedef struct entry {
    string_key key;
    cmif_known known;
} entry;

struct cmif_lists {
    uint8_t       *bytes;
    size_t         size;
    cmif_gguf     *file;
    cmif_str      *strings[CMIF_LIST_COUNT];
    const uint8_t *flags[CMIF_LIST_COUNT];
    size_t         count[CMIF_LIST_COUNT];
    entry         *slots;
    size_t         slot_mask;
    uint8_t        hash[32];
};

static inline string_key key_of(cmif_str s)
{
    string_key key = {{0}};
    memcpy(key.at, s.data, s.size <= SHORT_MAX ? s.size : 0);
    key.at[2] |= (uint64_t) s.size << 56;
    if (s.size > SHORT_MAX) {
        for (size_t i = 0; i < s.size; i++) {
            key.at[0] = (key.at[0] ^ (uint8_t) s.data[i]) * 0x100000001b3u;
        }
        key.at[2] = s.size | LONG;
    }
    return key;
}

static inline size_t place_of(const cmif_lists *l, string_key key)
{
    uint64_t h = (key.at[0] ^ key.at[2] * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
    h          = ((h ^ h >> 32) + key.at[1]) * 0xc4ceb9fe1a85ec53u;
    return (h ^ h >> 32) & l->slot_mask;
}

/* The slot of a string, or the empty one where it would be, from a place on. */
static inline entry *slot_of(const cmif_lists *l, cmif_str s, string_key key, size_t place)
{
    for (;; place = (place + 1) & l->slot_mask) {
        entry *at = &l->slots[place];
        if (at->key.at[2] == 0 || (at->key.at[0] == key.at[0] && at->key.at[2] == key.at[2] &&
                                   (key.at[2] >= LONG ? memcmp(l->bytes + at->key.at[1], s.data, s.size) == 0
                                                      : at->key.at[1] == key.at[1]))) {
            return at;
        }
    }
}

static cmif_code read_file(cmif_lists *l, const char *path, cmif_err *err)
{
    cmif_code   rc = CMIF_OK;
    struct stat about;
    int         fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return cmif_fail(err, CMIF_E_IO,
                         "cannot open the lists of names '%s': %s; make them with 'cmif lexicon lists build'", path,
                         strerror(errno));
    }
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode) || about.st_size > FILE_SIZE_MAX) {
        rc = cmif_fail(err, CMIF_E_IO, "the lists of names '%s' are not a file of at most %d bytes", path,
                       FILE_SIZE_MAX);
        goto done;
    }
    l->size  = (size_t) about.st_size;
    l->bytes = malloc(l->size + 1);
    if (!l->bytes) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the %zu bytes of '%s'", l->size, path);
        goto done;
    }
    for (size_t at = 0; at < l->size;) {
        ssize_t n = read(fd, l->bytes + at, l->size - at);
        if (n <= 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot read the lists of names '%s': %s", path,
                           n < 0 ? strerror(errno) : "it became shorter");
            goto done;
        }
        at += (size_t) n;
    }
    if (!EVP_Digest(l->bytes, l->size, l->hash, NULL, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a hash");
    }
done:
    close(fd);
    return rc;
}

static cmif_code read_list(cmif_lists *l, int list, cmif_err *err)
{
    char     key[64];
    size_t   count  = 0;
    cmif_str before = {0};

    snprintf(key, sizeof key, "cmif.lists.%s", names[list]);
    cmif_code rc = cmif_gguf_get_strs(l->file, key, &l->strings[list], &l->count[list], err);
    if (rc != CMIF_OK) {
        return rc;
    }
    snprintf(key, sizeof key, "cmif.lists.%s.flags", names[list]);
    rc = cmif_gguf_get_array(l->file, key, CMIF_GGUF_U32, &l->flags[list], &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (count != l->count[list] || count > INT32_MAX / 8) {
        return cmif_fail(err, CMIF_E_FORMAT, "list '%s' has %zu flags for %zu strings", names[list], count,
                         l->count[list]);
    }
    for (size_t i = 0; i < count; i++) {
        cmif_str s      = l->strings[list][i];
        size_t   spaces = 0, shared = s.size < before.size ? s.size : before.size;
        int      order = shared ? memcmp(before.data, s.data, shared) : 0;
        uint32_t flags;
        memcpy(&flags, l->flags[list] + 4 * i, 4);
        for (size_t k = 0; k < s.size; k++) {
            bool space = s.data[k] == ' ';
            spaces += space;
            if (space && (k == 0 || k + 1 == s.size || s.data[k - 1] == ' ')) {
                spaces = SIZE_MAX / 2;
            }
        }
        if (s.size == 0 || s.size > STRING_SIZE_MAX || spaces >= words_max[list]) {
            return cmif_fail(err, CMIF_E_FORMAT, "string %zu of list '%s' is not 1 to %u words with one space between",
                             i, names[list], words_max[list]);
        }
        if (i > 0 && (order > 0 || (order == 0 && before.size >= s.size))) {
            return cmif_fail(err, CMIF_E_FORMAT, "string %zu of list '%s' does not come after the one before it", i,
                             names[list]);
        }
        if (flags > FLAGS_MAX) {
            return cmif_fail(err, CMIF_E_FORMAT, "flags %u of list '%s' are %u, at most %d can be", (unsigned) i,
                             names[list], flags, FLAGS_MAX);
        }
        before = s;
    }
    return CMIF_OK;
}

/* Add to what is known of a string, which lies in the file or is short. */
static void put(cmif_lists *l, cmif_str s, uint32_t bits, uint32_t key)
{
    string_key k  = key_of(s);
    entry     *at = slot_of(l, s, k, place_of(l, k));
    if (k.at[2] >= LONG) {
        k.at[1] = (uint64_t) ((const uint8_t *) s.data - l->bytes);
    }
    *at = (entry){k, {at->known.bits | bits, at->known.key | key}};
}

static cmif_code index_lists(cmif_lists *l, cmif_err *err)
{
    static const struct {
        uint32_t listed, begins;
    } bits[CMIF_LIST_COUNT] = {
        {GIVEN, 0}, {FAMILY, 0}, {PLACE, BEGINS_PLACE}, {ORGANISATION, BEGINS_ORG}, {PERSON, BEGINS_PERSON}, {WORD, 0}};
    size_t total = 0, slots = 1;

    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < l->count[list]; i++) {
            cmif_str s     = l->strings[list][i];
            size_t   parts = 1;
            for (size_t k = 0; k < s.size; k++) {
                parts += s.data[k] == ' ';
            }
            total += parts + (parts > 1); /* a second word */
        }
    }
    for (unsigned i = 0; i < cmif_keys_count; i++) {
        total += strlen(cmif_keys[i].words); /* more than there are words */
    }
    while (slots <= total + total / 4) {
        slots *= 2;
    }
    l->slots     = calloc(slots, sizeof *l->slots);
    l->slot_mask = slots - 1;
    if (!l->slots) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of %zu strings", total);
    }
    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < l->count[list]; i++) {
            uint32_t flags, more = bits[list].listed;
            cmif_str s = cmif_lists_at(l, (cmif_list) list, i, &flags);
            more |= list == CMIF_LIST_GIVEN && flags & 4 ? GIVEN_COMMON : 0;
            more |= list == CMIF_LIST_PLACE && flags & 1 ? COUNTRY : 0;
            if (list == CMIF_LIST_WORD) {
                more |= (flags & 0x1ff) << TOPIC_SHIFT;
                more |= (flags & 1 << 16 ? STOP : 0) | (flags & 1 << 17 ? CAPITAL : 0) | (flags & 1 << 18 ? RARE : 0);
            }
            put(l, s, more, 0);
            for (size_t k = 0, words = 0, second = 0; k <= s.size; k++) {
                if (k < s.size && s.data[k] != ' ') {
                    continue;
                }
                if (k < s.size) {
                    put(l, (cmif_str){s.data, k}, bits[list].begins, 0);
                }
                if (++words == 2) {
                    put(l, (cmif_str){s.data + second, k - second}, FOLLOWS, 0);
                }
                second = k + 1;
            }
        }
    }
    for (size_t i = 0; i < slots; i++) { /* a name rather than a rare word */
        uint32_t *known = &l->slots[i].known.bits;
        *known &= *known & RARE && *known & (GIVEN | PLACE) ? ~(uint32_t) WORD : ~0u;
    }
    for (unsigned i = 0; i < cmif_keys_count; i++) {
        const char *words = cmif_keys[i].words + strspn(cmif_keys[i].words, " ");
        while (*words) {
            size_t size = strcspn(words, " ");
            put(l, (cmif_str){words, size}, 0, cmif_keys[i].key);
            words += size + strspn(words + size, " ");
        }
    }
    return CMIF_OK;
}

cmif_code cmif_lists_open(const char *path, cmif_lists **out, cmif_err *err)
{
    uint32_t    version = 0;
    cmif_str    kind    = {0};
    cmif_lists *l       = calloc(1, sizeof *l);
    if (!l) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for lists of names");
    }
    cmif_code rc = read_file(l, path, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc = cmif_gguf_open_memory(l->bytes, l->size, &l->file, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_str(l->file, "general.architecture", &kind, err);
    }
    if (rc == CMIF_OK && !cmif_str_is(kind, "cmif-lists")) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "general.architecture is not 'cmif-lists'; make lists with 'cmif lexicon lists build'");
    }
    if (rc == CMIF_OK) {
        rc = cmif_gguf_get_uint(l->file, "cmif.lists.version", &version, err);
    }
    if (rc == CMIF_OK && version != 1) {
        rc = cmif_fail(err, CMIF_E_FORMAT,
                       "version %u, this program reads 1; make them again with 'cmif lexicon lists build'", version);
    }
    for (int list = 0; list < CMIF_LIST_COUNT && rc == CMIF_OK; list++) {
        rc = read_list(l, list, err);
    }
    if (rc == CMIF_OK && l->count[CMIF_LIST_WORD] == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "list 'word' is empty: no word would be an ordinary one");
    }
    if (rc == CMIF_OK) {
        rc = index_lists(l, err);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "lists of names '%s'", path);
        goto done;
    }
    *out = l;
    l    = NULL;
done:
    cmif_lists_free(l);
    return rc;
}

void cmif_lists_free(cmif_lists *l)
{
    if (l) {
        for (int list = 0; list < CMIF_LIST_COUNT; list++) {
            free(l->strings[list]);
        }
        free(l->slots);
        cmif_gguf_free(l->file);
        free(l->bytes);
        free(l);
    }
}

const uint8_t *cmif_lists_hash(const cmif_lists *l)
{
    return l->hash;
}

void cmif_lists_look(const cmif_lists *l, const cmif_str *words, size_t count, cmif_known *out)
{
    string_key keys[LOOK_AHEAD];
    size_t     places[LOOK_AHEAD];
    while (count > 0) { /* the memory of one is on its way while others are hashed */
        size_t n = count < LOOK_AHEAD ? count : LOOK_AHEAD;
        for (size_t i = 0; i < n; i++) {
            if (words[i].size) {
                keys[i]   = key_of(words[i]);
                places[i] = place_of(l, keys[i]);
                __builtin_prefetch(&l->slots[places[i]]);
            }
        }
        for (size_t i = 0; i < n; i++) {
            out[i] = words[i].size ? slot_of(l, words[i], keys[i], places[i])->known : (cmif_known){0};
        }
        words += n;
        out += n;
        count -= n;
    }
    cmif_wipe(keys, sizeof keys);
    cmif_wipe(places, sizeof places);
}

bool cmif_lists_find(const cmif_lists *l, cmif_list list, cmif_str word, uint32_t *flags)
{
    static const uint32_t listed[CMIF_LIST_COUNT] = {GIVEN, FAMILY, PLACE, ORGANISATION, PERSON, WORD | RARE};

    cmif_known known;
    cmif_lists_look(l, &word, 1, &known);
    size_t low = 0, high = known.bits & listed[list] ? l->count[list] : 0;
    while (low < high) {
        size_t   middle = low + (high - low) / 2;
        cmif_str s      = cmif_lists_at(l, list, middle, flags);
        int      order  = memcmp(s.data, word.data, s.size < word.size ? s.size : word.size);
        if (order == 0 && s.size == word.size) {
            return true;
        }
        bool below              = order < 0 || (order == 0 && s.size < word.size);
        *(below ? &low : &high) = middle + below;
    }
    *flags = 0;
    return false;
}

size_t cmif_lists_count(const cmif_lists *l, cmif_list list)
{
    return l->count[list];
}

cmif_str cmif_lists_at(const cmif_lists *l, cmif_list list, size_t index, uint32_t *flags)
{
    memcpy(flags, l->flags[list] + 4 * index, 4);
    return l->strings[list][index];
}
