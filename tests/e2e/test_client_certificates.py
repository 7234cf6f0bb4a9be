"""A client's certificate as its credential, over real TLS: mapped names are served and told apart, all others are nobody's."""

import contextlib
import hashlib
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from tritonclient.grpc import service_pb2

from tests.e2e.test_tls import ONE, World, readme
from tests.e2e.world import Demo, command, new_tenant, read_answer, until
from tests.worlds.certificates import Authority, Pair

pytestmark = pytest.mark.triton

_TRUST_DOMAIN = "spiffe://acme.example/"
_ENDS_SECONDS = 5.0
"""After which a change is true everywhere."""
_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(slots=True)
class Clients:
    """A gateway whose clients have to show a certificate, with the tenants roomy and beta; `parrot` is of roomy alone."""

    world: World
    demo: Demo
    beta_key: str

    def shows(self, *names: str, authority: Authority | None = None, lasts: float = 86_400) -> Pair:
        """A certificate with these URIs below the trust domain in it."""
        given = [x509.UniformResourceIdentifier(_TRUST_DOMAIN + name) for name in names]
        ends = timedelta(seconds=lasts)
        return (authority or self.world.authority).gives("roomy", lasts=ends, names=given)

    def http(self, pair: Pair) -> Demo:
        """Who shows it."""
        made = ssl.create_default_context(cafile=self.world.trusted)
        made.load_cert_chain(*pair.write(self.world.folder, "shown"))
        return replace(self.demo, tls=made)

    def channel(self, pair: Pair) -> grpc.Channel:
        given = grpc.ssl_channel_credentials(self.world.authority.pem, pair.key, pair.certificate)
        return grpc.secure_channel(self.demo.grpc, given, [("grpc.use_local_subchannel_pool", 1)])

    def run(self, *arguments: str) -> None:
        done = command("certificates", *arguments, "--state", self.world.state)
        assert done.returncode == 0, done.stderr

    def add(self, name: str, tenant: str = "roomy", *more: str) -> None:
        self.run("add", name, "--tenant", tenant, "--uri", _TRUST_DOMAIN + name, *more)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    world = World(tmp_path_factory.mktemp("clients"), readme())
    with world.serving() as demo:
        beta = new_tenant(world.state, "beta").secret.reveal()
        made = Clients(world, demo, beta)
        documents = world.state / "documents" / "all.yaml"
        text = [json.loads(it) for it in documents.read_text().split("\n---\n")]
        for it in text:
            it["tenants"] = ["roomy"] if it["name"] == "parrot" else "*"
        own = world.folder / "parrot.yaml"
        own.write_text(json.dumps(next(it for it in text if it["name"] == "parrot")))
        applied = command("apply", "-f", own, "--state", world.state)
        assert applied.returncode == 0, applied.stderr
        for name, tenant in (("ingest", "roomy"), ("short", "roomy"), ("batch", "beta")):
            made.add(name, tenant)
        made.add("narrow", "roomy", "--models", "parrot")
        served, other = made.http(made.shows("ingest")), made.http(made.shows("batch"))
        until(lambda: served.call("/v2/models/parrot", headers={}).status == 200, _ENDS_SECONDS)
        # It was everybody's before: to roomy nothing tells when that is over.
        until(lambda: other.call("/v2/models/parrot", headers={}).status == 404, _ENDS_SECONDS)
        yield made


def _asked() -> bytes:
    tensor = {"name": "FP32", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.0]}}
    message: Any = service_pb2.ModelInferRequest(model_name="identity", inputs=[tensor])
    return bytes(message.SerializeToString())


def _grpc(channel: grpc.Channel, key: str | None = None) -> str:
    """The code of the answer."""
    method: Any = channel.unary_unary(_INFER)
    metadata = [("authorization", f"Bearer {key}")] if key else []
    try:
        method(_asked(), timeout=30, metadata=metadata)
    except grpc.RpcError as refused:
        code: Any = refused
        return str(code.code().name)
    return "OK"


def _ask(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", "/v2/models/identity/infer", json.dumps(ONE))
    return read_answer(connection).status


def test_a_name_that_a_tenant_has_is_served_without_a_key_and_its_certificate_is_in_the_record(
    clients: Clients,
) -> None:
    pair = clients.shows("ingest")
    served = clients.http(pair)
    answer = served.call("/v2/models/identity/infer", ONE, headers={})
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1])
    assert served.call("/v1/models", headers={}).status == 200
    with clients.channel(pair) as channel:
        assert _grpc(channel) == "OK"
    shown = command("audit", "show", answer.request_id, "--state", clients.world.state, "--json")
    own = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.decode())).hexdigest()
    assert shown.returncode == 0, shown.stderr
    assert own in shown.stdout
    assert '"key_name": "ingest"' in shown.stdout or '"key_name":"ingest"' in shown.stdout


def test_a_name_that_no_tenant_has_is_nobodys_also_where_its_common_name_is_one(clients: Clients) -> None:
    pair = clients.shows("ingest/else")
    assert clients.http(pair).call("/v2/models/identity", headers={}).status == 401
    with clients.channel(pair) as channel:
        assert _grpc(channel) == "UNAUTHENTICATED"


def test_names_of_two_mappings_in_one_certificate_are_refused_and_it_is_said_why(clients: Clients) -> None:
    refused = clients.http(clients.shows("ingest", "batch")).call("/v2/models/identity", headers={})
    assert (refused.status, "mapped more than once" in refused.json["error"]) == (401, True)


def test_the_same_name_of_another_authority_shakes_no_hands(clients: Clients) -> None:
    pair = clients.shows("ingest", authority=Authority())
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.BadStatusLine)):
        clients.http(pair).call("/v2/models/identity", headers={})
    with clients.channel(pair) as channel:
        assert _grpc(channel) == "UNAVAILABLE"


def test_a_tenant_has_its_own_models_and_a_mapping_those_it_names(clients: Clients) -> None:
    beta = clients.http(clients.shows("batch"))
    assert beta.call("/v2/models/identity/infer", ONE, headers={}).status == 200
    assert beta.call("/v2/models/parrot", headers={}).status == 404
    narrow = clients.http(clients.shows("narrow"))
    assert narrow.call("/v2/models/parrot", headers={}).status == 200
    assert narrow.call("/v2/models/identity/infer", ONE, headers={}).status == 403


def test_a_key_rules_and_the_certificate_is_transport_then(clients: Clients) -> None:
    pair = clients.shows("ingest")
    served = clients.http(pair)
    assert served.call("/v2/models/parrot", headers={}).status == 200
    assert served.call("/v2/models/parrot", key=clients.beta_key).status == 404
    assert served.call("/v2/models/parrot", key="gw_live_wrong").status == 401
    with clients.channel(pair) as channel:
        assert (_grpc(channel), _grpc(channel, "gw_live_wrong")) == ("OK", "UNAUTHENTICATED")


def test_the_control_api_takes_no_certificate(clients: Clients) -> None:
    served = clients.http(clients.shows("ingest"))
    assert served.call("/control/v1/whoami", headers={}).status == 401
    assert served.call("/control/v1/whoami").status == 200


def test_one_that_is_taken_from_its_tenant_ends_on_connections_under_way(clients: Clients) -> None:
    clients.add("leaving")
    pair = clients.shows("leaving")
    with (
        contextlib.closing(clients.http(pair).connection()) as connection,
        clients.channel(pair) as channel,
    ):
        until(lambda: _ask(connection) == 200, _ENDS_SECONDS)
        before = connection.sock
        assert _grpc(channel) == "OK"
        clients.run("remove", "leaving", "--tenant", "roomy")
        until(lambda: _ask(connection) == 401, _ENDS_SECONDS, "it was served on")
        until(lambda: _grpc(channel) == "UNAUTHENTICATED", _ENDS_SECONDS, "it was served on over gRPC")
        assert connection.sock is before


def test_one_that_is_over_is_refused_on_connections_under_way(clients: Clients) -> None:
    pair = clients.shows("short", lasts=6)
    with (
        contextlib.closing(clients.http(pair).connection()) as connection,
        clients.channel(pair) as channel,
    ):
        assert (_ask(connection), _grpc(channel)) == (200, "OK")
        before = connection.sock
        until(lambda: _ask(connection) == 401, 10, "it was served on")
        assert _grpc(channel) == "UNAUTHENTICATED"
        assert connection.sock is before
