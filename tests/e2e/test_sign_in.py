"""Employees come with a token of their company's OpenID provider: a real one, whose keys change under load and which goes down.

CHAOS=full    the provider is down for a minute instead of six seconds
"""

import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from gateway.state import clock
from tests.e2e.place import Place, model
from tests.e2e.world import Demo, fp32, until
from tests.worlds.provider import DISCOVERY, JWKS, Client, Provider, providing

pytestmark = pytest.mark.triton

DOWN_SECONDS = 60.0 if os.environ.get("CHAOS") == "full" else 6.0
FETCH_SECONDS = 1.0
COOLDOWN_SECONDS = 2.0
REFRESH_SECONDS = 2.0
TAKEN_BACK_SECONDS = 15.0
UNKNOWN = 1000
LOADERS = 4
LOAD_SECONDS = 60.0

USERS = {
    "dora": {"email": "dora@acme.example", "email_verified": True, "roles": ["developer"], "tenant": "acme"},
    "vito": {"email": "vito@acme.example", "email_verified": True, "roles": ["viewer"], "tenant": "acme"},
    "mia": {"email": "Mia@acme.example", "email_verified": True},
    "una": {"email": "una@acme.example", "email_verified": False},
    "nina": {"email": "nina@elsewhere.example", "email_verified": True},
}
CLIENTS = {
    "gateway": Client(claims={"aud": "gateway", "roles": ["developer"]}),
    "elliptic": Client("ES256"),
    "edwards": Client("EdDSA"),
    "other": Client(),
}
TRUSTED = ("gateway", "elliptic", "edwards")


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway that serves, and the provider that tenant acme trusts."""

    demo: Demo
    provider: Provider

    def status(self, token: str, name: str = "echo_fp32") -> int:
        return self.demo.infer(name, fp32(1.5), key=token).status


@contextmanager
def site(folder: Path, provider: Provider, **knobs: float) -> Iterator[Site]:
    place = Place(folder)
    tokens = {"fetch_seconds": FETCH_SECONDS, "cooldown_seconds": COOLDOWN_SECONDS, **knobs}
    place.configure(f"tokens: {json.dumps(tokens)}\n")
    place.config.write_text(
        place.config.read_text().replace("listen: {", 'listen: {grpc: "127.0.0.1:0", ', 1)
    )
    issuers = [
        {"issuer": provider.issuer, "audience": client, "roles_claim": "roles", "insecure": True}
        for client in TRUSTED
    ]
    members = [{"email": f"{name}@acme.example", "role": "developer"} for name in ("mia", "una")]
    documents = [
        {"kind": "Plan", "name": "roomy", "weight": 1, "limits": {"body_bytes": 2**20}},
        {"kind": "Tenant", "name": "acme", "plan": "roomy", "members": members, "issuers": issuers},
        {"kind": "Tenant", "name": "other", "plan": "roomy"},
    ]
    with place.serving() as demo:
        path = place.write(
            "acme.yaml",
            *(json.dumps(document) + "\n" for document in documents),
            model(tenants=["acme"], scaling={"start_deadline_seconds": 60}),
            model("identity", tenants=["other"]),
        )
        place.told("apply", "-f", path)
        found = Site(demo, provider)
        until(lambda: found.status(provider.login("dora").id_token) == 200, 60, "nobody was let in")
        yield found


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its gateway fetches keys anew only when somebody shows one that it does not know."""
    with (
        providing(tmp_path_factory.mktemp("provider"), USERS, CLIENTS) as provider,
        site(tmp_path_factory.mktemp("steady"), provider) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its gateway wants newer keys every other second, and so feels at once that the provider is down."""
    with (
        providing(tmp_path_factory.mktemp("provider"), USERS, CLIENTS) as provider,
        site(tmp_path_factory.mktemp("eager"), provider, refresh_seconds=REFRESH_SECONDS) as found,
    ):
        yield found


@dataclass(slots=True)
class Load:
    """Clients that call with a new token each time, until told to stop or for LOAD_SECONDS; what they got, by the token's key."""

    site: Site
    new_token: Callable[[], str]
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self._client) for _ in range(LOADERS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stopped.set()
            for client in clients:
                client.join()

    def count(self) -> int:
        with self._lock:
            return self.seen.total()

    def wait_for(self, more: int) -> None:
        """So many answers from now on."""
        wanted = self.count() + more
        until(lambda: self.faults or self.count() >= wanted, 30, "the load stands still")

    def last_for(self, seconds: float) -> None:
        end = clock() + seconds
        until(lambda: self.faults or clock() > end, seconds + 5)

    def expect_no_failure(self) -> None:
        assert self.faults == []
        assert {status for _, status in self.seen} == {200}, self.seen

    def _client(self) -> None:
        end = clock() + LOAD_SECONDS + DOWN_SECONDS
        try:
            while not self._stopped.is_set() and clock() < end:
                token = self.new_token()
                status = self.site.status(token)
                with self._lock:
                    self.seen[kid(token), status] += 1
        except Exception as fault:  # noqa: BLE001 - the test fails of it
            self.faults.append(repr(fault))


def kid(token: str) -> str:
    said: str = jwt.get_unverified_header(token)["kid"]
    return said


# Who


@pytest.mark.parametrize(
    ("user", "own", "another"),
    [("dora", 200, 404), ("vito", 403, 404), ("mia", 200, 404), ("una", 403, 403), ("nina", 403, 403)],
)
def test_who_signs_in_may_do_what_the_token_s_role_may_else_what_the_member_of_its_verified_address_may(
    steady: Site, user: str, own: int, another: int
) -> None:
    tokens = steady.provider.login(user)
    assert steady.status(tokens.id_token) == own
    assert steady.status(tokens.access_token) == own
    # Of another tenant, and of nobody: alike. Who has no role at all is told nothing, not even which models there are.
    assert steady.status(tokens.id_token, "identity") == another
    assert steady.status(tokens.id_token, "no_such_model") == another


@pytest.mark.parametrize("client", TRUSTED)
def test_tokens_of_every_algorithm_and_trusted_audience_are_taken(steady: Site, client: str) -> None:
    token = steady.provider.login("dora", client).id_token
    assert jwt.get_unverified_header(token)["alg"] == CLIENTS[client].algorithm
    assert steady.status(token) == 200


def test_a_machine_comes_with_a_token_of_its_own(steady: Site) -> None:
    assert steady.status(steady.provider.client_credentials()) == 200
    assert steady.status(steady.provider.client_credentials("other")) == 401


def test_a_token_that_is_for_another_or_over_or_of_another_is_refused(steady: Site, tmp_path: Path) -> None:
    provider, now = steady.provider, int(time.time())
    over = provider.claims("dora", iat=now - 400, exp=now - 100)
    assert steady.status(provider.login("dora", "other").id_token) == 401
    assert steady.status(provider.minted(over)) == 401
    assert steady.status(provider.minted(provider.claims("dora"), kid=kid(provider.minted(over)))) == 200
    before = provider.asked(JWKS)
    with providing(tmp_path, USERS, CLIENTS) as foreign:
        assert steady.status(foreign.login("dora").id_token) == 401
        claims = provider.claims("dora")
        forged = foreign.minted(claims, kid=kid(provider.login("dora").id_token))
        assert steady.status(forged) == 401
        assert (foreign.asked(DISCOVERY), foreign.asked(JWKS)) == (0, 0)
    assert provider.asked(JWKS) == before


def test_the_same_token_is_good_over_grpc(steady: Site) -> None:
    given = triton.InferInput("in", [1], "FP32")
    given.set_data_from_numpy(np.array([1.5], np.float32))
    with triton.InferenceServerClient(steady.demo.grpc) as client:

        def outcome(token: str, name: str = "echo_fp32") -> str:
            try:
                client.infer(name, [given], headers={"authorization": f"Bearer {token}"})
            except InferenceServerException as error:
                return str(error.status())
            return "OK"

        dora, vito = (steady.provider.login(user).id_token for user in ("dora", "vito"))
        assert outcome(dora) == "OK"
        assert outcome(dora, "identity") == "StatusCode.NOT_FOUND"
        assert outcome(vito) == "StatusCode.PERMISSION_DENIED"
        assert outcome(steady.provider.login("dora", "other").id_token) == "StatusCode.UNAUTHENTICATED"


# What the provider is asked


def test_a_thousand_unknown_keys_cause_one_fetch_a_cool_down(
    steady: Site, record_property: Callable[[str, object], None]
) -> None:
    provider = steady.provider
    claims = provider.claims("dora")
    tokens = [provider.minted(claims, algorithm="EdDSA", kid=f"unknown {place}") for place in range(UNKNOWN)]
    body = json.dumps(fp32(1.5)).encode()
    found: Counter[int] = Counter()
    before, begun = provider.asked(JWKS), clock()
    connection = steady.demo.connection()
    try:
        for token in tokens:
            connection.request(
                "POST", "/v2/models/echo_fp32/infer", body, {"Authorization": f"Bearer {token}"}
            )
            found[drained(connection)] += 1
    finally:
        connection.close()
    took = clock() - begun
    assert found == {401: UNKNOWN}
    fetches = provider.asked(JWKS) - before
    assert 1 <= fetches <= 1 + took / COOLDOWN_SECONDS
    record_property(f"fetches for {UNKNOWN} tokens of as many unknown keys in {took:.1f} s", fetches)
    assert steady.status(provider.login("dora").id_token) == 200


def drained(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    answer.read()
    return answer.status


# Its keys change, and it goes down


def test_no_request_fails_while_the_keys_change_three_times_under_load(
    steady: Site, record_property: Callable[[str, object], None]
) -> None:
    provider = steady.provider
    load = Load(steady, lambda: provider.login("dora").id_token)
    before = provider.asked(JWKS)
    with load.running():
        for _ in range(3):
            load.wait_for(20)
            # A rotation within the cool-down of another is noticed when that is over, and not before.
            load.last_for(COOLDOWN_SECONDS + 0.5)
            provider.rotate()
        load.wait_for(20)
    load.expect_no_failure()
    assert len({key for key, _ in load.seen}) == 4
    fetches = provider.asked(JWKS) - before
    assert fetches == 3
    record_property("requests while an issuer's keys changed three times, none failed", load.count())
    record_property("fetches while they changed three times", fetches)


@pytest.mark.parametrize("way", ["stands still", "is gone"])
def test_no_request_fails_while_the_provider_is_down(
    eager: Site, way: str, record_property: Callable[[str, object], None]
) -> None:
    provider = eager.provider
    early = provider.login("dora").id_token
    assert eager.status(early) == 200
    load = Load(eager, lambda: provider.minted(provider.claims("dora"), algorithm="EdDSA"))
    with load.running():
        load.wait_for(20)
        if way == "is gone":
            provider.kill()
        else:
            provider.suspend()
        load.last_for(DOWN_SECONDS)
        assert eager.status(early) == 200
        if way == "is gone":
            provider.start()
        else:
            provider.resume()
        load.wait_for(20)
    load.expect_no_failure()
    record_property(f"requests while the provider {way} for {DOWN_SECONDS:g} s, none failed", load.count())
    provider.rotate()
    assert until(lambda: eager.status(provider.login("dora").id_token) == 200, 4 * COOLDOWN_SECONDS)


def test_a_key_that_the_provider_took_back_opens_nothing_soon_after_also_to_a_token_in_steady_use(
    eager: Site,
) -> None:
    provider = eager.provider
    early = provider.login("dora").id_token
    end = clock() + 2 * REFRESH_SECONDS
    until(lambda: eager.status(early) != 200 or clock() > end, 4 * REFRESH_SECONDS)
    assert eager.status(early) == 200
    provider.rotate()
    provider.retire()
    until(lambda: eager.status(early) == 401, TAKEN_BACK_SECONDS, "the old key still opens")
    assert eager.status(provider.login("dora").id_token) == 200
