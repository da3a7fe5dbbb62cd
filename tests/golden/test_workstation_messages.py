"""What an engineer reads when the workstation, not the fabric, is in the way: every message against its file.

RAILBED_UPDATE_GOLDEN=1 writes the messages anew: then read them, as a user would have to.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import labs.sysctl
from labs import index, undo
from labs.backends import netns
from labs.cli import run
from labs.lab import open_lab
from labs.request import Request

FOLDER = Path(__file__).parent / "workstation"
UP = ("up", "clos_frr", "--backend", "netns")
FAKE = ("up", "clos_frr", "--backend", "fake")


class Workstation:
    """A workstation that has everything, until a case takes something away."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch, after: ExitStack) -> None:
        self.root, self.patch, self.after = tmp_path, patch, after
        for name in [name for name in os.environ if name.startswith(("RAILBED_", "SUDO_"))]:
            if name != "RAILBED_UPDATE_GOLDEN":
                patch.delenv(name)
        patch.setenv("RAILBED_STATE_DIR", str(tmp_path / "state"))
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["railbed", *UP])
        patch.setattr(netns, "NETNS_DIR", tmp_path / "netns")
        patch.setattr(undo, "NETNS_DIR", tmp_path / "netns")
        patch.setattr(labs.sysctl, "path_of", lambda key: tmp_path / "sysctl" / key)
        (tmp_path / "netns").mkdir()
        (tmp_path / "sysctl").mkdir()
        for key in ("policy", "fields", "seed"):
            for family in ("ipv4", "ipv6"):
                (tmp_path / "sysctl" / f"net.{family}.fib_multipath_hash_{key}").write_text("0")
        self.without_programs()

    def root_runs(self) -> tuple[str, ...]:
        """What `railbed up` says to root; nothing may be made before it is said."""
        self.patch.setattr(os, "geteuid", lambda: 0)
        return UP

    def without_programs(self, *names: str) -> None:
        self.patch.setattr(shutil, "which", lambda name: None if Path(name).name in names else f"/usr/bin/{name}")

    def without_setting(self, key: str) -> None:
        (self.root / "sysctl" / key).unlink()

    def lab(self, name: str = "clos-frr") -> None:
        open_lab(Request("clos_frr", backend="fake", name=name, seed=1), wait=False)


def no_root(station: Workstation) -> tuple[str, ...]:
    station.patch.setattr(os, "geteuid", lambda: 1000)
    return UP


def no_frr(station: Workstation) -> tuple[str, ...]:
    station.without_programs("bgpd", "zebra", "watchfrr", "bfdd", "vtysh", "mgmtd", "staticd")
    return station.root_runs()


def several_programs(station: Workstation) -> tuple[str, ...]:
    station.without_programs("bgpd", "fping", "catatonit")
    return station.root_runs()


def old_kernel_seed(station: Workstation) -> tuple[str, ...]:
    station.without_setting("net.ipv4.fib_multipath_hash_seed")
    return station.root_runs()


def name_taken_by_lab(station: Workstation) -> tuple[str, ...]:
    station.lab()
    return (*FAKE, "--seed", "2")


def name_taken_by_namespace(station: Workstation) -> tuple[str, ...]:
    (station.root / "netns" / "railbed.clos-frr.leaf2").touch()
    return station.root_runs()


def lab_being_changed(station: Workstation) -> tuple[str, ...]:
    station.lab()
    child = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()  # it holds the lock now
    station.after.callback(child.wait)
    station.after.callback(child.kill)
    return FAKE


def unreadable_record(station: Workstation) -> tuple[str, ...]:
    station.lab()
    (index.lab_dir("clos-frr") / "record.json").write_text('{"name": "clos-f')
    return ("status", "clos-frr")


def run_directory_gone(station: Workstation) -> tuple[str, ...]:
    station.lab()
    shutil.rmtree(index.read("clos-frr").run_dir)
    return ("status", "clos-frr")


def state_not_writable(station: Workstation) -> tuple[str, ...]:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    station.patch.setattr(Path, "mkdir", refuse)
    return FAKE


def several_labs(station: Workstation) -> tuple[str, ...]:
    station.lab("one")
    station.lab("two")
    return ("status",)


def simple(*argv: str) -> Callable[[Workstation], tuple[str, ...]]:
    return lambda _: argv


# case -> what it does to the workstation, and the command whose message is kept
CASES: dict[str, Callable[[Workstation], tuple[str, ...]]] = {
    "no_root": no_root,
    "no_frr": no_frr,
    "several_programs": several_programs,
    "old_kernel_seed": old_kernel_seed,
    "name_taken_by_lab": name_taken_by_lab,
    "name_taken_by_namespace": name_taken_by_namespace,
    "bad_lab_name": simple(*FAKE, "--name", "My Lab"),
    "lab_name_is_a_path": simple("status", "../../etc"),
    "unknown_lab": simple("up", "clos_fr"),
    "unknown_backend": simple("up", "clos_frr", "--backend", "kvm"),
    "bad_seed": simple(*FAKE, "--seed", "-4"),
    "no_lab_is_up": simple("status"),
    "that_lab_is_not_up": simple("status", "clos-frr"),
    "several_labs": several_labs,
    "lab_being_changed": lab_being_changed,
    "unreadable_record": unreadable_record,
    "run_directory_gone": run_directory_gone,
    "state_not_writable": state_not_writable,
}


HOLDER = "import signal\nfrom labs import index\nwith index.locked('clos-frr'):\n print(flush=True)\n signal.pause()\n"


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workstation]:
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as after:
        yield Workstation(tmp_path, monkeypatch, after)
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("case", CASES)
def test_message(case: str, station: Workstation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = CASES[case](station)
    before = index.names()
    capsys.readouterr()
    assert run(list(argv)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert index.names() == before  # nothing was begun, and nothing that ran was touched
    message = said.err.replace(str(tmp_path), "/home/me").replace(os.uname().release, "6.8.0-45-generic")
    message = "".join(f"{line}\n" for line in message.splitlines() if line.startswith(("railbed:", "  ")))
    message = normal(message)
    golden = FOLDER / f"{case}.txt"
    if os.environ.get("RAILBED_UPDATE_GOLDEN") == "1":
        golden.write_text(message, encoding="utf-8")
    assert message == golden.read_text(encoding="utf-8")
    assert message.count("railbed: ") == 1
    assert "remedy: " in message or "; allowed: " in message
    assert "Traceback" not in said.err


def normal(message: str) -> str:
    """The message without the moment it was written at."""
    return re.sub(r"\d{8}T\d{6}(-\d+)?", "STAMP", message)


def test_every_file_has_its_case() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CASES)
