"""Loading by transformers: without its bars and warnings, with safetensors alone, and one line for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging

from lab.errors import LabError

_UNUSED = ("masked_spec_embed", "objective.weight")  # learning needs them, judging does not: checkpoints may lack them


@contextmanager
def loading(what: str, checkpoint: str) -> Iterator[None]:
    """Raises LabError, which says that there is no `what`, where the checkpoint is missing or another's."""
    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LabError(f"there is no {what} {checkpoint!r} to be had: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def pretrained(kind: Any, checkpoint: str) -> Any:
    """A model of a class of transformers, in float32, on the GPU where there is one; inside `loading`.

    Raises ValueError for another architecture, whose weights transformers would draw at random.
    """
    config = AutoConfig.from_pretrained(checkpoint)
    if not isinstance(config, kind.config_class):
        raise ValueError(f"it is a {config.model_type}, no {kind.config_class.model_type}")
    model, found = kind.from_pretrained(
        checkpoint, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(key for key in found["missing_keys"] if not key.endswith(_UNUSED)):
        raise ValueError(f"it lacks {len(missing)} weights of a {kind.__name__}, such as {missing[0]}")
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
