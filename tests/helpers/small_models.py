"""One small model of each language model, with five tokens."""

import numpy as np

import saffu
from saffu.text import Vocabulary

IDS = (np.arange(300) * 7 % 11 % 5).astype(np.int32)


def backoff_model():
    model = saffu.ExplicitLM(order=3, priming="backoff").fit(IDS)
    model.vocabulary = Vocabulary(["a", "b", "c"])
    return model.to_backoff()


def mixture():
    experts = [saffu.ExplicitLM(order=3, radius=1, windows=(), induction=0), saffu.SaffuLM(bits=2, hidden=2, radius=2)]
    return saffu.MixtureLM(experts, weights=[0.7, 0.3]).fit(IDS)


MODELS = {
    "ExplicitLM": lambda: saffu.ExplicitLM(order=3, radius=2, windows=(9,), induction=20).fit(IDS),
    "SaffuLM": lambda: saffu.SaffuLM(bits=2, hidden=2, radius=2).fit(IDS),
    "RecurrentLM": lambda: saffu.RecurrentLM(dim=3, epochs=1).fit(IDS),
    "Transformer": lambda: saffu.Transformer(vocab_size=5, hidden=4, layers=1, positions=8),
    "BackoffLM": backoff_model,
    "MixtureLM": mixture,
}
