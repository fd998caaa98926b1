/* eventlog - measured-boot logs: TCG2 crypto-agile (PCRs) and CCEL (RTMRs of a TD), read and replayed.
 *
 * A log is the host's word. Nothing of it is believed but what replays to registers that a quote has signed; and of an event that replays, its data
 * only where the data's hash is the digest.
 *
 * Source  TCG PC Client Platform Firmware Profile 1.06 (10.2, 10.4); UEFI 2.10 section 38 (CCEL). */
#ifndef CMIF_ATTEST_EVENTLOG_H
#define CMIF_ATTEST_EVENTLOG_H

#include "side.h"

#include "attest/attest.h"
#include "attest/pcr.h"
#include "base/bytes.h"

enum { CMIF_EVENT_BANKS_MAX = 8, CMIF_EV_NO_ACTION = 3 };

typedef struct cmif_event {
    uint32_t       index, type; /* register: PCR n, or CC measurement register (0 MRTD, n RTMR n-1) */
    const uint8_t *digest[CMIF_EVENT_BANKS_MAX]; /* of the log's bank i; NULL: the event has none */
    const uint8_t *data;
    size_t         data_size, at; /* at: offset of the record, for messages */
} cmif_event;

typedef struct cmif_event_log { /* a cursor; borrows the bytes */
    cmif_reader in;
    size_t      bank_count, event_count;
    uint16_t    bank[CMIF_EVENT_BANKS_MAX], digest_size[CMIF_EVENT_BANKS_MAX]; /* banks of algorithms we do not know keep their size and are skipped */
} cmif_event_log;

/* Read the first record ("Spec ID Event03"). Errors: FORMAT; UNSUPPORTED (SHA-1 only log, too many banks); RANGE (larger than CMIF_EVENT_LOG_SIZE_MAX). */
CMIF_MUST_USE cmif_code cmif_event_log_open(cmif_event_log *log, const uint8_t *data, size_t size, cmif_err *err);

/* The next event; *end at the end of the bytes, or where only 0x00 or only 0xff is left. */
CMIF_MUST_USE cmif_code cmif_event_log_next(cmif_event_log *log, cmif_event *event, bool *end, cmif_err *err);

typedef struct cmif_replay {
    size_t   bank_count, event_count;
    uint32_t extended[CMIF_PCRS]; /* events that extend register i */
    uint32_t told[CMIF_PCRS];     /* those of them whose data hashes to the digest in every bank that counts */
    struct cmif_replay_bank {
        uint16_t alg;
        uint16_t size; /* of a value; 0: an algorithm we do not know, or an event came without its digest: this bank proves nothing */
        uint8_t  value[CMIF_PCRS][64];
    } bank[CMIF_EVENT_BANKS_MAX];
} cmif_replay;

/* Every register as the log says it became. Errors: as open and next; MEMORY. */
CMIF_MUST_USE cmif_code cmif_event_log_replay(const uint8_t *data, size_t size, cmif_replay *out, cmif_err *err);

#endif
