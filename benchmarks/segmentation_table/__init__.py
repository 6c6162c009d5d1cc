"""Table of real trainings on CamVid, and a simulator that replays searches on it."""
