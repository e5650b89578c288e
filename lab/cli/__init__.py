"""The command `lab`. What a command finds goes to standard output, all else to standard error.

Errors are one line and exit code 2. Ctrl-C, SIGTERM and SIGHUP keep what was made so far: exit code 128 + the signal.
torch and the models are imported by the commands that need them, so that `lab --help` answers at once.
"""

from lab.cli import story, train, corpora, measure, evaluate  # isort: skip  # in the order of the help
from lab.cli.app import app

__all__ = ["app", "corpora", "evaluate", "measure", "story", "train"]
