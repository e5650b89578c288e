"""LLM-as-a-judge against a server on this machine that answers well, badly, slowly, not at all."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lab import judges
from lab.errors import LabError
from lab.judges import chat
from lab.judges.chat import ChatJudge

KEY = "sk-very-secret"


def says(text: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Server:
    """Replies in turn, the last one for ever: (HTTP status, body, headers), or what is to be done with the handler."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
                reply = server.replies.pop(0) if len(server.replies) > 1 else server.replies[0]
                if callable(reply):
                    reply(self)
                    return
                status, answer, headers = reply
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(answer))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def will(self, *replies: Any) -> None:
        self.replies = [(200, reply, {}) if isinstance(reply, bytes) else reply for reply in replies]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the judge would have waited."""
    found: list[float] = []
    monkeypatch.setattr(chat.time, "sleep", lambda seconds: found.append(seconds) if seconds else None)
    monkeypatch.setenv("LAB_CHAT_RATE", "1e12")
    monkeypatch.setenv("LAB_CHAT_KEY", KEY)
    return found


def judged(server: Server, **options: Any) -> Any:
    return ChatJudge(f"a:model@{server.url}", **options).judge("once upon a time", "there was {a} fox", "fox the was")


# Answers


@pytest.mark.parametrize(
    ("text", "winner", "strong"),
    [
        ("A is far better. [[A>>B]]", "first", True),
        ("[[A>B]]", "first", False),
        ("As good: [[A=B]].\n", "tie", False),
        ("[[B>A]] is what I say. Again: [[B>A]]", "second", False),
        ("[[B>>A]]", "second", True),
        ("A is better", None, False),
        ("A>B", None, False),
        ("[A>B]", None, False),
        ("[[A > B]]", None, False),
        ("[[A<B]]", None, False),
        ("[[A]]", None, False),
        ("at first [[A>B]], but then [[B>A]]", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_only_the_labels_that_were_asked_for_are_read(
    server: Server, waits: list[float], text: str | None, winner: str | None, strong: bool
) -> None:
    server.will(says(text))
    verdict = judged(server)
    assert (verdict.winner, verdict.strong, verdict.text) == (winner, strong, text or "")
    assert len(server.requests) == 1 and not waits


def test_what_is_asked(server: Server, waits: list[float]) -> None:
    server.will(says("[[A=B]]"))
    judge = judges.load(f"chat:a:model@{server.url}/")
    judge.judge("once upon a time", "there was {a} fox", "fox the was")
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions" and request["headers"]["Authorization"] == f"Bearer {KEY}"
    body = request["body"]
    assert body["model"] == "a:model" and body["temperature"] == 0 and [m["role"] for m in body["messages"]] == ["user"]
    asked = body["messages"][0]["content"]
    first, second = (asked.index(f"once upon a time {text}") for text in ("there was {a} fox", "fox the was"))
    assert asked.index("## Text A") < first < asked.index("## Text B") < second
    assert asked.count("may be unfinished") == 2 and all(f"[[{label}]]" in asked for label in chat._LABELS)
    for criterion in ("Fluency", "Coherence", "Logic", "Interest"):
        assert criterion in asked
    assert judge.name == "chat:a:model" and KEY not in str(judge.provenance())
    assert judge.provenance()["checkpoint"] == "a:model" and judge.provenance()["endpoint"] == server.url


def test_without_a_key_none_is_sent(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAB_CHAT_KEY")
    server.will(says("[[A=B]]"))
    judged(server)
    assert "Authorization" not in server.requests[0]["headers"]


# Trouble


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_busy_endpoint_is_asked_again(server: Server, waits: list[float], status: int) -> None:
    server.will((status, b"busy", {}), (status, b"busy", {}), says("[[A>B]]"))
    assert judged(server).winner == "first"
    assert waits == [2, 4] and len(server.requests) == 3


@pytest.mark.parametrize("told", ["30", "date", "0", "soon", "-5", "nan"])
def test_an_endpoint_that_says_when(server: Server, waits: list[float], told: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.will((429, b"", {"Retry-After": date if told == "date" else told}), says("[[A>B]]"))
    assert judged(server).winner == "first"
    assert waits == [pytest.approx(30 if told in ("30", "date") else 2, abs=1.5)]


def test_an_endpoint_that_wants_an_hour_is_left_alone(server: Server, waits: list[float]) -> None:
    server.will((429, b"daily limit", {"Retry-After": "3600"}))
    with pytest.raises(LabError, match="asks to wait 3600 s .*daily limit"):
        judged(server)
    assert not waits and len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_refusal_is_told_at_once(server: Server, waits: list[float], status: int) -> None:
    reply = json.dumps({"error": {"message": f"not\nwith {KEY}"}}).encode()
    server.will((status, reply, {"Location": f"{server.url}/elsewhere"}))
    with pytest.raises(LabError, match=f"refuses: HTTP {status} .*not") as refused:
        judged(server)
    assert KEY not in str(refused.value) and "\n" not in str(refused.value)
    assert len(server.requests) == 1 and not waits  # and the key is not carried elsewhere


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>sign in</html>",
        b"[]",
        b"{}",
        b'{"error": "no"}',
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": [1]}}]}',
        b'{"choices": [{"message": null}]}',
        b"\xff\xfe",
    ],
)
def test_nonsense_is_no_verdict(
    server: Server, waits: list[float], answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.will(answer)
    with pytest.raises(LabError, match="gave no answer in 6 tries: no ") as refused:
        judged(server)
    assert waits == [2, 4, 8, 16, 32] and len(server.requests) == 6
    assert "\n" not in str(refused.value) and "trying again in 2 s" in capsys.readouterr().err
    server.will(answer, says("[[B>A]]"))
    assert judged(server).winner == "second"


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')


def stall(handler: BaseHTTPRequestHandler) -> None:
    """An error whose message never comes."""
    handler.send_response(503)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    time.sleep(1)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, each before any timeout of a socket."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        time.sleep(0.05)
        try:
            handler.wfile.write(b" ")
        except OSError:
            return


def flood(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


@pytest.mark.parametrize("trouble", [cut, stall, drip, flood, lambda handler: time.sleep(1), lambda handler: None])
def test_half_an_answer_is_none(server: Server, monkeypatch: pytest.MonkeyPatch, trouble: Callable[..., None]) -> None:
    monkeypatch.setattr(chat, "_BACKOFF", 0.001)
    server.will(trouble, says("[[A>B]]"))
    started = time.monotonic()
    assert judged(server, timeout=0.3).winner == "first"
    assert time.monotonic() - started < 10


def test_an_endpoint_that_is_down(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(LabError, match=f"model at http://127.0.0.1:{port}/v1 gave no answer in 6 tries: .*refused"):
        ChatJudge(f"model@http://127.0.0.1:{port}/v1").judge("", "a", "b")
    assert waits == [2, 4, 8, 16, 32]


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://judge.example", "http://localhost:11434/v1/"])
def test_a_spec(url: str) -> None:
    assert judges.load(f"chat:some/model:27b@{url}").provenance()["endpoint"] == url.rstrip("/")


# Rate and cost


def test_no_more_requests_than_the_rate(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CHAT_RATE", "600")
    server.will(says("[[A>B]]"))
    judge = ChatJudge(f"m@{server.url}")
    started = time.monotonic()
    for _ in range(4):
        judge.judge("", "a", "b")
    assert time.monotonic() - started >= 3 * 0.1


def test_what_it_will_cost(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CHAT_PRICE", "0.5,2")
    cost = ChatJudge(f"m@{server.url}").cost([("p" * 400, "a" * 4000, "b" * 4000)] * 10)
    letters = len(chat.INSTRUCTIONS) - len("{first}{second}") + 2 * (400 + 1 + 4000)
    assert cost.requests == 20 and cost.tokens_in == 20 * letters // 4 and cost.tokens_out == 20 * 2048
    assert cost.dollars == pytest.approx((0.5 * cost.tokens_in + 2 * cost.tokens_out) / 1e6)
    assert str(cost).startswith("20 requests, about ") and str(cost).endswith(f"${cost.dollars:.2f} at most")
    monkeypatch.delenv("LAB_CHAT_PRICE")
    assert ChatJudge(f"m@{server.url}").cost([]) == (0, 0, 0, None) and not server.requests


@pytest.mark.parametrize(
    ("where", "variables", "message"),
    [
        ("model", {}, "give chat:MODEL@URL"),
        ("", {}, "give chat:MODEL@URL"),
        ("@http://h/v1", {}, "give chat:MODEL@URL"),
        ("m@ftp://h/v1", {}, "give chat:MODEL@URL"),
        ("m@http:///v1", {}, "give chat:MODEL@URL"),
        ("m@http://[bad/v1", {}, "give chat:MODEL@URL"),
        ("m@http://user:pass@h/v1", {}, "give chat:MODEL@URL"),
        ("m@http://h/v1", {"LAB_CHAT_RATE": "often"}, "LAB_CHAT_RATE is 'often'; give 1 positive number"),
        ("m@http://h/v1", {"LAB_CHAT_RATE": "0"}, "LAB_CHAT_RATE"),
        ("m@http://h/v1", {"LAB_CHAT_PRICE": "1"}, "LAB_CHAT_PRICE is '1'; give 2 positive numbers"),
    ],
)
def test_a_spec_that_is_none(
    monkeypatch: pytest.MonkeyPatch, where: str, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LabError, match=message):
        judges.load(f"chat:{where}")
