"""What a real model saw of a tenant whose personal data is masked: the echoes say it."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton

from tenants.acts import Act
from tenants.directory import Directory
from tenants.privacy import Privacy
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import Demo, change, new_tenant

pytestmark = pytest.mark.triton

FLEET = Fleet(
    ["parrot", "echo_bytes"],
    openai={"parrot": {"backend": "generate", "max_tokens": 10_000}},
)
MAIL = "ann@example.com"
SAID = f"write to {MAIL} or to bob@example.com today"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    state = tmp_path_factory.mktemp("masked") / "state"
    key = configure(state, FLEET)
    with serve(state, key) as made:
        try:
            yield made
        finally:
            killed(made)


def protected(demo: Demo, name: str, *, reversible: bool = False) -> str:
    """The key of a new tenant with such a privacy."""
    key = new_tenant(demo.state, name).secret.reveal()

    async def act(directory: Directory) -> None:
        await directory.values.put(Privacy(name, mask=("email",), reversible=reversible), act=Act("test", 1))
        await directory.tenants.change(name, Act("test", 1), privacy=name)

    change(demo.state, act)
    return key


def test_texts_are_masked_in_json_in_binary_and_over_http_as_triton_reads_them(demo: Demo) -> None:
    key = protected(demo, "plain")
    given = np.array([MAIL, "漢字", "to " + MAIL], np.object_)
    with triton.InferenceServerClient(demo.address) as client:
        for binary in (True, False):
            tensor = triton.InferInput("in", [3], "BYTES")
            tensor.set_data_from_numpy(given, binary_data=binary)
            got = client.infer("echo_bytes", [tensor], headers={"authorization": f"Bearer {key}"})
            assert [it.decode() for it in got.as_numpy("out")] == ["[EMAIL]", "漢字", "to [EMAIL]"]
    answer = demo.call("/v2/models/parrot/generate_stream", {"text_input": SAID}, key=key)
    assert b"[EMAIL]" in answer.body
    assert b"example.com" not in answer.body


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_openais_api_is_restored_and_of_another_tenant_it_is_not(
    demo: Demo, *, stream: bool
) -> None:
    for name, reversible, told in (
        (f"back-{stream}".lower(), True, SAID),
        (f"away-{stream}".lower(), False, "write to [EMAIL] or to [EMAIL] today"),
    ):
        key = protected(demo, name, reversible=reversible)
        body = {"model": "parrot", "prompt": SAID, "stream": stream}
        answer = demo.call("/v1/completions", body, key=key)
        assert answer.status == 200
        events = (
            [json.loads(it[6:]) for it in answer.body.split(b"\n\n") if it.startswith(b"data: {")]
            if stream
            else [answer.json]
        )
        assert "".join(it["choices"][0]["text"] for it in events if it["choices"]) == told
