"""The one exception that users meet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class ItmkitError(Exception):
    """Something the user can put right: bad input, a missing stage, an option that does not exist.

    Args:
        problems: one message or several. Each names the file or option, the place in it and what to do.
            Checks collect everything that is wrong and raise once.

    Commands print the problems and exit with code 2, without a traceback.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        if not self.problems:
            raise ValueError("an ItmkitError needs at least one problem")
        super().__init__("\n".join(self.problems))


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def nearest(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'scan'?` if one of the names is written nearly like the word; else nothing."""
    from difflib import get_close_matches

    as_written = {name.lower(): name for name in names}
    close = get_close_matches(word.lower(), as_written, n=1)
    return f"; did you mean {as_written[close[0]]!r}?" if close else ""
