"""What is asked about plans, privacies, models, fleets and shared issuers: what operators declare, one at a time."""

import posixpath
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from tenants.api.asked import Answer, Asked, View, tag
from tenants.api.problems import Problem
from tenants.api.shapes import issuer_view
from tenants.api.strict import shown
from tenants.errors import NotFound
from tenants.fleet import Fleet
from tenants.issuers import Issuer, id_of
from tenants.model import ABSENT_ELSEWHERE, Model
from tenants.openai import PassThrough
from tenants.plans import Plan
from tenants.privacy import Privacy

_Value = TypeVar("_Value", Fleet, Issuer, Model, Plan, Privacy)


@dataclass(frozen=True, slots=True)
class Shelf(Generic[_Value]):
    """The operations on one kind."""

    kind: type[_Value]
    view: View = shown

    async def list_all(self, asked: Asked) -> Answer:
        return asked.listed(await asked.directory.values.list(self.kind, asked.after, asked.limit), self.view)

    async def show(self, asked: Asked) -> Answer:
        return asked.shown(await asked.directory.values.find(self.kind, asked.names["name"]), self.view)

    async def put(self, asked: Asked) -> Answer:
        values, name = asked.directory.values, asked.names["name"]
        value = wanted(self.kind, name, asked.body)
        if asked.condition.creates:
            (made,) = await values.put(value, act=asked.act, expected=0)
            view = self.view(made, asked.now_us)
            return Answer(view, 201, tag=tag(view, 1))
        try:
            found = await values.find(self.kind, name)
        except NotFound as error:
            raise Problem("stale", f"{error.sentence}; create it with If-None-Match: *") from error

        async def change(version: int) -> Any:
            return (await values.put(value, act=asked.act, expected=version))[0]

        return await asked.changed(found, self.view, change)

    async def remove(self, asked: Asked) -> Answer:
        values, name = asked.directory.values, asked.names["name"]
        version = asked.checked(await values.find(self.kind, name), self.view)
        await values.remove(self.kind, name, asked.act, expected=version)
        return Answer(status=204)


PLANS, PRIVACIES, MODELS, FLEETS = Shelf(Plan), Shelf(Privacy), Shelf(Model), Shelf(Fleet)
ISSUERS = Shelf(Issuer, issuer_view)


def wanted(kind: type[_Value], name: str, body: Struct) -> _Value:
    """The value that a body says, under the name of its path. Raises Problem: invalid."""
    given: dict[str, Any] = msgspec.to_builtins(body)
    if kind is Issuer:
        return msgspec.convert(_called(given, name), kind)
    if given.setdefault("name", name) != name:
        raise Problem("invalid", f"must be {name!r} as in the path, or be left out", path="name")
    if kind is Model:
        given["id"] = ""  # the directory's to give; what was read may be put again
        given = _placed(given)
    return msgspec.convert(given, kind)


def _called(given: dict[str, Any], issuer_id: str) -> dict[str, Any]:
    """An issuer by its URL, where its path has the id of that."""
    own = id_of(given["issuer"])
    for path, found in (("issuer", own), ("id", given.pop("id", issuer_id))):
        if found != issuer_id:
            raise Problem(
                "invalid",
                f"the id of the issuer {given['issuer']} is {own}, and not that of the path",
                path=path,
            )
    return given


def _placed(given: dict[str, Any]) -> dict[str, Any]:
    """A model with its folder, or without one where somebody else runs it."""
    if (given.get("openai") or {}).get("backend") == PassThrough.__struct_config__.tag:
        return {**ABSENT_ELSEWHERE, **given}
    repository = given.get("repository", "")
    if "://" not in repository and not repository.startswith("/"):
        raise Problem(
            "invalid", "must be an absolute path: there is no file here to be relative to", path="repository"
        )
    return {**given, "repository": repository if "://" in repository else posixpath.normpath(repository)}
