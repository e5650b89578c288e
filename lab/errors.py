"""What is said to the user: what was wrong, with which value, what to do."""


class LabError(Exception):
    """Bad input or a bad setup. The message is one line; the command line prints it and exits with 2."""
