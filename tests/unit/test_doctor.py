"""`dallrec doctor`: what it reports about this machine and about machines we pretend to have."""

from __future__ import annotations

from pathlib import Path

import pytest

from dallrec_core import doctor
from dallrec_core.chain.places import book_root
from dallrec_core.chain.profiles import load_profile, profile_names
from dallrec_core.errors import UserError


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))


def test_the_report_covers_machine_data_and_every_profile() -> None:
    report = "\n".join(doctor.examine())
    for word in ("Python", "cores", "memory", "disk", "packages", "GPU", "ml-1m"):
        assert f"  {word} " in report
    for name in profile_names():
        assert f"profile {name}: " in report
    assert "ok  profile smoke: can run here" in report


def test_packages_that_differ_from_the_lock_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = doctor.locked(book_root() / "requirements.lock")
    monkeypatch.setattr(doctor.metadata, "version", versions.__getitem__)
    assert list(doctor._packages())[0].startswith("ok")
    monkeypatch.setattr(doctor.metadata, "version", lambda n: "0" if n == "torch" else versions[n])
    assert "!!" in (line := list(doctor._packages())[0])
    assert f"torch is 0, locked {versions['torch']}" in line


def test_a_small_machine_lacks_memory_and_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_gib", lambda: 4.0)
    monkeypatch.setattr(doctor, "_gpu_gib", lambda: 0.0)
    monkeypatch.setattr(doctor, "_has", lambda module: False)
    lacks = doctor.lacking(load_profile("paper"))
    assert any("GiB of memory (here 4)" in each for each in lacks)
    assert any("GiB GPU (here 0)" in each for each in lacks)
    assert any("dallrec-core[gpu]" in each for each in lacks)


def test_a_large_machine_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_memory_gib", "_gpu_gib", "_disk_gib"):
        monkeypatch.setattr(doctor, name, lambda: 100.0)
    monkeypatch.setattr(doctor, "_has", lambda module: True)
    names = profile_names()
    assert [doctor.lacking(load_profile(name)) for name in names] == [[]] * len(names)


def test_downloads_are_announced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    wanted = doctor.downloads(load_profile("colab"))
    assert wanted[0] == "the data of ml-100k" and wanted[1].startswith("the model Qwen/")
    assert doctor.downloads(load_profile("smoke")) == []


def test_book_titles_are_announced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))
    books = load_profile("book-crossing")
    data, titles = "the data of published-book", "the titles of its books (BX-Books.csv)"
    assert doctor.downloads(books) == [data, titles]
    (tmp_path / "bookcrossing").mkdir()
    (tmp_path / "bookcrossing" / "items.tsv").touch()
    assert doctor.downloads(books) == [data]
    assert any("put BX-*.csv into" in line for line in doctor.examine())


def test_a_missing_lock_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read .*absent.lock"):
        doctor.locked(tmp_path / "absent.lock")
