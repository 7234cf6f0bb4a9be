"""The README's first screen works as it is printed."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.e2e.world import Demo

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("name", ["snippet", "grpc snippet"])
def test_the_snippet_classifies_the_picture_of_a_seven(house: Demo, name: str) -> None:
    (snippet,) = re.findall(
        rf"<!-- test: {name} -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    environ = {**os.environ, "GATEWAY": house.address, "GRPC": house.grpc, "KEY": house.key}
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr


def test_the_commands_of_the_readme_are_understood() -> None:
    commands = re.findall(r"^    \.venv/bin/gateway (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 5
    for line in commands:
        words = [word for word in line.split() if re.fullmatch(r"[a-z]+", word)]
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", *words[:2], "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert all(option in done.stdout for option in re.findall(r"--[a-z]+", line))
