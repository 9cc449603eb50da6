"""From poses to pixels: bodies, cameras, scenes."""
