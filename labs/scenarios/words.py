"""The words of scenario files: which conditions can be waited for, which claims judged, and what each has to be told.

Pure: what they do on a lab stands under the same names in conditions.py and claims.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class About(StrEnum):
    """What `of:` names."""

    NOTHING = "nothing"
    RUNNING = "traffic that runs"
    ENDED = "traffic that has ended"
    LOAD = "load that was put on hosts"
    FAULT = "a fault that was injected"


# Keys whose numbers have no unit, whatever claim they are of.
PLAIN = frozenset({"least", "share", "paused", "priority", "flows", "draws"})


@dataclass(frozen=True, slots=True)
class Word:
    """A condition or a claim: what it is about, and which further keys it takes (those in `must` always).

    `against` says that it compares with a second one of the same sort, `soft_asic` that one has to be there. `numbers`
    are keys with their defaults, None for one that has to be given: times, but for those that are `plain`. `choices`
    are keys that take one of these words, the first where none is said; `texts` are keys that take any.
    `probed`: a probe has to have run when the fault came and when it went. `over`: the fault has to be gone.
    """

    says: str
    about: About = About.NOTHING
    without: bool = False
    against: bool = False
    soft_asic: bool = False
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    plain: frozenset[str] = PLAIN
    probed: bool = False
    over: bool = False

    @property
    def must(self) -> tuple[str, ...]:
        """The keys that have to stand there."""
        named = ["of"] if self.about is not About.NOTHING else []
        named += ["against"] if self.against else []
        return (*named, *(key for key, default in self.numbers.items() if default is None))

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that may stand there."""
        optional = [key for key, default in self.numbers.items() if default is not None]
        return (*self.must, *optional, *self.choices, *self.texts, *(["without"] if self.without else []))

    def is_time(self, key: str) -> bool:
        """Whether a key takes a time, with its unit."""
        return key in self.numbers and key not in self.plain


CONDITIONS: Mapping[str, Word] = MappingProxyType(
    {
        "routes_match": Word("every switch forwards as designed, but for the links of `without`", without=True),
        "converged": Word("routes match, every host reaches every other, every session is up"),
        "sessions_up": Word("every BGP session is established"),
        "sessions_down": Word("at least one BGP session is not established"),
        "progress": Word("every rank of the traffic has done `iterations` more", About.RUNNING),
        "reverted": Word("the fault is gone: its time is over", About.FAULT),
        "drained": Word("nothing goes through the drained switch that has another way", About.FAULT),
        "restart_ready": Word("every bgpd is so old that it does not call itself restarted any more: 120 s"),
        "time": Word("so many seconds have passed: `within`"),
    }
)

CLAIMS: Mapping[str, Word] = MappingProxyType(
    {
        "routes_match": Word(
            "within so many seconds every switch forwards as designed, but for the links of `without`",
            without=True,
            numbers=MappingProxyType({"within": 10.0}),
        ),
        "converged": Word(
            "within so many seconds all forwards as designed, hosts reach each other, sessions are up",
            numbers=MappingProxyType({"within": 30.0}),
        ),
        "completed": Word("every rank came to its end, and every element is right", About.ENDED),
        "busbw_reached": Word(
            "bus bandwidth is at least `least` of line rate × wire efficiency",
            About.ENDED,
            numbers=MappingProxyType({"least": 0.90}),
        ),
        "busbw_scaled": Word(
            "bus bandwidth is `share` of that of `against`, give or take `within`",
            About.ENDED,
            against=True,
            numbers=MappingProxyType({"share": None, "within": 0.05}),
            plain=PLAIN | {"within"},
        ),
        "bytes_as_planned": Word(
            "every switch port sent the bytes that the plan says, give or take `within`",
            About.ENDED,
            soft_asic=True,
            numbers=MappingProxyType({"within": 0.005}),
            plain=PLAIN | {"within"},
        ),
        "nothing_lost": Word("no packet of the traffic was lost", About.ENDED),
        "stragglers": Word(
            "no rank makes the others wait; with `worst`: the one on that host does",
            About.ENDED,
            texts=("worst",),
        ),
        "lossless": Word("no packet of a lossless class was lost", About.LOAD, soft_asic=True),
        "pause_share": Word(
            "the port to the receiver was `paused` so much of the time, give or take `within`",
            About.LOAD,
            soft_asic=True,
            numbers=MappingProxyType({"paused": None, "within": 0.03, "priority": 3}),
            plain=PLAIN | {"within"},
        ),
        "marks_before_pauses": Word("as queues filled, marks came before pauses", About.LOAD, soft_asic=True),
        "no_storms": Word(
            "no PFC watchdog took a queue for one in a storm",
            About.LOAD,
            soft_asic=True,
            numbers=MappingProxyType({"priority": 3}),
        ),
        "storm_spread": Word(
            "pauses of the receiver went no further than the paths to it, in their priority alone",
            About.LOAD,
            soft_asic=True,
            numbers=MappingProxyType({"priority": 3}),
        ),
        "recovered": Word(
            "no flow of `flows` was out longer than `within` at the fault or at its end",
            About.FAULT,
            numbers=MappingProxyType({"within": None}),
            choices=MappingProxyType({"flows": ("all", "own", "far", "beside")}),
            probed=True,
        ),
        "came_back": Word(
            "`within` after the fault's end every probed flow is on its designed path again",
            About.FAULT,
            numbers=MappingProxyType({"within": None}),
            probed=True,
            over=True,
        ),
        "no_loss": Word("no probed flow lost a packet to the fault or its end", About.FAULT, probed=True),
        "detected": Word(
            "`protocol` says `after` to `before` after the fault that a session is down",
            About.FAULT,
            numbers=MappingProxyType({"after": None, "before": None}),
            choices=MappingProxyType({"protocol": ("bgp", "bfd")}),
        ),
        "cabled_as_planned": Word("LLDP finds every cable where the design has it, those of hosts as well"),
        "hash_busiest": Word(
            "V4: a leaf's busiest uplink carries what chance gives it, over `draws` sets of `flows` queue pairs",
            numbers=MappingProxyType({"flows": 1000, "draws": 1}),
        ),
        "hash_busiest_model": Word("V4 of the hash engine's model: 1000 queue pairs, 16 paths, 100 seeds"),
        "hash_collisions": Word(
            "V6: `flows` flows take an uplink each as often as chance has it, over `draws` draws",
            numbers=MappingProxyType({"flows": 4, "draws": 400}),
        ),
        "hash_collisions_model": Word("V6 of the hash engine's model: 4 flows, 4 paths, 400 draws"),
    }
)
