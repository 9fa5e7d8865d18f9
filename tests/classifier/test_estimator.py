"""What both classifiers have in common: the interface of scikit-learn's estimators, with and without scikit-learn."""

import copy
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import saffu
from saffu import ExplicitNetwork, SoftmaxLayer
from saffu.classifier.estimator import Classifier
from saffu.utils import checkpoint


def layer(**settings):
    return SoftmaxLayer(**settings)


def network(**settings):
    return ExplicitNetwork(**{"hidden": (9,), "rounds": 3, "corrections": 2, **settings})


both = pytest.mark.parametrize("make", [layer, network])


def problem(n=150, dtype=np.float64):
    """Counts of three kinds of rows, with names for labels."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.poisson(0.3 + 3.0 * (np.arange(8) % 3 == y[:, None]))
    return X.astype(dtype), np.array(["ham", "spam", "Œuvre"])[y]


class Named(SoftmaxLayer):
    """A subclass with settings of its own."""

    def __init__(self, name="", smoothing=0.1, n_threads=None):
        super().__init__("mean-norm", smoothing=smoothing, n_threads=n_threads)
        self.name = name


# ---- settings --------------------------------------------------------------------------------------------------------


@both
def test_the_constructor_only_stores(make):
    strange = object()
    model = type(make())(**dict.fromkeys(make().get_params(), strange))
    assert list(model.get_params().values()) == [strange] * len(model.get_params())
    assert vars(model) == model.get_params()
    with pytest.raises((ValueError, TypeError)):
        model.fit(*problem())
    with pytest.raises((ValueError, TypeError)):
        model.partial_fit(*problem(), classes=["ham", "spam", "Œuvre"])


@both
def test_settings_are_read_set_and_shown(make):
    model = make()
    assert model.set_params(smoothing=0.5, n_threads=1) is model
    assert model.get_params()["smoothing"] == model.smoothing == 0.5
    assert model.get_params(deep=False) == model.get_params()
    shown = eval(repr(model))
    assert shown.get_params() == model.get_params()
    with pytest.raises(ValueError, match=r"has the settings .*smoothing.*; got 'depth'"):
        model.set_params(smoothing=0.7, depth=3)
    assert model.smoothing == 0.5


@both
def test_settings_take_effect_in_the_next_fit(make, tmp_path):
    X, y = problem()
    model, other = make().fit(X, y), make(smoothing=3.0).fit(X, y)
    before = model.predict_proba(X)
    model.set_params(smoothing=3.0)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.save(tmp_path / "model")
    again = saffu.load(tmp_path / "model")
    assert again.smoothing == 0.1  # that of what is in the file
    np.testing.assert_array_equal(again.predict_proba(X), before)
    np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), other.predict_proba(X))


def test_subclasses_stay_what_they_are():
    X, y = problem()
    model = Named("mine").fit(X, y)
    assert repr(model) == "Named(name='mine', smoothing=0.1, n_threads=None)"
    refined = model.refine(X, y, epochs=1)
    for other in (refined, saffu.random_start(model), copy.deepcopy(model), model.merge(Named().fit(X, y))):
        assert type(other) is Named
        assert other.name == "mine"


def test_the_same_verb_has_the_same_arguments_on_both():
    for verb in ("fit", "partial_fit", "score", "refine", "predict", "predict_proba", "predict_log_proba", "save"):
        one, other = (inspect.signature(getattr(cls, verb)) for cls in (SoftmaxLayer, ExplicitNetwork))
        assert [str(p) for p in one.parameters.values()] == [str(p) for p in other.parameters.values()], verb
    for cls in (SoftmaxLayer, ExplicitNetwork):
        for verb, method in inspect.getmembers(cls, inspect.isfunction):
            if not verb.startswith("_") and verb != "get_params":
                positional = [
                    p.name for p in inspect.signature(method).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD
                ]
                assert positional[1:] in ([], ["X"], ["X", "y"], ["other"], ["batches"], ["path"]), verb


# ---- what a fit finds ------------------------------------------------------------------------------------------------


@both
def test_nothing_is_there_before_a_fit(make):
    model = make()
    for name in ("classes_", "n_features_in_", "feature_names_in_", "weights", "bias", "scalars"):
        assert not hasattr(model, name)
    with pytest.raises(ValueError, match="has seen no data: call fit or partial_fit first"):
        model.predict([[1.0]])
    with pytest.raises(ValueError, match="has seen no data"):
        model.score([[1.0]], ["ham"])
    assert model.history is None


@both
def test_nothing_of_scikit_learn_is_needed(make):
    script = f"""
import sys
sys.modules["sklearn"] = None
import numpy as np, pickle, warnings
from saffu import ExplicitNetwork, SoftmaxLayer
from saffu.classifier.settings import NotFittedError
model = {make()!r}
try:
    model.predict([[1.0]])
except NotFittedError as error:
    assert isinstance(error, ValueError) and isinstance(error, AttributeError)
X = np.eye(4).repeat(5, axis=0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.fit(X, (np.arange(20) // 5)[:, None])
assert [w.category for w in caught] == [UserWarning], caught
assert pickle.loads(pickle.dumps(model)).score(X, np.arange(20) // 5) == 1.0
assert not any(name.startswith("sklearn.") for name in sys.modules)
print("done")
"""
    environment = os.environ | {"PYTHONPATH": str(Path(saffu.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "done\n", run.stderr


@both
@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
def test_rows_of_every_kind_are_the_same(make):
    X, y = problem()
    expected = make().fit(X, y).predict_proba(X)
    forms = [sparse.csr_array, sparse.csc_array, sparse.coo_array, sparse.bsr_array, sparse.dia_array]
    forms += [sparse.lil_array, sparse.dok_array, sparse.csr_matrix, sparse.csc_matrix, sparse.coo_matrix]
    forms += [np.asfortranarray, np.ndarray.tolist, lambda X: X.astype(object), lambda X: X.astype(int)]
    for form in forms:
        model = make().fit(form(X), y)
        assert model.n_features_in_ == 8
        assert not hasattr(model, "feature_names_in_")
        np.testing.assert_allclose(model.predict_proba(form(X)), expected, rtol=1e-9)


@both
def test_duplicates_in_a_sparse_matrix_are_summed_and_the_matrix_is_left_alone(make):
    X, y = problem()
    rows, columns = np.nonzero(X)
    values = X[rows, columns]
    twice = sparse.coo_array(
        (np.concatenate([3 * values, -2 * values]), (np.tile(rows, 2), np.tile(columns, 2))), X.shape
    )
    expected = make().fit(X, y).predict_proba(X)
    np.testing.assert_allclose(make().fit(twice, y).predict_proba(twice), expected, rtol=1e-9)
    assert twice.nnz == 2 * values.size


@both
def test_float32_is_kept(make):
    for dtype in (np.float32, np.float64):
        X, y = problem(dtype=dtype)
        model = make().fit(X, y)
        assert model.predict_proba(X).dtype == model.predict_log_proba(X).dtype == dtype


@both
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_names_of_columns_are_kept_and_compared(make, library, tmp_path):
    frames = pytest.importorskip(library)
    X, y = problem()
    names = [f"word {i}" for i in range(8)]
    table = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = make().fit(table, y)
    assert model.feature_names_in_.tolist() == names
    assert model.feature_names_in_.dtype == object
    np.testing.assert_array_equal(model.predict_proba(table), make().fit(X, y).predict_proba(X))
    np.testing.assert_array_equal(model.predict(X), model.predict(table))  # without names the order is taken on trust
    model.save(tmp_path / "model")
    for other in (saffu.load(tmp_path / "model"), model.refine(table, y, epochs=1)):
        assert other.feature_names_in_.tolist() == names
        with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
            other.predict(table[names[::-1]])
    renamed = frames.DataFrame(dict(zip([*names[:7], "other"], X.T, strict=True)))
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- other\nFeature names seen .* missing:\n- word 7\n"):
        model.partial_fit(renamed, y)


@both
def test_names_in_a_damaged_file_are_refused(make, tmp_path):
    arrays, metadata = make().fit(*problem())._to_checkpoint()
    for names in (["a"], "abcdefgh", list(range(8))):
        checkpoint.write(tmp_path / "model", make()._checkpoint_kind, arrays, metadata | {"feature_names": names})
        with pytest.raises(ValueError, match="the names of the features are damaged"):
            saffu.load(tmp_path / "model")
    del metadata["feature_names"]  # as in files of before
    checkpoint.write(tmp_path / "model", make()._checkpoint_kind, arrays, metadata)
    assert not hasattr(saffu.load(tmp_path / "model"), "feature_names_in_")


@both
def test_score_is_the_share_of_right_labels(make):
    X, y = problem()
    model = make().fit(X, y)
    right = model.predict(X) == y
    weights = np.arange(150) % 4
    assert model.score(X, y) == right.mean()
    assert model.score(X, y, sample_weight=weights) == pytest.approx((right * weights).sum() / weights.sum())
    assert model.score(X, np.arange(150)) == 0.0
    with pytest.raises(ValueError, match="one label for each of the 150 rows, got 149"):
        model.score(X, y[1:])
    with pytest.raises(ValueError, match="at least one row"):
        model.score(X[:0], y[:0])


@both
def test_refine_is_a_method_too(make):
    X, y = problem()
    model = make().fit(X, y)
    refined = model.refine(X, y, epochs=3, validation=0.2, seed=5, batch_size=16)
    function = saffu.refine(model, X, y, epochs=3, validation=0.2, seed=5, batch_size=16)
    np.testing.assert_array_equal(refined.predict_proba(X), function.predict_proba(X))
    assert len(refined.history) == 4
    assert model.history is None


@both
def test_class_numbers(make):
    X, y = problem()
    numbers = np.unique(y, return_inverse=True)[1]
    model = make().fit(X, numbers, n_classes=3)
    np.testing.assert_array_equal(model.predict_proba(X), make().fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match=r"y must be a vector"):
        make().fit(X, 3, n_classes=3)
    with pytest.raises(TypeError, match=r"y must be .*, got strings"):
        make().fit(X, y, n_classes=3)
    wrong = [(2, "y must be (below 2|one of the 2 classes), got 2"), (4, r"\[3\] have none"), (0, "n_classes must be")]
    for n_classes, message in wrong:
        with pytest.raises(ValueError, match=message):
            make().fit(X, numbers, n_classes=n_classes)


@both
def test_the_first_rows_of_partial_fit_are_a_fit(make):
    X, y = problem()
    classes = ["spam", "ham", "Œuvre"]
    model = make().partial_fit(X, y, classes=classes)
    np.testing.assert_array_equal(model.predict_proba(X), make().fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="classes must list all labels in the first call of partial_fit"):
        make().partial_fit(X, y)
    with pytest.raises(ValueError, match="classes must stay"):
        model.partial_fit(X, y, classes=classes[:2])
    again = make().fit(X, y)
    for each in (model.partial_fit(X[:9], y[:9], classes=classes), again.partial_fit(X[:9], y[:9])):
        np.testing.assert_array_equal(each.predict_proba(X), model.predict_proba(X))


@both
def test_decision_function(make):
    X, y = problem()
    model = make().fit(X, y)
    if isinstance(model, ExplicitNetwork):  # has probabilities, and no logits
        assert not hasattr(model, "decision_function")
        return
    np.testing.assert_array_equal(model.decision_function(X), model.logits(X))
    two = make().fit(X, y == "spam")
    np.testing.assert_array_equal(two.decision_function(X) > 0, two.predict(X))


# ---- within scikit-learn ---------------------------------------------------------------------------------------------


@both
def test_within_scikit_learn(make):
    pytest.importorskip("sklearn")
    from sklearn.base import clone, is_classifier
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import BaggingClassifier, VotingClassifier
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X, y = problem()
    assert is_classifier(make())
    assert clone(make(smoothing=0.3).fit(X, y)).get_params() == make(smoothing=0.3).get_params()
    assert cross_val_score(make(), X, y, cv=3, scoring="neg_log_loss").mean() > -0.4
    assert (cross_val_predict(make(), X, y, cv=3) == y).mean() > 0.9
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), make()), {f"{type(make()).__name__.lower()}__smoothing": [0.1, 1.0]}
    )
    assert search.fit(X, y).score(X, y) > 0.9
    calibrated = CalibratedClassifierCV(make(), cv=3).fit(X, y, sample_weight=np.ones(150))
    assert calibrated.score(X, y) > 0.9
    assert VotingClassifier([("a", make()), ("b", make(smoothing=1.0))], voting="soft").fit(X, y).score(X, y) > 0.9
    assert BaggingClassifier(make(), n_estimators=3, random_state=0).fit(X, y).score(X, y) > 0.9
    words = make_pipeline(CountVectorizer(), make())
    documents = ["buy cheap pills", "cheap pills now", "meet me now", "shall we meet"] * 3
    assert (
        words.fit(documents, ["spam", "spam", "ham", "ham"] * 3).score(documents, ["spam", "spam", "ham", "ham"] * 3)
        == 1
    )


@both
def test_weights_are_routed_where_they_are_requested(make):
    sklearn = pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X, y = problem()
    weights = np.arange(150) % 3 + 1.0
    with sklearn.config_context(enable_metadata_routing=True):
        assert make_pipeline(MinMaxScaler(), make()).fit(X, y).score(X, y) > 0.9
        asking = make().set_fit_request(sample_weight="weights").set_score_request(sample_weight=False)
        asking.set_partial_fit_request(classes=True)
        search = GridSearchCV(clone(asking), {"smoothing": [0.1]}).fit(X, y, weights=weights)
        expected = make(smoothing=0.1).fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(search.best_estimator_.predict_proba(X), expected.predict_proba(X))
        assert vars(make()).keys() == make().get_params().keys()
        with pytest.raises(ValueError, match="sample_weight"):
            make_pipeline(MinMaxScaler(), make()).fit(X, y, sample_weight=weights)


@both
def test_pickle_copy_and_joblib(make, tmp_path):
    joblib = pytest.importorskip("joblib")
    X, y = problem()
    for model in (make().fit(X, y), make().fit(sparse.csr_array(X), y).refine(X, y, epochs=1)):
        joblib.dump(model, tmp_path / "model")
        read = [joblib.load(tmp_path / "model"), joblib.load(tmp_path / "model", mmap_mode="r")]
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), *read):
            assert repr(other) == repr(model)
            assert other.history == model.history
            np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
            if model.history is None:
                more = copy.deepcopy(model).partial_fit(X, y)
                np.testing.assert_array_equal(other.partial_fit(X, y).predict_proba(X), more.predict_proba(X))
    parallel = joblib.Parallel(n_jobs=2)(joblib.delayed(make().fit)(X, y) for _ in range(2))
    np.testing.assert_array_equal(parallel[0].predict_proba(X), make().fit(X, y).predict_proba(X))


@both
def test_a_column_of_labels_is_taken_with_a_warning(make):
    exceptions = pytest.importorskip("sklearn.exceptions")
    X, y = problem()
    with pytest.warns(exceptions.DataConversionWarning, match="A column-vector y was passed") as caught:
        model = make().fit(X, y[:, None])
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(model.predict(X), make().fit(X, y).predict(X))


def test_tags_are_those_of_a_classifier_of_counts():
    pytest.importorskip("sklearn.utils")
    for model in (layer(), network()):
        tags = model.__sklearn_tags__()
        assert tags.estimator_type == "classifier"
        assert tags.input_tags.sparse
        assert tags.input_tags.positive_only
        assert tags.target_tags.required
    assert isinstance(model, Classifier)
