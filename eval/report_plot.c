/* Plots as static SVG. Only figures and short labels are drawn; captions, axis labels and the legend are text of the
 * page, so that they wrap on a phone and can be selected. */
#include "report_page.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_SERIES 8
#define WIDTH 480.0
#define HEIGHT 320.0
#define LISTED 200 /* points that are also given as a table */

typedef enum chart_kind { SCATTER, LINE, BARS } chart_kind;

typedef struct chart {
    chart_kind    kind;
    const char   *x_label, *y_label, *mark;
    const json_t *series;
    bool          marked; /* some point is */
    unsigned      number;
} chart;

typedef struct point {
    double      x, y, low, high;
    const char *name, *label; /* x of bars; what stands beside a point */
    bool        ranged, marked;
} point;

typedef struct axis {
    double low, high, from, to; /* values (or their logarithms), and where they are drawn */
    bool   log;
} axis;

/* shapes that can be told apart in grey; the last three are outlines */
static const char *const shapes[MOST_SERIES] = {"M-4.5,0a4.5,4.5 0 1,0 9,0a4.5,4.5 0 1,0 -9,0z",
                                                "M-4.2,-4.2h8.4v8.4h-8.4z",
                                                "M0,-5.4L5.2,4H-5.2z",
                                                "M0,-5.8L5.4,0L0,5.8L-5.4,0z",
                                                "M0,5.4L5.2,-4H-5.2z",
                                                "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
                                                "M-4,-4L4,4M-4,4L4,-4",
                                                "M0,-5V5M-5,0H5"};
static const char *const dashes[MOST_SERIES] = {"none", "7 3", "2 3", "8 3 2 3", "12 4", "4 4", "1 2", "12 3 2 3 2 3"};
/* how a bar is filled: lines in a square of 6, turned */
static const struct {
    const char *path;
    int         turn;
} hatchings[MOST_SERIES] = {{"M0,3H6M0,0H6M0,6H6M0,1.5H6M0,4.5H6", 0},
                            {"M0,3H6", 45},
                            {"M0,3H6", 0},
                            {"M0,3H6M3,0V6", 45},
                            {"M0,3H6", -45},
                            {"", 0},
                            {"M3,0V6", 0},
                            {"M2,3H4", 0}};

static const char *series_name(const json_t *series)
{
    return json_string_value(json_object_get(series, "name"));
}

static size_t point_count(const json_t *series)
{
    return json_array_size(json_object_get(series, "points"));
}

static point point_at(const chart *plot, const json_t *series, size_t index)
{
    const json_t *values = json_array_get(json_object_get(series, "points"), index);
    const json_t *marked = json_object_get(series, "marked");
    point         p      = {0};
    if (plot->kind == BARS) {
        p.name = json_string_value(json_array_get(values, 0));
    } else {
        p.x = json_number_value(json_array_get(values, 0));
    }
    p.y      = json_number_value(json_array_get(values, 1));
    p.ranged = json_array_size(values) == 4;
    p.low    = p.ranged ? json_number_value(json_array_get(values, 2)) : p.y;
    p.high   = p.ranged ? json_number_value(json_array_get(values, 3)) : p.y;
    p.label  = json_string_value(json_array_get(json_object_get(series, "labels"), index));
    for (size_t i = 0; i < json_array_size(marked); i++) {
        p.marked = p.marked || json_integer_value(json_array_get(marked, i)) == (json_int_t) index;
    }
    return p;
}

/* ---------------------------------------------------------------------------------------------- reading */

static bool read_axis(page *p, const json_t *plot, const char *name, bool may_log, axis *out, const char **label)
{
    const json_t *of, *text, *log = NULL;
    if (!cmif_page_member(p, plot, name, JSON_OBJECT, true, &of) ||
        !cmif_page_object(p, of, may_log ? "label log" : "label") ||
        !cmif_page_member(p, of, "label", JSON_STRING, true, &text) ||
        !cmif_page_member(p, of, "log", JSON_TRUE, false, &log)) {
        return false;
    }
    *label = json_string_value(text);
    *out   = (axis){.low = INFINITY, .high = -INFINITY, .log = json_is_true(log)};
    return true;
}

static bool read_points(page *p, chart *plot, const json_t *series, axis *x, axis *y)
{
    const json_t *first = json_array_get(plot->series, 0);
    for (size_t i = 0; i < point_count(series); i++) {
        const json_t *values = json_array_get(json_object_get(series, "points"), i);
        const json_t *head   = json_array_get(values, 0);
        size_t        count  = json_array_size(values);
        bool fine = (count == 2 || count == 4) && (plot->kind == BARS ? json_is_string(head) : json_is_number(head));
        for (size_t k = 1; fine && k < count; k++) {
            fine = json_is_number(json_array_get(values, k));
        }
        point one = point_at(plot, series, i);
        if (!fine || !(one.low <= one.y && one.y <= one.high)) {
            return cmif_page_refuse(p, "point %zu must be [x, y] or [x, y, low, high] with low <= y <= high", i);
        }
        if (x->log && !(one.x > 0)) {
            return cmif_page_refuse(p, "point %zu has no logarithm: x is %g", i, one.x);
        }
        const char *same =
            plot->kind == BARS
                ? json_string_value(json_array_get(json_array_get(json_object_get(first, "points"), i), 0))
                : NULL;
        if (plot->kind == BARS && (point_count(series) != point_count(first) || !same || strcmp(one.name, same) != 0)) {
            return cmif_page_refuse(p, "bars of every series must have the x of the first, in its order");
        }
        double at    = x->log ? log10(one.x) : one.x;
        x->low       = fmin(x->low, at);
        x->high      = fmax(x->high, at);
        y->low       = fmin(y->low, one.low);
        y->high      = fmax(y->high, one.high);
        plot->marked = plot->marked || one.marked;
    }
    return true;
}

static bool read_series(page *p, chart *plot, axis *x, axis *y)
{
    char   at[sizeof p->at];
    size_t count = json_array_size(plot->series), points = 0;
    memcpy(at, p->at, sizeof at);
    if (count == 0 || count > MOST_SERIES) {
        return cmif_page_refuse(p, "%zu series, 1 to %d can be told apart: make two plots", count, MOST_SERIES);
    }
    for (size_t s = 0; s < count; s++) {
        const json_t *series = json_array_get(plot->series, s), *name, *values, *labels, *marked;
        snprintf(p->at, sizeof p->at, "%.60s.series[%zu]", at, s);
        if (!cmif_page_object(p, series, plot->kind == BARS ? "name points marked" : "name points labels marked") ||
            !cmif_page_member(p, series, "name", JSON_STRING, true, &name) ||
            !cmif_page_member(p, series, "points", JSON_ARRAY, true, &values) ||
            !cmif_page_member(p, series, "labels", JSON_ARRAY, false, &labels) ||
            !cmif_page_member(p, series, "marked", JSON_ARRAY, false, &marked)) {
            return false;
        }
        for (size_t i = 0; i < json_array_size(labels); i++) {
            if (!json_is_string(json_array_get(labels, i)) || json_array_size(labels) != json_array_size(values)) {
                return cmif_page_refuse(p, "\"labels\" must be texts, one for each of %zu points",
                                        json_array_size(values));
            }
        }
        for (size_t i = 0; i < json_array_size(marked); i++) {
            json_int_t index = json_integer_value(json_array_get(marked, i));
            if (!json_is_integer(json_array_get(marked, i)) || index < 0 || (size_t) index >= json_array_size(values)) {
                return cmif_page_refuse(p, "\"marked\" must be indices of its %zu points", json_array_size(values));
            }
        }
        if (!read_points(p, plot, series, x, y)) {
            return false;
        }
        points += json_array_size(values);
    }
    memcpy(p->at, at, sizeof at);
    return points > 0 || cmif_page_refuse(p, "there is no point to draw");
}

/* ---------------------------------------------------------------------------------------------- axes */

/* Some room on both sides, but not beyond 0 and 1 where no value is. */
static void pad(axis *a, bool from_zero)
{
    double low = from_zero ? fmin(a->low, 0) : a->low, high = from_zero ? fmax(a->high, 0) : a->high;
    double room = high > low ? (high - low) * 0.06 : fmax(fabs(high) * 0.1, a->log ? 0.3 : 1e-3);
    bool   unit = !a->log && low >= 0 && high <= 1;
    a->low      = !a->log && low >= 0 && low - room < 0 ? 0 : low - (low < 0 || !from_zero ? room : 0);
    a->high     = unit && high + room > 1 ? 1 : high + room;
}

static double place(const axis *a, double value)
{
    return a->from + ((a->log ? log10(value) : value) - a->low) / (a->high - a->low) * (a->to - a->from);
}

typedef struct ticks {
    double at[24];
    size_t count;
    int    decimals;
} ticks;

/* Multiples of 1, 2 or 5 times a power of ten, some five of them. */
static ticks even_ticks(double low, double high)
{
    ticks  t     = {0};
    double raw   = (high - low) / 5;
    double power = pow(10, floor(log10(raw)));
    double step  = power * (raw / power < 1.5 ? 1 : raw / power < 3.5 ? 2 : raw / power < 7.5 ? 5 : 10);
    double fit   = -floor(log10(step) + 1e-9);
    t.decimals   = fit > 0 ? (int) fmin(fit, 12) : 0;
    for (double k = ceil(low / step - 1e-9); k * step <= high + step * 1e-9 && t.count < 24; k++) {
        t.at[t.count++] = k * step;
    }
    return t;
}

static ticks ticks_of(const axis *a)
{
    if (!a->log) {
        return even_ticks(a->low, a->high);
    }
    ticks t    = {0};
    bool  fine = a->high - a->low < 2.3;
    for (double power = floor(a->low); power <= a->high && t.count < 21; power++) {
        for (int digit = 1; digit <= (fine ? 5 : 1); digit += digit == 2 ? 3 : 1) {
            double at = log10(digit) + power;
            if (at >= a->low - 1e-9 && at <= a->high + 1e-9) {
                t.at[t.count++] = digit * pow(10, power);
            }
        }
    }
    t.decimals = t.count > 0 && t.at[0] < 1 ? (int) fmin(ceil(-log10(t.at[0]) - 1e-9), 12) : 0;
    return t.count >= 3 ? t : even_ticks(pow(10, a->low), pow(10, a->high)); /* less than a decade */
}

static void put_tick(page *p, double value, const ticks *t)
{
    bool small = value != 0 && (fabs(value) < 1e-4 || fabs(value) >= 1e7);
    if (small) {
        fprintf(p->out, "%.3g", value);
    } else {
        cmif_page_number(p, value, t->decimals);
    }
}

/* How wide the longest of the figures is, at the larger size they have on a phone. */
static double width_of(const ticks *t)
{
    int most = 0;
    for (size_t i = 0; i < t->count; i++) {
        double value = fabs(t->at[i]);
        bool   small = value != 0 && (value < 1e-4 || value >= 1e7);
        int    size  = small ? snprintf(NULL, 0, "%.3g", t->at[i]) : snprintf(NULL, 0, "%.*f", t->decimals, t->at[i]);
        most         = size > most ? size : most;
    }
    return 9.0 * most;
}

static void put_x_ticks(page *p, const axis *a, double top, double bottom)
{
    ticks t = ticks_of(a);
    for (size_t i = 0; i < t.count; i++) {
        double x = place(a, t.at[i]);
        fprintf(p->out, "<path class=\"grid\" d=\"M%.1f,%.1fV%.1f\"/><path class=\"line\" d=\"M%.1f,%.1fv4\"/>", x,
                bottom, top, x, bottom);
        fprintf(p->out, "<text text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">", x, bottom + 20);
        put_tick(p, t.at[i], &t);
        fputs("</text>\n", p->out);
    }
}

/* ---------------------------------------------------------------------------------------------- drawing */

static const char *marker_class(size_t s)
{
    return s < 5 ? "m" : "h";
}

typedef struct box {
    double left, top, right, bottom;
} box;

static bool overlap(box a, box b)
{
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/* How many markers, error bars and earlier labels a label would lie on; one beyond the edge counts as many. */
static size_t collisions(const chart *plot, const axis *x, const axis *y, box label, const box *placed, size_t count)
{
    size_t hits = label.left < x->from || label.right > WIDTH || label.top < 0 || label.bottom > y->from ? 10 : 0;
    for (size_t i = 0; i < count; i++) {
        hits += overlap(label, placed[i]);
    }
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        const json_t *series = json_array_get(plot->series, s);
        for (size_t i = 0; i < point_count(series); i++) {
            point  one = point_at(plot, series, i);
            double at = place(x, one.x), up = place(y, one.y), room = one.marked ? 9 : 5;
            hits += overlap(label, (box){at - room, up - room, at + room, up + room}) ||
                    overlap(label, (box){at - 2, place(y, one.high), at + 2, place(y, one.low)});
        }
    }
    return hits;
}

/* A label stands where it covers least of: beside its marker, above or below, or at the ends of the error bar. */
static void put_rings_and_labels(page *p, const chart *plot, const axis *x, const axis *y)
{
    box    placed[LISTED];
    size_t count = 0;
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        const json_t *series = json_array_get(plot->series, s);
        for (size_t i = 0; i < point_count(series); i++) {
            point  one = point_at(plot, series, i);
            double at = place(x, one.x), up = place(y, one.y);
            if (one.marked) {
                fprintf(p->out, "<circle class=\"ring\" r=\"9\" cx=\"%.1f\" cy=\"%.1f\"/>", at, up);
            }
            if (!one.label || !one.label[0] || count == LISTED) {
                continue;
            }
            double wide = 9.0 * (double) strlen(one.label), high = place(y, one.high), low = place(y, one.low);
            double spots[][2] = {{at + 8, up - 22},        {at - 8 - wide, up - 22}, {at - wide / 2, high - 17},
                                 {at + 8, up + 7},         {at - 8 - wide, up + 7},  {at - wide / 2, low + 2},
                                 {at - wide / 2, up - 27}, {at - wide / 2, up + 11}};
            size_t best = 0, least = SIZE_MAX;
            box    chosen = {0};
            for (size_t k = 0; k < sizeof spots / sizeof spots[0] && least > 0; k++) {
                box    label = {spots[k][0], spots[k][1], spots[k][0] + wide, spots[k][1] + 15};
                size_t hits  = collisions(plot, x, y, label, placed, count);
                if (hits < least) {
                    best   = k;
                    least  = hits;
                    chosen = label;
                }
            }
            placed[count++]    = chosen;
            const char *anchor = best < 6 ? (best % 3 == 0 ? "start" : best % 3 == 1 ? "end" : "middle") : "middle";
            double anchored = best < 6 && best % 3 == 0 ? chosen.left : best < 6 && best % 3 == 1 ? chosen.right : at;
            fprintf(p->out, "<text class=\"halo\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">", anchor, anchored,
                    chosen.bottom - 3);
            cmif_page_text(p, one.label);
            fputs("</text>\n", p->out);
        }
    }
}

static void put_points(page *p, const chart *plot, const axis *x, const axis *y)
{
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        const json_t *series = json_array_get(plot->series, s);
        fprintf(p->out, "<g class=\"k%zu\">", s);
        for (size_t i = 0; i < point_count(series); i++) {
            point one = point_at(plot, series, i);
            if (one.ranged) {
                double at = place(x, one.x), low = place(y, one.low), high = place(y, one.high);
                fprintf(p->out, "<path class=\"e\" d=\"M%.1f,%.1fV%.1fm-3,0h6M%.1f,%.1fh6\"/>", at, low, high, at - 3,
                        low);
            }
        }
        if (plot->kind == LINE) {
            fprintf(p->out, "<path class=\"l\" stroke-dasharray=\"%s\" d=\"", dashes[s]);
            for (size_t i = 0; i < point_count(series); i++) {
                point one = point_at(plot, series, i);
                fprintf(p->out, "%c%.1f,%.1f", i == 0 ? 'M' : 'L', place(x, one.x), place(y, one.y));
            }
            fputs("\"/>", p->out);
        }
        for (size_t i = 0; i < point_count(series); i++) {
            point one = point_at(plot, series, i);
            fprintf(p->out, "<path class=\"%s\" transform=\"translate(%.1f,%.1f)\" d=\"%s\"/>", marker_class(s),
                    place(x, one.x), place(y, one.y), shapes[s]);
        }
        fputs("</g>\n", p->out);
    }
    put_rings_and_labels(p, plot, x, y);
}

static void put_plane(page *p, const chart *plot, axis *x, axis *y)
{
    pad(x, false);
    pad(y, false);
    ticks t = ticks_of(y);
    x->from = width_of(&t) + 12;
    x->to   = WIDTH - 12;
    y->from = HEIGHT - 32;
    y->to   = 10;
    for (size_t i = 0; i < t.count; i++) {
        double at = place(y, t.at[i]);
        fprintf(p->out, "<path class=\"grid\" d=\"M%.1f,%.1fH%.1f\"/><path class=\"line\" d=\"M%.1f,%.1fh-4\"/>",
                x->from, at, x->to, x->from, at);
        fprintf(p->out, "<text text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\" dy=\".35em\">", x->from - 8, at);
        put_tick(p, t.at[i], &t);
        fputs("</text>\n", p->out);
    }
    put_x_ticks(p, x, y->to, y->from);
    fprintf(p->out, "<path class=\"line\" d=\"M%.1f,%.1fV%.1fH%.1f\"/>\n", x->from, y->to, y->from, x->to);
    put_points(p, plot, x, y);
}

#define BAR 15.0 /* height of a bar, of the line of its name, and of the space between names */
#define NAME 20.0
#define SPACE 7.0

static double bars_height(const chart *plot)
{
    size_t series = json_array_size(plot->series), names = point_count(json_array_get(plot->series, 0));
    return (double) names * (NAME + SPACE + (double) series * (BAR + 3)) + 40;
}

static void put_bars(page *p, const chart *plot, axis *value)
{
    size_t series = json_array_size(plot->series), names = point_count(json_array_get(plot->series, 0));
    double bottom = bars_height(plot) - 32, up = 4;
    pad(value, true);
    ticks t     = ticks_of(value);
    value->from = width_of(&t) / 2 + 2;
    value->to   = WIDTH - 66; /* figures stand behind the bars */
    put_x_ticks(p, value, 4, bottom);
    for (size_t i = 0; i < names; i++) {
        fprintf(p->out, "<text class=\"halo\" x=\"%.1f\" y=\"%.1f\">", value->from + 2, up + NAME - 6);
        cmif_page_text(p, point_at(plot, json_array_get(plot->series, 0), i).name);
        fputs("</text>\n", p->out);
        up += NAME;
        for (size_t s = 0; s < series; s++) {
            point  one  = point_at(plot, json_array_get(plot->series, s), i);
            double zero = place(value, 0), end = place(value, one.y), middle = up + BAR / 2;
            fprintf(p->out,
                    "<g class=\"k%zu\"><rect class=\"e\" fill=\"url(#h%u-%zu)\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"/>",
                    s, plot->number, s, fmin(zero, end), up, fabs(end - zero), BAR);
            if (one.marked) {
                fprintf(p->out, "<rect class=\"ring\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                        fmin(zero, end) - 1.5, up - 1.5, fabs(end - zero) + 3, BAR + 3);
            }
            if (one.ranged) {
                double low = place(value, one.low), high = place(value, one.high);
                for (int over = 0; over < 2; over++) { /* light under dark, to be seen on the bar as well */
                    fprintf(p->out, "<path class=\"%s\" d=\"M%.1f,%.1fH%.1fm0,-3v6M%.1f,%.1fv6\"/>",
                            over ? "whisker" : "under", low, middle, high, low, middle - 3);
                }
            }
            fprintf(p->out, "</g><text class=\"halo\" x=\"%.1f\" y=\"%.1f\" dy=\".35em\">",
                    fmax(zero, place(value, one.high)) + 7, middle);
            cmif_page_number(p, one.y,
                             cmif_page_decimals(json_array_get(
                                 json_array_get(json_object_get(json_array_get(plot->series, s), "points"), i), 1)));
            fputs("</text>\n", p->out);
            up += BAR + 3;
        }
        up += SPACE;
    }
    fprintf(p->out, "<path class=\"line\" d=\"M%.1f,4V%.1fM%.1f,%.1fH%.1f\"/>\n", place(value, 0), bottom, value->from,
            bottom, value->to);
}

/* ---------------------------------------------------------------------------------------------- around it */

static void put_legend(page *p, const chart *plot)
{
    fputs("<ul class=\"legend\">", p->out);
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        fprintf(p->out, "<li><svg viewBox=\"0 0 28 14\" aria-hidden=\"true\"><g class=\"k%zu\">", s);
        if (plot->kind == BARS) {
            fprintf(p->out, "<rect class=\"e\" fill=\"url(#h%u-%zu)\" x=\"2\" y=\"1\" width=\"24\" height=\"12\"/>",
                    plot->number, s);
        }
        if (plot->kind == LINE) {
            fprintf(p->out, "<path class=\"l\" stroke-dasharray=\"%s\" d=\"M0,7H28\"/>", dashes[s]);
        }
        if (plot->kind != BARS) {
            fprintf(p->out, "<path class=\"%s\" transform=\"translate(14,7)\" d=\"%s\"/>", marker_class(s), shapes[s]);
        }
        fputs("</g></svg> ", p->out);
        cmif_page_text(p, series_name(json_array_get(plot->series, s)));
        fputs("</li>", p->out);
    }
    if (plot->marked) {
        fputs("<li><svg viewBox=\"0 0 28 14\" aria-hidden=\"true\">", p->out);
        fputs(plot->kind == BARS ? "<rect class=\"ring\" x=\"2\" y=\"1\" width=\"24\" height=\"12\"/>"
                                 : "<circle class=\"ring\" r=\"6\" cx=\"14\" cy=\"7\"/>",
              p->out);
        fputs("</svg> ", p->out);
        cmif_page_text(p, plot->mark);
        fputs("</li>", p->out);
    }
    fputs("</ul>\n", p->out);
}

/* The same as a table that opens: for who cannot see the plot, and for who wants the figures. */
static void put_values(page *p, const chart *plot)
{
    size_t points = 0;
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        points += point_count(json_array_get(plot->series, s));
    }
    if (points > LISTED) {
        return;
    }
    fprintf(p->out,
            "<details><summary>The values</summary><div class=\"wide\" tabindex=\"0\" role=\"group\" "
            "aria-label=\"Values of "
            "figure %u\"><table><thead><tr><th scope=\"col\">Series</th><th scope=\"col\" class=\"%c\">",
            plot->number, plot->kind == BARS ? 'l' : 'r');
    cmif_page_text(p, plot->x_label);
    fputs("</th><th scope=\"col\" class=\"r\">", p->out);
    cmif_page_text(p, plot->y_label);
    fputs("</th><th scope=\"col\" class=\"r\">from</th><th scope=\"col\" class=\"r\">to</th></tr></thead><tbody>\n",
          p->out);
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        const json_t *series = json_array_get(plot->series, s);
        for (size_t i = 0; i < point_count(series); i++) {
            const json_t *values = json_array_get(json_object_get(series, "points"), i);
            fputs("<tr><th scope=\"row\">", p->out);
            cmif_page_text(p, series_name(series));
            fputs("</th>", p->out);
            for (size_t k = 0; k < 4; k++) {
                const json_t *value = json_array_get(values, k);
                fputs(json_is_string(value) ? "<td>" : "<td class=\"r\">", p->out);
                if (json_is_string(value)) {
                    cmif_page_text(p, json_string_value(value));
                } else if (value) {
                    cmif_page_number(p, json_number_value(value), cmif_page_decimals(value));
                }
                fputs("</td>", p->out);
            }
            fputs("</tr>\n", p->out);
        }
    }
    fputs("</tbody></table></div></details>\n", p->out);
}

/* What the plot shows, in words, for a screen reader. */
static void put_description(page *p, const chart *plot)
{
    static const char *const kinds[] = {"Scatter plot", "Line plot", "Bar chart"};
    fprintf(p->out, "<title id=\"t%u\">%s: ", plot->number, kinds[plot->kind]);
    cmif_page_text(p, plot->y_label);
    fputs(" against ", p->out);
    cmif_page_text(p, plot->x_label);
    fprintf(p->out, "</title><desc id=\"d%u\">", plot->number);
    for (size_t s = 0; s < json_array_size(plot->series); s++) {
        const json_t *series = json_array_get(plot->series, s);
        double        low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < point_count(series); i++) {
            point one = point_at(plot, series, i);
            low       = fmin(low, one.y);
            high      = fmax(high, one.y);
        }
        cmif_page_text(p, series_name(series));
        fprintf(p->out, ": %zu values, %.4g to %.4g. ", point_count(series), low, high);
    }
    fputs("</desc>\n", p->out);
}

bool cmif_page_plot(page *p, const json_t *object)
{
    chart         plot = {.mark = "our default"};
    const json_t *kind, *mark, *caption;
    axis          x, y;
    if (!cmif_page_object(p, object, "kind x y series mark caption") ||
        !cmif_page_member(p, object, "kind", JSON_STRING, true, &kind) ||
        !cmif_page_member(p, object, "series", JSON_ARRAY, true, &plot.series) ||
        !cmif_page_member(p, object, "mark", JSON_STRING, false, &mark) ||
        !cmif_page_member(p, object, "caption", JSON_STRING, false, &caption)) {
        return false;
    }
    static const char *const kinds[] = {"scatter", "line", "bars"};
    while (plot.kind <= BARS && strcmp(json_string_value(kind), kinds[plot.kind]) != 0) {
        plot.kind++;
    }
    if (plot.kind > BARS) {
        return cmif_page_refuse(p, "\"kind\" must be scatter, line or bars");
    }
    if (!read_axis(p, object, "x", plot.kind != BARS, &x, &plot.x_label) ||
        !read_axis(p, object, "y", false, &y, &plot.y_label) || !read_series(p, &plot, &x, &y)) {
        return false;
    }
    plot.mark   = mark ? json_string_value(mark) : plot.mark;
    plot.number = ++p->plots;

    const char *above = plot.kind == BARS ? plot.x_label : plot.y_label;
    const char *below = plot.kind == BARS ? plot.y_label : plot.x_label;
    fputs("<figure class=\"plot\">\n<div class=\"axis\" aria-hidden=\"true\">", p->out);
    cmif_page_text(p, above);
    fprintf(p->out, "</div>\n<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-labelledby=\"t%u d%u\">\n", WIDTH,
            plot.kind == BARS ? bars_height(&plot) : HEIGHT, plot.number, plot.number);
    put_description(p, &plot);
    if (plot.kind == BARS) {
        fputs("<defs>", p->out);
        for (size_t s = 0; s < json_array_size(plot.series); s++) {
            fprintf(p->out,
                    "<pattern id=\"h%u-%zu\" class=\"k%zu\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" "
                    "patternTransform=\"rotate(%d)\"><path class=\"l\" d=\"%s\"/></pattern>",
                    plot.number, s, s, hatchings[s].turn, hatchings[s].path);
        }
        fputs("</defs>\n", p->out);
        put_bars(p, &plot, &y);
    } else {
        put_plane(p, &plot, &x, &y);
    }
    fputs("</svg>\n<div class=\"x axis\" aria-hidden=\"true\">", p->out);
    cmif_page_text(p, below);
    fputs("</div>\n", p->out);
    if (json_array_size(plot.series) > 1 || plot.marked) {
        put_legend(p, &plot);
    }
    put_values(p, &plot);
    fprintf(p->out, "<figcaption><b>Figure %u", plot.number);
    cmif_page_caption(p, caption);
    fputs("</figure>\n", p->out);
    return true;
}
