"""A tenant's own KMS key, over a KMS that is there: what it disables, and moves, closes its own door and nobody else's."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.world import MODELS, Demo, command, new_tenant, serving, until
from tests.worlds.kms import KmsWorld, arn, kms_world

CACHE_SECONDS = 4
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@contextmanager
def kms() -> Iterator[KmsWorld]:
    """On a thread of its own."""
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    found: list[KmsWorld] = []
    is_up = threading.Event()

    async def live() -> None:
        async with kms_world() as world:
            world.states[arn(3)] = "Enabled"
            found.append(world)
            is_up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    try:
        assert is_up.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def settings(world: KmsWorld) -> dict[str, str]:
    knobs = {"KMS_KEY": arn(1), "KMS_ENDPOINT": world.url, "ANSWER_SECONDS": "2"}
    knobs |= {"CACHE_SECONDS": str(CACHE_SECONDS), "REFRESH_SECONDS": "1", "RETRY_SECONDS": "0.2"}
    return {f"GATEWAY_KEYS_{name}": it for name, it in knobs.items()} | CREDENTIALS


def asked(demo: Demo, key: str) -> int:
    """What is refused is recorded, and sealed, as what is served is."""
    return demo.infer("nothing", {"inputs": []}, key=key).status


def test_a_tenants_own_key_seals_for_it_alone_and_disabled_closes_its_door_alone_within_the_caches_limit(
    state: Path, tmp_path: Path
) -> None:
    keys = {name: new_tenant(state, name).secret.reveal() for name in ("acme", "other")}
    config = tmp_path / "gateway.yaml"
    config.write_text(f"state: {state}\nkeys: {{kms_key: '{arn(1)}'}}\n")
    given = command("tenants", "kms-key", "acme", arn(2), "--config", config, "--json")
    assert json.loads(given.stdout) == {"name": "acme", "kms_key": arn(2)}
    with kms() as world, serving(state, MODELS, **settings(world)) as demo:
        assert {name: asked(demo, key) for name, key in keys.items()} == {"acme": 404, "other": 404}
        assert {key for key, context in world.acts if context["purpose"] == "audit"} == {arn(1), arn(2)}
        world.states[arn(2)] = "Disabled"
        until(lambda: asked(demo, keys["acme"]) == 503, CACHE_SECONDS + 2)
        assert [asked(demo, keys["other"]) for _ in range(5)] == [404] * 5
        world.states[arn(2)] = "Enabled"
        until(lambda: asked(demo, keys["acme"]) == 404, CACHE_SECONDS)


def test_doctor_says_which_tenants_own_key_does_not_answer(state: Path, tmp_path: Path) -> None:
    new_tenant(state, "acme")
    new_tenant(state, "other")
    config = tmp_path / "gateway.yaml"
    with kms() as world:
        config.write_text(f"state: {state}\nkeys: {{kms_key: '{arn(1)}', kms_endpoint: '{world.url}'}}\n")
        for name, number in (("acme", 2), ("other", 3)):
            assert command("tenants", "kms-key", name, arn(number), "--config", config).returncode == 0
        world.states[arn(2)] = "Disabled"
        told = json.loads(command("doctor", "--config", config, "--json", **CREDENTIALS).stdout)
    said = {it["what"]: (it["ok"], it["advice"]) for it in told}
    ok, advice = said[f"data keys of acme are wrapped by its own KMS key {arn(2)}"]
    assert (ok, "DisabledException" in advice) == (False, True)
    assert said[f"data keys of other are wrapped by its own KMS key {arn(3)}: it wraps and unwraps"][0]
