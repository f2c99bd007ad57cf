"""Simulated viewers of real films: what they like, what they watch, how they rate it.

**This is a simulation made for teaching.** The viewers are made up by the equations below. They
exist because everything about them is known, which no real dataset offers: how much a viewer would
like *every* film. Claims about real data come from real data.

The equations, with the constants of `Recipe`, are on the book's page about the dataset
(`book/matinee.md`).

Byte-identical on every machine: draws come from the raw 64-bit words of PCG64, everything that is
compared or summed is an integer (thousandths), exp and log are correctly rounded `decimal` ones,
and float64 is used only for single `+ - * /` and square roots, which IEEE 754 fixes to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError

_FILM_SEED = 1_895
_UNIT = 1_000
_APPEAL, _RANK, DOCUMENTED = 1, 2, 3
"""Purposes of the random numbers that belong to a film, whoever watches it."""


@dataclass(frozen=True)
class Recipe:
    """The constants of the simulation; the defaults are the embedded dataset's, and settled."""

    genres: tuple[int, ...] = (4, 3, 3, 2)
    """Weights of the genres a viewer likes; as many are disliked as strongly."""
    directors: int = 2
    """Favourite directors of each viewer; directors are drawn as often as they have films."""
    director: int = 2_000
    """Weight of a favourite director, in thousandths."""
    era: int = 1_000
    """Weight of the era, in thousandths."""
    era_years: int = 25
    """Distance in years at which the era counts nothing."""
    appeal: int = 400
    """Standard deviation of a film's appeal to everybody, in thousandths."""
    whim: int = 300
    """Standard deviation of what is particular to one viewer and one film, in thousandths."""
    head: int = 10
    """Flattens the top of the popularity curve."""
    tail: str = "1.5"
    """Exponent of the popularity curve."""
    obscure_percent: int = 6
    """Share of the films that nearly nobody comes across."""
    obscure: int = 15
    """How many times smaller the exposure of those films is."""
    popularity_power: str = "0.6"
    """Exponent of the popularity in the exposure."""
    taste_power: str = "2.5"
    """Factor of the taste in the exponent of the exposure."""
    company_percent: int = 35
    """Share of the films that somebody else chose: exposure by popularity alone."""
    noise: int = 800
    """Standard deviation of a rating around the taste, in thousandths."""
    cuts: tuple[int, ...] = (-200, 700, 1_300, 2_000)
    """Opinions, in thousandths, from which a rating is 2, 3, 4 and 5."""
    activity: tuple[tuple[int, int, int], ...] = (
        *((12, 3, 5), (10, 6, 7), (46, 8, 12)),
        *((23, 13, 20), (7, 21, 40), (2, 41, 70)),
    )
    """(percent of viewers, fewest, most films seen); uniform between."""


RECIPE = Recipe()
"""The recipe of the embedded dataset."""
REALLY_LIKED = RECIPE.cuts[1] / _UNIT
"""Taste from which a viewer really likes a film: the taste at the cut of rating 3."""


@dataclass(frozen=True)
class Viewers:
    """Simulated viewers and everything that is true of them.

    Rows of the arrays are viewers `0..U-1`, columns are the rows of the films given to `simulate`.
    """

    interactions: pd.DataFrame
    """Films seen: viewer int32, film int32 (row of the films), rating int8; sorted by both."""
    taste: np.ndarray
    """`[U, N]` float32, mean 0 and standard deviation 1 per viewer."""
    ratings: np.ndarray
    """`[U, N]` int8, the rating each viewer gives each film once it is seen."""
    genres: np.ndarray
    """`[U, G]` int8 weights of `genre_names`, negative where disliked."""
    genre_names: tuple[str, ...]
    """Names of the genre columns, in alphabetical order."""


class Dice:
    """Draws from the raw words of PCG64; equal seeds draw alike.

    NumPy guarantees the stream of words; what it makes of them (normal or weighted draws) may
    change with its version and the processor.

    Args:
        seed: any number of integers, not negative.
    """

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(list(seed))

    def words(self, *shape: int) -> np.ndarray:
        """Return uniform 32-bit integers as int64."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        return (raw >> np.uint64(32)).astype(np.int64).reshape(shape)

    def below(self, limit: int | np.ndarray, *shape: int) -> np.ndarray:
        """Return integers in `[0, limit)`; `limit` is at most 2**31."""
        return (self.words(*shape) * limit) >> 32

    def normal(self, *shape: int) -> np.ndarray:
        """Return N(0, 1) in thousandths: the sum of four 16-bit uniforms, scaled."""
        raw = self._bits.random_raw(int(np.prod(shape)))
        shifts = np.arange(0, 64, 16, dtype=np.uint64)[:, None]
        centred = ((raw >> shifts) & np.uint64(0xFFFF)).astype(np.int64).sum(axis=0) - 131_070
        return (centred * 1_732 // 65_536).reshape(shape)

    def choose(self, weights: np.ndarray, rows: int, count: int) -> np.ndarray:
        """Return `[rows, count]` distinct columns, drawn one after the other by integer weight."""
        left = np.tile(weights, (rows, 1))
        picks = np.empty((rows, count), dtype=np.int64)
        for k in range(count):
            ladder = np.cumsum(left, axis=1)
            picks[:, k] = (ladder <= self.below(ladder[:, -1], rows)[:, None]).sum(axis=1)
            np.put_along_axis(left, picks[:, k : k + 1], 0, axis=1)
        return picks


def film_words(films: pd.DataFrame, purpose: int) -> np.ndarray:
    """Return a uniform 32-bit number per film `[N]`, fixed by its film_id and the purpose alone."""
    return np.array([Dice(_FILM_SEED, purpose, int(k)).words(1)[0] for k in films["film_id"]])


def _genre_members(films: pd.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return int64 `[N, G]`, 1 where the film has the genre, and the names of the genres."""
    lists = [text.split("|") for text in films["genres"]]
    names = tuple(sorted({name for values in lists for name in values}))
    return np.array([[name in values for name in names] for values in lists], np.int64), names


def _genre_weights(dice: Dice, viewers: int, films: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return `[U, G]`; genres are drawn by their number of `films [G]`, in turn liked, disliked."""
    sizes = np.array([sign * size for size in recipe.genres for sign in (1, -1)], dtype=np.int64)
    chosen = dice.choose(films, viewers, len(sizes))
    first = 1 - 2 * dice.below(2, viewers, 1)
    weights = np.zeros((viewers, len(films)), dtype=np.int64)
    np.put_along_axis(weights, chosen, first * sizes, axis=1)
    return weights


def _favourites(dice: Dice, films: pd.DataFrame, viewers: int, recipe: Recipe) -> np.ndarray:
    """Return `[U, N]` 1 where the film is by a favourite director of the viewer."""
    makers = pd.factorize(films["director"], sort=True)[0].astype(np.int64)
    picks = makers[dice.below(len(films), viewers, recipe.directors)]
    return (picks[:, :, None] == makers).any(axis=1).astype(np.int64)


def _era(dice: Dice, films: pd.DataFrame, viewers: int, recipe: Recipe) -> np.ndarray:
    """Return `[U, N]` thousandths, 1 in the viewer's favourite year, falling to -1 far from it."""
    years = films["year"].to_numpy(np.int64)
    centre = years.min() + dice.below(int(years.max() - years.min()) + 1, viewers, 1)
    return np.maximum(_UNIT - _UNIT * np.abs(years - centre) // recipe.era_years, -_UNIT)


def _standardise(raw: np.ndarray) -> np.ndarray:
    """Return thousandths with mean 0 and standard deviation 1 per row, from exact sums."""
    n = raw.shape[1]
    total = raw.sum(axis=1, keepdims=True)
    square = (raw * raw).sum(axis=1, keepdims=True)
    spread = np.sqrt((n * square - total * total).astype(np.float64))
    return np.rint((n * raw - total) * float(_UNIT) / spread).astype(np.int64)


def _exposure_weights(films: pd.DataFrame, recipe: Recipe) -> np.ndarray:
    """Return integer `popularity ** popularity_power` per film, 1000 for the most popular."""
    n = len(films)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(film_words(films, _RANK), kind="stable")] = np.arange(n)
    with localcontext(Context(prec=28)):
        power = -Decimal(recipe.tail) * Decimal(recipe.popularity_power)
        logs = [power * Decimal(k + recipe.head).ln() for k in range(n)]
        curve = np.array([int(value.exp() * 1_000_000) for value in logs], dtype=np.int64)
    curve = curve * 1_000 // curve[0]
    curve[n - n * recipe.obscure_percent // 100 :] //= recipe.obscure
    return np.maximum(curve, 1)[rank]


def _pull(taste: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Return exp(taste_power * taste) in hundredths, taste cut to -4.00, -3.99, ... 4.00."""
    with localcontext(Context(prec=28)):
        power = Decimal(recipe.taste_power)
        table = [max(1, int((power * k / 100).exp() * 100)) for k in range(-400, 401)]
    return np.array(table, dtype=np.int64)[np.clip(taste // 10 + 400, 0, 800)]


def _activity(dice: Dice, viewers: int, recipe: Recipe) -> np.ndarray:
    """Return the number of films each viewer sees, `[U]`."""
    percent, fewest, most = np.array(recipe.activity, dtype=np.int64).T
    group = np.searchsorted(np.cumsum(percent), dice.below(100, viewers), side="right")
    return fewest[group] + dice.below((most - fewest + 1)[group], viewers)


def _watch(taste: np.ndarray, weights: np.ndarray, seed: int, recipe: Recipe) -> pd.DataFrame:
    """Draw what each viewer sees, one film after the other, none twice."""
    counts = np.minimum(_activity(Dice(seed, 5), len(taste), recipe), len(weights) // 2)
    words = Dice(seed, 6).words(int(counts.sum())).tolist()
    company = (Dice(seed, 8).below(100, len(words)) < recipe.company_percent).tolist()
    film: list[int] = []
    for pull, count in zip(_pull(taste, recipe), counts.tolist(), strict=True):
        own, theirs = weights * pull, weights.copy()
        for k in range(len(film), len(film) + count):
            ladder = np.cumsum(theirs if company[k] else own)
            pick = int(np.searchsorted(ladder, (words[k] * int(ladder[-1])) >> 32, side="right"))
            film.append(pick)
            own[pick] = theirs[pick] = 0
    table = pd.DataFrame({"viewer": np.repeat(np.arange(len(taste)), counts), "film": film})
    return table.astype("int32").sort_values(["viewer", "film"], ignore_index=True)


def simulate(films: pd.DataFrame, n_viewers: int, seed: int, recipe: Recipe = RECIPE) -> Viewers:
    """Simulate viewers of `films` (columns film_id, year, genres "Crime|Drama", director).

    The same films, number, seed and recipe give the same bytes on every machine. A film keeps its
    appeal, and the films their order by popularity, in any subset and for any seed.

    Raises:
        UserError: fewer than 20 films, or no viewer.
    """
    if len(films) < 20 or n_viewers < 1:
        raise UserError(
            f"cannot simulate {n_viewers} viewers of {len(films)} films; "
            "give at least 1 viewer and 20 films."
        )
    member, names = _genre_members(films)
    weights = _genre_weights(Dice(seed, 1), n_viewers, member.sum(axis=0), recipe)
    appeal = [Dice(_FILM_SEED, _APPEAL, int(k)).normal(1)[0] for k in films["film_id"]]
    raw = _UNIT * (weights @ member.T)
    raw += recipe.director * _favourites(Dice(seed, 2), films, n_viewers, recipe)
    raw += recipe.era * _era(Dice(seed, 3), films, n_viewers, recipe) // _UNIT
    raw += recipe.appeal * np.array(appeal) // _UNIT
    raw += recipe.whim * Dice(seed, 4).normal(*raw.shape) // _UNIT
    taste = _standardise(raw)
    opinion = taste + recipe.noise * Dice(seed, 7).normal(*raw.shape) // _UNIT
    ratings = (np.searchsorted(recipe.cuts, opinion, side="right") + 1).astype(np.int8)
    seen = _watch(taste, _exposure_weights(films, recipe), seed, recipe)
    seen["rating"] = ratings[seen["viewer"], seen["film"]]
    small = (taste / float(_UNIT)).astype(np.float32)
    return Viewers(seen, small, ratings, weights.astype(np.int8), names)
