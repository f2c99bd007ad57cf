"""The built pages: all there, linked to each other, described for those who cannot see them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import html5lib
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from sphinx_external_toc.parsing import parse_toc_yaml

from dallrec_core.chain import pages as chain_pages
from dallrec_core.chain.artefacts import read_table
from dallrec_core.chain.parameters import page_parameters

ROOT = Path(__file__).resolve().parents[2]
PAGES = list(parse_toc_yaml(ROOT / "book" / "_toc.yml"))
STRAIGHT = str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")
"""Quotation marks as they were typed."""


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    """Each page in turn."""
    return request.param


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))


def article(html: Path, page: str) -> Tag:
    found = soup(html / f"{page}.html").find("article")
    assert isinstance(found, Tag)
    return found


def test_the_page_exists_and_has_one_title_and_no_directive_as_text(html: Path, page: str) -> None:
    assert (html / f"{page}.html").stat().st_size > 5000
    shown = article(html, page)
    assert len(shown.find_all("h1")) == 1
    assert not re.search(r"`{3}\{|^:::", shown.get_text(), re.MULTILINE)


def test_every_notebook_and_prose_page_is_in_the_table_of_contents() -> None:
    prose = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert prose | notebooks == set(PAGES)
    assert {f"notebooks/{stage.name}" for stage in chain_pages.PAGES} <= notebooks


def test_images_have_alternative_texts(html: Path, page: str) -> None:
    for image in article(html, page).find_all("img"):
        alt = str(image.get("alt", ""))
        assert len(alt) > (10 if "badge" in str(image["src"]) else 20), f"{image['src']}: '{alt}'"
        assert not re.search(r"\.(png|svg|jpe?g)$|_images|/", alt), f"a path as text: '{alt}'"


def test_links_and_files_of_the_page_are_there(html: Path, page: str) -> None:
    here, found = html / f"{page}.html", 0
    for tag in soup(here).find_all(["a", "img", "script", "link", "source", "iframe"]):
        place = str(tag.get("src") or tag.get("href") or "#")
        address = urlsplit(place)
        assert tag.name != "script" or not address.netloc, f"{page} needs a network for {tag}"
        if address.scheme or address.netloc or place == "#" or tag.get("rel") == ["index"]:
            continue
        found += tag.name != "a"
        target = here if not address.path else (here.parent / unquote(address.path)).resolve()
        assert target.is_file(), f"{page}: {tag}"
        if address.fragment and target.suffix == ".html":
            assert unquote(address.fragment) in anchors(target), f"{page}: {place}"
    assert found > 10


@pytest.mark.parametrize("page", [*PAGES, "index", "search", "genindex"])
def test_the_page_is_valid_html(html: Path, page: str) -> None:
    parser = html5lib.HTMLParser()
    text = (html / f"{page}.html").read_text(encoding="utf-8")
    parser.parse(text)
    lines = text.splitlines()
    wrong = [f"line {at[0]}: {code}: {lines[at[0] - 1][:200]}" for at, code, _ in parser.errors]
    assert not wrong, "\n".join(wrong[:5])


def test_signatures_are_readable(html: Path) -> None:
    found = article(html, "book/api").select("dt.sig")
    signatures = [each.get_text(" ", strip=True) for each in found]
    raw = [text for text in signatures if re.search(r"(?<!/)~|<", text)]
    assert len(signatures) > 500 and not raw, "\n".join(raw[:5])


def test_search_knows_cold_start(html: Path) -> None:
    index = (html / "searchindex.js").read_text(encoding="utf-8")
    content = json.loads(index[index.index("(") + 1 : index.rindex(")")])
    names = content["docnames"]
    found = content["terms"]["cold"]
    places = {names[n] for n in (found if isinstance(found, list) else [found])}
    assert "book/glossary" in places
    assert any("cold-start" in title.lower() for title in content["indexentries"]), "the glossary's"


def test_the_reproduce_page_lists_every_parameter(html: Path) -> None:
    page = article(html, "book/reproduce")
    for stage in chain_pages.PAGES:
        heading = next(h for h in page.find_all("h3") if h.get_text().startswith(stage.name))
        section = heading.find_parent("section")
        assert section is not None
        rows = [[cell.get_text() for cell in row.find_all("td")] for row in section.find_all("tr")]
        listed = {row[0]: (row[1], row[3].translate(STRAIGHT)) for row in rows if row}
        known = page_parameters(stage)
        assert listed == {name: (p.kind, p.comment) for name, p in known.items()}


def headline() -> tuple[list[dict[str, Any]], list[str]]:
    run = ROOT / "runs" / "smoke" / "07_analysis" / "headline.json"
    content = json.loads(run.read_text(encoding="utf-8"))
    return content["backbones"], content["yardsticks"]


def test_finding_interval_and_p_of_the_headline_agree() -> None:
    of, yardsticks = headline()
    # a best control that is zero_shot is one comparison with two names
    sides = {
        json.dumps([row["backbone"], metric, side]): side
        for row in of
        for metric in yardsticks
        for side in row[metric].values()
    }
    for each in sides.values():
        assert each["seeds"] >= 5 and each["family"] == len(sides)
        assert (each["verdict"] == "higher") == (each["p_corrected"] < 0.05 and each["low"] > 0)
        assert (each["verdict"] == "lower") == (each["p_corrected"] < 0.05 and each["high"] < 0)


def test_what_came_out_is_what_the_readme_says() -> None:
    effects = read_table(ROOT / "runs" / "smoke" / "07_analysis" / "effects.parquet", "effects")
    higher = effects[effects["verdict"] == "higher"]
    counts = higher.groupby(["arm", "over", "metric"]).size()
    most = effects["backbone"].nunique() / 2
    # most gain over base; over the untuned model and over any control no gain is detected
    assert counts["dallrec", "base", "preference@20"] > most
    assert counts["liked_only", "base", "preference@20"] > most
    # more than any other arm that adds to base or takes from it, the ceiling aside
    over_base = effects[(effects["over"] == "base") & (effects["arm"] != "oracle")]
    means = over_base.groupby(["metric", "arm"])["difference"].mean()
    for metric in ("preference@20", "recall@20[liked]"):
        assert means[metric].drop(["liked_dallrec", "liked_counting"]).idxmax() == "liked_only"
    assert set(higher.loc[higher["arm"] == "dallrec", "over"]) == {"base"}
    # on top of what was liked the written pairs help, and those of the rule as much
    assert counts["liked_dallrec", "liked_only", "preference@20"] >= 2
    assert "liked_counting" not in set(higher.loc[higher["arm"] == "liked_dallrec", "over"])


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("notebooks/")])
def test_notebook_pages_show_results_and_no_accidents(html: Path, page: str) -> None:
    shown, name = article(html, page), Path(page).name
    assert not shown.select(".output.stderr"), shown.select(".output.stderr")
    text = shown.get_text()
    assert "Traceback (most recent call last)" not in text
    assert str(ROOT) not in text and "PosixPath(" not in text
    if "Not computed here" in text:
        assert chain_pages.find_page(name).data and "dallrec data" in text
        return
    assert len(shown.select(".cell_output")) >= 4, "outputs are missing"
    assert shown.find("img"), "a figure is missing"
    captions = [each.get_text(" ", strip=True) for each in shown.select("figcaption")]
    origin = rf"Drawn by cell \d+ of {name}\.ipynb , run smoke , commit ([0-9a-f]{{7,}}|unknown)"
    for caption in captions:
        assert re.match(r"Fig\. ?\d+", caption) and re.search(origin, caption), caption
    assert captions


def test_buttons_lead_to_the_repository(html: Path, page: str) -> None:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    links = {str(link["href"]) for link in soup(html / f"{page}.html").find_all("a", href=True)}
    slug = repository.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{slug}/blob/main/{page}.ipynb"
    assert repository in links and (colab in links or not page.startswith("notebooks/"))


def test_the_status_page_lists_every_notebook(html: Path) -> None:
    text = article(html, "book/status").get_text()
    assert all(stage.name in text for stage in chain_pages.PAGES)
    assert "by hand" not in text and "content digest" in text
