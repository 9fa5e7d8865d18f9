/* Adam: one fused pass over a parameter, its gradient and its two moments.
 *
 * Decisions. The bias corrections are folded into two scalars in double, so that an entry costs one square root and one
 * division. Moments of a parameter whose gradient stays zero decay until they are denormal, which many processors are
 * slow at; below TINY, where they move nothing, they become zero. Chunks lie on a fixed grid, so that no element changes
 * sides between a vector loop and its remainder.
 */
#include <math.h>

#include "parallel.h"
#include "saffu.h"

enum { CHUNK = 4096 };

#define REAL float
#define SQRT sqrtf
#define TINY 1e-36f
#define NAME(name) name##_f32
#include "adam_real.h"
#undef REAL
#undef SQRT
#undef TINY
#undef NAME

#define REAL double
#define SQRT sqrt
#define TINY 1e-300
#define NAME(name) name##_f64
#include "adam_real.h"
#undef REAL
#undef SQRT
#undef TINY
#undef NAME
