"""The paper's evaluation: systems over sets of prompts, judged by outside ears, in one file of results.

examples.py   a prompt, how a system went on, how it really goes on: from a folder or a manifest
sets.py       named sets of prompts
systems.py    who goes on: language models of the bundle, with and without restart, and the stages of the voice
ears.py       judges by their specs, and what they lack
scoring.py    one sample's values, by minute
results.py    one JSON with every sample's values
run.py        all samples of a row, one by one
contest.py    who wins against whom, by judges of text
likelihood.py sWUGGY- and sBLIMP-like pairs, to the language model of a row
summary.py    means with intervals, by minute, and what decays
field.py      all systems from the prompts that ship, to be heard on one clock
tables.py     Tables 2 to 4 and Fig. 5, the published rows beside ours
findings.py   what the paper found, and Fig. 1
passes.py     what the passes of the voice are for, by outside ears
report.py     figures for readers
"""

from lab.extras import require

require("train")
