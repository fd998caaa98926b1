#include "sanitizer/lists.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[CMIF_LIST_COUNT]     = {"given", "family", "place", "organisation", "person", "word"};
static const uint32_t    words_max[CMIF_LIST_COUNT] = {1, 1, 5, 6, 5, 1};

enum { FILE_SIZE_MAX = 1 << 28, STRING_SIZE_MAX = 512, FLAGS_MAX = CMIF_LISTED_BEGINS - 1, NONE = -1 };

/* A string of any list, or what one begins with: all that is known of it in one place. */
typedef struct entry {
    cmif_str text;
    int32_t  known; /* index into known; NONE: one list alone has it, the one below */
    uint32_t flags;
    uint8_t  list;
} entry;

struct cmif_lists {
    uint8_t       *bytes;
    size_t         size;
    cmif_gguf     *file;
    cmif_str      *strings[CMIF_LIST_COUNT];
    const uint8_t *flags[CMIF_LIST_COUNT];
    size_t         count[CMIF_LIST_COUNT];
    entry         *entries;
    size_t         entry_count;
    uint32_t      *slots; /* entries, counted from 1; 0: empty */
    size_t         slot_mask;
    uint32_t (*known)[CMIF_LIST_COUNT]; /* of strings that are in several lists */
    size_t  known_count, known_capacity;
    uint8_t hash[32];
};

static uint64_t hash_of(cmif_str s)
{
    uint64_t h = s.size * 0x9e3779b97f4a7c15u;
    size_t   i = 0;
    for (; i + 8 <= s.size; i += 8) {
        uint64_t chunk;
        memcpy(&chunk, s.data + i, 8);
        h = (h ^ chunk) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    uint64_t tail = 0;
    for (; i < s.size; i++) {
        tail = tail << 8 | (uint8_t) s.data[i];
    }
    h = (h ^ tail) * 0xff51afd7ed558ccdu;
    return h ^ h >> 29;
}

/* The slot of a string, or the empty one where it would be. The one place that a word is searched in. */
static uint32_t *slot_of(const cmif_lists *l, cmif_str s)
{
    for (size_t i = hash_of(s) & l->slot_mask;; i = (i + 1) & l->slot_mask) {
        uint32_t    *slot = &l->slots[i];
        const entry *at   = &l->entries[*slot ? *slot - 1 : 0];
        if (*slot == 0 || (at->text.size == s.size && memcmp(at->text.data, s.data, s.size) == 0)) {
            return slot;
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

static cmif_code put(cmif_lists *l, cmif_str s, int list, uint32_t flags, cmif_err *err)
{
    uint32_t *slot = slot_of(l, s);
    if (*slot == 0) {
        l->entries[l->entry_count++] = (entry){.text = s, .known = NONE, .flags = flags, .list = (uint8_t) list};
        *slot                        = (uint32_t) l->entry_count;
        return CMIF_OK;
    }
    entry *at = &l->entries[*slot - 1];
    if (at->known == NONE && at->list == list) {
        at->flags |= flags;
        return CMIF_OK;
    }
    if (at->known == NONE) {
        if (l->known_count == l->known_capacity) {
            size_t capacity = l->known_capacity ? 2 * l->known_capacity : 1 << 14;
            void  *grown    = realloc(l->known, capacity * sizeof *l->known);
            if (!grown) {
                return cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of lists");
            }
            l->known          = grown;
            l->known_capacity = capacity;
        }
        memset(l->known[l->known_count], 0, sizeof *l->known);
        l->known[l->known_count][at->list] = at->flags;
        at->known                          = (int32_t) l->known_count++;
    }
    l->known[at->known][list] |= flags;
    return CMIF_OK;
}

static cmif_code index_lists(cmif_lists *l, cmif_err *err)
{
    size_t total = 0, slots = 64;
    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < l->count[list]; i++) {
            cmif_str s = l->strings[list][i];
            total++;
            for (size_t k = 0; k < s.size; k++) {
                total += s.data[k] == ' ';
            }
        }
    }
    while (slots < 2 * total) {
        slots *= 2;
    }
    l->slots     = calloc(slots, sizeof *l->slots);
    l->slot_mask = slots - 1;
    l->entries   = malloc((total + 1) * sizeof *l->entries);
    if (!l->slots || !l->entries) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of %zu strings", total);
    }
    cmif_code rc = CMIF_OK;
    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < l->count[list] && rc == CMIF_OK; i++) {
            cmif_str s = l->strings[list][i];
            uint32_t flags;
            memcpy(&flags, l->flags[list] + 4 * i, 4);
            rc = put(l, s, list, flags | CMIF_LISTED, err);
            for (size_t k = 0; k < s.size && rc == CMIF_OK; k++) {
                if (s.data[k] == ' ') {
                    rc = put(l, (cmif_str){s.data, k}, list, CMIF_LISTED_BEGINS, err);
                }
            }
        }
    }
    return rc;
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
        free(l->entries);
        free(l->known);
        cmif_gguf_free(l->file);
        free(l->bytes);
        free(l);
    }
}

const uint8_t *cmif_lists_hash(const cmif_lists *l)
{
    return l->hash;
}

bool cmif_lists_look(const cmif_lists *l, cmif_str word, uint32_t flags[static CMIF_LIST_COUNT])
{
    uint32_t found = word.size ? *slot_of(l, word) : 0;
    memset(flags, 0, CMIF_LIST_COUNT * sizeof *flags);
    if (!found) {
        return false;
    }
    const entry *at = &l->entries[found - 1];
    if (at->known == NONE) {
        flags[at->list] = at->flags;
    } else {
        memcpy(flags, l->known[at->known], sizeof *l->known);
    }
    return true;
}

bool cmif_lists_find(const cmif_lists *l, cmif_list list, cmif_str word, uint32_t *flags)
{
    uint32_t all[CMIF_LIST_COUNT];
    bool     found = cmif_lists_look(l, word, all) && all[list] & CMIF_LISTED;
    *flags         = found ? all[list] & FLAGS_MAX : 0;
    return found;
}

bool cmif_lists_begins(const cmif_lists *l, cmif_list list, cmif_str words)
{
    uint32_t all[CMIF_LIST_COUNT];
    return cmif_lists_look(l, words, all) && all[list] & CMIF_LISTED_BEGINS;
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
