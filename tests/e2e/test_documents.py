"""Documents and configurations as their readers meet them: compared, applied, served, refused, and a machine examined."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.e2e import warm
from tests.e2e.place import FLEET, Place, model
from tests.e2e.world import (
    DIGITS,
    announced,
    change,
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

# Serve


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
        [warm.program(), "tenants", "create", "acme", "--config", place.config],
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


@pytest.mark.triton
def test_two_gateways_that_start_at_once_roll_out_the_same_documents_once(place: Place) -> None:
    place.write("models.yaml", *(model(f"m{number}") for number in range(100)))
    with (
        place.starting() as first,
        started(place.state, "serve", "--config", str(place.config), "--json") as second,
    ):
        for process in (first, second):
            announced(process, place.state)
        second.terminate()
        second.wait(20)
    assert sorted(re.findall(r"documents: (.*)", place.log)) == ["101 created", "101 unchanged"]
    assert len(change(place.state, lambda it: it.values.models())) == 100


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
        [warm.program(), "doctor", "--state", "state"],
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
            words = [warm.program(), *shlex.split(line.replace("k_...", ident))]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            if line.startswith("keys create "):
                key, ident = re.findall(r"gw_live_\w+|k_[0-9a-z]+", done.stdout)
                assert gateway.infer("digits", json.loads(SEVEN.read_text()), key=key).status == 200
        until(
            lambda: gateway.infer("digits", {}, key=key).status == 401, SEEN_SECONDS
        )  # one of them revoked it
