"""What a model's document tells people: it can be shown, names nothing twice, and says nothing of how the model is served."""

import pytest
from msgspec.structs import replace

from tenants.model import MOST_ROW_BYTES, Model, TensorMetadata, faults

DIGITS = Model(
    "m_1",
    "digits",
    "/m",
    "*",
    description="Reads digits.\n\tIn 28 by 28 pixels, \u624b\u66f8\u304d\u3000too.",
    tags=("vision", "demo"),
    inputs=(TensorMetadata("image", "FP32", (-1, 28, 28), "ink is 1"),),
    outputs=(TensorMetadata("scores", "FP32", (-1, 10)), TensorMetadata("why", "BYTES", ())),
)


def test_a_good_one_has_no_fault() -> None:
    assert list(faults(DIGITS)) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"description": "a\0b"}, "description"),
        ({"description": "a\x1b[31mb"}, "description"),
        ({"description": "\u202eevil"}, "description"),
        ({"description": "a\u2028b"}, "description"),
        ({"tags": ("vision", "Vision")}, "tags[1]"),
        ({"tags": ("",)}, "tags[0]"),
        ({"tags": ("a", "b", "a")}, "tags"),
        ({"inputs": (DIGITS.inputs[0], DIGITS.inputs[0])}, "inputs"),
        ({"outputs": (DIGITS.inputs[0], TensorMetadata("image", "BOOL", ()))}, "outputs"),
        ({"inputs": (TensorMetadata("a\n", "BOOL", ()),)}, "inputs[0].name"),
        ({"outputs": (TensorMetadata("a", "BOOL", (), "\x07"),)}, "outputs[0].description"),
    ],
)
def test_a_fault_has_its_path(change: dict[str, object], path: str) -> None:
    assert [fault.path for fault in faults(replace(DIGITS, **change))] == [path]


def test_an_input_and_an_output_may_have_one_name() -> None:
    assert list(faults(replace(DIGITS, outputs=DIGITS.inputs))) == []


def test_what_does_not_fit_into_a_row_is_said_of_what_is_largest() -> None:
    large = tuple(TensorMetadata(f"{n:0256}", "FP32", (1,), "\u65e5" * 500) for n in range(64))
    (fault,) = faults(replace(DIGITS, inputs=large[:32], outputs=large))
    assert (fault.path, str(MOST_ROW_BYTES) in fault.reason) == ("outputs", True)


@pytest.mark.parametrize(
    "change", [{"description": ""}, {"tags": ()}, {"inputs": ()}, {"outputs": ()}, {"region": "eu-west"}]
)
def test_what_people_are_told_is_nothing_of_how_it_is_served(change: dict[str, object]) -> None:
    assert replace(DIGITS, **change).is_served_like(DIGITS)
    assert not replace(DIGITS, **change, memory_bytes=5).is_served_like(DIGITS)
