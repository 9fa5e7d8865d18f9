"""The command line: train, evaluate, sample and inspect language models; a demonstration.

What a user can get wrong ends as one line on stderr and exit code 2, before any work where it can be known by then.
Progress is shown on a terminal only. No output is written over an input.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

import saffu
from saffu.attention_lm.model import SaffuLM
from saffu.cli import demo, growing
from saffu.cli import files as cli_files
from saffu.cli.arguments import DEBUG, UsageError, parser
from saffu.ngram_lm.model import ExplicitLM
from saffu.search import architectures, figures, roadmap, solving, text_split
from saffu.text import UNKNOWN, Corpus, Joiner, tokenise
from saffu.transformer.model import Transformer
from saffu.utils import checkpoint
from saffu.utils.interrupts import INTERRUPTED, say
from saffu.utils.progress import on_terminal, progress_bar
from saffu.utils.threads import resolve_threads

USER_ERROR, BROKEN_PIPE = 2, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments behind the program's name; by default those of the process.

    Returns
    -------
    int
        0; 2 after an error; 130 after Ctrl-C; 141 where the reader of the output went away.
    """
    command, debug = "saffu", os.environ.get(DEBUG, "0") not in ("", "0")
    try:
        arguments = parser().parse_args(argv)
        command, debug = f"saffu {arguments.command}", debug or arguments.debug
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character shows "?" instead
        with _warnings_as_lines(command):
            COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as interrupt:
        cause: BaseException = interrupt
        code, line = INTERRUPTED, "; ".join([f"{command}: interrupted", *map(str, interrupt.args)])
    except BrokenPipeError:
        # What is still buffered would raise again when the interpreter flushes it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except UsageError as error:
        cause, code, line = error, USER_ERROR, str(error)
    except Exception as error:
        cause, code, line = error, USER_ERROR, f"{command}: error: {_reason(error)}"
    if debug:
        say("".join(traceback.format_exception(cause)).rstrip())
    say(line)
    return code


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        subject = "" if error.filename is None else f"{error.filename!r}: "
        return f"{subject}{error.strerror or text}"
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' * bool(text)}{text}"
    if isinstance(error, (ValueError, TypeError, ImportError)) and text:
        return text
    return f"{type(error).__name__}: {text}; this should not happen, 'saffu --debug COMMAND' shows where it did"


@contextmanager
def _warnings_as_lines(command: str) -> Iterator[None]:
    """Within, a warning of ours is a line like an error, without its place in the source."""
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning, module="saffu")
        warnings.filterwarnings("always", "the loss is not finite", RuntimeWarning)
        warnings.filterwarnings("ignore", "interrupted after epoch", RuntimeWarning)  # the command says so itself
        warnings.showwarning = lambda message, *_, **__: say(f"{command}: warning: {' '.join(str(message).split())}")
        yield


# ---- commands --------------------------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> None:
    demo.run(progress=_shows_progress(arguments))


def _train(arguments: argparse.Namespace) -> None:
    corpus = Corpus(arguments.files, arguments.tokenizer, arguments.documents)
    outputs = [arguments.out, *([_kept_name(arguments.out)] if arguments.refine else [])]
    cli_files.check_outputs(outputs, [*arguments.files, *(arguments.valid or [])])
    begin = time.perf_counter()
    model, n_tokens = TRAINERS[arguments.model](arguments, corpus, _shows_progress(arguments))
    if getattr(model, "interrupted", False):
        _keep(model, arguments.out)
    model.save(arguments.out)
    size = os.path.getsize(arguments.out) / 1e6
    print(
        f"{arguments.out}: {n_tokens:,} tokens, {len(model.vocabulary):,} types, {size:,.1f} MB, "
        f"{time.perf_counter() - begin:.1f} s"
    )


def _kept_name(out: str) -> str:
    """Where the best epoch of an interrupted refinement goes: it is not what was asked for."""
    return f"{out}.interrupted"


def _keep(model: Any, out: str) -> NoReturn:
    """Save the best epoch of an interrupted refinement, if there was one, and end."""
    if len(model.history or []) < 2:
        raise KeyboardInterrupt(f"{out!r} was not written")
    model.save(_kept_name(out))
    raise KeyboardInterrupt(f"{out!r} was not written; the best epoch so far is in {_kept_name(out)!r}")


def _train_explicit(arguments: argparse.Namespace, corpus: Corpus, progress: bool) -> tuple[ExplicitLM, int]:
    """A model of a corpus of any size, and how many tokens that has."""
    for name in (*UNIT_OPTIONS, *REFINING_OPTIONS, "residual", "refine"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for --model saffu")
    model = ExplicitLM(**_given(arguments, "radius", *EXPLICIT_OPTIONS), n_threads=arguments.threads)
    with _bar(corpus, "vocabulary", progress) as advance:
        vocabulary = model.vocabulary = corpus.build_vocabulary(arguments.min_count, advance)
    with _bar(corpus, "count", progress) as advance:
        for chunk in corpus.chunks(vocabulary, advance):
            model.partial_fit(chunk.ids, len(vocabulary), chunk.documents)
    model.solve(progress=progress)
    return model, model.n_tokens


def _train_saffu(arguments: argparse.Namespace, corpus: Corpus, progress: bool) -> tuple[SaffuLM, int]:
    """A compact model of a corpus, and how many tokens that has."""
    if not arguments.residual and (given := _given(arguments, *EXPLICIT_OPTIONS)):
        raise ValueError(f"--{min(given)} is for --model explicit, or needs --residual")
    if not arguments.refine and (given := _given(arguments, *REFINING_OPTIONS)):
        raise ValueError(f"--{min(given).replace('_', '-')} needs --refine")
    threads = arguments.threads
    residual = ExplicitLM(**_given(arguments, *EXPLICIT_OPTIONS), n_threads=threads) if arguments.residual else None
    model = SaffuLM(**_given(arguments, "radius", *UNIT_OPTIONS), residual=residual, n_threads=threads)
    valid = Corpus(arguments.valid, arguments.tokenizer, arguments.documents) if arguments.valid else None
    with _bar(corpus, "vocabulary", progress) as advance:
        vocabulary = corpus.build_vocabulary(arguments.min_count, advance)
    with _bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance)
    validation = None
    if valid is not None:
        held_out = valid.read(vocabulary)
        validation = held_out.ids, held_out.documents
    if residual is not None:
        residual.fit(text.ids, len(vocabulary), text.documents, progress)
        model.min_count = vocabulary.min_count
    model.solve(text.ids, len(vocabulary), text.documents, progress=progress)
    if arguments.refine:
        options = {name: value for name, value in _given(arguments, *REFINING_OPTIONS).items() if name != "valid"}
        model = model.refine(
            text.ids, arguments.refine, documents=text.documents, validation=validation, progress=progress, **options
        )
    model.vocabulary = vocabulary
    return model, text.ids.size


TRAINERS: dict[str, Callable[[argparse.Namespace, Corpus, bool], tuple[Any, int]]] = {
    "explicit": _train_explicit,
    "saffu": _train_saffu,
}
EXPLICIT_OPTIONS = ("order", "windows", "induction", "priming")
UNIT_OPTIONS = ("bits", "contexts", "block", "heads", "layers", "hidden")
REFINING_OPTIONS = ("learning_rate", "dropout", "thaw_after", "valid")


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given, by name."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def _eval(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    corpus = Corpus(arguments.files, vocabulary.tokeniser, arguments.documents or vocabulary.documents)
    progress = _shows_progress(arguments)
    with _bar(corpus, "read", progress) as advance:
        text = corpus.read(vocabulary, advance)
    explicit = model if isinstance(model, ExplicitLM) else model.residual
    if explicit is not None:
        explicit.solve(progress=progress)
    begin = time.perf_counter()
    nats = -float(np.sum(model.log_prob(text.ids, text.documents, progress=progress)))
    seconds = time.perf_counter() - begin
    tokens = text.ids.size
    figures = {
        "perplexity": _exp(nats / tokens),
        "nats_per_token": nats / tokens,
        "bits_per_char": nats / math.log(2) / text.n_characters,
        "tokens": tokens,
        "unk_rate": vocabulary.unknown_rate(text.ids),
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
    }
    if arguments.json:
        print(_json(figures))
    else:
        for name, value in figures.items():
            print(f"{name.replace('_', ' '):18}{_number(value):>14}")


def _generate(arguments: argparse.Namespace) -> None:
    model = _load(arguments.model)
    vocabulary = model.vocabulary
    joiner = Joiner(vocabulary.tokeniser)
    _show("".join(map(joiner.add, tokenise(arguments.prompt, vocabulary.tokeniser))))
    ids, starts = vocabulary.encode_text(arguments.prompt)
    context = ids[starts[-1] if starts.size else 0 :]
    for token in model.generate(
        context,
        arguments.tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        seed=arguments.seed,
        exclude=[vocabulary.encode([UNKNOWN])[0]],
    ):
        _show(joiner.add(vocabulary.types[token]))
    _show(joiner.finish() + "\n")


def _info(arguments: argparse.Namespace) -> None:
    model = checkpoint.load(arguments.model)
    facts: dict[str, Any] = {"file": arguments.model, "bytes": os.path.getsize(arguments.model)}
    if isinstance(model, Transformer):
        facts["model"] = model.summary()
    else:
        vocabulary = _with_vocabulary(model, arguments.model).vocabulary
        facts["vocabulary"] = {
            "types": len(vocabulary),
            "tokeniser": vocabulary.tokeniser,
            "documents": vocabulary.documents,
            "min_count": vocabulary.min_count,
        }
        facts |= {"model": model.summary(), "scalars": model.scalars}
    print(_json(facts) if arguments.json else "\n".join(_lines(facts)))


def _grow(arguments: argparse.Namespace) -> None:
    if not arguments.set and not arguments.add_layer:
        raise ValueError("nothing to grow: give --set NAME=VALUE or --add-layer")
    cli_files.check_outputs([arguments.out], [arguments.model, *(arguments.data or [])])
    model = checkpoint.load(arguments.model)
    growing.check_settings(model, arguments.set)
    progress = _shows_progress(arguments)
    text = None
    if arguments.data:
        vocabulary = _load(arguments.model).vocabulary
        corpus = Corpus(arguments.data, vocabulary.tokeniser, arguments.documents or vocabulary.documents)
        with _bar(corpus, "read", progress) as advance:
            read = corpus.read(vocabulary, advance)
        text = growing.Text(read.ids, read.documents)
    before = model.n_parameters if hasattr(model, "n_parameters") else None
    larger = growing.grown(model, arguments.set, arguments.add_layer, arguments.init, arguments.seed, text, progress)
    larger.save(arguments.out)
    if before is not None:
        print(f"parameters {before:,} -> {larger.n_parameters:,}")
    if text is not None and larger.growth and "losses" in larger.growth[-1]:
        print("loss on the data, nats per token: {:.4f} -> {:.4f}".format(*larger.growth[-1]["losses"]))
    print(f"wrote {arguments.out}")


def _roadmap(arguments: argparse.Namespace) -> None:
    chosen = architectures.read_grid(arguments.grid) if arguments.grid else None
    progress = _shows_progress(arguments)
    resolve_threads(arguments.threads)
    effort = roadmap.Effort(arguments.refine, arguments.epochs, arguments.minutes, arguments.retry)
    inputs = [*arguments.files, *(arguments.valid or []), *([arguments.grid] if arguments.grid else [])]
    cli_files.check_folder(arguments.out, roadmap.outputs(arguments.out), inputs)
    roadmap.check_free(arguments.out)
    try:
        figures.check()
    except ImportError as error:
        warnings.warn(f"{error}; there will be none", stacklevel=1)
    split = text_split.read_split(
        arguments.files,
        tokens=arguments.tokens,
        valid=arguments.valid,
        tokenizer=arguments.tokenizer,
        documents=arguments.documents,
        min_count=arguments.min_count,
        held_out_tokens=arguments.valid_tokens,
        progress=progress,
    )
    if chosen is None:
        chosen = architectures.default_grid()
    if arguments.limit is not None:
        chosen = architectures.balanced_sample(chosen, arguments.limit)
    try:
        found = roadmap.run(
            split,
            chosen,
            arguments.out,
            effort=effort,
            settings={"saffu": saffu.__version__},
            solver=solving.SaffuSolver(arguments.threads),
            progress=progress,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no result is lost, the same command goes on from here") from None
    failures = [result for result in found.results if result.error]
    if found.results and len(failures) == len(found.results):
        raise ValueError(f"every architecture failed, the first with {failures[0].error}")
    _print_roadmap(found, len(failures))


def _print_roadmap(found: roadmap.Roadmap, n_failures: int) -> None:
    best = found.results[0] if found.results else None
    text = f"{len(found.results)} architectures"
    if n_failures:
        text += f", {n_failures} failed"
    if best is not None:
        text += f"; the best: {best.architecture}, perplexity {best.perplexity:.1f}"
    if found.n_pending:
        text += f"; {found.n_pending} still to be done, the same command goes on"
    print(text)
    for line in [*found.notes, f"wrote {', '.join(found.files)}"]:
        print(line)


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "demo": _demo,
    "train": _train,
    "eval": _eval,
    "generate": _generate,
    "info": _info,
    "grow": _grow,
    "roadmap": _roadmap,
}


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _load(path: str) -> Any:
    """A language model with its vocabulary."""
    return _with_vocabulary(checkpoint.load(path), path)


def _with_vocabulary(model: Any, path: str) -> Any:
    if not isinstance(model, (ExplicitLM, SaffuLM)):
        raise ValueError(f"{path!r} holds {type(model).__name__}, which is not a language model")
    if model.vocabulary is None:
        raise ValueError(f"{path!r} holds a language model without a vocabulary; set its attribute vocabulary and save")
    return model


def _shows_progress(arguments: argparse.Namespace) -> bool:
    return on_terminal() and not arguments.quiet


@contextmanager
def _bar(corpus: Corpus, description: str, progress: bool) -> Iterator[Callable[[int], Any] | None]:
    """A progress bar over the bytes of a corpus: the function that advances it."""
    if not progress:
        yield None
        return
    with progress_bar(corpus.n_bytes, description, True, in_bytes=True) as bar:
        yield bar.update


def _show(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _exp(value: float) -> float:
    return math.exp(value) if value < 709 else math.inf


def _json(facts: dict[str, Any]) -> str:
    """JSON for what may hold numpy scalars and infinities (which become null, since JSON has none)."""
    return json.dumps(_plain(facts), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(facts: dict[str, Any], indent: str = "") -> Iterator[str]:
    """One line for each fact, nested ones indented."""
    for key, value in facts.items():
        name = f"{indent}{str(key).replace('_', ' ')}"
        if isinstance(value, dict):
            yield name
            yield from _lines(value, indent + "  ")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
            yield name
            for item in value:
                yield f"{indent}  {'  '.join(f'{k} {_plain(v)}' for k, v in item.items())}"
        elif isinstance(value, (list, tuple, np.ndarray)):
            cells = (f"{item:7.3f}" if isinstance(item, float) else _number(item) for item in value)
            yield f"{name:26}{'  '.join(cells)}".rstrip()
        else:
            yield f"{name:26}{_number(value)}"


def _number(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        size = abs(float(value))
        return f"{value:,.4g}" if size < 1 else f"{value:,.0f}" if size >= 10_000 else f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
