"""The audit log as whoever counts it sees it: which segments there are, where each ends, and what comes next in one. Reads, and waits for
nothing: its caller is in a thread.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, Protocol

from gateway.audit.record import SegmentBody
from gateway.audit.segment import COMMIT_HEAD_BYTES, opening
from gateway.audit.verify import closed
from gateway.usage.standing import Found, Standing, found, start

_PIECE_BYTES: Final = 256 * 1024
_MOST_PIECE_BYTES: Final = 64 * 1024 * 1024  # beyond any commit: what waits for one has 16 MiB
_HEAD_BYTES: Final = 64 * 1024


class Log(Protocol):
    """The segments that there are now."""

    def __iter__(self) -> Iterator[str]: ...

    def piece(self, segment_id: str, offset_bytes: int, most_bytes: int) -> bytes:
        """So much of a segment from there, less where it ends. Raises OSError."""


class Segments:
    """What is known of the log. An opening is read once: it does not change."""

    def __init__(self, log: Callable[[], Log]) -> None:
        self._list = log
        self._log = log()
        self._openings: dict[str, SegmentBody] = {}
        self._ends: dict[str, int] = {}

    def look(self) -> Collection[str]:
        """All that have begun, after a fresh look at which there are."""
        self._log = self._list()
        fresh = {name: first for name in self._log if (first := self._unknown(name))}
        if fresh:  # others may be reading the old ones, in threads of their own
            self._openings = self._openings | fresh
            self._ends = {name: it.commits for name, it in closed(self._openings).items()}
        return self._openings.keys()

    def end(self, name: str) -> int | None:
        """So many commits a later segment says that it has; None while none says it."""
        return self._ends.get(name)

    @property
    def ended(self) -> Iterable[tuple[str, int]]:
        """All that a later segment names, those too that hold nothing."""
        return self._ends.items()

    def next(self, name: str, standing: Standing) -> Found:
        """Some commits behind that place; none counted where there is no more. Raises OSError."""
        end, most = self.end(name), _PIECE_BYTES
        while True:
            data = self._log.piece(name, standing.offset_bytes, most)
            it = found(name, data, standing, end)
            is_all = len(data) < most or most >= _MOST_PIECE_BYTES
            read_bytes = it.waiting.end_bytes if it.waiting else 0
            is_over = it.fault is None and len(data) - read_bytes >= COMMIT_HEAD_BYTES  # zeros follow
            if it.counted or is_all or is_over:
                return it
            most *= 4

    def placed(self, name: str, standing: Standing) -> Standing:
        """The same place in the segment as it is now, if it was rewritten since. Raises OSError."""
        at = start(name)
        while at.commits < standing.commits:
            commits = self.next(name, at).counted[: standing.commits - at.commits]
            if not commits:
                return standing
            at = at.behind_all(commits)
        return Standing(at.commits, standing.records, at.offset_bytes, at.chain)

    def _unknown(self, name: str) -> SegmentBody | None:
        """Its opening, if it was not read yet and is there."""
        if name in self._openings or self._ends.get(name) == 0:
            return None
        head = self._log.piece(name, 0, _HEAD_BYTES)
        first = opening(name, head)
        if first is None and len(head) == _HEAD_BYTES and any(head):
            first = opening(name, self._log.piece(name, 0, _MOST_PIECE_BYTES))
        return SegmentBody(previous=first.previous) if first else None
