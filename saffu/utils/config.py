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
        ``compiler`` (str), ``openmp`` (bool), ``simd_variants`` (list of str, best first: the loader picks the first
        one that this processor has), ``threads`` (int, the default of every ``n_threads``).

    Examples
    --------
    >>> sorted(show_config())
    ['compiler', 'openmp', 'simd_variants', 'threads']
    """
    return {**_core.config(), "threads": resolve_threads(None)}
