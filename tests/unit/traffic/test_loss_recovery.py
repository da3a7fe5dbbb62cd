"""What loss leaves of a link: published values, limits, and a walk through a lossy link packet by packet."""

from __future__ import annotations

import random

import pytest

from topologies.errors import SpecError
from traffic.loss_recovery import go_back_0, go_back_n, go_back_n_periodic, selective_repeat


@pytest.mark.parametrize(
    ("loss", "window", "share"),
    [(1 / 256, 16, 0.941), (1 / 256, 64, 0.799), (1 / 256, 256, 0.499), (1e-3, 16, 0.984), (1e-3, 64, 0.940)],
)
def test_go_back_n_as_published(loss: float, window: float, share: float) -> None:
    assert go_back_n(loss, window) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(("loss", "share"), [(1 / 256, 1.7e-6), (1e-3, 0.069), (1e-4, 0.81)])
def test_go_back_0_as_published(loss: float, share: float) -> None:
    assert go_back_0(loss, 4096) == pytest.approx(share, rel=0.03)


def test_a_window_of_one_packet_is_selective_repeat() -> None:
    assert go_back_n(0.01, 1) == selective_repeat(0.01) == 0.99
    assert go_back_0(0.01, 1) == pytest.approx(0.99)


def test_without_loss_everything_gets_through() -> None:
    assert selective_repeat(0) == go_back_n(0, 64) == go_back_0(0, 4096) == 1


def test_every_nth_lost() -> None:
    assert go_back_n_periodic(256, 64) == 0.75
    assert go_back_n_periodic(256, 256) == go_back_n_periodic(256, 300) == 0


def test_go_back_n_walked_through() -> None:
    """A sender that learns of a loss after W packets: 20 000 new ones at p = 1/64, W = 20."""
    draw = random.Random(3)
    sent, place, window, loss = 0, 0, 20, 1 / 64
    while place < 20_000:
        if draw.random() < loss:
            sent += window
        else:
            sent += 1
            place += 1
    assert place / sent == pytest.approx(go_back_n(loss, window), rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: selective_repeat(1),
        lambda: go_back_n(-0.1, 4),
        lambda: go_back_n(0.1, 0.5),
        lambda: go_back_0(0.1, 0),
        lambda: go_back_n_periodic(0, 4),
    ],
)
def test_what_is_no_link_is_refused(wrong: object) -> None:
    with pytest.raises(SpecError, match="allowed"):
        wrong()  # type: ignore[operator]
