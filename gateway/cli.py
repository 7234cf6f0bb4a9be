"""The command line: a thin door onto the rooms. Tables for people, `--json` for programs, errors that say what to do next.

Exit codes: 0 done, 1 failed or denied (`policy check`), 2 differences found (`apply --dry-run`), 64 wrong usage.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import uvloop

from gateway import __version__, config
from gateway.audit.ports import SegmentFailed, SinkFailed
from gateway.authz.errors import PolicyError
from gateway.cluster.membership import Crowded, Ended
from gateway.commands import (
    advice,
    apply,
    audit,
    backup,
    captures,
    certificates,
    data_keys,
    demo,
    doctor,
    export,
    files,
    issuers,
    key_file,
    keys,
    members,
    policy,
    schema,
    serve,
    tenants,
    usage,
    values,
)
from gateway.commands.arguments import USAGE, Parser, example
from gateway.commands.command import add_noun
from gateway.kept.ports import BlobsUnavailable
from gateway.scaling.scaler import StartFailed
from gateway.settings import Settings, SettingsError, load
from gateway.tls.errors import TlsRefused
from tenants.errors import Faulty, TenantsError

_INTERRUPTED: Final = 130

_NOUNS: Final = (
    ("tenants", "the customers", (*tenants.COMMANDS, *issuers.COMMANDS)),
    ("members", "the people of a tenant", members.MEMBERS),
    ("accounts", "the service accounts of a tenant: programs that control it", members.ACCOUNTS),
    ("keys", "the API keys of a tenant, or of the operators", keys.COMMANDS),
    ("data-keys", "the keys that a tenant's data is sealed with", data_keys.COMMANDS),
    ("plans", "what tenants can buy", values.PLANS),
    ("privacies", "what is masked and kept of tenants' requests", values.PRIVACIES),
    ("captures", "what a tenant's models were asked and replied", captures.COMMANDS),
    ("models", "what tenants can call", values.MODELS),
    ("fleet", "the kinds of Triton servers", values.FLEET),
    ("issuers", "identity providers of many tenants, or of the operators", (*values.ISSUERS, issuers.CHECK)),
    ("certificates", "the client certificates that are a tenant's credentials", certificates.COMMANDS),
    ("policy", "what the policies say, and why", policy.COMMANDS),
    ("key-file", "the keys that wrap the tenants' data keys, where no KMS does", key_file.COMMANDS),
    ("audit", "who changed what, and whether the log of calls is whole", audit.COMMANDS),
)
_EXAMPLES: Final = {
    "demo": "--repository path/to/your/triton/repository",
    "serve": "--config gateway.yaml",
    "apply": "-f documents --dry-run --config gateway.yaml",
    "export": "-f documents --config gateway.yaml",
    "doctor": "--config gateway.yaml",
    "usage": "--tenant acme --by day --from 2026-11-01",
    "schema": "--kind Model",
    "backup": "/backups/monday --config gateway.yaml",
    "restore": "/backups/monday --state new",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    given = parser().parse_args(arguments)
    _log_to_stderr()
    settings = _settings(given)
    if settings.log_debug:
        _log_of_ours(logging.DEBUG)
    try:
        sys.exit(uvloop.run(given.run(settings, given)))
    except Faulty as fault:
        _faulty(fault, "nothing was applied")
    except TenantsError as fault:
        sentence = fault.sentence if str(fault) == fault.sentence else f"{fault.sentence} ({fault})"
        _fail("; ".join(filter(None, (sentence, advice.of_refusal(fault)))))
    except BrokenPipeError:  # who reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as fault:
        _fail(advice.of_system(fault, given, settings))
    except (
        *(StartFailed, PolicyError, SegmentFailed, SinkFailed, TlsRefused, BlobsUnavailable),
        *(Crowded, Ended),
    ) as fault:
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
    _log_of_ours(logging.INFO)


def _log_of_ours(level: int) -> None:
    """What others write stays at WARNING: some of it says what was sent."""
    for room in ("gateway", "tenants"):
        logging.getLogger(room).setLevel(level)


def _faulty(faulty: Faulty, sentence: str, code: int = 1) -> NoReturn:
    """A line for each fault, as compilers and editors have them, and what that means."""
    print(faulty.sentence, file=sys.stderr)
    _fail(sentence, code)


def _fail(sentence: str, code: int = 1) -> NoReturn:
    print(f"gateway: {sentence}", file=sys.stderr)
    sys.exit(code)


def parser() -> Parser:
    """All that can be asked for."""
    state = Parser(add_help=False)
    state.add_argument("--state", type=Path, metavar="DIR", help="state directory (default: .state)")
    state.add_argument("--json", action="store_true", help="print JSON for programs")
    common = Parser(add_help=False, parents=[state])
    common.add_argument("--config", type=Path, metavar="FILE", help="configuration, as gateway.yaml")
    root = Parser(prog="gateway", description="Serverless multi-tenant model gateway for NVIDIA Triton.")
    root.add_argument("--version", action="version", version=__version__)
    root.epilog = example("demo")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.add(commands, state)
    serve.add(commands, common)
    apply.add(commands, common)
    export.add(commands, common)
    doctor.add(commands, common)
    usage.add(commands, common)
    schema.add(commands)
    backup.add(commands, common)
    for name, words in _EXAMPLES.items():
        commands.choices[name].epilog = example(f"{name} {words}")
    for noun, about, table in _NOUNS:
        add_noun(commands, common, noun, about, table)
    return root


if __name__ == "__main__":
    main()
