"""Files that people wrote, as the readers of their bytes want them."""

from collections.abc import Iterator
from pathlib import Path

from tenants.documents import KINDS, Documents, Source, applicable, parse
from tenants.errors import Invalid
from tenants.nodes import MOST_BYTES


def source(path: Path) -> Source:
    """One file. Relative paths in it are relative to where it is named, also when that is a link."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)  # one more, and the reader says that it is too large
    return Source(str(path), str(path.absolute().parent), content)


def documents(path: Path) -> Documents:
    """What a file or folder declares that can be applied; the rest are faults. Raises Invalid where that is nothing, OSError."""
    declared = applicable(parse(sources(path)))
    if not declared.documents and not declared.faults:
        raise Invalid(
            "", f"{path} holds no document; a document is a mapping with a kind: {', '.join(KINDS)}"
        )
    return declared


def sources(path: Path) -> Iterator[Source]:
    """A file, or all *.yaml and *.yml of a folder in the order of their names. Raises OSError, also where there is none."""
    if not path.is_dir():
        yield source(path)
        return
    files = sorted(
        it for it in path.iterdir() if it.suffix in (".yaml", ".yml") and not it.name.startswith(".")
    )
    if not files:
        raise FileNotFoundError(f"{path} holds no document; a document is a file *.yaml or *.yml")
    yield from map(source, files)
