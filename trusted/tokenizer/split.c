/* Pre-tokenizers: hand-written, for the regular expressions of the engine's library (named above each step). They
 * follow what the library does, which for some differs from what the model's authors wrote. */
#include "internal.h"

/* ---- reading ---- */

/* Class of the character at `at`, 0 at the end. */
static inline unsigned kind(const tok_split *s, size_t at, size_t end)
{
    if (at >= end) {
        return 0;
    }
    uint8_t c = s->text[at];
    if (c < 0x80) {
        return s->classes->pages[s->classes->index[0]][c];
    }
    size_t size;
    return tok_class(s->classes, tok_code_point(s->text + at, &size));
}

static inline size_t after(const tok_split *s, size_t at)
{
    return at + tok_symbol_size(s->text[at]);
}

static inline uint32_t code_point(const tok_split *s, size_t at, size_t end)
{
    size_t size;
    return at < end ? tok_code_point(s->text + at, &size) : 0xffffffff;
}

static inline bool is_at(const tok_split *s, size_t at, size_t end, uint8_t c)
{
    return at < end && s->text[at] == c;
}

static inline bool is_newline(const tok_split *s, size_t at, size_t end)
{
    return at < end && (s->text[at] == '\n' || s->text[at] == '\r');
}

/* Skip characters of any (or, of none) of these classes. */
static inline size_t run(const tok_split *s, size_t at, size_t end, unsigned mask)
{
    while (kind(s, at, end) & mask) {
        at = after(s, at);
    }
    return at;
}

static inline size_t run_without(const tok_split *s, size_t at, size_t end, unsigned mask)
{
    while (at < end && !(kind(s, at, end) & mask)) {
        at = after(s, at);
    }
    return at;
}

static inline size_t run_newlines(const tok_split *s, size_t at, size_t end)
{
    while (is_newline(s, at, end)) {
        at++;
    }
    return at;
}

/* ---- parts that many expressions share; each returns the end of its match, or `at` when there is none ---- */

/* 's 't 'm 'd 're 've 'll */
static inline size_t contraction(const tok_split *s, size_t at, size_t end, bool any_case)
{
    if (!is_at(s, at, end, '\'') || at + 1 >= end) {
        return at;
    }
    uint8_t fold = any_case ? 0x20 : 0;
    uint8_t a = s->text[at + 1] | fold, b = at + 2 < end ? s->text[at + 2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return at + 2;
    }
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? at + 3 : at;
}

/* \s+(?!\S)|\s+ : a run of spaces, without its last one when more follows. */
static inline size_t spaces(const tok_split *s, size_t at, size_t end)
{
    size_t to = at, last = at;
    while (kind(s, to, end) & CLASS_SPACE) {
        last = to;
        to   = after(s, to);
    }
    return to < end && last > at ? last : to;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last newline of the run, else as above. */
static inline size_t spaces_by_line(const tok_split *s, size_t at, size_t end)
{
    size_t to = at, last = at, line = at;
    while (kind(s, to, end) & CLASS_SPACE) {
        last = to;
        line = is_newline(s, to, end) ? to + 1 : line;
        to   = after(s, to);
    }
    return line > at ? line : to < end && last > at ? last : to;
}

/* [^\r\n\p{L}\p{N}]? before one of these letters: where the letters begin; end when there are none */
static inline size_t letters_start(const tok_split *s, size_t at, size_t end, unsigned letters)
{
    unsigned first = kind(s, at, end);
    if (first & CLASS_LETTER) {
        return at;
    }
    if (!(first & CLASS_NUMBER) && !is_newline(s, at, end) && (kind(s, after(s, at), end) & letters)) {
        return after(s, at);
    }
    return first & letters ? at : end;
}

/* The first piece when what matches is one, and what lies between matches is one. */
typedef size_t (*matcher)(const tok_split *s, size_t at, size_t end);

static inline __attribute__((always_inline)) size_t first_piece(const tok_split *s, size_t from, size_t end,
                                                                matcher match)
{
    size_t to = match(s, from, end);
    if (to > from) {
        return to;
    }
    for (to = after(s, from); to < end && match(s, to, end) == to;) {
        to = after(s, to);
    }
    return to;
}

/* A step from a matcher. */
#define STEP(name, match)                                                                                              \
    static size_t name(tok_split *s, size_t from, size_t end, size_t memo[static 2])                                   \
    {                                                                                                                  \
        (void) memo;                                                                                                   \
        return first_piece(s, from, end, match);                                                                       \
    }

/* ---- single classes ---- */

/* \p{N} */
static inline size_t match_number(const tok_split *s, size_t at, size_t end)
{
    return kind(s, at, end) & CLASS_NUMBER ? after(s, at) : at;
}
STEP(step_number, match_number)

/* \p{N}{1,3} */
static inline size_t match_number_3(const tok_split *s, size_t at, size_t end)
{
    for (unsigned i = 0; i < 3 && (kind(s, at, end) & CLASS_NUMBER); i++) {
        at = after(s, at);
    }
    return at;
}
STEP(step_number_3, match_number_3)

/* \p{N}+ */
static inline size_t match_numbers(const tok_split *s, size_t at, size_t end)
{
    return run(s, at, end, CLASS_NUMBER);
}
STEP(step_numbers, match_numbers)

/* [0-9][0-9][0-9] */
static inline size_t match_3_digits(const tok_split *s, size_t at, size_t end)
{
    for (size_t i = 0; i < 3; i++) {
        if (at + i >= end || s->text[at + i] < '0' || s->text[at + i] > '9') {
            return at;
        }
    }
    return at + 3;
}
STEP(step_3_digits, match_3_digits)

/* [\r\n] */
static inline size_t match_newline(const tok_split *s, size_t at, size_t end)
{
    return at + is_newline(s, at, end);
}
STEP(step_newline, match_newline)

static inline size_t run_of_ascii(const tok_split *s, size_t at, size_t end, unsigned mask, const char *others)
{
    while (at < end && ((kind(s, at, end) & mask) || (s->text[at] && strchr(others, s->text[at])))) {
        at = after(s, at);
    }
    return at;
}

/* [\p{P}\$\+<=>\^~\|]+ */
static inline size_t match_punct_default(const tok_split *s, size_t at, size_t end)
{
    return run_of_ascii(s, at, end, CLASS_PUNCT, "$+<=>^~|");
}
STEP(step_punct_default, match_punct_default)

/* [\p{P}\$\+<=>\^~\|`]+ */
static inline size_t match_punct_falcon(const tok_split *s, size_t at, size_t end)
{
    return run_of_ascii(s, at, end, CLASS_PUNCT, "$+<=>^~|`");
}
STEP(step_punct_falcon, match_punct_falcon)

/* [^\n]+|[\n]+ */
static size_t step_lines(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    if (s->text[from] != '\n') {
        const uint8_t *line = memchr(s->text + from, '\n', end - from);
        return line ? (size_t) (line - s->text) : end;
    }
    while (is_at(s, from, end, '\n')) {
        from++;
    }
    return from;
}

/* Runs of numbers in groups of three from the right. As in the library, what precedes a run stays with its first group.
 * memo[0]: the end of the run that was counted. */
static size_t step_groups_of_3(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    size_t group = 3, at = from;
    if (from >= memo[0]) {
        at = run_without(s, from, end, CLASS_NUMBER);
        if (at == end) {
            return end;
        }
        size_t to = at, count = 0;
        for (; kind(s, to, end) & CLASS_NUMBER; to = after(s, to)) {
            count++;
        }
        memo[0] = to;
        group   = count % 3 ? count % 3 : 3;
    }
    while (group-- > 0) {
        at = after(s, at);
    }
    return at;
}

/* (?=(\d{3})+(?!\d)) : a cut before every three digits from the right; memo as above */
static size_t step_before_3_digits(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    size_t at = from;
    if (from < memo[0]) {
        if (from + 3 < memo[0]) {
            return from + 3;
        }
        at = memo[0];
    }
    while (at < end) {
        while (at < end && (s->text[at] < '0' || s->text[at] > '9')) {
            at++;
        }
        size_t to = at;
        while (to < end && s->text[to] >= '0' && s->text[to] <= '9') {
            to++;
        }
        memo[0]    = to;
        size_t cut = at + (to - at) % 3;
        cut += cut == from ? 3 : 0;
        if (cut > from && cut < to) {
            return cut;
        }
        at = to;
    }
    return end;
}

/* ---- GPT-2 ---- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t step_gpt2(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    size_t to = contraction(s, from, end, /* any_case= */ false);
    if (to > from) {
        return to;
    }
    size_t   at    = from + is_at(s, from, end, ' ');
    unsigned first = kind(s, at, end);
    if (first & CLASS_LETTER) {
        return run(s, at, end, CLASS_LETTER);
    }
    if (first & CLASS_NUMBER) {
        return run(s, at, end, CLASS_NUMBER);
    }
    if (first && !(first & CLASS_SPACE)) {
        return run_without(s, at, end, CLASS_SPACE | CLASS_LETTER | CLASS_NUMBER);
    }
    return spaces(s, from, end);
}

/* ---- the family of Llama 3 ----
 * CONTRACTION | [^\r\n\p{L}\p{N}]?LETTERS+ | \p{N}{1,digits} | ?[^\s LETTERS \p{N}]+ TAIL | spaces */

typedef enum tail_kind { TAIL_NONE, TAIL_LINES, TAIL_LINES_SLASHES, TAIL_ONE } tail_kind;

static inline size_t run_tail(const tok_split *s, size_t at, size_t end, tail_kind tail)
{
    switch (tail) {
    case TAIL_NONE:
        return at;
    case TAIL_LINES:
        return run_newlines(s, at, end);
    case TAIL_ONE:
        return at + (is_newline(s, at, end) || is_at(s, at, end, '/'));
    case TAIL_LINES_SLASHES:
    default:
        while (is_newline(s, at, end) || is_at(s, at, end, '/')) {
            at++;
        }
        return at;
    }
}

/* \p{N}{1,digits}| ?[^\s others]+ TAIL|\s*[\r\n]+|\s+(?!\S)|\s+ */
static inline size_t numbers_marks_spaces(const tok_split *s, size_t from, size_t end, unsigned digits, unsigned others,
                                          tail_kind tail)
{
    size_t to = from;
    while (digits-- > 0 && (kind(s, to, end) & CLASS_NUMBER)) {
        to = after(s, to);
    }
    if (to > from) {
        return to;
    }
    size_t   at    = from + is_at(s, from, end, ' ');
    unsigned first = kind(s, at, end);
    if (first && !(first & (CLASS_SPACE | CLASS_NUMBER | others))) {
        return run_tail(s, run_without(s, at, end, CLASS_SPACE | CLASS_NUMBER | others), end, tail);
    }
    return spaces_by_line(s, from, end);
}

static inline size_t modern(const tok_split *s, size_t from, size_t end, bool contractions, unsigned letters,
                            unsigned digits, tail_kind tail)
{
    size_t to = contractions ? contraction(s, from, end, /* any_case= */ true) : from;
    if (to > from) {
        return to;
    }
    size_t start = letters_start(s, from, end, letters);
    return start < end ? run(s, start, end, letters) : numbers_marks_spaces(s, from, end, digits, letters, tail);
}

#define MODERN(name, contractions, letters, digits, tail)                                                              \
    static size_t name(tok_split *s, size_t from, size_t end, size_t memo[static 2])                                   \
    {                                                                                                                  \
        (void) memo;                                                                                                   \
        return modern(s, from, end, contractions, letters, digits, tail);                                              \
    }
MODERN(step_llama3, true, CLASS_LETTER, 3, TAIL_LINES)
MODERN(step_qwen2, true, CLASS_LETTER, 1, TAIL_LINES)
MODERN(step_qwen35, true, CLASS_LETTER | CLASS_MARK, 1, TAIL_LINES)
MODERN(step_minicpm5, true, CLASS_LETTER, UINT32_MAX, TAIL_LINES)
MODERN(step_seed_coder, true, CLASS_LETTER, 1, TAIL_NONE)
MODERN(step_ufakzeka, false, CLASS_LETTER, 1, TAIL_LINES)

/* As Llama 3, with spaces in \s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s; memo: the end of the run of
 * spaces, and of its last newline. */
static size_t step_jais2(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    if (!(kind(s, from, end) & CLASS_SPACE) || letters_start(s, from, end, CLASS_LETTER) < end) {
        return step_llama3(s, from, end, memo);
    }
    size_t   next = from + is_at(s, from, end, ' ');
    unsigned then = kind(s, next, end);
    if (then && !(then & (CLASS_SPACE | CLASS_NUMBER | CLASS_LETTER))) {
        return step_llama3(s, from, end, memo);
    }
    if (from >= memo[0]) {
        memo[0] = memo[1] = from;
        while (kind(s, memo[0], end) & CLASS_SPACE) {
            memo[1] = is_newline(s, memo[0], end) ? memo[0] + 1 : memo[1];
            memo[0] = after(s, memo[0]);
        }
    }
    if (memo[1] > from) {
        return memo[1];
    }
    size_t count = 0, at = from;
    for (; at < memo[0] && count < 513; at = after(s, at)) {
        count++;
    }
    size_t most = at < memo[0] || memo[0] == end ? count : count - 1; /* (?!\S): one stays before what follows */
    size_t take = 512;
    while (take > 2 && take > most) {
        take /= 2;
    }
    take = take > most ? most : take;
    take = take ? take : 1;
    for (at = from; take > 0; take--) {
        at = after(s, at);
    }
    return at;
}

/* [^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+ and \p{N}, ?[^\s\p{L}\p{N}]+[\r\n/]? : phrases in one piece */
static size_t step_exaone_moe(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    size_t to = contraction(s, from, end, /* any_case= */ true);
    if (to > from) {
        return to;
    }
    size_t at = letters_start(s, from, end, CLASS_LETTER);
    if (at == end) {
        return numbers_marks_spaces(s, from, end, 1, CLASS_LETTER, TAIL_ONE);
    }
    for (;;) {
        at = run(s, at, end, CLASS_LETTER | CLASS_MARK);
        if (!is_at(s, at, end, ' ') || !(kind(s, at + 1, end) & CLASS_LETTER)) {
            return at;
        }
        at++;
    }
}

/* ---- the family of GPT-4o ---- */

/* ((?=L)[^a-z])*((?=L)[^A-Z])+ with upper = 0, ((?=L)[^a-z])+((?=L)[^A-Z])* with upper = 1 */
static inline size_t cased_run(const tok_split *s, size_t at, size_t end, unsigned letters, bool upper)
{
    size_t to = at, turn = end;
    for (; (kind(s, to, end) & letters) && !(s->text[to] >= 'a' && s->text[to] <= 'z'); to = after(s, to)) {
        turn = s->text[to] >= 0x80 ? to : turn; /* the last one that is as good as lower case */
    }
    if (upper ? to == at : !(kind(s, to, end) & letters)) { /* no lower case follows: begin it at `turn` */
        if (upper || turn == end) {
            return at;
        }
        to = turn;
    }
    while ((kind(s, to, end) & letters) && !(s->text[to] >= 'A' && s->text[to] <= 'Z')) {
        to = after(s, to);
    }
    return to;
}

static inline size_t cased(const tok_split *s, size_t from, size_t end, unsigned letters, bool contractions,
                           unsigned digits)
{
    unsigned first = kind(s, from, end);
    bool     start = !(first & (CLASS_LETTER | CLASS_NUMBER)) && !is_newline(s, from, end);
    for (unsigned upper = 0; upper < 2; upper++) {
        for (unsigned skip = start; skip < 2; skip--) { /* with the character before, then without */
            size_t at = skip ? after(s, from) : from;
            size_t to = at < end ? cased_run(s, at, end, letters, upper) : at;
            if (to > at) {
                return contractions ? contraction(s, to, end, /* any_case= */ true) : to;
            }
        }
    }
    return numbers_marks_spaces(s, from, end, digits, CLASS_LETTER, TAIL_LINES_SLASHES);
}

#define CASED(name, letters, contractions, digits)                                                                     \
    static size_t name(tok_split *s, size_t from, size_t end, size_t memo[static 2])                                   \
    {                                                                                                                  \
        (void) memo;                                                                                                   \
        return cased(s, from, end, letters, contractions, digits);                                                     \
    }
CASED(step_gpt4o, CLASS_LETTER, true, 3)
CASED(step_tekken, CLASS_LETTER, false, 1)
CASED(step_granite_multi, CLASS_LETTER | CLASS_MARK, true, 3)

/* [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+ CONTRACTION? and the rest: case makes no difference in the library */
static inline size_t caseless(const tok_split *s, size_t from, size_t end, unsigned digits)
{
    size_t at = letters_start(s, from, end, CLASS_LETTER | CLASS_MARK);
    if (at < end) {
        return contraction(s, run(s, at, end, CLASS_LETTER | CLASS_MARK), end, /* any_case= */ true);
    }
    return numbers_marks_spaces(s, from, end, digits, CLASS_LETTER, TAIL_LINES_SLASHES);
}

static size_t step_tiny_aya(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    return caseless(s, from, end, 3);
}

static size_t step_youtu(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    return caseless(s, from, end, 1);
}

/* ---- Kimi K2 ---- */

static inline bool is_han(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2ebef) || (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static inline bool is_other_letter(const tok_split *s, size_t at, size_t end)
{
    return (kind(s, at, end) & CLASS_LETTER) && !is_han(code_point(s, at, end));
}

/* \p{Han}+ | [^\r\n\p{L}\p{N}]? letters that are not Han, CONTRACTION? | \p{N}{1,3} | ... as Llama 3 */
static size_t step_kimi(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    size_t at = from;
    while (is_han(code_point(s, at, end))) {
        at = after(s, at);
    }
    if (at > from) {
        return at;
    }
    unsigned first = kind(s, from, end);
    at += !(first & (CLASS_LETTER | CLASS_NUMBER)) && !is_newline(s, from, end) ? after(s, from) - from : 0;
    if (is_other_letter(s, at, end)) {
        while (is_other_letter(s, at, end)) {
            at = after(s, at);
        }
        return contraction(s, at, end, /* any_case= */ true);
    }
    return numbers_marks_spaces(s, from, end, 3, CLASS_LETTER, TAIL_LINES);
}

/* ---- the families of DeepSeek ---- */

/* Letters of scripts with case, as the model's authors list them. */
static bool is_deepseek_letter(uint32_t c)
{
    static const uint16_t ranges[][2] = {
        {0x41, 0x5a},     {0x61, 0x7a},     {0xb5, 0xb5},     {0xc0, 0xd6},     {0xd8, 0xf6},     {0xf8, 0x1ba},
        {0x1bc, 0x1bf},   {0x1c4, 0x293},   {0x295, 0x2af},   {0x370, 0x373},   {0x376, 0x377},   {0x37b, 0x37d},
        {0x37f, 0x37f},   {0x386, 0x386},   {0x388, 0x38a},   {0x38c, 0x38c},   {0x38e, 0x3a1},   {0x3a3, 0x3f5},
        {0x3f7, 0x481},   {0x48a, 0x52f},   {0x531, 0x556},   {0x10a0, 0x10c5}, {0x13a0, 0x13f5}, {0x13f8, 0x13fd},
        {0x1c90, 0x1cba}, {0x1cbd, 0x1cbf}, {0x1d00, 0x1d2b}, {0x1d6b, 0x1d77}, {0x1d79, 0x1d9a}, {0x1e00, 0x1f15},
        {0x1f18, 0x1f1d}, {0x1f20, 0x1f45}, {0x1f48, 0x1f4d}, {0x1f50, 0x1f57}, {0x1f59, 0x1f59}, {0x1f5b, 0x1f5b},
        {0x1f5d, 0x1f5d}, {0x1f5f, 0x1f7d}, {0x1f80, 0x1fb4}, {0x1fb6, 0x1fbc}, {0x1fbe, 0x1fbe}, {0x1fc2, 0x1fc4},
        {0x1fc6, 0x1fcc}, {0x1fd0, 0x1fd3}, {0x1fd6, 0x1fdb}, {0x1fe0, 0x1fec}, {0x1ff2, 0x1ff4}, {0x1ff6, 0x1ffc},
        {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210a, 0x2113}, {0x2115, 0x2115}, {0x2119, 0x211d}, {0x2124, 0x2124},
        {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212a, 0x212d}, {0x212f, 0x2134}, {0x2139, 0x2139}, {0x213c, 0x213f},
        {0x2145, 0x2149}, {0x214e, 0x214e}, {0x2183, 0x2184}, {0x2c00, 0x2c7b}, {0x2c7e, 0x2ce4}, {0x2ceb, 0x2cee},
        {0x2cf2, 0x2cf3}, {0xa640, 0xa66d}, {0xa680, 0xa69b}, {0xa722, 0xa76f}, {0xa771, 0xa787}, {0xa78b, 0xa78e},
        {0xab70, 0xabbf}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17}, {0xff21, 0xff3a}, {0xff41, 0xff5a},
    };
    static const uint32_t high[][2] = {{0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb}, {0x10c80, 0x10cb2},
                                       {0x10cc0, 0x10cf2}, {0x118a0, 0x118df}, {0x1e900, 0x1e943}};
    if (c < 0x80) {
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    }
    if (c > 0xffff) {
        for (size_t i = 0; i < sizeof high / sizeof high[0]; i++) {
            if (c >= high[i][0] && c <= high[i][1]) {
                return true;
            }
        }
        return false;
    }
    size_t low = 0, top = sizeof ranges / sizeof ranges[0];
    while (low < top) {
        size_t middle = (low + top) / 2;
        if (c > ranges[middle][1]) {
            low = middle + 1;
        } else {
            top = middle;
        }
    }
    return low < sizeof ranges / sizeof ranges[0] && c >= ranges[low][0];
}

static bool is_deepseek_punct(uint32_t c)
{
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '~') || (c >= 0xff01 && c <= 0xff0f) ||
           (c >= 0xff1a && c <= 0xff5e) || (c >= 0x2018 && c <= 0x201f) || (c >= 0x3001 && c <= 0x3002);
}

static inline size_t run_of(const tok_split *s, size_t at, size_t end, bool (*is)(uint32_t))
{
    while (at < end && is(code_point(s, at, end))) {
        at = after(s, at);
    }
    return at;
}

static inline size_t after_space(const tok_split *s, size_t at, size_t end)
{
    return kind(s, at, end) & CLASS_SPACE ? after(s, at) : at;
}

/* \s?X+ */
#define MATCH_AFTER_SPACE(name, run_from)                                                                              \
    static inline size_t name(const tok_split *s, size_t at, size_t end)                                               \
    {                                                                                                                  \
        size_t start = after_space(s, at, end), to = run_from;                                                         \
        return to > start ? to : at;                                                                                   \
    }
MATCH_AFTER_SPACE(match_deepseek_letters, run_of(s, start, end, is_deepseek_letter))
STEP(step_deepseek_letters, match_deepseek_letters)
MATCH_AFTER_SPACE(match_deepseek_punct, run_of(s, start, end, is_deepseek_punct))
STEP(step_deepseek_punct, match_deepseek_punct)
MATCH_AFTER_SPACE(match_spaced_letters, run(s, start, end, CLASS_LETTER))
STEP(step_spaced_letters, match_spaced_letters)
MATCH_AFTER_SPACE(match_spaced_punct, run(s, start, end, CLASS_PUNCT))
STEP(step_spaced_punct, match_spaced_punct)

/* \s+$ */
static size_t step_spaces_at_end(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    size_t to = end;
    while (to > from) {
        size_t before = to - 1;
        while (before > from && (s->text[before] & 0xc0) == 0x80) {
            before--;
        }
        if (!(kind(s, before, end) & CLASS_SPACE)) {
            break;
        }
        to = before;
    }
    return to > from ? to : end;
}

/* The library compares by code point, after other white space than ASCII's became U+000B. */
static inline bool is_cjk_deepseek(const tok_split *s, size_t at, size_t end)
{
    uint32_t c = code_point(s, at, end);
    return c <= 0x10ffff && ((c >= 0x800 && c <= 0x9fa5) || (c >= 0xac00 && c <= 0xd7ff)) &&
           !(kind(s, at, end) & CLASS_SPACE);
}

/* [U+4E00-U+9FA5 U+0800-U+4E00 U+AC00-U+D7FF]+ */
static inline size_t match_deepseek_cjk(const tok_split *s, size_t at, size_t end)
{
    while (is_cjk_deepseek(s, at, end)) {
        at = after(s, at);
    }
    return at;
}
STEP(step_deepseek_cjk, match_deepseek_cjk)

static bool is_cjk_deepseek3(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff);
}

/* [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+ */
static inline size_t match_deepseek3_cjk(const tok_split *s, size_t at, size_t end)
{
    return run_of(s, at, end, is_cjk_deepseek3);
}
STEP(step_deepseek3_cjk, match_deepseek3_cjk)

/* The library's list has U+8C48-U+FAFF where U+F900 was meant (they look alike), and so have we. */
static bool is_cjk_afmoe(uint32_t c)
{
    static const uint32_t ranges[][2] = {{0xe40, 0xe7f},   {0xe80, 0xeff},   {0x1000, 0x109f}, {0x1100, 0x11ff},
                                         {0x1780, 0x17ff}, {0x2f00, 0x2fdf}, {0x3040, 0x30ff}, {0x3400, 0x4dbf},
                                         {0x4e00, 0xfaff}, {0xff65, 0xff9f}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (c >= ranges[i][0] && c <= ranges[i][1]) {
            return true;
        }
    }
    return false;
}

static inline size_t match_afmoe_cjk(const tok_split *s, size_t at, size_t end)
{
    return run_of(s, at, end, is_cjk_afmoe);
}
STEP(step_afmoe_cjk, match_afmoe_cjk)

/* [!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+ TAIL|...spaces */
static inline size_t deepseek3(const tok_split *s, size_t at, size_t end, bool lines)
{
    unsigned first = kind(s, at, end);
    size_t   to    = at + 1;
    if (at < end && s->text[at] < 0x80 && (first & (CLASS_PUNCT | CLASS_SYMBOL))) {
        while (to < end && s->text[to] < 0x80 && (kind(s, to, end) & CLASS_LETTER)) {
            to++;
        }
        if (to > at + 1) {
            return to;
        }
    }
    size_t start = at;
    if (!(first & (CLASS_LETTER | CLASS_PUNCT | CLASS_SYMBOL)) && !is_newline(s, at, end) &&
        (kind(s, after(s, at), end) & (CLASS_LETTER | CLASS_MARK))) {
        start = after(s, at);
    }
    to = run(s, start, end, CLASS_LETTER | CLASS_MARK);
    if (to > start) {
        return to;
    }
    start = at + is_at(s, at, end, ' ');
    to    = run(s, start, end, CLASS_PUNCT | CLASS_SYMBOL);
    if (to > start) {
        return lines ? run_newlines(s, to, end) : to;
    }
    if (!lines && is_newline(s, at, end)) {
        return at + 1;
    }
    return lines ? spaces_by_line(s, at, end) : spaces(s, at, end);
}

static inline size_t match_deepseek3(const tok_split *s, size_t at, size_t end)
{
    return at < end ? deepseek3(s, at, end, /* lines= */ true) : at;
}
STEP(step_deepseek3, match_deepseek3)

static inline size_t match_spark(const tok_split *s, size_t at, size_t end)
{
    return at < end ? deepseek3(s, at, end, /* lines= */ false) : at;
}
STEP(step_spark, match_spark)

/* ---- others ---- */

/* Youtu's first cut: runs of Korean, of wide punctuation, of Bopomofo, of Chinese and Japanese */
static unsigned youtu_script(uint32_t c)
{
    if ((c >= 0xac00 && c <= 0xd7a3) || (c >= 0x3131 && c <= 0x318e)) {
        return 1;
    }
    if (c == 0xff01 || c == 0x2026 || c == 0x201c || c == 0x201d || c == 0x2018 || c == 0x2019 || c == 0x2014 ||
        c == 0xff1a || c == 0xff1b || c == 0xff0c || (c >= 0x3001 && c <= 0x303f) || (c >= 0xfe30 && c <= 0xfe4f)) {
        return 2;
    }
    if (c >= 0x3105 && c <= 0x312f) {
        return 3;
    }
    return is_cjk_deepseek3(c) ? 4 : 0;
}

static inline size_t match_youtu_scripts(const tok_split *s, size_t at, size_t end)
{
    unsigned script = at < end ? youtu_script(code_point(s, at, end)) : 0;
    while (script && at < end && youtu_script(code_point(s, at, end)) == script) {
        at = after(s, at);
    }
    return at;
}
STEP(step_youtu_scripts, match_youtu_scripts)

/*  ?[^(\s|.,!?...)]+ with the full stops and commas of several scripts */
static inline size_t match_bloom(const tok_split *s, size_t at, size_t end)
{
    size_t start = at + is_at(s, at, end, ' '), to = start;
    while (to < end && !(kind(s, to, end) & CLASS_SPACE)) {
        uint32_t c = code_point(s, to, end);
        if (c == '(' || c == ')' || c == '|' || c == '.' || c == ',' || c == '!' || c == '?' || c == 0x2026 ||
            c == 0x3002 || c == 0xff0c || c == 0x3001 || c == 0x964 || c == 0x6d4 || c == 0x60c) {
            break;
        }
        to = after(s, to);
    }
    return to > start ? to : at;
}
STEP(step_bloom, match_bloom)

/* <sentinel:[0-9]+> */
static inline size_t match_sentinel(const tok_split *s, size_t at, size_t end)
{
    static const char head[] = "<sentinel:";
    if (end - at < sizeof head - 1 || memcmp(s->text + at, head, sizeof head - 1) != 0) {
        return at;
    }
    size_t from = at + sizeof head - 1, to = from;
    while (to < end && s->text[to] >= '0' && s->text[to] <= '9') {
        to++;
    }
    return to > from && is_at(s, to, end, '>') ? to + 1 : at;
}
STEP(step_sentinel, match_sentinel)

/* (IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z */
static inline size_t match_image(const tok_split *s, size_t at, size_t end)
{
    if (end - at < 6 || memcmp(s->text + at, "IMGIMG", 6) != 0) {
        return at;
    }
    size_t to = at + 6;
    while (to < end && to < at + 10 && s->text[to] >= 'A' && s->text[to] <= 'I') {
        to++;
    }
    return to > at + 6 && is_at(s, to, end, 'Z') ? to + 1 : at;
}
STEP(step_image, match_image)

/* ([\t\n]|    |  ) */
static inline size_t match_indent(const tok_split *s, size_t at, size_t end)
{
    if (is_at(s, at, end, '\t') || is_at(s, at, end, '\n')) {
        return at + 1;
    }
    size_t count = 0;
    while (count < 4 && is_at(s, at + count, end, ' ')) {
        count++;
    }
    return at + (count & 6); /* 4, else 2 of 3 */
}
STEP(step_indent, match_indent)

/* [\p{P}!-/:-@\[-`{-~] */
static inline size_t match_one_punct(const tok_split *s, size_t at, size_t end)
{
    unsigned of = kind(s, at, end);
    return (of & CLASS_PUNCT) || ((of & CLASS_SYMBOL) && s->text[at] < 0x80) ? after(s, at) : at;
}
STEP(step_one_punct, match_one_punct)

size_t tok_split_spaces(tok_split *s, size_t from, size_t end, size_t memo[static 2])
{
    (void) memo;
    const uint8_t *text = s->text;
    bool           cut  = false; /* here, if a U+2581 comes */
    for (size_t at = from; at < end;) {
        size_t size = tok_symbol_size(text[at]);
        bool   mark = size == 3 && end - at >= 3 && text[at] == 0xe2 && text[at + 1] == 0x96 && text[at + 2] == 0x81;
        if (mark && cut) {
            return at;
        }
        at += size;
        cut = !mark && at <= end && s->cuts[text[at - 1]];
    }
    return end;
}

/* ---- what a model file calls them ---- */

static const tok_pre pres[] = {
    {.name = "default", .steps = {step_punct_default, step_gpt2, step_numbers, step_3_digits}},
#define GPT2 .steps = {step_gpt2}
    {.name = "gpt-2", GPT2},
    {.name = "phi-2", GPT2},
    {.name = "jina-es", GPT2},
    {.name = "jina-de", GPT2},
    {.name = "gigachat", GPT2},
    {.name = "jina-v2-es", GPT2},
    {.name = "jina-v2-de", GPT2},
    {.name = "a.x-4.0", GPT2},
    {.name = "mellum", GPT2},
    {.name = "modern-bert", GPT2},
    {.name = "exaone4", GPT2},
    {.name = "mpt", GPT2},
    {.name = "olmo", GPT2},
    {.name = "jais", GPT2},
    {.name = "trillion", GPT2},
    {.name = "granite-docling", GPT2},
    {.name = "jina-v1-en", GPT2, .add_sep = true},
    {.name = "jina-v2-code", GPT2, .add_sep = true},
    {.name = "roberta-bpe", GPT2, .add_sep = true},
#define STARCODER .steps = {step_number, step_gpt2}
    {.name = "starcoder", STARCODER},
    {.name = "refact", STARCODER},
    {.name = "command-r", STARCODER},
    {.name = "smollm", STARCODER},
    {.name = "codeshell", STARCODER},
    {.name = "exaone", STARCODER},
    {.name = "minerva-7b", STARCODER},
    {.name = "mellum2", STARCODER},
    {.name = "falcon", .steps = {step_punct_falcon, step_gpt2, step_3_digits}},
#define LLAMA3 .steps = {step_llama3}, .ignore_merges = true, .add_bos = true
    {.name = "llama3", LLAMA3},
    {.name = "llama-v3", LLAMA3},
    {.name = "llama-bpe", LLAMA3},
    {.name = "falcon3", LLAMA3},
    {.name = "falcon-h1", LLAMA3},
    {.name = "pixtral", LLAMA3},
    {.name = "midm-2.0", LLAMA3},
    {.name = "lfm2", LLAMA3},
    {.name = "jina-v5-nano", LLAMA3},
    {.name = "dbrx", .steps = {step_llama3}},
    {.name = "smaug-bpe", .steps = {step_llama3}},
    {.name = "chatglm-bpe", .steps = {step_llama3}, .no_bos = true},
    {.name = "glm4", .steps = {step_llama3}, .no_bos = true, .ignore_merges = true},
    {.name = "glm5", .steps = {step_llama3}, .no_bos = true, .ignore_merges = true},
    {.name = "minicpm5", .steps = {step_number_3, step_minicpm5}, .ignore_merges = true},
    {.name = "jais-2", .steps = {step_jais2}},
#define QWEN2 .steps = {step_qwen2}
    {.name = "qwen2", QWEN2},
    {.name = "deepseek-r1-qwen", QWEN2},
    {.name = "kormo", QWEN2},
    {.name = "f2llmv2", QWEN2},
    {.name = "megrez", QWEN2},
    {.name = "stablelm2", QWEN2},
    {.name = "hunyuan", QWEN2},
    {.name = "solar-open", QWEN2},
    {.name = "grok-2", QWEN2},
    {.name = "bailingmoe", QWEN2}, /* its expression differs in ways that match the same */
    {.name = "bailingmoe2", QWEN2},
    {.name = "llada-moe", QWEN2},
    {.name = "laguna", .steps = {step_lines, step_qwen2}},
    {.name = "qwen35", .steps = {step_qwen35}},
    {.name = "seed-coder", .steps = {step_seed_coder}},
    {.name = "ufakzeka", .steps = {step_ufakzeka}},
    {.name = "exaone-moe", .steps = {step_exaone_moe}},
#define GPT4O .steps = {step_gpt4o}
    {.name = "gpt-4o", GPT4O},
    {.name = "llama4", GPT4O},
    {.name = "kanana2", GPT4O},
    {.name = "talkie", GPT4O},
    {.name = "minimax-m2", GPT4O},
    {.name = "granite-embed-multi-97m", .steps = {step_granite_multi}, .ignore_merges = true},
    {.name = "tekken", .steps = {step_tekken}, .ignore_merges = true, .add_bos = true},
    {.name = "tiny_aya", .steps = {step_groups_of_3, step_tiny_aya}},
    {.name = "cohere2moe", .steps = {step_groups_of_3, step_tiny_aya}},
    {.name = "youtu", .steps = {step_youtu_scripts, step_youtu}, .ignore_merges = true},
    {.name = "kimi-k2", .steps = {step_kimi}},
    {.name  = "deepseek-llm",
     .steps = {step_newline, step_deepseek_letters, step_deepseek_punct, step_spaces_at_end, step_deepseek_cjk,
               step_numbers}},
    {.name  = "deepseek-coder",
     .steps = {step_newline, step_spaced_letters, step_spaced_punct, step_deepseek_cjk, step_number}},
#define DEEPSEEK3 .steps = {step_number_3, step_deepseek3_cjk, step_deepseek3}
    {.name = "deepseek-v3", DEEPSEEK3},
    {.name = "hunyuan-dense", DEEPSEEK3},
    {.name = "joyai-llm", DEEPSEEK3},
    {.name = "hy_v4", DEEPSEEK3},
    {.name = "spark2_5", .steps = {step_number_3, step_deepseek3_cjk, step_spark, step_number}},
    {.name = "afmoe", .steps = {step_groups_of_3, step_afmoe_cjk, step_deepseek3}},
    {.name = "poro-chat", .steps = {step_bloom}},
    {.name = "bloom", .steps = {step_bloom}},
    {.name = "gpt3-finnish", .steps = {step_bloom}},
    {.name = "viking", .steps = {step_bloom, step_number}},
    {.name = "superbpe", .steps = {step_numbers, step_before_3_digits}},
    {.name    = "chameleon",
     .steps   = {step_sentinel, step_image, step_indent, step_number, step_one_punct, step_gpt2},
     .add_bos = true},
    {.name = "gemma4", .steps = {step_lines, tok_split_spaces}, .escape = true, .newlines = true},
    {.name = "granite-embed-multi-311m", .steps = {step_lines, tok_split_spaces}, .escape = true, .newlines = true},
    {.name = "sarvam-moe", .steps = {step_lines, tok_split_spaces}, .escape = true},
};

const tok_pre *tok_pre_find(cmif_str name)
{
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        if (cmif_str_is(name, pres[i].name)) {
            return &pres[i];
        }
    }
    return NULL;
}

void tok_split_start(tok_split *s, const tok_classes *classes, const tok_split_step *steps, const bool *cuts,
                     const uint8_t *text, size_t size)
{
    *s = (tok_split){.classes = classes, .steps = steps, .text = text, .cuts = cuts, .limit = {size}};
    while (s->step_count < TOK_SPLITS && steps[s->step_count]) {
        s->step_count++;
    }
}

bool tok_split_next(tok_split *s, size_t *from, size_t *size)
{
    if (s->at == s->limit[0]) {
        return false;
    }
    size_t level = s->step_count;
    while (level > 1 && s->at == s->limit[level - 1]) {
        level--;
    }
    for (; level <= s->step_count; level++) {
        s->limit[level] = s->steps[level - 1](s, s->at, s->limit[level - 1], s->memo[level - 1]);
    }
    *from = s->at;
    *size = s->limit[s->step_count] - s->at;
    s->at += *size;
    return true;
}
