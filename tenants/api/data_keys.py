"""What is asked about data keys, the rows of the table for that, what is sent and shown. A key itself is in no answer."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from tenants import data_keys
from tenants.api.asked import Answer, Asked
from tenants.api.shapes import Listed, Moment, Nothing, Sent, moment
from tenants.data_keys import LEAST_OWN_WAIT_SECONDS, MOST_WAIT_SECONDS, WAIT_SECONDS, DataKeyRecord, Purpose
from tenants.directory import Found
from tenants.ports import TenantAction


class PurposeOfKey(Sent, frozen=True):
    """What the key is for that seals no more."""

    purpose: Purpose


class Destruction(Sent, frozen=True):
    """For so long it can be taken back. A tenant's own people wait for a day at least."""

    wait_seconds: Annotated[float, Meta(ge=0, le=MOST_WAIT_SECONDS)] = float(WAIT_SECONDS)


class DataKeyView(Struct, frozen=True):
    """`kms_key` is the tenant's own KMS key that wraps it, null: the deployment's wrapping key. `rewrap_asked_at`: it is to be wrapped
    anew, and no gateway has done so yet. From `destroys_at` on nobody reads what it sealed; from `backups_end_at` on it is in no
    back-up of the keys either.
    """

    id: str
    purpose: Purpose
    state: data_keys.State
    created_at: Moment
    kms_key: str | None
    wrapped_at: Moment
    rewrap_asked_at: Moment | None
    destroys_at: Moment | None
    backups_end_at: Moment | None


def data_key_view(key: DataKeyRecord, now_us: int) -> DataKeyView:
    ends_us = data_keys.backups_end_us(key)
    return DataKeyView(
        id=key.id,
        purpose=key.purpose,
        state=data_keys.state(key, now_us),
        created_at=moment(key.made_us),
        kms_key=key.wrapped_with,
        wrapped_at=moment(key.wrapped_us or key.made_us),
        rewrap_asked_at=None if key.rewrap_us is None else moment(key.rewrap_us),
        destroys_at=None if key.destroys_us is None else moment(key.destroys_us),
        backups_end_at=None if ends_us is None else moment(ends_us),
    )


async def list_all(asked: Asked) -> Answer:
    keys = asked.directory.data_keys
    return asked.listed(await keys.list(asked.tenant_name, asked.after, asked.limit), data_key_view)


async def show(asked: Asked) -> Answer:
    key = await asked.directory.data_keys.show(asked.tenant_name, asked.names["data_key"])
    return asked.shown(Found(key, 0), data_key_view)  # nobody changes a data key by its ETag


async def rotate(asked: Asked) -> Answer:
    body: PurposeOfKey = asked.body
    keys = asked.directory.data_keys
    return await _done(asked, lambda: keys.rotate(asked.tenant_name, asked.act, purpose=body.purpose))


async def rewrap(asked: Asked) -> Answer:
    keys = asked.directory.data_keys
    return await _done(asked, lambda: keys.rewrap(asked.tenant_name, asked.names["data_key"], asked.act))


async def destroy(asked: Asked) -> Answer:
    """A stolen credential of a tenant's destroys nothing before somebody can see it: that is for policies to say, which hear of it."""
    body: Destruction = asked.body

    async def change() -> DataKeyRecord:
        hastens = body.wait_seconds < LEAST_OWN_WAIT_SECONDS
        asked.caller.check("destroy", asked.tenant, asked.now_us, hastens=hastens)
        return await asked.directory.data_keys.destroy(
            asked.tenant_name,
            asked.names["data_key"],
            asked.act,
            wait_seconds=body.wait_seconds,
            backup_days=asked.backup_days,
        )

    return await _done(asked, change)


async def keep(asked: Asked) -> Answer:
    keys = asked.directory.data_keys
    return await _done(asked, lambda: keys.keep(asked.tenant_name, asked.names["data_key"], asked.act))


async def _done(asked: Asked, change: Callable[[], Awaitable[DataKeyRecord]]) -> Answer:
    done = await asked.once(DataKeyRecord, change)
    return Answer(data_key_view(done.value, asked.now_us), replayed=done.replayed)


_ONE: Final = "/{data_key}"
_Row = tuple[str, Literal["GET", "POST"], str, TenantAction, Any, Any, str, type[Struct] | None]
ROWS: Final[tuple[_Row, ...]] = (
    ("listDataKeys", "GET", "", "inspect", list_all, Listed[DataKeyView], "list the data keys", None),
    ("showDataKey", "GET", _ONE, "inspect", show, DataKeyView, "show a data key", None),
    (
        "rotateDataKey",
        "POST",
        "/rotate",
        "rekey",
        rotate,
        DataKeyView,
        "retire the data key for a purpose; what is sealed next has another",
        PurposeOfKey,
    ),
    (
        "rewrapDataKey",
        "POST",
        f"{_ONE}/rewrap",
        "rekey",
        rewrap,
        DataKeyView,
        "have a data key wrapped anew, with the tenant's present KMS key or the deployment's",
        Nothing,
    ),
    (
        "destroyDataKey",
        "POST",
        f"{_ONE}/destroy",
        "destroy",
        destroy,
        DataKeyView,
        "destroy a data key, and with it all that it sealed, after a waiting period",
        Destruction,
    ),
    (
        "keepDataKey",
        "POST",
        f"{_ONE}/keep",
        "rekey",
        keep,
        DataKeyView,
        "keep a data key that was to be destroyed",
        Nothing,
    ),
)
"""Of the table of operations (`routes.py`): id, method, what follows /data-keys, action, what is done, answer, summary, body."""
