"""How a convolutional network is solved: the contrast is chosen, units are found, the head is tuned, then solved."""

from __future__ import annotations

import numpy as np

from saffu.classifier.labels import Classes
from saffu.patches.contrast import KINDS
from saffu.patches.convnet_solution import ConvSettings, ConvSolution
from saffu.patches.heads import Head, HeadSettings, fit_head, rooted, tuned_head
from saffu.patches.softmax_ridge import RidgeProblem, best_ridge
from saffu.utils.arrays import Float32, Int32, Int64
from saffu.utils.progress import Bar, progress_bar

HELD_OUT, MOST_HELD_OUT = 0.2, 4000  # images that scalars are fitted to
MOST_TUNED = 10_000  # images that a head is solved from while its scalars are fitted; such a network holds out once
TRIED = 3000  # images from which a contrast is judged, and half as many to judge it
TRIED_UNITS, TRIED_ROUNDS = 100, 10


def solve(
    settings: ConvSettings,
    images: Float32,
    targets: Int32,
    classes: Classes,
    n_threads: int,
    progress: bool | None,
) -> ConvSolution:
    """Solve the network of checked images and class numbers."""
    rng = np.random.default_rng(settings.seed)
    fitted, held_out = _parts(targets, rng)
    with progress_bar(4, "contrast, units, scalars, head", progress) as bar:
        kind = settings.normalize
        if kind == "auto":
            kind = _best_contrast(settings, images, targets, (fitted, held_out), classes.size, n_threads)
        bar.update()
        encoder = settings.encoder(kind, n_threads).fit(images, progress=False)
        bar.update()
        pooled = encoder.pooled(images, n_threads=n_threads)
        head = _solved_head(settings, pooled, targets, (fitted, held_out), classes.size, n_threads, bar)
    return ConvSolution(settings, classes, encoder, head)


def _solved_head(
    settings: ConvSettings,
    pooled: Float32,
    targets: Int32,
    parts: tuple[Int64, Int64],
    n_classes: int,
    n_threads: int,
    bar: Bar,
) -> Head:
    """The head of all images, with scalars that were fitted to some."""
    hidden = tuple(max(size, n_classes) for size in settings.hidden)
    wanted = HeadSettings(settings.head, hidden, settings.seed)
    some, others = parts[0][:MOST_TUNED], parts[1]
    data = [(pooled[rows], targets[rows]) for rows in (np.sort(some), np.sort(others))]
    tuned = tuned_head(wanted, data[0], data[1], n_classes, n_threads)
    bar.update()
    ridge = tuned.ridge * some.size / targets.size  # the same, beside the counts of more images
    return fit_head(wanted, pooled, targets, n_classes, ridge, tuned.powers, n_threads)


def _best_contrast(
    settings: ConvSettings,
    images: Float32,
    targets: Int32,
    parts: tuple[Int64, Int64],
    n_classes: int,
    n_threads: int,
) -> str:
    """The contrast whose layer is best for held-out images, with fewer units."""
    some, others = np.sort(parts[0][:TRIED]), np.sort(parts[1][: TRIED // 2])
    if not others.size:
        return KINDS[0]
    losses = []
    for kind in KINDS:
        small = settings.encoder(
            kind, n_threads, units=min(settings.units or TRIED_UNITS, TRIED_UNITS), rounds=TRIED_ROUNDS
        )
        small.fit(images[some], progress=False)
        features = [rooted(small.pooled(images[rows], n_threads=n_threads)) for rows in (some, others)]
        problem = RidgeProblem(features[0], targets[some], n_classes, n_threads)
        losses.append(best_ridge(problem, features[1], targets[others])[2])
    return KINDS[int(np.argmin(losses))]


def _parts(targets: Int32, rng: np.random.Generator) -> tuple[Int64, Int64]:
    """Rows to fit to, one of every class first, and rows to hold out; each in an order of chance."""
    order = rng.permutation(targets.size)
    first = order[np.unique(targets[order], return_index=True)[1]]
    rest = order[~np.isin(order, first)]
    n = min(int(HELD_OUT * targets.size), MOST_HELD_OUT, rest.size)
    return np.concatenate([first, rest[n:]]), rest[:n]
