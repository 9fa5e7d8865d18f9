"""Heads of torch from counts and from torch's own start: the command, and how its table is made of curves."""

import csv

import numpy as np
import pytest

from bench.experiments import torch_warm_start
from bench.experiments.torch_warm_start import Curve

EPOCHS = [0.0, 0.5, 1.0, 2.0, 4.0]


def curve(start, rate, *nll):
    return Curve("made up", start, rate, EPOCHS, list(nll), [0.1, 0.2, 0.3, 0.5, 0.9])


def test_each_start_has_the_rate_that_is_first():
    found = [
        curve("torch", 0.1, 2.0, 0.9, 0.8, 0.8, 0.8),
        curve("torch", 0.01, 2.0, 1.0, 0.9, 0.6, 0.4),
        curve("counts", 0.1, 0.95, 0.7, 0.75, 0.8, 0.8),
        curve("counts", 0.01, 0.95, 0.9, 0.6, 0.45, 0.45),
        curve("corrected", 0.01, 0.7, 0.6, 0.5, 0.45, 0.4),
    ]
    rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in torch_warm_start.table(found).splitlines()[2:]]
    assert rows == [
        ["of the counts alone", "0.950", "0.50", "0.00", "at once", "0.00", "at once"],
        ["torch's start after 0.5", "0.900", "0.50", "0.50", "1.0", "0.00", "at once"],
        ["torch's start after 1", "0.800", "1.00", "0.50", "2.0", "0.00", "at once"],
        ["torch's start after 2", "0.600", "2.00", "1.00", "2.0", "0.50", "4.0"],
        ["torch's start after 4", "0.400", "4.00", "not reached", "-", "4.00", "1.0"],
    ]
    assert torch_warm_start.seconds_table(found).splitlines()[-1] == "| made up | 0.10 | 0.10 | 0.20 |"


def test_quick_run_writes_its_tables(tmp_path, capsys):
    pytest.importorskip("torch")
    torch_warm_start.main(["--quick", "--out", str(tmp_path)])
    with open(tmp_path / "results.csv", encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    assert {record["start"] for record in records} == {"torch", "counts", "corrected"}
    for data in {record["data"] for record in records}:
        first = [float(r["nll"]) for r in records if r["data"] == data and float(r["epochs"]) == 0.0]
        last = [float(r["nll"]) for r in records if r["data"] == data and float(r["epochs"]) == torch_warm_start.EPOCHS]
        assert len(first) == len(last) == 6
        assert np.mean(last) < np.mean(first)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in capsys.readouterr().out


def test_a_head_starts_from_counts_and_learns():
    heads = pytest.importorskip("bench.peers.torch_heads")
    from bench.data import datasets

    split = datasets.made_up(400)
    moments = heads.trained(split, {}, 0.01, 2, 0, 4)
    assert [moment.epochs for moment in moments] == [0.0, *np.arange(1, 9) / 4]
    assert moments[0].nll < np.log(4) / 2
    assert moments[-1].seconds > moments[0].seconds > 0
