"""The commands: arguments, exit statuses and what is printed."""
