/* Texts as hashed n-grams: tokens of UTF-8 bytes, a hash of each n-gram, and the sparse rows of those that are known.
 *
 * Decisions. A token is never made: its bytes are hashed where they lie, so a text costs one read for the number of its
 * tokens and one for their hashes. Hashes are made of bytes, one by one, and so are the same on every machine; an
 * n-gram's is made of that of the n-gram one shorter and of its last token's, so each costs one multiplication more.
 * 64 bits tell ten million n-grams apart with a probability of an error of 3e-6. Known hashes are sorted; they are
 * even, so the upper bits of one, by a table of where each value of them begins, lead to its place: two reads that may
 * miss the cache, and no search.
 */
#include "parallel.h"
#include "saffu.h"

enum {
    WORD = 1,    /* letters, digits and the underscore */
    DIGIT = 2,   /* which are also of a word */
    SPACE = 4,
    MARK = 8,    /* combining marks and joiners */
    N_CODES = SAFFU_N_CODES,
};

/* A character that begins at p < end: its number, and in *next where it ends. What is no UTF-8 is one of its own. */
SAFFU_INLINE int32_t character(const uint8_t *p, const uint8_t *end, const uint8_t **next) {
    int32_t c = *p, extra = c < 0x80 ? 0 : c < 0xC0 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF8 ? 3 : -1;
    *next = p + 1;
    if (extra == 0) return c;
    if (extra < 0 || end - p <= extra) return N_CODES - 1;
    int32_t code = c & (0x3F >> extra);
    for (int32_t k = 1; k <= extra; k++) {
        if ((p[k] & 0xC0) != 0x80) return N_CODES - 1;
        code = code << 6 | (p[k] & 0x3F);
    }
    if (code >= N_CODES) return N_CODES - 1;
    *next = p + extra + 1;
    return code;
}

SAFFU_INLINE int class_of(const uint8_t *classes, const uint8_t *p, const uint8_t *end, const uint8_t **next) {
    if (p == end) {
        *next = end;
        return SPACE;
    }
    if (*p < 0x80) {
        *next = p + 1;
        return classes[*p];
    }
    return classes[character(p, end, next)];
}

/* Behind the characters from p on that have a class; in *last the class of the last one, if there is any. */
SAFFU_INLINE const uint8_t *behind_run(const uint8_t *classes, int of, const uint8_t *p, const uint8_t *end,
                                       int *last) {
    const uint8_t *next;
    for (int c; p < end && (c = class_of(classes, p, end, &next)) & of; p = next) *last = c;
    return p;
}

/* Is it an apostrophe or a hyphen? */
SAFFU_INLINE int joins(int32_t code) { return code == '\'' || code == '-' || code == 0x2019; }

/* Where a word ends whose first run of letters and digits ends at p, the last of them of a class: apostrophes and
 * hyphens before a letter are inside, and so are points and commas between digits, and combining marks. */
SAFFU_INLINE const uint8_t *word_end(const uint8_t *classes, const uint8_t *p, const uint8_t *end, int last) {
    while (p < end) {
        const uint8_t *next, *behind;
        int c = class_of(classes, p, end, &next);
        if (c & SPACE) return p;
        if (c & MARK) {
            p = behind_run(classes, MARK, next, end, &last);
            last = MARK;
            p = behind_run(classes, WORD, p, end, &last);
            continue;
        }
        int32_t code = character(p, end, &next);
        int after = class_of(classes, next, end, &behind);
        int inside = (joins(code) && after & WORD) || ((code == '.' || code == ',') && last & DIGIT && after & DIGIT);
        if (!inside) return p;
        p = behind_run(classes, WORD, next, end, &last);
    }
    return p;
}

/* Is it <unk> or <eos>? */
SAFFU_INLINE int is_marker(const uint8_t *p, const uint8_t *end) {
    return *p == '<' && end - p >= 5 && (memcmp(p, "<unk>", 5) == 0 || memcmp(p, "<eos>", 5) == 0);
}

/* The token that begins at or behind p, or NULL; in *stop where it ends. */
SAFFU_INLINE const uint8_t *token(const saffu_texts *texts, const uint8_t *p, const uint8_t *end,
                                  const uint8_t **stop) {
    const uint8_t *next = p;
    int c = 0;
    if (p == end) return NULL;
    if (texts->tokenizer == SAFFU_BYTES) {
        *stop = p + 1;
        return p;
    }
    if (texts->tokenizer == SAFFU_CHARS) {
        character(p, end, stop);
        return p;
    }
    while (p < end && (c = class_of(texts->classes, p, end, &next)) & SPACE) p = next;
    if (p == end) return NULL;
    if (texts->tokenizer == SAFFU_WHITESPACE)
        *stop = behind_run(texts->classes, WORD | MARK | SAFFU_OTHER, next, end, &c);
    else if (c & WORD) {
        const uint8_t *first = behind_run(texts->classes, WORD, next, end, &c);
        *stop = word_end(texts->classes, first, end, c);
    } else {
        *stop = is_marker(p, end) ? p + 5 : next;
    }
    return p;
}

int saffu_count_tokens(const saffu_texts *texts, int64_t from, int64_t to, int64_t *counts, int n_threads) {
    int team = saffu_team(n_threads, texts->offsets[to] - texts->offsets[from]);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 16))
    for (int64_t m = from; m < to; m++) {
        const uint8_t *p = texts->bytes + texts->offsets[m], *end = texts->bytes + texts->offsets[m + 1];
        int64_t n = 0;
        while (token(texts, p, end, &p)) n++;
        counts[m] = n;
    }
    return SAFFU_OK;
}

/* All bits of x depend on all others: the end of splitmix64. */
SAFFU_INLINE uint64_t mixed(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

SAFFU_INLINE uint64_t hash_of(const uint8_t *p, const uint8_t *end) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (; p < end; p++) h = (h ^ *p) * 0x100000001B3u;
    return mixed(h);
}

int saffu_hash_ngrams(const saffu_texts *texts, const int64_t *indptr, int64_t from, int64_t to, uint64_t *hashes,
                      int n_threads) {
    int team = saffu_team(n_threads, texts->offsets[to] - texts->offsets[from]);
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 16))
    for (int64_t m = from; m < to; m++) {
        const uint8_t *p = texts->bytes + texts->offsets[m], *end = texts->bytes + texts->offsets[m + 1], *begin;
        uint64_t ending[SAFFU_MAX_NGRAM]; /* hashes of the n-grams that end with the last token, shorter ones first */
        uint64_t *out = hashes + indptr[m];
        for (int64_t t = 0; (begin = token(texts, p, end, &p)); t++) {
            uint64_t h = hash_of(begin, p);
            int64_t longest = saffu_min(t + 1, texts->n);
            for (int64_t k = longest - 1; k >= 1; k--) ending[k] = mixed(ending[k - 1] * 0x9E3779B97F4A7C15u + h);
            ending[0] = h;
            for (int64_t k = 0; k < longest; k++) *out++ = ending[k] & texts->mask;
        }
    }
    return SAFFU_OK;
}

/* The place of a hash among those that are known, or -1. */
SAFFU_INLINE int32_t place_of(const saffu_known *known, uint64_t h) {
    int64_t bucket = known->bits ? (int64_t)(h >> (64 - known->bits)) : 0;
    for (int32_t i = known->first[bucket]; i < known->first[bucket + 1]; i++)
        if (known->hashes[i] == h) return i;
    return -1;
}

int saffu_match_ngrams(const uint64_t *hashes, const int64_t *indptr, const saffu_known *known, int64_t from,
                       int64_t to, int32_t *scratch, int32_t *indices, float *counts, int64_t *lengths,
                       int n_threads) {
    int team = saffu_team(n_threads, 4 * (indptr[to] - indptr[from]));
    SAFFU_PARALLEL_FOR(team, schedule(dynamic, 16))
    for (int64_t m = from; m < to; m++) {
        int32_t *seen = scratch + saffu_thread() * known->n, *row = indices + indptr[m];
        int64_t n = 0;
        for (int64_t e = indptr[m]; e < indptr[m + 1]; e++) {
            int32_t i = place_of(known, hashes[e]);
            if (i < 0) continue;
            row[n] = i; /* kept if it is the first */
            n += seen[i]++ == 0;
        }
        for (int64_t e = 0; e < n; e++) {
            counts[indptr[m] + e] = (float)seen[row[e]];
            seen[row[e]] = 0;
        }
        lengths[m] = n;
    }
    return SAFFU_OK;
}
