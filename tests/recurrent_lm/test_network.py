"""The network against its equations, step by step, and its gradients against differences."""

import numpy as np
import pytest

from helpers import recurrent
from helpers.gradients import central_differences
from saffu.recurrent_lm import network, output_layer
from saffu.recurrent_lm.network import TOKENS, Segment
from saffu.utils.threads import Workers

SIZES = pytest.mark.parametrize(("cells", "layers"), [(3, 1), (5, 1), (5, 2), (3, 2)])
V, DIM = 6, 3


def arrays_of(cells, layers, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    shapes = network.shapes(V, DIM, cells, layers)
    return {name: (0.7 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}


def segment_of(n_steps, n_groups=1, n_streams=2, seed=0):
    """Inputs of streams, in each of which another document may start anywhere."""
    rng = np.random.default_rng(seed)
    shape = n_groups, n_steps, n_streams
    starts = rng.random(shape) < 0.2
    return Segment(np.where(starts, V, rng.integers(0, V, shape)), starts), rng.integers(0, V, shape).astype(np.int32)


def loss_of(arrays, segment, targets, state, workers, seed=None):
    rng = None if seed is None else np.random.default_rng(seed)
    found = network.forward(workers, arrays, segment, state, 0.0 if seed is None else 0.4, rng)
    H = found.outputs.reshape(-1, DIM)
    return -output_layer.log_prob(workers, arrays[TOKENS], H, targets.reshape(-1)).mean(), found, H


@SIZES
@pytest.mark.parametrize("seed", [None, 7])
def test_gradients_are_those_of_differences(cells, layers, seed):
    arrays, workers = arrays_of(cells, layers), Workers(1)
    segment, targets = segment_of(4)
    rng = np.random.default_rng(5)
    state = [tuple(rng.standard_normal(part.shape) for part in each) for each in network.zero_state(arrays, 2)]
    expected = central_differences(arrays, lambda each: loss_of(each, segment, targets, state, workers, seed)[0])
    loss, found, H = loss_of(arrays, segment, targets, state, workers, seed)
    gradients = {name: np.full_like(value, np.nan) for name, value in arrays.items()}
    got = output_layer.OutputLayer(workers).loss_and_gradients(
        arrays[TOKENS], H, targets.reshape(-1), gradients[TOKENS]
    )
    network.backward(workers, arrays, segment, found, got.states, gradients)
    assert got.loss == pytest.approx(loss, abs=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-9, err_msg=name)


@SIZES
def test_states_are_those_of_one_step_at_a_time(cells, layers):
    arrays = arrays_of(cells, layers)
    document = [3, 1, 4, 1, 5]
    inputs = np.array([V, *document])[None, :, None]
    segment = Segment(inputs, inputs == V)
    found = network.forward(Workers(1), arrays, segment, network.zero_state(arrays, 1))
    rows = output_layer.log_probs(Workers(1), arrays[TOKENS], found.outputs.reshape(-1, DIM))
    np.testing.assert_allclose(rows, recurrent.document_log_probs(arrays, document), atol=1e-12)


def test_the_state_is_carried_from_segment_to_segment():
    arrays, workers = arrays_of(5, 2), Workers(1)
    segment, _ = segment_of(9, n_groups=2, n_streams=3)
    state = network.zero_state(arrays, 6)
    whole = network.forward(workers, arrays, segment, state)
    parts = []
    for times in (slice(0, 4), slice(4, 5), slice(5, 9)):
        found = network.forward(workers, arrays, Segment(*(each[:, times] for each in segment)), state)
        state = found.state
        parts.append(found.outputs)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole.outputs, atol=1e-13)
    for one, other in zip(state, whole.state, strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-13)
        np.testing.assert_allclose(one[1], other[1], atol=1e-13)


def test_a_start_forgets_all_before():
    arrays, workers = arrays_of(5, 1), Workers(1)
    inputs = np.array([[0, 2, V, 4, 1], [5, 3, V, 4, 1]]).T[None]
    outputs = network.forward(workers, arrays, Segment(inputs, inputs == V), network.zero_state(arrays, 2)).outputs[0]
    assert not np.allclose(outputs[1, 0], outputs[1, 1], atol=1e-3)
    np.testing.assert_array_equal(outputs[2:, 0], outputs[2:, 1])


def test_rows_are_added_where_they_belong():
    rng = np.random.default_rng(0)
    total, rows, values = rng.random((7, 3)), rng.integers(0, 7, 40), rng.random((40, 3))
    expected = total.copy()
    np.add.at(expected, rows, values)
    network.add_rows(total, rows, values)
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_dropout_keeps_the_mean():
    mask = network.dropout_mask((200, 300), 0.3, np.dtype(np.float32), np.random.default_rng(0))
    assert mask.dtype == np.float32
    assert set(np.unique(mask).tolist()) == {0.0, float(np.float32(1 / 0.7))}
    assert mask.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("n_positions", [1, 559, 561, 1200])
def test_blocks_of_positions_give_one_loss(n_positions, monkeypatch):
    rng = np.random.default_rng(0)
    tokens, H = rng.standard_normal((9, 4)), rng.standard_normal((n_positions, 3))
    targets = rng.integers(0, 8, n_positions).astype(np.int32)
    found = []
    for rows, columns, held in ((output_layer.ROWS, output_layer.COLUMNS, 1 << 25), (5000, 3, 1 << 25), (100, 3, 2000)):
        monkeypatch.setattr(output_layer, "ROWS", rows)
        monkeypatch.setattr(output_layer, "COLUMNS", columns)
        monkeypatch.setattr(output_layer, "LOGITS", held)
        gradient = np.empty_like(tokens)
        loss, states = output_layer.OutputLayer(Workers(2)).loss_and_gradients(tokens, H, targets, gradient)
        found.append((loss, states, gradient))
    for one, *others in zip(*found, strict=True):
        for other in others:
            np.testing.assert_allclose(one, other, atol=1e-12)
    assert found[0][0] == pytest.approx(-output_layer.log_prob(Workers(1), tokens, H, targets).mean(), abs=1e-12)
