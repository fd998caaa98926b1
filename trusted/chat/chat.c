#include "chat/chat.h"

#include "dp/released_ids.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What stands between two neighbours, as untrusted/model/chatcut.h cuts it. */
enum { START_USER = 0, START_SYSTEM, SYSTEM_USER, USER_ASSISTANT, ASSISTANT_USER, USER_END, PIECES };

static const char *const piece_keys[PIECES] = {"cmif.chat.start_user",     "cmif.chat.start_system",
                                               "cmif.chat.system_user",    "cmif.chat.user_assistant",
                                               "cmif.chat.assistant_user", "cmif.chat.user_end"};

/* What cmif.chat.trim strips from one side of a content, by its two bits. White space is " \t\n\v\f\r". */
enum { TRIM_NOTHING = 0, TRIM_SPACE, TRIM_LINES, TRIM_KINDS };

struct cmif_chat {
    cmif_tokenizer *tokenizer;
    cmif_str        pieces[PIECES];
    cmif_str        no_system; /* why the template takes no system message; empty: it takes one */
    uint32_t        trim;
    bool            drops_thinking;
    bool            begins[PIECES]; /* the piece begins with what cmif_tokenizer_put_start puts: not twice, then */
};

/* ---- opening ---- */

static cmif_code piece_begins(const cmif_chat *chat, cmif_str piece, bool *out, cmif_err *err)
{
    cmif_ids  start = {0}, ids = {0};
    cmif_part part = {.literal = piece};

    cmif_code rc = cmif_tokenizer_put_start(chat->tokenizer, &start, err);
    if (rc == CMIF_OK) {
        rc = cmif_tokenizer_encode(chat->tokenizer, &part, 1, &ids, err);
    }
    if (rc == CMIF_OK) {
        *out = start.count == 1 && ids.count > 0 && ids.at[0] == start.at[0];
    }
    cmif_ids_free(&ids);
    cmif_ids_free(&start);
    return rc;
}

static cmif_code keys_read(const cmif_gguf *file, cmif_chat *chat, cmif_err *err)
{
    cmif_code rc = CMIF_OK;

    for (size_t i = 0; i < PIECES; i++) {
        rc = cmif_gguf_get_str(file, piece_keys[i], &chat->pieces[i], err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    rc = cmif_gguf_get_uint(file, "cmif.chat.trim", &chat->trim, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    for (uint32_t sides = chat->trim, side = 0; side < 6 || sides; side++, sides >>= 2) {
        if (side >= 6 || (sides & 3) >= TRIM_KINDS) {
            return cmif_fail(err, CMIF_E_FORMAT, "cmif.chat.trim is %u, which names something we cannot strip",
                             chat->trim);
        }
    }
    if (cmif_gguf_find(file, "cmif.chat.no_system")) {
        rc = cmif_gguf_get_str(file, "cmif.chat.no_system", &chat->no_system, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    return cmif_gguf_get_bool(file, "cmif.chat.drops_thinking", &chat->drops_thinking, err);
}

cmif_code cmif_chat_open(const cmif_gguf *file, cmif_tokenizer *tokenizer, cmif_chat **out, cmif_err *err)
{
    cmif_code  rc   = CMIF_OK;
    cmif_chat *chat = NULL;
    cmif_str   refused;

    if (cmif_gguf_find(file, "cmif.chat.refused")) {
        rc = cmif_gguf_get_str(file, "cmif.chat.refused", &refused, err);
        if (rc == CMIF_OK) {
            rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "no chat with this model, raw text only: %.*s",
                           (int) (refused.size < 200 ? refused.size : 200), refused.data);
        }
        goto done;
    }
    if (!cmif_gguf_find(file, piece_keys[START_USER])) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED,
                       "no chat with this file, raw text only: it has no keys cmif.chat.*; "
                       "split the model again to get them");
        goto done;
    }
    chat = calloc(1, sizeof *chat);
    if (!chat) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for the chat pieces");
        goto done;
    }
    chat->tokenizer = tokenizer;
    rc              = keys_read(file, chat, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    for (size_t i = START_USER; i <= START_SYSTEM; i++) {
        rc = piece_begins(chat, chat->pieces[i], &chat->begins[i], err);
        if (rc != CMIF_OK) {
            goto done;
        }
    }
    *out = chat;
    chat = NULL;
done:
    cmif_chat_free(chat);
    return rc;
}

void cmif_chat_free(cmif_chat *chat)
{
    free(chat); /* the pieces are the file's */
}

/* ---- rendering ---- */

static cmif_code order_check(const cmif_chat *chat, const cmif_message *messages, size_t count, cmif_err *err)
{
    bool system = count > 0 && messages[0].role == CMIF_ROLE_SYSTEM;
    for (size_t i = system ? 1 : 0; i < count; i++) {
        cmif_role expected = (i - (system ? 1 : 0)) % 2 ? CMIF_ROLE_ASSISTANT : CMIF_ROLE_USER;
        if (messages[i].role != expected) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "message %zu of %zu must be the %s's: at most one system message, the first; "
                             "then user and assistant in turn",
                             i + 1, count, expected == CMIF_ROLE_USER ? "user" : "assistant");
        }
    }
    if (count == 0 || messages[count - 1].role != CMIF_ROLE_USER) {
        return cmif_fail(err, CMIF_E_RANGE, "the last message of a conversation must be the user's");
    }
    if (system && chat->no_system.size) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "no system message with this model, put it before the first question: %.*s",
                         (int) (chat->no_system.size < 150 ? chat->no_system.size : 150), chat->no_system.data);
    }
    return CMIF_OK;
}

static int piece_before(const cmif_message *messages, size_t i)
{
    if (i == 0) {
        return messages[0].role == CMIF_ROLE_SYSTEM ? START_SYSTEM : START_USER;
    }
    if (messages[i].role == CMIF_ROLE_ASSISTANT) {
        return USER_ASSISTANT;
    }
    return messages[i - 1].role == CMIF_ROLE_SYSTEM ? SYSTEM_USER : ASSISTANT_USER;
}

static bool strips(uint32_t kind, uint8_t c)
{
    return kind == TRIM_SPACE ? c == ' ' || (c >= '\t' && c <= '\r') : kind == TRIM_LINES && c == '\n';
}

/* The part of a message's text that the template would keep. */
static cmif_part content_part(const cmif_chat *chat, const cmif_message *message)
{
    static const char end_of_thinking[] = "</think>";
    const size_t      end_size          = sizeof end_of_thinking - 1;

    size_t         to, from = 0;
    const uint8_t *bytes = cmif_released_bytes(message->text, &to);
    uint32_t       sides = chat->trim >> 4 * (unsigned) message->role;
    uint32_t       left = sides & 3, right = sides >> 2 & 3;

    if (chat->drops_thinking && message->role == CMIF_ROLE_ASSISTANT) {
        for (size_t at = to; at >= end_size; at--) {
            if (memcmp(bytes + at - end_size, end_of_thinking, end_size) == 0) {
                from = at;
                left = TRIM_SPACE; /* what stands between a thought and the answer is no part of either */
                break;
            }
        }
    }
    while (from < to && strips(left, bytes[from])) {
        from++;
    }
    while (to > from && strips(right, bytes[to - 1])) {
        to--;
    }
    return (cmif_part){.text = message->text, .from = from, .size = to - from};
}

cmif_code cmif_chat_render(const cmif_chat *chat, const cmif_message *messages, size_t count, cmif_ids *ids,
                           cmif_err *err)
{
    cmif_part *parts     = NULL;
    size_t     was_count = ids->count;

    cmif_code rc = order_check(chat, messages, count, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    parts = calloc(count + 1, 2 * sizeof *parts); /* a piece before each message, and one at the end */
    if (!parts) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a conversation of %zu messages", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        parts[2 * i]     = (cmif_part){.literal = chat->pieces[piece_before(messages, i)]};
        parts[2 * i + 1] = content_part(chat, &messages[i]);
    }
    parts[2 * count] = (cmif_part){.literal = chat->pieces[USER_END]};
    if (!chat->begins[piece_before(messages, 0)]) {
        rc = cmif_tokenizer_put_start(chat->tokenizer, ids, err);
        if (rc != CMIF_OK) {
            goto done;
        }
    }
    rc = cmif_tokenizer_encode(chat->tokenizer, parts, 2 * count + 1, ids, err);
done:
    if (rc != CMIF_OK) {
        cmif_ids_truncate(ids, was_count);
    }
    free(parts);
    return rc;
}
