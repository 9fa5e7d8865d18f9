/* Vectors for one type of real: included by vectors.h with REAL and NAME(name) defined. */

#if defined(__GNUC__)
typedef REAL NAME(Vector) __attribute__((vector_size(64), aligned(sizeof(REAL))));
#else
typedef struct {
    REAL v[64 / sizeof(REAL)];
} NAME(Vector);
#endif
enum { NAME(WIDTH) = 64 / sizeof(REAL), NAME(FOLD) = NAME(WIDTH) / 2 }; /* its entries; vectors folded together */

SAFFU_INLINE NAME(Vector) NAME(load_vector)(const REAL *x) {
    NAME(Vector) a;
    memcpy(&a, x, sizeof a);
    return a;
}

/* a + x c. */
SAFFU_INLINE NAME(Vector) NAME(multiply_add_one)(NAME(Vector) a, REAL x, NAME(Vector) c) {
#if defined(__GNUC__)
    return a + x * c;
#else
    for (int l = 0; l < NAME(WIDTH); l++) a.v[l] += x * c.v[l];
    return a;
#endif
}

/* a + b c. */
SAFFU_INLINE NAME(Vector) NAME(multiply_add)(NAME(Vector) a, NAME(Vector) b, NAME(Vector) c) {
#if defined(__GNUC__)
    return a + b * c;
#else
    for (int l = 0; l < NAME(WIDTH); l++) a.v[l] += b.v[l] * c.v[l];
    return a;
#endif
}
