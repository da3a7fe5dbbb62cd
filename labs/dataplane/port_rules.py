"""What a port must obey as a whole: PFC, headroom, watchdog and thresholds that fit together. Raises SpecError."""

from __future__ import annotations

from labs.dataplane.intent import QUEUES, PortIntent
from labs.dataplane.profile import BY_PORT, Profile
from labs.dataplane.selectors import EVERY, best, samples
from topologies.yaml_source import KeyPath, Source


def check_ports(profile: Profile, source: Source) -> None:
    """Judge one port of each kind that the rows tell apart."""
    keys = [key for table in BY_PORT for key in getattr(profile.rows, table)]
    for node, port in samples(keys):
        intent = profile.port(node, port)
        place = _Place(profile, source, node, port)
        _check_lossless(intent, place)
        _check_thresholds(intent, place)
        _check_reserved(intent, place)


class _Place:
    """A port, and where in the file what it does is said."""

    def __init__(self, profile: Profile, source: Source, node: str, port: str) -> None:
        self.rows = profile.rows
        self.source = source
        self.node = node
        self.port = port

    def __str__(self) -> str:
        if self.node == EVERY:
            return "every port" if self.port == EVERY else f"port {self.port}"
        return f"every port of {self.node}" if self.port == EVERY else f"{self.node}:{self.port}"

    def path(self, table: str, *field: str, index: int | None = None) -> KeyPath:
        key = best(getattr(self.rows, table), self.node, self.port, index)
        return (table, key, *field) if key else (table,)


def _check_lossless(intent: PortIntent, place: _Place) -> None:
    for priority in sorted(intent.pfc_enable):
        group = intent.pfc_to_pg[priority]
        if not intent.pgs[group].lossless:
            found = f"priority {priority} of {place} leads to priority group {group}, which is not lossless"
            allowed = f"BUFFER_PG {group} with a profile that has xoff, or pfc_enable without {priority}"
            raise place.source.error(place.path("PORT_QOS_MAP", "pfc_enable"), found, allowed=allowed)
    paused = {intent.pfc_to_pg[priority] for priority in intent.pfc_enable}
    for pg in intent.pgs:
        if pg.lossless and pg.index not in paused:
            found = f"priority group {pg.index} of {place} is lossless, and no priority of pfc_enable leads to it"
            leading = [priority for priority in range(QUEUES) if intent.pfc_to_pg[priority] == pg.index]
            allowed = f"pfc_enable with {' or '.join(map(str, leading))}, or " if leading else ""
            where = place.path("BUFFER_PG", "profile", index=pg.index)
            raise place.source.error(where, found, allowed=f"{allowed}a profile without xoff")
    if idle := sorted(intent.watchdog_priorities - intent.pfc_enable):
        found = f"found priority {idle[0]}, which has no PFC on {place}"
        allowed = ",".join(map(str, sorted(intent.pfc_enable))) or "none: there is no pfc_enable"
        raise place.source.error(place.path("PORT_QOS_MAP", "pfcwd_sw_enable"), found, allowed=allowed)


def _check_thresholds(intent: PortIntent, place: _Place) -> None:
    for group in intent.pgs:
        limits = group.buffer
        if limits and limits.lossless and limits.xon > limits.most_bytes:
            found = f"found xon {limits.xon}, but priority group {group.index} of {place} pauses at {limits.most_bytes}"
            where = ("BUFFER_PROFILE", limits.name, "xon")
            raise place.source.error(where, found, allowed=f"from 0 to {limits.most_bytes}")
    for queue in intent.queues:
        limits = queue.buffer
        if queue.wred and limits and queue.wred.max_bytes > limits.most_bytes:
            key = best(place.rows.QUEUE, place.node, place.port, queue.index)
            name = place.rows.QUEUE[key].wred_profile if key else None
            found = (
                f"found {queue.wred.max_bytes}, but queue {queue.index} of {place} never holds more than "
                f"{limits.most_bytes} (BUFFER_PROFILE {limits.name})"
            )
            where = ("WRED_PROFILE", name or "", "green_max_threshold")
            raise place.source.error(where, found, allowed=f"at most {limits.most_bytes}")


def _check_reserved(intent: PortIntent, place: _Place) -> None:
    """A pool that one port alone asks too much of serves no switch; all ports of one are counted in the plan."""
    asked: dict[str, int] = {}
    for limits in intent.buffers:
        asked[limits.pool.name] = asked.get(limits.pool.name, 0) + limits.reserved + limits.headroom_of_its_own
    for name, asks in asked.items():
        size = place.rows.BUFFER_POOL[name].size
        if asks > size:
            found = (
                f"found {size} bytes, but {place} alone has {asks} reserved: size of its profiles, and their headroom"
            )
            raise place.source.error(
                ("BUFFER_POOL", name, "size"), found, allowed=f"at least {asks}, or smaller profiles"
            )
