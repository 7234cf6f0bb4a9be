"""A back-up on the command line, made of a state that a gateway serves, and what comes back to life with it."""

import json
from pathlib import Path

import pytest

from tests.e2e.world import MODELS, command, fp32, new_tenant, serving, until


@pytest.mark.triton
def test_a_served_state_is_backed_up_and_restored_with_its_log_and_a_key_that_was_revoked_since(
    state: Path, tmp_path: Path
) -> None:
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    minted = new_tenant(state, "acme")
    key = minted.secret.reveal()
    with serving(state, MODELS) as demo:
        assert demo.infer("echo_fp32", fp32(1), key=key).status == 200
        done = command("backup", backup, "--state", state, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        said = json.loads(done.stdout)
        assert said.items() >= {"backup": str(backup), "segments": 1}.items()
        assert command("keys", "revoke", minted.key.id, "--tenant", "acme", "--state", state).returncode == 0
        until(lambda: demo.call("/v1/models", key=key).status == 401, 10)

    done = command("restore", backup, "--state", restored)
    assert done.returncode == 0
    assert "revoked after it work again until they are revoked anew" in done.stdout
    assert said["made"] in done.stdout
    log = json.loads(command("audit", "verify", "--state", restored, "--json").stdout)
    assert (log["fault"], log["intents"]) == (None, 1)
    doctor = command("doctor", "--state", restored, "--json")
    assert doctor.returncode == 0, doctor.stdout
    with serving(restored, MODELS) as demo:
        assert demo.call("/v1/models", key=key).status == 200
        assert (
            command("keys", "revoke", minted.key.id, "--tenant", "acme", "--state", restored).returncode == 0
        )
        until(lambda: demo.call("/v1/models", key=key).status == 401, 10)
    assert command("audit", "verify", "--state", restored).returncode == 0


def test_what_cannot_be_backed_up_or_restored_is_said_in_a_sentence(state: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    for words, code, sentence in (
        (("backup", backup), 1, f"there is no table in {state}; name its state with --state"),
        (("restore", backup), 1, f"{backup} is no back-up: it has no manifest.json"),
        (("backup",), 64, "usage: gateway backup"),
        (("restore",), 64, "usage: gateway restore"),
    ):
        done = command(*words, "--state", state)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert not state.exists()
        assert not backup.exists()
    command("tenants", "create", "acme", "--state", state)
    assert command("backup", backup, "--state", state).returncode == 0
    for words in (("backup", backup), ("restore", backup)):
        done = command(*words, "--state", state)
        assert (done.returncode, done.stdout) == (1, "")
        assert "replaces nothing" in done.stderr
    done = command("backup", "/proc/backup", "--state", state)
    assert (
        done.stderr.splitlines()[-1]
        == "gateway: /proc/backup: No such file or directory; name another folder"
    )
