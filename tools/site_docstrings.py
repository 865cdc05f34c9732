"""Docstrings as the site shows them: examples (`>>> ...`) as code. mkdocs.yml names this file."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Lines that begin with >>>, and up to the next empty line what these print.
EXAMPLE = re.compile(r"(?:^>>> .*\n?(?:^(?!>>> ).+\n?)*)+", re.MULTILINE)


class Examples(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(
                lambda match: f"```python\n{match[0].rstrip()}\n```\n", obj.docstring.value
            )
