"""The nodes of a simulated machine: which cores are free, and when there will be more.

No jobs, no users, no time: what runs where is told to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Nodes:
    """Nodes of equal size, found by how many of their cores are free.

    Parameters
    ----------
    count
        Nodes.
    cores
        Of each.
    """

    def __init__(self, count: int, cores: int) -> None:
        self.cores = cores
        self.free = [cores] * count
        self.down: set[int] = set()
        # By the number of free cores; dictionaries, since sets have no order of their own.
        self._having: list[dict[int, None]] = [{} for _ in range(cores + 1)]
        self._having[cores] = dict.fromkeys(range(count))

    def __len__(self) -> int:
        return len(self.free)

    def find(self, nodes: int, cores: int, without: Collection[int] = ()) -> list[int]:
        """Nodes with so many free cores, the fullest first; none if there are too few."""
        found: list[int] = []
        for having in self._having[cores:]:
            for node in having:
                if node not in without:
                    found.append(node)
                    if len(found) == nodes:
                        return found
        return []

    def take(self, nodes: Iterable[int], cores: int) -> None:
        for node in nodes:
            self._change(node, -cores)

    def give(self, nodes: Iterable[int], cores: int) -> None:
        for node in nodes:
            self._change(node, cores)

    def fail(self, node: int) -> None:
        """Nothing starts there any more; what runs there is somebody else's to end."""
        self.down.add(node)
        self._having[self.free[node]].pop(node, None)

    def mend(self, node: int) -> None:
        self.down.discard(node)
        self._having[self.free[node]][node] = None

    def _change(self, node: int, cores: int) -> None:
        self._having[self.free[node]].pop(node, None)
        self.free[node] += cores
        if not 0 <= self.free[node] <= self.cores:
            raise AssertionError(f"node {node} has {self.free[node]} free cores")
        if node not in self.down:
            self._having[self.free[node]][node] = None

    def reserve(
        self, nodes: int, cores: int, ends: Iterable[tuple[float, Collection[int], int]]
    ) -> tuple[float, frozenset[int]]:
        """When and where so many nodes will have so many free cores at the latest.

        Parameters
        ----------
        nodes, cores
            What is asked for.
        ends
            When each running job must have ended, where it runs, on how many cores of each node.
        """
        free = {node: have for node, have in enumerate(self.free) if node not in self.down}
        ready = {node for node, have in free.items() if have >= cores}
        for end, where, its in sorted(ends, key=lambda each: each[0]):
            for node in where:
                if node in free:
                    free[node] += its
                    if free[node] >= cores:
                        ready.add(node)
            if len(ready) >= nodes:
                return end, frozenset(sorted(ready)[:nodes])
        return float("inf"), frozenset()
