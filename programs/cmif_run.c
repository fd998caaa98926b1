#include "cmif_commands.h"

#include <string.h>
#include <unistd.h>

/* ---- one answer ---- */

typedef struct answering {
    const cmif_client *client;
    cmif_both         *both;
    cmif_restore      *restore; /* NULL: there is nothing to put back */
    cmif_secret        ready;   /* what it gave out last */
    const int32_t     *stops;
    size_t             stop_count;
    cmif_code          rc;
    cmif_err           err;
} answering;

void cmif_both_wipe(cmif_both *both)
{
    cmif_stream_wipe(&both->came);
    cmif_stream_wipe(&both->shown);
}

/* Pass on what the restorer gave out. */
static cmif_code show_ready(answering *a, cmif_err *err)
{
    cmif_code rc = cmif_stream_put(&a->both->shown, a->ready.data, a->ready.size, err);
    if (a->ready.size) {
        cmif_wipe(a->ready.data, a->ready.size);
        a->ready.size = 0;
    }
    return rc;
}

static bool on_token(void *context, int32_t id, float margin, const float *logits)
{
    answering *a = context;
    char       text[512];
    (void) margin;
    (void) logits;

    for (size_t i = 0; i < a->stop_count; i++) {
        if (a->stops[i] == id) { /* it ends the answer, it is not part of it */
            return true;
        }
    }
    size_t size = cmif_tokenizer_decode(a->client->tokenizer, id, false, text, sizeof text);
    a->rc       = cmif_stream_put(&a->both->came, text, size, &a->err);
    if (a->rc == CMIF_OK && a->restore) {
        a->rc = cmif_restore_feed(a->restore, text, size, &a->ready, &a->err);
        a->rc = a->rc == CMIF_OK ? show_ready(a, &a->err) : a->rc;
    } else if (a->rc == CMIF_OK) {
        a->rc = cmif_stream_put(&a->both->shown, text, size, &a->err);
    }
    cmif_wipe(text, size);
    return a->rc == CMIF_OK && !a->both->shown.failed;
}

/* What was held back is shown, also when the answer was stopped. */
static cmif_code end_answer(answering *a, cmif_client *c, cmif_err *err)
{
    cmif_restore_counts counts = {0};
    cmif_code           rc     = a->rc;
    if (rc != CMIF_OK) {
        *err = a->err;
    }
    if (rc == CMIF_OK && a->restore) {
        rc = cmif_restore_end(a->restore, &a->ready, &counts, err);
        rc = rc == CMIF_OK ? show_ready(a, err) : rc;
        cmif_guard_restored(&c->guard, &counts);
    }
    if (rc == CMIF_OK) {
        rc = cmif_stream_end(&a->both->came, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_stream_end(&a->both->shown, err);
    }
    cmif_restore_free(a->restore);
    cmif_secret_wipe(&a->ready);
    return rc;
}

cmif_code cmif_answer(cmif_client *c, cmif_ids *ids, const cmif_answer_options *how, cmif_both *both,
                      cmif_account *account, cmif_err *err)
{
    answering       a     = {.client = c, .both = both};
    cmif_usage      usage = {0};
    cmif_generation generation;

    a.stop_count = cmif_tokenizer_stops(c->tokenizer, &a.stops);
    a.stop_count = a.stop_count < CMIF_WIRE_STOPS_MAX ? a.stop_count : CMIF_WIRE_STOPS_MAX;
    generation   = (cmif_generation){.sampling   = {.temperature = how->temperature,
                                                    .top_p       = how->top_p,
                                                    .min_p       = how->min_p,
                                                    .top_k       = how->top_k,
                                                    .seed        = how->seed},
                                     .max_tokens = how->tokens,
                                     .stops      = a.stops,
                                     .stop_count = a.stop_count,
                                     .on_token   = on_token,
                                     .context    = &a};
    cmif_code rc = cmif_client_fits(c, ids->count, err);
    if (rc == CMIF_OK) {
        rc = cmif_guard_restorer(&c->guard, false, &a.restore, err);
    }
    if (rc != CMIF_OK) {
        return rc;
    }
    rc             = cmif_session_generate(c->session, ids, false, &generation, &usage, err);
    cmif_err  more = {0}, unsigned_for = {0};
    cmif_code end = end_answer(&a, c, &more), put = CMIF_OK;
    cmif_account_add(account, c, &usage);
    if (usage.sent) { /* also for half an answer, for none, and for one that could not be shown */
        put = cmif_guard_receipt(&c->guard, c->model_id,
                                 both->came.kept.data ? both->came.kept.data : (const uint8_t *) "",
                                 both->came.kept.size, &unsigned_for);
    }
    if (both->shown.failed) {
        return cmif_fail(err, CMIF_E_IO, "cannot write the answer: is the disk full, or the pipe closed?");
    }
    if (end != CMIF_OK) {
        *err = more;
        return end;
    }
    if (rc == CMIF_OK && put != CMIF_OK) {
        *err = unsigned_for;
        return put;
    }
    return rc;
}

/* ---- what left ---- */

void cmif_show_left(const cmif_client *c, const cmif_released *text, const cmif_left *left)
{
    size_t         size, at = 0;
    const uint8_t *bytes = cmif_released_bytes(text, &size);
    const char    *dim = cmif_style_of(stderr, CMIF_DIM), *plain = cmif_style_of(stderr, CMIF_PLAIN);
    if (c->guard.kind == CMIF_GUARD_NONE || cmif_json || cmif_quiet) {
        return;
    }
    fprintf(stderr, "%sleft%s       %s", dim, plain, dim);
    for (size_t i = 0; i < left->count; i++) {
        const cmif_released_span *s = &left->spans[i];
        if (s->action != CMIF_ACTION_PASS) {
            cmif_put_clean(stderr, (const char *) bytes + at, s->out_from - at);
            fprintf(stderr, "%s%s", plain, cmif_style_of(stderr, CMIF_BOLD));
            cmif_put_clean(stderr, (const char *) bytes + s->out_from, s->out_size);
            fprintf(stderr, "%s%s", plain, dim);
            at = s->out_from + s->out_size;
        }
    }
    cmif_put_clean(stderr, (const char *) bytes + at, size - at);
    fprintf(stderr, "%s\n\n", plain);
}

/* ---- the command ---- */

static cmif_client_options where = CMIF_CLIENT_DEFAULTS;
static cmif_answer_options how   = CMIF_ANSWER_DEFAULTS;
static bool                raw;

static const cmif_option options[] = {
    CMIF_CLIENT_OPTIONS(where),
    CMIF_ANSWER_OPTIONS(how),
    {0, "raw", NULL, CMIF_OPTION_FLAG, &raw, 0, 0, "no chat format; send answer rows to any server"},
    {0, "no-loop", NULL, CMIF_OPTION_FLAG, &where.no_loop, 0, 0, NULL},
    CMIF_COMMON_OPTIONS,
};

static const cmif_command command = {
    .name         = "run",
    .args         = "[options] -m MODEL TEXT    (no TEXT, or -: read stdin)",
    .summary      = "answer one prompt",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = CMIF_CLIENT_NOTES,
};

/* The ids of the whole prompt: in the model's chat format, or as it is. *left: what is released of text; the caller's.
 */
static cmif_code make_prompt(cmif_client *c, cmif_secret *text, cmif_released **left, cmif_ids *ids, cmif_err *err)
{
    cmif_released *system = NULL;
    cmif_secret    rules  = {0};
    cmif_left      spans  = {0};
    bool           plain  = raw || !c->chat;
    cmif_code      rc     = plain ? CMIF_OK : cmif_client_chats(c, err);

    if (raw && how.system) {
        rc = cmif_fail(err, CMIF_E_RANGE, "--raw has no system message: put it in front of the text");
    } else if (!c->chat && how.system) {
        rc = cmif_fail(err, CMIF_E_UNSUPPORTED, "--system: %s", c->no_chat.text);
    }
    if (rc == CMIF_OK && how.system) {
        rc = cmif_take_argument((char *) (uintptr_t) how.system, &rules, err);
        if (rc == CMIF_OK) {
            rc = cmif_guard_hold(&c->guard, &rules, &system, err);
        }
    }
    if (rc == CMIF_OK) {
        rc = cmif_guard_release(&c->guard, text, left, &spans, err);
    }
    if (rc == CMIF_OK) {
        cmif_show_left(c, *left, &spans);
    }
    if (rc == CMIF_OK && plain) {
        rc = cmif_tokenizer_put_start(c->tokenizer, ids, err);
        if (rc == CMIF_OK) {
            rc = cmif_client_encode(c, *left, ids, err);
        }
    } else if (rc == CMIF_OK) {
        cmif_message messages[] = {{CMIF_ROLE_SYSTEM, system}, {CMIF_ROLE_USER, *left}};
        rc                      = cmif_chat_render(c->chat, messages + !system, system ? 2 : 1, ids, err);
    }
    cmif_secret_wipe(&rules);
    cmif_released_free(system);
    return rc;
}

static cmif_code take_prompt(int count, char **argv, cmif_secret *text, cmif_err *err)
{
    cmif_code rc;
    if (count > 1) {
        return cmif_fail(err, CMIF_E_RANGE, "expected one text, found %d arguments: put the text in quotes", count);
    }
    if (count == 1 && strcmp(argv[0], "-") != 0) {
        rc = cmif_take_argument(argv[0], text, err);
    } else if (count == 0 && isatty(STDIN_FILENO)) {
        return cmif_fail(err, CMIF_E_RANGE, "no text: give it as an argument, or on stdin");
    } else {
        rc = cmif_read_stdin(text, err);
        if (rc == CMIF_OK && text->size && text->data[text->size - 1] == '\n') {
            text->size--; /* the one that echo adds */
        }
    }
    if (rc == CMIF_OK && text->size == 0 && !raw) {
        return cmif_fail(err, CMIF_E_RANGE, "the text is empty: give the model something to answer");
    }
    return rc;
}

static cmif_code print_result(const cmif_client *c, const cmif_released *left, const cmif_stream *stream,
                              const cmif_account *account, cmif_err *err)
{
    if (cmif_json) {
        json_t *object = cmif_account_json(account, c);
        if (object && c->guard.kind != CMIF_GUARD_NONE) {
            size_t         size;
            const uint8_t *bytes = cmif_released_bytes(left, &size);
            json_object_set_new(object, "released", json_stringn((const char *) bytes, size));
        }
        if (object &&
            json_object_set_new(object, "text",
                                json_stringn_nocheck(stream->kept.data ? (const char *) stream->kept.data : "",
                                                     stream->kept.size)) != 0) {
            json_decref(object);
            object = NULL;
        }
        return cmif_print_json(object, err);
    }
    if (!stream->kept.size || stream->kept.data[stream->kept.size - 1] != '\n') {
        putchar('\n');
        fflush(stdout);
    }
    if (!cmif_quiet) {
        if (isatty(STDERR_FILENO)) {
            fputc('\n', stderr);
        }
        cmif_account_print(account, c);
    }
    return CMIF_OK;
}

int cmif_run(int argc, char **argv)
{
    cmif_client    client  = {0};
    cmif_secret    text    = {0};
    cmif_released *left    = NULL;
    cmif_ids       ids     = {0};
    cmif_both      both    = {0};
    cmif_account   account = {0};
    cmif_err       err     = {0};
    int            rest    = 0;
    int            exit_code;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK) {
        rc = cmif_client_check(&where, &err);
    }
    if (rc == CMIF_OK) {
        rc = take_prompt(rest, argv, &text, &err);
    }
    if (rc != CMIF_OK) {
        exit_code = rc == CMIF_E_RANGE || (rc == CMIF_E_CANCELLED && !cmif_interrupted) ? cmif_report_usage(&err)
                                                                                        : cmif_report(&err);
        goto done;
    }
    rc = cmif_client_open(&where, &client, &err);
    if (rc == CMIF_OK) {
        rc = make_prompt(&client, &text, &left, &ids, &err);
    }
    if (rc == CMIF_OK) {
        both.shown.to  = cmif_json ? NULL : stdout;
        both.came.trim = both.shown.trim = client.chat && !raw; /* SentencePiece answers begin with a space */
        rc                               = cmif_answer(&client, &ids, &how, &both, &account, &err);
    }
    if (rc == CMIF_OK || (rc == CMIF_E_CANCELLED && account.tokens)) {
        cmif_code printed = print_result(&client, left, &both.shown, &account, &err);
        rc                = rc == CMIF_OK ? printed : rc;
    } else if (both.shown.kept.size && !cmif_json) {
        putchar('\n'); /* half an answer stays on its own line */
        fflush(stdout);
    }
    exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    cmif_both_wipe(&both);
    cmif_secret_wipe(&text);
    cmif_released_free(left);
    cmif_ids_free(&ids);
    cmif_client_close(&client);
    return exit_code;
}
