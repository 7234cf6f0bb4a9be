"""What does a member tell who has charge of the Tritons that it sends to? Pure.

partition           sort                 value
reports/<domain>    the member's name    Report: its beat for what drains, what is asked of it, how its calls went

A row of its own beside the member's in `members`: who has charge reads those of its host and no others, they are written when a call
cannot wait, and they may be larger than what every member of every host has to read. Counts go on for the member's whole life, so what
was not read in time is in the next report.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from gateway.scaling.draining import Drain, Spot
from tenants.errors import Unreadable
from tenants.ports import Key, Row

RECENT_SECONDS: Final = 60.0
"""What was used no longer ago is reported."""


class Use(Struct, frozen=True, array_like=True):
    """Of a model here: calls that wait, for a turn or a place, and since when the first does for a place (0: none does); calls under way;
    when the last one came. Times are of the clock of the host, that all in its domain read."""

    waiting: int
    waiting_since: float
    under_way: int
    used_at: float


class Evidence(Struct, frozen=True, array_like=True):
    """Of one load of a model on a replica: calls under way, when the last came; counts of calls, of those that went well, of callers that
    left, of suspicions; failures in a row now."""

    loaded: int
    under_way: int
    used_at: float
    uses: int
    well: int
    left: int
    suspicions: int
    failures: int


class Report(Struct, frozen=True, tag_field="v", tag=1):
    """`number` is another one in each attempt to write it. `acknowledged` are (replica, model, generation). `answers` is the newest
    Document.asks that it was written after.

    Stored as JSON, version 1. A field may be added with a default that means what its absence meant before; any other change is version 2.
    Readers refuse versions that they do not know: such a member is waited for while its row changes, and tells nothing.
    """

    number: int
    lasts_seconds: float
    acknowledged: tuple[tuple[str, str, int], ...] = ()
    models: Mapping[str, Use] = {}
    places: Mapping[str, Mapping[str, Evidence]] = {}
    answers: int = 0

    @property
    def drains(self) -> frozenset[Drain]:
        return frozenset(
            Drain(Spot(replica, model), generation) for replica, model, generation in self.acknowledged
        )


def partition_of(domain: str) -> str:
    return f"reports/{domain}"


def report_at(domain: str, member: str) -> Key:
    return Key(partition_of(domain), member)


def encoded(report: Report) -> bytes:
    return msgspec.json.encode(report)


def read(row: Row) -> Report:
    """Raises Unreadable: fails closed, as the member is waited for."""
    try:
        return msgspec.json.decode(row.value, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Unreadable(f"{row.key}: {fault}") from fault
