"""Layers of units against their equations, their gradients against differences, and what must not change their bits."""

import numpy as np
import pytest

from helpers import reference
from saffu.attention_lm import loss as text_loss
from saffu.attention_lm import units
from saffu.attention_lm import windows as attention
from saffu.attention_lm.contexts import segment_bounds
from saffu.attention_lm.loss import Embeddings
from saffu.attention_lm.output_classes import OutputClasses
from saffu.attention_lm.segments import SegmentedText
from saffu.attention_lm.units import Network
from saffu.attention_lm.windows import ComparisonCache
from saffu.utils.streams import TokenStream

VOCAB_SIZE, BITS, HIDDEN, SPAN = 9, 4, 3, 32
SIZES = {"block": 4, "radial": 3, "document": 0}
DOCUMENTS = [0, 1, 2, 45, 80]


def network_of(contexts, heads, layers):
    sizes = {context: SIZES[context] for context in contexts}
    return Network(units.lay_out(contexts, sizes, heads, layers), layers, SPAN)


def random_parameters(network, seed=0, dtype=np.float64, vocab_size=VOCAB_SIZE, bits=BITS, hidden=HIDDEN):
    """Embeddings, units and output, all far from zero."""
    rng = np.random.default_rng(seed)
    found = {"embeddings.logits": rng.normal(0, 1.5, (vocab_size, bits))}
    for unit in network.units:
        width = bits if unit.layer == 0 else hidden * sum(u.layer == unit.layer - 1 for u in network.units)
        if unit.context != "document":
            found[f"{unit.name}.attention"] = rng.normal(0, 2, (unit.size, unit.size))
            found[f"{unit.name}.attention_bias"] = rng.normal(0, 1, unit.size)
        found[f"{unit.name}.weights"] = rng.normal(0, 4, (width, hidden))
        found[f"{unit.name}.bias"] = rng.normal(0, 1, hidden)
    found["output.weights"] = rng.normal(0, 2, (vocab_size, hidden * len(network.units)))
    found["output.bias"] = rng.normal(0, 1, vocab_size)
    return {name: value.astype(dtype) for name, value in found.items()}


def stream_of(n, documents=DOCUMENTS, vocab_size=VOCAB_SIZE, seed=1):
    ids = np.random.default_rng(seed).integers(0, vocab_size, n).astype(np.int32)
    return TokenStream(ids, np.array([d for d in documents if d < n], np.int64))


def moving(parameters):
    """Embeddings as they follow from the parameters, to be moved."""
    return Embeddings(units.embeddings(parameters, 1), None, True)


class Other:
    """A model of its own logits, different at every position."""

    def __init__(self, n, vocab_size=VOCAB_SIZE, seed=5):
        self.logits = np.random.default_rng(seed).normal(0, 2, (n, vocab_size))

    def fill(self, positions, out):
        out[:] = self.logits[positions]


CLASSES = OutputClasses(np.array([0, 3, 1, 2, 3, 2, 2, 3, 2], np.int32))


def with_classes(parameters, classes):
    """Parameters of which the words of a class share the output."""
    return {
        name: value[: classes.n_classes] if name.startswith("output.") else value for name, value in parameters.items()
    }


def word_by_word(parameters, classes):
    """The same with an output for each word."""
    return {name: value[classes.of_word] if name.startswith("output.") else value for name, value in parameters.items()}


ARCHITECTURES = [
    (("radial",), 1, 1),
    (("block",), 3, 1),
    (("document",), 1, 1),
    (("radial",), 1, 3),
    (("block",), 2, 2),
    (("radial", "document"), 2, 2),
    (("block", "radial", "document"), 3, 1),
    (("block", "radial", "document"), 2, 3),
]
BY_NAME = {"ids": lambda value: "+".join(value) if isinstance(value, tuple) else _short(value)}


def _short(value):
    return "residual" if isinstance(value, Other) else str(value)


# ---- lay-out ---------------------------------------------------------------------------------------------------------


def test_units_have_names_and_the_document_one_head_in_the_first_layer():
    found = network_of(("block", "radial", "document"), 2, 2).units
    first = ["block1", "block2", "radial1", "radial2", "document1"]
    assert [unit.name for unit in found] == [*first, *(f"layer2.{name}" for name in first[:4])]
    assert [unit.size for unit in found] == [4, 4, 3, 3, 0, 4, 4, 3, 3]


# ---- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, Other(90)], ids=["alone", "residual"])
@pytest.mark.parametrize(("contexts", "heads", "layers"), ARCHITECTURES, **BY_NAME)
def test_losses_are_those_of_the_equations(contexts, heads, layers, source):
    network = network_of(contexts, heads, layers)
    parameters, stream = random_parameters(network), stream_of(90)
    logits = reference.unit_logits(stream.ids, DOCUMENTS, parameters, network.units, SPAN)
    if source is not None:
        logits += source.logits
    expected = -reference.log_softmax(logits)[np.arange(90), stream.ids]
    text = SegmentedText(stream, VOCAB_SIZE, np.dtype(np.float64), 1, source)
    whole = text_loss.position_losses(network, parameters, text, moving(parameters), *segment_bounds(stream))
    np.testing.assert_allclose(whole, expected, rtol=1e-10, atol=1e-12)
    for i in range(len(text)):  # one segment, which must find what it needs before it
        edges = text.first[i : i + 1], text.last[i : i + 1]
        alone = text_loss.position_losses(network, parameters, text, moving(parameters), *edges)
        np.testing.assert_allclose(alone, expected[edges[0][0] : edges[1][0]], rtol=1e-10, atol=1e-12)
    by_segment = [expected[a:b].sum() for a, b in zip(text.first, text.last, strict=True)]
    found = text_loss.losses(network, parameters, text.take(slice(None)), moving(parameters))
    np.testing.assert_allclose(found, np.array(by_segment) * len(text) / 90, rtol=1e-10)
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=1e-12)


def test_words_of_a_cell_keep_the_proportions_of_the_other_model():
    network, source, stream = network_of(("block", "radial", "document"), 2, 2), Other(90), stream_of(90)
    parameters = with_classes(random_parameters(network), CLASSES)
    expanded = word_by_word(parameters, CLASSES)
    logits = source.logits + reference.unit_logits(stream.ids, DOCUMENTS, expanded, network.units, SPAN)
    expected = -reference.log_softmax(logits)[np.arange(90), stream.ids]
    text = SegmentedText(stream, VOCAB_SIZE, np.dtype(np.float64), 1, source, CLASSES)
    for rows in (slice(None), slice(2, 4), slice(1, 2)):  # fewer rows after many, in the same memory
        first, last = text.first[rows], text.last[rows]
        found = text_loss.position_losses(network, parameters, text, moving(parameters), first, last)
        np.testing.assert_allclose(found, expected[first[0] : last[-1]], rtol=1e-10, atol=1e-12)
    loss, gradients = gradients_of(network, parameters, text.take(slice(None)), moving(parameters))
    assert loss == pytest.approx(expected.mean())
    whole = SegmentedText(stream, VOCAB_SIZE, np.dtype(np.float64), 1, source)
    loss, by_word = gradients_of(network, expanded, whole.take(slice(None)), moving(parameters))
    assert loss == pytest.approx(expected.mean())
    for name, gradient in gradients.items():
        summed = by_word[name]
        if name.startswith("output."):
            summed = np.stack([summed[CLASSES.of_word == number].sum(axis=0) for number in range(CLASSES.n_classes)])
        np.testing.assert_allclose(gradient, summed, rtol=1e-9, atol=1e-13, err_msg=name)


def test_losses_in_float32_are_near():
    network = network_of(("block", "radial", "document"), 2, 2)
    stream, found = stream_of(90), {}
    for dtype in (np.float32, np.float64):
        parameters = random_parameters(network, dtype=dtype)
        text = SegmentedText(stream, VOCAB_SIZE, np.dtype(dtype), 1)
        found[dtype] = text_loss.losses(network, parameters, text.take(slice(None)), moving(parameters))
    np.testing.assert_allclose(found[np.float32], found[np.float64], rtol=1e-4)


# ---- gradients -------------------------------------------------------------------------------------------------------


def gradients_of(network, parameters, batch, embeddings):
    """Loss and gradients of all parameters, or of all but the embeddings."""
    names = [name for name in parameters if embeddings.moving or name != "embeddings.logits"]
    gradients = {name: np.full_like(parameters[name], np.nan) for name in names}
    loss = text_loss.loss_and_gradients(network, parameters, batch, embeddings, gradients)
    return loss, gradients


def differences(loss, value, most=40, step=1e-5):
    """Central differences by so many numbers of an array at most, which are moved in place; and where they are."""
    chosen = np.sort(np.random.default_rng(0).permutation(value.size)[:most])
    found, flat = np.empty(chosen.size), value.reshape(-1)
    assert np.shares_memory(flat, value)
    for i, place in enumerate(chosen):
        kept = flat[place]
        flat[place] = kept + step
        above = loss()
        flat[place] = kept - step
        found[i] = (above - loss()) / (2 * step)
        flat[place] = kept
    return found, chosen


@pytest.mark.parametrize(
    ("contexts", "heads", "layers", "source", "dropout"),
    [
        (("radial",), 1, 1, None, 0.0),
        (("block", "document"), 2, 1, Other(90), 0.0),
        (("block", "radial", "document"), 1, 1, None, 0.4),
        (("document",), 1, 1, Other(90), 0.0),
        (("radial",), 2, 3, None, 0.0),
        (("block", "radial", "document"), 2, 2, Other(90), 0.3),
    ],
    **BY_NAME,
)
def test_gradients_are_differences(contexts, heads, layers, source, dropout):
    network = network_of(contexts, heads, layers)
    parameters, stream = random_parameters(network), stream_of(90)
    text = SegmentedText(stream, VOCAB_SIZE, np.dtype(np.float64), 1, source)
    # Not all segments: two in the middle of a document and one at its start, which others of its neighbours see too.
    batch = text.take(np.array([2, 3, 5]), dropout, np.random.default_rng(0))

    def loss():
        return gradients_of(network, parameters, batch, moving(parameters))[0]

    found, gradients = gradients_of(network, parameters, batch, moving(parameters))
    if dropout == 0:
        rows = text.positions(batch.segments)
        logits = reference.unit_logits(stream.ids, DOCUMENTS, parameters, network.units, SPAN)
        logits += 0 if source is None else source.logits
        expected = -reference.log_softmax(logits)[rows, stream.ids[rows]].mean()
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    for name, gradient in gradients.items():
        numeric, places = differences(loss, parameters[name])
        scale = np.abs(numeric).max()
        assert scale > 1e-7, name
        np.testing.assert_allclose(gradient.ravel()[places], numeric, rtol=0, atol=1e-6 * scale, err_msg=name)


def test_dropout_zeroes_hidden_states_and_keeps_their_mean():
    network = network_of(("radial",), 1, 1)
    parameters, text = random_parameters(network), SegmentedText(stream_of(90), VOCAB_SIZE, np.dtype(np.float64), 1)
    rng = np.random.default_rng(0)
    losses = [
        gradients_of(network, parameters, text.take(slice(None), 0.5, rng), moving(parameters))[0] for _ in range(3)
    ]
    assert len(set(losses)) == 3
    h = np.ones((2000, 7))
    kept = text_loss._dropout(text.take(slice(None), 0.25, rng), slice(0, 2000), h)
    np.testing.assert_array_equal(h, kept)
    assert set(np.unique(h)) == {0.0, 1 / 0.75}
    assert h.mean() == pytest.approx(1.0, abs=0.03)


# ---- what must not change bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", [False, True], ids=["alone", "residual"])
def test_same_bits_on_any_number_of_workers(dtype, source):
    """Several chunks of segments, and more words than a block of the output's gradient."""
    n, vocab_size = 900, text_loss.WORDS + 60
    network = network_of(("block", "radial", "document"), 2, 2)
    parameters = random_parameters(network, dtype=dtype, vocab_size=vocab_size)
    stream = stream_of(n, [0, 100, 420], vocab_size)
    found = {}
    for n_threads in (1, 2, 3):
        text = SegmentedText(stream, vocab_size, np.dtype(dtype), n_threads, Other(n, vocab_size) if source else None)
        batch = text.take(slice(None), 0.2, np.random.default_rng(3))
        assert len(batch.chunks()) > 3
        loss, gradients = gradients_of(network, parameters, batch, moving(parameters))
        losses = text_loss.losses(network, parameters, batch, moving(parameters))
        found[n_threads] = {"loss": np.array(loss), "losses": losses, **gradients}
    for n_threads in (2, 3):
        for name, value in found[1].items():
            np.testing.assert_array_equal(found[n_threads][name], value, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_bytes", [1 << 20, 4 * 4 * 8], ids=["all", "some"])
def test_frozen_embeddings_with_a_cache_equal_moving_ones(dtype, max_bytes, monkeypatch):
    monkeypatch.setattr(attention, "WIDE_BYTES", 0)
    network = network_of(("block", "radial", "document"), 2, 2)
    parameters, text = (
        random_parameters(network, dtype=dtype),
        SegmentedText(stream_of(90), VOCAB_SIZE, np.dtype(dtype), 1),
    )
    moved = moving(parameters)
    cache = ComparisonCache(moved.X, max_bytes=max_bytes)
    assert (len(cache.table) == VOCAB_SIZE) == (max_bytes > 1000)
    frozen = Embeddings(moved.X, cache, False)
    batch = text.take(slice(None), 0.2, np.random.default_rng(3))
    loss, gradients = gradients_of(network, parameters, batch, frozen)
    expected_loss, expected = gradients_of(network, parameters, batch, moved)
    assert loss == expected_loss
    assert set(expected) - set(gradients) == {"embeddings.logits"}
    for name, value in gradients.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    losses = [text_loss.losses(network, parameters, batch, each) for each in (frozen, moved)]
    np.testing.assert_array_equal(*losses)


def test_a_batch_lists_its_segments_in_the_order_of_the_text():
    text = SegmentedText(stream_of(90), VOCAB_SIZE, np.dtype(np.float32), 1)
    batch = text.take(np.array([5, 0, 3]))
    assert batch.segments.tolist() == [0, 3, 5]
    assert batch.n_positions == text.positions(batch.segments).size
    places = [place for place, _ in batch.chunks()]
    assert [places[0].start, places[-1].stop] == [0, batch.n_positions]
    other = SegmentedText(stream_of(90, seed=2), VOCAB_SIZE, np.dtype(np.float32), 1)
    assert text.checksum() != other.checksum()
