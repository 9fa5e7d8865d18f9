"""The families that can be grown, each a table of the roles of its tensors.

To add one, write down its tensors with the axes of :mod:`saffu.checkpoint_growth.roles`: what each axis counts, whether
it reads from the state, writes into it or neither; name the factors of :mod:`saffu.checkpoint_growth.scales` that its
old entries need; mark as ``silent`` what makes a new layer add nothing; and put it into FAMILIES under the
``model_type`` of its configs. The tests of growth draw random configs in ``bench/trials/exact_growth.py``, where it
needs its class and its settings. Nothing else in the package knows a family by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saffu.checkpoint_growth.decoder_parts import (
    ATTENTION,
    EMBEDDING,
    GATED_MLP,
    GATED_MLP_BIASES,
    GROUPED,
    HEAD,
    KEYS,
    LAST_NORM,
    LAYER,
    NORMS,
    OUTPUT_BIAS,
    ROTARY_REFUSALS,
    K,
    O,
    Q,
    V,
    as_many_groups_as_heads,
    cross_attention,
    gain,
    input_biases,
    loud,
    projections,
    pruned,
    quantised,
    windows_behind,
    windows_in_turn,
)
from saffu.checkpoint_growth.roles import (
    CONTRACT,
    EXPAND,
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
    Family,
    Role,
)
from saffu.transformer.sizes import LayerSizes, sizes_of

# ---- the families ----------------------------------------------------------------------------------------------------

ROTARY_BUFFER = (r".*rotary_emb\.inv_freq",)
EPSILON = "rms_norm_eps"

LLAMA = Family(
    "Llama",
    (
        EMBEDDING,
        *NORMS,
        *projections("query"),
        *input_biases("query"),
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
    (EMBEDDING, *NORMS, *projections("query"), *GATED_MLP, LAST_NORM, HEAD),
    KEYS,
    {**GROUPED, "tie_word_embeddings": False, EPSILON: 1e-6},
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    refusals=ROTARY_REFUSALS,
)

QWEN2 = Family(
    "Qwen2",
    (EMBEDDING, *NORMS, *projections("query"), *input_biases("query", when=""), *GATED_MLP, LAST_NORM, HEAD),
    KEYS,
    {**GROUPED, "tie_word_embeddings": False, EPSILON: 1e-6, "layer_types": windows_behind},
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
        *projections("shared epsilon", key=("shared epsilon",)),
        *input_biases("shared epsilon", key=("shared epsilon",)),
        OUTPUT_BIAS,
        Role(f"{ATTENTION}q_norm.weight", ((QUERY,),), "gain"),
        Role(f"{ATTENTION}k_norm.weight", ((QUERY,),), "gain"),
        *GATED_MLP,
        LAST_NORM,
        HEAD,
    ),
    KEYS,
    {
        "num_key_value_heads": as_many_groups_as_heads,
        "head_dim": 128,
        "tie_word_embeddings": False,
        EPSILON: 1e-6,
        "layer_types": windows_behind,
    },
    "model.",
    ROTARY_BUFFER,
    EPSILON,
    normed_heads=True,
    refusals=ROTARY_REFUSALS,
    layer_lists=("layer_types",),
)

SCALED_EMBEDDING = Role("model.embed_tokens.weight", ((VOCABULARY,), (WRITE,)), scales=("embedding",))
SCALED_LAST_NORM = gain("model.norm.weight", "head")

GEMMA = Family(
    "Gemma",
    (
        SCALED_EMBEDDING,
        *NORMS,
        *projections("query"),
        *input_biases("query"),
        OUTPUT_BIAS,
        *GATED_MLP,
        SCALED_LAST_NORM,
        HEAD,
    ),
    KEYS,
    {"num_key_value_heads": as_many_groups_as_heads, "head_dim": 256, "tie_word_embeddings": True, EPSILON: 1e-6},
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
        gain(f"{LAYER}input_layernorm.weight"),
        *loud(projections()),
        *loud((*input_biases(), OUTPUT_BIAS)),
        gain(f"{LAYER}post_attention_layernorm.weight", silent=True),
        gain(f"{LAYER}pre_feedforward_layernorm.weight"),
        *loud(GATED_MLP),
        gain(f"{LAYER}post_feedforward_layernorm.weight", silent=True),
        SCALED_LAST_NORM,
        HEAD,
    ),
    KEYS,
    {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "tie_word_embeddings": True,
        EPSILON: 1e-6,
        "layer_types": windows_in_turn,
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
    return gain(f"{name}.weight"), Role(f"{name}.bias", ((SHIFT,),), "bias")


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
    refusals=(quantised, cross_attention, pruned),
)

IN_OWN_LAYER = "layer{layer}."

# saffu.Transformer: heads have an axis of their own, norms no epsilon that depends on the width, and no norm is last.
OWN = Family(
    "saffu.Transformer",
    (
        Role("embedding", ((INPUTS,), (WRITE,))),
        Role("positions", ((POSITIONS,), (WRITE,))),
        gain(f"{IN_OWN_LAYER}attention_gain"),
        Role(f"{IN_OWN_LAYER}query", ((QUERY_HEADS,), (READ,), (QUERY,)), scales=("query",)),
        Role(f"{IN_OWN_LAYER}key", ((GROUPS,), (READ,), (KEY,))),
        Role(f"{IN_OWN_LAYER}value", ((GROUPS,), (READ,), (VALUE,))),
        Role(f"{IN_OWN_LAYER}merge", ((MERGED_HEADS,), (MERGED,), (WRITE,)), silent=True),
        gain(f"{IN_OWN_LAYER}mlp_gain"),
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
