"""What a run tells while it trains: metrics, events, console, TensorBoard, Weights & Biases, Prometheus, webhook."""
