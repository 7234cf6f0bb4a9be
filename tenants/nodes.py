"""YAML in the one reading that every parser shares: bytes become nodes that know their line, or faults that do. Pure.

Documents and configurations are written by people and read by more than one program, so whatever two YAML parsers read differently
(`on`, `010`, `1e3`, `1_000`, dates, `~`), whatever hides what is meant (anchors, aliases, merge keys, tags, equal keys) and whatever only
an attack needs (depth, size) is refused.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.resolver import Resolver

from tenants.errors import Fault

MOST_BYTES: Final = 1024 * 1024
MOST_DEPTH: Final = 16
MOST_NODES: Final = 200_000

_INT = re.compile(r"-?(0|[1-9][0-9]{0,19})")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+(e[-+][0-9]+)?")
# What YAML 1.2 takes for something else than text; what 1.1 does, PyYAML's own resolver knows.
_YAML_1_2 = re.compile(
    r"~|null|Null|NULL|[yYnN]|true|True|TRUE|false|False|FALSE"
    r"|[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_TEXT_TAG = "tag:yaml.org,2002:str"
_RESOLVER: Final = Resolver()


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, a number or a truth: `value` in the one reading it has, or the reason why it has none."""

    line: int
    text: str
    value: str | int | float | bool | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Sequence:
    line: int
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Its keys in order, each with its line; no two are equal."""

    line: int
    entries: dict[str, tuple[int, "Node"]]


Node = Scalar | Sequence | Mapping


def read(content: bytes, file: str, faults: list[Fault]) -> list[Node]:
    """The documents in a file; what is wrong with it is added to `faults`, and then what is returned may be a part."""
    if len(content) > MOST_BYTES:
        faults.append(Fault(file, 1, "", f"the file has {len(content)} bytes, and may have {MOST_BYTES}"))
        return []
    documents: list[Node] = []
    try:
        text = content.decode("utf-8")
        documents.extend(_Composer(text, file, faults).documents())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        faults.append(Fault(file, line, "", "is not UTF-8"))
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        faults.append(Fault(file, line, "", "has a character that YAML does not allow"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        faults.append(
            Fault(file, mark.line + 1 if mark else 1, "", f"is no YAML: {error.problem or error.context}")
        )
    except _TooMuch as stop:
        faults.append(Fault(file, stop.line, "", stop.reason))
    return documents


class _TooMuch(Exception):
    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line, self.reason = line, reason


class _Composer:
    """From parse events to nodes. PyYAML's own composer forgets anchors and has no bound on depth."""

    def __init__(self, text: str, file: str, faults: list[Fault]) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self._file = file
        self._faults = faults
        self._nodes = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if event.version or event.tags:
                    self._fault(event, "directives (%...) are not taken")
                root = self._node(next(self._events), 0)
                if root != Scalar(root.line, "", None, _EMPTY):  # nothing between two `---`
                    yield root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        self._nodes += 1
        if depth > MOST_DEPTH or self._nodes > MOST_NODES:
            most = f"{MOST_DEPTH} levels" if depth > MOST_DEPTH else f"{MOST_NODES} values"
            raise _TooMuch(line, f"is nested too deeply or too long: a file has at most {most}")
        if isinstance(event, yaml.AliasEvent):
            self._fault(event, f"aliases (*{event.anchor}) are not taken: write it out")
            return Scalar(line, "", None, _SAID)
        if getattr(event, "anchor", None) is not None:
            self._fault(event, f"anchors (&{event.anchor}) are not taken: write it out")  # type: ignore[attr-defined]
        if getattr(event, "tag", None) is not None:
            self._fault(event, f"tags ({event.tag}) are not taken")  # type: ignore[attr-defined]
            if isinstance(event, yaml.ScalarEvent):
                return Scalar(line, "", None, _SAID)
        if isinstance(event, yaml.ScalarEvent):
            if not _is_text(event.value):
                self._fault(event, "has half a character, as \\ud800 is: write the character itself")
                return Scalar(line, event.value.encode("utf-8", "backslashreplace").decode(), None, _SAID)
            return _scalar(event, line)
        if isinstance(event, yaml.SequenceStartEvent):
            return Sequence(line, tuple(self._items(depth)))
        return self._mapping(line, depth)

    def _items(self, depth: int) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                return
            yield self._node(event, depth + 1)

    def _mapping(self, line: int, depth: int) -> Mapping:
        entries: dict[str, tuple[int, Node]] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self._fault(event, "a key must be a plain word")
            elif key.text in entries:
                first = entries[key.text][0]
                self._fault(event, f"the key {key.text!r} was there before, in line {first}")
            else:
                entries[key.text] = (key.line, value)
        return Mapping(line, entries)

    def _fault(self, event: yaml.Event, reason: str) -> None:
        self._faults.append(Fault(self._file, _line(event), "", reason))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


_EMPTY: Final = "is empty: leave the key out, or write a value"
_SAID: Final = "-"  # its fault is among the faults already


def is_said(node: Node) -> bool:
    """Whether the node has no reading for a reason that is among the faults already."""
    return isinstance(node, Scalar) and node.fault == _SAID


def _is_text(value: str) -> bool:
    """Escapes can make what no UTF-8 has."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scalar(event: yaml.ScalarEvent, line: int) -> Scalar:
    text = event.value
    if event.style is not None:
        return Scalar(line, text, text)
    if text in ("", "null"):
        return Scalar(line, text, None, _EMPTY)
    if text in ("true", "false"):
        return Scalar(line, text, text == "true")
    if _INT.fullmatch(text):
        return Scalar(line, text, int(text))
    if _FLOAT.fullmatch(text):
        number = float(text)
        return (
            Scalar(line, text, number) if math.isfinite(number) else Scalar(line, text, None, "is too large")
        )
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag != _TEXT_TAG or _YAML_1_2.fullmatch(text):
        return Scalar(
            line,
            text,
            None,
            f"{text!r} is read differently by different YAML versions: quote a text, write true or false, "
            "numbers as 10 or 0.5",
        )
    return Scalar(line, text, text)
