"""The rooms of a request, and the doors that clients knock at."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.admission import budgets as budgeting
from gateway.admission.budgets import Budgets
from gateway.admission.limiter import Limiter
from gateway.admission.permitting import Permitting
from gateway.admission.sharing import STEP_SECONDS, Sharing
from gateway.admission.spending import Spending
from gateway.audit.ledger import Ledger
from gateway.auth.known import Known
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.grpc_server import GrpcDoor
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.oip_grpc import OipGrpc
from gateway.frontends.oip_rest import OipRest
from gateway.frontends.openai import OpenAiRest
from gateway.frontends.openai_models import Offers
from gateway.kept.capturing import Captures
from gateway.loops import every, running
from gateway.pipeline import Pipeline
from gateway.process import resident_bytes, used_bytes
from gateway.roles.shared import Shared, readiness_of
from gateway.scaling.elsewhere import Elsewhere
from gateway.scaling.follower import Follower
from gateway.scaling.sequences import Sequences
from gateway.state import (
    boot_clock,
    boot_us,
    clock,
    new_id,
    now_us,
    opened_blobs,
    opened_ledger,
    opened_once,
    opened_usage,
)
from gateway.telemetry.rooms import WorkerRooms, watch_captures, watch_once
from gateway.triton.reach import Reach

_FORGET_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Worker:
    """The doors for clients, and whether calls are served now."""

    door: HttpDoor
    grpc: GrpcDoor
    ledger: Ledger
    known: Known

    def present(self) -> Readiness:
        return readiness(self.ledger, self.known)


@asynccontextmanager
async def opened_worker(shared: Shared) -> AsyncIterator[Worker]:
    """Open, with their loops running, while the block runs. Raises SinkFailed, TableUnavailable, UnknownFormat, BlobsUnavailable."""
    settings, meter, keyring = shared.settings, shared.meter, shared.data_keys.keyring
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(opened_ledger(settings, keyring))
        once = await stack.enter_async_context(opened_once(settings, keyring))
        watch_once(meter, once)
        # Their own threads: a capture holds up nothing else that is kept.
        blobs = await stack.enter_async_context(opened_blobs(settings))
        captures = Captures(keyring, blobs, draw=random.random, clock=clock, entropy=secrets.token_bytes)
        watch_captures(meter, captures)
        life = shared.life
        sharing = Sharing(shared.live, life.name, boot_us, now_us, life.is_dead, life.live)
        call_us = round(settings.http.request_seconds * 1_000_000)
        permitting = Permitting(shared.live, life.name, boot_us, life.is_dead, life.live, call_us)
        limiter = Limiter(sharing, permitting, shared.sweeping.note)
        stack.push_async_callback(limiter.close)
        # Their own threads: nothing that adds up what was used holds up a call that waits for its budget.
        used = await stack.enter_async_context(opened_usage(settings))
        budgets = Budgets(used, life.name, boot_us, now_us, life.is_dead, life.live)
        stack.push_async_callback(budgeting.given_back, budgets)
        spending = Spending(budgets, now_us)
        sequences = Sequences(shared.throttler, clock, secrets.randbelow)
        pipeline = Pipeline(
            auth=shared.auth,
            known=shared.known,
            policies=shared.policies,
            limiter=limiter,
            spending=spending,
            ledger=ledger,
            throttler=shared.throttler,
            sequences=sequences,
            clock=clock,
            now_us=now_us,
            meter=meter,
            tracer=shared.tracer,
            captures=captures,
            once=once,
            stream_idle_seconds=settings.http.stream_idle_seconds,
        )
        # The committer ends last: what is owed to the log does not wait while a Triton stops.
        await stack.enter_async_context(running(committer=ledger.run()))
        await stack.enter_async_context(
            running(
                follower=_follower(shared).run(),
                series=every(_CLOSE_SECONDS, ledger.close_destroyed),
                shares=every(STEP_SECONDS, sharing.step),
                permits=every(STEP_SECONDS, permitting.step),
                budgets=every(budgeting.STEP_SECONDS, budgets.step),
                forget=every(_FORGET_SECONDS, limiter.forget_idle),
                seats=every(_FORGET_SECONDS, spending.forget),
                sweep=every(_SWEEP_SECONDS, sequences.sweep),
            )
        )
        await stack.enter_async_context(captures.writing())
        yield _doors(shared, pipeline)


def _follower(shared: Shared) -> Follower:
    """What this process sends to."""
    reach = Reach.of(shared.settings.upstream.networks)
    shared.nudges.listen(shared.registry.wake.set)
    return Follower(
        table=shared.live,
        domain=shared.domain,
        name=shared.life.name,
        registry=shared.registry,
        throttler=shared.throttler,
        clock=boot_clock,
        tell=shared.nudges.tell,
        elsewhere=lambda spawn: Elsewhere(
            shared.registry,
            shared.throttler,
            boot_clock,
            shared.known.models,
            spawn,
            reach,
            shared.trusted.context,
        ),
    )


def _doors(shared: Shared, pipeline: Pipeline) -> Worker:
    """What clients call, over the rooms; from here on the figures of all of them can be read."""
    settings, known, ledger = shared.settings, pipeline.known, pipeline.ledger
    memory = JsonMemory(settings.http.json_memory_bytes, settings.http.json_head_bytes)
    messages = MessageMemory(
        settings.grpc.memory_bytes, settings.grpc.message_bytes, resident_bytes, used_bytes
    )
    oip = OipRest(pipeline, memory, settings.http.request_seconds, bool(settings.http.model_config))
    openai = OpenAiRest(pipeline, memory, settings.http.request_seconds, Offers(known.models))
    rooms = WorkerRooms(pipeline.limiter, memory, messages, ledger, shared.registry)
    rooms.watched_by(shared.meter)

    def present() -> Readiness:
        return readiness(ledger, known)

    door = HttpDoor(oip, other_paths(oip, present), new_id, openai, shared.control.paths("public"))
    grpc = GrpcDoor(
        OipGrpc(
            pipeline,
            messages,
            new_id,
            present,
            settings.http.request_seconds,
            settings.grpc.stream_calls,
            bool(settings.http.model_config),
        ),
        present,
        new_id,
    )
    return Worker(door, grpc, ledger, known)


def readiness(ledger: Ledger, known: Known) -> Readiness:
    """Whether new requests are served now. Closed by a failed audit log or a directory that is too long out of reach."""
    if not ledger.is_open:
        return Readiness(ready=False, state="the audit log cannot be written")
    return readiness_of(known)
