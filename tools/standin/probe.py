"""How well the model answers preference questions, on viewers and films held out of everything.

Two kinds of questions. *Decided*: eight films rated 4 or 5 and eight rated 1, all genres shown,
about films rated so too; here the answer can be read from the prompt. *Pipeline*: what the book's
notebooks ask: the few films the viewer happened to see, mostly one genre shown, any opinion; here
little of the answer is in the prompt, whoever reads it. The viewers' seed is not used in training,
and films asked about are the catalogue's held-out ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from transformers import LlamaForCausalLM

from dallrec_core.data.matinee import HELD_OUT, catalogue
from tools.matinee.viewers import simulate
from tools.standin.dialogues import preference_row
from tools.standin.network import IGNORED, Row, pack
from tools.standin.shelf import Shelf
from tools.standin.tokenizer import Encoder
from tools.standin.wordings import Wording

VIEWER_SEED = 4_242
"""Seed of the viewers asked about; training draws seeds from a million on."""


@dataclass
class Questions:
    """A history per viewer and its questions, with answers and what the oracle thinks."""

    likes: list[np.ndarray]
    dislikes: list[np.ndarray]
    targets: list[np.ndarray]
    answers: list[np.ndarray]
    taste: list[np.ndarray]


class Probe:
    """Measures AUC of p(yes) on fresh viewers, pooled over all questions."""

    def __init__(self, encoder: Encoder, decided: bool, viewers: int = 150) -> None:
        self.encoder, self.decided, self.viewers = encoder, decided, viewers
        self.shelf = Shelf("movie", catalogue(), True)
        self.shown = self.shelf.shown(1.0 if decided else 0.3, np.random.default_rng(3))
        self.truth = simulate(self.shelf.frame, viewers, VIEWER_SEED)
        self.items = [f"{n} ({g})" for n, g in zip(self.shelf.names, self.shown, strict=True)]

    def _history(self, user: int, seen: np.ndarray, rng) -> tuple[np.ndarray, np.ndarray]:
        ratings = self.truth.ratings[user]
        if self.decided:
            known = ~self.shelf.frame["film_id"].isin(HELD_OUT).to_numpy()
            parts = np.flatnonzero(known & (ratings >= 4)), np.flatnonzero(known & (ratings == 1))
        else:
            seen = rng.permutation(seen)[: max(1, int(0.8 * len(seen)))]
            parts = seen[ratings[seen] >= 3], seen[ratings[seen] < 3]
        return rng.permutation(parts[0])[:8], rng.permutation(parts[1])[:8]

    def questions(self, held_out: bool, per_side: int = 4) -> Questions:
        """Draw balanced questions about films outside the history."""
        rng = np.random.default_rng(11)
        pool = np.flatnonzero(self.shelf.frame["film_id"].isin(HELD_OUT) == held_out)
        high, low = (4, 1) if self.decided else (3, 2)
        out = Questions([], [], [], [], [])
        seen = dict(list(self.truth.interactions.groupby("viewer")["film"]))
        for u in range(self.viewers):
            ratings, films = self.truth.ratings[u], seen[u].to_numpy()
            likes, dislikes = self._history(u, films, rng)
            free = np.setdiff1d(pool, np.concatenate([likes, dislikes, films]))
            yes, no = free[ratings[free] >= high], free[ratings[free] <= low]
            size = min(per_side, len(yes), len(no))
            picks = np.concatenate([rng.permutation(yes)[:size], rng.permutation(no)[:size]])
            for part, value in zip(
                (out.likes, out.dislikes, out.targets, out.answers, out.taste),
                (likes, dislikes, picks, ratings[picks] >= 3, self.truth.taste[u, picks]),
                strict=True,
            ):
                part.append(value)
        return out

    @cached_property
    def _sets(self) -> dict[bool, Questions]:
        return {held_out: self.questions(held_out) for held_out in (True, False)}

    def rows(self, q: Questions, wording: Wording) -> list[Row]:
        """The questions as packed rows in one wording."""
        name = self.items.__getitem__
        return [
            preference_row(
                self.encoder,
                wording,
                *([name(k) for k in part] for part in parts),
                answers.tolist(),
            )
            for *parts, answers in zip(q.likes, q.dislikes, q.targets, q.answers, strict=True)
        ]

    @torch.no_grad()
    def scores(self, model: LlamaForCausalLM, rows: list[Row], wording: Wording) -> np.ndarray:
        """log p(yes) - log p(no) of every question, in order."""
        yes, no = (self.encoder.ids(w)[0] for w in (wording.yes, wording.no))
        out = []
        for start in range(0, len(rows), 25):
            batch = pack(rows[start : start + 25], self.encoder.pad)
            hidden = model.model(
                input_ids=batch.tokens,
                position_ids=batch.positions,
                attention_mask=batch.mask,
                use_cache=False,
            ).last_hidden_state
            # The first learnt label of each answer is the yes or no token itself.
            wanted = (batch.labels == yes) | (batch.labels == no)
            assert (wanted & (batch.labels == IGNORED)).sum() == 0
            logits = hidden[wanted] @ model.lm_head.weight[[yes, no]].T
            out.append((logits[:, 0] - logits[:, 1]).numpy())
        return np.concatenate(out)

    def auc(self, model: LlamaForCausalLM, held_out: bool, wording: Wording) -> float:
        """AUC over all questions pooled."""
        q = self._sets[held_out]
        scores = self.scores(model, self.rows(q, wording), wording)
        return float(roc_auc_score(np.concatenate(q.answers), scores))

    def rules(self, held_out: bool) -> dict[str, float]:
        """AUC of the oracle (true taste) and of counting the shown genres."""
        q = self._sets[held_out]
        genres = [set(text.split("|")) for text in self.shown]
        counts = []
        for likes, dislikes, targets in zip(q.likes, q.dislikes, q.targets, strict=True):
            for t in targets:
                counts.append(
                    sum(len(genres[t] & genres[k]) for k in likes)
                    - sum(len(genres[t] & genres[k]) for k in dislikes)
                )
        answers = np.concatenate(q.answers)
        return {
            "oracle": float(roc_auc_score(answers, np.concatenate(q.taste))),
            "counting": float(roc_auc_score(answers, counts)),
        }
