"""Is what is right likelier to a system's language model? Pairs of the story world, in place of sWUGGY and sBLIMP.

Text plays no part: both sides are read aloud by held-out narrators, and are tokens to the system. By the mean of their
log-likelihoods, in nats a token, and by the sum, which prefers what is shorter; the paper does not say which it takes.
"""

from __future__ import annotations

from rich.progress import track

from lab.console import console
from lab.evaluate.results import Results, Row
from lab.evaluate.systems import System
from lab.measure import minimal_pairs, zero_resource

SUM = "by the sum"
TESTS = {"sWUGGY": minimal_pairs.words, "sBLIMP": minimal_pairs.sentences}


def hold(results: Results, row: Row, system: System, count: int) -> None:
    """The tests that a row lacks of `count` pairs each, or has of more or fewer; of a system without a language model
    none.

    Of the same weights and as many pairs they are the same, whatever the prompts, the temperature and the restart are.
    In `row.likelihood` stands the estimate by nats a token, and in it that by the sum as `SUM`.
    """
    if system.likelihood is None:
        return
    kind = row.system.partition("+")[0]
    alike = [each for each in results.rows if each.weights == row.weights and each.system.partition("+")[0] == kind]
    for test, make in TESTS.items():
        texts = make(count)  # the story world may have fewer
        stored = (each.likelihood[test] for each in (row, *alike) if test in each.likelihood)
        known = next((found for found in stored if found["n"] == len(texts)), None)
        if known is None:
            pairs = track(zero_resource.spoken(texts), f"{row.system}: {test}", len(texts), console=console)
            mean, total = zero_resource.likelier(system.likelihood, pairs)
            known = {**mean._asdict(), SUM: total._asdict()}
        row.likelihood[test] = known
    results.save()
