"""The exception for wrong use and bad input."""


class InputError(ValueError):
    """Wrong use or bad input. The message says what was got, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
