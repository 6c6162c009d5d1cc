"""Random faults in launches of small studies, and what must hold in their databases and files afterwards."""
