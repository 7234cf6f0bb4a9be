"""How long does a token that is not sound keep a gateway busy? `python -m tests.bench.hostile [--rounds 5]`.

Every hostile token (`tests/gateway/auth/hostile.py`), to a real gateway over HTTP and gRPC, one at a time; no Triton. The figure of a token
is its fastest round, so that what else the machine did is left out; the slowest answer of all is told too. Exit codes: 0 the bar holds, 3
it is missed.
"""

import argparse
import gc
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.report import Bar
from tests.e2e.siege import DOORS, RPCS, Siege, siege

MISSED = 3
MOST_MS = 100.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile")
    parser.add_argument("--rounds", type=int, default=5, help="of all tokens (default: 5)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, siege(Path(folder) / "state") as besieged:
        gc.disable()  # the client's own pauses are no answer's
        took = measured(besieged, rounds)
    found = bars(took)
    for bar in found:
        is_so = "no bar" if bar.is_aim else f"at most {bar.most:g}: {'holds' if bar.holds else 'MISSED'}"
        print(f"{bar.what:90} {bar.figure:8.2f}   {is_so}")
    return 0 if all(bar.holds for bar in found) else MISSED


def measured(besieged: Siege, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round, by door and token."""
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for door in DOORS:
            for name, text in besieged.hostile(door.listener):
                besieged.ask(door, name, text)
                took.setdefault(f"{door.listener} {door.path}: {name}", []).append(besieged.last * 1000)
        for rpc in RPCS:
            for name, text in besieged.hostile("public"):
                besieged.call(rpc, name, text)
                took.setdefault(f"{rpc}: {name}", []).append(besieged.last * 1000)
    return took


def bars(took: dict[str, list[float]]) -> list[Bar]:
    fastest = {what: min(them) for what, them in took.items()}
    slow, slowest = max(fastest, key=fastest.__getitem__), max(took, key=lambda it: max(took[it]))
    every = [it for them in took.values() for it in them]
    return [
        Bar(what=f"the slowest token, ms ({slow})", figure=fastest[slow], most=MOST_MS),
        Bar(what=f"the slowest answer of {len(every)}, ms ({slowest})", figure=max(every)),
        Bar(what="the median answer, ms", figure=median(every)),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
