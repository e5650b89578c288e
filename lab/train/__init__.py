"""One short recipe a model, over one shared loop."""

from lab.extras import require

require("train")
