"""Growth of a checkpoint in a folder, tensor by tensor: memory for the largest one, not for the model.

The new checkpoint is written into a folder beside the one asked for, and takes its name when it is whole. What ended
before that is taken up again by the same call: shards that are whole are kept.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from typing import Any

from saffu.checkpoint_growth.loaded import check, library
from saffu.checkpoint_growth.names import names_in
from saffu.checkpoint_growth.plan import CONFIG, Plan, config_of, dtype_of, plan
from saffu.checkpoint_growth.shards import (
    DTYPES,
    INDEX,
    NAMES,
    Planned,
    Stored,
    in_shards,
    index_of,
    tensors_in,
    write_shard,
)
from saffu.checkpoint_growth.tensors import FreeNumbers, check_shape, grown, warn_of_zeros
from saffu.utils import validate
from saffu.utils.arrays import Array
from saffu.utils.initializers import Init
from saffu.utils.progress import progress_bar

Path = str | os.PathLike[str]
SHARD_BYTES = 5_000_000_000
SETTINGS = "growth.json"  # of what is being written, by which a later call knows whether it may go on
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")


def checkpoint(
    source_dir: Path,
    out_dir: Path,
    *,
    init: Init = "normal",
    seed: int = 0,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    verify: bool = False,
    progress: bool | None = None,
    **target: Any,
) -> Plan:
    """Write a larger checkpoint that computes the same.

    Parameters
    ----------
    source_dir : str or path
        Folder of a checkpoint as transformers saves it: config.json and safetensors, in one file or in several.
    out_dir : str or path
        Folder to be made; it must not be there, or be empty. It appears when all of it is written, and what is no
        weight, such as the files of the tokenizer, is copied into it.
    init, seed
        As :func:`saffu.grow.module` takes them.
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        Of the new checkpoint; by default each tensor's own. Tensors of 16 bits are computed in float32 and rounded
        once: each number that is scaled, or a mean, is off by at most 2^-8 of itself in bfloat16, and 2^-11 in float16.
    shard_bytes : int
        The largest file, unless one tensor is larger.
    verify : bool
        Load both checkpoints whole before the new one takes its name, and compare their logits on random tokens; needs
        transformers.
    progress : bool, optional
        Whether to show a bar; by default if it takes longer than half a second, and only on a terminal.
    **target
        Sizes to reach, and ``places`` of new layers, as :func:`saffu.grow.plan` takes them.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, TypeError
        If the growth cannot be exact, or the checkpoint is not one of its family.
    OSError
        If a file cannot be read or written. What is written by then is kept, and the same call goes on from there,
        unless ``init`` is a function, of which it is not known whether it is the same.

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
    if dtype is not None:
        validate.choice(dtype, "dtype", tuple(NAMES))
    if verify:
        library()  # before the work
    work = Work(source_dir, out_dir, plan_of(source_dir, dtype=dtype, **target), dtype, init, seed)
    work.write(validate.integer(shard_bytes, "shard_bytes", 1), progress)
    if verify:
        work.verify()
    work.publish()
    return work.planned


def plan_of(source_dir: Path, *, dtype: str | None = None, **target: Any) -> Plan:
    """The plan of :func:`checkpoint`, whose config says of what numbers the new checkpoint is."""
    source = os.path.abspath(source_dir)
    if not os.path.isdir(source):
        raise FileNotFoundError(f"source_dir must be the folder of a checkpoint, got {source!r}")
    return plan(_with_dtype(config_of(source), tensors_in(source), dtype), **target)


class Work:
    """A checkpoint that is being written.

    Parameters
    ----------
    source_dir, out_dir : str or path
    planned : Plan
    dtype, init, seed
        As :func:`checkpoint` takes them.
    """

    def __init__(
        self, source_dir: Path, out_dir: Path, planned: Plan, dtype: str | None, init: Init, seed: int
    ) -> None:
        self.planned, self.source, self.out = planned, os.path.abspath(source_dir), os.path.abspath(out_dir)
        _check_out(self.source, self.out)
        self._stored = tensors_in(self.source)
        names = names_in(planned, self._stored)
        self._steps = {name: step for step in planned.steps if (name := names(step.name)) is not None}
        self._sources = {name: names(step.source) if step.source else None for name, step in self._steps.items()}
        for name, old in self._sources.items():
            if old is not None:
                check_shape(self._steps[name], self._stored[old].shape)
        self._codes = _codes(self._stored, self._sources, dtype)
        self._free = FreeNumbers(planned, init, seed)
        self._how = {"init": init, "seed": seed, "codes": self._codes}
        warn_of_zeros(planned, init)
        self.folder = os.path.join(os.path.dirname(self.out), f".{os.path.basename(self.out)}.growing")

    def write(self, shard_bytes: int, progress: bool | None) -> None:
        """Write what is not there yet."""
        tensors = [Planned(name, self._codes[name], step.shape) for name, step in self._steps.items()]
        shards = in_shards(tensors, shard_bytes)
        _begin(self.folder, _settings(self.planned, self._stored, self._how | {"shards": shard_bytes}))
        with progress_bar(sum(tensor.n_bytes for tensor in tensors), "grow", progress, in_bytes=True) as bar:
            for file, some in shards.items():
                path = os.path.join(self.folder, file)
                if os.path.exists(path):
                    bar.update(sum(tensor.n_bytes for tensor in some))
                    continue
                write_shard(path + ".part", some, self._make, bar.update)
                os.replace(path + ".part", path)
        _write_rest(self.source, self.folder, self.planned.config, index_of(shards) if len(shards) > 1 else None)

    def _make(self, name: str) -> Array:
        step, old = self._steps[name], self._sources[name]
        found = self._stored[old] if old else None
        kind = "float64" if (found.code if found else self._codes[name]) == "F64" else "float32"
        return grown(self.planned, step, found.read() if found else None, self._free, kind)

    def verify(self) -> float:
        """Compare both checkpoints; the new one is removed if it does not compute the same."""
        try:
            return check(self.source, self.folder, dtype_of(self.planned.config))
        except ValueError:
            shutil.rmtree(self.folder)
            raise

    def publish(self) -> None:
        """Give the new checkpoint its name."""
        if os.path.exists(os.path.join(self.folder, SETTINGS)):
            os.remove(os.path.join(self.folder, SETTINGS))
        if os.path.isdir(self.out):
            os.rmdir(self.out)
        os.rename(self.folder, self.out)


def _check_out(source: str, out: str) -> None:
    inside = os.path.commonpath([os.path.realpath(source), os.path.realpath(out)]) == os.path.realpath(source)
    if inside:
        raise ValueError(f"out_dir {out!r} must not be in source_dir, which is an input")
    if os.path.lexists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise FileExistsError(f"out_dir {out!r} is there already; name another folder, or remove it")
    if not os.path.isdir(os.path.dirname(out)):
        raise FileNotFoundError(f"out_dir {out!r} cannot be made: there is no folder {os.path.dirname(out)!r}")


def _with_dtype(config: dict[str, Any], stored: Mapping[str, Stored], dtype: str | None) -> dict[str, Any]:
    """A config that says of what numbers the new checkpoint is."""
    now = config.get("dtype") or config.get("torch_dtype")
    largest = max(stored.values(), key=lambda tensor: math.prod(tensor.shape))
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


def _begin(work: str, settings: str | None) -> None:
    """Make the folder to write into, unless the same call has left one to go on with."""
    path = os.path.join(work, SETTINGS)
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == settings:
                return
        shutil.rmtree(work)
    elif os.path.lexists(work):
        raise FileExistsError(f"{work!r} is in the way, and no growth has left it; remove it")
    os.mkdir(work)
    _write(path, settings or "")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _write_rest(source: str, work: str, config: Mapping[str, Any], index: Mapping[str, Any] | None) -> None:
    for name in sorted(os.listdir(source)):
        path = os.path.join(source, name)
        if os.path.isfile(path) and not name.endswith(WEIGHTS) and name != CONFIG:
            shutil.copyfile(path, os.path.join(work, name))
    for name, content in ((CONFIG, config), (INDEX, index)):
        if content is not None:
            _write(os.path.join(work, name), json.dumps(content, indent=2) + "\n")
