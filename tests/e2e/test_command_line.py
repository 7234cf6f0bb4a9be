"""The command line over a state directory, as its contract says: outputs, exit codes, and what to do next."""

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tenants.acts import Act
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.model import Model
from tests.conftest import ROOT, needs
from tests.e2e.world import (
    MODELS,
    PROGRAM,
    change,
    command,
    first_line,
    fp32,
    in_parallel,
    running,
    serving,
)

LOGGED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) [\w.]+ \S")
KEY = re.compile(r"gw_live_[0-9A-Za-z]{38}")
Told = Callable[..., Any]


@pytest.fixture
def told(state: Path) -> Told:
    """Run a command over this state that must succeed; what it printed, read as JSON."""

    def run(*arguments: str) -> Any:
        done = command(*arguments, "--state", state, "--json")
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    return run


def expect_refusal(done: "subprocess.CompletedProcess[str]", *words: str, code: int = 1) -> None:
    """One sentence for people on stderr, nothing on stdout, no trace of the inside."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


# Tenants and keys


def test_a_tenant_is_created_listed_shown_and_closed(told: Told) -> None:
    created = told("tenants", "create", "acme")
    assert created == {"name": "acme", "id": created["id"], "plan": "demo", "state": "active"}
    assert told("tenants", "list") == [created]
    assert told("tenants", "show", "acme").items() >= created.items()
    assert told("tenants", "close", "acme") == {"name": "acme", "id": created["id"], "state": "closed"}
    assert told("tenants", "show", "acme")["state"] == "closed"


def test_a_key_is_created_listed_rotated_and_revoked(told: Told) -> None:
    told("tenants", "create", "acme")
    first = told("keys", "create", "--tenant", "acme", "--name", "ci", "--expires", "30d")
    assert first.keys() == {"id", "api_key"}
    assert KEY.fullmatch(first["api_key"])
    second = told("keys", "rotate", first["id"], "--tenant", "acme", "--overlap", "1h")
    assert second["api_key"] != first["api_key"]
    listed = {key["id"]: key for key in told("keys", "list", "--tenant", "acme")}
    assert listed.keys() == {first["id"], second["id"]}
    assert [listed[key["id"]]["state"] for key in (first, second)] == ["rotating", "expiring"]
    assert listed[first["id"]]["expires"] < listed[second["id"]]["expires"]
    assert first["api_key"] not in json.dumps(list(listed.values()))
    assert told("keys", "revoke", first["id"], "--tenant", "acme")["id"] == first["id"]
    states = {key["id"]: key["state"] for key in told("keys", "list", "--tenant", "acme")}
    assert states == {first["id"]: "revoked", second["id"]: "expiring"}


def test_people_get_tables_and_a_key_once(state: Path) -> None:
    assert command("tenants", "list", "--state", state).stdout == "none\n"
    command("tenants", "create", "acme", "--state", state)
    listed = command("tenants", "list", "--state", state).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "acme"]
    made = command("keys", "create", "--tenant", "acme", "--state", state).stdout
    (key,) = KEY.findall(made)
    shown = command("keys", "list", "--tenant", "acme", "--state", state).stdout
    columns = ["ID", "NAME", "HINT", "STATE", "MODELS", "CREATED", "EXPIRES", "USED"]
    assert shown.splitlines()[0].split() == columns
    assert key not in shown


def test_what_is_not_there_or_there_already_is_said(state: Path) -> None:
    at = ("--state", state)
    command("tenants", "create", "acme", *at)
    said = {
        ("tenants", "create", "acme"): ("acme",),
        ("tenants", "create", "beta", "--plan", "gold"): ("gold", "gateway apply -f"),
        ("tenants", "create", "No Name"): ("name",),
        ("tenants", "create", "operator"): ("a word of the gateway's own", "another name"),
        ("tenants", "show", "nobody"): ("nobody", "gateway tenants list"),
        ("keys", "create", "--tenant", "nobody"): ("nobody",),
        ("keys", "create", "--tenant", "acme", "--models", "nothing"): (
            *("nothing", "apply its document", "gateway apply -f"),
        ),
        ("keys", "revoke", "k_00000000000000000000", "--tenant", "acme"): (
            *("k_0000", "gateway keys list --tenant"),
        ),
        ("keys", "rotate", "no id", "--tenant", "acme"): ("no id",),
    }
    results = in_parallel([partial(command, *given, *at) for given in said])  # they change nothing
    for done, words in zip(results, said.values(), strict=True):
        expect_refusal(done, *words)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["keys"],
        ["keys", "create"],
        ["keys", "create", "--tenant", "acme", "--expires", "soon"],
        ["keys", "create", "--tenant", "acme", "--expires", "0d"],
        ["keys", "create", "--tenant", "acme", "--expires", "30"],
        ["keys", "create", "--tenant", "acme", "--expires", "²d"],
        ["demo", "--port", "65536"],
        ["demo", "--port", "-1"],
        ["demo", "--operator-port", "many"],
        ["apply"],
        ["serve", "--workers", "0"],
        ["serve", "--workers", "65"],
        ["schema", "--kind", "Float"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_64(state: Path, arguments: list[str]) -> None:
    given = [*arguments, "--state", str(state)] if len(arguments) > 1 else arguments
    expect_refusal(command(*given), "usage: gateway", code=64)
    assert not state.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *([], ["demo"], ["serve"], ["apply"], ["doctor"], ["schema"], ["backup"], ["restore"]),
        *(["tenants"], ["tenants", "create"], ["keys", "rotate"], ["audit", "verify"]),
    ],
)
def test_help_is_there(arguments: list[str]) -> None:
    done = command(*arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: gateway")


def test_an_editor_gets_the_schema_of_documents_and_no_state_is_made(tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "schema"], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert (done.stderr, list(tmp_path.iterdir())) == (b"", [])
    assert json.loads(done.stdout)["properties"]["kind"] == {
        "enum": ["Fleet", "Issuer", "Model", "Plan", "Privacy", "Tenant"]
    }
    (alone,) = json.loads(command("schema", "--kind", "Plan").stdout)["allOf"]
    assert alone["then"]["properties"]["name"]["type"] == "string"


def test_a_state_is_its_owners_alone(state: Path) -> None:
    command("tenants", "create", "acme", "--state", state)
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_state_that_others_may_enter_is_refused_and_left_as_it_is(state: Path) -> None:
    state.mkdir(mode=0o755)
    expect_refusal(command("tenants", "create", "acme", "--state", state), str(state), "chmod 700")
    assert (stat.S_IMODE(state.stat().st_mode), list(state.iterdir())) == (0o755, [])


def test_a_log_that_is_not_there_proves_nothing_and_looking_for_it_makes_nothing(state: Path) -> None:
    expect_refusal(command("audit", "verify", "--state", state), str(state), "--state")
    assert not state.exists()


def test_the_actor_of_a_change_is_the_unix_user_whatever_the_environment_says(state: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "tenants", "create", "acme", "--state", state],
        env={**os.environ, "LOGNAME": "mallory", "USER": "mallory"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.returncode == 0
    with contextlib.closing(sqlite3.connect(state / "table.sqlite")) as table:
        events = [
            json.loads(value)
            for (value,) in table.execute(
                "SELECT value FROM rows WHERE partition = 'events' OR sort LIKE 'event/%'"
            )
        ]
    assert {event["actor"] for event in events} == {f"cli:{pwd.getpwuid(os.getuid()).pw_name}"}


# The demo


def test_a_port_in_use_is_said_with_what_to_do(state: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("demo", "--state", state, "--port", str(port))
    expect_refusal(done, str(port), "another port")
    assert "[Errno" not in done.stderr


def test_a_path_that_the_system_refuses_is_said_with_what_to_name_instead(tmp_path: Path) -> None:
    file, missing = tmp_path / "file", tmp_path / "missing"
    file.touch()
    for words, path, option in (
        (("tenants", "list", "--state", file / "state"), file, "--state"),
        (("tenants", "list", "--config", missing), missing, "--config"),
        (("apply", "-f", missing, "--state", tmp_path / "state"), missing, "-f"),
    ):
        done = command(*words)
        expect_refusal(done, f"gateway: {path}", f"; name another with {option}\n")
        assert "[Errno" not in done.stderr


@pytest.mark.parametrize("value", [Fleet("local"), Fleet("demo", idle_seconds=1)], ids=["other", "changed"])
def test_a_demo_leaves_a_state_with_fleets_and_models_of_others_as_it_is(state: Path, value: Fleet) -> None:
    mine = Model("", "digits", "/mine", "*", fleet=value.name)

    async def declare(directory: Directory) -> None:
        await directory.values.put(value, mine, act=Act("test", 1))

    change(state, declare)
    before = change(state, lambda it: it.values.models())
    done = command("demo", "--state", state, "--port", "0")
    expect_refusal(done, f"Fleet {value.name}", "name another with --state")
    assert change(state, lambda it: it.values.models()) == before
    assert change(state, lambda it: it.values.fleets()) == {value.name: value}
    assert change(state, lambda it: it.tenants.list()).values == ()


@pytest.mark.triton
def test_a_demo_may_serve_another_repository_than_before(state: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(
            MODELS / "echo_fp32", tmp_path / name / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("first", "second"):
        with serving(state, tmp_path / name) as demo:
            assert demo.call(f"/v2/models/{name}/ready").status == 200
    models = change(state, lambda it: it.values.models())
    assert {name: it.tenants for name, it in models.items()} == {"first": (), "second": "*"}


@pytest.mark.triton
def test_people_are_told_where_operators_go_and_each_line_of_the_log_has_its_time_and_level(
    state: Path,
) -> None:
    repository = ("--repository", str(MODELS))
    with running(state, *repository) as process:
        line = first_line(process).decode()
        gateway, operator = re.findall(r"http://127\.0\.0\.1:\d+", line)
        assert f"The gateway is at {gateway}, for operators at {operator};" in line
        with urllib.request.urlopen(f"{operator}/healthz", timeout=10) as reply:
            assert reply.status == 200
        key, *_ = KEY.findall(_read_until(process, KEY))  # behind it, an operator's
        call = urllib.request.Request(
            f"{gateway}/v2/models/echo_fp32/infer",
            json.dumps(fp32(1)).encode(),
            {"Authorization": f"Bearer {key}"},
        )
        urllib.request.urlopen(call, timeout=60).close()
    lines = state.with_suffix(".stderr").read_text().splitlines()
    assert any("starting Triton" in line for line in lines)
    for line in lines:
        assert LOGGED.match(line), line


def _read_until(process: "subprocess.Popen[bytes]", wanted: re.Pattern[str]) -> str:
    """The next line with that in it."""
    assert process.stdout is not None
    while not wanted.search(line := process.stdout.readline().decode()):
        assert line, "it never came"
    return line


@pytest.mark.parametrize("there", [True, False], ids=["empty", "absent"])
def test_a_repository_without_a_model_is_said_with_what_to_do(
    state: Path, tmp_path: Path, *, there: bool
) -> None:
    repository = tmp_path / "repository"
    if there:
        repository.mkdir()
    done = command("demo", "--state", state, "--port", "0", "--repository", repository)
    expect_refusal(done, str(repository), "config.pbtxt")


def test_a_state_whose_path_triton_cannot_take_is_refused_at_once(tmp_path: Path) -> None:
    """Triton's Python backend hands paths to a shell as they are."""
    state = tmp_path / "state of $HOME"
    with running(state) as process:
        assert first_line(process) == b""
        assert process.wait(5) == 1
    assert str(state) in state.with_suffix(".stderr").read_text()


@pytest.mark.triton
def test_a_repository_may_be_at_any_path(state: Path, tmp_path: Path) -> None:
    repository = tmp_path / "mine of $HOME"
    shutil.copytree(MODELS / "echo_fp32", repository / "echo_fp32")
    with serving(state, repository) as demo:
        assert demo.infer("echo_fp32", fp32(1, 2)).json["outputs"][0]["data"] == [1, 2]


def test_a_setting_that_makes_no_sense_is_wrong_usage(state: Path) -> None:
    with running(state, GATEWAY_HTTP_HEAD_SECONDS="soon") as process:
        assert process.wait(20) == 64
    assert "GATEWAY_HTTP_HEAD_SECONDS" in state.with_suffix(".stderr").read_text()


@pytest.mark.triton
def test_the_line_for_programs_has_every_door(state: Path) -> None:
    with running(state, "--json") as process:
        said = json.loads(first_line(process))
    assert list(said) == ["http", "grpc", "operator", "portal", "tenant", "api_key", "operator_key"]
    assert said["tenant"] == "demo"
    assert KEY.fullmatch(said["api_key"])
    assert KEY.fullmatch(said["operator_key"])
    port = int(said["http"].removeprefix("http://127.0.0.1:"))
    assert 1024 <= port < 32768


@pytest.mark.triton
def test_a_folder_of_many_models_is_served(state: Path, tmp_path: Path) -> None:
    """More than one transaction takes."""
    names = [f"echo{number}" for number in range(40)]
    for name in names:
        shutil.copytree(
            MODELS / "echo_fp32", tmp_path / "mine" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    with serving(state, tmp_path / "mine") as demo:
        for name in (names[0], names[-1]):
            assert demo.infer(name, fp32(1)).json["outputs"][0]["data"] == [1]
            assert demo.infer(name, fp32(1)).json["model_name"] == name
        assert demo.call("/v2/models/echo40").status == 404


@pytest.mark.triton
def test_the_printed_curl_line_works_as_printed(state: Path) -> None:
    printed = _run_the_printed_curl(state)
    scores = printed["outputs"][0]["data"]
    assert scores.index(max(scores)) == 7


@pytest.mark.triton
def test_the_printed_curl_line_works_with_a_repository_of_ones_own(state: Path, tmp_path: Path) -> None:
    repository = tmp_path / "mine"
    shutil.copytree(
        MODELS / "echo_bytes", repository / "echo_bytes", ignore=shutil.ignore_patterns("__pycache__")
    )
    assert _run_the_printed_curl(state, "--repository", str(repository))["name"] == "echo_bytes"


def _run_the_printed_curl(state: Path, *arguments: str) -> Any:
    """Bash runs the line, from where the demo was started."""
    needs("curl")
    with running(state, *arguments) as process:
        assert process.stdout is not None
        line = first_line(process)
        while not line.strip().startswith(b"curl "):
            assert line, "no curl line was printed"
            line = process.stdout.readline()
        called = subprocess.run(["bash", "-c", line], capture_output=True, timeout=30, check=False, cwd=ROOT)
    assert (called.returncode, called.stderr) == (0, b"")
    return json.loads(called.stdout)


def test_a_command_that_serves_nothing_loads_no_door() -> None:
    """They take longer to import than such a command runs."""
    doors = "grpc uvicorn starlette gateway.pipeline cedarpy jinja2 jwt cryptography aiohttp"
    look = f"import sys, gateway.cli; print([name for name in {doors!r}.split() if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
