/* make-model - a GGUF model with random weights, for tests and measurements: the same bytes for the same arguments.
 *
 * The tensors of each architecture are those that the pinned engine's src/models/ loads. */
#include "gguf/gguf.h"
#include "model/arch.h"
#include "rows/rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTN_NORM  = 1 << 0, /* a norm before attention */
    FFN_NORM   = 1 << 1, /* a norm before the feed-forward part */
    POST_NORMS = 1 << 2, /* norms after both */
    LAYER_NORM = 1 << 3, /* the epsilon of layer norm, not RMS */
    NORM_BIAS  = 1 << 4, /* norms have a bias */
    QKV_FUSED  = 1 << 5, /* one matrix for queries, keys and values */
    QKV_BIAS   = 1 << 6,
    OUT_BIAS   = 1 << 7, /* of the attention's output */
    QK_HEAD    = 1 << 8, /* queries and keys are normed head by head */
    QK_FULL    = 1 << 9, /* queries and keys are normed whole */
    FFN_GATE   = 1 << 10,
    FFN_DOUBLE = 1 << 11, /* gate and up in one matrix */
    FFN_BIAS   = 1 << 12,
    EXPERTS    = 1 << 13,
    POSITIONS  = 1 << 14, /* learned positions */
    EMBD_NORM  = 1 << 15, /* a norm right after the rows */
    NO_NORM    = 1 << 16, /* no norm at the end */
    HEAD_BIAS  = 1 << 17, /* of the output matrix */
    TIED       = 1 << 18, /* unless told otherwise */
    ENCODER    = 1 << 19, /* norms after each half of a layer, token types */
    MANY_KV    = 1 << 20, /* as many key heads as heads */
    ONE_KV     = 1 << 21,
    LLAMA_LIKE = ATTN_NORM | FFN_NORM | FFN_GATE,
    GPT_LIKE   = ATTN_NORM | FFN_NORM | LAYER_NORM | NORM_BIAS | QKV_FUSED | QKV_BIAS | OUT_BIAS | FFN_BIAS | MANY_KV
};

typedef struct extra { /* a key of the architecture: 'u' a u32, 'f' a float, 'b' a truth value */
    const char *key;
    char        kind;
    double      value;
} extra;

typedef struct kind {
    const char *arch;
    unsigned    has;
    unsigned    head; /* numbers of a head; 0: width / heads */
    extra       extras[8];
} kind;

static const kind kinds[] = {
    {"llama", LLAMA_LIKE, 0, {{0}}},
    {"qwen2", LLAMA_LIKE | QKV_BIAS, 0, {{0}}},
    {"qwen3", LLAMA_LIKE | QK_HEAD | TIED, 128, {{0}}},
    {"qwen3moe",
     ATTN_NORM | FFN_NORM | QK_HEAD | EXPERTS,
     0,
     {{"expert_count", 'u', 4}, {"expert_used_count", 'u', 2}}},
    {"phi3", ATTN_NORM | FFN_NORM | QKV_FUSED | FFN_DOUBLE, 0, {{0}}},
    {"phi2", (GPT_LIKE & ~(unsigned) FFN_NORM) | HEAD_BIAS, 0, {{"rope.dimension_count", 'u', 32}}},
    {"gpt2", GPT_LIKE | POSITIONS | TIED, 0, {{0}}},
    {"gptneox", GPT_LIKE, 0, {{"use_parallel_residual", 'b', 1}, {"rope.dimension_count", 'u', 16}}},
    {"mpt", ATTN_NORM | FFN_NORM | LAYER_NORM | QKV_FUSED | MANY_KV | TIED, 0, {{"attention.max_alibi_bias", 'f', 8}}},
    {"bloom", GPT_LIKE | EMBD_NORM | TIED, 0, {{0}}},
    {"falcon", ATTN_NORM | LAYER_NORM | NORM_BIAS | QKV_FUSED | ONE_KV | TIED, 0, {{0}}},
    {"starcoder2", ATTN_NORM | FFN_NORM | LAYER_NORM | NORM_BIAS | QKV_BIAS | OUT_BIAS | FFN_BIAS | TIED, 0, {{0}}},
    {"stablelm", LLAMA_LIKE | LAYER_NORM | NORM_BIAS, 0, {{"rope.dimension_count", 'u', 16}}},
    {"gemma", LLAMA_LIKE, 32, {{0}}},
    {"gemma2",
     LLAMA_LIKE | POST_NORMS,
     32,
     {{"attn_logit_softcapping", 'f', 50},
      {"final_logit_softcapping", 'f', 30},
      {"attention.sliding_window", 'u', 16}}},
    {"gemma3",
     LLAMA_LIKE | POST_NORMS | QK_HEAD | TIED,
     32,
     {{"attention.sliding_window", 'u', 16},
      {"attention.sliding_window_pattern", 'u', 2},
      {"rope.freq_base", 'f', 1e6}}},
    {"granite",
     LLAMA_LIKE | TIED,
     0,
     {{"logit_scale", 'f', 8},
      {"residual_scale", 'f', 0.22},
      {"embedding_scale", 'f', 12},
      {"attention.scale", 'f', 0.02}}},
    {"minicpm", LLAMA_LIKE | TIED, 0, {{0}}},
    {"smollm3", LLAMA_LIKE | TIED, 0, {{0}}},
    {"internlm2", LLAMA_LIKE, 0, {{0}}},
    {"olmo", FFN_GATE | LAYER_NORM | NO_NORM, 0, {{0}}},
    {"olmo2", FFN_GATE | POST_NORMS | QK_FULL, 0, {{0}}},
    {"command-r", ATTN_NORM | FFN_GATE | LAYER_NORM, 0, {{"logit_scale", 'f', 0.0625}}},
    {"cohere2",
     ATTN_NORM | FFN_GATE | LAYER_NORM,
     0,
     {{"logit_scale", 'f', 0.0625}, {"attention.sliding_window", 'u', 16}}},
    {"openelm", LLAMA_LIKE | QKV_FUSED | QK_HEAD, 0, {{0}}},
    {"bert",
     ENCODER | LAYER_NORM | NORM_BIAS | QKV_BIAS | OUT_BIAS | FFN_BIAS | POSITIONS | EMBD_NORM | MANY_KV,
     0,
     {{"attention.causal", 'b', 0}}},
    {"nomic-bert",
     ENCODER | LAYER_NORM | NORM_BIAS | QKV_FUSED | FFN_GATE | EMBD_NORM | MANY_KV,
     0,
     {{"attention.causal", 'b', 0}, {"rope.freq_base", 'f', 1000}}},
};

typedef struct shape {
    const char *name;
    unsigned    width, heads, kv_heads, ff, layers, vocab, context;
    double      rope;
    bool        tied;
} shape;

static const shape shapes[] = {
    {"small", 256, 4, 2, 512, 2, 512, 512, 10000, false},
    {"llama2-7b", 4096, 32, 32, 11008, 2, 32000, 4096, 10000, false}, /* of the real 32 layers: --layers 32 */
    {"llama3-8b", 4096, 32, 8, 14336, 2, 128256, 8192, 500000, false},
    {"1b", 2048, 32, 8, 8192, 16, 128256, 8192, 500000, true}, /* all of it */
};

/* What a run is about. */
typedef struct maker {
    const kind     *kind;
    shape           shape;
    const char     *path, *vocab_from;
    uint32_t        type;
    unsigned        labels;
    uint64_t        seed;
    int             tied; /* 0 no, 1 yes, -1 as the table above says */
    cmif_gguf_out  *out;
    cmif_gguf      *vocab;
    struct weights *all[16384];
    size_t          count;
} maker;

/* ---- weights ---- */

typedef struct weights {
    uint64_t      seed;
    cmif_row_type type;
    size_t        width, row_size;
    float         middle, reach; /* uniform in middle +- reach */
    float        *floats;
    uint8_t      *row;
} weights;

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z          = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Every row has a seed of its own, so that pieces can be made from any row on. */
static void make_row(const weights *t, uint64_t row, uint8_t *out)
{
    uint64_t state = t->seed + row * 0xd1342543de82ef95;
    for (size_t i = 0; i < t->width; i += 4) {
        uint64_t bits = next(&state);
        for (size_t j = 0; j < 4 && i + j < t->width; j++, bits >>= 16) {
            t->floats[i + j] = t->middle + t->reach * ((float) (int16_t) bits / 32768.0f);
        }
    }
    cmif_row_encode(t->type, t->floats, out, t->width);
}

static cmif_code make_bytes(void *context, uint64_t offset, uint8_t *buffer, size_t size, cmif_err *err)
{
    const weights *t = context;
    (void) err;
    while (size > 0) {
        size_t skip = (size_t) (offset % t->row_size);
        size_t take = t->row_size - skip < size ? t->row_size - skip : size;
        make_row(t, offset / t->row_size, take == t->row_size ? buffer : t->row);
        if (take < t->row_size) {
            memcpy(buffer, t->row + skip, take);
        }
        buffer += take;
        offset += take;
        size -= take;
    }
    return CMIF_OK;
}

static cmif_row_type row_type(uint32_t type)
{
    return type == CMIF_GGML_F32    ? CMIF_ROWS_F32
           : type == CMIF_GGML_F16  ? CMIF_ROWS_F16
           : type == CMIF_GGML_BF16 ? CMIF_ROWS_BF16
                                    : CMIF_ROWS_Q8_0;
}

static cmif_code put_tensor(maker *m, const char *name, uint32_t type, uint32_t dims, const uint64_t sizes[4],
                            float middle, float reach, cmif_err *err)
{
    weights *t = calloc(1, sizeof *t);
    if (!t || m->count == sizeof m->all / sizeof *m->all) {
        free(t);
        return cmif_fail(err, CMIF_E_MEMORY, "no room for tensor '%s'", name);
    }
    m->all[m->count++] = t;
    t->seed            = m->seed + m->count * 0x9e3779b97f4a7c15;
    t->type            = row_type(type);
    t->width           = (size_t) sizes[0];
    t->row_size        = sizes[0] <= 65536 ? cmif_row_size(t->type, t->width) : 0;
    t->middle          = middle;
    t->reach           = reach;
    if (t->row_size == 0 && type == CMIF_GGML_F32) { /* a bias over a large vocabulary: any piece of it is a row */
        t->width = 64, t->row_size = 256;
    }
    t->floats = malloc((t->width + 4) * sizeof(float));
    t->row    = malloc(t->row_size ? t->row_size : 1);
    if (!t->floats || !t->row || t->row_size == 0) {
        return cmif_fail(err, CMIF_E_RANGE, "tensor '%s': rows of %zu numbers cannot be of this --type", name,
                         t->width);
    }
    return cmif_gguf_put_tensor(m->out, name, type, dims, sizes, make_bytes, t, err);
}

/* A matrix that keeps the size of what it is given. */
static cmif_code matrix(maker *m, const char *name, uint64_t in, uint64_t out, cmif_err *err)
{
    return put_tensor(m, name, m->type, 2, (uint64_t[4]){in, out, 1, 1}, 0, sqrtf(3.0f / (float) in), err);
}

static cmif_code vector(maker *m, const char *name, uint64_t size, float middle, cmif_err *err)
{
    return put_tensor(m, name, CMIF_GGML_F32, 1, (uint64_t[4]){size, 1, 1, 1}, middle, 0.1f, err);
}

static cmif_code norm(maker *m, const char *stem, uint64_t size, cmif_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s.weight", stem);
    cmif_code rc = vector(m, name, size, 1, err);
    snprintf(name, sizeof name, "%s.bias", stem);
    return rc || !(m->kind->has & NORM_BIAS) ? rc : vector(m, name, size, 0, err);
}

/* "blk.<layer>.<stem>.weight", and a bias where asked for. */
static cmif_code layer_matrix(maker *m, unsigned layer, const char *stem, uint64_t in, uint64_t out, bool bias,
                              cmif_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, stem);
    cmif_code rc = matrix(m, name, in, out, err);
    snprintf(name, sizeof name, "blk.%u.%s.bias", layer, stem);
    return rc || !bias ? rc : vector(m, name, out, 0, err);
}

static cmif_code layer_norm(maker *m, unsigned layer, const char *stem, uint64_t size, bool present, cmif_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s", layer, stem);
    return present ? norm(m, name, size, err) : CMIF_OK;
}

static cmif_code experts(maker *m, unsigned layer, cmif_err *err)
{
    enum { EXPERTS_COUNT = 4 };
    static const char *const stems[] = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};
    cmif_code                rc = layer_matrix(m, layer, "ffn_gate_inp", m->shape.width, EXPERTS_COUNT, false, err);
    for (size_t i = 0; i < 3 && rc == CMIF_OK; i++) {
        char     name[64];
        uint64_t in = i < 2 ? m->shape.width : m->shape.ff, out = i < 2 ? m->shape.ff : m->shape.width;
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, stems[i]);
        rc =
            put_tensor(m, name, m->type, 3, (uint64_t[4]){in, out, EXPERTS_COUNT, 1}, 0, sqrtf(3.0f / (float) in), err);
    }
    return rc;
}

static cmif_code put_layer(maker *m, unsigned layer, cmif_err *err)
{
    const shape *s    = &m->shape;
    unsigned     has  = m->kind->has;
    uint64_t     head = m->kind->head ? m->kind->head : s->width / s->heads;
    uint64_t     q = head * s->heads, kv = head * s->kv_heads;
    bool         b  = has & QKV_BIAS;
    cmif_code    rc = layer_norm(m, layer, "attn_norm", s->width, has & ATTN_NORM, err);
    if (has & QKV_FUSED) {
        rc = rc ? rc : layer_matrix(m, layer, "attn_qkv", s->width, q + 2 * kv, b, err);
    } else {
        rc = rc ? rc : layer_matrix(m, layer, "attn_q", s->width, q, b, err);
        rc = rc ? rc : layer_matrix(m, layer, "attn_k", s->width, kv, b, err);
        rc = rc ? rc : layer_matrix(m, layer, "attn_v", s->width, kv, b, err);
    }
    if (has & (QK_HEAD | QK_FULL)) {
        rc = rc ? rc : layer_norm(m, layer, "attn_q_norm", has & QK_HEAD ? head : q, true, err);
        rc = rc ? rc : layer_norm(m, layer, "attn_k_norm", has & QK_HEAD ? head : kv, true, err);
    }
    rc = rc ? rc : layer_matrix(m, layer, "attn_output", q, s->width, has & OUT_BIAS, err);
    rc = rc ? rc : layer_norm(m, layer, "attn_output_norm", s->width, has & ENCODER, err);
    rc = rc ? rc : layer_norm(m, layer, "post_attention_norm", s->width, has & POST_NORMS, err);
    rc = rc ? rc : layer_norm(m, layer, "ffn_norm", s->width, has & FFN_NORM, err);
    if (has & EXPERTS) {
        return rc ? rc : experts(m, layer, err);
    }
    if (has & FFN_GATE) {
        rc = rc ? rc : layer_matrix(m, layer, "ffn_gate", s->width, s->ff, false, err);
    }
    rc =
        rc ? rc : layer_matrix(m, layer, "ffn_up", s->width, has & FFN_DOUBLE ? 2 * s->ff : s->ff, has & FFN_BIAS, err);
    rc = rc ? rc : layer_matrix(m, layer, "ffn_down", s->ff, s->width, has & FFN_BIAS, err);
    rc = rc ? rc : layer_norm(m, layer, "post_ffw_norm", s->width, has & POST_NORMS, err);
    return rc ? rc : layer_norm(m, layer, "layer_output_norm", s->width, has & ENCODER, err);
}

static bool has_output(const maker *m)
{
    if (m->kind->has & ENCODER) {
        return false;
    }
    for (size_t i = 0; i < cmif_arch_count(); i++) {
        const cmif_arch *arch = cmif_arch_at(i);
        if (strcmp(arch->name, m->kind->arch) == 0 && arch->output != CMIF_OUTPUT_OPTIONAL) {
            return arch->output == CMIF_OUTPUT_OWN;
        }
    }
    return m->tied < 0 ? !(m->kind->has & TIED || m->shape.tied) : !m->tied;
}

static cmif_code put_tensors(maker *m, cmif_err *err)
{
    const shape *s   = &m->shape;
    unsigned     has = m->kind->has;
    /* Small rows, so that what the layers add outweighs them: where the table is the output matrix as well, the next
     * token would always be the last one otherwise. */
    cmif_code rc = put_tensor(m, "token_embd.weight", m->type, 2, (uint64_t[4]){s->width, s->vocab}, 0, 0.05f, err);
    if (has & ENCODER) {
        rc = rc ? rc
                : put_tensor(m, "token_types.weight", CMIF_GGML_F32, 2, (uint64_t[4]){s->width, 2, 1, 1}, 0, 1, err);
    }
    if (has & POSITIONS) {
        rc = rc ? rc
                : put_tensor(m, "position_embd.weight", CMIF_GGML_F32, 2, (uint64_t[4]){s->width, s->context, 1, 1}, 0,
                             0.5f, err);
    }
    if (has & EMBD_NORM) {
        rc = rc ? rc : norm(m, "token_embd_norm", s->width, err);
    }
    for (unsigned layer = 0; layer < s->layers && rc == CMIF_OK; layer++) {
        rc = put_layer(m, layer, err);
    }
    if (!(has & (NO_NORM | ENCODER))) {
        rc = rc ? rc : norm(m, "output_norm", s->width, err);
    }
    if (has_output(m)) {
        rc = rc ? rc : matrix(m, "output.weight", s->width, s->vocab, err);
    }
    if (has & HEAD_BIAS) {
        rc = rc ? rc : vector(m, "output.bias", s->vocab, 0, err);
    }
    if (m->labels) {
        rc = rc ? rc : matrix(m, "cls.weight", s->width, s->width, err);
        rc = rc ? rc : vector(m, "cls.bias", s->width, 0, err);
        rc = rc ? rc : matrix(m, "cls.output.weight", s->width, m->labels, err);
        rc = rc ? rc : vector(m, "cls.output.bias", m->labels, 0, err);
    }
    return rc;
}

/* ---- keys ---- */

static cmif_code put_key(maker *m, const char *key, char type, double value, cmif_err *err)
{
    char whole[96];
    snprintf(whole, sizeof whole, "%s.%s", m->kind->arch, key);
    return type == 'u'   ? cmif_gguf_put_uint(m->out, whole, (uint32_t) value, err)
           : type == 'f' ? cmif_gguf_put_f32(m->out, whole, (float) value, err)
                         : cmif_gguf_put_bool(m->out, whole, value != 0, err);
}

static cmif_code put_keys(maker *m, cmif_err *err)
{
    const shape *s     = &m->shape;
    unsigned     head  = m->kind->head ? m->kind->head : s->width / s->heads;
    const extra  all[] = {
         {"context_length", 'u', s->context},
         {"embedding_length", 'u', s->width},
         {"block_count", 'u', s->layers},
         {"feed_forward_length", 'u', s->ff},
         {"attention.head_count", 'u', s->heads},
         {"attention.head_count_kv", 'u', s->kv_heads},
         {"attention.key_length", 'u', head},
         {"attention.value_length", 'u', head},
         {"rope.dimension_count", 'u', head},
         {"rope.freq_base", 'f', s->rope},
         {m->kind->has & LAYER_NORM ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 'f', 1e-5},
    };
    cmif_code rc =
        cmif_gguf_put_str(m->out, "general.architecture", (cmif_str){m->kind->arch, strlen(m->kind->arch)}, err);
    rc = rc ? rc : cmif_gguf_put_str(m->out, "general.name", (cmif_str){"random weights", 14}, err);
    for (size_t i = 0; i < sizeof all / sizeof *all && rc == CMIF_OK; i++) {
        rc = put_key(m, all[i].key, all[i].kind, all[i].value, err);
    }
    for (size_t i = 0; i < sizeof m->kind->extras / sizeof *m->kind->extras && m->kind->extras[i].key && rc == CMIF_OK;
         i++) {
        const extra *e = &m->kind->extras[i];
        rc             = put_key(m, e->key, e->kind, e->value, err);
    }
    if (m->kind->has & EXPERTS) {
        rc = rc ? rc : put_key(m, "expert_feed_forward_length", 'u', s->ff, err);
    }
    if (m->kind->has & ENCODER) {
        rc = rc ? rc : put_key(m, "pooling_type", 'u', m->labels ? 4 : 1, err); /* rank : mean */
        rc = rc ? rc : cmif_gguf_put_uint(m->out, "tokenizer.ggml.token_type_count", 2, err);
    }
    if (m->labels) {
        static const char *const words[] = {"zero", "one", "two", "three", "four", "five", "six", "seven"};
        cmif_str                 labels[8];
        char                     key[96];
        for (unsigned i = 0; i < m->labels; i++) {
            labels[i] = (cmif_str){words[i], strlen(words[i])};
        }
        snprintf(key, sizeof key, "%s.classifier.output_labels", m->kind->arch);
        rc = rc ? rc : cmif_gguf_put_strs(m->out, key, labels, m->labels, err);
    }
    return rc;
}

/* ---- a vocabulary ---- */

/* Word number n: one letter, then two, then three, ... */
static void word(unsigned n, char out[static 16])
{
    static const char letters[] = "etaoinshrdlucmfwypvbgkjqxz";
    char              back[16];
    size_t            size = 0, at = 0;
    for (n++; n > 0; n = (n - 1) / 26) {
        back[size++] = letters[(n - 1) % 26];
    }
    while (size > 0) {
        out[at++] = back[--size];
    }
    out[at] = 0;
}

typedef struct vocabulary {
    char (*text)[16];
    cmif_str *items;
    float    *scores;
    int32_t  *types;
} vocabulary;

/* SentencePiece: <unk>, <s>, </s>, 256 bytes, then words with a blank in front and words without, in turn. */
static void fill_pieces(const maker *m, vocabulary *v)
{
    for (unsigned i = 0; i < m->shape.vocab; i++) {
        static const char *const marks[] = {"<unk>", "<s>", "</s>"};
        char                     text[16];
        v->types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        if (i < 3) {
            snprintf(v->text[i], 16, "%s", marks[i]);
        } else if (i < 259) {
            snprintf(v->text[i], 16, "<0x%02X>", i - 3);
        } else if (i == 259) {
            snprintf(v->text[i], 16, "\xe2\x96\x81");
        } else {
            word((i - 260) / 2, text);
            snprintf(v->text[i], 16, "%s%.12s", i & 1 ? "" : "\xe2\x96\x81", text);
        }
        v->scores[i] = i < 259 ? 0 : -(float) (i - 259);
    }
}

/* WordPiece: five marks, then words that begin (U+2581 in front) and words that go on. */
static void fill_wordpieces(const maker *m, vocabulary *v)
{
    for (unsigned i = 0; i < m->shape.vocab; i++) {
        static const char *const marks[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
        char                     text[16];
        v->types[i] = i < 5 ? 3 : 1;
        word(i < 5 ? 0 : (i - 5) / 2, text);
        snprintf(v->text[i], 16, "%s%.12s", i < 5 ? marks[i] : i & 1 ? "\xe2\x96\x81" : "", i < 5 ? "" : text);
    }
}

static cmif_code put_vocabulary(maker *m, cmif_err *err)
{
    size_t     n  = m->shape.vocab;
    bool       wp = m->kind->has & ENCODER;
    cmif_code  rc = CMIF_OK;
    vocabulary v = {calloc(n, 16), calloc(n, sizeof *v.items), calloc(n, sizeof *v.scores), calloc(n, sizeof *v.types)};
    if (!v.text || !v.items || !v.scores || !v.types) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for %zu tokens", n);
        goto done;
    }
    (wp ? fill_wordpieces : fill_pieces)(m, &v);
    for (size_t i = 0; i < n; i++) {
        v.items[i] = (cmif_str){v.text[i], strlen(v.text[i])};
    }
    static const struct {
        const char *key;
        uint32_t    pieces, wordpieces;
    } ids[] = {{"unknown_token_id", 0, 1}, {"bos_token_id", 1, 2}, {"eos_token_id", 2, 3}, {"padding_token_id", 0, 0}};
    rc = cmif_gguf_put_str(m->out, "tokenizer.ggml.model", wp ? (cmif_str){"bert", 4} : (cmif_str){"llama", 5}, err);
    rc = rc ? rc : cmif_gguf_put_strs(m->out, "tokenizer.ggml.tokens", v.items, n, err);
    rc = rc ? rc : cmif_gguf_put_array(m->out, "tokenizer.ggml.scores", CMIF_GGUF_F32, v.scores, n, err);
    rc = rc ? rc : cmif_gguf_put_array(m->out, "tokenizer.ggml.token_type", CMIF_GGUF_I32, v.types, n, err);
    for (size_t i = 0; i < sizeof ids / sizeof *ids && rc == CMIF_OK; i++) {
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s", ids[i].key);
        rc = cmif_gguf_put_uint(m->out, key, wp ? ids[i].wordpieces : ids[i].pieces, err);
    }
    if (wp) {
        rc = rc ? rc : cmif_gguf_put_uint(m->out, "tokenizer.ggml.cls_token_id", 2, err);
        rc = rc ? rc : cmif_gguf_put_uint(m->out, "tokenizer.ggml.seperator_token_id", 3, err);
        rc = rc ? rc : cmif_gguf_put_uint(m->out, "tokenizer.ggml.mask_token_id", 4, err);
    }
done:
    free(v.text);
    free(v.items);
    free(v.scores);
    free(v.types);
    return rc;
}

/* All tokenizer.* keys of another file; its number of tokens is then ours. */
static cmif_code copy_vocabulary(maker *m, cmif_err *err)
{
    cmif_str *tokens;
    size_t    count;
    cmif_code rc = cmif_gguf_get_strs(m->vocab, "tokenizer.ggml.tokens", &tokens, &count, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    free(tokens);
    m->shape.vocab = (unsigned) count;
    for (size_t i = 0; i < cmif_gguf_value_count(m->vocab) && rc == CMIF_OK; i++) {
        const cmif_gguf_value *value = cmif_gguf_value_at(m->vocab, i);
        if (value->key.size > 10 && memcmp(value->key.data, "tokenizer.", 10) == 0) {
            rc = cmif_gguf_put_value(m->out, value, err);
        }
    }
    return rc;
}

/* ---- the command ---- */

static const char help[] =
    "usage: make-model ARCH -o FILE [options]\n"
    "\n"
    "A GGUF model with random weights, the same for the same arguments. ARCH is one of:\n%s\n"
    "  --shape NAME          small (default), llama2-7b, llama3-8b (2 layers each) or 1b (whole)\n"
    "  --layers N, --width N, --vocab N, --context N\n"
    "  --type TYPE           of matrices: f16 (default), f32, bf16, q8_0\n"
    "  --tied, --untied      the output matrix is the table, or its own, where the architecture leaves the choice\n"
    "  --labels N            a classifier of 2 to 8 labels (bert)\n"
    "  --vocab-from FILE     the tokenizer of another GGUF file\n"
    "  --seed N\n";

static void show_help(FILE *to)
{
    char names[1024] = " ";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(names);
        snprintf(names + size, sizeof names - size, "%s%s", i % 12 == 0 && i ? "\n  " : " ", kinds[i].arch);
    }
    fprintf(to, help, names);
}

static bool read_number(const char *text, unsigned low, unsigned high, unsigned *out)
{
    char              *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value < low || value > high) {
        return false;
    }
    *out = (unsigned) value;
    return true;
}

/* Read the arguments; false when they are not understood. */
static bool read_arguments(maker *m, int argc, char **argv)
{
    unsigned layers = 0, width = 0, vocab = 0, context = 0, seed = 1;
    m->shape = shapes[0];
    m->type  = CMIF_GGML_F16;
    m->tied  = -1;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        bool        ok = false;
        if (strcmp(name, "--tied") == 0 || strcmp(name, "--untied") == 0) {
            m->tied = strcmp(name, "--tied") == 0;
            continue;
        }
        if (name[0] != '-') {
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
                m->kind = strcmp(name, kinds[k].arch) == 0 ? &kinds[k] : m->kind;
            }
            if (!m->kind) {
                return false;
            }
            continue;
        }
        i++;
        if (strcmp(name, "-o") == 0 && *value) {
            m->path = value;
            ok      = true;
        } else if (strcmp(name, "--vocab-from") == 0 && *value) {
            m->vocab_from = value;
            ok            = true;
        } else if (strcmp(name, "--shape") == 0) {
            for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
                if (strcmp(value, shapes[k].name) == 0) {
                    m->shape = shapes[k];
                    ok       = true;
                }
            }
        } else if (strcmp(name, "--type") == 0) {
            static const uint32_t types[] = {UINT32_MAX, CMIF_GGML_F32, CMIF_GGML_F16, CMIF_GGML_BF16, CMIF_GGML_Q8_0};
            cmif_row_type         type;
            ok      = cmif_row_type_find(value, &type) && type != CMIF_ROWS_ID;
            m->type = ok ? types[type] : m->type;
        } else if (strcmp(name, "--layers") == 0) {
            ok = read_number(value, 1, 1000, &layers);
        } else if (strcmp(name, "--width") == 0) {
            ok = read_number(value, 32, 65536, &width);
        } else if (strcmp(name, "--vocab") == 0) {
            ok = read_number(value, 300, 1000000, &vocab);
        } else if (strcmp(name, "--context") == 0) {
            ok = read_number(value, 1, 1000000, &context);
        } else if (strcmp(name, "--labels") == 0) {
            ok = read_number(value, 2, 8, &m->labels);
        } else if (strcmp(name, "--seed") == 0) {
            ok = read_number(value, 0, UINT32_MAX, &seed);
        }
        if (!ok) {
            return false;
        }
    }
    shape *s   = &m->shape;
    s->layers  = layers ? layers : s->layers;
    s->vocab   = vocab ? vocab : s->vocab;
    s->context = context ? context : s->context;
    if (width) { /* the proportions stay */
        s->ff    = (unsigned) ((uint64_t) s->ff * width / s->width) / 32 * 32;
        s->width = width;
    }
    m->seed = (uint64_t) seed << 32;
    if (m->kind && m->kind->has & MANY_KV) {
        s->kv_heads = s->heads;
    } else if (m->kind && m->kind->has & ONE_KV) {
        s->kv_heads = 1;
    }
    return m->kind && m->path && s->width % (2 * s->heads) == 0 && s->ff > 0 && (!m->labels || m->kind->has & ENCODER);
}

int main(int argc, char **argv)
{
    static maker m;
    cmif_err     err  = {0};
    cmif_code    rc   = CMIF_OK;
    int          code = 1;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        show_help(stdout);
        return 0;
    }
    if (!read_arguments(&m, argc, argv)) {
        show_help(stderr);
        return 2;
    }
    rc = cmif_gguf_out_new(&m.out, &err);
    if (rc == CMIF_OK && m.vocab_from) {
        rc = cmif_gguf_open(m.vocab_from, &m.vocab, &err);
        rc = rc ? rc : copy_vocabulary(&m, &err);
    } else if (rc == CMIF_OK) {
        rc = put_vocabulary(&m, &err);
    }
    rc = rc ? rc : put_keys(&m, &err);
    rc = rc ? rc : put_tensors(&m, &err);
    rc = rc ? rc : cmif_gguf_write(m.out, m.path, NULL, NULL, &err);
    if (rc != CMIF_OK) {
        fprintf(stderr, "make-model: %s\n", err.text);
        goto done;
    }
    code = 0;
done:
    for (size_t i = 0; i < m.count; i++) {
        free(m.all[i]->floats);
        free(m.all[i]->row);
        free(m.all[i]);
    }
    cmif_gguf_free(m.vocab);
    cmif_gguf_out_free(m.out);
    return code;
}
