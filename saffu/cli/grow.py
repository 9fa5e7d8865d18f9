"""``saffu grow``: a larger model of the same function, or of a better one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from saffu import grow
from saffu.attention_lm.model import SaffuLM
from saffu.cli import models, values
from saffu.cli.files import check_outputs
from saffu.cli.options import Commands, add_documents, add_model, add_quiet, new_command
from saffu.ngram_lm.model import ExplicitLM
from saffu.text import Chunk
from saffu.transformer.model import Transformer
from saffu.utils.initializers import INITS, Init


def _integers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split("+"))


# What each kind of model can have more of, and how a value of it is read; the arguments of its method grow.
SETTINGS: dict[type, dict[str, Callable[[str], Any]]] = {
    ExplicitLM: {"radius": int, "order": int, "windows": _integers, "induction": int},
    SaffuLM: {**dict.fromkeys(("bits", "block", "radius", "heads", "layers", "hidden"), int), "contexts": _names},
    Transformer: dict.fromkeys(("mlp", "heads", "value", "key", "hidden"), int),
}


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "grow",
        "make a model larger without changing what it computes",
        "New parts enter silently: the larger model gives the same probabilities. With --data they are solved on that\n"
        "text, for an explicit model the one it has counted, and enter with fitted scalars, if that makes it better.\n"
        "Explicit models take radius, order, windows and induction; models of units bits, contexts, block, radius,\n"
        "heads, layers and hidden; transformers mlp, heads, key, value and hidden. 'saffu info' shows what a model\n"
        "has and by what it has grown.",
        "  saffu grow small.saffu --set radius=16 --set hidden=128 --out large.saffu\n"
        "  saffu grow small.saffu --set contexts=radial+document --add-layer --out large.saffu --data book.txt\n"
        "  saffu grow book.saffu --set order=5 --set windows=60,500,2000,8000 --out larger.saffu --data book.txt",
    )
    add_model(parser)
    option = parser.add_argument
    option(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="what the model should have; may be repeated"
    )
    option(
        "--add-layer",
        action="append",
        nargs="?",
        type=values.integer(0),
        default=[],
        metavar="PLACE",
        help="add a layer with so many before it (default: all); may be repeated",
    )
    option("--out", metavar="MODEL2", required=True, help="the file to write; replaced only when the new one is whole")
    option("--data", nargs="+", metavar="FILE", help="text to solve the new parts on")
    option(
        "--init",
        choices=INITS,
        default="normal",
        help="what free new numbers are without --data (default: %(default)s)",
    )
    option("--seed", type=values.integer(0), default=0, metavar="S", help="seed of the random numbers (default: 0)")
    add_documents(parser, "default: as in training")
    add_quiet(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Enlarge a model, save it and print by how much it grew."""
    if not arguments.set and not arguments.add_layer:
        raise ValueError("nothing to grow: give --set NAME=VALUE or --add-layer")
    check_outputs([arguments.out], [arguments.model, *(arguments.data or [])])
    model = models.load(arguments.model, arguments.threads)
    sizes = sizes_for(model, arguments.set)
    text = _read(model, arguments) if arguments.data else None
    chance = {"init": arguments.init, "seed": arguments.seed}
    larger = grown(model, sizes, arguments.add_layer, text=text, progress=not arguments.quiet, **chance)
    larger.save(arguments.out)
    if hasattr(model, "n_parameters"):
        print(f"parameters {model.n_parameters:,} -> {larger.n_parameters:,}")
    if text is not None and larger.growth and "losses" in larger.growth[-1]:
        print("loss on the data, nats per token: {:.4f} -> {:.4f}".format(*larger.growth[-1]["losses"]))
    print(f"wrote {arguments.out}")


def _read(model: Any, arguments: argparse.Namespace) -> Chunk:
    vocabulary = models.vocabulary_of(model, arguments.model)
    corpus = models.corpus_for(vocabulary, arguments.data, arguments.documents)
    with models.reading_bar(corpus, "read", not arguments.quiet) as advance:
        return corpus.read(vocabulary, advance=advance)


def sizes_for(model: Any, settings: Sequence[str]) -> dict[str, Any]:
    """The arguments of ``model.grow`` from ``NAME=VALUE`` each.

    Numbers of ``windows`` have commas between, names of ``contexts`` a plus.

    Raises
    ------
    ValueError
        If a name is not one that the model can have more of, or its value cannot be read.
    TypeError
        If the model is of a kind that cannot grow.
    """
    known = next((names for kind, names in SETTINGS.items() if isinstance(model, kind)), None)
    if known is None:
        raise TypeError(f"{type(model).__name__} cannot grow")
    sizes: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"expected NAME=VALUE with one of {', '.join(known)} for {type(model).__name__}, got {setting!r}"
            )
        try:
            sizes[name] = known[name](value)
        except ValueError:
            raise ValueError(f"{name} must be a whole number, or several, got {value!r}") from None
    return sizes


def grown(
    model: Any,
    sizes: dict[str, Any],
    layers: Sequence[int | None] = (),
    *,
    text: Chunk | None = None,
    init: Init = "normal",
    seed: int = 0,
    progress: bool = False,
) -> Any:
    """A larger model.

    Parameters
    ----------
    model : ExplicitLM, SaffuLM or Transformer
    sizes : dict
        What :func:`sizes_for` returned.
    layers : sequence of int or None
        A layer to add for each: how many come before it, None for all.
    text : Chunk, optional
        What new contexts and units are solved on.
    init : {"normal", "zeros"} or callable
    seed : int
    progress : bool

    Raises
    ------
    ValueError, TypeError
        If the model cannot grow so.
    """
    data: dict[str, Any] = {"progress": progress}
    if text is not None:
        data |= {"ids": text.ids, "documents": text.starts}
    if isinstance(model, Transformer):
        if text is not None:
            raise ValueError("data is for models that are solved; a transformer is grown, then refined")
        for place in layers:
            model = grow.add_layer(model, place, init=init, seed=seed)
        return model.grow(**sizes, init=init, seed=seed)
    if isinstance(model, ExplicitLM):
        if layers:
            raise ValueError("an explicit model has no layers to add")
        return model.grow(**data, **sizes)
    for place in layers:
        n = sizes.get("layers", model.layers)
        if place not in (None, n):
            raise ValueError(f"a layer of units is added above all {n}, got place {place}")
        sizes = {**sizes, "layers": n + 1}
    return model.grow(**data, **sizes, init=init, seed=seed)
