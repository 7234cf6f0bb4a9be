"""The models that are offered through OpenAI's API: their sections, and what their folders have for it, read once."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gateway.errors import Code, GatewayError
from gateway.triton.repository import tokenizer_files
from gateway.wire.chat import Chat, Unfit, configured
from gateway.wire.tokens import Count, counter
from tenants.model import Model
from tenants.openai import Generate, PassThrough, Section

log = logging.getLogger(__name__)

_NO_TEMPLATE = "this model has no chat template; use /v1/completions"


@dataclass(frozen=True, slots=True)
class Offer:
    """One model as it is offered. Without a `chat`, `why_no_chat` says so in public words."""

    row: Model
    section: Section
    chat: Chat | None = None
    why_no_chat: str = _NO_TEMPLATE
    count: Count | None = None


@dataclass(slots=True)
class Offers:
    """`models` gives the rows by name. A model's files are read when it is first asked for, and when its row has changed."""

    models: Callable[[], Mapping[str, Model]]
    _read: dict[str, Offer] = field(default_factory=dict)

    def section(self, name: str) -> Section | None:
        row = self.models().get(name)
        return row.openai if row else None

    async def offer(self, name: str) -> Offer:
        """Raises MODEL_NOT_FOUND for one that is not offered."""
        row = self.models().get(name)
        if row is None or row.openai is None:
            raise GatewayError(Code.MODEL_NOT_FOUND)
        known = self._read.get(name)
        if known is None or not (known.row == row or known.row.is_served_like(row)):
            known = self._read[name] = await asyncio.to_thread(_read, row, row.openai)
        elif known.row != row:
            known = self._read[name] = replace(known, row=row)
        return known


def _read(row: Model, section: Section) -> Offer:
    """A tokenizer can have many megabytes. What cannot be used is logged, and the model does without."""
    if isinstance(section, PassThrough):
        return Offer(row, section)  # which has no folder
    files = tokenizer_files(Path(row.repository), row.name)
    try:
        count = counter(files.tokenizer)
    except ValueError as fault:
        log.warning("model %s: tokens are not counted: %s", row.name, fault)
        count = None
    if not isinstance(section, Generate):
        return Offer(row, section, count=count)
    try:
        return Offer(row, section, configured(files.config, section.chat_template), count=count)
    except Unfit as fault:
        log.warning("model %s: there is no chat: %s", row.name, fault)
        return Offer(row, section, why_no_chat="this model's chat template cannot be used", count=count)
