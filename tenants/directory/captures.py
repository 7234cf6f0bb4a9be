"""What a tenant's history says of the captures of its calls. They are elsewhere (`gateway/kept`), and no row is of one."""

from dataclasses import dataclass

from tenants.acts import Act
from tenants.directory.journal import Journal, Judged
from tenants.directory.tenants import Tenants
from tenants.events import Action
from tenants.rows import Change, capture_at


@dataclass(frozen=True, slots=True)
class Captures:
    journal: Journal
    tenants: Tenants

    async def deleted(self, tenant_name: str, request: str, act: Act) -> None:
        """Somebody is about to delete the capture of that request: this is in the tenant's history, or it is not deleted. Repeated:
        another event. Raises NotFound.
        """

        async def judge() -> Judged[None]:
            owner = await self.tenants.show(tenant_name)
            change = Change(
                Action.CAPTURE_DELETED, request, capture_at(owner.id, request), None, None, owner.id
            )
            return Judged(None, (change,))

        await self.journal.change(act, judge)
