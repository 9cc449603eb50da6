"""What all commands share: their help in two sizes, and completion of their options in a shell."""
