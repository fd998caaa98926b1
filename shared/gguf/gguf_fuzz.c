/* Property: what opens can be walked from end to end, every look-up answers or refuses, and what was found at an index
 * is found by its name. */
#include "gguf/gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum; /* so that reading is not optimised away */

static void read_all(const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        sum += ((const uint8_t *) bytes)[i];
    }
}

static void walk_value(const cmif_gguf *file, const cmif_gguf_value *value)
{
    char *key = malloc(value->key.size + 1);
    if (!key) {
        abort();
    }
    memcpy(key, value->key.data, value->key.size);
    key[value->key.size] = 0;
    if (cmif_gguf_find(file, key) != value) {
        abort();
    }
    read_all(value->data, value->size);

    uint32_t       number;
    float          real;
    bool           truth;
    cmif_str       text, *items;
    const uint8_t *numbers;
    size_t         count;
    cmif_err       err;
    if (cmif_gguf_get_uint(file, key, &number, &err) == CMIF_OK) {
        sum += number;
    }
    if (cmif_gguf_get_f32(file, key, &real, &err) == CMIF_OK) {
        read_all(&real, sizeof real);
    }
    if (cmif_gguf_get_bool(file, key, &truth, &err) == CMIF_OK && truth != (value->data[0] == 1)) {
        abort();
    }
    if (cmif_gguf_get_str(file, key, &text, &err) == CMIF_OK) {
        read_all(text.data, text.size);
    }
    if (cmif_gguf_get_strs(file, key, &items, &count, &err) == CMIF_OK) {
        for (size_t i = 0; i < count; i++) {
            read_all(items[i].data, items[i].size);
        }
        free(items);
    }
    if (cmif_gguf_get_array(file, key, value->item_type, &numbers, &count, &err) == CMIF_OK) {
        if (count != value->count) {
            abort();
        }
        read_all(numbers, value->size);
    }
    free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_gguf *file = NULL;
    cmif_err   err;
    if (cmif_gguf_open_memory(data, size, &file, &err) != CMIF_OK) {
        if (file || memchr(err.text, 0, sizeof err.text) == NULL) {
            abort();
        }
        return 0;
    }
    for (size_t i = 0; i < cmif_gguf_value_count(file); i++) {
        walk_value(file, cmif_gguf_value_at(file, i));
    }
    uint64_t end = 0;
    for (size_t i = 0; i < cmif_gguf_tensor_count(file); i++) {
        const cmif_gguf_tensor *tensor = cmif_gguf_tensor_at(file, i);
        char                    name[64];
        memcpy(name, tensor->name.data, tensor->name.size);
        name[tensor->name.size] = 0;
        if (cmif_gguf_find_tensor(file, name) != tensor || tensor->offset < end ||
            tensor->offset % cmif_gguf_alignment(file)) {
            abort();
        }
        end = tensor->offset + tensor->size;
        read_all(tensor->data, (size_t) tensor->size);
    }
    cmif_gguf_free(file);
    return 0;
}
