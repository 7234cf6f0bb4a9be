"""What a model is sent holds none of the personal data that its tenant has masked, wherever in the request it stood."""

import json
import random
import re
from typing import Any

import pytest

from gateway.errors import Code, GatewayError
from gateway.privacy.looks import NotScreened
from gateway.privacy.mask import MOST_CHARACTERS, Screen
from gateway.wire import oip_grpc
from gateway.wire.oip import judge_infer
from gateway.wire.screened import (
    has_texts_behind,
    masked_bytes,
    masked_elements,
    masked_head,
    masked_infer,
    masked_json,
    masked_message,
)
from tenants.privacy import Privacy

MAIL = "ann@example.com"
IMAGE = "data:image/png;base64,iVBORw0KGgo4111111111111111/+A=="


def screen() -> Screen:
    return Screen(Privacy("discreet", mask=("email", "payment_card")))


def elements(*texts: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def test_every_string_of_a_body_is_masked_and_all_else_stays_byte_for_byte() -> None:
    body = (
        b'{ "a":"to \\u0061nn@example.com", "n":1.10e+02,"x":["ann@example.com",true,null, "\\u00e9"],'
        b'"ann@example.com":{"deep":"{\\"to\\":\\"ann@example.com\\"}"}}'
    )
    assert masked_json(body, screen()) == (
        b'{ "a":"to [EMAIL]", "n":1.10e+02,"x":["[EMAIL]",true,null, "\\u00e9"],'
        b'"[EMAIL]":{"deep":"{\\"to\\":\\"[EMAIL]\\"}"}}'
    )


def test_an_image_passes_and_a_text_that_only_begins_like_one_does_not() -> None:
    sent = {"url": IMAGE, "text": f"data:image/png;base64, {MAIL}"}
    assert json.loads(masked_json(json.dumps(sent).encode(), screen())) == {
        "url": IMAGE,
        "text": "data:image/png;base64, [EMAIL]",
    }


@pytest.mark.parametrize("body", [b'{"a":"\xff"}', b'{"a":"\\ud800"}', b'{"a":"\\x"}', b'{"a":"\n"}'])
def test_a_string_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        masked_json(body, screen())
    assert caught.value.code is Code.BAD_REQUEST


def test_a_string_that_does_not_end_makes_no_json_of_what_is_none() -> None:
    assert masked_json(b'{"a":"b', screen()) == b'{"a":"b'


def test_more_text_than_can_be_looked_through_in_good_time_is_refused_however_it_is_cut() -> None:
    one = b'"a",' * (MOST_CHARACTERS // 5 + 1)
    with pytest.raises(NotScreened, match="more than"):
        masked_json(b"[" + one + b"1]", screen())


def test_the_id_of_a_sequence_stays_as_it_is_so_that_two_callers_sequences_stay_two() -> None:
    head = {
        "id": MAIL,
        "parameters": {"sequence_id": MAIL, "sequence_start": True, "mine": MAIL},
        "inputs": [],
    }
    written = json.dumps(head).replace("sequence_id", "sequence_\\u0069d").encode()
    judged = judge_infer(masked_head(written, screen()), 0)
    assert judged.sequence is not None
    assert judged.sequence.id == MAIL
    assert MAIL.encode() not in judged.head + judged.sequence.head(7)
    asked = message(parameters={"sequence_id": {"string_param": MAIL}, "mine": {"string_param": MAIL}})
    told = oip_grpc.judge_infer(masked_message(asked, screen()), is_stream=False)
    assert told.sequence is not None
    assert told.sequence.id == MAIL
    assert MAIL.encode() not in told.head + told.sequence.head(7)


def tensor(name: str, datatype: str, size: int) -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": size}}


def test_binary_texts_are_masked_and_their_sizes_told_anew_between_numbers_that_stay() -> None:
    numbers, texts = b"4111111111111111", elements(f"to {MAIL}".encode(), b"\0\xff" + MAIL.encode(), b"")
    head = json.dumps(
        {"inputs": [tensor("a", "INT8", 16), tensor("b", "BYTES", len(texts)), tensor("c", "INT8", 16)]}
    ).encode()
    assert has_texts_behind(head)
    told, tensors = masked_infer(head, numbers + texts + numbers, screen())
    masked = elements(b"to [EMAIL]", b"\0\xff" + MAIL.encode(), b"")
    assert tensors == numbers + masked + numbers
    judge_infer(told, len(tensors))
    sizes = [it["parameters"]["binary_data_size"] for it in json.loads(told)["inputs"]]
    assert sizes == [16, len(masked), 16]


@pytest.mark.parametrize("datatype", ["BYTES", "BYTES\0", "bytes", ""])
def test_only_what_is_known_to_be_numbers_is_taken_for_numbers(datatype: str) -> None:
    assert has_texts_behind(json.dumps({"inputs": [tensor("a", datatype, 16)]}).encode())
    assert not has_texts_behind(json.dumps({"inputs": [tensor("a", "FP32", 16)]}).encode())


@pytest.mark.parametrize("cut", [b"\1", b"\1\0\0", b"\2\0\0\0a", b"\xff\xff\xff\xff"])
def test_a_tensor_that_breaks_off_is_refused(cut: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        masked_elements(elements(b"a") + cut, screen())
    assert caught.value.code is Code.BAD_REQUEST


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "iso8859-15"],
)
def test_an_element_is_masked_in_the_encoding_that_it_is_in_and_else_stays_as_it_is(encoding: str) -> None:
    text = (
        f"Gr\u00fc\u00dfe an \u00e9mile@example.org, na\u00efve <{MAIL}>, d\u00e9j\u00e0 4111 1111 1111 1111"
    )
    element = text.encode(encoding)
    wanted = "Gr\u00fc\u00dfe an [EMAIL], na\u00efve <[EMAIL]>, d\u00e9j\u00e0 [PAYMENT_CARD]".encode(
        encoding
    )
    assert masked_bytes(element, screen()) == wanted


def test_zeros_hide_no_text_in_an_element_that_may_be_read_as_two_encodings() -> None:
    for zeros in (b"x\0", b"\0x"):
        assert masked_bytes(MAIL.encode() + b" " + zeros * 40, screen()) == b"[EMAIL] " + zeros * 40


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "koi8-r", "euc-kr", "windows-1251"])
def test_of_an_element_in_another_encoding_of_bytes_what_is_ascii_is_masked(encoding: str) -> None:
    before = {"shift_jis": "\u65e5\u672c", "gbk": "\u4e2d\u6587", "euc-kr": "\uc8fc"}.get(
        encoding, "\u043f\u043e"
    )
    element = f"{before} <{MAIL}>".encode(encoding)
    assert masked_bytes(element, screen()) == f"{before} <[EMAIL]>".encode(encoding)


def test_an_element_that_is_no_text_stays_byte_for_byte() -> None:
    rng = random.Random(7)
    for size in (0, 1, 2, 3, 16, 1000):
        for _ in range(200):
            data = rng.randbytes(size)
            assert masked_bytes(data, screen()) == data
    picture = b"\x89PNG\r\n\x1a\n" + MAIL.encode()
    assert masked_bytes(picture, screen()) == picture


def test_two_keys_that_would_become_one_are_refused_and_a_value_is_never_lost() -> None:
    for two in (
        b'{"a@example.com": 1, "b@example.com": 2}',
        b'[{"x": {"a@example.com" : 1, "y": 1, "[EMAIL]": 2}}]',
    ):
        with pytest.raises(GatewayError, match="two keys") as caught:
            masked_json(two, screen())
        assert caught.value.code is Code.NOT_MASKED
    one = b'[{"a@example.com": 1}, {"b@example.com": {"c@example.com": "[EMAIL]"}}, {"x": 1, "x": "a@example.com"}]'
    assert masked_json(one, screen()) == re.sub(rb"[abc]@example.com", b"[EMAIL]", one)
    numbered = Screen(Privacy("discreet", mask=("email",), reversible=True))
    assert b'"[EMAIL_1]": 1, "[EMAIL_2]": 2' in masked_json(
        b'{"a@example.com": 1, "b@example.com": 2}', numbered
    )


@pytest.mark.parametrize("body", [b'{"a@example.com": 1', b'{"a@example.com": ' + b"[" * 100_000])
def test_what_is_no_json_is_refused_where_its_keys_are_looked_at(body: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        masked_json(body, screen())
    assert caught.value.code is Code.BAD_REQUEST


def message(**fields: Any) -> oip_grpc.Asked:
    return oip_grpc.read_infer(oip_grpc.InferRequest(model_name="m", **fields).SerializeToString())


def sent(asked: oip_grpc.Asked) -> Any:
    """What Triton reads."""
    judged = oip_grpc.judge_infer(asked, is_stream=False)
    return oip_grpc.InferRequest.FromString(judged.head + bytes(asked.tensors))


def test_every_text_of_a_message_is_masked() -> None:
    mine = {"mine": {"string_param": MAIL}}
    contents = {"bytes_contents": [MAIL.encode(), b"\xff"]}
    found = sent(
        masked_message(
            message(
                id=MAIL,
                parameters=mine,
                inputs=[
                    {"name": "a", "datatype": "BYTES", "shape": [2], "parameters": mine, "contents": contents}
                ],
                outputs=[{"name": "b", "parameters": mine}],
            ),
            screen(),
        )
    )
    masked = "[EMAIL]"
    assert found.id == masked
    assert list(found.inputs[0].contents.bytes_contents) == [masked.encode(), b"\xff"]
    for parameters in (found.parameters, found.inputs[0].parameters, found.outputs[0].parameters):
        assert parameters["mine"].string_param == masked


def test_raw_contents_of_texts_are_masked_between_numbers_that_stay() -> None:
    numbers = {"name": "a", "datatype": "INT8", "shape": [16]}
    texts = {"name": "b", "datatype": "BYTES", "shape": [1]}
    asked = message(
        inputs=[numbers, texts, numbers],
        raw_input_contents=[b"4111111111111111", elements(MAIL.encode()), b"4111111111111111"],
    )
    found = sent(masked_message(asked, screen()))
    assert list(found.raw_input_contents) == [
        b"4111111111111111",
        elements(b"[EMAIL]"),
        b"4111111111111111",
    ]


def test_a_parameter_whose_name_is_personal_data_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        masked_message(message(parameters={MAIL: {"bool_param": True}}), screen())
    assert caught.value.code is Code.NOT_MASKED
