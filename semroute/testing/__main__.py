"""``python -m semroute.testing --port 8099``: a provider to call.

Another process steers it by ``POST /_control`` and reads ``GET /_stats`` (:mod:`semroute.testing.server`).
"""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Sequence

from semroute.testing import replies
from semroute.testing.replies import Reply
from semroute.testing.server import FakeProvider

_KEPT = 1000  # requests; a benchmark sends many more than it wants to look at


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    provider = FakeProvider(
        key=options.key,
        host=options.host,
        port=options.port,
        models=options.models,
        latency_s=options.latency_ms / 1000,
        first_token_s=options.first_token_ms / 1000,
        token_s=options.token_ms / 1000,
        rpm=options.rpm,
        tpm=options.tpm,
        keep=_KEPT,
    )
    provider.script(*options.script)
    provider.always(options.always)
    try:
        with provider:
            where = f"anthropic {provider.anthropic_url}, gemini {provider.gemini_url}"
            print(f"serving {provider.base_url} (OpenAI; {where}; Ctrl-C ends it)", flush=True)
            _wait()
            print(f"{provider.stats()['requests']} requests", flush=True)
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {error}")


def _wait() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m semroute.testing",
        description="A test server that speaks the wire formats of OpenAI, Anthropic and Gemini.",
        epilog=(
            f"Replies: an error status, or {', '.join(replies.NAMED)}; some with an argument: hang:2, stall:3, 429:5. "
            "A judge: --always number:1 answers with the first candidate (judge in semroute.yaml), number:7 with a "
            "grade of 7 (semroute label --judge), as text or in the JSON that the request asks for."
        ),
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099, help="0 takes a free port (default: %(default)s)")
    parser.add_argument("--key", help="the key to ask for; without it any request is answered")
    parser.add_argument("--models", type=lambda text: text.split(","), default=(), help="the only models there are")
    parser.add_argument("--script", type=_script, default=(), help="replies of the first requests, such as 429,hang,ok")
    parser.add_argument("--always", type=_reply, help="the reply of all other requests, such as 500")
    for name, meaning in (
        ("latency", "to the headers of each answer"),
        ("first-token", "from there to the first word"),
        ("token", "between words"),
    ):
        parser.add_argument(f"--{name}-ms", type=float, default=0.0, metavar="N", help=f"milliseconds {meaning}")
    parser.add_argument("--rpm", type=int, metavar="N", help="requests a minute, beyond which it answers 429")
    parser.add_argument("--tpm", type=int, metavar="N", help="tokens (words) a minute, beyond which it answers 429")
    return parser


def _script(text: str) -> tuple[Reply, ...]:
    try:
        return replies.script(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reply(word: str) -> Reply:
    try:
        return replies.reply(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
