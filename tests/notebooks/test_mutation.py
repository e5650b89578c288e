"""The contracts of the notebooks see a dead lab: with a fault planted, nbval must fail, and say where.

A few faults are planted in every run of the tests; `make mutants` plants all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).parents[2]


class Fault(NamedTuple):
    """What is put in place of a line of lab."""

    name: str
    file: str
    line: str
    mutant: str


SILENT = Fault(
    "silence for speech",
    "voice/synthesis.py",
    "return self.codec.decode(indices[None], timbre[None], spoken)[0].clamp(-1, 1)",
    "return self.codec.decode(indices[None], timbre[None], spoken)[0].mul(0)",
)
RANDOM = Fault(
    "random tokens",
    "language/sampling.py",
    "drawn = sample(logits, self.temperature,",
    "drawn = sample(0 * logits, self.temperature,",
)
EMPTY = Fault(
    "empty figures",
    "view/style.py",
    "    return figure.update_layout(template=_TEMPLATE",
    "    figure.data = ()\n    return figure.update_layout(template=_TEMPLATE",
)
CONSTANT = Fault(
    "a constant coherence",
    "measure/coherence.py",
    "return Curve(x, *found)",
    "return Curve(x, 0 * found[0] + 0.5, *found[1:])",
)
STRIDE = Fault("a longer stride", "windows.py", "SYNTHESIS = Windowing(675, 100)", "SYNTHESIS = Windowing(675, 60)")
SEAMLESS = Fault(
    "no seam",
    "windows.py",
    "return [window.keep_start for window in windows[1:]]",
    "return []",
)
STATELESS = Fault(
    "no state", "measure/state.py", "exchanged = (torch.where(mask, b, a)", "exchanged = (torch.where(mask, a, a)"
)
SMEARED = Fault(
    "seconds that put in what others did",
    "measure/state.py",
    "x = self.x * ((start <= here) & (here < stop))[:, None]",
    "x = self.x * (start <= here)[:, None]",
)
EXCHANGED = Fault(
    "the fast half for the slow one",
    "view/state.py",
    'trace.order[middle:] if half == "slow"',
    'trace.order[middle:] if half == "fast"',
)
SWAPPED = Fault(
    "the slowest channels for the fastest",
    "measure/state.py",
    "return half_life(self.decay, self.recurrence_gate.mean(0))",
    "return 1 / half_life(self.decay, self.recurrence_gate.mean(0))",
)
HASTY = Fault(
    "captions that are never read anew",
    "view/captions.py",
    "UNSETTLED = 20 * TOKEN_RATE",
    "UNSETTLED = 0 * TOKEN_RATE",
)
UNMOVED = Fault(
    "nothing exchanged",
    "measure/causes.py",
    "found.append(changed if number in wanted else mine)",
    "found.append(mine)",
)
IDLE = Fault(
    "nothing learnt",
    "train/loop.py",
    '"""Learning rate at `step`, counted from 0."""',
    '"""Learning rate at `step`, counted from 0."""\n        return 0.0',
)
LOUD = Fault(
    "levels as they come",
    "view/player.py",
    "return [round(quietest - level, 2) if level > -math.inf else 0.0 for level in levels]",
    "return [0.0 for level in levels]",
)

UNWRITTEN = Fault(
    "nothing is written into h",
    "measure/edits.py",
    "layer._replace(hidden=layer.hidden + next(steps)) if isinstance(layer, RecurrentState) else layer",
    "layer",
)
HELD = Fault(
    "h that is never set to zero",
    "measure/ablation.py",
    "layer._replace(hidden=torch.zeros_like(layer.hidden))",
    "layer._replace(hidden=layer.hidden)",
)
STRAIGHT = Fault(
    "a straight line for equal power",
    "audio/joining.py",
    "(left * np.cos(angle) + right * np.sin(angle))",
    "(left * (1 - 2 / math.pi * angle) + right * 2 / math.pi * angle)",
)
UNHEARD = Fault(
    "an end that is not heard",
    "measure/seams.py",
    "last = tokenizer.tokenize(torch.cat([before, filling], 1))[:, reach : 2 * reach].cpu()",
    "last = follows[:, -reach:]",
)
UNPADDED = Fault(
    "no silence behind an example",
    "train/endings.py",
    "behind = round(padding * TOKEN_RATE) if ending == SILENCE else 0",
    "behind = 0",
)
ONE_VOICE = Fault(
    "one voice for all prompts",
    "voice/synthesis.py",
    "return VoicePrompt(tokens.cpu(), codes.cpu(), timbre.cpu())",
    "return VoicePrompt(0 * tokens.cpu(), 0 * codes.cpu(), 0 * timbre.cpu())",
)
UNREFINED = Fault(
    "the guess alone",
    "voice/synthesis.py",
    "spoken = None if tokens is None else",
    "spoken = None if True else",
)
LINEAR = Fault(
    "passes that decide as many frames each",
    "voice/soundstorm.py",
    "math.floor(frames * math.cos(math.pi / 2 * number / passes))",
    "math.floor(frames * (1 - number / passes))",
)
UNSURE = Fault(
    "the least sure frames first",
    "voice/soundstorm.py",
    "score = confidence + noise",
    "score = -confidence + noise",
)
ONE_LEVEL = Fault(
    "one level of the codec for all",
    "voice/synthesis.py",
    'indices = as_indices(codes, self.codec.codes, "code").to(self.device)',
    'indices = as_indices(codes, self.codec.codes, "code").to(self.device)[:, :1]',
)
GROWING = Fault(
    "a state that keeps what was heard",
    "language/griffin.py",
    "GriffinState(length, tuple(layers))",
    "GriffinState(length, (*layers, x))",
)
FORGETFUL = Fault(
    "a story that is gone on with without its state",
    "language/sampling.py",
    "self._before = state\n",
    "self._before = None\n",
)
ANEW = Fault("weights that are not gone on from", "train/checkpoint.py", "player.load(saved)", "pass")
ALIKE = Fault(
    "the same rows in all parts of a batch", "train/compute.py", "return rows[number::parts]", "return rows[::parts]"
)
ANY_PROMPT = Fault(
    "a prompt like any other", "measure/coherence.py", "float(row[0]), float(row[1:]", "float(row[1]), float(row[1:]"
)
AGREED = Fault(
    "findings that all agree",
    "evaluate/findings.py",
    'lines.append(f"({letter}) {claim}. {said}")',
    'lines.append(f"({letter}) {claim}. Agrees.")',
)

# The notebook that has to see it, the cells that suffice (by id), and what the contract that fails begins with.
SWIFT = [
    (STRIDE, "02", ("c01", "c13"), "seams in 4 minutes"),
    (STRAIGHT, "02", ("c01", "c39"), "unrelated"),
    (EMPTY, "04", ("end-01", "end-20-contract"), "throughput "),
    (CONSTANT, "05", ("thread-01", "thread-05-contract"), "SC-L from"),
    (EMPTY, "06", ("train-01", "train-23", "train-24-contract"), "the schedule:"),
    (AGREED, "08", ("field-01", "field-12", "field-18"), "(a) "),
]
CAUSES = "state-04-contract", "state-13-player", "state-13-figure", "state-13-contract"
HALVES = "state-04-contract", "state-27", "state-32", "state-32-contract"
QUARTERS = "state-04-contract", "state-34", "state-36", "state-36-contract"
PATCHED = "state-04-contract", "state-27", "state-32", "state-33-map", "state-33-contract"
RECALLED = (
    *("state-04-contract", "state-27", "state-32", "state-33-map", "state-33-verdict"),
    *("state-33-recall", "state-33-recall-verdict", "state-33-recall-contract"),
)
WATCHED = "voice-16", "voice-20", "voice-22", "voice-23"
LENT = "voice-35", "voice-37", "voice-39", "voice-40"
TAUGHT = "c01", "c03", "c19", "c33-taught", "c33-heard", "c33-contract"
STOPPED = "train-01", "train-02", "train-04", "train-07", "train-18"
EDITED = "state-04-contract", "state-27", "state-32", "state-33-map", "state-33-verdict", "state-34", "state-40-edit"
SLOW = [
    (SILENT, "00", ("c01", "c04", "c06", "c10-contract"), "the story: level"),
    (RANDOM, "00", ("c01", "c04", "c06", "c10-contract"), "words of the continuation that exist"),
    (EMPTY, "00", ("c01", "c04", "c06", "c10-contract"), "the figure:"),
    (STATELESS, "01", ("state-01", "state-03", "state-27", "state-30"), "predicts otherwise"),
    (SILENT, "01", ("state-01", "state-03", "state-04-contract"), "the story: level"),
    (EMPTY, "01", ("state-01", "state-03", "state-04-contract"), "the map:"),
    (SMEARED, "01", ("state-01", "state-03", *CAUSES), "off h by"),
    (EXCHANGED, "01", ("state-01", "state-03", *CAUSES), "the slow half moves"),
    (SWAPPED, "01", ("state-01", "state-03", *HALVES), "after the slow half"),
    (SWAPPED, "01", ("state-01", "state-03", *QUARTERS), "the slowest quarter tells more"),
    (UNMOVED, "01", ("state-01", "state-03", *PATCHED), "the other name gains"),
    (UNWRITTEN, "01", ("state-01", "state-03", *EDITED, "state-40-contract"), "the other name gains more than"),
    (HELD, "01", ("state-01", "state-03", *RECALLED), "better known by h alone"),
    (SEAMLESS, "02", ("c01", "c13"), "seams in 4 minutes"),
    (SILENT, "02", ("c01", "c03", "c09-contract"), "overlap  level"),
    (EMPTY, "02", ("c01", "c03", "c09-contract"), "the plan:"),
    (UNHEARD, "02", ("c01", "c03", "c19", "c23", "c25"), "silence          changes"),
    (UNPADDED, "02", TAUGHT, "e lasts [16.0] s"),
    (SILENT, "03", ("voice-01", "voice-03", "voice-06-contract"), "heart           level"),
    (UNREFINED, "03", ("voice-01", "voice-03", "voice-06-contract"), "michael         level"),
    (LINEAR, "03", ("voice-01", "voice-03", "voice-16", "voice-18"), "decided so far"),
    (UNSURE, "03", ("voice-01", "voice-03", "voice-09", *WATCHED), "the loudest frames wait"),
    (ONE_LEVEL, "03", ("voice-01", "voice-03", "voice-09", *LENT), "Lily through one level"),
    (EMPTY, "03", ("voice-01", "voice-25-ears", "voice-25-contract"), "what others hear"),
    (ONE_VOICE, "03", ("voice-01", "voice-03", "voice-28", "voice-31", "voice-32"), "pitch after it"),
    (SILENT, "04", ("end-01", "end-03", "end-07-contract"), "the clip: level"),
    (HASTY, "04", ("end-01", "end-05", "end-06-contract"), "the captions are"),
    (RANDOM, "04", ("end-01", "end-03", "end-07-contract"), "words that exist"),
    (GROWING, "04", ("end-01", "end-09-held", "end-09"), "is the same at all three"),
    (FORGETFUL, "04", ("end-01", "end-03", "end-09-held", "end-11"), "goes on as if"),
    (EMPTY, "05", ("thread-01", "thread-05-contract"), "the figure:"),
    (IDLE, "06", ("train-01", "train-02", "train-07", "train-12"), "fell:"),
    (ANEW, "06", (*STOPPED, "train-19"), "stopped at step 5"),
    (ALIKE, "06", (*STOPPED, "train-21"), "2 parts of"),
    (SILENT, "06", ("train-01", "train-02", "train-07", "train-09", "train-09-contract"), "the bundle that ships"),
    (LOUD, "07", ("ask-01", "ask-03", "ask-05", "ask-07"), "all at one loudness"),
    (SILENT, "08", ("field-01", "field-05", "field-06-words", "field-08"), "like its prompt"),
    (ANY_PROMPT, "08", ("field-01", "field-05", "field-06-words", "field-08"), "like its prompt"),
    (SILENT, "07", ("ask-01", "ask-03", "ask-08-contract"), "SpeechSSM  level"),
]
PLANTED = SWIFT + (SLOW if os.environ.get("LAB_MUTANTS") == "all" else [])


@pytest.mark.parametrize(
    ("fault", "notebook", "cells", "contract"),
    PLANTED,
    ids=[f"{number}: {fault.name}" for fault, number, *_ in PLANTED],
)
def test_nbval_sees_a_fault(tmp_path: Path, fault: Fault, notebook: str, cells: tuple[str, ...], contract: str):
    (path,) = (ROOT / "notebooks").glob(f"{notebook}_*.ipynb")
    shutil.copytree(ROOT / "lab", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "notebooks").mkdir()
    copy = nbformat.read(path, as_version=4)
    copy.cells = [cell for cell in copy.cells if cell.id in cells]  # the others take time and prove nothing
    assert tuple(cell.id for cell in copy.cells) == cells and contract in str(copy.cells[-1].outputs)
    nbformat.write(copy, tmp_path / "notebooks" / path.name)
    source = (tmp_path / "lab" / fault.file).read_text()
    assert source.count(fault.line) == 1
    (tmp_path / "lab" / fault.file).write_text(source.replace(fault.line, fault.mutant))

    options = [f"--rootdir={tmp_path}", f"--nbval-sanitize-with={ROOT}/tests/notebooks/sanitize.cfg"]
    # -rN: the short summary repeats a mismatch where CI is set and not elsewhere, and mismatches are counted below.
    options += ["-q", "-rN", "--color=no", "--nbval-lax", "--nbval-current-env"]
    command = [sys.executable, "-m", "pytest", *options, "notebooks"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "LAB_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 1, run.stdout  # 1: tests failed; 0: nobody noticed; above: nbval could not run
    assert "mismatch 'stdout'" in run.stdout and contract in run.stdout, run.stdout
    failed = int(re.findall(r"(\d+) failed", run.stdout)[-1])
    assert run.stdout.count("mismatch 'stdout'") == failed, run.stdout  # a mutant that cannot run proves nothing
