"""What to do about a failure, in the words of the command line."""

import argparse
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.commands.printing import program
from gateway.settings import Settings
from tenants.errors import InUse, NotFound, Stale, TableUnavailable, TenantsError, Unreadable

_OF_ABSENT: Final = {
    "tenant": "see: {gateway} tenants list",
    "member": "see: {gateway} members list --tenant NAME",
    "account": "see: {gateway} accounts list --tenant NAME",
    "key": "see: {gateway} keys list --tenant NAME (or --operator)",
    "data key": "see: {gateway} data-keys list --tenant NAME",
    "active data key": "a gateway makes one when it next seals something of that; see: {gateway} data-keys list --tenant NAME",
    "model": "apply its document, which names the tenant or all: {gateway} apply -f FILE",
    "plan": "apply its document: {gateway} apply -f FILE",
    "privacy": "apply its document: {gateway} apply -f FILE",
    "fleet": "apply its document: {gateway} apply -f FILE",
    "record of request": "its id is the x-request-id of its reply; of whom nobody recognised only counts are kept",
    "certificate": "see: {gateway} certificates list --tenant NAME",
    "issuer": "see: {gateway} issuers list, or of one tenant {gateway} tenants issuers NAME",
}
_OF_USED: Final = {
    "plan": "move them, the closed ones too: {gateway} tenants move NAME --plan OTHER",
    "privacy": "give them another, the closed ones too: {gateway} tenants protect NAME --privacy OTHER, or tenants unprotect NAME",
    "fleet": "put it on another fleet or delete it first: {gateway} models put -f FILE",
    "certificate": "take it from there first: {gateway} certificates remove NAME --tenant TENANT",
    "issuer": "take it from there first: {gateway} tenants distrust NAME, or {gateway} issuers delete URL",
}
# An argument that is a path, and what to say of another.
_OPTIONS: Final = {"config": "with --config", "file": "with -f", "backup": "folder"}
# Another folder or file would not help.
_NOT_OF_THE_PATH: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


def of_refusal(fault: TenantsError) -> str:
    """What is to be done about it; nothing where its own sentence says that."""
    match fault:
        case NotFound(kind=kind):
            advice = _OF_ABSENT.get(kind, "")
        case InUse(kind=kind):
            advice = _OF_USED.get(kind, "")
        case Stale():
            advice = "look at what it is now, and decide again"
        case Unreadable():
            advice = "run the version that wrote it, or go back to a back-up: {gateway} restore FROM --state NEW_DIR"
        case TableUnavailable():
            advice = "look at what is there before you ask again"
        case _:
            advice = ""
    return advice.format(gateway=program())


def of_system(fault: OSError, given: argparse.Namespace, settings: Settings | None = None) -> str:
    """What failed, at which path, and where that path was named; without the number, which says nothing to people."""
    if fault.strerror is None or fault.filename is None:
        return fault.strerror or str(fault)
    path = Path(os.fsdecode(fault.filename))
    sentence = f"{path}: {fault.strerror}"
    if fault.errno in _NOT_OF_THE_PATH:
        return sentence
    for place, where in _named(given, settings):
        if path.absolute().is_relative_to(place.absolute()):
            return f"{sentence}; name another {where}"
    return sentence


def _named(given: argparse.Namespace, settings: Settings | None) -> Iterator[tuple[Path, str]]:
    """The paths that a person gave, and how."""
    for name, how in _OPTIONS.items():
        if path := getattr(given, name, None):
            yield path, how
    if settings is None:
        return
    if settings.documents:
        yield settings.documents, "as `documents` of the configuration"
    yield settings.policies, "as `policies` of the configuration"
    yield settings.state, "with --state"
