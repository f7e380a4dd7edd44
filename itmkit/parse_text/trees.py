"""From arc scores to a tree with exactly one root: the greedy heads if they form one, else a maximum spanning tree.

Scores are (n, n): `scores[d, h]` for word h as head of word d, and the diagonal for d as the root.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_trees(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Heads (b, n) of the best single-rooted tree of each of b sentences; a root points to itself.

    scores: (b, n, n), finite.
    """
    heads: NDArray[np.int64] = scores.argmax(axis=2)
    for k in np.flatnonzero(~_are_trees(heads)):
        heads[k] = maximum_spanning_tree(scores[k])
    return heads


def _are_trees(heads: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows of heads (b, n) are trees with one root."""
    n = heads.shape[1]
    above = heads
    for _ in range(max(1, n - 1).bit_length()):  # pointer doubling: afterwards everyone looks past n steps up
        above = np.take_along_axis(above, above, axis=1)
    # With one word that is its own head, a word that does not arrive there is in or above a cycle.
    is_root = heads == np.arange(n)
    one = is_root.sum(axis=1) == 1
    arrived = (above == is_root.argmax(axis=1)[:, None]).all(axis=1)
    return np.asarray(one & arrived)


def maximum_spanning_tree(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Heads (n,) of the tree with the highest sum of scores among those with exactly one root (Chu, Liu, Edmonds).

    scores: (n, n) as above. Every root arc is penalised by more than all other arcs can differ, so that the best tree
    takes exactly one root arc, the best one.
    """
    n = len(scores)
    if n == 1:
        return np.zeros(1, np.int64)
    graph = np.full((n + 1, n + 1), -np.inf)  # node 0 is the root above the sentence; graph[d, h]
    graph[1:, 1:] = scores
    graph[np.arange(1, n + 1), np.arange(1, n + 1)] = -np.inf
    spread = float(scores.max() - scores.min()) + 1.0
    graph[1:, 0] = np.diagonal(scores) - spread * (n + 1)
    heads = _edmonds(graph)[1:]
    return np.where(heads == 0, np.arange(n), heads - 1)


def _edmonds(graph: NDArray[np.float64]) -> NDArray[np.int64]:
    """Best heads of an arborescence from node 0 of a dense graph[d, h]; heads[0] is 0."""
    n = len(graph)
    heads = graph.argmax(axis=1)
    heads[0] = 0
    cycle = _find_cycle(heads)
    if cycle is None:
        return heads
    # Contract the cycle into one node (the last of the smaller graph) and solve that.
    in_cycle = np.zeros(n, np.bool_)
    in_cycle[cycle] = True
    rest = np.flatnonzero(~in_cycle)  # keeps node 0 first
    cycle_nodes = np.flatnonzero(in_cycle)
    # Rows first, then columns: on graphs this small np.ix_ costs more than the copy.
    from_rest, from_cycle = graph[rest], graph[cycle_nodes]
    gain = from_cycle[:, rest] - graph[cycle_nodes, heads[cycle_nodes]][:, None]
    enters_at = gain.argmax(axis=0)  # for each outside head: the node of the cycle it would take
    outward = from_rest[:, cycle_nodes]
    leaves_by = outward.argmax(axis=1)  # for each outside node: its head in the cycle
    size = len(rest)
    small = np.full((size + 1, size + 1), -np.inf)
    small[:size, :size] = from_rest[:, rest]
    small[size, :size] = gain.max(axis=0)
    small[:size, size] = outward.max(axis=1)
    small[0] = -np.inf
    solved = _edmonds(small)
    for d in range(1, size):
        h = solved[d]
        heads[rest[d]] = cycle_nodes[leaves_by[d]] if h == size else rest[h]
    entry = solved[size]
    node = cycle_nodes[enters_at[entry]]
    heads[node] = rest[entry]
    return heads


def _find_cycle(heads: NDArray[np.int64]) -> list[int] | None:
    """Nodes of one cycle, or None. Node 0 is the root."""
    state = np.zeros(len(heads), np.int64)  # 0 = not seen, else the walk that saw it
    state[0] = -1
    for start in range(1, len(heads)):
        node = start
        while state[node] == 0:
            state[node] = start
            node = int(heads[node])
        if state[node] == start:
            cycle = [node]
            while (after := int(heads[cycle[-1]])) != node:
                cycle.append(after)
            return cycle
    return None
