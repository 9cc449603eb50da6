"""Tars that other tools wrote: what is in them, and sets that point at them."""
