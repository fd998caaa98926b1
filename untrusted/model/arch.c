#include "model/arch.h"

#include <stdio.h>
#include <string.h>

/* What is not plain: (name, scale, output, refusal). */
#define RECURRENT "it keeps a running state that cannot be taken back to an earlier token"
#define POSITIONS "its rows need positions in several planes (M-RoPE), which is not supported yet"
#define DIFFUSION "it is a diffusion model, which does not write one token after the other"
#define TWO_PARTS "it has an encoder and a decoder; only one of them can be fed with rows"
#define WIDER "its rows are wider than its table (deepstack), which is not supported yet"
#define BY_ID "it looks token ids up a second time, inside the model: rows alone give wrong answers"
#define NO_ROWS "the engine's implementation of it does not take rows"
#define NOT_TEXT "it is not a text model"
#define DRAFT "it only drafts for another model"

static const cmif_arch archs[] = {
    /* decoders: output.weight, or the table */
    {"llama", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"llama4", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"mistral3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"mistral4", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"smollm3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"qwen2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"qwen3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"qwen3moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"phi3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"gemma3", CMIF_SCALE_ROOT_WIDTH, CMIF_OUTPUT_OPTIONAL, NULL},
    {"gemma4", CMIF_SCALE_ROOT_WIDTH, CMIF_OUTPUT_OPTIONAL, NULL}, /* those without a table per layer */
    {"granite", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},       /* embedding_scale: the engine scales rows too */
    {"granitemoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"granite_swa", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"minicpm", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"minicpm3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"grok", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"afmoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"gpt2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"mpt", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"bloom", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"falcon", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"refact", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"starcoder", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"starcoder2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"deci", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"arcee", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"arctic", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"chameleon", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"chatglm", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"cohere2moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"deepseek", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"deepseek2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"ernie4_5", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"ernie4_5-moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"exaone", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"exaone4", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"grovemoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"hunyuan-dense", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"hunyuan-moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"jais2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"laguna", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"maincoder", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"nanbeige", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"olmo", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"pangu-embedded", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"plamo3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"seed_oss", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    {"smallthinker", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NULL},
    /* decoders: always output.weight */
    {"apertus", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"baichuan", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"bailingmoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"bailingmoe2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"codeshell", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"dbrx", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"dots1", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"exaone-moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"gpt-oss", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"gptneox", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"internlm2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"jais", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"mellum", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"mimo2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"minimax-m2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"nemotron", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"olmo2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"olmoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"orion", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"phi2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"phimoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"plamo", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"qwen", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"qwen2moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"stablelm", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"talkie", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    {"xverse", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NULL},
    /* decoders: always the table */
    {"bitnet", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    {"cohere2", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    {"command-r", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    {"gemma", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL}, /* the engine scales rows too */
    {"gemma2", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    {"openelm", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    {"plm", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NULL},
    /* encoders: token types, positions and the first norm are added by the engine */
    {"bert", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"eurobert", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"gemma-embedding", CMIF_SCALE_ROOT_WIDTH, CMIF_OUTPUT_NONE, NULL},
    {"jina-bert-v2", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"jina-bert-v3", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"llama-embed", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"modern-bert", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"neo-bert", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"nomic-bert", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    {"nomic-bert-moe", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NULL},
    /* known, and refused */
    {"gemma3n", CMIF_SCALE_ROOT_WIDTH, CMIF_OUTPUT_OPTIONAL, BY_ID},
    {"graniteswitch", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, BY_ID},
    {"deepseek4", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, BY_ID},
    {"glm4", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NO_ROWS},
    {"glm4moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NO_ROWS},
    {"cogvlm", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, "it takes rows for images and uses other weights for them"},
    {"qwen2vl", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, POSITIONS},
    {"qwen3vl", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, POSITIONS},
    {"qwen3vlmoe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, POSITIONS},
    {"paddleocr", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, POSITIONS},
    {"hunyuan_vl", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, POSITIONS},
    {"dream", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, DIFFUSION},
    {"llada", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, DIFFUSION},
    {"llada-moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, DIFFUSION},
    {"rnd1", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, DIFFUSION},
    {"t5", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, TWO_PARTS},
    {"t5encoder", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, TWO_PARTS},
    {"mamba", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"mamba2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"rwkv6", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"rwkv6qwen2", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"rwkv7", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"arwkv7", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"jamba", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"falcon-h1", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"plamo2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"granitehybrid", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"lfm2", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"lfm2moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"nemotron_h", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"nemotron_h_moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"qwen3next", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"qwen35", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"qwen35moe", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"qwen4exp", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"kimi-linear", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"kimi-k3", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"glm5-next", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, RECURRENT},
    {"bailingmoe3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"minimax-01", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, RECURRENT},
    {"qwen3tts", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, NOT_TEXT},
    {"pockettts", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, NOT_TEXT},
    {"wavtokenizer-dec", CMIF_SCALE_ONE, CMIF_OUTPUT_OWN, NOT_TEXT},
    {"clip", CMIF_SCALE_ONE, CMIF_OUTPUT_NONE, NOT_TEXT},
    {"eagle3", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, DRAFT},
    {"dflash", CMIF_SCALE_ONE, CMIF_OUTPUT_OPTIONAL, DRAFT},
    {"gemma4-assistant", CMIF_SCALE_ONE, CMIF_OUTPUT_TABLE, DRAFT},
};

enum { COUNT = sizeof archs / sizeof *archs };

size_t cmif_arch_count(void)
{
    return COUNT;
}

const cmif_arch *cmif_arch_at(size_t index)
{
    return index < COUNT ? &archs[index] : NULL;
}

size_t cmif_arch_allowed(void)
{
    size_t allowed = 0;
    for (size_t i = 0; i < COUNT; i++) {
        allowed += !archs[i].refused;
    }
    return allowed;
}

/* Keys that make a model of any architecture one that rows alone cannot feed. */
static const char *refused_by_key(const cmif_gguf *model, const char *name)
{
    static const struct {
        const char *key;
        const char *refused;
    } keys[] = {
        {"n_deepstack_layers", WIDER},
        {"embedding_length_per_layer_input", BY_ID},
    };
    char key[128];
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint32_t value;
        snprintf(key, sizeof key, "%s.%s", name, keys[i].key);
        if (cmif_gguf_find(model, key) && (cmif_gguf_get_uint(model, key, &value, NULL) != CMIF_OK || value > 0)) {
            return keys[i].refused;
        }
    }
    snprintf(key, sizeof key, "%s.deepstack_mapping", name);
    if (cmif_gguf_find(model, key)) {
        return WIDER;
    }
    snprintf(key, sizeof key, "%s.rope.dimension_sections", name);
    return cmif_gguf_find(model, key) ? POSITIONS : NULL;
}

cmif_code cmif_arch_find(const cmif_gguf *model, const cmif_arch **out, cmif_err *err)
{
    cmif_str  name;
    cmif_code rc = cmif_gguf_get_str(model, "general.architecture", &name, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    for (size_t i = 0; i < COUNT; i++) {
        if (!cmif_str_is(name, archs[i].name)) {
            continue;
        }
        const char *refused = archs[i].refused ? archs[i].refused : refused_by_key(model, archs[i].name);
        if (refused) {
            return cmif_fail(err, CMIF_E_UNSUPPORTED, "a model of architecture '%s' cannot be split: %s", archs[i].name,
                             refused);
        }
        *out = &archs[i];
        return CMIF_OK;
    }
    char shown[41];
    snprintf(shown, sizeof shown, "%.*s", name.size < 40 ? (int) name.size : 40, name.data);
    for (char *c = shown; *c; c++) {
        *c = *c > ' ' && *c <= '~' ? *c : '?';
    }
    return cmif_fail(err, CMIF_E_UNSUPPORTED,
                     "architecture '%s' is not among the %zu that were checked for splitting (docs/model.md)", shown,
                     cmif_arch_allowed());
}
