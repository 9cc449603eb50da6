"""One command that proves on a GPU what the rest of the project shows on a CPU; see README.md here."""
