"""Roles that families of decoders share, what their configs may lack, and what they may not have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from saffu.checkpoint_growth.roles import (
    CONTRACT,
    EXPAND,
    GAIN,
    GROUPS,
    KEY,
    MERGED,
    MERGED_HEADS,
    QUERY,
    QUERY_HEADS,
    READ,
    VALUE,
    VOCABULARY,
    WRITE,
    Config,
    Role,
)

LAYER = "model.layers.{layer}."
ATTENTION, MLP = f"{LAYER}self_attn.", f"{LAYER}mlp."
Q, K, V, O = ((QUERY_HEADS, QUERY), (GROUPS, KEY), (GROUPS, VALUE), (MERGED_HEADS, MERGED))  # noqa: E741


# ---- parts that families share ---------------------------------------------------------------------------------------


def gain(name: str, *more: str, silent: bool = False) -> Role:
    """A gain of a norm of states, with its factors."""
    return Role(name, ((GAIN,),), "gain", ("norm", *more), silent)


EMBEDDING = Role("model.embed_tokens.weight", ((VOCABULARY,), (WRITE,)))
LAST_NORM = gain("model.norm.weight")
HEAD = Role("lm_head.weight", ((VOCABULARY,), (READ,)), when="not tie_word_embeddings")
NORMS = (gain(f"{LAYER}input_layernorm.weight"), gain(f"{LAYER}post_attention_layernorm.weight"))
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


def projections(*query: str, key: tuple[str, ...] = ()) -> tuple[Role, ...]:
    """Weights of attention; the factors of queries and of keys."""
    return (
        Role(f"{ATTENTION}q_proj.weight", (Q, (READ,)), scales=query),
        Role(f"{ATTENTION}k_proj.weight", (K, (READ,)), scales=key),
        Role(f"{ATTENTION}v_proj.weight", (V, (READ,))),
        Role(f"{ATTENTION}o_proj.weight", ((WRITE,), O), silent=True),
    )


def input_biases(*query: str, key: tuple[str, ...] = (), when: str = "attention_bias") -> tuple[Role, ...]:
    """Biases of queries, keys and values."""
    return (
        Role(f"{ATTENTION}q_proj.bias", (Q,), "bias", query, when=when),
        Role(f"{ATTENTION}k_proj.bias", (K,), "bias", key, when=when),
        Role(f"{ATTENTION}v_proj.bias", (V,), "bias", when=when),
    )


OUTPUT_BIAS = Role(f"{ATTENTION}o_proj.bias", ((WRITE,),), "bias", silent=True, when="attention_bias")


def loud(roles: tuple[Role, ...]) -> tuple[Role, ...]:
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


def as_many_groups_as_heads(config: Config) -> Any:
    """As many heads of keys and values as of queries."""
    return config.get("num_attention_heads")


def _equal_heads(config: Config) -> int:
    return int(config["hidden_size"]) // int(config["num_attention_heads"])


def windows_behind(config: Config) -> list[str]:
    """Kinds of layers of Qwen: from a certain one on, attention in a window, where the config asks for that."""
    windows = config.get("use_sliding_window") and config.get("sliding_window") is not None
    first = int(config.get("max_window_layers") or 0)
    n = int(config["num_hidden_layers"])
    return ["sliding_attention" if windows and layer >= first else "full_attention" for layer in range(n)]


def windows_in_turn(config: Config) -> list[str]:
    """Kinds of layers of Gemma 2: attention in a window and in full, in turn."""
    return [("sliding_attention", "full_attention")[layer % 2] for layer in range(int(config["num_hidden_layers"]))]


GROUPED = {"num_key_value_heads": as_many_groups_as_heads, "head_dim": _equal_heads}


def quantised(config: Config) -> str | None:
    """Why quantised weights cannot be grown."""
    if config.get("quantization_config"):
        return "its weights are quantised; grow the checkpoint that they were made from"
    return None


def cross_attention(config: Config) -> str | None:
    """Why a decoder with an encoder cannot be grown."""
    if config.get("add_cross_attention"):
        return "it attends to an encoder (add_cross_attention), whose width is not known here"
    return None


def pruned(config: Config) -> str | None:
    """Why a model of which heads were pruned cannot be grown."""
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


ROTARY_REFUSALS = (quantised, _partly_rotary)
