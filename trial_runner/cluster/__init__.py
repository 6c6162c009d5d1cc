"""Launches as jobs of a batch system, Slurm or PBS: script, submission, the job itself, its status and its end.

Written by hand, because no library covers it: submitit pickles functions into single Slurm jobs and knows no PBS, dask-jobqueue starts
Dask's workers only, PSI/J submits portably but starts nothing on the nodes, and ``ray symmetric-run`` and Ray's own recipes signal every
Ray process of the user on a node, other studies' included. What is needed is small: a script, five commands of the batch system, and a
program that starts Ray on the nodes with ports, token and folder of its own. The shape (one interface, a local and several remote
implementations) is submitit's.
"""
