"""Replies over gRPC are restored, one for itself, and the tokens of a decoupled model as the one text that they are."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as official

from gateway.privacy.mask import NotRestored
from gateway.wire.restored import MOST_HELD, elements, tensor_of
from gateway.wire.restored_messages import MOST_STREAMED_BYTES, MessageTexts, restored_message
from tests.gateway.wire.test_restored import MAIL, TEXTS, screen

FINAL = "triton_final_response"


def response(
    *outputs: tuple[str, str, list[bytes]], final: bool | None = None, raw: bool = True
) -> official.ModelInferResponse:
    made = official.ModelInferResponse(model_name="m", model_version="1", id="[EMAIL_1]")
    for name, datatype, texts in outputs:
        output = made.outputs.add(name=name, datatype=datatype, shape=[len(texts)])
        if raw:
            made.raw_output_contents.append(tensor_of(texts))
        else:
            output.contents.bytes_contents.extend(texts)
    if final is not None:
        made.parameters[FINAL].bool_param = final
    return made


def message(made: official.ModelInferResponse) -> bytes:
    written: bytes = official.ModelStreamInferResponse(infer_response=made).SerializeToString()
    return written


def token(text: str, *, final: bool | None = None) -> bytes:
    return message(response(("t", "BYTES", [text.encode()]), final=final))


def read(one: bytes) -> official.ModelInferResponse:
    return official.ModelStreamInferResponse.FromString(one).infer_response


def texts_of(messages: list[bytes], name: str = "t") -> list[str]:
    return [
        b"".join(elements(raw)).decode()
        for it in map(read, messages)
        for output, raw in zip(it.outputs, it.raw_output_contents, strict=True)
        if output.name == name
    ]


@given(texts=st.lists(TEXTS, max_size=5), is_raw=st.booleans())
def test_every_element_and_nothing_else_of_a_reply_is_restored(texts: list[str], *, is_raw: bool) -> None:
    made = response(("t", "BYTES", [it.encode() for it in texts]), raw=is_raw)
    made.outputs.add(name="n", datatype="UINT8", shape=[9])
    if is_raw:
        made.raw_output_contents.append(b"[EMAIL_1]")
    made.parameters["said"].string_param = "[EMAIL_1]"
    told = official.ModelInferResponse.FromString(
        restored_message(made.SerializeToString(), screen(), is_stream=False)
    )
    found = (
        list(elements(told.raw_output_contents[0]))
        if is_raw
        else list(told.outputs[0].contents.bytes_contents)
    )
    assert [it.decode() for it in found] == [screen().restore(it) for it in texts]
    assert (told.id, told.parameters["said"].string_param, told.model_name) == (MAIL, MAIL, "m")
    assert list(told.raw_output_contents[1:]) == [b"[EMAIL_1]"] * is_raw


def test_an_error_and_what_has_no_placeholder_stay_byte_for_byte() -> None:
    error = official.ModelStreamInferResponse(error_message="no [EMAIL_1]").SerializeToString()
    assert restored_message(error, screen(), is_stream=True) == error
    assert MessageTexts(screen()).feed(error) == [error]
    plain = message(official.ModelInferResponse(model_name="m")) + b"\xf8\x07\x01"
    assert MessageTexts(screen()).feed(plain) == [plain]
    assert restored_message(plain, screen(), is_stream=True) == plain


def test_what_is_no_message_or_breaks_off_is_not_told() -> None:
    with pytest.raises(NotRestored):
        restored_message(b"[[[", screen(), is_stream=False)
    made = response(("t", "BYTES", [b"[EMAIL_1]"]))
    made.raw_output_contents[0] = made.raw_output_contents[0][:-1]
    with pytest.raises(NotRestored):
        restored_message(made.SerializeToString(), screen(), is_stream=False)


@given(TEXTS, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["no word", "last", "behind"]))
def test_tokens_of_a_decoupled_model_are_one_text_wherever_they_are_cut(
    text: str, cuts: list[int], end: str
) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    tokens = [text[start:stop] for start, stop in pairwise(places)] or [""]
    sent = [token(it, final=None if end == "no word" else False) for it in tokens[:-1]]
    sent.append(token(tokens[-1], final={"no word": None, "last": True, "behind": False}[end]))
    if end == "behind":
        sent.append(message(response(final=True)))
    texts = MessageTexts(screen())
    told = [it for one in sent for it in texts.feed(one)] + texts.end()
    assert "".join(texts_of(told)) == screen().restore(text)
    assert len(told) - len(sent) in (0, 1)
    if end != "no word":
        assert [read(it).parameters[FINAL].bool_param for it in told] == [False] * (len(told) - 1) + [True]


def test_what_may_begin_a_placeholder_waits_and_an_output_without_texts_to_come_gets_a_message_of_its_own() -> (
    None
):
    texts = MessageTexts(screen())
    assert texts_of(texts.feed(token("to [EM", final=False))) == ["to "]
    (told,) = texts.feed(token("AIL_1] [", final=False))
    assert texts_of([told]) == [f"{MAIL} "]
    assert read(told).id == MAIL
    (rest,) = texts.end()
    assert (texts_of([rest]), read(rest).outputs[0].shape, read(rest).id) == (["["], [1], MAIL)
    assert texts.end() == []


def test_of_several_elements_each_is_whole() -> None:
    texts = MessageTexts(screen())
    (told,) = texts.feed(message(response(("t", "BYTES", [b"[EM", b"[EMAIL_1]", b"[EMAIL"]))))
    assert list(elements(read(told).raw_output_contents[0])) == [b"[EM", MAIL.encode(), b"[EMAIL"]
    assert texts.end() == []


def test_what_is_held_of_a_stream_is_bounded_however_many_outputs_it_names() -> None:
    texts = MessageTexts(screen())
    for number in range(3 * MOST_HELD):
        texts.feed(message(response((f"t{number}", "BYTES", [b"[EM"]))))
    (rest,) = texts.end()
    assert len(read(rest).outputs) == MOST_HELD


def test_texts_of_a_message_are_bounded_and_numbers_are_not() -> None:
    made = response(("t", "BYTES", [b"[EMAIL_1]"]))
    made.outputs.add(name="n", datatype="UINT8")
    made.raw_output_contents.append(b"[" * MOST_STREAMED_BYTES)
    (told,) = MessageTexts(screen()).feed(message(made))
    assert read(told).raw_output_contents[1] == b"[" * MOST_STREAMED_BYTES
    with pytest.raises(NotRestored, match="at most"):
        MessageTexts(screen()).feed(token("[" * MOST_STREAMED_BYTES))
