"""What the kernel forwards by, in both families of one question: the script itself is run, on an `ip` of ours."""

from __future__ import annotations

import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from labs.channel import CommandResult
from labs.channels.scripted import ScriptedChannel
from labs.errors import CommandFailed
from labs.kinds.linux_routes import kernel_routes
from labs.node import LiveNode
from topologies.load import load_fabric

FABRIC = load_fabric("clos_2x4")
HOPS = '[{"dst": "%s", "nexthops": [{"dev": "eth1", "flags": []}, {"dev": "eth2", "flags": ["linkdown"]}]}]'


def leaf(folder: Path, **families: str) -> LiveNode:
    """A switch whose `ip` does as `families` say, v4 and v6: shell lines."""
    program = folder / "ip"
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "$1 -j route show proto 186" ] || exit 9\n'
        f"case $1 in -4) {families['v4']};; -6) {families['v6']};; esac\n"
    )
    program.chmod(0o755)

    def answer(argv: tuple[str, ...], stdin: str) -> CommandResult:
        path = {"PATH": f"{folder}:/usr/bin:/bin"}
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=path, check=False)
        return CommandResult(argv, done.returncode, done.stdout, done.stderr)

    node = FABRIC.node("leaf1")
    return LiveNode(node, "frr", FABRIC.ports(node), ScriptedChannel("leaf1", answer))


def says(text: str) -> str:
    return f"echo '{text}'"


def test_both_families_of_one_question(tmp_path: Path) -> None:
    node = leaf(tmp_path, v4=says(HOPS % "default"), v6=says(HOPS % "fd00::/64"))
    eth1 = frozenset({"eth1"})
    found = kernel_routes(node, protocol="186").routes
    assert found == {ip_network("0.0.0.0/0"): eth1, ip_network("fd00::/64"): eth1}


def test_a_family_without_routes_is_not_taken_for_the_other(tmp_path: Path) -> None:
    node = leaf(tmp_path, v4="true", v6=says(HOPS % "default"))
    assert list(kernel_routes(node, protocol="186").routes) == [ip_network("::/0")]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_an_ip_that_fails_is_no_empty_table(tmp_path: Path, family: str) -> None:
    words = {"v4": says("[ ]"), "v6": says("[ ]")} | {family: "echo Dump terminated >&2; exit 2"}
    with pytest.raises(CommandFailed, match="exited 2: Dump terminated"):
        kernel_routes(leaf(tmp_path, **words), protocol="186")
