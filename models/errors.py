"""The one error type for a user's mistake."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The text is one line that says what is wrong, where, and what to do. The command line prints
    it and exits with status 2; library code raises it at the border, before any work is done.
    """
