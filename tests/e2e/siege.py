"""A gateway that trusts two issuers, one of a tenant and the operators'; tokens that nobody may come in with; and a trap, an HTTP server
that their headers and claims name, where a gateway that followed them would find the keys that they are signed with.
"""

import asyncio
import datetime
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.settings import Settings
from gateway.state import clock, opened_directory
from tenants.acts import Act
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.issuers import Issuer, TenantIssuer
from tenants.model import Model
from tenants.plans import Plan
from tests.e2e.asking import Reply, called
from tests.e2e.callers import Callers, Credential, Listener
from tests.e2e.matrix import NOBODY
from tests.e2e.world import DIGITS, ROOMY, Answer, announced, end, started
from tests.gateway.auth.hostile import ELSEWHERE, HOSTILE
from tests.gateway.auth.signers import ABSENT, KIDS, Signer, World, ed_key, rsa_key
from tests.worlds.key_server import DISCOVERY, JWKS, KeyServer, publishing

TENANT, MODEL, OPERATORS, MANY = "acme", "digits", "operators", "many"
# No fetch but the first one of each issuer, however many keys are named that it has not.
KNOBS: Final = {
    "GATEWAY_TOKENS_COOLDOWN_SECONDS": "600",
    "GATEWAY_TOKENS_REFRESH_SECONDS": "1200",
    "GATEWAY_DIRECTORY_UNKNOWN_PER_SECOND": "0",
}
RPCS: Final = tuple(f"/inference.GRPCInferenceService/{it}" for it in ("ModelMetadata", "ModelInfer"))


@dataclass(frozen=True, slots=True)
class Door:
    listener: Listener
    method: str
    path: str
    body: Any = None


_WHOAMI: Final = "/control/v1/whoami"
DOORS: Final = (
    Door("public", "POST", f"/v2/models/{MODEL}/infer", {"inputs": []}),
    Door("public", "GET", "/v1/models"),
    Door("public", "GET", _WHOAMI),
    Door("operator", "GET", _WHOAMI),
)


@dataclass(slots=True)
class Siege:
    """How long the last answer took, and the slowest, is kept in seconds; of the slowest with the token's name."""

    callers: Callers
    channel: grpc.Channel
    tenants: World
    operators: World
    issuers: tuple[KeyServer, KeyServer]
    trap: KeyServer
    last: float = 0.0
    slowest: tuple[float, str] = (0.0, "")
    _asked: int = field(default=0)

    def hostile(self, listener: Listener) -> Iterator[tuple[str, str]]:
        """Every token that is not to be let in there, by its name; they are made anew."""
        world = self.tenants if listener == "public" else self.operators
        for name, make in (HOSTILE | ELSEWHERE).items():
            yield name, make(world)
        yield from trapped(world, self.trap.url)
        if listener == "operator":
            yield "a tenant's", self.tenants.token()
        else:
            yield "an operator's", self.operators.token()
            yield from astray(self.tenants)

    def credential(self, text: str | None) -> Credential:
        """In one header and in the other, by turns."""
        self._asked += 1
        return Credential(NOBODY, text, header="x-api-key" if self._asked % 2 else "authorization")

    def ask(self, door: Door, name: str, text: str | None) -> Answer:
        by, begun = self.credential(text), clock()
        answer = self.callers.ask(by, door.method, door.path, door.body, at=door.listener)
        self._timed(begun, name)
        return answer

    def call(self, rpc: str, name: str, text: str | None) -> Reply:
        by, begun = self.credential(text), clock()
        reply = called(self.channel, rpc, by, MODEL)
        self._timed(begun, name)
        return reply

    def fetches(self) -> list[dict[str, int]]:
        """What each issuer was asked for."""
        return [dict(it.asked) for it in self.issuers]

    def _timed(self, begun: float, name: str) -> None:
        self.last = clock() - begun
        self.slowest = max(self.slowest, (self.last, name))


ONE_FETCH: Final = {DISCOVERY: 1, JWKS: 1}


@contextmanager
def siege(state: Path, **environ: str) -> Iterator[Siege]:
    """A gateway that has let in a sound token of each algorithm and issuer, and so knows their keys."""
    with ExitStack() as stack:
        servers = tuple(stack.enter_context(publishing()) for _ in range(3))
        now = int(time.time())
        tenants = World(servers[0].url, now=now, more={"roles": ["admin"]})
        operators = World(servers[1].url, OPERATORS, now=now, more={"roles": ["operator"]})
        for server, key_set in zip(servers, (tenants.key_set, operators.key_set, stranger_keys), strict=True):
            server.keys = key_set
        asyncio.run(_furnish(state, tenants, operators))
        ports = ("--port", "0", "--grpc-port", "0", "--operator-port", "0")
        process = stack.enter_context(
            started(state, "serve", "--state", str(state), "--json", *ports, **KNOBS, **environ)
        )
        stack.callback(end, process, state)
        demo = announced(process, state)
        callers = stack.enter_context(closing(Callers(demo, {})))
        channel = stack.enter_context(grpc.insecure_channel(demo.grpc))
        found = Siege(callers, channel, tenants, operators, servers[:2], servers[2])  # type: ignore[arg-type]
        for algorithm in KIDS:
            for door, world in ((DOORS[1], tenants), (DOORS[3], operators)):
                answer = found.ask(door, "sound", world.token(algorithm))
                assert answer.status == 200, answer.body
        yield found


async def _furnish(state: Path, tenants: World, operators: World) -> None:
    async with opened_directory(Settings(state=state)) as directory:
        await _trusted(directory, tenants, operators)


async def _trusted(directory: Directory, tenants: World, operators: World) -> None:
    act = Act("test", 1)
    shared = (
        Issuer(operators.issuer, operators.audience, None, "roles", insecure=True, operators=True),
        Issuer(tenants.issuer, MANY, None, "roles", insecure=True, tenant_claim="tenant"),
    )
    plan = Plan(name="roomy", weight=1, limits=ROOMY)
    await directory.values.put(plan, Fleet("local"), *shared, act=act)
    await directory.tenants.create(TENANT, "roomy", act)
    await directory.values.put(Model("", MODEL, str(DIGITS), (TENANT,)), act=act)
    own = TenantIssuer(tenants.issuer, tenants.audience, roles_claim="roles", insecure=True)
    await directory.issuers.put(TENANT, [own], act)


# Of an issuer that many tenants share


def astray(world: World) -> Iterator[tuple[str, str]]:
    """Sound tokens that name no tenant."""
    near = (
        TENANT.upper(),
        f"{TENANT} ",
        f" {TENANT}",
        f"{TENANT}.",
        f"{TENANT}/",
        f"{TENANT}\0",
        f"\uff41{TENANT[1:]}",
    )
    other = (
        "",
        "void",
        "operator",
        "*",
        "../acme",
        "acme,void",
        "a" * 300,
        7,
        True,
        None,
        [TENANT],
        {TENANT: TENANT},
        ABSENT,
    )
    for value in (*near, *other):
        shown = "missing" if value is ABSENT else ascii(value)[:40]
        yield f"tenant is {shown}", world.token("EdDSA", claims={"aud": MANY, "tenant": value})


# The trap

_ACCESS: Final = (x509.OID_OCSP, x509.OID_CA_ISSUERS)


def stranger_keys() -> bytes:
    """Whoever fetches these takes the tokens of `trapped` for sound."""
    return World(own=World().stranger).key_set()


def trapped(world: World, url: str) -> Iterator[tuple[str, str]]:
    """Tokens under a stranger's keys that say where to find these: at the trap."""
    keys = url + JWKS
    there: dict[str, Any] = {"jku": keys, "x5u": url + "/certificate.pem"}
    chain = certificate(world.stranger, url)
    headers: tuple[tuple[str, dict[str, Any]], ...] = (
        *((name, {name: there[name]}) for name in there),
        *((f"{name}, without a kid", {name: there[name], "kid": ABSENT}) for name in there),
        ("x5c", {"x5c": [chain]}),
        ("x5c, without a kid", {"x5c": [chain], "kid": ABSENT}),
        ("jwk", {"jwk": rsa_key(world.stranger.rsa, **there, x5c=[chain])}),
        ("jwk, without a kid", {"jwk": rsa_key(world.stranger.rsa, **there), "kid": ABSENT}),
        ("kid", {"kid": keys}),
        ("all of these", {**there, "x5c": [chain], "jwk": rsa_key(world.stranger.rsa), "kid": keys}),
    )
    for what, header in headers:
        yield f"trap in {what}", world.token(header=header, by=world.stranger)
    for what, claims in (
        ("iss", {"iss": url}),
        ("iss, with a path", {"iss": f"{url}/realms/acme"}),
        ("iss, behind ours", {"iss": f"{world.issuer}@{url.removeprefix('http://')}"}),
        ("aud beside ours", {"iss": url, "aud": [world.audience, url]}),
        ("jwks_uri", {"jwks_uri": keys, "jku": keys}),
        ("sub_jwk", {"sub_jwk": ed_key(world.stranger.ed)}),
        ("distributed claims", {"_claim_names": {"roles": "a"}, "_claim_sources": {"a": {"endpoint": url}}}),
    ):
        yield f"trap in {what}", world.token(claims=claims, by=world.stranger)


def beside(world: World, url: str) -> Iterator[tuple[str, str]]:
    """Sound tokens whose header names the trap, as some providers' name their own key set."""
    for name in ("jku", "x5u"):
        yield name, world.token(header={name: url + JWKS})
    yield "x5c", world.token(header={"x5c": [certificate(world.own, url)]})
    yield "distributed claims", world.token(claims={"_claim_sources": {"a": {"endpoint": url}}})


def certificate(of: Signer, url: str) -> str:
    """Of these keys, by themselves; its issuer's certificate, its status and what was revoked are at that URL. As `x5c` has it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "login.acme.example")])
    at = x509.UniformResourceIdentifier(url)
    points = x509.DistributionPoint([at], None, None, None)
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, of.rsa.public_key(), 1, begin, begin.replace(year=2100))
        .add_extension(
            x509.AuthorityInformationAccess([x509.AccessDescription(it, at) for it in _ACCESS]),
            critical=False,
        )
        .add_extension(x509.CRLDistributionPoints([points]), critical=False)
        .sign(of.rsa, hashes.SHA256())
    )
    return b64encode(made.public_bytes(Encoding.DER)).decode()
