/* entities_rig - small lists of names for tests and the fuzz target. */
#ifndef CMIF_SANITIZER_ENTITIES_RIG_H
#define CMIF_SANITIZER_ENTITIES_RIG_H

#include "sanitizer/lists.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIG_PASSES = 1 << 16, RIG_CAPITAL = 1 << 17 };

typedef struct rig_entry { const char *text; uint32_t flags; } rig_entry;

static int rig_compare(const void *a, const void *b) { return strcmp(((const rig_entry *) a)->text, ((const rig_entry *) b)->text); }

/* Words with spaces between, and commas between names of several words, all with the same flags. */
static size_t rig_split(const char *text, const char *separator, uint32_t flags, rig_entry *out)
{
    size_t count = 0;
    char  *copy  = strdup(text);
    for (char *at = strtok(copy, separator); at; at = strtok(NULL, separator)) {
        out[count++] = (rig_entry){strdup(at), flags};
    }
    free(copy);
    return count;
}

/* Write lists to path; order is as the format wants it. */
static void rig_write(const char *path)
{
    static const char *const names[] = {"given", "family", "place", "organisation", "person", "word"};
    static const struct { int list; uint32_t flags; const char *separator, *text; } parts[] = {
        {0, 1 | 4, " ", "maria grace rose"},
        {0, 2 | 4, " ", "john mark will tom"},
        {0, 1, " ", "wanjiru fátima fatima"},
        {1, 0, " ", "lopez smith black baker idrissi obrien"},
        {1, 1, " ", "garcía garcia müller muller"},
        {2, 1, ",", "spain,united kingdom,mexican"},
        {2, 2, ",", "london,new york,san josé,san jose,washington,leeds"},
        {2, 2 | 8, ",", "reading,nice"},
        {3, 0, ",", "red cross,united nations"},
        {4, 0, ",", "albert einstein,einstein"},
        {5, RIG_PASSES, " ", "the of and to in at from with for is was are am has have had he she it they you we my his her their our not no a i "
                             "that this by on as so if or but an be do will me him us them who what when where said also"},
        {5, RIG_CAPITAL, " ", "monday march may dear mr mrs ms dr"},
        {5, 0, " ", "grace rose mark black baker reading nice red cross new house street road hello call me table word words text number account password "
                    "card phone live lives lived called visited bank hospital children child weeks months years old yesterday today young "
                    "age visit met wrote people hi is secret morning thank thanks please money ate apple orange step page asked about pin passport sort code zip"},
        {5, 1, " ", "doctor cancer diabetes hospital"},
        {5, 256, " ", "mother husband"},
    };
    static rig_entry entries[1024];
    cmif_gguf_out   *out = NULL;
    bool             bad = cmif_gguf_out_new(&out, NULL) != CMIF_OK;
    bad |= cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-lists", 10}, NULL) != CMIF_OK;
    bad |= cmif_gguf_put_uint(out, "cmif.lists.version", 1, NULL) != CMIF_OK;
    for (int list = 0; list < 6; list++) {
        size_t count = 0, kept = 0;
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            count += parts[i].list == list ? rig_split(parts[i].text, parts[i].separator, parts[i].flags, entries + count) : 0;
        }
        qsort(entries, count, sizeof *entries, rig_compare);
        cmif_str strings[1024];
        uint32_t flags[1024];
        for (size_t i = 0; i < count; i++) {
            if (kept && cmif_str_is(strings[kept - 1], entries[i].text)) {
                flags[kept - 1] |= entries[i].flags;
                free((char *) entries[i].text);
                continue;
            }
            strings[kept] = (cmif_str){entries[i].text, strlen(entries[i].text)};
            flags[kept++] = entries[i].flags;
        }
        char key[64];
        snprintf(key, sizeof key, "cmif.lists.%s", names[list]);
        bad |= cmif_gguf_put_strs(out, key, strings, kept, NULL) != CMIF_OK;
        snprintf(key, sizeof key, "cmif.lists.%s.flags", names[list]);
        bad |= cmif_gguf_put_array(out, key, CMIF_GGUF_U32, flags, kept, NULL) != CMIF_OK;
        for (size_t i = 0; i < kept; i++) {
            free((char *) strings[i].data);
        }
    }
    bad |= cmif_gguf_write(out, path, NULL, NULL, NULL) != CMIF_OK;
    cmif_gguf_out_free(out);
    if (bad) {
        abort();
    }
}

/* The lists, opened. */
static cmif_lists *rig_lists(void)
{
    char        path[] = "/tmp/cmif-entities-XXXXXX";
    cmif_lists *lists  = NULL;
    int         fd     = mkstemp(path);
    if (fd < 0) {
        abort();
    }
    close(fd);
    rig_write(path);
    if (cmif_lists_open(path, &lists, NULL) != CMIF_OK) {
        abort();
    }
    unlink(path);
    return lists;
}

#endif
