"""A set of Cedar policies, a schema and the files that speak of its world: read once, refused unless they are whole, and asked.

Fails closed: whatever is not Cedar's explicit Allow, given without an error, is a denial.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import cedarpy
import msgspec

from gateway.authz.errors import PolicyError

_log = logging.getLogger(__name__)


class UndecidedError(Exception):
    """Cedar gave no decision, or one while a policy failed. Never leaves this room: it becomes a denial."""


class Decision(msgspec.Struct, frozen=True):
    """`policies`: the sorted @id of those that decided; none if none permitted it or Cedar could not say."""

    allowed: bool
    policies: tuple[str, ...]


DENIED_UNDECIDED: Final = Decision(allowed=False, policies=())


@dataclass(frozen=True, slots=True)
class Told:
    """What a policy says of itself: `effect` is permit or forbid, `reason` its @reason, "" without one."""

    effect: str
    reason: str


class Policies(ABC):
    """A set of one folder, parsed once. Make them with `load`; a changed policy is a new one of these.

    `version` is the SHA-256 of schema and policies in hex. `undecided` counts the requests that were denied
    because Cedar could not say, `last_undecided` tells the operator why the last one was.
    """

    name: ClassVar[str]
    """Of the schema, `NAME.cedarschema`."""
    files: ClassVar[tuple[str, ...]]
    """Those with the policies. No id is in two of them."""

    def __init__(self, schema: cedarpy.Schema, policies: cedarpy.PolicySet, version: str) -> None:
        self.version = version
        self.undecided = 0
        self.last_undecided = ""
        self._schema = schema
        self._policies = policies

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read them. Raises PolicyError as `of` does, and for what cannot be read."""
        return cls.of(folder, {name: read(folder / name) for name in cls.sources()})

    @classmethod
    def sources(cls) -> tuple[str, ...]:
        """The names of all files that it is made of."""
        return (f"{cls.name}.cedarschema", *cls.files)

    @classmethod
    def of(cls, folder: Path, texts: Mapping[str, str]) -> Self:
        """Made of the texts of these files.

        Raises PolicyError for what does not parse or validate, has no @id of its own, or does not fit the entities that are sent:
        found here, and not as a denial of everyone later.
        """
        schema_file = folder / f"{cls.name}.cedarschema"
        try:
            schema = cedarpy.Schema.from_str(texts[schema_file.name])
        except ValueError as error:
            raise PolicyError(schema_file, str(error)) from error
        ids = set[str]()
        for name in cls.files:
            _check(folder / name, texts[name], schema, ids)
        parts = [texts[name] for name in cls.sources()]
        policies = cedarpy.PolicySet.from_str("\n".join(parts[1:]))
        loaded = cls(schema, policies, sha256("\0".join(parts).encode()).hexdigest())
        try:
            loaded._rehearse()
        except UndecidedError as error:
            raise PolicyError(
                schema_file, f"it, or a policy, does not fit what the gateway asks: {error}"
            ) from error
        return loaded

    def told(self) -> dict[str, Told]:
        """By @id, what each policy says of itself."""
        return {
            it.annotations["id"]: Told(it.effect, it.annotations.get("reason", ""))
            for it in self._policies.to_pst().static_policies.values()
        }

    @abstractmethod
    def _rehearse(self) -> None:
        """Ask every kind of question once; raises UndecidedError if Cedar cannot say."""

    def _judged(
        self, request: dict[str, Any], entities: list[dict[str, Any]], context: dict[str, Any] | None = None
    ) -> Decision:
        """What Cedar says. Raises UndecidedError when it cannot."""
        asked = request if context is None else {**request, "context": context}
        result = cedarpy.is_authorized(
            asked, self._policies, msgspec.json.encode(entities).decode(), self._schema
        )
        # Cedar skips a policy that fails and lets the others decide: a broken forbid would be no forbid.
        if result.decision is cedarpy.Decision.NoDecision or result.diagnostics.errors:
            raise UndecidedError("; ".join(result.diagnostics.errors))
        return Decision(
            allowed=result.decision is cedarpy.Decision.Allow,
            policies=tuple(sorted(result.diagnostics.id_annotations_by_reason.values())),
        )

    def _closed(self, ask: Callable[[], Decision]) -> Decision:
        """The answer; a failure of Cedar, of its input or of a policy closes the door: a denial, and counted in `undecided`."""
        try:
            return ask()
        except Exception as error:  # noqa: BLE001 -- fail closed, whatever it was
            self.undecided += 1
            if self.last_undecided != str(error):
                self.last_undecided = str(error)
                _log.error("Cedar could not decide, so it was denied: %s", error)
            return DENIED_UNDECIDED


def uid(kind: str, name: str) -> dict[str, str]:
    """An entity as Cedar names it."""
    return {"type": kind, "id": name}


def read(file: Path) -> str:
    """The text of a file. Raises PolicyError."""
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(file, str(error)) from error


def _check(file: Path, text: str, schema: cedarpy.Schema, ids: set[str]) -> None:
    """Adds the ids of its policies to those of the other files. Raises PolicyError."""
    try:
        policies = cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        raise PolicyError(file, str(error)) from error
    if faults := list(_faults(policies, text, schema, ids)):
        raise PolicyError(file, "; ".join(faults))


def _faults(policies: cedarpy.PolicySet, text: str, schema: cedarpy.Schema, ids: set[str]) -> Iterator[str]:
    parsed = policies.to_pst()
    if parsed.templates:
        yield "templates decide nothing until they are linked, which the gateway does not do"
    if not parsed.static_policies:
        yield "holds no policy, so it denies everything"
    names: dict[str, str] = {}
    for position, policy in parsed.static_policies.items():  # "policy0", "policy1", ...
        name = policy.annotations.get("id")
        if not name:
            yield f'{position}, counted from 0, has no @id("...")'
        elif name in ids:
            yield f'@id("{name}") is given twice'
        else:
            names[position] = name
            ids.add(name)
    for error in cedarpy.validate_policies(text, schema).errors:
        yield error.error.replace(f"`{error.policy_id}`", names.get(error.policy_id, error.policy_id))
