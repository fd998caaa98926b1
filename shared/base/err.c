#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

cmif_code cmif_err_set(cmif_err *err, cmif_code code, const char *where, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->code  = code;
        err->where = where;
    }
    return code;
}

void cmif_err_context(cmif_err *err, const char *format, ...)
{
    if (!err) {
        return;
    }
    char    noun[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(noun, sizeof noun, format, args);
    va_end(args);

    size_t cause = strlen(err->text);
    size_t room  = sizeof err->text - 1 - cause; /* what the noun and ": " may take */
    if (room < 3) {
        return;
    }
    size_t size = strlen(noun);
    if (size > room - 2) {
        size = room - 2;
    }
    memmove(err->text + size + 2, err->text, cause + 1);
    memcpy(err->text, noun, size);
    memcpy(err->text + size, ": ", 2);
}

const char *cmif_code_name(cmif_code code)
{
    static const char *const names[] = {"ok",     "io",     "format",      "range", "trust",
                                        "budget", "memory", "unsupported", "peer",  "cancelled"};
    return (unsigned) code < sizeof names / sizeof *names ? names[code] : "unknown";
}
