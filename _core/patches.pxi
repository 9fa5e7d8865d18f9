# Bindings of patches.c: local softmax units on patches of images.


@cython.final
@cython.auto_pickle(False)
cdef class Patches:
    """Which patches images of (height, width, channels) have, what their inputs are and which cells pool them."""

    cdef k.saffu_patches c

    def __cinit__(self, shape, patch, stride, pool, scale, spread, normalize):
        cdef k.saffu_patches *c = &self.c
        height, width, channels = shape
        patch_height, patch_width = patch
        pool_rows, pool_columns = pool
        c.height, c.width = whole(height, "height", 1, MOST), whole(width, "width", 1, MOST)
        c.channels = whole(channels, "channels", 1, MOST)
        if height * width * channels > MOST:
            raise ValueError(f"an image must have at most {MOST} values, got {height} x {width} x {channels}")
        c.patch_height = whole(patch_height, "the height of a patch", 1, c.height)
        c.patch_width = whole(patch_width, "the width of a patch", 1, c.width)
        c.stride = whole(stride, "stride", 1, MOST)
        c.rows = (c.height - c.patch_height) // c.stride + 1
        c.columns = (c.width - c.patch_width) // c.stride + 1
        c.pool_rows = whole(pool_rows, "pool_rows", 1, c.rows)
        c.pool_columns = whole(pool_columns, "pool_columns", 1, c.columns)
        c.scale, c.spread, c.normalize = scale, spread, bool(normalize)
        if not (0 < c.scale < 1e30 and 1e-30 < c.spread < 1e30):
            raise ValueError(f"scale and spread must be positive and finite, got {scale} and {spread}")

    @property
    def places(self):
        """Rows and columns of places."""
        return self.c.rows, self.c.columns

    @property
    def n_cells(self):
        return self.c.pool_rows * self.c.pool_columns

    @property
    def n_inputs(self):
        return 2 * self.c.patch_height * self.c.patch_width * self.c.channels + 3

    cdef int fits(self, Py_ssize_t n_values, Py_ssize_t n_inputs, Py_ssize_t n_units) except -1:
        same_length(n_values, self.c.height * self.c.width * self.c.channels, "the values of an image and its shape")
        same_length(n_inputs, self.n_inputs, "the rows of W and the inputs of a patch")
        whole(n_units, "the number of units", 1, 1 << 20)
        return 0

    cdef int64_t n_values(self) noexcept:
        return self.c.patch_height * self.c.patch_width * self.c.channels


cdef int square_of(Py_ssize_t n_rows, Py_ssize_t n_columns, int64_t n_values) except -1:
    same_length(n_rows, n_values, "the rows of M and the values of a patch")
    same_length(n_columns, n_values, "the columns of M and the values of a patch")
    return 0


def pool_patches(Patches patches not None, const real[:, ::1] images not None, const real[:, ::1] M,
                 const real[:, ::1] W not None, n_threads):
    """The responsibilities of each unit summed over the places of each cell, (n, cells, n_units); M may be None."""
    cdef int n_team = team(n_threads), status
    cdef int64_t n = images.shape[0], n_units = W.shape[1], n_cells = patches.n_cells
    cdef const real *M_ = NULL
    cdef const k.saffu_patches *c = &patches.c
    patches.fits(images.shape[1], W.shape[0], W.shape[1])
    if M is not None:
        square_of(M.shape[0], M.shape[1], patches.n_values())
        M_ = &M[0, 0]
    aligned(<size_t>&images[0, 0] | <size_t>&W[0, 0] | <size_t>M_, sizeof(real))
    pooled = np.empty((n, n_cells, n_units), dtype_of(sizeof(real)))
    cdef real[:, :, ::1] pooled_ = pooled
    cdef Blocks b = blocks(n, c.rows * c.columns * n_units * (W.shape[0] // 16 + 1))
    while more(&b):
        with nogil:
            status = k.saffu_pool_patches(c, &images[b.begin, 0], M_, &W[0, 0], sizeof(real), b.end - b.begin, n_units,
                                          &pooled_[b.begin, 0, 0], n_team)
        check(status)
    return pooled


def patch_moments(Patches patches not None, const real[:, ::1] images not None, const int32_t[::1] image_of,
                  const int32_t[::1] place_of, const real[:, :, ::1] slope, const real[:, ::1] M,
                  const real[:, ::1] W not None, n_threads):
    """Moments of inputs and units over some patches, or with None for these over all, of each chunk of patches.

    With slope, of all patches: the gradient by W. M may be None. Shape (chunks, n_inputs, n_units); their sum is wanted.
    """
    cdef int n_team = team(n_threads), status
    cdef int64_t n_units = W.shape[1], n_images = images.shape[0], n_places, n
    cdef const int32_t *image_ = NULL
    cdef const int32_t *place_ = NULL
    cdef const real *slope_ = NULL
    cdef const real *M_ = NULL
    cdef const k.saffu_patches *c = &patches.c
    patches.fits(images.shape[1], W.shape[0], W.shape[1])
    if M is not None:
        square_of(M.shape[0], M.shape[1], patches.n_values())
        M_ = &M[0, 0]
    aligned(<size_t>&images[0, 0] | <size_t>&W[0, 0] | <size_t>M_, sizeof(real))
    n_places = c.rows * c.columns
    n = n_images * n_places
    if (image_of is None) != (place_of is None):
        raise ValueError("image_of and place_of must both be given, or neither")
    if image_of is not None:
        n, image_, place_ = image_of.shape[0], &image_of[0], &place_of[0]
        same_length(n, place_of.shape[0], "image_of and place_of")
        within(image_, 4, n, 0, n_images - 1, "image_of", n_team)
        within(place_, 4, n, 0, n_places - 1, "place_of", n_team)
    if slope is not None:
        if image_of is not None:
            raise ValueError("slope needs all patches: image_of and place_of must be None")
        same_length(slope.shape[0], n_images, "slope and images")
        same_length(slope.shape[1], patches.n_cells, "the columns of slope and cells")
        same_length(slope.shape[2], n_units, "the units of slope and of W")
        slope_ = &slope[0, 0, 0]
        aligned(<size_t>slope_, sizeof(real))
    cdef k.saffu_patch_plan plan = k.saffu_plan_patches(c, n, n_units)
    sums = np.zeros((plan.n_chunks, plan.n_inputs, plan.padded))
    cdef double[:, :, ::1] sums_ = sums
    cdef Blocks b = blocks(plan.chunk if n else 0, max(plan.n_chunks, 1) * n_units * (W.shape[0] // 8 + 1), 64)
    while more(&b):
        with nogil:
            status = k.saffu_patch_moments(c, &images[0, 0], image_, place_, slope_, M_, &W[0, 0], &plan,
                                           sizeof(real), n_units, b.begin, b.end, &sums_[0, 0, 0], n_team)
        check(status)
    return sums[:, :, :n_units]
