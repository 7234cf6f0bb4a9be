"""What is asked about members and service accounts: those who act for a tenant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tenants.api.asked import Answer, Asked, View, tag
from tenants.api.shapes import NewAccount, NewMember, RoleChange, account_view, member_view
from tenants.directory import Directory
from tenants.directory.members import Accounts, Members
from tenants.members import Account, Member


@dataclass(frozen=True, slots=True)
class Roster:
    """The operations on one sort of them; `of` is where they are kept, and what they are called in paths is `name`."""

    name: str
    of: Callable[[Directory], Members | Accounts]
    view: View

    async def list_all(self, asked: Asked) -> Answer:
        page = await self.of(asked.directory).list(asked.tenant_name, asked.after, asked.limit)
        return asked.listed(page, self.view)

    async def show(self, asked: Asked) -> Answer:
        found = await self.of(asked.directory).find(asked.tenant_name, asked.names[self.name])
        return asked.shown(found, self.view)

    async def change(self, asked: Asked) -> Answer:
        body: RoleChange = asked.body
        all_of_them: Any = self.of(asked.directory)
        name, one_id = asked.tenant_name, asked.names[self.name]
        return await asked.changed(
            await all_of_them.find(name, one_id),
            self.view,
            lambda version: all_of_them.change(name, one_id, body.role, asked.act, expected=version),
        )

    async def remove(self, asked: Asked) -> Answer:
        all_of_them = self.of(asked.directory)
        name, one_id = asked.tenant_name, asked.names[self.name]
        version = asked.checked(await all_of_them.find(name, one_id), self.view)
        await all_of_them.remove(name, one_id, asked.act, expected=version)
        return Answer(status=204)


MEMBERS = Roster("member", lambda directory: directory.members, member_view)
ACCOUNTS = Roster("account", lambda directory: directory.accounts, account_view)


async def invite(asked: Asked) -> Answer:
    body: NewMember = asked.body
    made = await asked.once(
        Member,
        lambda: asked.directory.members.invite(asked.tenant_name, body.email, body.role, asked.act),
    )
    view = member_view(made.value, asked.now_us)
    return Answer(view, 201, tag=tag(view, 1), replayed=made.replayed)


async def create_account(asked: Asked) -> Answer:
    body: NewAccount = asked.body
    made = await asked.once(
        Account,
        lambda: asked.directory.accounts.create(asked.tenant_name, body.name, body.role, asked.act),
    )
    view = account_view(made.value, asked.now_us)
    return Answer(view, 201, tag=tag(view, 1), replayed=made.replayed)
