"""Worker processes: the pool, what runs inside one, and the shared memory between them."""
