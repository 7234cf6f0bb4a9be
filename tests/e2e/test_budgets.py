"""A day's budget of requests over several processes, the real program: spent once, to the last of them, and still spent after a restart."""

import json
import os
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tenants.plans import Limits
from tests.e2e.fleets import Fleet, configure, gateway_log, serve
from tests.e2e.load import Record
from tests.e2e.world import Demo, end, fp32, in_parallel, new_tenant, read_answer, until

pytestmark = [pytest.mark.triton, pytest.mark.chaos]

FLEET = Fleet(["times01"])
FOUR = fp32(1.0, 2.0, 3.0, 4.0)
DAILY = 1000
LEAST_USED = 0.99
DAY_SECONDS = 86_400
_WORKER = re.compile(r"supervisor worker1 serves as \S+, process (\d+)")


def spent(gateway: Demo, key: str, calls: int) -> Counter[int]:
    """The statuses of so many calls over one connection."""
    connection = gateway.connection()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    found: Counter[int] = Counter()
    for _ in range(calls):
        connection.request("POST", "/v2/models/times01/infer", json.dumps(FOUR), headers)
        found[read_answer(connection).status] += 1
    connection.close()
    return found


def test_a_days_budget_is_spent_once_by_all_processes_though_one_is_killed(
    state: Path, record_property: Record
) -> None:
    roomy = configure(state, FLEET)
    key = new_tenant(state, "daily", Limits(2**20, requests_per_day=DAILY)).secret.reveal()
    found: Counter[int] = Counter()
    with serve(state, roomy, "--workers", "2") as gateway:
        assert gateway.infer("times01", FOUR).status == 200
        some = partial(spent, gateway, key, DAILY // 16)
        found = sum(in_parallel([some] * 8), found)
        ((worker, *_),) = [_WORKER.findall(gateway_log(state))]
        os.kill(int(worker), signal.SIGKILL)
        until(lambda: len(_WORKER.findall(gateway_log(state))) > 1, 30)
        found = sum(in_parallel([some] * 8), found)
        for _ in range(DAILY // 10):
            if found[429]:
                break
            found += spent(gateway, key, 10)
        refusal = gateway.infer("times01", FOUR, key=key)
        end(gateway.process, state)
    with serve(state, roomy) as again:
        found += spent(again, key, 10)
        end(again.process, state)
    assert set(found) == {200, 429}
    assert LEAST_USED * DAILY <= found[200] <= DAILY
    assert refusal.status == 429
    assert 1 <= int(refusal.headers["retry-after"]) <= DAY_SECONDS
    assert f'"requests-day";q={DAILY};w={DAY_SECONDS}' in refusal.headers["ratelimit-policy"]
    record_property("a day's budget", f"{found[200]} of {DAILY} used by 2 processes, one of them killed")
