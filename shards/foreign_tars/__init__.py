"""Tars that other tools wrote: where they lie, what is in them, which of it is video."""
