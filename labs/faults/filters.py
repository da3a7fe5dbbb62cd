"""What a port drops where no soft ASIC is: classic BPF for ``tc filter … bpf da bytecode``, which every kernel takes.

It imitates losses and blackholes on the wire into the port, at tc's ingress hook. It keeps no state, so that it cannot
count to n, and it cannot change a frame. Each program holds for one conjunction; several stand one behind the other.

By hand: tc qdisc add dev eth1 clsact
         tc filter add dev eth1 ingress protocol all prio 48000 bpf da bytecode "1,6 0 0 2"
         tc filter del dev eth1 ingress prio 48000; tc qdisc del dev eth1 clsact
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from labs.dataplane.abi import Match
from labs.dataplane.wires import Impairment

# Instructions of linux/filter.h.
LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
LOAD_HALF_BEHIND_HEADER, HEADER_LENGTH = 0x48, 0xB1  # of x = 4 * (byte & 15)
EQUAL, ANY_BIT, AT_LEAST, RETURN = 0x15, 0x45, 0x35, 0x06
RANDOM = 0xFFFFF000 + 56  # an ancillary "offset": a random word
DRAWS = 2**32  # as many random words there are
DROP, GO_ON = 2, 0xFFFFFFFF  # TC_ACT_SHOT, TC_ACT_UNSPEC
ETHERTYPE, IPV4, IPV6 = 12, 0x0800, 0x86DD
V4_FRAGMENT, V4_PROTOCOL, V4_SOURCE, V4_DESTINATION, V4 = 20, 23, 26, 30, 14
V6_PROTOCOL, V6_PORTS = 20, 54
TCP, UDP, BGP, BFD = 6, 17, 179, (3784, 3785)

Instruction = tuple[int, int, int]
"""Code, operand, and what it is: 0 nothing to decide, 1 go on only where it holds, -1 only where it does not."""


def programs(wrong: Impairment) -> tuple[str, ...]:
    """The bytecode for blackholes, control traffic and random losses, as tc takes it; nothing for the rest of it."""
    found = []
    if wrong.blackhole is not None:
        found += _blackholes(wrong.blackhole)
    if wrong.control & Match.BGP:
        found += [_ports(TCP, at, BGP, v6=v6) for v6 in (False, True) for at in (0, 2)]
    if wrong.control & Match.BFD:
        found += [_ports(UDP, 2, port, v6=v6) for v6 in (False, True) for port in BFD]
    lost = round(wrong.lose * DRAWS)
    if lost >= DRAWS:  # a chance this near to 1 is no number of 32 bits
        found.append([])
    elif lost:
        found.append([(LOAD_WORD, RANDOM, 0), (AT_LEAST, lost, -1)])
    return tuple(_text(one) for one in found)


def _blackholes(flow: Mapping[str, str | int]) -> list[list[Instruction]]:
    """A five-tuple is IPv4's; ports are those of TCP or UDP, whichever is not named too."""
    if not flow:
        return [[]]
    code: list[Instruction] = [(LOAD_HALF, ETHERTYPE, 0), (EQUAL, IPV4, 1)]
    for name, at in (("src", V4_SOURCE), ("dst", V4_DESTINATION)):
        if name in flow:
            code += [(LOAD_WORD, at, 0), (EQUAL, int(IPv4Address(str(flow[name]))), 1)]
    ports = [(name, at) for name, at in (("sport", 0), ("dport", 2)) if name in flow]
    behind: list[Instruction] = [(LOAD_HALF, V4_FRAGMENT, 0), (ANY_BIT, 0x1FFF, -1), (HEADER_LENGTH, V4, 0)]
    for name, at in ports:
        behind += [(LOAD_HALF_BEHIND_HEADER, V4 + at, 0), (EQUAL, int(flow[name]), 1)]
    if "protocol" in flow:
        protocols = [int(flow["protocol"])]
    elif ports:
        protocols = [TCP, UDP]
    else:
        return [code]
    rest = behind if ports else []
    return [[*code, (LOAD_BYTE, V4_PROTOCOL, 0), (EQUAL, one, 1), *rest] for one in protocols]


def _ports(protocol: int, at: int, port: int, *, v6: bool) -> list[Instruction]:
    if v6:
        found = [(LOAD_HALF, ETHERTYPE, 0), (EQUAL, IPV6, 1), (LOAD_BYTE, V6_PROTOCOL, 0), (EQUAL, protocol, 1)]
        return [*found, (LOAD_HALF, V6_PORTS + at, 0), (EQUAL, port, 1)]
    found = [(LOAD_HALF, ETHERTYPE, 0), (EQUAL, IPV4, 1), (LOAD_BYTE, V4_PROTOCOL, 0), (EQUAL, protocol, 1)]
    return [*found, (HEADER_LENGTH, V4, 0), (LOAD_HALF_BEHIND_HEADER, V4 + at, 0), (EQUAL, port, 1)]


def _text(code: Sequence[Instruction]) -> str:
    """The program that drops what all of this holds for."""
    last = len(code) + 1  # where it says: go on
    lines = []
    for here, (operation, operand, wanted) in enumerate(code):
        away = last - here - 1
        holds, fails = {0: (0, 0), 1: (0, away), -1: (away, 0)}[wanted]
        lines.append(f"{operation} {holds} {fails} {operand}")
    lines += [f"{RETURN} 0 0 {DROP}", f"{RETURN} 0 0 {GO_ON}"]
    return ",".join([str(len(lines)), *lines])
