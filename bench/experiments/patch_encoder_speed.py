"""PatchEncoder beside torch's unfold and convolution with softmax and pooling: images a second, and peak memory.

``python -m bench.experiments.patch_encoder_speed [--images N] [--repeats N] [--quick] [--print]`` takes about ten
minutes. Needs torch.

All have the same weights and give the same features, but for the convolution of pixels, which is less work: it leaves
the contrast out. Two threads; contenders take turns, and torch's forms encode 1, 10 or 50 images at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bench.measure.clock import race
from bench.report.command import parser_of
from bench.report.requirements import require
from bench.report.tables import check_published, machine_line, markdown_table, publish
from bench.trials.patch_encoding import BATCHES, N_THREADS, OURS, SETTINGS, contenders, peak_of, problem

NAME = "patch-encoder-speed"
ANOTHER = "convolution of pixels"
CLOSE = 1e-4  # of the largest feature


class Row(NamedTuple):
    """One contender on one setting."""

    setting: str
    contender: str
    images_per_second: float
    ratio: float
    megabytes: float
    difference: float


def rows(setting: str, n: int, repeats: int, batches: tuple[int, ...]) -> Iterator[Row]:
    """All contenders; an error if one that should does not give the same features."""
    encoder, images = problem(SETTINGS[setting], n)
    named = contenders(encoder, batches)
    expected = named[OURS](images)
    off = {name: float(np.abs(encode(images) - expected).max() / expected.max()) for name, encode in named.items()}
    wrong = [name for name, difference in off.items() if difference > CLOSE and ANOTHER not in name]
    if wrong:
        raise AssertionError(f"{wrong} differ from saffu by up to {max(off[name] for name in wrong):.1e}")
    spent = race({name: lambda encode=encode: encode(images) for name, encode in named.items()}, repeats)
    for name, seconds in spent.items():
        ratio = seconds.wall / spent[OURS].wall
        yield Row(setting, name, n / seconds.wall, ratio, peak_of(setting, name, n), off[name])


def table(found: Sequence[Row]) -> str:
    """The rows in Markdown."""
    header = ["images", "encoder", "images/s", "times as long", "peak memory, MB", "largest difference"]
    lines = [
        [
            r.setting,
            r.contender,
            f"{r.images_per_second:,.0f}",
            f"{r.ratio:.1f}x",
            f"{max(r.megabytes, 0):.0f}",
            "another function" if ANOTHER in r.contender else f"{r.difference:.0e}",
        ]
        for r in found
    ]
    return markdown_table(header, lines)


def more_options(parser: argparse.ArgumentParser) -> None:
    """Add how much is measured."""
    parser.add_argument("--images", type=int, default=1000, help="how many are encoded (1000)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each contender does so (5)")
    parser.add_argument("--quick", action="store_true", help="some seconds, ten images, only to see that it works")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    given = parser_of(NAME, __doc__, more_options).parse_args(argv)
    require("torch")
    printed = given.print or given.quick
    check_published(NAME, printed)
    if given.quick:
        found, n = [*rows(next(iter(SETTINGS)), 10, 1, (10,))], 10
    else:
        n = given.images
        found = [row for setting in SETTINGS for row in rows(setting, n, given.repeats, BATCHES)]
    note = f"{n:,} images, {SETTINGS['28 x 28 grey'].units} units on patches of 6 x 6, a grid of 3 x 3."
    publish(NAME, f"{note}\n\n{table(found)}\n\n{machine_line(f'{N_THREADS} threads', ['torch'])}", printed)


if __name__ == "__main__":
    main()
