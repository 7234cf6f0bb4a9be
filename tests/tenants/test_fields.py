"""The README's table of what documents may say has every field, default and bound of the types that read them."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import NODEFAULT, inspect

from tenants.fleet import Fleet
from tenants.model import Model
from tests.conftest import ROOT

KINDS = (Fleet, Model)


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


def taken(kind: inspect.Type) -> str:
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
        case inspect.BoolType():
            return "truth"
        case inspect.LiteralType(values=values):
            return " or ".join(f'`"{value}"`' for value in values)
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return f"{counted(kind)}mappings"
        case inspect.VarTupleType(item_type=inspect.LiteralType(values=values)):
            return f"list of {counted(kind)}of {', '.join(f'`{value}`' for value in values)}"
        case inspect.VarTupleType(item_type=inspect.UnionType()):
            return f"list of {counted(kind)}numbers, truths or texts"
        case inspect.VarTupleType(item_type=item):
            one, comma, rest = taken(item).partition(",")
            return f"list of {counted(kind)}{one}s{comma}{rest}"
        case inspect.UnionType(types=types):
            return " or ".join(sorted(map(taken, types), reverse=True))
    raise NotImplementedError(kind)


def rows(kind: inspect.StructType, path: str, given: object = NODEFAULT) -> Iterator[tuple[str, str, str]]:
    """Path, what it takes and its default, of every field that a document may have."""
    for field in kind.fields:
        at = f"{path}{field.name}"
        if at == "Model id":  # the directory's own
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
            case [inspect.StructType(), *_]:  # a tag tells them apart
                yield at, "mapping", "none"
                for each in members:
                    assert isinstance(each, inspect.StructType)
                    yield f"{at}.{each.tag_field}", f'`"{each.tag}"`', "required"
                    yield from rows(each, f"{at}.")
                continue
            case [inspect.VarTupleType(item_type=inspect.StructType() as inner)]:
                yield at, taken(members[0]), shown(default)
                yield from rows(inner, f"{at}[].")
                continue
        yield at, taken(field.type), shown(default)


def shown(default: object) -> str:
    if default is NODEFAULT:
        return "required"
    return f"`{msgspec.json.encode(default).decode()}`"


def test_every_field_is_documented_with_its_default_and_bounds() -> None:
    text = (ROOT / "tenants" / "README.md").read_text()
    block = text.split("<!-- fields -->")[1].split("<!-- /fields -->", maxsplit=1)[0]
    table = re.findall(r"^\| `(.+?)` \| (.*?) \| (.*?) \| (\S.*) \|$", block, re.MULTILINE)
    types = [it for it in inspect.multi_type_info(KINDS) if isinstance(it, inspect.StructType)]
    expected = [row for it in types for row in rows(it, f"{it.cls.__name__} ")]
    assert [(field, takes, default) for field, takes, default, _ in table] == expected
