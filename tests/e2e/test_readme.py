"""The README's first screen works as it is printed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.place import Place
from tests.e2e.world import DIGITS, MODELS, Demo, command, serving
from tests.worlds.provider import providing

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("name", ["snippet", "grpc snippet", "kserve snippet", "javascript"])
def test_the_snippet_classifies_the_picture_of_a_seven(house: Demo, name: str) -> None:
    (snippet,) = re.findall(
        rf"<!-- test: {name} -->\n```\w+\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    environ = {**os.environ, "GATEWAY": house.address, "GRPC": house.grpc, "KEY": house.key}
    program = [sys.executable, "-c"]
    if name == "javascript":
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is missing: apt-get install nodejs")
        program = [node, "--input-type=module", "--eval"]
    done = subprocess.run(
        [*program, snippet],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr


def test_the_openai_example_works_over_models_that_are_offered_as_it_says(state: Path) -> None:
    key = configure(state, Fleet([]))
    text = (ROOT / "README.md").read_text()
    (documents,) = re.findall(r"<!-- test: openai.yaml -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (snippet,) = re.findall(r"<!-- test: openai -->\n```python\n(.*?)```", text, re.DOTALL)
    (state / "documents" / "openai.yaml").write_text(documents)
    for model in (DIGITS / "story", MODELS / "embed"):
        shutil.copytree(model, state / "models" / model.name, ignore=shutil.ignore_patterns("__pycache__"))
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
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 50 + 50
    assert done.stdout.splitlines()[-1] == "2"


def test_the_commands_of_the_readme_are_understood() -> None:
    commands = re.findall(r"^    \.venv/bin/gateway (.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 5
    asked: dict[tuple[str, ...], set[str]] = {}
    for line in commands:
        words = [word for word in line.split() if re.fullmatch(r"[a-z]+", word)]
        asked.setdefault(tuple(words[:2]), set()).update(re.findall(r"--[a-z]+", line))
    for named, options in asked.items():
        done = command(*named, "--help")
        assert done.returncode == 0, done.stderr
        assert all(option in done.stdout for option in options)


def test_a_story_is_streamed_by_the_curl_line_as_it_is_printed(state: Path) -> None:
    (line,) = re.findall(r"<!-- test: stream -->\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
    with serving(state) as demo:
        curl = line.replace("127.0.0.1:8080", demo.address).replace("gw_live_...", demo.key)
        done = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=60, check=True)  # noqa: S602 - as printed
    events = [line for line in done.stdout.splitlines() if line]
    assert len(events) == 40
    assert all(event.startswith('data: {"') for event in events)


def test_a_token_of_the_provider_in_the_document_calls_the_model_and_controls_by_its_role(
    tmp_path: Path,
) -> None:
    text = (ROOT / "README.md").read_text()
    (models,) = re.findall(r"<!-- test: documents.yaml -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (tenant,) = re.findall(r"<!-- test: sign-in.yaml -->\n```yaml\n(.*?)```", text, re.DOTALL)
    (lines,) = re.findall(r"<!-- test: sign-in -->\n((?:    .*\n)+)", text)
    shutil.copytree(DIGITS / "digits", tmp_path / "models" / "digits")
    with providing(tmp_path / "provider", {"dora": {}}) as provider:
        place = Place(tmp_path)
        place.told("tenants", "create", "acme")
        place.write("fleets.yaml", models)
        told = tenant.replace("https://login.acme.example/realms/acme", provider.issuer)
        place.write("acme.yaml", told.replace("audience:", "insecure: true\n    audience:", 1))
        with place.serving() as demo:
            token = provider.minted(provider.claims("dora", realm_access={"roles": ["data-science"]}))
            answers = [
                json.loads(
                    subprocess.run(
                        ["bash", "-c", line.replace("127.0.0.1:8080", demo.address)],
                        env={**os.environ, "TOKEN": token},
                        cwd=ROOT,
                        capture_output=True,
                        timeout=60,
                        check=True,
                    ).stdout
                )
                for line in lines.splitlines()
            ]
    scores = answers[0]["outputs"][0]["data"]
    assert scores.index(max(scores)) == 7
    assert (answers[1]["role"], answers[1]["tenant"]) == ("developer", "acme"), answers[1]
