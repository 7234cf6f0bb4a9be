"""A process that does nothing but change a directory, to be killed: python -m tests.e2e.applier STATE documents|keys SEED FIRST

It says `begin` with what it is about to make true, and `end` when that is true.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from tenants import declare, keys
from tenants.acts import Act
from tenants.catalogue import Declared
from tenants.customer import DeclaredState, Member, TenantDocument
from tenants.directory import Directory
from tenants.documents import Document, Documents
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.outline import Prune
from tenants.plans import Limits, Plan

SIZES: Final = (2, 40, 200)
TENANT: Final = "acme"


def generation(number: int) -> list[Declared]:
    """Documents of which no two generations have the same: with models, a tenant and members that come and go."""
    state: DeclaredState = "active" if number % 2 else "suspended"
    people = tuple(Member(f"p{it}@acme.example", "viewer") for it in range(number % 7))
    catalogue = [
        Model("", f"m{it:03}", "/srv/m", (TENANT,), memory_bytes=1000 + number)
        for it in range(SIZES[number % len(SIZES)])
    ]
    plans = [Plan("team", 1, Limits(1000 + number)), Plan("gold", 1, Limits(1000 + number))]
    tenant = TenantDocument(TENANT, ("team", "gold")[number % 2], people, state)
    return [*plans[number % 2 :], *plans[: number % 2], Fleet("local"), *catalogue, tenant]


def declared(number: int) -> Documents:
    return Documents(tuple(map(Document, generation(number))))


async def _documents(directory: Directory, first: int, _: random.Random) -> None:
    number = first
    while True:
        print(f"begin {number}", flush=True)
        await declare.apply(directory, declared(number), Act("test", now_us()), prune=Prune.CATALOGUE)
        print(f"end {number}", flush=True)
        number += 1


async def counted(directory: Directory) -> str:
    """What operations with keys change."""
    found = (await directory.keys.list(TENANT, limit=1000)).values
    rotated = sum(key.successor_id is not None for key in found)
    revoked = sum(key.revoked_us is not None for key in found)
    state = (await directory.tenants.show(TENANT)).state
    return f"{len(found)} {rotated} {revoked} {state}"


async def _keys(directory: Directory, _: int, moments: random.Random) -> None:
    while True:
        able = await _able(directory, Act("test", now_us()), moments)
        after = moments.choice(sorted(able))
        print(f"begin {after}", flush=True)
        await able[after]()
        print(f"end {after}", flush=True)


async def _able(
    directory: Directory, act: Act, moments: random.Random
) -> dict[str, Callable[[], Awaitable[object]]]:
    """What can be done now, by what there will be then."""
    made, rotated, revoked, state = (await counted(directory)).split()
    one_more = f"{int(made) + 1}"
    do = directory.tenants.do
    able: dict[str, Callable[[], Awaitable[object]]] = {}
    if state == "active":
        able[f"{one_more} {rotated} {revoked} active"] = lambda: directory.keys.create(TENANT, act)
        able[f"{made} {rotated} {revoked} suspended"] = lambda: do(TENANT, "suspend", act)
    else:
        able[f"{made} {rotated} {revoked} active"] = lambda: do(TENANT, "resume", act)
    found = (await directory.keys.list(TENANT, limit=1000)).values
    if usable := [key.id for key in found if keys.state(key, now_us()) == "active"]:
        one = moments.choice(usable)
        able[f"{made} {rotated} {int(revoked) + 1} {state}"] = lambda: directory.keys.revoke(TENANT, one, act)
        if state == "active":
            able[f"{one_more} {int(rotated) + 1} {revoked} active"] = lambda: directory.keys.rotate(
                TENANT, one, act, overlap_seconds=60
            )
    return able


async def _work(state: Path, what: str, seed: int, first: int) -> None:
    work = {"documents": _documents, "keys": _keys}[what]
    async with opened_directory(Settings(state=state)) as directory:
        await work(directory, first, random.Random(seed))


if __name__ == "__main__":
    asyncio.run(_work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
