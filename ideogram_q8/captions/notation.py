"""Text to a JSON value, where the text is JSON or nearly: with comments, trailing commas, invisible characters, or as Python writes it.

Every regular expression here consumes what it has begun to match, so that the time is linear in the text's length.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize

from ideogram_q8.captions.findings import Finding, quoted
from ideogram_q8.captions.json_form import decode
from ideogram_q8.errors import CaptionError

INVISIBLE = "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
"""Characters without a shape that come with copied text; also between tokens of JSON, where JSON allows blanks only."""
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)'
_EXTRA = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?(?:\*/|\Z)|[{INVISIBLE}\u00a0\u3000]+", re.DOTALL)
_COMMA = re.compile(rf"{_STRING}|,(?=\s*[}}\]])", re.DOTALL)
_CURLY = str.maketrans("“”„‟«»", '""""""')
_ODD_ESCAPE = re.compile(r"""\\[^\\'"abfnrtvxuU\n]""")


def read_value(text: str) -> tuple[object, list[Finding]]:
    """The value that all of `text` is, and what had to be taken out of the text for that.

    Raises:
        json.JSONDecodeError: it is none; the place is that of plain JSON.
        CaptionError: a value that no caption is, see `decode`.
    """
    try:
        return decode(text)[0], []
    except json.JSONDecodeError as error:
        for reading in (_relaxed, _straight, _python):
            found = reading(text)
            if found is not None:
                return found
        raise error from None


def _relaxed(text: str) -> tuple[object, list[Finding]] | None:
    """JSON after its comments, trailing commas and invisible characters; raw line breaks in strings count as such."""
    extras: list[str] = []
    commas = 0

    def without_extra(match: re.Match[str]) -> str:
        if match[0].startswith('"'):
            return match[0]
        extras.append(match[0])
        return " "

    def without_comma(match: re.Match[str]) -> str:
        nonlocal commas
        commas += match[0] == ","
        return "" if match[0] == "," else match[0]

    try:
        value, _ = decode(_COMMA.sub(without_comma, _EXTRA.sub(without_extra, text)), strict=False)
    except json.JSONDecodeError:
        return None
    comments = [extra for extra in extras if extra.startswith("/")]
    found = [Finding("", "taken out", f"the comment {quoted(comment)} is taken out", (comment,)) for comment in comments]
    if len(comments) < len(extras):
        found.append(Finding("", "taken out", "invisible characters between the tokens are taken out"))
    if commas:
        found.append(Finding("", "taken out", f"{commas} comma(s) before a closing bracket are taken out"))
    return value, found or [Finding("", "converted", "line breaks in strings are read as \\n")]


def _straight(text: str) -> tuple[object, list[Finding]] | None:
    """JSON whose quotation marks a word processor has made curly; with straight ones beside them, what is meant is not certain."""
    if '"' in text or text.translate(_CURLY) == text:
        return None
    try:
        value, _ = decode(text.translate(_CURLY))
    except json.JSONDecodeError:
        return None
    return value, [Finding("", "converted", "curly quotation marks are read as straight ones")]


def _python(text: str) -> tuple[object, list[Finding]] | None:
    """What Python prints of dicts and lists: apostrophes for quotation marks, None, True, tuples. Nothing is run."""
    if not text.startswith(("{", "[")) or _ODD_ESCAPE.search(text):
        return None
    try:
        value = _plain(ast.parse(text, mode="eval").body)
        comments = _python_comments(text)  # after that it is known to be Python, of which the time is linear
    except (SyntaxError, tokenize.TokenError, ValueError, MemoryError, RecursionError):
        return None
    found = [Finding("", "taken out", f"the comment {quoted(comment)} is taken out", (comment,)) for comment in comments]
    return value, [Finding("", "converted", "a Python value is read as JSON"), *found]


def _python_comments(text: str) -> list[str]:
    """Raises ValueError: two strings stand side by side, which Python joins and a writer hardly means. SyntaxError, TokenError."""
    comments, last = [], None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append(token.string)
        elif token.type != tokenize.NL:
            if token.type == last == tokenize.STRING:
                raise ValueError
            last = token.type
    return comments


def _plain(node: ast.expr) -> object:
    """Raises ValueError: not plain data. Raises CaptionError: a key twice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        number = node.operand.value
        if isinstance(number, int | float):
            return -number
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_plain(key) for key in node.keys if key is not None]
        if not all(isinstance(key, str) for key in keys) or len(keys) < len(node.values):
            raise ValueError
        if len(set(map(str, keys))) < len(keys):
            raise CaptionError("caption has a key twice in one object; keep one of them")
        return {str(key): _plain(item) for key, item in zip(keys, node.values, strict=True)}
    raise ValueError
