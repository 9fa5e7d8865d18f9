"""Adaptation: a text is scored piece by piece, and each piece is learned once it has been scored.

The model is not changed. A branch of it shares its counts, and takes in each piece with the verbs of ``update``: the
result equals, to the bit, that of a loop of scoring and updating on a copy.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from saffu.ngram_lm.solution import Solution
from saffu.utils import validate
from saffu.utils.arrays import Float64
from saffu.utils.progress import progress_bar
from saffu.utils.streams import TokenStream

# Tokens of the pieces that long documents are cut into. Measured, learning from Brown: pieces of 1,000, 2,000 and 4,000
# tokens, and whole documents, give more Brown a perplexity of 154.9, 154.4, 154.5 and 154.5 (155.5 without), tales for
# children 71.5, 73.7, 74.6 and 75.0 (91.6): the less is learned at a time the better where the text is another one.
PIECE = 2000


def pieces(stream: TokenStream, adapt: int) -> Iterator[tuple[int, int]]:
    """First and last token, less one, of each piece that is scored and then learned.

    Parameters
    ----------
    stream : TokenStream
    adapt : bool or int
        A number: so many tokens each, wherever documents start. True: each document, in pieces of at most ``PIECE``
        tokens.

    Raises
    ------
    ValueError, TypeError
        If it is neither True nor a positive integer.

    Examples
    --------
    >>> stream = TokenStream.of([0] * 5, documents=[0, 2])
    >>> list(pieces(stream, True)), list(pieces(stream, 3))
    ([(0, 2), (2, 5)], [(0, 3), (3, 5)])
    """
    n = stream.ids.size
    if adapt is True:
        long = [np.arange(a, b, PIECE) for a, b in zip(stream.starts, np.append(stream.starts[1:], n), strict=True)]
        edges = np.concatenate([*long, [n]])
    else:
        edges = np.append(np.arange(0, n, validate.integer(adapt, "adapt", 1)), n)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)


def log_prob(solution: Solution, stream: TokenStream, adapt: int, progress: bool | None) -> Float64:
    """Log-probabilities of a text by a model that learns each piece of it after it has been scored, nats, shape (M,).

    Time is that of counting the text, and for each piece that of weighing the rows which it reads, or all rows where
    that is quicker, and of a pass over the vocabulary for each table.
    """
    found = np.empty(stream.ids.size)
    branch, reach = solution.branch(), max(solution.contexts.history, solution.contexts.order) + 1
    with progress_bar(found.size, "score", progress) as bar:
        for first, last in pieces(stream, adapt):
            begin = max(int(stream.begins(np.array([first]))[0]), first - reach)
            positions = np.arange(first, last)
            found[first:last] = branch.log_prob(stream.slice(begin, last), positions - begin, bar.update)
            if last < found.size:
                inside = stream.starts[(stream.starts >= first) & (stream.starts < last)] - first
                branch.learn(TokenStream(stream.ids[first:last], inside))
    return found
