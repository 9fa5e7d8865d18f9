"""The interface of scikit-learn's estimators that has nothing to do with data: settings, and what was not fitted yet.

scikit-learn itself is not needed.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Self


class NotFittedError(ValueError, AttributeError):
    """An estimator is asked for what only a fitted one has.

    It is raised where scikit-learn has not been imported; where it has, its exception of that name is.
    """


def not_fitted(estimator: object, verbs: str = "fit") -> ValueError:
    """The exception to raise for an estimator that has seen no data; ``verbs`` are those that show it some."""
    exceptions = sys.modules.get("sklearn.exceptions")
    kind: type[ValueError] = NotFittedError if exceptions is None else exceptions.NotFittedError
    return kind(f"this {type(estimator).__name__} has seen no data: call {verbs} first")


class Settings:
    """An object whose settings are the arguments of its constructor, kept as they are in attributes of their names.

    Examples
    --------
    >>> class Scaler(Settings):
    ...     def __init__(self, factor=2):
    ...         self.factor = factor
    >>> Scaler().set_params(factor=3)
    Scaler(factor=3)
    """

    @classmethod
    def _setting_names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor, by name.

        Parameters
        ----------
        deep : bool
            Without effect: no argument is an estimator itself.
        """
        return {name: getattr(self, name) for name in self._setting_names()}

    def set_params(self, **settings: Any) -> Self:
        """Change arguments of the constructor; they are checked by the next ``fit`` and take effect there.

        Raises
        ------
        ValueError
            If there is no argument of such a name.
        """
        known = self._setting_names()
        for name in settings:
            if name not in known:
                raise ValueError(f"{type(self).__name__} has the settings {', '.join(known)}; got {name!r}")
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({settings})"
