"""Pruned texts in files: any tables come back, files of before load, damage is refused."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.made_up import told_by_two
from saffu.ngram_lm import priming, pruned_text_files
from saffu.ngram_lm.contexts import Contexts
from saffu.ngram_lm.pruned_text import PrunedText, rounded, step_of, table_of
from saffu.ngram_lm.pruning import MAX_LOSS
from saffu.ngram_lm.statistics import Statistics
from saffu.utils import checkpoint
from saffu.utils.coded_integers import decode, encode

VOCAB_SIZE = 23


@functools.cache
def model():
    """A pruned model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(priming, "FOLDS", 3)
        exact = saffu.ExplicitLM(radius=2, order=4, windows=(20,), induction=0)
        exact.fit(told_by_two(3000, 0, VOCAB_SIZE, 0.4, drift=500).astype(np.int64), vocab_size=VOCAB_SIZE)
        return exact.pruned(threshold=0.05)


# ---- rounding --------------------------------------------------------------------------------------------------------


@given(st.floats(1e-9, 2.0))
def test_the_step_is_a_power_of_two_near_the_root_of_the_loss(loss):
    step = step_of(loss)
    assert np.frexp(step)[0] == 0.5
    assert step**2 <= loss
    assert step == 1.0 or loss < 4 * step**2


def test_no_loss_allows_no_step():
    assert step_of(0.0) == step_of(1e-12) == 0.0
    assert step_of(MAX_LOSS) == 1 / 16


@given(st.lists(st.floats(-3.0, 20.0), min_size=1, max_size=30), st.sampled_from([0.0, 1 / 64, 1 / 16, 1.0]))
def test_weights_are_off_by_half_a_step_at_most(u, step):
    u = np.array(u)
    (table,) = rounded([table_of(np.ones(u.size, int), np.zeros(u.size, np.int32), u, np.ones(u.size), 1)], step)
    assert np.abs(table.u - u).max() <= (step / 2 if step else 2.0**-20)
    np.testing.assert_array_equal(table.u.astype(np.float32), table.u)
    np.testing.assert_array_equal(table.total > 0, table.u != 0)
    np.testing.assert_array_equal(rounded([table], step)[0].u, table.u)


# ---- any tables ------------------------------------------------------------------------------------------------------


@st.composite
def texts(draw):
    """A pruned text of tables of any shape, with large vocabularies and empty, single and full rows among them."""
    vocab_size = draw(st.sampled_from([1, 2, 300, 70_000]))
    step = draw(st.sampled_from([0.0, 1 / 256, 1 / 16, 1.0]))
    start_length = draw(st.sampled_from([0, 1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def table(n_rows, in_chain):
        lengths = np.zeros(n_rows, np.int64)
        filled = rng.integers(0, n_rows, draw(st.integers(0, 5))) if n_rows else []
        lengths[filled] = rng.integers(1, min(vocab_size, 40) + 1, len(filled))
        rows = [np.sort(rng.choice(vocab_size, length, replace=False)) for length in lengths if length]
        words = np.concatenate([*rows, np.empty(0, int)]).astype(np.int32)
        u = rng.normal(4.0, 5.0, words.size) * rng.integers(0, 2, words.size)  # some are only contexts
        total = rng.integers(1, 1000, n_rows).astype(float) if in_chain else np.ones(n_rows)
        return rounded([table_of(lengths, words, u, total, vocab_size)], step)[0]

    tables = [table(vocab_size + start_length, True), table(vocab_size, False)]
    tables.append(table(tables[0].u.size, True))
    unigram, followed = rng.integers(0, 1 << 40, vocab_size), np.ones(vocab_size, np.int64)
    statistics = Statistics(int(unigram.sum()), unigram, followed, np.zeros((0, 0), np.int64))
    return PrunedText(contexts_of(), statistics, tables, start_length, {"loss": 0.1}, step, 1)


def contexts_of():
    return Contexts(radius=2, order=3, windows=(), induction=0, priming="unit")


@settings(max_examples=60, deadline=None)
@given(texts(), st.sampled_from([None, np.array([5.0, 300.0])]))
def test_tables_come_back(text, bounds):
    arrays, metadata = pruned_text_files.write(text, bounds)
    found = pruned_text_files.read(arrays, metadata, text.contexts)
    assert (found.step, found.record, found.start_length) == (text.step, text.record, text.start_length)
    np.testing.assert_array_equal(found.unigram, text.unigram)
    np.testing.assert_array_equal(found.followed, text.followed)
    for j, (one, two) in enumerate(zip(text.weights.tables, found.weights.tables, strict=True)):
        np.testing.assert_array_equal(one.counts.indptr, two.counts.indptr)
        np.testing.assert_array_equal(one.counts.indices, two.counts.indices)
        np.testing.assert_array_equal(one.u, two.u)
        highest = 1.0 if bounds is None or j == 1 else 301.0
        np.testing.assert_array_equal(np.minimum(one.total, highest), two.total)
    again, same = pruned_text_files.write(found, bounds)
    assert same == metadata
    assert {name: a.tobytes() for name, a in again.items()} == {name: a.tobytes() for name, a in arrays.items()}


def test_many_rows_of_a_large_vocabulary_come_back():
    """The gaps of all rows together are more than an integer of 32 bits holds."""
    size = 70_000
    words = np.stack([np.arange(size), np.full(size, size - 1)], axis=1).astype(np.int32)
    words[-1, 0] = 0
    near = table_of(np.full(size, 2), words.reshape(-1), np.ones(2 * size), np.ones(size), size)
    assert words.sum(dtype=np.int64) > 1 << 32
    nothing = [
        table_of(np.zeros(n, int), np.empty(0, np.int32), np.empty(0), np.zeros(n), size) for n in (size, 2 * size)
    ]
    ones = np.ones(size, np.int64)
    text = PrunedText(
        contexts_of(), Statistics(size, ones, ones, np.zeros((0, 0), np.int64)), [near, *nothing], 0, {}, 1.0
    )
    found = pruned_text_files.read(*pruned_text_files.write(text, None), text.contexts)
    np.testing.assert_array_equal(found.weights.tables[0].counts.indices, near.counts.indices)


# ---- files of before -------------------------------------------------------------------------------------------------


def narrow(values):
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def as_before(arrays, metadata):
    """What the versions before coded integers wrote of the same text."""
    text = pruned_text_files.read(arrays, metadata, model().contexts)
    bounds = arrays["bounds"]
    found = {"scalars": arrays["scalars"], "bounds": bounds}
    found |= {"unigram": narrow(text.unigram), "followed": narrow(text.followed)}
    for j, table in enumerate(text.weights.tables):
        found[f"table{j}.lengths"] = narrow(np.diff(table.counts.indptr))
        found[f"table{j}.words"] = narrow(table.counts.indices)
        found[f"table{j}.weights"] = table.u.astype(np.float32)
        if j != 1:
            found[f"table{j}.totals"] = narrow(table.total[table.total > 0].astype(np.int64))
    return found, {name: value for name, value in metadata.items() if name != "step"}


@pytest.fixture
def saved(tmp_path):
    """Kind, arrays and metadata of a file."""
    model().save(tmp_path / "model")
    return checkpoint.read(tmp_path / "model")


def test_files_of_before_answer_with_the_same_bits(saved, tmp_path):
    kind, arrays, metadata = saved
    checkpoint.write(tmp_path / "before", kind, *as_before(arrays, metadata))
    before = saffu.load(tmp_path / "before")
    before.save(tmp_path / "again")
    assert 2 * (tmp_path / "model").stat().st_size < (tmp_path / "before").stat().st_size
    ids = np.arange(200) % VOCAB_SIZE
    for other in (before, saffu.load(tmp_path / "again")):
        np.testing.assert_array_equal(other.log_prob(ids), model().log_prob(ids))
        assert other.pruning == model().pruning
        assert other.scalars == model().scalars


BEFORE = {
    "table0.lengths": [lambda a: a + np.uint8(1), lambda a: a[1:], lambda a: a.astype(np.float32)],
    "table0.words": [lambda a: a[::-1].copy(), lambda a: a + np.uint8(VOCAB_SIZE)],
    "table3.words": [lambda a: a.astype(np.int8)],
    "table0.weights": [lambda a: np.full(a.shape, np.nan, a.dtype), lambda a: a.astype(np.float64)],
    "table0.totals": [lambda a: np.zeros_like(a), lambda a: a[1:]],
    "unigram": [lambda a: a * 2],
}


@pytest.mark.parametrize(("name", "change"), [(name, c) for name, changes in BEFORE.items() for c in changes])
def test_damaged_files_of_before_are_refused(saved, tmp_path, name, change):
    kind, arrays, metadata = saved
    arrays, metadata = as_before(arrays, metadata)
    checkpoint.write(tmp_path / "damaged", kind, {**arrays, name: change(arrays[name])}, metadata)
    with pytest.raises(ValueError, match="damaged explicit-lm model"):
        saffu.load(tmp_path / "damaged")


# ---- damage ----------------------------------------------------------------------------------------------------------


def recoded(change):
    """The integers changed, and coded again."""

    def changed(array, n_values):
        return encode(change(decode(array, n_values)))

    return changed


def raw(change):
    """The array changed as it is."""
    return lambda array, n_values: change(array)


def largest(value):
    """The last integer replaced."""
    return recoded(lambda a: np.append(a[:-1], value))


DAMAGED = {
    "table0.lengths": [recoded(lambda a: a + 1), recoded(lambda a: a[:-1]), largest(VOCAB_SIZE + 1), largest(1 << 50)],
    "table2.lengths": [recoded(lambda a: a[:-1]), recoded(lambda a: a * 0)],
    "table0.words": [
        recoded(lambda a: a + 1),
        recoded(lambda a: a[1:]),
        largest(VOCAB_SIZE),
        largest(1 << 50),
        recoded(lambda a: a * 0 + VOCAB_SIZE - 1),
        raw(lambda a: a[: a.size // 2].copy()),
        raw(lambda a: np.append(a, a)),
    ],
    "table3.words": [raw(lambda a: a.astype(np.int8)), raw(lambda a: a.reshape(1, -1))],
    "table0.weights": [recoded(lambda a: a[1:]), largest(1 << 31), raw(lambda a: a.astype(np.float32))],
    "table0.totals": [recoded(lambda a: a * 0), recoded(lambda a: a[1:])],
    "table2.totals": [recoded(lambda a: a[1:])],
    "lowest": [lambda a, n: a + 1, lambda a, n: a - (1 << 40), lambda a, n: a[1:], lambda a, n: a.astype(np.int32)],
    "unigram": [recoded(lambda a: a[1:]), recoded(lambda a: a * 2)],
    "followed": [recoded(lambda a: a * 0)],
    "scalars": [lambda a, n: a[:, 1:].copy()],
    "bounds": [lambda a, n: a + np.inf],
}


def n_values_of(name):
    """How many integers an array of the model stands for."""
    table, _, part = name.partition(".")
    if not part:
        return VOCAB_SIZE
    found = model().counted.weights.tables[int(table.removeprefix("table"))]
    return {"lengths": found.total.size, "totals": np.count_nonzero(found.total)}.get(part, found.u.size)


@pytest.mark.parametrize(("name", "change"), [(name, c) for name, changes in DAMAGED.items() for c in changes])
def test_damaged_arrays_are_refused(saved, tmp_path, name, change):
    kind, arrays, metadata = saved
    changed = {**arrays, name: change(arrays[name], n_values_of(name))}
    checkpoint.write(tmp_path / "damaged", kind, changed, metadata)
    with pytest.raises(ValueError, match="damaged explicit-lm model"):
        saffu.load(tmp_path / "damaged")


@pytest.mark.parametrize("name", [name for name in DAMAGED if name != "bounds"])
def test_arrays_that_are_missing_are_damage(saved, tmp_path, name):
    kind, arrays, metadata = saved
    checkpoint.write(tmp_path / "damaged", kind, {other: a for other, a in arrays.items() if other != name}, metadata)
    with pytest.raises(ValueError, match="damaged explicit-lm model"):
        saffu.load(tmp_path / "damaged")


@pytest.mark.parametrize("step", [-1.0, 2.0, 1e-300, float("1e300"), "much", None, True])
def test_steps_that_none_can_be_are_refused(saved, tmp_path, step):
    kind, arrays, metadata = saved
    checkpoint.write(tmp_path / "damaged", kind, arrays, {**metadata, "step": step})
    with pytest.raises(ValueError, match="damaged explicit-lm model"):
        saffu.load(tmp_path / "damaged")


def test_lengths_that_would_fill_the_memory_are_refused(saved, tmp_path):
    """Each row as long as the vocabulary: more than the stream of words can stand for is not even tried."""
    kind, arrays, metadata = saved
    arrays["table3.lengths"] = encode(np.full(n_values_of("table3.lengths"), VOCAB_SIZE))
    checkpoint.write(tmp_path / "damaged", kind, arrays, metadata)
    with pytest.raises(ValueError, match=r"array 'table3.words': coded integers must be"):
        saffu.load(tmp_path / "damaged")
