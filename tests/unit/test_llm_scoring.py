"""p(yes): equal to the naive way, whatever the batches, and honest about bad questions."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain, combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from llm_support import tiny_model
from tokenizers import processors
from transformers import AutoConfig, AutoModelForCausalLM

from dallrec_core.errors import UserError
from dallrec_core.llm import batching, models, scoring
from dallrec_core.llm.batching import Group, batches
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.scoring import first_tokens, p_yes
from dallrec_core.training import threads

YES, NO = ("yes", "Yes"), ("no", "No")
PAIRS = [
    (
        f"A viewer liked: Heat (1995){' (Action|Crime)' * (user % 4 + 1)}.",
        f" {'film ' * item}{user}?",
    )
    for user in range(6)
    for item in range(1 + 2 * user % 5)
]
TEXTS = [prefix + suffix for prefix, suffix in PAIRS]


def naive(lm: models.LanguageModel, text: str) -> float:
    """One prompt at a time, softmax over the whole vocabulary, sum over the spellings."""
    ids = torch.tensor([lm.tokenizer(models.render(lm, text))["input_ids"]])
    with torch.inference_mode():
        chances = lm.model(input_ids=ids).logits[0, -1].softmax(-1)
    yes, no = (sum(float(chances[t]) for t in first_tokens(lm, words)) for words in (YES, NO))
    return yes / (yes + no)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 300, 16384])
def test_equals_the_naive_way(chat: bool, batch_tokens: int) -> None:
    lm = tiny_model(chat=chat)
    expected = [naive(lm, text) for text in TEXTS]
    assert np.ptp(expected) > 0.1  # the questions do differ
    for questions in (PAIRS, TEXTS):
        got = p_yes(lm, questions, YES, NO, batch_tokens=batch_tokens)
        assert got.dtype == np.float32 and got.shape == (len(TEXTS),)
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_order_and_company_do_not_matter() -> None:
    lm = tiny_model()
    together = p_yes(lm, PAIRS, YES, NO)
    alone = [p_yes(lm, [pair], YES, NO)[0] for pair in PAIRS]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(p_yes(lm, PAIRS[::-1], YES, NO)[::-1], together, atol=1e-5)


def test_a_prefix_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    seen = []
    forward = lm.model.forward
    monkeypatch.setattr(
        lm.model, "forward", lambda **k: (seen.append(k["input_ids"].numel()), forward(**k))[1]
    )
    questions = [
        ("A viewer liked: Heat (1995) (Action|Crime). " * 3, f"Film {i}?") for i in range(20)
    ]
    shared = p_yes(lm, questions, YES, NO)
    tokens_shared = sum(seen)
    seen.clear()
    apart = p_yes(lm, questions, YES, NO, share_prefix=False)
    assert tokens_shared < 0.4 * sum(seen)
    np.testing.assert_allclose(shared, apart, atol=1e-5)


def test_the_head_sees_one_position_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    shapes = []
    hook = lm.model.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: shapes.append(output.shape)
    )
    p_yes(lm, PAIRS, YES, NO)
    hook.remove()
    assert all(shape[1] == 1 for shape in shapes)


def test_models_with_windows_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    assert scoring._can_share(lm)
    monkeypatch.setattr(lm.model.config, "sliding_window", 8, raising=False)
    assert not scoring._can_share(lm)


def test_spellings_with_and_without_space_count() -> None:
    lm = tiny_model()
    ids = first_tokens(lm, ["yes"])
    assert {lm.tokenizer.decode([i]).strip()[0] for i in ids} == {"y"}
    assert len(ids) == 2
    assert first_tokens(lm, [" yes", "yes "]) == ids


def test_words_that_begin_alike_are_refused() -> None:
    with pytest.raises(UserError, match="begin with the same token"):
        p_yes(tiny_model(), ["x"], ["qa"], ["qb"])
    with pytest.raises(UserError, match="at least one spelling"):
        p_yes(tiny_model(), ["x"], [], NO)
    with pytest.raises(UserError, match="batch_tokens is 0"):
        p_yes(tiny_model(), ["x"], YES, NO, batch_tokens=0)


def test_a_long_prompt_is_named() -> None:
    with pytest.raises(UserError, match=r"prompt 2 of 3 is too long .* tokens, where 256 fit"):
        p_yes(tiny_model(), ["a", "word " * 300, "b"], YES, NO)


def test_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nan = torch.full((1, 400), float("nan"))
    monkeypatch.setattr(scoring, "last_logits", lambda *a: nan)
    with pytest.raises(UserError, match="computes NaN"):
        p_yes(tiny_model(), ["x"], YES, NO)


def test_no_questions() -> None:
    assert p_yes(tiny_model(), [], YES, NO).shape == (0,)


class _Killed(AnswerCache):
    """Dies after `batches` stored batches, as a kill would."""

    batches = 2

    def put_many(self, answers: dict[str, object]) -> None:  # type: ignore[override]
        super().put_many(answers)
        self.batches -= 1
        if self.batches == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("count", [1, 2])
def test_interrupted_run_loses_what_is_in_flight_and_ends_the_same(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny_model()
    asked: list[list[int]] = []
    score = scoring._score

    def counting(lm: models.LanguageModel, batch: list[Group], words: object) -> dict[int, float]:
        asked.append([i for group in batch for i, _ in group.rows])
        return score(lm, batch, words)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "_score", counting)
    uninterrupted = p_yes(lm, PAIRS, YES, NO, batch_tokens=60)
    assert sorted(chain(*asked)) == list(range(len(PAIRS))) and len(asked) > 2 + count
    asked.clear()
    with (
        threads(count),
        pytest.raises(KeyboardInterrupt),
        _Killed(tmp_path / "a.sqlite") as cache,
    ):
        p_yes(lm, PAIRS, YES, NO, batch_tokens=60, cache=cache)
    assert 2 <= len(asked) <= 1 + count  # two are stored; the others were in flight
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        stored, lost = len(cache), asked[:]
        asked.clear()
        resumed = p_yes(lm, PAIRS, YES, NO, batch_tokens=60, cache=cache)
        assert (cache.hits, cache.misses) == (stored, len(PAIRS) - stored)
        assert len(list(chain(*asked))) == len(PAIRS) - stored
        assert set(chain(*lost, *asked)) == set(range(len(PAIRS)))
        asked.clear()
        again = p_yes(lm, PAIRS, YES, NO, batch_tokens=60, cache=cache)
        assert not asked
    assert (resumed == uninterrupted).all() and (again == uninterrupted).all()  # to the last bit


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    lm = tiny_model()
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        got = p_yes(lm, ["same?", ("sa", "me?"), "other?"], YES, NO, cache=cache)
        assert len(cache) == 2 and got[0] == got[1] != got[2]


def test_batches_keep_the_budget_and_lose_nothing() -> None:
    groups = [Group((p,) * (p % 3 * 20), [(p * 10 + r, [2] * (r + 3)) for r in range(p % 7 + 1)])
              for p in range(1, 31) if p % 3 or p % 7 == 0]  # fmt: skip
    planned = list(batches(groups, 200))
    rows = sorted(i for batch in planned for g in batch for i, _ in g.rows)
    assert rows == sorted(i for g in groups for i, _ in g.rows)
    for batch in planned:
        widths = [g.widths for g in batch]
        assert len(batch) * (max(w[0] for w in widths) + max(w[1] for w in widths)) <= 200
        assert len({bool(g.prefix) for g in batch}) == 1


def test_questions_of_a_prefix_are_packed_into_few_rows_of_like_width() -> None:
    group = Group((1,) * 50, [(i, [2] * (10 + i % 3)) for i in range(50)])
    (batch,) = batches([group], 100_000)
    widths = [row.widths[1] for row in batch]
    assert len(batch) == 3 and max(widths) - min(widths) <= 20 and max(widths) <= 192
    wide = Group((1,) * 50, [(i, [2] * 300) for i in range(3)])
    assert [len(row.rows) for batch in batches([wide], 100) for row in batch] == [1, 1, 1]


def cost(groups: list[Group]) -> int:
    return sum(len(g.prefix) + sum(len(tokens) for _, tokens in g.rows) for g in groups)


def test_rows_are_grouped_by_whatever_saves_more() -> None:
    rng = np.random.default_rng(0)
    users, items = (rng.integers(1, 99, (6, size)).tolist() for size in (60, 25))
    for shared in (0, 20):  # words that all questions begin with
        for first, second in ((users, items), (items, users)):  # either may stand first
            made = [[7] * shared + one + other + [8] for one in first for other in second]
            rows = list(enumerate(made))
            rng.shuffle(rows)
            groups = batching.group_rows(rows)
            assert sorted((i, [*g.prefix, *t]) for g in groups for i, t in g.rows) == sorted(rows)
            assert all(tokens for group in groups for _, tokens in group.rows)
            assert cost(groups) == sum(map(len, made)) - 30 * (shared + len(first[0]))
    # one question each about many users: what all begin with is all there is to share
    lonely = [(i, [7] * 30 + user) for i, user in enumerate(users)]
    assert [len(group.prefix) for group in batching.group_rows(lonely)] == [30]
    assert batching.group_rows([]) == []


def test_grouping_saves_no_less_than_any_cut_of_a_small_tree() -> None:
    """Against every way to cut sorted rows into runs that share what they have in common."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        made = [sum((rng.choice(3) * [10] + [int(rng.choice(3))] * 20 for _ in range(4)), [9] * 16)
                for _ in range(7)]  # fmt: skip
        made.sort()
        rows = list(enumerate(made))
        least = min(
            cost([Group(tuple(a[: (k := _alike(made[i:j]))]), [(0, m[k:]) for m in made[i:j]])
                  for i, j in pairwise([0, *cuts, 7]) for a in [made[i]]])
            for size in range(7) for cuts in combinations(range(1, 7), size)
        )  # fmt: skip
        assert cost(batching.group_rows(rows)) == least


def _alike(rows: list[list[int]]) -> int:
    """Tokens that rows have in common where that is worth sharing, by the pairs in turn."""
    return min((batching._common(a, b) for a, b in pairwise(rows)), default=0)


Watched = tuple[models.LanguageModel, list[torch.Size]]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A model, and the shapes of what goes through it."""
    lm, shapes = tiny_model(), []
    forward = lm.model.forward
    monkeypatch.setattr(
        lm.model, "forward", lambda **k: (shapes.append(k["input_ids"].shape), forward(**k))[1]
    )
    return lm, shapes


def test_questions_share_without_being_told(watched: Watched) -> None:
    lm, shapes = watched
    texts = [f"Heat (1995) (Action|Crime|Thriller), robbers. Liked by {u}?" for u in range(12)]
    got = p_yes(lm, texts, YES, NO)
    assert len(shapes) == 2 and shapes[0][0] == 1 and shapes[1][0] < 4
    np.testing.assert_allclose(got, [naive(lm, text) for text in texts], atol=1e-5)


def test_whatever_stands_first_is_shared(watched: Watched) -> None:
    """By user or by item: the template decides which of them is the longer, shared beginning."""
    lm, shapes = watched
    item = "Heat (1995) (Action|Crime|Thriller): a group of professional robbers. "
    questions = [(item, f"Liked by a viewer of {'film ' * (u % 4)}{u}?") for u in range(12)]
    got = p_yes(lm, questions, YES, NO)
    (prefix, rows) = shapes
    assert prefix[0] == 1 and rows[0] < 4  # one item, and few rows for twelve users
    np.testing.assert_allclose(got, [naive(lm, a + b) for a, b in questions], atol=1e-5)


CUTS = [
    "A viewer liked: Heat (1995) (Action|Crime|Thriller). Will the viewer like this movie:",
    "Gemocht:   Zwölf Äpfel, 東京物語 (1953) & <b>. Wird   das 17 der Film gefallen, mit Glück? ",
]


@pytest.mark.parametrize("kind", ["standin", "chat", "alpaca", "ending"])
def test_shared_beginnings_are_tokenized_once_and_alike(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = (
        models.load("standin", device="cpu")
        if kind == "standin"
        else tiny_model(chat=kind == "chat")
    )
    if kind == "ending":  # marks the end of every text, so nothing can be continued
        tokenizer = copy.deepcopy(tiny_model(chat=False).tokenizer)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <|end|>", special_tokens=[("<|end|>", 1)]
        )
        lm = replace(lm, tokenizer=tokenizer)
    ends = [" Up (2009)?", "Up?", "1234?", "", " ", "?  é", "\n\nx", "&amp; 東", " a  b "]
    prefixes = [cut for cut in CUTS for _ in ends] + ["", "short "]
    texts = [cut + end for cut in CUTS for end in ends] + ["alone", "short one"]
    expected = [(i, lm.encode([models.render(lm, text)])[0]) for i, text in enumerate(texts)]
    sizes = []
    monkeypatch.setattr(batching, "render", lambda *a: (sizes.append(a[1]), models.render(*a))[1])
    positions = list(range(len(texts)))
    assert batching.tokenize(lm, texts, positions, prefixes=prefixes) == expected
    rendered = len(sizes) - 1  # the first is the probe of the template
    assert rendered == (len(texts) if kind == "ending" else 2)  # the others were continued


def test_templates_that_change_the_text_are_rendered_whole() -> None:
    lm = tiny_model()
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = lm.tokenizer.chat_template.replace(
        "content'] }}", "content'] | upper }}"
    )
    shouting = replace(lm, tokenizer=tokenizer)
    assert batching.frame(shouting) is None and "UP?" in models.render(shouting, "Up?")
    texts = [CUTS[0] + f" Film {i}?" for i in range(4)]
    rows = batching.tokenize(shouting, texts, range(4), prefixes=[CUTS[0]] * 4)
    assert [row for _, row in rows] == lm.encode([models.render(lm, t.upper()) for t in texts])


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ROPE = SIZES | {"intermediate_size": 64, "max_position_embeddings": 256, "head_dim": 8}
OTHERS = [
    ("llama", ROPE | {"num_key_value_heads": 2}, True),
    ("qwen3", ROPE | {"num_key_value_heads": 1}, True),
    ("gemma", ROPE | {"num_key_value_heads": 4}, True),
    ("gpt_neox", SIZES | {"intermediate_size": 64, "max_position_embeddings": 256}, True),
    ("mistral", ROPE | {"num_key_value_heads": 2, "sliding_window": 8}, False),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}, False),
    ("bloom", SIZES, False),
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("kind", "sizes", "shared"), OTHERS, ids=[kind for kind, *_ in OTHERS])
def test_other_architectures_equal_the_naive_way(
    kind: str, sizes: dict[str, int], shared: bool, attention: str
) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=360, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=1,
        **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    except ValueError:
        pytest.skip(f"{kind} has no {attention}")
    lm = replace(tiny_model(), model=model)
    assert scoring._can_share(lm) == shared
    expected = [naive(lm, text) for text in TEXTS]
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(p_yes(lm, PAIRS, YES, NO), expected, atol=1e-4)


def test_the_last_layer_is_computed_where_answers_are_read() -> None:
    lm = tiny_model()
    first: list[int] = []
    last: list[int] = []
    handles = [
        layer.mlp.register_forward_pre_hook(
            lambda _, x, seen=seen: seen.append(x[0][..., 0].numel())
        )
        for layer, seen in zip(lm.model.model.layers, (first, last), strict=True)
    ]
    try:
        p_yes(lm, [(TEXTS[0], f" Film {n}?") for n in range(20)], YES, NO)
    finally:
        [handle.remove() for handle in handles]
    assert last == [1, 20]  # of the prefix only keys and values matter
    assert first[0] > 20 and first[1] > 60
