"""`gateway members` and `gateway accounts`: who acts for a tenant, people and programs."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from gateway.commands.command import PAGED, REASON, TENANT, Asked, Command, Run, argument, asked
from gateway.commands.printing import Row, card, show, show_all, when
from tenants.directory import Directory, Page
from tenants.directory.members import Accounts, Members
from tenants.members import ROLES, Account, Member

_Roster: TypeAlias = Callable[[Directory], Members | Accounts]


@asked
async def _invite(it: Asked) -> int:
    given = it.given
    return show(_row(await it.directory.members.invite(given.tenant, given.email, given.role, it.act)), given)


@asked
async def _create(it: Asked) -> int:
    given = it.given
    return show(_row(await it.directory.accounts.create(given.tenant, given.name, given.role, it.act)), given)


def _list(roster: _Roster) -> Run:
    @asked
    async def run(it: Asked) -> int:
        async def listing(after: str | None, limit: int) -> Page[Any]:
            return await roster(it.directory).list(it.given.tenant, after, limit)

        return await show_all(it.given, listing, _row, first=lambda one: one.created_us)

    return run


def _show(roster: _Roster) -> Run:
    @asked
    async def run(it: Asked) -> int:
        found = await roster(it.directory).find(it.given.tenant, it.given.id)
        return card(_row(found.value), it.given)

    return run


def _change(roster: _Roster) -> Run:
    @asked
    async def run(it: Asked) -> int:
        given = it.given
        return show(
            _row(await roster(it.directory).change(given.tenant, given.id, given.role, it.act)), given
        )

    return run


def _remove(roster: _Roster) -> Run:
    @asked
    async def run(it: Asked) -> int:
        await roster(it.directory).remove(it.given.tenant, it.given.id, it.act)
        return show({"id": it.given.id, "removed": when(it.now_us)}, it.given)

    return run


def _row(one: Member | Account) -> Row:
    label = {"email": one.email} if isinstance(one, Member) else {"name": one.name}
    return {"id": one.id, **label, "role": one.role, "created": when(one.created_us)}


_EMAIL: Final = argument("--email", required=True, metavar="E", help="whom to write to")
_NAME: Final = argument("name", help="what it is called")
_ROLE: Final = argument("--role", required=True, choices=ROLES, help="what the policies let it do")
_MEMBER: Final = argument("id", metavar="MEMBER", help="the member's id (u_...)")
_ACCOUNT: Final = argument("id", metavar="ACCOUNT", help="the account's id (s_...)")
_OF: Final = "--tenant acme"


def _members(directory: Directory) -> Members:
    return directory.members


def _accounts(directory: Directory) -> Accounts:
    return directory.accounts


MEMBERS: Final = (
    Command(
        "invite",
        "a new member",
        _invite,
        (TENANT, _EMAIL, _ROLE, REASON),
        f"{_OF} --email ann@acme.example --role admin",
    ),
    Command("list", "all members of a tenant", _list(_members), (TENANT, *PAGED), _OF),
    Command("show", "one member", _show(_members), (TENANT, _MEMBER), f"{_OF} u_..."),
    Command(
        "change",
        "give a member another role",
        _change(_members),
        (TENANT, _MEMBER, _ROLE, REASON),
        f"{_OF} u_... --role viewer",
    ),
    Command("remove", "take a member out", _remove(_members), (TENANT, _MEMBER, REASON), f"{_OF} u_..."),
)

ACCOUNTS: Final = (
    Command(
        "create",
        "a new service account",
        _create,
        (TENANT, _NAME, _ROLE, REASON),
        f"{_OF} deployer --role developer",
    ),
    Command("list", "all service accounts of a tenant", _list(_accounts), (TENANT, *PAGED), _OF),
    Command("show", "one service account", _show(_accounts), (TENANT, _ACCOUNT), f"{_OF} s_..."),
    Command(
        "change",
        "give a service account and its keys another role",
        _change(_accounts),
        (TENANT, _ACCOUNT, _ROLE, REASON),
        f"{_OF} s_... --role viewer",
    ),
    Command(
        "remove",
        "end a service account and all its keys",
        _remove(_accounts),
        (TENANT, _ACCOUNT, REASON),
        f"{_OF} s_...",
    ),
)
