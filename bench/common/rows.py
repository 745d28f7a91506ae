"""Rows of results, one JSON object a line, and tables in Markdown of them."""

import json
from pathlib import Path


def read(paths):
    """The rows of files, later ones last."""
    return [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]


def in_order(values):
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))


def line(cells):
    return "| " + " | ".join(cells) + " |\n"


def head(cells):
    return line(cells) + "|---" * len(cells) + "|\n"
