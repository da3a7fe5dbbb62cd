"""Whether a lab's soft ASIC plays: asked of the kernel, as an asicd that is frozen answers nobody."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labs.dataplane import place
from labs.dataplane.asic import SoftAsic


def test_an_asicd_that_does_not_answer_plays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ended when nobody has its socket any more; but then what cls_bpf runs may outlive it."""
    monkeypatch.setattr(place, "RUN", tmp_path)
    (tmp_path / "lab").mkdir()
    asic = SoftAsic.__new__(SoftAsic)
    asic.lab = "lab"
    assert not asic.plays
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "lab" / "control"))
        silent.listen(1)
        assert asic.plays
    assert not asic.plays
    (tmp_path / "lab" / "ports").write_text("1 eth1\n")
    assert asic.plays
