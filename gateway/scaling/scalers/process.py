"""Servers as child processes of this host: the tritonserver of the nvidia-pytriton wheel, each under a nanny.

Nothing of the wheel's Python code is imported. Its server needs: its shared libraries and libpython of the running Python on
LD_LIBRARY_PATH, the stub for that Python beside the Python backend, and the environment's `bin` first on PATH.
"""

import asyncio
import contextlib
import ctypes.util
import importlib.util
import os
import re
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.scaling.scaler import Replica, StartFailed

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory, not a temporary file

_NANNY = Path(__file__).with_name("nanny.py")
_PORTS = range(20_000, 32_768)  # below the range that the kernel gives to clients
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_LOG_TAIL_BYTES = 2_000
_PLAIN_PATH = re.compile(r"[\w./+@-]+")  # the Python backend hands paths to a shell as they are


@dataclass(frozen=True, slots=True)
class Wheel:
    """Where the parts of the nvidia-pytriton wheel are."""

    server: Path
    backend: Path
    stub: Path
    libraries: Path


def find_wheel() -> Wheel:
    """The installed wheel. Raises StartFailed with what is missing and the command that installs it."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed(
            "there is no tritonserver here; install one with: pip install 'model-gateway[triton]'"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    root = package / "tritonserver"
    wheel = Wheel(
        server=root / "bin" / "tritonserver",
        backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub",
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    for path in (wheel.server, wheel.backend, wheel.stub, wheel.libraries):
        if not path.exists():
            raise StartFailed(
                f"the nvidia-pytriton wheel has no {path.name} for Python {_PYTHON}; use Python 3.11 or 3.12"
            )
    if libpython_folder() is None:
        raise StartFailed(
            f"Triton's Python models need libpython{_PYTHON}; install it with: apt-get install libpython{_PYTHON}"
        )
    return wheel


def libpython_folder() -> str | None:
    """The folder of the running Python's libpython, "" where the system's loader finds it, None without one."""
    folder = str(sysconfig.get_config_var("LIBDIR") or "")
    if Path(folder, f"libpython{_PYTHON}.so.1.0").exists():
        return folder
    return "" if ctypes.util.find_library(f"python{_PYTHON}") else None


def free_port(choose: Callable[[range], int]) -> int:
    """A loopback port that nobody listens on, tried in the order that `choose` gives. Raises StartFailed."""
    for _ in range(100):
        port = choose(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise StartFailed(f"no free port between {_PORTS.start} and {_PORTS.stop - 1}")


@dataclass(slots=True)
class ProcessScaler:
    """tritonservers for the models of `repositories`, each with the folder it is in. `folder` holds their logs, mode 0700."""

    wheel: Wheel
    folder: Path
    repositories: Callable[[], Mapping[str, Path]]
    new_id: Callable[[], str]
    choose_port: Callable[[range], int]
    stop_seconds: float = 35.0
    _running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self) -> Replica:
        self.check()
        try:
            return await self._start()
        except OSError as fault:  # no descriptors, no memory, no disk
            raise StartFailed(f"tritonserver could not be started: {fault}") from fault

    async def _start(self) -> Replica:
        replica = Replica(id=self.new_id(), host="127.0.0.1", port=free_port(self.choose_port))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shm_prefix = _shm_prefix(replica)
        command = [sys.executable, "-I", "-S", str(_NANNY), shm_prefix]
        with self._log(replica).open("wb") as log:
            self._running[replica.id] = await asyncio.create_subprocess_exec(
                *command,
                *self._arguments(replica, shm_prefix),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        return replica

    def check(self) -> None:
        """Raise StartFailed for a folder that no server could start with."""
        for path in (self.folder, *self.repositories().values()):
            if not _PLAIN_PATH.fullmatch(str(path)):
                raise StartFailed(
                    f"Triton's Python backend takes no path like {str(path)!r}: choose one of letters, digits and . _ / + @ -"
                )
        for path in self.repositories().values():
            if not path.is_dir():  # the server would run on, empty
                raise StartFailed(f"the model repository {path} is not there")

    def why_gone(self, replica: Replica) -> str | None:
        process = self._running.get(replica.id)
        if process is not None and process.returncode is None:
            return None
        code = "stopped" if process is None else f"ended with {process.returncode}"
        return f"tritonserver {replica.id} {code}; its log is {self._log(replica)}, which ends:\n{self._log_tail(replica)}"

    async def stop(self, replica: Replica) -> None:
        process = self._running.pop(replica.id, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self.stop_seconds):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if process.returncode is not None and process.returncode < 0:
            self._finish_for_the_nanny(process.pid, replica)

    def _finish_for_the_nanny(self, group: int, replica: Replica) -> None:
        """A nanny that was killed has ended nothing: its process group and the shared memory are left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        for region in SHARED_MEMORY.glob(f"{_shm_prefix(replica)}*"):
            region.unlink(missing_ok=True)

    def _arguments(self, replica: Replica, shm_prefix: str) -> list[str]:
        wanted = self.repositories()
        repositories = [f"--model-repository={path}" for path in sorted(set(wanted.values()))]
        return [
            str(self.wheel.server),
            *repositories,
            f"--backend-directory={self._backends()}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
            # What answers under this id is the server that we started, and not one that was faster to take the port.
            f"--id={replica.id}",
            "--model-control-mode=explicit",
            *[f"--load-model={model}" for model in sorted(wanted)],
            # One broken model must not take the others with it; what is served is asked for once the server is up.
            "--exit-on-error=false",
            "--strict-readiness=false",
            # With it, every Python model starts its stub twice.
            "--disable-auto-complete-config",
            f"--http-address={replica.host}",
            f"--http-port={replica.port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
        ]

    def _backends(self) -> Path:
        """A backend directory of links: the wheel's Python backend with the stub of the running Python beside it."""
        folder = self.folder / "backends"
        python = folder / "python"
        python.mkdir(mode=0o700, parents=True, exist_ok=True)
        for source in (*self.wheel.backend.iterdir(), self.wheel.stub):
            link = python / source.name
            if source.is_file() and not (link.is_symlink() and link.readlink() == source):
                new = link.with_name(f"{link.name}.{self.new_id()}")
                new.symlink_to(source)
                new.replace(link)
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

    def _log(self, replica: Replica) -> Path:
        return self.folder / f"{replica.id}.log"

    def _log_tail(self, replica: Replica) -> str:
        try:
            return self._log(replica).read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError as fault:
            return str(fault)


def _shm_prefix(replica: Replica) -> str:
    return f"gateway_{replica.id}_"
