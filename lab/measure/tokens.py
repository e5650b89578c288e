"""What the tokens keep (the words) and what they should not (the narrator)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import jiwer
import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import Tensor

from lab.corpora import Utterance
from lab.corpora.phones import UNKNOWN, Phone, labels
from lab.errors import LabError
from lab.measure import statistics
from lab.measure.statistics import Estimate
from lab.protocols import Tokenizer
from lab.tokens import TOKEN_HOP, TOKEN_RATE
from lab.tokens.mel import LogMel

PIECE = 10 * TOKEN_RATE  # tokens from which the probe tells the narrator


def character_error_rate(truth: Sequence[str], transcripts: Sequence[str]) -> float:
    """Edits over characters of the truth, all texts taken together.

    Raises LabError where the texts are not as many, or the truth has no character.
    """
    if len(truth) != len(transcripts) or not any(truth):
        counts = f"{len(transcripts)} transcripts of {len(truth)} texts"
        raise LabError(f"{counts}; give as many of both, with words in the texts")
    return float(jiwer.cer(list(truth), list(transcripts)))


def character_errors(truth: Sequence[str], transcripts: Sequence[str]) -> Estimate:
    """`character_error_rate` with its interval over texts. Raises LabError as it does."""
    rate = character_error_rate(truth, transcripts)
    edits = [Levenshtein.distance(*map(str.strip, pair)) for pair in zip(truth, transcripts, strict=True)]
    found = statistics.estimate(lambda table: table[0].sum(-1) / table[1].sum(-1), edits, list(map(len, truth)))
    return found._replace(value=rate)


def transcription(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> Estimate:
    """Character error rate of waveform -> tokens -> text."""
    transcripts = [tokenizer.transcribe(tokenizer.encode(utterance.samples())) for utterance in utterances]
    return character_errors([utterance.text for utterance in utterances], transcripts)


def unit_edit_distance(first: Tensor, second: Tensor) -> float:
    """Edits between two token sequences (T,) of one text, over the mean length; 0 would be no trace of the speaker.

    Raises LabError for sequences that are both empty.
    """
    if not len(first) and not len(second):
        raise LabError("there are no tokens to compare; give two sequences of one text")
    return Levenshtein.distance(first.tolist(), second.tolist()) / (0.5 * (len(first) + len(second)))


def between_narrators(tokenizer: Tokenizer, pairs: Sequence[tuple[Utterance, Utterance]]) -> dict[str, float]:
    """Mean unit edit distance of two readings of one text, with tokens as they are and with repeats collapsed."""
    if not pairs:
        raise LabError("there are no readings to compare; give one pair or more")
    plain, collapsed = [], []
    for pair in pairs:
        tokens = [tokenizer.encode(utterance.samples()) for utterance in pair]
        plain.append(unit_edit_distance(*tokens))
        collapsed.append(unit_edit_distance(*(sequence.unique_consecutive() for sequence in tokens)))
    return {
        "unit_edit_distance": float(np.mean(plain)),
        "unit_edit_distance_collapsed": float(np.mean(collapsed)),
    }


def codes_used(tokenizer: Tokenizer, utterances: Sequence[Utterance]) -> float:
    """Share of the codebook that the utterances make use of."""
    used = {code for utterance in utterances for code in tokenizer.encode(utterance.samples()).tolist()}
    return len(used) / tokenizer.vocabulary


def bit_rate(tokens: Sequence[Tensor], rate: float = TOKEN_RATE) -> float:
    """Bits a second of sequences (T,) at `rate` tokens a second: of the entropy of how often each token occurs, as in
    the ZeroSpeech Challenge 2019. The true rate is lower, since tokens foretell each other. LabError for no token.
    """
    counts = Counter(token for sequence in tokens for token in sequence.tolist())
    if not counts:
        raise LabError("there are no tokens to take the rate of; give one sequence or more")
    shares = np.array([*counts.values()]) / counts.total()
    return float(-rate * (shares * np.log2(shares)).sum())


def minutes_scored(tokenizer: Tokenizer, tokens: Tensor, score: Callable[[str], float]) -> list[float]:
    """`score` of what each whole minute of the tokens (T,) spells, such as the share of its words that exist.

    A minute may begin and end within a word: two of about 150.
    """
    minutes = tokens[: len(tokens) // (60 * TOKEN_RATE) * 60 * TOKEN_RATE].view(-1, 60 * TOKEN_RATE)
    return [score(tokenizer.transcribe(minute)) for minute in minutes]


def words_that_exist(transcript: str, vocabulary: frozenset[str]) -> float:
    """Share of a transcript's words that are in the vocabulary; 0 for a transcript without words."""
    words = transcript.split()
    return sum(word in vocabulary for word in words) / len(words) if words else 0.0


@torch.inference_mode()
def narrator_identified(tokenizer: Tokenizer, utterances: Iterable[Utterance]) -> dict[str, float]:
    """How often a linear probe knows the narrator of 10 s: by how often each token occurs, by that and how often each
    pair of neighbours does (rate and accent show there), and for contrast by the log-mel spectrum, the mean and
    deviation of each band.

    Every narrator reads the same texts (`Utterance.story` tells them apart), every third of which the probe is not
    trained on. Raises LabError for fewer than six texts of 10 s.
    """
    log_mel, tokens, spectra, narrators, texts = LogMel(), [], [], [], []
    for utterance in utterances:
        waveform = utterance.samples()
        encoded = tokenizer.encode(waveform)
        for start in range(0, len(waveform) // TOKEN_HOP - PIECE + 1, PIECE):
            tokens.append(encoded[start : start + PIECE].cpu().numpy())
            piece = torch.from_numpy(waveform[TOKEN_HOP * start : TOKEN_HOP * (start + PIECE)])
            frames = log_mel(piece[None])[0]  # (4 T, 80)
            spectra.append(torch.cat([frames.mean(0), frames.std(0)]).numpy())
            narrators.append(utterance.narrator)
            texts.append(utterance.story)
    if len(set(texts)) < 6:
        raise LabError(f"{len(set(texts))} texts of 10 s or more are too few to train and test a probe on; give 6")
    kept, pieces = np.stack(tokens), np.stack(spectra)
    neighbours = kept[:, :-1] * tokenizer.vocabulary + kept[:, 1:]
    return {
        "tokens": probe(histograms(kept), narrators, texts),
        "tokens and their neighbours": probe(
            sparse.hstack([histograms(kept), histograms(neighbours)]).tocsr(), narrators, texts
        ),
        "log-mel": probe(pieces, narrators, texts),
    }


def histograms(pieces: np.ndarray) -> sparse.csr_array:
    """Tokens (pieces, T) -> square roots of the share of each token in each piece (pieces, tokens that occur).

    The Euclidean distance between square roots is Hellinger's, in which frequent tokens do not outweigh rare ones.
    """
    found, columns = np.unique(pieces, return_inverse=True)
    rows = np.broadcast_to(np.arange(len(pieces))[:, None], columns.shape)
    shares = np.full(columns.size, 1 / pieces.shape[1])
    counted = sparse.coo_array((shares, (rows.ravel(), columns.ravel())), shape=(len(pieces), len(found))).tocsr()
    return counted.sqrt()


def probe(features: np.ndarray | sparse.csr_array, narrators: Sequence[str], texts: Sequence[int]) -> float:
    """Accuracy of a multinomial logistic regression, features (pieces, D) -> narrators, on every third of the texts.

    The mean over narrators, so that chance is one over their number. The L2 penalty (C of 1, 10 or 100, as
    scikit-learn counts) is chosen by three folds of the other texts; no text is in both of any division.
    """
    who, text = np.asarray(narrators), np.asarray(texts)
    held_out = np.isin(text, np.unique(text)[2::3])
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [1, 10, 100]}, cv=GroupKFold(3))
    search.fit(features[~held_out], who[~held_out], groups=text[~held_out])
    return float(balanced_accuracy_score(who[held_out], search.predict(features[held_out])))


def phones_and_tokens(
    tokenizer: Tokenizer, aligned: Iterable[tuple[Utterance, Sequence[Phone]]]
) -> tuple[np.ndarray, np.ndarray]:
    """The phone in the middle of each token of 40 ms, and the token: (T,) each, of all utterances in a row.

    Silence is a phone as any other, as in HuBERT; where the aligner knew no phones there is nothing to compare.
    """
    phones, tokens = [np.zeros(0, str)], [np.zeros(0, np.int64)]
    for utterance, intervals in aligned:
        encoded = tokenizer.encode(utterance.samples()).cpu().numpy()
        aligned_phones = np.array(labels(intervals, len(encoded), TOKEN_RATE))
        known = aligned_phones != UNKNOWN
        phones.append(aligned_phones[known])
        tokens.append(encoded[known])
    return np.concatenate(phones), np.concatenate(tokens)


def joint_counts(phones: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(T,) and (T,) -> how often each phone meets each token (phones that occur, tokens that occur).

    Raises LabError where they are not as many.
    """
    if len(phones) != len(tokens):
        raise LabError(f"{len(phones)} phones of {len(tokens)} tokens; give one phone a token")
    (rows, phone), (columns, token) = (np.unique(each, return_inverse=True) for each in (phones, tokens))
    return np.bincount(phone * len(columns) + token, minlength=len(rows) * len(columns)).reshape(len(rows), -1)


def agreement(counts: np.ndarray) -> dict[str, float]:
    """Counts (phones, tokens) -> phone purity, cluster purity and PNMI (HuBERT, 2106.07447, section IV.C).

    Phone purity: the share of frames that the likeliest phone of their token gets right; cluster purity: the other
    way round, which many small clusters lower. PNMI: the share of the phones' entropy that the tokens take away.
    Raises LabError where there are no two phones.
    """
    if len(counts) < 2:
        raise LabError(f"tokens can be compared with two phones or more, and there are {len(counts)}")
    joint = counts / counts.sum()
    phone, token = joint.sum(1), joint.sum(0)
    independent = np.outer(phone, token)
    met = joint > 0
    information = (joint[met] * np.log(joint[met] / independent[met])).sum()
    return {
        "phone purity": float(joint.max(0).sum()),
        "cluster purity": float(joint.max(1).sum()),
        "PNMI": float(information / -(phone * np.log(phone)).sum()),
    }
