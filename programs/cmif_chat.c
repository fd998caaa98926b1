#include "cmif_commands.h"

#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

static cmif_client_options where = CMIF_CLIENT_DEFAULTS;
static cmif_answer_options how   = CMIF_ANSWER_DEFAULTS;

static const cmif_option options[] = {
    CMIF_CLIENT_OPTIONS(where),
    CMIF_ANSWER_OPTIONS(how),
    {0, "no-loop", NULL, CMIF_OPTION_FLAG, &where.no_loop, 0, 0, "send answer rows even if the server has the table"},
    CMIF_COMMON_OPTIONS,
};

static const cmif_command command = {
    .name         = "chat",
    .args         = "[options] -m MODEL        (stdin: one message a line)",
    .summary      = "talk with a model; Ctrl-C stops an answer, Ctrl-D ends",
    .options      = options,
    .option_count = sizeof options / sizeof *options,
    .notes        = CMIF_CLIENT_NOTES,
};

typedef struct talk {
    cmif_client     client;
    cmif_account    account;
    cmif_released **texts; /* system message if any, then user and assistant in turn */
    size_t          count, capacity;
    cmif_secret     rules; /* the system message, for the next conversation */
    EditLine       *line;  /* NULL: stdin is no terminal */
    History        *history;
} talk;

/* ---- the conversation ---- */

static cmif_code make_room(talk *t, cmif_err *err)
{
    if (t->count == t->capacity) {
        size_t          capacity = t->capacity ? 2 * t->capacity : 16;
        cmif_released **grown    = realloc(t->texts, capacity * sizeof *grown);
        if (!grown) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu messages", capacity);
        }
        t->texts    = grown;
        t->capacity = capacity;
    }
    return CMIF_OK;
}

static void drop(talk *t, size_t count)
{
    while (t->count > count) {
        cmif_released_free(t->texts[--t->count]);
    }
}

/* Begin with the system message, if there is one. */
static cmif_code begin(talk *t, cmif_err *err)
{
    cmif_secret copy = {0};
    cmif_code   rc   = make_room(t, err);
    drop(t, 0);
    if (rc == CMIF_OK && how.system) {
        rc = cmif_secret_append(&copy, t->rules.data, t->rules.size, err);
        if (rc == CMIF_OK) {
            rc = cmif_guard_hold(&t->client.guard, &copy, &t->texts[0], err);
        }
        t->count = rc == CMIF_OK;
    }
    cmif_secret_wipe(&copy);
    return rc;
}

static cmif_code render(const talk *t, cmif_ids *ids, cmif_err *err)
{
    bool          system   = how.system != NULL;
    cmif_message *messages = calloc(t->count, sizeof *messages);
    if (!messages) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu messages", t->count);
    }
    for (size_t i = 0; i < t->count; i++) {
        messages[i].role = system && i == 0   ? CMIF_ROLE_SYSTEM
                           : (i - system) % 2 ? CMIF_ROLE_ASSISTANT
                                              : CMIF_ROLE_USER;
        messages[i].text = t->texts[i];
    }
    cmif_code rc = cmif_chat_render(t->client.chat, messages, t->count, ids, err);
    free(messages);
    return rc;
}

static cmif_code print_turn(const talk *t, const cmif_stream *stream, const cmif_account *turn, cmif_err *err)
{
    if (cmif_json) {
        json_t *object = cmif_account_json(turn, &t->client);
        json_t *text =
            json_stringn_nocheck(stream->kept.data ? (const char *) stream->kept.data : "", stream->kept.size);
        if (object && json_object_set_new(object, "text", text) != 0) {
            json_decref(object);
            object = NULL;
        }
        return cmif_print_json(object, err);
    }
    putchar('\n');
    fflush(stdout);
    if (t->line && !cmif_quiet) {
        fprintf(stderr, "%s%llu rows sent, first token after %.0f ms, %.1f tokens/s%s%s\n\n",
                cmif_style_of(stderr, CMIF_DIM),
                (unsigned long long) (turn->prompt_rows - turn->reused_rows + turn->token_rows),
                (double) turn->first_us / 1e3, cmif_account_speed(turn),
                turn->reason == CMIF_DONE_CANCELLED ? "; stopped"
                : turn->reason == CMIF_DONE_LENGTH  ? "; cut short by -n"
                                                    : "",
                cmif_style_of(stderr, CMIF_PLAIN));
    }
    return CMIF_OK;
}

static void sum(cmif_account *all, const cmif_account *turn)
{
    all->prompt_rows += turn->prompt_rows;
    all->reused_rows += turn->reused_rows;
    all->token_rows += turn->token_rows;
    all->tokens += turn->tokens;
    all->replays += turn->replays;
    all->sent += turn->sent;
    all->received += turn->received;
    all->decode_us += turn->decode_us;
    all->decoded += turn->decoded;
    all->total_us += turn->total_us;
    all->calls += turn->calls;
    all->first_us = turn->first_us;
    all->reason   = turn->reason;
}

/* One message and its answer. What failed leaves the conversation as it was; what was released stays in the books. */
static cmif_code turn(talk *t, cmif_secret *text, cmif_err *err)
{
    size_t       before  = t->count;
    cmif_ids     ids     = {0};
    cmif_account account = {0};
    cmif_left    left    = {0};
    cmif_both    both    = {.shown = {.to = cmif_json ? NULL : stdout, .trim = true}, .came = {.trim = true}};
    cmif_code    rc      = make_room(t, err);

    if (rc == CMIF_OK) {
        rc = cmif_guard_release(&t->client.guard, text, &t->texts[t->count], &left, err);
    }
    if (rc == CMIF_OK) {
        if (t->line) {
            cmif_show_left(&t->client, t->texts[t->count], &left);
        }
        t->count++;
        rc = render(t, &ids, err);
    }
    if (rc == CMIF_OK) {
        cmif_signals_watch(t->client.session);
        rc = cmif_answer(&t->client, &ids, &how, &both, &account, err);
        cmif_signals_watch(NULL);
    }
    bool answered = rc == CMIF_OK || (rc == CMIF_E_CANCELLED && cmif_interrupted == SIGINT);
    if (answered) {
        sum(&t->account, &account);
        rc = print_turn(t, &both.shown, &account, err);
    } else if (both.shown.kept.size && !cmif_json) {
        putchar('\n');
        fflush(stdout);
    }
    if (answered && rc == CMIF_OK && both.came.kept.size) {
        rc = make_room(t, err);
        if (rc == CMIF_OK) { /* it came from the server, and goes back as it is */
            rc = cmif_release(&both.came.kept, &t->texts[t->count], err);
            t->count += rc == CMIF_OK;
        }
    }
    if (rc != CMIF_OK || t->count == before + 1) {
        drop(t, before); /* nothing was answered: the roles must alternate */
    }
    cmif_both_wipe(&both);
    cmif_ids_free(&ids);
    return rc;
}

/* ---- lines ---- */

static const char *prompt(EditLine *line)
{
    (void) line;
    return "> ";
}

/* libedit's own reader tries again after a signal; Ctrl-C must end the line. */
static int read_character(EditLine *line, wchar_t *out)
{
    mbstate_t state = {0};
    (void) line;
    for (;;) {
        char    c;
        ssize_t n = cmif_interrupted ? -1 : read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR && !cmif_interrupted) {
            continue;
        }
        if (n <= 0) {
            return (int) n;
        }
        size_t size = mbrtowc(out, &c, 1, &state);
        if (size == (size_t) -2) {
            continue;
        }
        if (size == (size_t) -1) {
            *out = 0xfffd;
        }
        return 1;
    }
}

static cmif_code open_lines(talk *t, cmif_err *err)
{
    HistEvent event;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return CMIF_OK;
    }
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
    t->line    = el_init("cmif", stdin, stdout, stderr);
    t->history = history_init();
    if (!t->line || !t->history) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the line editor");
    }
    history(t->history, &event, H_SETSIZE, 1000);
    history(t->history, &event, H_SETUNIQUE, 1);
    el_set(t->line, EL_PROMPT, prompt);
    el_set(t->line, EL_EDITOR, "emacs");
    el_set(t->line, EL_HIST, history, t->history);
    el_set(t->line, EL_GETCFN, read_character);
    return CMIF_OK;
}

static void close_lines(talk *t)
{
    if (t->history) {
        history_end(t->history);
    }
    if (t->line) {
        el_end(t->line);
    }
    t->history = NULL;
    t->line    = NULL;
}

/* The next message; *more is false at the end. Ctrl-C gives an empty line. */
static cmif_code next_line(talk *t, cmif_secret *text, bool *more, cmif_err *err)
{
    HistEvent event;
    int       count = 0;

    if (!t->line) {
        return cmif_read_line(text, more, err);
    }
    cmif_interrupted = 0;
    cmif_session_forget_cancel(t->client.session); /* one that came as the last answer ended */
    el_set(t->line, EL_PREP_TERM, 1); /* before the prompt: a key that is typed as soon as it is seen is not lost */
    const char *line = el_gets(t->line, &count);
    if (cmif_interrupted) {
        putchar('\n');
        fflush(stdout);
        *more = cmif_interrupted == SIGINT;
        el_reset(t->line);
        return *more ? CMIF_OK : cmif_fail(err, CMIF_E_CANCELLED, "stopped");
    }
    *more = line && count > 0;
    if (!*more) {
        puts("\n"); /* after the "> " */
        return CMIF_OK;
    }
    if (strspn(line, " \t\n") != strlen(line)) {
        history(t->history, &event, H_ENTER, line);
    }
    return cmif_secret_append(text, line, (size_t) count - (line[count - 1] == '\n'), err);
}

/* A line that begins with '/' is for us, never for the server. */
static bool obey(talk *t, const char *line, bool *quit, cmif_code *rc, cmif_err *err)
{
    if (line[0] != '/') {
        return false;
    }
    if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) {
        *quit = true;
    } else if (!strcmp(line, "/reset")) {
        *rc = cmif_guard_renew(&t->client.guard, err);
        *rc = *rc == CMIF_OK ? begin(t, err) : *rc;
        if (*rc == CMIF_OK) { /* its buffers and its history hold what was typed */
            close_lines(t);
            cmif_output_forget();
            *rc = open_lines(t, err);
        }
        if (t->line && *rc == CMIF_OK) {
            fprintf(stderr, "%sforgotten: the next message begins a new conversation, with other surrogates%s\n",
                    cmif_style_of(stderr, CMIF_DIM), cmif_style_of(stderr, CMIF_PLAIN));
        }
    } else {
        fprintf(stderr,
                "%s"
                "/reset  begin a new conversation\n"
                "/quit   end (or Ctrl-D)\n"
                "/help   this list\n"
                "Ctrl-C stops an answer. Put a space in front of a message that begins with '/'.%s\n",
                cmif_style_of(stderr, CMIF_DIM), cmif_style_of(stderr, CMIF_PLAIN));
    }
    return true;
}

static void greet(const talk *t)
{
    char text[256];
    if (t->line && !cmif_quiet) {
        cmif_client_describe(&t->client, text, sizeof text);
        char guarantee[768], evidence[1024];
        if (cmif_client_evidence(&t->client, evidence, sizeof evidence)) {
            fprintf(stderr, "%s%s%s\n", cmif_style_of(stderr, CMIF_DIM), evidence, cmif_style_of(stderr, CMIF_PLAIN));
        }
        cmif_guard_sentence(&t->client.guard, guarantee, sizeof guarantee);
        fprintf(stderr, "%s%s\nsanitizer: %s.\n/help lists what else can be typed, Ctrl-D ends.%s\n\n",
                cmif_style_of(stderr, CMIF_DIM), text, guarantee, cmif_style_of(stderr, CMIF_PLAIN));
    }
}

static cmif_code talk_on(talk *t, cmif_err *err)
{
    bool      more = true, quit = false;
    cmif_code rc = CMIF_OK;

    while (more && !quit && rc == CMIF_OK) {
        cmif_secret text = {0};
        rc               = next_line(t, &text, &more, err);
        if (rc == CMIF_OK && more && text.size && !obey(t, (const char *) text.data, &quit, &rc, err)) {
            rc = turn(t, &text, err);
            /* too long for the context, not UTF-8, refused by policy or budget: the conversation goes on */
            if (t->line && (rc == CMIF_E_RANGE || rc == CMIF_E_FORMAT || rc == CMIF_E_BUDGET)) {
                (void) cmif_report(err);
                rc = CMIF_OK;
            }
        }
        cmif_secret_wipe(&text);
    }
    return rc;
}

int cmif_chat_command(int argc, char **argv)
{
    talk     t    = {0};
    cmif_err err  = {0};
    int      rest = 0, exit_code;

    cmif_code rc = cmif_options_parse(&command, argc, argv, &rest, &err);
    if (rc == CMIF_OK) {
        rc = cmif_client_check(&where, &err);
    }
    if (rc == CMIF_OK && rest) {
        rc = cmif_fail(&err, CMIF_E_RANGE, "chat takes no text as an argument: type it, or use 'cmif run'");
    }
    if (rc != CMIF_OK) {
        exit_code = cmif_report_usage(&err);
        goto done;
    }
    rc = cmif_client_open(&where, &t.client, &err);
    cmif_signals_watch(NULL); /* nothing to stop until there is an answer */
    if (rc == CMIF_OK && !t.client.chat) {
        rc = cmif_fail(&err, CMIF_E_UNSUPPORTED, "%s; 'cmif run' goes on with a text", t.client.no_chat.text);
    }
    if (rc == CMIF_OK) {
        rc = cmif_client_chats(&t.client, &err);
    }
    if (rc == CMIF_OK && how.system) {
        rc = cmif_take_argument((char *) (uintptr_t) how.system, &t.rules, &err);
    }
    if (rc == CMIF_OK) {
        rc = begin(&t, &err);
    }
    if (rc == CMIF_OK) {
        rc = open_lines(&t, &err);
    }
    if (rc == CMIF_OK) {
        cmif_stays = t.line != NULL;
        greet(&t);
        rc = talk_on(&t, &err);
    }
    if (rc == CMIF_OK && t.account.calls && !cmif_quiet && !cmif_json) {
        cmif_account_print(&t.account, &t.client);
    }
    exit_code = rc == CMIF_OK ? CMIF_EXIT_OK : cmif_report(&err);
done:
    close_lines(&t);
    drop(&t, 0);
    free(t.texts);
    cmif_secret_wipe(&t.rules);
    cmif_client_close(&t.client);
    return exit_code;
}
