#include "cmif_leak.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_MOST = 192, WORD_LEAST = 3 };

static const char before[] =
    "Some words of a text were replaced by other words of the same kind. Guess the text as it was. "
    "Answer with the text alone.\n\n";

/* ---- asking ---- */

typedef struct asking {
    const cmif_client *client;
    const int32_t     *stops;
    size_t             stop_count;
    cmif_secret       *answer;
    cmif_code          rc;
    cmif_err           err;
} asking;

static bool on_token(void *context, int32_t id, float margin, const float *logits)
{
    asking *a = context;
    char    text[512];
    (void) margin;
    (void) logits;
    for (size_t i = 0; i < a->stop_count; i++) {
        if (a->stops[i] == id) {
            return true;
        }
    }
    size_t size = cmif_tokenizer_decode(a->client->tokenizer, id, false, text, sizeof text);
    a->rc       = cmif_secret_append(a->answer, text, size, &a->err);
    return a->rc == CMIF_OK && !cmif_interrupted;
}

static cmif_code ask(cmif_client *c, const cmif_rebuild_text *t, cmif_secret *answer, cmif_err *err)
{
    asking         a        = {.client = c, .answer = answer};
    cmif_secret    prompt   = {0};
    cmif_released *released = NULL;
    cmif_ids       ids      = {0};
    cmif_usage     usage    = {0};
    cmif_code      rc       = cmif_secret_append(&prompt, before, sizeof before - 1, err);
    rc                      = rc == CMIF_OK ? cmif_secret_append(&prompt, t->released, t->released_size, err) : rc;
    rc = rc == CMIF_OK ? cmif_guard_release(&c->guard, &prompt, &released, NULL, err) : rc; /* policy none */
    if (rc == CMIF_OK && c->chat) {
        rc = cmif_chat_render(c->chat, &(cmif_message){CMIF_ROLE_USER, released}, 1, &ids, err);
    } else if (rc == CMIF_OK) {
        rc = cmif_tokenizer_put_start(c->tokenizer, &ids, err);
        rc = rc == CMIF_OK ? cmif_client_encode(c, released, &ids, err) : rc;
    }
    if (rc == CMIF_OK) {
        a.stop_count = cmif_tokenizer_stops(c->tokenizer, &a.stops);
        a.stop_count = a.stop_count < CMIF_WIRE_STOPS_MAX ? a.stop_count : CMIF_WIRE_STOPS_MAX;
        rc           = cmif_session_generate(c->session, &ids, false,
                                             &(cmif_generation){.sampling   = {.top_p = 1},
                                                                .max_tokens = ANSWER_MOST,
                                                                .stops      = a.stops,
                                                                .stop_count = a.stop_count,
                                                                .on_token   = on_token,
                                                                .context    = &a},
                                             &usage, err);
    }
    if (a.rc != CMIF_OK) {
        rc   = a.rc;
        *err = a.err;
    }
    cmif_ids_free(&ids);
    cmif_released_free(released);
    cmif_secret_wipe(&prompt);
    return rc;
}

/* ---- scoring ---- */

static bool in_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char) c >= 0x80;
}

static bool same(const char *a, const char *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char x = a[i] >= 'A' && a[i] <= 'Z' ? (char) (a[i] | 0x20) : a[i];
        char y = b[i] >= 'A' && b[i] <= 'Z' ? (char) (b[i] | 0x20) : b[i];
        if (x != y) {
            return false;
        }
    }
    return true;
}

/* Where a word stands in a text, as a word of its own; size: nowhere. */
static size_t find(const char *text, size_t size, const char *word, size_t word_size)
{
    for (size_t at = 0, end; at < size; at = end + 1) {
        for (end = at; end < size && in_word(text[end]); end++) {
        }
        if (end - at == word_size && same(text + at, word, word_size)) {
            return at;
        }
    }
    return size;
}

/* Each different word of the original that the release lacks: does the answer hold it? And the answer about another
 * text? */
static void score(const cmif_rebuild_text *t, const cmif_secret *answer, const cmif_secret *other, cmif_rebuilt *out)
{
    for (size_t at = 0, end; at < t->size; at = end + 1) {
        for (end = at; end < t->size && in_word(t->text[end]); end++) {
        }
        const char  *word = t->text + at;
        const size_t size = end - at;
        if (size >= WORD_LEAST && find(t->text, t->size, word, size) == at &&
            find(t->released, t->released_size, word, size) == t->released_size) {
            out->words++;
            out->named += answer->size && find((const char *) answer->data, answer->size, word, size) < answer->size;
            out->by_chance += other->size && find((const char *) other->data, other->size, word, size) < other->size;
        }
    }
    cmif_attack_verbatim(&out->found, t->text, t->entities, t->entity_count,
                         answer->size ? (const char *) answer->data : "", answer->size);
}

cmif_code cmif_rebuild(const char *model, const cmif_rebuild_text *texts, size_t count, cmif_rebuilt *out,
                       cmif_err *err)
{
    cmif_client_options where   = CMIF_CLIENT_DEFAULTS;
    cmif_client         client  = {0};
    cmif_rebuilt        found   = {.texts = count};
    cmif_secret        *answers = calloc(count ? count : 1, sizeof *answers);
    cmif_secret         none    = {0};
    char                status[64];
    where.model        = model;
    where.guard.policy = "none"; /* what is asked about was released before */
    cmif_code rc =
        answers ? cmif_client_check(&where, err) : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu answers", count);
    rc = rc == CMIF_OK ? cmif_client_open(&where, &client, err) : rc;
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        snprintf(status, sizeof status, "text %zu of %zu is guessed", i + 1, count);
        cmif_status(status);
        rc = ask(&client, &texts[i], &answers[i], err);
        if (rc == CMIF_OK && cmif_interrupted) {
            rc = cmif_fail(err, CMIF_E_CANCELLED, "interrupted");
        }
    }
    cmif_status(NULL);
    for (size_t i = 0; rc == CMIF_OK && i < count; i++) {
        score(&texts[i], &answers[i], count > 1 ? &answers[(i + 1) % count] : &none, &found);
    }
    for (size_t i = 0; answers && i < count; i++) {
        cmif_secret_wipe(&answers[i]);
    }
    free(answers);
    cmif_client_close(&client);
    if (rc == CMIF_OK) {
        *out = found;
    }
    return rc;
}
