"""The command line: a thin door onto the rooms. Tables for people, `--json` for programs, errors that say what to do next.

Exit codes: 0 done, 1 failed, 2 differences found (`apply --dry-run`), 64 wrong usage.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvloop

from gateway import __version__, config
from gateway.audit.ports import SegmentFailed, SinkFailed
from gateway.authz.cedar import PolicyError
from gateway.commands import (
    advice,
    apply,
    audit,
    backup,
    demo,
    doctor,
    export,
    files,
    keys,
    schema,
    serve,
    tenants,
)
from gateway.commands.arguments import USAGE, Parser
from gateway.scaling.scaler import StartFailed
from gateway.settings import Settings, SettingsError, load
from tenants.errors import Faulty, NotFound, TenantsError

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    given = _parser().parse_args(arguments)
    _log_to_stderr()
    settings = _settings(given)
    try:
        sys.exit(uvloop.run(given.run(settings, given)))
    except Faulty as fault:
        _faulty(fault, "nothing was applied")
    except NotFound as fault:
        _fail(f"{fault.sentence}; {advice.of_absent(fault.kind)}")
    except TenantsError as fault:
        _fail(fault.sentence if str(fault) == fault.sentence else f"{fault.sentence} ({fault})")
    except OSError as fault:
        _fail(advice.of_system(fault, given, settings))
    except (StartFailed, PolicyError, SegmentFailed, SinkFailed) as fault:
        _fail(str(fault))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _settings(given: argparse.Namespace) -> Settings:
    """By the command line, else the environment, else the configuration."""
    file = None
    names = ("state", "port", "grpc_port", "operator_port", "repository")
    if (
        getattr(given, "port", None) == 0
        and given.grpc_port is None
        and "GATEWAY_GRPC_PORT" not in os.environ
    ):
        given.grpc_port = 0  # who wants a free port wants no fixed one beside it
    try:
        if path := getattr(given, "config", None):
            file = config.read(files.source(path))
        return load(os.environ, file, **{name: getattr(given, name, None) for name in names})
    except Faulty as fault:
        _faulty(fault, f"{given.config} is no configuration that makes sense", USAGE)
    except SettingsError as fault:
        _fail(str(fault), USAGE)
    except OSError as fault:
        _fail(advice.of_system(fault, given))


def _log_to_stderr() -> None:
    """A line has its time (UTC), level and origin, whoever wrote it: uvicorn and asyncio too."""
    line = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    line.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(line)
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for room in ("gateway", "tenants"):
        logging.getLogger(room).setLevel(logging.INFO)


def _faulty(faulty: Faulty, sentence: str, code: int = 1) -> NoReturn:
    """A line for each fault, as compilers and editors have them, and what that means."""
    print(faulty.sentence, file=sys.stderr)
    _fail(sentence, code)


def _fail(sentence: str, code: int = 1) -> NoReturn:
    print(f"gateway: {sentence}", file=sys.stderr)
    sys.exit(code)


def _parser() -> Parser:
    state = Parser(add_help=False)
    state.add_argument("--state", type=Path, metavar="DIR", help="state directory (default: .state)")
    state.add_argument("--json", action="store_true", help="print JSON for programs")
    common = Parser(add_help=False, parents=[state])
    common.add_argument("--config", type=Path, metavar="FILE", help="configuration, as gateway.yaml")
    parser = Parser(prog="gateway", description="Serverless multi-tenant model gateway for NVIDIA Triton.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.add(commands, state)
    serve.add(commands, common)
    apply.add(commands, common)
    export.add(commands, common)
    tenants.add(commands.add_parser("tenants", help="the customers"), common)
    keys.add(commands.add_parser("keys", help="a tenant's API keys"), common)
    audit.add(commands.add_parser("audit", help="the audit log"), common)
    backup.add(commands, common)
    doctor.add(commands, common)
    schema.add(commands)
    return parser


if __name__ == "__main__":
    main()
