"""The project's own prose, from its files: what READMEs, docstrings and comments say, and the names of its tests.

One paragraph is one line, in the letters that `story` knows; none is there twice.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

ROOMS = ("gateway", "tenants", "policies", "infra", "tests")
SHORTEST = 30  # characters: what is shorter is a label
LETTERS = 0.7  # of a paragraph: where they are fewer it is a table of numbers, or a drawing


def collect(root: Path, fold: Callable[[str], str]) -> str:
    """All paragraphs under this folder that are sentences, in the order of the files' names."""
    files = sorted(path for room in ROOMS for path in (root / room).rglob("*"))
    found: dict[str, None] = {}
    for path in [*sorted(root.glob("*.md")), *files]:
        if path.suffix in (".md", ".py"):
            read = markdown if path.suffix == ".md" else python
            found |= dict.fromkeys(_line(fold(paragraph)) for paragraph in read(path.read_text("utf-8")))
    return "".join(f"{line}\n" for line in found if _is_sentence(line))


def markdown(text: str) -> Iterator[str]:
    """Its paragraphs, list entries and rows of tables; no code, no addresses."""
    text = re.sub(r"```.*?```|<!--.*?-->|!\[[^\]]*\]\([^)]*\)", "", text, flags=re.DOTALL)
    text = re.sub(r"^(    .*| ?-{3,})$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "")
    for paragraph in re.split(r"\n\s*\n|\n(?=- |\d+\. |\||#)|(?<=\|)\n", text):
        cells = [cell.strip() for cell in paragraph.strip("| \n").split("|")]
        yield ": ".join(filter(None, cells)).lstrip("#- ")


def python(source: str) -> Iterator[str]:
    """Docstrings, comments, and the names of tests as the sentences that they are."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from re.split(r"\n\s*\n", ast.get_docstring(node) or "")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            name = node.name.removeprefix("test_").replace("_", " ")
            yield f"{name[0].upper()}{name[1:]}."
    comment: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comment.append(token.string.lstrip("# "))
        elif token.type != tokenize.NL:
            yield " ".join(comment)
            comment.clear()


def _line(paragraph: str) -> str:
    return re.sub(r"\s+", " ", paragraph.replace("``", "`")).strip()


def _is_sentence(line: str) -> bool:
    letters = sum(character.isalpha() or character == " " for character in line)
    return len(line) >= SHORTEST and letters >= LETTERS * len(line)
