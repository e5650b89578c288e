"""Is what is right likelier to a system's language model? Pairs of the story world, in place of sWUGGY and sBLIMP.

Text plays no part: both sides are read aloud by held-out narrators, and are tokens to the system. By the sum of their
log-likelihoods, as the paper's figures are; `lab measure likelihood` has the mean a token as well.
"""

from __future__ import annotations

from rich.progress import track

from lab.console import console
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import System
from lab.measure import minimal_pairs, zero_resource

TESTS = {"sWUGGY": minimal_pairs.words, "sBLIMP": minimal_pairs.sentences}


def hold(results: Results, row: Row, system: System, count: int) -> None:
    """The tests that a row lacks, of `count` pairs each; of a system without a language model none.

    Of the same weights they are the same, whatever the prompts, the temperature and the restart are.
    """
    if system.likelihood is None:
        return
    kind = row.system.partition("+")[0]
    alike = [each for each in results.rows if each.weights == row.weights and each.system.partition("+")[0] == kind]
    for test, make in TESTS.items():
        known = next((each.likelihood[test] for each in alike if test in each.likelihood), None)
        if known is None:
            pairs = track(zero_resource.spoken(make(count)), f"{row.system}: {test}", count, console=console)
            known = zero_resource.likelier(system.likelihood, pairs)._asdict()
        row.likelihood[test] = known
    results.save()
