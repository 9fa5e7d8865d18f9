"""Labels of every type that users bring, in both classifiers and their files."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import saffu
from saffu import ExplicitNetwork, SoftmaxLayer
from saffu.classifier import labels

X = np.array([[5.0, 0], [4, 1], [6, 0], [0, 5], [1, 4], [0, 6]])
NUMBERS = np.array([0, 0, 0, 1, 1, 1])
NAMES = np.array(["spam", "Œuvre"])


def layer():
    return SoftmaxLayer()


def network():
    return ExplicitNetwork((4,), rounds=2, corrections=1)


def typed():
    """Labels of one meaning in many types, with the classes that they stand for."""
    yield "list of int", NUMBERS.tolist(), [0, 1]
    yield "uint8", NUMBERS.astype(np.uint8), [0, 1]
    yield "bool", NUMBERS.astype(bool), [False, True]
    yield "list of bool", NUMBERS.astype(bool).tolist(), [False, True]
    yield "float32", NUMBERS.astype(np.float32), [0, 1]
    yield "list of float", (NUMBERS * 3.0 - 3).tolist(), [-3, 0]
    yield "large float", NUMBERS * 2.0**62, [0, 2**62]
    yield "str", NAMES[NUMBERS], ["spam", "Œuvre"]
    yield "list of str", NAMES[NUMBERS].tolist(), ["spam", "Œuvre"]
    yield "objects of str", NAMES[NUMBERS].astype(object), ["spam", "Œuvre"]
    yield "objects of int", (NUMBERS + 2**60).astype(object), [2**60, 2**60 + 1]
    yield "objects of bool", NUMBERS.astype(bool).astype(object), [False, True]
    yield "objects of numbers", np.array([0, 0.0, np.int8(0), 1, np.float32(1), 1], object), [0, 1]
    yield "column of int", NUMBERS[:, None], [0, 1]
    yield "column of float", NUMBERS[:, None].astype(float), [0, 1]
    yield "column of bool", NUMBERS[:, None].astype(bool), [False, True]
    yield "column of str", NAMES[NUMBERS][:, None], ["spam", "Œuvre"]
    yield "list of columns", [[int(n)] for n in NUMBERS], [0, 1]


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("make", [layer, network])
@pytest.mark.parametrize(("y", "classes"), [pytest.param(y, c, id=name) for name, y, c in typed()])
def test_labels_of_every_type_work_and_come_back(tmp_path, make, y, classes):
    plain, model = make().fit(X, NUMBERS), make().fit(X, y)
    assert model.classes_.tolist() == classes
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    given_labels = np.array(classes)[NUMBERS]
    np.testing.assert_array_equal(model.predict(X), given_labels)
    assert model.predict(X).dtype == model.classes_.dtype
    model.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert again.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(again.predict(X), given_labels)
    for each in (model, again):  # more of the same labels
        each.partial_fit(X[:2], y[:2])
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))
    refined = saffu.refine(model, X, y, epochs=1)
    assert refined.classes_.tolist() == classes


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("kind", ["int64", "bool", "str", "category", "Int64", "string"])
@pytest.mark.parametrize("make", [layer, network])
def test_labels_of_pandas(make, kind):
    pandas = pytest.importorskip("pandas")
    values = {"bool": NUMBERS.astype(bool), "str": NAMES[NUMBERS], "string": NAMES[NUMBERS]}.get(kind, NUMBERS)
    series = pandas.Series(values).astype({"str": object}.get(kind, kind))
    frame = pandas.DataFrame(X, columns=["a", "b"])
    for y in (series, series.to_frame("label")):
        np.testing.assert_array_equal(make().fit(frame, y).predict(frame), values)


@pytest.mark.filterwarnings("ignore:A column-vector y")
@pytest.mark.parametrize("make", [layer, network])
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 0, 0, 1, 1, 1.5], ValueError, r"y must be integer labels, booleans or strings, got 1.5 at position 5"),
        ([0, 0, 0, 1, 1, np.nan], ValueError, "got nan at position 5"),
        ([0, 0, 0, 1, 1, np.inf], ValueError, "got inf at position 5"),
        ([0, 0, 0, 1, 1, 1e300], ValueError, r"got 1e\+300 at position 5"),
        ([0, 0, 0, 1, 1, None], TypeError, "y must be labels of one kind, got 0 at position 0 and None at 5"),
        (["a", "a", "a", "b", "b", None], TypeError, "got 'a' at position 0 and None at 5"),
        (["a", "a", "a", "b", "b", np.nan], TypeError, "got 'a' at position 0 and nan at 5"),
        (["a", "a", "a", "b", "b", 1], TypeError, "got 'a' at position 0 and 1 at 5"),
        ([1, 1, 1, "b", "b", "b"], TypeError, "got 1 at position 0 and 'b' at 3"),
        ([None] * 6, TypeError, "got None at position 0"),
        ([[1], [1], [1], ["b"], ["b"], ["b"]], TypeError, "got 1 at position 0 and 'b' at 3"),
        ([b"a"] * 6, TypeError, r"got dtype \|S1"),
        ([2j] * 6, TypeError, "got dtype complex128"),
        (np.arange(6).astype("datetime64[D]"), TypeError, "got dtype datetime64"),
        ([0, 0, 0, 1, 1, 2**70], ValueError, "y must fit into 64 bits with a sign"),
        (np.zeros((6, 1, 1), int), ValueError, r"got shape \(6, 1, 1\)"),
        ([[0], [0], [0], [1], [1], [1, 2]], ValueError, "y must be a vector of labels"),
        (np.zeros((5, 1), int), ValueError, "one label for each of the 6 rows, got 5"),
        (3, ValueError, r"got shape \(\)"),
    ],
)
def test_what_is_no_label_is_named(make, y, error, message):
    with pytest.raises(error, match=message):
        make().fit(X, y)


def test_kinds_do_not_mix():
    layer = SoftmaxLayer().fit(X, NAMES[NUMBERS])
    with pytest.raises(TypeError, match="y must be strings as the classes are, got numbers"):
        layer.partial_fit(X, NUMBERS)
    with pytest.raises(ValueError, match="y must be one of the 2 classes, got 'ham' at position 1"):
        layer.partial_fit(X[:2], ["spam", "ham"])
    with pytest.raises(ValueError, match="same classes"):
        layer.merge(SoftmaxLayer().fit(X, NUMBERS))
    with pytest.raises(TypeError, match="y must be class numbers, got strings"):
        SoftmaxLayer().fit(X, NAMES[NUMBERS], n_classes=2)
    numbers = SoftmaxLayer().fit(X, NUMBERS)
    with pytest.raises(TypeError, match="y must be numbers as the classes are, got strings"):
        numbers.partial_fit(X, NAMES[NUMBERS])
    with pytest.raises(TypeError, match="y must be labels of one kind in every batch"):
        ExplicitNetwork((4,)).fit_batches([(X, NUMBERS), (X, NAMES[NUMBERS])])
    assert numbers.partial_fit(X, NUMBERS.astype(bool)).class_mass.tolist() == [6, 6]
    truths = SoftmaxLayer().partial_fit(X, NUMBERS, classes=[False, True])
    assert truths.predict(X).tolist() == [False] * 3 + [True] * 3


def test_batches_of_strings():
    whole = ExplicitNetwork((4,), rounds=2).fit_batches([(X[:4], NUMBERS[:4]), (X[4:], NUMBERS[4:])])
    names = np.array(["no", "yes, and a longer one"])
    for classes in (None, names[::-1]):
        batches = [(X[:3], ["no"] * 3), (X[3:], names[NUMBERS[3:]])]
        network = ExplicitNetwork((4,), rounds=2).fit_batches(batches, classes=classes)
        assert network.classes_.tolist() == names.tolist()
        np.testing.assert_array_equal(network.predict(X), names[whole.predict(X)])


@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_one_column_is_never_soft_targets():
    ones = SoftmaxLayer().fit(np.vstack([X, X]), np.array([[1.0]] * 6 + [[0.0]] * 6))
    assert ones.classes_.tolist() == [0, 1]
    layer = SoftmaxLayer().partial_fit(X, NUMBERS[:, None], classes=np.array([[0], [1]]))
    np.testing.assert_array_equal(layer.weights, SoftmaxLayer().fit(X, NUMBERS).weights)
    with pytest.raises(ValueError, match="labels or soft targets"):
        SoftmaxLayer().fit(X, np.full((6, 2), 0.5)).partial_fit(X, np.ones((6, 1)))


@pytest.mark.parametrize("names", ["ab", ["b", "a"], ["a"], ["a", 3], {"a": 1}])
def test_damaged_names_are_refused(names):
    arrays, metadata = SoftmaxLayer().fit(X, NAMES[NUMBERS])._to_checkpoint()
    metadata = json.loads(json.dumps(metadata)) | {"class_names": names}
    with pytest.raises(ValueError, match="classes"):
        SoftmaxLayer._from_checkpoint(arrays, metadata)


integers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30)
near = st.lists(st.integers(-5, 5), min_size=1, max_size=30)
words = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), min_size=1, max_size=30)


@given(st.one_of(integers, near, words, st.lists(st.booleans(), min_size=1, max_size=9)))
def test_numbers_and_classes_are_those_of_numpy(values):
    array = np.array(values)
    classes = labels.distinct(array)
    expected, places = np.unique(array, return_inverse=True)
    np.testing.assert_array_equal(classes, expected)
    np.testing.assert_array_equal(labels.numbers_of(array, classes), places)
    if classes.size > 1:
        with pytest.raises(ValueError, match="y must be one of"):
            labels.numbers_of(array, classes[1:])
    stored, names = labels.classes_to_file(classes)
    np.testing.assert_array_equal(labels.classes_from_file(stored, json.loads(json.dumps(names))), classes)
