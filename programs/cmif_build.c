/* cmif-build - what `cmif lexicon`, `cmif channel build` and `cmif setup` run: lexicons, lists, language models and
 * channels out of public data.
 *
 * Nothing that it writes has to be trusted: a table is certified by whoever opens it. It runs outside the trusted
 * process and uses the engine. */
#include "cmif_build.h"

#include "cmif_compare.h"
#include "cmif_tool.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

cmif_code build_hash_file(const char *path, uint8_t out[static 32], cmif_err *err)
{
    static uint8_t buffer[1 << 16];
    EVP_MD_CTX    *hash = EVP_MD_CTX_new();
    FILE          *file = fopen(path, "rb");
    cmif_code      rc   = CMIF_OK;
    size_t         size;

    if (!hash || !file || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
        goto done;
    }
    while ((size = fread(buffer, 1, sizeof buffer, file)) > 0) {
        EVP_DigestUpdate(hash, buffer, size);
    }
    if (ferror(file) || !EVP_DigestFinal_ex(hash, out, NULL)) {
        rc = cmif_fail(err, CMIF_E_IO, "cannot read '%s': %s", path, strerror(errno));
    }
done:
    EVP_MD_CTX_free(hash);
    if (file) {
        fclose(file);
    }
    return rc;
}

void build_hash_text(const char *text, uint8_t out[static 32])
{
    (void) EVP_Digest(text, strlen(text), out, NULL, EVP_sha256(), NULL);
}

void build_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!tool_json) {
        fputs("cmif: ", stderr);
        vfprintf(stderr, format, args);
        fputc('\n', stderr);
    }
    va_end(args);
}

int main(int argc, char **argv)
{
    tool_signals_install();
    for (int i = 1; i < argc; i++) { /* a usage error must already know */
        tool_json = tool_json || !strcmp(argv[i], "--json");
    }
    static const struct {
        const char *words[3];
        int (*run)(int argc, char **argv);
    } commands[] = {
        {{"lexicon", "build"}, build_lexicon_main},
        {{"lexicon", "lists", "build"}, build_lists_main},
        {{"lexicon", "lm", "build"}, build_lm_main},
        {{"channel", "build"}, build_channel_main},
        {{"channel", "show"}, cmif_show_main},
        {{"channel", "compare"}, cmif_compare_main},
        {{"setup"}, build_setup_main},
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int words = 0;
        while (words < 3 && commands[i].words[words] && words + 1 < argc &&
               !strcmp(commands[i].words[words], argv[words + 1])) {
            words++;
        }
        if (words == 3 || !commands[i].words[words]) {
            return commands[i].run(argc - 1 - words, argv + 1 + words);
        }
    }
    fputs(
        "usage: cmif setup, cmif lexicon build | lists build | lm build, or cmif channel build | show | compare; each "
        "has --help\n",
        stderr);
    return 2;
}
