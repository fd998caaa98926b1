#include "server/seats.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>

cmif_seat *cmif_seats_find(cmif_seats *seats, const uint8_t handle[static CMIF_WIRE_HANDLE_SIZE],
                           const uint8_t owner[static CMIF_WIRE_HASH_SIZE])
{
    cmif_seat *found = NULL;
    for (cmif_seat *s = seats->first; s; s = s->next) { /* a handle is a secret between two: no early exit */
        bool same = CRYPTO_memcmp(s->handle, handle, sizeof s->handle) == 0;
        found     = same ? s : found;
    }
    return found && CRYPTO_memcmp(found->owner, owner, sizeof found->owner) == 0 ? found : NULL;
}

cmif_code cmif_seats_add(cmif_seats *seats, const uint8_t owner[static CMIF_WIRE_HASH_SIZE], uint64_t now_ms,
                         cmif_seat **out, cmif_err *err)
{
    cmif_code  rc   = CMIF_OK;
    cmif_seat *seat = calloc(1, sizeof *seat);

    if (!seat || !(seat->hashes = calloc(1, sizeof *seat->hashes))) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for one more session");
        goto done;
    }
    if (RAND_bytes(seat->handle, sizeof seat->handle) != 1) {
        rc = cmif_fail(err, CMIF_E_IO, "no random numbers for a session handle");
        goto done;
    }
    memcpy(seat->owner, owner, sizeof seat->owner);
    seat->hash_room = 1;
    seat->slot      = CMIF_SEAT_NONE;
    seat->lost      = CMIF_RESET_MISMATCH;
    seat->used_ms   = now_ms;
    seat->next      = seats->first;
    seats->first    = seat;
    seats->count++;
    *out = seat;
    seat = NULL;
done:
    if (seat) {
        free(seat->hashes);
        free(seat);
    }
    return rc;
}

void cmif_seats_remove(cmif_seats *seats, cmif_seat *seat)
{
    cmif_seats_stand(seats, seat, CMIF_RESET_EVICTED);
    for (cmif_seat **at = &seats->first; *at; at = &(*at)->next) {
        if (*at == seat) {
            *at = seat->next;
            seats->count--;
            free(seat->hashes);
            free(seat);
            return;
        }
    }
}

cmif_seat *cmif_seats_oldest(cmif_seats *seats, bool with_slot, bool with_conn)
{
    cmif_seat *oldest = NULL;
    for (cmif_seat *s = seats->first; s; s = s->next) {
        bool candidate = !s->busy && (!with_slot || s->slot != CMIF_SEAT_NONE) && (with_conn || !s->conn);
        if (candidate && (!oldest || s->used_ms < oldest->used_ms)) {
            oldest = s;
        }
    }
    return oldest;
}

bool cmif_seats_sit(cmif_seats *seats, cmif_seat *seat)
{
    uint32_t slot = 0;
    while (slot < seats->slot_count && seats->slots[slot]) {
        slot++;
    }
    if (slot == seats->slot_count) {
        cmif_seat *oldest = cmif_seats_oldest(seats, /* with_slot= */ true, /* with_conn= */ true);
        if (!oldest) {
            return false;
        }
        slot = oldest->slot;
        cmif_seats_stand(seats, oldest, CMIF_RESET_EVICTED);
    }
    seats->slots[slot] = seat;
    seat->slot         = slot;
    return true;
}

void cmif_seats_stand(cmif_seats *seats, cmif_seat *seat, cmif_reset_reason reason)
{
    if (seat->slot != CMIF_SEAT_NONE) {
        seats->slots[seat->slot] = NULL;
        seat->slot               = CMIF_SEAT_NONE;
        seat->lost               = (uint8_t) reason;
    }
    seat->rows = 0;
    /* the room for hashes goes back: a session without a cache costs a few hundred bytes */
    void *smaller = realloc(seat->hashes, sizeof *seat->hashes);
    if (smaller) {
        seat->hashes    = smaller;
        seat->hash_room = 1;
    }
}

bool cmif_seat_match(const cmif_seat *seat, uint32_t position, const uint8_t hash[static CMIF_WIRE_HASH_SIZE])
{
    return position <= seat->rows && memcmp(seat->hashes[position], hash, CMIF_WIRE_HASH_SIZE) == 0;
}

const uint8_t *cmif_seat_hash(const cmif_seat *seat)
{
    return seat->hashes[seat->rows];
}

cmif_code cmif_seat_append(cmif_seat *seat, cmif_row_type type, const void *row, size_t row_size, cmif_err *err)
{
    if (seat->rows + 1 >= seat->hash_room) {
        size_t room   = seat->hash_room * 2 + 64;
        void  *larger = realloc(seat->hashes, room * sizeof *seat->hashes);
        if (!larger) {
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for the hashes of %zu rows", room);
        }
        seat->hashes    = larger;
        seat->hash_room = room;
    }
    memcpy(seat->hashes[seat->rows + 1], seat->hashes[seat->rows], sizeof *seat->hashes);
    cmif_wire_hash(seat->hashes[seat->rows + 1], type, row, row_size);
    seat->rows++;
    return CMIF_OK;
}

void cmif_seat_cut(cmif_seat *seat, uint32_t position)
{
    seat->rows = position < seat->rows ? position : seat->rows;
}
