"""What was not counted as a whole document is refused, and leaves the model as it was; files keep what was counted."""

import copy
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.made_up import as_text, told_by_two
from saffu.ngram_lm import text_blocks
from saffu.utils import checkpoint
from saffu.utils.arrays import ranges

VOCAB_SIZE = 13
SHAPE = {"radius": 2, "order": 3, "windows": (9,), "induction": 10}
UNITS = {"bits": 3, "radius": 2, "hidden": 4, "span": 32, "n_threads": 1}
PROBE = told_by_two(60, 9, VOCAB_SIZE, 0.5)
DOCUMENTS = [told_by_two(n, n, VOCAB_SIZE, 0.5).tolist() for n in (3, 40, 75, 41, 1, 60, 90, 2, 33)]
DOCUMENTS[4] = [7]  # others begin with it, too


def joined(numbers):
    documents = [DOCUMENTS[j] for j in numbers]
    lengths = [len(document) for document in documents]
    return list(itertools.chain(*documents)), np.cumsum([0, *lengths])[:-1]


def as_saved(model):
    """What a file would hold, all of it."""
    arrays, metadata = model._to_checkpoint()
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}, json.dumps(
        metadata
    )


def through_a_file(model, folder):
    model.save(folder / "model.saffu")
    return saffu.load(folder / "model.saffu")


def assert_refused(model, ids, documents=None):
    before = as_saved(model)
    with pytest.raises(ValueError, match=r"counted|learned|never added"):
        model.subtract(ids, documents=documents)
    assert as_saved(model) == before


# ---- explicit models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [text_blocks.LIMIT, 150])
@settings(max_examples=8)
@given(data=st.data())
def test_learning_and_forgetting_at_random_equals_a_fit_to_what_is_left(limit, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "BLOCK", 32)
        patch.setattr(text_blocks, "LIMIT", limit)
        model, left = saffu.ExplicitLM(**SHAPE).partial_fit([], vocab_size=VOCAB_SIZE), []
        numbers = st.lists(st.integers(0, len(DOCUMENTS) - 1), min_size=1, max_size=4)
        for step in range(data.draw(st.integers(2, 6))):
            chosen = data.draw(numbers)
            if step == 0 or data.draw(st.booleans()):
                model.update(**as_text(joined(chosen)))
                left += chosen
                continue
            rest = list(left)
            for j in chosen:
                if j in rest:
                    rest.remove(j)
                else:
                    assert_refused(model, *joined(chosen))
                    break
            else:
                model.subtract(**as_text(joined(chosen)))
                left = rest
        if not left:
            np.testing.assert_allclose(model.prime().distribution([]), 1 / VOCAB_SIZE)
            return
        whole = saffu.ExplicitLM(**SHAPE).fit(joined(left)[0], vocab_size=VOCAB_SIZE, documents=joined(left)[1])
        model.prime()
        for one, other in zip(model.counts.tables, whole.counts.tables, strict=True):
            assert (one != other).nnz == 0
        halvings, expected = (each.counted.sample.blocks()[1] for each in (model, whole))
        if halvings == expected:  # as much is kept as if nothing had been forgotten
            np.testing.assert_array_equal(model.solution.scalars, whole.solution.scalars)
            np.testing.assert_array_equal(model.log_prob(PROBE), whole.log_prob(PROBE))


@pytest.mark.parametrize("limit", [text_blocks.LIMIT, 100])
def test_halves_pairs_and_joined_documents_are_refused(monkeypatch, tmp_path, limit):
    """As many blocks as may be kept or not: what was not a document is refused, and what was can be forgotten."""
    monkeypatch.setattr(text_blocks, "BLOCK", 32)
    monkeypatch.setattr(text_blocks, "LIMIT", limit)
    every = range(len(DOCUMENTS))
    model = saffu.ExplicitLM(**SHAPE).fit(joined(every)[0], vocab_size=VOCAB_SIZE, documents=joined(every)[1])
    for one in (model, through_a_file(model, tmp_path)):
        long = DOCUMENTS[6]
        for ids, documents in [
            (long[:45], None),
            (long[:32], None),
            (long[45:], None),
            (long[32:], None),
            (long, [0, 45]),
            (long[3:5], None),
            ([*DOCUMENTS[1], *DOCUMENTS[2]], None),
            (DOCUMENTS[8][:-1], None),  # the open one
            ([*long, *long], [0, 90]),
        ]:
            assert_refused(one, ids, documents)
        for j in (6, 8, 1):
            one.subtract(DOCUMENTS[j])
            assert_refused(one, DOCUMENTS[j])
        rest = [0, 2, 3, 4, 5, 7]
        same = saffu.ExplicitLM(**SHAPE).fit(joined(rest)[0], vocab_size=VOCAB_SIZE, documents=joined(rest)[1])
        for mine, theirs in zip(one.counts.tables, same.counts.tables, strict=True):
            assert (mine != theirs).nnz == 0


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out", "kneser-ney", "unit"])
def test_a_model_that_forgot_everything_saves_loads_and_learns(tmp_path, priming):
    ids, documents = joined([1, 2, 1])
    model = (
        saffu.ExplicitLM(**SHAPE, priming=priming)
        .fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
        .subtract(ids, documents=documents)
    )
    again = through_a_file(model, tmp_path)
    np.testing.assert_array_equal(again.distribution(PROBE[:5]), model.distribution(PROBE[:5]))
    assert_refused(again, DOCUMENTS[1])
    new = saffu.ExplicitLM(**SHAPE, priming=priming).fit(DOCUMENTS[3], vocab_size=VOCAB_SIZE)
    np.testing.assert_array_equal(again.update(DOCUMENTS[3]).prime().log_prob(PROBE), new.log_prob(PROBE))


def test_an_open_document_counts_as_it_is_and_goes_on_after_a_file(tmp_path):
    model = saffu.ExplicitLM(**SHAPE).partial_fit(DOCUMENTS[6][:50], vocab_size=VOCAB_SIZE)
    again = through_a_file(model, tmp_path)
    copy.deepcopy(again).subtract(DOCUMENTS[6][:50])
    again.update(DOCUMENTS[6][50:])
    assert_refused(again, DOCUMENTS[6][:50])
    assert again.subtract(DOCUMENTS[6]).n_tokens == 0


def test_growth_needs_the_documents_that_were_counted():
    ids, documents = joined([1, 2, 3])
    model = saffu.ExplicitLM(**SHAPE).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    for other in (None, [0, 40]):
        with pytest.raises(ValueError, match="ids must be the text"):
            model.grow(ids, documents=other, windows=(9, 20))
    for grown in (
        model.grow(order=4),
        model.grow(**as_text(joined([2, 3, 1])), order=4),
    ):  # with the open document elsewhere
        grown.partial_fit([1, 2, 3])
        whole = saffu.ExplicitLM(radius=2, order=4).partial_fit(
            [*ids, 1, 2, 3], vocab_size=VOCAB_SIZE, documents=documents
        )
        for mine, theirs in zip(grown.counts.tables, whole.counts.tables, strict=True):
            assert (mine != theirs).nnz == 0


# ---- networks of units -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_another", [False, True])
def test_a_network_refuses_what_it_did_not_hear(tmp_path, on_another):
    ids, documents = joined([1, 2, 3])
    base = saffu.ExplicitLM(**SHAPE) if on_another else None
    model = saffu.SaffuLM(**UNITS, residual=base).fit(ids, documents=documents, vocab_size=VOCAB_SIZE)
    model.update(**as_text(joined([6, 5])))
    refused = [(DOCUMENTS[1][::-1], None), (DOCUMENTS[6][:45], None), (ids, None), *[joined([5, 5])]]
    others = through_a_file(model, tmp_path), model.grow(hidden=6), model.refine(ids, epochs=1, documents=documents)
    for one in (model, *others):
        for text in refused[: 2 if on_another else None]:
            assert_refused(one, *text)
    for one in (model, others[0]):
        one.subtract(DOCUMENTS[5]).subtract(**as_text(joined([1, 6])))
        assert_refused(one, DOCUMENTS[5])
        np.testing.assert_array_equal(one._fitted.output.counts, np.bincount(joined([2, 3])[0], minlength=VOCAB_SIZE))


@pytest.mark.parametrize("on_another", [False, True])
def test_a_network_that_forgot_everything_saves_loads_and_learns(tmp_path, on_another):
    ids, documents = joined([1, 2])
    base = saffu.ExplicitLM(**SHAPE) if on_another else None
    model = saffu.SaffuLM(**UNITS, residual=base).fit(ids, documents=documents, vocab_size=VOCAB_SIZE)
    model.subtract(ids, documents=documents)
    again = through_a_file(model, tmp_path)
    np.testing.assert_array_equal(again.log_prob(PROBE), model.log_prob(PROBE))
    assert np.isfinite(again.update(DOCUMENTS[3]).log_prob(PROBE)).all()
    assert again.n_parameters == model.n_parameters


def test_a_network_of_an_older_file_refuses_what_its_counts_do_not_hold(tmp_path):
    model = saffu.SaffuLM(**UNITS).fit(joined([1, 2])[0], vocab_size=VOCAB_SIZE)
    arrays, metadata = model._to_checkpoint()
    arrays = {name: array for name, array in arrays.items() if not name.startswith("documents.")}
    checkpoint.write(tmp_path / "older.saffu", "saffu-lm", arrays, metadata)
    older = saffu.load(tmp_path / "older.saffu")
    np.testing.assert_array_equal(older.log_prob(PROBE), model.log_prob(PROBE))
    assert_refused(older, [3] * 400)
    through_a_file(older.update(DOCUMENTS[3]).subtract(DOCUMENTS[3]), tmp_path)


# ---- files of older versions -----------------------------------------------------------------------------------------


def older_file(path, model, ids, documents, stride, block=8192):
    """As it was written by versions that kept every ``stride``-th block of the stream."""
    arrays, metadata = model._to_checkpoint()
    arrays = {name: array for name, array in arrays.items() if not name.startswith(("sample.", "documents."))}
    first = np.arange(0, len(ids), stride * block)
    last = np.minimum(first + block, len(ids))
    starts = [documents[(documents >= a) & (documents < b)] - a for a, b in zip(first, last, strict=True)]
    arrays["sample.ids"] = np.array(ids, np.int32)[ranges(first, last)]
    arrays["sample.starts"] = np.concatenate(starts).astype(np.int64)
    arrays["sample.lengths"] = np.stack([last - first, [s.size for s in starts]], axis=1)
    del metadata["sample"]
    checkpoint.write(path, "explicit-lm", arrays, metadata | {"sample_seen": len(ids), "sample_stride": stride})
    return saffu.load(path)


def test_an_older_file_of_all_text_knows_its_documents(tmp_path):
    ids, documents = joined(range(len(DOCUMENTS)))
    model = saffu.ExplicitLM(**SHAPE).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    older = older_file(tmp_path / "older.saffu", model, ids, documents, 1, 64)
    assert as_saved(older) == as_saved(model)
    assert_refused(older, DOCUMENTS[6][:45])
    older.update([1, 2, 3]).subtract(DOCUMENTS[6]).subtract([*DOCUMENTS[8], 1, 2, 3]).prime()


def test_an_older_file_of_a_part_of_the_text_goes_by_its_counts(tmp_path, monkeypatch):
    every = [*range(len(DOCUMENTS))] * 3
    ids, documents = joined(every)
    model = saffu.ExplicitLM(**SHAPE).fit(ids, vocab_size=VOCAB_SIZE, documents=documents)
    older = older_file(tmp_path / "older.saffu", model, ids, documents, 4, 32)
    np.testing.assert_array_equal(older.log_prob(PROBE), model.log_prob(PROBE))
    assert older.counted.sample.halvings == 2
    kept = older.counted.sample.n_tokens
    assert kept == sum(min(32, len(ids) - a) for a in range(0, len(ids), 128))
    assert_refused(older, [5] * 900)
    with pytest.raises(ValueError, match="ids must be given"):
        older.grow(order=4)
    for _ in range(3):
        for j in range(1, 7):
            older.subtract(DOCUMENTS[j])
            older.prime()  # no text is primed on that is not counted
    assert older.counted.sample.n_tokens < kept
    again = through_a_file(older.update([3, 4, 5]), tmp_path)
    again.merge(model).prime()
    assert again.n_tokens == 3 * sum(len(DOCUMENTS[j]) for j in (0, 7, 8)) + 3 + len(ids)
    monkeypatch.setattr(text_blocks, "LIMIT", 40)
    assert again.update(DOCUMENTS[1]).counted.sample.n_tokens <= 40
