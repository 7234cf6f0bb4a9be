"""`gateway serve` over documents of one fleet and its models, and what the logs of its Tritons tell.

Everything is inside the state folder, configuration and documents too: whoever has it in the command line is of this world.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.state import clock
from tests.e2e.world import MODELS, Demo, announced, expect_nothing_left, new_tenant, processes, started_warm

MODEL_BYTES = 64 * 2**20
FAILS = "no such weights"
"""What a model of `fails` says as it is loaded."""

_CODE = '''"""{0}"""

import os
import signal


class TritonPythonModel:
    def initialize(self, args):
        {1}
'''
# Models that never get ready: their load fails, or it takes the whole server with it.
BROKEN = {
    "fails": _CODE.format("Cannot be loaded.", f'raise RuntimeError("{FAILS}")'),
    "kills": _CODE.format("Kills its server.", "os.kill(os.getppid(), signal.SIGKILL)"),
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """One fleet `local` of replicas that hold `models_each` of the models; knobs as in the documents."""

    models: Sequence[str]
    models_each: int = 4
    most_replicas: int = 1
    idle_seconds: float = 600.0
    scaling: Mapping[str, Any] | None = None
    of_model: Mapping[str, Mapping[str, Any]] | None = None
    """What differs in the scaling of single models."""
    instances: Mapping[str, int] | None = None
    """How many requests a model computes at once; 1 unless said."""
    openai: Mapping[str, Mapping[str, Any]] | None = None
    """How single models are offered through OpenAI's API."""

    def documents(self, repository: Path) -> list[dict[str, Any]]:
        fleet = {
            "kind": "Fleet",
            "name": "local",
            "scaler": {"type": "process"},
            "replicas": {"min": 0, "max": self.most_replicas},
            "memory_bytes": self.models_each * MODEL_BYTES,
            "idle_seconds": self.idle_seconds,
        }
        return [fleet, *(self._model(name, repository) for name in self.models)]

    def _model(self, name: str, repository: Path) -> dict[str, Any]:
        section = (self.openai or {}).get(name)
        offered = {"openai": dict(section)} if section else {}
        usual = {"max_replicas": 1, "target_concurrency": 64, "idle_seconds": self.idle_seconds}
        return {
            "kind": "Model",
            "name": name,
            "fleet": "local",
            "repository": str(repository),
            "memory_bytes": MODEL_BYTES,
            "scaling": {
                **usual,
                "start_deadline_seconds": 30,
                **(self.scaling or {}),
                **(self.of_model or {}).get(name, {}),
            },
            "tenants": "*",
            **offered,
        }


def make_repository(folder: Path, fleet: Fleet) -> None:
    """Copies of tests/models by the names that they shall have; times07 and its like are copies of `times`."""
    for name in fleet.models:
        source = MODELS / ("times" if name in BROKEN else re.sub(r"\d+$", "", name))
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        if name in BROKEN:
            (folder / name / "1" / "model.py").write_text(BROKEN[name])
        with (folder / name / "config.pbtxt").open("a") as config:
            config.write(f"instance_group: [{{ count: {(fleet.instances or {}).get(name, 1)} }}]\n")


def configure(state: Path, fleet: Fleet, port: int = 0, **listen: str) -> str:
    """A state whose configuration serves the fleet, and listens there too; gives the key of a tenant without tight limits."""
    state.mkdir(mode=0o700)
    make_repository(state / "models", fleet)
    (state / "documents").mkdir()
    documents = fleet.documents(state / "models")
    # JSON is YAML.
    (state / "documents" / "all.yaml").write_text("\n---\n".join(map(json.dumps, documents)))
    settings = {
        "listen": {"http": f"127.0.0.1:{port}", **listen},
        "operator_listen": "127.0.0.1:0",
        "state": str(state),
        "documents": str(state / "documents"),
    }
    (state / "gateway.yaml").write_text(json.dumps(settings))
    return new_tenant(state, "roomy").secret.reveal()


@contextmanager
def serving_fleet(state: Path, fleet: Fleet) -> Iterator[Demo]:
    """`gateway serve` over this fleet, until the block ends."""
    with serve(state, configure(state, fleet)) as demo:
        try:
            yield demo
        finally:
            killed(demo)


def killed(demo: Demo) -> None:
    """By SIGKILL, which is quicker than SIGTERM; nothing is left after it, or the test fails."""
    demo.kill()
    demo.process.wait()
    expect_nothing_left(demo.state)


@contextmanager
def serve(state: Path, key: str, *arguments: str, **environ: str) -> Iterator[Demo]:
    """`gateway serve` over a configured state; the block has to end it."""
    words = ("serve", "--config", str(state / "gateway.yaml"), "--json", *arguments)
    with started_warm(state, *words, **environ) as process:
        yield replace(announced(process, state), key=key)


# What the logs tell

_LINE = re.compile(
    r"^I(\d{4} [\d:.]{15}) .*\"(loading: |successfully loaded '|successfully unloaded ')([\w-]+)",
    re.MULTILINE,
)
_WORDS = {"loading: ": "loading", "successfully loaded '": "loaded", "successfully unloaded '": "unloaded"}


@dataclass(frozen=True, slots=True)
class Logged:
    """Triton's own word that a model's load began or ended well, or its unload ended; `at` in seconds of `clock`."""

    at: float
    what: str
    model: str
    replica: str


def logged(state: Path) -> list[Logged]:
    """All of it, in order."""
    ahead = clock() - time.time()
    year = datetime.now(UTC).year
    found = []
    for log in (state / "triton").glob("*.log*"):
        for moment, what, model in _LINE.findall(log.read_text(errors="replace")):
            at = datetime.strptime(f"{year}{moment}", "%Y%m%d %H:%M:%S.%f").replace(tzinfo=UTC)
            found.append(Logged(at.timestamp() + ahead, _WORDS[what], model, log.name.split(".")[0]))
    return sorted(found, key=lambda line: line.at)


def count(state: Path, what: str, model: str | None = None) -> int:
    return sum(line.what == what and model in (None, line.model) for line in logged(state))


def server_of(state: Path, model: str) -> int:
    """The process of the living server that last loaded the model."""
    for line in reversed(logged(state)):
        if line.what == "loaded" and line.model == model:
            for number, program in processes(state).items():
                words = Path(f"/proc/{number}/cmdline").read_bytes().decode()
                if program == "tritonserver" and line.replica in words:
                    return number
    raise AssertionError(f"no living server has loaded {model}")


def gateway_log(state: Path) -> str:
    return state.with_suffix(".stderr").read_text()
