"""The command line: a thin door onto the rooms. Tables for people, `--json` for programs, errors that say what to do next.

Exit codes: 0 done, 1 failed, 64 wrong usage.
"""

import argparse
import json
import os
import pwd
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import msgspec
import uvloop

from gateway import __version__
from gateway.app import now_us, opened, opened_directory, serve, verified
from gateway.audit.ports import SegmentFailed, SinkFailed
from gateway.authz.cedar import PolicyError
from gateway.scaling.scaler import StartFailed
from gateway.settings import Settings, SettingsError, load
from gateway.triton.repository import models
from tenants import keys, plans
from tenants.directory import Directory, Minted
from tenants.errors import AlreadyExists, NotFound, TenantsError

_USAGE = 64
_INTERRUPTED = 130
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DEMO = "demo"
_DEMO_KEY_SECONDS = 7 * 86_400


class _Parser(argparse.ArgumentParser):
    """argparse with the exit code that the contract names."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(_USAGE, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    given = _parser().parse_args(arguments)
    try:
        settings = load(
            os.environ,
            state=given.state,
            port=getattr(given, "port", None),
            repository=getattr(given, "repository", None),
        )
        sys.exit(uvloop.run(given.run(settings, given)))
    except SettingsError as fault:
        _fail(str(fault), _USAGE)
    except NotFound as fault:
        _fail(f"{fault.sentence}; see: gateway tenants list, gateway keys list --tenant NAME")
    except TenantsError as fault:
        _fail(fault.sentence if str(fault) == fault.sentence else f"{fault.sentence} ({fault})")
    except (StartFailed, PolicyError, SegmentFailed, SinkFailed, OSError) as fault:
        _fail(str(fault))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


# Commands: each gives its exit code


async def _demo(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        models = await _seed(directory, settings)
        minted = await directory.create_key(
            _DEMO,
            name="demo",
            expires_us=now_us() + _DEMO_KEY_SECONDS * 1_000_000,
            actor=_actor(),
            now_us=now_us(),
        )

    async with opened(settings, progress=_progress) as gateway:
        await serve(gateway, lambda address: _welcome(address, minted, models, settings, given))
    return 0


async def _seed(directory: Directory, settings: Settings) -> list[str]:
    """The demo's plan, tenant and models: those of the repository, and no others. Gives the models' names."""
    await _put_demo_plan(directory, settings)
    with suppress(AlreadyExists):  # from an earlier run over the same state
        await directory.create_tenant(_DEMO, _DEMO, actor=_actor(), now_us=now_us())
    repository = settings.repository.resolve()
    names = models(repository)
    if not names:
        raise StartFailed(
            f"{repository} holds no model; a model is a folder with config.pbtxt and a version folder in it"
        )
    for name in names:
        await directory.put_model(name, str(repository), "*", actor=_actor(), now_us=now_us())
    for name, model in (await directory.models()).items():
        if name not in names:
            await directory.put_model(name, model.repository, (), actor=_actor(), now_us=now_us())
    return names


async def _put_demo_plan(directory: Directory, settings: Settings) -> None:
    document = tomllib.loads((settings.policies / "plans" / "demo.toml").read_text())
    await directory.put_plan(plans.parse(document), actor=_actor(), now_us=now_us())


def _welcome(
    address: str, minted: Minted, models: list[str], settings: Settings, given: argparse.Namespace
) -> None:
    """What a program reads in one line, and a person on one screen."""
    key = minted.secret.reveal()
    if given.json:
        doors = {"http": address, "grpc": None, "operator": None, "portal": None}
        print(json.dumps({**doors, "tenant": _DEMO, "api_key": key, "operator_key": None}), flush=True)
        return
    example = settings.repository.resolve().parent / "examples" / "digit.json"
    call = f"{address}/v2/models/{models[0]} -H 'Authorization: Bearer {key}'"
    if "digits" in models and example.exists():
        call = f"{address}/v2/models/digits/infer -H 'Authorization: Bearer {key}' -d @{_short(example)}"
    print(
        f"The gateway is at {address}; its models are {', '.join(models)}.\n"
        f"Tenant {_DEMO}, plan {_DEMO}, key (shown once, good for seven days):\n\n  {key}\n\n"
        f"No Triton runs yet. The first request starts one and waits for it:\n\n  curl -s {call}\n\n"
        "Ctrl-C ends the gateway and every Triton that it started.",
        flush=True,
    )


async def _tenants_create(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        if given.plan == _DEMO:
            await _put_demo_plan(directory, settings)
        tenant = await directory.create_tenant(given.name, given.plan, actor=_actor(), now_us=now_us())
    return _show(
        [{"name": tenant.name, "id": tenant.id, "plan": tenant.plan, "state": tenant.state}], given, one=True
    )


async def _tenants_list(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        found = await directory.list_tenants()
    return _show([{"name": t.name, "id": t.id, "plan": t.plan, "state": t.state} for t in found], given)


async def _tenants_show(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        tenant = await directory.show_tenant(given.name)
    row = {"name": tenant.name, "id": tenant.id, "plan": tenant.plan, "state": tenant.state}
    return _show([{**row, "created": _when(tenant.created_us)}], given, one=True)


async def _tenants_close(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        tenant = await directory.close_tenant(given.name, actor=_actor(), now_us=now_us())
    return _show([{"name": tenant.name, "id": tenant.id, "state": tenant.state}], given, one=True)


async def _keys_create(settings: Settings, given: argparse.Namespace) -> int:
    now = now_us()
    expires_us = None if given.expires is None else now + given.expires * 1_000_000
    models = tuple(given.models.split(",")) if given.models else None
    async with opened_directory(settings) as directory:
        minted = await directory.create_key(
            given.tenant, name=given.name, models=models, expires_us=expires_us, actor=_actor(), now_us=now
        )
    return _show_minted(minted, given)


async def _keys_rotate(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        minted = await directory.rotate_key(
            given.tenant, given.key, overlap_seconds=given.overlap, actor=_actor(), now_us=now_us()
        )
    return _show_minted(minted, given)


async def _keys_list(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        found = await directory.list_keys(given.tenant)
    rows = [
        {
            "id": key.id,
            "name": key.name,
            "hint": f"{keys.PREFIX}{key.hint}...",
            "state": keys.state(key, now_us()),
            "models": ",".join(key.models) if key.models is not None else "all",
            "created": _when(key.created_us),
            "expires": _when(key.expires_us),
        }
        for key in found
    ]
    return _show(rows, given)


async def _keys_revoke(settings: Settings, given: argparse.Namespace) -> int:
    async with opened_directory(settings) as directory:
        key = await directory.revoke_key(given.tenant, given.key, actor=_actor(), now_us=now_us())
    return _show([{"id": key.id, "revoked": _when(key.revoked_us)}], given, one=True)


async def _audit_verify(settings: Settings, given: argparse.Namespace) -> int:
    report = verified(settings)
    if given.json:
        print(msgspec.json.encode(report).decode())
    elif report.fault is None:
        print(
            f"The log is whole: {report.records} records in {report.segments} segments, {report.intents} intents, "
            f"{report.outcomes} outcomes, {report.open} open."
        )
    else:
        fault = report.fault
        print(
            f"The log is damaged. First bad record: segment {fault.segment}, commit {fault.commit}, "
            f"record {fault.record_id or fault.record}: {fault.reason}. {report.records} records before it are good."
        )
    return 1 if report.fault else 0


# What is printed


def _show(rows: list[dict[str, str]], given: argparse.Namespace, *, one: bool = False) -> int:
    """A table for people; for programs a list, or one object where there is always one."""
    if given.json:
        print(json.dumps(rows[0] if one else rows))
        return 0
    if not rows:
        print("none")
        return 0
    columns = list(rows[0])
    widths = {column: max(len(column), *(len(row[column]) for row in rows)) for column in columns}
    for row in ({column: column.upper() for column in columns}, *rows):
        print("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
    return 0


def _show_minted(minted: Minted, given: argparse.Namespace) -> int:
    key = minted.secret.reveal()
    if given.json:
        print(json.dumps({"id": minted.key.id, "api_key": key}))
    else:
        print(f"{key}\n\nThis is key {minted.key.id}. Its text is shown this once and stored nowhere.")
    return 0


def _when(us: int | None) -> str:
    return "never" if us is None else datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _short(path: Path) -> str:
    """The path as it is shortest to type from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _actor() -> str:
    """The unix user, whatever the environment says."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # as in a container under a number of its own
        return f"cli:{os.getuid()}"


def _progress(text: str) -> None:
    print(f"gateway: {text}", file=sys.stderr, flush=True)


def _fail(sentence: str, code: int = 1) -> NoReturn:
    print(f"gateway: {sentence}", file=sys.stderr)
    sys.exit(code)


# What is understood


def _duration(text: str) -> int:
    """`30d` and its like, in seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdigit() or not 0 < int(number) < 100_000:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30m, 12h, 30d or 2w")
    return int(number) * _UNITS[unit]


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write 0 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--state", type=Path, metavar="DIR", help="state directory (default: .state)")
    common.add_argument("--json", action="store_true", help="print JSON for programs")
    parser = _Parser(prog="gateway", description="Serverless multi-tenant model gateway for NVIDIA Triton.")
    parser.add_argument("--version", action="version", version=__version__)
    rooms = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(rooms, common)
    _add_tenants(rooms.add_parser("tenants", help="the customers"), common)
    _add_keys(rooms.add_parser("keys", help="a tenant's API keys"), common)
    audit = rooms.add_parser("audit", help="the audit log").add_subparsers(required=True, metavar="COMMAND")
    check = audit.add_parser(
        "verify", parents=[common], help="prove the log whole, or name its first bad record"
    )
    check.set_defaults(run=_audit_verify)
    return parser


def _add_demo(rooms: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    demo = rooms.add_parser("demo", parents=[common], help="serve a model repository on this machine")
    demo.set_defaults(run=_demo)
    demo.add_argument("--port", type=_port, help="HTTP port (default: 8080; 0 picks a free one)")
    demo.add_argument("--grpc-port", type=_port, help="accepted for scripts; the gRPC door is not built yet")
    demo.add_argument("--repository", type=Path, metavar="DIR", help="your own Triton model repository")


def _add_tenants(parser: argparse.ArgumentParser, common: _Parser) -> None:
    tenants = parser.add_subparsers(required=True, metavar="COMMAND")
    create = tenants.add_parser("create", parents=[common], help="a new tenant")
    create.set_defaults(run=_tenants_create)
    create.add_argument("name")
    create.add_argument("--plan", default=_DEMO, help="the plan it is on (default: demo)")
    tenants.add_parser("list", parents=[common], help="all tenants").set_defaults(run=_tenants_list)
    show = tenants.add_parser("show", parents=[common], help="one tenant")
    show.set_defaults(run=_tenants_show)
    show.add_argument("name")
    close = tenants.add_parser("close", parents=[common], help="end a tenant and all its keys, for ever")
    close.set_defaults(run=_tenants_close)
    close.add_argument("name")


def _add_keys(parser: argparse.ArgumentParser, common: _Parser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    of_tenant = _Parser(add_help=False, parents=[common])
    of_tenant.add_argument("--tenant", required=True)
    create = commands.add_parser("create", parents=[of_tenant], help="a new key, shown once")
    create.set_defaults(run=_keys_create)
    create.add_argument("--name", default="", help="what people call it")
    create.add_argument(
        "--models", metavar="A,B", help="the models it may use (default: all of the tenant's)"
    )
    create.add_argument(
        "--expires", type=_duration, metavar="30d", help="how long it works (default: until revoked)"
    )
    commands.add_parser("list", parents=[of_tenant], help="all keys of a tenant").set_defaults(run=_keys_list)
    revoke = commands.add_parser("revoke", parents=[of_tenant], help="end a key; gateways see it within 5 s")
    revoke.set_defaults(run=_keys_revoke)
    revoke.add_argument("key", help="the key's id (k_...)")
    rotate = commands.add_parser(
        "rotate", parents=[of_tenant], help="a new key; the old one ends after a while"
    )
    rotate.set_defaults(run=_keys_rotate)
    rotate.add_argument("key", help="the old key's id (k_...)")
    rotate.add_argument(
        "--overlap", type=_duration, default=86_400, metavar="1d", help="how long both work (default: 1d)"
    )


if __name__ == "__main__":
    main()
