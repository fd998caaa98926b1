/* keys - the key of a sealed file, asked for with evidence and given out to whom the policy accepts; never without a line in a log first.
 *
 * Client UNSEAL key id, server CHALLENGE, client EVIDENCE, server KEY or ERROR; over TLS, where the evidence is bound to this connection and nonce. A stranger
 * learns nothing of which keys there are: before he is accepted every key id gets the same answers.
 *
 * Sees    keys, for as long as one connection; evidence of others.
 * Source  docs/wire.md, docs/attestation.md "Keys for sealed models". */
#ifndef CMIF_KEY_KEYS_H
#define CMIF_KEY_KEYS_H

#include "side.h"

#include "channel/channel.h"
#include "secret/secret.h"
#include "session/peer.h"

/* ---- the log: one line for each request, chained by SHA-256: each line ends with the hash of the end of the line before and of itself. ----
 *   2026-11-21T22:15:00Z released 10.0.0.7:40112 key=<hex> tee=tdx measured=mrtd:<hex> policy=<hex> why=- chain=<hex>
 * An edit, a line put in or taken out shows; that lines at the end were taken away shows only to who kept the last hash. */
enum { CMIF_KEY_LINE_MAX = 4096 };

typedef struct cmif_key_entry { /* borrowed; what is not a letter, digit or one of "-_.:,[]+" is written as '_' */
    int64_t       time;
    bool          released;
    const char   *address, *tee, *measured, *why;
    const uint8_t *key_id, *policy; /* [32] */
} cmif_key_entry;

typedef struct cmif_key_summary {
    uint64_t lines, released, refused;
    uint8_t  chain[32]; /* of the last line */
    size_t   torn;      /* bytes of a last line that has no end: no key was given out for it */
} cmif_key_summary;

typedef struct cmif_key_log cmif_key_log;

/* Read a log from end to end. Errors: IO, TRUST (line 7: it was changed, or one before it was put in or taken out), FORMAT (no such line). */
CMIF_MUST_USE cmif_code cmif_key_audit(const char *path, cmif_key_summary *out, cmif_err *err);
/* Open a log to add to it, made with mode 0600 when it is not there: it is audited, locked, and a torn last line is cut off.
 * Errors: as above; IO also when another program has it open. */
CMIF_MUST_USE cmif_code cmif_key_log_open(const char *path, cmif_key_log **out, cmif_err *err);
void                    cmif_key_log_free(cmif_key_log *log); /* NULL is welcome */
/* The line is on disk when this is OK. After an error the log is as it was, or takes nothing any more.
 *   line  what was written, without the newline; NULL is welcome
 * Errors: IO (the disk; the file was moved away or written to by others). */
CMIF_MUST_USE cmif_code cmif_key_log_put(cmif_key_log *log, const cmif_key_entry *entry, char line[CMIF_KEY_LINE_MAX], cmif_err *err);

/* ---- giving out ---- */
enum { CMIF_KEY_SECONDS = 20 }; /* for one request, from the greeting to its end */

typedef struct cmif_key_rule { /* borrowed */
    cmif_peer_rule peer;
    const char    *folder; /* of key files (seal/seal.h), looked through for each accepted request */
    cmif_key_log *log;
    /* one request is judged and logged at a time; NULL where there is one thread */
    void (*lock)(void *context), (*unlock)(void *context);
    void  *context;
} cmif_key_rule;

/* How many keys the folder holds. Errors: IO, and what is wrong with the first file that is no key (seal/seal.h). */
CMIF_MUST_USE cmif_code cmif_key_count(const char *folder, size_t *out, cmif_err *err);
/* Serve the one request of a connection that was greeted. line: what was logged, or empty.
 * Errors: TRUST (refused, and why: for our own eyes), FORMAT, IO (nobody asked; the log: then nothing was released), MEMORY. */
CMIF_MUST_USE cmif_code cmif_key_release(cmif_channel *channel, const char *address, const cmif_key_rule *rule, char line[static CMIF_KEY_LINE_MAX],
                                          cmif_err *err);

/* ---- asking ---- */
typedef struct cmif_key_ask { /* borrowed */
    cmif_peer      peer;
    cmif_maker    *maker;
    cmif_claims    claims;
    const uint8_t *key_id; /* [32] */
} cmif_key_ask;

/* Fetch a key: one connection, one request. What comes is a key of this id, or an error; so a false key server can give nothing false.
 *   key  empty; 32 bytes on success
 * Errors: as cmif_channel_open and cmif_proof_make; PEER (the key server's sentence), TRUST (a key of another id), FORMAT, IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_key_fetch(const cmif_key_ask *ask, cmif_secret *key, cmif_err *err);

#endif
