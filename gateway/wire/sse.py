"""Server-sent events: a reader of a stream that comes in pieces, and a writer of single events. Pure.

Specification: WHATWG HTML, "Server-sent events". Only `data` means something here; comments and other fields are passed over.
"""

import re

_EVENT_BYTES = 1024**2
_LINE_END = re.compile(rb"\r\n|\n|\r")


class TooLong(Exception):
    """An event that does not end: whoever sends it is not to be listened to any longer."""


class Events:
    """Reads events of at most `most_bytes`, however the stream is cut into pieces."""

    def __init__(self, most_bytes: int = _EVENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._line = bytearray()  # the last one, which has not ended
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._ended_with_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that this piece completes. Raises TooLong."""
        if self._ended_with_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._ended_with_cr = False
        if not piece:
            return []
        self._ended_with_cr = piece.endswith(b"\r")
        *lines, rest = _LINE_END.split(piece)
        events = []
        for line in lines:
            whole = bytes(self._line + line) if self._line else line
            self._line.clear()
            if (event := self._end_line(whole)) is not None:
                events.append(event)
        self._line += rest
        self._expect(len(self._line))
        return events

    def _end_line(self, line: bytes) -> bytes | None:
        """The event's data, if the line ends one that has any."""
        if not line:
            data, self._data, self._data_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._data_bytes += len(value) + 1
            self._expect(0)
        return None

    def _expect(self, line_bytes: int) -> None:
        if self._data_bytes + line_bytes > self._most_bytes:
            raise TooLong(f"an event of more than {self._most_bytes} bytes")


def event(data: bytes) -> bytes:
    """One event; `data` has no line break, as no JSON of ours has."""
    return b"data: %b\n\n" % data
