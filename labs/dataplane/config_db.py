"""The shape of a profile file: SONiC's CONFIG_DB tables, row by row, as pydantic reads them.

Ranges and words are those of sonic-yang-models; what follows from several rows together is in `profile_rules.py`.
Numbers may be written as CONFIG_DB has them ("3") or plainly (3). Tables and fields of SONiC that the soft ASIC does
not play are refused by name (`UNPLAYED`), so that nothing is configured and then silently not done.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from labs.dataplane.field_types import Flag, LeafList, Number, Priorities
from topologies.ecmp import HashField
from topologies.load import Rate
from topologies.validation import ALLOWED, ALLOWED_KEYS, Strict

GLOBAL: Final = "GLOBAL"
EVERY = "*"
MOST_BYTES = 2**32 - 1  # the data plane's own counters
MOST_MS = 3_600_000
MOST_US = 60_000_000
_PORT = r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62}:)?(\*|[A-Za-z][A-Za-z0-9_./-]{0,14})"
_RANGE = r"[0-7](-[0-7])?"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
_DSCP = r"[0-9]|[1-5][0-9]|6[0-3]"
_TC = r"[0-9]|1[0-5]"
_SWITCH = r"(\*|tier:[a-z]+|[A-Za-z0-9][A-Za-z0-9_.-]{0,62})"
PORT_WORDS = "a port: * (every one), eth1, leaf1:* or leaf1:eth1"
SWITCH_WORDS = "switches: * (every one), tier:leaf or leaf1"
NAME_WORDS = "a name of up to 32 letters, digits, ., - and _"

UNPLAYED: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("DOT1P_TO_TC_MAP",): "links carry no VLAN tags",
        ("TC_TO_DSCP_MAP",): "a DSCP is never rewritten",
        ("TC_TO_DOT1P_MAP",): "links carry no VLAN tags",
        ("BUFFER_PORT_INGRESS_PROFILE_LIST",): "a port has no limits beside those of its priority groups",
        ("BUFFER_PORT_EGRESS_PROFILE_LIST",): "a port has no limits beside those of its queues",
        ("DEFAULT_LOSSLESS_BUFFER_PARAMETER",): "headroom is stated, not worked out by buffermgrd",
        ("LOSSLESS_TRAFFIC_PATTERN",): "headroom is stated, not worked out by buffermgrd",
        ("FG_NHG",): "buckets are RAILBED_ECMP's `mode: resilient`, for every group of a switch",
        ("FG_NHG_PREFIX",): "buckets are RAILBED_ECMP's `mode: resilient`, for every group of a switch",
        ("FG_NHG_MEMBER",): "buckets are RAILBED_ECMP's `mode: resilient`, for every group of a switch",
        ("SWITCH_HASH", GLOBAL, "lag_hash"): "no LAGs are played",
        ("SWITCH_HASH", GLOBAL, "lag_hash_algorithm"): "no LAGs are played",
        ("SWITCH_HASH", GLOBAL, "ecmp_hash", "VLAN_ID"): "links carry no VLAN tags",
        ("SWITCH_HASH", GLOBAL, "ecmp_hash", "INNER_VLAN_ID"): "links carry no VLAN tags",
        ("SWITCH_TABLE", EVERY, "lag_hash_seed"): "no LAGs are played",
        ("SWITCH_TABLE", EVERY, "lag_hash_offset"): "no LAGs are played",
        ("SWITCH_TABLE", EVERY, "fdb_aging_time"): "switches route, they have no table of MAC addresses",
        ("SWITCH_TRIMMING",): "packets are dropped, not trimmed",
        ("PORT_QOS_MAP", "global"): "SONiC reads one map of it; `*` stands for every port",
        ("PORT_QOS_MAP", EVERY, "dot1p_to_tc_map"): "links carry no VLAN tags",
        ("PORT_QOS_MAP", EVERY, "tc_to_dscp_map"): "a DSCP is never rewritten",
        ("PORT_QOS_MAP", EVERY, "scheduler"): "a port is shaped to its link's rate",
        ("SCHEDULER", EVERY, "priority"): "SONiC itself answers `Unknown field`",
        ("SCHEDULER", EVERY, "cbs"): "bursts are those of the shaper",
        ("SCHEDULER", EVERY, "pbs"): "bursts are those of the shaper",
        ("BUFFER_POOL", EVERY, "percentage"): "sizes are stated in bytes",
        ("BUFFER_PROFILE", EVERY, "headroom_type"): "headroom is stated, not worked out by buffermgrd",
        ("BUFFER_PROFILE", EVERY, "packet_discard_action"): "packets are dropped, not trimmed",
        ("PFC_WD", EVERY, "pfc_stat_history"): "no history is kept",
        ("PFC_WD", GLOBAL, "BIG_RED_SWITCH"): "each queue is judged by itself",
    }
)


_Bytes = Annotated[int, Number(0, MOST_BYTES, f"bytes, from 0 to {MOST_BYTES}")]
_SomeBytes = Annotated[int, Number(1, MOST_BYTES, f"bytes, from 1 to {MOST_BYTES}")]
_Percent = Annotated[int, Number(0, 100, "percent, an integer from 0 to 100")]
_Index = Annotated[int, Number(0, 7)]
_Class = Annotated[int, Number(0, 15)]
_Bool = Annotated[bool, Flag()]
_PriorityList = Annotated[frozenset[int], Priorities()]
_Name = Annotated[str, Field(pattern=f"^{_NAME}$", json_schema_extra={ALLOWED: NAME_WORDS})]
_RowName = Annotated[str, Field(pattern=f"^{_NAME}$")]
_DscpKey = Annotated[str, Field(pattern=f"^({_DSCP})$")]
_TcKey = Annotated[str, Field(pattern=f"^({_TC})$")]
_PriorityKey = Annotated[str, Field(pattern="^[0-7]$")]
_PortKey = Annotated[str, Field(pattern=f"^{_PORT}$")]
_PortRangeKey = Annotated[str, Field(pattern=rf"^{_PORT}\|{_RANGE}$")]
_SwitchKey = Annotated[str, Field(pattern=f"^{_SWITCH}$")]
_SwitchClassKey = Annotated[str, Field(pattern=rf"^{_SWITCH}(\|({_TC})(-({_TC}))?)?$")]
_GlobalKey = Literal["GLOBAL"]
# SONiC's fields alone: the queue pair is none of them.
HASH_FIELDS = tuple(str(field.name) for field in HashField if field is not HashField.DST_QP)
_HashFields = Annotated[
    tuple[str, ...],
    LeafList(HASH_FIELDS, "hash fields, each once"),
]
_Ms = Annotated[int, Number(0, MOST_MS, f"ms, from 0 to {MOST_MS}")]

_RANGE_WORDS = "a port, | and {} 0 to 7 or a range of them, one port a row: *|3, eth1|3-4 or leaf1:eth1|3"
_NAMED: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: NAME_WORDS})
_BY_PORT: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: PORT_WORDS})
_BY_QUEUE: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: _RANGE_WORDS.format("a queue")})
_BY_GROUP: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: _RANGE_WORDS.format("a priority group")})
_BY_SWITCH: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: SWITCH_WORDS})
_BY_SWITCH_AND_CLASS: Any = Field(
    default={},
    json_schema_extra={
        ALLOWED_KEYS: f"{SWITCH_WORDS}; and with it a traffic class 0 to 15 or a range: *|3, tier:leaf|3-4"
    },
)
_GLOBAL_ONLY: Any = Field(default={}, json_schema_extra={ALLOWED_KEYS: GLOBAL})

DscpMap = Annotated[dict[_DscpKey, _Class], Field(json_schema_extra={ALLOWED_KEYS: "DSCPs, quoted: '0' to '63'"})]
TcToQueueMap = Annotated[dict[_TcKey, _Index], Field(json_schema_extra={ALLOWED_KEYS: "TCs, quoted: '0' to '15'"})]
PriorityMap = Annotated[
    dict[_PriorityKey, _Index], Field(json_schema_extra={ALLOWED_KEYS: "PFC priorities, quoted: '0' to '7'"})
]
_Cable = Annotated[str, Field(pattern="^[0-9]{1,6}m$", json_schema_extra={ALLOWED: "metres, such as 5m"})]
CableMap = Annotated[dict[_PortKey, _Cable], Field(json_schema_extra={ALLOWED_KEYS: PORT_WORDS})]


class PortQosRow(Strict):
    """PORT_QOS_MAP: which maps a port follows, and its lossless priorities."""

    dscp_to_tc_map: _Name | None = None
    tc_to_queue_map: _Name | None = None
    tc_to_pg_map: _Name | None = None
    pfc_to_pg_map: _Name | None = None
    pfc_to_queue_map: _Name | None = None
    pfc_enable: _PriorityList = frozenset()
    pfcwd_sw_enable: _PriorityList = frozenset()


class WredRow(Strict):
    """WRED_PROFILE: bytes of queue, percent. Nothing colours packets yellow or red: those fields are only checked."""

    green_min_threshold: _Bytes | None = None
    green_max_threshold: _SomeBytes | None = None
    green_drop_probability: _Percent = 100
    yellow_min_threshold: _Bytes | None = None
    yellow_max_threshold: _SomeBytes | None = None
    yellow_drop_probability: _Percent = 100
    red_min_threshold: _Bytes | None = None
    red_max_threshold: _SomeBytes | None = None
    red_drop_probability: _Percent = 100
    wred_green_enable: _Bool = False
    wred_yellow_enable: _Bool = False
    wred_red_enable: _Bool = False
    ecn: Literal[
        "ecn_none",
        "ecn_green",
        "ecn_yellow",
        "ecn_red",
        "ecn_green_yellow",
        "ecn_green_red",
        "ecn_yellow_red",
        "ecn_all",
    ] = "ecn_none"


class SchedulerRow(Strict):
    """SCHEDULER: pir in bytes a second."""

    type: Literal["STRICT", "DWRR", "WRR"] = "WRR"
    weight: Annotated[int, Number(1, 100)] | None = None
    meter_type: Literal["bytes"] = "bytes"
    cir: Annotated[int, Number(0, 0, "0: no minimum is guaranteed")] | None = None
    pir: Annotated[int, Number(1, MOST_BYTES, f"bytes a second, from 1 to {MOST_BYTES}")] | None = None


class QueueRow(Strict):
    """QUEUE: how an egress queue is served, and marked or dropped early."""

    scheduler: _Name | None = None
    wred_profile: _Name | None = None


class PoolRow(Strict):
    """BUFFER_POOL: bytes each switch shares out; xoff is a headroom pool beside them."""

    type: Literal["ingress", "egress"]
    mode: Literal["static", "dynamic"]
    size: _SomeBytes
    xoff: _Bytes = 0


class BufferProfileRow(Strict):
    """BUFFER_PROFILE: with xoff it is lossless."""

    pool: _Name
    size: _Bytes
    dynamic_th: Annotated[int, Number(-8, 7)] | None = None
    static_th: _Bytes | None = None
    xon: _Bytes | None = None
    xoff: _Bytes | None = None
    xon_offset: _Bytes | None = None


class BufferRow(Strict):
    """BUFFER_PG and BUFFER_QUEUE: the profile of a priority group or queue."""

    profile: _Name


class WatchdogRow(Strict):
    """PFC_WD: of a port, times in ms; of GLOBAL, how often queues are looked at."""

    action: Literal["drop", "forward", "alert"] = "drop"
    detection_time: Annotated[int, Number(100, 5000, "ms, from 100 to 5000")] | None = None
    restoration_time: Annotated[int, Number(100, 60000, "ms, from 100 to 60000")] | None = None
    POLL_INTERVAL: Annotated[int, Number(100, 1000, "ms, from 100 to 1000")] | None = None


class PfcRow(Strict):
    """RAILBED_PFC: the pause time in frames that switches send, in 512 bit times; without it, by the port's rate."""

    quanta: Annotated[int, Number(1, 65535)]


class ScaleRow(Strict):
    """RAILBED_SCALE: the rate of the real ports that the lab's play."""

    real_rate: Rate


class SwitchHashRow(Strict):
    """SWITCH_HASH: which fields of a packet are hashed, and how, on every switch."""

    ecmp_hash: _HashFields | None = None
    ecmp_hash_algorithm: Literal["CRC", "XOR", "RANDOM", "CRC_32LO", "CRC_32HI", "CRC_CCITT", "CRC_XOR"] | None = None


class SwitchRow(Strict):
    """SWITCH_TABLE, of SONiC's APPL_DB: without a seed, each tier's derives from the lab's."""

    ecmp_hash_seed: Annotated[int, Number(0, 2**32 - 1)] | None = None
    ecmp_hash_offset: Annotated[int, Number(0, 31)] | None = None


class EcmpRow(Strict):
    """RAILBED_ECMP: how switches choose among equal-cost next hops. Times are the lab's own, not of what it plays."""

    mode: Literal["kernel", "switch_hash", "roce", "flowlet", "spray", "adaptive", "resilient", "weighted", "pinned"]
    by: Literal["random", "round_robin", "packet", "flowlet", "queue_pair", "rail"] | None = None
    gap_us: Annotated[int, Number(1, MOST_US, f"us, from 1 to {MOST_US}")] | None = None
    quantum: _SomeBytes | None = None
    idle_ms: _Ms | None = None
    unbalanced_ms: _Ms | None = None
    marked: _Bool | None = None


class ProfileFile(Strict):
    """A profile: QoS once for all switches, in SONiC's CONFIG_DB tables."""

    base: str | None = Field(
        default=None, description="a shipped profile that this one changes row by row; ~ takes a row or field out"
    )
    DSCP_TO_TC_MAP: dict[_RowName, DscpMap] = _NAMED
    TC_TO_QUEUE_MAP: dict[_RowName, TcToQueueMap] = _NAMED
    TC_TO_PRIORITY_GROUP_MAP: dict[_RowName, TcToQueueMap] = _NAMED
    PFC_PRIORITY_TO_PRIORITY_GROUP_MAP: dict[_RowName, PriorityMap] = _NAMED
    MAP_PFC_PRIORITY_TO_QUEUE: dict[_RowName, PriorityMap] = _NAMED
    PORT_QOS_MAP: dict[_PortKey, PortQosRow] = _BY_PORT
    WRED_PROFILE: dict[_RowName, WredRow] = _NAMED
    SCHEDULER: dict[_RowName, SchedulerRow] = _NAMED
    QUEUE: dict[_PortRangeKey, QueueRow] = _BY_QUEUE
    BUFFER_POOL: dict[_RowName, PoolRow] = _NAMED
    BUFFER_PROFILE: dict[_RowName, BufferProfileRow] = _NAMED
    BUFFER_PG: dict[_PortRangeKey, BufferRow] = _BY_GROUP
    BUFFER_QUEUE: dict[_PortRangeKey, BufferRow] = _BY_QUEUE
    PFC_WD: dict[_PortKey, WatchdogRow] = Field(
        default={}, json_schema_extra={ALLOWED_KEYS: f"GLOBAL, or {PORT_WORDS}"}
    )
    CABLE_LENGTH: dict[_RowName, CableMap] = _NAMED
    SWITCH_HASH: dict[_GlobalKey, SwitchHashRow] = _GLOBAL_ONLY
    SWITCH_TABLE: dict[_SwitchKey, SwitchRow] = _BY_SWITCH
    RAILBED_ECMP: dict[_SwitchClassKey, EcmpRow] = _BY_SWITCH_AND_CLASS
    RAILBED_PFC: dict[_GlobalKey, PfcRow] = _GLOBAL_ONLY
    RAILBED_SCALE: dict[_GlobalKey, ScaleRow] = _GLOBAL_ONLY


TABLES = tuple(name for name in ProfileFile.model_fields if name != "base")
