"""Speech -> semantic tokens: what is said, not who says it."""

from lab.tokens.tokenizer import HOP, RATE, Tokenizer, TokenizerConfig

__all__ = ["HOP", "RATE", "Tokenizer", "TokenizerConfig"]
