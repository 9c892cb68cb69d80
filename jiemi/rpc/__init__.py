"""The contract between Miwen and Krapao, and its Cap'n Proto form."""
