"""Where PAL helps: the paper's systems between floors and ceilings, with intervals (README.md)."""
