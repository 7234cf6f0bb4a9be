"""What is asked about tenants."""

from functools import partial

from msgspec import convert, to_builtins

from tenants.api.asked import Answer, Asked, tag
from tenants.api.shapes import (
    Closing,
    NewTenant,
    TenantChange,
    Whoami,
    event_view,
    restrictions_view,
    tenant_model,
    tenant_view,
)
from tenants.api.strict import shown
from tenants.directory import Page
from tenants.errors import NotFound
from tenants.model import Model
from tenants.plans import Plan
from tenants.privacy import Privacy
from tenants.restrictions import Restrictions
from tenants.tenant import Deed, Tenant


async def create(asked: Asked) -> Answer:
    body: NewTenant = asked.body
    made = await asked.once(
        Tenant,
        lambda: asked.directory.tenants.create(
            body.name, body.plan, asked.act, privacy=body.privacy, kms_key=body.kms_key
        ),
    )
    view = tenant_view(made.value, asked.now_us)
    return Answer(view, 201, tag=tag(view, 1), replayed=made.replayed)


async def list_all(asked: Asked) -> Answer:
    return asked.listed(await asked.directory.tenants.list(asked.after, asked.limit), tenant_view)


async def show(asked: Asked) -> Answer:
    return asked.shown(await asked.directory.tenants.find(asked.tenant_name), tenant_view)


async def change(asked: Asked) -> Answer:
    body: TenantChange = asked.body
    name, tenants = asked.tenant_name, asked.directory.tenants
    return await asked.changed(
        await tenants.find(name),
        tenant_view,
        lambda version: tenants.change(
            name,
            asked.act,
            plan=body.plan,
            privacy=body.privacy,
            kms_key=body.kms_key,
            expected=version,
        ),
    )


async def _do(deed: Deed, asked: Asked) -> Answer:
    closes_us = None
    if isinstance(asked.body, Closing):
        closes_us = asked.now_us + round(asked.body.after_seconds * 1_000_000)
    done = await asked.once(
        Tenant,
        lambda: asked.directory.tenants.do(asked.tenant_name, deed, asked.act, closes_us=closes_us),
    )
    return Answer(tenant_view(done.value, asked.now_us), replayed=done.replayed)


suspend, resume, close, reopen = (
    partial(_do, "suspend"),
    partial(_do, "resume"),
    partial(_do, "close"),
    partial(_do, "reopen"),
)


async def show_restrictions(asked: Asked) -> Answer:
    return asked.shown(await asked.directory.tenants.find(asked.tenant_name), restrictions_view)


async def put_restrictions(asked: Asked) -> Answer:
    """All of them; what is left out is no restriction. None at all are there from the start: a PUT may also be the first."""
    wanted = convert(to_builtins(asked.body), Restrictions)
    name, tenants = asked.tenant_name, asked.directory.tenants
    found = await tenants.find(name)
    if asked.condition.creates:
        made = await tenants.restrict(name, wanted, asked.act, expected=found.version, new=True)
        view = restrictions_view(made, asked.now_us)
        return Answer(view, 201, tag=tag(view, found.version + (made != found.value)))
    return await asked.changed(
        found,
        restrictions_view,
        lambda version: tenants.restrict(name, wanted, asked.act, expected=version),
    )


async def lift_restrictions(asked: Asked) -> Answer:
    name, tenants = asked.tenant_name, asked.directory.tenants
    version = asked.checked(await tenants.find(name), restrictions_view)
    await tenants.restrict(name, Restrictions(), asked.act, expected=version)
    return Answer(status=204)


async def plan(asked: Asked) -> Answer:
    owner = await asked.directory.tenants.show(asked.tenant_name)
    return asked.shown(await asked.directory.values.find(Plan, owner.plan), shown)


async def privacy(asked: Asked) -> Answer:
    """Not found where the tenant has none: what is not masked has no settings."""
    owner = await asked.directory.tenants.show(asked.tenant_name)
    if owner.privacy is None:
        raise NotFound("privacy of the tenant", owner.name)
    return asked.shown(await asked.directory.values.find(Privacy, owner.privacy), shown)


async def models(asked: Asked) -> Answer:
    """Those that it may call, and of those no more than that. Anybody can read a cursor, so it names one of these too."""
    page = await asked.directory.values.list(Model, asked.after)
    own = [model for model in page.values if model.serves(asked.tenant_name)]
    while page.next_after is not None and len(own) <= asked.limit:
        page = await asked.directory.values.list(Model, page.next_after)
        own += [model for model in page.values if model.serves(asked.tenant_name)]
    first = tuple(own[: asked.limit])
    return asked.listed(Page(first, first[-1].name if len(own) > len(first) else None), tenant_model)


async def audit(asked: Asked) -> Answer:
    page = await asked.directory.tenants.events(asked.tenant_name, asked.after, asked.limit)
    return asked.listed(page, event_view)


async def platform_audit(asked: Asked) -> Answer:
    return asked.listed(await asked.directory.values.events(asked.after, asked.limit), event_view)


async def whoami(asked: Asked) -> Answer:
    who = asked.caller.who
    return Answer(
        Whoami(
            id=who.id,
            key=who.key.id if who.key else None,
            role=who.role,
            tenant=who.tenant.name if who.tenant else None,
            account=who.account.id if who.account else None,
        )
    )
