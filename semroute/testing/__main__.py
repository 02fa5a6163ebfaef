"""``python -m semroute.testing --port 8099``: a provider at the prompt, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence

from semroute.testing.replies import Reply, empty_choices, error_in_200, fail, hang, malformed
from semroute.testing.server import FakeProvider

_NAMED: Mapping[str, Callable[[], Reply]] = {
    "ok": Reply,
    "hang": hang,
    "malformed": malformed,
    "error": error_in_200,
    "empty": empty_choices,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        with FakeProvider(key=options.key, host=options.host, port=options.port) as provider:
            provider.script(*options.script)
            print(f"serving {provider.base_url} (Ctrl-C ends it)", flush=True)
            _wait()
            print(f"{len(provider.requests)} requests", flush=True)
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host}:{options.port}: {error}")


def _wait() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m semroute.testing", description="An OpenAI-compatible test server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8099, help="0 takes a free port (default: %(default)s)")
    parser.add_argument("--key", help="the bearer token to ask for; without it any request is answered")
    parser.add_argument(
        "--script",
        type=_script,
        default=(),
        help=f"replies of the first requests, such as 429,hang,ok: an HTTP status, or one of {', '.join(_NAMED)}",
    )
    return parser


def _script(text: str) -> tuple[Reply, ...]:
    return tuple(_reply(word.strip()) for word in text.split(","))


def _reply(word: str) -> Reply:
    if word in _NAMED:
        return _NAMED[word]()
    if word.isascii() and word.isdigit() and 400 <= int(word) <= 599:
        return fail(int(word), retry_after=1 if word == "429" else None)
    raise argparse.ArgumentTypeError(f'"{word}" is neither an error status nor one of {", ".join(_NAMED)}')


if __name__ == "__main__":
    main()
