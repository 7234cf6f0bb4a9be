"""What does it cost to know a caller who was met before, and what to meet one? `python -m tests.bench.identity [--times 100000]`.

Authenticate and authorize (discover, then infer) of a warm key and of a warm token, in turns, in this process; no socket, no Triton. The
figure is CPU time. Exit codes: 0 every bar holds, 3 one is missed.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from statistics import median

from gateway.pipeline import Pipeline
from tenants.keys import Secret
from tests.bench.report import Bar
from tests.gateway.house import house

MISSED = 3
MOST_KEY_US = 12.0
MOST_TOKEN_US = 15.0
ROUNDS = 10
ADDRESS = "192.0.2.1"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.identity")
    parser.add_argument("--times", type=int, default=100_000, help="of each (default: 100000)")
    return told(asyncio.run(bars(parser.parse_args().times)))


def told(found: Sequence[Bar]) -> int:
    """The exit code, once all of them are printed."""
    for bar in found:
        is_so = "no bar" if bar.is_aim else f"at most {bar.most:g}: {'holds' if bar.holds else 'MISSED'}"
        print(f"{bar.what:70} {bar.figure:10.2f}   {is_so}")
    return 0 if all(bar.holds for bar in found) else MISSED


async def bars(times: int) -> list[Bar]:
    async with house() as it:
        key, token = it.key.reveal(), it.issuer.token(roles=["developer"])
        pipeline = it.pipeline
        took: dict[str, list[float]] = {key: [], token: []}
        for text in took:
            await _known(pipeline, text, 1)
        for _ in range(ROUNDS):
            for text, samples in took.items():
                samples.append(await _known(pipeline, text, max(1, times // ROUNDS)))
        met = await _met(
            pipeline, [it.issuer.token(roles=["developer"], jti=f"{n}") for n in range(min(times, 1_000))]
        )
    return [
        Bar(
            what="a warm key, authenticated and authorized: us of CPU",
            figure=median(took[key]),
            most=MOST_KEY_US,
        ),
        Bar(
            what="a warm token, authenticated and authorized: us of CPU",
            figure=median(took[token]),
            most=MOST_TOKEN_US,
        ),
        Bar(what="a new token (RS256) of a known issuer and tenant: us of CPU", figure=met),
    ]


async def _known(pipeline: Pipeline, text: str, times: int) -> float:
    """Microseconds of CPU each."""
    started = time.process_time()
    for _ in range(times):
        await _admitted(pipeline, text)
    return (time.process_time() - started) / times * 1e6


async def _met(pipeline: Pipeline, texts: list[str]) -> float:
    started = time.process_time()
    for text in texts:
        await _admitted(pipeline, text)
    return (time.process_time() - started) / len(texts) * 1e6


async def _admitted(pipeline: Pipeline, text: str) -> None:
    """Steps 3 and 4 as a request has them, from the text of its credential on."""
    principal = await pipeline.auth.authenticate(Secret(text), ADDRESS)
    model = pipeline.known.model("digits")
    if model is None:
        raise RuntimeError("the bench has no model")
    for action in ("discover", "infer"):
        if not pipeline.policies.inference.decide(principal.subject, action, model).allowed:
            raise RuntimeError("the bench may not call its model")


if __name__ == "__main__":
    raise SystemExit(main())
