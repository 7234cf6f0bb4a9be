"""What a start tells of the listeners that others reach, and what runs beside the requests."""

import asyncio
import inspect
from pathlib import Path

import pytest

from gateway.app import opened
from gateway.frontends.sockets import tell_what_is_in_the_clear
from gateway.settings import CLOSED, Settings, Tls

EVERYWHERE = Settings(host="0.0.0.0", operator_host="::", grpc_host="192.0.2.1")  # noqa: S104 - nobody listens there


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (EVERYWHERE, ["public listener on 0.0.0.0", "operator listener on ::", "gRPC listener on 192.0.2.1"]),
        (Settings(host="gateway.internal"), ["public listener on gateway.internal"]),
        (Settings(grpc_host="192.0.2.1", grpc_port=CLOSED), []),
        (Settings(host="::1", operator_host="127.0.0.2", grpc_host="localhost"), []),
        (Settings(host="192.0.2.1", tls=Tls(certificate=Path("tls.crt"), key=Path("tls.key"))), []),
    ],
    ids=["everywhere", "a name", "closed", "loopback", "TLS"],
)
def test_each_listener_in_the_clear_that_others_reach_is_told_of_at_the_start(
    settings: Settings, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    tell_what_is_in_the_clear(settings)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(told)
    for record, of in zip(caplog.records, told, strict=True):
        assert f"the {of} is in the clear" in record.getMessage()


LOOPS = {
    "authorities": "Trusted.look",
    "autoscaler": "Autoscaler.run",
    "follower": "Follower.run",
    "caretaker": "Caretaker.look",
    "certificates": "Certificates.look",
    "claims": "Sweep.look",
    "committer": "Ledger.run",
    "expiry": "Expiry.look",
    "feed": "Feed.look",
    "forget": "Limiter.forget_idle",
    "keyring": "Keyring.refresh",
    "keys": "KeySets.refresh",
    "leader": "Life.stand",
    "member": "Life.turn",
    "members": "Life.sweep",
    "limits": "Sweeping.tell",
    "permits": "Permitting.step",
    "swept": "Sweeping.look",
    "policies": "Current.look",
    "retention": "opened_ageing.<locals>.forget",
    "budgets": "Budgets.step",
    "seats": "Spending.forget",
    "shares": "Sharing.step",
    "slots": "Handing.step",
    "series": "Ledger.close_destroyed",
    "sweep": "Sequences.sweep",
    "usage": "opened_upkeep.<locals>.count",
    "used": "LastUsed.flush",
    **{f"captures {number}": "Captures._write" for number in range(4)},
}
"""Without one of them the gateway serves as before, and in time does not do what it promises: keys that are destroyed go on sealing,
replies are kept for ever, a revoked key is taken."""


@pytest.mark.triton
async def test_every_loop_runs_while_the_rooms_are_open_and_ends_with_them(tmp_path: Path) -> None:
    alone = asyncio.all_tasks()
    async with opened(Settings(state=tmp_path / "state"), lambda _: None):
        tasks = asyncio.all_tasks() - alone
        assert {it.get_name(): act_of(it) for it in tasks} == LOOPS
    assert all(it.done() for it in tasks)


def act_of(task: asyncio.Task[object]) -> str:
    """What a task does, or does every few seconds."""
    coroutine = task.get_coro()
    assert inspect.iscoroutine(coroutine)
    act = inspect.getcoroutinelocals(coroutine).get("act", coroutine)
    return str(act.__qualname__)
