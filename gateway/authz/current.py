"""The policies in force: all sets of one folder, read at start, and replaced together when the files have become others that are as good.

    a look finds                          then
    what is in force                      nothing
    what the look before did not find     it waits for the next look: somebody may still be writing
    the same as the look before           it is judged as at start, parsed, validated and rehearsed: in force at once, or refused

So a file that an editor has half written is passed over, and a change is in force within two looks. What is refused is logged, counted
and told by a gauge, and what was in force stays: a mistake neither opens a door nor closes one. A set that is replaced takes its
decision cache with it.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Self

from gateway.authz.cedar import Authorizer
from gateway.authz.control import ControlAuthorizer
from gateway.authz.errors import PolicyError
from gateway.authz.policies import Decision, read
from tenants.ports import Question

LOOK_SECONDS: Final = 2.0
SHOWN: Final = 12
"""So much of a version is shown where people read it."""

_FILES: Final = dict.fromkeys((*Authorizer.sources(), *ControlAuthorizer.sources()))

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Looked:
    """What the files were at one look: their texts, and why some have none."""

    texts: Mapping[str, str]
    faults: Mapping[str, str]


@dataclass(slots=True)
class Current:
    """Ask `inference` and `control` anew each time: they are others after a change. Not shared between loops."""

    folder: Path
    inference: Authorizer
    control: ControlAuthorizer
    replaced: int = 0
    refused: int = 0
    """Sets that were refused, each once however often it is looked at."""
    _in_force: Looked | None = None
    _seen: Looked | None = None
    _bad: Looked | None = None
    _undecided_before: int = 0

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The policies of this folder. Raises PolicyError."""
        found = _look(folder)
        return cls(folder, *_made(folder, found), _in_force=found, _seen=found)

    @property
    def version(self) -> str:
        """Of all that is in force, SHA-256 in hex."""
        return sha256(f"{self.inference.version}\0{self.control.version}".encode()).hexdigest()

    @property
    def is_on_disk(self) -> bool:
        """Whether the files are what is in force, as far as they were looked at."""
        return self._seen == self._in_force

    @property
    def undecided(self) -> int:
        """Decisions that Cedar could not make, also of sets that were replaced; each was a denial."""
        return self._undecided_before + self.inference.undecided + self.control.undecided

    def decide(self, question: Question) -> Decision:
        """What the control API is told: an Authorizer of `tenants.ports`."""
        return self.control.decide(question)

    async def look(self) -> None:
        """Look at the files once, on a thread, as a disk may hang. Never raises for what they say."""
        found = await asyncio.to_thread(_look, self.folder)
        is_settled, self._seen = found == self._seen, found
        if not is_settled:
            return
        if found == self._in_force:
            if self._bad is not None:
                self._bad = None
                _log.info("the files in %s are again the policies in force", self.folder)
        elif found != self._bad:
            await self._judge(found)

    async def _judge(self, found: Looked) -> None:
        try:
            inference, control = await asyncio.to_thread(_made, self.folder, found)
        except Exception as fault:  # noqa: BLE001 -- fail closed: whatever is wrong with it, it is not put in force
            self.refused += 1
            self._bad = found
            _log.error("policies refused, and %s stays in force: %s", self.version[:SHOWN], fault)
            return
        before, undecided = self.version, self.undecided
        self.inference, self.control = inference, control  # nobody can ask between the two
        self._in_force, self._bad, self._undecided_before = found, None, undecided
        self.replaced += 1
        _log.info("policies %s replace %s", self.version[:SHOWN], before[:SHOWN])


def _look(folder: Path) -> Looked:
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for name in _FILES:
        try:
            texts[name] = read(folder / name)
        except PolicyError as fault:
            faults[name] = fault.reason
    return Looked(texts, faults)


def _made(folder: Path, found: Looked) -> tuple[Authorizer, ControlAuthorizer]:
    """Raises PolicyError."""
    for name, reason in found.faults.items():
        raise PolicyError(folder / name, reason)
    return Authorizer.of(folder, found.texts), ControlAuthorizer.of(folder, found.texts)
