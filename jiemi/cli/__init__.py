"""The commands. The only room that reads flags and environment variables."""
