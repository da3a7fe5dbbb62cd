"""`railbed timeline` on a file: what it shows and exports, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest

from labs import cli
from labs.telemetry.records import Clock, FaultEvent, PortRecord, RouteEvent


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a timeline of four records and a torn line."""
    told = (
        Clock(t=10**9, wall="2026-11-22T03:00:00+00:00", boot="b"),
        FaultEvent(t=2 * 10**9, id="f1", fault="link-down", target="a:b", phase="made", params={"sender": "a"}),
        RouteEvent(t=2 * 10**9 + 5_000_000, node="leaf1", prefix="10.0.0.0/24", ports=("eth1", "eth2"), protocol="bgp"),
        PortRecord(t=4 * 10**9, node="leaf1", port="eth1", up=True, tx_packets=1, tx_bytes=2, rx_packets=3, rx_bytes=4),
    )
    folder = tmp_path / "lab" / "stamp"
    folder.mkdir(parents=True)
    lines = b"".join(msgspec.json.encode(record) + b"\n" for record in told)
    (folder / "timeline.jsonl").write_bytes(lines + b'{"kind":"no')
    return folder


def test_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", str(run), "--format", "json"]) == 0
    said = capsys.readouterr()
    shown = json.loads(said.out)
    assert (shown["schema"], shown["lab"], shown["torn"], shown["unread"]) == (1, "lab", 1, 0)
    assert [(row["at_s"], row["kind"]) for row in shown["records"]] == [
        (0.0, "clock"),
        (1.0, "fault"),
        (1.005, "route"),
        (3.0, "port"),
    ]
    assert "torn line" in said.err


def test_a_table_of_some(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", str(run / "timeline.jsonl"), "--kind", "fault", "--kind", "route"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["1.000000", "fault"], ["1.005000", "route"]]
    assert "ports=eth1 eth2" in lines[2]


@pytest.mark.parametrize(("since", "kinds"), [("1.001", ["route", "port"]), ("-1", ["port"])])
def test_since(run: Path, since: str, kinds: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", str(run), "--since", since, "--format", "json"]) == 0
    assert [row["kind"] for row in json.loads(capsys.readouterr().out)["records"]] == kinds


def test_parquet_and_csv(run: Path, tmp_path: Path) -> None:
    assert cli.run(["timeline", str(run), "--out", str(tmp_path / "t.parquet")]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["kind"] for row in rows] == ["clock", "fault", "route", "port"]
    assert (rows[1]["params"], rows[2]["ports"], rows[3]["rx_bytes"]) == ('{"sender": "a"}', "eth1 eth2", 4)
    assert rows[0]["rx_bytes"] is None
    assert cli.run(["timeline", str(run), "--kind", "port", "--out", str(tmp_path / "t.csv")]) == 0
    head, row = (tmp_path / "t.csv").read_text().splitlines()
    assert dict(zip(head.replace('"', "").split(","), row.replace('"', "").split(","), strict=True))["node"] == "leaf1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "nope"], "allowed: clock, link"),
        (["--out", "x.xlsx"], "allowed: a name that ends in .csv or .parquet"),
        (["--out", "/nowhere/x.csv"], "cannot be written"),
    ],
)
def test_refusals(run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", str(run), *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["timeline", str(tmp_path / "none")]) == 2
    assert "found no run" in capsys.readouterr().err
