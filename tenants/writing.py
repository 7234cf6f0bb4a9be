"""What is stored as documents that read the same again: values become YAML, in the one reading that `nodes` has. Pure.

What is left out has its default, and a tenant's `members` and `issuers` are always said: without the key they would stay as they are. Its
restrictions, its privacy, its certificates and its KMS key are said where it has some; silence lifts none. A key, a secret or an id is in
no document.
"""

import io
import re
from collections.abc import Iterable
from typing import Any, Final

import yaml
from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from tenants.catalogue import Declared, name_of
from tenants.customer import TenantDocument
from tenants.errors import Fault
from tenants.model import ABSENT_ELSEWHERE, Model
from tenants.nodes import Scalar, read

Tree = dict[str, Any]

_COLUMNS: Final = 120
# What may stand without quotes; whether it is a text then is for `nodes` to say.
_PLAIN: Final = re.compile(r"[A-Za-z0-9/_][A-Za-z0-9/_.@+-]*")


def tree(value: Declared) -> Tree:
    """The document of a value, as programs take it."""
    said = {"kind": name_of(value)[0], **_said(value)}
    left_out = {"id", *(ABSENT_ELSEWHERE if isinstance(value, Model) and value.is_elsewhere else ())}
    if isinstance(value, TenantDocument):
        said["members"] = [_said(member) for member in sorted(value.members or (), key=lambda it: it.key)]
        if not value.certificates:
            said.pop("certificates", None)
        said["issuers"] = [_said(issuer) for issuer in value.issuers or ()]
    return {name: it for name, it in said.items() if name not in left_out}


def written(trees: Iterable[Tree]) -> str:
    """All in one file: small parts in a line, and texts in quotes where another reader might take them for something else."""
    stream = io.StringIO()
    writer = _Writer(
        stream,
        width=_COLUMNS,
        allow_unicode=True,
        sort_keys=False,
        explicit_start=True,
    )
    writer.open()
    for it in trees:
        node = writer.represent_dict(it)
        _lay(node)
        node.flow_style = False
        writer.serialize(node)
    writer.close()
    return stream.getvalue().removeprefix("---\n")


def _said(value: Struct) -> Tree:
    """Its fields but for those with their default, and which of several kinds it is."""
    found: Tree = {}
    for it in fields(value):
        own = getattr(value, it.name)
        default = it.default if it.default_factory is NODEFAULT else it.default_factory()
        if default is NODEFAULT or own != default:
            found[it.name] = _plain(own)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        config = value.__struct_config__
        return {str(config.tag_field): config.tag, **_said(value)} if config.tag else _said(value)
    if isinstance(value, dict):
        return {name: _plain(it) for name, it in value.items()}
    return [_plain(it) for it in value] if isinstance(value, tuple) else value


class _Writer(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """What is there twice is written twice: `nodes` takes no anchors."""
        return True


def _lay(node: yaml.CollectionNode) -> None:
    """What has only scalars in it is in a line."""
    parts = [part for it in node.value for part in (it if isinstance(it, tuple) else (it,))]
    inner = [part for part in parts if isinstance(part, yaml.CollectionNode)]
    node.flow_style = not inner
    for part in inner:
        _lay(part)


def _text(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=None if _stands_plain(text) else '"')


def _stands_plain(text: str) -> bool:
    if not _PLAIN.fullmatch(text):
        return False
    faults: list[Fault] = []
    return [it.value for it in read(text.encode(), "", faults) if isinstance(it, Scalar)] == [text]


_Writer.add_representer(str, _text)
