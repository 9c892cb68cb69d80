"""What `reading_program` answers to `reading`."""

from __future__ import annotations

DOCUMENTS, ASK_SOPS, LOST, MAC_ONLY, FAILED = "documents", "ask sops", "lost", "mac only", "failed"
"""What the program answers, in the header: then the documents' lengths, whether, or reason and message."""

OUT_OF_MEMORY = 3
"""The program's exit status where it had not enough."""
