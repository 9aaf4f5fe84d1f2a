"""The built-in web server: mirrored files, directory pages, the cluster page, JSON."""
