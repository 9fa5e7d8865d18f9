"""Delayed work and its results, by Dask: the only module that imports it; needs the extra ``dask``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from saffu.utils import validate
from saffu.utils.progress import Bar
from saffu.utils.threads import available_cpus

try:
    import dask
    import distributed
    from dask.array import Array as DaskArray
    from dask.bag import Bag
except ImportError as error:  # pragma: no cover - this module is of no use without dask
    raise ImportError("saffu.dask needs dask and distributed: pip install 'saffu[dask]'") from error

__all__ = [
    "Bag",
    "Client",
    "Computation",
    "DaskArray",
    "current_client",
    "delayed",
    "done",
    "is_delayed",
    "n_bytes",
    "n_ranges",
    "summed",
]

Client: TypeAlias = "distributed.Client | None"
BLOCKSIZE = "64 MiB"
RANGES_PER_THREAD, FEWEST_RANGES = 2, 8
FAN_IN = 8  # summands of a task: fewer tasks, and less that is sent, for a third more memory than with two

delayed = dask.delayed


def is_delayed(value: Any) -> bool:
    """Whether a value, or a part of a tuple, is yet to be computed."""
    if isinstance(value, tuple):
        return any(map(is_delayed, value))
    return dask.is_dask_collection(value) or isinstance(value, distributed.Future)


def n_bytes(blocksize: int | str) -> int:
    """A number of bytes, from a string such as ``"64 MiB"``, too."""
    found = dask.utils.parse_bytes(blocksize) if isinstance(blocksize, str) else blocksize
    return validate.integer(found, "blocksize", 1)


def summed(parts: Sequence[Any], add: Callable[[Any, Any], Any]) -> Any:
    """The delayed sum of delayed parts: a tree of sums of neighbours, so that their order is kept."""
    sum_of = delayed(_sum_of)
    parts = list(parts)
    while len(parts) > 1:
        parts = [sum_of(parts[first : first + FAN_IN], add) for first in range(0, len(parts), FAN_IN)]
    return parts[0]


def _sum_of(parts: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """The sum of some neighbours, two at a time, so that large sums are not read again for each small part."""
    while len(parts) > 1:
        odd = parts[len(parts) // 2 * 2 :]
        parts = [*(add(*pair) for pair in zip(parts[::2], parts[1::2], strict=False)), *odd]
    return parts[0]


def done(_: Any) -> None:
    """A result as small as can be, which says that another one has been there."""


class Computation:
    """Results of delayed objects, from a cluster or, without a client, from the scheduler of this machine."""

    def __init__(self, client: Client, bar: Bar) -> None:
        self._client, self._bar = client, bar
        self._found: dict[str, Any] = {}  # futures, or values, by the keys of what was started

    def __enter__(self) -> Computation:
        return self

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if self._client is not None and exc_type is not None:
            self._client.cancel(list(self._found.values()))
        self._found.clear()

    def start(self, objects: Sequence[Any]) -> None:
        """Begin to compute, all of it in one graph."""
        found = dask.compute(*objects) if self._client is None else self._client.compute(list(objects))
        self._found = {one.key: result for one, result in zip(objects, found, strict=True)}

    def value(self, one: Any) -> Any:
        """A result, when it is there."""
        found = self._found[one.key]
        return found if self._client is None else found.result()

    def wait(self, objects: Sequence[Any]) -> None:
        """Until all of some objects are computed."""
        for _ in self.arriving(objects):
            pass

    def arriving(self, objects: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Number and value of each of some objects, as they come; it is let go of then."""
        numbers = {one.key: number for number, one in enumerate(objects)}
        if self._client is None:
            for key, number in numbers.items():
                self._bar.update()
                yield number, self._found.pop(key)
            return
        futures = [self._found[key] for key in numbers]
        for future in distributed.as_completed(futures, loop=self._client.loop):
            self._bar.update()
            yield numbers[future.key], future.result()
            self._found.pop(future.key).release()


def current_client(client: Client) -> Client:
    """The client that is given, or else the current one, if there is one."""
    if client is not None:
        return client
    try:
        return distributed.get_client()
    except ValueError:  # there is none
        return None


def n_ranges(client: Client) -> int:
    """Into how many ranges work that is summed is cut by default."""
    n_threads = available_cpus() if client is None else sum(client.nthreads().values())
    return max(RANGES_PER_THREAD * n_threads, FEWEST_RANGES)
