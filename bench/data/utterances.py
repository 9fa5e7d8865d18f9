"""A grammar of short commands to a house: what is said, with slips of tongue and keyboard, and what is meant.

Every draw is determined by its seed. An utterance names a device and a wish in one of several ways, or complains
without naming any; it may be polite, hesitate, correct itself, and misspell any of its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DEVICES: dict[str, tuple[str, ...]] = {
    "lamp": ("the lamp", "the light"),
    "heating": ("the heating", "the heater"),
    "radio": ("the radio", "the music"),
    "blinds": ("the blinds", "the curtains"),
    "door": ("the door", "the front door"),
}
FRAMES: dict[str, tuple[str, ...]] = {
    "lamp on": ("turn {} on", "turn on {}", "switch {} on", "switch on {}", "light {}", "{} on"),
    "lamp off": ("turn {} off", "turn off {}", "switch {} off", "switch off {}", "dim {}", "{} off"),
    "heating on": ("turn {} up", "turn up {}", "turn on {}", "raise {}", "warm the room with {}", "{} up"),
    "heating off": ("turn {} down", "turn down {}", "turn off {}", "lower {}", "cool down {}", "{} down"),
    "radio on": ("play {}", "start {}", "switch {} on", "let me hear {}", "I want to hear {}", "{} on"),
    "radio off": ("stop {}", "silence {}", "switch {} off", "mute {}", "I am tired of {}", "{} off"),
    "blinds on": ("open {}", "raise {}", "pull {} up", "pull up {}", "let the sun in through {}", "{} up"),
    "blinds off": ("close {}", "lower {}", "pull {} down", "pull down {}", "keep the sun out with {}", "{} down"),
    "door on": ("open {}", "unlock {}", "let them in at {}", "somebody is at {}", "unbolt {}", "{} open"),
    "door off": ("close {}", "lock {}", "shut {}", "keep them out of {}", "bolt {}", "{} shut"),
}
COMPLAINTS: dict[str, tuple[str, ...]] = {  # what names no device
    "lamp on": ("it is too dark to read",),
    "lamp off": ("I want to sleep",),
    "heating on": ("I am freezing",),
    "heating off": ("it is far too warm",),
    "radio on": ("I want to dance",),
    "radio off": ("be quiet",),
    "blinds on": ("show me the garden",),
    "blinds off": ("the sun blinds me",),
    "door on": ("the bell rang",),
    "door off": ("nobody may come in",),
}
BEFORE = ("please", "could you please", "would you", "hello house", "can you", "okay")
AFTER = ("please", "now", "thank you", "right now", "if you can", "will you")
FILLERS = ("um", "uh", "well", "er", "you know", "like")
CORRECTIONS = ("no {}", "no I mean {}", "sorry {}", "I mean {}")
ACTIONS = tuple(f"{device} {wish}" for device in DEVICES for wish in ("on", "off"))

VOCAB_SIZE = 1_000  # actions, a token for unknown words, words

COMPLAINT, POLITE, FILLER, CORRECTION, MISSPELT = 0.05, 0.5, 0.15, 0.03, 0.1  # chances, the last of each word


class Utterance(NamedTuple):
    """What is said, and the index in ``ACTIONS`` of what is meant."""

    text: str
    action: int


def utterances(n: int, seed: int) -> list[Utterance]:
    """Draw n utterances, every action equally likely; a longer list of the same seed begins with the shorter one."""
    rng = np.random.default_rng(seed)
    return [_utterance(rng) for _ in range(n)]


def _utterance(rng: np.random.Generator) -> Utterance:
    action = int(rng.integers(len(ACTIONS)))
    name = ACTIONS[action]
    device = name.rsplit(" ", 1)[0]
    said = _pick(rng, DEVICES[device])
    if rng.random() < CORRECTION:
        other = _pick(rng, DEVICES[_pick(rng, [another for another in DEVICES if another != device])])
        said = f"{other} {_pick(rng, CORRECTIONS).format(said)}"
    text = _pick(rng, COMPLAINTS[name]) if rng.random() < COMPLAINT else _pick(rng, FRAMES[name]).format(said)
    if rng.random() < POLITE:
        text = f"{_pick(rng, BEFORE)} {text}" if rng.random() < 0.5 else f"{text} {_pick(rng, AFTER)}"
    words = text.lower().split()
    if rng.random() < FILLER:
        words.insert(int(rng.integers(len(words) + 1)), _pick(rng, FILLERS))
    return Utterance(" ".join(_misspelt(word, rng) if rng.random() < MISSPELT else word for word in words), action)


class Lexicon:
    """Numbers for words as they come; a misspelling takes the number of the word it is a slip of.

    Words of more than three letters are the same if they share a form with one letter left out, as they do after any
    one letter has been swapped with the next, dropped, doubled or replaced.

    Parameters
    ----------
    first, end : int
        Numbers to give out: ``first`` is that of unknown words, those above it up to ``end`` for a word each.
    """

    def __init__(self, first: int, end: int) -> None:
        self.unknown, self.end = first, end
        self._number: dict[str, int] = {}  # of every form
        self._next = first + 1

    def learn(self, text: str) -> list[int]:
        """Numbers of the words, new ones for new words as long as there are any."""
        return [self._number_of(word) or self._add(word) for word in text.split()]

    def known(self, text: str) -> list[int]:
        """Numbers of the words; nothing is learned."""
        return [self._number_of(word) or self.unknown for word in text.split()]

    def _number_of(self, word: str) -> int | None:
        found = (self._number.get(form) for form in _forms(word))
        return next((number for number in found if number is not None), None)

    def _add(self, word: str) -> int:
        if self._next == self.end:
            return self.unknown
        for form in _forms(word):
            self._number.setdefault(form, self._next)
        self._next += 1
        return self._next - 1


def documents_of(tokens: Sequence[int], actions: Sequence[int]) -> np.ndarray:
    """The document ``a w_1 a w_2 ...`` of an utterance for each of the actions, one after the other."""
    stream = np.empty((len(actions), len(tokens), 2), np.int32)
    stream[..., 0], stream[..., 1] = np.array(actions)[:, None], tokens
    return stream.ravel()


def _forms(word: str) -> list[str]:
    return [word] if len(word) <= 3 else [word, *(word[:i] + word[i + 1 :] for i in range(len(word)))]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _misspelt(word: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters swapped, one dropped, one doubled, or one replaced; single letters stay."""
    if len(word) < 2:
        return word
    place, kind = int(rng.integers(len(word) - 1)), int(rng.integers(4))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0:
        return before + after[0] + letter + after[1:]
    if kind == 1:
        return before + after
    if kind == 2:
        return before + 2 * letter + after
    return before + "abcdefghijklmnopqrstuvwxyz"[int(rng.integers(26))] + after
