"""A first study for a folder of images and labels."""
