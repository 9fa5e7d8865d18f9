"""Settings of an estimator: the arguments of its constructor, as scikit-learn reads and changes them."""

from __future__ import annotations

import inspect
import sys
from typing import Any, Self

from saffu.utils.threads import resolve_threads


class NotFittedError(ValueError, AttributeError):
    """A classifier is asked for what only a fitted one has.

    It is raised where scikit-learn has not been imported; where it has, its exception of that name is.
    """


class Settings:
    """An estimator whose constructor stores its arguments as they are."""

    n_threads: int | None

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

    def _threads(self) -> int:
        return resolve_threads(self.n_threads)

    def _not_fitted(self) -> ValueError:
        """The exception of an estimator that has seen no data."""
        exceptions = sys.modules.get("sklearn.exceptions")
        kind: type[ValueError] = NotFittedError if exceptions is None else exceptions.NotFittedError
        return kind(f"this {type(self).__name__} has seen no data: call fit or partial_fit first")
