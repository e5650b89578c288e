"""The refiner: what it takes and gives, what it learns, and a voice of one level on it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lab.errors import LabError
from lab.nn.sampling import generator_of
from lab.tokens import Tokenizer, TokenizerConfig
from lab.train import refiner as recipe
from lab.train import soundstorm as soundstorm_recipe
from lab.voice import Codec, CodecConfig, SoundStorm, SoundStormConfig, Synthesizer, VoicePrompt, refiner
from lab.voice.codec import CONTRAST


def codec(**overrides: int) -> Codec:
    torch.manual_seed(0)
    made = Codec(CodecConfig.preset("tiny", **{"refiner_layers": 1, "vocabulary": 32} | overrides))
    made(0.1 * torch.randn(1, 32000), torch.tensor([4]))  # starts the codebooks
    return made.eval()


def guess(frames: int, rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, codes of the first level and timbres."""
    random = torch.Generator().manual_seed(frames)
    tokens, codes = (torch.randint(size, (rows, frames), generator=random) for size in (32, 16))
    return tokens, codes[..., None], torch.randn(rows, 8, generator=random)


def test_a_guess_is_decoded_by_what_the_refiner_makes_of_it() -> None:
    made = codec()
    tokens, codes, timbre = guess(30)
    assert made.guessed == 1 and made.refiner is not None
    with torch.no_grad():
        vectors = made.refiner.estimate(tokens, made.quantizer.decode(codes), timbre)
        heard = made.synthesize(vectors, timbre, generator_of(0, device="cpu"), contrast=CONTRAST)[0]
    refined = made.decode(codes, timbre, tokens)
    assert torch.equal(refined, heard) and not torch.equal(refined, made.decode(codes, timbre))
    assert torch.equal(refined, made.decode(codes, timbre, tokens))  # the same codes, the same samples
    assert not torch.equal(refined, made.decode(codes, timbre, tokens.flip(1)))


def test_an_estimate_is_the_weighted_mean_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    made = codec().refiner
    assert made is not None
    tokens, _, timbre = guess(20)
    vectors = torch.randn(2, 20, 16)
    with torch.no_grad():
        guided, alone = (made(tokens, vectors, timbre, torch.full((2,), known)) for known in (True, False))
        torch.testing.assert_close(made.estimate(tokens, vectors, timbre), 0.3 * guided + 0.7 * alone)
        monkeypatch.setattr(refiner, "GUIDED", 1.0)
        torch.testing.assert_close(made.estimate(tokens, vectors, timbre), guided)
        hidden = made(tokens, torch.randn(2, 20, 16), timbre, torch.tensor([False, True]))
    assert torch.allclose(hidden[0], alone[0]) and not torch.allclose(hidden[1], guided[1])


@pytest.mark.parametrize(
    ("tokens", "levels", "message"),
    [((2, 29), 1, r"tokens \(2, 29\) and codes \(2, 30, 1\) to refine"), ((2, 30), 2, r"give .B, F. and .B, F, 1.")],
)
def test_what_cannot_be_refined_is_refused(tokens: tuple[int, int], levels: int, message: str) -> None:
    _, codes, timbre = guess(30)
    with pytest.raises(LabError, match=message):
        codec().decode(codes.expand(-1, -1, levels), timbre, torch.zeros(tokens, dtype=torch.int64))
    with pytest.raises(LabError, match="semantic token 32"):
        codec().decode(codes, timbre, torch.full((2, 30), 32))


def test_a_voice_guesses_what_the_codec_wants_guessed() -> None:
    torch.manual_seed(0)
    four, one = (SoundStorm(SoundStormConfig.preset("tiny", levels=levels)) for levels in (4, 1))
    with pytest.raises(
        LabError, match=r"a SoundStorm of 4 levels x 16 codes .* a codec of 4 x 16 that wants 1 guessed"
    ):
        Synthesizer(four, codec())
    Synthesizer(four, codec(refiner_layers=0))
    voice = Synthesizer(one.eval(), codec())
    tokens, codes, timbre = guess(75, 1)
    prompt = VoicePrompt(tokens[0], codes[0].expand(-1, 4), timbre[0])
    seen: list[Tensor] = []
    whole = voice.speak(tokens[0], prompt, on_pass=lambda each: seen.append(each.filled()))
    assert (whole == voice.decode(seen[-1], timbre[0], tokens[0])).all()
    assert not (whole == voice.decode(seen[-1], timbre[0])).all()


def said(made: Codec, speakers: int = 2) -> list[list[VoicePrompt]]:
    """Speech whose codes follow from its tokens."""
    random = torch.Generator().manual_seed(0)
    tokens = [torch.randint(16, (200,), generator=random) for _ in range(2 * speakers)]
    spoken = [VoicePrompt(each, each[:, None].expand(-1, 4), torch.ones(8)) for each in tokens]
    return [spoken[number::speakers] for number in range(speakers)]


def test_recipe(tmp_path) -> None:
    made = codec().requires_grad_(False)  # as a bundle's is
    before = {name: value.clone() for name, value in made.state_dict().items()}
    figures = recipe.train(made, said(made), tmp_path, steps=30, batch=4, settings={"learning_rate": 1e-2})
    assert figures["error"] < 0.7 and {"guided", "alone"} < set(figures)  # 1 is as good as the mean of all vectors
    changed = {name.partition(".")[0] for name, value in made.state_dict().items() if not value.equal(before[name])}
    assert changed == {"refiner"}


def test_what_was_learnt_from_the_ctc_head_stays(tmp_path) -> None:
    made = recipe.with_refiner(codec(), tokenizer()).requires_grad_(True)
    assert made.refiner is not None and (context := made.refiner.context) is not None
    before = {name: value.clone() for name, value in context.state_dict().items()}
    recipe.train(made, said(made), tmp_path, steps=3, batch=2)
    changed = {name for name, value in context.state_dict().items() if not value.equal(before[name])}
    assert changed == {"out.weight", "out.bias"}


def test_some_rows_have_no_codes_and_timbres_are_of_the_same_speaker() -> None:
    spoken = [
        [each._replace(timbre=torch.full((8,), float(n))) for each in group] for n, group in enumerate(said(codec()))
    ]
    spoken = [[each._replace(codes=each.codes * 0 + n) for each in group] for n, group in enumerate(spoken)]
    batch = recipe.batches(spoken, 200, 0)(0)
    assert batch.tokens.shape == (200, recipe.LENGTH) and batch.codes.shape == (200, recipe.LENGTH, 4)
    assert abs((~batch.known).float().mean() - recipe.HIDDEN) < 4 * math.sqrt(0.25 / 200)
    assert (batch.codes[:, 0, 0] == batch.timbre[:, 0]).all()
    with pytest.raises(LabError, match="no utterance lasts 6 s"):
        recipe.batches([[VoicePrompt(*(x[:149] for x in spoken[0][0]))]], 2, 0)


def tokenizer(codes: int = 32) -> Tokenizer:
    """Whose codebook is drawn, as training would."""
    torch.manual_seed(1)
    made = Tokenizer(TokenizerConfig.preset("tiny", codes=codes)).eval()
    made.quantizer.codebook[:] = torch.nn.functional.normalize(torch.randn_like(made.quantizer.codebook), dim=-1)
    return made


def test_a_codec_is_given_a_refiner_and_keeps_the_one_it_has() -> None:
    bare = codec(refiner_layers=0)
    made = recipe.with_refiner(bare, tokenizer(20))
    assert made.refiner is not None and made.refiner.embedding.num_embeddings == 20 and made.guessed == 1
    assert all(value.equal(made.state_dict()[name]) for name, value in bare.state_dict().items())
    assert recipe.with_refiner(made, tokenizer(20)) is made
    other = recipe.with_refiner(made, tokenizer(24))  # a refiner of other tokens knows nothing of these
    assert other.refiner is not None and other.refiner.embedding.num_embeddings == 24


def test_a_context_reads_as_the_tokenizers_ctc_head_does() -> None:
    reader = tokenizer()
    made = recipe.with_refiner(codec(), reader)
    tokens = torch.randint(32, (2, 30))
    assert made.refiner is not None and (context := made.refiner.context) is not None
    with torch.no_grad():
        read = context.blocks(context.embedding(tokens))
        torch.testing.assert_close(reader.ctc_head[-1](read), reader.ctc_head(reader.quantizer.codebook[tokens]))


def test_the_first_levels_of_a_voice_answer_as_if_those_above_were_masked() -> None:
    torch.manual_seed(0)
    four = SoundStorm(SoundStormConfig.preset("tiny", levels=4)).eval()
    one = soundstorm_recipe.first_levels(four, 1).eval()
    tokens, codes = torch.randint(32, (2, 40)), torch.randint(17, (2, 40, 1))
    masked = torch.cat([codes, torch.full((2, 40, 3), four.mask)], -1)
    level = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        torch.testing.assert_close(one(tokens, codes, level, 10), four(tokens, masked, level, 10))
    assert soundstorm_recipe.first_levels(four, 4) is four and one.config.levels == 1
