"""What a run will do and cost, before it does: plan, dry run, forecasts, data sheets."""
