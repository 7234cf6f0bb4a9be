"""A Triton model repository on disk: a folder per model, with `config.pbtxt` and a folder per version in it."""

import re
from dataclasses import dataclass
from pathlib import Path

_NAMED = re.compile(r"""\bname\s*:\s*["']([^"']+)["']""")


def models(repository: Path) -> list[str]:
    """The names of the models in a repository, sorted. A folder without config.pbtxt is none."""
    return sorted(config.parent.name for config in repository.glob("*/config.pbtxt"))


def versions(repository: Path, model: str) -> tuple[str, ...]:
    """The versions of a model that a server could load; none when the model is not there."""
    folder = repository / model
    if not folder.is_dir():
        return ()
    return tuple(entry.name for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir())


def tensor_names(repository: Path, model: str) -> frozenset[str]:
    """Whatever has a name in a model's `config.pbtxt`, its tensors among it."""
    return frozenset(_NAMED.findall(_content(repository / model / "config.pbtxt").decode(errors="replace")))


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """Of a model's folder: `tokenizer.json` and `tokenizer_config.json`, b"" for one that is not there."""

    tokenizer: bytes
    config: bytes


def tokenizer_files(repository: Path, model: str) -> TokenizerFiles:
    """What models of Hugging Face's bring along, if this one does."""
    found = [_content(repository / model / name) for name in ("tokenizer.json", "tokenizer_config.json")]
    return TokenizerFiles(*found)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
