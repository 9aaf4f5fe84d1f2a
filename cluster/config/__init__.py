"""What operators write, descriptors and site files, read into `cluster.model`."""
