#include "gguf/gguf.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/check_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- files made by hand ---- */

static uint8_t     room[1 << 16];
static cmif_writer w;

static void text(const char *s)
{
    cmif_write_u64(&w, strlen(s));
    cmif_write_bytes(&w, s, strlen(s));
}

static void begin(uint64_t tensors, uint64_t keys)
{
    w = cmif_writer_over(room, sizeof room);
    cmif_write_bytes(&w, "GGUF", 4);
    cmif_write_u32(&w, 3);
    cmif_write_u64(&w, tensors);
    cmif_write_u64(&w, keys);
}

static void uint_key(const char *key, uint32_t value)
{
    text(key);
    cmif_write_u32(&w, CMIF_GGUF_U32);
    cmif_write_u32(&w, value);
}

static void tensor(const char *name, uint32_t dims, const uint64_t *shape, uint32_t type, uint64_t offset)
{
    text(name);
    cmif_write_u32(&w, dims);
    for (uint32_t i = 0; i < dims; i++) {
        cmif_write_u64(&w, shape[i]);
    }
    cmif_write_u32(&w, type);
    cmif_write_u64(&w, offset);
}

static void pad(size_t alignment)
{
    while (w.at % alignment) {
        cmif_write_u8(&w, 0);
    }
}

static void data(size_t size, uint8_t byte)
{
    memset(cmif_write_room(&w, size), byte, size);
}

/* Opens what was written so far, from a block of exactly that size so that a sanitizer sees a byte too far. */
static cmif_code try_open(cmif_gguf **file, cmif_err *err)
{
    static uint8_t *exact;
    free(exact);
    exact = malloc(w.at ? w.at : 1);
    memcpy(exact, room, w.at);
    return cmif_gguf_open_memory(exact, w.at, file, err);
}

/* Refused as FORMAT, with a text that says this, and nothing handed out. */
static bool refused(const char *saying)
{
    cmif_err   err  = {0};
    cmif_gguf *file = (cmif_gguf *) (void *) room;
    bool       ok   = try_open(&file, &err) == CMIF_E_FORMAT && file == (cmif_gguf *) (void *) room;
    if (!ok || !strstr(err.text, saying)) {
        printf("code %d, text: %s\n", err.code, err.text);
        ok = false;
    }
    return ok;
}

static bool opens(void)
{
    cmif_err   err  = {0};
    cmif_gguf *file = NULL;
    if (try_open(&file, &err) != CMIF_OK) {
        printf("refused: %s\n", err.text);
        return false;
    }
    cmif_gguf_free(file);
    return true;
}

/* Every kind of value, and two tensors with padding between. */
static void good_file(void)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    begin(2, 13 + 1 + 2);
    for (uint32_t type = 0; type <= CMIF_GGUF_F64; type++) {
        char key[] = {'k', (char) ('a' + type), 0};
        text(key);
        cmif_write_u32(&w, type);
        if (type == CMIF_GGUF_STRING) {
            text("value");
        } else if (type == CMIF_GGUF_ARRAY) {
            cmif_write_u32(&w, CMIF_GGUF_I16);
            cmif_write_u64(&w, 3);
            data(6, 1);
        } else {
            data(sizes[type], type == CMIF_GGUF_BOOL ? 1 : 0x41);
        }
    }
    uint_key("general.alignment", 64);
    text("strings");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, CMIF_GGUF_STRING);
    cmif_write_u64(&w, 3);
    text("one");
    text("");
    text("three");
    text("empty");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, CMIF_GGUF_F32);
    cmif_write_u64(&w, 0);
    tensor("first", 2, (uint64_t[]){32, 2}, CMIF_GGML_Q8_0, 0);
    tensor("second", 1, (uint64_t[]){3}, CMIF_GGML_F32, 128);
    pad(64);
    data(68, 7);
    pad(64);
    data(12, 9);
}

static void a_good_file_is_read(void)
{
    cmif_gguf *file = NULL;
    cmif_err   err;
    good_file();
    CHECK(try_open(&file, &err) == CMIF_OK);
    if (!file) {
        return;
    }
    uint32_t number = 0;
    float    real   = 0;
    bool     truth  = false;
    cmif_str s      = {0};
    CHECK(cmif_gguf_alignment(file) == 64 && cmif_gguf_value_count(file) == 16 && cmif_gguf_tensor_count(file) == 2);
    CHECK(cmif_gguf_get_uint(file, "ka", &number, &err) == CMIF_OK && number == 0x41);
    CHECK(cmif_gguf_get_uint(file, "kd", &number, &err) == CMIF_OK && number == 0x4141);
    CHECK(cmif_gguf_get_uint(file, "ke", &number, &err) == CMIF_OK && number == 0x41414141);
    number = 5;
    CHECK(cmif_gguf_get_uint(file, "kk", &number, &err) == CMIF_E_FORMAT && number == 5); /* does not fit 32 bits */
    CHECK(cmif_gguf_get_uint(file, "kg", &number, &err) == CMIF_E_FORMAT && number == 5); /* a float */
    CHECK(cmif_gguf_get_uint(file, "kh", &number, &err) == CMIF_E_FORMAT && number == 5); /* a truth value */
    CHECK(cmif_gguf_get_uint(file, "no", &number, &err) == CMIF_E_FORMAT && strstr(err.text, "'no'"));
    CHECK(cmif_gguf_get_f32(file, "kg", &real, &err) == CMIF_OK && real > 12.07f && real < 12.08f);
    CHECK(cmif_gguf_get_f32(file, "km", &real, &err) == CMIF_OK && real == 2261634.5f);
    CHECK(cmif_gguf_get_f32(file, "ka", &real, &err) == CMIF_E_FORMAT);
    CHECK(cmif_gguf_get_bool(file, "kh", &truth, &err) == CMIF_OK && truth);
    CHECK(cmif_gguf_get_bool(file, "ka", &truth, &err) == CMIF_E_FORMAT);
    CHECK(cmif_gguf_get_str(file, "ki", &s, &err) == CMIF_OK && cmif_str_is(s, "value") && !cmif_str_is(s, "valu"));
    CHECK(cmif_gguf_get_str(file, "strings", &s, &err) == CMIF_E_FORMAT);

    cmif_str *items = NULL;
    size_t    count = 0;
    CHECK(cmif_gguf_get_strs(file, "strings", &items, &count, &err) == CMIF_OK && count == 3);
    CHECK(items && cmif_str_is(items[0], "one") && cmif_str_is(items[1], "") && cmif_str_is(items[2], "three"));
    free(items);
    const uint8_t *numbers = NULL;
    CHECK(cmif_gguf_get_array(file, "kj", CMIF_GGUF_I16, &numbers, &count, &err) == CMIF_OK && count == 3);
    CHECK(numbers && numbers[5] == 1);
    CHECK(cmif_gguf_get_array(file, "kj", CMIF_GGUF_U16, &numbers, &count, &err) == CMIF_E_FORMAT);
    CHECK(cmif_gguf_get_array(file, "strings", CMIF_GGUF_STRING, &numbers, &count, &err) == CMIF_E_FORMAT);
    CHECK(cmif_gguf_get_array(file, "empty", CMIF_GGUF_F32, &numbers, &count, &err) == CMIF_OK && count == 0);

    const cmif_gguf_tensor *second = cmif_gguf_find_tensor(file, "second");
    CHECK(second && second == cmif_gguf_tensor_at(file, 1) && second->size == 12 && second->data[11] == 9);
    CHECK(second && second->dims == 1 && second->shape[0] == 3 && second->shape[3] == 1 && second->offset % 64 == 0);
    const cmif_gguf_tensor *first = cmif_gguf_find_tensor(file, "first");
    CHECK(first && first->size == 68 && first->data[0] == 7 && first->type == CMIF_GGML_Q8_0);
    CHECK(!cmif_gguf_find_tensor(file, "third") && !cmif_gguf_tensor_at(file, 2) && !cmif_gguf_value_at(file, 16));
    cmif_gguf_free(file);
    pad(64);
    CHECK(opens()); /* padded at the end as well */
}

static void negative_numbers_are_no_uint(void)
{
    cmif_gguf *file = NULL;
    uint32_t   out  = 5;
    begin(0, 2);
    text("a");
    cmif_write_u32(&w, CMIF_GGUF_I8);
    cmif_write_u8(&w, 0xff);
    text("b");
    cmif_write_u32(&w, CMIF_GGUF_I64);
    cmif_write_u64(&w, 7);
    pad(32);
    CHECK(try_open(&file, NULL) == CMIF_OK);
    CHECK(file && cmif_gguf_get_uint(file, "a", &out, NULL) == CMIF_E_FORMAT && out == 5);
    CHECK(file && cmif_gguf_get_uint(file, "b", &out, NULL) == CMIF_OK && out == 7);
    cmif_gguf_free(file);
}

static void every_prefix_is_refused(void)
{
    good_file();
    size_t whole = w.at;
    for (size_t size = 0; size < whole; size++) {
        w.at = size;
        CHECK(refused(size < 4 ? "not a GGUF file" : size < 24 ? "end of the file" : ""));
    }
    w.at = whole;
    CHECK(opens());
}

/* No single flipped byte may do more than change the answer; what opens is walked by the fuzzer's property. */
static void flipped_bytes_are_refused_or_read(void)
{
    good_file();
    for (size_t at = 0; at < w.at; at++) {
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            cmif_gguf *file = NULL;
            room[at] ^= (uint8_t) flip;
            if (try_open(&file, NULL) == CMIF_OK) {
                cmif_gguf_free(file);
            }
            room[at] ^= (uint8_t) flip;
        }
    }
}

static void other_files_are_named(void)
{
    begin(0, 0);
    memcpy(room, "PK\3\4", 4);
    CHECK(refused("does not begin with 'GGUF'"));
    begin(0, 0);
    room[4] = 2;
    CHECK(refused("version 2"));
    room[4] = 1;
    CHECK(refused("version 1"));
    room[4] = 4;
    CHECK(refused("version 4"));
    memcpy(room + 4, "\0\0\0\3", 4);
    CHECK(refused("big-endian"));
}

static void counts_are_checked_against_the_file(void)
{
    begin(0, 1000000000);
    CHECK(refused("1000000000 keys"));
    begin(UINT64_MAX, 0);
    CHECK(refused("18446744073709551615 tensors"));
    begin(0, UINT64_MAX);
    CHECK(refused("cannot hold"));
}

static void bad_keys_are_refused(void)
{
    begin(0, 1);
    uint_key("", 1);
    CHECK(refused("1 to 65535"));
    begin(0, 1);
    uint_key("with space", 1);
    CHECK(refused("printable"));
    begin(0, 1);
    uint_key("with\nline", 1);
    CHECK(refused("printable"));
    begin(0, 1);
    uint_key("\xc3\xa4", 1);
    CHECK(refused("printable"));
    begin(0, 1); /* longer than the file */
    cmif_write_u64(&w, UINT64_MAX);
    data(64, 'a');
    CHECK(refused("18446744073709551615"));
    begin(0, 2);
    uint_key("twin", 1);
    uint_key("twin", 2);
    CHECK(refused("'twin' is there twice"));
}

static void bad_values_are_refused(void)
{
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, 13);
    data(64, 0);
    CHECK(refused("type 13"));
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, CMIF_GGUF_BOOL);
    cmif_write_u8(&w, 2);
    pad(32);
    CHECK(refused("truth value of 2"));
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, CMIF_GGUF_BOOL);
    cmif_write_u64(&w, 3);
    data(2, 1);
    data(1, 255);
    pad(32);
    CHECK(refused("truth value of 255"));
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u64(&w, 1);
    data(64, 0);
    CHECK(refused("array of arrays"));
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, 99);
    cmif_write_u64(&w, 1);
    data(64, 0);
    CHECK(refused("items of type 99"));
    for (int big = 0; big < 2; big++) {
        begin(0, 1);
        text("k");
        cmif_write_u32(&w, CMIF_GGUF_ARRAY);
        cmif_write_u32(&w, CMIF_GGUF_F64);
        cmif_write_u64(&w, big ? (uint64_t) 1 << 61 : 9); /* 9 * 8 > 64; 2^61 * 8 wraps to 0 */
        data(64, 0);
        CHECK(refused("items, the file has 64"));
    }
    begin(0, 1);
    text("k");
    cmif_write_u32(&w, CMIF_GGUF_ARRAY);
    cmif_write_u32(&w, CMIF_GGUF_STRING);
    cmif_write_u64(&w, 2);
    text("a");
    cmif_write_u64(&w, 100);
    data(20, 'b');
    CHECK(refused("100 bytes long, the file has 20 left"));
}

static void bad_alignment_is_refused(void)
{
    static const uint32_t bad[] = {0, 3, 33, UINT32_MAX};
    for (size_t i = 0; i < 4; i++) {
        begin(0, 1);
        uint_key("general.alignment", bad[i]);
        data(128, 0);
        CHECK(refused("power of two"));
    }
    begin(0, 1);
    text("general.alignment");
    cmif_write_u32(&w, CMIF_GGUF_U64);
    cmif_write_u64(&w, 32);
    pad(32);
    CHECK(refused("must be a u32"));
}

/* One tensor of this name, shape, type and offset; size bytes of data. */
static void one_tensor(const char *name, uint32_t dims, const uint64_t *shape, uint32_t type, uint64_t offset,
                       size_t size)
{
    begin(1, 0);
    tensor(name, dims, shape, type, offset);
    pad(32);
    data(size, 1);
}

static void bad_tensors_are_refused(void)
{
    static const char long_name[] = "0123456789012345678901234567890123456789012345678901234567890123"; /* 64 */
    const uint64_t    four[]      = {4, 1, 1, 1, 1};
    one_tensor("t", 1, four, CMIF_GGML_F32, 0, 16);
    CHECK(opens());
    one_tensor(long_name + 1, 1, four, CMIF_GGML_F32, 0, 16);
    CHECK(opens());
    one_tensor(long_name, 1, four, CMIF_GGML_F32, 0, 16);
    CHECK(refused("1 to 63"));
    one_tensor("", 1, four, CMIF_GGML_F32, 0, 16);
    CHECK(refused("1 to 63"));
    one_tensor("t\x1b[2J", 1, four, CMIF_GGML_F32, 0, 16);
    CHECK(refused("printable"));
    one_tensor("t", 0, four, CMIF_GGML_F32, 0, 16);
    CHECK(refused("0 dimensions"));
    one_tensor("t", 5, four, CMIF_GGML_F32, 0, 16);
    CHECK(refused("5 dimensions"));
    one_tensor("t", 2, (uint64_t[]){4, 0}, CMIF_GGML_F32, 0, 16);
    CHECK(refused("dimension 1 is 0"));
    one_tensor("t", 1, four, 4, 0, 16);
    CHECK(refused("type 4 is unknown"));
    one_tensor("t", 1, four, 43, 0, 16);
    CHECK(refused("type 43 is unknown"));
    one_tensor("t", 1, four, CMIF_GGML_Q8_0, 0, 16);
    CHECK(refused("whole blocks of 32"));
    one_tensor("t", 4, (uint64_t[]){1u << 31, 1u << 31, 1u << 31, 4}, CMIF_GGML_F32, 0, 16);
    CHECK(refused("63 bits"));
    one_tensor("t", 2, (uint64_t[]){(uint64_t) 1 << 62, 4}, CMIF_GGML_F32, 0, 16); /* the product wraps to 0 */
    CHECK(refused("63 bits"));
    one_tensor("t", 1, (uint64_t[]){(uint64_t) 1 << 61}, CMIF_GGML_F32, 0, 16); /* bytes do, numbers do not */
    CHECK(refused("63 bits"));
    one_tensor("t", 1, four, CMIF_GGML_F32, 32, 64);
    CHECK(refused("offset 32, expected 0"));
    one_tensor("t", 1, four, CMIF_GGML_F32, UINT64_MAX, 16);
    CHECK(refused("expected 0"));
    one_tensor("t", 1, four, CMIF_GGML_F32, 0, 15);
    CHECK(refused("16 bytes of data from byte 64 on, the file has 79"));
    one_tensor("t", 1, four, CMIF_GGML_F32, 0, 17);
    CHECK(refused("the data ends at byte 80, the file has 81"));
    one_tensor("t", 1, four, CMIF_GGML_F32, 0, 32); /* padding, but not zero */
    CHECK(refused("padding that is not zero"));
    one_tensor("t", 1, four, CMIF_GGML_F32, 0, 64);
    CHECK(refused("something else is behind it"));
}

static void tensors_that_overlap_or_leave_a_gap_are_refused(void)
{
    static const uint64_t offsets[] = {0, 16, 31, 33, 64, UINT64_MAX - 31};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        begin(2, 0);
        tensor("a", 1, (uint64_t[]){4}, CMIF_GGML_F32, 0);
        tensor("b", 1, (uint64_t[]){4}, CMIF_GGML_F32, offsets[i]);
        pad(32);
        data(128, 0);
        CHECK(refused("expected 32: a gap or an overlap"));
    }
    begin(2, 0);
    tensor("a", 1, (uint64_t[]){4}, CMIF_GGML_F32, 0);
    tensor("a", 1, (uint64_t[]){4}, CMIF_GGML_F32, 32);
    pad(32);
    data(48, 0);
    CHECK(refused("'a' is there twice"));
}

static void bytes_behind_the_header_are_refused(void)
{
    begin(0, 0); /* 24 bytes */
    CHECK(opens());
    pad(32);
    CHECK(opens());
    room[30] = 1;
    CHECK(refused("padding"));
    room[30] = 0;
    data(1, 0);
    CHECK(refused("something else"));
}

/* A million keys in a hostile file: sorted, not compared each with each. */
static void a_million_keys_take_seconds_not_hours(void)
{
    enum { KEYS = 1000000, EACH = 8 + 7 + 4 + 1 };
    size_t      size  = 24 + (size_t) KEYS * EACH;
    uint8_t    *bytes = malloc(size);
    cmif_writer many  = cmif_writer_over(bytes, size);
    cmif_gguf  *file  = NULL;
    cmif_write_bytes(&many, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16);
    cmif_write_u64(&many, KEYS);
    for (unsigned i = 0; i < KEYS; i++) {
        char key[8];
        snprintf(key, sizeof key, "%07u", KEYS - 1 - i);
        cmif_write_u64(&many, 7);
        cmif_write_bytes(&many, key, 7);
        cmif_write_u32(&many, CMIF_GGUF_U8);
        cmif_write_u8(&many, (uint8_t) i);
    }
    clock_t start = clock();
    CHECK(!many.failed && cmif_gguf_open_memory(bytes, size, &file, NULL) == CMIF_OK);
    CHECK(clock() - start < 20 * CLOCKS_PER_SEC);
    CHECK(file && cmif_gguf_find(file, "0999999") && cmif_gguf_find(file, "0000000") &&
          !cmif_gguf_find(file, "1000000"));
    cmif_gguf_free(file);
    free(bytes);
}

static void each_failed_allocation_is_a_memory_error(void)
{
    good_file();
    uint8_t *bytes = malloc(w.at);
    memcpy(bytes, room, w.at);
    int  failures = 0;
    bool done     = false;
    for (long n = 0; n < 100 && !done; n++) {
        cmif_gguf *file  = NULL;
        allocations_left = n;
        cmif_code rc     = cmif_gguf_open_memory(bytes, w.at, &file, NULL);
        allocations_left = -1;
        CHECK(rc == CMIF_OK ? file != NULL : rc == CMIF_E_MEMORY && !file);
        done = rc == CMIF_OK;
        failures += !done;
        cmif_gguf_free(file);
    }
    CHECK(done && failures >= 5);
    free(bytes);
}

/* ---- files on disk ---- */

static char folder[] = "/tmp/cmif-gguf-test-XXXXXX";
static char path[sizeof folder + 16];

static bool exists(const char *name)
{
    struct stat info;
    return lstat(name, &info) == 0;
}

static cmif_code bytes_of_pattern(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) err;
    uint64_t *expected = context;
    if (offset != *expected) {
        return cmif_fail(err, CMIF_E_RANGE, "asked out of order");
    }
    for (size_t i = 0; i < size; i++) {
        buffer[i] = (uint8_t) ((offset + i) * 37);
    }
    *expected += size;
    return CMIF_OK;
}

static uint64_t asked;

/* A file of every kind of value and three tensors: 9 MiB in pieces, a hole, and 5 bytes. */
static cmif_gguf_out *collected(void)
{
    cmif_gguf_out *out = NULL;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "a.uint", 1, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "gone", 1, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_f32(out, "a.float", 0.5f, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_bool(out, "a.bool", true, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "a.str", (cmif_str){"text", 4}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_strs(out, "a.strs", (cmif_str[]){{"x", 1}, {"", 0}, {"yz", 2}}, 3, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(out, "a.array", CMIF_GGUF_I16, (int16_t[]){1, -2}, 2, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "a.uint", 7, NULL) == CMIF_OK);
    cmif_gguf_remove(out, "gone");
    cmif_gguf_remove(out, "never");
    asked = 0;
    CHECK(cmif_gguf_put_tensor(out, "big", CMIF_GGML_F16, 2, (uint64_t[4]){1024, 4608}, bytes_of_pattern, &asked,
                               NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "hole", CMIF_GGML_Q8_0, 2, (uint64_t[4]){64, 100000}, NULL, NULL, NULL) == CMIF_OK);
    static uint64_t small;
    small = 0;
    CHECK(cmif_gguf_put_tensor(out, "small", 24, 1, (uint64_t[4]){5}, bytes_of_pattern, &small, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "small", 24, 1, (uint64_t[4]){5}, NULL, NULL, NULL) == CMIF_E_RANGE);
    CHECK(cmif_gguf_put_tensor(out, "odd", CMIF_GGML_Q8_0, 1, (uint64_t[4]){5}, NULL, NULL, NULL) == CMIF_E_FORMAT);
    return out;
}

static void check_collected(const cmif_gguf *file)
{
    uint32_t  number = 0;
    cmif_str *items  = NULL;
    size_t    count  = 0;
    CHECK(cmif_gguf_value_count(file) == 6 && cmif_gguf_tensor_count(file) == 3);
    CHECK(cmif_gguf_get_uint(file, "a.uint", &number, NULL) == CMIF_OK && number == 7);
    CHECK(cmif_gguf_get_strs(file, "a.strs", &items, &count, NULL) == CMIF_OK && count == 3 &&
          cmif_str_is(items[2], "yz"));
    free(items);
    const cmif_gguf_tensor *big = cmif_gguf_find_tensor(file, "big"), *hole = cmif_gguf_find_tensor(file, "hole");
    CHECK(big && big->size == 1024 * 4608 * 2 && hole && hole->size == 6800000);
    for (size_t i = 0; big && i < big->size; i += 997) {
        CHECK(big->data[i] == (uint8_t) (i * 37));
    }
    for (size_t i = 0; hole && i < hole->size; i += 997) {
        CHECK(hole->data[i] == 0);
    }
}

static void what_is_written_is_read(void)
{
    cmif_gguf_out *out  = collected();
    cmif_gguf     *file = NULL;
    cmif_err       err  = {0};
    CHECK(cmif_gguf_write(out, path, NULL, NULL, &err) == CMIF_OK);
    CHECK(cmif_gguf_open(path, &file, &err) == CMIF_OK);
    if (file) {
        check_collected(file);
        /* values put as they were read give the same file */
        cmif_gguf_out *again = NULL;
        cmif_gguf     *twin  = NULL;
        CHECK(cmif_gguf_out_new(&again, NULL) == CMIF_OK);
        for (size_t i = 0; i < cmif_gguf_value_count(file); i++) {
            CHECK(cmif_gguf_put_value(again, cmif_gguf_value_at(file, i), NULL) == CMIF_OK);
        }
        CHECK(cmif_gguf_write(again, path, NULL, NULL, &err) == CMIF_OK);
        CHECK(cmif_gguf_open(path, &twin, &err) == CMIF_OK);
        for (size_t i = 0; twin && i < cmif_gguf_value_count(file); i++) {
            const cmif_gguf_value *a = cmif_gguf_value_at(file, i), *b = cmif_gguf_value_at(twin, i);
            CHECK(a->type == b->type && a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
        }
        cmif_gguf_free(twin);
        cmif_gguf_out_free(again);
    }
    struct stat info;
    CHECK(stat(path, &info) == 0);
    cmif_gguf_free(file);
    cmif_gguf_out_free(out);
    unlink(path);
}

static void holes_take_no_room(void)
{
    cmif_gguf_out *out = NULL;
    struct stat    info;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "h", CMIF_GGML_F32, 2, (uint64_t[4]){1 << 20, 256}, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(stat(path, &info) == 0 && info.st_size == 96 + (1 << 30));
    CHECK(info.st_blocks * 512 < 1 << 20);
    cmif_gguf_out_free(out);
    unlink(path);
}

/* Turns every bit, and looks at what it is told. context: bytes so far. */
static cmif_code turned(void *context, uint64_t total, const uint8_t *bytes, size_t size, cmif_gguf_emit emit, void *to,
                        cmif_err *err)
{
    static uint8_t other[4 << 20];
    uint64_t      *so_far = context;
    if (size > sizeof other || *so_far + size > total) {
        return cmif_fail(err, CMIF_E_RANGE, "more than was said");
    }
    for (size_t i = 0; i < size; i++) {
        other[i] = (uint8_t) ~bytes[i];
    }
    *so_far += size;
    return emit(to, other, size, err);
}

/* A filter gets the same bytes that the file would have had, holes too, knows from the start how many, and only what it
 * emits is written. */
static void a_filter_sees_all_and_the_file_holds_what_it_emits(void)
{
    uint64_t       so_far = 0;
    cmif_gguf_out *out    = collected();
    cmif_gguf     *file   = NULL;
    struct stat    info;
    cmif_gguf_put_through(out, turned, &so_far);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK);
    CHECK(stat(path, &info) == 0 && (uint64_t) info.st_size == so_far);
    uint8_t *bytes  = malloc((size_t) info.st_size);
    FILE    *stream = fopen(path, "r");
    CHECK(fread(bytes, 1, (size_t) info.st_size, stream) == (size_t) info.st_size);
    fclose(stream);
    for (off_t i = 0; i < info.st_size; i++) {
        bytes[i] = (uint8_t) ~bytes[i];
    }
    CHECK(cmif_gguf_open_memory(bytes, (size_t) info.st_size, &file, NULL) == CMIF_OK);
    if (file) {
        check_collected(file);
    }
    cmif_gguf_free(file);
    free(bytes);
    cmif_gguf_out_free(out);
    unlink(path);
}

static int progress_calls;

static bool stop_at_third(void *context, uint64_t done, uint64_t total)
{
    (void) context;
    CHECK(done <= total);
    return ++progress_calls < 3;
}

/* An earlier file of the same name survives anything that goes wrong, and nothing else is left in the folder. */
static void a_stopped_write_leaves_the_old_file(void)
{
    cmif_gguf_out *out  = collected();
    cmif_err       err  = {0};
    FILE          *file = fopen(path, "w");
    fputs("old", file);
    fclose(file);
    CHECK(cmif_gguf_write(out, path, stop_at_third, NULL, &err) == CMIF_E_CANCELLED);
    struct stat info;
    CHECK(stat(path, &info) == 0 && info.st_size == 3);
    unlink(path);
    CHECK(rmdir(folder) == 0 && mkdir(folder, 0700) == 0);
    cmif_gguf_out_free(out);
}

static void a_file_too_large_is_one_sentence(void)
{
    cmif_gguf_out *out = collected();
    cmif_err       err = {0};
    struct rlimit  old, small = {1 << 20, 0};
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    cmif_code rc = cmif_gguf_write(out, path, NULL, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(rc == CMIF_E_IO && strstr(err.text, "needs") && strstr(err.text, "limit") && !exists(path));
    CHECK(rmdir(folder) == 0 && mkdir(folder, 0700) == 0);
    cmif_gguf_out_free(out);
}

static void a_full_disk_is_known_before(void)
{
    cmif_gguf_out *out = NULL;
    cmif_err       err = {0};
    asked              = 0;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "huge", CMIF_GGML_F32, 2, (uint64_t[4]){1 << 20, 1 << 30}, bytes_of_pattern, &asked,
                               NULL) == CMIF_OK); /* 4 PiB */
    CHECK(cmif_gguf_write(out, path, NULL, NULL, &err) == CMIF_E_IO);
    CHECK(strstr(err.text, "needs 45035996") && strstr(err.text, "free") && asked == 0 && !exists(path));
    cmif_gguf_out_free(out);
}

static void bad_places_are_one_sentence(void)
{
    cmif_gguf_out *out  = collected();
    cmif_gguf     *file = NULL;
    cmif_err       err  = {0};
    char           deep[sizeof folder + 32];
    snprintf(deep, sizeof deep, "%s/none/m.gguf", folder);
    CHECK(cmif_gguf_write(out, deep, NULL, NULL, &err) == CMIF_E_IO && strstr(err.text, "No such file"));
    CHECK(cmif_gguf_open(deep, &file, &err) == CMIF_E_IO && strstr(err.text, "No such file") && !file);
    CHECK(cmif_gguf_open(folder, &file, &err) == CMIF_E_FORMAT && strstr(err.text, "is a folder") && !file);
    CHECK(cmif_gguf_open("/dev/null", &file, &err) == CMIF_E_FORMAT && strstr(err.text, "regular file") && !file);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(cmif_gguf_open(path, &file, &err) == CMIF_E_FORMAT && strstr(err.text, "regular file") && !file);
    unlink(path);
    fclose(fopen(path, "w"));
    CHECK(cmif_gguf_open(path, &file, &err) == CMIF_E_FORMAT && strstr(err.text, "empty file") && !file);
    unlink(path);
    CHECK(mkdir(path, 0700) == 0);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, &err) == CMIF_E_IO);
    rmdir(path);
    CHECK(rmdir(folder) == 0 && mkdir(folder, 0700) == 0);
    cmif_gguf_out_free(out);
}

static void a_failed_allocation_while_writing_leaves_nothing(void)
{
    int  failures = 0;
    bool done     = false;
    for (long n = 0; n < 200 && !done; n++) {
        cmif_gguf_out *out = NULL;
        allocations_left   = n;
        cmif_code rc       = cmif_gguf_out_new(&out, NULL);
        rc                 = rc ? rc : cmif_gguf_put_uint(out, "a", 1, NULL);
        rc                 = rc ? rc : cmif_gguf_put_strs(out, "b", (cmif_str[]){{"x", 1}}, 1, NULL);
        rc = rc ? rc : cmif_gguf_put_tensor(out, "t", CMIF_GGML_F32, 1, (uint64_t[4]){8}, NULL, NULL, NULL);
        rc = rc ? rc : cmif_gguf_write(out, path, NULL, NULL, NULL);
        allocations_left = -1;
        CHECK(rc == CMIF_OK || rc == CMIF_E_MEMORY);
        CHECK(exists(path) == (rc == CMIF_OK));
        done = rc == CMIF_OK;
        failures += !done;
        cmif_gguf_out_free(out);
    }
    CHECK(done && failures >= 8);
    unlink(path);
    CHECK(rmdir(folder) == 0 && mkdir(folder, 0700) == 0);
}

int main(void)
{
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    RUN(a_good_file_is_read);
    RUN(negative_numbers_are_no_uint);
    RUN(every_prefix_is_refused);
    RUN(flipped_bytes_are_refused_or_read);
    RUN(other_files_are_named);
    RUN(counts_are_checked_against_the_file);
    RUN(bad_keys_are_refused);
    RUN(bad_values_are_refused);
    RUN(bad_alignment_is_refused);
    RUN(bad_tensors_are_refused);
    RUN(tensors_that_overlap_or_leave_a_gap_are_refused);
    RUN(bytes_behind_the_header_are_refused);
    RUN(a_million_keys_take_seconds_not_hours);
    RUN(each_failed_allocation_is_a_memory_error);
    RUN(what_is_written_is_read);
    RUN(holes_take_no_room);
    RUN(a_filter_sees_all_and_the_file_holds_what_it_emits);
    RUN(a_stopped_write_leaves_the_old_file);
    RUN(a_file_too_large_is_one_sentence);
    RUN(a_full_disk_is_known_before);
    RUN(bad_places_are_one_sentence);
    RUN(a_failed_allocation_while_writing_leaves_nothing);
    rmdir(folder);
    return check_report();
}
