"""What the placeholders of a request stand for is put back into the choices of a server that speaks OpenAI's API itself. Pure.

The arguments of a tool's call are JSON within a string, and so is a content that was asked for as JSON: what is put back there is escaped
for it. Log probabilities are told token by token, and stay as they are.
"""

from collections.abc import Iterator
from typing import Any, Final

from gateway.privacy.mask import Restorer, Screen

_ARGUMENTS: Final = "arguments"
_CONTENT: Final = "content"
_AS_THEY_ARE: Final = frozenset({"logprobs", "role"})
_MOST_HELD: Final = 1_024
"""Texts of one stream that may have begun a placeholder; of more the beginnings are told as they are."""

_MOST_NAME_CHARACTERS: Final = 128

_Path = tuple[int, str, int]
"""The choice, the field of what it says, and the place of the tool's call, -1 elsewhere."""


def restored_choice(value: Any, screen: Screen, *, is_json: bool, name: str = "") -> Any:
    """One that is whole. `is_json`: its content is."""
    if isinstance(value, str):
        is_nested = name == _ARGUMENTS or (is_json and name == _CONTENT)
        return screen.restore_json(value) if is_nested else screen.restore(value)
    if isinstance(value, list):
        return [restored_choice(it, screen, is_json=is_json, name=name) for it in value]
    if isinstance(value, dict):
        return {
            key: it
            if key in _AS_THEY_ARE
            else restored_choice(it, screen, is_json=is_json, name=name if key == "text" and name else key)
            for key, it in value.items()
        }
    return value


class ChoiceTexts:
    """The choices of a stream. Each text goes on from one event to the next; what may have begun a placeholder is told with the next piece
    of it, or with what says that its choice is finished.
    """

    def __init__(self, screen: Screen, *, is_json: bool) -> None:
        self._screen = screen
        self._is_json = is_json
        self._held: dict[_Path, Restorer] = {}

    def restore(self, choice: Any) -> None:
        """In place."""
        if not isinstance(choice, dict):
            return
        index = choice.get("index")
        number = index if isinstance(index, int) else 0
        said = choice.get("delta")
        if isinstance(said, dict):
            self._restore_said(number, said)
        elif isinstance(choice.get("text"), str):
            choice["text"] = self._told((number, "text", -1), choice["text"])
        if choice.get("finish_reason") is not None:
            self._finish(number, choice)

    def rest(self) -> list[dict[str, Any]]:
        """Choices that tell what was held back of those that nobody finished."""
        numbers = sorted({number for number, _, _ in self._held})
        left = [(number, {"index": number, "finish_reason": None}) for number in numbers]
        for number, choice in left:
            self._finish(number, choice)
        return [choice for _, choice in left]

    def _restore_said(self, number: int, said: dict[str, Any]) -> None:
        for name, value in said.items():
            if isinstance(value, str) and name not in _AS_THEY_ARE:
                said[name] = self._told((number, name, -1), value)
        self._restore_call((number, "function_call", -1), said.get("function_call"))
        calls = said.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                at = call.get("index", place)
                self._restore_call(
                    (number, "tool_calls", at if isinstance(at, int) else place), call.get("function")
                )

    def _restore_call(self, path: _Path, function: Any) -> None:
        if isinstance(function, dict) and isinstance(function.get(_ARGUMENTS), str):
            function[_ARGUMENTS] = self._told(path, function[_ARGUMENTS])

    def _told(self, path: _Path, text: str) -> str:
        restorer = self._held.pop(path, None) or Restorer(self._restores(path[1]))
        told = restorer.feed(text)
        if restorer.holds and len(self._held) < _MOST_HELD and len(path[1]) <= _MOST_NAME_CHARACTERS:
            self._held[path] = restorer
            return told
        return told + restorer.end()

    def _restores(self, name: str) -> Any:
        is_nested = name in ("tool_calls", "function_call") or (self._is_json and name == _CONTENT)
        return self._screen.restore_json if is_nested else self._screen.restore

    def _finish(self, number: int, choice: dict[str, Any]) -> None:
        for path, text in list(self._ended(number)):
            _, name, place = path
            if name == "text" and "delta" not in choice:
                choice["text"] = _like(choice.get("text"), "") + text
                continue
            said = choice["delta"] = _like(choice.get("delta"), dict[str, Any]())
            if name == "tool_calls":
                calls = said["tool_calls"] = _like(said.get("tool_calls"), list[Any]())
                calls.append({"index": place, "function": {_ARGUMENTS: text}})
            elif name == "function_call":
                function = said["function_call"] = _like(said.get("function_call"), dict[str, Any]())
                function[_ARGUMENTS] = _like(function.get(_ARGUMENTS), "") + text
            else:
                said[name] = _like(said.get(name), "") + text

    def _ended(self, number: int) -> Iterator[tuple[_Path, str]]:
        for path in [path for path in self._held if path[0] == number]:
            yield path, self._held.pop(path).end()


def _like(found: Any, absent: Any) -> Any:
    """What is there, if it is of the type that it should have."""
    return found if isinstance(found, type(absent)) else absent
