"""What the path of a question for a model's configuration promises."""

import pytest

from gateway.errors import GatewayError
from tenants.acts import Act
from tenants.model import Model
from tests.gateway.house import house
from tests.worlds.triton import TritonWorld


@pytest.mark.parametrize(("model", "reason"), [("private", "model_not_found"), ("digits", "forbidden")])
async def test_who_may_not_see_a_configuration_leaves_a_denial(model: str, reason: str) -> None:
    async with TritonWorld() as triton, house(triton) as here:
        await here.directory.values.put(Model("", "other", "/models", "*"), act=Act("test", 1))
        limited = await here.directory.keys.create("acme", models=("other",), act=Act("test", 1))
        await here.feed.look()
        call = here.call(model, key=limited.secret, endpoint="metadata")
        with pytest.raises(GatewayError) as caught:
            await here.pipeline.configure(call)
        assert caught.value.code.value == reason
        await here.settled()
        assert here.denials() == [reason]
        assert here.outcomes() == []
