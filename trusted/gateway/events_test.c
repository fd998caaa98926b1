#include "gateway/events.h"

#include "base/check.h"

#include <string.h>

static size_t vectors, wrong;

static void on_vector(void *context, uint32_t index, const float *values, size_t count)
{
    (void) context;
    wrong += index != vectors || (count == 2 && (values[0] != (float) index || values[1] != -0.5f));
    vectors++;
}

static void on_usage(void *context, const cmif_call_usage *usage)
{
    (void) context;
    wrong += usage->prompt != 7;
}

static const cmif_call_hooks hooks = {.on_vector = on_vector, .on_usage = on_usage};

static cmif_code read_all(const char *text, size_t inputs, size_t piece, size_t *held)
{
    cmif_events e  = {.endpoint = CMIF_ENDPOINT_EMBEDDINGS, .inputs = inputs, .hooks = &hooks};
    cmif_code   rc = CMIF_OK;
    vectors = wrong   = 0;
    const size_t size = strlen(text);
    for (size_t at = 0; at < size && rc == CMIF_OK; at += piece) {
        rc = cmif_events_feed(&e, text + at, piece < size - at ? piece : size - at, NULL);
    }
    rc = rc == CMIF_OK ? cmif_events_end(&e, NULL) : rc;
    if (held) {
        *held = e.line.capacity + e.data.capacity;
    }
    cmif_events_wipe(&e);
    return rc;
}

#define VECTOR(i) "{\"object\": \"embedding\", \"index\": " i ", \"embedding\": [" i ", -5e-1]}"
#define ANSWER(data)                                                                                                   \
    "{\"object\": \"list\", \"usage\": {\"prompt_tokens\": 7}, \"model\": \"m\", \"data\" : [" data "]}"

static void vectors_are_read_wherever_they_are_cut(void)
{
    static const char text[] = ANSWER(VECTOR("0") ",\n" VECTOR("1") " , " VECTOR("2"));
    for (size_t piece = 1; piece <= sizeof text; piece++) {
        CHECK(read_all(text, 3, piece, NULL) == CMIF_OK && vectors == 3 && !wrong);
    }
}

static void what_is_no_list_of_as_many_vectors_is_refused(void)
{
    static const char *const bad[] = {"",
                                      "{}",
                                      "[]",
                                      ANSWER(""),
                                      ANSWER(VECTOR("0")),
                                      ANSWER(VECTOR("0") VECTOR("1")),
                                      ANSWER("0, 0"),
                                      ANSWER(VECTOR("0") ", 0"),
                                      ANSWER(VECTOR("0") ",, " VECTOR("1")),
                                      ANSWER(VECTOR("0") ", " VECTOR("0")),
                                      ANSWER(VECTOR("0") ", " VECTOR("2")),
                                      ANSWER(VECTOR("0") ", " VECTOR("1") ", " VECTOR("2")),
                                      ANSWER(VECTOR("0") ", {\"index\": 1, \"embedding\": [1]}"),
                                      ANSWER(VECTOR("0") ", {\"index\": 1, \"embedding\": [1, \"x\"]}"),
                                      ANSWER(VECTOR("0") ", {\"index\": 1, \"embedding\": [1, 1e99]}"),
                                      ANSWER(VECTOR("0") ", " VECTOR("1")) "x",
                                      ANSWER(VECTOR("0") ", " VECTOR("1") "], \"data\": [" VECTOR("1")),
                                      "{\"x\\\"data\": [" VECTOR("0") ", " VECTOR("1") "]}",
                                      "{\"data\": {\"data\": [" VECTOR("0") ", " VECTOR("1") "]}}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (size_t piece = 1; piece < 80; piece += 39) {
            if (read_all(bad[i], 2, piece, NULL) != CMIF_E_PEER) {
                fprintf(stderr, "%s\n", bad[i]);
                CHECK(false);
            }
            CHECK(vectors <= 2 && !wrong); /* nobody was shown more */
        }
    }
}

/* An upstream that goes on and on is given up long before 256 MiB; of many vectors no two are held. */
static void memory_is_that_of_one_vector(void)
{
    enum { SIZE = 1 << 20, WIDTH = 4096, COUNT = 200 };
    static const char *const begins[] = {"{\"data\": [{\"index\": 0, \"embedding\": [", "{\"data\": [1", "{\"x\": \"",
                                         "[[[["};
    char                    *text     = malloc(SIZE);
    size_t                   held     = 0;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        cmif_events e   = {.endpoint = CMIF_ENDPOINT_EMBEDDINGS, .inputs = 2, .hooks = &hooks};
        cmif_code   rc  = cmif_events_feed(&e, begins[i], strlen(begins[i]), NULL);
        size_t      fed = 0;
        memset(text, i == 3 ? '[' : '1', SIZE);
        for (; rc == CMIF_OK && fed < 64; fed++) {
            rc = cmif_events_feed(&e, text, SIZE, NULL);
        }
        CHECK(rc == CMIF_E_PEER && fed <= 4);
        cmif_events_wipe(&e);
    }
    free(text);
    text        = malloc((size_t) COUNT * WIDTH * 12);
    size_t size = (size_t) sprintf(text, "{\"data\": [");
    for (size_t i = 0; i < COUNT; i++) {
        size += (size_t) sprintf(text + size, "%s{\"index\": %zu, \"embedding\": [", i ? "," : "", i);
        for (size_t k = 0; k < WIDTH; k++) {
            size += (size_t) sprintf(text + size, "%s0.%06zu", k ? "," : "", k);
        }
        size += (size_t) sprintf(text + size, "]}");
    }
    strcpy(text + size, "], \"usage\": {\"prompt_tokens\": 7}}");
    CHECK(read_all(text, COUNT, 65536, &held) == CMIF_OK && vectors == COUNT && held < (size_t) 200 << 10);
    free(text);
}

int main(void)
{
    RUN(vectors_are_read_wherever_they_are_cut);
    RUN(what_is_no_list_of_as_many_vectors_is_refused);
    RUN(memory_is_that_of_one_vector);
    return check_report();
}
