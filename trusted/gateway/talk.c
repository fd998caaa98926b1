#include "gateway/talk.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    HASH        = 16,
    ANSWER_MAX  = 1 << 20,
    NAMES_MAX   = 4096,
    TIMES       = 8, /* so often a text's size is taken to be kept of it, before it is looked at */
    OWNER_SIZE  = CMIF_LEDGER_KEY_MAX + 1,
    BUCKETS_MIN = 1 << 10
};
static const size_t EACH_BYTES = 64u << 20, ALL_BYTES = 512u << 20;

/* What is found by a hash: what a conversation's requests began with, up to each message; and answers, as the client
 * will send them back, with what leaves then. */
typedef struct mark {
    uint8_t        hash[HASH];
    struct mark   *next, *also; /* in its bucket; of the same conversation */
    cmif_talk     *of;
    cmif_released *came;    /* an answer; NULL: a beginning, which is */
    bool           bare;    /* bare where nothing had been replaced or drawn by then: many conversations begin so */
    bool           fresh;   /* the next release tells; */
    uint32_t       message; /* of this message */
} mark;

typedef struct holder { /* there as long as a conversation of theirs is */
    struct holder *next;
    char           name[OWNER_SIZE];
    size_t         count, bytes;       /* of all their conversations */
    cmif_talk     *longest, *shortest; /* idle, of those that are: a list */
} holder;

struct cmif_talk {
    cmif_talks        *all;
    holder            *of;
    cmif_talk         *before, *next; /* in its owner's list, while it is idle */
    cmif_conversation *conversation;  /* NULL where there is no policy: then */
    cmif_vault        *empty;         /* nothing is ever put back */
    cmif_tab           tab;
    bool               begun; /* a request of it was released */
    bool               holds; /* texts were released that no entry has yet: the next one is theirs, too */
    mark              *marks, *newest;
    size_t             marks_size, names_size, counted; /* bytes; of all of it as it is counted in the sums */
    bool               drawn;                           /* some word was */
    uint32_t           bare_to;      /* of the request being released: the first message by which something had been */
    json_t            *made, *meant; /* names: as they came to as they leave, and back */
    uint32_t           users;
    int64_t            used; /* until then */
};

struct cmif_talks {
    cmif_talks_options options;
    cmif_division     *division;
    EVP_MAC_CTX       *mac; /* of all hashes, under a key: they are of a person's words */
    holder            *owners;
    size_t             count, bytes;
    int64_t            now; /* as we were told last */
    mark             **buckets;
    size_t             bucket_count, mark_count;
};

/* ---- hashes ---- */

/* out = HMAC(key, before || kind || text), shortened. */
static bool hash_of(const cmif_talks *all, const uint8_t *before, uint8_t kind, const void *text, size_t size,
                    uint8_t out[static HASH])
{
    uint8_t full[32], head[HASH + 1 + 8];
    memcpy(head, before, HASH);
    head[HASH] = kind;
    for (size_t i = 0; i < 8; i++) {
        head[HASH + 1 + i] = (uint8_t) ((uint64_t) size >> 8 * i);
    }
    bool good = EVP_MAC_init(all->mac, NULL, 0, NULL) == 1 && EVP_MAC_update(all->mac, head, sizeof head) == 1 &&
                EVP_MAC_update(all->mac, text, size) == 1 && EVP_MAC_final(all->mac, full, NULL, sizeof full) == 1;
    if (good) {
        memcpy(out, full, HASH);
    }
    return good;
}

static bool start_hashes(cmif_talks *all)
{
    uint8_t    key[32];
    EVP_MAC   *mac      = EVP_MAC_fetch(NULL, "HMAC", NULL);
    OSSL_PARAM digest[] = {OSSL_PARAM_construct_utf8_string("digest", (char[]){"SHA256"}, 0),
                           OSSL_PARAM_construct_end()};
    all->mac            = mac ? EVP_MAC_CTX_new(mac) : NULL;
    const bool good =
        all->mac && getrandom(key, sizeof key, 0) == sizeof key && EVP_MAC_init(all->mac, key, sizeof key, digest) == 1;
    EVP_MAC_free(mac);
    cmif_wipe(key, sizeof key);
    return good;
}

static const uint8_t nothing[HASH];

/* What the request begins with, up to each message; of other endpoints, the whole of it. *from: the first that tells
 * conversations apart, the first one with a message of a user. */
static cmif_code hash_request(const cmif_talks *all, const char *owner, const cmif_request *r, uint8_t (**out)[HASH],
                              size_t *count, size_t *from, cmif_err *err)
{
    const size_t n         = r->message_count ? r->message_count : 1;
    uint8_t(*hashes)[HASH] = calloc(n, HASH), at[HASH];
    bool good              = hashes && hash_of(all, nothing, (uint8_t) r->endpoint, owner, strlen(owner), at);

    *from = r->message_count ? n : 0;
    for (size_t i = 0; good && i < n; i++) {
        const cmif_request_message *m     = r->message_count ? &r->messages[i] : NULL;
        const size_t                first = m ? m->first : 0, texts = m ? m->count : r->text_count;
        good = hash_of(all, at, m ? (uint8_t) m->speaker : 0xff, "", 0, at);
        for (size_t k = 0; good && k < texts; k++) {
            const cmif_request_text *t = &r->texts[first + k];
            good                       = hash_of(all, at, (uint8_t) t->form, t->text.data, t->text.size, at);
        }
        memcpy(hashes[i], at, HASH);
        *from = m && m->speaker == CMIF_SPEAKER_USER && i < *from ? i : *from;
    }
    if (!good) {
        free(hashes);
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for the hashes of a request");
    }
    *out   = hashes;
    *count = n;
    return CMIF_OK;
}

/* ---- marks ---- */

static mark **bucket_of(const cmif_talks *all, const uint8_t *hash)
{
    uint64_t at;
    memcpy(&at, hash, sizeof at); /* nobody can make them collide: the key is ours */
    return &all->buckets[at & (all->bucket_count - 1)];
}

/* The next mark of this hash, from `m` on, of t, or of anybody's (NULL). */
static mark *find_mark(mark *m, const uint8_t *hash, const cmif_talk *t, bool answers)
{
    while (m && ((t && m->of != t) || (m->came != NULL) != answers || memcmp(m->hash, hash, HASH) != 0)) {
        m = m->next;
    }
    return m;
}

static bool grow(cmif_talks *all)
{
    const size_t count = all->buckets ? 2 * all->bucket_count : BUCKETS_MIN, old = all->bucket_count;
    mark       **more = calloc(count, sizeof(mark *)), **before = all->buckets;
    if (!more) {
        return before != NULL; /* slower, that is all */
    }
    all->buckets      = more;
    all->bucket_count = count;
    for (size_t i = 0; i < old; i++) {
        for (mark *m = before[i], *next; m; m = next) {
            next                     = m->next;
            m->next                  = *bucket_of(all, m->hash);
            *bucket_of(all, m->hash) = m;
        }
    }
    free(before);
    return true;
}

static size_t mark_size(const mark *m)
{
    size_t size = 0;
    if (m->came) {
        (void) cmif_released_bytes(m->came, &size);
    }
    return sizeof *m + 2 * sizeof(size_t) + size; /* with malloc's own */
}

/* came is taken, also on failure. */
static mark *put_mark(cmif_talk *t, const uint8_t *hash, cmif_released *came)
{
    cmif_talks *all = t->all;
    mark       *m   = all->mark_count < all->bucket_count || grow(all) ? malloc(sizeof *m) : NULL;
    if (!m) {
        cmif_released_free(came);
        return NULL;
    }
    *m = (mark){.next = *bucket_of(all, hash), .also = t->marks, .of = t, .came = came};
    memcpy(m->hash, hash, HASH);
    *bucket_of(all, hash) = t->marks = m;
    all->mark_count++;
    t->marks_size += mark_size(m);
    return m;
}

/* known: but for those by which it is known. */
static void drop_marks(cmif_talk *t, bool known)
{
    mark *also, *left = NULL;
    for (mark *m = t->marks; m; m = also) {
        mark **at = bucket_of(t->all, m->hash);
        also      = m->also;
        if (known && !m->came && !m->bare) {
            m->also = left;
            left    = m;
            continue;
        }
        while (*at != m) {
            at = &(*at)->next;
        }
        *at = m->next;
        t->all->mark_count--;
        t->marks_size -= mark_size(m);
        cmif_released_free(m->came);
        free(m);
    }
    t->marks = t->newest = left;
}

/* Does a request that begins so go on with this one? What begins with nothing of anybody ("Hi") may be somebody else's:
 * it goes on only with a conversation that went no further. */
static cmif_talk *goes_on(const cmif_talks *all, const uint8_t *hash)
{
    const mark *m = find_mark(*bucket_of(all, hash), hash, NULL, false);
    while (m && m->bare && m != m->of->newest) {
        m = find_mark(m->next, hash, NULL, false);
    }
    return m ? m->of : NULL;
}

static bool is_bare(const cmif_talk *t)
{
    return !t->drawn && (!t->conversation || cmif_vault_count(cmif_conversation_vault(t->conversation)) == 0);
}

/* ---- life ---- */

/* Bytes of memory; the sums are brought up to date. */
static size_t size_of(cmif_talk *t)
{
    const size_t size =
        sizeof *t + t->marks_size + t->names_size + (t->conversation ? cmif_conversation_size(t->conversation) : 0);
    t->all->bytes += size - t->counted;
    t->of->bytes += size - t->counted;
    t->counted = size;
    return size;
}

/* The owner of this name, new if need be. NULL: no memory. */
static holder *holder_of(cmif_talks *all, const char *name)
{
    holder *o = all->owners;
    while (o && strcmp(o->name, name) != 0) {
        o = o->next;
    }
    if (!o && (o = calloc(1, sizeof *o))) {
        strcpy(o->name, name);
        o->next     = all->owners;
        all->owners = o;
    }
    return o;
}

static void begin_idling(cmif_talk *t)
{
    t->used                                           = t->all->now;
    t->before                                         = t->of->shortest;
    t->next                                           = NULL;
    *(t->before ? &t->before->next : &t->of->longest) = t;
    t->of->shortest                                   = t;
}

static void end_idling(cmif_talk *t)
{
    *(t->before ? &t->before->next : &t->of->longest) = t->next;
    *(t->next ? &t->next->before : &t->of->shortest)  = t->before;
}

/* All but its marks. */
static void empty(cmif_talk *t)
{
    cmif_tab_close(&t->tab);
    cmif_conversation_free(t->conversation);
    cmif_vault_free(t->empty);
    json_decref(t->made);
    json_decref(t->meant);
    t->conversation = NULL;
    t->empty        = NULL;
    t->made = t->meant = NULL;
    t->names_size      = 0;
}

/* In no list. */
static void talk_free(cmif_talk *t)
{
    drop_marks(t, /* known= */ false);
    empty(t);
    t->all->bytes -= t->counted;
    t->of->bytes -= t->counted;
    cmif_wipe(t, sizeof *t);
    free(t);
}

/* It is in no list. */
static void forget(cmif_talk *t)
{
    t->all->count--;
    t->of->count--;
    talk_free(t);
}

static void forget_longest(holder *o)
{
    cmif_talk *t = o->longest;
    end_idling(t);
    forget(t);
}

static size_t uses(const holder *o, bool bytes)
{
    return bytes ? o->bytes : o->count;
}

/* Who uses most pays for room: whose idle conversation goes when `of` wants `more` bytes, or conversations. Nobody
 * who then uses less than `of` does: what one asks for costs nobody else. NULL: there is none. */
static holder *who_pays(const cmif_talks *all, holder *of, bool bytes, size_t more)
{
    size_t  most = uses(of, bytes) + more;
    holder *best = of->longest ? of : NULL;
    for (holder *o = all->owners; o; o = o->next) {
        const size_t theirs = uses(o, bytes);
        if (o != of && o->longest && (theirs > most || (theirs == most && !best))) {
            best = o;
            most = theirs;
        }
    }
    return best;
}

/* For more of this owner's conversations and bytes: each one that goes makes room for one that had come, so that this
 * is one look at the owners for each request, and now and then some more. */
static bool make_room(cmif_talks *all, holder *of, size_t talks, size_t bytes)
{
    const cmif_talks_options *o = &all->options;
    for (;;) {
        const bool too_large = all->bytes > o->all_bytes || bytes > o->all_bytes - all->bytes;
        if (all->count + talks <= o->most && !too_large) {
            return true;
        }
        holder *payer = who_pays(all, of, too_large, too_large ? bytes : talks);
        if (!payer) {
            return false;
        }
        forget_longest(payer);
    }
}

void cmif_talks_tick(cmif_talks *all, int64_t now)
{
    all->now = now;
    for (holder **at = &all->owners, *o; (o = *at);) {
        while (o->longest && now - o->longest->used > (int64_t) all->options.idle_seconds) {
            forget_longest(o);
        }
        if (o->count == 0) {
            *at = o->next;
            free(o);
        } else {
            at = &o->next;
        }
    }
}

void cmif_talks_close(cmif_talks *all)
{
    for (holder *o = all->owners; o; o = o->next) {
        for (cmif_talk *t = o->longest, *next; t; t = next) {
            next = t->next;
            drop_marks(t, /* known= */ true);
            empty(t);
            (void) size_of(t);
            if (!t->marks) {
                end_idling(t);
                forget(t);
            }
        }
    }
}

static cmif_code talk_new(cmif_talks *all, const char *name, cmif_talk **out, cmif_err *err)
{
    const cmif_talks_options *o     = &all->options;
    cmif_conversation_options about = {.policy       = o->policy,
                                       .lists        = o->lists,
                                       .table        = o->table,
                                       .no_guarantee = o->no_guarantee,
                                       .division     = all->division};
    cmif_talk                *t     = NULL;
    holder                   *of    = NULL;
    cmif_code                 rc    = CMIF_OK;
    if (strlen(name) >= OWNER_SIZE) {
        return cmif_fail(err, CMIF_E_RANGE, "the name of a key has at most %d bytes", CMIF_LEDGER_KEY_MAX);
    }
    of = holder_of(all, name);
    if (of && !make_room(all, of, 1, 0)) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "%zu conversations are kept, and none is idle that would make room for one more of this "
                         "key's: try again later",
                         all->count);
    }
    t = of ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for a conversation");
    }
    t->all = all;
    t->of  = of;
    if (!(t->made = json_object()) || !(t->meant = json_object())) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a conversation");
    }
    if (rc == CMIF_OK) {
        rc = o->policy ? cmif_conversation_new(&about, &t->conversation, err) : cmif_vault_new(NULL, &t->empty, err);
    }
    if (rc == CMIF_OK) {
        rc = cmif_tab_open(&t->tab, o->books, of->name, err);
    }
    if (rc != CMIF_OK) {
        talk_free(t);
        return rc;
    }
    all->count++;
    of->count++;
    begin_idling(t);
    (void) size_of(t);
    *out = t;
    return CMIF_OK;
}

cmif_code cmif_talks_new(const cmif_talks_options *options, cmif_talks **out, cmif_err *err)
{
    cmif_talks *all = calloc(1, sizeof *all);
    if (!all) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory for conversations");
    }
    all->options                          = *options;
    all->options.each_bytes               = options->each_bytes ? options->each_bytes : EACH_BYTES;
    all->options.all_bytes                = options->all_bytes ? options->all_bytes : ALL_BYTES;
    const cmif_conversation_options about = {
        .policy = options->policy, .lists = options->lists, .table = options->table};
    cmif_code rc = grow(all) && start_hashes(all)
                       ? CMIF_OK
                       : cmif_fail(err, CMIF_E_MEMORY, "no memory for conversations, or no random bytes");
    if (rc == CMIF_OK && options->policy && options->table) {
        rc = cmif_division_new(&about, &all->division, err);
    }
    if (rc != CMIF_OK) {
        cmif_talks_free(all);
        return rc;
    }
    *out = all;
    return CMIF_OK;
}

void cmif_talks_free(cmif_talks *all)
{
    for (holder *o = all ? all->owners : NULL, *next; o; o = next) {
        next = o->next;
        while (o->longest) {
            forget_longest(o);
        }
        free(o);
    }
    if (all) {
        cmif_division_free(all->division);
        EVP_MAC_CTX_free(all->mac);
        free(all->buckets);
    }
    free(all);
}

size_t cmif_talks_count(const cmif_talks *all)
{
    return all->count;
}

size_t cmif_talks_bytes(const cmif_talks *all)
{
    return all->bytes;
}

cmif_code cmif_talks_find(cmif_talks *all, const char *owner, const cmif_request *r, int64_t now, cmif_talk **out,
                          cmif_err *err)
{
    uint8_t(*hashes)[HASH] = NULL;
    size_t     count = 0, from = 0;
    cmif_talk *found = NULL;
    cmif_code  rc    = hash_request(all, owner, r, &hashes, &count, &from, err);

    all->now = now;
    size_t i = rc == CMIF_OK ? count : 0;
    while (i > from && !(found = goes_on(all, hashes[i - 1]))) { /* the longest beginning that is known */
        i--;
    }
    if (rc == CMIF_OK && !found) {
        rc = talk_new(all, owner, &found, err);
    }
    if (rc == CMIF_OK) {
        for (i = i > from ? i - 1 : from; i < count && rc == CMIF_OK; i++) { /* those before are marked */
            mark *m = find_mark(*bucket_of(all, hashes[i]), hashes[i], found, false);
            if (!m && found->newest && size_of(found) > all->options.each_bytes) {
                break; /* it is found by what it begins with */
            }
            if (!m && (m = put_mark(found, hashes[i], NULL))) {
                m->fresh   = true;
                m->message = (uint32_t) i;
            }
            rc            = m ? rc : cmif_fail(err, CMIF_E_MEMORY, "no memory for a conversation");
            found->newest = m ? m : found->newest;
        }
    }
    if (rc == CMIF_OK) {
        if (found->users++ == 0) {
            end_idling(found);
        }
        *out = found;
    }
    free(hashes);
    return rc;
}

bool cmif_talks_knows(const cmif_talks *all, const char *owner, const cmif_request *r)
{
    uint8_t(*hashes)[HASH] = NULL;
    size_t count = 0, from = 0;
    bool   known = false;
    if (hash_request(all, owner, r, &hashes, &count, &from, NULL) != CMIF_OK) {
        return true;
    }
    for (size_t i = from; i < count && !known; i++) {
        const mark *m = find_mark(*bucket_of(all, hashes[i]), hashes[i], NULL, false);
        while (m && m->bare) {
            m = find_mark(m->next, hashes[i], NULL, false);
        }
        known = m != NULL;
    }
    free(hashes);
    return known;
}

void cmif_talk_end(cmif_talk *t)
{
    if (--t->users > 0) {
        return;
    }
    if (!t->begun && size_of(t) > t->all->options.each_bytes) {
        forget(t); /* all that it holds is of what was refused */
    } else {
        begin_idling(t);
    }
}

/* ---- names ---- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_big(char c)
{
    return c >= 'A' && c <= 'Z';
}

/* Is this part of a name a word of the public vocabulary that is no given name, nor of a sensitive topic where those
 * are protected? */
static bool ordinary_word(const cmif_talks_options *o, const char *text, size_t size)
{
    enum { RARE = 1 << 18, ANY_TOPIC = (1 << CMIF_TOPICS) - 1 };
    char     lower[64];
    uint32_t flags = 0, given = 0;
    if (size > sizeof lower) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        lower[i] = is_big(text[i]) ? (char) (text[i] + ('a' - 'A')) : text[i];
    }
    const cmif_str word = {lower, size};
    if (size == 1 || cmif_str_is(word, "id")) {
        return true;
    }
    return cmif_lists_find(o->lists, CMIF_LIST_WORD, word, &flags) && !(flags & RARE) &&
           !cmif_lists_find(o->lists, CMIF_LIST_GIVEN, word, &given) &&
           (!(flags & ANY_TOPIC) || o->policy->actions[CMIF_SPAN_TOPIC] == CMIF_ACTION_PASS);
}

/* Is a name or key made of nothing but ordinary words, a letter and a digit or two? "account_id", "getWeather2"; not
 * "call_maria", not a sentence, not "name_1", which is ours. Where ordinary words are protected, or the policy names
 * things of its own, no name is. */
static bool ordinary_name(const cmif_talks_options *o, cmif_str name)
{
    size_t digits = 0, letters = 0;
    if (name.size > 64 || (name.size > 5 && !memcmp(name.data, "name_", 5)) ||
        o->policy->actions[CMIF_SPAN_WORD] != CMIF_ACTION_PASS || o->policy->deny_count > 0) {
        return false;
    }
    for (size_t i = 0, n; i < name.size; i += n) {
        const char *at = name.data + i;
        n              = 1;
        if (is_letter(*at)) {
            while (i + n < name.size && is_letter(at[n]) &&
                   (!is_big(at[n]) ||
                    (is_big(at[n - 1]) && (i + n + 1 == name.size || !is_letter(at[n + 1]) || is_big(at[n + 1]))))) {
                n++;
            }
            letters += n == 1;
            if (!ordinary_word(o, at, n)) {
                return false;
            }
        } else if (*at >= '0' && *at <= '9') {
            digits++;
        } else if (!memchr("_-./$", *at, 5)) { /* with spaces it is a sentence */
            return false;
        }
    }
    return digits <= 2 && letters <= 1;
}

/* Room for `more` bytes? A conversation that would be forgotten in part would be drawn anew in part, and pay again; so
 * it ends. */
static cmif_code check_size(cmif_talk *t, size_t more, cmif_err *err)
{
    const size_t most = t->all->options.each_bytes, size = size_of(t);
    if (size > most || more > most - size) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED,
                         "the conversation is too long: with this text the gateway would keep %zu KiB of it, and %zu "
                         "KiB is the most; begin a new one. Nothing was sent",
                         (size + more) >> 10, most >> 10);
    }
    return make_room(t->all, t->of, 0, more)
               ? CMIF_OK
               : cmif_fail(err, CMIF_E_MEMORY,
                           "the gateway's memory is full, and no conversation is idle that would make room for this "
                           "key's: try again later. Nothing was sent");
}

/* A name as it leaves: itself, or name_N, the same each time in this conversation. */
static cmif_code release_name(cmif_talk *t, cmif_str name, cmif_released **out, cmif_err *err)
{
    char made[32];
    if (!t->conversation || ordinary_name(&t->all->options, name)) {
        return cmif_dp_release_identity(name.data, name.size, out, err);
    }
    const char *known = json_string_value(json_object_getn(t->made, name.data, name.size));
    if (!known) {
        const size_t n = json_object_size(t->made) + 1;
        if (n > NAMES_MAX) {
            return cmif_fail(err, CMIF_E_RANGE,
                             "a conversation has at most %d names of tools and properties that are no ordinary words",
                             NAMES_MAX);
        }
        const size_t size = 2 * name.size + 256; /* two of jansson's pairs */
        cmif_code    rc   = check_size(t, size, err);
        if (rc != CMIF_OK) {
            return rc;
        }
        snprintf(made, sizeof made, "name_%zu", n);
        if (json_object_setn_new(t->made, name.data, name.size, json_string(made)) != 0 ||
            json_object_set_new(t->meant, made, json_stringn(name.data, name.size)) != 0) {
            (void) json_object_deln(t->made, name.data, name.size);
            return cmif_fail(err, CMIF_E_MEMORY, "no memory for a name");
        }
        t->names_size += size;
        known = made;
    }
    return cmif_dp_release_identity(known, strlen(known), out, err);
}

cmif_str cmif_talk_name(const cmif_talk *t, cmif_str name)
{
    const json_t *meant = json_object_getn(t->meant, name.data, name.size);
    return meant ? (cmif_str){json_string_value(meant), json_string_length(meant)} : name;
}

bool cmif_talk_has_names(const cmif_talk *t)
{
    return json_object_size(t->meant) > 0;
}

/* ---- releasing ---- */

static bool goes_through(const cmif_request_text *t)
{
    return t->form == CMIF_FORM_PROSE || t->form == CMIF_FORM_NUMBER;
}

/* An answer that comes back as the client saw it leaves as it came. */
static const mark *answer_of(const cmif_talk *t, const cmif_request *r, const cmif_request_text *text)
{
    uint8_t hash[HASH];
    if (text->message == UINT32_MAX || !text->content || r->messages[text->message].speaker != CMIF_SPEAKER_ASSISTANT ||
        !hash_of(t->all, nothing, 1, text->text.data, text->text.size, hash)) {
        return NULL;
    }
    return find_mark(*bucket_of(t->all, hash), hash, t, true);
}

static void add(cmif_talk_counts *sum, const cmif_sanitized *what, uint64_t micro)
{
    for (size_t c = 0; c < CMIF_SPAN_CLASSES; c++) {
        for (size_t a = 0; a < 4; a++) {
            sum->by_class[c][a] += what->by_class[c][a];
        }
    }
    sum->draws += what->draws;
    sum->repeated += what->repeated;
    sum->constants += what->constants;
    sum->epsilon_micro += what->draws * micro;
}

/* The first message behind the last one of an assistant: what the person adds now begins there. */
static size_t first_new(const cmif_request *r)
{
    size_t i = r->message_count;
    while (i > 0 && r->messages[i - 1].speaker != CMIF_SPEAKER_ASSISTANT) {
        i--;
    }
    return i;
}

/* Does the person want to see what leaves of it? Content from message `from` on, or of a request without messages. */
static bool is_shown(const cmif_request *r, const cmif_request_text *text, size_t from)
{
    return r->show && (text->message == UINT32_MAX ? r->message_count == 0 : text->message >= from && text->content);
}

/* What left of a text, for the person's own eyes. Without memory for it, it is not shown. */
static void show(cmif_request *r, const cmif_request_text *text, const cmif_released_span *spans, size_t count)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    size_t                   size;
    const char              *bytes = (const char *) cmif_released_bytes(text->released, &size);
    json_t                  *list  = json_array();
    for (size_t i = 0; list && i < count; i++) {
        const cmif_released_span *s = &spans[i];
        if ((s->action == CMIF_ACTION_CHANNEL || s->action == CMIF_ACTION_SURROGATE) &&
            json_array_append_new(list, json_pack("[i, i, s, s, i, i]", (int) s->out_from, (int) s->out_size,
                                                  cmif_span_class_name((cmif_span_class) s->class),
                                                  cmif_action_name((cmif_action) s->action), (int) s->from,
                                                  (int) s->size)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    r->left = r->left ? r->left : json_array();
    (void) json_array_append_new(
        r->left, json_pack("{s:s, s:s%, s:o}", "role",
                           text->message == UINT32_MAX ? "user" : roles[r->messages[text->message].speaker], "text",
                           size ? bytes : "", size, "spans", list));
}

/* One text through the conversation. last: its request is entered before it is given out. */
static cmif_code release_text(cmif_talk *t, cmif_request *r, cmif_request_text *text, bool last, bool shown,
                              cmif_talk_counts *counts, cmif_err *err)
{
    const cmif_released_span *spans = NULL;
    size_t                    count = 0;
    cmif_sanitized            what  = {0};
    cmif_counts               entry;
    if (!t->conversation) {
        cmif_code rc = cmif_dp_release_identity(text->text.data, text->text.size, &text->released, err);
        if (rc == CMIF_OK && shown) {
            show(r, text, NULL, 0);
        }
        return rc;
    }
    if (t->holds) {
        cmif_conversation_more(t->conversation);
    }
    const bool known = cmif_conversation_knows(t->conversation, text->text.data, text->text.size);
    cmif_code  rc    = known ? CMIF_OK : check_size(t, TIMES * text->text.size, err);
    rc = rc == CMIF_OK ? cmif_conversation_prepare(t->conversation, text->text.data, text->text.size, &what, err) : rc;
    if (rc != CMIF_OK) {
        return rc;
    }
    entry = (cmif_counts){.draws = what.draws};
    memcpy(entry.by_class, what.by_class, sizeof entry.by_class);
    rc = known ? CMIF_OK : check_size(t, 0, err);
    rc = rc == CMIF_OK && last ? cmif_tab_enter(&t->tab, &entry, err) : rc;
    if (rc != CMIF_OK) {
        cmif_conversation_drop(t->conversation);
        return rc;
    }
    text->released = cmif_conversation_take(t->conversation, &spans, &count);
    if (shown) {
        show(r, text, spans, count);
    }
    if (last) {
        cmif_tab_seal(&t->tab, text->released);
    } else {
        cmif_tab_note(&t->tab, &entry, text->released);
    }
    t->holds = !last;
    t->drawn = t->drawn || what.draws > 0 || what.constants > 0;
    add(counts, &what, cmif_books_micro(&t->all->options.certificate));
    return CMIF_OK;
}

static cmif_code release_all(cmif_talk *t, cmif_request *r, cmif_talk_counts *counts, cmif_err *err)
{
    const size_t from = first_new(r);
    cmif_code    rc   = CMIF_OK;
    size_t       last = SIZE_MAX;

    for (size_t i = 0; i < r->text_count && rc == CMIF_OK; i++) { /* first what needs no entry of its own */
        cmif_request_text *text = &r->texts[i];
        const mark        *was  = answer_of(t, r, text);
        if (was) {
            size_t         size;
            const uint8_t *bytes = cmif_released_bytes(was->came, &size);
            rc                   = cmif_dp_release_identity(bytes, size, &text->released, err);
        } else if (!goes_through(text)) {
            rc = release_name(t, text->text, &text->released, err);
        } else {
            last = i;
        }
    }
    for (size_t i = 0; i < r->text_count && rc == CMIF_OK; i++) {
        if (!r->texts[i].released) {
            rc = release_text(t, r, &r->texts[i], i == last, is_shown(r, &r->texts[i], from), counts, err);
        }
        if (t->bare_to == UINT32_MAX && !is_bare(t)) {
            t->bare_to = r->texts[i].message;
        }
    }
    if (rc == CMIF_OK && last == SIZE_MAX &&
        t->conversation) { /* names and old answers alone: a request all the same */
        rc = cmif_tab_enter(&t->tab, &(cmif_counts){0}, err);
    }
    return rc;
}

cmif_code cmif_talk_release(cmif_talk *t, cmif_request *r, cmif_tab *entry, cmif_talk_counts *counts, cmif_err *err)
{
    cmif_tab  next = {0};
    cmif_code rc   = cmif_tab_open(&next, t->all->options.books, t->of->name, err);

    *counts    = (cmif_talk_counts){0};
    t->bare_to = is_bare(t) ? UINT32_MAX : 0;
    memcpy(next.spend.conversation, t->tab.spend.conversation, sizeof next.spend.conversation);
    if (rc == CMIF_OK) {
        rc = release_all(t, r, counts, err);
    }
    if (rc == CMIF_OK) {
        *entry   = t->tab;
        t->tab   = next;
        t->begun = true;
        for (mark *m = t->marks; m && (m->fresh || m->came); m = m->also) {
            m->bare  = m->fresh && m->message < t->bare_to;
            m->fresh = false;
        }
        if (t->newest) { /* what no user began has no marks */
            t->newest->bare = is_bare(t);
        }
    } else {
        cmif_tab_close(&next);
    }
    (void) size_of(t);
    return rc;
}

cmif_books *cmif_talk_books(const cmif_talk *t)
{
    return t->all->options.books;
}

void cmif_talk_unsettled(cmif_talk *t, const cmif_tab *entry)
{
    cmif_tab_return(&t->tab, entry);
    t->holds = t->conversation != NULL;
}

/* ---- answers ---- */

cmif_code cmif_talk_restorer(const cmif_talk *t, bool json, cmif_restore **out, cmif_err *err)
{
    return cmif_restore_new(t->conversation ? cmif_conversation_vault(t->conversation) : t->empty, json, out, err);
}

void cmif_talk_answered(cmif_talk *t, const void *came, size_t came_size, const void *shown, size_t shown_size)
{
    uint8_t        hash[HASH];
    cmif_released *left = NULL;
    if (came_size <= ANSWER_MAX && check_size(t, 0, NULL) == CMIF_OK &&
        hash_of(t->all, nothing, 1, shown, shown_size, hash) && !find_mark(*bucket_of(t->all, hash), hash, t, true) &&
        cmif_dp_release_identity(came, came_size, &left, NULL) == CMIF_OK) {
        (void) put_mark(t, hash, left);
        (void) size_of(t);
    }
}
