"""The field's evaluators: detection mAP, proposal recall, grounding, classification; numpy only, no torch."""
