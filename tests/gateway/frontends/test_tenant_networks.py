"""Where a tenant's credentials are bound to holds for its keys and its tokens, at the doors of HTTP and of gRPC alike."""

import grpc
import pytest

from gateway.auth.conditions import ELSEWHERE
from gateway.errors import Code, GatewayError
from tenants.acts import Act
from tenants.keys import Secret
from tenants.restrictions import Restrictions
from tests.gateway.frontends.grpc_worlds import door, ended, infer
from tests.gateway.house import NOW_US, Client, House, house
from tests.worlds.triton import TritonWorld

HERE = "192.0.2.1"  # as `House.call` has it


def credential(here: House, kind: str) -> Secret:
    return here.key if kind == "key" else Secret(here.issuer.token(roles=["developer"]))


async def restricted(here: House, *networks: str) -> None:
    await here.directory.tenants.restrict(
        "acme", Restrictions(networks=networks or None), Act("test", NOW_US)
    )
    for _ in range(2):
        await here.feed.look()


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_a_call_over_http_is_served_from_the_tenants_networks_alone_and_denied_under_its_name(
    kind: str,
) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        text = credential(here, kind)
        await here.pipeline.serve(here.call(key=text), Client())  # warm, and bound to nothing
        await restricted(here, "198.51.100.0/24")
        with pytest.raises(GatewayError) as caught:
            await here.pipeline.serve(here.call(key=text), Client())
        assert (caught.value.code, caught.value.sentence) == (Code.FORBIDDEN, ELSEWHERE)
        await here.settled()
        (denied,) = here.records("denial")
        assert denied.entry.tenant == (await here.directory.tenants.show("acme")).id
        assert (denied.entry.key or "")[:2] == {"key": "k_", "token": "p_"}[kind]
        for networks in ((f"{HERE}/32",), ()):
            await restricted(here, *networks)
            await here.pipeline.serve(here.call(key=text), Client())


@pytest.mark.parametrize("kind", ["key", "token"])
async def test_every_rpc_is_answered_to_the_tenants_networks_alone(kind: str) -> None:
    async with door() as made:
        here = made.here
        metadata = (("authorization", f"Bearer {credential(here, kind).reveal()}"),)
        for networks, code in (
            (("198.51.100.0/24",), "PERMISSION_DENIED"),
            (("127.0.0.0/8",), "OK"),
            (("::1/128",), "PERMISSION_DENIED"),
            ((), "OK"),
        ):
            await restricted(here, *networks)
            for method, message in (("ServerMetadata", b""), ("ModelInfer", infer())):
                call = made.call(method, message, metadata=metadata)
                found, sentence = await ended(call)
                assert found == code, (method, networks)
                assert (sentence == ELSEWHERE) == (code != "OK")


async def test_a_stream_is_refused_elsewhere_before_its_first_message() -> None:
    async with door() as made:
        await restricted(made.here, "198.51.100.0/24")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.stream().read()
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert made.upstream.asked == []
