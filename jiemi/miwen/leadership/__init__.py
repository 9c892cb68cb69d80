"""Which of several Miwens is the active one."""
