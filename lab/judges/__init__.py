"""Outside judges, each behind a protocol of one method, chosen by name: `load("whisper:base.en")`.

    protocols.py     what judges offer, and the verdict of one
    checkpoints.py   what a result tells of the weights that judged it
    hub.py           loading by transformers
    waveforms.py     what can be judged by ear

A spec is a kind, or kind:checkpoint with the id of a model on its hub or a local path.
"""

from __future__ import annotations

from importlib import import_module
from os.path import expanduser
from typing import Any

from lab.errors import LabError

KINDS = {  # kind -> module and class, which is made from the checkpoint, "" where none is given
    "whisper": "whisper:FasterWhisper",
    "hf-whisper": "transformers_audio:Whisper",
    "wav2vec2": "transformers_audio:Wav2Vec2",
    "ge2e": "ge2e:GE2E",
    "wavlm": "transformers_audio:WavLM",
    "dnsmos": "mos:DNSMOS",
    "distillmos": "mos:DistillMOS",
    "lm": "causal_lm:TransformersLM",
    "minilm": "sentences:SentenceEncoder",
    "sbert": "sentences:SentenceEncoder",
    "chat": "chat:ChatJudge",
    "likelihood": "likelihood:LikelihoodJudge",
}


def load(spec: str) -> Any:
    """The judge of a spec. Raises LabError for a kind that there is not, and for a missing package or checkpoint."""
    kind, _, checkpoint = spec.partition(":")
    if kind not in KINDS:
        raise LabError(f"there is no judge {spec!r}; kinds are {', '.join(KINDS)}, as in kind:checkpoint")
    module, name = KINDS[kind].split(":")
    try:
        return getattr(import_module(f"lab.judges.{module}"), name)(expanduser(checkpoint))
    except ImportError as error:
        raise LabError(f"judge {spec!r} lacks a package ({error}); `pip install speechssm-lab[judges]`") from error
    except LabError as error:
        raise LabError(f"judge {spec!r}: {error}") from error
