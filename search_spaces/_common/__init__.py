"""Infrastructure that all packages use: errors, files, names, references, URLs, YAML, confusion matrix, palette."""
