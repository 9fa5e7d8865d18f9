"""Where old heads, groups and numbers of a head stand in a larger model."""

from __future__ import annotations

import numpy as np

from saffu.utils.arrays import Int64

NEW = -1  # in a map: the entry is new


def padded(old: int, new: int) -> Int64:
    """The map of an axis whose new entries stand behind the old ones: for each entry the old one, or NEW.

    Examples
    --------
    >>> padded(2, 4).tolist()
    [0, 1, -1, -1]
    """
    places = np.full(new, NEW, np.int64)
    places[:old] = np.arange(old)
    return places


def head_maps(heads: tuple[int, int], groups: tuple[int, int]) -> tuple[Int64, Int64]:
    """Maps of query heads and of groups, whose keys and values consecutive query heads share.

    Query head i reads group i // (heads / groups). An old head must read its old group or a copy of that, so old heads
    fill the first places of their group. A group that becomes too small for its heads is copied, and the heads are
    dealt out to the copies.

    Parameters
    ----------
    heads, groups : pair of int
        Before and after.

    Raises
    ------
    ValueError
        If the heads do not fit.

    Examples
    --------
    >>> queries, keys = head_maps((2, 6), (1, 2))
    >>> queries.tolist(), keys.tolist()
    ([0, 1, -1, -1, -1, -1], [0, -1])
    >>> queries, keys = head_maps((4, 4), (2, 4))
    >>> queries.tolist(), keys.tolist()
    ([0, 1, 2, 3], [0, 0, 1, 1])
    """
    before, after = heads[0] // groups[0], heads[1] // groups[1]
    copies = -(-before // after)
    if groups[0] * copies > groups[1]:
        raise ValueError(
            f"{groups[1]} key/value heads of {after} query heads each cannot hold {groups[0]} of {before}: old query "
            f"heads must go on reading their keys; at least {groups[0] * copies} key/value heads are needed"
        )
    query_map, group_map = np.full(heads[1], NEW, np.int64), np.full(groups[1], NEW, np.int64)
    for group in range(groups[0]):
        for copy in range(copies):
            place = group * copies + copy
            group_map[place] = group
            some = np.arange(group * before + copy * after, group * before + min((copy + 1) * after, before))
            query_map[place * after : place * after + some.size] = some
    return query_map, group_map


def rotary_map(old: int, new: int) -> Int64:
    """The map of the numbers of a rotated head, of which i and i + width / 2 are a pair.

    Pair i of k is rotated by base^(-2 i / k) for each position. In a head of c k numbers pair c i is rotated by just as
    much, and by nothing else would the scores be those of before; so c must be whole.

    Examples
    --------
    >>> rotary_map(4, 8).tolist()
    [0, -1, 1, -1, 2, -1, 3, -1]
    """
    if new == old:
        return padded(old, new)
    if new % old:
        raise ValueError(
            f"head_dim must be a multiple of {old}, as it is now, got {new}: positions rotate pair i of a head by "
            f"base^(-2 i / head_dim), and only in a multiple of the width are the old frequencies among the new ones"
        )
    places = np.full(new, NEW, np.int64)
    places[:: new // old] = np.arange(old)
    return places
