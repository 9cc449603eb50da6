"""Which clips come when: pure functions of manifest, seed and epoch; no I/O."""
