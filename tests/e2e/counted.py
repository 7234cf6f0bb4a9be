"""What is stored of usage, and what Triton says by itself: two that must agree."""

import json
import re
import sqlite3
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway.usage.apportion import IDLE, LOAD
from tenants import usage
from tenants.ports import Key, Row
from tenants.usage import Sums
from tests.e2e.world import processes


def rows(state: Path) -> list[Row]:
    """All of the table of usage, as it is now."""
    with closing(sqlite3.connect(f"file:{state / 'usage.sqlite'}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT partition, sort, value, version FROM rows ORDER BY partition, sort"
        )
        return [Row(Key(partition, sort), value, version) for partition, sort, value, version in found]


def by_key(state: Path) -> dict[str, Sums]:
    """The sums of each key, and of each line of the operator's own, over all months."""
    found: dict[str, Sums] = {}
    for row in rows(state):
        if row.key.partition.startswith("usage/") and row.key.partition.endswith("/month"):
            key = row.key.sort.split("/")[1]
            found[key] = found.get(key, usage.NOTHING) + usage.read(row)
    return found


def by_model(state: Path) -> Counter[str]:
    """Microseconds of compute that are somebody's or have a line, by the model's id."""
    found: Counter[str] = Counter()
    for row in rows(state):
        if row.key.partition.startswith("usage/") and row.key.partition.endswith("/month"):
            _, key, model = row.key.sort.split("/")
            if key not in (IDLE, LOAD):
                found[model] += usage.read(row).compute_us
    return found


def compute_ns(state: Path) -> Counter[str]:
    """By model: what the Triton of this state says of its executions."""
    found: Counter[str] = Counter()
    for pid, program in processes(state).items():
        if program == "tritonserver":
            command = Path(f"/proc/{pid}/cmdline").read_text()
            (port,) = re.findall(r"--http-port=(\d+)", command)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/stats", timeout=5) as answer:
                for model in json.load(answer)["model_stats"]:
                    found[model["name"]] += sum(_ns(it) for it in model["batch_stats"])
    return found


def executions(state: Path) -> Counter[str]:
    """By model: how many requests the Triton of this state says that it ran, and did not fail."""
    found: Counter[str] = Counter()
    for pid, program in processes(state).items():
        if program == "tritonserver":
            (port,) = re.findall(r"--http-port=(\d+)", Path(f"/proc/{pid}/cmdline").read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/stats", timeout=5) as answer:
                for model in json.load(answer)["model_stats"]:
                    found[model["name"]] += model["inference_stats"]["success"]["count"]
    return found


def _ns(batch: dict[str, Any]) -> int:
    return sum(int(batch[part]["ns"]) for part in ("compute_input", "compute_infer", "compute_output"))
