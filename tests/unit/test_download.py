"""Downloads against a local server: retried, checked, atomic, and unpacked with distrust."""

from __future__ import annotations

import errno
import hashlib
import io
import shutil
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch.core
import pytest

from dallrec_core.data import download
from dallrec_core.errors import UserError

BODY = b"user item item\n" * 5000


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, body in members.items():
            bundle.writestr(name, body)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.bodies``; paths can fail first or be cut short."""

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        if server.failures > 0:
            server.failures -= 1
            self.send_error(503)
            return
        body = server.bodies.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if "truncated" in self.path else body)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def server(monkeypatch):
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.bodies, served.asked, served.failures = {}, [], 0
    served.url = f"http://127.0.0.1:{served.server_port}"
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def store(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("DALLREC_DATA_DIR", str(folder))
    return folder


def test_fetch_puts_a_complete_file_in_place_once(server, store):
    server.bodies["/a.txt"] = BODY
    for _ in range(2):
        path = download.fetch(f"{server.url}/a.txt", md5(BODY), store)
    assert path.read_bytes() == BODY
    assert server.asked == ["/a.txt"]
    assert [found.name for found in store.iterdir()] == ["a.txt"]


def test_fetch_tries_again(server, store):
    server.bodies["/a.txt"] = BODY
    server.failures = 2
    assert download.fetch(f"{server.url}/a.txt", md5(BODY), store).read_bytes() == BODY
    assert len(server.asked) == 3


BAD_DOWNLOADS = {
    "gone": ("/gone.txt", BODY, r"gone.txt: the server answered 404 Not Found.*DALLREC_DATA_DIR="),
    "truncated": ("/truncated.txt", BODY, "cannot download http://127.0.0.1:.*/truncated.txt"),
    "changed": ("/a.txt", b"other", "a.txt does not have the md5 .* Nothing was kept"),
}


@pytest.mark.parametrize("case", BAD_DOWNLOADS)
def test_failed_downloads_leave_nothing(server, store, case):
    path, expected, message = BAD_DOWNLOADS[case]
    server.bodies |= {"/truncated.txt": BODY, "/a.txt": BODY}
    with pytest.raises(UserError, match=message):
        download.fetch(f"{server.url}{path}", md5(expected), store)
    assert len(server.asked) == 1 + download.RETRIES
    assert list(store.iterdir()) == []


def test_no_network_names_the_url_and_the_way_out(server, store):
    server.shutdown()
    server.server_close()
    message = rf"cannot download {server.url}/a.txt: .*refused.*put the files into a folder"
    with pytest.raises(UserError, match=message):
        download.fetch(f"{server.url}/a.txt", md5(BODY), store)


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    server.bodies["/a.txt"] = BODY
    with pytest.raises(UserError, match="cannot write to .*file/store.*DALLREC_DATA_DIR"):
        download.fetch(f"{server.url}/a.txt", md5(BODY), tmp_path / "file" / "store")


def test_full_disk_while_downloading(server, store, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    server.bodies["/a.txt"] = BODY
    monkeypatch.setattr(pooch.core.shutil, "move", full)
    with pytest.raises(UserError, match="cannot write to .*: No space left on device"):
        download.fetch(f"{server.url}/a.txt", md5(BODY), store)
    assert list(store.iterdir()) == []


def recipe(server, body: bytes, **changes: object) -> download.Recipe:
    server.bodies["/data.zip"] = body
    files = {"ratings.dat": md5(BODY), "movies.dat": md5(b"1::A::B\n")}
    settings = {"url": f"{server.url}/data.zip", "archive_md5": md5(body), "inside": "data"}
    return download.Recipe(files=files, **(settings | changes))


GOOD = {"data/ratings.dat": BODY, "data/movies.dat": b"1::A::B\n", "data/README": b"terms"}


def test_locate_fetches_unpacks_and_verifies(server, store, monkeypatch):
    monkeypatch.setitem(download.RECIPES, "ml-1m", recipe(server, zipped(GOOD)))
    first = download.fetch_or_verify("ml-1m")
    assert (store / "ml-1m" / "README").read_bytes() == b"terms"
    assert "md5 verified, 3 files unpacked" in first[1]
    again = download.fetch_or_verify("ml-1m")
    assert len(server.asked) == 1
    assert [line.split(":")[0].strip() for line in again] == ["ml-1m", "ratings.dat", "movies.dat"]
    assert all("verified" in line for line in again[1:])
    assert {path.name for path in store.iterdir()} == {"data.zip", "ml-1m"}


def test_own_editions_are_used_and_noted(server, store, monkeypatch, capsys):
    monkeypatch.setitem(download.RECIPES, "ml-1m", recipe(server, zipped(GOOD)))
    (store / "ml-1m").mkdir()
    (store / "ml-1m" / "ratings.dat").write_bytes(b"mine")
    folder = download.ensure("ml-1m")
    assert (folder / "ratings.dat").read_bytes() == b"mine"
    assert (folder / "movies.dat").read_bytes() == b"1::A::B\n"
    assert "ratings.dat differs from the original edition" in capsys.readouterr().out
    assert download.locate("ml-1m").notes[0].startswith("ratings.dat differs")


def test_an_archive_put_there_by_hand_needs_no_network(server, store, monkeypatch):
    made = recipe(server, zipped(GOOD))
    monkeypatch.setitem(download.RECIPES, "ml-1m", made)
    (store / "data.zip").write_bytes(zipped(GOOD))
    download.ensure("ml-1m")
    assert server.asked == []


def test_single_files_are_fetched_one_by_one(server, store, monkeypatch):
    server.bodies |= {"/or/train.txt": BODY, "/or/test.txt": b"x"}
    files = {"train.txt": md5(BODY), "test.txt": md5(b"x")}
    made = download.Recipe(files=files, url=f"{server.url}/or")
    monkeypatch.setitem(download.RECIPES, "published/movielens", made)
    lines = download.fetch_or_verify("published")
    assert (store / "published" / "movielens" / "train.txt").read_bytes() == BODY
    assert sum("fetched into" in line for line in lines) == 2


def test_names_without_files_need_nothing():
    assert "nothing to fetch" in download.fetch_or_verify("matinee")[0]
    assert "nothing to fetch" in download.fetch_or_verify("files")[0]
    with pytest.raises(UserError, match="Did you mean 'ml-1m'"):
        download.fetch_or_verify("ml-1n")


def test_data_dir_that_is_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="DALLREC_DATA_DIR is .*nowhere, which is not a folder"):
        download.data_dir()
    monkeypatch.delenv("DALLREC_DATA_DIR")
    assert download.data_dir().name == "dallrec"


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name", ["../evil", "data/../../evil", "/evil", "C:/evil", "data\\..\\..\\evil", "link"]
)
def test_members_that_leave_the_folder_are_refused(tmp_path, name):
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("data/good", "good")
        bundle.writestr(link("data/link") if name == "link" else name, "/etc/passwd")
    with pytest.raises(UserError, match="would leave the folder it is unpacked into"):
        download.extract(archive, tmp_path / "out", inside="data")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def corrupt(body: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(body), "r") as bundle:
        start = bundle.getinfo("data/ratings.dat").header_offset + 60
    return body[:start] + bytes(255 - byte for byte in body[start : start + 8]) + body[start + 8 :]


BROKEN = {
    "truncated": (zipped(GOOD)[:200], "is not a complete zip archive"),
    "corrupt": (corrupt(zipped(GOOD)), "is not a complete zip archive"),
    "not a zip": (b"<html>moved</html>", "is not a complete zip archive"),
    "other zip": (zipped({"other/file": b"x"}), "holds no file below 'data'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_archives_leave_nothing(tmp_path, case):
    body, message = BROKEN[case]
    archive = tmp_path / "data.zip"
    archive.write_bytes(body)
    with pytest.raises(UserError, match=message):
        download.extract(archive, tmp_path / "out", inside="data")
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


def test_archive_without_the_wanted_file(server, store, monkeypatch):
    body = zipped({"data/README": b"terms"})
    monkeypatch.setitem(download.RECIPES, "ml-1m", recipe(server, body))
    with pytest.raises(UserError, match="does not hold ratings.dat, movies.dat"):
        download.locate("ml-1m")


def test_full_disk_while_unpacking(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = tmp_path / "data.zip"
    archive.write_bytes(zipped(GOOD))
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(UserError, match="cannot unpack .*: No space left on device"):
        download.extract(archive, tmp_path / "out", inside="data")
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]
