"""Several real gateways over one state directory, and what befalls them: kills, stops, a Table that is slow or gone.

Each is a `gateway serve` of its own. The Table that they meet in is two files, of what lives and of what was used; whoever else holds their
locks for writing makes it slow, or takes it away, for all of them at once. Who only reads is not kept from it.
"""

import signal
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gateway.admission import shares
from gateway.admission.bucket import MICRO
from gateway.cluster.member import MEMBERS, Member
from gateway.state import LIVE, clock
from gateway.stores.backup import USAGE
from tenants.acts import Act
from tenants.directory import Directory
from tenants.directory.keys import Minted
from tenants.fleet import Fleet
from tenants.model import Model, Scaling
from tenants.openai import PassThrough
from tenants.plans import Limits, Plan
from tenants.ports import Key, Row
from tests.e2e import upstream
from tests.e2e.limits_judge import Held, Outage
from tests.e2e.offering import Offering
from tests.e2e.world import (
    DIGITS,
    Demo,
    Process,
    announced,
    change,
    end,
    first_line,
    started,
    started_warm,
    until,
)

MODEL: Final = "digits"
FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
"""Of the system package libfaketime (make packages)."""
_WORDS: Final = ("serve", "--json", "--port", "0", "--operator-port", "0", "--grpc-port", "0")
_SAMPLE_SECONDS: Final = 0.1
_START_SECONDS: Final = 40.0


@dataclass(slots=True)
class Many:
    """`demos` are the processes as they are now, by their numbers; `outages` and `held` are what befell them until now."""

    state: Path
    stack: ExitStack
    clocks: Sequence[str] = ()
    """What the clocks of each are off by, as libfaketime takes it; without them they are right."""
    demos: list[Demo] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    limit: str = ""
    """Whose row is looked at."""
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self, number: int) -> Demo:
        """One that does not come up while the Table is gone is started again."""
        words = (*_WORDS, "--state", str(self.state))
        deadline = clock() + _START_SECONDS
        while True:
            process = self.stack.enter_context(self._started(number, words))
            if line := first_line(process):
                return announced(process, self.state, line)
            if clock() > deadline:
                pytest.fail(f"it does not come up: {self.state.with_suffix('.stderr').read_text()}")

    def _started(self, number: int, words: Sequence[str]) -> AbstractContextManager[Process]:
        if not self.clocks:
            return started_warm(self.state, *words)
        environ = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": self.clocks[number]}
        return started(self.state, *words, **environ)

    def end(self) -> None:
        for demo in self.demos:
            demo.kill(signal.SIGCONT)
        for demo in self.demos[1:]:
            demo.stop()
        if self.demos:
            end(self.demos[0].process, self.state)

    # What befalls a process

    def kill(self, number: int, load: Offering) -> None:
        """kill -9; another one is started in its place, and serves once this returns."""
        began = clock()
        self.demos[number].kill()
        self.demos[number].process.wait(10)
        self.demos[number] = self.start(number)
        load.moved(number, self.demos[number].port)
        self.outages.append(Outage(number, "killed", began, clock()))

    def stop(self, number: int, seconds: float) -> None:
        """SIGSTOP, for so long."""
        process = self.demos[number].process
        process.send_signal(signal.SIGSTOP)
        until(lambda: _is_stopped(process.pid), 5)
        began = clock()
        self.wait(seconds)
        ended = clock()
        process.send_signal(signal.SIGCONT)
        self.outages.append(Outage(number, "stopped", began, ended))

    def wait(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    # The Table

    def gone(self, seconds: float) -> None:
        """Nobody writes to it for so long."""
        with self._table(LIVE) as live, self._table(USAGE) as usage:
            self._locked(seconds, live, usage)

    def slow(self, seconds: float, each_seconds: float = 0.2) -> None:
        """Each write waits for so long, more or less, for so many seconds."""
        ends = clock() + seconds
        with self._table(LIVE) as live, self._table(USAGE) as usage:
            while clock() < ends:
                self._locked(each_seconds, live, usage)
                self.wait(0.001)

    def _locked(self, seconds: float, *tables: sqlite3.Connection) -> None:
        for table in tables:
            table.execute("BEGIN IMMEDIATE")
        self.wait(seconds)
        for table in tables:
            table.execute("ROLLBACK")

    @contextmanager
    def _table(self, name: str) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.state / name, timeout=20, isolation_level=None)) as table:
            yield table

    # What the row says

    def watch(self) -> None:
        """Until it is over: what each process holds of the limit, by the row."""
        with self._table(LIVE) as table:
            while not self._over.wait(_SAMPLE_SECONDS):
                found = shares_of(table, self.limit)
                numbers = {demo.process.pid: number for number, demo in enumerate(self.demos)}
                rates = [0.0] * len(self.demos)
                for pid, rate in found.items():
                    if pid in numbers:
                        rates[numbers[pid]] += rate
                if found:
                    self.held.append(Held(clock(), tuple(rates)))

    @contextmanager
    def watched(self, limit: str) -> Iterator[None]:
        self.limit = limit
        thread = threading.Thread(target=self.watch)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def shares_of(table: sqlite3.Connection, limit: str) -> dict[int, float]:
    """What each holder has of the rate, by its pid, as far as its member row is there; nothing where nothing is shared out."""
    at = shares.place(limit)
    row = table.execute("SELECT value FROM rows WHERE partition = ? AND sort = ?", at).fetchone()
    if row is None:
        return {}
    members = {
        name: msgspec.json.decode(value, type=Member).process.pid
        for name, value in table.execute("SELECT sort, value FROM rows WHERE partition = ?", (MEMBERS,))
    }
    holders = shares.read(Row(Key(*at), row[0], 1)).holders
    return {members[name]: it.rate / MICRO for name, it in holders.items() if name in members}


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def many(state: Path, processes: int, clocks: Sequence[str] = ()) -> Iterator[Many]:
    """So many gateways that serve one state."""
    with ExitStack() as stack:
        found = Many(state, stack, clocks)
        try:
            for number in range(processes):
                found.demos.append(found.start(number))
            yield found
        finally:
            found.end()


def furnished(state: Path, tenant: str, limits: Limits, elsewhere: str = "") -> Minted:
    """A tenant with these limits, a model that is its own, and a key; the model is at an address elsewhere, if one is given."""

    async def act(directory: Directory) -> Minted:
        by = Act("test", 1)
        await directory.values.put(Plan(name=tenant, weight=1, limits=limits), Fleet("local"), act=by)
        await directory.tenants.create(tenant, tenant, act=by)
        model = Model("", MODEL, str(DIGITS), (tenant,))
        if elsewhere:
            scaling = Scaling(start_deadline_seconds=5)
            far = PassThrough(elsewhere, upstream.MODEL)
            model = Model("", MODEL, "", (tenant,), fleet="", scaling=scaling, openai=far)
        await directory.values.put(model, act=by)
        return await directory.keys.create(tenant, act=by)

    return change(state, act)
