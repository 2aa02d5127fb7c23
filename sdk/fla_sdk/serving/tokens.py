"""`Tokens`: what clients present to be let in, and until when."""

import base64
import binascii
import hmac
import logging
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import attrs

from fla_sdk.errors import ConfigError

log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Token:
    """One secret."""

    secret: str = attrs.field(repr=False)
    name: str | None = None
    """Whose it is, for the log."""

    expires: datetime | None = None
    """With a time zone; None: never."""

    def __attrs_post_init__(self) -> None:
        if not self.secret or not self.secret.isascii() or not self.secret.isprintable() or " " in self.secret:
            raise ConfigError("the token must be printable ASCII without spaces, and not empty: it travels in a header")
        if self.expires is not None and self.expires.tzinfo is None:
            raise ConfigError(f"token {self.name or ''} expires at {self.expires}, in which time zone? Add Z for UTC")


class Tokens:
    """All that are good now. Those of a file are read again when the file changes."""

    def __init__(self, tokens: Sequence[Token] = (), *, file: Path | None = None) -> None:
        """Raises `ConfigError` when there is none."""
        self._given, self._file = tuple(tokens), file
        self._known, self._stamp = self._given, None
        if file is not None:
            self._stamp = _stamp(file)
            self._known += read_tokens(file)
        if not self._known:
            raise ConfigError("there is no token")

    def why_not(self, authorizations: Iterable[str], *, now: datetime | None = None) -> str | None:
        """Why a request with these `Authorization` headers is not let in; None when it is.

        A token comes as `Api-Key <token>`, as openpi's clients send it, as `Bearer <token>`, or as the password of
        `Basic`, which is what browsers ask people for.
        """
        self._reread()
        now, expired = now or datetime.now(timezone.utc), None
        for presented in (_presented(value) for value in authorizations):
            for token in self._known if presented else ():
                # Takes the same time whichever character is wrong.
                if hmac.compare_digest(presented.encode(), token.secret.encode()):
                    if token.expires is None or now < token.expires:
                        return None
                    expired = token
        if expired is not None and expired.expires is not None:
            since = expired.expires.astimezone(timezone.utc)
            return f"This token has expired, on {since:%Y-%m-%d at %H:%M:%S} UTC: ask for a new one."
        return "This server wants 'Authorization: Api-Key <token>'."

    def _reread(self) -> None:
        if self._file is None or (stamp := _stamp(self._file)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._known = self._given + read_tokens(self._file)
            log.info("read %s again: %d tokens", self._file.name, len(self._known))
        except ConfigError as error:  # half written, or deleted: nobody is to be locked out by accident, nor let in
            log.error("%s; the tokens that were read before stay good", error)


def read_tokens(file: Path) -> tuple[Token, ...]:
    """One per line: `TOKEN [name=WHOSE] [expires=2027-01-01T00:00:00Z]`; `#` begins a comment.

    Raises `ConfigError`, which never contains a token.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--token-file {file} cannot be read: {reason}") from error
    found: list[Token] = []
    for number, line in enumerate(lines, start=1):
        if words := re.split(r"(?:^|\s)#", line)[0].split():
            found.append(_token(words, f"--token-file {file}, line {number}"))
    if not found:
        raise ConfigError(f"--token-file {file}: there is no token in it")
    return tuple(found)


def _token(words: Sequence[str], where: str) -> Token:
    options: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals or name not in ("name", "expires") or name in options:
            raise ConfigError(f"{where}: after the token may come name=... and expires=..., each once")
        options[name] = value
    expires = None
    if "expires" in options:
        try:
            # Python 3.10 does not know Z.
            expires = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", options["expires"]))
        except ValueError:
            raise ConfigError(
                f"{where}: expires={options['expires']} is no time such as 2027-01-01T00:00:00Z"
            ) from None
    try:
        return Token(secret=words[0], name=options.get("name"), expires=expires)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _presented(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() in ("api-key", "bearer"):
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
