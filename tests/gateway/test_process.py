"""What the process is told of itself, also when it is in trouble."""

import os
import resource
import subprocess
import sys

import msgspec
import pytest

from gateway.process import identity, resident_bytes, used_bytes

MIB = 2**20


def test_what_the_process_takes_is_told_also_when_no_file_can_be_opened() -> None:
    before = resident_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        ballast = b"x" * (64 * MIB)
        grown = resident_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert before + len(ballast) // 2 < grown


def test_what_is_free_does_not_count_as_used() -> None:
    pieces = [bytes(8_000) for _ in range(16_000)]
    grown = resident_bytes()
    left = pieces[::100]  # so that glibc keeps what lies between
    pieces.clear()
    assert grown - used_bytes() > 64 * MIB
    assert len(left) == 160


_JUDGE = """
import os, sys
import msgspec
from gateway.cluster.certificates import NotProven, Process, gone
from gateway.process import identity, stat_of
found = msgspec.json.decode(sys.argv[1], type=Process)
try:
    print(gone("m1", found, stat_of(found.pid), identity(os.getpid())))
except NotProven as fault:
    print("not proven:", fault)
"""


def test_who_counts_time_from_elsewhere_proves_nobody_gone() -> None:
    """The same process was started at another time there, so it would be taken for another one that was given its number."""
    shifted = ("unshare", "--user", "--map-root-user", "--time", "--boottime", "1000", "--fork")
    if subprocess.run([*shifted, "true"], check=False).returncode:
        pytest.skip("this machine lets nobody have a time of his own")
    own = msgspec.json.encode(identity(os.getpid())).decode()
    told = subprocess.check_output([*shifted, sys.executable, "-c", _JUDGE, own], text=True)
    assert told.startswith("not proven: m1 ran under another kernel")
