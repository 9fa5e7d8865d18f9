"""The settings of SaffuLM and their defaults, in one table that a search over architectures uses as well."""

from __future__ import annotations

from typing import NamedTuple


class Settings(NamedTuple):
    """Arguments of :class:`saffu.SaffuLM`, with the default of each; see there for what they mean.

    The residual and the number of threads are no settings: the one is a model, the other changes no result.

    Examples
    --------
    >>> DEFAULTS.hidden
    64
    >>> Settings._fields[:4]
    ('bits', 'contexts', 'block', 'radius')
    """

    bits: int = 64
    contexts: tuple[str, ...] = ("radial", "document")
    block: int = 8
    radius: int = 8
    heads: int = 1
    layers: int = 1
    hidden: int = 64
    words: int = 6000
    span: int = 2000
    attention: str = "responsibilities"
    min_count: int = 0
    seed: int = 0


DEFAULTS = Settings()
