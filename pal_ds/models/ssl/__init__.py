"""Parts of self-supervised learning: InfoNCE, key queue, momentum encoder, embedding quality."""
