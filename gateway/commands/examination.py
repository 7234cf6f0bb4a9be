"""What `gateway doctor` looks at, and what it finds."""

import asyncio
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import gateway
from gateway.authz.current import Current
from gateway.authz.errors import PolicyError
from gateway.commands.apply import outlined
from gateway.commands.files import documents
from gateway.commands.printing import short
from gateway.envelope.ports import KeyRefused, KeysUnavailable
from gateway.envelope.trying import Own
from gateway.scaling.scalers.diagnosis import diagnose
from gateway.scaling.scalers.wheel import Finding
from gateway.settings import Settings
from gateway.state import new_id, now_us
from gateway.state_keys import key_service_name, tried_own_keys, try_key_service
from gateway.tls.current import Certificates
from gateway.tls.errors import TlsRefused
from gateway.tls.trusted import Trusted
from gateway.triton.pool import addresses_of
from gateway.triton.reach import Reach
from gateway.triton.repository import tokenizer_files, versions
from gateway.wire.chat import Unfit, configured
from tenants.documents import Documents
from tenants.errors import TenantsError
from tenants.model import Model
from tenants.openai import Generate, PassThrough

_LAST_YEAR: Final = 2100
_NAME_SECONDS: Final = 2.0
_SPARE_BYTES: Final = 256 * 1024**2  # logs, the table, and segments that are not yet full


async def examined(settings: Settings) -> list[Finding]:
    """Everything, in the order in which it is told."""
    return [
        *await diagnose(settings.state.resolve() / "triton", new_id, secrets.choice),
        *_state(settings),
        _clock(),
        *_policies(settings),
        *_certificates(settings),
        await _key_service(settings),
        *await _own_keys(settings),
        *await _documents(settings),
    ]


def _state(settings: Settings) -> Iterator[Finding]:
    """The folder itself, and the disk that it is on or will be."""
    state = settings.state.resolve()
    there = state
    while not there.exists():
        there = there.parent
    if there == state:
        private = stat.S_IMODE(state.stat().st_mode) & 0o077 == 0 and state.is_dir()
        yield Finding(f"state directory {short(state)} is its owner's alone", private, f"chmod 700 {state}")
    may_write = os.access(there, os.W_OK | os.X_OK)
    yield Finding(
        f"{short(there)} can be written", may_write, "give this user the right, or name another --state"
    )
    free, needed = shutil.disk_usage(there).free, _SPARE_BYTES + 4 * settings.audit.segment_bytes
    what = f"disk space for the state: {free // 2**20} MiB free"
    yield Finding(what, free >= needed, f"free {needed // 2**20} MiB, or name another --state")


def _clock() -> Finding:
    """A clock from before this program was installed would date the audit log and every key's end wrongly."""
    now = datetime.fromtimestamp(now_us() / 1e6, UTC)
    installed = datetime.fromtimestamp(Path(gateway.__file__).stat().st_mtime, UTC)
    sane = installed <= now and now.year < _LAST_YEAR
    return Finding(
        f"clock: {now:%Y-%m-%dT%H:%M:%SZ}", sane, "set the clock of this machine, and keep it by NTP"
    )


def _policies(settings: Settings) -> Iterator[Finding]:
    what = f"policies in {short(settings.policies.resolve())} load"
    try:
        Current.load(settings.policies)
    except (PolicyError, OSError) as fault:
        yield Finding(what, ok=False, advice=str(fault))
    else:
        yield Finding(what, ok=True, advice="")


def _certificates(settings: Settings) -> Iterator[Finding]:
    """Of those that are named."""
    named: list[tuple[str, Callable[[], object]]] = []
    if (file := settings.tls.certificate) is not None:
        shown = f"certificate in {short(file.resolve())} can be shown"
        named.append((shown, lambda: Certificates.load(settings.tls, now_us)))
    if (file := settings.upstream.authorities) is not None:
        known = f"servers can be known by the authorities in {short(file.resolve())}"
        named.append((known, lambda: Trusted.load(settings.upstream.authorities)))
    for what, load in named:
        try:
            load()
        except TlsRefused as fault:
            yield Finding(what, ok=False, advice=str(fault))
        else:
            yield Finding(what, ok=True, advice="")


async def _key_service(settings: Settings) -> Finding:
    """What wraps the data keys, asked now; one that the first start makes is not missing."""
    what = f"data keys are wrapped by {key_service_name(settings)}"
    try:
        await try_key_service(settings)
    except FileNotFoundError:
        return Finding(f"{what}, which the first start makes", ok=True, advice="")
    except (KeyRefused, KeysUnavailable, OSError, TenantsError) as fault:
        return Finding(what, ok=False, advice=str(fault))
    return Finding(f"{what}: it wraps and unwraps", ok=True, advice="")


async def _own_keys(settings: Settings) -> list[Finding]:
    """Those that tenants have in AWS KMS, asked now."""
    try:
        tried = await tried_own_keys(settings)
    except (OSError, TenantsError) as fault:
        return [Finding("the tenants' own KMS keys are known", ok=False, advice=str(fault))]
    return [_own_key(own, fault) for own, fault in tried.items()]


def _own_key(own: Own, fault: Exception | None) -> Finding:
    what = f"data keys of {own.tenant} are wrapped by its own KMS key {own.kms_key}"
    if fault is None:
        return Finding(f"{what}: it wraps and unwraps", ok=True, advice="")
    return Finding(what, ok=False, advice=str(fault))


async def _documents(settings: Settings) -> Iterator[Finding]:
    """Those of the configuration, against what is stored; and whether each model is where its document says."""
    if settings.documents is None:
        return iter(())
    what = f"documents in {short(settings.documents)} make sense"
    try:
        declared = documents(settings.documents)
        await outlined(settings, declared)
    except (TenantsError, OSError) as fault:
        return iter([Finding(what, ok=False, advice=str(fault))])
    reach = Reach.of(settings.upstream.networks)
    far = [await _reached(it.value, reach) for it in declared.documents if isinstance(it.value, Model)]
    return iter([Finding(what, ok=True, advice=""), *_models(declared), *(it for it in far if it)])


async def _reached(model: Model, reach: Reach) -> Finding | None:
    """Whether the server that somebody else runs may be called, where there is one. It is not called here."""
    if not isinstance(section := model.openai, PassThrough):
        return None
    what = f"model {model.name}: {section.address} may be called{'' if section.is_tls else ' in the clear'}"
    reach = reach.over_tls() if section.is_tls else reach
    try:
        async with asyncio.timeout(_NAME_SECONDS):
            addresses = await addresses_of(section.host)
    except (OSError, UnicodeError) as fault:  # TimeoutError is one
        return Finding(what, ok=False, advice=f"{section.host} was not found: {fault or 'no answer in time'}")
    ok = any(map(reach.holds, addresses))
    return Finding(what, ok, "" if ok else reach.refusal(section.host, addresses))


def _models(declared: Documents) -> Iterator[Finding]:
    for document in declared.documents:
        if isinstance(model := document.value, Model) and not model.is_elsewhere:
            folder = Path(model.repository, model.name)
            where = f"{document.file}:{document.line}"
            there = Path(folder, "config.pbtxt").is_file()
            advice = f"{where}: put its config.pbtxt and its versions there"
            if there and not versions(folder.parent, model.name):
                there, advice = False, f"{where}: it has no version; put its files in a folder 1 there"
            yield Finding(f"model {model.name} is in {short(folder)}", there, advice)
            if isinstance(model.openai, Generate):
                yield _chat(model, model.openai, where)


def _chat(model: Model, section: Generate, where: str) -> Finding:
    """A model may well have no template; one that cannot be used is nobody's intention."""
    files = tokenizer_files(Path(model.repository), model.name)
    try:
        chat = configured(files.config, section.chat_template)
    except Unfit as fault:
        return Finding(f"model {model.name} has a chat template", ok=False, advice=f"{where}: {fault}")
    what = "a chat template" if chat else "no chat template: completions alone are offered"
    return Finding(f"model {model.name} has {what}", ok=True, advice="")
