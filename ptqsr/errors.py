"""The one exception that users see."""


class PtqsrError(Exception):
    """A mistake in the input: one line that names the file, layer or option, and the mend.

    The command line prints it without a traceback and exits with code 2.
    """


def one_line(message: object, limit: int = 200) -> str:
    """Return what may hold a file's own words as one short line that a terminal can show."""
    first = (str(message).strip() or type(message).__name__).splitlines()[0]
    return "".join(c if c.isprintable() else "?" for c in first[:limit])
