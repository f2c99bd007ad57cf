"""Downloads against a local server: retried, checked, and in place only when they are whole."""

from __future__ import annotations

import errno
from pathlib import Path

import pooch.core
import pytest
from file_server import md5, zipped

from dallrec_core import data
from dallrec_core.data import download
from dallrec_core.errors import UserError

BODY = b"user item item\n" * 5000
FILES = {"ratings.dat": BODY, "movies.dat": b"1::A::B\n"}


EVIL = {"../evil": b"x", "data/../../evil": b"x", "/evil": b"x", "data/README": b"terms"}
GOOD = zipped({**{f"data/{name}": body for name, body in FILES.items()}, **EVIL})


@pytest.fixture
def origin(server, monkeypatch):
    """Let ml-1m come from the server, by default as the archive `GOOD`."""
    server.bodies["/data.zip"] = GOOD

    def put(**changes: object) -> None:
        about = {"url": f"{server.url}/data.zip", "archive": md5(GOOD), "inside": "data/"}
        about |= {"folder": "ml-1m", "files": {name: md5(body) for name, body in FILES.items()}}
        monkeypatch.setitem(download.ORIGINS, "ml-1m", download.Origin(**(about | changes)))

    put()
    return put


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


UNPACKED = ["ml-1m/movies.dat", "ml-1m/ratings.dat"]


def test_an_archive_is_fetched_unpacked_and_verified_once(server, store, origin):
    server.failures = 2
    assert not download.is_here("ml-1m")
    lines = data.fetch_or_verify("ml-1m")
    assert "md5 verified, 2 files unpacked" in lines[1]
    again = data.fetch_or_verify("ml-1m")
    assert [line.split(":")[0].strip() for line in again] == ["ml-1m", "ratings.dat", "movies.dat"]
    assert all("verified" in line for line in again[1:])
    assert len(server.asked) == 3 and download.is_here("ml-1m")
    # nothing but the files that are wanted, wherever others would like to go
    assert files(store.parent) == [f"store/{name}" for name in ("data.zip", *UNPACKED)]


def test_single_files_are_fetched_one_by_one(server, store, origin):
    server.bodies |= {f"/or/{name}": body for name, body in FILES.items()}
    origin(url=f"{server.url}/or", archive="", folder="published/movielens")
    lines = data.fetch_or_verify("ml-1m")
    assert sum("fetched into" in line for line in lines) == 2
    assert (store / "published" / "movielens" / "ratings.dat").read_bytes() == BODY


def test_own_editions_are_used_and_noted(store, origin):
    (store / "ml-1m").mkdir()
    (store / "ml-1m" / "ratings.dat").write_bytes(b"mine")
    located = download.locate("ml-1m")
    assert (located.folder / "ratings.dat").read_bytes() == b"mine"
    assert (located.folder / "movies.dat").read_bytes() == b"1::A::B\n"
    assert [note[:48] for note in located.notes] == [
        "ratings.dat differs from the original edition (m"
    ]


def test_an_archive_put_there_by_hand_needs_no_network(server, store, origin):
    (store / "data.zip").write_bytes(GOOD)
    data.require("ml-1m", download=True)
    assert server.asked == [] and files(store) == ["data.zip", *UNPACKED]


# Where it should come from, its expected content, and what is said; the last answers nobody.
BAD_DOWNLOADS = {
    "gone": ("/gone.zip", GOOD, "gone.zip .*404 Client Error: Not Found.*set DALLREC_DATA_DIR=FOL"),
    "truncated": ("/truncated.zip", GOOD, "cannot download http://127.0.0.1:.*/truncated.zip"),
    "changed or damaged": ("/data.zip", b"x", "data.zip .* does not match the known hash"),
    "no network": (":9/data.zip", GOOD, "cannot download .*refused.*put the files into a folder"),
}


@pytest.mark.parametrize("case", BAD_DOWNLOADS)
def test_failed_downloads_leave_nothing(server, store, origin, case):
    path, expected, message = BAD_DOWNLOADS[case]
    server.bodies |= {"/truncated.zip": GOOD}
    here = case != "no network"
    origin(url=f"{server.url if here else 'http://127.0.0.1'}{path}", archive=md5(expected))
    with pytest.raises(UserError, match=message):
        data.require("ml-1m", download=True)
    assert len(server.asked) == here * (1 + download.RETRIES) and files(store) == []
    with pytest.raises(UserError, match="are not on this machine; `dallrec data ml-1m` fetches"):
        data.require("ml-1m")


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_half_made(store, origin, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pooch.core.shutil, "move", full)
        with pytest.raises(UserError, match="into .*/store: .*No space left on device. Check netw"):
            download.locate("ml-1m")
    assert files(store) == []
    monkeypatch.setattr(download.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="cannot write .*/ml-1m/ratings.dat: No space left"):
        download.locate("ml-1m")
    assert files(store) == ["data.zip"]


def test_names_without_files_need_nothing():
    for name in ("matinee", "files"):
        assert "nothing to fetch" in data.fetch_or_verify(name)[0] and download.is_here(name)
    with pytest.raises(UserError, match="did you mean 'ml-1m'"):
        data.fetch_or_verify("ml-1n")


def test_every_dataset_that_is_fetched_has_a_loader():
    assert set(download.ORIGINS) == set(data.NAMES) - {"matinee", "files"}
