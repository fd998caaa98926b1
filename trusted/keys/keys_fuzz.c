/* Any bytes as a log: read to a verdict; what was written by us is unchanged, whatever its words are, and goes on after
 * it was opened again; with one byte of it changed it is not, but for the newline that ends it. Input: a mode, then a
 * log; or a place, a change, and words. */
#include "keys/keys.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char    path[64];
static uint8_t hash[32];

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void leave(void)
{
    unlink(path);
}

static void put(const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && write(fd, bytes, size) == (ssize_t) size);
    close(fd);
}

static void write_lines(char *words, size_t lines)
{
    cmif_key_log  *log = NULL;
    cmif_key_entry e   = {
          .address = words, .tee = "tdx", .measured = words, .why = words, .key_id = hash, .policy = hash};
    must(cmif_key_log_open(path, &log, NULL) == CMIF_OK);
    for (size_t i = 0; i < lines; i++) {
        e.released = i % 2;
        e.time     = (int64_t) i * 1000000;
        must(cmif_key_log_put(log, &e, NULL, NULL) == CMIF_OK);
    }
    cmif_key_log_free(log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cmif_key_summary s;
    static char      words[600], bytes[16384];
    if (size < 4) {
        return 0;
    }
    if (!path[0]) {
        snprintf(path, sizeof path, "/dev/shm/cmif-keys-fuzz-%ld", (long) getpid());
        atexit(leave);
    }
    if (data[0] & 1) {
        put(data + 1, size - 1);
        if (cmif_key_audit(path, &s, NULL) == CMIF_OK) {
            const uint64_t lines = s.lines;
            must(s.released + s.refused == s.lines);
            write_lines(words, 1);
            must(cmif_key_audit(path, &s, NULL) == CMIF_OK && s.lines == lines + 1 && s.torn == 0);
        }
        return 0;
    }
    const size_t  take   = size - 4 < sizeof words - 1 ? size - 4 : sizeof words - 1;
    const size_t  place  = (size_t) data[1] << 8 | data[2];
    const uint8_t change = data[3];
    memcpy(words, data + 4, take);
    words[take] = '\0';
    unlink(path);
    write_lines(words, 3);
    write_lines(words, 1);
    must(cmif_key_audit(path, &s, NULL) == CMIF_OK && s.lines == 4 && s.released == 1 && s.torn == 0);
    FILE        *file  = fopen(path, "re");
    const size_t whole = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    must(whole > 800 && whole < sizeof bytes);
    if (change) {
        bytes[place % whole] = (char) (bytes[place % whole] ^ change);
        put(bytes, whole);
        const bool last = place % whole == whole - 1;
        must(cmif_key_audit(path, &s, NULL) != CMIF_OK || (last && s.lines == 3 && s.torn));
    }
    return 0;
}
