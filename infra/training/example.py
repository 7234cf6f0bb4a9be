"""Writes the README's example, a held-out picture: python -m infra.training.example [--picture N] [--out DIR]

digit.json is an OIP v2 inference request, a line of it for each row of the picture; digit.png shows the same.
"""

import argparse
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.training.digits import HELD_OUT, Array, load_split

FOLDER = Path(__file__).parents[1] / "examples"
ZOOM = 8
PICTURE = 27  # of the held-out ones: a seven without a bar, which readers everywhere take for a seven


def request(image: Array) -> str:
    """The JSON inference request for one picture [28, 28], values rounded to 3 decimals."""
    rows = ",\n".join(",".join(f"{value:.3g}" for value in np.round(row, 3)) for row in image)
    return (
        '{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": [\n'
        + rows
        + "\n]}]}\n"
    )


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
        prog="python -m infra.training.example", description="Write the example."
    )
    parser.add_argument(
        "--picture", type=int, default=PICTURE, help=f"number among the held-out ones ({PICTURE})"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for digit.json and digit.png")
    options = parser.parse_args(arguments)
    if not 0 <= options.picture < HELD_OUT:
        parser.error(f"--picture must be from 0 to {HELD_OUT - 1}")

    images, labels = load_split().held_out
    image = images[options.picture, 0]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "digit.json").write_text(request(image))
    (options.out / "digit.png").write_bytes(png(image))
    sys.stdout.write(f"{options.out}: digit.json, digit.png show a {labels[options.picture]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
