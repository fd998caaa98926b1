#include "cmif_terminal.h"

#include "dp/release.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool                  cmif_json;
bool                  cmif_quiet;
bool                  cmif_stays;
volatile sig_atomic_t cmif_interrupted;

static cmif_session *volatile watched;
static bool status_shown;

/* ---- stdout ---- */

static char written[BUFSIZ];

void cmif_output_install(void)
{
    setvbuf(stdout, written, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, sizeof written);
}

void cmif_output_forget(void)
{
    fflush(stdout);
    cmif_wipe(written, sizeof written);
}

/* ---- signals ---- */

static void on_signal(int number)
{
    if (cmif_interrupted == number && !(number == SIGINT && cmif_stays)) {
        _exit(128 + number); /* the private server ends with us, its folder is swept by the next run */
    }
    cmif_interrupted = number;
    if (watched) {
        int keep = errno;
        cmif_session_cancel(watched);
        errno = keep;
    }
}

void cmif_signals_install(void)
{
    struct sigaction act = {.sa_handler = on_signal}; /* no SA_RESTART: a blocked read must wake up */
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGHUP, &act, NULL);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    sigaction(SIGXFSZ, &act, NULL); /* a file that grows too large is an error of the write */
}

void cmif_signals_watch(cmif_session *session)
{
    watched = session;
    if (session && cmif_interrupted) { /* it came just before */
        cmif_session_cancel(session);
    }
}

/* ---- what is said ---- */

const char *cmif_style_of(FILE *stream, cmif_style style)
{
    static const char *const codes[] = {"\033[2m", "\033[1m", "\033[32m", "\033[33m", "\033[31m", "\033[0m"};
    const char              *no      = getenv("NO_COLOR");
    const char              *term    = getenv("TERM");
    bool                     plain = (no && *no) || !term || !*term || !strcmp(term, "dumb") || !isatty(fileno(stream));
    return plain ? "" : codes[style];
}

void cmif_status(const char *text)
{
    const char *term = getenv("TERM");
    if (!text) {
        if (status_shown) {
            fputs("\r\033[K", stderr);
        }
        status_shown = false;
        return;
    }
    if (cmif_json || cmif_quiet || !isatty(STDERR_FILENO) || !term || !strcmp(term, "dumb")) {
        return;
    }
    fprintf(stderr, "\r\033[K%s%s%s", cmif_style_of(stderr, CMIF_DIM), text, cmif_style_of(stderr, CMIF_PLAIN));
    fflush(stderr);
    status_shown = true;
}

void cmif_put_clean(FILE *to, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char) text[i], next = i + 1 < size ? (unsigned char) text[i + 1] : 0;
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) { /* U+0080..U+009F, as UTF-8 */
            i++;
            c = '?';
        }
        fputc(c < 0x20 || c == 0x7f ? '?' : c, to);
    }
}

static int report(const cmif_err *err, int exit_code)
{
    cmif_status(NULL);
    if (!err->text[0]) {
        return exit_code; /* a helper said it */
    }
    if (cmif_json) {
        json_t *object = json_pack("{s:{s:s, s:s}}", "error", "code", cmif_code_name(err->code), "message", err->text);
        char   *text   = object ? json_dumps(object, JSON_COMPACT) : NULL;
        fprintf(stderr, "%s\n", text ? text : "{\"error\":{\"code\":\"format\",\"message\":\"not UTF-8\"}}");
        free(text);
        json_decref(object);
    } else {
        fputs("cmif: ", stderr);
        cmif_put_clean(stderr, err->text, strlen(err->text));
        fputc('\n', stderr);
    }
    return exit_code;
}

int cmif_report(const cmif_err *err)
{
    if (err->code == CMIF_E_CANCELLED && cmif_interrupted) {
        cmif_status(NULL);
        return 128 + cmif_interrupted;
    }
    return report(err, err->code == CMIF_E_CANCELLED ? CMIF_EXIT_INTERRUPTED : CMIF_EXIT_FAILED);
}

int cmif_report_usage(const cmif_err *err)
{
    return err->code == CMIF_E_CANCELLED ? CMIF_EXIT_OK : report(err, CMIF_EXIT_USAGE);
}

/* ---- UTF-8 ---- */

/* Bytes of the well-formed code point at the start (Unicode table 3-7): 0 when ill-formed, -1 when only cut short. */
static int code_point_size(const uint8_t *p, size_t size)
{
    uint8_t low = 0x80, high = 0xbf;
    int     more;

    if (p[0] < 0x80) {
        return 1;
    }
    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return 0;
    }
    more = p[0] < 0xe0 ? 1 : p[0] < 0xf0 ? 2 : 3;
    low  = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : low;
    high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : high;
    for (int i = 1; i <= more; i++) {
        if ((size_t) i == size) {
            return -1;
        }
        if (p[i] < low || p[i] > high) {
            return 0;
        }
        low  = 0x80;
        high = 0xbf;
    }
    return more + 1;
}

cmif_code cmif_check_utf8(const void *bytes, size_t size, cmif_err *err)
{
    const uint8_t *p = bytes;
    for (size_t at = 0; at < size;) {
        int n = code_point_size(p + at, size - at);
        if (n <= 0) {
            return cmif_fail(err, CMIF_E_FORMAT,
                             "the text is not UTF-8 at byte %zu of %zu: convert it first, for example with iconv", at,
                             size);
        }
        at += (size_t) n;
    }
    return CMIF_OK;
}

static bool is_space(const uint8_t *p, int n)
{
    return n == 1 && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t');
}

static cmif_code put_code_point(cmif_stream *s, const uint8_t *p, int n, cmif_err *err)
{
    static const uint8_t replacement[] = {0xef, 0xbf, 0xbd};
    if (n == 0) {
        p = replacement;
        n = 3;
    }
    if (s->trim && is_space(p, n)) {
        return CMIF_OK;
    }
    s->trim = false;
    if (s->to) {
        bool control =
            (n == 1 && (*p < 0x20 || *p == 0x7f) && *p != '\n' && *p != '\t') ||
            (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) || /* C0, DEL, C1 */
            (n == 3 && p[0] == 0xe2 && /* U+202A..202E, U+2066..2069: they reorder what a person reads */
             ((p[1] == 0x80 && p[2] >= 0xaa && p[2] <= 0xae) || (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9)));
        const uint8_t *shown = control && isatty(fileno(s->to)) ? replacement : p;
        size_t         size  = shown == replacement ? 3 : (size_t) n;
        s->failed            = fwrite(shown, 1, size, s->to) != size || s->failed;
    }
    return cmif_secret_append(&s->kept, p, (size_t) n, err);
}

cmif_code cmif_stream_put(cmif_stream *s, const void *bytes, size_t size, cmif_err *err)
{
    const uint8_t *p  = bytes;
    cmif_code      rc = CMIF_OK;

    for (size_t i = 0; i < size && rc == CMIF_OK; i++) {
        s->part[s->part_size++] = p[i];
        int n                   = code_point_size(s->part, s->part_size);
        if (n < 0) {
            continue; /* wait for the rest */
        }
        if (n == 0 && s->part_size > 1) { /* the last byte may begin the next one */
            rc           = put_code_point(s, NULL, 0, err);
            s->part_size = 0;
            i--;
            continue;
        }
        rc           = put_code_point(s, s->part, n, err);
        s->part_size = 0;
    }
    if (s->to && fflush(s->to) != 0) {
        s->failed = true;
    }
    return rc;
}

cmif_code cmif_stream_end(cmif_stream *s, cmif_err *err)
{
    cmif_code rc = s->part_size ? put_code_point(s, NULL, 0, err) : CMIF_OK;
    s->part_size = 0;
    if (s->to && fflush(s->to) != 0) {
        s->failed = true;
    }
    return rc;
}

void cmif_stream_wipe(cmif_stream *s)
{
    cmif_secret_wipe(&s->kept);
    cmif_wipe(s, sizeof *s);
}

/* ---- text in ---- */

/* Straight from the descriptor: stdio would keep a copy. */
static cmif_code read_some(uint8_t *bytes, size_t room, size_t *size, cmif_err *err)
{
    ssize_t n = 0;
    do {
        n = cmif_interrupted ? -1 : read(STDIN_FILENO, bytes, room);
    } while (n < 0 && errno == EINTR && !cmif_interrupted);
    if (cmif_interrupted) {
        return cmif_fail(err, CMIF_E_CANCELLED, "stopped while reading");
    }
    if (n < 0) {
        return cmif_fail(err, CMIF_E_IO, "cannot read stdin: %s", strerror(errno));
    }
    *size = (size_t) n;
    return CMIF_OK;
}

cmif_code cmif_read_stdin(cmif_secret *text, cmif_err *err)
{
    for (size_t size = 1; size;) {
        cmif_code rc = cmif_secret_reserve(text, text->size + 65536, err);
        if (rc == CMIF_OK) {
            rc = read_some(text->data + text->size, 65536, &size, err);
        }
        if (rc != CMIF_OK) {
            return rc;
        }
        text->size += size;
        text->data[text->size] = 0;
    }
    return CMIF_OK;
}

cmif_code cmif_read_line(cmif_secret *line, bool *more, cmif_err *err)
{
    static uint8_t buffer[4096];
    static size_t  at, end;

    *more = false;
    for (;;) {
        uint8_t  *newline = at < end ? memchr(buffer + at, '\n', end - at) : NULL;
        size_t    size    = newline ? (size_t) (newline - (buffer + at)) : end - at;
        cmif_code rc      = cmif_secret_append(line, buffer + at, size, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        *more = *more || size || newline;
        at += size + (newline != NULL);
        if (newline) {
            if (line->size && line->data[line->size - 1] == '\r') {
                line->size--;
            }
            return CMIF_OK;
        }
        cmif_wipe(buffer, sizeof buffer);
        at = end = 0;
        rc       = read_some(buffer, sizeof buffer, &end, err);
        if (rc != CMIF_OK || end == 0) {
            return rc;
        }
    }
}

cmif_code cmif_take_argument(char *argument, cmif_secret *text, cmif_err *err)
{
    size_t    size = strlen(argument);
    cmif_code rc   = cmif_secret_append(text, argument, size, err);
    cmif_wipe(argument, size);
    return rc;
}

cmif_code cmif_release(cmif_secret *text, cmif_released **out, cmif_err *err)
{
    cmif_code rc = cmif_check_utf8(text->data, text->size, err);
    if (rc == CMIF_OK) {
        rc = cmif_dp_release_identity(text->data, text->size, out, err);
    }
    if (rc == CMIF_OK) {
        cmif_secret_wipe(text);
    }
    return rc;
}
