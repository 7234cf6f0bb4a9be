"""Which figures the rooms have already, so that nothing is counted twice, and what the kernel says of the process."""

import os
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.admission.limiter import Limiter
from gateway.audit.ledger import Ledger
from gateway.audit.retention import Retention
from gateway.auth.authenticator import Authenticator
from gateway.authz.current import SHOWN, Current
from gateway.cluster.life import Life
from gateway.frontends.grpc_memory import MessageMemory
from gateway.frontends.http_body import JsonMemory
from gateway.kept.capturing import REASONS, Captures
from gateway.kept.expiry import Expiry
from gateway.kept.once import Once
from gateway.kept.sweep import Sweep
from gateway.process import resident_bytes
from gateway.scaling.board import Board
from gateway.scaling.registry import Registry
from gateway.telemetry import table
from gateway.telemetry.meter import Meter, Points
from gateway.tls.current import Certificates
from gateway.usage.fold import Folder
from tenants.api.application import Control


@dataclass(frozen=True, slots=True)
class WorkerRooms:
    """The rooms of a request, whose figures are read when somebody asks."""

    limiter: Limiter
    memory: JsonMemory
    messages: MessageMemory
    ledger: Ledger
    registry: Registry

    def watched_by(self, meter: Meter) -> None:
        meter.watch_number(table.IN_FLIGHT, lambda: self.limiter.at_once)
        meter.watch_number(table.JSON_MEMORY, lambda: self.memory.taken_bytes)
        meter.watch_number(table.MESSAGE_MEMORY, lambda: self.messages.taken_bytes)
        counters = self.ledger.counters
        meter.watch_number(table.AUDIT_OPEN, lambda: int(self.ledger.is_open))
        meter.watch_number(table.AUDIT_RECORDS, lambda: counters.records)
        meter.watch_number(table.AUDIT_COMMITS, lambda: counters.commits)
        meter.watch_number(table.AUDIT_BYTES, lambda: counters.bytes)
        meter.watch_number(table.AUDIT_FAILURES, lambda: counters.failures)
        meter.watch_number(table.AUDIT_REFUSED, lambda: counters.refused)
        meter.watch_number(table.AUDIT_UNKNOWN, lambda: counters.unknown)
        meter.watch_number(table.AUDIT_WITHHELD, lambda: counters.withheld)
        meter.watch(table.HELD, self._held)

    def _held(self) -> Points:
        return {(model,): len(demand.waiting) for model, demand in self.registry.demands.items()}


def watch_shared(meter: Meter, auth: Authenticator, policies: Current, control: Control) -> None:
    """The rooms that every process has."""
    look_ups = auth.look_ups
    known, feed, networks = look_ups.known, look_ups.feed, look_ups.networks
    meter.watch_number(table.DIRECTORY_AGE, lambda: known.age_seconds)
    meter.watch_number(table.DIRECTORY_SEQUENCE, lambda: feed.sequence or 0)
    meter.watch_number(table.DIRECTORY_EMPTIED, lambda: known.emptied)
    meter.watch_number(table.LOOK_UPS_REFUSED, lambda: networks.refused)
    trust, key_sets = known.trust, auth.tokens.key_sets
    meter.watch_number(table.TOKENS, lambda: len(trust))
    meter.watch_number(table.TOKENS_DROPPED, lambda: trust.dropped)
    meter.watch_number(table.KEY_FETCHES, lambda: key_sets.fetches)
    meter.watch_number(table.KEY_FAILURES, lambda: key_sets.failures)
    meter.watch_number(table.KEYS_REFUSED, lambda: key_sets.refused)
    meter.watch_number(table.UNDECIDED, lambda: policies.undecided)
    meter.watch(table.POLICIES, lambda: {(policies.version[:SHOWN],): int(policies.is_on_disk)})
    meter.watch_number(table.POLICIES_REPLACED, lambda: policies.replaced)
    meter.watch_number(table.POLICIES_REFUSED, lambda: policies.refused)
    meter.watch_number(table.BREAK_GLASS, control.uses.total)


def watch_servers(meter: Meter, board: Board) -> None:
    """The servers of this host, and what is on them."""

    def replicas() -> Points:
        servers = board.servers.values()
        return Counter((server.fleet, server.life.name.lower()) for server in servers)

    def resident() -> Points:
        return Counter((place.model, place.phase.name.lower()) for place in board.lodgings())

    meter.watch(table.REPLICAS, replicas)
    meter.watch(table.RESIDENT, resident)


def watch_certificates(meter: Meter, certificates: Certificates) -> None:
    """What the listeners show. Nothing where they are in the clear."""
    shown = certificates.by_listener()
    meter.watch(table.CERTIFICATE_EXPIRES, lambda: {(name,): it.left_seconds for name, it in shown.items()})
    meter.watch(table.CERTIFICATES_REPLACED, lambda: {(name,): it.replaced for name, it in shown.items()})
    meter.watch(table.CERTIFICATES_REFUSED, lambda: {(name,): it.refused for name, it in shown.items()})


def watch_life(meter: Meter, life: Life) -> None:
    """Who else is here, and who leads."""
    membership, leadership = life.membership, life.leadership
    meter.watch(table.MEMBERS, lambda: Counter((it.standing,) for it in membership.members().values()))
    meter.watch_number(table.LEADS, lambda: int(leadership.leads(membership.clock())))
    meter.watch_number(table.TERM, lambda: leadership.term)


def watch_ageing(meter: Meter, retention: Retention, expiry: Expiry, sweep: Sweep) -> None:
    """What of this process's passes is gone. Of several processes one at a time forgets; their sum is what went."""
    meter.watch_number(table.AUDIT_FORGOTTEN, lambda: retention.bodies)
    meter.watch_number(table.AUDIT_REPLACED, lambda: retention.segments)
    meter.watch_number(table.KEPT_EXPIRED, lambda: expiry.expired)
    meter.watch_number(table.CLAIMS_SWEPT, lambda: sweep.swept)


def watch_usage(meter: Meter, folder: Folder) -> None:
    meter.watch_number(table.USAGE_FOLDED, lambda: folder.calls)


def watch_captures(meter: Meter, captures: Captures) -> None:
    """What became of captured calls, and what they take meanwhile."""
    meter.watch_number(table.CAPTURES_STORED, lambda: captures.stored)
    meter.watch(table.CAPTURES_LOST, lambda: {(reason,): captures.lost[reason] for reason in REASONS})
    meter.watch_number(table.CAPTURE_MEMORY, lambda: captures.held_bytes)


def watch_once(meter: Meter, once: Once) -> None:
    meter.watch(table.CLAIMS, lambda: {(result,): number for result, number in once.results.items()})
    meter.watch_number(table.ANSWERS_LOST, lambda: once.lost)


def watch_silent(meter: Meter, silent: Callable[[], int]) -> None:
    """Workers that did not answer the side; a process without any has none."""
    meter.watch_number(table.WORKERS_SILENT, silent)


def watch_process(meter: Meter, clock: Callable[[], float]) -> None:
    """What the kernel says of this process. Linux only, as Triton is."""
    started = clock()
    meter.watch_number(table.UPTIME, lambda: clock() - started)
    meter.watch_number(table.FILES, lambda: len(os.listdir("/proc/self/fd")) - 1)  # one is the listing's own
    meter.watch_number(table.MEMORY, resident_bytes)
    meter.watch(table.CPU, _cpu_seconds)


def _cpu_seconds() -> Points:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {("user",): usage.ru_utime, ("system",): usage.ru_stime}
