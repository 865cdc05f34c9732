"""Reading pictures from disk."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ptqsr.errors import PtqsrError, no_folder, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
# No others: Pillow would start Ghostscript for a PostScript file, whatever its suffix.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")

log = logging.getLogger("ptqsr")

# Filters of warnings belong to the whole process: one thread at a time changes them.
_filters = threading.Lock()


@dataclass(frozen=True)
class Picture:
    """A picture of 8 bits, the way up that it is looked at.

    `rgb`: uint8 [H, W, 3], of a grey picture replicated; `alpha`: uint8 [H, W], or None where it is
    opaque; `icc`: the colour profile of the file, where it is one for these colours. `notice` says
    what was lost in reading.
    """

    rgb: np.ndarray
    grey: bool = False
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    notice: str | None = None


def read_picture(path: str | Path) -> Picture:
    """Return the picture in a file: RGB, grey, palette, alpha, 16 bits, CMYK.

    Raises PtqsrError where the file is missing, unreadable, no picture or several.
    """
    with _opened(path) as image:
        # Not how many: Pillow would go through all of them, which may be millions.
        several = getattr(image, "is_animated", False)
        if several and image.format != "MPO":  # a photograph with a preview in the same file
            raise PtqsrError(f"{path}: holds several pictures (an animation?); give single ones")
        if image.mode in ("I", "F"):
            raise PtqsrError(
                f"{path}: pictures of mode {image.mode} (32 bits a channel) are not read; "
                "save it with 8 bits"
            )
        notice, converted = None, False
        # The raw mode of the file tells, since Pillow's own mode may be 8 bits already.
        if image.mode.startswith("I;16") or any(
            ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
        ):
            notice = "has 16 bits a channel, of which 8 are used"
        icc = image.info.get("icc_profile")
        try:
            image.getexif()
        except Exception:  # of damaged metadata in a sound picture
            notice = "has damaged EXIF data; taken as upright"
        else:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            levels = np.asarray(image).astype(np.uint16)
            image = Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))
        elif converted := image.mode in ("CMYK", "LAB"):
            notice = f"is {image.mode}; converted to RGB"
        grey = image.mode in ("1", "L", "LA", "La")
        alpha = None
        if image.has_transparency_data:
            image = image.convert("RGBA")
            alpha = np.array(image.getchannel("A"))
            alpha = None if (alpha == 255).all() else alpha
        # The profile's own header says of which colours it is.
        fits = isinstance(icc, bytes) and icc[16:20] == (b"GRAY" if grey else b"RGB ")
        if icc and (converted or not fits):
            what = notice or "is read"
            notice, icc = f"{what} without its colour profile, which is of other colours", None
        return Picture(np.array(image.convert("RGB")), grey, alpha, icc, notice)


def read_rgb(path: str | Path) -> np.ndarray:
    """Return a picture as uint8 [H, W, 3]; grey is replicated, alpha is dropped.

    Warns of what is lost. Raises PtqsrError as read_picture.
    """
    picture = read_picture(path)
    if picture.notice:
        log.warning("%s: %s", path, picture.notice)
    return picture.rgb


def read_size(path: str | Path) -> tuple[int, int]:
    """Return a picture's (height, width) as it is stored, without decoding it."""
    with _opened(path) as image:
        return image.height, image.width


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with it becomes one line that names it."""
    try:
        with _filters, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            with Image.open(path, formats=FORMATS) as image:
                most = Image.MAX_IMAGE_PIXELS
                if most is not None and image.width * image.height > most:
                    raise Image.DecompressionBombError
                yield image
    except (PtqsrError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise PtqsrError(
            f"{path}: not a picture that is read ({', '.join(FORMATS)}); remove it"
        ) from None
    except Image.DecompressionBombError:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise PtqsrError(f"{path}: has more than {most} million pixels; cut it to pieces") from None
    except Exception as error:
        # A damaged file makes Pillow raise nearly anything: struct.error, zlib.error, KeyError.
        reason = one_line(getattr(error, "strerror", None) or error)
        raise PtqsrError(f"{path}: cannot be read ({reason}); replace or remove it") from None


def list_images(
    folder: str | Path, *, recursive: bool = True, also: tuple[str, ...] = ()
) -> list[Path]:
    """Return the pictures in a folder, or under it at any depth, sorted by path.

    `also`: suffixes of other files that are wanted. Raises PtqsrError where a folder is missing or
    cannot be read, or holds no such file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise no_folder(folder)

    def refuse(error: OSError) -> None:
        raise PtqsrError(f"{error.filename}: cannot be read ({error.strerror})") from None

    suffixes = (*SUFFIXES, *also)
    found: list[Path] = []
    folders: list[str] = []
    seen: set[str] = set()  # folders that links lead to may hold the link
    for root, inside, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := os.path.realpath(root)) in seen:
            inside.clear()
            continue
        seen.add(place)
        found += [Path(root) / name for name in names]
        if not recursive:
            folders = sorted(inside)
            break
    paths = sorted(p for p in found if p.suffix.lower() in suffixes and p.is_file())
    if not paths:
        only = f", only the folders {', '.join(folders)}" if folders else ""
        raise PtqsrError(f"{folder}: holds no picture ({', '.join(suffixes)}){only}")
    return paths
