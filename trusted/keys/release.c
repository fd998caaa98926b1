#include "keys/keys.h"
#include "keys/talk.h"
#include "seal/seal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

enum { FRAME_MAX = CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX };

/* ---- the folder of keys ---- */

/* The next regular file of the folder that does not begin with a dot; false: there is none. */
static bool next_file(DIR *dir, const char *folder, char *path, size_t room)
{
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat info;
        if (entry->d_name[0] != '.' && snprintf(path, room, "%s/%s", folder, entry->d_name) < (int) room &&
            stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            return true;
        }
    }
    return false;
}

cmif_code cmif_key_count(const char *folder, size_t *out, cmif_err *err)
{
    char        path[4096];
    cmif_secret key   = {0};
    size_t      count = 0;
    DIR        *dir   = opendir(folder);
    cmif_code   rc    = dir ? cmif_secret_reserve(&key, CMIF_SEAL_KEY_SIZE, err)
                            : cmif_fail(err, CMIF_E_IO, "cannot read the folder of keys '%s': %s", folder, strerror(errno));
    while (rc == CMIF_OK && next_file(dir, folder, path, sizeof path)) {
        rc = cmif_seal_key_read(path, key.data, err);
        count++;
    }
    cmif_secret_wipe(&key);
    if (dir) {
        closedir(dir);
    }
    if (rc == CMIF_OK) {
        *out = count;
    }
    return rc;
}

/* The key of this id, into key [32]; false: there is none that can be read. */
static bool find_key(const char *folder, const uint8_t id[static 32], uint8_t key[static CMIF_SEAL_KEY_SIZE])
{
    char path[4096];
    bool found = false;
    DIR *dir   = opendir(folder);
    while (dir && !found && next_file(dir, folder, path, sizeof path)) {
        uint8_t have[CMIF_SEAL_ID_SIZE];
        if (cmif_seal_key_read(path, key, NULL) == CMIF_OK) {
            cmif_seal_key_id(key, have);
            found = memcmp(have, id, sizeof have) == 0; /* ids are no secrets */
        }
    }
    if (dir) {
        closedir(dir);
    }
    if (!found) {
        cmif_wipe(key, CMIF_SEAL_KEY_SIZE);
    }
    return found;
}

/* ---- one request ---- */

typedef struct request {
    cmif_talk            talk;
    const cmif_key_rule *rule;
    cmif_peer_binding    binding;
    uint8_t              id[32];
    uint8_t             *proof;
    size_t               size;
    cmif_peer_verdict   *verdict;
    cmif_secret          key;
} request;

static cmif_code ask(request *r, cmif_channel *channel, cmif_err *err)
{
    cmif_frame frame = {.kind = CMIF_FRAME_CHALLENGE};
    cmif_code  rc    = CMIF_OK;
    size_t     have  = 0;

    r->binding.role = 'c';
    rc              = cmif_channel_binding(channel, r->binding.exporter, r->binding.own_key, r->binding.shown_key, err);
    if (rc == CMIF_OK && RAND_bytes(r->binding.nonce, sizeof r->binding.nonce) != 1) {
        rc = cmif_fail(err, CMIF_E_IO, "the system gives no random bytes");
    }
    memcpy(frame.challenge.nonce, r->binding.nonce, sizeof r->binding.nonce);
    rc = rc ? rc : cmif_talk_send(&r->talk, &frame, err);
    while (rc == CMIF_OK && (have == 0 || have < r->size)) {
        rc = cmif_talk_receive(&r->talk, &frame, err); /* the states allow nothing but the next piece */
        if (rc == CMIF_OK && frame.kind != CMIF_FRAME_EVIDENCE) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "%s, expected EVIDENCE", cmif_frame_name(frame.kind));
        }
        if (rc == CMIF_OK && !r->proof) {
            r->size  = frame.evidence.total;
            r->proof = malloc(r->size);
            rc = r->proof ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu bytes of evidence", r->size);
        }
        if (rc == CMIF_OK && (frame.evidence.offset != have || frame.evidence.size > r->size - have)) {
            rc = cmif_fail(err, CMIF_E_FORMAT, "a piece of evidence that does not follow the piece before");
        }
        if (rc == CMIF_OK) {
            memcpy(r->proof + have, frame.evidence.bytes, frame.evidence.size);
            have += frame.evidence.size;
        }
    }
    return rc;
}

/* What the policy looked at, "mrtd:<hex>,rtmr0:<hex>"; where it looks at nothing, what there is. */
static void say_measured(const cmif_attest_policy *policy, const cmif_verdict *v, char *out, size_t room)
{
    static const char *const usual[] = {"mrenclave", "mrtd", "measurement"};
    size_t                   used    = 0;
    for (size_t i = 0; i < policy->measured_count; i++) {
        const cmif_measured *m      = &policy->measured[i];
        const bool           looked = m->tee == v->tee || v->tee == CMIF_TEE_TPM; /* a TEE may vouch for a TPM */
        const char          *value  = looked ? cmif_verdict_field(v, m->name) : NULL;
        bool                 before = false;
        for (size_t k = 0; k < i; k++) {
            before = before || (policy->measured[k].tee == m->tee && !strcmp(policy->measured[k].name, m->name));
        }
        if (value && !before && used + strlen(m->name) + strlen(value) + 2 < room) {
            used += (size_t) snprintf(out + used, room - used, "%s%s:%s", used ? "," : "", m->name, value);
        }
    }
    for (size_t i = 0; !used && i < sizeof usual / sizeof *usual; i++) {
        const char *value = cmif_verdict_field(v, usual[i]);
        used              = value ? (size_t) snprintf(out, room, "%s:%s", usual[i], value) : 0;
    }
}

/* Every reason of the verdict that fits. */
static void say_why(const cmif_peer_verdict *p, cmif_code rc, char *out, size_t room)
{
    const cmif_verdict *v    = &p->verdict;
    size_t              used = 0;
    for (size_t i = 0; i < v->reason_count && used + sizeof v->reasons[i] + 1 < room; i++) {
        used += (size_t) snprintf(out + used, room - used, "%s%s", used ? "," : "", v->reasons[i]);
    }
    if (!used) {
        snprintf(out, room, "%s",
                 rc != CMIF_E_TRUST && rc != CMIF_E_FORMAT ? "not-judged" /* the store, the policy, memory */
                 : v->outcome == CMIF_UNSUPPORTED          ? "unsupported"
                                                           : "malformed");
    }
}

/* Judge, look for the key, and write the line: after OK it is on disk and r->key may go. rc: of asking. */
static cmif_code decide(request *r, cmif_code rc, const char *address, char line[static CMIF_KEY_LINE_MAX],
                        cmif_err *err)
{
    const cmif_key_rule *rule           = r->rule;
    char                 measured[2800] = "", why[800] = ""; /* 24 PCRs of SHA-384, and a TEE's */
    const bool           asked = rc == CMIF_OK;
    const char          *tee   = "";
    cmif_err             log_err;

    if (asked) {
        rc = cmif_peer_judge(&rule->peer, &r->binding, r->proof, r->size, r->verdict, err);
        if (r->verdict->judged) {
            say_measured(&rule->peer.policy->policy, &r->verdict->verdict, measured, sizeof measured);
        }
        if (rc != CMIF_OK) {
            say_why(r->verdict, rc, why, sizeof why);
        }
    } else {
        snprintf(why, sizeof why, "no-evidence");
    }
    if (rc == CMIF_OK && !find_key(rule->folder, r->id, r->key.data)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "the evidence is accepted, but there is no key of this id here");
        snprintf(why, sizeof why, "no-such-key");
    }
    if (r->verdict->verdict.tee) {
        tee = r->verdict->verdict.tee == CMIF_TEE_SIM ? "sim-INSECURE" : cmif_tee_word(r->verdict->verdict.tee);
    }
    const cmif_key_entry entry  = {.time     = (int64_t) time(NULL),
                                   .released = rc == CMIF_OK,
                                   .address  = address,
                                   .tee      = tee,
                                   .measured = measured,
                                   .why      = why,
                                   .key_id   = r->id,
                                   .policy   = rule->peer.policy->hash};
    const cmif_code      log_rc = cmif_key_log_put(rule->log, &entry, line, &log_err);
    if (log_rc != CMIF_OK) { /* what is not written down does not happen */
        rc = log_rc;
        if (err) {
            *err = log_err;
        }
    }
    return rc;
}

cmif_code cmif_key_release(cmif_channel *channel, const char *address, const cmif_key_rule *rule,
                           char line[static CMIF_KEY_LINE_MAX], cmif_err *err)
{
    request    r     = {.rule = rule, .verdict = calloc(1, sizeof *r.verdict)};
    cmif_frame frame = {0}, answer = {0};
    cmif_err   send_err;
    cmif_code  rc = r.verdict ? CMIF_OK : cmif_fail(err, CMIF_E_MEMORY, "no memory for a verdict");

    line[0] = '\0';
    rc      = rc ? rc : cmif_talk_init(&r.talk, channel, /* server= */ true, FRAME_MAX, CMIF_KEY_SECONDS, err);
    rc      = rc ? rc : cmif_secret_reserve(&r.key, CMIF_SEAL_KEY_SIZE, err);
    rc      = rc ? rc : cmif_talk_receive(&r.talk, &frame, err);
    if (rc == CMIF_OK && frame.kind != CMIF_FRAME_UNSEAL) {
        cmif_frame_set_error(&answer, CMIF_WIRE_E_UNSUPPORTED, "this is a key server: it knows UNSEAL only");
        (void) !cmif_talk_send(&r.talk, &answer, NULL);
        rc = cmif_fail(err, CMIF_E_FORMAT, "%s, expected UNSEAL: it is a key server", cmif_frame_name(frame.kind));
    }
    if (rc != CMIF_OK) { /* nobody asked for a key */
        goto done;
    }
    memcpy(r.id, frame.unseal.id, sizeof r.id);
    rc = ask(&r, channel, err);
    if (rule->lock) {
        rule->lock(rule->context);
    }
    rc = decide(&r, rc, address, line, err);
    if (rule->unlock) {
        rule->unlock(rule->context);
    }
    if (rc == CMIF_OK) {
        answer.kind = CMIF_FRAME_KEY;
        memcpy(answer.key.key, r.key.data, CMIF_SEAL_KEY_SIZE);
    } else if (rc == CMIF_E_RANGE && r.verdict->verdict.outcome == CMIF_ACCEPTED &&
               r.verdict->judged) { /* he may know */
        cmif_frame_set_error(&answer, CMIF_WIRE_E_UNSUPPORTED, "there is no key of this id here");
    } else {
        cmif_frame_set_error(&answer, CMIF_WIRE_E_PROTOCOL, "refused: the key server's log says why");
    }
    if (cmif_talk_send(&r.talk, &answer, &send_err) != CMIF_OK && rc == CMIF_OK) {
        rc = cmif_fail(err, CMIF_E_IO, "the key was to go, but the connection broke");
    }
    cmif_wipe(&answer, sizeof answer);
done:
    cmif_talk_wipe(&r.talk);
    cmif_secret_wipe(&r.key);
    free(r.proof);
    free(r.verdict);
    return rc;
}
