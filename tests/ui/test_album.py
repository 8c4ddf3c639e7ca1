"""A visitor's pictures without the page: pages of them, what is gone, deleting and having back."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.engine.album import Album
from ideogram_q8.ui.engine.library import Library


@pytest.fixture
def album(tmp_path: Path) -> Album:
    """Ten pictures, 0.png to 9.png, of me; one of you."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    library = Library(tmp_path / "library.sqlite")
    for i in range(10):
        library.add("me", f"{i}.png", {"caption": f"number {i}", "seed": i, "preset": "turbo-12", "variant": "int8"})
        (outputs / f"{i}.png").write_bytes(b"png")
    library.add("you", "yours.png", {"caption": "yours", "seed": 1, "preset": "turbo-12", "variant": "int8"})
    (outputs / "yours.png").write_bytes(b"png")
    return Album(library, outputs)


def files(album: Album, limit: int = -1) -> list[str]:
    return [entry.file for entry in album.pictures("me", limit=limit)]


def test_a_limit_counts_what_is_still_there(album: Album, tmp_path: Path) -> None:
    for gone in (9, 8, 7, 5):
        (tmp_path / "outputs" / f"{gone}.png").unlink()
    assert files(album, 3) == ["6.png", "4.png", "3.png"]
    assert files(album, 6) == files(album, 7) == files(album) == ["6.png", "4.png", "3.png", "2.png", "1.png", "0.png"]
    assert files(album, 0) == []


def test_the_last_deleted_picture_comes_back(album: Album) -> None:
    before = files(album)
    for entry in album.pictures("me", limit=2):
        album.delete("me", entry.id)
    assert files(album) == before[2:]
    assert album.undo("me").file == before[1]
    assert files(album) == before[1:]
    with pytest.raises(RequestError, match="nothing of yours"):
        album.undo("me")


def test_nothing_of_others_can_be_touched(album: Album) -> None:
    (yours,) = album.pictures("you")
    for act in (album.delete, album.find, lambda owner, picture: album.set_favourite(owner, picture, True)):
        with pytest.raises(RequestError, match="no picture"):
            act("me", yours.id)
    assert album.pictures("you") == [yours]
