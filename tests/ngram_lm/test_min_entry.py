"""Rare entries dropped while counting: against a naive implementation over dictionaries."""

from collections import Counter

import numpy as np
import pytest

import saffu
from saffu.explicit.discounting import discounts
from saffu.ngram_lm import pruned_counts, spilled_counts
from saffu.ngram_lm.priming import FOLDS
from saffu.ngram_lm.statistics import Statistics
from saffu.ngram_lm.weights import NgramWeights

V, ORDER, RADIUS = 12, 4, 2


def text(seed=0, n=900):
    rng = np.random.default_rng(seed)
    ids = np.minimum(rng.zipf(1.5, n), V) - 1
    return ids, np.unique(np.append(0, rng.integers(0, n, 7)))


def fitted(min_entry, ids, documents, **settings):
    model = saffu.ExplicitLM(RADIUS, order=ORDER, windows=(), induction=0, min_entry=min_entry, **settings)
    return model.fit(ids, documents=documents, vocab_size=V)


def naive_counts(ids, documents):
    """For each table a counter of (context, word): pairs at distances 1 and 2, then suffixes of 2 and 3 tokens."""
    tables = [Counter() for _ in range(RADIUS + ORDER - 2)]
    for first, last in zip(documents, [*documents[1:], len(ids)], strict=True):
        document = [int(token) for token in ids[first:last]]
        for t, word in enumerate(document):
            tables[0][(document[t - 1] if t else V,), word] += 1
            if t >= 2:
                tables[1][(document[t - 2],), word] += 1
            for n in range(2, ORDER):
                if t >= n:
                    tables[RADIUS + n - 2][tuple(document[t - n : t]), word] += 1
    return tables


def rows_of(counts):
    """The same of model counts, and what was dropped from each row: contexts by following entries back."""
    contexts = [[(row,) for row in range(V + 1)], [(row,) for row in range(V)]]
    found, dropped = [], []
    for j, table in enumerate(counts.tables):
        row_of_entry = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        entries = [(contexts[j][r], int(w)) for r, w in zip(row_of_entry, table.indices, strict=True)]
        found.append(dict(zip(entries, table.data.tolist(), strict=True)))
        dropped.append({context: int(n) for context, n in zip(contexts[j], counts.dropped[j], strict=True) if n})
        if j != 1:  # the entries of a table of the chain are the contexts of the next
            contexts.append([(*context, word) for context, word in entries])
    return found, dropped


@pytest.mark.parametrize("min_entry", [(1, 1, 2), (1, 2, 2, 4), (1, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_kept_and_dropped(min_entry, seed):
    ids, documents = text(seed)
    counts = fitted(min_entry, ids, documents).counted.kept()
    of_order = [min_entry[min(n, len(min_entry) - 1)] for n in range(ORDER)]
    least = [of_order[1], of_order[1], of_order[2], of_order[3]]
    found, dropped = rows_of(counts)
    n_dropped = 0
    for table, n_least, kept, lost in zip(naive_counts(ids, documents), least, found, dropped, strict=True):
        assert kept == {entry: n for entry, n in table.items() if n >= n_least}
        known = {context for context, _ in kept}
        expected = Counter()
        for (context, _), n in table.items():
            if n < n_least and context in known:
                expected[context] += n
        assert lost == expected
        n_dropped += expected.total()
    assert n_dropped > 20


@pytest.mark.parametrize("min_entry", [(1, 1, 2), (1, 2, 2, 4)])
def test_probabilities_are_those_of_interpolated_discounting(min_entry):
    ids, documents = text()
    model = fitted(min_entry, ids, documents, priming="unit")
    counts = model.counted.kept()
    weights = NgramWeights(counts, False, 1)
    tables = naive_counts(ids, documents)
    found, dropped = rows_of(counts)
    chain = [0, *range(RADIUS, len(tables))]
    discount = [np.append(0.0, discounts(np.array(list(tables[j].values())))) for j in chain]

    def probability(n, context, word):
        """Of a word after a context of n tokens, by the recursion over shorter ones."""
        if n == 0:
            return weights.continuation[word]
        kept = {w: c for (x, w), c in found[chain[n - 1]].items() if x == context}
        lower = probability(n - 1, context[1:], word)
        if not kept:
            return lower
        d = discount[n - 1]
        total = sum(kept.values()) + dropped[chain[n - 1]].get(context, 0)
        discounted = {w: c - d[min(c, 3)] for w, c in kept.items()}
        return (discounted.get(word, 0.0) + (total - sum(discounted.values())) * lower) / total

    n_checked = 0
    stream = saffu.utils.streams.TokenStream.of(ids, documents)
    rows = weights.contexts(stream)
    for t in range(5, 300, 7):
        if stream.begins(np.array([t]))[0] > t - 3:
            continue
        context = tuple(int(token) for token in ids[t - 3 : t])
        p = np.array([probability(3, context, word) for word in range(V)])
        assert p.sum() == pytest.approx(1.0, abs=1e-12)
        log_odds = np.log(weights.continuation)
        for j in chain:
            row, table = rows[j, t], weights.tables[j]
            if row >= 0:
                entries = slice(table.counts.indptr[row], table.counts.indptr[row + 1])
                log_odds[table.counts.indices[entries]] += table.u[entries]
        # The weights of all suffixes add up to the logarithm of the interpolated distribution, but for its scale.
        assert np.exp(log_odds) / np.exp(log_odds).sum() == pytest.approx(p, rel=1e-9)
        n_checked += 1
    assert n_checked > 20


def test_least_counts_of_one_change_nothing():
    ids, documents = text()
    plain, same = (fitted(least, ids, documents) for least in ((), (1, 1, 1)))
    assert plain.scalars == same.scalars
    assert np.array_equal(plain.log_prob(ids), same.log_prob(ids))


def test_pruning_is_the_same_from_disk_and_from_a_file(tmp_path, monkeypatch):
    ids, documents = text(n=4000)
    plain = fitted((1, 1, 2), ids, documents)
    monkeypatch.setattr(spilled_counts, "SHARE_OF_PIECES", 0.0)
    monkeypatch.setattr(pruned_counts, "MOST_ENTRIES", 50)
    spilled = fitted((1, 1, 2), ids, documents, memory_limit="1M", spill_folder=tmp_path)
    assert spilled.counted.counts.are_on_disk
    expected = plain.log_prob(ids), plain.log_prob(ids[:5]), plain.scalars
    for name, model in (("plain", plain), ("spilled", spilled)):
        model.save(tmp_path / name)
        for again in (model, saffu.load(tmp_path / name), saffu.load(tmp_path / name, mmap=True)):
            assert again.scalars == expected[2]
            assert np.array_equal(again.log_prob(ids[:5]), expected[1])
            assert np.array_equal(again.log_prob(ids), expected[0])


def test_a_fold_is_a_model_of_the_rest_to_the_bit():
    """The rows that priming weighs are those of a model that has counted the rest, and dropped its rare entries."""
    ids = text(n=3000)[0]
    model = fitted((1, 1, 2), ids, None)
    parts = model.solution.priming_parts(None, model.counts)
    pieces = model.counted.sample.pieces(ids.size // FOLDS)
    assert len(parts) == pieces.keys.size == FOLDS
    for i, part in enumerate(parts):
        opens = pieces.opens[i : i + 1]
        left = model.counts.subtract(model.counts.of_stream(part.stream, opens=opens))
        rest = pruned_counts.prune(left, model.counted.least_counts(), Statistics.of(left))
        whole = NgramWeights(rest, False, 1)
        rows = whole.contexts(part.stream, opens)[:, part.positions]
        known = part.rows >= 0
        assert np.array_equal(known, rows >= 0)
        for j, (one, other) in enumerate(zip(part.model.weights.tables, whole.tables, strict=True)):
            assert np.array_equal(one.total[part.rows[j][known[j]]], other.total[rows[j][known[j]]])
            assert np.array_equal(one.mass[part.rows[j][known[j]]], other.mass[rows[j][known[j]]])
        assert np.array_equal(part.target_u, whole.target_u(rows, part.stream.ids[part.positions]))


@pytest.mark.parametrize("change", ["update", "subtract", "partial_fit"])
def test_a_saved_model_cannot_be_counted_on(tmp_path, change):
    ids, documents = text()
    model = fitted((1, 1, 2), ids, documents)
    model.save(tmp_path / "model")
    getattr(model, change)(ids, documents=documents)
    again = saffu.load(tmp_path / "model")
    with pytest.raises(ValueError, match="rare entries of these counts were dropped"):
        getattr(again, change)(ids, documents=documents)
    with pytest.raises(ValueError, match="rare entries of these counts were dropped"):
        again.merge(model)


def test_leave_one_out_gives_a_dropped_target_nothing():
    ids, documents = text()
    model = fitted((1, 2, 2), ids, documents, priming="leave-one-out")
    weights = NgramWeights(model.counted.kept(), False, 1)
    rows = weights.contexts(saffu.utils.streams.TokenStream.of(ids, documents))
    is_dropped = (rows >= 0) & (weights.entries(rows, ids.astype(np.int32)) < 0)
    assert is_dropped.any(axis=1).all()
    _, target_u = weights.leave_one_out(rows, ids.astype(np.int32))
    assert (target_u[is_dropped] == 0).all()
    assert np.isfinite(target_u).all()


@pytest.mark.parametrize(
    ("least", "message"),
    [
        ((2, 2), "must begin with 1"),
        ((1, 3, 2), "must not descend"),
        ((1, 0), "min_entry must be at least 1"),
        ((1, 1, 1, 1, 2), "at most 4 counts"),
    ],
)
def test_mistakes(least, message):
    with pytest.raises(ValueError, match=message):
        saffu.ExplicitLM(min_entry=least)
    with pytest.raises(ValueError, match="kneser-ney"):
        saffu.ExplicitLM(min_entry=(1, 1, 2), priming="kneser-ney")
