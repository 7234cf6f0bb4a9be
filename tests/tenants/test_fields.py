"""The READMEs' tables of what documents may say have every field, default, bound and meaning that the reader of documents has."""

import re
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import NODEFAULT, inspect

from tenants import meanings
from tenants.documents import KINDS
from tests.conftest import ROOT

PLACES = {"tenants": ("Fleet", "Issuer", "Model", "Privacy", "Tenant"), "policies": ("Plan",)}


def bounded(kind: inspect.IntType | inspect.FloatType) -> str:
    least = f"over {kind.gt:g}" if kind.gt is not None else f"{kind.ge}"
    return f"{least} to {power(kind.le)}"


def power(number: float | None) -> str:
    """Large bounds are powers of two."""
    exponent = int(number or 0).bit_length() - 1
    return f"2^{exponent}" if number == 2**exponent and exponent > 20 else f"{number}"


def counted(kind: inspect.StrType | inspect.VarTupleType) -> str:
    if kind.max_length is None:
        return ""
    return f"{kind.min_length or 0} to {kind.max_length} "


def taken(kind: inspect.Type) -> str:  # noqa: PLR0912 - a case for each type
    """What a field takes, in words."""
    match kind:
        case inspect.Metadata(type=inner):  # what editors are told besides
            return taken(inner)
        case inspect.IntType() | inspect.FloatType():
            number = "integer" if isinstance(kind, inspect.IntType) else "number"
            return f"{number}, {bounded(kind)}"
        case inspect.StrType(max_length=int()):
            return f"text of {counted(kind)}characters"
        case inspect.StrType():
            return "text"
        case inspect.StructType():
            return "mapping"
        case inspect.BoolType():
            return "truth"
        case inspect.LiteralType(values=values):
            return " or ".join(f'`"{value}"`' for value in values)
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return f"{counted(kind)}mappings"
        case inspect.DictType(value_type=value):
            return f"mapping of names to {taken(value) if isinstance(value, inspect.LiteralType) else 'mappings'}"
        case inspect.VarTupleType(item_type=inspect.LiteralType(values=values)):
            return f"list of {counted(kind)}of {', '.join(f'`{value}`' for value in values)}"
        case inspect.VarTupleType(item_type=inspect.UnionType()):
            return f"list of {counted(kind)}numbers, truths or texts"
        case inspect.VarTupleType(item_type=item):
            what, *rest = re.split("(, | of )", taken(item), maxsplit=1)
            return f"list of {counted(kind)}{what}s{''.join(rest)}"
        case inspect.UnionType(types=types):
            said = (it for it in types if not isinstance(it, inspect.NoneType))
            return " or ".join(sorted(map(taken, said), reverse=True))
    raise NotImplementedError(kind)


def rows(kind: inspect.StructType, path: str, given: object = NODEFAULT) -> Iterator[tuple[str, str, str]]:
    """Path, what it takes and its default, of every field that a document may have, but those that mean what others do."""
    for field in kind.fields:
        at = f"{path}{field.name}"
        if at == "Model id" or path.startswith(tuple(meanings.SAME_AS)):  # the directory's own
            continue
        default = field.default if given is NODEFAULT else getattr(given, field.name)
        members = [
            it for it in getattr(field.type, "types", [field.type]) if not isinstance(it, inspect.NoneType)
        ]
        match members:
            case [inspect.StructType() as inner]:
                if default is None:
                    yield at, "mapping", "none"
                yield from rows(inner, f"{at}.", NODEFAULT if default is None else default)
                continue
            case [inspect.LiteralType(), inspect.StructType() as inner]:
                yield at, taken(field.type), shown(default)
                yield from rows(inner, f"{at}.")
                continue
            case [inspect.StructType(), *_]:  # a tag tells them apart
                yield at, "mapping", "none"
                for each in members:
                    assert isinstance(each, inspect.StructType)
                    yield f"{at}<{each.tag}>.{each.tag_field}", f'`"{each.tag}"`', "required"
                    yield from rows(each, f"{at}<{each.tag}>.")
                continue
            case [inspect.VarTupleType(item_type=inspect.StructType() as inner)]:
                yield at, taken(members[0]), shown(default)
                yield from rows(inner, f"{at}[].")
                continue
        yield at, taken(field.type), shown(default)


def shown(default: object) -> str:
    if default is NODEFAULT:
        return "required"
    if default is None:
        return "none"
    return f"`{msgspec.json.encode(default).decode()}`"


def described(kinds: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    for kind, it in zip(kinds, inspect.multi_type_info([KINDS[kind] for kind in kinds]), strict=True):
        assert isinstance(it, inspect.StructType)
        yield from rows(it, f"{kind} ")


@pytest.mark.parametrize(("place", "kinds"), PLACES.items())
def test_every_field_is_documented_with_its_default_bounds_and_meaning(
    place: str, kinds: tuple[str, ...]
) -> None:
    table = ["| field | takes | default | meaning |", "|---|---|---|---|"]
    for path, takes, default in described(kinds):
        field = re.sub(r"<.*?>", "", path)
        table.append(f"| `{field}` | {takes} | {default} | {meanings.of(path)} |")
    text = (ROOT / place / "README.md").read_text()
    block = text.split("<!-- fields -->")[1].split("<!-- /fields -->", maxsplit=1)[0].strip()
    assert block.splitlines() == table


def test_every_field_has_a_meaning_and_no_meaning_is_without_its_field() -> None:
    assert {path for path, _, _ in described(tuple(KINDS))} == set(meanings.MEANINGS)
    assert all(meanings.MEANINGS.values())


def test_every_kind_is_in_one_table() -> None:
    assert sorted(kind for kinds in PLACES.values() for kind in kinds) == sorted(KINDS)
