"""`python -m lab`: the command `lab`."""

from lab.cli import app

app(prog_name="lab")
