"""`gateway.yaml`, what a process needs to start: bytes become settings, or every fault is named with its line. Pure.

    listen: {http: "127.0.0.1:8080", grpc: "127.0.0.1:8081"}
    operator_listen: "127.0.0.1:8090"
    state: ./state            # paths are relative to the file
    documents: ./documents
    policies: ./policies
    http: {grace_seconds: 60} # and every other knob of settings.py by its name

The reading is that of documents (`tenants/nodes.py`): what YAML parsers disagree about is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.settings import CLOSED, Settings, bounds, chosen, within
from tenants import nodes
from tenants.documents import Source
from tenants.errors import Fault, Faulty
from tenants.nodes import Node, Scalar

_MOST_PORT: Final = 65_535
_CLOUD: Final = "must be a folder; a state in DynamoDB and S3 is not built yet"
_DOCUMENT: Final = "is of a document; a configuration names the folder of those with documents: FOLDER"
_INSTEAD: Final = {
    "host": "is said with listen.http",
    "port": "is said with listen.http",
    "operator_host": "is said with operator_listen",
    "operator_port": "is said with operator_listen",
    "grpc_host": "is said with listen.grpc",
    "grpc_port": "is said with listen.grpc",
    "repository": "is for gateway demo; here each Model document names its own",
}


def read(source: Source) -> Settings:
    """The settings of a file. Raises Faulty."""
    reading = _Reading(source)
    documents = nodes.read(source.content, source.name, reading.faults)
    if len(documents) > 1:
        reading.fault(documents[1], "", "is a second document; a configuration is one")
    settings = reading.root(documents[0]) if documents else Settings()
    if reading.faults:
        raise Faulty(reading.faults)
    return settings


@dataclass(slots=True)
class _Reading:
    source: Source
    faults: list[Fault] = field(default_factory=list)

    def root(self, node: Node) -> Settings:
        special: dict[str, Callable[[Settings, Node], Settings]] = {
            "listen": self._listen,
            "operator_listen": lambda settings, value: self._door(
                settings, value, "operator_listen", "operator_"
            ),
            "state": self._state,
        }
        entries = dict(self._entries(node, ""))
        settings = Settings()
        if "kind" in entries:
            self.faults.append(Fault(self.source.name, entries["kind"][0], "kind", _DOCUMENT))
            return settings
        for name in special.keys() & entries.keys():
            settings = special[name](settings, entries.pop(name)[1])
        known = list(
            dict.fromkeys([*special, *(knob.name for knob in fields(settings) if knob.name not in _INSTEAD)])
        )
        filled: Settings = self._filled(settings, entries, "", known)
        return filled

    def fault(self, node: Node, path: str, reason: str) -> None:
        if not nodes.is_said(node):
            self.faults.append(Fault(self.source.name, node.line, path, reason))

    def _filled(self, tree: Any, entries: Mapping[str, tuple[int, Node]], path: str, known: list[str]) -> Any:
        knobs = {knob.name: knob for knob in fields(tree)}
        changes: dict[str, Any] = {}
        for name, (line, node) in entries.items():
            at = f"{path}{name}"
            if name not in known:
                self._unknown(at, line, known)
            elif is_dataclass(value := getattr(tree, name)):
                inner = [knob.name for knob in fields(value)]
                changes[name] = self._filled(value, dict(self._entries(node, at)), f"{at}.", inner)
            else:
                changes[name] = self._value(node, at, value, knobs[name].metadata)
        return replace(tree, **changes)

    def _value(self, node: Node, path: str, default: object, metadata: Mapping[str, Any]) -> object:
        if isinstance(default, str):
            text = self._text(node, path)
            if text and not chosen(text, metadata):
                self.fault(node, path, f"must be one of {', '.join(metadata['choices'])}")
            return text
        if isinstance(default, Path | None):
            text = self._text(node, path)
            return Path(self.source.folder, text) if text else default
        number = node.value if isinstance(node, Scalar) else None
        kinds = (int, float) if isinstance(default, float) else (int,)
        if type(number) not in kinds:
            self.fault(node, path, _reason(node) or f"must be of type {type(default).__name__}")
        elif not within(number, metadata):  # type: ignore[arg-type]
            self.fault(node, path, f"must be {bounds(metadata)}")
        else:
            return type(default)(number)  # type: ignore[call-arg]
        return default

    def _listen(self, settings: Settings, node: Node) -> Settings:
        """Whoever names the doors names all of them."""
        prefixes = {"http": "", "grpc": "grpc_"}
        settings = replace(settings, grpc_port=CLOSED)
        for name, (line, value) in self._entries(node, "listen").items():
            if name in prefixes:
                settings = self._door(settings, value, f"listen.{name}", prefixes[name])
            else:
                self._unknown(f"listen.{name}", line, list(prefixes))
        return settings

    def _state(self, settings: Settings, node: Node) -> Settings:
        if isinstance(node, nodes.Mapping):
            self.fault(node, "state", _CLOUD)
            return settings
        text = self._text(node, "state")
        return replace(settings, state=Path(self.source.folder, text)) if text else settings

    def _door(self, settings: Settings, node: Node, path: str, prefix: str) -> Settings:
        host, port = self._address(node, path)
        changes: dict[str, Any] = {f"{prefix}host": host, f"{prefix}port": port} if host else {}
        return replace(settings, **changes)

    def _address(self, node: Node, path: str) -> tuple[str, int]:
        """Host and port; an empty host for a fault."""
        host, _, port = self._text(node, path).rpartition(":")
        if host and port.isascii() and port.isdigit() and int(port) <= _MOST_PORT:
            return host.removeprefix("[").removesuffix("]"), int(port)
        if isinstance(node, Scalar) and isinstance(node.value, str):
            self.fault(
                node, path, 'must be an address and a port, like "127.0.0.1:8080"; port 0 picks a free one'
            )
        return "", 0

    def _text(self, node: Node, path: str) -> str:
        """The text, "" for a fault."""
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value:
            return node.value
        self.fault(node, path, _reason(node) or "must be a text")
        return ""

    def _entries(self, node: Node, path: str) -> dict[str, tuple[int, Node]]:
        if isinstance(node, nodes.Mapping):
            return node.entries
        self.fault(node, path, _reason(node) or "must be a mapping")
        return {}

    def _unknown(self, path: str, line: int, known: list[str]) -> None:
        reason = _INSTEAD.get(path) or f"unknown key; known are {', '.join(known)}"
        self.faults.append(Fault(self.source.name, line, path, reason))


def _reason(node: Node) -> str:
    return node.fault if isinstance(node, Scalar) else ""
