"""How large a document may be, however it is written."""

from __future__ import annotations

MAX_NODES = 200_000
"""The most scalars and collections in one file, aliases counted as what they stand for. A ConfigMap that fills
etcd's 1.5 MiB with short keys has about 50,000; reading so many takes the parser some 4 s."""

MAX_DEPTH = 100
"""The deepest nesting. A CustomResourceDefinition of a recursive-looking API reaches about 40."""

MAX_NUMBER_CHARACTERS = 400
"""The longest number: a double's largest value has 309 digits, and Python's own reading of digits is quadratic. A
longer one is refused in JSON, and text in YAML, as it is to yaml.v3."""
