"""What is asked about API keys, tenants' and operators'. A new key's text is answered once, and a repeated request does not get it."""

from typing import Literal

from tenants.api.asked import Answer, Asked, Outcome
from tenants.api.problems import Problem
from tenants.api.shapes import (
    AnyNewKey,
    LeakedKey,
    NewKey,
    NewOperatorKey,
    Rotation,
    key_view,
    leak_view,
    microseconds,
    minted_view,
    replayed_view,
)
from tenants.conditions import Terms
from tenants.directory import Found, Minted, Page
from tenants.errors import NotFound
from tenants.keys import ApiKey, Secret
from tenants.members import Role

KeyAction = Literal["issue", "revoke"]
Models = tuple[str, ...] | None
"""What a key may use: None is all that its tenant may."""


async def create(asked: Asked) -> Answer:
    body: AnyNewKey = asked.body
    models, account, limits = None, None, None
    if isinstance(body, NewKey):
        models, account, limits = body.models, body.account, body.limits
    terms = Terms(body.networks, body.hours, limits)
    expires_us = _expires_us(body, asked.now_us)

    async def change() -> Minted:
        loosens = _loosens(asked, terms, expires_us)
        if asked.tenant is None:
            asked.caller.check("empower", None, asked.now_us, loosens=loosens)
        else:
            gives = None
            if account is not None:
                gives = (await asked.directory.accounts.find(asked.tenant.name, account)).value.role
            _check(asked, "issue", gives, models, loosens=loosens)
        return await asked.directory.keys.create(
            _owner(asked),
            asked.act,
            name=body.name,
            models=models,
            expires_us=expires_us,
            account_id=account,
            break_glass=isinstance(body, NewOperatorKey) and body.break_glass,
            terms=terms,
        )

    return _minted(asked, await asked.once(ApiKey, change))


async def rotate(asked: Asked) -> Answer:
    body: Rotation = asked.body

    async def change() -> Minted:
        await _check_key(asked, "issue")
        return await asked.directory.keys.rotate(
            _owner(asked), asked.names["key"], asked.act, overlap_seconds=body.overlap_seconds
        )

    return _minted(asked, await asked.once(ApiKey, change))


async def revoke(asked: Asked) -> Answer:
    async def change() -> ApiKey:
        await _check_key(asked, "revoke")
        return await asked.directory.keys.revoke(_owner(asked), asked.names["key"], asked.act)

    done = await asked.once(ApiKey, change)
    record = await asked.directory.uses.record(done.value)
    return Answer(key_view(record, asked.now_us), replayed=done.replayed)


async def show(asked: Asked) -> Answer:
    key = await asked.directory.keys.show(_owner(asked), asked.names["key"])
    record = await asked.directory.uses.record(key)
    return asked.shown(Found(record, 0), key_view)  # nobody changes a key by its ETag


async def list_all(asked: Asked) -> Answer:
    page = await asked.directory.keys.list(_owner(asked), asked.after, asked.limit)
    records = await asked.directory.uses.records(page.values)
    return asked.listed(Page(records, page.next_after), key_view)


async def leaked(asked: Asked) -> Answer:
    """The text is in no answer, no event and no receipt: what is asked under an idempotency key is kept as a digest."""
    body: LeakedKey = asked.body
    found = await asked.directory.leaks.find(Secret(body.api_key))
    done = await asked.once(ApiKey, lambda: asked.directory.leaks.revoke(found, asked.act))
    leak = await asked.directory.leaks.answer(found, asked.act, and_made=body.and_made)
    return Answer(leak_view(leak, asked.now_us), replayed=done.replayed)


def _owner(asked: Asked) -> str | None:
    """None: the operators."""
    return None if asked.tenant is None else asked.tenant.name


def _minted(asked: Asked, made: Outcome[Minted | ApiKey]) -> Answer:
    if isinstance(made.value, Minted):
        return Answer(minted_view(made.value, asked.now_us), 201, secret=True)
    return Answer(replayed_view(made.value, asked.now_us), 201, replayed=True, secret=True)


def _expires_us(body: AnyNewKey, now_us: int) -> int | None:
    if body.expires_seconds is not None and body.expires_at is not None:
        raise Problem("invalid", "say this or expires_seconds, not both", path="expires_at")
    if body.expires_seconds is not None:
        return now_us + max(1, round(body.expires_seconds * 1_000_000))
    return None if body.expires_at is None else microseconds(body.expires_at)


async def _check_key(asked: Asked, action: KeyAction) -> None:
    """That the caller may do this to a key of that role, for those models and under those terms."""
    key = await asked.directory.keys.show(_owner(asked), asked.names["key"])
    loosens = False
    # Its own successor has no more than it was meant to have.
    if action == "issue" and key.id != asked.caller.who.id:
        loosens = _loosens(asked, key.terms, await asked.directory.keys.meant_to_end_us(key))
    if asked.tenant is None:
        asked.caller.check("empower", None, asked.now_us, loosens=loosens)
        return
    gives = None
    if key.account_id is not None:
        try:
            gives = (await asked.directory.accounts.find(asked.tenant.name, key.account_id)).value.role
        except NotFound:  # then it is nobody's, and does not work
            return
    _check(asked, action, gives, key.models, loosens=loosens)


def _check(asked: Asked, action: KeyAction, gives: Role | None, models: Models, *, loosens: bool) -> None:
    key = asked.caller.who.key
    own = key.models if key else None
    widens = own is not None and (models is None or not set(models) <= set(own))
    asked.caller.check(action, asked.tenant, asked.now_us, gives, widens=widens, loosens=loosens)


def _loosens(asked: Asked, terms: Terms, expires_us: int | None) -> bool:
    """Whether a key of these would work where, when, so fast or so long as the caller's own does not. What operators give to tenants is not
    measured by what their own keys are bound to.
    """
    who = asked.caller.who
    if who.key is None or (who.tenant is None and asked.tenant is not None):
        return False
    end_us = who.key.expires_us
    outlives = end_us is not None and (expires_us is None or expires_us > end_us)
    return outlives or not terms.are_within(who.key.terms)
