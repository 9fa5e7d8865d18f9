"""Checkpoints in folders: written by others, grown tensor by tensor, whole or not at all."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from saffu import grow
from saffu.checkpoint_growth import checkpoint as module
from saffu.checkpoint_growth.shards import tensors_in
from saffu.cli import main as cli

CONFIG = {"model_type": "llama", "vocab_size": 30, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2}
CONFIG |= {"num_attention_heads": 4, "num_key_value_heads": 2, "architectures": ["LlamaForCausalLM"]}
CONFIG |= {"initializer_range": 0.02, "eos_token_id": None, "bos_token_id": 1}


def written(folder, dtype=np.float32, shards=1, **more):
    """A checkpoint with random numbers, in one file or several."""
    config, rng = CONFIG | more, np.random.default_rng(0)
    folder.mkdir()
    planned = grow.plan(config)
    tensors = {step.name: rng.normal(0, 0.3, step.shape).astype(dtype) for step in planned.steps}
    names = sorted(tensors)
    files = {f"model-{n + 1:05}-of-{shards:05}.safetensors": names[n::shards] for n in range(shards)}
    files = {"model.safetensors": names} if shards == 1 else files
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, folder / file, {"format": "pt"})
    if shards > 1:
        where = {name: file for file, some in files.items() for name in some}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return tensors


def contents(folder):
    """All tensors of a checkpoint as another library reads them."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


TARGET = {"hidden": 36, "layers": 3, "mlp": 31, "heads": 6, "kv_heads": 3}


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_index_config_and_the_files_of_the_tokenizer(tmp_path, shards):
    old = written(tmp_path / "small", shards=shards)
    planned = grow.checkpoint(tmp_path / "small", tmp_path / "large", shard_bytes=20_000, **TARGET)
    new, large = contents(tmp_path / "large"), tmp_path / "large"
    assert {name: value.shape for name, value in new.items()} == {step.name: step.shape for step in planned.steps}
    name = "model.layers.1.self_attn.o_proj.weight"
    np.testing.assert_array_equal(new[name][:24, :24], old[name])
    assert not new[name][24:].any()
    assert not new[name][:, 24:].any()
    gain = "model.layers.0.input_layernorm.weight"
    np.testing.assert_allclose(new[gain][:24], old[gain] * np.sqrt(24 / 36), rtol=1e-6)
    index = json.loads((large / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(new)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in new.values())
    assert all((large / file).stat().st_size < 25_000 for file in index["weight_map"].values())
    config = json.loads((large / "config.json").read_text())
    assert {name: config[name] for name in ("hidden_size", "head_dim", "bos_token_id")} == {
        "hidden_size": 36,
        "head_dim": 6,
        "bos_token_id": 1,
    }
    assert config["rms_norm_eps"] == pytest.approx(1e-6 * 24 / 36)
    assert (large / "tokenizer.json").read_text() == '{"version": "1.0"}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small"]


def test_the_size_of_shards_changes_nothing_else(tmp_path):
    written(tmp_path / "small")
    for name, size in (("one", 10**9), ("many", 1)):
        grow.checkpoint(tmp_path / "small", tmp_path / name, shard_bytes=size, seed=3, **TARGET)
    one, many = contents(tmp_path / "one"), contents(tmp_path / "many")
    assert [path.name for path in (tmp_path / "one").glob("*.safetensors*")] == ["model.safetensors"]
    assert len(list((tmp_path / "many").glob("*.safetensors"))) == len(many)
    for name, value in one.items():
        np.testing.assert_array_equal(many[name], value)


def test_numbers_of_16_bits_are_read_exactly_and_rounded_to_the_nearest(tmp_path):
    torch = pytest.importorskip("torch")
    import safetensors.torch

    rng, folder = np.random.default_rng(1), tmp_path / "numbers"
    folder.mkdir()
    single = torch.from_numpy(np.append(rng.normal(0, 1, 3000).astype(np.float32), [0, -0.0, np.inf, -np.inf, 1e-40]))
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        safetensors.torch.save_file({"a": single.to(dtype)}, folder / "model.safetensors")
        found = tensors_in(str(folder))["a"]
        np.testing.assert_array_equal(found.read(), single.to(dtype).to(torch.float64).numpy())
        path = folder / "model.safetensors"
        planned = module.Planned("a", found.code, found.shape)
        module.write_shard(str(path), [planned], lambda name: single.numpy(), lambda n: None)
        assert torch.equal(safetensors.torch.load_file(path)["a"], single.to(dtype))


def test_another_dtype_is_that_of_all_tensors(tmp_path):
    old = written(tmp_path / "small", np.float16)
    grow.checkpoint(tmp_path / "small", tmp_path / "large", dtype="float32", **TARGET)
    new = contents(tmp_path / "large")
    assert {value.dtype for value in new.values()} == {np.dtype(np.float32)}
    assert json.loads((tmp_path / "large" / "config.json").read_text())["dtype"] == "float32"
    name = "model.embed_tokens.weight"
    np.testing.assert_array_equal(new[name][:, :24], old[name].astype(np.float32))
    grow.checkpoint(tmp_path / "small", tmp_path / "same", **TARGET)
    assert {value.dtype for value in contents(tmp_path / "same").values()} == {np.dtype(np.float16)}
    assert json.loads((tmp_path / "same" / "config.json").read_text())["dtype"] == "float16"


def test_names_of_the_first_gpt2_checkpoints(tmp_path):
    """They lack the prefix, and hold masks."""
    config = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 4}
    (tmp_path / "small").mkdir()
    tensors = {s.name.removeprefix("transformer."): np.ones(s.shape, np.float32) for s in grow.plan(config).steps}
    masks = {"h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32), "h.0.attn.masked_bias": np.ones(1, np.float32)}
    save_file(tensors | masks, tmp_path / "small" / "model.safetensors")
    (tmp_path / "small" / "config.json").write_text(json.dumps(config))
    grow.checkpoint(tmp_path / "small", tmp_path / "large", hidden=12, layers=2)
    assert set(contents(tmp_path / "large")) == set(tensors) | {n.replace("h.0", "h.1") for n in tensors if "h.0" in n}


def test_a_checkpoint_computes_what_its_source_does(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    written(tmp_path / "small")
    grow.checkpoint(tmp_path / "small", tmp_path / "large", verify=True, places=[0], **TARGET)
    small, large = (transformers.AutoModelForCausalLM.from_pretrained(tmp_path / n).eval() for n in ("small", "large"))
    again = grow.module(small, places=[0], **TARGET)
    for name, value in large.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert {k: v for k, v in large.config.to_dict().items() if k != "_name_or_path"} == {
        k: v for k, v in again.config.to_dict().items() if k != "_name_or_path"
    }


def test_a_checkpoint_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    written(tmp_path / "small")
    real = module.grown
    monkeypatch.setattr(module, "grown", lambda planned, step, *more: real(planned, step, *more) * 1.5)
    with pytest.raises(ValueError, match="does not compute what its source does: logits differ by"):
        grow.checkpoint(tmp_path / "small", tmp_path / "large", verify=True, **TARGET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


# ---- what ends before its end ----------------------------------------------------------------------------------------


def interrupted(tmp_path, monkeypatch, after, **target):
    """Grow until some tensors are made, then Ctrl-C."""
    real, made = module.grown, []

    def grown(planned, step, *more):
        if len(made) == after:
            raise KeyboardInterrupt
        made.append(step.name)
        return real(planned, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(module, "grown", grown)
        try:
            grow.checkpoint(tmp_path / "small", tmp_path / "large", shard_bytes=10_000, **target)
        except KeyboardInterrupt:
            return made
    return made


def test_the_same_call_goes_on_where_another_ended(tmp_path, monkeypatch):
    written(tmp_path / "small")
    grow.checkpoint(tmp_path / "small", tmp_path / "whole", shard_bytes=10_000, **TARGET)
    first = interrupted(tmp_path, monkeypatch, 12, **TARGET)
    assert not (tmp_path / "large").exists()
    left = tmp_path / ".large.growing"
    shards = list(left.glob("*.safetensors"))
    assert shards
    again = interrupted(tmp_path, monkeypatch, 100, **TARGET)
    assert 0 < len(again) < len(contents(tmp_path / "whole"))
    assert len(set(first) & set(again)) < 12
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "large" / path.name).read_bytes() == path.read_bytes()
    assert not left.exists()


def test_another_call_begins_anew(tmp_path, monkeypatch):
    written(tmp_path / "small")
    interrupted(tmp_path, monkeypatch, 12, **TARGET)
    again = interrupted(tmp_path, monkeypatch, 100, **(TARGET | {"mlp": 32}))
    assert set(again) == set(contents(tmp_path / "large"))
    assert contents(tmp_path / "large")["model.layers.0.mlp.up_proj.weight"].shape == (32, 36)


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no limit on memory")
def test_memory_is_for_the_largest_tensor(tmp_path):
    """60 MB become 150 MB with 24 MB more than the command takes to start, the largest tensor 5 MB."""
    from helpers.forked import CommandLine

    wide = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 1000}
    written(tmp_path / "small", shards=4, **wide)
    size = sum(path.stat().st_size for path in (tmp_path / "small").iterdir())
    command_line = CommandLine(str(tmp_path), 24 << 20)
    try:
        sizes = ("--hidden", 768, "--mlp", 1500, "--layers", 7)
        code, output, errors = command_line.run(
            tmp_path, "grow-checkpoint", "small", *sizes, "--out", "large", "--shard-size", "40M"
        )
    finally:
        command_line.close()
    assert (code, errors) == (0, "")
    assert size > 2 * (24 << 20)
    assert output.endswith("wrote large\n")
    assert sum(path.stat().st_size for path in (tmp_path / "large").iterdir()) > 2 * size


# ---- what is refused -------------------------------------------------------------------------------------------------


def break_index(folder):
    (folder / "model.safetensors").write_bytes(b"no safetensors at all")


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])


def without(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_places(folder):
    (folder / "model.safetensors.index.json").write_text('{"weights": {}}')


def no_json(folder):
    (folder / "config.json").write_text("{")


def lacks_config(folder):
    (folder / "config.json").unlink()


def in_the_way(folder):
    (folder.parent / ".large.growing").mkdir()


def with_integers(folder):
    save_file({n: v.astype(np.int8) for n, v in contents(folder).items()}, folder / "model.safetensors")


def with_more(folder):
    save_file(contents(folder) | {"model.visual": np.ones(3, np.float32)}, folder / "model.safetensors")


def with_less(folder):
    tensors = contents(folder)
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")


def with_other_shapes(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 31}))


REFUSED = [
    (break_index, {}, ValueError, "model.safetensors' is no safetensors file"),
    (without_places, {}, ValueError, "index.json' does not say in which file each tensor is"),
    (no_json, {}, ValueError, "config.json' is no JSON"),
    (lacks_config, {}, FileNotFoundError, "config.json"),
    (in_the_way, {}, FileExistsError, "growing' is in the way, and no growth has left it; remove it"),
    (cut_short, {}, ValueError, "is cut short: it has"),
    (
        without,
        {},
        FileNotFoundError,
        "must have model.safetensors or .*it has 'pytorch_model.bin', which save_pretrained",
    ),
    (
        with_integers,
        {},
        ValueError,
        "must be of float64, float32, bfloat16, float16 to be grown, got I8, which is quantis",
    ),
    (with_more, {}, ValueError, "tensor 'model.visual' is none that Llama has"),
    (with_less, {}, ValueError, "tensor 'model.norm.weight' of Llama is missing"),
    (with_other_shapes, {}, ValueError, r"must have shape \(31, 24\) by the config, got \(30, 24\)"),
    (None, {"hidden": 25}, ValueError, "hidden must be a multiple of heads"),
    (None, {"dtype": "int8"}, ValueError, "dtype must be one of 'float64', 'float32', 'bfloat16', 'float16'"),
    (None, {"shard_bytes": 0}, ValueError, "shard_bytes must be at least 1"),
    (None, {"seed": -1}, ValueError, "seed must be at least 0"),
    (None, {"out": "small"}, ValueError, "must not be in source_dir, which is an input"),
    (None, {"out": "small/large"}, ValueError, "must not be in source_dir, which is an input"),
    (None, {"out": "there"}, FileExistsError, "is there already; name another folder, or remove it"),
    (None, {"out": "no/large"}, FileNotFoundError, "cannot be made: there is no folder"),
    (None, {"source": "nothing"}, FileNotFoundError, "source_dir must be the folder of a checkpoint"),
]


@pytest.mark.parametrize(("spoil", "how", "error", "message"), REFUSED)
def test_what_cannot_be_grown_is_refused_and_leaves_nothing(tmp_path, spoil, how, error, message):
    written(tmp_path / "small")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    if spoil:
        spoil(tmp_path / "small")
    before = sorted(tmp_path.rglob("*"))
    more = {name: value for name, value in how.items() if name not in ("out", "source")}
    source, out = tmp_path / how.get("source", "small"), tmp_path / how.get("out", "large")
    with pytest.raises(error, match=message) as caught:
        grow.checkpoint(source, out, **({"mlp": 30} | more))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


# ---- the command -----------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = cli.main([*map(str, arguments)])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_the_command_shows_its_plan_and_writes_the_checkpoint(tmp_path, capsys):
    written(tmp_path / "small")
    arguments = (tmp_path / "small", "--hidden", 36, "--layers", 3, "--places", "0", "--heads", 6, "--kv-heads", 3)
    code, plan, errors = run(capsys, "grow-checkpoint", *arguments, "--plan")
    assert (code, errors) == (0, "")
    assert plan == f"{grow.plan(tmp_path / 'small', hidden=36, layers=3, places=[0], heads=6, kv_heads=3)}\n"
    assert not (tmp_path / "large").exists()
    code, output, errors = run(capsys, "grow-checkpoint", *arguments, "--out", tmp_path / "large", "--seed", 4)
    assert (code, errors, output) == (0, "", f"{plan}wrote {tmp_path / 'large'}\n")
    grow.checkpoint(tmp_path / "small", tmp_path / "same", seed=4, hidden=36, layers=3, places=[0], heads=6, kv_heads=3)
    for path in (tmp_path / "same").iterdir():
        assert (tmp_path / "large" / path.name).read_bytes() == path.read_bytes()


def test_an_interrupted_command_says_how_it_goes_on(tmp_path, capsys, monkeypatch):
    written(tmp_path / "small")
    arguments = ("grow-checkpoint", tmp_path / "small", "--mlp", 30, "--out", tmp_path / "large")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "grown", interrupt)
        code, _, errors = run(capsys, *arguments)
    assert (code, errors.count("\n")) == (130, 1)
    assert ".large.growing' has what is written; the same command goes on from here" in errors
    assert run(capsys, *arguments)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "small"]


def test_the_command_verifies(tmp_path, capsys):
    pytest.importorskip("transformers")
    written(tmp_path / "small")
    arguments = (tmp_path / "small", "--hidden", 36, "--out", tmp_path / "large", "--verify", "--dtype", "bfloat16")
    code, output, errors = run(capsys, "grow-checkpoint", *arguments)
    assert (code, errors) == (0, "")
    assert "verified: logits differ by " in output


def test_the_command_takes_new_parts_from_counts(tmp_path, capsys):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    written(tmp_path / "small")
    ids = np.random.default_rng(0).integers(0, 30, 400)
    np.save(tmp_path / "ids.npy", ids)
    arguments = (tmp_path / "small", "--mlp", 31, "--out", tmp_path / "large")
    code, _, errors = run(
        capsys, "grow-checkpoint", *arguments, "--init", "explicit", "--data", tmp_path / "ids.npy", "--verify"
    )
    assert (code, errors) == (0, "")
    small, large = (transformers.AutoModelForCausalLM.from_pretrained(tmp_path / n) for n in ("small", "large"))
    same = grow.module(small, mlp=31, init=grow.DecoderPrototypes(small, ids))
    for name, value in large.state_dict().items():
        torch.testing.assert_close(value, same.state_dict()[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--out", "new"), "error: nothing to grow: give a size, such as --hidden 2048"),
        (("--mlp", "30"), "error: one of the arguments --out --plan is required"),
        (("--mlp", "2", "--out", "new"), "error: mlp must be at least 20, as it is now"),
        (("--layers", "3", "--places", "x", "--out", "new"), "expected end, spread or numbers with commas between"),
        (("--mlp", "30", "--init", "explicit", "--out", "new"), "--init explicit and --data FILE go together"),
        (("--mlp", "30", "--data", "text", "--out", "new"), "--init explicit and --data FILE go together"),
        (("--mlp", "30", "--shard-size", "1", "--out", "new"), "--shard-size"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, options, line):
    written(tmp_path / "small")
    code, output, errors = run(capsys, "grow-checkpoint", tmp_path / "small", *options)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert line in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]
