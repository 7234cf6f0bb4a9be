"""Writes the README's examples: python -m infra.training.example [--picture N] [--out DIR]

digit.json and history.json are OIP v2 inference requests, for a held-out picture (a line for each of its rows) and for
four held-out weeks (a line for each); digit.png shows the picture.
"""

import argparse
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.training import forecast
from infra.training.adam import Array
from infra.training.digits import HELD_OUT, load_split

FOLDER = Path(__file__).parents[1] / "examples"
ZOOM = 8
PICTURE = 27  # of the held-out ones: a seven without a bar, which readers everywhere take for a seven
WINDOW = 48  # of the held-out ones: it rises, and every week has its quiet days


def picture_request(image: Array) -> str:
    """The JSON inference request for one picture [28, 28], values rounded to 3 decimals."""
    return _request("image", "1, 1, 28, 28", np.round(image, 3))


def history_request(values: Array) -> str:
    """The JSON inference request for one window [28], as whole numbers of a shop's orders a day."""
    return _request("history", "1, 28", np.round(120 + 25 * values).reshape(-1, forecast.WEEK))


def _request(name: str, shape: str, rows: Array) -> str:
    data = ",\n".join(",".join(f"{value:.3g}" for value in row) for row in rows)
    return f'{{"inputs": [{{"name": "{name}", "datatype": "FP32", "shape": [{shape}], "data": [\n{data}\n]}}]}}\n'


def png(image: Array) -> bytes:
    """One picture [28, 28] as a grey PNG (W3C PNG, section 5), a square of ZOOM pixels for each value."""
    grey: npt.NDArray[np.uint8] = np.kron(255 - np.round(255 * image), np.ones((ZOOM, ZOOM))).astype(np.uint8)
    height, width = grey.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in grey)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.training.example", description="Write the examples."
    )
    parser.add_argument(
        "--picture", type=int, default=PICTURE, help=f"number among the held-out ones ({PICTURE})"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the files")
    options = parser.parse_args(arguments)
    if not 0 <= options.picture < HELD_OUT:
        parser.error(f"--picture must be from 0 to {HELD_OUT - 1}")

    images, labels = load_split().held_out
    image = images[options.picture, 0]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "digit.json").write_text(picture_request(image))
    (options.out / "digit.png").write_bytes(png(image))
    weeks = forecast.split(forecast.series(np.random.default_rng(0))).held_out.history[WINDOW]
    (options.out / "history.json").write_text(history_request(weeks))
    sys.stdout.write(
        f"{options.out}: digit.json, digit.png show a {labels[options.picture]}; history.json has four weeks\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
