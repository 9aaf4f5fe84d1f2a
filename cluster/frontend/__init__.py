"""Front-end configurations, rendered from descriptors and a site's file."""
