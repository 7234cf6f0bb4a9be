"""What callers show, keys and tokens and all that these say, is nowhere afterwards: not in a file of the state, the log at level DEBUG, the
figures or an answer. Every text is planted with a word that nothing else has.

By design the table keeps the address of a member and the URL of an issuer, for people to read; what the control API shows of members, of
issuers and of events has them too, and the log the URL of an issuer whose keys cannot be fetched. Nothing else has them.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import grpc
import pytest

from tenants.acts import Act
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.issuers import Issuer, TenantIssuer
from tenants.keys import mint
from tenants.model import Model
from tenants.plans import Plan
from tests.e2e import warm
from tests.e2e.asking import called
from tests.e2e.callers import ECHO, HOME, Callers, Credential, Listener
from tests.e2e.matrix import NOBODY
from tests.e2e.world import MODELS, ROOMY, announced, change, end, fp32, started
from tests.worlds.issuer import IssuerWorld
from tests.worlds.key_server import JWKS, KeyServer, publishing

pytestmark = pytest.mark.triton

WORD: Final = "planted7q"
MEMBER: Final = "kept7q@acme.example"
REASON: Final = "drill"


def planted(what: str) -> str:
    return f"{WORD}-{what}"


CLAIMS: Final[Mapping[str, Any]] = {
    "sub": planted("sub"),
    "jti": planted("jti"),
    "nonce": planted("nonce"),
    "name": planted("name"),
    "email": planted("mail@acme.example"),
    "email_verified": True,
    "roles": [planted("role"), "developer"],
    "groups": [planted("group"), "operator"],
    "tenant": planted("tenant"),
    planted("claim"): {"deep": [planted("deep"), {planted("deeper"): 1}]},
}
HEADERS: Final = {"jku": f"https://{planted('jku')}.example", planted("header"): planted("value")}


@dataclass(slots=True)
class Garden:
    """A gateway, who signs for it, the texts of the keys, and all that was shown and said."""

    callers: Callers
    issuer: IssuerWorld
    server: KeyServer
    keys: Mapping[str, str]
    state: Path
    channel: grpc.Channel
    shown: dict[str, str] = field(default_factory=dict)
    said: dict[str, bytes] = field(default_factory=dict)

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + 600, "aud": [self.issuer.audience, planted("aud")]}
        return self.issuer.token(**(dict(CLAIMS) | times | {"headers": HEADERS} | claims))

    def ask(self, name: str, text: str, listener: Listener = "public") -> set[int]:
        """At every kind of door of a listener, in either header. The statuses."""
        self.shown[name] = text
        found = set()
        for header in ("authorization", "x-api-key"):
            by = Credential(NOBODY, text, listener, header=header)
            for method, path, body in DOORS[listener]:
                answer = self.callers.ask(by, method, path, body)
                self.said[f"{name}: {method} {path} by {header}"] = (
                    answer.body + repr(answer.headers).encode()
                )
                found.add(answer.status)
            for rpc in RPCS if listener == "public" else ():
                self.said[f"{name}: {rpc} by {header}"] = repr(called(self.channel, rpc, by)).encode()
        return found

    def operator_asks(self, method: str, path: str, body: Any = None) -> int:
        by = Credential("operator", self.keys["operator"], "operator")
        answer = self.callers.ask(by, method, f"/control/v1{path}", body)
        self.said[f"operator: {method} {path} {len(self.said)}"] = answer.body + repr(answer.headers).encode()
        return answer.status


DOORS: Final[Mapping[Listener, tuple[tuple[str, str, Any], ...]]] = {
    "public": (
        ("POST", f"/v2/models/{ECHO}/infer", fp32(1)),
        ("POST", f"/v2/models/{ECHO}/generate_stream", {"in": [1]}),
        ("GET", "/v2/models/nothing", None),
        ("GET", "/v1/models", None),
        ("POST", "/v1/chat/completions", {"model": ECHO, "messages": 7}),
        ("GET", "/control/v1/whoami", None),
        ("POST", f"/control/v1/tenants/{HOME}/keys", {"name": 7}),
    ),
    "operator": (
        ("GET", "/control/v1/whoami", None),
        ("GET", "/control/v1/tenants", None),
        ("GET", f"/control/v1/tenants?reason={REASON}", None),
        ("POST", f"/control/v1/tenants?reason={REASON}", {"name": 7}),
    ),
}
RPCS: Final = tuple(
    f"/inference.GRPCInferenceService/{it}" for it in ("ModelInfer", "ModelStreamInfer", "ModelConfig")
)


@pytest.fixture
def garden(state: Path) -> Iterator[Garden]:
    with publishing() as server:
        issuer = IssuerWorld(server.url)
        issuer.rotate(planted("kid"), keep=False)
        server.keys = issuer.jwks
        keys = change(state, lambda directory: _furnished(directory, issuer))
        ports = ("--port", "0", "--grpc-port", "0", "--operator-port", "0")
        environ = {"GATEWAY_LOG_DEBUG": "1", "GATEWAY_DIRECTORY_USED_SECONDS": "0.2"}
        with started(state, "serve", "--state", str(state), "--json", *ports, **environ) as process:
            try:
                demo = replace(announced(process, state), key=keys["valid"])
                with closing(Callers(demo, {})) as callers, grpc.insecure_channel(demo.grpc) as channel:
                    yield Garden(callers, issuer, server, keys, state, channel)
            finally:
                end(process, state)


async def _furnished(directory: Directory, issuer: IssuerWorld) -> dict[str, str]:
    act = Act("test", 1)
    shared = Issuer(issuer.url, "many", issuer.url + JWKS, "roles", insecure=True, tenant_claim="tenant")
    await directory.values.put(Plan(name="roomy", weight=1, limits=ROOMY), Fleet("local"), shared, act=act)
    await directory.tenants.create(HOME, "roomy", act)
    await directory.values.put(Model("", ECHO, str(MODELS), (HOME,)), act=act)
    own = [
        TenantIssuer(issuer.url, issuer.audience, roles_claim="roles", insecure=True),
        TenantIssuer(issuer.url, "members", insecure=True),
        TenantIssuer(issuer.url, "down", issuer.url + "/nothing", insecure=True),
    ]
    await directory.issuers.put(HOME, own, act)
    await directory.members.invite(HOME, MEMBER, "developer", act)
    found = {}
    for name in ("valid", "leaked", "leaked to the API", "rotated"):
        found[name] = (await directory.keys.create(HOME, act, name=name)).secret.reveal()
    for name in ("operator", "break-glass"):
        minted = await directory.keys.create(None, act, break_glass=name == "break-glass")
        found[name] = minted.secret.reveal()
    return found


def test_nothing_that_a_caller_shows_is_found_anywhere_afterwards(
    garden: Garden, record_property: Callable[[str, object], None]
) -> None:
    demo = garden.callers.demo
    show_sound(garden)
    show_unsound(garden)
    show_leaked(garden)
    for path in ("/audit", f"/tenants/{HOME}/audit", f"/tenants/{HOME}/keys", f"/tenants/{HOME}/models"):
        assert garden.operator_asks("GET", path) == 200
    with urlopen(f"{demo.operator}/metrics") as answer:
        garden.said["metrics"] = answer.read()
    garden.said |= files(garden.state, "while it served")
    demo.stop()
    assert demo.process.stdout is not None
    garden.said |= files(garden.state, "afterwards") | {
        "stdout": demo.process.stdout.read(),
        "stderr": garden.state.with_suffix(".stderr").read_bytes(),
    }
    assert b"DEBUG gateway.auth.tokens a token was refused" in garden.said["stderr"]
    assert b"CRITICAL tenants.api.application" in garden.said["stderr"]
    planted_texts = {*needles(garden)}
    assert {what: where for what in planted_texts if (where := places(garden, what))} == {}
    record_property(f"of {len(planted_texts)} planted texts, found in {len(garden.said)} places", 0)
    # The search finds what is there, and where it is by design.
    table = {name for name in garden.said if name.startswith("table.sqlite")}
    assert table
    for kept, more in ((MEMBER, set()), (garden.issuer.url, {"stderr"})):
        found = {name for name in places(garden, kept) if not name.startswith("operator: ")}
        assert found & table, kept
        assert found - table == more, kept


def show_sound(garden: Garden) -> None:
    """What works, at least somewhere."""
    now = int(time.time())
    for name in ("valid", "rotated"):
        assert 200 in garden.ask(f"key, {name}", garden.keys[name])
    for name in ("operator", "break-glass"):
        assert 200 in garden.ask(f"key, {name}", garden.keys[name], "operator")
        assert garden.ask(f"key, {name}, at the public listener", garden.keys[name]) == {401}
    assert 200 in garden.ask("token", garden.token())
    assert 200 in garden.ask("token, a member's", garden.token(aud="members", email=MEMBER))
    assert 200 in garden.ask("token, of no member", garden.token(aud=["members", planted("aud")]))
    assert 200 in garden.ask("token, for many", garden.token(aud="many", tenant=HOME, iat=now - 1))


def show_unsound(garden: Garden) -> None:
    """What works nowhere, each for a reason of its own."""
    now, forger = int(time.time()), IssuerWorld(garden.issuer.url)
    forger.rotate(planted("kid"), "ES256", keep=False)
    sound = garden.token()
    head, payload, signature = sound.split(".")
    forged = replace(garden, issuer=forger)
    unknown = replace(
        garden, issuer=IssuerWorld(garden.issuer.url, keys={planted("strange"): forger.keys[planted("kid")]})
    )
    for name, text in {
        "token, expired": garden.token(exp=now - 100),
        "token, for another audience": garden.token(aud=planted("aud")),
        "token, of another issuer": garden.token(iss=f"https://{planted('iss')}.example"),
        "token, of no issuer": garden.token(iss=planted("iss") + "\n"),
        "token, of a tenant that is not there": garden.token(aud="many"),
        "token, forged": forged.token(),
        "token, of an unknown key": unknown.token(),
        "token, cut": f"{head}.{payload}.{signature[:-8]}",
        "token, without its signature": f"{head}.{payload}.",
        "token, no JSON": f"{head}.{payload[:-8]}.{signature}",
        "token, too long": garden.token(long=planted("x" * 16_000)),
        "token, an operator's that is none": garden.token(groups=["operator"], aud="operators"),
        "key, unknown": mint(bytes(range(40))).reveal(),
        "key, mistyped": garden.keys["valid"][:-1] + ("1" if garden.keys["valid"][-1] == "0" else "0"),
        "key, no key": f"gw_live_{planted('key')}",
        "word": planted("credential"),
    }.items():
        listeners: tuple[Listener, ...] = ("public", "operator")
        assert {status for it in listeners for status in garden.ask(name, text, it)} == {401}, name
    assert garden.ask("token, of an issuer that is down", garden.token(aud="down")) == {503}
    both = {"authorization": f"Basic {planted('basic')}", "x-api-key": garden.keys["valid"]}
    for name, headers in {"basic": both, "two": both | {"authorization": f"Bearer {planted('two')}"}}.items():
        for method, path, body in DOORS["public"]:
            answer = garden.callers.ask(Credential(NOBODY, None), method, path, body, headers)
            assert answer.status in (400, 401)
            garden.said[f"{name}: {method} {path}"] = answer.body


def show_leaked(garden: Garden) -> None:
    """To the command over its standard input, and to the API: keys, tokens and what is neither."""
    lost = garden.keys["leaked"], mint(bytes(40)).reveal(), garden.token(), planted("leak")
    for position, text in enumerate(lost):
        line = [warm.program(), "keys", "revoke", "--by-secret", "-", "--state", str(garden.state)]
        done = subprocess.run(line, input=text.encode() + b"\n", capture_output=True, check=False, timeout=60)
        assert (done.returncode == 0) == (position == 0)
        garden.shown[f"leak {position}"] = text
        garden.said[f"leak {position}"] = done.stdout + done.stderr
    lost = garden.keys["leaked to the API"], mint(bytes(40)).reveal(), garden.token()[:250], planted("leak")
    for position, text in enumerate(lost):
        status = garden.operator_asks("POST", "/leaks", {"api_key": text})
        assert (status == 200) == (position == 0), status
        garden.shown[f"leak to the API {position}"] = text
    assert garden.operator_asks("POST", "/leaks", {"api_key": {planted("leak"): 1}}) == 422
    assert garden.operator_asks("POST", f"/leaks?reason={REASON}", {"api_key": planted("x" * 300)}) == 422


def needles(garden: Garden) -> Iterator[str]:
    """The word that is in everything planted; each text, what is secret of a key, and each part of a token, which the word is not in."""
    yield WORD
    for text in garden.shown.values():
        yield text
        if text.startswith("gw_live_"):
            yield text[12:]
        yield from (part for part in text.split(".")[1:] if len(part) > 20)


def places(garden: Garden, what: str) -> list[str]:
    return [name for name, content in garden.said.items() if what.encode() in content]


def files(state: Path, when: str) -> dict[str, bytes]:
    """All of the state, by name."""
    found = {
        f"{path.relative_to(state)} {when}": path.read_bytes() for path in state.rglob("*") if path.is_file()
    }
    assert len(found) > 3
    return found
