"""From frozen features to localization: extraction, data sets, evaluators and downstream heads."""
