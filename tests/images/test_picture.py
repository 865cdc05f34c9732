"""Pictures from disk and back: what is kept, what is refused, what is said."""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import photograph
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from ptqsr import PtqsrError
from ptqsr.images import Picture, check_format, read_picture, read_rgb, write_picture

LOSSLESS = (".png", ".webp", ".tif", ".tiff", ".bmp")
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY = ICC[:16] + b"GRAY" + ICC[20:]


def same(one: Picture, other: Picture) -> bool:
    if (one.alpha is None) != (other.alpha is None) or one.grey != other.grey:
        return False
    alphas = one.alpha is None or np.array_equal(one.alpha, other.alpha)  # type: ignore[arg-type]
    return np.array_equal(one.rgb, other.rgb) and alphas


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def translucent(height: int = 12, width: int = 17) -> np.ndarray:
    """An alpha channel with all levels, and colours that show where it is 0."""
    return np.arange(height * width).reshape(height, width).astype(np.uint8)


# --- there and back ---


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_rgb(tmp_path: Path, suffix: str) -> None:
    picture = Picture(photograph(12, 17))
    path = tmp_path / f"a{suffix}"
    write_picture(path, picture)
    again = read_picture(path)
    assert same(again, picture) and again.notice is None and again.icc is None
    assert again.rgb.dtype == np.uint8 and again.rgb.flags.c_contiguous


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg", ".jpeg"])
def test_grey_stays_grey(tmp_path: Path, suffix: str) -> None:
    levels = photograph(12, 17)[..., 0]
    source = save(tmp_path / "grey.png", Image.fromarray(levels))
    picture = read_picture(source)
    assert picture.grey and (picture.rgb == levels[..., None]).all()
    path = tmp_path / f"b{suffix}"
    write_picture(path, picture)
    with Image.open(path) as image:
        assert image.mode == ("RGB" if suffix == ".webp" else "L")  # WebP has no grey
    again = read_picture(path)
    assert (again.rgb == again.rgb[..., :1]).all()
    assert np.abs(again.rgb.astype(int) - picture.rgb).max() <= (8 if "j" in suffix else 0)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_rgba(tmp_path: Path, suffix: str) -> None:
    """The colours under full transparency too: they bleed in when the picture is enlarged."""
    rgb, alpha = photograph(12, 17), translucent()
    source = save(tmp_path / "a.png", Image.fromarray(np.dstack([rgb, alpha])))
    picture = read_picture(source)
    assert same(picture, Picture(rgb, alpha=alpha))
    path = tmp_path / f"b{suffix}"
    write_picture(path, picture)
    assert same(read_picture(path), picture)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_with_alpha(tmp_path: Path, suffix: str) -> None:
    levels, alpha = photograph(12, 17)[..., 0], translucent()
    image = Image.merge("LA", (Image.fromarray(levels), Image.fromarray(alpha)))
    picture = read_picture(save(tmp_path / "a.png", image))
    assert picture.grey and np.array_equal(picture.alpha, alpha)  # type: ignore[arg-type]
    assert (picture.rgb == levels[..., None]).all()
    path = tmp_path / f"b{suffix}"
    write_picture(path, picture)
    with Image.open(path) as written:
        assert written.mode == "LA"
    assert same(read_picture(path), picture)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    bits = photograph(12, 17)[..., 0] > 120
    picture = read_picture(save(tmp_path / f"a{suffix}", Image.fromarray(bits)))
    assert picture.grey and picture.alpha is None and picture.notice is None
    assert np.array_equal(picture.rgb, np.repeat(bits[..., None], 3, 2) * np.uint8(255))
    write_picture(tmp_path / "b.png", picture)
    assert same(read_picture(tmp_path / "b.png"), picture)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palette(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(photograph(12, 17)).quantize(32)
    picture = read_picture(save(tmp_path / f"a{suffix}", image))
    assert np.array_equal(picture.rgb, np.array(image.convert("RGB")))
    assert not picture.grey and picture.alpha is None and picture.notice is None


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_a_transparent_colour(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(photograph(12, 17)).quantize(32)
    index = np.array(image)[3, 4]
    picture = read_picture(save(tmp_path / f"a{suffix}", image, transparency=int(index)))
    expected = np.where(np.array(image) == index, 0, 255)
    assert np.array_equal(picture.alpha, expected)  # type: ignore[arg-type]
    assert np.array_equal(picture.rgb, np.array(image.convert("RGB")))
    write_picture(tmp_path / "b.png", picture)
    assert same(read_picture(tmp_path / "b.png"), picture)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_transparent_colour_without_palette(tmp_path: Path, mode: str) -> None:
    levels = photograph(12, 17) if mode == "RGB" else photograph(12, 17)[..., 0]
    colour = levels[3, 4]
    transparency: Any = tuple(map(int, colour)) if mode == "RGB" else int(colour)
    image = Image.fromarray(levels)
    picture = read_picture(save(tmp_path / "a.png", image, transparency=transparency))
    clear = (levels.reshape(12, 17, -1) == colour).all(2)
    assert picture.grey == (mode == "L")
    assert picture.alpha is not None and np.array_equal(picture.alpha == 0, clear)


def test_jpeg(tmp_path: Path) -> None:
    """At the quality that photographers call lossless, with colours at full resolution."""
    picture = Picture(photograph(40, 60))
    path = tmp_path / "a.JPG"
    write_picture(path, picture)
    again = read_picture(path)
    assert np.abs(again.rgb.astype(int) - picture.rgb).mean() < 3.5
    with Image.open(path) as image:
        assert image.format == "JPEG" and JpegImagePlugin.get_sampling(image) == 0


# --- 16 bits ---


def png(path: Path, levels: np.ndarray) -> Path:
    """Write 16 bits a channel; Pillow cannot for colours."""
    height, width, channels = levels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 16, 0 if channels == 1 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


DEEP = np.array([0, 128, 129, 255, 256, 257, 385, 386, 32767, 32768, 65406, 65407, 65535])


def test_16_bit_grey(tmp_path: Path) -> None:
    """Rounded to the nearest of the 256 levels, which lie 257 apart."""
    picture = read_picture(png(tmp_path / "a.png", DEEP.reshape(1, -1, 1)))
    assert picture.grey and picture.alpha is None
    assert picture.rgb[0, :, 0].tolist() == np.round(DEEP / 257).astype(int).tolist()
    assert picture.notice == "has 16 bits a channel, of which 8 are used"
    every = np.arange(1 << 16).reshape(256, 256)
    tiff = save(tmp_path / "b.tif", Image.fromarray(every.astype(np.uint16)))
    for path in (png(tmp_path / "b.png", every[..., None]), tiff):
        picture = read_picture(path)
        assert picture.notice
        assert np.abs(picture.rgb[..., 0] - every / 257).max() <= 0.5


def test_16_bit_grey_is_turned(tmp_path: Path) -> None:
    levels = (photograph(12, 17)[..., 0] * np.uint16(257)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(save(tmp_path / "a.png", Image.fromarray(levels), exif=exif))
    assert np.array_equal(picture.rgb[..., 0], np.rot90(photograph(12, 17)[..., 0], -1))


def test_16_bit_colours(tmp_path: Path) -> None:
    levels = np.stack([DEEP, DEEP[::-1], np.full(len(DEEP), 257 * 77)], 1)[None]
    picture = read_picture(png(tmp_path / "a.png", levels))
    assert picture.notice == "has 16 bits a channel, of which 8 are used"
    assert not picture.grey and np.abs(picture.rgb - levels / 257).max() < 1
    assert (picture.rgb[..., 2] == 77).all()


def test_what_is_lost_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = png(tmp_path / "a.png", DEEP.reshape(1, -1, 1))
    with caplog.at_level(logging.WARNING, "ptqsr"):
        assert np.array_equal(read_rgb(path), read_picture(path).rgb)
    assert caplog.messages == [f"{path}: has 16 bits a channel, of which 8 are used"]


# --- other colours, orientation, profile ---


@pytest.mark.parametrize("profile", [None, ICC])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path: Path, suffix: str, profile: bytes | None) -> None:
    """Its profile is one for inks, and of no use for what comes out."""
    image = Image.fromarray(photograph(12, 17)).convert("CMYK")
    path = save(tmp_path / f"a{suffix}", image, **({"icc_profile": profile} if profile else {}))
    picture = read_picture(path)
    assert picture.notice and picture.notice.startswith("is CMYK; converted to RGB")
    assert ("without its colour profile" in picture.notice) == (profile is not None)
    assert picture.icc is None
    assert np.abs(picture.rgb.astype(int) - photograph(12, 17)).mean() < (
        12 if suffix != ".tif" else 1
    )
    assert not picture.grey and picture.alpha is None


UPRIGHT = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(photograph(12, 17))
    stored = read_rgb(save(tmp_path / f"stored{suffix}", image))
    path = save(tmp_path / f"a{suffix}", image, exif=exif)
    picture = read_picture(path)
    assert np.array_equal(picture.rgb, UPRIGHT[orientation](stored)) and picture.notice is None
    with Image.open(path) as opened:
        assert np.array_equal(picture.rgb, ImageOps.exif_transpose(opened).convert("RGB"))
    # Not turned again by whoever opens what is written.
    write_picture(tmp_path / "b.png", picture)
    with Image.open(tmp_path / "b.png") as written:
        assert 0x0112 not in written.getexif()
        assert np.array_equal(written, picture.rgb)


def test_orientation_turns_alpha_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    rgba = np.dstack([photograph(12, 17), translucent()])
    picture = read_picture(save(tmp_path / "a.png", Image.fromarray(rgba), exif=exif))
    assert np.array_equal(picture.alpha, np.rot90(translucent()))  # type: ignore[arg-type]
    assert np.array_equal(picture.rgb, np.rot90(rgba[..., :3]))


def test_damaged_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(photograph(12, 17))
    path = save(tmp_path / "a.png", image, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage")
    picture = read_picture(path)
    assert np.array_equal(picture.rgb, photograph(12, 17))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_profile_is_kept(tmp_path: Path, mode: str, suffix: str) -> None:
    image = Image.fromarray(photograph(12, 17)).convert(mode)
    icc = GRAY if mode == "L" else ICC
    picture = read_picture(save(tmp_path / "a.png", image, icc_profile=icc))
    assert picture.icc == icc
    if mode == "RGBA":
        picture = Picture(
            picture.rgb, icc=picture.icc, alpha=None if suffix == ".jpg" else picture.alpha
        )
    path = tmp_path / f"b{suffix}"
    write_picture(path, picture)
    kept = None if (mode, suffix) == ("L", ".webp") else icc
    assert read_picture(path).icc == kept


@pytest.mark.parametrize(("mode", "icc"), [("L", ICC), ("RGB", GRAY), ("LA", ICC)])
def test_a_profile_of_other_colours_is_dropped(tmp_path: Path, mode: str, icc: bytes) -> None:
    image = Image.fromarray(photograph(12, 17)).convert(mode)
    picture = read_picture(save(tmp_path / "a.png", image, icc_profile=icc))
    assert picture.icc is None and "of other colours" in (picture.notice or "")


def test_opaque_alpha_is_none(tmp_path: Path) -> None:
    image = Image.fromarray(photograph(12, 17)).convert("RGBA")
    picture = read_picture(save(tmp_path / "a.png", image))
    assert picture.alpha is None
    write_picture(tmp_path / "b.jpg", picture)


def test_bmp_holds_no_profile(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.bmp", Picture(photograph(4, 5), icc=ICC))
    assert read_picture(tmp_path / "a.bmp").icc is None


# --- one picture in a file ---


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_several_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(photograph(12, 17, seed)) for seed in range(3)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(PtqsrError, match=r"a\.\w+: holds .* pictures"):
        read_picture(path)
    frames[0].save(path, save_all=True)
    assert read_picture(path).rgb.shape == (12, 17, 3)


def test_photograph_with_a_preview(tmp_path: Path) -> None:
    """Cameras write two JPEG pictures into one file; the first is the photograph."""
    frames = [Image.fromarray(photograph(40, 60)), Image.fromarray(photograph(10, 15))]
    path = tmp_path / "a.jpg"
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert image.format == "MPO"
        first = np.array(image)
    assert np.array_equal(read_picture(path).rgb, first)


# --- what no format holds ---


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp"])
def test_no_transparency(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(PtqsrError, match=r"a\.\w+: (JPEG|BMP) holds no transparency; use \.png"):
        write_picture(path, Picture(photograph(12, 17), alpha=translucent()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "largest"), [(".webp", 16383), (".jpg", 65500)])
def test_too_large(tmp_path: Path, suffix: str, largest: int) -> None:
    path = tmp_path / f"a{suffix}"
    for size in ((1, largest + 1), (largest + 1, 1)):
        named = f"{size[1]}x{size[0]} pixels are too many for .*, at most {largest}; use .png"
        with pytest.raises(PtqsrError, match=named):
            write_picture(path, Picture(np.zeros((*size, 3), np.uint8)))
        assert not list(tmp_path.iterdir())
    write_picture(path, Picture(np.zeros((1, largest, 3), np.uint8)))
    assert read_picture(path).rgb.shape == (1, largest, 3)


@pytest.mark.parametrize("name", ["a.xyz", "a.gif", "a", "png", ".png", "a.png.bak", "a.eps"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(PtqsrError, match=r"pictures are written as \.png, \.webp"):
        check_format(path)
    with pytest.raises(PtqsrError, match=r"pictures are written as"):
        write_picture(path, Picture(photograph(4, 5)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_writing_fails(
    tmp_path: Path, suffix: str, old: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: Image.Image, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"the beginning")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / f"a{suffix}"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(PtqsrError, match=r"a\.\w+: cannot be written \(No space left"):
        write_picture(path, Picture(photograph(12, 17)))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PtqsrError, match="there is no folder"):
        write_picture(tmp_path / "gone" / "a.png", Picture(photograph(4, 5)))


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    """A few bytes that claim to be 400 million pixels."""
    path = png(tmp_path / "a.png", np.zeros((1, 1, 1), np.uint16))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 20000, 20000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path.write_bytes(content)
    with pytest.raises(PtqsrError, match=r"a\.png: .*more than 89 million pixels"):
        read_picture(path)
