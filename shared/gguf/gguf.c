#include "gguf/gguf.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    VERSION        = 3,
    KEY_SIZE_MAX   = 65535, /* the specification's limit */
    NAME_SIZE_MAX  = 63,    /* the engine's: GGML_MAX_NAME less its NUL */
    ARRAY_MAX      = 1 << 30,
    ENTRY_SIZE_MIN = 8 + 1 + 4 + 1,         /* key length, one letter, type, one byte of value */
    INFO_SIZE_MIN  = 8 + 1 + 4 + 8 + 4 + 8, /* name length, one letter, dimensions, one of them, type, offset */
    SHOWN          = 60                     /* bytes of a name that an error shows */
};

struct cmif_gguf {
    const uint8_t    *data;
    size_t            size;
    void             *mapped; /* NULL when the caller owns the bytes */
    uint64_t          alignment;
    cmif_gguf_value  *values;
    size_t            value_count;
    cmif_gguf_tensor *tensors;
    size_t            tensor_count;
    size_t           *values_by_key; /* sorted, so that a million keys are found, and twins seen, quickly */
    size_t           *tensors_by_name;
};

/* Block and byte sizes of every tensor type of the pinned engine; gguf_engine_test compares. */
static const struct {
    const char *name; /* NULL: no such type, or one that was removed */
    uint16_t    block;
    uint16_t    size;
} ggml_types[] = {
    [0] = {"f32", 1, 4},         [1] = {"f16", 1, 2},         [2] = {"q4_0", 32, 18},      [3] = {"q4_1", 32, 20},
    [6] = {"q5_0", 32, 22},      [7] = {"q5_1", 32, 24},      [8] = {"q8_0", 32, 34},      [9] = {"q8_1", 32, 36},
    [10] = {"q2_k", 256, 84},    [11] = {"q3_k", 256, 110},   [12] = {"q4_k", 256, 144},   [13] = {"q5_k", 256, 176},
    [14] = {"q6_k", 256, 210},   [15] = {"q8_k", 256, 292},   [16] = {"iq2_xxs", 256, 66}, [17] = {"iq2_xs", 256, 74},
    [18] = {"iq3_xxs", 256, 98}, [19] = {"iq1_s", 256, 50},   [20] = {"iq4_nl", 32, 18},   [21] = {"iq3_s", 256, 110},
    [22] = {"iq2_s", 256, 82},   [23] = {"iq4_xs", 256, 136}, [24] = {"i8", 1, 1},         [25] = {"i16", 1, 2},
    [26] = {"i32", 1, 4},        [27] = {"i64", 1, 8},        [28] = {"f64", 1, 8},        [29] = {"iq1_m", 256, 56},
    [30] = {"bf16", 1, 2},       [34] = {"tq1_0", 256, 54},   [35] = {"tq2_0", 256, 66},   [39] = {"mxfp4", 32, 17},
    [40] = {"nvfp4", 64, 36},    [41] = {"q1_0", 128, 18},    [42] = {"q2_0", 64, 18},
};

const char *cmif_ggml_type_name(uint32_t type)
{
    return type < sizeof ggml_types / sizeof *ggml_types ? ggml_types[type].name : NULL;
}

cmif_code cmif_gguf_tensor_size(uint32_t type, const uint64_t shape[4], uint64_t *out, cmif_err *err)
{
    if (!cmif_ggml_type_name(type)) {
        return cmif_fail(err, CMIF_E_FORMAT, "tensor type %u is unknown: a newer or damaged file", type);
    }
    uint64_t block = ggml_types[type].block;
    if (shape[0] % block) {
        return cmif_fail(err, CMIF_E_FORMAT, "rows of %llu numbers are not whole blocks of %llu (type %s)",
                         (unsigned long long) shape[0], (unsigned long long) block, ggml_types[type].name);
    }
    uint64_t size  = shape[0] / block;
    bool     wraps = __builtin_mul_overflow(size, (uint64_t) ggml_types[type].size, &size);
    uint64_t cells = shape[0]; /* the engine counts numbers in an int64 as well */
    for (size_t i = 1; i < 4; i++) {
        wraps |= __builtin_mul_overflow(size, shape[i], &size);
        wraps |= __builtin_mul_overflow(cells, shape[i], &cells);
    }
    if (wraps || size > INT64_MAX || cells > INT64_MAX) {
        return cmif_fail(err, CMIF_E_FORMAT, "the product of its dimensions does not fit 63 bits");
    }
    *out = size;
    return CMIF_OK;
}

/* Bytes of one fixed-size value; 0 for strings, arrays and unknown types. */
static size_t type_size(uint32_t type)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes ? sizes[type] : 0;
}

/* Names go into messages, logs and look-ups: letters, digits and signs, no blanks, nothing a terminal could obey. */
static bool is_printable(cmif_str s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] <= ' ' || s.data[i] > '~') {
            return false;
        }
    }
    return s.size > 0;
}

static int shown(cmif_str s)
{
    return s.size < SHOWN ? (int) s.size : SHOWN;
}

static int str_compare(cmif_str a, cmif_str b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- the header ---- */

static cmif_code cut_off(const cmif_reader *r, cmif_err *err)
{
    return cmif_fail(err, CMIF_E_FORMAT,
                     "the header goes on past the end of the file (%zu bytes): cut off or damaged, get it again",
                     r->size);
}

/* A length and as many bytes; what is a noun for the message. */
static cmif_code read_str(cmif_reader *r, const char *what, cmif_str *out, cmif_err *err)
{
    size_t   at   = r->at;
    uint64_t size = cmif_read_u64(r);
    if (r->failed) {
        return cut_off(r, err);
    }
    if (size > r->size - r->at) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "%s at byte %zu says it is %llu bytes long, the file has %zu left: cut off or damaged", what,
                         at, (unsigned long long) size, r->size - r->at);
    }
    out->data = (const char *) cmif_read_bytes(r, (size_t) size);
    out->size = (size_t) size;
    return CMIF_OK;
}

static cmif_code read_array(cmif_reader *r, cmif_gguf_value *value, cmif_err *err)
{
    uint32_t item_type = cmif_read_u32(r);
    uint64_t count     = cmif_read_u64(r);
    if (r->failed) {
        return cut_off(r, err);
    }
    if (item_type == CMIF_GGUF_ARRAY) {
        return cmif_fail(err, CMIF_E_FORMAT, "an array of arrays, which GGUF readers refuse");
    }
    if (item_type > CMIF_GGUF_F64) {
        return cmif_fail(err, CMIF_E_FORMAT, "items of type %u; types go from 0 to 12", item_type);
    }
    size_t left = r->size - r->at;
    size_t each = item_type == CMIF_GGUF_STRING ? 8 : type_size(item_type); /* at least */
    if (count > ARRAY_MAX || count > left / each) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "an array says it has %llu items, the file has %zu bytes left: cut off or damaged",
                         (unsigned long long) count, left);
    }
    value->item_type = (cmif_gguf_type) item_type;
    value->count     = count;
    value->data      = r->data + r->at;
    if (item_type != CMIF_GGUF_STRING) {
        (void) cmif_read_bytes(r, (size_t) count * each);
    }
    for (uint64_t i = 0; item_type == CMIF_GGUF_STRING && i < count; i++) {
        cmif_str  item;
        cmif_code rc = read_str(r, "a string of an array", &item, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    value->size = (size_t) (r->data + r->at - value->data);
    return CMIF_OK;
}

static cmif_code read_value(cmif_reader *r, cmif_gguf_value *value, cmif_err *err)
{
    uint32_t type = cmif_read_u32(r);
    if (r->failed) {
        return cut_off(r, err);
    }
    if (type > CMIF_GGUF_F64) {
        return cmif_fail(err, CMIF_E_FORMAT, "a value of type %u; types go from 0 to 12", type);
    }
    value->type      = (cmif_gguf_type) type;
    value->item_type = value->type;
    value->count     = 1;
    if (type == CMIF_GGUF_ARRAY) {
        cmif_code rc = read_array(r, value, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    } else if (type == CMIF_GGUF_STRING) {
        cmif_str  text;
        cmif_code rc = read_str(r, "its string", &text, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        value->data = (const uint8_t *) text.data;
        value->size = text.size;
    } else {
        value->size = type_size(type);
        value->data = cmif_read_bytes(r, value->size);
        if (!value->data) {
            return cut_off(r, err);
        }
    }
    for (size_t i = 0; value->item_type == CMIF_GGUF_BOOL && i < value->count; i++) {
        if (value->data[i] > 1) {
            return cmif_fail(err, CMIF_E_FORMAT, "a truth value of %u; it is 0 or 1", value->data[i]);
        }
    }
    return CMIF_OK;
}

static cmif_code read_entry(cmif_reader *r, size_t index, cmif_gguf_value *value, cmif_err *err)
{
    size_t    at = r->at;
    cmif_code rc = read_str(r, "a key", &value->key, err);
    if (rc == CMIF_OK && (value->key.size > KEY_SIZE_MAX || !is_printable(value->key))) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%zu bytes; a key is 1 to %d printable ASCII letters", value->key.size,
                       KEY_SIZE_MAX);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "key %zu at byte %zu", index, at);
        return rc;
    }
    rc = read_value(r, value, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "key '%.*s'", shown(value->key), value->key.data);
    }
    return rc;
}

/* Everything but where the data lies: offset is still the one the file states, from the start of the data. */
static cmif_code read_info(cmif_reader *r, size_t index, cmif_gguf_tensor *tensor, cmif_err *err)
{
    size_t    at = r->at;
    cmif_code rc = read_str(r, "a name", &tensor->name, err);
    if (rc == CMIF_OK && (tensor->name.size > NAME_SIZE_MAX || !is_printable(tensor->name))) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%zu bytes; a name is 1 to %d printable ASCII letters", tensor->name.size,
                       NAME_SIZE_MAX);
    }
    if (rc != CMIF_OK) {
        cmif_err_context(err, "tensor %zu at byte %zu", index, at);
        return rc;
    }
    tensor->dims = cmif_read_u32(r);
    if (r->failed) {
        rc = cut_off(r, err);
        goto done;
    }
    if (tensor->dims < 1 || tensor->dims > 4) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "%u dimensions; tensors have 1 to 4", tensor->dims);
        goto done;
    }
    for (size_t i = 0; i < 4; i++) {
        tensor->shape[i] = i < tensor->dims ? cmif_read_u64(r) : 1;
        if (!r->failed && tensor->shape[i] == 0) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "dimension %zu is 0", i);
            goto done;
        }
    }
    tensor->type   = cmif_read_u32(r);
    tensor->offset = cmif_read_u64(r);
    if (r->failed) {
        rc = cut_off(r, err);
        goto done;
    }
    rc = cmif_gguf_tensor_size(tensor->type, tensor->shape, &tensor->size, err);
done:
    if (rc != CMIF_OK) {
        cmif_err_context(err, "tensor '%.*s'", shown(tensor->name), tensor->name.data);
    }
    return rc;
}

/* ---- look-ups, and twins ---- */

/* qsort has no room for the file, so pointers to the strings are sorted and turned into indices after. */
typedef struct entry {
    cmif_str name;
    size_t   index;
} entry;

static int entry_compare(const void *a, const void *b)
{
    return str_compare(((const entry *) a)->name, ((const entry *) b)->name);
}

/* Indices of the count entries in order of their names (entries is sorted in place); FORMAT when two are the same. */
static cmif_code sort_names(entry *entries, size_t count, const char *noun, size_t *sorted, cmif_err *err)
{
    qsort(entries, count, sizeof *entries, entry_compare);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = entries[i].index;
        if (i > 0 && str_compare(entries[i - 1].name, entries[i].name) == 0) {
            return cmif_fail(err, CMIF_E_FORMAT, "%s '%.*s' is there twice", noun, shown(entries[i].name),
                             entries[i].name.data);
        }
    }
    return CMIF_OK;
}

static cmif_code index_names(cmif_gguf *file, cmif_err *err)
{
    cmif_code rc      = CMIF_OK;
    size_t    most    = file->value_count > file->tensor_count ? file->value_count : file->tensor_count;
    entry    *entries = calloc(most ? most : 1, sizeof *entries);

    file->values_by_key   = calloc(file->value_count ? file->value_count : 1, sizeof *file->values_by_key);
    file->tensors_by_name = calloc(file->tensor_count ? file->tensor_count : 1, sizeof *file->tensors_by_name);
    if (!entries || !file->values_by_key || !file->tensors_by_name) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for an index of %zu names", most);
        goto done;
    }
    for (size_t i = 0; i < file->value_count; i++) {
        entries[i] = (entry){file->values[i].key, i};
    }
    rc = sort_names(entries, file->value_count, "key", file->values_by_key, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (size_t i = 0; i < file->tensor_count; i++) {
        entries[i] = (entry){file->tensors[i].name, i};
    }
    rc = sort_names(entries, file->tensor_count, "tensor", file->tensors_by_name, err);
done:
    free(entries);
    return rc;
}

const cmif_gguf_value *cmif_gguf_find(const cmif_gguf *file, const char *key)
{
    cmif_str wanted = {key, strlen(key)};
    for (size_t low = 0, high = file->value_count; low < high;) {
        size_t                 middle = low + (high - low) / 2;
        const cmif_gguf_value *value  = &file->values[file->values_by_key[middle]];
        int                    order  = str_compare(value->key, wanted);
        if (order == 0) {
            return value;
        }
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return NULL;
}

const cmif_gguf_tensor *cmif_gguf_find_tensor(const cmif_gguf *file, const char *name)
{
    cmif_str wanted = {name, strlen(name)};
    for (size_t low = 0, high = file->tensor_count; low < high;) {
        size_t                  middle = low + (high - low) / 2;
        const cmif_gguf_tensor *tensor = &file->tensors[file->tensors_by_name[middle]];
        int                     order  = str_compare(tensor->name, wanted);
        if (order == 0) {
            return tensor;
        }
        *(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
    }
    return NULL;
}

/* ---- the whole file ---- */

static cmif_code check_start(cmif_reader *r, cmif_err *err)
{
    const uint8_t *magic = cmif_read_bytes(r, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "not a GGUF file (it does not begin with 'GGUF'): give a model in GGUF format");
    }
    uint32_t version = cmif_read_u32(r);
    if (r->failed) {
        return cut_off(r, err);
    }
    if (version != 0 && (version & 0xffff) == 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "a big-endian GGUF file; only little-endian files are read");
    }
    if (version != VERSION) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "GGUF version %u; only version %d is read: convert the model again with a current tool",
                         version, VERSION);
    }
    return CMIF_OK;
}

static cmif_code check_alignment(cmif_gguf *file, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, "general.alignment");
    file->alignment              = 32;
    if (!value) {
        return CMIF_OK;
    }
    if (value->type != CMIF_GGUF_U32) {
        return cmif_fail(err, CMIF_E_FORMAT, "key 'general.alignment' has type %u; it must be a u32 (4)",
                         (unsigned) value->type);
    }
    cmif_reader r   = cmif_reader_over(value->data, value->size);
    file->alignment = cmif_read_u32(&r);
    if (file->alignment == 0 || (file->alignment & (file->alignment - 1))) {
        return cmif_fail(err, CMIF_E_FORMAT, "alignment %llu; it must be a power of two",
                         (unsigned long long) file->alignment);
    }
    return CMIF_OK;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    uint8_t any = 0;
    for (size_t i = 0; i < size; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

/* Tensors follow each other in the order of the header, each padded to the alignment: no gap, no overlap, no rest. */
static cmif_code place_tensors(cmif_gguf *file, size_t header_size, cmif_err *err)
{
    uint64_t mask = file->alignment - 1;
    uint64_t data = (header_size + mask) & ~mask; /* both are far below 2^63 */
    uint64_t end  = header_size;
    uint64_t next = data; /* where the next tensor must lie */
    for (size_t i = 0; i < file->tensor_count; i++) {
        cmif_gguf_tensor *tensor = &file->tensors[i];
        if (tensor->offset != next - data) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "tensor '%.*s': data at offset %llu, expected %llu: a gap or an overlap",
                             shown(tensor->name), tensor->name.data, (unsigned long long) tensor->offset,
                             (unsigned long long) (next - data));
        }
        if (__builtin_add_overflow(next, tensor->size, &end) || end > file->size) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "tensor '%.*s': %llu bytes of data from byte %llu on, the file has %zu: "
                             "cut off, get it again",
                             shown(tensor->name), tensor->name.data, (unsigned long long) tensor->size,
                             (unsigned long long) next, file->size);
        }
        tensor->offset = next;
        tensor->data   = file->data + next;
        next           = (end + mask) & ~mask;
    }
    uint64_t padded = (end + mask) & ~mask;
    if (file->size != end && file->size != padded) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the data ends at byte %llu, the file has %zu: something else is behind it",
                         (unsigned long long) end, file->size);
    }
    uint64_t begin = data < file->size ? data : file->size;
    if (!is_zero(file->data + header_size, (size_t) begin - header_size) ||
        !is_zero(file->data + end, file->size - (size_t) end)) {
        return cmif_fail(err, CMIF_E_FORMAT, "padding that is not zero");
    }
    return CMIF_OK;
}

static cmif_code read_file(cmif_gguf *file, cmif_err *err)
{
    cmif_reader r  = cmif_reader_over(file->data, file->size);
    cmif_code   rc = check_start(&r, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    uint64_t tensors = cmif_read_u64(&r);
    uint64_t values  = cmif_read_u64(&r);
    if (r.failed) {
        return cut_off(&r, err);
    }
    size_t left = r.size - r.at;
    if (values > left / ENTRY_SIZE_MIN || tensors > left / INFO_SIZE_MIN) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "the header counts %llu keys and %llu tensors, which %zu bytes cannot hold: "
                         "cut off or damaged",
                         (unsigned long long) values, (unsigned long long) tensors, left);
    }
    file->values  = calloc(values ? (size_t) values : 1, sizeof *file->values);
    file->tensors = calloc(tensors ? (size_t) tensors : 1, sizeof *file->tensors);
    if (!file->values || !file->tensors) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %llu keys and %llu tensors", (unsigned long long) values,
                         (unsigned long long) tensors);
    }
    for (; file->value_count < values; file->value_count++) {
        rc = read_entry(&r, file->value_count, &file->values[file->value_count], err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    for (; file->tensor_count < tensors; file->tensor_count++) {
        rc = read_info(&r, file->tensor_count, &file->tensors[file->tensor_count], err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    rc = index_names(file, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    rc = check_alignment(file, err);
    return rc == CMIF_OK ? place_tensors(file, r.at, err) : rc;
}

cmif_code cmif_gguf_open_memory(const void *bytes, size_t size, cmif_gguf **out, cmif_err *err)
{
    cmif_gguf *file = calloc(1, sizeof *file);
    if (!file) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to open a GGUF file");
    }
    file->data   = bytes;
    file->size   = size;
    cmif_code rc = read_file(file, err);
    if (rc == CMIF_OK) {
        *out = file;
        file = NULL;
    }
    cmif_gguf_free(file);
    return rc;
}

cmif_code cmif_gguf_open(const char *path, cmif_gguf **out, cmif_err *err)
{
    cmif_code   rc     = CMIF_OK;
    cmif_gguf  *file   = NULL;
    void       *mapped = MAP_FAILED;
    size_t      size   = 0;
    struct stat info;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us up */
    if (fd < 0 || fstat(fd, &info) != 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode) || info.st_size == 0) {
        rc = cmif_fail(err, CMIF_E_FORMAT, "'%s' is %s: give a model in GGUF format", path,
                       S_ISDIR(info.st_mode)   ? "a folder"
                       : S_ISREG(info.st_mode) ? "an empty file"
                                               : "not a regular file");
        goto done;
    }
    size   = (size_t) info.st_size;
    mapped = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped == MAP_FAILED) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot map the %zu bytes of '%s': %s", size, path, strerror(errno));
        goto done;
    }
    rc = cmif_gguf_open_memory(mapped, size, &file, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "'%s'", path);
        goto done;
    }
    file->mapped = mapped; /* the file unmaps it from now on */
    mapped       = MAP_FAILED;
    *out         = file;
done:
    if (mapped != MAP_FAILED) {
        munmap(mapped, size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

void cmif_gguf_free(cmif_gguf *file)
{
    if (!file) {
        return;
    }
    free(file->values);
    free(file->tensors);
    free(file->values_by_key);
    free(file->tensors_by_name);
    if (file->mapped) {
        munmap(file->mapped, file->size);
    }
    free(file);
}

uint64_t cmif_gguf_alignment(const cmif_gguf *file)
{
    return file->alignment;
}

size_t cmif_gguf_value_count(const cmif_gguf *file)
{
    return file->value_count;
}

const cmif_gguf_value *cmif_gguf_value_at(const cmif_gguf *file, size_t index)
{
    return index < file->value_count ? &file->values[index] : NULL;
}

size_t cmif_gguf_tensor_count(const cmif_gguf *file)
{
    return file->tensor_count;
}

const cmif_gguf_tensor *cmif_gguf_tensor_at(const cmif_gguf *file, size_t index)
{
    return index < file->tensor_count ? &file->tensors[index] : NULL;
}

/* ---- typed look-ups ---- */

static cmif_code wrong_type(const cmif_gguf_value *value, const char *key, const char *expected, cmif_err *err)
{
    if (!value) {
        return cmif_fail(err, CMIF_E_FORMAT, "the file has no key '%s'", key);
    }
    return cmif_fail(err, CMIF_E_FORMAT, "key '%s' is not %s (type %u, items of type %u)", key, expected,
                     (unsigned) value->type, (unsigned) value->item_type);
}

cmif_code cmif_gguf_get_uint(const cmif_gguf *file, const char *key, uint32_t *out, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || value->type == CMIF_GGUF_F32 || value->type == CMIF_GGUF_F64 || value->type == CMIF_GGUF_BOOL ||
        !type_size(value->type)) {
        return wrong_type(value, key, "a whole number", err);
    }
    cmif_reader r      = cmif_reader_over(value->data, value->size);
    uint64_t    number = cmif_read_le(&r, value->size);
    bool        signs  = value->type == CMIF_GGUF_I8 || value->type == CMIF_GGUF_I16 || value->type == CMIF_GGUF_I32 ||
                 value->type == CMIF_GGUF_I64;
    if (number > UINT32_MAX || (signs && number >> (8 * value->size - 1))) {
        return cmif_fail(err, CMIF_E_FORMAT, "key '%s' is outside 0 .. 2^32 - 1", key);
    }
    *out = (uint32_t) number;
    return CMIF_OK;
}

cmif_code cmif_gguf_get_f32(const cmif_gguf *file, const char *key, float *out, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || (value->type != CMIF_GGUF_F32 && value->type != CMIF_GGUF_F64)) {
        return wrong_type(value, key, "a float", err);
    }
    if (value->type == CMIF_GGUF_F32) {
        memcpy(out, value->data, sizeof *out);
    } else {
        double wide;
        memcpy(&wide, value->data, sizeof wide);
        *out = (float) wide;
    }
    return CMIF_OK;
}

cmif_code cmif_gguf_get_bool(const cmif_gguf *file, const char *key, bool *out, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || value->type != CMIF_GGUF_BOOL) {
        return wrong_type(value, key, "a truth value", err);
    }
    *out = value->data[0] != 0;
    return CMIF_OK;
}

cmif_code cmif_gguf_get_str(const cmif_gguf *file, const char *key, cmif_str *out, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || value->type != CMIF_GGUF_STRING) {
        return wrong_type(value, key, "a string", err);
    }
    *out = (cmif_str){(const char *) value->data, value->size};
    return CMIF_OK;
}

cmif_code cmif_gguf_get_hash(const cmif_gguf *file, const char *key, uint8_t *out, cmif_err *err)
{
    const cmif_gguf_value *hex = cmif_gguf_find(file, key);
    if (!hex || hex->type != CMIF_GGUF_STRING) {
        return wrong_type(hex, key, "a string", err);
    }
    if (hex->size != 64 || !cmif_unhex((const char *) hex->data, 32, out)) {
        return cmif_fail(err, CMIF_E_FORMAT, "key '%s' is not 64 hexadecimal digits in lower case", key);
    }
    return CMIF_OK;
}

cmif_code cmif_gguf_get_strs(const cmif_gguf *file, const char *key, cmif_str **items, size_t *count, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || value->type != CMIF_GGUF_ARRAY || value->item_type != CMIF_GGUF_STRING) {
        return wrong_type(value, key, "an array of strings", err);
    }
    cmif_str *strs = calloc(value->count ? (size_t) value->count : 1, sizeof *strs);
    if (!strs) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the %llu strings of '%s'",
                         (unsigned long long) value->count, key);
    }
    cmif_reader r = cmif_reader_over(value->data, value->size);
    for (size_t i = 0; i < value->count; i++) { /* lengths were checked when the file was opened */
        strs[i].size = (size_t) cmif_read_u64(&r);
        strs[i].data = (const char *) cmif_read_bytes(&r, strs[i].size);
    }
    *items = strs;
    *count = (size_t) value->count;
    return CMIF_OK;
}

cmif_code cmif_gguf_get_array(const cmif_gguf *file, const char *key, cmif_gguf_type item_type, const uint8_t **items,
                              size_t *count, cmif_err *err)
{
    const cmif_gguf_value *value = cmif_gguf_find(file, key);
    if (!value || value->type != CMIF_GGUF_ARRAY || value->item_type != item_type || !type_size(item_type)) {
        return wrong_type(value, key, "an array of the type wanted", err);
    }
    *items = value->data;
    *count = (size_t) value->count;
    return CMIF_OK;
}

bool cmif_str_is(cmif_str s, const char *text)
{
    size_t size = strlen(text);
    return s.size == size && memcmp(s.data, text, size) == 0;
}
