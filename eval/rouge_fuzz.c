/* Any two texts have scores in [0, 1]; what is precision one way is recall the other; a text agrees with itself. */
#include "rouge.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const cmif_rouge_score *s, const cmif_rouge_score *back)
{
    must(s->precision >= 0 && s->precision <= 1 && s->recall >= 0 && s->recall <= 1 && s->f1 >= 0 && s->f1 <= 1);
    must(!back || (fabs(s->precision - back->recall) < 1e-12 && fabs(s->f1 - back->f1) < 1e-12));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    const char *all = (const char *) data + 1;
    size_t      cut = (size - 1) * data[0] / 255;
    cmif_rouge  there, back, self;
    for (int stem = 0; stem < 2; stem++) {
        if (cmif_rouge_score_text(all, cut, all + cut, size - 1 - cut, stem, &there, NULL) != CMIF_OK) {
            continue;
        }
        must(cmif_rouge_score_text(all + cut, size - 1 - cut, all, cut, stem, &back, NULL) == CMIF_OK);
        must(cmif_rouge_score_text(all, cut, all, cut, stem, &self, NULL) == CMIF_OK);
        check(&there.one, &back.one);
        check(&there.two, &back.two);
        check(&there.l, &back.l);
        check(&there.lsum, NULL); /* a union over lines is not the same both ways */
        must(self.one.f1 > 0 ? fabs(self.l.f1 - 1) < 1e-12 && fabs(self.lsum.f1 - 1) < 1e-12 : self.lsum.f1 <= 0);
        must(there.l.f1 <= there.one.f1 + 1e-12 && there.lsum.f1 <= there.one.f1 + 1e-12);
    }
    return 0;
}
