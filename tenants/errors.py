"""What can go wrong in this room: stable codes and public sentences; `str(error)` is for the log."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar


class TenantsError(Exception):
    """A refusal or a failure of the control plane; its doors render `code` and `sentence`."""

    code: ClassVar[str]

    def __init__(self, sentence: str, *, private: str = "") -> None:
        super().__init__(private or sentence)
        self.sentence = sentence


class NotFound(TenantsError):
    """There is no such thing; nothing was written."""

    code = "not_found"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind = kind


class AlreadyExists(TenantsError):
    """The name is taken; nothing was written. A repeated creation whose first answer was lost ends here."""

    code = "already_exists"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"the {kind} {name!r} exists already")


class Invalid(TenantsError):
    """What was asked for breaks a rule; `path` leads to the fault and nothing was written."""

    code = "invalid"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with what was declared; `path` leads to it in its document, "" is all of it. No file: a program did."""

    file: str
    line: int
    path: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return where + (f"{self.path}: {self.reason}" if self.path else self.reason)


class Faulty(TenantsError):
    """Files say what makes no sense; every fault is named and nothing was written."""

    code = "invalid"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


class Stale(TenantsError):
    """It is not as it was when the caller read it, so nothing was written. Read again and decide again."""

    code = "stale"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"the {kind} {name!r} was changed since it was read")


class InUse(TenantsError):
    """Something else needs it, so it stays."""

    code = "in_use"

    def __init__(self, kind: str, name: str, by: str) -> None:
        super().__init__(f"the {kind} {name!r} is in use by {by}")
        self.kind = kind


class Reused(TenantsError):
    """The idempotency key was used for something else; nothing was written."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request; take a new one")


class Repeated(TenantsError):
    """It was done already under the same idempotency key; the receipt says what came of it. Never leaves the process."""

    code = "repeated"

    def __init__(self) -> None:
        super().__init__("this was done already")


class Unreadable(TenantsError):
    """A stored row is damaged, or of a version that this program does not know. It opens no door."""

    code = "unreadable"

    def __init__(self, private: str) -> None:
        super().__init__("a stored record cannot be read by this version", private=private)


class Conflict(TenantsError):
    """Somebody else was faster, so nothing was written. Read again and decide again."""

    code = "conflict"

    def __init__(self, private: str = "") -> None:
        super().__init__("somebody else changed this meanwhile; try again", private=private)


class Moved(TenantsError):
    """Others changed something since somebody looked, so that what was shown is not what would be done; nothing was written."""

    code = "conflict"

    def __init__(self, changes: Iterable[tuple[str, int, str]]) -> None:
        """Who changed when, in microseconds since 1970, what; in their order."""
        by: dict[tuple[str, str], list[str]] = {}
        for actor, at_us, what in changes:
            by.setdefault(
                (actor, f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"), []
            ).append(what)
        who = "; ".join(f"{actor} changed {_some(what)} at {when}" for (actor, when), what in by.items())
        super().__init__(
            f"nothing was applied, as this was changed meanwhile: {who or 'it is not known by whom'}. Run it again"
        )


_MOST_NAMED = 5


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


class TableUnavailable(TenantsError):
    """The table gave no answer: a change may have been made or not, and may be asked for again."""

    code = "table_unavailable"

    def __init__(self, private: str = "") -> None:
        super().__init__("the state store gave no answer; a change may have been made", private=private)


class UnknownFormat(TableUnavailable):
    """The table is not of a format that this program knows. Nothing was written, and asking again does not help."""

    code = "unknown_format"

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence
        self.args = (sentence,)
