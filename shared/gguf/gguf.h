/* gguf - a strict reader of GGUF v3 files, and a writer.
 *
 * The reader believes nothing: every length is checked against the file before it is used, and a file that breaks any
 * rule of the format (duplicate keys or tensors, gaps, overlaps, trailing bytes, nested arrays, ...) is refused whole.
 *
 * Source  the GGUF specification, version 3, little-endian. */
#ifndef CMIF_GGUF_GGUF_H
#define CMIF_GGUF_GGUF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cmif_gguf_type { /* of a value */
    CMIF_GGUF_U8 = 0, CMIF_GGUF_I8, CMIF_GGUF_U16, CMIF_GGUF_I16, CMIF_GGUF_U32, CMIF_GGUF_I32, CMIF_GGUF_F32,
    CMIF_GGUF_BOOL, CMIF_GGUF_STRING, CMIF_GGUF_ARRAY, CMIF_GGUF_U64, CMIF_GGUF_I64, CMIF_GGUF_F64
} cmif_gguf_type;

/* Tensor types that we name; the reader knows block and byte sizes of every type of the pinned engine. */
enum { CMIF_GGML_F32 = 0, CMIF_GGML_F16 = 1, CMIF_GGML_Q8_0 = 8, CMIF_GGML_BF16 = 30 };

typedef struct cmif_str { /* borrowed from the file; not terminated */
    const char *data;
    size_t      size;
} cmif_str;

typedef struct cmif_gguf_value {
    cmif_str       key;
    cmif_gguf_type type;
    cmif_gguf_type item_type; /* of an array's items */
    uint64_t       count;     /* 1, or an array's items */
    const uint8_t *data;      /* first byte of the value, of a string's bytes, or of an array's first item */
    size_t         size;      /* bytes from data on */
} cmif_gguf_value;

typedef struct cmif_gguf_tensor {
    cmif_str       name;
    uint32_t       type;     /* ggml type number */
    uint32_t       dims;     /* 1..4 */
    uint64_t       shape[4]; /* fastest first, as GGUF lists them; unused dimensions are 1 */
    uint64_t       offset;   /* from the start of the file */
    uint64_t       size;     /* bytes, without padding */
    const uint8_t *data;
} cmif_gguf_tensor;

typedef struct cmif_gguf cmif_gguf;

/* Open and check the whole header of the file at path (mapped read-only; tensor data is not read).
 *   out  owned by the caller on success (cmif_gguf_free); untouched on failure
 * Errors: IO (cannot open or map), FORMAT (a rule is broken: which, where, expected and found), MEMORY. */
CMIF_MUST_USE cmif_code cmif_gguf_open(const char *path, cmif_gguf **out, cmif_err *err);
/* The same over bytes the caller keeps alive. */
CMIF_MUST_USE cmif_code cmif_gguf_open_memory(const void *bytes, size_t size, cmif_gguf **out, cmif_err *err);
void                    cmif_gguf_free(cmif_gguf *file); /* NULL is welcome */

uint64_t                cmif_gguf_alignment(const cmif_gguf *file);
size_t                  cmif_gguf_value_count(const cmif_gguf *file);
const cmif_gguf_value  *cmif_gguf_value_at(const cmif_gguf *file, size_t index);
const cmif_gguf_value  *cmif_gguf_find(const cmif_gguf *file, const char *key); /* NULL: no such key */
size_t                  cmif_gguf_tensor_count(const cmif_gguf *file);
const cmif_gguf_tensor *cmif_gguf_tensor_at(const cmif_gguf *file, size_t index);
const cmif_gguf_tensor *cmif_gguf_find_tensor(const cmif_gguf *file, const char *name); /* NULL: no such tensor */

/* Typed look-ups. A key that is absent, or not of a fitting type, is a FORMAT error that names it; out is untouched then.
 * _uint takes any non-negative integer type that fits 32 bits; _str a string; _bool a bool; _f32 f32 or f64. */
CMIF_MUST_USE cmif_code cmif_gguf_get_uint(const cmif_gguf *file, const char *key, uint32_t *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_get_f32(const cmif_gguf *file, const char *key, float *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_get_bool(const cmif_gguf *file, const char *key, bool *out, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_get_str(const cmif_gguf *file, const char *key, cmif_str *out, cmif_err *err);
/* A string of 64 hexadecimal digits as out [32]. */
CMIF_MUST_USE cmif_code cmif_gguf_get_hash(const cmif_gguf *file, const char *key, uint8_t *out, cmif_err *err);
/* An array of strings: *items (malloc'd, the caller frees it with free()) holds *count borrowed strings. */
CMIF_MUST_USE cmif_code cmif_gguf_get_strs(const cmif_gguf *file, const char *key, cmif_str **items, size_t *count,
                                           cmif_err *err);
/* An array of numbers of exactly item_type: *items borrowed, possibly unaligned; read items with memcpy. */
CMIF_MUST_USE cmif_code cmif_gguf_get_array(const cmif_gguf *file, const char *key, cmif_gguf_type item_type,
                                            const uint8_t **items, size_t *count, cmif_err *err);

bool cmif_str_is(cmif_str s, const char *text);

/* Bytes of a tensor of this ggml type and shape; FORMAT when the type is unknown or a row is not whole blocks. */
CMIF_MUST_USE cmif_code cmif_gguf_tensor_size(uint32_t type, const uint64_t shape[4], uint64_t *out, cmif_err *err);
const char             *cmif_ggml_type_name(uint32_t type); /* "q8_0"; NULL: unknown */

/* ---- writing ---- collect values and tensors, then write beside `path` and rename over it: a full disk, a signal or
 * an error leaves no half-written file under the final name. */
typedef struct cmif_gguf_out cmif_gguf_out;

/* Produce tensor bytes [offset, offset + size) into buffer; called in order, in pieces of at most 4 MiB. */
typedef cmif_code (*cmif_gguf_source)(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err);
/* done of total bytes are written; return false to stop (CANCELLED). */
typedef bool (*cmif_gguf_progress)(void *context, uint64_t done, uint64_t total);

CMIF_MUST_USE cmif_code cmif_gguf_out_new(cmif_gguf_out **out, cmif_err *err);
void                    cmif_gguf_out_free(cmif_gguf_out *out);
/* Each put replaces an earlier value of the same key. Values and strings are copied. */
CMIF_MUST_USE cmif_code cmif_gguf_put_value(cmif_gguf_out *out, const cmif_gguf_value *value, cmif_err *err); /* a copy */
CMIF_MUST_USE cmif_code cmif_gguf_put_uint(cmif_gguf_out *out, const char *key, uint32_t value, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_put_f32(cmif_gguf_out *out, const char *key, float value, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_put_bool(cmif_gguf_out *out, const char *key, bool value, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_put_str(cmif_gguf_out *out, const char *key, cmif_str value, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_put_strs(cmif_gguf_out *out, const char *key, const cmif_str *items, size_t count,
                                           cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_put_array(cmif_gguf_out *out, const char *key, cmif_gguf_type item_type,
                                            const void *items, size_t count, cmif_err *err);
void                    cmif_gguf_remove(cmif_gguf_out *out, const char *key);
/* What was put under key, or NULL; borrowed until the next put or remove. */
const cmif_gguf_value  *cmif_gguf_out_find(const cmif_gguf_out *out, const char *key);
/* source NULL writes zeros (a hole where the file system can). context is borrowed until the write. */
CMIF_MUST_USE cmif_code cmif_gguf_put_tensor(cmif_gguf_out *out, const char *name, uint32_t type, uint32_t dims,
                                             const uint64_t shape[4], cmif_gguf_source source, void *context,
                                             cmif_err *err);
/* What stands between the writer and its file, as seal/seal.h does: it gets all bytes in order, holes as zeros, `total` in all, and emits what the file holds. */
typedef cmif_code (*cmif_gguf_emit)(void *to, const uint8_t *bytes, size_t size, cmif_err *err);
typedef cmif_code (*cmif_gguf_filter)(void *context, uint64_t total, const uint8_t *bytes, size_t size, cmif_gguf_emit emit, void *to, cmif_err *err);
void cmif_gguf_put_through(cmif_gguf_out *out, cmif_gguf_filter filter, void *context); /* context is borrowed until the write */
/* Errors: IO (the folder, the disk: with bytes needed and free), CANCELLED, MEMORY, and what a source or filter returns. */
CMIF_MUST_USE cmif_code cmif_gguf_write(cmif_gguf_out *out, const char *path, cmif_gguf_progress progress,
                                        void *context, cmif_err *err);

/* The same in two steps, for files that belong together: stage all of them, which does everything that can go wrong,
 * then give each its name. A staged file has no name where the file system allows it (O_TMPFILE), otherwise
 * `path.partial-<pid>`. A process that is killed while names are given may leave some of them: each file under its name is whole. */
typedef struct cmif_gguf_staged cmif_gguf_staged;
CMIF_MUST_USE cmif_code cmif_gguf_stage(cmif_gguf_out *out, const char *path, cmif_gguf_progress progress,
                                        void *context, cmif_gguf_staged **staged, cmif_err *err);
CMIF_MUST_USE cmif_code cmif_gguf_commit(cmif_gguf_staged *const *staged, size_t count, cmif_err *err);
void                    cmif_gguf_staged_free(cmif_gguf_staged *staged); /* NULL is welcome; gone if not committed */

#endif
