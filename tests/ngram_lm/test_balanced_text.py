"""Priming on text in which every word follows every other equally often: nothing is to be learnt from a context."""

import numpy as np
import pytest

from saffu import ExplicitLM


def balanced(vocab_size, times, seed=0):
    """A closed walk over all pairs of words, each pair so many times (Hierholzer's algorithm)."""
    rng = np.random.default_rng(seed)
    left = [list(rng.permutation(np.repeat(np.arange(vocab_size), times))) for _ in range(vocab_size)]
    walk, stack = [], [0]
    while stack:
        if left[stack[-1]]:
            stack.append(left[stack[-1]].pop())
        else:
            walk.append(stack.pop())
    return np.array(walk[::-1], np.int32)


@pytest.mark.parametrize("priming", ["k-fold", "leave-one-out"])
@pytest.mark.parametrize(("vocab_size", "times"), [(20, 10), (20, 50), (4, 100)])
def test_contexts_without_meaning_are_not_turned_round(priming, vocab_size, times):
    ids = balanced(vocab_size, times)
    assert (np.unique(ids[:-1] * vocab_size + ids[1:], return_counts=True)[1] == times).all()
    model = ExplicitLM(radius=2, order=3, windows=(), induction=0, priming=priming).fit(ids)
    test = np.random.default_rng(1).integers(0, vocab_size, 20_000)
    assert np.exp(-model.log_prob(test).mean()) == pytest.approx(vocab_size, rel=0.005)
