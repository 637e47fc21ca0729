"""Errors, limits and primitive values. docs/format/README.md, sections "Primitives" and "Limits".

Written from docs/format alone; it shares no code with the program that it checks.
"""

from __future__ import annotations

MIB = 1 << 20
NAMES_MAX = 1 << 16
NODE_DEPTH_MAX = 16
U32_MAX = (1 << 32) - 1
CHUNK_ID_BYTES = 24
NANOS_MAX = 999_999_999


class FormatError(Exception):
    """Bytes that cannot become a value; `kind` is what the vectors call it."""

    kind = "damaged"


class Damaged(FormatError):
    """The bytes are not what was written."""


class Unsupported(FormatError):
    """A newer program wrote this."""

    kind = "unsupported"


class WrongKey(FormatError):
    """The secret does not open this."""

    kind = "denied"


class Reader:
    """Takes primitive values from the front of `data`."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.what, self.at = data, what, 0

    def damaged(self, detail: str) -> Damaged:
        return Damaged(f"{self.what} is damaged: {detail}")

    def remaining(self) -> int:
        return len(self.data) - self.at

    def bytes(self, length: int) -> bytes:
        if length > self.remaining():
            raise self.damaged(f"it ends {length - self.remaining()} bytes early")
        self.at += length
        return self.data[self.at - length : self.at]

    def rest(self) -> bytes:
        return self.bytes(self.remaining())

    def unsigned(self, length: int) -> int:
        """A little-endian integer of fixed length."""
        return int.from_bytes(self.bytes(length), "little")

    def varint(self, max: int = (1 << 64) - 1) -> int:
        value = shift = 0
        while True:
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << shift
            if byte & 0x80 == 0:
                break
            shift += 7
            if shift > 63:
                raise self.damaged("a number exceeds 64 bits")
        if byte == 0 and shift > 0:
            raise self.damaged("a number is not in its shortest form")
        if value > max:
            raise self.damaged(f"a number is {value}, but at most {max} is allowed")
        return value

    def signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def string(self, max: int) -> bytes:
        return self.bytes(self.varint(max))

    def text(self, max: int = 1 << 16) -> str:
        try:
            return self.string(max).decode("utf-8")
        except UnicodeDecodeError:
            raise self.damaged("text is not UTF-8") from None

    def time(self) -> tuple[int, int]:
        return self.signed(), self.varint(NANOS_MAX)

    def finish(self) -> None:
        if self.remaining():
            raise self.damaged(f"{self.remaining()} bytes are left over")
