"""The one exception a reader of this book is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """A problem that the user can mend.

    The message says what is wrong, where (file, row, column, parameter) and what to do about it.
    The command line prints it as one line without a traceback and exits with status 2.
    """
