"""What can be wrong on the wire into a port, and how asicd is told."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labs.dataplane import abi
from topologies.errors import SpecError

# The settings of struct impairment; the rest of it are counts.
WIRE_WORDS = ("lose", "corrupt", "bad_fcs", "every", "match", "saddr", "daddr", "sport", "dport", "protocol")


@dataclass(frozen=True, slots=True)
class Impairment:
    """What goes wrong on the wire into a port. Probabilities 0 to 1.

    `every` drops each n-th frame. `blackhole` drops IPv4 packets whose five-tuple has these values (``src``, ``dst``,
    ``sport``, ``dport``, ``protocol``), or everything when it is empty; None is none. `control` drops what keeps
    sessions and nothing else, IPv4 and IPv6: ``Match.BGP``, ``Match.BFD`` or both.
    """

    lose: float = 0.0
    corrupt: float = 0.0
    bad_fcs: float = 0.0
    every: int = 0
    blackhole: Mapping[str, str | int] | None = None
    control: int = 0


def wire_words(wrong: Impairment) -> Mapping[str, int]:
    """An impairment in asicd's words. Raises SpecError for a chance that is none, or a field that is not matched."""
    chances = {name: _fraction(name, getattr(wrong, name)) for name in ("lose", "corrupt", "bad_fcs")}
    found = {**chances, "every": wrong.every, **_match(wrong.blackhole)}
    return {**found, "match": found["match"] | int(wrong.control)}


def _fraction(name: str, chance: float) -> int:
    if not 0 <= chance <= 1:
        raise SpecError(f"{name} {chance}", allowed="a probability, 0 to 1")
    return round(chance * 2**32)


def _address(text: str | int) -> int:
    return int.from_bytes(socket.inet_aton(str(text)), "little")


_FIELDS: Mapping[str, tuple[str, abi.Match, Callable[[str | int], int]]] = {
    "src": ("saddr", abi.Match.SADDR, _address),
    "dst": ("daddr", abi.Match.DADDR, _address),
    "sport": ("sport", abi.Match.SPORT, lambda value: socket.htons(int(value))),
    "dport": ("dport", abi.Match.DPORT, lambda value: socket.htons(int(value))),
    "protocol": ("protocol", abi.Match.PROTOCOL, int),
}


def _match(flow: Mapping[str, str | int] | None) -> Mapping[str, int]:
    """A blackhole's five-tuple as asicd takes it: network byte order, as a little-endian program reads it."""
    found = {"saddr": 0, "daddr": 0, "sport": 0, "dport": 0, "protocol": 0}
    if flow is None:
        return {"match": 0, **found}
    if unknown := set(flow) - set(_FIELDS):
        raise SpecError(f"blackhole by {min(unknown)}", allowed=", ".join(_FIELDS))
    bits = 0 if flow else int(abi.Match.ALL)
    for name, value in flow.items():
        field, bit, encoded = _FIELDS[name]
        found[field] = encoded(value)
        bits |= int(bit)
    return {"match": bits, **found}
