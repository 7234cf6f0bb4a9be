import pytest

from tests.contracts.segment import SegmentContract
from tests.worlds.segments import SegmentWorld


class TestSegmentWorld(SegmentContract):
    @pytest.fixture
    def store(self) -> SegmentWorld:
        return SegmentWorld(segment_bytes=4096)
