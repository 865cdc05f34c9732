"""The authors' weights: fetched once, checked, refused where they are not what was published."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from ptqsr import PtqsrError, models
from ptqsr.models import official


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the authors', known to the table; the cache is empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "edsr-published.pt"
    torch.save(models.build("edsr", scale=2, weights=None, blocks=2, width=8).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = official.Source(path.as_uri(), digest)
    monkeypatch.setitem(official.SOURCES, ("edsr", 2), source)
    return path


def test_fetched_once_then_kept(published: Path) -> None:
    network = models.build("edsr", scale=2, weights="official")
    assert network.hyperparameters["blocks"] == 2
    published.unlink()
    again = models.build("edsr", scale=2, weights="official")
    assert torch.equal(again.head[0].weight, network.head[0].weight)
    assert [path.name for path in official.cache().iterdir()] == ["edsr-published.pt"]


def test_a_file_put_there_by_hand_is_checked(published: Path) -> None:
    official.cache().mkdir(parents=True)
    place = official.cache() / "edsr-published.pt"
    place.write_bytes(b"something else")
    with pytest.raises(PtqsrError, match=f"{place}: is not the file of .*delete it"):
        models.build("edsr", scale=2, weights="official")
    place.write_bytes(published.read_bytes())
    models.build("edsr", scale=2, weights="official")


def test_another_file_at_the_address_is_not_kept(published: Path) -> None:
    published.write_bytes(published.read_bytes() + b"x")
    with pytest.raises(PtqsrError, match="is not the file that was published"):
        models.build("edsr", scale=2, weights="official")
    assert not list(official.cache().iterdir())


def test_without_a_network_it_says_what_to_put_where(published: Path) -> None:
    published.unlink()
    place = official.cache() / "edsr-published.pt"
    with pytest.raises(PtqsrError, match=f"cannot be fetched .*put it at {place}, or give"):
        models.build("edsr", scale=2, weights="official")


def test_networks_without_official_weights_say_where_to_look() -> None:
    with pytest.raises(PtqsrError, match=r"no official weights of rdn x4 .*RDN-pytorch"):
        models.build("rdn", weights="official")
    assert set(official.ELSEWHERE) == set(models.ARCHITECTURES)
    assert {name for name, _ in official.SOURCES} <= set(models.ARCHITECTURES)


@pytest.mark.shared
def test_the_digests_are_those_of_the_files_at_hand(shared: Path) -> None:
    for name, scale, file in (
        ("imdn", 2, "IMDN_x2.pth"),
        ("imdn", 4, "IMDN_x4.pth"),
        ("carn_m", 4, "carn_m.pth"),
    ):
        source = official.SOURCES[name, scale]
        digest = hashlib.sha256((shared / "weights" / file).read_bytes()).hexdigest()
        assert source.file_name == file and digest == source.sha256
