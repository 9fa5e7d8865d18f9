"""How exactly growth keeps the function of decoders: random models of each family, grown at random, beside themselves.

The library computes norms and softmax in float32 even in models of float64. Within :func:`in_double` it does not, so
that what growth itself loses can be seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from saffu import Transformer, grow

OWN = "saffu.Transformer"
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
}
FAMILIES = (*CLASSES, OWN)
LENGTH, ROWS = 9, 3
LEAST = 8  # numbers of a state: of two that are nearly equal, LayerNorm makes much of their rounding
SPREAD = 0.2  # of what is added to every number that a new model has
MOST_GROWTHS, MOST_PARAMETERS = 5, 200_000


class Case(NamedTuple):
    """One random chain of growths, and what it changed.

    Attributes
    ----------
    difference : float
        Largest of logits, relative to the largest logit, with and without masks and cache.
    same_tokens : bool
        Whether both models generate the same ones.
    targets : list of dict
        What the model was grown to, one behind the other.
    """

    difference: float
    same_tokens: bool
    targets: list[dict[str, Any]]


# ---- models ----------------------------------------------------------------------------------------------------------


def _whole(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high + 1))


def _of(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def random_config(family: str, rng: np.random.Generator) -> Any:
    """A config of random sizes and settings."""
    import transformers

    heads = _whole(rng, 1, 3) * (groups := _whole(rng, 1, 2))
    width = 2 * _whole(rng, 1, 4)
    least = -(-LEAST // heads)
    hidden = heads * _whole(rng, least, least + 3)
    layers, vocabulary = _whole(rng, 1, 3), _whole(rng, 20, 50)
    tokens = {"vocab_size": vocabulary, "tie_word_embeddings": _of(rng, True, False), "pad_token_id": 0}
    tokens |= {"bos_token_id": 1, "eos_token_id": None}
    epsilon = _of(rng, 1e-6, 1e-5, 1e-2)
    if family == "gpt2":
        sizes = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_inner": _of(rng, None, _whole(rng, 3, 30))}
        more = {"n_positions": 32, "layer_norm_epsilon": epsilon, "scale_attn_weights": _of(rng, True, False)}
        return transformers.GPT2Config(**sizes, **tokens, **more, scale_attn_by_inverse_layer_idx=_of(rng, True, False))
    sizes = {"hidden_size": hidden, "intermediate_size": _whole(rng, 3, 30), "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": width}
    more = {"rms_norm_eps": epsilon, "max_position_embeddings": 32}
    biases = {"attention_bias": _of(rng, True, False)}
    windows = {"sliding_window": _whole(rng, 3, 12)}
    more |= {
        "llama": {**biases, "mlp_bias": _of(rng, True, False)},
        "mistral": windows,
        "qwen2": {**windows, "use_sliding_window": _of(rng, True, False), "max_window_layers": _whole(rng, 0, 2)},
        "qwen3": biases | {**windows, "use_sliding_window": _of(rng, True, False), "max_window_layers": 1},
        "gemma": biases,
        "gemma2": {**biases, **windows, "query_pre_attn_scalar": _whole(rng, 2, 20)},
    }[family]
    return transformers.AutoConfig.for_model(family, **sizes, **tokens, **more)


def model_of(config: Any, rng: np.random.Generator, dtype: str) -> Any:
    """A model of the library whose every number is random, biases and gains too."""
    import torch
    import transformers

    standard = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_whole(rng, 0, 1 << 30))
            model = getattr(transformers, CLASSES[config.model_type])(config).eval()
    finally:
        torch.set_default_dtype(standard)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.from_numpy(rng.normal(0, SPREAD, parameter.shape)).to(parameter.dtype)
    return model


def random_model(family: str, rng: np.random.Generator, dtype: str) -> Any:
    """A random model of a family."""
    if family != OWN:
        return model_of(random_config(family, rng), rng, dtype)
    layers = _whole(rng, 1, 3)
    sizes = {name: rng.integers(1, 7, layers).tolist() for name in ("heads", "key", "value", "mlp")}
    model = Transformer(20, hidden=_whole(rng, 2, 12), layers=layers, positions=LENGTH, **sizes)
    arrays = {n: (v + rng.normal(0, SPREAD, v.shape)).astype(dtype) for n, v in model.arrays.items()}
    return model.with_arrays(arrays)


# ---- growth ----------------------------------------------------------------------------------------------------------


def random_target(planned: grow.Plan, rng: np.random.Generator) -> dict[str, Any]:
    """Sizes that a model could grow to, some of them as they are; not all of them are possible together."""
    family, sizes = planned.family, planned.new
    largest = {name: max(getattr(layer, name) for layer in sizes.layers) for name in ("heads", "key", "value", "mlp")}
    layer = sizes.layers[0]
    target: dict[str, Any] = {"mlp": largest["mlp"] + _whole(rng, 0, 9)}
    target["layers"] = len(sizes.layers) + (new := _whole(rng, 0, 1))
    target["places"] = rng.integers(0, len(sizes.layers) + 1, new).tolist()
    target["heads"] = largest["heads"] + _whole(rng, 0, 2)
    target["hidden"] = sizes.hidden + _whole(rng, 0, 7)
    if "kv_heads" in family.keys:
        target["kv_heads"] = layer.kv_heads + _whole(rng, 0, 2)
        target["heads"] = target["kv_heads"] * max(-(-layer.heads // target["kv_heads"]), _whole(rng, 1, 3))
    if "head_dim" in family.keys and not family.normed_heads:
        target["head_dim"] = layer.key * _of(rng, 1, 1, 2, 3)
    if "key" in family.keys:
        target |= {name: largest[name] + _whole(rng, 0, 3) for name in ("key", "value")}
    if family.square_heads:
        target["hidden"] = target["heads"] * (layer.key + _whole(rng, 0, 1))
    chosen = {name: value for name, value in target.items() if name == "places" or rng.random() < 0.5}
    if "layers" not in chosen:
        del chosen["places"]
    heads = chosen.get("heads", layer.heads)
    if family.divisible and "hidden" in chosen | target and chosen.get("hidden", sizes.hidden) % heads:
        chosen["hidden"] = -(-chosen.get("hidden", sizes.hidden) // heads) * heads
    return chosen


def grown_once(model: Any, rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """A model grown to a random target, and that; targets that are refused are drawn anew."""
    while True:
        target = random_target(grow.plan(model), rng)
        try:
            planned = grow.plan(model, **target)
        except ValueError:
            continue
        if planned.n_parameters[1] < MOST_PARAMETERS:
            return grow.module(model, **target, seed=_whole(rng, 0, 1 << 30)), target


# ---- comparison ------------------------------------------------------------------------------------------------------


@contextmanager
def in_double() -> Iterator[None]:
    """Within, the library computes in float64 where a model is of float64."""
    import torch
    from torch.overrides import TorchFunctionMode

    def to_single(func: Any, args: Any, kwargs: Any) -> bool:
        single = func is torch.Tensor.float or torch.float32 in args[1:] or kwargs.get("dtype") is torch.float32
        return single and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64

    class Double(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func in (torch.Tensor.float, torch.Tensor.to) and to_single(func, args, kwargs):
                return args[0]
            if func in (torch.nn.functional.softmax, torch.Tensor.softmax) and to_single(func, args, kwargs):
                kwargs["dtype"] = torch.float64
            return func(*args, **kwargs)

    with Double():
        yield


def outputs(model: Any, ids: Any) -> list[Any]:
    """Logits of a model: of whole rows, of rows with padding before and behind, and with a cache in two steps."""
    import torch

    if not hasattr(model, "config"):
        return [torch.from_numpy(model.logits(ids.numpy()))]
    before, behind = torch.ones_like(ids), torch.ones_like(ids)
    before[1, :4], before[2, :1], behind[0, -3:] = 0, 0, 0
    found = [model(ids).logits]
    found += [model(ids, attention_mask=mask).logits[mask.bool()] for mask in (before, behind)]
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"  # by version
    first = model(ids[:, :5], use_cache=True)
    return [*found, model(ids[:, 5:], **{name: getattr(first, name)}, use_cache=True).logits]


def tokens(model: Any, ids: Any) -> Any:
    """What a model generates greedily, of rows with padding before them."""
    import torch

    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    return model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=5, pad_token_id=0)


def difference(model: Any, larger: Any, rng: np.random.Generator, generate: bool = True) -> tuple[float, bool]:
    """Largest difference of logits, relative to the largest; and whether the same tokens are generated."""
    import torch

    size = grow.plan(model).old.vocabulary
    ids = torch.from_numpy(rng.integers(1, size, (ROWS, LENGTH)))
    with torch.no_grad(), in_double():
        pairs = list(zip(outputs(model, ids), outputs(larger, ids), strict=True))
        largest = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
        if not generate or not hasattr(model, "generate") or not hasattr(model, "config"):
            return largest, True
        return largest, bool(torch.equal(tokens(model, ids), tokens(larger, ids)))


def random_case(family: str, seed: int, dtype: str, generate: bool = True) -> Case:
    """A random model and a chain of random growths."""
    rng = np.random.default_rng(seed)
    model = random_model(family, rng, dtype)
    larger, targets = model, []
    for _ in range(_whole(rng, 1, MOST_GROWTHS)):
        larger, target = grown_once(larger, rng)
        targets.append(target)
    return Case(*difference(model, larger, rng, generate), targets)
