"""Sealed objects open as what they were sealed as, whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.envelope import sealed as module
from gateway.envelope.derived import NotOpened, derived, named
from gateway.envelope.keys import Context, DataKey, Material
from gateway.envelope.sealed import FRAME_BYTES, HEAD_BYTES, Opening, Sealing, key_id, seal, unseal
from tests.gateway.envelope.support import CONTEXT, KEY, OTHER, SALT, opens

GOLDEN = Path(__file__).parent / "golden" / "sealed_v1.bin"
HEAD = 4 + 1 + len(KEY.id) + 32 + 32
FRAME = FRAME_BYTES + 16
THREE = b"".join(bytes([number]) * FRAME_BYTES for number in (1, 2)) + b"end"


def parts(sealed: bytes) -> list[bytes]:
    """Its head, then its frames."""
    return [
        sealed[:HEAD],
        *(sealed[start : start + FRAME] for start in range(HEAD, len(sealed), FRAME)),
    ]


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """In pieces of these sizes, again and again."""
    start = index = 0
    while start < len(data):
        size = sizes[index % len(sizes)]
        yield data[start : start + size]
        start, index = start + size, index + 1


def test_version_1_keeps_its_bytes() -> None:
    assert seal(KEY, CONTEXT, b"what was said", SALT) == GOLDEN.read_bytes()


def test_version_1_is_what_its_description_says() -> None:
    """Opened by the description alone, with nothing of the room's but the primitives."""
    sealed = GOLDEN.read_bytes()
    magic, size, rest = sealed[:4], sealed[4], sealed[5:]
    data_key, rest = rest[:size], rest[size:]
    salt, commitment, frame = rest[:32], rest[32:64], rest[64:]
    names = b"".join(len(name).to_bytes(2, "big") + name.encode() for name in CONTEXT)
    found = derived(KEY.material.reveal(), salt=salt, info=b"gateway sealed object v1\0" + names)
    nonce = bytes(11) + b"\1"
    bound = magic + len(data_key).to_bytes(2, "big") + data_key + names + nonce
    assert (magic, data_key, salt, commitment) == (b"GWS\1", b"d_first", SALT, found.commitment)
    assert AESGCM(found.key).decrypt(nonce, frame, bound) == b"what was said"


@pytest.mark.parametrize("plain", [b"", b"x", b"what was said"])
def test_every_flipped_bit_and_every_cut_end_is_noticed(plain: bytes) -> None:
    sealed = seal(KEY, CONTEXT, plain, SALT)
    assert unseal(KEY, CONTEXT, sealed) == plain
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            assert not opens(lambda: unseal(KEY, CONTEXT, bytes(changed))), (place, bit)  # noqa: B023 - called at once
        assert not opens(lambda: unseal(KEY, CONTEXT, sealed[:place])), place  # noqa: B023 - the same
    assert not opens(lambda: unseal(KEY, CONTEXT, sealed + b"\0"))


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES])
def test_sizes_at_the_borders_of_frames_come_back_whole(size: int) -> None:
    plain = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    sealed = seal(KEY, CONTEXT, plain, SALT)
    frames = max(1, -(-size // FRAME_BYTES))
    assert len(sealed) == HEAD + size + frames * 16
    assert unseal(KEY, CONTEXT, sealed) == plain


def test_frames_that_are_swapped_repeated_left_out_or_cut_do_not_open() -> None:
    head, one, two, last = parts(seal(KEY, CONTEXT, THREE, SALT))
    assert unseal(KEY, CONTEXT, b"".join([head, one, two, last])) == THREE
    other = parts(seal(KEY, CONTEXT, THREE, SALT[::-1]))
    for frames in (
        [two, one, last],
        [one, one, last],
        [one, two, two, last],
        [one, last],
        [two, last],
        [last],
        [one, two],
        [one],
        [],
        [one, two, last[:-1]],
        [one, two, last, last],
        [one, last, two],
        [one, other[2], last],
        [one, two, other[3]],
    ):
        assert not opens(lambda: unseal(KEY, CONTEXT, head + b"".join(frames)))  # noqa: B023 - called at once


def test_an_end_that_is_empty_is_an_end() -> None:
    sealing = Sealing(KEY, CONTEXT, SALT)
    full = sealing.frame(b"f" * FRAME_BYTES, last=False)
    sealed = sealing.head + full + sealing.frame(b"", last=True)
    assert unseal(KEY, CONTEXT, sealed) == b"f" * FRAME_BYTES
    assert not opens(lambda: unseal(KEY, CONTEXT, sealing.head + full))


@pytest.mark.parametrize(
    "context",
    [
        CONTEXT._replace(tenant="t_other"),
        CONTEXT._replace(purpose="capture"),
        CONTEXT._replace(record="r_2"),
        Context("t_acmer", "eplies", "r_1"),
    ],
)
def test_what_is_of_another_tenant_purpose_or_record_does_not_open(context: Context) -> None:
    assert not opens(lambda: unseal(KEY, context, GOLDEN.read_bytes()))


def test_another_key_does_not_open_it_whatever_its_id() -> None:
    renamed = DataKey("d_other", KEY.material)
    assert not opens(lambda: unseal(OTHER, CONTEXT, GOLDEN.read_bytes()))
    assert not opens(lambda: unseal(renamed, CONTEXT, GOLDEN.read_bytes()))
    assert not opens(lambda: unseal(KEY, CONTEXT, GOLDEN.read_bytes().replace(b"d_first", b"d_other")))


# One ciphertext for two keys. The tag of a single block c is T(0) + c H^2 in GF(2^128), with + for exclusive or, so a c that has
# the same tag under both keys is (T1(0) + T2(0)) / (H1^2 + H2^2).

_R = 0xE1 << 120


def times(x: int, y: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (_R if y & 1 else 0)
    return product


def inverse(x: int) -> int:
    """x to the power of 2^128 - 2."""
    result = 1 << 127  # one
    for _ in range(127):
        x = times(x, x)
        result = times(result, x)
    return result


def test_a_ciphertext_that_two_keys_open_in_bare_gcm_is_opened_by_one_at_most() -> None:
    nonce = bytes(11) + b"\1"
    names = named(*CONTEXT)
    bound = b"GWS\1" + named(KEY.id) + names + nonce
    found = [
        derived(it.material.reveal(), salt=SALT, info=b"gateway sealed object v1\0" + names)
        for it in (KEY, OTHER)
    ]
    streams, tags, squares = [], [], []
    for key, _ in found:
        stream = AESGCM(key).encrypt(nonce, bytes(16), bound)[:16]
        streams.append(stream)
        tags.append(int.from_bytes(AESGCM(key).encrypt(nonce, stream, bound)[16:], "big"))
        h = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))  # noqa: S305 - GCM's H
        squares.append(times(int.from_bytes(h, "big"), int.from_bytes(h, "big")))
    block = times(tags[0] ^ tags[1], inverse(squares[0] ^ squares[1]))
    both = block.to_bytes(16, "big") + (tags[0] ^ times(block, squares[0])).to_bytes(16, "big")

    plains = [AESGCM(key).decrypt(nonce, both, bound) for key, _ in found]  # bare GCM opens it under each
    assert plains[0] != plains[1]
    for mine, (_, commitment) in enumerate(found):
        crafted = b"GWS\1" + bytes([len(KEY.id)]) + KEY.id.encode() + SALT + commitment + both
        assert [opens(lambda: unseal(it, CONTEXT, crafted)) for it in (KEY, OTHER)] == [  # noqa: B023 - called at once
            mine == 0,
            mine == 1,
        ]


def test_the_id_of_the_key_is_told_from_the_head_alone_and_of_nothing_else() -> None:
    longest = DataKey("d" * 64, Material(bytes(32)))
    sealed = seal(longest, CONTEXT, b"plain", SALT)
    assert key_id(sealed[:HEAD_BYTES]) == longest.id
    assert key_id(GOLDEN.read_bytes()) == KEY.id
    for wrong in (
        b"",
        b"GWS\1",
        b"GWS\1\0",
        b"GWS\1\7d_firs",
        b"GWS\2\7d_first",
        b'{"v":1}',
        b"GWS\1\7d first",
        b"GWS\1\1\n",
        b"GWS\1\x41" + b"d" * 65,
    ):
        assert not opens(lambda: key_id(wrong)), wrong  # noqa: B023 - called at once


def test_what_cannot_be_sealed_is_refused_before_it_is() -> None:
    for salt in (b"", SALT[:-1], SALT + b"\0"):
        with pytest.raises(ValueError, match="32 bytes"):
            seal(KEY, CONTEXT, b"", salt)
    for name in ("", "d" * 65, "d.1", "d\n"):
        with pytest.raises(ValueError, match="id of a data key"):
            seal(DataKey(name, KEY.material), CONTEXT, b"", SALT)
    sealing = Sealing(KEY, CONTEXT, SALT)
    for piece, last in ((b"", False), (bytes(FRAME_BYTES - 1), False), (bytes(FRAME_BYTES + 1), True)):
        with pytest.raises(ValueError, match="a frame of"):
            sealing.frame(piece, last=last)
    sealing.frame(b"", last=True)
    with pytest.raises(ValueError, match="behind the last one"):
        sealing.frame(b"", last=True)


def test_the_frames_of_an_object_have_an_end_before_their_nonces_do() -> None:
    sealing, opening = Sealing(KEY, CONTEXT, SALT), Opening(KEY, CONTEXT)
    opening.feed(sealing.head)
    for frames in (sealing._frames, opening._frames):
        assert frames is not None
        frames._position = module.MOST_FRAMES - 1
    frame = sealing.frame(bytes(FRAME_BYTES), last=False)
    with pytest.raises(ValueError, match="65536th"):
        sealing.frame(b"", last=True)
    assert opening.feed(frame + b"\0") == [bytes(FRAME_BYTES)]
    assert not opens(opening.end)


def test_an_opening_that_has_failed_or_ended_gives_nothing_more() -> None:
    sealed = GOLDEN.read_bytes()
    wrong = Opening(KEY, CONTEXT)
    assert not opens(lambda: wrong.feed(b"GWS\2"))
    assert not opens(lambda: wrong.feed(sealed[4:]))
    assert not opens(wrong.end)
    done = Opening(KEY, CONTEXT)
    assert [*done.feed(sealed), done.end()] == [b"what was said"]
    assert not opens(lambda: done.feed(b""))
    assert not opens(done.end)


def test_an_opening_holds_one_frame_at_most() -> None:
    opening, given = Opening(KEY, CONTEXT), []
    for piece in cut(seal(KEY, CONTEXT, THREE, SALT), [65_536]):
        given += opening.feed(piece)
        assert len(opening._waiting) <= FRAME
    assert b"".join([*given, opening.end()]) == THREE
    assert max(map(len, given)) == FRAME_BYTES


def test_why_something_does_not_open_is_told_to_nobody() -> None:
    said = set()
    for wrong in (
        b"",
        GOLDEN.read_bytes()[:-1],
        b"GWS\2",
        GOLDEN.read_bytes().replace(b"d_first", b"d_other"),
    ):
        with pytest.raises(NotOpened) as caught:
            unseal(KEY, CONTEXT, wrong)
        said.add((str(caught.value), caught.value.__cause__))
    assert said == {("it does not open", None)}


@given(
    plain=st.binary(max_size=300),
    salt=st.binary(min_size=32, max_size=32),
    names=st.tuples(*[st.text(max_size=40)] * 3),
    sizes=st.lists(st.integers(1, 90), min_size=1),
)
def test_any_plain_text_comes_back_however_its_bytes_come(
    plain: bytes, salt: bytes, names: tuple[str, str, str], sizes: list[int]
) -> None:
    context = Context(*names)
    opening, given = Opening(KEY, context), []
    for piece in cut(seal(KEY, context, plain, salt), sizes):
        given += opening.feed(piece)
    assert b"".join([*given, opening.end()]) == plain


@given(data=st.binary(max_size=400), tail=st.binary(max_size=200))
@settings(max_examples=300)
def test_bytes_that_nobody_sealed_never_open(data: bytes, tail: bytes) -> None:
    for crafted in (data, GOLDEN.read_bytes()[:HEAD] + data, GOLDEN.read_bytes()[: 5 + len(KEY.id)] + tail):
        if crafted != GOLDEN.read_bytes():
            assert not opens(lambda: unseal(KEY, CONTEXT, crafted))  # noqa: B023 - called at once
