"""Where each dataset comes from: its files, their checksums, and its folder below the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_VOTEGCL = (
    "https://raw.githubusercontent.com/akBear23/VoteGCL/d4133e333786d43eb2444b7c1efc3ef4340be589/"
    "dataset"
)
_AUTHORS = (
    "https://raw.githubusercontent.com/zzerrrro/DALLRec/75959c12166942d704fe0006998428583f08bf0e/"
    "Collaborative%20Filtering%20model/Data"
)


@dataclass(frozen=True)
class Recipe:
    """Which files a dataset consists of and where they come from."""

    files: Mapping[str, str]
    """file name -> md5 or sha256 of the original edition; empty where nobody knows it"""
    url: str
    """of the zip archive, or of the folder that holds the single files"""
    archive_md5: str = ""
    """md5 of the zip; empty when the files are fetched one by one"""
    inside: str = ""
    """the folder inside the zip"""
    optional: Mapping[str, str] = field(default_factory=dict)
    """further files, verified when present: name -> md5 or sha256"""


RECIPES: dict[str, Recipe] = {
    "ml-100k": Recipe(
        files={
            "u.data": "6e47046882bad158b0efbb84cd5cb987",
            "u.item": "c9e7f390115d79079537301d5204f3f7",
        },
        url=f"{_GROUPLENS}/ml-100k.zip",
        archive_md5="0e33842e24a9c977be4e0107933c0723",
        inside="ml-100k",
    ),
    "ml-1m": Recipe(
        files={
            "ratings.dat": "a89aa3591bc97d6d4e0c89459ff39362",
            "movies.dat": "ef9fd9ff8d1b33faf73e2122c371e910",
        },
        url=f"{_GROUPLENS}/ml-1m.zip",
        archive_md5="c4d9eecfca2ab87c1945afe126590906",
        inside="ml-1m",
    ),
    "published/movielens": Recipe(
        files={
            "train.txt": "ff9e3cc3b23b9660273dae01217f1c2c",
            "test.txt": "2d67c28d4e968d727b83df0c610d2a74",
            "item_list.txt": "6ac5cbae50def8cc281d1222b69b70cc",
            "user_list.txt": "f0154e68d7ac332139ac3d77fd30efe2",
        },
        url=f"{_AUTHORS}/movielens/or",
    ),
    "published/book": Recipe(
        files={
            "train.txt": "bda904267ba0c76ccc4e5bd0dc27fee7",
            "test.txt": "de5963762846590e2f0cf78e78801797",
            "item_list.txt": "54a7560547684be3da1535a4d19c1acf",
            "user_list.txt": "4168969588a231210defb45ea91ff2e4",
        },
        url=f"{_AUTHORS}/book/or",
    ),
    "released-edges/amazon-scientific": Recipe(
        files={
            "train.txt": "48c8081c7324274cb9a782a029a2abcc2b0670c7a4032cd0402a7b35a9383be6",
            "train_augmented.txt": (
                "262acee9c4c5aebc63c152f93075daf963a8212bb2888b29daee7b19905660e7"
            ),
            "test.txt": "11cf0d4b1003279c02b9070c2a30ced8337597cdc03731dbf6b4617e7748d4f7",
        },
        url=f"{_VOTEGCL}/amazon-scientific",
    ),
    # The md5 is the one that several public projects noted for the archive (26,085,508 bytes). The
    # server is gone in places, so it has not been checked against a download of our own.
    "bookcrossing": Recipe(
        files={"BX-Book-Ratings.csv": "", "BX-Books.csv": ""},
        url="http://www2.informatik.uni-freiburg.de/~cziegler/BX/BX-CSV-Dump.zip",
        archive_md5="37d647ee9e18ba134ea6d78ee4fe5292",
    ),
}
"""What can be fetched, by the folder it lands in."""

_FOLDERS = {
    "published": "published/movielens",
    "published-book": "published/book",
    "book-crossing": "bookcrossing",
    "released-edges": "released-edges/amazon-scientific",
}


def folder_of(name: str) -> str:
    """Return the folder below the data folder, and key of ``RECIPES``, of a dataset's name."""
    return _FOLDERS.get(name, name)
