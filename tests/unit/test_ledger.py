"""The cost ledger: counts equal those of plain tokenization, times never reach a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from llm_support import tiny_checkpoint, tiny_model

from dallrec_core.book import INSERTIONS
from dallrec_core.chain import artefacts
from dallrec_core.chain.pages import find_page
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.examples import Collate, encode_examples
from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.generate import generate
from dallrec_core.llm.ledger import COUNTS, Ledger, Usage, ledger_table, usage
from dallrec_core.llm.load import render
from dallrec_core.llm.score import p_yes

PREFIX = "A viewer liked: Heat (1995) (Action|Crime|Thriller). Will the viewer like"
PROMPTS = [(PREFIX, f" Film {i:02d}? Answer yes or no.") for i in range(6)]


def lengths(prompts: list[tuple[str, str]]) -> list[int]:
    lm = tiny_model()
    return [len(tokens) for tokens in lm.encode([render(lm, a + b) for a, b in prompts])]


def counted(prompts: list[tuple[str, str]], **options: object) -> Usage:
    with Ledger("asking").task("all") as counts:
        p_yes(tiny_model(), prompts, ["yes"], ["no"], **options)
    return counts


def test_the_cache_saves_what_it_answers(tmp_path: Path) -> None:
    whole = lengths(PROMPTS)
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        counted(PROMPTS[:2], cache=cache)
        half = counted([*PROMPTS, PROMPTS[5]], cache=cache)  # one of them twice
        again = counted(PROMPTS, cache=cache)
    assert (half.questions, half.from_cache, half.saved_by_cache) == (7, 3, sum(whole[:2]))
    assert half.tokens_in + half.saved_by_prefix == sum(whole[2:])
    assert again == Usage(questions=6, from_cache=6, saved_by_cache=sum(whole))


@pytest.mark.parametrize("batch_tokens", [200, 16384])
def test_the_count_is_what_the_model_was_given(batch_tokens: int) -> None:
    lm = tiny_model()
    prompts = [(PREFIX + f" {n} or", end) for n in range(3) for _, end in PROMPTS]
    prompts += [("", "Is water wet?")]
    assert all(lm.pad_id not in row for row in lm.encode([render(lm, a + b) for a, b in prompts]))
    given: list[int] = []

    def look(module: object, args: object, options: dict[str, torch.Tensor]) -> None:
        given.append(int((options["input_ids"] != lm.pad_id).sum()))

    with lm.model.register_forward_pre_hook(look, with_kwargs=True):
        counts = counted(prompts, batch_tokens=batch_tokens)
    assert counts.tokens_in == sum(given)
    assert counts.tokens_in + counts.saved_by_prefix == sum(lengths(prompts))
    assert counts.saved_by_prefix > 0


def test_writing_and_tuning_are_counted(tmp_path: Path) -> None:
    ledger, read = Ledger("writing"), sum(lengths(PROMPTS))
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        with ledger.task("first") as first:
            answers = generate(tiny_model(), PROMPTS, max_new_tokens=5, cache=cache)
        with ledger.task("second") as second:
            generate(tiny_model(), PROMPTS, max_new_tokens=5, cache=cache)
    wrote = sum(answer.tokens for answer in answers)
    assert first == Usage(questions=6, tokens_in=read, tokens_out=wrote) and wrote > 0
    assert second == Usage(questions=6, from_cache=6, saved_by_cache=read + wrote)
    examples = [{"instruction": f"{i % 3} and {i}?", "output": "yes"} for i in range(5)]
    settings = LoraSettings(epochs=3, batch_size=5)
    with ledger.task("tuning") as counts:
        finetune(str(tiny_checkpoint()), examples, tmp_path / "a", settings, task="t", device="cpu")
    rows = encode_examples(tiny_model(), examples, "t")
    all_read = 3 * sum(len(row["input_ids"]) for row in rows)
    saved = counts.saved_by_prefix
    assert counts == Usage(questions=5, tokens_in=all_read - saved, saved_by_prefix=saved)
    given = Collate(tiny_model().pad_id, share=True)(rows)["owners"]
    assert all_read - saved == 3 * int((given >= 0).sum()) < all_read


def test_a_ledger_adds_up_by_task_and_times_never_reach_a_digest(tmp_path: Path) -> None:
    ledger = Ledger("03_interactions")
    for number in (1, 2):
        with ledger.task("asking"):
            usage().questions += 1000 * number
    with pytest.raises(ValueError), ledger.task("lost"):
        raise ValueError
    usage().questions += 5  # outside of a task: goes nowhere
    frame = ledger.frame()
    assert frame["task"].tolist() == ["asking"] and frame["questions"].tolist() == [3000]
    assert frame["seconds"].iloc[0] >= 0 and frame["peak_mib"].iloc[0] > 1
    assert ledger_table(frame).loc["asking", "questions"] == "3,000"
    assert list(Ledger("s").frame().columns) == artefacts.SCHEMAS["ledger"].names
    decided = {*COUNTS, "seconds", "peak_mib"} - {"questions"}  # by the machine and the cache
    other = frame.assign(device="gpu", **dict.fromkeys(decided, 9))
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    for path, each in zip(paths, (frame, other, frame.assign(questions=4)), strict=True):
        artefacts.write_table(each, path, "ledger")
    one, same, different = map(artefacts.digest, paths)
    assert one == same != different


def test_the_status_page_adds_the_tasks_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path))
    shown = INSERTIONS["ledger"]
    assert shown("smoke") == ""
    for name, questions in (("03", 4000), ("04", 70)):
        ledger = Ledger(find_page(name).name)
        with ledger.task("held-out pairs"):
            usage().questions += questions
        folder = tmp_path / "smoke" / ledger.stage
        artefacts.write_table(ledger.frame(), folder / "ledger.parquet", "ledger")
    rows = [row.split(" | ") for row in shown("smoke").splitlines()[2:]]
    assert [row[2] for row in rows] == ["4,000", "70", "4,070"]
