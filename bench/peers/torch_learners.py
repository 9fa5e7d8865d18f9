"""Learners by backprop in torch: random weights, Adam, every utterance learned so far replayed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.data.utterances import ACTIONS, VOCAB_SIZE, documents_of

STEPS, BATCH = 8, 32  # steps after each utterance, utterances in a step
N_PAIRS = 4096  # rows for contexts of two tokens, by hash
HIDDEN = 64


class Replay:
    """Learns by a few steps on the utterances given so far; the new one is in each of them."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
        torch.set_num_threads(1)
        self.network, self.optimiser = network, optimiser
        self.given: list[tuple[list[int], int]] = []
        self.rng = np.random.default_rng(seed)

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def update(self, tokens: list[int], action: int) -> None:
        """A few steps."""
        self.given.append((tokens, action))
        for _ in range(STEPS):
            others = self.rng.choice(len(self.given) - 1, min(BATCH, len(self.given)) - 1, replace=False)
            batch = [self.given[-1], *(self.given[j] for j in others)]
            self.optimiser.zero_grad()
            self.loss(batch).backward()
            self.optimiser.step()

    def rest(self) -> None:
        """Nothing is left to do."""

    def loss(self, batch: list[tuple[list[int], int]]) -> Tensor:
        """Mean negative log-probability of the actions."""
        logits = self.network([tokens for tokens, _ in batch])
        return functional.cross_entropy(logits, torch.tensor([action for _, action in batch]))

    @torch.no_grad()
    def answer(self, tokens: list[int]) -> int:
        """The likeliest action."""
        return int(self.network([tokens]).argmax())


class SameShape(nn.Module):
    """The explicit model's shape: logits of a token are rows for the token before, the one before that, and both."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(n + 1, VOCAB_SIZE, sparse=True) for n in (VOCAB_SIZE, VOCAB_SIZE, N_PAIRS)
        )
        self.bias = nn.Embedding(1, VOCAB_SIZE, sparse=True)
        for table in [*self.tables, self.bias]:
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, ids: Tensor) -> Tensor:
        """Log-probability of each token of some documents of the same length, (n_documents, length)."""
        none = torch.full((len(ids), 1), VOCAB_SIZE)
        last = torch.cat([none, ids[:, :-1]], 1)
        before = torch.cat([none, last[:, :-1]], 1)
        pair = torch.where(before < VOCAB_SIZE, (before * VOCAB_SIZE + last) * 2_654_435_761 % 2**32 % N_PAIRS, N_PAIRS)
        logits = sum(table(row) for table, row in zip(self.tables, (last, before, pair), strict=True))
        log_p = functional.log_softmax(logits + self.bias(torch.zeros_like(ids)), -1)
        return log_p.gather(-1, ids[..., None])[..., 0]


class SameShapeLearner(Replay):
    """The explicit model's shape, criterion and rule of answering, by backprop."""

    def loss(self, batch: list[tuple[list[int], int]]) -> Tensor:
        """Mean negative log-probability of the tokens of the documents."""
        by_length: dict[int, list[np.ndarray]] = {}
        for tokens, action in batch:
            by_length.setdefault(len(tokens), []).append(documents_of(tokens, [action]))
        parts = [self.network(torch.from_numpy(np.stack(part).astype(np.int64))).ravel() for part in by_length.values()]
        return -torch.cat(parts).mean()

    @torch.no_grad()
    def answer(self, tokens: list[int]) -> int:
        """The action under which the utterance is likeliest."""
        ids = documents_of(tokens, range(len(ACTIONS))).reshape(len(ACTIONS), -1).astype(np.int64)
        log_prob = self.network(torch.from_numpy(ids))
        return int((log_prob[:, 0] + log_prob[:, 1::2].sum(1)).argmax())


class BagOfWords(nn.Module):
    """``log p(action) = log_softmax(sum of a row for each word)``: logistic regression."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.EmbeddingBag(VOCAB_SIZE, len(ACTIONS), mode="sum")
        nn.init.zeros_(self.rows.weight)

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Logits of the actions."""
        offsets = np.cumsum([0, *map(len, texts[:-1])])
        return self.rows(torch.tensor(list(chain(*texts))), torch.from_numpy(offsets))


class Recurrent(nn.Module):
    """A GRU over the words, and a softmax of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE + 1, HIDDEN, padding_idx=VOCAB_SIZE)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, len(ACTIONS))

    def forward(self, texts: list[list[int]]) -> Tensor:
        """Logits of the actions."""
        lengths = torch.tensor([len(text) for text in texts])
        ids = nn.utils.rnn.pad_sequence([torch.tensor(t) for t in texts], True, VOCAB_SIZE)
        states, _ = self.gru(self.embedding(ids))
        return self.output(states[torch.arange(len(texts)), lengths - 1])


def same_shape(rate: float, seed: int) -> SameShapeLearner:
    """Sparse Adam: a step costs the rows it touches."""
    torch.manual_seed(seed)
    network = SameShape()
    return SameShapeLearner(network, torch.optim.SparseAdam(list(network.parameters()), lr=rate), seed)


def bag_of_words(rate: float, seed: int) -> Replay:
    """Logistic regression."""
    torch.manual_seed(seed)
    network = BagOfWords()
    return Replay(network, torch.optim.Adam(network.parameters(), lr=rate), seed)


def recurrent(rate: float, seed: int) -> Replay:
    """The recurrent network."""
    torch.manual_seed(seed)
    network = Recurrent()
    return Replay(network, torch.optim.Adam(network.parameters(), lr=rate), seed)


LEARNERS: dict[str, Callable[[float, int], Replay]] = {
    "same shape, backprop": same_shape,
    "bag of words, backprop": bag_of_words,
    "recurrent, backprop": recurrent,
}
