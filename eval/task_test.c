/* The texts of refused files hold the word "canary", which no message may say. */
#include "task.h"

#include "base/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA CMIF_SOURCE_DIR "/../shared/data"

static char path[64], json_path[64];

static cmif_code open_text(const char *file, const char *text, size_t size, size_t limit, uint64_t seed,
                           cmif_task *task, cmif_err *err)
{
    FILE *out = fopen(file, "w");
    CHECK(out && fwrite(text, 1, size, out) == size && fclose(out) == 0);
    return cmif_task_open(file, limit, seed, task, err);
}

static cmif_code open_tsv(const char *text, cmif_task *task, cmif_err *err)
{
    return open_text(path, text, strlen(text), 0, 0, task, err);
}

static bool is(const cmif_example *e, const char *text, const char *second, uint32_t label, uint32_t line)
{
    return strcmp(e->text, text) == 0 && (second ? e->second && strcmp(e->second, second) == 0 : !e->second) &&
           !e->reference && e->label == label && e->line == line;
}

static void sentences_and_pairs_with_and_without_a_header(void)
{
    static const struct {
        const char *text, *second;
        uint32_t    line;
    } files[] = {{"good film\t1\nbad film\t0\n", NULL, 1},
                 {"good film\t1\r\nbad film\t0", NULL, 1},
                 {"\xef\xbb\xbfsentence\tlabel\ngood film\t1\nbad film\t0\n", NULL, 2},
                 {"label\ttext\n1\tgood film\n0\tbad film\n", NULL, 2},
                 {"good film\tit is\t1\nbad film\tit is\t0\n", "it is", 1},
                 {"sentence1\tsentence2\tlabel\ngood film\tit is\t1\nbad film\tit is\t0\n", "it is", 2},
                 {"index\tquestion\tsentence\tlabel\n7\tgood film\tit is\t1\n8\tbad film\tit is\t0\n", "it is", 2}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        cmif_task task = {0};
        cmif_err  err  = {0};
        CHECK(open_tsv(files[i].text, &task, &err) == CMIF_OK);
        CHECK(task.count == 2 && task.label_count == 2);
        if (task.count == 2 && task.label_count == 2) {
            CHECK(is(&task.examples[0], "good film", files[i].second, 1, files[i].line));
            CHECK(is(&task.examples[1], "bad film", files[i].second, 0, files[i].line + 1));
            CHECK(strcmp(task.labels[0], "0") == 0 && strcmp(task.labels[1], "1") == 0);
        }
        cmif_task_wipe(&task);
        CHECK(task.examples == NULL && task.count == 0);
        cmif_task_wipe(&task);
    }
    cmif_task_wipe(NULL);
}

static void numbers_count_from_zero_and_names_go_by_their_bytes(void)
{
    cmif_task task = {0};
    CHECK(open_tsv("a\t3\nb\t1\n", &task, NULL) == CMIF_OK && task.label_count == 4);
    CHECK(task.examples[0].label == 3 && task.examples[1].label == 1 && strcmp(task.labels[2], "2") == 0);
    cmif_task_wipe(&task);
    CHECK(open_tsv("a\tnot_entailment\nb\tentailment\nc\tnot_entailment\n", &task, NULL) == CMIF_OK);
    CHECK(task.label_count == 2 && strcmp(task.labels[0], "entailment") == 0);
    CHECK(task.examples[0].label == 1 && task.examples[1].label == 0 && task.examples[2].label == 1);
    cmif_task_wipe(&task);
    CHECK(open_tsv("a\t10\nb\t9\nc\tx\nd\t01\n", &task, NULL) == CMIF_OK && task.label_count == 4);
    CHECK(strcmp(task.labels[0], "01") == 0 && strcmp(task.labels[3], "x") == 0 && task.examples[0].label == 1);
    cmif_task_wipe(&task);
}

static void summaries_come_without_what_the_article_was_asked_with(void)
{
    static const char file[] = "{\"article\": \"###\\nArticle: One. Tw\\u00f6.\\n\\nSummarize the above article in 1 "
                               "sentence.\\n\", \"n\": 1, "
                               "\"summary_gt\": \"It is one.\"}\n"
                               "{\"document\": \"Three.\", \"summary\": \"It is \\\"three\\\".\"}\n";
    cmif_task         task   = {0};
    CHECK(open_text(json_path, file, strlen(file), 0, 0, &task, NULL) == CMIF_OK);
    CHECK(task.count == 2 && task.label_count == 0);
    if (task.count == 2) {
        CHECK(strcmp(task.examples[0].text, "One. Tw\u00f6.") == 0 &&
              strcmp(task.examples[0].reference, "It is one.") == 0);
        CHECK(strcmp(task.examples[1].text, "Three.") == 0 &&
              strcmp(task.examples[1].reference, "It is \"three\".") == 0);
        CHECK(!task.examples[0].second && task.examples[1].line == 2);
    }
    cmif_task_wipe(&task);
}

static void a_line_that_is_not_like_the_others_is_refused_by_its_number(void)
{
#define FILE_OF(text) text, sizeof(text) - 1
    static const struct {
        const char *text;
        size_t      size;
        bool        json;
        cmif_code   code;
        const char *says;
    } wrong[] = {
        {FILE_OF(""), false, CMIF_E_RANGE, "holds no example"},
        {FILE_OF("sentence\tlabel\n"), false, CMIF_E_RANGE, "holds no example"},
        {FILE_OF("canary\n"), false, CMIF_E_FORMAT, "line 1 must be sentence TAB label"},
        {FILE_OF("canary\tb\tc\td\te\n"), false, CMIF_E_FORMAT, "line 1 must be sentence TAB label"},
        {FILE_OF("a\t1\ncanary\tb\t1\n"), false, CMIF_E_FORMAT, "line 2 has more or fewer columns than the first"},
        {FILE_OF("a\t1\ncanary\n"), false, CMIF_E_FORMAT, "line 2 has more or fewer columns"},
        {FILE_OF("a\t1\n\ncanary\t1\n"), false, CMIF_E_FORMAT, "line 2 is empty"},
        {FILE_OF("a\t1\n \t \n"), false, CMIF_E_FORMAT, "line 2 is empty"},
        {FILE_OF("a\t1\n \t1\n"), false, CMIF_E_FORMAT, "line 2 has a text of nothing but blanks"},
        {FILE_OF("a\t1\ncanary\t\n"), false, CMIF_E_FORMAT, "line 2 has no label"},
        {FILE_OF("1\tcanary says much\n"), false, CMIF_E_FORMAT, "line 1 has no label: one word of at most 64 bytes"},
        {FILE_OF("a\tcanary4567890123456789012345678901234567890123456789012345678901234\n"), false, CMIF_E_FORMAT,
         "line 1 has no label"},
        {FILE_OF("a\t1\ncan\xff"
                 "ary\t1\n"),
         false, CMIF_E_FORMAT, "line 2 is not UTF-8"},
        {FILE_OF("a\t1\ncan\0ary\t1\n"), false, CMIF_E_FORMAT, "line 2 is not UTF-8"},
        {FILE_OF("\xc0\x80\t1\n"), false, CMIF_E_FORMAT, "line 1 is not UTF-8"},
        {FILE_OF("\xed\xa0\x80\t1\n"), false, CMIF_E_FORMAT, "line 1 is not UTF-8"},
        {FILE_OF("\xf5\x80\x80\x80\t1\n"), false, CMIF_E_FORMAT, "line 1 is not UTF-8"},
        {FILE_OF("\xe2\x82"), false, CMIF_E_FORMAT, "line 1 is not UTF-8"},
        {FILE_OF("canary"), true, CMIF_E_FORMAT, "line 1 is not one JSON object"},
        {FILE_OF("{\"article\": \"canary\"} x"), true, CMIF_E_FORMAT, "line 1 is not one JSON object"},
        {FILE_OF("{\"article\": \"canary\"}"), true, CMIF_E_FORMAT, "line 1 must have the texts"},
        {FILE_OF("{\"article\": \"canary\", \"summary\": 5}"), true, CMIF_E_FORMAT, "line 1 must have the texts"},
        {FILE_OF("{\"article\": \"canary\", \"summary\": \" \"}"), true, CMIF_E_FORMAT, "nothing but blanks"},
        {FILE_OF("{\"article\": \"canary\", \"article\": \"b\", \"summary\": \"c\"}"), true, CMIF_E_FORMAT,
         "not one JSON object"},
        {FILE_OF("[\"canary\"]"), true, CMIF_E_FORMAT, "line 1 must have the texts"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cmif_task task = {.count = 77};
        cmif_err  err  = {0};
        cmif_code code = open_text(wrong[i].json ? json_path : path, wrong[i].text, wrong[i].size, 0, 0, &task, &err);
        bool      refused = code == wrong[i].code && strstr(err.text, wrong[i].says) != NULL && task.count == 77;
        if (!refused) {
            fprintf(stderr, "%zu: expected: %s\nfound: %s\n", i, wrong[i].says, code == CMIF_OK ? "a task" : err.text);
        }
        CHECK(refused);
        CHECK(strstr(err.text, "canary") == NULL && strstr(err.text, wrong[i].json ? json_path : path) != NULL);
    }
    cmif_task task;
    cmif_err  err = {0};
    CHECK(cmif_task_open("/nowhere/a.tsv", 0, 0, &task, &err) == CMIF_E_IO);
    CHECK(strstr(err.text, "cannot open '/nowhere/a.tsv': No such file") != NULL);
    CHECK(cmif_task_open("/tmp", 0, 0, &task, &err) == CMIF_E_RANGE); /* a folder */
}

/* What is just too large is refused, and what is just not is not. */
static void limits_hold(void)
{
    char  *text = malloc(CMIF_TASK_TEXT_SIZE + 16);
    size_t size = CMIF_TASK_TEXT_SIZE;
    memset(text, 'x', size);
    memcpy(text + size, "\t1\n", 3);
    cmif_task task = {0};
    cmif_err  err  = {0};
    CHECK(open_text(path, text, size + 3, 0, 0, &task, &err) == CMIF_OK);
    cmif_task_wipe(&task);
    memcpy(text + size, "x\t1\n", 4);
    CHECK(open_text(path, text, size + 4, 0, 0, &task, &err) == CMIF_E_FORMAT && strstr(err.text, "more than a MiB"));

    size = 0;
    for (int i = 0; i < CMIF_TASK_LABELS; i++) {
        size += (size_t) sprintf(text + size, "a\tname%d\n", i);
    }
    CHECK(open_text(path, text, size, 0, 0, &task, &err) == CMIF_OK && task.label_count == CMIF_TASK_LABELS);
    cmif_task_wipe(&task);
    size += (size_t) sprintf(text + size, "a\tanother\n");
    CHECK(open_text(path, text, size, 0, 0, &task, &err) == CMIF_E_FORMAT &&
          strstr(err.text, "line 257 has one label more"));
    CHECK(open_tsv("a\t255\n", &task, &err) == CMIF_OK && task.label_count == 256);
    cmif_task_wipe(&task);
    CHECK(open_tsv("a\t256\n", &task, &err) == CMIF_OK && task.label_count == 1); /* too large a number: a name */
    cmif_task_wipe(&task);
    free(text);
}

/* The same seed is the same choice, in the order of the file; another is another; and every example is as likely. */
static void a_sample_is_uniform_and_repeats(void)
{
    char   text[400];
    size_t size = 0, times[40] = {0}, same = 0;
    for (int i = 0; i < 40; i++) {
        size += (size_t) sprintf(text + size, "s%02d\t%d\n", i, i % 2);
    }
    for (uint64_t seed = 0; seed < 4000; seed++) {
        cmif_task task = {0}, again = {0};
        CHECK(open_text(path, text, size, 10, seed, &task, NULL) == CMIF_OK && task.count == 10 &&
              task.label_count == 2);
        CHECK(cmif_task_open(path, 10, seed, &again, NULL) == CMIF_OK && again.count == 10);
        for (size_t i = 0; i < task.count; i++) {
            CHECK(i == 0 || task.examples[i].line > task.examples[i - 1].line);
            CHECK(again.examples[i].line == task.examples[i].line);
            times[task.examples[i].line - 1]++;
        }
        cmif_task_wipe(&again);
        CHECK(cmif_task_open(path, 10, seed + 1, &again, NULL) == CMIF_OK);
        for (size_t i = 0; i < again.count; i++) {
            same += again.examples[i].line == task.examples[i].line;
        }
        cmif_task_wipe(&again);
        cmif_task_wipe(&task);
    }
    for (size_t i = 0; i < 40; i++) {
        CHECK(times[i] > 850 && times[i] < 1150); /* 1000 expected, deviation 27 */
    }
    CHECK(same < 20000); /* of 40000 places */
    cmif_task task = {0};
    CHECK(cmif_task_open(path, 41, 0, &task, NULL) == CMIF_OK && task.count == 40);
    cmif_task_wipe(&task);
}

/* The data sets that are evaluated on have as many examples and labels as their PROVENANCE.md says. */
/* However it is cased and spaced. */
static void what_is_in_the_other_is_dropped(void)
{
    cmif_task task = {0}, other = {0};
    CHECK(open_tsv("A fine film!\t1\nA fine fil m 2\t0\nfine\t1\n\xc3\xa9t\xc3\xa9\t0\n...\t1\n", &task, NULL) ==
          CMIF_OK);
    CHECK(open_tsv("a  FINE film\t0\n\xc3\xa9t\xc3\xa9 .\t1\nfin\t1\n", &other, NULL) == CMIF_OK);
    CHECK(task.count == 5 && other.count == 3);
    CHECK(cmif_task_drop(&task, &other) == 2 && task.count == 3);
    CHECK(!strcmp(task.examples[0].text, "A fine fil m 2") && !strcmp(task.examples[1].text, "fine") &&
          task.examples[1].label == 1);
    cmif_task_wipe(&task);
    cmif_task_wipe(&other);
}

static void the_data_sets_are_whole(void)
{
    static const struct {
        const char *name, *as;
        size_t      count, ones; /* examples with label number 1 */
        bool        pairs;
    } sets[] = {{"sst2/dev.tsv", "tsv", 872, 444, false},
                {"sst2/train.tsv", "tsv", 6920, 3610, false},
                {"sst2/glue_train_phrases.tsv.xz", "tsv", 67339, 0, false},
                {"subjectivity/subjectivity_filtered.tsv.xz", "tsv", 9181, 0, false},
                {"mrpc/train.tsv.xz", "tsv", 3668, 2474, true},
                {"qnli/dev.tsv.xz", "tsv", 5463, 2761, true},
                {"xsum/xsum_0shot.jsonl.xz", "jsonl", 1000, 0, false}};
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char      command[400];
        bool      json = strcmp(sets[i].as, "jsonl") == 0;
        cmif_task task = {0};
        cmif_err  err  = {0};
        snprintf(command, sizeof command, "xz -dcf '%s/%s' > '%s'", DATA, sets[i].name, json ? json_path : path);
        CHECK(system(command) == 0);
        CHECK(cmif_task_open(json ? json_path : path, 0, 0, &task, &err) == CMIF_OK);
        size_t ones = 0, seconds = 0, references = 0;
        for (size_t k = 0; k < task.count; k++) {
            ones += task.examples[k].label == 1;
            seconds += task.examples[k].second != NULL;
            references += task.examples[k].reference != NULL;
        }
        if (task.count != sets[i].count || (sets[i].ones && ones != sets[i].ones)) {
            fprintf(stderr, "%s: %zu examples, %zu of label 1 %s\n", sets[i].name, task.count, ones, err.text);
        }
        CHECK(task.count == sets[i].count && (!sets[i].ones || ones == sets[i].ones));
        CHECK(task.label_count == (json ? 0 : 2) && seconds == (sets[i].pairs ? task.count : 0));
        CHECK(references == (json ? task.count : 0));
        for (size_t k = 0; json && k < task.count; k++) {
            CHECK(!strstr(task.examples[k].text, "Summarize the above") &&
                  strncmp(task.examples[k].text, "###", 3) != 0);
        }
        cmif_task_wipe(&task);
    }
}

int main(void)
{
    snprintf(path, sizeof path, "/tmp/cmif-task-%ld.tsv", (long) getpid());
    snprintf(json_path, sizeof json_path, "/tmp/cmif-task-%ld.jsonl", (long) getpid());
    RUN(sentences_and_pairs_with_and_without_a_header);
    RUN(numbers_count_from_zero_and_names_go_by_their_bytes);
    RUN(summaries_come_without_what_the_article_was_asked_with);
    RUN(a_line_that_is_not_like_the_others_is_refused_by_its_number);
    RUN(limits_hold);
    RUN(a_sample_is_uniform_and_repeats);
    RUN(what_is_in_the_other_is_dropped);
    if (access(DATA "/sst2/dev.tsv", R_OK) == 0) {
        RUN(the_data_sets_are_whole);
    } else {
        printf("skipped the_data_sets_are_whole: %s is not there\n", DATA);
    }
    unlink(path);
    unlink(json_path);
    return check_report();
}
