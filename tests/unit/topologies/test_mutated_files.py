"""Whatever a file holds, reading it ends in a fabric or in one SpecError of one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labs.load import CATALOG as LABS
from labs.load import load_lab
from topologies.errors import SpecError
from topologies.load import CATALOG as FABRICS
from topologies.load import load_fabric

EXPLICIT = """
nodes:
  spine1: &s {tier: spine}
  leaf1: {tier: leaf, asn: 65001, pod: 1}
  host1: {tier: host, nics: {eth1: 1}}
links:
  - {endpoints: ["leaf1:eth1", "spine1:eth1"], rate: 10Gbit}
  - {endpoints: ["host1:eth1", "leaf1:eth2"]}
"""
LAB = """
fabric: {shape: rails, rails: 2, leaves: 4, hosts: 4}
kinds: {host: host, leaf: frr}
images: {frr: "quay.io/frrouting/frr:10.2.1", spine1: x}
bgp: {addressing: unnumbered, keepalive: 1, hold: 3, bfd: {interval_ms: 300, multiplier: 3}, graceful_restart: true}
hash: {all: {policy: 3, fields: [SRC_IP, DST_IP], seed: 7}, spine: {policy: 1}}
mtu: 9000
"""
# The largest fabric is left out: it is no different, only slower.
FILES = [
    path.read_bytes()
    for folder in (FABRICS, LABS)
    for path in sorted(folder.glob("*.yaml"))
    if path.stem != "clos_16x48"
] + [EXPLICIT.encode(), LAB.encode()]
TOKENS = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b"- ",
        b"\n",
        b"\t",
        b"'",
        b'"',
        b"&a ",
        b"*a",
        b"!!int ",
        b"? ",
        b"<<: ",
        b"|",
        b">",
    ),
    *(
        b"---\n",
        b"%TAG ! x\n",
        b"null",
        b"true",
        b"no",
        b"0",
        b"-1",
        b"5",
        b"1e9",
        b".nan",
        b"9" * 30,
        b"0x",
        b"~",
        b"#",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xe2\x80\xa8",
        b"\\U00110000",
        b"\\ud800",
        b"leaf1",
        b"host1:eth1",
        b"../",
        b";",
        b"  ",
    ),
    *(b"shape: ", b"nodes: ", b"links: ", b"fabric: ", b"clos_2x4", b"pair.yaml", b"bfd: false", b"all", b"1Gbit"),
]
SETTINGS = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["insert", "replace", "delete", "byte", "word", "line"])):
            case "insert":
                content = content[:at] + draw(st.sampled_from(TOKENS)) + content[at:]
            case "replace":
                content = content[:at] + draw(st.sampled_from(TOKENS)) + content[at + draw(st.integers(1, 9)) :]
            case "delete":
                content = content[:at] + content[at + draw(st.integers(1, 40)) :]
            case "byte":
                content = content[:at] + bytes([draw(st.integers(0, 255))]) + content[at + 1 :]
            case "word":  # a whole word becomes another token: most of these are still YAML
                spans = [word.span() for word in re.finditer(rb"[\w.]+", content)] or [(0, 0)]
                start, end = draw(st.sampled_from(spans))
                content = content[:start] + draw(st.sampled_from(TOKENS)) + content[end:]
            case _:
                lines = content.splitlines(keepends=True) or [b""]
                content = content + draw(st.sampled_from(lines))
    return content


@pytest.mark.parametrize("loader", [load_fabric, load_lab])
@SETTINGS
@given(content=mutated())
def test_loads_or_says_why_not(loader: Callable[[str], object], content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mutated.yaml"
    path.write_bytes(content)
    try:
        loader(str(path))
    except SpecError as error:
        refused = error
    else:
        return
    message = str(refused)
    assert message.startswith(str(tmp_path))
    assert message.isprintable()
    assert len(message) < 1500
    assert refused.allowed
