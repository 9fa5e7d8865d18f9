"""Pieces of tokenizers of other libraries joined to text one at a time, as they are generated."""

from __future__ import annotations

from saffu.text.special import LINE_END, REPLACEMENT
from saffu.text.subwords import SubwordTokenizer

LONG, KEPT = 512, 64  # pieces of a line after which the text of its beginning is not looked at again, and of those kept


class SubwordJoiner:
    """Joins pieces one at a time; what may still change, such as half a character, is held back.

    Parameters
    ----------
    tokenizer : SubwordTokenizer

    Examples
    --------
    >>> tokenizer = SubwordTokenizer.train_bpe(["low lower lowest"] * 9, vocab_size=260)
    >>> joiner = SubwordJoiner(tokenizer)
    >>> [name] = tokenizer.named(["é"])
    >>> [joiner.add(piece) for piece in name]
    ['', 'é']
    """

    def __init__(self, tokenizer: SubwordTokenizer) -> None:
        self._tokenizer = tokenizer
        self._line: list[str] = []  # pieces of the line, or its last ones
        self._shown = ""  # of their text

    def add(self, piece: str) -> str:
        """The text that a piece adds; a line end comes with what was held back."""
        if piece in (LINE_END, "\n"):
            return self.finish() + "\n"
        self._line.append(piece)
        text = self._tokenizer.text(self._line)
        if text.endswith(REPLACEMENT) or not text.startswith(self._shown):
            return ""
        new, self._shown = text[len(self._shown) :], text
        if len(self._line) >= LONG:
            self._line = self._line[-KEPT:]
            self._shown = self._tokenizer.text(self._line)
        return new

    def finish(self) -> str:
        """What is still held back of the line."""
        text = self._tokenizer.text(self._line)
        rest = text[len(self._shown) :]
        self._line, self._shown = [], ""
        return rest
