"""Put the generated tables into README.md: `just docs`. A test compares them, so a stale README fails the build."""

from pathlib import Path

from jiemi.core.reference import with_tables

if __name__ == "__main__":
    readme = Path(__file__).parents[1] / "README.md"
    readme.write_text(with_tables(readme.read_text()))
