/* A text with marked spans, for tests of the vault: "[person|Maria Lopez] lives in [place|Lyon]." */
#ifndef CMIF_SANITIZER_RESTORE_RIG_H
#define CMIF_SANITIZER_RESTORE_RIG_H

#include "sanitizer/vault.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RIG_SPANS = 128, RIG_TEXT = 8192 };

typedef struct rig_text {
    char       text[RIG_TEXT];
    size_t     size;
    cmif_scan  scan;
    cmif_spans spans;
    size_t     marked[RIG_SPANS]; /* the spans that were marked */
    size_t     marked_count;
    char       sent[RIG_SPANS][300]; /* their surrogates */
    cmif_secret out;                 /* the whole text with surrogates */
} rig_text;

static inline uint8_t rig_class(const char *name, size_t size, uint8_t *part)
{
    static const struct {
        const char *name;
        uint8_t     class, part;
    } all[] = {{"email", CMIF_SPAN_EMAIL, 0},     {"url", CMIF_SPAN_URL, 0},           {"host", CMIF_SPAN_HOST, 0},
               {"ip", CMIF_SPAN_IP, 0},           {"phone", CMIF_SPAN_PHONE, 0},       {"card", CMIF_SPAN_CARD, 0},
               {"iban", CMIF_SPAN_IBAN, 0},       {"account", CMIF_SPAN_ACCOUNT, 0},   {"id", CMIF_SPAN_ID, 0},
               {"secret", CMIF_SPAN_SECRET, 0},   {"crypto", CMIF_SPAN_CRYPTO, 0},     {"gps", CMIF_SPAN_GPS, 0},
               {"date", CMIF_SPAN_DATE, 0},       {"time", CMIF_SPAN_TIME, 0},         {"money", CMIF_SPAN_MONEY, 0},
               {"number", CMIF_SPAN_NUMBER, 0},   {"percent", CMIF_SPAN_PERCENT, 0},   {"address", CMIF_SPAN_ADDRESS, 0},
               {"postcode", CMIF_SPAN_POSTCODE, 0}, {"person", CMIF_SPAN_PERSON, CMIF_PART_FULL},
               {"given", CMIF_SPAN_PERSON, CMIF_PART_GIVEN}, {"family", CMIF_SPAN_PERSON, CMIF_PART_FAMILY},
               {"place", CMIF_SPAN_PLACE, 0},     {"org", CMIF_SPAN_ORGANISATION, 0},  {"unknown", CMIF_SPAN_UNKNOWN, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strlen(all[i].name) == size && memcmp(all[i].name, name, size) == 0) {
            *part = all[i].part;
            return all[i].class;
        }
    }
    CHECK(!"a class of the rig");
    return CMIF_SPAN_OTHER;
}

static inline void rig_wipe(rig_text *t)
{
    cmif_scan_wipe(&t->scan);
    cmif_secret_wipe(&t->spans.room);
    cmif_secret_wipe(&t->out);
    memset(t, 0, sizeof *t);
}

/* Scan, mark, see and put. */
static inline cmif_code rig_send(rig_text *t, cmif_vault *vault, const char *marked, cmif_err *err)
{
    size_t  from[RIG_SPANS], to[RIG_SPANS], n = 0;
    uint8_t class[RIG_SPANS], part[RIG_SPANS];
    memset(t, 0, sizeof *t);
    for (const char *p = marked; *p; p++) {
        if (*p == '[' && strchr(p, '|') && n < RIG_SPANS) {
            const char *bar = strchr(p, '|');
            class[n]        = rig_class(p + 1, (size_t) (bar - p) - 1, &part[n]);
            from[n]         = t->size;
            p               = bar;
        } else if (*p == ']') {
            to[n++] = t->size;
        } else {
            t->text[t->size++] = *p;
        }
    }
    cmif_code rc = cmif_scan_text(t->text, t->size, &t->scan, err);
    if (rc == CMIF_OK) {
        rc = cmif_secret_reserve(&t->spans.room, (t->scan.count + 1) * sizeof(cmif_span), err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_vault_see(vault, &t->scan, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    t->spans.at = (cmif_span *) (void *) t->spans.room.data;
    for (uint32_t i = 0, k = 0; i < t->scan.count;) {
        const cmif_token *a = &t->scan.tokens[i];
        cmif_span         s = {.from = a->from, .size = a->size, .first = i, .count = 1};
        if (k < n && a->from >= from[k]) {
            CHECK(a->from == from[k]);
            while (i + s.count < t->scan.count && t->scan.tokens[i + s.count].from < to[k]) {
                s.size += t->scan.tokens[i + s.count].size;
                s.count++;
            }
            CHECK(s.from + s.size == to[k]);
            s.class                        = class[k];
            s.part                         = part[k++];
            t->marked[t->marked_count++] = t->spans.count;
        }
        s.link                       = (uint32_t) t->spans.count;
        t->spans.at[t->spans.count++] = s;
        i += s.count;
    }
    for (size_t i = 0, k = 0; i < t->spans.count && rc == CMIF_OK; i++) {
        const cmif_span *s     = &t->spans.at[i];
        size_t           start = t->out.size;
        if (k < t->marked_count && t->marked[k] == i) {
            rc = cmif_vault_put(vault, &t->scan, &t->spans, i, &t->out, err);
            snprintf(t->sent[k++], sizeof *t->sent, "%.*s", (int) (t->out.size - start),
                     t->out.data ? (const char *) t->out.data + start : "");
        } else {
            rc = cmif_secret_append(&t->out, t->text + s->from, s->size, err);
        }
    }
    return rc;
}

/* A whole answer at once, or one that is split at `split`, or byte by byte (SIZE_MAX - 1). The caller wipes. */
static inline cmif_secret rig_restore(const cmif_vault *vault, bool json, const void *answer, size_t size, size_t split,
                                      cmif_restore_counts *counts)
{
    cmif_restore *r   = NULL;
    cmif_secret   out = {0};
    CHECK(cmif_restore_new(vault, json, &r, NULL) == CMIF_OK);
    if (split == SIZE_MAX - 1) {
        for (size_t i = 0; i < size; i++) {
            CHECK(cmif_restore_feed(r, (const char *) answer + i, 1, &out, NULL) == CMIF_OK);
        }
    } else {
        size_t first = split < size ? split : size;
        CHECK(cmif_restore_feed(r, answer, first, &out, NULL) == CMIF_OK);
        CHECK(cmif_restore_feed(r, (const char *) answer + first, size - first, &out, NULL) == CMIF_OK);
    }
    CHECK(cmif_restore_end(r, &out, counts, NULL) == CMIF_OK);
    cmif_restore_free(r);
    return out;
}

/* Small lists of made-up extent, opened from a file that is gone when this returns. */
static inline int rig_by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static inline cmif_lists *rig_lists(void)
{
    static const char *const words[6] = {
        "maria:1 anna:1 sofia:1 helga:1 petra:1 ingrid:1 birgit:1 ursula:1 greta:1 astrid:1 freya:1 sigrid:1 elke:1 heike:1 "
        "katja:1 svenja:1 ronja:1 dagmar:1 gudrun:1 hanne:1 tove:1 solveig:1 ragnhild:1 john:2 klaus:2 dieter:2 jurgen:2 "
        "lars:2 sven:2 olaf:2 henrik:2 anders:2 torsten:2 gunnar:2 rasmus:2 mikkel:2 soren:2 bjarne:2 leif:2 grace:1 mark:2",
        "lopez:0 smith:0 okafor:0 lindqvist:0 hagström:0 bergmann:0 vasquez:0 petrov:0 kowalski:0 nakamura:0 jensen:0 "
        "sorensen:0 halvorsen:0 dahlberg:0 engstrom:0 forsberg:0 gundersen:0 holmgren:0 isaksen:0 kjeldsen:0 lundgren:0 "
        "mathiesen:0 nordstrom:0 ostergaard:0 rasmussen:0 sandvik:0 thorvald:0 ullman:0 vestergaard:0 winther:0 yttergard:0 "
        "zetterlund:0 aagaard:0 brandvold:0 christoffersen:0 price:0",
        "lyon:2 paris:2 springfield:2 france:1 peru:1 chile:1 norway:1 kenya:1 bolivia:1 mongolia:1 bavaria:4 tuscany:4 "
        "patagonia:4 saxony:4 reading:10 tromso:2 antwerp:2 gdansk:2 valparaiso:2 cuzco:2 mombasa:2 uppsala:2 bergen:2 "
        "lausanne:2 salzburg:2 trondheim:2 windhoek:2 gaborone:2 ljubljana:2",
        "acme:0",
        "acme:0",
        "bank:65536 mark:65536 grace:0 price:0 reading:65536 the:65536 house:65536 street:65536 "
        "wrote:65536"};
    static const char *const names[6] = {"given", "family", "place", "organisation", "person", "word"};
    cmif_gguf_out           *out      = NULL;
    cmif_lists              *lists    = NULL;
    char                     path[]   = "/tmp/cmif-lists-XXXXXX";
    int                      fd       = mkstemp(path);
    CHECK(fd >= 0 && cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){"cmif-lists", 10}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "cmif.lists.version", 1, NULL) == CMIF_OK);
    for (size_t i = 0; i < 6; i++) {
        char     copy[2048], *word[128], key[64];
        cmif_str strs[128];
        uint32_t flags[128];
        size_t   n = 0;
        snprintf(copy, sizeof copy, "%s", words[i]);
        for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) {
            word[n++] = p;
        }
        qsort(word, n, sizeof *word, rig_by_bytes);
        for (size_t k = 0; k < n; k++) {
            char *colon = strchr(word[k], ':');
            flags[k]    = (uint32_t) strtoul(colon + 1, NULL, 10);
            strs[k]     = (cmif_str){word[k], (size_t) (colon - word[k])};
        }
        snprintf(key, sizeof key, "cmif.lists.%s", names[i]);
        CHECK(cmif_gguf_put_strs(out, key, strs, n, NULL) == CMIF_OK);
        snprintf(key, sizeof key, "cmif.lists.%s.flags", names[i]);
        CHECK(cmif_gguf_put_array(out, key, CMIF_GGUF_U32, flags, n, NULL) == CMIF_OK);
    }
    cmif_err err = {0};
    CHECK(cmif_gguf_write(out, path, NULL, NULL, &err) == CMIF_OK);
    cmif_gguf_out_free(out);
    if (cmif_lists_open(path, &lists, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(!"the lists of the rig open");
    }
    close(fd);
    unlink(path);
    return lists;
}

#endif
