"""The command line on the fake backend: exit codes, JSON, dry runs, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
import jsonschema
import pytest
import yaml

from labs import index, views
from labs.backends.fake import FakeBackend
from labs.cli import commands, run
from labs.cli_groups import LAZY
from labs.journal import Change, Journal
from labs.lab import Lab
from labs.load import CATALOG as LABS
from labs.path import Path as FlowPath
from topologies.load import CATALOG as FABRICS
from traffic.flows import FiveTuple

Break = Callable[..., None]
Capture = pytest.CaptureFixture[str]
UP = ("up", "clos_frr", "--backend", "fake")
RAILBED = str(Path(sys.executable).with_name("railbed"))


def up(*more: str) -> None:
    assert run([*UP, "--seed", "1", *more]) == 0


def answer(capsys: Capture, *argv: str, code: int = 0) -> Any:
    """What a command says as JSON, which is all it says on stdout."""
    capsys.readouterr()
    assert run([*argv, "--format", "json"]) == code
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1
    return said


def refused(capsys: Capture, *argv: str) -> str:
    """The message of a command that is refused: exit 2, nothing on stdout, no traceback."""
    capsys.readouterr()
    assert run(list(argv)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return said.err


def everything(folder: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


# Exit codes.


def test_0_converged(capsys: Capture) -> None:
    assert run(list(UP)) == 0
    assert "clos-frr: ready" in capsys.readouterr().err
    assert run(["status"]) == 0


def test_1_degraded(broken: Break, capsys: Capture) -> None:
    up()
    broken(links_down=["leaf1:spine1"])
    assert run(["status"]) == 1
    assert "link leaf1:spine1: down" in capsys.readouterr().err
    broken()
    assert run(["status"]) == 0


def test_1_up_but_not_converged(broken: Break, capsys: Capture) -> None:
    broken(links_down=["leaf1:spine1"])
    assert run(list(UP)) == 1
    assert "converged within 0.2 s: FALSE" in capsys.readouterr().err
    assert index.read("clos-frr").stage is index.Stage.UP


def test_2_node_that_does_not_answer(broken: Break, capsys: Capture) -> None:
    broken(silent=["leaf2"])
    assert "leaf2: zebra, bgpd does not answer" in refused(capsys, *UP)
    assert index.names() == ()


def test_2_boot_failure(broken: Break, capsys: Capture) -> None:
    broken(boot_fails="leaf1")
    assert "leaf1: /run/railbed/boot exited 1" in refused(capsys, *UP)
    assert index.names() == ()


@pytest.mark.usefixtures("starved")
def test_3_workstation_starved(capsys: Capture) -> None:
    assert run([*UP, "--format", "json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["lab"] == "clos-frr"
    assert "INVALID (the workstation was starved" in said.err
    assert index.read("clos-frr").stage is index.Stage.UP  # what was said to be up is up


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_130_interrupted_while_building(monkeypatch: pytest.MonkeyPatch, capsys: Capture, how: str) -> None:
    def deploy(self: FakeBackend, lab: object, run_dir: Path, journal: Journal, progress: object) -> NoReturn:
        del self, lab, run_dir, progress
        journal.will(Change("process", {"token": "begun"}))
        assert index.names() == ("clos-frr",)
        if how == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeBackend, "deploy", deploy)
    assert run(list(UP)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert index.names() == ()
    assert not index.state_dir().exists()


def test_exec_gives_the_commands_own_status() -> None:
    up()
    done = subprocess.run([RAILBED, "exec", "leaf1", "--", "ip", "route"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "leaf1: ip route\n")


def test_command_in_a_process_of_its_own(broken: Break) -> None:
    done = subprocess.run([RAILBED, *UP, "--format", "json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["state"] == "ready"
    broken(links_down=["leaf1:spine1"])
    assert subprocess.run([RAILBED, "status"], capture_output=True, check=False).returncode == 1
    done = subprocess.run([RAILBED, "status", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("railbed: no lab 'nothing' is running (running: clos-frr)")


# JSON.

LAB_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "schema": int,
    "lab": str,
    "backend": str,
    "state": str,
    "nodes": list,
    "links": list,
    "bgp": dict,
    "timings": dict,
    "capabilities": dict,
}


def check_status(said: Mapping[str, Any]) -> None:
    for key, kind in LAB_FIELDS.items():
        assert isinstance(said[key], kind), key
    assert said["state"] in {"starting", "ready", "degraded", "down"}
    for node in said["nodes"]:
        assert {"name", "kind", "tier", "state", "loopback", "asn"} <= set(node)
        assert node["state"] in {"running", "stopped", "paused", "unready"}
        is_host = node["tier"] == "host"
        assert isinstance(node["loopback"], type(None) if is_host else str)
        assert isinstance(node["asn"], type(None) if is_host else int)
    for link in said["links"]:
        assert {"name", "a", "b", "state", "rate_bps"} <= set(link)
        assert link["state"] in {"up", "down", "faulted"}
        assert isinstance(link["rate_bps"], int)
    for key in ("established", "expected"):
        assert isinstance(said["bgp"][key], int)
    for key in ("deploy_s", "converge_s", "total_s"):
        assert isinstance(said["timings"][key], float)
    for capability in said["capabilities"].values():
        assert set(capability) == {"have", "because"}
        assert isinstance(capability["have"], bool)


def test_json_of_up_and_status(broken: Break, capsys: Capture) -> None:
    broken(missing={"soft-asic": "no queues here"})
    opened = answer(capsys, *UP)
    check_status(opened)
    assert opened["state"] == "ready"
    assert opened["bgp"] == {"established": 16, "expected": 16}
    assert opened["capabilities"] == {"soft-asic": {"have": False, "because": "no queues here"}}
    (link,) = [link for link in opened["links"] if link["name"] == "leaf1:spine1"]
    assert (link["a"], link["b"]) == ("leaf1:eth1", "spine1:eth1")
    broken(links_down=["leaf1:spine1"], silent=["leaf3"])
    later = answer(capsys, "status", code=1)
    check_status(later)
    assert later["state"] == "degraded"
    assert [link["name"] for link in later["links"] if link["state"] != "up"] == ["leaf1:spine1"]
    assert [node["name"] for node in later["nodes"] if node["state"] == "unready"] == ["leaf3"]
    assert later["bgp"]["established"] < later["bgp"]["expected"]


def test_json_of_up_that_does_not_wait(capsys: Capture) -> None:
    said = answer(capsys, *UP, "--no-wait")
    assert said["state"] == "starting"
    assert said["timings"]["converge_s"] is None


def test_json_of_reads(capsys: Capture) -> None:
    up()
    (lab,) = answer(capsys, "list")["labs"]
    assert (lab["lab"], lab["backend"], lab["state"]) == ("clos-frr", "fake", "up")
    ports = answer(capsys, "inspect")["ports"]
    assert {"node": "leaf1", "port": "eth1", "far": "spine1:eth1"}.items() <= ports[
        [p["node"] for p in ports].index("leaf1")
    ].items()
    routes = answer(capsys, "routes", "leaf1")
    assert routes["node"] == "leaf1"
    assert any(len(row["ports"]) == 2 and row["ports"] == row["expected"] for row in routes["routes"])
    sessions = answer(capsys, "sessions", "spine1")["sessions"]
    assert [row["state"] for row in sessions] == ["Established"] * 4
    assert isinstance(answer(capsys, "doctor", code=run(["doctor"]))["findings"], list)
    assert answer(capsys, "reap") == {"schema": 1, "dry_run": False, "leftovers": []}


def test_reads_that_judge(broken: Break, capsys: Capture) -> None:
    up()
    broken(links_down=["leaf1:spine1"])
    wrong = [row for row in answer(capsys, "routes", "leaf1", code=1)["routes"] if row["ports"] != row["expected"]]
    assert wrong
    assert [row["state"] for row in answer(capsys, "sessions", "leaf1", code=1)["sessions"]].count("Active") == 1
    assert run(["routes", "leaf1"]) == run(["sessions", "leaf1"]) == 1


def test_path(capsys: Capture) -> None:
    up()
    said = answer(capsys, "path", "host1", "host5", "--sport", "1000")
    hops = [hop["node"] for hop in said["hops"]]
    assert said["flow"]["sport"] == 1000
    assert (hops[0], said["end"], said["broken"]) == ("host1", "host5", None)
    assert [node.rstrip("0123456789") for node in hops] == ["host", "leaf", "spine", "leaf"]
    assert [hop["one_of"] for hop in said["hops"]] == [[hop["out"]] for hop in said["hops"]]
    assert (said["flow"]["dscp"], said["flow"]["queue_pair"]) == (0, None)
    assert run(["path", "host1", "host5"]) == 0
    assert "host5" in capsys.readouterr().out


def test_path_with_several_ways(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a class that a switch sprays; and what the flow carries beside its five-tuple is said."""
    up()
    told = Lab.paths

    def spraying(lab: Lab, flows: Sequence[FiveTuple], sources: Sequence[str]) -> tuple[FlowPath, ...]:
        (path,) = told(lab, flows, sources)
        host, leaf, *rest = path.hops
        return (replace(path, hops=(host, replace(leaf, out_port="eth1", also=("eth2",)), *rest)),)

    monkeypatch.setattr(Lab, "paths", spraying)
    words = ("path", "host1", "host5", "--dscp", "26", "--queue-pair", "7")
    said = answer(capsys, *words)
    assert (said["hops"][1]["out"], said["hops"][1]["one_of"]) == ("eth1", ["eth1", "eth2"])
    assert (said["flow"]["dscp"], said["flow"]["queue_pair"]) == (26, 7)
    assert run([*words]) == 0
    shown = capsys.readouterr()
    assert "one of eth1, eth2" in shown.out
    assert "dscp 26 queue pair 7" in shown.err


def test_path_that_is_cut(broken: Break, capsys: Capture) -> None:
    up()
    broken(links_down=["leaf1:spine1", "leaf1:spine2"])
    said = answer(capsys, "path", "host1", "host5", code=1)
    assert (said["end"], said["broken"]) == (None, "leaf1 has no route")


def test_validate(tmp_path: Path, capsys: Capture) -> None:
    good, bad = LABS / "clos_frr.yaml", tmp_path / "bad.yaml"
    bad.write_text("fabric: clos_2x4\nmtuu: 9000\n")
    assert [row["ok"] for row in answer(capsys, "validate", str(good))["files"]] == [True]
    said = answer(capsys, "validate", str(good), str(bad), code=2)
    assert [row["ok"] for row in said["files"]] == [True, False]
    assert "bad.yaml:2: mtuu" in said["files"][1]["found"]
    assert "bad.yaml:2: mtuu" in refused(capsys, "validate", str(bad))


# Dry runs.


def test_dry_runs_change_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert run([*UP, "--dry-run"]) == 0
    assert answer(capsys, *UP, "--dry-run")["nodes"]
    assert everything(tmp_path) == {}
    up()
    index.write(index.LabRecord(**{**as_fields("clos-frr"), "name": "crashed", "stage": index.Stage.STARTING}))
    before = everything(tmp_path)
    assert run(["down", "--dry-run", "clos-frr"]) == 0
    assert "clos-frr: 1 changes would be undone" in capsys.readouterr().err
    assert run(["down", "--all", "--dry-run"]) == 0
    assert [row["lab"] for row in answer(capsys, "reap", "--dry-run")["leftovers"]] == ["crashed"]
    assert run(["render", "clos_frr", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    assert everything(tmp_path) == before
    assert [row["lab"] for row in answer(capsys, "reap")["leftovers"]] == ["crashed"]
    assert index.names() == ("clos-frr",)


def as_fields(name: str) -> dict[str, Any]:
    record = index.read(name)
    return {field: getattr(record, field) for field in record.__dataclass_fields__}


# Verbs.


def test_up_twice_reports(capsys: Capture) -> None:
    up()
    first = index.read("clos-frr")
    capsys.readouterr()
    assert run(list(UP)) == 0  # without a seed: that of the running lab
    up()
    assert "clos-frr was already up" in capsys.readouterr().err
    assert index.read("clos-frr") == first


@pytest.mark.parametrize("argv", [(*UP, "--seed", "2"), ("up", "rails_frr", "--backend", "fake", "--name", "clos-frr")])
def test_another_lab_of_that_name_is_refused(capsys: Capture, argv: tuple[str, ...]) -> None:
    up()
    said = refused(capsys, *argv)
    assert "a different lab 'clos-frr' is running (backend fake, seed 1, started in " in said
    assert "railbed down clos-frr" in said
    assert index.read("clos-frr").seed == 1


def test_two_labs_side_by_side(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    up("--name", "one")
    up("--name", "two")
    assert "--lab one | two" in refused(capsys, "status")
    assert "--lab one | two" in refused(capsys, "down")
    assert answer(capsys, "routes", "leaf1", "--lab", "two")["lab"] == "two"
    monkeypatch.setenv("RAILBED_LAB", "one")
    assert answer(capsys, "status")["lab"] == "one"
    assert answer(capsys, "status", "--lab", "two")["lab"] == "two"
    assert run(["down"]) == 0
    assert index.names() == ("two",)


def test_down(capsys: Capture) -> None:
    assert run(["down"]) == run(["down", "nothing"]) == run(["down", "--all"]) == 0
    assert "nothing: not up, nothing to do" in capsys.readouterr().err
    up("--name", "one")
    up("--name", "two")
    assert run(["down", "--all"]) == 0
    assert index.names() == ()
    assert not index.state_dir().exists()
    assert sorted(path.name for path in Path(".labs").iterdir()) == ["one", "two"]


@pytest.mark.parametrize("verb", ["status", "inspect", "down"])
def test_name_that_is_a_path_is_refused(capsys: Capture, verb: str) -> None:
    assert "lab name '../x'; allowed: a-z first" in refused(capsys, verb, "../x")


@pytest.mark.parametrize("argv", [("exec", "leaf9", "--", "true"), ("shell", "leaf9"), ("routes", "leaf9")])
def test_unknown_node_lists_what_there_is(capsys: Capture, argv: tuple[str, ...]) -> None:
    up()
    said = refused(capsys, *argv)
    assert "leaf9" in said
    assert "spine1, spine2, leaf1, leaf2, leaf3, leaf4" in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("up", "clos_fr", "--backend", "fake"), "clos_frr"),
        (("up", "--backend", "docker"), "no backend 'docker'; allowed: containerlab, netns, fake"),
        ((*UP, "--name", "Bad Name"), "lab name 'Bad Name'; allowed: a-z first"),
        ((*UP, "--seed", "-1"), "seed -1; allowed: an integer from 0 to 4294967295"),
        ((*UP, "--image", "frr"), "image 'frr'; allowed: KIND=NAME or NODE=NAME"),
        (("status", "x"), "no lab 'x' is running (running: none)"),
        (("status",), "no lab is running"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("traffc",), "Did you mean 'traffic'?"),
    ],
)
def test_refusals(capsys: Capture, argv: tuple[str, ...], words: str) -> None:
    assert words in refused(capsys, *argv)
    assert index.names() == ()


def test_debug_shows_where(capsys: Capture) -> None:
    assert run(["status", "x", "--debug"]) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    up()
    # Behind -- it is the command's own: leaf9 is refused before anything runs.
    assert run(["exec", "leaf9", "--", "ls", "--debug"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bug_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def bug(form: str) -> NoReturn:
        raise ZeroDivisionError(form)

    monkeypatch.setattr(views, "show_list", bug)
    said = refused(capsys, "list")
    assert said == "railbed: internal error: ZeroDivisionError('table') (--debug shows where)\n"
    assert run(["--debug", "list"]) == 2
    assert "in bug" in capsys.readouterr().err


def test_render(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert run(["render", "clos_frr", "--out", str(out), "--seed", "1"]) == 0
    clab = yaml.safe_load((out / "clos-frr.clab.yml").read_text())
    assert clab["name"] == "clos-frr"
    cable = {
        "type": "veth",
        "endpoints": [
            {"node": "leaf1", "interface": "eth1", "mac": "02:52:10:00:01:01"},
            {"node": "spine1", "interface": "eth1", "mac": "02:52:20:00:01:01"},
        ],
        "mtu": 9216,
    }
    assert cable in clab["topology"]["links"]
    assert (out / "leaf1/etc/frr/frr.conf").read_text().startswith("frr ") or (out / "leaf1/etc/frr/frr.conf").exists()
    before = everything(out)
    assert "is not empty" in refused(capsys, "render", "clos_frr", "--out", str(out))
    assert everything(out) == before
    assert index.names() == ()


@pytest.mark.parametrize(("what", "catalogs"), [("lab", (LABS,)), ("fabric", (FABRICS,))])
def test_schema(capsys: Capture, what: str, catalogs: tuple[Path, ...]) -> None:
    assert run(["schema", what]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    files = [path for folder in catalogs for path in folder.glob("*.yaml")]
    assert len(files) >= 4
    for file in files:
        good = yaml.safe_load(file.read_text())
        assert [error.message for error in validator.iter_errors(good)] == [], file.name
        assert not validator.is_valid({**good, "nonsense": 1})


def test_help_of_every_command(capsys: Capture) -> None:
    names = commands.list_commands(click.Context(commands))
    assert set(LAZY) < set(names)
    for name in names:
        for flag in ("-h", "--help"):
            assert run([name, flag]) == 0
            assert f"Usage: railbed {name}" in capsys.readouterr().out
    assert {name: load().name for name, load in LAZY.items()} == {name: name for name in LAZY}
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("railbed, version ")


def test_a_command_loads_what_it_needs() -> None:
    """Neither the soft ASIC nor numpy, for labs without either: that would be a third of every command's start."""
    heavy = "labs.dataplane.asic", "labs.dataplane.config_db", "numpy", "docker"
    program = f"import sys; import labs.cli; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
