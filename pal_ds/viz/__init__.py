"""Pictures for people: similarity matrices, film strips and the report of a run. Needs the extra ``viz``."""
