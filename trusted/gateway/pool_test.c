#include "gateway/pool.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* ---- the clock and chance are the test's ---- */

static int64_t  clock_us = 1000000000;
static uint32_t chance;

int     __wrap_clock_gettime(clockid_t id, struct timespec *t);
ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags);

int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    (void) id;
    *t = (struct timespec){.tv_sec = clock_us / 1000000, .tv_nsec = clock_us % 1000000 * 1000};
    return 0;
}

ssize_t __wrap_getrandom(void *out, size_t size, unsigned flags)
{
    (void) flags;
    memcpy(out, &chance, size);
    return (ssize_t) size;
}

static void pass(double seconds)
{
    clock_us += (int64_t) (seconds * 1e6);
}

/* ---- members that do as they are told ---- */

enum { MEMBERS = 4, CALLS = 600 };

typedef struct fake {
    cmif_upstream       upstream; /* first */
    cmif_code           start, check;
    cmif_call_end       end;
    uint32_t            retry;
    bool                holds;  /* calls are not ended */
    int                 events; /* 0: none before the end; else which kind comes */
    cmif_upstream_state state;
    int                 asked, cancelled, freed;
} fake;

struct cmif_call {
    fake           *of; /* NULL: free */
    cmif_call_hooks hooks;
};

static struct event_base *base;
static cmif_upstream     *pool;
static fake               fakes[MEMBERS];
static struct cmif_call   calls[CALLS]; /* under way */
static bool               in_start;

static cmif_code fake_start(cmif_upstream *upstream, const cmif_request *request, const cmif_call_hooks *hooks,
                            cmif_call **out, cmif_err *err)
{
    fake *f = (fake *) (void *) upstream;
    (void) request;
    if (f->start != CMIF_OK) {
        return cmif_fail(err, f->start, "it cannot");
    }
    f->asked++;
    for (size_t i = 0; i < CALLS; i++) {
        if (!calls[i].of) {
            calls[i] = (struct cmif_call){f, *hooks};
            *out     = &calls[i];
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_MEMORY, "too many");
}

static void fake_cancel(cmif_call *c)
{
    c->of->cancelled++;
    c->of = NULL;
}

static void fake_free(cmif_upstream *upstream)
{
    ((fake *) (void *) upstream)->freed++;
}

static cmif_upstream_state fake_state(const cmif_upstream *upstream, char *sentence, size_t room)
{
    snprintf(sentence, room, "as told");
    return ((const fake *) (const void *) upstream)->state;
}

static cmif_code fake_check(const cmif_upstream *upstream, const cmif_request *request, cmif_err *err)
{
    const cmif_code rc = ((const fake *) (const void *) upstream)->check;
    (void) request;
    return rc == CMIF_OK ? rc : cmif_fail(err, rc, "tools: it cannot");
}

static const cmif_upstream_kind fake_kind = {.name   = "fake",
                                             .check  = fake_check,
                                             .start  = fake_start,
                                             .cancel = fake_cancel,
                                             .free   = fake_free,
                                             .state  = fake_state};

static void say(const cmif_call_hooks *h, int event)
{
    static const float           vector[] = {1};
    static const cmif_call_usage usage    = {1, 0, 1};
    switch (event) {
    case 1:
        h->on_text(h->context, 0, "hello", 5);
        break;
    case 2:
        h->on_refusal(h->context, 0, "no", 2);
        break;
    case 3:
        h->on_tool(h->context, 0, 0, "f", 1, "", 0);
        break;
    case 4:
        h->on_logprobs(h->context, 0, NULL);
        break;
    case 5:
        h->on_vector(h->context, 0, vector, 1);
        break;
    case 6:
        h->on_finish(h->context, 0, CMIF_FINISH_STOP);
        break;
    case 7:
        h->on_usage(h->context, &usage);
        break;
    default:;
    }
}

/* Let all that is under way go on until nothing moves. */
static void pump(void)
{
    bool moved;
    do {
        moved = false;
        for (size_t i = 0; i < CALLS; i++) {
            fake *f = calls[i].of;
            if (f && !f->holds) {
                const cmif_call_hooks hooks = calls[i].hooks;
                say(&hooks, f->events);
                calls[i].of = NULL;
                moved       = true;
                hooks.on_end(hooks.context, f->end, "as told", f->retry);
            }
        }
    } while (moved);
    event_base_loop(base, EVLOOP_NONBLOCK);
}

static void begin_with(const uint32_t *weights, size_t count)
{
    cmif_pool_member members[MEMBERS];
    cmif_err         err = {0};
    for (size_t i = 0; i < count; i++) {
        fakes[i] =
            (fake){.upstream = {.kind = &fake_kind, .base = base, .model_id = {7}}, .state = CMIF_UPSTREAM_READY};
        members[i] = (cmif_pool_member){&fakes[i].upstream, weights[i]};
    }
    chance = 0;
    CHECK(cmif_pool_new(base, "together", members, count, &pool, &err) == CMIF_OK);
}

static void begin(size_t count)
{
    begin_with((const uint32_t[]){1, 1, 1, 1}, count);
}

static void end(void)
{
    for (size_t i = 0; i < CALLS; i++) {
        CHECK(!calls[i].of);
        calls[i].of = NULL;
    }
    pool->kind->free(pool);
}

static void forget(void)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        fakes[i].asked = 0;
    }
}

static int asked(void)
{
    return fakes[0].asked + fakes[1].asked + fakes[2].asked + fakes[3].asked;
}

/* ---- clients ---- */

typedef struct client {
    cmif_request *request;
    cmif_call    *call;
    int           events, ends;
    cmif_call_end end;
    uint32_t      retry;
    char          sentence[256];
} client;

static void heard(client *c)
{
    CHECK(!in_start && c->ends == 0);
    c->events++;
}
static void on_text(void *context, uint32_t choice, const char *bytes, size_t size)
{
    (void) choice, (void) bytes, (void) size;
    heard(context);
}
static void on_tool(void *context, uint32_t choice, uint32_t index, const char *name, size_t name_size,
                    const char *arguments, size_t size)
{
    (void) choice, (void) index, (void) name, (void) name_size, (void) arguments, (void) size;
    heard(context);
}
static void on_logprobs(void *context, uint32_t choice, const json_t *logprobs)
{
    (void) choice, (void) logprobs;
    heard(context);
}
static void on_vector(void *context, uint32_t index, const float *values, size_t count)
{
    (void) index, (void) values, (void) count;
    heard(context);
}
static void on_finish(void *context, uint32_t choice, cmif_finish reason)
{
    (void) choice, (void) reason;
    heard(context);
}
static void on_usage(void *context, const cmif_call_usage *usage)
{
    (void) usage;
    heard(context);
}
static void on_end(void *context, cmif_call_end how, const char *sentence, uint32_t retry)
{
    client *c = context;
    CHECK(!in_start && c->ends == 0);
    c->ends++;
    c->end   = how;
    c->retry = retry;
    c->call  = NULL;
    snprintf(c->sentence, sizeof c->sentence, "%s", sentence);
}

/* A request as it leaves: its texts as they are, those that say "private" as others. */
static cmif_request *request_of(cmif_endpoint endpoint, const char *json)
{
    cmif_request        *request = NULL;
    cmif_request_problem problem;
    CHECK(cmif_request_parse(endpoint, json, strlen(json), &request, &problem, NULL) == CMIF_OK);
    for (size_t i = 0; i < request->text_count; i++) {
        cmif_str t = request->texts[i].text;
        if (t.size >= 7 && !memcmp(t.data, "private", 7)) {
            t = (cmif_str){"public", 6};
        }
        CHECK(cmif_dp_release_identity(t.data, t.size, &request->texts[i].released, NULL) == CMIF_OK);
    }
    return request;
}

static cmif_code ask_with(client *c, cmif_request *request)
{
    const cmif_call_hooks hooks = {.on_text     = on_text,
                                   .on_refusal  = on_text,
                                   .on_tool     = on_tool,
                                   .on_logprobs = on_logprobs,
                                   .on_vector   = on_vector,
                                   .on_finish   = on_finish,
                                   .on_usage    = on_usage,
                                   .on_end      = on_end,
                                   .context     = c};
    cmif_err              err   = {0};
    *c                          = (client){.request = request};
    in_start                    = true;
    const cmif_code rc          = cmif_upstream_start(pool, c->request, &hooks, &c->call, &err);
    in_start                    = false;
    snprintf(c->sentence, sizeof c->sentence, "%s", err.text);
    return rc;
}

static cmif_code ask_json(client *c, cmif_endpoint endpoint, const char *json)
{
    return ask_with(c, request_of(endpoint, json));
}

static cmif_code ask(client *c, int conversation)
{
    char json[200];
    snprintf(json, sizeof json, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"talk %d\"}]}",
             conversation);
    return ask_json(c, CMIF_ENDPOINT_CHAT, json);
}

static void done(client *c)
{
    cmif_request_free(c->request);
    c->request = NULL;
}

static cmif_call_end ask_and_wait(int conversation)
{
    client c;
    CHECK(ask(&c, conversation) == CMIF_OK);
    pump();
    CHECK(c.ends == 1);
    done(&c);
    return c.end;
}

static size_t who_answers(cmif_endpoint endpoint, const char *json)
{
    client c;
    size_t i = 0;
    forget();
    CHECK(ask_json(&c, endpoint, json) == CMIF_OK);
    pump();
    CHECK(c.end == CMIF_CALL_DONE && asked() == 1);
    done(&c);
    while (i + 1 < MEMBERS && !fakes[i].asked) {
        i++;
    }
    return i;
}

static size_t home(int conversation)
{
    char json[200];
    snprintf(json, sizeof json, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"talk %d\"}]}",
             conversation);
    return who_answers(CMIF_ENDPOINT_CHAT, json);
}

/* A conversation of this member. */
static int talk_of(size_t member)
{
    int i = 0;
    while (i < 1000 && home(i) != member) {
        i++;
    }
    CHECK(i < 1000);
    forget();
    return i;
}

/* ---- promises ---- */

/* Where many messages of the system come before the first of a user, each is looked at once: in a request of the most
 * texts that there may be, to choose a member takes a part of the time that it takes to read it. */
static void a_long_begin_is_looked_at_once(void)
{
    enum { TURN = 64, COUNT = CMIF_REQUEST_TEXTS_MAX - 1 };
    char   *json = malloc(COUNT * TURN + 256);
    size_t  size = (size_t) sprintf(json, "{\"model\": \"m\", \"messages\": [");
    client  c;
    clock_t at[3];
    for (int i = 0; i < COUNT; i++) {
        size += (size_t) sprintf(json + size, "{\"role\": \"system\", \"content\": \"be kind\"}, ");
    }
    strcpy(json + size, "{\"role\": \"user\", \"content\": \"well\"}]}");
    begin(MEMBERS);
    at[0]                 = clock();
    cmif_request *request = request_of(CMIF_ENDPOINT_CHAT, json);
    at[1]                 = clock();
    CHECK(ask_with(&c, request) == CMIF_OK);
    at[2] = clock();
    printf("       %d messages: read in %.0f ms, a member chosen in %.0f ms\n", COUNT,
           1e3 * (double) (at[1] - at[0]) / CLOCKS_PER_SEC, 1e3 * (double) (at[2] - at[1]) / CLOCKS_PER_SEC);
    CHECK(at[2] - at[1] < (at[1] - at[0]) / 10);
    pump();
    done(&c);
    end();
    free(json);
}

static void conversations_are_shared_out_by_weight(void)
{
    int counts[MEMBERS] = {0};
    begin_with((const uint32_t[]){1, 3, 4, 8}, MEMBERS);
    for (int i = 0; i < 4000; i++) {
        counts[home(i)]++;
    }
    CHECK(counts[0] > 200 && counts[0] < 300);
    CHECK(counts[1] > 680 && counts[1] < 820);
    CHECK(counts[2] > 900 && counts[2] < 1100);
    CHECK(counts[3] > 1880 && counts[3] < 2120);
    end();
}

/* Also with more turns, other tools and numbers, and whatever it was before it was released. */
static void a_conversation_stays_where_it_is(void)
{
    char first[400], later[800], made[800];
    int  moved_by_first = 0;
    begin(MEMBERS);
    for (int i = 0; i < 50; i++) {
        snprintf(first, sizeof first,
                 "{\"model\": \"m\", \"messages\": [{\"role\": \"system\", \"content\": \"be kind\"}, {\"role\": "
                 "\"user\", \"content\": \"talk %d\"}]}",
                 i);
        snprintf(later, sizeof later,
                 "{\"model\": \"m\", \"temperature\": 1, \"stop\": [\"end %d\"], \"messages\": [{\"role\": \"system\", "
                 "\"content\": \"be kind\"}, {\"role\": "
                 "\"user\", \"content\": \"talk %d\"}, {\"role\": \"assistant\", \"content\": \"well %d\"}, {\"role\": "
                 "\"user\", \"content\": \"and %d\"}]}",
                 i, i, i, i);
        snprintf(made, sizeof made,
                 "{\"model\": \"m\", \"messages\": [{\"role\": \"system\", \"content\": \"private %d\"}, {\"role\": "
                 "\"user\", \"content\": \"talk\"}]}",
                 i);
        const size_t here = who_answers(CMIF_ENDPOINT_CHAT, first);
        CHECK(who_answers(CMIF_ENDPOINT_CHAT, later) == here);
        const size_t again = who_answers(CMIF_ENDPOINT_CHAT, made);
        moved_by_first +=
            i > 0 && again != who_answers(CMIF_ENDPOINT_CHAT,
                                          "{\"model\": \"m\", \"messages\": [{\"role\": \"system\", \"content\": "
                                          "\"public\"}, {\"role\": \"user\", \"content\": \"talk\"}]}");
    }
    CHECK(moved_by_first == 0); /* nothing but released bytes counts */
    end();
}

/* A prompt that grows, too. */
static void a_prompt_stays_where_it_is(void)
{
    static char json[8000];
    begin(MEMBERS);
    for (int i = 0; i < 50; i++) {
        snprintf(json, sizeof json, "{\"model\": \"m\", \"prompt\": \"text %d %02000d\"}", i, i);
        const size_t here = who_answers(CMIF_ENDPOINT_COMPLETIONS, json);
        snprintf(json, sizeof json, "{\"model\": \"m\", \"prompt\": \"text %d %02000d and %03000d\"}", i, i, i);
        CHECK(who_answers(CMIF_ENDPOINT_COMPLETIONS, json) == here);
    }
    end();
}

static void when_a_member_goes_only_its_conversations_move(void)
{
    size_t homes[200];
    int    moved[MEMBERS] = {0};
    begin(MEMBERS);
    for (int i = 0; i < 200; i++) {
        homes[i] = home(i);
    }
    const int talk = talk_of(2);
    fakes[2].end   = CMIF_CALL_BUSY;
    fakes[2].retry = 1000;
    CHECK(ask_and_wait(talk) == CMIF_CALL_DONE);
    for (int i = 0; i < 200; i++) {
        const size_t now = home(i);
        CHECK(homes[i] == 2 ? now != 2 : now == homes[i]);
        moved[now] += homes[i] == 2;
    }
    CHECK(moved[0] > 5 && moved[1] > 5 && moved[3] > 5); /* and not to one neighbour */
    end();
}

static void what_fails_before_the_first_event_is_tried_elsewhere(void)
{
    static const cmif_call_end ends[] = {CMIF_CALL_UNREACHABLE, CMIF_CALL_BUSY, CMIF_CALL_LATE, CMIF_CALL_LIED,
                                         CMIF_CALL_UNTRUSTED};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        begin(MEMBERS);
        const int talk = talk_of(0);
        for (size_t m = 0; m < MEMBERS; m++) {
            fakes[m].end   = m == 3 ? CMIF_CALL_DONE : ends[i];
            fakes[m].retry = 5;
        }
        CHECK(ask_and_wait(talk) == CMIF_CALL_DONE && fakes[0].asked == 1 && fakes[3].asked == 1 && asked() <= MEMBERS);
        end();

        begin(MEMBERS);
        for (size_t m = 0; m < MEMBERS; m++) {
            fakes[m].end   = ends[i];
            fakes[m].retry = 9 - (uint32_t) m;
        }
        client c;
        CHECK(ask(&c, talk) == CMIF_OK && asked() == 1);
        pump();
        CHECK(c.ends == 1 && c.end == ends[i] && !strcmp(c.sentence, "as told"));
        CHECK(ends[i] != CMIF_CALL_BUSY || c.retry == 6);
        for (size_t m = 0; m < MEMBERS; m++) {
            CHECK(fakes[m].asked == 1);
        }
        done(&c);
        end();
    }
}

static void what_is_refused_is_refused(void)
{
    begin(MEMBERS);
    const int talk = talk_of(1);
    fakes[1].end   = CMIF_CALL_REFUSED;
    CHECK(ask_and_wait(talk) == CMIF_CALL_REFUSED && asked() == 1);
    fakes[1].end = CMIF_CALL_CANCELLED;
    CHECK(ask_and_wait(talk) == CMIF_CALL_CANCELLED && asked() == 2);
    end();
}

static void half_an_answer_is_not_begun_again(void)
{
    begin(MEMBERS);
    const int talk = talk_of(0);
    end();
    for (int event = 1; event <= 7; event++) {
        begin(MEMBERS);
        client c;
        fakes[0].events = event;
        fakes[0].end    = CMIF_CALL_UNREACHABLE;
        CHECK(ask(&c, talk) == CMIF_OK);
        pump();
        CHECK(c.events == 1 && c.ends == 1 && c.end == CMIF_CALL_UNREACHABLE && asked() == 1);
        done(&c);
        end();
    }
}

/* Member 0 of two, which fails: how often it is asked in so many calls. */
static int asked_in(int calls_, int talk)
{
    forget();
    for (int i = 0; i < calls_; i++) {
        CHECK(ask_and_wait(talk) == CMIF_CALL_DONE);
    }
    return fakes[0].asked;
}

static void a_member_that_fails_is_left_alone(void)
{
    static const double  pauses[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
    cmif_upstream_member about;
    begin(2);
    const int talk = talk_of(0);
    fakes[0].end   = CMIF_CALL_UNREACHABLE;
    CHECK(asked_in(2, talk) == 2); /* twice may be chance */
    CHECK(asked_in(9, talk) == 1);
    CHECK(pool->kind->member(pool, 0, &about) && !about.up && about.failed == 3 && about.calls >= 3 &&
          !strcmp(about.kind, "fake"));
    CHECK(pool->kind->member(pool, 1, &about) && about.up && about.failed == 0);
    CHECK(!pool->kind->member(pool, 2, &about));
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        pass(pauses[i] - 0.01);
        CHECK(asked_in(3, talk) == 0);
        pass(0.01);
        CHECK(asked_in(3, talk) == 1); /* one call looks whether it is back */
    }
    fakes[0].end = CMIF_CALL_DONE;
    pass(60);
    CHECK(asked_in(5, talk) == 5);
    CHECK(pool->kind->member(pool, 0, &about) && about.up);
    fakes[0].end = CMIF_CALL_LATE;
    CHECK(asked_in(5, talk) == 3); /* it begins anew */
    pass(1);
    CHECK(asked_in(5, talk) == 1);
    end();
}

static void chance_spreads_the_pauses(void)
{
    begin(2);
    const int talk = talk_of(0);
    fakes[0].end   = CMIF_CALL_UNREACHABLE;
    chance         = UINT32_MAX;
    CHECK(asked_in(3, talk) == 3);
    pass(1.24);
    CHECK(asked_in(3, talk) == 0);
    pass(0.01);
    CHECK(asked_in(3, talk) == 1);
    end();
}

/* 256 streams that break at once tell one thing. */
static void many_that_fail_at_once_are_one_pause(void)
{
    static client clients[256];
    begin(2);
    const int talk = talk_of(0);
    fakes[0].holds = true;
    fakes[0].end   = CMIF_CALL_UNREACHABLE;
    for (size_t i = 0; i < 256; i++) {
        CHECK(ask(&clients[i], talk) == CMIF_OK);
    }
    fakes[0].holds = false;
    pump();
    for (size_t i = 0; i < 256; i++) {
        CHECK(clients[i].ends == 1 && clients[i].end == CMIF_CALL_DONE);
        done(&clients[i]);
    }
    CHECK(asked_in(3, talk) == 0);
    pass(1);
    CHECK(asked_in(3, talk) == 1); /* and not after a minute only */
    end();
}

static void one_call_goes_first(void)
{
    client one, two, three;
    begin(2);
    const int talk = talk_of(0);
    fakes[0].end   = CMIF_CALL_UNREACHABLE;
    CHECK(asked_in(3, talk) == 3);
    pass(1);
    forget();
    fakes[0].end   = CMIF_CALL_DONE;
    fakes[0].holds = true;
    CHECK(ask(&one, talk) == CMIF_OK && fakes[0].asked == 1);
    CHECK(ask(&two, talk) == CMIF_OK && fakes[0].asked == 1 && fakes[1].asked == 1);
    pool->kind->cancel(one.call); /* it went: another may look */
    CHECK(fakes[0].cancelled == 1);
    CHECK(ask(&three, talk) == CMIF_OK && fakes[0].asked == 2);
    for (size_t i = 0; i < CALLS; i++) { /* its first event is enough: others need not wait for its end */
        if (calls[i].of == &fakes[0]) {
            say(&calls[i].hooks, 1);
        }
    }
    done(&one);
    CHECK(ask(&one, talk) == CMIF_OK && fakes[0].asked == 3);
    fakes[0].holds = false;
    pump();
    CHECK(one.end == CMIF_CALL_DONE && two.end == CMIF_CALL_DONE && three.end == CMIF_CALL_DONE && three.events == 1);
    done(&one);
    done(&two);
    done(&three);
    end();
}

static void busy_members_are_left_alone_as_long_as_they_say(void)
{
    begin(2);
    const int talk = talk_of(0);
    client    c;
    fakes[0].end   = CMIF_CALL_BUSY;
    fakes[0].retry = 30;
    for (int i = 0; i < 5; i++) { /* busy is no failure, so no pause doubles */
        CHECK(asked_in(4, talk) == 1);
        pass(29.9);
        CHECK(asked_in(4, talk) == 0);
        pass(0.1);
    }
    fakes[1].end   = CMIF_CALL_BUSY;
    fakes[1].retry = 7;
    forget();
    CHECK(ask_and_wait(talk) == CMIF_CALL_BUSY && asked() == 2);
    pass(2.5);
    forget();
    CHECK(ask(&c, talk) == CMIF_OK && c.ends == 0); /* nobody is asked, and no hook is called inside of the start */
    pump();
    CHECK(c.ends == 1 && c.end == CMIF_CALL_BUSY && c.retry == 5 && asked() == 0);
    done(&c);
    CHECK(ask(&c, talk) == CMIF_OK); /* such a one can be called off, too */
    pool->kind->cancel(c.call);
    pump();
    CHECK(c.ends == 0);
    done(&c);
    end();
}

static void who_is_not_who_they_must_be_is_out(void)
{
    begin(2);
    const int talk = talk_of(0);
    fakes[0].end   = CMIF_CALL_UNTRUSTED;
    CHECK(asked_in(3, talk) == 1);
    pass(59.9);
    CHECK(asked_in(3, talk) == 0);
    pass(0.1);
    CHECK(asked_in(3, talk) == 1);
    fakes[1].end = CMIF_CALL_UNREACHABLE;
    pass(60);
    CHECK(ask_and_wait(talk) == CMIF_CALL_UNTRUSTED); /* of the two that is what the person must hear */
    end();
}

static void a_cancel_is_passed_on(void)
{
    client c;
    begin(2);
    const int talk = talk_of(0);
    fakes[0].holds = true;
    CHECK(ask(&c, talk) == CMIF_OK && c.call);
    pool->kind->cancel(c.call);
    fakes[0].holds = false;
    pump();
    CHECK(fakes[0].cancelled == 1 && c.ends == 0 && fakes[1].asked == 0);
    done(&c);
    end();
}

/* What one member cannot do, another may; nobody is left alone for it. */
static void what_one_cannot_another_may(void)
{
    client   c;
    cmif_err err;
    begin(2);
    const int talk = talk_of(0);
    fakes[0].start = CMIF_E_RANGE;
    fakes[0].check = CMIF_E_RANGE;
    cmif_request *r =
        request_of(CMIF_ENDPOINT_CHAT, "{\"model\": \"m\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]}");
    for (int i = 0; i < 5; i++) {
        CHECK(cmif_upstream_check(pool, r, &err) == CMIF_OK);
        CHECK(ask_and_wait(talk) == CMIF_CALL_DONE && fakes[1].asked == i + 1);
    }
    fakes[1].start = CMIF_E_RANGE;
    fakes[1].check = CMIF_E_RANGE;
    CHECK(cmif_upstream_check(pool, r, &err) == CMIF_E_RANGE && !strcmp(err.text, "tools: it cannot"));
    CHECK(ask(&c, talk) == CMIF_E_RANGE && !c.call && !strcmp(c.sentence, "it cannot"));
    done(&c);
    fakes[0].start = CMIF_OK;
    CHECK(ask_and_wait(talk) == CMIF_CALL_DONE && fakes[0].asked == 1);
    fakes[0].start = CMIF_E_IO;
    CHECK(ask(&c, talk) == CMIF_E_RANGE);
    done(&c);
    fakes[1].start = CMIF_E_IO;
    CHECK(ask(&c, talk) == CMIF_E_IO && c.ends == 0);
    done(&c);
    cmif_request_free(r);
    end();
}

static void ready_when_any_member_is(void)
{
    char why[160];
    begin(2);
    const int talk = talk_of(0);
    CHECK(pool->kind->state(pool, why, sizeof why) == CMIF_UPSTREAM_READY && !*why);
    fakes[0].state = CMIF_UPSTREAM_DOWN;
    CHECK(pool->kind->state(pool, why, sizeof why) == CMIF_UPSTREAM_READY);
    fakes[1].state = CMIF_UPSTREAM_STARTING;
    CHECK(pool->kind->state(pool, why, sizeof why) == CMIF_UPSTREAM_STARTING && *why);
    fakes[0].state = CMIF_UPSTREAM_READY;
    CHECK(pool->kind->state(pool, why, sizeof why) == CMIF_UPSTREAM_READY);
    fakes[0].end = fakes[1].end = CMIF_CALL_UNREACHABLE;
    fakes[1].state              = CMIF_UPSTREAM_READY;
    for (int i = 0; i < 3; i++) {
        CHECK(ask_and_wait(talk) == CMIF_CALL_UNREACHABLE);
    }
    CHECK(pool->kind->state(pool, why, sizeof why) == CMIF_UPSTREAM_DOWN && *why);
    CHECK(ask_and_wait(talk) == CMIF_CALL_BUSY);
    pass(1);
    CHECK(pool->kind->state(pool, why, sizeof why) ==
          CMIF_UPSTREAM_READY); /* as far as is known: who does not ask does not learn */
    end();
}

/* One that has not been seen yet is asked when there is nobody else. */
static void starting_members_come_last(void)
{
    begin(2);
    const int talk = talk_of(0);
    fakes[0].state = CMIF_UPSTREAM_STARTING;
    CHECK(ask_and_wait(talk) == CMIF_CALL_DONE && fakes[0].asked == 0);
    fakes[1].end = CMIF_CALL_UNREACHABLE;
    CHECK(ask_and_wait(talk) == CMIF_CALL_DONE && fakes[0].asked == 1);
    end();
}

static void a_pool_needs_members(void)
{
    static cmif_pool_member members[CMIF_POOL_MEMBERS_MAX + 1];
    static char             name[257];
    cmif_upstream          *out = NULL;
    cmif_err                err;
    fake                    f = {.upstream = {.kind = &fake_kind}};
    memset(name, 'n', 256);
    for (size_t i = 0; i <= CMIF_POOL_MEMBERS_MAX; i++) {
        members[i] = (cmif_pool_member){&f.upstream, 1};
    }
    CHECK(cmif_pool_new(base, "p", members, 0, &out, &err) == CMIF_E_RANGE);
    CHECK(cmif_pool_new(base, "p", members, CMIF_POOL_MEMBERS_MAX + 1, &out, &err) == CMIF_E_RANGE);
    CHECK(cmif_pool_new(base, name, members, 1, &out, &err) == CMIF_E_RANGE);
    members[1].weight = 0;
    CHECK(cmif_pool_new(base, "p", members, 2, &out, &err) == CMIF_E_RANGE);
    members[1].weight = CMIF_POOL_WEIGHT_MAX + 1;
    CHECK(cmif_pool_new(base, "p", members, 2, &out, &err) == CMIF_E_RANGE && !out && f.freed == 0);
    members[1].weight = CMIF_POOL_WEIGHT_MAX;
    CHECK(cmif_pool_new(base, "p", members, CMIF_POOL_MEMBERS_MAX, &out, &err) == CMIF_OK && out);
    out->kind->free(out);
    CHECK(f.freed == CMIF_POOL_MEMBERS_MAX);
}

int main(void)
{
    base = event_base_new();
    RUN(conversations_are_shared_out_by_weight);
    RUN(a_conversation_stays_where_it_is);
    RUN(a_long_begin_is_looked_at_once);
    RUN(a_prompt_stays_where_it_is);
    RUN(when_a_member_goes_only_its_conversations_move);
    RUN(what_fails_before_the_first_event_is_tried_elsewhere);
    RUN(what_is_refused_is_refused);
    RUN(half_an_answer_is_not_begun_again);
    RUN(a_member_that_fails_is_left_alone);
    RUN(chance_spreads_the_pauses);
    RUN(many_that_fail_at_once_are_one_pause);
    RUN(one_call_goes_first);
    RUN(busy_members_are_left_alone_as_long_as_they_say);
    RUN(who_is_not_who_they_must_be_is_out);
    RUN(a_cancel_is_passed_on);
    RUN(what_one_cannot_another_may);
    RUN(ready_when_any_member_is);
    RUN(starting_members_come_last);
    RUN(a_pool_needs_members);
    event_base_free(base);
    return check_report();
}
