/* The only C++ of ours: a C door to the engine's Jinja. No exception leaves it. */
extern "C" {
#include "model/jinja.h"
}

#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "jinja/value.h"

#include <cctype>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <string>

using jinja::mk_val;

struct cmif_jinja {
    std::string    source;
    jinja::program program;
};

/* The engine's messages have several lines, the later ones a picture of the template around the place. An error of ours
 * is one line: the "Error: ..." line is the template's own words where there is one. */
static std::string one_line(const char *what)
{
    std::string text(what);
    size_t      own = text.rfind("Error: ");
    if (own != std::string::npos) {
        text.erase(0, own + strlen("Error: "));
    }
    text.erase(std::find(text.begin(), text.end(), '\n'), text.end());
    for (char &c : text) {
        if (iscntrl(static_cast<unsigned char>(c))) {
            c = ' ';
        }
    }
    return text;
}

static std::string copy(cmif_str s)
{
    return s.size ? std::string(s.data, s.size) : std::string();
}

cmif_code cmif_jinja_new(cmif_str source, cmif_jinja **out, cmif_err *err)
{
    try {
        std::string         text = copy(source);
        jinja::lexer        lexer;
        jinja::lexer_result tokens = lexer.tokenize(text);
        *out                       = new cmif_jinja{text, jinja::parse_from_tokens(tokens)};
        return CMIF_OK;
    } catch (const std::bad_alloc &) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to read the chat template");
    } catch (const std::exception &e) {
        return cmif_fail(err, CMIF_E_FORMAT, "the chat template cannot be read: %s", one_line(e.what()).c_str());
    } catch (...) {
        return cmif_fail(err, CMIF_E_FORMAT, "the chat template cannot be read");
    }
}

void cmif_jinja_free(cmif_jinja *jinja)
{
    delete jinja;
}

static jinja::value message_value(const cmif_jinja_message &message, bool typed)
{
    jinja::value text   = mk_val<jinja::value_string>(copy(message.content));
    auto         object = mk_val<jinja::value_object>();
    object->insert("role", mk_val<jinja::value_string>(std::string(message.role)));
    if (typed) {
        auto part = mk_val<jinja::value_object>();
        part->insert("type", mk_val<jinja::value_string>(std::string("text")));
        part->insert("text", text);
        auto parts = mk_val<jinja::value_array>();
        parts->push_back(part);
        object->insert("content", parts);
    } else {
        object->insert("content", text);
    }
    return object;
}

cmif_code cmif_jinja_render(const cmif_jinja *jinja, const cmif_jinja_chat *chat, char **text, size_t *size,
                            cmif_err *err)
{
    try {
        jinja::context context(jinja->source);
        context.current_time = chat->now;
        auto messages        = mk_val<jinja::value_array>();
        for (size_t i = 0; i < chat->count; i++) {
            messages->push_back(message_value(chat->messages[i], chat->typed));
        }
        context.set_val("messages", messages);
        context.set_val("bos_token", mk_val<jinja::value_string>(copy(chat->bos)));
        context.set_val("eos_token", mk_val<jinja::value_string>(copy(chat->eos)));
        context.set_val("enable_thinking", mk_val<jinja::value_bool>(true));
        context.set_val("add_generation_prompt", mk_val<jinja::value_bool>(true));

        jinja::runtime    runtime(context);
        const auto        results  = runtime.execute(jinja->program);
        const std::string rendered = jinja::runtime::gather_string_parts(results)->as_string().str();

        char *copied = static_cast<char *>(malloc(rendered.size() + 1));
        if (!copied) {
            throw std::bad_alloc();
        }
        memcpy(copied, rendered.c_str(), rendered.size() + 1);
        *text = copied;
        *size = rendered.size();
        return CMIF_OK;
    } catch (const std::bad_alloc &) {
        return cmif_fail(err, CMIF_E_MEMORY, "no memory to render the chat template");
    } catch (const std::exception &e) {
        std::string text = one_line(e.what());
        if (text == std::bad_alloc().what()) { /* the engine wraps what it meets in errors of its own */
            return cmif_fail(err, CMIF_E_MEMORY, "no memory to render the chat template");
        }
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "%s", text.c_str());
    } catch (...) {
        return cmif_fail(err, CMIF_E_UNSUPPORTED, "the template threw something unknown");
    }
}
