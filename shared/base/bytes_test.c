#include "base/bytes.h"
#include "base/check.h"

static void numbers_are_little_endian_both_ways(void)
{
    static const uint8_t expected[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d,
                                       0x0c, 0x0b, 0x0a, 0x09, 0x08, 0x00, 0x00, 0x20, 0xc0};
    uint8_t              bytes[sizeof expected];
    cmif_writer          w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_u8(&w, 0x01);
    cmif_write_u16(&w, 0x0203);
    cmif_write_u32(&w, 0x04050607);
    cmif_write_u64(&w, 0x08090a0b0c0d0e0f);
    cmif_write_f32(&w, -2.5f);
    CHECK(!w.failed && w.at == sizeof expected && memcmp(bytes, expected, sizeof expected) == 0);

    cmif_reader r = cmif_reader_over(bytes, sizeof bytes);
    CHECK(cmif_read_u8(&r) == 0x01);
    CHECK(cmif_read_u16(&r) == 0x0203);
    CHECK(cmif_read_u32(&r) == 0x04050607);
    CHECK(cmif_read_u64(&r) == 0x08090a0b0c0d0e0f);
    CHECK(cmif_read_f32(&r) == -2.5f);
    CHECK(!r.failed && r.at == r.size);
}

static void a_reader_that_ran_out_stays_failed_and_gives_zeros(void)
{
    static const uint8_t bytes[] = {0xff, 0xff, 0xff};
    cmif_reader          r       = cmif_reader_over(bytes, sizeof bytes);
    CHECK(cmif_read_u32(&r) == 0 && r.failed && r.at == 0);
    CHECK(cmif_read_u8(&r) == 0 && r.failed && r.at == 0); /* although one byte is there */
    CHECK(cmif_read_bytes(&r, 0) == NULL);

    r = cmif_reader_over(bytes, sizeof bytes);
    CHECK(cmif_read_bytes(&r, 1) == bytes);
    CHECK(cmif_read_bytes(&r, SIZE_MAX) == NULL && r.failed && r.at == 1);

    r = cmif_reader_over(bytes, sizeof bytes);
    CHECK(cmif_read_bytes(&r, 3) == bytes && !r.failed);
    CHECK(cmif_read_bytes(&r, 0) == bytes + 3 && !r.failed);
    CHECK(cmif_read_f32(&r) == 0 && r.failed);

    r = cmif_reader_over(NULL, 0);
    CHECK(cmif_read_u8(&r) == 0 && r.failed);
}

static void a_writer_without_room_writes_nothing_more(void)
{
    uint8_t     bytes[4] = {9, 9, 9, 9};
    cmif_writer w        = cmif_writer_over(bytes, 3);
    cmif_write_u32(&w, 0);
    CHECK(w.failed && w.at == 0 && bytes[0] == 9);
    cmif_write_u8(&w, 1);
    CHECK(w.at == 0 && bytes[0] == 9);

    w = cmif_writer_over(bytes, 3);
    cmif_write_bytes(&w, "ab", 2);
    cmif_write_bytes(&w, NULL, 0);
    CHECK(!w.failed && w.at == 2);
    CHECK(cmif_write_room(&w, SIZE_MAX) == NULL && w.failed);
    CHECK(bytes[0] == 'a' && bytes[1] == 'b' && bytes[2] == 9 && bytes[3] == 9);
}

static void sizes_that_do_not_fit_are_refused(void)
{
    size_t out = 7;
    CHECK(!cmif_size_mul(SIZE_MAX, 2, &out) && out == 7);
    CHECK(!cmif_size_mul(SIZE_MAX / 2 + 1, 2, &out) && out == 7);
    CHECK(cmif_size_mul(SIZE_MAX / 2, 2, &out) && out == SIZE_MAX - 1);
    CHECK(cmif_size_mul(SIZE_MAX, 0, &out) && out == 0);
    out = 7;
    CHECK(!cmif_size_add(SIZE_MAX, 1, &out) && out == 7);
    CHECK(cmif_size_add(SIZE_MAX, 0, &out) && out == SIZE_MAX);
}

static void hexadecimal_digits_say_the_same_bytes(void)
{
    uint8_t bytes[256], back[256] = {0};
    char    text[513];
    for (int i = 0; i < 256; i++) {
        bytes[i] = (uint8_t) i;
    }
    cmif_hex(bytes, 256, text);
    CHECK(strlen(text) == 512 && !memcmp(text, "000102", 6) && !strcmp(text + 506, "fdfeff"));
    CHECK(cmif_unhex(text, 256, back) && !memcmp(bytes, back, 256));
    cmif_hex(bytes, 0, text);
    CHECK(!strcmp(text, ""));

    static const char *const bad[] = {"",    "0", "012", "012g", "012/", "012:", "012`", "012F", "\xff\xff\xff\xff",
                                      " 123"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(back, 9, 2);
        CHECK(!cmif_unhex(bad[i], 2, back) && back[0] == 9 && back[1] == 9);
    }
    CHECK(cmif_unhex("0a9f", 2, back) && back[0] == 0x0a && back[1] == 0x9f);
}

int main(void)
{
    RUN(numbers_are_little_endian_both_ways);
    RUN(a_reader_that_ran_out_stays_failed_and_gives_zeros);
    RUN(a_writer_without_room_writes_nothing_more);
    RUN(sizes_that_do_not_fit_are_refused);
    RUN(hexadecimal_digits_say_the_same_bytes);
    return check_report();
}
