"""Writing pictures to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ptqsr.errors import PtqsrError
from ptqsr.files import replacing
from ptqsr.images.read import Picture

# Per suffix: Pillow's format, its options, whether it holds alpha, its largest width or height.
_WEBP: dict[str, Any] = {"lossless": True, "exact": True}  # the colours under full transparency too
_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
WRITERS: dict[str, tuple[str, dict[str, Any], bool, int]] = {
    ".png": ("PNG", {}, True, 1 << 31),
    ".webp": ("WEBP", _WEBP, True, 16383),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}, True, 1 << 31),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}, True, 1 << 31),
    ".jpg": ("JPEG", _JPEG, False, 65500),
    ".jpeg": ("JPEG", _JPEG, False, 65500),
    ".bmp": ("BMP", {}, False, 1 << 31),
}


def check_format(path: str | Path) -> None:
    """Raise PtqsrError where the suffix names no format that is written."""
    if Path(path).suffix.lower() not in WRITERS:
        raise PtqsrError(f"{path}: pictures are written as {', '.join(WRITERS)}")


def check_holds(path: str | Path, height: int, width: int, alpha: bool) -> None:
    """Raise PtqsrError where the format of the path's suffix holds no such picture."""
    check_format(path)
    name, _, holds_alpha, largest = WRITERS[Path(path).suffix.lower()]
    if max(height, width) > largest:
        raise PtqsrError(
            f"{path}: {width}x{height} pixels are too many for {name}, at most {largest}; use .png"
        )
    if alpha and not holds_alpha:
        raise PtqsrError(f"{path}: {name} holds no transparency; use .png")


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write a picture in the format of the path's suffix, whole or not at all.

    Grey stays grey (but in WebP, which has colours only), and the colour profile is kept, where
    the format holds it: BMP holds none, WebP none of grey. Raises PtqsrError where the
    format cannot hold it or the path cannot be written.
    """
    path = Path(path)
    height, width = picture.rgb.shape[:2]
    check_holds(path, height, width, picture.alpha is not None)
    name, options, _, _ = WRITERS[path.suffix.lower()]
    image = Image.fromarray(picture.rgb)
    if picture.grey:
        image = image.convert("L")
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    if picture.icc and name != "BMP" and not (picture.grey and name == "WEBP"):
        options = {**options, "icc_profile": picture.icc}
    with replacing(path) as temporary:
        image.save(temporary, format=name, **options)
