"""The few words of protobuf that reading an ONNX file takes.

A message is a run of fields, each a key (number * 8 + wire type) and a value
(https://protobuf.dev/programming-guides/encoding/). Nothing but Python is needed.

Design notes: knows neither ONNX nor what a damaged file should be called; reads from a
stream, so that what nobody wants is skipped by seeking.
"""

from __future__ import annotations

from typing import BinaryIO

__all__ = [
    "BYTES",
    "FIXED32",
    "FIXED64",
    "VARINT",
    "EndOfDataError",
    "NotProtobufError",
    "encode_varint",
    "read_varint",
    "value_length",
]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

_FIXED = {FIXED64: 8, FIXED32: 4}
# Far above any number ONNX has; random bytes give longer ones almost at once.
_MAX_VARINT_BYTES = 10


class NotProtobufError(Exception):
    """The bytes are no message."""


class EndOfDataError(Exception):
    """The bytes end inside a field."""


def read_varint(stream: BinaryIO) -> int:
    """A whole number of variable length."""
    value = 0
    for position in range(_MAX_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            raise EndOfDataError
        value |= (byte[0] & 0x7F) << (7 * position)
        if byte[0] < 0x80:
            return value
    raise NotProtobufError


def encode_varint(value: int) -> bytes:
    """What `read_varint` reads as that number."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def value_length(stream: BinaryIO, wire: int) -> int:
    """Bytes of the value behind a key; the stream is left at its first one.

    Whether there are so many is for the caller to see.
    """
    if wire == BYTES:
        return read_varint(stream)
    if wire == VARINT:
        first = stream.tell()
        read_varint(stream)
        length = stream.tell() - first
        stream.seek(first)
        return length
    if wire in _FIXED:
        return _FIXED[wire]
    raise NotProtobufError
