"""`gateway tenants`: the customers."""

from argparse import Namespace
from typing import Final

import msgspec

from gateway.commands.arguments import duration, some, wrong_usage
from gateway.commands.command import PAGED, REASON, Asked, Command, argument, asked, one_of
from gateway.commands.demo import PLAN, put_plan
from gateway.commands.printing import Row, card, program, show, show_all, when
from tenants import tenant
from tenants.directory.members import Accounts, Members
from tenants.ports import MOST_ROWS
from tenants.restrictions import Restrictions
from tenants.tenant import Deed, Tenant


@asked
async def _create(it: Asked) -> int:
    if it.given.plan == PLAN and PLAN not in await it.directory.values.plans():
        await put_plan(it.directory, it.settings)
    given = it.given
    made = await it.directory.tenants.create(
        given.name, given.plan, it.act, privacy=given.privacy, kms_key=given.kms_key
    )
    return show(_row(made, it), given)


@asked
async def _list(it: Asked) -> int:
    return await show_all(it.given, it.directory.tenants.list, lambda found: _row(found, it))


@asked
async def _show(it: Asked) -> int:
    found = await it.directory.tenants.show(it.given.name)
    times = {"created": when(found.created_us), "closes": when(found.closes_us)}
    people = {
        "members": await _count(it.directory.members, found.name),
        "accounts": await _count(it.directory.accounts, found.name),
    }
    bounds = {"privacy": found.privacy, "kms_key": found.kms_key, "restrictions": _restrictions(found)}
    return card({**_row(found, it), **times, **people, **bounds}, it.given)


async def _count(roster: Members | Accounts, tenant_name: str) -> int:
    """How many there are: at most a thousand, which a page or a few hold."""
    many, after = 0, None
    while True:
        page = await roster.list(tenant_name, after, MOST_ROWS)
        many, after = many + len(page.values), page.next_after
        if after is None:
            return many


@asked
async def _move(it: Asked) -> int:
    return show(_row(await it.directory.tenants.move(it.given.name, it.given.plan, it.act), it), it.given)


@asked
async def _protect(it: Asked) -> int:
    return await _give(it.given.privacy, it)


@asked
async def _unprotect(it: Asked) -> int:
    return await _give(None, it)


async def _give(privacy: str | None, it: Asked) -> int:
    found = await it.directory.tenants.change(it.given.name, it.act, privacy=privacy)
    return show({"name": found.name, "privacy": found.privacy}, it.given)


@asked
async def _kms_key(it: Asked) -> int:
    found = await it.directory.tenants.change(it.given.name, it.act, kms_key=it.given.arn)
    if it.given.json:
        return show({"name": found.name, "kms_key": found.kms_key}, it.given)
    key = f"its own KMS key {found.kms_key}" if found.kms_key else "the deployment's key"
    print(
        f"{found.name}'s data keys are wrapped with {key} from now on. A gateway wraps those that it has already anew within 2 minutes; "
        f"what wrapped them before must answer until then:\n\n  {program()} data-keys list --tenant {found.name} --json"
    )
    return 0


@asked
async def _suspend(it: Asked) -> int:
    return await _do("suspend", it)


@asked
async def _resume(it: Asked) -> int:
    return await _do("resume", it)


@asked
async def _reopen(it: Asked) -> int:
    return await _do("reopen", it)


@asked
async def _close(it: Asked) -> int:
    after = it.given.after
    closes_us = None if after is None else it.now_us + after * 1_000_000
    closed = await it.directory.tenants.do(it.given.name, "close", it.act, closes_us=closes_us)
    row = {"name": closed.name, "id": closed.id, "state": tenant.state(closed, it.now_us)}
    if it.given.json:
        return show(row if row["state"] == "closed" else {**row, "closes": when(closed.closes_us)}, it.given)
    if row["state"] == "closed":
        print(f"{closed.name} is closed, for ever: its keys work no more, and nobody else gets its name.")
    else:
        print(
            f"{closed.name} is served no more, and closed for ever from {when(closed.closes_us)} on. Until then it can be taken back:\n\n"
            f"  {program()} tenants reopen {closed.name}"
        )
    return 0


@asked
async def _restrict(it: Asked) -> int:
    given = it.given
    if not (given.regions or given.models or given.networks):
        return wrong_usage(
            f"say --regions, --models or --networks; {program()} tenants unrestrict {given.name} lifts all"
        )
    wanted = Restrictions(given.regions, given.models, given.networks)
    return _restricted(await it.directory.tenants.restrict(given.name, wanted, it.act), given)


@asked
async def _unrestrict(it: Asked) -> int:
    return _restricted(await it.directory.tenants.restrict(it.given.name, Restrictions(), it.act), it.given)


def _restricted(found: Tenant, given: Namespace) -> int:
    return card({"name": found.name, "restrictions": _restrictions(found)}, given)


def _restrictions(found: Tenant) -> dict[str, list[str]] | None:
    return msgspec.to_builtins(found.restrictions) if found.restrictions else None


async def _do(deed: Deed, it: Asked) -> int:
    return show(_row(await it.directory.tenants.do(it.given.name, deed, it.act), it), it.given)


def _row(found: Tenant, it: Asked) -> Row:
    state = tenant.state(found, it.now_us)
    return {"name": found.name, "id": found.id, "plan": found.plan, "state": state}


_NAME: Final = argument("name", help="the tenant's name")
_OF_NEW: Final = argument("--plan", default=PLAN, metavar="P", help=f"the plan it is on (default: {PLAN})")
_OTHER: Final = argument("--plan", required=True, metavar="P", help="the plan that it is on from now on")
_PRIVATE: Final = argument("--privacy", metavar="P", help="its privacy (default: none)")
_PRIVACY: Final = argument(
    "--privacy", required=True, metavar="P", help="what is masked and kept from now on"
)
_OWN: Final = argument("--kms-key", metavar="ARN", help="the KMS key of its own that wraps its data keys")
_KMS_KEY: Final = one_of(
    argument("arn", nargs="?", metavar="ARN", help="its own KMS key (arn:aws:kms:...)"),
    argument("--none", action="store_true", help="it has none any more: the deployment's key wraps"),
)
_GRACE: Final = argument(
    "--after",
    type=duration,
    metavar="7d",
    help="how long it can be reopened, and is not served (default: at once)",
)

_REGIONS: Final = argument("--regions", type=some, metavar="R,...", help="only models that run there")
_MODELS: Final = argument("--models", type=some, metavar="M,...", help="only these models")
_NETWORKS: Final = argument(
    "--networks", type=some, metavar="N,...", help="only from these ranges of addresses"
)

COMMANDS: Final = (
    Command("create", "a new tenant", _create, (_NAME, _OF_NEW, _PRIVATE, _OWN, REASON), "acme --plan team"),
    Command("list", "all tenants by name, also the closed ones", _list, PAGED, "--limit 100 --after acme"),
    Command("show", "one tenant", _show, (_NAME,), "acme"),
    Command("move", "put a tenant on another plan", _move, (_NAME, _OTHER, REASON), "acme --plan business"),
    Command(
        "protect", "give a tenant a privacy", _protect, (_NAME, _PRIVACY, REASON), "acme --privacy default"
    ),
    Command("unprotect", "take its privacy from a tenant", _unprotect, (_NAME, REASON), "acme"),
    Command(
        "kms-key",
        "have a tenant's data keys wrapped with a KMS key of its own, or with the deployment's again",
        _kms_key,
        (_NAME, _KMS_KEY, REASON),
        "acme arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ),
    Command(
        "suspend",
        "serve a tenant no more until it is resumed",
        _suspend,
        (_NAME, REASON),
        "acme --reason 'bill 17 is not paid'",
    ),
    Command("resume", "serve a suspended tenant again", _resume, (_NAME, REASON), "acme"),
    Command(
        "close",
        "end a tenant and all its keys for ever, at once or after a while",
        _close,
        (_NAME, _GRACE, REASON),
        "acme --after 7d",
    ),
    Command(
        "restrict",
        "keep a tenant to regions, models or networks: to those that are named, instead of what it was kept to before",
        _restrict,
        (_NAME, _REGIONS, _MODELS, _NETWORKS, REASON),
        "acme --regions eu-west,eu-north --networks 192.0.2.0/24",
    ),
    Command("unrestrict", "lift all restrictions of a tenant", _unrestrict, (_NAME, REASON), "acme"),
    Command("reopen", "take back that a tenant is closing", _reopen, (_NAME, REASON), "acme"),
)
