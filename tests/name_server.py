"""python tests/name_server.py LOG NAME: a name server that knows one name, and writes down what it is asked."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

_A = 1  # type of a question: an IPv4 address
_FOUND, _NO_SUCH_NAME = b"\x81\x80", b"\x81\x83"  # flags of an answer


def serve(log: Path, known: str) -> None:
    """Answer questions for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port, log.open("a", buffering=1) as file:
        port.bind(("127.0.0.1", 53))
        file.write("\n")  # it listens
        while True:
            question, asker = port.recvfrom(4096)
            name, end = _name(question)
            file.write(f"{name}\n")
            port.sendto(_answer(question, name == known, end), asker)


def _name(question: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    parts, place = [], 12
    while length := question[place]:
        parts.append(question[place + 1 : place + 1 + length].decode(errors="replace"))
        place += length + 1
    return ".".join(parts).lower(), place + 1


def _answer(question: bytes, known: bool, end: int) -> bytes:
    asked = question[12 : end + 4]
    address = known and int.from_bytes(question[end : end + 2], "big") == _A
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01" if address else b""
    counts = b"\x00\x01" + (b"\x00\x01" if address else b"\x00\x00") + b"\x00\x00\x00\x00"
    return question[:2] + (_FOUND if known else _NO_SUCH_NAME) + counts + asked + record


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2])
