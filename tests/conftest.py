"""What every test may ask for. What lacks a system package is skipped and listed last; in CI such a skip is a failure."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# How long an example takes, or its making, says how busy the machine is.
settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gateway")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the loop that the gateway runs on."""
    return "asyncio", {"use_uvloop": True}


def needs(program: str) -> str:
    """The path of a system program; without it the test is skipped, in CI it fails."""
    path = shutil.which(program)
    if path is None:
        text = f"{program} is not installed; run: make packages"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return path
