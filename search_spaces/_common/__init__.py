"""Infrastructure of all packages: errors, files, names, URLs, YAML."""
