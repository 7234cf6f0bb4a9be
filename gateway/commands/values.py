"""`gateway plans`, `privacies`, `models`, `fleet` and `issuers`: what documents declare, one kind at a time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.commands.command import PAGED, REASON, Asked, Command, Run, argument, asked
from gateway.commands.files import documents
from gateway.commands.printing import Row, Sheet, card, program, show, show_all, when
from tenants.catalogue import Value, name_of, plural
from tenants.directory import Page
from tenants.directory.values import most_at_once
from tenants.errors import Faulty, Invalid
from tenants.fleet import Fleet
from tenants.issuers import Issuer, id_of
from tenants.model import Model
from tenants.plans import Plan
from tenants.privacy import Privacy

_Value = TypeVar("_Value", Fleet, Issuer, Model, Plan, Privacy)


def _list(kind: type[_Value], row: Callable[[_Value], Row]) -> Run:
    @asked
    async def run(it: Asked) -> int:
        async def listing(after: str | None, limit: int) -> Page[_Value]:
            return await it.directory.values.list(kind, after, limit)

        return await show_all(it.given, listing, _whole if it.given.json else row)

    return run


@asked
async def _list_models(it: Asked) -> int:
    """All, or those that one tenant may call."""
    tenant = it.given.tenant
    if tenant is not None:
        await it.directory.tenants.show(tenant)

    async def listing(after: str | None, limit: int) -> Page[Model]:
        page = await it.directory.values.list(Model, after, limit)
        return Page(
            tuple(model for model in page.values if tenant is None or model.serves(tenant)), page.next_after
        )

    return await show_all(it.given, listing, _whole if it.given.json else _model)


def _show(kind: type[_Value]) -> Run:
    @asked
    async def run(it: Asked) -> int:
        found = await it.directory.values.find(kind, _place(it.given.name))
        return card(_whole(found.value), it.given)

    return run


def _put(kind: type[_Value]) -> Run:
    @asked
    async def run(it: Asked) -> int:
        values = _declared(kind, it.given.file)
        sheet = Sheet(as_json=it.given.json)
        put = await it.directory.values.put(*values, act=it.act)
        sheet.add([dict(zip(("kind", "name"), name_of(value), strict=True)) for value in put])
        return sheet.end()

    return run


def _delete(kind: type[_Value]) -> Run:
    @asked
    async def run(it: Asked) -> int:
        await it.directory.values.remove(kind, _place(it.given.name), it.act)
        return show({"name": it.given.name, "removed": when(it.now_us)}, it.given)

    return run


def _declared(kind: type[_Value], path: Path) -> list[Value]:
    """The documents of a file or folder, all of this kind and few enough for one change. Raises Faulty, Invalid, OSError."""
    declared = documents(path)
    if declared.faults:
        raise Faulty(declared.faults)
    found: list[Value] = []
    for it in declared.documents:
        if not isinstance(it.value, kind):
            reason = f"must be {kind.__name__} here; {program()} apply takes all kinds"
            raise Faulty([it.fault(Invalid("kind", reason))])
        found.append(it.value)
    if len(declared.documents) > (most := most_at_once(kind)):
        reason = f"{path} holds {len(declared.documents)} documents, and {most} can be put at once"
        raise Invalid("", f"{reason}; {program()} apply takes any number")
    return found


def _whole(value: Value) -> Row:
    """All that is stored, in the words of its document."""
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return {"kind": name_of(value)[0], **{name: it for name, it in fields.items() if name != "v"}}


def _place(name: str) -> str:
    """An issuer is called by its URL, and kept by what is made of that; no other name is a URL."""
    return id_of(name) if "://" in name else name


def _plan(plan: Plan) -> Row:
    rate = plan.limits.requests_per_second
    return {
        "name": plan.name,
        "weight": plan.weight,
        "per second": f"{rate.rate:g}, {rate.burst} at once" if rate else "any",
        "under way": plan.limits.concurrent_requests or "any",
        "body": plan.limits.body_bytes,
    }


def _privacy(privacy: Privacy) -> Row:
    return {
        "name": privacy.name,
        "mask": ",".join(privacy.mask) or "nothing",
        "capture": f"{privacy.captured_part:g}",
        "bodies": "for ever" if privacy.bodies_days is None else f"{privacy.bodies_days} d",
    }


def _model(model: Model) -> Row:
    who = model.tenants if model.tenants == "*" else ",".join(model.tenants) or "nobody"
    return {"name": model.name, "id": model.id, "fleet": model.fleet or "elsewhere", "tenants": who}


def _fleet(fleet: Fleet) -> Row:
    return {
        "name": fleet.name,
        "scaler": fleet.scaler.type,
        "replicas": f"{fleet.replicas.min} to {fleet.replicas.max}",
        "memory": fleet.memory_bytes,
    }


def _issuer(issuer: Issuer) -> Row:
    whose = "operators" if issuer.operators else f"claim {issuer.tenant_claim}"
    return {"issuer": issuer.issuer, "id": issuer.id, "audience": issuer.audience, "whose": whose}


_FILE: Final = argument(
    "-f", "--file", type=Path, required=True, metavar="PATH", help="a file, or a folder of *.yaml"
)


def _commands(
    kind: type[_Value],
    noun: str,
    like: str,
    in_use: str,
    *lists: Command,
    named: str = "name",
    file: str = "",
) -> tuple[Command, ...]:
    name = argument("name", help=f"the {noun}'s {named}")
    words = f"make a few {plural(noun)} as their documents say"
    return (
        *lists,
        Command("show", f"one {noun}", _show(kind), (name,), like),
        Command("put", words, _put(kind), (_FILE, REASON), f"-f {file or like}.yaml"),
        Command("delete", f"remove a {noun}{in_use}", _delete(kind), (name, REASON), like),
    )


_OF_TENANT: Final = argument("--tenant", metavar="T", help="only those that this tenant may call")

PLANS: Final = _commands(
    Plan,
    "plan",
    "team",
    " that no tenant is on",
    Command("list", "all plans by name", _list(Plan, _plan), PAGED, "--json"),
)
PRIVACIES: Final = _commands(
    Privacy,
    "privacy",
    "default",
    " that no tenant has",
    Command("list", "all privacies by name", _list(Privacy, _privacy), PAGED, "--json"),
)
MODELS: Final = _commands(
    Model,
    "model",
    "digits",
    "",
    Command("list", "all models by name", _list_models, (_OF_TENANT, *PAGED), "--tenant acme"),
)
FLEET: Final = _commands(
    Fleet,
    "fleet",
    "local",
    " that no model is on",
    Command("list", "all fleets by name", _list(Fleet, _fleet), PAGED, "--json"),
)
ISSUERS: Final = _commands(
    Issuer,
    "issuer",
    "https://login.example",
    ", and refuse its tokens",
    Command(
        "list",
        "all issuers of many tenants or of the operators",
        _list(Issuer, _issuer),
        PAGED,
        "--json",
    ),
    named="URL",
    file="issuers",
)
