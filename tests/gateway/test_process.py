"""What the process is told of itself, also when it is in trouble."""

import resource

from gateway.process import resident_bytes, used_bytes

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
