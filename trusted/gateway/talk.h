/* talk - a gateway's conversations: found by how they begin, released the same way each time.
 *
 * Clients re-send the whole history with every request. A request whose first messages (a user's among them) are those of a conversation that is known
 * goes on with it: what was released once is released again byte for byte, costs nothing again, and the server's cache still fits. Answers come back as
 * the client saw them, with originals put back, and leave again as the server wrote them. Nothing is told by an id that a client would have to send.
 * Memory is bounded, in conversations and in bytes, and who uses most of it pays first: of that owner's conversations the one that was idle longest goes; and
 * anybody's that is idle for too long. What an owner asks for costs nobody who uses less: it is refused where there is no other room. A single one that grows
 * beyond its own bound takes no new text: forgotten in part it would be drawn anew and pay twice, and nobody would notice.
 *
 * Sees    plaintext. */
#ifndef CMIF_GATEWAY_TALK_H
#define CMIF_GATEWAY_TALK_H

#include "gateway/request.h"

#include "books/books.h"
#include "sanitizer/sanitizer.h"

typedef struct cmif_talks_options { /* all must outlive the talks */
    const cmif_policy *policy;       /* NULL: text leaves as it is */
    const cmif_lists  *lists;
    const cmif_table  *table;        /* NULL where the policy draws nothing */
    cmif_certificate   certificate;
    bool               no_guarantee;
    cmif_books        *books;
    uint32_t           most;         /* conversations kept */
    uint32_t           idle_seconds; /* one that nobody has used for longer is forgotten */
    size_t             each_bytes, all_bytes; /* of memory; 0: 64 MiB for each, 512 MiB for all together */
} cmif_talks_options;

typedef struct cmif_talks cmif_talks;
typedef struct cmif_talk  cmif_talk;

CMIF_MUST_USE cmif_code cmif_talks_new(const cmif_talks_options *options, cmif_talks **out, cmif_err *err);
void                    cmif_talks_free(cmif_talks *talks); /* NULL is welcome; no talk may be in use */
size_t                  cmif_talks_count(const cmif_talks *talks);
size_t                  cmif_talks_bytes(const cmif_talks *talks); /* of memory */
void                    cmif_talks_tick(cmif_talks *talks, int64_t now_seconds); /* forget what was idle for too long */
/* Nothing new comes, and no talk may be in use: by what they are known is all that is left of conversations (cmif_talks_knows), until they have been idle for too
 * long; what the options named is not needed any more. */
void                    cmif_talks_close(cmif_talks *talks);

/* The conversation that the request goes on with, or a new one; in use until cmif_talk_end. owner: whose budget it is (books.h, a copy is kept): other
 * owners' conversations are never found. Several requests may use one talk. Errors: IO, MEMORY, RANGE (no room). */
CMIF_MUST_USE cmif_code cmif_talks_find(cmif_talks *talks, const char *owner, const cmif_request *request, int64_t now_seconds, cmif_talk **out,
                                        cmif_err *err);
void                    cmif_talk_end(cmif_talk *talk);
/* Whether something of what the request begins with left in one of these conversations otherwise than as it is. No memory: as if it had. */
bool                    cmif_talks_knows(const cmif_talks *talks, const char *owner, const cmif_request *request);

typedef struct cmif_talk_counts { /* of one request, for its answer's extension and for metrics */
    uint64_t by_class[CMIF_SPAN_CLASSES][4];
    uint64_t draws, repeated, constants, epsilon_micro;
} cmif_talk_counts;

/* Release every text of the request; its entry is in the ledger when this returns OK (or waits there, cmif_talk_books). All or none, and what fails is not entered.
 *   entry  for the receipt; the caller's on success (cmif_tab_close, before cmif_talk_end)
 * Where request->show is set, request->left is what left of messages behind the last one of an assistant, for the person's own eyes:
 * [{"role", "text": as released, "spans": [[from, size, "person", "surrogate", from, size], ...]}], bytes of the release and of the original.
 * Names and keys (CMIF_FORM_NAME, _KEY) of ordinary words leave as they are; others as made-up ones (name_1), which answers bring back.
 * Errors: BUDGET, UNSUPPORTED (the conversation is longer than is kept: begin a new one), RANGE (the policy refuses something: what, and where), FORMAT (no UTF-8), IO, MEMORY. */
CMIF_MUST_USE cmif_code cmif_talk_release(cmif_talk *talk, cmif_request *request, cmif_tab *entry, cmif_talk_counts *counts, cmif_err *err);

/* The books of its entries. Where they gather (books.h) what was released may be sent when they are settled; if that fails: cmif_talk_unsettled. */
cmif_books *cmif_talk_books(const cmif_talk *talk);
/* Nothing of the request was sent, and its entry is not there: it counts with the conversation's next one. */
void cmif_talk_unsettled(cmif_talk *talk, const cmif_tab *entry);

/* What puts originals back into an answer of this conversation; the caller's. json: the stream is JSON text. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_talk_restorer(const cmif_talk *talk, bool json, cmif_restore **out, cmif_err *err);
/* The name that was sent as this one; (as it came) where it is none of ours. Borrowed from the talk, or from name. */
cmif_str cmif_talk_name(const cmif_talk *talk, cmif_str name);
bool     cmif_talk_has_names(const cmif_talk *talk); /* any name or key left as a made-up one */
/* An answer, as it came and as the client sees it. A talk that cannot remember it (no memory) will sanitize it when it comes back. */
void cmif_talk_answered(cmif_talk *talk, const void *came, size_t came_size, const void *shown, size_t shown_size);

#endif
