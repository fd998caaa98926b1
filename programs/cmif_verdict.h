/* cmif_verdict - a verdict for a person, and as JSON: its words, in sentences. The schema is docs/attestation.md's.
 *
 * Sees    evidence of others, decoded. */
#ifndef CMIF_PROGRAMS_CMIF_VERDICT_H
#define CMIF_PROGRAMS_CMIF_VERDICT_H

#include "session/peer.h"

#include <jansson.h>
#include <stdio.h>

const char *cmif_outcome_word(cmif_outcome outcome); /* "accepted", "rejected", "unsupported", "malformed", "internal" */
const char *cmif_tee_name(cmif_tee tee);             /* "Intel TDX"; "unknown evidence" */

/* What a word of reasons, errors or unchecked means, for a person; NULL: the word must do. */
const char *cmif_reason_meaning(const char *word);

/* "accepted: Intel TDX, TCB UpToDate of 2024-03-13", "rejected: ...: debug, tcb-OutOfDate". Never more than room bytes. */
void cmif_verdict_line(const cmif_verdict *verdict, char *out, size_t room);
/* The line, then reasons, what was not checked or loosened, advisories, and what the evidence says it is. */
void cmif_verdict_print(const cmif_verdict *verdict, FILE *to);
/* What the other end of a connection has proved, in one line: the above, the first digits of what the policy measures, what it calls itself, what was not
 * checked and what was loosened. */
void cmif_verdict_peer_line(const cmif_peer_verdict *peer, const cmif_attest_policy *policy, char *out, size_t room);
/* Schema "cmif-verdict-1"; the caller's. NULL: no memory. */
json_t *cmif_verdict_json(const cmif_verdict *verdict);
json_t *cmif_text_json(const char *text); /* also of what is no UTF-8 */
json_t *cmif_time_json(int64_t when); /* "2024-03-13T00:00:00Z", or null for 0 */
/* "2025-06-20" or "2025-06-20T00:00:00Z", UTC, and no other form; false: it is none, and out is untouched. */
bool cmif_time_read(const char *text, int64_t *out);
#endif
