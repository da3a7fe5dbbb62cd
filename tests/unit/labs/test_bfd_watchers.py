"""When a BFD session misses its peer, read from what FRR's bfdd says; and which sessions a measurement waits for."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from labs import recovery_bridge
from labs.errors import NotReady
from labs.kinds.frr import vty
from labs.kinds.frr.software import SOFTWARE
from labs.lab import Lab
from labs.node import LiveNode
from labs.spec import Bfd

NODE = cast("LiveNode", SimpleNamespace(name="leaf1", kind="frr"))


def session(peer: str = "10.0.0.1", status: str = "up", remote_ms: int = 300, own_ms: int = 300) -> dict[str, Any]:
    return {
        "peer": peer,
        "status": status,
        "receive-interval": own_ms,
        "remote-transmit-interval": remote_ms,
        "remote-detect-multiplier": 3,
    }


def say(monkeypatch: pytest.MonkeyPatch, *sessions: object) -> None:
    monkeypatch.setattr(vty, "ask", lambda *_: json.dumps(sessions))


@pytest.mark.parametrize(
    ("said", "missed_s"),
    [
        (session(), 0.9),
        (session(remote_ms=1000), 3.0),  # seen as it comes up: the peer still sends once a second
        (session(own_ms=500), 1.5),  # the slower end's interval counts
        (session(status="init", remote_ms=1000), None),
        (session(status="down"), None),
    ],
)
def test_the_negotiated_time_counts(said: object, missed_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, said)
    assert SOFTWARE.watchers(NODE) == {"10.0.0.1": missed_s}


def test_an_answer_without_times_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, {"peer": "10.0.0.1", "status": "up"})
    with pytest.raises(NotReady, match="leaf1: bfdd does not answer"):
        SOFTWARE.watchers(NODE)


@pytest.mark.parametrize(("bfd", "found"), [(Bfd(300, 3), 1), (Bfd(1000, 3), 2), (Bfd(200, 3), 0), (None, 0)])
def test_a_session_that_is_slower_than_designed_does_not_count(
    bfd: Bfd | None, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, session(), session("10.0.0.3", remote_ms=1000), session("10.0.0.5", status="init"))
    lab = cast("Lab", SimpleNamespace(rendered=SimpleNamespace(spec=SimpleNamespace(bgp=SimpleNamespace(bfd=bfd)))))
    assert recovery_bridge.watching(lab, NODE) == found
