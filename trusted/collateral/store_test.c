#define _GNU_SOURCE /* mkdtemp */
#include "base/check.h"
#include "collateral/store.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/cmif-store-XXXXXX", path[64];

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"
#define TCB_INFO(fmspc, issue, number)                                                                                 \
    "{\"tcbInfo\":{\"id\":\"TDX\",\"version\":3,\"issueDate\":\"" issue                                                \
    "\",\"nextUpdate\":\"2030-01-01T00:00:00Z\",\"fmspc\":\"" fmspc "\",\"tcbEvaluationDataNumber\":" number           \
    "},\"signature\":\"" ZEROS ZEROS "\"}"

static cmif_item item(const char *text)
{
    return (cmif_item){CMIF_ITEM_TCB_INFO, (const uint8_t *) text, strlen(text)};
}

static cmif_store *open_store(bool write)
{
    cmif_store *store = NULL;
    cmif_err    err   = {0};
    cmif_code   rc    = cmif_store_open(path, write, &store, &err);
    CHECK(rc == CMIF_OK);
    if (rc != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    return store;
}

static cmif_code add(cmif_store *store, const char *text, cmif_store_done *done, cmif_err *err)
{
    cmif_item one = item(text);
    cmif_kept kept;
    return cmif_store_add(store, &one, 1, &kept, done, err);
}

static bool count_one(void *context, const cmif_kept *kept, const cmif_item *one)
{
    (void) kept;
    (void) one;
    ++*(size_t *) context;
    return true;
}

static void what_was_added_is_there_and_only_the_newest(void)
{
    cmif_store     *store = open_store(true);
    cmif_store_done done;
    cmif_err        err   = {0};
    size_t          found = 0;
    struct stat     info;
    CHECK(stat(path, &info) == 0 && (info.st_mode & 077) == 0);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-01T00:00:00Z", "17"), &done, NULL) == CMIF_OK &&
          done == CMIF_STORE_ADDED);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-01T00:00:00Z", "17"), &done, NULL) == CMIF_OK &&
          done == CMIF_STORE_THERE);
    CHECK(add(store, TCB_INFO("00806F050000", "2024-01-01T00:00:00Z", "16"), &done, NULL) == CMIF_OK &&
          done == CMIF_STORE_ADDED);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-02-01T00:00:00Z", "17"), &done, NULL) == CMIF_OK &&
          done == CMIF_STORE_REPLACED);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-15T00:00:00Z", "17"), &done, &err) == CMIF_E_TRUST &&
          strstr(err.text, "collateral-rollback"));
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-03-01T00:00:00Z", "16"), &done, &err) == CMIF_E_TRUST);
    CHECK(cmif_store_all(store, count_one, &found, NULL) == CMIF_OK && found == 2);
    cmif_store_free(store);
    store = open_store(false);
    found = 0;
    CHECK(cmif_store_all(store, count_one, &found, NULL) == CMIF_OK && found == 2);
    cmif_store_free(store);
}

static void what_is_not_collateral_is_refused(void)
{
    cmif_store     *store = open_store(true);
    cmif_store_done done;
    CHECK(add(store, "{\"tcbInfo\":{}}", &done, NULL) == CMIF_E_FORMAT);
    CHECK(add(store, TCB_INFO("0123456789", "2025-01-01T00:00:00Z", "17"), &done, NULL) == CMIF_E_FORMAT);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-01", "17"), &done, NULL) == CMIF_E_FORMAT);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-01T00:00:00Z", "-1"), &done, NULL) == CMIF_E_FORMAT);
    CHECK(add(store, TCB_INFO("0123456789AB", "2025-01-01T00:00:00Z", "17") "x", &done, NULL) == CMIF_E_FORMAT);
    cmif_item evidence = {CMIF_ITEM_QUOTE, (const uint8_t *) "x", 1};
    cmif_kept kept;
    CHECK(cmif_kept_read(&evidence, &kept, NULL) == CMIF_E_FORMAT);
    cmif_store_free(store);
}

static void the_newest_that_was_believed_is_remembered_by_time(void)
{
    cmif_store     *store = open_store(true);
    cmif_store_done done;
    int64_t         number = 9, issue = 9;
    CHECK(cmif_store_seen(store, "tcb TDX aa0000000000", 5000, &number, &issue, NULL) == CMIF_OK && number == 0 &&
          issue == 0);
    CHECK(cmif_store_saw(store, "tcb TDX aa0000000000", 18, 2000, NULL) == CMIF_OK);
    CHECK(cmif_store_saw(store, "tcb TDX aa0000000000", 17, 1000, NULL) == CMIF_OK);
    CHECK(cmif_store_saw(store, "tcb TDX aa0000000000", 17, 1000, NULL) == CMIF_OK);
    CHECK(cmif_store_seen(store, "tcb TDX aa0000000000", 5000, &number, &issue, NULL) == CMIF_OK && number == 18 &&
          issue == 2000);
    CHECK(cmif_store_seen(store, "tcb TDX aa0000000000", 1999, &number, &issue, NULL) == CMIF_OK && number == 17 &&
          issue == 1000);
    CHECK(cmif_store_saw(store, "tcb TDX aabbccddeeff", 30, 1900000000, NULL) ==
          CMIF_OK); /* believed elsewhere: what is added must not be older */
    CHECK(add(store, TCB_INFO("AABBCCDDEEFF", "2025-01-01T00:00:00Z", "29"), &done, NULL) == CMIF_E_TRUST);
    cmif_store_free(store);
}

static void without_a_store_there_is_none_and_nothing_is_made(void)
{
    cmif_store *store = (cmif_store *) &folder; /* anything but NULL */
    CHECK(cmif_store_open("/tmp/cmif-store-nowhere/collateral.db", false, &store, NULL) == CMIF_OK && !store);
    CHECK(access("/tmp/cmif-store-nowhere", F_OK) != 0);
    int64_t number, issue;
    CHECK(cmif_store_seen(NULL, "x", 1, &number, &issue, NULL) == CMIF_OK && number == 0);
    CHECK(cmif_store_all(NULL, NULL, NULL, NULL) == CMIF_OK);
}

/* Whatever byte breaks, what is read is what was written, or the store says that it is damaged. */
static void a_damaged_store_is_never_read_short(void)
{
    static uint8_t whole[1 << 20], bad[1 << 20];
    FILE          *file    = fopen(path, "rb");
    const size_t   size    = file ? fread(whole, 1, sizeof whole, file) : 0;
    size_t         refused = 0, tried = 0, wrong = 0;
    char           other[80];
    if (file) {
        fclose(file);
    }
    snprintf(other, sizeof other, "%s/bad.db", folder);
    CHECK(size > 0);
    for (size_t at = 0; at < size; at += 61) {
        cmif_store *store  = NULL;
        cmif_err    err    = {0};
        int64_t     number = 0, issue = 0;
        memcpy(bad, whole, size);
        bad[at] ^= 0x21;
        file = fopen(other, "wb");
        if (!file || fwrite(bad, 1, size, file) != size || fclose(file) != 0) {
            CHECK(false);
            return;
        }
        tried++;
        if (cmif_store_open(other, false, &store, &err) != CMIF_OK || !store) {
            refused++;
            continue;
        }
        size_t found = 0;
        if (cmif_store_all(store, count_one, &found, NULL) != CMIF_OK || found != 2 ||
            cmif_store_seen(store, "tcb TDX aa0000000000", 5000, &number, &issue, NULL) != CMIF_OK || number != 18 ||
            issue != 2000) {
            wrong++;
        }
        cmif_store_free(store);
    }
    CHECK(wrong == 0);
    CHECK(refused > 0);
    printf("  %zu bytes broken, one at a time: %zu refused, the others in unused space\n", tried, refused);
    (void) unlink(other);
}

static void another_programs_database_is_left_alone(void)
{
    char        other[80];
    sqlite3    *db    = NULL;
    cmif_store *store = NULL;
    cmif_err    err   = {0};
    snprintf(other, sizeof other, "%s/other.db", folder);
    CHECK(sqlite3_open(other, &db) == SQLITE_OK &&
          sqlite3_exec(db, "CREATE TABLE t(x)", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    CHECK(cmif_store_open(other, true, &store, &err) == CMIF_E_FORMAT && !store && strstr(err.text, "another program"));
    (void) unlink(other);
}

int main(void)
{
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/a/collateral.db", folder);
    RUN(without_a_store_there_is_none_and_nothing_is_made);
    RUN(what_was_added_is_there_and_only_the_newest);
    RUN(what_is_not_collateral_is_refused);
    RUN(the_newest_that_was_believed_is_remembered_by_time);
    RUN(a_damaged_store_is_never_read_short);
    RUN(another_programs_database_is_left_alone);
    (void) unlink(path);
    snprintf(path, sizeof path, "%s/a", folder);
    (void) rmdir(path);
    (void) rmdir(folder);
    return check_report();
}
