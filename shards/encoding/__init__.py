"""From a source to an encoded, verified clip."""
