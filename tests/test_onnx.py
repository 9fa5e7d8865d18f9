"""ONNX models of classifiers, executed by onnxruntime."""

import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

import saffu
from bench.data import datasets
from helpers.rows import problem

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
saffu_onnx = pytest.importorskip("saffu.onnx")

LABELS = {
    "numbers": np.arange(4) * 3 - 2,
    "strings": np.array(["ham", "spam", "Rührei", "beans"]),
    "booleans": np.array([False, True, True, False]),
}


def fitted(kind, labels="strings", dtype=np.float64):
    X, y = problem(alike=0.4)
    X = X.astype(dtype)
    if kind == "layer":
        return saffu.SoftmaxLayer().fit(X, LABELS[labels][y]), X
    hidden = (8,) if kind == "network" else (8, 6)
    return saffu.ExplicitNetwork(hidden=hidden, rounds=3, complement=False).fit(X, LABELS[labels][y]), X


def executed(model, X, dtype=np.float32):
    session = runtime.InferenceSession(saffu_onnx.to_onnx(model, dtype=dtype).SerializeToString())
    return session.run(["label", "probabilities"], {"X": np.asarray(X, dtype)})


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", ["layer", "network", "deep network"])
def test_onnxruntime_gives_the_same(kind, labels):
    for fitted_in in (np.float32, np.float64):
        model, X = fitted(kind, labels, fitted_in)
        for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-5 if fitted_in is np.float32 else 1e-12)):
            found, probabilities = executed(model, X, dtype)
            assert probabilities.dtype == dtype
            np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=tolerance)
            expected = model.predict(X)
            assert found.tolist() == expected.tolist()


def test_mean_norm_and_refined_models():
    X, y = problem(alike=0.4)
    layer = saffu.SoftmaxLayer("mean-norm").fit(X, y)
    network = saffu.ExplicitNetwork(hidden=(6,), rounds=2).fit(X / X.max(), y)
    for model, rows in ((layer, X), (layer.refine(X, y, epochs=2), X), (network.refine(X / X.max(), y), X / X.max())):
        np.testing.assert_allclose(executed(model, rows)[1], model.predict_proba(rows), rtol=0, atol=1e-5)


def test_any_number_of_rows(tmp_path):
    """Of a file."""
    model, X = fitted("layer")
    saffu_onnx.export(model, tmp_path / "layer.onnx")
    session = runtime.InferenceSession(tmp_path / "layer.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("X", ["rows", 30])
    for rows in (0, 1, 7, 200):
        _, probabilities = session.run(None, {"X": X[:rows].astype(np.float32)})
        assert probabilities.shape == (rows, 4)
        np.testing.assert_allclose(probabilities, model.predict_proba(X[:rows]), atol=1e-5)


def test_on_real_rows(data_folder):
    """Pixels, by a layer and a network."""
    split = datasets.fashion_part(data_folder)
    network = saffu.ExplicitNetwork(hidden=(20,), rounds=3, corrections=2)
    for model in (saffu.SoftmaxLayer(), network):
        model.fit(split.train, split.y_train)
        found, probabilities = executed(model, split.test)
        np.testing.assert_allclose(probabilities, model.predict_proba(split.test), rtol=0, atol=1e-5)
        assert (found == model.predict(split.test)).mean() > 0.999


def test_what_was_fitted_to_sparse_rows():
    X, y = problem()
    model = saffu.SoftmaxLayer().fit(csr_array(X), y)
    np.testing.assert_allclose(executed(model, X)[1], model.predict_proba(csr_array(X)), rtol=0, atol=1e-5)


def test_mistakes():
    with pytest.raises(TypeError, match="model must be a SoftmaxLayer or an ExplicitNetwork, got BitCipher"):
        saffu_onnx.to_onnx(saffu.BitCipher(2))
    with pytest.raises(ValueError, match="has seen no data"):
        saffu_onnx.to_onnx(saffu.SoftmaxLayer())
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got int64"):
        saffu_onnx.to_onnx(fitted("layer")[0], dtype=np.int64)


def test_what_installs_onnx(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"^onnx is not installed; pip install 'saffu\[onnx\]'"):
        saffu_onnx.to_onnx(fitted("layer")[0])
