"""IMAGE-1: a switch image of one's own is played as asked for, and one that starts more slowly is found to.

The slower image is the one that ships, with a second of delay before its zebra starts: `pair` has one switch, so that
second is one of deploying. 8 rounds at 95 %, as in tests/netns/test_compare.py.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs import engine
from labs.compare import compare, make_plan
from labs.lab import Lab, open_lab
from labs.pytest_plugin import unique_name
from labs.request import Request

SHIPPED = "railbed/frr"
SLOWER = """\
mv /usr/lib/frr/zebra /usr/lib/frr/zebra.real
printf '#!/bin/sh\\nsleep 1\\nexec /usr/lib/frr/zebra.real "$@"\\n' >/usr/lib/frr/zebra
chmod 755 /usr/lib/frr/zebra
"""
ROUNDS, CONFIDENCE = 8, 0.95


def docker(*argv: str) -> str:
    """What a docker command prints."""
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True, timeout=120).stdout.strip()


@pytest.fixture(scope="module")
def slower() -> Iterator[str]:
    """An image whose zebra starts a second late."""
    name = f"railbed-test/frr:slower-{secrets.token_hex(3)}"
    container = docker("run", "-d", "--entrypoint", "sleep", SHIPPED, "600")
    try:
        docker("exec", container, "sh", "-e", "-c", SLOWER)
        docker("commit", container, name)
    finally:
        docker("rm", "-f", container)
    yield name
    docker("rmi", name)


def played(lab: Lab) -> dict[str, str]:
    """The image that each node's container was made of."""
    listed = engine.containers({"railbed-lab": lab.name})
    return {one.labels["clab-node-name"]: one.image for one in listed}


def recorded(name: str, images: dict[str, str]) -> dict[str, str]:
    """Bring `pair` up once with these images, in the current folder, and take it down; what was played."""
    lab = open_lab(Request("pair", backend="containerlab", name=name, images=images, owned=True)).lab
    try:
        return played(lab)
    finally:
        lab.close()


def test_an_image_for_a_kind_and_for_a_node(slower: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's own image goes before that of its kind."""
    monkeypatch.chdir(tmp_path)
    images = recorded(unique_name("own"), {"frr": slower, "host2": SHIPPED})
    assert images == {"leaf1": slower, "host1": "railbed/host", "host2": SHIPPED}


@pytest.mark.nightly
def test_a_slower_image_is_found(slower: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploying is called slower, by something near the second; what differs is said to be the image."""
    monkeypatch.chdir(tmp_path)
    recorded("own-old", {})
    recorded("own-new", {"frr": slower})
    plan = make_plan("own-old", "own-new", rounds=ROUNDS, confidence=CONFIDENCE)
    assert any(slower in str(difference) for difference in plan.differs)
    verdicts = {verdict.claim.split()[0].rstrip(":"): verdict for verdict in compare(plan).verdicts}
    verdict = verdicts["deploy_s"]
    assert not verdict
    numbers = verdict.evidence.numbers
    assert 0.5 < float(str(numbers["b_median_s"])) - float(str(numbers["a_median_s"])) < 2.0
