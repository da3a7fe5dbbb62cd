"""What a scenario's YAML may hold, step by step: the models behind its errors and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from labs.load import BgpEntry
from labs.scenarios.words import CLAIMS, CONDITIONS
from topologies.errors import SpecError
from topologies.load import Rate
from topologies.validation import ALLOWED, Strict
from traffic.busbw import parse_size
from traffic.engines.probe import PPS

LEAST_S, MOST_S = 0.001, 3600.0
DURATION_RULE = "a time with its unit, such as 300ms, 2s or 5m, from 1ms to 60m"
SIZE_RULE = "bytes as an integer, or text such as 256K, 4M (K, M, G are 1024s), 1 or more"
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m)")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0}


def duration_of(value: object) -> float:
    """A time in seconds. Raises ValueError, which becomes `DURATION_RULE`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not LEAST_S <= seconds <= MOST_S:
        raise ValueError
    return seconds


def _size_of(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError  # noqa: TRY004 - pydantic turns a ValueError into an error of the file
    try:
        size = parse_size(str(value))
    except SpecError:
        raise ValueError from None
    if size < 1:
        raise ValueError
    return size


Duration = Annotated[
    float,
    BeforeValidator(duration_of),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$", ALLOWED: DURATION_RULE}),
]
Size = Annotated[
    int,
    BeforeValidator(_size_of),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}], ALLOWED: SIZE_RULE}),
]
_NAME_RULE = "a lower-case letter, then up to 31 of a-z, 0-9 and -"
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", json_schema_extra={ALLOWED: _NAME_RULE})]
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Share = Annotated[float, Field(gt=0, le=1, json_schema_extra={ALLOWED: "a share above 0, up to 1"})]
_Iterations = Annotated[int, Field(ge=1, le=100_000)]
_Param = Annotated[
    str | int | float | bool,
    Field(json_schema_extra={ALLOWED: "text, a number, true or false"}),
]


class TrafficEntry(Strict):
    """Play a collective on the lab's hosts, by nccl-tests' name."""

    traffic: Name
    pattern: _Text
    algorithm: _Text | None = None
    size: Size
    hosts: list[_Text] | None = Field(default=None, min_length=2)
    iterations: _Iterations | None = Field(default=None, description="Default: 1, in the background without an end.")
    warmup: int = Field(default=1, ge=0, le=1000)
    background: bool = False
    dscp: int | None = Field(default=None, ge=0, le=63)
    timeout: Duration | None = Field(default=None, description="A queue pair's, until it sends again.")


class LoadEntry(Strict):
    """Send raw packets from hosts to one, and measure what queues and pauses do meanwhile; needs a soft ASIC."""

    load: Name
    hosts: list[_Text] = Field(min_length=1)
    sink: _Text = Field(description="The host that receives.")
    rate: Rate = Field(description="Of each sender, on the wire.")
    lasts: Duration = Field(default=1.0, description="Measured for so long, once queues have filled.")
    dscp: int = Field(default=3, ge=0, le=63)


class ProbeEntry(Strict):
    """Probe flows around a link with numbered packets on schedule, from here on."""

    probe: Name
    around: _Text = Field(description="A link, as leaf1:spine1: some flows cross it, some do not.")
    pps: int = Field(default=PPS, ge=10, le=20_000, description="Packets a second of each flow.")


class FinishEntry(Strict):
    """Wait for the end of traffic of the background; what has no end of its own is told to end, a probe is ended."""

    finish: Name


class WhenEntry(Strict):
    """A condition to wait for."""

    wait: Literal[tuple(CONDITIONS)]  # type: ignore[valid-type]
    of: Name | None = None
    without: list[Name] | None = None
    iterations: _Iterations | None = None
    within: Duration = 10.0


class FaultEntry(Strict):
    """Inject a fault of the catalogue (`railbed fault list`)."""

    fault: _Text
    name: Name | None = Field(default=None, description="What other steps call it; default: the fault's own name.")
    target: _Text | None = Field(default=None, description="A link or a node; none for a fault of the whole lab.")
    from_: _Text | None = Field(default=None, alias="from", description="One direction of a link: what NODE sends.")
    params: dict[str, _Param] = Field(default={})
    at: Duration | None = Field(default=None, description="Not before so long after the first step.")
    when: WhenEntry | None = None
    for_: Duration | None = Field(default=None, alias="for", description="Default: until it is reverted, or the end.")


class RevertEntry(Strict):
    """Take a fault back."""

    revert: Name


class ClaimEntry(Strict):
    """Judge a claim at this place. `holds: false`: it is expected not to hold."""

    claim: Literal[tuple(CLAIMS)]  # type: ignore[valid-type]
    of: Name | None = None
    against: Name | None = None
    without: list[Name] | None = None
    within: Duration | _Share | None = Field(
        default=None, json_schema_extra={ALLOWED: f"{DURATION_RULE}; of a share: above 0, up to 1"}
    )
    least: _Share | None = None
    paused: float | None = Field(default=None, ge=0, le=1, json_schema_extra={ALLOWED: "a share from 0 to 1"})
    priority: int | None = Field(default=None, ge=0, le=7)
    worst: _Text | None = Field(default=None, description="The host whose rank makes the others wait.")
    share: _Share | None = None
    after: Duration | None = None
    before: Duration | None = None
    flows: int | Literal["all", "own", "far", "beside"] | None = Field(
        default=None, json_schema_extra={ALLOWED: "which flows: all, own, far or beside; of hash_…: how many, from 1"}
    )
    draws: int | None = Field(default=None, ge=1, le=100_000)
    protocol: Literal["bgp", "bfd"] | None = None
    holds: bool = True


Entry = TrafficEntry | LoadEntry | ProbeEntry | FinishEntry | WhenEntry | FaultEntry | RevertEntry | ClaimEntry
STEPS: Mapping[str, type[Strict]] = MappingProxyType(
    {
        "traffic": TrafficEntry,
        "load": LoadEntry,
        "probe": ProbeEntry,
        "finish": FinishEntry,
        "fault": FaultEntry,
        "revert": RevertEntry,
        "wait": WhenEntry,
        "claim": ClaimEntry,
    }
)
"""Which key makes a step what it is."""


class ScenarioFile(Strict):
    """A scenario file."""

    about: _Text = Field(description="What it shows, in a sentence.")
    lab: _Text = Field(
        json_schema_extra={ALLOWED: "a name in labs/catalog or topologies/catalog, or a path relative to this file"}
    )
    profile: str | None = Field(
        default=None, description="What the soft ASIC plays; default: what the lab's file says."
    )
    bgp: BgpEntry | None = Field(default=None, description="Instead of the lab file's.")
    rate: Rate | None = Field(default=None, description="Of every link, instead of the lab file's.")
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    lasts: Duration = Field(default=300.0, description="No step begins later.")
    steps: list[dict[str, Any]] = Field(
        min_length=1, max_length=200, json_schema_extra={ALLOWED: "a list of steps, each a mapping"}
    )
