"""The work of `gateway issuers check`, which loads what reads tokens and what fetches keys."""

import json
import sys

from gateway.auth.examined import Examination, Hosts, Step
from gateway.auth.jose import MOST_CHARACTERS
from gateway.auth.tokens import keys_of_issuers
from gateway.commands.command import Asked, asked
from gateway.loops import jobs
from gateway.state import boot_clock, opened_web
from tenants.errors import Invalid

_WIDTH = len("signature")


@asked
async def check(it: Asked) -> int:
    """The token is read from the standard input, and nothing here repeats it. Raises Invalid without one."""
    line = sys.stdin.buffer.readline(MOST_CHARACTERS + len("\r\n") + 1).strip()
    if not line:
        raise Invalid("-", "the standard input has no line with a token")
    knobs, steps = it.settings.tokens, list[Step]()
    hosts = Hosts(opened_web(knobs.fetch_seconds))

    def told(step: Step) -> None:
        steps.append(step)
        if not it.given.json:
            _print(step)

    async with jobs() as spawn:
        key_sets = keys_of_issuers(hosts, knobs, clock=boot_clock, spawn=spawn, changed=lambda _: None)
        examination = Examination(
            it.directory.issuers, key_sets, hosts, it.now_us, told, for_operators=it.given.operator
        )
        is_good = await examination.run(line.decode("latin-1"))
    if it.given.json:
        rows = [{"step": one.name, "good": one.good, "found": one.found, "do": one.do} for one in steps]
        print(json.dumps({"good": is_good, "steps": rows}))
    else:
        print("The gateway takes it." if is_good else "The gateway does not take it.")
    return 0 if is_good else 1


def _print(step: Step) -> None:
    print(f"{step.name.ljust(_WIDTH)}  {'ok' if step.good else 'NO'}  {step.found}")
    if step.do:
        print(f"{' ' * _WIDTH}      {step.do}")
