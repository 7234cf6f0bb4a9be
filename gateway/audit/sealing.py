"""With what a tenant's bodies are sealed: a series for each tenant, data key and segment of this process."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from gateway.audit.record import Sealer
from gateway.envelope.keyring import ENDED, Lease
from gateway.envelope.keys import DataKey, Purpose
from gateway.envelope.ports import KeysUnavailable
from gateway.envelope.series import PURPOSE, Series
from gateway.loops import at_once

MOST_SERIES: Final = 4096  # that are kept, some 2 KiB each
_AT_ONCE: Final = 16  # tenants whose keys the directory is asked for

_Place = tuple[str, str]  # the ids of a tenant and a data key


class Keyring(Protocol):
    """Who has the tenants' data keys."""

    def lease(self, tenant_id: str, purpose: Purpose) -> Lease | None:
        """The newest one, if it is here and may be used this moment."""

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        """The newest one; made if the tenant has none. Raises KeysUnavailable and KeyRefused: then nothing of this tenant's is stored."""

    def lasts(self, tenant_id: str, key_id: str) -> float | None:
        """Until when what was derived from it may be used; ENDED: it is destroyed; None: nobody can tell this moment."""

    async def lasting(self, tenant_id: str, key_id: str) -> float:
        """The same, and the directory is asked if need be. Raises KeysUnavailable."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds: what these times are on."""

    @property
    def version(self) -> int:
        """What was leased under another one may be so no longer."""


class _Leased(NamedTuple):
    series: Series
    until: float
    version: int


class Sealers:
    """One ledger's. Whoever got a series may seal with it also when later ones are made: the bodies name theirs, and no position comes
    twice, whichever segment they land in.
    """

    def __init__(self, keyring: Keyring, segment: Callable[[], str]) -> None:
        """`segment`: the id of the one that takes commits, or took the last ones; one that was left never comes again."""
        self._keyring = keyring
        self._clock = keyring.clock
        self._now = segment
        self._segment = ""
        self._turn = 0
        self._series: dict[_Place, Series] = {}
        # By tenant, of the series above: what requests ask for, at no more than a look.
        self._leased: dict[str, _Leased] = {}
        self._given: set[_Place] = set()
        self._alive: WeakKeyDictionary[Series, _Place] = (
            WeakKeyDictionary()
        )  # whoever has them, open calls too
        self._until: dict[_Place, float] = {}

    def held(self, tenant: str) -> Series | None:
        """With what this tenant's bodies are sealed now, if the key is here."""
        leased = self._leased.get(tenant)
        if (
            leased is not None
            and leased.version == self._keyring.version
            and self._clock() < leased.until
            and self._now() == self._segment
        ):
            return leased.series
        if (lease := self._keyring.lease(tenant, PURPOSE)) is None:
            return None
        series = self._of(tenant, lease.key)
        self._leased[tenant] = _Leased(series, lease.until, lease.version)
        return series

    async def fetched(self, tenant: str) -> Series:
        """The same, once the key is here. Raises KeysUnavailable and KeyRefused."""
        return self._of(tenant, await self._keyring.key(tenant, PURPOSE))

    def now(self, tenant: str, given: Sealer | None) -> Sealer | None:
        """With what this tenant's bodies are sealed by whoever was given that before: the same while its key may be used, or else as if
        it asked now. No KeyService is needed for the same.
        """
        held = self.held(tenant)
        if held is given or not isinstance(given, Series) or given.is_closed:
            return held
        return given if self._may((tenant, given.data_key)) else held

    async def look(self) -> None:
        """What seals with a destroyed key is closed, also where a call that is still open has it. Called every few seconds."""
        places = set(self._alive.values())
        self._until = {place: until for place, until in self._until.items() if place in places}
        await at_once(_AT_ONCE, (self._look(place) for place in sorted(places)))

    def forget(self) -> None:
        """Those that nobody was given since the last time are here no longer, as their key may be destroyed by now. What still waits for
        its outcome has its own. Called twice a minute or more often.
        """
        gone = self._series.keys() - self._given
        self._given.clear()
        self._leased.clear()
        for place in gone:
            del self._series[place]
        self._turn += bool(gone)  # one of them may be made again, and then has another name

    async def _look(self, place: _Place) -> None:
        with suppress(
            KeysUnavailable
        ):  # it is used for as long as was said, and closed when the directory says so
            self._until[place] = await self._keyring.lasting(*place)
            if self._until[place] == ENDED:
                self._close(place)

    def _close(self, place: _Place) -> None:
        for series in [it for it, its in self._alive.items() if its == place]:
            series.close()
            del self._alive[series]
        self._leased.pop(place[0], None)
        self._turn += self._series.pop(place, None) is not None
        del self._until[place]

    def _may(self, place: _Place) -> bool:
        """What was said last holds for its time, though the tenant's keys were changed since: most changes concern another one."""
        now = self._clock()
        if now < self._until.get(place, ENDED):
            return True
        until = self._keyring.lasts(*place)
        return until is not None and now < until

    def _of(self, tenant: str, key: DataKey) -> Series:
        segment = self._now()
        if segment != self._segment:
            self._segment, self._turn = segment, 0
            self._clear()
        place = (tenant, key.id)
        self._given.add(place)
        return self._series.get(place) or self._made(tenant, key)

    def _made(self, tenant: str, key: DataKey) -> Series:
        """What was made before is forgotten when there is too much of it. None is ever made twice: the next ones have another name."""
        if len(self._series) >= MOST_SERIES:
            self._turn += 1
            self._clear()
        name = f"{self._segment}-{self._turn}" if self._turn else self._segment
        place = (tenant, key.id)
        made = self._series[place] = Series(key, tenant, name)
        self._alive[made] = place
        if (until := self._keyring.lasts(*place)) is not None:
            self._until[place] = until
        return made

    def _clear(self) -> None:
        self._series.clear()
        self._leased.clear()
