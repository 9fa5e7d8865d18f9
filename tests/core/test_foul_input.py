"""No array from outside may end the process: one clear error for each, from the raw core and from public functions."""

import inspect
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array, csr_matrix, random_array

import saffu
from helpers import fuzz
from saffu import _core
from saffu.ngram_lm.log_linear import PooledModel

pytestmark = pytest.mark.kernels

I32, I64 = np.int32, np.int64


def i32(*values):
    return np.array(values, I32)


def i64(*values):
    return np.array(values, I64)


def table(rng, n_rows=30, n_columns=8):
    return csr_array(rng.poisson(1.0, (n_rows, n_columns)).astype(float))


# ---- sparse matrices from outside --------------------------------------------------------------------------------

Y = np.arange(30) % 3
FITTED = {
    "layer": lambda X: saffu.SoftmaxLayer().fit(X, Y),
    "layer, in parts": lambda X: saffu.SoftmaxLayer().partial_fit(X, Y, classes=range(3)),
    "network": lambda X: saffu.ExplicitNetwork().fit(X, Y),
    "moments": lambda X: saffu.moments(X, Y),
    "moments, soft": lambda X: saffu.moments(X, np.eye(3)[Y]),
}


@pytest.mark.parametrize("wrong", [10**8, -(2**63), -1, 10**9, 2**62])
@pytest.mark.parametrize("use", FITTED)
def test_offsets_that_lead_out_of_a_matrix(use, wrong):
    X = table(np.random.default_rng(0))
    X.indptr = X.indptr.astype(I64)
    X.indptr[5] = wrong
    with pytest.raises(ValueError, match="indptr must ascend"):
        FITTED[use](X)


@pytest.mark.parametrize("wrong", [10**6, -(2**31), -1, 8])
@pytest.mark.parametrize("use", FITTED)
def test_columns_that_lead_out_of_a_matrix(use, wrong):
    X = table(np.random.default_rng(0))
    X.indices[7] = wrong
    with pytest.raises(ValueError, match=f"column indices out of range: expected 0 to 7, got {wrong} at place 7"):
        FITTED[use](X)


@pytest.mark.parametrize("name", ["predict", "predict_proba", "predict_log_proba"])
@pytest.mark.parametrize("wrong", [10**6, -(2**31), -1])
def test_reading_a_matrix_whose_columns_lead_out_of_it(name, wrong):
    X = table(np.random.default_rng(0))
    for model in (saffu.SoftmaxLayer().fit(X, Y), saffu.ExplicitNetwork().fit(X, Y)):
        new = X.copy()
        new.indices[3] = wrong
        with pytest.raises(ValueError, match="column indices out of range"):
            getattr(model, name)(new)


def parts_cut(X):
    X.data = X.data[:-1]


def last_offset(X):
    X.indptr[-1] += 1


def too_few_offsets(X):
    X.indptr = X.indptr[:-1]


def fractions(X):
    X.indices = X.indices.astype(float)


@pytest.mark.parametrize("spoil", [parts_cut, last_offset, too_few_offsets, fractions])
@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_parts_that_do_not_fit_one_another(kind, spoil):
    X = table(np.random.default_rng(0)).asformat(kind)
    spoil(X)
    with pytest.raises(ValueError, match="not a sound sparse matrix"):
        saffu.moments(X, Y)


def test_places_of_a_coordinate_matrix():
    X = coo_array(table(np.random.default_rng(0)))
    X.coords[0][4] = 10**8
    with pytest.raises(ValueError, match="row indices must be between 0 and 29"):
        saffu.moments(X, Y)


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "lil", "dok", "dia"])
def test_every_sound_kind_of_sparse_matrix_is_read(kind):
    X = table(np.random.default_rng(0))
    expected = saffu.moments(X.toarray(), Y)
    np.testing.assert_array_equal(saffu.moments(X.asformat(kind), Y), expected)
    np.testing.assert_array_equal(saffu.moments(csr_matrix(X).asformat(kind), Y), expected)


# ---- the raw core ------------------------------------------------------------------------------------------------

COUNT = dict(contexts=i32(0, 1, 0), targets=i32(1, 0, 1), distances=i64(1), documents=i64(0), n_rows=2, n_cols=2)


@pytest.mark.parametrize(
    "change",
    [
        dict(contexts=i32(0, 2, 0)),
        dict(targets=i32(1, 2, 1)),
        dict(targets=i32(1, -1, 1)),
        dict(distances=i64(0)),
        dict(distances=i64(-3)),
        dict(distances=i64(2, 1)),
        dict(documents=i64(0, 4)),
        dict(documents=i64(-1)),
        dict(documents=i64(2, 1)),
        dict(n_rows=-1),
        dict(n_cols=-1),
        dict(n_cols=0),
        dict(n_cols=1),
        dict(n_cols=2**31),
        dict(max_pairs=0),
    ],
)
def test_counting_refuses(change):
    with pytest.raises(ValueError, match=r"must|out of range|between|equal lengths"):
        _core.count(**(COUNT | change), n_threads=1)


def test_a_distance_beyond_any_stream_counts_nothing():
    for distances in (i64(2**63 - 1), i64(1, 2**63 - 1)):
        assert _core.count(**(COUNT | {"distances": distances}), n_threads=1)[2].sum() == 2 * (distances[0] == 1)


FIND = dict(indptr=i64(0, 2, 3), indices=i32(0, 1, 1), rows=i32(0, 1), cols=i32(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        dict(rows=i32(0, 2)),
        dict(indptr=i64(0, 10**9, 3)),
        dict(indptr=i64(0, -1, 3)),
        dict(indptr=i64(-(2**63), 2, 3)),
        dict(indptr=i64()),
        dict(indptr=i64(0)),
    ],
)
def test_looking_up_refuses(change):
    np.testing.assert_array_equal(_core.find(**FIND, n_threads=1), [1, 2])
    with pytest.raises(ValueError, match="out of range"):
        _core.find(**(FIND | change), n_threads=1)


def test_more_entries_than_places_can_tell_are_refused_before_looking():
    try:
        indices = np.empty(2**31 + 8, I32)  # memory that is never touched
    except MemoryError:
        pytest.skip("no address space")
    with pytest.raises(ValueError, match="at most 2147483647 entries"):
        _core.find(i64(0, indices.size), indices, i32(0), i32(6), 1)


def test_more_rows_than_ids_can_tell_are_refused():
    model = SimpleNamespace(weights=SimpleNamespace(columns=[0, 1], first_rows=np.array([0, 2**31 - 5, 2**31])))
    with pytest.raises(ValueError, match="at most 2147483647 rows"):
        PooledModel.packed_rows(model, np.zeros((2, 1), I32))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("indptr", i64(0, 3, 2)),
        ("indptr", i64(0, -1, 2)),
        ("indptr", i64(0, 1, 10**9)),
        ("indptr", i64()),
        ("counts", i64(1, -(10**8))),
        ("counts", i64(1, -2)),
        ("parent", i32(0, 3)),
        ("parent", i32(-1, 0)),
        ("lower", np.zeros(0)),
    ],
)
def test_weighing_refuses(name, value):
    sound = dict(indptr=i64(0, 1, 2), counts=i64(1, 2), parent=i32(0, 2), lower=np.ones(3) / 3, discounts=np.ones(3))
    _core.weigh(**sound, n_threads=1)
    with pytest.raises(ValueError, match=r"must|out of range|between|equal lengths"):
        _core.weigh(**(sound | {name: value}), n_threads=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("indptr", i64(0, 3, 2)),
        ("indptr", i64(0, 2, 10**9)),
        ("indptr", i64(5, 2, 2)),
        ("indptr", i64()),
        ("words", i32(1, 0, 2)),
        ("words", i32(1, 1, 2)),
        ("words", i32(-1, 0, 2)),
        ("words", i32(0, 1, 2**31 - 1)),
    ],
)
def test_packing_refuses(name, value):
    sound = dict(indptr=i64(0, 2, 3), words=i32(0, 1, 2), u=np.ones(3))
    _core.pack(**sound, n_threads=1)
    with pytest.raises(ValueError, match=r"must|out of range|between|equal lengths"):
        _core.pack(**(sound | {name: value}), n_threads=1)


# ---- pooled models -----------------------------------------------------------------------------------------------


def pool_arguments():
    packed = _core.pack(i64(0, 2, 3), i32(1, 40, 3), np.ones(3), 1)
    prior = np.zeros((2, 48))
    prior[:, :41] = np.log(1 / 41)
    return dict(
        packed=packed,
        log_prior=prior,
        unigram=np.full(41, 1 / 41),
        theta=np.full((1, 5), 0.5),
        n_contexts=1,
        window=i64(4),
        window_mass=np.ones(1),
        induction=8,
        induction_mass=2.0,
    )


def batch_arguments():
    return dict(
        ids=i32(3, 1, 3, 40),
        positions=i64(1, 3),
        begins=i64(0, 0),
        rows=i32(0, 1)[:, None],
        states=i32(0, 0),
        target_u=np.ones((2, 1)),
        previous=i32(-1, -1, 0, -1),
    )


def score(pool, batch):
    made, seen = _core.Pool(**pool), _core.Batch(**batch)
    return [made.log_prob(seen, 1), made.distribution(seen, 1), *made.derivatives(seen, True, 1)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ids", i32(3, 1, 3, 41), "ids must be between 0 and 40"),
        ("ids", i32(2_000_000_000, 1, 3, 4), "ids must be between 0 and 40"),
        ("ids", i32(-1, 1, 3, 4), "ids must be between 0 and 40"),
        ("ids", i32(3, 1), "equal lengths"),
        ("positions", i64(1, 4), "positions must be below"),
        ("positions", i64(1, 2**62), "positions must be below"),
        ("positions", i64(-1, 2), "begins must be"),
        ("begins", i64(0, 4), "begins must be"),
        ("begins", i64(-1, 0), "begins must be"),
        ("rows", i32(0, 2)[:, None], "rows must be below 2"),
        ("rows", i32(0, -2)[:, None], "rows at least -1"),
        ("rows", i32(0, 1)[None], "equal lengths"),
        ("states", i32(0, 1), "states must be below 1"),
        ("states", i32(0, -1), "states at least 0"),
        ("previous", i32(-1, -1, 2, -1), "previous places come before"),
        ("previous", i32(-1, 7, 0, -1), "previous places come before"),
        ("target_u", np.ones((2, 2)), "equal lengths"),
    ],
)
def test_batches_refuse(name, value, message):
    score(pool_arguments(), batch_arguments())
    with pytest.raises(ValueError, match=message):
        score(pool_arguments(), batch_arguments() | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("packed", (i64(0, 17), np.ones(17), i64(0, 0), i32(), np.ones(0)), "whole blocks"),
        ("packed", (i64(0, 64), np.ones(64), i64(0, 0), i32(), np.ones(0)), "words below 41"),
        ("packed", (i64(0, 0), np.ones(0), i64(0, 1), i32(41), np.ones(1)), "words below 41"),
        ("packed", (i64(0, 0), np.ones(0), i64(0, 1), i32(-1), np.ones(1)), "out of range"),
        ("packed", (i64(0, 0), np.ones(0), i64(0, 2), i32(1), np.ones(1)), "indptr must ascend"),
        ("packed", (i64(0, 16), np.ones(16), i64(0), i32(), np.ones(0)), "equal lengths"),
        ("window", i64(-5), "window out of range"),
        ("window", i64(0), "window out of range"),
        ("window", i64(2**62), "window out of range"),
        ("induction", -1, "induction must be"),
        ("induction", 10**12, "induction must be"),
        ("n_contexts", -1, "n_contexts must be"),
        ("theta", np.ones((1, 4)), "equal lengths"),
        ("log_prior", np.ones((2, 41)), "equal lengths"),
        ("unigram", np.ones(0), "number of words"),
    ],
)
def test_pools_refuse(name, value, message):
    with pytest.raises(ValueError, match=message):
        _core.Pool(**(pool_arguments() | {name: value}))


def test_objects_do_not_trust_arrays_that_their_owner_changes():
    pool, batch = pool_arguments(), batch_arguments()
    pool["packed"] = tuple(array.copy() for array in pool["packed"])
    made, seen = _core.Pool(**pool), _core.Batch(**batch)
    expected = made.log_prob(seen, 1)
    ids = batch.pop("ids")
    for array in [*pool["packed"], *pool.values(), *batch.values()]:
        if isinstance(array, np.ndarray) and array is not batch["previous"]:
            array[...] = 10**6
    np.testing.assert_array_equal(made.log_prob(seen, 1), expected)
    kept = ids.copy()
    ids[:] = 2_000_000_000
    with pytest.raises(ValueError, match="ids must be between"):
        made.log_prob(seen, 1)
    ids[:] = kept
    np.testing.assert_array_equal(made.log_prob(seen, 1), expected)
    ids.resize(2, refcheck=False)
    with pytest.raises(ValueError, match="must"):
        made.log_prob(seen, 1)


def test_windows_take_their_arrays_anew():
    ids, first, length, head = np.arange(9, dtype=I32), i64(0, 2), i32(3, 3), i64(3, 5)
    view, X = _core.View(ids, first, length, head, 1, 3), np.eye(9)
    _core.comparisons(view, X, None, 1)
    ids[4] = 9
    with pytest.raises(ValueError, match="out of range"):
        _core.comparisons(view, X, None, 1)
    ids.resize(2, refcheck=False)
    with pytest.raises(ValueError, match="out of range"):
        _core.comparisons(view, X, None, 1)
    first.resize(1, refcheck=False)
    with pytest.raises(ValueError, match="equal lengths"):
        _core.comparisons(view, X, None, 1)


def test_objects_are_made_whole_or_not_at_all():
    for kind in (_core.Pool, _core.Batch, _core.View, _core.SuffixCounter):
        with pytest.raises(TypeError):
            kind.__new__(kind)
    with pytest.raises(TypeError):
        _core.Pool(**pool_arguments()).log_prob(None, 1)
    assert [array.size for array in _core.Packed()] == [1, 0, 1, 0, 0]


def test_packed_rows_are_read_only():
    for array in pool_arguments()["packed"]:
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0


# ---- every function ----------------------------------------------------------------------------------------------


def functions():
    return [name for name, value in vars(_core).items() if callable(value) and not name.startswith("_")]


def test_the_fuzzer_knows_every_function():
    source = inspect.getsource(fuzz)
    asked = {*re.findall(r"_core\.(\w+)", source), *re.findall(r'\("(\w+)", \[X', source)}
    assert set(functions()) - asked == {"config", "max_threads", "choose_variant"}  # which take no arrays


MAY_BE_NONE = {
    "moments_labels": [2],
    "moments_soft": [2],
    "moments_csr_labels": [4],
    "moments_csr_soft": [4],
    "product": [4, 6],
    "cross_entropy_backward": [2],
    "Batch": [5, 6],
    "pool_patches": [2],
    "patch_moments": [4, 5],
}


@pytest.mark.parametrize(
    "make", [make for make in dict.fromkeys(fuzz.RAW) if make not in (fuzz.raw_score, fuzz.raw_attend)]
)
def test_none_stands_for_no_array_that_is_needed(make):
    rng = np.random.default_rng(1)
    for _ in range(12):
        function, arguments = make(rng)
        for i, value in enumerate(arguments):
            if isinstance(value, np.ndarray) and i not in MAY_BE_NONE.get(function.__name__, []):
                with pytest.raises((TypeError, ValueError)):
                    function(*arguments[:i], None, *arguments[i + 1 :])


def test_attention_needs_windows_and_matrices():
    view, X, W = _core.View(np.arange(4, dtype=I32), i64(0), i32(2), i64(1), 1, 2), np.eye(4), np.eye(2)
    S, dZ = np.ones((1, 2)), np.ones((1, 4))
    calls = {
        _core.comparisons: ([view, X, None], [0, 1]),
        _core.attend: ([view, X, None, W, None, None], [0, 1, 3]),
        _core.attend_backward: ([view, X, W, S, S, dZ, True, None], [0, 1, 2, 3, 4, 5]),
    }
    for function, (arguments, needed) in calls.items():
        function(*arguments, 1)
        for i in needed:
            with pytest.raises((TypeError, ValueError)):
                function(*arguments[:i], None, *arguments[i + 1 :], 1)


@pytest.mark.parametrize("n_threads", [0, -1, 1025, 40_000, 10**10, -(2**63)])
def test_threads_have_a_floor_and_a_cap(n_threads):
    pool, batch = _core.Pool(**pool_arguments()), _core.Batch(**batch_arguments())
    for use in (
        lambda: pool.log_prob(batch, n_threads),
        lambda: pool.derivatives(batch, False, n_threads),
        lambda: _core.exp(np.ones(3), n_threads),
        lambda: _core.count(**COUNT, n_threads=n_threads),
    ):
        with pytest.raises(ValueError, match="n_threads must be between 1 and 1024"):
            use()


@pytest.mark.parametrize("n_threads", [1.0, None, "2"])
def test_threads_are_integers(n_threads):
    with pytest.raises(TypeError):
        _core.exp(np.ones(3), n_threads)


def test_misaligned_arrays_are_refused():
    room = np.zeros(33, np.uint8)
    with pytest.raises(ValueError, match="aligned"):
        _core.exp(np.frombuffer(room.data, np.float64, 4, offset=1), 1)


# ---- memory that is written and read -----------------------------------------------------------------------------


def test_outputs_that_overlap_an_input():
    rng = np.random.default_rng(0)
    H = random_array((4, 4), density=0.5, rng=rng, format="csr")
    parts, B = (H.indptr.astype(I64), H.indices.astype(I32), H.data), rng.random((4, 4))
    X, W, S, dZ = rng.random((6, 6)), rng.random((2, 2)), rng.random((6, 2)), rng.random((6, 6))
    view = _core.View(np.arange(6, dtype=I32), np.zeros(6, I64), np.full(6, 2, I32), np.arange(6), 1, 2)
    one, two, three, four = (np.ones(5) for _ in range(4))
    logits, square = rng.random((4, 4)), rng.random((4, 4))
    labels = logits.view(I32)[0, :4]
    labels[:] = 0
    for use in (
        lambda: _core.product(*parts, B, None, 1, B),
        lambda: _core.product(*parts, B, B[0], 1, B),
        lambda: _core.product_double(*parts, B, B, 1),
        lambda: _core.attend_backward(view, X, W, S, S + 1, dZ, True, X, 1),
        lambda: _core.attend_backward(view, X, W, S, S + 1, dZ, True, dZ, 1),
        lambda: _core.adam(one, one, two, three, 0.1, 0.9, 0.9, 1e-8, 1, 1),
        lambda: _core.adam(one, two, three, three, 0.1, 0.9, 0.9, 1e-8, 1, 1),
        lambda: _core.adam(one, two, two, four, 0.1, 0.9, 0.9, 1e-8, 1, 1),
        lambda: _core.cross_entropy_backward(logits, labels, None, 1),
        lambda: _core.cross_entropy_backward(square, i32(0, 1, 2, 3), square[0], 1),
        lambda: _core.softmax_backward(square, square, 1),
        lambda: _core.mixture_backward(square, square, i32(0, 1, 2, 3), np.ones(4), 1),
        lambda: _core.log_sums(square, i32(0, 1, 2, 3), i64(0, 1, 2, 3, 4), square, 1),
        lambda: _core.moments_labels(square, i32(0, 0, 0, 0), None, square[:1], np.zeros(1), True, 1),
        lambda: _core.moments_labels(square, i32(0, 0, 0, 0), one[:4], np.zeros((1, 4)), one[:1], True, 1),
    ):
        with pytest.raises(ValueError, match="share"):
            use()


def test_rows_of_one_array_may_be_read_and_others_written():
    room = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(_core.product(i64(0, 1), i32(0), np.ones(1), room[:1], None, 1, room[1:]), room[:1])


def test_adam_counts_steps_from_one():
    with pytest.raises(ValueError, match="step must be between 1"):
        _core.adam(*(np.ones(2) for _ in range(4)), 0.1, 0.9, 0.9, 1e-8, 0, 1)


# ---- counters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("max_pairs", [20, 100, 10_000])
def test_rows_counted_in_pieces_have_the_same_counts(max_pairs, n_threads):
    rng = np.random.default_rng(max_pairs)
    contexts, targets = (np.minimum(rng.geometric(0.2, 5000) - 1, 30).astype(I32) for _ in range(2))
    documents = i64(0, 2000, 2001, 4999)
    for distances in (i64(1), i64(1, 2, 5)):
        whole = _core.count(contexts, targets, distances, documents, 31, 31, 1)
        pieces = _core.count(contexts, targets, distances, documents, 31, 31, n_threads, max_pairs)
        for a, b in zip(whole, pieces, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_count_beyond_what_32_bits_hold():
    """A pair for each position and distance: 22,000,000 of the one and 1 to 100 of the other."""
    found = saffu.cooccurrence(np.zeros(22_000_000, I32), np.arange(1, 101), vocab_size=1)
    assert found.toarray().tolist() == [[2199994950]]


# ---- the fuzzer --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="limits of memory are those of Unix")
def test_random_calls_end_in_a_result_or_a_clear_error():
    assert fuzz.fuzz(10**6, 1500) == []
