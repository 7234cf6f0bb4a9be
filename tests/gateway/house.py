"""The rooms of the request path, real ones, over worlds in memory: what the pipeline's tests walk through."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from itertools import count
from pathlib import Path

import msgspec

from gateway.audit.ledger import Knobs, Ledger
from gateway.audit.ports import SegmentStore
from gateway.audit.record import DenialBody, OutcomeBody
from gateway.audit.sealing import Keyring
from gateway.audit.segment import StoredRecord, scan
from gateway.auth.authenticator import Authenticator
from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.networks import Networks
from gateway.auth.tokens import Tokens
from gateway.authz.cedar import Authorizer
from gateway.authz.control import ControlAuthorizer
from gateway.authz.current import Current
from gateway.call import Endpoint, InferenceCall, Outgoing, Reply, Standing
from gateway.cluster.feed import Feed
from gateway.kept.answer import Answer
from gateway.kept.capturing import Captures
from gateway.loops import running
from gateway.pipeline import Pipeline
from gateway.privacy.mask import Screen
from gateway.scaling.board import Board
from gateway.scaling.registry import ColdPhase, Event, Observer, Registry
from gateway.scaling.sequences import Sequences
from gateway.scaling.throttler import Throttler
from gateway.telemetry.meter import Meter
from tenants.acts import Act
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.issuers import TenantIssuer
from tenants.keys import Secret
from tenants.model import Model
from tenants.plans import Limits, Plan, Rate
from tests.gateway.admission.alone import limiter, spending
from tests.worlds.blobs import BlobWorld
from tests.worlds.elastic import Whole, whole
from tests.worlds.issuer import IssuerWorld, key_sets
from tests.worlds.keyring import KeyringWorld
from tests.worlds.segments import SegmentWorld
from tests.worlds.table import MemoryTable
from tests.worlds.triton import ScalerWorld, TritonWorld

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
NOW_US = 1_700_000_000_000_000


@dataclass(slots=True)
class Client:
    """The client's side of one call: what it has seen, in order. A slow one has yet to read what it was told before."""

    events: list[str] = field(default_factory=list)
    body: bytes = b""
    status: int = 0
    standing: Standing = ()
    reads: asyncio.Event | None = None
    started: bool = False
    tokens: int = 0
    guessed_tokens: int = 0
    pieces: int = 0
    has_failed: bool = False
    told: Answer | None = None

    async def start(self, reply: Reply, standing: Standing) -> None:
        self.status, self.standing = reply.status, standing
        self.events.append("start")
        if self.reads is not None:
            await self.reads.wait()
        self.started = True

    def take(self, piece: bytes) -> None:
        self.body += piece
        self.events.append("chunk")

    async def end(self) -> int:
        self.events.append("end")
        return self.status

    async def replay(self, answer: Answer, standing: Standing) -> int:
        self.events.append("replay")
        self.status, self.body, self.standing, self.started = answer.status, answer.body, standing, True
        return answer.status


@dataclass(slots=True)
class Body:
    """A payload that is here already. `held` lets a test stop it before it is read."""

    content: bytes = b'{"inputs":[]}'
    declared_bytes: int | None = None
    received_bytes: int = 0
    held: asyncio.Event | None = None

    @property
    def fingerprint(self) -> bytes:
        return sha256(self.content).digest()

    async def judge(self, limit_bytes: int, tenant_id: str, screen: Screen | None) -> Outgoing:
        if self.held is not None:
            await self.held.wait()
        self.received_bytes = len(self.content)
        return Outgoing(head=self.content)


@dataclass(slots=True)
class House:
    pipeline: Pipeline
    directory: Directory
    segments: SegmentWorld
    scaler: ScalerWorld
    key: Secret
    feed: Feed
    issuer: IssuerWorld
    blobs: BlobWorld
    capture_keys: KeyringWorld
    captures: Captures
    board: Board
    _requests: "count[int]" = field(default_factory=lambda: count(1))

    def call(
        self,
        model: str = "digits",
        *,
        key: Secret | None = None,
        endpoint: Endpoint = "infer",
        **given: object,
    ) -> InferenceCall:
        payload = given.get("payload") or Body()
        seconds = given.get("seconds", 60.0)
        assert isinstance(payload, Body)
        assert isinstance(seconds, float)
        return InferenceCall(
            request_id=f"request-{next(self._requests)}",
            model=model,
            version="",
            credential=key or self.key,
            address="192.0.2.1",
            protocol="test",
            payload=payload,
            deadline=self.pipeline.clock() + seconds,
            endpoint=endpoint,
        )

    async def settled(self) -> None:
        """Return once everything that was said to the ledger is durable."""
        ledger = self.pipeline.ledger
        while (
            ledger.counters.records
            < ledger.counters.intents + ledger.counters.outcomes + ledger.counters.denials
        ):
            await asyncio.sleep(0.001)

    async def settled_intents(self, number: int) -> None:
        """Return once so many intents are durable."""
        while len(self.records("intent")) < number:
            await asyncio.sleep(0.001)

    async def settled_outcomes(self, number: int) -> None:
        """Return once so many outcomes are durable."""
        while len(self.records("outcome")) < number:
            await asyncio.sleep(0.001)

    async def lost(self) -> None:
        """Return once the audit log has failed."""
        while not self.pipeline.ledger.counters.failures:
            await asyncio.sleep(0.001)

    async def captured(self, number: int) -> None:
        """Return once of so many captures it is known what became of them."""
        while self.captures.stored + self.captures.lost.total() < number:
            await asyncio.sleep(0.001)

    def records(self, kind: str) -> list[StoredRecord]:
        found = []
        for segment, data in self.segments.everything().items():
            for commit in scan(segment, data).commits:
                found += [record for record in commit.records if record.entry.kind == kind]
        return found

    def outcomes(self) -> list[str]:
        return [
            msgspec.json.decode(record.body or b"", type=OutcomeBody).status
            for record in self.records("outcome")
        ]

    def denials(self) -> list[str]:
        return [
            msgspec.json.decode(record.body or b"", type=DenialBody).reason
            for record in self.records("denial")
        ]


class Silence:
    """An Observer that counts nothing."""

    def phase(self, phase: ColdPhase, seconds: float) -> None:
        pass

    def happened(self, event: Event, name: str) -> None:
        pass


def elastic(
    scaler: ScalerWorld,
    models: Callable[[], Mapping[str, Model]],
    fleets: Callable[[], Mapping[str, Fleet]],
    observer: Observer | None = None,
    most_waiting: int = 1_000,
) -> tuple[Throttler, Whole]:
    """A throttler, and what gives it places once it runs."""
    throttler = Throttler(
        Registry(), asyncio.get_running_loop().time, models, observer or Silence(), most_waiting
    )
    return throttler, whole(MemoryTable(), scaler, throttler, Board(), models=models, fleets=fleets)


def capturing(keys: KeyringWorld, blobs: BlobWorld, draw: Callable[[], float] = lambda: 0.0) -> Captures:
    """What puts captures there; each call is one of a sample, unless `draw` says another number."""
    clock = asyncio.get_running_loop().time
    return Captures(keys, blobs, draw=draw, clock=clock, entropy=secrets.token_bytes)


@cache
def _loaded() -> Current:
    return Current.load(POLICIES)


def in_force() -> Current:
    """The policies as loaded: parsed and rehearsed once, which takes the longest of a house; what was decided and counted is its own."""
    loaded = _loaded()
    inference, control = (
        type(it)(it._schema, it._policies, it.version) for it in (loaded.inference, loaded.control)
    )
    assert isinstance(inference, Authorizer)
    assert isinstance(control, ControlAuthorizer)
    return Current(POLICIES, inference, control, _in_force=loaded._in_force, _seen=loaded._seen)


LIMITS = Limits(body_bytes=1000, requests_per_second=Rate(rate=1000, burst=1000), concurrent_requests=5)


@asynccontextmanager
async def house(
    *worlds: TritonWorld,
    limits: Limits = LIMITS,
    knobs: Knobs | None = None,
    keyring: Keyring | None = None,
    store: SegmentStore | None = None,
) -> AsyncIterator[House]:
    """Tenant acme with a key, and the models digits (everyone's) and private (of another tenant). `store`: of the log, else in memory."""
    # long because it is the list of the rooms, in their order
    loop = asyncio.get_running_loop()
    directory = Directory(MemoryTable(), secrets.token_bytes)
    await directory.values.put(Plan("team", 1, limits), act=Act("test", NOW_US))
    models = str(ROOT / "infra" / "models")
    await directory.values.put(Fleet("local"), act=Act("test", NOW_US))
    for tenant in ("acme", "other"):
        await directory.tenants.create(tenant, "team", act=Act("test", NOW_US))
    await directory.values.put(Model("", "digits", models, "*"), act=Act("test", NOW_US))
    await directory.values.put(Model("", "private", models, ("other",)), act=Act("test", NOW_US))
    minted = await directory.keys.create("acme", act=Act("test", NOW_US))
    issuer = IssuerWorld()
    trusted = TenantIssuer(issuer.url, issuer.audience, f"{issuer.url}/jwks", roles_claim="roles")
    await directory.issuers.put("acme", [trusted], Act("test", NOW_US))
    known = Known(loop.time)
    feed = Feed(directory, known)
    look_ups = LookUps(directory, known, feed, Networks(None, loop.time))
    await feed.look()
    segments, scaler = SegmentWorld(), ScalerWorld(list(worlds))
    ids, meter = count(1), Meter()
    blobs, capture_keys = BlobWorld(), KeyringWorld()
    captures = capturing(capture_keys, blobs)
    throttler, parts = elastic(scaler, known.models, known.fleets, meter)
    async with Ledger.open(
        store or segments,
        clock=lambda: NOW_US,
        new_id=lambda: f"id{next(ids):06d}",
        knobs=knobs or Knobs(retry_seconds=0.01),
        keyring=keyring,
    ) as ledger:
        pipeline = Pipeline(
            auth=Authenticator(
                known,
                look_ups,
                Tokens(look_ups, key_sets(issuer, known, loop.time), lambda: NOW_US),
                lambda: NOW_US,
            ),
            known=known,
            policies=in_force(),
            limiter=limiter(loop.time),
            spending=spending(loop.time),
            ledger=ledger,
            throttler=throttler,
            sequences=Sequences(throttler, loop.time, random.Random(7).randrange),
            clock=loop.time,
            now_us=lambda: NOW_US,
            meter=meter,
            captures=captures,
        )
        async with (
            running(autoscaler=parts.autoscaler.run(), follower=parts.follower.run(), committer=ledger.run()),
            captures.writing(),
        ):
            made = (pipeline, directory, segments, scaler, minted.secret, feed, issuer)
            yield House(*made, blobs, capture_keys, captures, parts.autoscaler.board)
    assert segments.misuses == []
