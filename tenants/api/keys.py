"""What is asked about API keys, tenants' and operators'. A new key's text is answered once, and a repeated request does not get it."""

from typing import Literal

from tenants.api.asked import Answer, Asked, Outcome
from tenants.api.problems import Problem
from tenants.api.shapes import (
    AnyNewKey,
    NewKey,
    NewOperatorKey,
    Rotation,
    key_view,
    microseconds,
    minted_view,
    replayed_view,
)
from tenants.directory import Found, Minted
from tenants.errors import NotFound
from tenants.keys import ApiKey
from tenants.members import Role

KeyAction = Literal["issue", "revoke"]
Models = tuple[str, ...] | None
"""What a key may use: None is all that its tenant may."""


async def create(asked: Asked) -> Answer:
    body: AnyNewKey = asked.body
    models, account = (body.models, body.account) if isinstance(body, NewKey) else (None, None)
    expires_us = _expires_us(body, asked.now_us)

    async def change() -> Minted:
        if asked.tenant is not None:
            gives = None
            if account is not None:
                gives = (await asked.directory.accounts.find(asked.tenant.name, account)).value.role
            _check(asked, "issue", gives, models)
        return await asked.directory.keys.create(
            _owner(asked),
            asked.act,
            name=body.name,
            models=models,
            expires_us=expires_us,
            account_id=account,
            break_glass=isinstance(body, NewOperatorKey) and body.break_glass,
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
    return Answer(key_view(done.value, asked.now_us), replayed=done.replayed)


async def show(asked: Asked) -> Answer:
    key = await asked.directory.keys.show(_owner(asked), asked.names["key"])
    return asked.shown(Found(key, 0), key_view)  # nobody changes a key by its ETag


async def list_all(asked: Asked) -> Answer:
    page = await asked.directory.keys.list(_owner(asked), asked.after, asked.limit)
    return asked.listed(page, key_view)


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
    """That the caller may do this to a key of that role and for those models."""
    if asked.tenant is None:
        return
    key = await asked.directory.keys.show(asked.tenant.name, asked.names["key"])
    gives = None
    if key.account_id is not None:
        try:
            gives = (await asked.directory.accounts.find(asked.tenant.name, key.account_id)).value.role
        except NotFound:  # then it is nobody's, and does not work
            return
    _check(asked, action, gives, key.models)


def _check(asked: Asked, action: KeyAction, gives: Role | None, models: Models) -> None:
    key = asked.caller.who.key
    own = key.models if key else None
    widens = own is not None and (models is None or not set(models) <= set(own))
    asked.caller.check(action, asked.tenant, asked.now_us, gives, widens=widens)
