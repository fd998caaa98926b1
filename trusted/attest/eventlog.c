#include "attest/eventlog.h"

#include "attest/part.h"

#include <openssl/evp.h>
#include <stdio.h>

static bool all_bytes(const uint8_t *p, size_t n, uint8_t value)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != value) {
            return false;
        }
    }
    return true;
}

cmif_code cmif_event_log_open(cmif_event_log *log, const uint8_t *data, size_t size, cmif_err *err)
{
    static const char spec2[16] = "Spec ID Event02", spec3[16] = "Spec ID Event03";
    if (size > CMIF_EVENT_LOG_SIZE_MAX) {
        return cmif_fail(err, CMIF_E_RANGE, "event log: %zu bytes, at most %d are read", size, CMIF_EVENT_LOG_SIZE_MAX);
    }
    cmif_event_log out = {.in = cmif_reader_over(data, size)};
    cmif_read_u32(&out.in); /* index: 0 in TCG2 logs, 1 in CCEL; nothing is extended */
    uint32_t       type   = cmif_read_u32(&out.in);
    const uint8_t *digest = cmif_read_bytes(&out.in, 20);
    uint32_t       length = cmif_read_u32(&out.in);
    const uint8_t *body   = cmif_read_bytes(&out.in, length);
    if (!digest || !body) {
        return cmif_fail(err, CMIF_E_FORMAT, "event log: the first record needs more than the %zu bytes there are",
                         size);
    }
    if (type != CMIF_EV_NO_ACTION || length < sizeof spec3 || memcmp(body, spec3, sizeof spec3) != 0) {
        bool old = length >= sizeof spec2 && memcmp(body, spec2, sizeof spec2) == 0;
        return cmif_fail(err, old ? CMIF_E_UNSUPPORTED : CMIF_E_FORMAT,
                         "event log: expected \"Spec ID Event03\" at offset 32, found %s",
                         old ? "a log with SHA-1 only" : "other bytes");
    }
    cmif_reader r = cmif_reader_over(body, length);
    cmif_read_bytes(&r, sizeof spec3);
    cmif_read_bytes(&r, 8); /* platform class, minor, major, errata, size of UINTN */
    uint32_t count = cmif_read_u32(&r);
    if (r.failed || count == 0) {
        return cmif_fail(err, CMIF_E_FORMAT, "event log: the first record names no digest algorithm");
    }
    if (count > CMIF_EVENT_BANKS_MAX) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "event log: %u digest algorithms, at most %d are read", count,
                         CMIF_EVENT_BANKS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        out.bank[i]        = cmif_read_u16(&r);
        out.digest_size[i] = cmif_read_u16(&r);
        size_t known       = cmif_tpm_hash_size(out.bank[i]);
        bool   twice       = false;
        for (uint32_t k = 0; k < i; k++) {
            twice = twice || out.bank[k] == out.bank[i];
        }
        if (!r.failed && (twice || out.digest_size[i] == 0 || (known && out.digest_size[i] != known))) {
            return cmif_fail(err, CMIF_E_FORMAT, "event log: algorithm 0x%04x with %u bytes, %s", out.bank[i],
                             out.digest_size[i], twice ? "named twice" : "which is not its size");
        }
    }
    uint8_t vendor = cmif_read_u8(&r);
    cmif_read_bytes(&r, vendor);
    if (r.failed || r.at != r.size) {
        return cmif_fail(err, CMIF_E_FORMAT, "event log: the first record says %u bytes, its parts do not end there",
                         length);
    }
    out.bank_count = count;
    *log           = out;
    return CMIF_OK;
}

cmif_code cmif_event_log_next(cmif_event_log *log, cmif_event *event, bool *end, cmif_err *err)
{
    cmif_reader *r     = &log->in;
    cmif_event   found = {.at = r->at};
    size_t       left  = r->size - r->at;
    if (left == 0 ||
        ((r->data[r->at] == 0x00 || r->data[r->at] == 0xff) && all_bytes(r->data + r->at, left, r->data[r->at]))) {
        *end = true;
        return CMIF_OK;
    }
    found.index    = cmif_read_u32(r);
    found.type     = cmif_read_u32(r);
    uint32_t count = cmif_read_u32(r);
    if (!r->failed && count > log->bank_count) {
        return cmif_fail(err, CMIF_E_FORMAT,
                         "event log: record at offset %zu has %u digests, the log has %zu algorithms", found.at, count,
                         log->bank_count);
    }
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        uint16_t alg  = cmif_read_u16(r);
        size_t   bank = 0;
        while (bank < log->bank_count && log->bank[bank] != alg) {
            bank++;
        }
        if (bank == log->bank_count || found.digest[bank]) {
            if (r->failed) {
                break;
            }
            return cmif_fail(err, CMIF_E_FORMAT, "event log: record at offset %zu has algorithm 0x%04x %s", found.at,
                             alg, bank == log->bank_count ? "which the first record does not name" : "twice");
        }
        found.digest[bank] = cmif_read_bytes(r, log->digest_size[bank]);
    }
    found.data_size = cmif_read_u32(r);
    found.data      = cmif_read_bytes(r, found.data_size);
    if (r->failed) {
        return cmif_fail(err, CMIF_E_FORMAT, "event log: the record at offset %zu does not end within the %zu bytes",
                         found.at, r->size);
    }
    log->event_count++;
    *event = found;
    *end   = false;
    return CMIF_OK;
}

/* EV_NO_ACTION "StartupLocality": TPM2_Startup came from this locality, and PCR 0 began as that number. */
static bool startup_locality(const cmif_event *event, uint8_t *locality)
{
    static const char name[16] = "StartupLocality";
    if (event->index != 0 || event->type != CMIF_EV_NO_ACTION || event->data_size != sizeof name + 1 ||
        memcmp(event->data, name, sizeof name) != 0) {
        return false;
    }
    *locality = event->data[sizeof name];
    return true;
}

/* value = H(value || digest) in each bank that has one; *told: in every known bank the data hashes to the digest. */
static bool extend(cmif_replay *replay, const cmif_event *event, EVP_MD_CTX *ctx, bool *told)
{
    *told = true;
    for (size_t i = 0; i < replay->bank_count; i++) {
        struct cmif_replay_bank *bank = &replay->bank[i];
        if (bank->size == 0) {
            continue;
        }
        if (!event->digest[i]) {
            bank->size = 0;
            continue;
        }
        const EVP_MD *md    = EVP_get_digestbyname(cmif_tpm_hash_name(bank->alg));
        uint8_t      *value = bank->value[event->index];
        uint8_t       of_data[EVP_MAX_MD_SIZE];
        if (!md || EVP_DigestInit_ex(ctx, md, NULL) != 1 || EVP_DigestUpdate(ctx, value, bank->size) != 1 ||
            EVP_DigestUpdate(ctx, event->digest[i], bank->size) != 1 || EVP_DigestFinal_ex(ctx, value, NULL) != 1 ||
            EVP_Digest(event->data, event->data_size, of_data, NULL, md, NULL) != 1) {
            return false;
        }
        *told = *told && memcmp(of_data, event->digest[i], bank->size) == 0;
    }
    return true;
}

cmif_code cmif_event_log_replay(const uint8_t *data, size_t size, cmif_replay *out, cmif_err *err)
{
    cmif_event_log log;
    cmif_event     event;
    bool           end = false, told;
    EVP_MD_CTX    *ctx = NULL;
    cmif_code      rc  = cmif_event_log_open(&log, data, size, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    *out = (cmif_replay){.bank_count = log.bank_count};
    for (size_t i = 0; i < log.bank_count; i++) {
        out->bank[i].alg  = log.bank[i];
        out->bank[i].size = cmif_tpm_hash_name(log.bank[i]) ? log.digest_size[i] : 0;
    }
    ctx = EVP_MD_CTX_new();
    while (ctx && (rc = cmif_event_log_next(&log, &event, &end, err)) == CMIF_OK && !end) {
        uint8_t locality;
        if (startup_locality(&event, &locality)) {
            if (out->extended[0]) {
                rc = cmif_fail(err, CMIF_E_FORMAT,
                               "event log: StartupLocality at offset %zu comes after PCR 0 was extended", event.at);
                goto done;
            }
            for (size_t i = 0; i < out->bank_count; i++) {
                if (out->bank[i].size) {
                    out->bank[i].value[0][out->bank[i].size - 1] = locality;
                }
            }
        }
        if (event.type == CMIF_EV_NO_ACTION) {
            continue;
        }
        if (event.index >= CMIF_PCRS) {
            rc =
                cmif_fail(err, CMIF_E_FORMAT, "event log: record at offset %zu extends register %u, the last one is %d",
                          event.at, event.index, CMIF_PCRS - 1);
            goto done;
        }
        if (!extend(out, &event, ctx, &told)) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "event log: OpenSSL could not hash");
            goto done;
        }
        out->extended[event.index]++;
        out->told[event.index] += told;
    }
    if (!ctx) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "event log: no memory for a hash");
    }
    out->event_count = log.event_count;
done:
    EVP_MD_CTX_free(ctx);
    return rc;
}

/* Compare with the registers that the part before has decoded from something signed. A register that was not signed is
 * not looked at. */
void cmif_event_log_check(cmif_attest_call *call)
{
    cmif_verdict    *v     = call->verdict;
    const cmif_item *log   = cmif_call_one(call, CMIF_ITEM_EVENT_LOG);
    bool             td    = v->tee == CMIF_TEE_TDX;
    const char      *bank  = td ? "sha384" : cmif_verdict_field(v, "pcr_bank");
    size_t           known = 0, told = 0, extended = 0, at = 0;
    cmif_err         err = {0};
    cmif_replay      replay;
    if (!log) {
        return;
    }
    cmif_code rc = cmif_event_log_replay(log->data, log->size, &replay, &err);
    if (rc != CMIF_OK) {
        cmif_verdict_worse(v,
                           rc == CMIF_E_MEMORY        ? CMIF_ATTEST_INTERNAL
                           : rc == CMIF_E_UNSUPPORTED ? CMIF_UNSUPPORTED
                                                      : CMIF_MALFORMED,
                           rc, "%s", err.text);
        cmif_verdict_invalid(v, "event-log");
        return;
    }
    while (bank && at < replay.bank_count &&
           (replay.bank[at].size == 0 || strcmp(cmif_tpm_hash_name(replay.bank[at].alg), bank) != 0)) {
        at++;
    }
    bool same = bank && at < replay.bank_count;
    for (unsigned i = 0; same && i < CMIF_PCRS; i++) {
        char name[16], text[2 * 64 + 1];
        snprintf(name, sizeof name, td ? "rtmr%u" : "pcr%u", i);
        const char *value = cmif_verdict_field(v, name);
        unsigned    index = td ? i + 1 : i; /* CC measurement register 0 is MRTD, which is measured and not extended */
        if (value && index < CMIF_PCRS) {
            cmif_hex(replay.bank[at].value[index], replay.bank[at].size, text);
            same = !strcmp(text, value);
            known++;
            extended += replay.extended[index];
            told += replay.told[index];
        }
    }
    if (!same || known == 0) {
        cmif_verdict_reason(v, "event-log");
        return;
    }
    cmif_verdict_number(v, "log_events", extended); /* those that the signed registers vouch for */
    cmif_verdict_number(v, "log_events_with_data", told);
}
