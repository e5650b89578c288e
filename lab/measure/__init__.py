"""Every number the lab states, each a plain function."""

from lab.extras import require

require("train")
from lab.measure.ablation import ablate

__all__ = ["ablate"]
