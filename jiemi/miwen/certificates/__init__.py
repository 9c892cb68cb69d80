"""The certificates by which Miwen and Krapao know each other: made, kept and renewed by Miwen itself."""
