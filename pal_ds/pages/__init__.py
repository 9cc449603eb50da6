"""What all HTML pages of the project share."""
