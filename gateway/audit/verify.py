"""Is the log what the ledger wrote? Names the first bad record, oldest segment first. Pure.

A closed segment is named by exactly one later one, with the commits and the chain it ends on, so nothing in
it can be changed, dropped or reordered. Its bodies can be forgotten, those of no other segment. What only a
checkpoint kept elsewhere can show is that the newest segments were cut, or which bodies were forgotten too soon.
"""

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import msgspec

from gateway.audit.record import Entry, Previous, SegmentBody
from gateway.audit.segment import Commit, Fault, Scan, Tail, opening, scan


class Report(msgspec.Struct, frozen=True):
    """Counts up to the fault, all of the log without one. `open`: intents that have no outcome yet. `forgotten`: records whose body is,
    so that only the entry could be checked.
    """

    segments: int
    records: int
    intents: int
    outcomes: int
    open: int
    forgotten: int
    fault: Fault | None


def verify(segments: Mapping[str, bytes], *, unfinished: Collection[str] = ()) -> Report:
    """`segments`: id to bytes, each read twice, one at a time. `unfinished`: those that may end in a torn
    write, because a living process is writing them or a dead one left them so; they may grow meanwhile, and
    one whose first commit comes between the two reads counts as empty still.
    """
    openings = {segment: opening(segment, segments[segment]) for segment in segments}
    check = _Check()
    try:
        plan = _plan(openings)
        for segment in plan.order:
            data, is_unfinished = segments[segment], segment in unfinished
            found = scan(segment, data)
            if is_unfinished and openings[segment] is None and opening(segment, data) is not None:
                # It began after the plan was made: its records may follow some that were not read.
                found = found._replace(commits=())
            check.segment(found, _Place(plan, segment, is_unfinished))
    except _Bad as bad:
        check.fault = bad.fault
    return check.report()


def closed(openings: Mapping[str, SegmentBody | None]) -> dict[str, Previous]:
    """The closed segments, each with where a later one says that it ends. None at all of a log whose segments name each other."""
    try:
        return _plan(openings).ends
    except _Bad:
        return {}


class _Bad(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class _Plan(NamedTuple):
    order: tuple[str, ...]  # a segment comes after those it names
    ends: dict[str, Previous]  # where a later segment says that one ends
    openings: Mapping[str, SegmentBody | None]
    faults: dict[str, str]  # what is wrong with the names in a segment's first record


class _Place(NamedTuple):
    plan: _Plan
    segment: str
    may_be_torn: bool

    @property
    def end(self) -> Previous | None:
        return self.plan.ends.get(self.segment)

    @property
    def wrong_opening(self) -> str | None:
        if self.plan.openings[self.segment] is None:
            return "not the first record of a segment"
        return self.plan.faults.get(self.segment)

    @property
    def follows_a_fault(self) -> bool:
        first = self.plan.openings[self.segment]
        return first is not None and any(previous.poisoned for previous in first.previous)


def _plan(openings: Mapping[str, SegmentBody | None]) -> _Plan:
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for segment in sorted(openings):
        first = openings[segment]
        sorter.add(segment, *(p.segment for p in (first.previous if first else ())))
    try:
        order = tuple(segment for segment in sorter.static_order() if segment in openings)
    except CycleError as error:
        raise _Bad(Fault(error.args[1][0], 0, 0, None, "segments name each other")) from error
    ends: dict[str, Previous] = {}
    faults: dict[str, str] = {}
    # Newest first: what a poisoned segment holds beyond its named end does not count, not even its own names.
    for segment in reversed(order):
        first = openings[segment]
        if first is None or (segment in ends and not ends[segment].commits):
            continue
        for previous in first.previous:
            if previous.segment in ends:
                faults[segment] = f"names segment {previous.segment}, which another names too"
            elif previous.segment not in openings and previous.commits:
                faults[segment] = f"names segment {previous.segment}, which is missing"
            ends[previous.segment] = previous
    return _Plan(order, ends, openings, faults)


class _Check:
    """What is known after the segments so far."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self._segments = 0
        self._ids: set[str] = set()
        self._open: set[str] = set()
        self._settled: set[str] = set()
        self._intents = 0
        self._forgotten = 0

    def report(self) -> Report:
        return Report(
            segments=self._segments,
            records=len(self._ids),
            intents=self._intents,
            outcomes=len(self._settled),
            open=len(self._open),
            forgotten=self._forgotten,
            fault=self.fault,
        )

    def segment(self, found: Scan, place: _Place) -> None:
        self._segments += 1
        end = place.end
        commits = found.commits[: end.commits] if end else found.commits
        for commit in commits:
            # An intent may be lost with a poisoned segment; the next one then opens with its unknown outcome.
            is_declaring = commit.sequence == 0 and place.follows_a_fault
            for index, (entry, body) in enumerate(commit.records):
                is_first = commit.sequence == index == 0
                reason = place.wrong_opening if is_first else None
                if entry.kind == "segment" and not is_first:
                    reason = "the first record of a segment, but inside one"
                if body is None and end is None:
                    reason = "its body is forgotten in a segment that no later one names"
                reason = reason or self._entry(entry, is_declaring=is_declaring)
                if reason:
                    raise _Bad(Fault(place.segment, commit.sequence, index, entry.record, reason))
                self._forgotten += body is None
        if end:
            self._ending(found, commits, end)
        elif found.fault and not (found.tail is Tail.TORN and place.may_be_torn):
            raise _Bad(found.fault)

    def _ending(self, found: Scan, commits: tuple[Commit, ...], end: Previous) -> None:
        if len(commits) < end.commits:
            missing = Fault(end.segment, len(commits), None, None, "commits are missing at the end")
            raise _Bad(found.fault or missing)
        if commits and commits[-1].chain.hex() != end.chain:
            last = commits[-1]
            index = len(last.records) - 1
            reason = "the segment ends on another chain than a later one says"
            raise _Bad(Fault(end.segment, last.sequence, index, last.records[index].entry.record, reason))
        if not end.poisoned:
            beyond = found.commits[end.commits :]
            if beyond:
                reason = "a commit beyond the end that a later segment says"
                raise _Bad(Fault(end.segment, end.commits, 0, beyond[0].records[0].entry.record, reason))
            if found.fault:
                raise _Bad(found.fault)

    def _entry(self, entry: Entry, *, is_declaring: bool) -> str | None:
        """What is wrong with it in the light of all before it."""
        if entry.record in self._ids:
            return "a record of this id came before"
        self._ids.add(entry.record)
        if entry.kind == "intent":
            if entry.request in self._open or entry.request in self._settled:
                return "the request has an intent already"
            self._open.add(entry.request)
            self._intents += 1
        elif entry.kind == "outcome":
            if entry.request in self._settled:
                return "the request has an outcome already"
            if entry.request not in self._open and (entry.is_priced or not is_declaring):
                return "an outcome without an intent"
            self._open.discard(entry.request)
            self._settled.add(entry.request)
        return None
