"""Speech -> semantic tokens: what is said, not who says it."""

from lab.tokens.tokenizer import Tokenizer, TokenizerConfig
from lab.windows import TOKEN_HOP, TOKEN_RATE

__all__ = ["TOKEN_HOP", "TOKEN_RATE", "Tokenizer", "TokenizerConfig"]
