#include "blocks/blocks.h"

#include "blocks/items.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STARTS = 3, ROUNDS = 12, NEAR = 12, PASSES = 6, FULL_PASSES = 2, STEP = 256 };

static const double CONSTRAINT = 5;    /* weight of an antonym pair, and of a pair of opposite valence */
static const double LEAST_GAIN = 1e-9; /* of a swap, in J */

typedef struct group { /* the items of one class */
    uint32_t begin, count, blocks;
} group;

typedef struct builder { /* what all threads read */
    cmif_items                 items;
    const cmif_blocks_options *options;
    uint32_t                   passes;
    uint32_t                  *antonym_at; /* [items + 1] into antonyms */
    uint32_t                  *antonyms;   /* items of the same class */
    int8_t                    *sign;       /* [items] 1: valence above 1, -1: below -1 */
    group                      groups[CMIF_CLASS_COUNT];
    uint32_t                   group_count;

    uint32_t       *label;  /* (seeds, items) block within the class */
    double         *score;  /* (seeds, groups) */
    cmif_code      *result; /* (seeds, groups) */
    cmif_err       *errs;   /* (seeds, groups) */
    uint32_t        tasks;
    atomic_uint     next; /* task */
    atomic_ullong   done; /* items times passes */
    atomic_bool     stop;
    uint32_t        running; /* threads; under lock */
    pthread_mutex_t lock;
    pthread_cond_t  idle;
} builder;

typedef struct block_state {
    uint32_t words, known, positive, negative, antonyms;
    double   mass;      /* sum of weights */
    double   gain;      /* |sum w x|^2 / mass: J counts sum w |x|^2 less this */
    double   square;    /* |mean|^2 */
    double   top, next; /* the two largest priors */
    bool     touched, touched_before;
} block_state;

typedef struct pick {
    float    at;
    uint32_t i;
} pick;

typedef struct seat { /* a place in a block, and what a swap asks about the word in it */
    uint32_t i;
    int32_t  sign;
    uint32_t antonyms; /* of the word, wherever they are */
    double   weight, pi, norm2;
    double   along; /* row times mean of the block */
} seat;

typedef struct run { /* one class and seed; items are counted from the first of the class */
    builder      *all;
    const float  *row;
    const double *weight, *pi, *norm2;
    const int8_t *sign;
    uint32_t      begin, count, blocks;
    size_t        stride;
    uint64_t      random;
    uint32_t     *block; /* [count] */
    uint32_t     *order; /* [count] the known ones, as the tree splits them */
    uint32_t     *first; /* [blocks + 1] into seats */
    seat         *seats; /* [count] block after block */
    float       *seated; /* (count, stride) rows in the order of seats: a block's lie together, which halves the time */
    uint32_t    *slot;   /* [count] seat of an item */
    pick        *picks;  /* [count] */
    block_state *state;  /* [blocks] */
    double      *sum;    /* (blocks, stride) sum of w x */
    float       *mean;   /* (blocks, stride) */
    double      *part;   /* (2, stride) scratch */
    float       *axis;   /* (stride) scratch */
    double       score;
} run;

static uint64_t next_random(uint64_t *state) /* splitmix64: Steele, Lea, Flood 2014 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z          = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z          = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    return (uint32_t) ((next_random(state) >> 32) * n >> 32);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static double larger(double a, double b)
{
    return a > b ? a : b;
}
static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static const float *row_of(const run *r, uint32_t i)
{
    return r->row + i * r->stride;
}

/* ---- the tree ---- */

static bool pick_before(pick a, pick b)
{
    return a.at < b.at || (a.at <= b.at && a.i < b.i);
}

/* The `left` smallest picks come first, in any order. */
static void select_smallest(pick *picks, uint32_t count, uint32_t left)
{
    uint32_t low = 0, high = count; /* everything before low is smaller, everything from high on larger */

    while (high - low > 1 && left > low && left < high) {
        pick     a = picks[low], b = picks[low + (high - low) / 2], c = picks[high - 1];
        pick     pivot = pick_before(a, b) ? (pick_before(b, c)   ? b
                                              : pick_before(a, c) ? c
                                                                  : a)
                                           : (pick_before(a, c)   ? a
                                              : pick_before(b, c) ? c
                                                                  : b);
        uint32_t end = low, at = low;
        for (uint32_t i = low; i < high; i++) {
            if (pick_before(picks[i], pivot)) {
                pick moved   = picks[i];
                picks[i]     = picks[end];
                picks[end++] = moved;
            }
        }
        for (at = end; pick_before(pivot, picks[at]); at++) {
        }
        picks[at]  = picks[end]; /* the pivot is the smallest of the rest */
        picks[end] = pivot;
        if (left <= end) {
            high = end;
        } else {
            low = end + 1;
        }
    }
}

/* Balanced 2-means of order[0, count): the best of a few starts puts `left` items first. */
static void bisect(run *r, uint32_t *order, uint32_t count, uint32_t left)
{
    double *whole = r->part, *side = r->part + r->stride, whole_mass = 0, best = -1;

    memset(whole, 0, r->stride * sizeof *whole);
    for (uint32_t i = 0; i < count; i++) {
        const float *row = row_of(r, order[i]);
        double       w   = r->weight[order[i]];
        whole_mass += w;
        for (size_t j = 0; j < r->stride; j++) {
            whole[j] += w * (double) row[j];
        }
    }
    pick *picks = r->picks, *kept = r->picks + r->count;
    for (int start = 0; start < STARTS; start++) {
        uint32_t     a    = random_below(&r->random, count);
        uint32_t     b    = (a + 1 + random_below(&r->random, count - 1)) % count;
        const float *from = row_of(r, order[a]), *to = row_of(r, order[b]);
        double       last = -1;

        for (size_t j = 0; j < r->stride; j++) {
            r->axis[j] = to[j] - from[j];
        }
        for (int round = 0; round < ROUNDS; round++) {
            for (uint32_t i = 0; i < count; i++) {
                picks[i] = (pick){cmif_items_dot(row_of(r, order[i]), r->axis, r->stride), order[i]};
            }
            select_smallest(picks, count, left);
            double mass = 0, gain = 0;
            memset(side, 0, r->stride * sizeof *side);
            for (uint32_t i = 0; i < left; i++) {
                const float *row = row_of(r, picks[i].i);
                double       w   = r->weight[picks[i].i];
                mass += w;
                for (size_t j = 0; j < r->stride; j++) {
                    side[j] += w * (double) row[j];
                }
            }
            for (size_t j = 0; j < r->stride; j++) {
                double rest = whole[j] - side[j];
                gain += side[j] * side[j] / mass + rest * rest / (whole_mass - mass);
                r->axis[j] = (float) (rest / (whole_mass - mass) - side[j] / mass);
            }
            if (gain > best) {
                best = gain;
                memcpy(kept, picks, count * sizeof *kept);
            }
            if (gain <= last * (1 + 1e-9)) {
                break;
            }
            last = gain;
        }
    }
    for (uint32_t i = 0; best >= 0 && i < count; i++) {
        order[i] = kept[i].i;
    }
}

/* Blocks [first, first + blocks) of order[0, count), sizes alike to one. Goes log2(blocks) deep. */
static void grow_tree(run *r, uint32_t *order, uint32_t count, uint32_t first, uint32_t blocks)
{
    if (blocks == 1) {
        for (uint32_t i = 0; i < count; i++) {
            r->block[order[i]] = first;
        }
        return;
    }
    uint32_t half = blocks / 2;
    uint32_t left = (uint32_t) ((uint64_t) count * half / blocks);
    if (left > 0 && left < count && !r->all->stop) {
        bisect(r, order, count, left);
    }
    grow_tree(r, order, left, first, half);
    grow_tree(r, order + left, count - left, first + half, blocks - half);
}

/* Words without a vector fill the blocks up, the most frequent ones where there is a frequent word already. */
static void place_unknown(run *r, const uint8_t *known)
{
    uint32_t unknown = 0;

    for (uint32_t i = 0; i < r->count; i++) {
        block_state *b = &r->state[r->block[i]];
        unknown += !known[i];
        if (known[i]) {
            b->words++;
            b->top = larger(b->top, r->pi[i]);
        }
    }
    uint32_t small = r->count / r->blocks, large = r->count % r->blocks; /* so many blocks have one word more */
    for (uint32_t b = 0; b < r->blocks; b++) {
        large -= r->state[b].words > small;
    }
    for (uint32_t i = 0; unknown > 0; unknown--) {
        uint32_t to = UINT32_MAX;
        for (uint32_t b = 0; b < r->blocks; b++) {
            uint32_t room = r->state[b].words < small || (r->state[b].words == small && large > 0);
            if (room && (to == UINT32_MAX || r->state[b].top > r->state[to].top)) {
                to = b;
            }
        }
        while (known[i]) {
            i++;
        }
        large -= r->state[to].words == small;
        r->state[to].words++;
        r->block[i++] = to;
    }
}

/* ---- swaps ---- */

static uint32_t antonyms_in(const run *r, uint32_t i, uint32_t block)
{
    const builder *all   = r->all;
    uint32_t       count = 0;
    for (uint32_t e = all->antonym_at[r->begin + i]; e < all->antonym_at[r->begin + i + 1]; e++) {
        count += r->block[all->antonyms[e] - r->begin] == block;
    }
    return count;
}

static bool are_antonyms(const run *r, uint32_t x, uint32_t y)
{
    const builder *all = r->all;
    for (uint32_t e = all->antonym_at[r->begin + x]; e < all->antonym_at[r->begin + x + 1]; e++) {
        if (all->antonyms[e] == r->begin + y) {
            return true;
        }
    }
    return false;
}

static double constraints(const block_state *b)
{
    return CONSTRAINT * ((double) b->antonyms + (double) least(b->positive, b->negative));
}

/* Everything that follows from a block's sum, mass and members. */
static void refresh(run *r, uint32_t b)
{
    block_state  *s    = &r->state[b];
    const double *sum  = r->sum + b * r->stride;
    float        *mean = r->mean + b * r->stride;
    double        sq   = 0;

    s->known = 0;
    for (uint32_t at = r->first[b]; at < r->first[b + 1]; at++) {
        s->known += r->seats[at].weight > 0;
    }
    for (size_t j = 0; j < r->stride; j++) {
        sq += sum[j] * sum[j];
        mean[j] = s->known ? (float) (sum[j] / s->mass) : 0;
    }
    s->gain   = s->known ? sq / s->mass : 0;
    s->square = s->known ? sq / (s->mass * s->mass) : 0;
    s->top = s->next = 0;
    s->positive = s->negative = s->antonyms = 0;
    for (uint32_t at = r->first[b]; at < r->first[b + 1]; at++) {
        seat *member  = &r->seats[at];
        member->along = (double) cmif_items_dot(r->seated + at * r->stride, mean, r->stride);
        s->next       = larger(s->next, smaller(s->top, member->pi));
        s->top        = larger(s->top, member->pi);
        s->positive += member->sign > 0;
        s->negative += member->sign < 0;
        s->antonyms += member->antonyms ? antonyms_in(r, member->i, b) : 0;
    }
    s->antonyms /= 2; /* each pair was met twice */
}

/* A block after `out` left and `in` came: the mass (0: no known word is left), and the largest prior. */
static double mass_after(const block_state *s, const seat *out, const seat *in)
{
    uint32_t known = s->known - (out->weight > 0) + (in->weight > 0);
    return known ? s->mass - out->weight + in->weight : 0;
}

static double top_after(const block_state *s, const seat *out, const seat *in)
{
    return larger(out->pi >= s->top ? s->next : s->top, in->pi);
}

static uint32_t mixed_after(const block_state *s, const seat *out, const seat *in)
{
    return least(s->positive - (out->sign > 0) + (in->sign > 0), s->negative - (out->sign < 0) + (in->sign < 0));
}

/* What swapping x of block a with y of block b adds to the terms of J that are not distortion. */
static double other_terms(const run *r, const seat *x, uint32_t a, uint32_t x_in_a, uint32_t x_in_b, const seat *y,
                          uint32_t b)
{
    const block_state *s_a = &r->state[a], *s_b = &r->state[b];
    double             change =
        (double) r->all->options->penalty * (top_after(s_a, x, y) + top_after(s_b, y, x) - s_a->top - s_b->top);

    if (x->sign || y->sign) {
        change +=
            CONSTRAINT * ((double) mixed_after(s_a, x, y) + (double) mixed_after(s_b, y, x) -
                          (double) least(s_a->positive, s_a->negative) - (double) least(s_b->positive, s_b->negative));
    }
    if (x->antonyms || y->antonyms) {
        double inside = (double) x_in_b - (double) x_in_a;
        if (y->antonyms) { /* a pair that swaps places was in neither block, and will be in neither */
            inside += (double) antonyms_in(r, y->i, a) - (double) antonyms_in(r, y->i, b);
            inside -= are_antonyms(r, x->i, y->i) ? 2 : 0;
        }
        change += CONSTRAINT * inside;
    }
    return change;
}

/* Swap x and y if J falls, decided in double precision. */
static bool try_swap(run *r, uint32_t at_x, uint32_t at_y)
{
    seat     x = r->seats[at_x], y = r->seats[at_y];
    float   *row_x = r->seated + at_x * r->stride, *row_y = r->seated + at_y * r->stride;
    uint32_t a = r->block[x.i], b = r->block[y.i];
    double   change = other_terms(r, &x, a, antonyms_in(r, x.i, a), antonyms_in(r, x.i, b), &y, b);
    double   mass_a = mass_after(&r->state[a], &x, &y), mass_b = mass_after(&r->state[b], &y, &x);
    double  *sum_a = r->sum + a * r->stride, *sum_b = r->sum + b * r->stride;
    double  *new_a = r->part, *new_b = r->part + r->stride;
    double   square_a = 0, square_b = 0;

    for (size_t j = 0; j < r->stride; j++) {
        double moved = y.weight * (double) row_y[j] - x.weight * (double) row_x[j];
        new_a[j]     = mass_a > 0 ? sum_a[j] + moved : 0;
        new_b[j]     = mass_b > 0 ? sum_b[j] - moved : 0;
        square_a += new_a[j] * new_a[j];
        square_b += new_b[j] * new_b[j];
    }
    change += r->state[a].gain - (mass_a > 0 ? square_a / mass_a : 0);
    change += r->state[b].gain - (mass_b > 0 ? square_b / mass_b : 0);
    if (!(change < -LEAST_GAIN)) {
        return false;
    }
    memcpy(sum_a, new_a, r->stride * sizeof *sum_a);
    memcpy(sum_b, new_b, r->stride * sizeof *sum_b);
    for (size_t j = 0; j < r->stride; j++) {
        float moved = row_x[j];
        row_x[j]    = row_y[j];
        row_y[j]    = moved;
    }
    r->seats[at_x]      = y;
    r->seats[at_y]      = x;
    r->slot[x.i]        = at_y;
    r->slot[y.i]        = at_x;
    r->block[x.i]       = b;
    r->block[y.i]       = a;
    r->state[a].mass    = mass_a;
    r->state[b].mass    = mass_b;
    r->state[a].touched = r->state[b].touched = true;
    refresh(r, a);
    refresh(r, b);
    r->score += change;
    return true;
}

/* The blocks nearest to x other than its own, nearest first, and the product of x with their means. */
static uint32_t near_blocks(const run *r, uint32_t x, uint32_t *near, float *along)
{
    float    distance[NEAR];
    uint32_t count = 0;

    for (uint32_t b = 0; b < r->blocks; b++) {
        if (b == r->block[x] || !r->state[b].known) {
            continue;
        }
        float dot = cmif_items_dot(row_of(r, x), r->mean + b * r->stride, r->stride);
        float d   = (float) r->state[b].square - 2 * dot;
        if (count == NEAR && !(d < distance[NEAR - 1])) {
            continue;
        }
        uint32_t at = count < NEAR ? count++ : NEAR - 1;
        for (; at > 0 && d < distance[at - 1]; at--) {
            distance[at] = distance[at - 1];
            near[at]     = near[at - 1];
            along[at]    = along[at - 1];
        }
        distance[at] = d;
        near[at]     = b;
        along[at]    = dot;
    }
    return count;
}

/* The best partner of x in block b: the seat, if J falls by more than -*best as far as single precision can tell.
 *
 * With both means held, a swap changes the distortion by w_x (|x - m_b|^2 - |x - m_a|^2) + w_y (|y - m_a|^2 - |y -
 * m_b|^2); the means then move, which takes off |w_y (y - m_a) - w_x (x - m_a)|^2 / mass of the new a, and likewise for
 * b. The numerator is at most twice the sum of both squares, so for most y the product of x and y need not be known. */
static void best_partner(const run *r, uint32_t at_x, uint32_t x_in_a, uint32_t b, double x_along_b, double *best,
                         uint32_t *partner)
{
    const seat       *x      = &r->seats[at_x];
    const float      *row_x  = r->seated + at_x * r->stride;
    uint32_t          a      = r->block[x->i];
    uint32_t          x_in_b = x->antonyms ? antonyms_in(r, x->i, b) : 0;
    const block_state from_a = r->state[a], from_b = r->state[b];
    const float      *mean_a = r->mean + a * r->stride;
    double            w_x = x->weight, x_to_a = x->norm2 - 2 * x->along + from_a.square;
    double            x_to_b = x->norm2 - 2 * x_along_b + from_b.square;

    for (uint32_t at = r->first[b]; at < r->first[b + 1]; at++) {
        const seat  *y      = &r->seats[at];
        const float *row_y  = r->seated + at * r->stride;
        double       change = other_terms(r, x, a, x_in_a, x_in_b, y, b);
        double       mass_a = mass_after(&from_a, x, y), mass_b = mass_after(&from_b, y, x);
        double       w_y       = y->weight;
        double       y_along_a = (double) cmif_items_dot(mean_a, row_y, r->stride);
        double       y_to_a    = y->norm2 - 2 * y_along_a + from_a.square;
        double       y_to_b    = y->norm2 - 2 * y->along + from_b.square;
        double       by_a = mass_a > 0 ? 1 / mass_a : 0, by_b = mass_b > 0 ? 1 / mass_b : 0;
        double square_a = w_x * w_x * x_to_a + w_y * w_y * y_to_a, square_b = w_x * w_x * x_to_b + w_y * w_y * y_to_b;

        change += w_x * (x_to_b - x_to_a) + w_y * (y_to_a - y_to_b);
        if (change - 2 * (square_a * by_a + square_b * by_b) >= *best) {
            continue;
        }
        double product = (double) cmif_items_dot(row_x, row_y, r->stride);
        change -= (square_a - 2 * w_x * w_y * (product - x->along - y_along_a + from_a.square)) * by_a;
        change -= (square_b - 2 * w_x * w_y * (product - x_along_b - y->along + from_b.square)) * by_b;
        if (change < *best) {
            *best    = change;
            *partner = at;
        }
    }
}

/* One pass over the words, each swapped with the best partner of its near blocks. False: nothing moved, or it was
 * stopped. */
static bool swap_pass(run *r, const uint8_t *known, bool only_touched)
{
    uint32_t near[NEAR];
    float    along[NEAR];
    bool     moved = false;

    for (uint32_t b = 0; b < r->blocks; b++) {
        r->state[b].touched_before = r->state[b].touched;
        r->state[b].touched        = false;
    }
    for (uint32_t at = 0; at < r->count; at++) { /* block after block: what one word asks for the next will, too */
        r->order[at] = r->seats[at].i;
    }
    for (uint32_t at = 0; at < r->count; at++) {
        uint32_t           x    = r->order[at];
        const block_state *from = &r->state[r->block[x]];
        if (at % STEP == 0) {
            atomic_fetch_add(&r->all->done, least(STEP, r->count - at));
        }
        if (r->all->stop) {
            return false;
        }
        if (!known[x] || (only_touched && !from->touched_before)) {
            continue;
        }
        uint32_t x_in_a = antonyms_in(r, x, r->block[x]), partner = UINT32_MAX;
        uint32_t count = near_blocks(r, x, near, along);
        double   best  = -LEAST_GAIN;
        for (uint32_t n = 0; n < count; n++) {
            best_partner(r, r->slot[x], x_in_a, near[n], (double) along[n], &best, &partner);
        }
        if (partner != UINT32_MAX && try_swap(r, r->slot[x], partner)) {
            moved = true;
        }
    }
    return moved;
}

/* ---- one class, one seed ---- */

static void begin_swaps(run *r)
{
    memset(r->state, 0, r->blocks * sizeof *r->state);
    for (uint32_t i = 0; i < r->count; i++) {
        block_state *b   = &r->state[r->block[i]];
        double      *sum = r->sum + r->block[i] * r->stride;
        const float *row = row_of(r, i);
        b->words++;
        b->mass += r->weight[i];
        for (size_t j = 0; j < r->stride; j++) {
            sum[j] += r->weight[i] * (double) row[j];
        }
        r->score += r->weight[i] * r->norm2[i];
    }
    for (uint32_t b = 0; b < r->blocks; b++) {
        r->first[b + 1]     = r->first[b] + r->state[b].words;
        r->state[b].words   = 0;
        r->state[b].touched = true;
    }
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t at  = r->first[r->block[i]] + r->state[r->block[i]].words++;
        r->slot[i]   = at;
        r->seats[at] = (seat){.i        = i,
                              .sign     = r->sign[i],
                              .antonyms = r->all->antonym_at[r->begin + i + 1] - r->all->antonym_at[r->begin + i],
                              .weight   = r->weight[i],
                              .pi       = r->pi[i],
                              .norm2    = r->norm2[i]};
        memcpy(r->seated + at * r->stride, row_of(r, i), r->stride * sizeof *r->seated);
    }
    for (uint32_t b = 0; b < r->blocks; b++) {
        refresh(r, b);
        r->score += (double) r->all->options->penalty * r->state[b].top + constraints(&r->state[b]) - r->state[b].gain;
    }
}

static cmif_code build_class(builder *all, uint32_t seed, const group *g, uint32_t *label, double *score, cmif_err *err)
{
    cmif_code         rc    = CMIF_E_MEMORY;
    const cmif_items *items = &all->items;
    const uint8_t    *known = items->known + g->begin;

    run r    = {.all    = all,
                .row    = items->row + (size_t) g->begin * items->stride,
                .weight = items->weight + g->begin,
                .pi     = items->pi + g->begin,
                .norm2  = items->norm2 + g->begin,
                .sign   = all->sign + g->begin,
                .begin  = g->begin,
                .count  = g->count,
                .blocks = g->blocks,
                .stride = items->stride,
                .random = all->options->seed + seed,
                .block  = label};
    r.random = next_random(&r.random) ^ items->word_class[g->begin];
    r.order  = cmif_items_array(r.count, sizeof *r.order, err);
    r.first  = cmif_items_array(r.blocks + 1, sizeof *r.first, err);
    r.seats  = cmif_items_array(r.count, sizeof *r.seats, err);
    r.seated = cmif_items_array(r.count, r.stride * sizeof *r.seated, err);
    r.slot   = cmif_items_array(r.count, sizeof *r.slot, err);
    r.picks  = cmif_items_array(r.count, 2 * sizeof *r.picks, err);
    r.state  = cmif_items_array(r.blocks, sizeof *r.state, err);
    r.sum    = cmif_items_array(r.blocks, r.stride * sizeof *r.sum, err);
    r.mean   = cmif_items_array(r.blocks, r.stride * sizeof *r.mean, err);
    r.part   = cmif_items_array(2, r.stride * sizeof *r.part, err);
    r.axis   = cmif_items_array(1, r.stride * sizeof *r.axis, err);
    if (!r.order || !r.first || !r.seats || !r.seated || !r.slot || !r.picks || !r.state || !r.sum || !r.mean ||
        !r.part || !r.axis) {
        goto done;
    }

    uint32_t count = 0;
    for (uint32_t i = 0; i < r.count; i++) {
        if (known[i]) {
            r.order[count++] = i;
        }
    }
    grow_tree(&r, r.order, count, 0, r.blocks);
    place_unknown(&r, known);
    atomic_fetch_add(&all->done, r.count);
    begin_swaps(&r);
    uint32_t pass = 0;
    for (bool moved = r.blocks > 1; moved && pass < all->passes; pass++) {
        moved = swap_pass(&r, known, pass >= FULL_PASSES);
    }
    atomic_fetch_add(&all->done, (uint64_t) r.count * (all->passes - pass));
    *score = r.score;
    rc     = CMIF_OK;
done:
    free(r.order);
    free(r.first);
    free(r.seats);
    free(r.seated);
    free(r.slot);
    free(r.picks);
    free(r.state);
    free(r.sum);
    free(r.mean);
    free(r.part);
    free(r.axis);
    return rc;
}

/* ---- all of them ---- */

static void *work(void *context)
{
    builder *all = context;

    for (uint32_t t; !all->stop && (t = atomic_fetch_add(&all->next, 1)) < all->tasks;) {
        uint32_t     seed = t / all->group_count;
        const group *g    = &all->groups[t % all->group_count];
        all->result[t]    = build_class(all, seed, g, all->label + (size_t) seed * all->items.count + g->begin,
                                        &all->score[t], &all->errs[t]);
        if (all->result[t] != CMIF_OK) {
            all->stop = true;
        }
    }
    pthread_mutex_lock(&all->lock);
    all->running--;
    pthread_cond_signal(&all->idle);
    pthread_mutex_unlock(&all->lock);
    return NULL;
}

/* Do every task, and report in this thread meanwhile. What a task computes depends on no other, so the order does not
 * matter. */
static cmif_code work_together(builder *all, cmif_progress progress, void *context, cmif_err *err)
{
    cmif_code rc      = CMIF_OK;
    uint32_t  threads = least(cmif_items_threads(all->options->threads), all->tasks), started = 0;
    uint64_t  total = (uint64_t) all->items.count * (all->passes + 1) * all->options->seeds;
    pthread_t thread[256];

    all->running = threads;
    while (started < threads && pthread_create(&thread[started], NULL, work, all) == 0) {
        started++;
    }
    for (uint32_t missing = started; missing < threads; missing++) {
        work(all);
    }
    pthread_mutex_lock(&all->lock);
    while (all->running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&all->idle, &all->lock, &until);
        pthread_mutex_unlock(&all->lock);
        if (progress && !progress(context, "blocks", all->done, total) && !all->stop) {
            rc        = CMIF_E_CANCELLED;
            all->stop = true;
        }
        pthread_mutex_lock(&all->lock);
    }
    pthread_mutex_unlock(&all->lock);
    for (uint32_t t = 0; t < started; t++) {
        pthread_join(thread[t], NULL);
    }
    for (uint32_t t = 0; t < all->tasks; t++) {
        if (all->result[t] != CMIF_OK) {
            if (err) {
                *err = all->errs[t];
            }
            return all->result[t];
        }
    }
    return rc == CMIF_OK ? rc : cmif_fail(err, rc, "blocks: cancelled");
}

static int group_before(const void *left, const void *right) /* large ones first: threads end together */
{
    const group *a = left, *b = right;
    if (a->count != b->count) {
        return a->count > b->count ? -1 : 1;
    }
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static void find_groups(builder *all)
{
    for (uint32_t i = 0; i < all->items.count; i++) {
        if (i == 0 || all->items.word_class[i] != all->items.word_class[i - 1]) {
            all->groups[all->group_count++] = (group){.begin = i};
        }
        all->groups[all->group_count - 1].count++;
    }
    for (uint32_t g = 0; g < all->group_count; g++) {
        all->groups[g].blocks = all->groups[g].count / all->options->k;
        all->groups[g].blocks += all->groups[g].blocks == 0;
    }
    qsort(all->groups, all->group_count, sizeof *all->groups, group_before);
}

/* Antonyms between items of one class; others can never meet in a block. */
static cmif_code find_antonyms(builder *all, const cmif_lexicon *lexicon, cmif_err *err)
{
    cmif_code         rc    = CMIF_E_MEMORY;
    const cmif_items *items = &all->items;
    uint32_t         *at    = cmif_items_array(lexicon->count, sizeof *at, err);

    all->antonym_at = cmif_items_array((size_t) items->count + 2, sizeof *all->antonym_at, err);
    all->antonyms   = cmif_items_array(lexicon->antonym_count, sizeof *all->antonyms, err);
    if (!at || !all->antonym_at || !all->antonyms) {
        goto done;
    }
    memset(at, 0xff, lexicon->count * sizeof *at);
    for (uint32_t i = 0; i < items->count; i++) {
        at[items->id[i]] = i;
    }
    for (int fill = 0; fill < 2;
         fill++) { /* first count, then fill: an item's place moves on to where the next begins */
        for (size_t e = 0; e < lexicon->antonym_count; e++) {
            uint32_t a = at[lexicon->antonyms[e].a], b = at[lexicon->antonyms[e].b];
            if (a == UINT32_MAX || b == UINT32_MAX || a == b || items->word_class[a] != items->word_class[b]) {
                continue;
            }
            if (fill) {
                all->antonyms[all->antonym_at[a + 1]++] = b;
            } else {
                all->antonym_at[a + 2]++;
            }
        }
        for (uint32_t i = 2; !fill && i < items->count + 2; i++) {
            all->antonym_at[i] += all->antonym_at[i - 1];
        }
    }
    rc = CMIF_OK;
done:
    free(at);
    return rc;
}

static cmif_code check_options(const cmif_blocks_options *o, cmif_err *err)
{
    if (o->k < 5 || o->k > 400) {
        return cmif_fail(err, CMIF_E_RANGE, "blocks: blocks of %u words were asked for, expected 5 to 400",
                         (unsigned) o->k);
    }
    if (!(o->valence_weight >= 0 && o->valence_weight <= 4)) {
        return cmif_fail(err, CMIF_E_RANGE, "blocks: the weight of valence is %g, expected 0 to 4",
                         (double) o->valence_weight);
    }
    if (!(o->penalty >= 0 && o->penalty <= 1000)) {
        return cmif_fail(err, CMIF_E_RANGE, "blocks: the penalty is %g, expected 0 to 1000", (double) o->penalty);
    }
    if (o->seeds < 1 || o->seeds > 1000) {
        return cmif_fail(err, CMIF_E_RANGE, "blocks: %u seeds, expected 1 to 1000", (unsigned) o->seeds);
    }
    return CMIF_OK;
}

cmif_code cmif_blocks_balanced(const cmif_lexicon *lexicon, const cmif_vectors *vectors, const float *valence,
                               const cmif_blocks_options *options, cmif_progress progress, void *context,
                               cmif_blocks **out, cmif_err *err)
{
    cmif_code rc    = check_options(options, err);
    builder   all   = {.options = options, .passes = options->passes ? options->passes : PASSES};
    uint32_t *label = NULL;

    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.idle, NULL);
    if (rc != CMIF_OK) {
        goto done;
    }
    cmif_items_options ordered = {.pass           = !options->protect_all,
                                  .by_class       = true,
                                  .unit           = true,
                                  .valence        = valence,
                                  .valence_weight = options->valence_weight};
    rc                         = cmif_items_init(&all.items, lexicon, vectors, &ordered, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    find_groups(&all);
    rc = find_antonyms(&all, lexicon, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc         = CMIF_E_MEMORY;
    all.tasks  = options->seeds * all.group_count;
    all.sign   = cmif_items_array(all.items.count, sizeof *all.sign, err);
    all.label  = cmif_items_array(options->seeds, all.items.count * sizeof *all.label, err);
    all.score  = cmif_items_array(all.tasks, sizeof *all.score, err);
    all.result = cmif_items_array(all.tasks, sizeof *all.result, err);
    all.errs   = cmif_items_array(all.tasks, sizeof *all.errs, err);
    label      = cmif_items_array(all.items.count, sizeof *label, err);
    if (!all.sign || !all.label || !all.score || !all.result || !all.errs || !label) {
        goto done;
    }
    for (uint32_t i = 0; valence && i < all.items.count; i++) {
        float v     = valence[all.items.id[i]];
        all.sign[i] = (int8_t) ((v > 1) - (v < -1));
    }
    rc = work_together(&all, progress, context, err);
    if (rc != CMIF_OK) {
        goto done;
    }

    /* J is a sum over classes, and classes never mix: each keeps its own best seed. */
    uint32_t labels = 0;
    double   score  = 0;
    for (uint32_t g = 0; g < all.group_count; g++) {
        uint32_t best = g;
        for (uint32_t t = g; t < all.tasks; t += all.group_count) {
            best = all.score[t] < all.score[best] ? t : best;
        }
        const uint32_t *from = all.label + (size_t) (best / all.group_count) * all.items.count;
        for (uint32_t i = all.groups[g].begin; i < all.groups[g].begin + all.groups[g].count; i++) {
            label[i] = labels + from[i];
        }
        labels += all.groups[g].blocks;
        score += all.score[best];
    }
    rc = cmif_items_blocks(&all.items, label, labels, lexicon, score, out, err);
done:
    pthread_cond_destroy(&all.idle);
    pthread_mutex_destroy(&all.lock);
    cmif_items_wipe(&all.items);
    free(all.antonym_at);
    free(all.antonyms);
    free(all.sign);
    free(all.label);
    free(all.score);
    free(all.result);
    free(all.errs);
    free(label);
    return rc;
}
