"""From a trained head to the actions of new videos: the exported model, and its results as data and pages."""
