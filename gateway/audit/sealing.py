"""With what a tenant's bodies are sealed: a series for each tenant, data key and segment of this process."""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.envelope.keys import DataKey, Purpose
from gateway.envelope.series import PURPOSE, Series

MOST_SERIES: Final = 4096  # that are kept, some 2 KiB each


class Keyring(Protocol):
    """Who has the tenants' data keys."""

    def held(self, tenant_id: str, purpose: Purpose) -> DataKey | None:
        """The newest one, if it is here and may be used this moment."""

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        """The newest one; made if the tenant has none. Raises KeysUnavailable and KeyRefused: then nothing of this tenant's is stored."""


class Sealers:
    """One ledger's. Whoever got a series may seal with it also when later ones are made: the bodies name theirs, and no position comes
    twice, whichever segment they land in.
    """

    def __init__(self, keyring: Keyring, segment: Callable[[], str]) -> None:
        """`segment`: the id of the one that takes commits, or took the last ones; one that was left never comes again."""
        self._keyring = keyring
        self._now = segment
        self._segment = ""
        self._turn = 0
        self._series: dict[tuple[str, str], Series] = {}
        self._given: set[tuple[str, str]] = set()

    def held(self, tenant: str) -> Series | None:
        """With what this tenant's bodies are sealed now, if the key is here."""
        key = self._keyring.held(tenant, PURPOSE)
        return None if key is None else self._of(tenant, key)

    async def fetched(self, tenant: str) -> Series:
        """The same, once the key is here. Raises KeysUnavailable and KeyRefused."""
        return self._of(tenant, await self._keyring.key(tenant, PURPOSE))

    def forget(self) -> None:
        """Those that nobody was given since the last time are here no longer, as their key may be destroyed by now. What still waits for
        its outcome has its own. Called twice a minute or more often.
        """
        gone = self._series.keys() - self._given
        self._given.clear()
        for place in gone:
            del self._series[place]
        self._turn += bool(gone)  # one of them may be made again, and then has another name

    def _of(self, tenant: str, key: DataKey) -> Series:
        segment = self._now()
        if segment != self._segment:
            self._segment, self._turn = segment, 0
            self._series.clear()
        place = (tenant, key.id)
        self._given.add(place)
        return self._series.get(place) or self._made(tenant, key)

    def _made(self, tenant: str, key: DataKey) -> Series:
        """What was made before is forgotten when there is too much of it. None is ever made twice: the next ones have another name."""
        if len(self._series) >= MOST_SERIES:
            self._turn += 1
            self._series.clear()
        name = f"{self._segment}-{self._turn}" if self._turn else self._segment
        made = self._series[tenant, key.id] = Series(key, tenant, name)
        return made
