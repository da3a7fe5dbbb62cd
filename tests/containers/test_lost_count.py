"""NET-KEPT-1: an engine that keeps a management network for nobody fails no lab, and `reap` removes it when it can.

The engine's mistake cannot be called forth: that it keeps a network is pretended here. All else is real.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from labs import container_network, engine, index, reaper
from labs.errors import PreflightFailed
from labs.lab import Lab, open_lab
from labs.request import Request

USERS = container_network._users


@pytest.fixture
def name() -> str:
    return f"kept-{secrets.token_hex(3)}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(container_network, "FREED_WITHIN", 0.5)


def up(name: str) -> Lab:
    return open_lab(Request("pair", backend="containerlab", name=name, owned=True)).lab


def networks(name: str) -> set[str]:
    """The networks that the engine has of labs of that name."""
    listed = engine.client(engine.address()).api.networks(filters={"label": f"{container_network.LAB}={name}"})
    return {one["Name"] for one in listed}


def test_a_network_that_the_engine_keeps(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, the lab is down, its name is free for the next lab, and nothing is left when the engine lets go."""
    lab = up(name)
    monkeypatch.setattr(container_network, "_users", lambda *_: ())
    lab.close()
    assert f"docker network railbed-{name} is left behind, empty" in capsys.readouterr().err
    assert name not in index.names()
    assert networks(name) == {f"railbed-{name}"}
    assert [one.name for one in reaper.reap()] == []
    assert "railbed reap removes it" in capsys.readouterr().err

    lab = up(name)
    try:
        assert networks(name) == {f"railbed-{name}", f"railbed-{name}-2"}
        assert list(reaper.kept_by_engine()) == [f"railbed-{name}"], "that of a lab that is up is nobody's leftover"
    finally:
        monkeypatch.setattr(container_network, "_users", USERS)
        lab.close()
    assert networks(name) == {f"railbed-{name}"}
    assert [one.name for one in reaper.reap()] == [name]
    assert networks(name) == set()


def test_a_network_of_somebody_else_is_in_the_way(name: str) -> None:
    """Control: one without our labels stops `up`, stays, and is named."""
    api = engine.client(engine.address()).api
    api.create_network(f"railbed-{name}", driver="bridge")
    try:
        with pytest.raises(PreflightFailed, match=f"docker network railbed-{name} exists and is not in our journal"):
            up(name)
        reaper.reap()
        assert [one["Name"] for one in api.networks(names=[f"railbed-{name}"])] == [f"railbed-{name}"]
    finally:
        api.remove_network(f"railbed-{name}")
