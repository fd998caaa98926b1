/* Our reader and writer against the engine's own: the same sizes of every tensor type, and nothing that we take is
 * refused there. */
#include "gguf/gguf.h"

#include "base/check.h"

#include <ggml.h>
#include <gguf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/cmif-gguf-engine-test-XXXXXX";

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void) level, (void) text, (void) context;
}

static void every_tensor_type_has_the_engines_size(void)
{
    for (uint32_t type = 0; type < 2 * GGML_TYPE_COUNT; type++) {
        uint64_t size = 0, shape[4] = {768, 3, 2, 1}; /* whole blocks of all */
        bool     known = type < GGML_TYPE_COUNT && ggml_blck_size((enum ggml_type) type) > 0;
        CHECK(known == (cmif_ggml_type_name(type) != NULL));
        CHECK((cmif_gguf_tensor_size(type, shape, &size, NULL) == CMIF_OK) == known);
        CHECK(!known || size == 6 * ggml_row_size((enum ggml_type) type, 768));
        for (uint64_t width = 1; width <= 256 && known; width++) {
            shape[0] = width;
            CHECK((cmif_gguf_tensor_size(type, shape, &size, NULL) == CMIF_OK) ==
                  (width % (uint64_t) ggml_blck_size((enum ggml_type) type) == 0));
        }
    }
}

static void write_file(void)
{
    cmif_gguf_out *out = NULL;
    CHECK(cmif_gguf_out_new(&out, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_str(out, "general.architecture", (cmif_str){"llama", 5}, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_uint(out, "general.alignment", 64, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_bool(out, "yes", true, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_f32(out, "half", 0.5f, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_strs(out, "words", (cmif_str[]){{"a", 1}, {"", 0}, {"bc", 2}}, 3, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_array(out, "numbers", CMIF_GGUF_I16, (int16_t[]){1, -2, 3}, 3, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "a", CMIF_GGML_Q8_0, 2, (uint64_t[4]){32, 2}, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_put_tensor(out, "b", CMIF_GGML_F32, 1, (uint64_t[4]){3}, NULL, NULL, NULL) == CMIF_OK);
    CHECK(cmif_gguf_write(out, path, NULL, NULL, NULL) == CMIF_OK);
    cmif_gguf_out_free(out);
}

static struct gguf_context *engine_open(void)
{
    struct ggml_context    *tensors = NULL;
    struct gguf_init_params params  = {.no_alloc = false, .ctx = &tensors}; /* false: reads the data, too */
    struct gguf_context    *file    = gguf_init_from_file(path, params);
    ggml_free(tensors);
    return file;
}

static void the_engine_reads_what_we_write(void)
{
    write_file();
    struct gguf_context *file = engine_open();
    CHECK(file && gguf_get_n_kv(file) == 6 && gguf_get_n_tensors(file) == 2 && gguf_get_alignment(file) == 64);
    CHECK(file && strcmp(gguf_get_val_str(file, gguf_find_key(file, "general.architecture")), "llama") == 0);
    CHECK(file && gguf_get_val_bool(file, gguf_find_key(file, "yes")));
    CHECK(file && gguf_get_val_f32(file, gguf_find_key(file, "half")) == 0.5f);
    CHECK(file && strcmp(gguf_get_arr_str(file, gguf_find_key(file, "words"), 2), "bc") == 0);
    CHECK(file && gguf_get_tensor_offset(file, gguf_find_tensor(file, "b")) == 128);
    gguf_free(file);
}

/* Every bit of a file flipped, one at a time. The other way round does not hold: we are stricter. */
static void what_we_take_the_engine_takes(void)
{
    write_file();
    FILE          *disk = fopen(path, "r+b");
    static uint8_t bytes[4096];
    size_t         size  = fread(bytes, 1, sizeof bytes, disk);
    int            taken = 0, refused = 0;
    setvbuf(disk, NULL, _IONBF, 0);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        uint8_t    flipped = (uint8_t) (bytes[bit / 8] ^ 1u << bit % 8);
        cmif_gguf *ours    = NULL;
        fseek(disk, (long) (bit / 8), SEEK_SET);
        fwrite(&flipped, 1, 1, disk);
        if (cmif_gguf_open(path, &ours, NULL) == CMIF_OK) {
            struct gguf_context *theirs = engine_open();
            CHECK(theirs != NULL);
            gguf_free(theirs);
            taken++;
        } else {
            refused++;
        }
        cmif_gguf_free(ours);
        fseek(disk, (long) (bit / 8), SEEK_SET);
        fwrite(&bytes[bit / 8], 1, 1, disk);
    }
    fclose(disk);
    printf("  of %d flipped files %d are read, %d refused\n", taken + refused, taken, refused);
    CHECK(taken > 100 && refused > 100);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0) {
        perror(path);
        return 1;
    }
    close(fd);
    ggml_log_set(quiet, NULL);
    RUN(every_tensor_type_has_the_engines_size);
    RUN(the_engine_reads_what_we_write);
    RUN(what_we_take_the_engine_takes);
    unlink(path);
    return check_report();
}
