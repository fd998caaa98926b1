#include "sanitizer/lists.h"

#include "base/check.h"
#include "sanitizer/entities_rig.h"
#include "sanitizer/keys.h"
#include "sanitizer/scan.h"

static char path[] = "/tmp/cmif-lists-XXXXXX";

static cmif_str str(const char *text)
{
    return (cmif_str){text, strlen(text)};
}

static cmif_known look(const cmif_lists *lists, const char *text)
{
    cmif_known known = {77, 77};
    cmif_str   word  = str(text);
    cmif_lists_look(lists, &word, 1, &known);
    return known;
}

static void what_is_listed_is_found_with_its_flags(void)
{
    cmif_lists *lists = rig_lists();
    uint32_t    flags = 77;
    CHECK(cmif_lists_find(lists, CMIF_LIST_GIVEN, str("maria"), &flags) && flags == 5);
    CHECK(cmif_lists_find(lists, CMIF_LIST_GIVEN, str("grace"), &flags) &&
          cmif_lists_find(lists, CMIF_LIST_WORD, str("grace"), &flags));
    CHECK(!cmif_lists_find(lists, CMIF_LIST_FAMILY, str("maria"), &flags) && flags == 0);
    CHECK(!cmif_lists_find(lists, CMIF_LIST_GIVEN, str(""), &flags) &&
          !cmif_lists_find(lists, CMIF_LIST_GIVEN, str("mari"), &flags));
    CHECK(look(lists, "new").bits == (WORD | BEGINS_PLACE) && look(lists, "new york").bits == PLACE);
    CHECK(look(lists, "doctor").bits == (WORD | 1 << TOPIC_SHIFT) && look(lists, "doctor").key & KEY_TITLE &&
          look(lists, "doctorr").key == 0);
    CHECK(!cmif_lists_find(lists, CMIF_LIST_PLACE, str("new"), &flags) &&
          cmif_lists_find(lists, CMIF_LIST_PLACE, str("new york"), &flags));
    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < cmif_lists_count(lists, (cmif_list) list); i++) {
            uint32_t expected;
            cmif_str s = cmif_lists_at(lists, (cmif_list) list, i, &expected);
            CHECK(cmif_lists_find(lists, (cmif_list) list, s, &flags) && flags == expected);
        }
    }
    cmif_lists_free(lists);
}

/* Lists with one list replaced by these strings and flags; NULL strings: the list is left out. */
static cmif_code open_with(const char *list, const char *const *strings, size_t count, uint32_t flag, size_t flag_count,
                           cmif_err *err)
{
    static const char *const names[] = {"given", "family", "place", "organisation", "person", "word"};
    cmif_gguf_out           *out     = NULL;
    cmif_lists              *lists   = NULL;
    cmif_str                 made[8], word  = str("word");
    uint32_t                 flags[8], none = 0;
    char                     key[64];
    bool                     good = cmif_gguf_out_new(&out, err) == CMIF_OK;
    good = good && cmif_gguf_put_str(out, "general.architecture", str("cmif-lists"), err) == CMIF_OK;
    good = good && cmif_gguf_put_uint(out, "cmif.lists.version", 1, err) == CMIF_OK;
    for (size_t i = 0; i < 6; i++) {
        bool this = strcmp(names[i], list) == 0;
        for (size_t k = 0; k < count; k++) {
            made[k]  = str(strings[k]);
            flags[k] = flag;
        }
        snprintf(key, sizeof key, "cmif.lists.%s", names[i]);
        if (this && !strings) {
            continue;
        }
        good = good && cmif_gguf_put_strs(out, key, this ? made : &word, this ? count : 1, err) == CMIF_OK;
        snprintf(key, sizeof key, "cmif.lists.%s.flags", names[i]);
        good = good && cmif_gguf_put_array(out, key, CMIF_GGUF_U32, this ? flags : &none, this ? flag_count : 1, err) ==
                           CMIF_OK;
    }
    good = good && cmif_gguf_write(out, path, NULL, NULL, err) == CMIF_OK;
    cmif_gguf_out_free(out);
    CHECK(good);
    cmif_code rc = cmif_lists_open(path, &lists, err);
    CHECK((rc == CMIF_OK) == (lists != NULL));
    cmif_lists_free(lists);
    return rc;
}

static void lists_that_break_a_rule_are_refused_by_name(void)
{
    static const char *const good[] = {"a", "b"}, *const unordered[] = {"b", "a"}, *const twice[] = {"a", "a"},
                             *const prefix[] = {"ab", "a"};
    static const char *const words[] = {"a b"}, *const spaces[] = {" a"}, *const gaps[] = {"a  b"},
                             *const many[] = {"a b c d e f"}, *const empty[] = {""};
    cmif_err err;
    CHECK(open_with("given", good, 2, 3, 2, &err) == CMIF_OK);
    CHECK(open_with("place", words, 1, 1, 1, &err) == CMIF_OK);
    CHECK(open_with("given", unordered, 2, 0, 2, &err) == CMIF_E_FORMAT &&
          strstr(err.text, "string 1 of list 'given'"));
    CHECK(open_with("given", twice, 2, 0, 2, &err) == CMIF_E_FORMAT && strstr(err.text, "string 1 of list 'given'"));
    CHECK(open_with("word", prefix, 2, 0, 2, &err) == CMIF_E_FORMAT && strstr(err.text, "string 1 of list 'word'"));
    CHECK(open_with("given", words, 1, 0, 1, &err) == CMIF_E_FORMAT && strstr(err.text, "1 to 1 words"));
    CHECK(open_with("place", spaces, 1, 0, 1, &err) == CMIF_E_FORMAT &&
          open_with("place", gaps, 1, 0, 1, &err) == CMIF_E_FORMAT);
    CHECK(open_with("place", many, 1, 0, 1, &err) == CMIF_E_FORMAT &&
          open_with("place", empty, 1, 0, 1, &err) == CMIF_E_FORMAT);
    CHECK(open_with("person", good, 2, 0, 1, &err) == CMIF_E_FORMAT && strstr(err.text, "1 flags for 2 strings"));
    CHECK(open_with("person", good, 2, 1u << 30, 2, &err) == CMIF_E_FORMAT);
    CHECK(open_with("word", good, 0, 0, 0, &err) == CMIF_E_FORMAT && strstr(err.text, "is empty"));
    CHECK(open_with("family", NULL, 0, 0, 0, &err) == CMIF_E_FORMAT && strstr(err.text, "family"));
}

static void no_lists_are_an_error_that_says_what_to_do(void)
{
    cmif_err    err;
    cmif_lists *lists = NULL;
    CHECK(cmif_lists_open("/nowhere/lists.gguf", &lists, &err) == CMIF_E_IO &&
          strstr(err.text, "cmif lexicon lists build") && !lists);
    CHECK(cmif_lists_open("/tmp", &lists, &err) == CMIF_E_IO && !lists);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite("GGUF", 1, 4, file) == 4 && fclose(file) == 0);
    CHECK(cmif_lists_open(path, &lists, &err) == CMIF_E_FORMAT && strstr(err.text, path) && !lists);
}

/* What the builder folds, the scan folds to the same: else a name would be in a list and never found. A few Greek and
 * Cyrillic names of letters that all look Latin are read as Latin, and are unknown words then. */
static void names_are_folded_as_the_scan_folds(void)
{
    cmif_lists *lists = NULL;
    cmif_err    err;
    size_t      wrong = 0, total = 0;
    if (cmif_lists_open(CMIF_BUILD_DIR "/tests/lists.gguf", &lists, &err) != CMIF_OK) {
        printf("       the real lists are not here: %s\n", err.text);
        return;
    }
    for (int list = 0; list < CMIF_LIST_COUNT; list++) {
        for (size_t i = 0; i < cmif_lists_count(lists, (cmif_list) list); i += 7) {
            uint32_t  flags;
            cmif_str  s    = cmif_lists_at(lists, (cmif_list) list, i, &flags);
            cmif_scan scan = {0};
            uint8_t   bare[1024];
            size_t    at = 0, bare_at = 0;
            bool      good = cmif_scan_text(s.data, s.size, &scan, NULL) == CMIF_OK, bare_good = true;
            for (size_t k = 0; k < scan.count && good; k++) {
                cmif_str fold = cmif_token_fold(&scan, &scan.tokens[k]);
                good          = at + fold.size <= s.size && memcmp(s.data + at, fold.data, fold.size) == 0;
                at += fold.size;
            }
            for (size_t k = 0; k < scan.count && bare_good; k++) { /* what has no accents is looked up without */
                size_t size = cmif_scan_bare(cmif_token_fold(&scan, &scan.tokens[k]), bare, sizeof bare);
                bare_good   = bare_at + size <= s.size && memcmp(s.data + bare_at, bare, size) == 0;
                bare_at += size;
            }
            wrong += !(good && at == s.size) && !(bare_good && bare_at == s.size);
            total++;
            cmif_scan_wipe(&scan);
        }
    }
    printf("       %zu of %zu differ\n", wrong, total);
    CHECK(wrong * 400 < total);
    cmif_lists_free(lists);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0) {
        return 1;
    }
    close(fd);
    RUN(what_is_listed_is_found_with_its_flags);
    RUN(lists_that_break_a_rule_are_refused_by_name);
    RUN(no_lists_are_an_error_that_says_what_to_do);
    RUN(names_are_folded_as_the_scan_folds);
    unlink(path);
    return check_report();
}
