"""Pure decisions: no I/O, no trio, no clock (time is a parameter)."""
