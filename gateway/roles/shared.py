"""The rooms that every process has: the tenants' directory and what is known of it, keys, policies, figures, what a control call needs."""

import os
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.admission import sweeping
from gateway.admission.handing import STEP_SECONDS, Handing
from gateway.admission.sweeping import Sweeping
from gateway.audit.reading import Keys
from gateway.auth.authenticator import Authenticator
from gateway.auth.known import FRESH_SECONDS, Known
from gateway.auth.last_used import LastUsed
from gateway.auth.look_ups import LookUps
from gateway.auth.networks import Networks
from gateway.auth.tokens import Tokens, keys_of_issuers
from gateway.authz.current import LOOK_SECONDS, Current
from gateway.cluster.feed import Feed
from gateway.cluster.life import Life, living, member_name
from gateway.cluster.nudges import Nudges, opened_nudges
from gateway.frontends.control import Callers, DerivedKeys, control_credential
from gateway.frontends.http import Readiness
from gateway.loops import every, jobs, running
from gateway.process import identity, stat_of
from gateway.scaling.alive import Alive, alive
from gateway.scaling.board import Board
from gateway.scaling.draining import Member, Patience
from gateway.scaling.registry import Registry
from gateway.scaling.throttler import Throttler
from gateway.settings import Settings
from gateway.state import (
    RUN,
    TRITON,
    boot_clock,
    boot_us,
    clock,
    new_id,
    now_us,
    opened_directory,
    opened_live,
    opened_usage,
    opened_web,
    state_folder,
    usage_log,
)
from gateway.state_keys import DataKeys, opened_data_keys
from gateway.telemetry.collector import collector
from gateway.telemetry.destination import Destination
from gateway.telemetry.meter import Meter
from gateway.telemetry.rooms import watch_certificates, watch_life, watch_process, watch_shared
from gateway.telemetry.traceparent import Tracer
from gateway.tls import current as tls
from gateway.tls.current import Certificates
from gateway.tls.trusted import Trusted
from gateway.usage.reading import Reader
from tenants.api.application import Control
from tenants.directory import Directory
from tenants.errors import TableUnavailable
from tenants.plans import Rate
from tenants.ports import Table
from tenants.usage import UsageReader

_REKEY_SECONDS: Final = 5.0
_REFRESH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Shared:
    """`state` is the state directory. `registry` and `throttler` are where calls meet what is ready for them, `board` is what is known of
    the servers by who has charge of them.
    """

    settings: Settings
    state: Path
    certificates: Certificates
    trusted: Trusted
    directory: Directory
    known: Known
    auth: Authenticator
    data_keys: DataKeys
    policies: Current
    registry: Registry
    board: Board
    throttler: Throttler
    control: Control
    meter: Meter
    tracer: Tracer | None
    live: Table
    """What is worth nothing once all processes of the state have ended."""
    life: Life
    """This process among them."""
    sweeping: Sweeping
    alive: Alive
    """That it lives, for the servers of this host."""
    usage: Table
    """What was used, and what is left of budgets."""
    nudges: Nudges

    def present(self) -> Readiness:
        """Of these rooms alone."""
        return readiness_of(self.known)

    @property
    def domain(self) -> str:
        """The host, by this start of its kernel."""
        return self.life.membership.process.kernel.partition("/")[0]


@asynccontextmanager
async def opened_shared(settings: Settings, member: str = "") -> AsyncIterator[Shared]:
    # long because it is the list of the rooms, in their order
    """Open, with their loops running, while the block runs. `member` is this process's name among those of the state, which none had
    before; "": one is made. Raises TlsRefused, TableUnavailable, Crowded, PolicyError, StartFailed,
    OSError.
    """
    certificates, trusted = (
        Certificates.load(settings.tls, now_us),
        Trusted.load(settings.upstream.authorities),
    )
    async with AsyncExitStack() as stack:
        state = state_folder(settings)
        lives = await stack.enter_async_context(alive(state / TRITON))
        directory = await stack.enter_async_context(opened_directory(settings))
        life = await stack.enter_async_context(opened_life(settings, member))
        usage = await stack.enter_async_context(opened_usage(settings))
        nudges = stack.enter_context(opened_nudges(state / RUN, life.name))
        registry, board = Registry(), Board()
        known = Known(boot_clock, settings.directory.stale_seconds)
        data_keys = await stack.enter_async_context(
            opened_data_keys(settings, directory, lambda: known.confirmed_at)
        )
        keyring = data_keys.keyring
        auth = await stack.enter_async_context(
            opened_auth(settings, directory, known, partial(_wake, registry, board), keyring.changed)
        )
        meter = Meter()
        tracer = await stack.enter_async_context(
            collector(
                Destination.of(os.environ), meter, now_us=now_us, draw=random.random, instance=life.name
            )
        )
        policies = Current.load(settings.policies)
        control = control_api(
            settings, directory, auth, policies, keyring, usage=Reader(usage_log(settings), usage)
        )
        throttler = _throttler(registry, known, meter, settings, life)
        handing = Handing(life.membership.table, life, throttler)
        stack.push_async_callback(handing.leave)
        sweeper = Sweeping(life.membership.table, boot_us, life.is_dead, life.leads)
        watch_process(meter, clock)
        watch_life(meter, life)
        watch_certificates(meter, certificates)
        watch_shared(meter, auth, policies, control)
        await stack.enter_async_context(
            running(
                policies=every(LOOK_SECONDS, policies.look),
                keyring=every(_REKEY_SECONDS, keyring.refresh),
                certificates=every(tls.LOOK_SECONDS, certificates.look, OSError),
                authorities=every(tls.LOOK_SECONDS, trusted.look, OSError),
                slots=every(STEP_SECONDS, handing.step),
                limits=every(sweeping.TELL_SECONDS, sweeper.tell, TableUnavailable),
                swept=every(sweeping.SWEEP_SECONDS, sweeper.look, TableUnavailable),
            )
        )
        yield Shared(
            settings=settings,
            state=state,
            certificates=certificates,
            trusted=trusted,
            directory=directory,
            known=known,
            auth=auth,
            data_keys=data_keys,
            policies=policies,
            registry=registry,
            board=board,
            throttler=throttler,
            control=control,
            meter=meter,
            tracer=tracer,
            live=life.membership.table,
            life=life,
            sweeping=sweeper,
            alive=lives,
            usage=usage,
            nudges=nudges,
        )


def _wake(registry: Registry, board: Board) -> None:
    """A fleet may have got a floor, a model another repository."""
    registry.wake.set()
    board.wake.set()


def _throttler(registry: Registry, known: Known, meter: Meter, settings: Settings, life: Life) -> Throttler:
    timing = life.membership.timing
    member = Member(Patience(timing.stale_seconds, timing.margin_seconds))
    most = settings.triton.most_waiting
    return Throttler(registry, boot_clock, known.models, meter, most, member=member)


def readiness_of(known: Known) -> Readiness:
    """Closed by a directory that is too long out of reach."""
    if known.is_stale:
        return Readiness(ready=False, state="the directory has been out of reach for too long")
    if known.age_seconds >= FRESH_SECONDS:
        return Readiness(ready=True, state="degraded")
    return Readiness(ready=True, state="ok")


def control_api(
    settings: Settings,
    directory: Directory,
    auth: Authenticator,
    policies: Current,
    keyring: Keys,
    *,
    usage: UsageReader,
) -> Control:
    return Control(
        directory,
        policies,
        control_credential,
        Callers(directory, auth).identify,
        now_us,
        settings.http.request_seconds,
        settings.keys.backup_days,
        DerivedKeys(keyring),
        usage,
    )


@asynccontextmanager
async def opened_life(settings: Settings, member: str) -> AsyncIterator[Life]:
    """This process among the others of its state."""
    pid = os.getpid()
    name = member or member_name(os.uname().nodename, pid, new_id())
    async with opened_live(settings) as table:
        life = Life.of(table, name, identity(pid), boot_clock, stat_of)
        async with living(life):
            yield life


@asynccontextmanager
async def opened_auth(
    settings: Settings,
    directory: Directory,
    known: Known,
    renewed: Callable[[], None],
    told_of_data_keys: Callable[[Collection[str] | None], None],
) -> AsyncIterator[Authenticator]:
    """Who may come in, and the loops that keep true what is known of them."""
    knobs = settings.directory
    feed = Feed(directory, known, knobs.answer_seconds, renewed=renewed, rekeyed=told_of_data_keys)
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
