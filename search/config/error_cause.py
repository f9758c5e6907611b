"""Find why a request failed below the wrappers that HTTP libraries put around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

# The message of any other exception was written for people, and what led to it need not explain it.
_WRAPPING_LIBRARIES = {"requests", "urllib3", "urllib", "botocore"}
_MLFLOW_WRAPPER = re.compile(r"API request to .* failed with (timeout )?exception")
_NOISE = re.compile(r"^\[SSL: \w+\] |^\w+Connection(Pool)?\(.*?\): | \(_ssl\.c:\d+\)| for url: \S+")
_PROXY_ERROR = "ProxyError"


def cause_of(error: BaseException) -> str:
    """Return the message of the innermost exception of a failed request, or of the exception itself if it is none.

    ``certificate verify failed: self-signed certificate``, not the address and the retries around it.
    """
    chain = list(_chain(error))
    texts = (_NOISE.sub("", str(inner)) for inner in reversed(chain))
    text = next(filter(None, texts), type(error).__name__)
    through_proxy = any(type(inner).__name__ == _PROXY_ERROR for inner in chain)
    return f"the proxy does not connect: {text}" if through_proxy else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and below each wrapper what it wraps."""
    seen: set[int] = set()
    inner: BaseException | None = error
    while inner is not None and id(inner) not in seen:
        yield inner
        seen.add(id(inner))
        inner = _wrapped(inner) if _is_wrapper(inner) else None


def _is_wrapper(error: BaseException) -> bool:
    library = type(error).__module__.partition(".")[0]
    return library in _WRAPPING_LIBRARIES or (library == "mlflow" and bool(_MLFLOW_WRAPPER.match(str(error))))


def _wrapped(error: BaseException) -> BaseException | None:
    candidates = (
        getattr(error, "reason", None),  # of urllib and urllib3
        getattr(error, "original_error", None),  # of urllib3's ProxyError
        *reversed(error.args),
        error.__cause__,
        error.__context__,
    )
    return next((found for found in candidates if isinstance(found, BaseException)), None)
