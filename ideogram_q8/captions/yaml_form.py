"""A caption written as YAML: mappings, lists and strings of it, nothing that YAML guesses, and no comment unseen.

Every scalar stays the text that was written: YAML 1.1 would make `text: NO` false and `text: 12:30` the number 750. Tags, aliases (a
few lines of which expand without bound) and repeated keys are refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ideogram_q8.captions.keys import compact
from ideogram_q8.errors import CaptionError

_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,18})?")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{3,8}\b")


def load(text: str) -> tuple[object, list[str]]:
    """The value, and the comments that stood in the text.

    Raises:
        CaptionError: the text is not YAML of that kind, or a colour without quotes is read as a comment.
    """
    try:
        loader = _Loader(text)
        value = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" at line {error.problem_mark.line + 1}"
        raise CaptionError(f"caption is not valid YAML{line}: {error.problem}; correct it, or write it as JSON") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise CaptionError(f"caption is not valid YAML: {' '.join(str(error).split())[:200]}; write it as JSON") from None
    for comment in loader.comments:
        if _COLOUR.match(comment):
            raise CaptionError(f"caption has {comment[:40]!r}, which YAML takes for a comment; put colours in quotes")
    return _with_boxes(value), loader.comments


def _with_boxes(value: Any) -> Any:
    """The value with numbers in its boxes, the only place where captions have any. As deep as YAML's own recursion."""
    if isinstance(value, list):
        return [_with_boxes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _box(item) if compact(key) in ("bbox", "box") else _with_boxes(item) for key, item in value.items()}


def _box(value: Any) -> Any:
    is_numbers = isinstance(value, list) and all(isinstance(side, str) and _NUMBER.fullmatch(side) for side in value)
    return [float(side) if "." in side else int(side) for side in value] if is_numbers else value


class _Loader(yaml.BaseLoader):
    """Keeps comments, refuses what is not plain data. The base class makes strings of all scalars."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text, self.comments = text, list[str]()

    def scan_to_next_token(self) -> None:
        start = self.index
        super().scan_to_next_token()
        self._keep_comments(start)

    def scan_block_scalar_ignored_line(self, start_mark: object) -> None:
        start = self.index
        super().scan_block_scalar_ignored_line(start_mark)
        self._keep_comments(start)

    def _keep_comments(self, start: int) -> None:
        lines = self.text[start : self.index].splitlines()
        self.comments += [line.strip() for line in lines if line.strip().startswith("#")]

    def compose_node(self, parent: object, index: object) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "an alias or a tag, which captions have not", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key twice, or one that is no text", node.start_mark)
        return super().construct_mapping(node, deep)
