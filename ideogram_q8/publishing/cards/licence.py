"""Whose licence a quantized build is under, and the texts that must travel with it. Pure.

A quantized build is a derivative of its source, so the source decides: the embedded model is this project's own (Apache-2.0),
Ideogram 4 is under the Ideogram Non-Commercial Model Agreement, and anything else is refused, since nothing is known of its
terms. Section 3 of that Agreement asks for terms no less restrictive, a copy of it, a text file "Notice" with a sentence it
dictates, a prominent notice of modification, its disclaimers, and nothing that implies endorsement. The sentence is taken from
the copy itself, so that it is the one that this copy asks for. This is not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.architecture import IDEOGRAM4_TRAITS

IDEOGRAM_REPO = "ideogram-ai/ideogram-4-fp8"
NOTICE_FILE = "Notice"


@dataclass(frozen=True)
class Licence:
    """A licence: `copy_file` is the name of its text in the repository, `front_matter` its keys on a card."""

    kind: Literal["apache-2.0", "ideogram"]
    title: str
    copy_file: str
    front_matter: Mapping[str, object]


APACHE = Licence("apache-2.0", "Apache License 2.0", "LICENSE", {"license": "apache-2.0"})
IDEOGRAM = Licence(
    "ideogram",
    "Ideogram Non-Commercial Model Agreement",
    "LICENSE.md",
    {
        "license": "other",
        "license_name": "ideogram-4-non-commercial",
        "license_link": "LICENSE.md",
        "extra_gated_heading": "These files are a derivative of Ideogram 4",
        "extra_gated_prompt": "Use is subject to the Ideogram Non-Commercial Model Agreement; its text is LICENSE.md in this repository.",
        "extra_gated_fields": {"I have read the Agreement and accept it": "checkbox"},
    },
)


def licence_of(manifest: Manifest) -> Licence:
    """The licence of a build.

    Raises:
        PublishError: the build's source is neither the pocket nor Ideogram 4.
    """
    if manifest.source.location == "pocket":
        return APACHE
    if manifest.traits == IDEOGRAM4_TRAITS:
        return IDEOGRAM
    raise PublishError(
        f"the build's source is {manifest.traits.name!r} ({manifest.source.location}), whose licence is not known here; "
        "only builds of `pocket` and of Ideogram 4 can be published"
    )


def source_name(manifest: Manifest) -> str:
    """How a release names its source: a Hub repository or `pocket`, never a folder of the machine that quantized it.

    A folder with Ideogram 4's dimensions counts as Ideogram's repository; the sha256 of its files, which the manifest keeps, say
    whether it is.
    """
    location = manifest.source.location
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", location) or location == "pocket":
        return location
    return IDEOGRAM_REPO if manifest.traits == IDEOGRAM4_TRAITS else manifest.traits.name


def modification_notice(variant: str, tool_version: str) -> str:
    """The sentence that says that and how the files were modified."""
    return (
        f"These files were modified: the transformers' weights were quantized to {variant} with Ideogram Q8 {tool_version}. "
        "They are not an official release and are not endorsed by Ideogram, Inc."
    )


def notice_text(agreement: str, modification: str) -> str:
    """The content of the file "Notice": the sentence that the Agreement dictates, then the notice of modification.

    Raises:
        PublishError: `agreement` is not the Agreement's text, since it dictates no such sentence.
    """
    found = re.search(r"Ideogram 4 is\s+provided under and subject to .{1,400}?Ideogram, Inc\.", agreement, re.DOTALL)
    if IDEOGRAM.title not in " ".join(agreement.split()) or found is None:
        raise PublishError(
            f"{IDEOGRAM.copy_file} is not the {IDEOGRAM.title}: it does not dictate the attribution notice of section 3; "
            f"copy LICENSE.md from https://huggingface.co/{IDEOGRAM_REPO}"
        )
    return f"{' '.join(found[0].split())}\n\n{modification}\n"
