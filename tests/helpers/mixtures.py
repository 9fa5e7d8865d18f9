"""Small mixtures of attention, and text for them."""

import numpy as np

from saffu.attention_lm import units
from saffu.attention_lm.em_attention import AttentiveMixture
from saffu.attention_lm.shared_counts import SharedCounts
from saffu.attention_lm.solve_context import sample
from saffu.utils.streams import TokenStream

SIZES = {"block": 5, "radial": 4, "document": 0}


SPAN = 32


def text(n, seed, vocab_size=9):
    """Each token depends, often, on the one before and the third before."""
    rng = np.random.default_rng(seed)
    ids = np.zeros(n, np.int32)
    for t in range(3, n):
        follow = (3 * ids[t - 1] + ids[t - 3] + 1) % vocab_size
        ids[t] = follow if rng.random() < 0.6 else min(rng.zipf(1.5) - 1, vocab_size - 1)
    return ids


def mixture_of(ids, documents, vocab_size, contexts, heads=1, bits=4, attention="responsibilities", n_threads=1):
    """The mixture at its start, and the positions it is to be solved on."""
    shared = SharedCounts(TokenStream.of(ids, documents), vocab_size, n_threads)
    found = units.lay_out(contexts, SIZES, heads, 1)
    codes, X = shared.codes(bits), shared.embeddings(bits)
    mixture = AttentiveMixture(shared.stream, found, SPAN, codes, X, shared.unigram, attention, n_threads)
    return mixture, sample(shared.stream, 0)


CONTEXTS = [("radial",), ("block",), ("document",), ("block", "radial"), ("block", "radial", "document")]


def copies(n, seed, lag, vocab_size=16):
    """Each token is told by the one ``lag`` before, alone."""
    rng = np.random.default_rng(seed)
    follow = np.random.default_rng(99).permutation(vocab_size)
    ids = rng.integers(0, vocab_size, n)
    for t in range(lag, n):
        if rng.random() < 0.85:
            ids[t] = follow[ids[t - lag]]
    return ids
