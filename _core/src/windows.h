/* What the recent past of a document offers: document windows and the induction window. Included by pool.h alone.
 *
 * Windows slide: a step adds one token to all of them and drops one from each, so that a position costs a few
 * logarithms, not a pass over its last thousands of tokens. A far jump fills them afresh: counts first, then a
 * logarithm for each distinct word, many at a time. The words of all windows are those of the longest, kept in one
 * list; a word leaves it by swapping with the last.
 */
#ifndef SAFFU_WINDOWS_H
#define SAFFU_WINDOWS_H

#include <stdlib.h>
#include <string.h>

#include "parallel.h"
#include "saffu.h"
#include "vmath.h"

enum { FAR = 100 }; /* steps that cost as much as filling the windows afresh */

typedef struct {
    int32_t *place; /* (vocab_size) index of a word below, or -1 */
    int32_t *word;  /* (longest + 1) distinct words of the longest window */
    int32_t *count; /* (longest + 1, n_windows) */
    double *u;      /* (n_windows + 1, capacity) log(1 + n / (M p)), and a row for their weighted sum */
    int64_t capacity, n_words, right, begin;
    int64_t *left;         /* (n_windows) first token inside */
    int32_t *follow_count; /* (vocab_size) zero between positions */
    int32_t *follow_word;  /* (induction) distinct followers */
    double *follow_u;      /* (induction) */
    int64_t n_follow;
} Windows;

static void free_windows(Windows *v) {
    free(v->place);
    free(v->word);
    free(v->count);
    free(v->u);
    free(v->left);
    free(v->follow_count);
    free(v->follow_word);
    free(v->follow_u);
}

static int64_t longest_window(const saffu_pool *pool) {
    int64_t longest = 0;
    for (int64_t l = 0; l < pool->n_windows; l++) longest = saffu_max(longest, pool->window[l]);
    return longest;
}

static int new_windows(const saffu_pool *pool, Windows *v) {
    size_t n_words = (size_t)longest_window(pool) + 2, n_windows = (size_t)pool->n_windows + 1;
    size_t n_follow = (size_t)saffu_max(pool->induction, 0) + 1, vocab_size = (size_t)pool->vocab_size + 1;
    v->place = malloc(vocab_size * sizeof(int32_t));
    v->word = malloc(n_words * sizeof(int32_t));
    v->count = malloc(n_words * n_windows * sizeof(int32_t));
    v->u = malloc(n_words * n_windows * sizeof(double));
    v->left = calloc(n_windows, sizeof(int64_t));
    v->follow_count = calloc(vocab_size, sizeof(int32_t));
    v->follow_word = malloc(n_follow * sizeof(int32_t));
    v->follow_u = malloc(n_follow * sizeof(double));
    if (!v->place || !v->word || !v->count || !v->u || !v->left || !v->follow_count || !v->follow_word || !v->follow_u)
        return SAFFU_NO_MEMORY;
    memset(v->place, -1, vocab_size * sizeof(int32_t));
    v->capacity = (int64_t)n_words;
    v->n_words = 0;
    v->right = -1; /* nothing read yet */
    return SAFFU_OK;
}

SAFFU_INLINE double window_u(const saffu_pool *pool, int32_t n, double mass, int32_t word) {
    return vlog(1.0 + n / (mass * pool->unigram[word]));
}

/* Change the count of one word in window l by step; words leave the list when no window holds them. */
static void window_change(const saffu_pool *pool, Windows *v, int32_t word, int64_t l, int32_t step) {
    int64_t n_windows = pool->n_windows, i = v->place[word];
    int32_t n = v->count[i * n_windows + l] += step;
    v->u[l * v->capacity + i] = n ? window_u(pool, n, pool->window_mass[l], word) : 0.0;
    if (step > 0) return;
    int32_t left_over = 0;
    for (int64_t j = 0; j < n_windows; j++) left_over |= v->count[i * n_windows + j];
    if (left_over) return;
    int64_t last = --v->n_words; /* move the last word here */
    v->place[word] = -1;
    if (i == last) return;
    v->word[i] = v->word[last];
    v->place[v->word[i]] = (int32_t)i;
    memcpy(v->count + i * n_windows, v->count + last * n_windows, (size_t)n_windows * sizeof *v->count);
    for (int64_t j = 0; j < n_windows; j++) v->u[j * v->capacity + i] = v->u[j * v->capacity + last];
}

/* Fill the windows with the tokens before t: window l holds [max(begin, t - window[l]), t). */
SAFFU_SIMD static void windows_fill(const saffu_pool *pool, const saffu_batch *batch, Windows *v, int64_t t,
                                    int64_t begin) {
    int64_t n_windows = pool->n_windows, n_words = 0;
    const double *restrict unigram = pool->unigram;
    for (int64_t i = 0; i < v->n_words; i++) v->place[v->word[i]] = -1;
    for (int64_t s = saffu_max(begin, t - longest_window(pool)); s < t; s++) {
        int32_t word = batch->ids[s];
        if (v->place[word] >= 0) continue;
        v->place[word] = (int32_t)n_words;
        v->word[n_words++] = word;
    }
    memset(v->count, 0, (size_t)(n_words * n_windows) * sizeof *v->count);
    for (int64_t l = 0; l < n_windows; l++) {
        double mass = pool->window_mass[l], *restrict u = v->u + l * v->capacity;
        v->left[l] = saffu_max(begin, t - pool->window[l]);
        for (int64_t s = v->left[l]; s < t; s++) v->count[(int64_t)v->place[batch->ids[s]] * n_windows + l]++;
        for (int64_t i = 0; i < n_words; i++) u[i] = v->count[i * n_windows + l] / (mass * unigram[v->word[i]]);
        for (int64_t i = 0; i < n_words; i++) u[i] = vlog(1.0 + u[i]); /* 0 for a word outside */
    }
    v->n_words = n_words;
    v->right = t;
    v->begin = begin;
}

/* Slide the windows so that window l holds the tokens [max(begin, t - window[l]), t). */
static void windows_move(const saffu_pool *pool, const saffu_batch *batch, Windows *v, int64_t t, int64_t begin) {
    int64_t n_windows = pool->n_windows;
    if (n_windows == 0) return;
    if (begin != v->begin || v->right > t || t - v->right > FAR) {
        windows_fill(pool, batch, v, t, begin);
        return;
    }
    for (; v->right < t; v->right++) {
        int32_t word = batch->ids[v->right];
        if (v->place[word] < 0) {
            v->place[word] = (int32_t)v->n_words;
            v->word[v->n_words] = word;
            memset(v->count + v->n_words * n_windows, 0, (size_t)n_windows * sizeof *v->count);
            for (int64_t l = 0; l < n_windows; l++) v->u[l * v->capacity + v->n_words] = 0.0;
            v->n_words++;
        }
        for (int64_t l = 0; l < n_windows; l++) window_change(pool, v, word, l, 1);
        for (int64_t l = 0; l < n_windows; l++)
            for (; v->left[l] < v->right + 1 - pool->window[l]; v->left[l]++)
                window_change(pool, v, batch->ids[v->left[l]], l, -1);
    }
}

/* Words that followed earlier occurrences of the newest token among the last `induction` tokens. */
static void windows_follow(const saffu_pool *pool, const saffu_batch *batch, const int32_t *previous, Windows *v,
                           int64_t t, int64_t begin) {
    v->n_follow = 0;
    if (pool->induction <= 0 || t - 1 < begin) return;
    int64_t start = saffu_max(begin, t - pool->induction);
    for (int64_t s = previous[t - 1]; s >= start; s = previous[s]) {
        int32_t word = batch->ids[s + 1];
        if (v->follow_count[word]++ == 0) v->follow_word[v->n_follow++] = word;
    }
    for (int64_t i = 0; i < v->n_follow; i++) {
        int32_t word = v->follow_word[i];
        v->follow_u[i] = window_u(pool, v->follow_count[word], pool->induction_mass, word);
    }
    for (int64_t i = 0; i < v->n_follow; i++) v->follow_count[v->follow_word[i]] = 0;
}

/* previous[t]: the last position before t with the same token, or -1. */
static int32_t *new_previous(const saffu_pool *pool, const saffu_batch *batch) {
    int32_t *previous = malloc(((size_t)batch->n_ids + 1) * sizeof *previous);
    int32_t *last = malloc(((size_t)pool->vocab_size + 1) * sizeof *last);
    if (previous && last) {
        memset(last, -1, ((size_t)pool->vocab_size + 1) * sizeof *last);
        for (int64_t t = 0; t < batch->n_ids; t++) {
            previous[t] = last[batch->ids[t]];
            last[batch->ids[t]] = (int32_t)t;
        }
    } else {
        free(previous);
        previous = NULL;
    }
    free(last);
    return previous;
}

#endif
