"""Small OpenAI-compatible servers on loopback: one that answers like vLLM, and its bad days."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from dallrec_core.llm.load import LanguageModel


def answer_like_vllm(lm: LanguageModel, body: dict[str, Any]) -> dict[str, Any]:
    """One greedy token with log-probabilities, computed the plain way from the model's logits."""
    ids = lm.tokenizer.apply_chat_template(
        body["messages"], add_generation_prompt=True, return_dict=False
    )
    with torch.inference_mode():
        log = lm.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    values, best = log.topk(20)
    top = [
        {"token": lm.tokenizer.decode([i]), "logprob": v, "bytes": None}
        for i, v in zip(best.tolist(), values.tolist(), strict=True)
    ]
    return completion(top[0]["token"], [{**top[0], "top_logprobs": top[: body["top_logprobs"]]}])


def completion(text: str, content: list[Any] | None = None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "finish_reason": "length" if text.endswith("...") else "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": content} if content else None,
    }
    usage = {"prompt_tokens": 3, "completion_tokens": len(text.split()), "total_tokens": 9}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [choice], "usage": usage}  # fmt: skip


BROKEN = {
    "page": "<html>Welcome!</html>",
    "cut": '{"choices": [{"mess',
    "plain": completion("yes"),
}
"""What a server may send with status 200 instead of an answer with log-probabilities."""


@dataclass
class Served:
    """What a test server was asked, and how it behaves."""

    reply: Callable[[dict[str, Any]], dict[str, Any]]
    mood: Callable[[int], str] = lambda n: "good"
    """What happens to the n-th question: good, a status, stall, dead, or a name in `BROKEN`."""
    models: tuple[str, ...] = ("standin",)
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Run the server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send(200, {"object": "list", "data": [{"id": m} for m in served.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.keys.add(self.headers["Authorization"])
            served.asked.append(body)
            self.answer(served.mood(next(served.numbers)), body)

        def answer(self, mood: str, body: dict[str, Any]) -> None:
            if mood == "good":
                self.send(200, served.reply(body))
            elif mood == "stall":
                time.sleep(5)
            elif mood == "dead":
                self.close_connection = True
            elif mood in BROKEN:
                self.send(200, BROKEN[mood])
            else:
                said = f"no, {self.headers['Authorization']}"
                self.send(int(mood), {"error": {"message": said}})

        def send(self, status: int, content: object) -> None:
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            kind = "text/html" if data.startswith(b"<") else "application/json"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.socket.close()
