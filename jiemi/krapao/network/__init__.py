"""Which addresses Krapao may connect to, and how it connects."""
