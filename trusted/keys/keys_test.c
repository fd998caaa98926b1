/* A key goes to whom the policy accepts, over this connection, for this nonce; and only once a line about it is on
 * disk. */
#include "keys/keys.h"

#include "base/bytes.h"
#include "base/check.h"
#include "channel/listen.h"
#include "keys/talk.h"
#include "seal/seal.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDENTITY "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ANOTHER "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define POLICY "attestation-policy 1\naccept sim\nloosen simulator\nmeasure sim measurement " IDENTITY "\n"
#define LOOSE "attestation-policy 1\naccept sim\nloosen simulator\nloosen any-measurement\n"

static char                     folder[] = "/tmp/cmif-keys-XXXXXX", keys[64], log_path[64];
static uint8_t                  key[32], key_id[32];
static cmif_attest_policy_file *policy;
static cmif_listener           *listener;
static cmif_key_log            *key_log;

static const char *in_folder(const char *name)
{
    static char paths[4][80];
    static int  next;
    char       *path = paths[next++ & 3];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* ---- a server that takes one connection, in a thread of its own ---- */

typedef struct server {
    pthread_t thread;
    cmif_code rc;
    cmif_err  err;
    char      line[CMIF_KEY_LINE_MAX];
} server;

static void *serve(void *context)
{
    server             *s       = context;
    cmif_channel       *channel = NULL;
    const cmif_key_rule rule    = {.peer = {.policy = policy, .time = INT64_MIN}, .folder = keys, .log = key_log};
    char                address[CMIF_LISTEN_ADDRESS_SIZE];
    int                 fd;
    s->rc = cmif_listener_wait(listener, -1, &fd, address, &s->err);
    s->rc = s->rc ? s->rc : cmif_listener_greet(listener, fd, 5, &channel, &s->err);
    s->rc = s->rc ? s->rc : cmif_key_release(channel, address, &rule, s->line, &s->err);
    cmif_channel_free(channel);
    return NULL;
}

static void begin(server *s)
{
    memset(s, 0, sizeof *s);
    CHECK(pthread_create(&s->thread, NULL, serve, s) == 0);
}

static void end(server *s)
{
    pthread_join(s->thread, NULL);
}

static cmif_peer there(void)
{
    static char port[8];
    snprintf(port, sizeof port, "%s", strrchr(cmif_listener_address(listener), ':') + 1);
    return (cmif_peer){.host = "127.0.0.1", .port = port, .pin = cmif_listener_pin(listener)};
}

static cmif_maker *maker_of(const char *identity)
{
    const cmif_maker_options o     = {.kind = CMIF_MAKER_SIM, .identity = identity, .insecure = 1};
    cmif_maker              *maker = NULL;
    CHECK(cmif_maker_open(&o, &maker, NULL) == CMIF_OK);
    return maker;
}

/* Ask as somebody. Both sides' ends are kept. */
static cmif_code ask(server *s, const char *identity, const uint8_t id[static 32], cmif_secret *got, cmif_err *err)
{
    cmif_maker        *maker = maker_of(identity);
    const cmif_key_ask what  = {.peer = there(), .maker = maker, .claims = {.program = "test"}, .key_id = id};
    begin(s);
    cmif_code rc = cmif_key_fetch(&what, got, err);
    end(s);
    cmif_maker_free(maker);
    return rc;
}

static cmif_key_summary audited(void)
{
    cmif_key_summary s = {.lines = 999};
    CHECK(cmif_key_audit(log_path, &s, NULL) == CMIF_OK);
    return s;
}

static void whom_the_policy_accepts_gets_the_key_and_is_written_down(void)
{
    const cmif_key_summary before = audited();
    cmif_secret            got    = {0};
    server                 s;
    char                   hex[65];
    CHECK(ask(&s, IDENTITY, key_id, &got, NULL) == CMIF_OK && s.rc == CMIF_OK);
    CHECK(got.size == 32 && !memcmp(got.data, key, 32));
    cmif_hex(key_id, 32, hex);
    CHECK(strstr(s.line, "Z released 127.0.0.1:") && strstr(s.line, hex) &&
          strstr(s.line, " tee=sim-INSECURE measured=measurement:" IDENTITY " policy="));
    cmif_hex(policy->hash, 32, hex);
    CHECK(strstr(s.line, hex) && strstr(s.line, " why=- chain="));
    cmif_hex(key, 32, hex);
    CHECK(!strstr(s.line, hex));
    const cmif_key_summary after = audited();
    CHECK(after.lines == before.lines + 1 && after.released == before.released + 1 && after.refused == before.refused);
    cmif_secret_wipe(&got);
}

static void another_program_gets_nothing_and_does_not_learn_which_keys_there_are(void)
{
    static const uint8_t   unknown[32] = {1, 2, 3};
    const cmif_key_summary before      = audited();
    cmif_secret            got         = {0};
    cmif_err               has, has_not;
    server                 s;
    CHECK(ask(&s, ANOTHER, key_id, &got, &has) == CMIF_E_PEER && s.rc == CMIF_E_TRUST && got.size == 0);
    CHECK(strstr(s.line, " refused 127.0.0.1:") && strstr(s.line, "measured=measurement:" ANOTHER) &&
          strstr(s.line, " why=measurement-measurement chain="));
    CHECK(ask(&s, ANOTHER, unknown, &got, &has_not) == CMIF_E_PEER && s.rc == CMIF_E_TRUST && got.size == 0);
    CHECK(!strcmp(has.text, has_not.text) && strstr(has.text, "refused: the key server's log says why"));
    CHECK(ask(&s, IDENTITY, unknown, &got, &has) == CMIF_E_PEER && strstr(has.text, "there is no key of this id here"));
    CHECK(strstr(s.line, " refused ") && strstr(s.line, " why=no-such-key chain="));
    CHECK(audited().refused == before.refused + 3 && audited().released == before.released);
    cmif_secret_wipe(&got);
}

/* A client by hand, that shows a proof over what it likes. */
static uint8_t last_nonce[32];

static cmif_code show_by_hand(server *s, void (*change)(cmif_binding *), size_t keep, cmif_frame *answer, cmif_err *err)
{
    const cmif_peer peer    = there();
    cmif_channel   *channel = NULL;
    cmif_maker     *maker   = maker_of(IDENTITY);
    cmif_talk       talk    = {0};
    cmif_frame      frame   = {.kind = CMIF_FRAME_UNSEAL};
    uint8_t         exporter[32], own[32], theirs[32], nonce[32], *proof = NULL;
    size_t          size   = 0;
    cmif_claims     claims = {.program = "test"};
    memcpy(frame.unseal.id, key_id, 32);
    begin(s);
    CHECK(cmif_channel_open(&peer, &channel, NULL) == CMIF_OK &&
          cmif_talk_init(&talk, channel, false, 4096, 10, NULL) == CMIF_OK);
    CHECK(cmif_talk_send(&talk, &frame, NULL) == CMIF_OK && cmif_talk_receive(&talk, &frame, NULL) == CMIF_OK &&
          frame.kind == CMIF_FRAME_CHALLENGE);
    memcpy(nonce, frame.challenge.nonce, 32);
    CHECK(memcmp(last_nonce, nonce, 32) != 0); /* never the same twice */
    memcpy(last_nonce, nonce, 32);
    CHECK(cmif_channel_binding(channel, exporter, own, theirs, NULL) == CMIF_OK);
    cmif_binding binding = {.role = 'c', .nonce = nonce, .exporter = exporter, .own_key = own, .other_key = theirs};
    change(&binding);
    CHECK(cmif_proof_make(maker, &claims, &binding, &proof, &size, NULL) == CMIF_OK);
    frame                = (cmif_frame){.kind = CMIF_FRAME_EVIDENCE};
    frame.evidence.total = (uint32_t) size;
    frame.evidence.bytes = proof;
    frame.evidence.size  = keep < size ? keep : size;
    cmif_code rc         = CMIF_OK;
    if (keep) {
        CHECK(cmif_talk_send(&talk, &frame, NULL) == CMIF_OK);
    }
    if (keep >= size) {
        rc = cmif_talk_receive(&talk, answer, err);
    }
    free(proof);
    cmif_talk_wipe(&talk);
    cmif_channel_free(channel);
    cmif_maker_free(maker);
    end(s);
    return rc;
}

static const uint8_t stranger[32] = {9, 9, 9};

static void change_nothing(cmif_binding *b)
{
    (void) b;
}
static void change_nonce(cmif_binding *b)
{
    b->nonce = stranger;
}
static void change_exporter(cmif_binding *b)
{
    b->exporter = stranger;
}
static void change_other_key(cmif_binding *b)
{
    b->other_key = stranger;
}
static void change_own_key(cmif_binding *b)
{
    b->own_key = stranger;
}
static void change_role(cmif_binding *b)
{
    b->role = 's';
}

/* What was shown before, on another connection, to another server, by another, or by the server itself. */
static void evidence_of_another_time_connection_or_side_is_refused(void)
{
    static void (*const changes[])(cmif_binding *) = {change_nonce, change_exporter, change_other_key, change_own_key,
                                                      change_role};
    cmif_frame answer                              = {0};
    cmif_err   err;
    server     s;
    CHECK(show_by_hand(&s, change_nothing, SIZE_MAX, &answer, &err) == CMIF_OK && answer.kind == CMIF_FRAME_KEY &&
          s.rc == CMIF_OK);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        answer = (cmif_frame){0};
        CHECK(show_by_hand(&s, changes[i], SIZE_MAX, &answer, &err) == CMIF_E_PEER && strstr(err.text, "refused"));
        CHECK(s.rc == CMIF_E_TRUST && strstr(s.line, " refused ") && strstr(s.line, " why=report-data chain="));
    }
}

static void who_asks_and_shows_nothing_is_written_down_too(void)
{
    const cmif_key_summary before = audited();
    cmif_frame             answer;
    server                 s;
    CHECK(show_by_hand(&s, change_nothing, 0, &answer, NULL) == CMIF_OK && s.rc == CMIF_E_IO &&
          strstr(s.line, " tee=- measured=- ") && strstr(s.line, " why=no-evidence chain="));
    CHECK(show_by_hand(&s, change_nothing, 10, &answer, NULL) == CMIF_OK && s.rc == CMIF_E_IO &&
          strstr(s.line, " why=no-evidence chain="));
    CHECK(audited().refused == before.refused + 2);
}

static void who_speaks_of_something_else_is_told_so_and_leaves_no_line(void)
{
    static const cmif_frame_kind kinds[] = {CMIF_FRAME_HELLO, CMIF_FRAME_CHALLENGE};
    const cmif_key_summary       before  = audited();
    for (size_t i = 0; i < 2; i++) {
        const cmif_peer peer    = there();
        cmif_channel   *channel = NULL;
        cmif_talk       talk    = {0};
        cmif_frame      frame   = {.kind = (uint16_t) kinds[i]};
        cmif_err        err;
        server          s;
        if (i == 0) {
            frame.hello.version = frame.hello.version_min = 1;
        }
        begin(&s);
        CHECK(cmif_channel_open(&peer, &channel, NULL) == CMIF_OK &&
              cmif_talk_init(&talk, channel, false, 4096, 10, NULL) == CMIF_OK);
        CHECK(cmif_talk_send(&talk, &frame, NULL) == CMIF_OK);
        CHECK(cmif_talk_receive(&talk, &frame, &err) == CMIF_E_PEER && strstr(err.text, "this is a key server"));
        cmif_talk_wipe(&talk);
        cmif_channel_free(channel);
        end(&s);
        CHECK(s.rc == CMIF_E_FORMAT && strstr(s.err.text, "expected UNSEAL") && !s.line[0]);
    }
    CHECK(audited().lines == before.lines);
}

/* ---- without a line there is no key ---- */

static void a_disk_that_is_full_for_the_log_gives_no_key(void)
{
    const cmif_key_summary before = audited();
    cmif_secret            got    = {0};
    struct stat            info;
    struct rlimit          old, small;
    server                 s;
    cmif_err               err;
    CHECK(stat(log_path, &info) == 0 && getrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t room = 0; room < 200; room += 100) { /* none, and some for half a line */
        small = (struct rlimit){(rlim_t) info.st_size + room, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        CHECK(ask(&s, IDENTITY, key_id, &got, &err) == CMIF_E_PEER && s.rc == CMIF_E_IO && got.size == 0);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK(strstr(s.err.text, "cannot write the key log") && !s.line[0] && !strstr(err.text, "disk"));
        CHECK(audited().lines == before.lines && audited().torn == 0);
    }
    CHECK(ask(&s, IDENTITY, key_id, &got, NULL) == CMIF_OK &&
          got.size == 32); /* and goes on when there is room again */
    CHECK(audited().lines == before.lines + 1);
    cmif_secret_wipe(&got);
}

static void a_log_that_was_moved_or_written_to_gives_no_key(void)
{
    cmif_secret got = {0};
    server      s;
    for (int i = 0; i < 3; i++) {
        FILE *file = i == 2 ? fopen(log_path, "a") : NULL;
        CHECK(i != 0 || rename(log_path, in_folder("moved")) == 0);
        CHECK(i != 1 || rename(log_path, in_folder("moved")) == 0);
        if (i == 1) {
            fclose(fopen(log_path, "w"));
        }
        if (file) {
            fputs("x", file);
            fclose(file);
        }
        CHECK(ask(&s, IDENTITY, key_id, &got, NULL) == CMIF_E_PEER && s.rc == CMIF_E_IO && got.size == 0);
        CHECK(strstr(s.err.text, "was moved, or written to by others"));
        CHECK(i == 2 || rename(in_folder("moved"), log_path) == 0);
        CHECK(ask(&s, IDENTITY, key_id, &got, NULL) == CMIF_E_PEER && got.size == 0); /* until somebody has looked */
        cmif_key_log_free(key_log);
        key_log = NULL;
        CHECK(cmif_key_log_open(log_path, &key_log, NULL) == CMIF_OK); /* the torn "x" is cut off */
        CHECK(audited().torn == 0);
    }
}

/* ---- the log ---- */

static const uint8_t some[32] = {1};

static cmif_key_entry entry(bool released, const char *why)
{
    return (cmif_key_entry){.time     = 1750000000,
                            .released = released,
                            .address  = "[::1]:7",
                            .tee      = "tdx",
                            .measured = "mrtd:00",
                            .why      = why,
                            .key_id   = some,
                            .policy   = some};
}

static cmif_code audit_of(const char *bytes, size_t size, cmif_key_summary *s, cmif_err *err)
{
    FILE *file = fopen(in_folder("copy"), "w");
    CHECK(fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    return cmif_key_audit(in_folder("copy"), s, err);
}

static void every_edit_of_a_log_shows(void)
{
    cmif_key_log    *l = NULL;
    cmif_key_summary s;
    cmif_err         err;
    char             bytes[4096], other[4096];
    CHECK(cmif_key_log_open(in_folder("l"), &l, NULL) == CMIF_OK);
    for (int i = 0; i < 4; i++) {
        const cmif_key_entry e = entry(i % 2 == 0, i % 2 ? "debug" : "");
        CHECK(cmif_key_log_put(l, &e, NULL, NULL) == CMIF_OK);
    }
    cmif_key_log_free(l);
    FILE        *file = fopen(in_folder("l"), "r");
    const size_t size = fread(bytes, 1, sizeof bytes, file), line = size / 4;
    fclose(file);
    CHECK(!strncmp(bytes, "2025-06-15T15:06:40Z released [::1]:7 key=0100", 46));
    CHECK(audit_of(bytes, size, &s, NULL) == CMIF_OK && s.lines == 4 && s.released == 2 && s.refused == 2 && !s.torn);
    for (size_t at = 0; at < size; at++) { /* any byte, to one that could be meant or not */
        bytes[at] ^= 1;
        CHECK(audit_of(bytes, size, &s, &err) != CMIF_OK || (at == size - 1 && s.torn && s.lines == 3));
        bytes[at] ^= 1;
    }
    const char *second = strchr(bytes, '\n') + 1, *third = strchr(second, '\n') + 1, *fourth = strchr(third, '\n') + 1;
    memcpy(other, second, size - (size_t) (second - bytes)); /* the first taken out */
    CHECK(audit_of(other, size - (size_t) (second - bytes), &s, &err) == CMIF_E_TRUST && strstr(err.text, "line 1:"));
    memcpy(other, bytes, (size_t) (second - bytes)); /* the second */
    memcpy(other + (second - bytes), third, size - (size_t) (third - bytes));
    CHECK(audit_of(other, size - (size_t) (third - second), &s, &err) == CMIF_E_TRUST && strstr(err.text, "line 2:"));
    memcpy(other, bytes, size); /* two changed places: of equal length are 2 and 4 */
    memcpy(other + (second - bytes), fourth, size - (size_t) (fourth - bytes));
    CHECK(audit_of(other, size, &s, &err) == CMIF_E_TRUST && strstr(err.text, "line 2:"));
    CHECK(audit_of(bytes, size - 1, &s, NULL) == CMIF_OK && s.lines == 3 && s.torn > 100); /* torn: no key went */
    CHECK(audit_of(bytes, 0, &s, NULL) == CMIF_OK && s.lines == 0);
    CHECK(audit_of("\n", 1, &s, &err) == CMIF_E_FORMAT && strstr(err.text, "line 1 is none that a key server wrote"));
    char *large = calloc(1, 100000);
    CHECK(audit_of(large, 100000, &s, &err) == CMIF_E_FORMAT);
    free(large);
    CHECK(line > 100 && cmif_key_audit("/nowhere/log", &s, NULL) == CMIF_E_IO);
}

static void a_log_goes_on_where_it_ended(void)
{
    cmif_key_log        *l = NULL, *second = NULL;
    cmif_key_summary     s;
    struct stat          info;
    const cmif_key_entry e = entry(true, "");
    char                 line[CMIF_KEY_LINE_MAX];
    cmif_err             err;
    CHECK(cmif_key_log_open(in_folder("l"), &l, NULL) == CMIF_OK && stat(in_folder("l"), &info) == 0 &&
          (info.st_mode & 0777) == 0600);
    CHECK(cmif_key_log_open(in_folder("l"), &second, &err) == CMIF_E_IO && !second && strstr(err.text, "in use"));
    CHECK(cmif_key_log_put(l, &e, line, NULL) == CMIF_OK && strlen(line) > 200 && !strchr(line, '\n'));
    cmif_key_log_free(l);
    CHECK(cmif_key_audit(in_folder("l"), &s, NULL) == CMIF_OK && s.lines == 5);
    FILE *file = fopen(in_folder("l"), "a"); /* the power went while a line was written */
    fputs("2026-11-21T22:15:00Z released 10.0", file);
    fclose(file);
    CHECK(cmif_key_audit(in_folder("l"), &s, NULL) == CMIF_OK && s.lines == 5 && s.torn == 34);
    CHECK(cmif_key_log_open(in_folder("l"), &l, NULL) == CMIF_OK && cmif_key_log_put(l, &e, NULL, NULL) == CMIF_OK);
    cmif_key_log_free(l);
    CHECK(cmif_key_audit(in_folder("l"), &s, NULL) == CMIF_OK && s.lines == 6 && s.torn == 0);
    CHECK(symlink(in_folder("l"), in_folder("link")) == 0 &&
          cmif_key_log_open(in_folder("link"), &l, NULL) == CMIF_E_IO);
    unlink(in_folder("link"));
}

/* What others wrote cannot end a line or begin a field. */
static void words_of_others_stay_in_their_field(void)
{
    cmif_key_log    *l = NULL;
    char             line[CMIF_KEY_LINE_MAX];
    cmif_key_entry   e = entry(false, "a\nb c=d\x1b[2J\xff");
    cmif_key_summary s;
    CHECK(cmif_key_log_open(in_folder("m"), &l, NULL) == CMIF_OK && cmif_key_log_put(l, &e, line, NULL) == CMIF_OK);
    CHECK(strstr(line, " why=a_b_c_d_[2J_ chain="));
    char *long_why = malloc(5000);
    memset(long_why, 'a', 4999);
    long_why[4999] = '\0';
    e              = entry(false, long_why);
    CHECK(cmif_key_log_put(l, &e, NULL, NULL) == CMIF_E_RANGE);
    free(long_why);
    cmif_key_log_free(l);
    CHECK(cmif_key_audit(in_folder("m"), &s, NULL) == CMIF_OK && s.lines == 1);
}

/* ---- a false key server ---- */

static void *serve_falsely(void *context)
{
    cmif_channel *channel = NULL;
    cmif_talk     talk    = {0};
    cmif_frame    frame;
    char          address[CMIF_LISTEN_ADDRESS_SIZE];
    int           fd;
    (void) context;
    if (cmif_listener_wait(listener, -1, &fd, address, NULL) == CMIF_OK &&
        cmif_listener_greet(listener, fd, 5, &channel, NULL) == CMIF_OK &&
        cmif_talk_init(&talk, channel, true, 1 << 20, 10, NULL) == CMIF_OK &&
        cmif_talk_receive(&talk, &frame, NULL) == CMIF_OK) {
        frame = (cmif_frame){.kind = CMIF_FRAME_CHALLENGE};
        (void) !cmif_talk_send(&talk, &frame, NULL);
        (void) !cmif_talk_receive(&talk, &frame, NULL);
        frame = (cmif_frame){.kind = CMIF_FRAME_KEY, .key = {.key = {1, 2, 3}}};
        (void) !cmif_talk_send(&talk, &frame, NULL);
        (void) !cmif_talk_receive(&talk, &frame, NULL); /* until he has gone */
    }
    cmif_talk_wipe(&talk);
    cmif_channel_free(channel);
    return NULL;
}

static void a_false_key_server_can_give_nothing_false(void)
{
    cmif_maker        *maker = maker_of(IDENTITY);
    const cmif_key_ask what  = {.peer = there(), .maker = maker, .claims = {.program = "test"}, .key_id = key_id};
    cmif_secret        got   = {0};
    cmif_err           err;
    pthread_t          thread;
    CHECK(pthread_create(&thread, NULL, serve_falsely, NULL) == 0);
    CHECK(cmif_key_fetch(&what, &got, &err) == CMIF_E_TRUST && strstr(err.text, "a key of another id") &&
          got.size == 0);
    pthread_join(thread, NULL);
    cmif_maker_free(maker);
}

static void a_folder_of_keys_is_looked_through(void)
{
    size_t   count = 0;
    cmif_err err;
    char     path[80];
    CHECK(cmif_key_count(keys, &count, NULL) == CMIF_OK && count == 3);
    snprintf(path, sizeof path, "%s/2.key", keys);
    chmod(path, 0644);
    CHECK(cmif_key_count(keys, &count, &err) == CMIF_E_TRUST && strstr(err.text, "2.key") && count == 3);
    chmod(path, 0600);
    CHECK(cmif_key_count("/nowhere", &count, &err) == CMIF_E_IO);
}

/* ---- the listener ---- */

static void a_certificate_is_made_once_and_kept(void)
{
    const cmif_listen_options o   = {.host = "127.0.0.1", .port = "0", .own = in_folder("own.pem")};
    cmif_listener            *two = NULL;
    struct stat               info;
    CHECK(cmif_listener_open(&o, &two, NULL) == CMIF_OK &&
          !strcmp(cmif_listener_pin(two), cmif_listener_pin(listener)));
    CHECK(stat(o.own, &info) == 0 && (info.st_mode & 0777) == 0600);
    cmif_listener_free(two);
    const cmif_listen_options bad = {.host = "127.0.0.1", .port = "0", .cert = log_path, .key = log_path};
    two                           = NULL;
    CHECK(cmif_listener_open(&bad, &two, NULL) == CMIF_E_FORMAT && !two);
    const cmif_listen_options taken = {.host = "127.0.0.1", .port = there().port, .own = o.own};
    CHECK(cmif_listener_open(&taken, &two, NULL) == CMIF_E_IO && !two);
}

/* Another certificate, another protocol: a client that pins notices. */
static void who_pins_another_certificate_says_nothing(void)
{
    cmif_maker  *maker = maker_of(IDENTITY);
    cmif_key_ask what  = {.peer = there(), .maker = maker, .claims = {.program = "test"}, .key_id = key_id};
    char         pin[CMIF_SERVE_PIN_SIZE];
    cmif_secret  got = {0};
    server       s;
    snprintf(pin, sizeof pin, "%s", what.peer.pin);
    pin[10]       = pin[10] == '0' ? '1' : '0';
    what.peer.pin = pin;
    begin(&s);
    CHECK(cmif_key_fetch(&what, &got, NULL) == CMIF_E_TRUST && got.size == 0);
    end(&s);
    CHECK(s.rc != CMIF_OK && !s.line[0]);
    cmif_maker_free(maker);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(folder)) {
        return 1;
    }
    snprintf(keys, sizeof keys, "%s/keys", folder);
    snprintf(log_path, sizeof log_path, "%s/key.log", folder);
    const cmif_listen_options o = {.host = "127.0.0.1", .port = "0", .own = in_folder("own.pem")};
    char                      path[80];
    uint8_t                   more[32];
    mkdir(keys, 0700);
    for (int i = 1; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%d.key", keys, i);
        if (cmif_seal_key_make(path, i == 2 ? key : more, NULL) != CMIF_OK) {
            return 1;
        }
    }
    cmif_seal_key_id(key, key_id);
    cmif_err err = {0};
    if (cmif_attest_policy_parse(POLICY, strlen(POLICY), &policy, &err) != CMIF_OK ||
        cmif_listener_open(&o, &listener, &err) != CMIF_OK || cmif_key_log_open(log_path, &key_log, &err) != CMIF_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    RUN(whom_the_policy_accepts_gets_the_key_and_is_written_down);
    RUN(another_program_gets_nothing_and_does_not_learn_which_keys_there_are);
    RUN(evidence_of_another_time_connection_or_side_is_refused);
    RUN(who_asks_and_shows_nothing_is_written_down_too);
    RUN(who_speaks_of_something_else_is_told_so_and_leaves_no_line);
    RUN(a_disk_that_is_full_for_the_log_gives_no_key);
    RUN(a_log_that_was_moved_or_written_to_gives_no_key);
    RUN(every_edit_of_a_log_shows);
    RUN(a_log_goes_on_where_it_ended);
    RUN(words_of_others_stay_in_their_field);
    RUN(a_false_key_server_can_give_nothing_false);
    RUN(a_folder_of_keys_is_looked_through);
    RUN(a_certificate_is_made_once_and_kept);
    RUN(who_pins_another_certificate_says_nothing);
    cmif_key_log_free(key_log);
    cmif_listener_free(listener);
    cmif_attest_policy_free(policy);
    static const char *const names[] = {"keys/1.key", "keys/2.key", "keys/3.key", "keys", "key.log",
                                        "own.pem",    "l",          "m",          "copy", "moved"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void) remove(in_folder(names[i]));
    }
    rmdir(folder);
    return check_report();
}
