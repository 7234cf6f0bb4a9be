"""All is lost but the back-ups: the walk of the operators' page brings back what opens what was sealed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.state_keys import KEY_CHECK, WRAPPED
from tests.e2e import warm
from tests.e2e.test_operators_page import PAGE
from tests.e2e.world import MODELS, command, new_tenant, serving, until


def walk(name: str, folder: Path, request: str) -> "subprocess.CompletedProcess[str]":
    """The block of the page, with its places in this folder."""
    (found,) = re.findall(rf"<!-- test: {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = found.replace("/mnt/", f"{folder}/").replace("REQUEST", request)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environ["PATH"] = f"{Path(warm.program()).parent}:{environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.triton
def test_a_machine_that_is_lost_comes_back_from_its_back_ups_and_opens_what_was_sealed(
    tmp_path: Path,
) -> None:
    state, places = tmp_path / ".state", ("states", "keys", "safe")
    for place in places:
        (tmp_path / place).mkdir(mode=0o700)
    key = new_tenant(state, "acme").secret.reveal()
    with serving(state, MODELS) as demo:
        answer = demo.infer("nothing", {"inputs": []}, key=key)
        assert answer.status == 404
        shown = ("audit", "show", answer.request_id, "--state", state)
        until(lambda: command(*shown).returncode == 0, 5)
        before = command(*shown).stdout
        assert "model_not_found" in before  # of the sealed body
        done = walk("before", tmp_path, answer.request_id)
        assert done.returncode == 0, done.stderr
        running = command("data-keys", "restore", tmp_path / "keys", "--state", state)
        assert (running.returncode, "a gateway runs over" in running.stderr) == (1, True)
    shutil.rmtree(state)
    done = walk("after", tmp_path, answer.request_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 wrapped data keys of" in done.stdout
    assert done.stdout.endswith(before)
    with serving(state, MODELS) as demo:
        assert demo.infer("nothing", {"inputs": []}, key=key).status == 404


def test_a_key_that_was_destroyed_since_stays_away_and_an_old_back_up_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    key = new_tenant(state, "acme").secret.reveal()
    with serving(state, MODELS) as demo:
        demo.infer("nothing", {"inputs": []}, key=key)
        assert command("data-keys", "backup", tmp_path / "keys", "--state", state).returncode == 0
        destroyed = command(
            "data-keys",
            "destroy",
            "--all",
            "--tenant",
            "acme",
            "--wait",
            "0",
            "--reason",
            "x",
            "--state",
            state,
        )
        assert destroyed.returncode == 0
    for name in (WRAPPED, KEY_CHECK):
        (state / name).unlink()
    done = command("data-keys", "restore", tmp_path / "keys", "--state", state, "--json")
    assert '"restored": 0, "there": 0, "destroyed": 1' in done.stdout, done.stderr
    (place,) = (tmp_path / "keys").iterdir()
    manifest = (place / "manifest.json").read_text()
    (place / "manifest.json").write_text(re.sub(r'"made_us": \d+', '"made_us": 1764234360000000', manifest))
    refused = command("data-keys", "restore", place, "--state", state, GATEWAY_KEYS_BACKUP_DAYS="3")
    assert (refused.returncode, "more than 3 days ago (keys.backup_days)" in refused.stderr) == (1, True)
