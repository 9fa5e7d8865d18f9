"""The part of a training text that experts learn last, so that the weights of a mixture can be fitted on it first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from saffu.utils.streams import TokenStream

MOST_TOKENS = 30_000  # or so: a few weights need no more, and experts that cannot learn on the spot miss them
FEWEST_DOCUMENTS = 10  # to hold out; else the end of the text is held out
LEAD = 4096  # tokens of the same document that are seen before the end of a text


class HeldOutPart(NamedTuple):
    """A text in two parts.

    Attributes
    ----------
    training : TokenStream
        What experts learn first.
    held_out : TokenStream
        The rest. If its first token does not start a document it continues the last one of ``training``.
    scored : TokenStream
        The rest again, behind what its first document begins with.
    lead : int
        Tokens of ``scored`` that are only there to be seen.
    """

    training: TokenStream
    held_out: TokenStream
    scored: TokenStream
    lead: int


def hold_out(stream: TokenStream, share: float) -> HeldOutPart:
    """Hold out a share of a text, about ``MOST_TOKENS`` tokens at most.

    Whole documents that are evenly spaced, if the share holds enough of them; else the end of the text.

    Parameters
    ----------
    stream : TokenStream
        Starts a document.
    share : float
        At least 0 and below 1.

    Examples
    --------
    >>> part = hold_out(TokenStream.of(np.arange(10)), 0.2)
    >>> part.training.ids.size, part.held_out.ids.tolist(), part.held_out.starts.tolist(), part.lead
    (8, [8, 9], [], 8)
    """
    n_tokens, n_documents = stream.ids.size, stream.starts.size
    wanted = min(int(share * n_tokens), MOST_TOKENS)
    n_chosen = int(n_documents * wanted / n_tokens) if n_tokens else 0
    if n_chosen >= FEWEST_DOCUMENTS:
        return _documents(stream, n_chosen)
    cut = n_tokens - wanted
    begin = int(stream.begins(np.array([cut]))[0]) if wanted else cut
    seen_from = max(begin, cut - LEAD)
    inside = stream.starts[stream.starts >= cut]
    return HeldOutPart(
        stream.slice(0, cut),
        TokenStream(stream.ids[cut:], inside - cut),
        stream.slice(seen_from, n_tokens),
        cut - seen_from,
    )


def _documents(stream: TokenStream, n_chosen: int) -> HeldOutPart:
    """Hold out so many documents, evenly spaced, the last among them: it stays the one that later text continues."""
    n_documents = stream.starts.size
    chosen = (np.arange(1, n_chosen + 1) * n_documents / n_chosen).astype(np.int64) - 1
    is_held_out = np.zeros(n_documents, bool)
    is_held_out[chosen] = True
    lengths = stream.lengths()
    of_token = np.repeat(is_held_out, lengths)
    parts = []
    for side in (False, True):
        sizes = lengths[is_held_out == side]
        parts.append(TokenStream(stream.ids[of_token == side], np.cumsum(sizes) - sizes))
    return HeldOutPart(parts[0], parts[1], parts[1], 0)
