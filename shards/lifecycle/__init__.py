"""How a finished set grows and shrinks: append, remove, compact."""
