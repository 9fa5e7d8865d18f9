"""``saffu grow-checkpoint``: a larger checkpoint of a decoder that computes the same."""

from __future__ import annotations

import argparse

from saffu.checkpoint_growth.checkpoint import Work, plan_of
from saffu.checkpoint_growth.loaded import explicit, library
from saffu.checkpoint_growth.shards import NAMES
from saffu.cli import values
from saffu.cli.options import Commands, add_quiet, given, new_command
from saffu.utils.byte_sizes import byte_size
from saffu.utils.initializers import INITS

EXPLICIT = "explicit"
SIZES = {
    "hidden": "the width of the states",
    "layers": "how many layers",
    "mlp": "the width of the perceptrons",
    "heads": "how many query heads",
    "kv_heads": "how many heads of keys and values, each shared by as many query heads",
    "head_dim": "the width of a head; where positions rotate it, a multiple of what it is",
}


def add(commands: Commands) -> None:
    """Add the command to a command line."""
    parser = new_command(
        commands,
        "grow-checkpoint",
        "make a checkpoint of a decoder larger without changing what it computes",
        "Reads a folder with config.json and safetensors, as transformers saves GPT-2, Llama, Mistral, Qwen 2 and 3,\n"
        "Gemma and Gemma 2, and writes another, of any larger sizes, whose logits are the same. What becomes of each\n"
        "tensor is printed first. Works tensor by tensor, so it needs memory for the largest one alone; interrupted,\n"
        "the same command goes on where it was. What cannot be exact is refused.",
        "  saffu grow-checkpoint llama-small --hidden 2048 --layers 24 --mlp 8192 --out llama-large --verify\n"
        "  saffu grow-checkpoint llama-small --heads 32 --kv-heads 8 --plan",
    )
    option = parser.add_argument
    option("source", metavar="SOURCE", help="folder of the checkpoint")
    for name, about in SIZES.items():
        option(f"--{name.replace('_', '-')}", type=values.integer(1), metavar="N", help=f"{about} (default: as now)")
    option(
        "--places",
        type=places,
        metavar="WHERE",
        help="where new layers stand: end, spread, or for each how many old layers come before it, as in 0,4,8 "
        "(default: end)",
    )
    out = parser.add_mutually_exclusive_group(required=True)
    out.add_argument("--out", metavar="DIR", help="the folder to write; it must not be there, and appears whole")
    out.add_argument("--plan", action="store_true", help="only print what would become of each tensor")
    option("--dtype", choices=tuple(NAMES), help="of the new numbers, each rounded once (default: as they are)")
    option(
        "--init",
        choices=(*INITS, EXPLICIT),
        default="normal",
        help="what free new numbers are: random, zero, or from counts over --data (default: %(default)s)",
    )
    option("--data", metavar="FILE", help="text for the checkpoint's tokenizer, or ids in a .npy file")
    option("--seed", type=values.integer(0), default=0, metavar="S", help="seed of the random numbers (default: 0)")
    option("--shard-size", default="5G", metavar="SIZE", help="the largest file (default: %(default)s)")
    option("--verify", action="store_true", help="load both checkpoints and compare their logits (needs transformers)")
    add_quiet(parser)
    parser.set_defaults(run=run)


def places(text: str) -> str | list[int]:
    """Where new layers stand.

    Examples
    --------
    >>> places("spread"), places("0,4")
    ('spread', [0, 4])
    """
    if text in ("end", "spread"):
        return text
    try:
        return [int(place) for place in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected end, spread or numbers with commas between, got {text!r}") from None


def run(arguments: argparse.Namespace) -> None:
    """Print the plan, write the larger checkpoint and print what was found."""
    target = given(arguments, *SIZES, "places", "dtype")
    if not set(target) & set(SIZES):
        raise ValueError("nothing to grow: give a size, such as --hidden 2048")
    shard_bytes = byte_size(arguments.shard_size, "--shard-size")
    if (arguments.init == EXPLICIT) != (arguments.data is not None):
        raise ValueError("--init explicit and --data FILE go together")
    if arguments.verify or arguments.data:
        library()  # before the work
    planned = plan_of(arguments.source, **target)
    if arguments.plan:
        print(planned)
        return
    init = explicit(arguments.source, arguments.data, arguments.seed) if arguments.data else arguments.init
    work = Work(arguments.source, arguments.out, planned, arguments.dtype, init, arguments.seed)
    print(planned, flush=True)
    try:
        work.write(shard_bytes, progress=not arguments.quiet)
    except KeyboardInterrupt:
        more = "" if arguments.data else "; the same command goes on from here"
        raise KeyboardInterrupt(f"{work.folder!r} has what is written{more}") from None
    if arguments.verify:
        print(f"verified: logits differ by {work.verify():.1e} of the largest")
    work.publish()
    print(f"wrote {arguments.out}")
