"""The composition root: settings become opened rooms, the rooms an application, and the application a server.

Only here, in `state` and in `cli` are adapters named, clocks read and ids made.
"""

import gc
import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.admission.limiter import Limiter
from gateway.ageing import opened_ageing
from gateway.audit.ledger import Ledger
from gateway.audit.reading import Keys
from gateway.auth.authenticator import Authenticator
from gateway.auth.known import FRESH_SECONDS, Known
from gateway.auth.last_used import LastUsed
from gateway.auth.look_ups import LookUps
from gateway.auth.networks import Networks
from gateway.auth.tokens import Tokens, keys_of_issuers
from gateway.authz.current import LOOK_SECONDS, Current
from gateway.cluster.feed import Feed
from gateway.frontends.control import Callers, DerivedKeys, control_credential
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.grpc_server import GrpcDoor, listening
from gateway.frontends.http import HttpDoor, Readiness, other_paths
from gateway.frontends.http_body import JsonMemory
from gateway.frontends.http_server import Listener, bound_socket, is_loopback, serve_http
from gateway.frontends.oip_grpc import OipGrpc
from gateway.frontends.oip_rest import OipRest
from gateway.frontends.openai import OpenAiRest
from gateway.frontends.openai_models import Offers
from gateway.frontends.operator import CONNECTIONS, OperatorDoor, operator_paths
from gateway.kept.capturing import Captures
from gateway.loops import every, jobs, running
from gateway.pipeline import Pipeline
from gateway.process import resident_bytes, used_bytes
from gateway.scaling.autoscaler import Autoscaler
from gateway.scaling.registry import Registry
from gateway.scaling.scalers.process import ProcessScaler, Wheel, find_wheel, free_port
from gateway.scaling.sequences import Sequences
from gateway.scaling.throttler import Throttler
from gateway.settings import CLOSED, Settings
from gateway.state import (
    boot_clock,
    clock,
    new_id,
    now_us,
    opened_blobs,
    opened_directory,
    opened_ledger,
    opened_once,
    opened_web,
    state_folder,
)
from gateway.state_keys import opened_data_keys
from gateway.telemetry.collector import collector
from gateway.telemetry.destination import Destination
from gateway.telemetry.meter import Meter
from gateway.telemetry.prometheus import text
from gateway.telemetry.rooms import Rooms, watch_captures, watch_certificates, watch_process
from gateway.tls import current as tls
from gateway.tls.current import Certificates
from gateway.tls.trusted import Trusted
from gateway.triton.reach import Reach
from tenants.api.application import Control
from tenants.directory import Directory
from tenants.errors import TableUnavailable
from tenants.plans import Rate

log = logging.getLogger(__name__)

_FORGET_SECONDS = 60.0
_REKEY_SECONDS = 5.0
_CARE_SECONDS = 60.0
_REFRESH_SECONDS = 5.0
_SWEEP_SECONDS = 0.25


@dataclass(slots=True)
class Gateway:
    """What is served, and how."""

    settings: Settings
    door: HttpDoor
    operator: OperatorDoor
    grpc: GrpcDoor
    certificates: Certificates


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a gateway listens."""

    http: str
    operator: str
    grpc: str | None


def process_scaler(wheel: Wheel, state: Path) -> ProcessScaler:
    """The servers of this host. Raises StartFailed for a state folder that none could start with."""
    scaler = ProcessScaler(
        wheel=wheel,
        folder=state / "triton",
        new_id=lambda: new_id()[:12],
        new_secret=new_id,
        choose_port=secrets.choice,
    )
    scaler.check()
    return scaler


@asynccontextmanager
async def opened(settings: Settings, progress: Callable[[str], None]) -> AsyncIterator[Gateway]:
    # long because it is the list of the rooms, in their order
    """All rooms, open and with their loops running, while the block runs. Raises StartFailed, SinkFailed, TlsRefused, TableUnavailable."""
    wheel = find_wheel()
    certificates, trusted = (
        Certificates.load(settings.tls, now_us),
        Trusted.load(settings.upstream.authorities),
    )
    async with AsyncExitStack() as stack:
        state = state_folder(settings)
        directory = await stack.enter_async_context(opened_directory(settings))
        registry = Registry()
        known = Known(boot_clock, settings.directory.stale_seconds)
        keyring, caretaker = await stack.enter_async_context(
            opened_data_keys(settings, directory, lambda: known.confirmed_at)
        )
        auth = await stack.enter_async_context(
            opened_auth(settings, directory, registry, known, keyring.changed)
        )
        ledger = await stack.enter_async_context(opened_ledger(settings, keyring))
        scaler = process_scaler(wheel, state)
        meter = Meter()
        watch_certificates(meter, certificates)
        tracer = await stack.enter_async_context(
            collector(Destination.of(os.environ), meter, now_us=now_us, draw=random.random)
        )
        once = await stack.enter_async_context(opened_once(settings, keyring))
        ageing = await stack.enter_async_context(opened_ageing(settings, directory, once, meter))
        # Their own threads: a capture holds up nothing else that is kept.
        blobs = await stack.enter_async_context(opened_blobs(settings))
        captures = Captures(keyring, blobs, draw=random.random, clock=clock, entropy=secrets.token_bytes)
        watch_captures(meter, captures)
        throttler = Throttler(registry, clock, known.models, meter, settings.triton.most_waiting)
        autoscaler = Autoscaler(
            scaler=scaler,
            registry=registry,
            throttler=throttler,
            observer=meter,
            clock=clock,
            models=known.models,
            fleets=known.fleets,
            new_name=lambda: new_id()[:12],
            start_seconds=settings.triton.start_seconds,
            progress=progress,
            reach=Reach.of(settings.upstream.networks),
            trust=trusted.context,
        )
        policies = Current.load(settings.policies)
        limiter = Limiter(clock)
        sequences = Sequences(throttler, clock, secrets.randbelow)
        pipeline = Pipeline(
            auth=auth,
            known=known,
            policies=policies,
            limiter=limiter,
            ledger=ledger,
            throttler=throttler,
            sequences=sequences,
            clock=clock,
            now_us=now_us,
            meter=meter,
            tracer=tracer,
            captures=captures,
            once=once,
            stream_idle_seconds=settings.http.stream_idle_seconds,
        )
        # The committer ends last: what is owed to the log does not wait while a Triton stops.
        await stack.enter_async_context(running(committer=ledger.run()))
        await stack.enter_async_context(
            running(
                autoscaler=autoscaler.run(),
                policies=every(LOOK_SECONDS, policies.look),
                keyring=every(_REKEY_SECONDS, keyring.refresh),
                series=every(_REKEY_SECONDS, ledger.close_destroyed),
                caretaker=every(_CARE_SECONDS, caretaker.look),
                **{name: loop() for name, loop in ageing.items()},
                certificates=every(tls.LOOK_SECONDS, certificates.look, OSError),
                authorities=every(tls.LOOK_SECONDS, trusted.look, OSError),
                forget=every(_FORGET_SECONDS, limiter.forget_idle),
                sweep=every(_SWEEP_SECONDS, sequences.sweep),
            )
        )
        await stack.enter_async_context(captures.writing())
        yield doors(
            settings,
            pipeline,
            registry,
            control_api(directory, auth, policies, settings, keyring),
            certificates,
        )


def control_api(
    directory: Directory, auth: Authenticator, policies: Current, settings: Settings, keyring: Keys
) -> Control:
    identify = Callers(directory, auth).identify
    return Control(
        directory,
        policies,
        control_credential,
        identify,
        now_us,
        settings.http.request_seconds,
        settings.keys.backup_days,
        DerivedKeys(keyring),
    )


@asynccontextmanager
async def opened_auth(
    settings: Settings,
    directory: Directory,
    registry: Registry,
    known: Known,
    told_of_data_keys: Callable[[Collection[str] | None], None],
) -> AsyncIterator[Authenticator]:
    """Who may come in, and the loops that keep true what is known of them."""
    knobs = settings.directory
    # A fleet may have got a floor, a model another repository.
    feed = Feed(directory, known, knobs.answer_seconds, renewed=registry.wake.set, rekeyed=told_of_data_keys)
    limit = Rate(knobs.unknown_per_second, knobs.unknown_burst) if knobs.unknown_per_second else None
    look_ups = LookUps(directory, known, feed, Networks(limit, clock), knobs.answer_seconds)
    last_used = LastUsed(directory.uses, knobs.answer_seconds)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(last_used.close)
        spawn = await stack.enter_async_context(jobs())
        web, rekeyed = opened_web(settings.tokens.fetch_seconds), known.trust.rekeyed
        key_sets = keys_of_issuers(web, settings.tokens, clock=boot_clock, spawn=spawn, changed=rekeyed)
        tokens = Tokens(look_ups, key_sets, now_us)
        await feed.look()
        loops = running(
            feed=every(knobs.poll_seconds, feed.look),
            keys=every(_REFRESH_SECONDS, key_sets.refresh),
            used=every(knobs.used_seconds, last_used.flush, TableUnavailable, TimeoutError),
        )
        await stack.enter_async_context(loops)
        yield Authenticator(known, look_ups, tokens, now_us, last_used.notes)


def doors(
    settings: Settings, pipeline: Pipeline, registry: Registry, control: Control, certificates: Certificates
) -> Gateway:
    """What clients and the operator call, over the rooms; from here on the figures of all of them can be read."""
    known, ledger, meter = pipeline.known, pipeline.ledger, pipeline.meter
    memory = JsonMemory(settings.http.json_memory_bytes, settings.http.json_head_bytes)
    messages = MessageMemory(
        settings.grpc.memory_bytes, settings.grpc.message_bytes, resident_bytes, used_bytes
    )
    oip = OipRest(pipeline, memory, settings.http.request_seconds, bool(settings.http.model_config))
    openai = OpenAiRest(pipeline, memory, settings.http.request_seconds, Offers(known.models))
    Rooms(
        limiter=pipeline.limiter,
        memory=memory,
        messages=messages,
        auth=pipeline.auth,
        policies=pipeline.policies,
        ledger=ledger,
        registry=registry,
        control=control,
    ).watched_by(meter)
    watch_process(meter, clock)

    def present() -> Readiness:
        return readiness(ledger, known)

    door = HttpDoor(oip, other_paths(oip, present), new_id, openai, control.paths("public"))
    figures = operator_paths(lambda: text(meter.read()), present)
    operator = OperatorDoor(figures, new_id, control.paths("operator"))
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
    return Gateway(settings, door, operator, grpc, certificates)


def readiness(ledger: Ledger, known: Known) -> Readiness:
    """Whether new requests are served now. Closed by a failed audit log or a directory that is too long out of reach."""
    if not ledger.is_open:
        return Readiness(ready=False, state="the audit log cannot be written")
    if known.is_stale:
        return Readiness(ready=False, state="the directory has been out of reach for too long")
    if known.age_seconds >= FRESH_SECONDS:
        return Readiness(ready=True, state="degraded")
    return Readiness(ready=True, state="ok")


def _spare_the_collector() -> None:
    """The rooms live as long as the process, and what a call makes goes by reference count: the collector need not look at the one, and
    seldom at the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def tell_what_is_in_the_clear(settings: Settings) -> None:
    """A line for each listener that others reach and that has no TLS."""
    if settings.tls.certificate is not None:
        return
    listeners = [("public", settings.host), ("operator", settings.operator_host)]
    if settings.grpc_port != CLOSED:
        listeners.append(("gRPC", settings.grpc_host))
    for name, host in listeners:
        if not is_loopback(host):
            log.warning(
                "the %s listener on %s is in the clear: keys go by as they are. Name tls.certificate and tls.key, or have a proxy "
                "that speaks TLS in front",
                name,
                host,
            )


async def serve(gateway: Gateway, started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way. `started` gets the addresses. Raises OSError."""
    settings, certificates = gateway.settings, gateway.certificates
    _spare_the_collector()
    tell_what_is_in_the_clear(settings)
    async with AsyncExitStack() as stack:
        public = stack.enter_context(bound_socket(settings.host, settings.port or free_port(secrets.choice)))
        private = stack.enter_context(
            bound_socket(settings.operator_host, settings.operator_port or free_port(secrets.choice))
        )
        beside = []
        if settings.grpc_port != CLOSED:
            port = settings.grpc_port or free_port(secrets.choice)
            grpc = listening(
                gateway.grpc, settings.grpc_host, port, settings.grpc, settings.http, tls=certificates.public
            )
            beside.append(await stack.enter_async_context(grpc))
        listeners = [
            Listener(gateway.door, public, gateway.door.oip.pipeline.refused, tls=certificates.public),
            # Nobody is denied anything there, so nothing is recorded.
            Listener(gateway.operator, private, lambda *_: None, CONNECTIONS, certificates.operator),
        ]
        await serve_http(
            listeners,
            settings.http,
            new_id,
            started=lambda found: started(
                Addresses(found[0], found[1], next((it.address for it in beside), None))
            ),
            beside=beside,
        )
