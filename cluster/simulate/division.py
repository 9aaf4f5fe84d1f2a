"""Who ranks first for what, and in which order each site walks."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.model import Order, join, split
from cluster.plan.order import SPLIT, arranged
from cluster.plan.steal import Piece, divided, piece_owner, pieces
from cluster.simulate.scenario import Scenario, Share


class Division:
    """The work of one scenario, as pieces with owners."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._sizes = dict(scenario.files)
        self._names: dict[bytes, list[bytes]] = {}
        for path in self._sizes:
            directory, name = split(path)
            self._names.setdefault(directory, []).append(name)

    def walk(self, index: int) -> list[tuple[Piece, str]]:
        """Every piece in the order in which the site with this index walks, with its owner. Only rendezvous
        knows owners: in any other order everything is a site's own work.
        """
        scenario = self._scenario
        order, own = scenario.order(index), scenario.members[index].name
        paths = self._paths(order, f"{own}:{scenario.seed}")
        if scenario.apart:
            first = index // 2 * len(paths) // ((len(scenario.members) + 1) // 2)
            first = -first if order is Order.BACKWARD else first  # the two of a pair begin back to back
            paths = paths[first:] + paths[:first]
        sizes = self._sizes
        work = [piece for path in paths for piece in pieces(path, sizes[path], ranges=scenario.ranges)]
        if order is not Order.RENDEZVOUS:
            return [(piece, own) for piece in work]
        owners = self._owners()
        return [(piece, owners[piece]) for piece in work]

    def owner(self, piece: Piece, sites: Sequence[str]) -> str:
        """Who of `sites` ranks first for a piece."""
        beside = len(self._names[split(piece.path)[0]])
        return piece_owner(piece, SPLIT + 1 if self._scenario.share is Share.FILE else beside, sites)

    def _paths(self, order: Order, seed: str) -> list[bytes]:
        if self._scenario.share is Share.FILE:
            return arranged(list(self._sizes), order, seed)
        step = -1 if order is Order.BACKWARD else 1
        return [
            join(directory, name)
            for directory in arranged(list(self._names), order, seed)
            for name in self._names[directory][::step]
        ]

    def _owners(self) -> dict[Piece, str]:
        scenario, sites = self._scenario, [member.name for member in self._scenario.members]
        if scenario.share is Share.FILE:
            every = [p for path, size in scenario.files for p in pieces(path, size, ranges=scenario.ranges)]
            return {piece: self.owner(piece, sites) for piece in every}
        return {
            piece: owner
            for directory, names in self._names.items()
            for piece, owner in divided(
                directory,
                [(name, self._sizes[join(directory, name)]) for name in names],
                sites,
                ranges=scenario.ranges,
            )
        }
