"""A folder as an operator has it: a state, documents, and a configuration that names both."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.e2e.world import MODELS, Demo, announced, command, end, started, started_warm

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
        with started_warm(self.state, *self._serve) as process:
            try:
                yield replace(announced(process, self.state), key=key)
            finally:
                end(process, self.state)

    @contextmanager
    def starting(self) -> Iterator["subprocess.Popen[bytes]"]:
        """`gateway serve`, which may not serve. When the block ends, nothing of this state runs, or the test fails."""
        with started(self.state, *self._serve) as process:
            try:
                yield process
            finally:
                end(process, self.state)

    @property
    def _serve(self) -> tuple[str, ...]:
        return ("serve", "--config", str(self.config), "--json")

    @property
    def log(self) -> str:
        return self.state.with_suffix(".stderr").read_text()
