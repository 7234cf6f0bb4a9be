"""What `python -m tests.bench.identity` says: a figure of each, with its bar, of callers who were admitted."""

import pytest

from tests.bench import identity
from tests.bench.report import Bar


async def test_it_measures_keys_and_tokens_and_what_it_measures_is_there() -> None:
    key, token, met = await identity.bars(20)
    assert (key.most, token.most, met.is_aim) == (identity.MOST_KEY_US, identity.MOST_TOKEN_US, True)
    assert min(key.figure, token.figure) > 0
    assert met.figure > token.figure  # a signature is more than a digest


@pytest.mark.parametrize(("figure", "code"), [(12.0, 0), (12.1, identity.MISSED)])
def test_a_bar_that_is_missed_ends_it_with_another_code(
    figure: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [Bar(what="a warm key", figure=figure, most=12.0), Bar(what="a new token", figure=1e9)]
    assert identity.told(found) == code
    assert capsys.readouterr().out.count("MISSED") == (code != 0)
