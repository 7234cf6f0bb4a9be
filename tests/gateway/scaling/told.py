"""A small gateway: it lives on a folder of servers and does with them what it is told, a line each, and says what came of it in JSON.

python -m tests.gateway.scaling.told FOLDER SERVER BACKEND STUB LIBRARIES
"""

import asyncio
import dataclasses
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import IO

from gateway.scaling.alive import Alive, alive
from gateway.scaling.charge import Charge
from gateway.scaling.scaler import Replica
from gateway.scaling.scalers.process import ProcessScaler
from gateway.scaling.scalers.wheel import Wheel


@dataclasses.dataclass
class Mortal(ProcessScaler):
    """One whose process is killed at some step of a start."""

    dies: str = ""

    def _at(self, when: str) -> None:
        if when == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)

    def _nanny(self, replica: Replica, lock: int) -> "subprocess.Popen[bytes]":
        self._at("before the nanny")
        return super()._nanny(replica, lock)

    def _take(self, replica: Replica, child: "subprocess.Popen[bytes]") -> None:
        self._at("before the record")
        super()._take(replica, child)
        self._at("after the record")

    def _say(self, word: IO[bytes]) -> None:
        super()._say(word)
        self._at("after the word")


@dataclasses.dataclass
class Told:
    lives: Alive
    charge: Charge
    scaler: Mortal
    servers: dict[str, Replica] = dataclasses.field(default_factory=dict)

    async def do(self, words: list[str]) -> object:
        match words:
            case ["charge"]:
                await self.charge.taken()
            case ["unlock", "charge"]:
                fcntl.flock(self.charge._held or 0, fcntl.LOCK_UN)
            case ["start"]:
                replica = await self.scaler.start("local")
                self.servers[replica.id] = replica
                return dataclasses.asdict(replica)
            case ["adopt"]:
                found = await self.scaler.adopt()
                self.servers |= {it.id: it for it in found}
                return [it.id for it in found]
            case ["gone", number]:
                return await self.scaler.gone(self.servers[number])
            case ["stop", number]:
                await self.scaler.stop(self.servers[number], 0.0)
            case ["leave"]:
                for replica in self.servers.values():
                    await self.scaler.leave(replica)
            case ["last"]:
                return self.lives.is_last()
            case ["die", *when]:
                self.scaler.dies = " ".join(when)
        return None


def new_id() -> str:
    return secrets.token_hex(6)


async def main(folder: Path, *parts: Path) -> None:
    async with alive(folder) as lives:
        with closing(Charge(folder)) as charge:
            scaler = Mortal(Wheel(*parts), folder, new_id, new_id, secrets.choice)
            told = Told(lives, charge, scaler)
            while line := await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(await told.do(line.split())), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
