"""What a node's kernel is known to have, so that only changes become events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from labs.telemetry.records import AnyRecord, LinkEvent, RouteEvent
from labs.telemetry.rtnetlink import AF_INET6, DumpDone, Heard, LinkSeen, RouteSeen


@dataclass
class KnownKernel:
    """The links and routes of one node. `ports` are those of the fabric, by the name of their network device."""

    node: str
    ports: Mapping[str, str]
    names: dict[int, str] = field(default_factory=dict)
    links: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    routes: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)

    def learn(self, t: int, dumped: bool, seen: Heard) -> Iterator[AnyRecord]:
        """Take in what was heard at `t`; yields an event when it is news.

        What a dump tells of something not known yet is how things stand, not an event.
        """
        match seen:
            case LinkSeen():
                yield from self._link(t, seen)
            case RouteSeen():
                yield from self._route(t, seen, silent=dumped)
            case DumpDone():
                return

    def lost(self, t: int) -> Iterator[AnyRecord]:
        """The namespace is gone, and with it all that was in it; the far ends tell of their own."""
        self.routes.clear()
        self.names.clear()
        for name, (_, admin) in list(self.links.items()):
            yield from self._now(t, name, up=False, admin=admin)

    def _link(self, t: int, seen: LinkSeen) -> Iterator[AnyRecord]:
        if seen.gone:
            self.names.pop(seen.index, None)
        else:
            self.names[seen.index] = seen.name
        if seen.name in self.ports and not (seen.gone and seen.name not in self.links):
            yield from self._now(t, seen.name, up=seen.up, admin=seen.admin)

    def _now(self, t: int, name: str, *, up: bool, admin: bool) -> Iterator[AnyRecord]:
        before = self.links.get(name)
        self.links[name] = (up, admin)
        if before is not None and before != (up, admin):
            yield LinkEvent(t=t, node=self.node, port=self.ports[name], up=up, admin=admin)

    def _route(self, t: int, seen: RouteSeen, *, silent: bool) -> Iterator[AnyRecord]:
        key = (seen.prefix, seen.metric)
        before = self.routes.get(key)
        if not seen.gone:
            now = tuple(sorted(seen.out))
        elif seen.family == AF_INET6:  # its next hops are removed one by one
            now = tuple(index for index in before or () if index not in seen.out)
        else:
            now = ()
        if now:
            self.routes[key] = now
        else:
            self.routes.pop(key, None)
        if now == (before or ()) or (silent and before is None):
            return
        ports = tuple(self._named(index) for index in now)
        yield RouteEvent(t=t, node=self.node, prefix=seen.prefix, ports=ports, protocol=seen.protocol)

    def _named(self, index: int) -> str:
        name = self.names.get(index, f"if{index}")
        return self.ports.get(name, name)
