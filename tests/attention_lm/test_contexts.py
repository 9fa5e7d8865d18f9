"""Segments, windows, chunks and document means against loops over positions that follow their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saffu.attention_lm.contexts import SEGMENT, DocumentMeans, chunk, parse_contexts, segment_bounds, token_windows
from saffu.utils.arrays import ranges
from saffu.utils.streams import TokenStream

N_TYPES = 6
LENGTHS = st.lists(st.sampled_from([0, 1, 2, 5, 31, 32, 33, 64, 70]), min_size=0, max_size=6)


def stream_of(lengths, seed=0):
    """Documents of these lengths, empty ones too."""
    ids = np.random.default_rng(seed).integers(0, N_TYPES, sum(lengths)).astype(np.int32)
    return TokenStream(ids, np.cumsum([0, *lengths[:-1]]).astype(np.int64) if lengths else np.empty(0, np.int64))


def document_of(lengths):
    """Start of the document of each position, from the lengths alone."""
    return [start for length, start in zip(lengths, np.cumsum([0, *lengths]), strict=False) for _ in range(length)]


def tokens_seen(context, begin, t, size):
    """Places of the tokens that a position sees, in their order."""
    if context == "radial":
        return list(range(t - 1, max(begin, t - size) - 1, -1))
    if t == begin:
        return []
    newest = t - 1
    return list(range(begin + (newest - begin) // size * size, newest + 1))


def states_seen(context, begin, t, size):
    """Places of the hidden states below that a position sees, its own among them."""
    if context == "radial":
        return list(range(t, max(begin, t - size + 1) - 1, -1))
    return list(range(begin + (t - begin) // size * size, t + 1))


def window(windows, row):
    """What one window lists, first element first."""
    return [int(windows.first[row] + windows.step * k) for k in range(windows.length[row])]


# ---- streams ---------------------------------------------------------------------------------------------------------


@given(LENGTHS)
def test_documents_and_segments(lengths):
    stream, begins = stream_of(lengths), document_of(lengths)
    n = len(begins)
    assert stream.begins(np.arange(n)).tolist() == begins
    first, last = segment_bounds(stream)
    expected = [t for t in range(n) if (t - begins[t]) % SEGMENT == 0]
    assert first.tolist() == expected
    assert last.tolist() == [*expected[1:], *([n] if n else [])]
    assert (last - first <= SEGMENT).all()


def test_a_position_behind_the_stream_belongs_to_the_last_document():
    assert stream_of([3, 4]).begins(np.array([0, 2, 3, 6, 7])).tolist() == [0, 0, 3, 3, 3]
    assert stream_of([]).begins(np.array([0])).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-2, 5)), max_size=8))
def test_ranges(pairs):
    first, lengths = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    found = ranges(first, first + lengths)
    assert found.tolist() == [t for a, n in pairs for t in range(a, a + n)]


def test_contexts_have_one_order():
    assert parse_contexts(["document", "radial", "block"]) == ("block", "radial", "document")
    assert parse_contexts("radial + block") == ("block", "radial")
    assert parse_contexts(("document",)) == parse_contexts("document") == ("document",)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([], ValueError, "at least one of block, radial, document"),
        ("radial+radial", ValueError, "each once"),
        ("radial+page", ValueError, "contexts must be one of .*'page'"),
        ("", ValueError, "contexts must be one of"),
        (3, TypeError, "contexts must be a list of block, radial, document, got 3"),
        (["radial", 3], TypeError, "contexts must be a list"),
    ],
)
def test_what_are_no_contexts_is_named(value, error, message):
    with pytest.raises(error, match=message):
        parse_contexts(value)


@given(LENGTHS, st.sampled_from(["radial", "block"]), st.sampled_from([1, 2, 3, 7, 40]))
def test_token_windows(lengths, context, size):
    stream, begins = stream_of(lengths), document_of(lengths)
    windows = token_windows(context, stream, np.arange(len(begins)), size)
    assert windows.n_positions == size
    for t, begin in enumerate(begins):
        assert window(windows, t) == tokens_seen(context, begin, t, size)
        if t > begin:
            assert windows.head[t] == t - 1


# ---- document means --------------------------------------------------------------------------------------------------


def means_matrix(stream, begins, positions, span):
    """The linear map from embeddings to means, position by position."""
    A = np.zeros((len(positions), N_TYPES))
    for row, t in enumerate(positions):
        segment = t - (t - begins[t]) % SEGMENT
        tokens = stream.ids[max(begins[t], segment - span) : t]
        for token in tokens:
            A[row, token] += 1 / len(tokens)
    return A


@st.composite
def some_positions(draw):
    """A stream, its documents' starts, and some of its positions in any order, possibly none or twice."""
    lengths = draw(LENGTHS)
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    chosen = rng.integers(0, n, draw(st.integers(0, 40))) if n else np.empty(0, np.int64)
    return stream_of(lengths, seed), document_of(lengths), chosen.astype(np.int64), rng


@given(some_positions(), st.sampled_from([32, 40, 64, 2000]), st.sampled_from([1, 5, 17]))
def test_document_means_and_their_transpose(some, span, d):
    stream, begins, positions, rng = some
    means = DocumentMeans(stream, positions, span)
    A = means_matrix(stream, begins, positions, span)
    X, dZ, before = rng.random((N_TYPES, d)), rng.normal(size=(len(positions), d)), rng.normal(size=(N_TYPES, d))
    np.testing.assert_allclose(means.forward(X), A @ X, rtol=0, atol=1e-13)
    dX = before.copy()
    means.backward(dZ, dX)
    np.testing.assert_allclose(dX, before + A.T @ dZ, rtol=0, atol=1e-12)


def test_document_means_in_float32():
    stream = stream_of([100, 1, 50])
    positions, X = np.arange(151), np.random.default_rng(0).random((N_TYPES, 8))
    means = DocumentMeans(stream, positions, 64)
    single = means.forward(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, means.forward(X), rtol=1e-5)


# ---- chunks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("sizes", [{"radial": 3}, {"block": 4}, {"block": 5, "radial": 2, "document": 0}], ids=str)
@pytest.mark.parametrize("lengths", [[1], [70], [33, 1, 0, 2, 40], [1, 1, 1]], ids=str)
def test_chunks_hold_all_that_their_positions_see(lengths, sizes, n_layers):
    """Every window reached from a scored position, through all layers, is that of the whole text."""
    stream, begins = stream_of(lengths), document_of(lengths)
    first, last = segment_bounds(stream)
    for chosen in ([i] for i in range(len(first))):
        _check_chunk(stream, begins, first[chosen], last[chosen], sizes, n_layers)
    _check_chunk(stream, begins, first[::2], last[::2], sizes, n_layers)
    _check_chunk(stream, begins, first, last, sizes, n_layers)


def _check_chunk(stream, begins, first, last, sizes, n_layers):
    found = chunk(stream, first, last, sizes.items(), n_layers, span=32)
    scored = found.positions[found.scored]
    np.testing.assert_array_equal(scored, ranges(first, last))
    assert len(found.windows) == n_layers
    local = [context for context in sizes if context != "document"]
    rows = {context: set(found.scored.tolist()) for context in local}
    for layer in range(n_layers - 1, -1, -1):
        reached = set()
        for context in local:
            windows, size = found.windows[layer][context, sizes[context]], sizes[context]
            for row in rows[context]:
                t = int(found.positions[row])
                seen = window(windows, row)
                if layer == 0:
                    assert seen == tokens_seen(context, begins[t], t, size)
                else:
                    assert found.positions[seen].tolist() == states_seen(context, begins[t], t, size)
                    assert windows.head[row] == row
                    reached.update(seen)
        rows = {context: reached | set(found.scored.tolist()) for context in local}
    if "document" in sizes:
        X = np.eye(N_TYPES)
        expected = means_matrix(stream, begins, found.positions, 32)
        np.testing.assert_allclose(found.means.forward(X), expected, rtol=0, atol=1e-14)
    else:
        assert found.means is None


def test_a_run_within_a_segment_sees_what_the_whole_segment_sees():
    """Runs need not begin where segments do: the document's mean is that of the position, not of the run."""
    stream, begins = stream_of([90, 20]), document_of([90, 20])
    _check_chunk(stream, begins, np.array([5, 50, 95]), np.array([9, 51, 110]), {"radial": 4, "document": 0}, 2)


def test_one_layer_needs_no_halo():
    stream = stream_of([64])
    found = chunk(stream, np.array([32]), np.array([64]), [("radial", 9)], 1, 32)
    assert found.positions.tolist() == list(range(32, 64))
