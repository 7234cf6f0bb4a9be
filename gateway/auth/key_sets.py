"""The issuers' key sets: fetched once however many ask, kept, fetched anew while they are in use, and for how long which may be used.

    age of the last try       under 2 x refresh_seconds    the set is used; while somebody asks for it, it is fetched anew once its age
                                                           is refresh_seconds, and after a failure once a cool-down
                              else                         nobody asked for long: the next one waits for a fetch
    age of the last success   over outage_seconds          the set is not used any more, whatever the provider does: 503

Ages are dated from the start of the fetch, on a clock that goes on while the machine sleeps. A key that its provider took back therefore
works for about refresh_seconds, twice that at most, and for outage_seconds while the provider gives no answer. A set that nobody asks for
is not fetched, and after outage_seconds forgotten.

**The cool-down.** Whoever makes up tokens can name any number of keys, and a token with a new key is how a rotation is noticed. So an
unknown key causes a fetch if none was caused so within `cooldown_seconds`, whatever came of that one:

- It is counted for each issuer, from the start of the fetch. So nobody delays a rotation by more than the cool-down and one fetch, and a
  provider sees one fetch a cool-down, from each gateway, beside those that keep the set fresh.
- Those do not count: a rotation just after one of them is noticed at once. Who asks while one is under way waits for it, and if it brought
  nothing new has a fetch made: it may have been answered before the key was there.
- All who ask during a fetch wait for it. During the cool-down the answer comes at once: nothing newer (401) where the last fetch
  succeeded, unavailable (503) where it failed, since nobody knows then what the key is.
- A first fetch starts it too: of an issuer that is down, requests learn so once a cool-down and at once in between.

A fetch is a task of its own: who leaves does not end it for the others, and cannot cause another one.
Fails closed: without a set that may be used there is no key, and no token is accepted.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from gateway.auth.reading import MOST_DOCUMENT_BYTES, MOST_KEYS_BYTES
from tenants.urls import discovery_url

log = logging.getLogger(__name__)


class Unreachable(Exception):
    """What was asked for did not come, or is nothing that may be used; the text is for the operator's log."""


class KeysUnavailable(Exception):
    """No set of this issuer may be used, or it is not known whether there is a newer one; the text is for the operator's log."""


class Fetcher(Protocol):
    async def get(self, url: str, *, insecure: bool, most_bytes: int) -> bytes:
        """The whole body of a JSON answer, from there and nowhere else. Raises Unreachable, for a URL that is not to be fetched too."""


class Digested(Protocol):
    @property
    def digest(self) -> str:
        """Equal for sets with the same keys, and for no others."""


K = TypeVar("K", bound=Digested)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an issuer's keys are. `jwks_url` None: its discovery document says it. `insecure`: http and any address will do."""

    issuer: str
    jwks_url: str | None
    insecure: bool

    def __hash__(self) -> int:
        return hash(self.issuer)  # a string keeps its own: each request looks one up


@dataclass(slots=True)
class _Entry(Generic[K]):
    """Of one source. `failure`: why the last fetch brought nothing."""

    used_at: float
    keys: K | None = None
    serves_until: float = -inf
    fetched_at: float = -inf
    tried_at: float = -inf
    asked_at: float = -inf
    """When a fetch was last started because somebody waits for it: from then on the cool-down counts."""
    failure: str | None = None
    flight: "asyncio.Future[str | None] | None" = None


@dataclass(slots=True)
class KeySets(Generic[K]):
    """`read` and `discover` (a document's issuer and jwks_uri) raise `unreadable`. `clock` gives seconds since the machine was started,
    those that it slept among them; `spawn` starts a task by name. `changed` is told of a source whose set is another than before, or the
    first one here: what was verified with others is void. Not shared between loops."""

    fetcher: Fetcher
    read: Callable[[bytes], K]
    discover: Callable[[bytes], tuple[str, str]]
    unreadable: type[Exception]
    clock: Callable[[], float]
    spawn: Callable[[str, Coroutine[Any, Any, None]], None]
    changed: Callable[[Source], None]
    refresh_seconds: float = 300.0
    cooldown_seconds: float = 10.0
    outage_seconds: float = 3600.0
    fetch_seconds: float = 5.0
    most_sources: int = 1000
    most_refreshes: int = 8
    """At once. Hanging providers hold up the refreshing of others, not the fetches that somebody waits for."""
    fetches: int = 0
    failures: int = 0
    refused: int = 0
    """Askers that were answered by the cool-down."""
    _entries: dict[Source, _Entry[K]] = field(default_factory=dict)
    _refreshing: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fetch_seconds <= self.cooldown_seconds <= self.refresh_seconds <= self.outage_seconds:
            raise ValueError("must be in this order: fetch, cooldown, refresh, outage seconds")

    def held(self, source: Source) -> K | None:
        """What may be used now; None where that is to be fetched first. It counts as used."""
        entry = self._entries.get(source)
        if entry is None:
            return None
        now = entry.used_at = self.clock()
        return entry.keys if now < entry.serves_until else None

    async def current(self, source: Source) -> K:
        """What may be used now, fetched if need be. Raises KeysUnavailable."""
        keys = self.held(source)
        if keys is None:
            entry = self._entry(source)
            failure = await self._landed(entry.flight or self._asked(source, entry))
            keys = self.held(source)
            if keys is None:
                raise KeysUnavailable(failure or "its keys came too late to be used")
        return keys

    async def newer(self, source: Source, than: K) -> K | None:
        """Another set than this, in which the key of a token was not found; None if there is no newer one, or was none a moment ago.

        What it gives may be older than the token, too: ask again with that until the key is there or None comes, which is soon.
        Raises KeysUnavailable where the provider gave no answer, so that nobody can say.
        """
        entry = self._entry(source)
        while True:
            keys = self.held(source)
            if keys is not None and keys.digest != than.digest:
                return keys
            if entry.flight is None and self._is_cooling(entry) and entry.failure is None:
                self.refused += 1
                return None
            failure = await self._landed(entry.flight or self._asked(source, entry))
            if failure is not None:
                raise KeysUnavailable(failure)

    async def refresh(self) -> None:
        """To be called every few seconds: starts fetching what is used and old, longest untried first, and forgets what is not used."""
        now = self.clock()
        for source, entry in [*self._entries.items()]:
            if entry.flight is None and now - entry.used_at >= self.outage_seconds:
                del self._entries[source]
        due = [
            source
            for source, entry in self._entries.items()
            if entry.flight is None
            and entry.keys is not None
            and now - entry.used_at < self.refresh_seconds <= now - entry.fetched_at
            and now - entry.tried_at >= self.cooldown_seconds
        ]
        due.sort(key=lambda source: self._entries[source].tried_at)
        for source in due[: self.most_refreshes - self._refreshing]:
            self._refreshing += 1
            self._fly(source, self._entries[source]).add_done_callback(self._refreshed)

    def _refreshed(self, _: object) -> None:
        self._refreshing -= 1

    def _entry(self, source: Source) -> _Entry[K]:
        """Made if need be, in the place of the one that was not used for longest. None goes within its cool-down, which would be lost."""
        entry = self._entries.get(source)
        if entry is None:
            now = self.clock()
            if len(self._entries) >= self.most_sources:
                idle = [
                    (entry.used_at, source)
                    for source, entry in self._entries.items()
                    if entry.flight is None and now - entry.used_at >= self.cooldown_seconds
                ]
                if not idle:
                    raise KeysUnavailable(f"more than {self.most_sources} issuers are in use at once")
                del self._entries[min(idle, key=itemgetter(0))[1]]
            entry = self._entries[source] = _Entry(used_at=now)
        return entry

    def _is_cooling(self, entry: _Entry[K]) -> bool:
        return self.clock() - entry.asked_at < self.cooldown_seconds

    def _asked(self, source: Source, entry: _Entry[K]) -> "asyncio.Future[str | None]":
        """A fetch that somebody waits for. Raises KeysUnavailable within the cool-down of the last one."""
        if self._is_cooling(entry):
            self.refused += 1
            raise KeysUnavailable(entry.failure or "its keys were fetched a moment ago")
        entry.asked_at = self.clock()
        return self._fly(source, entry)

    async def _landed(self, flight: "asyncio.Future[str | None]") -> str | None:
        """Why it failed, or None. Who is cancelled here leaves the flight to the others."""
        await asyncio.wait([flight], timeout=2 * self.fetch_seconds)
        # Not done: the task was ended before it began, as the gateway stops.
        return flight.result() if flight.done() else "the fetch did not begin"

    def _fly(self, source: Source, entry: _Entry[K]) -> "asyncio.Future[str | None]":
        flight: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.spawn(f"keys of {source.issuer}", self._fetch(source, entry, flight))
        self.fetches += 1
        entry.flight = flight
        entry.tried_at = self.clock()
        return flight

    async def _fetch(self, source: Source, entry: _Entry[K], flight: "asyncio.Future[str | None]") -> None:
        failure: str | None = "the gateway stops"
        try:
            outcome = await self._outcome(source)
            failure = outcome if isinstance(outcome, str) else None
        finally:  # who waits goes on once this task has nothing more to do
            entry.flight = None
            flight.set_result(failure)
        if isinstance(outcome, str):
            self._go_on(source, entry, outcome)
        else:
            self._keep(source, entry, outcome)

    async def _outcome(self, source: Source) -> K | str:
        """Its keys, or why there are none."""
        try:
            async with asyncio.timeout(self.fetch_seconds):
                return await self._read(source)
        except (Unreachable, self.unreadable) as fault:
            return str(fault)
        except TimeoutError:
            return f"no answer in {self.fetch_seconds:g} s"
        except Exception as fault:  # what one issuer answers, whatever it is, does not end the gateway
            log.exception("the keys of %s could not be read", source.issuer)
            return f"{type(fault).__name__} while they were read"

    async def _read(self, source: Source) -> K:
        """OpenID Connect Discovery 1.0, sections 4.1 to 4.3. The document's URL is judged as one of this issuer, by whoever fetches."""
        url = source.jwks_url
        if url is None:
            document = await self.fetcher.get(
                discovery_url(source.issuer), insecure=source.insecure, most_bytes=MOST_DOCUMENT_BYTES
            )
            issuer, url = self.discover(document)
            if issuer != source.issuer:
                raise Unreachable("its discovery document is of another issuer")
        content = await self.fetcher.get(url, insecure=source.insecure, most_bytes=MOST_KEYS_BYTES)
        return self.read(content)

    def _keep(self, source: Source, entry: _Entry[K], keys: K) -> None:
        if entry.failure is not None:
            log.info("the keys of %s are fetched again", source.issuer)
        is_other = entry.keys is None or entry.keys.digest != keys.digest
        if is_other:
            entry.keys = keys
        entry.failure = None
        entry.fetched_at = entry.tried_at
        entry.serves_until = self._end(entry)
        if is_other:
            self.changed(source)

    def _go_on(self, source: Source, entry: _Entry[K], failure: str) -> None:
        """With what is held, for as long as that may be."""
        self.failures += 1
        if failure != entry.failure:  # not once a cool-down
            log.warning("the keys of %s cannot be fetched: %s", source.issuer, failure)
        entry.failure = failure
        entry.serves_until = self._end(entry)

    def _end(self, entry: _Entry[K]) -> float:
        return min(entry.fetched_at + self.outage_seconds, entry.tried_at + 2 * self.refresh_seconds)
