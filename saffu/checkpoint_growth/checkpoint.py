"""Growth of a checkpoint in a folder, tensor by tensor: memory for the largest one, not for the model.

The new checkpoint is written into a folder beside the one asked for, and takes its name when it is whole. What ended
before that is taken up again by the same call: shards that are whole are kept.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from saffu.checkpoint_growth.names import names_in
from saffu.checkpoint_growth.plan import CONFIG, Plan, config_of, plan
from saffu.checkpoint_growth.shards import DTYPES, INDEX, NAMES, Planned, Stored, in_shards, index_of, tensors_in, write_shard
from saffu.checkpoint_growth.sizes import Places
from saffu.checkpoint_growth.tensors import FreeNumbers, grown
from saffu.utils import validate
from saffu.utils.initializers import Init
from saffu.utils.progress import progress_bar

SHARD_BYTES = 5_000_000_000
SETTINGS = "growth.json"  # of what is being written, by which a later call knows whether it may go on
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")


def checkpoint(
    source_dir: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    places: Places = None,
    init: Init = "normal",
    seed: int = 0,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: bool | None = None,
    **target: int | None,
) -> Plan:
    """Write a larger checkpoint that computes the same.

    Parameters
    ----------
    source_dir : str or path
        Folder of a checkpoint as transformers saves it: config.json and safetensors, in one file or in several.
    out_dir : str or path
        Folder to be made; it must not be there, or be empty. It appears when all of it is written, and what is no
        weight, such as the files of the tokenizer, is copied into it.
    places, **target
        As :func:`saffu.grow.plan` takes them.
    init, seed
        As :func:`saffu.grow.module` takes them.
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        Of the new checkpoint; by default each tensor's own. Tensors of 16 bits are computed in float32 and rounded
        once: each number that is scaled, or a mean, is off by at most 2^-9 of itself in bfloat16, and 2^-12 in float16.
    shard_bytes : int
        The largest file, unless one tensor is larger.
    progress : bool, optional
        Whether to show a bar; by default if it takes longer than half a second, and only on a terminal.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, TypeError
        If the growth cannot be exact, or the checkpoint is not one of its family.
    OSError
        If a file cannot be read or written. What is written by then is kept, and the same call goes on from there.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> small = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
    ...                                      num_attention_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     small.save_pretrained(f"{folder}/small")
    ...     planned = checkpoint(f"{folder}/small", f"{folder}/larger", hidden=12, layers=2)
    ...     LlamaForCausalLM.from_pretrained(f"{folder}/larger").num_parameters() == planned.n_parameters[1]
    True
    """
    source, out = os.path.abspath(source_dir), os.path.abspath(out_dir)
    _check_out(source, out)
    if dtype is not None:
        validate.choice(dtype, "dtype", tuple(NAMES))
    validate.integer(shard_bytes, "shard_bytes", 1)
    stored = tensors_in(source)
    config = _with_dtype(config_of(source), stored, dtype)
    planned = plan(config, places=places, **target)
    names = names_in(planned, stored)
    steps = {name: step for step in planned.steps if (name := names(step.name)) is not None}
    sources = {name: names(step.source) if step.source else None for name, step in steps.items()}
    codes = _codes(stored, sources, dtype)
    shards = in_shards([Planned(name, codes[name], step.shape) for name, step in steps.items()], shard_bytes)
    free = FreeNumbers(init, seed, planned.config.get("initializer_range"))

    def make(name: str) -> Any:
        step, old = steps[name], sources[name]
        found = stored[old] if old else None
        kind = "float64" if (found.code if found else codes[name]) == "F64" else "float32"
        return grown(planned, step, found.read() if found else None, free, kind)

    work = _work_folder(out, _settings(planned, stored, {"init": init, "seed": seed, "codes": codes, "shards": shard_bytes}))
    total = sum(tensor.n_bytes for tensors in shards.values() for tensor in tensors)
    with progress_bar(total, "grow", progress, in_bytes=True) as bar:
        for file, tensors in shards.items():
            path = os.path.join(work, file)
            if os.path.exists(path):
                bar.update(sum(tensor.n_bytes for tensor in tensors))
                continue
            write_shard(path + ".part", tensors, make, bar.update)
            os.replace(path + ".part", path)
    _write_rest(source, work, planned.config, index_of(shards) if len(shards) > 1 else None)
    _publish(work, out)
    return planned


def _check_out(source: str, out: str) -> None:
    if not os.path.isdir(source):
        raise FileNotFoundError(f"source_dir must be the folder of a checkpoint, got {source!r}")
    if os.path.realpath(out) == os.path.realpath(source) or os.path.realpath(out).startswith(os.path.realpath(source) + os.sep):
        raise ValueError(f"out_dir {out!r} must not be in source_dir, which is an input")
    if os.path.lexists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise FileExistsError(f"out_dir {out!r} is there already; name another folder, or remove it")
    if not os.path.isdir(os.path.dirname(out)):
        raise FileNotFoundError(f"out_dir {out!r} cannot be made: there is no folder {os.path.dirname(out)!r}")


def _with_dtype(config: dict[str, Any], stored: Mapping[str, Stored], dtype: str | None) -> dict[str, Any]:
    """A config that says of what numbers the new checkpoint is."""
    now = config.get("dtype") or config.get("torch_dtype")
    largest = max(stored.values(), key=lambda tensor: tensor.shape)
    new = dtype or now or DTYPES.get(largest.code, "float32")
    keys = [key for key in ("dtype", "torch_dtype") if config.get(key)] or ["dtype"]
    return config | dict.fromkeys(keys, new)


def _codes(stored: Mapping[str, Stored], sources: Mapping[str, str | None], dtype: str | None) -> dict[str, str]:
    """The types of the new tensors; ValueError if one of the old ones cannot be grown."""
    found, last = {}, NAMES[dtype or "float32"]
    for name, old in sources.items():
        if old is not None and stored[old].code not in DTYPES:
            raise ValueError(
                f"tensor {old!r} must be of {', '.join(NAMES)} to be grown, got {stored[old].code}, which is quantised"
            )
        last = stored[old].code if old else last
        found[name] = NAMES[dtype] if dtype else last
    return found


# ---- what is written beside the weights ------------------------------------------------------------------------------


def _settings(planned: Plan, stored: Mapping[str, Stored], how: Mapping[str, Any]) -> str | None:
    """What decides all that is written, as text; None if a function does, which cannot be compared."""
    if callable(how["init"]):
        return None
    files = {}
    for path in sorted({tensor.path for tensor in stored.values()}):
        status = os.stat(path)
        files[path] = [status.st_size, status.st_mtime_ns]
    return json.dumps({"config": planned.config, "layers": planned.sources, "files": files, **how}, sort_keys=True)


def _work_folder(out: str, settings: str | None) -> str:
    """The folder to write into: one that the same call has left, or an empty one."""
    work = os.path.join(os.path.dirname(out), f".{os.path.basename(out)}.growing")
    path = os.path.join(work, SETTINGS)
    if settings is not None and os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == settings:
                return work
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work)
    if settings is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(settings)
    return work


def _write_rest(source: str, work: str, config: Mapping[str, Any], index: Mapping[str, Any] | None) -> None:
    for name in sorted(os.listdir(source)):
        path = os.path.join(source, name)
        if os.path.isfile(path) and not name.endswith(WEIGHTS) and name != CONFIG:
            shutil.copyfile(path, os.path.join(work, name))
    for name, content in ((CONFIG, config), (INDEX, index)):
        if content is not None:
            with open(os.path.join(work, name), "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.write("\n")


def _publish(work: str, out: str) -> None:
    """Give the folder its name."""
    if os.path.exists(os.path.join(work, SETTINGS)):
        os.remove(os.path.join(work, SETTINGS))
    if os.path.isdir(out):
        os.rmdir(out)
    os.rename(work, out)
