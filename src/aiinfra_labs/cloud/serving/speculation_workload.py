"""Prompts on which speculation does well, and on which it does not. Unit 4.4.

Shared by the page and by benchmarks/speculation.py, so that both speak of the same texts.
"""

from __future__ import annotations

# One method like the other, with names put in: the model goes on as the prompt does.
PATTERN = """class {name}:
    def {a}(self):
        return self._{a}

    def {b}(self):
        return self._{b}

    def {c}(self):
        return self._"""
NAMES = (
    ("Node", "left", "right", "parent"),
    ("Point", "x", "y", "z"),
    ("File", "name", "mode", "size"),
    ("Request", "method", "url", "headers"),
    ("Thread", "name", "target", "daemon"),
    ("Socket", "host", "port", "timeout"),
    ("Token", "type", "value", "line"),
    ("Error", "code", "message", "args"),
)
NEW = (
    "def read_config(path, encoding=None):\n    ",
    "import os\nimport sys\n\nclass Walker:\n    def __init__(self, root):\n        ",
    'def parse_header(line):\n    """Split a header into its name and value.',
    "    try:\n        sock = socket.create_connection(address)\n    except ",
    "The for statement is used to iterate over the elements of ",
    "class Queue:\n    def __init__(self, maxsize=0):\n        self.maxsize = maxsize\n",
    "def main(args=None):\n    parser = argparse.ArgumentParser(",
    "An exception is raised when ",
)


def repeating(count: int = len(NAMES)) -> list[str]:
    """Code that repeats itself: `count` prompts, no two of them alike."""
    return [
        PATTERN.format(name=name + (str(i // len(NAMES)) if i >= len(NAMES) else ""), a=a, b=b, c=c)
        for i in range(count)
        for name, a, b, c in [NAMES[i % len(NAMES)]]
    ]


def new(count: int = len(NEW)) -> list[str]:
    """Beginnings that say little of what follows."""
    return [
        (f"# {i // len(NEW)}\n" if i >= len(NEW) else "") + NEW[i % len(NEW)] for i in range(count)
    ]
