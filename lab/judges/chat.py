"""LLM-as-a-judge over any endpoint that speaks OpenAI's chat completions: chat:MODEL@URL, such as
chat:gemma3:27b@http://localhost:11434/v1.

    LAB_CHAT_KEY     the key, if the endpoint wants one; it goes into no result and no message
    LAB_CHAT_RATE    requests a minute at most, 60 by default
    LAB_CHAT_PRICE   dollars for a million tokens read and written, as 0.1,0.4, to estimate what it will cost
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import platform
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from lab.console import console
from lab.errors import LabError
from lab.judges.protocols import Verdict

# Criteria, order and labels of Park et al. 2025, which adapt those of Arena-Hard, in our own words.
INSTRUCTIONS = """\
You are an impartial judge of two texts, A and B, that come from the context of a book. Each is the transcript of a \
recording that was cut off after a fixed time, and both begin with the same passage. Where [...] follows it, as much \
of each recording is left out there; do not hold that against either text. Compare them by four criteria:

- Fluency: is the grammar right?
- Coherence: do the sentences fit together?
- Logic: does what is told make sense to somebody with common sense?
- Interest: is it enjoyable?

First analyse text A. Its last sentence or paragraph may be unfinished; do not hold that against it. Then analyse \
text B. Its last sentence or paragraph may be unfinished; do not hold that against it either. Then compare the two in \
detail, and again do not punish a text for how it was cut off. Which text stands first must not matter.

Give your explanation first. End with exactly one of these five labels:

[[A>>B]] A is much better
[[A>B]] A is somewhat better
[[A=B]] they are about as good
[[B>A]] B is somewhat better
[[B>>A]] B is much better

An example of a last sentence: "My final verdict is that they are about as good: [[A=B]]".

## Text A

{first}

## Text B

{second}

## Detailed comparison
"""
_LABELS = {
    "A>>B": ("first", True), "A>B": ("first", False), "A=B": ("tie", False),
    "B>A": ("second", False), "B>>A": ("second", True),
}  # fmt: skip
_ANSWER = 2048  # tokens at most
_LETTERS = 4  # to a token of English, about
_AGAIN = {408, 425, 429, 500, 502, 503, 504, 529}  # HTTP: it may go well another time
_TRIES = 6
_BACKOFF = 2.0  # seconds before the second try, twice as long before each further one
_PATIENCE = 300.0  # seconds: an endpoint that asks to wait longer is left alone
_LARGEST = 1 << 22  # bytes of an answer


class Cost(NamedTuple):
    """What judgements will take, before the first: tokens in by 4 letters each, tokens out at most."""

    requests: int
    tokens_in: int
    tokens_out: int
    dollars: float | None

    def __str__(self) -> str:
        price = "" if self.dollars is None else f", ${self.dollars:.2f} at most"
        return f"{self.requests} requests, about {self.tokens_in} tokens in and up to {self.tokens_out} out{price}"


class ChatJudge:
    """Tries again, later and later, where the endpoint is down, slow, busy or answers no completion."""

    def __init__(self, where: str, *, timeout: float = 120.0):
        """where: MODEL@URL. timeout: seconds for a whole answer. Raises LabError for another form."""
        model, _, url = where.partition("@http")
        url = f"http{url}".rstrip("/")
        if not model or not re.fullmatch(r"https?://(\[[\da-f:.]+\]|[^/:@\s\[\]?#]+)(:\d+)?(/[^@\s?#]*)?", url):
            raise LabError(
                "give chat:MODEL@URL, such as chat:gemma3:27b@http://localhost:11434/v1; a key: LAB_CHAT_KEY"
            )
        self._model, self._url, self._timeout = model, url.removesuffix("/chat/completions"), timeout
        self._key = os.environ.get("LAB_CHAT_KEY", "").strip()
        self._pause = 60 / _numbers("LAB_CHAT_RATE", 1, "60")[0]
        self._price = _numbers("LAB_CHAT_PRICE", 2, "")
        self._next = 0.0  # when the next request may be sent
        self._open = urllib.request.build_opener(_NoRedirect).open
        self.name = f"chat:{model}"

    def provenance(self) -> dict[str, str]:
        instructions = hashlib.sha256(INSTRUCTIONS.encode()).hexdigest()[:12]
        backend = f"chat completions, temperature 0, by Python {platform.python_version()}"
        return {"backend": backend, "checkpoint": self._model, "endpoint": self._url, "instructions": instructions}

    def cost(self, pairs: Iterable[tuple[str, str, str]]) -> Cost:
        """Of judging prompts with two continuations each, in both orders."""
        letters = [len(_message(*pair)) for pair in pairs]
        requests, read = 2 * len(letters), 2 * sum(letters) // _LETTERS
        written = requests * _ANSWER
        dollars = (read * self._price[0] + written * self._price[1]) / 1e6 if self._price else None
        return Cost(requests, read, written, dollars)

    def judge(self, prompt: str, first: str, second: str) -> Verdict:
        """Raises LabError where the endpoint refuses, or gives no completion in six tries."""
        text = self._ask(_message(prompt, first, second))
        labels = set(re.findall(r"\[\[(.*?)\]\]", text)) & set(_LABELS)
        if len(labels) != 1:
            return Verdict(None, text)
        winner, strong = _LABELS[labels.pop()]
        return Verdict(winner, text, strong)  # type: ignore[arg-type]

    def _ask(self, message: str) -> str:
        where, reason = f"the judge {self._model} at {self._url}", ""
        for attempt in range(_TRIES):
            wait = _BACKOFF * 2**attempt
            try:
                return self._post(message)
            except urllib.error.HTTPError as error:
                reason = f"HTTP {error.code} {_said(error) or error.reason}"
                if error.code not in _AGAIN:
                    raise LabError(self._safe(f"{where} refuses: {reason}")) from None
                wait = max(wait, _retry_after(error.headers.get("Retry-After")))
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                reason = " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__
            if wait > _PATIENCE:
                raise LabError(self._safe(f"{where} asks to wait {wait:.0f} s ({reason}); try again later"))
            if attempt + 1 < _TRIES:
                console.print(self._safe(f"{where}: {reason}; trying again in {wait:.0f} s"))
                time.sleep(wait)
        raise LabError(self._safe(f"{where} gave no answer in {_TRIES} tries: {reason}"))

    def _post(self, message: str) -> str:
        """The text of one completion; the errors of urllib, and ValueError and the like for what is none."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._pause
        body = {"model": self._model, "messages": [{"role": "user", "content": message}]}
        headers = {"Content-Type": "application/json", "User-Agent": "speechssm-lab"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body | {"temperature": 0, "max_tokens": _ANSWER}).encode()
        end = time.monotonic() + self._timeout
        with self._open(
            urllib.request.Request(f"{self._url}/chat/completions", data, headers), timeout=self._timeout
        ) as response:
            answer = b""
            while part := response.read1(1 << 16):
                answer += part
                if time.monotonic() > end or len(answer) > _LARGEST:
                    raise TimeoutError(f"no whole answer in {self._timeout:g} s and {_LARGEST >> 20} MB")
        return _content(answer)

    def _safe(self, message: str) -> str:
        return message.replace(self._key, "***") if self._key else message


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is for the endpoint that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _message(prompt: str, first: str, second: str) -> str:
    return INSTRUCTIONS.format(first=f"{prompt} {first}".strip(), second=f"{prompt} {second}".strip())


def _said(error: urllib.error.HTTPError) -> str:
    """What an endpoint says beside the status, in one line; "" where it stalls or breaks off."""
    try:
        with error:
            return " ".join(error.read(1000).decode(errors="replace").split())[:200]
    except (OSError, http.client.HTTPException):
        return ""


def _content(answer: bytes) -> str:
    """What is said in a completion; "" for a refusal to say anything."""
    try:
        content = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"no chat completion: {answer[:100].decode(errors='replace')}") from None
    if not isinstance(content, str | None):
        raise ValueError(f"no text in the completion, but {str(content)[:100]}")
    return content or ""


def _retry_after(told: str | None) -> float:
    """Seconds from seconds or a date; 0 for neither."""
    try:
        return float(told or 0)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(told or "") - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def _numbers(variable: str, count: int, default: str) -> list[float]:
    """Positive numbers, with commas between them, from the environment; none of "". LabError for others."""
    told = os.environ.get(variable, "") or default
    try:
        found = [float(number) for number in told.split(",") if told]
    except ValueError:
        found = []
    if told and (len(found) != count or not all(0 < number < float("inf") for number in found)):
        raise LabError(f"{variable} is {told!r}; give {count} positive number{'s' * (count > 1)}")
    return found
