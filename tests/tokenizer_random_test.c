/* Random strings, our tokenizer beside the engine's own: the same ids, for every vocabulary of the engine's source and
 * for every kind of pre-tokenizer. Only tests may hold both sides in one process.
 *
 *   tokenizer_random_test [strings per vocabulary] [part of a vocabulary's name]
 *
 * Differences allowed, and counted:
 *   markup      the library made a control, unknown or markup-like user-defined token of ordinary text; ours never
 * does. Strings not compared, and counted: throws      an encoding above U+10FFFF: the library throws through its C
 * interface (ours takes it as invalid bytes). */
#include "tokenizer/tokenizer.h"

#include "base/check.h"

#include <dirent.h>
#include <llama.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MODELS CMIF_ENGINE_SOURCE "/models"

enum { TEXT_ROOM = 1 << 20, IDS_ROOM = 4 << 20 };

/* ---- random ---- */

static uint64_t state;

static uint64_t next_random(void) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z          = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t) (next_random() % n);
}

typedef struct text {
    char  *at;
    size_t size;
} text;

static void put(text *t, const char *bytes, size_t size)
{
    if (t->size + size <= TEXT_ROOM) {
        memcpy(t->at + t->size, bytes, size);
        t->size += size;
    }
}

static void put_code_point(text *t, uint32_t c)
{
    char   utf8[4];
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; c >>= 6) {
        utf8[i] = (char) (0x80 | (c & 0x3f));
    }
    utf8[0] = (char) (size == 1 ? c : ((0xf00u >> size) | c));
    put(t, utf8, size);
}

static const char *const words[] = {
    "the",
    "patient",
    "don't",
    "I'LL",
    "we've",
    "it's",
    "o'clock",
    "'S",
    "'",
    "Hello",
    "WORLD",
    "McDonald",
    "naïve",
    "Äpfel",
    "x86_64",
    "3.14159",
    "1234567",
    "2024-01-02",
    "$9.99",
    "e-mail",
    "a@b.c",
    "http://x.y/z?q=1#f",
    "foo(bar);",
    "!!!???",
    "...",
    "\"quoted\"",
    "C++",
    "==",
    "->",
    "\\n",
    "/*",
    "IMGIMGABCZ",
    "<sentinel:12>",
    "½",
    "²",
    "ﬁ",
    "ǅ",
    "你好世界",
    "こんにちは",
    "カタカナ",
    "안녕하세요",
    "สวัสดี",
    "नमस्ते",
    "مرحبا",
    "שלום",
    "Привет",
    "Ελληνικά",
    "🚀",
    "👨‍👩‍👧",
    "é",
    "e\xcc\x81",
    "\xe2\x96\x81",
    "▁▁",
    "İ",
    "ẞ",
    "K",
    "．",
    "。",
    "、",
    "！",
    "“”",
    "—",
    "…",
    "۔",
    "،",
    "।",
    "\xef\xbb\xbf",
    "\xef\xbf\xbd",
    "ø",
    "÷",
};
static const char *const spaces[] = {
    " ",           " ",    " ",        "  ",       "   ",          "    ",         "\n",
    "\n\n",        "\r\n", "\t",       " \n",      "\n ",          "\t\t",         "\r",
    "\v",          "\f",   "\xc2\x85", "\xc2\xa0", "\xe3\x80\x80", "\xe2\x80\x89", "\xe2\x80\xa8",
    "\xe1\x9a\x80"};
static const char *const markup[] = {"<|im_end|>",
                                     "<|im_start|>",
                                     "</s>",
                                     "<s>",
                                     "<unk>",
                                     "[SEP]",
                                     "[CLS]",
                                     "[UNK]",
                                     "<|endoftext|>",
                                     "<|eot_id|>",
                                     "<|begin_of_text|>",
                                     "<bos>",
                                     "<eos>",
                                     "<turn|>",
                                     "<|user|>",
                                     "<0x0A>",
                                     "<|end|>",
                                     "<|USER_TOKEN|>",
                                     "[PAD151646]",
                                     "<think>",
                                     "<fim_prefix>",
                                     "<mask>",
                                     "<|",
                                     "|>",
                                     "<",
                                     ">"};
#define PICK(list) (list)[below(sizeof(list) / sizeof(list)[0])]

static const struct llama_vocab *vocab; /* of the library, now */

static void put_token_text(text *t)
{
    const char *piece = llama_vocab_get_text(vocab, (int32_t) below((uint32_t) llama_vocab_n_tokens(vocab)));
    put(t, piece, strlen(piece));
}

static void put_piece(text *t)
{
    char    piece[2048];
    int32_t id   = (int32_t) below((uint32_t) llama_vocab_n_tokens(vocab));
    int32_t size = llama_token_to_piece(vocab, id, piece, sizeof piece, 0, /* special= */ false);
    put(t, piece, size > 0 ? (size_t) size : 0);
}

static uint32_t some_code_point(void)
{
    static const uint32_t starts[] = {0x00,   0x80,   0x300,   0x370,   0x400,   0x590,   0x600,   0x900,   0xe00,
                                      0x1000, 0x10a0, 0x1100,  0x1e00,  0x2000,  0x2100,  0x2600,  0x3000,  0x3040,
                                      0x3100, 0x3400, 0x4e00,  0xa700,  0xac00,  0xd800,  0xe000,  0xf900,  0xfb00,
                                      0xfe00, 0xff00, 0x10400, 0x1d400, 0x1f300, 0x20000, 0x2ebf0, 0xe0000, 0x10ff00};
    switch (below(4)) {
    case 0:
        return below(0x110000);
    case 1:
        return below(0x10000);
    case 2:
        return below(0x80);
    default:
        return PICK(starts) + below(0x100);
    }
}

/* One string: a mixture, mostly of one kind. */
static void make(text *t)
{
    uint32_t kind = below(10), count = 1 + below(30);
    t->size = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t now = below(4) ? kind : below(10);
        switch (now) {
        case 0:
            put_code_point(t, some_code_point());
            break;
        case 1: {
            char byte = (char) next_random();
            put(t, &byte, 1);
            break;
        }
        case 2:
        case 3: {
            const char *s = PICK(spaces);
            put(t, s, strlen(s));
            break;
        }
        case 4: {
            const char *s = PICK(markup);
            put(t, s, strlen(s));
            break;
        }
        case 5:
            put_token_text(t);
            break;
        case 6:
            put_piece(t);
            break;
        case 7: {
            uint32_t repeat = 1 + below(8) * below(20);
            char     one    = (char) (0x20 + below(0x5f));
            while (repeat-- > 0) {
                put(t, &one, 1);
            }
            break;
        }
        case 8: {
            char digit = (char) ('0' + below(10));
            put(t, &digit, 1);
            break;
        }
        default: {
            const char *s = PICK(words);
            put(t, s, strlen(s));
            s = PICK(spaces);
            put(t, s, below(3) ? strlen(s) : 0);
            break;
        }
        }
    }
    if (t->size > 0 && below(8) == 0) { /* break something */
        t->at[below((uint32_t) t->size)] = (char) next_random();
    }
    if (t->size > 0 && below(8) == 0) {
        t->size -= below(4) % t->size;
    }
}

static bool makes_the_library_throw(const text *t)
{
    const uint8_t *at = (const uint8_t *) t->at;
    for (size_t i = 0; i + 3 < t->size; i++) {
        if ((at[i] & 0xf8) == 0xf0 && (at[i + 1] & 0xc0) == 0x80 && (at[i + 2] & 0xc0) == 0x80 &&
            (at[i + 3] & 0xc0) == 0x80 && (at[i] > 0xf4 || (at[i] == 0xf4 && at[i + 1] >= 0x90))) {
            return true;
        }
    }
    return false;
}

/* ---- comparing ---- */

typedef struct tally {
    size_t strings, differences, markup, throws;
} tally;

static int32_t *theirs; /* room for IDS_ROOM */

static bool is_forbidden(int32_t id)
{
    enum llama_token_attr attr = llama_vocab_get_attr(vocab, id);
    const char           *s    = llama_vocab_get_text(vocab, id);
    size_t                size = strlen(s);
    bool marked = size > 1 && ((s[0] == '<' && s[size - 1] == '>') || (s[0] == '[' && s[size - 1] == ']'));
    return (attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) ||
           ((attr & LLAMA_TOKEN_ATTR_USER_DEFINED) && marked);
}

static void show(const char *name, const char *what, const text *t, const cmif_ids *ours, int32_t count)
{
    static int shown;
    if (shown++ > 20) {
        return;
    }
    fprintf(stderr, "%s, %s: ", name, what);
    for (size_t i = 0; i < t->size && i < 300; i++) {
        fprintf(stderr, "%02x", (uint8_t) t->at[i]);
    }
    fprintf(stderr, "\n  ours:   ");
    for (size_t i = 0; i < ours->count && i < 60; i++) {
        fprintf(stderr, " %d", ours->at[i]);
    }
    fprintf(stderr, "\n  theirs: ");
    for (int32_t i = 0; i < count && i < 60; i++) {
        fprintf(stderr, " %d", theirs[i]);
    }
    fprintf(stderr, "\n");
}

static void compare(const char *name, cmif_tokenizer *tokenizer, const text *t, tally *counts)
{
    int32_t unknown = -1;
    counts->strings++;
    if (makes_the_library_throw(t) && llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_SPM) {
        counts->throws++;
    }
    for (int literal = 0; literal < 2; literal++) {
        cmif_ids       ours     = {0};
        cmif_released *released = NULL;
        CHECK(cmif_dp_release_identity(t->at, t->size, &released, NULL) == CMIF_OK);
        cmif_part part = {.text = literal ? NULL : released, .size = t->size, .literal = {t->at, t->size}};
        CHECK(cmif_tokenizer_encode(tokenizer, &part, 1, &ours, NULL) == CMIF_OK);
        if (!makes_the_library_throw(t) || llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_SPM) {
            int32_t count =
                llama_tokenize(vocab, t->at, (int32_t) t->size, theirs, IDS_ROOM, /* add_special= */ false, literal);
            bool equal = count >= 0 && (size_t) count == ours.count &&
                         (count == 0 || memcmp(theirs, ours.at, ours.count * sizeof *theirs) == 0);
            bool forbidden = false, made = false;
            unknown = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM ? 100 : -1;
            for (int32_t i = 0; i < count && !literal; i++) {
                forbidden = forbidden || (theirs[i] != unknown && is_forbidden(theirs[i]));
            }
            for (size_t i = 0; i < ours.count && !literal; i++) {
                made = made || (ours.at[i] != unknown && is_forbidden(ours.at[i]));
            }
            CHECK(!made); /* the promise: ordinary text makes no special token, whatever it says */
            if (!equal && forbidden) {
                counts->markup++;
            } else if (!equal) {
                counts->differences++;
                show(name, literal ? "literal" : "text", t, &ours, count);
            }
        }
        cmif_ids_free(&ours);
        cmif_released_free(released);
    }
}

/* Every token's text, with and without special ones, and every fact about the vocabulary that generation needs. */
static void compare_vocabulary(const char *name, const cmif_tokenizer *tokenizer)
{
    static char    ours[8192], their[8192];
    size_t         pieces = 0, stops = 0, longest = 0;
    const int32_t *stop;
    size_t         stop_count = cmif_tokenizer_stops(tokenizer, &stop);
    int32_t        count      = llama_vocab_n_tokens(vocab);
    CHECK((size_t) count == cmif_tokenizer_vocab(tokenizer));
    for (int32_t id = 0; id < count; id++) {
        for (int special = 0; special < 2; special++) {
            size_t  a    = cmif_tokenizer_decode(tokenizer, id, special, ours, sizeof ours);
            int32_t b    = llama_token_to_piece(vocab, id, their, sizeof their, 0, special);
            bool    same = b >= 0 && a == (size_t) b && memcmp(ours, their, a) == 0;
            if (!same && pieces < 5) {
                fprintf(stderr, "%s: token %d decodes to %zu bytes, the library's to %d\n", name, id, a, b);
            }
            pieces += !same;
            longest = a > longest ? a : longest;
        }
        bool ends = false;
        for (size_t i = 0; i < stop_count; i++) {
            ends = ends || stop[i] == id;
        }
        if (ends != llama_vocab_is_eog(vocab, id)) {
            fprintf(stderr, "%s: token %d: we say it %s, the library does not agree\n", name, id,
                    ends ? "ends" : "goes on");
            stops++;
        }
    }
    CHECK(pieces == 0 && stops == 0);
    CHECK(longest <= 1024);
    cmif_ids ids = {0};
    CHECK(cmif_tokenizer_put_start(tokenizer, &ids, NULL) == CMIF_OK &&
          cmif_tokenizer_put_end(tokenizer, &ids, NULL) == CMIF_OK);
    int32_t ends = llama_tokenize(vocab, "", 0, theirs, IDS_ROOM, /* add_special= */ true, /* parse_special= */ false);
    CHECK(ends >= 0 && (size_t) ends == ids.count &&
          (ends == 0 || memcmp(ids.at, theirs, ids.count * sizeof *theirs) == 0));
    cmif_ids_free(&ids);
}

/* The library's std::regex recurses for each character and overflows any usual stack: how long a run it is given. */
static void compare_one_letter(const char *name, cmif_tokenizer *tokenizer, size_t size, tally *counts, text *t)
{
    static const char letters[] = "a =.7\n";
    for (size_t i = 0; letters[i]; i++) {
        memset(t->at, letters[i], size);
        t->size = size;
        compare(name, tokenizer, t, counts);
    }
}

/* Each code point between letters, digits, spaces and itself. */
static void compare_all_code_points(const char *name, cmif_tokenizer *tokenizer, tally *counts, text *t)
{
    for (uint32_t c = 0; c < 0x110000; c += 16) {
        t->size = 0;
        for (uint32_t i = c; i < c + 16; i++) {
            put(t, "a", 1);
            put_code_point(t, i);
            put(t, "b ", 2);
            put_code_point(t, i);
            put_code_point(t, i);
            put(t, "1", 1);
            put_code_point(t, i);
            put(t, "\n", 1);
            put_code_point(t, i);
            put(t, "'s .", 4);
        }
        compare(name, tokenizer, t, counts);
    }
}

/* ---- vocabularies ---- */

static size_t      wanted = 500;
static const char *filter = "";
static tally       all;
static size_t      compared;

static void compare_file(const char *name, const char *path, size_t strings, bool check_vocabulary)
{
    if (!strstr(name, filter)) {
        return;
    }
    struct llama_model_params params = llama_model_default_params();
    cmif_gguf                *file   = NULL;
    cmif_tokenizer           *ours   = NULL;
    cmif_err                  err    = {0};
    tally                     counts = {0};
    text                      t      = {malloc(TEXT_ROOM), 0};
    params.vocab_only                = true;
    struct llama_model *model        = llama_model_load_from_file(path, params);
    cmif_code           rc           = cmif_gguf_open(path, &file, &err);
    rc                               = rc == CMIF_OK ? cmif_tokenizer_open(file, &ours, &err) : rc;
    if (rc == CMIF_E_UNSUPPORTED || (rc == CMIF_E_FORMAT && strstr(err.text, "GGUF version 2"))) {
        printf("  %-28s %s\n", name, err.text);
    } else {
        CHECK(rc == CMIF_OK && model);
        if (rc != CMIF_OK) {
            fprintf(stderr, "%s: %s\n", name, err.text);
        }
    }
    if (rc == CMIF_OK && model) {
        vocab = llama_model_get_vocab(model);
        if (check_vocabulary) {
            compare_vocabulary(name, ours);
        }
        for (size_t i = 0; i < strings; i++) {
            make(&t);
            compare(name, ours, &t, &counts);
        }
        compare_one_letter(name, ours, strings >= 100000 ? TEXT_ROOM : 10000, &counts, &t);
        if (strings >= 100000) {
            compare_all_code_points(name, ours, &counts, &t);
        }
        printf("  %-28s %7zu strings: %zu differences, %zu markup, %zu throws\n", name, counts.strings,
               counts.differences, counts.markup, counts.throws);
        fflush(stdout);
        CHECK(counts.differences == 0);
        all.strings += counts.strings;
        all.differences += counts.differences;
        all.markup += counts.markup;
        all.throws += counts.throws;
        compared++;
    }
    cmif_tokenizer_free(ours);
    cmif_gguf_free(file);
    llama_model_free(model);
    free(t.at);
}

static void ids_equal_the_library_for_every_vocabulary(void)
{
    DIR           *dir = opendir(MODELS);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        size_t size = strlen(entry->d_name);
        if (size < 16 || strcmp(entry->d_name + size - 5, ".gguf") != 0) {
            continue;
        }
        char path[512], name[256];
        snprintf(path, sizeof path, MODELS "/%s", entry->d_name);
        snprintf(name, sizeof name, "%.*s", (int) (size - 16), entry->d_name + 11); /* ggml-vocab-NAME.gguf */
        compare_file(name, path, wanted, /* check_vocabulary= */ true);
    }
    if (dir) {
        closedir(dir);
    }
}

/* A copy of a vocabulary file that names another pre-tokenizer. */
static bool write_with_pre(const char *from, const char *pre, const char *to)
{
    cmif_gguf     *file = NULL;
    cmif_gguf_out *out  = NULL;
    bool           done = cmif_gguf_open(from, &file, NULL) == CMIF_OK && cmif_gguf_out_new(&out, NULL) == CMIF_OK;
    for (size_t i = 0; done && i < cmif_gguf_value_count(file); i++) {
        done = cmif_gguf_put_value(out, cmif_gguf_value_at(file, i), NULL) == CMIF_OK;
    }
    done = done && cmif_gguf_put_str(out, "tokenizer.ggml.pre", (cmif_str){pre, strlen(pre)}, NULL) == CMIF_OK &&
           cmif_gguf_write(out, to, NULL, NULL, NULL) == CMIF_OK;
    cmif_gguf_out_free(out);
    cmif_gguf_free(file);
    return done;
}

static void ids_equal_the_library_for_every_pre_tokenizer(void)
{
    static const char *const pres[]   = {"default",
                                         "jina-v1-en",
                                         "smollm",
                                         "falcon",
                                         "dbrx",
                                         "chatglm-bpe",
                                         "glm4",
                                         "minicpm5",
                                         "jais-2",
                                         "stablelm2",
                                         "grok-2",
                                         "bailingmoe",
                                         "laguna",
                                         "qwen35",
                                         "seed-coder",
                                         "ufakzeka",
                                         "exaone-moe",
                                         "gpt-4o",
                                         "granite-embed-multi-97m",
                                         "tekken",
                                         "tiny_aya",
                                         "youtu",
                                         "kimi-k2",
                                         "deepseek-llm",
                                         "deepseek-coder",
                                         "deepseek-v3",
                                         "spark2_5",
                                         "afmoe",
                                         "bloom",
                                         "viking",
                                         "superbpe",
                                         "chameleon",
                                         "sarvam-moe"};
    char                     folder[] = "/tmp/cmif-tokenizer-XXXXXX", path[128], name[64];
    CHECK(mkdtemp(folder));
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        snprintf(name, sizeof name, "gpt-2 as %s", pres[i]);
        snprintf(path, sizeof path, "%s/%zu.gguf", folder, i);
        CHECK(write_with_pre(MODELS "/ggml-vocab-gpt-2.gguf", pres[i], path));
        compare_file(name, path, wanted < 100000 ? wanted : 99999, /* check_vocabulary= */ false);
        unlink(path);
    }
    rmdir(folder);
}

static void be_quiet(enum ggml_log_level level, const char *line, void *context)
{
    (void) level;
    (void) line;
    (void) context;
}

static void *test_main(void *result)
{
    theirs = malloc(IDS_ROOM * sizeof *theirs);
    RUN(ids_equal_the_library_for_every_vocabulary);
    RUN(ids_equal_the_library_for_every_pre_tokenizer);
    printf("%zu vocabularies, %zu strings, each as text and as literal: %zu differences, %zu markup, %zu throws\n",
           compared, all.strings, all.differences, all.markup, all.throws);
    *(int *) result = check_report();
    free(theirs);
    return NULL;
}

int main(int argc, char **argv)
{
    const char    *count = argc > 1 ? argv[1] : getenv("CMIF_TOKENIZER_STRINGS");
    pthread_attr_t attr;
    pthread_t      thread;
    int            result = 1;
    wanted                = count ? strtoul(count, NULL, 10) : wanted;
    filter                = argc > 2 ? argv[2] : filter;
    state                 = 20260101;
    llama_log_set(be_quiet, NULL);
    /* the library's std::regex recurses for every character of a run */
    if (pthread_attr_init(&attr) != 0 || pthread_attr_setstacksize(&attr, (size_t) 1 << 32) != 0 ||
        pthread_create(&thread, &attr, test_main, &result) != 0 || pthread_join(thread, NULL) != 0) {
        return check_skip("no thread with 4 GiB of stack, which the library needs");
    }
    return result;
}
