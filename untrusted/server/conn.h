/* conn - one client's connection: its frames, in order, within bounds and in time. Inside of server.
 *
 * A connection uses at most one session (seat). What a client may have us keep is bounded: one frame of input, OUT_MAX of
 * output, and its session; rows go on to the engine as they come, or wait in the client's own socket. */
#ifndef CMIF_SERVER_CONN_H
#define CMIF_SERVER_CONN_H

#include "server/door.h"
#include "server/prover.h"
#include "server/seats.h"
#include "server/server.h"

#include <event2/bufferevent.h>
#include <event2/listener.h>

#define CMIF_HELLO_MS    10000 /* from accept to HELLO, from WELCOME to OPEN */
#define CMIF_PROOF_MS    20000 /* from CHALLENGE to EVIDENCE */
#define CMIF_PROOF_PACE_MS 1000 /* between two challenges of a connection ... */
#define CMIF_PROOF_BURST 4     /* ... after so many in a row */
#define CMIF_FRAME_MS    20000 /* from a frame's first byte to its last; from one chunk of rows to the next */
#define CMIF_UNREAD_MS   20000 /* a client that reads nothing of what waits for it */
#define CMIF_BUSY_MS     15000 /* a BEGIN waits for a slot */
#define CMIF_PROGRESS_MS 1500  /* silence while work goes on */
#define CMIF_LINGER_MS   2000  /* after the last frame, for the client to close */
#define CMIF_GRACE_MS    5000  /* for running streams at SIGTERM */
#define CMIF_TURNED_AWAY 64    /* connections beyond the limit that hear why */

typedef struct conn   conn;
typedef struct server server;

struct conn {
    server             *server;
    conn               *next;
    struct bufferevent *bev;
    SSL                *ssl; /* NULL: unix socket */
    uint64_t            number;
    bool                secured; /* the TLS handshake is done, or none is needed */
    bool                opening; /* OPEN waits until the session's last BEGIN is out of the engine */
    bool                waiting; /* BEGIN waits for a slot, or for the engine */
    bool                paused;  /* a frame waits in the input until there is room behind us */
    bool                closing; /* nothing more is read or said; the client may read the rest */
    bool                dead;    /* to be freed by the next sweep */
    bool                proving; /* the prover has our task */
    uint8_t             owner[CMIF_WIRE_HASH_SIZE];
    uint8_t             nonce[CMIF_WIRE_NONCE_SIZE]; /* of the last CHALLENGE */
    cmif_wire           wire;
    cmif_seat          *seat;
    cmif_frame_begin    begin;    /* the last one */
    uint32_t            progress; /* rows in the cache, as the engine said */
    uint64_t            start_ms; /* since when HELLO is waited for: accept, or the end of the first proof */
    uint64_t            greeted_ms, frame_ms, rows_ms, waiting_ms, sent_ms, drained_ms, closing_ms;
    uint64_t            challenge_ms, paced_ms; /* the last CHALLENGE; when the pace would have allowed it, all told */
    uint64_t            queued, drained; /* bytes for the client, ever; of these, gone */
    uint64_t            begins, rows, tokens, proofs;
};

struct server {
    const cmif_server_options *options;
    struct event_base         *base;
    struct event              *tick, *sweep, *interrupt, *terminate, *parent;
    cmif_door                  doors[CMIF_SERVER_DOORS_MAX];
    struct evconnlistener     *listeners[CMIF_SERVER_DOORS_MAX];
    size_t                     door_count;
    SSL_CTX                   *tls;
    char                       pin[CMIF_SERVE_PIN_SIZE];
    uint8_t                    own_key[CMIF_WIRE_HASH_SIZE]; /* as conn.owner, of our certificate */
    cmif_prover               *prover;                       /* NULL: this server shows no evidence */
    cmif_worker               *worker;
    cmif_frame_welcome         welcome; /* rows_max 0: the engine was not ready yet */
    char                       broken[256];
    uint64_t                   ready_ms; /* since when the engine is ready */
    cmif_seats                 seats;
    conn                      *conns;
    size_t                     conn_count;
    uint64_t                   conn_number;
    float                     *row;         /* one row, to be checked */
    uint64_t                   shutting_ms; /* 0: not */
    cmif_err                   failure;     /* why the loop ended */
};

uint64_t cmif_server_now_ms(void);
/* Somebody got up, or the engine is back: the BEGINs that wait, in turn. */
void cmif_server_serve_waiting(server *s);

/* A new client on fd, which is the connection's from now on. */
void conn_accept(server *s, evutil_socket_t fd, bool local);
void conn_free(conn *c);
/* Say ERROR and close. text: one clear sentence, no payload. */
void conn_fail(conn *c, cmif_wire_error code, const char *format, ...) CMIF_PRINTF(3, 4);
/* Close without a word. */
void conn_kill(conn *c, const char *why);
/* Take what came in, as far as there is room for it. */
void conn_process(conn *c);
/* Try to give the waiting BEGIN a slot; false: all are busy. */
bool conn_start(conn *c);
/* What the engine says about the run of this seat, which may have lost its connection. */
void conn_on_message(server *s, cmif_seat *seat, const cmif_pipe_message *message);
/* The engine is gone, and every cache with it. */
void conn_on_down(conn *c);
/* The proof that the open CHALLENGE of this connection asked for, or why there is none. */
void conn_on_proof(conn *c, const uint8_t *proof, size_t size, const cmif_err *why);
void conn_on_tick(conn *c, uint64_t now);
/* Is a BEGIN of this client under way? */
bool conn_is_working(const conn *c);

#endif
