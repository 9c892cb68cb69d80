"""What `reading_program` answers to `reading`."""

from __future__ import annotations

DOCUMENTS, ASK_SOPS, LOST, FAILED = "documents", "ask sops", "lost", "failed"
"""What the program answers, in the header: then the documents' lengths, whether, or reason and message."""

OUT_OF_MEMORY = 3
"""The program's exit status where it got no more."""
