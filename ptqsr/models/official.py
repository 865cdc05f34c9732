"""The weights that the networks' authors published: fetched once, checked, kept.

Only files whose digest is known are fetched. Licences are the authors' own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import torch

from ptqsr.errors import PtqsrError

EDSR = "https://cv.snu.ac.kr/research/EDSR/models/"
IMDN = "https://raw.githubusercontent.com/Zheng222/IMDN/master/checkpoints/"
CARN = "https://raw.githubusercontent.com/nmhkahn/CARN-pytorch/master/checkpoint/"


@dataclass(frozen=True)
class Source:
    """A file and the beginning of its SHA-256."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]


_CARN_M = Source(
    CARN + "carn_m.pth", "d48a759a84509351facb6b7c6d5bd6edec98b98519b8c464ee4ab44d2ba964ff"
)
SOURCES: dict[tuple[str, int], Source] = {
    # The names hold the digests, as torch.hub has it.
    ("edsr", 2): Source(EDSR + "edsr_baseline_x2-1bc95232.pt", "1bc95232"),
    ("edsr", 3): Source(EDSR + "edsr_baseline_x3-abf2a44e.pt", "abf2a44e"),
    ("edsr", 4): Source(EDSR + "edsr_baseline_x4-6b446fab.pt", "6b446fab"),
    ("carn_m", 2): _CARN_M,
    ("carn_m", 3): _CARN_M,
    ("carn_m", 4): _CARN_M,
    ("imdn", 2): Source(
        IMDN + "IMDN_x2.pth", "740b39653592bd3f49955a21cd9e16f2d37f2c413368cc09327601b8fbe42ce1"
    ),
    ("imdn", 4): Source(
        IMDN + "IMDN_x4.pth", "e660c38221147217a136debeb99eb304d62d9c0f73ac421ed66281b619719714"
    ),
}

# What to do where we know no digest.
ELSEWHERE = {
    "edsr": "https://github.com/sanghyun-son/EDSR-PyTorch",
    "rdn": "https://github.com/yjn870/RDN-pytorch links weights that load as they are",
    "srresnet": "its authors published none",
    "carn": "https://github.com/nmhkahn/CARN-pytorch has checkpoint/carn.pth, which loads as it is",
    "carn_m": "https://github.com/nmhkahn/CARN-pytorch",
    "idn": "its authors published Caffe and TensorFlow files; convert them to .npz",
    "imdn": "https://github.com/Zheng222/IMDN",
}


def cache() -> Path:
    """Return the folder where fetched files stay; TORCH_HOME moves it."""
    return Path(torch.hub.get_dir()) / "ptqsr"


def fetch(name: str, scale: int) -> Path:
    """Return the authors' file for an architecture and scale, fetched where it is not there yet.

    Raises PtqsrError where no file is known, where there is no network (it says what to put where),
    or where a file is not the one that its authors published.
    """
    source = SOURCES.get((name, scale))
    if source is None:
        where = ELSEWHERE.get(name)
        raise PtqsrError(
            f"no official weights of {name} x{scale} are known to ptqsr"
            + (f" ({where})" if where else "")
            + "; give a file with --weights"
        )
    path = cache() / source.file_name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(source.url, str(path), source.sha256, progress=False)
        except (URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise PtqsrError(
                f"{source.url} cannot be fetched ({reason}); download it elsewhere and put it at "
                f"{path}, or give it with --weights"
            ) from None
        except RuntimeError:  # torch.hub's, of the digest
            raise PtqsrError(
                f"{source.url}: is not the file that was published (its SHA-256 does not begin "
                f"with {source.sha256[:16]}); nothing was kept"
            ) from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(source.sha256):
        raise PtqsrError(
            f"{path}: is not the file of {source.url} (its SHA-256 is {digest[:16]}..., expected "
            f"{source.sha256[:16]}...); delete it"
        )
    return path
