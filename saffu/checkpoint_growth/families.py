"""The families that can be grown, each a table of the roles of its tensors.

To add one, write down its tensors with the axes of :mod:`saffu.checkpoint_growth.roles`: what each axis counts, whether
it reads from the state, writes into it or neither; name the factors of :mod:`saffu.checkpoint_growth.scales` that its
old entries need; mark as ``silent`` what makes a new layer add nothing; and put it into FAMILIES under the
``model_type`` of its configs. The tests of growth take their random configs from ``tests/helpers/decoders.py``, where
it needs a line as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from saffu.checkpoint_growth.roles import (
    CONTRACT,
    EXPAND,
    GAIN,
    GROUPS,
    INPUTS,
    KEY,
    MERGED,
    MERGED_HEADS,
    POSITIONS,
    QUERY,
    QUERY_HEADS,
    READ,
    SHIFT,
    VALUE,
    VOCABULARY,
    WRITE,
    WRITE_MEAN,
    Config,
    Family,
    Role,
)
from saffu.transformer.sizes import LayerSizes, sizes_of

LAYER = "model.layers.{layer}."
ATTENTION, MLP = f"{LAYER}self_attn.", f"{LAYER}mlp."
Q, K, V, O = ((QUERY_HEADS, QUERY), (GROUPS, KEY), (GROUPS, VALUE), (MERGED_HEADS, MERGED))  # noqa: E741


# ---- parts that families share ---------------------------------------------------------------------------------------


def _gain(name: str, *more: str, silent: bool = False) -> Role:
    return Role(name, ((GAIN,),), "gain", ("norm", *more), silent)


EMBEDDING = Role("model.embed_tokens.weight", ((VOCABULARY,), (WRITE,)))
LAST_NORM = _gain("model.norm.weight")
HEAD = Role("lm_head.weight", ((VOCABULARY,), (READ,)), when="not tie_word_embeddings")
NORMS = (_gain(f"{LAYER}input_layernorm.weight"), _gain(f"{LAYER}post_attention_layernorm.weight"))
GATED_MLP = (
    Role(f"{MLP}gate_proj.weight", ((EXPAND,), (READ,))),
    Role(f"{MLP}up_proj.weight", ((EXPAND,), (READ,))),
    Role(f"{MLP}down_proj.weight", ((WRITE,), (CONTRACT,)), silent=True),
)
GATED_MLP_BIASES = (
    Role(f"{MLP}gate_proj.bias", ((EXPAND,),), "bias", when="mlp_bias"),
    Role(f"{MLP}up_proj.bias", ((EXPAND,),), "bias", when="mlp_bias"),
    Role(f"{MLP}down_proj.bias", ((WRITE,),), "bias", silent=True, when="mlp_bias"),
)


def _projections(*query: str, key: tuple[str, ...] = ()) -> tuple[Role, ...]:
    """Weights of attention; the factors of queries and of keys."""
    return (
        Role(f"{ATTENTION}q_proj.weight", (Q, (READ,)), scales=query),
        Role(f"{ATTENTION}k_proj.weight", (K, (READ,)), scales=key),
        Role(f"{ATTENTION}v_proj.weight", (V, (READ,))),
        Role(f"{ATTENTION}o_proj.weight", ((WRITE,), O), silent=True),
    )


def _input_biases(*query: str, key: tuple[str, ...] = (), when: str = "attention_bias") -> tuple[Role, ...]:
    """Biases of queries, keys and values."""
    return (
        Role(f"{ATTENTION}q_proj.bias", (Q,), "bias", query, when=when),
        Role(f"{ATTENTION}k_proj.bias", (K,), "bias", key, when=when),
        Role(f"{ATTENTION}v_proj.bias", (V,), "bias", when=when),
    )


OUTPUT_BIAS = Role(f"{ATTENTION}o_proj.bias", ((WRITE,),), "bias", silent=True, when="attention_bias")


def _loud(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The same roles, of which none is zero in a new layer."""
    return tuple(replace(role, silent=False) for role in roles)


# ---- what configs may lack, and what they may not have ---------------------------------------------------------------

KEYS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp": "intermediate_size",
    "vocabulary": "vocab_size",
}


def _as_many_groups_as_heads(config: Config) -> Any:
    return config.get("num_attention_heads")


def _equal_heads(config: Config) -> int:
    return int(config["hidden_size"]) // int(config["num_attention_heads"])


def _windows_behind(config: Config) -> list[str]:
    """Kinds of layers of Qwen: from a certain one on, attention in a window, where the config asks for that."""
    windows = config.get("use_sliding_window") and config.get("sliding_window") is not None
    first = int(config.get("max_window_layers") or 0)
    n = int(config["num_hidden_layers"])
    return ["sliding_attention" if windows and layer >= first else "full_attention" for layer in range(n)]


def _windows_in_turn(config: Config) -> list[str]:
    """Kinds of layers of Gemma 2: attention in a window and in full, in turn."""
    return [("sliding_attention", "full_attention")[layer % 2] for layer in range(int(config["num_hidden_layers"]))]


GROUPED = {"num_key_value_heads": _as_many_groups_as_heads, "head_dim": _equal_heads}


def _quantised(config: Config) -> str | None:
    if config.get("quantization_config"):
        return "its weights are quantised; grow the checkpoint that they were made from"
    return None


def _cross_attention(config: Config) -> str | None:
    if config.get("add_cross_attention"):
        return "it attends to an encoder (add_cross_attention), whose width is not known here"
    return None


def _pruned(config: Config) -> str | None:
    if config.get("pruned_heads"):
        return (
            "heads have been pruned from it, so that its layers differ in a way the config of a larger one cannot say"
        )
    return None


def _partly_rotary(config: Config) -> str | None:
    factor = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("partial_rotary_factor")
    factor = config.get("partial_rotary_factor") if factor is None else factor
    if factor not in (None, 1, 1.0):
        return f"it rotates a part of each head only (partial_rotary_factor {factor}), which no family here does"
    return None


ROTARY_REFUSALS = (_quantised, _partly_rotary)


# ---- the families ----------------------------------------------------------------------------------------------------

ROTARY_BUFFER = (r".*rotary_emb\.inv_freq",)
EPSILON = "rms_norm_eps"

LLAMA = Family(
    "Llama",
    (
        EMBEDDING,
        *NORMS,
        *_projections("query"),
        *_input_biases("query"),
        OUTPUT_BIAS,
        *GATED_MLP,
        *GATED_MLP_BIASES,
        LAST_NORM,
        HEAD,
    ),
    KEYS,
    {**GROUPED, "tie_word_embeddings": False, EPSILON: 1e-6},
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    divisible=True,
    refusals=ROTARY_REFUSALS,
)

MISTRAL = Family(
    "Mistral",
    (EMBEDDING, *NORMS, *_projections("query"), *GATED_MLP, LAST_NORM, HEAD),
    KEYS,
    {**GROUPED, "tie_word_embeddings": False, EPSILON: 1e-6},
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    refusals=ROTARY_REFUSALS,
)

QWEN2 = Family(
    "Qwen2",
    (EMBEDDING, *NORMS, *_projections("query"), *_input_biases("query", when=""), *GATED_MLP, LAST_NORM, HEAD),
    KEYS,
    {**GROUPED, "tie_word_embeddings": False, EPSILON: 1e-6, "layer_types": _windows_behind},
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    refusals=ROTARY_REFUSALS,
    layer_lists=("layer_types",),
)

QWEN3 = Family(
    "Qwen3",
    (
        EMBEDDING,
        *NORMS,
        *_projections("shared epsilon", key=("shared epsilon",)),
        *_input_biases("shared epsilon", key=("shared epsilon",)),
        OUTPUT_BIAS,
        Role(f"{ATTENTION}q_norm.weight", ((QUERY,),), "gain"),
        Role(f"{ATTENTION}k_norm.weight", ((QUERY,),), "gain"),
        *GATED_MLP,
        LAST_NORM,
        HEAD,
    ),
    KEYS,
    {
        "num_key_value_heads": _as_many_groups_as_heads,
        "head_dim": 128,
        "tie_word_embeddings": False,
        EPSILON: 1e-6,
        "layer_types": _windows_behind,
    },
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    normed_heads=True,
    refusals=ROTARY_REFUSALS,
    layer_lists=("layer_types",),
)

SCALED_EMBEDDING = Role("model.embed_tokens.weight", ((VOCABULARY,), (WRITE,)), scales=("embedding",))
SCALED_LAST_NORM = _gain("model.norm.weight", "head")

GEMMA = Family(
    "Gemma",
    (
        SCALED_EMBEDDING,
        *NORMS,
        *_projections("query"),
        *_input_biases("query"),
        OUTPUT_BIAS,
        *GATED_MLP,
        SCALED_LAST_NORM,
        HEAD,
    ),
    KEYS,
    {"num_key_value_heads": _as_many_groups_as_heads, "head_dim": 256, "tie_word_embeddings": True, EPSILON: 1e-6},
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    gain_offset=1.0,
    refusals=ROTARY_REFUSALS,
)

# Attention and perceptron are normed once more before they are added. A new layer is silenced by the gains of these
# norms: were their inputs zero instead, the first step of training would make them as large as those of any layer.
GEMMA2 = Family(
    "Gemma 2",
    (
        SCALED_EMBEDDING,
        _gain(f"{LAYER}input_layernorm.weight"),
        *_loud(_projections()),
        *_loud((*_input_biases(), OUTPUT_BIAS)),
        _gain(f"{LAYER}post_attention_layernorm.weight", silent=True),
        _gain(f"{LAYER}pre_feedforward_layernorm.weight"),
        *_loud(GATED_MLP),
        _gain(f"{LAYER}post_feedforward_layernorm.weight", silent=True),
        SCALED_LAST_NORM,
        HEAD,
    ),
    KEYS,
    {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "tie_word_embeddings": True,
        EPSILON: 1e-6,
        "layer_types": _windows_in_turn,
    },
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    gain_offset=1.0,
    divisible=True,
    refusals=ROTARY_REFUSALS,
    layer_lists=("layer_types",),
)

BLOCK = "transformer.h.{layer}."


def _layer_norm(name: str) -> tuple[Role, Role]:
    return _gain(f"{name}.weight"), Role(f"{name}.bias", ((SHIFT,),), "bias")


# Linear maps of GPT-2 have inputs first, outputs last.
GPT2 = Family(
    "GPT-2",
    (
        Role("transformer.wte.weight", ((VOCABULARY,), (WRITE_MEAN,))),
        Role("transformer.wpe.weight", ((POSITIONS,), (WRITE_MEAN,))),
        *_layer_norm(f"{BLOCK}ln_1"),
        Role(
            f"{BLOCK}attn.c_attn.weight",
            parts=(
                Role("queries", ((READ,), Q), scales=("query", "layer number")),
                Role("keys", ((READ,), K)),
                Role("values", ((READ,), V)),
            ),
            fused=1,
        ),
        Role(
            f"{BLOCK}attn.c_attn.bias",
            kind="bias",
            parts=(
                Role("queries", (Q,), "bias", scales=("query", "layer number")),
                Role("keys", (K,), "bias"),
                Role("values", (V,), "bias"),
            ),
        ),
        Role(f"{BLOCK}attn.c_proj.weight", (O, (WRITE_MEAN,)), silent=True),
        Role(f"{BLOCK}attn.c_proj.bias", ((WRITE_MEAN,),), "bias", silent=True),
        *_layer_norm(f"{BLOCK}ln_2"),
        Role(f"{BLOCK}mlp.c_fc.weight", ((READ,), (EXPAND,))),
        Role(f"{BLOCK}mlp.c_fc.bias", ((EXPAND,),), "bias"),
        Role(f"{BLOCK}mlp.c_proj.weight", ((CONTRACT,), (WRITE_MEAN,)), silent=True),
        Role(f"{BLOCK}mlp.c_proj.bias", ((WRITE_MEAN,),), "bias", silent=True),
        *_layer_norm("transformer.ln_f"),
        HEAD,
    ),
    {
        "hidden": "n_embd",
        "layers": "n_layer",
        "heads": "n_head",
        "mlp": "n_inner",
        "vocabulary": "vocab_size",
        "positions": "n_positions",
    },
    {
        "n_inner": lambda config: 4 * config["n_embd"],
        "tie_word_embeddings": True,
        "layer_norm_epsilon": 1e-5,
        "scale_attn_weights": True,
    },
    "transformer.",
    (r".*attn\.bias", r".*attn\.masked_bias"),
    "layer_norm_epsilon",
    rotary=False,
    square_heads=True,
    refusals=(_quantised, _cross_attention, _pruned),
)

IN_OWN_LAYER = "layer{layer}."

# saffu.Transformer: heads have an axis of their own, norms no epsilon that depends on the width, and no norm is last.
OWN = Family(
    "saffu.Transformer",
    (
        Role("embedding", ((INPUTS,), (WRITE,))),
        Role("positions", ((POSITIONS,), (WRITE,))),
        _gain(f"{IN_OWN_LAYER}attention_gain"),
        Role(f"{IN_OWN_LAYER}query", ((QUERY_HEADS,), (READ,), (QUERY,)), scales=("query",)),
        Role(f"{IN_OWN_LAYER}key", ((GROUPS,), (READ,), (KEY,))),
        Role(f"{IN_OWN_LAYER}value", ((GROUPS,), (READ,), (VALUE,))),
        Role(f"{IN_OWN_LAYER}merge", ((MERGED_HEADS,), (MERGED,), (WRITE,)), silent=True),
        _gain(f"{IN_OWN_LAYER}mlp_gain"),
        Role(f"{IN_OWN_LAYER}expand", ((READ,), (EXPAND,))),
        Role(f"{IN_OWN_LAYER}expand_bias", ((EXPAND,),), "bias"),
        Role(f"{IN_OWN_LAYER}contract", ((CONTRACT,), (WRITE,)), silent=True),
        Role(f"{IN_OWN_LAYER}contract_bias", ((WRITE,),), "bias", silent=True),
        Role("output", ((READ,), (VOCABULARY,))),
    ),
    {name: name for name in ("hidden", "layers", "heads", "key", "value", "mlp", "vocabulary", "inputs", "positions")},
    {},
    "",
    rotary=False,
)


def config_of_arrays(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a :class:`saffu.Transformer` as a config; ValueError if its arrays do not fit each other."""
    layers = sizes_of(arrays)
    n_inputs, hidden = arrays["embedding"].shape
    each = {name: list(values) for name, values in zip(LayerSizes._fields, zip(*layers, strict=True), strict=True)}
    sizes = {"hidden": hidden, "layers": len(layers), "positions": arrays["positions"].shape[0]}
    return {"model_type": OWN.name, "vocabulary": arrays["output"].shape[1], "inputs": n_inputs, **sizes, **each}


FAMILIES: dict[str, Family] = {
    OWN.name: OWN,
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
}
