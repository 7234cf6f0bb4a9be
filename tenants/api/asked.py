"""One request as an operation meets it, and what comes of it."""

from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

import msgspec

from tenants.acts import Act
from tenants.api.problems import Problem
from tenants.api.shapes import Listed
from tenants.data_keys import BACKUP_DAYS
from tenants.directory import Directory, Found, Identity, Page
from tenants.errors import Repeated
from tenants.keys import ApiKey
from tenants.members import Account, Role
from tenants.ports import (
    MOST_KEYS,
    Authorizer,
    CallerRole,
    PlatformAction,
    Question,
    RecordKeys,
    TenantAction,
)
from tenants.tenant import Tenant, state
from tenants.usage import UsageReader

_Value = TypeVar("_Value")
_Stored = TypeVar("_Stored")
View = Callable[[Any, int], Any]
"""How a stored value is shown at that microsecond."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks, however they showed it. `id` is their key's, their member's, or that of a token's subject; `key` is None for a token.

    `tenant` None: an operator.
    """

    id: str
    role: CallerRole
    tenant: Tenant | None
    key: ApiKey | None = None
    account: Account | None = None

    @property
    def actor(self) -> str:
        """As events and the log have it."""
        if self.role == "break-glass":
            return f"break-glass:{self.id}"
        return f"{_ACTORS.get(self.id[:2], 'token')}:{self.id}"


_ACTORS: Final = {"k_": "key", "u_": "member"}


def who(found: Identity) -> Who:
    """The holder of a key."""
    role: CallerRole
    if found.tenant is None:
        role = "break-glass" if found.key.break_glass else "operator"
    else:
        role = found.account.role if found.account else "none"
    return Who(found.key.id, role, found.tenant, found.key, found.account)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how it is asked whether they may."""

    who: Who
    authorizer: Authorizer
    gives_reason: bool = False

    def check(
        self,
        action: PlatformAction | TenantAction,
        tenant: Tenant | None,
        now_us: int,
        gives: Role | None = None,
        *,
        widens: bool = False,
        loosens: bool = False,
        hastens: bool = False,
    ) -> tuple[str, ...]:
        """The ids of the policies that allow it. Raises Problem: forbidden."""
        own = self.who.tenant
        verdict = self.authorizer.decide(
            Question(
                caller_id=self.who.id,
                role=self.who.role,
                of_tenant_id=own.id if own else None,
                action=action,
                tenant_id=tenant.id if tenant else None,
                tenant_state=state(tenant, now_us) if tenant else "active",
                gives=gives,
                widens=widens,
                gives_reason=self.gives_reason,
                loosens=loosens,
                hastens=hastens,
            )
        )
        if not verdict.allowed:
            decided = ", ".join(verdict.policies) or "no policy permits it"
            sentence = f"whose role is {self.who.role} may not do that now"
            if widens:
                sentence = "a key for some models may not do that to one for others"
            elif loosens:
                sentence = "a key may not make one that lasts longer than it does, or is bound to less: networks, hours, limits"
            elif hastens:
                sentence = "only an operator destroys a data key sooner than in a day"
            raise Problem(
                "forbidden",
                sentence,
                private=f"{action} by {self.who.actor}: {decided}",
            )
        return verdict.policies


@dataclass(frozen=True, slots=True)
class Condition:
    """What the caller has read: `matches` is the ETag that must still be right, `creates` says that there must be nothing yet."""

    matches: str | None = None
    creates: bool = False


@dataclass(frozen=True, slots=True)
class Outcome(Generic[_Value]):
    """`replayed`: it was done under the same idempotency key before, and not again."""

    value: _Value
    replayed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` None: there is none. `tag` is the ETag of one thing; `secret`: nobody may keep it."""

    body: Any = None
    status: int = 200
    tag: str | None = None
    replayed: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """`tenant` is that of the path, whom the caller may see. `after` and `limit` are a list's. `backup_days` is how long
    back-ups of the wrapped data keys are kept.
    """

    directory: Directory
    caller: Caller
    act: Act
    names: Mapping[str, str] = field(default_factory=dict)
    tenant: Tenant | None = None
    body: Any = None
    condition: Condition = Condition()
    after: str | None = None
    limit: int = MOST_KEYS
    backup_days: int = BACKUP_DAYS
    query: Mapping[str, str] = field(default_factory=dict)
    record_keys: RecordKeys | None = None
    usage: UsageReader | None = None

    @property
    def now_us(self) -> int:
        return self.act.at_us

    @property
    def tenant_name(self) -> str:
        """Of a path that has one."""
        return self.names["tenant"]

    async def once(
        self, stored: type[_Stored], change: Callable[[], Awaitable[_Value]]
    ) -> Outcome[_Value | _Stored]:
        """What the change comes to, or what it came to under the same idempotency key: then it is not made again."""
        journal = self.directory.journal
        found = await journal.receipt(self.act, stored)
        if found is not None:
            return Outcome(found, replayed=True)
        try:
            return Outcome(await change(), replayed=False)
        except Repeated:  # of those that came at once, another was first
            found = await journal.receipt(self.act, stored)
        if found is None:
            raise Problem("conflict", "the state store has lost what was done; look before you ask again")
        return Outcome(found, replayed=True)

    async def changed(
        self, found: Found[_Value], view: View, change: Callable[[int], Awaitable[_Value]]
    ) -> Answer:
        """The answer to a change of what was found, which is as the caller has read it. Raises Problem: stale."""
        version = self.checked(found, view)
        value = await change(version)
        shown = view(value, self.now_us)
        return Answer(shown, tag=tag(shown, version + (value != found.value)))

    def checked(self, found: Found[Any], view: View) -> int:
        """The version that a change must find. Raises Problem when the caller has read another."""
        if self.condition.matches != tag(view(found.value, self.now_us), found.version):
            raise Problem("stale", "it is not as it was when you read it; read it again")
        return found.version

    def shown(self, found: Found[Any], view: View) -> Answer:
        body = view(found.value, self.now_us)
        return Answer(body, tag=tag(body, found.version))

    def listed(self, page: Page[Any], view: View) -> Answer:
        items = tuple(view(value, self.now_us) for value in page.values)
        return Answer(Listed(items, None if page.next_after is None else cursor(page.next_after)))


def cursor(after: str) -> str:
    """A position in a list as clients get it. It says nothing that the list does not, and nobody needs to read it."""
    return urlsafe_b64encode(after.encode()).decode().rstrip("=")


def tag(shown: object, version: int) -> str:
    """An ETag: the version of the row, and a digest of how it is shown, as a time may come without anybody writing."""
    return f'"{version}-{sha256(msgspec.json.encode(shown)).hexdigest()[:16]}"'
