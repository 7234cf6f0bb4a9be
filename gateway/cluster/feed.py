"""What changed in the directory: each gateway reads the order of changes and drops what is not as it was.

A look costs one small read, and more only if something was changed. What is in a record says what that was:

    key, tenant, account, plan, privacy      the keys that it concerns are read again; those that cannot be in good time are dropped
    model, fleet, documents                  the catalogue is read anew, as of one instant
    tenant, plan, privacy, issuer, member    what tokens are judged by, and the tokens that were, are dropped
    certificate                              those who were known by one are dropped
    datakey                                  `rekeyed` is told whose
    capture                                  nothing: none is held here

What a look has found is read once more in the next one: a table may show the rows of one transaction one after the other, and the number
of a change before what it changed.

Whoever is behind empties its caches: a gap in the numbers, a record that cannot be read, a kind that is not known here, too many at once,
or numbers that went back (a table restored from its back-up). A look that got no answer changes nothing but is remembered, so that
requests do not each ask a silent table again; how long they go on without an answer is for `Known` to say.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.auth.known import Known
from tenants.directory import Directory
from tenants.errors import Conflict, TableUnavailable, Unreadable
from tenants.events import Changed, tenants_of

log = logging.getLogger(__name__)

OF_KEYS: Final = frozenset({"key", "tenant", "account", "plan", "privacy"})
OF_THE_CATALOGUE: Final = frozenset({"model", "fleet", "documents"})
OF_TOKENS: Final = frozenset({"issuer", "member", "certificate"})
"""Beside `tenant`, `plan` and `privacy`, which are of both. A member is told with whose it is: `people` are the
tenants of changed members.
"""
OF_DATA_KEYS: Final = frozenset({"datakey"})
"""Told with whose they are: `keyed` are the tenants of changed data keys."""
OF_NOTHING: Final = frozenset({"capture"})
MOST_RECORDS: Final = 1_000
"""Behind more changes than this it is cheaper to know nothing, and to learn what is asked for."""
_REREAD_AT_ONCE: Final = 100

Subjects = Mapping[str, set[str]]
"""What was changed: ids by their kind."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The number of the last change, the one that the next look begins behind, and the known keys that are to be read again."""

    head: int
    settled: int | None
    concerned: list[str]


@dataclass(slots=True)
class Feed:
    """`answer_seconds` is how long the table may take for a look, and once more for the keys that it concerns: longer is no answer.
    `renewed` is called when the catalogue is another. Not shared between loops.
    """

    directory: Directory
    known: Known
    answer_seconds: float = 1.0
    renewed: Callable[[], None] = lambda: None
    rekeyed: Callable[[set[str] | None], None] = lambda _: None
    """Is told the ids of the tenants whose data keys are not as they were; None: nobody can tell whose."""
    sequence: int | None = None
    """The number of the last change that is known here; None before the first look."""
    is_answered: bool = True
    _settled: int | None = None
    """Behind this one a look reads the records: what the look before it found is among them."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def look(self) -> None:
        """All that was changed before this began is known, or `is_answered` is false. Raises nothing that the table does."""
        async with self._turn:
            await self._look()

    async def catch_up(self) -> None:
        """A look that is recent enough was answered, or was not. Who waits for the same one does so together."""
        while self.known.is_due:
            async with self._turn:
                if self.known.is_due:
                    await self._look()

    async def _look(self) -> None:
        started = self.known.clock()
        try:
            async with asyncio.timeout(self.answer_seconds):
                found = await self._read()
            await self._reread(found.concerned)
        except (TableUnavailable, Unreadable, TimeoutError) as fault:
            self._note(fault)
        else:
            self.sequence, self._settled = found.head, found.settled
            self._note(None)
        self.known.looked(started, answered=self.is_answered)

    async def _read(self) -> "_Found":
        """What is new, and known but for the keys that it concerns; they are dropped where this raises."""
        head = await self.directory.journal.last()
        if head == self.sequence == self._settled:
            return _Found(head, head, [])
        subjects = await self._subjects(head)
        self.known.since = head
        if subjects is None:
            self.known.empty()
            self.rekeyed(None)
        elif "keyed" in subjects:
            self.rekeyed(subjects["keyed"])
        concerned = [] if subjects is None else self.known.concerned(subjects)
        if subjects is None or subjects.keys() & OF_THE_CATALOGUE:
            try:
                await self._read_catalogue()
            except BaseException:
                self.known.forget(concerned)
                raise
        return _Found(head, head if subjects is None else self.sequence, concerned)

    async def _subjects(self, head: int) -> Subjects | None:
        """What was changed since the look before the last; None: nobody can tell."""
        if self.sequence is None or self._settled is None:
            return None
        if head < self.sequence or head - self._settled > MOST_RECORDS:
            log.warning("the directory is at change %d and this gateway at %d", head, self.sequence)
            return None
        try:
            records = await self.directory.journal.changes(self._settled, MOST_RECORDS)
        except Unreadable as fault:
            log.warning("a record of what changed cannot be read: %s", fault)
            return None
        numbers = [record.sequence for record in records]
        if numbers != list(
            range(self._settled + 1, self._settled + 1 + max(len(records), head - self._settled))
        ):
            log.warning("records of changes behind %d are gone", self._settled)
            return None
        return subjects_of(records)

    async def _reread(self, concerned: Sequence[str]) -> None:
        """They are as they are now. Those for which there was no time, or no answer, are dropped: whoever has one asks for it."""
        left = list(concerned)
        try:
            async with asyncio.timeout(self.answer_seconds):
                while left:
                    found = await self.directory.keys.reread(left[-_REREAD_AT_ONCE:])
                    del left[-_REREAD_AT_ONCE:]
                    for digest, credentials in found.items():
                        self.known.learn(digest, credentials)
        except (TableUnavailable, TimeoutError) as fault:
            log.warning("%d keys that a change concerns were dropped: %s", len(left), fault or "no answer")
        finally:
            self.known.forget(left)

    async def _read_catalogue(self) -> None:
        """The models and fleets of one instant; where changes never stop, each as it is now, and the next look reads them again."""
        values = self.directory.values
        try:
            found = await values.catalogue()
            models, fleets = found.models, found.fleets
        except (Conflict, Unreadable) as fault:
            log.warning("models and fleets are read one by one: %s", fault)
            models = await values.models()
            fleets = await values.fleets()  # after the models, so that a new model's fleet is among them
        if self.known.catalogue(models, fleets):
            self.renewed()

    def _note(self, fault: Exception | None) -> None:
        """An outage is told when it begins and when it ends."""
        if fault is not None and self.is_answered:
            log.warning("the directory gave no answer: %s", fault or f"none in {self.answer_seconds:g} s")
        elif fault is None and not self.is_answered:
            log.warning("the directory answers again")
        self.is_answered = fault is None


def subjects_of(records: Iterable[Changed]) -> Subjects | None:
    """None where one of them is of a kind that is not known here."""
    found: dict[str, set[str]] = {}
    for record in records:
        for subject in record.subjects:
            kind, _, name = subject.partition("/")
            found.setdefault(kind, set()).add(name)
            if kind == "member":
                found.setdefault("people", set()).update(tenants_of(record))
            elif kind == "datakey":
                found.setdefault("keyed", set()).update(tenants_of(record))
    known = OF_KEYS | OF_THE_CATALOGUE | OF_TOKENS | OF_DATA_KEYS | OF_NOTHING | {"people", "keyed"}
    return found if found.keys() <= known else None
