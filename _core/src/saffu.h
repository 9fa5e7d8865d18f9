/* The whole C API of saffu. Read this first.
 *
 * Conventions: no Python, no globals, no printing. Inputs are const, arrays are contiguous and row-major; the order of
 * arguments is inputs, shape, outputs, n_threads; sizes are int64_t. Reals that may be float or double come as void
 * pointers; `size`, the first of the shape, is that of one of them, 4 or 8 bytes; where two matrices, or the indices of
 * a CSR matrix, may differ, each has its own beside it. Every kernel returns a status, 0 or one of the negative codes
 * below, and gives the same bits for every n_threads: rows have one owner, and floating-point sums over examples use a
 * fixed grid of chunks folded in order. A shape in a comment reads name (rows, columns).
 */
#ifndef SAFFU_H
#define SAFFU_H

#include <stdint.h>

enum {
    SAFFU_OK = 0,
    SAFFU_NO_MEMORY = -1,    /* a scratch buffer could not be allocated */
    SAFFU_OUT_OF_RANGE = -2, /* an id is not below its bound */
    SAFFU_NOT_A_COUNT = -3,  /* an entry of a table of counts is negative or not finite */
    SAFFU_NOT_FINITE = -4,   /* a weight would be infinite or not a number */
    SAFFU_TOO_LARGE = -5,    /* a size is beyond what places of 32 bits hold */
};

/* ---- check.c: what comes in as a place, an id or a count ----------------------------------------------------------
 *
 * Each gives SAFFU_OUT_OF_RANGE if an entry is bad, and in *place the number of the first such. One read at the speed
 * of memory. Integers that may be int32_t or int64_t come as a pointer and the size of one, 4 or 8 bytes. */

/* Is every entry of x (n) in [low, high]? */
int saffu_outside(const void *x, int size, int64_t n, int64_t low, int64_t high, int64_t *place, int n_threads);
/* Is no entry of x (n) below, or with strict not above, the one before? */
int saffu_descent(const void *x, int size, int64_t n, int strict, int64_t *place, int n_threads);
/* Do the columns of every row of a CSR matrix ascend, without repetition? indptr fits. */
int saffu_unsorted(const int64_t *indptr, const int32_t *indices, int64_t n_rows, int64_t *place, int n_threads);

/* ---- count.c: what occurs together ------------------------------------------------------------------------------- */

/* A stream and what to count in it: count[c, w] = #{(t, k) : contexts[t] = c, targets[t + k] = w, k in distances, t and
 * t + k in one document}, a table of n_rows contexts and n_cols targets. Contexts below 0 mean "none". Documents are
 * the half-open ranges between consecutive starts; the last one ends at n. At most INT32_MAX positions, and as many
 * columns: places and columns are kept in 32 bits. Numbers of pairs are not bounded. */
typedef struct {
    const int32_t *contexts;  /* (n) below n_rows */
    const int32_t *targets;   /* (n) in [0, n_cols) */
    const int64_t *distances; /* (n_distances) ascending, >= 1 */
    const int64_t *documents; /* (n_documents) ascending */
    int64_t n, n_distances, n_documents, n_rows, n_cols;
    int keep_positions, first_table; /* count for the next longer contexts: see below */
} saffu_stream;

/* With keep_positions, row c is of the pairs (contexts[t], targets[t]), distances {0} and one document: the context of
 * t is that of what was before it. targets (n + 1) has ~w in place of w where a document begins, and -1 at n. Each row
 * then also gives the positions t + 1 behind each of its pairs, in the order of the columns: those of the pair (c, w)
 * are the bucket of the row that the table of contexts one token longer has for it. Where a document began in between,
 * targets[t + 1] is negative, and such a pair is not counted; in the first table, whose contexts are those before each
 * position, it is. So the tables of all lengths need one bucket stage and no lookup. */

/* bucket.c, the first stage of counting: sort the usable positions of a stream by context.
 *
 * A position t is usable if contexts[t] >= 0 and t + min(distances) is in the same document.
 * -> row_ptr (n_rows + 1), bucket (n): bucket[row_ptr[c] .. row_ptr[c + 1]) holds, in ascending order of t,
 *      the target targets[t + distances[0]]   if n_distances = 1  (the rows can then be read without a gather)
 *      t, or ~t where t + max(distances) leaves the document, otherwise, and with keep_positions.
 *
 * The stream is cut into n_parts, a thread to each; saffu_bucket_parts is their number. Histograms of positions
 * [from, to) of each part, ceil(n / n_parts) positions at most, are added to cursors (n_parts, n_rows), zero at first;
 * saffu_bucket_rows turns them into first free places; the same ranges are then placed, in ascending order. At one
 * distance saffu_bucket_place also looks at every target that a document holds: SAFFU_OUT_OF_RANGE if one is not a
 * column. Traffic: 2 reads of the stream, one scattered write of 4 bytes a position. */
int64_t saffu_bucket_parts(const saffu_stream *stream, int n_threads);
int saffu_bucket_count(const saffu_stream *stream, int64_t from, int64_t to, int64_t n_parts, int64_t *cursors);
int saffu_bucket_rows(const saffu_stream *stream, int64_t n_parts, int64_t *cursors, int64_t *row_ptr, int n_threads);
int saffu_bucket_place(const saffu_stream *stream, int64_t from, int64_t to, int64_t n_parts, int64_t *cursors,
                       int32_t *bucket);

enum { SAFFU_MAX_PAIRS = 1 << 27 }; /* pairs that are counted in 32 bits: a tenth of a second, and far from wrapping */

/* What `team` threads count in: counter (team, stride), bits (team, stride / 64 + 16) and words (team, stride / 4096 +
 * 16) are zero before and after each call; seen (team, stride). stride >= n_cols + 64, so that threads do not write
 * into the same cache lines. A team of several threads writes rows to a scratch of `capacity` entries first, which may
 * be NULL for one: indices, counts and, with keep_positions, places. capacity >= 2 n_distances. */
typedef struct {
    int team;
    int64_t stride;
    int32_t *counter, *seen;
    uint64_t *bits, *words;
    int64_t capacity;
    int32_t *indices, *places;
    int64_t *counts;
} saffu_counters;

/* count_apart.c. Rows that are counted before all others: of more than saffu_long_row positions, those of more than
 * saffu_team_row by the whole team, and in pieces if their pairs are more than n_pairs. */
typedef struct {
    int64_t n;
    int64_t *rows;    /* (n) ascending */
    int64_t *before;  /* (n + 1) positions of the rows before: where those of a row begin in places */
    int64_t *segment; /* (n + 1) where each may write, segment[k + 1] - segment[k] >= min(pairs of the row, n_cols) */
    int64_t *length;  /* (n) entries */
    int32_t *indices, *places; /* places may be NULL */
    int64_t *counts;
} saffu_apart;

/* The number of rows of more than long_row positions, and which, rows (n_positions / long_row + 1); and n_most, the sum
 * over all rows of min(pairs, n_cols). */
int64_t saffu_long_row(const saffu_stream *stream, int64_t n_positions, int64_t n_pairs, int64_t capacity, int team);
int64_t saffu_team_row(const saffu_stream *stream, int64_t n_positions, int64_t n_pairs, int team);
int64_t saffu_longer_rows(const saffu_stream *stream, const int64_t *row_ptr, int64_t long_row, int64_t *n_most,
                          int64_t *rows, int n_threads);

/* Rows [from, to) of apart, but for those of more than team_row positions, a thread to each: their columns, ascending,
 * and counts at segment[k], and their lengths. */
int saffu_count_apart(const saffu_stream *stream, const int64_t *row_ptr, const int32_t *bucket, int64_t from,
                      int64_t to, int64_t team_row, const saffu_counters *all, saffu_apart *apart);
/* A row by the team: pairs of bucket[from .. to), less than 2^31, are added to totals (n_cols). */
int saffu_count_long(const saffu_stream *stream, const int32_t *bucket, int64_t from, int64_t to,
                     const saffu_counters *all, int64_t *totals);
/* The columns with a total, ascending, and their number; totals become zero, or with keep_positions the first free
 * places of each column: */
int saffu_emit_long(int64_t n_cols, int keep_positions, int64_t *totals, int64_t *length, int32_t *indices,
                    int64_t *counts, int n_threads);
/* the positions behind the pairs of bucket[from .. to), ranges in ascending order. */
int saffu_place_long(const saffu_stream *stream, const int32_t *bucket, int64_t from, int64_t to,
                     const saffu_counters *all, int64_t *first, int32_t *places);

/* A table of counts; places (pairs) and place_ptr (entries + 1), where those of each entry begin, or NULL. */
typedef struct {
    int64_t *indptr;
    int32_t *indices, *places;
    int64_t *counts, *place_ptr;
} saffu_counted;

/* The second stage, for rows [from, to), in ascending order of ranges; indptr[from] is the end of the row before. Less
 * than 2^31 pairs a row that is not apart.
 * -> indptr, and the columns of each row, ascending, and their counts.
 * One random read-modify-write of a 4-byte counter a pair, in a scratch of n_cols counters a thread. */
int saffu_count_rows(const saffu_stream *stream, const int64_t *row_ptr, const int32_t *bucket,
                     const saffu_apart *apart, int64_t from, int64_t to, const saffu_counters *all,
                     const saffu_counted *out);

/* ---- merge.c: sums of tables of counts --------------------------------------------------------------------------- */

/* A CSR table of counts, its columns ascending, each of whose rows has a number among the rows of a sum. */
typedef struct {
    const int64_t *indptr;  /* (n_rows + 1) */
    const int32_t *indices; /* (n_entries) */
    const int64_t *counts;  /* (n_entries) */
    const int64_t *rows;    /* (n_rows) ascending */
    int64_t n_rows;
} saffu_table;

/* S[r, w] = A[i, w] + B[j, w] with r = a.rows[i] = b.rows[j]; entries of zero stay. Rows [from, to) of the sum.
 * -> indptr (from + 1 .. to), from indptr[from]; indices and counts of the sum, in as much space as both tables have
 * entries; the place in it of each entry of A and of B, or not, where both are NULL.
 * Traffic of an entry of A or B: its column, its count, its place; of the sum: column and count, moved once more by all
 * threads but one. */
int saffu_merge(const saffu_table *a, const saffu_table *b, int64_t from, int64_t to, int64_t *indptr,
                int32_t *indices, int64_t *counts, int64_t *a_places, int64_t *b_places, int n_threads);

/* ---- find.c: lookup -------------------------------------------------------------------------------------------------
 * */

/* entry[i] = the place of column cols[i] in row rows[i] of a CSR matrix, or -1 if absent (or rows[i] < 0).
 * Places are kept in 32 bits: more than INT32_MAX entries are SAFFU_TOO_LARGE.
 * A binary search each: about log2(row length) dependent reads. */
int saffu_find(const int64_t *indptr, const int32_t *indices, const int32_t *rows, const int32_t *cols,
               int64_t n_rows, int64_t n_entries, int64_t n, int32_t *entry, int n_threads);

/* ---- weigh.c: counts to sparse logarithms ------------------------------------------------------------------------ */

/* The discounted log weight of every entry e = (c, w) of a CSR table, with the three discounts D(1), D(2), D(3+):
 *
 *     mass[c] = sum_w D(n(c, w))                      freed probability mass, in counts
 *     u[e]    = log(1 + (n - D(n)) / (mass[c] q))     q = lower[parent[e]], the lower-order probability of w
 *     p[e]    = (n - D(n) + mass[c] q) / N(c)         interpolated probability, N(c) = sum_w n(c, w)
 *
 * Entries with n = 0 have u = 0. Negative counts, and rows of 2^62 or more, are SAFFU_NOT_A_COUNT; a row that frees no
 * mass, where u would be infinite, is SAFFU_NOT_FINITE; a parent not in [0, n_lower) is SAFFU_OUT_OF_RANGE. lower > 0;
 * discounts between 0 and 1, 2, 3.
 * indptr (n_rows + 1), counts, parent (nnz), lower (n_lower), discounts (3)
 * -> total, mass (n_rows), u, p (nnz). One read of 12 bytes and a gather, one write of 16 bytes an entry. */
int saffu_weigh(const int64_t *indptr, const int64_t *counts, const int32_t *parent, const double *lower,
                const double *discounts, int64_t n_rows, int64_t n_lower, double *total, double *mass, double *u,
                double *p, int n_threads);

/* ---- pack.c: sparse rows for the pooled softmax -------------------------------------------------------------------
 * */

enum { SAFFU_BLOCK = 16 }; /* words in a block; heads of packed rows are whole blocks */

/* Rows u(c, .) of all tables, packed: a dense beginning head[head_ptr[c] ..) over the words 0, 1, ..., then pairs
 * (tail_word, tail_u). Both functions take a CSR matrix; the first gives the sizes that the second fills, going on from
 * head_ptr[0] and tail_ptr[0], the ends of the rows before. It is SAFFU_OUT_OF_RANGE if the words of a row do not
 * ascend from 0 to at most INT32_MAX - SAFFU_BLOCK; the second takes what the first has accepted. u, head and tail_u
 * are float or double, of `size` bytes. */
int saffu_pack_sizes(const int64_t *indptr, const int32_t *words, int size, int64_t n_rows, int64_t *head_ptr,
                     int64_t *tail_ptr, int n_threads);
int saffu_pack(const int64_t *indptr, const int32_t *words, const void *u, int size, const int64_t *head_ptr,
               const int64_t *tail_ptr, int64_t n_rows, void *head, int32_t *tail_word, void *tail_u, int n_threads);

/* ---- pool.c: the pooled sparse softmax --------------------------------------------------------------------------- */

enum { SAFFU_MOMENTS = 6 }; /* sums of the prior over a block that its exponentials are replaced from */

typedef struct {
    int64_t vocab_size, n_states, n_contexts, n_windows;
    int64_t n_features;                 /* n_contexts + n_windows + 1 (induction) */
    const int64_t *head_ptr, *tail_ptr; /* (n_rows + 1) */
    int64_t row_size;                   /* bytes of a number in head and tail_u: 4, float, or 8, double */
    const void *head, *tail_u;
    const int32_t *tail_word;
    const double *log_prior;   /* (2, vocab_size rounded up to SAFFU_BLOCK) log p, log p_cont */
    const double *unigram;     /* (vocab_size) p */
    const double *theta;       /* (n_states, 2 + n_features) alpha, beta, lambda_0, ... of each state */
    const int64_t *window;     /* (n_windows) lengths L >= 1 of the document windows, in tokens */
    const double *window_mass; /* (n_windows) M: u(w) = log(1 + n(w) / (M p(w))) */
    int64_t induction;         /* length of the induction window, 0 for none */
    double induction_mass;
    const double *prior;         /* from saffu_pool_prior, as are the moments */
    const double *prior_moments;
    const double *prior_beyond;
    const void *prior_mass;
} saffu_pool;

/* What all positions of a state share, of the members above these two: the logits of the prior, in bits,
 * prior (n_states, vocab_size rounded up to SAFFU_BLOCK), and the sums over each block and, last, over all words,
 * moments (n_states, n_blocks + 1, SAFFU_MOMENTS). An exp for each state and word. Besides, the mass of each block and
 * all behind it, beyond (n_states, n_blocks + 1), and of each word in the type of the rows, mass (as prior). */
int saffu_pool_prior(const saffu_pool *pool, double *prior, double *moments, double *beyond, void *mass, int n_threads);

typedef struct {
    int64_t n, n_ids;
    const int32_t *ids;                       /* (n_ids) the stream */
    const int64_t *positions;                 /* (n) places of the targets in the stream, ascending for speed */
    const int64_t *begins;                    /* (n) first token that the windows may see */
    const int32_t *rows;                      /* (n, n_contexts) packed rows, -1 for none */
    const int32_t *states;                    /* (n) which row of theta */
    const double *target_u;                   /* (n, n_contexts) u of the target in each row; derivatives only */
    const int32_t *previous;                  /* (n_ids) last place before with the same token, or -1; may be NULL */
    int64_t chunk; /* positions in a chunk, from saffu_pool_chunk; its windows begin afresh, which shows in the bits */
} saffu_batch;

/* The chunk of a batch of n positions. A part of it that is whole chunks, with the chunk of the whole, gives the bits
 * of the whole. */
int64_t saffu_pool_chunk(int64_t n);

/* What a batch refers to: bounds (3) = its highest position, row and state. SAFFU_OUT_OF_RANGE if a position is before
 * its begin, or a begin, a row or a state is below what there may be. (check.c) */
int saffu_batch_bounds(const saffu_batch *batch, int64_t n_contexts, int64_t *bounds);
/* The tokens that the windows of this pool reach, and with targets those at the positions: SAFFU_OUT_OF_RANGE if an id
 * is not a word, or previous does not lead back. Reads each once if positions ascend. (check.c) */
int saffu_batch_check(const saffu_pool *pool, const saffu_batch *batch, int targets);

/* log_prob (n) of the targets, in nats. A word of the longest dense head costs an exp, and 4 or 8 bytes of each head; a
 * pair 8 or 12 bytes, two read-modify-writes in cache and an exp. With rows of float, log_prob is off by at most
 * 4e-6 + (n + 2) 2^-23 S, S the sum of the sizes of the n terms of a logit, and by about 1e-6 as a rule. */
int saffu_pool_log_prob(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, int n_threads);

/* distribution (n, vocab_size) of the next word; the targets are not read. */
int saffu_pool_distribution(const saffu_pool *pool, const saffu_batch *batch, double *distribution, int n_threads);

/* logits (n, vocab_size), float or double according to size: log-probabilities in nats of every word; the
 * targets are not read. An exp for each word of a touched block, one store for each word. */
int saffu_pool_logits(const saffu_pool *pool, const saffu_batch *batch, int size, void *logits, int n_threads);

/* log_prob (n), and added to what gradient and hessian hold, the sums over positions of the derivatives of -log_prob by
 * the scalars of each state: gradient (n_states, 2 + n_features), sum_m E_p[x] - x(y), and hessian (n_states,
 * 2 + n_features, 2 + n_features) or NULL, sum_m Cov_p(x, x). The target's own u comes from target_u (so
 * that its count can be left out); the other words are as stored. */
int saffu_pool_derivatives(const saffu_pool *pool, const saffu_batch *batch, double *log_prob, double *gradient,
                           double *hessian, int n_threads);

/* ---- moments.c: features and classes -----------------------------------------------------------------------------
 *
 * A matrix of reals that may be float or double comes as a pointer and the size of an entry, 4 or 8 bytes; so do the
 * indices of a CSR matrix. F (n_classes, n_features) is class-major. With add, the sums are added to what F and
 * mass hold, term by term in the order of the examples, so that cutting a stream of examples into calls changes no bit;
 * otherwise both are overwritten. weights (n) may be NULL, which means 1. */

/* F[c, j] (+)= sum of weights[m] H[m, j] over the examples m with labels[m] = c;  mass[c] (+)= their weights. H (n,
 * n_features), labels (n); the rows of H and of F are stride apart, so that a call may see some of the features. mass
 * may be NULL. Reads H once, in the order of the classes; 1 flop an entry. */
int saffu_moments_labels(const void *H, int h_size, const int32_t *labels, const double *weights, int64_t n,
                         int64_t n_features, int64_t n_classes, int64_t stride, int add, double *F, double *mass,
                         int n_threads);

/* F[c, j] (+)= sum_m weights[m] Y[m, c] H[m, j];  mass[c] (+)= sum_m weights[m] Y[m, c].  Y (n, n_classes).
 * 2 n n_features n_classes flops; H is read once for every 32 classes. */
int saffu_moments_soft(const void *H, int h_size, const void *Y, int y_size, const double *weights, int64_t n,
                       int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads);

/* The same two for a CSR matrix H: indptr (n + 1), indices and data. Columns need not be sorted. The rows of Y are
 * y_stride apart, so that a call may see some of its classes.
 * Reads H once (labels), or once for every 8 classes (soft); a scattered double for every entry and class. */
int saffu_moments_csr_labels(const int64_t *indptr, const void *indices, int index_size, const void *data,
                             int data_size, const int32_t *labels, const double *weights, int64_t n,
                             int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads);
int saffu_moments_csr_soft(const int64_t *indptr, const void *indices, int index_size, const void *data,
                           int data_size, const void *Y, int y_size, int64_t y_stride, const double *weights, int64_t n,
                           int64_t n_features, int64_t n_classes, int add, double *F, double *mass, int n_threads);

/* lowest = min(lowest, min x), NaN if it was or if any entry is NaN or infinite.  x (n). One read. */
int saffu_lowest(const void *x, int size, int64_t n, double *lowest, int n_threads);

/* ---- log_weights.c: counts to logarithms ------------------------------------------------------------------------- */

/* U = log(F + smoothing) - exponent log S,  S = sums of F + smoothing over the features of each class (double).
 * exponent = (K - 1) / K for the explicit solution, 1 for the likelihood alone. An empty class has U = -inf. Any finite
 * counts have finite logarithms: U is right also where S, or F + smoothing, exceeds the largest real (S may be inf).
 * An exponent so large that U would not be finite is SAFFU_NOT_FINITE.
 * F, U (n_classes, n_features) by class or (n_features, n_classes) by feature; S (n_classes).
 * One read (by feature: two) and one write of memory; a logarithm an entry. */
int saffu_log_weights_by_class(const void *F, double smoothing, double exponent, int size, int64_t n_classes,
                               int64_t n_features, void *U, double *S, int n_threads);

/* The same for features in rows, in three stages, so that a caller can stop between blocks of features: S (n_classes)
 * += the sums of a block, of a multiple of four features unless it is the last; *large = does the sum of a class exceed
 * the largest real?, and then, unless it is NULL, shift (n_classes) = exponent log S in nats, from all of F; and U of a
 * block, with shift or NULL. */
int saffu_sums_by_feature(const void *F, double smoothing, int size, int64_t n_features, int64_t n_classes, double *S,
                          int n_threads);
int saffu_large_by_feature(const void *F, double smoothing, double exponent, int size, int64_t n_features,
                           int64_t n_classes, double *S, double *shift, int *large);
int saffu_logs_by_feature(const void *F, const double *S, const double *shift, double smoothing, double exponent,
                          int size, int64_t n_features, int64_t n_classes, void *U, int n_threads);

/* ---- leave_one_out.c --------------------------------------------------------------------------------------------- */

/* The score of h = H[rows[e]] for class c = classes[e], as if it had not been counted there with weight a = amounts[e]:
 *   scores[e] = sum_j h_j log(F[c, j] - a h_j + smoothing) - |h| log(S[c] - a |h| + n_features smoothing)
 * H (n_rows, n_features) dense or CSR, F (n_classes, n_features), S (n_classes) without smoothing; rows, classes,
 * amounts, scores (n). A logarithm for every entry of every h. */
int saffu_leave_one_out(const void *H, int h_size, const int32_t *rows, const int32_t *classes, const double *amounts,
                        const double *F, const double *S, double smoothing, int64_t n, int64_t n_rows,
                        int64_t n_features, int64_t n_classes, double *scores, int n_threads);
int saffu_leave_one_out_csr(const int64_t *indptr, const int32_t *indices, const double *data, const int32_t *rows,
                            const int32_t *classes, const double *amounts, const double *F, const double *S,
                            double smoothing, int64_t n, int64_t n_rows, int64_t n_features, int64_t n_classes,
                            double *scores, int n_threads);

/* ---- product.c: sparse features times dense weights --------------------------------------------------------------
 *
 * H is CSR: indptr (n_rows + 1), indices, data; an index that is not below n_inner is SAFFU_OUT_OF_RANGE. B has n_inner
 * rows of n_columns, b_stride apart. A multiply-add for every entry and column; a tile of B (n_inner x 256 bytes) is
 * read from the L2 cache once an entry, which is the limit: half the arithmetic peak or less, made up for by the zeros
 * that are skipped. */

/* Entries of a copy of B that the products below want for n_entries in all, 0 for none; and that copy, zeros at first.
 * */
int64_t saffu_copy_size(int size, int64_t n_entries, int64_t n_inner, int64_t n_columns);
int saffu_copy(const void *B, int size, int64_t n_inner, int64_t n_columns, int64_t b_stride, void *copy);

/* Z (n_rows, n_columns) = H B + bias;  bias (n_columns) or NULL. copy may be NULL if its size is 0 for these rows. */
int saffu_product(const int64_t *indptr, const int32_t *indices, const void *data, const void *B, const void *copy,
                  const void *bias, int size, int64_t n_rows, int64_t n_inner, int64_t n_columns, int64_t b_stride,
                  void *Z, int n_threads);

/* F (n_rows rows of n_columns, f_stride apart) = H B in double: sums over many entries keep their digits. */
int saffu_product_double(const int64_t *indptr, const int32_t *indices, const void *data, const void *B,
                         const void *copy, int size, int64_t n_rows, int64_t n_inner, int64_t n_columns,
                         int64_t b_stride, int64_t f_stride, double *F, int n_threads);

/* ---- ngrams.c: texts as hashed n-grams --------------------------------------------------------------------------- */

enum { SAFFU_WORDS, SAFFU_WHITESPACE, SAFFU_CHARS, SAFFU_BYTES }; /* what a token is */
enum { SAFFU_N_CODES = 0x110000, SAFFU_OTHER = 16, SAFFU_MAX_NGRAM = 16 };

/* Text m is bytes[offsets[m] .. offsets[m + 1]), in UTF-8. Each character has one class or two: 1 of a word, 3 a digit
 * of one, 4 white space, 8 a combining mark or joiner, 16 any other. A hash is & mask. */
typedef struct {
    const uint8_t *bytes;
    const int64_t *offsets; /* (n_texts + 1) */
    const uint8_t *classes; /* (SAFFU_N_CODES) */
    int tokenizer;
    int64_t n; /* n-grams of 1 .. n <= SAFFU_MAX_NGRAM tokens */
    uint64_t mask;
} saffu_texts;

/* counts[m] = the number of tokens of text m in [from, to). One read. */
int saffu_count_tokens(const saffu_texts *texts, int64_t from, int64_t to, int64_t *counts, int n_threads);
/* The hashes of the n-grams of text m, from hashes[indptr[m]] on: of each token the n-grams that end with it, shorter
 * ones first. One read; one write of 8 bytes an n-gram. */
int saffu_hash_ngrams(const saffu_texts *texts, const int64_t *indptr, int64_t from, int64_t to, uint64_t *hashes,
                      int n_threads);

/* Hashes (n), ascending and distinct; first[b] (2^bits + 1) = the number of those whose upper bits are below b. */
typedef struct {
    const uint64_t *hashes;
    const int32_t *first;
    int64_t n;
    int bits;
} saffu_known;

/* Row m of a sparse matrix: the places among the known of the hashes of text m, in the order in which each first
 * occurs, and how often it does, from entry indptr[m] on; lengths[m] entries. scratch (n_threads, known.n) is zero
 * before and after. Two random reads of 4 and 8 bytes a hash, and one read-modify-write of a counter. */
int saffu_match_ngrams(const uint64_t *hashes, const int64_t *indptr, const saffu_known *known, int64_t from,
                       int64_t to, int32_t *scratch, int32_t *indices, float *counts, int64_t *lengths,
                       int n_threads);

/* ---- sparse.c: the sparse form of dense features, and rows of it ------------------------------------------------- */

/* counts (n_rows) = the number of non-zero entries of each row of X (n_rows, n_columns). One read. */
int saffu_compress_count(const void *X, int size, int64_t n_rows, int64_t n_columns, int64_t *counts, int n_threads);

/* The CSR form of X, given indptr: indices and data (indptr[n_rows]). One read, one write. */
int saffu_compress(const void *X, const int64_t *indptr, int size, int64_t n_rows, int64_t n_columns, int32_t *indices,
                   void *data, int n_threads);

/* Row m of the result, entries indptr[m] .. indptr[m + 1), is copied from entry begins[m] of the n_entries given. */
int saffu_take_rows(const int64_t *begins, const int64_t *indptr, const int32_t *indices, const void *data, int size,
                    int64_t n_rows, int64_t n_entries, int32_t *taken_indices, void *taken_data, int n_threads);

/* ---- softmax.c: rows of logits -----------------------------------------------------------------------------------
 *
 * X (n_rows, n_columns). A row of -inf only stands for a uniform distribution; its logsumexp is -inf. A row that holds
 * NaN or +inf gives NaN throughout, but for logsumexp, which is +inf where there is no NaN.
 * Two reads of a row (the second from cache) and an exp an entry. */

/* P = softmax(X), log softmax(X); total (n_rows) = logsumexp of each row. */
int saffu_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads);
int saffu_log_softmax(const void *X, int size, int64_t n_rows, int64_t n_columns, void *P, int n_threads);
int saffu_logsumexp(const void *X, int size, int64_t n_rows, int64_t n_columns, double *total, int n_threads);

/* loss (n_rows) = - log softmax(X)[m, labels[m]], or - sum_i T[m, i] log softmax(X)[m, i], in nats. */
int saffu_cross_entropy_labels(const void *X, const int32_t *labels, int size, int64_t n_rows, int64_t n_columns,
                               double *loss, int n_threads);
int saffu_cross_entropy_soft(const void *X, const void *T, int size, int64_t n_rows, int64_t n_columns, double *loss,
                             int n_threads);

/* The same loss of labels, and dX[m, i] = scale[m] (softmax(X)[m, i] - [i = labels[m]]), its gradient. scale (n_rows)
 * may be NULL, which means 1; dX may be X. Three reads and two writes of a row, all but one read from cache. */
int saffu_cross_entropy_backward(const void *X, const int32_t *labels, const double *scale, int size, int64_t n_rows,
                                 int64_t n_columns, double *loss, void *dX, int n_threads);

/* Z (n_rows, n_cells) = the log of the sum of exp X[m, w] over the words w of each cell: words[begins[c] .. begins[c +
 * 1]), all below n_columns; begins (n_cells + 1). A cell of one word is a copy. A gathered read of X, an exp an entry.
 * */
int saffu_log_sums(const void *X, const int32_t *words, const int64_t *begins, int size, int64_t n_rows,
                   int64_t n_columns, int64_t n_cells, void *Z, int n_threads);

/* Back through P = softmax(X): dX = P (dP - sum_i P_i dP_i). dX may be dP. Three reads, one write. */
int saffu_softmax_backward(const void *P, const void *dP, int size, int64_t n_rows, int64_t n_columns, void *dX,
                           int n_threads);

/* Classes as a mixture over hidden states k: P(c | m) = sum_k softmax(X[m])_k exp T[c, k], with T (n_classes,
 * n_columns) the log probability of each class in each state, and labels (n_rows) the class c that was seen:
 *   log_prob[m] = log sum_k exp(X[m, k] + T[c, k]) - log sum_k exp X[m, k]        never log 0: exact far below 1e-38
 *   R[m, k]     = scale[m] P(k | c, m)                                            posterior of the states
 *   dX[m, k]    = scale[m] (softmax(X[m])_k - P(k | c, m)) = d(-scale[m] log_prob[m]) / dX[m, k]
 * A class that is impossible in every state (X[m] + T[c] nothing but -inf) has log_prob -inf and a uniform posterior.
 * dX may be X, or NULL: then scale is not read, and R is scratch. Two exps an entry. */
int saffu_mixture(const void *X, const void *T, const int32_t *labels, const double *scale, int size, int64_t n_rows,
                  int64_t n_columns, int64_t n_classes, double *log_prob, void *R, void *dX, int n_threads);

/* y = exp x, log x, element by element: the polynomials of vmath.h. */
int saffu_exp(const void *x, int size, int64_t n, void *y, int n_threads);
int saffu_log(const void *x, int size, int64_t n, void *y, int n_threads);

/* ---- attend.c: attention over windows of a stream ----------------------------------------------------------------
 *
 * Window m sees length[m] <= K tokens, ids[first[m] + step k] for k = 0, 1, ..., and compares them with ids[head[m]]:
 *
 *     s_k = x_head . x_k        a = softmax(s W + bias)        z = sum_k a_k x_k
 *
 * with the leading length x length part of W (K, K) and of bias (K) or NULL, and rows x of X (n_types, d), finite. A
 * window of length 0 has s = a = z = 0, and its other two places are not read. Positions beyond the length are 0 in
 * every (n, K). An id that is not below n_types, or a place outside of the stream, is SAFFU_OUT_OF_RANGE.
 * A dot product has the same bits wherever it is computed. X is read fastest if its rows are whole blocks of 64 bytes
 * on boundaries of 64. */
typedef struct {
    int64_t n, n_ids, n_positions; /* n_positions: K */
    const int32_t *ids;            /* (n_ids) the stream */
    const int64_t *first;          /* (n) place of element 0 */
    const int32_t *length;         /* (n) */
    const int64_t *head;           /* (n) place of the token that all others are compared with */
    int64_t step;                  /* 1 or -1 */
} saffu_view;

/* Columns [from, to) of C (n, n) = X X^T, from their diagonal down, and the same rows right of it; the whole is the
 * table that the next kernels read. from is a multiple of 8. n^2 d flops for all, as only one half is computed; one
 * write of C, which is the limit for d below about 64. */
int saffu_compare_all(const void *X, int size, int64_t n, int64_t d, int64_t from, int64_t to, void *C, int n_threads);

/* S (n, K): comparisons. Those of two ids below n_cached are read from cache (n_cached, n_cached); NULL and 0 for none.
 * Computed: 2 d flops and d entries of X a pair, gathered: the L2 or L3 cache is the limit. Read: one entry a pair. */
int saffu_comparisons(const saffu_view *view, const void *X, const void *cache, int size, int64_t n_types, int64_t d,
                      int64_t n_cached, void *S, int n_threads);

/* S, A (n, K), Z (n, d), in one pass; with given, S is read. A window of K tokens gathers K d entries of X once
 * from the L2 or L3 cache, which is the limit for large d (small K and d: the steps of a row itself), and once more
 * from L1; it writes 2 K + d entries; 4 K d + 2 K^2 flops, K exps. */
int saffu_attend(const saffu_view *view, const void *X, const void *cache, const void *W, const void *bias, int size,
                 int64_t n_types, int64_t d, int64_t n_cached, int given, void *S, void *A, void *Z, int n_threads);

/* From dZ (n, d), the gradient by Z, and the S and A of saffu_attend: dW (K, K) and dbias (K); dS (n, K), or NULL;
 * and dX (n_types, d) += the gradient by X, through z and s (it needs dS, and may not be X):
 *
 *     da_k = dz . x_k      dl = a (da - a . da)      dW = sum s^T dl      dbias = sum dl      ds = dl W^T
 *     dX[c_k] += a_k dz + ds_k x_head                dX[head] += sum_k ds_k x_k
 *
 * A window gathers K d entries of X, the limit, and reads 2 K + d; 2 K d + 2 K^2 flops, 2 K^2 more for dS. dX: 6 K d
 * flops, and K d entries read of X and read and written of dX, the limit.
 *
 * The windows are cut into chunks whose sums have rows of their own in sums (n_chunks, size), zeros at first. The first
 * kernel takes windows [from, to) of every chunk, from in ascending multiples of 64; the second folds the sums in
 * order; the third may be given the windows piece by piece, in ascending order. Windows must be good ones to the third.
 * */
typedef struct {
    int64_t chunk, n_chunks; /* windows in a chunk; chunks */
    int64_t size;            /* doubles of a chunk */
} saffu_attend_plan;
saffu_attend_plan saffu_plan_attend(int64_t n, int64_t n_positions);
int saffu_attend_backward(const saffu_view *view, const void *X, const void *W, const void *S, const void *A,
                          const void *dZ, int size, int64_t n_types, int64_t d, int64_t from, int64_t to, double *sums,
                          void *dS, int n_threads);
int saffu_attend_weights(const saffu_view *view, int size, double *sums, void *dW, void *dbias);
int saffu_attend_embeddings(const saffu_view *view, const void *X, const void *dZ, const void *A, const void *dS,
                            int size, int64_t d, void *dX, int n_threads);

/* ---- patches.c: local softmax units on patches of images -----------------------------------------------------------
 *
 * An image is (height, width, channels) non-negative values; a signal has height 1. Patches of patch_height x
 * patch_width begin at rows x columns places, `stride` apart. With x the values of one, scaled, and m their mean,
 *
 *     z = M (x - m) / d                                    M (patch values, patch values), or NULL for the identity
 *     v = (max(0, z), max(0, -z), m, 1 - m, 1)             n_inputs = 2 patch values + 3
 *     p = softmax(v W)                                     W (n_inputs, n_units), its last row the bias
 *     pooled[cell, k] = sum of p_k over the cell's places  a grid of pool_rows x pool_columns cells
 *
 * where d is the spread, or with normalize the patch's own deviation plus the spread. A place (y, x) lies in the cell
 * (y pool_rows / rows, x pool_columns / columns). */
typedef struct {
    int64_t height, width, channels;
    int64_t patch_height, patch_width, stride;
    int64_t rows, columns;
    int64_t pool_rows, pool_columns;
    double scale, spread;
    int normalize;
} saffu_patches;

/* pooled (n, cells, n_units) of images (n, height width channels). 2 n_inputs n_units flops and n_units exps a patch,
 * which is the limit: all but the images and the pooled sums stays in cache. */
int saffu_pool_patches(const saffu_patches *patches, const void *images, const void *M, const void *W, int size,
                       int64_t n, int64_t n_units, void *pooled, int n_threads);

/* The moments of inputs and units: sum over patches of v_j t_k, with t = p, of the n patches at place_of[e] of image
 * image_of[e]; or, where these are NULL, of all patches of some images, n in all. With slope (images, cells, n_units),
 * the gradient by pooled, of all patches only, t = p (g - p . g), g the slope of the patch's cell: the moments are the
 * gradient by W. 4 n_inputs n_units flops a patch.
 *
 * The patches are cut into chunks whose sums have rows of their own in sums (n_chunks, n_inputs, padded), zeros at
 * first; a call takes the patches [from, to) of every chunk, from in ascending multiples of 64. Added in order, the
 * chunks' sums are the moments; columns beyond n_units are of no unit. */
typedef struct {
    int64_t n, chunk, n_chunks; /* patches; those in a chunk; chunks */
    int64_t n_inputs, padded;   /* shape of a chunk's sums */
} saffu_patch_plan;
saffu_patch_plan saffu_plan_patches(const saffu_patches *patches, int64_t n, int64_t n_units);
int saffu_patch_moments(const saffu_patches *patches, const void *images, const int32_t *image_of,
                        const int32_t *place_of, const void *slope, const void *M, const void *W,
                        const saffu_patch_plan *plan, int size, int64_t n_units, int64_t from, int64_t to,
                        double *sums, int n_threads);

/* ---- regression.c: softmax regression on dense features ------------------------------------------------------------
 *
 * With features A (n, n_features), weights W (n_features, n_classes), a bias and targets below n_classes, of each row
 *
 *     p = softmax(A W + bias)     loss = -log p[target]     e = p - onehot(target)
 *     dA = e W'                   the slopes of the sum of all losses by A; NULL if they are not wanted
 *     dW = A' e,  dbias = sum e   the slopes by W and the bias, which is the last row of dW
 *
 * 4 n_features n_classes flops a row, 6 with dA, in one pass over A. The rows are cut into chunks whose dW have a place
 * of their own in sums (n_chunks, n_features + 1, padded), zeros at first; a call takes rows [from, to) of every chunk,
 * from in ascending multiples of 64. Added in order, the chunks' sums are dW; columns beyond n_classes are none. */
typedef struct {
    int64_t n, chunk, n_chunks;            /* rows; those in a chunk; chunks */
    int64_t n_features, n_classes, padded; /* the first and the last make the shape of a chunk's sums */
} saffu_regression_plan;
saffu_regression_plan saffu_plan_regression(int64_t n, int64_t n_features, int64_t n_classes);
int saffu_regression_gradients(const float *A, const float *W, const float *bias, const int32_t *targets,
                               const saffu_regression_plan *plan, int64_t from, int64_t to, double *losses, float *dA,
                               double *sums, int n_threads);

/* ---- panels.c: products of a few rows with a matrix that was packed once ---------------------------------------------
 *
 * Z (n_rows, n_columns) = A (n_rows, n_inner) B (n_inner, n_columns). B comes in panels (ceil(n_columns / w), n_inner,
 * w) of w = 128 / size columns, the last one filled with zeros. A row of Z has the same bits whatever the others. */
int saffu_panel_product(const void *A, const void *panels, int size, int64_t n_rows, int64_t n_inner,
                        int64_t n_columns, void *Z, int n_threads);

/* ---- lstm.c: a time step of a long short-term memory -------------------------------------------------------------
 *
 * Gates G (n_rows, 4 n_cells) hold what the inputs give to the gates in, forget, candidate and out, side by side;
 * R, of the same shape, what the state before gives. With s the logistic function:
 *
 *   i = s(G_i + R_i)   f = s(G_f + R_f)   a = tanh(G_a + R_a)   o = s(G_o + R_o)
 *   C = f C_before + i a   M = o tanh C                      -> G becomes [i f a o]; C, tanh_C, M (n_rows, n_cells)
 *
 * Hochreiter and Schmidhuber (1997) with the forget gate of Gers and others (2000). Five exponentials a cell. */
int saffu_lstm_step(const void *R, const void *C_before, int size, int64_t n_rows, int64_t n_cells, void *G, void *C,
                    void *tanh_C, void *M, int n_threads);

/* On the way back dM is the gradient by M, and dC that by C through the step after. G, which the step left as
 * [i f a o], becomes the gradient by G (and by R); dC that by C_before. One pass, no exponential. */
int saffu_lstm_step_backward(const void *C_before, const void *tanh_C, const void *dM, int size, int64_t n_rows,
                             int64_t n_cells, void *G, void *dC, int n_threads);

/* ---- adam.c: one step down a gradient ----------------------------------------------------------------------------
 *
 * first  <- beta1 first + (1 - beta1) gradient
 * second <- beta2 second + (1 - beta2) gradient^2
 * x      <- x - learning_rate (first / (1 - beta1^step)) / (sqrt(second / (1 - beta2^step)) + epsilon)
 *
 * All (n), in place but for the gradient; step counts from 1 (below: SAFFU_OUT_OF_RANGE). Moments below 1e-36 (double:
 * 1e-300) become 0. Kingma and Ba (arXiv 1412.6980), algorithm 1. One pass: 4 reads and 3 writes (28 bytes an entry in
 * float), 11 flops, a square root and a division. */
int saffu_adam(const void *gradient, double learning_rate, double beta1, double beta2, double epsilon, int64_t step,
               int size, int64_t n, void *x, void *first, void *second, int n_threads);

/* The same with beta1 = 0, which needs no first moment, along scale times the gradient (a gradient clipped to a norm).
 * 3 reads and 2 writes, 20 bytes an entry in float. */
int saffu_adam_without_momentum(const void *gradient, double scale, double learning_rate, double beta2, double epsilon,
                                int64_t step, int size, int64_t n, void *x, void *second, int n_threads);

#endif
