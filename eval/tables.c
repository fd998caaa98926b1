#include "tables.h"

#include "task.h"

#include "base/bytes.h"
#include "cmif_child.h"
#include "cmif_folders.h"
#include "cmif_terminal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

const char *const cmif_rows_kinds[CMIF_EVAL_ROWS] = {"plain", "bayes", "context", "context, in domain"};

#define PLAIN (1u << CMIF_EVAL_PLAIN)
#define BAYES (1u << CMIF_EVAL_BAYES)
#define CONTEXT (1u << CMIF_EVAL_CONTEXT_OUT | 1u << CMIF_EVAL_CONTEXT_IN)
#define OWN "--valence-weight", "4"
#define BLOCKS "--mechanism", "general", "--valence-weight", "2", "--penalty", "1.5"

/* Published constants: research note on differential privacy, sections 1.1 to 1.3; ours: sanitizer study. Where a
 * baseline's paper and its released code differ, `about` says which of them this is. */
const cmif_arm cmif_arms[] = {
    {"control",
     {"--mechanism", "general", "--control"},
     .rows  = BAYES,
     .about = "every protected word is one mean row"},
    {"control-all",
     {"--mechanism", "general", "--protect-all", "--control"},
     .rows  = BAYES,
     .about = "every word is one mean row, function words and negations too: the zero of those that protect all"},
    {"santext",
     {"--mechanism", "santext"},
     .vectors = CMIF_VECTORS_GLOVE,
     .small   = true,
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN,
     .about   = "Yue et al. 2021: exponent -epsilon/2 times the distance, not aligned; paper and code agree"},
    {"santext+",
     {"--mechanism", "santext+"},
     .vectors = CMIF_VECTORS_GLOVE,
     .small   = true,
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN,
     .about   = "santext with w .9, p .3; as the paper has it, without the code's one word too many"},
    {"metric",
     {"--mechanism", "metric"},
     .vectors = CMIF_VECTORS_COUNTERFIT,
     .small   = true,
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN,
     .about   = "SANTEXT aligned: distances over the largest one, as Chen et al. 2023 compare it"},
    {"custext",
     {"--mechanism", "custext"},
     .vectors = CMIF_VECTORS_COUNTERFIT,
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN,
     .about   = "Chen et al. 2023, Algorithm 1, K 20, as published: a partition, scores scaled in a block"},
    {"custext+",
     {"--mechanism", "custext+"},
     .vectors = CMIF_VECTORS_COUNTERFIT,
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN | BAYES,
     .about   = "custext where function words pass (our list, as for all: NLTK's and negations)"},
    {"custext+code",
     {"--mechanism", "paper", "--noise", "gumbel"},
     .vectors  = CMIF_VECTORS_COUNTERFIT,
     .noise    = true,
     .epsilon  = 1,
     .in_doubt = true,
     .rows     = PLAIN,
     .about    = "custext+ by its released code's option 'aggressive': each word's own 20 neighbours, which guarantees "
                 "nothing"},
    {"paper",
     {"--mechanism", "paper"},
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN | BAYES,
     .about =
         "arXiv 2509.09091 as far as it is published: a word's own 20 neighbours, Laplace noise of 2 Delta/epsilon"},
    {"paper-half",
     {"--mechanism", "paper"},
     .noise   = true,
     .epsilon = 2,
     .rows    = PLAIN,
     .about   = "paper with Delta/epsilon, which VIOLATES the epsilon it is called by"},
    {"rnm",
     {"-p", "paper"},
     .noise   = true,
     .epsilon = 1,
     .blocks  = true,
     .rows    = PLAIN | BAYES,
     .about   = "ours: Report-Noisy-Max in a partition, Laplace, 2 Delta/epsilon, K 20"},
    {"subset",
     {"-p", "paper", "--mechanism", "subset"},
     .noise   = true,
     .epsilon = 1,
     .blocks  = true,
     .rows    = PLAIN | BAYES,
     .about   = "ours: subset selection, K 20"},
    {"krr",
     {"-p", "paper", "--mechanism", "krr"},
     .noise   = true,
     .epsilon = 1,
     .blocks  = true,
     .rows    = PLAIN | BAYES,
     .about   = "ours: k-ary randomized response, K 20"},
    {"full",
     {"--mechanism", "full"},
     .noise   = true,
     .epsilon = 1,
     .rows    = PLAIN | BAYES,
     .about   = "ours: three public classes, randomized response between them: epsilon between any two words"},
    {"full-in",
     {"--mechanism", "full", "--classes", "2"},
     .noise     = true,
     .epsilon   = 1,
     .in_domain = true,
     .in_doubt  = true,
     .rows      = PLAIN | BAYES,
     .about =
         "full with two classes: words commoner in positive training phrases of SST-2 than in negative ones, and the "
         "rest; in domain, by labels"},
    {"general-k5", {BLOCKS, "-k", "5"}, .blocks = true, .in_doubt = true, .rows = BAYES, .about = "ours, K 5"},
    {"general-k10", {BLOCKS, "-k", "10"}, .blocks = true, .in_doubt = true, .rows = BAYES, .about = "ours, K 10"},
    {"general-k20",
     {BLOCKS, "-k", "20"},
     .blocks = true,
     .rows   = PLAIN | BAYES,
     .about  = "ours: representatives, epsilon 0, K 20"},
    {"general-k20-all",
     {"--mechanism", "general", "-p", "paper", "--protect-all"},
     .blocks = true,
     .rows   = PLAIN | BAYES,
     .about  = "general-k20, function words and negations drawn, too"},
    {"general-k20-v0",
     {"--mechanism", "general", "--valence-weight", "0", "--penalty", "1.5", "-k", "20"},
     .blocks = true,
     .rows   = BAYES,
     .about  = "general-k20 without the axis of polarity, which favours sentiment"},
    {"general-k50", {BLOCKS, "-k", "50"}, .blocks = true, .in_doubt = true, .rows = BAYES, .about = "ours, K 50"},
    {"rnm-own",
     {"-p", "paper", OWN, "--penalty", "3"},
     .noise    = true,
     .epsilon  = 1,
     .blocks   = true,
     .own      = true,
     .in_doubt = true,
     .rows     = PLAIN | BAYES,
     .about    = "rnm, in blocks made for this classifier: polarity is what it says of a word alone"},
    {"general-k20-own",
     {"--mechanism", "general", OWN, "--penalty", "3", "-k", "20"},
     .blocks   = true,
     .own      = true,
     .in_doubt = true,
     .rows     = PLAIN | BAYES,
     .about    = "general-k20, in blocks made for this classifier"},
    {"general-k100-own",
     {"-p", "default", OWN, "--penalty", "1"},
     .blocks   = true,
     .own      = true,
     .in_doubt = true,
     .rows     = PLAIN | BAYES | CONTEXT,
     .about    = "general-k100, in blocks made for this classifier"},
    {"general-k200-own",
     {"-p", "strict", OWN, "--penalty", "0.5"},
     .blocks   = true,
     .own      = true,
     .in_doubt = true,
     .rows     = PLAIN | BAYES | CONTEXT,
     .about    = "general-k200, in blocks made for this classifier"},
    {"general-k100",
     {"-p", "default"},
     .blocks = true,
     .rows   = PLAIN | BAYES | CONTEXT,
     .about  = "ours, the default profile: K 100"},
    {"general-k200",
     {"-p", "strict"},
     .blocks = true,
     .rows   = PLAIN | BAYES | CONTEXT,
     .about  = "ours, the strict profile: K 200"},
};
const size_t cmif_arm_count = sizeof cmif_arms / sizeof *cmif_arms;

enum { SMALL_WORDS = 11000 }; /* about as many as a table with a weight for each pair of words takes */

/* ---- files ---- */

cmif_code cmif_tables_hash(const char *path, char hex[static 65], cmif_err *err)
{
    uint8_t     buffer[1 << 16], hash[32];
    FILE       *file = fopen(path, "rbe");
    EVP_MD_CTX *sha  = EVP_MD_CTX_new();
    cmif_code   rc   = CMIF_OK;
    bool        ok   = file && sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL);
    for (size_t n = 1; ok && n;) {
        n  = fread(buffer, 1, sizeof buffer, file);
        ok = !ferror(file) && EVP_DigestUpdate(sha, buffer, n);
    }
    if (!ok || !EVP_DigestFinal_ex(sha, hash, NULL)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
    } else {
        cmif_hex(hash, 32, hex);
    }
    if (file) {
        fclose(file);
    }
    EVP_MD_CTX_free(sha);
    return rc;
}

static void hash_text(const char *text, char hex[static 65])
{
    uint8_t hash[32] = {0};
    EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL);
    cmif_hex(hash, 32, hex);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static cmif_code path_in(char path[static PATH_MAX], const char *folder, const char *name, const char *end,
                         cmif_err *err)
{
    return snprintf(path, PATH_MAX, "%s/%s%s", folder, name, end) < PATH_MAX
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_IO, "the name of a file in '%.100s' is too long", folder);
}

/* Unpack source into path, which is whole or not there. */
static cmif_code unpack(const char *source, const char *path, cmif_err *err)
{
    char                       part[PATH_MAX];
    posix_spawn_file_actions_t files;
    pid_t                      pid;
    int                        status = -1;
    char *argv[] = {(char *) (uintptr_t) "xz", (char *) (uintptr_t) "-dc", (char *) (uintptr_t) "--",
                    (char *) (uintptr_t) source, NULL};
    if (snprintf(part, sizeof part, "%s.%d", path, (int) getpid()) >= (int) sizeof part) {
        return cmif_fail(err, CMIF_E_IO, "the cache folder's name is too long");
    }
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int error = posix_spawnp(&pid, "xz", &files, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    if (error) {
        return cmif_fail(err, CMIF_E_IO, "cannot start xz, which unpacks '%s': %s", source, strerror(error));
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0 || rename(part, path) != 0) {
        unlink(part);
        return cmif_fail(err, CMIF_E_IO, "cannot unpack '%s' into the cache", source);
    }
    return CMIF_OK;
}

cmif_code cmif_tables_data(cmif_tables *t, const char *name, char path[static PATH_MAX], cmif_err *err)
{
    char        packed[PATH_MAX], flat[192];
    struct stat info;
    cmif_code   rc = path_in(path, t->data, name, "", err);
    rc             = rc == CMIF_OK ? path_in(packed, t->data, name, ".xz", err) : rc;
    if (rc != CMIF_OK || access(path, R_OK) == 0) {
        return rc;
    }
    if (stat(packed, &info) != 0) {
        return cmif_fail(err, CMIF_E_IO, "neither '%s' nor '%s.xz' is in '%s': name the folder with --data", name, name,
                         t->data);
    }
    const char *base = strrchr(name, '/');
    snprintf(flat, sizeof flat, "%lld-%lld-%.100s", (long long) info.st_size, (long long) info.st_mtime,
             base ? base + 1 : name);
    rc = path_in(path, t->folder, flat, "", err);
    return rc != CMIF_OK || access(path, R_OK) == 0 ? rc : unpack(packed, path, err);
}

/* ---- opening ---- */

/* The first of the folders that has the sentences. */
static cmif_code find_data(const char *data, char out[static PATH_MAX], cmif_err *err)
{
    char        self[PATH_MAX], beside[PATH_MAX + 64], path[PATH_MAX + 80];
    const char *given[]       = {data ? data : getenv("CMIF_DATA"), "../shared/data", "shared/data", beside};
    ssize_t     size          = readlink("/proc/self/exe", self, sizeof self - 1);
    self[size > 0 ? size : 0] = '\0';
    for (int up = 0; up < 6 && strrchr(self, '/');
         up++) { /* from build/release/libexec/cmif/ to beside the source tree */
        *strrchr(self, '/') = '\0';
    }
    snprintf(beside, sizeof beside, "%s/shared/data", self);
    for (size_t i = 0; i < (given[0] ? 1 : sizeof given / sizeof *given); i++) {
        if (given[i] && snprintf(path, sizeof path, "%s/sst2/dev.tsv", given[i]) < (int) sizeof path &&
            access(path, R_OK) == 0) {
            return snprintf(out, PATH_MAX, "%s", given[i]) < PATH_MAX ? CMIF_OK
                                                                      : cmif_fail(err, CMIF_E_IO, "--data is too long");
        }
    }
    return given[0] ? cmif_fail(err, CMIF_E_IO,
                                "'%.100s' has no sst2/dev.tsv: name the folder of the data sets with --data", given[0])
                    : cmif_fail(err, CMIF_E_IO,
                                "the folder of the data sets was not found: name it with --data; it has sst2/dev.tsv");
}

cmif_code cmif_tables_open(const char *data, cmif_tables *t, cmif_err *err)
{
    *t           = (cmif_tables){0};
    cmif_code rc = find_data(data, t->data, err);
    rc           = rc == CMIF_OK ? cmif_cache_file("eval", true, t->folder, err) : rc;
    if (rc == CMIF_OK && mkdir(t->folder, 0700) != 0 && errno != EEXIST) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot make '%s': %s", t->folder, strerror(errno));
    }
    rc = rc == CMIF_OK ? cmif_cache_file("lexicon.gguf", false, t->lexicon[0], err) : rc;
    if (rc == CMIF_OK && access(t->lexicon[0], R_OK) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "channels are built from a lexicon, and there is none: run 'cmif setup' once");
    }
    return rc == CMIF_OK ? cmif_tables_hash(t->lexicon[0], t->hash[0], err) : rc;
}

/* ---- building ---- */

static cmif_code build(cmif_tables *t, char **argv, const char *what, cmif_err *err)
{
    char text[256];
    snprintf(text, sizeof text, "building %s", what);
    cmif_status(text);
    double    began = now();
    cmif_code rc    = cmif_child_run("cmif-build", argv, NULL, 0, err);
    cmif_status(NULL);
    t->seconds += now() - began;
    t->made++;
    if (rc != CMIF_OK && !err->text[0]) {
        rc = cmif_fail(err, CMIF_E_IO, "it could not be built; the reason is above");
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "%s", what);
    }
    return rc;
}

static cmif_code small_lexicon(cmif_tables *t, cmif_err *err)
{
    char name[64], number[16];
    if (t->lexicon[1][0]) {
        return CMIF_OK;
    }
    snprintf(name, sizeof name, "lexicon-%d-%.16s.gguf", SMALL_WORDS, t->hash[0]);
    snprintf(number, sizeof number, "%d", SMALL_WORDS);
    char      path[PATH_MAX];
    char     *argv[] = {NULL,
                        (char *) (uintptr_t) "lexicon",
                        (char *) (uintptr_t) "build",
                        (char *) (uintptr_t) "--words",
                        number,
                        (char *) (uintptr_t) "-o",
                        path,
                        NULL};
    cmif_code rc     = path_in(path, t->folder, name, "", err);
    if (rc == CMIF_OK && access(path, R_OK) != 0) {
        rc = build(t, argv, "the small lexicon", err);
    }
    rc = rc == CMIF_OK ? cmif_tables_hash(path, t->hash[1], err) : rc;
    if (rc == CMIF_OK) {
        memcpy(t->lexicon[1], path, sizeof path);
    }
    return rc;
}

/* The whole file of the classifier whose polarity is asked for. */
static cmif_code own_model(const cmif_tables *t, char path[static PATH_MAX], cmif_err *err)
{
    if (t->model[0]) {
        return cmif_cache_model(t->model, path, err);
    }
    return path_in(path, t->data, "../models/minilm-sst2/minilm-sst2-f16", ".gguf", err);
}

typedef struct word_seen {
    const char *text;
    size_t      size;
    uint32_t    label;
} word_seen;

static int by_text(const void *left, const void *right)
{
    const word_seen *a = left, *b = right;
    const int        order = memcmp(a->text, b->text, a->size < b->size ? a->size : b->size);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

static size_t next_word(const char **at)
{
    while (**at && !isalnum((unsigned char) **at)) {
        ++*at;
    }
    size_t size = 0;
    while (isalnum((unsigned char) (*at)[size]) || ((*at)[size] == '\'' && isalnum((unsigned char) (*at)[size + 1]))) {
        size++;
    }
    return size;
}

/* "word polarity" for each word of SST-2's training phrases: log of its share of the words of negative ones over that
 * of positive ones, one added to each count. By that formula a word that no phrase has is commoner in negative ones
 * (their words are fewer), and so are words outside of the lexicon: both go with those that are not below 0, as the
 * builder has it for what is not known. No phrase that is tested on is read. */
static cmif_code in_domain_polarity(cmif_tables *t, char path[static PATH_MAX], cmif_err *err)
{
    char       phrases[PATH_MAX], dev[PATH_MAX], part[PATH_MAX];
    cmif_task  task = {0}, tested = {0};
    word_seen *words = NULL;
    size_t     count = 0, room = 0, of[2] = {1, 1};
    FILE      *to = NULL;
    cmif_code  rc = path_in(path, t->folder, "polarity-sst2-2", ".txt", err);
    if (rc != CMIF_OK || access(path, R_OK) == 0) {
        return rc;
    }
    rc = cmif_tables_data(t, "sst2/glue_train_phrases.tsv", phrases, err);
    rc = rc == CMIF_OK ? cmif_tables_data(t, "sst2/dev.tsv", dev, err) : rc;
    rc = rc == CMIF_OK ? cmif_task_open(phrases, 0, 0, &task, err) : rc;
    rc = rc == CMIF_OK ? cmif_task_open(dev, 0, 0, &tested, err) : rc;
    if (rc == CMIF_OK) {
        cmif_task_drop(&task, &tested);
        room  = task.memory_size / 2; /* a word and what is behind it */
        words = malloc(room * sizeof *words);
        rc    = words ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for the words of %zu phrases", task.count);
    }
    for (size_t i = 0; rc == CMIF_OK && i < task.count; i++) {
        const char *at   = task.examples[i].text;
        size_t      size = next_word(&at);
        for (; size && count < room; at += size, size = next_word(&at)) {
            words[count++] = (word_seen){at, size, task.examples[i].label == 1};
            of[task.examples[i].label == 1]++;
        }
    }
    if (rc == CMIF_OK && (snprintf(part, sizeof part, "%s.%d", path, (int) getpid()) >= (int) sizeof part ||
                          !(to = fopen(part, "we")))) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write in '%.150s': %s", t->folder, strerror(errno));
    }
    if (rc == CMIF_OK) {
        qsort(words, count, sizeof *words, by_text);
    }
    for (size_t i = 0, next; rc == CMIF_OK && i < count; i = next) {
        size_t seen[2] = {1, 1};
        for (next = i; next < count && by_text(&words[next], &words[i]) == 0; next++) {
            seen[words[next].label]++;
        }
        fprintf(to, "%.*s %.6f\n", (int) words[i].size, words[i].text,
                log((double) seen[0] * (double) of[1] / ((double) seen[1] * (double) of[0])));
    }
    if (to && (fclose(to) != 0 || rc != CMIF_OK || rename(part, path) != 0)) {
        unlink(part);
        rc = rc != CMIF_OK ? rc : cmif_fail(err, CMIF_E_IO, "cannot write '%.150s': is the disk full?", path);
    }
    free(words);
    cmif_task_wipe(&task);
    cmif_task_wipe(&tested);
    return rc;
}

cmif_code cmif_tables_channel(cmif_tables *t, const cmif_arm *arm, const char *epsilon, uint64_t block_seed,
                              char path[static PATH_MAX], cmif_err *err)
{
    static const char *const files[] = {NULL, "vectors/counterfit_41k_100d_i8.txt", "glove/glove.6B.50d.5k.txt"};
    char                     vectors[PATH_MAX] = "", seed[24], asked[32], hash[65] = "", name[128], recipe[1024];
    char                     model[PATH_MAX] = "", digest[65] = "";
    const char              *list[28] = {NULL, "channel", "build"};
    size_t                   count = 3, used = 0;
    cmif_code                rc = arm->small ? small_lexicon(t, err) : CMIF_OK;

    for (size_t i = 0; i < sizeof arm->build / sizeof *arm->build && arm->build[i]; i++) {
        list[count++] = arm->build[i];
    }
    if (arm->epsilon) {
        if (arm->epsilon > 1) {
            snprintf(asked, sizeof asked, "%.6g", arm->epsilon * strtod(epsilon, NULL));
        } else {
            snprintf(asked, sizeof asked, "%s", epsilon);
        }
        list[count++] = "-e";
        list[count++] = asked;
    }
    if (arm->blocks) {
        snprintf(seed, sizeof seed, "%llu", (unsigned long long) block_seed);
        list[count++] = "--seed";
        list[count++] = seed;
    }
    if (rc == CMIF_OK && files[arm->vectors]) {
        rc = cmif_tables_data(t, files[arm->vectors], vectors, err);
        rc = rc == CMIF_OK ? cmif_tables_hash(vectors, hash, err) : rc;
    }
    if (rc == CMIF_OK && arm->own) {
        rc = own_model(t, model, err);
    } else if (rc == CMIF_OK && arm->in_domain) {
        rc = in_domain_polarity(t, model, err);
    }
    if (rc == CMIF_OK && *model) {
        rc = cmif_tables_hash(model, digest, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 3; i < count; i++) {
        used += (size_t) snprintf(recipe + used, sizeof recipe - used, "%s ", list[i]);
    }
    snprintf(recipe + used, sizeof recipe - used, "lexicon %s vectors %s%s%s", t->hash[arm->small], hash,
             *digest ? " polarity " : "", digest);
    hash_text(recipe, hash);
    snprintf(name, sizeof name, "%s-%.16s.cmifch", arm->name, hash);
    rc = path_in(path, t->folder, name, "", err);
    if (rc != CMIF_OK || access(path, R_OK) == 0) {
        return rc;
    }
    if (*model) {
        list[count++] = "--polarity";
        list[count++] = model;
    }
    if (*vectors) {
        list[count++] = "--vectors";
        list[count++] = vectors;
    }
    const char *end[] = {"-l", t->lexicon[arm->small], "-o", path, NULL};
    memcpy(list + count, end, sizeof end);
    snprintf(name, sizeof name, "%s%s%s", arm->name, arm->epsilon ? ", epsilon " : "", arm->epsilon ? epsilon : "");
    return build(t, (char **) (uintptr_t) list, name, err);
}

/* ---- language models ---- */

/* Without what is tested on, which five of SST-2's phrases are. */
static cmif_code put_texts(cmif_tables *t, const char *name, FILE *to, cmif_err *err)
{
    char      path[PATH_MAX], dev[PATH_MAX];
    cmif_task task = {0}, tested = {0};
    cmif_code rc = cmif_tables_data(t, name, path, err);
    rc           = rc == CMIF_OK ? cmif_task_open(path, 0, 0, &task, err) : rc;
    rc           = rc == CMIF_OK ? cmif_tables_data(t, "sst2/dev.tsv", dev, err) : rc;
    rc           = rc == CMIF_OK ? cmif_task_open(dev, 0, 0, &tested, err) : rc;
    if (rc == CMIF_OK) {
        cmif_task_drop(&task, &tested);
    }
    for (size_t i = 0; rc == CMIF_OK && i < task.count; i++) {
        const cmif_example *e = &task.examples[i];
        if (fprintf(to, "%s\n%s%s", e->text, e->second ? e->second : "", e->second ? "\n" : "") < 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot write the text of a language model: is the disk full?");
        }
    }
    cmif_task_wipe(&task);
    cmif_task_wipe(&tested);
    return rc;
}

cmif_code cmif_tables_lm(cmif_tables *t, bool in_domain, char path[static PATH_MAX], cmif_err *err)
{
    static const char *const texts[] = {"qnli/dev.tsv", "mrpc/train.tsv", "xsum/xsum_0shot.jsonl",
                                        "sst2/glue_train_phrases.tsv"};
    char                     name[64], text[PATH_MAX];
    FILE                    *to = NULL;
    snprintf(name, sizeof name, "lm-2-%s-%.16s", in_domain ? "in" : "out", t->hash[0]);
    cmif_code rc = path_in(path, t->folder, name, ".gguf", err);
    rc           = rc == CMIF_OK ? path_in(text, t->folder, name, ".txt", err) : rc;
    if (rc != CMIF_OK || access(path, R_OK) == 0) {
        return rc;
    }
    if (!(to = fopen(text, "we"))) {
        return cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", text, strerror(errno));
    }
    for (size_t i = 0; rc == CMIF_OK && i < (in_domain ? 4 : 3); i++) {
        rc = put_texts(t, texts[i], to, err);
    }
    if (fclose(to) != 0 && rc == CMIF_OK) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write '%s': is the disk full?", text);
    }
    char *argv[] = {NULL,
                    (char *) (uintptr_t) "lexicon",
                    (char *) (uintptr_t) "lm",
                    (char *) (uintptr_t) "build",
                    (char *) (uintptr_t) "-l",
                    t->lexicon[0],
                    (char *) (uintptr_t) "-o",
                    path,
                    text,
                    NULL};
    rc           = rc == CMIF_OK
                       ? build(t, argv, in_domain ? "the bigram model, in domain" : "the bigram model, out of domain", err)
                       : rc;
    unlink(text);
    return rc;
}
