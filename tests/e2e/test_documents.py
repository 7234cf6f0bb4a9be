"""Documents and configurations as their readers meet them: compared, applied, served, refused, and a machine examined."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.e2e.world import (
    DIGITS,
    MODELS,
    PROGRAM,
    Demo,
    announced,
    command,
    end,
    first_line,
    fp32,
    new_tenant,
    started,
    until,
)

SEEN_SECONDS = 5.0
SEVEN = ROOT / "infra" / "examples" / "digit.json"
FLEET = "kind: Fleet\nname: local\nreplicas: {max: 2}\n"


def model(name: str = "echo_fp32", **more: object) -> str:
    given = {"kind": "Model", "name": name, "repository": str(MODELS), "tenants": "*", **more}
    return json.dumps(given) + "\n"  # JSON is YAML


class Place:
    """A folder with a state, documents, and a configuration that names both."""

    def __init__(self, folder: Path) -> None:
        self.state, self.documents, self.config = (
            folder / "state",
            folder / "documents",
            folder / "gateway.yaml",
        )
        self.documents.mkdir()
        self.write("fleets.yaml", FLEET)
        self.configure()

    def write(self, name: str, *documents: str) -> Path:
        path = self.documents / name
        path.write_text("---\n".join(documents))
        return path

    def configure(self, more: str = "") -> None:
        self.config.write_text(
            'listen: {http: "127.0.0.1:0"}\noperator_listen: "127.0.0.1:0"\nstate: ./state\ndocuments: documents\n'
            + more
        )

    def told(self, *arguments: str | Path, code: int = 0) -> Any:
        """What a command of this place printed as JSON."""
        done = command(*arguments, "--config", self.config, "--json")
        assert (done.returncode, done.stderr) == (code, "")
        return json.loads(done.stdout)

    @contextmanager
    def serving(self, key: str = "") -> Iterator[Demo]:
        with self.starting() as process:
            yield replace(announced(process, self.state), key=key)

    @contextmanager
    def starting(self) -> Iterator["subprocess.Popen[bytes]"]:
        """`gateway serve`, which may not serve. When the block ends, nothing of this state runs, or the test fails."""
        with started(self.state, "serve", "--config", str(self.config), "--json") as process:
            try:
                yield process
            finally:
                end(process, self.state)

    @property
    def log(self) -> str:
        return self.state.with_suffix(".stderr").read_text()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# Apply


def test_a_dry_run_says_what_would_change_and_changes_nothing(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model())
    done = command("apply", "-f", path, "--dry-run", "--state", place.state)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == "create  Fleet local\ncreate  Model echo_fp32\n2 to create\n"
    assert not place.state.exists()


def test_documents_are_applied_once_and_then_there_is_nothing_to_do(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model())
    at = ("-f", path, "--state", place.state)
    assert command("apply", *at).stdout.endswith("2 created\n")
    assert command("apply", *at).stdout == "nothing to do: 2 unchanged\n"
    assert command("apply", *at, "--dry-run").returncode == 0
    place.write("all.yaml", FLEET, model(memory_bytes=1000))
    done = command("apply", *at, "--dry-run")
    assert done.returncode == 2
    assert done.stdout == (
        "change  Model echo_fp32\n          memory_bytes: 67108864 -> 1000\n1 to change, 1 unchanged\n"
    )
    assert command("apply", *at).returncode == 0
    assert command("apply", *at, "--dry-run").returncode == 0


def test_programs_get_the_same_as_json(place: Place) -> None:
    path = place.write("all.yaml", FLEET, model(tenants=["acme"]))
    note = {"file": str(path), "line": 5, "path": "tenants[0]", "reason": "there is no tenant 'acme' yet"}
    first = place.told("apply", "-f", path)
    assert first == {
        "applied": True,
        "changes": [
            {"kind": "Fleet", "name": "local", "action": "create", "fields": {}},
            {"kind": "Model", "name": "echo_fp32", "action": "create", "fields": {}},
        ],
        "unchanged": 0,
        "notes": [note],
    }
    place.write("all.yaml", FLEET, model())
    (change,) = place.told("apply", "-f", path, "--dry-run", code=2)["changes"]
    assert change["fields"] == {"tenants": {"before": ["acme"], "after": "*"}}


def test_a_tenants_document_is_judged_and_not_applied_yet(place: Place) -> None:
    tenant = "kind: Tenant\nname: acme\nplan: team\nmembers: [{email: admin@acme.example, role: admin}]\n"
    path = place.write("all.yaml", FLEET, tenant)
    for words in (("--dry-run",), ()):
        done = command("apply", "-f", path, "--state", place.state, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{path}:5: kind: documents of this kind are not applied yet" in done.stderr
    assert not place.state.exists()
    place.write("all.yaml", FLEET, tenant.replace("role: admin", "role: owner"))
    assert f"{path}:8: members[0].role" in command("apply", "-f", path, "--state", place.state).stderr


def test_every_fault_is_a_line_and_nothing_is_applied(place: Place) -> None:
    place.write(
        "a.yaml", FLEET.replace("local", "other"), "kind: Model\nname: x\nrepository: m\ntenants: [on]\n"
    )
    place.write("b.yml", "kind: Model\nname: z\nfleet: nowhere\nrepository: m\ntenants: '*'\n")
    done = command("apply", "-f", place.documents, "--state", place.state)
    assert (done.returncode, done.stdout) == (1, "")
    first, second, last = done.stderr.splitlines()
    assert first.startswith(f"{place.documents}/a.yaml:8: tenants[0]: 'on' is read differently")
    assert second == f"{place.documents}/b.yml:3: fleet: there is no fleet 'nowhere'"
    assert last == "gateway: nothing was applied"
    assert not place.state.exists()
    done = command("apply", "-f", place.documents, "--state", place.state, "--json")
    assert [(it["line"], it["path"]) for it in json.loads(done.stdout)["faults"]] == [
        (8, "tenants[0]"),
        (3, "fleet"),
    ]
    assert done.returncode == 1


def test_a_folder_is_its_yaml_files_and_an_empty_one_is_said(place: Place) -> None:
    place.write("models.yml", model())
    for name in ("notes.txt", ".hidden.yaml", "saved.yaml~"):
        place.write(name, "no document")
    assert len(place.told("apply", "-f", place.documents)["changes"]) == 2
    for path in (place.documents / "models.yml", place.documents / "fleets.yaml"):
        path.unlink()
    for missing in (place.documents, place.documents / "none.yaml"):
        done = command("apply", "-f", missing, "--state", place.state)
        assert (done.returncode, done.stdout) == (1, "")
        assert str(missing) in done.stderr
    empty = place.write("empty.yaml", "# nothing yet\n")
    for wanted in (empty, place.documents):
        for options in ((), ("--dry-run",)):
            done = command("apply", "-f", wanted, *options, "--state", place.state)
            assert (done.returncode, done.stdout) == (1, "")
            assert f"{wanted} holds no document" in done.stderr


# Serve


def test_one_process_is_all_that_is_built(place: Place) -> None:
    done = command("serve", "--config", place.config, "--workers", "2")
    assert done.returncode == 64
    assert "not built yet" in done.stderr
    assert not place.state.exists()


def test_a_gateway_does_not_start_over_documents_with_a_fault(place: Place) -> None:
    place.write("fleets.yaml", FLEET, FLEET.replace("local", "other") + "colour: red\n")
    with place.starting() as process:
        assert first_line(process) == b""
        assert process.wait(20) == 1
    assert "fleets.yaml:8: colour: unknown key" in place.log
    assert not place.state.exists()


def test_a_configuration_that_makes_no_sense_is_wrong_usage(place: Place) -> None:
    place.configure("http:\n  grace: 1\n")
    for words in (("serve",), ("tenants", "list"), ("doctor",)):
        done = command(*words, "--config", place.config)
        assert (done.returncode, done.stdout) == (64, "")
        assert f"{place.config}:6: http.grace: unknown key" in done.stderr
    assert not place.state.exists()


def test_every_fault_of_a_configuration_is_a_line_and_a_document_is_none(place: Place) -> None:
    place.configure("a: 1\nb: 2\n")
    first, second, last = command("serve", "--config", place.config).stderr.splitlines()
    assert first.startswith(f"{place.config}:5: a: unknown key")
    assert second.startswith(f"{place.config}:6: b: unknown key")
    assert last == f"gateway: {place.config} is no configuration that makes sense"
    document = place.write("models.yaml", model())
    done = command("serve", "--config", document)
    assert done.returncode == 64
    assert done.stderr.splitlines()[0] == (
        f"{document}:1: kind: is of a document; a configuration names the folder of those with documents: FOLDER"
    )


def test_the_environment_goes_before_the_file(place: Place, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    done = subprocess.run(
        [PROGRAM, "tenants", "create", "acme", "--config", place.config],
        env={**os.environ, "GATEWAY_STATE": str(elsewhere)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.returncode == 0
    assert elsewhere.exists()
    assert not place.state.exists()


def test_commands_find_their_state_by_the_configuration(place: Place) -> None:
    place.told("tenants", "create", "acme")
    key = place.told("keys", "create", "--tenant", "acme")
    assert [it["id"] for it in place.told("keys", "list", "--tenant", "acme")] == [key["id"]]
    assert command("tenants", "list", "--state", place.state, "--json").stdout.count("acme") == 1


@pytest.mark.triton
def test_what_documents_say_is_served_and_what_is_applied_later_too(place: Place) -> None:
    place.write("models.yaml", model())
    place.configure("http: {grace_seconds: 2}\n")
    key = new_tenant(place.state, "roomy").secret.reveal()
    with place.serving(key) as gateway:
        assert gateway.infer("echo_fp32", fp32(1)).json["outputs"][0]["data"] == [1]
        assert gateway.infer("echo_bytes", {}).status == 404
        place.told("apply", "-f", place.write("later.yaml", model("echo_bytes")))
        until(lambda: gateway.call("/v2/models/echo_bytes/ready").status == 200, SEEN_SECONDS)
    assert "documents: 2 created" in place.log


@pytest.mark.triton
def test_the_line_for_programs_has_every_door_and_no_key(place: Place) -> None:
    place.config.write_text(
        place.config.read_text().replace("listen: {", 'listen: {grpc: "127.0.0.1:0", ', 1)
    )
    with place.starting() as process:
        said = json.loads(first_line(process))
    assert list(said) == ["http", "grpc", "operator", "portal"]
    assert said["grpc"].startswith("127.0.0.1:")


@pytest.mark.triton
def test_the_commands_that_serve_prints_work_as_printed(place: Place) -> None:
    with started(place.state, "serve", "--config", str(place.config)) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().decode() for _ in range(6)]
        finally:
            end(process, place.state)
    printed = [line.strip().replace("NAME", "acme") for line in lines if " create " in line]
    assert len(printed) == 2, lines
    for line in printed:
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )
        assert done.returncode == 0, (line, done.stderr)


@pytest.mark.triton
def test_two_gateways_serve_one_state(place: Place) -> None:
    place.write("models.yaml", model())
    minted = new_tenant(place.state, "roomy")
    key = minted.secret.reveal()
    with (
        place.serving(key) as first,
        started(place.state, "serve", "--config", str(place.config), "--json") as process,
    ):
        second = replace(announced(process, place.state), key=key)
        assert first.port != second.port
        for gateway in (first, second):
            assert gateway.infer("echo_fp32", fp32(1)).status == 200
        place.told("keys", "revoke", minted.key.id, "--tenant", "roomy")
        until(lambda: first.infer("echo_fp32", fp32(1)).status == 401, SEEN_SECONDS)
        until(lambda: second.infer("echo_fp32", fp32(1)).status == 401, SEEN_SECONDS)
        assert second.stop() == 0
        assert first.call("/readyz", headers={}).status == 200
    assert place.told("audit", "verify")["fault"] is None


# Doctor


@pytest.mark.triton
def test_a_machine_that_lacks_nothing_is_told_so(place: Place) -> None:
    place.write("models.yaml", model())
    done = command("doctor", "--config", place.config)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "FAIL" not in done.stdout
    assert not place.state.exists()
    found = place.told("doctor")
    assert all(it["ok"] for it in found)
    assert all(it.keys() == {"what", "ok", "advice"} for it in found)
    assert any("echo_fp32" in it["what"] for it in found)


def test_what_is_wrong_is_named_with_what_to_do(place: Place, tmp_path: Path) -> None:
    place.write("models.yaml", model("nothing", repository=str(tmp_path)), "kind: Fleet\nname: Q\n")
    place.configure(f"policies: {tmp_path}/none\n")
    place.state.mkdir(mode=0o755)
    place.state.chmod(0o755)
    done = command("doctor", "--config", place.config)
    assert done.returncode == 1
    for words in (f"chmod 700 {place.state}", "models.yaml:4: name:", f"{tmp_path}/none"):
        assert words in done.stdout
    place.write("models.yaml", model("nothing", repository=str(tmp_path)))
    assert "put its config.pbtxt" in command("doctor", "--config", place.config).stdout
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "config.pbtxt").touch()
    assert "models.yaml:1: it has no version" in command("doctor", "--config", place.config).stdout


def test_the_folder_that_one_is_in_is_called_by_its_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "doctor", "--state", "state"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"  {tmp_path} can be written" in done.stdout


@pytest.mark.triton
def test_ones_own_models_are_served_by_the_documents_and_commands_of_the_readme_in_their_order(
    place: Place,
) -> None:
    """Its ports are free ones here, and the program is where it is; all else is as printed."""
    text = (ROOT / "README.md").read_text()
    configuration, documents = (
        text.split(f"<!-- test: {mark} -->\n```yaml\n")[1].split("```", maxsplit=1)[0]
        for mark in ("gateway.yaml", "documents.yaml")
    )
    place.config.write_text(re.sub(":80[89][0-9]", ":0", configuration))
    place.write("models.yaml", documents)
    (place.documents / "fleets.yaml").unlink()
    folder = place.config.parent
    shutil.copytree(DIGITS, folder / "models")
    key, ident = "", "k_..."
    with contextlib.ExitStack() as running:
        for line in re.findall(r"^    \.venv/bin/gateway (.*)$", text, re.MULTILINE):
            if line.startswith("serve "):
                gateway = announced(running.enter_context(place.starting()), place.state)
                continue
            words = [PROGRAM, *line.replace("k_...", ident).split()]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            if line.startswith("keys create "):
                key, ident = re.findall(r"gw_live_\w+|k_[0-9a-z]+", done.stdout)
                assert gateway.infer("digits", json.loads(SEVEN.read_text()), key=key).status == 200
        until(
            lambda: gateway.infer("digits", {}, key=key).status == 401, SEEN_SECONDS
        )  # one of them revoked it
