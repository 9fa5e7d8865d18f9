"""Architectures: canonical, as JSON, as grids and as balanced samples."""

import collections
import itertools
import json

import pytest

from helpers.fake_roadmap import SMALL, default_grid
from saffu.search import architectures, roadmap
from saffu.search.architectures import Architecture


def test_what_has_no_effect_is_none():
    plain = Architecture(contexts=("document",), block=2, radius=3, heads=4)
    assert (plain.block, plain.radius, plain.heads) == (None, None, None)
    assert plain == Architecture(contexts="document")
    mixed = Architecture(contexts=["document", "radial"], block=2, radius=3, heads=4)
    assert (mixed.contexts, mixed.block, mixed.radius, mixed.heads) == (("radial", "document"), None, 3, 4)


def test_an_architecture_survives_json():
    for architecture in architectures.default_grid(40):
        again = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
        assert (again, again.key) == (architecture, architecture.key)


def test_keys_and_names_tell_architectures_apart():
    every = default_grid()
    assert len({architecture.key for architecture in every}) == len(every)
    assert len({str(architecture) for architecture in every}) == len(every)
    assert len({roadmap._file_name(architecture) for architecture in every}) == len(every)


def test_default_grid_has_every_value_equally_often():
    every = default_grid()
    assert 240 <= len(set(every)) == len(every) <= 260
    for name, values in architectures.DEFAULT_CHOICES.items():
        counts = collections.Counter(getattr(architecture, name) for architecture in every)
        counts.pop(None, None)
        assert set(counts) == set(values)
        if name == "contexts":
            assert counts.pop(("document",)) == 4 * 4 * 2  # all there are: bits, hidden, residual
        assert max(counts.values()) - min(counts.values()) <= 1, name


def test_default_grid_has_pairs_of_values_about_equally_often():
    every = default_grid()
    for one, other in itertools.combinations(architectures.NAMES, 2):
        pairs = [(getattr(item, one), getattr(item, other)) for item in every]
        counts = collections.Counter(pair for pair in pairs if None not in pair)
        assert max(counts.values()) - min(counts.values()) <= 5, (one, other)


@pytest.mark.parametrize("size", [28, 63, 100])
def test_each_beginning_of_the_default_grid_is_balanced(size):
    beginning = default_grid()[:size]
    assert beginning == architectures.default_grid(size)
    for name in architectures.NAMES:
        counts = collections.Counter(getattr(architecture, name) for architecture in beginning)
        counts.pop(None, None)
        assert max(counts.values()) - min(counts.values()) <= 1, name


def test_product_has_each_model_once():
    found = architectures.product(
        {"bits": [16, 32], "contexts": ["radial", "document"], "block": [2, 4], "radius": [2, 4]}
    )
    assert len(found) == 2 * (2 + 1)
    assert len(set(found)) == len(found)


def test_sample_of_a_list():
    every = architectures.product({"bits": [16, 32, 64], "layers": [1, 2]})
    sample = architectures.balanced_sample(every, 3)
    assert sorted(architecture.bits for architecture in sample) == [16, 32, 64]
    assert set(architectures.balanced_sample(every, 100)) == set(every)
    assert architectures.balanced_sample(every, 3, seed=1) != sample


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("3", "must hold an object of lists or a list of architectures, got 3"),
        ("[]", "must hold an object of lists"),
        ('{"bit": [1]}', "unknown hyper-parameter 'bit'; known are bits, contexts"),
        ('{"bits": 64}', "bits must be a list of at least one value, got 64"),
        ('{"bits": []}', "bits must be a list of at least one value"),
        ('{"bits": [0]}', "bits must be at least 1, got 0"),
        ('{"bits": ["64"]}', "bits must be an integer, got '64'"),
        ('{"heads": [true]}', "heads must be an integer, got True"),
        ('{"contexts": ["radial"], "block": [-1]}', "block must be at least 1, got -1"),
        ('{"residual": [1]}', "residual must be true or false, got 1"),
        ('{"contexts": ["far"]}', "contexts must be one of 'block', 'radial', 'document', got 'far'"),
        ('{"contexts": [["radial", "radial"]]}', "each once"),
        ('{"contexts": [[]]}', "at least one of"),
        ('{"contexts": [7]}', "contexts must be a list of block, radial, document, got 7"),
        ('[{"bits": 64}, {"bits": "x"}]', "architecture 2: bits must be an integer, got 'x'"),
        ("[7]", "architecture 1: an architecture must be an object, got 7"),
        (json.dumps({name: list(range(1, 30)) for name in ("bits", "block", "radius", "hidden")}), "combinations"),
    ],
)
def test_a_bad_grid_is_named(tmp_path, content, message):
    path = tmp_path / "grid.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"grid\.json") as caught:
        architectures.read_grid(path)
    assert message in str(caught.value)


def test_grids_are_read(tmp_path):
    path = tmp_path / "grid.json"
    path.write_text(json.dumps(SMALL))
    assert architectures.read_grid(path) == architectures.product(SMALL)
    listed = [{"bits": 32, "contexts": ["block", "radial"]}, {"residual": True}, {"residual": True, "block": 3}]
    path.write_text(json.dumps(listed))
    assert architectures.read_grid(path) == [
        Architecture(bits=32, contexts="radial+block"),
        Architecture(residual=True),
    ]
