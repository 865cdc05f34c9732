"""The one exception that users see."""


class PtqsrError(Exception):
    """A mistake in the input: one line that names the file, layer or option, and the mend.

    The command line prints it without a traceback and exits with code 2.
    """
