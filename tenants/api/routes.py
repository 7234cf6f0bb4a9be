"""ONE table: every operation of the control API. Routing, the OpenAPI document, the README's table and the tests are made from it.

A new operation is a row here, and one of `tests/e2e/matrix.py`; it is denied to everybody until a policy of `policies/control.cedar`
permits its action.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from msgspec import Struct

from tenants.api import data_keys, keys, records, tenants, usage
from tenants.api.asked import Answer, Asked
from tenants.api.bodies import MOST_BYTES, MOST_OTHER_BYTES
from tenants.api.holdings import CERTIFICATES, Holdings
from tenants.api.holdings import ISSUERS as OWN_ISSUERS
from tenants.api.members import ACCOUNTS, MEMBERS, create_account, invite
from tenants.api.problems import TABLE
from tenants.api.shapes import (
    AccountView,
    Closing,
    EventView,
    IssuerShape,
    KeyView,
    LeakedKey,
    LeakView,
    Listed,
    MemberView,
    MintedKey,
    NewAccount,
    NewKey,
    NewMember,
    NewOperatorKey,
    NewTenant,
    Nothing,
    OwnCertificates,
    OwnIssuers,
    RecordKeysView,
    RoleChange,
    Rotation,
    TenantChange,
    TenantModel,
    TenantView,
    Whoami,
)
from tenants.api.strict import strict
from tenants.api.values import FLEETS, ISSUERS, MODELS, PLANS, PRIVACIES
from tenants.catalogue import plural
from tenants.fleet import Fleet
from tenants.model import Model
from tenants.plans import Plan
from tenants.ports import PlatformAction, TenantAction
from tenants.privacy import Privacy
from tenants.restrictions import Restrictions

# long because it is one table
BASE: Final = "/control/v1"
AUDIT: Final = "/audit/v1"
Method = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]

_ISSUING: Final[tuple[TenantAction, ...]] = ("inspect", "issue", "revoke")
_EMPOWERING: Final[tuple[PlatformAction, ...]] = ("survey", "empower", "empower")
_NAMED = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """`action` is what Cedar is asked about the tenant of the path, or about the platform where it has none. `answer` None: no body."""

    id: str
    method: Method
    path: str
    action: PlatformAction | TenantAction
    do: Callable[[Asked], Awaitable[Answer]]
    answer: Any
    summary: str
    body: type[Struct] | None = None
    status: int = 200
    base: str = BASE
    more_query: tuple[str, ...] = ()

    @property
    def full_path(self) -> str:
        return self.base + self.path

    @property
    def is_own(self) -> bool:
        """It is about the caller's own tenant, which its path need not name."""
        return self.action in ("whoami", "reveal")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of its path."""
        return tuple(_NAMED.findall(self.path))

    @property
    def is_list(self) -> bool:
        """Takes `cursor` and `limit`."""
        return getattr(self.answer, "__origin__", None) is Listed

    @property
    def is_change(self) -> bool:
        """Leaves an event."""
        return self.method != "GET"

    @property
    def is_once(self) -> bool:
        """Takes an Idempotency-Key."""
        return self.method == "POST"

    @property
    def is_guarded(self) -> bool:
        """Needs If-Match; a PUT takes If-None-Match: * instead, and creates."""
        return self.method in ("PATCH", "PUT", "DELETE")

    @property
    def is_tagged(self) -> bool:
        """Its answer has an ETag: one thing, which may be asked for with If-None-Match."""
        return self.method == "GET" and not self.is_list and not self.is_own

    @property
    def gives_tag(self) -> bool:
        """Its answer tells the ETag that a change of the thing must name; nobody changes a key by one."""
        made = self.status == 201 and self.answer is not MintedKey  # noqa: PLR2004
        return self.is_tagged or made or (self.is_guarded and self.answer is not None)

    @property
    def most_bytes(self) -> int:
        """Of its body. A plan, a privacy, a model, a fleet and an issuer may be large; what tenants send is not."""
        return MOST_BYTES if self.action == "shape" else MOST_OTHER_BYTES

    @property
    def query(self) -> tuple[str, ...]:
        """Each takes a reason: one for a change is in its event, and a break-glass key must say one."""
        return (*(("cursor", "limit") if self.is_list else ()), *self.more_query, "reason")

    @property
    def successes(self) -> tuple[int, ...]:
        created = (201,) if self.method == "PUT" else ()
        return (self.status, *created, *((304,) if self.is_tagged else ()))

    @property
    def problems(self) -> tuple[str, ...]:
        """The codes that it may be refused with."""
        others: set[str] = set()
        if not self.is_change:
            others |= {"conflict", "body_too_large", "not_json", "already_exists", "in_use"}
        if not self.is_guarded:
            others |= {"stale", "precondition_required"}
        if self.action != "reveal":
            others |= {"destroyed", "sealing_unavailable"}
        if not self.is_once:
            others |= {"idempotency_key_reused"}
        return tuple(code for code in TABLE if code not in others)


def _people(name: str, roster: Any, create: Any, new: type[Struct], view: Any) -> tuple[Operation, ...]:
    """What there is of members and of accounts."""
    title, path = name.title(), f"/tenants/{{tenant}}/{name}s"
    word, made = ("invite", "invite a person") if name == "member" else ("create", "make a service account")
    what = "member" if name == "member" else "service account"
    one = f"{path}/{{{name}}}"
    return (
        Operation(
            f"list{title}s", "GET", path, "inspect", roster.list_all, Listed[view], f"list the {what}s"
        ),
        Operation(f"{word}{title}", "POST", path, "administer", create, view, made, new, 201),
        Operation(f"show{title}", "GET", one, "inspect", roster.show, view, f"show a {what}"),
        Operation(
            f"change{title}",
            "PATCH",
            one,
            "administer",
            roster.change,
            view,
            f"give a {what} another role",
            RoleChange,
        ),
        Operation(
            f"remove{title}",
            "DELETE",
            one,
            "administer",
            roster.remove,
            None,
            f"remove a {what}" + ("" if name == "member" else "; its keys stop working"),
            status=204,
        ),
    )


def _keys(whose: str, path: str, new: type[Struct]) -> tuple[Operation, ...]:
    """What there is of a tenant's keys and of operators'."""
    read, issue, revoke = _EMPOWERING if whose else _ISSUING
    one, of = f"{path}/{{key}}", " of an operator's" if whose else ""
    return (
        Operation(
            f"list{whose}Keys", "GET", path, read, keys.list_all, Listed[KeyView], f"list the keys{of}"
        ),
        Operation(
            f"create{whose}Key", "POST", path, issue, keys.create, MintedKey, f"make a key{of}", new, 201
        ),
        Operation(f"show{whose}Key", "GET", one, read, keys.show, KeyView, f"show a key{of}"),
        Operation(
            f"rotate{whose}Key",
            "POST",
            f"{one}/rotate",
            issue,
            keys.rotate,
            MintedKey,
            f"make a key{of} that follows another, which ends after the overlap",
            Rotation,
            201,
        ),
        Operation(
            f"revoke{whose}Key",
            "POST",
            f"{one}/revoke",
            revoke,
            keys.revoke,
            KeyView,
            f"end a key{of} for ever",
            Nothing,
        ),
    )


def _shelf(name: str, shelf: Any, view: Any) -> tuple[Operation, ...]:
    """What there is of plans, of privacies, of models, of fleets and of shared issuers."""
    title, many = name.title(), plural(name)
    one = f"/{many}/{{name}}"
    a_one = f"an {name}" if name == "issuer" else f"a {name}"
    return (
        Operation(
            f"list{many.title()}",
            "GET",
            f"/{many}",
            "survey",
            shelf.list_all,
            Listed[view],
            f"list the {many}",
        ),
        Operation(f"show{title}", "GET", one, "survey", shelf.show, view, f"show {a_one}"),
        Operation(f"put{title}", "PUT", one, "shape", shelf.put, view, f"create or replace {a_one}", view),
        Operation(
            f"delete{title}",
            "DELETE",
            one,
            "shape",
            shelf.remove,
            None,
            f"delete {a_one}",
            status=204,
        ),
    )


_TENANT: Final = "/tenants/{tenant}"


def _held(title: str, sort: Holdings, view: Any, what: str) -> tuple[Operation, ...]:
    """Who is a tenant's beside its keys: all of one sort are one thing."""
    at, summary = f"{_TENANT}/{title.lower()}", f"show the {what} that a tenant has for itself"
    put = f"give a tenant these {what} and no others"
    return (
        Operation(f"showTenant{title}", "GET", at, "inspect", sort.show, view, summary),
        Operation(f"changeTenant{title}", "PATCH", at, "govern", sort.change, view, put, view),
    )


_READING: Final[tuple[tuple[str, TenantAction, Any, Any, str], ...]] = (
    ("Plan", "view", tenants.plan, strict(Plan), "show a tenant's plan"),
    ("Privacy", "view", tenants.privacy, strict(Privacy), "show a tenant's privacy"),
    ("Models", "inspect", tenants.models, Listed[TenantModel], "list the models that a tenant may call"),
    ("Audit", "review", tenants.audit, Listed[EventView], "list what happened to a tenant, oldest first"),
)

_RESTRICTED: Final = strict(Restrictions)
_RESTRICTING: Final[tuple[tuple[str, Method, TenantAction, Any, Any, str, Any], ...]] = (
    (
        "show",
        "GET",
        "inspect",
        tenants.show_restrictions,
        _RESTRICTED,
        "show what a tenant restricts itself to",
        None,
    ),
    (
        "put",
        "PUT",
        "administer",
        tenants.put_restrictions,
        _RESTRICTED,
        "restrict a tenant to regions, models or networks",
        _RESTRICTED,
    ),
    (
        "delete",
        "DELETE",
        "administer",
        tenants.lift_restrictions,
        None,
        "lift all restrictions of a tenant",
        None,
    ),
)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("whoami", "GET", "/whoami", "whoami", tenants.whoami, Whoami, "show whose credential this is"),
    Operation(
        "listTenants",
        "GET",
        "/tenants",
        "survey",
        tenants.list_all,
        Listed[TenantView],
        "list the tenants, by name",
    ),
    Operation(
        "createTenant",
        "POST",
        "/tenants",
        "create",
        tenants.create,
        TenantView,
        "make a tenant",
        NewTenant,
        201,
    ),
    Operation("showTenant", "GET", _TENANT, "view", tenants.show, TenantView, "show a tenant"),
    Operation(
        "changeTenant",
        "PATCH",
        _TENANT,
        "govern",
        tenants.change,
        TenantView,
        "put a tenant on another plan, or give it another privacy or KMS key",
        TenantChange,
    ),
    *(
        Operation(f"{verb}Tenant", "POST", f"{_TENANT}/{verb}", "govern", do, TenantView, summary, body)
        for verb, do, body, summary in (
            ("suspend", tenants.suspend, Nothing, "stop serving a tenant"),
            ("resume", tenants.resume, Nothing, "serve a suspended tenant again"),
            ("close", tenants.close, Closing, "end a tenant, now or after a grace"),
            ("reopen", tenants.reopen, Nothing, "keep a tenant that was to be closed"),
        )
    ),
    *(
        Operation(
            f"{about.split()[0]}Tenant{title}", "GET", f"{_TENANT}/{title.lower()}", action, do, answer, about
        )
        for title, action, do, answer, about in _READING
    ),
    Operation(
        "listTenantUsage",
        "GET",
        f"{_TENANT}/usage",
        "view",
        usage.list_all,
        Listed[usage.UsageView],
        "list what a tenant used, by period, key and model",
        more_query=usage.QUERY,
    ),
    *_held("Issuers", OWN_ISSUERS, OwnIssuers, "issuers"),
    *_held("Certificates", CERTIFICATES, OwnCertificates, "client certificates"),
    *(
        Operation(
            f"{verb}TenantRestrictions",
            method,
            f"{_TENANT}/restrictions",
            action,
            do,
            answer,
            summary,
            body,
            204 if answer is None else 200,
        )
        for verb, method, action, do, answer, summary, body in _RESTRICTING
    ),
    *_people("member", MEMBERS, invite, NewMember, MemberView),
    *_people("account", ACCOUNTS, create_account, NewAccount, AccountView),
    *_keys("", f"{_TENANT}/keys", NewKey),
    *(
        Operation(id_, method, f"{_TENANT}/data-keys{path}", action, do, answer, summary, body)
        for id_, method, path, action, do, answer, summary, body in data_keys.ROWS
    ),
    *_keys("Operator", "/operator/keys", NewOperatorKey),
    Operation(
        "reportLeak",
        "POST",
        "/leaks",
        "empower",
        keys.leaked,
        LeakView,
        "end a key by its text, which leaked, and show which keys it made",
        LeakedKey,
    ),
    *_shelf("plan", PLANS, strict(Plan)),
    *_shelf("privacy", PRIVACIES, strict(Privacy)),
    *_shelf("model", MODELS, strict(Model)),
    *_shelf("fleet", FLEETS, strict(Fleet)),
    *_shelf("issuer", ISSUERS, IssuerShape),
    Operation(
        "listAudit",
        "GET",
        "/audit",
        "survey",
        tenants.platform_audit,
        Listed[EventView],
        "list what happened to what is of no tenant, oldest first",
    ),
    Operation(
        "showAuditKeys",
        "GET",
        "/keys",
        "reveal",
        records.show_keys,
        RecordKeysView,
        "show what opens one's own audit records",
        base=AUDIT,
        more_query=("series", "data_key"),
    ),
)
