"""The control API of two gateways over one table in memory, asked as the doors ask it; two tenants, and a key of every sort."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from starlette.types import ASGIApp

import policies
from gateway.auth.authenticator import Authenticator
from gateway.auth.known import Known
from gateway.auth.look_ups import LookUps
from gateway.auth.networks import Networks
from gateway.auth.tokens import Tokens
from gateway.authz.control import ControlAuthorizer
from gateway.cluster.feed import Feed
from gateway.envelope.keyring import Keyring
from gateway.frontends.control import Callers, DerivedKeys, control_credential
from gateway.usage.reading import Reader
from tenants.acts import Act
from tenants.api.application import Control, Listener
from tenants.data_keys import DataKeyRecord
from tenants.directory import Directory
from tenants.fleet import Fleet
from tenants.issuers import Issuer
from tenants.keys import Secret
from tenants.members import ROLES
from tenants.model import Model
from tenants.plans import Limits, Plan, Rate
from tenants.ports import Authorizer, Item, Key, Row
from tenants.privacy import Privacy
from tests.gateway.usage.support import WorldLog
from tests.tenants.conftest import BY, NOW, TEAM
from tests.worlds.issuer import IssuerWorld, key_sets
from tests.worlds.key_service import MemoryKeyService
from tests.worlds.segments import SegmentWorld
from tests.worlds.table import MemoryTable

AUTHORIZER = ControlAuthorizer.load(Path(policies.__file__).parent)
CALLERS = ("operator", *ROLES, "stranger", "plain", "nobody")
"""`stranger` is the admin of another tenant, `plain` a key without an account, `nobody` has none."""
OPERATORS = ("operator", "glass", "nobody")
"""Who asks at the operators' listener, whatever follows their first word."""


@dataclass(frozen=True, slots=True)
class Told:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of a problem, which is one in all that RFC 9457 and we promise, or the test fails."""
        assert self.headers["content-type"] == "application/problem+json"
        said = self.json
        assert said["status"] == self.status
        assert said["instance"]
        assert said["title"]
        assert said["detail"]
        kind: str = said["type"]
        assert kind.startswith("urn:gateway:problem:")
        return kind.removeprefix("urn:gateway:problem:")


class BusyTable(MemoryTable):
    """Whoever waits for it lets others go on, so that what happens at once is at once."""

    __slots__ = ()

    async def get(self, key: Key) -> Row | None:
        await asyncio.sleep(0)
        return await MemoryTable.get(self, key)

    async def transact(self, *items: Item) -> None:
        await asyncio.sleep(0)
        await MemoryTable.transact(self, *items)


@dataclass(slots=True)
class World:
    """Requests go to its two gateways in turn.

    `now_us` is the clock. `keys` are texts by caller, `ids` the ids of what is there by what it is."""

    table: MemoryTable = field(default_factory=BusyTable)
    now_us: int = NOW
    seconds: float = 300.0
    authorizer: Authorizer = AUTHORIZER
    unknown: Rate | None = None
    """How many unknown keys and issuers a network may look up."""
    issuer: IssuerWorld = field(default_factory=IssuerWorld)
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    directory: Directory = field(init=False)
    controls: list[Control] = field(default_factory=list)
    wrapped: MemoryTable = field(default_factory=MemoryTable)
    service: MemoryKeyService = field(default_factory=MemoryKeyService)
    """Wraps the data keys of its `keyring`."""
    keyring: Keyring = field(init=False)
    log: SegmentWorld = field(default_factory=SegmentWorld)
    counted: MemoryTable = field(default_factory=MemoryTable)
    """The audit log, and the sums of its usage."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _doors: dict[tuple[str, int], ASGIApp] = field(default_factory=dict)
    _requests: Any = field(default_factory=count)

    def __post_init__(self) -> None:
        for seed in (7, 8):
            self.directory = Directory(self.table, Random(seed).randbytes)
            self.keyring = Keyring(
                self.directory.data_keys,
                self.wrapped,
                self.service,
                clock=lambda: self.now_us / 1_000_000,
                confirmed_at=lambda: -1.0,
                now_us=lambda: self.now_us,
                entropy=Random(seed).randbytes,
                spawn=lambda name, work: self.tasks.add(asyncio.create_task(work, name=name)),
            )
            control = Control(
                self.directory,
                self.authorizer,
                control_credential,
                callers(self, self.unknown).identify,
                lambda: self.now_us,
                self.seconds,
                record_keys=DerivedKeys(self.keyring),
                usage=Reader(lambda: WorldLog(self.log), self.counted),
            )
            self.controls.append(control)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str = "operator",
        at: str | None = None,
        **headers: str,
    ) -> Told:
        """Ask below /control/v1 with that caller's key, at the listener where it works unless `at` says another one. What is not bytes
        is sent as JSON; a header's underscores are hyphens, and "" leaves it out."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if content else {}
        if by in self.keys:
            sent["x-api-key"] = self.keys[by]
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        listener = at or ("operator" if by.partition(" ")[0] in OPERATORS else "public")
        target = path if path.startswith(("/control/", "/audit/")) else f"/control/v1{path}"
        path, _, query = target.partition("?")
        number = next(self._requests)
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(n.encode(), v.encode("latin-1")) for n, v in sent.items() if v],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {"request_id": f"{number:032x}"},
        }
        return await told(self._door(listener, number % 2), scope, content)

    def _door(self, listener: str, gateway: int) -> ASGIApp:
        """Made when it is first asked, as most tests ask few of them."""
        found = self._doors.get((listener, gateway))
        if found is None:
            name: Listener = "operator" if listener == "operator" else "public"
            found = self._doors[listener, gateway] = self.controls[gateway].paths(name)
        return found

    def act(self) -> Act:
        """What somebody does now, beside the API."""
        return Act(BY, self.now_us)

    async def etag(self, path: str, by: str = "operator") -> str:
        return (await self.ask("GET", path, by=by)).headers["etag"]

    @property
    def everything(self) -> bytes:
        """All that is stored."""
        return b"\n".join(
            b"%b %b %b" % (key.partition.encode(), key.sort.encode(), row.value)
            for key, row in self.table.rows.items()
        )


def callers(world: World, limit: Rate | None = None) -> Callers:
    """Whom one gateway has met; `limit` on unknown keys."""

    def clock() -> float:
        return world.now_us / 1_000_000

    known = Known(clock)
    look_ups = LookUps(world.directory, known, Feed(world.directory, known), Networks(limit, clock))
    tokens = Tokens(look_ups, key_sets(world.issuer, known, clock), lambda: world.now_us)
    return Callers(world.directory, Authenticator(known, look_ups, tokens, lambda: world.now_us))


async def told(application: ASGIApp, scope: dict[str, Any], content: bytes) -> Told:
    messages: list[Any] = []
    pieces = [content[start : start + 65_536] for start in range(0, len(content), 65_536)] or [b""]

    async def receive() -> Any:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(message: Any) -> None:
        messages.append(message)

    await application(scope, receive, send)
    start, *rest = messages
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    assert len(dict(headers)) == len(headers), "a header twice"
    body = b"".join(message.get("body", b"") for message in rest)
    return Told(start["status"], dict(headers), body)


@dataclass(frozen=True, slots=True)
class People:
    """`rows` of the table, and a world's `keys` and `ids` to them."""

    rows: Mapping[Key, Row]
    keys: Mapping[str, str]
    ids: Mapping[str, str]


async def people() -> People:
    """acme with a member, an account and a key for each role, a key of no account, a data key, and the stranger globex."""
    table, act = MemoryTable(), Act(BY, NOW)
    directory = Directory(table, Random(6).randbytes)
    keys: dict[str, str] = {}
    ids: dict[str, str] = {}

    async def key(caller: str, tenant: str | None, account_id: str | None = None) -> None:
        minted = await directory.keys.create(tenant, act, name=caller, account_id=account_id)
        keys[caller], ids[f"{caller} key"] = reveal(minted.secret), minted.key.id

    await directory.values.put(TEAM, Plan("spare", 1, Limits(1000)), Fleet("local"), Fleet("idle"), act=act)
    await directory.values.put(Issuer("https://login.example", "gateway", tenant_claim="tenant"), act=act)
    await directory.values.put(Privacy("default", ("email",)), Privacy("unused"), act=act)
    for name in ("acme", "globex"):
        await directory.tenants.create(name, "team", act, privacy="default")
    await directory.values.put(Model("", "digits", "/models", ("acme",)), act=act)
    await directory.values.put(Model("", "hidden", "/models", ("globex",)), act=act)
    await key("operator", None)
    for role in ROLES:
        account = await directory.accounts.create("acme", f"its-{role}", role, act)
        ids[f"{role} account"] = account.id
        await key(role, "acme", account.id)
    admin = await directory.accounts.create("globex", "its-admin", "admin", act)
    await key("stranger", "globex", admin.id)
    await key("plain", "acme")
    spare_key = await directory.keys.create(None, act, name="spare")
    ids["spare key"] = spare_key.key.id
    leaked = await directory.keys.create("acme", act, name="leaked")
    ids["leaked text"] = reveal(leaked.secret)
    member = await directory.members.invite("acme", "ada@acme.example", "viewer", act)
    ids["member"] = member.id
    spare = await directory.accounts.create("acme", "spare", "viewer", act)
    ids["account"] = spare.id
    made = DataKeyRecord(directory.journal.new_id("d"), member.tenant_id, "replies", NOW)
    ids["data key"] = (await directory.data_keys.add(made, act)).id
    return People(table.rows, keys, ids)


def reveal(secret: Secret) -> str:
    return secret.reveal()


PEOPLE = asyncio.run(people())
"""Made once: rows never change, a table replaces them."""


@asynccontextmanager
async def peopled() -> AsyncIterator[World]:
    """A world of its own with these people."""
    yield World(BusyTable(dict(PEOPLE.rows)), keys=dict(PEOPLE.keys), ids=dict(PEOPLE.ids))
