"""Model control and canaries against the real tritonserver: the facts that the autoscaler is built on."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec import structs

from gateway.call import Outgoing
from gateway.scaling.alive import alive
from gateway.scaling.scalers.process import ProcessScaler, find_wheel
from gateway.triton import canary
from gateway.triton.canary import Health
from gateway.triton.client import Client, UpstreamFailed
from gateway.triton.control import LoadFailed, config, load, state, unload, versions
from gateway.triton.probe import is_ready
from tenants.model import Canary, CanaryInput, Model
from tests.contracts.scaler import Running
from tests.worlds.host import eventually, processes_of

MODELS = Path(__file__).parents[2] / "models"
ECHO = Model(id="m_1", name="echo_fp32", repository=str(MODELS), tenants="*")
SLOW = structs.replace(ECHO, name="slow")
WORDS = structs.replace(
    ECHO,
    name="echo_bytes",
    canary=Canary(inputs=(CanaryInput(name="in", datatype="BYTES", shape=(2,), data=("a", "ü")),)),
)
RAISES = (
    "class TritonPythonModel:\n    def execute(self, requests):\n        raise RuntimeError('on purpose')\n"
)

pytestmark = pytest.mark.triton


@asynccontextmanager
async def serving(folder: Path, *models: Model) -> AsyncIterator[Running]:
    scaler = ProcessScaler(
        find_wheel(), folder, lambda: secrets.token_hex(6), lambda: secrets.token_hex(8), secrets.choice
    )
    async with alive(folder):
        replica = await scaler.start("local")
        client = Client(replica.host, replica.port)
        try:
            await eventually(lambda: is_ready(client, replica.id), seconds=20)
            for model in models:
                await scaler.provide(replica, model)
                await load(client, replica, model.name, seconds=20)
            yield Running(replica, client)
        finally:
            client.close()
            await scaler.stop(replica, 0)


async def body_for(one: Running, model: Model) -> Outgoing:
    body = canary.request(model, (await config(one.client, one.replica, model.name))[0])
    assert body is not None
    return body


def stub(one: Running) -> int:
    return next(pid for pid, line in processes_of(one.replica.id) if line[0].endswith("_stub"))


def model_in(folder: Path, name: str, configuration: str, code: str) -> Model:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(f'backend: "python"\n{configuration}')
    (version / "model.py").write_text(code)
    return structs.replace(ECHO, name=name, repository=str(folder))


async def unloaded(one: Running, model: Model, seconds: float) -> None:
    async def is_gone() -> bool:
        return await state(one.client, one.replica, model.name) == "UNAVAILABLE"

    await unload(one.client, one.replica, model.name)
    await eventually(is_gone, seconds=seconds)


@pytest.mark.parametrize("model", [ECHO, WORDS, SLOW], ids=["zeros", "the document's", "a batch of its own"])
async def test_a_model_that_is_well_answers_its_canary(tmp_path: Path, model: Model) -> None:
    async with serving(tmp_path, model) as one:
        assert await canary.answer(one.client, model.name, await body_for(one, model), 10) is Health.WELL


async def test_zeros_of_sixteen_bits_and_of_a_batch_are_taken_too(tmp_path: Path) -> None:
    code = (MODELS / "echo_fp32" / "1" / "model.py").read_text()
    batched = model_in(
        tmp_path / "models",
        "batched",
        'max_batch_size: 4\ninput: [{ name: "in", data_type: TYPE_FP16, dims: [2, 3] }]\n'
        'output: [{ name: "out", data_type: TYPE_FP16, dims: [2, 3] }]\n',
        code,
    )
    async with serving(tmp_path / "triton", batched) as one:
        assert await canary.answer(one.client, "batched", await body_for(one, batched), 10) is Health.WELL


async def test_a_model_that_raises_is_failing_and_a_canary_that_it_does_not_take_is_unusable(
    tmp_path: Path,
) -> None:
    shape = '[{ name: "in", data_type: TYPE_FP32, dims: [1] }]\n'
    raises = model_in(tmp_path / "models", "raises", f"input: {shape}output: {shape}", RAISES)
    async with serving(tmp_path / "triton", raises, ECHO) as one:
        body = await body_for(one, raises)
        assert await canary.answer(one.client, "raises", body, 10) is Health.FAILING
        strange = Outgoing(head=b'{"inputs":[{"name":"other","shape":[1],"datatype":"FP32","data":[1]}]}')
        for wrong in (strange, Outgoing(head=b"{"), Outgoing(head=b'{"inputs":[]}')):
            assert await canary.answer(one.client, "echo_fp32", wrong, 10) is Health.UNUSABLE


async def test_a_dead_or_stopped_process_is_found_out_though_its_model_stays_ready(tmp_path: Path) -> None:
    """Both at once, each of a server of its own: most of it is waiting."""
    await asyncio.gather(
        *(_expect_found_out(tmp_path / number.name, number) for number in (signal.SIGKILL, signal.SIGSTOP))
    )


async def _expect_found_out(folder: Path, number: signal.Signals) -> None:
    async with serving(folder, ECHO) as one:
        body = await body_for(one, ECHO)
        os.kill(stub(one), number)
        assert await canary.answer(one.client, "echo_fp32", body, 10) is Health.DEAD
        assert await state(one.client, one.replica, "echo_fp32") == "READY"
        await load(one.client, one.replica, "echo_fp32", seconds=10)
        assert await canary.answer(one.client, "echo_fp32", body, 10) is Health.DEAD
        with pytest.raises(TimeoutError):  # for ever, as a request has met it
            await unloaded(one, ECHO, seconds=2.5)
        await load(one.client, one.replica, "echo_fp32", seconds=10)
        assert await canary.answer(one.client, "echo_fp32", body, 10) is Health.WELL
        await unloaded(one, ECHO, seconds=10)


async def test_a_server_that_is_stopped_is_silent_and_giving_it_up_frees_those_who_wait(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ECHO) as one:
        body = await body_for(one, ECHO)
        server = next(
            pid for pid, line in processes_of(one.replica.id) if line[0].endswith("bin/tritonserver")
        )
        os.kill(server, signal.SIGSTOP)
        assert await canary.answer(one.client, "echo_fp32", body, 0.3) is Health.SILENT
        waiting = asyncio.create_task(one.client.ask("GET", "/v2"))
        await asyncio.sleep(0)
        assert not await is_ready(one.client, one.replica.id, seconds=0.1)
        one.client.abort()
        with pytest.raises(UpstreamFailed):
            await waiting


async def test_an_unload_lets_what_runs_end_and_frees_the_place_after_it(tmp_path: Path) -> None:
    async with serving(tmp_path, SLOW) as one:
        call = {"inputs": [{"name": "milliseconds", "shape": [1], "datatype": "INT32", "data": [1_000]}]}
        path = "/v2/models/slow/infer"
        running = asyncio.create_task(one.client.ask("POST", path, json.dumps(call).encode()))

        async def is_under_way() -> bool:
            busy = Outgoing(head=json.dumps(call).encode())
            return await canary.answer(one.client, "slow", busy, 0.2) is Health.SILENT

        assert await is_under_way()
        await unload(one.client, one.replica, "slow")
        late = await one.client.ask("POST", path, json.dumps(call).encode())
        assert (late.status, b"no available versions" in late.body) == (404, True)
        assert await state(one.client, one.replica, "slow") == "UNLOADING"
        assert (await running).status == 200
        await unloaded(one, SLOW, seconds=10)
        assert await versions(one.client, "slow") == ()
        with pytest.raises(UpstreamFailed, match="404"):
            await config(one.client, one.replica, "slow")


async def test_a_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    broken = model_in(tmp_path / "models", "broken", "", "def (")
    async with serving(tmp_path / "triton") as one:
        with pytest.raises(LoadFailed, match="failed to poll"):
            await load(one.client, one.replica, "absent", seconds=10)
    with pytest.raises(LoadFailed, match="SyntaxError"):
        async with serving(tmp_path / "triton", broken):
            pass


async def test_a_load_goes_on_when_nobody_waits_for_it(tmp_path: Path) -> None:
    async with serving(tmp_path, ECHO) as one:
        await unloaded(one, ECHO, seconds=10)
        with pytest.raises(TimeoutError):
            await load(one.client, one.replica, "echo_fp32", seconds=0.02)

        async def is_loaded() -> bool:
            return await state(one.client, one.replica, "echo_fp32") == "READY"

        await eventually(is_loaded, seconds=10)
