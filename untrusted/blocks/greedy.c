#include "blocks/blocks.h"

#include "blocks/items.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Several seeds at once, because a pass over all rows costs memory traffic; the products of a seed that an earlier one
 * takes are lost. */
enum { SEEDS = 8, THREADS_MAX = 256 };

typedef struct greedy {
    const cmif_vectors *vectors;
    cmif_items          items;
    bool                euclidean;
    double             *length; /* [items] of the vector as it was given */
    float              *half;   /* [items] half the squared length of the row: Euclidean only */
    float              *slack;  /* [items] how far a score in single precision can be off */
    uint32_t           *alive;  /* [alive_count] known, unused, by falling prior; the first ones are the seeds */
    uint32_t            alive_count;
    float              *score; /* (SEEDS, items) of alive ones */
    bool               *used;  /* [items] */
    uint32_t           *label; /* [items] */
    uint32_t            blocks;
} greedy;

typedef struct share { /* of one thread */
    greedy  *all;
    uint32_t from, to;
} share;

static void *score_share(void *context)
{
    const share  *s      = context;
    const greedy *all    = s->all;
    size_t        stride = all->items.stride;
    uint32_t      seeds  = all->alive_count < SEEDS ? all->alive_count : SEEDS;

    for (uint32_t at = s->from; at < s->to; at++) {
        uint32_t     i   = all->alive[at];
        const float *row = all->items.row + i * stride;
        for (uint32_t seed = 0; seed < seeds; seed++) {
            float dot = cmif_items_dot(all->items.row + all->alive[seed] * stride, row, stride);
            all->score[(size_t) seed * all->items.count + at] = dot - all->half[i];
        }
    }
    return NULL;
}

/* Scores of the next seeds with all that are alive. */
static void score_all(greedy *all, uint32_t threads)
{
    pthread_t thread[THREADS_MAX];
    share     shares[THREADS_MAX];
    uint32_t  started = 0;

    if ((uint64_t) all->alive_count * all->items.stride < 1 << 17) {
        threads = 1; /* a thread costs more than it brings */
    }
    for (uint32_t t = 0; t < threads; t++) {
        shares[t] = (share){all, (uint32_t) ((uint64_t) all->alive_count * t / threads),
                            (uint32_t) ((uint64_t) all->alive_count * (t + 1) / threads)};
    }
    while (started + 1 < threads && pthread_create(&thread[started], NULL, score_share, &shares[started]) == 0) {
        started++;
    }
    for (uint32_t t = started; t < threads; t++) {
        (void) score_share(&shares[t]);
    }
    for (uint32_t t = 0; t < started; t++) {
        pthread_join(thread[t], NULL);
    }
}

/* Similarity in double precision, in one fixed order. */
static double exact_score(const greedy *all, uint32_t a, uint32_t b)
{
    uint32_t     width = all->vectors->width;
    const float *left  = all->vectors->rows + (size_t) all->items.id[a] * width;
    const float *right = all->vectors->rows + (size_t) all->items.id[b] * width;
    double       sum   = 0;

    for (uint32_t j = 0; j < width; j++) {
        double gap = (double) left[j] - (double) right[j];
        sum += all->euclidean ? -gap * gap : (double) left[j] * (double) right[j];
    }
    return all->euclidean ? sum : sum / (all->length[a] * all->length[b]);
}

typedef struct candidate {
    double   score;
    uint32_t i, id;
} candidate;

static int candidate_before(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->score > b->score || a->score < b->score) {
        return a->score > b->score ? -1 : 1;
    }
    return a->id < b->id ? -1 : a->id > b->id;
}

/* Put `value` into a heap of the n largest so far, smallest on top. */
static void keep_largest(float *heap, uint32_t n, float value)
{
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (!(heap[child] < value)) {
            break;
        }
        heap[at] = heap[child];
    }
    heap[at] = value;
}

/* Take the seed and its nearest unused words as one block. heap: [k - 1]; found: [items]. */
static void take_block(greedy *all, uint32_t seed, uint32_t k, float *heap, candidate *found)
{
    uint32_t     self = all->alive[seed], count = 0;
    const float *score = all->score + (size_t) seed * all->items.count;

    for (uint32_t n = 0; n < k - 1; n++) {
        heap[n] = -INFINITY;
    }
    for (uint32_t at = 0; at < all->alive_count; at++) {
        uint32_t i = all->alive[at];
        if (!all->used[i] && i != self && score[at] - all->slack[i] > heap[0]) {
            keep_largest(heap, k - 1, score[at] - all->slack[i]);
        }
    }
    /* k - 1 words score heap[0] at least: whatever cannot reach that is not among the nearest. */
    for (uint32_t at = 0; at < all->alive_count; at++) {
        uint32_t i = all->alive[at];
        if (!all->used[i] && i != self && score[at] + all->slack[i] >= heap[0]) {
            found[count++] = (candidate){exact_score(all, self, i), i, all->items.id[i]};
        }
    }
    qsort(found, count, sizeof *found, candidate_before);
    all->used[self]  = true;
    all->label[self] = all->blocks;
    for (uint32_t n = 0; n < k - 1; n++) {
        all->used[found[n].i]  = true;
        all->label[found[n].i] = all->blocks;
    }
    all->blocks++;
}

static cmif_code greedy_init(greedy *all, const cmif_lexicon *lexicon, bool pass, cmif_err *err)
{
    cmif_items_options as_given = {.pass = pass, .unit = !all->euclidean};
    cmif_code          rc       = cmif_items_init(&all->items, lexicon, all->vectors, &as_given, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    uint32_t count = all->items.count;
    all->length    = cmif_items_array(count, sizeof *all->length, err);
    all->half      = cmif_items_array(count, sizeof *all->half, err);
    all->slack     = cmif_items_array(count, sizeof *all->slack, err);
    all->alive     = cmif_items_array(count, sizeof *all->alive, err);
    all->score     = cmif_items_array(count, SEEDS * sizeof *all->score, err);
    all->used      = cmif_items_array(count, sizeof *all->used, err);
    all->label     = cmif_items_array(count, sizeof *all->label, err);
    if (!all->length || !all->half || !all->slack || !all->alive || !all->score || !all->used || !all->label) {
        return CMIF_E_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        const float *row = all->vectors->rows + (size_t) all->items.id[i] * all->vectors->width;
        double       sum = 0;
        for (uint32_t j = 0; j < all->vectors->width; j++) {
            sum += (double) row[j] * (double) row[j];
        }
        all->length[i] = sqrt(sum);
        all->half[i]   = all->euclidean ? (float) (all->items.norm2[i] / 2) : 0;
        /* Products and sums of `stride` terms, two rounded factors each, both lengths at most 1 (and a little): Higham
         * 2002, 3.1. */
        double unit   = ldexp(1, -24) * ((double) all->items.stride + 8) * 1.1;
        all->slack[i] = (float) (unit * (all->items.norm2[i] + sqrt(all->items.norm2[i])) + 1e-30);
        if (all->items.known[i]) {
            all->alive[all->alive_count++] = i;
        }
    }
    return CMIF_OK;
}

cmif_code cmif_blocks_greedy(const cmif_lexicon *lexicon, const cmif_vectors *vectors, uint32_t k, bool pass,
                             bool euclidean, uint32_t threads, cmif_blocks **out, cmif_err *err)
{
    cmif_code  rc    = CMIF_OK;
    greedy     all   = {.vectors = vectors, .euclidean = euclidean};
    float     *heap  = NULL;
    candidate *found = NULL;

    if (k < 5 || k > 400) {
        rc = cmif_fail(err, CMIF_E_RANGE, "blocks: blocks of %u words were asked for, expected 5 to 400", (unsigned) k);
        goto done;
    }
    rc = greedy_init(&all, lexicon, pass, err);
    if (rc != CMIF_OK) {
        goto done;
    }
    rc    = CMIF_E_MEMORY;
    heap  = cmif_items_array(k, sizeof *heap, err);
    found = cmif_items_array(all.items.count, sizeof *found, err);
    if (!heap || !found) {
        goto done;
    }
    while (all.alive_count >= k) {
        score_all(&all, cmif_items_threads(threads));
        uint32_t left = all.alive_count, kept = 0;
        for (uint32_t seed = 0; seed < SEEDS && left >= k; seed++) {
            if (!all.used[all.alive[seed]]) {
                take_block(&all, seed, k, heap, found);
                left -= k;
            }
        }
        for (uint32_t at = 0; at < all.alive_count; at++) {
            if (!all.used[all.alive[at]]) {
                all.alive[kept++] = all.alive[at];
            }
        }
        all.alive_count = kept;
    }
    uint32_t in_last = k;
    for (uint32_t i = 0; i < all.items.count; i++) {
        if (!all.used[i]) {
            all.blocks += in_last == k;
            in_last      = in_last == k ? 1 : in_last + 1;
            all.label[i] = all.blocks - 1;
        }
    }
    if (in_last == 1 && all.blocks > 1) { /* nobody is alone */
        for (uint32_t i = 0; i < all.items.count; i++) {
            all.label[i] -= all.label[i] == all.blocks - 1;
        }
        all.blocks--;
    }
    rc = cmif_items_blocks(&all.items, all.label, all.blocks, lexicon, 0, out, err);
done:
    cmif_items_wipe(&all.items);
    free(all.length);
    free(all.half);
    free(all.slack);
    free(all.alive);
    free(all.score);
    free(all.used);
    free(all.label);
    free(heap);
    free(found);
    return rc;
}
