"""The README's first screen works as it is printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import MODELS, Demo

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


def test_the_openai_example_works_over_models_that_are_offered_as_it_says(state: Path) -> None:
    """The models that it names are test models here: one that repeats what it is told, and one with vectors of four."""
    key = configure(state, Fleet([]))
    text = (ROOT / "README.md").read_text()
    (documents,) = re.findall(r"<!-- test: openai.yaml -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (snippet,) = re.findall(r"<!-- test: openai -->\n```python\n(.*?)```", text, re.DOTALL)
    (state / "documents" / "openai.yaml").write_text(documents)
    for name, model in (("story", "parrot"), ("embed", "vectors")):
        shutil.copytree(MODELS / model, state / "models" / name, ignore=shutil.ignore_patterns("__pycache__"))
    with serve(state, key) as demo:
        try:
            address = {"OPENAI_BASE_URL": f"http://{demo.address}/v1", "OPENAI_API_KEY": key}
            done = subprocess.run(
                [sys.executable, "-c", snippet],
                env={**os.environ, **address},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            killed(demo)
    assert (done.returncode, done.stdout) == (0, "Once upon a time\n" * 2 + "2\n"), done.stderr


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
