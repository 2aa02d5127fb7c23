"""`Refusal`: why a client gets no actions, with the protocol's word for it."""

import re

from fla_sdk.errors import FlaError, ProtocolError

_FOLDERS = re.compile(r"(?<![\w./])(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\":,;]+)+[/\\]")
_LONGEST_REASON = 2000


class Refusal(FlaError):
    """`code` is one of docs/protocol.md; asking again makes sense after `retry_after_s` seconds, if that is given."""

    def __init__(self, code: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code, self.retry_after_s = code, retry_after_s


def code_of(error: Exception) -> str:
    """`failed` for what is not the client's to mend."""
    if isinstance(error, Refusal):
        return error.code
    if isinstance(error, ProtocolError):
        return "protocol"
    return "observation" if isinstance(error, FlaError) else "failed"


def reason_of(error: Exception) -> str:
    """The error's text for a stranger: no folders of this machine, no more than a screenful."""
    text = str(error) or type(error).__name__
    if len(text) > _LONGEST_REASON:
        text = text[:_LONGEST_REASON] + " ..."
    text = _FOLDERS.sub("", text)
    return text if isinstance(error, FlaError) else f"{type(error).__name__}: {text}"
