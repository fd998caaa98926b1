#define _GNU_SOURCE /* O_TMPFILE */
#include "base/bytes.h"
#include "gguf/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    PIECE         = 4 << 20, /* bytes asked of a source, and written, at once */
    ENTRIES_MAX   = 65536,   /* keys or tensors: puts look for their twin in a list */
    KEY_SIZE_MAX  = 65535,
    NAME_SIZE_MAX = 63
};

typedef struct out_value {
    cmif_gguf_value value; /* key and data point into bytes */
    char           *bytes;
} out_value;

typedef struct out_tensor {
    char             name[NAME_SIZE_MAX + 1];
    uint32_t         type, dims;
    uint64_t         shape[4];
    uint64_t         size;
    cmif_gguf_source source;
    void            *context;
} out_tensor;

struct cmif_gguf_out {
    out_value  *values;
    size_t      value_count;
    out_tensor *tensors;
    size_t      tensor_count;

    cmif_gguf_filter filter; /* NULL: none */
    void            *filter_context;
};

struct cmif_gguf_staged {
    int   fd;
    char *path;
    char *temporary; /* `path.partial-<pid>` */
    bool  named;     /* temporary exists */
};

/* ---- collecting ---- */

cmif_code cmif_gguf_out_new(cmif_gguf_out **out, cmif_err *err)
{
    cmif_gguf_out *made = calloc(1, sizeof *made);
    if (!made) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a GGUF file to write");
    }
    *out = made;
    return CMIF_OK;
}

void cmif_gguf_out_free(cmif_gguf_out *out)
{
    if (!out) {
        return;
    }
    for (size_t i = 0; i < out->value_count; i++) {
        free(out->values[i].bytes);
    }
    free(out->values);
    free(out->tensors);
    free(out);
}

/* Room for one more at the end of a list of count; arrays double, so the room is there when count is no power of two.
 */
static void *grown(void *list, size_t count, size_t each)
{
    if (count & (count - 1)) {
        return list;
    }
    size_t size;
    return cmif_size_mul(count ? 2 * count : 1, each, &size) ? realloc(list, size) : NULL;
}

static out_value *find(const cmif_gguf_out *out, cmif_str key)
{
    for (size_t i = 0; i < out->value_count; i++) {
        cmif_str other = out->values[i].value.key;
        if (other.size == key.size && memcmp(other.data, key.data, key.size) == 0) {
            return &out->values[i];
        }
    }
    return NULL;
}

const cmif_gguf_value *cmif_gguf_out_find(const cmif_gguf_out *out, const char *key)
{
    const out_value *place = find(out, (cmif_str){key, strlen(key)});
    return place ? &place->value : NULL;
}

cmif_code cmif_gguf_put_value(cmif_gguf_out *out, const cmif_gguf_value *value, cmif_err *err)
{
    size_t key_size = value->key.size;
    if (key_size == 0 || key_size > KEY_SIZE_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "a key of %zu bytes; keys have 1 to %d", key_size, KEY_SIZE_MAX);
    }
    size_t size  = 0;
    char  *bytes = cmif_size_add(key_size, value->size, &size) ? malloc(size) : NULL;
    if (!bytes) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the %zu bytes of key '%.*s'", value->size,
                         key_size < 60 ? (int) key_size : 60, value->key.data);
    }
    memcpy(bytes, value->key.data, key_size);
    if (value->size) {
        memcpy(bytes + key_size, value->data, value->size);
    }
    out_value made  = {*value, bytes};
    made.value.key  = (cmif_str){bytes, key_size};
    made.value.data = (const uint8_t *) bytes + key_size;

    out_value *place = find(out, made.value.key);
    if (place) {
        free(place->bytes);
        *place = made;
        return CMIF_OK;
    }
    out_value *list = out->value_count < ENTRIES_MAX ? grown(out->values, out->value_count, sizeof *list) : NULL;
    if (!list) {
        free(bytes);
        return cmif_fail(err, CMIF_E_MEMORY, "no room for key number %zu (at most %d)", out->value_count + 1,
                         ENTRIES_MAX);
    }
    out->values                     = list;
    out->values[out->value_count++] = made;
    return CMIF_OK;
}

static cmif_code put(cmif_gguf_out *out, const char *key, cmif_gguf_type type, const void *data, size_t size,
                     cmif_err *err)
{
    cmif_gguf_value value = {{key, strlen(key)}, type, type, 1, data, size};
    return cmif_gguf_put_value(out, &value, err);
}

cmif_code cmif_gguf_put_uint(cmif_gguf_out *out, const char *key, uint32_t value, cmif_err *err)
{
    uint8_t     bytes[4];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_u32(&w, value);
    return put(out, key, CMIF_GGUF_U32, bytes, sizeof bytes, err);
}

cmif_code cmif_gguf_put_f32(cmif_gguf_out *out, const char *key, float value, cmif_err *err)
{
    uint8_t     bytes[4];
    cmif_writer w = cmif_writer_over(bytes, sizeof bytes);
    cmif_write_f32(&w, value);
    return put(out, key, CMIF_GGUF_F32, bytes, sizeof bytes, err);
}

cmif_code cmif_gguf_put_bool(cmif_gguf_out *out, const char *key, bool value, cmif_err *err)
{
    uint8_t byte = value;
    return put(out, key, CMIF_GGUF_BOOL, &byte, 1, err);
}

cmif_code cmif_gguf_put_str(cmif_gguf_out *out, const char *key, cmif_str value, cmif_err *err)
{
    return put(out, key, CMIF_GGUF_STRING, value.data, value.size, err);
}

cmif_code cmif_gguf_put_strs(cmif_gguf_out *out, const char *key, const cmif_str *items, size_t count, cmif_err *err)
{
    size_t size = 0;
    bool   fits = cmif_size_mul(count, 8, &size);
    for (size_t i = 0; fits && i < count; i++) {
        fits = cmif_size_add(size, items[i].size, &size);
    }
    uint8_t *bytes = fits ? malloc(size ? size : 1) : NULL;
    if (!bytes) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the %zu strings of key '%s'", count, key);
    }
    cmif_writer w = cmif_writer_over(bytes, size);
    for (size_t i = 0; i < count; i++) {
        cmif_write_u64(&w, items[i].size);
        cmif_write_bytes(&w, items[i].data, items[i].size);
    }
    cmif_gguf_value value = {{key, strlen(key)}, CMIF_GGUF_ARRAY, CMIF_GGUF_STRING, count, bytes, size};
    cmif_code       rc    = cmif_gguf_put_value(out, &value, err);
    free(bytes);
    return rc;
}

cmif_code cmif_gguf_put_array(cmif_gguf_out *out, const char *key, cmif_gguf_type item_type, const void *items,
                              size_t count, cmif_err *err)
{
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    size_t               each    = (unsigned) item_type < sizeof sizes ? sizes[item_type] : 0;
    size_t               size    = 0;
    if (!each || !cmif_size_mul(count, each, &size)) {
        return cmif_fail(err, CMIF_E_RANGE, "key '%s': %zu items of type %u are no array of numbers", key, count,
                         (unsigned) item_type);
    }
    cmif_gguf_value value = {{key, strlen(key)}, CMIF_GGUF_ARRAY, item_type, count, items, size};
    return cmif_gguf_put_value(out, &value, err);
}

void cmif_gguf_remove(cmif_gguf_out *out, const char *key)
{
    out_value *place = find(out, (cmif_str){key, strlen(key)});
    if (place) {
        free(place->bytes);
        size_t after = out->value_count - (size_t) (place - out->values) - 1;
        memmove(place, place + 1, after * sizeof *place);
        out->value_count--;
        /* grown() counts on the list having room for any count up to the next power of two: it still has more. */
    }
}

cmif_code cmif_gguf_put_tensor(cmif_gguf_out *out, const char *name, uint32_t type, uint32_t dims,
                               const uint64_t shape[4], cmif_gguf_source source, void *context, cmif_err *err)
{
    out_tensor made = {.type = type, .dims = dims, .source = source, .context = context};
    size_t     size = strlen(name);
    if (size == 0 || size > NAME_SIZE_MAX || dims < 1 || dims > 4) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "tensor '%.60s': a name of 1 to %d bytes and 1 to 4 dimensions, not %zu and %u", name,
                         NAME_SIZE_MAX, size, dims);
    }
    memcpy(made.name, name, size);
    for (size_t i = 0; i < 4; i++) {
        made.shape[i] = i < dims ? shape[i] : 1;
        if (made.shape[i] == 0) {
            return cmif_fail(err, CMIF_E_RANGE, "tensor '%s': dimension %zu is 0", name, i);
        }
    }
    cmif_code rc = cmif_gguf_tensor_size(type, made.shape, &made.size, err);
    if (rc != CMIF_OK) {
        cmif_err_context(err, "tensor '%s'", name);
        return rc;
    }
    for (size_t i = 0; i < out->tensor_count; i++) {
        if (strcmp(out->tensors[i].name, name) == 0) {
            return cmif_fail(err, CMIF_E_RANGE, "tensor '%s' was put before", name);
        }
    }
    out_tensor *list = out->tensor_count < ENTRIES_MAX ? grown(out->tensors, out->tensor_count, sizeof *list) : NULL;
    if (!list) {
        return cmif_fail(err, CMIF_E_MEMORY, "no room for tensor number %zu (at most %d)", out->tensor_count + 1,
                         ENTRIES_MAX);
    }
    out->tensors                      = list;
    out->tensors[out->tensor_count++] = made;
    return CMIF_OK;
}

/* ---- the header ---- */

static void write_str(cmif_writer *w, cmif_str s)
{
    cmif_write_u64(w, s.size);
    cmif_write_bytes(w, s.data, s.size);
}

static void write_entry(cmif_writer *w, const cmif_gguf_value *value)
{
    write_str(w, value->key);
    cmif_write_u32(w, value->type);
    if (value->type == CMIF_GGUF_ARRAY) {
        cmif_write_u32(w, value->item_type);
        cmif_write_u64(w, value->count);
    } else if (value->type == CMIF_GGUF_STRING) {
        cmif_write_u64(w, value->size);
    }
    cmif_write_bytes(w, value->data, value->size);
}

static uint64_t padded(uint64_t size, uint64_t alignment)
{
    return (size + alignment - 1) & ~(alignment - 1);
}

static void write_header(cmif_writer *w, const cmif_gguf_out *out, uint64_t alignment)
{
    cmif_write_bytes(w, "GGUF", 4);
    cmif_write_u32(w, 3);
    cmif_write_u64(w, out->tensor_count);
    cmif_write_u64(w, out->value_count);
    for (size_t i = 0; i < out->value_count; i++) {
        write_entry(w, &out->values[i].value);
    }
    uint64_t offset = 0;
    for (size_t i = 0; i < out->tensor_count; i++) {
        const out_tensor *tensor = &out->tensors[i];
        write_str(w, (cmif_str){tensor->name, strlen(tensor->name)});
        cmif_write_u32(w, tensor->dims);
        for (uint32_t d = 0; d < tensor->dims; d++) {
            cmif_write_u64(w, tensor->shape[d]);
        }
        cmif_write_u32(w, tensor->type);
        cmif_write_u64(w, offset);
        offset += padded(tensor->size, alignment);
    }
    while (w->at % alignment && !w->failed) {
        cmif_write_u8(w, 0);
    }
}

static cmif_code find_alignment(cmif_gguf_out *out, uint64_t *alignment, cmif_err *err)
{
    const char *key   = "general.alignment";
    out_value  *place = find(out, (cmif_str){key, strlen(key)});
    *alignment        = 32;
    if (!place) {
        return CMIF_OK;
    }
    cmif_reader r     = cmif_reader_over(place->value.data, place->value.size);
    uint64_t    value = cmif_read_u32(&r);
    if (place->value.type != CMIF_GGUF_U32 || value == 0 || value > PIECE || (value & (value - 1))) {
        return cmif_fail(err, CMIF_E_RANGE, "key '%s' must be a u32, a power of two and at most %d", key, PIECE);
    }
    *alignment = value;
    return CMIF_OK;
}

/* ---- writing beside ---- */

void cmif_gguf_staged_free(cmif_gguf_staged *staged)
{
    if (!staged) {
        return;
    }
    if (staged->named) {
        unlink(staged->temporary);
    }
    if (staged->fd >= 0) {
        close(staged->fd);
    }
    free(staged->path);
    free(staged->temporary);
    free(staged);
}

static void link_of(int fd, char link[static 32])
{
    snprintf(link, 32, "/proc/self/fd/%d", fd);
}

/* The folder of path, to be freed. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        return strdup(".");
    }
    return strndup(path, slash == path ? 1 : (size_t) (slash - path));
}

/* A file without a name vanishes with us, whatever ends us; where there is none of that, one with a telling name. */
static cmif_code open_beside(cmif_gguf_staged *staged, cmif_err *err)
{
    char *folder = folder_of(staged->path);
    if (!folder) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a path");
    }
    char link[32];
    staged->fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (staged->fd >= 0) {
        link_of(staged->fd, link);
        if (access(link, F_OK) != 0) { /* without /proc it could never get a name */
            close(staged->fd);
            staged->fd = -1;
        }
    }
    for (int attempt = 0; staged->fd < 0 && attempt < 2; attempt++) {
        staged->fd    = open(staged->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        staged->named = staged->fd >= 0;
        if (staged->fd < 0 && errno != EEXIST) {
            break;
        }
        if (staged->fd < 0) { /* left by a killed process that had our number */
            unlink(staged->temporary);
        }
    }
    cmif_code rc = CMIF_OK;
    if (staged->fd < 0) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot write in folder '%s': %s", folder, strerror(errno));
    }
    free(folder);
    return rc;
}

static uint64_t bytes_free(int fd)
{
    struct statvfs disk;
    if (fstatvfs(fd, &disk) != 0) {
        return UINT64_MAX;
    }
    uint64_t size;
    return __builtin_mul_overflow((uint64_t) disk.f_bavail, (uint64_t) disk.f_frsize, &size) ? UINT64_MAX : size;
}

/* One sentence for a write that failed with number; total is what the whole file needs. */
static cmif_code no_room(const cmif_gguf_staged *staged, int number, uint64_t total, cmif_err *err)
{
    if (number == EFBIG) {
        return cmif_fail(err, CMIF_E_IO,
                         "'%s' needs %llu bytes, more than the file size limit here (ulimit -f) or the file "
                         "system allows",
                         staged->path, (unsigned long long) total);
    }
    if (number == ENOSPC || number == EDQUOT) {
        uint64_t here =
            (uint64_t) lseek(staged->fd, 0, SEEK_CUR); /* what we took already counts as free to begin with */
        return cmif_fail(
            err, CMIF_E_IO, "'%s' needs %llu bytes, the disk has about %llu free: make room or choose another folder",
            staged->path, (unsigned long long) total, (unsigned long long) (bytes_free(staged->fd) + here));
    }
    return cmif_fail(err, CMIF_E_IO, "cannot write '%s': %s", staged->path, strerror(number));
}

typedef struct writing {
    cmif_gguf_staged  *staged;
    uint64_t           done, total; /* bytes of the file, holes included */
    cmif_gguf_progress progress;
    void              *context;
    cmif_gguf_filter   filter;
    void              *filter_context;
} writing;

/* What the file holds. to: the writing. */
static cmif_code write_out(void *to, const uint8_t *bytes, size_t size, cmif_err *err)
{
    const writing *w = to;
    while (size > 0) {
        ssize_t n = write(w->staged->fd, bytes, size < PIECE ? size : PIECE);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return no_room(w->staged, n < 0 ? errno : ENOSPC, w->total, err);
        }
        bytes += n;
        size -= (size_t) n;
    }
    return CMIF_OK;
}

static cmif_code write_all(writing *w, const uint8_t *bytes, size_t size, cmif_err *err)
{
    cmif_code rc = w->filter ? w->filter(w->filter_context, w->total, bytes, size, write_out, w, err)
                             : write_out(w, bytes, size, err);
    w->done += size;
    if (rc == CMIF_OK && w->progress && !w->progress(w->context, w->done, w->total)) {
        rc = cmif_fail(err, CMIF_E_CANCELLED, "stopped; nothing was written");
    }
    return rc;
}

static cmif_code write_hole(writing *w, uint64_t size, cmif_err *err)
{
    static const uint8_t zeros[1 << 16];
    while (w->filter && size > 0) { /* what is not zero any more leaves no hole */
        const size_t    take = size < sizeof zeros ? (size_t) size : sizeof zeros;
        const cmif_code rc   = write_all(w, zeros, take, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        size -= take;
    }
    if (size && lseek(w->staged->fd, (off_t) size, SEEK_CUR) < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot leave a hole of %llu bytes in '%s': %s", (unsigned long long) size,
                         w->staged->path, strerror(errno));
    }
    w->done += size;
    return CMIF_OK;
}

static cmif_code write_tensor(writing *w, const out_tensor *tensor, uint64_t alignment, uint8_t *buffer, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (uint64_t at = 0; tensor->source && at < tensor->size && rc == CMIF_OK;) {
        size_t size = tensor->size - at < PIECE ? (size_t) (tensor->size - at) : PIECE;
        rc          = tensor->source(tensor->context, at, buffer, size, err);
        if (rc != CMIF_OK) {
            cmif_err_context(err, "tensor '%s'", tensor->name);
            return rc;
        }
        rc = write_all(w, buffer, size, err);
        at += size;
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    return write_hole(w, padded(tensor->size, alignment) - (tensor->source ? tensor->size : 0), err);
}

/* What the file will be long, and what of that is not a hole. */
static cmif_code measure(const cmif_gguf_out *out, uint64_t alignment, uint64_t *header, uint64_t *total,
                         uint64_t *solid, cmif_err *err)
{
    uint64_t size = 24;
    for (size_t i = 0; i < out->value_count; i++) {
        size += 8 + 4 + 4 + 8 + out->values[i].value.key.size + out->values[i].value.size; /* at most */
    }
    for (size_t i = 0; i < out->tensor_count; i++) {
        size += 8 + NAME_SIZE_MAX + 4 + 32 + 4 + 8;
    }
    *header = padded(size, alignment); /* room enough; the exact size is known once it is written */
    *total = *solid = *header;
    for (size_t i = 0; i < out->tensor_count; i++) {
        if (out->tensors[i].size > INT64_MAX / 2 - *total) {
            return cmif_fail(err, CMIF_E_RANGE, "the tensors together are larger than a file can be");
        }
        *total += padded(out->tensors[i].size, alignment);
        *solid += out->tensors[i].source ? padded(out->tensors[i].size, alignment) : 0;
    }
    return CMIF_OK;
}

static cmif_code write_file(cmif_gguf_out *out, writing *w, cmif_err *err)
{
    uint64_t  alignment, room, solid;
    uint8_t  *header = NULL, *buffer = NULL;
    cmif_code rc = find_alignment(out, &alignment, err);
    if (rc == CMIF_OK) {
        rc = measure(out, alignment, &room, &w->total, &solid, err);
    }
    if (rc != CMIF_OK) {
        goto done;
    }
    uint64_t disk = bytes_free(w->staged->fd);
    if (solid > disk) {
        rc = cmif_fail(err, CMIF_E_IO,
                       "'%s' needs %llu bytes, the disk has %llu free: make room or choose another folder",
                       w->staged->path, (unsigned long long) solid, (unsigned long long) disk);
        goto done;
    }
    header = malloc((size_t) room);
    buffer = malloc(PIECE);
    if (!header || !buffer) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a header of %llu bytes", (unsigned long long) room);
        goto done;
    }
    cmif_writer writer = cmif_writer_over(header, (size_t) room);
    write_header(&writer, out, alignment);
    w->total -= room - writer.at;
    rc = write_all(w, header, writer.at, err);
    for (size_t i = 0; i < out->tensor_count && rc == CMIF_OK; i++) {
        rc = write_tensor(w, &out->tensors[i], alignment, buffer, err);
    }
    if (rc == CMIF_OK && !w->filter &&
        ftruncate(w->staged->fd, (off_t) w->total) != 0) { /* a hole at the end counts only now */
        rc = no_room(w->staged, errno, w->total, err);
    }
    if (rc == CMIF_OK && (fsync(w->staged->fd) != 0)) {
        rc = no_room(w->staged, errno, w->total, err);
    }
done:
    free(header);
    free(buffer);
    return rc;
}

void cmif_gguf_put_through(cmif_gguf_out *out, cmif_gguf_filter filter, void *context)
{
    out->filter         = filter;
    out->filter_context = context;
}

cmif_code cmif_gguf_stage(cmif_gguf_out *out, const char *path, cmif_gguf_progress progress, void *context,
                          cmif_gguf_staged **staged, cmif_err *err)
{
    cmif_code         rc   = CMIF_OK;
    size_t            size = strlen(path) + 32;
    cmif_gguf_staged *made = calloc(1, sizeof *made);
    if (!made) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to write '%s'", path);
    }
    made->fd        = -1;
    made->path      = strdup(path);
    made->temporary = malloc(size);
    if (!made->path || !made->temporary) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to write '%s'", path);
        goto done;
    }
    snprintf(made->temporary, size, "%s.partial-%ld", path, (long) getpid());
    rc = open_beside(made, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    writing w = {.staged         = made,
                 .progress       = progress,
                 .context        = context,
                 .filter         = out->filter,
                 .filter_context = out->filter_context};
    rc        = write_file(out, &w, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    *staged = made;
    made    = NULL;
done:
    cmif_gguf_staged_free(made);
    return rc;
}

/* A name beside its own, where it has none yet. */
static cmif_code give_temporary_name(cmif_gguf_staged *staged, cmif_err *err)
{
    for (int attempt = 0; !staged->named && attempt < 2; attempt++) {
        char link[32];
        link_of(staged->fd, link);
        staged->named = linkat(AT_FDCWD, link, AT_FDCWD, staged->temporary, AT_SYMLINK_FOLLOW) == 0;
        if (!staged->named && (errno != EEXIST || unlink(staged->temporary) != 0)) {
            break;
        }
    }
    return staged->named ? CMIF_OK
                         : cmif_fail(err, CMIF_E_IO, "cannot give '%s' its name: %s", staged->path, strerror(errno));
}

cmif_code cmif_gguf_commit(cmif_gguf_staged *const *staged, size_t count, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        rc = give_temporary_name(staged[i], err);
    }
    for (size_t i = 0; rc == CMIF_OK && i < count;
         i++) { /* with nothing between: a kill finds all or none, but for luck */
        if (rename(staged[i]->temporary, staged[i]->path) != 0) {
            rc = cmif_fail(err, CMIF_E_IO, "cannot give '%s' its name: %s", staged[i]->path, strerror(errno));
        }
        staged[i]->named = staged[i]->named && rc != CMIF_OK;
    }
    for (size_t i = 0; rc == CMIF_OK && i < count;
         i++) { /* the names should last: best effort, the data is safe already */
        char *folder = folder_of(staged[i]->path);
        int   fd     = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        if (fd >= 0) {
            (void) !fsync(fd);
            close(fd);
        }
        free(folder);
    }
    return rc;
}

cmif_code cmif_gguf_write(cmif_gguf_out *out, const char *path, cmif_gguf_progress progress, void *context,
                          cmif_err *err)
{
    cmif_gguf_staged *staged = NULL;
    cmif_code         rc     = cmif_gguf_stage(out, path, progress, context, &staged, err);
    if (rc == CMIF_OK) {
        rc = cmif_gguf_commit(&staged, 1, err);
    }
    cmif_gguf_staged_free(staged);
    return rc;
}
