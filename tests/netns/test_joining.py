"""A switch that was configured over its daemons' sockets runs what vtysh would have given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pytest

import labs.backends.netns
from labs.channel import Channel
from labs.errors import CapabilityMissing, DeployFailed
from labs.kinds.frr.joining import CONF, JOINING
from labs.lab import open_lab
from labs.pytest_plugin import unique_name
from labs.request import Request

# Without BFD, which is left to vtysh; by what is in the configuration of every leaf.
LABS = {
    "fabric: clos_2x4": "router bgp",
    "fabric: clos_2x4\nbgp: {addressing: unnumbered}": "no ipv6 nd suppress-ra",
    "fabric: clos_2x4\nbgp: {graceful_restart: true}\nipv6: false": "bgp graceful-restart",
    "fabric: dual_plane_2x2x4": "ip route",
}


@pytest.fixture(autouse=True)
def without_mgmtd() -> None:
    if Path("/usr/lib/frr/mgmtd").exists():
        raise CapabilityMissing("joining", "FRR here takes its configuration from vtysh alone")


@pytest.fixture
def running(tmp_path: Path) -> Callable[[str], Mapping[str, str]]:
    """The configuration that each switch of a lab runs, once it has converged; it goes again."""

    def configurations(text: str) -> Mapping[str, str]:
        file = tmp_path / "wanted.yaml"
        file.write_text(f"{text}\n")
        request = Request(str(file), backend="netns", name=unique_name("joins"), seed=7, folder=tmp_path, owned=True)
        lab = open_lab(request).lab
        try:
            assert lab.converged
            nodes = [lab.node(node.name) for node in lab.fabric.switches]
            return {node.name: node.channel.run("vtysh", "-c", "show running-config").stdout for node in nodes}
        finally:
            lab.close()

    return configurations


@pytest.mark.parametrize(("wanted", "has"), LABS.items())
def test_it_runs_what_vtysh_would_have_given_it(
    running: Callable[[str], Mapping[str, str]], monkeypatch: pytest.MonkeyPatch, wanted: str, has: str
) -> None:
    ways: list[bool] = []

    class Watched:
        def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
            ways.append(JOINING.join(channel, files))
            return ways[-1]

    monkeypatch.setattr(labs.backends.netns, "joining", lambda kind: Watched() if kind == "frr" else None)
    over_sockets = running(wanted)
    assert ways == [True] * len(over_sockets)
    monkeypatch.setattr(labs.backends.netns, "joining", lambda _: None)
    by_vtysh = running(wanted)
    assert over_sockets == by_vtysh
    assert all(has in text for name, text in by_vtysh.items() if name.startswith("leaf"))


def test_a_line_that_is_refused_ends_the_deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Spoilt:
        def join(self, channel: Channel, files: Mapping[PurePosixPath, str]) -> bool:
            return JOINING.join(channel, {CONF: files[CONF].replace("router bgp", "ruoter bgp")})

    monkeypatch.setattr(labs.backends.netns, "joining", lambda kind: Spoilt() if kind == "frr" else None)
    name = unique_name("spoilt")
    with pytest.raises(DeployFailed, match=r"spine1: frr.conf, line \d+: none of zebra, bgpd knows 'ruoter bgp"):
        open_lab(Request("clos_2x4", backend="netns", name=name, folder=tmp_path, owned=True))
    assert not [path for path in Path("/run/netns").iterdir() if f".{name}." in path.name]
