"""CLAB-1: what is rendered is a containerlab topology: valid by its schema, deployed by it as it is."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from labs import containerlab, engine
from labs.load import catalog
from labs.render import clab_text
from labs.request import Request, render_request
from labs.testing import wait_until

ENVIRONMENT = {**os.environ, "CLAB_VERSION_CHECK": "disable"}


def validate(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask containerlab what it thinks of a topology."""
    file = folder / "lab.clab.yml"
    file.write_text(text)
    for node in yaml.safe_load(text)["topology"]["nodes"]:
        (folder / node).mkdir()  # what the binds name has to be there
    argv = (str(containerlab.find().path), "validate", "--topo", str(file))
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=ENVIRONMENT)


@pytest.mark.parametrize("ref", [*catalog(), "clos_2x4", "pair"])
def test_a_rendered_topology_is_valid(ref: str, tmp_path: Path) -> None:
    said = validate(clab_text(render_request(Request(ref, seed=1))), tmp_path)
    assert said.returncode == 0, said.stderr


def test_a_key_that_containerlab_does_not_know_is_found(tmp_path: Path) -> None:
    """The control."""
    topology = yaml.safe_load(clab_text(render_request(Request("pair", seed=1))))
    topology["topology"]["nodes"]["leaf1"]["privilege"] = False
    said = validate(yaml.safe_dump(topology), tmp_path)
    assert said.returncode != 0
    assert "privilege" in said.stderr


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[str]:
    """`railbed render`, then plain `containerlab deploy` in that folder; the lab's name."""
    name = f"hand-{secrets.token_hex(3)}"
    lab = render_request(Request("pair", name=name, seed=1))
    for path, text in lab.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / f"{name}.clab.yml").write_text(clab_text(lab))
    call = (str(containerlab.find().path), "--topo", f"{name}.clab.yml")
    try:
        subprocess.run([*call, "deploy"], cwd=tmp_path, check=True, env=ENVIRONMENT, timeout=120, capture_output=True)
        yield name
    finally:
        subprocess.run([*call, "destroy", "--cleanup"], cwd=tmp_path, check=True, env=ENVIRONMENT, capture_output=True)


def test_a_rendered_folder_is_deployed_by_containerlab_alone(by_hand: str) -> None:
    """Its hosts reach each other, without railbed; nobody has all capabilities."""
    ping = ("docker", "exec", f"clab-{by_hand}-host1", "ping", "-c", "1", "-W", "1", "10.64.8.5")
    answers = wait_until(
        "host1 reaches host2",
        lambda: subprocess.run(ping, capture_output=True, check=False).returncode,
        lambda status: status == 0,
        within=30.0,
    )
    assert answers.held, answers
    for one in engine.containers({"containerlab": by_hand}):
        inspected = engine.client(engine.address()).api.inspect_container(one.id)["HostConfig"]
        assert inspected["Privileged"] is False
        assert set(inspected["CapAdd"]) <= {
            "CAP_NET_ADMIN",
            "CAP_NET_RAW",
            "CAP_SYS_ADMIN",
            "NET_ADMIN",
            "NET_RAW",
            "SYS_ADMIN",
        }


def test_such_a_lab_can_be_adopted(by_hand: str, tmp_path: Path) -> None:
    """It is nobody's leftover: railbed takes it for one of its own until `down`, and leaves it running."""
    railbed = str(Path(sys.executable).with_name("railbed"))
    env = {**os.environ, "RAILBED_STATE_DIR": str(tmp_path / "state")}
    for argv in (("adopt", by_hand), ("status", by_hand), ("down", by_hand)):
        done = subprocess.run([railbed, *argv], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert {one.state for one in engine.containers({"containerlab": by_hand})} == {"running"}
