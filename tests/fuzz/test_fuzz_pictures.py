"""Pictures that are damaged or made up: a picture, or one line that names the file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photograph
from PIL import Image, ImageCms

from ptqsr.images import Picture, read_picture
from ptqsr.images.read import read_size

from .test_fuzz_checkpoint import LENGTH, attempt, damaged, write

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010E] = "a description"
    tags.get_ifd(0x8769)[0x9003] = "2024:01:01 00:00:00"
    return tags.tobytes()


# Suffix, mode, and how it is saved.
FORMATS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png": (".png", "RGB", {"icc_profile": PROFILE, "exif": exif(6)}),
    "png alpha": (".png", "RGBA", {}),
    "png palette": (".png", "P", {"transparency": 3}),
    "png 16": (".png", "I;16", {}),
    "png bits": (".png", "1", {}),
    "jpeg": (".jpg", "RGB", {"icc_profile": PROFILE, "exif": exif(5)}),
    "jpeg grey": (".jpeg", "L", {"progressive": True}),
    "jpeg cmyk": (".jpg", "CMYK", {}),
    "gif": (".gif", "P", {"transparency": 3, "interlace": 1}),
    "bmp": (".bmp", "RGB", {}),
    "bmp palette": (".bmp", "P", {}),
    "webp": (".webp", "RGBA", {"lossless": True, "exif": exif(3), "icc_profile": PROFILE}),
    "webp lossy": (".webp", "RGB", {}),
    "tiff": (".tif", "RGB", {"icc_profile": PROFILE, "exif": exif(8)}),
    "tiff 16": (".tif", "I;16", {}),
    "tiff lzw": (".tiff", "RGBA", {"compression": "tiff_lzw"}),
    "tiff deflate": (".tif", "CMYK", {"compression": "tiff_adobe_deflate"}),
    "tiff jpeg": (".tif", "YCbCr", {"compression": "jpeg"}),
    "tiff fax": (".tif", "1", {"compression": "group4"}),
}


def make(mode: str) -> Image.Image:
    picture = Image.fromarray(photograph(13, 11))
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    return picture.convert(mode)


def read(path: Path) -> Picture:
    picture = read_picture(path)
    height, width = picture.rgb.shape[:2]
    assert picture.rgb.dtype == np.uint8 and picture.rgb.shape == (height, width, 3)
    assert sorted(read_size(path)) == sorted((height, width))
    if picture.alpha is not None:
        assert picture.alpha.dtype == np.uint8 and picture.alpha.shape == (height, width)
    if picture.grey:
        assert (picture.rgb == picture.rgb[..., :1]).all()
    assert picture.icc is None or type(picture.icc) is bytes
    assert picture.notice is None or picture.notice.isprintable()
    return picture


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes(tmp_path: Path, kind: str) -> None:
    suffix, mode, options = FORMATS[kind]
    path = tmp_path / f"p{suffix}"
    make(mode).save(path, **options)
    assert attempt(read, path) is not None
    content, rng, refused, trials = (
        path.read_bytes(),
        np.random.default_rng(0),
        0,
        int(200 * LENGTH),
    )
    for _ in range(trials):
        write(path, damaged(content, rng))
        refused += attempt(read, path) is None
    assert 0.1 * trials < refused < trials


def frames() -> list[Image.Image]:
    return [Image.fromarray(photograph(13, 11, seed)) for seed in range(3)]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_several_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    first, *others = frames()
    first.save(path, save_all=True, append_images=others)
    assert attempt(read, path, "several pictures") is None
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(int(100 * LENGTH)):
        write(path, damaged(content, rng))
        attempt(read, path)


def test_a_photograph_with_a_preview(tmp_path: Path) -> None:
    path = tmp_path / "p.jpg"
    first, *others = frames()
    first.save(path, format="MPO", save_all=True, append_images=others)
    picture = attempt(read, path)
    assert picture is not None and np.abs(picture.rgb.astype(int) - np.asarray(first)).mean() < 20
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(int(100 * LENGTH)):
        write(path, damaged(content, rng))
        attempt(read, path)


# --- headers ---


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def png(
    width: int, height: int, *chunks: bytes, bits: int = 8, colour: int = 2, interlace: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND")


def tiff(*tags: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF of one row of three bytes; tags (number, type, count, value) replace its own."""
    own = {256: (3, 1, 1), 257: (3, 1, 1), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 2)}
    own |= {273: (4, 1, 8), 277: (3, 1, 3), 278: (3, 1, 1), 279: (4, 1, 3)}
    own |= {number: rest for number, *rest in tags}  # type: ignore[misc]
    entries = b"".join(struct.pack("<HHII", n, *own[n]) for n in sorted(own))
    directory = len(own).to_bytes(2, "little") + entries + following.to_bytes(4, "little")
    return b"II*\0" + (12).to_bytes(4, "little") + b"rgb\0" + directory


def bmp(*fields: int) -> bytes:
    """A BMP of one pixel; fields stand in for those of its header, None for its own."""
    own = (40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
    fields = (*fields, *own[len(fields) :])
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, *fields) + b"bgr\0"


def gif(width: int, height: int, *frames: bytes) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"".join(frames)
    )


def gif_frame(*place: int) -> bytes:
    return b"," + struct.pack("<HHHHB", *place, 0) + b"\x02\x02\x44\x01\0"


def jpeg(width: int, height: int) -> bytes:
    """A JPEG of 8x8 grey pixels that claims another size."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    return file.getvalue().replace(
        b"\x08\0\x08\0\x08\x01", struct.pack(">BHHB", 8, height, width, 1)
    )


def webp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(file, "WEBP", lossless=True)
    image = file.getvalue()[12:]
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\x10\0\0\0" + size + image
    return b"RIFF" + len(body).to_bytes(4, "little") + body


PIXEL = chunk(b"IDAT", zlib.compress(b"\0rgb"))
BOMB = zlib.compress(bytes(1 << 27))
MADE: dict[str, bytes] = {
    "1.png": png(1, 1, PIXEL),
    "1.tif": tiff(),
    "1.bmp": bmp(),
    "1.gif": gif(1, 1, gif_frame(0, 0, 1, 1), b";"),
    "1.jpg": jpeg(8, 8),
    "1.webp": webp(8, 8),
}


def test_made_pictures(tmp_path: Path) -> None:
    """What is made below is refused for what it claims alone."""
    for name, content in MADE.items():
        (tmp_path / name).write_bytes(content)
        picture = attempt(read, tmp_path / name)
        assert picture is not None and picture.rgb.shape[0] in (1, 8), name
        if name in ("1.png", "1.tif", "1.bmp"):
            assert picture.rgb.tobytes() == b"rgb"


CLAIMS: dict[str, bytes] = {
    "square.png": png(2**31 - 1, 2**31 - 1, PIXEL),
    "line.png": png(2**31 - 1, 1, PIXEL),
    "column.png": png(1, 2**31 - 1, PIXEL),
    "over.png": png(10_000, 10_000, PIXEL),
    "under.png": png(9_000, 9_000, PIXEL, bits=16, colour=6),
    "interlaced.png": png(9_000, 9_000, PIXEL, interlace=1),
    "nothing.png": png(0, 0, PIXEL),
    "no data.png": png(1, 1),
    "bits.png": png(1, 1, PIXEL, bits=7),
    "colour.png": png(1, 1, PIXEL, colour=5),
    "text.png": png(1, 1, chunk(b"zTXt", b"a\0\0" + BOMB), PIXEL),
    "frames.png": png(1, 1, chunk(b"acTL", struct.pack(">II", 10**9, 0)), PIXEL),
    "square.tif": tiff((256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)),
    "under.tif": tiff((256, 4, 1, 9_000), (257, 4, 1, 9_000)),
    "strips.tif": tiff((273, 4, 2**31, 8)),
    "samples.tif": tiff((277, 3, 1, 60_000)),
    "tiles.tif": tiff((322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 8), (259, 3, 1, 5)),
    "no tags.tif": b"II*\0" + (8).to_bytes(4, "little") + bytes(6),
    "directory.tif": b"II*\0" + bytes([255] * 4),
    "frames.tif": tiff(following=12 + 2 + 9 * 12 + 4)
    + b"".join(bytes(2) + (130 + 6 * i).to_bytes(4, "little") for i in range(1, 100_000)),
    "square.bmp": bmp(40, 2**31 - 1, 2**31 - 1),
    "down.bmp": bmp(40, 1, -(2**31)),
    "left.bmp": bmp(40, -1, 1),
    "bits.bmp": bmp(40, 1, 1, 1, 7),
    "header.bmp": bmp(2**31),
    "palette.bmp": bmp(40, 1, 1, 1, 8, 0, 4, 0, 0, 2**31 - 1),
    "square.gif": gif(65535, 65535, gif_frame(0, 0, 65535, 65535)),
    "outside.gif": gif(1, 1, gif_frame(65535, 65535, 65535, 65535)),
    "frames.gif": gif(1, 1, *[gif_frame(0, 0, 1, 1)] * 100_000),
    "no frames.gif": gif(1, 1, b";"),
    "square.jpg": jpeg(65500, 65500),
    "nothing.jpg": jpeg(0, 0),
    "square.webp": webp(1 << 24, 1 << 24),
    "over.webp": webp(16_000, 16_000),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(CLAIMS[name])
    message = "several pictures" if name.startswith("frames") else ""
    assert attempt(read, path, message) is None


NUMBERS = (0, 1, 2, 3, 8, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def odd(rng: np.random.Generator, usual: int) -> int:
    return usual if rng.random() < 0.7 else NUMBERS[rng.integers(len(NUMBERS))]


def odd_png(rng: np.random.Generator) -> bytes:
    """Any chunks in any order, with right checksums, and now and then a size that is not theirs."""
    kinds = b"PLTE IDAT IDAT tRNS iCCP zTXt iTXt tEXt eXIf gAMA cHRM sRGB pHYs acTL fcTL fdAT IEND"
    chunks = [
        chunk(
            kind,
            zlib.compress(rng.bytes(30)) if kind == b"IDAT" else rng.bytes(int(rng.integers(40))),
        )
        for kind in rng.permutation(kinds.split())[: rng.integers(1, 9)].tolist()
    ]
    bits, colour = int(rng.choice([1, 2, 4, 8, 16])), int(rng.choice([0, 2, 3, 4, 6]))
    width, height = (min(odd(rng, 3), 2**32 - 1) for _ in range(2))
    return png(width, height, *chunks, bits=bits, colour=colour, interlace=int(rng.integers(2)))


def odd_tiff(rng: np.random.Generator) -> bytes:
    """Some tags of other types, counts and values, and some more."""
    own = (256, 257, 258, 259, 262, 273, 277, 278, 279)
    more = (266, 274, 282, 284, 305, 317, 320, 322, 323, 324, 325, 330, 338, 339, 347, 700, 34377)
    tags = rng.choice((*own, *more, 34665, 34675, 34853, 50341), rng.integers(1, 5)).tolist()
    return tiff(
        *((tag, int(rng.integers(18)), odd(rng, 1), odd(rng, 1)) for tag in tags),
        following=odd(rng, 0),
    )


def odd_bmp(rng: np.random.Generator) -> bytes:
    usual = (40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
    return bmp(*(odd(rng, n) & (0xFFFF if i in (3, 4) else 2**31 - 1) for i, n in enumerate(usual)))


def odd_gif(rng: np.random.Generator) -> bytes:
    def size() -> int:
        return odd(rng, 1) & 0xFFFF

    parts = [
        gif_frame(size(), size(), size(), size()),
        b"!\xf9\x04" + rng.bytes(4) + b"\0",
        b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
        b"!\xfe" + rng.bytes(5),
        rng.bytes(9),
    ]
    return gif(size(), size(), *(parts[i] for i in rng.integers(len(parts), size=3)))


@pytest.mark.parametrize("make_odd", [odd_png, odd_tiff, odd_bmp, odd_gif])
def test_odd_headers(tmp_path: Path, make_odd: Callable[[np.random.Generator], bytes]) -> None:
    rng, refused, trials = np.random.default_rng(0), 0, int(300 * LENGTH)
    path = tmp_path / f"p.{make_odd.__name__[4:]}"
    for _ in range(trials):
        write(path, make_odd(rng))
        refused += attempt(read, path) is None
    assert 0.2 * trials < refused < trials


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 7, 12, 13])
@pytest.mark.parametrize("tag", [274, 700, 34665, 34675])
def test_tags_of_other_types(tmp_path: Path, tag: int, kind: int) -> None:
    """Orientation, XMP, EXIF and colour profile, as numbers and as text."""
    path = tmp_path / "p.tif"
    for count in (1, 4, 300):
        path.write_bytes(tiff((tag, kind, count, 8)) + bytes(range(256)) * 20)
        attempt(read, path)


# --- other formats ---

OTHERS: dict[str, bytes] = {
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
    "postscript, binary": b"\xc5\xd0\xd3\xc6"
    + (32).to_bytes(4, "little")
    + bytes(24)
    + b"%!PS-Adobe-3.0",
    "portable document": b"%PDF-1.4\n1 0 obj\n<< >>\nendobj\ntrailer\n<< >>\n%%EOF\n",
    "photoshop": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 1, 1, 8, 3) + bytes(99),
    "pixmap": b"P6 1 1 255\nrgb",
    "float map": b"PF\n1 1\n-1\n" + bytes(12),
    "icon": b"\0\0\1\0\1\0" + bytes(40),
    "vector": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "targa": bytes((0, 0, 2, *[0] * 9, 1, 0, 1, 0, 24, 0, 1, 2, 3)),
    "jpeg 2000": b"\xff\x4f\xff\x51" + bytes(60),
    "avif": b"\0\0\0\x1cftypavif" + bytes(40),
    "gzip": b"\x1f\x8b\x08" + bytes(40),
    "program": b"\x7fELF" + bytes(100),
    "nothing": b"",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".gif"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_formats(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    path.write_bytes(OTHERS[name])
    assert attempt(read, path, "not a picture that is read") is None


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker, program, path = tmp_path / "marker", tmp_path / "gs", tmp_path / "p.png"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    path.write_bytes(OTHERS["postscript"])
    assert attempt(read, path) is None and not marker.exists()
    with Image.open(path) as image, suppress(OSError):
        image.load()  # what Pillow does when it is left alone
    assert marker.exists()
