/* Products of a few rows with one and the same matrix, again and again, as the steps of a recurrent network need.
 *
 * Decisions. A general product packs its matrix anew in every call, which with 16 rows takes as long as the product.
 * Here the caller packs it once, into panels of two vectors' width that are read front to back; a tile of ROWS rows
 * keeps its sums in registers. Every sum is taken in ascending order of the inner index, so that the bits of a row do
 * not depend on the rows beside it.
 */
#include <string.h>

#include "parallel.h"
#include "reals.h"
#include "saffu.h"
#include "vectors.h"

enum { ROWS = 8 };

#define REAL float
#define WIDTH WIDTH_f32
#define NAME(name) name##_f32
#include "panels_real.h"
#undef REAL
#undef WIDTH
#undef NAME

#define REAL double
#define WIDTH WIDTH_f64
#define NAME(name) name##_f64
#include "panels_real.h"
#undef REAL
#undef WIDTH
#undef NAME

int saffu_panel_product(const void *A, const void *panels, int size, int64_t n_rows, int64_t n_inner,
                        int64_t n_columns, void *Z, int n_threads) {
    return BY_SIZE(size, panel_product, A, panels, n_rows, n_inner, n_columns, Z, n_threads);
}
