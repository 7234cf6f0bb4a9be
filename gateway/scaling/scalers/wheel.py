"""The tritonserver of the nvidia-pytriton wheel: where its parts are, and what of them is missing here.

Nothing of the wheel's Python code is imported.
"""

import ctypes.util
import importlib.util
import platform
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gateway.scaling.scaler import StartFailed

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is needed, whether it is there, and the command or the words that help when it is not."""

    what: str
    ok: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Wheel:
    """Where the parts of the nvidia-pytriton wheel are."""

    server: Path
    backend: Path
    stub: Path
    libraries: Path


def find_wheel() -> Wheel:
    """The installed wheel. Raises StartFailed with what is missing and the command that installs it."""
    package = installed()
    for finding in examine(package):
        if not finding.ok:
            raise StartFailed(f"this is missing: {finding.what}; {finding.advice}")
    return _parts(package or Path())


def examine(package: Path | None) -> Iterator[Finding]:
    """What a tritonserver of the wheel in this folder needs, one after the other."""
    yield Finding("a tritonserver: the nvidia-pytriton wheel", package is not None, _install())
    if package is None:
        return
    wheel = _parts(package)
    again = f"{_install()} --force-reinstall"
    yield Finding(f"its program {wheel.server}", wheel.server.is_file(), again)
    yield Finding(f"its libraries {wheel.libraries}", wheel.libraries.is_dir(), again)
    yield Finding(f"its Python backend {wheel.backend}", wheel.backend.is_dir(), again)
    yield Finding(
        f"its stub for Python {_PYTHON}",
        wheel.stub.is_file(),
        "make the environment with Python 3.11 or 3.12",
    )
    yield Finding(
        f"libpython{_PYTHON}, which its stub needs",
        libpython_folder() is not None,
        f"install it with: apt-get install libpython{_PYTHON}",
    )
    version = _version("numpy")
    yield Finding(
        f"numpy below 2 for its Python models (text comes back empty with 2; found: {version or 'none'})",
        version.startswith(("0.", "1.")),
        "install it with: pip install 'numpy>=1.26,<2'",
    )


def _install() -> str:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return "there is none for this machine: the wheel is for Linux on x86_64"
    return "install it with: pip install 'model-gateway[triton]'"


def libpython_folder() -> str | None:
    """The folder of the running Python's libpython, "" where the system's loader finds it, None without one."""
    folder = str(sysconfig.get_config_var("LIBDIR") or "")
    if Path(folder, f"libpython{_PYTHON}.so.1.0").exists():
        return folder
    return "" if ctypes.util.find_library(f"python{_PYTHON}") else None


def installed() -> Path | None:
    """The folder of the wheel's Python package, which is not imported."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _parts(package: Path) -> Wheel:
    root = package / "tritonserver"
    return Wheel(
        server=root / "bin" / "tritonserver",
        backend=root / "backends" / "python",
        stub=root / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub",
        libraries=package.parent / "nvidia_pytriton.libs",
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
