"""The report: effects, Pareto fronts, budgets, summary and figure."""

import math

import numpy as np
import pytest

from helpers.fake_roadmap import default_grid, run
from saffu.search import analysis, architectures, figures, report
from saffu.search.architectures import Architecture
from saffu.search.results import Refined, Result, ranked
from saffu.search.summary import markdown

FACTS = {"tokens": 9000, "held_out_tokens": 500, "types": 70, "unigram_perplexity": 300.0, "seconds_shared": 1.5}


def planted(architectures, noise=0.0):
    """Results whose log perplexity, parameters and seconds are sums of known effects."""
    rng = np.random.default_rng(0)
    results = []
    for item in architectures:
        nats = 5 - 0.1 * math.log2(item.bits) + (0.05 * math.log2(item.radius) if item.radius else 0)
        nats += 0.3 * ("document" not in item.contexts) - 0.5 * item.residual + noise * rng.normal()
        results.append(Result(item, 10 * item.bits * item.hidden, math.exp(nats), 0.01 * (item.layers or 1), 0.1))
    return results


def effect_of(found, name, value):
    [effect] = [effect for effect in found if (effect.name, effect.value) == (name, value)]
    return effect


def test_effects_are_those_planted():
    every = default_grid()
    uneven = [item for place, item in enumerate(every) if place % 3 or item.bits != 16 or item.residual]
    found = analysis.effects(planted(uneven))
    for place, bits in enumerate((16, 32, 64, 128)):
        effect = effect_of(found, "bits", bits)
        assert effect.effect == pytest.approx(-0.1 * (place - 1.5), abs=1e-9)
        assert effect.parameters == pytest.approx(math.log(2) * (place - 1.5), abs=1e-9)
        assert effect.seconds == pytest.approx(0, abs=1e-9)
        assert effect.n_models == sum(item.bits == bits for item in uneven)
        assert effect_of(found, "radius", 2 ** (place + 1)).effect == pytest.approx(0.05 * (place - 1.5), abs=1e-9)
    assert effect_of(found, "residual", True).effect == pytest.approx(-0.25)
    assert effect_of(found, "layers", 2).seconds == pytest.approx(math.log(2) / 2)
    assert effect_of(found, "heads", 3).effect == pytest.approx(0, abs=1e-9)
    shares = analysis.shares(planted(uneven))
    assert sorted(shares, key=shares.get)[-3:] == ["bits", "contexts", "residual"]
    assert shares["layers"] == pytest.approx(0, abs=1e-9)


def test_margins_cover_what_was_planted():
    found = analysis.effects(planted(default_grid(), noise=0.2))
    errors = [abs(effect_of(found, "bits", 16 << place).effect + 0.1 * (place - 1.5)) for place in range(4)]
    margins = [effect_of(found, "bits", 16 << place).margin for place in range(4)]
    # The standard error of a mean of 63 against that of 252.
    assert margins == pytest.approx([1.97 * 0.2 * math.sqrt(3 / 252)] * 4, rel=0.2)
    assert all(error < 1.5 * margin for error, margin in zip(errors, margins, strict=True))


def test_too_few_results_have_no_effects():
    assert analysis.effects(planted(architectures.default_grid(20))) == []
    assert analysis.effects([]) == []
    assert analysis.effects(planted([Architecture()] * 3)) == []
    assert "Too few results" in markdown(planted(architectures.default_grid(20)), FACTS)


def test_pareto_front_is_what_nobody_beats():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cost, score = rng.integers(0, 8, (2, 12))
        front = analysis.pareto_front(cost, score)
        beaten = [
            any(
                (cost[b] <= cost[a] and score[b] < score[a]) or (cost[b] < cost[a] and score[b] <= score[a])
                for b in range(12)
            )
            for a in range(12)
        ]
        points = {(cost[place], score[place]) for place in range(12) if not beaten[place]}
        assert [(cost[place], score[place]) for place in front] == sorted(points)


def test_best_within_a_budget():
    results = planted(default_grid())
    for budget in (10_000, 100_000, math.inf):
        best = analysis.best_within(results, budget)
        assert best.n_parameters <= budget
        assert best.perplexity == min(result.perplexity for result in results if result.n_parameters <= budget)
    assert analysis.best_within(results, 10) is None


def test_the_summary_answers_its_questions():
    results = planted(default_grid())
    best = ranked(results)[0]
    results[results.index(best)] = best.with_refined(Refined(2, 44.4, 12.0, "models/a.saffu"))
    text = markdown(results, FACTS, figure="figure.png")
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Best models",
        "Best model for each number of parameters",
        "Is the best the largest?",
        "Pareto front: parameters",
        "Pareto front: seconds of solving",
        "What each hyper-parameter does",
    ]
    assert "252 architectures, each solved on the same 9,000 tokens" in text
    assert f"| 1 | {best.architecture} | {best.n_parameters:,} | {best.perplexity:.1f} | 0.0" in text
    assert "44.4 | 12.0 |" in text
    within = analysis.best_within([result for result in results if not result.architecture.residual], 30_000)
    assert f"| <= 30,000 | compact | {within.architecture} |" in text
    assert "<= 10,000 | residual" in text
    bits = effect_of(analysis.effects(results), "bits", 128)
    assert f"| bits | 128 | 63 | {bits.perplexity:.1f} | {100 * math.expm1(-0.15):+.1f} ± 0.0 %" in text
    assert "![" in text
    assert text.count("\n\n\n") == 0
    n_larger = sum(other.n_parameters > best.n_parameters for other in results if other.architecture.residual)
    assert (f"larger and no better: {n_larger}." if n_larger else "yes, no other") in text


def test_the_figure_shows_every_model(draws):
    results = planted(default_grid(), noise=0.1)
    results[0] = results[0].with_refined(Refined(1, 50.0, 1.0))
    content = report.draw(results, 300.0)
    assert content.startswith(b"\x89PNG")
    some = figures.Series("some", *np.array([[1.0, 2], [3, 4], [9, 8], [7, np.nan], [5, np.nan]]))
    figure = figures.pareto([some], 10.0, analysis.pareto_front)
    assert len(figure.axes) == 2
    costs = ((some.parameters, 1.0), (some.seconds, 5.0))
    for axes, (cost, refined_cost) in zip(figure.axes, costs, strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([cost, some.perplexity], axis=1))
        assert axes.get_xscale() == axes.get_yscale() == "log"
        [stars] = [line for line in axes.lines if line.get_label() == "some, refined"]
        np.testing.assert_allclose(stars.get_xydata(), [[refined_cost, 7.0]])


def test_without_matplotlib_the_rest_is_written(tmp_path):
    found = run(tmp_path)
    assert found.notes == ["a figure needs matplotlib; pip install 'saffu[plot]' installs it"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "results.csv",
        "results.jsonl",
        "summary.md",
    ]
    assert "![" not in (tmp_path / "summary.md").read_text()
