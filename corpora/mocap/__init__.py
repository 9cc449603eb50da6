"""pal-mocap: real motion capture, rendered into encoded video, with every label the method needs."""
