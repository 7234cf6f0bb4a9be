"""The data keys that this process may use now: made when a tenant first needs one, unwrapped by the KeyService, and never longer here than
they may be.

    who says so                                    for how long
    the directory, that a key is to be used        CONFIRM_SECONDS after a look that was answered, by the feed or for this
    `destroys_us` of the key                       until that microsecond, whatever else is known
    the KeyService, by unwrapping it               `cache_seconds`; after `refresh_seconds` it is asked anew, beside the requests

Fails closed: what needs a key that is not here is refused (KeysUnavailable: 503), and nothing is stored in the clear instead. A failed call
of the KeyService or of a table is not made again before `retry_seconds`, and all who wait for one key wait for one call. KeyRefused is of
that one tenant.
"""

import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, TypeVar, get_args

from gateway.envelope import wrapped
from gateway.envelope.flights import Flights, Place
from gateway.envelope.keys import KEY_BYTES, Context, DataKey, Material, Purpose
from gateway.envelope.ports import KeyRefused, KeyService, KeysUnavailable
from gateway.envelope.wrapped import Wrapped, wrapped_at
from gateway.loops import Spawn, at_once
from tenants import data_keys
from tenants.acts import Act
from tenants.data_keys import DataKeyRecord
from tenants.directory.data_keys import DataKeys
from tenants.errors import NotFound, TenantsError
from tenants.ports import Delete, Put, Table

CONFIRM_SECONDS: Final = 60.0
"""So long after the directory was last looked at a key may still be used: a destroyed one opens nothing after that in any process."""
MOST_USES: Final = 2**32
"""Sealings by one process under one data key, then it is rotated. Each has a key of its own from 256 random bits of salt, so that far more
would be safe; this is the bound that NIST SP 800-38D sets where a nonce is random, and it holds if ever a key is used as it is."""
MOST_AT_ONCE: Final = 16
"""Keys that are unwrapped anew at a time, beside the requests: of a KeyService that takes 5 s for each, some 750 in the 4 minutes that are
left of the cache's limit."""
ENDED: Final = -math.inf
"""Until when a destroyed key may be used."""
ACTOR: Final = "gateway:keyring"
_LOOKS: Final = 20

_Answer = TypeVar("_Answer")

_log: Final = logging.getLogger(__name__)


class KeyDestroyed(Exception):
    """There is no such key, for ever: what it sealed cannot be read by anybody. The text is for operators."""


class Lease(NamedTuple):
    """A key that seals, and until when (seconds, on the keyring's clock) it is that, as long as the keyring's `version` is this one."""

    key: DataKey
    until: float
    version: int


@dataclass(frozen=True, slots=True)
class Knobs:
    cache_seconds: float = 300.0
    refresh_seconds: float = 60.0
    retry_seconds: float = 5.0
    most_keys: int = 10_000
    """Unwrapped keys here at once, and tenants whose keys are known; the longest unused one goes."""
    most_uses: int = MOST_USES


@dataclass(slots=True)
class _Held:
    """An unwrapped key, since when it is (seconds), and how often it was given to seal with."""

    key: DataKey
    since: float
    uses: int = 0
    is_used: bool = True
    """Since it was last unwrapped: only such a key is unwrapped anew."""


@dataclass(slots=True)
class _Known:
    """A tenant's keys as the directory had them at that time (seconds)."""

    read_at: float
    keys: dict[str, DataKeyRecord]
    newest: dict[str, DataKeyRecord]


@dataclass(slots=True)
class Keyring:
    """`clock` gives seconds, on the clock of `confirmed_at`: since when all that the feed told is known. `now_us` is the time, `entropy`
    gives that many random bytes, fit for keys. `spawn` starts the calls, which go on when who asked first is gone. Not shared between
    loops.
    """

    directory: DataKeys
    table: Table
    service: KeyService
    clock: Callable[[], float]
    confirmed_at: Callable[[], float]
    now_us: Callable[[], int]
    entropy: Callable[[int], bytes]
    spawn: Spawn
    knobs: Knobs = field(default_factory=Knobs)
    calls: int = 0
    failures: int = 0
    """Of the KeyService."""
    version: int = 0
    """Moves with all that the feed tells, and with a key that is refused or gone: what was read or leased before it may be so no longer."""
    _held: OrderedDict[Place, _Held] = field(default_factory=OrderedDict)
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _flights: Flights = field(init=False)

    def __post_init__(self) -> None:
        expected = (KeysUnavailable, KeyRefused, KeyDestroyed)
        knobs = self.knobs
        self._flights = Flights(self.spawn, self.clock, knobs.retry_seconds, knobs.most_keys, expected)

    # What is asked

    def held(self, tenant_id: str, purpose: Purpose) -> DataKey | None:
        """The key that seals, if it is here and may be used this moment. Waits for nothing."""
        lease = self.lease(tenant_id, purpose)
        return lease.key if lease else None

    def lease(self, tenant_id: str, purpose: Purpose) -> Lease | None:
        """The same, and for how long: for who derives a key of its own from it and counts what that seals. One use of it."""
        known = self._confirmed(tenant_id)
        record = known.newest.get(purpose) if known else None
        if known is None or record is None:
            return None
        found = self._usable(record)
        if found is None or found.uses >= self.knobs.most_uses:
            return None
        found.uses += 1
        until = min(self._lasts(known, record.id), found.since + self.knobs.cache_seconds)
        return Lease(found.key, until, self.version)

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        """The key that seals, durably known; made if the tenant has none. Raises KeysUnavailable, KeyRefused."""
        for _ in range(_LOOKS):
            if (found := self.held(tenant_id, purpose)) is not None:
                return found
            await self._flights.join((tenant_id, purpose), partial(self._get, tenant_id, purpose))
        raise KeysUnavailable(f"the {purpose} key of {tenant_id} is changed again and again")

    async def opening(self, tenant_id: str, key_id: str) -> DataKey:
        """The key of this id, active or retired, or while its destruction waits. Raises KeysUnavailable, KeyRefused, KeyDestroyed."""
        for _ in range(_LOOKS):
            if (found := self._opener(tenant_id, key_id)) is not None:
                return found
            await self._flights.join((tenant_id, key_id), partial(self._open, tenant_id, key_id))
        raise KeysUnavailable(f"the key {key_id} is changed again and again")

    def lasts(self, tenant_id: str, key_id: str) -> float | None:
        """Until when, on `clock`, what was derived from this key may be used by what the directory says, whether or not the key is here;
        ENDED: it is destroyed. None: nobody can tell this moment. Waits for nothing.
        """
        known = self._confirmed(tenant_id)
        return None if known is None else self._lasts(known, key_id)

    async def lasting(self, tenant_id: str, key_id: str) -> float:
        """The same, and the directory is asked if need be. Raises KeysUnavailable."""
        return self._lasts(await self._read(tenant_id), key_id)

    # What is told

    def changed(self, tenant_ids: Collection[str] | None) -> None:
        """Keys of these tenants are not as they were; None: nobody can tell whose."""
        self.version += 1
        if tenant_ids is None:
            self._known.clear()
        for tenant_id in tenant_ids or ():
            self._known.pop(tenant_id, None)

    async def refresh(self) -> None:
        """Beside the requests: what may not be used any more is here no longer, and what is old and used is unwrapped anew, the oldest
        first and so many at a time that others are still called for.
        """
        await self._drop()
        oldest = sorted(self._held.items(), key=lambda it: it[1].since)
        await at_once(MOST_AT_ONCE, (self._renew(place, held) for place, held in oldest))

    def __len__(self) -> int:
        """Unwrapped keys that are here."""
        return len(self._held)

    # How it is done

    async def _renew(self, place: Place, held: _Held) -> None:
        known = self._confirmed(place[0])
        record = known.keys.get(place[1]) if known else None
        if record is None or not held.is_used or self.clock() - held.since < self.knobs.refresh_seconds:
            return
        with suppress(KeysUnavailable, KeyRefused, KeyDestroyed):  # told and counted where it failed
            await self._flights.join(place, partial(self._unwrap, record))

    async def _drop(self) -> None:
        """Before any KeyService is waited for. Of a tenant that asks for nothing since its keys changed, the directory is asked here, while
        it gives answers to the feed.
        """
        for place, held in list(self._held.items()):
            if self.clock() - held.since >= self.knobs.cache_seconds:
                self._held.pop(place, None)
        for place in list(self._held):
            known = self._confirmed(place[0])
            if known is None and self.clock() < self.confirmed_at() + CONFIRM_SECONDS:
                with suppress(KeysUnavailable):  # of this tenant alone; it goes with its time
                    known = await self._read(place[0])
            record = known.keys.get(place[1]) if known else None
            if record is not None and data_keys.state(record, self.now_us()) == "destroyed":
                self._held.pop(place, None)

    def _confirmed(self, tenant_id: str) -> _Known | None:
        known = self._known.get(tenant_id)
        if known is None or self.clock() >= max(known.read_at, self.confirmed_at()) + CONFIRM_SECONDS:
            return None
        self._known.move_to_end(tenant_id)
        return known

    def _lasts(self, known: _Known, key_id: str) -> float:
        record, now_us = known.keys.get(key_id), self.now_us()
        if record is None or data_keys.state(record, now_us) == "destroyed":
            return ENDED
        until = max(known.read_at, self.confirmed_at()) + CONFIRM_SECONDS
        if record.destroys_us is None:
            return until
        return min(until, self.clock() + (record.destroys_us - now_us) / 1_000_000)

    def _usable(self, record: DataKeyRecord) -> _Held | None:
        place = (record.tenant_id, record.id)
        found = self._held.get(place)
        if found is None or self.clock() >= found.since + self.knobs.cache_seconds:
            return None
        if data_keys.state(record, self.now_us()) == "destroyed":
            del self._held[place]
            return None
        self._held.move_to_end(place)
        found.is_used = True
        return found

    def _opener(self, tenant_id: str, key_id: str) -> DataKey | None:
        known = self._confirmed(tenant_id)
        record = known.keys.get(key_id) if known else None
        found = self._usable(record) if record else None
        return found.key if found else None

    async def _get(self, tenant_id: str, purpose: Purpose) -> None:
        """One step towards a key that seals: a worn one is retired, an absent one made, an active one unwrapped."""
        record = (await self._read(tenant_id)).newest.get(purpose)
        if record is None:
            await self._make(tenant_id, purpose)
            return
        held = self._held.get((tenant_id, record.id))
        if held is not None and held.uses >= self.knobs.most_uses:
            await self._directory(
                self.directory.retire(tenant_id, record.id, Act(ACTOR, self.now_us(), "worn"))
            )
            self.changed([tenant_id])
            return
        if self._usable(record) is not None:
            return
        try:
            await self._flights.join((tenant_id, record.id), partial(self._unwrap, record))
        except KeyDestroyed:
            # Its bytes are gone, as after a restore without them: nothing is sealed with it again, and what is sealed next has another.
            act = Act(ACTOR, self.now_us(), "its wrapped key is gone")
            await self._directory(self.directory.retire(tenant_id, record.id, act))
            self.changed([tenant_id])

    async def _open(self, tenant_id: str, key_id: str) -> None:
        """Raises KeyDestroyed."""
        record = await self._record(tenant_id, key_id)
        if data_keys.state(record, self.now_us()) == "destroyed":
            raise KeyDestroyed(f"the data key {key_id} is destroyed")
        if self._usable(record) is None:
            await self._unwrap(record)

    async def _record(self, tenant_id: str, key_id: str) -> DataKeyRecord:
        """Another process may have made the key a moment ago: one that is not known is looked for once more. Raises KeyDestroyed."""
        record = (await self._read(tenant_id)).keys.get(key_id)
        if record is None:
            self.changed([tenant_id])
            record = (await self._read(tenant_id)).keys.get(key_id)
        if record is None:
            raise KeyDestroyed(f"the tenant {tenant_id} has no data key {key_id}")
        return record

    async def _read(self, tenant_id: str) -> _Known:
        """The tenant's keys as they are confirmed, or as they are now."""
        for _ in range(_LOOKS):
            if (known := self._confirmed(tenant_id)) is not None:
                return known
            version, started = self.version, self.clock()
            try:
                found = await self.directory.of(tenant_id)
            except TenantsError as fault:
                raise KeysUnavailable(f"the keys of {tenant_id} cannot be read: {fault}") from fault
            if version != self.version:
                continue
            known = self._known[tenant_id] = _Known(started, found, _newest(found))
            if len(self._known) > self.knobs.most_keys:
                self._known.popitem(last=False)
            return known
        raise KeysUnavailable(f"the keys of {tenant_id} are changed again and again")

    async def _make(self, tenant_id: str, purpose: Purpose) -> None:
        """The tenant has a key for that, which is wrapped and known durably before anything is sealed with it: this one, or another that
        was made meanwhile. A wrapped key that nobody knows is swept (`caretaker`).
        """
        place = (tenant_id, purpose)
        try:
            owner = await self.directory.owner(tenant_id)
        except NotFound as fault:
            raise KeyRefused(str(fault)) from fault
        except TenantsError as fault:
            raise KeysUnavailable(str(fault)) from fault
        now_us = self.now_us()
        material, key_id = Material(self.entropy(KEY_BYTES)), self.directory.journal.new_id("d")
        started = self.clock()
        context = Context(tenant_id, purpose, key_id)
        value = await self._called(place, self.service.wrap(material, context, owner.kms_key))
        at = wrapped_at(tenant_id, key_id)
        made = DataKeyRecord(key_id, tenant_id, purpose, now_us, owner.kms_key)
        try:
            await self.table.transact(Put(at, wrapped.encoded(Wrapped(value, now_us, owner.kms_key)), 0))
        except TenantsError as fault:
            raise KeysUnavailable(f"no wrapped key can be kept: {fault}") from fault
        active = await self._directory(self.directory.add(made, Act(ACTOR, now_us)))
        self.changed([tenant_id])
        if active.id == key_id:
            self._hold(active, material, started)
            return
        with suppress(TenantsError):  # then it is swept
            await self.table.transact(Delete(at, None))

    async def _unwrap(self, record: DataKeyRecord) -> None:
        """The key is here. Raises KeysUnavailable, KeyRefused, KeyDestroyed."""
        place = (record.tenant_id, record.id)
        started = self.clock()
        try:
            row = await self.table.get(wrapped_at(*place))
        except TenantsError as fault:
            raise KeysUnavailable(f"the wrapped keys cannot be read: {fault}") from fault
        if row is None:
            self._lose(place)
            raise KeyDestroyed(f"the wrapped data key {record.id} is gone")
        found, context = wrapped.read(row), Context(record.tenant_id, record.purpose, record.id)
        material = await self._called(place, self.service.unwrap(found.wrapped, context, found.with_key))
        self._hold(record, material, started)

    def _hold(self, record: DataKeyRecord, material: Material, since: float) -> None:
        place = (record.tenant_id, record.id)
        before = self._held.pop(place, None)
        uses = before.uses if before else 0
        self._held[place] = _Held(DataKey(record.id, material), since, uses, is_used=before is None)
        if len(self._held) > self.knobs.most_keys:
            self._held.popitem(last=False)

    def _lose(self, place: Place) -> None:
        """The key may not be used from now on, whatever time it had."""
        self.version += 1
        self._held.pop(place, None)

    async def _called(self, place: Place, call: Awaitable[_Answer]) -> _Answer:
        """What the KeyService answers."""
        self.calls += 1
        try:
            return await call
        except (KeysUnavailable, KeyRefused) as fault:
            self.failures += 1
            _log.warning("a data key of %s (%s): %s", *place, fault)
            if isinstance(fault, KeyRefused):
                self._lose(place)
            raise

    async def _directory(self, change: Awaitable[_Answer]) -> _Answer:
        try:
            return await change
        except TenantsError as fault:
            raise KeysUnavailable(f"the directory knows no new key: {fault}") from fault


def _newest(keys: Mapping[str, DataKeyRecord]) -> dict[str, DataKeyRecord]:
    found = {purpose: data_keys.newest(keys.values(), purpose) for purpose in get_args(Purpose)}
    return {purpose: key for purpose, key in found.items() if key is not None}
