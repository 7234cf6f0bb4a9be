"""What starts warm is what the program is to whoever calls it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e import warm
from tests.e2e.world import PROGRAM, started_warm

KEY_ID = "k_" + "0" * 20


@pytest.mark.parametrize(
    ("line", "given"),
    [
        (["--version"], ""),
        (["plans"], ""),
        (["tenants", "list", "--state", "here"], ""),
        (["tenants", "create", "two words", "--state", "here"], ""),
        (["keys", "revoke", KEY_ID, "--tenant", "acme", "--state", "here"], ""),
        (["issuers", "check", "-"], "no token"),
        (["doctor", "--state", "here", "--config", "nowhere.yaml"], ""),
    ],
)
def test_a_command_that_starts_warm_reads_says_and_ends_as_the_program_does(
    line: list[str], given: str, tmp_path: Path
) -> None:
    told: list[tuple[int, str, str, list[str]]] = []
    for program in (str(PROGRAM), warm.program()):
        folder = tmp_path / f"{len(told)}"
        folder.mkdir()
        done = subprocess.run(
            [program, *line],
            input=given,
            cwd=folder,
            env={**os.environ, "GATEWAY_STATE": "there"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = done.stderr.replace(str(folder), "").replace(program, "gateway")
        told.append((done.returncode, done.stdout, said, os.listdir(folder)))
    assert told[0] == told[1]


def test_a_gateway_that_starts_warm_has_its_own_name_and_ends_by_its_own_signals(state: Path) -> None:
    with started_warm(
        state, "serve", "--state", str(state), "--port", "0", "--operator-port", "0"
    ) as process:
        assert process.stdout.readline()
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        assert words[1:5] == [os.fsencode(PROGRAM), b"serve", b"--state", str(state).encode()]
        assert process.poll() is None
        with pytest.raises(TimeoutError):
            process.wait(0.01)
        process.terminate()
        assert process.wait(20) == 0
    with started_warm(
        state, "serve", "--state", str(state), "--port", "0", "--operator-port", "0"
    ) as process:
        assert process.stdout.readline()
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
