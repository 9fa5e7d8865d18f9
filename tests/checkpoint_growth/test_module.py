"""Live models of transformers, grown: the same logits, with masks, with a cache and in generation; nothing is dead."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import saffu  # noqa: E402
from bench.trials import exact_growth as trial  # noqa: E402
from saffu import grow  # noqa: E402
from saffu.checkpoint_growth.tensors import moment  # noqa: E402

FAMILIES = sorted(trial.CLASSES)
LIMITS = {"float64": 1e-10, "float32": 1e-5}
EACH = {"float64": 4, "float32": 2}


def model_of(family, seed=0, dtype="float32", **more):
    """A model of a family of fixed sizes with every number random."""
    rng = np.random.default_rng(seed)
    sizes = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 6, "vocab_size": 30, "max_position_embeddings": 32}
    if family == "gpt2":
        sizes = {"n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 30, "n_positions": 16}
    tokens = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": None}
    config = transformers.AutoConfig.for_model(family, **{**sizes, **tokens, **more})
    return trial.model_of(config, rng, dtype)


def everything(family):
    """Sizes that are all larger."""
    sizes = {"hidden": 36, "layers": 4, "places": [0, 2], "mlp": 130 if family == "gpt2" else 31, "heads": 6}
    return sizes if family == "gpt2" else sizes | {"kv_heads": 3}


def distance(model, larger):
    return trial.difference(model, larger, np.random.default_rng(0), generate=False)[0]


# ---- nothing is lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("family", trial.FAMILIES)
def test_any_chain_of_growths_keeps_the_function(family, dtype):
    for seed in range(EACH[dtype]):
        case = trial.random_case(family, seed, dtype)
        assert case.difference <= LIMITS[dtype], (seed, case)
        assert case.same_tokens, (seed, case)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_help_the_library_rounds_norms_to_single_precision(family):
    """Models of float64 as users run them: what differs is what norms in float32 lose."""
    model = model_of(family, dtype="float64")
    larger = grow.module(model, **everything(family))
    ids = torch.arange(1, 19).reshape(2, 9)
    with torch.no_grad():
        before, after = model(ids).logits, larger(ids).logits
    assert float((before - after).abs().max() / before.abs().max()) <= (1e-10 if family == "gpt2" else 1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_larger_model_is_saved_and_loaded_as_any_other(family, tied, tmp_path):
    model = model_of(family, tie_word_embeddings=tied)
    planned = grow.plan(model, **everything(family))
    larger = grow.module(model, **everything(family))
    assert larger.num_parameters() == planned.n_parameters[1]
    assert (larger.get_input_embeddings().weight is larger.get_output_embeddings().weight) == tied
    larger.save_pretrained(tmp_path)
    loaded = type(larger).from_pretrained(tmp_path).eval()
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == tied
    assert loaded.config.hidden_size == 36
    for name, value in larger.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert distance(model, loaded) <= 1e-5


def test_heads_of_other_kinds_and_models_without_one():
    model = model_of("llama")
    base = grow.module(model.model, hidden=36, layers=3)
    ids = torch.arange(1, 10)[None]
    with torch.no_grad():
        before, after = model.model(ids).last_hidden_state, base(ids).last_hidden_state
    torch.testing.assert_close(after[..., :24], before, rtol=0, atol=1e-5)
    assert not after[..., 24:].any()
    classifier = transformers.LlamaForSequenceClassification(model.config)
    with pytest.raises(ValueError, match=r"tensor 'score.weight' is none that Llama has, so how it grows is not known"):
        grow.module(classifier, hidden=36)
    del model.model.layers[1].mlp.up_proj
    with pytest.raises(ValueError, match=r"tensor 'model.layers.1.mlp.up_proj.weight' of Llama is missing"):
        grow.module(model, hidden=36)


def test_wider_heads_where_positions_rotate():
    for kind in ({"rope_type": "default"}, {"rope_type": "linear", "factor": 3.0}, LLAMA3):
        model = model_of("llama", dtype="float64", rope_parameters={"rope_theta": 10_000.0, **kind})
        assert distance(model, grow.module(model, head_dim=18)) <= 1e-10


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8}


def test_the_given_model_and_chance_stay_as_they_are():
    model = model_of("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    one, same, other = (grow.module(model, hidden=36, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert one.config.rms_norm_eps == pytest.approx(model.config.rms_norm_eps * 24 / 36)
    assert not one.training
    assert grow.module(model.train(), hidden=36).training


def test_new_numbers_are_what_init_makes_them():
    asked = {}

    def init(name, shape):
        asked[name] = shape
        return np.full(shape, 0.25)

    model = model_of("llama")
    larger = grow.module(model, mlp=30, init=init).state_dict()
    assert asked["model.layers.1.mlp.up_proj.weight"] == (30, 24)
    assert (larger["model.layers.0.mlp.gate_proj.weight"][20:] == 0.25).all()
    assert not larger["model.layers.0.mlp.down_proj.weight"][:, 20:].any()
    with pytest.raises(ValueError, match=r"init must give an array of shape \(30, 24\) for 'model.layers.0.mlp.gate_"):
        grow.module(model, mlp=30, init=lambda name, shape: np.ones(3))
    with pytest.raises(ValueError, match="init must be one of 'normal', 'zeros', got 'ones'"):
        grow.module(model, mlp=30, init="ones")
    with pytest.warns(UserWarning, match="no gradient reaches"):
        assert distance(model, grow.module(model, mlp=30, init="zeros")) <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_new_units_and_values_are_directions_of_words(family):
    """The mean of the states before a word less that of all, by hooks of this test's own."""
    model = model_of(family)
    ids = np.random.default_rng(0).integers(0, 30, 300)
    init = grow.DecoderPrototypes(model, ids, seed=3)
    larger = grow.module(model, init=init, **everything(family))
    assert distance(model, larger) <= 1e-5
    block = model.get_submodule("transformer.h" if family == "gpt2" else "model.layers")[1]
    expand = block.mlp.c_fc if family == "gpt2" else block.mlp.up_proj
    seen = []
    hook = expand.register_forward_pre_hook(lambda _, given: seen.append(given[0].reshape(-1, 24).numpy()))
    length = model.config.max_position_embeddings
    with torch.no_grad():
        for first in range(0, 299, length):
            model(torch.from_numpy(ids[None, first : min(first + length, 299)]))
    hook.remove()
    states, labels = np.concatenate(seen), ids[1:]
    means = {word: states[labels == word].mean(axis=0) - states.mean(axis=0) for word in range(30)}
    words = [word for word in range(30) if (labels == word).sum() >= 5]
    words.sort(key=lambda word: -(labels == word).sum() * (means[word] ** 2).sum())
    name = "transformer.h.2.mlp.c_fc.weight" if family == "gpt2" else "model.layers.2.mlp.up_proj.weight"
    assert grow.plan(model, **everything(family)).sources[2] == 1
    made = larger.state_dict()[name].numpy()
    new = made[:24, 96:].T if family == "gpt2" else made[20:, :24]
    for row, word in zip(new, words[:11], strict=False):
        assert row @ means[word] == pytest.approx(np.linalg.norm(row) * np.linalg.norm(means[word]), rel=1e-4)
    assert (states @ new[:11].T).std(axis=0) == pytest.approx(np.ones(11), rel=1e-3)


def test_directions_ask_for_a_text_of_the_models_words():
    model = model_of("llama")
    with pytest.raises(ValueError, match="ids must hold at least two tokens, got 1"):
        grow.DecoderPrototypes(model, [3])
    with pytest.raises(ValueError, match="must be below 30, got 30"):
        grow.DecoderPrototypes(model, [3, 30])
    with pytest.raises(TypeError, match="DecoderPrototypes are for "):
        saffu.Transformer(9, hidden=4).grow(mlp=30, init=grow.DecoderPrototypes(model, [1, 2] * 20))


# ---- 16 bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_of_16_bits_are_rounded_once(family):
    """Each scaled number and each mean is off by half of its last place; where there is none, nothing is off."""
    model = model_of(family, dtype="bfloat16")
    single = in_single(model)
    heads = {"heads": 6} if family == "gpt2" else {}
    larger, precise = grow.module(model, hidden=36, **heads), grow.module(single, hidden=36, **heads)
    for name, value in larger.named_parameters():
        if not (family.startswith("gemma") and ("norm" in name or "embed" in name)):
            expected = precise.get_parameter(name)
            assert ((value.float() - expected).abs() <= 2**-8 * expected.abs()).all(), name
    assert distance(single, in_single(larger)) <= 0.03
    four_times = {"heads": 16} if family == "gpt2" else {}
    larger = grow.module(model, hidden=96, **four_times)  # the gains are halved, which is exact
    if family in ("llama", "mistral", "qwen2", "qwen3"):
        assert distance(single, in_single(larger)) <= 1e-5


def in_single(model):
    """The same numbers in float32."""
    single = type(model)(model.config).float().eval()
    single.load_state_dict(model.state_dict())
    return single


# ---- nothing is dead -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_all_that_is_new_within_two_steps(family, tied):
    """Of the second norms of the last layer of a tied Gemma 2 within three; its embeddings have to learn first."""
    model = model_of(family, dtype="float64", tie_word_embeddings=tied)
    planned = grow.plan(model, **everything(family))
    larger = grow.module(model, **everything(family)).train(False)
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.permuted(np.tile(np.arange(30), (8, 1)), axis=1)[:, :16])
    reached = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in larger.named_parameters()}
    for _ in range(3 if family == "gemma2" and tied else 2):
        larger.zero_grad()
        logits = larger(ids).logits
        torch.nn.functional.cross_entropy(logits.reshape(-1, 30), ids.roll(-1, 1).reshape(-1)).backward()
        with torch.no_grad():
            for name, parameter in larger.named_parameters():
                reached[name] |= parameter.grad != 0
                parameter -= 0.1 * parameter.grad
    for step in planned.steps:
        old = np.zeros(step.shape)
        if step.source:
            old = moment(planned, step, np.ones(step.old_shape), 0)
        assert (reached[step.name].numpy() | (old == 1)).all(), step.name


# ---- our own ---------------------------------------------------------------------------------------------------------


def test_our_own_transformer_and_its_twin_grow_as_all_others():
    from saffu.torch import Transformer

    model = saffu.Transformer(11, hidden=6, layers=2, heads=(2, 1), key=(3, 2), value=(2, 4), mlp=(5, 7), positions=8)
    target = {"hidden": 9, "layers": 3, "places": [1], "heads": 3, "mlp": 12, "value": 5, "key": 6}
    larger = grow.module(model, **target, seed=4)
    twin = grow.module(Transformer(model.arrays), **target, seed=4)
    ids = np.random.default_rng(0).integers(0, 11, (3, 8))
    np.testing.assert_allclose(larger.logits(ids), model.logits(ids), rtol=0, atol=1e-5)
    for name, value in larger.arrays.items():
        np.testing.assert_array_equal(twin.arrays[name], value)
    assert [size.mlp for size in larger.sizes] == [12, 12, 12]
    assert larger.growth == [{"kind": "sizes", **target}]
