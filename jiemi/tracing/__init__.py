"""What a task works for: the trace that its log lines name, and spans where traces are collected."""
