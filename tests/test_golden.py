"""The numbers of small models, kept in golden.json: a change of the code that should not move them may not.

Every array that a model saves, and what it says of new text or rows, is described by its shape, its sum and a weighted
sum, which hold on every machine to 1e-9 (1e-3 where float32 is on the way), and by a digest of its bytes, which holds
where it was made: for the same processor, compiler, SIMD variants of the core and versions of numpy and scipy. When
numbers have moved for a reason, make the file anew with ``SAFFU_GOLDEN=write python -m pytest tests/test_golden.py``
and say the reason.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy
from safetensors.numpy import load_file
from threadpoolctl import threadpool_info

import saffu
from helpers.made_up import documents_with_habits

GOLDEN = Path(__file__).with_name("golden.json")
BUILT = {
    "simd": saffu.show_config()["simd_variants"],
    "compiler": saffu.show_config()["compiler"],
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "processor": sorted({library["architecture"] for library in threadpool_info() if "architecture" in library}),
}


def text(n_tokens, seed):
    ids, documents = documents_with_habits(n_tokens, seed, 7, (0.4, 0.6))
    return ids, documents


def saved(model, folder):
    """The arrays of a model's file."""
    path = folder / "model.saffu"
    model.save(path)
    return load_file(path)


def rows(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 240)
    return rng.poisson(1 + 2 * (np.arange(6)[None] % 3 == labels[:, None])).astype(np.float32), labels


def counting(folder):
    ids, documents = text(900, 0)
    table = saffu.cooccurrence(ids, 1, vocab_size=12, documents=documents)
    X, y = rows(0)
    return {
        "table": np.asarray(table.todense()),
        "log_weights": saffu.log_weights(np.asarray(table.todense()) + 0.5, 12),
        "moments": saffu.moments(X, y),
        **{f"cipher.{name}": array for name, array in saved(saffu.BitCipher(6).fit(ids), folder).items()},
        "embeddings": saffu.enriched_embeddings(ids, saffu.BitCipher(6).fit(ids), radii=(-1, 1, 2)),
    }


def explicit(priming):
    def arrays(folder):
        ids, documents = text(3000, 0)
        new, starts = text(400, 1)
        model = saffu.ExplicitLM(radius=3, order=3, windows=(20, 60), induction=40, priming=priming)
        model.fit(ids, vocab_size=12, documents=documents)
        result = {**saved(model, folder), "log_prob": model.log_prob(new, documents=starts)}
        other = saffu.ExplicitLM(radius=3, order=3, windows=(20, 60), induction=40, priming=priming)
        other.fit(text(700, 2)[0], vocab_size=12)
        model.merge(other).update(new, documents=starts)
        result.update({f"merged.{name}": array for name, array in saved(model, folder).items()})
        result["sampled"] = np.array(list(model.generate(new[:5], 20, seed=3)))
        return result

    return arrays


def units(folder):
    ids, documents = text(3000, 0)
    new, starts = text(400, 1)
    model = saffu.SaffuLM(bits=6, hidden=6, radius=4, block=3, heads=2, seed=1)
    model.fit(ids, vocab_size=12, documents=documents)
    result = {**saved(model, folder), "log_prob": model.log_prob(new, documents=starts)}
    model = model.refine(ids, epochs=1, documents=documents, batch_tokens=256)
    result.update({f"refined.{name}": array for name, array in saved(model, folder).items()})
    return result


def units_on_explicit(folder):
    ids, documents = text(3000, 0)
    new, starts = text(400, 1)
    explicit = saffu.ExplicitLM(radius=2, order=3, windows=(20,), induction=0)
    model = saffu.SaffuLM(bits=6, hidden=6, radius=4, block=3, residual=explicit)
    model.fit(ids, vocab_size=12, documents=documents)
    model.update(new, documents=starts)
    result = {**saved(model, folder), "log_prob": model.log_prob(new, documents=starts)}
    grown = model.grow(radius=6, hidden=8, seed=0)
    result.update({f"grown.{name}": array for name, array in saved(grown, folder).items()})
    return result


def classifiers(folder):
    X, y = rows(0)
    new, _ = rows(1)
    layer = saffu.SoftmaxLayer().fit(X, y)
    network = saffu.ExplicitNetwork(hidden=(12,), complement=False).fit(X, y, progress=False)
    refined = saffu.refine(network, X, y, epochs=2)
    result = {"layer.probabilities": layer.predict_proba(new), "network.probabilities": network.predict_proba(new)}
    for name, model in (("layer", layer), ("network", network), ("refined", refined)):
        result.update({f"{name}.{array_name}": array for array_name, array in saved(model, folder).items()})
    return result


def transformers(folder):
    ids, documents = text(1500, 0)
    model = saffu.Transformer(12, hidden=8, layers=1, heads=2, positions=16, seed=2)
    model = model.refine(ids, epochs=1, documents=documents, batch_tokens=128)
    grown = saffu.grow.mlp(saffu.grow.hidden(saffu.grow.add_layer(model), 12), 40)
    return {
        **saved(model, folder),
        **{f"grown.{name}": array for name, array in saved(grown, folder).items()},
        "log_prob": grown.log_prob(text(100, 1)[0]),
    }


CASES = {
    "counting": counting,
    **{f"explicit {p}": explicit(p) for p in ("k-fold", "leave-one-out", "unit", "kneser-ney")},
    "units": units,
    "units on explicit": units_on_explicit,
    "classifiers": classifiers,
    "transformers": transformers,
}


# Derivatives are of single precision: a scalar on which the loss hardly depends moves by some 1e-4 with their rounding.
ROUNDING = {case: 1e-4 for case in CASES if case.startswith("explicit")} | dict.fromkeys(
    ["counting", "explicit kneser-ney"], 1e-9
)


def described(array):
    array = np.ascontiguousarray(array)
    values = array.astype(np.float64).ravel()
    values = np.where(np.isfinite(values), values, 0.0)
    digest = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    weighted = float(values @ np.cos(np.arange(values.size)))
    return [str(array.dtype), list(array.shape), float(values.sum()), weighted, digest]


def written(case, arrays):
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    golden["built"] = BUILT
    golden[case] = {name: described(array) for name, array in sorted(arrays.items())}
    lines = [f"{json.dumps(name)}: {json.dumps(golden[name])}" for name in sorted(golden)]
    GOLDEN.write_text("{" + ",\n".join(lines).replace("], ", "],\n  ") + "}\n")


@pytest.mark.parametrize("case", CASES)
def test_numbers_do_not_move(case, tmp_path):
    arrays = CASES[case](tmp_path)
    if os.environ.get("SAFFU_GOLDEN") == "write":
        written(case, arrays)
    golden = json.loads(GOLDEN.read_text())
    assert sorted(arrays) == sorted(golden[case])
    for name, array in arrays.items():
        dtype, shape, total, weighted, digest = described(array)
        expected = golden[case][name]
        assert [dtype, shape] == expected[:2], name
        rounding = 1e-3 if dtype == "float32" else ROUNDING.get(case, 1e-3)
        scale = rounding * (1 + float(np.abs(np.nan_to_num(array.astype(np.float64), posinf=0, neginf=0)).sum()))
        assert total == pytest.approx(expected[2], abs=scale), name
        assert weighted == pytest.approx(expected[3], abs=scale), name
        if golden["built"] == BUILT or array.dtype.kind in "iub":
            assert digest == expected[4], name
