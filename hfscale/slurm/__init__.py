"""Jobs on a Slurm cluster: the batch script, what is checked before it is submitted, what became of it."""
