"""Is this machine, with these places, fit for a run?"""
