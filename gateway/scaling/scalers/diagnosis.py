"""What this machine lacks to run tritonservers, and the command that installs or fixes it."""

import asyncio
import contextlib
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from gateway.scaling.alive import alive
from gateway.scaling.scaler import StartFailed
from gateway.scaling.scalers.leftovers import SHARED_MEMORY
from gateway.scaling.scalers.process import ProcessScaler, check_folder, free_port
from gateway.scaling.scalers.wheel import Finding, examine, find_wheel, installed
from gateway.triton.client import Client
from gateway.triton.probe import is_ready

_START_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_SHARED_BYTES: Final = 64 * 1024**2  # each Python model takes 1 MiB of it, and more for large tensors
_FILES: Final = 4_096  # two for each call under way


async def diagnose(
    folder: Path, new_id: Callable[[], str], choose_port: Callable[[range], int]
) -> list[Finding]:
    """All that a tritonserver with its state in `folder` needs. Where nothing is missing one is started elsewhere, asked and stopped."""
    findings = [*examine(installed()), *_machine(choose_port)]
    try:
        check_folder(folder)
    except StartFailed as fault:
        findings.append(Finding(f"the path {folder}", ok=False, advice=str(fault)))
    if all(finding.ok for finding in findings):
        with TemporaryDirectory() as elsewhere:
            async with alive(Path(elsewhere)):
                scaler = ProcessScaler(find_wheel(), Path(elsewhere), new_id, new_id, choose_port)
                findings.append(await _start(scaler))
    return findings


def _machine(choose_port: Callable[[range], int]) -> Iterator[Finding]:
    yield Finding(
        f"{SHARED_MEMORY} can be written",
        SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK | os.X_OK),
        f"mount -t tmpfs -o mode=1777 tmpfs {SHARED_MEMORY}",
    )
    free_bytes = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    yield Finding(
        f"shared memory for tensors: {free_bytes // 1024**2} MiB free",
        free_bytes >= _SHARED_BYTES,
        f"mount -o remount,size=1g {SHARED_MEMORY} (in a container: docker run --shm-size=1g)",
    )
    try:
        free_port(choose_port)
    except StartFailed as fault:
        yield Finding("a free port", ok=False, advice=f"{fault}: see who listens there with: ss -ltn")
    else:
        yield Finding("a free port", ok=True, advice="")
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding(
        f"open files: {files} allowed", files >= _FILES or files == resource.RLIM_INFINITY, _more_files(most)
    )


def _more_files(most: int) -> str:
    if most >= _FILES or most == resource.RLIM_INFINITY:
        return f"ulimit -n {_FILES}"
    return f"prlimit --pid $$ --nofile={_FILES} (as root), or LimitNOFILE={_FILES} in the unit that starts the gateway"


async def _start(scaler: ProcessScaler) -> Finding:
    what, clock = "a tritonserver starts and answers", asyncio.get_running_loop().time
    began = clock()
    try:
        replica = await scaler.start("doctor")
    except StartFailed as fault:
        return Finding(what, ok=False, advice=str(fault))
    client = Client(replica.host, replica.port)
    try:
        while clock() - began < _START_SECONDS:
            if await is_ready(client, replica.id):
                return Finding(f"{what} ({clock() - began:.2f} s)", ok=True, advice="")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    return Finding(what, ok=False, advice=await scaler.gone(replica))
        return Finding(f"{what} within {_START_SECONDS:.0f} s", ok=False, advice=scaler.log_tail(replica))
    finally:
        client.close()
        await scaler.stop(replica, 0)
