/* cases - for tests: the captures beside the repository, and what is expected of each. */
#ifndef CMIF_ATTEST_CASES_H
#define CMIF_ATTEST_CASES_H

#include "attest/attest.h"
#include "attest/json.h"
#include "base/bytes.h"
#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CMIF_SOURCE_DIR /* every test says where the tree is; a header must be readable by itself, too */
#define CMIF_SOURCE_DIR "."
#endif
#define CASES CMIF_SOURCE_DIR "/../shared/attestation"

static inline int cases_absent(void) { return access(CASES "/cases.json", R_OK) != 0; }

typedef struct case_file { /* NULL data: there is no such file */
    uint8_t *data;
    size_t   size;
} case_file;

static inline case_file case_read(const char *folder, const char *name)
{
    case_file file = {0};
    char      path[512];
    snprintf(path, sizeof path, CASES "/%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        return file;
    }
    file.data = malloc(1 << 20);
    file.size = file.data ? fread(file.data, 1, 1 << 20, f) : 0;
    fclose(f);
    return file;
}

/* A seed for a fuzz target, as `<test> seeds FOLDER` writes them. */
static inline void case_seed(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, strchr(name, '/') ? strchr(name, '/') + 1 : name);
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0);
}

/* expected.json, by name and name inside it; "" when it is not there. A number, string or word comes as it is written. The answer is in `room`. */
typedef struct case_expected {
    case_file file;
    cmif_json json;
    char      room[512];
} case_expected;

static inline bool case_open(const char *folder, case_expected *expected)
{
    cmif_err err   = {0};
    *expected      = (case_expected){.file = case_read(folder, "expected.json")};
    const bool got = expected->file.data && cmif_json_parse(expected->file.data, expected->file.size, &expected->json, &err) == CMIF_OK;
    if (!got) {
        fprintf(stderr, "%s/expected.json: %s\n", folder, err.text);
    }
    return got;
}

static inline void case_close(case_expected *expected)
{
    cmif_json_wipe(&expected->json);
    free(expected->file.data);
}

static inline const char *case_node(case_expected *expected, uint32_t node)
{
    expected->room[0] = '\0';
    if (node != CMIF_JSON_NONE && expected->json.nodes[node].size < sizeof expected->room) {
        memcpy(expected->room, expected->json.text + expected->json.nodes[node].start, expected->json.nodes[node].size);
        expected->room[expected->json.nodes[node].size] = '\0';
    }
    return expected->room;
}

static inline const char *case_text(case_expected *expected, const char *group, const char *name)
{
    uint32_t object = group ? cmif_json_get(&expected->json, 0, group) : 0;
    return case_node(expected, object == CMIF_JSON_NONE ? object : cmif_json_get(&expected->json, object, name));
}

static inline size_t case_bytes(case_expected *expected, const char *group, const char *name, uint8_t *out)
{
    const char *text = case_text(expected, group, name);
    return cmif_unhex(text, strlen(text) / 2, out) ? strlen(text) / 2 : 0;
}

/* "2026-03-07T00:00:00Z"; INT64_MIN when the case has no time. */
static inline int64_t case_time(case_expected *expected)
{
    int64_t at = INT64_MIN;
    return cmif_json_time(&expected->json, cmif_json_get(&expected->json, 0, "verify_at"), &at) ? at : INT64_MIN;
}

static inline bool case_has_reason(const cmif_verdict *v, const char *reason)
{
    for (size_t i = 0; i < v->reason_count; i++) {
        if (!strcmp(v->reasons[i], reason)) {
            return true;
        }
    }
    return false;
}

static inline bool case_has_error(const cmif_verdict *v, const char *error)
{
    for (size_t i = 0; i < v->error_count; i++) {
        if (!strcmp(v->errors[i], error)) {
            return true;
        }
    }
    return false;
}

static inline void case_tell(const char *what, const cmif_verdict *v)
{
    fprintf(stderr, "%s: outcome %d, %s\n", what, (int) v->outcome, v->sentence.text);
    for (size_t i = 0; i < v->reason_count; i++) {
        fprintf(stderr, "    reason %s\n", v->reasons[i]);
    }
    for (size_t i = 0; i < v->error_count; i++) {
        fprintf(stderr, "    error %s\n", v->errors[i]);
    }
    for (size_t i = 0; i < v->unchecked_count; i++) {
        fprintf(stderr, "    unchecked %s\n", v->unchecked[i]);
    }
}

/* Technology, strict verdict and the set of reasons are those of expected.json. */
static inline bool case_verdict_is(const char *what, case_expected *expected, const cmif_verdict *v, const char *word)
{
    uint32_t reasons = cmif_json_get(&expected->json, 0, "reject_reasons"), count = 0;
    bool     same = !strcmp(case_text(expected, NULL, "technology"), word);
    same          = same && (v->outcome == CMIF_ACCEPTED) == !strcmp(case_text(expected, NULL, "verdict_strict"), "accept");
    for (uint32_t i = cmif_json_first(&expected->json, reasons); i != CMIF_JSON_NONE; i = cmif_json_after(&expected->json, reasons, i)) {
        same = case_has_reason(v, case_node(expected, i)) && same;
        count++;
    }
    same = same && v->reason_count == count;
    if (!same) {
        case_tell(what, v);
    }
    return same;
}

/* The field is as expected.json has it. */
static inline bool case_field_is(const char *what, case_expected *expected, const char *group, const char *name, const cmif_verdict *v, const char *field)
{
    const char *want = case_text(expected, group, name), *have = cmif_verdict_field(v, field);
    if (!have || strcmp(want, have) != 0) {
        fprintf(stderr, "%s: field %s is %s, expected %s\n", what, field, have ? have : "missing", want);
        return false;
    }
    return true;
}

/* Refused, and for this alone: world_judge is the test's own; `error` NULL is a reason of its own, else "invalid-evidence" with this error alone. */
static inline bool only(const cmif_verdict *v, const char *reason, const char *error)
{
    bool good = v->outcome == CMIF_REJECTED && v->reason_count == 1 && !strcmp(v->reasons[0], reason) &&
                v->error_count == (error != NULL) && (!error || !strcmp(v->errors[0], error));
    if (!good) {
        case_tell(error ? error : reason, v);
    }
    return good;
}
#define ONLY(world, reason, error)                                                                                     \
    do {                                                                                                               \
        cmif_verdict only_v = world_judge(world);                                                                      \
        CHECK(only(&only_v, reason, error));                                                                           \
    } while (0)

#endif
