"""Lists that are longer than anybody reads: they can be left in the middle, by the one who types and by the one who reads."""

import signal
import subprocess
from pathlib import Path

import pytest

from tenants.directory import Directory
from tenants.ports import Item
from tenants.rows import TenantPointer, name_at, new_row, tenant_at
from tenants.tenant import Tenant
from tests.e2e.world import PROGRAM, change

MANY = 2400  # of which a page has 1000
AT_ONCE = 12


@pytest.fixture
def long(state: Path) -> Path:
    """A state with more tenants than fit in a page."""

    async def fill(directory: Directory) -> None:
        for first in range(0, MANY, AT_ONCE):
            items: list[Item] = []
            for number in range(first, first + AT_ONCE):
                tenant = Tenant(f"t_{number:020d}", f"customer-{number:04d}", "team", "active", 1)
                items.append(new_row(name_at(tenant.name), TenantPointer(tenant.id)))
                items.append(new_row(tenant_at(tenant.id), tenant))
            await directory.journal.table.transact(*items)

    change(state, fill)
    return state


def listing(state: Path) -> "subprocess.Popen[bytes]":
    """The pipe holds so little of it that nobody is done before he is read, however slowly that is."""
    command = [str(PROGRAM), "tenants", "list", "--state", str(state)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096)


def test_a_list_is_whole(long: Path) -> None:
    with listing(long) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert [line.split()[0] for line in out.splitlines()[1:]] == [
        f"customer-{number:04d}".encode() for number in range(MANY)
    ]


def test_ctrl_c_ends_a_list_in_the_middle_without_a_word(long: Path) -> None:
    with listing(long) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"NAME")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    assert len(out.splitlines()) < MANY


def test_a_reader_that_has_seen_enough_ends_a_list_without_a_word(long: Path) -> None:
    with listing(long) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"NAME")
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (1, b"")
