"""A gateway with every kind of caller, a tenant with its people, another one and one that is not served; and how each asks."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from gateway.settings import Settings
from gateway.state import now_us, opened_directory
from tenants.acts import Act
from tenants.catalogue import plural
from tenants.data_keys import DataKeyRecord, Purpose
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.issuers import id_of
from tenants.keys import mint
from tenants.members import ROLES
from tenants.model import Model
from tenants.openai import Generate, Infer
from tenants.plans import Plan
from tenants.privacy import Privacy
from tests.e2e.holders import ROLELESS, Providers, providers
from tests.e2e.matrix import NOBODY
from tests.e2e.world import MODELS, ROOMY, Answer, Demo, announced, change, end, read_answer, started

Listener = Literal["operator", "public"]
LISTENERS: Final[tuple[Listener, ...]] = ("operator", "public")

# Names of one length, so that answers that say them again have one length too.
HOME, FOREIGN, ABSENT, UNSERVED = "acme", "evil", "void", "iced"
ECHO, OTHER_MODEL, FOREIGN_MODEL = "echo_fp32", "letters", "echo_bytes"
KINDS: Final = ("member", "account", "key", "data_key")
"""What a tenant has, as the paths of the control API name it."""
PURPOSE: Final[Purpose] = "capture"
"""Of data keys that no call here needs."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller shows, and the column of the matrix that says what it hears. `tenant` is the one that it asks about."""

    column: str
    text: str | None
    listener: Listener = "public"
    tenant: str = HOME
    reason: str = ""
    """Said with each request to the control API."""
    header: Literal["authorization", "x-api-key"] = "authorization"

    @property
    def headers(self) -> dict[str, str]:
        if self.text is None:
            return {}
        return {self.header: f"Bearer {self.text}" if self.header == "authorization" else self.text}

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The same, over gRPC."""
        return tuple(self.headers.items())

    @property
    def is_a_tenants(self) -> bool:
        return self.column not in (NOBODY, "operator", "break-glass")


async def people(directory: Directory, providers: Providers) -> dict[str, Credential]:
    """Whoever calls, by a name."""
    act, found = Act("test", now_us()), dict[str, Credential]()

    async def key(tenant: str | None, account_id: str | None = None, **more: Any) -> str:
        minted = await directory.keys.create(tenant, act, account_id=account_id, **more)
        return minted.secret.reveal()

    async def account(tenant: str, role: str, name: str = "") -> str:
        return (await directory.accounts.create(tenant, name or role, role, act)).id

    for role in ROLES:
        found[role] = Credential(role, await key(HOME, await account(HOME, role)))
    developer = await account(HOME, "developer", "limited")
    found["limited"] = Credential("limited", await key(HOME, developer, models=(OTHER_MODEL,)))
    found["plain"] = Credential("plain", await key(HOME))
    found["stranger"] = Credential("stranger", await key(FOREIGN, await account(FOREIGN, "admin")))
    unserved = await key(UNSERVED, await account(UNSERVED, "admin"))
    found["suspended"] = Credential("suspended", unserved, tenant=UNSERVED)
    await directory.tenants.do(UNSERVED, "suspend", act)
    found["operator"] = Credential("operator", await key(None), "operator")
    emergency = await key(None, break_glass=True)
    found["break-glass"] = Credential("break-glass", emergency, "operator")
    found["break-glass, why"] = Credential("operator", emergency, "operator", reason="a+test")
    found |= await holders(directory, providers)
    return found | {name: Credential(NOBODY, text) for name, text in (await nobodies(directory)).items()}


async def holders(directory: Directory, providers: Providers) -> dict[str, Credential]:
    """Who comes with a token, in the column of who has a key of that role."""
    act = Act("test", now_us())
    await directory.tenants.create("over", "roomy", act)
    await providers.trusted(directory, act, HOME, FOREIGN, "over")
    await directory.tenants.do("over", "close", act)
    await directory.members.invite(HOME, "mia@acme.example", "developer", act)
    found = {f"token, {role}": Credential(role, text) for role, text in providers.of_roles(HOME).items()}
    verified = {"email": "Mia@acme.example", "email_verified": True}
    admin = {"roles": ["admin"]}
    found |= {
        "token, a member's": Credential("developer", providers.of(ROLELESS, **verified)),
        "token, said nothing": Credential("plain", providers.of(ROLELESS, **admin)),
        "token, no role": Credential("roleless", providers.of(HOME, roles=["operator"])),
        "token, stranger": Credential("stranger", providers.of(FOREIGN, **admin)),
        "token, operator": Credential("operator", providers.operator(), "operator"),
        "token, of a closed tenant": Credential(NOBODY, providers.of("over", **admin)),
    }
    return found | {name: Credential(NOBODY, it) for name, it in providers.worthless(HOME).items()}


async def nobodies(directory: Directory) -> dict[str, str | None]:
    """What is no credential, or was one."""
    act = Act("test", now_us())
    expired = await directory.keys.create(HOME, Act("test", 1), expires_us=2)
    revoked = await directory.keys.create(HOME, act)
    await directory.keys.revoke(HOME, revoked.key.id, act)
    gone = await directory.accounts.create(HOME, "gone", "admin", act)
    of_gone = await directory.keys.create(HOME, act, account_id=gone.id)
    await directory.accounts.remove(HOME, gone.id, act)
    await directory.tenants.create("closed", "roomy", act)
    of_closed = await directory.keys.create("closed", act)
    await directory.tenants.do("closed", "close", act)
    ended = await directory.keys.create(None, act)
    await directory.keys.revoke(None, ended.key.id, act)
    good = (await directory.keys.create(HOME, act)).secret.reveal()
    return {
        "none": None,
        "empty": "",
        "malformed": "gw_live_x",
        "token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.",
        "mistyped": good[:-1] + ("1" if good[-1] == "0" else "0"),
        "unknown": mint(bytes(range(40))).reveal(),
        "expired": expired.secret.reveal(),
        "revoked": revoked.secret.reveal(),
        "of a closed tenant": of_closed.secret.reveal(),
        "of a removed account": of_gone.secret.reveal(),
        "revoked operator's": ended.secret.reveal(),
    }


async def furnished(directory: Directory, providers: Providers) -> dict[str, Credential]:
    """All that is there before the gateway starts."""
    act = Act("test", 1)
    plans = [Plan(name=name, weight=1, limits=ROOMY) for name in ("roomy", "spare")]
    await directory.values.put(*plans, Privacy("discreet"), Fleet("local"), act=act)
    for name in (HOME, FOREIGN, UNSERVED):
        await directory.tenants.create(name, "roomy", act, privacy="discreet")
    ours, folder = (HOME, UNSERVED), str(MODELS)
    await directory.values.put(
        Model("", ECHO, folder, ours),
        Model("", OTHER_MODEL, folder, ours),
        Model("", "parrot", folder, ours, openai=Generate(max_tokens=100)),
        Model("", "vectors", folder, ours, openai=Infer()),
        Model("", FOREIGN_MODEL, folder, (FOREIGN,), openai=Generate(max_tokens=100)),
        act=act,
    )
    return await people(directory, providers)


@dataclass(slots=True)
class Callers:
    """The gateway and who calls it. Each listener is asked over one connection."""

    demo: Demo
    credentials: Mapping[str, Credential]
    _connections: dict[Listener, http.client.HTTPConnection] = field(default_factory=dict)
    _things: dict[tuple[str, str], str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=count)
    _issuers: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def operator(self) -> Credential:
        return self.credentials["operator"]

    def ask(
        self,
        by: Credential,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        at: Listener | None = None,
    ) -> Answer:
        """A body that is not None is sent as JSON. Asked where the credential works, or `at`."""
        at = at or by.listener
        sent = by.headers | dict(headers or {})
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            sent["content-type"] = "application/json"
        if at not in self._connections:
            address = self.demo.address if at == "public" else self.demo.operator.removeprefix("http://")
            self._connections[at] = http.client.HTTPConnection(address, timeout=60)
        if by.reason and target.startswith("/control/v1/"):
            target += f"?reason={by.reason}"
        connection = self._connections[at]
        connection.request(method, target, content, sent)
        return read_answer(connection)

    def control(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """What the operator asks so that a test can go on; a header's underscores are hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.ask(self.operator, method, f"/control/v1{path}", body, sent)
        assert answer.status in (200, 201), (method, path, answer.body)
        return answer

    def etag(self, path: str) -> str:
        return self.control("GET", path).headers["etag"]

    # Things that may be changed

    def purpose(self) -> Purpose:
        """For which every tenant has a data key that seals."""
        for tenant in (HOME, FOREIGN, UNSERVED):
            change(self.demo.state, partial(data_key, tenant, PURPOSE))
        return PURPOSE

    def thing(self, kind: str, tenant: str = "") -> str:
        """One that nobody has changed yet: its id, or the name where it has one."""
        if (kind, tenant) not in self._things:
            self._things[kind, tenant] = self._made(kind, tenant, f"{kind}-{next(self._numbers)}")
        return self._things[kind, tenant]

    def issuer(self) -> dict[str, str]:
        """One that nobody has changed yet, as it may be put again."""
        return self._issuers[self.thing("issuer")]

    def spent(self, *things: str) -> None:
        """They were changed, so nobody else gets them."""
        for at in [at for at, one in self._things.items() if one in things]:
            del self._things[at]

    def _made(self, kind: str, tenant: str, name: str) -> str:
        if kind in ("plan", "privacy", "model", "fleet"):
            self.control("PUT", f"/{plural(kind)}/{name}", SHELVED[kind], if_none_match="*")
            return name
        if kind == "tenant":
            self.control("POST", "/tenants", {"name": name, "plan": "roomy", "privacy": "discreet"})
            return name
        if kind == "issuer":
            body = {"issuer": f"https://{name}.example", "audience": "gateway", "tenant_claim": "tenant"}
            self._issuers[id_of(body["issuer"])] = body
            self.control("PUT", f"/issuers/{id_of(body['issuer'])}", body, if_none_match="*")
            return id_of(body["issuer"])
        if (kind, tenant) == ("key", UNSERVED):  # where nobody makes one any more: its admin's own
            return str(self.control("GET", f"/tenants/{tenant}/keys").json["items"][0]["id"])
        if kind == "data_key":
            return change(self.demo.state, partial(data_key, tenant, PURPOSE))
        body = {
            "member": {"email": f"{name}@a.example", "role": "viewer"},
            "account": {"name": name, "role": "viewer"},
            "key": {"name": name},
        }[kind]
        path = f"/tenants/{tenant}/{kind}s" if tenant else "/operator/keys"
        return str(self.control("POST", path, body).json["id"])

    def fresh(self, kind: str) -> str:
        """A name that nothing has."""
        return f"{kind}-{next(self._numbers)}"

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


async def data_key(tenant: str, purpose: Purpose, directory: Directory) -> str:
    """The id of the one that seals, made where there is none, as a gateway makes it when it has something to seal."""
    owner, at = await directory.tenants.show(tenant), now_us()
    made = DataKeyRecord(directory.journal.new_id("d"), owner.id, purpose, at)
    return (await directory.data_keys.add(made, Act("test", at))).id


SHELVED: Final[dict[str, Any]] = {
    "plan": {"weight": 3, "limits": {"body_bytes": 10}},
    "privacy": {"mask": ["email"]},
    "model": {"repository": str(MODELS), "tenants": [HOME]},
    "fleet": {"idle_seconds": 5},
}
"""What is put where things are told by their names."""


@contextmanager
def calling(state: Path) -> Iterator[Callers]:
    """A gateway of these callers that shows configurations and slows no stranger down, until the block ends."""

    async def make() -> dict[str, Credential]:
        async with opened_directory(Settings(state=state)) as directory:
            return await furnished(directory, issued)

    ports = ("--port", "0", "--grpc-port", "0", "--operator-port", "0")
    environ = {"GATEWAY_HTTP_MODEL_CONFIG": "1", "GATEWAY_DIRECTORY_UNKNOWN_PER_SECOND": "0"}
    serve = ("serve", "--state", str(state), "--json", *ports)
    with providers() as issued:
        credentials = asyncio.run(make())
        with started(state, *serve, **environ) as process:
            try:
                demo = replace(announced(process, state), key=credentials["plain"].text or "")
                with contextlib.closing(Callers(demo, credentials)) as callers:
                    yield callers
            finally:
                end(process, state)
