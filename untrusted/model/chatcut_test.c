#include "model/chatcut.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const time_t noon = 1767355200; /* 2026-01-02 12:00 UTC */

static cmif_str str(const char *text)
{
    return (cmif_str){text, strlen(text)};
}

static cmif_chat_cut cut(const char *source)
{
    cmif_chat_cut out;
    cmif_err      err = {0};
    CHECK(cmif_chat_cut_init(str(source), str("<s>"), str("</s>"), noon, &out, &err) == CMIF_OK);
    return out;
}

static bool piece_is(const cmif_chat_cut *c, cmif_chat_piece piece, const char *text)
{
    return c->pieces[piece].data && cmif_str_is(c->pieces[piece], text);
}

static bool is_refused(const char *source, const char *reason)
{
    cmif_chat_cut c  = cut(source);
    bool          ok = c.refused[0] && strstr(c.refused, reason);
    if (!ok) {
        fprintf(stderr, "expected a refusal with '%s', found '%s'\n", reason, c.refused);
    }
    for (size_t i = 0; i < CMIF_PIECE_COUNT; i++) {
        ok = ok && !c.pieces[i].data;
    }
    cmif_chat_cut_wipe(&c);
    return ok;
}

#define CHATML(content)                                                                                                \
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + " content                               \
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

static void pieces_are_what_stands_between_contents(void)
{
    cmif_chat_cut c = cut(CHATML("m.content"));
    CHECK(!c.refused[0] && !c.no_system[0] && c.trim == 0 && !c.dated && !c.drops_thinking);
    CHECK(piece_is(&c, CMIF_PIECE_START_USER, "<s><|im_start|>user\n"));
    CHECK(piece_is(&c, CMIF_PIECE_START_SYSTEM, "<s><|im_start|>system\n"));
    CHECK(piece_is(&c, CMIF_PIECE_SYSTEM_USER, "<|im_end|>\n<|im_start|>user\n"));
    CHECK(piece_is(&c, CMIF_PIECE_USER_ASSISTANT, "<|im_end|>\n<|im_start|>assistant\n"));
    CHECK(piece_is(&c, CMIF_PIECE_ASSISTANT_USER, "<|im_end|>\n<|im_start|>user\n"));
    CHECK(piece_is(&c, CMIF_PIECE_USER_END, "<|im_end|>\n<|im_start|>assistant\n"));
    cmif_chat_cut_wipe(&c);
}

static void each_way_to_strip_is_found_per_role_and_side(void)
{
    static const struct {
        const char *content;
        uint32_t    trim; /* left + 4 * right */
    } cases[] = {
        {"m.content | trim", 5},        {"m.content.strip()", 5},
        {"m.content.lstrip()", 1},      {"m.content.rstrip()", 4},
        {"m.content.strip('\\n')", 10}, {"m.content.lstrip('\\n')", 2},
        {"m.content.rstrip('\\n')", 8}, {"m.content.lstrip('\\n').rstrip()", 6},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int role = 0; role < 3; role++) {
            static const char *const names[] = {"system", "user", "assistant"};
            char                     source[512];
            snprintf(
                source, sizeof source,
                "{%% for m in messages %%}[{{ m.role }}]{%% if m.role == '%s' %%}{{ %s }}{%% else %%}{{ m.content }}"
                "{%% endif %%}{%% endfor %%}[go]",
                names[role], cases[i].content);
            cmif_chat_cut c = cut(source);
            CHECK(!c.refused[0] && !c.no_system[0] && c.trim == cases[i].trim << 4 * role);
            cmif_chat_cut_wipe(&c);
        }
    }
}

static void a_template_without_a_place_for_the_system_message_says_so(void)
{
    cmif_chat_cut c = cut("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not "
                          "supported') }}{% endif %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}[go]");
    CHECK(!c.refused[0] && strstr(c.no_system, "System role not supported"));
    CHECK(c.pieces[CMIF_PIECE_START_SYSTEM].size == 0 && c.pieces[CMIF_PIECE_SYSTEM_USER].size == 0);
    CHECK(piece_is(&c, CMIF_PIECE_START_USER, "[user]") && c.trim == 0x550);
    cmif_chat_cut_wipe(&c);

    c = cut(
        "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}{% endfor %}[go]");
    CHECK(!c.refused[0] && strstr(c.no_system, "system message does not appear"));
    cmif_chat_cut_wipe(&c);

    /* before the last message of the user, wherever that is: the piece is not the same at every place */
    c = cut("{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{% if loop.last and messages[0].role == "
            "'system' %}{{ messages[0].content }}/{% endif %}{{ m.content }}{% endif %}{% endfor %}[go]");
    CHECK(!c.refused[0] && c.no_system[0]);
    cmif_chat_cut_wipe(&c);

    /* a first question that looks otherwise after a system message is no reason to lose either */
    c = cut("{% for m in messages %}{% if m.role == 'user' and loop.index0 == 0 %}[first]{% else %}[{{ m.role }}]{% "
            "endif %}"
            "{{ m.content }}{% endfor %}[go]");
    CHECK(!c.refused[0] && !c.no_system[0]);
    CHECK(piece_is(&c, CMIF_PIECE_START_USER, "[first]") && piece_is(&c, CMIF_PIECE_SYSTEM_USER, "[user]"));
    cmif_chat_cut_wipe(&c);
}

static void what_pieces_cannot_say_is_refused_with_the_reason(void)
{
    CHECK(is_refused("{% for m in messages %}{{ m.content ", "cannot be read"));
    CHECK(is_refused("{{ no_such_function(messages) }}", ""));
    CHECK(is_refused("{{ raise_exception('only on Sundays') }}", "only on Sundays"));
    CHECK(is_refused("nothing of yours", "user message does not appear"));
    CHECK(is_refused("{% for m in messages %}[{{ m.role }}]{{ m.content }}|{{ m.content }}{% endfor %}",
                     "more than once"));
    CHECK(is_refused("{% for m in messages | reverse %}[{{ m.role }}]{{ m.content }}{% endfor %}",
                     "does not stand in front of"));
    CHECK(is_refused("{% for m in messages %}[{{ loop.index }}]{{ m.content }}{% endfor %}",
                     "not the same at every place"));
    CHECK(is_refused(
        "{% for m in messages %}{% if loop.last %}[last]{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        "not the same at every place"));
    CHECK(is_refused(CHATML("m.content | upper"), "does not appear"));
    /* fine for sentinels, wrong for what people write: only the check on further conversations sees these */
    CHECK(is_refused(CHATML("m.content | replace('<', '&lt;')"), "not its pieces put together"));
    CHECK(is_refused(CHATML("m.content | replace('\\n\\n', '\\n')"), "not its pieces put together"));
    CHECK(is_refused(CHATML("(m.content if m.content | length < 50 else m.content[:50])"),
                     "not its pieces put together"));
    CHECK(is_refused(CHATML("m.content.strip('\\n\\v')"), "white space"));
}

static void contents_as_a_list_of_parts_are_tried_where_text_fails(void)
{
    cmif_chat_cut c =
        cut("{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{{ part['text'] }}{% endfor %}"
            "{% endfor %}[go]");
    CHECK(!c.refused[0] && !c.no_system[0] && piece_is(&c, CMIF_PIECE_USER_END, "[go]"));
    cmif_chat_cut_wipe(&c);
}

static void pieces_with_the_date_in_them_are_told_from_others(void)
{
    setenv("TZ", "UTC", 1);
    cmif_chat_cut c =
        cut("{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
    CHECK(!c.refused[0] && c.dated && piece_is(&c, CMIF_PIECE_START_USER, "2026-01-02 [user]"));
    cmif_chat_cut_wipe(&c);
    c = cut("{% for m in messages %}[{{ m.role }}]{% if m.role == 'system' %}{{ strftime_now('%H:%M') }} {% endif %}"
            "{{ m.content }}{% endfor %}");
    CHECK(!c.refused[0] && c.dated);
    cmif_chat_cut_wipe(&c);
}

static void earlier_thinking_that_is_dropped_is_told(void)
{
    cmif_chat_cut c =
        cut(CHATML("(m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' else m.content)"));
    CHECK(!c.refused[0] && c.drops_thinking && c.trim == 0x200);
    cmif_chat_cut_wipe(&c);
    c = cut(CHATML("(m.content.split('</think>')[-1] if m.role == 'assistant' else m.content)"));
    CHECK(!c.refused[0] && !c.drops_thinking); /* leaves white space in front, which is not what we would do */
    cmif_chat_cut_wipe(&c);
}

/* A template is a stranger's program. */
static void a_hostile_template_hurts_only_its_child(void)
{
    CHECK(is_refused("{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}"
                     "{% endfor %}{% endfor %}",
                     "did not survive"));

#ifndef __SANITIZE_ADDRESS__ /* which would report the child's overflow at length */
    enum { DEEP = 400000 };
    char *deep = malloc(2 * DEEP + 8);
    if (deep) {
        char *at = deep + sprintf(deep, "{{ ");
        memset(at, '(', DEEP);
        memset(at + DEEP, ')', DEEP);
        memcpy(at + 2 * DEEP, "}}", sizeof "}}");
        cmif_chat_cut c = cut(deep);
        CHECK(c.refused[0]);
        cmif_chat_cut_wipe(&c);
    }
    free(deep);

    CHECK(is_refused(
        "{% set ns = namespace(s='12345678') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "memory"));
#endif

    char         *large = calloc(1, (1 << 20) + 1);
    cmif_chat_cut c     = {0};
    if (large) {
        memset(large, 'x', (1 << 20) + 1);
        CHECK(cmif_chat_cut_init((cmif_str){large, (1 << 20) + 1}, str(""), str(""), noon, &c, NULL) == CMIF_OK);
        CHECK(strstr(c.refused, "1048577 bytes"));
    }
    free(large);
    cmif_chat_cut_wipe(&c);
}

/* A model is mapped while its template is cut, and may be larger than what the child may allocate. */
static void a_large_model_leaves_room_for_its_template(void)
{
    const size_t size   = (size_t) 64 << 30;
    void        *mapped = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(mapped != MAP_FAILED);
    cmif_chat_cut c = cut(CHATML("m.content"));
    CHECK(!c.refused[0]);
    cmif_chat_cut_wipe(&c);
    munmap(mapped, size);
}

/* ---- the keys of a file ---- */

static cmif_code no_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    (void) context, (void) offset, (void) err;
    memset(buffer, 0, size);
    return CMIF_OK;
}

/* A model with these keys, written and read again, and what pieces_put makes of it. The caller frees it. */
static cmif_gguf *put_pieces(const char *template, cmif_code expected)
{
    static const char        path[]   = CMIF_BUILD_DIR "/tests/chatcut_test.gguf";
    static const char *const tokens[] = {"<unk>", "<begin>", "<end>"};
    const uint64_t           shape[4] = {32, 1, 1, 1};
    cmif_gguf_out           *model = NULL, *client = NULL;
    cmif_gguf               *file = NULL, *result = NULL;
    cmif_err                 err = {0};
    cmif_str                 items[3];

    for (size_t i = 0; i < 3; i++) {
        items[i] = str(tokens[i]);
    }
    bool ok = cmif_gguf_out_new(&model, &err) == CMIF_OK && cmif_gguf_out_new(&client, &err) == CMIF_OK &&
              cmif_gguf_put_str(model, "tokenizer.ggml.model", str("llama"), &err) == CMIF_OK &&
              cmif_gguf_put_strs(model, "tokenizer.ggml.tokens", items, 3, &err) == CMIF_OK &&
              (!template || cmif_gguf_put_str(model, "tokenizer.chat_template", str(template), &err) == CMIF_OK) &&
              cmif_gguf_put_tensor(model, "t", CMIF_GGML_F32, 1, shape, no_bytes, NULL, &err) == CMIF_OK &&
              cmif_gguf_put_tensor(client, "t", CMIF_GGML_F32, 1, shape, no_bytes, NULL, &err) == CMIF_OK &&
              cmif_gguf_write(model, path, NULL, NULL, &err) == CMIF_OK && cmif_gguf_open(path, &file, &err) == CMIF_OK;
    CHECK(ok);
    if (ok) {
        CHECK(cmif_chat_pieces_put(file, client, &err) == expected);
        CHECK(cmif_gguf_write(client, path, NULL, NULL, &err) == CMIF_OK);
        CHECK(cmif_gguf_open(path, &result, &err) == CMIF_OK);
    }
    unlink(path);
    cmif_gguf_free(file);
    cmif_gguf_out_free(client);
    cmif_gguf_out_free(model);
    return result;
}

static bool key_is(const cmif_gguf *file, const char *key, const char *text)
{
    cmif_str value;
    return cmif_gguf_get_str(file, key, &value, NULL) == CMIF_OK && cmif_str_is(value, text);
}

static void pieces_become_keys_of_the_client_file(void)
{
    uint32_t   trim;
    bool       dated, drops;
    cmif_gguf *file =
        put_pieces("{{ bos_token }}" /* the engine's default id, 1 */
                   "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token }}{% endfor %}[go]",
                   CMIF_OK);
    if (file) {
        CHECK(key_is(file, "cmif.chat.start_user", "<begin>[user]"));
        CHECK(key_is(file, "cmif.chat.start_system", "<begin>[system]"));
        CHECK(key_is(file, "cmif.chat.system_user", "<end>[user]"));
        CHECK(key_is(file, "cmif.chat.user_assistant", "<end>[assistant]"));
        CHECK(key_is(file, "cmif.chat.assistant_user", "<end>[user]"));
        CHECK(key_is(file, "cmif.chat.user_end", "<end>[go]"));
        CHECK(cmif_gguf_get_uint(file, "cmif.chat.trim", &trim, NULL) == CMIF_OK && trim == 0x555);
        CHECK(cmif_gguf_get_bool(file, "cmif.chat.dated", &dated, NULL) == CMIF_OK && !dated);
        CHECK(cmif_gguf_get_bool(file, "cmif.chat.drops_thinking", &drops, NULL) == CMIF_OK && !drops);
        CHECK(!cmif_gguf_find(file, "cmif.chat.refused") && !cmif_gguf_find(file, "cmif.chat.no_system"));
    }
    cmif_gguf_free(file);
}

static void a_refusal_becomes_a_key_and_nothing_else(void)
{
    cmif_gguf *file = put_pieces(NULL, CMIF_OK);
    if (file) {
        CHECK(key_is(file, "cmif.chat.refused", "the model has no chat template"));
        CHECK(!cmif_gguf_find(file, "cmif.chat.start_user") && !cmif_gguf_find(file, "cmif.chat.trim"));
    }
    cmif_gguf_free(file);
    file = put_pieces("no message in here", CMIF_OK);
    if (file) {
        CHECK(key_is(file, "cmif.chat.refused",
                     "the chat template cannot be cut into pieces: a user message does not appear in the text"));
        CHECK(!cmif_gguf_find(file, "cmif.chat.start_user"));
    }
    cmif_gguf_free(file);
}

int main(void)
{
    RUN(pieces_are_what_stands_between_contents);
    RUN(each_way_to_strip_is_found_per_role_and_side);
    RUN(a_template_without_a_place_for_the_system_message_says_so);
    RUN(what_pieces_cannot_say_is_refused_with_the_reason);
    RUN(contents_as_a_list_of_parts_are_tried_where_text_fails);
    RUN(pieces_with_the_date_in_them_are_told_from_others);
    RUN(earlier_thinking_that_is_dropped_is_told);
    RUN(a_hostile_template_hurts_only_its_child);
    RUN(a_large_model_leaves_room_for_its_template);
    RUN(pieces_become_keys_of_the_client_file);
    RUN(a_refusal_becomes_a_key_and_nothing_else);
    return check_report();
}
