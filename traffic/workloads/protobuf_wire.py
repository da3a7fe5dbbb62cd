"""The wire format of protobuf, as far as reading a trace needs it: varints, lengths, fixed widths.

Positions are bytes from the start of the (unpacked) file. Every step moves forward and stays inside the message it
belongs to, so that reading ends whatever the bytes say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from topologies.errors import SpecError, Where

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
MOST_FIELDS = 1 << 17  # of a message


class Field(NamedTuple):
    """One field of a message: where its tag stands, where its bytes lie, and what they say unless they are BYTES."""

    number: int
    wire: int
    at: int
    start: int
    end: int
    value: int


class Wire:
    """The bytes of a file, and which message is being read: errors name both."""

    def __init__(self, data: bytes, file: str) -> None:
        self.data = data
        self.file = file
        self.node: int | None = None  # from 0, None before the first

    def error(self, at: int, found: str, *, allowed: str) -> SpecError:
        """The error for what stands at that byte."""
        node = "" if self.node is None else f", node {self.node} of the file"
        return SpecError(found, allowed=allowed, where=Where(self.file, key=f"byte {at}{node}"))

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """An unsigned number of up to 64 bits, and the byte after it."""
        if at < end and (first := self.data[at]) < 0x80:  # as most are
            return first, at + 1
        value = shift = 0
        for place in range(at, min(end, at + 10)):
            byte = self.data[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> 64:
                    raise self.error(at, "found a varint of more than 64 bits", allowed="at most 64")
                return value, place + 1
            shift += 7
        if end - at >= 10:
            raise self.error(at, "found a varint of more than 10 bytes", allowed="at most 10")
        raise self.error(at, "a varint is cut off", allowed="its last byte, below 0x80, before the message ends")

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message that lies there, one by one."""
        at, count = start, 0
        while at < end:
            if (count := count + 1) > MOST_FIELDS:
                raise self.error(at, f"found more than {MOST_FIELDS} fields", allowed=f"at most {MOST_FIELDS}")
            tag, after = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number < 1 << 29:
                raise self.error(at, f"found field number {number}", allowed="1 to 536870911")
            field = self._field(number, wire, at, after, end)
            yield field
            at = field.end

    def _field(self, number: int, wire: int, at: int, after: int, end: int) -> Field:
        if wire == VARINT:
            value, past = self.varint(after, end)
            return Field(number, wire, at, after, past, value)
        if wire == BYTES:
            size, first = self.varint(after, end)
            if size > end - first:
                found = f"field {number} says {size} bytes where {end - first} are left"
                raise self.error(at, found, allowed="a length inside its message")
            return Field(number, wire, at, first, first + size, 0)
        if wire in _WIDTHS:
            if _WIDTHS[wire] > end - after:
                found = f"field {number} is cut off"
                raise self.error(at, found, allowed=f"{_WIDTHS[wire]} bytes before the message ends")
            past = after + _WIDTHS[wire]
            return Field(number, wire, at, after, past, int.from_bytes(self.data[after:past], "little"))
        raise self.error(at, f"field {number} has wire type {wire}", allowed="0, 1, 2 or 5")

    def expect(self, field: Field, wire: int, what: str) -> None:
        """Raises SpecError unless the field is encoded as its type is."""
        if field.wire != wire:
            raise self.error(field.at, f"{what} has wire type {field.wire}", allowed=str(wire))

    def text(self, field: Field, what: str, most: int) -> str:
        """A string field. Raises SpecError for other types, more than `most` bytes, and what is not UTF-8."""
        self.expect(field, BYTES, what)
        if field.end - field.start > most:
            found = f"{what} has {field.end - field.start} bytes"
            raise self.error(field.at, found, allowed=f"at most {most}")
        try:
            return self.data[field.start : field.end].decode()
        except UnicodeDecodeError as error:
            found = f"{what} is not UTF-8"
            raise self.error(field.start + error.start, found, allowed="text in UTF-8") from None

    def number(self, field: Field, what: str) -> int:
        """A varint field, unsigned as it stands. Raises SpecError for other types."""
        self.expect(field, VARINT, what)
        return field.value

    def numbers(self, field: Field, what: str) -> Iterator[int]:
        """A repeated varint field: one number, or many packed into one field."""
        if field.wire == VARINT:
            yield field.value
            return
        self.expect(field, BYTES, what)
        at = field.start
        while at < field.end:
            value, at = self.varint(at, field.end)
            yield value


def signed(value: int, bits: int) -> int:
    """The two's complement that the lowest `bits` bits are."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def unzigzag(value: int) -> int:
    """What sint32 and sint64 mean by a number."""
    return (value >> 1) ^ -(value & 1)
