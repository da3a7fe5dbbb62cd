"""LLDP data units: what is said is read again, and what is not ours, or cut off, is not."""

from __future__ import annotations

import pytest

from labs.lldp import Announcement, frame, read

SAID = Announcement("clos-frr", "leaf1", "eth1")


def test_what_is_said_is_read() -> None:
    assert read(frame(SAID)) == SAID


def test_the_bytes_are_those_of_the_standard() -> None:
    """Chassis, port and time to live come first, in this order, and the end last (802.1AB, 8.2)."""
    unit = frame(SAID)
    assert unit.startswith(b"\x02\x06\x07leaf1" + b"\x04\x05\x07eth1" + b"\x06\x02\x00\x01")
    assert unit.endswith(b"\x00\x00")


def test_scapy_reads_the_same() -> None:
    lldp = pytest.importorskip("scapy.contrib.lldp")
    unit = lldp.LLDPDU(frame(SAID) + bytes(20))  # an Ethernet frame is padded
    assert unit[lldp.LLDPDUChassisID].id == b"leaf1"
    assert unit[lldp.LLDPDUPortID].id == b"eth1"
    assert unit[lldp.LLDPDUTimeToLive].ttl == 1
    assert unit[lldp.LLDPDUSystemName].system_name == b"leaf1"


def test_padding_is_no_matter() -> None:
    assert read(frame(SAID) + bytes(20)) == SAID


@pytest.mark.parametrize("kept", range(len(frame(SAID))))
def test_what_is_cut_off_is_not_read(kept: int) -> None:
    assert read(frame(SAID)[:kept]) is None


def test_others_speak_for_themselves() -> None:
    """As lldpd: a hardware address for a chassis, and a description of its own."""
    theirs = b"\x02\x07\x04\x02\x00\x00\x00\x00\x01" + b"\x04\x05\x05eth1" + b"\x06\x02\x00\x78"
    assert read(theirs + b"\x0c\x0drailbed leaf1" + b"\x00\x00") is None
    assert read(theirs + frame(SAID)[18:]) is None
    assert read(frame(SAID).replace(b"railbed cabling", b"another cabling")) is None
    assert read(frame(SAID).replace(b"leaf1", b"\xff\xff\xff\xff\xff")) is None


def test_a_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        frame(Announcement("lab", "x" * 511, "eth1"))
