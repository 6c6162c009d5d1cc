"""One trial's work on a worker: train, prune, fine-tune, evaluate; checkpointed after every epoch."""
