"""A profile: what every switch port of a fabric is to do with packets, said once.

`Profile.port()` is the answer for one port; `Profile.tables` is the same in SONiC's own words. Files become profiles in
`load.py`, and what the data plane is told of them is `plan.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from labs.dataplane.config_db import GLOBAL, TABLES, PortQosRow, ProfileFile
from labs.dataplane.ecmp_intent import ecmp_rules
from labs.dataplane.intent import (
    CLASSES,
    DSCPS,
    QUEUES,
    BufferPool,
    BufferProfile,
    Direction,
    PgIntent,
    PortIntent,
    QueueIntent,
    Scheduler,
    SchedulerKind,
    Watchdog,
    WatchdogAction,
    Wred,
)
from labs.dataplane.selectors import EVERY, best, selector
from labs.spec import derived_seed
from topologies.ecmp import EcmpRule
from topologies.errors import SpecError
from topologies.fabric import Tier
from topologies.units import GBIT, MBIT
from topologies.yaml_source import Source

REAL_RATE_BPS = 400 * GBIT
POLL_MS = 100  # orchagent's own, where PFC_WD has no GLOBAL row
BY_PORT = ("PORT_QOS_MAP", "QUEUE", "BUFFER_PG", "BUFFER_QUEUE", "PFC_WD")
MARKS_GREEN = frozenset({"ecn_green", "ecn_green_yellow", "ecn_green_red", "ecn_all"})

Tables = dict[str, dict[str, dict[str, str]]]


@dataclass(frozen=True)
class Profile:
    """QoS for all switches. `rows` is the file as read; values from `load.py` are checked.

    `quanta` None: by each port's rate (`scaling.quanta`). `remarks` say what the file states without effect.
    `source` is the file itself, for what only a fabric shows wrong.
    """

    name: str
    rows: ProfileFile
    remarks: tuple[str, ...] = ()
    source: Source | None = field(default=None, repr=False, compare=False)

    def placed(self, error: SpecError) -> SpecError:
        """An error about one of the profile's tables, with file and line."""
        if self.source is None or error.where.key.partition(".")[0] not in TABLES:
            return error
        return self.source.placed(error)

    @property
    def quanta(self) -> int | None:
        """The pause time that switches send, in 512 bit times, where the file states one."""
        row = self.rows.RAILBED_PFC.get(GLOBAL)
        return row.quanta if row else None

    @property
    def real_rate_bps(self) -> int:
        """The rate of the real ports that the lab's ports play, in bit/s."""
        row = self.rows.RAILBED_SCALE.get(GLOBAL)
        return row.real_rate if row else REAL_RATE_BPS

    @cached_property
    def pools(self) -> Mapping[str, BufferPool]:
        """The buffer pools that each switch has, by name."""
        return {
            name: BufferPool(name, Direction(row.type), row.mode, row.size, row.xoff)
            for name, row in self.rows.BUFFER_POOL.items()
        }

    def buffer(self, name: str) -> BufferProfile:
        """A row of BUFFER_PROFILE. Raises KeyError when there is none."""
        row = self.rows.BUFFER_PROFILE[name]
        return BufferProfile(
            name=name,
            pool=self.pools[row.pool],
            size=row.size,
            dynamic_th=row.dynamic_th,
            static_th=row.static_th,
            xon=row.xon or 0,
            xoff=row.xoff or 0,
            xon_offset=row.xon_offset or 0,
        )

    def wred(self, name: str) -> Wred | None:
        """A row of WRED_PROFILE; None for one that leaves green packets alone. Raises KeyError for an unknown name."""
        row = self.rows.WRED_PROFILE[name]
        ecn = row.ecn in MARKS_GREEN
        if row.green_max_threshold is None or not (ecn or row.wred_green_enable):
            return None
        low, high = row.green_min_threshold or 0, row.green_max_threshold
        return Wred(low, high, row.green_drop_probability, row.wred_green_enable, ecn)

    def scheduler(self, name: str) -> Scheduler:
        """A row of SCHEDULER. Raises KeyError when there is none."""
        row = self.rows.SCHEDULER[name]
        return Scheduler(SchedulerKind(row.type), row.weight or 1, row.pir)

    def ecmp(self, node: str, tier: Tier, seed: int = 0) -> tuple[EcmpRule, ...]:
        """How a switch chooses among equal-cost next hops, class by class.

        `seed` is the lab's: where SWITCH_TABLE has no seed for a switch, that of its tier derives from it.
        """
        return ecmp_rules(self.rows, node, tier, derived_seed(seed, f"hash/{tier}"))

    def port(self, node: str, port: str) -> PortIntent:
        """What a port does. Ports that no row tells apart get the same value."""
        nodes, ports = self._mentioned
        place = (node if node in nodes else EVERY, port if port in ports else EVERY)
        if place not in self._answers:
            self._answers[place] = self._port(*place)
        return self._answers[place]

    @cached_property
    def _answers(self) -> dict[tuple[str, str], PortIntent]:
        return {}

    @cached_property
    def _mentioned(self) -> tuple[frozenset[str], frozenset[str]]:
        """The nodes and the ports that rows name."""
        keys = [selector(key) for table in BY_PORT for key in getattr(self.rows, table)]
        return frozenset(one.node for one in keys), frozenset(one.port for one in keys)

    def _port(self, node: str, port: str) -> PortIntent:
        rows = self.rows
        key = best(rows.PORT_QOS_MAP, node, port)
        qos = rows.PORT_QOS_MAP[key] if key else PortQosRow()
        return PortIntent(
            dscp_to_tc=_mapped(rows.DSCP_TO_TC_MAP, qos.dscp_to_tc_map, DSCPS),
            tc_to_queue=_mapped(rows.TC_TO_QUEUE_MAP, qos.tc_to_queue_map, CLASSES),
            tc_to_pg=_mapped(rows.TC_TO_PRIORITY_GROUP_MAP, qos.tc_to_pg_map, CLASSES),
            pfc_to_pg=_of_priority(rows.PFC_PRIORITY_TO_PRIORITY_GROUP_MAP, qos.pfc_to_pg_map),
            pfc_to_queue=_of_priority(rows.MAP_PFC_PRIORITY_TO_QUEUE, qos.pfc_to_queue_map),
            pfc_enable=qos.pfc_enable,
            watchdog=self._watchdog(node, port),
            watchdog_priorities=qos.pfcwd_sw_enable,
            queues=tuple(self._queue(node, port, index) for index in range(QUEUES)),
            pgs=tuple(self._pg(node, port, index) for index in range(QUEUES)),
        )

    @property
    def tables(self) -> Tables:
        """The profile as CONFIG_DB has it: table, key, field, and text as value. What was stated, the base included."""
        stated = self.rows.model_dump(exclude_unset=True, exclude_none=True)
        return {
            table: {
                key: {field: _text(field, value) for field, value in row.items()} for key, row in stated[table].items()
            }
            for table in TABLES
            if stated.get(table)
        }

    def _queue(self, node: str, port: str, index: int) -> QueueIntent:
        key = best(self.rows.QUEUE, node, port, index)
        row = self.rows.QUEUE[key] if key else None
        limits = best(self.rows.BUFFER_QUEUE, node, port, index)
        return QueueIntent(
            index=index,
            scheduler=self.scheduler(row.scheduler) if row and row.scheduler else Scheduler(),
            wred=self.wred(row.wred_profile) if row and row.wred_profile else None,
            buffer=self.buffer(self.rows.BUFFER_QUEUE[limits].profile) if limits else None,
        )

    def _pg(self, node: str, port: str, index: int) -> PgIntent:
        limits = best(self.rows.BUFFER_PG, node, port, index)
        return PgIntent(index, self.buffer(self.rows.BUFFER_PG[limits].profile) if limits else None)

    def _watchdog(self, node: str, port: str) -> Watchdog | None:
        every = self.rows.PFC_WD.get(GLOBAL)
        key = best((key for key in self.rows.PFC_WD if key != GLOBAL), node, port)
        row = self.rows.PFC_WD[key] if key else None
        if row is None or row.detection_time is None or row.restoration_time is None:
            return None
        poll_ms = every.POLL_INTERVAL if every and every.POLL_INTERVAL else POLL_MS
        return Watchdog(WatchdogAction(row.action), row.detection_time, row.restoration_time, poll_ms)


def _mapped(maps: Mapping[str, Mapping[str, int]], name: str | None, values: int) -> tuple[int, ...]:
    """0 for what is not listed, as SAI has it."""
    listed = maps[name] if name else {}
    return tuple(listed.get(str(value), 0) for value in range(values))


def _of_priority(maps: Mapping[str, Mapping[str, int]], name: str | None) -> tuple[int, ...]:
    """A PFC priority that is not listed stands for itself."""
    listed = maps[name] if name else {}
    return tuple(listed.get(str(priority), priority) for priority in range(QUEUES))


def _text(field: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, frozenset):
        return ",".join(map(str, sorted(value)))
    if field == "real_rate" and isinstance(value, int):
        return f"{value // GBIT}Gbit" if value % GBIT == 0 else f"{value / MBIT:g}Mbit"
    return str(value)
