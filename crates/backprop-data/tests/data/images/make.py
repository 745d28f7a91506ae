"""Writes the images of this folder and, in expected.txt, what Pillow decodes them to.

Run with Pillow 12 and NumPy: python make.py
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
HEIGHT, WIDTH = 6, 9


def colours():
    """A smooth image, so that the losses of JPEG are small."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([30 + 20 * x, 40 + 25 * y, 200 - 10 * x - 5 * y], axis=-1).astype(np.uint8)


def interlaced(values):
    """A PNG in the seven passes of Adam7, which Pillow does not write."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b""
    for y, dy, x, dx in passes:
        part = values[y::dy, x::dx]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    checked = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


def main():
    rgb = Image.fromarray(colours())
    grey = rgb.convert("L")
    alpha = Image.fromarray((colours()[..., 0] // 2).astype(np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    grey_alpha = grey.copy()
    grey_alpha.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(HERE / "rgb.png")
    grey.save(HERE / "grey.png")
    rgba.save(HERE / "rgba.png")
    grey_alpha.save(HERE / "grey-alpha.png")
    rgb.quantize(16).save(HERE / "palette.png")
    grey.point(lambda v: 255 * (v > 120)).convert("1").save(HERE / "bit.png")
    Image.fromarray(np.array(grey).astype(np.uint16) * 257).save(HERE / "grey-16.png")
    rgb.save(HERE / "turned.png", exif=exif)
    rgb.save(HERE / "baseline.jpg", quality=95, subsampling=0)
    rgb.save(HERE / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    rgb.save(HERE / "subsampled.jpg", quality=95, subsampling=2)
    grey.save(HERE / "grey.jpg", quality=95)
    rgb.convert("CMYK").save(HERE / "cmyk.jpg", quality=95)
    # The same data declared to be YCCK: other colours, but Pillow says which.
    cmyk = bytearray((HERE / "cmyk.jpg").read_bytes())
    cmyk[cmyk.index(b"Adobe") + 11] = 2
    (HERE / "ycck.jpg").write_bytes(cmyk)
    (HERE / "interlaced.png").write_bytes(interlaced(colours()))
    rgb.save(HERE / "turned.jpg", quality=95, subsampling=0, exif=exif)
    lines = []
    for path in sorted(HERE.glob("*.[pj][np]g")):
        image = Image.open(path)
        if path.name.startswith("turned"):
            image = image.transpose(Image.Transpose.ROTATE_270)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.array(image) / 257).round().astype(np.uint8))
        is_grey = image.mode in ("1", "L", "LA")
        values = np.array(image.convert("L" if is_grey else "RGB"))
        shape = [*values.shape, 1][:3]
        lines.append(" ".join(map(str, [path.name, *shape, *values.flatten()])))
    (HERE / "expected.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
