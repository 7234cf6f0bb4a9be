"""Chat templates: messages become the prompt that a model was trained on. Pure.

A template is the operator's, in Jinja2 as Hugging Face's `tokenizer_config.json` has it; the messages are the tenants'. It runs in a
sandbox that changes nothing and reaches nothing but its values, and its prompt is bounded.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_PROMPT_CHARACTERS: Final = 4 * 1024**2

Messages = Sequence[Mapping[str, str]]


class Unfit(Exception):
    """The template cannot be used, or does not take these messages; says why in public words."""


class _Token(msgspec.Struct):
    """A special token in its long form."""

    content: str = ""


class _Template(msgspec.Struct):
    name: str
    template: str


class TokenizerConfig(msgspec.Struct):
    """What `tokenizer_config.json` says that a template needs; the rest is passed over."""

    chat_template: str | list[_Template] | None = None
    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None

    @property
    def template(self) -> str:
        """The chat template; of several the one named `default`."""
        if isinstance(self.chat_template, list):
            return next((it.template for it in self.chat_template if it.name == "default"), "")
        return self.chat_template or ""


class Chat:
    """A compiled template. Raises Unfit for one that does not parse."""

    def __init__(self, template: str, bos: str = "", eos: str = "") -> None:
        try:
            self._template: Template = _environment.from_string(template)
        except TemplateError as fault:
            raise Unfit(f"the model's chat template cannot be used: {fault}") from fault
        self._given = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True}

    def prompt(self, messages: Messages) -> str:
        """Raises Unfit."""
        try:
            parts = list(self._parts(messages))
        except Exception as fault:  # whatever a template runs into, these messages led it there
            raise Unfit(f"the model's chat template does not take these messages: {fault}"[:500]) from fault
        return "".join(parts)

    def _parts(self, messages: Messages) -> Iterator[str]:
        size = 0
        for part in self._template.generate(messages=messages, **self._given):
            size += len(part)
            if size > MOST_PROMPT_CHARACTERS:
                raise Unfit("they make too long a prompt")
            yield part


def configured(config: bytes, template: str = "") -> Chat | None:
    """The chat of a model whose `tokenizer_config.json` this is, b"" without one; `template` goes before the file's. None without any.

    Raises Unfit.
    """
    try:
        read = msgspec.json.decode(config, type=TokenizerConfig) if config else TokenizerConfig()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise Unfit("the model's tokenizer_config.json cannot be read") from fault
    chosen = template or read.template
    return Chat(chosen, _text(read.bos_token), _text(read.eos_token)) if chosen else None


def _text(token: str | _Token | None) -> str:
    return token.content if isinstance(token, _Token) else token or ""


def _refuse(sentence: str) -> Any:
    raise TemplateError(sentence)


def _made() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    return environment


_environment: Final = _made()
