"""Demos that tests share, and the figures that they measure, printed at the end."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.place import Place
from tests.e2e.world import DIGITS, MODELS, Demo, new_tenant, serving


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All test models, the digits, and `private`, which is an echo of FP32 like echo_fp32."""
    folder = tmp_path_factory.mktemp("repository")
    leave = shutil.ignore_patterns("__pycache__")
    for model in (*MODELS.iterdir(), DIGITS / "digits"):
        shutil.copytree(model, folder / model.name, ignore=leave)
    shutil.copytree(MODELS / "echo_fp32", folder / "private", ignore=leave)
    return folder


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Demo]:
    """A demo of all these models that every test may use and none may stop; its key is of a tenant without tight limits."""
    state = tmp_path_factory.mktemp("house") / "state"
    minted = new_tenant(state, "roomy")
    with serving(state, repository) as demo:
        yield replace(demo, key=minted.secret.reveal())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured (`record_property`), one line each."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    figures = [figure for report in reports if report.when == "call" for figure in report.user_properties]
    if figures:
        terminalreporter.section("figures")
    for name, value in figures:
        terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
