"""What a build is given: folders, prefixes and CSVs as rows of a database."""
