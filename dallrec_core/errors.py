"""What the command line tells in one line instead of with a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A problem that the user can mend.

    The message says what is wrong, where (file, row, column, parameter) and what to do about it.
    The command line prints it as one line without a traceback and exits with status 2.
    """


class PageFailed(Exception):
    """A notebook stopped with an error that is not the user's; the message says where.

    The command line exits with status 1.
    """
