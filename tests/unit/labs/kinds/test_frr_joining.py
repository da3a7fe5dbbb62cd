"""An frr.conf told to daemons over their sockets: pretended ones, that know but a few words each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

import labs.kinds.frr.joining
from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import NotReady
from labs.kinds.frr.joining import CONF, JOINING, parse

KNOWN = {
    "zebra": ("hostname", "interface", " ip address", " description", "ip forwarding"),
    "staticd": ("hostname", "interface", "ip route"),
    "bgpd": ("hostname", "interface", "router bgp", " neighbor", " address-family", "  network", "  maximum-paths"),
}
LIKE_ALL = ("enable", "configure terminal", "exit", "end", "disable")
TEXT = """hostname leaf1
service integrated-vtysh-config
ip forwarding
!
interface eth1
 description spine1
 ip address 10.0.0.1/31
exit
!
ip route 10.9.0.0/24 10.0.0.0
router bgp 65001
 neighbor 10.0.0.0 remote-as 65000
 address-family ipv4 unicast
  network 10.1.0.0/24
  maximum-paths 8
 exit-address-family
exit
!
end
"""
NO_MATCH, WARNING, FAILED = 2, 1, 13


@dataclass
class Daemon:
    """One that notes what it is told; `says` overrides its answer's status to a line."""

    path: Path
    words: tuple[str, ...]
    says: Mapping[str, int | bytes] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    closes_after: int | None = None
    silent: bool = False

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with self.socket.accept()[0] as peer:
            rest = b""
            while chunk := peer.recv(512):
                *lines, rest = (rest + chunk).split(b"\0")
                for line in lines:
                    if self.closes_after == len(self.told):
                        return
                    self.told.append(line.decode())
                    if not self.silent:
                        peer.sendall(self._answer(self.told[-1]))

    def _answer(self, line: str) -> bytes:
        known = any(line.startswith(word.strip()) for word in (*self.words, *LIKE_ALL))
        status = self.says.get(line, 0 if known else NO_MATCH)
        if isinstance(status, bytes):
            return status + bytes(4)
        return (b"" if status == 0 else f"% {self.path.stem}: {status}".encode()) + b"\0\0\0" + bytes([status])

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:  # accept() does not end by itself
            last.connect(str(self.path))
        self.thread.join(10)
        self.socket.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def run(name: str, **how: object) -> Daemon:
        made.append(Daemon(tmp_path / f"{name}.vty", KNOWN.get(name, ()), **how))  # type: ignore[arg-type]
        return made[-1]

    yield run
    for one in made:
        one.close()


@dataclass(frozen=True)
class Reached(ScriptedChannel):
    folder: Path | None = None

    def unix_socket(self, path: PurePosixPath) -> Path | None:
        assert path == PurePosixPath("/run/frr")
        return self.folder


def refuse(argv: tuple[str, ...], _: str) -> CommandResult:
    pytest.fail(f"it ran {argv}")


def joined(folder: Path | None, text: str = TEXT) -> bool:
    return JOINING.join(Reached("leaf1", refuse, folder=folder), {CONF: text})


def config(daemon: Daemon) -> list[str]:
    """What it was told between vtysh's own first and last words."""
    assert daemon.told[:3] == ["enable", "configure terminal", "XFRR_start_configuration"]
    assert daemon.told[-3:] == ["XFRR_end_configuration", "end", "disable"]
    return daemon.told[3:-3]


def test_each_line_goes_to_who_knows_it(running: Callable[..., Daemon], tmp_path: Path) -> None:
    """And of a section whose first line a daemon does not know it is told nothing more."""
    zebra, staticd, bgpd = running("zebra"), running("staticd"), running("bgpd")
    assert joined(tmp_path)
    interface = ["interface eth1", "description spine1", "ip address 10.0.0.1/31", "exit"]
    route, head = "ip route 10.9.0.0/24 10.0.0.0", ["hostname leaf1", "ip forwarding"]
    assert config(zebra) == [*head, *interface, route, "router bgp 65001"]
    assert config(staticd) == config(zebra)
    family = ["address-family ipv4 unicast", "network 10.1.0.0/24", "maximum-paths 8", "exit-address-family"]
    bgp = ["router bgp 65001", "neighbor 10.0.0.0 remote-as 65000", *family, "exit"]
    assert config(bgpd) == [*head, *interface, route, *bgp]


def test_a_line_that_nobody_knows_is_named(running: Callable[..., Daemon], tmp_path: Path) -> None:
    running("zebra")
    running("bgpd")
    with pytest.raises(NotReady, match=r"frr.conf, line 10: none of zebra, bgpd knows 'ip route 10.9.0.0/24 10.0.0.0'"):
        joined(tmp_path)


@pytest.mark.parametrize(
    ("daemon", "line", "said"),
    [
        ("bgpd", "neighbor 10.0.0.0 remote-as 65000", "bgpd refuses frr.conf, line 12, 'neighbor .*': % bgpd: 13"),
        ("zebra", "ip address 10.0.0.1/31", "zebra refuses frr.conf, line 7, 'ip address .*': % zebra: 13"),
        ("staticd", "hostname leaf1", "staticd refuses frr.conf, line 1, 'hostname leaf1': % staticd: 13"),
        ("bgpd", "router bgp 65001", "bgpd refuses frr.conf, line 11, 'router bgp 65001': % bgpd: 13"),
        ("bgpd", "exit-address-family", "bgpd refuses the end of 'address-family ipv4 unicast'.*: % bgpd: 13"),
        ("zebra", "configure terminal", "zebra refuses configure terminal: % zebra: 13"),
        ("staticd", "XFRR_end_configuration", "staticd refuses XFRR_end_configuration: % staticd: 13"),
    ],
)
def test_what_one_refuses_fails_whoever_else_took_it(
    running: Callable[..., Daemon], tmp_path: Path, daemon: str, line: str, said: str
) -> None:
    """By that daemon's own words."""
    for name in KNOWN:
        running(name, says={line: FAILED} if name == daemon else {})
    with pytest.raises(NotReady, match=said):
        joined(tmp_path)


def test_a_commit_that_fails_later_is_none(running: Callable[..., Daemon], tmp_path: Path) -> None:
    running("zebra")
    running("staticd", says={"XFRR_end_configuration": b"% Configuration failed.\n\nno such next hop"})
    with pytest.raises(NotReady, match=r"staticd refuses XFRR_end_configuration: % Configuration failed"):
        joined(tmp_path)


def test_a_warning_is_no_failure(running: Callable[..., Daemon], tmp_path: Path) -> None:
    for name in KNOWN:
        running(name, says={"maximum-paths 8": WARNING} if name == "bgpd" else {})
    assert joined(tmp_path)


def test_of_a_section_that_nobody_knows_the_first_line_is_named(running: Callable[..., Daemon], tmp_path: Path) -> None:
    running("zebra")
    running("staticd")
    with pytest.raises(NotReady, match="line 11: none of zebra, staticd knows 'router bgp 65001'"):
        joined(tmp_path)


def test_one_that_says_nothing_is_waited_for_so_long(
    running: Callable[..., Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labs.kinds.frr.joining, "JOINED_WITHIN", 0.05)
    running("zebra", silent=True)
    with pytest.raises(NotReady, match=r"zebra takes no configuration within 0.05 s: "):
        joined(tmp_path)


def test_a_daemon_that_ends_is_named(running: Callable[..., Daemon], tmp_path: Path) -> None:
    running("zebra", closes_after=6)
    with pytest.raises(
        NotReady, match="zebra takes no configuration within 60 s: closed its socket in the middle of an answer"
    ):
        joined(tmp_path)


@pytest.mark.parametrize("other", ["mgmtd", "bfdd", "ospfd"])
def test_what_is_vtyshs_is_left_to_it(running: Callable[..., Daemon], tmp_path: Path, other: str) -> None:
    daemons = [running(name) for name in ("zebra", "bgpd", other)]
    assert not joined(tmp_path)
    assert [daemon.told for daemon in daemons] == [[], [], []]


def test_so_is_a_node_without_daemons_or_out_of_reach(tmp_path: Path) -> None:
    assert not joined(tmp_path)
    assert not joined(None)


def test_sections_stand_in_sections() -> None:
    """An empty one ends too, and what has none is a line."""
    lines = parse("bfd\n profile a\n  detect-multiplier 3\n exit\nexit\ninterface lo\nexit\nip forwarding\n")
    assert [(line.text, line.end) for line in lines] == [
        ("bfd", "exit"),
        ("interface lo", "exit"),
        ("ip forwarding", ""),
    ]
    (profile,) = lines[0].inside
    assert (profile.text, profile.end, [line.number for line in profile.inside]) == ("profile a", "exit", [3])
