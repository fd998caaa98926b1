/* wire_samples - for the tests: one frame of each kind, and docs/wire.md, which shows the bytes of each under its label. */
#ifndef CMIF_WIRE_WIRE_SAMPLES_H
#define CMIF_WIRE_WIRE_SAMPLES_H

#include "wire/wire.h"

#include <stdio.h>

typedef struct wire_sample {
    const char *label;
    cmif_frame  frame;
} wire_sample;

#define TIMES_16(n)   n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n
#define BYTES_16(n)   {TIMES_16(n)}
#define BYTES_32(n)   {TIMES_16(n), TIMES_16(n)}
#define SAMPLE_ROWS   ((const uint8_t *) "\x00\x3c\x00\xc0\x00\x38\x00\x00") /* f16: 1 -2, 0.5 0 */
#define SAMPLE_FLOATS ((const uint8_t *) "\x00\x00\x80\x3f\x00\x00\x20\xc0") /* 1 -2.5 */

static const wire_sample wire_samples[] = {
    {"HELLO", {.kind = CMIF_FRAME_HELLO, .hello = {.version = 1, .version_min = 1, .features = 0}}},
    {"WELCOME",
     {.kind    = CMIF_FRAME_WELCOME,
      .welcome = {.version      = 1,
                  .flags        = CMIF_WELCOME_TABLE,
                  .model_id     = BYTES_32(0xa1),
                  .width        = 576,
                  .vocab        = 49152,
                  .context      = 2048,
                  .outputs      = 0,
                  .rows_max     = 512,
                  .idle_seconds = 600,
                  .arch_size    = 5,
                  .arch         = "llama"}}},
    {"OPEN", {.kind = CMIF_FRAME_OPEN, .open = {.handle = BYTES_16(0x5e)}}},
    {"OPENED",
     {.kind = CMIF_FRAME_OPENED, .opened = {.handle = BYTES_16(0x5e), .position = 3, .hash = BYTES_32(0x7b)}}},
    {"BEGIN",
     {.kind  = CMIF_FRAME_BEGIN,
      .begin = {.mode       = CMIF_MODE_GENERATE,
                .row_type   = CMIF_ROWS_F16,
                .flags      = CMIF_BEGIN_MARGIN,
                .position   = 3,
                .hash       = BYTES_32(0x7b),
                .row_count  = 2,
                .max_tokens = 64,
                .step       = 0,
                .sampling   = {.temperature = 0.5f, .top_p = 0.75f, .min_p = 0.25f, .top_k = 40, .seed = 0x123456789abcdef0},
                .stop_count = 2,
                .stops      = {2, 49151}}}},
    {"ROWS", {.kind = CMIF_FRAME_ROWS, .rows = {.first = 3, .count = 2, .bytes = SAMPLE_ROWS, .size = 8}}},
    {"ROWS+pad", {.kind = CMIF_FRAME_ROWS, .pad = 3, .rows = {.first = 3, .count = 2, .bytes = SAMPLE_ROWS, .size = 8}}},
    {"RESET", {.kind = CMIF_FRAME_RESET, .reset = {.reason = CMIF_RESET_EVICTED}}},
    {"PROGRESS", {.kind = CMIF_FRAME_PROGRESS, .progress = {.rows = 4}}},
    {"LOGITS",
     {.kind = CMIF_FRAME_LOGITS, .logits = {.position = 5, .offset = 65536, .count = 2, .bytes = SAMPLE_FLOATS}}},
    {"TOKEN", {.kind = CMIF_FRAME_TOKEN, .token = {.position = 5, .id = 1234, .margin = 0.125f}}},
    {"VECTOR", {.kind = CMIF_FRAME_VECTOR, .vector = {.count = 2, .bytes = SAMPLE_FLOATS}}},
    {"CANCEL", {.kind = CMIF_FRAME_CANCEL}},
    {"DONE",
     {.kind = CMIF_FRAME_DONE,
      .done = {.reason     = CMIF_DONE_LENGTH,
               .position   = 68,
               .tokens     = 64,
               .prefill_us = 70000,
               .decode_us  = 900000,
               .hash       = BYTES_32(0x9c)}}},
    {"CLOSE", {.kind = CMIF_FRAME_CLOSE}},
    {"PING", {.kind = CMIF_FRAME_PING, .ping = {.value = 7}}},
    {"PONG", {.kind = CMIF_FRAME_PONG, .ping = {.value = 7}}},
    {"CHALLENGE", {.kind = CMIF_FRAME_CHALLENGE, .challenge = {.nonce = BYTES_32(0x4e)}}},
    {"EVIDENCE",
     {.kind     = CMIF_FRAME_EVIDENCE,
      .evidence = {.total = 40000, .offset = 39992, .bytes = (const uint8_t *) "CMIFCL01", .size = 8}}},
    {"UNSEAL", {.kind = CMIF_FRAME_UNSEAL, .unseal = {.id = BYTES_32(0x1d)}}},
    {"KEY", {.kind = CMIF_FRAME_KEY, .key = {.key = BYTES_32(0x6b)}}},
    {"ERROR",
     {.kind = CMIF_FRAME_ERROR, .error = {.code = CMIF_WIRE_E_BUSY, .size = 19, .text = "every seat is taken"}}},
};
#define WIRE_SAMPLES (sizeof wire_samples / sizeof *wire_samples)

/* The whole text; "" if it cannot be read. */
static inline const char *wire_document(void)
{
    static char text[1 << 18];
    FILE       *file = fopen(CMIF_SOURCE_DIR "/docs/wire.md", "rb");
    if (file) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
    }
    return text;
}

#endif
