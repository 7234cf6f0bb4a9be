"""How a model is offered through OpenAI's API: which of its tensors take and give what, or which server speaks that API itself. Pure."""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from tenants.errors import Invalid

MOST_TEMPLATE_CHARACTERS: Final = 32_768

Tensor = Annotated[str, Meta(min_length=1, max_length=256)]

# What of a request the model takes under the same name, as an input or as a parameter of Triton's generate; `stream` is always true.
Parameter = Literal[
    "max_tokens", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "stream"
]


class Generate(Struct, frozen=True, tag_field="backend", tag="generate"):
    """Chat and completions, from a model that takes a text and gives texts through Triton's generate_stream."""

    input: Tensor = "text_input"
    output: Tensor = "text_output"
    parameters: Annotated[tuple[Parameter, ...], Meta(max_length=16)] = ("max_tokens",)
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1024
    """The most that a request may ask for, and what it gets when it does not say."""
    chat_template: Annotated[str, Meta(max_length=MOST_TEMPLATE_CHARACTERS)] = ""
    """In Jinja2; "" is that of `tokenizer_config.json` in the model's folder. Without any there is no chat."""


class Infer(Struct, frozen=True, tag_field="backend", tag="infer"):
    """Embeddings, from a model that takes texts and gives a row of FP32 for each."""

    input: Tensor = "text"
    output: Tensor = "embedding"
    batched: bool = False
    """The input has the shape [n, 1], as a model has it that Triton batches, and not [n]."""


class PassThrough(Struct, frozen=True, tag_field="backend", tag="pass-through"):
    """All that a server gives which speaks OpenAI's API itself, as Triton's own front end does. Somebody else runs it."""

    address: Annotated[str, Meta(min_length=3, max_length=261)]
    """`HOST:PORT`, over HTTP in the clear, or `https://HOST:PORT`; an IPv6 address is in brackets.

    Readers from before there was HTTPS take `https://HOST` for a host's name, which nobody has: nothing goes there in the clear. They need
    the port.
    """
    model: Annotated[str, Meta(max_length=256)] = ""
    """What the model is called there; "" is the same name."""

    @property
    def is_tls(self) -> bool:
        return self.address.startswith(_HTTPS)

    @property
    def authority(self) -> str:
        """Of its URLs (RFC 3986, 3.2)."""
        return self.address.removeprefix(_HTTPS)

    @property
    def host(self) -> str:
        return self.authority.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.authority.rpartition(":")[2])


# Readers refuse a backend that they do not know, as they do a version.
Section = Generate | Infer | PassThrough

_HTTPS: Final = "https://"
_LABEL: Final = r"[A-Za-z0-9-]{1,63}"
_AUTHORITY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\]):([0-9]{{1,5}})")
_MOST_HOST: Final = 253
_MOST_PORT: Final = 65_535


def section_faults(section: Section) -> Iterator[Invalid]:
    """What is wrong with it beyond the types of its fields, each with the path to it."""
    if isinstance(section, PassThrough):
        found = _AUTHORITY.fullmatch(section.authority)
        if found is None or len(section.host) > _MOST_HOST or not 1 <= int(found[1]) <= _MOST_PORT:
            yield Invalid("address", "must be HOST:PORT, as 127.0.0.1:9000, or https://HOST:PORT")
    if not isinstance(section, Generate):
        return
    if section.input in section.parameters:
        yield Invalid("input", "is one of the parameters too")
    if len(set(section.parameters)) < len(section.parameters):
        yield Invalid("parameters", "names one twice")
