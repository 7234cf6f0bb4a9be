"""What an operator is told of a machine that cannot run a tritonserver, and of one that can."""

import secrets
import socket
from pathlib import Path

import pytest

from gateway.scaling.scalers.diagnosis import diagnose
from gateway.scaling.scalers.wheel import Finding, examine, installed
from tests.worlds.host import processes_of


def failing(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.ok]


@pytest.mark.triton
async def test_where_nothing_is_missing_a_server_is_started_asked_and_stopped(tmp_path: Path) -> None:
    findings = await diagnose(tmp_path / "triton", lambda: f"doctor{tmp_path.name}", secrets.choice)
    assert failing(findings) == []
    assert "starts and answers (0" in findings[-1].what
    assert processes_of(f"doctor{tmp_path.name}") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.triton
async def test_a_folder_that_no_server_could_use_and_a_machine_without_ports_are_named_with_what_to_do() -> (
    None
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        findings = await diagnose(
            Path("/with a space"), secrets.token_hex, lambda _: int(taken.getsockname()[1])
        )
    port, folder = failing(findings)
    assert "ss -ltn" in port.advice
    assert "--state" in folder.advice
    assert "/with a space" in folder.what


def test_a_missing_wheel_is_named_with_the_command_that_installs_it() -> None:
    (finding,) = failing(list(examine(None)))
    assert "pip install 'model-gateway[triton]'" in finding.advice


@pytest.mark.triton
@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("tritonserver/bin/tritonserver", "program"),
        ("tritonserver/backends/python", "backend"),
        ("tritonserver/python_backend_stubs", "stub"),
    ],
)
def test_each_part_that_a_wheel_lacks_is_named(tmp_path: Path, part: str, named: str) -> None:
    package = installed()
    assert package is not None
    copy = tmp_path / "pytriton"
    for whole in ("tritonserver/bin", "tritonserver/backends", "tritonserver/python_backend_stubs"):
        copy_without(package / whole, copy / whole, without=package / part)
    (tmp_path / "nvidia_pytriton.libs").mkdir()
    (finding,) = failing(list(examine(copy)))
    assert named in finding.what
    assert finding.advice


def copy_without(source: Path, target: Path, *, without: Path) -> None:
    """A copy of links, but for one part."""
    if source == without:
        return
    if source.is_file():
        target.symlink_to(source)
        return
    target.mkdir(parents=True)
    for entry in source.iterdir():
        copy_without(entry, target / entry.name, without=without)
