"""Nothing runs twice under one Idempotency-Key of a tenant within 24 hours; what was answered is answered again.

    claim    -> the call may run, and has one of the three ends        or the Answer that it was given before     or a refusal
    keep     -> its answer is in Blobs, sealed, and is given again
    lose     -> it ran, or may have: no answer is kept                 409 from then on
    release  -> it provably did not run: the key is free again

What that rests on is the row of the claim (`claims`), which is written durably before anything is forwarded. An open claim has an answer
if there is one in Blobs: so an answer is kept by one write, and whoever dies before it leaves a claim that nobody can repeat.

Fails closed: while the table, Blobs or the tenant's keys are out of reach a call with a key is refused, and nothing is forwarded.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.envelope.keyring import KeyDestroyed
from gateway.envelope.keys import Context, DataKey, Purpose
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.sealed import SALT_BYTES, NotOpened, key_id, seal, unseal
from gateway.errors import Code, GatewayError
from gateway.kept import answer, claims
from gateway.kept.answer import MOST_BYTES, Answer
from gateway.kept.claims import Claimed, Damaged, Fate, Holder, Places
from gateway.kept.ports import Blobs, BlobsUnavailable
from gateway.loops import Spawn
from tenants.errors import Conflict, TableUnavailable
from tenants.ports import Check, Key, Put, Row, Table

Why = Literal["streamed", "large", "unknown"]
Result = Literal["claimed", "replayed", "under_way", "not_kept", "reused", "unavailable"]
"""What a claim came to."""

PURPOSE: Final[Purpose] = "replies"
_ROUNDS: Final = 8  # each but the last one found that somebody else had changed a row meanwhile
_UNDER_WAY: Final = (
    "a call with this Idempotency-Key is still under way; its answer can be had when it is done"
)
_UNKNOWN: Final = (
    "a call with this Idempotency-Key may have run, and how it ended is not known; it does not run again"
)
_DESTROYED: Final = "a call with this Idempotency-Key has run, and its reply was destroyed with its data key"
_NOT_KEPT: Final[Mapping[Fate, str]] = {
    "streamed": "a call with this Idempotency-Key has run, and its reply, which was streamed, is not kept",
    "large": "a call with this Idempotency-Key has run, and its reply, which was larger than 1 MiB, is not kept",
    "lost": "a call with this Idempotency-Key has run, and its reply could not be kept",
    "unknown": _UNKNOWN,
}

_T = TypeVar("_T")
_log: Final = logging.getLogger(__name__)


class Keyring(Protocol):
    """Who has the tenants' data keys."""

    async def key(self, tenant_id: str, purpose: Purpose) -> DataKey:
        """The one that seals now. Raises KeysUnavailable, KeyRefused."""

    async def opening(self, tenant_id: str, key_id: str) -> DataKey:
        """The one of this id. Raises KeysUnavailable, KeyRefused, KeyDestroyed."""


class _Versions(NamedTuple):
    """Of the rows of a key's places; 0: there is none."""

    before: int = 0
    own: int = 0
    after: int = 0


class Claim(Struct, frozen=True):
    """The right to run one call, once. Only who made it reads it."""

    tenant: str
    digest: str
    at: Key
    version: int
    claimed: Claimed


@dataclass(slots=True)
class Once:
    """`now_us` is the time, whose differences between processes are less than 5 minutes; `entropy` gives that many random bytes; `spawn`
    starts what goes on beside the requests. What the table or Blobs take longer for than `answer_seconds` has no answer.

    `results` counts claims by what they came to, `lost` the answers that could not be kept.
    """

    table: Table
    blobs: Blobs
    keyring: Keyring
    now_us: Callable[[], int]
    entropy: Callable[[int], bytes]
    spawn: Spawn
    answer_seconds: float = 5.0
    results: Counter[Result] = field(default_factory=Counter)
    lost: int = 0

    async def claim(
        self, tenant_id: str, key: str, fingerprint: bytes, request_id: str, seconds: float = 0.0
    ) -> Claim | Answer:
        """The key is this call's, durably, which is over in so many seconds at the latest; or what it was answered before. `fingerprint`:
        what tells this call from any other one. Raises ValueError for a key that is empty or longer than 255 characters, and GatewayError:

        422 idempotency_key_reused    it was another call
        409 already_run               it has no answer that could be given; its sentence says why
        503 sealing_unavailable, idempotency_unavailable    nothing was claimed for good, and nothing may be forwarded
        """
        digest, now_us = claims.digest_of(tenant_id, key), self.now_us()
        try:
            claimed = Claimed(request_id, now_us, now_us + int(seconds * 1e6), b"")
            sealed = await self._seal(tenant_id, _asked(digest, claimed), fingerprint)
            found = await self._claim(tenant_id, digest, replace(claimed, fingerprint=sealed))
            if isinstance(found, Claim):
                self.results["claimed"] += 1
                return found
            return await self._answered(tenant_id, digest, found, fingerprint)
        except (TableUnavailable, BlobsUnavailable, TimeoutError, Damaged) as fault:
            self.results["unavailable"] += 1
            why = str(fault) or f"no answer in {self.answer_seconds:g} s"
            raise GatewayError(Code.IDEMPOTENCY_UNAVAILABLE, private=why, retry_after_seconds=1) from fault
        except (KeysUnavailable, KeyRefused) as fault:
            self.results["unavailable"] += 1
            raise GatewayError(
                Code.SEALING_UNAVAILABLE, private=str(fault), retry_after_seconds=fault.retry_after_seconds
            ) from fault

    async def keep(self, claim: Claim, given: Answer) -> None:
        """It is durably there, and is what the key is answered from now on. Never raises: what cannot be kept is counted and logged, and
        the key is answered 409.
        """
        if len(given.body) > MOST_BYTES:
            await self.lose(claim, "large")
            return
        name = claims.answer_name(claim.digest, claim.claimed)
        try:
            async with asyncio.timeout(self.answer_seconds):
                sealed = await self._seal(claim.tenant, name, answer.encoded(given))
                await self.blobs.put(name, sealed)
        except (BlobsUnavailable, KeysUnavailable, KeyRefused, TimeoutError) as fault:
            self.lost += 1
            _log.warning(
                "the answer of %s is not kept: %s", claim.claimed.request, fault or "it took too long"
            )
            self.spawn(f"noting that {claim.claimed.request} is lost", self._end(claim, "lost"))

    async def lose(self, claim: Claim, why: Why) -> None:
        """The call ran, or may have, and its answer is not kept. Never raises: what cannot be said is `unknown` when its time is over."""
        await self._end(claim, why)

    async def release(self, claim: Claim) -> None:
        """The call provably did not run, and the next one with this key may. Never raises: what cannot be released stays claimed."""
        await self._end(claim, "released")

    async def _claim(self, tenant_id: str, digest: str, claimed: Claimed) -> Claim | Holder:
        """The key is this call's, or whose it is. When there is no answer, or nobody waits for it, the claim is taken back beside this:
        it may have been made.
        """
        at = claims.places(digest, claimed.at_us)
        versions, is_settled = _Versions(), False
        try:
            for _ in range(_ROUNDS):
                claim = Claim(tenant_id, digest, at.own, versions.own + 1, claimed)
                if await self._write(at, versions, claimed):
                    is_settled = True
                    return claim
                rows = await self._timed(self.table.get_many(at))
                holder = claims.holder(rows, claimed.at_us)
                if holder is not None:
                    is_settled = True
                    is_ours = holder.claimed.request == claimed.request  # the answer to its write was lost
                    return replace(claim, version=holder.version) if is_ours else holder
                versions = _Versions(*(_version(rows, key) for key in at))
        finally:
            if not is_settled:
                claim = Claim(tenant_id, digest, at.own, versions.own, claimed)
                self.spawn(f"taking back the claim of {claimed.request}", self._end(claim, "released"))
        raise TableUnavailable("the rows of this key are changed again and again")

    async def _write(self, at: Places, versions: _Versions, claimed: Claimed) -> bool:
        """The claim is written; False: it was not, as a row had changed, or it was and its answer was lost. Which one, a read tells."""
        items = (
            Put(at.own, claims.encoded(claimed), versions.own),
            Check(at.before, versions.before),
            Check(at.after, versions.after),
        )
        try:
            try:
                await self._timed(self.table.transact(*items))
            except (TableUnavailable, TimeoutError):
                await self._timed(self.table.transact(*items))
        except Conflict:
            return False
        return True

    async def _end(self, claim: Claim, fate: Fate) -> None:
        for is_last in (False, True):
            try:
                await self._note(claim, fate)
            except (TableUnavailable, TimeoutError, Damaged) as fault:
                if is_last:
                    why = str(fault) or f"no answer in {self.answer_seconds:g} s"
                    _log.warning("that %s is %s cannot be noted: %s", claim.claimed.request, fate, why)
            else:
                return

    async def _note(self, claim: Claim, fate: Fate) -> None:
        """The claim's row says so, while it is open and this claim's. A write settles what became of one that had no answer; a read would
        not.
        """
        ended, version = claims.encoded(replace(claim.claimed, fate=fate)), claim.version
        for _ in range(_ROUNDS):
            try:
                await self._timed(self.table.transact(Put(claim.at, ended, version)))
            except Conflict:
                row = await self._timed(self.table.get(claim.at))
                found = claims.read(row) if row is not None else None
                if row is None or found is None or found.request != claim.claimed.request:
                    return
                if found.fate != "open":
                    return
                version = row.version
            else:
                return

    async def _answered(self, tenant_id: str, digest: str, holder: Holder, fingerprint: bytes) -> Answer:
        """What the call that has the key was answered. Raises GatewayError, and what the tables and the keyring do."""
        claimed = holder.claimed
        try:
            asked = await self._open(tenant_id, _asked(digest, claimed), claimed.fingerprint)
            if not compare_digest(asked, fingerprint):
                self.results["reused"] += 1
                raise GatewayError(Code.IDEMPOTENCY_KEY_REUSED)
            if claimed.fate != "open":
                raise self._not_kept(_NOT_KEPT.get(claimed.fate, _UNKNOWN))
            name = claims.answer_name(digest, claimed)
            sealed = await self._timed(self.blobs.get(name))
            if sealed is not None:
                found = answer.decoded(await self._open(tenant_id, name, sealed))
                self.results["replayed"] += 1
                return found
        except KeyDestroyed:
            raise self._not_kept(_DESTROYED) from None
        except (NotOpened, ValueError) as fault:
            _log.error("what is kept of %s cannot be read: %s", claimed.request, fault)
            raise self._not_kept(_UNKNOWN) from fault
        if self.now_us() >= claimed.until_us:
            raise self._not_kept(_UNKNOWN)
        self.results["under_way"] += 1
        raise GatewayError(Code.ALREADY_RUN, detail=_UNDER_WAY, retry_after_seconds=1)

    def _not_kept(self, sentence: str) -> GatewayError:
        self.results["not_kept"] += 1
        return GatewayError(Code.ALREADY_RUN, detail=sentence)

    async def _seal(self, tenant_id: str, record: str, plain: bytes) -> bytes:
        key = await self.keyring.key(tenant_id, PURPOSE)
        return seal(key, Context(tenant_id, PURPOSE, record), plain, self.entropy(SALT_BYTES))

    async def _open(self, tenant_id: str, record: str, sealed: bytes) -> bytes:
        key = await self.keyring.opening(tenant_id, key_id(sealed))
        return unseal(key, Context(tenant_id, PURPOSE, record), sealed)

    async def _timed(self, call: Awaitable[_T]) -> _T:
        async with asyncio.timeout(self.answer_seconds):
            return await call


def _asked(digest: str, claimed: Claimed) -> str:
    """The name of a claim's fingerprint, which it is sealed as."""
    return f"asked/{digest}/{claimed.request}"


def _version(rows: Mapping[Key, Row], key: Key) -> int:
    return rows[key].version if key in rows else 0
