"""A real gateway over TLS, as the README configures it: the official clients reach it, and a new certificate costs no call."""

import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gevent.ssl
import grpc
import numpy as np
import openai
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from gateway.state import clock
from gateway.tls.current import LOOK_SECONDS
from tests.conftest import ROOT
from tests.e2e.fleets import Fleet, configure, killed, serve
from tests.e2e.world import Demo, command, until
from tests.worlds.certificates import Authority, Pair

pytestmark = pytest.mark.triton

FLEET = Fleet(["identity", "parrot"], openai={"parrot": {"backend": "generate", "max_tokens": 10_000}})
# Two looks, the judging between them, and a machine that has much to do.
SHOWN_SECONDS = 2 * LOOK_SECONDS + 2
ONE = {"inputs": [{"name": "FP32", "datatype": "FP32", "shape": [1], "data": [1]}]}
_LIVE = "/inference.GRPCInferenceService/ServerLive"


def readme() -> str:
    """The configuration that the README shows."""
    (found,) = re.findall(
        r"^```yaml\n(tls:.*?)^```", (ROOT / "gateway" / "README.md").read_text(), re.M | re.S
    )
    return str(found)


@dataclass(slots=True)
class World:
    """A gateway over TLS whose clients have to show a certificate, unless `configuration` says otherwise."""

    folder: Path
    configuration: str
    authority: Authority = field(default_factory=Authority)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def client(self) -> tuple[str, str]:
        """The files of a client's certificate and of its key."""
        return str(self.folder / "client.crt"), str(self.folder / "client.key")

    @property
    def trusted(self) -> str:
        return str(self.state / "ca.crt")

    def write(self, pair: Pair) -> None:
        pair.write(self.state)

    def context(self, *, shows: bool = True) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.trusted)
        if shows:
            made.load_cert_chain(*self.client)
        return made

    @property
    def config(self) -> Path:
        return self.state / "gateway.yaml"

    def configure(self) -> str:
        """Files of a state and of its clients; gives a tenant's key."""
        key = configure(self.state, FLEET)
        self.write(self.authority.gives())
        self.authority.gives("client").write(self.folder, "client")
        Path(self.trusted).write_bytes(self.authority.pem)
        settings = json.loads(self.config.read_text())
        settings["listen"]["grpc"] = "127.0.0.1:0"
        lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
        self.config.write_text("\n".join([*lines, self.configuration]))
        return key

    @contextmanager
    def serving(self) -> Iterator[Demo]:
        with serve(self.state, self.configure()) as demo:
            try:
                yield replace(demo, tls=self.context())
            finally:
                killed(demo)

    def grpc(self) -> grpc.ChannelCredentials:
        certificate, key = (Path(name).read_bytes() for name in self.client)
        return grpc.ssl_channel_credentials(self.authority.pem, key, certificate)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tls"), readme())


@pytest.fixture(scope="module")
def demo(world: World) -> Iterator[Demo]:
    with world.serving() as made:
        yield made


def given(module: Any) -> Any:
    made = module.InferInput("FP32", [2], "FP32")
    made.set_data_from_numpy(np.array([1, 2], np.float32))
    return made


def test_tritons_http_client_is_served(world: World, demo: Demo) -> None:
    def trusted() -> Any:
        made = gevent.ssl.create_default_context(cafile=world.trusted)
        made.load_cert_chain(*world.client)
        return made

    headers = {"Authorization": f"Bearer {demo.key}"}
    with triton_http.InferenceServerClient(
        demo.address, ssl=True, ssl_context_factory=trusted, network_timeout=60
    ) as client:
        reply = client.infer("identity", [given(triton_http)], headers=headers)
        assert reply.as_numpy("FP32_OUT").tolist() == [1, 2]


def test_tritons_grpc_client_is_served(world: World, demo: Demo) -> None:
    certificate, key = world.client
    client = triton_grpc.InferenceServerClient(
        demo.grpc, ssl=True, root_certificates=world.trusted, private_key=key, certificate_chain=certificate
    )
    with contextlib.closing(client):
        reply = client.infer(
            "identity", [given(triton_grpc)], headers={"authorization": f"Bearer {demo.key}"}
        )
        assert reply.as_numpy("FP32_OUT").tolist() == [1, 2]


def test_openais_client_is_served_streams_too(demo: Demo) -> None:
    assert demo.tls is not None
    with (
        openai.DefaultHttpxClient(verify=demo.tls) as carrier,
        openai.OpenAI(
            base_url=f"https://{demo.address}/v1", api_key=demo.key, http_client=carrier, max_retries=0
        ) as client,
    ):
        ask: Any = client.completions.create
        whole = ask(model="parrot", prompt="how do you do", max_tokens=10)
        pieces = [it.choices[0].text for it in ask(model="parrot", prompt="how do you do", stream=True)]
    assert whole.choices[0].text == "".join(pieces) == "how do you do"


def test_operators_are_answered_over_tls_and_asked_for_no_certificate(world: World, demo: Demo) -> None:
    assert demo.operator.startswith("https://")
    for path in ("/healthz", "/readyz", "/metrics"):
        with urllib.request.urlopen(
            demo.operator + path, timeout=10, context=world.context(shows=False)
        ) as reply:
            said = reply.read().decode()
            assert reply.status == 200
    (left,) = re.findall(
        r'^gateway_tls_certificate_expires_seconds\{.*listener="operator".*\} (\S+)$', said, re.M
    )
    assert 89 * 86_400 < float(left) < 91 * 86_400


def test_who_shows_no_certificate_shakes_no_hands_and_a_key_does_not_help(world: World, demo: Demo) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
        replace(demo, tls=world.context(shows=False)).infer("identity", ONE)
    with grpc.secure_channel(demo.grpc, grpc.ssl_channel_credentials(world.authority.pem)) as channel:
        live: Any = channel.unary_unary(_LIVE)
        with pytest.raises(grpc.RpcError) as refused:
            live(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert demo.infer("identity", ONE).json["outputs"][0]["data"] == [1]


def test_a_certificate_that_no_tenant_has_is_no_credential(demo: Demo) -> None:
    assert demo.call("/v2/models/identity", headers={}).status == 401


def test_the_doctor_says_what_would_not_be_shown(tmp_path: Path) -> None:
    world = World(tmp_path, readme())
    world.configure()

    def findings() -> list[Any]:
        found: list[Any] = json.loads(command("doctor", "--config", world.config, "--json").stdout)
        return [it for it in found if "certificate" in it["what"]]

    (finding,) = findings()
    assert finding["ok"]
    (world.state / "tls.key").chmod(0o644)
    (finding,) = findings()
    assert not finding["ok"]
    assert "tls.key, and it is a private key: chmod 600 it" in finding["advice"]


# A new certificate


@dataclass(slots=True)
class Load:
    """Calls without a pause, each kind on a thread of its own, until `over`."""

    over: threading.Event = field(default_factory=threading.Event)
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def again(self, kind: str, call: Callable[[], None]) -> None:
        self.counts[kind] = 0
        while not self.over.is_set():
            try:
                call()
            except Exception as fault:  # noqa: BLE001 - whatever it is, it is a call that failed
                self.faults.append(f"{kind}: {fault!r}")
            self.counts[kind] += 1

    @contextmanager
    def running(self, kinds: dict[str, Callable[[], None]]) -> Iterator[None]:
        threads = [threading.Thread(target=self.again, args=item) for item in kinds.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()


def shown(address: str, context: ssl.SSLContext) -> str:
    """SHA-256 of the certificate that a new handshake meets."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.decode())).hexdigest()


def infer(connection: http.client.HTTPConnection, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    connection.request("POST", "/v2/models/identity/infer", json.dumps(ONE), headers)
    reply = connection.getresponse()
    body = reply.read()
    assert reply.status == 200, body


@contextmanager
def loaded(world: World, demo: Demo) -> Iterator[Load]:
    """HTTP and gRPC, on connections that are kept and on new ones."""
    given, load = world.grpc(), Load()
    alone = [("grpc.use_local_subchannel_pool", 1)]

    def new() -> None:
        with contextlib.closing(demo.connection()) as connection:
            infer(connection, demo.key)

    def live(channel: grpc.Channel) -> None:
        method: Any = channel.unary_unary(_LIVE)
        assert method(b"", timeout=10) == b"\x08\x01"

    def new_channel() -> None:
        with grpc.secure_channel(demo.grpc, given, alone) as channel:
            live(channel)

    with (
        contextlib.closing(demo.connection()) as kept,
        grpc.secure_channel(demo.grpc, given, alone) as channel,
    ):
        infer(kept, demo.key)
        before = kept.sock
        kinds = {
            "kept": lambda: infer(kept, demo.key),
            "new": new,
            "gRPC, kept": lambda: live(channel),
            "gRPC, new": new_channel,
        }
        with load.running(kinds):
            yield load
        assert kept.sock is before  # it was never connected anew


def test_a_new_certificate_under_load_fails_no_call_and_a_bad_one_changes_nothing(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    world = World(tmp_path, readme())
    log = world.state.with_suffix(".stderr")
    with world.serving() as demo, loaded(world, demo) as load:
        plain, h2 = world.context(), world.context()
        h2.set_alpn_protocols(["h2"])

        def seen() -> set[str]:
            return {shown(demo.address, plain), shown(demo.grpc, h2)}

        (before,) = seen()
        fresh = world.authority.gives()
        begun = clock()
        world.write(fresh)
        until(lambda: seen() == {fingerprint(fresh)}, SHOWN_SECONDS, "the new certificate was not shown")
        record_property("a new certificate is shown after", f"{clock() - begun:.1f} s")
        assert before != fingerprint(fresh)
        world.write(Pair(world.authority.gives().certificate, fresh.key))
        until(lambda: "a new certificate is refused" in log.read_text(), SHOWN_SECONDS, "nothing was refused")
        assert seen() == {fingerprint(fresh)}
    record_property("calls under load, none failed", load.counts)
    assert load.faults == []
    assert min(load.counts.values()) > 10
    assert "is not the key of the first certificate" in log.read_text()
