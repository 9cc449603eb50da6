"""The demonstration: raw videos to a report, through every command of the project, on one small machine."""
