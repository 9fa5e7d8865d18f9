"""The container of what a transformer returns: an array, or a table of pandas or polars, as set_output chooses."""

from __future__ import annotations

import sys
from typing import Any

from saffu.utils import validate
from saffu.utils.arrays import Array

CONTAINERS = ("default", "pandas", "polars")


def chosen(transformer: object) -> str:
    """What ``set_output`` of the transformer chose, else ``sklearn.set_config``, else ``"default"``."""
    own = getattr(transformer, "_sklearn_output_config", {}).get("transform")
    if own is not None:
        return str(own)
    sklearn = sys.modules.get("sklearn")  # whoever configured it has imported it
    return "default" if sklearn is None else str(sklearn.get_config().get("transform_output", "default"))


def wrap(values: Array, names: Array, X: Any, container: str) -> Any:
    """Put values in a container.

    Parameters
    ----------
    values : ndarray, shape (M, D)
    names : ndarray of objects, shape (D,)
        Names of the columns.
    X : array_like or table
        What the values were made of: the table gets its index, if it has one.
    container : {"default", "pandas", "polars"}

    Raises
    ------
    ValueError
        If there is no such container.
    ImportError
        If its library is not installed.
    """
    if validate.choice(container, "transform", CONTAINERS) == "default":
        return values
    try:
        if container == "polars":
            import polars

            return polars.DataFrame(values, schema=names.tolist(), orient="row")
        import pandas

        return pandas.DataFrame(values, columns=names, index=X.index if isinstance(X, pandas.DataFrame) else None)
    except ImportError as error:
        raise ImportError(f"output as a table of {container} needs that library: pip install {container}") from error
