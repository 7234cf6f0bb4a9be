"""`gateway key-file`: the file whose keys wrap the tenants' data keys, where no KMS does."""

import argparse
from typing import Final

from gateway.commands.command import Command
from gateway.commands.printing import Sheet, program, short, show, when
from gateway.settings import Settings
from gateway.state_keys import add_to_key_file, create_key_file, key_file_path, keys_of_file


async def _create(settings: Settings, given: argparse.Namespace) -> int:
    made, path = create_key_file(settings), short(key_file_path(settings))
    show({"key": made, "file": path}, given)
    if not given.json:
        print(f"{path} is all that opens what will be sealed: back it up, and apart from the state.")
    return 0


async def _add(settings: Settings, given: argparse.Namespace) -> int:
    made, path = add_to_key_file(settings), short(key_file_path(settings))
    show({"key": made, "file": path}, given)
    if not given.json:
        print("It wraps from now on, and the others still open what they wrapped. Back the file up anew.")
    return 0


async def _check(settings: Settings, given: argparse.Namespace) -> int:
    try:
        keys = keys_of_file(settings)
    except FileNotFoundError:
        path = key_file_path(settings)
        raise OSError(
            f"there is no key file {path} yet: the first `gateway serve` makes it, or {program()} key-file create"
        ) from None
    sheet = Sheet(as_json=given.json)
    sheet.add([{"key": key, "made": when(us), "wraps": key == keys[-1][0]} for key, us in keys])
    return sheet.end()


COMMANDS: Final = (
    Command("create", "make one where there is none, as `keys.file` says or in the state", _create),
    Command("add", "give it a new key, which wraps from then on", _add),
    Command("check", "whether it is whole, its owner's alone, and that of the state; shows its keys", _check),
)
