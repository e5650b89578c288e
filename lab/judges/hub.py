"""Loading by transformers: without its bars and warnings, with safetensors alone, and one line for what goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
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
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise LabError(f"there is no {what} {checkpoint!r} to be had: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def pretrained(kind: Any, checkpoint: str, **options: Any) -> Any:
    """A model of a class of transformers, in float32, on the GPU where there is one; inside `loading`.

    options: such as gguf_file. Raises ValueError for another architecture, and for weights that the checkpoint lacks
    or has in another shape: transformers would draw them at random, or say where it reports them, which is nowhere.
    """
    wanted = getattr(kind, "config_class", None)  # AutoModelForCausalLM has none
    if wanted and not isinstance(config := AutoConfig.from_pretrained(checkpoint), wanted):
        raise ValueError(f"it is a {config.model_type}, no {wanted.model_type}")
    safely = options or {"use_safetensors": True}  # no pickle
    safely |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # refused here, with both shapes
    model, found = kind.from_pretrained(checkpoint, dtype=torch.float32, **safely)
    if odd := sorted(found["mismatched_keys"]):
        name, saved, own = odd[0]
        raise ValueError(f"its {name} is {tuple(saved)} and its config asks for {tuple(own)}: give both of one model")
    if missing := sorted(key for key in found["missing_keys"] if not key.endswith(_UNUSED)):
        raise ValueError(f"it lacks {len(missing)} weights of a {type(model).__name__}, such as {missing[0]}")
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
