"""File names in a calibration's folder."""

MODEL_FILE = "latency_model.json"
STORE_FILE = "measurements.sqlite"
REPORT_FILE = "latency_report.html"
