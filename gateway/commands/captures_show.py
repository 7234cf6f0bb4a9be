"""The work of `gateway captures show`, which loads what opens a capture."""

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.commands.command import Asked
from gateway.commands.printing import Row, card, remark, short, when
from gateway.envelope.keyring import KeyDestroyed
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.sealed import NotOpened, key_id, unseal
from gateway.kept import finding
from gateway.kept.capture import Captured, Unreadable, read
from gateway.kept.capturing import context_of
from gateway.state import opened_blobs
from gateway.state_keys import opened_openers
from tenants.errors import NotFound

_SHOWN_CHARACTERS: Final = 2_000  # of a body, to people
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


async def opened_and_shown(it: Asked) -> int:
    """1 where it cannot be opened, and says why. Raises NotFound, FileExistsError, BlobsUnavailable, OSError."""
    given, tenant_id = it.given, (await it.directory.tenants.show(it.given.tenant)).id
    async with opened_blobs(it.settings) as blobs:
        there = await finding.found(blobs, tenant_id, given.request, given.day or "")
    if there is None:
        raise NotFound("capture of request", given.request)
    try:
        async with opened_openers(it.settings) as keyring:
            key = await keyring.opening(tenant_id, key_id(there[1]))
        captured = read(unseal(key, context_of(tenant_id, given.request), there[1]))
    except KeyDestroyed as fault:
        return _closed(f"nobody can open it: {fault}")
    except KeysUnavailable as fault:
        return _closed(f"no key can be had now: {fault}")
    except KeyRefused as fault:
        return _closed(f"the KeyService refuses its key: {fault}")
    except NotOpened:
        return _closed("its data key does not open it: it is damaged, or another request's")
    except Unreadable as fault:
        return _closed(str(fault))
    paths = _written(captured, given.out) if given.out is not None else None
    if given.json:
        return card(_whole(captured, paths), given)
    return card(_lines(captured, paths), given)


def _closed(why: str) -> int:
    remark(why)
    return 1


def _written(captured: Captured, folder: Path) -> dict[str, str]:
    """The two bodies as files (0600) that were not there before."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = {}
    for kind, body in (("request", captured.request), ("reply", captured.reply)):
        path = folder / f"{captured.head.request}.{kind}"
        with open(os.open(path, _FLAGS, 0o600), "wb") as file:
            file.write(body)
        paths[kind] = str(path)
    return paths


def _whole(captured: Captured, paths: dict[str, str] | None) -> Row:
    """What there is, for programs; the bodies are in the files, where there are any."""
    bodies = (
        {f"{kind}_file": path for kind, path in paths.items()}
        if paths
        else {
            "request_base64": b64encode(captured.request).decode(),
            "reply_base64": b64encode(captured.reply).decode(),
        }
    )
    return {"head": msgspec.to_builtins(captured.head), **bodies}


def _lines(captured: Captured, paths: dict[str, str] | None) -> Row:
    head = captured.head
    said: dict[str, Any] = msgspec.to_builtins(head)
    for name in ("request", "asked_us", "ended_us", "request_kept", "reply_kept"):
        said.pop(name, None)
    lines = {
        "id": head.request,
        "asked": when(head.asked_us),
        "took_us": max(0, head.ended_us - head.asked_us),
        **said,
        "request": _told(captured.request, cut=head.is_request_cut),
        "reply": _told(captured.reply, cut=head.is_reply_cut),
    }
    if paths:
        lines |= {kind: short(Path(path).absolute()) for kind, path in paths.items()}
    return {name: _printable(value) for name, value in lines.items()}


def _told(body: bytes, *, cut: bool) -> str:
    """A body to people: its text, if it is short and one."""
    behind = f" (the first {len(body)} bytes)" if cut else ""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"{len(body)} bytes that are no text; --out DIR writes them{behind}"
    if len(text) > _SHOWN_CHARACTERS:
        return f"{len(body)} bytes; --out DIR writes them{behind}"
    return f"{text}{behind}"


def _printable(value: Any) -> Any:
    """What a client sent moves no cursor."""
    return json.dumps(value) if isinstance(value, str) and not value.isprintable() else value
