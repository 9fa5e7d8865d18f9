"""What was built and what it will use."""

from __future__ import annotations

from typing import Any

from saffu import _core
from saffu.utils.threads import resolve_threads


def show_config() -> dict[str, Any]:
    """Return how the compiled core was built and how many threads it will use.

    Returns
    -------
    dict
        ``compiler`` (str), ``openmp`` (bool), ``simd_variants`` (list of str, best first: the first one that this
        processor has is used), ``simd_choice`` (str: the ``"loader"`` picks it, or the ``"import"`` by function
        pointers, or ``"none"`` where there is one only), ``threads`` (int, the default of every ``n_threads``).

    Examples
    --------
    >>> sorted(show_config())
    ['compiler', 'openmp', 'simd_choice', 'simd_variants', 'threads']
    """
    return {**_core.config(), "threads": resolve_threads(None)}
