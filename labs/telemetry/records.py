"""What a timeline is made of: one record a line of ``timeline.jsonl``, told apart by its ``kind``.

Every record has ``t``: nanoseconds of the kernel's monotonic clock (CLOCK_MONOTONIC), which all namespaces of a
workstation share and nothing sets back. A `Clock` record says which wall time that was. Counters are totals since the
thing they count was made, as the kernel or the soft ASIC keeps them.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True, gc=False):
    """What all records have.

    `late_ns` is set by the Recorder alone: for a record that reached it after later ones had been written, `t` is when
    it was written, and it happened that much earlier.
    """

    t: int
    late_ns: int = 0


class Clock(Record, frozen=True, kw_only=True, tag="clock"):
    """At `t` it was `wall` (ISO 8601, UTC) in boot `boot`: the first record of a timeline, and after each restart."""

    wall: str
    boot: str


class LinkEvent(Record, frozen=True, kw_only=True, tag="link"):
    """A port's carrier (`up`) or its own setting (`admin`) changed."""

    node: str
    port: str
    up: bool
    admin: bool = True


class RouteEvent(Record, frozen=True, kw_only=True, tag="route", gc=True):
    """A node's kernel has another route to `prefix`: by `ports`, one entry a next hop; none when it is gone."""

    node: str
    prefix: str
    ports: tuple[str, ...] = ()
    protocol: str = ""


class SessionEvent(Record, frozen=True, kw_only=True, tag="session"):
    """A BGP or BFD session (`protocol` is bgp or bfd) changed its state, in the daemon's own word; `up` in ours.

    `peer` is the neighbour as the daemon names it, `port` the node's own port towards it, where that is known.
    """

    node: str
    peer: str
    protocol: str
    state: str
    up: bool
    because: str = ""
    port: str = ""


class EngineEvent(Record, frozen=True, kw_only=True, tag="engine"):
    """What a container engine said of a node."""

    node: str
    event: str
    exit_code: int | None = None
    signal: int | None = None


class FaultEvent(Record, frozen=True, kw_only=True, tag="fault", gc=True):
    """A fault's life; `phase` is injecting, made, reverting, reverted, or failed (then `because` says why).

    `made` is written right after the last of its changes was made, `injecting` right before the first. `by` says who
    takes it back: a command, the block that held it, the Recorder when its time is up.
    """

    id: str
    fault: str
    target: str
    phase: str
    params: dict[str, str] = {}
    because: str = ""
    by: str = ""


class TrafficEvent(Record, frozen=True, kw_only=True, tag="traffic"):
    """Traffic named `what` did `phase`: start, end, failed, or progress (`done` of its own units)."""

    what: str
    phase: str
    done: int = 0


class PortRecord(Record, frozen=True, kw_only=True, tag="port"):
    """A port's counters, as the kernel keeps them."""

    node: str
    port: str
    up: bool
    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int
    tx_dropped: int = 0
    rx_dropped: int = 0


class QueueRecord(Record, frozen=True, kw_only=True, tag="queue"):
    """One queue of the soft ASIC."""

    node: str
    port: str
    queue: int
    depth_bytes: int
    sent_packets: int
    sent_bytes: int
    marked_packets: int = 0
    dropped_packets: int = 0


class AsicRecord(Record, frozen=True, kw_only=True, tag="asic"):
    """The soft ASIC as a whole: PFC frames, reaction, CPU time of asicd."""

    pauses: int
    reaction_p99_us: float | None = None
    lost: int = 0
    cpu_s: float = 0.0


class HostRecord(Record, frozen=True, kw_only=True, tag="host"):
    """How the workstation fared since the last of these; shares are 0 to 1 (labs.telemetry.samples.HostSample).

    While a measurement keeps processors awake, `cpu_pressure` is the share of time in which anything else ran.
    """

    duration_s: float
    steal: float
    steal_worst: float
    starved_s: float
    cpu_pressure: float | None = None


class FlowRecord(Record, frozen=True, kw_only=True, tag="flow"):
    """What arrived of one open-loop flow since the last of these records of it.

    `first` and `last` are the lowest and highest sequence number that came; `received` counts packets, `duplicates`
    those that came before, `reordered` those with a number below one that had come. `silence_ns` is the longest time
    without a packet, and it ended at `silence_end` (same clock as t).
    """

    flow: str
    received: int
    first: int
    last: int
    duplicates: int = 0
    reordered: int = 0
    silence_ns: int = 0
    silence_end: int = 0


class ProbeRecord(Record, frozen=True, kw_only=True, tag="probe", gc=True):
    """An open-loop flow begins: a packet every `interval_ns` from host `src` to `dst`, whatever becomes of it.

    `prefix` is where it goes as switches name it, `path` the ports it leaves by (``leaf1:eth1``) as routing stood then;
    `way` is how it stands to the link it was chosen for (labs.probing.Way). Packets were sent from `began` to `ended`
    (same clock as t); 0 to 0 is a flow of which nobody knows when it ran. `gaps` is how many `GapRecord` belong to it,
    `invalid_because` why its counts cannot be trusted.
    """

    flow: str
    src: str
    dst: str
    prefix: str
    path: tuple[str, ...]
    interval_ns: int
    way: str = ""
    began: int = 0
    ended: int = 0
    gaps: int = 0
    invalid_because: tuple[str, ...] = ()


class GapRecord(Record, frozen=True, kw_only=True, tag="gap"):
    """A stretch in which nothing of an open-loop flow came, told after the flow's end: `t` says when that was.

    From `began`, the arrival of the last packet before, to `ended`, that of the first after it (0: none came).
    `missing` packets from number `first` on were lost for good; with 0 missing nothing was lost, and the probe saw
    nothing either. `behind_ns` is how far behind its schedule the sender was at most in the whole run.
    """

    flow: str
    began: int
    ended: int
    first: int
    missing: int
    behind_ns: int = 0


class VerdictRecord(Record, frozen=True, kw_only=True, tag="verdict"):
    """A claim was judged."""

    claim: str
    held: bool
    valid: bool
    summary: str = ""


class Missed(Record, frozen=True, kw_only=True, tag="missed"):
    """Records of `since` to `t` are missing, and why: `count` of them where that is known, of `node` or of any."""

    since: int
    because: str
    node: str = ""
    count: int = 0


class Note(Record, frozen=True, kw_only=True, tag="note"):
    """What a person or a scenario wants to find again."""

    text: str


AnyRecord = (
    Clock
    | LinkEvent
    | RouteEvent
    | SessionEvent
    | EngineEvent
    | FaultEvent
    | TrafficEvent
    | PortRecord
    | QueueRecord
    | AsicRecord
    | HostRecord
    | FlowRecord
    | ProbeRecord
    | GapRecord
    | VerdictRecord
    | Missed
    | Note
)
