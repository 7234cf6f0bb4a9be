"""Servers as processes of this host: the tritonserver of the nvidia-pytriton wheel, each under a nanny, which outlives the gateway that
started it while any other lives.

Whoever starts servers, or adopts them, has to be `alive` in their folder: else their nannies end them at once.

A start is, in this order: the folder, locked; the nanny, which waits; the record; the word that the nanny waits for; the server. Whoever
dies between two of these leaves a folder that nobody has locked, which is cleared away at the next start or adoption; or a nanny that
hears that nobody will say the word, and clears its folder away; or a server that is in the record, to be adopted.

The server needs: its shared libraries and libpython of the running Python on LD_LIBRARY_PATH, the stub for that Python beside the Python
backend, and the environment's `bin` first on PATH.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from gateway.process import identity
from gateway.scaling.alive import ALIVE
from gateway.scaling.scaler import Replica, StartFailed
from gateway.scaling.scalers import leftovers, record
from gateway.scaling.scalers.pidfd import Held
from gateway.scaling.scalers.record import Record
from gateway.scaling.scalers.wheel import Finding, Wheel, find_wheel, libpython_folder
from tenants.model import Model

log = logging.getLogger(__name__)

_NANNY = Path(__file__).with_name("nanny.py")
_PORTS = range(20_000, 32_768)  # below the range that the kernel gives to clients
_CONTROL_HEADER = "x-gateway-control"
# All of Triton's but inference, metadata and statistics; over gRPC, where nobody asks for those, statistics too.
_RESTRICTED = "health,shared-memory,model-config,model-repository,trace,logging"
_RESTRICTED_GRPC = f"{_RESTRICTED},statistics"
_EXIT_SECONDS = 86_400  # Triton's own patience after SIGTERM: the grace of `stop` ends first
_KILL_SECONDS = 5.0
_CLEAR_SECONDS = 5.0
_POLL_SECONDS = 0.01
_LOG_TAIL_BYTES = 2_000
_PLAIN_PATH = re.compile(r"[\w./+@-]+")  # the Python backend hands paths to a shell as they are


def free_port(choose: Callable[[range], int], *, but: Collection[int] = ()) -> int:
    """A loopback port that nobody has bound, tried in the order that `choose` gives, and none of `but`. Raises StartFailed.

    It is held for nobody: until it is bound, whoever asks may be given it as well.
    """
    for _ in range(100):
        port = choose(_PORTS)
        if port in but:
            continue
        # Without SO_REUSEADDR, which would take a port that somebody has bound and is about to listen on.
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed(f"no free port between {_PORTS.start} and {_PORTS.stop - 1}")


def check_folder(folder: Path) -> None:
    """Raise StartFailed for one that no server could start with."""
    if not _PLAIN_PATH.fullmatch(str(folder)):
        raise StartFailed(
            f"Triton's Python backend takes no path like {str(folder)!r}: choose a --state whose path "
            "is of letters, digits and . _ / + @ -"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _InHand:
    """A server that is in this process's hand for as long as the descriptor `record` is open. `left`: it is in this hand no more."""

    replica: Replica
    nanny: Held
    record: int
    left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class ProcessScaler:
    """tritonservers without models, each with a repository of its own. `folder` holds those and their logs, mode 0700.

    `new_secret` gives what a server's restricted APIs ask for. It keeps off what reaches the port, not who may read this host's processes.
    """

    wheel: Wheel
    folder: Path
    new_id: Callable[[], str]
    new_secret: Callable[[], str]
    choose_port: Callable[[range], int]
    _in_hand: dict[str, _InHand] = field(default_factory=dict)

    async def start(self, fleet: str) -> Replica:
        self.check()
        try:
            return self._start(fleet)
        except OSError as fault:  # no descriptors, no memory, no disk
            raise StartFailed(f"tritonserver could not be started: {fault}") from fault

    def check(self) -> None:
        """Raise StartFailed for a folder that no server could start with."""
        check_folder(self.folder)

    def _start(self, fleet: str) -> Replica:
        # A replica binds its ports only once Triton is up: until then another one that starts must not be given them.
        given = {port for it in self._in_hand.values() for port in (it.replica.port, it.replica.grpc_port)}
        port = free_port(self.choose_port, but=given)
        replica = Replica(
            id=self.new_id(),
            host="127.0.0.1",
            port=port,
            grpc_port=free_port(self.choose_port, but={port, *given}),
            control=((_CONTROL_HEADER, self.new_secret()),),
            fleet=fleet,
        )
        lock = self._prepare(replica)
        try:
            child = self._nanny(replica, lock)
        except BaseException:
            leftovers.clear(self._home(replica))
            raise
        finally:
            os.close(lock)
        with cast("IO[bytes]", child.stdin) as word:  # without a word the nanny clears the folder away
            self._take(replica, child)
            self._say(word)
        return replica

    def _nanny(self, replica: Replica, lock: int) -> "subprocess.Popen[bytes]":
        home = self._home(replica)
        with self._log(replica).open("xb") as log_file:
            return subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(_NANNY)),
                    *(leftovers.shm_prefix(replica.id), str(home), str(lock), str(self.folder / ALIVE)),
                    *(log_file.name, *self._arguments(replica)),
                ],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log_file,
                env=self._environment(),
                start_new_session=True,
                pass_fds=(lock,),
            )

    def _take(self, replica: Replica, child: "subprocess.Popen[bytes]") -> None:
        """It is in our hand, and whoever finds the record after our end can go on with it."""
        nanny = Held(child.pid, child)
        made = record.put(self._home(replica), Record(replica, identity(child.pid)))
        self._in_hand[replica.id] = _InHand(replica, nanny, made)

    def _say(self, word: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):  # how it ended is told by `gone`
            word.write(b"\n")

    def _prepare(self, replica: Replica) -> int:
        """A folder with an empty repository for it, and the descriptor that locks it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        leftovers.sweep(self.folder)
        home = self._home(replica)
        home.mkdir(mode=0o700)
        lock = leftovers.lock(home)
        _repository(home).mkdir(mode=0o700)
        return lock

    async def provide(self, replica: Replica, model: Model) -> None:
        if model.repository.startswith("s3://"):
            raise StartFailed(f"{model.repository}: models in S3 cannot be served yet; copy it to a folder")
        home = self._home(replica)
        try:
            _provide(_repository(home) / model.name, model, home / self.new_id())
        except OSError as fault:
            raise StartFailed(f"{model.name} could not be given to replica {replica.id}: {fault}") from fault

    async def tidy(self, replica: Replica) -> None:
        """Triton looks at its whole repository with each unload, and a link that leads nowhere has it refuse."""
        with contextlib.suppress(OSError):
            for link in _repository(self._home(replica)).iterdir():
                if not link.exists():
                    link.unlink()

    async def adopt(self) -> list[Replica]:
        found = [self._adopted(path.parent) for path in self.folder.glob(f"*/{record.NAME}")]
        replicas = [replica for replica in found if replica is not None]
        try:
            leftovers.sweep(self.folder)
        except OSError:
            for replica in replicas:  # else nobody knew of them, and nobody could adopt them
                await self.leave(replica)
            raise
        return replicas

    def _adopted(self, home: Path) -> Replica | None:
        """It is in our hand, if its nanny lives and it was in nobody's."""
        descriptor = record.take(home)
        if descriptor is None:
            return None
        try:
            told = record.read(descriptor)
            nanny = Held(told.nanny.pid)
            # The one that was started, and no zombie of it: the lock says that.
            if identity(nanny.pid) == told.nanny and leftovers.is_locked(home):
                self._in_hand[told.replica.id] = _InHand(told.replica, nanny, descriptor)
                return told.replica
            nanny.forget()
        except (ProcessLookupError, FileNotFoundError):
            log.info("the server %s has ended with its nanny", home.name)
        except record.Unreadable as fault:
            log.warning("the server %s cannot be adopted and is ended: %s", home.name, fault)
            leftovers.end(home.name)
        except OSError as fault:  # no descriptors, say: the next one may have more luck
            log.warning("the server %s cannot be adopted: %s", home.name, fault)
        os.close(descriptor)
        return None

    async def leave(self, replica: Replica) -> None:
        held = self._in_hand.pop(replica.id, None)
        if held is not None:
            held.left.set()
            os.close(held.record)
            held.nanny.forget()

    async def gone(self, replica: Replica) -> str:
        held = self._in_hand.get(replica.id)
        if held is None:
            how = "is not in hand"
        else:
            code = await asyncio.shield(held.nanny.ended)
            if held.left.is_set():  # it may run on: nothing of it is cleared away
                return f"tritonserver {replica.id} is in hand no more"
            how = f"ended with {code}"
            if code is None:
                how = "ended; how is not known, as another gateway had started it"
            await self._clear(replica)
        return f"tritonserver {replica.id} {how}; its log is {self._log(replica)}, which ends:\n{self.log_tail(replica)}"

    async def stop(self, replica: Replica, grace_seconds: float) -> None:
        held = self._in_hand.get(replica.id)
        if held is None:
            return
        nanny = held.nanny
        if grace_seconds > 0:
            nanny.tell(signal.SIGTERM)
            await nanny.over(grace_seconds)
        nanny.tell(signal.SIGUSR1)  # it kills the server, also one that is stopped
        await nanny.over(_KILL_SECONDS)
        nanny.tell(signal.SIGKILL)  # it is stopped itself
        await nanny.over()
        await self._clear(replica)
        if self._in_hand.pop(replica.id, None) is not None:
            os.close(held.record)

    async def _clear(self, replica: Replica) -> None:
        """What its nanny did, unless that was killed itself."""
        home = self._home(replica)
        if home.exists():
            for _ in range(round(_CLEAR_SECONDS / _POLL_SECONDS)):
                if not leftovers.end(replica.id):
                    break
                await asyncio.sleep(_POLL_SECONDS)
        leftovers.clear(home)

    def _arguments(self, replica: Replica) -> list[str]:
        (header, secret), *_ = replica.control
        return [
            str(self.wheel.server),
            f"--model-repository={_repository(self._home(replica))}",
            f"--backend-directory={self._backends()}",
            f"--backend-config=python,shm-region-prefix-name={leftovers.shm_prefix(replica.id)}",
            # What answers under this id is the server that we started, and not one that was faster to take the port.
            f"--id={replica.id}",
            "--model-control-mode=explicit",
            # With it, every Python model starts its stub twice.
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={_EXIT_SECONDS}",
            f"--http-address={replica.host}",
            f"--http-port={replica.port}",
            f"--http-restricted-api={_RESTRICTED}:{header}={secret}",
            f"--grpc-address={replica.host}",
            f"--grpc-port={replica.grpc_port}",
            f"--grpc-restricted-protocol={_RESTRICTED_GRPC}:{header}={secret}",
            "--allow-metrics=false",
        ]

    def _backends(self) -> Path:
        """A backend directory of links: the wheel's Python backend with the stub of the running Python beside it."""
        folder = self.folder / "backends"
        python = folder / "python"
        python.mkdir(mode=0o700, parents=True, exist_ok=True)
        for source in (*self.wheel.backend.iterdir(), self.wheel.stub):
            if source.is_file():
                _point(python / source.name, source, python / f"{source.name}.{self.new_id()}")
        return folder

    def _environment(self) -> dict[str, str]:
        """All that a server gets to see; nothing of the gateway's own environment."""
        libraries = [folder for folder in (libpython_folder(), str(self.wheel.libraries)) if folder]
        return {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PATH": f"{Path(sys.prefix, 'bin')}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(libraries),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Models of the demo are small: a thread each beats a pool each.
            "OPENBLAS_NUM_THREADS": "1",
        }

    def _home(self, replica: Replica) -> Path:
        return self.folder / replica.id

    def _log(self, replica: Replica) -> Path:
        return self.folder / f"{replica.id}.log"

    def log_tail(self, replica: Replica) -> str:
        """The end of what the server said."""
        try:
            with self._log(replica).open("rb") as log:
                log.seek(-min(_LOG_TAIL_BYTES, log.seek(0, os.SEEK_END)), os.SEEK_END)
                return log.read().decode(errors="replace")
        except OSError as fault:
            return str(fault)


def _repository(home: Path) -> Path:
    return home / "models"


def _provide(link: Path, model: Model, new: Path) -> None:
    """Raises StartFailed for what is no model, OSError."""
    source = Path(model.repository, model.name).absolute()
    if not Path(source, "config.pbtxt").is_file():
        raise StartFailed(
            f"there is no {source}/config.pbtxt: put the model there, or correct `repository` in its document"
        )
    _point(link, source, new)


def _point(link: Path, source: Path, new: Path) -> None:
    """The link leads to the source; who looks meanwhile finds it as it was or as it is to be. `new` is a name that nobody uses."""
    if not (link.is_symlink() and link.readlink() == source):
        new.symlink_to(source)
        new.replace(link)


__all__ = ["Finding", "ProcessScaler", "Wheel", "find_wheel", "free_port"]
