"""How fast this machine restores: stages, whole pipeline, the machine's ceilings, and rivals, in one run."""
