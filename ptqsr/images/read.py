"""Reading pictures from disk."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ptqsr.errors import PtqsrError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_rgb(path: str | Path) -> np.ndarray:
    """Return a picture as uint8 [H, W, 3]; grey is replicated, alpha is dropped.

    Raises PtqsrError where the file is missing, unreadable or no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise PtqsrError(
                        f"{path}: pictures of mode {image.mode} (more than 8 bits a channel) are "
                        "not read; save it with 8 bits"
                    )
                return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise PtqsrError(f"{path}: not a picture that Pillow can read; remove it") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PtqsrError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PtqsrError(f"{path}: cannot be read ({reason})") from None


def read_size(path: str | Path) -> tuple[int, int]:
    """Return a picture's (height, width) without decoding it."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError):
        return read_rgb(path).shape[:2]  # which says what is wrong


def list_images(folder: str | Path, *, recursive: bool = True) -> list[Path]:
    """Return the pictures in a folder, or under it at any depth, sorted by path.

    Raises PtqsrError where the folder is missing or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PtqsrError(f"{folder}: no such folder")
    found = folder.rglob("*") if recursive else folder.iterdir()
    paths = sorted(p for p in found if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        folders = sorted(p.name for p in folder.iterdir() if p.is_dir())
        inside = f", only the folders {', '.join(folders)}" if folders and not recursive else ""
        raise PtqsrError(f"{folder}: holds no picture ({', '.join(SUFFIXES)}){inside}")
    return paths
