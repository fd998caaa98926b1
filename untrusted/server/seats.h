/* seats - who sits where: sessions, found by their random handles, and the engine's slots, of which there are fewer.
 *
 * A session with a slot has a cache in the engine: `rows` rows, whose running hashes are kept here, one per position, so
 * that a client can take up any prefix. A session that loses its slot loses its cache, and remembers why.
 *
 * Sees    hashes, handles. */
#ifndef CMIF_SERVER_SEATS_H
#define CMIF_SERVER_SEATS_H

#include "wire/wire.h"

#define CMIF_SEAT_NONE UINT32_MAX

struct conn; /* of conn.h; only kept here */

typedef struct cmif_seat { /* one session */
    uint8_t  handle[CMIF_WIRE_HANDLE_SIZE];
    uint8_t  owner[CMIF_WIRE_HASH_SIZE]; /* hash of the client's key; zeros: it has none */
    uint32_t slot;                       /* CMIF_SEAT_NONE: no cache */
    uint32_t run;                        /* BEGINs of that slot: the engine's messages carry it */
    uint32_t rows;                       /* hashed, and in the engine or on the way there */
    uint8_t  lost;                       /* cmif_reset_reason: why there is no cache */
    bool     busy;                       /* a BEGIN is under way: not to be evicted */
    uint64_t used_ms;                    /* when the last BEGIN ended, or it was opened */
    struct conn *conn;                   /* the connection that uses it; NULL: nobody is there */
    uint8_t (*hashes)[CMIF_WIRE_HASH_SIZE]; /* (rows + 1) */
    size_t            hash_room;
    struct cmif_seat *next;
} cmif_seat;

typedef struct cmif_seats {
    cmif_seat *first;    /* all sessions */
    cmif_seat *slots[256];
    uint32_t   runs[256];
    uint32_t   slot_count;
    size_t     count;
} cmif_seats;

/* The live session of this handle and owner; NULL: none. */
cmif_seat *cmif_seats_find(cmif_seats *seats, const uint8_t handle[static CMIF_WIRE_HANDLE_SIZE],
                           const uint8_t owner[static CMIF_WIRE_HASH_SIZE]);
/* A new session with a random handle. Errors: MEMORY, IO (no random numbers). */
CMIF_MUST_USE cmif_code cmif_seats_add(cmif_seats *seats, const uint8_t owner[static CMIF_WIRE_HASH_SIZE], uint64_t now_ms,
                                       cmif_seat **out, cmif_err *err);
void                    cmif_seats_remove(cmif_seats *seats, cmif_seat *seat);

/* The session that was idle longest without a connection (with_conn: with one, too); NULL: all are in use. */
cmif_seat *cmif_seats_oldest(cmif_seats *seats, bool with_slot, bool with_conn);
/* Give seat a slot: a free one, else that of the longest idle session, which is then EVICTED. false: all are busy. */
bool cmif_seats_sit(cmif_seats *seats, cmif_seat *seat);
/* Take the slot away; the cache went for this reason. */
void cmif_seats_stand(cmif_seats *seats, cmif_seat *seat, cmif_reset_reason reason);

/* Is the running hash at position this one? false also when position is beyond rows. */
bool cmif_seat_match(const cmif_seat *seat, uint32_t position, const uint8_t hash[static CMIF_WIRE_HASH_SIZE]);
/* The hash at rows: zeros at 0. */
const uint8_t *cmif_seat_hash(const cmif_seat *seat);
/* One more row, as it was sent. Errors: MEMORY. */
CMIF_MUST_USE cmif_code cmif_seat_append(cmif_seat *seat, cmif_row_type type, const void *row, size_t row_size,
                                         cmif_err *err);
/* Forget the rows from position on. position <= rows. */
void cmif_seat_cut(cmif_seat *seat, uint32_t position);

#endif
