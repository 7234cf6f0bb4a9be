"""A Triton model repository on disk: a folder per model, with `config.pbtxt` and a folder per version in it."""

from pathlib import Path


def models(repository: Path) -> list[str]:
    """The names of the models in a repository, sorted. A folder without config.pbtxt is none."""
    return sorted(config.parent.name for config in repository.glob("*/config.pbtxt"))


def versions(repository: Path, model: str) -> tuple[str, ...]:
    """The versions of a model that a server could load; none when the model is not there."""
    folder = repository / model
    if not folder.is_dir():
        return ()
    return tuple(entry.name for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir())
