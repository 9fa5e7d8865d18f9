"""Plans of growth: where old numbers go, how many are new, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from saffu import grow
from saffu.checkpoint_growth.families import FAMILIES
from saffu.checkpoint_growth.heads import NEW, head_maps, rotary_map
from saffu.checkpoint_growth.plan import maps_of
from saffu.checkpoint_growth.scales import SCALES, embedding_factor
from saffu.checkpoint_growth.sizes import layer_sources

SMALL = {"vocab_size": 30, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6}
GPT2 = {"model_type": "gpt2", "vocab_size": 30, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 16}


def config(kind="llama", **more):
    return GPT2 | more if kind == "gpt2" else {"model_type": kind} | SMALL | more


# ---- where old numbers go --------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_every_old_head_reads_its_old_group(groups, each, new_groups, new_each):
    """By the convention of consecutive query heads to a group, after growth as before."""
    heads, new_heads = groups * each, new_groups * new_each
    needed = groups * -(-each // new_each)
    if new_groups < needed:
        with pytest.raises(ValueError, match=f"at least {needed} key/value heads"):
            head_maps((heads, new_heads), (groups, new_groups))
        return
    queries, keys = head_maps((heads, new_heads), (groups, new_groups))
    assert sorted(queries[queries != NEW]) == list(range(heads))
    assert set(range(groups)) <= set(keys)
    for place, head in enumerate(queries):
        if head != NEW:
            assert keys[place // new_each] == head // each


@given(st.integers(1, 8), st.integers(1, 5), st.floats(10, 1e6))
def test_rotated_pairs_keep_their_frequencies(pairs, times, base):
    """Pair i of a head is its numbers i and i + half; both stand as far apart as a pair does in the wider head."""
    old, new = 2 * pairs, 2 * pairs * times
    places = rotary_map(old, new)
    for i in range(pairs):
        first, second = np.flatnonzero(places == i)[0], np.flatnonzero(places == i + pairs)[0]
        assert second == first + new // 2
        assert base ** (-2 * first / new) == pytest.approx(base ** (-2 * i / old), rel=1e-12)


def test_new_layers_stand_where_they_are_asked_for():
    assert layer_sources(2, 2, None) == (0, 1)
    assert layer_sources(2, 4, "end") == (0, 1, None, None)
    assert layer_sources(4, 6, "spread") == (0, None, 1, 2, None, 3)
    assert layer_sources(2, 4, [2, 0]) == (None, 0, 1, None)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_a_plan_counts_what_its_maps_say(kind):
    """An entry is old where all of its axes are, zero where one that writes is new, and else free."""
    given_config = saffu.Transformer(9, hidden=4, layers=1, heads=2, positions=6) if kind not in NAMED else config(kind)
    sizes = {"mlp": 99, "layers": 3, "hidden": 48, "heads": 8}
    sizes |= {"key": 5} if kind not in NAMED else {} if kind == "gpt2" else {"kv_heads": 4}
    planned = grow.plan(given_config, **sizes)
    for step in planned.steps:
        assert step.copied + step.zero + step.mean + step.free == math.prod(step.shape)
        if step.source is None or step.role.parts:
            continue
        flat = [axis for axes in step.role.axes for axis in axes]
        places = [p for some in maps_of(planned, step.role, step.old_layer, step.new_layer) for p in some]
        new = np.meshgrid(*[p == NEW for p in places], indexing="ij")
        zero = np.any([n for n, axis in zip(new, flat, strict=True) if axis.new != "free"] or [False], axis=0)
        old = ~np.any(new, axis=0)
        assert old.sum() == step.copied
        assert step.role.kind == "bias" or (zero & ~old).sum() == step.zero + step.mean
    assert planned.n_parameters[1] == sum(math.prod(step.shape) for step in planned.steps)


NAMED = {"gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"}


def test_every_family_says_what_each_of_its_tensors_is():
    for family in FAMILIES.values():
        names = [role.name for role in family.roles]
        assert len(set(names)) == len(names)
        assert any(role.silent for role in family.roles)
        parts = [part for role in family.roles for part in (role.parts or (role,))]
        assert {scale for part in parts for scale in part.scales} <= set(SCALES)


def test_the_table_shows_what_is_copied_scaled_zero_and_free():
    text = str(grow.plan(config("gpt2"), hidden=32, heads=4, layers=3))
    assert "GPT-2: hidden 24, layers 2, mlp 96, heads 4, kv_heads 4, head_dim 6" in text
    assert "layer_norm_epsilon 1e-05 -> 7.5e-06" in text
    rows = {line.split("  ")[0].strip(): line.split() for line in text.splitlines()}
    assert rows["transformer.h.*.ln_1.weight x 2"][-3:] == ["24", "0.866", "8"]
    assert rows["transformer.h.*.attn.c_attn.weight x 2"][-6:-3] == ["1,728", "1.155", "1"]
    assert "new layer" in text
    assert text == str(grow.plan(config("gpt2"), hidden=32, heads=4, layers=3))


def test_the_table_states_what_rounding_loses():
    line = "bfloat16: each scaled number, and each mean, is off by at most 2^-8 of itself"
    assert line in str(grow.plan(config(dtype="bfloat16"), hidden=36))
    assert line not in str(grow.plan(config(dtype="bfloat16"), hidden=96, mlp=30))  # the gains are halved
    assert "2^-11 of itself" in str(grow.plan(config(torch_dtype="float16"), hidden=36))
    assert "2^-" not in str(grow.plan(config(), hidden=36))


def test_what_a_config_lacks_is_what_its_family_does_without_it():
    bare = {name: value for name, value in config().items() if name not in ("num_key_value_heads", "head_dim")}
    planned = grow.plan(bare, heads=6, hidden=36)
    assert planned.new.layers[0] == (6, 6, 6, 6, 20)
    assert (planned.config["head_dim"], planned.config["num_key_value_heads"]) == (6, 6)
    assert grow.plan(config("gemma", head_dim=None), mlp=30).old.layers[0].key == 256
    assert grow.plan(config("gpt2"), hidden=48).config["n_inner"] == 96
    kinds = grow.plan(config("gemma2"), layers=3, places=[1]).config["layer_types"]
    assert kinds == ["sliding_attention", "sliding_attention", "full_attention"]
    windows = config("qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert grow.plan(windows, layers=3).config["layer_types"] == ["full_attention", *["sliding_attention"] * 2]


def test_embedding_factors_are_rounded_as_models_round_them():
    torch = pytest.importorskip("torch")
    for hidden in (24, 100, 2304, 3072, 3584):
        for name in ("float64", "float32", "bfloat16", "float16"):
            expected = float(torch.tensor(hidden**0.5, dtype=torch.float64).to(getattr(torch, name)))
            assert embedding_factor(hidden, name) == expected


# ---- what is refused -------------------------------------------------------------------------------------------------

ROTATED = {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}
REFUSED = [
    (
        config("bloom"),
        {"hidden": 48},
        ValueError,
        "model_type must be one of gemma, gemma2, gpt2, llama, .*got 'bloom'",
    ),
    (config(), {"hidden": 20}, ValueError, "hidden must be at least 24, as it is now: a model can grow only, got 20"),
    (config(), {"layers": 1}, ValueError, "layers must be at least 2"),
    (config(), {"mlp": 19}, ValueError, "mlp must be at least 20"),
    (config(), {"heads": 2}, ValueError, "heads must be at least 4"),
    (config(), {"kv_heads": 1}, ValueError, "kv_heads must be at least 2"),
    (config(), {"head_dim": 4}, ValueError, "head_dim must be at least 6"),
    (config(), {"width": 48}, TypeError, "a target must be some of hidden, layers, mlp, .*got 'width'"),
    (config(), {"hidden": 48.0}, TypeError, "hidden must be an integer"),
    (config(), {"hidden": 10**9}, ValueError, "hidden must be at most 65536"),
    (
        config(),
        {"key": 12},
        ValueError,
        "Llama has no key to choose, but hidden, layers, mlp, heads, kv_heads, head_dim",
    ),
    (
        config(),
        {"heads": 6, "kv_heads": 4, "hidden": 36},
        ValueError,
        "heads must be a multiple of kv_heads, got 6 and 4",
    ),
    (config(), {"kv_heads": 3, "heads": 6, "hidden": 30}, None, ""),
    (
        config(num_attention_heads=6),
        {"kv_heads": 3},
        ValueError,
        "3 key/value heads of 2 query heads each cannot hold 2",
    ),
    (config(), {"hidden": 26}, ValueError, "hidden must be a multiple of heads, got 26 and 4: transformers refuses"),
    (config("gemma2"), {"hidden": 26}, ValueError, "transformers refuses other configs of Gemma 2"),
    (config("mistral"), {"hidden": 25}, None, ""),
    (config(), {"head_dim": 9}, ValueError, "head_dim must be a multiple of 6, as it is now, got 9: positions rotate"),
    (config(), {"head_dim": 12}, None, ""),
    (config(**ROTATED), {"head_dim": 12}, ValueError, "rotation of the kind 'yarn' depends on the width"),
    (config(**ROTATED), {"hidden": 48}, None, ""),
    (config(rope_scaling={"type": "dynamic"}), {"head_dim": 12}, ValueError, "rotation of the kind 'dynamic'"),
    (config("qwen3"), {"head_dim": 12}, ValueError, "head_dim of Qwen3 must stay 6, got 12: it norms queries and keys"),
    (config(partial_rotary_factor=0.5), {"mlp": 30}, ValueError, "rotates a part of each head only"),
    (config(quantization_config={"bits": 4}), {"mlp": 30}, ValueError, "its weights are quantised"),
    (config("gpt2", add_cross_attention=True), {"n": 1}, ValueError, "attends to an encoder"),
    (config("gpt2", pruned_heads={"0": [1]}), {"mlp": 99}, ValueError, "heads have been pruned"),
    (config("gpt2"), {"hidden": 50}, ValueError, "hidden must be a multiple of heads in GPT-2, got 50 and 4"),
    (config("gpt2"), {"heads": 6}, ValueError, "hidden / heads, the width of a head, must be at least 6.* got 4"),
    (config("gpt2"), {"kv_heads": 4}, ValueError, "GPT-2 has no kv_heads to choose, but hidden, layers, mlp, heads"),
    (config("gpt2"), {"head_dim": 8}, ValueError, "GPT-2 has no head_dim to choose"),
    (config(), {"layers": 4, "places": [0]}, ValueError, "places must have one entry for each of 2 new layers, got 1"),
    (config(), {"layers": 3, "places": [3]}, ValueError, "places must be at most 2, got 3"),
    (config(), {"layers": 3, "places": "middle"}, ValueError, "places must be one of 'end', 'spread', got 'middle'"),
    (config(hidden_size=None), {"mlp": 30}, ValueError, "the config's hidden_size must be a positive whole number"),
    (config(num_key_value_heads=3), {"mlp": 30}, ValueError, "4 heads in 3 groups, which is no whole number"),
    (
        config("qwen2", layer_types=["full_attention"]),
        {"mlp": 30},
        ValueError,
        "layer_types must have an entry for each of",
    ),
    (config("gpt2", n_head=5), {"mlp": 99}, ValueError, "hidden size of 24, which is no multiple of its 5 heads"),
    (saffu.Transformer(9, hidden=4), {"kv_heads": 2}, ValueError, "saffu.Transformer has no kv_heads to choose"),
    (3, {"mlp": 30}, TypeError, "config must be a dict, a transformers config or model, or a folder, got int"),
]


@pytest.mark.parametrize(("source", "target", "error", "message"), REFUSED)
def test_what_cannot_be_exact_is_refused_in_one_line(source, target, error, message):
    if error is None:
        grow.plan(source, **target)
        return
    with pytest.raises(error, match=message) as caught:
        grow.plan(source, **target)
    assert "\n" not in str(caught.value)
