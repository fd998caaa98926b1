#include "sampler.h"

#include "llama.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

struct cmif_sampler {
    cmif_sampling         sampling;
    uint32_t              vocab;
    struct llama_sampler *filters;  /* NULL: greedy */
    bool                  filtered; /* there are some: tokens may be in another order afterwards */
    llama_token_data     *tokens;   /* (vocab), NULL: greedy */
};

cmif_code cmif_sampler_new(const cmif_sampling *sampling, uint32_t vocab, cmif_sampler **out, cmif_err *err)
{
    cmif_code     rc      = CMIF_OK;
    cmif_sampler *sampler = NULL;
    const float   t = sampling->temperature, top_p = sampling->top_p, min_p = sampling->min_p;

    /* written so that a NaN fails */
    if (!(t >= 0 && t <= CMIF_WIRE_TEMPERATURE_MAX) || !(top_p > 0 && top_p <= 1) || !(min_p >= 0 && min_p < 1)) {
        rc = cmif_fail(err, CMIF_E_RANGE, "temperature %g, top-p %g, min-p %g: expected >= 0, in (0, 1], in [0, 1)",
                       (double) t, (double) top_p, (double) min_p);
        goto done;
    }
    sampler = calloc(1, sizeof *sampler);
    if (!sampler) {
        rc = cmif_fail(err, CMIF_E_MEMORY, "no memory for a sampler");
        goto done;
    }
    sampler->sampling = *sampling;
    sampler->vocab    = vocab;
    if (t > 0) {
        sampler->tokens  = malloc(vocab * sizeof *sampler->tokens);
        sampler->filters = llama_sampler_chain_init(llama_sampler_chain_default_params());
        if (!sampler->tokens || !sampler->filters) {
            rc = cmif_fail(err, CMIF_E_MEMORY, "no memory to choose among %u tokens", vocab);
            goto done;
        }
        if (sampling->top_k > 0 && sampling->top_k < vocab) {
            llama_sampler_chain_add(sampler->filters, llama_sampler_init_top_k((int32_t) sampling->top_k));
        }
        if (top_p < 1) {
            llama_sampler_chain_add(sampler->filters, llama_sampler_init_top_p(top_p, 1));
        }
        sampler->filtered = llama_sampler_chain_n(sampler->filters) > 0 || min_p > 0;
        if (min_p > 0) {
            llama_sampler_chain_add(sampler->filters, llama_sampler_init_min_p(min_p, 1));
        }
    }
    *out    = sampler;
    sampler = NULL;
done:
    cmif_sampler_free(sampler);
    return rc;
}

void cmif_sampler_free(cmif_sampler *sampler)
{
    if (sampler) {
        if (sampler->filters) {
            llama_sampler_free(sampler->filters);
        }
        free(sampler->tokens);
        free(sampler);
    }
}

/* The largest of count floats. False when one is NaN or inf, or none is above -inf (which only says "never this one").
 * Eight at a time, because a vocabulary is long. */
static bool largest(const float *floats, uint32_t count, float *out)
{
    enum { LANES = 8 };
    float    best[LANES];
    uint32_t bad[LANES] = {0};
    uint32_t i          = 0;

    for (int l = 0; l < LANES; l++) {
        best[l] = -INFINITY;
    }
    for (; i + LANES <= count; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            const float x = floats[i + (uint32_t) l];
            best[l]       = x > best[l] ? x : best[l];
            bad[l] |= !(x < INFINITY);
        }
    }
    for (; i < count; i++) {
        best[0] = floats[i] > best[0] ? floats[i] : best[0];
        bad[0] |= !(floats[i] < INFINITY);
    }
    for (int l = 1; l < LANES; l++) {
        best[0] = best[l] > best[0] ? best[l] : best[0];
        bad[0] |= bad[l];
    }
    *out = best[0];
    return !bad[0] && best[0] > -INFINITY;
}

/* A number in [0, 1) that depends on seed and number alone: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014),
 * once over the seed and once over the number, so that neighbours share nothing. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static double uniform(uint64_t seed, uint32_t number)
{
    return (double) (mix(mix(seed) ^ number) >> 11) * 0x1p-53;
}

static int by_id(const void *a, const void *b)
{
    const llama_token_data *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* Draw one of the tokens that the filters left, with weight exp(logit / temperature). They stand in a row by id, not by
 * logit: two tokens that are almost equal must not trade places, and with them the draw, when the last bits of their
 * logits differ in a replay.
 * margin: how far all logits could move, to first order, before another token were drawn. */
static uint32_t draw(cmif_sampler *sampler, const float *logits, float best, uint32_t number, float *margin)
{
    llama_token_data_array left = {.data = sampler->tokens, .size = sampler->vocab, .selected = -1};
    const double           t    = (double) sampler->sampling.temperature;
    double                 sum = 0, below = 0, weight = 0;

    for (uint32_t i = 0; i < sampler->vocab; i++) {
        sampler->tokens[i] = (llama_token_data){.id = (llama_token) i, .logit = logits[i]};
    }
    llama_sampler_apply(sampler->filters, &left);
    if (sampler->filtered) {
        qsort(left.data, left.size, sizeof *left.data, by_id);
    }
    for (size_t i = 0; i < left.size; i++) {
        sum += exp(((double) left.data[i].logit - (double) best) / t);
    }
    const double u  = uniform(sampler->sampling.seed, number) * sum;
    size_t       at = 0;
    for (;; at++) {
        weight = exp(((double) left.data[at].logit - (double) best) / t);
        if (u < below + weight || at + 1 == left.size) {
            break;
        }
        below += weight;
    }
    if (margin) {
        /* the part c of the sum that lies below a border moves by at most 2 c (1 - c) / t for each unit of logits */
        const double low = below / sum, high = (below + weight) / sum, here = u / sum;
        const double down = low > 0 ? (here - low) / (2 * low * (1 - low)) : INFINITY;
        const double up   = high < 1 ? (high - here) / (2 * high * (1 - high)) : INFINITY;
        *margin           = (float) fmin(t * fmin(down, up), FLT_MAX);
    }
    return (uint32_t) left.data[at].id;
}

bool cmif_sampler_pick(cmif_sampler *sampler, const float *logits, uint32_t number, uint32_t *id, float *margin)
{
    float    best;
    uint32_t first = 0;

    if (!largest(logits, sampler->vocab, &best)) {
        return false;
    }
    while (logits[first] < best) {
        first++;
    }
    if (sampler->filters) {
        *id = draw(sampler, logits, best, number, margin);
        return true;
    }
    *id = first;
    if (margin) {
        float below, above;
        largest(logits, first, &below);
        largest(logits + first + 1, sampler->vocab - first - 1, &above);
        *margin = fminf(best - fmaxf(below, above), FLT_MAX);
    }
    return true;
}
