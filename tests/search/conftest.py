"""Figures are drawn only where a test asks for one: they take most of the time of a run."""

import sys

import pytest


@pytest.fixture(autouse=True)
def without_figures(request, monkeypatch):
    """No figure but where a test asks for one."""
    if "draws" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def draws():
    """Let a test draw."""
    pytest.importorskip("matplotlib")
