"""The sample of text that priming reads: what it holds depends on the documents alone."""

import collections
import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saffu
from helpers.made_up import told_by_two
from saffu.attention_lm import output_layer as output
from saffu.ngram_lm import priming as priming_module
from saffu.ngram_lm import text_blocks
from saffu.ngram_lm import text_sample_files as sample_files
from saffu.ngram_lm.contexts import PRIMINGS
from saffu.ngram_lm.cross_fitting import HeldOutLogits
from saffu.ngram_lm.text_sample import TokenSample
from saffu.utils import fingerprints
from saffu.utils.fingerprints import Multiset
from saffu.utils.streams import TokenStream
from saffu.utils.threads import Workers

SHAPE = {"radius": 2, "order": 3, "windows": (9,), "induction": 20}
VOCAB_SIZE = 23
MASK = 2**64 - 1

some_documents = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


def stream_of(documents):
    lengths = [len(document) for document in documents]
    ids = np.array(list(itertools.chain(*documents)), np.int32)
    return TokenStream(ids, np.cumsum([0, *lengths[:-1]]).astype(np.int64)[: len(lengths)])


def naive_fingerprint(document):
    total = 0
    for place, token in enumerate(document):
        z = place << 31 | token
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        total += z ^ (z >> 31)
    return total & MASK


@contextlib.contextmanager
def small(block=5, limit=20):
    """Small blocks, and few of them kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "BLOCK", block)
        patch.setattr(text_blocks, "LIMIT", limit)
        patch.setattr(fingerprints, "SLICE", 7)
        yield


def naive_sample(documents, block=5, limit=20):
    """Key: (tokens, how often, whether it opens a document), of the blocks that are kept; and k."""
    found = collections.Counter()
    for document in documents:
        for first in range(0, len(document), block):
            key = naive_fingerprint(document[: first + block])
            found[key, tuple(document[first : first + block]), first == 0] += 1
    for halvings in itertools.count():
        kept = {key: (tokens, n, opens) for (key, tokens, opens), n in found.items() if key < 2 ** (64 - halvings)}
        if sum(len(tokens) for tokens, _, _ in kept.values()) <= limit:
            return kept, halvings


def contents(text):
    blocks, halvings = text.blocks()
    assert (np.diff(blocks.keys.astype(object)) > 0).all()
    ends = np.cumsum(blocks.lengths)
    tokens = [tuple(blocks.ids[b - a : b].tolist()) for a, b in zip(blocks.lengths, ends, strict=True)]
    rows = zip(blocks.keys.tolist(), tokens, blocks.counts.tolist(), blocks.opens.tolist(), strict=True)
    return {key: tuple(rest) for key, *rest in rows}, halvings


def sampled(documents, cuts=()):
    """The sample of a stream that comes in chunks."""
    ids, starts = stream_of(documents)
    found = TokenSample()
    for first, last in itertools.pairwise([0, *sorted(cut % (ids.size + 1) for cut in cuts), ids.size]):
        inside = starts[(starts >= first) & (starts < last)] - first
        found = found.plus(TokenStream(ids[first:last], inside))
    return found


# ---- fingerprints ----------------------------------------------------------------------------------------------------


@given(some_documents, st.integers(1, 9))
def test_fingerprints_are_sums_of_mixed_numbers(documents, piece):
    old, fingerprints.SLICE = fingerprints.SLICE, piece
    try:
        found = fingerprints.of_documents(stream_of(documents))
    finally:
        fingerprints.SLICE = old
    assert found.tolist() == [naive_fingerprint(document) for document in documents]


@given(some_documents, some_documents, st.integers(0, 12))
def test_multisets_count(one, other, n_taken):
    keys, more = (fingerprints.of_documents(stream_of(documents)) for documents in (one, other))
    taken = keys[:n_taken]
    found = Multiset().plus(more)
    for key in keys:
        found = found.plus(key[None])
    found = found.plus(taken, -1).merge(Multiset().plus(more))
    expected = collections.Counter([*keys.tolist(), *2 * more.tolist()])
    expected.subtract(taken.tolist())
    expected = +expected
    assert dict(zip(*(array.tolist() for array in found.all()), strict=True)) == expected
    asked = np.unique(np.concatenate([keys, more, np.array([5], np.uint64)]))
    assert found.count(asked).tolist() == [expected[key] for key in asked.tolist()]
    all_of_it = np.array(list(expected.elements()), np.uint64)
    assert found.holds(all_of_it)
    assert not found.holds(np.append(all_of_it, all_of_it[:1] if all_of_it.size else np.uint64(5)))


# ---- the sample ------------------------------------------------------------------------------------------------------


@given(documents=some_documents, cuts=st.lists(st.integers(0, 150), max_size=6))
def test_the_sample_is_that_of_the_documents_in_any_chunks(documents, cuts):
    with small():
        assert contents(sampled(documents, cuts)) == naive_sample(documents)


@given(st.lists(some_documents, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_sample_is_that_of_the_documents_in_any_order_of_merging(shards, random):
    with small():
        models = [sampled(documents) for documents in shards]
        while len(models) > 1:
            random.shuffle(models)
            models.append(models.pop().merge(models.pop()))
        documents = list(itertools.chain(*shards))
        assert contents(models[0]) == naive_sample(documents)
        expected = collections.Counter(naive_fingerprint(document) for document in documents)
        assert dict(zip(*(a.tolist() for a in models[0].closed().documents.all()), strict=True)) == expected


@given(some_documents, some_documents, st.lists(st.integers(0, 150), max_size=3), st.randoms(use_true_random=False))
def test_what_was_forgotten_leaves_nothing(kept, gone, cuts, random):
    documents = [*kept, *gone]
    random.shuffle(documents)
    with small(limit=1000):
        found = sampled(documents, cuts).without(stream_of(gone))
        assert contents(found) == naive_sample(kept, limit=1000)
        assert sorted(documents_of(found.whole())) == sorted(kept)
    with small():  # a part of the text: what is left of it is that of the rest, at the halvings that there were
        found, before = sampled(documents, cuts).without(stream_of(gone)), naive_sample(documents)[1]
        left, _ = naive_sample(kept, limit=1000)
        halvings = contents(found)[1]
        assert naive_sample(kept)[1] <= halvings <= before
        assert contents(found)[0] == {k: v for k, v in left.items() if k < 2 ** (64 - halvings)}


@given(some_documents, st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_what_was_not_counted_is_refused(documents, other):
    with small():
        found = sampled(documents)
        before = sample_files.write(found)
        if other not in documents:
            with pytest.raises(ValueError, match="must have been counted, and be given whole"):
                found.without(stream_of([other]))
        with pytest.raises(ValueError, match="must have been counted"):
            found.without(stream_of([documents[0]] * (documents.count(documents[0]) + 1)))
        assert_equal_files(sample_files.write(found), before)


@given(some_documents, some_documents)
def test_where_documents_are_not_known_what_occurs_in_one_that_goes_is_left_out(kept, gone):
    with small(limit=1000):
        found = sampled([*kept, *gone])
        known, _ = contents(found)
        left = TokenSample([found.blocks()[0]], 0, None, None).without(stream_of(gone))

        def occurs(tokens):
            texts = [tuple(document) for document in gone]
            return any(tokens == text[a : a + len(tokens)] for text in texts for a in range(len(text)))

        assert contents(left)[0] == {key: block for key, block in known.items() if not occurs(block[0])}


def documents_of(text):
    ends = np.append(text.starts, text.ids.size)
    return [text.ids[a:b].tolist() for a, b in itertools.pairwise(ends)]


def assert_equal_files(one, other):
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    for name, array in one[0].items():
        np.testing.assert_array_equal(array, other[0][name])


@given(some_documents, st.lists(st.integers(0, 150), max_size=3))
def test_the_whole_text_is_told_from_its_blocks(documents, cuts):
    with small(limit=1000):
        found = sampled(documents, cuts)
        assert found.is_whole
        told = documents_of(found.whole())
        assert sorted(told) == sorted(documents)
        assert told[-1] == documents[-1]
        assert found.is_all(found.whole())
        assert not found.is_all(stream_of([*documents, [0]]))
    assert TokenSample().whole().ids.size == 0


@given(some_documents, st.integers(1, 6), st.integers(5, 150))
def test_pieces_are_the_blocks_in_an_order_of_their_own(documents, length, limit):
    with small(limit=limit):
        pieces = sampled(documents).pieces(length)
        found = [tuple(pieces.ids[a : a + n].tolist()) for a, n in zip(pieces.first, pieces.lengths, strict=True)]
        again = sampled(documents[::-1], [3, 8]).pieces(length)
        for one, other in zip(pieces.only(slice(None)), again, strict=True):
            np.testing.assert_array_equal(one, other)
        ids, starts = pieces.joined()
        assert documents_of(TokenStream(ids, starts)) == [list(piece) for piece in found]
        assert pieces.lengths.sum() <= limit
        blocks, halvings = naive_sample(documents, limit=limit)
        if sum(n * len(tokens) for tokens, n, _ in blocks.values()) <= limit and not halvings:
            expected = collections.Counter()
            for tokens, n, opens in blocks.values():
                for first in range(0, len(tokens), length):
                    expected[tokens[first : first + length], opens and first == 0] += n
            assert collections.Counter(zip(found, pieces.opens.tolist(), strict=True)) == expected


def test_equal_documents_are_spread_over_the_order():
    """A million copies of two documents: both are among the first pieces, and not more than fit."""
    one, other = [1, 2, 3], [4, 5, 6]
    found = TokenSample()
    for _ in range(20):
        found = found.plus(stream_of([one] * 50_000)).plus(stream_of([other] * 50_000))
    pieces = found.pieces(8192)
    assert text_blocks.LIMIT / 3 < pieces.lengths.sum() <= text_blocks.LIMIT
    first = pieces.ids[pieces.first[:1000]]
    assert 400 < np.count_nonzero(first == 1) < 600


def test_a_sample_of_many_documents_is_small():
    rng = np.random.default_rng(0)
    found = TokenSample()
    for _ in range(3):
        found = found.plus(TokenStream.of(rng.integers(0, 1000, 1_500_000), np.arange(0, 1_500_000, 15)))
    blocks, halvings = found.blocks()
    assert halvings == 2
    assert 0.9 * text_blocks.LIMIT < 2 * blocks.ids.size < 1.1 * text_blocks.LIMIT + 300_000
    assert len(found.parts) < 20
    assert len(found.documents.pieces) < 20


# ---- any sharding and any order, to the bit --------------------------------------------------------------------------


TEXT = told_by_two(1500, 0, VOCAB_SIZE, 0.5).astype(np.int32)
STARTS = np.unique([0, *range(40, 1500, 97), 55, 56, 58, 900, 1499])
DOCUMENTS = [part.tolist() for part in np.split(TEXT, STARTS[1:])]
PROBE = told_by_two(200, 1, VOCAB_SIZE, 0.5).astype(np.int32)


def fitted(documents, priming):
    ids, starts = stream_of(documents)
    return saffu.ExplicitLM(**SHAPE, priming=priming).fit(ids, vocab_size=VOCAB_SIZE, documents=starts)


def same_model(one, other):
    np.testing.assert_array_equal(one.solution.primed_scalars(), other.solution.primed_scalars())
    np.testing.assert_array_equal(one.log_prob(PROBE), other.log_prob(PROBE))
    if one.solution.bounds is not None or other.solution.bounds is not None:
        np.testing.assert_array_equal(one.solution.bounds, other.solution.bounds)


WHOLE = {}


@pytest.mark.parametrize("limit", [text_blocks.LIMIT, 900])
@pytest.mark.parametrize("priming", PRIMINGS)
@settings(max_examples=4)
@given(data=st.data())
def test_merged_models_of_whole_documents_equal_one_fit(priming, limit, data):
    with small(64, limit):
        if (priming, limit) not in WHOLE:
            WHOLE[priming, limit] = fitted(DOCUMENTS, priming)
        shard_of = data.draw(st.lists(st.integers(0, 4), min_size=len(DOCUMENTS), max_size=len(DOCUMENTS)))
        order = data.draw(st.permutations(range(len(DOCUMENTS))))
        shards = collections.defaultdict(list)
        for j in order:
            shards[shard_of[j]].append(DOCUMENTS[j])
        models = []
        for number, documents in shards.items():
            model = saffu.ExplicitLM(**SHAPE, priming=priming)
            ids, starts = stream_of(documents)
            if number % 2:
                model.fit(ids, vocab_size=VOCAB_SIZE, documents=starts)
            else:
                cut = data.draw(st.integers(0, ids.size))
                model.partial_fit(ids[:cut], vocab_size=VOCAB_SIZE, documents=starts[starts < cut])
                model.update(ids[cut:], documents=starts[starts >= cut] - cut)
            models.append(model)
        while len(models) > 1:
            one = models.pop(data.draw(st.integers(0, len(models) - 1)))
            models[data.draw(st.integers(0, len(models) - 1))].merge(one)
        same_model(models[0].prime(), WHOLE[priming, limit])


def test_400_models_of_one_document_each_equal_one_fit():
    shape = {"radius": 1, "order": 3, "windows": (), "induction": 0}
    ids = told_by_two(2000, 3, VOCAB_SIZE, 0.5).astype(np.int32)
    starts = np.append(0, np.sort(np.random.default_rng(0).choice(np.arange(1, 2000), 399, replace=False)))
    merged = saffu.ExplicitLM(**shape)
    for document in np.split(ids, starts[1:])[::-1]:
        merged.merge(saffu.ExplicitLM(**shape).partial_fit(document, vocab_size=VOCAB_SIZE))
    same_model(merged, saffu.ExplicitLM(**shape).fit(ids, vocab_size=VOCAB_SIZE, documents=starts))


def test_saved_models_merge_like_others(tmp_path):
    for name, documents in (("one", DOCUMENTS[:7]), ("two", DOCUMENTS[7:])):
        fitted(documents, "k-fold").save(tmp_path / name)
    one, two = saffu.load(tmp_path / "one"), saffu.load(tmp_path / "two")
    same_model(two.merge(one), fitted(DOCUMENTS, "k-fold"))


# ---- orders that repeat ----------------------------------------------------------------------------------------------


def test_documents_of_two_kinds_in_turns_prime_as_when_shuffled():
    """Every second document is noise, and the others are told by the token before: no sample may hear one kind only."""
    rng = np.random.default_rng(0)
    noise, told = rng.integers(0, 50, (80, 8192)), (rng.integers(50, 100, (80, 1)) + np.arange(8192)) % 50 + 50
    documents = np.stack([noise, told], axis=1).reshape(160, 8192).astype(np.int32)
    starts = np.arange(0, documents.size, 8192)
    shape = {"radius": 1, "order": 2, "windows": (), "induction": 0}
    in_turns, shuffled = (
        saffu.ExplicitLM(**shape).fit(text.ravel(), vocab_size=100, documents=starts)
        for text in (documents, rng.permutation(documents))
    )
    np.testing.assert_array_equal(in_turns.solution.scalars, shuffled.solution.scalars)
    assert in_turns.perplexity(told[0]) < 1.05
    assert in_turns.perplexity(noise[0]) < 51


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out"])
@pytest.mark.parametrize("period", [4, 1024])
def test_positions_of_a_text_that_repeats_are_of_all_kinds(priming, period):
    """What is drawn to prime on has all places of the period alike."""
    ids = np.resize(np.random.default_rng(period).permutation(period), 90_000).astype(np.int32)
    model = saffu.ExplicitLM(radius=1, order=2, windows=(), induction=0, priming=priming).partial_fit(ids)
    parts = model.solution.priming_parts(model.solution.pooled_model(model.counts), model.counts)
    n = sum(part.positions.size for part in parts)
    for size in (n, n // 4, 6000):
        limit = priming_module._nth_key(parts, size)
        drawn = np.concatenate([thin.stream.ids[thin.positions] for thin in (part.thin(limit) for part in parts)])
        assert drawn.size == size
        phases = np.bincount(np.argsort(ids[:period])[drawn] % 4, minlength=4) / drawn.size
        np.testing.assert_allclose(phases, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / size))  # four standard errors


def test_no_fold_has_one_kind_of_documents_that_alternate():
    ids = np.concatenate([np.full(8192, j % 2) for j in range(40)])
    model = saffu.ExplicitLM(radius=1, order=2, windows=(), induction=0, priming="unit")
    model.fit(ids, vocab_size=2, documents=np.arange(0, ids.size, 8192))
    held_out = HeldOutLogits(model, ids, documents=np.arange(0, ids.size, 8192), folds=2)
    assert held_out.block_length == 8192
    for fold in range(2):
        assert 0.2 < ids[held_out.positions(fold)].mean() < 0.8


def test_each_part_that_scalars_are_first_fitted_to_is_of_the_whole_text():
    class Text:
        n_outputs, blocks, workers, alone = 3, [slice(0, 1)], Workers(1), True

        def hidden(self, positions):
            return positions[:, None].astype(np.float32)

        def targets(self, positions):
            return (positions % 3).astype(np.int32)

        def base(self, positions, out):
            out[:] = positions[:, None]

    rng, positions = np.random.default_rng(0), np.arange(20_000)
    for n in (0, 1, 300, 3000):
        is_primed, is_compared = np.zeros((2, positions.size), bool)
        is_primed[rng.choice(positions.size, n, replace=False)] = True
        is_compared[rng.choice(positions.size, 700, replace=False)] = True
        _, primed, compared = output._read(Text(), positions, is_primed, is_compared)
        np.testing.assert_array_equal(np.sort(primed.positions), np.flatnonzero(is_primed))
        np.testing.assert_array_equal(compared.positions, np.flatnonzero(is_compared))
        for scored in (primed, compared):
            np.testing.assert_array_equal(scored.H[:, 0], scored.positions)
            np.testing.assert_array_equal(scored.logits[:, 2], scored.positions)
            assert [part.start for part in scored.parts] == [0, *(part.stop for part in scored.parts)][:-1]
            assert sum(part.stop - part.start for part in scored.parts) == scored.positions.size
        for part in primed.parts:
            own = primed.positions[part]
            assert own.size <= output.ROWS
            assert (np.diff(own) > 0).all()
            assert n < 300 or (own.min() < 2000 and own.max() > 18_000)
