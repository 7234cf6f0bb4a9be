"""What the commands have in common: how arguments are read, and who is acting."""

import argparse
import os
import pwd
import sys
from typing import Any, Final, NoReturn, TypeAlias

import msgspec

from gateway.settings import Settings
from tenants import keys
from tenants.plans import Rate

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - argparse has no public name for it

USAGE: Final = 64

_CURSOR_BYTES: Final = 500
_SEEN: Final = (
    "whoever lists this machine's processes sees an argument, and the shell remembers it. "
    "End the key: keys revoke --by-secret - < FILE"
)
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Parser(argparse.ArgumentParser):
    """argparse with the exit code that the contract names. An epilog is printed as it is."""

    def __init__(self, **how: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **how)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse lets the first parser say what the command does not know, with a usage that names no command."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}; see: {self.prog} --help\n")


def duration(text: str) -> int:
    """`30d` and its like, in seconds."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdigit() or not 0 < int(number) < 100_000:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30m, 12h, 30d or 2w")
    return int(number) * _UNITS[unit]


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of things; write 1, 20 or 500")
    return int(text)


def rate(text: str) -> Rate:
    """`5:10`: so many a second, and so many at once."""
    pace, _, burst = text.partition(":")
    try:
        return msgspec.convert({"rate": float(pace), "burst": int(burst)}, Rate)
    except (ValueError, msgspec.ValidationError) as fault:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no rate; write 5:10 for 5 a second and 10 at once"
        ) from fault


def key_id(text: str) -> str:
    """Of an API key. Its text is not repeated: it was shown to this machine, and is to be shown to nobody else."""
    if keys.is_told_by(text):
        raise argparse.ArgumentTypeError(f"that is a key's text, not its id; {_SEEN}")
    return text


def from_input(text: str) -> str:
    """`-`, and nothing else: what is an argument is seen by others, so a key's text is none."""
    if text != "-":
        raise argparse.ArgumentTypeError(
            f"takes - alone, and the key's text from the standard input; {_SEEN}"
        )
    return text


def token_from_input(text: str) -> str:
    """`-`, and nothing else, as `from_input`."""
    if text != "-":
        raise argparse.ArgumentTypeError(
            "takes - alone, and the token from the standard input (- < FILE): whoever lists this machine's processes sees an argument, "
            "and the shell remembers it"
        )
    return text


def cursor(text: str) -> str:
    """What a list said of its next part; a store takes no longer key."""
    if not text.isprintable() or not 0 < len(text.encode()) <= _CURSOR_BYTES:
        raise argparse.ArgumentTypeError("that is no place in a list; write what the list before said")
    return text


def some(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(text.split(","))


def wrong_usage(sentence: str) -> int:
    """What argparse cannot tell, said as it would be."""
    print(f"gateway: {sentence}", file=sys.stderr)
    return USAGE


def example(words: str) -> str:
    """The end of a command's help."""
    return f"example:\n  gateway {words.strip()}"


def port(text: str) -> int:
    if not text.isdigit() or int(text) > 65_535:  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write 0 to 65535")
    return int(text)


def actor() -> str:
    """The unix user, whatever the environment says."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # as in a container under a number of its own
        return f"cli:{os.getuid()}"


def add_doors(parser: Parser) -> None:
    """Where a serving command listens. What it leaves out, `Settings` say."""
    defaults = Settings()
    parser.add_argument("--port", type=port, help=f"HTTP port (default: {defaults.port}; 0 picks a free one)")
    parser.add_argument(
        "--grpc-port", type=port, help=f"gRPC port (default: {defaults.grpc_port}; 0 picks a free one)"
    )
    parser.add_argument(
        "--operator-port",
        type=port,
        help=f"port for operators (default: {defaults.operator_port}; 0 picks a free one)",
    )
